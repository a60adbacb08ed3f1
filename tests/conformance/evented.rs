//! The evented path: what each event tells by itself, what it makes plegd read, and what it must not do.

use std::time::Duration;

use plegd::{
    config::Config,
    model::{ContainerState, SandboxState},
    sim::{
        Dose, EventFault, Method, Only, Profile, Target,
        truth::{ContainerSpec, SandboxSpec},
        v1::ContainerEventType,
    },
    supervisor::Mode,
};

use crate::{
    NONE, SECOND, ended, evented,
    support::{TestPod, World},
};

const CREATED: Only = Only::Kind(ContainerEventType::ContainerCreatedEvent);
const STARTED: Only = Only::Kind(ContainerEventType::ContainerStartedEvent);
const STOPPED: Only = Only::Kind(ContainerEventType::ContainerStoppedEvent);

fn late(by: Duration) -> EventFault {
    EventFault::Delay(by)
}

/// Another container of that name.
fn again(world: &World, pod: &TestPod, name: &str, attempt: u32) -> String {
    let spec = ContainerSpec::of_pod(&pod.spec, name, attempt, "busybox");
    world.change(|truth| {
        let id = truth.create_container(&pod.sandbox, spec).expect("create");
        truth.start_container(&id).expect("start");
        id
    })
}

#[tokio::test(start_paused = true)]
async fn each_type_of_event_tells_what_it_says_without_any_read() {
    let mut world = evented().await;
    let reads =
        [Method::ListPodSandbox, Method::ListContainers, Method::PodSandboxStatus, Method::ContainerStatus];
    reads.into_iter().for_each(|method| world.sim.faults().hang(Target::Method(method)));
    let pod = world.pod();
    world.pass(SECOND / 10).await;
    assert_eq!(world.story(&pod.sandbox), ["Started"]);
    let id = world.create(&pod, "c");
    world.pass(SECOND / 10).await;
    assert_eq!(world.story(&id), ["Changed"], "CREATED: a state of its own");
    world.change(|truth| truth.start_container(&id).expect("start"));
    world.pass(SECOND / 10).await;
    assert_eq!(world.story(&id)[1..], ["Started"]);
    world.change(|truth| truth.exit(&id, 2).expect("exit"));
    world.pass(SECOND / 10).await;
    assert_eq!(world.story(&id)[2..], ["Died(2 Error)"]);
    world.change(|truth| truth.remove_container(&id).expect("remove"));
    world.pass(SECOND / 10).await;
    assert_eq!(world.story(&id)[3..], ["Removed"]);
    assert!(world.told.iter().all(|event| event.source.as_str() == "event"));
}

#[tokio::test(start_paused = true)]
async fn deleted_alone_tells_the_death_and_then_the_removal() {
    let mut world = evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(SECOND).await;
    world.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
    world.change(|truth| truth.remove_container(&id).expect("remove"));
    world.pass(SECOND).await;
    assert_eq!(world.story(&id), ["Changed", "Started", "Died!", "Removed"]);
}

#[tokio::test(start_paused = true)]
async fn late_events_move_nothing_back_and_new_ones_are_taken() {
    let mut world = evented().await;
    let pod = world.pod();
    // CREATED after STARTED.
    world.sim.faults().events_only(CREATED, late(SECOND / 2), Dose::Next(1));
    let first = world.start(&pod, "c");
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&first), ["Started"]);
    // STARTED after STOPPED.
    world.sim.faults().events_only(STARTED, late(SECOND / 2), Dose::Next(1));
    let second = world.start(&pod, "d");
    world.change(|truth| truth.exit(&second, 1).expect("exit"));
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&second), ["Changed", "Started!", "Died(1 Error)"]);
    // STOPPED of an older container after that of its successor.
    world.sim.faults().events_only(Only::Id(first.clone()), late(5 * SECOND), Dose::Next(1));
    world.change(|truth| truth.exit(&first, 3).expect("exit"));
    world.pass(SECOND).await;
    let successor = again(&world, &pod, "c", 1);
    world.pass(SECOND).await;
    assert_eq!(world.story(&successor), ["Changed", "Started"], "a CREATED that is new is taken");
    world.change(|truth| truth.exit(&successor, 4).expect("exit"));
    world.pass(10 * SECOND).await;
    assert_eq!(world.story(&first), ["Started", "Died(3 Error)"]);
    assert_eq!(world.story(&successor), ["Changed", "Started", "Died(4 Error)"]);
    let served = world.served(&pod).expect("served");
    let codes: Vec<_> = served.containers.iter().map(|container| container.exit_code).collect();
    assert_eq!(codes, [Some(4), Some(1), Some(3)], "the newest first");
    assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_read_up_on_only_where_it_leaves_something_open() {
    let dies =
        |code| move |world: &World, id: &str| world.change(|truth| truth.exit(id, code).expect("exit"));
    let killed = |world: &World, id: &str| world.change(|truth| truth.oom(id).expect("oom"));
    let removed = |world: &World, id: &str| {
        world.change(|truth| {
            truth.exit(id, 0).expect("exit");
            truth.remove_container(id).expect("remove");
        });
    };
    let killed_and_removed = |world: &World, id: &str| {
        world.change(|truth| {
            truth.oom(id).expect("oom");
            truth.remove_container(id).expect("remove");
        });
    };
    type Act<'a> = &'a dyn Fn(&World, &str);
    for (what, fault, act, reads) in [
        ("STOPPED, code 2, of which the reason may change", None, &dies(2) as Act<'_>, 1),
        ("STOPPED, code 0, of which the reason may change", None, &dies(0), 1),
        ("STOPPED, killed, of which the reason is not yet known", None, &killed, 1),
        ("STOPPED and DELETED", None, &removed, 0),
        ("STOPPED, killed, and DELETED before anybody could look", None, &killed_and_removed, 0),
        ("STOPPED without any container status", Some(EventFault::NoStatuses), &dies(2), 2),
        ("STOPPED without a sandbox status", Some(EventFault::NilStatus), &dies(2), 1),
    ] {
        let mut world = evented().await;
        let pod = world.pod();
        let (other, id) = (ended(&world, &pod, "other"), world.start(&pod, "c"));
        world.pass(10 * SECOND).await;
        let (told, before) = (world.told.len(), world.calls_of(Method::ContainerStatus));
        if let Some(fault) = fault {
            world.sim.faults().events_only(STOPPED, fault, Dose::Next(1));
        }
        act(&world, &id);
        world.pass(4 * SECOND).await;
        assert_eq!(world.calls_of(Method::ContainerStatus) - before, reads, "{what}");
        assert!(world.story(&id)[2].starts_with("Died("), "{what}: {:?}", world.story(&id));
        assert_eq!(world.story(&other).len(), 3, "{what}");
        assert!(world.told[told..].iter().all(|event| event.id.as_str() == id), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_made_is_looked_at_again_only_if_it_does_not_start() {
    for starts in [true, false] {
        let mut world = evented().await;
        let pod = world.pod();
        world.pass(SECOND).await;
        let before = world.calls_of(Method::ContainerStatus);
        let id = world.create(&pod, "c");
        if starts {
            world.pass(SECOND / 4).await;
            world.change(|truth| truth.start_container(&id).expect("start"));
        }
        world.pass(8 * SECOND).await;
        let reads = if starts { 0 } else { 6 };
        assert_eq!(world.calls_of(Method::ContainerStatus) - before, reads, "started: {starts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_past_the_queue_makes_nobody_unhealthy() {
    let tiny = |config: &mut Config| config.stream.queue_messages = 4;
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, tiny, |_| ()).await;
    world.until_evented().await;
    for _ in 0..30 {
        let pod = world.pod();
        world.start(&pod, "c");
        let health = world.app.health();
        assert!(health.live().ok && health.ready().ok);
    }
    world.pass(2 * SECOND).await;
    assert!(world.metric(r#"plegd_stream_disconnects_total{reason="overflow"}"#) >= 1.0, "it was full");
    assert!(world.app.health().live().ok && world.app.health().ready().ok);
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn counts_follow_the_events_and_wait_for_no_relist() {
    let mut world = evented().await;
    let running = r#"plegd_containers{state="running"}"#;
    let ready = r#"plegd_pods{state="ready"}"#;
    assert_eq!((world.metric(running), world.metric(ready)), (0.0, 0.0));
    world.sim.freeze_lists();
    let pods: Vec<TestPod> = (0..5).map(|_| world.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| world.start(pod, "c")).collect();
    world.pass(SECOND).await;
    assert_eq!((world.metric(running), world.metric(ready)), (5.0, 5.0));
    world.change(|truth| {
        ids[..2].iter().for_each(|id| truth.exit(id, 0).expect("exit"));
        truth.sandbox_died(&pods[0].sandbox);
        truth.sandbox_died(&pods[1].sandbox);
    });
    world.pass(SECOND).await;
    assert_eq!((world.metric(running), world.metric(ready)), (3.0, 3.0));
    assert_eq!(world.metric(r#"plegd_containers{state="exited"}"#), 2.0);
    assert_eq!(world.metric(r#"plegd_pods{state="notready"}"#), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_is_ready_by_its_own_status_whatever_its_containers_are() {
    let mut world = evented().await;
    let (bare, of_ended, stopped) = (world.pod(), world.pod(), world.pod());
    ended(&world, &of_ended, "c");
    world.start(&stopped, "c");
    world.change(|truth| truth.sandbox_died(&stopped.sandbox));
    world.pass(SECOND).await;
    let states = [bare, of_ended, stopped].map(|pod| {
        let served = world.served(&pod).expect("served");
        (served.sandbox().map(|sandbox| sandbox.state), served.containers.first().map(|it| it.state))
    });
    assert_eq!(
        states,
        [
            (Some(SandboxState::Ready), None),
            (Some(SandboxState::Ready), Some(ContainerState::Exited)),
            (Some(SandboxState::NotReady), Some(ContainerState::Running)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn addresses_are_those_of_the_newest_sandbox_and_stay_when_all_have_ended() {
    let mut world = evented().await;
    let ips = |world: &World, pod: &TestPod| world.served(pod).expect("served").ips.clone();
    let (pod, host) = (world.pod(), world.pod());
    world.pass(SECOND).await;
    let first = ips(&world, &pod);
    assert_eq!(first.len(), 1);
    // None new, and all have ended: the old ones.
    world.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
    world.pass(SECOND).await;
    assert_eq!(ips(&world, &pod), first);
    // New ones.
    let next = SandboxSpec { attempt: 1, ..pod.spec.clone() };
    world.change(|truth| truth.run_sandbox(next).expect("run"));
    world.pass(SECOND).await;
    assert_ne!(ips(&world, &pod), first);
    assert_eq!(ips(&world, &pod).len(), 1);
    // None new, but one is ready: none.
    world.change(|truth| truth.stop_sandbox(&host.sandbox).expect("stop"));
    let next = SandboxSpec { attempt: 1, host_network: true, ..host.spec.clone() };
    world.change(|truth| truth.run_sandbox(next).expect("run"));
    world.pass(SECOND).await;
    assert_eq!(ips(&world, &host), NONE);
    // None before and none now.
    let bare = SandboxSpec { host_network: true, ..SandboxSpec::of_pod("default", "bare", "uid-bare") };
    let sandbox = world.change(|truth| truth.run_sandbox(bare.clone()).expect("run"));
    world.pass(SECOND).await;
    world.change(|truth| truth.stop_sandbox(&sandbox).expect("stop"));
    world.pass(SECOND).await;
    assert_eq!(ips(&world, &TestPod { spec: bare, sandbox }), NONE);
}

#[tokio::test(start_paused = true)]
async fn two_that_follow_two_runtimes_in_one_process_have_each_their_own_mode() {
    let mut with = evented().await;
    let mut without = World::new(Profile::CONTAINERD_1_6);
    without.pass(10 * SECOND).await;
    assert_eq!(
        (with.app.follower_status().mode, without.app.follower_status().mode),
        (Mode::Evented, Mode::Polling)
    );
    with.sim.crash();
    with.pass(2 * SECOND).await;
    assert_eq!(with.app.follower_status().mode, Mode::Polling);
    let pod = without.pod();
    without.pass(2 * SECOND).await;
    assert_eq!(without.story(&pod.sandbox), ["Started"], "of the other's trouble it knows nothing");
    assert_eq!(with.story(&pod.sandbox), NONE);
    assert!(without.app.health().ready().checks.iter().any(|check| check.name == "runtime" && check.ok));
}
