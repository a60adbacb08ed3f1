//! What a runtime sends, from its bytes on: conversion, arbiter, cache and journal.
//!
//! An input is a sequence of messages. Each comes as bytes of the input, or is made of choices ([`super::made`]).

use std::{collections::HashMap, sync::Arc, time::Duration};

use plegd::{
    arbiter::ListedObject,
    clock::Mono,
    cri::{Listing, quirks::Quirks},
    fuzzing,
    model::{
        ContainerStatus, Detail, Interval, ObjectId, Observation, PodIdentity, PodUid, SandboxStatus, Source,
    },
};

use super::{
    bench::{Bench, NOON, in_paused_time},
    input::Input,
    made,
};

/// More is not read of an input: what matters happens between few ids.
const MESSAGES: usize = 200;

/// Takes in what the bytes say, and checks all that must hold.
pub fn check(bytes: &[u8]) {
    in_paused_time(run(bytes));
}

/// Inputs that are worth changing: lives of containers, in full and cut short.
pub fn seeds() -> Vec<Vec<u8>> {
    let choices = super::seeds::of_choices(24, 400);
    let raw = choices.iter().map(|choices| {
        let mut input = Input::new(choices);
        let mut seed = Vec::new();
        while !input.is_empty() {
            let message = made::event(&mut input, NOON);
            let [low, high] = (message.len() as u16).to_le_bytes();
            // At once, an event, as it is, whole.
            seed.extend([&[0, 0, low, high][..], &message, &[0]].concat());
        }
        seed
    });
    raw.chain(choices.clone()).collect()
}

struct Talk<'a> {
    input: Input<'a>,
    bench: Bench,
    /// Bytes that have come.
    came: usize,
    /// When the read began that will end next.
    read_began: Mono,
    /// The pod that an id was first said to be of.
    pods: HashMap<ObjectId, PodUid>,
}

async fn run(bytes: &[u8]) {
    let bench = Bench::new();
    let read_began = bench.clock.now();
    let mut talk = Talk { input: Input::new(bytes), bench, came: 0, read_began, pods: HashMap::new() };
    for _ in 0..MESSAGES {
        if talk.input.is_empty() {
            break;
        }
        talk.step().await;
    }
    talk.bench.witness.is_bounded_by(talk.came + 1, talk.bench.arbiter.tombstones());
}

// === impl Talk ===

impl Talk<'_> {
    async fn step(&mut self) {
        let time = self.input.pick(&[0, 1, 20, 60, 200, 6000]);
        self.bench.pass(Duration::from_millis(time)).await;
        match self.input.below(16) {
            0 => {
                let message = self.input.counted();
                self.event(message);
            }
            1 => {
                let (sandbox, container) = (self.input.counted(), self.input.counted());
                self.read(sandbox, container);
            }
            2 => {
                let (sandboxes, containers) = (self.input.counted(), self.input.counted());
                self.list(sandboxes, containers);
            }
            3 => {
                let version = made::version(&mut self.input);
                self.version(&version);
            }
            4 => {
                let version = self.input.counted();
                self.version(version);
            }
            5 => self.read_began = self.bench.clock.now(),
            6 => {
                let up = self.input.chance(128).then(|| self.bench.clock.now());
                self.bench.arbiter.set_stream_up(up);
            }
            7 if self.input.chance(64) => {
                let by = self.input.pick(&[-3_600_000_000_000, -60_000_000, 60_000_000, 3_600_000_000_000]);
                self.bench.hand.step(by);
            }
            7 | 8 => {
                let now = self.bench.clock.wall();
                let (sandboxes, containers) = made::lists(&mut self.input, now);
                self.list(&sandboxes, &containers);
            }
            9..=11 => {
                let now = self.bench.clock.wall();
                let id = made::id(&mut self.input);
                let [mut sandbox, mut container] = [Vec::new(), Vec::new()];
                if made::SANDBOXES.contains(&id) {
                    sandbox = made::sandbox_answer(&mut self.input, id, now);
                } else {
                    container = made::container_answer(&mut self.input, id, now);
                }
                self.read(&sandbox, &container);
            }
            _ => {
                let now = self.bench.clock.wall();
                let message = made::event(&mut self.input, now);
                self.event(&message);
            }
        }
    }

    fn event(&mut self, message: &[u8]) {
        self.came += message.len();
        let (received, received_at) = self.bench.clock.now_both();
        let Ok(mut event) = fuzzing::event(message, received, received_at) else { return };
        if self.input.chance(24) {
            event = fuzzing::trimmed(event);
        }
        if let Ok(observation) = self.bench.arbiter.to_observation(event) {
            self.apply(&observation);
        }
    }

    /// No runtime gives an id to two pods. What plegd makes of one that does is not promised.
    fn apply(&mut self, observation: &Observation) {
        let sandboxes = observation.sandboxes.iter().map(|it| &it.id);
        let containers = observation.containers.iter().map(|it| &it.id);
        let signal = observation.stream_event.as_ref().map(|event| &event.id);
        let mut pods = sandboxes
            .chain(containers)
            .chain(signal)
            .map(|id| self.pods.entry(id.clone()).or_insert_with(|| observation.pod.uid.clone()).clone());
        if pods.all(|pod| pod == observation.pod.uid) {
            self.bench.apply(observation);
        }
    }

    /// Two answers of one read, either of which may be empty; what it looked for besides is not there.
    fn read(&mut self, sandbox: &[u8], container: &[u8]) {
        self.came += sandbox.len() + container.len();
        let missed = made::id(&mut self.input);
        let Ok(sandbox) = fuzzing::sandbox_status(sandbox) else { return };
        let within = sandbox.as_ref().map_or_else(|| "s0".into(), |sandbox| sandbox.id.clone());
        let Ok(container) = fuzzing::container_status(container, &within) else { return };
        let Some(pod) = self.pod_of(sandbox.as_ref(), container.as_ref()) else { return };
        let mut absent: Vec<ObjectId> = Vec::new();
        if self.input.chance(128) && made::uid_of(missed) == pod.uid.as_str() {
            absent.push(missed.into());
        }
        absent.retain(|id| sandbox.as_ref().is_none_or(|it| it.id != *id));
        absent.retain(|id| container.as_ref().is_none_or(|it| it.id != *id));
        let sandboxes = sandbox.map(Arc::new).into_iter().collect();
        let containers = container.map(Arc::new).into_iter().collect();
        let seen =
            Observation { sandboxes, containers, absent, ..self.view(pod, Source::Read, Detail::Full) };
        self.apply(&seen);
        self.read_began = self.bench.clock.now();
    }

    /// Which pod a read is of: what is held knows it, or the sandbox says so.
    fn pod_of(
        &self,
        sandbox: Option<&SandboxStatus>,
        container: Option<&ContainerStatus>,
    ) -> Option<PodIdentity> {
        let ids = [sandbox.map(|it| &it.id), container.map(|it| &it.id)];
        let held = ids.into_iter().flatten().find_map(|id| self.bench.cache.pod_of(id.as_str()));
        held.or_else(|| sandbox.map(|it| it.pod.clone()))
    }

    /// What a list does not have is gone, if the list began late enough.
    fn list(&mut self, sandboxes: &[u8], containers: &[u8]) {
        self.came += sandboxes.len() + containers.len();
        let Ok(listing) = fuzzing::listing(sandboxes, containers) else { return };
        self.bench.arbiter.begin_list(self.read_began);
        for pod in self.bench.cache.identities() {
            let objects = listed(&listing, &pod);
            let names = (pod.uid.as_str(), &*pod.namespace, &*pod.name);
            let difference = self.bench.arbiter.reconcile_list(names, self.read_began, &objects);
            if !difference.absent.is_empty() {
                let view = self.view(pod, Source::Relist, Detail::Full);
                self.apply(&Observation { absent: difference.absent, ..view });
            }
        }
        self.read_began = self.bench.clock.now();
    }

    fn version(&mut self, answer: &[u8]) {
        self.came += answer.len();
        if let Ok(runtime) = fuzzing::runtime(answer) {
            self.bench.arbiter.set_quirks(Quirks::of(&runtime.name, &runtime.version));
        }
    }

    fn view(&self, pod: PodIdentity, source: Source, detail: Detail) -> Observation {
        let (upper, observed_at) = self.bench.clock.now_both();
        let interval = Interval { lower: Some(self.read_began), upper };
        match detail {
            Detail::Full => Observation::read(source, interval, observed_at, pod),
            Detail::Minimal => Observation::list(source, interval, observed_at, pod),
        }
    }
}

/// What a list has of one pod.
fn listed<'a>(listing: &'a Listing, pod: &PodIdentity) -> Vec<ListedObject<'a>> {
    let sandboxes = listing.sandboxes.iter().filter(|sandbox| sandbox.pod() == *pod);
    let of_pod = |id: &str| sandboxes.clone().any(|sandbox| sandbox.id == id);
    let containers = listing.containers.iter().filter(|container| of_pod(&container.sandbox_id));
    let containers = containers.map(|it| ListedObject {
        id: &it.id,
        phase: it.state.phase(),
        sandbox_id: Some(&it.sandbox_id),
    });
    let sandboxes = sandboxes.clone().map(|it| ListedObject {
        id: &it.id,
        phase: Some(it.state.phase()),
        sandbox_id: None,
    });
    sandboxes.chain(containers).collect()
}
