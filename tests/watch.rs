//! Watches within the process, one guarantee per test: start positions, updates, slow subscribers.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use plegd::{
    config::Config,
    model::{EventType, Mode, Position},
    sim::{Profile, truth::SandboxSpec},
    watch::{Filter, GapReason, Request, SlowPolicy, Start, Update, Watch, WatchError},
};
use support::{Harness, TestPod, word};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn small(config: &mut Config) {
    config.journal.events = 64;
}

/// A harness whose stream is trusted, so that relists are rare.
async fn quiet() -> Harness {
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, small, |_| ()).await;
    harness.until_evented().await;
    harness
}

fn watch(harness: &Harness, request: Request) -> Watch {
    harness.app.watch(request).expect("a request that can be met")
}

fn from(start: Start) -> Request {
    Request { start, ..Request::default() }
}

/// Short text of an update.
fn text(update: &Update) -> String {
    match update {
        Update::Hello(_) => "hello".into(),
        Update::Pod(pod) => format!("pod {}", pod.identity.uid),
        Update::SnapshotEnd { position, pods } => format!("snapshot of {pods} @{}", position.sequence),
        Update::Event { record, skipped: 0 } => format!("{} {}", record.sequence, word(record)),
        Update::Event { record, skipped } => {
            format!("{} {} skipped {skipped}", record.sequence, word(record))
        }
        Update::Bookmark(position) => format!("bookmark {}", position.sequence),
        Update::Gap(gap) => format!("gap {:?} {}..{:?}", gap.reason, gap.from, gap.to),
        Update::Mode { mode, previous } => format!("{previous:?} to {mode:?}"),
        Update::Restarted(restart) => format!("restarted after {}", restart.after),
    }
}

/// All available updates.
fn available(watch: &mut Watch) -> Vec<String> {
    let next = || watch.try_next().expect("the watch continues");
    std::iter::from_fn(next).map(|update| text(&update)).collect()
}

async fn next(watch: &mut Watch) -> String {
    text(&watch.next().await.expect("the watch continues"))
}

/// Creates, starts, ends and removes `count` containers: four events each.
async fn container_runs(harness: &mut Harness, pod: &TestPod, count: usize) {
    for n in 0..count {
        let id = harness.start(pod, &format!("run-{n}"));
        harness.pass(Duration::from_millis(20)).await;
        harness.change(|truth| truth.exit(&id, 0).expect("exit"));
        harness.pass(Duration::from_millis(20)).await;
        harness.change(|truth| truth.remove_container(&id).expect("remove"));
        harness.pass(Duration::from_millis(200)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_relist_a_watch_fails_or_waits_as_requested() {
    let harness = Harness::new(Profile::CONTAINERD_2_1);
    assert_eq!(watch(&harness, Request::default()).try_next().expect_err("too early"), WatchError::NotReady);
    let mut waits = watch(&harness, Request { wait_ready: true, ..Request::default() });
    assert!(waits.try_next().expect("the watch waits").is_none());
    assert_eq!(next(&mut waits).await, "hello");
    assert!(watch(&harness, Request::default()).try_next().is_ok());
}

#[tokio::test(start_paused = true)]
async fn hello_has_the_head_and_the_oldest_position_the_mode_and_the_runtime() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    container_runs(&mut harness, &pod, 20).await;
    let Ok(Update::Hello(hello)) = watch(&harness, Request::default()).next().await else {
        panic!("no hello")
    };
    assert_eq!((hello.head.sequence, hello.oldest), (81, 18));
    assert_eq!(hello.head.epoch, harness.app.journal().epoch());
    assert_eq!(
        (hello.mode, hello.runtime.map(|runtime| runtime.name)),
        (Mode::Evented, Some("containerd".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_as_of_its_position_although_pods_change_meanwhile() {
    let mut harness = quiet().await;
    let pods: Vec<TestPod> = (0..3).map(|_| harness.pod()).collect();
    let first = harness.start(&pods[0], "c");
    harness.pass(SECOND).await;
    let mut watch = watch(&harness, Request::default());
    assert_eq!(next(&mut watch).await, "hello");
    let mut received = vec![next(&mut watch).await];
    harness.change(|truth| truth.exit(&first, 1).expect("exit"));
    harness.change(|truth| truth.remove_sandbox(&pods[2].sandbox).expect("remove"));
    harness.pod();
    harness.pass(SECOND).await;
    let Ok(Update::Pod(pod)) = watch.next().await else { panic!("no pod") };
    assert!(pod.sequence <= 5);
    received.push(format!("pod {}", pod.identity.uid));
    received.push(next(&mut watch).await);
    received.sort();
    assert_eq!(received, ["pod uid-1", "pod uid-2", "pod uid-3"]);
    assert_eq!(next(&mut watch).await, "snapshot of 3 @5");
    let after = available(&mut watch);
    let numbers = (6..=harness.app.journal().head()).map(|n| format!("{n} "));
    assert!(after.len() >= 3, "{after:?}");
    assert!(after.iter().zip(numbers).all(|(word, n)| word.starts_with(&n)), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn start_now_begins_at_hello() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let mut watch = watch(&harness, from(Start::Now));
    assert_eq!(next(&mut watch).await, "hello");
    // The watch was not polled since.
    harness.create(&pod, "c");
    harness.pass(SECOND).await;
    assert_eq!(available(&mut watch), ["2 Changed"]);
    assert_eq!(watch.position(), harness.app.journal().position(2));
}

#[tokio::test(start_paused = true)]
async fn start_oldest_begins_at_the_oldest_event_of_hello_or_with_a_gap() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    container_runs(&mut harness, &pod, 2).await;
    let mut fast = watch(&harness, from(Start::Oldest));
    let mut slow = watch(&harness, from(Start::Oldest));
    assert_eq!(next(&mut slow).await, "hello");
    assert_eq!(available(&mut fast)[..4], ["hello", "1 Started", "2 Changed", "3 Started"]);
    container_runs(&mut harness, &pod, 20).await;
    assert_eq!(available(&mut slow), ["gap Compacted 1..Some(89)", "pod uid-1", "snapshot of 1 @89"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_after_its_position() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    container_runs(&mut harness, &pod, 1).await;
    let journal = harness.app.journal().clone();
    for (after, expected) in [
        (0, &["hello", "1 Started", "2 Changed", "3 Started", "4 Died(0 Completed)", "5 Removed"][..]),
        (3, &["hello", "4 Died(0 Completed)", "5 Removed"]),
        (5, &["hello"]),
    ] {
        let mut watch = watch(&harness, from(Start::After(journal.position(after))));
        assert_eq!(available(&mut watch), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_cannot_be_resumed_is_a_gap_or_an_error_by_policy() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    container_runs(&mut harness, &pod, 20).await;
    let journal = harness.app.journal().clone();
    let foreign = Position { epoch: !journal.epoch(), sequence: 7 };
    for (requested, reason, gap) in [
        (foreign, GapReason::ForeignEpoch, "gap ForeignEpoch 8..None"),
        (journal.position(82), GapReason::InFuture, "gap InFuture 83..None"),
        (journal.position(16), GapReason::Compacted, "gap Compacted 17..Some(81)"),
    ] {
        for slow_policy in [SlowPolicy::Resync, SlowPolicy::LatestPerPod, SlowPolicy::Fail] {
            let mut watch = watch(&harness, Request { slow_policy, ..from(Start::After(requested)) });
            assert_eq!(next(&mut watch).await, "hello");
            if slow_policy != SlowPolicy::Fail {
                assert_eq!(available(&mut watch), [gap, "pod uid-1", "snapshot of 1 @81"], "{slow_policy:?}");
                continue;
            }
            let lost = WatchError::OutOfRange {
                reason,
                position: requested,
                epoch: journal.epoch(),
                oldest: 18,
                head: 81,
            };
            for _ in 0..2 {
                assert_eq!(watch.next().await.expect_err("lost"), lost, "the error is permanent");
            }
        }
    }
    // Two of three subscribers got a gap for each position. None of them was slow.
    let resumed =
        |cause| harness.metric(&format!(r#"plegd_subscriber_resume_gaps_total{{cause="{cause}"}}"#));
    assert_eq!((resumed("other_epoch"), resumed("came_late")), (4.0, 2.0));
    assert_eq!(harness.metric("plegd_subscriber_gaps_total"), 0.0);
    // A watch can resume at the oldest event in the ring.
    let mut watch = watch(&harness, from(Start::After(journal.position(17))));
    assert_eq!(available(&mut watch).len(), 65);
}

#[tokio::test(start_paused = true)]
async fn a_slow_watch_gets_a_gap_or_an_error_by_policy() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let policies = [SlowPolicy::Resync, SlowPolicy::Fail];
    let mut watches =
        policies.map(|slow_policy| watch(&harness, Request { slow_policy, ..from(Start::Oldest) }));
    for watch in &mut watches {
        assert_eq!(available(watch), ["hello", "1 Started"]);
    }
    container_runs(&mut harness, &pod, 20).await;
    let [resyncs, fails] = &mut watches;
    assert_eq!(available(resyncs), ["gap Compacted 2..Some(81)", "pod uid-1", "snapshot of 1 @81"]);
    let lost = fails.next().await;
    assert!(matches!(lost, Err(WatchError::OutOfRange { reason: GapReason::Compacted, .. })), "{lost:?}");
    // Reading on returns the error again, not later events without a gap.
    assert!(fails.try_next().is_err());
    assert_eq!(harness.metric("plegd_subscriber_gaps_total"), 2.0);
    assert_eq!(harness.metric(r#"plegd_subscriber_resume_gaps_total{cause="came_late"}"#), 0.0);
    harness.create(&pod, "late");
    harness.pass(SECOND).await;
    assert_eq!(available(resyncs), ["82 Changed"]);
}

#[tokio::test(start_paused = true)]
async fn the_latest_event_of_a_pod_has_the_number_of_skipped_events() {
    let mut harness = quiet().await;
    let pods: Vec<TestPod> = (0..2).map(|_| harness.pod()).collect();
    harness.pass(SECOND).await;
    let latest = Request { slow_policy: SlowPolicy::LatestPerPod, ..from(Start::Now) };
    let mut slow = watch(&harness, latest.clone());
    assert_eq!(available(&mut slow), ["hello"]);
    let (first, second) = (harness.create(&pods[0], "c"), harness.create(&pods[1], "c"));
    harness.pass(Duration::from_millis(50)).await;
    harness.change(|truth| truth.start_container(&first).expect("start"));
    harness.pass(Duration::from_millis(50)).await;
    harness.change(|truth| truth.exit(&first, 3).expect("exit"));
    harness.pass(Duration::from_millis(50)).await;
    harness.change(|truth| truth.start_container(&second).expect("start"));
    harness.pass(Duration::from_millis(50)).await;
    assert_eq!(harness.lines().len(), 7);
    // Events 3 and 4 are the creations, 5 and 6 belong to the first pod, 7 to the second.
    assert_eq!(available(&mut slow), ["6 Died(3 Error) skipped 2", "7 Started skipped 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_fast_watch_with_latest_per_pod_gets_every_event() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let mut fast = watch(&harness, Request { slow_policy: SlowPolicy::LatestPerPod, ..from(Start::Now) });
    assert_eq!(available(&mut fast), ["hello"]);
    // Without events, a relist finds its start and its end at once: one change, two events.
    harness.sim.faults().events(plegd::sim::EventFault::Drop, plegd::sim::Dose::Always);
    let id = harness.start(&pod, "c");
    harness.change(|truth| truth.exit(&id, 3).expect("exit"));
    harness.until("two events", |harness| harness.history(&id).len() == 2).await;
    assert_eq!(
        available(&mut fast).iter().filter(|word| !word.contains(" to ")).collect::<Vec<_>>(),
        ["2 Started!", "3 Died(3 Error)"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_latest_event_of_a_pod_matches_the_filter() {
    let mut harness = quiet().await;
    let filter = Filter { selector: "!track".parse().expect("a selector"), ..Filter::default() };
    let mut slow =
        watch(&harness, Request { slow_policy: SlowPolicy::LatestPerPod, filter, ..from(Start::Now) });
    assert_eq!(available(&mut slow), ["hello"]);
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let mut spec = SandboxSpec { attempt: 1, ..pod.spec.clone() };
    spec.labels.insert("track".into(), "canary".into());
    harness.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
    harness.pass(SECOND).await;
    harness.change(|truth| truth.run_sandbox(spec).expect("run"));
    harness.pass(SECOND).await;
    // The newest sandbox has the label. The earlier events of the pod must not be lost with it.
    assert_eq!(harness.lines().len(), 3);
    assert_eq!(available(&mut slow), ["1 Started", "2 Died"]);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_on_time_without_events_and_with_filtered_events() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let filter = Filter { namespaces: vec!["elsewhere".into()], ..Filter::default() };
    let request = Request { bookmark_interval: Some(10 * SECOND), filter, ..from(Start::Now) };
    let mut watch = watch(&harness, request);
    assert_eq!(available(&mut watch), ["hello"]);
    let began = harness.app.clock().now();
    for n in 1..=3 {
        assert_eq!(next(&mut watch).await, "bookmark 1");
        assert_eq!(harness.app.clock().now().since(began), n * 10 * SECOND);
    }
    // Filtered events do not delay the bookmark.
    let busy = async {
        for n in 0..9 {
            tokio::time::sleep(SECOND).await;
            harness.create(&pod, &format!("c{n}"));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        word = next(&mut watch) => assert_eq!(word, "bookmark 10"),
        () = busy => {}
    }
    assert_eq!(harness.app.clock().now().since(began), 40 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn after_1024_filtered_events_there_is_a_bookmark() {
    let large = |config: &mut Config| config.journal.events = 4096;
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, large, |_| ()).await;
    harness.until_evented().await;
    let filter = Filter { types: vec![EventType::PodSync], ..Filter::default() };
    let mut watch = watch(&harness, Request { filter, ..from(Start::Now) });
    assert_eq!(available(&mut watch), ["hello"]);
    let pod = harness.pod();
    container_runs(&mut harness, &pod, 256).await;
    assert_eq!(harness.app.journal().head(), 1025);
    assert_eq!(available(&mut watch), ["bookmark 1024"]);
    assert_eq!(watch.position().sequence, 1025);
}

#[tokio::test(start_paused = true)]
async fn each_mode_change_is_delivered_once() {
    let mut harness = quiet().await;
    let mut watch = watch(&harness, from(Start::Now));
    assert_eq!(available(&mut watch), ["hello"]);
    harness.sim.cut_streams(None);
    let mut received = Vec::new();
    while received.last().is_none_or(|last| last != "Probing to Evented") {
        received.push(
            tokio::time::timeout(5 * MINUTE, next(&mut watch)).await.expect("the stream is trusted again"),
        );
        received.retain(|word: &String| !word.starts_with("bookmark"));
    }
    assert_eq!(received, ["Evented to Polling", "Polling to Probing", "Probing to Evented"]);
    // A watch that was not polled gets the net mode change only, which is none.
    let mut unpolled = harness.app.watch(from(Start::Now)).expect("a watch");
    assert_eq!(available(&mut unpolled), ["hello"]);
    harness.sim.cut_streams(None);
    harness.pass(5 * MINUTE).await;
    assert_eq!(available(&mut unpolled), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_a_watch_gets_the_remaining_events_then_a_bookmark_then_an_error() {
    let mut harness = quiet().await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let mut lagging = watch(&harness, from(Start::Oldest));
    let mut begun = watch(&harness, Request::default());
    assert_eq!(next(&mut begun).await, "hello");
    let waits = Harness::new(Profile::CONTAINERD_2_1);
    let mut waiting = watch(&waits, Request { wait_ready: true, ..Request::default() });
    waits.app.stop().await;
    assert_eq!(waiting.next().await.expect_err("over"), WatchError::Ending);
    harness.create(&pod, "c");
    harness.pass(SECOND).await;
    harness.app.stop().await;
    for (watch, expected) in [
        (&mut lagging, &["hello", "1 Started", "2 Changed", "bookmark 2"][..]),
        (&mut begun, &["pod uid-1", "snapshot of 1 @2", "bookmark 2"]),
    ] {
        for expected in expected {
            assert_eq!(next(watch).await, *expected);
        }
        for _ in 0..2 {
            assert_eq!(watch.next().await.expect_err("over"), WatchError::Ending);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn contradictory_requests_are_refused() {
    let harness = quiet().await;
    let latest = Request { slow_policy: SlowPolicy::LatestPerPod, ..Request::default() };
    let types = Filter { types: vec![EventType::ContainerDied], ..Filter::default() };
    let containers = Filter { containers_only: true, ..Filter::default() };
    let every = |interval| Request { bookmark_interval: Some(interval), ..Request::default() };
    for (request, why) in [
        (Request { filter: types, ..latest.clone() }, "the newest event of each pod"),
        (Request { filter: containers, ..latest.clone() }, "the newest event of each pod"),
        (every(Duration::from_millis(99)), "allowed is from 100ms to 1h"),
        (every(61 * MINUTE), "allowed is from 100ms to 1h"),
        (every(Duration::ZERO), "allowed is from 100ms to 1h"),
    ] {
        let refused = harness.app.watch(request).err();
        assert!(matches!(&refused, Some(WatchError::Invalid(text)) if text.contains(why)), "{refused:?}");
    }
    assert!(harness.app.watch(latest).is_ok());
    assert!(harness.app.watch(every(Duration::from_millis(100))).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_selector_matches_the_events_of_a_pod_whose_sandbox_is_gone() {
    let mut harness = quiet().await;
    let filter = Filter { selector: "app=web".parse().expect("a selector"), ..Filter::default() };
    let mut watch = watch(&harness, Request { filter, ..Request::default() });
    assert_eq!(available(&mut watch), ["hello", "snapshot of 0 @0"]);
    let other = harness.pod();
    let mut spec = SandboxSpec::of_pod("default", "web", "uid-web");
    spec.labels.insert("app".into(), "web".into());
    let sandbox = harness.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
    let web = TestPod { spec, sandbox };
    let (id, _) = (harness.start(&web, "c"), harness.start(&other, "c"));
    harness.pass(SECOND).await;
    harness.change(|truth| truth.orphan_containers(&web.sandbox));
    harness.pass(3 * MINUTE).await;
    harness.change(|truth| truth.exit(&id, 0).expect("exit"));
    harness.pass(2 * MINUTE).await;
    let received: Vec<Arc<_>> = std::iter::from_fn(|| watch.try_next().expect("the watch continues"))
        .filter_map(|update| match update {
            Update::Event { record, .. } => Some(record),
            _ => None,
        })
        .collect();
    assert!(received.iter().all(|record| record.event.pod.name.as_ref() == "web"));
    let words: Vec<String> = received.iter().map(|record| word(record)).collect();
    assert_eq!(words, ["Started", "Changed", "Started", "Died!", "Removed", "Died(0 Completed)"]);
    let served = harness.served(&web).expect("served");
    assert!(served.sandboxes.is_empty() && served.labels.contains_key("app"));
}
