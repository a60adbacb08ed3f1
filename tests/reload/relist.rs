//! Keys of the relist and of CRI calls, on a plegd in this process in paused time.

use std::time::Duration;

use plegd::{
    config::{Config, Loaded},
    sim::{CallFault, Dose, Method, Profile, Target},
};

use crate::support::Harness;

const SECOND: Duration = Duration::from_secs(1);

fn adopt(harness: &Harness, change: impl FnOnce(&mut Config)) {
    let in_force = harness.app.in_force();
    let mut config = in_force.get().config.clone();
    change(&mut config);
    assert!(!in_force.adopt(&Loaded::of_program(config)).is_empty());
}

/// The intervals between `count` relists, in milliseconds.
async fn intervals(harness: &mut Harness, count: usize) -> Vec<u128> {
    let (mut times, mut calls) = (Vec::new(), harness.calls_of(Method::ListPodSandbox));
    while times.len() <= count {
        harness.pass(Duration::from_millis(1)).await;
        let now = harness.calls_of(Method::ListPodSandbox);
        if now > calls {
            times.push(harness.app.clock().now());
        }
        calls = now;
    }
    times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_period_applies_before_the_old_one_ends() {
    let slow = |config: &mut Config| {
        (config.relist.period, config.relist.max_period) = (600 * SECOND, 3600 * SECOND);
        config.relist.jitter = 0.0;
    };
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, slow, |_| ()).await;
    harness.pass(10 * SECOND).await;
    let before = harness.calls_of(Method::ListPodSandbox);
    harness.pass(60 * SECOND).await;
    assert_eq!(harness.calls_of(Method::ListPodSandbox), before, "no relist is due for ten minutes");
    adopt(&harness, |config| config.relist.period = 2 * SECOND);
    harness.pass(3 * SECOND).await;
    assert_eq!(harness.calls_of(Method::ListPodSandbox), before + 1);
    harness.pass(20 * SECOND).await;
    let relists = harness.calls_of(Method::ListPodSandbox) - before;
    assert!((9..=12).contains(&relists), "{relists} in 23 s");
    assert_eq!(harness.metric("plegd_relist_period_seconds"), 2.0);
    assert_eq!(harness.app.follower_status().period, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_new_max_period_applies_while_the_stream_is_trusted() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    assert_eq!(harness.metric("plegd_relist_period_seconds"), 60.0);
    let before = harness.calls_of(Method::ListPodSandbox);
    adopt(&harness, |config| config.relist.max_period = 5 * SECOND);
    harness.pass(30 * SECOND).await;
    assert_eq!(harness.metric("plegd_relist_period_seconds"), 5.0);
    let relists = harness.calls_of(Method::ListPodSandbox) - before;
    assert!((5..=7).contains(&relists), "{relists} in 30 s");
    // The stream stays trusted, because it was trusted at a longer period.
    assert_eq!(harness.app.follower_status().mode, plegd::model::Mode::Evented);
}

#[tokio::test(start_paused = true)]
async fn a_new_jitter_spreads_the_relists() {
    let even = |config: &mut Config| config.relist.jitter = 0.0;
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, even, |_| ()).await;
    let spread = |intervals: &[u128]| {
        intervals.iter().max().expect("some").abs_diff(*intervals.iter().min().expect("some"))
    };
    let before = intervals(&mut harness, 20).await;
    assert!(spread(&before) <= 20, "{before:?}");
    adopt(&harness, |config| config.relist.jitter = 0.5);
    let after = intervals(&mut harness, 20).await;
    assert!(spread(&after) > 300, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_higher_parallelism_applies_at_once() {
    let one = |config: &mut Config| config.relist.parallelism = 1;
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, one, |sim| {
        sim.faults().calls(Method::ContainerStatus, CallFault::Late(SECOND), Dose::Always);
    })
    .await;
    for _ in 0..40 {
        let pod = harness.pod();
        harness.start(&pod, "c");
    }
    let most = async |harness: &mut Harness| {
        let mut most = 0.0_f64;
        for _ in 0..50 {
            harness.pass(Duration::from_millis(100)).await;
            most = most.max(harness.metric("plegd_reads_running"));
        }
        most
    };
    assert_eq!(most(&mut harness).await, 1.0);
    adopt(&harness, |config| config.relist.parallelism = 4);
    assert_eq!(most(&mut harness).await, 4.0);
    // A runtime that answers as fast gets more reads at once.
    adopt(&harness, |config| config.relist.parallelism = 6);
    assert_eq!(most(&mut harness).await, 6.0);
}

#[tokio::test(start_paused = true)]
async fn a_new_request_timeout_applies_to_the_next_call() {
    let long_timeout = |config: &mut Config| config.runtime.request_timeout = 300 * SECOND;
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, long_timeout, |_| ()).await;
    harness.pass(10 * SECOND).await;
    let hang = Target::Method(Method::ListPodSandbox);
    let late = "plegd_cri_requests_total{code=\"DeadlineExceeded\",method=\"ListPodSandbox\"}";
    harness.sim.faults().hang(hang.clone());
    harness.pass(60 * SECOND).await;
    assert_eq!(harness.metric(late), 0.0, "the timeout is five minutes");
    harness.sim.faults().release(&hang);
    harness.pass(10 * SECOND).await;
    adopt(&harness, |config| config.runtime.request_timeout = 2 * SECOND);
    harness.sim.faults().hang(hang);
    harness.pass(60 * SECOND).await;
    assert!(harness.metric(late) >= 10.0, "{} in a minute", harness.metric(late));
}
