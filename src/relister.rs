//! The generic path: lists, compares with the cache, and has read what differs.
//!
//! A relist costs two list calls where nothing has changed, and the status of at most [`CONTENT_READS`] ids. It decides nothing itself:
//! what differs is read, and the arbiter settles the readings. A failed list is an error and never an empty list. What a list lacks is
//! reported as absent only after a list of that id alone lacks it, too; where a list lacks very much, after its status does: a list
//! may be truncated. Never writes the cache.

mod agenda;
mod lister;
mod pace;
mod read;
mod reads;
mod unreadable;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;

pub(crate) use self::{lister::Lister, reads::Dependencies as ReaderDependencies};
pub use self::{
    reads::{ReadError, Reader, Reads},
    unreadable::{Unreadable, UnreadableIds},
};
use crate::{
    arbiter::{Arbiter, Difference, ListedObject, NOW, PodReadRequest, ReadRequest, Scope},
    cache::Cache,
    clock::{Clock, Mono, Wall},
    cri::{Client, CriError, ListedContainer, ListedSandbox, Listing, RuntimeInfo, quirks::Quirks},
    metrics::Metrics,
    model::{
        ContainerStatus, Interval, Labels, ObjectId, Observation, Phase, PodIdentity, PodUid, ReadCause,
        SandboxStatus, Source, Subject,
    },
    path_comparison::PathComparison,
};

/// How many containers and sandboxes a relist has read because their content was read longest ago. Reasons, addresses and
/// annotations may change with no event and in no list (kubernetes#78973).
pub const CONTENT_READS: usize = 4;
/// How long ago a relist last did so, so that polling at 1 s costs at most 24 such reads a minute.
const CONTENT_READS_APART: Duration = Duration::from_secs(10);
/// Content that is younger is not read again.
const CONTENT_AGE: Duration = Duration::from_secs(5);
/// With more ids absent from a list that had not ended than this, or than it shows, the list itself is doubted.
const MASS_ABSENCE: usize = 64;

/// Relists.
#[derive(Clone)]
pub struct Relister {
    client: Client,
    cache: Cache,
    arbiter: Arc<Arbiter>,
    paths: PathComparison,
    reads: Reads,
    clock: Clock,
    metrics: Arc<Metrics>,
    round: Arc<Mutex<Round>>,
    /// Pairs of pods with one UID that were reported.
    same_uid: Arc<Mutex<BTreeSet<PodUid>>>,
}

/// A round of reads of content, through all pods.
#[derive(Default)]
struct Round {
    /// Pods that are still to be read.
    pods: VecDeque<PodIdentity>,
    last: Option<Mono>,
}

/// A relist whose lists have come.
pub struct Relisted {
    /// When it began.
    pub began: Mono,
    /// Resolves when each of these has been read once, whether or not that went well.
    pub reads: BoxFuture<'static, ()>,
}

/// What the lists have of one pod. Nothing is copied: hardly any pod differs.
struct PodListing<'a> {
    pod: PodOf<'a>,
    sandboxes: Vec<&'a ListedSandbox>,
    containers: Vec<&'a ListedContainer>,
    /// Place of another pod with the same UID.
    same_uid: Option<usize>,
}

/// How a pod is known.
enum PodOf<'a> {
    /// By the list.
    Sandbox(&'a ListedSandbox),
    /// From before; nothing of it is listed, or none of its sandboxes.
    Held(PodIdentity),
}

// === impl Relister ===

impl Relister {
    /// A relister that has `reads` do its reading.
    pub fn new(
        client: Client,
        cache: Cache,
        arbiter: Arc<Arbiter>,
        paths: PathComparison,
        reads: Reads,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (round, same_uid) = (Arc::default(), Arc::default());
        Self { client, cache, arbiter, paths, reads, clock, metrics, round, same_uid }
    }

    /// How long asking what the runtime is and for both lists may take, if each call takes as long as it may, and each list is
    /// asked for as a stream first.
    pub fn longest_listing(&self) -> Duration {
        5 * self.client.deadline()
    }

    /// The runtime answers again, after it did not.
    pub fn runtime_is_back(&self) {
        self.reads.runtime_is_back();
    }

    /// Asks the runtime what it is, and has the arbiter expect its quirks.
    ///
    /// # Errors
    ///
    /// [`CriError`] if it does not answer.
    pub async fn identify(&self) -> Result<RuntimeInfo, CriError> {
        let runtime = self.client.version().await?;
        self.arbiter.set_quirks(Quirks::of(&runtime.name, &runtime.version));
        Ok(runtime)
    }

    /// Lists and compares, and has read what differs.
    ///
    /// # Errors
    ///
    /// [`CriError`] if one of the lists failed; then nothing was compared.
    pub async fn relist(&self) -> Result<Relisted, CriError> {
        let (_, relisted) = self.list().await?;
        self.read_content(relisted.began);
        Ok(relisted)
    }

    /// The same, and what the lists show.
    async fn list(&self) -> Result<(Listing, Relisted), CriError> {
        let began = self.clock.now();
        let listing = self.client.list().await?;
        let relisted = self.take_in(&listing, began);
        Ok((listing, relisted))
    }

    fn take_in(&self, listing: &Listing, began: Mono) -> Relisted {
        let (ended, at) = self.clock.now_both();
        let ids = listing.sandboxes.iter().map(|sandbox| (sandbox.id.as_str(), Some(sandbox.state.phase())));
        let ids = ids.chain(
            listing.containers.iter().map(|container| (container.id.as_str(), container.state.phase())),
        );
        self.paths.record_list(began, ended, ids);
        let first = self.arbiter.is_first_list();
        self.arbiter.begin_list(began);

        let interval = Interval { lower: Some(began), upper: ended };
        let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        let (pods, orphans) = self.by_pod(listing);
        let mut objects = Vec::new();
        let mut differing: Vec<(&PodListing<'_>, Difference)> = Vec::new();
        for pod in &pods {
            objects.clear();
            objects.extend(pod.objects());
            let difference = self.arbiter.reconcile_list(pod.pod.names(), began, &objects);
            if difference != Difference::default() {
                differing.push((pod, difference));
            }
        }
        let changed_pods = differing.len();
        let doubted = self.is_doubted(listing, &differing);
        for (pod, Difference { changed, absent }) in differing {
            let identity = pod.pod.identity();
            let seen = pod.as_listed(&identity, &changed, interval, at, first);
            self.reads.read_listed(identity, Listed { changed, absent, doubted, seen }, done.clone());
        }
        for (sandbox_id, containers) in orphans {
            self.reads.read_orphans(&sandbox_id.into(), containers, first, done.clone());
        }
        self.metrics.relists.changed_pods.observe(changed_pods as f64);
        drop(done);
        let reads = Box::pin(async move { while all_done.recv().await.is_some() {} });
        Relisted { began, reads }
    }

    /// Whether lists lack so much that they may be wrong as a whole. What had ended is expected to go.
    fn is_doubted(&self, listing: &Listing, differing: &[(&PodListing<'_>, Difference)]) -> bool {
        let absent = differing.iter().flat_map(|(_, difference)| &difference.absent);
        let alive = absent.filter_map(|id| {
            let (subject, _) = self.arbiter.locate(id)?;
            (self.arbiter.served_phase(id) != Some(Phase::Exited)).then_some(subject)
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
                held = self.cache.ids(),
                "The runtime's list lacks many containers and sandboxes at once: reading the status of each before any is \
                 published as removed."
            );
        }
        doubted
    }

    /// Has the content read that was read longest ago, pod by pod.
    fn read_content(&self, began: Mono) {
        let (mut round, mut ids) = (self.round.lock(), 0);
        if round.last.is_some_and(|last| began.since(last) < CONTENT_READS_APART) {
            return;
        }
        round.last = Some(began);
        if round.pods.is_empty() {
            let mut all = self.cache.identities();
            all.sort_unstable();
            round.pods.extend(all);
        }
        while ids < CONTENT_READS
            && let Some(pod) = round.pods.pop_front()
        {
            let before = began - CONTENT_AGE;
            let old = self.arbiter.unread_since(&pod, before, CONTENT_READS - ids);
            let old: BTreeSet<ObjectId> = old.into_iter().collect();
            if old.is_empty() {
                continue;
            }
            ids += old.len();
            let read = ReadRequest { scope: Scope::Ids(old), cause: ReadCause::Content, after: NOW };
            self.reads.request_all([PodReadRequest { pod, read, deferred: None }]);
        }
    }

    /// The lists by pod, the pods that are held and have nothing in them included; and containers whose sandbox is neither
    /// listed nor known, by that sandbox.
    fn by_pod<'a>(
        &self,
        listing: &'a Listing,
    ) -> (Vec<PodListing<'a>>, BTreeMap<&'a str, Vec<&'a ListedContainer>>) {
        let mut pods = Pods::with_capacity(listing.sandboxes.len());
        let mut by_sandbox: HashMap<&'a str, usize> = HashMap::with_capacity(listing.sandboxes.len());
        for sandbox in &listing.sandboxes {
            let at = pods.of(sandbox);
            by_sandbox.insert(&sandbox.id, at);
            pods.all[at].sandboxes.push(sandbox);
        }
        self.report_same_uid(&pods);
        let mut unlisted: Vec<PodIdentity> =
            self.cache.identities().into_iter().filter(|pod| pods.find(pod).is_none()).collect();
        // The cache has no order; what is told has one that can be told again.
        unlisted.sort_unstable();
        let mut held: HashMap<PodIdentity, usize> = HashMap::new();
        for identity in unlisted {
            held.insert(identity.clone(), pods.all.len());
            pods.all.push(PodListing::of(PodOf::Held(identity)));
        }
        let mut orphans: BTreeMap<&'a str, Vec<&'a ListedContainer>> = BTreeMap::new();
        for container in &listing.containers {
            // Where its sandbox is gone already, or came after the first list, the pod may be known all the same.
            let known = |id: &str| {
                let pod = self.cache.pod_of(id)?;
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

    /// Logs once for each UID that several pods have it.
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
                    "Two pods have the same UID: is a manifest of a static pod a copy of another? Each is served under its own \
                     name. A request by UID means the one with a ready sandbox that was observed last."
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

    /// The place of a sandbox's pod, which is new if it is not there yet.
    fn of(&mut self, sandbox: &'a ListedSandbox) -> usize {
        let next = self.all.len();
        let mut at = *self.by_uid.entry(&sandbox.pod_uid).or_insert(next);
        while at < next {
            if self.all[at].pod.is(&sandbox.namespace, &sandbox.pod_name) {
                return at;
            }
            at = *self.all[at].same_uid.get_or_insert(next);
        }
        self.all.push(PodListing::of(PodOf::Sandbox(sandbox)));
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

/// What a list shows of a pod that differs from the cache.
struct Listed {
    /// Ids that are new, in another phase or in another sandbox.
    changed: BTreeSet<ObjectId>,
    /// Ids that it lacks.
    absent: Vec<ObjectId>,
    /// Whether it lacks so much that it is doubted.
    doubted: bool,
    /// What it shows of those that differ.
    seen: Observation,
}

// === impl PodListing ===

impl<'a> PodListing<'a> {
    fn of(pod: PodOf<'a>) -> Self {
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

    /// What the list shows of what differs: all that will ever be known of it if it is gone before it can be read.
    fn as_listed(
        &self,
        pod: &PodIdentity,
        changed: &BTreeSet<ObjectId>,
        interval: Interval,
        observed_at: Wall,
        first: bool,
    ) -> Observation {
        let mut seen = Observation::list(Source::Relist, interval, observed_at, pod.clone());
        if first {
            seen.initial = changed.iter().cloned().collect();
        }
        let differs = |id: &str| changed.contains(id);
        let sandboxes = self.sandboxes.iter().filter(|sandbox| differs(&sandbox.id));
        seen.sandboxes = sandboxes.map(|sandbox| Arc::new(lean_sandbox(sandbox, pod))).collect();
        let containers = self.containers.iter().filter(|container| differs(&container.id));
        seen.containers = containers.map(|container| Arc::new(lean_container(container))).collect();
        seen
    }
}

// === impl PodOf ===

impl PodOf<'_> {
    /// UID, namespace and name.
    fn names(&self) -> (&str, &str, &str) {
        match self {
            Self::Sandbox(sandbox) => (&sandbox.pod_uid, &sandbox.namespace, &sandbox.pod_name),
            Self::Held(identity) => (identity.uid.as_str(), &identity.namespace, &identity.name),
        }
    }

    fn is(&self, namespace: &str, name: &str) -> bool {
        let (_, of_namespace, of_name) = self.names();
        of_namespace == namespace && of_name == name
    }

    fn identity(&self) -> PodIdentity {
        match self {
            Self::Sandbox(sandbox) => sandbox.pod(),
            Self::Held(identity) => identity.clone(),
        }
    }
}

fn lean_sandbox(sandbox: &ListedSandbox, pod: &PodIdentity) -> SandboxStatus {
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

fn lean_container(container: &ListedContainer) -> ContainerStatus {
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
