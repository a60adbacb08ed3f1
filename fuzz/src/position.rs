//! Watches from any position during churn: exactly the following events, or a gap and a snapshot, or an error; never
//! a silent loss.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use plegd::{
    api::v1,
    clock::Clock,
    fuzzing,
    journal::{Capacity, Record},
    model::{
        ContainerState, ContainerStatus, FollowerStatus, Interval, Labels, Mode, Observation, Pod,
        PodIdentity, PodUid, Position, Source,
    },
    watch::{Feed, FeedDeps, Filter, Gap, GapReason, SlowPolicy, Start, Update, Watch, WatchError},
};
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    harness::{EPOCH, Harness, NOON, in_paused_time},
    input::Input,
    proto,
};

const PODS: [&str; 3] = ["p0", "p1", "p2"];
const STEPS: usize = 300;
const WATCHES: usize = 4;

/// Runs one input.
pub fn check(bytes: &[u8]) {
    in_paused_time(run(Input::new(bytes)));
}

/// The initial inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    super::seeds::of_choices(32, 500)
}

/// A small journal, its watches, and all events published so far.
struct Setup {
    harness: Harness,
    feed: Feed,
    all: Vec<Arc<Record>>,
    watches: Vec<Watcher>,
    containers: u32,
}

/// A watch, and the expected next update.
struct Watcher {
    watch: Watch,
    filter: Filter,
    policy: SlowPolicy,
    expected: Expected,
}

#[derive(Clone, Debug)]
enum Expected {
    /// Hello, then the updates for this start.
    Hello(Start),
    /// A gap for this reason after this position (or the end of the watch), then a snapshot.
    Gap(GapReason, Position),
    /// Further pods of a snapshot, or its end.
    Snapshot(BTreeMap<PodUid, Arc<Pod>>),
    /// Events after this number; the number of skipped events by pod.
    After(u64, BTreeMap<PodUid, u64>),
    /// Nothing.
    Closed,
}

async fn run(mut input: Input<'_>) {
    let capacity = Capacity { events: 3 + input.below(14), bytes: 1 << 30 };
    let harness = Harness::with(capacity);
    let stop = CancellationToken::new();
    let (_status_tx, follower_status) = watch::channel(follower_status(&harness.clock));
    let feed = Feed::new(FeedDeps {
        journal: harness.journal.clone(),
        cache: harness.cache.clone(),
        follower_status,
        clock: harness.clock.clone(),
        stop,
    });
    let mut setup = Setup { harness, feed, all: Vec::new(), watches: Vec::new(), containers: 0 };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0 => setup.open(&mut input),
            1..=4 => setup.change(&mut input).await,
            _ => setup.take(&mut input),
        }
    }
    for at in 0..setup.watches.len() {
        setup.take_all(at);
    }
}

fn follower_status(clock: &Clock) -> FollowerStatus {
    let (at, wall) = clock.now_both();
    FollowerStatus {
        ready: true,
        mode: Mode::Polling,
        mode_since: wall,
        period: Duration::from_secs(1),
        runtime: None,
        stream_up: Some(at),
        stream_since: wall,
        stream: String::new(),
        failures: None,
        yielded: None,
    }
}

// === impl Setup ===

impl Setup {
    /// Advances a container of a pod, or creates one.
    async fn change(&mut self, input: &mut Input<'_>) {
        self.harness.pass(Duration::from_secs(1)).await;
        let uid = input.pick(&PODS);
        let pod = self.harness.cache.get(&uid.into());
        let last = pod.as_ref().and_then(|pod| pod.containers.first().cloned());
        let observation = match (last, input.below(3)) {
            (Some(last), 0) => self.read(uid, None, Some(&last)),
            (Some(last), 1) => {
                let state = match last.state {
                    ContainerState::Created => ContainerState::Running,
                    _ => ContainerState::Exited,
                };
                self.read(uid, Some(ContainerStatus { state, ..(*last).clone() }), None)
            }
            _ => {
                self.containers += 1;
                let id = format!("c{}", self.containers);
                self.read(uid, Some(created(&id)), None)
            }
        };
        let before = self.harness.journal.head();
        self.harness.arbiter.apply(&observation);
        self.all.extend(self.harness.checker.check());
        assert_eq!(self.all.len() as u64, self.harness.journal.head(), "after {before}");
    }

    fn read(
        &self,
        uid: &str,
        container: Option<ContainerStatus>,
        gone: Option<&Arc<ContainerStatus>>,
    ) -> Observation {
        let (upper, observed_at) = self.harness.clock.now_both();
        let interval = Interval { lower: Some(upper), upper };
        let pod = PodIdentity { uid: uid.into(), namespace: "ns".into(), name: uid.into() };
        Observation {
            containers: container.map(Arc::new).into_iter().collect(),
            absent: gone.map(|gone| gone.id.clone()).into_iter().collect(),
            ..Observation::read(Source::Read, interval, observed_at, pod)
        }
    }

    /// Opens a watch from an encoded request.
    fn open(&mut self, input: &mut Input<'_>) {
        let bytes = if input.chance(32) { input.counted().to_vec() } else { self.request(input) };
        let Ok(request) = v1::WatchRequest::decode(&*bytes) else { return };
        let request = match fuzzing::watch_request(request) {
            Ok(request) => request,
            Err(status) => return assert!(!status.message().is_empty() && status.message().len() < 8192),
        };
        let (start, filter, policy) = (request.start, request.filter.clone(), request.slow_policy);
        match self.feed.watch(request) {
            Ok(watch) => {
                if self.watches.len() == WATCHES {
                    self.watches.remove(0);
                }
                self.watches.push(Watcher { watch, filter, policy, expected: Expected::Hello(start) });
            }
            Err(error) => assert!(matches!(error, WatchError::Invalid(_)), "{error}"),
        }
    }

    fn request(&self, input: &mut Input<'_>) -> Vec<u8> {
        let head = self.harness.journal.head();
        let mut request = proto::Message::default().number(5, input.below(5) as u64);
        if input.chance(160) {
            let near = (head + 2).saturating_sub(u64::from(input.byte()) % 24);
            let sequence =
                if input.chance(24) { input.pick(&[0, u64::MAX, u64::MAX - 1, 1 << 63]) } else { near };
            let epoch = if input.chance(24) { input.long() } else { EPOCH };
            request = request.message(2, proto::Message::default().number(1, epoch).number(2, sequence));
        } else {
            request = request.number(1, input.below(5) as u64);
        }
        if input.chance(96) {
            let filter =
                proto::Message::default().text(2, input.pick(&PODS)).number(5, input.below(7) as u64);
            request = request
                .message(3, if input.chance(96) { filter } else { proto::Message::default().text(3, "p1") });
        }
        request = request.number(4, input.below(4) as u64);
        request.finish()
    }

    /// One watcher reads available updates.
    fn take(&mut self, input: &mut Input<'_>) {
        if self.watches.is_empty() {
            return;
        }
        let at = input.below(self.watches.len());
        let count = input.pick(&[1, 2, 5, 100]);
        for _ in 0..count {
            if !self.take_one(at) {
                break;
            }
        }
    }

    fn take_all(&mut self, at: usize) {
        // A snapshot and all events, each with something before it.
        let bound = 4 * (self.all.len() + PODS.len() + 4);
        let taken = (0..=bound).take_while(|_| self.take_one(at)).count();
        assert!(taken <= bound, "it does not end");
    }

    /// Reads and checks one update; returns whether there was one.
    fn take_one(&mut self, at: usize) -> bool {
        let watcher = &mut self.watches[at];
        let stats = self.harness.journal.stats();
        if let Expected::Hello(start) = watcher.expected {
            let hello = watcher.watch.try_next();
            assert!(matches!(hello, Ok(Some(Update::Hello(_)))), "{hello:?}");
            watcher.expected = expected_after_hello(start, stats.oldest, stats.head);
            return true;
        }
        if let Expected::After(after, _) = watcher.expected
            && after + 1 < stats.oldest
        {
            watcher.expected =
                Expected::Gap(GapReason::Compacted, Position { epoch: EPOCH, sequence: after });
        }
        let update = watcher.watch.try_next();
        let is_over = update.is_err();
        watcher.check(update, &self.all, stats.head) && !is_over
    }
}

fn expected_after_hello(start: Start, oldest: u64, head: u64) -> Expected {
    let after = match start {
        Start::Snapshot => return Expected::Snapshot(BTreeMap::new()),
        Start::Now => head,
        Start::Oldest => oldest - 1,
        Start::After(position) if position.epoch != EPOCH => {
            return Expected::Gap(GapReason::ForeignEpoch, position);
        }
        Start::After(position) if position.sequence > head => {
            return Expected::Gap(GapReason::InFuture, position);
        }
        Start::After(position) if position.sequence + 1 < oldest => {
            return Expected::Gap(GapReason::Compacted, position);
        }
        Start::After(position) => position.sequence,
    };
    Expected::After(after, BTreeMap::new())
}

// === impl Watcher ===

impl Watcher {
    /// Checks an update; returns whether there was one.
    fn check(&mut self, update: Result<Option<Update>, WatchError>, all: &[Arc<Record>], head: u64) -> bool {
        let expected = std::mem::replace(&mut self.expected, Expected::Closed);
        self.expected = match (expected, update) {
            (
                Expected::Gap(reason, position),
                Err(WatchError::OutOfRange { reason: why, position: about, .. }),
            ) => {
                assert_eq!((self.policy, reason, position), (SlowPolicy::Fail, why, about));
                Expected::Closed
            }
            (Expected::Gap(reason, position), Ok(Some(Update::Gap(gap)))) => {
                assert_ne!(self.policy, SlowPolicy::Fail, "{gap:?}");
                let to = (reason == GapReason::Compacted).then_some(head);
                assert_eq!(gap, Gap { reason, from: position.sequence.saturating_add(1), to });
                Expected::Snapshot(BTreeMap::new())
            }
            (Expected::Snapshot(mut pods), Ok(Some(Update::Pod(pod)))) => {
                let before = pods.insert(pod.identity.uid.clone(), pod);
                assert!(before.is_none(), "a pod comes twice in a snapshot");
                Expected::Snapshot(pods)
            }
            (Expected::Snapshot(pods), Ok(Some(Update::SnapshotEnd { position, pods: count }))) => {
                assert_eq!((position.epoch, count), (EPOCH, pods.len()));
                assert_eq!(pods, self.snapshot_at(position.sequence, all), "as of {position}");
                Expected::After(position.sequence, BTreeMap::new())
            }
            (Expected::After(after, mut skipped_events), Ok(Some(Update::Event { record, skipped }))) => {
                let sequence = record.event.sequence;
                assert!(sequence > after, "{sequence} comes after {after}");
                assert!(Arc::ptr_eq(&record, &all[sequence as usize - 1]));
                self.skip(after, sequence - 1, &mut skipped_events, all);
                assert!(self.filter.passes(&record), "{record:?} does not pass");
                assert_eq!(skipped_events.remove(&record.event.pod.uid).unwrap_or_default(), skipped);
                Expected::After(sequence, skipped_events)
            }
            (Expected::After(after, mut skipped_events), Ok(Some(Update::Bookmark(position)))) => {
                assert!(position.epoch == EPOCH && (after..=head).contains(&position.sequence), "{position}");
                self.skip(after, position.sequence, &mut skipped_events, all);
                assert!(skipped_events.is_empty(), "{position} is past {skipped_events:?}");
                Expected::After(position.sequence, skipped_events)
            }
            (Expected::After(after, mut skipped_events), Ok(None)) => {
                self.skip(after, head, &mut skipped_events, all);
                assert!(
                    skipped_events.is_empty(),
                    "nothing more is at hand, and {skipped_events:?} were left out"
                );
                assert_eq!(self.watch.position(), Position { epoch: EPOCH, sequence: head });
                self.expected = Expected::After(head, skipped_events);
                return false;
            }
            (Expected::Closed, Err(_)) => Expected::Closed,
            (expected, update) => panic!("{update:?} where this was expected: {expected:?}"),
        };
        true
    }

    /// Checks the events after `after` up to `to`, which were not delivered: none passes the filter, except those
    /// superseded by a newer event of their pod.
    fn skip(&self, after: u64, to: u64, skipped_events: &mut BTreeMap<PodUid, u64>, all: &[Arc<Record>]) {
        for record in &all[after as usize..to as usize] {
            if self.filter.passes(record) {
                assert_eq!(self.policy, SlowPolicy::LatestPerPod, "{record:?} is lost");
                *skipped_events.entry(record.event.pod.uid.clone()).or_default() += 1;
            }
        }
    }

    /// The matching pods after the events up to this number.
    fn snapshot_at(&self, sequence: u64, all: &[Arc<Record>]) -> BTreeMap<PodUid, Arc<Pod>> {
        let mut pods = BTreeMap::new();
        for record in &all[..sequence as usize] {
            match &record.pod {
                Some(pod) => pods.insert(record.event.pod.uid.clone(), pod.clone()),
                None => pods.remove(&record.event.pod.uid),
            };
        }
        pods.retain(|_, pod| self.filter.passes_pod(&pod.identity, &pod.labels));
        pods
    }
}

fn created(id: &str) -> ContainerStatus {
    ContainerStatus {
        id: id.into(),
        sandbox_id: "s".into(),
        name: id.into(),
        attempt: 0,
        state: ContainerState::Created,
        created_at: Some(NOON),
        started_at: None,
        finished_at: None,
        exit_code: None,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        labels: Labels::new(),
        annotations: Labels::new(),
    }
}
