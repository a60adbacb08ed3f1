//! The truth about each id: its versions over time, and its pod.

use std::collections::{BTreeMap, BTreeSet};

use plegd::{
    api::v1,
    clock::{Mono, Wall},
    sim::{
        Change, SimRuntime, Subject, Truth, What,
        truth::{Container, ContainerState, Sandbox},
    },
};

use crate::support::truth::{Fields, Names, names_of_container, names_of_sandbox};

/// The truth about all ids that ever existed.
#[derive(Default)]
pub struct Facts {
    by_id: BTreeMap<String, Fact>,
    sampled: Mono,
    /// How many changes of the history were processed.
    observed: usize,
}

/// The truth about one id.
#[derive(Debug)]
pub struct Fact {
    pub subject: Subject,
    /// Namespace, name and UID of its pod; none for a container whose pod cannot be known.
    pub pod: Option<Names>,
    /// Name of a container.
    pub name: String,
    /// The sandbox of a container, or the sandbox's own id.
    pub sandbox_id: String,
    /// Nanoseconds by which the clock of its start and end times is ahead.
    pub clock_offset: i64,
    pub versions: Vec<Version>,
}

/// The state of an id for an interval.
#[derive(Debug)]
pub struct Version {
    /// The interval in which the version began.
    pub from: (Mono, Mono),
    /// None if the id did not exist.
    pub object: Option<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Sandbox(Sandbox),
    Container(Container),
}

// === impl Facts ===

impl Facts {
    /// Records the current truth. Must be called after each change.
    pub fn sample(&mut self, sim: &SimRuntime) {
        let from = (self.sampled, sim.clock().now());
        self.sampled = from.1;
        sim.read(|truth| {
            let view = truth.view();
            for change in &truth.history()[self.observed..] {
                let fact = self.by_id.get_mut(&change.id);
                fact.into_iter().for_each(|fact| fact.add_end(change, from));
            }
            self.observed = truth.history().len();
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

    /// All label sets that sandboxes of a pod ever had.
    pub fn labels_of(&self, pod: &Names) -> BTreeSet<&BTreeMap<String, String>> {
        let of_pod = self.by_id.values().filter(|fact| fact.pod.as_ref() == Some(pod));
        of_pod
            .flat_map(|fact| &fact.versions)
            .filter_map(Version::sandbox)
            .map(|it| &it.spec.labels)
            .collect()
    }

    /// Whether a sandbox of the pod existed from `from` to `to`.
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

    /// The object ends and may be gone before the next sample. An event may have shown this version in between.
    fn add_end(&mut self, change: &Change, from: (Mono, Mono)) {
        let What::Died { exit_code, reason } = &change.what else { return };
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

    /// All versions that may have been true at some moment from `from` to `to`.
    pub fn between(&self, from: Mono, to: Mono) -> impl Iterator<Item = &Version> {
        let next = self.versions.iter().skip(1).map(Some).chain([None]);
        let ends_late = move |next: Option<&Version>| next.is_none_or(|next| next.from.1 >= from);
        let versions = self.versions.iter().zip(next);
        versions.filter(move |(it, next)| it.from.0 <= to && ends_late(*next)).map(|(it, _)| it)
    }

    /// The latest possible time of its creation.
    pub fn created(&self) -> Mono {
        self.versions[1].from.1
    }

    /// The latest possible time of its removal.
    pub fn gone(&self) -> Option<Mono> {
        self.versions.last().filter(|last| last.object.is_none()).map(|last| last.from.1)
    }

    /// The number of changes of a served field.
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

    /// The compared fields of the version.
    pub fn fields(&self) -> Option<Fields> {
        Some(match self.object.as_ref()? {
            Object::Sandbox(sandbox) => Fields::of_sandbox(sandbox),
            Object::Container(container) => Fields::of_container(container),
        })
    }
}

/// The served fields of an id in a pod.
pub fn served(pod: Option<&v1::Pod>, id: &str) -> Option<Fields> {
    let pod = pod?;
    let sandbox = pod.sandboxes.iter().find(|it| it.id == id).map(Fields::of_served_sandbox);
    sandbox.or_else(|| pod.containers.iter().find(|it| it.id == id).map(Fields::of_served_container))
}
