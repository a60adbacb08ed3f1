//! Compares the two paths: which one detected each transition first, by how much it led, and which events the stream missed.
//!
//! The next relist looks for a transition that the stream reported. A transition that a relist found waits for a grace period, in which
//! the stream may still report it. After that it is a *missed event*, if the stream was up all the time. KEP-3386 of the
//! kubelet specifies this count as `kube_pod_missed_events`; the supervisor derives the mode from it. It changes no event and no record.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    clock::Mono,
    metrics::{Metrics, Path, SeenBy},
    model::{EventType, ObjectId, Phase, Source, StreamEventType},
};

/// How long the stream may take to report a transition that a relist has found.
pub const STREAM_GRACE_PERIOD: Duration = Duration::from_secs(2);
/// How long an event is kept that was not published, until a read or a relist publishes its transition.
const UNPUBLISHED_EVENT_TTL: Duration = Duration::from_secs(60);
/// How many transitions wait for the other path at most. Further ones are not compared.
const UNMATCHED_LIMIT: usize = 65_536;

/// The comparison of the paths. Cheap to clone.
#[derive(Clone)]
pub struct PathComparison(Arc<Inner>);

struct Inner {
    pending: Mutex<Pending>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Transitions that one path has reported, and the other not yet.
    unmatched: HashMap<(ObjectId, StreamEventType), PendingMatch>,
    /// Events of the stream whose transition is not published yet, such as an event that names no pod: a relist may publish it first,
    /// and the stream has not missed it.
    unpublished_events: HashMap<(ObjectId, StreamEventType), Mono>,
}

#[derive(Clone, Copy, Debug)]
struct PendingMatch {
    first: Source,
    at: Mono,
}

// === impl PathComparison ===

impl PathComparison {
    /// A comparison that writes to these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner { pending: Mutex::default(), metrics }))
    }

    /// A transition was published, reported first by `first`. `due` says whether the stream has to report it too.
    pub fn record_published(&self, id: &ObjectId, event_type: EventType, first: Source, due: bool, at: Mono) {
        let Some(kind) = stream_event_of(event_type) else { return };
        if first != Source::Event && !due {
            return;
        }
        let mut pending = self.0.pending.lock();
        let key = (id.clone(), kind);
        if first != Source::Event
            && let Some(reported) = pending.unpublished_events.remove(&key)
        {
            self.0.seen_by_both(Path::Event, at.since(reported));
        } else if pending.unmatched.len() < UNMATCHED_LIMIT {
            pending.unmatched.insert(key, PendingMatch { first, at });
        }
    }

    /// The stream reports an event of an id; `published` says whether its transition was published with it.
    pub fn record_stream_event(&self, id: &ObjectId, kind: StreamEventType, published: bool, at: Mono) {
        let mut pending = self.0.pending.lock();
        let Pending { unmatched, unpublished_events } = &mut *pending;
        // Nothing is cloned for an event that was published and that no transition waits for: nearly all are.
        if published && unmatched.is_empty() {
            return;
        }
        let key = (id.clone(), kind);
        if unmatched.get(&key).is_some_and(|pending| pending.first != Source::Event)
            && let Some(pending) = unmatched.remove(&key)
        {
            self.0.seen_by_both(Path::Relist, at.since(pending.at));
        } else if !published && unpublished_events.len() < UNMATCHED_LIMIT {
            unpublished_events.insert(key, at);
        }
    }

    /// A list was read from `began` to `ended`, and shows these ids in these phases.
    pub fn record_list<'a>(
        &self,
        began: Mono,
        ended: Mono,
        ids: impl Iterator<Item = (&'a str, Option<Phase>)>,
    ) {
        let unmatched = &mut self.0.pending.lock().unmatched;
        if !unmatched.values().any(|pending| pending.first == Source::Event && pending.at < began) {
            return;
        }
        let there: HashMap<&str, Option<Phase>> = ids.collect();
        unmatched.retain(|(id, kind), pending| {
            if pending.first != Source::Event || pending.at >= began {
                return true;
            }
            let phase = there.get(id.as_str());
            let seen = match kind {
                StreamEventType::Deleted => phase.is_none(),
                StreamEventType::Stopped => phase == Some(&Some(Phase::Exited)),
                _ => phase.is_some_and(|phase| *phase >= Some(Phase::Running)),
            };
            if seen {
                self.0.seen_by_both(Path::Event, ended.since(pending.at));
            } else {
                self.0.metrics.transitions.seen.inc(SeenBy::EventOnly);
            }
            false
        });
    }

    /// The events that the stream has missed: found by a relist, and not reported by the stream within the grace period.
    pub fn overdue(&self, now: Mono) -> Vec<(ObjectId, StreamEventType)> {
        let mut missed = Vec::new();
        let mut pending = self.0.pending.lock();
        pending.unpublished_events.retain(|_, at| now < *at + UNPUBLISHED_EVENT_TTL);
        pending.unmatched.retain(|(id, kind), pending| {
            let overdue = pending.first != Source::Event && now >= pending.at + STREAM_GRACE_PERIOD;
            if overdue {
                missed.push((id.clone(), *kind));
            }
            !overdue
        });
        drop(pending);
        for (_, kind) in &missed {
            self.0.metrics.transitions.seen.inc(SeenBy::RelistOnly);
            self.0.metrics.transitions.missed.inc(*kind);
        }
        missed
    }

    /// How many transitions and events wait for the other path.
    pub fn uncompared(&self) -> usize {
        let pending = self.0.pending.lock();
        pending.unmatched.len() + pending.unpublished_events.len()
    }

    /// Whether a relist has found a transition that the stream may yet report.
    pub fn has_unconfirmed(&self) -> bool {
        self.0.pending.lock().unmatched.values().any(|pending| pending.first != Source::Event)
    }

    /// The stream is lost: it will not report what it has not reported so far, and is not blamed for that.
    pub fn stream_lost(&self) {
        self.0.pending.lock().unmatched.retain(|_, pending| pending.first == Source::Event);
    }
}

// === impl Inner ===

impl Inner {
    fn seen_by_both(&self, first: Path, lead: Duration) {
        self.metrics.transitions.lead.observe(first, lead);
        self.metrics.transitions.seen.inc(SeenBy::Both);
    }
}

/// The event of the stream that reports a transition which both paths can observe.
pub(crate) fn stream_event_of(kind: EventType) -> Option<StreamEventType> {
    match kind {
        EventType::ContainerStarted => Some(StreamEventType::Started),
        EventType::ContainerDied => Some(StreamEventType::Stopped),
        EventType::ContainerRemoved => Some(StreamEventType::Deleted),
        EventType::ContainerChanged | EventType::PodSync => None,
    }
}
