//! From a seed to all that is going to happen: plain data, so that it can be printed, cut down and played again.
//!
//! What does not apply when its turn has come, such as the exit of a container that was never made, is passed over: so any
//! part of a plan is a plan too.

use std::time::Duration;

use plegd::{
    api::v1::Condition,
    sim::{CallFault, Dose, EventFault, Method, Profile},
};

use super::{
    contradictions::Listed,
    sequences::{SEQUENCES, Sequence},
    sketch::Sketch,
    troubles::{TROUBLES, Trouble},
    world::World,
};

/// Each sequence of acts is part of one plan in so many.
const SEQUENCES_IN: u32 = 20;

/// All that is going to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub profile: Profile,
    pub world: World,
    /// The shortest relist period.
    pub period: Duration,
    /// The longest relist period.
    pub max_period: Duration,
    pub request_timeout: Duration,
    /// Events that the journal holds.
    pub journal: usize,
    pub subscribers: usize,
    /// Each after so much time.
    pub acts: Vec<(Duration, Act)>,
}

/// One thing that happens. Pods are numbered by slot, the containers of a slot in the order in which they are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    // What a kubelet does.
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
    /// The same, and no event tells of the containers.
    RemovePodSilently {
        pod: usize,
    },
    // What processes do.
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
    /// The reason becomes another one: of an exit that is over, or of a container that runs.
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
    // What a restarted runtime makes of them.
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
    // What goes wrong.
    Crash,
    Recover {
        in_ms: u64,
    },
    Cut {
        cleanly: bool,
    },
    Freeze,
    Thaw,
    Events(EventFault, Dose),
    Calls(Method, CallFault, Dose),
    /// Calls fail that are about a container, or about the sandbox without one: those for its status, or lists of it alone.
    About {
        pod: usize,
        container: Option<usize>,
        list: bool,
        fault: CallFault,
        dose: Dose,
    },
    /// Full lists of containers, or of sandboxes, are wrong.
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
    /// All faults are over.
    Calm,
    StepClock {
        millis: i64,
    },
    ThiefComes,
    ThiefGoes,
    /// An event says that a container is deleted, which runs on.
    AnnounceDeleted {
        pod: usize,
        container: usize,
    },
    /// Lists show from now on what they show now.
    FreezeLists,
    /// The next lists are empty, with a filter and without.
    EmptyLists,
    /// Another relist period, and another longest one.
    Relist {
        period_ms: u64,
        max_ms: u64,
    },
    /// Hours without any change.
    Hours(u64),
    RestartPlegd {
        after_ms: u64,
    },
    // What readers do.
    /// Reads a pod, by what it is named by, that is newer than some time ago.
    Fresh {
        pod: usize,
        by: By,
        ago_ms: u64,
    },
    /// Waits until a condition holds of a container, or without one of a pod.
    Wait {
        pod: usize,
        container: Option<usize>,
        condition: Condition,
    },
    /// Nothing.
    Rest,
}

/// What a reader names a pod by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Uid,
    Name,
    /// A container, or the sandbox if there is no such container.
    Id(usize),
}

// === impl Plan ===

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let profile = Profile::ALL[rng.usize(..Profile::ALL.len())];
        let troubles: Vec<Trouble> = TROUBLES.into_iter().filter(|_| rng.u32(..10) < 2).collect();
        let mut plan = Self {
            seed,
            profile,
            world: World::any(&mut rng),
            period: Duration::from_secs(1),
            max_period: Duration::from_secs([2, 4, 10][rng.usize(..3)]),
            request_timeout: Duration::from_millis([700, 1900][rng.usize(..2)]),
            journal: if rng.u32(..4) == 0 { 128 } else { 4096 },
            subscribers: rng.usize(..3),
            acts: Vec::new(),
        };
        // From a generator of its own: the plans of other seeds stay as they were.
        let mut rare = fastrand::Rng::with_seed(seed.rotate_left(32) ^ 0x5eed);
        let sequences: Vec<Sequence> =
            SEQUENCES.into_iter().filter(|_| rare.u32(..SEQUENCES_IN) == 0).collect();
        plan.world.differ(&plan.profile, &mut rare);
        if rare.u32(..12) == 0 {
            plan.period = Duration::from_secs(rare.u64(2..5));
        }
        let mut sketch = Sketch::new(rng.usize(1..5));
        let many = rng.usize(20..90);
        while plan.acts.len() < many {
            if !sequences.is_empty() && rare.u32(..8) == 0 {
                plan.sequence(sequences[rare.usize(..sequences.len())], &mut sketch, &mut rare);
            } else if !troubles.is_empty() && rng.u32(..7) == 0 {
                plan.trouble(troubles[rng.usize(..troubles.len())], &mut sketch, &mut rng);
            } else if rng.u32(..12) == 0 {
                let act = Act::fresh(rng.usize(..sketch.slots()), &mut rng);
                plan.push(act, &mut rng);
            } else {
                let act = sketch.next(&mut rng);
                plan.push(act, &mut rng);
            }
        }
        plan
    }

    pub fn push(&mut self, act: Act, rng: &mut fastrand::Rng) {
        let after = match rng.u32(..20) {
            0..4 => 0,
            4..11 => rng.u64(1..50),
            11..18 => rng.u64(50..1000),
            _ => rng.u64(1000..6000),
        };
        self.acts.push((Duration::from_millis(after), act));
    }

    /// The longest relist period that is ever in force.
    pub fn longest_period(&self) -> Duration {
        let others = self.acts.iter().filter_map(|(_, act)| match act {
            Act::Relist { period_ms, max_ms } => Some(Duration::from_millis(*max_ms.max(period_ms))),
            _ => None,
        });
        others.fold(self.period.max(self.max_period), Duration::max)
    }

    /// Whether the runtime contradicts itself in it.
    pub fn contradicts(&self) -> bool {
        self.has(|act| {
            matches!(
                act,
                Act::About { .. }
                    | Act::List { .. }
                    | Act::FreezeLists
                    | Act::EmptyLists
                    | Act::AnnounceDeleted { .. }
            )
        })
    }

    /// Whether anything in it is like that.
    pub fn has(&self, is: impl Fn(&Act) -> bool) -> bool {
        self.acts.iter().any(|(_, act)| is(act))
    }
}

// === impl Act ===

impl Act {
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
