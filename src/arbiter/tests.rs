//! Missed events: they shorten the relist period, so that an event which the stream could not send must never count. And the pod of an
//! event.

use prost::Message as _;

use super::*;
use crate::{clock::Wall, cri::v1, model::*, path_comparison::STREAM_GRACE_PERIOD};

/// The wall clock at 0 ms.
const EPOCH: i64 = 1_800_000_000_000_000_000;

/// An arbiter in paused time, whose stream may be up, and a pod with one container `a`.
struct Node {
    arbiter: Arbiter,
    paths: PathComparison,
    clock: Clock,
}

fn wall(ms: i64) -> Wall {
    Wall::from_nanos(EPOCH + ms * 1_000_000)
}

fn container(
    state: ContainerState,
    started_at: Option<i64>,
    finished_at: Option<i64>,
) -> Arc<ContainerStatus> {
    Arc::new(ContainerStatus {
        id: "a".into(),
        sandbox_id: "s".into(),
        name: "main".into(),
        attempt: 0,
        state,
        created_at: Some(wall(100)),
        started_at: started_at.map(wall),
        finished_at: finished_at.map(wall),
        exit_code: finished_at.map(|_| 3),
        reason: String::new(),
        message: String::new(),
        image: "busybox".into(),
        image_ref: "sha256:1".into(),
        labels: Labels::new(),
        annotations: Labels::new(),
    })
}

fn runs() -> Option<Arc<ContainerStatus>> {
    Some(container(ContainerState::Running, Some(200), None))
}

fn exited_at(ms: i64) -> Option<Arc<ContainerStatus>> {
    Some(container(ContainerState::Exited, Some(200), Some(ms)))
}

impl Node {
    /// `a` was read at 1 s, the stream is up at 2 s, and it is 2 s.
    async fn with_stream_up_after(first: Option<Arc<ContainerStatus>>) -> Self {
        let (clock, _) = Clock::simulated(wall(0));
        let metrics = Arc::new(Metrics::new());
        let paths = PathComparison::new(metrics.clone());
        let journal = Journal::new(crate::journal::Capacity { events: 100, bytes: usize::MAX }, 7);
        let arbiter = Arbiter::new(ArbiterDeps {
            journal,
            paths: paths.clone(),
            clock: clock.clone(),
            metrics,
            state: None,
        });
        arbiter.set_quirks(Quirks::of("containerd", "2.3.0"));
        let node = Self { arbiter, paths, clock };
        node.reads_after(1000, Source::Relist, first).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        node.arbiter.set_stream_up(Some(node.clock.now()));
        node
    }

    /// After `ms`, a read of the whole pod finds `a` with this status, or does not find it.
    async fn reads_after(&self, ms: u64, source: Source, shown: Option<Arc<ContainerStatus>>) {
        tokio::time::advance(Duration::from_millis(ms)).await;
        let (now, observed_at) = self.clock.now_both();
        let interval = Interval { lower: Some(now), upper: now };
        let pod = PodIdentity { uid: "uid".into(), namespace: "ns".into(), name: "pod".into() };
        self.arbiter.apply(&Observation {
            absent: if shown.is_none() { vec!["a".into()] } else { Vec::new() },
            containers: shown.into_iter().collect(),
            ..Observation::read(source, interval, observed_at, pod)
        });
    }

    /// The missed events after the grace period.
    async fn missed(self) -> Vec<StreamEventType> {
        tokio::time::advance(STREAM_GRACE_PERIOD).await;
        self.paths.overdue(self.clock.now()).into_iter().map(|(_, kind)| kind).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_while_the_stream_was_up_is_missed() {
    let node = Node::with_stream_up_after(runs()).await;
    node.reads_after(1000, Source::Relist, exited_at(2500)).await;
    assert_eq!(node.missed().await, [StreamEventType::Stopped]);
}

#[tokio::test(start_paused = true)]
async fn a_change_before_the_stream_was_up_is_not_missed() {
    let node = Node::with_stream_up_after(runs()).await;
    node.reads_after(1000, Source::Relist, exited_at(1500)).await;
    assert_eq!(node.missed().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_change_observed_as_not_happened_while_the_stream_was_up_is_missed_whatever_its_time() {
    let node = Node::with_stream_up_after(runs()).await;
    node.reads_after(1, Source::Relist, runs()).await;
    node.reads_after(1000, Source::Relist, exited_at(1500)).await;
    assert_eq!(node.missed().await, [StreamEventType::Stopped]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_missed_only_if_the_id_was_observed_while_the_stream_was_up() {
    let node = Node::with_stream_up_after(exited_at(500)).await;
    node.reads_after(1000, Source::Relist, None).await;
    assert_eq!(node.missed().await, []);

    let node = Node::with_stream_up_after(exited_at(500)).await;
    node.reads_after(1, Source::Relist, exited_at(500)).await;
    node.reads_after(1000, Source::Relist, None).await;
    assert_eq!(node.missed().await, [StreamEventType::Deleted]);
}

#[tokio::test(start_paused = true)]
async fn removals_are_not_missed_by_a_stream_without_removals() {
    let node = Node::with_stream_up_after(exited_at(500)).await;
    node.arbiter.set_quirks(Quirks::of("CRI-O", "1.34.0"));
    node.reads_after(1, Source::Relist, exited_at(500)).await;
    node.reads_after(1000, Source::Relist, None).await;
    assert_eq!(node.missed().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_misses_nothing() {
    let node = Node::with_stream_up_after(runs()).await;
    node.reads_after(1000, Source::Relist, exited_at(2500)).await;
    node.arbiter.set_stream_up(None);
    assert_eq!(node.missed().await, [], "events not reported before the loss");

    let node = Node::with_stream_up_after(runs()).await;
    node.arbiter.set_stream_up(None);
    node.reads_after(1000, Source::Relist, exited_at(2500)).await;
    assert_eq!(node.missed().await, [], "changes found while it was down");
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_has_no_event_and_is_not_missed() {
    let node = Node::with_stream_up_after(Some(container(ContainerState::Created, None, None))).await;
    node.reads_after(1, Source::Relist, Some(container(ContainerState::Created, None, None))).await;
    node.reads_after(1000, Source::Relist, Some(container(ContainerState::Exited, None, Some(2500)))).await;
    assert_eq!(node.missed().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_read_ahead_of_the_stream_grants_the_grace_period() {
    let node = Node::with_stream_up_after(runs()).await;
    node.reads_after(1000, Source::Read, exited_at(2500)).await;
    node.paths.record_stream_event(&"a".into(), StreamEventType::Stopped, false, node.clock.now());
    assert_eq!(node.missed().await, [], "the event arrived");

    let node = Node::with_stream_up_after(runs()).await;
    node.reads_after(1000, Source::Read, exited_at(2500)).await;
    assert_eq!(node.missed().await, [StreamEventType::Stopped], "the event did not arrive");
}

#[tokio::test(start_paused = true)]
async fn a_change_read_after_its_event_is_not_missed() {
    let node = Node::with_stream_up_after(runs()).await;
    // An event without a payload, whose change a read then shows.
    node.paths.record_stream_event(&"a".into(), StreamEventType::Stopped, false, node.clock.now());
    node.reads_after(1000, Source::Read, exited_at(2500)).await;
    assert_eq!(node.missed().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_change_with_an_impossible_time_is_not_missed() {
    // The clock of a guest is an hour ahead: the exit claims a time at which the container was still running.
    let node = Node::with_stream_up_after(runs()).await;
    node.reads_after(1000, Source::Relist, exited_at(3_600_000)).await;
    assert_eq!(node.missed().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_id_absent_from_two_lists_is_missed_whatever_the_clock_of_its_guest() {
    let node = Node::with_stream_up_after(None).await;
    for lists in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let now = node.clock.now();
        node.arbiter.begin_list(now);
        if lists == 2 {
            let shown = ListedObject { id: "a", phase: Some(Phase::Running), sandbox_id: Some("s") };
            assert_eq!(node.arbiter.reconcile_list(("uid", "ns", "pod"), now, &[shown]).changed.len(), 1);
        }
    }
    let hours_ahead = container(ContainerState::Running, Some(9_000_000), None);
    node.reads_after(10, Source::Relist, Some(hours_ahead)).await;
    assert_eq!(node.missed().await, [StreamEventType::Started]);
}

/// CRI-O shows the containers of all pods with the same UID.
#[tokio::test(start_paused = true)]
async fn an_event_without_a_sandbox_is_of_the_pod_that_has_its_id() {
    let node = Node::with_stream_up_after(runs()).await;
    let names = [("uid", "uid"), ("namespace", "ns"), ("name", "other")];
    let of_other = v1::ContainerStatus {
        id: "b".into(),
        labels: names.map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.to_owned())).into(),
        ..v1::ContainerStatus::default()
    };
    let event = |id: &str| v1::ContainerEventResponse {
        container_id: id.into(),
        containers_statuses: vec![of_other.encode_to_vec()],
        ..v1::ContainerEventResponse::default()
    };
    let pod_of = |id: &str| {
        let event = RawEvent::new(event(id), node.clock.now(), wall(2000));
        node.arbiter.to_observation(event).map(|observation| observation.pod.name.to_string())
    };
    assert_eq!((pod_of("a"), pod_of("b")), (Ok("pod".to_owned()), Ok("other".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn initial_inventory_counts_in_no_latency() {
    let node = Node::with_stream_up_after(None).await;
    let observed = || node.arbiter.metrics.transitions.latency.with(Source::Relist).get_sample_count();
    let (now, observed_at) = node.clock.now_both();
    let pod = PodIdentity { uid: "uid".into(), namespace: "ns".into(), name: "pod".into() };
    let interval = Interval { lower: Some(now), upper: now };
    let found = Observation {
        containers: runs().into_iter().collect(),
        ..Observation::read(Source::Relist, interval, observed_at, pod)
    };
    node.arbiter.apply(&Observation { initial: vec!["a".into()], ..found });
    assert_eq!(observed(), 0);
    node.reads_after(10, Source::Relist, exited_at(2001)).await;
    assert_eq!(observed(), 1);
}
