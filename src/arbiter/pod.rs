//! One pod: what is held of its sandboxes and containers, and how an observation changes it.
//!
//! Pure, like the rules: time, tombstones and quirks come in with [`Context`]; what is to be told, read and remembered
//! goes out with [`Outcome`]. The shell in [`crate::arbiter`] calls it under the pod's lock.

mod step;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub use self::step::DEATH_GRACE;
use self::step::Step;
use super::{
    ask::Ask,
    rules::{self, Dissent},
    transitions::Transition,
};
use crate::{
    clock::{Mono, Wall},
    cri::quirks::Quirks,
    model::{
        ContainerStatus, Labels, ObjectId, Observation, Origin, Phase, Pod, PodIdentity, ReadCause, Ruling,
        SandboxStatus, Stamp, Status, Subject,
        order::{container_key, sandbox_key},
    },
};

/// What is held of a pod. The writer's side: readers get a [`Pod`].
#[derive(Clone, Debug)]
pub struct PodState {
    identity: PodIdentity,
    records: BTreeMap<ObjectId, Box<Record>>,
    /// Kept when the network of a finished pod is taken down.
    ips: Vec<String>,
    /// Kept when the sandbox is gone.
    labels: Labels,
    /// When the last read of the whole pod began: an id that is unknown was not there then.
    read_at: Option<Mono>,
    /// Whether a sandbox of the pod was ever observed, so that its labels are known.
    sandbox_known: bool,
    /// Ids of which nothing is held but that they are said to be deleted, early as the runtime does it: a list decides.
    said_deleted: BTreeMap<ObjectId, (Subject, Option<Wall>)>,
    /// Number of the next id that is observed for the first time.
    next: u64,
}

/// What is held of one id.
#[derive(Clone, Debug)]
struct Record {
    status: Status,
    /// How far it has come, as told. Differs from the status only while that is unknown.
    reached: Option<Phase>,
    /// In which phases lists have shown it that differed from what was held. They are told from a read; or, if it is gone
    /// before it can be read, from this.
    listed: BTreeSet<Phase>,
    stamp: Stamp,
    /// As [`rules::Held::whole`].
    whole: Option<Mono>,
    /// As [`rules::Held::moved_back`].
    moved_back: bool,
    /// When the last list or read began that did not have it, if an event has made it known after that.
    unknown_at: Option<Mono>,
    dissent: Option<Dissent>,
    /// It is gone, but its death has not been told yet.
    gone: Option<Gone>,
    /// An event has said that it is deleted, and when.
    announced: Option<Option<Wall>>,
    /// Reads that are still due, each so much after the one before, and why: its deletion was announced or is likely; its start may
    /// have failed; its reason may change.
    looks: Looks,
    /// When the last list began that shows it.
    listed_at: Option<Mono>,
    /// In which order ids of this pod were observed for the first time.
    first_seen: u64,
    shown: Shown,
}

/// Reads that are due for as long as an id stays as it is.
#[derive(Clone, Copy, Debug)]
struct Looks {
    cause: ReadCause,
    /// Each so much after the one before.
    after: &'static [Duration],
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    since: Mono,
    removed_at: Mono,
}

/// Whether readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Served,
    /// A list that was made later did not have it any more: only its history is being told.
    AsHistory,
}

/// What the rules need to know beside the pod.
pub struct Context<'a> {
    /// Now.
    pub now: Mono,
    /// When the journal began: what happened earlier is not told from old events.
    pub began: Mono,
    /// An event about an unknown id that claims an earlier moment may be about one whose tombstone is forgotten.
    pub horizon: Mono,
    /// When the last complete list began that the cache has taken in: an id that is unknown was not in it.
    pub listed: Option<Mono>,
    /// When the complete list before that began.
    pub listed_before: Option<Mono>,
    /// Whether the stream is up, so that a missing death may still come.
    pub stream_up: bool,
    /// The runtime's quirks.
    pub quirks: &'a Quirks,
    /// When an id was removed, if it was.
    pub removed_at: &'a dyn Fn(&ObjectId) -> Option<Mono>,
}

/// What an observation led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is to be told, in order.
    pub transitions: Vec<Transition>,
    /// What is to be read.
    pub asks: Vec<Ask>,
    /// What became of each view, for the metrics.
    pub verdicts: Vec<Ruling>,
    /// Ids that are new, for the index.
    pub added: Vec<ObjectId>,
    /// Ids that are gone, and the moment after which only a new read could see them again.
    pub removed: Vec<(ObjectId, Mono)>,
    /// Whether what readers see may have changed.
    pub changed: bool,
}

/// What a list has of one pod.
#[derive(Clone, Copy, Debug)]
pub struct ListedObject<'a> {
    /// The id.
    pub id: &'a str,
    /// Its phase.
    pub phase: Option<Phase>,
    /// Of a container, the sandbox that it is in.
    pub sandbox_id: Option<&'a str>,
}

/// How a list differs from what is held of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ids that are new, in another phase or in another sandbox: to be read.
    pub changed: BTreeSet<ObjectId>,
    /// Ids that the list does not have.
    pub absent: Vec<ObjectId>,
}

// === impl Context ===

impl Context<'_> {
    /// Whether an event about an unknown id is neither from before the journal began nor from before the oldest tombstone.
    pub(super) fn may_be_new(&self, event: &Observation) -> bool {
        event.claimed >= self.began && event.is_newer_than(self.horizon)
    }
}

// === impl PodState ===

impl PodState {
    /// A pod of which nothing is held yet.
    pub fn new(identity: PodIdentity) -> Self {
        let (records, ips, labels) = (BTreeMap::new(), Vec::new(), Labels::new());
        let (read_at, said_deleted) = (None, BTreeMap::new());
        Self { identity, records, ips, labels, read_at, sandbox_known: false, said_deleted, next: 0 }
    }

    /// Whether nothing is held of it (any more).
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.said_deleted.is_empty()
    }

    /// When the last read of all of it began.
    pub fn read_at(&self) -> Option<Mono> {
        self.read_at
    }

    /// All of it was read, in a read that began at `lower`.
    pub fn mark_read(&mut self, lower: Mono) {
        self.read_at = self.read_at.max(Some(lower));
    }

    /// Its labels, as [`Pod::labels`].
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// All ids, served or not.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.records.keys()
    }

    /// Sets a list, begun at `lower`, against what is held; what agrees is known to be as young as the list.
    pub fn set_against(&mut self, lower: Mono, listed: &[ListedObject<'_>]) -> Difference {
        let mut difference = Difference::default();
        for object in listed {
            let Some(record) = self.records.get_mut(object.id) else {
                difference.changed.insert(object.id.into());
                continue;
            };
            record.listed_at = Some(lower);
            if record.agrees(object) {
                record.confirm(lower);
            } else {
                difference.changed.insert(object.id.into());
                record.listed.extend(object.phase);
            }
        }
        let absent = |record: &Record| record.shown == Shown::Served && record.listed_at != Some(lower);
        let absent = self.records.iter().filter(|(_, record)| absent(record)).map(|(id, _)| id.clone());
        difference.absent.extend(absent);
        difference
    }

    /// The phase of an id that is served and not known to be gone.
    pub fn served_phase(&self, id: &str) -> Option<Phase> {
        let record = self.records.get(id)?;
        if record.shown == Shown::Served && record.gone.is_none() { record.status.phase() } else { None }
    }

    /// Whether the content of an id was read at or after a moment.
    pub fn is_whole_since(&self, id: &str, moment: Mono) -> bool {
        self.records.get(id).is_some_and(|record| record.whole >= Some(moment))
    }

    /// Whether a sandbox of the pod was ever observed.
    pub fn sandbox_known(&self) -> bool {
        self.sandbox_known
    }

    /// Whether an event waits for a read of the sandbox: it shows a container of which nothing is held, and no sandbox of the pod was
    /// ever observed, so that its labels are not known. A subscriber who filters by label would miss the container's start.
    pub fn defers(&self, observation: &Observation, context: &Context<'_>) -> bool {
        let Origin::Event(signal) = &observation.origin else { return false };
        !self.sandbox_known
            && !observation.unreadable
            && observation.sandboxes.is_empty()
            && !self.records.contains_key(&signal.id)
            && context.may_be_new(observation)
            && (context.removed_at)(&signal.id).is_none()
    }

    /// The containers and sandboxes whose content was read longest ago, before `before`: at most `at_most`.
    pub fn unread_since(&self, before: Mono, at_most: usize) -> Vec<(Option<Mono>, ObjectId)> {
        let alive =
            |record: &Record| record.shown == Shown::Served && record.status.phase() == Some(Phase::Running);
        let alive = self.records.iter().filter(|(_, record)| alive(record) && record.whole < Some(before));
        let mut ids: Vec<_> = alive.map(|(id, record)| (record.whole, id)).collect();
        ids.sort_unstable();
        ids.into_iter().take(at_most).map(|(whole, id)| (whole, id.clone())).collect()
    }

    /// Whether something is served that is known to be gone, as its death may yet be told.
    pub fn awaits_deaths(&self) -> bool {
        self.records.values().any(|record| record.gone.is_some() && record.shown == Shown::Served)
    }

    /// The ids that readers are served.
    #[cfg(test)]
    pub fn served_ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.records.iter().filter(|(_, record)| record.shown == Shown::Served).map(|(id, _)| id)
    }

    /// What an id is, and the sandbox that a container is in.
    pub fn locate(&self, id: &str) -> Option<(Subject, ObjectId)> {
        Some(match &self.records.get(id)?.status {
            Status::Container(container) => (Subject::Container, container.sandbox_id.clone()),
            Status::Sandbox(sandbox) => (Subject::Sandbox, sandbox.id.clone()),
        })
    }

    /// Settles what a source says.
    pub fn settle(&mut self, observation: &Observation, context: &Context<'_>) -> Outcome {
        let out = Step::of(self, observation, context).through();
        if out.changed || !out.added.is_empty() {
            self.keep_of_sandbox();
        }
        out
    }

    /// The pod as it is served, none if nothing of it is. Its place in the journal is still to be written into it.
    pub fn served(&self) -> Option<Pod> {
        let mut sandboxes: Vec<(u64, &Arc<SandboxStatus>)> = Vec::new();
        let mut containers: Vec<(u64, &Arc<ContainerStatus>)> = Vec::new();
        for record in self.records.values().filter(|record| record.shown == Shown::Served) {
            match &record.status {
                Status::Sandbox(sandbox) => sandboxes.push((record.first_seen, sandbox)),
                Status::Container(container) => containers.push((record.first_seen, container)),
            }
        }
        if sandboxes.is_empty() && containers.is_empty() {
            return None;
        }
        sandboxes.sort_by_key(|(first_seen, sandbox)| sandbox_key(sandbox, *first_seen));
        let sandboxes: Vec<_> = sandboxes.into_iter().map(|(_, sandbox)| sandbox.clone()).collect();
        containers.sort_by_cached_key(|(first_seen, container)| {
            container_key(container, *first_seen, sandboxes.iter().map(Arc::as_ref))
        });
        let containers = containers.into_iter().map(|(_, container)| container.clone()).collect();
        let (identity, ips, labels) = (self.identity.clone(), self.ips.clone(), self.labels.clone());
        Some(Pod { identity, sandboxes, containers, ips, labels, sequence: 0 })
    }

    /// The newest sandbox says which labels the pod has and, unless it has ended and lost them, which addresses (kubelet
    /// `getPodIPs`).
    fn keep_of_sandbox(&mut self) {
        let Some(sandbox) = self.newest_sandbox().cloned() else { return };
        if !sandbox.labels.is_empty() && sandbox.labels != self.labels {
            self.labels = sandbox.labels.clone();
        }
        if !sandbox.ips.is_empty() || sandbox.state.phase() == Phase::Running {
            self.ips = sandbox.ips.clone();
        }
    }

    /// The newest sandbox that is served; while none is, the newest of which only the history is published.
    fn newest_sandbox(&self) -> Option<&Arc<SandboxStatus>> {
        let sandboxes = self.records.values().filter_map(|record| match &record.status {
            Status::Sandbox(sandbox) => {
                let history = record.shown == Shown::AsHistory;
                Some(((history, sandbox_key(sandbox, record.first_seen)), sandbox))
            }
            Status::Container(_) => None,
        });
        sandboxes.min_by_key(|(key, _)| *key).map(|(_, sandbox)| sandbox)
    }
}

// === impl Difference ===

impl Difference {
    /// All that a list has of a pod of which nothing is held.
    pub fn all_new(listed: &[ListedObject<'_>]) -> Self {
        Self { changed: listed.iter().map(|object| object.id.into()).collect(), absent: Vec::new() }
    }

    /// Without what was removed while the list, begun at `lower`, was under way.
    pub fn since(mut self, lower: Mono, removed_at: &dyn Fn(&ObjectId) -> Option<Mono>) -> Self {
        self.changed.retain(|id| removed_at(id).is_none_or(|at| at < lower));
        self
    }
}

// === impl Looks ===

impl Looks {
    const NONE: Self = Self { cause: ReadCause::Deletion, after: &[] };
}

// === impl Record ===

impl Record {
    fn new(status: Status, stamp: Stamp, whole: Option<Mono>, shown: Shown, first_seen: u64) -> Self {
        Self {
            status,
            reached: None,
            listed: BTreeSet::new(),
            stamp,
            whole,
            moved_back: false,
            unknown_at: None,
            dissent: None,
            gone: None,
            announced: None,
            looks: Looks::NONE,
            listed_at: None,
            first_seen,
            shown,
        }
    }

    /// A moment at which it had come no further than it is held, for certain.
    fn not_further_at(&self) -> Option<Mono> {
        self.stamp.lower.or(self.unknown_at)
    }

    /// Whether a list that shows it like this says what is held.
    fn agrees(&self, listed: &ListedObject<'_>) -> bool {
        let same_sandbox = match &self.status {
            Status::Container(container) => {
                listed.sandbox_id.is_none_or(|sandbox_id| container.sandbox_id.as_str() == sandbox_id)
            }
            Status::Sandbox(_) => true,
        };
        same_sandbox && self.status.phase() == listed.phase && self.shown == Shown::Served
    }

    /// A list that began at `lower` shows it as it is held: that knowledge is as young as the list, and a dissent of before
    /// stands alone.
    ///
    /// The list has only phases; so this says nothing for a reader who wants all content newer than some moment.
    fn confirm(&mut self, lower: Mono) {
        self.stamp = rules::advance(self.stamp, Stamp { lower: Some(lower), upper: lower });
        self.dissent.take_if(|dissent| dissent.upper <= lower);
    }

    /// A container that may still be told dead with its exit code; of a sandbox there is none.
    fn death_untold(&self) -> bool {
        self.status.subject() == Subject::Container && self.reached < Some(Phase::Exited)
    }
}

#[cfg(test)]
mod tests;
