//! Rule 6: observations that remove an id, observations that do not, and deaths published before removals.

use super::{
    super::*,
    bench::{Bench, at, container, event, read, reads, sandbox, wall},
};
use crate::model::{ContainerState::*, SandboxState::*, *};

fn running() -> Bench {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Running)));
    bench.published.clear();
    bench
}

#[test]
fn an_absence_removes_only_if_the_read_began_after_the_record() {
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Stopped, "a", 1000).sees(container("a", Exited)));
    bench.published.clear();
    let out = bench.apply(&read(999, 2000).misses("a"));
    assert_eq!((out.verdicts.as_slice(), bench.state("a")), (&[Verdict::Undecided][..], Some(Exited)));
    assert_eq!(reads_of_a(&out), [(ReadCause::Deletion, 0)]);
    let out = bench.apply(&read(1000, 2000).misses("a"));
    assert_eq!(
        (out.verdicts.as_slice(), bench.published.as_slice()),
        (&[Verdict::Removed][..], &["a Removed".to_owned()][..])
    );
    assert_eq!(out.removed, [("a".into(), at(2000))], "only a read begun after this one can find it again");
    assert!(out.changed && bench.pod.is_empty());
}

fn reads_of_a(out: &Outcome) -> Vec<(ReadCause, u64)> {
    reads(out, "a")
}

/// A list shows it running, and DELETED arrives before its status is read: the listed phase is published first.
#[test]
fn deleted_does_not_discard_a_listed_phase_while_its_read_is_pending() {
    let mut bench = Bench::new();
    bench.unread.insert("a".into(), Unread { absent: None, shown: at(100), phases: BTreeSet::new() });
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200));
    assert_eq!((bench.published.len(), reads_of_a(&out)), (0, vec![(ReadCause::Deletion, 0)]));
    bench.apply_at(&read(100, 110).sees(container("a", Running)).minimal(), at(210));
    assert_eq!(bench.published, ["a Started"]);
    bench.apply(&read(210, 220).misses("a"));
    assert_eq!(bench.published, ["a Started"], "the death may still be reported");
    let out = bench.apply(&read(380, 390).misses("a"));
    assert_eq!(bench.published, ["a Started", "a Died!", "a Removed"]);
    assert!(out.transitions.iter().all(|it| it.announced));
    assert_eq!(out.transitions[1].occurred_at, Some(wall(200)), "the timestamp of the event");
    assert!(bench.pod.is_empty());
}

/// The lists that have shown it since show it no more: only the removal is published.
#[test]
fn deleted_of_an_id_that_neither_a_list_nor_a_read_finds_is_published() {
    let mut bench = Bench::new();
    bench.unread.insert("a".into(), Unread { absent: None, shown: at(100), phases: BTreeSet::new() });
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    bench.unread.clear();
    bench.apply(&read(210, 220).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
    assert!(bench.pod.is_empty());
}

/// The read that does not find it was requested before the list. The read that has the list's view follows.
#[test]
fn deleted_of_an_unread_id_waits_for_what_the_list_has_shown() {
    let mut bench = Bench::new();
    bench.unread.insert("a".into(), Unread { absent: None, shown: at(100), phases: [Phase::Running].into() });
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    let out = bench.apply(&read(210, 220).misses("a"));
    assert_eq!((bench.published.len(), reads_of_a(&out)), (0, vec![(ReadCause::Deletion, 200)]));
    bench.apply_at(&read(100, 110).sees(container("a", Running)).minimal(), at(230));
    bench.apply(&read(420, 430).misses("a"));
    bench.apply(&read(600, 610).misses("a"));
    assert_eq!(bench.published, ["a Started", "a Died!", "a Removed"]);
}

/// An event shows it created, a list that is not read yet shows it running, and then it is gone.
#[test]
fn a_phase_that_a_list_shows_before_the_first_view_is_published_at_the_removal() {
    let mut bench = Bench::new();
    bench.unread.insert("a".into(), Unread { absent: None, shown: at(100), phases: [Phase::Running].into() });
    bench.apply(&event(StreamEventType::Created, "a", 120).sees(container("a", Created)));
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    bench.apply(&read(360, 370).misses("a"));
    assert_eq!(bench.published, ["a Changed", "a Started", "a Died!", "a Removed"]);
}

/// The published events after a list, noted at 210 ms, has shown `a` running, and its status read from `lower` shows it created.
fn published_after_a_list_and_a_read(lower: u64) -> Vec<String> {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Created)));
    let listed = [ListedObject { id: "a", phase: Some(Phase::Running), sandbox_id: None }];
    bench.pod.reconcile_list(at(200), at(210), &listed);
    bench.apply(&read(lower, 220).sees(container("a", Created)));
    bench.apply(&event(StreamEventType::Deleted, "a", 300));
    bench.apply(&read(460, 470).misses("a"));
    bench.published
}

#[test]
fn a_listed_phase_that_a_later_read_contradicts_is_not_published_at_the_removal() {
    assert_eq!(published_after_a_list_and_a_read(210), ["a Changed", "a Died!", "a Removed"]);
}

#[test]
fn a_read_that_began_before_the_list_had_ended_does_not_contradict_it() {
    assert_eq!(published_after_a_list_and_a_read(209), ["a Changed", "a Started", "a Died!", "a Removed"]);
}

/// The stream reported it before the removal, and will not report it again.
#[test]
fn an_id_that_returns_is_not_held_against_the_stream() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    bench.apply(&read(360, 370).misses("a"));
    let out = bench.apply(&read(400, 410).sees(container("a", Running)));
    assert_eq!(out.transitions.iter().map(|it| it.has_no_stream_event).collect::<Vec<_>>(), [true]);
    let first = Bench::new().apply(&read(400, 410).sees(container("a", Running)));
    assert_eq!(first.transitions.iter().map(|it| it.has_no_stream_event).collect::<Vec<_>>(), [false]);
}

#[test]
fn an_event_that_lacks_an_id_removes_nothing() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Started, "b", 500).sees(container("b", Running)));
    bench.apply(&event(StreamEventType::Stopped, "s", 600).sees_sandbox(sandbox("s", NotReady)));
    assert_eq!(bench.state("a"), Some(Running));
}

#[test]
fn the_exit_code_is_published_although_stopped_arrives_after_deleted() {
    let mut bench = running();
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200));
    assert_eq!(reads_of_a(&out), [(ReadCause::Deletion, 150)]);
    assert_eq!(
        (bench.published.len(), bench.state("a")),
        (0, Some(Running)),
        "published together or not at all"
    );
    let out = bench.apply(&event(StreamEventType::Stopped, "a", 201).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Died(3 Error)", "a Removed"]);
    assert_eq!(out.removed, [("a".into(), at(200))]);
    assert!(out.transitions[1].announced);
    assert_eq!(out.transitions[1].occurred_at, Some(wall(200)));
    assert_eq!(out.transitions[1].exit_code, Some(3));
    assert!(bench.pod.is_empty());
}

#[test]
fn a_second_deleted_that_shows_the_exit_publishes_the_removal_once() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 1000));
    let published =
        bench.published_by(&event(StreamEventType::Deleted, "a", 1001).sees(container("a", Exited)));
    assert_eq!(published, ["a Died(3 Error)", "a Removed"]);
}

#[test]
fn a_death_that_is_not_reported_within_the_grace_period_is_inferred() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    let out = bench.apply(&read(250, 260).misses("a"));
    assert_eq!((reads_of_a(&out), bench.published.len()), (vec![(ReadCause::Deletion, 90)], 0));
    bench.apply(&read(350, 351).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
    let out = bench.apply(&event(StreamEventType::Stopped, "a", 360).sees(container("a", Exited)));
    assert_eq!(out.verdicts, [Verdict::Tombstoned], "published once, even if it comes late");
}

#[test]
fn an_absence_waits_for_the_death_only_while_the_stream_is_up() {
    let mut bench = running();
    let out = bench.apply(&read(200, 210).misses("a"));
    assert_eq!((reads_of_a(&out), bench.published.len()), (vec![(ReadCause::Deletion, 150)], 0));
    bench.apply(&event(StreamEventType::Stopped, "a", 211).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Died(3 Error)", "a Removed"]);
    let mut bench = running();
    bench.stream_up = false;
    bench.apply(&read(200, 210).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
}

#[test]
fn a_later_read_that_finds_the_id_cancels_the_removal() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    // This read began before the removal, and may have found the id just before it.
    bench.apply(&read(199, 240).sees(container("a", Running)));
    bench.apply(&read(240, 250).sees(container("a", Running)));
    bench.apply(&event(StreamEventType::Stopped, "a", 900).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Died(3 Error)"], "it stays as if no removal had been reported");
    assert_eq!(bench.state("a"), Some(Exited));
}

#[test]
fn the_grace_period_begins_with_the_first_report_of_a_removal() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    bench.apply(&event(StreamEventType::Deleted, "a", 340));
    bench.apply(&read(350, 351).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
}

#[test]
fn a_deleted_from_before_the_last_read_requests_a_read() {
    let mut bench = running();
    bench.apply(&read(1000, 1010).sees(container("a", Running)));
    let out = bench.apply_at(&event(StreamEventType::Deleted, "a", 900), at(1100));
    assert_eq!(
        (out.verdicts.as_slice(), reads_of_a(&out)),
        (&[Verdict::Stale][..], vec![(ReadCause::Deletion, 0)])
    );
    assert_eq!(bench.state("a"), Some(Running));
}

#[test]
fn an_early_deleted_requests_reads_while_the_id_exists() {
    for (runtime, version, id) in [("containerd", "2.1.0", "s"), ("cri-o", "1.26.0", "a")] {
        let both =
            |from| read(from, from + 1).sees(container("a", Exited)).sees_sandbox(sandbox("s", NotReady));
        let mut bench = Bench::on(runtime, version);
        bench.apply(&both(100));
        bench.published.clear();
        let out = bench.apply(&event(StreamEventType::Deleted, id, 200));
        assert_eq!(reads(&out, id), [(ReadCause::Deletion, 0)], "{runtime}");
        let mut from = 200;
        let mut waits = Vec::new();
        while let Some((cause, wait)) = reads(&bench.apply(&both(from)), id).pop() {
            assert_eq!(cause, ReadCause::Deletion);
            waits.push(wait);
            from += wait + 1;
        }
        assert_eq!(waits, [50, 200, 1000, 3000]);
        assert!(bench.published.is_empty(), "{runtime}: {:?}", bench.published);
        bench.apply(&read(from + 1, from + 2).misses(id));
        assert_eq!(bench.published, [format!("{id} Removed")]);
    }
}

#[test]
fn an_early_deleted_gives_the_time_and_the_source_of_the_removal() {
    let mut bench = Bench::on("containerd", "2.1.0");
    bench.apply(&read(100, 110).sees_sandbox(sandbox("s", NotReady)));
    bench.apply(&event(StreamEventType::Deleted, "s", 200).sees_sandbox(sandbox("s", NotReady)));
    let out = bench.apply(&read(201, 202).misses("s"));
    assert_eq!(out.transitions.len(), 1);
    assert!(out.transitions[0].announced);
    assert_eq!(out.transitions[0].occurred_at, Some(wall(200)));
}

#[test]
fn a_stopped_sandbox_is_read_again_on_a_runtime_without_its_events() {
    let mut bench = Bench::on("cri-o", "1.31.0");
    bench.apply(&read(100, 110).sees_sandbox(sandbox("s", Ready)));
    let mut out =
        bench.apply(&event(StreamEventType::Stopped, "s", 200).sees_sandbox(sandbox("s", NotReady)));
    let mut from = 200;
    let mut waits = Vec::new();
    while let Some((_, wait)) = reads(&out, "s").pop() {
        waits.push(wait);
        from += wait + 1;
        out = bench.apply(&read(from, from + 1).sees_sandbox(sandbox("s", NotReady)));
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000]);
}

#[test]
fn the_removal_of_an_unobserved_id_is_published() {
    let mut bench = Bench::new();
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200).sees_sandbox(sandbox("s", Ready)));
    assert_eq!(bench.published, ["s Started", "a Died!", "a Removed"]);
    assert_eq!(out.transitions[2].occurred_at, Some(wall(200)));
    assert_eq!(out.removed, [("a".into(), at(200))]);
    bench.apply(&event(StreamEventType::Deleted, "a", 210));
    assert_eq!(bench.published.len(), 3);
}

#[test]
fn a_container_first_observed_in_its_deletion_is_published_completely() {
    let mut bench = Bench::new();
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Started!", "a Died(3 Error)", "a Removed"]);
    assert_eq!((out.added.len(), out.removed.len()), (1, 1));
    assert!(bench.pod.is_empty());
}

#[test]
fn a_removal_caused_by_its_own_event_is_published_once() {
    let mut bench = running();
    bench.apply(&read(200, 210).misses("a"));
    // It is known to be gone, and its death is not published yet. The event of the deletion still shows it exited.
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 220).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Died(3 Error)", "a Removed"]);
    assert_eq!(out.removed.len(), 1);
}
