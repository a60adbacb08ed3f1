//! Rule 6: what removes, what only seems to, and how a death that was not published is published first.

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
fn a_read_that_does_not_find_it_removes_only_if_it_began_after_what_is_held() {
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Stopped, "a", 1000).sees(container("a", Exited)));
    bench.published.clear();
    let out = bench.apply(&read(999, 2000).misses("a"));
    assert_eq!((out.verdicts.as_slice(), bench.state("a")), (&[Verdict::Undecided][..], Some(Exited)));
    assert_eq!(asks_of(&out), [(ReadCause::Deletion, 0)]);
    let out = bench.apply(&read(1000, 2000).misses("a"));
    assert_eq!(
        (out.verdicts.as_slice(), bench.published.as_slice()),
        (&[Verdict::Removed][..], &["a Removed".to_owned()][..])
    );
    assert_eq!(out.removed, [("a".into(), at(2000))], "only a read begun after this one could see it again");
    assert!(out.changed && bench.pod.is_empty());
}

fn asks_of(out: &Outcome) -> Vec<(ReadCause, u64)> {
    reads(out, "a")
}

/// A list shows it running, and DELETED comes before its status is read: what the list showed is published first.
#[test]
fn deleted_does_not_discard_what_a_list_showed_and_a_read_is_pending_for() {
    let mut bench = Bench::new();
    bench.unread.insert("a".into(), Unread { absent: None, shown: at(100) });
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200));
    assert_eq!((bench.published.len(), asks_of(&out)), (0, vec![(ReadCause::Deletion, 0)]));
    bench.apply_at(&read(100, 110).sees(container("a", Running)).minimal(), at(210));
    assert_eq!(bench.published, ["a Started"]);
    bench.apply(&read(210, 220).misses("a"));
    assert_eq!(bench.published, ["a Started"], "the death may still come");
    let out = bench.apply(&read(380, 390).misses("a"));
    assert_eq!(bench.published, ["a Started", "a Died!", "a Removed"]);
    assert!(out.transitions.iter().all(|it| it.announced));
    assert_eq!(out.transitions[1].occurred_at, Some(wall(200)), "as the event says");
    assert!(bench.pod.is_empty());
}

/// It is gone before it is read, and no list shows anything that is not published: only the removal is left.
#[test]
fn deleted_of_an_unread_id_that_a_read_does_not_find_is_published() {
    let mut bench = Bench::new();
    bench.unread.insert("a".into(), Unread { absent: None, shown: at(100) });
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    bench.apply(&read(210, 220).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
    assert!(bench.pod.is_empty());
}

#[test]
fn an_event_that_does_not_show_it_removes_nothing() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Started, "b", 500).sees(container("b", Running)));
    bench.apply(&event(StreamEventType::Stopped, "s", 600).sees_sandbox(sandbox("s", NotReady)));
    assert_eq!(bench.state("a"), Some(Running));
}

#[test]
fn the_exit_code_is_told_although_stopped_comes_after_deleted() {
    let mut bench = running();
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200));
    assert_eq!(asks_of(&out), [(ReadCause::Deletion, 150)]);
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
fn a_second_deleted_that_shows_the_exit_tells_the_removal_once() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 1000));
    let published =
        bench.published_by(&event(StreamEventType::Deleted, "a", 1001).sees(container("a", Exited)));
    assert_eq!(published, ["a Died(3 Error)", "a Removed"]);
}

#[test]
fn a_death_that_does_not_come_within_its_grace_is_inferred_from_the_removal() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    let out = bench.apply(&read(250, 260).misses("a"));
    assert_eq!((asks_of(&out), bench.published.len()), (vec![(ReadCause::Deletion, 90)], 0));
    bench.apply(&read(350, 351).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
    let out = bench.apply(&event(StreamEventType::Stopped, "a", 360).sees(container("a", Exited)));
    assert_eq!(out.verdicts, [Verdict::Tombstoned], "published once, even if it comes late");
}

#[test]
fn a_read_that_finds_nothing_gives_the_stream_its_grace_and_without_a_stream_none() {
    let mut bench = running();
    let out = bench.apply(&read(200, 210).misses("a"));
    assert_eq!((asks_of(&out), bench.published.len()), (vec![(ReadCause::Deletion, 150)], 0));
    bench.apply(&event(StreamEventType::Stopped, "a", 211).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Died(3 Error)", "a Removed"]);
    let mut bench = running();
    bench.stream_up = false;
    bench.apply(&read(200, 210).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
}

#[test]
fn a_read_that_finds_it_after_all_takes_the_removal_back() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    // Begun before the removal: it may have seen it just before.
    bench.apply(&read(199, 240).sees(container("a", Running)));
    bench.apply(&read(240, 250).sees(container("a", Running)));
    bench.apply(&event(StreamEventType::Stopped, "a", 900).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Died(3 Error)"], "it lives on as if nothing had been said");
    assert_eq!(bench.state("a"), Some(Exited));
}

#[test]
fn the_first_word_of_a_removal_counts_for_its_grace() {
    let mut bench = running();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    bench.apply(&event(StreamEventType::Deleted, "a", 340));
    bench.apply(&read(350, 351).misses("a"));
    assert_eq!(bench.published, ["a Died!", "a Removed"]);
}

#[test]
fn a_deleted_of_before_the_last_read_is_read_up_on() {
    let mut bench = running();
    bench.apply(&read(1000, 1010).sees(container("a", Running)));
    let out = bench.apply_at(&event(StreamEventType::Deleted, "a", 900), at(1100));
    assert_eq!(
        (out.verdicts.as_slice(), asks_of(&out)),
        (&[Verdict::Stale][..], vec![(ReadCause::Deletion, 0)])
    );
    assert_eq!(bench.state("a"), Some(Running));
}

#[test]
fn a_deleted_that_comes_early_by_quirk_only_asks_as_long_as_it_is_there() {
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
fn an_early_deleted_says_when_and_who_saw_the_removal_first() {
    let mut bench = Bench::on("containerd", "2.1.0");
    bench.apply(&read(100, 110).sees_sandbox(sandbox("s", NotReady)));
    bench.apply(&event(StreamEventType::Deleted, "s", 200).sees_sandbox(sandbox("s", NotReady)));
    let out = bench.apply(&read(201, 202).misses("s"));
    assert_eq!(out.transitions.len(), 1);
    assert!(out.transitions[0].announced);
    assert_eq!(out.transitions[0].occurred_at, Some(wall(200)));
}

#[test]
fn a_stopped_sandbox_is_looked_for_where_it_goes_without_a_word() {
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
fn of_what_was_never_seen_the_end_is_told() {
    let mut bench = Bench::new();
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200).sees_sandbox(sandbox("s", Ready)));
    assert_eq!(bench.published, ["s Started", "a Died!", "a Removed"]);
    assert_eq!(out.transitions[2].occurred_at, Some(wall(200)));
    assert_eq!(out.removed, [("a".into(), at(200))]);
    bench.apply(&event(StreamEventType::Deleted, "a", 210));
    assert_eq!(bench.published.len(), 3);
}

#[test]
fn a_container_that_is_first_seen_in_its_own_deletion_is_told_whole() {
    let mut bench = Bench::new();
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Started!", "a Died(3 Error)", "a Removed"]);
    assert_eq!((out.added.len(), out.removed.len()), (1, 1));
    assert!(bench.pod.is_empty());
}

#[test]
fn a_removal_that_its_own_event_brings_about_is_told_once() {
    let mut bench = running();
    bench.apply(&read(200, 210).misses("a"));
    // Known to be gone, and its death not published yet; the event of the deletion still shows it dead.
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 220).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Died(3 Error)", "a Removed"]);
    assert_eq!(out.removed.len(), 1);
}
