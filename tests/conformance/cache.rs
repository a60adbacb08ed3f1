//! The cache and `newer than`: what is served at once, what waits, and for what.

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
async fn before_the_first_list_a_reader_has_a_read_of_its_own_or_its_deadline() {
    let stuck = Target::Method(Method::ListContainers);
    let hang = |sim: &plegd::sim::SimRuntime| sim.faults().hang(stuck.clone());
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, |_| (), hang).await;
    let pod = world.pod();
    let asked = world.app.clock().now();
    let late = world.app.pod_newer_than(&uid(&pod), asked, SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(_))), "nobody knows, and nobody says: {late:?}");
    assert!(!world.app.health().ready().ok);
    world.sim.faults().clear();
    let fresh = world.app.pod_newer_than(&uid(&pod), asked, MINUTE).await.expect("fresh").expect("there");
    assert_eq!(fresh.sandboxes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn newer_than_is_answered_at_once_if_a_read_was_newer_and_by_a_read_if_not() {
    // Whether the pod's last read, and the last list of all, are newer than what is asked for.
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
        let asked = world.app.clock().now();
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
        let fresh = world.app.pod_newer_than(&uid(&pod), asked, SECOND).await.expect("fresh").expect("there");
        assert!(fresh.container(&id).is_some());
        // A list shows phases and nothing else, so it makes nobody newer: plegd's answer is a read, not a wait.
        assert_eq!(world.calls() == calls, read_is_newer, "{read_is_newer} {list_is_newer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_there_is_none_and_a_read_proves_it() {
    let mut world = evented().await;
    let nobody = "uid-of-nobody".into();
    assert_eq!(world.app.cache().get(&nobody), None, "not an empty status");
    let (asked, calls) = (world.app.clock().now(), world.calls());
    assert_eq!(world.app.pod_newer_than(&nobody, asked, SECOND).await.expect("an answer"), None);
    assert!(world.calls() > calls);
    world.sim.faults().hang(Target::Method(Method::ListPodSandbox));
    world.pass(SECOND).await;
    let late = world.app.pod_newer_than(&nobody, world.app.clock().now(), SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(_))), "it is not said to be gone unseen: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_served_as_it_is_and_an_error_is_no_status() {
    let mut world = polling();
    let (three, bare) = (world.pod(), world.pod());
    let ids = [world.start(&three, "a"), ended(&world, &three, "b"), world.create(&three, "c")];
    world.pass(2 * SECOND).await;
    let served = world.served(&three).expect("served");
    let states = ids.map(|id| served.container(&id).map(|container| container.state.as_str()));
    assert_eq!(states, [Some("running"), Some("exited"), Some("created")]);
    assert_eq!(world.served(&bare).expect("served").containers.len(), 0);
    assert_eq!(world.differences(), NONE, "to the last field");
    world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Internal), Dose::Always);
    let unreadable = world.start(&three, "d");
    world.pass(10 * SECOND).await;
    let held = world.served(&three).expect("what was known is served on, for all that fails");
    let (listed, known): (Vec<_>, Vec<_>) =
        held.containers.iter().cloned().partition(|container| container.id.as_str() == unreadable);
    assert_eq!(known, served.containers);
    // What lists show, and no status, is served as listed.
    assert_eq!(
        listed.iter().map(|it| (it.state.as_str(), it.started_at)).collect::<Vec<_>>(),
        [("running", None)]
    );
    let failed = world.app.pod_newer_than(&uid(&three), world.app.clock().now(), SECOND).await;
    assert!(matches!(failed, Err(FreshError::Read(_))), "whoever wants it newer hears the error: {failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_is_served_no_more_and_late_events_do_not_bring_it_back() {
    let mut world = evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(SECOND).await;
    // All that is said of its end comes a minute and a half later, and twice.
    let late = plegd::sim::EventFault::Delay(90 * SECOND);
    world.sim.faults().events(late, Dose::Always);
    world.sim.faults().events(plegd::sim::EventFault::Duplicate, Dose::Always);
    world.change(|truth| {
        truth.exit(&id, 1).expect("exit");
        truth.remove_sandbox(&pod.sandbox).expect("remove");
    });
    world.sim.faults().clear();
    world.pass(70 * SECOND).await;
    assert_eq!(world.served(&pod), None, "the relist has seen it");
    let told = world.told.len();
    world.pass(2 * MINUTE).await;
    assert_eq!((world.served(&pod), world.told.len()), (None, told));
    assert_eq!(world.absurdities(), NONE);
}

#[tokio::test(start_paused = true)]
async fn each_waiter_is_released_by_the_read_of_its_own_pod() {
    let mut world = evented().await;
    let (a, b) = (world.pod(), world.pod());
    let [_, stuck] = [&a, &b].map(|pod: &TestPod| world.start(pod, "c"));
    world.pass(SECOND).await;
    world.sim.faults().hang(Target::Id(stuck.clone()));
    let asked = world.app.clock().now();
    let (uid_a, uid_b) = (uid(&a), uid(&b));
    let mut of_b = Box::pin(world.app.pod_newer_than(&uid_b, asked, MINUTE));
    tokio::select! {
        biased;
        answer = &mut of_b => panic!("nobody has read it: {answer:?}"),
        answer = world.app.pod_newer_than(&uid_a, asked, MINUTE) => assert!(answer.expect("fresh").is_some()),
    }
    // Time alone releases nobody, nor does a list.
    assert!(tokio::time::timeout(2 * SECOND, &mut of_b).await.is_err());
    world.sim.faults().release(&Target::Id(stuck.clone()));
    let answer = tokio::time::timeout(SECOND, &mut of_b).await.expect("released").expect("fresh");
    assert!(answer.expect("there").container(&stuck).is_some());
}
