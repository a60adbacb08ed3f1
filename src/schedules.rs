//! What holds however the threads of plegd take turns.
//!
//! The real cache, journal, arbiter and watches run here under [shuttle](https://docs.rs/shuttle): its locks and its map
//! take the place of parking_lot's and dashmap's (see the crate's root, nothing else is changed), one thread runs at a
//! time, and at each lock a seeded scheduler decides who goes on. A wake-up that is lost shows as a deadlock, which the
//! scheduler reports. Not under its control: atomics, `arc-swap` and tokio's channels, which it takes as one step each.
//!
//! ```text
//! cargo test --lib --features shuttle schedules::
//! ```
//!
//! `PLEGD_SCHEDULES` says how many schedules each test tries. A failure prints its schedule, to be given to
//! `shuttle::replay`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shuttle::{
    future::block_on,
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::{
    arbiter::Arbiter,
    cache::Cache,
    clock::{Clock, Mono, Wall},
    cri::quirks::Quirks,
    journal::{Capacity, Journal},
    metrics::Metrics,
    model::*,
    path_comparison::PathComparison,
    model::FollowerStatus,
    watch::{Feed, Filter, GapReason, Request, Start, Update, WatchError},
};

/// How many schedules are tried by each of two schedulers, unless `PLEGD_SCHEDULES` says otherwise.
const SCHEDULES: usize = 500;
/// How many times at most the second scheduler takes the turn from a thread that could go on.
const PREEMPTIONS: usize = 3;

/// Tries schedules: random ones, and such with few changes of turn, which find what needs a certain one.
fn on_every_schedule(test: fn()) {
    let schedules = std::env::var("PLEGD_SCHEDULES").ok().map(|it| it.parse().expect("a number"));
    let schedules = schedules.unwrap_or(SCHEDULES);
    // Timers are made and never due: what these tests wait for is never time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime for timers");
    let _guard = runtime.enter();
    let random = RandomScheduler::new_from_seed(1, schedules);
    shuttle::Runner::new(random, shuttle::Config::new()).run(test);
    let few = PctScheduler::new_from_seed(2, PREEMPTIONS, schedules);
    shuttle::Runner::new(few, shuttle::Config::new()).run(test);
}

/// plegd without a runtime: what is said to it, the tests say.
struct Node {
    arbiter: Arc<Arbiter>,
    cache: Cache,
    journal: Journal,
    feed: Feed,
    stop: CancellationToken,
    /// Ends the watches if it is dropped.
    _situation: channel::Sender<FollowerStatus>,
}

impl Node {
    fn new(events: usize) -> Self {
        let (clock, _) = Clock::simulated(wall(0));
        let metrics = Arc::new(Metrics::new());
        let journal = Journal::new(Capacity { events, bytes: usize::MAX }, 7);
        let paths = PathComparison::new(metrics.clone());
        let arbiter = Arbiter::new(journal.clone(), paths, clock.clone(), metrics);
        arbiter.set_quirks(Quirks::of("containerd", "2.3.0"));
        let (follower_status, situations) = channel::channel(FollowerStatus {
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
        let feed = Feed::new(journal.clone(), cache.clone(), situations, clock, stop.clone());
        Self { arbiter: Arc::new(arbiter), cache, journal, feed, stop, _situation: follower_status }
    }

    /// Says these one after the other, as one of plegd's tasks does.
    fn says(&self, observations: Vec<Observation>) -> thread::JoinHandle<()> {
        let arbiter = self.arbiter.clone();
        thread::spawn(move || observations.iter().for_each(|it| drop(arbiter.apply(it))))
    }

    /// A subscriber that keeps what it is told, until plegd ends.
    fn subscriber(&self, feed: Feed) -> thread::JoinHandle<Subscriber> {
        let (cache, journal) = (self.cache.clone(), self.journal.clone());
        thread::spawn(move || {
            let mut subscriber = Subscriber::default();
            let request = Request { start: Start::Snapshot, ..Request::default() };
            let mut watch = feed.watch(request).expect("a watch");
            loop {
                match block_on(watch.next()) {
                    Ok(update) => subscriber.hear(update, &cache),
                    Err(WatchError::Ending) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(subscriber.next, journal.head() + 1, "all has been told");
            subscriber
        })
    }

    /// What is served in the end, by pod.
    fn served(&self) -> BTreeMap<String, Arc<Pod>> {
        self.cache.list().into_iter().map(|pod| (pod.identity.uid.to_string(), pod)).collect()
    }

    /// All that was told, if the journal still has it.
    fn told(&self) -> Vec<(String, EventType)> {
        let mut cursor = self.journal.cursor(0);
        let mut told = Vec::new();
        while let Some(record) = cursor.try_next().expect("all is held") {
            assert_eq!(record.sequence, told.len() as u64 + 1);
            told.push((record.id.to_string(), record.kind));
        }
        told
    }
}

/// What a subscriber has put together.
#[derive(Default)]
struct Subscriber {
    pods: BTreeMap<String, Arc<Pod>>,
    /// Number of the event that must come next.
    next: u64,
    in_snapshot: bool,
    gaps: usize,
}

impl Subscriber {
    fn hear(&mut self, update: Update, cache: &Cache) {
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
                assert!(position.sequence + 1 >= self.next, "a snapshot never goes back");
                for pod in self.pods.values() {
                    assert!(pod.sequence <= position.sequence, "{pod:?} is ahead of {position}");
                }
                (self.next, self.in_snapshot) = (position.sequence + 1, false);
            }
            Update::Event { record, .. } => {
                assert_eq!(record.sequence, self.next, "none is lost, none comes twice");
                self.next += 1;
                let uid = record.event.pod.uid.clone();
                let old = match &record.pod {
                    Some(pod) => self.pods.insert(uid.to_string(), pod.clone()),
                    None => self.pods.remove(uid.as_str()),
                };
                if let (Some(old), Some(pod)) = (old, &record.pod) {
                    assert!(old.sequence <= pod.sequence, "a pod never goes back");
                }
                if let (Some(pod), Some(served)) = (&record.pod, cache.get(&uid)) {
                    assert!(served.sequence >= pod.sequence, "older than its last event is served");
                }
            }
            Update::Bookmark(position) => assert_eq!(position.sequence + 1, self.next),
            Update::Mode { .. } => {}
        }
    }
}

fn at(ms: u64) -> Mono {
    // Within the week before the clock was made, so that all of it is in the past.
    Mono::from_nanos((1000 + ms) * 1_000_000)
}

fn wall(ms: u64) -> Wall {
    Wall::from_nanos(1_800_000_000_000_000_000 + ms as i64 * 1_000_000)
}

fn identity(uid: &str) -> PodIdentity {
    PodIdentity { uid: uid.into(), namespace: "ns".into(), name: uid.into() }
}

/// A read of a pod at `ms`, which sees one container like this, or does not find it.
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
    let stamp = Stamp { lower: Some(at(ms)), upper: at(ms + 1) };
    Observation {
        containers: state.map(container).map(Arc::new).into_iter().collect(),
        absent: if state.is_none() { vec![id.into()] } else { Vec::new() },
        ..Observation::read(Source::Read, stamp, wall(ms), identity(uid))
    }
}

/// A whole life, read step by step.
fn life(uid: &str, id: &str, from: u64) -> Vec<Observation> {
    use ContainerState::{Created, Exited, Running};
    let steps = [Some(Created), Some(Running), Some(Exited), None];
    steps.into_iter().zip(0u64..).map(|(state, n)| read(uid, from + 10 * n, id, state)).collect()
}

const LIFE: [EventType; 4] = [
    EventType::ContainerChanged,
    EventType::ContainerStarted,
    EventType::ContainerDied,
    EventType::ContainerRemoved,
];

fn of<'a>(told: &'a [(String, EventType)], id: &'a str) -> Vec<EventType> {
    told.iter().filter(|(of, _)| of == id).map(|(_, kind)| *kind).collect()
}

#[test]
fn a_snapshot_and_what_follows_are_exact_beside_those_who_append() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let mut lasting = life("two", "b", 100);
        lasting.truncate(3);
        let writers = [node.says(life("one", "a", 100)), node.says(lasting)];
        let subscribers = [node.subscriber(node.feed.clone()), node.subscriber(node.feed.clone())];
        writers.into_iter().for_each(|writer| writer.join().expect("settles"));
        node.stop.cancel();
        for subscriber in subscribers {
            assert_eq!(subscriber.join().expect("watches").pods, node.served());
        }
        assert_eq!(node.served().len(), 1);
        assert_eq!((of(&node.told(), "a"), of(&node.told(), "b")), (LIFE.to_vec(), LIFE[..3].to_vec()));
    });
}

#[test]
fn who_falls_off_the_ring_gets_a_gap_and_is_exact_again() {
    on_every_schedule(|| {
        let node = Node::new(2);
        let subscriber = node.subscriber(node.feed.clone());
        let writers = [node.says(life("one", "a", 100)), node.says(life("two", "b", 100))];
        writers.into_iter().for_each(|writer| writer.join().expect("settles"));
        node.stop.cancel();
        assert_eq!(subscriber.join().expect("watches").pods, node.served());
    });
}

#[test]
fn a_relayed_watch_misses_no_wake_up() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let (feed, relay) = node.feed.clone().with_fanout();
        let relay = thread::spawn(move || block_on(relay));
        let subscriber = thread::spawn({
            let journal = node.journal.clone();
            move || {
                let request = Request { start: Start::Oldest, ..Request::default() };
                let mut watch = feed.watch(request).expect("a watch");
                let mut told = 0;
                // Without the token: only wake-ups get it on.
                while told < 4 {
                    if let Update::Event { record, .. } = block_on(watch.next()).expect("an update") {
                        told += 1;
                        assert_eq!(record.sequence, told);
                    }
                }
                assert_eq!(journal.head(), 4);
            }
        });
        node.says(life("one", "a", 100)).join().expect("settles");
        subscriber.join().expect("is woken up");
        node.stop.cancel();
        relay.join().expect("relays");
    });
}

#[test]
fn what_both_paths_say_of_a_pod_is_told_once_and_in_order() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let writers = [node.says(life("one", "a", 100)), node.says(life("one", "a", 105))];
        writers.into_iter().for_each(|writer| writer.join().expect("settles"));
        let told = of(&node.told(), "a");
        let mut once = told.clone();
        once.dedup();
        assert!(
            told == once && told.is_sorted_by_key(|kind| LIFE.iter().position(|step| step == kind)),
            "{told:?}"
        );
        assert_eq!(told.last(), Some(&EventType::ContainerRemoved));
        assert_eq!((node.cache.identities().len(), node.cache.pod_of("a")), (0, None));
        assert_eq!(node.arbiter.tombstones(), 1);
    });
}

#[test]
fn a_pod_that_goes_and_comes_back_is_one_pod() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let mut first = life("one", "a", 100);
        let last = first.split_off(3);
        first.iter().for_each(|it| drop(node.arbiter.apply(it)));
        let subscriber = node.subscriber(node.feed.clone());
        // One leaves nothing of the pod; the other finds it anew meanwhile.
        let mut second = life("one", "b", 100);
        second.truncate(2);
        let writers = [node.says(last), node.says(second)];
        writers.into_iter().for_each(|writer| writer.join().expect("settles"));
        node.stop.cancel();
        let served = node.served();
        assert_eq!(subscriber.join().expect("watches").pods, served);
        let containers: Vec<&str> = served["one"].containers.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(containers, ["b"]);
        assert_eq!(node.cache.pod_of("b"), Some(identity("one")));
        assert_eq!((of(&node.told(), "a"), of(&node.told(), "b")), (LIFE.to_vec(), LIFE[..2].to_vec()));
    });
}

#[test]
fn a_cursor_that_finds_nothing_and_then_waits_misses_no_wake_up() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let mut cursor = node.journal.cursor(0);
        let reader = thread::spawn(move || {
            let mut told = 0;
            while told < 4 {
                match cursor.try_next().expect("all is held") {
                    Some(record) => {
                        told += 1;
                        assert_eq!(record.sequence, told);
                    }
                    None => {
                        // Whoever appends may come right between the look and the wait.
                        thread::yield_now();
                        block_on(cursor.ready());
                    }
                }
            }
        });
        node.says(life("one", "a", 100)).join().expect("settles");
        reader.join().expect("is woken up");
    });
}

#[test]
fn a_still_look_agrees_with_the_head() {
    on_every_schedule(|| {
        let node = Node::new(100);
        let writer = node.says(life("one", "a", 100));
        let looker = thread::spawn({
            let feed = node.feed.clone();
            move || {
                let mut last = 0;
                for _ in 0..4 {
                    let (position, pods) = feed.snapshot(&Filter::default());
                    assert!(position.sequence >= last);
                    last = position.sequence;
                    // One event a change: what is served is of the head, until the pod is gone with the fourth.
                    let served = pods.first().map(|pod| pod.sequence);
                    assert_eq!(served, (1..4).contains(&last).then_some(last));
                }
            }
        });
        writer.join().expect("settles");
        looker.join().expect("looks");
    });
}
