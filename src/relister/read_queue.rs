//! The queue of pending reads, by pod: their order, and the retries of those that failed. Pure but for the timers of scheduled reads.
//!
//! A pod is in the queue once: a further request joins the pending one. Each pending pod is in one [`Lane`]. The lane changes with the
//! cause of the request and with the outcome of earlier reads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::time::DelayQueue;

use super::ReadError;
use crate::{
    arbiter::{NOW, ReadRequest, Scope},
    clock::Mono,
    cri::{CriError, ListedContainer},
    model::{ObjectId, Observation, Phase, PodIdentity, PodUid, ReadCause},
};

/// How many reads can be scheduled for later. Further ones are done at once.
const SCHEDULED_LIMIT: usize = 65_536;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// For how many pods an empty queue keeps memory. The first relist requests all pods at once, which does not happen again.
const KEPT_CAPACITY: usize = 32;

/// One request, or several for the same pod.
#[derive(Debug)]
pub(super) struct PendingRead {
    /// Requests with the same key are joined: the pod. If only its UID is known, the UID with empty namespace and name; for containers
    /// of an unknown pod, the id of their sandbox in its place.
    pub(super) key: PodIdentity,
    /// The pod, if it is known.
    pub(super) pod: Option<PodIdentity>,
    pub(super) scope: Scope,
    pub(super) cause: ReadCause,
    pub(super) after: Duration,
    /// The lists' views, in order, for ids that have moved on or are gone when they are read. Each id in each phase once.
    pub(super) listed: Vec<Observation>,
    /// Ids that a list lacked, or that an event reports as deleted: absent if a list of the id alone lacks it too.
    pub(super) absent: BTreeSet<ObjectId>,
    /// Of the absent ids, those for which a list suffices that shows them in the phase of the record: no status is needed.
    pub(super) list_suffices: BTreeSet<ObjectId>,
    /// Of the absent ids, those that only a status can prove to be gone, since the list lacked too many ids.
    pub(super) doubted: BTreeSet<ObjectId>,
    /// Ids that the first relist found.
    pub(super) initial: BTreeSet<ObjectId>,
    /// Ids whose last read failed: they are read last, so that they delay no other id.
    pub(super) read_last: BTreeSet<ObjectId>,
    /// How many reads in a row failed of an id that a list shows.
    pub(super) attempts: BTreeMap<ObjectId, u32>,
    /// The sandbox that a list names for a container.
    pub(super) sandboxes: HashMap<ObjectId, ObjectId>,
    /// Dropped when the read was done once.
    pub(super) completion: Vec<mpsc::Sender<()>>,
    pub(super) waiters: Vec<oneshot::Sender<Result<Mono, ReadError>>>,
}

/// The pending reads. Its size is bounded by the number of pods, by [`SCHEDULED_LIMIT`] and by the number of waiting clients.
#[derive(Default)]
pub(super) struct ReadQueue {
    pending: HashMap<PodIdentity, Queued>,
    /// The pending pods of each lane, in order of arrival.
    lanes: [BTreeMap<u64, PodIdentity>; Lane::ALL.len()],
    next_ticket: u64,
    /// When the queue reaches this length, requests whose clients have gone are dropped. Doubles after each time.
    drop_abandoned_at: usize,
    running: HashMap<PodIdentity, Lane>,
    pub(super) scheduled: DelayQueue<Scheduled>,
    failing: HashMap<PodIdentity, RetryState>,
}

#[derive(Debug)]
struct Queued {
    request: PendingRead,
    lane: Lane,
    ticket: u64,
}

/// Lanes have limits of their own, so that slow pods and clients delay no other read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Main,
    /// Pods whose last read timed out: one at a time, beside the limit of the others.
    Slow,
    /// Reads that only clients requested: at most half of the limit, and after those that plegd itself needs.
    OnDemand,
}

#[derive(Debug, Default)]
struct RetryState {
    count: u32,
    /// How the last read failed.
    kind: FailureKind,
    /// The request that is tried again when its time has come; further requests join it.
    retry: Option<PendingRead>,
}

/// How a read of a pod failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The runtime returned an error.
    #[default]
    Error,
    /// The runtime did not respond in time.
    Timeout,
    /// The runtime is down, or still starting.
    RuntimeUnavailable,
}

/// A read that is due later.
#[derive(Debug)]
pub(super) enum Scheduled {
    Request(Box<PendingRead>),
    Retry(PodIdentity),
}

// === impl ReadQueue ===

impl ReadQueue {
    /// Adds a request: to be read now, later, or with the retry of a read that failed.
    pub(super) fn enqueue(&mut self, mut request: PendingRead) {
        // A scheduled read stays scheduled, whatever is read earlier: the change that it waits for may not have happened yet.
        if !request.after.is_zero() && self.scheduled.len() < SCHEDULED_LIMIT {
            let after = request.after;
            self.scheduled.insert(Scheduled::Request(Box::new(PendingRead { after: NOW, ..request })), after);
            return;
        }
        // A new phase in a list, of an id whose status fails, does not wait for the retry, which may be 30 s away.
        let retry = self.failing.get_mut(&request.key).map(|failing| &mut failing.retry);
        if let Some(retry) = retry
            && let Some(mut again) = retry.take_if(|retry| request.brings_news_to(retry))
        {
            again.join(request);
            return self.enqueue_now(again);
        }
        let retry = self.failing.get_mut(&request.key).and_then(|failing| failing.retry.as_mut());
        // Ids that failed wait for the retry. Only a waiting client gets a read of its own.
        if let Some(retry) = retry.filter(|_| request.waiters.is_empty()) {
            let Scope::Ids(failed) = &retry.scope else {
                return retry.join(PendingRead { completion: Vec::new(), ..request });
            };
            if let Some(again) = request.split_off(&failed.clone()) {
                retry.join(again);
            }
            if request.scope == Scope::Ids(BTreeSet::new()) {
                return;
            }
        }
        self.enqueue_now(request);
    }

    /// A scheduled read is due.
    pub(super) fn on_due(&mut self, due: Scheduled) {
        match due {
            Scheduled::Request(request) => self.enqueue(*request),
            Scheduled::Retry(key) => {
                let retry = self.failing.get_mut(&key).and_then(|failing| failing.retry.take());
                retry.into_iter().for_each(|request| self.enqueue_now(request));
            }
        }
    }

    /// The runtime responds again: reads that failed because it did not are retried now. Their timers then find no retry.
    pub(super) fn on_runtime_recovered(&mut self) {
        let unavailable =
            self.failing.values_mut().filter(|failing| failing.kind == FailureKind::RuntimeUnavailable);
        let mut retries: Vec<PendingRead> = unavailable.filter_map(|failing| failing.retry.take()).collect();
        // The map has no order, and the order of reads is to be reproducible.
        retries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        retries.into_iter().for_each(|request| self.enqueue_now(request));
    }

    /// The next read, if `limit` reads at a time allow one. A pod that is being read waits for the end of that read.
    pub(super) fn next(&mut self, limit: usize) -> Option<PendingRead> {
        let lanes = Lane::ALL.into_iter().filter(|lane| self.has_capacity(*lane, limit));
        let (lane, key) = lanes.filter_map(|lane| Some((lane, self.first_idle(lane)?))).next()?;
        let request = self.remove(&key)?;
        if request.is_abandoned() {
            self.drop_abandoned();
            return self.next(limit);
        }
        self.running.insert(key, lane);
        Some(request)
    }

    /// The read of a pod has ended. The part that failed, if any, is retried.
    pub(super) fn finish(&mut self, key: PodIdentity, failed: Option<(PendingRead, FailureKind)>) {
        self.running.remove(&key);
        // A request of clients alone, which have got the error, is not retried: clients may name pods that do not exist.
        match failed.filter(|(request, _)| request.cause != ReadCause::Fresh) {
            Some((request, kind)) => self.retry_later(&key, request, kind),
            // Another read of the pod may have failed before, and this success does not stand for it.
            None if self.failing.get(&key).is_some_and(|failing| failing.retry.is_none()) => {
                self.failing.remove(&key);
            }
            None => return,
        }
        self.update_lane(&key);
    }

    /// Pods to be read.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Pods that are being read.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Pods whose last read failed.
    pub(super) fn failing(&self) -> usize {
        self.failing.len()
    }

    fn retry_later(&mut self, key: &PodIdentity, request: PendingRead, kind: FailureKind) {
        let failing = self.failing.entry(key.clone()).or_default();
        failing.kind = kind;
        let wait = (RETRY_FIRST * (1 << failing.count.min(12))).min(RETRY_LONGEST);
        failing.count = failing.count.saturating_add(1);
        match &mut failing.retry {
            Some(retry) => retry.join(request),
            retry @ None => {
                *retry = Some(request);
                let wait = wait.mul_f64(1.0 - 0.3 * fastrand::f64());
                self.scheduled.insert(Scheduled::Retry(key.clone()), wait);
            }
        }
    }

    fn enqueue_now(&mut self, request: PendingRead) {
        let key = request.key.clone();
        match self.pending.get_mut(&key) {
            Some(queued) => {
                queued.request.join(request);
                self.update_lane(&key);
            }
            None => {
                if self.pending.len() >= self.drop_abandoned_at {
                    self.drop_abandoned();
                }
                let (lane, ticket) = (self.lane_of(&request), self.next_ticket);
                self.next_ticket += 1;
                self.lanes[lane as usize].insert(ticket, key.clone());
                self.pending.insert(key, Queued { request, lane, ticket });
            }
        }
    }

    fn remove(&mut self, key: &PodIdentity) -> Option<PendingRead> {
        let Queued { request, lane, ticket } = self.pending.remove(key)?;
        self.lanes[lane as usize].remove(&ticket);
        if self.pending.is_empty() {
            self.pending.shrink_to(KEPT_CAPACITY);
        }
        Some(request)
    }

    /// Drops requests whose clients have gone.
    fn drop_abandoned(&mut self) {
        let lanes = &mut self.lanes;
        self.pending.retain(|_, queued| {
            let keep = !queued.request.is_abandoned();
            if !keep {
                lanes[queued.lane as usize].remove(&queued.ticket);
            }
            keep
        });
        self.drop_abandoned_at = KEPT_CAPACITY.max(2 * self.pending.len());
    }

    fn first_idle(&self, lane: Lane) -> Option<PodIdentity> {
        self.lanes[lane as usize].values().find(|key| !self.running.contains_key(key)).cloned()
    }

    fn has_capacity(&self, lane: Lane, limit: usize) -> bool {
        let running = |lane| self.running.values().filter(|at| **at == lane).count();
        match lane {
            Lane::Main => running(Lane::Main) + running(Lane::OnDemand) < limit,
            Lane::Slow => running(Lane::Slow) == 0,
            Lane::OnDemand => {
                self.has_capacity(Lane::Main, limit) && running(Lane::OnDemand) < (limit / 2).max(1)
            }
        }
    }

    /// Moves a pending pod to its lane, after a change of its request or of its failures. It keeps its turn.
    fn update_lane(&mut self, key: &PodIdentity) {
        let Some(queued) = self.pending.get(key) else { return };
        let (from, to, ticket) = (queued.lane, self.lane_of(&queued.request), queued.ticket);
        if from != to
            && let Some(key) = self.lanes[from as usize].remove(&ticket)
            && let Some(queued) = self.pending.get_mut(&key)
        {
            queued.lane = to;
            self.lanes[to as usize].insert(ticket, key);
        }
    }

    fn lane_of(&self, request: &PendingRead) -> Lane {
        let again = request.scope == Scope::Pod || !request.read_last.is_empty();
        match self.failing.get(&request.key) {
            Some(RetryState { kind: FailureKind::Timeout, .. }) if again => Lane::Slow,
            _ if request.cause == ReadCause::Fresh => Lane::OnDemand,
            _ => Lane::Main,
        }
    }
}

// === impl Lane ===

impl Lane {
    /// All lanes, in the order in which reads are taken from them.
    const ALL: [Lane; 3] = [Lane::Main, Lane::Slow, Lane::OnDemand];
}

// === impl PendingRead ===

impl PendingRead {
    /// A request about a known pod.
    pub(super) fn of(pod: PodIdentity, read: ReadRequest) -> Self {
        Self::new(pod.clone(), Some(pod), read)
    }

    /// A request about an unknown pod with this UID, or about the sandbox whose id is given in its place.
    pub(super) fn unnamed(uid: PodUid, read: ReadRequest) -> Self {
        Self::new(PodIdentity { uid, namespace: "".into(), name: "".into() }, None, read)
    }

    /// A request about containers of a sandbox that is neither listed nor known.
    pub(super) fn of_orphans(
        sandbox_id: &ObjectId,
        containers: &[&ListedContainer],
        cause: ReadCause,
        after: Duration,
    ) -> Self {
        let ids = containers.iter().map(|container| ObjectId::from(container.id.as_str()));
        let scope = Scope::Ids(ids.clone().chain([sandbox_id.clone()]).collect());
        let sandboxes = ids.map(|id| (id, sandbox_id.clone())).collect();
        Self { sandboxes, ..Self::unnamed(sandbox_id.as_str().into(), ReadRequest { scope, cause, after }) }
    }

    fn new(key: PodIdentity, pod: Option<PodIdentity>, read: ReadRequest) -> Self {
        let absent = match &read.scope {
            Scope::Ids(ids) if read.cause == ReadCause::Deletion => ids.clone(),
            _ => BTreeSet::new(),
        };
        Self {
            key,
            pod,
            scope: read.scope,
            cause: read.cause,
            after: read.after,
            listed: Vec::new(),
            list_suffices: absent.clone(),
            absent,
            doubted: BTreeSet::new(),
            initial: BTreeSet::new(),
            read_last: BTreeSet::new(),
            attempts: BTreeMap::new(),
            sandboxes: HashMap::new(),
            completion: Vec::new(),
            waiters: Vec::new(),
        }
    }

    /// Joins another request, so that one read serves both.
    fn join(&mut self, other: PendingRead) {
        self.pod = self.pod.take().or(other.pod);
        let needs_status = |scope: &Scope, suffices: &BTreeSet<ObjectId>, id: &ObjectId| match scope {
            Scope::Ids(ids) => ids.contains(id) && !suffices.contains(id),
            Scope::Pod => true,
        };
        let mut suffices = std::mem::take(&mut self.list_suffices);
        suffices.retain(|id| !needs_status(&other.scope, &other.list_suffices, id));
        let others = other.list_suffices.into_iter();
        let others: Vec<ObjectId> = others.filter(|id| !needs_status(&self.scope, &suffices, id)).collect();
        suffices.extend(others);
        self.list_suffices = suffices;
        self.scope.join(other.scope);
        // A change that a relist found has the relist as its source, whatever else the read is for.
        self.cause = self.cause.min(other.cause);
        for mut more in other.listed {
            more.containers.retain(|it| !self.is_listed_in(&it.id, it.state.phase()));
            more.sandboxes.retain(|it| !self.is_listed_in(&it.id, Some(it.state.phase())));
            if !more.containers.is_empty() || !more.sandboxes.is_empty() {
                self.listed.push(more);
            }
        }
        self.absent.extend(other.absent);
        self.doubted.extend(other.doubted);
        self.initial.extend(other.initial);
        self.read_last.extend(other.read_last);
        for (id, attempts) in other.attempts {
            let known = self.attempts.entry(id).or_default();
            *known = attempts.max(*known);
        }
        self.sandboxes.extend(other.sandboxes);
        self.completion.extend(other.completion);
        if !other.waiters.is_empty() {
            self.waiters.retain(|waiter| !waiter.is_closed());
            self.waiters.extend(other.waiters);
        }
    }

    /// Whether only clients requested it, and all of them have gone. Clients may name pods that do not exist, for as long as the runtime
    /// hangs.
    fn is_abandoned(&self) -> bool {
        self.cause == ReadCause::Fresh && self.waiters.iter().all(oneshot::Sender::is_closed)
    }

    /// Whether a list lacks an id of the retry, or shows one in a phase in which no list has shown it.
    fn brings_news_to(&self, retry: &PendingRead) -> bool {
        let is_retried = |id: &ObjectId| match &retry.scope {
            Scope::Ids(ids) => ids.contains(id),
            Scope::Pod => true,
        };
        let shown = self.listed.iter().flat_map(|listed| {
            let sandboxes = listed.sandboxes.iter().map(|it| (&it.id, Some(it.state.phase())));
            sandboxes.chain(listed.containers.iter().map(|it| (&it.id, it.state.phase())))
        });
        let mut shown = shown.filter(|(id, _)| is_retried(id));
        shown.any(|(id, phase)| !retry.is_listed_in(id, phase))
            || self.absent.iter().any(|id| is_retried(id) && !retry.absent.contains(id))
    }

    fn is_listed_in(&self, id: &ObjectId, phase: Option<Phase>) -> bool {
        self.listed.iter().any(|listed| {
            listed.containers.iter().any(|it| it.id == *id && it.state.phase() == phase)
                || listed.sandboxes.iter().any(|it| it.id == *id && Some(it.state.phase()) == phase)
        })
    }

    /// Removes and returns the part about these ids, if there is one.
    fn split_off(&mut self, ids: &BTreeSet<ObjectId>) -> Option<PendingRead> {
        let Scope::Ids(scope) = &mut self.scope else { return None };
        let (theirs, others): (BTreeSet<ObjectId>, _) =
            std::mem::take(scope).into_iter().partition(|id| ids.contains(id));
        *scope = others;
        (!theirs.is_empty()).then(|| PendingRead {
            key: self.key.clone(),
            pod: self.pod.clone(),
            scope: Scope::Ids(theirs),
            cause: self.cause,
            after: self.after,
            listed: self.listed.clone(),
            absent: self.absent.clone(),
            list_suffices: self.list_suffices.clone(),
            doubted: self.doubted.clone(),
            initial: self.initial.clone(),
            read_last: self.read_last.clone(),
            attempts: self.attempts.clone(),
            sandboxes: self.sandboxes.clone(),
            completion: Vec::new(),
            waiters: Vec::new(),
        })
    }
}

// === impl FailureKind ===

impl FailureKind {
    pub(super) fn of(error: &CriError) -> Self {
        match error {
            CriError::Deadline { .. } => Self::Timeout,
            error if error.runtime_is_away() => Self::RuntimeUnavailable,
            _ => Self::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Waiter = oneshot::Receiver<Result<Mono, ReadError>>;

    fn client_request(uid: &str) -> (PendingRead, Waiter) {
        let (waiter, answer) = oneshot::channel();
        let read = ReadRequest { scope: Scope::Pod, cause: ReadCause::Fresh, after: NOW };
        let request = PendingRead::unnamed(uid.into(), read);
        (PendingRead { waiters: vec![waiter], ..request }, answer)
    }

    fn relist_request(uid: &str) -> PendingRead {
        let read = ReadRequest { scope: Scope::Pod, cause: ReadCause::Relist, after: NOW };
        PendingRead::unnamed(uid.into(), read)
    }

    fn take_all(queue: &mut ReadQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.next(100)).map(|request| request.key.uid.to_string()).collect()
    }

    fn queued(queue: &ReadQueue) -> usize {
        queue.lanes.iter().map(BTreeMap::len).sum()
    }

    #[test]
    fn requests_of_clients_that_have_gone_are_neither_kept_nor_read() {
        let mut queue = ReadQueue::default();
        let mut waiting = Vec::new();
        for n in 0..10_000 {
            let (request, answer) = client_request(&format!("pod-{n}"));
            queue.enqueue(request);
            if n % 1000 == 0 {
                waiting.push(answer);
            }
            assert!(queue.pending.len() <= 2 * KEPT_CAPACITY && queued(&queue) == queue.pending.len());
        }
        assert_eq!(take_all(&mut queue), (0..10).map(|n| format!("pod-{}", 1000 * n)).collect::<Vec<_>>());
        assert!(queue.pending.is_empty() && queued(&queue) == 0);
    }

    #[test]
    fn reads_that_plegd_needs_are_done_without_clients() {
        let mut queue = ReadQueue::default();
        let (request, answer) = client_request("both");
        queue.enqueue(request);
        queue.enqueue(relist_request("both"));
        queue.enqueue(relist_request("relist"));
        drop(answer);
        queue.drop_abandoned();
        assert_eq!(take_all(&mut queue), ["both", "relist"]);
    }

    #[test]
    fn only_waiters_that_still_wait_are_kept() {
        let mut queue = ReadQueue::default();
        for _ in 0..1000 {
            let (request, answer) = client_request("pod");
            queue.enqueue(request);
            drop(answer);
            assert!(queue.pending.values().next().unwrap().request.waiters.len() <= 1);
        }
        let (request, _answer) = client_request("pod");
        queue.enqueue(request);
        assert_eq!(take_all(&mut queue), ["pod"]);
    }

    #[test]
    fn clients_get_half_of_the_limit_and_wait_for_the_relist() {
        let mut queue = ReadQueue::default();
        let mut answers = Vec::new();
        for n in 0..4 {
            let (request, answer) = client_request(&format!("client-{n}"));
            queue.enqueue(request);
            answers.push(answer);
        }
        queue.enqueue(relist_request("relist"));
        let taken: Vec<_> = std::iter::from_fn(|| queue.next(4)).map(|it| it.key.uid.to_string()).collect();
        assert_eq!(taken, ["relist", "client-0", "client-1"]);
        queue.finish(relist_request("client-0").key, None);
        assert_eq!(queue.next(4).map(|it| it.key.uid.to_string()).as_deref(), Some("client-2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_read_timed_out_uses_no_capacity_of_the_others() {
        let mut queue = ReadQueue::default();
        for uid in ["slow", "slow-too"] {
            queue.enqueue(relist_request(uid));
            let request = queue.next(1).unwrap();
            let key = request.key.clone();
            // It joins the queue while it is being read, and changes its lane when the read has failed.
            let (again, _answer) = client_request(uid);
            queue.enqueue(again);
            queue.enqueue(relist_request(uid));
            queue.finish(key, Some((request, FailureKind::Timeout)));
        }
        queue.enqueue(relist_request("fast"));
        queue.enqueue(relist_request("fast-too"));
        let taken: Vec<_> = std::iter::from_fn(|| queue.next(1)).map(|it| it.key.uid.to_string()).collect();
        assert_eq!(taken, ["fast", "slow"]);
        assert_eq!((queue.pending(), queue.running(), queue.failing()), (2, 2, 2));
        queue.finish(relist_request("slow").key, None);
        assert_eq!(queue.next(1).map(|it| it.key.uid.to_string()).as_deref(), Some("slow-too"));
    }
}
