//! The activity of the last minute: rates by type and the busiest pods. Pure: time comes in as a value.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::Mono,
    v1::{Event, EventType, PodIdentity},
};

/// The period that is shown.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// The period of the recent rate.
const RECENT: Duration = Duration::from_secs(10);
/// Number of bars in the bar chart of the window.
pub(super) const PARTS: usize = 30;
/// Maximum number of remembered events.
const MAX_EVENTS: usize = 100_000;

/// The types, in display order.
pub(super) const TYPES: [(EventType, &str); 5] = [
    (EventType::ContainerStarted, "started"),
    (EventType::ContainerDied, "died"),
    (EventType::ContainerRemoved, "removed"),
    (EventType::ContainerChanged, "changed"),
    (EventType::PodSync, "sync"),
];

/// The events of the last minute.
#[derive(Debug)]
pub(super) struct Activity {
    /// All events since this moment are known.
    since: Mono,
    seen: VecDeque<Observed>,
}

#[derive(Debug)]
struct Observed {
    at: Mono,
    kind: EventType,
    oom: bool,
    pod: PodIdentity,
}

/// The rate of a type of event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rate {
    /// Per second, within the last ten seconds.
    pub(super) recent: f64,
    /// Per second, within the window.
    pub(super) average: f64,
    /// The number within the window.
    pub(super) count: u64,
    /// The number in each part of the window, the newest last.
    pub(super) parts: [u64; PARTS],
}

/// The activity of one pod within the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) pod: PodIdentity,
    /// The number of its events.
    pub(super) events: u64,
    /// Starts among them.
    pub(super) started: u64,
    /// Deaths.
    pub(super) died: u64,
    /// Deaths because of memory (OOMKilled).
    pub(super) oom: u64,
}

// === impl Activity ===

impl Activity {
    /// An empty activity; events since `since` will be observed.
    pub(super) fn new(since: Mono) -> Self {
        Self { since, seen: VecDeque::new() }
    }

    /// Adds an event that was seen at `at`. An event older than the window only proves how far back all events are known.
    pub(super) fn observe(&mut self, at: Mono, now: Mono, event: &Event) {
        self.since = self.since.min(at);
        self.forget(now);
        if now.since(at) >= WINDOW || self.seen.len() >= MAX_EVENTS {
            return;
        }
        let oom = event.reason == "OOMKilled"
            && [EventType::ContainerDied, EventType::ContainerChanged].contains(&event.r#type());
        let pod = event.pod.clone().unwrap_or_default();
        self.seen.push_back(Observed { at, kind: event.r#type(), oom, pod });
    }

    /// Removes events that have left the window.
    pub(super) fn forget(&mut self, now: Mono) {
        // Events from the journal and live events may be slightly out of order, which is harmless here.
        while self.seen.front().is_some_and(|seen| now.since(seen.at) >= WINDOW) {
            self.seen.pop_front();
        }
    }

    /// The part of the window in which all events are known.
    pub(super) fn covers(&self, now: Mono) -> Duration {
        now.since(self.since).min(WINDOW)
    }

    /// The rate of this type, or of all types for `None`.
    pub(super) fn rate(&self, kind: Option<EventType>, now: Mono) -> Rate {
        let mut rate = Rate::default();
        let mut recent = 0_u64;
        let all = self.seen.iter().filter(|seen| kind.is_none_or(|kind| kind == seen.kind));
        for age in all.map(|seen| now.since(seen.at)).filter(|age| *age < WINDOW) {
            rate.count += 1;
            recent += u64::from(age < RECENT);
            let part = age.as_millis() * PARTS as u128 / WINDOW.as_millis();
            let newest_last = PARTS - 1 - usize::try_from(part).unwrap_or(0).min(PARTS - 1);
            rate.parts[newest_last] += 1;
        }
        // A rate over less than a second is not meaningful.
        let seconds = |time: Duration| self.covers(now).min(time).as_secs_f64().max(1.0);
        rate.recent = recent as f64 / seconds(RECENT);
        rate.average = rate.count as f64 / seconds(WINDOW);
        rate
    }

    /// The pods with the most events, at most `limit`, the busiest first.
    pub(super) fn busiest(&self, limit: usize) -> Vec<Busy> {
        let mut pods: BTreeMap<&str, Busy> = BTreeMap::new();
        for seen in &self.seen {
            let busy = pods
                .entry(&seen.pod.uid)
                .or_insert_with(|| Busy { pod: seen.pod.clone(), ..Busy::default() });
            busy.events += 1;
            busy.started += u64::from(seen.kind == EventType::ContainerStarted);
            busy.died += u64::from(seen.kind == EventType::ContainerDied);
            busy.oom += u64::from(seen.oom);
        }
        let mut pods: Vec<Busy> = pods.into_values().collect();
        // OOM kills first, because they matter most. The sort is stable, so lines keep their places.
        pods.sort_by_key(|busy| std::cmp::Reverse((busy.oom, busy.events)));
        pods.truncate(limit);
        pods
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventType, pod: &str, reason: &str) -> Event {
        let pod = PodIdentity { uid: pod.into(), namespace: "default".into(), name: pod.into() };
        Event { r#type: kind.into(), pod: Some(pod), reason: reason.into(), ..Event::default() }
    }

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn there_is_a_rate_for_10_seconds_and_one_for_a_minute() {
        let mut activity = Activity::new(at(100));
        for second in 100..160 {
            activity.observe(at(second), at(second), &event(EventType::ContainerStarted, "a", ""));
        }
        activity.observe(at(159), at(159), &event(EventType::ContainerDied, "a", ""));
        let all = activity.rate(None, at(159));
        assert_eq!(all.count, 61);
        assert_eq!(all.recent, 1.1);
        assert!((all.average - 61.0 / 59.0).abs() < 1e-9, "{all:?}");
        assert_eq!(all.parts, {
            let mut parts = [2; PARTS];
            parts[PARTS - 1] = 3;
            parts
        });
        let died = activity.rate(Some(EventType::ContainerDied), at(159));
        assert_eq!((died.count, died.recent), (1, 0.1));
        assert_eq!(activity.rate(Some(EventType::PodSync), at(159)), Rate::default());
        // A minute later the window is empty.
        activity.forget(at(219));
        assert_eq!(activity.rate(None, at(219)), Rate::default());
        assert_eq!(activity.covers(at(219)), WINDOW);
    }

    #[test]
    fn an_event_before_the_window_proves_that_the_window_is_complete() {
        let mut activity = Activity::new(at(100));
        assert_eq!(activity.covers(at(101)), Duration::from_secs(1));
        activity.observe(at(30), at(101), &event(EventType::ContainerStarted, "a", ""));
        assert_eq!(activity.covers(at(101)), WINDOW);
        assert_eq!(activity.rate(None, at(101)).count, 0);
    }

    #[test]
    fn pods_with_oom_kills_come_first_then_the_busiest_ones() {
        let mut activity = Activity::new(at(100));
        let mut see = |kind, pod, reason| activity.observe(at(100), at(100), &event(kind, pod, reason));
        for _ in 0..3 {
            see(EventType::ContainerStarted, "busy", "");
        }
        see(EventType::ContainerDied, "oom", "OOMKilled");
        see(EventType::ContainerDied, "calm", "Error");
        let names = |busiest: &[Busy]| busiest.iter().map(|busy| busy.pod.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&activity.busiest(9)), ["oom", "busy", "calm"]);
        assert_eq!(names(&activity.busiest(2)), ["oom", "busy"]);
        assert_eq!(activity.busiest(1)[0].oom, 1);
        assert_eq!(activity.busiest(2)[1].started, 3);
    }

    #[test]
    fn the_number_of_remembered_events_is_limited() {
        let mut activity = Activity::new(at(100));
        for _ in 0..MAX_EVENTS + 10 {
            activity.observe(at(100), at(100), &event(EventType::ContainerStarted, "a", ""));
        }
        assert_eq!(activity.seen.len(), MAX_EVENTS);
    }
}
