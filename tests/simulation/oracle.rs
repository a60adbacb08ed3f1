//! Derives the events that plegd must have published from the runtime's messages: nothing that reached plegd may be lost.
//!
//! It counts only messages that certainly arrived, with a credible timestamp. A message sent at the moment of a failure, or
//! while the process was stopped, may or may not have arrived.

use std::{
    collections::BTreeSet,
    ops::{RangeBounds, RangeInclusive},
    time::Duration,
};

use plegd::{
    clock::Mono,
    model::{EventType, Source, Subject},
    sim::{
        Change, ChangeKind, Exchange, Message,
        v1::{self, ContainerState, PodSandboxState},
    },
};

use super::{
    driver::{FaultPeriods, Received},
    facts::{Facts, Version},
    histories::{Histories, IdHistory},
    run::CHECK_INTERVAL,
    witness::{self, is_listed_as_it_was},
};

/// Tolerance of a timestamp, in nanoseconds.
const EXACT: i64 = 40_000_000;
/// Limit until a listed change is read or published as listed.
const READ_WITHIN: Duration = Duration::from_millis(600);
/// Limit until a status is applied with the others of its pod.
const APPLIED_WITHIN: Duration = Duration::from_millis(150);
/// The grace period of the stream for a change that a relist found.
const GRACE: Duration = Duration::from_secs(2);

/// Missing exit code of a death that was published from a list, because its status could not be read.
const CODE: &str = "dead with its exit code";
/// Missing start of a container that has a start time.
const START: &str = "started";

/// Missing state of a container or sandbox that runs.
const RUNNING: &str = "running";
/// Missing end.
const DEAD: &str = "dead";

/// A sandbox or container, as the runtime showed it.
struct Observed {
    id: String,
    sandbox: bool,
    /// A list shows it.
    listed: bool,
    running: bool,
    exited: bool,
    started: bool,
    /// It has ended, and its exit code was shown.
    code: bool,
}

/// Changes that the runtime certainly reported to the plegd that began at `began`, and that were not published.
///
/// `stops` are the moments at which a plegd ended, and `waits` is the request timeout.
#[allow(clippy::too_many_arguments, reason = "one caller, and each is a part of the simulation")]
pub fn lost(
    exchanges: &[Exchange],
    facts: &Facts,
    fault_periods: &FaultPeriods,
    began: Mono,
    uncertain: &[(Mono, Mono)],
    stops: &[Mono],
    steps: &[(Mono, i64)],
    waits: Duration,
    histories: &Histories,
) -> Vec<String> {
    let mut found = BTreeSet::new();
    let garbage: BTreeSet<Mono> =
        exchanges.iter().filter(|it| matches!(it.message, Message::Garbage)).map(|it| it.at).collect();
    let certain = |it: &&Exchange| {
        it.at > began + Duration::from_millis(50)
            && !uncertain.iter().any(|(from, to)| (*from..=*to).contains(&it.at))
            // The stream ends with it, and a message of the same moment may be lost.
            && !garbage.contains(&it.at)
    };
    // What it has listed and not read is lost with a plegd.
    let is_soon_after = |at: Mono, stop: Mono| at <= stop && stop <= at + READ_WITHIN + waits;
    let mut sandboxes: Option<&Exchange> = None;
    for it in exchanges.iter().filter(certain) {
        // A list that is not followed by the other one was not used.
        let observed = match (&it.message, sandboxes.take()) {
            (Message::Sandboxes(_), _) => {
                sandboxes = Some(it);
                continue;
            }
            // Nor was one whose response came after the request timeout.
            (
                Message::Containers(containers),
                Some(Exchange { message: Message::Sandboxes(sandboxes), at, .. }),
            ) if it.at <= *at + waits && !stops.iter().any(|stop| is_soon_after(it.at, *stop)) => {
                // No field of a sandbox states that it was ready. If an event shows that it no longer is, before the listed
                // sandbox is read, its start is lost; or if another read shows it before the list is complete.
                let until_read = *at..=it.at + READ_WITHIN;
                let meanwhile = *at..it.at;
                let of_sandboxes = sandboxes.iter().filter(|it| {
                    !is_ended(exchanges, &it.id, &until_read)
                        && !is_read_as_ended(exchanges, &it.id, &meanwhile)
                });
                // plegd must not publish a listed state that was never true.
                let is_true = |id: &str, phase| is_listed_as_it_was(facts, id, phase, it.at);
                let of_sandboxes =
                    of_sandboxes.filter(|it| is_true(&it.id, witness::phase_of_sandbox(it.state())));
                let containers =
                    containers.iter().filter(|it| is_true(&it.id, witness::phase_of(it.state())));
                let of_sandboxes = of_sandboxes.map(observed_listed_sandbox);
                of_sandboxes.chain(containers.map(observed_listed)).collect()
            }
            (Message::Event(event), before) => {
                sandboxes = before;
                let mut observed = observed_in(event, it, steps);
                // CRI-O also shows the containers of another pod with the same UID.
                let pod = event.pod_sandbox_status.as_ref().and_then(|status| facts.get(&status.id));
                let pod = pod.and_then(|sandbox| sandbox.pod.as_ref());
                observed
                    .retain(|observed| facts.get(&observed.id).is_none_or(|fact| fact.pod.as_ref() == pod));
                // The same if another message showed the end before.
                let before = began..=it.at;
                observed.retain(|observed| {
                    let ended = || {
                        is_ended(exchanges, &observed.id, &before)
                            || is_read_as_ended(exchanges, &observed.id, &before)
                    };
                    !(observed.sandbox && observed.running && ended())
                });
                observed
            }
            (Message::Sandbox(status), before) => {
                sandboxes = before;
                // A response that an event has overtaken.
                let observed = observed_sandbox(status);
                let until_applied = began..=it.at + APPLIED_WITHIN;
                let overtaken = observed.running && is_ended(exchanges, &observed.id, &until_applied);
                if overtaken { Vec::new() } else { vec![observed] }
            }
            (Message::Container(status), before) => {
                sandboxes = before;
                vec![observed_container(status)]
            }
            (Message::Containers(_) | Message::Garbage, _) => continue,
        };
        for observed in observed {
            let id_history = histories.by_id.get(&observed.id);
            if id_history.is_none() && is_of_no_pod(&observed.id, facts, exchanges, began..=it.at) {
                continue;
            }
            // Nothing is published after the removal of an id.
            if id_history
                .is_some_and(|id_history| id_history.removed.is_some_and(|at| at <= it.at + CHECK_INTERVAL))
            {
                continue;
            }
            let read_late = id_history
                .and_then(|id_history| id_history.died_at)
                .is_some_and(|at| fault_periods.any(at, at));
            let after_death =
                id_history.and_then(|id_history| id_history.died_at).is_some_and(|at| at < it.at);
            let unpublished = observed.unpublished(id_history).filter(|what| match *what {
                CODE => !read_late,
                // No start is published after a death that was published from a list.
                START => {
                    !(read_late && after_death && id_history.is_some_and(|id_history| !id_history.inferred))
                }
                // Nor is one that only a list shows.
                RUNNING => !(observed.listed && after_death),
                // It exists again, and its status shows it. A list that shows it dead is late or wrong.
                DEAD => !(observed.listed && is_read_as_alive(exchanges, facts, &observed.id, it.at)),
                _ => true,
            });
            let at = it.at.since(Mono::ZERO);
            found.extend(
                unpublished.map(|what| {
                    format!("{} was shown {what} at {at:?}, which is not published", observed.id)
                }),
            );
        }
    }
    found.into_iter().collect()
}

/// Whether no message until then shows the pod of a container: its sandbox is gone, and it has no labels, or only lists have shown it,
/// from which plegd reads none.
fn is_of_no_pod(id: &str, facts: &Facts, exchanges: &[Exchange], within: RangeInclusive<Mono>) -> bool {
    let Some(fact) = facts.get(id) else { return false };
    let labelled = fact.versions.iter().filter_map(Version::container);
    let labelled = labelled.into_iter().any(|it| it.spec.labels.contains_key("io.kubernetes.pod.uid"));
    let shows_sandbox = |it: &&Exchange| match &it.message {
        Message::Sandboxes(all) => all.iter().any(|it| it.id == fact.sandbox_id),
        Message::Sandbox(status) => status.id == fact.sandbox_id,
        Message::Event(event) => {
            event.pod_sandbox_status.as_ref().is_some_and(|status| status.id == fact.sandbox_id)
        }
        Message::Containers(_) | Message::Container(_) | Message::Garbage => false,
    };
    let has_status = |it: &&Exchange| match &it.message {
        Message::Container(status) => status.id == id,
        Message::Event(event) => event.containers_statuses.iter().any(|status| status.id == id),
        _ => false,
    };
    let labelled =
        labelled && exchanges.iter().filter(|it| within.contains(&it.at)).any(|it| has_status(&it));
    !labelled && !exchanges.iter().filter(|it| within.contains(&it.at)).any(|it| shows_sandbox(&it))
}

/// Whether an event in this interval shows that a sandbox has ended.
fn is_ended(exchanges: &[Exchange], sandbox_id: &str, within: &RangeInclusive<Mono>) -> bool {
    exchanges.iter().filter(|it| within.contains(&it.at)).any(|it| {
        let Message::Event(event) = &it.message else { return false };
        let status = event.pod_sandbox_status.as_ref();
        status.is_some_and(|it| it.id == sandbox_id && it.state() != PodSandboxState::SandboxReady)
    })
}

/// Whether the next read shows that a container or sandbox has not ended, and it has not.
fn is_read_as_alive(exchanges: &[Exchange], facts: &Facts, id: &str, from: Mono) -> bool {
    let status = |it: &Exchange| match &it.message {
        Message::Sandbox(status) if status.id == id => {
            Some((it.at, status.state() == PodSandboxState::SandboxReady))
        }
        Message::Container(status) if status.id == id => {
            Some((it.at, status.state() == ContainerState::ContainerRunning))
        }
        _ => None,
    };
    let is_alive = |version: &Version| version.object.as_ref().is_some_and(|it| witness::phase_in(it) < 3);
    let (at, alive) = exchanges.iter().filter(|it| it.at >= from).find_map(status).unwrap_or((from, false));
    alive && facts.get(id).is_some_and(|fact| fact.between(at, at).all(is_alive))
}

/// Whether a list or a read in this interval shows that a sandbox has ended.
fn is_read_as_ended(exchanges: &[Exchange], sandbox_id: &str, within: &impl RangeBounds<Mono>) -> bool {
    exchanges.iter().filter(|it| within.contains(&it.at)).any(|it| match &it.message {
        Message::Sandbox(status) => {
            status.id == sandbox_id && status.state() != PodSandboxState::SandboxReady
        }
        Message::Sandboxes(listed) => {
            listed.iter().any(|it| it.id == sandbox_id && it.state() != PodSandboxState::SandboxReady)
        }
        _ => false,
    })
}

/// The minimum and maximum number of missed events. Minimum: changes that a relist found first and no event reported although
/// the stream was certainly `up`. Maximum: changes with an event that was not sent in time.
#[allow(clippy::too_many_arguments, reason = "one caller, and each is a part of the simulation")]
pub fn misses(
    exchanges: &[Exchange],
    history: &[Change],
    began: Mono,
    uncertain: &[(Mono, Mono)],
    facts: &Facts,
    histories: &Histories,
    up: impl Fn(Mono, Mono) -> bool,
    lost_stream: impl Fn(Mono, Mono) -> bool,
) -> (usize, usize) {
    let said_of =
        |change: &Change, kind: v1::ContainerEventType, until: Mono, counts: &dyn Fn(Mono) -> bool| {
            exchanges.iter().filter(|it| counts(it.at)).any(|it| match &it.message {
                Message::Event(event) => {
                    event.container_id == change.id
                        && event.container_event_type() == kind
                        && (change.at..=until).contains(&it.at)
                }
                _ => false,
            })
        };
    let is_said = |change: &Change, kind, until| said_of(change, kind, until, &|_| true);
    // A message during a pause arrives late.
    let certain = |at: Mono| !uncertain.iter().any(|(from, to)| (*from..=*to).contains(&at));
    let in_time = |change: &Change, kind| said_of(change, kind, change.at + GRACE, &certain);
    let signalled = history.iter().filter(|change| change.signalled);
    let signalled: Vec<(&Change, v1::ContainerEventType)> =
        signalled.filter_map(|change| Some((change, kind_of(&change.kind)?))).collect();
    let lost = signalled.iter().filter(|(change, kind)| !is_said(change, *kind, change.at + GRACE));
    let first_by_relist = |change: &Change, kind: v1::ContainerEventType| {
        // If its own clock is off, the time of the change is unknown.
        if facts.get(&change.id).is_some_and(|fact| fact.clock_offset != 0) {
            return false;
        }
        histories.received.iter().any(|received| {
            let event = &received.event;
            event.id.as_str() == change.id
                && received.at >= change.at
                && event.subject == Subject::Container
                && kind_of_event(event.kind) == Some(kind)
                && event.source == Source::Relist
                && !event.inferred
                && event.occurred_at.is_some()
                && event.reason != "StartError"
                && !is_said(change, kind, received.at + 2 * GRACE)
                && change.at > began
                && up(change.at, received.at + 2 * GRACE)
        })
    };
    let least = lost.filter(|(change, kind)| first_by_relist(change, *kind)).count();
    // Changes before this plegd that a repeated event reported again: their end was published by the previous plegd.
    let echoed = history.iter().filter(|change| change.signalled && change.at <= began);
    let echoed = echoed.filter(|change| histories.by_id.contains_key(&change.id)).count();
    let late = signalled.iter().filter(|(change, kind)| change.at > began && !in_time(change, *kind));
    // A change does not count if the stream was lost within the grace period after another path had shown it.
    let excused = |change: &Change, kind: v1::ContainerEventType| {
        let is_it = |received: &&Received| {
            received.event.id.as_str() == change.id
                && kind_of_event(received.event.kind) == Some(kind)
                && received.at >= change.at
        };
        let published: Vec<Mono> =
            histories.received.iter().filter(is_it).map(|received| received.at).collect();
        matches!(published[..], [at] if lost_stream(at, at + GRACE - 2 * CHECK_INTERVAL))
    };
    let late = late.filter(|(change, kind)| !excused(change, *kind)).count();
    (least, late + echoed)
}

fn kind_of(what: &ChangeKind) -> Option<v1::ContainerEventType> {
    Some(match what {
        ChangeKind::Started => v1::ContainerEventType::ContainerStartedEvent,
        ChangeKind::Died { .. } => v1::ContainerEventType::ContainerStoppedEvent,
        ChangeKind::Removed => v1::ContainerEventType::ContainerDeletedEvent,
        _ => return None,
    })
}

fn kind_of_event(kind: EventType) -> Option<v1::ContainerEventType> {
    Some(match kind {
        EventType::ContainerStarted => v1::ContainerEventType::ContainerStartedEvent,
        EventType::ContainerDied => v1::ContainerEventType::ContainerStoppedEvent,
        EventType::ContainerRemoved => v1::ContainerEventType::ContainerDeletedEvent,
        _ => return None,
    })
}

// === impl Observed ===

impl Observed {
    /// The required events that were not published.
    fn unpublished(&self, id_history: Option<&IdHistory>) -> impl Iterator<Item = &'static str> {
        let never = id_history.is_none().then_some("at all");
        let start =
            (self.started && id_history.is_some_and(|id_history| !id_history.started)).then_some(START);
        let death = (self.exited && id_history.is_some_and(|id_history| !id_history.died)).then_some(DEAD);
        // A correction also shows that it runs.
        let runs = |id_history: &IdHistory| id_history.started || id_history.corrected > 0;
        let running =
            (self.running && id_history.is_some_and(|id_history| !runs(id_history))).then_some(RUNNING);
        // A returned object moves forward by a read only, which may come too late for the exit code.
        let code = self.code
            && id_history
                .is_some_and(|id_history| id_history.died && !id_history.code && id_history.corrected == 0);
        let code = code.then_some(CODE);
        [never, start, death, running, code].into_iter().flatten()
    }
}

/// Whether the timestamp of an event is credible.
pub fn is_exact(event: &v1::ContainerEventResponse, exchange: &Exchange, steps: &[(Mono, i64)]) -> bool {
    let age = exchange.wall.as_nanos().saturating_sub(event.created_at);
    // The clock may have been stepped forward between timestamp and arrival.
    let since = |step: &&(Mono, i64)| {
        step.0 <= exchange.at && exchange.at <= step.0 + Duration::from_nanos(EXACT as u64)
    };
    let put_forward = steps.iter().filter(since).map(|(_, by)| *by).filter(|by| *by > 0);
    put_forward.chain([0]).any(|by| (-EXACT..=EXACT).contains(&(age - by)))
}

/// The objects in an event, if it has a pod and a credible timestamp.
fn observed_in(
    event: &v1::ContainerEventResponse,
    exchange: &Exchange,
    steps: &[(Mono, i64)],
) -> Vec<Observed> {
    let Some(sandbox) = &event.pod_sandbox_status else { return Vec::new() };
    if !is_exact(event, exchange, steps) {
        return Vec::new();
    }
    let containers = event.containers_statuses.iter().map(observed_container);
    containers.chain([observed_sandbox(sandbox)]).collect()
}

fn observed_container(status: &v1::ContainerStatus) -> Observed {
    Observed {
        id: status.id.clone(),
        sandbox: false,
        listed: false,
        running: status.state() == ContainerState::ContainerRunning,
        exited: status.state() == ContainerState::ContainerExited,
        started: status.started_at != 0 && status.state() != ContainerState::ContainerUnknown,
        code: status.state() == ContainerState::ContainerExited,
    }
}

fn observed_listed(container: &v1::Container) -> Observed {
    Observed {
        id: container.id.clone(),
        sandbox: false,
        listed: true,
        running: container.state() == ContainerState::ContainerRunning,
        exited: container.state() == ContainerState::ContainerExited,
        started: false,
        code: false,
    }
}

fn observed_sandbox(status: &v1::PodSandboxStatus) -> Observed {
    let ready = status.state() == PodSandboxState::SandboxReady;
    Observed {
        id: status.id.clone(),
        sandbox: true,
        listed: false,
        running: ready,
        exited: !ready,
        started: false,
        code: false,
    }
}

fn observed_listed_sandbox(sandbox: &v1::PodSandbox) -> Observed {
    let ready = sandbox.state() == PodSandboxState::SandboxReady;
    Observed {
        id: sandbox.id.clone(),
        sandbox: true,
        listed: true,
        running: ready,
        exited: !ready,
        started: false,
        code: false,
    }
}
