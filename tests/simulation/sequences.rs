//! Sequences of actions for rules that random actions rarely reach.

use std::time::Duration;

use plegd::{
    api::v1::Condition,
    sim::{CallFault, Dose, EventFault, Method, Stamp, truth::ContainerState},
};
use tonic::Code;

use super::{
    contradictions::Listed,
    expected::ExpectedPods,
    plan::{Action, By, Plan},
};

/// The sequences; a plan has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// STOPPED arrives just after DELETED.
    LateDeath,
    /// A status read overlaps the end of the sandbox, and its response comes after it.
    Overlap,
    /// The same, during a list that began before the read.
    OverlapWithList,
    /// A pod changes during a read, and the next read requests a state before the end of the first one.
    OverlappingReads,
    /// DELETED is sent for a running container.
    FalseDeletion,
    /// A status shows an exited container as running again, while lists show it as exited.
    WithdrawnCorrection,
    /// The stream is lost just after a relist found a change that the stream had not reported.
    LostWhileUnconfirmed,
    /// Lists keep showing a removed container.
    StaleLists,
    /// Lists are empty for 0.5 to 1.5 s.
    EmptyLists,
    /// The relist period changes.
    Relists,
    /// `WaitFor` calls.
    Waits,
    /// Many events at once.
    Burst,
    /// Hours without a change; then old events are repeated.
    Hours,
}

pub const SEQUENCES: [Sequence; 13] = [
    Sequence::LateDeath,
    Sequence::Overlap,
    Sequence::OverlapWithList,
    Sequence::OverlappingReads,
    Sequence::FalseDeletion,
    Sequence::WithdrawnCorrection,
    Sequence::LostWhileUnconfirmed,
    Sequence::StaleLists,
    Sequence::EmptyLists,
    Sequence::Relists,
    Sequence::Waits,
    Sequence::Burst,
    Sequence::Hours,
];

// === impl Plan ===

impl Plan {
    /// Appends a sequence, if the expected pods allow it.
    pub fn add_sequence(&mut self, sequence: Sequence, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        match sequence {
            Sequence::LateDeath => self.late_death(expected, rng),
            Sequence::Overlap => self.overlap(expected, rng, false),
            Sequence::OverlapWithList => self.overlap(expected, rng, true),
            Sequence::OverlappingReads => self.overlapping_reads(expected, rng),
            Sequence::FalseDeletion => self.false_deletion(expected, rng),
            Sequence::WithdrawnCorrection => self.withdrawn_correction(expected, rng),
            Sequence::LostWhileUnconfirmed => self.lost_while_unconfirmed(expected, rng),
            Sequence::StaleLists => self.stale_lists(expected, rng),
            Sequence::EmptyLists => {
                self.after(rng.u64(500..4000), Action::EndFaults);
                self.after(0, Action::EmptyLists);
                self.after(0, Action::Cut { cleanly: rng.bool() });
                self.after(rng.u64(500..1500), Action::EndFaults);
            }
            Sequence::Relists => {
                let period_ms = [500, 1_000, 3_000, 15_000][rng.usize(..4)];
                let max_ms = period_ms * [1, 2, 8][rng.usize(..3)];
                self.push(Action::Relist { period_ms, max_ms }, rng);
            }
            Sequence::Waits => self.waits(expected, rng),
            Sequence::Burst => self.burst(expected, rng),
            Sequence::Hours => self.hours(expected, rng),
        }
    }

    fn after(&mut self, ms: u64, action: Action) {
        self.actions.push((Duration::from_millis(ms), action));
    }

    fn late_death(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.exit_and_remove(rng) else { return };
        let late = EventFault::Delay(Duration::from_millis(rng.u64(1..140)));
        self.after(rng.u64(500..3000), Action::Events(late, Dose::Next(1)));
        self.after(0, Action::Exit { pod, container, code: [0, 3][rng.usize(..2)] });
        self.after(0, Action::Remove { pod, container });
        self.after(rng.u64(200..1000), Action::Pause);
    }

    /// An annotation changes without an event. The next event shows it and causes a read of the sandbox.
    fn overlap(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng, with_list: bool) {
        let Some(pod) = expected.any_ready(rng) else { return };
        let ms = Duration::from_millis;
        self.after(rng.u64(500..5000), Action::Annotate { pod, container: None });
        if with_list {
            self.after(0, Action::Cut { cleanly: true });
        }
        let overtaken = CallFault::Overtaken(ms(rng.u64(200..600)));
        self.after(rng.u64(5..30), Action::Calls(Method::PodSandboxStatus, overtaken, Dose::Next(1)));
        if with_list {
            let late = CallFault::Late(ms(rng.u64(60..180)));
            for method in [Method::ListPodSandbox, Method::StreamPodSandboxes] {
                self.after(0, Action::Calls(method, late.clone(), Dose::Next(1)));
            }
        }
        expected.create_in(pod);
        self.after(rng.u64(0..300), Action::Create { pod, name: "job" });
        if !with_list {
            let early = Stamp::Off(-rng.i64(60..400) * 1_000_000);
            self.after(0, Action::Events(EventFault::Stamp(early), Dose::Next(1)));
        }
        expected.end_sandbox(pod);
        self.after(rng.u64(5..55), Action::SandboxDies { pod });
        self.after(rng.u64(500..1500), Action::Pause);
    }

    fn overlapping_reads(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.any_running(rng) else { return };
        let overtaken = CallFault::Overtaken(Duration::from_millis(400));
        let calls = Action::Calls(Method::ContainerStatus, overtaken, Dose::Next(1));
        self.after(rng.u64(500..4000), calls);
        self.after(0, Action::Fresh { pod, by: By::Uid, ago_ms: 0 });
        self.after(rng.u64(20..150), Action::Annotate { pod, container: Some(container) });
        // The first read has ended by then, and began before the requested moment.
        self.after(rng.u64(400..450), Action::Fresh { pod, by: By::Uid, ago_ms: rng.u64(160..300) });
        self.after(rng.u64(100..1000), Action::Pause);
    }

    fn false_deletion(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.any_running(rng) else { return };
        self.after(rng.u64(500..3000), Action::AnnounceDeleted { pod, container });
        let is_over = rng.u64(1000..4000);
        if rng.bool() && expected.exit_of(pod, container) {
            self.after(is_over, Action::Exit { pod, container, code: 1 });
        } else {
            self.after(is_over, Action::Pause);
        }
    }

    fn withdrawn_correction(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.exit(rng) else { return };
        let about = |fault, dose| Action::About { pod, container: Some(container), list: false, fault, dose };
        let ended = Listed::As(ContainerState::Exited);
        self.after(rng.u64(200..2000), Action::Exit { pod, container, code: 0 });
        self.after(rng.u64(5000..7000), Action::Crash);
        self.after(0, Action::Relapse { pod, container });
        self.after(0, Action::List { pod, container: Some(container), fault: ended, dose: Dose::Always });
        self.after(0, Action::Recover { in_ms: 0 });
        let late = CallFault::Late(Duration::from_millis(100));
        self.after(rng.u64(1500..4000), about(late, Dose::Next(1)));
        self.after(0, Action::Fresh { pod, by: By::Uid, ago_ms: 0 });
        self.after(50, about(CallFault::fail(Code::Internal), Dose::Next(rng.u32(2..8))));
        self.after(rng.u64(5000..12_000), Action::EndFaults);
        // If it ended again before a list has shown it running, the second end could not be distinguished from the first.
        self.after(rng.u64(12_000..15_000), Action::Pause);
    }

    fn lost_while_unconfirmed(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.exit(rng) else { return };
        self.after(rng.u64(500..6000), Action::Events(EventFault::Drop, Dose::Next(1)));
        self.after(0, Action::Exit { pod, container, code: 1 });
        self.after(rng.u64(0..200), Action::Fresh { pod, by: By::Uid, ago_ms: 0 });
        self.after(rng.u64(300..1400), Action::Cut { cleanly: rng.bool() });
        self.after(rng.u64(2000..3000), Action::Pause);
    }

    fn stale_lists(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = expected.exit_and_remove(rng) else { return };
        let late = CallFault::Late(Duration::from_millis(rng.u64(510..650)));
        let about =
            Action::About { pod, container: Some(container), list: false, fault: late, dose: Dose::Next(4) };
        self.after(rng.u64(500..3000), Action::FreezeLists);
        self.after(0, Action::Remove { pod, container });
        self.after(rng.u64(60..200), about);
        self.after(rng.u64(1000..11_000), Action::EndFaults);
    }

    fn waits(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        for _ in 0..rng.u32(1..4) {
            let of_container = [
                Condition::ContainerRunning,
                Condition::ContainerExited,
                Condition::ContainerExited,
                Condition::ContainerGone,
            ];
            let of_pod = [Condition::SandboxReady, Condition::PodGone];
            let (pod, container, condition) = match (rng.u32(..3), expected.any_container(rng)) {
                (1.., Some((pod, container))) => (pod, Some(container), of_container[rng.usize(..4)]),
                _ => (rng.usize(..expected.slots()), None, of_pod[rng.usize(..2)]),
            };
            self.push(Action::Wait { pod, container, condition }, rng);
        }
    }

    fn burst(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        let Some(pod) = expected.any_ready(rng) else { return };
        self.after(rng.u64(500..3000), Action::Pause);
        // The queue strips the payload of this event if too many events wait before it.
        let mut ends = expected.exit(rng);
        if let Some((pod, container)) = ends {
            self.after(0, Action::Annotate { pod, container: Some(container) });
        }
        for _ in 0..rng.u32(2..6) {
            if rng.u32(..3) == 0
                && let Some((pod, container)) = ends.take()
            {
                self.after(0, Action::Exit { pod, container, code: 1 });
            }
            let container = expected.create_in(pod);
            self.after(0, Action::Create { pod, name: "job" });
            match rng.u32(..4) {
                0 => {}
                1 => {
                    expected.start(pod, container);
                    self.after(0, Action::Start { pod, container });
                }
                _ => {
                    self.after(0, Action::Start { pod, container });
                    self.after(0, Action::Exit { pod, container, code: rng.i32(0..3) });
                    expected.start(pod, container);
                    expected.exit_of(pod, container);
                }
            }
        }
        if let Some((pod, container)) = ends {
            self.after(0, Action::Exit { pod, container, code: 1 });
        }
        self.after(rng.u64(100..3000), Action::Pause);
    }

    fn hours(&mut self, expected: &mut ExpectedPods, rng: &mut fastrand::Rng) {
        // A timestamp in the future, after a clock step, does not show that an event is old.
        if self.has(|action| matches!(action, Action::Hours(_) | Action::StepClock { .. })) {
            return;
        }
        self.after(rng.u64(100..1000), Action::EndFaults);
        self.after(rng.u64(3000..9000), Action::Hours(rng.u64(5..9)));
        self.after(rng.u64(0..3000), Action::Events(EventFault::Replay, Dose::Next(rng.u32(16..64))));
        for _ in 0..rng.u32(8..20) {
            let action = expected.next_action(rng);
            self.push(action, rng);
        }
    }
}
