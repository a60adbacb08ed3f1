//! The records on disk (`proto/state.proto`), and their conversion from and to the model.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    clock::Wall,
    model::{
        ContainerState, ContainerStatus, Event, EventType, Labels, ObjectId, Phase, PodIdentity,
        Restart as Restarted, SandboxState, SandboxStatus, Source, Subject,
    },
};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/state/plegd.state.v1.rs"));
}

pub use generated::{
    Alive, Change, Common, Container, Event as SavedEvent, Header, Identity, Note, Object, Part,
    Phase as SavedPhase, Pod, ReportedDeleted, Restart, Sandbox, Tombstones, note, object, part,
};

pub fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub fn phase(phase: SavedPhase) -> Option<Phase> {
    match phase {
        SavedPhase::Unspecified => None,
        SavedPhase::Created => Some(Phase::Created),
        SavedPhase::Running => Some(Phase::Running),
        SavedPhase::Exited => Some(Phase::Exited),
    }
}

pub fn of_phase(phase: Option<Phase>) -> SavedPhase {
    match phase {
        None => SavedPhase::Unspecified,
        Some(Phase::Created) => SavedPhase::Created,
        Some(Phase::Running) => SavedPhase::Running,
        Some(Phase::Exited) => SavedPhase::Exited,
    }
}

/// A place in a list of all values of an enum.
fn number<T: PartialEq>(all: &[T], value: &T) -> u32 {
    all.iter().position(|it| it == value).and_then(|at| u32::try_from(at).ok()).unwrap_or_default()
}

/// The value at a place in such a list; the last one if there is none.
fn value<T: Copy>(all: &[T], number: u32, unknown: T) -> T {
    usize::try_from(number).ok().and_then(|at| all.get(at)).copied().unwrap_or(unknown)
}

// === impl Identity ===

impl From<&PodIdentity> for Identity {
    fn from(pod: &PodIdentity) -> Self {
        Self { uid: pod.uid.to_string(), namespace: pod.namespace.to_string(), name: pod.name.to_string() }
    }
}

impl From<&Identity> for PodIdentity {
    fn from(pod: &Identity) -> Self {
        Self {
            uid: pod.uid.as_str().into(),
            namespace: pod.namespace.as_str().into(),
            name: pod.name.as_str().into(),
        }
    }
}

// === impl Container ===

impl Container {
    /// The record of a container, of which `written` was written before.
    pub fn of(it: &ContainerStatus, written: Option<&ContainerStatus>) -> Self {
        let state = Self {
            attempt: it.attempt,
            state: number(&ContainerState::ALL, &it.state),
            created_at: it.created_at.map(Wall::as_nanos),
            started_at: it.started_at.map(Wall::as_nanos),
            finished_at: it.finished_at.map(Wall::as_nanos),
            exit_code: it.exit_code,
            reason: it.reason.clone(),
            message: it.message.clone(),
            same_spec: written.is_some_and(|written| has_same_spec(written, it)),
            ..Self::default()
        };
        if state.same_spec {
            return state;
        }
        Self {
            sandbox_id: it.sandbox_id.to_string(),
            name: it.name.to_string(),
            image: it.image.clone(),
            image_ref: it.image_ref.clone(),
            labels: map(&it.labels),
            annotations: map(&it.annotations),
            ..state
        }
    }

    /// The status of the container with this id, of which `before` was written before. None if that is missing and needed.
    pub fn to_model(&self, id: &ObjectId, before: Option<&ContainerStatus>) -> Option<Arc<ContainerStatus>> {
        let before = if self.same_spec { Some(before?) } else { None };
        Some(Arc::new(ContainerStatus {
            id: id.clone(),
            sandbox_id: before.map_or_else(|| self.sandbox_id.as_str().into(), |it| it.sandbox_id.clone()),
            name: before.map_or_else(|| self.name.as_str().into(), |it| it.name.clone()),
            image: before.map_or(&self.image, |it| &it.image).clone(),
            image_ref: before.map_or(&self.image_ref, |it| &it.image_ref).clone(),
            labels: before.map_or_else(|| self.labels.iter().collect(), |it| it.labels.clone()),
            annotations: before
                .map_or_else(|| self.annotations.iter().collect(), |it| it.annotations.clone()),
            attempt: self.attempt,
            state: value(&ContainerState::ALL, self.state, ContainerState::Unknown),
            created_at: self.created_at.map(Wall::from_nanos),
            started_at: self.started_at.map(Wall::from_nanos),
            finished_at: self.finished_at.map(Wall::from_nanos),
            exit_code: self.exit_code,
            reason: self.reason.clone(),
            message: self.message.clone(),
        }))
    }
}

fn has_same_spec(one: &ContainerStatus, other: &ContainerStatus) -> bool {
    let ContainerStatus { sandbox_id, name, image, image_ref, labels, annotations, .. } = one;
    *sandbox_id == other.sandbox_id
        && *name == other.name
        && *image == other.image
        && *image_ref == other.image_ref
        && *labels == other.labels
        && *annotations == other.annotations
}

// === impl Sandbox ===

impl Sandbox {
    /// The record of a sandbox of this pod.
    pub fn of(it: &SandboxStatus, pod: &PodIdentity) -> Self {
        Self {
            attempt: it.attempt,
            state: number(&SandboxState::ALL, &it.state),
            created_at: it.created_at.map(Wall::as_nanos),
            ips: it.ips.clone(),
            labels: map(&it.labels),
            annotations: map(&it.annotations),
            runtime_handler: it.runtime_handler.clone(),
            pod: (it.pod != *pod).then(|| (&it.pod).into()),
        }
    }

    /// The status of the sandbox with this id, of this pod.
    pub fn to_model(&self, id: &ObjectId, pod: &PodIdentity) -> Arc<SandboxStatus> {
        Arc::new(SandboxStatus {
            id: id.clone(),
            pod: self.pod.as_ref().map_or_else(|| pod.clone(), Into::into),
            attempt: self.attempt,
            state: value(&SandboxState::ALL, self.state, SandboxState::NotReady),
            created_at: self.created_at.map(Wall::from_nanos),
            ips: self.ips.clone(),
            labels: self.labels.iter().collect(),
            annotations: self.annotations.iter().collect(),
            runtime_handler: self.runtime_handler.clone(),
        })
    }
}

// === impl SavedEvent ===

impl From<&Event> for SavedEvent {
    fn from(it: &Event) -> Self {
        Self {
            r#type: number(&EventType::ALL, &it.kind),
            is_sandbox: it.subject == Subject::Sandbox,
            id: it.id.to_string(),
            container_name: it.container_name.to_string(),
            source: number(&Source::ALL, &it.source),
            occurred_at: it.occurred_at.map(Wall::as_nanos),
            observed_at: it.observed_at.as_nanos(),
            stamped_at: it.stamped_at.map(Wall::as_nanos),
            exit_code: it.exit_code,
            reason: it.reason.clone(),
            initial: it.initial,
            inferred: it.inferred,
            late: it.late,
        }
    }
}

impl SavedEvent {
    /// The event of this pod, which then had these labels. The journal sets its sequence number.
    pub fn to_model(&self, pod: &PodIdentity, labels: &Labels) -> Event {
        Event {
            sequence: 0,
            kind: value(&EventType::ALL, self.r#type, EventType::PodSync),
            subject: if self.is_sandbox { Subject::Sandbox } else { Subject::Container },
            pod: pod.clone(),
            labels: labels.clone(),
            id: self.id.as_str().into(),
            container_name: self.container_name.as_str().into(),
            source: value(&Source::ALL, self.source, Source::Read),
            occurred_at: self.occurred_at.map(Wall::from_nanos),
            observed_at: Wall::from_nanos(self.observed_at),
            stamped_at: self.stamped_at.map(Wall::from_nanos),
            exit_code: self.exit_code,
            reason: self.reason.clone(),
            initial: self.initial,
            inferred: self.inferred,
            late: self.late,
        }
    }
}

// === impl Restart ===

impl From<&Restarted> for Restart {
    fn from(it: &Restarted) -> Self {
        Self {
            after: it.after,
            down_since: it.down_since.as_nanos(),
            up_since: it.up_since.as_nanos(),
            down_for: u64::try_from(it.down_for.as_nanos()).unwrap_or(u64::MAX),
            blind: it.blind,
        }
    }
}

impl From<&Restart> for Restarted {
    fn from(it: &Restart) -> Self {
        Self {
            after: it.after,
            down_since: Wall::from_nanos(it.down_since),
            up_since: Wall::from_nanos(it.up_since),
            down_for: Duration::from_nanos(it.down_for),
            blind: it.blind,
        }
    }
}
