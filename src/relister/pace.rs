//! How many pods are read at the same time: a few at first, and more for as long as the runtime answers them as fast.
//!
//! A runtime that waits for something else answers many as fast as one, and one that computes does not: there, more at a time
//! only wait for each other, and hold up the kubelet's calls as well. What tells the two apart is how long an answer takes
//! beside the fastest of late, as TCP Vegas tells a queue from a long way. Pure: times come in as values.

use std::time::Duration;

use crate::model::Subject;

/// So many pods are read at a time in any case.
const FEW: usize = 4;
/// An answer that takes so many times as long as the fastest of late has waited for others.
const WAITED: f64 = 2.5;
/// As quickly does the fastest of late become what an answer takes that had few beside it.
const FORGETS: f64 = 0.05;
/// What is no longer than this is noise, whatever the fastest took.
const NOISE: Duration = Duration::from_micros(300);

/// How many may be read at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    places: f64,
    /// In seconds, what the fastest answer of late took: of sandboxes, and of containers.
    fastest: [Option<f64>; 2],
    /// Whether an answer has ever waited for others: from then on it goes up slowly.
    careful: bool,
    /// Answers until the places may go down once more: those that are under way already waited as long.
    under_way: usize,
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self { places: FEW as f64, fastest: [None; 2], careful: false, under_way: 0 }
    }
}

impl Pace {
    /// How many may be read at a time, if `most` are allowed.
    pub(super) fn places(&self, most: usize) -> usize {
        (self.places as usize).min(most)
    }

    /// The runtime took so long for the status of one of these, while all places were taken, or some were `idle`.
    pub(super) fn answered(&mut self, subject: Subject, took: Duration, idle: bool, most: usize) {
        let seconds = took.max(NOISE).as_secs_f64();
        // Among many it may take longer for having waited, which must not become what is usual.
        let forgets = if self.places as usize <= FEW { FORGETS } else { 0.0 };
        let known = &mut self.fastest[subject as usize];
        let fastest = known.map_or(seconds, |fastest| {
            if seconds < fastest { seconds } else { fastest + forgets * (seconds - fastest) }
        });
        *known = Some(fastest);
        self.under_way = self.under_way.saturating_sub(1);
        if seconds > WAITED * fastest {
            if self.under_way == 0 {
                self.careful = true;
                self.places = (0.75 * self.places).max(FEW as f64);
                self.under_way = self.places as usize;
            }
        } else if !idle {
            // Doubles with each round at first, and then one more with each.
            let step = if self.careful { 1.0 / self.places } else { 1.0 };
            self.places = (self.places + step).min(most.max(FEW) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays rounds of reads, of which each takes as long as `took` says for so many at a time.
    fn after(rounds: usize, pace: &mut Pace, most: usize, took: impl Fn(usize) -> Duration) -> usize {
        for _ in 0..rounds {
            let places = pace.places(most);
            (0..places).for_each(|_| pace.answered(Subject::Container, took(places), false, most));
        }
        pace.places(most)
    }

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    #[test]
    fn a_runtime_that_only_waits_is_asked_for_more_and_more() {
        let mut pace = Pace::default();
        assert_eq!(pace.places(64), 4);
        assert_eq!(after(1, &mut pace, 64, |_| ms(2.0)), 8);
        assert_eq!(after(2, &mut pace, 64, |_| ms(2.0)), 32);
        assert_eq!(after(9, &mut pace, 64, |_| ms(2.0)), 64);
    }

    #[test]
    fn a_runtime_that_computes_is_not_crowded() {
        // Two cores, a millisecond each: from two on, each waits for the others.
        let mut pace = Pace::default();
        let two_cores = |places: usize| ms(places as f64 / 2.0);
        let places = after(50, &mut pace, 64, two_cores);
        assert!((4..=16).contains(&places), "{places}");
        // And when it becomes slow all of a sudden, fewer are asked for, but never less than a few.
        let mut pace = Pace::default();
        after(9, &mut pace, 64, |_| ms(2.0));
        assert!(after(1, &mut pace, 64, |places| ms(2.0 * places as f64)) < 64);
        assert_eq!(after(6, &mut pace, 64, |places| ms(20.0 * places as f64)), 4);
    }

    #[test]
    fn one_that_is_slower_for_good_is_asked_as_before() {
        let mut pace = Pace::default();
        after(9, &mut pace, 16, |_| ms(1.0));
        assert_eq!(after(500, &mut pace, 16, |_| ms(50.0)), 16);
    }

    #[test]
    fn what_is_slow_by_nature_has_not_waited() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.answered(Subject::Sandbox, ms(0.1), false, 16);
            pace.answered(Subject::Container, ms(90.0), false, 16);
        }
        assert_eq!(pace.places(16), 16);
    }

    #[test]
    fn few_at_a_time_prove_nothing_and_no_more_than_allowed_are_read() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.answered(Subject::Container, ms(1.0), true, 64));
        assert_eq!(pace.places(64), 4);
        assert_eq!((pace.places(2), pace.places(1)), (2, 1));
        assert_eq!(after(20, &mut pace, 8, |_| ms(1.0)), 8);
    }
}
