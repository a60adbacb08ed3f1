//! The code that runs for every list item, event and subscriber, each part alone: `cargo bench --bench hot`.
//!
//! Measures the functions that the daemon calls, in CPU time of this thread, so other processes do not matter.
//! `benches/scale` measures
//! the total cost.

#[allow(dead_code, reason = "the scale bench uses the rest")]
#[path = "scale/full.rs"]
mod full;
#[allow(dead_code, reason = "the scale bench uses the rest")]
#[path = "scale/node.rs"]
mod node;
#[path = "common/unread.rs"]
mod unread;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use criterion::{
    BatchSize, Criterion, Throughput,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use plegd::{
    arbiter::{Arbiter, ArbiterDeps, ListedObject},
    benching,
    clock::Clock,
    cri::{Listing, quirks::Quirks},
    fuzzing,
    journal::{Capacity, Journal},
    metrics::Metrics,
    model::{Event, EventType, Labels, PodIdentity, Source, Subject},
    path_comparison::PathComparison,
    sim::v1::{self, ContainerEventType as Kind, ContainerState},
};
use prost::Message as _;

use self::{
    full::{Raw, cpu},
    node::{Lists, Node, Pod, Weight},
};

const PODS: usize = 1_000;
const CONTAINERS: usize = 3;
/// Numbers of cursors that follow the journal during appends.
const CURSORS: [usize; 3] = [0, 1, 100];

fn main() -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clock = Clock::system();
    let (node, raw) = tokio.block_on(async {
        let node = Node::start(&clock, Lists::Unary, Weight::Real, PODS, CONTAINERS)?;
        let raw = Raw::fetch(&node, Lists::Unary).await?;
        anyhow::Ok((node, raw))
    })?;
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    lists(&mut criterion, &clock, &node, &raw)?;
    events(&mut criterion, &clock, &node);
    journal(&mut criterion, &clock);
    criterion.final_summary();
    Ok(())
}

/// CPU time of the measuring thread.
struct CpuTime;

// === impl CpuTime ===

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu()
    }

    fn end(&self, begun: Duration) -> Duration {
        cpu().saturating_sub(begun)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Both lists as received: decoded, converted, and compared with an identical cache.
fn lists(criterion: &mut Criterion<CpuTime>, clock: &Clock, node: &Node, raw: &Raw) -> Result<()> {
    let (sandboxes, containers) = raw.unary().context("the lists are not one message each")?;
    let mut group = criterion.benchmark_group(format!("lists of {PODS} x {CONTAINERS}"));
    group.throughput(Throughput::Elements((PODS * (1 + CONTAINERS)) as u64));
    group.bench_function("decode in full", |b| {
        b.iter(|| (full::Sandboxes::decode(&sandboxes[..]), full::Containers::decode(&containers[..])));
    });
    group.bench_function("decode and convert", |b| b.iter(|| fuzzing::listing(&sandboxes, &containers)));

    let (arbiter, _) = arbiter(clock);
    for pod in &node.pods {
        let message = message(node, pod, &pod.sandbox, Kind::ContainerStartedEvent, running(node, pod));
        apply(&arbiter, clock, &message);
    }
    let listing = fuzzing::listing(&sandboxes, &containers)?;
    let pods = by_pod(&listing);
    group.bench_function("compare, unchanged", |b| {
        b.iter(|| {
            let now = clock.now();
            let differing = pods.iter().filter(|(pod, listed)| {
                let names = (pod.uid.as_str(), &*pod.namespace, &*pod.name);
                let difference = arbiter.reconcile_list(names, now, listed);
                !difference.changed.is_empty() || !difference.absent.is_empty()
            });
            assert_eq!(differing.count(), 0, "the lists are unchanged");
        });
    });
    group.finish();
    Ok(())
}

/// An event as received: decoded, converted and applied.
fn events(criterion: &mut Criterion<CpuTime>, clock: &Clock, node: &Node) {
    let (arbiter, _) = arbiter(clock);
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(4));
    let mut containers = 0;
    group.bench_function("forward, four events of a container", |b| {
        let life = || {
            containers += 1;
            lifecycle(clock, node, &node.pods[containers % PODS], &format!("{containers:064x}"))
        };
        b.iter_batched(
            life,
            |life| life.iter().for_each(|event| apply(&arbiter, clock, event)),
            BatchSize::SmallInput,
        );
    });
    let started = lifecycle(clock, node, &node.pods[0], &format!("{:064x}", u64::MAX)).swap_remove(1);
    group.throughput(Throughput::Elements(1));
    group.bench_function("duplicate", |b| b.iter(|| apply(&arbiter, clock, &started)));
    group.finish();
}

/// A published event: appended, read by each cursor, and encoded once.
fn journal(criterion: &mut Criterion<CpuTime>, clock: &Clock) {
    let mut group = criterion.benchmark_group("journal");
    for count in CURSORS {
        let (_, journal) = arbiter(clock);
        let mut cursors: Vec<_> = (0..count).map(|_| journal.cursor(0)).collect();
        let event = death(clock);
        group.bench_function(format!("append, read by {count} cursors"), |b| {
            b.iter(|| {
                benching::append(&journal, vec![event.clone()]);
                cursors.iter_mut().filter_map(|cursor| cursor.try_next().ok().flatten()).count()
            });
        });
    }
    let (_, journal) = arbiter(clock);
    let event = death(clock);
    let record = || {
        let mut cursor = journal.cursor(journal.head());
        benching::append(&journal, vec![event.clone()]);
        cursor.try_next().ok().flatten()
    };
    group.bench_function("encode", |b| {
        let encode = |record: Option<_>| record.map(|record| benching::encoded(&record, &journal));
        b.iter_batched(record, encode, BatchSize::SmallInput);
    });
    group.finish();
}

/// An empty arbiter and its journal.
fn arbiter(clock: &Clock) -> (Arbiter, Journal) {
    let metrics = Arc::new(Metrics::new());
    let journal = Journal::new(Capacity { events: 65_536, bytes: 32 << 20 }, 1);
    let paths = PathComparison::new(metrics.clone());
    let arbiter = Arbiter::new(ArbiterDeps {
        journal: journal.clone(),
        paths,
        clock: clock.clone(),
        metrics,
        state: None,
    });
    arbiter.set_quirks(Quirks::of("containerd", "v2.1.9"));
    (arbiter, journal)
}

fn apply(arbiter: &Arbiter, clock: &Clock, message: &[u8]) {
    let (received, received_at) = clock.now_both();
    let event = fuzzing::event(message, received, received_at);
    let Some(observation) = event.ok().and_then(|event| arbiter.to_observation(event).ok()) else { return };
    arbiter.apply(&observation);
}

fn by_pod(listing: &Listing) -> Vec<(PodIdentity, Vec<ListedObject<'_>>)> {
    let mut pods: BTreeMap<&str, (PodIdentity, Vec<ListedObject<'_>>)> = BTreeMap::new();
    for sandbox in &listing.sandboxes {
        let listed = ListedObject { id: &sandbox.id, phase: Some(sandbox.state.phase()), sandbox_id: None };
        pods.insert(&sandbox.id, (sandbox.pod(), vec![listed]));
    }
    for container in &listing.containers {
        if let Some((_, listed)) = pods.get_mut(container.sandbox_id.as_str()) {
            listed.push(ListedObject {
                id: &container.id,
                phase: container.state.phase(),
                sandbox_id: Some(&container.sandbox_id),
            });
        }
    }
    pods.into_values().collect()
}

/// CREATED, STARTED, STOPPED and DELETED of a container of this pod.
fn lifecycle(clock: &Clock, node: &Node, pod: &Pod, id: &str) -> Vec<Vec<u8>> {
    let status = |state: ContainerState| {
        let now = clock.wall().as_nanos();
        let at = |from: ContainerState| if state >= from { now } else { 0 };
        v1::ContainerStatus {
            id: id.to_owned(),
            metadata: Some(v1::ContainerMetadata { name: "short".to_owned(), attempt: 0 }),
            state: state.into(),
            created_at: at(ContainerState::ContainerCreated),
            started_at: at(ContainerState::ContainerRunning),
            finished_at: at(ContainerState::ContainerExited),
            ..v1::ContainerStatus::default()
        }
    };
    let created = vec![status(ContainerState::ContainerCreated)];
    let running = vec![status(ContainerState::ContainerRunning)];
    let exited = vec![status(ContainerState::ContainerExited)];
    [
        (Kind::ContainerCreatedEvent, created),
        (Kind::ContainerStartedEvent, running),
        (Kind::ContainerStoppedEvent, exited),
        (Kind::ContainerDeletedEvent, Vec::new()),
    ]
    .map(|(kind, containers)| message(node, pod, id, kind, containers))
    .into()
}

/// The pod's containers, all running.
fn running(node: &Node, pod: &Pod) -> Vec<v1::ContainerStatus> {
    let status = |container: &plegd::sim::truth::Container| v1::ContainerStatus {
        id: container.id.clone(),
        metadata: Some(v1::ContainerMetadata { name: container.spec.name.clone(), attempt: 0 }),
        state: ContainerState::ContainerRunning.into(),
        created_at: container.created_at.as_nanos(),
        started_at: container.created_at.as_nanos(),
        labels: container.spec.labels.clone().into_iter().collect(),
        annotations: container.spec.annotations.clone().into_iter().collect(),
        ..v1::ContainerStatus::default()
    };
    node.sim.read(|truth| truth.view().containers_of(&pod.sandbox).map(status).collect())
}

/// A stream message with the current time.
fn message(node: &Node, pod: &Pod, id: &str, kind: Kind, containers: Vec<v1::ContainerStatus>) -> Vec<u8> {
    let now = node.sim.clock().wall().as_nanos();
    let sandbox = v1::PodSandboxStatus {
        id: pod.sandbox.clone(),
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.spec.name.clone(),
            uid: pod.spec.uid.clone(),
            namespace: pod.spec.namespace.clone(),
            attempt: 0,
        }),
        created_at: now,
        labels: pod.spec.labels.clone().into_iter().collect(),
        annotations: pod.spec.annotations.clone().into_iter().collect(),
        ..v1::PodSandboxStatus::default()
    };
    let event = v1::ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind.into(),
        created_at: now,
        pod_sandbox_status: Some(sandbox),
        containers_statuses: containers,
    };
    event.encode_to_vec()
}

/// The event of a death.
fn death(clock: &Clock) -> Event {
    let now = clock.wall();
    Event {
        sequence: 0,
        kind: EventType::ContainerDied,
        subject: Subject::Container,
        pod: PodIdentity {
            uid: "7d0c2f4e-4a1b-4c2d-8e3f-0123456789ab".into(),
            namespace: "shop-production".into(),
            name: "checkout-service-6b7f9c5d48-x2v9k".into(),
        },
        labels: Labels::new(),
        id: format!("{:064x}", 7).into(),
        container_name: "checkout".into(),
        source: Source::Event,
        occurred_at: Some(now),
        observed_at: now,
        stamped_at: Some(now),
        exit_code: Some(1),
        reason: "Error".into(),
        initial: false,
        late: false,
        inferred: false,
    }
}
