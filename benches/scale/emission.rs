//! CRI events at a rate: containers of lively pods that are made, start, end and are removed, one event each.

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

/// What happens in one go; the runtime's queue takes it in less than a subscriber's channel holds.
const BATCH: u64 = 50;
const TICK: Duration = Duration::from_millis(1);
/// How often it is looked whether the queue has taken what waits. A timer of tokio's would take a millisecond or two, in
/// which plegd could have taken more.
const GLANCE: Duration = Duration::from_micros(50);

/// What was emitted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Emitted {
    pub(crate) events: u64,
    pub(crate) took: Duration,
    /// How long calls of the runtime waited for the subscriber, in all and at the longest.
    pub(crate) waited: Duration,
    pub(crate) longest_wait: Duration,
    pub(crate) waits: u64,
    /// Events whose senders waited, at most.
    pub(crate) most_blocked: usize,
}

/// Lets lives happen in the node's pods, in turn.
pub(crate) struct Emission<'a> {
    node: &'a Node,
    clock: &'a Clock,
    /// By pod: the container that lives there, and how far it has come.
    lives: Vec<Option<(String, Stage)>>,
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
        Self { node, clock, lives: vec![None; node.pods.len()], attempts: 0, acts: 0 }
    }

    /// Emits so many events a second for so long, and ends in the middle of lives. Where the runtime's queue does not take an
    /// event, the runtime waits, as its calls would, and what was due meanwhile follows at once.
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
            #[allow(
                clippy::disallowed_methods,
                reason = "finer than a timer, and in a thread that is handed over for it"
            )]
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

    /// The next thing of the next pod: one event.
    fn next(&mut self, truth: &mut Truth) -> Result<(), Refused> {
        let at = self.acts % self.lives.len();
        self.acts += 1;
        let pod = &self.node.pods[at];
        self.lives[at] = match self.lives[at].take() {
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
