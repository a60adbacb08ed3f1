//! From a seed to all that is going to happen: plain data, so that it can be printed, cut down and played again.
//!
//! What does not apply when its turn has come, such as the exit of a container that was never made, is passed over: so any
//! part of a plan is a plan too.

use std::time::Duration;

use plegd::{
    cri::quirks::{Quirk, Quirks},
    sim::{CallFault, Dose, EventFault, Method, Profile, Stamp},
};
use tonic::Code;

use super::{sketch::Sketch, world::World};

/// All that is going to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub profile: Profile,
    pub world: World,
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

/// Kinds of trouble; a plan has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Stream,
    Calls,
    Hangs,
    Outages,
    Cuts,
    Freezes,
    Clock,
    Thief,
    Plegd,
    Echoes,
    Straddles,
    Stragglers,
    Glimpses,
    Stamps,
    Silence,
    LateReasons,
}

const TROUBLES: [Trouble; 16] = [
    Trouble::Stream,
    Trouble::Calls,
    Trouble::Hangs,
    Trouble::Outages,
    Trouble::Cuts,
    Trouble::Freezes,
    Trouble::Clock,
    Trouble::Thief,
    Trouble::Plegd,
    Trouble::Echoes,
    Trouble::Straddles,
    Trouble::Stragglers,
    Trouble::Glimpses,
    Trouble::Stamps,
    Trouble::Silence,
    Trouble::LateReasons,
];

const READS: [Method; 5] = [
    Method::ListPodSandbox,
    Method::ListContainers,
    Method::PodSandboxStatus,
    Method::ContainerStatus,
    Method::Version,
];

/// In milliseconds.
const DAY: i64 = 86_400_000;

// === impl Plan ===

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let profile = Profile::ALL[rng.usize(..Profile::ALL.len())];
        let troubles: Vec<Trouble> = TROUBLES.into_iter().filter(|_| rng.u32(..10) < 3).collect();
        let mut plan = Self {
            seed,
            profile,
            world: World::any(&mut rng),
            max_period: Duration::from_secs([2, 4, 10][rng.usize(..3)]),
            request_timeout: Duration::from_millis([700, 1900][rng.usize(..2)]),
            journal: if rng.u32(..4) == 0 { 128 } else { 4096 },
            subscribers: rng.usize(..3),
            acts: Vec::new(),
        };
        let mut sketch = Sketch::new(rng.usize(1..5));
        let many = rng.usize(20..90);
        while plan.acts.len() < many {
            if !troubles.is_empty() && rng.u32(..7) == 0 {
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

    fn push(&mut self, act: Act, rng: &mut fastrand::Rng) {
        let after = match rng.u32(..20) {
            0..4 => 0,
            4..11 => rng.u64(1..50),
            11..18 => rng.u64(50..1000),
            _ => rng.u64(1000..6000),
        };
        self.acts.push((Duration::from_millis(after), act));
    }

    /// Something goes wrong from now on, or just now; what does not pass by itself ends at some later time.
    fn trouble(&mut self, trouble: Trouble, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        match trouble {
            Trouble::Stream => {
                for _ in 0..rng.u32(1..4) {
                    let (fault, dose) = (any_event_fault(rng), any_dose(rng));
                    self.push(Act::Events(fault, dose), rng);
                }
            }
            Trouble::Calls => {
                let (fault, dose) = (any_call_fault(rng), any_dose(rng));
                self.push(Act::Calls(READS[rng.usize(..READS.len())], fault, dose), rng);
            }
            Trouble::Hangs => {
                let act = match (rng.u32(..3), sketch.any_container(rng)) {
                    (0, Some((pod, container))) => Act::HangContainer { pod, container },
                    (1, _) => Act::HangPod { pod: rng.usize(..sketch.slots()) },
                    _ => Act::HangMethod(READS[rng.usize(..READS.len())]),
                };
                self.push(act, rng);
            }
            Trouble::Outages => {
                self.push(Act::Crash, rng);
                for _ in 0..rng.u32(..4) {
                    let act = sketch.misfortune(rng);
                    self.push(act, rng);
                }
                let in_ms = if rng.bool() { 0 } else { rng.u64(..3000) };
                self.push(Act::Recover { in_ms }, rng);
            }
            Trouble::Cuts => self.push(Act::Cut { cleanly: rng.bool() }, rng),
            Trouble::Freezes => {
                self.push(Act::Freeze, rng);
                for _ in 0..rng.u32(..5) {
                    let act = sketch.next(rng);
                    self.push(act, rng);
                }
                self.push(Act::Thaw, rng);
            }
            Trouble::Clock => {
                let by = match rng.u32(..3) {
                    0 => [1_000, 40_000, 3_600_000, DAY, 400 * DAY, 3650 * DAY][rng.usize(..6)],
                    _ => rng.i64(1..=100),
                };
                self.push(Act::StepClock { millis: if rng.bool() { by } else { -by } }, rng);
            }
            Trouble::Thief => {
                self.push(if rng.bool() { Act::ThiefComes } else { Act::ThiefGoes }, rng);
            }
            Trouble::Plegd => self.push(Act::RestartPlegd { after_ms: rng.u64(1..3000) }, rng),
            Trouble::Echoes => self.echoes(sketch, rng),
            Trouble::Straddles => self.straddles(sketch, rng),
            Trouble::Stragglers => self.straggles(sketch, rng),
            Trouble::Glimpses => self.glimpses(sketch, rng),
            Trouble::Stamps => {
                let off = EventFault::Stamp(Stamp::Off(rng.i64(-100..=100) * 1_000_000));
                let dose = if rng.bool() { Dose::Always } else { Dose::Chance(0.5) };
                self.push(Act::Events(off, dose), rng);
            }
            Trouble::Silence => {
                let act = sketch.silence(rng);
                self.push(act, rng);
            }
            Trouble::LateReasons => self.late_reason(sketch, rng),
        }
        if rng.u32(..3) == 0 {
            self.push(Act::Calm, rng);
        }
    }

    /// Something is told, then it changes in silence, or turns out not to be so; when plegd has found that out, what was told
    /// first is told again. Some of it under stamps that do not say that it is old.
    fn echoes(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.any_running(rng) else { return };
        let (told, undone) = match rng.u32(..4) {
            0 | 1 => (Act::Oom { pod, container, code: 137 }, None),
            2 => (Act::SandboxDies { pod }, Some(Act::LoadPod { pod })),
            _ => (Act::Exit { pod, container, code: 1 }, Some(Act::Relapse { pod, container })),
        };
        if rng.u32(..4) > 0 {
            self.push(Act::Events(EventFault::Stamp(Stamp::Zero), Dose::Next(rng.u32(1..4))), rng);
        }
        self.push(told, rng);
        if let Some(undone) = undone {
            [Act::Crash, undone, Act::Recover { in_ms: 0 }].into_iter().for_each(|act| self.push(act, rng));
        }
        let found_out = Duration::from_millis(rng.u64(3_000..12_000));
        self.acts.push((found_out, Act::Events(EventFault::Replay, Dose::Next(rng.u32(16..64)))));
        for _ in 0..rng.u32(6..20) {
            let act = sketch.next(rng);
            self.push(act, rng);
        }
    }

    /// What happens is stamped just before a step of the wall clock and told just after it; no relist will find a trace of it.
    fn straddles(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.any_container(rng) else { return };
        let soon = |ms: u64| Duration::from_millis(ms);
        let happens = match rng.u32(..3) {
            0 => Act::Exit { pod, container, code: 137 },
            _ => Act::Start { pod, container },
        };
        let by = [40_000, 3_600_000, DAY, 400 * DAY][rng.usize(..4)];
        self.acts.push((soon(rng.u64(0..3000)), Act::Events(EventFault::Delay(soon(30)), Dose::Next(1))));
        self.acts.push((Duration::ZERO, happens));
        self.acts.push((soon(rng.u64(1..20)), Act::StepClock { millis: by }));
        self.acts.push((soon(rng.u64(30..500)), Act::Events(EventFault::Drop, Dose::Next(2))));
        self.acts.push((Duration::ZERO, Act::Remove { pod, container }));
    }

    /// What has come and gone unseen is told of by an event that arrives while somebody reads what is newer.
    fn straggles(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.creates(rng) else { return };
        let soon = |ms: u64| Duration::from_millis(ms);
        let late = rng.u64(200..900);
        self.acts.push((soon(rng.u64(0..3000)), Act::Events(EventFault::Delay(soon(late)), Dose::Next(1))));
        self.acts.push((Duration::ZERO, Act::Create { pod, name: "job" }));
        self.acts.push((Duration::ZERO, Act::Events(EventFault::Drop, Dose::Next(1))));
        self.acts.push((Duration::ZERO, Act::Remove { pod, container }));
        let slow = [Method::PodSandboxStatus, Method::ContainerStatus][rng.usize(..2)];
        let slowness = CallFault::Late(soon(rng.u64(100..600)));
        self.acts.push((soon(late - rng.u64(1..100)), Act::Calls(slow, slowness, Dose::Next(2))));
        self.acts.push((Duration::ZERO, Act::Fresh { pod, by: By::Uid, ago_ms: 0 }));
    }

    /// A pod of which only lists can know is over when what they showed is read.
    fn glimpses(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some(pod) = sketch.runs(rng) else { return };
        let soon = |ms: u64| Duration::from_millis(ms);
        self.acts.push((soon(rng.u64(0..1000)), Act::Events(EventFault::Drop, Dose::Next(3))));
        let slow = [Method::PodSandboxStatus, Method::ListContainers][rng.usize(..2)];
        let slowness = CallFault::Late(soon(rng.u64(400..650)));
        self.acts.push((Duration::ZERO, Act::Calls(slow, slowness, Dose::Next(rng.u32(1..5)))));
        self.acts.push((Duration::ZERO, Act::RunPod { pod }));
        self.acts.push((soon(rng.u64(100..4000)), Act::SandboxDies { pod }));
    }

    /// A container ends, and a while later the runtime says that it was for want of memory.
    fn late_reason(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        // Of other runtimes it is not known, and so not looked for.
        let quirks = Quirks::of(self.profile.runtime_name, self.profile.runtime_version);
        let exits = if quirks.has(Quirk::LateOomReason) { sketch.exits(rng) } else { None };
        let Some((pod, container)) = exits else { return };
        let code = [0, 1, 137, 143][rng.usize(..4)];
        self.push(Act::Exit { pod, container, code }, rng);
        let later = Duration::from_millis(rng.u64(100..4000));
        self.acts.push((later, Act::SetReason { pod, container, reason: "OOMKilled" }));
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

fn any_dose(rng: &mut fastrand::Rng) -> Dose {
    match rng.u32(..6) {
        0 => Dose::Always,
        1..4 => Dose::Chance(0.05 + 0.5 * rng.f64()),
        _ => Dose::Next(rng.u32(1..4)),
    }
}

fn any_event_fault(rng: &mut fastrand::Rng) -> EventFault {
    let some = Duration::from_millis(rng.u64(1..400));
    match rng.u32(..14) {
        0..3 => EventFault::Drop,
        3 => EventFault::Duplicate,
        4 => EventFault::Delay(some),
        5 => EventFault::Delay(some * 20),
        6 => EventFault::Reorder,
        7 => EventFault::Replay,
        8 => EventFault::NilStatus,
        9 => EventFault::NoStatuses,
        10 => EventFault::OlderView,
        11 => EventFault::Stall(some),
        12 => EventFault::Garbage,
        _ => EventFault::Stamp(match rng.u32(..6) {
            0 => Stamp::Zero,
            1 => Stamp::Negative,
            2 => Stamp::Seconds,
            3 => Stamp::FarFuture,
            4 => Stamp::Off(-(some.as_nanos() as i64) * 100),
            _ => Stamp::Off(some.as_nanos() as i64 * 100),
        }),
    }
}

fn any_call_fault(rng: &mut fastrand::Rng) -> CallFault {
    // Never the deadline itself: which of both is first would be nobody's to say.
    let some = Duration::from_millis(rng.u64(1..650));
    match rng.u32(..6) {
        0 => CallFault::fail(Code::Unknown),
        1 => CallFault::fail(Code::Unavailable),
        2 => CallFault::Late(some),
        3 | 4 => CallFault::Overtaken(some),
        _ => CallFault::Garbage,
    }
}
