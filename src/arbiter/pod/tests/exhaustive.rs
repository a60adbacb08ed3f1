//! Exhaustive tests: all interleavings of small scripts.
//!
//! A *play* is the true history of a pod, moment by moment. In each moment any observation may arrive that a source could send then: an
//! event of any earlier change, once or repeatedly, with the pod at any moment before its timestamp, and with a timestamp that is right,
//! late or missing; a read or a list that began in any moment, with the pod at any moment since; or none. All sequences of such acts are
//! tried, up to a number of observations. After each the play ends: requested reads are done, and one list. A *witness* that knows the
//! truth checks after every act:
//!
//! - no phase goes back without a correction by two consecutive later reads, and no removed id comes back;
//! - each transition is published once and in order, a death before its removal, and the records match the published phases;
//! - only true changes are published that an observation shows or a time proves, and only true statuses are served;
//! - each observed change is published, or a read is requested that decides; a death has its exit code if a view has shown it;
//! - in the end the truth is served, field by field, after the requested reads and one list; two more reads publish nothing; and no read
//!   is requested any more.
//!
//! The witness detected rules that were broken by hand: a stale view applied (1), a tombstone ignored or lifted by a read that began
//! before it (2), a read that is ahead not applied (3), a step back by an event and a correction by one read (5), a removal by a read
//! that only ended after the record's upper end (6).
//!
//! [`search`] documents which sequences are cut and why no case is lost. A failure prints all observations and published events, and the
//! command that runs the case alone. To try more observations:
//!
//! ```text
//! PLEGD_DEEPER=1 CARGO_PROFILE_TEST_OPT_LEVEL=2 cargo test --lib exhaustive -- --nocapture
//! ```

mod act;
mod play;
mod search;
mod witness;
mod world;

use self::{
    act::Act,
    play::Happens::{self, *},
    search::Search,
};
use crate::model::ContainerState;

/// The usual lifecycle of a container.
const LIFECYCLE: &[Happens] = &[Ready("s"), Created("a", "s"), Started("a"), Exited("a", 3), Removed("a")];
/// A pod whose sandbox is replaced, and the container with it.
const REPLACED: &[Happens] = &[
    Ready("s"),
    Created("a", "s"),
    Started("a"),
    Exited("a", 3),
    NotReady("s"),
    Ready("t"),
    Created("b", "t"),
    Removed("a"),
];
/// Milliseconds between moments that no interval can order; otherwise they are twice the step margin apart.
const QUICK: u64 = 10;
/// A runtime that sends DELETED of a sandbox early, and the reason of an exit late.
const QUIRKY: (&str, &str) = ("containerd", "2.1.0");

/// All searches. A search has the name of its play.
fn searches() -> Vec<Search> {
    let of = Search::of;
    vec![
        of("lifecycle", LIFECYCLE, 2),
        of("quick lifecycle", LIFECYCLE, 2).with_step(QUICK),
        of("lifecycle read", LIFECYCLE, 2).without_stream(),
        of("backlog", LIFECYCLE, 2).begins(3),
        of("replaced", REPLACED, 2).begins(5),
        of("one container", &[Created("a", "s"), Started("a"), Exited("a", 3)], 8),
        of("stream alone", &[Created("a", "s"), Started("a"), Exited("a", 0)], 3).stream_alone(),
        of("stripped", &[Ready("s"), Created("a", "s"), Started("a"), Exited("a", 3)], 2).stripped(),
        of("oom", &[Created("a", "s"), Started("a"), Exited("a", 137), TurnedOom("a"), Nothing], 2)
            .on(QUIRKY),
        of("failed start", &[Ready("s"), Created("a", "s"), Failed("a"), Nothing], 2),
        of("lost and found", &[Created("a", "s"), Started("a"), Lost("a"), Found("a"), Exited("a", 0)], 2),
        of("not ready for a while", &[Ready("s"), Created("a", "s"), NotReady("s"), Ready("s"), Nothing], 2),
        of(
            "deleted early",
            &[Ready("s"), NotReady("s"), DeletedEarly("s"), Nothing, RemovedInSilence("s"), Nothing],
            2,
        )
        .on(QUIRKY),
        of("deleted never", &[Ready("s"), NotReady("s"), DeletedEarly("s"), Nothing], 2).on(QUIRKY),
        of("lie", &[Ready("s"), Created("a", "s"), Started("a"), Nothing, Nothing], 2)
            .lying("a", ContainerState::Exited),
    ]
}

/// Tries all interleavings of these plays.
#[allow(clippy::disallowed_methods, reason = "only the printed duration of the search depends on it")]
fn check_all(names: &[&str]) {
    let deeper = usize::from(std::env::var_os("PLEGD_DEEPER").is_some());
    for name in names {
        let mut search =
            (searches().into_iter()).find(|it| it.play.name == *name).expect("a play with this name");
        search.observations += if search.stream_alone { 0 } else { deeper };
        let began = std::time::Instant::now();
        match search.run() {
            Ok(tally) => {
                println!("{name}, up to {} observations: {tally} {:?}", search.observations, began.elapsed())
            }
            Err(why) => panic!("{name}: {why}"),
        }
    }
}

#[test]
fn every_interleaving_of_a_lifecycle_is_published_correctly() {
    check_all(&["lifecycle", "lifecycle read"]);
}

#[test]
fn every_interleaving_that_no_timestamp_orders_is_published_correctly() {
    check_all(&["quick lifecycle"]);
}

#[test]
fn every_interleaving_of_eight_observations_of_one_container_is_published_correctly() {
    check_all(&["one container"]);
}

#[test]
fn every_interleaving_around_a_replaced_sandbox_is_published_correctly() {
    check_all(&["replaced"]);
}

#[test]
fn every_interleaving_of_a_backlog_is_published_correctly() {
    check_all(&["backlog"]);
}

#[test]
fn every_order_of_the_events_converges_without_a_list() {
    check_all(&["stream alone"]);
}

#[test]
fn every_interleaving_around_changes_without_events_is_published_correctly() {
    check_all(&["oom", "failed start", "lost and found", "not ready for a while"]);
}

#[test]
fn every_interleaving_around_an_early_deleted_is_published_correctly() {
    check_all(&["deleted early", "deleted never"]);
}

#[test]
fn every_interleaving_of_stripped_events_is_published_correctly() {
    check_all(&["stripped"]);
}

#[test]
fn every_interleaving_with_a_false_event_ends_with_the_truth() {
    check_all(&["lie"]);
}

#[test]
fn a_case_is_parsed_from_its_text() {
    for search in searches() {
        for act in search.menu.of(&search.play, search.play.end()) {
            assert_eq!(Act::parse(&act.to_string()), Some(act), "{act}");
        }
    }
}

#[test]
#[ignore = "runs one case, with the name of its play: PLEGD_CASE='lifecycle: . . r0v1'"]
fn a_case_alone() {
    let case = std::env::var("PLEGD_CASE").expect("PLEGD_CASE in the format that a failure prints");
    let (name, acts) = case.rsplit_once(':').expect("the name of a play, a colon, acts");
    let acts: Vec<Act> = acts.split_whitespace().map(|act| Act::parse(act).expect("an act")).collect();
    let search = (searches().into_iter()).find(|it| it.play.name == name).expect("a play with this name");
    let (log, result) = search.replay(&acts);
    println!("{log}");
    assert_eq!(result, Ok(()));
}
