//! Tests the lab itself, and the assumptions of `containerd.rs` about each containerd version: see `lab`.
//!
//! These tests need root, and Debian's archive the first time. They can run in parallel: `cargo test --test containerd_lab --
//! --ignored`.

mod lab;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{
    CallError, Change, Client, ContainerSpec, Containerd, Pod, TIMEOUT, Version,
    cri::{ContainerEventResponse, ContainerEventType, ContainerState, PodSandboxState},
    eventually,
};
use tonic::Code;

/// One test per scenario and version, so that each can be run alone.
macro_rules! on_versions {
    ($($test:ident = $scenario:ident($version:ident);)*) => {$(
        #[tokio::test]
        #[ignore = "needs root and Debian's containerd packages: see docs/testing.md"]
        async fn $test() -> Result<()> {
            $scenario(Version::$version).await
        }
    )*};
}

on_versions! {
    containerd_1_7_sends_eight_events_for_a_short_pod = sends_eight_events_for_a_short_pod(V1_7);
    containerd_2_1_sends_eight_events_for_a_short_pod = sends_eight_events_for_a_short_pod(V2_1);
    containerd_1_6_has_no_events = has_no_events(V1_6);
    containerd_1_7_gives_each_event_to_one_subscriber = gives_each_event_to_one_subscriber(V1_7);
    containerd_2_1_gives_each_event_to_every_subscriber = gives_each_event_to_every_subscriber(V2_1);
    containerd_1_7_does_not_wait_for_a_frozen_subscriber = does_not_wait_for_a_frozen_subscriber(V1_7);
    containerd_2_1_hangs_behind_a_frozen_subscriber = hangs_behind_a_frozen_subscriber(V2_1);
    containerd_2_1_stopped_and_continued_answers_again = stopped_and_continued_answers_again(V2_1);
    containerd_1_6_finds_deaths_after_a_restart = finds_deaths_after_a_restart(V1_6);
    containerd_1_7_finds_deaths_after_a_restart = finds_deaths_after_a_restart(V1_7);
    containerd_2_1_finds_deaths_after_a_restart = finds_deaths_after_a_restart(V2_1);
    containerd_1_6_leaves_nothing_behind = leaves_nothing_behind(V1_6);
    containerd_1_7_leaves_nothing_behind = leaves_nothing_behind(V1_7);
    containerd_2_1_leaves_nothing_behind = leaves_nothing_behind(V2_1);
}

async fn sends_eight_events_for_a_short_pod(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut events = client.events()?;
    let pod = client.run_pod("short").await?;
    let container = client.run(&pod, ContainerSpec::sleeping("main", 0.3, 7)).await?;
    let status = client.exited(&container).await?;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    client.remove(&container).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;

    let received = events.take(8, TIMEOUT).await?;
    use ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
        ContainerStoppedEvent as Stopped,
    };
    let (sandbox, main) = (pod.sandbox_id.as_str(), container.as_str());
    assert_eq!(types_of(&received, sandbox), [Created, Started, Stopped, Deleted]);
    assert_eq!(types_of(&received, main), [Created, Started, Stopped, Deleted]);
    let first_four: Vec<_> = received[..4].iter().map(|event| event.container_id.as_str()).collect();
    assert_eq!(first_four, [sandbox, sandbox, main, main]);
    let done = [Change::Created, Change::Started, Change::Died(Some(7)), Change::Removed];
    assert_eq!(client.history().of(main), done);
    shut_down(containerd).await?;
    assert_eq!(events.drain(), [], "a ninth event");
    Ok(())
}

async fn has_no_events(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let mut events = containerd.client()?.events()?;
    let end = events.ended(TIMEOUT).await?;
    assert_eq!(end.map_err(|status| status.code()), Err(Code::Unimplemented));
    shut_down(containerd).await
}

/// A container and a sandbox that die while containerd is down are found dead, and no event reports it.
async fn finds_deaths_after_a_restart(version: Version) -> Result<()> {
    let mut containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let (kept, lost) = (client.run_pod("kept").await?, client.run_pod("lost").await?);
    let container = client.run(&kept, ContainerSpec::sleeping("main", 3600.0, 0)).await?;
    containerd.kill9()?;
    containerd.kill_processes_of(&container)?;
    containerd.kill_processes_of(&lost.sandbox_id)?;
    containerd.restart().await?;

    let status = client.status(&container).await?;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    // 1.6 gets the exit from the shim; the others find no task and invent an exit.
    let known = if version == Version::V1_6 { (137, "Error") } else { (255, "Unknown") };
    assert_eq!((status.exit_code, status.reason.as_str()), known);
    assert_eq!(client.sandbox_status(&kept.sandbox_id).await?.state(), PodSandboxState::SandboxReady);
    assert_eq!(client.sandbox_status(&lost.sandbox_id).await?.state(), PodSandboxState::SandboxNotready);
    shut_down(containerd).await
}

/// The number of containers that are created and removed: two events each.
const CONTAINERS: u32 = 20;

async fn gives_each_event_to_one_subscriber(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let pod = client.run_pod("shared").await?;
    let (mut one, mut other) = (client.events()?, client.events()?);
    for subscriber in [&one, &other] {
        subscriber.answered(&client, &pod).await?;
    }
    create_and_remove(&client, &pod, CONTAINERS).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    // containerd sends one event for each entry of the history.
    let sent = client.history().entries().len() as u64;
    let received = || one.received() + other.received();
    eventually("every event to be read", TIMEOUT, || async { Ok((received() >= sent).then_some(())) })
        .await?;
    assert_eq!(received(), sent, "an event came twice");
    ensure!(one.drain().len() > 1 && other.drain().len() > 1, "one subscriber got nothing");
    shut_down(containerd).await
}

async fn gives_each_event_to_every_subscriber(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let pod = client.run_pod("shared").await?;
    let (mut one, mut other) = (client.events()?, client.events()?);
    for subscriber in [&one, &other] {
        subscriber.answered(&client, &pod).await?;
    }
    let last = client.create(&pod, "last", &["true"]).await?;
    create_and_remove(&client, &pod, CONTAINERS).await?;
    client.remove(&last).await?;
    // The first subscriber also received earlier events; from "last" on both are the same.
    let mut received = Vec::new();
    for subscriber in [&mut one, &mut other] {
        let mut since = Vec::new();
        loop {
            let event = subscriber.next(TIMEOUT).await?;
            let kind = event.container_event_type();
            let is_last = event.container_id == last;
            if is_last || !since.is_empty() {
                since.push((event.container_id, kind, event.created_at));
            }
            if is_last && kind == ContainerEventType::ContainerDeletedEvent {
                break;
            }
        }
        received.push(since);
    }
    assert_eq!(received[0].len(), 2 + 2 * CONTAINERS as usize);
    assert_eq!(received[0], received[1]);
    shut_down(containerd).await
}

async fn does_not_wait_for_a_frozen_subscriber(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let pod = run_large_pod(&client).await?;
    let frozen = client.frozen_events()?;
    frozen.answered(&client, &pod).await?;
    create_and_remove(&client, &pod, FREEZING_CONTAINERS).await?;
    shut_down(containerd).await
}

async fn hangs_behind_a_frozen_subscriber(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let pod = run_large_pod(&client).await?;
    let frozen = client.frozen_events()?;
    frozen.answered(&client, &pod).await?;
    let short_deadline = client.clone().with_deadline(Duration::from_secs(3));
    let error = create_and_remove(&short_deadline, &pod, FREEZING_CONTAINERS).await.err();
    let error = error.context("a frozen subscriber blocked nothing")?;
    let code = error.downcast_ref::<CallError>().context("no call failed")?.code();
    assert_eq!(code, Code::DeadlineExceeded);
    // Once the subscriber reads again, the runtime continues.
    frozen.thaw();
    client.run_pod("after").await?;
    shut_down(containerd).await
}

async fn stopped_and_continued_answers_again(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let before = containerd.cpu_seconds()?;
    ensure!(before > 0.0, "containerd started without using the processor");
    containerd.sigstop().await?;
    let short_deadline = client.clone().with_deadline(Duration::from_millis(500));
    let error = short_deadline.list().await.err().context("a stopped containerd answers")?;
    assert_eq!(error.code(), Code::DeadlineExceeded);
    containerd.sigcont()?;
    client.list().await?;
    ensure!(containerd.cpu_seconds()? >= before, "processor time went back");
    shut_down(containerd).await
}

/// Both ways to end: a shutdown through CRI, and a drop, as after a panic, with a running container.
async fn leaves_nothing_behind(version: Version) -> Result<()> {
    for dropped in [false, true] {
        let containerd = Containerd::start(version).await?;
        let client = containerd.client()?;
        let number = client.version().await?.runtime_version;
        let number = number.trim_start_matches('v');
        ensure!(number.starts_with(version.prefix()), "{version:?} reports version {number}");
        assert_eq!(number, containerd.runtime_version());
        let pod = client.run_pod("last").await?;
        client.run(&pod, ContainerSpec::sleeping("long", 3600.0, 0)).await?;
        let scanner = containerd.leftover_scanner();
        let before = scanner.leftovers();
        ensure!(!before.processes.is_empty() && !before.mounts.is_empty(), "nothing to clean up: {before}");
        ensure!(
            !before.cgroups.is_empty() && !before.shim_sockets.is_empty(),
            "nothing to clean up: {before}"
        );
        if dropped {
            drop(containerd);
        } else {
            shut_down(containerd).await?;
        }
        assert_eq!(scanner.leftovers(), lab::Leftovers::default());
    }
    Ok(())
}

/// Shuts containerd down, and checks that nothing is left.
async fn shut_down(containerd: Containerd) -> Result<()> {
    let left = containerd.shutdown().await?;
    ensure!(left == lab::Leftovers::default(), "left behind: {left}");
    Ok(())
}

/// Enough for a hundred events more than a small window holds of a pod with many containers.
const FREEZING_CONTAINERS: u32 = 120;

/// Runs a pod with 20 containers. Every event has the statuses of all of them, so that a few events fill a window.
async fn run_large_pod(client: &Client) -> Result<Pod> {
    let pod = client.run_pod("large").await?;
    for number in 0..20 {
        client.create(&pod, &format!("idle-{number}"), &["true"]).await?;
    }
    Ok(pod)
}

async fn create_and_remove(client: &Client, pod: &Pod, count: u32) -> Result<()> {
    for attempt in 0..count {
        let spec = ContainerSpec { attempt, ..ContainerSpec::new("passing", &["true"]) };
        client.remove(&client.create_with(pod, spec).await?).await?;
    }
    Ok(())
}

/// The event types received for one container or sandbox, in order.
fn types_of(events: &[ContainerEventResponse], id: &str) -> Vec<ContainerEventType> {
    let of_it = events.iter().filter(|event| event.container_id == id);
    of_it.map(ContainerEventResponse::container_event_type).collect()
}
