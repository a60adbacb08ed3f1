//! The generic path: lists pods, compares them with the records, and requests reads of the ids that differ.
//!
//! If nothing has changed, a relist costs two list calls, and the status of at most [`CONTENT_READS`] ids. The relister decides nothing:
//! ids that differ are read, and the arbiter applies the results. A failed list is an error and never an empty list. An id that a list
//! lacks is reported absent only after a list of that id alone lacks it too. If a list lacks more than [`MASS_ABSENCE`] ids, a status
//! call must return NotFound as well, since the list may be truncated. Never writes the cache.

mod concurrency;
mod lister;
mod pod_read;
mod read_queue;
mod reader;
mod unreadable;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;

pub(crate) use self::{
    lister::{FullList, Lister},
    reader::ReaderDeps,
};
pub use self::{
    reader::{ReadError, Reader, Reads},
    unreadable::{Unreadable, UnreadableIds},
};
use crate::{
    arbiter::{Arbiter, Difference, ListedObject, NOW, PodReadRequest, ReadRequest, Scope},
    cache::Cache,
    clock::{Clock, Mono, Wall},
    cri::{Client, CriError, ListedContainer, ListedSandbox, Listing, quirks::Quirks},
    metrics::Metrics,
    model::{
        ContainerStatus, Interval, Labels, ObjectId, Observation, Phase, PodIdentity, PodUid, ReadCause,
        RuntimeInfo, SandboxStatus, Source, Subject,
    },
    path_comparison::PathComparison,
};

/// How many containers and sandboxes a relist reads because their content was read the longest time ago. Reasons, addresses and
/// annotations may change without an event and are in no list (kubernetes#78973).
pub const CONTENT_READS: usize = 4;
/// Time between such relists, so that polling at 1 s costs at most 24 of these reads a minute.
const CONTENT_READ_INTERVAL: Duration = Duration::from_secs(10);
/// Younger content is not read again.
const CONTENT_AGE: Duration = Duration::from_secs(5);
/// If more ids than this, or more than the list shows, are absent from a list and have not exited, the list is doubted.
const MASS_ABSENCE: usize = 64;
/// How often containers are read again that belong to no known pod.
const ORPHAN_REREAD_INTERVAL: Duration = Duration::from_secs(30);

/// Lists the runtime and compares the lists with the records. Cheap to clone.
#[derive(Clone)]
pub struct Relister {
    deps: RelisterDeps,
    content: Arc<Mutex<ContentRound>>,
    /// UIDs of several pods that were logged.
    same_uid: Arc<Mutex<BTreeSet<PodUid>>>,
    /// When listed containers were last read whose sandbox is neither listed nor known.
    orphans: Arc<Mutex<HashMap<ObjectId, Mono>>>,
}

/// What a [`Relister`] needs.
#[derive(Clone)]
pub(crate) struct RelisterDeps {
    pub(crate) client: Client,
    pub(crate) cache: Cache,
    pub(crate) arbiter: Arc<Arbiter>,
    pub(crate) paths: PathComparison,
    pub(crate) reads: Reads,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

/// A round of content reads through all pods.
#[derive(Default)]
struct ContentRound {
    /// Pods that this round has not reached yet.
    pods: VecDeque<PodIdentity>,
    last: Option<Mono>,
}

/// A relist whose lists were compared.
pub struct Relisted {
    /// When it began.
    pub began: Mono,
    /// Whether the lists lack so many ids that they may be truncated.
    pub doubted: bool,
    /// Resolves when each pod that differs was read once, successfully or not.
    pub reads: BoxFuture<'static, ()>,
}

/// The part of the lists about one pod. Nothing is copied, since nearly all pods are unchanged.
struct PodListing<'a> {
    pod: PodRef<'a>,
    sandboxes: Vec<&'a ListedSandbox>,
    containers: Vec<&'a ListedContainer>,
    /// Index of another pod with the same UID.
    same_uid: Option<usize>,
}

/// The pod of a [`PodListing`].
enum PodRef<'a> {
    /// A sandbox of it is listed.
    Listed(&'a ListedSandbox),
    /// It has records, and no sandbox of it is listed.
    Held(PodIdentity),
}

// === impl Relister ===

impl Relister {
    pub(crate) fn new(deps: RelisterDeps) -> Self {
        Self { deps, content: Arc::default(), same_uid: Arc::default(), orphans: Arc::default() }
    }

    /// The longest time that the version call and both lists may take, if each call takes until its deadline and each list is first
    /// tried as a stream.
    pub fn longest_listing(&self) -> Duration {
        5 * self.deps.client.deadline()
    }

    /// The runtime responds again after an outage.
    pub fn on_runtime_recovered(&self) {
        self.deps.reads.on_runtime_recovered();
    }

    /// Calls the runtime for its version, and sets its quirks in the arbiter.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the call fails.
    pub async fn identify(&self) -> Result<RuntimeInfo, CriError> {
        let runtime = self.deps.client.version().await?;
        self.deps.arbiter.set_quirks(Quirks::of(&runtime.name, &runtime.version));
        Ok(runtime)
    }

    /// Lists, compares, and requests reads of the ids that differ.
    ///
    /// # Errors
    ///
    /// [`CriError`] if one of the lists failed; then nothing was compared.
    pub async fn relist(&self) -> Result<Relisted, CriError> {
        let (_, relisted) = self.list().await?;
        self.read_content(relisted.began);
        Ok(relisted)
    }

    /// As [`Relister::relist`], without content reads; returns the lists as well.
    async fn list(&self) -> Result<(Listing, Relisted), CriError> {
        let began = self.deps.clock.now();
        let listing = self.deps.client.list().await?;
        let relisted = self.compare(&listing, began);
        Ok((listing, relisted))
    }

    fn compare(&self, listing: &Listing, began: Mono) -> Relisted {
        let (ended, at) = self.deps.clock.now_both();
        let ids = listing.sandboxes.iter().map(|sandbox| (sandbox.id.as_str(), Some(sandbox.state.phase())));
        let ids = ids.chain(
            listing.containers.iter().map(|container| (container.id.as_str(), container.state.phase())),
        );
        self.deps.paths.record_list(began, ended, ids);
        let first = self.deps.arbiter.is_first_list();
        self.deps.arbiter.begin_list(began);

        let interval = Interval { lower: Some(began), upper: ended };
        let (completion, mut completed) = tokio::sync::mpsc::channel::<()>(1);
        let (pods, orphans) = self.by_pod(listing);
        let mut objects = Vec::new();
        let mut differing: Vec<(&PodListing<'_>, Difference)> = Vec::new();
        for pod in &pods {
            objects.clear();
            objects.extend(pod.objects());
            let difference = self.deps.arbiter.reconcile_list(pod.pod.names(), began, &objects);
            if difference != Difference::default() {
                differing.push((pod, difference));
            }
        }
        let changed_pods = differing.len();
        let doubted = self.is_doubted(listing, &differing);
        for (pod, Difference { changed, absent }) in differing {
            let identity = pod.pod.identity();
            let listed = pod.observation_of(&identity, &changed, interval, at, first);
            let difference = ListDifference { changed, absent, doubted, listed };
            self.deps.reads.read_listed(identity, difference, completion.clone());
        }
        for (sandbox_id, containers) in self.due_orphans(orphans, began) {
            self.deps.reads.read_orphans(&sandbox_id.into(), containers, first, completion.clone());
        }
        self.deps.metrics.relists.changed_pods.observe(changed_pods as f64);
        drop(completion);
        let reads = Box::pin(async move { while completed.recv().await.is_some() {} });
        Relisted { began, doubted, reads }
    }

    /// Whether the lists lack so many ids that they may be truncated. Exited ids do not count: they are expected to go.
    fn is_doubted(&self, listing: &Listing, differing: &[(&PodListing<'_>, Difference)]) -> bool {
        let absent = differing.iter().flat_map(|(_, difference)| &difference.absent);
        let alive = absent.filter_map(|id| {
            let (subject, _) = self.deps.arbiter.locate(id)?;
            (self.deps.arbiter.served_phase(id) != Some(Phase::Exited)).then_some(subject)
        });
        let (sandboxes, containers): (Vec<_>, Vec<_>) =
            alive.partition(|subject| *subject == Subject::Sandbox);
        let doubted = |absent: usize, listed: usize| absent > MASS_ABSENCE || absent > listed;
        let doubted = doubted(sandboxes.len(), listing.sandboxes.len())
            || doubted(containers.len(), listing.containers.len());
        let absent = sandboxes.len() + containers.len();
        if doubted && absent > MASS_ABSENCE {
            tracing::warn!(
                absent,
                held = self.deps.cache.ids(),
                "The runtime's list lacks many containers and sandboxes at once. Reading the status of each before publishing any \
                 as removed."
            );
        }
        doubted
    }

    /// Requests reads of the ids whose content was read the longest time ago, pod by pod.
    fn read_content(&self, began: Mono) {
        let (mut round, mut ids) = (self.content.lock(), 0);
        if round.last.is_some_and(|last| began.since(last) < CONTENT_READ_INTERVAL) {
            return;
        }
        round.last = Some(began);
        if round.pods.is_empty() {
            let mut all = self.deps.cache.identities();
            all.sort_unstable();
            round.pods.extend(all);
        }
        while ids < CONTENT_READS
            && let Some(pod) = round.pods.pop_front()
        {
            let before = began - CONTENT_AGE;
            let old = self.deps.arbiter.unread_since(&pod, before, CONTENT_READS - ids);
            let old: BTreeSet<ObjectId> = old.into_iter().collect();
            if old.is_empty() {
                continue;
            }
            ids += old.len();
            let read = ReadRequest { scope: Scope::Ids(old), cause: ReadCause::Content, after: NOW };
            self.deps.reads.request_all([PodReadRequest { pod, read }]);
        }
    }

    /// The lists by pod, with the pods that have records and are in no list; and the containers whose sandbox is neither listed nor known,
    /// by that sandbox.
    fn by_pod<'a>(
        &self,
        listing: &'a Listing,
    ) -> (Vec<PodListing<'a>>, BTreeMap<&'a str, Vec<&'a ListedContainer>>) {
        let mut pods = Pods::with_capacity(listing.sandboxes.len());
        let mut by_sandbox: HashMap<&'a str, usize> = HashMap::with_capacity(listing.sandboxes.len());
        for sandbox in &listing.sandboxes {
            let at = pods.index_of(sandbox);
            by_sandbox.insert(&sandbox.id, at);
            pods.all[at].sandboxes.push(sandbox);
        }
        self.report_same_uid(&pods);
        let mut unlisted: Vec<PodIdentity> =
            self.deps.cache.identities().into_iter().filter(|pod| pods.find(pod).is_none()).collect();
        // The cache has no order, and the order of events is to be reproducible.
        unlisted.sort_unstable();
        let mut held: HashMap<PodIdentity, usize> = HashMap::new();
        for identity in unlisted {
            held.insert(identity.clone(), pods.all.len());
            pods.all.push(PodListing::of(PodRef::Held(identity)));
        }
        let mut orphans: BTreeMap<&'a str, Vec<&'a ListedContainer>> = BTreeMap::new();
        for container in &listing.containers {
            // The pod may be known although its sandbox is gone already, or was created after the list of sandboxes.
            let known = |id: &str| {
                let pod = self.deps.cache.pod_of(id)?;
                pods.find(&pod).or_else(|| held.get(&pod).copied())
            };
            let at = by_sandbox.get(container.sandbox_id.as_str()).copied();
            match at.or_else(|| known(&container.id)).or_else(|| known(&container.sandbox_id)) {
                Some(at) => pods.all[at].containers.push(container),
                None => orphans.entry(&container.sandbox_id).or_default().push(container),
            }
        }
        (pods.all, orphans)
    }

    /// The orphans that are to be read: of a sandbox all, if one is new or was not read for [`ORPHAN_REREAD_INTERVAL`]. One whose
    /// status names no pod stays an orphan, and each read of its sandbox is an error line in the runtime's log.
    fn due_orphans<'a>(
        &self,
        orphans: BTreeMap<&'a str, Vec<&'a ListedContainer>>,
        began: Mono,
    ) -> Vec<(&'a str, Vec<&'a ListedContainer>)> {
        let mut before = self.orphans.lock();
        let (mut due, mut read) = (Vec::new(), HashMap::new());
        for (sandbox_id, containers) in orphans {
            let last = |container: &&ListedContainer| before.get(container.id.as_str()).copied();
            let oldest = containers.iter().map(last).min().flatten();
            let is_due = oldest.is_none_or(|at| began.since(at) >= ORPHAN_REREAD_INTERVAL);
            for container in &containers {
                let at = last(container).filter(|_| !is_due).unwrap_or(began);
                read.insert(container.id.as_str().into(), at);
            }
            if is_due {
                due.push((sandbox_id, containers));
            }
        }
        *before = read;
        due
    }

    /// Logs each UID of several pods once.
    fn report_same_uid(&self, pods: &Pods<'_>) {
        for pod in &pods.all {
            let Some(other) = pod.same_uid else { continue };
            let (one, other) = (pod.pod.identity(), pods.all[other].pod.identity());
            let mut reported = self.same_uid.lock();
            if reported.len() < MASS_ABSENCE && reported.insert(one.uid.clone()) {
                tracing::warn!(
                    uid = %one.uid,
                    pod = %format_args!("{}/{}", one.namespace, one.name),
                    other = %format_args!("{}/{}", other.namespace, other.name),
                    "Two pods have the same UID. Check whether a static pod's manifest is a copy of another. Each pod is served under \
                     its own name. A request by UID returns the one with a ready sandbox that was observed last."
                );
            }
        }
    }
}

/// The pods of a list, in the order of the list.
struct Pods<'a> {
    all: Vec<PodListing<'a>>,
    by_uid: HashMap<&'a str, usize>,
}

// === impl Pods ===

impl<'a> Pods<'a> {
    fn with_capacity(pods: usize) -> Self {
        Self { all: Vec::with_capacity(pods), by_uid: HashMap::with_capacity(pods) }
    }

    /// The index of a sandbox's pod. Adds the pod if it is new.
    fn index_of(&mut self, sandbox: &'a ListedSandbox) -> usize {
        let next = self.all.len();
        let mut at = *self.by_uid.entry(&sandbox.pod_uid).or_insert(next);
        while at < next {
            if self.all[at].pod.is(&sandbox.namespace, &sandbox.pod_name) {
                return at;
            }
            at = *self.all[at].same_uid.get_or_insert(next);
        }
        self.all.push(PodListing::of(PodRef::Listed(sandbox)));
        at
    }

    fn find(&self, pod: &PodIdentity) -> Option<usize> {
        let mut at = *self.by_uid.get(pod.uid.as_str())?;
        while !self.all[at].pod.is(&pod.namespace, &pod.name) {
            at = self.all[at].same_uid?;
        }
        Some(at)
    }
}

/// The difference between a list and the records of a pod.
struct ListDifference {
    /// Ids that are new, in another phase or in another sandbox.
    changed: BTreeSet<ObjectId>,
    /// Ids that the list lacks.
    absent: Vec<ObjectId>,
    /// Whether the list lacks so many ids that it is doubted.
    doubted: bool,
    /// The list's view of the changed ids.
    listed: Observation,
}

// === impl PodListing ===

impl<'a> PodListing<'a> {
    fn of(pod: PodRef<'a>) -> Self {
        Self { pod, sandboxes: Vec::with_capacity(1), containers: Vec::with_capacity(3), same_uid: None }
    }

    fn objects(&self) -> impl Iterator<Item = ListedObject<'a>> {
        let sandboxes = self.sandboxes.iter().map(|it| ListedObject {
            id: &it.id,
            phase: Some(it.state.phase()),
            sandbox_id: None,
        });
        sandboxes.chain(self.containers.iter().map(|it| ListedObject {
            id: &it.id,
            phase: it.state.phase(),
            sandbox_id: Some(&it.sandbox_id),
        }))
    }

    /// The list's view of the changed ids. Nothing else will be known of an id that is gone before it can be read.
    fn observation_of(
        &self,
        pod: &PodIdentity,
        changed: &BTreeSet<ObjectId>,
        interval: Interval,
        observed_at: Wall,
        first: bool,
    ) -> Observation {
        let mut listed = Observation::list(Source::Relist, interval, observed_at, pod.clone());
        if first {
            listed.initial = changed.iter().cloned().collect();
        }
        let differs = |id: &str| changed.contains(id);
        let sandboxes = self.sandboxes.iter().filter(|sandbox| differs(&sandbox.id));
        listed.sandboxes = sandboxes.map(|sandbox| Arc::new(minimal_sandbox(sandbox, pod))).collect();
        let containers = self.containers.iter().filter(|container| differs(&container.id));
        listed.containers = containers.map(|container| Arc::new(minimal_container(container))).collect();
        listed
    }
}

// === impl PodRef ===

impl PodRef<'_> {
    /// UID, namespace and name.
    fn names(&self) -> (&str, &str, &str) {
        match self {
            Self::Listed(sandbox) => (&sandbox.pod_uid, &sandbox.namespace, &sandbox.pod_name),
            Self::Held(identity) => (identity.uid.as_str(), &identity.namespace, &identity.name),
        }
    }

    fn is(&self, namespace: &str, name: &str) -> bool {
        let (_, of_namespace, of_name) = self.names();
        of_namespace == namespace && of_name == name
    }

    fn identity(&self) -> PodIdentity {
        match self {
            Self::Listed(sandbox) => sandbox.pod(),
            Self::Held(identity) => identity.clone(),
        }
    }
}

fn minimal_sandbox(sandbox: &ListedSandbox, pod: &PodIdentity) -> SandboxStatus {
    SandboxStatus {
        id: sandbox.id.as_str().into(),
        pod: pod.clone(),
        attempt: sandbox.attempt,
        state: sandbox.state,
        created_at: Wall::from_cri(sandbox.created_at),
        ips: Vec::new(),
        labels: Labels::new(),
        annotations: Labels::new(),
        runtime_handler: String::new(),
    }
}

fn minimal_container(container: &ListedContainer) -> ContainerStatus {
    ContainerStatus {
        id: container.id.as_str().into(),
        sandbox_id: container.sandbox_id.as_str().into(),
        name: container.name.as_str().into(),
        attempt: container.attempt,
        state: container.state,
        created_at: Wall::from_cri(container.created_at),
        started_at: None,
        finished_at: None,
        exit_code: None,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        labels: Labels::new(),
        annotations: Labels::new(),
    }
}
