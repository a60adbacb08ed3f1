//! Lists that show an id twice, with a wrong state or a wrong sandbox, or that omit ids that exist.

use plegd::{
    model::EventType,
    sim::{
        CallFault, Dose, ListFault, Lists, Method, Profile, ResetReason, Subject,
        truth::{ContainerSpec, ContainerState, SandboxSpec},
    },
    watch::{Filter, Request, Start, Update},
};

use crate::{MINUTE, MS, SECOND, polled_pod, support::Harness};

#[tokio::test(start_paused = true)]
async fn an_id_that_is_listed_twice_hides_no_removal_of_another() {
    let (mut harness, pod, one) = polled_pod().await;
    let other = harness.start(&pod, "side");
    harness.pass(3 * SECOND).await;
    harness.sim.faults().lists(Subject::Container, ListFault::Twice(one.clone()), Dose::Always);
    harness.change(|truth| truth.remove_container(&other).expect("remove"));
    harness.pass(3 * SECOND).await;
    assert_eq!(harness.history(&other), ["Started", "Died!", "Removed"]);
    assert_eq!(harness.history(&one), ["Started"]);
}

/// The ids that a list omits still exist: nothing is published, and the pods are still served.
#[tokio::test(start_paused = true)]
async fn a_list_that_omits_existing_ids_removes_nothing() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_4] {
        for fault in
            [ListFault::Nothing, ListFault::Truncated(0), ListFault::Truncated(1), ListFault::Truncated(7)]
        {
            for lists in [Lists::Full, Lists::All] {
                for subject in [Subject::Sandbox, Subject::Container] {
                    let mut harness = Harness::new(profile);
                    for _ in 0..5 {
                        let pod = harness.pod();
                        harness.start(&pod, "one");
                        harness.start(&pod, "two");
                    }
                    harness.pass(10 * SECOND).await;
                    let published = harness.events.len();
                    // Where only a few ids are missing, a list of one id is the final confirmation.
                    if lists == Lists::All && matches!(fault, ListFault::Truncated(7)) {
                        continue;
                    }
                    harness.sim.faults().lists_only(subject, lists, fault.clone(), Dose::Always);
                    // A client that wants a pod newer than now causes a read of the pod by the same lists.
                    let pod = harness.app.cache().list()[0].identity.uid.clone();
                    let now = harness.app.clock().now();
                    let read = harness.app.pod_newer_than(&pod, now, 20 * SECOND).await;
                    assert!(read.is_ok_and(|pod| pod.is_some()), "{fault:?}, {lists:?}, {subject:?}");
                    harness.pass(2 * MINUTE).await;
                    assert_eq!(
                        harness.events.len(),
                        published,
                        "{fault:?}, {lists:?}, {subject:?}: {:#?}",
                        harness.lines()
                    );
                    assert_eq!(harness.differences(), [""; 0]);
                }
            }
        }
    }
}

/// A reset of a streamed list is an error, whatever its code, or its absences are confirmed like every other.
#[tokio::test(start_paused = true)]
async fn a_streamed_list_that_ends_early_removes_nothing() {
    for reason in [ResetReason::InternalError, ResetReason::Cancel, ResetReason::NoError] {
        for after in [0, 1, 4] {
            let mut harness = Harness::new(Profile { stream_batch: Some(2), ..Profile::CONTAINERD_2_4 });
            for _ in 0..5 {
                let pod = harness.pod();
                harness.start(&pod, "one");
            }
            harness.pass(10 * SECOND).await;
            let published = harness.events.len();
            for subject in [Subject::Sandbox, Subject::Container] {
                harness.sim.faults().lists(subject, ListFault::Reset { after, reason }, Dose::Always);
            }
            harness.pass(2 * MINUTE).await;
            assert_eq!(harness.events.len(), published, "{reason:?} after {after}: {:#?}", harness.lines());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_shows_another_state_than_the_status_changes_nothing() {
    let (mut harness, pod, id) = polled_pod().await;
    let exited = ListFault::ContainerState { id: id.clone(), state: ContainerState::Exited };
    harness.sim.faults().lists(Subject::Container, exited, Dose::Always);
    let not_ready = ListFault::SandboxReady { id: pod.sandbox.clone(), ready: false };
    harness.sim.faults().lists(Subject::Sandbox, not_ready, Dose::Always);
    harness.pass(MINUTE).await;
    assert_eq!(
        (harness.history(&id), harness.history(&pod.sandbox)),
        (vec!["Started".into()], vec!["Started".into()])
    );
}

/// In an event, CRI-O includes the containers of all sandboxes of a pod. One such event arrives before the first list.
#[tokio::test(start_paused = true)]
async fn a_container_of_an_older_sandbox_is_served_in_that_sandbox() {
    let mut created = None;
    let mut harness = Harness::after(
        Profile::CRI_O_1_34,
        1,
        |_| (),
        |sim| {
            let mut spec = SandboxSpec::of_pod("default", "pod", "uid");
            let first = sim.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
            let container = |spec: &SandboxSpec, name| ContainerSpec::of_pod(spec, name, 0, "busybox");
            let old =
                sim.change(|truth| truth.create_container(&first, container(&spec, "old"))).expect("create");
            sim.change(|truth| {
                truth.start_container(&old).expect("start");
                truth.exit(&old, 0).expect("exit");
                truth.sandbox_died(&first);
            });
            spec.attempt = 1;
            let second = sim.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
            let new =
                sim.change(|truth| truth.create_container(&second, container(&spec, "new"))).expect("create");
            sim.faults().calls(Method::ListPodSandbox, CallFault::Late(300 * MS), Dose::Next(1));
            created = Some((old, first, new));
        },
    )
    .await;
    let (old, first, new) = created.expect("created");
    harness.pass(100 * MS).await;
    harness.change(|truth| truth.start_container(&new).expect("start"));
    harness.pass(MINUTE).await;
    let pod = harness.app.cache().get(&"uid".into()).expect("the pod");
    assert_eq!(pod.container(&old).expect("it").sandbox_id.to_string(), first);
}

/// rke2#8199, #3415: a copied manifest of a static pod copies its UID.
#[tokio::test(start_paused = true)]
async fn two_pods_with_one_uid_are_served_and_published_under_their_own_names() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        for (namespace, name) in [("b", "pod-b"), ("a", "pod-b"), ("b", "pod-a")] {
            let mut harness = Harness::new(profile);
            harness.pass(3 * SECOND).await;
            let one = SandboxSpec::of_pod("a", "pod-a", "one-uid");
            let other = SandboxSpec::of_pod(namespace, name, "one-uid");
            harness.change(|truth| truth.run_sandbox(one)).expect("run");
            let sandbox = harness.change(|truth| truth.run_sandbox(other.clone())).expect("run");
            harness.pass(3 * SECOND).await;
            let container = ContainerSpec::of_pod(&other, "c", 0, "busybox");
            let id = harness.change(|truth| truth.create_container(&sandbox, container)).expect("create");
            harness.change(|truth| truth.start_container(&id).expect("start"));
            harness.pass(MINUTE).await;
            let filter = Filter {
                namespaces: vec![namespace.into()],
                pod_names: vec![name.into()],
                ..Filter::default()
            };
            let (_, pods) = harness.app.feed().snapshot(&filter);
            assert_eq!(pods.len(), 1, "{}", profile.name);
            assert!(pods[0].container(&id).is_some(), "{}: in its own pod", profile.name);
            let of_it = harness.events.iter().filter(|record| record.event.id.as_str() == id);
            let names: Vec<_> = of_it.map(|it| (&*it.event.pod.namespace, &*it.event.pod.name)).collect();
            assert!(names.len() >= 2 || profile == Profile::CONTAINERD_1_6, "{}: {names:?}", profile.name);
            assert!(names.iter().all(|it| *it == (namespace, name)), "{}: {names:?}", profile.name);
            assert_eq!(harness.app.cache().list().len(), 2, "{}", profile.name);
        }
    }
}

/// Each status takes 60 ms; the subscriber selects the pods with app=web.
#[tokio::test(start_paused = true)]
async fn a_subscriber_by_label_gets_all_starts_however_slow_the_runtime_is() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    harness.pass(3 * SECOND).await;
    let filter = Filter {
        selector: "app=web".parse().expect("a selector"),
        types: vec![EventType::ContainerStarted, EventType::ContainerDied, EventType::ContainerRemoved],
        containers_only: true,
        ..Filter::default()
    };
    let request = Request { start: Start::Now, filter, ..Request::default() };
    let mut watch = harness.app.watch(request).expect("a watch");
    assert!(matches!(watch.try_next(), Ok(Some(Update::Hello(_)))));
    for method in [Method::PodSandboxStatus, Method::ContainerStatus] {
        harness.sim.faults().calls(method, CallFault::Late(60 * MS), Dose::Always);
    }
    let mut ids = Vec::new();
    for n in 0..10 {
        let mut spec = SandboxSpec::of_pod("default", &format!("web-{n}"), &format!("uid-web-{n}"));
        spec.labels.insert("app".into(), "web".into());
        let sandbox = harness.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
        let container = ContainerSpec::of_pod(&spec, "c", 0, "busybox");
        let id = harness.change(|truth| truth.create_container(&sandbox, container)).expect("create");
        harness.change(|truth| truth.start_container(&id).expect("start"));
        ids.push(id);
    }
    harness.pass(10 * SECOND).await;
    let mut started = Vec::new();
    while let Some(update) = watch.try_next().expect("goes on") {
        if let Update::Event { record, .. } = update {
            started.push(record.event.id.to_string());
        }
    }
    started.sort_unstable();
    ids.sort_unstable();
    assert_eq!(started, ids);
}

/// The first list shows a container that is gone before it is read. The status of its sandbox, read before that, has the labels.
#[tokio::test(start_paused = true)]
async fn a_container_gone_before_its_read_is_published_with_the_labels_of_its_pod() {
    let slow = CallFault::Late(100 * MS);
    let mut ids = None;
    let mut harness = Harness::after(
        Profile::CONTAINERD_1_6,
        1,
        |_| (),
        |sim| {
            let mut spec = SandboxSpec::of_pod("default", "web", "uid-web");
            spec.labels.insert("app".into(), "web".into());
            let container = ContainerSpec::of_pod(&spec, "one", 0, "busybox");
            let sandbox = sim.change(|truth| truth.run_sandbox(spec)).expect("run");
            let id = sim.change(|truth| truth.create_container(&sandbox, container)).expect("create");
            sim.change(|truth| truth.start_container(&id)).expect("start");
            sim.faults().calls(Method::PodSandboxStatus, slow.clone(), Dose::Always);
            ids = Some((sandbox, id));
        },
    )
    .await;
    let (sandbox, id) = ids.expect("both");
    // The list has been answered, and the status of the sandbox has not.
    harness.pass(50 * MS).await;
    harness.change(|truth| truth.vanish_container(&id));
    harness.pass(3 * SECOND).await;
    assert_eq!(harness.history(&id), ["Started", "Died!", "Removed"]);
    assert_eq!(harness.history(&sandbox), ["Started"], "once");
    for record in &harness.events {
        assert_eq!(record.event.labels.get("app"), Some("web"), "{:?}", record.event);
    }
}
