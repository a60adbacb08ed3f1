//! `WaitFor` of the API, held against the journal: it returns when its condition holds, and only then.

use std::{collections::BTreeMap, time::Duration};

use plegd::{
    api::v1::{self, Condition},
    clock::Mono,
    model::{ContainerState, ContainerStatus, EventType, Pod, SandboxState},
    sim::SimRuntime,
};

use super::{
    node::{Cables, Finding},
    stage::Heard,
};
use crate::support::truth::Names;

/// Within so much of the call, and of what it waits for, an answer comes.
const SOON: Duration = Duration::from_millis(300);

/// A call that waited.
#[derive(Clone, Debug)]
pub struct Waited {
    pod: Names,
    /// The container that is meant, if the condition is one of a container.
    id: Option<String>,
    condition: Condition,
    asked: Mono,
    /// The last event before the call.
    head: u64,
    /// When it was answered, and as of which event.
    answer: Option<(Mono, u64)>,
}

// === impl Waited ===

impl Waited {
    /// A call that is about to be made, after the event `head`.
    pub fn new(pod: Names, id: Option<String>, condition: Condition, asked: Mono, head: u64) -> Self {
        Self { pod, id, condition, asked, head, answer: None }
    }

    /// Whether it is the same call.
    pub fn is(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.pod.clone(), it.id.clone(), it.condition, it.asked);
        of(self) == of(other)
    }

    /// Waits for the answer, for as long as plegd runs.
    pub async fn answered(self, finding: Finding, sim: SimRuntime) -> Self {
        let cables = Cables::default();
        let reference = match &self.id {
            Some(id) => v1::pod_reference::Pod::ContainerId(id.clone()),
            None => v1::pod_reference::Pod::Name(v1::NamespacedName {
                namespace: self.pod.0.clone(),
                name: self.pod.1.clone(),
            }),
        };
        let request = v1::WaitForRequest {
            pod: Some(v1::PodReference { pod: Some(reference) }),
            condition: self.condition.into(),
            container_name: String::new(),
        };
        let answer = cables.client(finding).lifecycle().wait_for(request).await;
        let position = answer.ok().and_then(|answer| answer.into_inner().position);
        let answer = position.map(|position| (sim.clock().now(), position.sequence));
        Self { answer, ..self }
    }

    /// What is wrong with the answer, given all that was published.
    pub fn wrong(&self, heard: &[Heard]) -> Option<String> {
        let (at, position) = self.answer?;
        let what = |it: &str| Some(format!("{:?} of {:?} {:?} {it}", self.condition, self.pod, self.id));
        // What was published at the same time is one change.
        let answered = heard.iter().find(|it| it.event.sequence == position);
        let holds = match answered {
            Some(event) if position > self.head => {
                self.met_at(heard, event) || self.holds_after(heard, position)
            }
            _ => self.holds_after(heard, position),
        };
        // Of a name that another pod has by now, what is looked up may be younger than the position.
        let later = || heard.iter().filter(|it| it.event.sequence > position && it.at <= at + SOON);
        let holds =
            holds || self.id.is_none() && later().any(|it| self.holds_after(heard, it.event.sequence));
        if !holds {
            return what(&format!("was answered as of {position}, and did not hold then"));
        }
        let between = heard.iter().filter(|it| it.event.sequence > self.head && it.event.sequence < position);
        let mut missed =
            between.filter(|it| it.at > self.asked + SOON && it.at + SOON < at && self.met_at(heard, it));
        match missed.next() {
            Some(missed) => {
                what(&format!("held at {}, and was answered as of {position}", missed.event.sequence))
            }
            None => None,
        }
    }

    /// What should have been answered by now, if anything should.
    pub fn overdue(&self, heard: &[Heard]) -> Option<String> {
        let met = heard.iter().find(|it| it.at > self.asked + SOON && self.met_at(heard, it))?;
        Some(format!(
            "{:?} of {:?} {:?} held at {} and was not answered",
            self.condition, self.pod, self.id, met.event.sequence
        ))
    }

    fn is_of_pod(&self, heard: &Heard) -> bool {
        let pod = &heard.event.pod;
        *pod.namespace == *self.pod.0 && *pod.name == *self.pod.1
    }

    /// Whether it holds as of an event. Several pods may have had the name, one after the other.
    fn holds_after(&self, heard: &[Heard], position: u64) -> bool {
        let of_pod = heard.iter().filter(|it| self.is_of_pod(it) && it.event.sequence <= position);
        let last: BTreeMap<&str, Option<&Pod>> =
            of_pod.map(|it| (it.event.pod.uid.as_str(), it.pod.as_deref())).collect();
        let mut pods = last.values().copied().flatten();
        match self.condition {
            Condition::PodGone => pods.next().is_none(),
            Condition::ContainerGone => pods.all(|pod| self.holds(Some(pod))),
            _ => pods.any(|pod| self.holds(Some(pod))),
        }
    }

    /// Whether it has held at an event.
    fn met_at(&self, heard: &[Heard], at: &Heard) -> bool {
        if !self.is_of_pod(at) {
            return false;
        }
        let is_of_it = Some(at.event.id.as_str()) == self.id.as_deref();
        let shown = match self.condition {
            Condition::ContainerRunning => is_of_it && at.event.kind == EventType::ContainerStarted,
            Condition::ContainerExited => is_of_it && at.event.kind == EventType::ContainerDied,
            _ => false,
        };
        shown || self.holds_after(heard, at.event.sequence)
    }

    fn holds(&self, pod: Option<&Pod>) -> bool {
        let container = |pod: &Pod| {
            let is_it = |it: &&std::sync::Arc<ContainerStatus>| Some(it.id.as_str()) == self.id.as_deref();
            pod.containers.iter().find(is_it).map(|it| it.state)
        };
        let state = pod.and_then(container);
        match self.condition {
            Condition::ContainerRunning => state == Some(ContainerState::Running),
            Condition::ContainerExited => state == Some(ContainerState::Exited),
            Condition::ContainerGone => state.is_none(),
            Condition::SandboxReady => {
                pod.and_then(|pod| pod.sandboxes.first()).is_some_and(|it| it.state == SandboxState::Ready)
            }
            Condition::PodGone => pod.is_none(),
            Condition::Unspecified => false,
        }
    }
}
