//! What a scenario's checks compare: the published events of an id, in words, and what a verb printed.

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

/// A check that did not hold, or a step that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it is in the file, such as `steps[3]`.
    pub place: String,
    /// What did not hold.
    pub problem: String,
}

/// How a verb has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// What it printed.
    pub(super) printed: String,
    /// Its exit code.
    pub(super) rc: u8,
}

/// An event in a scenario's words: `Started`, `Died 0 Completed`, `Died (inferred)`, `Changed 0 OOMKilled`, `Removed`,
/// `Sync`.
pub fn in_words(event: &Event) -> String {
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

/// What of the published events is not what the scenario wants.
pub fn published(scenario: &Scenario, events: &[Arc<Record>]) -> Vec<Failure> {
    let mut published: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for event in events {
        published.entry(event.id.as_str()).or_default().push(in_words(event));
    }
    let mut failures = Vec::new();
    for (id, wanted) in &scenario.published {
        let found = published.get(id.as_str()).cloned().unwrap_or_default();
        if found != *wanted {
            let problem = format!("expected {wanted:?}, published {found:?}");
            failures.push(Failure { place: format!("published.{id}"), problem });
        }
    }
    // Mostly a misspelt id: it would be compared with nothing for ever.
    let known: BTreeSet<&str> = scenario.steps.iter().filter_map(|step| step.action.id()).collect();
    for id in scenario.published.keys().filter(|id| !known.contains(id.as_str())) {
        let problem = "no step is about this id".to_owned();
        failures.push(Failure { place: format!("published.{id}"), problem });
    }
    failures
}

/// What of a verb's output is not what the check wants.
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
