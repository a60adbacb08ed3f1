//! What a plan knows of the pods it is made for, so that most of what it plans can be done.

use super::plan::Act;

const NAMES: [&str; 3] = ["web", "proxy", "job"];
const CODES: [i32; 4] = [0, 1, 137, 143];

/// The pods as they would be if all went as planned.
pub struct Sketch(Vec<Pod>);

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

// === impl Sketch ===

impl Sketch {
    pub fn new(slots: usize) -> Self {
        Self(vec![Pod::default(); slots])
    }

    pub fn slots(&self) -> usize {
        self.0.len()
    }

    /// A container that is there.
    pub fn any_container(&self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        self.containers(rng, |state| state != State::Gone)
    }

    /// A container that runs.
    pub fn any_running(&self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        self.containers(rng, |state| state == State::Running)
    }

    /// A container that runs, and ends.
    pub fn exits(&mut self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        let (pod, container) = self.any_running(rng)?;
        self.0[pod].containers[container] = State::Exited;
        Some((pod, container))
    }

    /// A container that runs, ends and is removed at once.
    pub fn dies(&mut self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        let (pod, container) = self.any_running(rng)?;
        self.0[pod].containers[container] = State::Gone;
        Some((pod, container))
    }

    /// Whether this container runs; it ends.
    pub fn exits_of(&mut self, pod: usize, container: usize) -> bool {
        let state = &mut self.0[pod].containers[container];
        std::mem::replace(state, State::Exited) == State::Running
    }

    /// A pod that runs.
    pub fn any_ready(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        self.any_pod(Sandbox::Ready, rng)
    }

    /// The sandbox of a pod has ended.
    pub fn sandbox_ends(&mut self, pod: usize) {
        self.0[pod].sandbox = Sandbox::NotReady;
    }

    /// A container is made in a pod; says which one.
    pub fn is_created(&mut self, pod: usize) -> usize {
        self.0[pod].containers.push(State::Created);
        self.0[pod].containers.len() - 1
    }

    /// A container has been started.
    pub fn is_started(&mut self, pod: usize, container: usize) {
        self.0[pod].containers[container] = State::Running;
    }

    /// Something that changes without an event.
    pub fn silence(&mut self, rng: &mut fastrand::Rng) -> Act {
        let running = self.any_running(rng);
        match (rng.u32(..6), running, self.any_pod(Sandbox::Ready, rng)) {
            (0, Some((pod, container)), _) => Act::SetReason { pod, container, reason: "OOMKilled" },
            (1, Some((pod, container)), _) => Act::Annotate { pod, container: Some(container) },
            (2, _, Some(pod)) => Act::Annotate { pod, container: None },
            (3, _, Some(pod)) => Act::Label { pod },
            (4, _, Some(pod)) => Act::Address { pod },
            (5, _, Some(pod)) => {
                self.0[pod].sandbox = Sandbox::None;
                Act::RemovePodSilently { pod }
            }
            _ => Act::Rest,
        }
    }

    /// A container that is made in a pod that runs, and is gone at once.
    pub fn creates(&mut self, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        let pod = self.any_pod(Sandbox::Ready, rng)?;
        self.0[pod].containers.push(State::Gone);
        Some((pod, self.0[pod].containers.len() - 1))
    }

    /// A pod that is made, and ends by itself.
    pub fn runs(&mut self, rng: &mut fastrand::Rng) -> Option<usize> {
        let pod = self.any_pod(Sandbox::None, rng)?;
        self.0[pod] = Pod { sandbox: Sandbox::NotReady, ..Pod::default() };
        Some(pod)
    }

    /// Something that can be done.
    pub fn next(&mut self, rng: &mut fastrand::Rng) -> Act {
        let pod = rng.usize(..self.0.len());
        let it = &self.0[pod];
        match it.sandbox {
            Sandbox::None => {
                self.0[pod] = Pod { sandbox: Sandbox::Ready, ..Pod::default() };
                Act::RunPod { pod }
            }
            Sandbox::NotReady => match rng.u32(..4) {
                0 => {
                    self.0[pod].sandbox = Sandbox::Ready;
                    Act::RunAgain { pod }
                }
                1 => self.act_on_container(pod, rng),
                _ => {
                    self.0[pod].sandbox = Sandbox::None;
                    Act::RemovePod { pod }
                }
            },
            Sandbox::Ready => match rng.u32(..20) {
                0 => self.ends(pod, Act::StopPod { pod }),
                1 => {
                    self.0[pod].sandbox = Sandbox::NotReady;
                    Act::SandboxDies { pod }
                }
                2 => {
                    self.0[pod].sandbox = Sandbox::None;
                    Act::RemovePod { pod }
                }
                3..8 => {
                    self.0[pod].containers.push(State::Created);
                    Act::Create { pod, name: NAMES[rng.usize(..3)] }
                }
                _ => self.act_on_container(pod, rng),
            },
        }
    }

    /// Something that may be found when a runtime is back.
    pub fn misfortune(&mut self, rng: &mut fastrand::Rng) -> Act {
        let pod = rng.usize(..self.0.len());
        let running = self.any_running(rng);
        match (rng.u32(..14), running) {
            (0..3, Some((pod, container))) => {
                self.0[pod].containers[container] = State::Exited;
                Act::Exit { pod, container, code: CODES[rng.usize(..4)] }
            }
            (3, Some((pod, container))) => Act::LoseTask { pod, container },
            (4, Some((pod, container))) => Act::FailLoad { pod, container },
            (5, Some((pod, container))) => Act::Vanish { pod, container },
            (6, Some((pod, container))) => Act::Load { pod, container },
            (7, _) => match self.containers(rng, |state| state == State::Exited) {
                Some((pod, container)) => Act::Relapse { pod, container },
                None => Act::Rest,
            },
            (8, _) => Act::VanishPod { pod },
            (9, _) => Act::Orphan { pod },
            (10, _) => Act::FailLoadPod { pod },
            (11, _) => Act::LoadPod { pod },
            (12, _) => {
                self.0[pod].sandbox = Sandbox::NotReady;
                Act::SandboxDies { pod }
            }
            _ => Act::Rest,
        }
    }

    fn act_on_container(&mut self, pod: usize, rng: &mut fastrand::Rng) -> Act {
        let there: Vec<usize> =
            (0..self.0[pod].containers.len()).filter(|n| self.0[pod].containers[*n] != State::Gone).collect();
        let Some(container) = rng.choice(there) else { return Act::Rest };
        let state = &mut self.0[pod].containers[container];
        let (next, act) = match (*state, rng.u32(..8)) {
            (State::Created, 0) => (State::Exited, Act::FailStart { pod, container }),
            (State::Created, 1..7) => (State::Running, Act::Start { pod, container }),
            (State::Running, 0..4) => {
                (State::Exited, Act::Exit { pod, container, code: CODES[rng.usize(..4)] })
            }
            (State::Running, 4) => (State::Exited, Act::Oom { pod, container, code: CODES[rng.usize(..4)] }),
            (State::Running, 5..7) => (State::Exited, Act::Stop { pod, container }),
            _ => (State::Gone, Act::Remove { pod, container }),
        };
        *state = next;
        act
    }

    fn ends(&mut self, pod: usize, act: Act) -> Act {
        self.0[pod].sandbox = Sandbox::NotReady;
        for state in self.0[pod].containers.iter_mut().filter(|state| **state == State::Running) {
            *state = State::Exited;
        }
        act
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
