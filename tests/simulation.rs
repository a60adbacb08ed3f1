//! The whole daemon on a simulated runtime, in one thread and in paused time, everything decided by one seed.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `plan`, `sketch` | from a seed to all that is going to happen: plain data |
//! | `stage` | where it is played: the runtime, the plegd, what the plan's numbers mean |
//! | `play` | from beginning to end, with a look at everything every 250 ms |
//! | `lives`, `oracle`, `fresh` | what was told against what is true, against what was said; newer than T against the truth from T on |
//! | `trace`, `shrink` | what happened in lines that can be read; the smallest plan that fails |
//! | `node`, `subscriber`, `checker` … | subscribers with bad habits, shared with `tests/promises.rs` |
//!
//! What is held, all along and in the end:
//!
//! 1. The cache never moves a container backward, but for a counted correction where the runtime itself had it wrong, and never
//!    brings back an id that was removed.
//! 2. One relist after faults have ended the cache is the truth, field by field.
//! 3. All that arrived at plegd for certain is told, once and in order, to every subscriber; nothing is told that is not true.
//! 4. What the stream lost is told where a relist found it, and counted as a miss: not more and not less.
//! 5. `newer than T` never returns what was so before T only.
//! 6. A runtime at rest is called no more than the mode's period allows; its calls never wait for plegd to take events.
//! 7. Mode, health and readiness say what is so.
//!
//! | command | what it does |
//! | --- | --- |
//! | `cargo test --test simulation` | two thousand seeds |
//! | `SIMULATION_SEEDS=20000 cargo test --test simulation some -- --nocapture` | so many seeds, from `SIMULATION_FROM` on |
//! | `SIMULATION_GOES_ON=1` with it | all seeds that fail, each with its first complaint |
//! | `SIMULATION_SEED=7 cargo test --test simulation one -- --nocapture` | one seed alone, with all that happened |
//! | `cargo test --test teeth -- --ignored --nocapture` | deliberate bugs, and which seed catches each |

#![allow(missing_docs, unreachable_pub, reason = "nobody else uses it")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "what is shared with others is not all used here")]

#[path = "promises/checker.rs"]
mod checker;
#[path = "simulation/claims.rs"]
mod claims;
#[path = "simulation/contradictions.rs"]
mod contradictions;
#[path = "simulation/facts.rs"]
mod facts;
#[path = "simulation/filters.rs"]
mod filters;
#[path = "simulation/fresh.rs"]
mod fresh;
#[path = "simulation/late.rs"]
mod late;
#[path = "simulation/lives.rs"]
mod lives;
#[path = "promises/node.rs"]
mod node;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/play.rs"]
mod play;
#[path = "promises/record.rs"]
mod record;
#[path = "simulation/sequences.rs"]
mod sequences;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "simulation/sketch.rs"]
mod sketch;
#[path = "simulation/stage.rs"]
mod stage;
#[path = "promises/state.rs"]
mod state;
#[path = "promises/subscriber.rs"]
mod subscriber;
mod support;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/troubles.rs"]
mod troubles;
#[path = "simulation/waits.rs"]
mod waits;
#[path = "promises/walk.rs"]
mod walk;
#[path = "simulation/witness.rs"]
mod witness;
#[path = "simulation/world.rs"]
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use plan::Plan;
use play::{Outcome, Tally, played};

/// Complaints that a report has room for.
const MOST_FOUND: usize = 12;

/// What a failing seed has to say.
fn report(plan: &Plan, outcome: &Outcome) -> String {
    if std::env::var_os("SIMULATION_BRIEF").is_some() {
        return format!("seed {} is not as it must be:\n{}", plan.seed, first_of(&outcome.found));
    }
    let smallest = shrink::shrunk(plan, 400);
    let again = played(&smallest);
    format!(
        "seed {} is not as it must be:\n{}\n\ncut down to {} of {} acts on {} ({:?}, {:?}, {:?}):\n{}\n{}\n\nplay it again: \
         SIMULATION_SEED={} cargo test --test simulation one -- --nocapture",
        plan.seed,
        first_of(&outcome.found),
        smallest.acts.len(),
        plan.acts.len(),
        plan.profile.name,
        plan.max_period,
        plan.request_timeout,
        smallest.world,
        first_of(&again.found),
        again.trace,
        plan.seed,
    )
}

/// What is wrong is wrong at every look from then on.
fn first_of(found: &[String]) -> String {
    let more = found.len().saturating_sub(MOST_FOUND);
    let first = found.iter().take(MOST_FOUND).map(String::as_str).collect::<Vec<_>>().join("\n");
    if more > 0 { format!("{first}\nand {more} more") } else { first }
}

/// Plays these seeds, on every core, and fails at the first that is not as it must be.
#[allow(clippy::disallowed_methods, reason = "it says how long it takes, and nothing hangs on it")]
fn play_seeds(from: u64, to: u64) -> Tally {
    let (next, began) = (AtomicU64::new(from), Instant::now());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (failed, goes_on) = (AtomicU64::new(u64::MAX), std::env::var_os("SIMULATION_GOES_ON").is_some());
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut sum = Tally::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= to || (failed.load(Ordering::Relaxed) != u64::MAX && !goes_on) {
                            return sum;
                        }
                        let played = std::panic::catch_unwind(|| played(&Plan::of_seed(seed)));
                        let outcome = played.unwrap_or_else(|_| panic!("seed {seed} panicked"));
                        if let Some(first) = outcome.found.first() {
                            failed.fetch_min(seed, Ordering::Relaxed);
                            if goes_on {
                                println!("seed {seed}: {first} (and {} more)", outcome.found.len() - 1);
                            }
                        }
                        sum.add(&outcome.tally);
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
        panic!("{}", report(&plan, &played(&plan)));
    }
    let mut sum = Tally::default();
    tallies.iter().for_each(|tally| sum.add(tally));
    println!("{} seeds in {:.1?}: {sum:?}", to - from, began.elapsed());
    sum
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn some_seeds_are_as_they_must_be() {
    let from = asked("SIMULATION_FROM").unwrap_or(1);
    play_seeds(from, from + asked("SIMULATION_SEEDS").unwrap_or(2000));
}

#[test]
fn one_seed_is_played_alone() {
    let seed = asked("SIMULATION_SEED").unwrap_or(1);
    let plan = Plan::of_seed(seed);
    let outcome = played(&plan);
    println!("{plan:#?}\n{}\n{:?}", outcome.trace, outcome.tally);
    assert!(outcome.found.is_empty(), "{}", report(&plan, &outcome));
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for seed in 1..=20 {
        let plan = Plan::of_seed(seed);
        let [first, second] = [(); 2].map(|()| played(&plan).trace.to_string());
        let differing = first.lines().zip(second.lines()).find(|(first, second)| first != second);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(first.lines().count(), second.lines().count(), "seed {seed}");
    }
}
