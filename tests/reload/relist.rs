//! Keys of the relist and of the calls that it makes, on a plegd in this process in paused time.

use std::time::Duration;

use plegd::{
    config::{Config, Loaded},
    sim::{CallFault, Dose, Method, Profile, Target},
};

use crate::support::World;

const SECOND: Duration = Duration::from_secs(1);

fn adopt(world: &World, change: impl FnOnce(&mut Config)) {
    let in_force = world.app.in_force();
    let mut config = in_force.get().config.clone();
    change(&mut config);
    assert!(!in_force.adopt(&Loaded::of_program(config)).is_empty());
}

/// Times between so many relists, in milliseconds.
async fn intervals(world: &mut World, count: usize) -> Vec<u128> {
    let (mut times, mut calls) = (Vec::new(), world.calls_of(Method::ListPodSandbox));
    while times.len() <= count {
        world.pass(Duration::from_millis(1)).await;
        let now = world.calls_of(Method::ListPodSandbox);
        if now > calls {
            times.push(world.app.clock().now());
        }
        calls = now;
    }
    times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect()
}

#[tokio::test(start_paused = true)]
async fn another_period_holds_before_the_old_one_is_over() {
    let slow = |config: &mut Config| {
        (config.relist.period, config.relist.max_period) = (600 * SECOND, 3600 * SECOND);
        config.relist.jitter = 0.0;
    };
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, slow, |_| ()).await;
    world.pass(10 * SECOND).await;
    let before = world.calls_of(Method::ListPodSandbox);
    world.pass(60 * SECOND).await;
    assert_eq!(world.calls_of(Method::ListPodSandbox), before, "nothing is due for ten minutes");
    adopt(&world, |config| config.relist.period = 2 * SECOND);
    world.pass(3 * SECOND).await;
    assert_eq!(world.calls_of(Method::ListPodSandbox), before + 1);
    world.pass(20 * SECOND).await;
    let made = world.calls_of(Method::ListPodSandbox) - before;
    assert!((9..=12).contains(&made), "{made} in 23 s");
    assert_eq!(world.metric("plegd_relist_period_seconds"), 2.0);
    assert_eq!(world.app.follower_status().period, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn another_longest_period_holds_while_the_stream_is_trusted() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    assert_eq!(world.metric("plegd_relist_period_seconds"), 60.0);
    let before = world.calls_of(Method::ListPodSandbox);
    adopt(&world, |config| config.relist.max_period = 5 * SECOND);
    world.pass(30 * SECOND).await;
    assert_eq!(world.metric("plegd_relist_period_seconds"), 5.0);
    let made = world.calls_of(Method::ListPodSandbox) - before;
    assert!((5..=7).contains(&made), "{made} in 30 s");
    // Trust is kept where it was earned for longer than that.
    assert_eq!(world.app.follower_status().mode, plegd::supervisor::Mode::Evented);
}

#[tokio::test(start_paused = true)]
async fn another_jitter_spreads_the_relists() {
    let even = |config: &mut Config| config.relist.jitter = 0.0;
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, even, |_| ()).await;
    let spread = |intervals: &[u128]| {
        intervals.iter().max().expect("some").abs_diff(*intervals.iter().min().expect("some"))
    };
    let before = intervals(&mut world, 20).await;
    assert!(spread(&before) <= 20, "{before:?}");
    adopt(&world, |config| config.relist.jitter = 0.5);
    let after = intervals(&mut world, 20).await;
    assert!(spread(&after) > 300, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn more_lanes_are_used_at_once() {
    let one = |config: &mut Config| config.relist.parallelism = 1;
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, one, |sim| {
        sim.faults().calls(Method::ContainerStatus, CallFault::Late(SECOND), Dose::Always);
    })
    .await;
    for _ in 0..40 {
        let pod = world.pod();
        world.start(&pod, "c");
    }
    let most = async |world: &mut World| {
        let mut most = 0.0_f64;
        for _ in 0..50 {
            world.pass(Duration::from_millis(100)).await;
            most = most.max(world.metric("plegd_reads_running"));
        }
        most
    };
    assert_eq!(most(&mut world).await, 1.0);
    adopt(&world, |config| config.relist.parallelism = 4);
    assert_eq!(most(&mut world).await, 4.0);
    // A runtime that answers as fast is asked for more.
    adopt(&world, |config| config.relist.parallelism = 6);
    assert_eq!(most(&mut world).await, 6.0);
}

#[tokio::test(start_paused = true)]
async fn another_timeout_holds_for_the_next_call() {
    let patient = |config: &mut Config| config.runtime.request_timeout = 300 * SECOND;
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, patient, |_| ()).await;
    world.pass(10 * SECOND).await;
    let hang = Target::Method(Method::ListPodSandbox);
    let late = "plegd_cri_requests_total{code=\"DeadlineExceeded\",method=\"ListPodSandbox\"}";
    world.sim.faults().hang(hang.clone());
    world.pass(60 * SECOND).await;
    assert_eq!(world.metric(late), 0.0, "it has five minutes");
    world.sim.faults().release(&hang);
    world.pass(10 * SECOND).await;
    adopt(&world, |config| config.runtime.request_timeout = 2 * SECOND);
    world.sim.faults().hang(hang);
    world.pass(60 * SECOND).await;
    assert!(world.metric(late) >= 10.0, "{} in a minute", world.metric(late));
}
