//! Checks `WaitFor` against the journal: it returns once its condition holds, and only then.

use std::{collections::BTreeMap, time::Duration};

use plegd::{
    api::v1::{self, Condition},
    clock::Mono,
    model::{ContainerState, ContainerStatus, EventType, Pod, SandboxState},
    sim::SimRuntime,
};

use super::{
    driver::Received,
    node::{Connections, ServingReceiver},
};
use crate::support::truth::Names;

/// Limit for the response, after the call and after the condition holds.
const RESPONSE_LIMIT: Duration = Duration::from_millis(300);

/// A `WaitFor` call.
#[derive(Clone, Debug)]
pub struct WaitCall {
    pod: Names,
    /// The container, if the condition concerns one.
    id: Option<String>,
    condition: Condition,
    called_at: Mono,
    /// The sequence of the last event before the call.
    head: u64,
    /// The time and the sequence of the response.
    response: Option<(Mono, u64)>,
}

// === impl WaitCall ===

impl WaitCall {
    /// A call that starts after the event `head`.
    pub fn new(pod: Names, id: Option<String>, condition: Condition, called_at: Mono, head: u64) -> Self {
        Self { pod, id, condition, called_at, head, response: None }
    }

    /// Whether it is the same call.
    pub fn is(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.pod.clone(), it.id.clone(), it.condition, it.called_at);
        of(self) == of(other)
    }

    /// Waits for the response, while plegd runs.
    pub async fn run(self, serving_rx: ServingReceiver, sim: SimRuntime) -> Self {
        let connections = Connections::default();
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
        let response = connections.client(serving_rx).lifecycle().wait_for(request).await;
        let position = response.ok().and_then(|response| response.into_inner().position);
        let response = position.map(|position| (sim.clock().now(), position.sequence));
        Self { response, ..self }
    }

    /// The violation in the response, given the published events.
    pub fn wrong(&self, received: &[Received]) -> Option<String> {
        let (at, position) = self.response?;
        let what = |it: &str| Some(format!("{:?} of {:?} {:?} {it}", self.condition, self.pod, self.id));
        // Events of one change are published together.
        let responded = received.iter().find(|it| it.event.sequence == position);
        let holds = match responded {
            Some(event) if position > self.head => {
                self.met_at(received, event) || self.holds_after(received, position)
            }
            _ => self.holds_after(received, position),
        };
        // If another pod has the name by now, the response may be later than the position.
        let later =
            || received.iter().filter(|it| it.event.sequence > position && it.at <= at + RESPONSE_LIMIT);
        let holds =
            holds || self.id.is_none() && later().any(|it| self.holds_after(received, it.event.sequence));
        if !holds {
            return what(&format!("was answered at {position}, and did not hold then"));
        }
        let between =
            received.iter().filter(|it| it.event.sequence > self.head && it.event.sequence < position);
        let mut missed = between.filter(|it| {
            it.at > self.called_at + RESPONSE_LIMIT
                && it.at + RESPONSE_LIMIT < at
                && self.met_at(received, it)
        });
        match missed.next() {
            Some(missed) => {
                what(&format!("held at {}, and was answered at {position}", missed.event.sequence))
            }
            None => None,
        }
    }

    /// The violation of a call without a response, if it should have one.
    pub fn overdue(&self, received: &[Received]) -> Option<String> {
        let met = received
            .iter()
            .find(|it| it.at > self.called_at + RESPONSE_LIMIT && self.met_at(received, it))?;
        Some(format!(
            "{:?} of {:?} {:?} held at {} and was not responded",
            self.condition, self.pod, self.id, met.event.sequence
        ))
    }

    fn is_of_pod(&self, received: &Received) -> bool {
        let pod = &received.event.pod;
        *pod.namespace == *self.pod.0 && *pod.name == *self.pod.1
    }

    /// Whether the condition holds as of an event. Several pods may have had the name, one after the other.
    fn holds_after(&self, received: &[Received], position: u64) -> bool {
        let of_pod = received.iter().filter(|it| self.is_of_pod(it) && it.event.sequence <= position);
        let last: BTreeMap<&str, Option<&Pod>> =
            of_pod.map(|it| (it.event.pod.uid.as_str(), it.pod.as_deref())).collect();
        let mut pods = last.values().copied().flatten();
        match self.condition {
            Condition::PodGone => pods.next().is_none(),
            Condition::ContainerGone => pods.all(|pod| self.holds(Some(pod))),
            _ => pods.any(|pod| self.holds(Some(pod))),
        }
    }

    /// Whether the condition held at an event.
    fn met_at(&self, received: &[Received], at: &Received) -> bool {
        if !self.is_of_pod(at) {
            return false;
        }
        let is_of_it = Some(at.event.id.as_str()) == self.id.as_deref();
        let shown = match self.condition {
            Condition::ContainerRunning => is_of_it && at.event.kind == EventType::ContainerStarted,
            Condition::ContainerExited => is_of_it && at.event.kind == EventType::ContainerDied,
            _ => false,
        };
        shown || self.holds_after(received, at.event.sequence)
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
