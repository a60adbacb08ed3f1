//! The generic path: lists, compares with the cache, and has read what differs.
//!
//! A relist costs two list calls where nothing has changed. It decides nothing itself: what differs is read, and the
//! arbiter settles the readings. A failed list is an error and never an empty list. Never writes the cache.

mod agenda;
mod pace;
mod reads;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;

pub use self::reads::{ReadError, Reader, Reads};
use crate::{
    arbiter::{Arbiter, Ask, Difference, ListedObject, NOW, Scope},
    cache::Cache,
    clock::{Clock, Mono, Wall},
    cri::{Client, CriError, ListedContainer, ListedSandbox, Listing, RuntimeInfo, quirks::Quirks},
    ledger::Ledger,
    metrics::Metrics,
    model::{
        ContainerStatus, Detail, Labels, ObjectId, Observation, Origin, PodIdentity, PodUid, ReadCause,
        SandboxStatus, Source, Stamp,
    },
};

/// Relists.
#[derive(Clone)]
pub struct Relister {
    client: Client,
    cache: Cache,
    arbiter: Arc<Arbiter>,
    ledger: Ledger,
    reads: Reads,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// A relist whose lists have come.
pub struct Relisted {
    /// When it began.
    pub began: Mono,
    /// In how many pods the lists differ from the cache.
    pub changed_pods: usize,
    /// Resolves when each of these has been read once, whether or not that went well.
    pub reads: BoxFuture<'static, ()>,
}

/// What the lists have of one pod. Nothing is copied: hardly any pod differs.
struct PodListing<'a> {
    pod: PodOf<'a>,
    sandboxes: Vec<&'a ListedSandbox>,
    containers: Vec<&'a ListedContainer>,
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
        ledger: Ledger,
        reads: Reads,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { client, cache, arbiter, ledger, reads, clock, metrics }
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
        let began = self.clock.now();
        let listing = self.client.list().await?;
        let (ended, at) = self.clock.now_both();
        let ids = listing.sandboxes.iter().map(|sandbox| (sandbox.id.as_str(), Some(sandbox.state.phase())));
        let ids = ids.chain(
            listing.containers.iter().map(|container| (container.id.as_str(), container.state.phase())),
        );
        self.ledger.listed(began, ended, ids);
        self.arbiter.list_begins(began);

        let stamp = Stamp { lower: Some(began), upper: ended };
        let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        let mut changed_pods = 0;
        let (pods, orphans) = self.by_pod(&listing);
        let mut objects = Vec::new();
        for pod in &pods {
            objects.clear();
            objects.extend(pod.objects());
            let difference = self.arbiter.compare(pod.pod.uid(), began, &objects);
            if difference == Difference::default() {
                continue;
            }
            changed_pods += 1;
            let identity = pod.pod.identity();
            if !difference.absent.is_empty() {
                let absent = observation(&identity, stamp, at, difference.absent.clone());
                self.reads.ask_all(self.arbiter.settle(&absent));
            }
            if !difference.changed.is_empty() {
                let seen = pod.as_listed(&identity, &difference, stamp, at);
                let ask = Ask { scope: Scope::Ids(difference.changed), cause: ReadCause::Relist, after: NOW };
                self.reads.read_listed(identity, ask, seen, done.clone());
            }
        }
        for (sandbox_id, containers) in orphans {
            self.reads.read_orphans(&sandbox_id.into(), containers, done.clone());
        }
        self.metrics.relists.changed_pods.observe(changed_pods as f64);
        drop(done);
        let reads = Box::pin(async move { while all_done.recv().await.is_some() {} });
        Ok(Relisted { began, changed_pods, reads })
    }

    /// The lists by pod, the pods that are held and have nothing in them included; and containers whose sandbox is neither
    /// listed nor known, by that sandbox.
    fn by_pod<'a>(
        &self,
        listing: &'a Listing,
    ) -> (Vec<PodListing<'a>>, BTreeMap<&'a str, Vec<&'a ListedContainer>>) {
        let mut pods: Vec<PodListing<'a>> = Vec::with_capacity(listing.sandboxes.len());
        let mut by_uid: HashMap<&'a str, usize> = HashMap::with_capacity(listing.sandboxes.len());
        let mut by_sandbox: HashMap<&'a str, usize> = HashMap::with_capacity(listing.sandboxes.len());
        for sandbox in &listing.sandboxes {
            let at = *by_uid.entry(&sandbox.pod_uid).or_insert_with(|| {
                pods.push(PodListing::of(PodOf::Sandbox(sandbox)));
                pods.len() - 1
            });
            by_sandbox.insert(&sandbox.id, at);
            pods[at].sandboxes.push(sandbox);
        }
        let mut unlisted: Vec<PodUid> =
            self.cache.uids().into_iter().filter(|uid| !by_uid.contains_key(uid.as_str())).collect();
        // The cache has no order; what is told has one that can be told again.
        unlisted.sort_unstable();
        let mut held: HashMap<PodUid, usize> = HashMap::new();
        for uid in unlisted {
            if let Some(identity) = self.cache.inspect(&uid, |state| state.identity().clone()) {
                held.insert(uid, pods.len());
                pods.push(PodListing::of(PodOf::Held(identity)));
            }
        }
        let mut orphans: BTreeMap<&'a str, Vec<&'a ListedContainer>> = BTreeMap::new();
        for container in &listing.containers {
            // Where its sandbox is gone already, or came after the first list, the pod may be known all the same.
            let known = |id: &str| {
                let uid = self.cache.pod_of(id)?;
                by_uid.get(uid.as_str()).or_else(|| held.get(&uid)).copied()
            };
            let at = by_sandbox.get(container.sandbox_id.as_str()).copied();
            match at.or_else(|| known(&container.id)).or_else(|| known(&container.sandbox_id)) {
                Some(at) => pods[at].containers.push(container),
                None => orphans.entry(&container.sandbox_id).or_default().push(container),
            }
        }
        (pods, orphans)
    }
}

// === impl PodListing ===

impl<'a> PodListing<'a> {
    fn of(pod: PodOf<'a>) -> Self {
        Self { pod, sandboxes: Vec::with_capacity(1), containers: Vec::with_capacity(3) }
    }

    fn objects(&self) -> impl Iterator<Item = ListedObject<'a>> {
        let sandboxes =
            self.sandboxes.iter().map(|it| ListedObject { id: &it.id, phase: Some(it.state.phase()) });
        sandboxes.chain(self.containers.iter().map(|it| ListedObject { id: &it.id, phase: it.state.phase() }))
    }

    /// What the list shows of what differs: all that will ever be known of it if it is gone before it can be read.
    fn as_listed(
        &self,
        pod: &PodIdentity,
        difference: &Difference,
        stamp: Stamp,
        observed_at: Wall,
    ) -> Observation {
        let mut seen = observation(pod, stamp, observed_at, Vec::new());
        seen.detail = Detail::Lean;
        let differs = |id: &str| difference.changed.contains(id);
        let sandboxes = self.sandboxes.iter().filter(|sandbox| differs(&sandbox.id));
        seen.sandboxes = sandboxes.map(|sandbox| Arc::new(lean_sandbox(sandbox, pod))).collect();
        let containers = self.containers.iter().filter(|container| differs(&container.id));
        seen.containers = containers.map(|container| Arc::new(lean_container(container))).collect();
        seen
    }
}

// === impl PodOf ===

impl PodOf<'_> {
    fn uid(&self) -> &str {
        match self {
            Self::Sandbox(sandbox) => &sandbox.pod_uid,
            Self::Held(identity) => identity.uid.as_str(),
        }
    }

    fn identity(&self) -> PodIdentity {
        match self {
            Self::Sandbox(sandbox) => PodIdentity {
                uid: sandbox.pod_uid.as_str().into(),
                namespace: sandbox.namespace.as_str().into(),
                name: sandbox.pod_name.as_str().into(),
            },
            Self::Held(identity) => identity.clone(),
        }
    }
}

fn observation(pod: &PodIdentity, stamp: Stamp, observed_at: Wall, absent: Vec<ObjectId>) -> Observation {
    Observation {
        origin: Origin::Read(Source::Relist),
        stamp,
        observed_at,
        pod: pod.clone(),
        sandboxes: Vec::new(),
        containers: Vec::new(),
        absent,
        detail: Detail::Full,
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
