//! The effect of life-cycle calls, and of the end of a process, on the truth.

use std::time::Duration;

use super::{
    ChangeKind, Container, ContainerSpec, ContainerState, Due, Refused, Sandbox, SandboxSpec, Signalled,
    Truth,
};
use crate::{
    clock::Wall,
    sim::{
        profile::{OomReason, RemovedWithPod, SandboxCreated, SandboxDeleted, StopContainer, WithoutSandbox},
        v1::ContainerEventType as Kind,
    },
};

/// How long a sandbox stays in containerd's store after its DELETED was sent, where nothing blocks.
pub(in crate::sim) const DELETION_LAG: Duration = Duration::from_millis(2);

const KILLED: i32 = 137;
const TERMINATED: i32 = 143;

impl Truth {
    /// RunPodSandbox: creates a ready sandbox and returns its id.
    pub fn run_sandbox(&mut self, spec: SandboxSpec) -> Result<String, Refused> {
        self.up()?;
        let taken = self.view.sandboxes.values().any(|other| {
            let other = &other.spec;
            (&other.name, &other.namespace, &other.uid, other.attempt)
                == (&spec.name, &spec.namespace, &spec.uid, spec.attempt)
        });
        if taken {
            return Err(Refused::NameTaken(format!(
                "{}_{}_{}_{}",
                spec.name, spec.namespace, spec.uid, spec.attempt
            )));
        }
        let id = self.new_id();
        let ips = if spec.host_network { Vec::new() } else { vec![self.new_address()] };
        // The runtimes take this time before the network setup, and report READY and send events after it.
        let setup = i64::try_from(spec.network_setup.as_nanos()).unwrap_or(i64::MAX);
        let created_at = Wall::from_nanos(self.clock.wall().as_nanos().saturating_sub(setup));
        let sandbox = Sandbox { id: id.clone(), spec, ready: true, created_at, ips, forgotten: false };
        self.view.sandboxes.insert(id.clone(), sandbox);
        // CREATED is raised after the status became READY (containerd: sandbox_run.go).
        match self.profile.sandbox_created {
            SandboxCreated::Sent => {
                self.note_sandbox(&id, ChangeKind::Created, Signalled::Yes);
                self.signal(&id, &id, Kind::ContainerCreatedEvent);
            }
            SandboxCreated::Skipped => self.note_sandbox(&id, ChangeKind::Created, Signalled::No),
        }
        self.note_sandbox(&id, ChangeKind::Started, Signalled::Yes);
        self.signal(&id, &id, Kind::ContainerStartedEvent);
        Ok(id)
    }

    /// StopPodSandbox: kills its containers, then the sandbox, and tears its network down. Succeeds for an unknown
    /// id.
    pub fn stop_sandbox(&mut self, id: &str) -> Result<(), Refused> {
        self.up()?;
        for container in self.containers_of(id) {
            self.end_if_running(&container, KILLED);
        }
        self.sandbox_died(id);
        if let Some(sandbox) = self.view.sandboxes.get_mut(id) {
            // The address is removed with the network, without an event.
            sandbox.ips.clear();
        }
        Ok(())
    }

    /// Adds an address, as in a dual-stack cluster, without an event.
    pub fn give_address(&mut self, id: &str, address: &str) {
        if let Some(sandbox) = self.view.sandboxes.get_mut(id) {
            sandbox.ips.push(address.to_owned());
        }
    }

    /// The sandbox's process ended: it is not ready from now on. Its containers keep running.
    pub fn sandbox_died(&mut self, id: &str) {
        let Some(sandbox) = self.view.sandboxes.get_mut(id) else { return };
        if !std::mem::replace(&mut sandbox.ready, false) {
            return;
        }
        self.note_sandbox(id, ChangeKind::Died { exit_code: 0, reason: String::new() }, Signalled::Yes);
        for _ in 0..self.profile.sandbox_stopped_events {
            self.signal(id, id, Kind::ContainerStoppedEvent);
        }
    }

    /// RemovePodSandbox: stops and removes the containers and the sandbox. Where DELETED is sent before the deletion
    /// (containerd 2.x), the sandbox leaves the store a moment later, in [`Truth::settle`].
    pub fn remove_sandbox(&mut self, id: &str) -> Result<(), Refused> {
        self.remove_sandbox_as(id, self.profile.removed_with_pod)
    }

    /// As [`Truth::remove_sandbox`], but the containers are removed without a DELETED each, whatever the profile
    /// (CRI-O,
    /// `crictl rmp -f`).
    pub fn remove_sandbox_silently(&mut self, id: &str) -> Result<(), Refused> {
        self.remove_sandbox_as(id, RemovedWithPod::Silent)
    }

    fn remove_sandbox_as(&mut self, id: &str, removed: RemovedWithPod) -> Result<(), Refused> {
        self.stop_and_empty(id, removed)?;
        match self.profile.sandbox_deleted {
            SandboxDeleted::AfterDeletion => self.finish_remove_sandbox(id),
            SandboxDeleted::BeforeDeletion if self.view.sandboxes.contains_key(id) => {
                self.later(DELETION_LAG, Due::SandboxGone(id.to_owned()));
            }
            SandboxDeleted::BeforeDeletion => {}
        }
        Ok(())
    }

    /// The part of RemovePodSandbox before the sandbox leaves the store.
    pub(in crate::sim) fn begin_remove_sandbox(&mut self, id: &str) -> Result<(), Refused> {
        self.stop_and_empty(id, self.profile.removed_with_pod)
    }

    fn stop_and_empty(&mut self, id: &str, removed: RemovedWithPod) -> Result<(), Refused> {
        self.stop_sandbox(id)?;
        let signalled = match removed {
            RemovedWithPod::Signalled => Signalled::Yes,
            RemovedWithPod::Silent => Signalled::No,
        };
        for container in self.containers_of(id) {
            self.drop_container(&container, signalled);
        }
        if self.profile.sandbox_deleted == SandboxDeleted::BeforeDeletion
            && let Some(sandbox) = self.view.sandboxes.get_mut(id)
        {
            sandbox.forgotten = true;
            self.signal(id, id, Kind::ContainerDeletedEvent);
        }
        Ok(())
    }

    /// The part of RemovePodSandbox in which the sandbox leaves the store.
    pub(in crate::sim) fn finish_remove_sandbox(&mut self, id: &str) {
        let signalled = match (self.profile.sandbox_deleted, self.profile.without_sandbox) {
            (SandboxDeleted::AfterDeletion, WithoutSandbox::NilStatus) => Signalled::Yes,
            _ => Signalled::No,
        };
        self.drop_sandbox(id, signalled);
    }

    pub(super) fn drop_sandbox(&mut self, id: &str, signalled: Signalled) {
        if !self.view.sandboxes.contains_key(id) {
            return;
        }
        // With DELETED before the deletion the event was raised earlier; the history counts the removal as signalled.
        let was_signalled =
            signalled == Signalled::Yes || self.profile.sandbox_deleted == SandboxDeleted::BeforeDeletion;
        self.note_sandbox(
            id,
            ChangeKind::Removed,
            if was_signalled { Signalled::Yes } else { Signalled::No },
        );
        self.view.sandboxes.remove(id);
        if signalled == Signalled::Yes {
            self.signal(id, id, Kind::ContainerDeletedEvent);
        }
    }

    /// CreateContainer: returns the new container's id.
    pub fn create_container(&mut self, sandbox_id: &str, spec: ContainerSpec) -> Result<String, Refused> {
        self.up()?;
        let sandbox = self
            .view
            .sandboxes
            .get(sandbox_id)
            .ok_or_else(|| Refused::NoSuchSandbox(sandbox_id.to_owned()))?;
        if !sandbox.ready {
            return Err(Refused::SandboxNotReady(sandbox_id.to_owned()));
        }
        let is_taken =
            |other: &Container| (&other.spec.name, other.spec.attempt) == (&spec.name, spec.attempt);
        if self.view.containers_of(sandbox_id).any(is_taken) {
            return Err(Refused::NameTaken(format!("{}_{}", spec.name, spec.attempt)));
        }
        let id = self.new_id();
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            spec,
            state: ContainerState::Created,
            created_at: self.clock.wall(),
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
        };
        self.view.put(container);
        self.note_container(&id, ChangeKind::Created, Signalled::Yes, None);
        self.signal(&id, sandbox_id, Kind::ContainerCreatedEvent);
        Ok(id)
    }

    /// StartContainer.
    pub fn start_container(&mut self, id: &str) -> Result<(), Refused> {
        let sandbox_id = self.startable(id)?;
        let now = self.clock.wall();
        if let Some(container) = self.view.containers.get_mut(id) {
            container.state = ContainerState::Running;
            container.started_at = Some(container.spec.stamp(now));
        }
        self.note_container(id, ChangeKind::Started, Signalled::Yes, None);
        self.signal(id, &sandbox_id, Kind::ContainerStartedEvent);
        Ok(())
    }

    /// A StartContainer that fails, e.g. for a missing command: exit code 128, reason StartError, no start time and
    /// no event (containerd: container_start.go).
    pub fn fail_start(&mut self, id: &str, message: &str) -> Result<(), Refused> {
        self.startable(id)?;
        let now = self.clock.wall();
        if let Some(container) = self.view.containers.get_mut(id) {
            container.state = ContainerState::Exited;
            container.finished_at = Some(container.spec.stamp(now));
            container.exit_code = 128;
            container.reason = "StartError".to_owned();
            container.message = message.to_owned();
        }
        let kind = ChangeKind::Died { exit_code: 128, reason: "StartError".to_owned() };
        self.note_container(id, kind, Signalled::No, None);
        Ok(())
    }

    /// A running container ends: reason Completed for exit code 0, else Error.
    pub fn exit(&mut self, id: &str, exit_code: i32) -> Result<(), Refused> {
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        self.exit_for(id, exit_code, reason)
    }

    /// A running container ends with this reason.
    pub fn exit_for(&mut self, id: &str, exit_code: i32, reason: &str) -> Result<(), Refused> {
        let now = self.clock.wall();
        let container =
            self.view.containers.get_mut(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        if container.state != ContainerState::Running {
            return Err(Refused::WrongState(id.to_owned(), container.state));
        }
        container.state = ContainerState::Exited;
        container.finished_at = Some(container.spec.stamp(now));
        container.exit_code = exit_code;
        container.reason = reason.to_owned();
        let sandbox_id = container.sandbox_id.clone();
        let kind = ChangeKind::Died { exit_code, reason: reason.to_owned() };
        self.note_container(id, kind, Signalled::Yes, None);
        self.signal(id, &sandbox_id, Kind::ContainerStoppedEvent);
        Ok(())
    }

    /// The kernel OOM-kills a running container. Before containerd 2.3 the reason is first Error.
    pub fn oom(&mut self, id: &str) -> Result<(), Refused> {
        self.oom_with(id, KILLED)
    }

    /// As [`Truth::oom`], with another exit code: a child was killed, and the container's first process ended by
    /// itself or on SIGTERM (containerd#12260, #12372). Before containerd 2.3 the reason first fits the exit code.
    pub fn oom_with(&mut self, id: &str, exit_code: i32) -> Result<(), Refused> {
        match self.profile.oom_reason {
            OomReason::AtOnce => self.exit_for(id, exit_code, "OOMKilled"),
            OomReason::After(delay) => {
                self.exit(id, exit_code)?;
                self.later(delay, Due::OomReason(id.to_owned()));
                Ok(())
            }
        }
    }

    /// StopContainer: without a grace period it kills, else the process ends on SIGTERM. Does nothing if it does not
    /// run.
    pub fn stop_container(&mut self, id: &str, grace: Duration) -> Result<(), Refused> {
        self.up()?;
        self.end_if_running(id, if grace.is_zero() { KILLED } else { TERMINATED });
        if self.profile.stop_container == StopContainer::Deleted
            && let Some(container) = self.view.containers.get(id)
        {
            let sandbox_id = container.sandbox_id.clone();
            self.signal(id, &sandbox_id, Kind::ContainerDeletedEvent);
        }
        Ok(())
    }

    /// RemoveContainer: kills it first if it runs. Succeeds for an unknown id.
    pub fn remove_container(&mut self, id: &str) -> Result<(), Refused> {
        self.up()?;
        self.end_if_running(id, KILLED);
        self.drop_container(id, Signalled::Yes);
        Ok(())
    }

    pub(super) fn drop_container(&mut self, id: &str, signalled: Signalled) {
        let Some(container) = self.view.containers.get(id) else { return };
        let sandbox_id = container.sandbox_id.clone();
        self.note_container(id, ChangeKind::Removed, signalled, None);
        self.view.take(id);
        if signalled == Signalled::Yes {
            self.signal(id, &sandbox_id, Kind::ContainerDeletedEvent);
        }
    }

    /// The ids of a sandbox's containers.
    pub fn containers_of(&self, sandbox_id: &str) -> Vec<String> {
        self.view.containers_of(sandbox_id).map(|container| container.id.clone()).collect()
    }

    fn end_if_running(&mut self, id: &str, exit_code: i32) {
        // Refused if it does not run, which is intended.
        let _ = self.exit(id, exit_code);
    }

    fn startable(&self, id: &str) -> Result<String, Refused> {
        self.up()?;
        let container =
            self.view.containers.get(id).ok_or_else(|| Refused::NoSuchContainer(id.to_owned()))?;
        if container.state != ContainerState::Created {
            return Err(Refused::WrongState(id.to_owned(), container.state));
        }
        match self.view.sandboxes.get(&container.sandbox_id) {
            Some(sandbox) if sandbox.ready => Ok(container.sandbox_id.clone()),
            _ => Err(Refused::SandboxNotReady(container.sandbox_id.clone())),
        }
    }

    fn up(&self) -> Result<(), Refused> {
        if self.down { Err(Refused::Down) } else { Ok(()) }
    }

    fn new_address(&mut self) -> String {
        self.addresses += 1;
        let n = self.addresses;
        format!("10.244.{}.{}", (n / 250) % 256, n % 250 + 2)
    }
}
