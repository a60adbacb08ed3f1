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
    support::{Harness, pipes::Pipes},
    uid,
};

/// Targeted reads, except those that a relist requests because the content was read longest ago.
fn status_reads(harness: &Harness) -> u64 {
    let results = ["ok", "error", "timeout"];
    let of = |cause: &ReadCause| {
        let sample = |result| format!(r#"plegd_reads_total{{cause="{}",result="{result}"}}"#, cause.as_str());
        results.map(|result| harness.metric(&sample(result))).iter().sum::<f64>()
    };
    ReadCause::ALL.iter().filter(|cause| **cause != ReadCause::Content).map(of).sum::<f64>() as u64
}

#[tokio::test(start_paused = true)]
async fn a_requested_read_is_done_once_and_publishes_only_changes() {
    let mut harness = evented().await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(10 * SECOND).await;
    let (published, reads) = (harness.events.len(), status_reads(&harness));
    harness.app.pod_newer_than(&uid(&pod), harness.app.clock().now(), SECOND).await.expect("fresh");
    harness.pass(10 * SECOND).await;
    assert_eq!(status_reads(&harness) - reads, 1, "one read of the pod");
    assert_eq!(harness.events.len(), published, "nothing has changed");
    // The OOM kill has no event; the requested read finds it, and all subscribers receive it.
    harness.change(|truth| truth.oom(&id).expect("oom"));
    harness.pass(SECOND).await;
    assert_eq!(harness.history(&id)[2..], ["Died(137 Error)"]);
    harness.app.pod_newer_than(&uid(&pod), harness.app.clock().now(), SECOND).await.expect("fresh");
    harness.drain();
    assert_eq!(harness.history(&id)[2..], ["Died(137 Error)", "Changed(OOMKilled)"]);
}

#[tokio::test(start_paused = true)]
async fn a_requested_read_that_fails_returns_the_error_and_changes_nothing() {
    let mut harness = evented().await;
    let pod = harness.pod();
    harness.start(&pod, "c");
    harness.pass(10 * SECOND).await;
    let (published, served) = (harness.events.len(), harness.served(&pod));
    harness.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Next(1));
    let failed = harness.app.pod_newer_than(&uid(&pod), harness.app.clock().now(), SECOND).await;
    assert!(matches!(failed, Err(FreshError::Read(_))), "an error, not a status: {failed:?}");
    let reads = status_reads(&harness);
    harness.pass(20 * SECOND).await;
    assert_eq!(status_reads(&harness), reads, "plegd does not retry; the caller may");
    assert_eq!((harness.events.len(), harness.served(&pod)), (published, served));
    harness
        .app
        .pod_newer_than(&uid(&pod), harness.app.clock().now(), SECOND)
        .await
        .expect("fresh")
        .expect("there");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_read_failed_is_read_until_a_read_succeeds() {
    let mut harness = polling();
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(3 * SECOND).await;
    let reads = status_reads(&harness);
    harness.pass(30 * SECOND).await;
    assert_eq!(status_reads(&harness), reads, "an unchanged pod costs no read");
    harness.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Always);
    harness.change(|truth| truth.exit(&id, 1).expect("exit"));
    harness.pass(30 * SECOND).await;
    assert!(status_reads(&harness) >= reads + 5, "the read is retried");
    // A list shows the death, so it is published after bounded retries; a later read adds the exit code.
    let shown = (harness.history(&id), harness.metric("plegd_pods_failing_reads"));
    assert_eq!(shown, (vec!["Started".to_owned(), "Died".to_owned()], 1.0));
    assert_eq!(harness.app.unreadable().all().len(), 1);
    harness.sim.faults().clear();
    harness.pass(40 * SECOND).await;
    assert_eq!(harness.history(&id), ["Started", "Died", "Changed(Error)"]);
    assert!(harness.app.unreadable().all().is_empty());
    assert_eq!(harness.metric("plegd_pods_failing_reads"), 0.0);
    let reads = status_reads(&harness);
    harness.pass(MINUTE).await;
    assert_eq!(status_reads(&harness), reads);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_removed_while_its_reads_fail_is_no_longer_read() {
    let mut harness = polling();
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(3 * SECOND).await;
    harness.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Next(3));
    harness.change(|truth| truth.exit(&id, 1).expect("exit"));
    harness.until("a read fails", |harness| harness.metric("plegd_pods_failing_reads") == 1.0).await;
    harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    harness.pass(MINUTE).await;
    assert_eq!((harness.served(&pod), harness.metric("plegd_pods_failing_reads")), (None, 0.0));
    let reads = status_reads(&harness);
    harness.pass(MINUTE).await;
    assert_eq!(status_reads(&harness), reads);
}

#[tokio::test(start_paused = true)]
async fn a_newer_than_read_reads_only_its_pod_and_shares_reads_with_others() {
    let mut harness = evented().await;
    let (a, b) = (harness.pod(), harness.pod());
    for pod in [&a, &b] {
        harness.start(pod, "c");
    }
    harness.pass(10 * SECOND).await;
    let fresh = harness.app.fresh().clone();
    let (requested_at, before) = (harness.app.clock().now(), harness.calls());
    harness.pass(Duration::from_millis(1)).await;
    // One pod is read; no other becomes newer.
    harness.app.pod_newer_than(&uid(&a), requested_at, SECOND).await.expect("fresh");
    assert_eq!(harness.calls() - before, 4, "two lists, limited to the pod, and two statuses");
    assert!(fresh.is_newer(&uid(&a), requested_at) && !fresh.is_newer(&uid(&b), requested_at));
    // A moment before an earlier read costs nothing.
    harness.app.pod_newer_than(&uid(&a), requested_at, SECOND).await.expect("fresh");
    assert_eq!(harness.calls() - before, 4);
    // Concurrent requests share one read.
    let (requested_at, uid_b) = (harness.app.clock().now(), uid(&b));
    join_all((0..10).map(|_| harness.app.pod_newer_than(&uid_b, requested_at, SECOND))).await;
    assert_eq!(harness.calls() - before, 8);
    // A relist reads no unchanged pod, and so does not make it newer.
    let reads = status_reads(&harness);
    let requested_at = harness.app.clock().now();
    let relists = harness.calls_of(Method::ListContainers);
    harness.until("a relist", |harness| harness.calls_of(Method::ListContainers) > relists).await;
    harness.pass(SECOND).await;
    assert_eq!(status_reads(&harness), reads);
    assert!(!fresh.is_newer(&uid(&a), requested_at));
}

#[tokio::test(start_paused = true)]
async fn newer_than_reads_and_a_concurrent_relist_share_reads() {
    let without_stream = |config: &mut Config| config.stream.enabled = false;
    let mut harness = Harness::after(plegd::sim::Profile::CONTAINERD_2_1, 1, without_stream, |_| ()).await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(3 * SECOND).await;
    let slow = CallFault::Late(Duration::from_millis(100));
    harness.sim.faults().calls(Method::ContainerStatus, slow, Dose::Always);
    harness.change(|truth| truth.exit(&id, 4).expect("exit"));
    let (requested_at, uid) = (harness.app.clock().now(), uid(&pod));
    let reads = status_reads(&harness);
    let answers = join_all((0..3).map(|_| harness.app.pod_newer_than(&uid, requested_at, MINUTE))).await;
    for answer in answers {
        let pod = answer.expect("fresh").expect("there");
        assert_eq!(pod.container(&id).and_then(|container| container.exit_code), Some(4));
    }
    harness.pass(3 * SECOND).await;
    assert_eq!(harness.history(&id), ["Started", "Died(4 Error)"], "published once");
    assert!(
        status_reads(&harness) - reads <= 4,
        "{} for three readers and a relist",
        status_reads(&harness) - reads
    );
}

#[tokio::test(start_paused = true)]
async fn each_condition_on_a_pod_is_met_independently() {
    let mut harness = evented().await;
    let pod = harness.pod();
    let runs = harness.start(&pod, "runs");
    ended(&harness, &pod, "ended");
    harness.create(&pod, "created");
    harness.pass(SECOND).await;
    let (pipes, _) = Pipes::serve(&harness.app, Config::default());
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
    harness.pass(SECOND).await;
    for met in met {
        assert!(met.is_finished(), "the condition holds already");
        met.await.expect("no panic").expect("the condition holds");
    }
    assert!(unmet.iter().all(|waiter| !waiter.is_finished()));
    harness.change(|truth| truth.exit(&runs, 0).expect("exit"));
    harness.pass(SECOND).await;
    let finished = |waiters: &[tokio::task::JoinHandle<_>]| -> Vec<bool> {
        waiters.iter().map(|waiter| waiter.is_finished()).collect()
    };
    assert_eq!(finished(&unmet), [true, false, false, false]);
    harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    harness.pass(SECOND).await;
    assert_eq!(
        finished(&unmet),
        [true, false, true, true],
        "the container that never ran is waited for until the deadline"
    );
    harness.pass(6 * MINUTE).await;
    let [exited, never_ran, gone, pod_gone] = unmet;
    assert!(never_ran.await.expect("no panic").is_err());
    for waiter in [exited, gone, pod_gone] {
        waiter.await.expect("no panic").expect("the condition held");
    }
    assert_eq!(harness.differences(), NONE);
}
