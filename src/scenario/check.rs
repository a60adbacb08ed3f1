//! The checks of a scenario: the published events of an id, as text, and the output of a verb.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{
    format::{Check, Scenario},
    json::readable,
};
use crate::{
    journal::Record,
    model::{Event, EventType},
};

/// A check that failed, or a step that could not be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its place in the file, such as `steps[3]`.
    pub place: String,
    /// The difference.
    pub problem: String,
}

/// The result of a verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its output.
    pub(super) printed: String,
    /// Its exit code.
    pub(super) rc: u8,
}

/// An event in the notation of scenarios: `Started`, `Died 0 Completed`, `Died (inferred)`, `Changed 0 OOMKilled`, `Removed`, `Sync`.
pub fn event_text(event: &Event) -> String {
    let mut words = match event.kind {
        EventType::ContainerStarted => "Started",
        EventType::ContainerDied => "Died",
        EventType::ContainerRemoved => "Removed",
        EventType::ContainerChanged => "Changed",
        EventType::PodSync => "Sync",
    }
    .to_owned();
    // A removal repeats the exit of a death that was published before.
    if matches!(event.kind, EventType::ContainerDied | EventType::ContainerChanged) {
        if let Some(code) = event.exit_code {
            words.push_str(&format!(" {code}"));
        }
        if !event.reason.is_empty() {
            words.push_str(&format!(" {}", event.reason));
        }
    }
    if event.inferred && event.kind != EventType::ContainerRemoved {
        words.push_str(" (inferred)");
    }
    words
}

/// Compares the published events with those that the scenario expects.
pub fn published(scenario: &Scenario, events: &[Arc<Record>]) -> Vec<Failure> {
    let mut published: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for event in events {
        published.entry(event.id.as_str()).or_default().push(event_text(event));
    }
    let mut failures = Vec::new();
    for (id, expected) in &scenario.published {
        let found = published.get(id.as_str()).cloned().unwrap_or_default();
        if found != *expected {
            let problem = format!("expected {expected:?}, published {found:?}");
            failures.push(Failure { place: format!("published.{id}"), problem });
        }
    }
    // Probably a misspelt id, which would never be compared.
    let known: BTreeSet<&str> = scenario.steps.iter().filter_map(|step| step.action.id()).collect();
    for id in scenario.published.keys().filter(|id| !known.contains(id.as_str())) {
        let problem = "no step has this id".to_owned();
        failures.push(Failure { place: format!("published.{id}"), problem });
    }
    failures
}

/// Compares the output of a verb with the check.
pub(super) fn printed(check: &Check, ended: &Ended) -> Vec<String> {
    let mut problems = Vec::new();
    let text = &ended.printed;
    problems.extend(check.has.iter().filter(|it| !text.contains(*it)).map(|it| format!("lacks {it:?}")));
    problems.extend(check.lacks.iter().filter(|it| text.contains(*it)).map(|it| format!("has {it:?}")));
    if let Some(rc) = check.rc
        && rc != ended.rc
    {
        problems.push(format!("ended with exit code {}, not {rc}", ended.rc));
    }
    if !problems.is_empty() {
        problems.push(format!("printed:\n{}", readable(&ended.printed)));
    }
    problems
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}
