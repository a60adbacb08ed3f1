//! Whether plegd keeps its event stream on a runtime that has one channel for all subscribers. Pure: times come in as values.
//!
//! Such a runtime delivers each event to one subscriber only. So each event that plegd receives is lost for another subscriber,
//! which may be the kubelet. Events that did not come while the stream was up show that there is one. Then plegd closes its
//! stream, polls, and tries again after ten minutes, after twice as long each time, up to an hour.
//!
//! Not every missed event shows it. A subscriber that has left takes one event more, since its handler in the runtime notices
//! only then that it is gone. So one missed event is excused, and one more for each stream of plegd that was lost. Misses soon
//! after a stream was lost, or after a restart of the runtime, are consequences of that.

use std::time::Duration;

use crate::{
    clock::Mono,
    config::SharedStream,
    model::{ObjectId, StreamEventType},
};

/// The first wait before the stream is tried again. Each try may take events from the other subscriber.
const FIRST_WAIT: Duration = Duration::from_secs(600);
/// The longest wait: an operator who ends the other subscriber has the stream back within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How many missed events may be those that a departed subscriber takes.
const EXCUSED: usize = 1;
/// How long a missed event, and a lost stream, counts. Another subscriber takes more than one event in this time.
const COUNTED: Duration = Duration::from_secs(3600);
/// How long after a disturbance the misses are consequences of it: the backlog has passed, and the relist after it is done.
const SETTLING: Duration = Duration::from_secs(5);

/// What is known of other subscribers of the same channel.
#[derive(Debug)]
pub(super) struct Sharing {
    policy: SharedStream,
    /// The runtime has one channel for all.
    shared: bool,
    /// Events that did not come, each once; no more than it takes to yield.
    missed: Vec<(Mono, ObjectId, StreamEventType)>,
    /// Streams of plegd that were lost: each may have taken one event more.
    lost: Vec<Mono>,
    /// A stream was lost, or the runtime was restarted, since the stream was last up.
    disturbed: bool,
    up: Option<Mono>,
    /// Misses before this moment are consequences of a disturbance.
    settled: Mono,
    /// When the stream is tried again, if it was yielded.
    retry: Option<Mono>,
    /// How long the last wait was.
    waited: Option<Duration>,
}

/// The stream is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Yield {
    /// How long after that it is tried again.
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
            settled: Mono::ZERO,
            retry: None,
            waited: None,
        }
    }

    /// The configuration, or what is known of the runtime, has changed. Says whether a stream that was yielded is to be opened
    /// again.
    pub(super) fn set(&mut self, policy: SharedStream, shared: bool) -> bool {
        (self.policy, self.shared) = (policy, shared);
        !self.may_yield() && self.forgive()
    }

    /// Whether plegd gives way to another subscriber of this runtime.
    pub(super) fn may_yield(&self) -> bool {
        self.shared && self.policy == SharedStream::Yield
    }

    /// The stream is up.
    pub(super) fn up(&mut self, now: Mono) {
        let disturbed = std::mem::take(&mut self.disturbed);
        self.settled = if disturbed { now + SETTLING } else { now };
        self.up = Some(now);
    }

    /// The stream is down; not since plegd has yielded it.
    pub(super) fn lost(&mut self, now: Mono) {
        if self.up.take().is_some() {
            self.lost.push(now);
            self.disturbed = true;
        }
    }

    /// The runtime was restarted. Its channel is a new one, and nobody knows who subscribes to it. Says whether a stream that
    /// was yielded is to be opened again.
    pub(super) fn restarted(&mut self) -> bool {
        self.disturbed = true;
        self.missed.clear();
        self.lost.clear();
        self.waited = None;
        self.forgive()
    }

    /// Whether this event is known to be missed.
    pub(super) fn knows(&self, id: &ObjectId, kind: StreamEventType) -> bool {
        self.missed.iter().any(|(_, known, of)| (known, *of) == (id, kind))
    }

    /// These events did not come, while the stream was up. Says whether that shows another subscriber.
    pub(super) fn missed(&mut self, now: Mono, missed: &[(ObjectId, StreamEventType)]) -> Option<Yield> {
        let up = self.up.filter(|_| self.may_yield() && now >= self.settled)?;
        self.missed.retain(|(at, ..)| now.since(*at) < COUNTED);
        self.lost.retain(|at| now.since(*at) < COUNTED);
        for (id, kind) in missed {
            if !self.knows(id, *kind) {
                self.missed.push((now, id.clone(), *kind));
            }
        }
        if self.missed.len() <= EXCUSED + self.lost.len() {
            return None;
        }
        // A stream that was kept for as long as the longest wait is no retry any more.
        let waited = self.waited.filter(|_| now.since(up) < LONGEST_WAIT);
        let retry_in = waited.map_or(FIRST_WAIT, |waited| (2 * waited).min(LONGEST_WAIT));
        self.waited = Some(retry_in);
        self.retry = Some(now + retry_in);
        self.up = None;
        Some(Yield { retry_in })
    }

    /// The events that show another subscriber, for the log.
    pub(super) fn evidence(&self) -> String {
        let missed = self.missed.iter().map(|(_, id, kind)| format!("{} {id}", kind.as_str()));
        missed.collect::<Vec<_>>().join(", ")
    }

    /// When a stream that was yielded is tried again.
    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.retry
    }

    /// It is tried again. What the stream that was yielded took after that, it took from the other subscriber.
    pub(super) fn retried(&mut self) {
        self.forgive();
    }

    fn forgive(&mut self) -> bool {
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
    fn one_missed_event_is_excused_and_the_second_shows_another_subscriber() {
        let mut it = up();
        assert_eq!(it.missed(at(110), &events(&["a"])), None);
        assert_eq!(it.missed(at(111), &events(&["a"])), None, "the same event");
        assert!(
            it.knows(&"a".into(), StreamEventType::Stopped)
                && !it.knows(&"a".into(), StreamEventType::Started)
        );
        assert_eq!(minutes(it.missed(at(112), &events(&["b"]))), Some(10));
        assert_eq!(it.retry_at(), Some(at(112) + 10 * MINUTE));
        assert_eq!(it.evidence(), "stopped a, stopped b");
        assert_eq!(it.missed(at(113), &events(&["c"])), None, "it is yielded already");
        assert_eq!(minutes(up().missed(at(110), &events(&["a", "b"]))), Some(10), "at once, too");
    }

    #[test]
    fn two_misses_that_lie_an_hour_apart_show_nobody() {
        let mut it = up();
        assert_eq!(it.missed(at(110), &events(&["a"])), None);
        assert_eq!(it.missed(at(3710), &events(&["b"])), None);
        assert_eq!(minutes(it.missed(at(3720), &events(&["c"]))), Some(10));
    }

    #[test]
    fn the_waits_double_up_to_an_hour_and_start_over_once_the_stream_has_held_for_an_hour() {
        let mut it = up();
        let mut now = at(200);
        let mut waits = Vec::new();
        for held in [10, 10, 10, 10, 10, 3599, 3600, 10] {
            now = now + Duration::from_secs(held);
            let retry_in = it.missed(now, &events(&["a", "b"])).unwrap().retry_in;
            waits.push(retry_in.as_secs() / 60);
            now = now + retry_in;
            it.retried();
            assert_eq!(it.retry_at(), None);
            it.up(now);
        }
        assert_eq!(waits, [10, 20, 40, 60, 60, 60, 10, 20]);
    }

    #[test]
    fn a_lost_stream_explains_one_miss_more_and_all_that_come_right_after_it() {
        let mut it = up();
        it.lost(at(200));
        it.lost(at(201));
        it.up(at(210));
        assert_eq!(it.missed(at(214), &events(&["a", "b", "c", "d"])), None, "consequences of the loss");
        assert_eq!(
            it.missed(at(216), &events(&["e", "f"])),
            None,
            "one for the lost stream, one for anybody's"
        );
        assert_eq!(minutes(it.missed(at(217), &events(&["g"]))), Some(10));
    }

    #[test]
    fn a_restart_of_the_runtime_explains_misses_and_resets_the_waits() {
        let mut it = up();
        assert_eq!(it.missed(at(110), &events(&["a"])), None);
        it.lost(at(120));
        assert!(!it.restarted(), "it is not yielded");
        it.up(at(130));
        assert_eq!(it.missed(at(134), &events(&["b", "c", "d"])), None, "consequences of the restart");
        assert_eq!(it.missed(at(140), &events(&["e"])), None, "what was before the restart does not count");
        assert_eq!(minutes(it.missed(at(141), &events(&["f"]))), Some(10));
        it.retried();
        it.up(at(800));
        assert_eq!(minutes(it.missed(at(801), &events(&["a", "b"]))), Some(20));
        assert!(it.restarted(), "a yielded stream is tried at once");
        assert_eq!(it.retry_at(), None);
        it.up(at(900));
        assert_eq!(minutes(it.missed(at(906), &events(&["a", "b"]))), Some(10));
    }

    #[test]
    fn nothing_is_yielded_where_each_subscriber_has_its_own_channel_or_the_configuration_says_compete() {
        let many = events(&["a", "b", "c", "d", "e"]);
        for (policy, shared) in [(SharedStream::Yield, false), (SharedStream::Compete, true)] {
            let mut it = up();
            it.set(policy, shared);
            assert_eq!(it.missed(at(110), &many), None, "{policy:?} {shared}");
            let mut it = up();
            assert!(it.missed(at(110), &many).is_some());
            assert!(it.set(policy, shared), "what was yielded is opened again: {policy:?} {shared}");
            assert!(!it.set(policy, shared) && it.retry_at().is_none());
        }
        let mut down = up();
        down.lost(at(105));
        assert_eq!(down.missed(at(110), &many), None, "nothing can be missed without a stream");
    }
}
