//! What is true of each id, version by version, and of which pod.

use std::collections::{BTreeMap, BTreeSet};

use plegd::{
    api::v1,
    clock::{Mono, Wall},
    sim::{
        Change, ChangeKind, SimRuntime, Subject, Truth,
        truth::{Container, ContainerState, Sandbox},
    },
};

use crate::support::truth::{Fields, Names, names_of_container, names_of_sandbox};

/// What is true of all ids that there ever were.
#[derive(Default)]
pub struct Facts {
    by_id: BTreeMap<String, Fact>,
    sampled: Mono,
    /// How many changes of the history were looked at.
    seen: usize,
}

/// What is true of one id.
#[derive(Debug)]
pub struct Fact {
    pub subject: Subject,
    /// Namespace, name and UID of its pod; none for a container of which nobody can say it.
    pub pod: Option<Names>,
    /// Name of a container.
    pub name: String,
    /// Of a container, the sandbox that it is in; else its own id.
    pub sandbox_id: String,
    /// How far the clock that stamps its start and end is ahead.
    pub clock_offset: i64,
    pub versions: Vec<Version>,
}

/// What was true of an id for a while.
#[derive(Debug)]
pub struct Version {
    /// It has been true since a moment that lies between these two.
    pub from: (Mono, Mono),
    /// None if it was not there.
    pub object: Option<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Sandbox(Sandbox),
    Container(Container),
}

// === impl Facts ===

impl Facts {
    /// Takes note of what is true now. To be called after each change that is made.
    pub fn sample(&mut self, sim: &SimRuntime) {
        let from = (self.sampled, sim.clock().now());
        self.sampled = from.1;
        sim.read(|truth| {
            let view = truth.view();
            for change in &truth.history()[self.seen..] {
                let fact = self.by_id.get_mut(&change.id);
                fact.into_iter().for_each(|fact| fact.pass_through(change, from));
            }
            self.seen = truth.history().len();
            for (id, fact) in &mut self.by_id {
                let is_there = view.sandboxes.contains_key(id) || view.containers.contains_key(id);
                if !is_there && fact.versions.last().is_some_and(|last| last.object.is_some()) {
                    fact.versions.push(Version { from, object: None });
                }
            }
            for (id, sandbox) in &view.sandboxes {
                let is_same =
                    |object: &Object| matches!(object, Object::Sandbox(before) if before == sandbox);
                self.note(truth, id, from, is_same, || Object::Sandbox(sandbox.clone()));
            }
            for (id, container) in &view.containers {
                let is_same =
                    |object: &Object| matches!(object, Object::Container(before) if before == container);
                self.note(truth, id, from, is_same, || Object::Container(container.clone()));
            }
        });
    }

    fn note(
        &mut self,
        truth: &Truth,
        id: &str,
        from: (Mono, Mono),
        is_same: impl Fn(&Object) -> bool,
        object: impl Fn() -> Object,
    ) {
        match self.by_id.get_mut(id) {
            Some(fact) => {
                let last = fact.versions.last().and_then(|last| last.object.as_ref());
                if !last.is_some_and(is_same) {
                    fact.versions.push(Version { from, object: Some(object()) });
                }
            }
            None => {
                self.by_id.insert(id.to_owned(), Fact::new(truth, id, from, object()));
            }
        }
    }

    pub fn get(&self, id: &str) -> Option<&Fact> {
        self.by_id.get(id)
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.by_id.iter().map(|(id, fact)| (id.as_str(), fact))
    }

    /// All labels that sandboxes of a pod ever had, each set once.
    pub fn labels_of(&self, pod: &Names) -> BTreeSet<&BTreeMap<String, String>> {
        let of_pod = self.by_id.values().filter(|fact| fact.pod.as_ref() == Some(pod));
        of_pod
            .flat_map(|fact| &fact.versions)
            .filter_map(Version::sandbox)
            .map(|it| &it.spec.labels)
            .collect()
    }

    /// Whether a sandbox of the pod was there all the time from `from` to `to`.
    pub fn has_sandbox(&self, pod: &Names, from: Mono, to: Mono) -> bool {
        let mut of_pod = (self.by_id.values())
            .filter(|fact| fact.subject == Subject::Sandbox && fact.pod.as_ref() == Some(pod));
        of_pod.any(|fact| fact.between(from, to).all(|version| version.object.is_some()))
    }
}

// === impl Fact ===

impl Fact {
    fn new(truth: &Truth, id: &str, from: (Mono, Mono), object: Object) -> Self {
        let absent = Version { from: (Mono::ZERO, Mono::ZERO), object: None };
        let (subject, pod, name, sandbox_id, clock_offset) = match &object {
            Object::Sandbox(it) => {
                let pod = names_of_sandbox(&it.spec, id);
                (Subject::Sandbox, Some(pod), String::new(), id.to_owned(), 0)
            }
            Object::Container(it) => {
                let pod = names_of_container(truth, id);
                let (name, sandbox_id) = (it.spec.name.clone(), it.sandbox_id.clone());
                (Subject::Container, pod, name, sandbox_id, it.spec.clock_offset)
            }
        };
        let versions = vec![absent, Version { from, object: Some(object) }];
        Self { subject, pod, name, sandbox_id, clock_offset, versions }
    }

    /// It ends, and may be gone before anybody samples it: then this is what an event showed of it in between.
    fn pass_through(&mut self, change: &Change, from: (Mono, Mono)) {
        let ChangeKind::Died { exit_code, reason } = &change.kind else { return };
        let object = match self.versions.last().and_then(|last| last.object.clone()) {
            Some(Object::Sandbox(sandbox)) => Object::Sandbox(Sandbox { ready: false, ..sandbox }),
            Some(Object::Container(container)) => Object::Container(Container {
                state: ContainerState::Exited,
                finished_at: Some(Wall::from_nanos(change.wall.as_nanos() + self.clock_offset)),
                exit_code: *exit_code,
                reason: reason.clone(),
                ..container
            }),
            None => return,
        };
        self.versions.push(Version { from, object: Some(object) });
    }

    /// All that may have been true of it at some moment from `from` to `to`.
    pub fn between(&self, from: Mono, to: Mono) -> impl Iterator<Item = &Version> {
        let next = self.versions.iter().skip(1).map(Some).chain([None]);
        let ends_late = move |next: Option<&Version>| next.is_none_or(|next| next.from.1 >= from);
        let versions = self.versions.iter().zip(next);
        versions.filter(move |(it, next)| it.from.0 <= to && ends_late(*next)).map(|(it, _)| it)
    }

    /// When it was made, at the latest.
    pub fn made(&self) -> Mono {
        self.versions[1].from.1
    }

    /// When it was gone, at the latest.
    pub fn gone(&self) -> Option<Mono> {
        self.versions.last().filter(|last| last.object.is_none()).map(|last| last.from.1)
    }

    /// How often it changed in something that is served.
    pub fn changes(&self) -> usize {
        self.versions.len() - 1
    }
}

// === impl Version ===

impl Version {
    pub fn sandbox(&self) -> Option<&Sandbox> {
        match &self.object {
            Some(Object::Sandbox(sandbox)) => Some(sandbox),
            _ => None,
        }
    }

    pub fn container(&self) -> Option<&Container> {
        match &self.object {
            Some(Object::Container(container)) => Some(container),
            _ => None,
        }
    }

    /// What it shows.
    pub fn fields(&self) -> Option<Fields> {
        Some(match self.object.as_ref()? {
            Object::Sandbox(sandbox) => Fields::of_sandbox(sandbox),
            Object::Container(container) => Fields::of_container(container),
        })
    }
}

/// What is served of an id in a pod.
pub fn served(pod: Option<&v1::Pod>, id: &str) -> Option<Fields> {
    let pod = pod?;
    let sandbox = pod.sandboxes.iter().find(|it| it.id == id).map(Fields::of_served_sandbox);
    sandbox.or_else(|| pod.containers.iter().find(|it| it.id == id).map(Fields::of_served_container))
}
