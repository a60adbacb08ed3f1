//! Targeted reads: which pods are to be read, how many at a time, and what happens when that fails.
//!
//! Requests for a pod coalesce; one that comes while the pod is being read is read once more afterwards, so that each is
//! answered by a read that began after it. Pods are read side by side, as many as the [`Pace`] says, each call has a
//! deadline, and a pod whose reads hang is from then on read in a lane of its own: it delays no other. What failed is tried
//! again, for ever, ever more rarely. Never writes the cache.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    agenda::{Agenda, Due, Request, Trouble},
    pace::Pace,
};
use crate::{
    arbiter::{Arbiter, Ask, NOW, PodAsk, Scope, pod::DEATH_GRACE},
    cache::Cache,
    clock::{Clock, Mono},
    config::Live,
    cri::{Client, CriError, Filter, ListedContainer, pod_of_container},
    metrics::{Metrics, ReadOutcome},
    model::{
        ContainerStatus, Detail, ObjectId, Observation, Origin, Phase, PodIdentity, PodUid, ReadCause,
        SandboxStatus, Stamp, Subject,
    },
};

/// How long a status may take before what has been read of the pod so far is settled without it: a list that finds a
/// container gone meanwhile would have its death told without the exit code that is there already.
const SOON: Duration = Duration::from_millis(50);
/// How much longer it may take before what a list showed is told as it was listed.
const PATIENCE: Duration = Duration::from_millis(450);

/// Asks for reads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    requests: mpsc::UnboundedSender<Request>,
    runtime_is_back: Arc<Notify>,
}

/// Why a reader did not get a fresh state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The runtime did not give it.
    #[error("the pod could not be read: {0}")]
    Failed(Arc<CriError>),
    /// plegd is shutting down.
    #[error("plegd is shutting down")]
    ShuttingDown,
}

/// Does the reading: the one task that knows what is pending.
pub struct Reader {
    client: Client,
    cache: Cache,
    arbiter: Arc<Arbiter>,
    clock: Clock,
    metrics: Arc<Metrics>,
    parallelism: Live<usize>,
    pace: Pace,
    requests: mpsc::UnboundedReceiver<Request>,
    reads: Reads,
}

// === impl Reads ===

impl Reads {
    /// Asks for these reads.
    pub fn ask_all(&self, asks: impl IntoIterator<Item = PodAsk>) {
        for PodAsk { pod, ask } in asks {
            self.send(Request::new(pod.uid.clone(), Some(pod), ask));
        }
    }

    /// Reads what a list showed; `done` is dropped when that has been done once.
    pub(super) fn read_listed(&self, pod: PodIdentity, ask: Ask, seen: Observation, done: mpsc::Sender<()>) {
        let sandboxes =
            seen.containers.iter().map(|listed| (listed.id.clone(), listed.sandbox_id.clone())).collect();
        let mut request = Request::new(pod.uid.clone(), Some(pod), ask);
        request.done.push(done);
        request.seen.push(seen);
        request.sandboxes = sandboxes;
        self.send(request);
    }

    /// Reads containers whose sandbox no list has: the sandbox says which pod it is, or their labels do.
    pub(super) fn read_orphans(
        &self,
        sandbox_id: &ObjectId,
        containers: Vec<&ListedContainer>,
        done: mpsc::Sender<()>,
    ) {
        let ids = containers.iter().map(|container| ObjectId::from(container.id.as_str()));
        let scope = Scope::Ids(ids.chain([sandbox_id.clone()]).collect());
        let ask = Ask { scope, cause: ReadCause::Relist, after: NOW };
        let mut request = Request::new(sandbox_id.as_str().into(), None, ask);
        request.sandboxes =
            containers.iter().map(|container| (container.id.as_str().into(), sandbox_id.clone())).collect();
        request.done.push(done);
        self.send(request);
    }

    /// Reads all of a pod, in a read that begins after this call, and says when that was.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be asked. Drop the future to stop waiting; there is no other deadline than
    /// that of the calls.
    pub async fn fresh(&self, uid: &PodUid) -> Result<Mono, ReadError> {
        let (waiter, answer) = oneshot::channel();
        let ask = Ask { scope: Scope::Whole, cause: ReadCause::Fresh, after: NOW };
        let mut request = Request::new(uid.clone(), None, ask);
        request.waiters.push(waiter);
        self.send(request);
        answer.await.unwrap_or(Err(ReadError::ShuttingDown))
    }

    /// Reads all of a pod once more for those who still wait, when its deaths have been told.
    fn ask_again(&self, uid: &PodUid, waiters: Vec<oneshot::Sender<Result<Mono, ReadError>>>) {
        let waiters: Vec<_> = waiters.into_iter().filter(|waiter| !waiter.is_closed()).collect();
        if !waiters.is_empty() {
            let ask = Ask { scope: Scope::Whole, cause: ReadCause::Fresh, after: DEATH_GRACE };
            self.send(Request { waiters, ..Request::new(uid.clone(), None, ask) });
        }
    }

    fn send(&self, request: Request) {
        // Nobody listens only at shutdown.
        let _ = self.requests.send(request);
    }

    /// What could not be read since the runtime was away need not wait any longer.
    pub(super) fn runtime_is_back(&self) {
        self.runtime_is_back.notify_one();
    }
}

// === impl Reader ===

impl Reader {
    /// A reader of up to `parallelism` pods at a time, and the handle to ask it by.
    pub fn new(
        client: Client,
        cache: Cache,
        arbiter: Arc<Arbiter>,
        clock: Clock,
        metrics: Arc<Metrics>,
        parallelism: impl Into<Live<usize>>,
    ) -> (Self, Reads) {
        let parallelism = parallelism.into();
        let (sender, requests) = mpsc::unbounded_channel();
        let reads = Reads { requests: sender, runtime_is_back: Arc::new(Notify::new()) };
        let reader = Self {
            client,
            cache,
            arbiter,
            clock,
            metrics,
            parallelism,
            pace: Pace::default(),
            requests,
            reads: reads.clone(),
        };
        (reader, reads)
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut agenda = Agenda::default();
        let mut tasks: JoinSet<Finished> = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(finished) = tasks.join_next(), if !tasks.is_empty() => match finished {
                    Ok(finished) => self.finish(finished, &mut agenda),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                Some(request) = self.requests.recv() => agenda.put(request),
                () = self.reads.runtime_is_back.notified() => agenda.retry_what_was_away(),
                Some(due) = agenda.delayed.next(), if !agenda.delayed.is_empty() => {
                    let due = due.into_inner();
                    if !self.is_moot(&due) {
                        agenda.wake(due);
                    }
                }
            }
            while let Ok(request) = self.requests.try_recv() {
                agenda.put(request);
            }
            let places = self.pace.places(self.parallelism.get());
            while let Some(request) = agenda.take(places) {
                let pod = PodRead {
                    client: self.client.clone(),
                    cache: self.cache.clone(),
                    arbiter: self.arbiter.clone(),
                    clock: self.clock.clone(),
                    reads: self.reads.clone(),
                    answers: Vec::new(),
                };
                tasks.spawn(pod.read(request));
            }
            self.metrics.reads.pending.set(agenda.pending.len() as i64);
            self.metrics.reads.running.set(agenda.running.len() as i64);
            self.metrics.reads.places.set(places as i64);
            self.metrics.reads.delayed.set(agenda.delayed.len() as i64);
            self.metrics.reads.failing_pods.set(agenda.failures.len() as i64);
        }
    }

    /// A look for what may have changed in silence, at nothing but what has gone since: every pod that is killed and removed
    /// would have one.
    fn is_moot(&self, due: &Due) -> bool {
        let Due::Request(request) = due else { return false };
        let Scope::Ids(ids) = &request.scope else { return false };
        let may_change = matches!(request.cause, ReadCause::Oom | ReadCause::Start);
        may_change && ids.iter().all(|id| self.cache.removed_at(id).is_some())
    }

    fn finish(&mut self, finished: Finished, agenda: &mut Agenda) {
        // Where none waits for a place, more places would be of no use.
        let idle = agenda.pending.is_empty();
        for (subject, took) in finished.answers {
            self.pace.answered(subject, took, idle, self.parallelism.get());
        }
        self.metrics.reads.duration.observe(finished.took.as_secs_f64());
        let outcome = match &finished.failed {
            None => ReadOutcome::Ok,
            Some((_, error)) if matches!(**error, CriError::Deadline { .. }) => ReadOutcome::Timeout,
            Some(_) => ReadOutcome::Error,
        };
        self.metrics.reads.done.inc((finished.cause, outcome));
        let failed = finished.failed.map(|(request, error)| (request, Trouble::of(&error)));
        agenda.finish(finished.uid, failed);
    }
}

/// What came of a read.
struct Finished {
    uid: PodUid,
    cause: ReadCause,
    took: Duration,
    /// How long the runtime took for each status.
    answers: Vec<(Subject, Duration)>,
    /// What is still to be read, and why.
    failed: Option<(Request, Arc<CriError>)>,
}

/// Reads one pod.
struct PodRead {
    client: Client,
    cache: Cache,
    arbiter: Arc<Arbiter>,
    clock: Clock,
    reads: Reads,
    answers: Vec<(Subject, Duration)>,
}

// === impl PodRead ===

impl PodRead {
    async fn read(mut self, mut request: Request) -> Finished {
        let began = self.clock.now();
        let done = std::mem::take(&mut request.done);
        let waiters = std::mem::take(&mut request.waiters);
        let (uid, cause) = (request.uid.clone(), request.cause);
        let whole = request.scope == Scope::Whole;
        let (settled, failed) = self.read_ids(request, began).await;
        let answer = failed.as_ref().map_or(Ok(began), |(_, error)| Err(ReadError::Failed(error.clone())));
        if whole && answer.is_ok() && settled == Settled::Partly {
            // What readers would get may be older than this read.
            self.reads.ask_again(&uid, waiters);
        } else {
            if whole && answer.is_ok() {
                self.cache.mark_read(&uid, began);
            }
            for waiter in waiters {
                let _ = waiter.send(answer.clone());
            }
        }
        drop(done);
        Finished { uid, cause, took: self.clock.now().since(began), answers: self.answers, failed }
    }

    /// Reads and settles; what could not be read comes back.
    async fn read_ids(
        &mut self,
        mut request: Request,
        began: Mono,
    ) -> (Settled, Option<(Request, Arc<CriError>)>) {
        let ids = match &request.scope {
            Scope::Ids(ids) => ids.clone(),
            Scope::Whole => match self.whole(&mut request).await {
                Ok(ids) => ids,
                Err(error) => return (Settled::Partly, Some((request, Arc::new(error)))),
            },
        };
        let mut found = Found::default();
        let mut settled = Settled::All;
        let mut unread = BTreeSet::new();
        let mut last_error = None;
        let all = ids;
        let (suspects, sound): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|id| request.suspects.contains(id));
        let mut looked_at = BTreeSet::new();
        let mut ids = sound.into_iter().chain(suspects);
        for id in ids.by_ref() {
            let asked = self.clock.now();
            let looked = {
                let mut looking = Box::pin(self.status(&request, &id));
                let mut looked = tokio::time::timeout(SOON, &mut looking).await;
                if looked.is_err() {
                    settled = settled.and(self.settle(&request, std::mem::take(&mut found), began));
                    looked = tokio::time::timeout(PATIENCE, &mut looking).await;
                }
                match looked {
                    Ok(looked) => looked,
                    Err(_) => {
                        // What a list showed of the rest does not wait for what may hang; but a death is to be told with its
                        // exit code, if that can be had at all.
                        self.settle_as_listed(&request, |id, phase| {
                            phase != Some(Phase::Exited) && !looked_at.contains(id)
                        });
                        looking.await
                    }
                }
            };
            let took = self.clock.now().since(asked);
            looked_at.insert(id.clone());
            match looked {
                Ok(Look::Container(status)) => {
                    self.answers.push((Subject::Container, took));
                    found.containers.push(status);
                }
                Ok(Look::Sandbox(status)) => {
                    self.answers.push((Subject::Sandbox, took));
                    found.sandboxes.push(status);
                }
                Ok(Look::Absent) => found.absent.push(id),
                Err(error) => {
                    unread.insert(id.clone());
                    request.suspects.insert(id);
                    // A runtime that is away will not answer the next one either; a hang need not be hung through again.
                    let hung = matches!(error, CriError::Deadline { .. });
                    if hung {
                        self.answers.push((Subject::Container, took));
                    }
                    let hopeless = error.runtime_is_away() || hung;
                    last_error = Some(error);
                    if hopeless {
                        break;
                    }
                }
            }
        }
        unread.extend(ids);
        if request.scope == Scope::Whole {
            // What has been heard of meanwhile was not there when this read began, unless it came later.
            let held = self.cache.inspect(&request.uid, |state| state.ids().cloned().collect::<Vec<_>>());
            found.absent.extend(held.into_iter().flatten().filter(|id| !all.contains(id)));
        }
        settled = settled.and(self.settle(&request, found, began));
        let Some(error) = last_error else { return (settled, None) };
        if request.scope != Scope::Whole {
            request.scope = Scope::Ids(unread);
        }
        (settled, Some((request, Arc::new(error))))
    }

    /// All ids of a pod: what the runtime lists for it, what is held of it, and what a list before showed of it.
    async fn whole(&self, request: &mut Request) -> Result<BTreeSet<ObjectId>, CriError> {
        let mut ids: BTreeSet<ObjectId> =
            self.cache.inspect(&request.uid, |state| state.ids().cloned().collect()).unwrap_or_default();
        let of_pod = Filter::PodUid(request.uid.to_string());
        ids.extend(self.client.list_sandboxes(&of_pod).await?.into_iter().map(|sandbox| sandbox.id.into()));
        for container in self.client.list_containers(&of_pod).await? {
            let id = ObjectId::from(container.id);
            request.sandboxes.insert(id.clone(), container.sandbox_id.into());
            ids.insert(id);
        }
        for seen in &request.seen {
            ids.extend(seen.sandboxes.iter().map(|sandbox| sandbox.id.clone()));
            ids.extend(seen.containers.iter().map(|container| container.id.clone()));
        }
        Ok(ids)
    }

    /// What an id is, and in which sandbox.
    fn locate(&self, request: &Request, id: &ObjectId) -> Option<(Subject, ObjectId)> {
        if let Some(sandbox) = request.sandboxes.get(id) {
            return Some((Subject::Container, sandbox.clone()));
        }
        let listed = request.seen.iter().any(|seen| seen.sandboxes.iter().any(|sandbox| sandbox.id == *id));
        if listed || request.sandboxes.values().any(|sandbox| sandbox == id) {
            return Some((Subject::Sandbox, id.clone()));
        }
        self.cache.inspect(&request.uid, |state| state.locate(id.as_str())).flatten()
    }

    async fn status(&self, request: &Request, id: &ObjectId) -> Result<Look, CriError> {
        let place = self.locate(request, id);
        if !matches!(place, Some((Subject::Sandbox, _))) {
            let newest = || self.cache.inspect(&request.uid, |state| state.newest_sandbox()).flatten();
            let sandbox = place.as_ref().map(|(_, sandbox)| sandbox.clone()).or_else(newest);
            let sandbox = sandbox.unwrap_or_else(|| "".into());
            if let Some(status) = self.client.container_status(id, &sandbox).await? {
                return Ok(Look::Container(status));
            }
        }
        if !matches!(place, Some((Subject::Container, _)))
            && let Some(status) = self.client.sandbox_status(id).await?
        {
            return Ok(Look::Sandbox(status));
        }
        Ok(Look::Absent)
    }

    fn settle(&self, request: &Request, found: Found, began: Mono) -> Settled {
        let (upper, observed_at) = self.clock.now_both();
        let Some(pod) = request.pod.clone().or_else(|| self.identify(request, &found)) else {
            if !found.absent.is_empty() || !found.containers.is_empty() {
                tracing::debug!(pod = %request.uid, "A container belongs to no pod that the runtime knows; it is left out.");
            }
            return Settled::All;
        };
        // What a list showed and is gone already: told as the list saw it, then removed. And a sandbox that was ready: its
        // status does not tell that any more.
        self.settle_as_listed(request, |id, phase| {
            let moved_on = |read: &SandboxStatus| read.id == *id && Some(read.state.phase()) != phase;
            found.absent.contains(id) || found.sandboxes.iter().any(moved_on)
        });
        let observation = Observation {
            origin: Origin::Read(request.cause.source()),
            stamp: Stamp { lower: Some(began), upper },
            observed_at,
            pod,
            sandboxes: found.sandboxes.into_iter().map(Arc::new).collect(),
            containers: found.containers.into_iter().map(Arc::new).collect(),
            absent: found.absent,
            detail: Detail::Full,
        };
        let asks = self.arbiter.settle(&observation);
        let undecided = asks.iter().any(|ask| ask.ask.after.is_zero());
        self.reads.ask_all(asks);
        let going = self.cache.inspect(&request.uid, |state| state.awaits_deaths()).unwrap_or(false);
        if undecided || going { Settled::Partly } else { Settled::All }
    }

    /// Settles what lists showed of ids that cannot be read.
    fn settle_as_listed(&self, request: &Request, of_these: impl Fn(&ObjectId, Option<Phase>) -> bool) {
        for seen in &request.seen {
            let mut listed = seen.clone();
            listed.sandboxes.retain(|it| of_these(&it.id, Some(it.state.phase())));
            listed.containers.retain(|it| of_these(&it.id, it.state.phase()));
            if !listed.sandboxes.is_empty() || !listed.containers.is_empty() {
                self.reads.ask_all(self.arbiter.settle(&listed));
            }
        }
    }

    /// The pod of what was found, where the request did not say: as held, or as the runtime says.
    fn identify(&self, request: &Request, found: &Found) -> Option<PodIdentity> {
        let held = self.cache.inspect(&request.uid, |state| state.identity().clone());
        held.or_else(|| Some(found.sandboxes.first()?.pod.clone()))
            .or_else(|| found.containers.iter().find_map(pod_of_container))
    }
}

/// Whether the cache has all that a read has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    All,
    /// Another read must decide on something, or what is gone is still served until its death has been told.
    Partly,
}

// === impl Settled ===

impl Settled {
    fn and(self, other: Self) -> Self {
        if self == Self::Partly { self } else { other }
    }
}

/// What became of one id.
enum Look {
    Container(ContainerStatus),
    Sandbox(SandboxStatus),
    Absent,
}

/// What a read has found so far.
#[derive(Default)]
struct Found {
    sandboxes: Vec<SandboxStatus>,
    containers: Vec<ContainerStatus>,
    absent: Vec<ObjectId>,
}
