//! Timestamps that are wrong, by the clock's error or by more.

use plegd::{
    model::PodUid,
    sim::{CallFault, Dose, EventFault, Method, Profile, Stamp, truth::SandboxSpec},
};

use crate::{MINUTE, MS, SECOND, answer_under_way, create_attempt, support::Harness};

const MINUS_40_MS: i64 = -40_000_000;

/// The wall clock is set back by 40 ms, less than the step margin. A sandbox starts while an older list is in flight.
#[tokio::test(start_paused = true)]
async fn a_ready_sandbox_is_not_published_dead_after_a_small_clock_step() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.pod();
    harness.pass(3 * SECOND).await;
    harness.step_clock(MINUS_40_MS);
    harness.pass(SECOND).await;
    answer_under_way(&mut harness, Method::ListPodSandbox, 30 * MS).await;
    harness.pass(10 * MS).await;
    let pod = harness.pod();
    harness.pass(90 * SECOND).await;
    assert_eq!(harness.history(&pod.sandbox), ["Started"], "{:#?}", harness.lines());
}

#[tokio::test(start_paused = true)]
async fn a_ready_sandbox_is_not_published_dead_for_an_early_timestamp() {
    for early in [10, 100, 300, 5_000] {
        let mut harness = Harness::new(Profile::CONTAINERD_2_1);
        harness.pod();
        harness.pass(10 * SECOND).await;
        answer_under_way(&mut harness, Method::ListPodSandbox, 30 * MS).await;
        harness.pass(10 * MS).await;
        harness.sim.faults().events(EventFault::Stamp(Stamp::Off(-early * 1_000_000)), Dose::Next(2));
        let pod = harness.pod();
        harness.pass(90 * SECOND).await;
        // A sandbox that seems older than a whole list is published as history first; then a change reports that it exists.
        let history = harness.history(&pod.sandbox);
        assert!(
            history == ["Started"] || early > 1000 && history == ["Started", "Changed"],
            "{early} ms early: {history:?}"
        );
        assert_eq!(harness.differences(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_container_is_not_published_twice_after_a_small_clock_step() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(3 * SECOND).await;
    harness.change(|truth| truth.exit(&id, 0).expect("exit"));
    harness.step_clock(MINUS_40_MS);
    harness.pass(SECOND).await;
    answer_under_way(&mut harness, Method::ListContainers, 30 * MS).await;
    harness.pass(10 * MS).await;
    harness.change(|truth| truth.remove_container(&id).expect("remove"));
    harness.pass(90 * SECOND).await;
    assert_eq!(
        harness.history(&id),
        ["Changed", "Started", "Died(0 Completed)", "Removed"],
        "{:#?}",
        harness.lines()
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_sandbox_is_not_published_started_again_after_a_small_clock_step() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    harness.pass(3 * SECOND).await;
    harness.step_clock(MINUS_40_MS);
    harness.pass(SECOND).await;
    let (fresh, now) = (harness.app.fresh().clone(), harness.app.clock().now());
    let uid: PodUid = pod.spec.uid.as_str().into();
    harness.sim.faults().calls(Method::PodSandboxStatus, CallFault::Overtaken(30 * MS), Dose::Next(1));
    let read = tokio::spawn(async move { fresh.pod(&uid, now).await });
    harness.pass(10 * MS).await;
    harness.change(|truth| truth.sandbox_died(&pod.sandbox));
    harness.pass(90 * SECOND).await;
    let _ = read.await;
    assert_eq!(harness.history(&pod.sandbox), ["Started", "Died"], "{:#?}", harness.lines());
}

/// 500 ppm for three hours, while pods come and go.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_slewed_for_hours_changes_nothing() {
    for ppm in [-500, 500] {
        let mut harness = Harness::new(Profile::CONTAINERD_2_1);
        harness.until_evented().await;
        for minute in 0..180 {
            harness.step_clock(60 * 1_000_000_000 * ppm / 1_000_000);
            harness.pass(MINUTE).await;
            if minute % 20 == 0 {
                harness.churn(minute, 5).await;
            }
        }
        harness.pass(2 * MINUTE).await;
        assert_eq!(harness.differences(), [""; 0], "{ppm} ppm");
        assert_eq!(harness.violations(), [""; 0], "{ppm} ppm: {:#?}", harness.lines());
        assert_eq!((harness.app.clock().steps(), harness.missed_events()), (0, 0.0), "{ppm} ppm");
    }
}

/// kubernetes#141754, #135762: the clock was an hour ahead when the first attempt was created.
#[tokio::test(start_paused = true)]
async fn the_newest_container_is_that_of_the_last_attempt_whatever_its_timestamps() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    harness.step_clock(3_600_000_000_000);
    let first = harness.start(&pod, "app");
    harness.change(|truth| truth.exit(&first, 1).expect("exit"));
    harness.step_clock(-3_600_000_000_000);
    let second = create_attempt(&harness, &pod, "app", 1);
    harness.change(|truth| truth.start_container(&second).expect("start"));
    harness.pass(3 * SECOND).await;
    let served = harness.served(&pod).expect("served");
    assert!(served.containers[0].created_at < served.containers[1].created_at);
    let ids: Vec<&str> = served.containers.iter().map(|container| container.id.as_str()).collect();
    assert_eq!(ids, [second, first]);
}

/// containerd 1.7 keeps events for the next subscriber, for hours if there is none.
#[tokio::test(start_paused = true)]
async fn events_that_a_shared_channel_kept_for_hours_are_not_published_again() {
    for hours in [1, 7] {
        let mut harness = Harness::new(Profile::CONTAINERD_1_7);
        harness.pass(3 * SECOND).await;
        harness.sim.faults().calls(
            Method::GetContainerEvents,
            CallFault::fail(tonic::Code::Unavailable),
            Dose::Always,
        );
        harness.sim.cut_streams(None);
        harness.pass(5 * SECOND).await;
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.pass(5 * SECOND).await;
        harness.change(|truth| truth.exit(&id, 0).expect("exit"));
        harness.pass(5 * SECOND).await;
        harness.change(|truth| truth.remove_container(&id).expect("remove"));
        harness.pass(hours * 60 * MINUTE).await;
        // A second removal, so that expired tombstones are dropped.
        let other = harness.start(&pod, "other");
        harness.pass(5 * SECOND).await;
        harness.change(|truth| truth.exit(&other, 0).expect("exit"));
        harness.change(|truth| truth.remove_container(&other).expect("remove"));
        harness.pass(5 * SECOND).await;
        let before = harness.history(&id);
        harness.sim.faults().clear();
        harness.pass(180 * SECOND).await;
        assert_eq!(harness.history(&id), before, "after {hours} h: {:#?}", harness.lines());
    }
}

/// containerd sets `created_at` before the network is set up.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_network_setup_does_not_count_as_detection_latency() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let spec =
        SandboxSpec { network_setup: 2 * SECOND, ..SandboxSpec::of_pod("default", "slow", "uid-slow") };
    let sandbox = harness.change(|truth| truth.run_sandbox(spec)).expect("run");
    harness.pass(5 * SECOND).await;
    assert_eq!(harness.history(&sandbox), ["Started"]);
    let [count, sum] = ["count", "sum"]
        .map(|part| harness.metric(&format!(r#"plegd_detection_latency_seconds_{part}{{source="event"}}"#)));
    assert!(count >= 1.0 && sum < 0.1, "{count} with {sum} s in all");
}

/// Kata: the timestamps of a container come from a guest whose clock is hours off.
#[tokio::test(start_paused = true)]
async fn timestamps_of_a_guest_do_not_count_as_detection_latency() {
    for hours in [-3, 3] {
        let mut harness = Harness::new(Profile::CONTAINERD_2_1);
        harness.until_evented().await;
        let pod = harness.pod();
        let spec = plegd::sim::truth::ContainerSpec {
            clock_offset: hours * 3_600_000_000_000,
            ..plegd::sim::truth::ContainerSpec::of_pod(&pod.spec, "guest", 0, "busybox")
        };
        let id = harness.change(|truth| truth.create_container(&pod.sandbox, spec)).expect("create");
        harness.change(|truth| truth.start_container(&id).expect("start"));
        harness.pass(SECOND).await;
        harness.change(|truth| truth.exit(&id, 0).expect("exit"));
        harness.pass(5 * SECOND).await;
        assert_eq!(harness.history(&id), ["Changed", "Started", "Died(0 Completed)"]);
        let sums = ["event", "read", "relist"].map(|source| {
            harness.metric(&format!(r#"plegd_detection_latency_seconds_sum{{source="{source}"}}"#))
        });
        assert!(sums.iter().sum::<f64>() < 10.0, "{hours} h: {sums:?}");
    }
}

/// The initial inventory may be days old.
#[tokio::test(start_paused = true)]
async fn the_initial_inventory_counts_in_no_latency_and_in_no_comparison() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1] {
        let mut harness = Harness::after(
            profile,
            1,
            |_| (),
            |sim| {
                let spec = SandboxSpec::of_pod("default", "pod", "uid");
                sim.change(|truth| {
                    let sandbox = truth.run_sandbox(spec.clone()).expect("run");
                    let container = plegd::sim::truth::ContainerSpec::of_pod(&spec, "c", 0, "busybox");
                    let id = truth.create_container(&sandbox, container).expect("create");
                    truth.start_container(&id).expect("start");
                });
            },
        )
        .await;
        harness.pass(10 * SECOND).await;
        assert_eq!(harness.events.len(), 2, "{}", profile.name);
        assert!(harness.events.iter().all(|record| record.event.initial), "{}", profile.name);
        for source in ["event", "read", "relist"] {
            let count = format!(r#"plegd_detection_latency_seconds_count{{source="{source}"}}"#);
            assert_eq!(harness.metric(&count), 0.0, "{}, {source}", profile.name);
        }
        for by in ["both", "event_only", "relist_only"] {
            let seen = format!(r#"plegd_transitions_seen_total{{by="{by}"}}"#);
            assert_eq!(harness.metric(&seen), 0.0, "{}, {by}", profile.name);
        }
        let pod = harness.pod();
        harness.pass(5 * SECOND).await;
        let of_it = harness.events.iter().filter(|record| record.event.id.as_str() == pod.sandbox);
        assert!(of_it.clone().count() == 1 && of_it.clone().all(|record| !record.event.initial));
    }
}
