//! Targeted reads: which pods are to be read, how many at a time, and what happens when that fails.
//!
//! Requests for a pod coalesce; one that comes while the pod is being read is read once more afterwards, so that each is
//! answered by a read that began after it. Pods are read side by side, as many as the [`Pace`] says, each call has a
//! deadline, and a pod whose reads hang is from then on read in a lane of its own: it delays no other. What failed is tried
//! again, for ever, ever more rarely. Never writes the cache.

use std::{collections::BTreeSet, sync::Arc};

use futures::StreamExt;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Listed, Lister, UnreadableIds,
    agenda::{Agenda, Due, Request, Trouble},
    pace::Pace,
    read::{Finished, PodRead},
};
use crate::{
    arbiter::{Arbiter, NOW, PodReadRequest, ReadRequest, Scope, pod::DEATH_GRACE_PERIOD},
    cache::Cache,
    clock::{Clock, Mono},
    config::Live,
    cri::{Client, CriError, ListedContainer},
    metrics::{Metrics, ReadOutcome},
    model::{ObjectId, Phase, PodIdentity, PodUid, ReadCause},
};

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
    lister: Lister,
    unreadable: UnreadableIds,
    cache: Cache,
    arbiter: Arc<Arbiter>,
    clock: Clock,
    metrics: Arc<Metrics>,
    parallelism: Live<usize>,
    pace: Pace,
    requests: mpsc::UnboundedReceiver<Request>,
    reads: Reads,
}

/// A reader wants all of a pod.
const WHOLE: ReadRequest = ReadRequest { scope: Scope::Pod, cause: ReadCause::Fresh, after: NOW };

/// What a [`Reader`] needs.
pub(crate) struct Dependencies {
    pub(crate) client: Client,
    pub(crate) lister: Lister,
    pub(crate) cache: Cache,
    pub(crate) arbiter: Arc<Arbiter>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    /// How many pods are read at a time at most.
    pub(crate) parallelism: Live<usize>,
    /// The way to ask the reader for more.
    pub(crate) reads: Reads,
    /// What it takes requests from.
    pub(crate) requests: Requests,
}

/// The receiving end of [`Reads`], for the [`Reader`].
pub struct Requests(mpsc::UnboundedReceiver<Request>);

// === impl Reads ===

impl Reads {
    /// A way to ask for reads, and what the reader takes them from.
    pub fn new() -> (Self, Requests) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self { requests, runtime_is_back: Arc::new(Notify::new()) }, Requests(receiver))
    }

    /// Asks for these reads.
    pub fn request_all(&self, requests: impl IntoIterator<Item = PodReadRequest>) {
        for PodReadRequest { pod, read, deferred } in requests {
            let deferred = deferred.into_iter().map(|event| *event).collect();
            self.send(Request { deferred, ..Request::of(pod, read) });
        }
    }

    /// Reads what a list showed, and lists again what it lacked; `done` is dropped when that has been done once.
    pub(super) fn read_listed(&self, pod: PodIdentity, listed: Listed, done: mpsc::Sender<()>) {
        let Listed { changed, absent, doubted, seen } = listed;
        let ids = changed.into_iter().chain(absent.iter().cloned()).collect();
        let ask = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after: NOW };
        let sandboxes =
            seen.containers.iter().map(|listed| (listed.id.clone(), listed.sandbox_id.clone())).collect();
        let mut request = Request::of(pod, ask);
        request.done.push(done);
        let initial = seen.initial.clone();
        if !seen.containers.is_empty() || !seen.sandboxes.is_empty() {
            request.seen.push(seen);
        }
        request.sandboxes = sandboxes;
        if doubted {
            request.doubted = absent.iter().cloned().collect();
        }
        request.listed_suffices.extend(absent.iter().cloned());
        request.absent.extend(absent);
        request.initial.extend(initial);
        self.send(request);
    }

    /// Reads containers whose sandbox no list has: the sandbox says which pod it is, or their labels do.
    pub(super) fn read_orphans(
        &self,
        sandbox_id: &ObjectId,
        containers: Vec<&ListedContainer>,
        first: bool,
        done: mpsc::Sender<()>,
    ) {
        let ids = containers.iter().map(|container| ObjectId::from(container.id.as_str()));
        let ids: BTreeSet<ObjectId> = ids.chain([sandbox_id.clone()]).collect();
        let initial = if first { ids.clone() } else { BTreeSet::new() };
        let scope = Scope::Ids(ids);
        let ask = ReadRequest { scope, cause: ReadCause::Relist, after: NOW };
        let mut request = Request { initial, ..Request::unnamed(sandbox_id.as_str().into(), ask) };
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
    pub async fn fresh(&self, pod: &PodIdentity) -> Result<Mono, ReadError> {
        self.fresh_by(Request::of(pod.clone(), WHOLE)).await
    }

    /// The same, of all pods with this UID, of which none may be known yet.
    ///
    /// # Errors
    ///
    /// As [`Reads::fresh`].
    pub async fn fresh_of_uid(&self, uid: &PodUid) -> Result<Mono, ReadError> {
        self.fresh_by(Request::unnamed(uid.clone(), WHOLE)).await
    }

    async fn fresh_by(&self, mut request: Request) -> Result<Mono, ReadError> {
        let (waiter, answer) = oneshot::channel();
        request.waiters.push(waiter);
        self.send(request);
        answer.await.unwrap_or(Err(ReadError::ShuttingDown))
    }

    /// Reads all of a pod once more for those who still wait, when its deaths have been published.
    pub(super) fn requeue_for_waiters(
        &self,
        key: &PodIdentity,
        pod: Option<PodIdentity>,
        waiters: Vec<oneshot::Sender<Result<Mono, ReadError>>>,
    ) {
        let waiters: Vec<_> = waiters.into_iter().filter(|waiter| !waiter.is_closed()).collect();
        if !waiters.is_empty() {
            let ask = ReadRequest { after: DEATH_GRACE_PERIOD, ..WHOLE };
            let request = match pod {
                Some(pod) => Request::of(pod, ask),
                None => Request::unnamed(key.uid.clone(), ask),
            };
            self.send(Request { waiters, ..request });
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
    /// A reader.
    pub(crate) fn new(dependencies: Dependencies) -> Self {
        let Dependencies { client, lister, cache, arbiter, clock, metrics, parallelism, reads, requests } =
            dependencies;
        Self {
            client,
            lister,
            unreadable: UnreadableIds::new(metrics.clone()),
            cache,
            arbiter,
            clock,
            metrics,
            parallelism,
            pace: Pace::default(),
            requests: requests.0,
            reads,
        }
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
                    lister: self.lister.clone(),
                    unreadable: self.unreadable.clone(),
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

    /// A look for what may have changed in silence, at nothing but what has gone or moved on since: every pod that is killed and
    /// removed would have one, and every container that is started.
    fn is_moot(&self, due: &Due) -> bool {
        let Due::Request(request) = due else { return false };
        let Scope::Ids(ids) = &request.scope else { return false };
        let expected = match request.cause {
            ReadCause::Start => Phase::Created,
            ReadCause::Oom => Phase::Exited,
            _ => return false,
        };
        request.deferred.is_empty() && ids.iter().all(|id| self.arbiter.served_phase(id) != Some(expected))
    }

    /// The ids that the runtime lists and whose status it does not give.
    pub fn unreadable(&self) -> &UnreadableIds {
        &self.unreadable
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
        agenda.finish(finished.key, failed);
    }
}
