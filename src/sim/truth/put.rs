//! Sandboxes and containers set directly, without a life cycle: the objects of scenario files.
//!
//! Nothing here raises an event or is added to the history.

use super::{Container, Sandbox, Truth, View};
use crate::sim::{profile::Profile, v1, wire};

/// How lists show a sandbox or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<T> {
    /// As its status.
    AsStatus,
    /// It is not listed.
    Not,
    /// As this object.
    As(T),
}

impl View {
    /// The sandboxes in lists.
    pub(in crate::sim) fn listed_sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        self.sandboxes.values().filter_map(|sandbox| match self.sandboxes_listed_as.get(&sandbox.id) {
            None => Some(sandbox),
            Some(listed) => listed.as_ref(),
        })
    }

    /// The containers in lists.
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
        // The new one may be in another sandbox.
        self.view.take(&id);
        self.view.put(container);
        match listed {
            Listed::AsStatus => self.view.containers_listed_as.remove(&id),
            Listed::Not => self.view.containers_listed_as.insert(id, None),
            Listed::As(other) => self.view.containers_listed_as.insert(id, Some(other)),
        };
    }

    /// Removes a sandbox or container from the store. The containers of a sandbox stay.
    pub fn forget(&mut self, id: &str) {
        self.view.sandboxes.remove(id);
        self.view.sandboxes_listed_as.remove(id);
        self.view.take(id);
        self.view.containers_listed_as.remove(id);
    }

    /// The event that the runtime would send now, without `created_at`; `None` where it sends none.
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
    /// Its status, as a runtime of this profile returns it.
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
