//! Waits until a pod meets a condition, like the kubelet's watch conditions.

use std::sync::Arc;

use tonic::Status;

use super::{Reference, request};
use crate::{
    cache::Cache,
    model::{ContainerState, ContainerStatus, Event, EventType, ObjectId, Pod, Position, SandboxState},
    v1,
    watch::{Feed, Filter, Request, Start, Update},
};

/// A condition and its pod.
pub(super) struct Wait {
    pod: Reference,
    condition: Condition,
}

enum Condition {
    Running(Target),
    Exited(Target),
    Gone(Target),
    SandboxReady,
    PodGone,
}

/// The container of a condition.
enum Target {
    /// The newest container of this name.
    Name(String),
    /// The container with this id.
    Id(ObjectId),
}

// === impl Wait ===

impl Wait {
    pub(super) fn parse(cache: &Cache, request: v1::WaitForRequest) -> Result<Self, Status> {
        let condition = request.condition();
        let name = request.container_name;
        let mut pod = request::reference(request.pod)?;
        let mut id = None;
        if let Reference::Id(prefix) = &pod {
            let (full_id, identity) = request::find(cache, prefix.as_str())?;
            (id, pod) = (Some(full_id), Reference::Pod(identity));
        }
        let target = || match (name.is_empty(), id) {
            (false, _) => Ok(Target::Name(name.clone())),
            (true, Some(id)) => Ok(Target::Id(id)),
            (true, None) => Err(request::invalid("container_name is required for this condition")),
        };
        let condition = match condition {
            v1::Condition::ContainerRunning => Condition::Running(target()?),
            v1::Condition::ContainerExited => Condition::Exited(target()?),
            v1::Condition::ContainerGone => Condition::Gone(target()?),
            v1::Condition::SandboxReady => Condition::SandboxReady,
            v1::Condition::PodGone => Condition::PodGone,
            v1::Condition::Unspecified => {
                return Err(request::invalid(
                    "condition is not set, or this version of plegd does not know it",
                ));
            }
        };
        Ok(Self { pod, condition })
    }

    /// Waits until the condition holds. Returns the pod in which it holds, and the position.
    pub(super) async fn until_met(self, feed: &Feed) -> Result<(Position, Option<Arc<Pod>>), Status> {
        let filter = match &self.pod {
            Reference::Uid(uid) => Filter { pod_uids: vec![uid.to_string()], ..Filter::default() },
            Reference::Pod(pod) => Filter {
                namespaces: vec![pod.namespace.to_string()],
                pod_uids: vec![pod.uid.to_string()],
                pod_names: vec![pod.name.to_string()],
                ..Filter::default()
            },
            Reference::Name { namespace, name } => Filter {
                namespaces: vec![namespace.clone()],
                pod_names: vec![name.clone()],
                ..Filter::default()
            },
            // The id has been resolved.
            Reference::Id(_) => Filter::default(),
        };
        let position = match self.check(feed)? {
            Check::Met(position, pod) => return Ok((position, pod)),
            Check::NotYet(position) => position,
        };
        let request = Request { start: Start::After(position), filter, ..Request::default() };
        let mut watch = feed.watch(request)?;
        loop {
            match watch.next().await? {
                // A state between two checks shows only in the events.
                Update::Event { record, .. }
                    if self.is_about(feed.cache(), &record.event)?
                        && self.condition.met_in(&record.event, record.pod.as_deref()) =>
                {
                    return Ok((feed.journal().position(record.sequence), record.pod.clone()));
                }
                // The event is about an older pod of the same name, or some events were left out.
                Update::Event { .. } | Update::SnapshotEnd { .. } => {
                    if let Check::Met(position, pod) = self.check(feed)? {
                        return Ok((position, pod));
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether an event is about the referenced pod, if several pods have its name or UID.
    fn is_about(&self, cache: &Cache, event: &Event) -> Result<bool, Status> {
        let referenced = request::resolve(cache, &self.pod)?;
        Ok(referenced.is_none_or(|pod| pod.identity == event.pod))
    }

    /// Checks whether the condition holds now.
    fn check(&self, feed: &Feed) -> Result<Check, Status> {
        // Events after this position are checked again, so the cache may be newer than the position but not older.
        let before = feed.journal().position(feed.journal().head());
        let pod = request::resolve(feed.cache(), &self.pod)?;
        if !self.condition.holds(pod.as_deref()) {
            return Ok(Check::NotYet(before));
        }
        let sequence = pod.as_ref().map_or(before.sequence, |pod| pod.sequence.max(before.sequence));
        Ok(Check::Met(feed.journal().position(sequence), pod))
    }
}

/// The result of a check.
enum Check {
    Met(Position, Option<Arc<Pod>>),
    NotYet(Position),
}

// === impl Condition ===

impl Condition {
    /// Whether the condition holds for a pod. `None`: the pod does not exist.
    fn holds(&self, pod: Option<&Pod>) -> bool {
        let is = |target: &Target, state| target.of(pod).is_some_and(|container| container.state == state);
        match self {
            Condition::Running(target) => is(target, ContainerState::Running),
            Condition::Exited(target) => is(target, ContainerState::Exited),
            Condition::Gone(target) => target.of(pod).is_none(),
            Condition::SandboxReady => {
                let sandbox = pod.and_then(Pod::sandbox);
                sandbox.is_some_and(|sandbox| sandbox.state == SandboxState::Ready)
            }
            Condition::PodGone => pod.is_none(),
        }
    }

    /// Whether the condition holds after an event, or held at the event even if a simultaneous change has ended it.
    fn met_in(&self, event: &Event, after: Option<&Pod>) -> bool {
        let shown = match self {
            Condition::Running(target) => {
                event.kind == EventType::ContainerStarted && target.is_of(event, after)
            }
            Condition::Exited(target) => event.kind == EventType::ContainerDied && target.is_of(event, after),
            _ => false,
        };
        shown || self.holds(after)
    }
}

// === impl Target ===

impl Target {
    fn of<'a>(&self, pod: Option<&'a Pod>) -> Option<&'a ContainerStatus> {
        // The newest containers are first.
        let mut containers = pod?.containers.iter().map(Arc::as_ref);
        containers.find(|container| match self {
            Target::Name(name) => *container.name == **name,
            Target::Id(id) => container.id == *id,
        })
    }

    /// Whether the event is about the target. A name means its newest container, unless that is gone.
    fn is_of(&self, event: &Event, after: Option<&Pod>) -> bool {
        match self {
            Target::Name(name) => {
                *event.container_name == **name
                    && self.of(after).is_none_or(|container| container.id == event.id)
            }
            Target::Id(id) => event.id == *id,
        }
    }
}
