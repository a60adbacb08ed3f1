//! Sequences of acts for rules that acts drawn one by one hardly ever come to.

use std::time::Duration;

use plegd::{
    api::v1::Condition,
    sim::{CallFault, Dose, EventFault, Method, Stamp, truth::ContainerState},
};
use tonic::Code;

use super::{
    contradictions::Listed,
    plan::{Act, By, Plan},
    sketch::Sketch,
};

/// Kinds of sequences; a plan has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// STOPPED arrives just after DELETED.
    LateDeath,
    /// A status is read while the sandbox ends, and is answered after that.
    Overlap,
    /// The same, while a list is under way that began before the read.
    OverlapWithList,
    /// A pod changes while it is read, and is read again as of before that read has ended.
    Dated,
    /// An event says that a running container is deleted.
    FalseDeletion,
    /// A status shows a container as running again, and lists show it as ended.
    Reconsidered,
    /// The stream is lost just after a change was found that it had not reported.
    Suspects,
    /// Lists go on showing a container that is removed.
    Ghost,
    /// Lists are empty for a moment.
    EmptyLists,
    /// The relist period changes.
    Relists,
    /// Somebody waits for a condition.
    Waits,
    /// Many events come at once.
    Burst,
    /// Nothing happens for hours; then old events come again.
    Hours,
}

pub const SEQUENCES: [Sequence; 13] = [
    Sequence::LateDeath,
    Sequence::Overlap,
    Sequence::OverlapWithList,
    Sequence::Dated,
    Sequence::FalseDeletion,
    Sequence::Reconsidered,
    Sequence::Suspects,
    Sequence::Ghost,
    Sequence::EmptyLists,
    Sequence::Relists,
    Sequence::Waits,
    Sequence::Burst,
    Sequence::Hours,
];

// === impl Plan ===

impl Plan {
    /// Appends a sequence, if the sketch has what it takes.
    pub fn sequence(&mut self, sequence: Sequence, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        match sequence {
            Sequence::LateDeath => self.late_death(sketch, rng),
            Sequence::Overlap => self.overlap(sketch, rng, false),
            Sequence::OverlapWithList => self.overlap(sketch, rng, true),
            Sequence::Dated => self.dated(sketch, rng),
            Sequence::FalseDeletion => self.false_deletion(sketch, rng),
            Sequence::Reconsidered => self.reconsidered(sketch, rng),
            Sequence::Suspects => self.suspects(sketch, rng),
            Sequence::Ghost => self.ghost(sketch, rng),
            Sequence::EmptyLists => {
                self.after(rng.u64(500..4000), Act::Calm);
                self.after(0, Act::EmptyLists);
                self.after(0, Act::Cut { cleanly: rng.bool() });
                self.after(rng.u64(500..1500), Act::Calm);
            }
            Sequence::Relists => {
                let period_ms = [500, 1_000, 3_000, 15_000][rng.usize(..4)];
                let max_ms = period_ms * [1, 2, 8][rng.usize(..3)];
                self.push(Act::Relist { period_ms, max_ms }, rng);
            }
            Sequence::Waits => self.waits(sketch, rng),
            Sequence::Burst => self.burst(sketch, rng),
            Sequence::Hours => self.hours(sketch, rng),
        }
    }

    fn after(&mut self, ms: u64, act: Act) {
        self.acts.push((Duration::from_millis(ms), act));
    }

    fn late_death(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.dies(rng) else { return };
        let late = EventFault::Delay(Duration::from_millis(rng.u64(1..140)));
        self.after(rng.u64(500..3000), Act::Events(late, Dose::Next(1)));
        self.after(0, Act::Exit { pod, container, code: [0, 3][rng.usize(..2)] });
        self.after(0, Act::Remove { pod, container });
        self.after(rng.u64(200..1000), Act::Rest);
    }

    /// An annotation changes without an event. The next event shows it, and has the sandbox read.
    fn overlap(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng, with_list: bool) {
        let Some(pod) = sketch.any_ready(rng) else { return };
        let ms = Duration::from_millis;
        self.after(rng.u64(500..5000), Act::Annotate { pod, container: None });
        if with_list {
            self.after(0, Act::Cut { cleanly: true });
        }
        let overtaken = CallFault::Overtaken(ms(rng.u64(200..600)));
        self.after(rng.u64(5..30), Act::Calls(Method::PodSandboxStatus, overtaken, Dose::Next(1)));
        if with_list {
            let late = CallFault::Late(ms(rng.u64(60..180)));
            for method in [Method::ListPodSandbox, Method::StreamPodSandboxes] {
                self.after(0, Act::Calls(method, late.clone(), Dose::Next(1)));
            }
        }
        sketch.is_created(pod);
        self.after(rng.u64(0..300), Act::Create { pod, name: "job" });
        if !with_list {
            let early = Stamp::Off(-rng.i64(60..400) * 1_000_000);
            self.after(0, Act::Events(EventFault::Stamp(early), Dose::Next(1)));
        }
        sketch.sandbox_ends(pod);
        self.after(rng.u64(5..55), Act::SandboxDies { pod });
        self.after(rng.u64(500..1500), Act::Rest);
    }

    fn dated(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.any_running(rng) else { return };
        let overtaken = CallFault::Overtaken(Duration::from_millis(400));
        let calls = Act::Calls(Method::ContainerStatus, overtaken, Dose::Next(1));
        self.after(rng.u64(500..4000), calls);
        self.after(0, Act::Fresh { pod, by: By::Uid, ago_ms: 0 });
        self.after(rng.u64(20..150), Act::Annotate { pod, container: Some(container) });
        // The first read has ended by then, and began before the moment that is named.
        self.after(rng.u64(400..450), Act::Fresh { pod, by: By::Uid, ago_ms: rng.u64(160..300) });
        self.after(rng.u64(100..1000), Act::Rest);
    }

    fn false_deletion(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.any_running(rng) else { return };
        self.after(rng.u64(500..3000), Act::AnnounceDeleted { pod, container });
        let is_over = rng.u64(1000..4000);
        if rng.bool() && sketch.exits_of(pod, container) {
            self.after(is_over, Act::Exit { pod, container, code: 1 });
        } else {
            self.after(is_over, Act::Rest);
        }
    }

    fn reconsidered(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.exits(rng) else { return };
        let about = |fault, dose| Act::About { pod, container: Some(container), list: false, fault, dose };
        let ended = Listed::As(ContainerState::Exited);
        self.after(rng.u64(200..2000), Act::Exit { pod, container, code: 0 });
        self.after(rng.u64(5000..7000), Act::Crash);
        self.after(0, Act::Relapse { pod, container });
        self.after(0, Act::List { pod, container: Some(container), fault: ended, dose: Dose::Always });
        self.after(0, Act::Recover { in_ms: 0 });
        let late = CallFault::Late(Duration::from_millis(100));
        self.after(rng.u64(1500..4000), about(late, Dose::Next(1)));
        self.after(0, Act::Fresh { pod, by: By::Uid, ago_ms: 0 });
        self.after(50, about(CallFault::fail(Code::Internal), Dose::Next(rng.u32(2..8))));
        self.after(rng.u64(5000..12_000), Act::Calm);
        // If it ended again before a list has shown it, nothing would tell that end from the first one.
        self.after(rng.u64(12_000..15_000), Act::Rest);
    }

    fn suspects(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.exits(rng) else { return };
        self.after(rng.u64(500..6000), Act::Events(EventFault::Drop, Dose::Next(1)));
        self.after(0, Act::Exit { pod, container, code: 1 });
        self.after(rng.u64(0..200), Act::Fresh { pod, by: By::Uid, ago_ms: 0 });
        self.after(rng.u64(300..1400), Act::Cut { cleanly: rng.bool() });
        self.after(rng.u64(2000..3000), Act::Rest);
    }

    fn ghost(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some((pod, container)) = sketch.dies(rng) else { return };
        let late = CallFault::Late(Duration::from_millis(rng.u64(510..650)));
        let about =
            Act::About { pod, container: Some(container), list: false, fault: late, dose: Dose::Next(4) };
        self.after(rng.u64(500..3000), Act::FreezeLists);
        self.after(0, Act::Remove { pod, container });
        self.after(rng.u64(60..200), about);
        self.after(rng.u64(1000..11_000), Act::Calm);
    }

    fn waits(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        for _ in 0..rng.u32(1..4) {
            let of_container = [
                Condition::ContainerRunning,
                Condition::ContainerExited,
                Condition::ContainerExited,
                Condition::ContainerGone,
            ];
            let of_pod = [Condition::SandboxReady, Condition::PodGone];
            let (pod, container, condition) = match (rng.u32(..3), sketch.any_container(rng)) {
                (1.., Some((pod, container))) => (pod, Some(container), of_container[rng.usize(..4)]),
                _ => (rng.usize(..sketch.slots()), None, of_pod[rng.usize(..2)]),
            };
            self.push(Act::Wait { pod, container, condition }, rng);
        }
    }

    fn burst(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        let Some(pod) = sketch.any_ready(rng) else { return };
        self.after(rng.u64(500..3000), Act::Rest);
        // What an event shows of this one beside its end is cut off if too many wait before it.
        let mut ends = sketch.exits(rng);
        if let Some((pod, container)) = ends {
            self.after(0, Act::Annotate { pod, container: Some(container) });
        }
        for _ in 0..rng.u32(2..6) {
            if rng.u32(..3) == 0
                && let Some((pod, container)) = ends.take()
            {
                self.after(0, Act::Exit { pod, container, code: 1 });
            }
            let container = sketch.is_created(pod);
            self.after(0, Act::Create { pod, name: "job" });
            match rng.u32(..4) {
                0 => {}
                1 => {
                    sketch.is_started(pod, container);
                    self.after(0, Act::Start { pod, container });
                }
                _ => {
                    self.after(0, Act::Start { pod, container });
                    self.after(0, Act::Exit { pod, container, code: rng.i32(0..3) });
                    sketch.is_started(pod, container);
                    sketch.exits_of(pod, container);
                }
            }
        }
        if let Some((pod, container)) = ends {
            self.after(0, Act::Exit { pod, container, code: 1 });
        }
        self.after(rng.u64(100..3000), Act::Rest);
    }

    fn hours(&mut self, sketch: &mut Sketch, rng: &mut fastrand::Rng) {
        // A stamp that a step of the clock has put into the future does not say that it is old.
        if self.has(|act| matches!(act, Act::Hours(_) | Act::StepClock { .. })) {
            return;
        }
        self.after(rng.u64(100..1000), Act::Calm);
        self.after(rng.u64(3000..9000), Act::Hours(rng.u64(5..9)));
        self.after(rng.u64(0..3000), Act::Events(EventFault::Replay, Dose::Next(rng.u32(16..64))));
        for _ in 0..rng.u32(8..20) {
            let act = sketch.next(rng);
            self.push(act, rng);
        }
    }
}
