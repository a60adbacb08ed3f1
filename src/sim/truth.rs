//! The truth: the sandboxes and containers of a simulated node as they are, and the history of all that happened to them.
//!
//! Owns the objects and what a runtime may do with them, the signals that its life-cycle code raises (an event each, its
//! payload read at that moment), and the history that tests compare with what plegd told. It never waits, sends or loses
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

/// What the runtime's store holds at a moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By sandbox id.
    pub sandboxes: BTreeMap<String, Sandbox>,
    /// By container id.
    pub containers: BTreeMap<String, Container>,
    /// By sandbox id, the ids of its containers: a node of thousands of pods is not looked through for one pod's.
    of_sandbox: BTreeMap<String, BTreeSet<String>>,
    /// What lists show in place of a sandbox; `None` leaves it out.
    sandboxes_listed_as: BTreeMap<String, Option<Sandbox>>,
    /// What lists show in place of a container; `None` leaves it out.
    containers_listed_as: BTreeMap<String, Option<Container>>,
}

/// What a pod sandbox is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's UID.
    pub uid: String,
    /// Grows when the pod's sandbox is made again.
    pub attempt: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether the pod shares the node's network; it then has no address of its own.
    pub host_network: bool,
    /// The runtime class's handler.
    pub runtime_handler: String,
    /// How long its network took before it became ready. `created_at` lies this long before that.
    pub network_setup: Duration,
}

/// A pod sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it was made from.
    pub spec: SandboxSpec,
    /// Whether it is ready.
    pub ready: bool,
    /// When it was made.
    pub created_at: Wall,
    /// Its addresses; empty for the node's network and when the network is torn down.
    pub ips: Vec<String>,
    /// Whether the sandbox controller has forgotten it while the store has it still (containerd 2.x in RemovePodSandbox).
    pub forgotten: bool,
}

/// What a container is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The container's name in its pod.
    pub name: String,
    /// Grows when the container is made again.
    pub attempt: u32,
    /// The image as it was asked for.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Where its log goes.
    pub log_path: String,
    /// How far the clock that stamps its start and end is ahead of the node's, in nanoseconds: a virtual machine's own.
    pub clock_offset: i64,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The sandbox it runs in.
    pub sandbox_id: String,
    /// What it was made from.
    pub spec: ContainerSpec,
    /// How far it has come.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Wall,
    /// When it was started; `None` also for a start that failed.
    pub started_at: Option<Wall>,
    /// When it ended.
    pub finished_at: Option<Wall>,
    /// Its exit code; 0 until it ends.
    pub exit_code: i32,
    /// Why it ended: Completed, Error, OOMKilled, StartError, Unknown.
    pub reason: String,
    /// More about why.
    pub message: String,
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime could not load it when it was started again.
    Unknown,
}

/// Something that happened, as it truly was.
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
    /// Which of both.
    pub subject: Subject,
    /// What happened.
    pub what: What,
    /// Whether the runtime raised an event for it. It may have been lost since.
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

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A sandbox or container was made.
    Created,
    /// A container was started, or a sandbox became ready.
    Started,
    /// A container ended. A sandbox that is no longer ready has exit code 0 and no reason.
    Died {
        /// The exit code.
        exit_code: i32,
        /// The reason as it was at that moment.
        reason: String,
    },
    /// It left the runtime's store.
    Removed,
    /// The reason of a container became another one, without an event. Mostly it had ended; a running container can
    /// have a reason too (kubernetes#78973).
    ReasonChanged {
        /// The new reason.
        reason: String,
    },
    /// The runtime could not load the container, whose state is now unknown.
    Lost,
    /// A sandbox that was not ready for want of loading is ready again.
    ReadyAgain,
    /// A container that had ended is shown as running again, by a runtime that has it wrong (containerd#12600).
    Relapsed,
}

/// What a truth refuses to do.
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

/// An event that the runtime's code raised, its payload read at that moment and its `created_at` still to be stamped.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub(super) sandbox_id: String,
    pub(super) event: v1::ContainerEventResponse,
}

/// What happens later by itself.
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

    /// What the store holds now.
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

    /// All that happened, in order.
    pub fn history(&self) -> &[Change] {
        &self.history
    }

    /// Whether the runtime is down.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// Lets happen what was due by now: a reason that turns into OOMKilled, a sandbox that leaves the store.
    pub fn settle(&mut self) {
        let now = self.clock.now();
        while let Some(next) = self.due.first_entry()
            && next.key().0 <= now
        {
            let at = next.key().0;
            match next.remove() {
                Due::OomReason(id) => self.change_reason(&id, "OOMKilled", Some(at)),
                Due::SandboxGone(id) => self.drop_sandbox(&id, Told::No),
            }
        }
    }

    /// The next moment at which something happens by itself.
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

    fn note_sandbox(&mut self, id: &str, what: What, told: Told) {
        let Some(sandbox) = self.view.sandboxes.get(id) else { return };
        let pod_uid = sandbox.spec.uid.clone();
        self.note(pod_uid, id, Subject::Sandbox, what, told, None);
    }

    fn note_container(&mut self, id: &str, what: What, told: Told, at: Option<Mono>) {
        let Some(container) = self.view.containers.get(id) else { return };
        let pod_uid = self
            .view
            .sandboxes
            .get(&container.sandbox_id)
            .map(|sandbox| sandbox.spec.uid.clone())
            .or_else(|| container.spec.labels.get(wire::POD_UID_LABEL).cloned())
            .unwrap_or_default();
        self.note(pod_uid, id, Subject::Container, what, told, at);
    }

    fn note(
        &mut self,
        pod_uid: String,
        id: &str,
        subject: Subject,
        what: What,
        told: Told,
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
            what,
            signalled: told == Told::Yes && !self.down,
        });
    }

    fn new_id(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.rng.u64(..))).collect()
    }
}

/// Whether a change raises an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

// === impl SandboxSpec ===

impl SandboxSpec {
    /// A pod as the kubelet makes it: with the labels that name it.
    pub fn of_pod(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            uid: uid.to_owned(),
            labels: wire::pod_labels(namespace, name, uid),
            ..Self::default()
        }
    }

    /// A pod as `crictl runp` makes it: named by its metadata, without the kubelet's labels.
    pub fn by_crictl(namespace: &str, name: &str, uid: &str) -> Self {
        Self { labels: BTreeMap::new(), ..Self::of_pod(namespace, name, uid) }
    }
}

// === impl ContainerSpec ===

impl ContainerSpec {
    /// A container as the kubelet makes it: with the labels that name it and its pod.
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

    /// A container as `crictl create` makes it: named by its metadata, without the kubelet's labels and annotations.
    pub fn by_crictl(name: &str, attempt: u32, image: &str) -> Self {
        Self { name: name.to_owned(), attempt, image: image.to_owned(), ..Self::default() }
    }

    /// The moment as the container's own clock shows it.
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
    async fn nothing_runs_twice_or_where_it_cannot() {
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
    async fn stopping_a_sandbox_kills_its_containers_and_takes_its_address() {
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
        assert!(truth.take_signals().is_empty(), "it is stopped already");
        assert_eq!(signals.len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn an_oom_kill_before_2_3_turns_its_reason_later_and_at_its_own_time() {
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
        let turned = truth.history().last().unwrap();
        assert_eq!((turned.at, turned.signalled), (due, false));
        assert_eq!(turned.wall.seconds_since(NOW), 0.3);
    }
}
