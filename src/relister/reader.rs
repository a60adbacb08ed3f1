//! Targeted reads: requests, concurrency, deadlines and retries.
//!
//! Requests for a pod are joined. A request that arrives while the pod is being read leads to a second read, so that every request gets
//! a read that began after it. Pods are read concurrently, up to the limit of the [`ConcurrencyLimiter`]. Each call has a deadline, and a
//! pod whose read timed out moves to a lane of its own, where it delays no other pod. Failed reads are retried without end, with
//! backoff. Never writes the cache.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    ListDifference, Lister, UnreadableIds,
    concurrency::ConcurrencyLimiter,
    pod_read::{Finished, PodRead},
    read_queue::{FailureKind, PendingRead, ReadQueue, Scheduled},
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

/// Requests reads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    requests: mpsc::UnboundedSender<PendingRead>,
    runtime_recovered: Arc<Notify>,
}

/// The receiving end of [`Reads`], for the [`Reader`].
pub struct Requests(mpsc::UnboundedReceiver<PendingRead>);

/// Why a client got no fresh state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// A call to the runtime failed.
    #[error("the pod could not be read: {0}")]
    Failed(Arc<CriError>),
    /// plegd is shutting down.
    #[error("plegd is shutting down")]
    ShuttingDown,
}

/// The task that owns the queue of pending reads, and starts a task for each read.
pub struct Reader {
    deps: ReaderDeps,
    unreadable: UnreadableIds,
    limiter: ConcurrencyLimiter,
    queue: ReadQueue,
}

/// What a [`Reader`] needs.
pub(crate) struct ReaderDeps {
    pub(crate) client: Client,
    pub(crate) lister: Lister,
    pub(crate) cache: Cache,
    pub(crate) arbiter: Arc<Arbiter>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    /// The largest number of concurrent reads.
    pub(crate) parallelism: Live<usize>,
    /// For reads that follow from a read.
    pub(crate) reads: Reads,
    pub(crate) requests: Requests,
}

/// How long the read of containers of no known pod waits for the reads of the pods.
const ORPHANS_AFTER: Duration = Duration::from_millis(100);
/// A client needs a fresh state of all of a pod.
const WHOLE_POD: ReadRequest = ReadRequest { scope: Scope::Pod, cause: ReadCause::Fresh, after: NOW };

// === impl Reads ===

impl Reads {
    /// The sending and the receiving end.
    pub fn new() -> (Self, Requests) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self { requests, runtime_recovered: Arc::new(Notify::new()) }, Requests(receiver))
    }

    /// Requests these reads.
    pub fn request_all(&self, requests: impl IntoIterator<Item = PodReadRequest>) {
        requests.into_iter().for_each(|PodReadRequest { pod, read }| self.send(PendingRead::of(pod, read)));
    }

    /// Requests reads of the ids that a list shows changed, and lists of those that it lacked. `completion` is dropped when that was done
    /// once.
    pub(super) fn read_listed(
        &self,
        pod: PodIdentity,
        difference: ListDifference,
        completion: mpsc::Sender<()>,
    ) {
        let ListDifference { changed, absent, doubted, listed } = difference;
        let ids = changed.into_iter().chain(absent.iter().cloned()).collect();
        let read = ReadRequest { scope: Scope::Ids(ids), cause: ReadCause::Relist, after: NOW };
        let sandboxes = listed.containers.iter().map(|it| (it.id.clone(), it.sandbox_id.clone())).collect();
        let mut request = PendingRead::of(pod, read);
        request.completion.push(completion);
        let initial = listed.initial.clone();
        if !listed.containers.is_empty() || !listed.sandboxes.is_empty() {
            request.listed.push(listed);
        }
        request.sandboxes = sandboxes;
        if doubted {
            request.doubted = absent.iter().cloned().collect();
        }
        request.list_suffices.extend(absent.iter().cloned());
        request.absent.extend(absent);
        request.initial.extend(initial);
        self.send(request);
    }

    /// Requests reads of containers whose sandbox is in no list. The status of the sandbox, or their labels, name the pod. The read of that
    /// pod comes first, so that its labels are known.
    pub(super) fn read_orphans(
        &self,
        sandbox_id: &ObjectId,
        containers: Vec<&ListedContainer>,
        first: bool,
        completion: mpsc::Sender<()>,
    ) {
        let mut request = PendingRead::of_orphans(sandbox_id, &containers, ReadCause::Relist, ORPHANS_AFTER);
        if first && let Scope::Ids(ids) = &request.scope {
            request.initial = ids.clone();
        }
        request.completion.push(completion);
        self.send(request);
    }

    /// As [`Reads::read_now`], of these containers of one sandbox, whose pod is not known.
    ///
    /// # Errors
    ///
    /// As [`Reads::read_now`].
    pub(crate) async fn read_orphans_now(
        &self,
        sandbox_id: &ObjectId,
        containers: &[&ListedContainer],
    ) -> Result<Mono, ReadError> {
        self.wait_for(PendingRead::of_orphans(sandbox_id, containers, ReadCause::Fresh, NOW)).await
    }

    /// Reads all of a pod, in a read that begins after this call, and returns when it began. Drop the future to stop waiting; it has no
    /// deadline but those of the calls.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be read.
    pub async fn read_now(&self, pod: &PodIdentity) -> Result<Mono, ReadError> {
        self.wait_for(PendingRead::of(pod.clone(), WHOLE_POD)).await
    }

    /// As [`Reads::read_now`], of all pods with this UID. None of them needs to be known.
    ///
    /// # Errors
    ///
    /// As [`Reads::read_now`].
    pub async fn read_uid_now(&self, uid: &PodUid) -> Result<Mono, ReadError> {
        self.wait_for(PendingRead::unnamed(uid.clone(), WHOLE_POD)).await
    }

    async fn wait_for(&self, mut request: PendingRead) -> Result<Mono, ReadError> {
        let (waiter, answer) = oneshot::channel();
        request.waiters.push(waiter);
        self.send(request);
        answer.await.unwrap_or(Err(ReadError::ShuttingDown))
    }

    /// Reads all of a pod once more for the clients that still wait, when its deaths have been published.
    pub(super) fn requeue_for_waiters(
        &self,
        key: &PodIdentity,
        pod: Option<PodIdentity>,
        waiters: Vec<oneshot::Sender<Result<Mono, ReadError>>>,
    ) {
        let waiters: Vec<_> = waiters.into_iter().filter(|waiter| !waiter.is_closed()).collect();
        if !waiters.is_empty() {
            let read = ReadRequest { after: DEATH_GRACE_PERIOD, ..WHOLE_POD };
            let request = match pod {
                Some(pod) => PendingRead::of(pod, read),
                None => PendingRead::unnamed(key.uid.clone(), read),
            };
            self.send(PendingRead { waiters, ..request });
        }
    }

    fn send(&self, request: PendingRead) {
        // The receiver is gone only at shutdown.
        let _ = self.requests.send(request);
    }

    /// Retries at once the reads that failed because the runtime was unavailable.
    pub(super) fn on_runtime_recovered(&self) {
        self.runtime_recovered.notify_one();
    }
}

// === impl Reader ===

impl Reader {
    pub(crate) fn new(deps: ReaderDeps) -> Self {
        Self {
            unreadable: UnreadableIds::new(deps.metrics.clone()),
            limiter: ConcurrencyLimiter::default(),
            queue: ReadQueue::default(),
            deps,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tasks: JoinSet<Finished> = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(finished) = tasks.join_next(), if !tasks.is_empty() => match finished {
                    Ok(finished) => self.finish(finished),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                Some(request) = self.deps.requests.0.recv() => self.queue.enqueue(request),
                () = self.deps.reads.runtime_recovered.notified() => self.queue.on_runtime_recovered(),
                Some(due) = self.queue.scheduled.next(), if !self.queue.scheduled.is_empty() => {
                    let due = due.into_inner();
                    if !self.is_obsolete(&due) {
                        self.queue.on_due(due);
                    }
                }
            }
            while let Ok(request) = self.deps.requests.0.try_recv() {
                self.queue.enqueue(request);
            }
            let limit = self.limiter.limit(self.deps.parallelism.get());
            while let Some(request) = self.queue.next(limit) {
                tasks.spawn(self.pod_read().run(request));
            }
            self.report(limit);
        }
    }

    /// The ids that the runtime lists without giving their status.
    pub fn unreadable(&self) -> &UnreadableIds {
        &self.unreadable
    }

    fn pod_read(&self) -> PodRead {
        PodRead {
            client: self.deps.client.clone(),
            lister: self.deps.lister.clone(),
            unreadable: self.unreadable.clone(),
            cache: self.deps.cache.clone(),
            arbiter: self.deps.arbiter.clone(),
            clock: self.deps.clock.clone(),
            reads: self.deps.reads.clone(),
        }
    }

    /// Whether a scheduled re-check is obsolete: all its ids have been removed or have changed their phase meanwhile. That is the case for
    /// every pod that is killed and deleted, and for every container that is started.
    fn is_obsolete(&self, due: &Scheduled) -> bool {
        let Scheduled::Request(request) = due else { return false };
        let Scope::Ids(ids) = &request.scope else { return false };
        let expected = match request.cause {
            ReadCause::Start => Phase::Created,
            ReadCause::Oom => Phase::Exited,
            _ => return false,
        };
        let is_changed = |id: &ObjectId| self.deps.arbiter.served_phase(id) != Some(expected);
        ids.iter().all(is_changed)
    }

    fn finish(&mut self, finished: Finished) {
        // If no read waits, a higher limit would be of no use.
        let idle = self.queue.pending() == 0;
        for (subject, took) in finished.latencies {
            self.limiter.record(subject, took, idle, self.deps.parallelism.get());
        }
        let metrics = &self.deps.metrics.reads;
        metrics.duration.observe(finished.took.as_secs_f64());
        let outcome = match &finished.failed {
            None => ReadOutcome::Ok,
            Some((_, error)) if matches!(**error, CriError::Deadline { .. }) => ReadOutcome::Timeout,
            Some(_) => ReadOutcome::Error,
        };
        metrics.done.inc((finished.cause, outcome));
        let failed = finished.failed.map(|(request, error)| (request, FailureKind::of(&error)));
        self.queue.finish(finished.key, failed);
    }

    fn report(&self, limit: usize) {
        let metrics = &self.deps.metrics.reads;
        metrics.pending.set(self.queue.pending() as i64);
        metrics.running.set(self.queue.running() as i64);
        metrics.places.set(limit as i64);
        metrics.delayed.set(self.queue.scheduled.len() as i64);
        metrics.failing_pods.set(self.queue.failing() as i64);
    }
}
