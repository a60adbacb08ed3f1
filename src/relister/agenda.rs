//! What is to be read of which pod, in which order, and what is tried again. Pure but for the timers of what is due later.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::time::DelayQueue;

use super::ReadError;
use crate::{
    arbiter::{NOW, ReadRequest, Scope},
    clock::Mono,
    cri::CriError,
    model::{ObjectId, Observation, Phase, PodIdentity, PodUid, ReadCause},
};

/// Reads that are waited for later, at most: past it they are done at once.
const DELAYED_AT_MOST: usize = 65_536;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// One request, or several for the same pod.
#[derive(Debug)]
pub(super) struct Request {
    /// What requests are joined by: the pod. Where only its UID is known, that stands for it, with neither namespace nor name; for
    /// containers whose pod is not known, the id of their sandbox does.
    pub(super) key: PodIdentity,
    /// The pod, if it is known.
    pub(super) pod: Option<PodIdentity>,
    pub(super) scope: Scope,
    pub(super) cause: ReadCause,
    pub(super) after: Duration,
    /// What lists showed, in order, for what has moved on or is gone when it is read; each id in each phase once.
    pub(super) seen: Vec<Observation>,
    /// Ids that a list lacked, or that are said to be deleted: absent if a list of the id alone lacks it, too.
    pub(super) absent: BTreeSet<ObjectId>,
    /// Those of them of which nothing is wanted but whether they are there: a list that shows one as it is held suffices.
    pub(super) listed_suffices: BTreeSet<ObjectId>,
    /// Those of them whose list lacked so much that their status decides.
    pub(super) doubted: BTreeSet<ObjectId>,
    /// Events that wait until the sandbox was read.
    pub(super) deferred: Vec<Observation>,
    /// Ids that the first relist found.
    pub(super) initial: BTreeSet<ObjectId>,
    /// What could not be read the last time: read last, so that it holds nothing up.
    pub(super) suspects: BTreeSet<ObjectId>,
    /// How often in a row an id could not be read while a list showed it.
    pub(super) attempts: BTreeMap<ObjectId, u32>,
    /// The sandbox that a list names for a container.
    pub(super) sandboxes: HashMap<ObjectId, ObjectId>,
    /// Dropped when it has been done once.
    pub(super) done: Vec<mpsc::Sender<()>>,
    pub(super) waiters: Vec<oneshot::Sender<Result<Mono, ReadError>>>,
}

/// For how many pods room is kept: the first relist asks for all there are, and so many never come again.
const ROOM: usize = 32;

/// What is to be read, by pod. Nothing in it grows beyond the pods that there are, what is due later
/// ([`DELAYED_AT_MOST`]), and what readers wait for.
#[derive(Default)]
pub(super) struct Agenda {
    pub(super) pending: HashMap<PodIdentity, Request>,
    /// The same pods, in the order in which they came.
    order: VecDeque<PodIdentity>,
    /// With so many pending, it is time to look for those that nobody waits for any more.
    sweep_at: usize,
    /// Pods that are being read, and whether in the lane for those that hang.
    pub(super) running: HashMap<PodIdentity, Lane>,
    pub(super) delayed: DelayQueue<Due>,
    pub(super) failures: HashMap<PodIdentity, Failures>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Main,
    /// What readers want: half of the places at most, and behind what plegd itself needs to know.
    Fresh,
    Hung,
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    /// What the last one was.
    trouble: Trouble,
    /// What is tried again when its time has come; what is asked for meanwhile goes with it.
    retry: Option<Request>,
}

/// Why a pod could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The runtime gave an error.
    #[default]
    Failed,
    /// It did not answer in time: the pod waits in a lane of its own.
    Hung,
    /// It is down, or still starting.
    Away,
}

/// What becomes due later.
#[derive(Debug)]
pub(super) enum Due {
    Request(Box<Request>),
    Retry(PodIdentity),
}

// === impl Trouble ===

impl Trouble {
    pub(super) fn of(error: &CriError) -> Self {
        match error {
            CriError::Deadline { .. } => Self::Hung,
            error if error.runtime_is_away() => Self::Away,
            _ => Self::Failed,
        }
    }
}

// === impl Request ===

impl Request {
    /// A request about a known pod.
    pub(super) fn of(pod: PodIdentity, ask: ReadRequest) -> Self {
        Self::new(pod.clone(), Some(pod), ask)
    }

    /// A request about what only a UID, or the id of a sandbox in its place, is known of.
    pub(super) fn unnamed(uid: PodUid, ask: ReadRequest) -> Self {
        Self::new(PodIdentity { uid, namespace: "".into(), name: "".into() }, None, ask)
    }

    fn new(key: PodIdentity, pod: Option<PodIdentity>, ask: ReadRequest) -> Self {
        let absent = match &ask.scope {
            Scope::Ids(ids) if ask.cause == ReadCause::Deletion => ids.clone(),
            _ => BTreeSet::new(),
        };
        Self {
            key,
            pod,
            scope: ask.scope,
            cause: ask.cause,
            after: ask.after,
            seen: Vec::new(),
            listed_suffices: absent.clone(),
            absent,
            doubted: BTreeSet::new(),
            deferred: Vec::new(),
            initial: BTreeSet::new(),
            suspects: BTreeSet::new(),
            attempts: BTreeMap::new(),
            sandboxes: HashMap::new(),
            done: Vec::new(),
            waiters: Vec::new(),
        }
    }

    /// Both, in one read.
    fn join(&mut self, other: Request) {
        self.pod = self.pod.take().or(other.pod);
        let needs_status = |scope: &Scope, suffices: &BTreeSet<ObjectId>, id: &ObjectId| match scope {
            Scope::Ids(ids) => ids.contains(id) && !suffices.contains(id),
            Scope::Pod => true,
        };
        let mut suffices = std::mem::take(&mut self.listed_suffices);
        suffices.retain(|id| !needs_status(&other.scope, &other.listed_suffices, id));
        let others = other.listed_suffices.into_iter();
        let others: Vec<ObjectId> = others.filter(|id| !needs_status(&self.scope, &suffices, id)).collect();
        suffices.extend(others);
        self.listed_suffices = suffices;
        self.scope.join(other.scope);
        // What a relist has found is put down to the relist, whatever else it was to be read for.
        self.cause = self.cause.min(other.cause);
        for mut more in other.seen {
            more.containers.retain(|it| !self.has_seen(&it.id, it.state.phase()));
            more.sandboxes.retain(|it| !self.has_seen(&it.id, Some(it.state.phase())));
            if !more.containers.is_empty() || !more.sandboxes.is_empty() {
                self.seen.push(more);
            }
        }
        self.absent.extend(other.absent);
        self.doubted.extend(other.doubted);
        self.deferred.extend(other.deferred);
        self.initial.extend(other.initial);
        self.suspects.extend(other.suspects);
        for (id, attempts) in other.attempts {
            let known = self.attempts.entry(id).or_default();
            *known = attempts.max(*known);
        }
        self.sandboxes.extend(other.sandboxes);
        self.done.extend(other.done);
        if !other.waiters.is_empty() {
            self.waiters.retain(|waiter| !waiter.is_closed());
            self.waiters.extend(other.waiters);
        }
    }

    /// Whether only readers wanted it, and all of them have given up. They may name pods that nobody knows, and do so for as long
    /// as the runtime hangs.
    fn is_given_up(&self) -> bool {
        self.cause == ReadCause::Fresh && self.waiters.iter().all(oneshot::Sender::is_closed)
    }

    /// Whether a list lacks what is to be read again, or shows it in a phase in which no list has shown it.
    fn brings_news_to(&self, retry: &Request) -> bool {
        let is_retried = |id: &ObjectId| match &retry.scope {
            Scope::Ids(ids) => ids.contains(id),
            Scope::Pod => true,
        };
        let shown = self.seen.iter().flat_map(|seen| {
            let sandboxes = seen.sandboxes.iter().map(|it| (&it.id, Some(it.state.phase())));
            sandboxes.chain(seen.containers.iter().map(|it| (&it.id, it.state.phase())))
        });
        let mut shown = shown.filter(|(id, _)| is_retried(id));
        shown.any(|(id, phase)| !retry.has_seen(id, phase))
            || self.absent.iter().any(|id| is_retried(id) && !retry.absent.contains(id))
    }

    fn has_seen(&self, id: &ObjectId, phase: Option<Phase>) -> bool {
        self.seen.iter().any(|seen| {
            seen.containers.iter().any(|it| it.id == *id && it.state.phase() == phase)
                || seen.sandboxes.iter().any(|it| it.id == *id && Some(it.state.phase()) == phase)
        })
    }

    /// Takes out the part that is about these ids alone, if there is any.
    fn split_off(&mut self, ids: &BTreeSet<ObjectId>) -> Option<Request> {
        let Scope::Ids(wanted) = &mut self.scope else { return None };
        let (theirs, others): (BTreeSet<ObjectId>, _) =
            std::mem::take(wanted).into_iter().partition(|id| ids.contains(id));
        *wanted = others;
        (!theirs.is_empty()).then(|| Request {
            key: self.key.clone(),
            pod: self.pod.clone(),
            scope: Scope::Ids(theirs),
            cause: self.cause,
            after: self.after,
            seen: self.seen.clone(),
            absent: self.absent.clone(),
            listed_suffices: self.listed_suffices.clone(),
            doubted: self.doubted.clone(),
            deferred: Vec::new(),
            initial: self.initial.clone(),
            suspects: self.suspects.clone(),
            attempts: self.attempts.clone(),
            sandboxes: self.sandboxes.clone(),
            done: Vec::new(),
            waiters: Vec::new(),
        })
    }
}

// === impl Agenda ===

impl Agenda {
    /// Takes it up: at once, later, or with the retry of what has failed.
    pub(super) fn put(&mut self, mut request: Request) {
        // One that is due later stays so, whatever is read earlier: what it is to see may not be there yet.
        if !request.after.is_zero() && self.delayed.len() < DELAYED_AT_MOST {
            let after = request.after;
            self.delayed.insert(Due::Request(Box::new(Request { after: NOW, ..request })), after);
            return;
        }
        // What a list shows anew of an id whose status fails does not wait for the turn of the retry, which may be far off.
        let waiting = self.failures.get_mut(&request.key).map(|failures| &mut failures.retry);
        if let Some(retry) = waiting
            && let Some(mut again) = retry.take_if(|retry| request.brings_news_to(retry))
        {
            again.join(request);
            return self.put_now(again);
        }
        let retry = self.failures.get_mut(&request.key).and_then(|failures| failures.retry.as_mut());
        // The turn of what has failed comes with the retry. Only a reader who waits gets a try of its own.
        if let Some(retry) = retry.filter(|_| request.waiters.is_empty()) {
            let Scope::Ids(failed) = &retry.scope else {
                return retry.join(Request { done: Vec::new(), ..request });
            };
            if let Some(again) = request.split_off(&failed.clone()) {
                retry.join(again);
            }
            if request.scope == Scope::Ids(BTreeSet::new()) {
                retry.deferred.append(&mut request.deferred);
                return;
            }
        }
        self.put_now(request);
    }

    /// Something that was to wait has waited long enough.
    pub(super) fn wake(&mut self, due: Due) {
        match due {
            Due::Request(request) => self.put(*request),
            Due::Retry(key) => {
                let retry = self.failures.get_mut(&key).and_then(|failures| failures.retry.take());
                retry.into_iter().for_each(|request| self.put_now(request));
            }
        }
    }

    /// The runtime is back: what failed for its absence is tried now. When its time would have come, it is no longer there.
    pub(super) fn retry_what_was_away(&mut self) {
        let away = self.failures.values_mut().filter(|failures| failures.trouble == Trouble::Away);
        let mut retries: Vec<Request> = away.filter_map(|failures| failures.retry.take()).collect();
        // The map has no order; what is told has one that can be told again.
        retries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        retries.into_iter().for_each(|request| self.put_now(request));
    }

    fn put_now(&mut self, request: Request) {
        match self.pending.get_mut(&request.key) {
            Some(pending) => pending.join(request),
            None => {
                if self.pending.len() >= self.sweep_at {
                    self.sweep();
                }
                self.order.push_back(request.key.clone());
                self.pending.insert(request.key.clone(), request);
            }
        }
    }

    /// Forgets what is given up. As seldom as the rest may have doubled, so that it costs nothing to speak of.
    fn sweep(&mut self) {
        self.pending.retain(|_, request| !request.is_given_up());
        self.order.retain(|key| self.pending.contains_key(key));
        self.sweep_at = ROOM.max(2 * self.pending.len());
    }

    /// The next pod that may be read: not while it is being read, not where its lane is full, and not if nobody wants it any more.
    pub(super) fn take(&mut self, parallelism: usize) -> Option<Request> {
        let busy =
            |running: &HashMap<PodIdentity, Lane>, lane| running.values().filter(|at| **at == lane).count();
        let fresh = busy(&self.running, Lane::Fresh);
        let main = busy(&self.running, Lane::Main) + fresh < parallelism;
        let fresh = main && fresh < (parallelism / 2).max(1);
        // Without any that hangs, nobody looks through all that wait for the first that does.
        let any_hung = || self.failures.values().any(|failures| failures.trouble == Trouble::Hung);
        let hung = busy(&self.running, Lane::Hung) == 0 && any_hung();
        if !main && !hung {
            return None;
        }
        let next = |may: fn(Lane, bool, bool) -> bool| {
            let mut order = self.order.iter();
            order.position(|key| may(self.lane(key), main, hung) && !self.running.contains_key(key))
        };
        let at = next(|lane, main, hung| (lane == Lane::Main && main) || (lane == Lane::Hung && hung));
        let at = at.or_else(|| if fresh { next(|lane, _, _| lane == Lane::Fresh) } else { None })?;
        let key = self.order.remove(at)?;
        let lane = self.lane(&key);
        let request = self.pending.remove(&key)?;
        if self.pending.is_empty() {
            self.pending.shrink_to(ROOM);
            self.order.shrink_to(ROOM);
        }
        if request.is_given_up() {
            self.sweep();
            return self.take(parallelism);
        }
        self.running.insert(key, lane);
        Some(request)
    }

    fn lane(&self, key: &PodIdentity) -> Lane {
        let Some(request) = self.pending.get(key) else { return Lane::Main };
        let again = request.scope == Scope::Pod || !request.suspects.is_empty();
        match self.failures.get(key) {
            Some(Failures { trouble: Trouble::Hung, .. }) if again => Lane::Hung,
            _ if request.cause == ReadCause::Fresh => Lane::Fresh,
            _ => Lane::Main,
        }
    }

    /// The pod has been read; what has failed, if anything, is tried again.
    pub(super) fn finish(&mut self, key: PodIdentity, failed: Option<(Request, Trouble)>) {
        self.running.remove(&key);
        // What only a reader wanted, who has been told, is not tried again: readers may name pods that nobody knows.
        let Some((request, trouble)) = failed.filter(|(request, _)| request.cause != ReadCause::Fresh) else {
            // Another read of the pod may have failed before: that it went well here is no answer to it.
            if self.failures.get(&key).is_some_and(|failures| failures.retry.is_none()) {
                self.failures.remove(&key);
            }
            return;
        };
        let failures = self.failures.entry(key.clone()).or_default();
        failures.trouble = trouble;
        let wait = (RETRY_FIRST * (1 << failures.count.min(12))).min(RETRY_LONGEST);
        failures.count = failures.count.saturating_add(1);
        match &mut failures.retry {
            Some(retry) => retry.join(request),
            retry @ None => {
                *retry = Some(request);
                self.delayed.insert(Due::Retry(key), wait.mul_f64(1.0 - 0.3 * fastrand::f64()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Waiter = oneshot::Receiver<Result<Mono, ReadError>>;

    /// A reader wants this pod.
    fn wanted(uid: &str) -> (Request, Waiter) {
        let (waiter, answer) = oneshot::channel();
        let ask = ReadRequest { scope: Scope::Pod, cause: ReadCause::Fresh, after: NOW };
        let request = Request::unnamed(uid.into(), ask);
        (Request { waiters: vec![waiter], ..request }, answer)
    }

    fn found(uid: &str) -> Request {
        Request::unnamed(uid.into(), ReadRequest { scope: Scope::Pod, cause: ReadCause::Relist, after: NOW })
    }

    fn taken(agenda: &mut Agenda) -> Vec<String> {
        std::iter::from_fn(|| agenda.take(100)).map(|request| request.key.uid.to_string()).collect()
    }

    #[test]
    fn what_readers_have_given_up_is_neither_kept_nor_read() {
        let mut agenda = Agenda::default();
        let mut patient = Vec::new();
        for n in 0..10_000 {
            let (request, answer) = wanted(&format!("nobody-{n}"));
            agenda.put(request);
            if n % 1000 == 0 {
                patient.push(answer);
            }
            assert!(agenda.pending.len() <= 2 * ROOM && agenda.order.len() == agenda.pending.len());
        }
        assert_eq!(taken(&mut agenda), (0..10).map(|n| format!("nobody-{}", 1000 * n)).collect::<Vec<_>>());
        assert!(agenda.pending.is_empty() && agenda.order.is_empty());
    }

    #[test]
    fn what_plegd_itself_wants_is_read_whoever_gives_up() {
        let mut agenda = Agenda::default();
        let (request, answer) = wanted("both");
        agenda.put(request);
        agenda.put(found("both"));
        agenda.put(found("found"));
        drop(answer);
        agenda.sweep();
        assert_eq!(taken(&mut agenda), ["both", "found"]);
    }

    #[test]
    fn of_those_who_want_one_pod_only_those_who_wait_are_kept() {
        let mut agenda = Agenda::default();
        for _ in 0..1000 {
            let (request, answer) = wanted("pod");
            agenda.put(request);
            drop(answer);
            assert!(agenda.pending.values().next().unwrap().waiters.len() <= 1);
        }
        let (request, _answer) = wanted("pod");
        agenda.put(request);
        assert_eq!(taken(&mut agenda), ["pod"]);
    }
}
