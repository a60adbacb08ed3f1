//! A simulated runtime with a plegd, and containers as a source of events.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result};
use plegd::{
    api::v1,
    client::{Address, Client},
    clock::Clock,
    model::Position,
    sim::{
        Method, Profile, SimRuntime,
        churn::populate,
        serve::SocketHandle,
        truth::{ContainerSpec, Refused, SandboxSpec, Truth},
    },
};
use tokio::time::{sleep, timeout};

use super::super::{
    CONTAINERS_PER_POD,
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    progress,
};

/// Idle pods.
pub(super) const PODS: usize = 50;
/// Pods with containers, in turn.
const LIVELY_PODS: usize = 8;

/// Without an event for this time, all events are published.
const REST: Duration = Duration::from_millis(500);

/// The runtime and plegd.
pub(super) struct Feed {
    pub(super) clock: Clock,
    sim: SimRuntime,
    _served: SocketHandle,
    daemon: Daemon,
    client: Client,
    pods: Vec<(String, SandboxSpec)>,
}

// === impl Feed ===

impl Feed {
    pub(super) async fn start(clock: &Clock, socket: &Path) -> Result<Self> {
        let sim = SimRuntime::new(Profile::CONTAINERD_2_1, clock.clone(), 1);
        let refused = |refused: Refused| anyhow::anyhow!("the simulated runtime refused: {refused:?}");
        sim.change(|truth| populate(truth, 1, PODS, CONTAINERS_PER_POD)).map_err(refused)?;
        let pods = (0..LIVELY_PODS).map(|n| {
            let spec = SandboxSpec::of_pod("default", &format!("lively-{n}"), &format!("uid-{n}"));
            let id = sim.change(|truth| truth.run_sandbox(spec.clone())).map_err(refused)?;
            Ok((id, spec))
        });
        let pods = pods.collect::<Result<_>>()?;
        let served = sim.serve_uds(socket)?;
        let daemon = Daemon::start(clock, &socket.display().to_string(), Print::Nothing, Stream::On).await?;
        daemon.ready().await?;
        let up = daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE);
        progress::during("waiting for the stream", up).await?;
        let client = Client::lazy(&Address::Unix(daemon.socket()));
        Ok(Self { clock: clock.clone(), sim, _served: served, daemon, client, pods })
    }

    pub(super) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The head of plegd's journal.
    pub(super) async fn head(&self) -> Result<Position> {
        Ok(self.client.list_pods(v1::Filter::default()).await?.position)
    }

    /// All calls of the runtime, by method.
    pub(super) fn calls(&self) -> BTreeMap<Method, u64> {
        self.sim.calls()
    }

    /// Creates, starts, stops and removes containers, with a pause after each step; returns the head once all events
    /// are in the journal.
    pub(super) async fn live(&self, containers: usize, pause: Duration) -> Result<u64> {
        let before = self.head().await?.sequence;
        for n in 0..containers {
            let (sandbox, pod) = &self.pods[n % self.pods.len()];
            let attempt = u32::try_from(n)?;
            let spec = ContainerSpec::of_pod(pod, "short", attempt, "registry.example/short:1.0");
            let id = self.act(pause, |truth| truth.create_container(sandbox, spec)).await?;
            self.act(pause, |truth| truth.start_container(&id)).await?;
            self.act(pause, |truth| truth.exit(&id, 0)).await?;
            self.act(pause, |truth| truth.remove_container(&id)).await?;
        }
        // Each gives four events, or three if plegd detects it after its start.
        let least = before + 3 * containers as u64;
        let published = async {
            loop {
                let head = self.head().await?.sequence;
                sleep(REST).await;
                if head >= least && self.head().await?.sequence == head {
                    return anyhow::Ok(head);
                }
            }
        };
        timeout(DEADLINE, published).await.context("not all events are published")?
    }

    async fn act<T>(&self, pause: Duration, act: impl FnOnce(&mut Truth) -> Result<T, Refused>) -> Result<T> {
        let done = self.sim.change_and_wait(act).await;
        if !pause.is_zero() {
            sleep(pause).await;
        }
        done.map_err(|refused| anyhow::anyhow!("the simulated runtime refused: {refused:?}"))
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.daemon.stop().await
    }
}
