//! Watches from any position whatever, while events come and go: exactly what follows, or a gap and a snapshot, or a clear
//! error; never a silent loss.

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
    bench::{Bench, EPOCH, NOON, in_paused_time},
    input::Input,
    proto,
};

const PODS: [&str; 3] = ["p0", "p1", "p2"];
const ACTS: usize = 300;
const WATCHES: usize = 4;

/// Watches as the bytes say, and checks every update.
pub fn check(bytes: &[u8]) {
    in_paused_time(run(Input::new(bytes)));
}

/// Inputs that are worth changing.
pub fn seeds() -> Vec<Vec<u8>> {
    super::seeds::of_choices(32, 500)
}

/// A journal that forgets soon, those who watch it, and all that was ever told.
struct Stage {
    bench: Bench,
    feed: Feed,
    all: Vec<Arc<Record>>,
    watches: Vec<Watcher>,
    containers: u32,
}

/// A watch, and what it must tell next.
struct Watcher {
    watch: Watch,
    filter: Filter,
    policy: SlowPolicy,
    due: Due,
}

#[derive(Clone, Debug)]
enum Due {
    /// A hello, and then what this start means.
    Hello(Start),
    /// A gap for this reason after that position, or the end, then a snapshot.
    Gap(GapReason, Position),
    /// More pods of a snapshot, or its end.
    Snapshot(BTreeMap<PodUid, Arc<Pod>>),
    /// What follows this number; so many events of a pod were left out for a newer one.
    After(u64, BTreeMap<PodUid, u64>),
    /// Nothing.
    Over,
}

async fn run(mut input: Input<'_>) {
    let capacity = Capacity { events: 3 + input.below(14), bytes: 1 << 30 };
    let bench = Bench::with(capacity);
    let stop = CancellationToken::new();
    let (_situations, follower_status) = watch::channel(follower_status(&bench.clock));
    let feed = Feed::new(FeedDeps {
        journal: bench.journal.clone(),
        cache: bench.cache.clone(),
        follower_status,
        clock: bench.clock.clone(),
        stop,
    });
    let mut stage = Stage { bench, feed, all: Vec::new(), watches: Vec::new(), containers: 0 };
    for _ in 0..ACTS {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0 => stage.open(&mut input),
            1..=4 => stage.change(&mut input).await,
            _ => stage.take(&mut input),
        }
    }
    for at in 0..stage.watches.len() {
        stage.take_all(at);
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

// === impl Stage ===

impl Stage {
    /// One container of a pod moves on, or a new one begins.
    async fn change(&mut self, input: &mut Input<'_>) {
        self.bench.pass(Duration::from_secs(1)).await;
        let uid = input.pick(&PODS);
        let pod = self.bench.cache.get(&uid.into());
        let last = pod.as_ref().and_then(|pod| pod.containers.first().cloned());
        let seen = match (last, input.below(3)) {
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
        let before = self.bench.journal.head();
        self.bench.arbiter.apply(&seen);
        self.all.extend(self.bench.witness.look());
        assert_eq!(self.all.len() as u64, self.bench.journal.head(), "after {before}");
    }

    fn read(
        &self,
        uid: &str,
        container: Option<ContainerStatus>,
        gone: Option<&Arc<ContainerStatus>>,
    ) -> Observation {
        let (upper, observed_at) = self.bench.clock.now_both();
        let interval = Interval { lower: Some(upper), upper };
        let pod = PodIdentity { uid: uid.into(), namespace: "ns".into(), name: uid.into() };
        Observation {
            containers: container.map(Arc::new).into_iter().collect(),
            absent: gone.map(|gone| gone.id.clone()).into_iter().collect(),
            ..Observation::read(Source::Read, interval, observed_at, pod)
        }
    }

    /// A watch as a client asks for it, in bytes.
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
                self.watches.push(Watcher { watch, filter, policy, due: Due::Hello(start) });
            }
            Err(error) => assert!(matches!(error, WatchError::Invalid(_)), "{error}"),
        }
    }

    fn request(&self, input: &mut Input<'_>) -> Vec<u8> {
        let head = self.bench.journal.head();
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

    /// One watcher takes what is at hand, or some of it.
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
        // A snapshot, and all that was ever told, each with something before it.
        let bound = 4 * (self.all.len() + PODS.len() + 4);
        let taken = (0..=bound).take_while(|_| self.take_one(at)).count();
        assert!(taken <= bound, "it never comes to an end");
    }

    /// Takes one update, and checks it; whether there was one.
    fn take_one(&mut self, at: usize) -> bool {
        let watcher = &mut self.watches[at];
        let stats = self.bench.journal.stats();
        if let Due::Hello(start) = watcher.due {
            let hello = watcher.watch.try_next();
            assert!(matches!(hello, Ok(Some(Update::Hello(_)))), "{hello:?}");
            watcher.due = due_after_hello(start, stats.oldest, stats.head);
            return true;
        }
        if let Due::After(after, _) = watcher.due
            && after + 1 < stats.oldest
        {
            watcher.due = Due::Gap(GapReason::Compacted, Position { epoch: EPOCH, sequence: after });
        }
        let told = watcher.watch.try_next();
        let is_over = told.is_err();
        watcher.check(told, &self.all, stats.head) && !is_over
    }
}

fn due_after_hello(start: Start, oldest: u64, head: u64) -> Due {
    let after = match start {
        Start::Snapshot => return Due::Snapshot(BTreeMap::new()),
        Start::Now => head,
        Start::Oldest => oldest - 1,
        Start::After(asked) if asked.epoch != EPOCH => return Due::Gap(GapReason::ForeignEpoch, asked),
        Start::After(asked) if asked.sequence > head => return Due::Gap(GapReason::InFuture, asked),
        Start::After(asked) if asked.sequence + 1 < oldest => return Due::Gap(GapReason::Compacted, asked),
        Start::After(asked) => asked.sequence,
    };
    Due::After(after, BTreeMap::new())
}

// === impl Watcher ===

impl Watcher {
    /// Checks an update; whether there was one.
    fn check(&mut self, told: Result<Option<Update>, WatchError>, all: &[Arc<Record>], head: u64) -> bool {
        let due = std::mem::replace(&mut self.due, Due::Over);
        self.due = match (due, told) {
            (Due::Gap(reason, asked), Err(WatchError::OutOfRange { reason: why, position: about, .. })) => {
                assert_eq!((self.policy, reason, asked), (SlowPolicy::Fail, why, about));
                Due::Over
            }
            (Due::Gap(reason, asked), Ok(Some(Update::Gap(gap)))) => {
                assert_ne!(self.policy, SlowPolicy::Fail, "{gap:?}");
                let to = (reason == GapReason::Compacted).then_some(head);
                assert_eq!(gap, Gap { reason, from: asked.sequence.saturating_add(1), to });
                Due::Snapshot(BTreeMap::new())
            }
            (Due::Snapshot(mut pods), Ok(Some(Update::Pod(pod)))) => {
                let before = pods.insert(pod.identity.uid.clone(), pod);
                assert!(before.is_none(), "a pod comes twice in a snapshot");
                Due::Snapshot(pods)
            }
            (Due::Snapshot(pods), Ok(Some(Update::SnapshotEnd { position, pods: count }))) => {
                assert_eq!((position.epoch, count), (EPOCH, pods.len()));
                assert_eq!(pods, self.snapshot_at(position.sequence, all), "as of {position}");
                Due::After(position.sequence, BTreeMap::new())
            }
            (Due::After(after, mut left_out), Ok(Some(Update::Event { record, skipped }))) => {
                let sequence = record.event.sequence;
                assert!(sequence > after, "{sequence} comes after {after}");
                assert!(Arc::ptr_eq(&record, &all[sequence as usize - 1]));
                self.pass_over(after, sequence - 1, &mut left_out, all);
                assert!(self.filter.passes(&record), "{record:?} does not pass");
                assert_eq!(left_out.remove(&record.event.pod.uid).unwrap_or_default(), skipped);
                Due::After(sequence, left_out)
            }
            (Due::After(after, mut left_out), Ok(Some(Update::Bookmark(position)))) => {
                assert!(position.epoch == EPOCH && (after..=head).contains(&position.sequence), "{position}");
                self.pass_over(after, position.sequence, &mut left_out, all);
                assert!(left_out.is_empty(), "{position} is past {left_out:?}");
                Due::After(position.sequence, left_out)
            }
            (Due::After(after, mut left_out), Ok(None)) => {
                self.pass_over(after, head, &mut left_out, all);
                assert!(left_out.is_empty(), "nothing more is at hand, and {left_out:?} were left out");
                assert_eq!(self.watch.position(), Position { epoch: EPOCH, sequence: head });
                self.due = Due::After(head, left_out);
                return false;
            }
            (Due::Over, Err(_)) => Due::Over,
            (due, told) => panic!("{told:?} where this was due: {due:?}"),
        };
        true
    }

    /// The events after `after` up to `to` were not told: none may have passed the filter, but those for which a newer one
    /// of their pod will be told.
    fn pass_over(&self, after: u64, to: u64, left_out: &mut BTreeMap<PodUid, u64>, all: &[Arc<Record>]) {
        for record in &all[after as usize..to as usize] {
            if self.filter.passes(record) {
                assert_eq!(self.policy, SlowPolicy::LatestPerPod, "{record:?} is lost");
                *left_out.entry(record.event.pod.uid.clone()).or_default() += 1;
            }
        }
    }

    /// The pods that pass, as the events up to this number left them.
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
