//! Writes the records to the state on disk: each change before it is visible, and all records as a checkpoint.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Arbiter, Downtime, pod::PodState, store::PodSlot, transitions::Transition};
use crate::{
    clock::{Mono, STEP_MARGIN, Stamped, Wall},
    cri::quirks::{Quirk, Quirks},
    model::{Event, ObjectId, Restart, StreamEvent, StreamEventType},
    state::messages::{self, note, part},
};

/// How many tombstones one frame of a checkpoint has: a frame is written while nothing else can be.
const TOMBSTONES_PER_FRAME: usize = 512;
/// How long after the start a death that a list shows waits for the event that reports it: the stream is opened at once.
const REPLAY_WITHIN: Duration = Duration::from_secs(2);

impl Arbiter {
    /// The records of a pod that have changed since they were written, with the ids that were removed.
    pub(super) fn unsaved(
        &self,
        slot: &PodSlot,
        pod: &mut PodState,
        removed: &[(ObjectId, Mono)],
    ) -> Option<messages::Change> {
        self.state.as_ref().filter(|state| state.is_active())?;
        let changed = pod.take_unsaved();
        if changed.is_none() && removed.is_empty() {
            return None;
        }
        let pod = messages::Pod {
            identity: Some(slot.cached.identity().into()),
            first_seen: slot.cached.first_seen(),
            ..changed.unwrap_or_default()
        };
        let removed = removed.iter().map(|(id, _)| id.to_string()).collect();
        Some(messages::Change {
            at: self.since_boot(),
            pod: Some(pod),
            removed,
            ..messages::Change::default()
        })
    }

    /// Writes a change without events.
    pub(super) fn save(&self, change: Option<messages::Change>) {
        if let (Some(state), Some(change)) = (&self.state, change) {
            state.append(&change);
        }
    }

    /// Writes a change before its events are published.
    pub(super) fn save_events(
        &self,
        change: Option<messages::Change>,
        first_sequence: u64,
        events: &[Event],
    ) {
        let Some(mut change) = change.or_else(|| self.without_records(events)) else { return };
        change.first_sequence = first_sequence;
        change.events = events.iter().map(Into::into).collect();
        if let Some(pod) = &mut change.pod {
            pod.sequence = first_sequence - 1 + events.len() as u64;
        }
        self.save(Some(change));
    }

    /// A change that consists of events alone.
    fn without_records(&self, events: &[Event]) -> Option<messages::Change> {
        let event = events.first()?;
        let pod = messages::Pod { identity: Some((&event.pod).into()), ..messages::Pod::default() };
        Some(messages::Change { at: self.since_boot(), pod: Some(pod), ..messages::Change::default() })
    }

    /// Writes that plegd is running, so that a later process knows since when it was not.
    pub fn save_alive(&self) {
        if let Some(state) = &self.state {
            state.note(note::Note::Alive(self.alive()));
        }
    }

    /// Writes that the initial inventory is complete: a later process has none.
    pub fn save_inventoried(&self) {
        if !self.is_inventoried.swap(true, Ordering::Relaxed) {
            self.save_alive();
        }
    }

    /// Writes that nothing is pending: the process ends.
    pub fn save_stopped(&self) {
        if let Some(state) = &self.state {
            state.note(note::Note::Stopped(self.alive()));
        }
    }

    fn alive(&self) -> messages::Alive {
        messages::Alive {
            at: self.since_boot(),
            wall: self.clock.wall().as_nanos(),
            inventoried: self.is_inventoried.load(Ordering::Relaxed),
        }
    }

    fn since_boot(&self) -> u64 {
        nanos(self.clock.since_boot())
    }

    /// Writes all records in a new segment. Changes may be written in between: a record is as young as its place in the log.
    pub fn save_checkpoint(&self) {
        let Some(state) = &self.state else { return };
        let append = self.journal.begin();
        let begun = state.begin_checkpoint(self.header(append.first_sequence()));
        drop(append);
        // A failure is reported by the writer, which tries again.
        let Some(mut checkpoint) = begun else { return };
        for slot in self.store.slots() {
            // The lock is held until the frame is written, so that no change of the pod is written before it.
            let Some(mut locked) = slot.lock() else { continue };
            checkpoint.write(whole_pod(&slot, &mut locked.state));
        }
        self.other_parts().into_iter().for_each(|part| checkpoint.write(part));
        checkpoint.finish();
    }

    /// Writes the state for a reboot: nothing observes the runtime any more.
    pub fn save_for_reboot(&self) {
        let Some(state) = &self.state else { return };
        let slots = self.store.slots();
        let pods = slots.iter().filter_map(|slot| Some(whole_pod(slot, &mut slot.lock()?.state)));
        let parts = pods.chain(self.other_parts()).collect();
        state.save_for_reboot(self.header(self.journal.head() + 1), parts, self.alive());
    }

    /// The parts of a checkpoint that belong to no pod.
    fn other_parts(&self) -> Vec<part::Part> {
        let tombstones = self.store.all_tombstones();
        let tombstones = tombstones.chunks(TOMBSTONES_PER_FRAME).map(|some| {
            part::Part::Tombstones(messages::Tombstones {
                ids: some.iter().map(|(id, _)| id.to_string()).collect(),
                at: some.iter().map(|(_, inserted)| self.to_since_boot(*inserted)).collect(),
            })
        });
        let restarts = self.journal.restarts();
        tombstones.chain(restarts.iter().map(|restart| part::Part::Restart(restart.into()))).collect()
    }

    fn header(&self, next_sequence: u64) -> messages::Header {
        messages::Header {
            epoch: self.journal.epoch(),
            began: self.to_since_boot(self.began),
            next_sequence,
            horizon: self.to_since_boot(self.store.horizon()),
            inventoried: self.is_inventoried.load(Ordering::Relaxed),
            ..messages::Header::default()
        }
    }

    fn to_since_boot(&self, moment: Mono) -> u64 {
        let ago = self.clock.now().since(moment);
        nanos(self.clock.since_boot().saturating_sub(ago))
    }

    /// Publishes that plegd was restarted.
    pub fn publish_restart(&self, blind: bool) {
        let Some(downtime) = &self.downtime else { return };
        let append = self.journal.begin();
        let restart = Restart {
            after: append.first_sequence() - 1,
            down_since: downtime.down_since,
            up_since: downtime.up_since,
            down_for: downtime.until.since(downtime.since),
            blind,
        };
        if let Some(state) = &self.state {
            state.note(note::Note::Restart((&restart).into()));
        }
        append.commit_restart(restart);
    }

    /// How long plegd was down before it was started, if it continues after an earlier process.
    pub fn down_for(&self) -> Option<Duration> {
        self.downtime.as_ref().map(|downtime| downtime.until.since(downtime.since))
    }

    /// Number of events from the time while plegd was down that the runtime has sent since.
    pub fn replayed(&self) -> u64 {
        self.downtime.as_ref().map_or(0, |downtime| downtime.replayed.load(Ordering::Relaxed))
    }

    /// Whether the runtime may yet send events of that time.
    pub(super) fn awaits_replay(&self, quirks: &Quirks) -> bool {
        let just_started = |it: &Downtime| self.clock.now().since(it.until) < REPLAY_WITHIN;
        quirks.has(Quirk::ReplaysBacklog) && self.downtime.as_ref().is_some_and(just_started)
    }

    pub(super) fn note_replayed(&self, claimed: Mono) {
        if let Some(downtime) = self.downtime_at(claimed) {
            downtime.replayed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The downtime, if an event claims to be of it.
    fn downtime_at(&self, claimed: Mono) -> Option<&Downtime> {
        self.downtime.as_ref().filter(|downtime| (downtime.since..downtime.until).contains(&claimed))
    }

    /// An event from the time while plegd was down is about an id that its pod, if it names one, does not have: what happened to the id is
    /// missing.
    pub(super) fn note_if_unresolved(&self, claimed: Mono, event: &StreamEvent, pod: Option<&PodState>) {
        if let Some(downtime) = self.downtime_at(claimed)
            && event.kind != StreamEventType::Deleted
            && pod.is_none_or(|pod| pod.locate(event.id.as_str()).is_none())
            && !self.is_removed(&event.id)
        {
            downtime.is_unresolved.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there was such an event.
    pub fn is_unresolved(&self) -> bool {
        self.downtime.as_ref().is_some_and(|downtime| downtime.is_unresolved.load(Ordering::Relaxed))
    }

    /// Whether a transition happened while plegd was down; where the runtime gives no time, whether it may have.
    pub(super) fn is_late(&self, transition: &Transition, now: Mono) -> bool {
        let Some(downtime) = self.downtime.as_ref().filter(|_| !transition.initial) else { return false };
        if transition.after.or(transition.last_seen_without_it).is_some() {
            return false;
        }
        match transition.occurred_at.map(|at| self.clock.to_monotonic(at, now)) {
            Some(Stamped::At(at)) => at + STEP_MARGIN < downtime.until,
            _ => true,
        }
    }
}

/// All records of a pod.
fn whole_pod(slot: &PodSlot, pod: &mut PodState) -> part::Part {
    part::Part::Pod(messages::Pod {
        identity: Some(slot.cached.identity().into()),
        first_seen: slot.cached.first_seen(),
        sequence: slot.cached.served().map_or(0, |pod| pod.sequence),
        ..pod.save_all()
    })
}

impl Downtime {
    pub(super) fn new(since: Mono, until: Mono, walls: (Wall, Wall)) -> Self {
        let (down_since, up_since) = walls;
        Self { since, until, down_since, up_since, replayed: 0.into(), is_unresolved: false.into() }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
