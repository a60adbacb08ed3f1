//! Emits CRI events at a given rate: containers of a few pods are created, started, stopped and removed, with one
//! event each.

use std::time::Duration;

use anyhow::Result;
use plegd::{
    clock::Clock,
    sim::{
        Truth,
        truth::{ContainerSpec, Refused},
    },
};
use tokio::time::sleep;

use super::node::{Node, act};

/// Events per batch, less than the capacity of a subscriber's channel.
const BATCH: u64 = 50;
const TICK: Duration = Duration::from_millis(1);
/// Polling interval while the runtime's queue is blocked. A tokio timer would take 1 to 2 ms, in which plegd could
/// have read more.
const GLANCE: Duration = Duration::from_micros(50);

/// The result of an emission.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Emitted {
    pub(crate) events: u64,
    pub(crate) took: Duration,
    /// Total and maximum time that the runtime waited for the subscriber.
    pub(crate) waited: Duration,
    pub(crate) longest_wait: Duration,
    pub(crate) waits: u64,
    /// Maximum number of blocked events.
    pub(crate) most_blocked: usize,
}

/// Emits the events of containers, in one pod after the other.
pub(crate) struct Emission<'a> {
    node: &'a Node,
    clock: &'a Clock,
    /// The container of each pod, and its stage.
    containers: Vec<Option<(String, Stage)>>,
    attempts: u32,
    acts: usize,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Created,
    Running,
    Exited,
}

// === impl Emission ===

impl<'a> Emission<'a> {
    pub(crate) fn new(node: &'a Node, clock: &'a Clock) -> Self {
        node.sim.forget_events();
        Self { node, clock, containers: vec![None; node.pods.len()], attempts: 0, acts: 0 }
    }

    /// Emits `rate` events per second for this time; the last containers stay unfinished. If the runtime's queue
    /// blocks, the emission waits like a CRI call, and then catches up.
    pub(crate) async fn run(&mut self, rate: u64, duration: Duration) -> Result<Emitted> {
        let queue = self.node.sim.queue();
        let due_in_all = rate * duration.as_secs();
        let begun = self.clock.now();
        let mut emitted = Emitted::default();
        while emitted.events < due_in_all {
            let now = self.clock.now().since(begun);
            if now > 2 * duration {
                break;
            }
            let due = ((now.as_secs_f64() * rate as f64) as u64).min(due_in_all);
            if due <= emitted.events {
                sleep(TICK).await;
                continue;
            }
            let batch = (due - emitted.events).min(BATCH);
            act(&self.node.sim, |truth| (0..batch).try_for_each(|_| self.next(truth)))?;
            emitted.events += batch;
            let since = self.clock.now();
            emitted.most_blocked = emitted.most_blocked.max(queue.blocked());
            #[allow(clippy::disallowed_methods, reason = "finer than a timer, in a dedicated thread")]
            tokio::task::block_in_place(|| {
                while queue.blocked() > 0 {
                    std::thread::sleep(GLANCE);
                }
            });
            let waited = self.clock.now().since(since);
            if waited >= TICK {
                emitted.waits += 1;
                emitted.waited += waited;
                emitted.longest_wait = emitted.longest_wait.max(waited);
            }
        }
        emitted.took = self.clock.now().since(begun);
        Ok(emitted)
    }

    /// Emits the next event, in the next pod.
    fn next(&mut self, truth: &mut Truth) -> Result<(), Refused> {
        let at = self.acts % self.containers.len();
        self.acts += 1;
        let pod = &self.node.pods[at];
        self.containers[at] = match self.containers[at].take() {
            None => {
                self.attempts += 1;
                let image = "registry.example/short:1.0";
                let spec = ContainerSpec::of_pod(&pod.spec, "short", self.attempts, image);
                Some((truth.create_container(&pod.sandbox, spec)?, Stage::Created))
            }
            Some((id, Stage::Created)) => {
                truth.start_container(&id)?;
                Some((id, Stage::Running))
            }
            Some((id, Stage::Running)) => {
                truth.exit(&id, 0)?;
                Some((id, Stage::Exited))
            }
            Some((id, Stage::Exited)) => {
                truth.remove_container(&id)?;
                None
            }
        };
        Ok(())
    }
}

// === impl Emitted ===

impl Emitted {
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }
}
