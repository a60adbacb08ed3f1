//! The ledger: which path saw each transition first, by how much it led the other, and what the stream missed.
//!
//! Both paths are measured against each other all the time. A transition that the stream told is looked for in the next
//! relist; one that a relist found is held for a grace, in which the stream may still tell it, and is a *miss* after
//! that, if the stream was up all the while. This is what the kubelet's KEP-3386 wished for as `kube_pod_missed_events`
//! and what the mode machine trusts the stream by. Observes only: it changes no event and no cache entry.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    clock::Mono,
    metrics::{Metrics, Path, SeenBy},
    model::{EventType, ObjectId, Phase, SignalType, Source},
};

/// How long the stream may take to tell what a relist has found.
pub const GRACE: Duration = Duration::from_secs(2);
/// How long what the stream has said is remembered, until a read or a relist can tell it.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many transitions are waiting at most for the other path; past that they are not compared.
const WAITING_AT_MOST: usize = 65_536;

/// The ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    book: Mutex<Book>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Book {
    /// What one path has told, and the other not yet.
    waiting: HashMap<(ObjectId, SignalType), Sighting>,
    /// What the stream has said and could not be told yet, such as an event that names no pod: a relist may be first to
    /// tell it, and the stream has not missed it.
    said: HashMap<(ObjectId, SignalType), Mono>,
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    first: Source,
    at: Mono,
}

// === impl Ledger ===

impl Ledger {
    /// An empty ledger that writes to these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner { book: Mutex::default(), metrics }))
    }

    /// A transition was told, seen first by `first`. `due` says whether the stream should tell it too.
    pub fn told(&self, id: &ObjectId, kind: EventType, first: Source, due: bool, at: Mono) {
        let Some(signal) = signal_of(kind) else { return };
        if first != Source::Event && !due {
            return;
        }
        let mut book = self.0.book.lock();
        let key = (id.clone(), signal);
        if first != Source::Event
            && let Some(said) = book.said.remove(&key)
        {
            self.0.seen_by_both(Path::Event, at.since(said));
        } else if book.waiting.len() < WAITING_AT_MOST {
            book.waiting.insert(key, Sighting { first, at });
        }
    }

    /// The stream tells of an id; `told` says whether anything of it was told on that.
    pub fn heard(&self, id: &ObjectId, signal: SignalType, told: bool, at: Mono) {
        let mut book = self.0.book.lock();
        let Book { waiting, said } = &mut *book;
        // Nothing is cloned for an event that was told and that nobody waits for: nearly all are.
        if told && waiting.is_empty() {
            return;
        }
        let key = (id.clone(), signal);
        if waiting.get(&key).is_some_and(|sighting| sighting.first != Source::Event)
            && let Some(sighting) = waiting.remove(&key)
        {
            self.0.seen_by_both(Path::Relist, at.since(sighting.at));
        } else if !told && said.len() < WAITING_AT_MOST {
            said.insert(key, at);
        }
    }

    /// A list was read from `began` to `ended`; `phase_of` says what it has.
    pub fn listed<'a>(&self, began: Mono, ended: Mono, ids: impl Iterator<Item = (&'a str, Option<Phase>)>) {
        let waiting = &mut self.0.book.lock().waiting;
        if !waiting.values().any(|sighting| sighting.first == Source::Event && sighting.at < began) {
            return;
        }
        let there: HashMap<&str, Option<Phase>> = ids.collect();
        waiting.retain(|(id, kind), sighting| {
            if sighting.first != Source::Event || sighting.at >= began {
                return true;
            }
            let phase = there.get(id.as_str());
            let seen = match kind {
                SignalType::Deleted => phase.is_none(),
                SignalType::Stopped => phase == Some(&Some(Phase::Exited)),
                _ => phase.is_some_and(|phase| *phase >= Some(Phase::Running)),
            };
            if seen {
                self.0.seen_by_both(Path::Event, ended.since(sighting.at));
            } else {
                self.0.metrics.transitions.seen.inc(SeenBy::EventOnly);
            }
            false
        });
    }

    /// What the stream has missed, by id: found by a relist, and not reported by the stream within the grace.
    pub fn overdue(&self, now: Mono) -> Vec<(ObjectId, SignalType)> {
        let mut missed = Vec::new();
        let mut book = self.0.book.lock();
        book.said.retain(|_, at| now < *at + REMEMBERED);
        book.waiting.retain(|(id, kind), sighting| {
            let overdue = sighting.first != Source::Event && now >= sighting.at + GRACE;
            if overdue {
                missed.push((id.clone(), *kind));
            }
            !overdue
        });
        drop(book);
        for (_, kind) in &missed {
            self.0.metrics.transitions.seen.inc(SeenBy::RelistOnly);
            self.0.metrics.transitions.missed.inc(*kind);
        }
        missed
    }

    /// How many transitions wait to be told by the other path too.
    pub fn uncompared(&self) -> usize {
        let book = self.0.book.lock();
        book.waiting.len() + book.said.len()
    }

    /// Whether a relist has found something that the stream may yet tell.
    pub fn has_suspects(&self) -> bool {
        self.0.book.lock().waiting.values().any(|sighting| sighting.first != Source::Event)
    }

    /// The stream is lost: what it has not told so far it will not tell, and it is not to blame for that.
    pub fn stream_lost(&self) {
        self.0.book.lock().waiting.retain(|_, sighting| sighting.first == Source::Event);
    }
}

// === impl Inner ===

impl Inner {
    fn seen_by_both(&self, first: Path, lead: Duration) {
        self.metrics.transitions.lead.observe(first, lead);
        self.metrics.transitions.seen.inc(SeenBy::Both);
    }
}

/// The event of the stream that tells a transition which both paths can see.
pub(crate) fn signal_of(kind: EventType) -> Option<SignalType> {
    match kind {
        EventType::ContainerStarted => Some(SignalType::Started),
        EventType::ContainerDied => Some(SignalType::Stopped),
        EventType::ContainerRemoved => Some(SignalType::Deleted),
        EventType::ContainerChanged | EventType::PodSync => None,
    }
}
