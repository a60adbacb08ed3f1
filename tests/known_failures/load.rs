//! Slow runtimes, hung runtimes and many pods: serial reads, readiness that flaps, metrics that do not change.

use std::time::Duration;

use plegd::{
    config::Config,
    sim::{CallFault, Dose, Method, Profile, Target, churn::populate},
};

use crate::{MINUTE, NONE, SECOND, evented, last, support::Harness};

#[tokio::test(start_paused = true)]
async fn kubernetes_95750_slow_reads_of_765_containers_delay_no_list() {
    // As reported: 255 pods with 765 containers, whose statuses took 83 s one after the other, 108 ms each.
    let full = |sim: &plegd::sim::SimRuntime| {
        sim.change(|truth| populate(truth, 1, 255, 3)).expect("populate");
        let slow = CallFault::Late(Duration::from_millis(108));
        sim.faults().calls(Method::ContainerStatus, slow, Dose::Always);
    };
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, |_| (), full).await;
    let relists = |harness: &Harness| harness.calls_of(Method::ListContainers);
    let mut lists = Vec::new();
    for _ in 0..20 {
        let before = relists(&harness);
        harness.pass(SECOND).await;
        lists.push(relists(&harness) - before);
        assert!(harness.app.health().live().ok);
    }
    let regular = lists.windows(2).all(|two| two[0] + two[1] >= 1);
    assert!(
        regular && lists.iter().sum::<u64>() >= 17,
        "one list per second, independent of the reads: {lists:?}"
    );
    // At least four in parallel: at most a quarter of 83 s.
    harness.pass(4 * SECOND).await;
    assert!(harness.app.health().ready().ok);
    assert_eq!(harness.differences(), NONE);
    assert_eq!(harness.metric("plegd_pods_failing_reads"), 0.0);
    // The same when all of them change.
    let ids: Vec<String> = harness.sim.read(|truth| truth.view().containers.keys().cloned().collect());
    harness.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    harness.pass(25 * SECOND).await;
    assert!(ids.iter().all(|id| last(&harness, id) == "Died(1 Error)"));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_26394_reads_run_in_parallel_up_to_the_limit() {
    // The limit grows beyond four only after the runtime has answered four as fast: one more round.
    for (lanes, rounds_more) in [(1, 0), (4, 0), (16, 1)] {
        let parallel = |config: &mut Config| config.relist.parallelism = lanes;
        let full = |sim: &plegd::sim::SimRuntime| {
            sim.change(|truth| populate(truth, 1, 64, 1)).expect("populate");
            sim.faults().calls(Method::ContainerStatus, CallFault::Late(SECOND), Dose::Always);
        };
        let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, parallel, full).await;
        let mut most = 0.0_f64;
        let began = harness.app.clock().now();
        while harness.metric(r#"plegd_containers{state="running"}"#) < 64.0 {
            harness.pass(Duration::from_millis(100)).await;
            most = most.max(harness.metric("plegd_reads_running"));
        }
        let took = harness.app.clock().now().since(began);
        assert_eq!(most, lanes as f64);
        let expected = (64 / lanes as u32 + rounds_more) * SECOND;
        assert!(
            (expected - SECOND..expected + 2 * SECOND).contains(&took),
            "{took:?} with {lanes} in parallel"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_45419_a_hung_runtime_never_makes_the_node_flap() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(SECOND).await;
    let mut flips = 0;
    let mut good = true;
    // Hung for two minutes, then back for two (kubernetes#97362): the lists, the statuses, then all calls.
    for target in [
        Target::Method(Method::ListPodSandbox),
        Target::Method(Method::ListContainers),
        Target::Method(Method::ContainerStatus),
        Target::Method(Method::PodSandboxStatus),
        Target::Process,
    ] {
        for hung in [true, false] {
            if hung {
                harness.sim.faults().hang(target.clone());
            } else {
                harness.sim.faults().release(&target);
            }
            for _ in 0..120 {
                harness.pass(SECOND).await;
                let health = harness.app.health();
                let now = health.live().ok && health.ready().ok;
                flips += u32::from(now != good);
                good = now;
            }
        }
    }
    assert_eq!((flips, good), (0, true));
    harness.change(|truth| truth.exit(&id, 1).expect("exit"));
    harness.pass(2 * SECOND).await;
    assert_eq!(last(&harness, &id), "Died(1 Error)");
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_87108_the_metrics_show_a_relist_that_hangs_while_it_hangs() {
    let long_timeout = |config: &mut Config| config.runtime.request_timeout = 4 * MINUTE;
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, long_timeout, |_| ()).await;
    harness.pass(10 * SECOND).await;
    let since = "plegd_relist_in_progress_since_timestamp_seconds";
    harness.sim.faults().hang(Target::Method(Method::ListContainers));
    harness.pass(5 * SECOND).await;
    let began = harness.metric(since);
    for n in 1..=3 {
        harness.pass(MINUTE).await;
        assert_eq!((harness.metric("plegd_relist_in_progress"), harness.metric(since)), (1.0, began));
        let now = harness.app.clock().wall().as_nanos() as f64 / 1e9;
        assert!(now - began >= f64::from(n) * 60.0, "its age grows while it hangs");
        assert!(now - harness.metric("plegd_relist_last_success_timestamp_seconds") >= f64::from(n) * 60.0);
        assert!(harness.app.health().live().ok);
    }
    harness.sim.faults().clear();
    harness.pass(3 * SECOND).await;
    assert_eq!(harness.metric(since), 0.0);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_45278_the_relist_period_is_configurable() {
    let often = |config: &mut Config| {
        config.stream.enabled = false;
        config.relist.period = Duration::from_millis(100);
    };
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, often, |_| ()).await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    for n in 0..20 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(Duration::from_millis(115)).await;
        assert_eq!(harness.history(&id), ["Started"], "within 115 ms");
    }
    // With the stream a shorter period is not needed.
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(Duration::from_millis(1)).await;
    assert_eq!(harness.history(&id), ["Changed", "Started"]);
}
