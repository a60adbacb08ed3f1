//! What was published late: what an event or a list has shown for certain is published soon, where nothing hinders it.

use std::time::Duration;

use plegd::{
    clock::Mono,
    sim::{
        Exchange, Message,
        v1::{self, ContainerEventType},
    },
};

use super::{
    facts::Facts,
    lives::Lives,
    oracle,
    stage::Hindrances,
    witness::{self, is_listed_as_it_was},
};

/// Within so much it is published: it is read, a death may be waited for, and it is looked at four times a second.
const WITHIN: Duration = Duration::from_millis(1300);
/// What failed before may wait for its retry so long, and nothing of the pod is read meanwhile.
const RETRY: Duration = Duration::from_secs(45);

/// What is known of the node at all times.
#[derive(Clone, Copy)]
pub struct Times<'a> {
    pub began: Mono,
    pub now: Mono,
    pub uncertain: &'a [(Mono, Mono)],
    pub steps: &'a [(Mono, i64)],
    pub hindrances: &'a Hindrances,
}

/// What has been said and was published late, or not yet though it is late.
pub fn late(said: &[Exchange], facts: &Facts, lives: &Lives, times: Times<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut sandboxes: Option<&Exchange> = None;
    for it in said.iter().filter(|it| times.is_calm(it.at)) {
        match &it.message {
            Message::Sandboxes(_) => sandboxes = Some(it),
            Message::Containers(containers) => {
                let Some(before) = sandboxes.take().filter(|before| before.at + WITHIN > it.at) else {
                    continue;
                };
                let Message::Sandboxes(of_sandboxes) = &before.message else { continue };
                let containers = containers.iter().map(|it| (it.id.as_str(), witness::phase_of(it.state())));
                let of_sandboxes =
                    of_sandboxes.iter().map(|it| (it.id.as_str(), witness::phase_of_sandbox(it.state())));
                let listed: Vec<(&str, u8)> = containers.chain(of_sandboxes).collect();
                for (id, phase) in &listed {
                    if is_listed_as_it_was(facts, id, *phase, it.at) {
                        found.extend(times.overdue(id, *phase, "listed", it.at, lives));
                    }
                }
                // What had left before the lists began.
                for (id, life) in lives.by_id.iter().filter(|(_, life)| life.first.is_some()) {
                    let gone =
                        facts.get(id).and_then(|fact| fact.gone()).is_some_and(|gone| gone < before.at);
                    let known = life.first.is_some_and(|first| first < before.at);
                    let removed = life.removed.is_some_and(|at| at <= it.at + WITHIN);
                    if gone && known && !removed && !listed.iter().any(|(listed, _)| listed == id) {
                        found.push(format!("{id} was in no list at {:?}, and its removal is late", it.at));
                    }
                }
            }
            Message::Event(event) => {
                let phase = match event.container_event_type() {
                    ContainerEventType::ContainerStartedEvent => 2,
                    ContainerEventType::ContainerStoppedEvent => 3,
                    _ => continue,
                };
                // What is told again of what was before is read as it is now.
                let is_so = |fact: &super::facts::Fact| {
                    fact.subject == plegd::sim::Subject::Container
                        && fact.between(it.at, it.at + WITHIN).all(|version| {
                            version.object.as_ref().is_some_and(|object| witness::phase_in(object) == phase)
                        })
                };
                if is_placed(event, it, times.steps) && facts.get(&event.container_id).is_some_and(is_so) {
                    found.extend(times.overdue(&event.container_id, phase, "reported", it.at, lives));
                }
            }
            Message::Sandbox(_) | Message::Container(_) | Message::Garbage => {}
        }
    }
    found
}

/// How long no relist came although a period was in force and nothing hindered it. `periods` says from when on which one was.
pub fn unlisted(said: &[Exchange], periods: &[(Mono, Duration)], times: Times<'_>) -> Vec<String> {
    let lists: Vec<Mono> =
        said.iter().filter(|it| matches!(it.message, Message::Containers(_))).map(|it| it.at).collect();
    let ends = periods.iter().skip(1).map(|(from, _)| *from).chain([times.now]);
    let mut found = Vec::new();
    for ((from, period), to) in periods.iter().zip(ends) {
        let longest = period.mul_f64(1.1) + WITHIN;
        let mut last = (*from).max(times.began);
        let within = lists.iter().copied().filter(|at| (last..to).contains(at)).collect::<Vec<_>>();
        for at in within.into_iter().chain([to]) {
            let hindered = times.hindrances.any(last - RETRY, at)
                || times.uncertain.iter().any(|(from, to)| *from <= at && last <= *to);
            if at.since(last) > longest && !hindered {
                found.push(format!("no relist from {last:?} to {at:?}, with a period of {period:?}"));
            }
            last = at;
        }
    }
    found
}

fn is_placed(event: &v1::ContainerEventResponse, said: &Exchange, steps: &[(Mono, i64)]) -> bool {
    event.pod_sandbox_status.is_some() && oracle::is_exact(event, said, steps)
}

// === impl Times ===

impl Times<'_> {
    /// Whether nothing hindered plegd from publishing what was said at that moment.
    fn is_calm(&self, at: Mono) -> bool {
        at > self.began + WITHIN
            && at + WITHIN < self.now
            && !self.hindrances.any(at - RETRY, at + WITHIN)
            && !self.uncertain.iter().any(|(from, to)| *from <= at + WITHIN && at <= *to + WITHIN)
    }

    fn overdue(&self, id: &str, phase: u8, how: &str, at: Mono, lives: &Lives) -> Option<String> {
        let life = lives.by_id.get(id)?;
        let by = at + WITHIN;
        let in_time = |told: Option<Mono>| told.is_some_and(|told| told <= by);
        let is_over = in_time(life.removed);
        let published = match phase {
            2 => in_time(life.started_at) || in_time(life.died_at),
            3 => in_time(life.died_at),
            _ => true,
        };
        (!published && !is_over)
            .then(|| format!("{id} was {how} in phase {phase} at {at:?}, and that is late"))
    }
}
