//! The plan of a seed: plain data, so that it can be printed, reduced and run again.
//!
//! An action that does not apply, such as the exit of a container that was never created, is skipped: so any part of a plan is
//! a plan too.

use std::time::Duration;

use plegd::{
    api::v1::Condition,
    sim::{CallFault, Dose, EventFault, Method, Profile},
};

use super::{
    contradictions::Listed,
    environment::Environment,
    expected::ExpectedPods,
    faults::{FAULT_KINDS, FaultKind},
    sequences::{SEQUENCES, Sequence},
};

/// Each sequence of actions is part of one plan in 20.
const SEQUENCES_IN: u32 = 20;
/// One plan in so many has small limits or another version.
const LIMITED_IN: u64 = 8;

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub profile: Profile,
    pub environment: Environment,
    /// The shortest relist period.
    pub period: Duration,
    /// The longest relist period.
    pub max_period: Duration,
    pub request_timeout: Duration,
    /// How many events the journal holds.
    pub journal: usize,
    pub subscribers: usize,
    /// Each action, and the pause before it.
    pub actions: Vec<(Duration, Action)>,
}

/// One action. Pods are numbered by slot, the containers of a slot in the order of their creation.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    // Actions of a kubelet.
    RunPod {
        pod: usize,
    },
    /// The same pod, in a sandbox of the next attempt.
    RunAgain {
        pod: usize,
    },
    Create {
        pod: usize,
        name: &'static str,
    },
    Start {
        pod: usize,
        container: usize,
    },
    FailStart {
        pod: usize,
        container: usize,
    },
    Stop {
        pod: usize,
        container: usize,
    },
    Remove {
        pod: usize,
        container: usize,
    },
    StopPod {
        pod: usize,
    },
    RemovePod {
        pod: usize,
    },
    /// The same, without events of the containers.
    RemovePodSilently {
        pod: usize,
    },
    // Actions of processes.
    Exit {
        pod: usize,
        container: usize,
        code: i32,
    },
    Oom {
        pod: usize,
        container: usize,
        code: i32,
    },
    /// Changes the reason of an exited or running container.
    SetReason {
        pod: usize,
        container: usize,
        reason: &'static str,
    },
    /// An annotation of a running container, or of the ready sandbox without one.
    Annotate {
        pod: usize,
        container: Option<usize>,
    },
    /// A label of the ready sandbox.
    Label {
        pod: usize,
    },
    /// One more address of the ready sandbox.
    Address {
        pod: usize,
    },
    SandboxDies {
        pod: usize,
    },
    // Effects of a restart of the runtime.
    LoseTask {
        pod: usize,
        container: usize,
    },
    FailLoad {
        pod: usize,
        container: usize,
    },
    Load {
        pod: usize,
        container: usize,
    },
    Relapse {
        pod: usize,
        container: usize,
    },
    Vanish {
        pod: usize,
        container: usize,
    },
    VanishPod {
        pod: usize,
    },
    Orphan {
        pod: usize,
    },
    FailLoadPod {
        pod: usize,
    },
    LoadPod {
        pod: usize,
    },
    // Faults.
    Crash,
    Recover {
        in_ms: u64,
    },
    Cut {
        cleanly: bool,
    },
    Freeze,
    Unfreeze,
    Events(EventFault, Dose),
    Calls(Method, CallFault, Dose),
    /// Calls about a container, or about the sandbox without one, fail: status calls, or lists with a filter by its id.
    About {
        pod: usize,
        container: Option<usize>,
        list: bool,
        fault: CallFault,
        dose: Dose,
    },
    /// Unfiltered lists of containers, or of sandboxes, are wrong.
    List {
        pod: usize,
        container: Option<usize>,
        fault: Listed,
        dose: Dose,
    },
    HangMethod(Method),
    HangContainer {
        pod: usize,
        container: usize,
    },
    HangPod {
        pod: usize,
    },
    /// Ends all faults.
    EndFaults,
    StepClock {
        millis: i64,
    },
    OtherSubscribes,
    OtherLeaves,
    /// Sends DELETED of a container that keeps running.
    AnnounceDeleted {
        pod: usize,
        container: usize,
    },
    /// Lists keep showing the present state.
    FreezeLists,
    /// The next lists are empty, with a filter and without.
    EmptyLists,
    /// Changes the relist periods.
    Relist {
        period_ms: u64,
        max_ms: u64,
    },
    /// Hours without any change.
    Hours(u64),
    RestartPlegd {
        /// What happens to the pods while plegd is down, each after a pause in milliseconds.
        meanwhile: Vec<(u64, Action)>,
        /// The pause after that.
        after_ms: u64,
        how: Ending,
    },
    // Actions of readers.
    /// Reads a pod that is newer than `ago_ms` before the call.
    Fresh {
        pod: usize,
        by: By,
        ago_ms: u64,
    },
    /// Waits until a condition holds for a container, or without one for a pod.
    Wait {
        pod: usize,
        container: Option<usize>,
        condition: Condition,
    },
    /// Nothing.
    Pause,
}

/// How a plegd ends, and what becomes of its state on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    Stop,
    /// At any moment.
    Kill,
    /// Within a write: the number of the write from now on, and how much of it is done.
    KillInWrite { at: u64, bytes: usize },
    /// Its disk is full before it ends, by a kill; it is free again before the next start.
    FullDisk,
    /// In order, with a reboot of the machine, whose runtime has lost its events.
    Reboot,
    /// By a loss of power.
    PowerLoss,
    /// By a kill, and its state is damaged.
    Damage,
}

/// How a reader identifies a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Uid,
    Name,
    /// A container, or the sandbox if there is no such container.
    Id(usize),
}

// === impl Ending ===

impl Ending {
    fn any(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..12) {
            0..3 => Self::Stop,
            3..6 => Self::Kill,
            6..8 => Self::KillInWrite { at: rng.u64(..20), bytes: rng.usize(..600) },
            8 => Self::FullDisk,
            9 => Self::Reboot,
            10 => Self::PowerLoss,
            _ => Self::Damage,
        }
    }

    /// Whether the machine boots.
    pub fn boots(self) -> bool {
        matches!(self, Self::Reboot | Self::PowerLoss)
    }

    /// Whether the next plegd must continue the epoch, if the state was kept until then.
    pub fn keeps_epoch(self) -> bool {
        !matches!(self, Self::PowerLoss | Self::Damage)
    }
}

// === impl Plan ===

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let profile = Profile::ALL[rng.usize(..Profile::ALL.len())];
        let fault_kinds: Vec<FaultKind> = FAULT_KINDS.into_iter().filter(|_| rng.u32(..10) < 2).collect();
        let mut plan = Self {
            seed,
            profile,
            environment: Environment::any(&mut rng),
            period: Duration::from_secs(1),
            max_period: Duration::from_secs([2, 4, 10][rng.usize(..3)]),
            request_timeout: Duration::from_millis([700, 1900][rng.usize(..2)]),
            journal: if rng.u32(..4) == 0 { 128 } else { 4096 },
            subscribers: rng.usize(..3),
            actions: Vec::new(),
        };
        // A separate generator, so that the plans of other seeds do not change.
        let mut rare = fastrand::Rng::with_seed(seed.rotate_left(32) ^ 0x5eed);
        let sequences: Vec<Sequence> =
            SEQUENCES.into_iter().filter(|_| rare.u32(..SEQUENCES_IN) == 0).collect();
        plan.environment.differ(&plan.profile, &mut rare);
        // The same for restarts with state on disk.
        let mut ending = fastrand::Rng::with_seed(seed.rotate_left(16) ^ 0x57a7e);
        plan.environment.state = ending.bool();
        if rare.u32(..12) == 0 {
            plan.period = Duration::from_secs(rare.u64(2..5));
        }
        let mut expected = ExpectedPods::new(rng.usize(1..5));
        let many = rng.usize(20..90);
        while plan.actions.len() < many {
            if !sequences.is_empty() && rare.u32(..8) == 0 {
                plan.add_sequence(sequences[rare.usize(..sequences.len())], &mut expected, &mut rare);
            } else if !fault_kinds.is_empty() && rng.u32(..7) == 0 {
                plan.add_fault(fault_kinds[rng.usize(..fault_kinds.len())], &mut expected, &mut rng);
            } else if rng.u32(..12) == 0 {
                let action = Action::fresh(rng.usize(..expected.slots()), &mut rng);
                plan.push(action, &mut rng);
            } else {
                let action = expected.next_action(&mut rng);
                plan.push(action, &mut rng);
            }
        }
        if plan.environment.state {
            for _ in 0..ending.usize(1..4) {
                let after_ms = ending.u64(1..3000);
                let (how, meanwhile) = (Ending::any(&mut ending), Action::of_downtime(&mut ending));
                let restart = Action::RestartPlegd { meanwhile, after_ms, how };
                let at = ending.usize(..=plan.actions.len());
                plan.actions.insert(at, (Duration::from_millis(ending.u64(1..3000)), restart));
            }
        }
        // In one plan of eight, so that the plans of other seeds do not change.
        if seed % LIMITED_IN == LIMITED_IN - 2 {
            let keeps_time = !plan.has(|action| {
                matches!(action, Action::StepClock { .. } | Action::Events(EventFault::Stamp(_), _))
            });
            plan.environment.limit(&plan.profile, keeps_time, &mut rare);
        }
        plan
    }

    pub fn push(&mut self, action: Action, rng: &mut fastrand::Rng) {
        let after = match rng.u32(..20) {
            0..4 => 0,
            4..11 => rng.u64(1..50),
            11..18 => rng.u64(50..1000),
            _ => rng.u64(1000..6000),
        };
        self.actions.push((Duration::from_millis(after), action));
    }

    /// The longest relist period of the plan.
    pub fn longest_period(&self) -> Duration {
        let others = self.actions.iter().filter_map(|(_, action)| match action {
            Action::Relist { period_ms, max_ms } => Some(Duration::from_millis(*max_ms.max(period_ms))),
            _ => None,
        });
        others.fold(self.period.max(self.max_period), Duration::max)
    }

    /// Whether the runtime contradicts itself in this plan.
    pub fn contradicts(&self) -> bool {
        self.has(|action| {
            matches!(
                action,
                Action::About { .. }
                    | Action::List { .. }
                    | Action::FreezeLists
                    | Action::EmptyLists
                    | Action::AnnounceDeleted { .. }
            )
        })
    }

    /// Whether the plan has such an action.
    pub fn has(&self, is: impl Fn(&Action) -> bool) -> bool {
        self.actions.iter().any(|(_, action)| is(action))
    }
}

// === impl Action ===

impl Action {
    /// Actions of a kubelet and of processes; those that do not apply are skipped. In one case of three they are the whole life of a pod.
    fn of_downtime(rng: &mut fastrand::Rng) -> Vec<(u64, Self)> {
        let pod = rng.usize(..4);
        if rng.u32(..3) == 0 {
            let (container, code) = (0, 3);
            let life = [
                Self::RemovePod { pod },
                Self::RunPod { pod },
                Self::Create { pod, name: "short" },
                Self::Start { pod, container },
                Self::Exit { pod, container, code },
                Self::RemovePod { pod },
            ];
            return life.into_iter().map(|action| (rng.u64(..300), action)).collect();
        }
        let any = |rng: &mut fastrand::Rng| {
            let (pod, container) = (if rng.bool() { pod } else { rng.usize(..4) }, rng.usize(..3));
            match rng.u32(..9) {
                0 => Self::RunPod { pod },
                1 => Self::RunAgain { pod },
                2 => Self::Create { pod, name: "web" },
                3 => Self::Start { pod, container },
                4 => Self::Exit { pod, container, code: 1 },
                5 => Self::Stop { pod, container },
                6 => Self::Remove { pod, container },
                7 => Self::StopPod { pod },
                _ => Self::RemovePod { pod },
            }
        };
        let count = rng.usize(..10);
        (0..count).map(|_| (rng.u64(..300), any(rng))).collect()
    }

    fn fresh(pod: usize, rng: &mut fastrand::Rng) -> Self {
        let by = match rng.u32(..6) {
            0 => By::Name,
            1 => By::Id(rng.usize(..4)),
            _ => By::Uid,
        };
        let ago_ms = if rng.u32(..3) == 0 { rng.u64(1..1500) } else { 0 };
        Self::Fresh { pod, by, ago_ms }
    }
}
