//! Finds events that a stream left out, by the order of the events of one container or sandbox.
//!
//! Of an object that was created while the stream was up, CREATED comes first, and STARTED before STOPPED or soon after it
//! (containerd#7111). Where one is missing on a channel that subscribers share, another subscriber has received it. That shows
//! with the next event already, where a relist takes seconds. Pure: it has no clock but the one that maps stamps.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::{Clock, Mono, Stamped, Wall},
    model::{ObjectId, Observation, StreamEventType},
};

/// Objects that were created so soon after the stream was up are not judged: stamps and subscription are not that exact.
const MARGIN: Duration = Duration::from_secs(1);
/// How long after STOPPED a STARTED may come that it has overtaken. The runtimes send both within milliseconds.
const OVERTAKEN: Duration = Duration::from_secs(1);
/// How many objects are remembered. Past that all are forgotten, and only objects created from then on are judged.
const REMEMBERED: usize = 4096;

/// What one stream has delivered so far.
#[derive(Debug)]
pub struct EventOrder {
    clock: Clock,
    /// Since when its order is judged: since the stream is up, or later.
    since: Mono,
    /// Only objects created after this moment are judged.
    from: Mono,
    /// Objects of which an event came.
    objects: HashMap<ObjectId, Seen>,
    /// Objects that have stopped without STARTED, and until when it may come.
    stopped: VecDeque<(ObjectId, Mono)>,
}

/// Which events of an object have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// CREATED, and not STARTED.
    Created,
    /// STARTED, or it is known not to come.
    Started,
}

/// Which objects a runtime sends all events of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complete {
    /// Of containers and sandboxes.
    All,
    /// Of containers only (CRI-O).
    Containers,
}

// === impl EventOrder ===

impl EventOrder {
    /// An order that is judged by the times that this clock maps.
    pub fn new(clock: Clock) -> Self {
        Self { clock, since: Mono::ZERO, from: Mono::ZERO, objects: HashMap::new(), stopped: VecDeque::new() }
    }

    /// Takes the next event of a stream whose order is judged `since` a moment, which is another one for another stream. Says
    /// which events it shows to be left out.
    pub fn take(
        &mut self,
        since: Mono,
        complete: Complete,
        event: &Observation,
        now: Mono,
    ) -> Vec<(ObjectId, StreamEventType)> {
        if self.since != since {
            self.since = since;
            self.begin(since + MARGIN);
        }
        let Some(signal) = &event.stream_event else { return Vec::new() };
        let mut left_out = self.overdue(now);
        let created =
            self.clock.to_monotonic(created_at(event, &signal.id, complete).unwrap_or_default(), now);
        if !matches!(created, Stamped::At(at) if at > self.from) {
            return left_out;
        }
        if self.objects.len() >= REMEMBERED {
            self.begin(now);
            return left_out;
        }
        let seen = self.objects.get(&signal.id).copied();
        match (signal.kind, seen) {
            (StreamEventType::Created, _) => {
                self.objects.entry(signal.id.clone()).or_insert(Seen::Created);
            }
            (StreamEventType::Stopped, Some(Seen::Created)) => {
                self.stopped.push_back((signal.id.clone(), now + OVERTAKEN));
            }
            (StreamEventType::Deleted, Some(_)) => {}
            (_, seen) => {
                if seen.is_none() {
                    left_out.push((signal.id.clone(), StreamEventType::Created));
                }
                self.objects.insert(signal.id.clone(), Seen::Started);
            }
        }
        left_out
    }

    fn begin(&mut self, from: Mono) {
        self.from = from;
        self.objects.clear();
        self.stopped.clear();
    }

    /// Objects whose STARTED has not come although they have stopped, and its time is over.
    fn overdue(&mut self, now: Mono) -> Vec<(ObjectId, StreamEventType)> {
        let mut left_out = Vec::new();
        while self.stopped.front().is_some_and(|(_, until)| *until <= now) {
            let Some((id, _)) = self.stopped.pop_front() else { break };
            if self.objects.insert(id.clone(), Seen::Started) == Some(Seen::Created) {
                left_out.push((id, StreamEventType::Started));
            }
        }
        left_out
    }
}

/// When the object that an event is about was created, if the event says so.
fn created_at(event: &Observation, id: &ObjectId, complete: Complete) -> Option<Wall> {
    let container = event.containers.iter().find(|container| container.id == *id);
    if let Some(container) = container {
        return container.created_at;
    }
    let sandbox = event.sandboxes.iter().find(|sandbox| sandbox.id == *id);
    sandbox.filter(|_| complete == Complete::All)?.created_at
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
        complete: Complete,
    }

    impl Stream {
        async fn up() -> Self {
            let clock = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0;
            let since = clock.now();
            let mut stream =
                Self { order: EventOrder::new(clock.clone()), clock, since, complete: Complete::All };
            // The first event is the one by which it notices that the stream is up.
            assert_eq!(stream.event(Created, "before", -60).await, []);
            tokio::time::advance(Duration::from_secs(60)).await;
            stream
        }

        /// After 10 ms, an event about a container that was created so many seconds after the stream was up.
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
            self.take(observation(kind, id, vec![Arc::new(container)], vec![]))
        }

        /// The same about a sandbox.
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
            self.take(observation(kind, id, vec![], vec![Arc::new(sandbox)])).len()
        }

        fn take(&mut self, event: Observation) -> Vec<(ObjectId, StreamEventType)> {
            self.order.take(self.since, self.complete, &event, self.clock.now())
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
        let signal = StreamEvent { id: id.into(), kind, stamped_at: None };
        let event = Observation::event(signal, Mono::ZERO, Wall::default(), pod());
        Observation { sandboxes, containers, ..event }
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_life_leaves_nothing_out() {
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
    async fn what_comes_before_created_shows_that_created_went_elsewhere() {
        let mut it = Stream::up().await;
        for (kind, id) in [(Started, "a"), (Stopped, "b"), (Deleted, "c")] {
            assert_eq!(it.event(kind, id, 59).await, [(id.into(), Created)]);
            assert_eq!(it.event(kind, id, 59).await, [], "once");
        }
        assert_eq!(it.of_sandbox(Started, "s", 59).await, 1);
        it.complete = Complete::Containers;
        assert_eq!(it.of_sandbox(Started, "t", 59).await, 0, "a runtime that sends no CREATED of sandboxes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_without_a_start_shows_it_once_the_start_can_come_no_more() {
        let mut it = Stream::up().await;
        for id in ["a", "b"] {
            it.event(Created, id, 59).await;
            assert_eq!(it.event(Stopped, id, 59).await, []);
        }
        assert_eq!(it.event(Started, "b", 59).await, [], "containerd#7111");
        assert_eq!(it.event(Created, "c", 60).await, []);
        tokio::time::advance(OVERTAKEN).await;
        assert_eq!(it.event(Created, "d", 61).await, [("a".into(), Started)]);
        assert_eq!(it.event(Created, "e", 61).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_created_before_the_stream_was_up_or_right_after_it_is_not_judged() {
        let mut it = Stream::up().await;
        for created in [-3600, 0, 1] {
            assert_eq!(it.event(Started, &format!("{created}"), created).await, []);
        }
        assert_eq!(it.event(Started, "unknown", -1_800_000_000).await, [], "no time at all");
        assert_eq!(it.event(Started, "later", 3_600).await, [], "a time to come");
        assert_eq!(it.event(Started, "a", 2).await, [("a".into(), Created)]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_stream_begins_anew() {
        let mut it = Stream::up().await;
        it.event(Created, "a", 59).await;
        it.since = it.clock.now();
        assert_eq!(it.event(Started, "a", 59).await, [], "its CREATED came over the stream before");
    }

    #[tokio::test(start_paused = true)]
    async fn past_so_many_objects_all_are_forgotten_and_none_is_accused() {
        let mut it = Stream::up().await;
        for n in 0..REMEMBERED {
            assert_eq!(it.event(Created, &n.to_string(), 59).await, []);
        }
        for n in 0..REMEMBERED {
            assert_eq!(it.event(Started, &n.to_string(), 59).await, [], "{n}");
        }
        assert!(it.order.objects.len() <= REMEMBERED);
        tokio::time::advance(Duration::from_secs(1)).await;
        let now = i64::try_from(it.clock.now().since(it.since).as_secs()).unwrap();
        assert_eq!(it.event(Started, "new", now).await, [("new".into(), Created)]);
    }
}
