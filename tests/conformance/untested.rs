//! Cases without a test in the kubelet. Those with a test in another file are only in the table.

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
    support::{Harness, TestPod},
    uid,
};

#[tokio::test(start_paused = true)]
async fn stopped_before_started_is_published_in_phase_order() {
    let started = Only::Kind(ContainerEventType::ContainerStartedEvent);
    for late in [Duration::from_millis(1), SECOND, 3 * SECOND] {
        let mut harness = evented().await;
        let pod = harness.pod();
        harness.pass(SECOND).await;
        harness.sim.faults().events_only(started.clone(), EventFault::Delay(late), Dose::Next(1));
        let id = harness.start(&pod, "c");
        harness.change(|truth| truth.exit(&id, 2).expect("exit"));
        harness.pass(10 * SECOND).await;
        // The timestamps in STOPPED prove the start; STARTED arrives after that.
        assert_eq!(harness.history(&id), ["Changed", "Started!", "Died(2 Error)"], "{late:?} late");
        assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_event_of_a_removed_pod_resurrects_nothing() {
    for late in [SECOND, 30 * SECOND, 10 * MINUTE] {
        let mut harness = evented().await;
        let pod = harness.pod();
        let id = harness.create(&pod, "c");
        harness.pass(SECOND).await;
        // STARTED arrives after the removal and shows the container running.
        harness.sim.faults().events_only(Only::Id(id.clone()), EventFault::Delay(late), Dose::Next(1));
        harness.change(|truth| truth.start_container(&id).expect("start"));
        harness.pass(SECOND / 10).await;
        harness.change(|truth| truth.exit(&id, 0).expect("exit"));
        harness.pass(SECOND / 10).await;
        harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        harness.pass(SECOND / 2).await;
        assert_eq!(harness.history(&id), ["Changed", "Started!", "Died(0 Completed)", "Removed"]);
        assert_eq!(harness.served(&pod), None);
        let published = harness.events.len();
        harness.pass(late + 2 * MINUTE).await;
        assert_eq!((harness.events.len(), harness.served(&pod)), (published, None), "{late:?} late");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_whose_deleted_comes_before_its_deletion_is_removed_within_500_ms() {
    let mut harness = evented().await;
    for _ in 0..10 {
        let pod = harness.pod();
        harness.start(&pod, "c");
        harness.pass(2 * SECOND).await;
        // A read that begins at DELETED still finds the sandbox.
        harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        harness.pass(Duration::from_millis(1)).await;
        assert!(harness.sim.read(|truth| truth.sandbox(&pod.sandbox).is_some()), "it is still in the store");
        assert!(harness.history(&pod.sandbox).last().is_some_and(|word| word != "Removed"));
        harness.pass(SECOND / 2).await;
        // A read in between may also have found its address removed.
        let events: Vec<String> =
            harness.history(&pod.sandbox).into_iter().filter(|word| word != "Changed").collect();
        assert_eq!(events, ["Started", "Died", "Removed"]);
        assert_eq!(harness.served(&pod), None);
    }
    assert_eq!((harness.missed_events(), harness.violations()), (0.0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_list_overtaken_by_a_later_read_does_not_overwrite_it() {
    for method in [Method::ListPodSandbox, Method::ListContainers] {
        let mut harness = polling();
        let pod = harness.pod();
        let [ends, goes] = ["ends", "goes"].map(|name| harness.start(&pod, name));
        harness.pass(5 * SECOND).await;
        // The next list is taken now and answers 3 s later.
        harness.sim.faults().calls(method, CallFault::Overtaken(3 * SECOND), Dose::Next(1));
        let lists = harness.calls_of(method);
        harness.until("a relist is in flight", |harness| harness.calls_of(method) > lists).await;
        harness.pass(SECOND / 10).await;
        harness.change(|truth| {
            truth.exit(&ends, 5).expect("exit");
            truth.remove_container(&goes).expect("remove");
        });
        let comes = harness.start(&pod, "comes");
        let requested_at = harness.app.clock().now();
        harness.app.pod_newer_than(&uid(&pod), requested_at, SECOND).await.expect("fresh");
        let fresh = harness.served(&pod).expect("there");
        let states = |pod: &Pod| {
            [&ends, &goes, &comes].map(|id| pod.container(id).map(|container| container.state.as_str()))
        };
        assert_eq!(states(&fresh), [Some("exited"), None, Some("running")]);
        harness.drain();
        let published = harness.events.len();
        for _ in 0..100 {
            harness.pass(SECOND / 10).await;
            assert_eq!(states(&harness.served(&pod).expect("there")), states(&fresh), "{method}");
        }
        assert_eq!(harness.events.len(), published, "{method}: {:#?}", harness.lines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_two_sandboxes_is_served_and_published_with_both() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut harness = Harness::new(profile);
        harness.pass(5 * MINUTE).await;
        let old = harness.pod();
        let of_old = harness.start(&old, "c");
        harness.pass(2 * SECOND).await;
        harness.change(|truth| truth.stop_sandbox(&old.sandbox).expect("stop"));
        harness.pass(2 * SECOND).await;
        let spec = SandboxSpec { attempt: 1, ..old.spec.clone() };
        let sandbox = harness.change(|truth| truth.run_sandbox(spec.clone()).expect("run"));
        let new = TestPod { spec, sandbox };
        let of_new = harness.start(&new, "c");
        harness.pass(2 * SECOND).await;
        let served = harness.served(&new).expect("served");
        let sandboxes: Vec<_> = served.sandboxes.iter().map(|sandbox| sandbox.id.as_str()).collect();
        assert_eq!(sandboxes, [&new.sandbox, &old.sandbox], "{}: the newest first", profile.name);
        let containers: Vec<_> = served.containers.iter().map(|container| container.id.as_str()).collect();
        assert_eq!(containers, [&of_new, &of_old], "{}", profile.name);
        harness.change(|truth| truth.remove_sandbox(&old.sandbox).expect("remove"));
        harness.pass(MINUTE + 30 * SECOND).await;
        let served = harness.served(&new).expect("the pod stays");
        assert_eq!((served.sandboxes.len(), served.containers.len()), (1, 1), "{}", profile.name);
        assert_eq!(
            harness.history(&old.sandbox).last().map(String::as_str),
            Some("Removed"),
            "{}",
            profile.name
        );
        assert_eq!(harness.history(&of_old).last().map(String::as_str), Some("Removed"), "{}", profile.name);
        assert_eq!(harness.history(&of_new).last().map(String::as_str), Some("Started"), "{}", profile.name);
        assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]), "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn four_thousand_containers_in_six_megabytes_are_listed_and_served() {
    let large_journal = |config: &mut Config| config.journal.bytes = Bytes::mib(1024);
    let many = |sim: &SimRuntime| {
        for n in 0..200 {
            let pod = SandboxSpec::of_pod("default", &format!("big-{n}"), &format!("uid-big-{n}"));
            let sandbox = sim.change(|truth| truth.run_sandbox(pod.clone())).expect("run");
            for m in 0..20 {
                let mut spec = ContainerSpec::of_pod(&pod, &format!("c{m}"), 0, "busybox");
                // A list item with a kubelet's annotations has about 1.5 KB.
                spec.annotations.insert("io.kubernetes.container.ports".into(), "x".repeat(1000));
                let id = sim.change(|truth| truth.create_container(&sandbox, spec)).expect("create");
                sim.change(|truth| truth.start_container(&id)).expect("start");
            }
        }
    };
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, large_journal, many).await;
    harness.until("all events", |harness| harness.events.len() == 4200).await;
    assert_eq!(harness.app.cache().counts().containers[ContainerState::Running as usize], 4000);
    let last = harness.sim.read(|truth| truth.view().containers.keys().next_back().cloned()).expect("one");
    harness.change(|truth| truth.exit(&last, 1).expect("exit"));
    harness.pass(3 * SECOND).await;
    assert_eq!(harness.history(&last), ["Started", "Died(1 Error)"], "one change is one event");
    assert_eq!(harness.events.len(), 4201);
}

#[tokio::test(start_paused = true)]
async fn lists_that_fail_for_ten_minutes_are_reported_until_they_succeed() {
    let mut harness = polling();
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(5 * SECOND).await;
    let good = |harness: &Harness, name| {
        let report = harness.app.health().ready();
        assert!(report.ok && harness.app.health().live().ok, "a failing runtime leaves plegd ready");
        report.checks.iter().find(|check| check.name == name).map(|check| check.ok)
    };
    assert_eq!(good(&harness, "runtime"), Some(true));
    harness.sim.faults().calls(Method::ListContainers, CallFault::fail(Code::Internal), Dose::Always);
    for _ in 0..10 {
        harness.pass(MINUTE).await;
        assert_eq!(good(&harness, "runtime"), Some(false));
        assert_eq!(harness.history(&id), ["Started"]);
    }
    assert!(
        harness.metric(r#"plegd_relists_total{cause="retry",result="error"}"#) >= 300.0,
        "it keeps retrying"
    );
    harness.change(|truth| truth.exit(&id, 1).expect("exit"));
    harness.sim.faults().clear();
    harness.pass(3 * SECOND).await;
    assert_eq!(good(&harness, "runtime"), Some(true));
    assert_eq!(harness.history(&id), ["Started", "Died(1 Error)"]);
}
