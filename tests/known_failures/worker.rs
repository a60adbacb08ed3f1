//! A pod worker like the kubelet's: at an event it gets the pod, and creates and starts its container if that is missing.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use plegd::{
    clock::{Mono, Wall},
    model::ContainerState,
    sim::{
        events::Subscription,
        truth::{ContainerSpec, ContainerState as Truly},
        v1::{self, ContainerEventResponse},
    },
};

use crate::{
    MINUTE,
    support::{Harness, TestPod},
    uid,
};

/// The time between creating and starting a container.
const TO_START: Duration = Duration::from_millis(100);

/// How the worker gets a status of the pod that is newer than its own last action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// From plegd, by a newer-than read.
    ByReads,
    /// From the last event with a later timestamp, as in the kubelet's first design, which had two writers.
    ByTimestamps,
}

/// Keeps one container of a pod running.
pub(crate) struct Worker {
    pod: TestPod,
    freshness: Freshness,
    acted: (Mono, Wall),
    attempts: u32,
    timestamps: TimestampCache,
}

/// The cache of the first design: the event with the newest timestamp is the pod.
struct TimestampCache {
    events: Subscription,
    newest: ContainerEventResponse,
}

impl Worker {
    pub(crate) fn new(harness: &Harness, pod: &TestPod, freshness: Freshness) -> Self {
        // Before its first action any status is new enough.
        let acted = (harness.app.clock().now(), Wall::from_nanos(-1));
        let timestamps = TimestampCache {
            events: harness.sim.queue().subscribe(),
            newest: ContainerEventResponse::default(),
        };
        Self { pod: pod.clone(), freshness, acted, attempts: 0, timestamps }
    }

    /// Gets the pod, and creates and starts a container if none is running or created.
    pub(crate) async fn sync(&mut self, harness: &Harness) {
        let (acted, acted_at) = self.acted;
        let newest = self.timestamps.newest();
        let states: Vec<ContainerState> = match self.freshness {
            Freshness::ByReads => {
                let pod = harness.app.pod_newer_than(&uid(&self.pod), acted, MINUTE).await;
                let pod = pod.expect("the runtime answers").expect("there");
                pod.containers.iter().map(|container| container.state).collect()
            }
            Freshness::ByTimestamps if newest.created_at > acted_at.as_nanos() => {
                newest.containers_statuses.iter().map(|container| state(container.state())).collect()
            }
            // The worker waits for a newer event.
            Freshness::ByTimestamps => return,
        };
        let runs = match self.freshness {
            Freshness::ByReads => states.iter().any(|state| *state != ContainerState::Exited),
            // The first design had no state for created containers and treated them as missing (kubernetes#122763).
            Freshness::ByTimestamps => states.contains(&ContainerState::Running),
        };
        if !runs {
            let spec = ContainerSpec::of_pod(&self.pod.spec, "main", self.attempts, "busybox");
            self.attempts += 1;
            let id = harness.change(|truth| truth.create_container(&self.pod.sandbox, spec)).expect("create");
            tokio::time::sleep(TO_START).await;
            harness.change(|truth| truth.start_container(&id)).expect("start");
            self.acted = harness.app.clock().now_both();
        }
    }

    /// How many containers it has created.
    pub(crate) fn created(&self) -> u32 {
        self.attempts
    }

    /// The running containers; there should be one.
    pub(crate) fn running(&self, harness: &Harness) -> Vec<String> {
        harness.sim.read(|truth| {
            let mut ids = truth.containers_of(&self.pod.sandbox);
            ids.retain(|id| truth.container(id).is_some_and(|container| container.state == Truly::Running));
            ids
        })
    }
}

impl TimestampCache {
    /// The event with the latest timestamp so far.
    fn newest(&mut self) -> &ContainerEventResponse {
        while let Some(Some(Ok(event))) = self.events.next().now_or_never() {
            if event.created_at >= self.newest.created_at {
                self.newest = event;
            }
        }
        &self.newest
    }
}

fn state(state: v1::ContainerState) -> ContainerState {
    match state {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running,
        v1::ContainerState::ContainerExited => ContainerState::Exited,
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}
