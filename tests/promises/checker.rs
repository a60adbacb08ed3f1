//! Holds what a subscriber received against what the journals had, after the fact: pure functions.
//!
//! A journal itself is held against the promises by [`check_run`], a subscriber by [`check`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use plegd::{
    api::v1,
    model::{EventType, Subject},
};

use super::{
    record::{Recording, Run, Told},
    walk,
};

/// What plegd promises, as `src/watch.rs` has it, and a little more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Events come in the order of their numbers.
    Ordered,
    /// None comes twice.
    Unique,
    /// The events of one change stand together, and no state has a part of them.
    Atomic,
    /// None that passes the filter is left out.
    Reliable,
    /// A watch that goes on after a position misses nothing after it.
    Resumable,
    /// All that passes the filter up to a bookmark has been sent.
    Bookmarkable,
    /// A snapshot has every pod as of its position, and nothing that it has comes again.
    SnapshotExact,
    /// Nothing comes that the filter does not let through.
    Filtered,
    /// The pod that comes with an event is the state after the change that the event is part of.
    StatusExact,
    /// What is left out is said, rightly, and only then.
    GapsMarked,
    /// An event says what the journal's event says.
    Faithful,
    /// Messages come in the order that the API describes.
    Framed,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub subscriber: String,
    /// Which of its connections, from 0.
    pub connection: usize,
    /// Sequence numbers.
    pub at: Vec<u64>,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, subscriber, connection, at, what } = self;
        write!(f, "{promise:?}: {subscriber}, connection {connection}, at {at:?}: {what}")
    }
}

/// What a subscriber was not given as promised.
pub fn check(runs: &[Run], recording: &Recording) -> Vec<Violation> {
    walk::Walk::new(runs, recording).all()
}

/// What is wrong with a journal by itself.
pub fn check_run(run: &Run) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut object = |promise, at: &[u64], what: String| {
        let subscriber = format!("the journal {:x}", run.epoch);
        found.push(Violation { promise, subscriber, connection: 0, at: at.to_vec(), what });
    };
    for (n, told) in (1..).zip(&run.told) {
        if told.event.sequence != n {
            object(Promise::Ordered, &[n, told.event.sequence], "numbers have no holes".into());
        }
        let Some(pod) = told.pod.as_deref() else { continue };
        // The last event of the change is the one that its state ends with.
        if pod.sequence < n || pod.sequence > run.head() {
            object(Promise::StatusExact, &[n, pod.sequence], "the state does not include its event".into());
            continue;
        }
        for part in run.between(n, pod.sequence) {
            if part.event.pod != told.event.pod || part.pod != told.pod {
                object(Promise::Atomic, &[n, part.event.sequence], "a change is told in pieces".into());
            }
        }
    }
    for told in last_of_each_change(run) {
        let (event, id) = (&told.event, told.event.id.as_str());
        let state = told.pod.as_deref().and_then(|pod| state_of(pod, event.subject, id));
        let expected = match event.kind {
            EventType::ContainerStarted => state == Some(State::Running),
            EventType::ContainerDied => state == Some(State::Ended),
            EventType::ContainerRemoved => state.is_none(),
            EventType::ContainerChanged | EventType::PodSync => true,
        };
        if !expected {
            let what = format!("after {} of {id} its pod has it as {state:?}", event.kind.as_str());
            object(Promise::StatusExact, &[event.sequence], what);
        }
    }
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Other,
    Running,
    Ended,
}

fn state_of(pod: &v1::Pod, subject: Subject, id: &str) -> Option<State> {
    match subject {
        Subject::Container => {
            pod.containers.iter().find(|container| container.id == id).map(|it| match it.state() {
                v1::ContainerState::Running => State::Running,
                v1::ContainerState::Exited => State::Ended,
                _ => State::Other,
            })
        }
        Subject::Sandbox => {
            pod.sandboxes.iter().find(|sandbox| sandbox.id == id).map(|it| match it.state() {
                v1::SandboxState::Ready => State::Running,
                v1::SandboxState::NotReady => State::Ended,
                v1::SandboxState::Unspecified => State::Other,
            })
        }
    }
}

/// The last event of each id in each change of which it is known where it ends. Left out is what is told as history, the
/// story of one that was gone, or not yet found, when it was told: no state before had it either.
fn last_of_each_change(run: &Run) -> Vec<&Told> {
    let mut last = BTreeMap::new();
    let mut served = BTreeSet::new();
    for told in &run.told {
        let Some(pod) = told.pod.as_deref() else { continue };
        let id = told.event.id.as_str();
        let sandboxes = pod.sandboxes.iter().map(|sandbox| sandbox.id.as_str());
        served.extend(sandboxes.chain(pod.containers.iter().map(|container| container.id.as_str())));
        if served.contains(id) {
            last.insert((pod.sequence, id), told);
        }
    }
    last.into_values().collect()
}
