//! The arbiter: settles what the two paths say into the cache, and tells what changed, once.
//!
//! # Rules
//!
//! Every observation carries an interval of plegd's monotonic clock in which it was true ([`crate::model::Stamp`]). A read
//! has both ends. An event has only the upper one, its receipt. The timestamp of an event is a claim: it may be early by the clock's
//! error or by any amount. It decides only whether an event is stale, and what is stale is never lost: a read decides.
//!
//! For each id, in this order:
//!
//! 1. *Stale*: it claims a moment before the lower end of what is held, by more than the step margin → nothing changes. If it is
//!    ahead all the same, a targeted read. What it proves about an id of which nothing was published is published as history.
//! 2. *Dead*: the id has a tombstone → ignored. Only a read of the id itself that began after the removal lifts it, never a list.
//!    What claims to be older than the oldest tombstone is not news of an unknown id.
//! 3. *Forward*: created → running → exited → removed, never back → taken, whatever the stamps say.
//! 4. *Same phase, other content*: taken if it is later for certain; else a targeted read.
//! 5. *Backward*: never from an event or a list. Two reads in a row that agree are a correction, published as `PodSync`. A sandbox may
//!    become ready again, by a read.
//! 6. *Absence*: only a list that began after what is held and does not have the id, or DELETED for that very id, removes. NotFound to
//!    a status call is no absence: the relister lists the id before it reports it absent. While a list shows an id, it is not gone.
//!    Where the runtime sends DELETED early, it only asks for a read. The death is published before the removal.
//! 7. *Contradiction*: where a list shows an id whose status cannot be had, for whatever reason, the relister reports the list's view
//!    after bounded retries ([`crate::model::Observation::unreadable`]): a death has no exit code then, and the stream is not blamed.
//!
//! A removed sandbox has its containers looked for: CRI-O removes them without an event. A container that was not started, and an exit,
//! are read again on a bounded schedule: a failed start and a late `OOMKilled` have no event.
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
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use self::{
    ask::{Ask, Scope},
    pod::{Difference, ListedObject},
};
use self::{
    pod::{Context, Outcome, PodState, Unread},
    transitions::Transition,
};
use crate::{
    cache::{Cache, Serve, Update},
    clock::{Clock, Mono, STEP_MARGIN, Stamped, slewed_in},
    cri::{
        EventParts, RawEvent, pod_of_container,
        quirks::{Quirk, Quirks},
    },
    journal::Journal,
    ledger::{Ledger, signal_of},
    metrics::{Channel, Metrics},
    model::{
        ContainerStatus, Event, EventType, ObjectId, Observation, Origin, PodIdentity, ReadCause, Signal,
        SignalType, Source, Subject,
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
    /// Ids that a list shows and that are not held: their first read is pending.
    unread: Mutex<HashMap<ObjectId, Unread>>,
}

/// What is known of both paths as a whole; each is a moment of [`Mono`], or 0 for none.
#[derive(Debug, Default)]
struct Sight {
    /// Since when the stream has been up.
    stream_up: AtomicU64,
    /// When the last complete list began.
    listed: AtomicU64,
    /// When the one before that began.
    listed_before: AtomicU64,
}

/// A read that is to be done.
#[derive(Clone, Debug)]
pub struct PodAsk {
    /// Of which pod.
    pub pod: PodIdentity,
    /// What and why.
    pub ask: Ask,
    /// An event that waits for it: to be settled again when the sandbox was read.
    pub deferred: Option<Box<Observation>>,
}

// === impl Arbiter ===

impl Arbiter {
    /// An arbiter that writes this cache and this journal, and expects the most difficult runtime until told better.
    pub fn new(cache: Cache, journal: Journal, ledger: Ledger, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let began = clock.now();
        let quirks = ArcSwap::from_pointee(Quirks::careful());
        let (sight, unread) = (Sight::default(), Mutex::default());
        Self { cache, journal, ledger, clock, metrics, began, quirks, sight, unread }
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
        let Some(before) = get(&self.sight.listed) else { return set(&self.sight.listed, Some(lower)) };
        // Two lists may be under way at the same time.
        if before < lower {
            set(&self.sight.listed_before, Some(before));
            set(&self.sight.listed, Some(lower));
            let mut unread = self.unread.lock();
            unread.retain(|_, it| it.shown >= before);
            unread.shrink_to(UNREAD_CAPACITY);
        }
    }

    /// Whether no complete list has been taken in yet.
    pub fn is_first_list(&self) -> bool {
        get(&self.sight.listed).is_none()
    }

    /// Which pod an event is about that does not say so itself: by its id.
    pub fn pod_of(&self, id: &ObjectId) -> Option<PodIdentity> {
        self.cache.pod_of(id.as_str())
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
        let claimed = self.claimed(created_at, received);
        if claimed < self.began {
            self.metrics.stream.replayed.inc();
        }
        if sandboxes.is_empty() {
            self.metrics.stream.nil_payloads.inc();
        }
        self.metrics.stream.malformed.with(Channel::Stream).inc_by(malformed);
        let held = sandboxes.first().and_then(|sandbox| self.pod_of(&sandbox.id));
        let Some(pod) = held.or(pod).or_else(|| self.pod_of(&signal.id)) else { return Err(signal) };
        let containers = containers.into_iter().filter(|it| self.may_be_of(it, &pod)).collect();
        let event = Observation::event(signal, received, observed_at, pod);
        Ok(Observation { claimed, sandboxes, containers, detail, ..event })
    }

    /// Whether a container in an event belongs to the event's pod. CRI-O puts into an event all containers with the label of the
    /// pod's UID, also those of another pod that has the same UID.
    fn may_be_of(&self, container: &ContainerStatus, pod: &PodIdentity) -> bool {
        match self.pod_of(&container.id) {
            Some(held) => held == *pod,
            None => pod_of_container(container).is_none_or(|named| named == *pod),
        }
    }

    /// The moment that the timestamp of an event claims, as late as the clock's error allows and no later than its receipt.
    fn claimed(&self, stamped: crate::clock::Wall, received: Mono) -> Mono {
        match self.clock.place(stamped, received) {
            // Since it was made the clock may have been slewed.
            Stamped::At(at) => (at + slewed_in(received.since(at))).min(received),
            Stamped::BeforeStep(step) => step.min(received),
            Stamped::Unknown => {
                self.metrics.stream.bad_stamps.inc();
                received
            }
        }
    }

    /// Compares a list, begun at `lower`, with what is held of the pod with this UID, namespace and name; what agrees is known to be as
    /// young as the list.
    pub fn compare(&self, pod: (&str, &str, &str), lower: Mono, listed: &[ListedObject<'_>]) -> Difference {
        let held = self.cache.inspect_by(pod, |state| state.set_against(lower, listed));
        let difference = held.unwrap_or_else(|| Difference::all_new(listed));
        let mut difference = difference.since(lower, &|id| self.cache.removed_at(id));
        difference.changed.retain(|id| self.cache.may_reread(id, lower, CONTRADICTIONS_APART));
        for id in difference.changed.iter().filter(|id| self.cache.pod_of(id.as_str()).is_none()) {
            let new = Unread { absent: get(&self.sight.listed_before), shown: lower };
            self.unread.lock().entry(id.clone()).or_insert(new).shown = lower;
        }
        difference
    }

    /// Settles an observation: under the pod's lock, what changed is told before anybody else may change it.
    pub fn settle(&self, observation: &Observation) -> Vec<PodAsk> {
        let quirks = self.quirks.load();
        let now = self.clock.now();
        let stream_up = get(&self.sight.stream_up);
        let context = Context {
            now,
            began: self.began,
            horizon: self.cache.tombstone_horizon(),
            listed: get(&self.sight.listed),
            listed_before: get(&self.sight.listed_before),
            stream_up: stream_up.is_some(),
            quirks: &quirks,
            removed_at: &|id| self.cache.removed_at(id),
            unread: &|id| self.unread.lock().get(id).copied(),
        };
        let change = |state: &mut PodState| {
            if state.defers(observation, &context) {
                return Update { added: Vec::new(), removed: Vec::new(), result: None };
            }
            let mut out = state.settle(observation, &context);
            let (added, removed) = (std::mem::take(&mut out.added), std::mem::take(&mut out.removed));
            if !added.is_empty() || !removed.is_empty() {
                let mut unread = self.unread.lock();
                added.iter().chain(removed.iter().map(|(id, _)| id)).for_each(|id| drop(unread.remove(id)));
            }
            Update { added, removed, result: Some(out) }
        };
        let out = self.cache.update(&observation.pod, now, change, |state, out, serve| {
            let Some(out) = out else { return };
            self.tell(observation, state, out, &context, serve);
            if let Origin::Event(signal) = &observation.origin {
                // CREATED has no transition of its own; of the others, another transition of the same id leaves theirs to come.
                let is_told = |it: &Transition| {
                    it.id == signal.id
                        && (signal.kind == SignalType::Created || signal_of(it.kind) == Some(signal.kind))
                };
                let published = out.transitions.iter().any(is_told);
                self.ledger.heard(&signal.id, signal.kind, published, now);
            }
        });
        let pod = || observation.pod.clone();
        match (out, &observation.origin) {
            (Some(out), _) => {
                out.asks.into_iter().map(|ask| PodAsk { pod: pod(), ask, deferred: None }).collect()
            }
            (None, Origin::Event(signal)) => {
                let ask = Ask::id(&signal.id, ReadCause::Hint, NOW);
                vec![PodAsk { pod: pod(), ask, deferred: Some(Box::new(observation.clone())) }]
            }
            (None, Origin::Read(_)) => Vec::new(),
        }
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
                initial: transition.initial,
                inferred: transition.inferred,
            })
            .collect();
        self.compare_paths(&events, &out.transitions, context.now, context.quirks);
        self.journal.append(events, state.served(), serve);
    }

    /// Counts what is published, and hands it to the ledger. Initial inventory is only counted.
    fn compare_paths(&self, events: &[Event], transitions: &[Transition], now: Mono, quirks: &Quirks) {
        for (event, transition) in events.iter().zip(transitions) {
            self.metrics.transitions.record(event);
            if event.initial {
                continue;
            }
            // An inferred transition was not detected, only concluded from a later one.
            if let Some(occurred) = self.occurred(transition, now).filter(|_| !event.inferred) {
                self.metrics.transitions.detected(event.source, now.since(occurred));
            }
            // A read often follows an event at once, or comes just before it: the ledger waits for the event, and knows which have come.
            let due = event.source != Source::Event && self.stream_should_tell(transition, now, quirks);
            self.ledger.told(&event.id, event.kind, event.source, due, now);
        }
    }

    /// When a transition happened, if its time can be right: not before the last moment at which it had not happened. The clock of a
    /// guest (Kata) may be hours off.
    fn occurred(&self, transition: &Transition, now: Mono) -> Option<Mono> {
        let after = transition.after?;
        match self.clock.place(transition.occurred_at?, now) {
            Stamped::At(at) if at + STEP_MARGIN >= after => Some(at),
            _ => None,
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
        if transition.not_before.or(transition.after).is_some_and(|before| before > up) {
            return true;
        }
        self.occurred(transition, now).is_some_and(|at| at > up)
    }

    /// An event was seen that changes nothing and names no pod: for the ledger only.
    pub fn heard_of_removed(&self, id: &ObjectId, kind: SignalType) {
        self.ledger.heard(id, kind, false, self.clock.now());
    }
}

/// How often a removed id that lists still show is read again: such a runtime contradicts itself, and each read is an error line in
/// its log.
const CONTRADICTIONS_APART: Duration = Duration::from_secs(30);
/// For how many unread ids room is kept: the first relist shows all there are, and so many never come again.
const UNREAD_CAPACITY: usize = 64;

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
