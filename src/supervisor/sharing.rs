//! Whether plegd keeps its event stream on a runtime with one channel for all subscribers. Pure: times are arguments.
//!
//! Such a runtime delivers each event to one subscriber only. So each event that plegd receives is lost for another subscriber,
//! which may be the kubelet. Events missed while the stream was up prove that there is one. Then plegd closes its stream, polls, and
//! reopens the stream after 10 minutes, and after twice as long each further time, up to an hour.
//!
//! Not every missed event is a proof. A subscriber that has left takes one more event, since its handler in the runtime notices only then
//! that it is gone. So one missed event is tolerated, and one more for each lost stream of plegd. Events missed within 5 s after a lost
//! stream or a restart of the runtime are consequences of it.

use std::time::Duration;

use crate::{
    clock::Mono,
    config::SharedStream,
    model::{ObjectId, StreamEventType},
};

/// The first wait before the stream is reopened. Each try may take events from the other subscriber.
const FIRST_WAIT: Duration = Duration::from_secs(600);
/// The longest wait: when the other subscriber has ended, plegd has the stream again within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How many missed events may be those of a subscriber that has left.
const TOLERATED: usize = 1;
/// How long a missed event and a lost stream count. Another subscriber takes more than one event in this time.
const COUNTED_FOR: Duration = Duration::from_secs(3600);
/// How long missed events are consequences of a disturbance: then the backlog has arrived, and the relist after it is complete.
const RECOVERY: Duration = Duration::from_secs(5);

/// The evidence of other subscribers of the same channel.
#[derive(Debug)]
pub(super) struct Sharing {
    policy: SharedStream,
    /// Whether the runtime has one channel for all subscribers.
    shared: bool,
    /// Missed events, each once; at most as many as plegd yields for.
    missed: Vec<(Mono, ObjectId, StreamEventType)>,
    /// Lost streams of plegd: each may have taken one more event.
    lost: Vec<Mono>,
    /// Whether a stream was lost, or the runtime restarted, since the stream was last up.
    disturbed: bool,
    up: Option<Mono>,
    /// Events missed before this moment are consequences of a disturbance.
    recovered: Mono,
    /// When the stream is reopened, if it was yielded.
    retry: Option<Mono>,
    /// The last wait.
    waited: Option<Duration>,
}

/// The stream is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Yield {
    /// Time until it is reopened.
    pub(super) retry_in: Duration,
}

// === impl Sharing ===

impl Sharing {
    pub(super) fn new(policy: SharedStream) -> Self {
        Self {
            policy,
            shared: false,
            missed: Vec::new(),
            lost: Vec::new(),
            disturbed: false,
            up: None,
            recovered: Mono::ZERO,
            retry: None,
            waited: None,
        }
    }

    /// The configuration, or the known quirks of the runtime, may have changed. Returns whether to reopen a yielded stream.
    pub(super) fn set(&mut self, policy: SharedStream, shared: bool) -> bool {
        (self.policy, self.shared) = (policy, shared);
        !self.may_yield() && self.clear()
    }

    /// Whether plegd yields to another subscriber of this runtime.
    pub(super) fn may_yield(&self) -> bool {
        self.shared && self.policy == SharedStream::Yield
    }

    /// The stream is up.
    pub(super) fn up(&mut self, now: Mono) {
        let disturbed = std::mem::take(&mut self.disturbed);
        self.recovered = if disturbed { now + RECOVERY } else { now };
        self.up = Some(now);
    }

    /// The stream is down, and plegd has not yielded it.
    pub(super) fn lost(&mut self, now: Mono) {
        if self.up.take().is_some() {
            self.lost.push(now);
            self.disturbed = true;
        }
    }

    /// The runtime was restarted, and its channel is a new one. Returns whether to reopen a yielded stream.
    pub(super) fn restarted(&mut self) -> bool {
        self.disturbed = true;
        self.missed.clear();
        self.lost.clear();
        self.waited = None;
        self.clear()
    }

    /// Whether this event is recorded as missed.
    pub(super) fn is_recorded(&self, id: &ObjectId, kind: StreamEventType) -> bool {
        self.missed.iter().any(|(_, known, of)| (known, *of) == (id, kind))
    }

    /// These events were missed while the stream was up. Returns whether they prove another subscriber.
    pub(super) fn missed(&mut self, now: Mono, missed: &[(ObjectId, StreamEventType)]) -> Option<Yield> {
        let up = self.up.filter(|_| self.may_yield() && now >= self.recovered)?;
        self.missed.retain(|(at, ..)| now.since(*at) < COUNTED_FOR);
        self.lost.retain(|at| now.since(*at) < COUNTED_FOR);
        for (id, kind) in missed {
            if !self.is_recorded(id, *kind) {
                self.missed.push((now, id.clone(), *kind));
            }
        }
        if self.missed.len() <= TOLERATED + self.lost.len() {
            return None;
        }
        // The waits start over after a stream that was kept for the longest wait.
        let waited = self.waited.filter(|_| now.since(up) < LONGEST_WAIT);
        let retry_in = waited.map_or(FIRST_WAIT, |waited| (2 * waited).min(LONGEST_WAIT));
        self.waited = Some(retry_in);
        self.retry = Some(now + retry_in);
        self.up = None;
        Some(Yield { retry_in })
    }

    /// The events that prove another subscriber, for the log.
    pub(super) fn evidence(&self) -> String {
        let missed = self.missed.iter().map(|(_, id, kind)| format!("{} {id}", kind.as_str()));
        missed.collect::<Vec<_>>().join(", ")
    }

    /// When a yielded stream is reopened.
    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.retry
    }

    /// The stream is reopened. Earlier evidence does not count.
    pub(super) fn reopened(&mut self) {
        self.clear();
    }

    fn clear(&mut self) -> bool {
        self.missed.clear();
        self.lost.clear();
        self.retry.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn events(ids: &[&str]) -> Vec<(ObjectId, StreamEventType)> {
        ids.iter().map(|id| (ObjectId::from(*id), StreamEventType::Stopped)).collect()
    }

    /// On a shared channel, with the stream up since second 100.
    fn up() -> Sharing {
        let mut it = Sharing::new(SharedStream::Yield);
        it.set(SharedStream::Yield, true);
        it.up(at(100));
        it
    }

    fn minutes(it: Option<Yield>) -> Option<u64> {
        it.map(|it| it.retry_in.as_secs() / 60)
    }

    #[test]
    fn one_missed_event_is_tolerated_and_the_second_proves_another_subscriber() {
        let mut it = up();
        assert_eq!(it.missed(at(110), &events(&["a"])), None);
        assert_eq!(it.missed(at(111), &events(&["a"])), None, "the same event");
        assert!(
            it.is_recorded(&"a".into(), StreamEventType::Stopped)
                && !it.is_recorded(&"a".into(), StreamEventType::Started)
        );
        assert_eq!(minutes(it.missed(at(112), &events(&["b"]))), Some(10));
        assert_eq!(it.retry_at(), Some(at(112) + 10 * MINUTE));
        assert_eq!(it.evidence(), "stopped a, stopped b");
        assert_eq!(it.missed(at(113), &events(&["c"])), None, "it is yielded already");
        assert_eq!(minutes(up().missed(at(110), &events(&["a", "b"]))), Some(10), "at once, too");
    }

    #[test]
    fn two_events_missed_an_hour_apart_prove_nothing() {
        let mut it = up();
        assert_eq!(it.missed(at(110), &events(&["a"])), None);
        assert_eq!(it.missed(at(3710), &events(&["b"])), None);
        assert_eq!(minutes(it.missed(at(3720), &events(&["c"]))), Some(10));
    }

    #[test]
    fn the_waits_double_up_to_an_hour_and_start_over_after_an_hour_with_the_stream() {
        let mut it = up();
        let mut now = at(200);
        let mut waits = Vec::new();
        for held in [10, 10, 10, 10, 10, 3599, 3600, 10] {
            now = now + Duration::from_secs(held);
            let retry_in = it.missed(now, &events(&["a", "b"])).unwrap().retry_in;
            waits.push(retry_in.as_secs() / 60);
            now = now + retry_in;
            it.reopened();
            assert_eq!(it.retry_at(), None);
            it.up(now);
        }
        assert_eq!(waits, [10, 20, 40, 60, 60, 60, 10, 20]);
    }

    #[test]
    fn a_lost_stream_explains_one_more_missed_event_and_those_within_five_seconds() {
        let mut it = up();
        it.lost(at(200));
        it.lost(at(201));
        it.up(at(210));
        assert_eq!(it.missed(at(214), &events(&["a", "b", "c", "d"])), None, "consequences of the loss");
        assert_eq!(
            it.missed(at(216), &events(&["e", "f"])),
            None,
            "one for the lost stream, one for a subscriber that has left"
        );
        assert_eq!(minutes(it.missed(at(217), &events(&["g"]))), Some(10));
    }

    #[test]
    fn a_restart_of_the_runtime_explains_missed_events_and_resets_the_waits() {
        let mut it = up();
        assert_eq!(it.missed(at(110), &events(&["a"])), None);
        it.lost(at(120));
        assert!(!it.restarted(), "it is not yielded");
        it.up(at(130));
        assert_eq!(it.missed(at(134), &events(&["b", "c", "d"])), None, "consequences of the restart");
        assert_eq!(
            it.missed(at(140), &events(&["e"])),
            None,
            "events missed before the restart do not count"
        );
        assert_eq!(minutes(it.missed(at(141), &events(&["f"]))), Some(10));
        it.reopened();
        it.up(at(800));
        assert_eq!(minutes(it.missed(at(801), &events(&["a", "b"]))), Some(20));
        assert!(it.restarted(), "a yielded stream is reopened at once");
        assert_eq!(it.retry_at(), None);
        it.up(at(900));
        assert_eq!(minutes(it.missed(at(906), &events(&["a", "b"]))), Some(10));
    }

    #[test]
    fn plegd_does_not_yield_a_channel_of_its_own_or_with_the_configuration_compete() {
        let many = events(&["a", "b", "c", "d", "e"]);
        for (policy, shared) in [(SharedStream::Yield, false), (SharedStream::Compete, true)] {
            let mut it = up();
            it.set(policy, shared);
            assert_eq!(it.missed(at(110), &many), None, "{policy:?} {shared}");
            let mut it = up();
            assert!(it.missed(at(110), &many).is_some());
            assert!(it.set(policy, shared), "a yielded stream is reopened: {policy:?} {shared}");
            assert!(!it.set(policy, shared) && it.retry_at().is_none());
        }
        let mut down = up();
        down.lost(at(105));
        assert_eq!(down.missed(at(110), &many), None, "no event is missed while the stream is down");
    }
}
