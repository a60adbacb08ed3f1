//! One read of a pod: the order of the ids, the calls about each, and what is applied.
//!
//! Sandboxes are read before containers, so that no container is published before the labels of its pod are known. A failed status call
//! is no absence: the id is then listed alone. If that list lacks it, it is absent. If the list shows it, list and status disagree, and
//! after [`ATTEMPTS`] such reads in a row the list's view is published.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Lister, UnreadableIds,
    read_queue::PendingRead,
    reader::{ReadError, Reads},
};
use crate::{
    arbiter::{Arbiter, PodReadRequest, ReadRequest, Scope},
    cache::Cache,
    clock::{Clock, Mono},
    cri::{Client, CriError, ListedContainer, pod_of_container},
    model::{
        ContainerStatus, Detail, Interval, ObjectId, Observation, Origin, Phase, PodIdentity, ReadCause,
        SandboxStatus, Status, Subject,
    },
};

/// How long a status may take before the statuses read so far are applied without it. Otherwise a list that finds a container gone
/// meanwhile would publish its death without the exit code that was read already.
const PARTIAL_APPLY_AFTER: Duration = Duration::from_millis(50);
/// How much longer it may take before the list's view is published.
const LISTED_APPLY_AFTER: Duration = Duration::from_millis(450);
/// When an id is read again that a list lacks although it has a status.
const REREAD_AFTER: Duration = Duration::from_millis(50);
/// After how many failed reads in a row of an id that a list shows, the list's view is published.
const ATTEMPTS: u32 = 3;
/// The same, if the list shows a death: its exit code is worth two more reads.
const ATTEMPTS_OF_DEATH: u32 = 5;

/// What the read of a pod needs.
pub(super) struct PodRead {
    pub(super) client: Client,
    pub(super) lister: Lister,
    pub(super) cache: Cache,
    pub(super) arbiter: Arc<Arbiter>,
    pub(super) clock: Clock,
    pub(super) reads: Reads,
    pub(super) unreadable: UnreadableIds,
}

/// The result of a read.
pub(super) struct Finished {
    pub(super) key: PodIdentity,
    pub(super) cause: ReadCause,
    pub(super) took: Duration,
    /// How long each status call took.
    pub(super) latencies: Vec<(Subject, Duration)>,
    /// The part that failed, and the error.
    pub(super) failed: Option<(PendingRead, Arc<CriError>)>,
}

/// A read in progress.
struct Session {
    deps: PodRead,
    request: PendingRead,
    began: Mono,
    /// What was read and is not applied yet.
    found: ReadResult,
    completeness: ReadCompleteness,
    /// Ids that could not be read.
    unread: BTreeSet<ObjectId>,
    last_error: Option<CriError>,
    latencies: Vec<(Subject, Duration)>,
}

#[derive(Default)]
struct ReadResult {
    sandboxes: Vec<SandboxStatus>,
    containers: Vec<ContainerStatus>,
    /// Statuses as lists show them.
    listed: Vec<Status>,
    absent: Vec<ObjectId>,
}

/// Whether the cache has everything that a read has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ReadCompleteness {
    #[default]
    Complete,
    /// Another read is needed for a decision, or an id that is gone is served until its death has been published.
    Partial,
}

/// What the calls about one id returned.
enum StatusAnswer {
    Container(ContainerStatus),
    Sandbox(SandboxStatus),
    /// A list shows it in the phase of the record, and no status was read.
    Listed(Status),
    /// A list of the id alone lacks it.
    Absent,
    /// A list shows it, and its status call fails. No error stands for NotFound.
    Unreadable(Status, Option<CriError>),
}

// === impl PodRead ===

impl PodRead {
    pub(super) async fn run(self, mut request: PendingRead) -> Finished {
        let began = self.clock.now();
        let completion = std::mem::take(&mut request.completion);
        let waiters = std::mem::take(&mut request.waiters);
        let (key, pod, cause) = (request.key.clone(), request.pod.clone(), request.cause);
        let whole = request.scope == Scope::Pod;
        let mut session = Session::new(self, request, began);
        let error = session.read().await;
        let Session { deps, request, completeness, latencies, .. } = session;
        let answer = error.as_ref().map_or(Ok(began), |error| Err(ReadError::Failed(error.clone())));
        if whole && answer.is_ok() && completeness == ReadCompleteness::Partial {
            // The served state may be older than this read.
            deps.reads.requeue_for_waiters(&key, pod, waiters);
        } else {
            if whole && answer.is_ok() {
                let pods = pod.map_or_else(|| deps.cache.identities_of(key.uid.as_str()), |pod| vec![pod]);
                pods.iter().for_each(|pod| deps.arbiter.mark_read(pod, began));
            }
            answer_all(waiters, &answer);
        }
        drop(completion);
        let failed = error.map(|error| (request, error));
        Finished { key, cause, took: deps.clock.now().since(began), latencies, failed }
    }

    fn is_held(&self, id: &ObjectId) -> bool {
        self.cache.pod_of(id.as_str()).is_some()
    }

    fn pod_of_sandbox(&self, sandbox: &SandboxStatus) -> PodIdentity {
        self.cache.pod_of(sandbox.id.as_str()).unwrap_or_else(|| sandbox.pod.clone())
    }

    fn apply(&self, observation: &Observation) -> ReadCompleteness {
        let reads = self.arbiter.apply(observation);
        let completeness = ReadCompleteness::after(&reads);
        self.reads.request_all(reads);
        completeness
    }
}

// === impl Session ===

impl Session {
    fn new(deps: PodRead, request: PendingRead, began: Mono) -> Self {
        Self {
            deps,
            request,
            began,
            found: ReadResult::default(),
            completeness: ReadCompleteness::default(),
            unread: BTreeSet::new(),
            last_error: None,
            latencies: Vec::new(),
        }
    }

    /// Reads and applies. On an error the request is what remains to be read.
    async fn read(&mut self) -> Option<Arc<CriError>> {
        let ids = match &self.request.scope {
            Scope::Ids(ids) => ids.clone(),
            Scope::Pod => match self.ids_of_pod().await {
                Ok(ids) => ids,
                Err(error) => {
                    self.completeness = ReadCompleteness::Partial;
                    return Some(Arc::new(error));
                }
            },
        };
        let mut todo = self.in_order(&ids).into_iter();
        for id in todo.by_ref() {
            if self.read_id(id, &ids).await.is_break() {
                break;
            }
        }
        self.unread.extend(todo);
        self.finish(&ids)
    }

    /// Reads one of the ids. If only the list of a container has shown its sandbox, the sandbox is read and recorded first.
    async fn read_id(&mut self, id: ObjectId, ids: &BTreeSet<ObjectId>) -> ControlFlow<()> {
        let answer = self.status(&id).await;
        let mut of_sandbox = ControlFlow::Continue(());
        if let Some(sandbox) = answer.as_ref().ok().and_then(StatusAnswer::sandbox_of_container)
            && !self.deps.is_held(&sandbox)
            && !ids.contains(&sandbox)
            && !self.has_sandbox(&sandbox)
        {
            self.request.sandboxes.insert(id.clone(), sandbox.clone());
            let answer = self.status(&sandbox).await;
            of_sandbox = self.record(sandbox, answer);
        }
        let of_id = self.record(id, answer);
        if of_id.is_break() { of_id } else { of_sandbox }
    }

    fn finish(&mut self, ids: &BTreeSet<ObjectId>) -> Option<Arc<CriError>> {
        // An id that an event has shown meanwhile is newer, or is gone: another read decides, which begins after it.
        if self.request.scope == Scope::Pod && self.held_ids().iter().any(|id| !ids.contains(id)) {
            self.completeness = ReadCompleteness::Partial;
        }
        self.apply_found();
        if let Some(pod) = self.request.pod.as_ref().filter(|pod| self.deps.arbiter.is_deferring(pod)) {
            let done = ids.difference(&self.unread).cloned().collect();
            self.deps.reads.request_all(self.deps.arbiter.apply_deferred(pod, &done));
        }
        let error = self.last_error.take()?;
        if self.request.scope != Scope::Pod {
            self.request.scope = Scope::Ids(std::mem::take(&mut self.unread));
        }
        Some(Arc::new(error))
    }

    /// All ids of a pod: those that the runtime lists for it, those of its records, and those that an earlier list showed.
    async fn ids_of_pod(&mut self) -> Result<BTreeSet<ObjectId>, CriError> {
        let held = self.held_ids();
        let list = self.deps.lister.list().await?;
        let listing = &list.listing;
        let request = &mut self.request;
        let is_of_pod = |pod: &PodIdentity| match &request.pod {
            Some(requested) => pod == requested,
            None => pod.uid == request.key.uid,
        };
        let uid = request.key.uid.as_str();
        let sandboxes = listing.sandboxes.iter().filter(|it| it.pod_uid == uid && is_of_pod(&it.pod()));
        let mut ids: BTreeSet<ObjectId> =
            sandboxes.map(|sandbox| ObjectId::from(sandbox.id.as_str())).collect();
        // A container may outlive its sandbox, which then is only recorded, or only the sandbox of a recorded container.
        let held_sandboxes = held.iter().filter_map(|id| Some(self.deps.arbiter.locate(id)?.1));
        let held_sandboxes: BTreeSet<ObjectId> =
            held_sandboxes.filter(|id| !id.as_str().is_empty()).collect();
        let is_of_ids = |container: &&ListedContainer| {
            let sandbox_id = container.sandbox_id.as_str();
            ids.contains(sandbox_id)
                || held_sandboxes.contains(sandbox_id)
                || held.contains(container.id.as_str())
        };
        let mut containers: Vec<_> = listing.containers.iter().filter(is_of_ids).collect();
        if request.pod.is_none() {
            // The labels of an orphan may name this pod.
            containers.extend(list.orphans(&self.deps.cache));
        }
        for container in containers {
            let id = ObjectId::from(container.id.as_str());
            request.sandboxes.insert(id.clone(), container.sandbox_id.as_str().into());
            ids.insert(id);
        }
        // An id that the list lacks is most likely gone, and a runtime logs an error for its status call.
        let absent = held.iter().filter(|id| !ids.contains(*id));
        if list.doubted {
            request.doubted.extend(absent.clone().cloned());
        }
        request.absent.extend(absent.cloned());
        ids.extend(held);
        for listed in &request.listed {
            ids.extend(listed.sandboxes.iter().map(|sandbox| sandbox.id.clone()));
            ids.extend(listed.containers.iter().map(|container| container.id.clone()));
        }
        Ok(ids)
    }

    /// Sandboxes first. Ids whose last read failed come last, unless they are sandboxes without a record.
    fn in_order(&self, ids: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        let mut ids: Vec<ObjectId> = ids.iter().cloned().collect();
        ids.sort_by_cached_key(|id| {
            let sandbox = matches!(self.locate(id), Some((Subject::Sandbox, _)));
            let last = self.request.read_last.contains(id) && (!sandbox || self.deps.is_held(id));
            (last, !sandbox)
        });
        ids
    }

    /// Calls for the status of an id, and measures the latency.
    async fn status(&mut self, id: &ObjectId) -> Result<StatusAnswer, CriError> {
        let call = Call {
            client: self.deps.client.clone(),
            id: id.clone(),
            location: self.locate(id),
            list_first: self.request.absent.contains(id),
            list_suffices: self.request.list_suffices.contains(id),
            held: self.deps.arbiter.served_phase(id),
            doubted: self.request.doubted.contains(id),
        };
        let called = self.deps.clock.now();
        let answer = self.answer_of(call.run().boxed()).await;
        let took = self.deps.clock.now().since(called);
        match &answer {
            Ok(StatusAnswer::Container(_)) => self.latencies.push((Subject::Container, took)),
            Ok(StatusAnswer::Sandbox(_)) => self.latencies.push((Subject::Sandbox, took)),
            Ok(StatusAnswer::Unreadable(_, Some(CriError::Deadline { .. })))
            | Err(CriError::Deadline { .. }) => {
                self.latencies.push((Subject::Container, took));
            }
            _ => {}
        }
        answer
    }

    /// Waits for an answer. If it takes longer, what was read so far is applied; and later, what lists showed.
    async fn answer_of(
        &mut self,
        mut call: BoxFuture<'static, Result<StatusAnswer, CriError>>,
    ) -> Result<StatusAnswer, CriError> {
        if let Ok(answer) = timeout(PARTIAL_APPLY_AFTER, &mut call).await {
            return answer;
        }
        self.apply_found();
        if let Ok(answer) = timeout(LISTED_APPLY_AFTER, &mut call).await {
            return answer;
        }
        // Deaths still wait: they are published with their exit code, if the runtime gives it.
        self.label_listed().await;
        self.apply_listed(|id, phase| {
            phase != Some(Phase::Exited) && !self.deps.arbiter.is_content_read_since(id, self.began)
        });
        call.await
    }

    /// Records the answer about one id. Breaks off if the calls about the next ids would fail in the same way.
    fn record(&mut self, id: ObjectId, answer: Result<StatusAnswer, CriError>) -> ControlFlow<()> {
        match answer {
            Ok(StatusAnswer::Container(status)) => {
                // It is read again with its sandbox.
                if self.unread.contains(&status.sandbox_id) && !self.deps.is_held(&status.sandbox_id) {
                    self.unread.insert(id);
                    return ControlFlow::Continue(());
                }
                self.set_readable(&id);
                self.found.containers.push(status);
            }
            Ok(StatusAnswer::Sandbox(status)) => {
                self.set_readable(&id);
                self.found.sandboxes.push(status);
            }
            Ok(StatusAnswer::Listed(status)) => self.found.listed.push(status),
            Ok(StatusAnswer::Absent) => {
                self.set_readable(&id);
                self.found.absent.push(id);
            }
            // It was removed, and a list shows it all the same: only its status can lift the tombstone.
            Ok(StatusAnswer::Unreadable(..)) if self.deps.arbiter.is_removed(&id) => {}
            Ok(StatusAnswer::Unreadable(status, error)) => {
                self.on_unreadable(status, error.as_ref());
                // One timeout per read is enough.
                let timed_out = matches!(error, Some(CriError::Deadline { .. }));
                let error = error.unwrap_or(CriError::ListedNotFound { id: id.to_string() });
                self.set_failed(id, error);
                if timed_out {
                    return ControlFlow::Break(());
                }
            }
            Err(error) => {
                // An unavailable runtime does not answer the next call either.
                let hopeless = error.runtime_is_away() || matches!(error, CriError::Deadline { .. });
                self.set_failed(id, error);
                if hopeless {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// An id was read, or is absent.
    fn set_readable(&mut self, id: &ObjectId) {
        self.request.attempts.remove(id);
        self.deps.unreadable.remove(id);
    }

    fn set_failed(&mut self, id: ObjectId, error: CriError) {
        self.unread.insert(id.clone());
        self.request.list_suffices.remove(&id);
        self.request.read_last.insert(id);
        self.last_error = Some(error);
    }

    /// A list shows an id, and its status call fails. After enough such reads the list's view is published.
    fn on_unreadable(&mut self, status: Status, error: Option<&CriError>) {
        let id = status.id().clone();
        let attempts = self.request.attempts.entry(id.clone()).or_default();
        *attempts += 1;
        let is_death = status.phase() == Some(Phase::Exited) && status.subject() == Subject::Container;
        if *attempts < if is_death { ATTEMPTS_OF_DEATH } else { ATTEMPTS } {
            self.completeness = ReadCompleteness::Partial;
            return;
        }
        self.apply_found();
        let pod = match &status {
            Status::Sandbox(sandbox) => Some(self.deps.pod_of_sandbox(sandbox)),
            Status::Container(container) => self.pod_of(&[], container),
        };
        let Some(pod) = pod else { return };
        self.deps.unreadable.add(&id, &pod, error);
        let listed = Observation { unreadable: true, ..self.observation(&pod) };
        self.deps.apply(&as_listed(listed, [status]));
    }

    /// Whether a sandbox was read in this session.
    fn has_sandbox(&self, id: &ObjectId) -> bool {
        self.unread.contains(id)
            || self.found.sandboxes.iter().any(|sandbox| sandbox.id == *id)
            || self.found.absent.contains(id)
    }

    /// The ids of the pod's records.
    fn held_ids(&self) -> BTreeSet<ObjectId> {
        let pods = match &self.request.pod {
            Some(pod) => vec![pod.clone()],
            None => self.deps.cache.identities_of(self.request.key.uid.as_str()),
        };
        pods.iter().flat_map(|pod| self.deps.arbiter.ids_of(pod)).collect()
    }

    /// Whether an id is a container or a sandbox, and its sandbox. The id of the sandbox is empty if it is not known.
    fn locate(&self, id: &ObjectId) -> Option<(Subject, ObjectId)> {
        let request = &self.request;
        if let Some(sandbox) = request.sandboxes.get(id) {
            return Some((Subject::Container, sandbox.clone()));
        }
        let is_in = |listed: &Observation| listed.sandboxes.iter().any(|sandbox| sandbox.id == *id);
        if request.listed.iter().any(is_in) || request.sandboxes.values().any(|sandbox| sandbox == id) {
            return Some((Subject::Sandbox, id.clone()));
        }
        self.deps.arbiter.locate(id)
    }

    fn observation(&self, pod: &PodIdentity) -> Observation {
        let (upper, observed_at) = self.deps.clock.now_both();
        let interval = Interval { lower: Some(self.began), upper };
        let initial = self.request.initial.iter().cloned().collect();
        let read = Observation::read(self.request.cause.source(), interval, observed_at, pod.clone());
        Observation { initial, ..read }
    }

    /// Applies what was read so far.
    fn apply_found(&mut self) {
        let mut found = std::mem::take(&mut self.found);
        self.reread_contradicted(&mut found);
        self.label_from_statuses(&found.sandboxes);
        if !found.absent.is_empty() {
            self.apply_new_sandboxes(&found.sandboxes);
        }
        // An id that a list showed and that is gone is published as listed, and then removed. So is a sandbox that was listed ready and
        // has ended: its status does not show that it was ready. A list that is ahead of the status is wrong.
        self.apply_listed(|id, phase| {
            let moved_on = |read: &SandboxStatus| read.id == *id && Some(read.state.phase()) > phase;
            found.absent.contains(id) || found.sandboxes.iter().any(moved_on)
        });
        for (pod, found) in self.by_pod(found) {
            for observation in self.observations(&pod, found) {
                self.completeness = self.completeness.and(self.deps.apply(&observation));
            }
            if self.deps.arbiter.awaits_deaths(&pod) {
                self.completeness = ReadCompleteness::Partial;
            }
        }
    }

    /// The observations that what was read of a pod amounts to. If events wait for the sandbox, the sandbox comes before all others.
    fn observations(&self, pod: &PodIdentity, found: ReadResult) -> Vec<Observation> {
        let ReadResult { sandboxes, containers, listed, absent } = found;
        let mut observations = Vec::new();
        let sandboxes: Vec<_> = sandboxes.into_iter().map(Arc::new).collect();
        if !sandboxes.is_empty() && self.deps.arbiter.is_deferring(pod) {
            observations.push(Observation { sandboxes: sandboxes.clone(), ..self.observation(pod) });
        }
        if !listed.is_empty() {
            observations.push(as_listed(self.observation(pod), listed));
        }
        let containers = containers.into_iter().map(Arc::new).collect();
        observations.push(Observation { sandboxes, containers, absent, ..self.observation(pod) });
        observations
    }

    /// An id that a list lacks and whose status this read has all the same, such as the sandbox of a container: another read decides.
    fn reread_contradicted(&mut self, found: &mut ReadResult) {
        let ReadResult { sandboxes, containers, absent, .. } = found;
        let has_status = |id: &ObjectId| {
            sandboxes.iter().any(|status| status.id == *id)
                || containers.iter().any(|status| status.id == *id)
        };
        let (contradicted, gone) = std::mem::take(absent).into_iter().partition::<Vec<_>, _>(has_status);
        *absent = gone;
        if let Some(pod) = contradicted.iter().find_map(|id| self.deps.cache.pod_of(id.as_str())) {
            let scope = Scope::Ids(contradicted.into_iter().collect());
            let read = ReadRequest { scope, cause: ReadCause::Deletion, after: REREAD_AFTER };
            self.deps.reads.request_all([PodReadRequest { pod, read }]);
            self.completeness = ReadCompleteness::Partial;
        }
    }

    /// Lists show no labels. The listed sandboxes get those of their statuses.
    fn label_from_statuses(&mut self, sandboxes: &[SandboxStatus]) {
        for listed in self.request.listed.iter_mut().flat_map(|listed| &mut listed.sandboxes) {
            if let Some(read) = sandboxes.iter().find(|read| read.id == listed.id) {
                let listed = Arc::make_mut(listed);
                (listed.labels, listed.annotations) = (read.labels.clone(), read.annotations.clone());
                listed.runtime_handler.clone_from(&read.runtime_handler);
            }
        }
    }

    /// Labels listed ids whose status cannot be read, each from a list of the id alone: published without labels, they would be published
    /// as changed when a list shows the labels.
    async fn label_listed(&mut self) {
        for container in self.request.listed.iter_mut().flat_map(|listed| &mut listed.containers) {
            if !self.deps.is_held(&container.id)
                && container.labels.is_empty()
                && let Ok(Some(listed)) = self.deps.client.listed_container(&container.id).await
            {
                let container = Arc::make_mut(container);
                (container.labels, container.annotations) = (listed.labels, listed.annotations);
                (container.image, container.image_ref) = (listed.image, listed.image_ref);
            }
        }
        for sandbox in self.request.listed.iter_mut().flat_map(|listed| &mut listed.sandboxes) {
            if !self.deps.is_held(&sandbox.id)
                && sandbox.labels.is_empty()
                && let Ok(Some(listed)) = self.deps.client.listed_sandbox(&sandbox.id).await
            {
                let sandbox = Arc::make_mut(sandbox);
                (sandbox.labels, sandbox.annotations) = (listed.labels, listed.annotations);
                sandbox.runtime_handler = listed.runtime_handler;
            }
        }
    }

    /// Applies sandboxes without a record before absent ids are published as listed, so that their events have labels. Not those that a
    /// list showed ready and that have ended: they are published as listed too, with labels.
    fn apply_new_sandboxes(&self, sandboxes: &[SandboxStatus]) {
        let listed_ready = |id: &ObjectId| {
            let listed = self.request.listed.iter().flat_map(|listed| &listed.sandboxes);
            listed.filter(|listed| listed.id == *id).any(|listed| listed.state.phase() != Phase::Exited)
        };
        for sandbox in sandboxes.iter().filter(|sandbox| !self.deps.is_held(&sandbox.id)) {
            if sandbox.state.phase() != Phase::Exited || !listed_ready(&sandbox.id) {
                let pod = self.deps.pod_of_sandbox(sandbox);
                let sandboxes = vec![Arc::new(sandbox.clone())];
                self.deps.apply(&Observation { sandboxes, ..self.observation(&pod) });
            }
        }
    }

    /// Applies what lists showed of the ids that `select` selects by id and phase.
    fn apply_listed(&self, select: impl Fn(&ObjectId, Option<Phase>) -> bool) {
        for listed in &self.request.listed {
            let mut listed = listed.clone();
            listed.sandboxes.retain(|it| select(&it.id, Some(it.state.phase())));
            listed.containers.retain(|it| select(&it.id, it.state.phase()));
            if !listed.sandboxes.is_empty() || !listed.containers.is_empty() {
                self.deps.apply(&listed);
            }
        }
    }

    /// What was read, by pod. Containers of no known pod are ignored.
    fn by_pod(&self, found: ReadResult) -> BTreeMap<PodIdentity, ReadResult> {
        let mut pods: BTreeMap<PodIdentity, ReadResult> = BTreeMap::new();
        let mut ignored = Vec::new();
        for container in found.containers {
            match self.pod_of(&found.sandboxes, &container) {
                Some(pod) => pods.entry(pod).or_default().containers.push(container),
                None => ignored.push(container.id),
            }
        }
        for status in found.listed {
            let pod = match &status {
                Status::Sandbox(sandbox) => Some(self.deps.pod_of_sandbox(sandbox)),
                Status::Container(container) => self.pod_of(&found.sandboxes, container),
            };
            match pod {
                Some(pod) => pods.entry(pod).or_default().listed.push(status),
                None => ignored.push(status.id().clone()),
            }
        }
        for sandbox in found.sandboxes {
            pods.entry(self.deps.pod_of_sandbox(&sandbox)).or_default().sandboxes.push(sandbox);
        }
        for id in found.absent {
            // An absent id without a record changes nothing, unless an event reported it as deleted.
            if let Some(pod) = self.deps.cache.pod_of(id.as_str()).or_else(|| self.request.pod.clone()) {
                pods.entry(pod).or_default().absent.push(id);
            }
        }
        if !ignored.is_empty() {
            tracing::debug!(?ignored, "Ignored containers that belong to no pod of the runtime.");
        }
        pods
    }

    /// The pod of a container: by the cache, its sandbox, the request, or its labels, in this order.
    fn pod_of(&self, sandboxes: &[SandboxStatus], container: &ContainerStatus) -> Option<PodIdentity> {
        let sandbox = || sandboxes.iter().find(|sandbox| sandbox.id == container.sandbox_id);
        (self.deps.cache.pod_of(container.id.as_str()))
            .or_else(|| self.deps.cache.pod_of(container.sandbox_id.as_str()))
            .or_else(|| sandbox().map(|sandbox| sandbox.pod.clone()))
            .or_else(|| self.request.pod.clone())
            .or_else(|| pod_of_container(container))
    }
}

/// The calls about one id.
struct Call {
    client: Client,
    id: ObjectId,
    /// Whether it is a container or a sandbox, and its sandbox, if that is known.
    location: Option<(Subject, ObjectId)>,
    /// It is most likely gone. It is listed first, since a runtime logs an error for a status call that finds nothing.
    list_first: bool,
    /// A list that shows it in the phase of the record suffices.
    list_suffices: bool,
    /// Its served phase.
    held: Option<Phase>,
    /// A full list lacked so many ids that only a status call can prove that this one is gone.
    doubted: bool,
}

// === impl Call ===

impl Call {
    async fn run(self) -> Result<StatusAnswer, CriError> {
        match &self.location {
            Some((Subject::Sandbox, _)) => self.read_sandbox().await,
            Some((Subject::Container, sandbox_id)) if !sandbox_id.as_str().is_empty() => {
                self.read_container(&sandbox_id.clone()).await
            }
            // A list shows whether it is a container, and in which sandbox.
            _ => match self.client.listed_container(&self.id).await? {
                Some(listed) => self.read_container(&listed.sandbox_id).await,
                None if matches!(self.location, Some((Subject::Container, _))) => Ok(StatusAnswer::Absent),
                None => Self { list_first: true, held: None, ..self }.read_sandbox().await,
            },
        }
    }

    async fn read_container(&self, sandbox_id: &ObjectId) -> Result<StatusAnswer, CriError> {
        if self.list_first && !self.doubted {
            match self.listed_container(sandbox_id).await? {
                None => return Ok(StatusAnswer::Absent),
                Some(listed) if self.is_as_held(&listed) => return Ok(StatusAnswer::Listed(listed)),
                Some(_) => {}
            }
        }
        let error = match self.client.container_status(&self.id, sandbox_id).await {
            Ok(Some(status)) => return Ok(StatusAnswer::Container(status)),
            Ok(None) if self.doubted => return Ok(StatusAnswer::Absent),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        Ok(self.disagreement(self.listed_container(sandbox_id).await?, error))
    }

    async fn read_sandbox(&self) -> Result<StatusAnswer, CriError> {
        if self.list_first && !self.doubted {
            match self.listed_sandbox().await? {
                None => return Ok(StatusAnswer::Absent),
                Some(listed) if self.is_as_held(&listed) => return Ok(StatusAnswer::Listed(listed)),
                Some(_) => {}
            }
        }
        let error = match self.client.sandbox_status(&self.id).await {
            Ok(Some(status)) => return Ok(StatusAnswer::Sandbox(status)),
            Ok(None) if self.doubted => return Ok(StatusAnswer::Absent),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        Ok(self.disagreement(self.listed_sandbox().await?, error))
    }

    /// Whether the list's view suffices.
    fn is_as_held(&self, listed: &Status) -> bool {
        self.list_suffices && self.held.is_some() && listed.phase() == self.held
    }

    async fn listed_sandbox(&self) -> Result<Option<Status>, CriError> {
        Ok(self.client.listed_sandbox(&self.id).await?.map(|it| Status::Sandbox(Arc::new(it))))
    }

    async fn listed_container(&self, sandbox_id: &ObjectId) -> Result<Option<Status>, CriError> {
        let listed = self.client.listed_container(&self.id).await?;
        Ok(listed.map(|mut listed| {
            if listed.sandbox_id.as_str().is_empty() {
                listed.sandbox_id = sandbox_id.clone();
            }
            Status::Container(Arc::new(listed))
        }))
    }

    fn disagreement(&self, listed: Option<Status>, error: Option<CriError>) -> StatusAnswer {
        match listed {
            Some(listed) => StatusAnswer::Unreadable(listed, error),
            None => StatusAnswer::Absent,
        }
    }
}

// === impl StatusAnswer ===

impl StatusAnswer {
    /// The sandbox of a container.
    fn sandbox_of_container(&self) -> Option<ObjectId> {
        let sandbox_id = match self {
            Self::Container(container) => &container.sandbox_id,
            Self::Listed(Status::Container(container))
            | Self::Unreadable(Status::Container(container), _) => &container.sandbox_id,
            _ => return None,
        };
        Some(sandbox_id.clone()).filter(|id| !id.as_str().is_empty())
    }
}

// === impl ReadCompleteness ===

impl ReadCompleteness {
    fn after(reads: &[PodReadRequest]) -> Self {
        if reads.iter().any(|it| it.read.after.is_zero()) { Self::Partial } else { Self::Complete }
    }

    fn and(self, other: Self) -> Self {
        if self == Self::Partial { self } else { other }
    }
}

/// An observation of what lists show.
fn as_listed(read: Observation, listed: impl IntoIterator<Item = Status>) -> Observation {
    let mut observation = Observation { origin: Origin::List, detail: Detail::Minimal, ..read };
    for status in listed {
        match status {
            Status::Sandbox(sandbox) => observation.sandboxes.push(sandbox),
            Status::Container(container) => observation.containers.push(container),
        }
    }
    observation
}

fn answer_all(waiters: Vec<oneshot::Sender<Result<Mono, ReadError>>>, answer: &Result<Mono, ReadError>) {
    for waiter in waiters {
        let _ = waiter.send(answer.clone());
    }
}
