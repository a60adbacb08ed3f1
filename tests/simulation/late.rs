//! What was published late: what an event or a list has shown for certain is published soon, where nothing hinders it.

use std::time::Duration;

use plegd::{
    clock::Mono,
    sim::{
        Said, Saying,
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

/// How long after a stream came up its backlog has passed.
const BACKLOG: Duration = Duration::from_secs(3);
/// A death is waited for so long, and a little less.
const DEATH_GRACE: Duration = Duration::from_millis(140);

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
pub fn late(said: &[Said], facts: &Facts, lives: &Lives, times: Times<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut sandboxes: Option<&Said> = None;
    for it in said.iter().filter(|it| times.is_calm(it.at)) {
        match &it.what {
            Saying::Sandboxes(_) => sandboxes = Some(it),
            Saying::Containers(containers) => {
                let Some(before) = sandboxes.take().filter(|before| before.at + WITHIN > it.at) else {
                    continue;
                };
                let Saying::Sandboxes(of_sandboxes) = &before.what else { continue };
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
            Saying::Event(event) => {
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
            Saying::Sandbox(_) | Saying::Container(_) | Saying::Garbage => {}
        }
    }
    found
}

/// How long no relist came although a period was in force and nothing hindered it. `periods` says from when on which one was.
pub fn unlisted(said: &[Said], periods: &[(Mono, Duration)], times: Times<'_>) -> Vec<String> {
    let lists: Vec<Mono> =
        said.iter().filter(|it| matches!(it.what, Saying::Containers(_))).map(|it| it.at).collect();
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

/// What was not listed when a stream had come up, and once more when its backlog had passed. `looks` says since when it was up.
pub fn unchecked(said: &[Said], looks: &[(Mono, Option<Mono>)], times: Times<'_>) -> Vec<String> {
    let lists: Vec<Mono> =
        said.iter().filter(|it| matches!(it.what, Saying::Containers(_))).map(|it| it.at).collect();
    let mut found = Vec::new();
    for (n, pair) in looks.windows(2).enumerate() {
        let [(before, was), (after, up)] = pair else { continue };
        if up.is_none() || up == was {
            continue;
        }
        for passed in [Duration::ZERO, BACKLOG] {
            let (from, to) = (*before + passed, *after + passed + WITHIN);
            let stays = looks[n + 1..].iter().take_while(|(at, _)| *at <= to).all(|(_, later)| later == up);
            let hindered = times.hindrances.any(*before - RETRY, to)
                || times.uncertain.iter().any(|(began, ended)| *began <= to && *before <= *ended + WITHIN);
            let is_listed = lists.iter().any(|at| (from..=to).contains(at));
            if stays && !hindered && to < times.now && *before > times.began + WITHIN && !is_listed {
                found.push(format!("nothing was listed from {from:?} to {to:?}, after the stream came up"));
            }
        }
    }
    found
}

/// Containers whose death was reported just after their deletion, and which were published without the exit code.
pub fn without_code(said: &[Said], lives: &Lives, times: Times<'_>) -> Vec<String> {
    let of = |kind: ContainerEventType| {
        said.iter().filter_map(move |it| match &it.what {
            Saying::Event(event) if event.container_event_type() == kind => Some((it, event)),
            _ => None,
        })
    };
    let mut found = Vec::new();
    for (deleted, deletion) in of(ContainerEventType::ContainerDeletedEvent) {
        let id = deletion.container_id.as_str();
        let Some(life) = lives.by_id.get(id) else { continue };
        let was_running = life.started_at.is_some_and(|at| at < deleted.at)
            && life.died_at.is_some_and(|at| at >= deleted.at && at < deleted.at + WITHIN);
        let in_time = deleted.at..deleted.at + DEATH_GRACE;
        let mut deaths = of(ContainerEventType::ContainerStoppedEvent);
        let reported = deaths.any(|(stopped, death)| {
            death.container_id == id
                && in_time.contains(&stopped.at)
                && is_placed(death, stopped, times.steps)
                && death
                    .containers_statuses
                    .iter()
                    .any(|it| it.id == id && witness::phase_of(it.state()) == 3)
        });
        let placed = oracle::is_exact(deletion, deleted, times.steps);
        if was_running && reported && placed && times.is_calm(deleted.at) && !life.code {
            found.push(format!("{id} was published without the exit code that came just after its deletion"));
        }
    }
    found
}

fn is_placed(event: &v1::ContainerEventResponse, said: &Said, steps: &[(Mono, i64)]) -> bool {
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
