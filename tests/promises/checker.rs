//! Compares the messages that a subscriber received with the journals, after the run: pure functions.
//!
//! [`check_run`] checks a journal, [`check`] a subscriber.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use plegd::{
    api::v1,
    model::{EventType, Subject},
};

use super::{
    record::{Published, Recording, Run},
    walk,
};

/// The guarantees of `src/watch.rs`, and a few more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarantee {
    /// Events come in sequence order.
    Ordered,
    /// No event comes twice.
    Unique,
    /// The events of one change are adjacent, and no state contains only a part of them.
    Atomic,
    /// No event that matches the filter is missing.
    Reliable,
    /// A watch that resumes after a position gets every event after it.
    Resumable,
    /// Every matching event up to a bookmark was sent before it.
    Bookmarkable,
    /// A snapshot has every pod as of its position, and no event up to that position follows.
    SnapshotExact,
    /// Nothing is delivered that does not match the filter.
    Filtered,
    /// The pod status of an event is the state after the change that the event belongs to.
    StatusExact,
    /// Each loss is marked by a gap with the right range and reason, and each gap marks a loss.
    GapsMarked,
    /// The content of an event equals the journal's.
    Faithful,
    /// Messages come in the order that the API describes.
    Framed,
}

/// A violation of a guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub guarantee: Guarantee,
    pub subscriber: String,
    /// The index of the connection, from 0.
    pub connection: usize,
    /// Sequence numbers.
    pub at: Vec<u64>,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guarantee, subscriber, connection, at, what } = self;
        write!(f, "{guarantee:?}: {subscriber}, connection {connection}, at {at:?}: {what}")
    }
}

/// The violations in what a subscriber received.
pub fn check(runs: &[Run], recording: &Recording) -> Vec<Violation> {
    walk::Walk::new(runs, recording).all()
}

/// The violations in a journal by itself.
pub fn check_run(run: &Run) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |guarantee, at: &[u64], what: String| {
        let subscriber = format!("the journal {:x}", run.epoch);
        found.push(Violation { guarantee, subscriber, connection: 0, at: at.to_vec(), what });
    };
    for (n, published) in (1..).zip(&run.published) {
        if published.event.sequence != n {
            report(Guarantee::Ordered, &[n, published.event.sequence], "sequence numbers have a hole".into());
        }
        let Some(pod) = published.pod.as_deref() else { continue };
        // A pod status has the sequence of the last event of its change.
        if pod.sequence < n || pod.sequence > run.head() {
            report(Guarantee::StatusExact, &[n, pod.sequence], "the state does not include its event".into());
            continue;
        }
        for part in run.between(n, pod.sequence) {
            if part.event.pod != published.event.pod || part.pod != published.pod {
                report(
                    Guarantee::Atomic,
                    &[n, part.event.sequence],
                    "the events of a change are not adjacent".into(),
                );
            }
        }
    }
    for published in last_of_each_change(run) {
        let (event, id) = (&published.event, published.event.id.as_str());
        let state = published.pod.as_deref().and_then(|pod| state_of(pod, event.subject, id));
        let expected = match event.kind {
            EventType::ContainerStarted => state == Some(State::Running),
            EventType::ContainerDied => state == Some(State::Ended),
            EventType::ContainerRemoved => state.is_none(),
            EventType::ContainerChanged | EventType::PodSync => true,
        };
        if !expected {
            let what = format!("after {} of {id} the state in its pod is {state:?}", event.kind.as_str());
            report(Guarantee::StatusExact, &[event.sequence], what);
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

/// The last event of each id in each change whose end is known. Excludes history that was published for an id that was gone or
/// not yet found: no earlier state contains that id either.
fn last_of_each_change(run: &Run) -> Vec<&Published> {
    let mut last = BTreeMap::new();
    let mut served = BTreeSet::new();
    for published in &run.published {
        let Some(pod) = published.pod.as_deref() else { continue };
        let id = published.event.id.as_str();
        let sandboxes = pod.sandboxes.iter().map(|sandbox| sandbox.id.as_str());
        served.extend(sandboxes.chain(pod.containers.iter().map(|container| container.id.as_str())));
        if served.contains(id) {
            last.insert((pod.sequence, id), published);
        }
    }
    last.into_values().collect()
}
