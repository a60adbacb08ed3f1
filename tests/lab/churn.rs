//! Pods that are created and removed, each by its own scenario, while the runtime fails.
//!
//! Owns no process: every step is a call of the client, whose history has the results. A failed call is repeated once the
//! runtime is back. If the effect of a failed call is unknown, the container is *uncertain*: its events must be in order and
//! complete, but are not compared with the history. The same holds for ids that no call has returned, such as sandboxes that a
//! killed runtime had begun to create.
//!
//! While the runtime or plegd's connection is disturbed, nothing is removed. A kubelet, too, removes only what its PLEG has
//! reported. A pod that comes and goes while nothing can be read leaves no trace to report.

mod scenario;

pub use self::scenario::PodScenario;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use self::scenario::short_container;
use super::{Change, Client, ContainerSpec, Pod, TIMEOUT, cri, eventually};

/// How often one step is tried, and the pause between two tries.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(500);

/// Runs pod scenarios. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Churn {
    client: Client,
    state: Arc<State>,
    is_calm: watch::Receiver<bool>,
    is_ending: watch::Receiver<bool>,
}

/// Controls a running churn.
#[derive(Debug)]
pub struct ChurnControl {
    calm: watch::Sender<bool>,
    ending: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    uncertain_ids: Mutex<BTreeSet<String>>,
    failed_calls: AtomicU64,
    pods: AtomicU64,
}

// === impl ChurnControl ===

impl ChurnControl {
    /// Suspends removals until [`Self::calm`].
    pub fn disturb(&self) {
        self.calm.send_replace(false);
    }

    pub fn calm(&self) {
        self.calm.send_replace(true);
    }

    /// Ends all pauses, so that every scenario runs to its end at once.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }
}

// === impl Churn ===

impl Churn {
    pub fn new(client: Client) -> (Self, ChurnControl) {
        let (calm, is_calm) = watch::channel(true);
        let (ending, is_ending) = watch::channel(false);
        (Self { client, state: Arc::default(), is_calm, is_ending }, ChurnControl { calm, ending })
    }

    /// Whether the history has every change of this id. It has no id that a failed call created.
    pub fn is_certain(&self, id: &str) -> bool {
        self.client.history().last_of(id).is_some() && !self.uncertain_ids().contains(id)
    }

    pub fn uncertain(&self) -> usize {
        self.uncertain_ids().len()
    }

    /// Calls that failed unexpectedly.
    pub fn failed_calls(&self) -> u64 {
        self.state.failed_calls.load(Ordering::Relaxed)
    }

    /// Pods that were created and removed.
    pub fn pods(&self) -> u64 {
        self.state.pods.load(Ordering::Relaxed)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs `count` pods, `at_a_time` of them in parallel.
    pub fn many(&self, count: u32, at_a_time: usize, seed: u64) -> JoinHandle<Result<()>> {
        let (churn, mut rng) = (self.clone(), fastrand::Rng::with_seed(seed));
        let runs = (0..count).map(move |number| {
            let (churn, scenario, rng) = (churn.clone(), PodScenario::drawn(&mut rng), rng.fork());
            async move {
                let name = format!("{}-{number}", scenario.as_str());
                churn.run_scenario(&name, scenario, rng).await.with_context(|| format!("{name}, seed {seed}"))
            }
        });
        tokio::spawn(stream::iter(runs).buffer_unordered(at_a_time).try_collect())
    }

    /// Runs one scenario, on a pod with a new name.
    pub async fn run_scenario(
        &self,
        name: &str,
        scenario: PodScenario,
        mut rng: fastrand::Rng,
    ) -> Result<()> {
        let pod = self.run_pod(name).await?;
        match scenario {
            PodScenario::Short => {
                self.one(&pod, short_container("main", 0, &mut rng), &mut rng).await?;
            }
            PodScenario::Long => {
                let first = self.run(&pod, ContainerSpec::sleeping("first", 3600.0, 0)).await?;
                let second = self.run(&pod, ContainerSpec::sleeping("second", 3600.0, 0)).await?;
                self.pause(rng.u64(5_000..60_000)).await;
                if let Some(first) = first {
                    self.stop(&first).await?;
                }
                if let Some(second) = second.filter(|_| rng.bool()) {
                    self.stop(&second).await?;
                    self.remove(&second).await?;
                }
            }
            PodScenario::CrashLoop => {
                for attempt in 0..rng.u32(3..6) {
                    let spec = ContainerSpec { attempt, ..short_container("main", 1, &mut rng) };
                    self.one(&pod, spec, &mut rng).await?;
                    self.pause(rng.u64(0..1_000)).await;
                }
            }
            PodScenario::FailedStart => {
                let beside = self.run(&pod, ContainerSpec::sleeping("beside", 3600.0, 0)).await?;
                if let Some(id) =
                    self.create(&pod, ContainerSpec::new("missing", &["/no/such/program"])).await?
                {
                    self.start(&id).await?;
                    self.pause(rng.u64(0..7_000)).await;
                    self.remove(&id).await?;
                }
                if let Some(beside) = beside {
                    self.stop(&beside).await?;
                }
            }
            PodScenario::OutOfMemory => {
                let greedy = ContainerSpec::new("greedy", &["tail", "/dev/zero"]);
                let spec = ContainerSpec { memory_limit_bytes: 16 << 20, ..greedy };
                self.one(&pod, spec, &mut rng).await?;
            }
            PodScenario::NewSandbox => {
                self.run(&pod, ContainerSpec::sleeping("main", 3600.0, 0)).await?;
                self.pause(rng.u64(0..2_000)).await;
                self.stop_pod(&pod).await?;
                // Not retried: the next try would create another pod.
                if let Ok(next) = self.client.run_pod_again(&pod).await {
                    let spec = ContainerSpec { attempt: 1, ..short_container("main", 0, &mut rng) };
                    self.one(&next, spec, &mut rng).await?;
                    self.remove_pod(&pod).await?;
                    self.end(&next).await?;
                    return Ok(());
                }
                self.discard(name, &pod.sandbox_id).await?;
            }
            PodScenario::Several => {
                let mut ids = Vec::new();
                for number in 0..rng.u32(3..6) {
                    ids.push(
                        self.run(&pod, short_container(&format!("c{number}"), number as u8, &mut rng))
                            .await?,
                    );
                }
                for id in ids.into_iter().flatten() {
                    self.exited(&id).await?;
                    if rng.bool() {
                        self.remove(&id).await?;
                    }
                }
            }
        }
        self.end(&pod).await
    }

    /// Runs one container until it exits, and removes it.
    async fn one(&self, pod: &Pod, spec: ContainerSpec, rng: &mut fastrand::Rng) -> Result<()> {
        let Some(id) = self.run(pod, spec).await? else { return Ok(()) };
        self.exited(&id).await?;
        if rng.bool() {
            self.pause(rng.u64(500..2_000)).await;
        }
        self.remove(&id).await
    }

    async fn end(&self, pod: &Pod) -> Result<()> {
        self.stop_pod(pod).await?;
        self.remove_pod(pod).await?;
        self.state.pods.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    // --- Steps, each repeated until it succeeds ---

    async fn run_pod(&self, name: &str) -> Result<Pod> {
        let mut tries = 0;
        loop {
            match self.client.run_pod(name).await {
                Ok(pod) => return Ok(pod),
                Err(error) => self.retry(&mut tries, error).await?,
            }
            self.discard(name, "").await?;
        }
    }

    /// Creates and starts a container. None if it is not certain that it runs.
    async fn run(&self, pod: &Pod, spec: ContainerSpec) -> Result<Option<String>> {
        let Some(id) = self.create(pod, spec).await? else { return Ok(None) };
        Ok(self.start(&id).await?.then_some(id))
    }

    /// None if the container cannot be created, for example because its pod is broken.
    async fn create(&self, pod: &Pod, spec: ContainerSpec) -> Result<Option<String>> {
        let mut tries = 0;
        for more in 0..3 {
            // A failed try may have reserved the name.
            let spec = ContainerSpec { attempt: spec.attempt + 100 * more, ..spec.clone() };
            match self.client.create_with(pod, spec).await {
                Ok(id) => return Ok(Some(id)),
                Err(error) => self.retry(&mut tries, error).await?,
            }
        }
        Ok(None)
    }

    /// Whether it is certain that the container has started.
    async fn start(&self, id: &str) -> Result<bool> {
        let Err(error) = self.client.start(id).await else { return Ok(true) };
        if self.client.history().last_of(id) != Some(Change::StartFailed) {
            self.mark_uncertain(id);
            self.retry(&mut 0, error).await?;
        }
        Ok(false)
    }

    async fn exited(&self, id: &str) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.client.exited(id).await {
            // A runtime that was killed may have lost the state of the container.
            let unknown = self
                .client
                .status(id)
                .await
                .is_ok_and(|status| status.state() == cri::ContainerState::ContainerUnknown);
            if unknown {
                self.mark_uncertain(id);
                return Ok(());
            }
            self.retry(&mut tries, error).await?;
        }
        Ok(())
    }

    async fn stop(&self, id: &str) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.client.stop(id, Duration::ZERO).await {
            self.retry(&mut tries, error).await?;
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let mut tries = 0;
        self.calm().await;
        while let Err(error) = self.client.remove(id).await {
            self.mark_uncertain(id);
            self.retry(&mut tries, error).await?;
            self.calm().await;
        }
        Ok(())
    }

    async fn stop_pod(&self, pod: &Pod) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.client.stop_pod(pod).await {
            self.retry(&mut tries, error).await?;
        }
        Ok(())
    }

    async fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let mut tries = 0;
        self.calm().await;
        while let Err(error) = self.client.remove_pod(pod).await {
            // The pod may be removed, or may reappear once the runtime is back.
            self.mark_uncertain(&pod.sandbox_id);
            self.client
                .history()
                .containers_of(&pod.sandbox_id)
                .iter()
                .for_each(|(id, _)| self.mark_uncertain(id));
            self.retry(&mut tries, error).await?;
            self.calm().await;
        }
        Ok(())
    }

    /// Removes sandboxes that a failed call may have created.
    async fn discard(&self, name: &str, but: &str) -> Result<()> {
        let mut tries = 0;
        self.calm().await;
        while let Err(error) = self.client.discard_pods(name, but).await {
            self.retry(&mut tries, error).await?;
            self.calm().await;
        }
        Ok(())
    }

    // --- Helpers ---

    /// Waits until the runtime is back. Fails if this step has failed too often.
    async fn retry(&self, tries: &mut u32, error: impl Into<anyhow::Error>) -> Result<()> {
        let error = error.into();
        self.state.failed_calls.fetch_add(1, Ordering::Relaxed);
        *tries += 1;
        if *tries > TRIES {
            return Err(error.context("failed too often"));
        }
        sleep(PAUSE).await;
        let client = self.client.clone().with_deadline(Duration::from_secs(2));
        let ready = eventually("the runtime to be back", 2 * TIMEOUT, || async {
            sleep(Duration::from_millis(90)).await;
            Ok(client.runtime_is_ready().await.unwrap_or(false).then_some(()))
        });
        ready.await.with_context(|| format!("after {error:#}"))
    }

    /// Waits while removals are suspended.
    async fn calm(&self) {
        // An error means that the control was dropped: the state does not change any more.
        let _ = self.is_calm.clone().wait_for(|calm| *calm).await;
    }

    /// Waits, unless the churn is ending.
    async fn pause(&self, milliseconds: u64) {
        let mut is_ending = self.is_ending.clone();
        let over = is_ending.wait_for(|ending| *ending);
        let _ = tokio::time::timeout(Duration::from_millis(milliseconds), over).await;
    }

    fn mark_uncertain(&self, id: &str) {
        self.uncertain_ids().insert(id.to_owned());
    }

    fn uncertain_ids(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.state.uncertain_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
