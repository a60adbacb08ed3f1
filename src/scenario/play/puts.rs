//! What a scenario has put into the runtime, field by field, since later steps name what changes only.

use std::collections::BTreeMap;

use super::super::{
    format::{ListedAs, Put},
    status::{ContainerFields, Labels, SandboxFields},
    time::Time,
};
use crate::sim::{SimRuntime, Subject, truth::Listed};

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Puts {
    sandboxes: BTreeMap<String, Entry<SandboxFields>>,
    containers: BTreeMap<String, Entry<ContainerFields>>,
    /// The sandbox of each container that has ever been there.
    homes: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry<F> {
    status: F,
    listed: Option<ListedAs<F>>,
    labels: Labels,
}

// === impl Puts ===

impl Puts {
    /// Puts a sandbox or changes it.
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
        let listed = match &entry.listed {
            None => Listed::AsStatus,
            Some(ListedAs::Not) => Listed::Not,
            Some(ListedAs::With(fields)) => {
                let mut shown = entry.status.clone();
                shown.update(fields);
                Listed::As(sandbox(&shown))
            }
        };
        let sandbox = sandbox(&entry.status);
        runtime.change(|truth| truth.put_sandbox(sandbox, listed));
        // Their labels repeat the sandbox's.
        let contained: Vec<String> =
            self.homes.iter().filter(|(_, home)| **home == put.id).map(|(id, _)| id.clone()).collect();
        contained.iter().for_each(|id| self.build_container(id, runtime));
    }

    /// Puts a container or changes it.
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
        if let Some(home) = &put.sandbox {
            self.homes.insert(put.id.clone(), home.clone());
        }
        self.build_container(&put.id, runtime);
    }

    /// Removes a sandbox or container.
    pub(super) fn remove(&mut self, id: &str, runtime: &SimRuntime) {
        self.sandboxes.remove(id);
        self.containers.remove(id);
        runtime.change(|truth| truth.forget(id));
    }

    /// The sandbox of a container, also after its removal; a sandbox is its own.
    pub(super) fn sandbox_of(&self, id: &str) -> String {
        self.homes.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    /// Whether an id is a sandbox's or a container's.
    pub(super) fn subject(&self, id: &str) -> Subject {
        if self.sandboxes.contains_key(id) { Subject::Sandbox } else { Subject::Container }
    }

    fn build_container(&self, id: &str, runtime: &SimRuntime) {
        let Some(entry) = self.containers.get(id) else { return };
        let now = runtime.clock().wall();
        let home = self.homes.get(id).cloned().unwrap_or_default();
        let pod = runtime.read(|truth| truth.sandbox(&home).map(|sandbox| sandbox.spec.clone()));
        let container =
            |fields: &ContainerFields| fields.container(id, &home, pod.as_ref(), entry.labels, now);
        let listed = match &entry.listed {
            None => Listed::AsStatus,
            Some(ListedAs::Not) => Listed::Not,
            Some(ListedAs::With(fields)) => {
                let mut shown = entry.status.clone();
                shown.update(fields);
                Listed::As(container(&shown))
            }
        };
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
}
