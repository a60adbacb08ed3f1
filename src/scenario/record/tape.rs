//! The recorded state of the runtime, and the steps that produce it.
//!
//! Pure: lists, reads and events come in with their times; steps come out. A read or list that began before an event
//! was received may be older than the event, and then changes nothing: a later one decides.

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

/// How long a sandbox stays after its DELETED on a runtime that sends it early; about the time that containerd 2.1
/// needs.
const DELETION_LAG: Duration = Duration::from_millis(2);

/// The known state, and the steps so far.
#[derive(Debug)]
pub(super) struct Tape {
    names: Pseudonyms,
    entries: BTreeMap<String, Entry>,
    /// Removed ids, and when each was last known to exist.
    removed: BTreeMap<String, Mono>,
    /// Steps as lines of JSON.
    steps: Vec<String>,
    bytes: usize,
    /// The time of the last step.
    at: Mono,
    /// Whether the steps come before plegd's start.
    before: bool,
    listed_twice: BTreeSet<String>,
    /// Sandboxes to be removed, and when.
    removing: VecDeque<(Mono, String)>,
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    /// The sandbox of a container: the runtime's id, no pseudonym.
    sandbox_id: String,
    fields: Fields,
    phase: Option<Phase>,
    /// When the last event that contains it was sent.
    touched: Option<Mono>,
    /// When it was last read.
    read: Mono,
    mismatches: u32,
    /// The state in lists, where it contradicts the status.
    listed_as: Option<&'static str>,
    failures: u32,
    /// The code with which its status fails, once it is recorded.
    failing: Option<&'static str>,
}

/// A status in the notation of the file.
#[derive(Clone, Debug)]
pub(super) struct Status {
    id: String,
    subject: Subject,
    sandbox_id: String,
    fields: Fields,
    phase: Option<Phase>,
}

/// The source and the age of a status.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// An event's payload, sent at this time.
    Event(Mono),
    /// A read that began at this time.
    Read(Mono),
}

// === impl Tape ===

impl Tape {
    /// An empty tape; its first steps come before plegd's start.
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
            removing: VecDeque::new(),
        }
    }

    /// The steps so far, one line each.
    pub(super) fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Bytes of all steps.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// plegd starts; from now on time is recorded.
    pub(super) fn start(&mut self, at: Mono) {
        self.before = false;
        self.at = at;
        self.push(json!({ "do": "ready" }));
    }

    /// Advances the time, and removes sandboxes that are due.
    pub(super) fn advance(&mut self, at: Mono) {
        while self.removing.front().is_some_and(|(due, _)| *due <= at)
            && let Some((due, id)) = self.removing.pop_front()
        {
            self.remove(&id, due);
        }
        let passed = at.since(self.at);
        if !self.before && !passed.is_zero() {
            self.push(json!({ "do": "wait", "seconds": passed.as_secs_f64() }));
        }
        self.at = self.at.max(at);
    }

    /// Adds a step without fields.
    pub(super) fn plain(&mut self, name: &str, at: Mono) {
        self.advance(at);
        self.push(json!({ "do": name }));
    }

    /// The calls of a method fail with this code from now on; `None` ends that.
    pub(super) fn method_fails(&mut self, method: &str, code: Option<&'static str>, at: Mono) {
        self.advance(at);
        self.push(json!({ "do": "fail", "method": method, "code": code }));
    }

    /// Converts a sandbox's status.
    pub(super) fn sandbox(&mut self, status: &SandboxStatus) -> Status {
        Status {
            id: status.id.to_string(),
            subject: Subject::Sandbox,
            sandbox_id: String::new(),
            fields: fields::of_sandbox(status, &mut self.names),
            phase: Some(status.state.phase()),
        }
    }

    /// Converts a container's status.
    pub(super) fn container(&mut self, status: &ContainerStatus) -> Status {
        Status {
            id: status.id.to_string(),
            subject: Subject::Container,
            sandbox_id: status.sandbox_id.to_string(),
            fields: fields::of_container(status, &mut self.names),
            phase: status.state.phase(),
        }
    }

    /// Applies a status: ignored if older than the known state, else recorded as a step.
    pub(super) fn apply(&mut self, status: Status, by: By, at: Mono) {
        if let Some(removed) = self.removed.get(&status.id) {
            match by {
                By::Read(began) if began > *removed => drop(self.removed.remove(&status.id)),
                _ => return,
            }
        }
        let Some(entry) = self.entries.get_mut(&status.id) else { return self.insert(status, by, at) };
        let is_ahead = status.phase > entry.phase;
        let is_taken = match by {
            // Events arrive in order, also those with the same time.
            By::Event(sent) => {
                let is_newest = sent >= entry.read && entry.touched.is_none_or(|touched| sent >= touched);
                is_ahead || is_newest && status.phase == entry.phase
            }
            By::Read(began) => {
                entry.read = began;
                is_ahead || entry.touched.is_none_or(|touched| began > touched)
            }
        };
        if !is_taken {
            return;
        }
        let changed = fields::changed(&entry.fields, &status.fields);
        // An event's payload does not name the sandbox of a container; lists do.
        let moved = matches!(by, By::Read(_))
            && !status.sandbox_id.is_empty()
            && status.sandbox_id != entry.sandbox_id;
        (entry.fields, entry.phase) = (status.fields, status.phase);
        if let By::Event(sent) = by {
            entry.touched = Some(sent);
        }
        if moved {
            entry.sandbox_id.clone_from(&status.sandbox_id);
        }
        if !changed.is_empty() || moved {
            let sandbox_id = moved.then_some(status.sandbox_id);
            self.put(&status.id, status.subject, sandbox_id.as_deref(), changed, at);
        }
    }

    fn insert(&mut self, status: Status, by: By, at: Mono) {
        let (touched, read) = match by {
            By::Event(sent) => (Some(sent), sent),
            By::Read(began) => (None, began),
        };
        let entry = Entry {
            subject: status.subject,
            sandbox_id: status.sandbox_id.clone(),
            fields: status.fields.clone(),
            phase: status.phase,
            touched,
            read,
            mismatches: 0,
            listed_as: None,
            failures: 0,
            failing: None,
        };
        self.entries.insert(status.id.clone(), entry);
        let sandbox_id = (!status.sandbox_id.is_empty()).then_some(status.sandbox_id);
        self.put(
            &status.id,
            status.subject,
            sandbox_id.as_deref(),
            fields::without_defaults(status.fields),
            at,
        );
    }

    /// Records an event. `effect` is what it proves about the runtime's state.
    pub(super) fn event(&mut self, event: Event, effect: Effect) {
        let Event { id, kind, created_at, sent, received, sandbox, containers } = event;
        let sandbox = sandbox.map(|status| self.sandbox(&status));
        let containers: Vec<Status> = containers.iter().map(|status| self.container(status)).collect();
        if effect != Effect::Nothing {
            for status in sandbox.iter().chain(&containers) {
                self.apply(status.clone(), By::Event(sent), received);
            }
            let subject = self.entries.get(&id).map(|entry| entry.subject);
            match (kind, effect, subject) {
                (StreamEventType::Deleted, Effect::AllWithDelayedSandboxes, Some(Subject::Sandbox)) => {
                    self.removing.push_back((received + DELETION_LAG, id.clone()));
                }
                (StreamEventType::Deleted, Effect::All | Effect::AllWithDelayedSandboxes, _) => {
                    self.remove(&id, received);
                }
                _ => {}
            }
        }
        self.advance(received);
        let sandbox = sandbox.map(|status| self.with_id(status));
        let containers: Vec<Value> = containers.into_iter().map(|status| self.with_id(status)).collect();
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

    fn remove(&mut self, id: &str, at: Mono) {
        if self.entries.remove(id).is_none() {
            return;
        }
        self.removed.insert(id.to_owned(), at);
        self.listed_twice.remove(id);
        self.advance(at);
        let id = self.names.of(Kind::Id, id);
        self.push(json!({ "do": "remove", "id": id }));
    }

    fn put(&mut self, id: &str, subject: Subject, sandbox_id: Option<&str>, changed: Fields, at: Mono) {
        self.advance(at);
        let mut status = Map::from_iter([("id".to_owned(), Value::from(self.names.of(Kind::Id, id)))]);
        status.extend(changed);
        let mut step = Map::from_iter([("do".to_owned(), Value::from(name(subject)))]);
        if let Some(sandbox_id) = sandbox_id {
            step.insert("sandbox".to_owned(), self.names.of(Kind::Id, sandbox_id).into());
        }
        step.insert("kubelet".to_owned(), false.into());
        step.insert("status".to_owned(), status.into());
        self.push(step.into());
    }

    fn with_id(&mut self, status: Status) -> Value {
        let id = self.names.of(Kind::Id, &status.id);
        let mut value = Map::from_iter([("id".to_owned(), Value::from(id))]);
        value.extend(fields::without_defaults(status.fields));
        value.into()
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
    /// Nothing: it is older than the recording.
    Nothing,
    /// Its statuses; DELETED is sent while the object still exists.
    Statuses,
    /// Its statuses, and that a DELETED object is removed; a sandbox after [`DELETION_LAG`].
    AllWithDelayedSandboxes,
    /// Its statuses, and that a DELETED object is removed.
    All,
}

/// An event and when it was received.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: StreamEventType,
    pub(super) created_at: Wall,
    /// When it was sent: its timestamp, but not later than its receipt.
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
