//! Cases that no test of the kubelet has. Those that are tested elsewhere already are in the table alone.

use std::time::Duration;

use plegd::{
    config::{Bytes, Config},
    model::{ContainerState, Pod},
    sim::{
        CallFault, Dose, EventFault, Method, Only, Profile, SimRuntime,
        truth::{ContainerSpec, SandboxSpec},
        v1::ContainerEventType,
    },
};
use tonic::Code;

use crate::{
    MINUTE, SECOND, evented, polling,
    support::{TestPod, World},
    uid,
};

#[tokio::test(start_paused = true)]
async fn stopped_before_started_is_told_in_the_order_of_a_life() {
    let started = Only::Kind(ContainerEventType::ContainerStartedEvent);
    for late in [Duration::from_millis(1), SECOND, 3 * SECOND] {
        let mut world = evented().await;
        let pod = world.pod();
        world.pass(SECOND).await;
        world.sim.faults().events_only(started.clone(), EventFault::Delay(late), Dose::Next(1));
        let id = world.start(&pod, "c");
        world.change(|truth| truth.exit(&id, 2).expect("exit"));
        world.pass(10 * SECOND).await;
        // Its times prove the start; the event that says so comes when it is known already.
        assert_eq!(world.story(&id), ["Changed", "Started!", "Died(2 Error)"], "{late:?} late");
        assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_pod_that_is_gone_brings_nothing_back_however_late() {
    for late in [SECOND, 30 * SECOND, 10 * MINUTE] {
        let mut world = evented().await;
        let pod = world.pod();
        let id = world.create(&pod, "c");
        world.pass(SECOND).await;
        // STARTED shows it running, and comes after all is over.
        world.sim.faults().events_only(Only::Id(id.clone()), EventFault::Delay(late), Dose::Next(1));
        world.change(|truth| truth.start_container(&id).expect("start"));
        world.pass(SECOND / 10).await;
        world.change(|truth| truth.exit(&id, 0).expect("exit"));
        world.pass(SECOND / 10).await;
        world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        world.pass(SECOND / 2).await;
        assert_eq!(world.story(&id), ["Changed", "Started!", "Died(0 Completed)", "Removed"]);
        assert_eq!(world.served(&pod), None);
        let told = world.told.len();
        world.pass(late + 2 * MINUTE).await;
        assert_eq!((world.told.len(), world.served(&pod)), (told, None), "{late:?} late");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_whose_deleted_comes_before_its_deletion_is_removed_within_a_moment() {
    let mut world = evented().await;
    for _ in 0..10 {
        let pod = world.pod();
        world.start(&pod, "c");
        world.pass(2 * SECOND).await;
        // A look that is taken at DELETED finds it still there.
        world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        world.pass(Duration::from_millis(1)).await;
        assert!(world.sim.read(|truth| truth.sandbox(&pod.sandbox).is_some()), "it is in the store yet");
        assert!(world.story(&pod.sandbox).last().is_some_and(|word| word != "Removed"));
        world.pass(SECOND / 2).await;
        // A read in between may also have seen its address go.
        let story: Vec<String> =
            world.story(&pod.sandbox).into_iter().filter(|word| word != "Changed").collect();
        assert_eq!(story, ["Started", "Died", "Removed"]);
        assert_eq!(world.served(&pod), None);
    }
    assert_eq!((world.misses(), world.absurdities()), (0.0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_a_later_read_has_overtaken_does_not_overwrite_it() {
    for method in [Method::ListPodSandbox, Method::ListContainers] {
        let mut world = polling();
        let pod = world.pod();
        let [ends, goes] = ["ends", "goes"].map(|name| world.start(&pod, name));
        world.pass(5 * SECOND).await;
        // The next list is read now and answers three seconds later.
        world.sim.faults().calls(method, CallFault::Overtaken(3 * SECOND), Dose::Next(1));
        let lists = world.calls_of(method);
        world.until("a relist is under way", |world| world.calls_of(method) > lists).await;
        world.pass(SECOND / 10).await;
        world.change(|truth| {
            truth.exit(&ends, 5).expect("exit");
            truth.remove_container(&goes).expect("remove");
        });
        let comes = world.start(&pod, "comes");
        let asked = world.app.clock().now();
        world.app.pod_newer_than(&uid(&pod), asked, SECOND).await.expect("fresh");
        let fresh = world.served(&pod).expect("there");
        let states = |pod: &Pod| {
            [&ends, &goes, &comes].map(|id| pod.container(id).map(|container| container.state.as_str()))
        };
        assert_eq!(states(&fresh), [Some("exited"), None, Some("running")]);
        world.drain();
        let told = world.told.len();
        for _ in 0..100 {
            world.pass(SECOND / 10).await;
            assert_eq!(states(&world.served(&pod).expect("there")), states(&fresh), "{method}");
        }
        assert_eq!(world.told.len(), told, "{method}: {:#?}", world.lines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_two_sandboxes_is_served_with_both_and_told_of_each() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut world = World::new(profile);
        world.pass(5 * MINUTE).await;
        let old = world.pod();
        let of_old = world.start(&old, "c");
        world.pass(2 * SECOND).await;
        world.change(|truth| truth.stop_sandbox(&old.sandbox).expect("stop"));
        world.pass(2 * SECOND).await;
        let spec = SandboxSpec { attempt: 1, ..old.spec.clone() };
        let sandbox = world.change(|truth| truth.run_sandbox(spec.clone()).expect("run"));
        let new = TestPod { spec, sandbox };
        let of_new = world.start(&new, "c");
        world.pass(2 * SECOND).await;
        let served = world.served(&new).expect("served");
        let sandboxes: Vec<_> = served.sandboxes.iter().map(|sandbox| sandbox.id.as_str()).collect();
        assert_eq!(sandboxes, [&new.sandbox, &old.sandbox], "{}: the newest first", profile.name);
        let containers: Vec<_> = served.containers.iter().map(|container| container.id.as_str()).collect();
        assert_eq!(containers, [&of_new, &of_old], "{}", profile.name);
        world.change(|truth| truth.remove_sandbox(&old.sandbox).expect("remove"));
        world.pass(MINUTE + 30 * SECOND).await;
        let served = world.served(&new).expect("the pod stays");
        assert_eq!((served.sandboxes.len(), served.containers.len()), (1, 1), "{}", profile.name);
        assert_eq!(world.story(&old.sandbox).last().map(String::as_str), Some("Removed"), "{}", profile.name);
        assert_eq!(world.story(&of_old).last().map(String::as_str), Some("Removed"), "{}", profile.name);
        assert_eq!(world.story(&of_new).last().map(String::as_str), Some("Started"), "{}", profile.name);
        assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]), "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn four_thousand_containers_in_six_megabytes_are_listed_and_served() {
    let roomy = |config: &mut Config| config.journal.bytes = Bytes::mib(1024);
    let many = |sim: &SimRuntime| {
        for n in 0..200 {
            let pod = SandboxSpec::of_pod("default", &format!("big-{n}"), &format!("uid-big-{n}"));
            let sandbox = sim.change(|truth| truth.run_sandbox(pod.clone())).expect("run");
            for m in 0..20 {
                let mut spec = ContainerSpec::of_pod(&pod, &format!("c{m}"), 0, "busybox");
                // With what a kubelet writes there a list item is about 1.5 KB.
                spec.annotations.insert("io.kubernetes.container.ports".into(), "x".repeat(1000));
                let id = sim.change(|truth| truth.create_container(&sandbox, spec)).expect("create");
                sim.change(|truth| truth.start_container(&id)).expect("start");
            }
        }
    };
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, roomy, many).await;
    world.until("all are told", |world| world.told.len() == 4200).await;
    assert_eq!(world.app.cache().counts().containers[ContainerState::Running as usize], 4000);
    let last = world.sim.read(|truth| truth.view().containers.keys().next_back().cloned()).expect("one");
    world.change(|truth| truth.exit(&last, 1).expect("exit"));
    world.pass(3 * SECOND).await;
    assert_eq!(world.story(&last), ["Started", "Died(1 Error)"], "one change among them is one event");
    assert_eq!(world.told.len(), 4201);
}

#[tokio::test(start_paused = true)]
async fn lists_that_fail_for_ten_minutes_are_seen_in_the_report_and_forgotten_once_they_succeed() {
    let mut world = polling();
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(5 * SECOND).await;
    let good = |world: &World, name| {
        let report = world.app.health().ready();
        assert!(report.ok && world.app.health().live().ok, "the runtime's trouble is not plegd's");
        report.checks.iter().find(|check| check.name == name).map(|check| check.ok)
    };
    assert_eq!(good(&world, "runtime"), Some(true));
    world.sim.faults().calls(Method::ListContainers, CallFault::fail(Code::Internal), Dose::Always);
    for _ in 0..10 {
        world.pass(MINUTE).await;
        assert_eq!(good(&world, "runtime"), Some(false));
        assert_eq!(world.story(&id), ["Started"]);
    }
    assert!(world.metric(r#"plegd_relists_total{cause="retry",result="error"}"#) >= 300.0, "it keeps trying");
    world.change(|truth| truth.exit(&id, 1).expect("exit"));
    world.sim.faults().clear();
    world.pass(3 * SECOND).await;
    assert_eq!(good(&world, "runtime"), Some(true));
    assert_eq!(world.story(&id), ["Started", "Died(1 Error)"]);
}
