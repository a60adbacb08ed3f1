//! What goes wrong: from a kind of trouble to acts.

use std::time::Duration;

use plegd::{
    cri::quirks::{Quirk, Quirks},
    sim::{CallFault, Dose, EventFault, Method, ResetReason, Stamp, truth::ContainerState},
};
use tonic::Code;

use super::{
    contradictions::Listed,
    plan::{Act, By, Plan},
    sketch::Sketch,
};

/// Kinds of trouble; a plan has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
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
    Statuses,
    Lists,
    Subscriptions,
}

pub const TROUBLES: [Trouble; 19] = [
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
    Trouble::Statuses,
    Trouble::Lists,
    Trouble::Subscriptions,
];

const READS: [Method; 7] = [
    Method::ListPodSandbox,
    Method::ListContainers,
    Method::StreamPodSandboxes,
    Method::StreamContainers,
    Method::PodSandboxStatus,
    Method::ContainerStatus,
    Method::Version,
];

/// In milliseconds.
const DAY: i64 = 86_400_000;

// === impl Plan ===

impl Plan {
    /// Something goes wrong from now on, or just now; what does not pass by itself ends at some later time.
    pub fn trouble(&mut self, trouble: Trouble, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        match trouble {
            Trouble::Stream => {
                for _ in 0..rng.u32(1..4) {
                    let (fault, dose) = (any_event_fault(rng), any_dose(rng));
                    self.push(Act::Events(fault, dose), rng);
                }
            }
            Trouble::Calls => {
                let (method, dose) = (READS[rng.usize(..READS.len())], any_dose(rng));
                let of_status = matches!(method, Method::PodSandboxStatus | Method::ContainerStatus);
                let empty = of_status && rng.u32(..6) == 0;
                let fault = if empty { CallFault::Empty } else { any_call_fault(rng) };
                self.push(Act::Calls(method, fault, dose), rng);
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
            Trouble::Statuses => {
                let Some((pod, container)) = any_object(sketch, rng) else { return };
                let list = rng.u32(..4) == 0;
                let fault = any_fault_about(list, rng);
                let dose = if rng.bool() { Dose::Always } else { Dose::Next(rng.u32(1..8)) };
                self.push(Act::About { pod, container, list, fault, dose }, rng);
            }
            Trouble::Lists => {
                let Some((pod, container)) = any_object(sketch, rng) else { return };
                let fault = any_listed(container.is_some(), rng);
                let dose = if rng.bool() { Dose::Always } else { Dose::Next(rng.u32(1..4)) };
                self.push(Act::List { pod, container, fault, dose }, rng);
            }
            Trouble::Subscriptions => {
                let fault = match rng.u32(..4) {
                    0 => CallFault::Empty,
                    1 => CallFault::fail([Code::Unimplemented, Code::Internal][rng.usize(..2)]),
                    _ => any_call_fault(rng),
                };
                let dose = Dose::Next(rng.u32(1..4));
                self.push(Act::Calls(Method::GetContainerEvents, fault, dose), rng);
                self.push(Act::Cut { cleanly: rng.bool() }, rng);
            }
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
}

/// A container that is there, or without one a sandbox.
fn any_object(sketch: &Sketch, rng: &mut fastrand::Rng) -> Option<(usize, Option<usize>)> {
    match (rng.u32(..3), sketch.any_container(rng)) {
        (0, _) => Some((rng.usize(..sketch.slots()), None)),
        (_, container) => container.map(|(pod, container)| (pod, Some(container))),
    }
}

/// What is wrong with the calls about one id. A list of it alone is never wrongly empty: two lists are believed.
fn any_fault_about(list: bool, rng: &mut fastrand::Rng) -> CallFault {
    let codes = [Code::NotFound, Code::Unknown, Code::Unavailable, Code::Internal];
    match rng.u32(..8) {
        0 if !list => CallFault::Empty,
        0 | 1 => CallFault::Garbage,
        2 => CallFault::Late(Duration::from_millis(rng.u64(1..650))),
        3 | 4 if !list => CallFault::fail(Code::NotFound),
        _ => CallFault::fail(codes[rng.usize(..4)]),
    }
}

fn any_listed(of_containers: bool, rng: &mut fastrand::Rng) -> Listed {
    let states =
        [ContainerState::Created, ContainerState::Running, ContainerState::Exited, ContainerState::Unknown];
    let reasons = [ResetReason::InternalError, ResetReason::Cancel, ResetReason::NoError];
    match rng.u32(..8) {
        0 => Listed::Twice,
        1 | 2 => Listed::LeftOut,
        3 => Listed::Truncated(rng.usize(..4)),
        4 => Listed::Nothing,
        5 => Listed::Reset(rng.usize(..3), reasons[rng.usize(..3)]),
        6 if of_containers => Listed::Elsewhere,
        _ => Listed::As(states[rng.usize(..4)]),
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
