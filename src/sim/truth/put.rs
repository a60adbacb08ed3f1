//! Sandboxes and containers as somebody describes them, without a life cycle: what scenario files are made of.
//!
//! Nothing here raises an event or is noted in the history.

use super::{Container, Sandbox, Truth, View};
use crate::sim::{profile::Profile, v1, wire};

/// What lists show of a sandbox or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<T> {
    /// What its status says.
    AsStatus,
    /// Nothing: it is not listed.
    Not,
    /// This.
    As(T),
}

impl View {
    /// The sandboxes that lists show.
    pub(in crate::sim) fn listed_sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        self.sandboxes.values().filter_map(|sandbox| match self.sandboxes_listed_as.get(&sandbox.id) {
            None => Some(sandbox),
            Some(listed) => listed.as_ref(),
        })
    }

    /// The containers that lists show.
    pub(in crate::sim) fn listed_containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().filter_map(|container| match self.containers_listed_as.get(&container.id) {
            None => Some(container),
            Some(listed) => listed.as_ref(),
        })
    }
}

impl Truth {
    /// Puts a sandbox into the store, in place of the one with its id.
    pub fn put_sandbox(&mut self, sandbox: Sandbox, listed: Listed<Sandbox>) {
        let id = sandbox.id.clone();
        self.view.sandboxes.insert(id.clone(), sandbox);
        match listed {
            Listed::AsStatus => self.view.sandboxes_listed_as.remove(&id),
            Listed::Not => self.view.sandboxes_listed_as.insert(id, None),
            Listed::As(other) => self.view.sandboxes_listed_as.insert(id, Some(other)),
        };
    }

    /// Puts a container into the store, in place of the one with its id.
    pub fn put_container(&mut self, container: Container, listed: Listed<Container>) {
        let id = container.id.clone();
        // It may be in another sandbox than the one before.
        self.view.take(&id);
        self.view.put(container);
        match listed {
            Listed::AsStatus => self.view.containers_listed_as.remove(&id),
            Listed::Not => self.view.containers_listed_as.insert(id, None),
            Listed::As(other) => self.view.containers_listed_as.insert(id, Some(other)),
        };
    }

    /// Takes a sandbox or container out of the store. The containers of a sandbox stay.
    pub fn forget(&mut self, id: &str) {
        self.view.sandboxes.remove(id);
        self.view.sandboxes_listed_as.remove(id);
        self.view.take(id);
        self.view.containers_listed_as.remove(id);
    }

    /// The event of that kind as the runtime would send it now, its `created_at` still to be set; `None` where it sends
    /// none.
    pub fn event(
        &mut self,
        id: &str,
        sandbox_id: &str,
        kind: v1::ContainerEventType,
    ) -> Option<v1::ContainerEventResponse> {
        wire::event(&self.view, &self.profile, &mut self.rng, id, sandbox_id, kind)
    }
}

impl Sandbox {
    /// Its status, as a runtime of that profile answers it.
    pub fn status(&self, profile: &Profile) -> v1::PodSandboxStatus {
        wire::sandbox_status(self, profile)
    }
}

impl Container {
    /// Its status.
    pub fn status(&self) -> v1::ContainerStatus {
        wire::container_status(self)
    }
}
