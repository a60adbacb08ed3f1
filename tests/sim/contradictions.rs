//! A runtime that contradicts itself: inconsistent lists, statuses and events, and changes without an event.

use std::time::Duration;

use plegd::{
    clock::Mono,
    sim::{
        CallFault, Dose, ListFault, Lists, Method, Profile, ResetReason, SimRuntime, Subject, What,
        truth::{ContainerSpec, ContainerState, SandboxSpec},
    },
};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{
    Client, DEADLINE, Kind, client, kinds, lab, list, populate, remove_sandbox, running_pod, runtime,
    sandbox_status, status_of, subscribe,
};

const HOUR: i64 = 3_600_000_000_000;

async fn sandboxes(client: &mut Client) -> Result<Vec<lab::PodSandbox>, Status> {
    Ok(client.list_pod_sandbox(lab::ListPodSandboxRequest::default()).await?.into_inner().items)
}

async fn containers_by(
    client: &mut Client,
    filter: lab::ContainerFilter,
) -> Result<Vec<lab::Container>, Status> {
    let request = lab::ListContainersRequest { filter: Some(filter) };
    Ok(client.list_containers(request).await?.into_inner().containers)
}

async fn sandboxes_by(client: &mut Client, id: &str) -> Result<Vec<lab::PodSandbox>, Status> {
    let filter = Some(lab::PodSandboxFilter { id: id.into(), ..Default::default() });
    Ok(client.list_pod_sandbox(lab::ListPodSandboxRequest { filter }).await?.into_inner().items)
}

/// The items of a streamed list, and how it ended.
async fn streamed(client: &mut Client) -> (Vec<String>, Result<(), Status>) {
    let mut ids = Vec::new();
    let mut batches = match client.stream_containers(lab::StreamContainersRequest::default()).await {
        Ok(answer) => answer.into_inner(),
        Err(error) => return (ids, Err(error)),
    };
    loop {
        match timeout(DEADLINE, batches.message()).await.expect("the list should end") {
            Ok(Some(batch)) => ids.extend(batch.containers.into_iter().map(|container| container.id)),
            Ok(None) => return (ids, Ok(())),
            Err(error) => return (ids, Err(error)),
        }
    }
}

async fn streamed_sandboxes(client: &mut Client) -> Result<usize, Status> {
    let mut batches =
        client.stream_pod_sandboxes(lab::StreamPodSandboxesRequest::default()).await?.into_inner();
    let mut items = 0;
    while let Some(batch) = batches.message().await? {
        items += batch.pod_sandboxes.len();
    }
    Ok(items)
}

/// The first event of a new stream, or its end. A pod is run after the call has begun.
async fn first_event(runtime: &SimRuntime) -> Result<Option<lab::ContainerEventResponse>, Status> {
    let mut client = client(runtime);
    let call = tokio::spawn(async move {
        client.get_container_events(lab::GetEventsRequest {}).await?.into_inner().message().await
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    running_pod(runtime, &format!("{}", runtime.clock().now().since(Mono::ZERO).as_nanos()));
    timeout(DEADLINE, call).await.expect("the call should end").expect("no panic")
}

/// Ten pods of two containers on a runtime that streams its lists in batches of three.
fn streaming() -> SimRuntime {
    let runtime = runtime(Profile { stream_batch: Some(3), ..Profile::CONTAINERD_2_4 });
    runtime.change(|truth| populate(truth, 1, 10, 2)).unwrap();
    runtime
}

fn since(runtime: &SimRuntime, before: Mono) -> Duration {
    runtime.clock().now().since(before)
}

#[tokio::test(start_paused = true)]
async fn a_good_answer_can_lack_its_status() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, id) = running_pod(&runtime, "a");
    let faults = runtime.faults();
    faults.calls(Method::PodSandboxStatus, CallFault::Empty, Dose::Next(1));
    faults.calls(Method::ContainerStatus, CallFault::Empty, Dose::Next(1));
    let request = || lab::ContainerStatusRequest { container_id: id.clone(), verbose: false };
    for is_there in [false, true] {
        assert_eq!(sandbox_status(&mut client, &sandbox).await.unwrap().status.is_some(), is_there);
        let answer = client.container_status(request()).await.unwrap().into_inner();
        assert_eq!(answer.status.is_some(), is_there);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_about_one_id_can_fail_while_all_others_work() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, id) = running_pod(&runtime, "a");
    let (other_sandbox, other) = running_pod(&runtime, "b");
    let faults = runtime.faults();
    let not_found = CallFault::Fail(Code::NotFound, "no such sandbox".to_owned());
    faults.calls_about(Method::PodSandboxStatus, &sandbox, not_found, Dose::Always);
    faults.calls_about(Method::ContainerStatus, &id, CallFault::fail(Code::Unavailable), Dose::Next(2));
    for _ in 0..2 {
        assert_eq!(sandbox_status(&mut client, &sandbox).await.unwrap_err().code(), Code::NotFound);
        sandbox_status(&mut client, &other_sandbox).await.unwrap();
        status_of(&mut client, &other).await.unwrap();
        assert_eq!(status_of(&mut client, &id).await.unwrap_err().code(), Code::Unavailable);
    }
    status_of(&mut client, &id).await.unwrap();
    assert_eq!(sandboxes(&mut client).await.unwrap().len(), 2, "the sandbox is still listed");

    // A list with a filter by the id, or by the sandbox's id, concerns the id.
    faults.calls_about(Method::ListContainers, &sandbox, CallFault::fail(Code::Unknown), Dose::Always);
    let of_sandbox = |id: &String| lab::ContainerFilter { pod_sandbox_id: id.clone(), ..Default::default() };
    assert_eq!(containers_by(&mut client, of_sandbox(&sandbox)).await.unwrap_err().code(), Code::Unknown);
    assert_eq!(containers_by(&mut client, of_sandbox(&other_sandbox)).await.unwrap().len(), 1);
    assert_eq!(list(&mut client).await.unwrap().len(), 2);

    faults.withdraw_calls(Method::PodSandboxStatus, Some(&sandbox));
    sandbox_status(&mut client, &sandbox).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_can_show_an_id_twice_or_not_at_all() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, id) = running_pod(&runtime, "a");
    running_pod(&runtime, "b");
    let faults = runtime.faults();
    let shown = |items: &[lab::Container]| items.iter().filter(|item| item.id == id).count();

    faults.lists(Subject::Container, ListFault::Twice(id.clone()), Dose::Next(1));
    let twice = list(&mut client).await.unwrap();
    assert_eq!((twice.len(), shown(&twice)), (3, 2));
    assert_eq!(list(&mut client).await.unwrap().len(), 2);

    let by_id = lab::ContainerFilter { id: id.clone(), ..Default::default() };
    faults.lists(Subject::Container, ListFault::LeftOut(id.clone()), Dose::Always);
    assert_eq!(shown(&list(&mut client).await.unwrap()), 0);
    assert_eq!(containers_by(&mut client, by_id.clone()).await.unwrap().len(), 1, "full lists only");
    faults.lists_only(Subject::Container, Lists::Filtered, ListFault::LeftOut(id.clone()), Dose::Always);
    assert!(containers_by(&mut client, by_id.clone()).await.unwrap().is_empty());
    status_of(&mut client, &id).await.unwrap();
    faults.withdraw_lists(Subject::Container, &ListFault::LeftOut(id.clone()));
    assert_eq!(containers_by(&mut client, by_id).await.unwrap().len(), 1);

    faults.lists(Subject::Sandbox, ListFault::LeftOut(sandbox.clone()), Dose::Next(1));
    let left: Vec<_> = sandboxes(&mut client).await.unwrap().into_iter().map(|item| item.id).collect();
    assert_eq!(left.len(), 1);
    assert!(!left.contains(&sandbox));
}

#[tokio::test(start_paused = true)]
async fn a_list_can_end_early_or_be_empty_with_ok() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    runtime.change(|truth| populate(truth, 1, 10, 2)).unwrap();
    let mut client = client(&runtime);
    let faults = runtime.faults();
    faults.lists(Subject::Container, ListFault::Truncated(7), Dose::Next(1));
    faults.lists(Subject::Sandbox, ListFault::Nothing, Dose::Next(1));
    // A list that is shorter than the limit is not truncated, and the order of the fault stays.
    faults.lists(Subject::Sandbox, ListFault::Truncated(10), Dose::Next(1));
    let happened = faults.happened();
    for (containers, pods) in [(7, 0), (20, 10)] {
        assert_eq!(list(&mut client).await.unwrap().len(), containers);
        assert_eq!(sandboxes(&mut client).await.unwrap().len(), pods);
    }
    assert_eq!(faults.happened() - happened, 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_can_show_another_state_and_sandbox_than_the_statuses() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, id) = running_pod(&runtime, "a");
    let faults = runtime.faults();
    let exited = ListFault::ContainerState { id: id.clone(), state: ContainerState::Exited };
    let moved = ListFault::PodSandboxId { id: id.clone(), pod_sandbox_id: "other".to_owned() };
    let not_ready = ListFault::SandboxReady { id: sandbox.clone(), ready: false };
    faults.lists(Subject::Container, exited, Dose::Next(1));
    faults.lists(Subject::Container, moved, Dose::Next(1));
    faults.lists(Subject::Sandbox, not_ready, Dose::Next(1));

    let item = list(&mut client).await.unwrap().remove(0);
    assert_eq!((item.state(), item.pod_sandbox_id.as_str()), (lab::ContainerState::ContainerExited, "other"));
    assert_eq!(status_of(&mut client, &id).await.unwrap().state(), lab::ContainerState::ContainerRunning);
    let item = sandboxes(&mut client).await.unwrap().remove(0);
    assert_eq!(item.state(), lab::PodSandboxState::SandboxNotready);
    let status = sandbox_status(&mut client, &sandbox).await.unwrap().status.unwrap();
    assert_eq!(status.state(), lab::PodSandboxState::SandboxReady);

    let item = list(&mut client).await.unwrap().remove(0);
    assert_eq!((item.state(), item.pod_sandbox_id), (lab::ContainerState::ContainerRunning, sandbox));
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_can_end_early_with_ok_or_be_reset() {
    let runtime = streaming();
    let mut client = client(&runtime);
    let faults = runtime.faults();
    faults.lists(Subject::Container, ListFault::Truncated(4), Dose::Next(1));
    let (ids, end) = streamed(&mut client).await;
    assert_eq!(ids.len(), 4);
    end.unwrap();

    // hyper reports NO_ERROR as the end of the body, and older versions CANCEL too. That the list is not complete shows in
    // the missing trailers alone, which older versions of tonic take for OK.
    for (reason, code) in [
        (ResetReason::InternalError, Code::Internal),
        (ResetReason::Cancel, Code::Cancelled),
        (ResetReason::NoError, Code::Unknown),
    ] {
        faults.lists(Subject::Container, ListFault::Reset { after: 4, reason }, Dose::Next(1));
        let (ids, end) = streamed(&mut client).await;
        assert_eq!((ids.len(), end.unwrap_err().code()), (4, code), "{reason:?}");
        assert_eq!(streamed(&mut client).await.0.len(), 20, "the connection continues");
    }

    let reset = ListFault::Reset { after: 4, reason: ResetReason::InternalError };
    faults.lists(Subject::Container, reset, Dose::Next(1));
    assert_eq!(list(&mut client).await.unwrap_err().code(), Code::Internal, "unary lists too");
}

#[tokio::test(start_paused = true)]
async fn the_other_list_faults_apply_to_streamed_lists() {
    let runtime = streaming();
    let mut client = client(&runtime);
    let faults = runtime.faults();
    let id = runtime.read(|truth| truth.view().containers.keys().next().cloned()).unwrap();
    faults.lists(Subject::Container, ListFault::Twice(id.clone()), Dose::Next(1));
    assert_eq!(streamed(&mut client).await.0.iter().filter(|listed| **listed == id).count(), 2);
    faults.lists(Subject::Container, ListFault::LeftOut(id.clone()), Dose::Next(1));
    assert!(!streamed(&mut client).await.0.contains(&id));
    faults.lists(Subject::Sandbox, ListFault::Nothing, Dose::Next(1));
    assert_eq!(streamed_sandboxes(&mut client).await.unwrap(), 0);
    assert_eq!(streamed_sandboxes(&mut client).await.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn call_faults_apply_to_streams() {
    let runtime = streaming();
    let mut client = client(&runtime);
    let faults = runtime.faults();
    let second = Duration::from_secs(1);

    for fault in [CallFault::fail(Code::Unavailable), CallFault::Garbage] {
        faults.calls(Method::StreamContainers, fault.clone(), Dose::Next(1));
        faults.calls(Method::StreamPodSandboxes, fault.clone(), Dose::Next(1));
        faults.calls(Method::GetContainerEvents, fault.clone(), Dose::Next(1));
        streamed(&mut client).await.1.unwrap_err();
        streamed_sandboxes(&mut client).await.unwrap_err();
        first_event(&runtime).await.unwrap_err();
    }

    faults.calls(Method::StreamContainers, CallFault::Empty, Dose::Next(1));
    faults.calls(Method::StreamPodSandboxes, CallFault::Empty, Dose::Next(1));
    faults.calls(Method::GetContainerEvents, CallFault::Empty, Dose::Next(1));
    assert!(streamed(&mut client).await.0.is_empty());
    assert_eq!(streamed_sandboxes(&mut client).await.unwrap(), 0);
    assert_eq!(first_event(&runtime).await.unwrap(), None);

    for fault in [CallFault::Late(second), CallFault::Overtaken(second)] {
        for method in [Method::StreamContainers, Method::StreamPodSandboxes, Method::GetContainerEvents] {
            faults.calls(method, fault.clone(), Dose::Next(1));
        }
        let before = runtime.clock().now();
        streamed(&mut client).await.1.unwrap();
        assert!(since(&runtime, before) >= second, "{fault:?}");
        streamed_sandboxes(&mut client).await.unwrap();
        assert!(since(&runtime, before) >= 2 * second, "{fault:?}");
        let before = runtime.clock().now();
        assert!(first_event(&runtime).await.unwrap().is_some());
        // The pod is run after 2 s; before that there is no event to send.
        let late = if matches!(fault, CallFault::Late(_)) { 2 * second } else { 3 * second };
        assert!(since(&runtime, before) >= late, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_overtaken_streamed_list_shows_the_older_view() {
    let runtime = streaming();
    let mut other = client(&runtime);
    let overtaken = CallFault::Overtaken(Duration::from_secs(2));
    runtime.faults().calls(Method::StreamContainers, overtaken, Dose::Next(1));
    let call = tokio::spawn(async move { streamed(&mut other).await.0 });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, id) = running_pod(&runtime, "new");
    assert!(!call.await.unwrap().contains(&id));
    assert!(streamed(&mut client(&runtime)).await.0.contains(&id));
}

#[tokio::test(start_paused = true)]
async fn statuses_can_change_without_an_event() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, id) = running_pod(&runtime, "a");
    let mut events = subscribe(&runtime, &client).await.await.unwrap();
    events.rest().await;
    runtime.change(|truth| {
        truth.set_reason(&id, "OOMKilled").unwrap();
        for of in [&id, &sandbox] {
            truth.set_annotation(of, "checked", "yes");
            truth.set_label(of, "tier", "front");
        }
        truth.set_addresses(&sandbox, &["10.0.0.9", "fd00::9"]);
    });
    assert!(events.rest().await.is_empty());

    let status = status_of(&mut client, &id).await.unwrap();
    assert_eq!(status.state(), lab::ContainerState::ContainerRunning);
    assert_eq!(status.reason, "OOMKilled");
    assert_eq!((status.annotations["checked"].as_str(), status.labels["tier"].as_str()), ("yes", "front"));
    let status = sandbox_status(&mut client, &sandbox).await.unwrap().status.unwrap();
    assert_eq!((status.annotations["checked"].as_str(), status.labels["tier"].as_str()), ("yes", "front"));
    let network = status.network.unwrap();
    assert_eq!((network.ip.as_str(), network.additional_ips[0].ip.as_str()), ("10.0.0.9", "fd00::9"));
    let last = runtime.history().pop().unwrap();
    assert_eq!((last.what, last.signalled), (What::ReasonChanged { reason: "OOMKilled".into() }, false));

    runtime.change(|truth| {
        truth.exit(&id, 1).unwrap();
        truth.set_reason(&id, "Late").unwrap();
        let pod = SandboxSpec::of_pod("default", "a", "uid-a");
        let created =
            truth.create_container(&sandbox, ContainerSpec::of_pod(&pod, "side", 0, "busybox:1")).unwrap();
        truth.set_reason(&created, "Never started").unwrap_err();
    });
    assert_eq!(status_of(&mut client, &id).await.unwrap().reason, "Late");
}

#[tokio::test(start_paused = true)]
async fn an_oom_kill_can_come_late_with_any_exit_code() {
    for (profile, code, at_first) in [
        (Profile::CONTAINERD_2_1, 0, "Completed"),
        (Profile::CONTAINERD_2_1, 1, "Error"),
        (Profile::CONTAINERD_2_1, 143, "Error"),
        (Profile::CONTAINERD_2_3, 143, "OOMKilled"),
    ] {
        let runtime = runtime(profile);
        let mut client = client(&runtime);
        let (_, id) = running_pod(&runtime, "a");
        runtime.change(|truth| truth.oom_with(&id, code)).unwrap();
        let status = status_of(&mut client, &id).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (code, at_first));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = status_of(&mut client, &id).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (code, "OOMKilled"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_can_be_created_long_before_it_is_ready() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let client = client(&runtime);
    let call = subscribe(&runtime, &client).await;
    let pod =
        SandboxSpec { network_setup: Duration::from_secs(2), ..SandboxSpec::of_pod("default", "a", "uid-a") };
    let now = runtime.clock().wall().as_nanos();
    runtime.change(|truth| truth.run_sandbox(pod)).unwrap();
    let events = call.await.unwrap().rest().await;
    assert_eq!(kinds(&events), [Kind::ContainerCreatedEvent, Kind::ContainerStartedEvent]);
    for event in events {
        let status = event.pod_sandbox_status.unwrap();
        assert_eq!(status.state(), lab::PodSandboxState::SandboxReady);
        assert!(status.created_at <= now - 1_900_000_000 && now <= event.created_at);
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_virtual_machine_can_differ_by_hours() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, plain) = running_pod(&runtime, "a");
    for clock_offset in [-3 * HOUR, 3 * HOUR] {
        let pod = SandboxSpec::of_pod("default", "a", "uid-a");
        let name = format!("guest{clock_offset}");
        let spec = ContainerSpec { clock_offset, ..ContainerSpec::of_pod(&pod, &name, 0, "busybox:1") };
        let id = runtime.change(|truth| {
            let id = truth.create_container(&sandbox, spec).unwrap();
            truth.start_container(&id).unwrap();
            truth.exit(&id, 0).unwrap();
            id
        });
        let now = runtime.clock().wall().as_nanos();
        let status = status_of(&mut client, &id).await.unwrap();
        for stamp in [status.started_at, status.finished_at] {
            assert!((stamp - now - clock_offset).abs() < HOUR / 100);
        }
        assert!((status.created_at - now).abs() < HOUR / 100, "the creation time is the runtime's");
    }
    let now = runtime.clock().wall().as_nanos();
    assert!((status_of(&mut client, &plain).await.unwrap().started_at - now).abs() < HOUR / 100);
}

#[tokio::test(start_paused = true)]
async fn a_pod_can_be_removed_without_a_deleted_for_its_containers() {
    for profile in [Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let runtime = runtime(profile);
        let mut client = client(&runtime);
        let (sandbox, id) = running_pod(&runtime, "a");
        let (other, _) = running_pod(&runtime, "b");
        let mut events = subscribe(&runtime, &client).await.await.unwrap();
        events.rest().await;
        runtime.change(|truth| truth.remove_sandbox_silently(&sandbox)).unwrap();
        let deleted: Vec<_> = events
            .rest()
            .await
            .into_iter()
            .filter(|event| event.container_event_type() == Kind::ContainerDeletedEvent)
            .map(|event| event.container_id)
            .collect();
        assert!(!deleted.contains(&id), "{}", profile.name);
        assert_eq!(list(&mut client).await.unwrap().len(), 1);
        assert_eq!(sandboxes(&mut client).await.unwrap().len(), 1);

        remove_sandbox(&mut client, &other).await.unwrap();
        let deleted =
            kinds(&events.rest().await).iter().filter(|k| **k == Kind::ContainerDeletedEvent).count();
        assert_eq!(deleted, if profile.runtime_name == "containerd" { 2 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn pods_created_by_crictl_have_no_labels() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, id) = runtime.change(|truth| {
        let sandbox = truth.run_sandbox(SandboxSpec::by_crictl("default", "manual", "uid-1")).unwrap();
        let id =
            truth.create_container(&sandbox, ContainerSpec::by_crictl("busybox", 0, "busybox:1")).unwrap();
        (sandbox, id)
    });
    let status = sandbox_status(&mut client, &sandbox).await.unwrap().status.unwrap();
    assert!(status.labels.is_empty());
    assert_eq!(status.metadata.unwrap().uid, "uid-1");
    let status = status_of(&mut client, &id).await.unwrap();
    assert!(status.labels.is_empty() && status.annotations.is_empty());
    assert_eq!(status.metadata.unwrap().name, "busybox");
}

#[tokio::test(start_paused = true)]
async fn a_filter_by_an_unknown_id_gives_an_empty_list_and_no_error() {
    for profile in Profile::ALL {
        let runtime = runtime(profile);
        let mut client = client(&runtime);
        let (sandbox, id) = running_pod(&runtime, "a");
        let by_id = |id: &str| lab::ContainerFilter { id: id.into(), ..Default::default() };
        let by_sandbox = |id: &str| lab::ContainerFilter { pod_sandbox_id: id.into(), ..Default::default() };
        for (container, pod, found) in [(id.as_str(), sandbox.as_str(), 1), ("0000", "0000", 0)] {
            assert_eq!(containers_by(&mut client, by_id(container)).await.unwrap().len(), found);
            assert_eq!(containers_by(&mut client, by_sandbox(pod)).await.unwrap().len(), found);
            assert_eq!(sandboxes_by(&mut client, pod).await.unwrap().len(), found);
        }
        // An id of the other kind is unknown too.
        assert!(containers_by(&mut client, by_id(&sandbox)).await.unwrap().is_empty());
        assert!(sandboxes_by(&mut client, &id).await.unwrap().is_empty());
    }
}
