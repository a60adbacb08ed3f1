//! Reads: a failed list is not an empty list, failed reads are retried, a hung read delays no other, fresh reads are fresh.

mod support;

use std::{sync::Arc, time::Duration};

use plegd::{
    app::FreshError,
    model::{ContainerState, EventType, Mode, PodUid},
    sim::{
        CallFault, Dose, Method, Profile, SimRuntime, Target,
        truth::{ContainerSpec, SandboxSpec},
    },
};
use support::{Harness, TestPod};
use tonic::Code;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

fn uid(pod: &TestPod) -> PodUid {
    pod.spec.uid.as_str().into()
}

#[tokio::test(start_paused = true)]
async fn one_hung_pod_delays_no_other() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let pods: Vec<TestPod> = (0..301).map(|_| harness.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| harness.start(pod, "c")).collect();
    harness.until("all starts", |harness| ids.iter().all(|id| harness.history(id).len() == 1)).await;
    harness.pass(5 * SECOND).await;
    let (hung, others) = ids.split_first().expect("301");
    harness.sim.faults().hang(Target::Id(hung.clone()));
    harness.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    let before = harness.events.len();
    harness.pass(3 * SECOND).await;
    assert_eq!(harness.events.len() - before, 300, "within 3 s, while the hung call takes 5 s");
    assert!(others.iter().all(|id| harness.history(id).len() == 2));
    // From now on the hung pod is read in its own lane, and the read is retried.
    harness.pass(MINUTE).await;
    assert_eq!(harness.metric("plegd_pods_failing_reads"), 1.0);
    assert!(harness.metric(r#"plegd_reads_total{cause="relist",result="timeout"}"#) >= 3.0);
    assert!(harness.app.health().live().ok);
    harness.change(|truth| others.iter().for_each(|id| truth.remove_container(id).expect("remove")));
    harness.pass(3 * SECOND).await;
    assert!(others.iter().all(|id| harness.history(id).len() == 3));
    harness.sim.faults().clear();
    harness.pass(40 * SECOND).await;
    // While the read hung, the death was published as listed, without exit code; the later read is published as a change.
    assert_eq!(harness.history(hung), ["Started", "Died", "Changed(Error)"]);
    assert_eq!(harness.metric("plegd_pods_failing_reads"), 0.0);
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_hung_container_delays_no_sibling() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let pod = harness.pod();
    let (hung, sibling) = (harness.start(&pod, "hung"), harness.start(&pod, "sibling"));
    harness
        .until("both starts", |harness| harness.history(&hung).len() + harness.history(&sibling).len() == 2)
        .await;
    harness.sim.faults().hang(Target::Id(hung.clone()));
    harness.change(|truth| truth.exit(&hung, 1).expect("exit"));
    // By now the hung read is retried only every 30 s.
    harness.pass(3 * MINUTE).await;
    harness.change(|truth| truth.exit(&sibling, 2).expect("exit"));
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&sibling), ["Started", "Died(2 Error)"]);
    assert_eq!(harness.history(&hung), ["Started", "Died"], "as listed, since its status cannot be read");
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_retried_and_the_change_is_published() {
    for code in [Code::Internal, Code::Unknown, Code::Unavailable, Code::ResourceExhausted] {
        let mut harness = Harness::new(Profile::CONTAINERD_1_6);
        let pod = harness.pod();
        let ids: Vec<String> = (0..4).map(|n| harness.start(&pod, &format!("c{n}"))).collect();
        harness.pass(3 * SECOND).await;
        harness.sim.faults().calls(Method::ContainerStatus, CallFault::fail(code), Dose::Next(2));
        harness.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
        harness.pass(3 * SECOND).await;
        for id in &ids {
            assert_eq!(harness.history(id), ["Started", "Died(1 Error)"], "{code:?}");
        }
        assert_eq!(harness.metric("plegd_pods_failing_reads"), 0.0, "{code:?}");
        assert_eq!(harness.differences(), NONE, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_ids_of_an_abandoned_read_are_read_again() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    let ids: Vec<String> = (0..5).map(|n| harness.start(&pod, &format!("c{n}"))).collect();
    harness.pass(10 * SECOND).await;
    // The scheduled reads after five exits are one read, whose first call finds the runtime unavailable. No other read would find the new
    // reason.
    harness.change(|truth| ids.iter().for_each(|id| truth.oom(id).expect("oom")));
    harness.pass(SECOND).await;
    let unavailable = CallFault::fail(Code::Unavailable);
    harness.sim.faults().calls(Method::ContainerStatus, unavailable, Dose::Next(1));
    harness.pass(10 * SECOND).await;
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_read_is_not_done_early_because_another_read_failed() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    let id = harness.start(&pod, "greedy");
    harness.pass(10 * SECOND).await;
    let fail = CallFault::fail(Code::Internal);
    harness.sim.faults().calls(Method::PodSandboxStatus, fail, Dose::Next(1));
    let requested_at = harness.app.clock().now();
    assert!(harness.app.pod_newer_than(&uid(&pod), requested_at, SECOND).await.is_err());
    // The retry of that read comes at once, before the runtime sets the new reason.
    harness.change(|truth| truth.oom(&id).expect("oom"));
    harness.pass(10 * SECOND).await;
    assert_eq!(harness.history(&id)[2..], ["Died(137 Error)", "Changed(OOMKilled)"]);
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_failed_list_is_not_an_empty_list() {
    for method in [Method::ListPodSandbox, Method::ListContainers] {
        for fault in [CallFault::fail(Code::Internal), CallFault::Garbage] {
            let mut harness = Harness::new(Profile::CONTAINERD_1_6);
            let pod = harness.pod();
            let ids: Vec<String> = (0..5).map(|n| harness.start(&pod, &format!("c{n}"))).collect();
            harness.pass(5 * SECOND).await;
            let published = harness.events.len();
            harness.sim.faults().calls(method, fault.clone(), Dose::Always);
            harness.pass(2 * MINUTE).await;
            assert_eq!(harness.events.len(), published, "{method} {fault:?}: {:#?}", harness.lines());
            assert_eq!(harness.differences(), NONE);
            let ready = harness.app.health().ready();
            assert!(ready.ok && harness.app.health().live().ok, "{ready:?}");
            assert!(ready.checks.iter().any(|check| check.name == "runtime" && !check.ok), "{ready:?}");
            harness.change(|truth| truth.exit(&ids[0], 0).expect("exit"));
            harness.sim.faults().clear();
            harness.pass(3 * SECOND).await;
            assert_eq!(harness.history(&ids[0]).last().map(String::as_str), Some("Died(0 Completed)"));
            assert!(
                harness.app.health().ready().checks.iter().all(|check| check.name != "runtime" || check.ok)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_the_first_list_and_stays() {
    let fail = |sim: &plegd::sim::SimRuntime| {
        sim.faults().calls(Method::ListContainers, CallFault::fail(Code::Internal), Dose::Always);
    };
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, |_| (), fail).await;
    harness.pass(MINUTE).await;
    let report = harness.app.health().ready();
    assert!(!report.ok && harness.app.health().live().ok);
    assert!(report.checks[0].text.contains("ListContainers"), "it names the failed call: {report:?}");
    harness.sim.faults().clear();
    harness.pass(3 * SECOND).await;
    assert!(harness.app.health().ready().ok);
    harness.sim.crash();
    harness.pass(10 * MINUTE).await;
    assert!(harness.app.health().ready().ok && harness.app.health().live().ok);
}

#[tokio::test(start_paused = true)]
async fn a_list_overtaken_by_events_removes_and_resurrects_nothing() {
    for method in [Method::ListPodSandbox, Method::ListContainers] {
        let mut harness = Harness::new(Profile::CONTAINERD_2_1);
        harness.until_evented().await;
        let pod = harness.pod();
        let doomed = harness.start(&pod, "doomed");
        let ends = harness.start(&pod, "ends");
        harness.pass(2 * SECOND).await;
        harness.sim.faults().calls(method, CallFault::Overtaken(3 * SECOND), Dose::Always);
        let before = harness.calls_of(method);
        for _ in 0..1000 {
            if harness.calls_of(method) > before {
                break;
            }
            harness.pass(Duration::from_millis(100)).await;
        }
        assert!(harness.calls_of(method) > before, "a relist is in flight");
        harness.pass(Duration::from_millis(50)).await;
        harness.change(|truth| truth.exit(&ends, 7).expect("exit"));
        harness.change(|truth| truth.exit(&doomed, 7).expect("exit"));
        harness.pass(Duration::from_millis(100)).await;
        harness.change(|truth| truth.remove_container(&doomed).expect("remove"));
        let newer = harness.start(&pod, "newer");
        let new = harness.pod();
        let in_new = harness.start(&new, "c");
        harness.pass(10 * SECOND).await;
        assert_eq!(harness.history(&doomed), ["Changed", "Started", "Died(7 Error)", "Removed"]);
        assert_eq!(harness.history(&ends), ["Changed", "Started", "Died(7 Error)"]);
        assert_eq!(harness.history(&newer), ["Changed", "Started"]);
        assert_eq!(harness.history(&in_new), ["Changed", "Started"]);
        assert_eq!(harness.history(&new.sandbox), ["Started"]);
        assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn containers_whose_sandbox_is_gone_keep_their_state() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1] {
        let mut harness = Harness::new(profile);
        let pod = harness.pod();
        let ids: Vec<String> = (0..3).map(|n| harness.start(&pod, &format!("c{n}"))).collect();
        harness.change(|truth| truth.exit(&ids[2], 1).expect("exit"));
        harness.pass(5 * SECOND).await;
        let published: Vec<_> = ids.iter().map(|id| harness.history(id)).collect();
        harness.change(|truth| truth.orphan_containers(&pod.sandbox));
        harness.pass(3 * MINUTE).await;
        let after: Vec<_> = ids.iter().map(|id| harness.history(id)).collect();
        assert_eq!(after, published, "{}", profile.name);
        assert_eq!(harness.history(&pod.sandbox), ["Started", "Died!", "Removed"], "{}", profile.name);
        assert_eq!(harness.differences(), NONE, "{}", profile.name);
    }
}

/// Its sandbox was gone before plegd started, so that no relist has shown its pod. The labels in its status name it.
#[tokio::test(start_paused = true)]
async fn a_fresh_read_finds_the_pod_of_a_container_that_outlived_its_sandbox() {
    for by in ["uid", "name", "id"] {
        let (spec, mut id) = (SandboxSpec::of_pod("default", "pod", "uid"), String::new());
        let orphan = |sim: &SimRuntime| {
            id = sim.change(|truth| {
                let sandbox = truth.run_sandbox(spec.clone()).expect("run");
                let container = ContainerSpec::of_pod(&spec, "c", 0, "busybox");
                let id = truth.create_container(&sandbox, container).expect("create");
                truth.orphan_containers(&sandbox);
                id
            });
        };
        let harness = Harness::after(Profile::CONTAINERD_1_6, 1, |_| (), orphan).await;
        let fresh = harness.app.fresh();
        let pod = match by {
            "uid" => fresh.pod(&"uid".into(), harness.app.clock().now()).await.expect("fresh"),
            "name" => fresh.named("default", "pod").await.expect("fresh"),
            _ => {
                fresh.read_of_id(&id).await.expect("fresh");
                harness.app.cache().get(&"uid".into())
            }
        };
        assert!(pod.is_some_and(|pod| pod.container(&id).is_some()), "by {by}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_than_read_is_never_older() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    let unreported = harness.start(&pod, "unreported");
    let gone = harness.start(&pod, "gone");
    harness.pass(2 * SECOND).await;
    // These changes have no event; only a read finds them.
    harness.sim.faults().events(plegd::sim::EventFault::Drop, Dose::Always);
    harness.change(|truth| truth.exit(&unreported, 9).expect("exit"));
    harness.change(|truth| truth.vanish_container(&gone));
    let requested_at = harness.app.clock().now();
    harness.pass(Duration::from_millis(1)).await;
    let before = harness.calls();
    let fresh =
        harness.app.pod_newer_than(&uid(&pod), requested_at, SECOND).await.expect("fresh").expect("there");
    assert_eq!(fresh.container(&unreported).and_then(|container| container.exit_code), Some(9));
    assert_eq!(fresh.container(&gone), None, "the read has confirmed that it is gone");
    assert!(harness.calls() > before);
    // That read began after `requested_at`, so it also answers later requests for the same moment.
    let before = harness.calls();
    let again = harness.app.pod_newer_than(&uid(&pod), requested_at, SECOND).await.expect("fresh");
    assert_eq!((again.as_deref(), harness.calls()), (Some(&*fresh), before));
    let unknown =
        harness.app.pod_newer_than(&"unknown".into(), requested_at, SECOND).await.expect("an answer");
    assert_eq!(unknown, None);
    // A pod without any event is found by a request for it.
    let new = harness.pod();
    let requested_at = harness.app.clock().now();
    let fresh =
        harness.app.pod_newer_than(&uid(&new), requested_at, SECOND).await.expect("fresh").expect("there");
    assert_eq!(fresh.sandboxes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn newer_than_has_a_deadline_and_can_be_cancelled() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(2 * SECOND).await;
    harness.sim.faults().hang(Target::Id(id));
    let requested_at = harness.app.clock().now();
    let uid = uid(&pod);
    let late = harness.app.pod_newer_than(&uid, requested_at, SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(limit)) if limit == SECOND), "{late:?}");
    assert_eq!(harness.app.clock().now().since(requested_at), SECOND);
    let cancelled =
        tokio::time::timeout(SECOND, harness.app.pod_newer_than(&uid, requested_at, MINUTE)).await;
    assert!(cancelled.is_err());
    // A caller with a longer deadline than that of a call gets the call's error.
    let failed = harness.app.pod_newer_than(&uid, requested_at, MINUTE).await;
    assert!(matches!(failed, Err(FreshError::Read(_))), "{failed:?}");
    harness.sim.faults().clear();
    let requested_at = harness.app.clock().now();
    harness.app.pod_newer_than(&uid, requested_at, MINUTE).await.expect("fresh").expect("there");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_share_their_reads() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    harness.start(&pod, "c");
    harness.pass(10 * SECOND).await;
    let before = harness.calls();
    let requested_at = harness.app.clock().now();
    let uid = uid(&pod);
    let late = CallFault::Late(Duration::from_millis(200));
    harness.sim.faults().calls(Method::ContainerStatus, late, Dose::Always);
    let wait = || harness.app.pod_newer_than(&uid, requested_at, MINUTE);
    let (early, late) = tokio::join!(futures::future::join_all((0..5000).map(|_| wait())), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        futures::future::join_all((0..5000).map(|_| wait())).await
    });
    let answers: Vec<_> = early.into_iter().chain(late).collect();
    let first: Arc<_> = answers[0].clone().expect("fresh").expect("there");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Some(pod)) if *pod == first)));
    // A read has two lists and two statuses. The second batch was requested during the first read.
    assert!(harness.calls() - before <= 8, "{} calls", harness.calls() - before);
}

#[tokio::test(start_paused = true)]
async fn an_overflow_of_the_queue_costs_the_stream_and_the_cache_converges() {
    let tiny = |config: &mut plegd::config::Config| config.stream.queue_messages = 4;
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, tiny, |_| ()).await;
    harness.until_evented().await;
    let pods: Vec<TestPod> = (0..20).map(|_| harness.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| harness.start(pod, "c")).collect();
    harness.pass(2 * SECOND).await;
    assert!(harness.metric("plegd_stream_queue_trimmed_total") >= 1.0);
    assert!(harness.metric(r#"plegd_stream_disconnects_total{reason="overflow"}"#) >= 1.0);
    for id in &ids {
        assert_eq!(harness.history(id).last().map(String::as_str), Some("Started"));
    }
    harness.pass(10 * SECOND).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
    harness.until_evented().await;
}

/// An event whose payload was stripped in the queue has no labels: its sandbox is read before any of its events is published.
#[tokio::test(start_paused = true)]
async fn events_past_the_queue_are_published_with_the_labels_of_their_pods() {
    let short_queue = |config: &mut plegd::config::Config| config.stream.queue_messages = 3;
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, short_queue, |_| ()).await;
    harness.until_evented().await;
    for pod in ["one", "two", "three"] {
        let mut spec = SandboxSpec::of_pod("default", pod, pod);
        spec.labels.insert("app".into(), pod.into());
        harness.change(|truth| truth.run_sandbox(spec)).expect("run");
    }
    harness.pass(SECOND).await;
    assert!(harness.metric("plegd_stream_queue_trimmed_total") > 0.0);
    let started: Vec<_> = harness.events.iter().filter(|it| it.kind == EventType::ContainerStarted).collect();
    assert_eq!(started.len(), 3, "{:#?}", harness.lines());
    for record in &harness.events {
        assert_eq!(record.labels.get("app"), Some(&*record.event.pod.name), "{:?}", record.event);
    }
    harness.pass(MINUTE).await;
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_behind_the_journal_gets_a_gap_and_can_read_the_state() {
    let small = |config: &mut plegd::config::Config| config.journal.events = 64;
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, small, |_| ()).await;
    harness.pass(5 * SECOND).await;
    let mut slow = harness.app.journal().cursor(0);
    let pod = harness.pod();
    for n in 0..50 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(Duration::from_millis(20)).await;
        harness.change(|truth| truth.exit(&id, 0).expect("exit"));
        harness.pass(Duration::from_millis(20)).await;
    }
    let gap = slow.try_next().expect_err("151 events do not fit");
    assert_eq!((gap.from, gap.to), (1, 151 - 64));
    let next = slow.try_next().expect("no gap").expect("an event");
    assert_eq!(next.sequence, gap.to + 1);
    let snapshot = harness.served(&pod).expect("served");
    assert_eq!((snapshot.containers.len(), snapshot.sequence), (50, 151));
    assert_eq!(harness.metric("plegd_subscriber_gaps_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_runtime_is_called_as_rarely_as_the_mode_allows() {
    // A relist has two lists: every 60 s in evented mode, 10 s on a shared channel, 1 s in polling mode.
    for (profile, mode, minutes, relists) in [
        (Profile::CONTAINERD_2_1, Mode::Evented, 60, 60),
        (Profile::CONTAINERD_2_4, Mode::Evented, 60, 60),
        (Profile::CONTAINERD_1_7, Mode::Evented, 60, 360),
        (Profile::CRI_O_1_34, Mode::Evented, 60, 60),
        (Profile::CRI_O_1_31_EVENTS_OFF, Mode::Polling, 5, 300),
        (Profile::CONTAINERD_1_6, Mode::Polling, 5, 300),
    ] {
        let mut harness = Harness::new(profile);
        for _ in 0..5 {
            let pod = harness.pod();
            harness.start(&pod, "c");
        }
        harness.pass(5 * MINUTE).await;
        assert_eq!(harness.app.follower_status().mode, mode, "{}", profile.name);
        let statuses = |harness: &Harness| {
            harness.calls_of(Method::ContainerStatus) + harness.calls_of(Method::PodSandboxStatus)
        };
        let (calls, streams) = (harness.calls(), harness.calls_of(Method::GetContainerEvents));
        let read = statuses(&harness);
        harness.pass(minutes * MINUTE).await;
        let (calls, streams) =
            (harness.calls() - calls, harness.calls_of(Method::GetContainerEvents) - streams);
        let (expected, read) = (2 * relists, statuses(&harness) - read);
        let lists = calls - read;
        assert!(
            (expected * 95 / 100..=expected * 105 / 100 + 4).contains(&lists),
            "{}: {lists}",
            profile.name
        );
        // The content of four ids per relist, at most every 10 s.
        let content = 4 * (relists + 1).min(u64::from(minutes) * 6 + 1);
        assert!((1..=content).contains(&read), "{}: {read} statuses", profile.name);
        let tries = if mode == Mode::Polling { 4..=8 } else { 0..=0 };
        assert!(tries.contains(&streams), "{}: {streams} subscriptions", profile.name);
        assert_eq!(harness.events.iter().filter(|event| event.kind == EventType::PodSync).count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn more_hung_pods_than_lanes_delay_the_others_by_at_most_two_deadlines() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let pods: Vec<TestPod> = (0..30).map(|_| harness.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| harness.start(pod, "c")).collect();
    harness.pass(5 * SECOND).await;
    let (hung, others) = ids.split_at(8);
    hung.iter().for_each(|id| harness.sim.faults().hang(Target::Id(id.clone())));
    harness.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    // Eight reads that are not known to hang occupy the four lanes twice.
    harness.pass(13 * SECOND).await;
    assert!(others.iter().all(|id| harness.history(id).len() == 2), "{:#?}", harness.lines());
    harness.pass(MINUTE).await;
    harness.change(|truth| others.iter().for_each(|id| truth.remove_container(id).expect("remove")));
    let new = harness.pod();
    harness.start(&new, "c");
    harness.pass(3 * SECOND).await;
    assert!(
        others.iter().all(|id| harness.history(id).len() == 3),
        "the hung reads have their own lane by now"
    );
    assert_eq!(harness.served(&new).expect("served").containers.len(), 1);
    harness.sim.faults().clear();
    harness.pass(MINUTE).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn lists_of_many_megabytes_are_read() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_4] {
        let many = |sim: &plegd::sim::SimRuntime| {
            sim.change(|truth| {
                for n in 0..100 {
                    let pod = SandboxSpec::of_pod("default", &format!("big-{n}"), &format!("uid-big-{n}"));
                    let sandbox = truth.run_sandbox(pod.clone()).expect("run");
                    let mut spec = ContainerSpec::of_pod(&pod, "c", 0, "busybox");
                    spec.annotations.insert("note".into(), "x".repeat(45_000));
                    let id = truth.create_container(&sandbox, spec).expect("create");
                    truth.start_container(&id).expect("start");
                }
            });
        };
        let mut harness = Harness::after(profile, 1, |_| (), many).await;
        harness.pass(10 * SECOND).await;
        assert_eq!(
            harness.app.cache().counts().containers[ContainerState::Running as usize],
            100,
            "{}",
            profile.name
        );
        assert_eq!(harness.differences(), NONE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_same_name_and_another_uid_is_another_pod() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let old = harness.pod();
    let first = harness.start(&old, "c");
    harness.pass(SECOND).await;
    let spec = SandboxSpec::of_pod("default", &old.spec.name, "uid-of-its-successor");
    let sandbox = harness.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
    let new = TestPod { spec, sandbox };
    let second = harness.start(&new, "c");
    harness.change(|truth| truth.remove_sandbox(&old.sandbox).expect("remove"));
    harness.pass(5 * SECOND).await;
    assert_eq!(harness.history(&first), ["Changed", "Started", "Died(137 Error)", "Removed"]);
    assert_eq!(harness.history(&second), ["Changed", "Started"]);
    assert_eq!((harness.served(&old), harness.served(&new).expect("served").containers.len()), (None, 1));
    assert_eq!(harness.differences(), NONE);
}
