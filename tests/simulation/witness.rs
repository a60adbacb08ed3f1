//! Finds the source of untrue claims: an untrue claim is plegd's own fault unless the runtime reported it.

use std::{collections::BTreeSet, time::Duration};

use plegd::{
    clock::Mono,
    model::EventType,
    sim::{
        Exchange, Message,
        v1::{ContainerEventType, ContainerState, PodSandboxState},
    },
};

use super::{
    driver::FaultPeriods,
    facts::{Fact, Facts, Object},
};

/// A published claim that is untrue.
#[derive(Clone, Debug)]
pub struct FalseClaim {
    pub id: String,
    pub kind: EventType,
    pub at: Mono,
    pub text: String,
}

/// The phase of an id: 1 is created, 2 running or ready, 3 ended; 0 if its state is unknown.
pub fn phase_of(state: ContainerState) -> u8 {
    match state {
        ContainerState::ContainerUnknown => 0,
        ContainerState::ContainerCreated => 1,
        ContainerState::ContainerRunning => 2,
        ContainerState::ContainerExited => 3,
    }
}

/// The same for a sandbox.
pub fn phase_of_sandbox(state: PodSandboxState) -> u8 {
    if state == PodSandboxState::SandboxReady { 2 } else { 3 }
}

/// A statement about an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    pub by: By,
    pub phase: u8,
}

/// The source of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Status,
    List,
    Event,
}

/// The statement of a message about this id, if any.
pub fn of(exchange: &Exchange, id: &str) -> Option<Statement> {
    let by_list = |phase| Some(Statement { by: By::List, phase });
    match &exchange.message {
        Message::Event(event) => {
            let sandbox = event.pod_sandbox_status.as_ref().filter(|status| status.id == id);
            let container = || event.containers_statuses.iter().find(|status| status.id == id);
            let phase = sandbox.map(|status| phase_of_sandbox(status.state()));
            let phase = phase.or_else(|| container().map(|status| phase_of(status.state())))?;
            Some(Statement { by: By::Event, phase })
        }
        Message::Sandboxes(all) => {
            by_list(phase_of_sandbox(all.iter().find(|listed| listed.id == id)?.state()))
        }
        Message::Containers(all) => by_list(phase_of(all.iter().find(|listed| listed.id == id)?.state())),
        Message::Sandbox(status) if status.id == id => {
            Some(Statement { by: By::Status, phase: phase_of_sandbox(status.state()) })
        }
        Message::Container(status) if status.id == id => {
            Some(Statement { by: By::Status, phase: phase_of(status.state()) })
        }
        Message::Sandbox(_) | Message::Container(_) | Message::Garbage => None,
    }
}

/// How long a false DELETED may be believed: until a list can have shown the id.
const BELIEVED: Duration = Duration::from_secs(1);

/// Whether an event until then reports that an id was deleted.
pub fn is_deleted(exchanges: &[Exchange], id: &str, until: Mono) -> bool {
    exchanges.iter().take_while(|it| it.at <= until).any(|it| {
        matches!(&it.message, Message::Event(event) if event.container_id == id
            && event.container_event_type() == ContainerEventType::ContainerDeletedEvent)
    })
}

/// The untrue claims that the runtime did not make to the plegd that began at `began`. For ids in `announced` it sent a false
/// DELETED.
pub fn own_false_claims<'a>(
    false_claims: impl Iterator<Item = &'a FalseClaim>,
    exchanges: &'a [Exchange],
    began: Mono,
    announced: &'a BTreeSet<String>,
    fault_periods: &'a FaultPeriods,
) -> impl Iterator<Item = &'a str> {
    let is_said = move |claim: &FalseClaim| {
        if claim.kind == EventType::ContainerRemoved && announced.contains(&claim.id) {
            let mut before = exchanges.iter().filter(|it| (began..=claim.at).contains(&it.at));
            return before.any(|it| {
                let of_it = matches!(&it.message, Message::Event(event) if event.container_id == claim.id
                    && event.container_event_type() == ContainerEventType::ContainerDeletedEvent);
                of_it && (claim.at <= it.at + BELIEVED || fault_periods.any(it.at, claim.at))
            });
        }
        let least = match claim.kind {
            EventType::ContainerStarted => 2,
            EventType::ContainerDied => 3,
            _ => return false,
        };
        let mut before = exchanges.iter().filter(|it| (began..=claim.at).contains(&it.at));
        before.any(|it| of(it, &claim.id).is_some_and(|it| it.phase >= least))
    };
    false_claims.filter(move |claim| !is_said(claim)).map(|claim| claim.text.as_str())
}

/// Corrections that two consecutive agreeing reads did not confirm. A list in between that began after the first read, and
/// disagrees with it, resets the count.
pub fn unconfirmed<'a>(
    corrections: &'a [(String, Mono)],
    exchanges: &'a [Exchange],
    began: Mono,
) -> impl Iterator<Item = String> + use<'a> {
    let is_unconfirmed = move |(id, at): &(String, Mono)| {
        let (mut witnesses, mut phase, mut most) = (0, 0, 0);
        let mut listing = Mono::ZERO;
        let mut first = Mono::ZERO;
        for it in exchanges.iter().filter(|it| (began..=*at).contains(&it.at)) {
            if matches!(it.message, Message::Sandboxes(_)) {
                listing = it.at;
            }
            let Some(statement) = of(it, id) else { continue };
            match statement.by {
                By::Status if statement.phase == 3 => witnesses = 0,
                By::Status if witnesses > 0 && statement.phase == phase => witnesses += 1,
                By::Status => (witnesses, phase, first) = (1, statement.phase, it.at),
                // A list that began at another time than the read was not in progress during it.
                By::List if statement.phase == 3 && listing > first => witnesses = 0,
                By::List | By::Event => {}
            }
            most = most.max(witnesses);
        }
        most < 2
    };
    let unconfirmed = corrections.iter().filter(move |it| is_unconfirmed(it));
    unconfirmed.map(|(id, _)| format!("{id} was corrected without two agreeing reads in a row"))
}

/// Whether an id was ever in this phase until a moment.
pub fn was_ever(fact: &Fact, phase: u8, until: Mono) -> bool {
    fact.between(Mono::ZERO, until).any(|version| version.object.as_ref().map(phase_in) == Some(phase))
}

/// The true phase of an object.
pub fn phase_in(object: &Object) -> u8 {
    use plegd::sim::truth::ContainerState as Truly;
    match object {
        Object::Sandbox(sandbox) if sandbox.ready => 2,
        Object::Sandbox(_) => 3,
        Object::Container(container) => match container.state {
            Truly::Unknown => 0,
            Truly::Created => 1,
            Truly::Running => 2,
            Truly::Exited => 3,
        },
    }
}

/// Whether a listed phase of an id was ever true.
pub fn is_listed_as_it_was(facts: &Facts, id: &str, phase: u8, at: Mono) -> bool {
    facts.get(id).is_some_and(|fact| was_ever(fact, phase, at))
}
