//! Pods beside plain starts and ends: failed starts, late reasons, several sandboxes, fresh reads.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use plegd::model::{ContainerState, EventType, SandboxState};
use tokio::time::sleep;

use super::{
    finish,
    lab::{
        Client, ContainerSpec, Containerd, Follower, Pod, TIMEOUT,
        Version::{self, V1_6, V2_1},
    },
    without_relists,
};

pub(super) async fn a_failed_start_is_published() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start_with(&containerd, without_relists)?;
    plegd.until_following(true).await?;
    let pod = client.run_pod("broken").await?;
    let id = client.create(&pod, "missing", &["/no/such/binary"]).await?;
    ensure!(client.start(&id).await.is_err(), "a missing binary was started");
    plegd.until_published(client.history(), Duration::from_secs(7)).await?;
    assert_eq!(plegd.history_of(&id), ["Changed", "Died(128 StartError)"]);
    let death = plegd.events_of(&id).find(|event| event.kind == EventType::ContainerDied).context("died")?;
    let late = death.occurred_at.map(|at| death.observed_at.seconds_since(at)).context("when it failed")?;
    println!("a failed start was published {late:.3} s after it failed");
    plegd.until_truth(&client, TIMEOUT).await?;
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    finish(plegd, containerd).await
}

/// 24 pods of a Job, with one container of 0.3 s each, four in parallel. containerd logs an error for each status call about a
/// removed id, and plegd must cause none.
pub(super) async fn a_job_leaves_no_error_lines(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;
    for n in 0..6 {
        let stays = client.run_pod(&format!("stays-{n}")).await?;
        client.run(&stays, ContainerSpec::sleeping("main", 3600.0, 0)).await?;
    }
    let clock = plegd.app.clock().clone();
    let late = futures::stream::iter(0..24)
        .map(|n| {
            let (client, clock) = (&client, &clock);
            async move {
                let pod = client.run_pod(&format!("job-{n}")).await?;
                let id = client.run(&pod, ContainerSpec::sleeping("main", 0.3, 0)).await?;
                // The lab's own reads concern existing containers only.
                client.exited(&id).await?;
                client.stop_pod(&pod).await?;
                client.remove_pod(&pod).await?;
                Ok::<_, anyhow::Error>((pod.sandbox_id, clock.wall()))
            }
        })
        .buffer_unordered(4)
        .collect::<Vec<_>>()
        .await;
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    let mut latencies = Vec::new();
    for removed in late {
        let (sandbox, returned) = removed?;
        let removal = plegd.events_of(&sandbox).find(|event| event.kind == EventType::ContainerRemoved);
        latencies.push(1e3 * removal.context("the removal")?.observed_at.seconds_since(returned));
    }
    latencies.sort_by(f64::total_cmp);
    let log = containerd.log();
    let is_error = |line: &&str| {
        line.contains("level=error")
            && (line.contains("PodSandboxStatus") || line.contains("ContainerStatus"))
    };
    let errors: Vec<&str> = log.lines().filter(is_error).collect();
    let at = |index: usize| latencies.get(index).copied().unwrap_or(f64::NAN);
    println!(
        "{version:?}: the removal of {} sandboxes was published after the call returned by a median of {:.2} ms, at most {:.2} ms",
        latencies.len(),
        at(latencies.len() / 2),
        at(latencies.len().saturating_sub(1)),
    );
    ensure!(errors.is_empty(), "containerd logged {errors:#?}");
    finish(plegd, containerd).await
}

pub(super) async fn an_oom_kill_is_published_with_its_reason(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(version != V1_6).await?;
    let pod = client.run_pod("greedy").await?;
    let id = killed_for_memory(&client, &pod).await?;
    plegd.until_published(client.history(), Duration::from_secs(5)).await?;
    let has_reason = |it: &Follower| it.events_of(&id).any(|event| event.reason == "OOMKilled");
    plegd.until("OOMKilled", TIMEOUT, has_reason).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    finish(plegd, containerd).await
}

/// A container that was killed for its memory, and of which the runtime says so: on a busy machine it may miss the kernel's notification.
async fn killed_for_memory(client: &Client, pod: &Pod) -> Result<String> {
    for attempt in 0..5 {
        let greedy = ContainerSpec::new("main", &["tail", "/dev/zero"]);
        let spec = ContainerSpec { attempt, memory_limit_bytes: 16 << 20, ..greedy };
        let id = client.run(pod, spec).await?;
        assert_eq!(client.exited(&id).await?.exit_code, 137);
        sleep(Duration::from_secs(1)).await;
        if client.status(&id).await?.reason == "OOMKilled" {
            return Ok(id);
        }
    }
    bail!("the runtime reports no OOMKilled: can this machine limit memory by cgroup?")
}

pub(super) async fn both_sandboxes_of_a_pod_are_served(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(version != V1_6).await?;
    let first = client.run_pod("again").await?;
    let old = client.run(&first, ContainerSpec::sleeping("main", 3600.0, 0)).await?;
    plegd.until_published(client.history(), TIMEOUT).await?;
    client.stop_pod(&first).await?;
    let second = client.run_pod_again(&first).await?;
    let new = client
        .run(&second, ContainerSpec { attempt: 1, ..ContainerSpec::sleeping("main", 3600.0, 0) })
        .await?;
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;

    let pod = plegd.pod(&first).context("the pod is not served")?;
    let sandboxes: Vec<_> =
        pod.sandboxes.iter().map(|sandbox| (sandbox.id.as_str(), sandbox.state)).collect();
    assert_eq!(
        sandboxes,
        [
            (second.sandbox_id.as_str(), SandboxState::Ready),
            (first.sandbox_id.as_str(), SandboxState::NotReady)
        ]
    );
    let containers: Vec<_> = pod
        .containers
        .iter()
        .map(|container| (container.id.as_str(), container.sandbox_id.as_str()))
        .collect();
    assert_eq!(
        containers,
        [(new.as_str(), second.sandbox_id.as_str()), (old.as_str(), first.sandbox_id.as_str())]
    );

    client.remove_pod(&first).await?;
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    let pod = plegd.pod(&second).context("the pod is not served")?;
    assert_eq!(pod.sandboxes.len(), 1);
    assert_eq!(pod.sandbox().map(|sandbox| sandbox.attempt), Some(1));
    assert!(!plegd.has_published(&second.sandbox_id, EventType::ContainerDied));
    finish(plegd, containerd).await
}

pub(super) async fn a_newer_read_shows_the_effect_of_a_call(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start_with(&containerd, without_relists)?;
    plegd.until_following(version != V1_6).await?;
    let pod = client.run_pod("fresh").await?;
    let uid = pod.uid.as_str().into();
    let read = async |id: &str| {
        let app = &plegd.app;
        let read = app.pod_newer_than(&uid, app.clock().now(), Duration::from_secs(5)).await?;
        let pod = read.as_ref();
        anyhow::Ok(pod.map(|pod| pod.container(id).map(|container| container.state)))
    };
    assert_eq!(read("").await?, Some(None), "the pod");
    let id = client.create(&pod, "main", &["sleep", "3600"]).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Created)));
    client.start(&id).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Running)));
    client.stop(&id, Duration::ZERO).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Exited)));
    client.remove(&id).await?;
    assert_eq!(read(&id).await?, Some(None));
    // Removed while it runs: no status has shown its death.
    let id = client.run(&pod, ContainerSpec::sleeping("running", 3600.0, 0)).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Running)));
    client.remove(&id).await?;
    assert_eq!(read(&id).await?, Some(None));
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    assert_eq!(read("").await?, None);
    plegd.until_truth(&client, TIMEOUT).await?;
    finish(plegd, containerd).await
}
