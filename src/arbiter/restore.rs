//! Reads the records of an earlier process from the state on disk, and continues with them.
//!
//! The log is replayed from the first segment with a complete checkpoint: parts of a checkpoint replace a pod, changes add to it. A
//! segment alone restores everything, so that the oldest may be dropped at any time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost::Message as _;

use super::{
    Arbiter, ArbiterDeps, Downtime, PodReadRequest, pod::PodState, store::PodSlot, tombstones::Tombstones,
};
use crate::{
    clock::{Clock, Mono, STEP_MARGIN, Wall},
    journal::{Capacity, Journal, Saved},
    model::{Event, ObjectId, Pod, PodIdentity, Restart},
    state::{
        Frame, FrameKind,
        messages::{self, note, part},
    },
};

/// The records of an earlier process.
#[derive(Debug)]
pub struct Restored {
    header: messages::Header,
    /// The boot in which the log was written is this one.
    same_boot: bool,
    pods: HashMap<PodIdentity, RestoredPod>,
    /// The ids that were removed, and when, in nanoseconds since boot.
    tombstones: Vec<(ObjectId, u64)>,
    changes: Vec<(Vec<Event>, Option<Arc<Pod>>)>,
    restarts: Vec<Restart>,
    next: u64,
    /// The last entry, in nanoseconds since boot.
    last: u64,
    /// The last time of both clocks: nanoseconds since boot and since 1970.
    last_alive: Option<(u64, i64)>,
    started: Mono,
}

#[derive(Debug)]
struct RestoredPod {
    state: PodState,
    first_seen: u64,
    sequence: u64,
}

/// Frames that are whole and contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A frame cannot be decoded.
    #[error("a {kind:?} frame cannot be decoded: {error}")]
    Decode {
        /// Its kind.
        kind: FrameKind,
        /// Why.
        error: prost::DecodeError,
    },
    /// Events are missing between two frames.
    #[error("event {expected} is missing: the next one in the log is {found}")]
    Hole {
        /// The next sequence number.
        expected: u64,
        /// The one in the log.
        found: u64,
    },
    /// The log has segments of two epochs.
    #[error("the log has segments of two epochs")]
    Epochs,
    /// The log has no complete checkpoint.
    #[error("the log has no complete checkpoint")]
    NoCheckpoint,
}

// === impl Restored ===

impl Restored {
    /// Replays the frames of a log.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] if the frames contradict each other.
    pub fn replay<'a>(
        frames: impl IntoIterator<Item = Frame<'a>>,
        boot_id: &str,
        clock: &Clock,
    ) -> Result<Self, RestoreError> {
        let mut restored = Self {
            header: messages::Header::default(),
            same_boot: true,
            pods: HashMap::new(),
            tombstones: Vec::new(),
            changes: Vec::new(),
            restarts: Vec::new(),
            next: 0,
            last: 0,
            last_alive: None,
            started: clock.now(),
        };
        let mut complete = false;
        for Frame { kind, payload } in frames {
            let undecodable = |error| RestoreError::Decode { kind, error };
            match kind {
                FrameKind::Header => {
                    restored.on_header(messages::Header::decode(payload).map_err(undecodable)?, boot_id)?;
                }
                FrameKind::Checkpoint => {
                    restored.on_part(messages::Part::decode(payload).map_err(undecodable)?);
                }
                FrameKind::CheckpointEnd => complete = true,
                FrameKind::Append => {
                    let change = messages::Change::decode(payload).map_err(undecodable)?;
                    restored.on_change(&change, complete)?;
                }
                FrameKind::Note => {
                    restored.on_note(messages::Note::decode(payload).map_err(undecodable)?);
                }
            }
        }
        if complete { Ok(restored) } else { Err(RestoreError::NoCheckpoint) }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.header.epoch
    }

    /// `runtime.endpoint` of the process.
    pub fn endpoint(&self) -> &str {
        &self.header.endpoint
    }

    /// Whether the log was written in this boot of the machine.
    pub fn is_of_boot(&self, boot_id: &str) -> bool {
        self.header.boot_id == boot_id
    }

    /// Whether these are the records of the same epoch, as new as the others or newer.
    pub fn continues(&self, other: &Restored) -> bool {
        self.epoch() == other.epoch() && self.next >= other.next
    }

    /// The fields of the next process's headers that do not change.
    pub fn next_identity(&self, boot_id: String, endpoint: String) -> messages::Header {
        let restarts = self.header.restarts.saturating_add(1);
        let began_at = self.header.began_at;
        messages::Header { boot_id, endpoint, began_at, restarts, ..messages::Header::default() }
    }

    fn on_header(&mut self, header: messages::Header, boot_id: &str) -> Result<(), RestoreError> {
        let is_first = self.header.epoch == 0;
        if !is_first && header.epoch != self.header.epoch {
            return Err(RestoreError::Epochs);
        }
        if !is_first && header.next_sequence != self.next {
            return Err(RestoreError::Hole { expected: self.next, found: header.next_sequence });
        }
        self.next = header.next_sequence;
        self.same_boot = header.boot_id == boot_id;
        let inventoried = self.header.inventoried || header.inventoried;
        self.header = messages::Header { inventoried, ..header };
        Ok(())
    }

    fn on_part(&mut self, part: messages::Part) {
        match part.part {
            Some(part::Part::Pod(pod)) => {
                let Some(identity) = &pod.identity else { return };
                let identity: PodIdentity = identity.into();
                let mut state = PodState::new(identity.clone());
                state.load(&pod, self.started);
                let restored = RestoredPod { state, first_seen: pod.first_seen, sequence: pod.sequence };
                self.pods.insert(identity, restored);
            }
            Some(part::Part::Tombstones(tombstones)) => {
                let ids = tombstones.ids.iter().map(|id| ObjectId::from(id.as_str()));
                self.tombstones.extend(ids.zip(tombstones.at));
            }
            Some(part::Part::Restart(restart)) => self.add_restart((&restart).into()),
            None => {}
        }
    }

    fn on_change(&mut self, change: &messages::Change, complete: bool) -> Result<(), RestoreError> {
        self.last = self.last.max(change.at);
        if !change.events.is_empty() && change.first_sequence != self.next {
            return Err(RestoreError::Hole { expected: self.next, found: change.first_sequence });
        }
        self.next += change.events.len() as u64;
        self.tombstones.extend(change.removed.iter().map(|id| (id.as_str().into(), change.at)));
        let Some((pod, identity)) = change.pod.as_ref().and_then(|pod| Some((pod, pod.identity.as_ref()?)))
        else {
            return Ok(());
        };
        let identity: PodIdentity = identity.into();
        let restored = self.pods.entry(identity.clone()).or_insert_with(|| RestoredPod {
            state: PodState::new(identity.clone()),
            first_seen: pod.first_seen,
            sequence: 0,
        });
        restored.state.load(pod, self.started);
        restored.sequence = restored.sequence.max(pod.sequence);
        if !change.events.is_empty() && complete {
            let sequence = restored.sequence;
            let after = restored.state.served().map(|pod| Arc::new(Pod { sequence, ..pod }));
            let labels = restored.state.labels();
            let events = change.events.iter().map(|event| event.to_model(&identity, labels)).collect();
            self.changes.push((events, after));
        }
        if restored.state.is_empty() {
            self.pods.remove(&identity);
        }
        Ok(())
    }

    fn on_note(&mut self, note: messages::Note) {
        match note.note {
            Some(note::Note::Alive(alive) | note::Note::Stopped(alive)) => self.on_alive(&alive),
            Some(note::Note::Restart(restart)) => self.add_restart((&restart).into()),
            None => {}
        }
    }

    fn on_alive(&mut self, alive: &messages::Alive) {
        self.header.inventoried |= alive.inventoried;
        self.last = self.last.max(alive.at);
        self.last_alive = Some((alive.at, alive.wall));
    }

    /// A restart is in the log twice if a checkpoint repeats it.
    fn add_restart(&mut self, restart: Restart) {
        if !self.restarts.contains(&restart) {
            self.restarts.push(restart);
        }
    }

    /// The journal, which continues where the earlier one has ended.
    pub fn journal(&mut self, capacity: Capacity) -> Journal {
        let saved = Saved {
            epoch: self.header.epoch,
            changes: std::mem::take(&mut self.changes),
            next: self.next,
            restarts: self.restarts.clone(),
        };
        Journal::restored(capacity, saved)
    }

    /// The time in which no plegd was running, and whether the wall clock was stepped in it.
    fn downtime(&self, clock: &Clock) -> (Downtime, bool) {
        let (now, wall) = clock.now_both();
        let down_for = match self.same_boot {
            true => clock.since_boot().saturating_sub(Duration::from_nanos(self.last)),
            // The other boot's clock says nothing: the wall clock has to do.
            false => {
                let since = self.last_alive.map_or(0, |(_, at)| wall.as_nanos().saturating_sub(at));
                Duration::from_nanos(u64::try_from(since).unwrap_or_default())
            }
        };
        let (last_at, last_wall) = self.last_alive.unwrap_or((self.last, wall.as_nanos()));
        let by_last = Wall::from_nanos(last_wall.saturating_add_unsigned(self.last.saturating_sub(last_at)));
        let expected =
            by_last.as_nanos().saturating_add(i64::try_from(down_for.as_nanos()).unwrap_or(i64::MAX));
        let off = Duration::from_nanos(wall.as_nanos().abs_diff(expected));
        let stepped = self.same_boot && off > STEP_MARGIN + crate::clock::slewed_in(down_for);
        (Downtime::new(now - down_for, now, (by_last, wall)), stepped)
    }
}

// === impl Arbiter ===

impl Arbiter {
    /// An arbiter that continues with the records of an earlier process.
    pub fn restored(deps: ArbiterDeps, restored: Restored) -> Self {
        let clock = deps.clock.clone();
        let (downtime, stepped) = restored.downtime(&clock);
        if stepped {
            clock.set_stepped_before();
        }
        // The clock of another boot says nothing. Its runtime has lost its events with it: none from before is new.
        let (same_boot, down_since) = (restored.same_boot, downtime.since);
        let moment = |since_boot: u64, of_other_boot: Mono| match (same_boot, since_boot) {
            (true, 0) => Mono::ZERO,
            (true, since_boot) => clock.at_since_boot(Duration::from_nanos(since_boot)),
            (false, _) => of_other_boot,
        };
        let mut arbiter = Self::new(deps);
        arbiter.began = moment(restored.header.began, down_since);
        arbiter.downtime = Some(downtime);
        arbiter.was_inventoried = restored.header.inventoried;
        arbiter.is_inventoried = restored.header.inventoried.into();
        let mut tombstones = Tombstones::default();
        tombstones.set_horizon(moment(restored.header.horizon, down_since));
        // A checkpoint repeats the tombstones before it. Those of ids that exist again are removed with the pods.
        let newest: HashMap<ObjectId, u64> = restored.tombstones.into_iter().collect();
        let mut newest: Vec<_> = newest.into_iter().collect();
        newest.sort_by_key(|(_, at)| *at);
        for (id, at) in newest {
            tombstones.insert(&id, restored.started, moment(at, restored.started));
        }
        arbiter.store.restore_tombstones(tombstones);
        let mut pods: Vec<_> = restored.pods.into_values().collect();
        pods.sort_by_key(|pod| pod.first_seen);
        for pod in pods {
            arbiter.store.restore(pod.state, pod.sequence);
        }
        arbiter
    }

    /// The reads that an earlier process had scheduled.
    pub fn resume_reads(&self) -> Vec<PodReadRequest> {
        let ended = self.downtime.as_ref().map(|downtime| downtime.down_since).unwrap_or_default();
        let requests = |slot: Arc<PodSlot>| {
            let reads = slot.lock()?.state.resume_reads(ended);
            let pod = slot.cached.identity().clone();
            Some(reads.into_iter().map(move |read| PodReadRequest { pod: pod.clone(), read }))
        };
        self.store.slots().into_iter().filter_map(requests).flatten().collect()
    }
}
