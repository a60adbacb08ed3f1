//! What must have been told in the end, given what the runtime has said: nothing that reached plegd may be lost on it.
//!
//! Counted is only what arrived for certain, under a stamp that could be believed. What was said at the very moment at which
//! something broke, or while the process was stopped, may not have arrived, and may have.

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
    facts::{Facts, Version},
    lives::{Life, Lives},
    play::LOOKS_APART,
    stage::{Heard, Hindrances},
    witness::{self, is_listed_as_it_was},
};

/// How exact a stamp must be to be believed.
const EXACT: i64 = 40_000_000;
/// What a list showed is read, or told as it was listed, within so much.
const READ_WITHIN: Duration = Duration::from_millis(600);
/// The stream may tell so much later what a relist has found.
const GRACE: Duration = Duration::from_secs(2);

/// What is missing of a death that was told as a list showed it, while its status could not be read: it may be gone before it can be.
const CODE: &str = "dead with its exit code";
/// What is missing of a container that has a time at which it was started.
const START: &str = "started";

/// A sandbox or container, as somebody was told of it.
struct Seen {
    id: String,
    sandbox: bool,
    running: bool,
    exited: bool,
    started: bool,
    /// It has ended, and with which exit code was seen.
    code: bool,
}

/// What was said to the plegd that began at `began`, for certain, and has not been told.
///
/// Who asks waits for so much.
#[allow(clippy::too_many_arguments, reason = "one place calls it, and each is a part of the play")]
pub fn lost(
    said: &[Exchange],
    facts: &Facts,
    hindrances: &Hindrances,
    began: Mono,
    uncertain: &[(Mono, Mono)],
    steps: &[(Mono, i64)],
    waits: Duration,
    lives: &Lives,
) -> Vec<String> {
    let mut found = BTreeSet::new();
    let garbage: BTreeSet<Mono> =
        said.iter().filter(|it| matches!(it.message, Message::Garbage)).map(|it| it.at).collect();
    let certain = |it: &&Exchange| {
        it.at > began + Duration::from_millis(50)
            && !uncertain.iter().any(|(from, to)| (*from..=*to).contains(&it.at))
            // The stream ends with it, and what comes at the same moment may go with the stream.
            && !garbage.contains(&it.at)
    };
    let mut sandboxes: Option<&Exchange> = None;
    for it in said.iter().filter(certain) {
        // A list that is not followed by the other one was of no use.
        let seen = match (&it.message, sandboxes.take()) {
            (Message::Sandboxes(_), _) => {
                sandboxes = Some(it);
                continue;
            }
            // Nor is one that is answered when nobody waits for it any more.
            (
                Message::Containers(containers),
                Some(Exchange { message: Message::Sandboxes(sandboxes), at, .. }),
            ) if it.at <= *at + waits => {
                // A sandbox says nowhere that it was ready. If an event says that it is not any more, before what a list
                // showed can be read, that it was is lost; or if another read says so before the list is complete.
                let soon = *at..=it.at + READ_WITHIN;
                let meanwhile = *at..it.at;
                let of_sandboxes = sandboxes.iter().filter(|it| {
                    !is_ended(said, &it.id, &soon) && !is_read_as_ended(said, &it.id, &meanwhile)
                });
                // Nor is plegd to believe what a list shows and never was so.
                let is_true = |id: &str, phase| is_listed_as_it_was(facts, id, phase, it.at);
                let of_sandboxes =
                    of_sandboxes.filter(|it| is_true(&it.id, witness::phase_of_sandbox(it.state())));
                let containers =
                    containers.iter().filter(|it| is_true(&it.id, witness::phase_of(it.state())));
                let of_sandboxes = of_sandboxes.map(seen_listed_sandbox);
                of_sandboxes.chain(containers.map(seen_listed)).collect()
            }
            (Message::Event(event), before) => {
                sandboxes = before;
                let mut seen = seen_in(event, it, steps);
                // CRI-O shows the containers of another pod, too, that has the same UID.
                let pod = event.pod_sandbox_status.as_ref().and_then(|status| facts.get(&status.id));
                let pod = pod.and_then(|sandbox| sandbox.pod.as_ref());
                seen.retain(|seen| facts.get(&seen.id).is_none_or(|fact| fact.pod.as_ref() == pod));
                // The same if it came first, and then whoever said it.
                let before = began..=it.at;
                seen.retain(|seen| {
                    let ended =
                        || is_ended(said, &seen.id, &before) || is_read_as_ended(said, &seen.id, &before);
                    !(seen.sandbox && seen.running && ended())
                });
                seen
            }
            (Message::Sandbox(status), before) => {
                sandboxes = before;
                // One that was overtaken on its way.
                let seen = seen_sandbox(status);
                let overtaken = seen.running && is_ended(said, &seen.id, &(began..=it.at));
                if overtaken { Vec::new() } else { vec![seen] }
            }
            (Message::Container(status), before) => {
                sandboxes = before;
                vec![seen_container(status)]
            }
            (Message::Containers(_) | Message::Garbage, _) => continue,
        };
        for seen in seen {
            let life = lives.by_id.get(&seen.id);
            if life.is_none() && is_of_no_pod(&seen.id, facts, said, began..=it.at) {
                continue;
            }
            // Whose removal has been told is told no more of.
            if life.is_some_and(|life| life.removed.is_some_and(|at| at <= it.at + LOOKS_APART)) {
                continue;
            }
            let read_late = life.and_then(|life| life.died_at).is_some_and(|at| hindrances.any(at, at));
            let after_death = life.and_then(|life| life.died_at).is_some_and(|at| at < it.at);
            let untold = seen.untold(life).filter(|what| match *what {
                CODE => !read_late,
                // Where the death was published as it was listed, no start is published after it.
                START => !(read_late && after_death && life.is_some_and(|life| !life.inferred)),
                _ => true,
            });
            found.extend(untold.map(|what| format!("{} was seen {what}, which is not told", seen.id)));
        }
    }
    found.into_iter().collect()
}

/// Whether nothing that was said until then says in which pod a container is: it has no labels, and its sandbox is gone.
fn is_of_no_pod(id: &str, facts: &Facts, said: &[Exchange], within: RangeInclusive<Mono>) -> bool {
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
    !labelled && !said.iter().filter(|it| within.contains(&it.at)).any(|it| shows_sandbox(&it))
}

/// Whether an event of this time shows that a sandbox has ended.
fn is_ended(said: &[Exchange], sandbox_id: &str, within: &RangeInclusive<Mono>) -> bool {
    said.iter().filter(|it| within.contains(&it.at)).any(|it| {
        let Message::Event(event) = &it.message else { return false };
        let status = event.pod_sandbox_status.as_ref();
        status.is_some_and(|it| it.id == sandbox_id && it.state() != PodSandboxState::SandboxReady)
    })
}

/// Whether a list or a read of this time shows that a sandbox has ended.
fn is_read_as_ended(said: &[Exchange], sandbox_id: &str, within: &impl RangeBounds<Mono>) -> bool {
    said.iter().filter(|it| within.contains(&it.at)).any(|it| match &it.message {
        Message::Sandbox(status) => {
            status.id == sandbox_id && status.state() != PodSandboxState::SandboxReady
        }
        Message::Sandboxes(listed) => {
            listed.iter().any(|it| it.id == sandbox_id && it.state() != PodSandboxState::SandboxReady)
        }
        _ => false,
    })
}

/// How many changes the stream has missed at least, and at most: what a relist found first and no event ever told though
/// the stream was `up` for sure, and what was signalled and not said in time.
pub fn misses(
    said: &[Exchange],
    history: &[Change],
    began: Mono,
    uncertain: &[(Mono, Mono)],
    facts: &Facts,
    lives: &Lives,
    up: impl Fn(Mono, Mono) -> bool,
    lost_stream: impl Fn(Mono, Mono) -> bool,
) -> (usize, usize) {
    let said_of =
        |change: &Change, kind: v1::ContainerEventType, until: Mono, counts: &dyn Fn(Mono) -> bool| {
            said.iter().filter(|it| counts(it.at)).any(|it| match &it.message {
                Message::Event(event) => {
                    event.container_id == change.id
                        && event.container_event_type() == kind
                        && (change.at..=until).contains(&it.at)
                }
                _ => false,
            })
        };
    let is_said = |change: &Change, kind, until| said_of(change, kind, until, &|_| true);
    // What is said while everything stands still arrives late.
    let certain = |at: Mono| !uncertain.iter().any(|(from, to)| (*from..=*to).contains(&at));
    let in_time = |change: &Change, kind| said_of(change, kind, change.at + GRACE, &certain);
    let signalled = history.iter().filter(|change| change.signalled);
    let signalled: Vec<(&Change, v1::ContainerEventType)> =
        signalled.filter_map(|change| Some((change, kind_of(&change.kind)?))).collect();
    let lost = signalled.iter().filter(|(change, kind)| !is_said(change, *kind, change.at + GRACE));
    let first_by_relist = |change: &Change, kind: v1::ContainerEventType| {
        // Where its own clock is off, nobody knows when it happened.
        if facts.get(&change.id).is_some_and(|fact| fact.clock_offset != 0) {
            return false;
        }
        lives.heard.iter().any(|heard| {
            let event = &heard.event;
            event.id.as_str() == change.id
                && heard.at >= change.at
                && event.subject == Subject::Container
                && kind_told(event.kind) == Some(kind)
                && event.source == Source::Relist
                && !event.inferred
                && event.occurred_at.is_some()
                && event.reason != "StartError"
                && !is_said(change, kind, heard.at + 2 * GRACE)
                && change.at > began
                && up(change.at, heard.at + 2 * GRACE)
        })
    };
    let least = lost.filter(|(change, kind)| first_by_relist(change, *kind)).count();
    // What happened before this plegd, and an event that came again made it believe of: that it is over was told to the one
    // before.
    let echoed = history.iter().filter(|change| change.signalled && change.at <= began);
    let echoed = echoed.filter(|change| lives.by_id.contains_key(&change.id)).count();
    let late = signalled.iter().filter(|(change, kind)| change.at > began && !in_time(change, *kind));
    // What the stream had not said when it was lost, less than the grace after something else had shown it, is not counted.
    let excused = |change: &Change, kind: v1::ContainerEventType| {
        let is_it = |heard: &&Heard| {
            heard.event.id.as_str() == change.id
                && kind_told(heard.event.kind) == Some(kind)
                && heard.at >= change.at
        };
        let told: Vec<Mono> = lives.heard.iter().filter(is_it).map(|heard| heard.at).collect();
        matches!(told[..], [at] if lost_stream(at, at + GRACE - 2 * LOOKS_APART))
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

fn kind_told(kind: EventType) -> Option<v1::ContainerEventType> {
    Some(match kind {
        EventType::ContainerStarted => v1::ContainerEventType::ContainerStartedEvent,
        EventType::ContainerDied => v1::ContainerEventType::ContainerStoppedEvent,
        EventType::ContainerRemoved => v1::ContainerEventType::ContainerDeletedEvent,
        _ => return None,
    })
}

// === impl Seen ===

impl Seen {
    /// What must have been told of it and has not.
    fn untold(&self, life: Option<&Life>) -> impl Iterator<Item = &'static str> {
        let never = life.is_none().then_some("at all");
        let start = (self.started && life.is_some_and(|life| !life.started)).then_some(START);
        let death = (self.exited && life.is_some_and(|life| !life.died)).then_some("dead");
        // A correction says that it runs, too.
        let runs = |life: &Life| life.started || life.corrected > 0;
        let running = (self.running && life.is_some_and(|life| !runs(life))).then_some("running");
        // What came back from the dead moves on by a read only, and that may come too late for the code.
        let code = self.code && life.is_some_and(|life| life.died && !life.code && life.corrected == 0);
        let code = code.then_some(CODE);
        [never, start, death, running, code].into_iter().flatten()
    }
}

/// Whether the stamp of an event can be believed.
pub fn is_exact(event: &v1::ContainerEventResponse, said: &Exchange, steps: &[(Mono, i64)]) -> bool {
    let age = said.wall.as_nanos().saturating_sub(event.created_at);
    // Between its stamp and its arrival the clock may have been put forward.
    let since =
        |step: &&(Mono, i64)| step.0 <= said.at && said.at <= step.0 + Duration::from_nanos(EXACT as u64);
    let put_forward = steps.iter().filter(since).map(|(_, by)| *by).filter(|by| *by > 0);
    put_forward.chain([0]).any(|by| (-EXACT..=EXACT).contains(&(age - by)))
}

/// What an event shows, if it says which pod it is about and when.
fn seen_in(event: &v1::ContainerEventResponse, said: &Exchange, steps: &[(Mono, i64)]) -> Vec<Seen> {
    let Some(sandbox) = &event.pod_sandbox_status else { return Vec::new() };
    if !is_exact(event, said, steps) {
        return Vec::new();
    }
    let containers = event.containers_statuses.iter().map(seen_container);
    containers.chain([seen_sandbox(sandbox)]).collect()
}

fn seen_container(status: &v1::ContainerStatus) -> Seen {
    Seen {
        id: status.id.clone(),
        sandbox: false,
        running: status.state() == ContainerState::ContainerRunning,
        exited: status.state() == ContainerState::ContainerExited,
        started: status.started_at != 0 && status.state() != ContainerState::ContainerUnknown,
        code: status.state() == ContainerState::ContainerExited,
    }
}

fn seen_listed(container: &v1::Container) -> Seen {
    Seen {
        id: container.id.clone(),
        sandbox: false,
        running: container.state() == ContainerState::ContainerRunning,
        exited: container.state() == ContainerState::ContainerExited,
        started: false,
        code: false,
    }
}

fn seen_sandbox(status: &v1::PodSandboxStatus) -> Seen {
    let ready = status.state() == PodSandboxState::SandboxReady;
    Seen { id: status.id.clone(), sandbox: true, running: ready, exited: !ready, started: false, code: false }
}

fn seen_listed_sandbox(sandbox: &v1::PodSandbox) -> Seen {
    let ready = sandbox.state() == PodSandboxState::SandboxReady;
    Seen {
        id: sandbox.id.clone(),
        sandbox: true,
        running: ready,
        exited: !ready,
        started: false,
        code: false,
    }
}
