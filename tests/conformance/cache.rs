//! The cache and newer-than reads: which are answered at once, and which wait for a read.

use plegd::{
    app::FreshError,
    sim::{CallFault, Dose, Method, Profile, Target},
};
use tonic::Code;

use crate::{
    MINUTE, NONE, SECOND, ended, evented, polling,
    support::{TestPod, World},
    uid,
};

#[tokio::test(start_paused = true)]
async fn before_the_first_list_a_newer_than_read_reads_by_itself_or_exceeds_its_deadline() {
    let stuck = Target::Method(Method::ListContainers);
    let hang = |sim: &plegd::sim::SimRuntime| sim.faults().hang(stuck.clone());
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, |_| (), hang).await;
    let pod = world.pod();
    let requested_at = world.app.clock().now();
    let late = world.app.pod_newer_than(&uid(&pod), requested_at, SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(_))), "the pod is not known yet: {late:?}");
    assert!(!world.app.health().ready().ok);
    world.sim.faults().clear();
    let fresh =
        world.app.pod_newer_than(&uid(&pod), requested_at, MINUTE).await.expect("fresh").expect("there");
    assert_eq!(fresh.sandboxes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn newer_than_is_answered_from_the_cache_only_after_a_newer_read() {
    // Whether the pod's last read, and the last list, are newer than the requested moment.
    for (read_is_newer, list_is_newer) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut world = evented().await;
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.pass(SECOND).await;
        let read = async |world: &World| {
            let now = world.app.clock().now();
            world.app.pod_newer_than(&uid(&pod), now, SECOND).await.expect("fresh");
        };
        read(&world).await;
        world.pass(SECOND).await;
        let requested_at = world.app.clock().now();
        world.pass(SECOND / 100).await;
        if read_is_newer {
            read(&world).await;
        }
        if list_is_newer {
            let lists = world.calls_of(Method::ListContainers);
            world.until("a relist", |world| world.calls_of(Method::ListContainers) > lists).await;
        }
        world.pass(SECOND / 100).await;
        let calls = world.calls();
        let fresh =
            world.app.pod_newer_than(&uid(&pod), requested_at, SECOND).await.expect("fresh").expect("there");
        assert!(fresh.container(&id).is_some());
        // A list shows only phases, so it does not refresh a pod: plegd reads instead of waiting.
        assert_eq!(world.calls() == calls, read_is_newer, "{read_is_newer} {list_is_newer}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_absent_pod_is_none_once_a_read_has_confirmed_it() {
    let mut world = evented().await;
    let absent = "uid-of-nobody".into();
    assert_eq!(world.app.cache().get(&absent), None, "not an empty status");
    let (requested_at, calls) = (world.app.clock().now(), world.calls());
    assert_eq!(world.app.pod_newer_than(&absent, requested_at, SECOND).await.expect("an answer"), None);
    assert!(world.calls() > calls);
    world.sim.faults().hang(Target::Method(Method::ListPodSandbox));
    world.pass(SECOND).await;
    let late = world.app.pod_newer_than(&absent, world.app.clock().now(), SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(_))), "not reported absent without a read: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn the_cache_serves_the_last_known_state_and_an_error_is_not_a_status() {
    let mut world = polling();
    let (three, bare) = (world.pod(), world.pod());
    let ids = [world.start(&three, "a"), ended(&world, &three, "b"), world.create(&three, "c")];
    world.pass(2 * SECOND).await;
    let served = world.served(&three).expect("served");
    let states = ids.map(|id| served.container(&id).map(|container| container.state.as_str()));
    assert_eq!(states, [Some("running"), Some("exited"), Some("created")]);
    assert_eq!(world.served(&bare).expect("served").containers.len(), 0);
    assert_eq!(world.differences(), NONE, "all fields are equal");
    world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Always);
    let unreadable = world.start(&three, "d");
    world.pass(10 * SECOND).await;
    let held = world.served(&three).expect("the last known state is still served");
    let (listed, known): (Vec<_>, Vec<_>) =
        held.containers.iter().cloned().partition(|container| container.id.as_str() == unreadable);
    assert_eq!(known, served.containers);
    // A container that a list shows and that no read has returned is served as listed.
    assert_eq!(
        listed.iter().map(|it| (it.state.as_str(), it.started_at)).collect::<Vec<_>>(),
        [("running", None)]
    );
    let failed = world.app.pod_newer_than(&uid(&three), world.app.clock().now(), SECOND).await;
    assert!(
        matches!(failed, Err(FreshError::Read(_))),
        "the caller of newer-than gets the error: {failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_pod_is_not_served_and_late_events_do_not_resurrect_it() {
    let mut world = evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(SECOND).await;
    // The events of its end arrive 90 s late, and twice.
    let late = plegd::sim::EventFault::Delay(90 * SECOND);
    world.sim.faults().events(late, Dose::Always);
    world.sim.faults().events(plegd::sim::EventFault::Duplicate, Dose::Always);
    world.change(|truth| {
        truth.exit(&id, 1).expect("exit");
        truth.remove_sandbox(&pod.sandbox).expect("remove");
    });
    world.sim.faults().clear();
    world.pass(70 * SECOND).await;
    assert_eq!(world.served(&pod), None, "the relist has found it");
    let published = world.events.len();
    world.pass(2 * MINUTE).await;
    assert_eq!((world.served(&pod), world.events.len()), (None, published));
    assert_eq!(world.absurdities(), NONE);
}

#[tokio::test(start_paused = true)]
async fn each_waiter_is_released_by_the_read_of_its_own_pod() {
    let mut world = evented().await;
    let (a, b) = (world.pod(), world.pod());
    let [_, stuck] = [&a, &b].map(|pod: &TestPod| world.start(pod, "c"));
    world.pass(SECOND).await;
    world.sim.faults().hang(Target::Id(stuck.clone()));
    let requested_at = world.app.clock().now();
    let (uid_a, uid_b) = (uid(&a), uid(&b));
    let mut of_b = Box::pin(world.app.pod_newer_than(&uid_b, requested_at, MINUTE));
    tokio::select! {
        biased;
        answer = &mut of_b => panic!("no read has answered: {answer:?}"),
        answer = world.app.pod_newer_than(&uid_a, requested_at, MINUTE) => assert!(answer.expect("fresh").is_some()),
    }
    // Neither time nor a list releases a waiter.
    assert!(tokio::time::timeout(2 * SECOND, &mut of_b).await.is_err());
    world.sim.faults().release(&Target::Id(stuck.clone()));
    let answer = tokio::time::timeout(SECOND, &mut of_b).await.expect("released").expect("fresh");
    assert!(answer.expect("there").container(&stuck).is_some());
}
