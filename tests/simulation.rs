//! Runs the whole daemon on a simulated runtime, in one thread and in paused time. One seed decides everything.
//!
//! | module | content |
//! | --- | --- |
//! | `plan`, `faults`, `expected` | the plan of a seed: actions and faults, as plain data |
//! | `sequences` | sequences of actions for rules that random actions rarely reach |
//! | `driver`, `environment` | applies actions to the runtime and plegd; the properties of the node |
//! | `run` | runs a plan and checks the invariants every 250 ms |
//! | `histories`, `facts`, `claims` | compare published events with the truth |
//! | `oracle`, `witness` | compare published events with the responses and events of the runtime |
//! | `fresh` | compares newer-than-T reads with the truth from T on |
//! | `restarts` | what happened while plegd was down: published once, marked as late, and honest about what may be missing |
//! | `late`, `waits`, `filters` | events that are published late; `WaitFor` and filters, evaluated independently |
//! | `trace`, `shrink` | a readable trace; the smallest plan that fails |
//! | `node`, `subscriber`, `checker` … | subscribers that pause and disconnect, shared with `tests/promises.rs` |
//!
//! Invariants, checked during the run and at its end:
//!
//! 1. The cache never moves a container backward, except for a counted correction where the runtime was wrong, and never brings
//!    back a removed id.
//! 2. One relist after the last fault, the cache equals the truth, field by field.
//! 3. Everything that certainly arrived at plegd is published, once and in order, to every subscriber; nothing untrue is published.
//! 4. A change that the stream lost is published when a relist finds it, and counted as one missed event.
//! 5. A newer-than-T read never returns a state from before T.
//! 6. An idle runtime is called no more often than the mode's period allows; its calls never wait until plegd takes events.
//! 7. Mode, health and readiness are correct.
//! 8. A change that an event or a list shows is published within the bound of [`late`] if no fault delays plegd. A relist runs
//!    within its period, when the stream is up, and after its backlog.
//! 9. No id is published as changed more often than it changed, unless the runtime contradicts itself.
//! 10. `WaitFor` returns once its condition was true, and only then.
//! 11. A restarted plegd continues its epoch, unless its state is lost: its journal has what was published, nothing is published twice,
//!     and what happened meanwhile is marked as late. If it says that nothing is missing, nothing is.
//!
//! | command | what runs |
//! | --- | --- |
//! | `cargo test --test simulation` | 2,000 seeds |
//! | `SIMULATION_SEEDS=20000 cargo test --test simulation some -- --nocapture` | 20,000 seeds, from `SIMULATION_FROM` on |
//! | the same with `SIMULATION_KEEP_GOING=1` | lists all failing seeds, each with its first violation |
//! | `SIMULATION_SEED=7 cargo test --test simulation one -- --nocapture` | one seed, with its trace |
//! | `cargo test --test mutations -- --ignored --nocapture` | deliberate bugs, and the seed that detects each |

#![allow(missing_docs, unreachable_pub, reason = "used by these tests only")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "shared modules are used in part")]

#[path = "promises/checker.rs"]
mod checker;
#[path = "simulation/claims.rs"]
mod claims;
#[path = "simulation/contradictions.rs"]
mod contradictions;
#[path = "simulation/driver.rs"]
mod driver;
#[path = "simulation/environment.rs"]
mod environment;
#[path = "simulation/expected.rs"]
mod expected;
#[path = "simulation/facts.rs"]
mod facts;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/filters.rs"]
mod filters;
#[path = "simulation/fresh.rs"]
mod fresh;
#[path = "simulation/histories.rs"]
mod histories;
#[path = "simulation/late.rs"]
mod late;
#[path = "promises/node.rs"]
mod node;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "promises/record.rs"]
mod record;
#[path = "simulation/restarts.rs"]
mod restarts;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/sequences.rs"]
mod sequences;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "promises/state.rs"]
mod state;
#[path = "promises/subscriber.rs"]
mod subscriber;
mod support;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/waits.rs"]
mod waits;
#[path = "promises/walk.rs"]
mod walk;
#[path = "simulation/witness.rs"]
mod witness;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use plan::Plan;
use run::{Outcome, Totals, run_plan};

/// The most violations that a report lists.
const MOST_FOUND: usize = 12;

/// The report of a failing seed.
fn report(plan: &Plan, outcome: &Outcome) -> String {
    if std::env::var_os("SIMULATION_BRIEF").is_some() {
        return format!("seed {} violates invariants:\n{}", plan.seed, first_of(&outcome.found));
    }
    let smallest = shrink::reduced(plan, 400);
    let again = run_plan(&smallest);
    format!(
        "seed {} violates invariants:\n{}\n\nreduced to {} of {} actions on {} ({:?}, {:?}, {:?}):\n{}\n{}\n\nrun it again: \
         SIMULATION_SEED={} cargo test --test simulation one -- --nocapture",
        plan.seed,
        first_of(&outcome.found),
        smallest.actions.len(),
        plan.actions.len(),
        plan.profile.name,
        plan.max_period,
        plan.request_timeout,
        smallest.environment,
        first_of(&again.found),
        again.trace,
        plan.seed,
    )
}

/// The first violations. A wrong state is reported at every later check again.
fn first_of(found: &[String]) -> String {
    let more = found.len().saturating_sub(MOST_FOUND);
    let first = found.iter().take(MOST_FOUND).map(String::as_str).collect::<Vec<_>>().join("\n");
    if more > 0 { format!("{first}\nand {more} more") } else { first }
}

/// Runs these seeds on every core, and fails at the first violation.
#[allow(clippy::disallowed_methods, reason = "prints the duration; no result depends on it")]
fn run_seeds(from: u64, to: u64) -> Totals {
    let (next, began) = (AtomicU64::new(from), Instant::now());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (failed, keep_going) =
        (AtomicU64::new(u64::MAX), std::env::var_os("SIMULATION_KEEP_GOING").is_some());
    let all_totals: Vec<Totals> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut sum = Totals::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= to || (failed.load(Ordering::Relaxed) != u64::MAX && !keep_going) {
                            return sum;
                        }
                        let caught = std::panic::catch_unwind(|| run_plan(&Plan::of_seed(seed)));
                        let outcome = caught.unwrap_or_else(|_| panic!("seed {seed} panicked"));
                        if let Some(first) = outcome.found.first() {
                            failed.fetch_min(seed, Ordering::Relaxed);
                            if keep_going {
                                println!("seed {seed}: {first} (and {} more)", outcome.found.len() - 1);
                            }
                        }
                        sum.add(&outcome.totals);
                        let done = seed - from + 1;
                        if done.is_multiple_of(1000) {
                            println!("{done} of {} seeds, {:.0?}", to - from, began.elapsed());
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).collect()
    });
    let failed = failed.into_inner();
    if failed != u64::MAX {
        let plan = Plan::of_seed(failed);
        panic!("{}", report(&plan, &run_plan(&plan)));
    }
    let mut sum = Totals::default();
    all_totals.iter().for_each(|totals| sum.add(totals));
    println!("{} seeds in {:.1?}: {sum:?}", to - from, began.elapsed());
    sum
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn some_seeds_keep_all_invariants() {
    let from = number_from_env("SIMULATION_FROM").unwrap_or(1);
    run_seeds(from, from + number_from_env("SIMULATION_SEEDS").unwrap_or(2000));
}

#[test]
fn one_seed_keeps_all_invariants() {
    let seed = number_from_env("SIMULATION_SEED").unwrap_or(1);
    let plan = Plan::of_seed(seed);
    let outcome = run_plan(&plan);
    println!("{plan:#?}\n{}\n{:?}", outcome.trace, outcome.totals);
    assert!(outcome.found.is_empty(), "{}", report(&plan, &outcome));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=20 {
        let plan = Plan::of_seed(seed);
        let [first, second] = [(); 2].map(|()| run_plan(&plan).trace.to_string());
        let differing = first.lines().zip(second.lines()).find(|(first, second)| first != second);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(first.lines().count(), second.lines().count(), "seed {seed}");
    }
}
