//! Checks the guarantees of a watch (`src/watch.rs`) for many subscribers that pause, disconnect and resume at random.
//!
//! | module | content |
//! | --- | --- |
//! | `record` | recordings: the journal of each run, and the messages that a subscriber received |
//! | `checker`, `walk` | pure functions from recordings to violated guarantees |
//! | `state` | compares the final state of a subscriber with the truth of the runtime |
//! | `node` | a simulated runtime, and one plegd after another on it, served within the process |
//! | `subscriber`, `remote` | subscribers: within the process, by raw messages, by `plegd::client::Watch` |
//! | `run` | one seed: churn, faults, restarts, disconnects |
//! | `mutations` | falsified recordings, which the checker must reject |
//!
//! # Mutations
//!
//! | change of a good recording | rejected as |
//! | --- | --- |
//! | an event is missing: before another, before a bookmark, first after a resume | Reliable, Bookmarkable, Resumable |
//! | two events change places | Ordered |
//! | an event comes twice: at once, on the next connection | Unique |
//! | a bookmark is ahead of the delivered events; the last bookmark is missing; the last events are missing | Bookmarkable, Reliable |
//! | a pod of a snapshot is missing, outdated, removed before or counted wrong | SnapshotExact |
//! | an event that the snapshot contains is delivered | SnapshotExact |
//! | an event or a pod of a snapshot does not match the filter | Filtered |
//! | an event has an older pod status, or none | StatusExact |
//! | a gap is missing, alone or with its snapshot; begins too early; is needless; has another reason | GapsMarked |
//! | a snapshot position, a hello or a journal splits a change | Atomic |
//! | the content of an event differs | Faithful |
//! | the number of skipped events is wrong | Reliable |
//! | a mode change is missing; hello comes twice, or late | Framed |
//! | the last event of a pod is missing | difference from the truth |
//!
//! `PROMISES_SEED=7 cargo test --test promises` runs that seed only.

#![allow(missing_docs, unreachable_pub, reason = "used by these tests only")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "promises/checker.rs"]
mod checker;
#[path = "promises/mutations.rs"]
mod mutations;
#[path = "promises/node.rs"]
mod node;
#[path = "promises/record.rs"]
mod record;
#[path = "promises/remote.rs"]
mod remote;
#[path = "promises/run.rs"]
mod run;
#[path = "promises/state.rs"]
mod state;
#[path = "promises/subscriber.rs"]
mod subscriber;
mod support;
#[path = "promises/walk.rs"]
mod walk;

use std::{
    collections::BTreeMap,
    iter::{repeat, zip},
    ops::Range,
};

use record::Item;
use run::{Outcome, Subscribers, run};

/// Runs a seed in paused time.
fn outcome_of(seed: u64, subscribers: Subscribers) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(run(seed, subscribers))
}

/// Runs seeds, and fails at the first violation. Fails too if the seeds together contain no restart, gap or skipped event.
fn check_all(seeds: Range<u64>, subscribers: Subscribers) {
    let chosen = std::env::var("PROMISES_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(seeds, |seed| seed..seed + 1);
    let mut counts = [0; 4];
    for seed in seeds.clone() {
        let Outcome { runs, recordings, found, .. } = outcome_of(seed, subscribers);
        assert!(found.is_empty(), "seed {seed}, {subscribers:?}:\n{}", found.join("\n"));
        let items = || recordings.iter().flat_map(record::Recording::items);
        counts[0] += runs.len() - 1;
        counts[1] += recordings.iter().map(|recording| recording.connections.len()).sum::<usize>();
        counts[2] += items().filter(|item| matches!(item, Item::Gap(_))).count();
        counts[3] +=
            items().filter(|item| matches!(item, Item::Event { skipped, .. } if *skipped > 0)).count();
        assert!(
            recordings.iter().all(|recording| recording.drained),
            "seed {seed}: a subscriber was not drained"
        );
    }
    println!(
        "{seeds:?}, {subscribers:?}: [restarts, connections, gaps, events after skipped ones] {counts:?}"
    );
    assert!(chosen.is_some() || counts.iter().all(|count| *count > 0), "{counts:?}");
}

const EMBEDDED: Subscribers = Subscribers { embedded: 12, raw: 0, client: 0, steps: 500 };
const REMOTE: Subscribers = Subscribers { embedded: 0, raw: 6, client: 6, steps: 500 };

#[test]
fn watches_within_the_process_keep_all_guarantees() {
    check_all(1..11, EMBEDDED);
}

#[test]
fn watches_over_grpc_keep_all_guarantees() {
    check_all(1001..1009, REMOTE);
}

#[test]
fn the_checker_rejects_each_mutation_of_a_good_recording() {
    let subscribers = Subscribers { embedded: 24, raw: 0, client: 0, steps: 600 };
    let mut rejected: BTreeMap<&str, usize> = BTreeMap::new();
    let mut incomplete = 0;
    for seed in [3, 7] {
        let Outcome { runs, recordings, sim, found } = outcome_of(seed, subscribers);
        assert!(found.is_empty(), "seed {seed}: {}", found.join("\n"));
        for (recording, (name, guarantees, tamper)) in
            recordings.iter().flat_map(|it| zip(repeat(it), mutations::MUTATIONS))
        {
            let (mut tampered, mut runs) = (recording.clone(), runs.clone());
            if !tamper(&mut tampered, &mut runs) {
                continue;
            }
            let mut found = checker::check(&runs, &tampered);
            found.extend(runs.iter().flat_map(checker::check_run));
            assert!(
                found.iter().any(|violation| guarantees.contains(&violation.guarantee)),
                "seed {seed}: {name}: not rejected as {guarantees:?}: {found:#?}\n{}",
                tampered.trace().join("\n")
            );
            *rejected.entry(name).or_default() += 1;
        }
        let tampered = recordings.iter().filter_map(mutations::without_last_event);
        incomplete += tampered.filter(|it| !state::differences(it, &sim).is_empty()).count();
    }
    println!("{rejected:#?} {incomplete}");
    let untried = mutations::MUTATIONS.iter().filter(|(name, ..)| !rejected.contains_key(name));
    assert_eq!(
        untried.map(|(name, ..)| name).collect::<Vec<_>>(),
        [&""; 0],
        "these mutations apply to no recording"
    );
    assert!(incomplete > 0);
}
