//! A pod worker as the kubelet has one: woken up by what it is told, it looks at the pod, and makes what is missing.

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
    support::{TestPod, World},
    uid,
};

/// How long it takes from one to the other.
const TO_START: Duration = Duration::from_millis(100);

/// How the worker gets a state of the pod that is newer than its own last action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// From plegd, which has the pod read after that.
    ByReads,
    /// From the last event whose stamp is later, as the first design with two writers had it.
    ByStamps,
}

/// Keeps one container of a pod running.
pub(crate) struct Worker {
    pod: TestPod,
    look: Look,
    acted: (Mono, Wall),
    attempts: u32,
    stamps: Stamps,
}

/// The cache of the first design: the newest stamp wins, and what came with it is the pod.
struct Stamps {
    events: Subscription,
    newest: ContainerEventResponse,
}

impl Worker {
    pub(crate) fn new(world: &World, pod: &TestPod, look: Look) -> Self {
        // Nothing is older than that it has not done anything yet.
        let acted = (world.app.clock().now(), Wall::from_nanos(-1));
        let stamps =
            Stamps { events: world.sim.queue().subscribe(), newest: ContainerEventResponse::default() };
        Self { pod: pod.clone(), look, acted, attempts: 0, stamps }
    }

    /// Looks, and makes and starts a container if none is there that runs or is about to.
    pub(crate) async fn sync(&mut self, world: &World) {
        let (acted, acted_at) = self.acted;
        let newest = self.stamps.newest();
        let states: Vec<ContainerState> = match self.look {
            Look::ByReads => {
                let pod = world.app.pod_newer_than(&uid(&self.pod), acted, MINUTE).await;
                let pod = pod.expect("the runtime answers").expect("there");
                pod.containers.iter().map(|container| container.state).collect()
            }
            Look::ByStamps if newest.created_at > acted_at.as_nanos() => {
                newest.containers_statuses.iter().map(|container| state(container.state())).collect()
            }
            // It waits.
            Look::ByStamps => return,
        };
        let runs = match self.look {
            Look::ByReads => states.iter().any(|state| *state != ContainerState::Exited),
            // Without a state of its own, what is only made counts as missing (kubernetes#122763).
            Look::ByStamps => states.contains(&ContainerState::Running),
        };
        if !runs {
            let spec = ContainerSpec::of_pod(&self.pod.spec, "main", self.attempts, "busybox");
            self.attempts += 1;
            let id = world.change(|truth| truth.create_container(&self.pod.sandbox, spec)).expect("create");
            tokio::time::sleep(TO_START).await;
            world.change(|truth| truth.start_container(&id)).expect("start");
            self.acted = world.app.clock().now_both();
        }
    }

    /// How many containers it has made.
    pub(crate) fn made(&self) -> u32 {
        self.attempts
    }

    /// The containers that run, of which there is to be one.
    pub(crate) fn running(&self, world: &World) -> Vec<String> {
        world.sim.read(|truth| {
            let mut ids = truth.containers_of(&self.pod.sandbox);
            ids.retain(|id| truth.container(id).is_some_and(|container| container.state == Truly::Running));
            ids
        })
    }
}

impl Stamps {
    /// The event with the latest stamp so far.
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
