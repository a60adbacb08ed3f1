//! Watches within the process, one promise each: where they begin, what they tell, what becomes of slow ones.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use plegd::{
    config::Config,
    model::{EventType, Position},
    sim::{Profile, truth::SandboxSpec},
    supervisor::Mode,
    watch::{Filter, GapReason, Request, SlowPolicy, Start, Update, Watch, WatchError},
};
use support::{TestPod, World, word};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn small(config: &mut Config) {
    config.journal.events = 64;
}

/// A world in which the stream is trusted, so that little happens by itself.
async fn quiet() -> World {
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, small, |_| ()).await;
    world.until_evented().await;
    world
}

fn watch(world: &World, request: Request) -> Watch {
    world.app.watch(request).expect("a request that can be met")
}

fn from(start: Start) -> Request {
    Request { start, ..Request::default() }
}

/// In few words.
fn say(update: &Update) -> String {
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
    }
}

/// All that is at hand.
fn at_hand(watch: &mut Watch) -> Vec<String> {
    let next = || watch.try_next().expect("it goes on");
    std::iter::from_fn(next).map(|update| say(&update)).collect()
}

async fn next(watch: &mut Watch) -> String {
    say(&watch.next().await.expect("it goes on"))
}

/// So many lives of one container, of four events each.
async fn lives(world: &mut World, pod: &TestPod, count: usize) {
    for n in 0..count {
        let id = world.start(pod, &format!("life-{n}"));
        world.pass(Duration::from_millis(20)).await;
        world.change(|truth| truth.exit(&id, 0).expect("exit"));
        world.pass(Duration::from_millis(20)).await;
        world.change(|truth| truth.remove_container(&id).expect("remove"));
        world.pass(Duration::from_millis(200)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_relist_a_watch_fails_or_waits_as_it_was_asked() {
    let world = World::new(Profile::CONTAINERD_2_1);
    assert_eq!(watch(&world, Request::default()).try_next().expect_err("too early"), WatchError::NotReady);
    let mut waits = watch(&world, Request { wait_ready: true, ..Request::default() });
    assert!(waits.try_next().expect("it waits").is_none());
    assert_eq!(next(&mut waits).await, "hello");
    assert!(watch(&world, Request::default()).try_next().is_ok());
}

#[tokio::test(start_paused = true)]
async fn hello_says_where_the_journal_stands_and_how_the_runtime_is_followed() {
    let mut world = quiet().await;
    let pod = world.pod();
    lives(&mut world, &pod, 20).await;
    let Ok(Update::Hello(hello)) = watch(&world, Request::default()).next().await else { panic!("no hello") };
    assert_eq!((hello.head.sequence, hello.oldest), (81, 18));
    assert_eq!(hello.head.epoch, world.app.journal().epoch());
    assert_eq!(
        (hello.mode, hello.runtime.map(|runtime| runtime.name)),
        (Mode::Evented, Some("containerd".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_as_of_its_position_whatever_happens_while_it_is_told() {
    let mut world = quiet().await;
    let pods: Vec<TestPod> = (0..3).map(|_| world.pod()).collect();
    let first = world.start(&pods[0], "c");
    world.pass(SECOND).await;
    let mut watch = watch(&world, Request::default());
    assert_eq!(next(&mut watch).await, "hello");
    let mut told = vec![next(&mut watch).await];
    world.change(|truth| truth.exit(&first, 1).expect("exit"));
    world.change(|truth| truth.remove_sandbox(&pods[2].sandbox).expect("remove"));
    world.pod();
    world.pass(SECOND).await;
    let Ok(Update::Pod(pod)) = watch.next().await else { panic!("no pod") };
    assert!(pod.sequence <= 5);
    told.push(format!("pod {}", pod.identity.uid));
    told.push(next(&mut watch).await);
    told.sort();
    assert_eq!(told, ["pod uid-1", "pod uid-2", "pod uid-3"]);
    assert_eq!(next(&mut watch).await, "snapshot of 3 @5");
    let after = at_hand(&mut watch);
    let numbers = (6..=world.app.journal().head()).map(|n| format!("{n} "));
    assert!(after.len() >= 3, "{after:?}");
    assert!(after.iter().zip(numbers).all(|(word, n)| word.starts_with(&n)), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn from_now_on_means_from_hello_on() {
    let mut world = quiet().await;
    let pod = world.pod();
    world.pass(SECOND).await;
    let mut watch = watch(&world, from(Start::Now));
    assert_eq!(next(&mut watch).await, "hello");
    // It has not been asked for anything since.
    world.create(&pod, "c");
    world.pass(SECOND).await;
    assert_eq!(at_hand(&mut watch), ["2 Changed"]);
    assert_eq!(watch.position(), world.app.journal().position(2));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_is_what_hello_says_and_a_gap_if_it_is_no_longer_held() {
    let mut world = quiet().await;
    let pod = world.pod();
    lives(&mut world, &pod, 2).await;
    let mut keeps_up = watch(&world, from(Start::Oldest));
    let mut dawdles = watch(&world, from(Start::Oldest));
    assert_eq!(next(&mut dawdles).await, "hello");
    assert_eq!(at_hand(&mut keeps_up)[..4], ["hello", "1 Started", "2 Changed", "3 Started"]);
    lives(&mut world, &pod, 20).await;
    assert_eq!(at_hand(&mut dawdles), ["gap Compacted 1..Some(89)", "pod uid-1", "snapshot of 1 @89"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_after_the_position_that_it_is_given() {
    let mut world = quiet().await;
    let pod = world.pod();
    lives(&mut world, &pod, 1).await;
    let journal = world.app.journal().clone();
    for (after, expected) in [
        (0, &["hello", "1 Started", "2 Changed", "3 Started", "4 Died(0 Completed)", "5 Removed"][..]),
        (3, &["hello", "4 Died(0 Completed)", "5 Removed"]),
        (5, &["hello"]),
    ] {
        let mut watch = watch(&world, from(Start::After(journal.position(after))));
        assert_eq!(at_hand(&mut watch), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_cannot_be_gone_on_from_is_a_gap_or_an_error_as_was_asked() {
    let mut world = quiet().await;
    let pod = world.pod();
    lives(&mut world, &pod, 20).await;
    let journal = world.app.journal().clone();
    let foreign = Position { epoch: !journal.epoch(), sequence: 7 };
    for (asked, reason, gap) in [
        (foreign, GapReason::ForeignEpoch, "gap ForeignEpoch 8..None"),
        (journal.position(82), GapReason::InFuture, "gap InFuture 83..None"),
        (journal.position(16), GapReason::Compacted, "gap Compacted 17..Some(81)"),
    ] {
        for slow_policy in [SlowPolicy::Resync, SlowPolicy::LatestPerPod, SlowPolicy::Fail] {
            let mut watch = watch(&world, Request { slow_policy, ..from(Start::After(asked)) });
            assert_eq!(next(&mut watch).await, "hello");
            if slow_policy != SlowPolicy::Fail {
                assert_eq!(at_hand(&mut watch), [gap, "pod uid-1", "snapshot of 1 @81"], "{slow_policy:?}");
                continue;
            }
            let lost = WatchError::OutOfRange {
                reason,
                position: asked,
                epoch: journal.epoch(),
                oldest: 18,
                head: 81,
            };
            for _ in 0..2 {
                assert_eq!(watch.next().await.expect_err("lost"), lost, "and it stays so");
            }
        }
    }
    // Two of three subscribers got a gap for each position. None of them was too slow.
    let resumed = |cause| world.metric(&format!(r#"plegd_subscriber_resume_gaps_total{{cause="{cause}"}}"#));
    assert_eq!((resumed("other_epoch"), resumed("came_late")), (4.0, 2.0));
    assert_eq!(world.metric("plegd_subscriber_gaps_total"), 0.0);
    // The oldest that is held can be gone on to.
    let mut watch = watch(&world, from(Start::After(journal.position(17))));
    assert_eq!(at_hand(&mut watch).len(), 65);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_is_too_slow_is_told_or_refused_as_it_asked() {
    let mut world = quiet().await;
    let pod = world.pod();
    world.pass(SECOND).await;
    let policies = [SlowPolicy::Resync, SlowPolicy::Fail];
    let mut watches =
        policies.map(|slow_policy| watch(&world, Request { slow_policy, ..from(Start::Oldest) }));
    for watch in &mut watches {
        assert_eq!(at_hand(watch), ["hello", "1 Started"]);
    }
    lives(&mut world, &pod, 20).await;
    let [resyncs, fails] = &mut watches;
    assert_eq!(at_hand(resyncs), ["gap Compacted 2..Some(81)", "pod uid-1", "snapshot of 1 @81"]);
    let lost = fails.next().await;
    assert!(matches!(lost, Err(WatchError::OutOfRange { reason: GapReason::Compacted, .. })), "{lost:?}");
    // Who would read on all the same is not led to believe that nothing is missing.
    assert!(fails.try_next().is_err());
    assert_eq!(world.metric("plegd_subscriber_gaps_total"), 2.0);
    assert_eq!(world.metric(r#"plegd_subscriber_resume_gaps_total{cause="came_late"}"#), 0.0);
    world.create(&pod, "late");
    world.pass(SECOND).await;
    assert_eq!(at_hand(resyncs), ["82 Changed"]);
}

#[tokio::test(start_paused = true)]
async fn the_latest_of_each_pod_says_how_many_of_that_pod_it_stands_for() {
    let mut world = quiet().await;
    let pods: Vec<TestPod> = (0..2).map(|_| world.pod()).collect();
    world.pass(SECOND).await;
    let latest = Request { slow_policy: SlowPolicy::LatestPerPod, ..from(Start::Now) };
    let mut slow = watch(&world, latest.clone());
    assert_eq!(at_hand(&mut slow), ["hello"]);
    let (first, second) = (world.create(&pods[0], "c"), world.create(&pods[1], "c"));
    world.pass(Duration::from_millis(50)).await;
    world.change(|truth| truth.start_container(&first).expect("start"));
    world.pass(Duration::from_millis(50)).await;
    world.change(|truth| truth.exit(&first, 3).expect("exit"));
    world.pass(Duration::from_millis(50)).await;
    world.change(|truth| truth.start_container(&second).expect("start"));
    world.pass(Duration::from_millis(50)).await;
    assert_eq!(world.lines().len(), 7);
    // 3 and 4 are the creations, 5 and 6 of the first pod, 7 of the second.
    assert_eq!(at_hand(&mut slow), ["6 Died(3 Error) skipped 2", "7 Started skipped 1"]);
}

#[tokio::test(start_paused = true)]
async fn the_latest_of_each_pod_is_every_event_for_who_keeps_up() {
    let mut world = quiet().await;
    let pod = world.pod();
    world.pass(SECOND).await;
    let mut keeps_up = watch(&world, Request { slow_policy: SlowPolicy::LatestPerPod, ..from(Start::Now) });
    assert_eq!(at_hand(&mut keeps_up), ["hello"]);
    // Without events, a relist finds its start and its end at once: one change, two events.
    world.sim.faults().events(plegd::sim::EventFault::Drop, plegd::sim::Dose::Always);
    let id = world.start(&pod, "c");
    world.change(|truth| truth.exit(&id, 3).expect("exit"));
    world.until("told", |world| world.story(&id).len() == 2).await;
    assert_eq!(
        at_hand(&mut keeps_up).iter().filter(|word| !word.contains(" to ")).collect::<Vec<_>>(),
        ["2 Started!", "3 Died(3 Error)"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_latest_is_never_one_that_the_filter_keeps_back() {
    let mut world = quiet().await;
    let filter = Filter { selector: "!track".parse().expect("a selector"), ..Filter::default() };
    let mut slow =
        watch(&world, Request { slow_policy: SlowPolicy::LatestPerPod, filter, ..from(Start::Now) });
    assert_eq!(at_hand(&mut slow), ["hello"]);
    let pod = world.pod();
    world.pass(SECOND).await;
    let mut spec = SandboxSpec { attempt: 1, ..pod.spec.clone() };
    spec.labels.insert("track".into(), "canary".into());
    world.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
    world.pass(SECOND).await;
    world.change(|truth| truth.run_sandbox(spec).expect("run"));
    world.pass(SECOND).await;
    // The sandbox that is newest now is labelled; what came before is not to be swallowed with it.
    assert_eq!(world.lines().len(), 3);
    assert_eq!(at_hand(&mut slow), ["1 Started", "2 Died"]);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_while_nothing_does_and_while_nothing_passes() {
    let mut world = quiet().await;
    let pod = world.pod();
    world.pass(SECOND).await;
    let filter = Filter { namespaces: vec!["elsewhere".into()], ..Filter::default() };
    let request = Request { bookmark_interval: Some(10 * SECOND), filter, ..from(Start::Now) };
    let mut watch = watch(&world, request);
    assert_eq!(at_hand(&mut watch), ["hello"]);
    let began = world.app.clock().now();
    for n in 1..=3 {
        assert_eq!(next(&mut watch).await, "bookmark 1");
        assert_eq!(world.app.clock().now().since(began), n * 10 * SECOND);
    }
    // What does not pass does not put it off.
    let busy = async {
        for n in 0..9 {
            tokio::time::sleep(SECOND).await;
            world.create(&pod, &format!("c{n}"));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        word = next(&mut watch) => assert_eq!(word, "bookmark 10"),
        () = busy => {}
    }
    assert_eq!(world.app.clock().now().since(began), 40 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn after_1024_events_that_do_not_pass_there_is_a_bookmark() {
    let large = |config: &mut Config| config.journal.events = 4096;
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, large, |_| ()).await;
    world.until_evented().await;
    let filter = Filter { types: vec![EventType::PodSync], ..Filter::default() };
    let mut watch = watch(&world, Request { filter, ..from(Start::Now) });
    assert_eq!(at_hand(&mut watch), ["hello"]);
    let pod = world.pod();
    lives(&mut world, &pod, 256).await;
    assert_eq!(world.app.journal().head(), 1025);
    assert_eq!(at_hand(&mut watch), ["bookmark 1024"]);
    assert_eq!(watch.position().sequence, 1025);
}

#[tokio::test(start_paused = true)]
async fn each_change_of_the_mode_is_told_once() {
    let mut world = quiet().await;
    let mut watch = watch(&world, from(Start::Now));
    assert_eq!(at_hand(&mut watch), ["hello"]);
    world.sim.cut_streams(None);
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "Probing to Evented") {
        told.push(tokio::time::timeout(5 * MINUTE, next(&mut watch)).await.expect("it is trusted again"));
        told.retain(|word: &String| !word.starts_with("bookmark"));
    }
    assert_eq!(told, ["Evented to Polling", "Polling to Probing", "Probing to Evented"]);
    // Who has not listened is told what has become of it, which is nothing.
    let mut deaf = world.app.watch(from(Start::Now)).expect("a watch");
    assert_eq!(at_hand(&mut deaf), ["hello"]);
    world.sim.cut_streams(None);
    world.pass(5 * MINUTE).await;
    assert_eq!(at_hand(&mut deaf), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn when_plegd_ends_all_is_told_then_a_bookmark_then_no_more() {
    let mut world = quiet().await;
    let pod = world.pod();
    world.pass(SECOND).await;
    let mut lagging = watch(&world, from(Start::Oldest));
    let mut begun = watch(&world, Request::default());
    assert_eq!(next(&mut begun).await, "hello");
    let waits = World::new(Profile::CONTAINERD_2_1);
    let mut waiting = watch(&waits, Request { wait_ready: true, ..Request::default() });
    waits.app.stop().await;
    assert_eq!(waiting.next().await.expect_err("over"), WatchError::Ending);
    world.create(&pod, "c");
    world.pass(SECOND).await;
    world.app.stop().await;
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
async fn requests_that_contradict_themselves_are_refused() {
    let world = quiet().await;
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
        let refused = world.app.watch(request).err();
        assert!(matches!(&refused, Some(WatchError::Invalid(text)) if text.contains(why)), "{refused:?}");
    }
    assert!(world.app.watch(latest).is_ok());
    assert!(world.app.watch(every(Duration::from_millis(100))).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_selector_lets_a_pod_s_events_through_even_when_its_sandbox_is_gone() {
    let mut world = quiet().await;
    let filter = Filter { selector: "app=web".parse().expect("a selector"), ..Filter::default() };
    let mut watch = watch(&world, Request { filter, ..Request::default() });
    assert_eq!(at_hand(&mut watch), ["hello", "snapshot of 0 @0"]);
    let other = world.pod();
    let mut spec = SandboxSpec::of_pod("default", "web", "uid-web");
    spec.labels.insert("app".into(), "web".into());
    let sandbox = world.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
    let web = TestPod { spec, sandbox };
    let (id, _) = (world.start(&web, "c"), world.start(&other, "c"));
    world.pass(SECOND).await;
    world.change(|truth| truth.orphan_containers(&web.sandbox));
    world.pass(3 * MINUTE).await;
    world.change(|truth| truth.exit(&id, 0).expect("exit"));
    world.pass(2 * MINUTE).await;
    let told: Vec<Arc<_>> = std::iter::from_fn(|| watch.try_next().expect("it goes on"))
        .filter_map(|update| match update {
            Update::Event { record, .. } => Some(record),
            _ => None,
        })
        .collect();
    assert!(told.iter().all(|record| record.event.pod.name.as_ref() == "web"));
    let words: Vec<String> = told.iter().map(|record| word(record)).collect();
    assert_eq!(words, ["Started", "Changed", "Started", "Died!", "Removed", "Died(0 Completed)"]);
    let served = world.served(&web).expect("served");
    assert!(served.sandboxes.is_empty() && served.labels.contains_key("app"));
}
