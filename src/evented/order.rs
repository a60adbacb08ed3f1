//! Finds events that a stream left out, by the order of the events of one container or sandbox.
//!
//! For an object that was created while the stream was up, CREATED comes first, and STARTED before STOPPED or within 1 s after it
//! (containerd#7111). If one is missing on a shared channel, another subscriber has received it. The next event already shows that,
//! while a relist takes seconds. Pure: the clock only maps timestamps.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::{Clock, Mono, Stamped, Wall},
    model::{ObjectId, Observation, StreamEventType},
};

/// Objects created within this time after the stream was up are not checked: timestamps and subscription are not exact enough.
const MARGIN: Duration = Duration::from_secs(1);
/// How long after STOPPED an overtaken STARTED may come. Runtimes send both within milliseconds.
const STARTED_AFTER_STOPPED: Duration = Duration::from_secs(1);
/// How many objects are kept. Past this number all are dropped, and only objects created from then on are checked.
const LIMIT: usize = 4096;

/// The events that one stream has delivered.
#[derive(Debug)]
pub struct EventOrder {
    clock: Clock,
    /// Since when its order is checked: since the stream is up, or later.
    since: Mono,
    /// Only objects created after this moment are checked.
    from: Mono,
    /// Objects with an event.
    objects: HashMap<ObjectId, Received>,
    /// Objects that have stopped without STARTED, and until when STARTED may come.
    stopped: VecDeque<(ObjectId, Mono)>,
}

/// The events received of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// CREATED, not STARTED.
    Created,
    /// STARTED, or it is certain not to come.
    Started,
}

/// The objects for which a runtime sends all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventCoverage {
    /// Containers and sandboxes.
    All,
    /// Containers (CRI-O).
    ContainersOnly,
}

// === impl EventOrder ===

impl EventOrder {
    /// An order without events. The clock maps the creation times.
    pub fn new(clock: Clock) -> Self {
        Self { clock, since: Mono::ZERO, from: Mono::ZERO, objects: HashMap::new(), stopped: VecDeque::new() }
    }

    /// Records the next event of a stream whose order is checked `since` a moment; another stream has another moment. Returns the events
    /// that the stream has left out.
    pub fn record(
        &mut self,
        since: Mono,
        coverage: EventCoverage,
        event: &Observation,
        now: Mono,
    ) -> Vec<(ObjectId, StreamEventType)> {
        if self.since != since {
            self.since = since;
            self.begin(since + MARGIN);
        }
        let Some(head) = &event.stream_event else { return Vec::new() };
        let mut left_out = self.overdue(now);
        let created = self.clock.to_monotonic(created_at(event, &head.id, coverage).unwrap_or_default(), now);
        if !matches!(created, Stamped::At(at) if at > self.from) {
            return left_out;
        }
        if self.objects.len() >= LIMIT {
            self.begin(now);
            return left_out;
        }
        let received = self.objects.get(&head.id).copied();
        match (head.kind, received) {
            (StreamEventType::Created, _) => {
                self.objects.entry(head.id.clone()).or_insert(Received::Created);
            }
            (StreamEventType::Stopped, Some(Received::Created)) => {
                self.stopped.push_back((head.id.clone(), now + STARTED_AFTER_STOPPED));
            }
            (StreamEventType::Deleted, Some(_)) => {}
            (_, received) => {
                if received.is_none() {
                    left_out.push((head.id.clone(), StreamEventType::Created));
                }
                self.objects.insert(head.id.clone(), Received::Started);
            }
        }
        left_out
    }

    fn begin(&mut self, from: Mono) {
        self.from = from;
        self.objects.clear();
        self.stopped.clear();
    }

    /// Objects that have stopped, and whose STARTED has not come in time.
    fn overdue(&mut self, now: Mono) -> Vec<(ObjectId, StreamEventType)> {
        let mut left_out = Vec::new();
        while self.stopped.front().is_some_and(|(_, until)| *until <= now) {
            let Some((id, _)) = self.stopped.pop_front() else { break };
            if self.objects.insert(id.clone(), Received::Started) == Some(Received::Created) {
                left_out.push((id, StreamEventType::Started));
            }
        }
        left_out
    }
}

/// When the object of an event was created, if the event shows it.
fn created_at(event: &Observation, id: &ObjectId, coverage: EventCoverage) -> Option<Wall> {
    let container = event.containers.iter().find(|container| container.id == *id);
    if let Some(container) = container {
        return container.created_at;
    }
    let sandbox = event.sandboxes.iter().find(|sandbox| sandbox.id == *id);
    sandbox.filter(|_| coverage == EventCoverage::All)?.created_at
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        ContainerState, ContainerStatus, Labels, PodIdentity, SandboxState, SandboxStatus, StreamEvent,
        StreamEventType::{Created, Deleted, Started, Stopped},
    };

    /// A stream that has been up for a minute.
    struct Stream {
        clock: Clock,
        order: EventOrder,
        since: Mono,
        coverage: EventCoverage,
    }

    impl Stream {
        async fn up() -> Self {
            let clock = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0;
            let since = clock.now();
            let mut stream =
                Self { order: EventOrder::new(clock.clone()), clock, since, coverage: EventCoverage::All };
            // With the first event it notices that the stream is up.
            assert_eq!(stream.event(Created, "before", -60).await, []);
            tokio::time::advance(Duration::from_secs(60)).await;
            stream
        }

        /// An event 10 ms later, about a container that was created `created` seconds after the stream was up.
        async fn event(
            &mut self,
            kind: StreamEventType,
            id: &str,
            created: i64,
        ) -> Vec<(ObjectId, StreamEventType)> {
            tokio::time::advance(Duration::from_millis(10)).await;
            let up = 1_800_000_000_i64;
            let container = ContainerStatus {
                id: id.into(),
                sandbox_id: "s".into(),
                name: "c".into(),
                attempt: 0,
                state: ContainerState::Running,
                created_at: Wall::from_cri((up + created) * 1_000_000_000),
                started_at: None,
                finished_at: None,
                exit_code: None,
                reason: String::new(),
                message: String::new(),
                image: String::new(),
                image_ref: String::new(),
                labels: Labels::new(),
                annotations: Labels::new(),
            };
            self.record(observation(kind, id, vec![Arc::new(container)], vec![]))
        }

        /// As `event`, about a sandbox; returns how many events were left out.
        async fn of_sandbox(&mut self, kind: StreamEventType, id: &str, created: i64) -> usize {
            tokio::time::advance(Duration::from_millis(10)).await;
            let sandbox = SandboxStatus {
                id: id.into(),
                pod: pod(),
                attempt: 0,
                state: SandboxState::Ready,
                created_at: Wall::from_cri((1_800_000_000 + created) * 1_000_000_000),
                ips: Vec::new(),
                labels: Labels::new(),
                annotations: Labels::new(),
                runtime_handler: String::new(),
            };
            self.record(observation(kind, id, vec![], vec![Arc::new(sandbox)])).len()
        }

        fn record(&mut self, event: Observation) -> Vec<(ObjectId, StreamEventType)> {
            self.order.record(self.since, self.coverage, &event, self.clock.now())
        }
    }

    fn pod() -> PodIdentity {
        PodIdentity { uid: "u".into(), namespace: "n".into(), name: "p".into() }
    }

    fn observation(
        kind: StreamEventType,
        id: &str,
        containers: Vec<Arc<ContainerStatus>>,
        sandboxes: Vec<Arc<SandboxStatus>>,
    ) -> Observation {
        let head = StreamEvent { id: id.into(), kind, stamped_at: None };
        let event = Observation::event(head, Mono::ZERO, Wall::default(), pod());
        Observation { sandboxes, containers, ..event }
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_sequence_leaves_nothing_out() {
        let mut it = Stream::up().await;
        for kind in [Created, Started, Stopped, Deleted] {
            assert_eq!(it.event(kind, "a", 59).await, [], "{kind:?}");
            assert_eq!(it.of_sandbox(kind, "s", 59).await, 0, "{kind:?}");
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(it.event(Created, "b", 65).await, []);
        assert_eq!(it.event(Deleted, "b", 65).await, [], "a container need not start");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_without_created_before_it_proves_that_created_was_left_out() {
        let mut it = Stream::up().await;
        for (kind, id) in [(Started, "a"), (Stopped, "b"), (Deleted, "c")] {
            assert_eq!(it.event(kind, id, 59).await, [(id.into(), Created)]);
            assert_eq!(it.event(kind, id, 59).await, [], "once");
        }
        assert_eq!(it.of_sandbox(Started, "s", 59).await, 1);
        it.coverage = EventCoverage::ContainersOnly;
        assert_eq!(it.of_sandbox(Started, "t", 59).await, 0, "a runtime that sends no CREATED of sandboxes");
    }

    #[tokio::test(start_paused = true)]
    async fn stopped_without_started_proves_after_a_second_that_started_was_left_out() {
        let mut it = Stream::up().await;
        for id in ["a", "b"] {
            it.event(Created, id, 59).await;
            assert_eq!(it.event(Stopped, id, 59).await, []);
        }
        assert_eq!(it.event(Started, "b", 59).await, [], "containerd#7111");
        assert_eq!(it.event(Created, "c", 60).await, []);
        tokio::time::advance(STARTED_AFTER_STOPPED).await;
        assert_eq!(it.event(Created, "d", 61).await, [("a".into(), Started)]);
        assert_eq!(it.event(Created, "e", 61).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn objects_created_before_the_stream_was_up_or_right_after_it_are_not_checked() {
        let mut it = Stream::up().await;
        for created in [-3600, 0, 1] {
            assert_eq!(it.event(Started, &format!("{created}"), created).await, []);
        }
        assert_eq!(it.event(Started, "unknown", -1_800_000_000).await, [], "no creation time");
        assert_eq!(it.event(Started, "later", 3_600).await, [], "a creation time in the future");
        assert_eq!(it.event(Started, "a", 2).await, [("a".into(), Created)]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_stream_starts_over() {
        let mut it = Stream::up().await;
        it.event(Created, "a", 59).await;
        it.since = it.clock.now();
        assert_eq!(it.event(Started, "a", 59).await, [], "its CREATED came over the stream before");
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_limit_all_objects_are_dropped_and_none_counts_as_left_out() {
        let mut it = Stream::up().await;
        for n in 0..LIMIT {
            assert_eq!(it.event(Created, &n.to_string(), 59).await, []);
        }
        for n in 0..LIMIT {
            assert_eq!(it.event(Started, &n.to_string(), 59).await, [], "{n}");
        }
        assert!(it.order.objects.len() <= LIMIT);
        tokio::time::advance(Duration::from_secs(1)).await;
        let now = i64::try_from(it.clock.now().since(it.since).as_secs()).unwrap();
        assert_eq!(it.event(Started, "new", now).await, [("new".into(), Created)]);
    }
}
