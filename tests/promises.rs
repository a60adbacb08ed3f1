//! The promises of a watch (see `src/watch.rs`), held against what many subscribers with bad habits received.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `record` | the journals as they were, and what one subscriber received |
//! | `checker`, `walk` | from both to a list of promises that were not kept: pure functions |
//! | `state` | what a subscriber knows in the end, against the truth of the runtime |
//! | `node` | a simulated runtime, one plegd after another on it, served within the process |
//! | `subscriber`, `remote` | who watches: within the process, message by message, by `plegd::client::Watch` |
//! | `story` | a seed: churn, faults, restarts, disconnects |
//! | `teeth` | recordings that were tampered with, and whether the checker objects |
//!
//! # Teeth
//!
//! | done to a good recording | objected to as |
//! | --- | --- |
//! | an event is left out: before another, before a bookmark, first after a resume | Reliable, Bookmarkable, Resumable |
//! | two events change places | Ordered |
//! | an event comes twice: at once, on the next connection | Unique |
//! | a bookmark is ahead of what was told; the last one is missing; it hears nothing of the end | Bookmarkable |
//! | a pod is not in the snapshot, is as it was before, is gone, has been counted wrong | SnapshotExact |
//! | an event comes that the snapshot contains | SnapshotExact |
//! | an event, or a pod of a snapshot, that the filter does not let through | Filtered |
//! | an event comes with the pod of before, or without | StatusExact |
//! | a gap is hidden, alone or with its snapshot; begins too early; was not needed; has another reason | GapsMarked |
//! | a position, a hello, a journal stand within a change | Atomic |
//! | an event says something else | Faithful |
//! | the number of events that were left out for a newer one is wrong | Reliable |
//! | a mode change is hidden; hello comes twice, or late | Framed |
//! | the last event of a pod is forgotten | the truth differs |
//!
//! `PROMISES_SEED=7 cargo test --test promises` plays one seed alone.

#![allow(missing_docs, unreachable_pub, reason = "nobody else uses it")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "promises/checker.rs"]
mod checker;
#[path = "promises/node.rs"]
mod node;
#[path = "promises/record.rs"]
mod record;
#[path = "promises/remote.rs"]
mod remote;
#[path = "promises/state.rs"]
mod state;
#[path = "promises/story.rs"]
mod story;
#[path = "promises/subscriber.rs"]
mod subscriber;
mod support;
#[path = "promises/teeth.rs"]
mod teeth;
#[path = "promises/walk.rs"]
mod walk;

use std::{
    collections::BTreeMap,
    iter::{repeat, zip},
    ops::Range,
};

use record::Item;
use story::{Cast, Outcome, play};

/// Plays a seed in paused time.
fn played(seed: u64, cast: Cast) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(play(seed, cast))
}

/// Plays seeds, and fails at the first that was not as promised. What is not met with in all of them is not tested.
fn keep_all_promises(seeds: Range<u64>, cast: Cast) {
    let chosen = std::env::var("PROMISES_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(seeds, |seed| seed..seed + 1);
    let mut met = [0; 4];
    for seed in seeds.clone() {
        let Outcome { runs, recordings, found, .. } = played(seed, cast);
        assert!(found.is_empty(), "seed {seed}, {cast:?}:\n{}", found.join("\n"));
        let items = || recordings.iter().flat_map(record::Recording::items);
        met[0] += runs.len() - 1;
        met[1] += recordings.iter().map(|recording| recording.connections.len()).sum::<usize>();
        met[2] += items().filter(|item| matches!(item, Item::Gap(_))).count();
        met[3] += items().filter(|item| matches!(item, Item::Event { skipped, .. } if *skipped > 0)).count();
        assert!(recordings.iter().all(|recording| recording.drained), "seed {seed}: one was not drained");
    }
    println!("{seeds:?}, {cast:?}: [restarts, connections, gaps, events after skipped ones] {met:?}");
    assert!(chosen.is_some() || met.iter().all(|met| *met > 0), "{met:?}");
}

const EMBEDDED: Cast = Cast { embedded: 12, raw: 0, carried: 0, steps: 500 };
const REMOTE: Cast = Cast { embedded: 0, raw: 6, carried: 6, steps: 500 };

#[test]
fn watches_within_the_process_keep_all_promises() {
    keep_all_promises(1..11, EMBEDDED);
}

#[test]
fn watches_over_grpc_keep_all_promises() {
    keep_all_promises(1001..1009, REMOTE);
}

#[test]
fn the_checker_objects_to_whatever_is_done_to_a_good_recording() {
    let cast = Cast { embedded: 24, raw: 0, carried: 0, steps: 600 };
    let mut bitten: BTreeMap<&str, usize> = BTreeMap::new();
    let mut forgetful = 0;
    for seed in [3, 7] {
        let Outcome { runs, recordings, sim, found } = played(seed, cast);
        assert!(found.is_empty(), "seed {seed}: {}", found.join("\n"));
        for (recording, (name, promises, tamper)) in
            recordings.iter().flat_map(|it| zip(repeat(it), teeth::TEETH))
        {
            let (mut tampered, mut runs) = (recording.clone(), runs.clone());
            if !tamper(&mut tampered, &mut runs) {
                continue;
            }
            let mut found = checker::check(&runs, &tampered);
            found.extend(runs.iter().flat_map(checker::check_run));
            assert!(
                found.iter().any(|violation| promises.contains(&violation.promise)),
                "seed {seed}: {name}, as {promises:?}: {found:#?}\n{}",
                tampered.trace().join("\n")
            );
            *bitten.entry(name).or_default() += 1;
        }
        let tampered = recordings.iter().filter_map(teeth::without_the_last_word);
        forgetful += tampered.filter(|it| !state::differences(it, &sim).is_empty()).count();
    }
    println!("{bitten:#?} {forgetful}");
    let untried = teeth::TEETH.iter().filter(|(name, ..)| !bitten.contains_key(name));
    assert_eq!(untried.map(|(name, ..)| name).collect::<Vec<_>>(), [&""; 0], "could be done to none");
    assert!(forgetful > 0);
}
