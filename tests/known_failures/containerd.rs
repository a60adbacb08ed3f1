//! Defects of containerd's stream: events that another client takes, and events that are dropped, replayed, empty, late or never sent.

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    model::Mode,
    sim::{
        Dose, EventFault, Method, Profile, SimRuntime, Target,
        truth::{ContainerSpec, SandboxSpec},
    },
};

use crate::{MINUTE, NONE, SECOND, STARTED, STOPPED, evented, last, support::Harness};

#[tokio::test(start_paused = true)]
async fn containerd_7318_events_taken_by_another_client_are_found_and_counted_as_missed() {
    let mut harness = evented(Profile::CONTAINERD_1_7).await;
    assert_eq!(harness.app.follower_status().period, 10 * SECOND, "the longest period on a shared channel");
    let mut other_client = harness.sim.queue().subscribe();
    let other_task = tokio::spawn(async move { while other_client.next().await.is_some() {} });
    let pod = harness.pod();
    let ids: Vec<String> = (0..20).map(|n| harness.start(&pod, &format!("c{n}"))).collect();
    harness.pass(12 * SECOND).await;
    assert!(ids.iter().all(|id| last(&harness, id) == "Started"), "whichever client received the event");
    harness.pass(3 * SECOND).await;
    assert!(
        harness.missed_events() + harness.metric(r#"plegd_stream_skipped_events_total{type="created"}"#)
            >= 2.0
    );
    assert!(
        harness.app.follower_status().yielded.is_some(),
        "from now on the other client receives all events"
    );
    other_task.abort();
    harness.pass(2 * MINUTE).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_8935_a_channel_that_overflowed_before_the_subscription_causes_no_wrong_event() {
    // Without a subscriber for hours, the runtime has kept the oldest 1000 events and dropped the rest. Then plegd subscribes.
    let busy = |sim: &SimRuntime| {
        let pod = SandboxSpec::of_pod("default", "busy", "uid-busy");
        sim.change(|truth| {
            let sandbox = truth.run_sandbox(pod.clone()).expect("run");
            for n in 0..600 {
                let spec = ContainerSpec::of_pod(&pod, "c", n, "busybox");
                let id = truth.create_container(&sandbox, spec).expect("create");
                truth.start_container(&id).expect("start");
                if n < 590 {
                    truth.exit(&id, 1).expect("exit");
                    truth.remove_container(&id).expect("remove");
                }
            }
        });
    };
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1] {
        let mut harness = Harness::after(profile, 1, |_| (), busy).await;
        let dropped = harness.sim.event_counts().dropped;
        assert_eq!(dropped > 1000, profile.name == "containerd-1.7", "{}: {dropped}", profile.name);
        harness.pass(10 * SECOND).await;
        assert_eq!(harness.events.len(), 11, "{}: the sandbox and its running containers only", profile.name);
        assert!(harness.metric("plegd_stream_replayed_messages_total") >= 1000.0, "{}", profile.name);
        assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0), "{}", profile.name);
        harness.until_evented().await;
    }
}

#[tokio::test(start_paused = true)]
async fn containerd_9661_a_busy_plegd_delays_no_runtime_call() {
    // Each of these calls returns after containerd 2.x has passed its event to every subscriber. The lists hang, so that plegd is busy;
    // its stream must keep receiving.
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    harness.sim.faults().hang(Target::Method(Method::ListPodSandbox));
    harness.sim.faults().hang(Target::Method(Method::ContainerStatus));
    harness.sim.faults().events(EventFault::NoStatuses, Dose::Chance(0.3));
    let spec = SandboxSpec::of_pod("default", "busy", "uid-busy");
    let sandbox = harness.sim.change_and_wait(|truth| truth.run_sandbox(spec.clone())).await.expect("run");
    let began = harness.app.clock().now();
    for n in 0..700 {
        let spec = ContainerSpec::of_pod(&spec, "c", n, "busybox");
        let id = harness
            .sim
            .change_and_wait(|truth| truth.create_container(&sandbox, spec))
            .await
            .expect("create");
        harness.sim.change_and_wait(|truth| truth.start_container(&id)).await.expect("start");
        harness.sim.change_and_wait(|truth| truth.remove_container(&id)).await.expect("remove");
    }
    assert!(harness.app.clock().now().since(began) < SECOND, "no call waits for plegd's other work");
    assert_eq!(harness.sim.queue().blocked(), 0);
    harness.sim.faults().clear();
    harness.pass(2 * MINUTE).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_11108_events_lost_to_a_dead_subscription_are_found_after_the_next_one() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    for n in 0..20 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(2 * SECOND).await;
        // The connection breaks. The runtime notices only when it sends, and loses the events until then.
        harness.sim.cut_streams(Some(tonic::Status::unavailable("cut")));
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(SECOND / 2).await;
        assert_eq!(
            last(&harness, &id),
            "Died(1 Error)",
            "cut {n}: by an immediate relist, not by the next period"
        );
        harness.pass(2 * MINUTE).await;
    }
    assert_eq!((harness.missed_events(), harness.differences()), (0.0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_12390_a_deletion_without_a_sandbox_status_removes_the_pod() {
    let mut harness = evented(Profile::CONTAINERD_1_7).await;
    for _ in 0..5 {
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.pass(SECOND).await;
        let empty = harness.metric("plegd_stream_nil_payloads_total");
        harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        harness.pass(SECOND).await;
        assert!(harness.metric("plegd_stream_nil_payloads_total") > empty, "DELETED has no sandbox status");
        assert_eq!((last(&harness, &id), last(&harness, &pod.sandbox)), ("Removed".into(), "Removed".into()));
        assert_eq!(harness.served(&pod), None);
        let by = harness
            .events
            .iter()
            .rfind(|event| event.id.as_str() == pod.sandbox)
            .map(|event| event.source.as_str());
        assert_eq!(by, Some("event"), "the index has the pod of the id, and no list is needed");
    }
    assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn containerd_7111_an_exit_reported_before_its_start_ends_as_an_exit() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    harness.sim.faults().events_only(STARTED, EventFault::Reorder, Dose::Always);
    for n in 0..20 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.change(|truth| truth.exit(&id, n).expect("exit"));
        harness.pass(2 * SECOND).await;
        assert!(last(&harness, &id).starts_with(&format!("Died({n} ")), "{:?}", harness.history(&id));
        assert_eq!(harness.history(&id).len(), 3);
    }
    assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn containerd_13646_a_stream_that_is_up_and_silent_is_detected_and_relists_go_on() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    // The event exchange is deadlocked: the connection stays open, and no event arrives.
    harness.sim.faults().events(EventFault::Drop, Dose::Always);
    let first = harness.start(&pod, "first");
    let began = harness.app.clock().now();
    harness.until("the start", |harness| last(harness, &first) == "Started").await;
    assert!(
        harness.app.clock().now().since(began) <= 66 * SECOND,
        "within the longest period and its jitter"
    );
    harness.until("a missed event", |harness| harness.missed_events() > 0.0).await;
    harness.pass(SECOND / 10).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Probing, "a silent stream is not trusted");
    for n in 0..20 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(5 * SECOND).await;
        assert_eq!(harness.history(&id), ["Started"], "container {n}");
        assert_eq!(harness.app.follower_status().mode, Mode::Probing);
    }
    assert_eq!(harness.missed_events(), 21.0);
    harness.sim.faults().clear();
    harness.until_evented().await;
}

#[tokio::test(start_paused = true)]
async fn containerd_9770_lists_that_hang_on_one_container_delay_no_event() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    let stuck = harness.start(&pod, "update-hangs");
    harness.pass(SECOND).await;
    harness.sim.faults().hang(Target::Method(Method::ListContainers));
    harness.sim.faults().hang(Target::Id(stuck.clone()));
    for n in 0..30 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(3 * SECOND).await;
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(3 * SECOND).await;
        assert_eq!(harness.history(&id), ["Changed", "Started", "Died(1 Error)"], "container {n}");
    }
    assert!(
        harness.metric(r#"plegd_relists_total{cause="retry",result="error"}"#) >= 5.0,
        "each list has its deadline"
    );
    harness.sim.faults().clear();
    harness.change(|truth| truth.exit(&stuck, 0).expect("exit"));
    harness.pass(10 * SECOND).await;
    assert_eq!((last(&harness, &stuck), harness.differences()), ("Died(0 Completed)".into(), vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_7496_an_exit_reported_minutes_late_is_found_by_the_next_relist() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    for minutes in 2..=5 {
        let id = harness.start(&pod, &format!("c{minutes}"));
        harness.pass(SECOND).await;
        // The event waits until the unmount is done, which takes minutes.
        harness.sim.faults().events_only(STOPPED, EventFault::Delay(minutes * MINUTE), Dose::Next(1));
        harness.change(|truth| truth.exit(&id, 9).expect("exit"));
        harness.pass(70 * SECOND).await;
        assert_eq!(last(&harness, &id), "Died(9 Error)");
        let published = harness.events.len();
        harness.pass(minutes * MINUTE).await;
        assert_eq!(harness.events.len(), published, "the late event publishes nothing");
        harness.until_evented().await;
    }
    assert_eq!(harness.missed_events(), 4.0, "each late event counts as missed");
}

#[tokio::test(start_paused = true)]
async fn containerd_8180_the_reason_oom_killed_is_published_when_the_runtime_sets_it() {
    for (profile, history) in [
        (Profile::CONTAINERD_1_7, &["Died(137 Error)", "Changed(OOMKilled)"][..]),
        (Profile::CONTAINERD_2_1, &["Died(137 Error)", "Changed(OOMKilled)"]),
        (Profile::CONTAINERD_2_3, &["Died(137 OOMKilled)"]),
        (Profile::CRI_O_1_34, &["Died(137 OOMKilled)"]),
    ] {
        let mut harness = evented(profile).await;
        let pod = harness.pod();
        for n in 0..5 {
            let id = harness.start(&pod, &format!("c{n}"));
            harness.pass(SECOND).await;
            harness.change(|truth| truth.oom(&id).expect("oom"));
            harness.pass(3 * SECOND).await;
            assert_eq!(harness.history(&id)[2..], *history, "{}", profile.name);
        }
        assert_eq!(harness.differences(), NONE, "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn containerd_10409_exits_around_a_restart_are_found_whether_reported_or_not() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    for n in 0..5 {
        let pod = harness.pod();
        let [ends, lost, gone, wrong] =
            ["ends", "lost", "gone", "wrong"].map(|name| harness.start(&pod, name));
        harness.pass(2 * SECOND).await;
        harness.sim.crash();
        harness.change(|truth| {
            truth.exit(&ends, 4).expect("exit");
            truth.lose_task(&lost).expect("lose");
            truth.vanish_container(&gone);
        });
        harness.pass(2 * SECOND).await;
        harness.sim.recover_in(SECOND).expect("recover");
        harness.pass(3 * SECOND).await;
        assert_eq!(last(&harness, &ends), "Died(4 Error)", "restart {n}");
        assert_eq!(last(&harness, &lost), "Died(255 Unknown)", "restart {n}");
        assert_eq!(last(&harness, &gone), "Removed", "restart {n}");
        assert_eq!(last(&harness, &wrong), "Started", "restart {n}");
        // The runtime reports it as running until it checks again (containerd#12600), and so does plegd. The exit is then found without an
        // event.
        harness.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
        harness.change(|truth| truth.exit(&wrong, 5).expect("exit"));
        harness.pass(70 * SECOND).await;
        assert_eq!(last(&harness, &wrong), "Died(5 Error)", "restart {n}");
    }
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_9673_a_sandbox_in_removal_keeps_its_creation_time() {
    // Between DELETED and the deletion the status has a creation time in 1754.
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let created_at = harness.served(&pod).expect("served").sandboxes[0].created_at;
    assert!(created_at.is_some());
    harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    harness.pass(Duration::from_millis(1)).await;
    let served = harness.served(&pod).expect("it is still in the store");
    assert_eq!(served.sandboxes[0].created_at, created_at);
    harness.pass(SECOND).await;
    assert_eq!(harness.served(&pod), None);
}
