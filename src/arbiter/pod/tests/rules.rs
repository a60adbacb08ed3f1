//! Rules 1 to 5 on a pod, follow-up reads, addresses, and merged content.

use super::{
    super::*,
    bench::{Bench, at, container, event, read, reads, sandbox, wall},
};
use crate::model::{ContainerState::*, SandboxState::*, *};

const NONE: [&str; 0] = [];

#[test]
fn rule_1_a_stale_view_changes_nothing_and_requests_a_read_only_if_it_is_ahead() {
    for (seen, ahead) in [(Created, false), (Running, false), (Exited, true)] {
        let mut bench = Bench::new();
        bench.apply(&read(1000, 1010).sees(container("a", Running)));
        bench.published.clear();
        let out = bench.apply(&event(StreamEventType::Stopped, "b", 949).sees(container("a", seen)));
        assert!(out.verdicts.contains(&Verdict::Stale), "{seen:?}: {:?}", out.verdicts);
        assert_eq!(bench.published, NONE);
        assert_eq!(bench.state("a"), Some(Running));
        let expected: &[_] = if ahead { &[(ReadCause::Undecided, 0)] } else { &[] };
        assert_eq!(reads(&out, "a"), expected, "{seen:?}");
        // Within the margin it is not older.
        let out = bench.apply(&event(StreamEventType::Stopped, "b", 950).sees(container("a", Exited)));
        assert_eq!(out.verdicts, [Verdict::Forward]);
    }
}

#[test]
fn rule_1_a_read_overtaken_by_a_later_one_is_stale() {
    let mut bench = Bench::new();
    bench.apply(&read(2000, 2010).sees(container("a", Exited)));
    let out = bench.apply_at(&read(1000, 1500).sees(container("a", Running)), at(2020));
    assert_eq!(out.verdicts, [Verdict::Stale]);
    assert_eq!(bench.state("a"), Some(Exited));
    // An id that it lacks is not gone.
    bench.apply_at(&read(1000, 1500).misses("a"), at(2020));
    assert_eq!(bench.state("a"), Some(Exited));
}

#[test]
fn rule_1_an_id_that_a_list_has_missed_is_published_as_history_and_never_served() {
    let mut bench = Bench::new();
    bench.listed = Some(at(1000));
    let mut published = |kind, ms, state| {
        let out = bench.apply_at(&event(kind, "a", ms).sees(container("a", state)), at(5000));
        assert_eq!(bench.pod.served(), None);
        out
    };
    let out = published(StreamEventType::Created, 10, Created);
    assert_eq!(out.verdicts, [Verdict::HistoryOnly]);
    assert_eq!(reads(&out, "a"), [(ReadCause::Undecided, 0), (ReadCause::Start, 500)]);
    assert!(!out.changed, "it is not visible to readers");
    published(StreamEventType::Started, 20, Running);
    published(StreamEventType::Stopped, 30, Exited);
    bench.apply_at(&event(StreamEventType::Deleted, "a", 40), at(5000));
    assert_eq!(bench.published, ["a Changed", "a Started", "a Died(3 Error)", "a Removed"]);
    assert!(bench.pod.is_empty());
}

/// A read of the whole pod did not have it. It may have come before the list that did not have it either.
#[test]
fn rule_1_nothing_is_known_of_the_time_before_an_id_that_only_has_a_history() {
    let mut bench = Bench::new();
    bench
        .unread
        .insert("a".into(), Unread { absent: Some(at(500)), shown: at(600), phases: BTreeSet::new() });
    bench.pod.mark_read(at(1000));
    let out =
        bench.apply_at(&event(StreamEventType::Started, "a", 400).sees(container("a", Running)), at(1100));
    assert_eq!((out.verdicts, out.transitions[0].after), (vec![Verdict::HistoryOnly], None));
}

/// The last list shows it, so that an event from before the list is no history, although the read of the id is still pending.
#[test]
fn rule_1_an_id_that_the_last_list_shows_is_served_from_an_older_event() {
    let mut bench = Bench::new();
    bench.listed = Some(at(1000));
    bench.unread.insert("a".into(), Unread { absent: Some(at(0)), shown: at(1000), phases: BTreeSet::new() });
    let out =
        bench.apply_at(&event(StreamEventType::Started, "a", 900).sees(container("a", Running)), at(1100));
    assert_eq!((out.verdicts, out.transitions[0].after), (vec![Verdict::New], Some(at(0))));
    assert_eq!(bench.state("a"), Some(Running));
    bench.apply(&read(1100, 1110).sees(container("a", Running)));
    assert_eq!(bench.published, ["a Started"], "the read publishes nothing");
}

#[test]
fn rule_1_history_that_a_later_read_finds_is_served() {
    let mut bench = Bench::new();
    bench.listed = Some(at(1000));
    bench.apply_at(&event(StreamEventType::Started, "a", 20).sees(container("a", Running)), at(5000));
    assert_eq!(bench.pod.served(), None);
    let out = bench.apply(&read(5000, 5010).sees(container("a", Running)));
    assert!(out.changed);
    assert_eq!(bench.state("a"), Some(Running));
    // The pod published with its start did not contain it; this one does.
    assert_eq!(bench.published, ["a Started", "a Changed"]);
}

#[test]
fn rule_1_changes_before_the_start_of_the_journal_are_not_published() {
    let mut bench = Bench::new();
    let mut old = event(StreamEventType::Stopped, "a", 0).sees(container("a", Exited));
    old.claimed = Mono::ZERO;
    let out = bench.apply_at(&old, at(10));
    assert_eq!((out.verdicts, bench.pod.is_empty()), (vec![Verdict::BeforeStart], true));
    old.stream_event =
        Some(StreamEvent { id: "a".into(), kind: StreamEventType::Deleted, stamped_at: Some(wall(0)) });
    old.containers.clear();
    let out = bench.apply_at(&old, at(10));
    assert!(out.transitions.is_empty() && out.reads.is_empty() && out.removed.is_empty());
}

#[test]
fn rule_2_only_a_read_begun_after_the_removal_brings_an_id_back() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Exited)));
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    bench.published.clear();
    for observation in [
        event(StreamEventType::Started, "a", 150).sees(container("a", Running)),
        event(StreamEventType::Started, "a", 90_000).sees(container("a", Running)),
        event(StreamEventType::Stopped, "a", 200).sees(container("a", Exited)),
        read(199, 300).sees(container("a", Exited)),
    ] {
        let out = bench.apply(&observation);
        assert_eq!(out.verdicts, [Verdict::Tombstoned], "{:?}", observation.origin);
        assert!(bench.pod.is_empty() && bench.published.is_empty() && out.reads.is_empty());
    }
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 300));
    assert!(out.transitions.is_empty(), "a removal is published once");
    let out = bench.apply(&read(200, 300).sees(container("a", Exited)));
    assert_eq!((out.verdicts, out.added), (vec![Verdict::New], vec!["a".into()]));
    assert_eq!(bench.state("a"), Some(Exited));
}

#[test]
fn rule_4_other_content_is_taken_from_a_later_read_and_otherwise_requests_a_read() {
    let other = ContainerStatus { message: "more".into(), ..container("a", Running) };
    for (observation, taken) in [
        (event(StreamEventType::Started, "a", 1005).sees(other.clone()), false),
        (event(StreamEventType::Started, "a", 9000).sees(other.clone()), false),
        (read(990, 1005).sees(other.clone()), false),
        (read(1009, 2000).sees(other.clone()), false),
        (read(1010, 2000).sees(other.clone()), true),
    ] {
        let mut bench = Bench::new();
        bench.apply(&read(1000, 1010).sees(container("a", Running)));
        bench.published.clear();
        let out = bench.apply(&observation);
        assert_eq!(bench.container("a").unwrap().message == "more", taken, "{:?}", observation.interval);
        assert_eq!(bench.published, if taken { vec!["a Changed"] } else { vec![] });
        let undecided: &[_] = if taken { &[] } else { &[(ReadCause::Undecided, 0)] };
        assert_eq!(reads(&out, "a"), undecided);
    }
}

#[test]
fn rule_5_no_event_moves_a_container_back() {
    for (held, seen) in [(Running, Created), (Exited, Created), (Exited, Running)] {
        let mut bench = Bench::new();
        bench.apply(&event(StreamEventType::Started, "a", 1000).sees(container("a", held)));
        bench.published.clear();
        for ms in [10, 1000, 1001, 50_000, 90_000] {
            let out = bench.apply(&event(StreamEventType::Created, "a", ms).sees(container("a", seen)));
            assert_eq!(out.verdicts, [Verdict::Backward]);
            assert_eq!(reads(&out, "a"), [(ReadCause::Undecided, 0)]);
        }
        assert_eq!((bench.state("a"), bench.published), (Some(held), vec![]));
    }
}

#[test]
fn rule_5_two_consecutive_reads_correct_and_later_changes_follow() {
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Stopped, "a", 1000).sees(container("a", Exited)));
    bench.published.clear();
    let out = bench.apply(&read(1000, 1010).sees(container("a", Running)));
    assert_eq!((out.verdicts.as_slice(), bench.state("a")), (&[Verdict::Backward][..], Some(Exited)));
    assert_eq!(reads(&out, "a"), [(ReadCause::Undecided, 0)]);
    bench.apply(&read(1010, 1020).sees(container("a", Running)));
    assert_eq!((bench.published.as_slice(), bench.state("a")), (&["a Sync".to_owned()][..], Some(Running)));
    // The event may be from before the correction: a read decides.
    let out = bench.apply(&event(StreamEventType::Stopped, "a", 2000).sees(container("a", Exited)));
    assert!(reads(&out, "a").contains(&(ReadCause::Undecided, 0)));
    assert_eq!(bench.published, ["a Sync"]);
    bench.apply(&read(2000, 2010).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Sync", "a Died(3 Error)"]);
}

#[test]
fn rule_5_a_view_that_agrees_in_between_drops_the_pending_correction() {
    let pending_correction = |from| read(from, from + 10).sees(container("a", Running));
    // By a read, and by a list that agrees with the record.
    for by_list in [false, true] {
        let mut bench = Bench::new();
        bench.apply(&event(StreamEventType::Stopped, "a", 1000).sees(container("a", Exited)));
        bench.apply(&pending_correction(1000));
        if by_list {
            bench.confirm(at(1100));
        } else {
            bench.apply(&read(1100, 1110).sees(container("a", Exited)));
        }
        bench.published.clear();
        bench.apply(&pending_correction(1200));
        assert_eq!(
            (bench.published.as_slice(), bench.state("a")),
            (&[][..], Some(Exited)),
            "by_list: {by_list}"
        );
        bench.apply(&pending_correction(1300));
        assert_eq!(bench.published, ["a Sync"]);
    }
}

#[test]
fn rule_5_a_sandbox_becomes_ready_again_by_a_read_and_not_by_an_event() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees_sandbox(sandbox("s", NotReady)));
    bench.published.clear();
    let out = bench.apply(&event(StreamEventType::Started, "s", 500).sees_sandbox(sandbox("s", Ready)));
    assert_eq!((out.verdicts.as_slice(), bench.published.len()), (&[Verdict::Backward][..], 0));
    assert_eq!(reads(&out, "s"), [(ReadCause::Undecided, 0)]);
    bench.apply(&read(500, 510).sees_sandbox(sandbox("s", Ready)));
    assert_eq!(bench.published, ["s Started"]);
    assert_eq!(bench.ips(), ["10.0.0.1"]);
}

#[test]
fn an_unknown_state_comes_and_goes_without_a_phase() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Running)));
    bench.apply(&read(200, 210).sees(container("a", Unknown)));
    assert_eq!(bench.state("a"), Some(Unknown));
    bench.apply(&read(300, 310).sees(container("a", Running)));
    assert_eq!(bench.published, ["a Started", "a Changed", "a Changed"]);
    bench.apply(&read(400, 410).sees(container("a", Unknown)));
    // It exits while the state is unknown: the published phase counts, not the state of the record.
    bench.apply(&event(StreamEventType::Stopped, "a", 450).sees(container("a", Exited)));
    assert_eq!(bench.published[3..], ["a Changed", "a Died(3 Error)"]);
}

#[test]
fn invalid_timestamps_are_only_upper_ends_and_block_no_later_observation() {
    let mut bench = Bench::new();
    // An invalid timestamp counts as the receipt, one from before a step as the step. Both are far too late.
    for ms in [90_000, 50_000] {
        bench.apply_at(&event(StreamEventType::Started, "a", ms).sees(container("a", Running)), at(90_000));
    }
    // An event with an earlier, valid timestamp still moves it forward.
    let out =
        bench.apply_at(&event(StreamEventType::Stopped, "a", 1000).sees(container("a", Exited)), at(90_001));
    assert_eq!(out.verdicts, [Verdict::Forward]);
    // A read begun afterwards decides about the content.
    let oom = ContainerStatus { reason: "OOMKilled".into(), ..container("a", Exited) };
    let out = bench.apply(&read(90_002, 90_003).sees(oom));
    assert_eq!(out.verdicts, [Verdict::Refreshed]);
    bench.apply(&read(90_010, 90_011).misses("a"));
    assert_eq!(bench.published, ["a Started", "a Died(3 Error)", "a Changed", "a Removed"]);
}

#[test]
fn an_event_without_its_own_id_in_the_payload_requests_a_read() {
    for kind in [StreamEventType::Created, StreamEventType::Started, StreamEventType::Stopped] {
        // Only the pod is known.
        let mut bench = Bench::new();
        let out = bench.apply(&event(kind, "a", 100).sees_sandbox(sandbox("s", Ready)));
        assert_eq!(reads(&out, "a"), [(ReadCause::Hint, 0)], "{kind:?}");
        assert_eq!(bench.published, ["s Started"]);
        // The payload is from before the change.
        bench.apply(&event(StreamEventType::Created, "a", 100).sees(container("a", Created)));
        let out = bench.apply(&event(kind, "a", 110).sees(container("a", Created)));
        let expected: &[_] = if kind == StreamEventType::Created { &[] } else { &[(ReadCause::Hint, 0)] };
        assert_eq!(reads(&out, "a"), expected, "{kind:?}");
        // A read has already shown a later phase.
        bench.apply(&read(200, 210).sees(container("a", Exited)));
        assert_eq!(reads(&bench.apply(&event(kind, "a", 220)), "a"), []);
    }
}

#[test]
fn an_event_without_a_payload_publishes_the_removal_of_a_known_id() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Exited)).sees_sandbox(sandbox("s", Ready)));
    bench.published.clear();
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    assert_eq!(bench.published, ["a Removed"]);
    assert_eq!(bench.pod.served().unwrap().sandboxes.len(), 1, "an empty payload removes nothing else");
}

#[test]
fn an_exit_is_read_again_if_its_reason_may_change() {
    let killed =
        ContainerStatus { exit_code: Some(137), finished_at: Some(wall(1000)), ..container("a", Exited) };
    let oom_reads = |runtime: &str, version: &str, container: &ContainerStatus, ms| {
        let mut bench = Bench::on(runtime, version);
        let out = bench.apply(&event(StreamEventType::Stopped, "a", ms).sees(container.clone()));
        reads(&out, "a").into_iter().filter(|(cause, _)| *cause == ReadCause::Oom).count()
    };
    assert_eq!(oom_reads("containerd", "2.1.0", &killed, 1010), 1);
    assert_eq!(oom_reads("containerd", "2.3.0", &killed, 1010), 0, "it has the reason at once");
    assert_eq!(oom_reads("containerd", "2.1.0", &killed, 60_000), 0, "an old exit");
    let published = ContainerStatus { reason: "OOMKilled".into(), ..killed.clone() };
    assert_eq!(oom_reads("containerd", "2.1.0", &published, 1010), 0);
    assert_eq!(oom_reads("containerd", "2.1.0", &container("a", Exited), 40), 1, "whatever its exit code");
    let failed = ContainerStatus { reason: "StartError".into(), ..container("a", Exited) };
    assert_eq!(oom_reads("containerd", "2.1.0", &failed, 40), 0, "it was never started");
    let mut bench = Bench::on("containerd", "2.1.0");
    bench.apply(&event(StreamEventType::Stopped, "a", 1010).sees(killed));
    let out = bench.apply(&read(2510, 2515).sees(published));
    assert_eq!((out.transitions[0].reason.as_str(), out.transitions[0].exit_code), ("OOMKilled", Some(137)));
    assert_eq!(bench.published, ["a Started!", "a Died(137 Error)", "a Changed"]);
}

#[test]
fn a_created_container_is_read_again_in_case_its_start_fails() {
    let mut bench = Bench::new();
    let out = bench.apply(&event(StreamEventType::Created, "a", 10).sees(container("a", Created)));
    assert_eq!(reads(&out, "a"), [(ReadCause::Start, 500)]);
    // As long as it is not started, at 0.5, 1.25, 2, 3, 4 and 5 s after its creation.
    for (ms, next) in [(510, 750), (1260, 750), (2010, 1000), (3010, 1000), (4010, 1000)] {
        let out = bench.apply(&read(ms, ms + 1).sees(container("a", Created)));
        assert_eq!(reads(&out, "a"), [(ReadCause::Start, next)]);
    }
    let out = bench.apply(&read(5010, 5011).sees(container("a", Created)));
    assert_eq!(reads(&out, "a"), [], "and no more");
}

#[test]
fn a_start_cancels_the_reads_for_a_failed_start() {
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Created, "a", 10).sees(container("a", Created)));
    bench.apply(&event(StreamEventType::Started, "a", 20).sees(container("a", Running)));
    let out = bench.apply(&read(510, 511).sees(container("a", Running)));
    assert_eq!(reads(&out, "a"), []);
}

#[test]
fn containers_are_read_when_their_sandbox_is_gone() {
    let mut bench = Bench::new();
    let of_s = ContainerStatus { sandbox_id: "s".into(), ..container("a", Exited) };
    let of_t = ContainerStatus { sandbox_id: "t".into(), ..container("b", Exited) };
    bench.apply(&read(100, 110).sees_sandbox(sandbox("s", NotReady)).sees(of_s).sees(of_t));
    let out = bench.apply(&read(200, 210).misses("s"));
    assert_eq!(reads(&out, "a"), [(ReadCause::Deletion, 0)]);
    assert_eq!(reads(&out, "b"), [], "it is in another sandbox");
}

#[test]
fn a_removal_keeps_the_exit_code_and_the_reason_of_the_death() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Exited)));
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 200));
    let [removed] = &out.transitions[..] else { panic!("{:?}", out.transitions) };
    assert_eq!((removed.exit_code, removed.reason.as_str()), (Some(3), "Error"));
}

#[test]
fn a_list_never_brings_back_a_removed_id() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Exited)));
    bench.apply(&event(StreamEventType::Deleted, "a", 200));
    let out = bench.apply(&read(5000, 5010).sees(container("a", Exited)).minimal());
    assert_eq!(out.verdicts, [Verdict::Tombstoned]);
    let out = bench.apply(&read(6000, 6010).sees(container("a", Exited)));
    assert_eq!(out.verdicts, [Verdict::New], "a read of the id itself does");
}

/// The timestamp of the event is 300 ms early; a list that began before the event was received does not have the sandbox.
#[test]
fn an_early_timestamp_removes_nothing() {
    let mut bench = Bench::new();
    let early = Observation {
        claimed: at(700),
        ..event(StreamEventType::Started, "s", 1000).sees_sandbox(sandbox("s", Ready))
    };
    bench.apply(&early);
    let out = bench.apply_at(&read(900, 1010).misses("s"), at(1010));
    assert_eq!(
        (out.verdicts.clone(), reads(&out, "s")),
        (vec![Verdict::Undecided], vec![(ReadCause::Deletion, 0)])
    );
    assert_eq!(bench.published, ["s Started"]);
}

#[test]
fn a_pod_with_several_sandboxes_serves_the_newest_first() {
    let first = sandbox("s", Ready);
    let second = SandboxStatus {
        attempt: 1,
        created_at: Some(wall(900)),
        ips: vec!["10.0.0.2".into()],
        ..sandbox("t", Ready)
    };
    let newer =
        ContainerStatus { sandbox_id: "t".into(), created_at: Some(wall(910)), ..container("b", Running) };
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees_sandbox(first).sees(container("a", Running)));
    bench.apply(&event(StreamEventType::Stopped, "s", 800).sees_sandbox(sandbox("s", NotReady)));
    bench.apply(&event(StreamEventType::Started, "t", 900).sees_sandbox(second));
    bench.apply(&event(StreamEventType::Started, "b", 920).sees(newer));
    let pod = bench.pod.served().unwrap();
    assert_eq!(pod.sandboxes.iter().map(|sandbox| sandbox.id.as_str()).collect::<Vec<_>>(), ["t", "s"]);
    assert_eq!(pod.containers.iter().map(|container| container.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(pod.ips, ["10.0.0.2"]);
    // An event of the new sandbox that shows containers of both (CRI-O) does not move a container.
    let moved = ContainerStatus { sandbox_id: "t".into(), ..container("a", Running) };
    bench.apply(&event(StreamEventType::Started, "t", 930).sees(moved));
    assert_eq!(bench.container("a").unwrap().sandbox_id.as_str(), "s");
    // The removal of the old sandbox does not affect the new one.
    bench.apply(&read(1000, 1010).misses("s").misses("a"));
    let pod = bench.pod.served().unwrap();
    assert_eq!((pod.sandboxes.len(), pod.ips.len()), (1, 1));
}

#[test]
fn addresses_stay_when_the_network_of_a_finished_pod_is_taken_down() {
    let dual = |state, ips: &[&str]| SandboxStatus {
        ips: ips.iter().map(|ip| ip.to_string()).collect(),
        ..sandbox("s", state)
    };
    for ips in [&["10.0.0.1"][..], &["10.0.0.1", "fd00::1"]] {
        let mut bench = Bench::new();
        bench.apply(&read(100, 110).sees_sandbox(dual(Ready, ips)));
        bench.apply(&event(StreamEventType::Stopped, "s", 200).sees_sandbox(dual(NotReady, ips)));
        bench.apply(&read(300, 310).sees_sandbox(dual(NotReady, &[])));
        assert_eq!(bench.ips(), ips);
        // A ready sandbox without addresses has none.
        bench.apply(&read(400, 410).sees_sandbox(dual(Ready, &[])));
        assert_eq!(bench.ips(), NONE);
    }
    let mut host = Bench::new();
    host.apply(&read(100, 110).sees_sandbox(dual(Ready, &[])));
    host.apply(&read(200, 210).sees_sandbox(dual(NotReady, &[])));
    assert_eq!(host.ips(), NONE);
}

#[test]
fn a_minimal_view_removes_no_content_from_the_record() {
    let full = ContainerStatus { message: "why".into(), ..container("a", Exited) };
    let bare = ContainerStatus {
        started_at: None,
        finished_at: None,
        exit_code: None,
        reason: String::new(),
        labels: Default::default(),
        image: String::new(),
        image_ref: String::new(),
        ..container("a", Exited)
    };
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Stopped, "a", 100).sees(full.clone()));
    bench.published.clear();
    // A later list shows only content that the record has already.
    let out = bench.apply(&read(200, 210).sees(bare).minimal());
    assert_eq!(out.verdicts, [Verdict::Same]);
    assert_eq!((bench.container("a"), bench.published.len()), (Some(full), 0));
    let bare = SandboxStatus { ips: Vec::new(), ..sandbox("s", NotReady) };
    bench.apply(&read(300, 310).sees_sandbox(sandbox("s", Ready)));
    bench.apply(&event(StreamEventType::Stopped, "s", 320).sees_sandbox(bare).minimal());
    assert_eq!(bench.ips(), ["10.0.0.1"]);
}

#[test]
fn a_stripped_event_requests_a_read() {
    let mut bench = Bench::new();
    let out = bench.apply(&event(StreamEventType::Started, "a", 30).sees(container("a", Running)).minimal());
    assert_eq!(reads(&out, "a"), [(ReadCause::Hint, 0)], "a new id");
    let out = bench.apply(&event(StreamEventType::Stopped, "a", 40).sees(container("a", Exited)).minimal());
    assert_eq!(reads(&out, "a"), [(ReadCause::Hint, 0)], "its exit may have a message");
    let full = ContainerStatus { message: "why".into(), ..container("a", Exited) };
    bench.apply(&read(50, 60).sees(full));
    assert_eq!(bench.container("a").unwrap().message, "why");
}

#[test]
fn a_list_that_agrees_advances_the_interval() {
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Started, "a", 100).sees(container("a", Running)));
    bench.confirm(at(5000));
    let out =
        bench.apply_at(&event(StreamEventType::Stopped, "a", 4000).sees(container("a", Exited)), at(6000));
    assert_eq!(out.verdicts, [Verdict::Stale]);
    assert_eq!(reads(&out, "a"), [(ReadCause::Undecided, 0)], "it is ahead of a younger view");
    let mut differs = |id, phase| {
        let listed = [ListedObject { id, phase: Some(phase), sandbox_id: None }];
        bench.pod.reconcile_list(at(7000), at(7000), &listed).changed.contains(id)
    };
    assert!(!differs("a", Phase::Running));
    assert!(differs("a", Phase::Exited));
    assert!(differs("b", Phase::Running));
}

#[test]
fn containers_come_after_a_sandbox_that_begins_and_before_one_that_ends() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Running)).sees_sandbox(sandbox("s", Ready)));
    bench.apply(&read(200, 210).sees(container("a", Exited)).sees_sandbox(sandbox("s", NotReady)));
    bench.apply(&read(300, 310).misses("s").misses("a"));
    assert_eq!(
        bench.published,
        ["s Started", "a Started", "a Died(3 Error)", "s Died", "a Removed", "s Removed"]
    );
}

/// CRI-O 1.26 sends DELETED when it stops a container, which it still has.
#[test]
fn an_early_deletion_of_an_unknown_id_is_published_only_if_it_is_gone() {
    let mut bench = Bench::on("cri-o", "1.26.0");
    let out = bench.apply(&event(StreamEventType::Deleted, "a", 100));
    assert_eq!((bench.published.len(), reads(&out, "a")), (0, vec![(ReadCause::Deletion, 0)]));
    bench.apply(&read(110, 120).sees(container("a", Created)));
    assert_eq!(bench.published, ["a Changed"], "it exists");
    bench.apply(&event(StreamEventType::Deleted, "b", 200));
    bench.apply(&read(210, 220).misses("b"));
    assert_eq!(bench.published, ["a Changed", "b Died!", "b Removed"]);
}

#[test]
fn a_death_as_listed_does_not_hide_the_start_that_a_list_showed() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Created)));
    let listed = [ListedObject { id: "a", phase: Some(Phase::Running), sandbox_id: None }];
    bench.pod.reconcile_list(at(200), at(200), &listed);
    let ended = ContainerStatus { started_at: None, exit_code: None, ..container("a", Exited) };
    bench.apply(&read(300, 310).sees(ended).minimal());
    assert_eq!(bench.published, ["a Changed", "a Started", "a Died"]);
}

#[test]
fn an_event_adds_the_exit_code_to_a_death_that_was_published_as_listed() {
    let mut bench = Bench::new();
    bench.apply(&read(100, 110).sees(container("a", Running)));
    let ended = ContainerStatus { exit_code: None, reason: String::new(), ..container("a", Exited) };
    bench.apply(&read(300, 310).sees(ended).minimal());
    bench.apply(&event(StreamEventType::Stopped, "a", 400).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Started", "a Died", "a Changed"]);
    assert_eq!(bench.container("a").unwrap().exit_code, Some(3));
}
