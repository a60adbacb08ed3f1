//! Changes for which the runtime sends no event.

use super::{ChangeKind, ContainerState, Refused, Signalled, Truth};
use crate::clock::Mono;

impl Truth {
    /// Sets the reason of a container that runs or has ended, whatever its exit code. containerd shows a reason on a
    /// running container after one of its processes was OOM-killed (kubernetes#78973).
    pub fn set_reason(&mut self, id: &str, reason: &str) -> Result<(), Refused> {
        let container =
            self.view.containers.get(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        if !matches!(container.state, ContainerState::Running | ContainerState::Exited) {
            return Err(Refused::WrongState(id.to_owned(), container.state));
        }
        self.change_reason(id, reason, None);
        Ok(())
    }

    /// Sets an annotation of a sandbox or container.
    pub fn set_annotation(&mut self, id: &str, key: &str, value: &str) {
        if let Some(sandbox) = self.view.sandboxes.get_mut(id) {
            sandbox.spec.annotations.insert(key.to_owned(), value.to_owned());
        } else if let Some(container) = self.view.containers.get_mut(id) {
            container.spec.annotations.insert(key.to_owned(), value.to_owned());
        }
    }

    /// Sets a label of a sandbox or container.
    pub fn set_label(&mut self, id: &str, key: &str, value: &str) {
        if let Some(sandbox) = self.view.sandboxes.get_mut(id) {
            sandbox.spec.labels.insert(key.to_owned(), value.to_owned());
        } else if let Some(container) = self.view.containers.get_mut(id) {
            container.spec.labels.insert(key.to_owned(), value.to_owned());
        }
    }

    /// Sets the addresses of a sandbox.
    pub fn set_addresses(&mut self, id: &str, addresses: &[&str]) {
        if let Some(sandbox) = self.view.sandboxes.get_mut(id) {
            sandbox.ips = addresses.iter().map(|address| (*address).to_owned()).collect();
        }
    }

    /// Sets the reason of a container; the change happened at `at`, or now.
    pub(super) fn change_reason(&mut self, id: &str, reason: &str, at: Option<Mono>) {
        let Some(container) = self.view.containers.get_mut(id) else { return };
        container.reason = reason.to_owned();
        self.note_container(id, ChangeKind::ReasonChanged { reason: reason.to_owned() }, Signalled::No, at);
    }
}
