//! A test bench for one pod: its state and context, builders for observations, and short texts for published events.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::super::*;
use crate::{arbiter::read_request::Scope, model::*};

/// When the journal began.
pub(super) const BEGAN: u64 = 0;

/// A moment, in milliseconds since the journal began.
pub(super) fn at(ms: u64) -> Mono {
    Mono::ZERO + Duration::from_secs(100_000) + Duration::from_millis(ms)
}

/// The same moment on the wall clock.
pub(super) fn wall(ms: u64) -> Wall {
    Wall::from_nanos(1_800_000_000_000_000_000 + ms as i64 * 1_000_000)
}

pub(super) fn identity() -> PodIdentity {
    PodIdentity { uid: "uid".into(), namespace: "ns".into(), name: "pod".into() }
}

/// A container of sandbox `s` with the times of its state.
pub(super) fn container(id: &str, state: ContainerState) -> ContainerStatus {
    let came_to = |phase| state.phase() >= Some(phase);
    ContainerStatus {
        id: id.into(),
        sandbox_id: "s".into(),
        name: format!("name-{id}").into(),
        attempt: 0,
        state,
        created_at: Some(wall(10)),
        started_at: came_to(Phase::Running).then(|| wall(20)),
        finished_at: came_to(Phase::Exited).then(|| wall(30)),
        exit_code: came_to(Phase::Exited).then_some(3),
        reason: if came_to(Phase::Exited) { "Error".into() } else { String::new() },
        message: String::new(),
        image: "busybox".into(),
        image_ref: "sha256:1".into(),
        labels: Labels::from([("app", "web")]),
        annotations: Labels::new(),
    }
}

pub(super) fn sandbox(id: &str, state: SandboxState) -> SandboxStatus {
    SandboxStatus {
        id: id.into(),
        pod: identity(),
        attempt: 0,
        state,
        created_at: Some(wall(5)),
        ips: if state == SandboxState::Ready { vec!["10.0.0.1".into()] } else { Vec::new() },
        labels: Labels::new(),
        annotations: Labels::new(),
        runtime_handler: String::new(),
    }
}

/// An event with timestamp and receipt at `ms`.
pub(super) fn event(kind: StreamEventType, id: &str, ms: u64) -> Observation {
    let signal = StreamEvent { id: id.into(), kind, stamped_at: Some(wall(ms)) };
    Observation::event(signal, at(ms), wall(ms), identity())
}

/// A read from `lower` to `upper`.
pub(super) fn read(lower: u64, upper: u64) -> Observation {
    let interval = Interval { lower: Some(at(lower)), upper: at(upper) };
    Observation::read(Source::Read, interval, wall(upper), identity())
}

impl Observation {
    pub(super) fn sees(mut self, container: ContainerStatus) -> Self {
        self.containers.push(Arc::new(container));
        self
    }

    pub(super) fn sees_sandbox(mut self, sandbox: SandboxStatus) -> Self {
        self.sandboxes.push(Arc::new(sandbox));
        self
    }

    pub(super) fn misses(mut self, id: &str) -> Self {
        self.absent.push(id.into());
        self
    }

    /// As in a list or a stripped event.
    pub(super) fn minimal(mut self) -> Self {
        self.detail = Detail::Minimal;
        if self.origin == Origin::Status {
            self.origin = Origin::List;
        }
        self
    }
}

/// A pod and its context.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) pod: PodState,
    pub(super) quirks: Arc<Quirks>,
    pub(super) began: Mono,
    pub(super) listed: Option<Mono>,
    pub(super) stream_up: bool,
    pub(super) tombstones: HashMap<ObjectId, Mono>,
    /// Ids that a list shows and that were not read yet.
    pub(super) unread: HashMap<ObjectId, Unread>,
    /// All published events, as `a Started!`.
    pub(super) published: Vec<String>,
}

/// The ids without a record of which something is known.
struct Known<'a> {
    tombstones: &'a HashMap<ObjectId, Mono>,
    unread: &'a HashMap<ObjectId, Unread>,
}

impl KnownIds for Known<'_> {
    fn removed_at(&self, id: &ObjectId) -> Option<Mono> {
        self.tombstones.get(id).copied()
    }

    fn unread(&self, id: &ObjectId) -> Option<Unread> {
        self.unread.get(id).cloned()
    }
}

impl Bench {
    /// An empty pod on a containerd 2.3, which has few quirks.
    pub(super) fn new() -> Self {
        Self::on("containerd", "2.3.0")
    }

    pub(super) fn on(runtime: &str, version: &str) -> Self {
        Self {
            pod: PodState::new(identity()),
            quirks: Arc::new(Quirks::of(runtime, version)),
            began: at(BEGAN),
            listed: None,
            stream_up: true,
            tombstones: HashMap::new(),
            unread: HashMap::new(),
            published: Vec::new(),
        }
    }

    /// Applies an observation at its upper end.
    pub(super) fn apply(&mut self, observation: &Observation) -> Outcome {
        self.apply_at(observation, observation.interval.upper)
    }

    pub(super) fn apply_at(&mut self, observation: &Observation, now: Mono) -> Outcome {
        let known = Known { tombstones: &self.tombstones, unread: &self.unread };
        let context = Context {
            now,
            began: self.began,
            horizon: Mono::ZERO,
            listed: self.listed,
            listed_before: None,
            restored: false,
            awaits_replay: false,
            stream_up: self.stream_up,
            quirks: &self.quirks,
            known: &known,
        };
        let out = self.pod.apply(observation, &context);
        for id in &out.added {
            self.tombstones.remove(id);
            self.unread.remove(id);
        }
        self.tombstones.extend(out.removed.iter().cloned());
        self.published.extend(out.transitions.iter().map(word));
        out
    }

    /// The events that this observation alone publishes.
    pub(super) fn published_by(&mut self, observation: &Observation) -> Vec<String> {
        self.apply(observation).transitions.iter().map(word).collect()
    }

    /// A list that began at `lower` agrees with all records.
    pub(super) fn confirm(&mut self, lower: Mono) {
        self.pod.records.values_mut().for_each(|record| record.confirm(lower));
    }

    pub(super) fn container(&self, id: &str) -> Option<ContainerStatus> {
        self.pod.served()?.container(id).cloned()
    }

    pub(super) fn state(&self, id: &str) -> Option<ContainerState> {
        Some(self.container(id)?.state)
    }

    pub(super) fn ips(&self) -> Vec<String> {
        self.pod.served().map(|pod| pod.ips).unwrap_or_default()
    }
}

/// `id Started`, `id Died(3 Error)`, `id Removed`, `id Changed`, `id Sync`; with `!` if it was inferred.
pub(super) fn word(transition: &Transition) -> String {
    let kind = match transition.kind {
        EventType::ContainerStarted => "Started".to_owned(),
        EventType::ContainerDied => match transition.exit_code {
            Some(code) => format!("Died({code} {})", transition.reason),
            None => "Died".to_owned(),
        },
        EventType::ContainerRemoved => "Removed".to_owned(),
        EventType::ContainerChanged => "Changed".to_owned(),
        EventType::PodSync => "Sync".to_owned(),
    };
    format!("{} {kind}{}", transition.id, if transition.inferred { "!" } else { "" })
}

/// The causes of the requested reads of `id`, each with its delay in milliseconds.
pub(super) fn reads(out: &Outcome, id: &str) -> Vec<(ReadCause, u64)> {
    let of_id = |scope: &Scope| matches!(scope, Scope::Ids(ids) if ids.contains(id));
    let mut found: BTreeSet<(ReadCause, u64)> = BTreeSet::new();
    for read in out.reads.iter().filter(|it| of_id(&it.scope)) {
        found.insert((read.cause, read.after.as_millis() as u64));
    }
    found.into_iter().collect()
}
