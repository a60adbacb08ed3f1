//! The simulated runtime behaves like the real ones, over a real socket and in process with paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers are tests")]

use std::{collections::BTreeMap, path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use lab::{ContainerEventResponse, ContainerEventType as Kind, runtime_service_client::RuntimeServiceClient};
use plegd::{
    clock::{Clock, Wall},
    sim::{
        CallFault, Churn, Dose, EventFault, Method, Only, Profile, SimRuntime, Stamp, Target, What,
        churn::populate,
        truth::{ContainerSpec, SandboxSpec},
    },
};
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};

#[path = "sim/contradictions.rs"]
mod contradictions;
#[allow(unreachable_pub, clippy::all)]
mod lab {
    include!(concat!(env!("OUT_DIR"), "/lab/runtime.v1.rs"));
}

type Client = RuntimeServiceClient<Channel>;

const NOW: i64 = 1_800_000_000_000_000_000;
/// Limit for an awaited condition.
const DEADLINE: Duration = Duration::from_secs(30);

fn runtime(profile: Profile) -> SimRuntime {
    SimRuntime::new(profile, Clock::simulated(Wall::from_nanos(NOW)).0, 42)
}

fn client(runtime: &SimRuntime) -> Client {
    Client::new(runtime.channel())
}

/// A client with small HTTP/2 windows, so that it blocks as soon as it does not read.
async fn client_of_small_windows(runtime: &SimRuntime) -> Client {
    let endpoint = Endpoint::from_static("http://simulated.invalid").initial_stream_window_size(1024);
    Client::new(endpoint.connect_with_connector(runtime.connector()).await.unwrap())
}

fn socket_client(path: &Path) -> Client {
    let path = path.to_path_buf();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Client::new(Endpoint::from_static("http://simulated.invalid").connect_with_connector_lazy(connector))
}

/// Subscribes in a task, because the response comes with the first event only, and waits until the runtime has the
/// subscription.
async fn subscribe(runtime: &SimRuntime, client: &Client) -> tokio::task::JoinHandle<Events> {
    let before = runtime.queue().subscribers();
    let mut client = client.clone();
    let call = tokio::spawn(async move {
        Events(client.get_container_events(lab::GetEventsRequest {}).await.unwrap().into_inner())
    });
    let known = async {
        while runtime.queue().subscribers() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, known).await.expect("the subscription should reach the runtime");
    call
}

struct Events(Streaming<ContainerEventResponse>);

impl Events {
    async fn next(&mut self) -> ContainerEventResponse {
        let next = timeout(DEADLINE, self.0.message()).await.expect("no event within the deadline");
        next.unwrap().expect("the stream ended")
    }

    /// All events until none comes for 1 s.
    async fn rest(&mut self) -> Vec<ContainerEventResponse> {
        self.until_silent_for(Duration::from_secs(1)).await
    }

    async fn until_silent_for(&mut self, silence: Duration) -> Vec<ContainerEventResponse> {
        let mut events = Vec::new();
        while let Ok(Ok(Some(event))) = timeout(silence, self.0.message()).await {
            events.push(event);
        }
        events
    }
}

fn kinds(events: &[ContainerEventResponse]) -> Vec<Kind> {
    events.iter().map(ContainerEventResponse::container_event_type).collect()
}

fn sandbox_config(name: &str) -> lab::PodSandboxConfig {
    lab::PodSandboxConfig {
        metadata: Some(lab::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        labels: [("io.kubernetes.pod.uid".into(), format!("uid-{name}")), ("app".into(), name.into())].into(),
        ..Default::default()
    }
}

async fn run_sandbox(client: &mut Client, name: &str) -> Result<String, Status> {
    let request = lab::RunPodSandboxRequest { config: Some(sandbox_config(name)), ..Default::default() };
    Ok(client.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
}

async fn create(client: &mut Client, sandbox: &str, pod: &str, name: &str) -> Result<String, Status> {
    let config = sandbox_config(pod);
    let request = lab::CreateContainerRequest {
        pod_sandbox_id: sandbox.into(),
        config: Some(lab::ContainerConfig {
            metadata: Some(lab::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(lab::ImageSpec { image: "busybox:1".into() }),
            labels: config.labels.clone(),
            ..Default::default()
        }),
        sandbox_config: Some(config),
    };
    Ok(client.create_container(request).await?.into_inner().container_id)
}

async fn start(client: &mut Client, id: &str) -> Result<(), Status> {
    client.start_container(lab::StartContainerRequest { container_id: id.into() }).await.map(drop)
}

async fn stop(client: &mut Client, id: &str) -> Result<(), Status> {
    client.stop_container(lab::StopContainerRequest { container_id: id.into(), timeout: 0 }).await.map(drop)
}

async fn remove(client: &mut Client, id: &str) -> Result<(), Status> {
    client.remove_container(lab::RemoveContainerRequest { container_id: id.into() }).await.map(drop)
}

async fn stop_sandbox(client: &mut Client, id: &str) -> Result<(), Status> {
    client.stop_pod_sandbox(lab::StopPodSandboxRequest { pod_sandbox_id: id.into() }).await.map(drop)
}

async fn remove_sandbox(client: &mut Client, id: &str) -> Result<(), Status> {
    client.remove_pod_sandbox(lab::RemovePodSandboxRequest { pod_sandbox_id: id.into() }).await.map(drop)
}

async fn list(client: &mut Client) -> Result<Vec<lab::Container>, Status> {
    Ok(client.list_containers(lab::ListContainersRequest::default()).await?.into_inner().containers)
}

async fn version(client: &mut Client) -> Result<lab::VersionResponse, Status> {
    Ok(client.version(lab::VersionRequest::default()).await?.into_inner())
}

async fn status_of(client: &mut Client, id: &str) -> Result<lab::ContainerStatus, Status> {
    let request = lab::ContainerStatusRequest { container_id: id.into(), verbose: false };
    Ok(client.container_status(request).await?.into_inner().status.unwrap())
}

async fn sandbox_status(client: &mut Client, id: &str) -> Result<lab::PodSandboxStatusResponse, Status> {
    let request = lab::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
    Ok(client.pod_sandbox_status(request).await?.into_inner())
}

/// Runs one pod with one container to its removal, over CRI. Returns the ids of both.
async fn complete_history(client: &mut Client) -> (String, String) {
    let sandbox = run_sandbox(client, "a").await.unwrap();
    let container = create(client, &sandbox, "a", "main").await.unwrap();
    start(client, &container).await.unwrap();
    stop(client, &container).await.unwrap();
    remove(client, &container).await.unwrap();
    stop_sandbox(client, &sandbox).await.unwrap();
    remove_sandbox(client, &sandbox).await.unwrap();
    (sandbox, container)
}

/// Creates a pod with one running container, without CRI. Returns the ids of both.
fn running_pod(runtime: &SimRuntime, name: &str) -> (String, String) {
    runtime.change(|truth| {
        let pod = SandboxSpec::of_pod("default", name, &format!("uid-{name}"));
        let sandbox = truth.run_sandbox(pod.clone()).unwrap();
        let spec = ContainerSpec::of_pod(&pod, "main", 0, "busybox:1");
        let container = truth.create_container(&sandbox, spec).unwrap();
        truth.start_container(&container).unwrap();
        (sandbox, container)
    })
}

const COMPLETE_HISTORY: [Kind; 8] = [
    Kind::ContainerCreatedEvent,
    Kind::ContainerStartedEvent,
    Kind::ContainerCreatedEvent,
    Kind::ContainerStartedEvent,
    Kind::ContainerStoppedEvent,
    Kind::ContainerDeletedEvent,
    Kind::ContainerStoppedEvent,
    Kind::ContainerDeletedEvent,
];

#[tokio::test(start_paused = true)]
async fn a_complete_history_has_the_eight_events_of_containerd() {
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1, Profile::CONTAINERD_2_3] {
        let runtime = runtime(profile);
        let mut client = client(&runtime);
        let call = subscribe(&runtime, &client).await;
        let (sandbox, container) = complete_history(&mut client).await;
        let events = call.await.unwrap().rest().await;
        assert_eq!(kinds(&events), COMPLETE_HISTORY, "{}", profile.name);
        let ids: Vec<_> = events.iter().map(|event| event.container_id.as_str()).collect();
        let (s, c) = (sandbox.as_str(), container.as_str());
        assert_eq!(ids, [s, s, c, c, c, c, s, s]);
        let exited = &events[4].containers_statuses[0];
        assert_eq!((exited.state(), exited.exit_code), (lab::ContainerState::ContainerExited, 137));
        assert!(events[5].containers_statuses.is_empty());

        let deleted = &events[7];
        match profile.name {
            "containerd-1.7" => assert_eq!(deleted.pod_sandbox_status, None),
            _ => {
                let status = deleted.pod_sandbox_status.as_ref().unwrap();
                assert_eq!(status.created_at, -6_795_364_578_871_345_152);
                assert_eq!(status.state(), lab::PodSandboxState::SandboxNotready);
                assert_eq!(status.network.as_ref().unwrap().ip, "");
            }
        }
        let happened: Vec<_> = runtime.history().into_iter().map(|change| change.what).collect();
        assert_eq!(happened.len(), 8);
        assert!(runtime.history().iter().all(|change| change.signalled));
    }
}

#[tokio::test(start_paused = true)]
async fn cri_o_sends_no_created_or_deleted_event_of_a_sandbox() {
    let runtime = runtime(Profile::CRI_O_1_31);
    let mut client = client(&runtime);
    let call = subscribe(&runtime, &client).await;
    complete_history(&mut client).await;
    let events = call.await.unwrap().rest().await;
    assert_eq!(kinds(&events), COMPLETE_HISTORY[1..7]);
    assert!(events.iter().all(|event| event.pod_sandbox_status.is_some()));
}

#[tokio::test(start_paused = true)]
async fn cri_o_removes_the_containers_of_a_pod_without_an_event() {
    let runtime = runtime(Profile::CRI_O_1_31);
    let mut client = client(&runtime);
    let call = subscribe(&runtime, &client).await;
    let (sandbox, _) = running_pod(&runtime, "a");
    remove_sandbox(&mut client, &sandbox).await.unwrap();
    let events = call.await.unwrap().rest().await;
    assert!(!kinds(&events).contains(&Kind::ContainerDeletedEvent));
    assert_eq!(list(&mut client).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn cri_o_1_26_sends_deleted_when_a_container_only_stops() {
    let runtime = runtime(Profile::CRI_O_1_26);
    let mut client = client(&runtime);
    let (_, container) = running_pod(&runtime, "a");
    let mut events = subscribe(&runtime, &client).await.await.unwrap();
    events.rest().await;
    stop(&mut client, &container).await.unwrap();
    assert_eq!(kinds(&events.rest().await), [Kind::ContainerStoppedEvent, Kind::ContainerDeletedEvent]);
    assert!(status_of(&mut client, &container).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn cri_o_has_timestamps_in_statuses_in_seconds_before_1_29() {
    for (profile, stamp) in
        [(Profile::CRI_O_1_28, NOW / 1_000_000_000), (Profile::CRI_O_1_31, NOW), (Profile::CONTAINERD_2_1, 0)]
    {
        let runtime = runtime(profile);
        let (sandbox, _) = running_pod(&runtime, "a");
        let status = sandbox_status(&mut client(&runtime), &sandbox).await.unwrap();
        // Paused time may have advanced by the milliseconds of a timer.
        assert!((stamp..=stamp + 1_000_000_000).contains(&status.timestamp), "{}", profile.name);
        assert_eq!(status.containers_statuses.len(), usize::from(stamp != 0));
    }
}

#[tokio::test(start_paused = true)]
async fn containerd_1_6_has_no_events_and_cri_o_ends_the_stream_at_once() {
    let mut client_of_1_6 = client(&runtime(Profile::CONTAINERD_1_6));
    let refused = client_of_1_6.get_container_events(lab::GetEventsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);

    let mut client_of_cri_o = client(&runtime(Profile::CRI_O_1_31_EVENTS_OFF));
    let mut stream =
        client_of_cri_o.get_container_events(lab::GetEventsRequest {}).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_subscription_comes_with_the_first_event() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let client = client(&runtime);
    let mut call = subscribe(&runtime, &client).await;
    assert!(timeout(Duration::from_secs(3600), &mut call).await.is_err());
    running_pod(&runtime, "a");
    assert_eq!(call.await.unwrap().rest().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn subscribers_of_1_7_steal_from_each_other() {
    let runtime = runtime(Profile::CONTAINERD_1_7);
    let client = client(&runtime);
    let first = subscribe(&runtime, &client).await;
    let second = subscribe(&runtime, &client).await;
    for n in 0..20 {
        running_pod(&runtime, &n.to_string());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (first, second) = (first.await.unwrap().rest().await, second.await.unwrap().rest().await);
    assert_eq!(first.len() + second.len(), 80);
    assert!(first.len() > 10 && second.len() > 10, "{} and {}", first.len(), second.len());
}

#[tokio::test(start_paused = true)]
async fn a_dead_stream_eats_events() {
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1] {
        let runtime = runtime(profile);
        let client = client(&runtime);
        let call = subscribe(&runtime, &client).await;
        call.abort();
        // The runtime does not notice; the stream's end reaches its process all the same.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(runtime.queue().subscribers(), 1);
        for n in 0..5 {
            running_pod(&runtime, &n.to_string());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let events = subscribe(&runtime, &client).await.await.unwrap().rest().await;
        let eaten = runtime.event_counts().eaten;
        assert!(eaten >= 1);
        assert_eq!(events.len() as u64 + eaten, 20, "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_subscriber_of_2_x_blocks_run_pod_sandbox_for_all() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let frozen = client_of_small_windows(&runtime).await;
    let call = subscribe(&runtime, &frozen).await;
    let mut client = client(&runtime);
    let mut created = 0;
    let blocked = loop {
        let name = created.to_string();
        match timeout(Duration::from_secs(60), run_sandbox(&mut client, &name)).await {
            Ok(id) => id.unwrap(),
            Err(_) => break name,
        };
        created += 1;
        assert!(created < 2000, "no call blocks");
    };
    assert!(created >= 51, "102 events fit: {created}");
    assert!(runtime.queue().blocked() > 0);
    let other = timeout(Duration::from_secs(3600), run_sandbox(&mut client, "other")).await;
    assert!(other.is_err(), "the call still hangs after an hour");
    assert!(list(&mut client).await.is_ok(), "reads still work");

    drop(call.await.unwrap());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let taken = run_sandbox(&mut client, &blocked).await.unwrap_err();
    assert_eq!(taken.code(), Code::Unknown, "the calls continued after their cancellation");
    timeout(DEADLINE, run_sandbox(&mut client, "third")).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_subscriber_of_1_7_blocks_nobody() {
    let runtime = runtime(Profile::CONTAINERD_1_7);
    let frozen = client_of_small_windows(&runtime).await;
    let _call = subscribe(&runtime, &frozen).await;
    let mut client = client(&runtime);
    for n in 0..800 {
        timeout(DEADLINE, run_sandbox(&mut client, &n.to_string())).await.unwrap().unwrap();
    }
    assert!(runtime.event_counts().dropped > 0);
}

#[tokio::test(start_paused = true)]
async fn the_backlog_goes_to_the_first_subscriber_of_2_x_only() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    running_pod(&runtime, "older than five minutes");
    tokio::time::sleep(Duration::from_secs(301)).await;
    running_pod(&runtime, "young");
    let client = client(&runtime);
    let mut first = subscribe(&runtime, &client).await.await.unwrap();
    let second = subscribe(&runtime, &client).await;
    assert_eq!(first.rest().await.len(), 4);
    running_pod(&runtime, "new");
    assert_eq!(first.rest().await.len(), 4);
    assert_eq!(second.await.unwrap().rest().await.len(), 4);
    assert_eq!(runtime.event_counts().expired, 4);
}

#[tokio::test(start_paused = true)]
async fn a_restart_loses_the_queue_and_sends_no_event_for_changes_meanwhile() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let (_, ended) = running_pod(&runtime, "a");
    let (sandbox, lost) = running_pod(&runtime, "b");
    let (_, unknown) = running_pod(&runtime, "c");
    let mut client = client(&runtime);
    let mut events = subscribe(&runtime, &client).await.await.unwrap();
    events.rest().await;

    runtime.crash();
    assert!(timeout(DEADLINE, events.0.message()).await.unwrap().is_err(), "the stream is broken");
    assert!(version(&mut client).await.is_err());
    let down_at = runtime.clock().wall().as_nanos();
    runtime.change(|truth| truth.exit(&ended, 3)).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    runtime.change(|truth| {
        truth.lose_task(&lost).unwrap();
        truth.fail_load(&unknown).unwrap();
        truth.fail_sandbox_load(&sandbox);
    });
    runtime.recover_in(Duration::from_secs(1)).unwrap();

    let starting = version(&mut client).await.unwrap_err();
    assert_eq!((starting.code(), starting.message()), (Code::Unavailable, "server is not initialized yet"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    version(&mut client).await.unwrap();

    let found = status_of(&mut client, &ended).await.unwrap();
    assert_eq!((found.exit_code, found.reason.as_str(), found.finished_at), (3, "Error", down_at));
    let found = status_of(&mut client, &lost).await.unwrap();
    assert_eq!((found.exit_code, found.reason.as_str()), (255, "Unknown"));
    assert!(found.finished_at >= down_at + 5_000_000_000);
    let found = status_of(&mut client, &unknown).await.unwrap();
    assert_eq!(found.state(), lab::ContainerState::ContainerUnknown);
    let found = sandbox_status(&mut client, &sandbox).await.unwrap().status.unwrap();
    assert_eq!(found.state(), lab::PodSandboxState::SandboxNotready);
    runtime.change(|truth| truth.load_sandbox(&sandbox));
    let found = sandbox_status(&mut client, &sandbox).await.unwrap().status.unwrap();
    assert_eq!(found.state(), lab::PodSandboxState::SandboxReady);

    let call = subscribe(&runtime, &client).await;
    let (_, new) = running_pod(&runtime, "d");
    let events = call.await.unwrap().rest().await;
    assert_eq!(events.len(), 4, "only later events");
    assert_eq!(events[3].container_id, new);
    let silent = runtime.history().into_iter().filter(|change| !change.signalled).count();
    assert_eq!(silent, 5);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_has_no_event_and_an_oom_kill_has_reason_error_first() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, container) = running_pod(&runtime, "a");
    let mut events = subscribe(&runtime, &client).await.await.unwrap();
    events.rest().await;
    let broken = create(&mut client, &sandbox, "a", "broken").await.unwrap();
    runtime.change(|truth| truth.fail_start(&broken, "no such file")).unwrap();
    runtime.change(|truth| truth.oom(&container)).unwrap();
    let event = events.next().await;
    assert_eq!(
        (event.container_id.as_str(), event.container_event_type()),
        (broken.as_str(), Kind::ContainerCreatedEvent)
    );
    let event = events.next().await;
    assert_eq!(
        (event.container_id.as_str(), event.container_event_type()),
        (container.as_str(), Kind::ContainerStoppedEvent)
    );
    let oom = event.containers_statuses.iter().find(|status| status.id == container).unwrap();
    assert_eq!((oom.exit_code, oom.reason.as_str()), (137, "Error"));
    assert!(events.rest().await.is_empty());
    assert_eq!(status_of(&mut client, &container).await.unwrap().reason, "OOMKilled");
    let failed = status_of(&mut client, &broken).await.unwrap();
    assert_eq!((failed.exit_code, failed.reason.as_str(), failed.started_at), (128, "StartError", 0));
}

#[tokio::test(start_paused = true)]
async fn reads_filter_by_id_state_sandbox_and_labels() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, running) = running_pod(&runtime, "a");
    let (_, exited) = running_pod(&runtime, "b");
    runtime.change(|truth| truth.exit(&exited, 0)).unwrap();
    let filters = [
        (lab::ContainerFilter { id: running[..12].into(), ..Default::default() }, vec![&running]),
        (lab::ContainerFilter { pod_sandbox_id: sandbox, ..Default::default() }, vec![&running]),
        (
            lab::ContainerFilter {
                state: Some(lab::ContainerStateValue { state: lab::ContainerState::ContainerExited.into() }),
                ..Default::default()
            },
            vec![&exited],
        ),
        (
            lab::ContainerFilter {
                label_selector: [("io.kubernetes.pod.uid".into(), "uid-b".into())].into(),
                ..Default::default()
            },
            vec![&exited],
        ),
        (lab::ContainerFilter { id: "none".into(), ..Default::default() }, vec![]),
    ];
    for (filter, wanted) in filters {
        let request = lab::ListContainersRequest { filter: Some(filter.clone()) };
        let got = client.list_containers(request).await.unwrap().into_inner().containers;
        assert_eq!(got.iter().map(|c| &c.id).collect::<Vec<_>>(), wanted, "{filter:?}");
    }
    let missing = status_of(&mut client, "none").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(sandbox_status(&mut client, "none").await.unwrap_err().code(), Code::NotFound);
    remove(&mut client, "none").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_are_streamed_in_batches_or_unimplemented() {
    let small = Profile { stream_batch: Some(7), ..Profile::CONTAINERD_2_4 };
    let runtime = runtime(small);
    runtime.change(|truth| populate(truth, 1, 10, 2)).unwrap();
    let mut client = client(&runtime);
    let mut batches =
        client.stream_containers(lab::StreamContainersRequest::default()).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(batch) = batches.message().await.unwrap() {
        sizes.push(batch.containers.len());
    }
    assert_eq!(sizes, [7, 7, 6]);
    let mut old = self::client(&self::runtime(Profile::CONTAINERD_2_3));
    let refused = old.stream_pod_sandboxes(lab::StreamPodSandboxesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

/// The events of a pod, with this fault.
async fn with_fault(profile: Profile, fault: EventFault, dose: Dose) -> Vec<ContainerEventResponse> {
    let runtime = runtime(profile);
    let client = client(&runtime);
    let call = subscribe(&runtime, &client).await;
    runtime.faults().events(fault, dose);
    running_pod(&runtime, "a");
    call.await.unwrap().until_silent_for(DEADLINE).await
}

#[tokio::test(start_paused = true)]
async fn each_event_fault_has_its_effect() {
    use Kind::{ContainerCreatedEvent as C, ContainerStartedEvent as S};
    let profile = Profile::CONTAINERD_2_1;
    let next = Dose::Next(1);

    assert_eq!(kinds(&with_fault(profile, EventFault::Drop, next).await), [S, C, S]);
    assert_eq!(kinds(&with_fault(profile, EventFault::Duplicate, next).await), [C, C, S, C, S]);
    assert_eq!(kinds(&with_fault(profile, EventFault::Reorder, next).await), [S, C, C, S]);
    assert_eq!(with_fault(profile, EventFault::Replay, Dose::Always).await.len(), 4 + 3);

    let delayed = with_fault(profile, EventFault::Delay(Duration::from_secs(10)), next).await;
    assert_eq!(kinds(&delayed), [S, C, S, C]);
    assert!(delayed[3].created_at <= delayed[0].created_at);

    // The pod's first event: its statuses were read before the container existed, its timestamp is later than all others.
    let stalled = with_fault(profile, EventFault::Stall(Duration::from_secs(10)), next).await;
    assert_eq!(kinds(&stalled), [S, C, S, C]);
    assert!(stalled[3].created_at >= stalled[2].created_at + 10_000_000_000);
    assert!(stalled[3].containers_statuses.is_empty());

    let nil = with_fault(profile, EventFault::NilStatus, Dose::Always).await;
    assert!(nil.iter().all(|event| event.pod_sandbox_status.is_none()));
    let empty = with_fault(profile, EventFault::NoStatuses, Dose::Always).await;
    assert!(empty.iter().all(|event| event.containers_statuses.is_empty()));
    let older = with_fault(profile, EventFault::OlderView, Dose::Always).await;
    assert_eq!(older[3].containers_statuses[0].state(), lab::ContainerState::ContainerCreated);

    for (stamp, sane) in [
        (Stamp::Zero, 0..=0),
        (Stamp::Negative, i64::MIN..=-1),
        (Stamp::Seconds, 1..=NOW / 1_000_000_000 + 100),
        (Stamp::FarFuture, NOW + 1_000_000_000_000..=i64::MAX),
        (Stamp::Off(-3_600_000_000_000), NOW - 3_600_000_000_000..=NOW),
    ] {
        let stamped = with_fault(profile, EventFault::Stamp(stamp), Dose::Always).await;
        assert!(stamped.iter().all(|event| sane.contains(&event.created_at)), "{stamp:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_decode_ends_the_stream_of_its_reader() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let client = client(&runtime);
    let call = subscribe(&runtime, &client).await;
    let (_, id) = running_pod(&runtime, "a");
    let mut events = call.await.unwrap();
    assert_eq!(events.rest().await.len(), 4);
    runtime.faults().events(EventFault::Garbage, Dose::Next(1));
    runtime.change(|truth| truth.exit(&id, 0)).unwrap();
    let error = timeout(DEADLINE, events.0.message()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Internal);
}

#[tokio::test(start_paused = true)]
async fn each_call_fault_has_its_effect() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (_, id) = running_pod(&runtime, "a");
    let faults = runtime.faults();
    let lists = Method::ListContainers;

    faults.calls(lists, CallFault::fail(Code::ResourceExhausted), Dose::Next(2));
    for _ in 0..2 {
        assert_eq!(list(&mut client).await.unwrap_err().code(), Code::ResourceExhausted);
    }
    assert_eq!(list(&mut client).await.unwrap().len(), 1);

    let before = runtime.clock().now();
    faults.calls(lists, CallFault::Late(Duration::from_secs(3)), Dose::Next(1));
    list(&mut client).await.unwrap();
    assert!(runtime.clock().now().since(before) >= Duration::from_secs(3));

    faults.calls(lists, CallFault::Garbage, Dose::Next(1));
    assert_eq!(list(&mut client).await.unwrap_err().code(), Code::Internal);
    assert_eq!(list(&mut client).await.unwrap().len(), 1);

    // The list is read, then the container ends, then the list arrives.
    faults.calls(lists, CallFault::Overtaken(Duration::from_secs(2)), Dose::Next(1));
    let mut other = client.clone();
    let overtaken = tokio::spawn(async move { list(&mut other).await.unwrap() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    runtime.change(|truth| truth.exit(&id, 0)).unwrap();
    assert_eq!(overtaken.await.unwrap()[0].state(), lab::ContainerState::ContainerRunning);

    runtime.freeze_lists();
    running_pod(&runtime, "b");
    assert_eq!(list(&mut client).await.unwrap().len(), 1);
    runtime.thaw_lists();
    assert_eq!(list(&mut client).await.unwrap().len(), 2);

    faults.hang(Target::Id(id.clone()));
    assert!(timeout(Duration::from_secs(3600), status_of(&mut client, &id)).await.is_err());
    assert_eq!(list(&mut client).await.unwrap().len(), 2, "other calls still work");
    faults.release(&Target::Id(id.clone()));
    status_of(&mut client, &id).await.unwrap();
    faults.hang(Target::Method(lists));
    assert!(timeout(Duration::from_secs(3600), list(&mut client)).await.is_err());
    faults.clear();
    list(&mut client).await.unwrap();
    assert!(runtime.calls()[&lists] > 5);
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_ends_as_ordered_and_the_runtime_continues() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let client = client(&runtime);
    for (order, code) in [(Some(Status::unavailable("cut")), Some(Code::Unavailable)), (None, None)] {
        let call = subscribe(&runtime, &client).await;
        running_pod(&runtime, &format!("{code:?}"));
        let mut events = call.await.unwrap();
        events.rest().await;
        runtime.cut_streams(order);
        let end = timeout(DEADLINE, events.0.message()).await.unwrap();
        assert_eq!(end.map(|event| event.is_some()).map_err(|status| status.code()).err(), code);
        assert_eq!(runtime.queue().subscribers(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_sandbox_of_2_x_has_a_status_for_some_milliseconds() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let (sandbox, _) = running_pod(&runtime, "a");
    runtime.change(|truth| truth.remove_sandbox(&sandbox)).unwrap();
    let status = sandbox_status(&mut client, &sandbox).await.unwrap().status.unwrap();
    assert_eq!(status.created_at, -6_795_364_578_871_345_152);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(sandbox_status(&mut client, &sandbox).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(runtime.history().last().map(|change| change.what.clone()), Some(What::Removed));
}

#[tokio::test]
async fn the_runtime_serves_crashes_and_recovers_on_a_real_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sim.sock");
    let runtime = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
    let socket = runtime.serve_uds(&path).unwrap();
    let mut client = socket_client(&path);
    assert_eq!(version(&mut client).await.unwrap().runtime_version, "v2.1.9");

    let call = subscribe(&runtime, &client).await;
    complete_history(&mut client).await;
    let mut events = timeout(DEADLINE, call).await.unwrap().unwrap();
    let mut got = Vec::new();
    for _ in 0..8 {
        got.push(events.next().await);
    }
    assert_eq!(kinds(&got), COMPLETE_HISTORY);

    runtime.crash();
    assert!(timeout(DEADLINE, events.0.message()).await.unwrap().is_err());
    assert!(path.exists(), "a killed process leaves its socket");
    assert_eq!(UnixStream::connect(&path).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    runtime.recover().unwrap();
    timeout(DEADLINE, async { while version(&mut client).await.is_err() {} }).await.unwrap();
    run_sandbox(&mut client, "b").await.unwrap();

    socket.stop().unwrap();
    assert!(!path.exists());
    assert!(version(&mut client).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn under_churn_the_lists_equal_the_truth_and_the_events_its_history() {
    for profile in Profile::ALL {
        let runtime = runtime(profile);
        let mut client = client(&runtime);
        let has_events = !matches!(profile.name, "containerd-1.6" | "cri-o-1.31-events-off");
        let call = if has_events { Some(subscribe(&runtime, &client).await) } else { None };
        let churn = Churn::new(10).run(runtime.clone(), 5, Duration::from_millis(50));
        let reader = async {
            match call {
                Some(call) => call.await.unwrap().until_silent_for(DEADLINE).await,
                None => Vec::new(),
            }
        };
        let churn = timeout(Duration::from_secs(20), churn);
        let (_, events) = tokio::join!(churn, reader);
        let sent: BTreeMap<_, usize> = events.iter().fold(BTreeMap::new(), |mut sent, event| {
            *sent.entry((event.container_id.clone(), event.container_event_type)).or_default() += 1;
            sent
        });
        let once = if profile.name == "cri-o-1.26" { 2 } else { 1 };
        assert!(sent.values().all(|times| *times <= once), "{}", profile.name);
        let signalled = runtime.history().into_iter().filter(|change| change.signalled).count();
        if has_events && profile.name != "cri-o-1.26" {
            assert_eq!(events.len(), signalled, "{}", profile.name);
        }
        let mut listed: Vec<_> = list(&mut client).await.unwrap().into_iter().map(|c| c.id).collect();
        listed.sort();
        let true_ids: Vec<_> = runtime.read(|truth| truth.view().containers.keys().cloned().collect());
        assert_eq!(listed, true_ids);
    }
}

/// The deliveries to two subscribers under churn, faults and a restart, all from one seed.
async fn deliveries(seed: u64) -> (Vec<String>, Vec<String>) {
    let runtime = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::simulated(Wall::from_nanos(NOW)).0, seed);
    let client = client(&runtime);
    let faults = runtime.faults();
    for fault in [
        EventFault::Drop,
        EventFault::Duplicate,
        EventFault::Reorder,
        EventFault::Replay,
        EventFault::OlderView,
        EventFault::Delay(Duration::from_millis(700)),
        EventFault::Stall(Duration::from_millis(300)),
    ] {
        faults.events(fault, Dose::Chance(0.1));
    }
    let churn = tokio::spawn(Churn::new(10).run(runtime.clone(), seed, Duration::from_millis(50)));
    for _ in 0..2 {
        let call = subscribe(&runtime, &client).await;
        let read = async move { call.await.unwrap().until_silent_for(DEADLINE).await };
        let _ = timeout(Duration::from_secs(10), read).await;
        runtime.restart(Duration::from_millis(200)).await.unwrap();
    }
    churn.abort();
    let sent = runtime.deliveries().iter().map(|delivery| format!("{delivery:?}")).collect();
    (sent, runtime.history().iter().map(|change| format!("{change:?}")).collect())
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_history_and_deliveries() {
    let (sent, happened) = deliveries(11).await;
    assert!(sent.len() > 50, "{} events", sent.len());
    assert_eq!((sent, happened), deliveries(11).await);
}

#[tokio::test(start_paused = true)]
async fn an_unimplemented_method_is_counted_and_can_be_ordered_to_fail() {
    let runtime = runtime(Profile::CONTAINERD_1_6);
    let mut client = client(&runtime);
    runtime.faults().calls(Method::GetContainerEvents, CallFault::fail(Code::Unavailable), Dose::Next(1));
    for code in [Code::Unavailable, Code::Unimplemented] {
        let refused = client.get_container_events(lab::GetEventsRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
    assert_eq!(runtime.calls()[&Method::GetContainerEvents], 2);
}

#[tokio::test(start_paused = true)]
async fn a_paused_process_answers_nothing_and_continues() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let mut client = client(&runtime);
    let call = subscribe(&runtime, &client).await;
    let (_, id) = running_pod(&runtime, "a");
    let mut events = call.await.unwrap();
    assert_eq!(events.rest().await.len(), 4);

    runtime.faults().hang(Target::Process);
    runtime.change(|truth| truth.exit(&id, 0)).unwrap();
    assert!(timeout(Duration::from_secs(3600), events.0.message()).await.is_err());
    let mut other = client.clone();
    let mut version_call = tokio::spawn(async move { version(&mut other).await });
    assert!(timeout(Duration::from_secs(3600), &mut version_call).await.is_err());

    runtime.faults().release(&Target::Process);
    assert_eq!(events.next().await.container_event_type(), Kind::ContainerStoppedEvent);
    version_call.await.unwrap().unwrap();
    assert_eq!(list(&mut client).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fault_can_be_ordered_for_one_container_or_one_type() {
    let runtime = runtime(Profile::CONTAINERD_2_1);
    let client = client(&runtime);
    let call = subscribe(&runtime, &client).await;
    let started = lab_to_sim(Kind::ContainerStartedEvent);
    // As in both runtimes, whose exit monitors start before STARTED is sent: STOPPED overtakes STARTED, which then has the
    // older view.
    runtime.faults().events_only(Only::Kind(started), EventFault::Reorder, Dose::Always);
    let (_, id) = running_pod(&runtime, "a");
    runtime.faults().events_only(Only::Id(id.clone()), EventFault::Duplicate, Dose::Next(1));
    runtime.change(|truth| truth.exit(&id, 0)).unwrap();
    let events = call.await.unwrap().rest().await;
    let of_container: Vec<_> = events.into_iter().filter(|event| event.container_id == id).collect();
    assert_eq!(
        kinds(&of_container),
        [
            Kind::ContainerCreatedEvent,
            Kind::ContainerStoppedEvent,
            Kind::ContainerStoppedEvent,
            Kind::ContainerStartedEvent
        ]
    );
    assert_eq!(of_container[3].containers_statuses[0].state(), lab::ContainerState::ContainerRunning);
}

fn lab_to_sim(kind: Kind) -> plegd::sim::v1::ContainerEventType {
    plegd::sim::v1::ContainerEventType::try_from(kind as i32).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_under_load_brings_cri_o_down_before_1_33() {
    for (profile, down) in [(Profile::CRI_O_1_31, true), (Profile::CRI_O_1_34, false)] {
        let runtime = runtime(profile);
        let mut client = client(&runtime);
        subscribe(&runtime, &client).await.abort();
        tokio::time::sleep(Duration::from_millis(10)).await;
        running_pod(&runtime, "a");
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(runtime.is_down(), down, "{}", profile.name);
        assert_eq!(version(&mut client).await.is_err(), down);
        if down {
            runtime.recover().unwrap();
            timeout(DEADLINE, version(&mut client)).await.unwrap().unwrap();
            running_pod(&runtime, "b");
            assert!(!runtime.is_down());
        }
    }
}
