//! The arbiter: applies what the two paths observe to the records of the pods, and publishes each change once.
//!
//! The arbiter owns the records, the tombstones and the writing end of the cache, and is the only writer. It makes no calls: the caller gets
//! the reads to request. [`rules`] decides about one id, [`pod`] applies an observation to a pod,
//! [`transitions`] derives the events of a change; these three are pure. [`Arbiter::apply`] is the one place where all of it
//! comes together: lock the pod, apply, index, append and publish, set tombstones, unlock.
//!
//! # Rules
//!
//! Every observation carries an interval of plegd's monotonic clock in which its view was true ([`crate::model::Interval`]). A read
//! has both ends. An event has only the upper end, its receipt. The timestamp of an event is a claim: it may be early by the clock's
//! error or by any amount. It decides only whether an event is stale, and a stale view is never lost: a read decides.
//!
//! For each id, in this order:
//!
//! 1. *Stale*: the view claims a moment before the lower end of the record, by more than the step margin → nothing changes. If the view
//!    is ahead in phase all the same, a targeted read. History that it proves of an id that was never published is published.
//! 2. *Tombstoned*: the id was removed → ignored. Only a read of the id itself that began after the removal lifts the tombstone, never a
//!    list. An event that claims to be older than the oldest tombstone is no news of an unknown id.
//! 3. *Forward*: created → running → exited → removed, never back → taken, whatever the timestamps say.
//! 4. *Same phase, other content*: taken if the view is certainly later; else a targeted read.
//! 5. *Backward*: never from an event or a list. Two consecutive reads that agree are a correction, published as `PodSync`. A sandbox
//!    may become ready again, by a read.
//! 6. *Absence*: only a list that began after the record's upper end and does not have the id, or DELETED for that id, removes. NotFound
//!    from a status call is no absence: the relister lists the id before it reports it absent. While a list shows an id, it is not
//!    gone. Where the runtime sends DELETED early, or a list shows an id that was not read yet, DELETED only requests a read. The death
//!    is published before the removal.
//! 7. *Contradiction*: where a list shows an id whose status is not given, for whatever reason, the relister reports the list's view
//!    after bounded retries ([`crate::model::Observation::unreadable`]). Such a death has no exit code, and the stream is not blamed.
//!
//! When a sandbox is removed, its containers are looked for: CRI-O removes them without an event. A container that was not started, and
//! an exit, are read again on a bounded schedule: a failed start and a late `OOMKilled` have no event.
//!
//! # Why the rules are as they are
//!
//! - Intervals are kept for each id, not for each sandbox. A wall-clock timestamp from before a clock step is known to be older than the
//!   step ([`crate::clock::Stamped::BeforeStep`]). `PodSandboxStatusResponse.timestamp` is not used: depending on the version it is
//!   missing, in seconds, or set without the statuses.
//! - A phase that a list shows and that is later than the record's is recorded ([`pod::PodState::reconcile_list`]). If the id is gone
//!   before it can be read, its history is published as far as the list showed it.
//! - A read is applied without waiting for a status that hangs. An id whose read failed is read last the next time. A hanging container
//!   is published as the list shows it; only a death waits for its exit code.
//! - A read of a whole pod proves that no other id was there when it began: an older event that arrives later brings nothing back.
//! - The stream is blamed for a missed event only if the change had not happened yet at a moment when the stream was up, if the runtime
//!   sends an event for such a change, and if that event has not arrived before.
//! - A list confirms phases and makes no content older ([`rules::Held::content_confirmed_at`]).
//! - A sandbox that became ready again moves on by a read only: an event may repeat the earlier end, and no timestamp distinguishes them.
//!
//! # Limits
//!
//! That a sandbox was ready is lost if an event ends the sandbox before the list that showed it ready can be read, or before the event
//! that says so arrives.

mod continuation;
pub mod pod;
mod queries;
mod read_request;
mod restore;
pub mod rules;
mod saving;
mod store;
mod tombstones;
pub mod transitions;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

pub use self::{
    continuation::Beginning,
    pod::{Difference, ListedObject},
    read_request::{NOW, PodReadRequest, ReadRequest, Scope},
    restore::{RestoreError, Restored},
};
use self::{
    pod::{Context, Outcome, PodState},
    store::{PodSlot, Store, names},
    transitions::Transition,
};
use crate::{
    cache::Cache,
    clock::{Clock, Mono, STEP_MARGIN, Stamped, Wall, slewed_in},
    cri::{
        DecodedEvent, RawEvent, pod_of_container,
        quirks::{Quirk, Quirks},
    },
    journal::Journal,
    metrics::{Channel, Metrics},
    model::{
        ContainerStatus, Detail, Event, EventType, ObjectId, Observation, PodIdentity, Source, StreamEvent,
        StreamEventType, Subject,
    },
    path_comparison::{PathComparison, stream_event_of},
    state::StateWriter,
};

/// How often a removed id that lists still show is read again: such a runtime contradicts itself, and each read is an error line in
/// its log.
const TOMBSTONED_REREAD_INTERVAL: Duration = Duration::from_secs(30);

/// The arbiter.
pub struct Arbiter {
    store: Store,
    journal: Journal,
    paths: PathComparison,
    clock: Clock,
    metrics: Arc<Metrics>,
    began: Mono,
    quirks: ArcSwap<Quirks>,
    progress: SourceProgress,
    state: Option<StateWriter>,
    downtime: Option<Downtime>,
    /// Whether an earlier process of this epoch has completed the initial inventory.
    was_inventoried: bool,
    /// Whether it is complete now.
    is_inventoried: AtomicBool,
}

/// What an arbiter needs.
pub struct ArbiterDeps {
    /// Takes the events.
    pub journal: Journal,
    /// Compares the paths.
    pub paths: PathComparison,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Takes each change before it is visible; none to keep no state on disk.
    pub state: Option<StateWriter>,
}

/// The time in which no plegd was running.
#[derive(Debug)]
struct Downtime {
    since: Mono,
    until: Mono,
    down_since: Wall,
    up_since: Wall,
    /// Number of events of the stream that claim to be of this time.
    replayed: AtomicU64,
    /// Whether one of them was about an id that nothing shows.
    is_unresolved: AtomicBool,
}

/// How far both paths are; each is a moment of [`Mono`], or 0 for none.
#[derive(Debug, Default)]
struct SourceProgress {
    /// Since when the stream has been up.
    stream_up: AtomicU64,
    /// When the last complete list began.
    listed: AtomicU64,
    /// When the one before that began.
    listed_before: AtomicU64,
}

// === impl Arbiter ===

impl Arbiter {
    /// An arbiter that publishes to this journal. It expects the most difficult runtime until its quirks are set.
    pub fn new(deps: ArbiterDeps) -> Self {
        let ArbiterDeps { journal, paths, clock, metrics, state } = deps;
        let began = clock.now();
        let quirks = ArcSwap::from_pointee(Quirks::careful());
        let (store, progress) = (Store::default(), SourceProgress::default());
        Self {
            store,
            journal,
            paths,
            clock,
            metrics,
            began,
            quirks,
            progress,
            state,
            downtime: None,
            was_inventoried: false,
            is_inventoried: AtomicBool::new(false),
        }
    }

    /// The pods as readers see them.
    pub fn cache(&self) -> &Cache {
        self.store.cache()
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
        set(&self.progress.stream_up, at);
        if at.is_none() {
            self.paths.stream_lost();
        }
    }

    /// The observation that an event of the stream amounts to. An event that names no pod, about an id of no known pod, is returned
    /// without its payload.
    ///
    /// # Errors
    ///
    /// The event without its payload.
    pub fn to_observation(&self, event: RawEvent) -> Result<Observation, StreamEvent> {
        let (received, observed_at) = (event.received, event.received_at);
        let DecodedEvent { event, created_at, pod, sandboxes, containers, detail, malformed } =
            event.into_parts();
        let claimed = self.claimed(created_at, received);
        if claimed < self.began {
            self.metrics.stream.replayed.inc();
        }
        self.note_replayed(claimed);
        if sandboxes.is_empty() {
            self.metrics.stream.nil_payloads.inc();
        }
        self.metrics.stream.malformed.with(Channel::Stream).inc_by(malformed);
        let known = |id: &ObjectId| self.cache().pod_of(id.as_str());
        // Without a sandbox, the labels of the containers in the payload may name another pod with the same UID.
        let known = known(sandboxes.first().map_or(&event.id, |sandbox| &sandbox.id));
        let Some(pod) = known.or(pod) else {
            self.note_if_unresolved(claimed, &event, None);
            return Err(event);
        };
        let containers = containers.into_iter().filter(|it| self.may_be_of(it, &pod)).collect();
        let observation = Observation::event(event, received, observed_at, pod);
        Ok(Observation { claimed, sandboxes, containers, detail, ..observation })
    }

    /// Applies an observation, publishes each change that follows from it, and returns the reads that it calls for.
    pub fn apply(&self, observation: &Observation) -> Vec<PodReadRequest> {
        let quirks = self.quirks.load();
        let context = self.context(&quirks);
        loop {
            let slot = self.store.slot_or_new(&observation.pod);
            let Some(mut locked) = slot.lock() else { continue };
            let reads = self.apply_to(&slot, &mut locked.state, observation, &context);
            self.store.evict_if_empty(&slot, &mut locked);
            return reads;
        }
    }

    /// Applies the events of a pod that wait for reads of these ids, which have ended.
    pub fn apply_deferred(&self, pod: &PodIdentity, done: &BTreeSet<ObjectId>) -> Vec<PodReadRequest> {
        let quirks = self.quirks.load();
        let context = self.context(&quirks);
        let Some(slot) = self.store.slot(names(pod)) else { return Vec::new() };
        let Some(mut locked) = slot.lock() else { return Vec::new() };
        let events = locked.state.take_deferred(&[], done);
        let reads = self.apply_all(&slot, &mut locked.state, &events, &context);
        self.store.evict_if_empty(&slot, &mut locked);
        reads
    }

    /// Under the pod's lock. A sandbox in the observation has the labels that deferred events wait for: they are older, and come first.
    fn apply_to(
        &self,
        slot: &PodSlot,
        pod: &mut PodState,
        observation: &Observation,
        context: &Context<'_>,
    ) -> Vec<PodReadRequest> {
        let is_full = observation.detail == Detail::Full;
        let seen = if is_full { observation.sandboxes.as_slice() } else { &[] };
        let earlier = pod.take_deferred(seen, &BTreeSet::new());
        let mut reads = self.apply_all(slot, pod, &earlier, context);
        if pod.defer(observation, context) {
            reads.extend(PodReadRequest::deferring(observation));
            return reads;
        }
        reads.extend(self.apply_at_once(slot, pod, observation, context));
        let released = pod.take_deferred(&[], &BTreeSet::new());
        reads.extend(self.apply_all(slot, pod, &released, context));
        reads
    }

    fn apply_all(
        &self,
        slot: &PodSlot,
        pod: &mut PodState,
        observations: &[Observation],
        context: &Context<'_>,
    ) -> Vec<PodReadRequest> {
        observations.iter().flat_map(|it| self.apply_at_once(slot, pod, it, context)).collect()
    }

    fn apply_at_once(
        &self,
        slot: &PodSlot,
        pod: &mut PodState,
        observation: &Observation,
        context: &Context<'_>,
    ) -> Vec<PodReadRequest> {
        let outcome = pod.apply(observation, context);
        if let Some(event) = &observation.stream_event {
            self.note_if_unresolved(observation.claimed, event, Some(pod));
        }
        // An id is found as soon as an event of it is seen.
        self.store.add_ids(slot, &outcome.added);
        let events = self.events(pod, observation, &outcome, context);
        self.publish(slot, pod, events, &outcome);
        self.count(observation, &outcome, context);
        self.store.remove_ids(slot, &outcome.removed, context.now);
        let of_pod = |read| PodReadRequest { pod: observation.pod.clone(), read };
        outcome.reads.into_iter().map(of_pod).collect()
    }

    /// The events of the changes.
    fn events(
        &self,
        pod: &PodState,
        observation: &Observation,
        outcome: &Outcome,
        context: &Context<'_>,
    ) -> Vec<Event> {
        let event = |transition: &Transition| Event {
            late: self.is_late(transition, context.now),
            ..lifecycle_event(transition, pod, observation)
        };
        let events = outcome.transitions.iter().map(event).collect::<Vec<_>>();
        self.compare_paths(&events, &outcome.transitions, context);
        events
    }

    /// Writes the changes to the state on disk, then appends them to the journal and lets readers see the pod, both at once.
    fn publish(&self, slot: &PodSlot, pod: &mut PodState, events: Vec<Event>, outcome: &Outcome) {
        let unsaved = self.unsaved(slot, pod, &outcome.removed);
        if events.is_empty() && !outcome.changed {
            return self.save(unsaved);
        }
        let append = self.journal.begin();
        self.save_events(unsaved, append.first_sequence(), &events);
        append.commit(events, pod.served(), &slot.cached);
    }

    /// Counts the verdicts, and has an event of the stream compared.
    fn count(&self, observation: &Observation, outcome: &Outcome, context: &Context<'_>) {
        for verdict in &outcome.verdicts {
            self.metrics.arbitration.observations.inc((observation.source, *verdict));
        }
        if let Some(StreamEvent { id, kind, .. }) = &observation.stream_event {
            // CREATED has no transition of its own; of the others, another transition of the same id leaves theirs to come.
            let is_published = |it: &Transition| {
                it.id == *id && (*kind == StreamEventType::Created || stream_event_of(it.kind) == Some(*kind))
            };
            let published = outcome.transitions.iter().any(is_published);
            self.paths.record_stream_event(id, *kind, published, context.now);
        }
    }

    /// Counts the published transitions, and has the paths compared. Initial inventory, and changes while plegd was down, are only counted.
    fn compare_paths(&self, events: &[Event], transitions: &[Transition], context: &Context<'_>) {
        let now = context.now;
        for (event, transition) in events.iter().zip(transitions) {
            self.metrics.transitions.record(event);
            if event.initial || event.late {
                continue;
            }
            // An inferred transition was not detected, only concluded from a later one.
            if let Some(occurred) = self.occurred(transition, now).filter(|_| !event.inferred) {
                self.metrics.transitions.detected(event.source, now.since(occurred));
            }
            // A read often follows an event at once, or comes just before it: the comparison waits for the event.
            let due =
                event.source != Source::Event && self.stream_should_report(transition, now, context.quirks);
            self.paths.record_published(&event.id, event.kind, event.source, due, now);
        }
    }

    /// When a transition happened, if its time can be right: not before the last moment at which it had not happened. The clock of a
    /// guest (Kata) may be hours off.
    fn occurred(&self, transition: &Transition, now: Mono) -> Option<Mono> {
        let after = transition.after?;
        match self.clock.to_monotonic(transition.occurred_at?, now) {
            Stamped::At(at) if at + STEP_MARGIN >= after => Some(at),
            _ => None,
        }
    }

    /// Whether a working stream has reported this transition by now or will in a moment.
    fn stream_should_report(&self, transition: &Transition, now: Mono, quirks: &Quirks) -> bool {
        let Some(up) = get(&self.progress.stream_up) else { return false };
        let removal = transition.kind == EventType::ContainerRemoved;
        if quirks.has(Quirk::SilentSandboxes) && (removal || transition.subject == Subject::Sandbox) {
            return false;
        }
        if transition.has_no_stream_event {
            return false;
        }
        // It happened after the stream was up: it had not when the stream was up, or its time says so.
        if transition.last_seen_without_it.or(transition.after).is_some_and(|before| before > up) {
            return true;
        }
        self.occurred(transition, now).is_some_and(|at| at > up)
    }

    /// Whether a container in an event belongs to the event's pod. CRI-O puts into an event all containers with the label of the
    /// pod's UID, also those of another pod that has the same UID.
    fn may_be_of(&self, container: &ContainerStatus, pod: &PodIdentity) -> bool {
        match self.cache().pod_of(container.id.as_str()) {
            Some(known) => known == *pod,
            None => pod_of_container(container).is_none_or(|named| named == *pod),
        }
    }

    /// The moment that the timestamp of an event claims, as late as the clock's error allows and no later than its receipt.
    fn claimed(&self, stamped: Wall, received: Mono) -> Mono {
        match self.clock.to_monotonic(stamped, received) {
            // The clock may have been slewed since the timestamp was taken.
            Stamped::At(at) => (at + slewed_in(received.since(at))).min(received),
            Stamped::BeforeStep(step) => step.min(received),
            Stamped::Unknown => {
                self.metrics.stream.bad_stamps.inc();
                received
            }
        }
    }

    fn context<'a>(&'a self, quirks: &'a Quirks) -> Context<'a> {
        Context {
            now: self.clock.now(),
            began: self.began,
            horizon: self.store.horizon(),
            listed: get(&self.progress.listed),
            listed_before: get(&self.progress.listed_before),
            restored: self.was_inventoried,
            awaits_replay: self.awaits_replay(quirks),
            stream_up: get(&self.progress.stream_up).is_some(),
            quirks,
            known: &self.store,
        }
    }
}

/// The event that is published for a transition.
fn lifecycle_event(transition: &Transition, pod: &PodState, observation: &Observation) -> Event {
    Event {
        sequence: 0,
        kind: transition.kind,
        subject: transition.subject,
        pod: observation.pod.clone(),
        labels: pod.labels().clone(),
        id: transition.id.clone(),
        container_name: transition.container_name.clone(),
        source: if transition.announced { Source::Event } else { observation.source },
        occurred_at: transition.occurred_at,
        observed_at: observation.observed_at,
        stamped_at: observation.stream_event.as_ref().and_then(|event| event.stamped_at),
        exit_code: transition.exit_code,
        reason: transition.reason.clone(),
        initial: transition.initial,
        late: false,
        inferred: transition.inferred,
    }
}

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
