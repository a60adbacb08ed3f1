//! The evented path: the effect of each event, the reads that it requests, and what it must not change.

use std::time::Duration;

use plegd::{
    config::Config,
    model::{ContainerState, Mode, SandboxState},
    sim::{
        Dose, EventFault, Method, Only, Profile, Target,
        truth::{ContainerSpec, SandboxSpec},
        v1::ContainerEventType,
    },
};

use crate::{
    NONE, SECOND, ended, evented,
    support::{Harness, TestPod},
};

const CREATED: Only = Only::Kind(ContainerEventType::ContainerCreatedEvent);
const STARTED: Only = Only::Kind(ContainerEventType::ContainerStartedEvent);
const STOPPED: Only = Only::Kind(ContainerEventType::ContainerStoppedEvent);

fn late(by: Duration) -> EventFault {
    EventFault::Delay(by)
}

/// The next container with this name.
fn again(harness: &Harness, pod: &TestPod, name: &str, attempt: u32) -> String {
    let spec = ContainerSpec::of_pod(&pod.spec, name, attempt, "busybox");
    harness.change(|truth| {
        let id = truth.create_container(&pod.sandbox, spec).expect("create");
        truth.start_container(&id).expect("start");
        id
    })
}

#[tokio::test(start_paused = true)]
async fn each_type_of_event_is_applied_without_any_read() {
    let mut harness = evented().await;
    let reads =
        [Method::ListPodSandbox, Method::ListContainers, Method::PodSandboxStatus, Method::ContainerStatus];
    reads.into_iter().for_each(|method| harness.sim.faults().hang(Target::Method(method)));
    let pod = harness.pod();
    harness.pass(SECOND / 10).await;
    assert_eq!(harness.history(&pod.sandbox), ["Started"]);
    let id = harness.create(&pod, "c");
    harness.pass(SECOND / 10).await;
    assert_eq!(harness.history(&id), ["Changed"], "created is a state");
    harness.change(|truth| truth.start_container(&id).expect("start"));
    harness.pass(SECOND / 10).await;
    assert_eq!(harness.history(&id)[1..], ["Started"]);
    harness.change(|truth| truth.exit(&id, 2).expect("exit"));
    harness.pass(SECOND / 10).await;
    assert_eq!(harness.history(&id)[2..], ["Died(2 Error)"]);
    harness.change(|truth| truth.remove_container(&id).expect("remove"));
    harness.pass(SECOND / 10).await;
    assert_eq!(harness.history(&id)[3..], ["Removed"]);
    assert!(harness.events.iter().all(|event| event.source.as_str() == "event"));
}

#[tokio::test(start_paused = true)]
async fn deleted_alone_publishes_the_death_and_then_the_removal() {
    let mut harness = evented().await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(SECOND).await;
    harness.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
    harness.change(|truth| truth.remove_container(&id).expect("remove"));
    harness.pass(SECOND).await;
    assert_eq!(harness.history(&id), ["Changed", "Started", "Died!", "Removed"]);
}

#[tokio::test(start_paused = true)]
async fn late_events_regress_nothing_and_new_events_are_applied() {
    let mut harness = evented().await;
    let pod = harness.pod();
    // CREATED after STARTED.
    harness.sim.faults().events_only(CREATED, late(SECOND / 2), Dose::Next(1));
    let first = harness.start(&pod, "c");
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&first), ["Started"]);
    // STARTED after STOPPED.
    harness.sim.faults().events_only(STARTED, late(SECOND / 2), Dose::Next(1));
    let second = harness.start(&pod, "d");
    harness.change(|truth| truth.exit(&second, 1).expect("exit"));
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&second), ["Changed", "Started!", "Died(1 Error)"]);
    // STOPPED of an older container after that of its successor.
    harness.sim.faults().events_only(Only::Id(first.clone()), late(5 * SECOND), Dose::Next(1));
    harness.change(|truth| truth.exit(&first, 3).expect("exit"));
    harness.pass(SECOND).await;
    let successor = again(&harness, &pod, "c", 1);
    harness.pass(SECOND).await;
    assert_eq!(harness.history(&successor), ["Changed", "Started"], "a new CREATED is applied");
    harness.change(|truth| truth.exit(&successor, 4).expect("exit"));
    harness.pass(10 * SECOND).await;
    assert_eq!(harness.history(&first), ["Started", "Died(3 Error)"]);
    assert_eq!(harness.history(&successor), ["Changed", "Started", "Died(4 Error)"]);
    let served = harness.served(&pod).expect("served");
    let codes: Vec<_> = served.containers.iter().map(|container| container.exit_code).collect();
    assert_eq!(codes, [Some(4), Some(1), Some(3)], "the newest first");
    assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn an_event_requests_a_read_only_if_something_stays_undecided() {
    let dies =
        |code| move |harness: &Harness, id: &str| harness.change(|truth| truth.exit(id, code).expect("exit"));
    let killed = |harness: &Harness, id: &str| harness.change(|truth| truth.oom(id).expect("oom"));
    let removed = |harness: &Harness, id: &str| {
        harness.change(|truth| {
            truth.exit(id, 0).expect("exit");
            truth.remove_container(id).expect("remove");
        });
    };
    let killed_and_removed = |harness: &Harness, id: &str| {
        harness.change(|truth| {
            truth.oom(id).expect("oom");
            truth.remove_container(id).expect("remove");
        });
    };
    type Act<'a> = &'a dyn Fn(&Harness, &str);
    for (what, fault, act, reads) in [
        ("STOPPED, code 2: the reason may change", None, &dies(2) as Act<'_>, 1),
        ("STOPPED, code 0: the reason may change", None, &dies(0), 1),
        ("STOPPED, killed: the reason is not known yet", None, &killed, 1),
        ("STOPPED and DELETED", None, &removed, 0),
        ("STOPPED, killed, and DELETED before a read", None, &killed_and_removed, 0),
        ("STOPPED without any container status", Some(EventFault::NoStatuses), &dies(2), 2),
        ("STOPPED without a sandbox status", Some(EventFault::NilStatus), &dies(2), 1),
    ] {
        let mut harness = evented().await;
        let pod = harness.pod();
        let (other, id) = (ended(&harness, &pod, "other"), harness.start(&pod, "c"));
        harness.pass(10 * SECOND).await;
        let (published, before) = (harness.events.len(), harness.calls_of(Method::ContainerStatus));
        if let Some(fault) = fault {
            harness.sim.faults().events_only(STOPPED, fault, Dose::Next(1));
        }
        act(&harness, &id);
        harness.pass(4 * SECOND).await;
        assert_eq!(harness.calls_of(Method::ContainerStatus) - before, reads, "{what}");
        assert!(harness.history(&id)[2].starts_with("Died("), "{what}: {:?}", harness.history(&id));
        assert_eq!(harness.history(&other).len(), 3, "{what}");
        assert!(harness.events[published..].iter().all(|event| event.id.as_str() == id), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_created_container_is_read_again_only_if_it_does_not_start() {
    for starts in [true, false] {
        let mut harness = evented().await;
        let pod = harness.pod();
        harness.pass(SECOND).await;
        let before = harness.calls_of(Method::ContainerStatus);
        let id = harness.create(&pod, "c");
        if starts {
            harness.pass(SECOND / 4).await;
            harness.change(|truth| truth.start_container(&id).expect("start"));
        }
        harness.pass(8 * SECOND).await;
        let reads = if starts { 0 } else { 6 };
        assert_eq!(harness.calls_of(Method::ContainerStatus) - before, reads, "started: {starts}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_overflow_of_the_queue_leaves_plegd_live_and_ready() {
    let tiny = |config: &mut Config| config.stream.queue_messages = 4;
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, tiny, |_| ()).await;
    harness.until_evented().await;
    for _ in 0..30 {
        let pod = harness.pod();
        harness.start(&pod, "c");
        let health = harness.app.health();
        assert!(health.live().ok && health.ready().ok);
    }
    harness.pass(2 * SECOND).await;
    assert!(
        harness.metric(r#"plegd_stream_disconnects_total{reason="overflow"}"#) >= 1.0,
        "the queue overflowed"
    );
    assert!(harness.app.health().live().ok && harness.app.health().ready().ok);
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn counts_follow_the_events_without_a_relist() {
    let mut harness = evented().await;
    let running = r#"plegd_containers{state="running"}"#;
    let ready = r#"plegd_pods{state="ready"}"#;
    assert_eq!((harness.metric(running), harness.metric(ready)), (0.0, 0.0));
    harness.sim.freeze_lists();
    let pods: Vec<TestPod> = (0..5).map(|_| harness.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| harness.start(pod, "c")).collect();
    harness.pass(SECOND).await;
    assert_eq!((harness.metric(running), harness.metric(ready)), (5.0, 5.0));
    harness.change(|truth| {
        ids[..2].iter().for_each(|id| truth.exit(id, 0).expect("exit"));
        truth.sandbox_died(&pods[0].sandbox);
        truth.sandbox_died(&pods[1].sandbox);
    });
    harness.pass(SECOND).await;
    assert_eq!((harness.metric(running), harness.metric(ready)), (3.0, 3.0));
    assert_eq!(harness.metric(r#"plegd_containers{state="exited"}"#), 2.0);
    assert_eq!(harness.metric(r#"plegd_pods{state="notready"}"#), 2.0);
}

#[tokio::test(start_paused = true)]
async fn readiness_of_a_sandbox_is_its_own_status_and_not_that_of_its_containers() {
    let mut harness = evented().await;
    let (bare, of_ended, stopped) = (harness.pod(), harness.pod(), harness.pod());
    ended(&harness, &of_ended, "c");
    harness.start(&stopped, "c");
    harness.change(|truth| truth.sandbox_died(&stopped.sandbox));
    harness.pass(SECOND).await;
    let states = [bare, of_ended, stopped].map(|pod| {
        let served = harness.served(&pod).expect("served");
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
    let mut harness = evented().await;
    let ips = |harness: &Harness, pod: &TestPod| harness.served(pod).expect("served").ips.clone();
    let (pod, host) = (harness.pod(), harness.pod());
    harness.pass(SECOND).await;
    let first = ips(&harness, &pod);
    assert_eq!(first.len(), 1);
    // The newest sandbox has none, and all have ended: the earlier addresses stay.
    harness.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
    harness.pass(SECOND).await;
    assert_eq!(ips(&harness, &pod), first);
    // The newest sandbox has its own.
    let next = SandboxSpec { attempt: 1, ..pod.spec.clone() };
    harness.change(|truth| truth.run_sandbox(next).expect("run"));
    harness.pass(SECOND).await;
    assert_ne!(ips(&harness, &pod), first);
    assert_eq!(ips(&harness, &pod).len(), 1);
    // The newest sandbox has none and is ready: no addresses.
    harness.change(|truth| truth.stop_sandbox(&host.sandbox).expect("stop"));
    let next = SandboxSpec { attempt: 1, host_network: true, ..host.spec.clone() };
    harness.change(|truth| truth.run_sandbox(next).expect("run"));
    harness.pass(SECOND).await;
    assert_eq!(ips(&harness, &host), NONE);
    // No sandbox has any.
    let bare = SandboxSpec { host_network: true, ..SandboxSpec::of_pod("default", "bare", "uid-bare") };
    let sandbox = harness.change(|truth| truth.run_sandbox(bare.clone()).expect("run"));
    harness.pass(SECOND).await;
    harness.change(|truth| truth.stop_sandbox(&sandbox).expect("stop"));
    harness.pass(SECOND).await;
    assert_eq!(ips(&harness, &TestPod { spec: bare, sandbox }), NONE);
}

#[tokio::test(start_paused = true)]
async fn two_apps_on_two_runtimes_in_one_process_have_independent_modes() {
    let mut with = evented().await;
    let mut without = Harness::new(Profile::CONTAINERD_1_6);
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
    assert_eq!(without.history(&pod.sandbox), ["Started"], "the other runtime's crash has no effect");
    assert_eq!(with.history(&pod.sandbox), NONE);
    assert!(without.app.health().ready().checks.iter().any(|check| check.name == "runtime" && check.ok));
}
