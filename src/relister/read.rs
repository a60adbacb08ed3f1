//! One read of a pod: which ids, in which order, what each call says, and what is reported of it.
//!
//! Sandboxes are read before containers, so that nothing of a container is published before the labels of its pod are known. A status
//! that is not given, for whatever reason, is no absence: the id is listed alone then. Where the list lacks it, it is absent; where the
//! list shows it, runtime and status disagree, and after [`ATTEMPTS`] of such reads in a row the list's view is reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Lister, UnreadableIds,
    agenda::Request,
    reads::{ReadError, Reads},
};
use crate::{
    arbiter::{Arbiter, PodReadRequest, Scope},
    cache::Cache,
    clock::{Clock, Mono},
    cri::{Client, CriError, pod_of_container},
    model::{
        ContainerStatus, Detail, Interval, ObjectId, Observation, Origin, Phase, PodIdentity, ReadCause,
        SandboxStatus, Status, Subject,
    },
};

/// How long a status may take before what has been read of the pod so far is settled without it: a list that finds a
/// container gone meanwhile would have its death published without the exit code that is there already.
const SOON: Duration = Duration::from_millis(50);
/// How much longer it may take before what a list showed is published as it was listed.
const AS_LISTED_AFTER: Duration = Duration::from_millis(450);
/// After how many reads in a row that fail while a list shows the id, the list's view is published.
const ATTEMPTS: u32 = 3;
/// The same, where the list shows a death: its exit code is worth two more reads.
const ATTEMPTS_OF_DEATH: u32 = 5;

/// Reads one pod.
pub(super) struct PodRead {
    pub(super) client: Client,
    pub(super) lister: Lister,
    pub(super) cache: Cache,
    pub(super) arbiter: Arc<Arbiter>,
    pub(super) clock: Clock,
    pub(super) reads: Reads,
    pub(super) unreadable: UnreadableIds,
    /// How long the runtime took for each status.
    pub(super) answers: Vec<(Subject, Duration)>,
}

/// What came of a read.
pub(super) struct Finished {
    pub(super) key: PodIdentity,
    pub(super) cause: ReadCause,
    pub(super) took: Duration,
    /// How long the runtime took for each status.
    pub(super) answers: Vec<(Subject, Duration)>,
    /// What is still to be read, and why.
    pub(super) failed: Option<(Request, Arc<CriError>)>,
}

/// What became of one id.
enum Look {
    Container(ContainerStatus),
    Sandbox(SandboxStatus),
    /// A list shows it as it is held, and no status was read.
    Listed(Status),
    /// A list of it alone lacks it.
    Absent,
    /// A list shows it and its status is not given; no error stands for NotFound.
    Unreadable(Status, Option<CriError>),
}

/// What a read has found so far.
#[derive(Default)]
struct Found {
    sandboxes: Vec<SandboxStatus>,
    containers: Vec<ContainerStatus>,
    /// As lists show them.
    listed: Vec<Status>,
    absent: Vec<ObjectId>,
}

/// How far a read has come.
#[derive(Default)]
struct Progress {
    /// What is still to be settled.
    found: Found,
    settled: Settled,
    /// What could not be read.
    unread: BTreeSet<ObjectId>,
    last_error: Option<CriError>,
}

/// Whether the cache has all that a read has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Settled {
    #[default]
    All,
    /// Another read must decide on something, or what is gone is still served until its death has been published.
    Partly,
}

// === impl PodRead ===

impl PodRead {
    pub(super) async fn read(mut self, mut request: Request) -> Finished {
        let began = self.clock.now();
        let done = std::mem::take(&mut request.done);
        let waiters = std::mem::take(&mut request.waiters);
        let (key, pod, cause) = (request.key.clone(), request.pod.clone(), request.cause);
        let whole = request.scope == Scope::Pod;
        let (settled, failed) = self.read_ids(request, began).await;
        let answer = failed.as_ref().map_or(Ok(began), |(_, error)| Err(ReadError::Failed(error.clone())));
        if whole && answer.is_ok() && settled == Settled::Partly {
            // What readers would get may be older than this read.
            self.reads.requeue_for_waiters(&key, pod, waiters);
        } else {
            if whole && answer.is_ok() {
                let pods = pod.map_or_else(|| self.cache.identities_of(key.uid.as_str()), |pod| vec![pod]);
                pods.iter().for_each(|pod| self.arbiter.mark_read(pod, began));
            }
            answer_all(waiters, &answer);
        }
        drop(done);
        Finished { key, cause, took: self.clock.now().since(began), answers: self.answers, failed }
    }

    /// Reads and settles; what could not be read comes back.
    async fn read_ids(
        &mut self,
        mut request: Request,
        began: Mono,
    ) -> (Settled, Option<(Request, Arc<CriError>)>) {
        let ids = match &request.scope {
            Scope::Ids(ids) => ids.clone(),
            Scope::Pod => match self.whole(&mut request).await {
                Ok(ids) => ids,
                Err(error) => return (Settled::Partly, Some((request, Arc::new(error)))),
            },
        };
        let mut progress = Progress::default();
        let mut todo = self.in_order(&request, &ids).into_iter();
        for id in todo.by_ref() {
            let looked = self.look_in_time(&mut request, &id, &mut progress, began).await;
            let mut ends = false;
            // Nothing of a container before its sandbox, if that was found only by the list of the container.
            if let Some(sandbox) = looked.as_ref().ok().and_then(Look::sandbox_of_container)
                && !self.is_held(&sandbox)
                && !ids.contains(&sandbox)
                && !progress.has_sandbox(&sandbox)
            {
                request.sandboxes.insert(id.clone(), sandbox.clone());
                let of_sandbox = self.look_in_time(&mut request, &sandbox, &mut progress, began).await;
                ends = self.take_in(&mut request, sandbox, of_sandbox, &mut progress, began).is_break();
            }
            if self.take_in(&mut request, id, looked, &mut progress, began).is_break() || ends {
                break;
            }
        }
        let Progress { found, mut settled, mut unread, last_error } = progress;
        unread.extend(todo);
        if request.scope == Scope::Pod {
            // What an event has shown meanwhile came later, or is gone: another read decides, which begins now.
            let meanwhile = self.held(&request).iter().any(|id| !ids.contains(id));
            settled = settled.and(if meanwhile { Settled::Partly } else { Settled::All });
        }
        settled = settled.and(self.settle(&mut request, found, began));
        self.settle_deferred(&mut request, last_error.is_none());
        let Some(error) = last_error else { return (settled, None) };
        if request.scope != Scope::Pod {
            request.scope = Scope::Ids(unread);
        }
        (settled, Some((request, Arc::new(error))))
    }

    /// Takes in what became of one id; breaks off where the next one would fail in the same way.
    fn take_in(
        &mut self,
        request: &mut Request,
        id: ObjectId,
        looked: Result<Look, CriError>,
        progress: &mut Progress,
        began: Mono,
    ) -> ControlFlow<()> {
        match looked {
            Ok(Look::Container(status)) => {
                // It is read again with its sandbox.
                if progress.unread.contains(&status.sandbox_id) && !self.is_held(&status.sandbox_id) {
                    progress.unread.insert(id);
                    return ControlFlow::Continue(());
                }
                self.is_read(request, &id);
                progress.found.containers.push(status);
            }
            Ok(Look::Sandbox(status)) => {
                self.is_read(request, &id);
                progress.found.sandboxes.push(status);
            }
            Ok(Look::Listed(status)) => progress.found.listed.push(status),
            Ok(Look::Absent) => {
                self.is_read(request, &id);
                progress.found.absent.push(id);
            }
            // It was removed, and is listed all the same: nothing brings it back but its status.
            Ok(Look::Unreadable(..)) if self.arbiter.is_removed(&id) => {}
            Ok(Look::Unreadable(status, error)) => {
                let settled = self.not_read(request, status, error.as_ref(), &mut progress.found, began);
                progress.settled = progress.settled.and(settled);
                // A hang need not be hung through again.
                let hung = matches!(error, Some(CriError::Deadline { .. }));
                let error = error.unwrap_or(CriError::ListedNotFound { id: id.to_string() });
                progress.fails(request, id, error);
                if hung {
                    return ControlFlow::Break(());
                }
            }
            Err(error) => {
                // A runtime that is away will not answer the next one either.
                let hopeless = error.runtime_is_away() || matches!(error, CriError::Deadline { .. });
                progress.fails(request, id, error);
                if hopeless {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Sandboxes first. What could not be read the last time comes last, but for a sandbox that is not held yet.
    fn in_order(&self, request: &Request, ids: &BTreeSet<ObjectId>) -> Vec<ObjectId> {
        let mut ids: Vec<ObjectId> = ids.iter().cloned().collect();
        ids.sort_by_cached_key(|id| {
            let sandbox = matches!(self.locate(request, id), Some((Subject::Sandbox, _)));
            let suspect = request.suspects.contains(id) && (!sandbox || self.is_held(id));
            (suspect, !sandbox)
        });
        ids
    }

    /// Looks at an id; what has been found before does not wait for it, nor what a list showed.
    async fn look_in_time(
        &mut self,
        request: &mut Request,
        id: &ObjectId,
        progress: &mut Progress,
        began: Mono,
    ) -> Result<Look, CriError> {
        let (client, place) = (self.client.clone(), self.locate(request, id));
        let call = Call {
            client,
            id: id.clone(),
            place,
            list_first: request.absent.contains(id),
            listed_suffices: request.listed_suffices.contains(id),
            held: self.arbiter.served_phase(id),
            doubted: request.doubted.contains(id),
        };
        let asked = self.clock.now();
        let mut looking = Box::pin(call.look());
        let mut looked = tokio::time::timeout(SOON, &mut looking).await;
        if looked.is_err() {
            let settled = self.settle(request, std::mem::take(&mut progress.found), began);
            progress.settled = progress.settled.and(settled);
            looked = tokio::time::timeout(AS_LISTED_AFTER, &mut looking).await;
        }
        let looked = match looked {
            Ok(looked) => looked,
            Err(_) => {
                // What a list showed of the rest does not wait for what may hang; but a death is to be published with its exit
                // code, if that can be had at all.
                self.label_listed(request).await;
                self.settle_as_listed(request, |read, phase| {
                    phase != Some(Phase::Exited) && !self.arbiter.is_content_read_since(read, began)
                });
                looking.await
            }
        };
        let took = self.clock.now().since(asked);
        match &looked {
            Ok(Look::Container(_)) => self.answers.push((Subject::Container, took)),
            Ok(Look::Sandbox(_)) => self.answers.push((Subject::Sandbox, took)),
            Ok(Look::Unreadable(_, Some(CriError::Deadline { .. }))) | Err(CriError::Deadline { .. }) => {
                self.answers.push((Subject::Container, took));
            }
            _ => {}
        }
        looked
    }

    /// All ids of a pod: what the runtime lists for it, what is held of it, and what a list before showed of it.
    async fn whole(&self, request: &mut Request) -> Result<BTreeSet<ObjectId>, CriError> {
        let held = self.held(request);
        let listing = self.lister.list().await?;
        let of_pod = |pod: &PodIdentity| match &request.pod {
            Some(wanted) => pod == wanted,
            None => pod.uid == request.key.uid,
        };
        let mut ids = BTreeSet::new();
        for sandbox in listing.sandboxes.iter().filter(|sandbox| sandbox.pod_uid == request.key.uid.as_str())
        {
            if of_pod(&sandbox.pod()) {
                ids.insert(ObjectId::from(sandbox.id.as_str()));
            }
        }
        for container in &listing.containers {
            let id = container.id.as_str();
            if ids.contains(container.sandbox_id.as_str()) || held.contains(id) {
                request.sandboxes.insert(id.into(), container.sandbox_id.as_str().into());
                ids.insert(id.into());
            }
        }
        // What the list lacks is most likely gone, for which a runtime logs an error where its status is read.
        request.absent.extend(held.iter().filter(|id| !ids.contains(*id)).cloned());
        ids.extend(held);
        for seen in &request.seen {
            ids.extend(seen.sandboxes.iter().map(|sandbox| sandbox.id.clone()));
            ids.extend(seen.containers.iter().map(|container| container.id.clone()));
        }
        Ok(ids)
    }

    /// The ids that are held of the pod.
    fn held(&self, request: &Request) -> BTreeSet<ObjectId> {
        let pods = match &request.pod {
            Some(pod) => vec![pod.clone()],
            None => self.cache.identities_of(request.key.uid.as_str()),
        };
        pods.iter().flat_map(|pod| self.arbiter.ids_of(pod)).collect()
    }

    fn is_held(&self, id: &ObjectId) -> bool {
        self.cache.pod_of(id.as_str()).is_some()
    }

    /// What an id is, and in which sandbox; empty if that is not known.
    fn locate(&self, request: &Request, id: &ObjectId) -> Option<(Subject, ObjectId)> {
        if let Some(sandbox) = request.sandboxes.get(id) {
            return Some((Subject::Container, sandbox.clone()));
        }
        let listed = request.seen.iter().any(|seen| seen.sandboxes.iter().any(|sandbox| sandbox.id == *id));
        if listed || request.sandboxes.values().any(|sandbox| sandbox == id) {
            return Some((Subject::Sandbox, id.clone()));
        }
        self.arbiter.locate(id)
    }

    /// An id was read, or is absent.
    fn is_read(&self, request: &mut Request, id: &ObjectId) {
        request.attempts.remove(id);
        self.unreadable.remove(id);
    }

    /// A list shows an id, and its status is not given: after enough of such reads the list's view is reported.
    fn not_read(
        &self,
        request: &mut Request,
        status: Status,
        error: Option<&CriError>,
        found: &mut Found,
        began: Mono,
    ) -> Settled {
        let id = status.id().clone();
        let attempts = request.attempts.entry(id.clone()).or_default();
        *attempts += 1;
        let ends = status.phase() == Some(Phase::Exited) && status.subject() == Subject::Container;
        if *attempts < if ends { ATTEMPTS_OF_DEATH } else { ATTEMPTS } {
            return Settled::Partly;
        }
        let settled = self.settle(request, std::mem::take(found), began);
        let pod = match &status {
            Status::Sandbox(sandbox) => Some(self.pod_of_sandbox(sandbox)),
            Status::Container(container) => self.pod_of(request, &[], container),
        };
        let Some(pod) = pod else { return settled };
        self.unreadable.add(&id, &pod, error);
        let listed = Observation { unreadable: true, ..self.observation(request, &pod, began) };
        self.reads.request_all(self.arbiter.apply(&as_listed(listed, [status])));
        settled
    }

    fn observation(&self, request: &Request, pod: &PodIdentity, began: Mono) -> Observation {
        let (upper, observed_at) = self.clock.now_both();
        let interval = Interval { lower: Some(began), upper };
        let initial = request.initial.iter().cloned().collect();
        let read = Observation::read(request.cause.source(), interval, observed_at, pod.clone());
        Observation { initial, ..read }
    }

    fn settle(&self, request: &mut Request, found: Found, began: Mono) -> Settled {
        // A list shows no labels; a status that was read since does.
        for listed in request.seen.iter_mut().flat_map(|seen| &mut seen.sandboxes) {
            if let Some(read) = found.sandboxes.iter().find(|read| read.id == listed.id) {
                let listed = Arc::make_mut(listed);
                (listed.labels, listed.annotations) = (read.labels.clone(), read.annotations.clone());
                listed.runtime_handler.clone_from(&read.runtime_handler);
            }
        }
        if !found.absent.is_empty() {
            self.settle_new_sandboxes(request, &found.sandboxes, began);
        }
        // What a list showed and is gone already: published as the list saw it, then removed. And a sandbox that was ready: its
        // status does not show that any more. A list that is ahead of the status is wrong.
        self.settle_as_listed(request, |id, phase| {
            let moved_on = |read: &SandboxStatus| read.id == *id && Some(read.state.phase()) > phase;
            found.absent.contains(id) || found.sandboxes.iter().any(moved_on)
        });
        let mut settled = Settled::All;
        for (pod, found) in self.by_pod(request, found) {
            let read = || self.observation(request, &pod, began);
            let Found { sandboxes, containers, listed, absent } = found;
            let mut observations = Vec::new();
            let sandboxes: Vec<_> = sandboxes.into_iter().map(Arc::new).collect();
            if !request.deferred.is_empty() && !sandboxes.is_empty() {
                observations.push(Observation { sandboxes: sandboxes.clone(), ..read() });
            }
            if !listed.is_empty() {
                observations.push(as_listed(read(), listed));
            }
            let containers = containers.into_iter().map(Arc::new).collect();
            observations.push(Observation { sandboxes, containers, absent, ..read() });
            for (n, observation) in observations.iter().enumerate() {
                let reads = self.arbiter.apply(observation);
                settled = settled.and(Settled::after(&reads));
                self.reads.request_all(reads);
                if n == 0 {
                    self.settle_deferred(request, false);
                }
            }
            if self.arbiter.awaits_deaths(&pod) {
                settled = Settled::Partly;
            }
        }
        settled
    }

    /// Settles sandboxes of which nothing is held yet before what is gone is published as it was listed: its event has their labels
    /// then. One that a list showed ready and that has ended is published as it was listed, too, and with its labels.
    fn settle_new_sandboxes(&self, request: &Request, sandboxes: &[SandboxStatus], began: Mono) {
        let listed_ready = |id: &ObjectId| {
            let listed = request.seen.iter().flat_map(|seen| &seen.sandboxes);
            listed.filter(|listed| listed.id == *id).any(|listed| listed.state.phase() != Phase::Exited)
        };
        for sandbox in sandboxes.iter().filter(|sandbox| !self.is_held(&sandbox.id)) {
            if sandbox.state.phase() != Phase::Exited || !listed_ready(&sandbox.id) {
                let pod = self.pod_of_sandbox(sandbox);
                let sandboxes = vec![Arc::new(sandbox.clone())];
                let read = Observation { sandboxes, ..self.observation(request, &pod, began) };
                self.reads.request_all(self.arbiter.apply(&read));
            }
        }
    }

    /// Settles events that waited for a sandbox: those whose sandbox is held now; at the end, and if nothing is to be read again, all.
    fn settle_deferred(&self, request: &mut Request, all: bool) {
        let waiting = std::mem::take(&mut request.deferred);
        for event in waiting {
            let known = self.arbiter.is_sandbox_known(&event.pod);
            if known || all {
                let event = Observation { unreadable: !known, ..event };
                self.reads.request_all(self.arbiter.apply(&event));
            } else {
                request.deferred.push(event);
            }
        }
    }

    /// What was found, by pod; what belongs to no pod that is known is left out.
    fn by_pod(&self, request: &Request, found: Found) -> BTreeMap<PodIdentity, Found> {
        let mut pods: BTreeMap<PodIdentity, Found> = BTreeMap::new();
        let mut left_out = Vec::new();
        for container in found.containers {
            match self.pod_of(request, &found.sandboxes, &container) {
                Some(pod) => pods.entry(pod).or_default().containers.push(container),
                None => left_out.push(container.id),
            }
        }
        for status in found.listed {
            let pod = match &status {
                Status::Sandbox(sandbox) => Some(self.pod_of_sandbox(sandbox)),
                Status::Container(container) => self.pod_of(request, &found.sandboxes, container),
            };
            match pod {
                Some(pod) => pods.entry(pod).or_default().listed.push(status),
                None => left_out.push(status.id().clone()),
            }
        }
        for sandbox in found.sandboxes {
            pods.entry(self.pod_of_sandbox(&sandbox)).or_default().sandboxes.push(sandbox);
        }
        for id in found.absent {
            // An absent id that is not held changes nothing, unless it was said to be deleted.
            if let Some(pod) = self.cache.pod_of(id.as_str()).or_else(|| request.pod.clone()) {
                pods.entry(pod).or_default().absent.push(id);
            }
        }
        if !left_out.is_empty() {
            tracing::debug!(
                ?left_out,
                "Containers belong to no pod that the runtime knows; they are left out."
            );
        }
        pods
    }

    fn pod_of_sandbox(&self, sandbox: &SandboxStatus) -> PodIdentity {
        self.cache.pod_of(sandbox.id.as_str()).unwrap_or_else(|| sandbox.pod.clone())
    }

    /// The pod of a container: as held, as its sandbox says, as the request says, or as its labels say.
    fn pod_of(
        &self,
        request: &Request,
        sandboxes: &[SandboxStatus],
        container: &ContainerStatus,
    ) -> Option<PodIdentity> {
        let sandbox = || sandboxes.iter().find(|sandbox| sandbox.id == container.sandbox_id);
        (self.cache.pod_of(container.id.as_str()))
            .or_else(|| self.cache.pod_of(container.sandbox_id.as_str()))
            .or_else(|| sandbox().map(|sandbox| sandbox.pod.clone()))
            .or_else(|| request.pod.clone())
            .or_else(|| pod_of_container(container))
    }

    /// Gives the labels of sandboxes that lists showed and that cannot be read, as a list of the id alone shows them.
    async fn label_listed(&self, request: &mut Request) {
        for sandbox in request.seen.iter_mut().flat_map(|seen| &mut seen.sandboxes) {
            if !self.is_held(&sandbox.id)
                && sandbox.labels.is_empty()
                && let Ok(Some(listed)) = self.client.listed_sandbox(&sandbox.id).await
            {
                let sandbox = Arc::make_mut(sandbox);
                (sandbox.labels, sandbox.annotations) = (listed.labels, listed.annotations);
                sandbox.runtime_handler = listed.runtime_handler;
            }
        }
    }

    /// Settles what lists showed of ids that cannot be read.
    fn settle_as_listed(&self, request: &Request, of_these: impl Fn(&ObjectId, Option<Phase>) -> bool) {
        for seen in &request.seen {
            let mut listed = seen.clone();
            listed.sandboxes.retain(|it| of_these(&it.id, Some(it.state.phase())));
            listed.containers.retain(|it| of_these(&it.id, it.state.phase()));
            if !listed.sandboxes.is_empty() || !listed.containers.is_empty() {
                self.reads.request_all(self.arbiter.apply(&listed));
            }
        }
    }
}

/// The calls about one id.
struct Call {
    client: Client,
    id: ObjectId,
    /// What it is, and in which sandbox, if that is known.
    place: Option<(Subject, ObjectId)>,
    /// It is most likely gone: a list is asked first, since a status that is not found is an error in the runtime's log.
    list_first: bool,
    /// Nothing is wanted but whether it is there.
    listed_suffices: bool,
    /// Its phase as it is served.
    held: Option<Phase>,
    /// A full list lacked so much that only its status can show that it is gone.
    doubted: bool,
}

// === impl Call ===

impl Call {
    async fn look(self) -> Result<Look, CriError> {
        match &self.place {
            Some((Subject::Sandbox, _)) => self.look_at_sandbox().await,
            Some((Subject::Container, sandbox_id)) if !sandbox_id.as_str().is_empty() => {
                self.look_at_container(&sandbox_id.clone()).await
            }
            // Whatever it is, a list says so, and in which sandbox a container is.
            _ => match self.client.listed_container(&self.id).await? {
                Some(listed) => self.look_at_container(&listed.sandbox_id).await,
                None if matches!(self.place, Some((Subject::Container, _))) => Ok(Look::Absent),
                None => Self { list_first: true, held: None, ..self }.look_at_sandbox().await,
            },
        }
    }

    async fn look_at_container(&self, sandbox_id: &ObjectId) -> Result<Look, CriError> {
        if self.list_first && !self.doubted {
            match self.listed_container(sandbox_id).await? {
                None => return Ok(Look::Absent),
                Some(listed) if self.is_as_held(&listed) => return Ok(Look::Listed(listed)),
                Some(_) => {}
            }
        }
        let error = match self.client.container_status(&self.id, sandbox_id).await {
            Ok(Some(status)) => return Ok(Look::Container(status)),
            Ok(None) if self.doubted => return Ok(Look::Absent),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        Ok(self.disagreement(self.listed_container(sandbox_id).await?, error))
    }

    async fn look_at_sandbox(&self) -> Result<Look, CriError> {
        if self.list_first && !self.doubted {
            match self.listed_sandbox().await? {
                None => return Ok(Look::Absent),
                Some(listed) if self.is_as_held(&listed) => return Ok(Look::Listed(listed)),
                Some(_) => {}
            }
        }
        let error = match self.client.sandbox_status(&self.id).await {
            Ok(Some(status)) => return Ok(Look::Sandbox(status)),
            Ok(None) if self.doubted => return Ok(Look::Absent),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        Ok(self.disagreement(self.listed_sandbox().await?, error))
    }

    /// Whether a list says all that is wanted.
    fn is_as_held(&self, listed: &Status) -> bool {
        self.listed_suffices && self.held.is_some() && listed.phase() == self.held
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

    fn disagreement(&self, listed: Option<Status>, error: Option<CriError>) -> Look {
        match listed {
            Some(listed) => Look::Unreadable(listed, error),
            None => Look::Absent,
        }
    }
}

// === impl Progress ===

impl Progress {
    fn fails(&mut self, request: &mut Request, id: ObjectId, error: CriError) {
        self.unread.insert(id.clone());
        request.listed_suffices.remove(&id);
        request.suspects.insert(id);
        self.last_error = Some(error);
    }

    /// Whether a sandbox was looked at in this read.
    fn has_sandbox(&self, id: &ObjectId) -> bool {
        self.unread.contains(id)
            || self.found.sandboxes.iter().any(|sandbox| sandbox.id == *id)
            || self.found.absent.contains(id)
    }
}

// === impl Look ===

impl Look {
    /// The sandbox of what is a container.
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

// === impl Settled ===

impl Settled {
    fn after(reads: &[PodReadRequest]) -> Self {
        if reads.iter().any(|it| it.read.after.is_zero()) { Self::Partly } else { Self::All }
    }

    fn and(self, other: Self) -> Self {
        if self == Self::Partly { self } else { other }
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
