//! The part of the time that listing may take.
//!
//! A list of thousands of new pods costs plegd and the runtime 1 s, and the reads that follow take 10 s. Another list meanwhile finds the
//! same pods again and delays the reads. So lists take at most a tenth of the time while reads are pending. Lists requested by events
//! that name no pod may be as frequent as these events. They take at most half of the time. Pure: times are arguments.

use std::time::Duration;

use crate::clock::Mono;

/// While reads are pending, listing takes at most 1/10 of the time.
const PARTS_WHILE_READING: u32 = 10;
/// Otherwise, lists requested by events take at most 1/2 of the time.
const PARTS_ON_REQUEST: u32 = 2;

/// The state of the last relists.
#[derive(Debug, Default)]
pub(super) struct RelistDutyCycle {
    /// Relists with pending reads.
    reading: usize,
    /// When the last lists had been compared, and how long listing and comparing took.
    last: Option<(Mono, Duration)>,
}

// === impl RelistDutyCycle ===

impl RelistDutyCycle {
    /// Lists that began at `began` have been compared, and their reads begin.
    pub(super) fn listed(&mut self, began: Mono, now: Mono) {
        self.reading += 1;
        self.last = Some((now, now.since(began)));
    }

    /// All reads of a relist are done.
    pub(super) fn reads_done(&mut self) {
        self.reading = self.reading.saturating_sub(1);
    }

    /// How much longer a relist has to wait that is due, or that was `requested` by an event.
    pub(super) fn required_pause(&self, requested: bool, now: Mono) -> Option<Duration> {
        let (listed, took) = self.last?;
        let parts = match (self.reading > 0, requested) {
            (true, _) => PARTS_WHILE_READING,
            (false, true) => PARTS_ON_REQUEST,
            (false, false) => return None,
        };
        let pause = ((parts - 1) * took).saturating_sub(now.since(listed));
        (!pause.is_zero()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn lists_take_a_tenth_of_the_time_while_reads_are_pending() {
        let mut cycle = RelistDutyCycle::default();
        assert_eq!(cycle.required_pause(false, at(0)), None);
        cycle.listed(at(1000), at(1500));
        assert_eq!(cycle.required_pause(false, at(1500)), Some(Duration::from_millis(4500)));
        assert_eq!(cycle.required_pause(false, at(5999)), Some(Duration::from_millis(1)));
        assert_eq!(cycle.required_pause(false, at(6000)), None, "a read that hangs does not stop relists");
        cycle.listed(at(6000), at(6010));
        cycle.reads_done();
        assert_eq!(cycle.required_pause(false, at(6020)), Some(Duration::from_millis(80)), "one of two");
        cycle.reads_done();
        assert_eq!(cycle.required_pause(false, at(6020)), None, "no reads are pending");
    }

    #[test]
    fn requested_lists_take_half_of_the_time() {
        let mut cycle = RelistDutyCycle::default();
        assert_eq!(cycle.required_pause(true, at(0)), None);
        cycle.listed(at(1000), at(1500));
        assert_eq!(
            cycle.required_pause(true, at(1500)),
            Some(Duration::from_millis(4500)),
            "no more than others while reads are pending"
        );
        cycle.reads_done();
        assert_eq!(cycle.required_pause(true, at(1600)), Some(Duration::from_millis(400)));
        assert_eq!(cycle.required_pause(true, at(2000)), None);
    }
}
