//! One observation on its way through a pod: view by view, then what is missing, then what the event itself says.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Context, Gone, Looks, Outcome, PodState, Record, Shown};
use crate::{
    arbiter::{
        ask::{Ask, Scope},
        rules::{self, Content, Eye, Held, Verdict, View},
        transitions::{self, Transition},
    },
    clock::{Mono, Wall},
    cri::quirks::Quirk,
    model::{
        ContainerStatus, Detail, ObjectId, Observation, Origin, Phase, ReadCause, Ruling, Signal, SignalType,
        Stamp, Status, Subject,
    },
};

/// How many ids of one pod are remembered that are said to be deleted and of which nothing is held: a read of each is under way.
const SAID_DELETED_AT_MOST: usize = 1024;
/// How long a removal whose death was not told waits for the death: STOPPED may come just after DELETED.
pub const DEATH_GRACE: Duration = Duration::from_millis(150);
/// How long after its creation a container that was not started is read, and how long after each such read again: a start that
/// failed sends no event (0.5, 1.25, 2, 3, 4 and 5 s after the creation; a start cancels what is left).
const START_CHECK: Duration = Duration::from_millis(500);
const START_CHECKS: &[Duration] = &[
    Duration::from_millis(750),
    Duration::from_millis(750),
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(1),
];
/// How long after an exit it is read again, and once more after that: its reason may have turned into OOMKilled with no event,
/// whatever its exit code (kubernetes#104454, containerd#12260).
const OOM_CHECK: Duration = Duration::from_millis(1500);
const OOM_CHECKS: &[Duration] = &[Duration::from_millis(3500)];
/// An exit older than this has the reason that it will keep.
const OOM_SETTLED: f64 = 10.0;
/// When something that was said to be deleted is looked at again, as long as it is still there.
const AFTER_DELETED: &[Duration] =
    &[Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
/// When a container whose sandbox is gone is looked at again, as long as it is still there: CRI-O removes the containers of a pod
/// without an event.
const AFTER_SANDBOX_GONE: &[Duration] = &[Duration::from_millis(200), Duration::from_millis(800)];
/// When a stopped sandbox is looked at again on a runtime that removes it without a word.
const AFTER_STOPPED: &[Duration] = &[
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// One observation on its way through a pod.
pub(super) struct Step<'a> {
    pod: &'a mut PodState,
    observation: &'a Observation,
    context: &'a Context<'a>,
    /// Ids for which this observation began a schedule of reads.
    scheduled: Vec<ObjectId>,
    out: Outcome,
}

// === impl Step ===

impl<'a> Step<'a> {
    pub(super) fn of(pod: &'a mut PodState, observation: &'a Observation, context: &'a Context<'a>) -> Self {
        Self { pod, observation, context, scheduled: Vec::new(), out: Outcome::default() }
    }

    /// Takes the observation through the pod.
    pub(super) fn through(mut self) -> Outcome {
        let Observation { sandboxes, containers, origin, .. } = self.observation;
        // A sandbox is there before its containers and goes after them.
        let (ready, ending): (Vec<_>, Vec<_>) =
            sandboxes.iter().partition(|sandbox| sandbox.state.phase() != Phase::Exited);
        let mut containers: Vec<_> = containers.iter().collect();
        containers.sort_by_key(|container| (container.attempt, container.created_at));
        ready.into_iter().for_each(|sandbox| self.see(Status::Sandbox(sandbox.clone())));
        containers.into_iter().for_each(|container| self.see(Status::Container(container.clone())));
        ending.into_iter().for_each(|sandbox| self.see(Status::Sandbox(sandbox.clone())));
        self.absences().iter().for_each(|id| self.miss(id));
        if let Origin::Event(signal) = origin {
            self.hear(signal);
        }
        self.out
    }

    fn eye(&self) -> Eye {
        match (&self.observation.origin, self.observation.detail) {
            (Origin::Event(_), _) => Eye::Event,
            (Origin::Read(_), Detail::Lean) => Eye::List,
            (Origin::Read(_), Detail::Full) => Eye::Read,
        }
    }

    /// When the content that this observation shows was true for certain: a list shows phases alone.
    fn whole(&self) -> Option<Mono> {
        self.observation.stamp.lower.filter(|_| self.observation.detail == Detail::Full)
    }

    /// Whether the first event of an id is initial inventory: the first relist found it, or an event shows it before the first list
    /// and is not about it.
    fn is_initial(&self, id: &ObjectId) -> bool {
        let beside =
            || self.eye() == Eye::Event && self.context.listed.is_none() && self.signal_of(id).is_none();
        self.observation.initial.contains(id) || beside()
    }

    /// What the event, if it is one, says about this very id.
    fn signal_of(&self, id: &ObjectId) -> Option<&Signal> {
        match &self.observation.origin {
            Origin::Event(signal) if signal.id == *id => Some(signal),
            _ => None,
        }
    }

    /// When an id was removed, if it was: just now, or earlier.
    fn removed_at(&self, id: &ObjectId) -> Option<Mono> {
        let just_now = self.out.removed.iter().find(|(removed, _)| removed == id).map(|(_, at)| *at);
        just_now.or_else(|| (self.context.removed_at)(id))
    }

    /// Absent containers before absent sandboxes.
    fn absences(&self) -> Vec<ObjectId> {
        let is_sandbox = |id: &ObjectId| {
            self.pod.records.get(id).is_some_and(|record| record.status.subject() == Subject::Sandbox)
        };
        let mut absent = self.observation.absent.clone();
        absent.sort_by_key(is_sandbox);
        absent
    }

    /// Something was seen.
    fn see(&mut self, status: Status) {
        let id = status.id().clone();
        match self.pod.records.get(&id) {
            Some(_) => self.see_known(&id, status),
            None => self.see_unknown(&id, status),
        }
    }

    fn see_unknown(&mut self, id: &ObjectId, status: Status) {
        let stamp = self.observation.stamp;
        if let Some(removed_at) = self.removed_at(id)
            && !rules::lifts_tombstone(removed_at, self.eye(), stamp)
        {
            return self.rule(Ruling::Dead);
        }
        let (mut shown, mut unknown_at) = (Shown::Served, None);
        let unread = (self.context.unread)(id);
        if self.eye() == Eye::Event {
            let claimed = self.observation.claimed;
            if !self.context.may_be_new(self.observation) {
                return self.rule(Ruling::Old);
            }
            // A list or a read of the whole pod that began later did not have it: it came and went before that, and only its
            // story is left to tell.
            let listed = match unread {
                Some(unread) if self.pod.read_at < Some(unread.shown) => unread.absent,
                _ => self.context.listed.max(self.pod.read_at),
            };
            if rules::is_before(claimed, Stamp { lower: listed, upper: self.context.now }) {
                shown = Shown::AsHistory;
                self.ask(id, ReadCause::Undecided, Duration::ZERO);
            } else if listed.is_some_and(|listed| claimed < listed) {
                // Within the margin: it may be younger than the list, or gone.
                self.ask(id, ReadCause::Undecided, Duration::ZERO);
            } else {
                unknown_at = listed;
                if self.observation.detail == Detail::Lean {
                    self.ask(id, ReadCause::Hint, Duration::ZERO);
                }
            }
        }
        self.rule(if shown == Shown::Served { Ruling::New } else { Ruling::History });
        self.out.added.push(id.clone());
        self.out.changed |= shown == Shown::Served;
        self.pod.sandbox_known |= status.subject() == Subject::Sandbox;
        let first_seen = self.pod.next;
        self.pod.next += 1;
        let new = Record::new(status.clone(), stamp, self.whole(), shown, first_seen);
        let said_deleted = self.pod.said_deleted.remove(id);
        let announced = said_deleted.map(|(_, at)| at);
        self.pod.records.insert(id.clone(), Box::new(Record { unknown_at, announced, ..new }));
        let before = self.out.transitions.len();
        self.tell_move(id, None, None, &status);
        if announced.is_some() {
            self.look(id, ReadCause::Deletion, AFTER_DELETED[0], &AFTER_DELETED[1..]);
        }
        let absent_at = unread.map_or(self.context.listed_before, |unread| unread.absent);
        let (initial, after) = (self.is_initial(id), unknown_at.or(absent_at));
        for transition in &mut self.out.transitions[before..] {
            transition.initial = initial;
            transition.after = transition.after.or(after);
        }
    }

    fn see_known(&mut self, id: &ObjectId, status: Status) {
        let Some(record) = self.pod.records.get(id) else { return };
        let not_before = record.not_further_at();
        let status = merge(&record.status, status, &self.observation.origin, self.observation.detail);
        let Record { reached, stamp, whole, moved_back, dissent, .. } = **record;
        let held = Held { reached, stamp, whole, moved_back, dissent };
        let view = View {
            subject: status.subject(),
            eye: self.eye(),
            phase: status.phase(),
            stamp: self.observation.stamp,
            claimed: self.observation.claimed,
            content: if status == record.status { Content::Same } else { Content::Other },
        };
        let verdict = match rules::judge(&held, &view) {
            // It contradicts nothing that is held.
            Verdict::Undecided if adds_exit_code(&record.status, &status) => Verdict::Refreshed,
            verdict => verdict,
        };
        match verdict {
            Verdict::Stale { ahead } => {
                self.rule(Ruling::Stale);
                if ahead {
                    self.ask(id, ReadCause::Undecided, Duration::ZERO);
                }
                return;
            }
            Verdict::Undecided => {
                self.rule(Ruling::Undecided);
                return self.ask(id, ReadCause::Undecided, Duration::ZERO);
            }
            Verdict::Backward { dissent } => {
                self.rule(Ruling::Backward);
                if let (Some(_), Some(record)) = (dissent, self.pod.records.get_mut(id)) {
                    record.dissent = dissent;
                }
                return self.ask(id, ReadCause::Undecided, Duration::ZERO);
            }
            Verdict::Forward => {
                self.rule(Ruling::Forward);
                let reached = self.tell_listed_start(id, held.reached, not_before, &status);
                self.take(id, status.clone());
                self.tell_move(id, reached, not_before, &status);
                if self.observation.detail == Detail::Lean && self.eye() == Eye::Event {
                    // The phases of a list would never show what the event had to leave out, such as an exit's message.
                    self.ask(id, ReadCause::Hint, Duration::ZERO);
                }
            }
            Verdict::Same => {
                self.rule(Ruling::Same);
                self.renew(id);
            }
            Verdict::Refreshed => {
                self.rule(Ruling::Refreshed);
                self.out.transitions.push(transitions::changed(&status));
                if !self.may_turn_oom(&status) {
                    self.look_no_more(id, ReadCause::Oom);
                }
                self.take(id, status);
            }
            Verdict::Corrected => {
                self.rule(Ruling::Corrected);
                self.out.transitions.push(transitions::corrected(&status));
                self.set_reached(id, status.phase());
                self.move_back(id);
                self.take(id, status);
            }
            Verdict::Returned => {
                self.rule(Ruling::Forward);
                self.move_back(id);
                self.take(id, status.clone());
                // No runtime has an event for it, so that the stream is not to blame.
                self.tell_move(id, None, None, &status);
            }
        }
        if self.eye() != Eye::Event {
            self.still_there(id);
        }
    }

    /// A view has been found to hold.
    fn take(&mut self, id: &ObjectId, status: Status) {
        if let Some(record) = self.pod.records.get_mut(id) {
            self.out.changed |= record.shown == Shown::Served;
            record.status = status;
        }
        self.renew(id);
    }

    /// What is held is as young as this view.
    fn renew(&mut self, id: &ObjectId) {
        let (stamp, whole) = (self.observation.stamp, self.whole());
        if let Some(record) = self.pod.records.get_mut(id) {
            record.stamp = rules::advance(record.stamp, stamp);
            record.whole = record.whole.max(whole);
            record.dissent = None;
        }
    }

    fn move_back(&mut self, id: &ObjectId) {
        if let Some(record) = self.pod.records.get_mut(id) {
            record.moved_back = true;
        }
    }

    fn set_reached(&mut self, id: &ObjectId, phase: Option<Phase>) {
        if let Some(record) = self.pod.records.get_mut(id) {
            record.reached = phase;
        }
    }

    /// A read has found it; so it is not gone, whatever was said.
    fn still_there(&mut self, id: &ObjectId) {
        let lower = self.observation.stamp.lower;
        let Some(record) = self.pod.records.get_mut(id) else { return };
        if record.gone.is_some_and(|gone| lower.is_some_and(|lower| lower >= gone.removed_at)) {
            record.gone = None;
        }
        // A read that began before the list says nothing of whether it was still there for the list.
        let overtaken = record.shown == Shown::AsHistory && lower < self.context.listed;
        if record.shown == Shown::AsHistory && !overtaken {
            record.shown = Shown::Served;
            self.out.changed = true;
            // The pods that came with its story were without it. Who keeps pods by their events is to get one that has it.
            if !self.out.transitions.iter().any(|told| told.id == *id) {
                self.out.transitions.push(transitions::changed(&record.status));
            }
        }
        if let Looks { cause, after: [next, later @ ..] } = record.looks
            && !self.scheduled.contains(id)
        {
            record.looks = Looks { cause, after: later };
            self.ask(id, cause, *next);
        }
        if overtaken {
            self.ask(id, ReadCause::Undecided, Duration::ZERO);
        }
    }

    /// A list showed it running, and what shows it ended does not prove that it ran. Gives the phase that it has reached then.
    fn tell_listed_start(
        &mut self,
        id: &ObjectId,
        reached: Option<Phase>,
        not_before: Option<Mono>,
        status: &Status,
    ) -> Option<Phase> {
        let running = Some(Phase::Running);
        let proven = status.phase() != Some(Phase::Exited) || status.started_at().is_some();
        match self.pod.records.get(id) {
            Some(record) if reached < running && !proven && record.listed.contains(&Phase::Running) => {
                let listed = record.status.listed_in(running);
                self.out.transitions.extend(transitions::moved(reached, not_before, &listed, None));
                running
            }
            _ => reached,
        }
    }

    /// It has come to a later phase: tell it, and look again where it may change in silence.
    fn tell_move(&mut self, id: &ObjectId, from: Option<Phase>, not_before: Option<Mono>, status: &Status) {
        let moves = transitions::moved(from, not_before, status, self.signal_of(id));
        let unreadable = self.observation.unreadable;
        // What list and status disagree about is not held against the stream.
        self.out.transitions.extend(moves.into_iter().map(|it| Transition {
            silent: it.silent || unreadable,
            after: not_before,
            ..it
        }));
        if status.phase().is_some() {
            self.set_reached(id, status.phase());
        }
        match status {
            Status::Container(container) => match container.state.phase() {
                Some(Phase::Created) => self.look(id, ReadCause::Start, START_CHECK, START_CHECKS),
                Some(Phase::Exited) if self.may_turn_oom(status) && self.is_recent(container, from) => {
                    self.look(id, ReadCause::Oom, OOM_CHECK, OOM_CHECKS)
                }
                _ => self.look_no_more(id, ReadCause::Start),
            },
            Status::Sandbox(_) => {
                if status.phase() == Some(Phase::Exited) && self.context.quirks.has(Quirk::SilentSandboxes) {
                    self.look(id, ReadCause::Deletion, AFTER_STOPPED[0], &AFTER_STOPPED[1..]);
                }
            }
        }
        if status.phase() == Some(Phase::Exited)
            && let Some(gone) = self.pod.records.get(id).and_then(|record| record.gone)
        {
            self.remove(id, gone.removed_at);
        }
    }

    /// Whether an exit is so recent that the reason may still change. What was held alive before is recent: the wall clock may have
    /// been stepped since.
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

    /// A read did not find it.
    fn miss(&mut self, id: &ObjectId) {
        let stamp = self.observation.stamp;
        let Some(record) = self.pod.records.get(id) else {
            if let Some((subject, at)) = self.pod.said_deleted.remove(id)
                && self.removed_at(id).is_none()
            {
                self.remove_unseen(id, subject, at, stamp.upper);
            }
            return;
        };
        if !rules::absence_proves_removal(record.stamp, stamp) {
            self.rule(Ruling::Undecided);
            return self.ask(id, ReadCause::Deletion, Duration::ZERO);
        }
        match record.gone {
            Some(gone) if self.context.now < gone.since + DEATH_GRACE => {
                let left = (gone.since + DEATH_GRACE).since(self.context.now);
                self.ask(id, ReadCause::Deletion, left);
            }
            Some(gone) => self.remove(id, gone.removed_at),
            None if record.death_untold() && self.context.stream_up => self.mark_gone(id, stamp.upper),
            None => self.remove(id, stamp.upper),
        }
    }

    /// What an event says beside its payload.
    fn hear(&mut self, signal: &Signal) {
        let expected = match signal.kind {
            SignalType::Created => Phase::Created,
            SignalType::Started => Phase::Running,
            SignalType::Stopped => Phase::Exited,
            SignalType::Deleted => return self.hear_deleted(signal),
        };
        let claimed = self.observation.claimed;
        match self.pod.records.get(&signal.id) {
            // The payload was read before that happened, or it has none for this id.
            Some(record) if record.reached < Some(expected) && !rules::is_before(claimed, record.stamp) => {
                self.ask(&signal.id, ReadCause::Hint, Duration::ZERO);
            }
            None if self.removed_at(&signal.id).is_none() && self.context.may_be_new(self.observation) => {
                self.ask(&signal.id, ReadCause::Hint, Duration::ZERO);
            }
            _ => {}
        }
    }

    fn hear_deleted(&mut self, signal: &Signal) {
        let id = &signal.id;
        let stamp = self.observation.stamp;
        let Some(record) = self.pod.records.get(id) else {
            if self.removed_at(id).is_none() && self.context.may_be_new(self.observation) {
                let subject = self.subject_of_unseen(id);
                // Where a list shows it, that is published first; a read decides.
                let waits = self.is_deleted_early(subject) || (self.context.unread)(id).is_some();
                if waits && self.pod.said_deleted.len() < SAID_DELETED_AT_MOST {
                    self.pod.said_deleted.insert(id.clone(), (subject, signal.stamped_at));
                    return self.ask(id, ReadCause::Deletion, Duration::ZERO);
                }
                self.remove_unseen(id, subject, signal.stamped_at, stamp.upper);
            }
            return;
        };
        if rules::is_before(self.observation.claimed, record.stamp) {
            // A read that began later has seen it all the same.
            self.rule(Ruling::Stale);
            return self.ask(id, ReadCause::Deletion, Duration::ZERO);
        }
        let (early, death_untold) = (self.is_deleted_early(record.status.subject()), record.death_untold());
        if let Some(record) = self.pod.records.get_mut(id) {
            record.announced = Some(signal.stamped_at);
        }
        if early {
            self.look(id, ReadCause::Deletion, Duration::ZERO, AFTER_DELETED);
        } else if death_untold {
            self.mark_gone(id, stamp.upper);
        } else {
            self.remove(id, stamp.upper);
        }
    }

    /// Whether the runtime sends DELETED before it deletes.
    fn is_deleted_early(&self, subject: Subject) -> bool {
        self.context.quirks.has(match subject {
            Subject::Sandbox => Quirk::SandboxDeletedEarly,
            Subject::Container => Quirk::ContainerDeletedEarly,
        })
    }

    /// Nothing was observed of it but that it is gone.
    fn remove_unseen(&mut self, id: &ObjectId, subject: Subject, at: Option<Wall>, removed_at: Mono) {
        self.rule(Ruling::History);
        self.out.transitions.extend(transitions::removed_unseen(id, subject, at));
        self.out.removed.push((id.clone(), removed_at));
    }

    /// An event about a sandbox carries its own id in the payload, if it carries any.
    fn subject_of_unseen(&self, id: &ObjectId) -> Subject {
        if self.observation.sandboxes.iter().any(|sandbox| sandbox.id == *id) {
            Subject::Sandbox
        } else {
            Subject::Container
        }
    }

    fn mark_gone(&mut self, id: &ObjectId, removed_at: Mono) {
        let since = self.context.now;
        if let Some(record) = self.pod.records.get_mut(id)
            && record.gone.is_none()
        {
            record.gone = Some(Gone { since, removed_at });
            self.ask(id, ReadCause::Deletion, DEATH_GRACE);
        }
    }

    fn remove(&mut self, id: &ObjectId, removed_at: Mono) {
        if let Some(record) = self.pod.records.remove(id) {
            self.rule(Ruling::Removed);
            let (mut reached, not_before) = (record.reached, record.not_further_at());
            for phase in record.listed.iter().copied().map(Some) {
                if phase > reached {
                    let listed = record.status.listed_in(phase);
                    self.out.transitions.extend(transitions::moved(reached, not_before, &listed, None));
                    reached = phase;
                }
            }
            let told = transitions::removed(reached, not_before, &record.status, record.announced);
            self.out.transitions.extend(told.into_iter().map(|it| Transition { after: not_before, ..it }));
            self.out.removed.push((id.clone(), removed_at));
            self.out.changed |= record.shown == Shown::Served;
            if record.status.subject() == Subject::Sandbox {
                self.look_for_containers_of(id);
            }
        }
    }

    /// A sandbox is gone: its containers are going too, with or without an event.
    fn look_for_containers_of(&mut self, sandbox_id: &ObjectId) {
        let of_it = |record: &Record| match &record.status {
            Status::Container(container) => container.sandbox_id == *sandbox_id && record.gone.is_none(),
            Status::Sandbox(_) => false,
        };
        let ids: Vec<ObjectId> =
            (self.pod.records.iter()).filter(|(_, record)| of_it(record)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.look(&id, ReadCause::Deletion, Duration::ZERO, AFTER_SANDBOX_GONE);
        }
    }

    /// Has it read, and again for as long as it is as it was.
    fn look(&mut self, id: &ObjectId, cause: ReadCause, first: Duration, then: &'static [Duration]) {
        if let Some(record) = self.pod.records.get_mut(id) {
            record.looks = Looks { cause, after: then };
            self.scheduled.push(id.clone());
        }
        self.ask(id, cause, first);
    }

    fn look_no_more(&mut self, id: &ObjectId, cause: ReadCause) {
        if let Some(record) = self.pod.records.get_mut(id)
            && record.looks.cause == cause
        {
            record.looks = Looks::NONE;
        }
    }

    fn rule(&mut self, ruling: Ruling) {
        self.out.verdicts.push(ruling);
    }

    fn ask(&mut self, id: &ObjectId, cause: ReadCause, after: Duration) {
        let same = |ask: &&mut Ask| ask.cause == cause && ask.after == after;
        match self.out.asks.iter_mut().find(same) {
            Some(ask) => ask.scope.join(Scope::Ids(BTreeSet::from([id.clone()]))),
            None => self.out.asks.push(Ask::id(id, cause, after)),
        }
    }
}

/// Whether a view only adds the exit code of a death that was published without one.
fn adds_exit_code(held: &Status, seen: &Status) -> bool {
    let (Status::Container(held), Status::Container(seen)) = (held, seen) else { return false };
    let ended = |container: &ContainerStatus| container.state.phase() == Some(Phase::Exited);
    ended(held) && ended(seen) && held.exit_code.is_none() && seen.exit_code.is_some()
}

/// What a view says, completed with what it cannot say but is held.
fn merge(held: &Status, seen: Status, origin: &Origin, detail: Detail) -> Status {
    match (held, seen) {
        (Status::Container(held), Status::Container(mut seen)) => {
            // A container's status does not name its sandbox; an event of CRI-O shows containers of several.
            let of_other = matches!(origin, Origin::Event(_)) && seen.sandbox_id != held.sandbox_id;
            let of_other = of_other || seen.sandbox_id.as_str().is_empty();
            if detail == Detail::Full && seen.created_at.is_some() && !of_other {
                return Status::Container(seen);
            }
            let container = Arc::make_mut(&mut seen);
            container.created_at = container.created_at.or(held.created_at);
            if of_other {
                container.sandbox_id = held.sandbox_id.clone();
            }
            if detail == Detail::Lean {
                container.started_at = container.started_at.or(held.started_at);
                container.finished_at = container.finished_at.or(held.finished_at);
                if container.state == held.state {
                    container.exit_code = container.exit_code.or(held.exit_code);
                    if container.reason.is_empty() {
                        container.reason = held.reason.clone();
                    }
                }
                // Of these, a list that was filtered by the id may know more than is held, as where no status could be read.
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
            if detail == Detail::Lean {
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
        // The same id for a container and for a sandbox: no runtime does it. What was there first stays.
        (held, _) => held.clone(),
    }
}
