//! Pods that come and go, each by a story of its own, through whatever befalls the runtime meanwhile.
//!
//! Owns no process: every step is a call of the client, whose history has what it did. A call that fails is made again once
//! the runtime is back. Where it cannot be said what a failed call has done, the container is *doubted*: what is told of it
//! must still be in order and come to an end, but is not compared with the history. The same holds of ids that no call has
//! returned, of sandboxes that a killed runtime had begun to make.
//!
//! While the runtime or plegd's way to it is disturbed nothing is removed, as with a kubelet, which removes what its PLEG has
//! told it of: what comes and goes while nobody can look leaves no trace that anybody could tell.

mod story;

pub use self::story::Story;

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

use self::story::soon;
use super::{Client, ContainerSpec, PATIENCE, Pod, What, cri, eventually};

/// How often one step is tried, and how long it is left alone in between.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(500);

/// Makes pods live. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Churn {
    client: Client,
    state: Arc<State>,
    is_calm: watch::Receiver<bool>,
    is_ending: watch::Receiver<bool>,
}

/// Says what the runtime is going through.
#[derive(Debug)]
pub struct Director {
    calm: watch::Sender<bool>,
    ending: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    doubts: Mutex<BTreeSet<String>>,
    failed_calls: AtomicU64,
    pods: AtomicU64,
}

// === impl Director ===

impl Director {
    /// Until it is calm again, nothing is removed.
    pub fn disturb(&self) {
        self.calm.send_replace(false);
    }

    pub fn calm(&self) {
        self.calm.send_replace(true);
    }

    /// Whoever lives long or rests goes on to its end at once.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }
}

// === impl Churn ===

impl Churn {
    pub fn new(client: Client) -> (Self, Director) {
        let (calm, is_calm) = watch::channel(true);
        let (ending, is_ending) = watch::channel(false);
        (Self { client, state: Arc::default(), is_calm, is_ending }, Director { calm, ending })
    }

    /// Whether the history has all that the calls have done to this id. Of what a call has made that returned no id it has
    /// nothing.
    pub fn is_certain(&self, id: &str) -> bool {
        self.client.history().last_of(id).is_some() && !self.doubts().contains(id)
    }

    pub fn doubted(&self) -> usize {
        self.doubts().len()
    }

    /// Calls that failed and were not meant to.
    pub fn failed_calls(&self) -> u64 {
        self.state.failed_calls.load(Ordering::Relaxed)
    }

    /// Pods that have come and gone.
    pub fn pods(&self) -> u64 {
        self.state.pods.load(Ordering::Relaxed)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Lets `count` pods come and go, so many at a time.
    pub fn many(&self, count: u32, at_a_time: usize, seed: u64) -> JoinHandle<Result<()>> {
        let (churn, mut dice) = (self.clone(), fastrand::Rng::with_seed(seed));
        let lives = (0..count).map(move |number| {
            let (churn, story, dice) = (churn.clone(), Story::drawn(&mut dice), dice.fork());
            async move {
                let name = format!("{}-{number}", story.as_str());
                churn.live(&name, story, dice).await.with_context(|| format!("{name}, of the seed {seed}"))
            }
        });
        tokio::spawn(stream::iter(lives).buffer_unordered(at_a_time).try_collect())
    }

    /// The whole life of a pod of this name, which nobody else has had.
    pub async fn live(&self, name: &str, story: Story, mut dice: fastrand::Rng) -> Result<()> {
        let pod = self.run_pod(name).await?;
        match story {
            Story::Short => {
                self.one(&pod, soon("main", 0, &mut dice), &mut dice).await?;
            }
            Story::Long => {
                let first = self.run(&pod, ContainerSpec::living("first", 3600.0, 0)).await?;
                let second = self.run(&pod, ContainerSpec::living("second", 3600.0, 0)).await?;
                self.rest(dice.u64(5_000..60_000)).await;
                if let Some(first) = first {
                    self.stop(&first).await?;
                }
                if let Some(second) = second.filter(|_| dice.bool()) {
                    self.stop(&second).await?;
                    self.remove(&second).await?;
                }
            }
            Story::CrashLoop => {
                for attempt in 0..dice.u32(3..6) {
                    let spec = ContainerSpec { attempt, ..soon("main", 1, &mut dice) };
                    self.one(&pod, spec, &mut dice).await?;
                    self.rest(dice.u64(0..1_000)).await;
                }
            }
            Story::FailedStart => {
                let beside = self.run(&pod, ContainerSpec::living("beside", 3600.0, 0)).await?;
                if let Some(id) =
                    self.create(&pod, ContainerSpec::new("missing", &["/no/such/program"])).await?
                {
                    self.start(&id).await?;
                    self.rest(dice.u64(0..7_000)).await;
                    self.remove(&id).await?;
                }
                if let Some(beside) = beside {
                    self.stop(&beside).await?;
                }
            }
            Story::OutOfMemory => {
                let greedy = ContainerSpec::new("greedy", &["tail", "/dev/zero"]);
                let spec = ContainerSpec { memory_limit_bytes: 16 << 20, ..greedy };
                self.one(&pod, spec, &mut dice).await?;
            }
            Story::NewSandbox => {
                self.run(&pod, ContainerSpec::living("main", 3600.0, 0)).await?;
                self.rest(dice.u64(0..2_000)).await;
                self.stop_pod(&pod).await?;
                // One sandbox more, or none: the next try would be another pod.
                if let Ok(next) = self.client.run_pod_again(&pod).await {
                    let spec = ContainerSpec { attempt: 1, ..soon("main", 0, &mut dice) };
                    self.one(&next, spec, &mut dice).await?;
                    self.remove_pod(&pod).await?;
                    self.end(&next).await?;
                    return Ok(());
                }
                self.discard(name, &pod.sandbox_id).await?;
            }
            Story::Several => {
                let mut ids = Vec::new();
                for number in 0..dice.u32(3..6) {
                    ids.push(self.run(&pod, soon(&format!("c{number}"), number as u8, &mut dice)).await?);
                }
                for id in ids.into_iter().flatten() {
                    self.exited(&id).await?;
                    if dice.bool() {
                        self.remove(&id).await?;
                    }
                }
            }
        }
        self.end(&pod).await
    }

    /// The whole life of one container, to its removal.
    async fn one(&self, pod: &Pod, spec: ContainerSpec, dice: &mut fastrand::Rng) -> Result<()> {
        let Some(id) = self.run(pod, spec).await? else { return Ok(()) };
        self.exited(&id).await?;
        if dice.bool() {
            self.rest(dice.u64(500..2_000)).await;
        }
        self.remove(&id).await
    }

    async fn end(&self, pod: &Pod) -> Result<()> {
        self.stop_pod(pod).await?;
        self.remove_pod(pod).await?;
        self.state.pods.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    // --- Steps, each made until it succeeds ---

    async fn run_pod(&self, name: &str) -> Result<Pod> {
        let mut tries = 0;
        loop {
            match self.client.run_pod(name).await {
                Ok(pod) => return Ok(pod),
                Err(error) => self.again(&mut tries, error).await?,
            }
            self.discard(name, "").await?;
        }
    }

    /// Makes and starts it; none if it does not run for certain.
    async fn run(&self, pod: &Pod, spec: ContainerSpec) -> Result<Option<String>> {
        let Some(id) = self.create(pod, spec).await? else { return Ok(None) };
        Ok(self.start(&id).await?.then_some(id))
    }

    /// None if it could not be made: its pod may be of no more use.
    async fn create(&self, pod: &Pod, spec: ContainerSpec) -> Result<Option<String>> {
        let mut tries = 0;
        for more in 0..3 {
            // A failed try may have taken the name.
            let spec = ContainerSpec { attempt: spec.attempt + 100 * more, ..spec.clone() };
            match self.client.create_with(pod, spec).await {
                Ok(id) => return Ok(Some(id)),
                Err(error) => self.again(&mut tries, error).await?,
            }
        }
        Ok(None)
    }

    /// Whether it runs, or has run, for certain.
    async fn start(&self, id: &str) -> Result<bool> {
        let Err(error) = self.client.start(id).await else { return Ok(true) };
        if self.client.history().last_of(id) != Some(What::StartFailed) {
            self.doubt(id);
            self.again(&mut 0, error).await?;
        }
        Ok(false)
    }

    async fn exited(&self, id: &str) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.client.exited(id).await {
            // A runtime that was killed may no longer know how it stands with it.
            let unknown = self
                .client
                .status(id)
                .await
                .is_ok_and(|status| status.state() == cri::ContainerState::ContainerUnknown);
            if unknown {
                self.doubt(id);
                return Ok(());
            }
            self.again(&mut tries, error).await?;
        }
        Ok(())
    }

    async fn stop(&self, id: &str) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.client.stop(id, Duration::ZERO).await {
            self.again(&mut tries, error).await?;
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let mut tries = 0;
        self.calm().await;
        while let Err(error) = self.client.remove(id).await {
            self.doubt(id);
            self.again(&mut tries, error).await?;
            self.calm().await;
        }
        Ok(())
    }

    async fn stop_pod(&self, pod: &Pod) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.client.stop_pod(pod).await {
            self.again(&mut tries, error).await?;
        }
        Ok(())
    }

    async fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let mut tries = 0;
        self.calm().await;
        while let Err(error) = self.client.remove_pod(pod).await {
            // It may be gone, or be there again once the runtime has come back.
            self.doubt(&pod.sandbox_id);
            self.client.history().containers_of(&pod.sandbox_id).iter().for_each(|(id, _)| self.doubt(id));
            self.again(&mut tries, error).await?;
            self.calm().await;
        }
        Ok(())
    }

    /// Removes what a failed call may have made.
    async fn discard(&self, name: &str, but: &str) -> Result<()> {
        let mut tries = 0;
        self.calm().await;
        while let Err(error) = self.client.discard_pods(name, but).await {
            self.again(&mut tries, error).await?;
            self.calm().await;
        }
        Ok(())
    }

    // --- Helpers ---

    /// Waits until the runtime is there again, or fails if this step has failed too often.
    async fn again(&self, tries: &mut u32, error: impl Into<anyhow::Error>) -> Result<()> {
        let error = error.into();
        self.state.failed_calls.fetch_add(1, Ordering::Relaxed);
        *tries += 1;
        if *tries > TRIES {
            return Err(error.context("failed again and again"));
        }
        sleep(PAUSE).await;
        let client = self.client.clone().with_deadline(Duration::from_secs(2));
        let ready = eventually("the runtime to be back", 2 * PATIENCE, || async {
            sleep(Duration::from_millis(90)).await;
            Ok(client.runtime_is_ready().await.unwrap_or(false).then_some(()))
        });
        ready.await.with_context(|| format!("after {error:#}"))
    }

    /// Waits as long as the runtime is disturbed.
    async fn calm(&self) {
        // Without a director it stays as it is.
        let _ = self.is_calm.clone().wait_for(|calm| *calm).await;
    }

    /// Waits, unless it is the end.
    async fn rest(&self, milliseconds: u64) {
        let mut is_ending = self.is_ending.clone();
        let over = is_ending.wait_for(|ending| *ending);
        let _ = tokio::time::timeout(Duration::from_millis(milliseconds), over).await;
    }

    fn doubt(&self, id: &str) {
        self.doubts().insert(id.to_owned());
    }

    fn doubts(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.state.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
