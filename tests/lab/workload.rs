//! The loads that tests and benchmarks share.
//!
//! Owns nothing: each load is a sequence of the client's calls, and the client's history records them.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Client, ContainerSpec, Pod, client::PARALLEL_CALLS};

/// Runs `count` pods of `containers` containers each, which run until they are stopped, a few in parallel.
pub async fn run_pods(client: &Client, count: usize, containers: usize) -> Result<Vec<Pod>> {
    let runs = (0..count).map(|number| run_one(client, number, containers));
    stream::iter(runs).buffer_unordered(PARALLEL_CALLS).try_collect().await
}

async fn run_one(client: &Client, number: usize, containers: usize) -> Result<Pod> {
    let pod = client.run_pod(&format!("pod-{number}")).await?;
    for container in 0..containers {
        client.run(&pod, ContainerSpec::new(&format!("c{container}"), &["sleep", "2147483647"])).await?;
    }
    Ok(pod)
}

/// Runs `count` containers in the pod, one after the other, each for `seconds`, and removes them. Returns their ids.
pub async fn run_short_containers(
    client: &Client,
    pod: &Pod,
    count: u32,
    seconds: f64,
) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for attempt in 0..count {
        let spec = ContainerSpec { attempt, ..ContainerSpec::sleeping("short", seconds, 0) };
        let id = client.run(pod, spec).await?;
        client.exited(&id).await?;
        client.remove(&id).await?;
        ids.push(id);
    }
    Ok(ids)
}
