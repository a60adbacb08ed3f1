//! Faults: converts a kind of fault to actions.

use std::time::Duration;

use plegd::{
    cri::quirks::{Quirk, Quirks},
    sim::{CallFault, Dose, EventFault, Method, ResetReason, Stamp, truth::ContainerState},
};
use tonic::Code;

use super::{
    contradictions::Listed,
    expected::ExpectedPods,
    plan::{Action, By, Ending, Plan},
};

/// Kinds of faults; a plan has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Stream,
    Calls,
    Hangs,
    Outages,
    Cuts,
    Freezes,
    Clock,
    OtherSubscriber,
    Restarts,
    RepeatedEvents,
    ClockStepAfterEvent,
    LateEventOfRemoved,
    ListedOnly,
    Stamps,
    SilentChanges,
    LateReasons,
    Statuses,
    Lists,
    Subscriptions,
}

pub const FAULT_KINDS: [FaultKind; 19] = [
    FaultKind::Stream,
    FaultKind::Calls,
    FaultKind::Hangs,
    FaultKind::Outages,
    FaultKind::Cuts,
    FaultKind::Freezes,
    FaultKind::Clock,
    FaultKind::OtherSubscriber,
    FaultKind::Restarts,
    FaultKind::RepeatedEvents,
    FaultKind::ClockStepAfterEvent,
    FaultKind::LateEventOfRemoved,
    FaultKind::ListedOnly,
    FaultKind::Stamps,
    FaultKind::SilentChanges,
    FaultKind::LateReasons,
    FaultKind::Statuses,
    FaultKind::Lists,
    FaultKind::Subscriptions,
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
    /// Appends a fault. A lasting fault ends at some later time.
    pub fn add_fault(&mut self, kind: FaultKind, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        match kind {
            FaultKind::Stream => {
                for _ in 0..rng.u32(1..4) {
                    let (fault, dose) = (any_event_fault(rng), any_dose(rng));
                    self.push(Action::Events(fault, dose), rng);
                }
            }
            FaultKind::Calls => {
                let (method, dose) = (READS[rng.usize(..READS.len())], any_dose(rng));
                let of_status = matches!(method, Method::PodSandboxStatus | Method::ContainerStatus);
                let empty = of_status && rng.u32(..6) == 0;
                let fault = if empty { CallFault::Empty } else { any_call_fault(rng) };
                self.push(Action::Calls(method, fault, dose), rng);
            }
            FaultKind::Hangs => {
                let action = match (rng.u32(..3), expected.any_container(rng)) {
                    (0, Some((pod, container))) => Action::HangContainer { pod, container },
                    (1, _) => Action::HangPod { pod: rng.usize(..expected.slots()) },
                    _ => Action::HangMethod(READS[rng.usize(..READS.len())]),
                };
                self.push(action, rng);
            }
            FaultKind::Outages => {
                self.push(Action::Crash, rng);
                for _ in 0..rng.u32(..4) {
                    let action = expected.after_outage(rng);
                    self.push(action, rng);
                }
                let in_ms = if rng.bool() { 0 } else { rng.u64(..3000) };
                self.push(Action::Recover { in_ms }, rng);
            }
            FaultKind::Cuts => self.push(Action::Cut { cleanly: rng.bool() }, rng),
            FaultKind::Freezes => {
                self.push(Action::Freeze, rng);
                for _ in 0..rng.u32(..5) {
                    let action = expected.next_action(rng);
                    self.push(action, rng);
                }
                self.push(Action::Unfreeze, rng);
            }
            FaultKind::Clock => {
                let by = match rng.u32(..3) {
                    0 => [1_000, 40_000, 3_600_000, DAY, 400 * DAY, 3650 * DAY][rng.usize(..6)],
                    _ => rng.i64(1..=100),
                };
                self.push(Action::StepClock { millis: if rng.bool() { by } else { -by } }, rng);
            }
            FaultKind::OtherSubscriber => {
                self.push(if rng.bool() { Action::OtherSubscribes } else { Action::OtherLeaves }, rng);
            }
            FaultKind::Restarts => {
                let (meanwhile, after_ms) = (Vec::new(), rng.u64(1..3000));
                self.push(Action::RestartPlegd { meanwhile, after_ms, how: Ending::Stop }, rng)
            }
            FaultKind::RepeatedEvents => self.repeated_events(expected, rng),
            FaultKind::ClockStepAfterEvent => self.clock_step_after_event(expected, rng),
            FaultKind::LateEventOfRemoved => self.late_event_of_removed(expected, rng),
            FaultKind::ListedOnly => self.listed_only(expected, rng),
            FaultKind::Stamps => {
                let off = EventFault::Stamp(Stamp::Off(rng.i64(-100..=100) * 1_000_000));
                let dose = if rng.bool() { Dose::Always } else { Dose::Chance(0.5) };
                self.push(Action::Events(off, dose), rng);
            }
            FaultKind::SilentChanges => {
                let action = expected.silent_change(rng);
                self.push(action, rng);
            }
            FaultKind::LateReasons => self.late_reason(expected, rng),
            FaultKind::Statuses => {
                let Some((pod, container)) = any_object(expected, rng) else { return };
                let list = rng.u32(..4) == 0;
                let fault = any_fault_about(list, rng);
                let dose = if rng.bool() { Dose::Always } else { Dose::Next(rng.u32(1..8)) };
                self.push(Action::About { pod, container, list, fault, dose }, rng);
            }
            FaultKind::Lists => {
                let Some((pod, container)) = any_object(expected, rng) else { return };
                let fault = any_listed(container.is_some(), rng);
                let dose = if rng.bool() { Dose::Always } else { Dose::Next(rng.u32(1..4)) };
                self.push(Action::List { pod, container, fault, dose }, rng);
            }
            FaultKind::Subscriptions => {
                let fault = match rng.u32(..4) {
                    0 => CallFault::Empty,
                    1 => CallFault::fail([Code::Unimplemented, Code::Internal][rng.usize(..2)]),
                    _ => any_call_fault(rng),
                };
                let dose = Dose::Next(rng.u32(1..4));
                self.push(Action::Calls(Method::GetContainerEvents, fault, dose), rng);
                self.push(Action::Cut { cleanly: rng.bool() }, rng);
            }
        }
        if rng.u32(..3) == 0 {
            self.push(Action::EndFaults, rng);
        }
    }

    /// An event is sent, then the state changes without an event, or the event turns out to be wrong. After plegd has detected
    /// it, old events are repeated, some with timestamps that do not show their age.
    fn repeated_events(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.any_running(rng) else { return };
        let (published, undone) = match rng.u32(..4) {
            0 | 1 => (Action::Oom { pod, container, code: 137 }, None),
            2 => (Action::SandboxDies { pod }, Some(Action::LoadPod { pod })),
            _ => (Action::Exit { pod, container, code: 1 }, Some(Action::Relapse { pod, container })),
        };
        if rng.u32(..4) > 0 {
            self.push(Action::Events(EventFault::Stamp(Stamp::Zero), Dose::Next(rng.u32(1..4))), rng);
        }
        self.push(published, rng);
        if let Some(undone) = undone {
            [Action::Crash, undone, Action::Recover { in_ms: 0 }]
                .into_iter()
                .for_each(|action| self.push(action, rng));
        }
        let found_out = Duration::from_millis(rng.u64(3_000..12_000));
        self.actions.push((found_out, Action::Events(EventFault::Replay, Dose::Next(rng.u32(16..64)))));
        for _ in 0..rng.u32(6..20) {
            let action = expected.next_action(rng);
            self.push(action, rng);
        }
    }

    /// A change gets its timestamp just before a step of the wall clock, and its event arrives just after it. No relist finds a
    /// trace of it.
    fn clock_step_after_event(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.any_container(rng) else { return };
        let ms = |ms: u64| Duration::from_millis(ms);
        let happens = match rng.u32(..3) {
            0 => Action::Exit { pod, container, code: 137 },
            _ => Action::Start { pod, container },
        };
        let by = [40_000, 3_600_000, DAY, 400 * DAY][rng.usize(..4)];
        self.actions.push((ms(rng.u64(0..3000)), Action::Events(EventFault::Delay(ms(30)), Dose::Next(1))));
        self.actions.push((Duration::ZERO, happens));
        self.actions.push((ms(rng.u64(1..20)), Action::StepClock { millis: by }));
        self.actions.push((ms(rng.u64(30..500)), Action::Events(EventFault::Drop, Dose::Next(2))));
        self.actions.push((Duration::ZERO, Action::Remove { pod, container }));
    }

    /// A container is created and removed between two lists, and its late event arrives during a fresh read.
    fn late_event_of_removed(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.create_and_remove(rng) else { return };
        let ms = |ms: u64| Duration::from_millis(ms);
        let late = rng.u64(200..900);
        self.actions.push((ms(rng.u64(0..3000)), Action::Events(EventFault::Delay(ms(late)), Dose::Next(1))));
        self.actions.push((Duration::ZERO, Action::Create { pod, name: "job" }));
        self.actions.push((Duration::ZERO, Action::Events(EventFault::Drop, Dose::Next(1))));
        self.actions.push((Duration::ZERO, Action::Remove { pod, container }));
        let slow = [Method::PodSandboxStatus, Method::ContainerStatus][rng.usize(..2)];
        let slowness = CallFault::Late(ms(rng.u64(100..600)));
        self.actions.push((ms(late - rng.u64(1..100)), Action::Calls(slow, slowness, Dose::Next(2))));
        self.actions.push((Duration::ZERO, Action::Fresh { pod, by: By::Uid, ago_ms: 0 }));
    }

    /// A pod without events ends while the listed state is read.
    fn listed_only(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some(pod) = expected.run_and_end(rng) else { return };
        let ms = |ms: u64| Duration::from_millis(ms);
        self.actions.push((ms(rng.u64(0..1000)), Action::Events(EventFault::Drop, Dose::Next(3))));
        let slow = [Method::PodSandboxStatus, Method::ListContainers][rng.usize(..2)];
        let slowness = CallFault::Late(ms(rng.u64(400..650)));
        self.actions.push((Duration::ZERO, Action::Calls(slow, slowness, Dose::Next(rng.u32(1..5)))));
        self.actions.push((Duration::ZERO, Action::RunPod { pod }));
        self.actions.push((ms(rng.u64(100..4000)), Action::SandboxDies { pod }));
    }

    /// A container ends, and later its reason becomes OOMKilled.
    fn late_reason(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        // plegd re-checks the reason on runtimes with this quirk only.
        let quirks = Quirks::of(self.profile.runtime_name, self.profile.runtime_version);
        let exits = if quirks.has(Quirk::LateOomReason) { expected.exit(rng) } else { None };
        let Some((pod, container)) = exits else { return };
        let code = [0, 1, 137, 143][rng.usize(..4)];
        self.push(Action::Exit { pod, container, code }, rng);
        let later = Duration::from_millis(rng.u64(100..4000));
        self.actions.push((later, Action::SetReason { pod, container, reason: "OOMKilled" }));
    }
}

/// An existing container, or a sandbox.
fn any_object(expected: &ExpectedPods, rng: &mut fastrand::Rng) -> Option<(usize, Option<usize>)> {
    match (rng.u32(..3), expected.any_container(rng)) {
        (0, _) => Some((rng.usize(..expected.slots()), None)),
        (_, container) => container.map(|(pod, container)| (pod, Some(container))),
    }
}

/// A fault of calls about one id. A filtered list is never wrongly empty: plegd believes two lists.
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
    // Never the deadline itself: the order of both would be random.
    let some = Duration::from_millis(rng.u64(1..650));
    match rng.u32(..6) {
        0 => CallFault::fail(Code::Unknown),
        1 => CallFault::fail(Code::Unavailable),
        2 => CallFault::Late(some),
        3 | 4 => CallFault::Overtaken(some),
        _ => CallFault::Garbage,
    }
}
