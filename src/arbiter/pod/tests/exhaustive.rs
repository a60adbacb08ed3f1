//! All interleavings of small histories, not a sample of them.
//!
//! A *play* is what truly happens to a pod, moment by moment. In each moment anything may come that a source could say
//! then: an event of anything that has happened so far, again or for the first time, with the pod as it was seen in any
//! moment before it was stamped, and with its interval on time, late or missing; a read or a list that began in any moment
//! and saw the pod as it was in any moment since; or nothing. All sequences of such acts are tried, up to a number of
//! observations, and after each the play ends: what plegd has asked for is read, and one list is made. A *witness* who
//! knows the truth objects to whatever breaks a promise, at every single step:
//!
//! - nothing goes back, but for a correction that two later reads in a row agree on, and nothing is back from the dead;
//! - each transition is published once and in order, a death before its removal, and what is published is what is held;
//! - nothing is published that was not so by then, and that nobody has said and no time proves; nothing is served that never was;
//! - what was said is published, or a read is asked for that decides on it; a death has its exit code if anybody has shown it;
//! - in the end the truth is served, field by field, after the reads that were asked for and one list; two more reads
//!   tell nothing; and plegd reads for nothing any more.
//!
//! Rules of the arbiter were broken by hand, and the witness objected: an old view believed (1), a tombstone
//! overlooked or lifted by a read that began before it (2), a read that is ahead not taken (3), a step back by an event and
//! a correction by one read (5), a removal by a read that only ended after what is held (6).
//!
//! [`search`] says what is cut and why nothing is lost by it. A failure prints what was said and published, and how to see the
//! case alone. More observations than are tried by default:
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

/// A container's life, as it mostly is.
const LIFE: &[Happens] = &[Ready("s"), Created("a", "s"), Started("a"), Exited("a", 3), Removed("a")];
/// A pod whose sandbox is made again, and the container with it.
const AGAIN: &[Happens] = &[
    Ready("s"),
    Created("a", "s"),
    Started("a"),
    Exited("a", 3),
    NotReady("s"),
    Ready("t"),
    Created("b", "t"),
    Removed("a"),
];
/// Moments so close to each other that no interval can tell them apart; else they are twice the step margin apart.
const QUICK: u64 = 10;
/// A runtime that says a sandbox's deletion early, and the reason of an exit late.
const QUIRKY: (&str, &str) = ("containerd", "2.1.0");

/// All searches; the play's name is the search's.
fn searches() -> Vec<Search> {
    let of = Search::of;
    vec![
        of("life", LIFE, 2),
        of("quick life", LIFE, 2).paced(QUICK),
        of("life read", LIFE, 2).without_stream(),
        of("backlog", LIFE, 2).begins(3),
        of("again", AGAIN, 2).begins(5),
        of("one container", &[Created("a", "s"), Started("a"), Exited("a", 3)], 8),
        of("stream alone", &[Created("a", "s"), Started("a"), Exited("a", 0)], 3).stream_alone(),
        of("cut down", &[Ready("s"), Created("a", "s"), Started("a"), Exited("a", 3)], 2).cut_down(),
        of("oom", &[Created("a", "s"), Started("a"), Exited("a", 137), TurnedOom("a"), Nothing], 2)
            .on(QUIRKY),
        of("failed start", &[Ready("s"), Created("a", "s"), Failed("a"), Nothing], 2),
        of("lost and found", &[Created("a", "s"), Started("a"), Lost("a"), Found("a"), Exited("a", 0)], 2),
        of("not ready for a while", &[Ready("s"), Created("a", "s"), NotReady("s"), Ready("s"), Nothing], 2),
        of(
            "deleted early",
            &[Ready("s"), NotReady("s"), SaidDeleted("s"), Nothing, RemovedInSilence("s"), Nothing],
            2,
        )
        .on(QUIRKY),
        of("deleted never", &[Ready("s"), NotReady("s"), SaidDeleted("s"), Nothing], 2).on(QUIRKY),
        of("lie", &[Ready("s"), Created("a", "s"), Started("a"), Nothing, Nothing], 2)
            .lying("a", ContainerState::Exited),
    ]
}

/// Tries all interleavings of these.
#[allow(clippy::disallowed_methods, reason = "it says how long the search takes, and nothing hangs on it")]
fn nobody_objects_to(names: &[&str]) {
    let deeper = usize::from(std::env::var_os("PLEGD_DEEPER").is_some());
    for name in names {
        let mut search =
            (searches().into_iter()).find(|it| it.play.name == *name).expect("there is such a play");
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
fn every_interleaving_of_a_life_is_told_right() {
    nobody_objects_to(&["life", "life read"]);
}

#[test]
fn every_interleaving_of_a_life_that_no_stamp_puts_in_order_is_told_right() {
    nobody_objects_to(&["quick life"]);
}

#[test]
fn every_interleaving_of_eight_observations_of_one_container_is_told_right() {
    nobody_objects_to(&["one container"]);
}

#[test]
fn every_interleaving_around_a_sandbox_that_is_made_again_is_told_right() {
    nobody_objects_to(&["again"]);
}

#[test]
fn every_interleaving_of_what_was_before_the_journal_is_told_right() {
    nobody_objects_to(&["backlog"]);
}

#[test]
fn every_order_of_the_events_converges_without_a_list() {
    nobody_objects_to(&["stream alone"]);
}

#[test]
fn every_interleaving_around_what_no_event_tells_is_told_right() {
    nobody_objects_to(&["oom", "failed start", "lost and found", "not ready for a while"]);
}

#[test]
fn every_interleaving_around_a_deletion_that_is_said_early_is_told_right() {
    nobody_objects_to(&["deleted early", "deleted never"]);
}

#[test]
fn every_interleaving_of_events_that_were_cut_down_is_told_right() {
    nobody_objects_to(&["cut down"]);
}

#[test]
fn every_interleaving_with_a_lie_ends_with_the_truth() {
    nobody_objects_to(&["lie"]);
}

#[test]
fn a_case_is_written_as_it_is_read() {
    for search in searches() {
        for act in search.menu.of(&search.play, search.play.end()) {
            assert_eq!(Act::parse(&act.to_string()), Some(act), "{act}");
        }
    }
}

#[test]
#[ignore = "does one case alone, with the name of its play: PLEGD_CASE='life: . . r0v1'"]
fn a_case_alone() {
    let case = std::env::var("PLEGD_CASE").expect("PLEGD_CASE is a case as a failure prints it");
    let (name, acts) = case.rsplit_once(':').expect("the name of a play, a colon, acts");
    let acts: Vec<Act> = acts.split_whitespace().map(|act| Act::parse(act).expect("an act")).collect();
    let search = (searches().into_iter()).find(|it| it.play.name == name).expect("there is such a play");
    let (story, result) = search.replay(&acts);
    println!("{story}");
    assert_eq!(result, Ok(()));
}
