//! The records of a pod in the state on disk: which of them have changed since they were written, and how they are read back.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    AwaitedDeath, DeletionEvent, PodState, RecheckSchedule, Record, Visibility,
    apply::{OOM_CHECK, OOM_CHECKS, OOM_SETTLED, RECHECK_AFTER_DELETED, START_CHECK, START_CHECKS},
};
use crate::{
    arbiter::read_request::ReadRequest,
    clock::{Mono, Wall},
    model::{Interval, Labels, ObjectId, Phase, PodIdentity, ReadCause, Status, Subject},
    state::messages::{self, object},
};

/// The part of a pod that belongs to no single id, and the ids with a record, as they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct SavedPod {
    ids: BTreeSet<ObjectId>,
    common: Option<messages::Common>,
    labels: Labels,
}

/// The part of a record that outlives the process, as it was written.
#[derive(Clone, Debug)]
pub(super) struct SavedRecord {
    status: Status,
    is_partial: bool,
    published: Option<Phase>,
    listed: BTreeSet<Phase>,
    was_corrected: bool,
    awaits_death: bool,
    deletion_event: Option<DeletionEvent>,
    visibility: Visibility,
}

// === impl SavedRecord ===

impl SavedRecord {
    fn of(record: &Record) -> Self {
        Self {
            status: record.status.clone(),
            is_partial: record.is_partial,
            published: record.published_phase,
            listed: record.phases_seen_in_lists.clone(),
            was_corrected: record.was_corrected,
            awaits_death: record.awaited_death.is_some(),
            deletion_event: record.deletion_event,
            visibility: record.visibility,
        }
    }

    fn has_status_of(&self, record: &Record) -> bool {
        match (&self.status, &record.status) {
            (Status::Container(saved), Status::Container(held)) => Arc::ptr_eq(saved, held),
            (Status::Sandbox(saved), Status::Sandbox(held)) => Arc::ptr_eq(saved, held),
            _ => false,
        }
    }

    fn is_of(&self, record: &Record) -> bool {
        self.has_status_of(record)
            && self.is_partial == record.is_partial
            && self.published == record.published_phase
            && self.was_corrected == record.was_corrected
            && self.awaits_death == record.awaited_death.is_some()
            && self.deletion_event == record.deletion_event
            && self.visibility == record.visibility
            && self.listed == record.phases_seen_in_lists
    }
}

// === impl PodState ===

impl PodState {
    /// What has changed since the last call; none if nothing has. Identity and numbers are the caller's.
    pub fn take_unsaved(&mut self) -> Option<messages::Pod> {
        let mut objects = Vec::new();
        for (id, record) in &mut self.records {
            if record.saved.as_ref().is_some_and(|saved| saved.is_of(record)) {
                continue;
            }
            let has_status = record.saved.as_ref().is_some_and(|saved| saved.has_status_of(record));
            let status = (!has_status).then(|| saved_status(record, &self.identity));
            objects.push(object(id, record, status));
            record.saved = Some(SavedRecord::of(record));
            self.saved.ids.insert(id.clone());
        }
        let records = &self.records;
        let mut dropped = Vec::new();
        if self.saved.ids.len() > records.len() {
            self.saved.ids.retain(|id| {
                records.contains_key(id) || {
                    dropped.push(id.to_string());
                    false
                }
            });
        }
        let common = self.take_unsaved_common();
        let is_changed = !objects.is_empty() || !dropped.is_empty() || common.is_some();
        is_changed.then(|| messages::Pod { objects, dropped, common, ..messages::Pod::default() })
    }

    /// All records, for a checkpoint. Later calls of [`PodState::take_unsaved`] return what has changed since then.
    pub fn save_all(&mut self) -> messages::Pod {
        self.saved = SavedPod::default();
        self.records.values_mut().for_each(|record| record.saved = None);
        self.take_unsaved().unwrap_or_default()
    }

    fn take_unsaved_common(&mut self) -> Option<messages::Common> {
        let is_same = |saved: &messages::Common| {
            self.saved.labels.is_shared_with(&self.labels)
                && saved.ips == self.ips
                && saved.sandbox_known == self.sandbox_known
                && saved.reported_deleted.len() == self.reported_deleted.len()
                && (saved.reported_deleted.iter().zip(self.reported_deleted.keys()))
                    .all(|(saved, id)| saved.id == id.as_str())
        };
        if self.saved.common.as_ref().is_some_and(is_same) {
            return None;
        }
        let reported =
            |(id, (subject, event)): (&ObjectId, &(Subject, DeletionEvent))| messages::ReportedDeleted {
                id: id.to_string(),
                is_sandbox: *subject == Subject::Sandbox,
                stamped_at: event.stamped_at.map(Wall::as_nanos),
            };
        let common = messages::Common {
            labels: messages::map(&self.labels),
            ips: self.ips.clone(),
            sandbox_known: self.sandbox_known,
            reported_deleted: self.reported_deleted.iter().map(reported).collect(),
        };
        self.saved.labels = self.labels.clone();
        self.saved.common = Some(messages::Common { labels: Default::default(), ..common.clone() });
        Some(common)
    }

    /// Applies what an earlier process has written. All that it says was true at `started`, when this process was started, or earlier.
    pub fn load(&mut self, pod: &messages::Pod, started: Mono) {
        for object in &pod.objects {
            self.load_object(object, started);
        }
        for id in &pod.dropped {
            self.records.remove(id.as_str());
        }
        let Some(common) = &pod.common else { return };
        self.labels = common.labels.iter().collect();
        self.ips = common.ips.clone();
        self.sandbox_known = common.sandbox_known;
        let reported = |it: &messages::ReportedDeleted| {
            let subject = if it.is_sandbox { Subject::Sandbox } else { Subject::Container };
            (
                it.id.as_str().into(),
                (subject, DeletionEvent { stamped_at: it.stamped_at.map(Wall::from_nanos) }),
            )
        };
        self.reported_deleted = common.reported_deleted.iter().map(reported).collect();
    }

    fn load_object(&mut self, object: &messages::Object, started: Mono) {
        let id: ObjectId = object.id.as_str().into();
        let known = self.records.get(&id).map(|record| record.status.clone());
        let status = match &object.status {
            Some(object::Status::Container(container)) => {
                let before = known.as_ref().and_then(Status::as_container);
                container.to_model(&id, before).map(Status::Container)
            }
            Some(object::Status::Sandbox(sandbox)) => {
                Some(Status::Sandbox(sandbox.to_model(&id, &self.identity)))
            }
            None => known,
        };
        // Without a status, the one that was written before is damaged: the first relist finds the id anew.
        let Some(status) = status else { return };
        let visibility = if object.history_only { Visibility::HistoryOnly } else { Visibility::Served };
        let interval = Interval { lower: None, upper: started };
        let mut record = Record::new(status, interval, None, visibility, object.first_seen);
        record.is_partial = object.is_partial;
        record.published_phase = messages::phase(object.published());
        record.phases_seen_in_lists = object.listed().filter_map(messages::phase).collect();
        record.was_corrected = object.was_corrected;
        record.awaited_death =
            object.awaits_death.then_some(AwaitedDeath { since: started, removed_at: started });
        record.deletion_event =
            object.is_deleted.then(|| DeletionEvent { stamped_at: object.deleted_at.map(Wall::from_nanos) });
        self.next = self.next.max(object.first_seen.saturating_add(1));
        self.records.insert(id, Box::new(record));
    }

    /// The reads that an earlier process, which ended at `ended`, would have requested, and that nothing else requests: of ids whose end was
    /// reported or is likely and not published, of partial statuses, of containers whose start may have failed, and of exits just before
    /// `ended`, whose reason may change.
    pub fn resume_reads(&mut self, ended: Wall) -> Vec<ReadRequest> {
        let of_reported = |id: &ObjectId| ReadRequest::of_id(id, ReadCause::Deletion, Duration::ZERO);
        let mut reads: Vec<_> = self.reported_deleted.keys().map(of_reported).collect();
        for (id, record) in &mut self.records {
            if let Some((schedule, first)) = record.resume_rechecks(ended) {
                record.recheck_schedule = schedule;
                reads.push(ReadRequest::of_id(id, schedule.cause, first));
            }
        }
        reads
    }
}

impl Record {
    fn resume_rechecks(&self, ended: Wall) -> Option<(RecheckSchedule, Duration)> {
        let schedule = |cause, after| RecheckSchedule { cause, after };
        let is_undecided = self.visibility == Visibility::HistoryOnly || self.awaited_death.is_some();
        if is_undecided || self.deletion_event.is_some() {
            return Some((schedule(ReadCause::Deletion, RECHECK_AFTER_DELETED), Duration::ZERO));
        }
        let complete = self.is_partial.then_some((schedule(ReadCause::Content, &[]), Duration::ZERO));
        let Status::Container(container) = &self.status else { return complete };
        let is_recent = || container.finished_at.is_some_and(|at| ended.seconds_since(at) < OOM_SETTLED);
        match container.state.phase() {
            Some(Phase::Created) => Some((schedule(ReadCause::Start, START_CHECKS), START_CHECK)),
            Some(Phase::Exited) if is_recent() => Some((schedule(ReadCause::Oom, OOM_CHECKS), OOM_CHECK)),
            _ => complete,
        }
    }
}

fn saved_status(record: &Record, pod: &PodIdentity) -> object::Status {
    let written = record.saved.as_ref().and_then(|saved| saved.status.as_container());
    match &record.status {
        Status::Container(container) => {
            object::Status::Container(messages::Container::of(container, written))
        }
        Status::Sandbox(sandbox) => object::Status::Sandbox(messages::Sandbox::of(sandbox, pod)),
    }
}

fn object(id: &ObjectId, record: &Record, status: Option<object::Status>) -> messages::Object {
    messages::Object {
        id: id.to_string(),
        status,
        published: messages::of_phase(record.published_phase).into(),
        listed: record
            .phases_seen_in_lists
            .iter()
            .map(|phase| messages::of_phase(Some(*phase)).into())
            .collect(),
        was_corrected: record.was_corrected,
        awaits_death: record.awaited_death.is_some(),
        is_deleted: record.deletion_event.is_some(),
        deleted_at: record.deletion_event.and_then(|event| event.stamped_at).map(Wall::as_nanos),
        first_seen: record.first_seen,
        is_partial: record.is_partial,
        history_only: record.visibility == Visibility::HistoryOnly,
    }
}
