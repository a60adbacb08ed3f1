//! The effect of a runtime restart on the truth. Containers outlive it; changes during the downtime are found without
//! events.

use super::{ChangeKind, ContainerState, Refused, Signalled, Truth};

impl Truth {
    /// The runtime is down. Processes keep running; their changes until [`Truth::recover`] raise no event.
    pub fn crash(&mut self) {
        self.down = true;
    }

    /// The runtime is up and has found the changes of the downtime, without events (containerd: restart.go).
    pub fn recover(&mut self) {
        self.down = false;
    }

    /// A container without a task: found ended, exit code 255, reason Unknown, finished at the recovery.
    pub fn lose_task(&mut self, id: &str) -> Result<(), Refused> {
        self.silently(|truth| truth.exit_for(id, 255, "Unknown"))
    }

    /// A container that could not be loaded: CONTAINER_UNKNOWN, until [`Truth::load_container`].
    pub fn fail_load(&mut self, id: &str) -> Result<(), Refused> {
        self.set_state(id, ContainerState::Unknown)?;
        self.note_container(id, ChangeKind::Lost, Signalled::No, None);
        Ok(())
    }

    /// A container that could not be loaded is loaded after all, in the state that its times imply.
    pub fn load_container(&mut self, id: &str) -> Result<(), Refused> {
        let container =
            self.view.containers.get(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        let state = match (container.started_at, container.finished_at) {
            (_, Some(_)) => ContainerState::Exited,
            (Some(_), None) => ContainerState::Running,
            (None, None) => ContainerState::Created,
        };
        self.set_state(id, state)
    }

    /// A container that could not be loaded at all and is in no list any more.
    pub fn vanish_container(&mut self, id: &str) {
        self.drop_container(id, Signalled::No);
    }

    /// A sandbox that is in no list any more.
    pub fn vanish_sandbox(&mut self, id: &str) {
        for container in self.containers_of(id) {
            self.drop_container(&container, Signalled::No);
        }
        self.note_sandbox(id, ChangeKind::Removed, Signalled::No);
        self.view.sandboxes.remove(id);
    }

    /// A sandbox that could not be loaded at all and is in no list any more; its containers still are.
    pub fn orphan_containers(&mut self, sandbox_id: &str) {
        self.note_sandbox(sandbox_id, ChangeKind::Removed, Signalled::No);
        self.view.sandboxes.remove(sandbox_id);
    }

    /// A sandbox that could not be loaded: not ready, until [`Truth::load_sandbox`].
    pub fn fail_sandbox_load(&mut self, id: &str) {
        self.silently(|truth| truth.sandbox_died(id));
    }

    /// A sandbox that could not be loaded is loaded after all: ready again.
    pub fn load_sandbox(&mut self, id: &str) {
        if let Some(sandbox) = self.view.sandboxes.get_mut(id)
            && !std::mem::replace(&mut sandbox.ready, true)
        {
            self.note_sandbox(id, ChangeKind::ReadyAgain, Signalled::No);
        }
    }

    /// A container that has ended is reported as running from now on, by mistake after a restart (containerd#12600),
    /// without an event.
    pub fn relapse(&mut self, id: &str) -> Result<(), Refused> {
        let container =
            self.view.containers.get_mut(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        if container.state != ContainerState::Exited || container.started_at.is_none() {
            return Err(Refused::WrongState(id.to_owned(), container.state));
        }
        container.state = ContainerState::Running;
        (container.finished_at, container.exit_code) = (None, 0);
        (container.reason, container.message) = (String::new(), String::new());
        self.note_container(id, ChangeKind::Relapsed, Signalled::No, None);
        Ok(())
    }

    fn set_state(&mut self, id: &str, state: ContainerState) -> Result<(), Refused> {
        let container =
            self.view.containers.get_mut(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        container.state = state;
        Ok(())
    }

    /// Changes the truth as if the runtime were down, so without an event.
    fn silently<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        let down = std::mem::replace(&mut self.down, true);
        let result = change(self);
        self.down = down;
        result
    }
}
