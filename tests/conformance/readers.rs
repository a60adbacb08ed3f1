//! Read requests, their cost, and waiting for conditions.

use std::time::Duration;

use futures::future::join_all;
use plegd::{
    app::FreshError,
    client::{PodRef, WaitCondition},
    config::Config,
    model::ReadCause,
    sim::{CallFault, Dose, Method},
};
use tonic::Code;

use crate::{
    MINUTE, NONE, SECOND, ended, evented, polling,
    support::{World, pipes::Pipes},
    uid,
};

/// Targeted reads, except those that a relist requests because the content was read longest ago.
fn status_reads(world: &World) -> u64 {
    let results = ["ok", "error", "timeout"];
    let of = |cause: &ReadCause| {
        let sample = |result| format!(r#"plegd_reads_total{{cause="{}",result="{result}"}}"#, cause.as_str());
        results.map(|result| world.metric(&sample(result))).iter().sum::<f64>()
    };
    ReadCause::ALL.iter().filter(|cause| **cause != ReadCause::Content).map(of).sum::<f64>() as u64
}

#[tokio::test(start_paused = true)]
async fn a_requested_read_is_done_once_and_publishes_only_changes() {
    let mut world = evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(10 * SECOND).await;
    let (published, reads) = (world.events.len(), status_reads(&world));
    world.app.pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND).await.expect("fresh");
    world.pass(10 * SECOND).await;
    assert_eq!(status_reads(&world) - reads, 1, "one read of the pod");
    assert_eq!(world.events.len(), published, "nothing has changed");
    // The OOM kill has no event; the requested read finds it, and all subscribers receive it.
    world.change(|truth| truth.oom(&id).expect("oom"));
    world.pass(SECOND).await;
    assert_eq!(world.history(&id)[2..], ["Died(137 Error)"]);
    world.app.pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND).await.expect("fresh");
    world.drain();
    assert_eq!(world.history(&id)[2..], ["Died(137 Error)", "Changed(OOMKilled)"]);
}

#[tokio::test(start_paused = true)]
async fn a_requested_read_that_fails_returns_the_error_and_changes_nothing() {
    let mut world = evented().await;
    let pod = world.pod();
    world.start(&pod, "c");
    world.pass(10 * SECOND).await;
    let (published, served) = (world.events.len(), world.served(&pod));
    world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Next(1));
    let failed = world.app.pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND).await;
    assert!(matches!(failed, Err(FreshError::Read(_))), "an error, not a status: {failed:?}");
    let reads = status_reads(&world);
    world.pass(20 * SECOND).await;
    assert_eq!(status_reads(&world), reads, "plegd does not retry; the caller may");
    assert_eq!((world.events.len(), world.served(&pod)), (published, served));
    world
        .app
        .pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND)
        .await
        .expect("fresh")
        .expect("there");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_read_failed_is_read_until_a_read_succeeds() {
    let mut world = polling();
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(3 * SECOND).await;
    let reads = status_reads(&world);
    world.pass(30 * SECOND).await;
    assert_eq!(status_reads(&world), reads, "an unchanged pod costs no read");
    world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Always);
    world.change(|truth| truth.exit(&id, 1).expect("exit"));
    world.pass(30 * SECOND).await;
    assert!(status_reads(&world) >= reads + 5, "the read is retried");
    // A list shows the death, so it is published after bounded retries; a later read adds the exit code.
    let shown = (world.history(&id), world.metric("plegd_pods_failing_reads"));
    assert_eq!(shown, (vec!["Started".to_owned(), "Died".to_owned()], 1.0));
    assert_eq!(world.app.unreadable().all().len(), 1);
    world.sim.faults().clear();
    world.pass(40 * SECOND).await;
    assert_eq!(world.history(&id), ["Started", "Died", "Changed(Error)"]);
    assert!(world.app.unreadable().all().is_empty());
    assert_eq!(world.metric("plegd_pods_failing_reads"), 0.0);
    let reads = status_reads(&world);
    world.pass(MINUTE).await;
    assert_eq!(status_reads(&world), reads);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_removed_while_its_reads_fail_is_no_longer_read() {
    let mut world = polling();
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(3 * SECOND).await;
    world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Next(3));
    world.change(|truth| truth.exit(&id, 1).expect("exit"));
    world.until("a read fails", |world| world.metric("plegd_pods_failing_reads") == 1.0).await;
    world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    world.pass(MINUTE).await;
    assert_eq!((world.served(&pod), world.metric("plegd_pods_failing_reads")), (None, 0.0));
    let reads = status_reads(&world);
    world.pass(MINUTE).await;
    assert_eq!(status_reads(&world), reads);
}

#[tokio::test(start_paused = true)]
async fn a_newer_than_read_reads_only_its_pod_and_shares_reads_with_others() {
    let mut world = evented().await;
    let (a, b) = (world.pod(), world.pod());
    for pod in [&a, &b] {
        world.start(pod, "c");
    }
    world.pass(10 * SECOND).await;
    let fresh = world.app.fresh().clone();
    let (requested_at, before) = (world.app.clock().now(), world.calls());
    world.pass(Duration::from_millis(1)).await;
    // One pod is read; no other becomes newer.
    world.app.pod_newer_than(&uid(&a), requested_at, SECOND).await.expect("fresh");
    assert_eq!(world.calls() - before, 4, "two lists, limited to the pod, and two statuses");
    assert!(fresh.is_newer(&uid(&a), requested_at) && !fresh.is_newer(&uid(&b), requested_at));
    // A moment before an earlier read costs nothing.
    world.app.pod_newer_than(&uid(&a), requested_at, SECOND).await.expect("fresh");
    assert_eq!(world.calls() - before, 4);
    // Concurrent requests share one read.
    let (requested_at, uid_b) = (world.app.clock().now(), uid(&b));
    join_all((0..10).map(|_| world.app.pod_newer_than(&uid_b, requested_at, SECOND))).await;
    assert_eq!(world.calls() - before, 8);
    // A relist reads no unchanged pod, and so does not make it newer.
    let reads = status_reads(&world);
    let requested_at = world.app.clock().now();
    let relists = world.calls_of(Method::ListContainers);
    world.until("a relist", |world| world.calls_of(Method::ListContainers) > relists).await;
    world.pass(SECOND).await;
    assert_eq!(status_reads(&world), reads);
    assert!(!fresh.is_newer(&uid(&a), requested_at));
}

#[tokio::test(start_paused = true)]
async fn newer_than_reads_and_a_concurrent_relist_share_reads() {
    let without_stream = |config: &mut Config| config.stream.enabled = false;
    let mut world = World::after(plegd::sim::Profile::CONTAINERD_2_1, 1, without_stream, |_| ()).await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(3 * SECOND).await;
    let slow = CallFault::Late(Duration::from_millis(100));
    world.sim.faults().calls(Method::ContainerStatus, slow, Dose::Always);
    world.change(|truth| truth.exit(&id, 4).expect("exit"));
    let (requested_at, uid) = (world.app.clock().now(), uid(&pod));
    let reads = status_reads(&world);
    let answers = join_all((0..3).map(|_| world.app.pod_newer_than(&uid, requested_at, MINUTE))).await;
    for answer in answers {
        let pod = answer.expect("fresh").expect("there");
        assert_eq!(pod.container(&id).and_then(|container| container.exit_code), Some(4));
    }
    world.pass(3 * SECOND).await;
    assert_eq!(world.history(&id), ["Started", "Died(4 Error)"], "published once");
    assert!(
        status_reads(&world) - reads <= 4,
        "{} for three readers and a relist",
        status_reads(&world) - reads
    );
}

#[tokio::test(start_paused = true)]
async fn each_condition_on_a_pod_is_met_independently() {
    let mut world = evented().await;
    let pod = world.pod();
    let runs = world.start(&pod, "runs");
    ended(&world, &pod, "ended");
    world.create(&pod, "created");
    world.pass(SECOND).await;
    let (pipes, _) = Pipes::serve(&world.app, Config::default());
    let wait = |condition: WaitCondition| {
        let (client, pod) = (pipes.client(), PodRef::Uid(pod.spec.uid.clone()));
        tokio::spawn(async move { client.wait_for(&pod, &condition, 5 * MINUTE).await })
    };
    let named = |condition: fn(String) -> WaitCondition, name: &str| condition(name.to_owned());
    let met = [
        named(WaitCondition::ContainerRunning, "runs"),
        named(WaitCondition::ContainerExited, "ended"),
        named(WaitCondition::ContainerGone, "never there"),
        WaitCondition::SandboxReady,
    ]
    .map(wait);
    let unmet = [
        named(WaitCondition::ContainerExited, "runs"),
        named(WaitCondition::ContainerRunning, "created"),
        named(WaitCondition::ContainerGone, "ended"),
        WaitCondition::PodGone,
    ]
    .map(wait);
    world.pass(SECOND).await;
    for met in met {
        assert!(met.is_finished(), "the condition holds already");
        met.await.expect("no panic").expect("the condition holds");
    }
    assert!(unmet.iter().all(|waiter| !waiter.is_finished()));
    world.change(|truth| truth.exit(&runs, 0).expect("exit"));
    world.pass(SECOND).await;
    let finished = |waiters: &[tokio::task::JoinHandle<_>]| -> Vec<bool> {
        waiters.iter().map(|waiter| waiter.is_finished()).collect()
    };
    assert_eq!(finished(&unmet), [true, false, false, false]);
    world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    world.pass(SECOND).await;
    assert_eq!(
        finished(&unmet),
        [true, false, true, true],
        "the container that never ran is waited for until the deadline"
    );
    world.pass(6 * MINUTE).await;
    let [exited, never_ran, gone, pod_gone] = unmet;
    assert!(never_ran.await.expect("no panic").is_err());
    for waiter in [exited, gone, pod_gone] {
        waiter.await.expect("no panic").expect("the condition held");
    }
    assert_eq!(world.differences(), NONE);
}
