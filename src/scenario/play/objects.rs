//! The objects that a scenario has put into the runtime, field by field: later steps name only changed fields.

use std::collections::BTreeMap;

use super::super::{
    format::{ListedAs, Put},
    status::{ContainerFields, Labels, SandboxFields},
    time::Time,
};
use crate::sim::{SimRuntime, Subject, truth::Listed};

/// The current sandboxes and containers.
#[derive(Debug, Default)]
pub(super) struct Objects {
    sandboxes: BTreeMap<String, Entry<SandboxFields>>,
    containers: BTreeMap<String, Entry<ContainerFields>>,
    /// The sandbox of each container, including removed ones.
    sandbox_ids: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry<F> {
    status: F,
    listed: Option<ListedAs<F>>,
    labels: Labels,
}

// === impl Objects ===

impl Objects {
    /// Adds or changes a sandbox.
    pub(super) fn sandbox(&mut self, put: &Put<SandboxFields>, runtime: &SimRuntime) {
        let now = runtime.clock().wall();
        let entry = self.sandboxes.entry(put.id.clone()).or_default();
        let mut status = put.status.clone();
        status.fix(now);
        entry.status.update(&status);
        entry.status.created_at.get_or_insert(Time::At(now.as_nanos()));
        entry.change(&put.listed, put.labels);
        if let Some(ListedAs::With(fields)) = &mut entry.listed {
            fields.fix(now);
        }
        let sandbox = |fields: &SandboxFields| fields.sandbox(&put.id, entry.labels, now);
        let listed = entry.listed(SandboxFields::update, sandbox);
        let sandbox = sandbox(&entry.status);
        runtime.change(|truth| truth.put_sandbox(sandbox, listed));
        // The containers' labels repeat the sandbox's.
        let contained: Vec<String> = self
            .sandbox_ids
            .iter()
            .filter(|(_, sandbox_id)| **sandbox_id == put.id)
            .map(|(id, _)| id.clone())
            .collect();
        contained.iter().for_each(|id| self.build_container(id, runtime));
    }

    /// Adds or changes a container.
    pub(super) fn container(&mut self, put: &Put<ContainerFields>, runtime: &SimRuntime) {
        let now = runtime.clock().wall();
        let entry = self.containers.entry(put.id.clone()).or_default();
        let mut status = put.status.clone();
        status.fix(now);
        entry.status.update(&status);
        entry.status.created_at.get_or_insert(Time::At(now.as_nanos()));
        entry.change(&put.listed, put.labels);
        if let Some(ListedAs::With(fields)) = &mut entry.listed {
            fields.fix(now);
        }
        if let Some(sandbox_id) = &put.sandbox {
            self.sandbox_ids.insert(put.id.clone(), sandbox_id.clone());
        }
        self.build_container(&put.id, runtime);
    }

    /// Removes a sandbox or container.
    pub(super) fn remove(&mut self, id: &str, runtime: &SimRuntime) {
        self.sandboxes.remove(id);
        self.containers.remove(id);
        runtime.change(|truth| truth.forget(id));
    }

    /// The sandbox of a container, also after its removal; for a sandbox, its own id.
    pub(super) fn sandbox_of(&self, id: &str) -> String {
        self.sandbox_ids.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    /// Whether an id is that of a sandbox or a container.
    pub(super) fn subject(&self, id: &str) -> Subject {
        if self.sandboxes.contains_key(id) { Subject::Sandbox } else { Subject::Container }
    }

    fn build_container(&self, id: &str, runtime: &SimRuntime) {
        let Some(entry) = self.containers.get(id) else { return };
        let now = runtime.clock().wall();
        let sandbox_id = self.sandbox_ids.get(id).cloned().unwrap_or_default();
        let pod = runtime.read(|truth| truth.sandbox(&sandbox_id).map(|sandbox| sandbox.spec.clone()));
        let container =
            |fields: &ContainerFields| fields.container(id, &sandbox_id, pod.as_ref(), entry.labels, now);
        let listed = entry.listed(ContainerFields::update, container);
        let container = container(&entry.status);
        runtime.change(|truth| truth.put_container(container, listed));
    }
}

// === impl Entry ===

impl<F: Default> Default for Entry<F> {
    fn default() -> Self {
        Self { status: F::default(), listed: None, labels: Labels::WithKubelets }
    }
}

impl<F: Clone> Entry<F> {
    fn change(&mut self, listed: &Option<ListedAs<F>>, labels: Option<Labels>) {
        if listed.is_some() {
            self.listed.clone_from(listed);
        }
        self.labels = labels.unwrap_or(self.labels);
    }

    /// The object that lists show. `update` changes fields, and `object` makes an object of them.
    fn listed<T>(&self, update: impl Fn(&mut F, &F), object: impl Fn(&F) -> T) -> Listed<T> {
        match &self.listed {
            None => Listed::AsStatus,
            Some(ListedAs::Not) => Listed::Not,
            Some(ListedAs::With(fields)) => {
                let mut shown = self.status.clone();
                update(&mut shown, fields);
                Listed::As(object(&shown))
            }
        }
    }
}
