//! The cost of each of plegd's calls for containerd with many idle pods, and the cost of reading a pod with them.
//!
//! For a list, containerd walks all its objects, whatever the filter: this measurement compares that with the status
//! calls.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::{
    cri::{self, CriError, Link},
    metrics::Metrics,
    model::ObjectId,
};

use super::{
    Bench, CONTAINERS_PER_POD,
    node::Node,
    process::Cpu,
    progress,
    report::{Distribution, Reading, Unit},
};

/// Calls per measurement: the kernel counts CPU precisely, and containerd does little else meanwhile.
const CALLS: usize = 200;
const ROUNDS: usize = 5;
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Reading>> {
    let (clock, pods) = (bench.clock.clone(), bench.pods);
    let node = bench.node().await?;
    let containerd = node.containerd.pid()?;
    let endpoint = node.containerd.endpoint().parse().map_err(anyhow::Error::msg)?;
    let link = Link::unix(endpoint);
    let client = cri::Client::new(link, DEADLINE, clock, Metrics::new().into());
    let (sandbox, container) = one_of(node, &client).await?;
    let calls = [
        Call::Sandboxes,
        Call::Containers,
        Call::ListedSandbox(sandbox.clone()),
        Call::ListedContainer(container.clone()),
        Call::Sandbox(sandbox.clone()),
        Call::Container(container, sandbox),
    ];
    let mut costs = [0.0; 6];
    for (cost, call) in costs.iter_mut().zip(&calls) {
        let measured = call.cost(&client, containerd);
        *cost = progress::during("measuring the cost of calls for containerd", measured).await?;
    }
    let [sandboxes, containers, listed_sandbox, listed_container, sandbox, container] = costs;
    let statuses = sandbox + CONTAINERS_PER_POD as f64 * container;
    let lists = sandboxes + containers;
    let microseconds = |key: &'static str, what: String, seconds: f64| {
        Reading::new(key, what, Unit::Microseconds, seconds * 1e6)
    };
    let call = |key, call: &str, seconds| {
        microseconds(key, format!("containerd's CPU of {call}, {pods} pods"), seconds)
            .note(format!("median of {ROUNDS} times {CALLS} calls"))
    };
    Ok(vec![
        call("call_list_sandboxes", "ListPodSandbox", sandboxes),
        call("call_list_containers", "ListContainers", containers),
        call("call_list_sandbox_of_id", "ListPodSandbox of one id", listed_sandbox),
        call("call_list_container_of_id", "ListContainers of one id", listed_container),
        call("call_sandbox_status", "PodSandboxStatus", sandbox),
        call("call_container_status", "ContainerStatus", container),
        microseconds(
            "read_ids",
            format!("containerd's CPU of reading a pod by its ids, {pods} pods"),
            statuses,
        )
        .note(format!("a sandbox and {CONTAINERS_PER_POD} containers, no list: the reads after an event")),
        microseconds(
            "read_whole",
            format!("containerd's CPU of reading a whole pod, {pods} pods"),
            statuses + lists,
        )
        .note("the same after both full lists, which simultaneous readers share"),
    ])
}

/// A call that plegd makes.
enum Call {
    Sandboxes,
    Containers,
    ListedSandbox(ObjectId),
    ListedContainer(ObjectId),
    Sandbox(ObjectId),
    /// With the container's sandbox.
    Container(ObjectId, ObjectId),
}

// === impl Call ===

impl Call {
    /// The CPU time of containerd in seconds.
    async fn cost(&self, client: &cri::Client, containerd: u32) -> Result<f64> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let before = Cpu::of(containerd)?;
            for _ in 0..CALLS {
                self.make(client).await?;
            }
            rounds.push(Cpu::of(containerd)?.since(&before).as_secs_f64() / CALLS as f64);
        }
        Ok(Distribution::of(rounds).context("nothing was measured")?.median())
    }

    async fn make(&self, client: &cri::Client) -> Result<(), CriError> {
        match self {
            Self::Sandboxes => client.list_sandboxes().await.map(drop),
            Self::Containers => client.list_containers().await.map(drop),
            Self::ListedSandbox(id) => client.listed_sandbox(id).await.map(drop),
            Self::ListedContainer(id) => client.listed_container(id).await.map(drop),
            Self::Sandbox(id) => client.sandbox_status(id).await.map(drop),
            Self::Container(id, sandbox) => client.container_status(id, sandbox).await.map(drop),
        }
    }
}

/// Ids of a sandbox and of a container in it.
async fn one_of(node: &Node, client: &cri::Client) -> Result<(ObjectId, ObjectId)> {
    let container = node.client.list().await?.pop().context("there is no container")?;
    let listed = client.list_sandboxes().await?;
    let sandbox =
        listed.into_iter().find(|it| it.id == container.pod_sandbox_id).context("it has no sandbox")?;
    Ok((sandbox.id.into(), container.id.into()))
}
