//! Tests of arbitrary interleavings of plegd's threads.
//!
//! The real cache, journal, arbiter and watches run here under [shuttle](https://docs.rs/shuttle). Its locks and its map replace those of
//! parking_lot and dashmap (see the crate's root); nothing else is changed. One thread runs at a time, and at each lock a seeded
//! scheduler chooses the next one. A lost wake-up leads to a deadlock, which the scheduler reports. Atomics, `arc-swap` and tokio's
//! channels are not under its control: each operation on them is one step.
//!
//! ```text
//! cargo test --lib --features shuttle schedules::
//! ```
//!
//! `PLEGD_SCHEDULES` is the number of schedules for each test. A failure prints its schedule, which `shuttle::replay` runs again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shuttle::{
    future::block_on,
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::{
    arbiter::{Arbiter, ArbiterDeps},
    cache::Cache,
    clock::{Clock, Mono, Wall},
    cri::quirks::Quirks,
    journal::{Capacity, Journal},
    metrics::Metrics,
    model::*,
    path_comparison::PathComparison,
    watch::{Feed, FeedDeps, Filter, GapReason, Request, Start, Update, WatchError},
};

/// Number of schedules that each of the two schedulers runs, unless `PLEGD_SCHEDULES` is set.
const SCHEDULES: usize = 500;
/// Maximum number of preemptions by the second scheduler.
const PREEMPTIONS: usize = 3;

/// Runs a test under random schedules, and under schedules with few preemptions, which find bugs that require a specific preemption.
fn on_every_schedule(test: fn()) {
    let schedules = std::env::var("PLEGD_SCHEDULES").ok().map(|it| it.parse().expect("a number"));
    let schedules = schedules.unwrap_or(SCHEDULES);
    // Timers are never due: these tests do not wait for time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime for timers");
    let _guard = runtime.enter();
    let random = RandomScheduler::new_from_seed(1, schedules);
    shuttle::Runner::new(random, shuttle::Config::new()).run(test);
    let few = PctScheduler::new_from_seed(2, PREEMPTIONS, schedules);
    shuttle::Runner::new(few, shuttle::Config::new()).run(test);
}

/// plegd without a runtime: the tests provide the observations.
struct Node {
    arbiter: Arc<Arbiter>,
    cache: Cache,
    journal: Journal,
    feed: Feed,
    stop: CancellationToken,
    /// Ends the watches if it is dropped.
    _follower_status: channel::Sender<FollowerStatus>,
}

impl Node {
    fn new(events: usize) -> Self {
        let (clock, _) = Clock::simulated(wall(0));
        let metrics = Arc::new(Metrics::new());
        let journal = Journal::new(Capacity { events, bytes: usize::MAX }, 7);
        let paths = PathComparison::new(metrics.clone());
        let arbiter = Arbiter::new(ArbiterDeps {
            journal: journal.clone(),
            paths,
            clock: clock.clone(),
            metrics,
            state: None,
        });
        arbiter.set_quirks(Quirks::of("containerd", "2.3.0"));
        let (sender, follower_status) = channel::channel(FollowerStatus {
            ready: true,
            mode: Mode::Evented,
            mode_since: wall(0),
            period: Duration::from_secs(1),
            runtime: None,
            stream_up: None,
            stream_since: wall(0),
            stream: String::new(),
            failures: None,
            yielded: None,
        });
        let stop = CancellationToken::new();
        let cache = arbiter.cache().clone();
        let feed = Feed::new(FeedDeps {
            journal: journal.clone(),
            cache: cache.clone(),
            follower_status,
            clock,
            stop: stop.clone(),
        });
        Self { arbiter: Arc::new(arbiter), cache, journal, feed, stop, _follower_status: sender }
    }

    /// Applies observations one after the other, as one task of plegd does.
    fn apply(&self, observations: Vec<Observation>) -> thread::JoinHandle<()> {
        let arbiter = self.arbiter.clone();
        thread::spawn(move || observations.iter().for_each(|it| drop(arbiter.apply(it))))
    }

    /// A subscriber that maintains the pods by its updates, until plegd shuts down.
    fn subscriber(&self, feed: Feed) -> thread::JoinHandle<Subscriber> {
        let (cache, journal) = (self.cache.clone(), self.journal.clone());
        thread::spawn(move || {
            let mut subscriber = Subscriber::default();
            let request = Request { start: Start::Snapshot, ..Request::default() };
            let mut watch = feed.watch(request).expect("a watch");
            loop {
                match block_on(watch.next()) {
                    Ok(update) => subscriber.apply(update, &cache),
                    Err(WatchError::Ending) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(subscriber.next, journal.head() + 1, "all events were delivered");
            subscriber
        })
    }

    /// The served pods, by UID.
    fn served(&self) -> BTreeMap<String, Arc<Pod>> {
        self.cache.list().into_iter().map(|pod| (pod.identity.uid.to_string(), pod)).collect()
    }

    /// All published events.
    fn published(&self) -> Vec<(String, EventType)> {
        let mut cursor = self.journal.cursor(0);
        let mut published = Vec::new();
        while let Some(record) = cursor.try_next().expect("no event was evicted") {
            assert_eq!(record.sequence, published.len() as u64 + 1);
            published.push((record.id.to_string(), record.kind));
        }
        published
    }
}

/// The state of a subscriber.
#[derive(Default)]
struct Subscriber {
    pods: BTreeMap<String, Arc<Pod>>,
    /// Number of the next event.
    next: u64,
    in_snapshot: bool,
    gaps: usize,
}

impl Subscriber {
    fn apply(&mut self, update: Update, cache: &Cache) {
        match update {
            Update::Hello(_) => self.in_snapshot = true,
            Update::Gap(gap) => {
                assert_eq!((gap.reason, gap.from), (GapReason::Compacted, self.next));
                self.gaps += 1;
                self.in_snapshot = true;
                self.pods.clear();
            }
            Update::Pod(pod) => {
                assert!(self.in_snapshot);
                self.pods.insert(pod.identity.uid.to_string(), pod);
            }
            Update::SnapshotEnd { position, pods } => {
                assert_eq!(pods, self.pods.len());
                assert!(position.sequence + 1 >= self.next, "a snapshot is not older than earlier updates");
                for pod in self.pods.values() {
                    assert!(pod.sequence <= position.sequence, "{pod:?} is ahead of {position}");
                }
                (self.next, self.in_snapshot) = (position.sequence + 1, false);
            }
            Update::Event { record, .. } => {
                assert_eq!(record.sequence, self.next, "no event is lost or delivered twice");
                self.next += 1;
                let uid = record.event.pod.uid.clone();
                let old = match &record.pod {
                    Some(pod) => self.pods.insert(uid.to_string(), pod.clone()),
                    None => self.pods.remove(uid.as_str()),
                };
                if let (Some(old), Some(pod)) = (old, &record.pod) {
                    assert!(old.sequence <= pod.sequence, "the sequence of a pod never decreases");
                }
                if let (Some(pod), Some(served)) = (&record.pod, cache.get(&uid)) {
                    assert!(
                        served.sequence >= pod.sequence,
                        "the served pod is not older than its last event"
                    );
                }
            }
            Update::Bookmark(position) => assert_eq!(position.sequence + 1, self.next),
            Update::Mode { .. } => {}
            Update::Restarted(restart) => unreachable!("nothing restarts plegd: {restart:?}"),
        }
    }
}

fn at(ms: u64) -> Mono {
    // Within the week before the creation of the clock, so that all moments are in the past.
    Mono::from_nanos((1000 + ms) * 1_000_000)
}

fn wall(ms: u64) -> Wall {
    Wall::from_nanos(1_800_000_000_000_000_000 + ms as i64 * 1_000_000)
}

fn identity(uid: &str) -> PodIdentity {
    PodIdentity { uid: uid.into(), namespace: "ns".into(), name: uid.into() }
}

/// A read of a pod at `ms` that finds one container in this state, or no container.
fn read(uid: &str, ms: u64, id: &str, state: Option<ContainerState>) -> Observation {
    let phase = state.and_then(ContainerState::phase);
    let container = |state| ContainerStatus {
        id: id.into(),
        sandbox_id: "s".into(),
        name: "c".into(),
        attempt: 0,
        state,
        created_at: Some(wall(1)),
        started_at: (phase >= Some(Phase::Running)).then(|| wall(2)),
        finished_at: (phase >= Some(Phase::Exited)).then(|| wall(3)),
        exit_code: (phase >= Some(Phase::Exited)).then_some(0),
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        labels: Labels::new(),
        annotations: Labels::new(),
    };
    let interval = Interval { lower: Some(at(ms)), upper: at(ms + 1) };
    Observation {
        containers: state.map(container).map(Arc::new).into_iter().collect(),
        absent: if state.is_none() { vec![id.into()] } else { Vec::new() },
        ..Observation::read(Source::Read, interval, wall(ms), identity(uid))
    }
}

/// All phases of a container and its removal, one read for each.
fn history(uid: &str, id: &str, from: u64) -> Vec<Observation> {
    use ContainerState::{Created, Exited, Running};
    let steps = [Some(Created), Some(Running), Some(Exited), None];
    steps.into_iter().zip(0u64..).map(|(state, n)| read(uid, from + 10 * n, id, state)).collect()
}

const HISTORY: [EventType; 4] = [
    EventType::ContainerChanged,
    EventType::ContainerStarted,
    EventType::ContainerDied,
    EventType::ContainerRemoved,
];

fn of<'a>(events: &'a [(String, EventType)], id: &'a str) -> Vec<EventType> {
    events.iter().filter(|(of, _)| of == id).map(|(_, kind)| *kind).collect()
}

#[test]
fn a_snapshot_and_the_changes_after_it_are_exact_while_others_append() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let mut running = history("two", "b", 100);
        running.truncate(3);
        let writers = [node.apply(history("one", "a", 100)), node.apply(running)];
        let subscribers = [node.subscriber(node.feed.clone()), node.subscriber(node.feed.clone())];
        writers.into_iter().for_each(|writer| writer.join().expect("applies"));
        node.stop.cancel();
        for subscriber in subscribers {
            assert_eq!(subscriber.join().expect("watches").pods, node.served());
        }
        assert_eq!(node.served().len(), 1);
        assert_eq!(
            (of(&node.published(), "a"), of(&node.published(), "b")),
            (HISTORY.to_vec(), HISTORY[..3].to_vec())
        );
    });
}

#[test]
fn a_subscriber_that_falls_behind_gets_a_gap_and_is_exact_again() {
    on_every_schedule(|| {
        let node = Node::new(2);
        let subscriber = node.subscriber(node.feed.clone());
        let writers = [node.apply(history("one", "a", 100)), node.apply(history("two", "b", 100))];
        writers.into_iter().for_each(|writer| writer.join().expect("applies"));
        node.stop.cancel();
        assert_eq!(subscriber.join().expect("watches").pods, node.served());
    });
}

#[test]
fn a_watch_with_fanout_misses_no_wake_up() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let (feed, fanout) = node.feed.clone().with_fanout();
        let fanout = thread::spawn(move || block_on(fanout));
        let subscriber = thread::spawn({
            let journal = node.journal.clone();
            move || {
                let request = Request { start: Start::Oldest, ..Request::default() };
                let mut watch = feed.watch(request).expect("a watch");
                let mut delivered = 0;
                // The token is not cancelled: only wake-ups lead to the next update.
                while delivered < 4 {
                    if let Update::Event { record, .. } = block_on(watch.next()).expect("an update") {
                        delivered += 1;
                        assert_eq!(record.sequence, delivered);
                    }
                }
                assert_eq!(journal.head(), 4);
            }
        });
        node.apply(history("one", "a", 100)).join().expect("applies");
        subscriber.join().expect("is woken up");
        node.stop.cancel();
        fanout.join().expect("forwards");
    });
}

#[test]
fn the_observations_of_both_paths_are_published_once_and_in_order() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let writers = [node.apply(history("one", "a", 100)), node.apply(history("one", "a", 105))];
        writers.into_iter().for_each(|writer| writer.join().expect("applies"));
        let published = of(&node.published(), "a");
        let mut once = published.clone();
        once.dedup();
        assert!(
            published == once
                && published.is_sorted_by_key(|kind| HISTORY.iter().position(|step| step == kind)),
            "{published:?}"
        );
        assert_eq!(published.last(), Some(&EventType::ContainerRemoved));
        assert_eq!((node.cache.identities().len(), node.cache.pod_of("a")), (0, None));
        assert_eq!(node.arbiter.tombstones(), 1);
    });
}

#[test]
fn a_pod_that_is_removed_and_found_again_is_one_pod() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let mut first = history("one", "a", 100);
        let last = first.split_off(3);
        first.iter().for_each(|it| drop(node.arbiter.apply(it)));
        let subscriber = node.subscriber(node.feed.clone());
        // One thread removes the pod, while another finds it again.
        let mut second = history("one", "b", 100);
        second.truncate(2);
        let writers = [node.apply(last), node.apply(second)];
        writers.into_iter().for_each(|writer| writer.join().expect("applies"));
        node.stop.cancel();
        let served = node.served();
        assert_eq!(subscriber.join().expect("watches").pods, served);
        let containers: Vec<&str> = served["one"].containers.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(containers, ["b"]);
        assert_eq!(node.cache.pod_of("b"), Some(identity("one")));
        assert_eq!(
            (of(&node.published(), "a"), of(&node.published(), "b")),
            (HISTORY.to_vec(), HISTORY[..2].to_vec())
        );
    });
}

#[test]
fn a_cursor_that_finds_no_event_and_then_waits_misses_no_wake_up() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let mut cursor = node.journal.cursor(0);
        let reader = thread::spawn(move || {
            let mut delivered = 0;
            while delivered < 4 {
                match cursor.try_next().expect("no event was evicted") {
                    Some(record) => {
                        delivered += 1;
                        assert_eq!(record.sequence, delivered);
                    }
                    None => {
                        // An event may be appended between the check and the wait.
                        thread::yield_now();
                        block_on(cursor.ready());
                    }
                }
            }
        });
        node.apply(history("one", "a", 100)).join().expect("applies");
        reader.join().expect("is woken up");
    });
}

#[test]
fn a_snapshot_agrees_with_the_head() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let writer = node.apply(history("one", "a", 100));
        let reader = thread::spawn({
            let feed = node.feed.clone();
            move || {
                let mut last = 0;
                for _ in 0..4 {
                    let (position, pods) = feed.snapshot(&Filter::default());
                    assert!(position.sequence >= last);
                    last = position.sequence;
                    // Each change has one event. The served pod is that of the head, until the fourth event removes it.
                    let served = pods.first().map(|pod| pod.sequence);
                    assert_eq!(served, (1..4).contains(&last).then_some(last));
                }
            }
        });
        writer.join().expect("applies");
        reader.join().expect("reads");
    });
}
