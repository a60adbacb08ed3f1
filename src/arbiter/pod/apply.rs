//! Applies one observation to a pod: status by status, then the absent ids, then what the event itself says.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{AwaitedDeath, Context, DeletionEvent, Outcome, PodState, RecheckSchedule, Record, Visibility};
use crate::{
    arbiter::{
        read_request::{ReadRequest, Scope},
        rules::{self, Consequence, Content, Judgement, View},
        transitions::{self, Transition},
    },
    clock::Mono,
    cri::quirks::Quirk,
    model::{
        ContainerStatus, Detail, Interval, ObjectId, Observation, Origin, Phase, ReadCause, Status,
        StreamEvent, StreamEventType, Subject, Verdict,
    },
};

/// How many ids of one pod are remembered that have no record and that an event reports as deleted: a read of each is pending.
const REPORTED_DELETED_LIMIT: usize = 1024;
/// How long a removal waits for the death, if that was not published: STOPPED may arrive just after DELETED.
pub const DEATH_GRACE_PERIOD: Duration = Duration::from_millis(150);
/// How long after its creation a container that was not started is read, and how long after each such read again: a start that
/// failed sends no event (0.5, 1.25, 2, 3, 4 and 5 s after the creation; a start cancels the rest).
pub(super) const START_CHECK: Duration = Duration::from_millis(500);
pub(super) const START_CHECKS: &[Duration] = &[
    Duration::from_millis(750),
    Duration::from_millis(750),
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(1),
];
/// How long after an exit the container is read again, and once more after that: its reason may have turned into OOMKilled without
/// an event, whatever its exit code (kubernetes#104454, containerd#12260).
pub(super) const OOM_CHECK: Duration = Duration::from_millis(1500);
pub(super) const OOM_CHECKS: &[Duration] = &[Duration::from_millis(3500)];
/// The reason of an exit that is older than this, in seconds, does not change any more.
pub(super) const OOM_SETTLED: f64 = 10.0;
/// When an id that was reported as deleted is read again, as long as it is still there.
pub(super) const RECHECK_AFTER_DELETED: &[Duration] =
    &[Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
/// When an absent id is read again, if a list's view of it is not applied yet: the read that has the view is in the queue.
const UNREAD_RECHECK: Duration = Duration::from_millis(200);
/// When a container whose sandbox is gone is read again, as long as it is still there: CRI-O removes the containers of a pod without
/// an event.
const RECHECK_AFTER_SANDBOX_GONE: &[Duration] = &[Duration::from_millis(200), Duration::from_millis(800)];
/// When a stopped sandbox is read again on a runtime that removes sandboxes without an event.
const RECHECK_AFTER_STOPPED: &[Duration] = &[
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// The application of one observation to a pod.
pub(super) struct Application<'a> {
    observation: &'a Observation,
    context: &'a Context<'a>,
    /// Ids for which this observation began a schedule of reads.
    scheduled: Vec<ObjectId>,
    out: Outcome,
}

/// A death was published for which a removal waits: when the id was removed.
type RemovalDue = Option<Mono>;

// === impl Application ===

impl<'a> Application<'a> {
    pub(super) fn of(observation: &'a Observation, context: &'a Context<'a>) -> Self {
        Self { observation, context, scheduled: Vec::new(), out: Outcome::default() }
    }

    pub(super) fn run(mut self, pod: &mut PodState) -> Outcome {
        let Observation { sandboxes, containers, stream_event, .. } = self.observation;
        // A sandbox exists before its containers and ends after them.
        let (ready, ending): (Vec<_>, Vec<_>) =
            sandboxes.iter().partition(|sandbox| sandbox.state.phase() != Phase::Exited);
        let mut containers: Vec<_> = containers.iter().collect();
        containers.sort_by_key(|container| (container.attempt, container.created_at));
        ready.into_iter().for_each(|sandbox| self.apply_status(pod, Status::Sandbox(sandbox.clone())));
        containers.into_iter().for_each(|it| self.apply_status(pod, Status::Container(it.clone())));
        ending.into_iter().for_each(|sandbox| self.apply_status(pod, Status::Sandbox(sandbox.clone())));
        self.absent_in_order(pod).iter().for_each(|id| self.apply_absence(pod, id));
        if let Some(event) = stream_event {
            self.apply_stream_event(pod, event);
        }
        self.out
    }

    fn origin(&self) -> Origin {
        self.observation.origin
    }

    /// When the content of this observation was certainly true: a list shows phases alone.
    fn content_confirmed_at(&self) -> Option<Mono> {
        self.observation.interval.lower.filter(|_| self.observation.detail == Detail::Full)
    }

    /// Whether the first event of an id is initial inventory: the first relist found it, or an event shows it before the first list
    /// and is not about it.
    fn is_initial(&self, id: &ObjectId) -> bool {
        let is_beside =
            || self.origin() == Origin::Event && self.context.listed.is_none() && self.event_of(id).is_none();
        !self.context.restored && (self.observation.initial.contains(id) || is_beside())
    }

    /// The event, if the observation is one and about this very id.
    fn event_of(&self, id: &ObjectId) -> Option<&StreamEvent> {
        self.observation.stream_event.as_ref().filter(|event| event.id == *id)
    }

    /// When an id was removed, if it was: by this observation, or earlier.
    fn removed_at(&self, id: &ObjectId) -> Option<Mono> {
        let just_now = self.out.removed.iter().find(|(removed, _)| removed == id).map(|(_, at)| *at);
        just_now.or_else(|| self.context.known.removed_at(id))
    }

    /// Absent containers before absent sandboxes.
    fn absent_in_order(&self, pod: &PodState) -> Vec<ObjectId> {
        let is_sandbox = |id: &ObjectId| {
            pod.records.get(id).is_some_and(|record| record.status.subject() == Subject::Sandbox)
        };
        let mut absent = self.observation.absent.clone();
        absent.sort_by_key(is_sandbox);
        absent
    }

    fn apply_status(&mut self, pod: &mut PodState, status: Status) {
        let id = status.id().clone();
        let removal_due = match pod.records.get_mut(&id) {
            Some(record) => self.apply_to_known(record, status),
            None => return self.apply_to_unknown(pod, &id, status),
        };
        if let Some(removed_at) = removal_due {
            self.remove(pod, &id, removed_at);
        }
    }

    fn apply_to_unknown(&mut self, pod: &mut PodState, id: &ObjectId, status: Status) {
        let interval = self.observation.interval;
        let removed_at = self.removed_at(id);
        if removed_at.is_some_and(|at| !rules::lifts_tombstone(at, self.origin(), interval)) {
            return self.count(Verdict::Tombstoned);
        }
        let unread = self.context.known.unread(id);
        let (mut visibility, mut last_absent_at) = (Visibility::Served, None);
        if self.origin() == Origin::Event {
            let claimed = self.observation.claimed;
            if !self.context.may_be_new(self.observation) {
                return self.count(Verdict::BeforeStart);
            }
            let absent_at = match &unread {
                Some(unread) if pod.read_at < Some(unread.shown) => unread.absent,
                _ => self.context.listed.max(pod.read_at),
            };
            if rules::is_before(claimed, Interval { lower: absent_at, upper: self.context.now }) {
                // A list or a read of the whole pod that began later did not have the id: it came and went before that, and only its
                // history is left to publish.
                visibility = Visibility::HistoryOnly;
                self.request_read(id, ReadCause::Undecided, Duration::ZERO);
            } else if absent_at.is_some_and(|absent_at| claimed < absent_at) {
                // Within the margin: the id may be younger than the list, or gone.
                self.request_read(id, ReadCause::Undecided, Duration::ZERO);
            } else {
                last_absent_at = absent_at;
                if self.observation.detail == Detail::Minimal {
                    self.request_read(id, ReadCause::Hint, Duration::ZERO);
                }
            }
        }
        self.count(if visibility == Visibility::Served { Verdict::New } else { Verdict::HistoryOnly });
        self.out.added.push(id.clone());
        self.out.changed |= visibility == Visibility::Served;
        pod.sandbox_known |= status.subject() == Subject::Sandbox;

        let first_seen = pod.next;
        pod.next += 1;
        let deletion_event = pod.reported_deleted.remove(id).map(|(_, event)| event);
        let content_confirmed_at = self.content_confirmed_at();
        let new = Record::new(status.clone(), interval, content_confirmed_at, visibility, first_seen);
        let record = pod.records.entry(id.clone()).or_insert(Box::new(new));
        (record.last_absent_at, record.deletion_event) = (last_absent_at, deletion_event);
        record.is_partial = self.observation.detail == Detail::Minimal;
        // A later list may have shown more than this view.
        if let Some(unread) = &unread {
            record.phases_seen_in_lists = unread.phases.clone();
            record.phases_listed_at = Some(self.context.now);
        }
        let before = self.out.transitions.len();
        self.publish_move(record, None, None, &status);
        if deletion_event.is_some() {
            let (first, then) = (RECHECK_AFTER_DELETED[0], &RECHECK_AFTER_DELETED[1..]);
            self.schedule_recheck(record, ReadCause::Deletion, first, then);
        }
        let absent_at = unread.as_ref().map_or(self.context.listed_before, |unread| unread.absent);
        // One that came and went before the last list may have come before the list before that, too.
        let absent_at = absent_at.filter(|_| visibility == Visibility::Served);
        let (initial, after) = (self.is_initial(id), last_absent_at.or(absent_at));
        for transition in &mut self.out.transitions[before..] {
            // The stream reported it before the removal, which was wrong.
            transition.has_no_stream_event |= removed_at.is_some();
            transition.initial = initial;
            transition.after = transition.after.or(after);
        }
    }

    fn apply_to_known(&mut self, record: &mut Record, status: Status) -> RemovalDue {
        let last_seen_without_it = record.last_confirmed_at();
        let status = merge(&record.status, status, self.origin(), self.observation.detail);
        let Judgement { verdict, consequence } = self.judge(record, &status);
        self.count(verdict);
        match consequence {
            Consequence::None | Consequence::MovedBack => {}
            Consequence::Read => self.request_read(status.id(), ReadCause::Undecided, Duration::ZERO),
            Consequence::ReadToCorrect(pending) => {
                record.pending_correction = Some(pending);
                self.request_read(status.id(), ReadCause::Undecided, Duration::ZERO);
            }
        }
        if self.origin() == Origin::Status && self.observation.interval.lower >= record.phases_listed_at {
            // What lists showed before is contradicted.
            record.phases_seen_in_lists.retain(|phase| Some(*phase) <= status.phase());
        }
        let mut removal_due = None;
        match verdict {
            Verdict::Forward if consequence == Consequence::MovedBack => {
                record.was_corrected = true;
                self.replace_status(record, status.clone());
                // No runtime has an event for this, so that the stream is not to blame.
                removal_due = self.publish_move(record, None, None, &status);
            }
            Verdict::Forward => {
                let from = self.publish_listed_start(record, last_seen_without_it, &status);
                self.replace_status(record, status.clone());
                removal_due = self.publish_move(record, from, last_seen_without_it, &status);
                if self.observation.detail == Detail::Minimal && self.origin() == Origin::Event {
                    // The phases of a list would never show what was stripped from the event, such as an exit's message.
                    self.request_read(status.id(), ReadCause::Hint, Duration::ZERO);
                }
            }
            Verdict::Same => self.extend_interval(record),
            Verdict::Refreshed => {
                self.out.transitions.push(transitions::changed(&status));
                if !self.may_turn_oom(&status) {
                    record.cancel_recheck(ReadCause::Oom);
                }
                self.replace_status(record, status);
            }
            Verdict::Corrected => {
                self.out.transitions.push(transitions::corrected(&status));
                (record.published_phase, record.was_corrected) = (status.phase(), true);
                self.replace_status(record, status);
            }
            _ => return None,
        }
        if self.origin() != Origin::Event && removal_due.is_none() {
            self.confirm_present(record);
        }
        removal_due
    }

    fn judge(&self, record: &Record, status: &Status) -> Judgement {
        let view = View {
            subject: status.subject(),
            origin: self.origin(),
            phase: status.phase(),
            interval: self.observation.interval,
            claimed: self.observation.claimed,
            content: if *status == record.status { Content::Same } else { Content::Other },
        };
        match rules::judge(&record.held(), &view) {
            // It contradicts nothing in the record.
            Judgement { verdict: Verdict::Undecided, .. } if adds_exit_code(&record.status, status) => {
                Judgement { verdict: Verdict::Refreshed, consequence: Consequence::None }
            }
            judgement => judgement,
        }
    }

    /// The view is taken.
    fn replace_status(&mut self, record: &mut Record, status: Status) {
        self.out.changed |= record.visibility == Visibility::Served;
        record.status = status;
        record.is_partial = self.observation.detail == Detail::Minimal;
        self.extend_interval(record);
    }

    /// The record is as young as the view.
    fn extend_interval(&mut self, record: &mut Record) {
        record.interval = rules::advance(record.interval, self.observation.interval);
        record.content_confirmed_at = record.content_confirmed_at.max(self.content_confirmed_at());
        record.pending_correction = None;
        record.is_partial &= self.observation.detail == Detail::Minimal;
    }

    /// A read has found the id, so that it is not gone.
    fn confirm_present(&mut self, record: &mut Record) {
        let lower = self.observation.interval.lower;
        let id = record.status.id().clone();
        if record.awaited_death.is_some_and(|it| lower.is_some_and(|lower| lower >= it.removed_at)) {
            record.awaited_death = None;
        }
        // A read that began before the list does not show whether the id was still there for the list.
        let is_overtaken = record.visibility == Visibility::HistoryOnly && lower < self.context.listed;
        if record.visibility == Visibility::HistoryOnly && !is_overtaken {
            record.visibility = Visibility::Served;
            self.out.changed = true;
            // The pods that were published with its history were without it. A subscriber who keeps pods by events needs one with it.
            if !self.out.transitions.iter().any(|published| published.id == id) {
                self.out.transitions.push(transitions::changed(&record.status));
            }
        }
        if let RecheckSchedule { cause, after: [next, later @ ..] } = record.recheck_schedule
            && !self.scheduled.contains(&id)
        {
            record.recheck_schedule = RecheckSchedule { cause, after: later };
            self.request_read(&id, cause, *next);
        }
        if is_overtaken {
            self.request_read(&id, ReadCause::Undecided, Duration::ZERO);
        }
    }

    /// Publishes the start of a container that a list showed running, where the status that shows it exited does not prove that it ran.
    /// Returns the phase that is published then.
    fn publish_listed_start(
        &mut self,
        record: &Record,
        last_seen_without_it: Option<Mono>,
        status: &Status,
    ) -> Option<Phase> {
        let (published, running) = (record.published_phase, Some(Phase::Running));
        let proven = status.phase() != Some(Phase::Exited) || status.started_at().is_some();
        if published >= running || proven || !record.phases_seen_in_lists.contains(&Phase::Running) {
            return published;
        }
        let listed = record.status.listed_in(running);
        self.out.transitions.extend(transitions::moved(published, last_seen_without_it, &listed, None));
        running
    }

    /// Publishes a step to a later phase, and schedules reads where the next change may have no event.
    fn publish_move(
        &mut self,
        record: &mut Record,
        from: Option<Phase>,
        last_seen_without_it: Option<Mono>,
        status: &Status,
    ) -> RemovalDue {
        let moves = transitions::moved(from, last_seen_without_it, status, self.event_of(status.id()));
        let unreadable = self.observation.unreadable;
        // A disagreement of list and status is not held against the stream.
        self.out.transitions.extend(moves.into_iter().map(|it| Transition {
            has_no_stream_event: it.has_no_stream_event || unreadable,
            after: last_seen_without_it,
            ..it
        }));
        if status.phase().is_some() {
            record.published_phase = status.phase();
        }
        match status {
            Status::Container(container) => match container.state.phase() {
                Some(Phase::Created) => {
                    self.schedule_recheck(record, ReadCause::Start, START_CHECK, START_CHECKS);
                }
                Some(Phase::Exited) if self.may_turn_oom(status) && self.is_recent(container, from) => {
                    self.schedule_recheck(record, ReadCause::Oom, OOM_CHECK, OOM_CHECKS);
                }
                _ => record.cancel_recheck(ReadCause::Start),
            },
            Status::Sandbox(_) => {
                if status.phase() == Some(Phase::Exited) && self.context.quirks.has(Quirk::SilentSandboxes) {
                    let (first, then) = (RECHECK_AFTER_STOPPED[0], &RECHECK_AFTER_STOPPED[1..]);
                    self.schedule_recheck(record, ReadCause::Deletion, first, then);
                }
            }
        }
        let died = status.phase() == Some(Phase::Exited);
        record.awaited_death.filter(|_| died).map(|awaited| awaited.removed_at)
    }

    /// Whether an exit is so recent that its reason may still change. A container whose earlier phase was published before has exited
    /// recently: the wall clock may have been stepped since.
    fn is_recent(&self, container: &ContainerStatus, from: Option<Phase>) -> bool {
        let settled =
            |finished| self.observation.observed_at.seconds_since(finished) >= OOM_SETTLED && from.is_none();
        !container.finished_at.is_some_and(settled)
    }

    fn may_turn_oom(&self, status: &Status) -> bool {
        let Status::Container(container) = status else { return false };
        container.reason != "OOMKilled"
            && container.reason != "StartError"
            && self.context.quirks.has(Quirk::LateOomReason)
    }

    /// A read did not find the id.
    fn apply_absence(&mut self, pod: &mut PodState, id: &ObjectId) {
        let interval = self.observation.interval;
        let Some(record) = pod.records.get_mut(id) else {
            // A list has shown it, and that view is not applied yet: its history is published first.
            if pod.reported_deleted.contains_key(id) && self.context.known.unread(id).is_some() {
                return self.request_read(id, ReadCause::Deletion, UNREAD_RECHECK);
            }
            if let Some((subject, event)) = pod.reported_deleted.remove(id)
                && self.removed_at(id).is_none()
            {
                self.remove_unobserved(id, subject, event, interval.upper);
            }
            return;
        };
        if !rules::absence_proves_removal(record.interval, interval) {
            self.count(Verdict::Undecided);
            return self.request_read(id, ReadCause::Deletion, Duration::ZERO);
        }
        match record.awaited_death {
            Some(awaited) if self.context.now < awaited.since + DEATH_GRACE_PERIOD => {
                let left = (awaited.since + DEATH_GRACE_PERIOD).since(self.context.now);
                self.request_read(id, ReadCause::Deletion, left);
            }
            Some(_) if self.context.awaits_replay => {
                self.request_read(id, ReadCause::Deletion, DEATH_GRACE_PERIOD);
            }
            Some(awaited) => self.remove(pod, id, awaited.removed_at),
            None if record.is_death_unpublished()
                && (self.context.stream_up || self.context.awaits_replay) =>
            {
                self.await_death(record, interval.upper);
            }
            None => self.remove(pod, id, interval.upper),
        }
    }

    /// Applies what an event says beside its payload.
    fn apply_stream_event(&mut self, pod: &mut PodState, event: &StreamEvent) {
        let expected = match event.kind {
            StreamEventType::Created => Phase::Created,
            StreamEventType::Started => Phase::Running,
            StreamEventType::Stopped => Phase::Exited,
            StreamEventType::Deleted => return self.apply_deleted(pod, event),
        };
        let claimed = self.observation.claimed;
        match pod.records.get(&event.id) {
            // The payload was read before that happened, or has no status for this id.
            Some(record)
                if record.published_phase < Some(expected) && !rules::is_before(claimed, record.interval) =>
            {
                self.request_read(&event.id, ReadCause::Hint, Duration::ZERO);
            }
            None if self.removed_at(&event.id).is_none() && self.context.may_be_new(self.observation) => {
                self.request_read(&event.id, ReadCause::Hint, Duration::ZERO);
            }
            _ => {}
        }
    }

    fn apply_deleted(&mut self, pod: &mut PodState, event: &StreamEvent) {
        let id = &event.id;
        let received = self.observation.interval.upper;
        let deletion_event = DeletionEvent { stamped_at: event.stamped_at };
        let Some(record) = pod.records.get_mut(id) else {
            if self.removed_at(id).is_none() && self.context.may_be_new(self.observation) {
                let subject = self.subject_of_unknown(id);
                // What a list shows is published first. A read decides.
                let waits = self.is_deleted_early(subject) || self.context.known.unread(id).is_some();
                if waits && pod.reported_deleted.len() < REPORTED_DELETED_LIMIT {
                    pod.reported_deleted.insert(id.clone(), (subject, deletion_event));
                    return self.request_read(id, ReadCause::Deletion, Duration::ZERO);
                }
                self.remove_unobserved(id, subject, deletion_event, received);
            }
            return;
        };
        if rules::is_before(self.observation.claimed, record.interval) {
            // A read that began later has found it all the same.
            self.count(Verdict::Stale);
            return self.request_read(id, ReadCause::Deletion, Duration::ZERO);
        }
        record.deletion_event = Some(deletion_event);
        if self.is_deleted_early(record.status.subject()) {
            self.schedule_recheck(record, ReadCause::Deletion, Duration::ZERO, RECHECK_AFTER_DELETED);
        } else if record.is_death_unpublished() {
            self.await_death(record, received);
        } else {
            self.remove(pod, id, received);
        }
    }

    /// Whether the runtime sends DELETED before it deletes.
    fn is_deleted_early(&self, subject: Subject) -> bool {
        self.context.quirks.has(match subject {
            Subject::Sandbox => Quirk::SandboxDeletedEarly,
            Subject::Container => Quirk::ContainerDeletedEarly,
        })
    }

    /// Nothing was observed of an id but its removal.
    fn remove_unobserved(&mut self, id: &ObjectId, subject: Subject, event: DeletionEvent, removed_at: Mono) {
        self.count(Verdict::HistoryOnly);
        self.out.transitions.extend(transitions::removed_unobserved(id, subject, event.stamped_at));
        self.out.removed.push((id.clone(), removed_at));
    }

    /// An event about a sandbox carries its own id in the payload, if it has one.
    fn subject_of_unknown(&self, id: &ObjectId) -> Subject {
        if self.observation.sandboxes.iter().any(|sandbox| sandbox.id == *id) {
            Subject::Sandbox
        } else {
            Subject::Container
        }
    }

    fn await_death(&mut self, record: &mut Record, removed_at: Mono) {
        if record.awaited_death.is_none() {
            record.awaited_death = Some(AwaitedDeath { since: self.context.now, removed_at });
            self.request_read(record.status.id(), ReadCause::Deletion, DEATH_GRACE_PERIOD);
        }
    }

    fn remove(&mut self, pod: &mut PodState, id: &ObjectId, removed_at: Mono) {
        let Some(record) = pod.records.remove(id) else { return };
        self.count(Verdict::Removed);
        let (mut published, last_seen_without_it) = (record.published_phase, record.last_confirmed_at());
        for phase in record.phases_seen_in_lists.iter().copied().map(Some) {
            if phase > published {
                let listed = record.status.listed_in(phase);
                let moves = transitions::moved(published, last_seen_without_it, &listed, None);
                self.out.transitions.extend(moves);
                published = phase;
            }
        }
        let removal =
            transitions::removed(published, last_seen_without_it, &record.status, record.deletion_event);
        let removal = removal.into_iter().map(|it| Transition { after: last_seen_without_it, ..it });
        self.out.transitions.extend(removal);
        self.out.removed.push((id.clone(), removed_at));
        self.out.changed |= record.visibility == Visibility::Served;
        if record.status.subject() == Subject::Sandbox {
            self.recheck_containers_of(pod, id);
        }
    }

    /// A sandbox is gone: its containers end too, with or without an event.
    fn recheck_containers_of(&mut self, pod: &mut PodState, sandbox_id: &ObjectId) {
        let of_sandbox = |record: &&mut Box<Record>| match &record.status {
            Status::Container(container) => {
                container.sandbox_id == *sandbox_id && record.awaited_death.is_none()
            }
            Status::Sandbox(_) => false,
        };
        for record in pod.records.values_mut().filter(of_sandbox) {
            self.schedule_recheck(record, ReadCause::Deletion, Duration::ZERO, RECHECK_AFTER_SANDBOX_GONE);
        }
    }

    /// Requests a read, and further ones for as long as the id stays as it is.
    fn schedule_recheck(
        &mut self,
        record: &mut Record,
        cause: ReadCause,
        first: Duration,
        then: &'static [Duration],
    ) {
        let id = record.status.id().clone();
        record.recheck_schedule = RecheckSchedule { cause, after: then };
        self.request_read(&id, cause, first);
        self.scheduled.push(id);
    }

    fn count(&mut self, verdict: Verdict) {
        self.out.verdicts.push(verdict);
    }

    fn request_read(&mut self, id: &ObjectId, cause: ReadCause, after: Duration) {
        let same = |read: &&mut ReadRequest| read.cause == cause && read.after == after;
        match self.out.reads.iter_mut().find(same) {
            Some(read) => read.scope.join(Scope::Ids(BTreeSet::from([id.clone()]))),
            None => self.out.reads.push(ReadRequest::of_id(id, cause, after)),
        }
    }
}

/// Whether a view only adds the exit code of a death that was published without one.
fn adds_exit_code(held: &Status, seen: &Status) -> bool {
    let (Status::Container(held), Status::Container(seen)) = (held, seen) else { return false };
    let ended = |container: &ContainerStatus| container.state.phase() == Some(Phase::Exited);
    ended(held) && ended(seen) && held.exit_code.is_none() && seen.exit_code.is_some()
}

/// The status in a view, completed from the record with the fields that such a view does not carry.
fn merge(held: &Status, seen: Status, origin: Origin, detail: Detail) -> Status {
    match (held, seen) {
        (Status::Container(held), Status::Container(mut seen)) => {
            // A container's status does not name its sandbox; an event of CRI-O shows containers of several.
            let of_other = origin == Origin::Event && seen.sandbox_id != held.sandbox_id;
            let of_other = of_other || seen.sandbox_id.as_str().is_empty();
            if detail == Detail::Full && seen.created_at.is_some() && !of_other {
                return Status::Container(seen);
            }
            let container = Arc::make_mut(&mut seen);
            container.created_at = container.created_at.or(held.created_at);
            if of_other {
                container.sandbox_id = held.sandbox_id.clone();
            }
            if detail == Detail::Minimal {
                container.started_at = container.started_at.or(held.started_at);
                container.finished_at = container.finished_at.or(held.finished_at);
                if container.state == held.state {
                    container.exit_code = container.exit_code.or(held.exit_code);
                    if container.reason.is_empty() {
                        container.reason = held.reason.clone();
                    }
                }
                // A list that was filtered by the id shows labels, which are new where no status could be read.
                if !held.labels.is_empty() {
                    container.labels = held.labels.clone();
                }
                if !held.annotations.is_empty() {
                    container.annotations = held.annotations.clone();
                }
                container.message = held.message.clone();
                (container.image, container.image_ref) = (held.image.clone(), held.image_ref.clone());
            }
            Status::Container(seen)
        }
        (Status::Sandbox(held), Status::Sandbox(mut seen)) => {
            if detail == Detail::Full && seen.created_at.is_some() {
                return Status::Sandbox(seen);
            }
            let sandbox = Arc::make_mut(&mut seen);
            sandbox.created_at = sandbox.created_at.or(held.created_at);
            if detail == Detail::Minimal {
                if !held.labels.is_empty() {
                    sandbox.labels = held.labels.clone();
                }
                if !held.annotations.is_empty() {
                    sandbox.annotations = held.annotations.clone();
                }
                (sandbox.ips, sandbox.runtime_handler) = (held.ips.clone(), held.runtime_handler.clone());
            }
            Status::Sandbox(seen)
        }
        // The same id for a container and a sandbox: no runtime does that. The record stays as it is.
        (held, _) => held.clone(),
    }
}
