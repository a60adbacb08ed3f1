//! Sequences of observations, however absurd: nothing goes back without a correction that is told, nothing comes back from
//! the dead by an event, what is gone is told as gone, and reads that agree have the last word.

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
    bench::{Bench, in_paused_time},
    input::Input,
    made::{self, CONTAINERS, SANDBOXES, sandbox_of, uid_of},
};

/// More is not read of an input.
const ACTS: usize = 200;
const RUNTIMES: [(&str, &str); 5] = [
    ("containerd", "2.3.0"),
    ("containerd", "1.7.27"),
    ("cri-o", "1.26.0"),
    ("cri-o", "1.34.0"),
    ("nobody knows", "1"),
];

/// Settles what the bytes say, and checks all that must hold.
pub fn check(bytes: &[u8]) {
    in_paused_time(run(Input::new(bytes)));
}

/// Inputs that are worth changing.
pub fn seeds() -> Vec<Vec<u8>> {
    super::seeds::of_choices(24, 600)
}

async fn run(mut input: Input<'_>) {
    let mut bench = Bench::new();
    let (name, version) = input.pick(&RUNTIMES);
    bench.arbiter.set_quirks(Quirks::of(name, version));
    for _ in 0..ACTS {
        if input.is_empty() {
            break;
        }
        act(&mut input, &mut bench).await;
    }
    last_word(&mut bench).await;
}

async fn act(input: &mut Input<'_>, bench: &mut Bench) {
    let time = input.pick(&[0, 1, 3, 49, 51, 150, 400, 3000]);
    bench.pass(Duration::from_millis(time)).await;
    if input.chance(24) {
        let up = input.chance(200).then(|| bench.clock.now());
        bench.arbiter.set_stream_up(up);
    }
    if input.chance(24) {
        bench.arbiter.begin_list(bench.clock.now());
    }
    let seen = observation(input, bench);
    let (served, phases) = (bench.witness.served(), phases(bench));
    let from = bench.journal.head();
    bench.apply(&seen);
    let told = told(bench, from);
    let was_told = |id: &ObjectId, kind| told.contains(&(id.clone(), kind));
    let is_read = seen.origin != Origin::Event;
    for (id, phase) in self::phases(bench) {
        let Some(before) = phases.get(&id) else { continue };
        let returned =
            is_read && SANDBOXES.contains(&id.as_str()) && was_told(&id, EventType::ContainerStarted);
        let corrected = is_read && was_told(&id, EventType::PodSync);
        let goes_on = phase.is_none() || phase >= *before;
        assert!(goes_on || returned || corrected, "{id} went from {before:?} to {phase:?} by {seen:?}");
    }
    let now_served = bench.witness.served();
    for id in served.keys().filter(|id| !now_served.contains_key(*id)) {
        assert!(was_told(id, EventType::ContainerRemoved), "{id} is gone without a word by {seen:?}");
    }
    for id in now_served.keys().filter(|id| !served.contains_key(*id)) {
        assert!(told.iter().any(|(told, _)| told == id), "{id} is served without a word by {seen:?}");
    }
}

/// Which kinds of events were told of which ids after event number `from`.
fn told(bench: &Bench, from: u64) -> Vec<(ObjectId, EventType)> {
    let mut cursor = bench.journal.cursor(from);
    let next = || cursor.try_next().expect("the journal has room");
    std::iter::from_fn(next).map(|record| (record.id.clone(), record.kind)).collect()
}

fn phases(bench: &Bench) -> BTreeMap<ObjectId, Option<Phase>> {
    let mut phases = BTreeMap::new();
    for pod in bench.cache.list() {
        let sandboxes = pod.sandboxes.iter().map(|it| (it.id.clone(), Some(it.state.phase())));
        let containers = pod.containers.iter().map(|it| (it.id.clone(), it.state.phase()));
        phases.extend(sandboxes.chain(containers));
    }
    phases
}

/// An event or a read of one pod.
fn observation(input: &mut Input<'_>, bench: &Bench) -> Observation {
    let (now, observed_at) = bench.clock.now_both();
    let age = Duration::from_millis(input.pick(&[0, 0, 0, 1, 60, 500, 5000, 700_000]));
    let upper = now - age;
    let about = made::id(input);
    let pod = uid_of(about);
    let mut seen = if input.chance(150) {
        let signal = StreamEvent {
            id: about.into(),
            kind: input.pick(&StreamEventType::ALL),
            stamped_at: input.chance(200).then_some(observed_at),
        };
        // A timestamp may be early by any amount, and the receipt is now.
        Observation { claimed: upper, ..Observation::event(signal, now, observed_at, self::pod(pod)) }
    } else {
        let took = Duration::from_millis(input.pick(&[0, 1, 30, 60, 3000]));
        let interval = Interval { lower: Some(upper - took), upper };
        let source = input.pick(&[Source::Read, Source::Relist]);
        Observation::read(source, interval, observed_at, self::pod(pod))
    };
    let is_read = seen.origin != Origin::Event;
    for id in SANDBOXES.into_iter().filter(|id| uid_of(id) == pod) {
        match input.below(4) {
            0 | 1 if id == about => seen.sandboxes.push(Arc::new(sandbox(input, id))),
            0 => seen.sandboxes.push(Arc::new(sandbox(input, id))),
            1 if is_read => seen.absent.push(id.into()),
            _ => {}
        }
    }
    for id in CONTAINERS.into_iter().filter(|id| uid_of(id) == pod) {
        match input.below(4) {
            0 | 1 if id == about => seen.containers.push(Arc::new(container(input, id))),
            0 => seen.containers.push(Arc::new(container(input, id))),
            1 if is_read => seen.absent.push(id.into()),
            _ => {}
        }
    }
    if input.chance(24) {
        seen.detail = Detail::Minimal;
        if is_read {
            seen.origin = Origin::List;
        }
    }
    seen
}

/// Whatever is held, three reads that agree, each begun after the one before, are what is served in the end.
async fn last_word(bench: &mut Bench) {
    let truth = [("u0", "s1", "c"), ("u1", "s2", "e")];
    for _ in 0..3 {
        for (uid, sandbox_id, container_id) in truth {
            bench.pass(Duration::from_secs(1)).await;
            let began = bench.clock.now();
            bench.pass(Duration::from_millis(5)).await;
            let (upper, at) = bench.clock.now_both();
            let interval = Interval { lower: Some(began), upper };
            let mut seen = Observation::read(Source::Read, interval, at, pod(uid));
            let sandbox = sandbox(&mut Input::new(&[]), sandbox_id);
            seen.sandboxes.push(Arc::new(SandboxStatus { state: SandboxState::Ready, ..sandbox }));
            seen.containers.push(Arc::new(running(container_id)));
            let others = SANDBOXES.into_iter().chain(CONTAINERS).filter(|id| uid_of(id) == uid);
            seen.absent =
                others.filter(|id| ![sandbox_id, container_id].contains(id)).map(Into::into).collect();
            bench.apply(&seen);
        }
    }
    for (uid, sandbox_id, container_id) in truth {
        let pod = bench.cache.get(&uid.into()).expect("the pod was read");
        let ids: Vec<&str> = pod.containers.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, [container_id]);
        assert_eq!(*pod.containers[0], running(container_id), "what three reads say");
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
    Wall::from_nanos(super::bench::NOON.as_nanos() - (100 - second) * 1_000_000_000)
}
