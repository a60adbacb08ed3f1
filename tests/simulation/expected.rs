//! The expected state of the pods of a plan, so that most actions apply.

use super::plan::Action;

const NAMES: [&str; 3] = ["web", "proxy", "job"];
const CODES: [i32; 4] = [0, 1, 137, 143];

/// The pods, as if every action succeeded.
pub struct ExpectedPods(Vec<Pod>);

#[derive(Clone, Default)]
struct Pod {
    sandbox: Sandbox,
    containers: Vec<State>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sandbox {
    #[default]
    None,
    Ready,
    NotReady,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Running,
    Exited,
    Gone,
}

// === impl ExpectedPods ===

impl ExpectedPods {
    pub fn new(slots: usize) -> Self {
        Self(vec![Pod::default(); slots])
    }

    pub fn slots(&self) -> usize {
        self.0.len()
    }

    /// An existing container.
    pub fn any_container(&self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        self.containers(rng, |state| state != State::Gone)
    }

    /// A running container.
    pub fn any_running(&self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        self.containers(rng, |state| state == State::Running)
    }

    /// Picks a running container that exits.
    pub fn exit(&mut self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        let (pod, container) = self.any_running(rng)?;
        self.0[pod].containers[container] = State::Exited;
        Some((pod, container))
    }

    /// Picks a running container that exits and is removed at once.
    pub fn exit_and_remove(&mut self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        let (pod, container) = self.any_running(rng)?;
        self.0[pod].containers[container] = State::Gone;
        Some((pod, container))
    }

    /// Lets this container exit. Returns whether it was running.
    pub fn exit_of(&mut self, pod: usize, container: usize) -> bool {
        let state = &mut self.0[pod].containers[container];
        std::mem::replace(state, State::Exited) == State::Running
    }

    /// A ready pod.
    pub fn any_ready(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        self.any_pod(Sandbox::Ready, rng)
    }

    /// Lets the sandbox of a pod end.
    pub fn end_sandbox(&mut self, pod: usize) {
        self.0[pod].sandbox = Sandbox::NotReady;
    }

    /// Adds a created container. Returns its index.
    pub fn create_in(&mut self, pod: usize) -> usize {
        self.0[pod].containers.push(State::Created);
        self.0[pod].containers.len() - 1
    }

    /// Marks a container as started.
    pub fn start(&mut self, pod: usize, container: usize) {
        self.0[pod].containers[container] = State::Running;
    }

    /// A change without an event.
    pub fn silent_change(&mut self, rng: &mut fastrand::Rng) -> Action {
        let running = self.any_running(rng);
        match (rng.u32(..6), running, self.any_pod(Sandbox::Ready, rng)) {
            (0, Some((pod, container)), _) => Action::SetReason { pod, container, reason: "OOMKilled" },
            (1, Some((pod, container)), _) => Action::Annotate { pod, container: Some(container) },
            (2, _, Some(pod)) => Action::Annotate { pod, container: None },
            (3, _, Some(pod)) => Action::Label { pod },
            (4, _, Some(pod)) => Action::Address { pod },
            (5, _, Some(pod)) => {
                self.0[pod].sandbox = Sandbox::None;
                Action::RemovePodSilently { pod }
            }
            _ => Action::Pause,
        }
    }

    /// Picks a ready pod for a container that is created and removed at once.
    pub fn create_and_remove(&mut self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        let pod = self.any_pod(Sandbox::Ready, rng)?;
        self.0[pod].containers.push(State::Gone);
        Some((pod, self.0[pod].containers.len() - 1))
    }

    /// Picks a slot for a pod that runs and ends.
    pub fn run_and_end(&mut self, rng: &mut fastrand::Rng) -> Option<usize> {
        let pod = self.any_pod(Sandbox::None, rng)?;
        self.0[pod] = Pod { sandbox: Sandbox::NotReady, ..Pod::default() };
        Some(pod)
    }

    /// A random action that applies.
    pub fn next_action(&mut self, rng: &mut fastrand::Rng) -> Action {
        let pod = rng.usize(..self.0.len());
        let it = &self.0[pod];
        match it.sandbox {
            Sandbox::None => {
                self.0[pod] = Pod { sandbox: Sandbox::Ready, ..Pod::default() };
                Action::RunPod { pod }
            }
            Sandbox::NotReady => match rng.u32(..4) {
                0 => {
                    self.0[pod].sandbox = Sandbox::Ready;
                    Action::RunAgain { pod }
                }
                1 => self.container_action(pod, rng),
                _ => {
                    self.0[pod].sandbox = Sandbox::None;
                    Action::RemovePod { pod }
                }
            },
            Sandbox::Ready => match rng.u32(..20) {
                0 => self.ends(pod, Action::StopPod { pod }),
                1 => {
                    self.0[pod].sandbox = Sandbox::NotReady;
                    Action::SandboxDies { pod }
                }
                2 => {
                    self.0[pod].sandbox = Sandbox::None;
                    Action::RemovePod { pod }
                }
                3..8 => {
                    self.0[pod].containers.push(State::Created);
                    Action::Create { pod, name: NAMES[rng.usize(..3)] }
                }
                _ => self.container_action(pod, rng),
            },
        }
    }

    /// A change that a restarted runtime may show.
    pub fn after_outage(&mut self, rng: &mut fastrand::Rng) -> Action {
        let pod = rng.usize(..self.0.len());
        let running = self.any_running(rng);
        match (rng.u32(..14), running) {
            (0..3, Some((pod, container))) => {
                self.0[pod].containers[container] = State::Exited;
                Action::Exit { pod, container, code: CODES[rng.usize(..4)] }
            }
            (3, Some((pod, container))) => Action::LoseTask { pod, container },
            (4, Some((pod, container))) => Action::FailLoad { pod, container },
            (5, Some((pod, container))) => Action::Vanish { pod, container },
            (6, Some((pod, container))) => Action::Load { pod, container },
            (7, _) => match self.containers(rng, |state| state == State::Exited) {
                Some((pod, container)) => Action::Relapse { pod, container },
                None => Action::Pause,
            },
            (8, _) => Action::VanishPod { pod },
            (9, _) => Action::Orphan { pod },
            (10, _) => Action::FailLoadPod { pod },
            (11, _) => Action::LoadPod { pod },
            (12, _) => {
                self.0[pod].sandbox = Sandbox::NotReady;
                Action::SandboxDies { pod }
            }
            _ => Action::Pause,
        }
    }

    fn container_action(&mut self, pod: usize, rng: &mut fastrand::Rng) -> Action {
        let there: Vec<usize> =
            (0..self.0[pod].containers.len()).filter(|n| self.0[pod].containers[*n] != State::Gone).collect();
        let Some(container) = rng.choice(there) else { return Action::Pause };
        let state = &mut self.0[pod].containers[container];
        let (next, action) = match (*state, rng.u32(..8)) {
            (State::Created, 0) => (State::Exited, Action::FailStart { pod, container }),
            (State::Created, 1..7) => (State::Running, Action::Start { pod, container }),
            (State::Running, 0..4) => {
                (State::Exited, Action::Exit { pod, container, code: CODES[rng.usize(..4)] })
            }
            (State::Running, 4) => {
                (State::Exited, Action::Oom { pod, container, code: CODES[rng.usize(..4)] })
            }
            (State::Running, 5..7) => (State::Exited, Action::Stop { pod, container }),
            _ => (State::Gone, Action::Remove { pod, container }),
        };
        *state = next;
        action
    }

    fn ends(&mut self, pod: usize, action: Action) -> Action {
        self.0[pod].sandbox = Sandbox::NotReady;
        for state in self.0[pod].containers.iter_mut().filter(|state| **state == State::Running) {
            *state = State::Exited;
        }
        action
    }

    fn any_pod(&self, sandbox: Sandbox, rng: &mut fastrand::Rng) -> Option<usize> {
        rng.choice((0..self.0.len()).filter(|pod| self.0[*pod].sandbox == sandbox).collect::<Vec<_>>())
    }

    fn containers(&self, rng: &mut fastrand::Rng, is: impl Fn(State) -> bool) -> Option<(usize, usize)> {
        let all = self.0.iter().enumerate().flat_map(|(pod, it)| {
            it.containers.iter().enumerate().map(move |(container, state)| (pod, container, *state))
        });
        let fit: Vec<_> = all.filter(|(_, _, state)| is(*state)).collect();
        rng.choice(fit).map(|(pod, container, _)| (pod, container))
    }
}
