//! Finds changes that were published late, although no fault delayed plegd.

use std::time::Duration;

use plegd::{
    clock::Mono,
    sim::{
        Said, Saying,
        v1::{self, ContainerEventType},
    },
};

use super::{
    driver::FaultPeriods,
    facts::Facts,
    histories::Histories,
    oracle,
    witness::{self, is_listed_as_it_was},
};

/// The limit for a publication: a read, a wait for the death, and the check interval of 250 ms.
const WITHIN: Duration = Duration::from_millis(1300);
/// A failed read may wait this long for its retry, and the pod is not read meanwhile.
const RETRY: Duration = Duration::from_secs(45);

/// The time after which the backlog of a new stream has passed.
const BACKLOG: Duration = Duration::from_secs(3);
/// The time that plegd waits for a death, less a margin.
const DEATH_GRACE: Duration = Duration::from_millis(140);

/// The timeline of the node.
#[derive(Clone, Copy)]
pub struct Timeline<'a> {
    pub began: Mono,
    pub now: Mono,
    pub uncertain: &'a [(Mono, Mono)],
    pub steps: &'a [(Mono, i64)],
    pub fault_periods: &'a FaultPeriods,
}

/// Changes that the runtime reported and that were published late or not at all.
pub fn late(said: &[Said], facts: &Facts, histories: &Histories, timeline: Timeline<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut sandboxes: Option<&Said> = None;
    for it in said.iter().filter(|it| timeline.is_undisturbed(it.at)) {
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
                        found.extend(timeline.overdue(id, *phase, "listed", it.at, histories));
                    }
                }
                // Ids that were removed before the lists began.
                for (id, id_history) in
                    histories.by_id.iter().filter(|(_, id_history)| id_history.first.is_some())
                {
                    let gone =
                        facts.get(id).and_then(|fact| fact.gone()).is_some_and(|gone| gone < before.at);
                    let known = id_history.first.is_some_and(|first| first < before.at);
                    let removed = id_history.removed.is_some_and(|at| at <= it.at + WITHIN);
                    if gone && known && !removed && !listed.iter().any(|(listed, _)| listed == id) {
                        found.push(format!(
                            "{id} was in no list at {:?}, and its removal was published late",
                            it.at
                        ));
                    }
                }
            }
            Saying::Event(event) => {
                let phase = match event.container_event_type() {
                    ContainerEventType::ContainerStartedEvent => 2,
                    ContainerEventType::ContainerStoppedEvent => 3,
                    _ => continue,
                };
                // A repeated old event is read with the present state.
                let is_so = |fact: &super::facts::Fact| {
                    fact.subject == plegd::sim::Subject::Container
                        && fact.between(it.at, it.at + WITHIN).all(|version| {
                            version.object.as_ref().is_some_and(|object| witness::phase_in(object) == phase)
                        })
                };
                if is_placed(event, it, timeline.steps) && facts.get(&event.container_id).is_some_and(is_so) {
                    found.extend(timeline.overdue(&event.container_id, phase, "reported", it.at, histories));
                }
            }
            Saying::Sandbox(_) | Saying::Container(_) | Saying::Garbage => {}
        }
    }
    found
}

/// Intervals without a relist that were longer than the relist period. `periods` has the start of each period.
pub fn missing_relists(said: &[Said], periods: &[(Mono, Duration)], timeline: Timeline<'_>) -> Vec<String> {
    let lists: Vec<Mono> =
        said.iter().filter(|it| matches!(it.what, Saying::Containers(_))).map(|it| it.at).collect();
    let ends = periods.iter().skip(1).map(|(from, _)| *from).chain([timeline.now]);
    let mut found = Vec::new();
    for ((from, period), to) in periods.iter().zip(ends) {
        let longest = period.mul_f64(1.1) + WITHIN;
        let mut last = (*from).max(timeline.began);
        let within = lists.iter().copied().filter(|at| (last..to).contains(at)).collect::<Vec<_>>();
        for at in within.into_iter().chain([to]) {
            let delayed_by_fault = timeline.fault_periods.any(last - RETRY, at)
                || timeline.uncertain.iter().any(|(from, to)| *from <= at && last <= *to);
            if at.since(last) > longest && !delayed_by_fault {
                found.push(format!("no relist from {last:?} to {at:?}, with a period of {period:?}"));
            }
            last = at;
        }
    }
    found
}

/// New streams without a relist, or without a second one after the backlog. `stream_samples` has the start of the stream at each check.
pub fn missing_stream_relists(
    said: &[Said],
    stream_samples: &[(Mono, Option<Mono>)],
    timeline: Timeline<'_>,
) -> Vec<String> {
    let lists: Vec<Mono> =
        said.iter().filter(|it| matches!(it.what, Saying::Containers(_))).map(|it| it.at).collect();
    let mut found = Vec::new();
    for (n, pair) in stream_samples.windows(2).enumerate() {
        let [(before, was), (after, up)] = pair else { continue };
        if up.is_none() || up == was {
            continue;
        }
        for passed in [Duration::ZERO, BACKLOG] {
            let (from, to) = (*before + passed, *after + passed + WITHIN);
            let stays =
                stream_samples[n + 1..].iter().take_while(|(at, _)| *at <= to).all(|(_, later)| later == up);
            let delayed_by_fault = timeline.fault_periods.any(*before - RETRY, to)
                || timeline.uncertain.iter().any(|(began, ended)| *began <= to && *ended > *after);
            let is_listed = lists.iter().any(|at| (from..=to).contains(at));
            if stays && !delayed_by_fault && to < timeline.now && *before > timeline.began && !is_listed {
                found.push(format!("no relist from {from:?} to {to:?}, after the stream came up"));
            }
        }
    }
    found
}

/// Containers whose death was reported just after their deletion and published without the exit code.
pub fn without_code(said: &[Said], histories: &Histories, timeline: Timeline<'_>) -> Vec<String> {
    let of = |kind: ContainerEventType| {
        said.iter().filter_map(move |it| match &it.what {
            Saying::Event(event) if event.container_event_type() == kind => Some((it, event)),
            _ => None,
        })
    };
    let mut found = Vec::new();
    for (deleted, deletion) in of(ContainerEventType::ContainerDeletedEvent) {
        let id = deletion.container_id.as_str();
        let Some(id_history) = histories.by_id.get(id) else { continue };
        let was_running = id_history.started_at.is_some_and(|at| at < deleted.at)
            && id_history.died_at.is_some_and(|at| at >= deleted.at && at < deleted.at + WITHIN);
        let in_time = deleted.at..deleted.at + DEATH_GRACE;
        let mut deaths = of(ContainerEventType::ContainerStoppedEvent);
        let reported = deaths.any(|(stopped, death)| {
            death.container_id == id
                && in_time.contains(&stopped.at)
                && is_placed(death, stopped, timeline.steps)
                && death
                    .containers_statuses
                    .iter()
                    .any(|it| it.id == id && witness::phase_of(it.state()) == 3)
        });
        let placed = oracle::is_exact(deletion, deleted, timeline.steps);
        if was_running && reported && placed && timeline.is_undisturbed(deleted.at) && !id_history.code {
            found.push(format!(
                "{id} was published without the exit code that was reported just after its deletion"
            ));
        }
    }
    found
}

fn is_placed(event: &v1::ContainerEventResponse, said: &Said, steps: &[(Mono, i64)]) -> bool {
    event.pod_sandbox_status.is_some() && oracle::is_exact(event, said, steps)
}

// === impl Timeline ===

impl Timeline<'_> {
    /// Whether no fault delayed the publication of a report of that moment.
    fn is_undisturbed(&self, at: Mono) -> bool {
        at > self.began + WITHIN
            && at + WITHIN < self.now
            && !self.fault_periods.any(at - RETRY, at + WITHIN)
            && !self.uncertain.iter().any(|(from, to)| *from <= at + WITHIN && at <= *to + WITHIN)
    }

    fn overdue(&self, id: &str, phase: u8, how: &str, at: Mono, histories: &Histories) -> Option<String> {
        let id_history = histories.by_id.get(id)?;
        let by = at + WITHIN;
        let in_time = |published: Option<Mono>| published.is_some_and(|at| at <= by);
        let is_over = in_time(id_history.removed);
        let published = match phase {
            2 => in_time(id_history.started_at) || in_time(id_history.died_at),
            3 => in_time(id_history.died_at),
            _ => true,
        };
        (!published && !is_over)
            .then(|| format!("{id} was {how} in phase {phase} at {at:?}, and published late"))
    }
}
