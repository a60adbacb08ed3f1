//! A real containerd, in the three versions that Debian carries: see `lab`.
//!
//! These tests need root, and Debian's archive the first time. They may run in parallel, each on a containerd of its own;
//! what they time is quieter one by one: `cargo test --test containerd -- --ignored --test-threads=1`.

mod lab;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{
    ContainerSpec, Containerd, PATIENCE, Version, What,
    cri::{ContainerEventResponse, ContainerEventType, ContainerState},
};
use tonic::Code;

/// One test of each scenario and version, so that each can be run and fails on its own.
macro_rules! on_versions {
    ($($test:ident = $scenario:ident($version:ident);)*) => {$(
        #[tokio::test]
        #[ignore = "needs root and Debian's containerd packages: see README"]
        async fn $test() -> Result<()> {
            $scenario(Version::$version).await
        }
    )*};
}

on_versions! {
    containerd_1_6_says_which_version_it_is = says_which_version_it_is(V1_6);
    containerd_1_7_says_which_version_it_is = says_which_version_it_is(V1_7);
    containerd_2_1_says_which_version_it_is = says_which_version_it_is(V2_1);
    containerd_1_7_tells_a_short_life_in_eight_events = tells_a_short_life_in_eight_events(V1_7);
    containerd_2_1_tells_a_short_life_in_eight_events = tells_a_short_life_in_eight_events(V2_1);
    containerd_1_6_has_no_events = has_no_events(V1_6);
    containerd_1_6_killed_and_restarted_keeps_its_containers = killed_and_restarted_keeps_its_containers(V1_6);
    containerd_1_7_killed_and_restarted_keeps_its_containers = killed_and_restarted_keeps_its_containers(V1_7);
    containerd_2_1_killed_and_restarted_keeps_its_containers = killed_and_restarted_keeps_its_containers(V2_1);
    containerd_1_6_shows_a_failed_start_and_tells_nothing = shows_a_failed_start_and_tells_nothing(V1_6);
    containerd_1_7_shows_a_failed_start_and_tells_nothing = shows_a_failed_start_and_tells_nothing(V1_7);
    containerd_2_1_shows_a_failed_start_and_tells_nothing = shows_a_failed_start_and_tells_nothing(V2_1);
    containerd_1_6_leaves_nothing_behind = leaves_nothing_behind(V1_6);
    containerd_1_7_leaves_nothing_behind = leaves_nothing_behind(V1_7);
    containerd_2_1_leaves_nothing_behind = leaves_nothing_behind(V2_1);
}

async fn says_which_version_it_is(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let said = containerd.client()?.version().await?;
    assert_eq!(said.runtime_name, "containerd");
    let number = said.runtime_version.trim_start_matches('v');
    ensure!(number.starts_with(version.prefix()), "{version:?} says it is {number}");
    assert_eq!(number, containerd.runtime_version());
    shut_down(containerd).await
}

async fn tells_a_short_life_in_eight_events(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut events = client.events()?;
    let pod = client.run_pod("short").await?;
    let container = client.run(&pod, ContainerSpec::living("main", 0.3, 7)).await?;
    let status = client.exited(&container).await?;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    client.remove(&container).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;

    let told = events.take(8, PATIENCE).await?;
    use ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
        ContainerStoppedEvent as Stopped,
    };
    let (sandbox, main) = (pod.sandbox_id.as_str(), container.as_str());
    assert_eq!(types_of(&told, sandbox), [Created, Started, Stopped, Deleted]);
    assert_eq!(types_of(&told, main), [Created, Started, Stopped, Deleted]);
    let first_four: Vec<_> = told[..4].iter().map(|event| event.container_id.as_str()).collect();
    assert_eq!(first_four, [sandbox, sandbox, main, main]);
    let done = [What::Created, What::Started, What::Died(Some(7)), What::Removed];
    assert_eq!(client.history().of(main), done);
    shut_down(containerd).await?;
    assert_eq!(events.drain(), [], "a ninth event");
    Ok(())
}

async fn has_no_events(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let mut events = containerd.client()?.events()?;
    let end = events.ended(PATIENCE).await?;
    assert_eq!(end.map_err(|status| status.code()), Err(Code::Unimplemented));
    shut_down(containerd).await
}

async fn killed_and_restarted_keeps_its_containers(version: Version) -> Result<()> {
    let mut containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let pod = client.run_pod("survivor").await?;
    let long = client.run(&pod, ContainerSpec::living("long", 3600.0, 0)).await?;
    let mut events = client.events()?;
    let before = containerd.pid()?;

    containerd.kill9()?;
    let gone = client.clone().with_deadline(Duration::from_secs(5)).version().await;
    ensure!(gone.is_err(), "a killed containerd answers");
    let end = events.ended(PATIENCE).await?;
    ensure!(end.is_err(), "the stream of a killed containerd ended cleanly");
    containerd.restart().await?;

    assert_ne!(containerd.pid()?, before);
    assert_eq!(client.status(&long).await?.state(), ContainerState::ContainerRunning);
    assert_eq!(client.list().await?.len(), 1);
    client.stop(&long, Duration::ZERO).await?;
    assert_eq!(client.status(&long).await?.exit_code, 137);
    assert_eq!(client.history().of(&long), [What::Created, What::Started, What::Died(Some(137))]);
    shut_down(containerd).await
}

async fn shows_a_failed_start_and_tells_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let pod = client.run_pod("broken").await?;
    let container = client.create(&pod, "missing", &["/no/such/binary"]).await?;
    let error = client.start(&container).await.err().context("a missing binary was started")?;
    ensure!(error.to_string().contains("no such file"), "{error}");
    let status = client.status(&container).await?;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert_eq!(status.started_at, 0);
    assert_eq!(client.history().of(&container), [What::Created, What::StartFailed]);
    shut_down(containerd).await
}

/// Both ways to end: asked to, with CRI's help, and dropped, as after a panic, with a container running.
async fn leaves_nothing_behind(version: Version) -> Result<()> {
    for dropped in [false, true] {
        let containerd = Containerd::start(version).await?;
        let client = containerd.client()?;
        let pod = client.run_pod("last").await?;
        client.run(&pod, ContainerSpec::living("long", 3600.0, 0)).await?;
        let watcher = containerd.watcher();
        let before = watcher.leftovers();
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
        assert_eq!(watcher.leftovers(), lab::Leftovers::default());
    }
    Ok(())
}

/// Ends it as a test should, and sees that nothing is left.
async fn shut_down(containerd: Containerd) -> Result<()> {
    let left = containerd.shutdown().await?;
    ensure!(left == lab::Leftovers::default(), "left behind: {left}");
    Ok(())
}

/// What was told of one container or sandbox, in order.
fn types_of(events: &[ContainerEventResponse], id: &str) -> Vec<ContainerEventType> {
    let of_it = events.iter().filter(|event| event.container_id == id);
    of_it.map(ContainerEventResponse::container_event_type).collect()
}
