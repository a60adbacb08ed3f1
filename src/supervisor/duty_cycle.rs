//! How much of the time goes into lists.
//!
//! A list of very many pods, each of which is new, takes plegd and the runtime a second to make and to compare, and its reads
//! take ten. The next list meanwhile finds the same once more and holds up the reads; so it is put off, to a tenth of the time
//! at most. Lists that events ask for, which may be as many as a runtime sends events that name no pod, take half of it at most
//! where nothing is being read. Pure: times come in as values.

use std::time::Duration;

use crate::clock::Mono;

/// A list may take one part in so many while what the last ones found is being read,
const PARTS: u32 = 10;
/// and one in so many otherwise, if events ask for it.
const PARTS_IF_ASKED: u32 = 2;

/// What is known of the lists so far.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Relists of which something is still being read.
    being_read: usize,
    /// When the last lists had been compared, and how long that took from when they were asked for.
    last: Option<(Mono, Duration)>,
}

// === impl Share ===

impl Share {
    /// Lists that were asked for at `began` have been compared; what differs is being read from now on.
    pub(super) fn listed(&mut self, began: Mono, now: Mono) {
        self.being_read += 1;
        self.last = Some((now, now.since(began)));
    }

    /// All that a relist found is read.
    pub(super) fn read(&mut self) {
        self.being_read = self.being_read.saturating_sub(1);
    }

    /// How much longer a relist has to wait, that is due or that events ask for.
    pub(super) fn rest(&self, asked: bool, now: Mono) -> Option<Duration> {
        let (listed, took) = self.last?;
        let parts = match (self.being_read > 0, asked) {
            (true, _) => PARTS,
            (false, true) => PARTS_IF_ASKED,
            (false, false) => return None,
        };
        let rest = ((parts - 1) * took).saturating_sub(now.since(listed));
        (!rest.is_zero()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn lists_take_a_tenth_of_the_time_while_what_they_found_is_read() {
        let mut share = Share::default();
        assert_eq!(share.rest(false, at(0)), None);
        share.listed(at(1000), at(1500));
        assert_eq!(share.rest(false, at(1500)), Some(Duration::from_millis(4500)));
        assert_eq!(share.rest(false, at(5999)), Some(Duration::from_millis(1)));
        assert_eq!(share.rest(false, at(6000)), None, "and what hangs does not hold it up for ever");
        share.listed(at(6000), at(6010));
        share.read();
        assert_eq!(share.rest(false, at(6020)), Some(Duration::from_millis(80)), "one of the two");
        share.read();
        assert_eq!(share.rest(false, at(6020)), None, "all is read");
    }

    #[test]
    fn lists_that_events_ask_for_take_half_of_the_time() {
        let mut share = Share::default();
        assert_eq!(share.rest(true, at(0)), None);
        share.listed(at(1000), at(1500));
        assert_eq!(
            share.rest(true, at(1500)),
            Some(Duration::from_millis(4500)),
            "no more than others while it is read"
        );
        share.read();
        assert_eq!(share.rest(true, at(1600)), Some(Duration::from_millis(400)));
        assert_eq!(share.rest(true, at(2000)), None);
    }
}
