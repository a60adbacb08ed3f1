//! One pod: what is held of its sandboxes and containers, and how an observation changes it.
//!
//! Pure, like the rules: time, tombstones and quirks come in with [`Context`]; what is to be told, read and remembered
//! goes out with [`Outcome`]. The shell in [`crate::arbiter`] calls it under the pod's lock.

mod step;

use std::{
    cmp::Reverse,
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
        ContainerStatus, Labels, ObjectId, Observation, Phase, Pod, PodIdentity, Ruling, SandboxStatus,
        Stamp, Status, Subject,
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
    /// Looks that are still due because its deletion was announced or is likely.
    looks: &'static [Duration],
    shown: Shown,
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
    /// When the last complete list began that the cache has taken in: an id that is unknown was not in it.
    pub listed: Option<Mono>,
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
}

/// How a list differs from what is held of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ids that are new or in another phase: to be read.
    pub changed: BTreeSet<ObjectId>,
    /// Ids that the list does not have.
    pub absent: Vec<ObjectId>,
}

// === impl PodState ===

impl PodState {
    /// A pod of which nothing is held yet.
    pub fn new(identity: PodIdentity) -> Self {
        Self { identity, records: BTreeMap::new(), ips: Vec::new(), labels: Labels::new(), read_at: None }
    }

    /// Whether nothing is held of it (any more).
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Which pod.
    pub fn identity(&self) -> &PodIdentity {
        &self.identity
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
        let mut agreeing = 0;
        for object in listed {
            match self.records.get_mut(object.id) {
                Some(record) if record.agrees(object.phase) => {
                    agreeing += 1;
                    record.confirm(lower);
                }
                held => {
                    difference.changed.insert(object.id.into());
                    if let Some(record) = held {
                        record.listed.extend(object.phase);
                    }
                }
            }
        }
        if agreeing < self.served_ids().count() {
            let there = |id: &&ObjectId| !listed.iter().any(|object| object.id == id.as_str());
            difference.absent.extend(self.served_ids().filter(there).cloned());
        }
        difference
    }

    /// Whether something is served that is known to be gone, as its death may yet be told.
    pub fn awaits_deaths(&self) -> bool {
        self.records.values().any(|record| record.gone.is_some() && record.shown == Shown::Served)
    }

    /// The ids that readers are served.
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

    /// The sandbox that a container of this pod is in if nothing else is known: the newest.
    pub fn newest_sandbox(&self) -> Option<ObjectId> {
        Some(self.sandboxes().max_by_key(|sandbox| (sandbox.attempt, sandbox.created_at))?.id.clone())
    }

    /// Settles what a source says.
    pub fn settle(&mut self, observation: &Observation, context: &Context<'_>) -> Outcome {
        let out = Step::of(self, observation, context).through();
        if out.changed {
            self.keep_of_sandbox();
        }
        out
    }

    /// The pod as it is served, none if nothing of it is. Its place in the journal is still to be written into it.
    pub fn served(&self) -> Option<Pod> {
        let mut sandboxes: Vec<Arc<SandboxStatus>> = Vec::new();
        let mut containers: Vec<Arc<ContainerStatus>> = Vec::new();
        for record in self.records.values().filter(|record| record.shown == Shown::Served) {
            match &record.status {
                Status::Sandbox(sandbox) => sandboxes.push(sandbox.clone()),
                Status::Container(container) => containers.push(container.clone()),
            }
        }
        if sandboxes.is_empty() && containers.is_empty() {
            return None;
        }
        sandboxes.sort_by_key(|sandbox| Reverse((sandbox.attempt, sandbox.created_at)));
        containers.sort_by_key(|container| Reverse(container.created_at));
        let (identity, ips, labels) = (self.identity.clone(), self.ips.clone(), self.labels.clone());
        Some(Pod { identity, sandboxes, containers, ips, labels, sequence: 0 })
    }

    /// The newest sandbox says which labels the pod has and, unless it has ended and lost them, which addresses (kubelet
    /// `getPodIPs`).
    fn keep_of_sandbox(&mut self) {
        let newest = self.sandboxes().max_by_key(|sandbox| (sandbox.attempt, sandbox.created_at));
        let Some(sandbox) = newest.cloned() else { return };
        if !sandbox.labels.is_empty() && sandbox.labels != self.labels {
            self.labels = sandbox.labels.clone();
        }
        if !sandbox.ips.is_empty() || sandbox.state.phase() == Phase::Running {
            self.ips = sandbox.ips.clone();
        }
    }

    fn sandboxes(&self) -> impl Iterator<Item = &Arc<SandboxStatus>> {
        self.records.values().filter_map(|record| match &record.status {
            Status::Sandbox(sandbox) if record.shown == Shown::Served => Some(sandbox),
            _ => None,
        })
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

// === impl Record ===

impl Record {
    fn new(status: Status, stamp: Stamp, shown: Shown) -> Self {
        let (reached, unknown_at, dissent, gone, announced) = (None, None, None, None, None);
        let (whole, listed, looks) = (stamp.lower, BTreeSet::new(), &[] as &[Duration]);
        let moved_back = false;
        Self {
            status,
            reached,
            listed,
            stamp,
            whole,
            moved_back,
            unknown_at,
            dissent,
            gone,
            announced,
            looks,
            shown,
        }
    }

    /// A moment at which it had come no further than it is held, for certain.
    fn not_further_at(&self) -> Option<Mono> {
        self.stamp.lower.or(self.unknown_at)
    }

    /// Whether a list that shows it in this phase says what is held.
    fn agrees(&self, phase: Option<Phase>) -> bool {
        self.status.phase() == phase && self.shown == Shown::Served
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
