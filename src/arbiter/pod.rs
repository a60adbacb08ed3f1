//! One pod: the records of its sandboxes and containers, and how an observation changes them.
//!
//! Pure, like the rules: time, tombstones and quirks come in with [`Context`]; changes, reads to request and ids to index go out with
//! [`Outcome`]. [`crate::arbiter::Arbiter`] calls it under the pod's lock.

mod apply;
mod saved;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub use self::apply::DEATH_GRACE_PERIOD;
use self::{
    apply::Application,
    saved::{SavedPod, SavedRecord},
};
use super::{
    read_request::ReadRequest,
    rules::{self, Held, PendingCorrection},
    transitions::Transition,
};
use crate::{
    clock::{Mono, Wall},
    cri::quirks::Quirks,
    model::{
        ContainerStatus, Detail, Interval, Labels, ObjectId, Observation, Phase, Pod, PodIdentity, ReadCause,
        SandboxStatus, Status, StreamEvent, Subject, Verdict,
        order::{container_key, sandbox_key},
    },
};

/// How many events of one pod wait at most.
const DEFERRED_LIMIT: usize = 1024;

/// The records of a pod. Readers get a [`Pod`].
#[derive(Clone, Debug)]
pub struct PodState {
    identity: PodIdentity,
    records: BTreeMap<ObjectId, Box<Record>>,
    /// Kept when the network of a finished pod is taken down.
    ips: Vec<String>,
    /// Kept when the sandbox is gone.
    labels: Labels,
    /// When the last read of the whole pod began: an id without a record was not there then.
    read_at: Option<Mono>,
    /// Whether a sandbox of the pod was ever observed, so that its labels are known.
    sandbox_known: bool,
    /// Ids without a record that an event reports as deleted, where the runtime sends DELETED early or a list shows the id: a read
    /// decides.
    reported_deleted: BTreeMap<ObjectId, (Subject, DeletionEvent)>,
    /// Events that wait for a read, in order: see [`PodState::defer`].
    deferred: Vec<Observation>,
    /// Number of the next id that is observed for the first time.
    next: u64,
    /// As written to the state on disk, if the state is kept there.
    saved: SavedPod,
}

/// The record of one id.
#[derive(Clone, Debug)]
struct Record {
    status: Status,
    /// Whether the status is from a stripped event or a list, so that a read is pending that completes it.
    is_partial: bool,
    /// The latest phase that was published. Differs from the status only while the runtime reports the state as unknown.
    published_phase: Option<Phase>,
    /// Phases in which lists have shown the id and that were not recorded then. They are published from a read; or, if the id is gone
    /// before it can be read, from this.
    phases_seen_in_lists: BTreeSet<Phase>,
    /// When the last of these was noted: only a read that began later contradicts it.
    phases_listed_at: Option<Mono>,
    interval: Interval,
    /// As [`Held::content_confirmed_at`].
    content_confirmed_at: Option<Mono>,
    /// As [`Held::was_corrected`].
    was_corrected: bool,
    /// When the last list or read began that did not have the id, if an event has shown it after that.
    last_absent_at: Option<Mono>,
    pending_correction: Option<PendingCorrection>,
    /// The id is gone, but its death is not published yet.
    awaited_death: Option<AwaitedDeath>,
    /// The event that reported its deletion.
    deletion_event: Option<DeletionEvent>,
    recheck_schedule: RecheckSchedule,
    /// When the last list began that shows it.
    listed_at: Option<Mono>,
    /// Order of the first observation.
    first_seen: u64,
    visibility: Visibility,
    /// As written to the state on disk.
    saved: Option<SavedRecord>,
}

/// Reads that are due for as long as an id stays as it is: its deletion was reported or is likely; its start may have failed; its reason
/// may change.
#[derive(Clone, Copy, Debug)]
struct RecheckSchedule {
    cause: ReadCause,
    /// How long after the read before each is due.
    after: &'static [Duration],
}

/// An id that is gone and whose death may still be reported.
#[derive(Clone, Copy, Debug)]
struct AwaitedDeath {
    since: Mono,
    removed_at: Mono,
}

/// An event that reports the deletion of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeletionEvent {
    /// The timestamp of the event, if it is valid.
    pub(super) stamped_at: Option<Wall>,
}

/// Whether an id is visible to readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    Served,
    /// A later list did not have the id any more: only its history is published.
    HistoryOnly,
}

/// The surroundings of a pod that the rules need.
pub struct Context<'a> {
    /// Now.
    pub now: Mono,
    /// When the journal began: earlier changes are not published from old events.
    pub began: Mono,
    /// An event about an id without a record that claims an earlier moment may be about an id whose tombstone was dropped.
    pub horizon: Mono,
    /// When the last complete list began that was reconciled: an id without a record was not in it.
    pub listed: Option<Mono>,
    /// When the complete list before that began.
    pub listed_before: Option<Mono>,
    /// Whether the records are of an earlier process: an id without a record is no initial inventory.
    pub restored: bool,
    /// Whether the runtime may yet replay the events of the time while plegd was down.
    pub awaits_replay: bool,
    /// Whether the stream is up, so that a missing death may still be reported.
    pub stream_up: bool,
    /// The runtime's quirks.
    pub quirks: &'a Quirks,
    /// What is known of ids without a record.
    pub known: &'a dyn KnownIds,
}

/// What is known of ids without a record.
pub trait KnownIds {
    /// When an id was removed, if it has a tombstone.
    fn removed_at(&self, id: &ObjectId) -> Option<Mono>;
    /// What lists show of an id while its first read is pending.
    fn unread(&self, id: &ObjectId) -> Option<Unread>;
}

/// An id that a list shows and that has no record yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// When the last complete list began that did not have it.
    pub absent: Option<Mono>,
    /// When the last one began that does.
    pub shown: Mono,
    /// The phases in which they show it.
    pub phases: BTreeSet<Phase>,
}

/// The result of an observation.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The changes to publish, in order.
    pub transitions: Vec<Transition>,
    /// The reads to request.
    pub reads: Vec<ReadRequest>,
    /// The verdict on each view, for the metrics.
    pub verdicts: Vec<Verdict>,
    /// Ids that have a record now, for the index.
    pub added: Vec<ObjectId>,
    /// Ids that are gone, and the moment after which only a new read can find them again.
    pub removed: Vec<(ObjectId, Mono)>,
    /// Whether the served pod may have changed.
    pub changed: bool,
}

/// One container or sandbox in a list.
#[derive(Clone, Copy, Debug)]
pub struct ListedObject<'a> {
    /// The id.
    pub id: &'a str,
    /// Its phase.
    pub phase: Option<Phase>,
    /// Of a container, the sandbox that it is in.
    pub sandbox_id: Option<&'a str>,
}

/// The difference of a list and the records of a pod.
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
    /// A pod without records.
    pub fn new(identity: PodIdentity) -> Self {
        let (records, ips, labels) = (BTreeMap::new(), Vec::new(), Labels::new());
        let (read_at, reported_deleted, deferred) = (None, BTreeMap::new(), Vec::new());
        let saved = SavedPod::default();
        Self {
            identity,
            records,
            ips,
            labels,
            read_at,
            sandbox_known: false,
            reported_deleted,
            deferred,
            next: 0,
            saved,
        }
    }

    /// The pod's identity.
    pub fn identity(&self) -> &PodIdentity {
        &self.identity
    }

    /// Whether nothing is recorded of it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.reported_deleted.is_empty() && self.deferred.is_empty()
    }

    /// When the last read of the whole pod began.
    pub fn read_at(&self) -> Option<Mono> {
        self.read_at
    }

    /// The whole pod was read, in a read that began at `lower`.
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

    /// Reconciles a list, begun at `lower`, with the records at `now`: a record that agrees becomes as young as the list.
    pub fn reconcile_list(&mut self, lower: Mono, now: Mono, listed: &[ListedObject<'_>]) -> Difference {
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
                record.phases_seen_in_lists.extend(object.phase);
                record.phases_listed_at = Some(now);
            }
        }
        let absent =
            |record: &Record| record.visibility == Visibility::Served && record.listed_at != Some(lower);
        let absent = self.records.iter().filter(|(_, record)| absent(record)).map(|(id, _)| id.clone());
        difference.absent.extend(absent);
        difference
    }

    /// The phase of an id that is served and not known to be gone.
    pub fn served_phase(&self, id: &str) -> Option<Phase> {
        let record = self.records.get(id)?;
        if record.visibility == Visibility::Served && record.awaited_death.is_none() {
            record.status.phase()
        } else {
            None
        }
    }

    /// Whether the content of an id was read at or after a moment.
    pub fn is_content_read_since(&self, id: &str, moment: Mono) -> bool {
        self.records.get(id).is_some_and(|record| record.content_confirmed_at >= Some(moment))
    }

    /// Whether events wait for a read.
    pub fn is_deferring(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Keeps an event that has to wait for a read of its id, and returns whether it has: it is about an id without a record, and no sandbox
    /// of the pod was ever observed with its labels. The event has none: it shows no sandbox, or was stripped in the queue. A subscriber
    /// that filters by label would miss the start. An event of an id of which another one waits has to wait as well, whatever it shows.
    pub fn defer(&mut self, observation: &Observation, context: &Context<'_>) -> bool {
        let Some(event) = &observation.stream_event else { return false };
        let has_no_labels = || {
            !self.sandbox_known
                && (observation.sandboxes.is_empty() || observation.detail == Detail::Minimal)
                && !self.records.contains_key(&event.id)
                && context.may_be_new(observation)
                && context.known.removed_at(&event.id).is_none()
                && self.deferred.len() < DEFERRED_LIMIT
        };
        let waits = is_about_one_of(event, &self.deferred) || has_no_labels();
        if waits {
            self.deferred.push(observation.clone());
        }
        waits
    }

    /// The events that need not wait any longer, in order: those that show a sandbox which is `seen` with its labels; all if a sandbox of
    /// the pod is known; and those of ids whose read is `done`.
    pub fn take_deferred(
        &mut self,
        seen: &[Arc<SandboxStatus>],
        done: &BTreeSet<ObjectId>,
    ) -> Vec<Observation> {
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for mut observation in std::mem::take(&mut self.deferred) {
            let Some(event) = &observation.stream_event else { continue };
            let has_labels = self.sandbox_known | take_labels(&mut observation.sandboxes, seen);
            if (has_labels || done.contains(&event.id)) && !is_about_one_of(event, &waiting) {
                ready.push(Observation { unreadable: !has_labels, ..observation });
            } else {
                waiting.push(observation);
            }
        }
        self.deferred = waiting;
        ready
    }

    /// The containers and sandboxes whose content was read the longest time ago, before `before`: at most `at_most`.
    pub fn unread_since(&self, before: Mono, at_most: usize) -> Vec<ObjectId> {
        let alive = |record: &Record| {
            record.visibility == Visibility::Served && record.status.phase() == Some(Phase::Running)
        };
        let alive = self
            .records
            .iter()
            .filter(|(_, record)| alive(record) && record.content_confirmed_at < Some(before));
        let mut ids: Vec<_> = alive.map(|(id, record)| (record.content_confirmed_at, id)).collect();
        ids.sort_unstable();
        ids.into_iter().take(at_most).map(|(_, id)| id.clone()).collect()
    }

    /// Whether an id is served that is known to be gone, because its death may still be reported.
    pub fn awaits_deaths(&self) -> bool {
        self.records
            .values()
            .any(|record| record.awaited_death.is_some() && record.visibility == Visibility::Served)
    }

    /// The ids that readers are served.
    #[cfg(test)]
    pub fn served_ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.records.iter().filter(|(_, record)| record.visibility == Visibility::Served).map(|(id, _)| id)
    }

    /// The type of an id, and the sandbox that a container is in.
    pub fn locate(&self, id: &str) -> Option<(Subject, ObjectId)> {
        Some(match &self.records.get(id)?.status {
            Status::Container(container) => (Subject::Container, container.sandbox_id.clone()),
            Status::Sandbox(sandbox) => (Subject::Sandbox, sandbox.id.clone()),
        })
    }

    /// Applies an observation.
    pub fn apply(&mut self, observation: &Observation, context: &Context<'_>) -> Outcome {
        let out = Application::of(observation, context).run(self);
        if out.changed || !out.added.is_empty() {
            self.inherit_from_newest_sandbox();
        }
        out
    }

    /// The pod for readers; none if no id is served. The journal sets its sequence number.
    pub fn served(&self) -> Option<Pod> {
        let mut sandboxes: Vec<(u64, &Arc<SandboxStatus>)> = Vec::new();
        let mut containers: Vec<(u64, &Arc<ContainerStatus>)> = Vec::new();
        for record in self.records.values().filter(|record| record.visibility == Visibility::Served) {
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

    /// The pod has the labels of its newest sandbox and, unless that has ended and lost them, its addresses (kubelet `getPodIPs`).
    fn inherit_from_newest_sandbox(&mut self) {
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
                let history = record.visibility == Visibility::HistoryOnly;
                Some(((history, sandbox_key(sandbox, record.first_seen)), sandbox))
            }
            Status::Container(_) => None,
        });
        sandboxes.min_by_key(|(key, _)| *key).map(|(_, sandbox)| sandbox)
    }
}

/// Whether one of these events is about the same id.
fn is_about_one_of(event: &StreamEvent, others: &[Observation]) -> bool {
    others.iter().any(|other| other.stream_event.as_ref().is_some_and(|other| other.id == event.id))
}

/// Gives sandboxes the labels that are seen elsewhere, and returns whether there are such.
fn take_labels(sandboxes: &mut [Arc<SandboxStatus>], seen: &[Arc<SandboxStatus>]) -> bool {
    let mut any = false;
    for sandbox in sandboxes {
        if let Some(seen) = seen.iter().find(|seen| seen.id == sandbox.id) {
            let sandbox = Arc::make_mut(sandbox);
            (sandbox.labels, sandbox.annotations) = (seen.labels.clone(), seen.annotations.clone());
            any = true;
        }
    }
    any
}

// === impl Difference ===

impl Difference {
    /// All that a list has of a pod without records.
    pub fn all_new(listed: &[ListedObject<'_>]) -> Self {
        Self { changed: listed.iter().map(|object| object.id.into()).collect(), absent: Vec::new() }
    }

    /// Without the ids that were removed while the list, begun at `lower`, was running.
    pub fn without_removed_during(
        mut self,
        lower: Mono,
        removed_at: &dyn Fn(&ObjectId) -> Option<Mono>,
    ) -> Self {
        self.changed.retain(|id| removed_at(id).is_none_or(|at| at < lower));
        self
    }
}

// === impl RecheckSchedule ===

impl RecheckSchedule {
    const NONE: Self = Self { cause: ReadCause::Deletion, after: &[] };
}

// === impl Record ===

impl Record {
    fn new(
        status: Status,
        interval: Interval,
        content_confirmed_at: Option<Mono>,
        visibility: Visibility,
        first_seen: u64,
    ) -> Self {
        Self {
            status,
            is_partial: false,
            published_phase: None,
            phases_seen_in_lists: BTreeSet::new(),
            phases_listed_at: None,
            interval,
            content_confirmed_at,
            was_corrected: false,
            last_absent_at: None,
            pending_correction: None,
            awaited_death: None,
            deletion_event: None,
            recheck_schedule: RecheckSchedule::NONE,
            listed_at: None,
            first_seen,
            visibility,
            saved: None,
        }
    }

    /// The part that the rules need.
    fn held(&self) -> Held {
        Held {
            published_phase: self.published_phase,
            interval: self.interval,
            content_confirmed_at: self.content_confirmed_at,
            was_corrected: self.was_corrected,
            pending_correction: self.pending_correction,
        }
    }

    /// A moment at which the id had certainly no later phase than its record.
    fn last_confirmed_at(&self) -> Option<Mono> {
        self.interval.lower.or(self.last_absent_at)
    }

    /// Whether a list agrees with the record.
    fn agrees(&self, listed: &ListedObject<'_>) -> bool {
        let same_sandbox = match &self.status {
            Status::Container(container) => {
                listed.sandbox_id.is_none_or(|sandbox_id| container.sandbox_id.as_str() == sandbox_id)
            }
            Status::Sandbox(_) => true,
        };
        same_sandbox && self.status.phase() == listed.phase && self.visibility == Visibility::Served
    }

    /// A list that began at `lower` agrees with the record, which becomes as young as the list. An older pending correction is dropped.
    ///
    /// The list has only phases: this says nothing for a reader who wants all content newer than some moment.
    fn confirm(&mut self, lower: Mono) {
        self.interval = rules::advance(self.interval, Interval { lower: Some(lower), upper: lower });
        self.pending_correction.take_if(|pending| pending.read_ended <= lower);
    }

    /// Ends a schedule of reads that began for this cause.
    fn cancel_recheck(&mut self, cause: ReadCause) {
        if self.recheck_schedule.cause == cause {
            self.recheck_schedule = RecheckSchedule::NONE;
        }
    }

    /// Whether a container's death may still be published with its exit code; a sandbox has none.
    fn is_death_unpublished(&self) -> bool {
        self.status.subject() == Subject::Container && self.published_phase < Some(Phase::Exited)
    }
}

#[cfg(test)]
mod tests;
