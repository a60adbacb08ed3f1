//! The format of scenario files; `tests/scenarios/README.md` describes it.

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

/// A scenario: a runtime, the steps on it, and the expected result.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its source, such as a public report.
    pub source: String,
    /// The expected outcome, as text.
    pub right: String,
    /// Remarks about the file, e.g. where a recording is incomplete.
    pub notes: Vec<String>,
    /// The runtime's name and version.
    pub runtime: Runtime,
    /// The behaviour of GetContainerEvents.
    pub events: Events,
    /// Events that each new subscriber gets first.
    pub backlog: Vec<EventStep>,
    /// Whether the socket serves CRI.
    pub has_cri: bool,
    /// Arguments of `plegd run`.
    pub plegd: Vec<String>,
    /// Environment of plegd.
    pub env: BTreeMap<String, String>,
    /// The initial time of the wall clock; the machine's time by default.
    pub starts_at: Option<Time>,
    /// The events that must be published, in order, by id.
    pub published: BTreeMap<String, Vec<String>>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// Name and version of a runtime, as in the answer to Version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `containerd` or `cri-o`.
    pub name: String,
    /// Version.
    pub version: String,
}

/// The behaviour of GetContainerEvents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// It streams events.
    Stream,
    /// The stream ends at once.
    Eof,
    /// The method is not implemented.
    Unimplemented,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whether it comes before plegd's start.
    pub before: bool,
    /// The action.
    pub action: Action,
    /// The step as written in the file, without terminal control characters.
    pub text: String,
}

/// The action of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Adds or changes a sandbox.
    Sandbox(Put<SandboxFields>),
    /// Adds or changes a container.
    Container(Put<ContainerFields>),
    /// Removes a sandbox or container.
    Remove {
        /// Its id.
        id: String,
    },
    /// Sends an event.
    Event(EventStep),
    /// Makes calls fail, or ends such failures.
    Fail(Fail),
    /// Lists a sandbox or container twice.
    ListTwice {
        /// Its id.
        id: String,
    },
    /// Makes lists end early.
    ShortList(ShortList),
    /// Changes the runtime's name and version.
    Runtime(Runtime),
    /// Sets whether the socket serves CRI when it listens next.
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

/// A sandbox or container that is added or changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Put<F> {
    /// Its id.
    pub id: String,
    /// The fields of its status.
    pub status: F,
    /// The sandbox of a container.
    pub sandbox: Option<String>,
    /// How lists show it; none if that does not change.
    pub listed: Option<ListedAs<F>>,
    /// Labels in addition to its own; `None` leaves them unchanged.
    pub labels: Option<Labels>,
}

/// How lists show a sandbox or container.
#[derive(Clone, Debug, PartialEq)]
pub enum ListedAs<F> {
    /// Not at all.
    Not,
    /// As the status, except for these fields.
    With(F),
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub enum EventStep {
    /// About an id, built from the current state.
    About {
        /// The container or sandbox.
        id: String,
        /// Its type.
        kind: ContainerEventType,
        /// Whether it carries the statuses.
        payload: Payload,
        /// Its timestamp; by default the time of the step.
        created_at: Option<Time>,
    },
    /// As written in the file.
    Raw(Box<RawEvent>),
}

/// Whether an event carries statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// All statuses that the runtime would send.
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
    /// Restricts the failure to calls about this sandbox or container.
    pub id: Option<String>,
    /// The answer; `None` ends earlier failures.
    pub answer: Option<Answer>,
    /// The delay of each call before the answer.
    pub delay: Option<Duration>,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The right answer.
    Right,
    /// This error.
    Error(Code, String),
    /// OK with an empty message.
    Empty,
    /// A message that does not decode.
    Garbage,
}

/// Lists that end early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortList {
    /// The kind of list.
    pub of: Subject,
    /// How many items remain.
    pub after: usize,
    /// Whether the stream is then reset instead of ending with OK.
    pub reset: bool,
    /// How many lists; none for all from this step on.
    pub times: Option<u32>,
}

/// A verb of plegd.
#[derive(Clone, Debug, PartialEq)]
pub struct Cli {
    /// Its arguments.
    pub args: Vec<String>,
    /// Its name if it runs in the background.
    pub background: Option<String>,
    /// The check of its output.
    pub check: Check,
}

/// The end of a verb in the background.
#[derive(Clone, Debug, PartialEq)]
pub struct Collect {
    /// Its name.
    pub name: String,
    /// The time after which it is interrupted.
    pub timeout: Option<Duration>,
    /// The check of its output.
    pub check: Check,
}

/// The expected output of a verb, stdout and stderr together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// Texts that must be in it.
    pub has: Vec<String>,
    /// Texts that must not be in it.
    pub lacks: Vec<String>,
    /// The exit code.
    pub rc: Option<u8>,
}

// === impl Scenario ===

impl Scenario {
    /// Parses a scenario file.
    ///
    /// # Errors
    ///
    /// The first error, with its place.
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
    /// How many checks it has.
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
