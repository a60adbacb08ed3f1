//! The path of a runtime's messages from bytes on: conversion, arbiter, cache and journal.
//!
//! An input is a sequence of messages. Each is given as bytes, or generated from choices ([`super::generated`]).

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
    generated,
    harness::{Harness, NOON, in_paused_time},
    input::Input,
};

/// Maximum number of messages: a few ids are enough.
const MESSAGES: usize = 200;

/// Runs one input.
pub fn check(bytes: &[u8]) {
    in_paused_time(run(bytes));
}

/// The initial inputs: events of containers, as bytes and as choices.
pub fn seeds() -> Vec<Vec<u8>> {
    let choices = super::seeds::of_choices(24, 400);
    let raw = choices.iter().map(|choices| {
        let mut input = Input::new(choices);
        let mut seed = Vec::new();
        while !input.is_empty() {
            let message = generated::event(&mut input, NOON);
            let [low, high] = (message.len() as u16).to_le_bytes();
            // No delay, an event, given as bytes, not stripped.
            seed.extend([&[0, 0, low, high][..], &message, &[0]].concat());
        }
        seed
    });
    raw.chain(choices.clone()).collect()
}

struct Messages<'a> {
    input: Input<'a>,
    harness: Harness,
    /// Bytes received.
    received: usize,
    /// When the current read or list began.
    read_began: Mono,
    /// The first pod of each id.
    pods: HashMap<ObjectId, PodUid>,
}

async fn run(bytes: &[u8]) {
    let harness = Harness::new();
    let read_began = harness.clock.now();
    let mut messages =
        Messages { input: Input::new(bytes), harness, received: 0, read_began, pods: HashMap::new() };
    for _ in 0..MESSAGES {
        if messages.input.is_empty() {
            break;
        }
        messages.step().await;
    }
    messages.harness.checker.is_bounded_by(messages.received + 1, messages.harness.arbiter.tombstones());
}

// === impl Messages ===

impl Messages<'_> {
    async fn step(&mut self) {
        let time = self.input.pick(&[0, 1, 20, 60, 200, 6000]);
        self.harness.pass(Duration::from_millis(time)).await;
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
                let version = generated::version(&mut self.input);
                self.version(&version);
            }
            4 => {
                let version = self.input.counted();
                self.version(version);
            }
            5 => self.read_began = self.harness.clock.now(),
            6 => {
                let up = self.input.chance(128).then(|| self.harness.clock.now());
                self.harness.arbiter.set_stream_up(up);
            }
            7 if self.input.chance(64) => {
                let by = self.input.pick(&[-3_600_000_000_000, -60_000_000, 60_000_000, 3_600_000_000_000]);
                self.harness.hand.step(by);
            }
            7 | 8 => {
                let now = self.harness.clock.wall();
                let (sandboxes, containers) = generated::lists(&mut self.input, now);
                self.list(&sandboxes, &containers);
            }
            9..=11 => {
                let now = self.harness.clock.wall();
                let id = generated::id(&mut self.input);
                let [mut sandbox, mut container] = [Vec::new(), Vec::new()];
                if generated::SANDBOXES.contains(&id) {
                    sandbox = generated::sandbox_answer(&mut self.input, id, now);
                } else {
                    container = generated::container_answer(&mut self.input, id, now);
                }
                self.read(&sandbox, &container);
            }
            _ => {
                let now = self.harness.clock.wall();
                let message = generated::event(&mut self.input, now);
                self.event(&message);
            }
        }
    }

    fn event(&mut self, message: &[u8]) {
        self.received += message.len();
        let (received, received_at) = self.harness.clock.now_both();
        let Ok(mut event) = fuzzing::event(message, received, received_at) else { return };
        if self.input.chance(24) {
            event = fuzzing::stripped(event);
        }
        if let Ok(observation) = self.harness.arbiter.to_observation(event) {
            self.apply(&observation);
        }
    }

    /// Skips observations that give an id to two pods: no runtime does so, and plegd's behaviour is undefined then.
    fn apply(&mut self, observation: &Observation) {
        let sandboxes = observation.sandboxes.iter().map(|it| &it.id);
        let containers = observation.containers.iter().map(|it| &it.id);
        let signal = observation.stream_event.as_ref().map(|event| &event.id);
        let mut pods = sandboxes
            .chain(containers)
            .chain(signal)
            .map(|id| self.pods.entry(id.clone()).or_insert_with(|| observation.pod.uid.clone()).clone());
        if pods.all(|pod| pod == observation.pod.uid) {
            self.harness.apply(observation);
        }
    }

    /// A read with up to two answers; another id may be absent.
    fn read(&mut self, sandbox: &[u8], container: &[u8]) {
        self.received += sandbox.len() + container.len();
        let missed = generated::id(&mut self.input);
        let Ok(sandbox) = fuzzing::sandbox_status(sandbox) else { return };
        let within = sandbox.as_ref().map_or_else(|| "s0".into(), |sandbox| sandbox.id.clone());
        let Ok(container) = fuzzing::container_status(container, &within) else { return };
        let Some(pod) = self.pod_of(sandbox.as_ref(), container.as_ref()) else { return };
        let mut absent: Vec<ObjectId> = Vec::new();
        if self.input.chance(128) && generated::uid_of(missed) == pod.uid.as_str() {
            absent.push(missed.into());
        }
        absent.retain(|id| sandbox.as_ref().is_none_or(|it| it.id != *id));
        absent.retain(|id| container.as_ref().is_none_or(|it| it.id != *id));
        let sandboxes = sandbox.map(Arc::new).into_iter().collect();
        let containers = container.map(Arc::new).into_iter().collect();
        let observation =
            Observation { sandboxes, containers, absent, ..self.view(pod, Source::Read, Detail::Full) };
        self.apply(&observation);
        self.read_began = self.harness.clock.now();
    }

    /// The pod of a read: by the cache, or by the sandbox.
    fn pod_of(
        &self,
        sandbox: Option<&SandboxStatus>,
        container: Option<&ContainerStatus>,
    ) -> Option<PodIdentity> {
        let ids = [sandbox.map(|it| &it.id), container.map(|it| &it.id)];
        let held = ids.into_iter().flatten().find_map(|id| self.harness.cache.pod_of(id.as_str()));
        held.or_else(|| sandbox.map(|it| it.pod.clone()))
    }

    /// A list; ids that it lacks are absent if the list began late enough.
    fn list(&mut self, sandboxes: &[u8], containers: &[u8]) {
        self.received += sandboxes.len() + containers.len();
        let Ok(listing) = fuzzing::listing(sandboxes, containers) else { return };
        self.harness.arbiter.begin_list(self.read_began);
        for pod in self.harness.cache.identities() {
            let objects = listed(&listing, &pod);
            let names = (pod.uid.as_str(), &*pod.namespace, &*pod.name);
            let difference = self.harness.arbiter.reconcile_list(names, self.read_began, &objects);
            if !difference.absent.is_empty() {
                let view = self.view(pod, Source::Relist, Detail::Full);
                self.apply(&Observation { absent: difference.absent, ..view });
            }
        }
        self.read_began = self.harness.clock.now();
    }

    fn version(&mut self, answer: &[u8]) {
        self.received += answer.len();
        if let Ok(runtime) = fuzzing::runtime(answer) {
            self.harness.arbiter.set_quirks(Quirks::of(&runtime.name, &runtime.version));
        }
    }

    fn view(&self, pod: PodIdentity, source: Source, detail: Detail) -> Observation {
        let (upper, observed_at) = self.harness.clock.now_both();
        let interval = Interval { lower: Some(self.read_began), upper };
        match detail {
            Detail::Full => Observation::read(source, interval, observed_at, pod),
            Detail::Minimal => Observation::list(source, interval, observed_at, pod),
        }
    }
}

/// The objects of one pod in a list.
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
