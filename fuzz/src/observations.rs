//! Any sequence of observations: no backward step without a published correction, no resurrection by an event,
//! removals are published, and reads that agree decide.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use plegd::{
    clock::Wall,
    cri::quirks::Quirks,
    model::{
        ContainerState, ContainerStatus, Detail, EventType, Interval, Labels, ObjectId, Observation, Origin,
        Phase, PodIdentity, SandboxState, SandboxStatus, Source, StreamEvent, StreamEventType,
    },
};

use super::{
    generated::{self, CONTAINERS, SANDBOXES, sandbox_of, uid_of},
    harness::{Harness, in_paused_time},
    input::Input,
};

/// Maximum number of steps.
const STEPS: usize = 200;
const RUNTIMES: [(&str, &str); 5] = [
    ("containerd", "2.3.0"),
    ("containerd", "1.7.27"),
    ("cri-o", "1.26.0"),
    ("cri-o", "1.34.0"),
    ("unknown", "1"),
];

/// Runs one input.
pub fn check(bytes: &[u8]) {
    in_paused_time(run(Input::new(bytes)));
}

/// The initial inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    super::seeds::of_choices(24, 600)
}

async fn run(mut input: Input<'_>) {
    let mut harness = Harness::new();
    let (name, version) = input.pick(&RUNTIMES);
    harness.arbiter.set_quirks(Quirks::of(name, version));
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut input, &mut harness).await;
    }
    final_reads(&mut harness).await;
}

async fn step(input: &mut Input<'_>, harness: &mut Harness) {
    let time = input.pick(&[0, 1, 3, 49, 51, 150, 400, 3000]);
    harness.pass(Duration::from_millis(time)).await;
    if input.chance(24) {
        let up = input.chance(200).then(|| harness.clock.now());
        harness.arbiter.set_stream_up(up);
    }
    if input.chance(24) {
        harness.arbiter.begin_list(harness.clock.now());
    }
    let observation = observation(input, harness);
    let (served, phases) = (harness.checker.served(), phases(harness));
    let from = harness.journal.head();
    harness.apply(&observation);
    let published = published(harness, from);
    let was_published = |id: &ObjectId, kind| published.contains(&(id.clone(), kind));
    let is_read = observation.origin != Origin::Event;
    for (id, phase) in self::phases(harness) {
        let Some(before) = phases.get(&id) else { continue };
        let returned =
            is_read && SANDBOXES.contains(&id.as_str()) && was_published(&id, EventType::ContainerStarted);
        let corrected = is_read && was_published(&id, EventType::PodSync);
        let is_forward = phase.is_none() || phase >= *before;
        assert!(
            is_forward || returned || corrected,
            "{id} went from {before:?} to {phase:?} by {observation:?}"
        );
    }
    let now_served = harness.checker.served();
    for id in served.keys().filter(|id| !now_served.contains_key(*id)) {
        assert!(
            was_published(id, EventType::ContainerRemoved),
            "{id} is gone without an event by {observation:?}"
        );
    }
    for id in now_served.keys().filter(|id| !served.contains_key(*id)) {
        assert!(
            published.iter().any(|(published, _)| published == id),
            "{id} is served without an event by {observation:?}"
        );
    }
}

/// The ids and types of the events after sequence number `from`.
fn published(harness: &Harness, from: u64) -> Vec<(ObjectId, EventType)> {
    let mut cursor = harness.journal.cursor(from);
    let next = || cursor.try_next().expect("the journal holds all events");
    std::iter::from_fn(next).map(|record| (record.id.clone(), record.kind)).collect()
}

fn phases(harness: &Harness) -> BTreeMap<ObjectId, Option<Phase>> {
    let mut phases = BTreeMap::new();
    for pod in harness.cache.list() {
        let sandboxes = pod.sandboxes.iter().map(|it| (it.id.clone(), Some(it.state.phase())));
        let containers = pod.containers.iter().map(|it| (it.id.clone(), it.state.phase()));
        phases.extend(sandboxes.chain(containers));
    }
    phases
}

/// An event or a read of one pod.
fn observation(input: &mut Input<'_>, harness: &Harness) -> Observation {
    let (now, observed_at) = harness.clock.now_both();
    let age = Duration::from_millis(input.pick(&[0, 0, 0, 1, 60, 500, 5000, 700_000]));
    let upper = now - age;
    let about = generated::id(input);
    let pod = uid_of(about);
    let mut observation = if input.chance(150) {
        let signal = StreamEvent {
            id: about.into(),
            kind: input.pick(&StreamEventType::ALL),
            stamped_at: input.chance(200).then_some(observed_at),
        };
        // A timestamp may be early by any amount; the receipt is now.
        Observation { claimed: upper, ..Observation::event(signal, now, observed_at, self::pod(pod)) }
    } else {
        let took = Duration::from_millis(input.pick(&[0, 1, 30, 60, 3000]));
        let interval = Interval { lower: Some(upper - took), upper };
        let source = input.pick(&[Source::Read, Source::Relist]);
        Observation::read(source, interval, observed_at, self::pod(pod))
    };
    let is_read = observation.origin != Origin::Event;
    for id in SANDBOXES.into_iter().filter(|id| uid_of(id) == pod) {
        match input.below(4) {
            0 | 1 if id == about => observation.sandboxes.push(Arc::new(sandbox(input, id))),
            0 => observation.sandboxes.push(Arc::new(sandbox(input, id))),
            1 if is_read => observation.absent.push(id.into()),
            _ => {}
        }
    }
    for id in CONTAINERS.into_iter().filter(|id| uid_of(id) == pod) {
        match input.below(4) {
            0 | 1 if id == about => observation.containers.push(Arc::new(container(input, id))),
            0 => observation.containers.push(Arc::new(container(input, id))),
            1 if is_read => observation.absent.push(id.into()),
            _ => {}
        }
    }
    if input.chance(24) {
        observation.detail = Detail::Minimal;
        if is_read {
            observation.origin = Origin::List;
        }
    }
    observation
}

/// Whatever the state is, three consecutive reads that agree are finally served.
async fn final_reads(harness: &mut Harness) {
    let truth = [("u0", "s1", "c"), ("u1", "s2", "e")];
    for _ in 0..3 {
        for (uid, sandbox_id, container_id) in truth {
            harness.pass(Duration::from_secs(1)).await;
            let began = harness.clock.now();
            harness.pass(Duration::from_millis(5)).await;
            let (upper, at) = harness.clock.now_both();
            let interval = Interval { lower: Some(began), upper };
            let mut observation = Observation::read(Source::Read, interval, at, pod(uid));
            let sandbox = sandbox(&mut Input::new(&[]), sandbox_id);
            observation.sandboxes.push(Arc::new(SandboxStatus { state: SandboxState::Ready, ..sandbox }));
            observation.containers.push(Arc::new(running(container_id)));
            let others = SANDBOXES.into_iter().chain(CONTAINERS).filter(|id| uid_of(id) == uid);
            observation.absent =
                others.filter(|id| ![sandbox_id, container_id].contains(id)).map(Into::into).collect();
            harness.apply(&observation);
        }
    }
    for (uid, sandbox_id, container_id) in truth {
        let pod = harness.cache.get(&uid.into()).expect("the pod was read");
        let ids: Vec<&str> = pod.containers.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, [container_id]);
        assert_eq!(*pod.containers[0], running(container_id), "three reads agree on it");
        let ids: Vec<&str> = pod.sandboxes.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, [sandbox_id]);
        assert_eq!(pod.sandboxes[0].state, SandboxState::Ready);
    }
}

fn running(id: &str) -> ContainerStatus {
    let status = container(&mut Input::new(&[]), id);
    ContainerStatus { state: ContainerState::Running, exit_code: None, finished_at: None, ..status }
}

fn pod(uid: &str) -> PodIdentity {
    PodIdentity { uid: uid.into(), namespace: "ns".into(), name: "pod".into() }
}

fn sandbox(input: &mut Input<'_>, id: &str) -> SandboxStatus {
    SandboxStatus {
        id: id.into(),
        pod: PodIdentity { uid: uid_of(id).into(), namespace: "ns".into(), name: "pod".into() },
        attempt: u32::from(id == "s1"),
        state: input.pick(&SandboxState::ALL),
        created_at: Some(at(5)),
        ips: if input.chance(128) { vec!["10.0.0.1".into()] } else { Vec::new() },
        labels: labels(input),
        annotations: Labels::new(),
        runtime_handler: String::new(),
    }
}

fn container(input: &mut Input<'_>, id: &str) -> ContainerStatus {
    let state = input.pick(&ContainerState::ALL);
    let exited = state == ContainerState::Exited;
    ContainerStatus {
        id: id.into(),
        sandbox_id: sandbox_of(id).into(),
        name: id.into(),
        attempt: 0,
        state,
        created_at: Some(at(input.below(3) as i64)),
        started_at: (state.phase() >= Some(Phase::Running) && !input.chance(32)).then(|| at(10)),
        finished_at: exited.then(|| at(20)),
        exit_code: exited.then(|| input.pick(&[0, 1, 137])),
        reason: if exited { input.pick(&["Error", "OOMKilled", ""]).into() } else { String::new() },
        message: String::new(),
        image: "busybox".into(),
        image_ref: "sha256:1".into(),
        labels: labels(input),
        annotations: Labels::new(),
    }
}

fn labels(input: &mut Input<'_>) -> Labels {
    let value = input.pick(&["", "web", "db"]);
    if value.is_empty() { Labels::new() } else { Labels::from([("app", value)]) }
}

fn at(second: i64) -> Wall {
    Wall::from_nanos(super::harness::NOON.as_nanos() - (100 - second) * 1_000_000_000)
}
