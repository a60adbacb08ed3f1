//! A play: the true history of a pod, moment by moment, and its events.

use super::super::{
    super::*,
    bench::{BEGAN, at, container, identity, sandbox, wall},
};
use crate::model::*;

/// When the first moment is, in milliseconds after the journal began.
const FIRST: u64 = 1000;

/// The true history of a pod, and how the runtime reports it.
pub(super) struct Play {
    pub(super) name: &'static str,
    /// Time from one moment to the next, in milliseconds. Below the step margin, timestamps of neighbours have no order.
    pub(super) step_ms: u64,
    pub(super) runtime: (&'static str, &'static str),
    pub(super) stream_up: bool,
    /// The journal begins with this moment: events with an earlier timestamp are not published.
    pub(super) begins: usize,
    /// A container that events show in a state in which it never was.
    pub(super) lie: Option<(&'static str, ContainerState)>,
    script: Vec<Happens>,
    pub(super) moments: Vec<Moment>,
    /// All statuses of each id.
    pub(super) history: BTreeMap<ObjectId, Vec<Status>>,
}

/// The pod at a moment, and the event of the last change.
#[derive(Clone, Default)]
pub(super) struct Moment {
    pub(super) sandboxes: Vec<SandboxStatus>,
    pub(super) containers: Vec<ContainerStatus>,
    pub(super) stream_event: Option<(StreamEventType, &'static str)>,
    pub(super) what: String,
}

/// A change at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happens {
    /// None: time passes.
    Nothing,
    /// A sandbox becomes ready.
    Ready(&'static str),
    /// A sandbox is not ready any more.
    NotReady(&'static str),
    /// A container is created in a sandbox.
    Created(&'static str, &'static str),
    /// A container runs.
    Started(&'static str),
    /// A container exits with this code.
    Exited(&'static str, i32),
    /// A container could not be started, without an event.
    Failed(&'static str),
    /// The reason of an exit changes, without an event.
    TurnedOom(&'static str),
    /// The runtime cannot load a container, without an event.
    Lost(&'static str),
    /// It can again.
    Found(&'static str),
    /// A container or a sandbox is gone.
    Removed(&'static str),
    /// DELETED is sent before the removal.
    DeletedEarly(&'static str),
    /// A container or a sandbox is gone, without an event.
    RemovedInSilence(&'static str),
}

// === impl Play ===

impl Play {
    /// A play on a runtime with few quirks.
    pub(super) fn new(name: &'static str, step_ms: u64, script: &[Happens]) -> Self {
        let mut play = Self {
            name,
            step_ms,
            runtime: ("containerd", "2.3.0"),
            stream_up: true,
            begins: 0,
            lie: None,
            script: script.to_vec(),
            moments: Vec::new(),
            history: BTreeMap::new(),
        };
        for happens in script {
            let moment = play.after(*happens);
            let containers = moment.containers.iter().cloned().map(|it| Status::Container(Arc::new(it)));
            let sandboxes = moment.sandboxes.iter().cloned().map(|it| Status::Sandbox(Arc::new(it)));
            for status in containers.chain(sandboxes) {
                let known = play.history.entry(status.id().clone()).or_default();
                if !known.contains(&status) {
                    known.push(status);
                }
            }
            play.moments.push(moment);
        }
        play
    }

    /// The same with another time between moments. Call it first.
    pub(super) fn with_step(self, step_ms: u64) -> Self {
        Self::new(self.name, step_ms, &self.script)
    }

    /// The last moment.
    pub(super) fn end(&self) -> usize {
        self.moments.len() - 1
    }

    /// The time after some tenths of a moment. The change is at its beginning.
    pub(super) fn time(&self, moment: usize, tenths: u64) -> Mono {
        at(self.ms(moment, tenths))
    }

    /// The same on the wall clock.
    pub(super) fn wall(&self, moment: usize, tenths: u64) -> Wall {
        wall(self.ms(moment, tenths))
    }

    fn ms(&self, moment: usize, tenths: u64) -> u64 {
        FIRST + self.step_ms * moment as u64 + self.step_ms * tenths / 10
    }

    /// When the journal began.
    pub(super) fn began(&self) -> Mono {
        if self.begins == 0 { at(BEGAN) } else { self.time(self.begins, 0) }
    }

    /// All ids, in a fixed order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.history.keys()
    }

    /// The ids that do not exist in a moment.
    pub(super) fn absent(&self, moment: usize) -> Vec<ObjectId> {
        let there = |id: &ObjectId| self.moments[moment].find(id).is_some();
        self.ids().filter(|id| !there(id)).cloned().collect()
    }

    fn after(&self, happens: Happens) -> Moment {
        let mut moment = self.moments.last().cloned().unwrap_or_default();
        moment.what = format!("{happens:?}");
        let now = self.wall(self.moments.len(), 0);
        moment.stream_event = moment.take(happens, now);
        moment
    }
}

// === impl Moment ===

impl Moment {
    /// The true status of an id; none if it does not exist.
    pub(super) fn find(&self, id: &ObjectId) -> Option<Status> {
        let container = self.containers.iter().find(|container| container.id == *id).cloned();
        let sandbox = || self.sandboxes.iter().find(|sandbox| sandbox.id == *id).cloned();
        match container {
            Some(container) => Some(Status::Container(Arc::new(container))),
            None => sandbox().map(|sandbox| Status::Sandbox(Arc::new(sandbox))),
        }
    }

    /// Applies a change and returns its event.
    fn take(&mut self, happens: Happens, now: Wall) -> Option<(StreamEventType, &'static str)> {
        match happens {
            Happens::Nothing => return None,
            Happens::Ready(id) => {
                let attempt = self.sandboxes.len() as u32;
                let labels = Labels::from([("app", format!("web-{id}"))]);
                match self.sandboxes.iter_mut().find(|sandbox| sandbox.id.as_str() == id) {
                    Some(sandbox) => sandbox.state = SandboxState::Ready,
                    None => self.sandboxes.push(SandboxStatus {
                        attempt,
                        created_at: Some(now),
                        labels,
                        pod: identity(),
                        ..sandbox(id, SandboxState::Ready)
                    }),
                }
                return Some((StreamEventType::Started, id));
            }
            Happens::NotReady(id) => {
                for sandbox in self.sandboxes.iter_mut().filter(|sandbox| sandbox.id.as_str() == id) {
                    sandbox.state = SandboxState::NotReady;
                }
                return Some((StreamEventType::Stopped, id));
            }
            Happens::Created(id, sandbox) => {
                let created = container(id, ContainerState::Created);
                let created =
                    ContainerStatus { sandbox_id: sandbox.into(), created_at: Some(now), ..created };
                self.containers.push(created);
                return Some((StreamEventType::Created, id));
            }
            Happens::DeletedEarly(id) => return Some((StreamEventType::Deleted, id)),
            Happens::Removed(id) | Happens::RemovedInSilence(id) => {
                self.containers.retain(|container| container.id.as_str() != id);
                self.sandboxes.retain(|sandbox| sandbox.id.as_str() != id);
                let silent = matches!(happens, Happens::RemovedInSilence(_));
                return (!silent).then_some((StreamEventType::Deleted, id));
            }
            _ => {}
        }
        let container_of = |containers: &mut Vec<ContainerStatus>, id: &str, change: ContainerStatus| {
            for container in containers.iter_mut().filter(|container| container.id.as_str() == id) {
                *container = change.clone();
            }
        };
        let found = |id: &str| self.containers.iter().find(|container| container.id.as_str() == id).cloned();
        let (id, stream_event, change) = match happens {
            Happens::Started(id) => {
                let running =
                    |old| ContainerStatus { state: ContainerState::Running, started_at: Some(now), ..old };
                (id, Some(StreamEventType::Started), found(id).map(running))
            }
            Happens::Exited(id, code) => {
                let reason = if code == 0 { "Completed" } else { "Error" };
                let ended = |old| exited(old, now, code, reason);
                (id, Some(StreamEventType::Stopped), found(id).map(ended))
            }
            Happens::Failed(id) => (id, None, found(id).map(|old| exited(old, now, 128, "StartError"))),
            Happens::TurnedOom(id) => {
                let turned = |old| ContainerStatus { reason: "OOMKilled".into(), ..old };
                (id, None, found(id).map(turned))
            }
            Happens::Lost(id) => {
                let lost = |old| ContainerStatus { state: ContainerState::Unknown, ..old };
                (id, None, found(id).map(lost))
            }
            Happens::Found(id) => {
                let again = |old| ContainerStatus { state: ContainerState::Running, ..old };
                (id, None, found(id).map(again))
            }
            _ => return None,
        };
        let change = change.expect("the script changes existing containers only");
        container_of(&mut self.containers, id, change);
        stream_event.map(|stream_event| (stream_event, id))
    }
}

fn exited(old: ContainerStatus, now: Wall, code: i32, reason: &str) -> ContainerStatus {
    ContainerStatus {
        state: ContainerState::Exited,
        finished_at: Some(now),
        exit_code: Some(code),
        reason: reason.into(),
        ..old
    }
}
