//! Who said what plegd told: a claim that is not true is plegd's own unless the runtime made it.

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
    facts::{Fact, Facts, Object},
    stage::Hindrances,
};

/// Something that was told and is not true.
#[derive(Clone, Debug)]
pub struct Lie {
    pub id: String,
    pub kind: EventType,
    pub at: Mono,
    pub text: String,
}

/// How far an id has come: 1 is created, 2 running or ready, 3 ended; 0 if its state is unknown.
pub fn phase_of(state: ContainerState) -> u8 {
    match state {
        ContainerState::ContainerUnknown => 0,
        ContainerState::ContainerCreated => 1,
        ContainerState::ContainerRunning => 2,
        ContainerState::ContainerExited => 3,
    }
}

/// The same of a sandbox.
pub fn phase_of_sandbox(state: PodSandboxState) -> u8 {
    if state == PodSandboxState::SandboxReady { 2 } else { 3 }
}

/// What is said of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    pub by: By,
    pub phase: u8,
}

/// By what something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Status,
    List,
    Event,
}

/// What is said of this id here, if anything.
pub fn of(said: &Exchange, id: &str) -> Option<Statement> {
    let by_list = |phase| Some(Statement { by: By::List, phase });
    match &said.message {
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

/// DELETED of what is there is believed for so long: until a list can have shown it.
const BELIEVED: Duration = Duration::from_secs(1);

/// Those that the runtime has not told plegd, which began at `began`. It may have told of ids in `announced` that they are deleted.
pub fn own_lies<'a>(
    lies: impl Iterator<Item = &'a Lie>,
    said: &'a [Exchange],
    began: Mono,
    announced: &'a BTreeSet<String>,
    hindrances: &'a Hindrances,
) -> impl Iterator<Item = &'a str> {
    let is_said = move |lie: &Lie| {
        if lie.kind == EventType::ContainerRemoved && announced.contains(&lie.id) {
            let mut before = said.iter().filter(|it| (began..=lie.at).contains(&it.at));
            return before.any(|it| {
                let of_it = matches!(&it.message, Message::Event(event) if event.container_id == lie.id
                    && event.container_event_type() == ContainerEventType::ContainerDeletedEvent);
                of_it && (lie.at <= it.at + BELIEVED || hindrances.any(it.at, lie.at))
            });
        }
        let least = match lie.kind {
            EventType::ContainerStarted => 2,
            EventType::ContainerDied => 3,
            _ => return false,
        };
        let mut before = said.iter().filter(|it| (began..=lie.at).contains(&it.at));
        before.any(|it| of(it, &lie.id).is_some_and(|it| it.phase >= least))
    };
    lies.filter(move |lie| !is_said(lie)).map(|lie| lie.text.as_str())
}

/// Corrections, of ids and when they were told, that were not made by two reads in a row which agreed. An agreeing list in between
/// that began after the first of them takes it back.
pub fn hasty<'a>(
    corrections: &'a [(String, Mono)],
    said: &'a [Exchange],
    began: Mono,
) -> impl Iterator<Item = String> + use<'a> {
    let is_hasty = move |(id, at): &(String, Mono)| {
        let (mut witnesses, mut phase, mut most) = (0, 0, 0);
        let mut listing = Mono::ZERO;
        let mut first = Mono::ZERO;
        for it in said.iter().filter(|it| (began..=*at).contains(&it.at)) {
            if matches!(it.message, Message::Sandboxes(_)) {
                listing = it.at;
            }
            let Some(said) = of(it, id) else { continue };
            match said.by {
                By::Status if said.phase == 3 => witnesses = 0,
                By::Status if witnesses > 0 && said.phase == phase => witnesses += 1,
                By::Status => (witnesses, phase, first) = (1, said.phase, it.at),
                // Whether it was under way when that was read is known of one that comes at another time.
                By::List if said.phase == 3 && listing > first => witnesses = 0,
                By::List | By::Event => {}
            }
            most = most.max(witnesses);
        }
        most < 2
    };
    let hasty = corrections.iter().filter(move |it| is_hasty(it));
    hasty.map(|(id, _)| format!("{id} was corrected without two reads in a row that agree"))
}

/// Whether an id ever was in this phase until a moment.
pub fn was_ever(fact: &Fact, phase: u8, until: Mono) -> bool {
    fact.between(Mono::ZERO, until).any(|version| version.object.as_ref().map(phase_in) == Some(phase))
}

/// How far it has come in truth.
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

/// Whether what a list shows of an id was ever so.
pub fn is_listed_as_it_was(facts: &Facts, id: &str, phase: u8, at: Mono) -> bool {
    facts.get(id).is_some_and(|fact| was_ever(fact, phase, at))
}
