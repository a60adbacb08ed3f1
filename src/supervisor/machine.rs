//! The mode machine: derives mode and relist period. Pure.
//!
//! | mode | when | relist period |
//! | --- | --- | --- |
//! | polling | the stream is down, or the runtime has none | the shortest |
//! | probing | the stream is up and not yet trusted, or relists fail and nothing checks the stream | doubles with every relist that finds no missed event |
//! | evented | the stream missed no event up to the longest period | the longest |

use std::time::Duration;

use crate::model::Mode;

/// The mode and its period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    mode: Mode,
    period: Duration,
    shortest: Duration,
    longest: Duration,
}

/// An input of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The stream is up.
    StreamUp,
    /// The stream is down.
    StreamLost,
    /// A periodic relist is complete.
    Relisted {
        /// Whether it found a change that the stream has not reported, and may still report within its grace period.
        unconfirmed: bool,
    },
    /// The stream has missed an event.
    Missed,
    /// Consecutive relists have failed: nothing checks the stream.
    Unchecked,
    /// The bounds of the period have changed, with the runtime or the configuration.
    Bounds {
        /// The shortest.
        shortest: Duration,
        /// The longest.
        longest: Duration,
    },
}

// === impl Machine ===

impl Machine {
    /// A machine in polling mode, with periods from `shortest` to `longest`.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        let longest = longest.max(shortest);
        Self { mode: Mode::Polling, period: shortest, shortest, longest }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Time between relists.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The machine after an input.
    pub fn step(self, input: Input) -> Self {
        let probe = Self { mode: Mode::Probing, period: self.shortest, ..self };
        match (input, self.mode) {
            (Input::StreamLost, _) => Self { mode: Mode::Polling, ..probe },
            (Input::StreamUp, _) => probe.trusted(),
            (Input::Missed | Input::Unchecked, Mode::Probing | Mode::Evented) => probe.trusted(),
            (Input::Relisted { unconfirmed: false }, Mode::Probing) => {
                Self { period: (self.period * 2).min(self.longest), ..self }.trusted()
            }
            (Input::Bounds { shortest, longest }, mode) => {
                let longest = longest.max(shortest);
                let period =
                    if mode == Mode::Polling { shortest } else { self.period.clamp(shortest, longest) };
                let mode = if mode == Mode::Evented { Mode::Probing } else { mode };
                Self { mode, period, shortest, longest }.trusted()
            }
            (Input::Missed | Input::Unchecked | Input::Relisted { .. }, _) => self,
        }
    }

    /// Evented, if the period has reached the longest one.
    fn trusted(self) -> Self {
        let trusted =
            self.mode == Mode::Probing && self.period >= self.longest && self.longest > self.shortest;
        Self { mode: if trusted { Mode::Evented } else { self.mode }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Input = Input::Relisted { unconfirmed: false };
    const UNCONFIRMED: Input = Input::Relisted { unconfirmed: true };

    fn seconds(machine: &Machine) -> u64 {
        machine.period().as_secs()
    }

    fn bounds(shortest: u64, longest: u64) -> Input {
        Input::Bounds { shortest: Duration::from_secs(shortest), longest: Duration::from_secs(longest) }
    }

    fn machine() -> Machine {
        Machine::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    #[test]
    fn the_period_doubles_with_every_relist_that_finds_no_missed_event() {
        let mut it = machine().step(Input::StreamUp);
        assert_eq!((it.mode(), seconds(&it)), (Mode::Probing, 1));
        for (period, mode) in [
            (2, Mode::Probing),
            (4, Mode::Probing),
            (8, Mode::Probing),
            (16, Mode::Probing),
            (32, Mode::Probing),
            (60, Mode::Evented),
            (60, Mode::Evented),
        ] {
            it = it.step(CLEAN);
            assert_eq!((it.mode(), seconds(&it)), (mode, period));
        }
    }

    #[test]
    fn an_unconfirmed_change_stops_the_growth_and_a_missed_event_resets_it() {
        let mut it = [Input::StreamUp, CLEAN, CLEAN, UNCONFIRMED].into_iter().fold(machine(), Machine::step);
        assert_eq!((it.mode(), seconds(&it)), (Mode::Probing, 4));
        it = it.step(Input::Missed);
        assert_eq!((it.mode(), seconds(&it)), (Mode::Probing, 1));
        it = std::iter::repeat_n(CLEAN, 10).fold(it, Machine::step);
        assert_eq!(it.mode(), Mode::Evented);
        it = it.step(Input::Missed);
        assert_eq!((it.mode(), seconds(&it)), (Mode::Probing, 1));
    }

    #[test]
    fn a_lost_stream_means_polling_until_the_stream_is_up() {
        for before in
            [machine(), std::iter::repeat_n(CLEAN, 10).fold(machine().step(Input::StreamUp), Machine::step)]
        {
            let mut it = before.step(Input::StreamLost);
            for input in [CLEAN, UNCONFIRMED, Input::Missed, Input::Unchecked, Input::StreamLost] {
                it = it.step(input);
                assert_eq!((it.mode(), seconds(&it)), (Mode::Polling, 1));
            }
            assert_eq!(it.step(Input::StreamUp).mode(), Mode::Probing);
        }
    }

    #[test]
    fn a_stream_that_no_relist_checks_is_not_trusted() {
        let mut it = std::iter::repeat_n(CLEAN, 10).fold(machine().step(Input::StreamUp), Machine::step);
        assert_eq!(it.mode(), Mode::Evented);
        it = it.step(Input::Unchecked);
        assert_eq!((it.mode(), seconds(&it)), (Mode::Probing, 1));
        it = std::iter::repeat_n(CLEAN, 10).fold(it, Machine::step);
        assert_eq!(it.mode(), Mode::Evented, "trusted again once relists have checked it");
    }

    #[test]
    fn a_smaller_longest_period_bounds_evented_mode() {
        let mut it = machine().step(bounds(1, 10)).step(Input::StreamUp);
        it = std::iter::repeat_n(CLEAN, 10).fold(it, Machine::step);
        assert_eq!((it.mode(), seconds(&it)), (Mode::Evented, 10));
        it = it.step(bounds(1, 60));
        assert_eq!((it.mode(), seconds(&it)), (Mode::Probing, 10));
    }

    #[test]
    fn other_bounds_apply_at_once_and_keep_the_mode_if_possible() {
        let evented = std::iter::repeat_n(CLEAN, 10).fold(machine().step(Input::StreamUp), Machine::step);
        for (before, bounds, mode, period) in [
            (machine(), bounds(5, 60), Mode::Polling, 5),
            (machine().step(bounds(5, 60)), bounds(2, 60), Mode::Polling, 2),
            (machine().step(Input::StreamUp), bounds(5, 60), Mode::Probing, 5),
            (evented, bounds(1, 10), Mode::Evented, 10),
            (evented, bounds(2, 60), Mode::Evented, 60),
            (evented, bounds(1, 120), Mode::Probing, 60),
            // A longest period below the shortest one counts as the shortest. Then the period cannot grow, and nothing proves the stream.
            (evented, bounds(90, 10), Mode::Probing, 90),
        ] {
            let it = before.step(bounds);
            assert_eq!((it.mode(), seconds(&it)), (mode, period), "{before:?} {bounds:?}");
        }
    }
}
