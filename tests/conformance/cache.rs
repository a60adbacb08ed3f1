//! The cache and newer-than reads: which are answered at once, and which wait for a read.

use plegd::{
    app::FreshError,
    sim::{CallFault, Dose, Method, Profile, Target},
};
use tonic::Code;

use crate::{
    MINUTE, NONE, SECOND, ended, evented, polling,
    support::{Harness, TestPod},
    uid,
};

#[tokio::test(start_paused = true)]
async fn before_the_first_list_a_newer_than_read_reads_by_itself_or_exceeds_its_deadline() {
    let stuck = Target::Method(Method::ListContainers);
    let hang = |sim: &plegd::sim::SimRuntime| sim.faults().hang(stuck.clone());
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, |_| (), hang).await;
    let pod = harness.pod();
    let requested_at = harness.app.clock().now();
    let late = harness.app.pod_newer_than(&uid(&pod), requested_at, SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(_))), "the pod is not known yet: {late:?}");
    assert!(!harness.app.health().ready().ok);
    harness.sim.faults().clear();
    let fresh =
        harness.app.pod_newer_than(&uid(&pod), requested_at, MINUTE).await.expect("fresh").expect("there");
    assert_eq!(fresh.sandboxes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn newer_than_is_answered_from_the_cache_only_after_a_newer_read() {
    // Whether the pod's last read, and the last list, are newer than the requested moment.
    for (read_is_newer, list_is_newer) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut harness = evented().await;
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.pass(SECOND).await;
        let read = async |harness: &Harness| {
            let now = harness.app.clock().now();
            harness.app.pod_newer_than(&uid(&pod), now, SECOND).await.expect("fresh");
        };
        read(&harness).await;
        harness.pass(SECOND).await;
        let requested_at = harness.app.clock().now();
        harness.pass(SECOND / 100).await;
        if read_is_newer {
            read(&harness).await;
        }
        if list_is_newer {
            let lists = harness.calls_of(Method::ListContainers);
            harness.until("a relist", |harness| harness.calls_of(Method::ListContainers) > lists).await;
        }
        harness.pass(SECOND / 100).await;
        let calls = harness.calls();
        let fresh = harness
            .app
            .pod_newer_than(&uid(&pod), requested_at, SECOND)
            .await
            .expect("fresh")
            .expect("there");
        assert!(fresh.container(&id).is_some());
        // A list shows only phases, so it does not refresh a pod: plegd reads instead of waiting.
        assert_eq!(harness.calls() == calls, read_is_newer, "{read_is_newer} {list_is_newer}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_absent_pod_is_none_once_a_read_has_confirmed_it() {
    let mut harness = evented().await;
    let absent = "uid-of-nobody".into();
    assert_eq!(harness.app.cache().get(&absent), None, "not an empty status");
    let (requested_at, calls) = (harness.app.clock().now(), harness.calls());
    assert_eq!(harness.app.pod_newer_than(&absent, requested_at, SECOND).await.expect("an answer"), None);
    assert!(harness.calls() > calls);
    harness.sim.faults().hang(Target::Method(Method::ListPodSandbox));
    harness.pass(SECOND).await;
    let late = harness.app.pod_newer_than(&absent, harness.app.clock().now(), SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(_))), "not reported absent without a read: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn the_cache_serves_the_last_known_state_and_an_error_is_not_a_status() {
    let mut harness = polling();
    let (three, bare) = (harness.pod(), harness.pod());
    let ids = [harness.start(&three, "a"), ended(&harness, &three, "b"), harness.create(&three, "c")];
    harness.pass(2 * SECOND).await;
    let served = harness.served(&three).expect("served");
    let states = ids.map(|id| served.container(&id).map(|container| container.state.as_str()));
    assert_eq!(states, [Some("running"), Some("exited"), Some("created")]);
    assert_eq!(harness.served(&bare).expect("served").containers.len(), 0);
    assert_eq!(harness.differences(), NONE, "all fields are equal");
    harness.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Always);
    let unreadable = harness.start(&three, "d");
    harness.pass(10 * SECOND).await;
    let held = harness.served(&three).expect("the last known state is still served");
    let (listed, known): (Vec<_>, Vec<_>) =
        held.containers.iter().cloned().partition(|container| container.id.as_str() == unreadable);
    assert_eq!(known, served.containers);
    // A container that a list shows and that no read has returned is served as listed.
    assert_eq!(
        listed.iter().map(|it| (it.state.as_str(), it.started_at)).collect::<Vec<_>>(),
        [("running", None)]
    );
    let failed = harness.app.pod_newer_than(&uid(&three), harness.app.clock().now(), SECOND).await;
    assert!(
        matches!(failed, Err(FreshError::Read(_))),
        "the caller of newer-than gets the error: {failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_pod_is_not_served_and_late_events_do_not_resurrect_it() {
    let mut harness = evented().await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(SECOND).await;
    // The events of its end arrive 90 s late, and twice.
    let late = plegd::sim::EventFault::Delay(90 * SECOND);
    harness.sim.faults().events(late, Dose::Always);
    harness.sim.faults().events(plegd::sim::EventFault::Duplicate, Dose::Always);
    harness.change(|truth| {
        truth.exit(&id, 1).expect("exit");
        truth.remove_sandbox(&pod.sandbox).expect("remove");
    });
    harness.sim.faults().clear();
    harness.pass(70 * SECOND).await;
    assert_eq!(harness.served(&pod), None, "the relist has found it");
    let published = harness.events.len();
    harness.pass(2 * MINUTE).await;
    assert_eq!((harness.served(&pod), harness.events.len()), (None, published));
    assert_eq!(harness.violations(), NONE);
}

#[tokio::test(start_paused = true)]
async fn each_waiter_is_released_by_the_read_of_its_own_pod() {
    let mut harness = evented().await;
    let (a, b) = (harness.pod(), harness.pod());
    let [_, stuck] = [&a, &b].map(|pod: &TestPod| harness.start(pod, "c"));
    harness.pass(SECOND).await;
    harness.sim.faults().hang(Target::Id(stuck.clone()));
    let requested_at = harness.app.clock().now();
    let (uid_a, uid_b) = (uid(&a), uid(&b));
    let mut of_b = Box::pin(harness.app.pod_newer_than(&uid_b, requested_at, MINUTE));
    tokio::select! {
        biased;
        answer = &mut of_b => panic!("no read has answered: {answer:?}"),
        answer = harness.app.pod_newer_than(&uid_a, requested_at, MINUTE) => assert!(answer.expect("fresh").is_some()),
    }
    // Neither time nor a list releases a waiter.
    assert!(tokio::time::timeout(2 * SECOND, &mut of_b).await.is_err());
    harness.sim.faults().release(&Target::Id(stuck.clone()));
    let answer = tokio::time::timeout(SECOND, &mut of_b).await.expect("released").expect("fresh");
    assert!(answer.expect("there").container(&stuck).is_some());
}
