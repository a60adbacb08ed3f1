//! The arbiter: settles what the two paths say into the cache, and tells what changed, once.
//!
//! # Rules
//!
//! Every observation carries an interval of plegd's monotonic clock in which it was true ([`crate::model::Stamp`]). A read
//! has both ends; an event has only the upper one, since the runtime stamps an event *after* it has read the statuses in
//! it. For each id, in this order:
//!
//! 1. *Stale*: it ended before the lower end of what is held, by more than the step margin → nothing changes. If it is
//!    ahead all the same, a targeted read. What it proves about an id that nobody was told of is told as history.
//! 2. *Dead*: the id has a tombstone → ignored; a read that began after the removal lifts it.
//! 3. *Forward*: created → running → exited → removed, never back → taken, whatever the stamps say.
//! 4. *Same phase, other content*: taken if it is later for certain; else a targeted read.
//! 5. *Backward*: never from an event. Two reads in a row that agree are a correction, told as `PodSync`. A sandbox may
//!    become ready again, by a read.
//! 6. *Absence*: only a read that began after what is held, or DELETED for that very id, removes. Where the runtime sends
//!    DELETED early, it only asks for a read. The death is told before the removal.
//!
//! [`rules`] has them for one id, [`pod`] for an observation of a pod, [`transitions`] says which events a change amounts
//! to; all three are pure. This file is the shell: it takes the pod's lock, calls them, appends to the journal before it
//! lets go, and counts. It never calls the runtime: what it wants to be read goes back to whoever brought the observation.
//!
//! # Differences from the first sketch
//!
//! Intervals are kept for each id rather than for each sandbox: finer, and simpler. A wall-clock stamp from before a step
//! is not incomparable but known to be older than the step ([`crate::clock::Stamped::BeforeStep`]), which is an upper end
//! like any other; so the rules have no case for it. The runtime's `PodSandboxStatusResponse.timestamp` is not used: it is
//! missing, in seconds or set without the statuses it is about, depending on the version, and plegd's own clock around the
//! request is as good.
//!
//! # What the simulation taught
//!
//! `tests/simulation.rs` plays whole lives of a node from a seed; what it found wrong, and the rule that came of it:
//!
//! - A list that shows an id further on than it is held is remembered ([`pod::PodState::set_against`]): if it is gone before
//!   it can be read, its story is told as far as the list showed it.
//! - What is read of a pod is settled without waiting for a status that hangs, and what could not be read the last time is
//!   read last. A sandbox or container that hangs is told as the list shows it; only a death waits for its exit code.
//! - A read of a whole pod proves that nothing else was there when it began: an event that is older and comes later brings
//!   nothing back, neither during the read nor after it ([`pod::PodState::read_at`]).
//! - The stream is blamed for a change only if that was not yet so at a moment when the stream was up
//!   ([`transitions::Transition::not_before`]), if an event tells such a change at all, and if it has not said it already.
//!
//! - A list shows phases alone and makes no content old ([`rules::Held::whole`]).
//! - What has come back, as a sandbox that is ready again, moves on by a read only: that it had ended may be told once more by
//!   an event of before, and no stamp tells it from one of now ([`rules::Held::moved_back`]).
//!
//! What is not held: that a sandbox was ready, if an event ended it before the list that showed it could be read, or before
//! the event that says so came.

mod ask;
pub mod pod;
pub mod rules;
pub mod transitions;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

pub use self::{
    ask::{Ask, Scope},
    pod::{Difference, ListedObject},
};
use self::{
    pod::{Context, Outcome, PodState},
    transitions::Transition,
};
use crate::{
    cache::{Cache, Serve, Update},
    clock::{Clock, Mono, Stamped},
    cri::{
        EventParts, RawEvent,
        quirks::{Quirk, Quirks},
    },
    journal::Journal,
    ledger::{GRACE, Ledger},
    metrics::{Channel, Metrics},
    model::{
        Event, EventType, ObjectId, Observation, Origin, PodIdentity, Signal, SignalType, Source, Stamp,
        Subject,
    },
};

/// The arbiter.
pub struct Arbiter {
    cache: Cache,
    journal: Journal,
    ledger: Ledger,
    clock: Clock,
    metrics: Arc<Metrics>,
    began: Mono,
    quirks: ArcSwap<Quirks>,
    sight: Sight,
}

/// What is known of both paths as a whole; each is a moment of [`Mono`], or 0 for none.
#[derive(Debug, Default)]
struct Sight {
    /// Since when the stream has been up.
    stream_up: AtomicU64,
    /// When the last complete list began.
    listed: AtomicU64,
}

/// A read that is to be done.
#[derive(Clone, Debug)]
pub struct PodAsk {
    /// Of which pod.
    pub pod: PodIdentity,
    /// What and why.
    pub ask: Ask,
}

// === impl Arbiter ===

impl Arbiter {
    /// An arbiter that writes this cache and this journal, and expects the most difficult runtime until told better.
    pub fn new(cache: Cache, journal: Journal, ledger: Ledger, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let began = clock.now();
        let quirks = ArcSwap::from_pointee(Quirks::careful());
        Self { cache, journal, ledger, clock, metrics, began, quirks, sight: Sight::default() }
    }

    /// The runtime's quirks in force.
    pub fn quirks(&self) -> Arc<Quirks> {
        self.quirks.load_full()
    }

    /// The runtime has these quirks.
    pub fn set_quirks(&self, quirks: Quirks) {
        self.quirks.store(Arc::new(quirks));
    }

    /// The stream is up since `at`, or down.
    pub fn set_stream_up(&self, at: Option<Mono>) {
        set(&self.sight.stream_up, at);
        if at.is_none() {
            self.ledger.stream_lost();
        }
    }

    /// A complete list that began at `lower` is about to be taken in.
    pub fn list_begins(&self, lower: Mono) {
        set(&self.sight.listed, Some(lower));
    }

    /// Which pod an event is about that does not say so itself: by its id.
    pub fn pod_of(&self, id: &ObjectId) -> Option<PodIdentity> {
        let uid = self.cache.pod_of(id.as_str())?;
        self.cache.inspect(&uid, |state| state.identity().clone())
    }

    /// Whether an id was removed, so that an event about it that names no pod needs no one to look for it.
    pub fn is_removed(&self, id: &ObjectId) -> bool {
        self.cache.removed_at(id).is_some()
    }

    /// What an event says of a pod; only what it signals, if it names none and is about nothing that is known.
    ///
    /// # Errors
    ///
    /// What it signals.
    pub fn place(&self, event: RawEvent) -> Result<Observation, Signal> {
        let (received, observed_at) = (event.received, event.received_at);
        let parts = event.into_parts();
        let EventParts { signal, created_at, pod, sandboxes, containers, detail, malformed } = parts;
        let upper = self.upper_end(created_at, received);
        if upper < self.began {
            self.metrics.stream.replayed.inc();
        }
        if sandboxes.is_empty() {
            self.metrics.stream.nil_payloads.inc();
        }
        self.metrics.stream.malformed.with(Channel::Stream).inc_by(malformed);
        let Some(pod) = pod.or_else(|| self.pod_of(&signal.id)) else { return Err(signal) };
        let (origin, stamp) = (Origin::Event(signal), Stamp { lower: None, upper });
        Ok(Observation { origin, stamp, observed_at, pod, sandboxes, containers, absent: Vec::new(), detail })
    }

    /// The moment before which a view that was stamped like this was true.
    fn upper_end(&self, stamped: crate::clock::Wall, received: Mono) -> Mono {
        match self.clock.place(stamped, received) {
            Stamped::At(at) => at.min(received),
            Stamped::BeforeStep(step) => step.min(received),
            Stamped::Unknown => {
                self.metrics.stream.bad_stamps.inc();
                received
            }
        }
    }

    /// Compares a list, begun at `lower`, with what is held of a pod; what agrees is known to be as young as the list.
    pub fn compare(&self, uid: &str, lower: Mono, listed: &[ListedObject<'_>]) -> Difference {
        let held = self.cache.inspect(uid, |state| state.set_against(lower, listed));
        let difference = held.unwrap_or_else(|| Difference::all_new(listed));
        difference.since(lower, &|id| self.cache.removed_at(id))
    }

    /// Settles an observation: under the pod's lock, what changed is told before anybody else may change it.
    pub fn settle(&self, observation: &Observation) -> Vec<PodAsk> {
        let quirks = self.quirks.load();
        let now = self.clock.now();
        let stream_up = get(&self.sight.stream_up);
        let context = Context {
            now,
            began: self.began,
            listed: get(&self.sight.listed),
            stream_up: stream_up.is_some(),
            quirks: &quirks,
            removed_at: &|id| self.cache.removed_at(id),
        };
        let asks = self.cache.update(&observation.pod, now, |state, serve| {
            let out = state.settle(observation, &context);
            self.tell(observation, state, &out, &context, serve);
            if let Origin::Event(signal) = &observation.origin {
                let told = out.transitions.iter().any(|told| told.id == signal.id);
                self.ledger.heard(&signal.id, signal.kind, told, now);
            }
            Update { added: out.added, removed: out.removed, result: out.asks }
        });
        asks.into_iter().map(|ask| PodAsk { pod: observation.pod.clone(), ask }).collect()
    }

    /// Appends what changed to the journal, and serves it to readers.
    fn tell(
        &self,
        observation: &Observation,
        state: &PodState,
        out: &Outcome,
        context: &Context<'_>,
        serve: Serve<'_>,
    ) {
        let source = match &observation.origin {
            Origin::Event(_) => Source::Event,
            Origin::Read(source) => *source,
        };
        for ruling in &out.verdicts {
            self.metrics.arbitration.observations.inc((source, *ruling));
        }
        if out.transitions.is_empty() && !out.changed {
            return;
        }
        let stamped_at = match &observation.origin {
            Origin::Event(signal) => signal.stamped_at,
            Origin::Read(_) => None,
        };
        let events: Vec<Event> = (out.transitions.iter())
            .map(|transition| Event {
                sequence: 0,
                kind: transition.kind,
                subject: transition.subject,
                pod: observation.pod.clone(),
                labels: state.labels().clone(),
                id: transition.id.clone(),
                container_name: transition.container_name.clone(),
                source: if transition.announced { Source::Event } else { source },
                occurred_at: transition.occurred_at,
                observed_at: observation.observed_at,
                stamped_at,
                exit_code: transition.exit_code,
                reason: transition.reason.clone(),
                inferred: transition.inferred,
            })
            .collect();
        self.compare_paths(&events, &out.transitions, context.now, context.quirks);
        self.journal.append(events, state.served(), serve);
    }

    /// Counts what is told, and hands it to the ledger.
    fn compare_paths(&self, events: &[Event], transitions: &[Transition], now: Mono, quirks: &Quirks) {
        for (event, transition) in events.iter().zip(transitions) {
            self.metrics.transitions.record(event);
            let due = match event.source {
                Source::Event => false,
                Source::Relist => self.stream_should_tell(transition, now, quirks),
                // A read often follows an event at once; what it finds from longer ago the stream has not told.
                Source::Read => {
                    self.is_overdue(transition, now) && self.stream_should_tell(transition, now, quirks)
                }
            };
            self.ledger.told(&event.id, event.kind, event.source, due, now);
        }
    }

    /// Whether the stream, had it worked, would have told of this by now or in a moment.
    fn stream_should_tell(&self, transition: &Transition, now: Mono, quirks: &Quirks) -> bool {
        let Some(up) = get(&self.sight.stream_up) else { return false };
        let removal = transition.kind == EventType::ContainerRemoved;
        if quirks.has(Quirk::SilentSandboxes) && (removal || transition.subject == Subject::Sandbox) {
            return false;
        }
        if transition.silent {
            return false;
        }
        // It happened after the stream was up: it had not when that was, or its time says so.
        if transition.not_before.is_some_and(|before| before > up) {
            return true;
        }
        let at = transition.occurred_at.map(|at| self.clock.place(at, now));
        matches!(at, Some(Stamped::At(at)) if at > up)
    }

    /// Whether it is known to have happened so long ago that the stream has had the time to tell it.
    fn is_overdue(&self, transition: &Transition, now: Mono) -> bool {
        let at = transition.occurred_at.map(|at| self.clock.place(at, now));
        matches!(at, Some(Stamped::At(at)) if at + GRACE <= now)
    }

    /// An event was seen that changes nothing and names no pod: for the ledger only.
    pub fn heard_of_removed(&self, id: &ObjectId, kind: SignalType) {
        self.ledger.heard(id, kind, false, self.clock.now());
    }
}

/// How long after it was asked for a read may begin: at once.
pub const NOW: Duration = Duration::ZERO;

fn set(moment: &AtomicU64, at: Option<Mono>) {
    moment.store(
        at.map_or(0, |at| at.since(Mono::ZERO).as_nanos() as u64).max(u64::from(at.is_some())),
        Ordering::Release,
    );
}

fn get(moment: &AtomicU64) -> Option<Mono> {
    match moment.load(Ordering::Acquire) {
        0 => None,
        nanos => Some(Mono::from_nanos(nanos)),
    }
}

#[cfg(test)]
mod tests;
