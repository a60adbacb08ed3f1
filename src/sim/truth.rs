//! The truth: the actual sandboxes and containers of a simulated node, and the history of their changes.
//!
//! Owns the objects, the life-cycle operations on them, the signals that these raise (an event each, its payload read
//! at that moment), and the history that tests compare with what plegd published. It never waits, sends or loses
//! anything; that is for [`super::events`] and [`super::faults`].

pub(super) mod lifecycle;
mod outage;
mod put;
mod silent;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use thiserror::Error;

pub use self::put::Listed;
use super::{profile::Profile, v1, wire};
use crate::clock::{Clock, Mono, Wall};

/// A simulated node.
#[derive(Debug)]
pub struct Truth {
    profile: Profile,
    clock: Clock,
    rng: fastrand::Rng,
    view: View,
    down: bool,
    history: Vec<Change>,
    signals: Vec<Signal>,
    due: BTreeMap<(Mono, u64), Due>,
    dues: u64,
    addresses: u32,
}

/// The content of the runtime's store at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By sandbox id.
    pub sandboxes: BTreeMap<String, Sandbox>,
    /// By container id.
    pub containers: BTreeMap<String, Container>,
    /// Container ids by sandbox id: the containers of one pod are found without a scan.
    of_sandbox: BTreeMap<String, BTreeSet<String>>,
    /// Sandboxes as lists show them, where that differs; `None` leaves the sandbox out.
    sandboxes_listed_as: BTreeMap<String, Option<Sandbox>>,
    /// Containers as lists show them, where that differs; `None` leaves the container out.
    containers_listed_as: BTreeMap<String, Option<Container>>,
}

/// The configuration of a pod sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's UID.
    pub uid: String,
    /// Grows when the pod's sandbox is created again.
    pub attempt: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether the pod uses the node's network; it then has no address of its own.
    pub host_network: bool,
    /// The runtime class's handler.
    pub runtime_handler: String,
    /// Duration of the network setup: the sandbox is ready this long after `created_at`.
    pub network_setup: Duration,
}

/// A pod sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its configuration.
    pub spec: SandboxSpec,
    /// Whether it is ready.
    pub ready: bool,
    /// When it was created.
    pub created_at: Wall,
    /// Its addresses; empty with the node's network and after the network was torn down.
    pub ips: Vec<String>,
    /// Whether the sandbox controller has deleted its record while the store still has it (containerd 2.x in
    /// RemovePodSandbox).
    pub forgotten: bool,
}

/// The configuration of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The container's name in its pod.
    pub name: String,
    /// Grows when the container is created again.
    pub attempt: u32,
    /// The image as requested.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The path of its log.
    pub log_path: String,
    /// Offset of the clock that stamps its start and end against the node's clock, in nanoseconds: that of a virtual
    /// machine.
    pub clock_offset: i64,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The sandbox it runs in.
    pub sandbox_id: String,
    /// Its configuration.
    pub spec: ContainerSpec,
    /// Its state.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Wall,
    /// When it was started; `None` if the start failed.
    pub started_at: Option<Wall>,
    /// When it ended.
    pub finished_at: Option<Wall>,
    /// Its exit code; 0 until it ends.
    pub exit_code: i32,
    /// Reason of the end: Completed, Error, OOMKilled, StartError, Unknown.
    pub reason: String,
    /// Details of the reason.
    pub message: String,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// Created, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime could not load it at its restart.
    Unknown,
}

/// A change as it actually happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, on the monotonic clock.
    pub at: Mono,
    /// When, on the wall clock.
    pub wall: Wall,
    /// The pod.
    pub pod_uid: String,
    /// The container or sandbox.
    pub id: String,
    /// Whether `id` is a container or a sandbox.
    pub subject: Subject,
    /// The kind of change.
    pub kind: ChangeKind,
    /// Whether the runtime raised an event for it; the event may have been lost.
    pub signalled: bool,
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A container.
    Container,
    /// A pod sandbox.
    Sandbox,
}

/// The kind of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A sandbox or container was created.
    Created,
    /// A container was started, or a sandbox became ready.
    Started,
    /// A container ended. A sandbox that is no longer ready has exit code 0 and no reason.
    Died {
        /// The exit code.
        exit_code: i32,
        /// The reason at that moment.
        reason: String,
    },
    /// It left the runtime's store.
    Removed,
    /// The reason of a container changed without an event, usually after its end. A running container can have a
    /// reason too (kubernetes#78973).
    ReasonChanged {
        /// The new reason.
        reason: String,
    },
    /// The runtime could not load the container, whose state is now unknown.
    Lost,
    /// A sandbox that could not be loaded, and so was not ready, is ready again.
    ReadyAgain,
    /// A container that had ended is reported as running again, by mistake (containerd#12600).
    Relapsed,
}

/// Why an operation was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// There is no such sandbox.
    #[error("an error occurred when try to find sandbox: not found")]
    NoSuchSandbox(String),
    /// There is no such container.
    #[error("an error occurred when try to find container {0:?}: not found")]
    NoSuchContainer(String),
    /// A sandbox or container of that name exists.
    #[error("name {0:?} is reserved")]
    NameTaken(String),
    /// The sandbox is not ready.
    #[error("sandbox container {0:?} is not running")]
    SandboxNotReady(String),
    /// The container has been started already.
    #[error("container {0:?} is in state {1:?}")]
    WrongState(String, ContainerState),
    /// The runtime is down.
    #[error("the runtime is down")]
    Down,
}

/// An event raised by the runtime's code, with the payload of that moment. `created_at` is set later.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub(super) sandbox_id: String,
    pub(super) event: v1::ContainerEventResponse,
}

/// A scheduled change.
#[derive(Clone, Debug)]
enum Due {
    OomReason(String),
    SandboxGone(String),
}

// === impl View ===

impl View {
    /// The containers of a sandbox, by id.
    pub fn containers_of(&self, sandbox_id: &str) -> impl Iterator<Item = &Container> {
        self.of_sandbox.get(sandbox_id).into_iter().flatten().filter_map(|id| self.containers.get(id))
    }

    fn put(&mut self, container: Container) {
        let (id, sandbox_id) = (container.id.clone(), container.sandbox_id.clone());
        self.of_sandbox.entry(sandbox_id).or_default().insert(id.clone());
        self.containers.insert(id, container);
    }

    fn take(&mut self, id: &str) {
        let Some(container) = self.containers.remove(id) else { return };
        if let Some(ids) = self.of_sandbox.get_mut(&container.sandbox_id) {
            ids.remove(id);
            if ids.is_empty() {
                self.of_sandbox.remove(&container.sandbox_id);
            }
        }
    }
}

// === impl Truth ===

impl Truth {
    /// An empty node.
    pub fn new(profile: Profile, clock: Clock, seed: u64) -> Self {
        Self {
            profile,
            clock,
            rng: fastrand::Rng::with_seed(seed),
            view: View::default(),
            down: false,
            history: Vec::new(),
            signals: Vec::new(),
            due: BTreeMap::new(),
            dues: 0,
            addresses: 0,
        }
    }

    /// The current content of the store.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// A sandbox.
    pub fn sandbox(&self, id: &str) -> Option<&Sandbox> {
        self.view.sandboxes.get(id)
    }

    /// A container.
    pub fn container(&self, id: &str) -> Option<&Container> {
        self.view.containers.get(id)
    }

    /// All changes, in order.
    pub fn history(&self) -> &[Change] {
        &self.history
    }

    /// Whether the runtime is down.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// Makes the changes that are due: a reason that becomes OOMKilled, a sandbox that leaves the store.
    pub fn settle(&mut self) {
        let now = self.clock.now();
        while let Some(next) = self.due.first_entry()
            && next.key().0 <= now
        {
            let at = next.key().0;
            match next.remove() {
                Due::OomReason(id) => self.change_reason(&id, "OOMKilled", Some(at)),
                Due::SandboxGone(id) => self.drop_sandbox(&id, Signalled::No),
            }
        }
    }

    /// The time of the next scheduled change.
    pub fn next_due(&self) -> Option<Mono> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }

    fn later(&mut self, after: Duration, due: Due) {
        self.dues += 1;
        self.due.insert((self.clock.now() + after, self.dues), due);
    }

    fn signal(&mut self, id: &str, sandbox_id: &str, kind: v1::ContainerEventType) {
        if self.down {
            return;
        }
        if let Some(event) = wire::event(&self.view, &self.profile, &mut self.rng, id, sandbox_id, kind) {
            self.signals.push(Signal { sandbox_id: sandbox_id.to_owned(), event });
        }
    }

    fn note_sandbox(&mut self, id: &str, kind: ChangeKind, signalled: Signalled) {
        let Some(sandbox) = self.view.sandboxes.get(id) else { return };
        let pod_uid = sandbox.spec.uid.clone();
        self.note(pod_uid, id, Subject::Sandbox, kind, signalled, None);
    }

    fn note_container(&mut self, id: &str, kind: ChangeKind, signalled: Signalled, at: Option<Mono>) {
        let Some(container) = self.view.containers.get(id) else { return };
        let pod_uid = self
            .view
            .sandboxes
            .get(&container.sandbox_id)
            .map(|sandbox| sandbox.spec.uid.clone())
            .or_else(|| container.spec.labels.get(wire::POD_UID_LABEL).cloned())
            .unwrap_or_default();
        self.note(pod_uid, id, Subject::Container, kind, signalled, at);
    }

    fn note(
        &mut self,
        pod_uid: String,
        id: &str,
        subject: Subject,
        kind: ChangeKind,
        signalled: Signalled,
        at: Option<Mono>,
    ) {
        let (now, wall) = self.clock.now_both();
        let at = at.unwrap_or(now);
        let ago = i64::try_from(now.since(at).as_nanos()).unwrap_or(0);
        self.history.push(Change {
            at,
            wall: Wall::from_nanos(wall.as_nanos().saturating_sub(ago)),
            pod_uid,
            id: id.to_owned(),
            subject,
            kind,
            signalled: signalled == Signalled::Yes && !self.down,
        });
    }

    fn new_id(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.rng.u64(..))).collect()
    }
}

/// Whether a change raises an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signalled {
    Yes,
    No,
}

// === impl SandboxSpec ===

impl SandboxSpec {
    /// A pod as the kubelet creates it: with the labels that name it.
    pub fn of_pod(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            uid: uid.to_owned(),
            labels: wire::pod_labels(namespace, name, uid),
            ..Self::default()
        }
    }

    /// A pod as `crictl runp` creates it: named by its metadata, without the kubelet's labels.
    pub fn by_crictl(namespace: &str, name: &str, uid: &str) -> Self {
        Self { labels: BTreeMap::new(), ..Self::of_pod(namespace, name, uid) }
    }
}

// === impl ContainerSpec ===

impl ContainerSpec {
    /// A container as the kubelet creates it: with the labels that name it and its pod.
    pub fn of_pod(pod: &SandboxSpec, name: &str, attempt: u32, image: &str) -> Self {
        let mut labels = wire::pod_labels(&pod.namespace, &pod.name, &pod.uid);
        labels.insert(wire::CONTAINER_NAME_LABEL.to_owned(), name.to_owned());
        Self {
            name: name.to_owned(),
            attempt,
            image: image.to_owned(),
            labels,
            annotations: BTreeMap::from([(
                "io.kubernetes.container.restartCount".to_owned(),
                attempt.to_string(),
            )]),
            log_path: format!("{name}/{attempt}.log"),
            clock_offset: 0,
        }
    }

    /// A container as `crictl create` creates it: named by its metadata, without the kubelet's labels and
    /// annotations.
    pub fn by_crictl(name: &str, attempt: u32, image: &str) -> Self {
        Self { name: name.to_owned(), attempt, image: image.to_owned(), ..Self::default() }
    }

    /// The time on the container's own clock.
    fn stamp(&self, wall: Wall) -> Wall {
        Wall::from_nanos(wall.as_nanos().saturating_add(self.clock_offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_nanos(1_800_000_000_000_000_000);

    fn pod() -> SandboxSpec {
        SandboxSpec::of_pod("default", "web", "uid-1")
    }

    fn container(attempt: u32) -> ContainerSpec {
        ContainerSpec::of_pod(&pod(), "main", attempt, "busybox:1")
    }

    #[tokio::test(start_paused = true)]
    async fn invalid_transitions_are_refused() {
        let mut truth = Truth::new(Profile::CONTAINERD_2_1, Clock::simulated(NOW).0, 1);
        let sandbox = truth.run_sandbox(pod()).unwrap();
        assert!(matches!(truth.run_sandbox(pod()), Err(Refused::NameTaken(_))));
        assert!(truth.run_sandbox(SandboxSpec { attempt: 1, ..pod() }).is_ok());
        let id = truth.create_container(&sandbox, container(0)).unwrap();
        assert!(matches!(truth.create_container(&sandbox, container(0)), Err(Refused::NameTaken(_))));
        assert!(matches!(truth.exit(&id, 0), Err(Refused::WrongState(..))));
        truth.start_container(&id).unwrap();
        assert!(matches!(truth.start_container(&id), Err(Refused::WrongState(..))));
        truth.exit(&id, 0).unwrap();
        assert!(matches!(truth.start_container(&id), Err(Refused::WrongState(..))));
        truth.stop_sandbox(&sandbox).unwrap();
        assert!(matches!(truth.create_container(&sandbox, container(1)), Err(Refused::SandboxNotReady(_))));
        truth.crash();
        assert_eq!(truth.remove_sandbox(&sandbox), Err(Refused::Down));
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_a_sandbox_kills_its_containers_and_removes_its_address() {
        let mut truth = Truth::new(Profile::CONTAINERD_2_1, Clock::simulated(NOW).0, 1);
        let sandbox = truth.run_sandbox(pod()).unwrap();
        assert_eq!(truth.sandbox(&sandbox).unwrap().ips.len(), 1);
        let id = truth.create_container(&sandbox, container(0)).unwrap();
        truth.start_container(&id).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        truth.stop_sandbox(&sandbox).unwrap();
        let ended = truth.container(&id).unwrap();
        assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, 137));
        assert_eq!(ended.finished_at.unwrap().seconds_since(ended.started_at.unwrap()), 1.0);
        assert!(truth.sandbox(&sandbox).unwrap().ips.is_empty());
        let signals = truth.take_signals();
        truth.stop_sandbox(&sandbox).unwrap();
        assert!(truth.take_signals().is_empty(), "a stopped sandbox sends no event");
        assert_eq!(signals.len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn before_2_3_the_reason_of_an_oom_kill_changes_later_at_its_scheduled_time() {
        let mut truth = Truth::new(Profile::CONTAINERD_2_1, Clock::simulated(NOW).0, 1);
        let sandbox = truth.run_sandbox(pod()).unwrap();
        let id = truth.create_container(&sandbox, container(0)).unwrap();
        truth.start_container(&id).unwrap();
        truth.oom(&id).unwrap();
        assert_eq!(truth.container(&id).unwrap().reason, "Error");
        let due = truth.next_due().unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        truth.settle();
        assert_eq!(truth.container(&id).unwrap().reason, "OOMKilled");
        let changed = truth.history().last().unwrap();
        assert_eq!((changed.at, changed.signalled), (due, false));
        assert_eq!(changed.wall.seconds_since(NOW), 0.3);
    }
}
