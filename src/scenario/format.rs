//! The format of scenario files; `tests/scenarios/README.md` describes it for people.

mod parse;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tonic::Code;

pub(super) use self::parse::CODES;
use super::{
    json::{FormatError, Parse},
    status::{ContainerFields, Labels, SandboxFields, WithId},
    time::Time,
};
use crate::sim::{Method, Subject, v1::ContainerEventType};

/// A scenario: a runtime, what happens on it, and what must be seen of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Where it is from, such as a public report.
    pub source: String,
    /// The right outcome, in words.
    pub right: String,
    /// What is to be known about the file, such as where a recording is not complete.
    pub notes: Vec<String>,
    /// Which runtime it is.
    pub runtime: Runtime,
    /// What GetContainerEvents does.
    pub events: Events,
    /// Events that each new subscriber is sent first.
    pub backlog: Vec<EventStep>,
    /// Whether the socket serves CRI.
    pub has_cri: bool,
    /// Arguments of `plegd run`.
    pub plegd: Vec<String>,
    /// Environment of plegd.
    pub env: BTreeMap<String, String>,
    /// What the wall clock shows at first; the machine's time without.
    pub starts_at: Option<Time>,
    /// By id, the events that must be published, in order.
    pub published: BTreeMap<String, Vec<String>>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// Name and version of a runtime, as Version answers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `containerd` or `cri-o`.
    pub name: String,
    /// Version.
    pub version: String,
}

/// What GetContainerEvents does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// It streams events.
    Stream,
    /// The stream ends at once.
    Eof,
    /// There is no such method.
    Unimplemented,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whether it is done before plegd starts.
    pub before: bool,
    /// What is done.
    pub action: Action,
    /// The step as it is written, but for what would steer a terminal.
    pub text: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Puts a sandbox, or changes it.
    Sandbox(Put<SandboxFields>),
    /// Puts a container, or changes it.
    Container(Put<ContainerFields>),
    /// Removes a sandbox or container.
    Remove {
        /// Its id.
        id: String,
    },
    /// Sends an event.
    Event(EventStep),
    /// Lets calls fail, or ends that.
    Fail(Fail),
    /// Lists a sandbox or container twice.
    ListTwice {
        /// Its id.
        id: String,
    },
    /// Lets lists end early.
    ShortList(ShortList),
    /// Makes the runtime another one.
    Runtime(Runtime),
    /// Says whether the socket serves CRI when it listens the next time.
    HasCri(bool),
    /// Ends all event streams.
    BreakStreams,
    /// Ends the runtime's process.
    Down,
    /// Starts the runtime's process.
    Up,
    /// Steps the machine's wall clock by this many nanoseconds.
    Clock(i64),
    /// Lets time pass.
    Wait(Duration),
    /// Waits until plegd is ready.
    Ready,
    /// Runs a verb of plegd.
    Cli(Cli),
    /// Waits for a verb in the background.
    Collect(Collect),
}

/// A sandbox or container that is put or changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Put<F> {
    /// Its id.
    pub id: String,
    /// What its status shows.
    pub status: F,
    /// The sandbox of a container.
    pub sandbox: Option<String>,
    /// What lists show; none if that does not change.
    pub listed: Option<ListedAs<F>>,
    /// Which labels it has beside its own; none if that does not change.
    pub labels: Option<Labels>,
}

/// What lists show.
#[derive(Clone, Debug, PartialEq)]
pub enum ListedAs<F> {
    /// Nothing.
    Not,
    /// The status but for these fields.
    With(F),
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub enum EventStep {
    /// About an id, made from what is there.
    About {
        /// The container or sandbox.
        id: String,
        /// Its type.
        kind: ContainerEventType,
        /// Whether the statuses are in it.
        payload: Payload,
        /// Its timestamp; none for the moment of the step.
        created_at: Option<Time>,
    },
    /// As it is written.
    Raw(Box<RawEvent>),
}

/// Whether an event carries statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// All that the runtime would send.
    Full,
    /// None.
    None,
}

/// A ContainerEventResponse.
#[derive(Clone, Debug, PartialEq)]
pub struct RawEvent {
    /// The container or sandbox.
    pub id: String,
    /// Its type.
    pub kind: ContainerEventType,
    /// Its timestamp.
    pub created_at: Time,
    /// The sandbox's status.
    pub sandbox: Option<WithId<SandboxFields>>,
    /// The containers' statuses.
    pub containers: Vec<WithId<ContainerFields>>,
}

/// Calls that fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Fail {
    /// The method.
    pub method: Method,
    /// The only sandbox or container whose calls fail.
    pub id: Option<String>,
    /// How they are answered; none ends earlier failures.
    pub answer: Option<Answer>,
    /// How long each call takes before that.
    pub delay: Option<Duration>,
}

/// How a call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As if nothing were wrong.
    Right,
    /// With this error.
    Error(Code, String),
    /// With OK and nothing in it.
    Empty,
    /// With something that does not decode.
    Garbage,
}

/// Lists that end early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortList {
    /// The list of what.
    pub of: Subject,
    /// How many items are shown.
    pub after: usize,
    /// Whether the answer then breaks off instead of ending with OK.
    pub reset: bool,
    /// How many lists; none for all from now on.
    pub times: Option<u32>,
}

/// A verb of plegd.
#[derive(Clone, Debug, PartialEq)]
pub struct Cli {
    /// Its arguments.
    pub args: Vec<String>,
    /// Its name if it runs in the background.
    pub background: Option<String>,
    /// What it must print.
    pub check: Check,
}

/// The end of a verb in the background.
#[derive(Clone, Debug, PartialEq)]
pub struct Collect {
    /// Its name.
    pub name: String,
    /// After which time it is interrupted.
    pub timeout: Option<Duration>,
    /// What it must have printed.
    pub check: Check,
}

/// What a verb must print, on stdout and stderr together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// What must be in it.
    pub has: Vec<String>,
    /// What must not be in it.
    pub lacks: Vec<String>,
    /// The exit code.
    pub rc: Option<u8>,
}

// === impl Scenario ===

impl Scenario {
    /// Reads a scenario file's text.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its place.
    pub fn read(text: &str) -> Result<Self, FormatError> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            let problem = error.to_string();
            FormatError::new(&place, problem.split(" at line ").next().unwrap_or_default())
        })?;
        Self::parse(&value, "")
    }
}

impl Scenario {
    /// How many things are checked.
    pub fn checks(&self) -> usize {
        let of_step = |step: &Step| match &step.action {
            Action::Ready => 1,
            Action::Cli(Cli { check, .. }) | Action::Collect(Collect { check, .. }) => check.count(),
            _ => 0,
        };
        self.published.len() + self.steps.iter().map(of_step).sum::<usize>()
    }
}

// === impl Runtime ===

impl Default for Runtime {
    fn default() -> Self {
        Self { name: "containerd".to_owned(), version: "v2.1.4".to_owned() }
    }
}

// === impl Check ===

impl Check {
    fn count(&self) -> usize {
        self.has.len() + self.lacks.len() + usize::from(self.rc.is_some())
    }
}

#[cfg(test)]
mod tests;
