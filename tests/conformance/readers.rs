//! Who asks for a read, at what price, and who waits for a condition.

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

/// Reads of pods but for those that a relist has done because the content was read longest ago.
fn status_reads(world: &World) -> u64 {
    let results = ["ok", "error", "timeout"];
    let of = |cause: &ReadCause| {
        let sample = |result| format!(r#"plegd_reads_total{{cause="{}",result="{result}"}}"#, cause.as_str());
        results.map(|result| world.metric(&sample(result))).iter().sum::<f64>()
    };
    ReadCause::ALL.iter().filter(|cause| **cause != ReadCause::Content).map(of).sum::<f64>() as u64
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_asked_for_is_done_once_and_tells_only_what_is_new() {
    let mut world = evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(10 * SECOND).await;
    let (told, reads) = (world.told.len(), status_reads(&world));
    world.app.pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND).await.expect("fresh");
    world.pass(10 * SECOND).await;
    assert_eq!(status_reads(&world) - reads, 1, "the pod, once");
    assert_eq!(world.told.len(), told, "nothing has changed");
    // Nothing signals that the kernel killed it for want of memory; the reader who asks learns it, and so do all others.
    world.change(|truth| truth.oom(&id).expect("oom"));
    world.pass(SECOND).await;
    assert_eq!(world.story(&id)[2..], ["Died(137 Error)"]);
    world.app.pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND).await.expect("fresh");
    world.drain();
    assert_eq!(world.story(&id)[2..], ["Died(137 Error)", "Changed(OOMKilled)"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_asked_for_and_fails_says_so_and_changes_nothing() {
    let mut world = evented().await;
    let pod = world.pod();
    world.start(&pod, "c");
    world.pass(10 * SECOND).await;
    let (told, served) = (world.told.len(), world.served(&pod));
    world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Next(1));
    let failed = world.app.pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND).await;
    assert!(
        matches!(failed, Err(FreshError::Read(_))),
        "an error, not a status with an error in it: {failed:?}"
    );
    let reads = status_reads(&world);
    world.pass(20 * SECOND).await;
    assert_eq!(status_reads(&world), reads, "whoever wanted it knows, and may ask again");
    assert_eq!((world.told.len(), world.served(&pod)), (told, served));
    world
        .app
        .pod_newer_than(&uid(&pod), world.app.clock().now(), SECOND)
        .await
        .expect("fresh")
        .expect("there");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_read_failed_is_read_until_that_succeeds_and_then_no_more() {
    let mut world = polling();
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(3 * SECOND).await;
    let reads = status_reads(&world);
    world.pass(30 * SECOND).await;
    assert_eq!(status_reads(&world), reads, "a pod that is as it was costs no read");
    world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Always);
    world.change(|truth| truth.exit(&id, 1).expect("exit"));
    world.pass(30 * SECOND).await;
    assert!(status_reads(&world) >= reads + 5, "tried again and again");
    // A list shows the death, so that it is published in the end, with what can be read later.
    let shown = (world.story(&id), world.metric("plegd_pods_failing_reads"));
    assert_eq!(shown, (vec!["Started".to_owned(), "Died".to_owned()], 1.0));
    assert_eq!(world.app.unreadable().all().len(), 1);
    world.sim.faults().clear();
    world.pass(40 * SECOND).await;
    assert_eq!(world.story(&id), ["Started", "Died", "Changed(Error)"]);
    assert!(world.app.unreadable().all().is_empty());
    assert_eq!(world.metric("plegd_pods_failing_reads"), 0.0);
    let reads = status_reads(&world);
    world.pass(MINUTE).await;
    assert_eq!(status_reads(&world), reads);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_while_its_reads_fail_is_read_no_more() {
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
async fn a_reader_costs_the_reads_of_that_pod_and_only_if_nobody_has_paid_already() {
    let mut world = evented().await;
    let (a, b) = (world.pod(), world.pod());
    for pod in [&a, &b] {
        world.start(pod, "c");
    }
    world.pass(10 * SECOND).await;
    let fresh = world.app.fresh().clone();
    let (asked, before) = (world.app.clock().now(), world.calls());
    world.pass(Duration::from_millis(1)).await;
    // One pod is read and no other becomes any newer by it.
    world.app.pod_newer_than(&uid(&a), asked, SECOND).await.expect("fresh");
    assert_eq!(world.calls() - before, 4, "its sandboxes, their containers, and two statuses");
    assert!(fresh.is_newer(&uid(&a), asked) && !fresh.is_newer(&uid(&b), asked));
    // What is asked for as of a moment that a read has passed costs nothing.
    world.app.pod_newer_than(&uid(&a), asked, SECOND).await.expect("fresh");
    assert_eq!(world.calls() - before, 4);
    // Several who want the same share one read.
    let (asked, uid_b) = (world.app.clock().now(), uid(&b));
    join_all((0..10).map(|_| world.app.pod_newer_than(&uid_b, asked, SECOND))).await;
    assert_eq!(world.calls() - before, 8);
    // A relist reads no pod that is as it was, and so makes nobody newer in what a list does not show.
    let reads = status_reads(&world);
    let asked = world.app.clock().now();
    let relists = world.calls_of(Method::ListContainers);
    world.until("a relist", |world| world.calls_of(Method::ListContainers) > relists).await;
    world.pass(SECOND).await;
    assert_eq!(status_reads(&world), reads);
    assert!(!fresh.is_newer(&uid(&a), asked));
}

#[tokio::test(start_paused = true)]
async fn readers_and_a_relist_at_the_same_time_share_what_they_can() {
    let often = |config: &mut Config| config.stream.enabled = false;
    let mut world = World::after(plegd::sim::Profile::CONTAINERD_2_1, 1, often, |_| ()).await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(3 * SECOND).await;
    let slow = CallFault::Late(Duration::from_millis(100));
    world.sim.faults().calls(Method::ContainerStatus, slow, Dose::Always);
    world.change(|truth| truth.exit(&id, 4).expect("exit"));
    let (asked, uid) = (world.app.clock().now(), uid(&pod));
    let reads = status_reads(&world);
    let answers = join_all((0..3).map(|_| world.app.pod_newer_than(&uid, asked, MINUTE))).await;
    for answer in answers {
        let pod = answer.expect("fresh").expect("there");
        assert_eq!(pod.container(&id).and_then(|container| container.exit_code), Some(4));
    }
    world.pass(3 * SECOND).await;
    assert_eq!(world.story(&id), ["Started", "Died(4 Error)"], "whoever was first");
    assert!(
        status_reads(&world) - reads <= 4,
        "{} for three readers and a relist",
        status_reads(&world) - reads
    );
}

#[tokio::test(start_paused = true)]
async fn conditions_on_one_pod_are_met_each_in_its_own_time() {
    let mut world = evented().await;
    let pod = world.pod();
    let runs = world.start(&pod, "runs");
    ended(&world, &pod, "ended");
    world.create(&pod, "made");
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
        named(WaitCondition::ContainerRunning, "made"),
        named(WaitCondition::ContainerGone, "ended"),
        WaitCondition::PodGone,
    ]
    .map(wait);
    world.pass(SECOND).await;
    for met in met {
        assert!(met.is_finished(), "it holds already");
        met.await.expect("no panic").expect("it holds");
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
        "what never ran is waited for until the deadline"
    );
    world.pass(6 * MINUTE).await;
    let [exited, never_ran, gone, pod_gone] = unmet;
    assert!(never_ran.await.expect("no panic").is_err());
    for waiter in [exited, gone, pod_gone] {
        waiter.await.expect("no panic").expect("it held");
    }
    assert_eq!(world.differences(), NONE);
}
