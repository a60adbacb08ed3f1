//! What a restart of the runtime does to the truth. Containers outlive it; what changed meanwhile is found, and not told.

use super::{ContainerState, Refused, Told, Truth, What};

impl Truth {
    /// The runtime is gone. Processes live on; what they do until [`Truth::recover`] raises no event.
    pub fn crash(&mut self) {
        self.down = true;
    }

    /// The runtime is back and has found what happened meanwhile. There are no events for that (containerd: restart.go).
    pub fn recover(&mut self) {
        self.down = false;
    }

    /// A container whose task nobody knows any more: found ended, exit code 255, reason Unknown, finished at the recovery.
    pub fn lose_task(&mut self, id: &str) -> Result<(), Refused> {
        self.silently(|truth| truth.exit_for(id, 255, "Unknown"))
    }

    /// A container that could not be loaded: CONTAINER_UNKNOWN, until [`Truth::load_container`].
    pub fn fail_load(&mut self, id: &str) -> Result<(), Refused> {
        self.set_state(id, ContainerState::Unknown)?;
        self.note_container(id, What::Lost, Told::No, None);
        Ok(())
    }

    /// A container that could not be loaded is loaded after all, and in the state that its times say.
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

    /// A container that is in no list any more since it could not be loaded at all.
    pub fn vanish_container(&mut self, id: &str) {
        self.drop_container(id, Told::No);
    }

    /// A sandbox that is in no list any more.
    pub fn vanish_sandbox(&mut self, id: &str) {
        for container in self.containers_of(id) {
            self.drop_container(&container, Told::No);
        }
        self.note_sandbox(id, What::Removed, Told::No);
        self.view.sandboxes.remove(id);
    }

    /// A sandbox that is in no list any more, while its containers are: it alone could not be loaded at all.
    pub fn orphan_containers(&mut self, sandbox_id: &str) {
        self.note_sandbox(sandbox_id, What::Removed, Told::No);
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
            self.note_sandbox(id, What::ReadyAgain, Told::No);
        }
    }

    /// A container that has ended is shown as running from now on, by a runtime that has it wrong after a restart
    /// (containerd#12600), and nothing says so.
    pub fn relapse(&mut self, id: &str) -> Result<(), Refused> {
        let container =
            self.view.containers.get_mut(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        if container.state != ContainerState::Exited || container.started_at.is_none() {
            return Err(Refused::WrongState(id.to_owned(), container.state));
        }
        container.state = ContainerState::Running;
        (container.finished_at, container.exit_code) = (None, 0);
        (container.reason, container.message) = (String::new(), String::new());
        self.note_container(id, What::Relapsed, Told::No, None);
        Ok(())
    }

    fn set_state(&mut self, id: &str, state: ContainerState) -> Result<(), Refused> {
        let container =
            self.view.containers.get_mut(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        container.state = state;
        Ok(())
    }

    /// Does something as if the runtime were not there to tell of it.
    fn silently<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        let down = std::mem::replace(&mut self.down, true);
        let result = change(self);
        self.down = down;
        result
    }
}
