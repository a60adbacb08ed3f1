//! What is known of the runtime while it is recorded, and the steps that led there.
//!
//! Pure: what was listed, read and received comes in, with its time; steps come out. A read or list that began before an
//! event was received may be older than the event, and then changes nothing: a later one says what is right.

mod polls;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde_json::{Map, Value, json};

pub(super) use self::polls::ListedItem;
use super::{
    fields::{self, Fields},
    pseudonyms::{Kind, Pseudonyms},
};
use crate::{
    clock::{Mono, Wall},
    model::{ContainerStatus, Phase, SandboxStatus, StreamEventType, Subject},
};

/// How long a sandbox stays after its DELETED on a runtime that sends it early; containerd 2.1 needs about so long.
const DELETION_LAG: Duration = Duration::from_millis(2);

/// What is known, and the steps so far.
#[derive(Debug)]
pub(super) struct Tape {
    names: Pseudonyms,
    entries: BTreeMap<String, Entry>,
    /// When what is gone was last known to be there.
    removed: BTreeMap<String, Mono>,
    /// Steps as lines of JSON.
    steps: Vec<String>,
    bytes: usize,
    /// Up to when the steps have come.
    at: Mono,
    /// Whether these steps come before plegd starts.
    before: bool,
    listed_twice: BTreeSet<String>,
    /// Sandboxes that are about to be gone, and when.
    going: VecDeque<(Mono, String)>,
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    /// The sandbox of a container, as the runtime calls it.
    home: String,
    fields: Fields,
    phase: Option<Phase>,
    /// When the last event that showed it was sent.
    touched: Option<Mono>,
    /// When it was last read.
    read: Mono,
    mismatches: u32,
    /// What lists show in place of the status.
    listed_as: Option<&'static str>,
    failures: u32,
    /// The code with which its status fails, once it is written.
    failing: Option<&'static str>,
}

/// A sandbox or container as a status shows it, in the words of the file.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    id: String,
    subject: Subject,
    home: String,
    fields: Fields,
    phase: Option<Phase>,
}

/// How old what was seen may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// An event's payload, which was sent then.
    Event(Mono),
    /// A read that began then.
    Read(Mono),
}

// === impl Tape ===

impl Tape {
    /// Nothing is known, and the first steps come before plegd starts.
    pub(super) fn new(keep_names: bool, at: Mono) -> Self {
        Self {
            names: Pseudonyms::new(keep_names),
            entries: BTreeMap::new(),
            removed: BTreeMap::new(),
            steps: Vec::new(),
            bytes: 0,
            at,
            before: true,
            listed_twice: BTreeSet::new(),
            going: VecDeque::new(),
        }
    }

    /// The steps so far, a line each.
    pub(super) fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Bytes of all steps.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// plegd starts here, and time begins to count.
    pub(super) fn start(&mut self, at: Mono) {
        self.before = false;
        self.at = at;
        self.push(json!({ "do": "ready" }));
    }

    /// Time has come to this moment.
    pub(super) fn advance(&mut self, at: Mono) {
        while self.going.front().is_some_and(|(due, _)| *due <= at)
            && let Some((due, id)) = self.going.pop_front()
        {
            self.gone(&id, due);
        }
        let passed = at.since(self.at);
        if !self.before && !passed.is_zero() {
            self.push(json!({ "do": "wait", "seconds": passed.as_secs_f64() }));
        }
        self.at = self.at.max(at);
    }

    /// A step without anything else.
    pub(super) fn plain(&mut self, name: &str, at: Mono) {
        self.advance(at);
        self.push(json!({ "do": name }));
    }

    /// The calls of a method fail with this code from now on, or no longer.
    pub(super) fn method_fails(&mut self, method: &str, code: Option<&'static str>, at: Mono) {
        self.advance(at);
        self.push(json!({ "do": "fail", "method": method, "code": code }));
    }

    /// A sandbox's status, as seen.
    pub(super) fn sandbox(&mut self, status: &SandboxStatus) -> Seen {
        Seen {
            id: status.id.to_string(),
            subject: Subject::Sandbox,
            home: String::new(),
            fields: fields::of_sandbox(status, &mut self.names),
            phase: Some(status.state.phase()),
        }
    }

    /// A container's status, as seen.
    pub(super) fn container(&mut self, status: &ContainerStatus) -> Seen {
        Seen {
            id: status.id.to_string(),
            subject: Subject::Container,
            home: status.sandbox_id.to_string(),
            fields: fields::of_container(status, &mut self.names),
            phase: status.state.phase(),
        }
    }

    /// Takes a status in.
    pub(super) fn see(&mut self, seen: Seen, by: By, at: Mono) {
        if let Some(removed) = self.removed.get(&seen.id) {
            match by {
                By::Read(began) if began > *removed => drop(self.removed.remove(&seen.id)),
                _ => return,
            }
        }
        let Some(entry) = self.entries.get_mut(&seen.id) else { return self.insert(seen, by, at) };
        let is_ahead = seen.phase > entry.phase;
        let is_taken = match by {
            // Events come in their order, also those of one moment.
            By::Event(sent) => {
                let is_newest = sent >= entry.read && entry.touched.is_none_or(|touched| sent >= touched);
                is_ahead || is_newest && seen.phase == entry.phase
            }
            By::Read(began) => {
                entry.read = began;
                is_ahead || entry.touched.is_none_or(|touched| began > touched)
            }
        };
        if !is_taken {
            return;
        }
        let changed = fields::changed(&entry.fields, &seen.fields);
        // An event's payload does not say which sandbox its containers are in; lists do.
        let moved = matches!(by, By::Read(_)) && !seen.home.is_empty() && seen.home != entry.home;
        (entry.fields, entry.phase) = (seen.fields, seen.phase);
        if let By::Event(sent) = by {
            entry.touched = Some(sent);
        }
        if moved {
            entry.home.clone_from(&seen.home);
        }
        if !changed.is_empty() || moved {
            let home = moved.then_some(seen.home);
            self.put(&seen.id, seen.subject, home.as_deref(), changed, at);
        }
    }

    fn insert(&mut self, seen: Seen, by: By, at: Mono) {
        let (touched, read) = match by {
            By::Event(sent) => (Some(sent), sent),
            By::Read(began) => (None, began),
        };
        let entry = Entry {
            subject: seen.subject,
            home: seen.home.clone(),
            fields: seen.fields.clone(),
            phase: seen.phase,
            touched,
            read,
            mismatches: 0,
            listed_as: None,
            failures: 0,
            failing: None,
        };
        self.entries.insert(seen.id.clone(), entry);
        let home = (!seen.home.is_empty()).then_some(seen.home);
        self.put(&seen.id, seen.subject, home.as_deref(), fields::without_defaults(seen.fields), at);
    }

    /// An event. `effect` says what it proves of the runtime at that moment.
    pub(super) fn event(&mut self, event: Event, effect: Effect) {
        let Event { id, kind, created_at, sent, received, sandbox, containers } = event;
        let sandbox = sandbox.map(|status| self.sandbox(&status));
        let containers: Vec<Seen> = containers.iter().map(|status| self.container(status)).collect();
        if effect != Effect::Nothing {
            for seen in sandbox.iter().chain(&containers) {
                self.see(seen.clone(), By::Event(sent), received);
            }
            let subject = self.entries.get(&id).map(|entry| entry.subject);
            match (kind, effect, subject) {
                (StreamEventType::Deleted, Effect::AllButSandboxesAtOnce, Some(Subject::Sandbox)) => {
                    self.going.push_back((received + DELETION_LAG, id.clone()));
                }
                (StreamEventType::Deleted, Effect::All | Effect::AllButSandboxesAtOnce, _) => {
                    self.gone(&id, received);
                }
                _ => {}
            }
        }
        self.advance(received);
        let sandbox = sandbox.map(|seen| self.with_id(seen));
        let containers: Vec<Value> = containers.into_iter().map(|seen| self.with_id(seen)).collect();
        let raw = json!({
            "container_id": self.names.of(Kind::Id, &id),
            "container_event_type": match kind {
                StreamEventType::Created => "CONTAINER_CREATED_EVENT",
                StreamEventType::Started => "CONTAINER_STARTED_EVENT",
                StreamEventType::Stopped => "CONTAINER_STOPPED_EVENT",
                StreamEventType::Deleted => "CONTAINER_DELETED_EVENT",
            },
            "created_at": created_at.as_nanos(),
            "pod_sandbox_status": sandbox,
            "containers_statuses": containers,
        });
        self.push(json!({ "do": "event", "raw": raw }));
    }

    fn gone(&mut self, id: &str, at: Mono) {
        if self.entries.remove(id).is_none() {
            return;
        }
        self.removed.insert(id.to_owned(), at);
        self.listed_twice.remove(id);
        self.advance(at);
        let id = self.names.of(Kind::Id, id);
        self.push(json!({ "do": "remove", "id": id }));
    }

    fn put(&mut self, id: &str, subject: Subject, home: Option<&str>, changed: Fields, at: Mono) {
        self.advance(at);
        let mut status = Map::from_iter([("id".to_owned(), Value::from(self.names.of(Kind::Id, id)))]);
        status.extend(changed);
        let mut step = Map::from_iter([("do".to_owned(), Value::from(name(subject)))]);
        if let Some(home) = home {
            step.insert("sandbox".to_owned(), self.names.of(Kind::Id, home).into());
        }
        step.insert("kubelet".to_owned(), false.into());
        step.insert("status".to_owned(), status.into());
        self.push(step.into());
    }

    fn with_id(&mut self, seen: Seen) -> Value {
        let mut status = Map::from_iter([("id".to_owned(), Value::from(self.names.of(Kind::Id, &seen.id)))]);
        status.extend(fields::without_defaults(seen.fields));
        status.into()
    }

    fn push(&mut self, mut step: Value) {
        if self.before
            && let Some(fields) = step.as_object_mut()
        {
            fields.insert("before".to_owned(), true.into());
        }
        let line = step.to_string();
        self.bytes += line.len();
        self.steps.push(line);
    }
}

/// What an event proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it is from before the recording.
    Nothing,
    /// What its statuses show; DELETED may be sent for what is still there.
    Statuses,
    /// What its statuses show, and that what is DELETED is gone; a sandbox goes a moment later.
    AllButSandboxesAtOnce,
    /// What its statuses show, and that what is DELETED is gone.
    All,
}

/// An event and when it was received.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: StreamEventType,
    pub(super) created_at: Wall,
    /// When it was sent, as far as that is known: by its timestamp, and not after it was received.
    pub(super) sent: Mono,
    pub(super) received: Mono,
    pub(super) sandbox: Option<SandboxStatus>,
    pub(super) containers: Vec<ContainerStatus>,
}

// === impl Entry ===

impl Entry {
    /// Whether its status has this state.
    fn shows(&self, state: &str) -> bool {
        self.fields.get("state").and_then(Value::as_str) == Some(state)
    }
}

fn name(subject: Subject) -> &'static str {
    match subject {
        Subject::Sandbox => "sandbox",
        Subject::Container => "container",
    }
}

#[cfg(test)]
mod tests;
