//! The lifecycle events of a change of a record.
//!
//! The kubelet's table (`pkg/kubelet/pleg/generic.go`), with `created` as a phase of its own, and with starts that timestamps prove. Events
//! are in order of time, each at most once for an id.
//!
//! | from \ to | created | running | exited | gone |
//! | --- | --- | --- | --- | --- |
//! | nothing | Changed | Started | Started (inferred, if it has a start time), Died | – |
//! | created | – | Started | Started (inferred, if it has a start time), Died | Died (inferred), Removed |
//! | running | – | – | Died | Died (inferred), Removed |
//! | exited | – | – | – | Removed |

use std::sync::Arc;

use super::pod::DeletionEvent;
use crate::{
    clock::{Mono, Wall},
    model::{EventType, ObjectId, Phase, Status, StreamEvent, StreamEventType, Subject},
};

/// A lifecycle event without the fields that come from the journal and the observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Type of the event.
    pub kind: EventType,
    /// The type of the object.
    pub subject: Subject,
    /// Its id.
    pub id: ObjectId,
    /// Name of the container.
    pub container_name: Arc<str>,
    /// When it happened.
    pub occurred_at: Option<Wall>,
    /// The exit code.
    pub exit_code: Option<i32>,
    /// The reason.
    pub reason: String,
    /// Concluded from a later view.
    pub inferred: bool,
    /// An event of the stream has reported it already, and this observation confirms it.
    pub announced: bool,
    /// A moment at which it had certainly not happened yet.
    pub last_seen_without_it: Option<Mono>,
    /// No runtime sends an event for it: a start that failed, or the end of what never ran.
    pub has_no_stream_event: bool,
    /// It is initial inventory: see [`crate::model::Event::initial`].
    pub initial: bool,
    /// It happened after this moment: the id was unknown or in an earlier phase then. A time before it is not believed.
    pub after: Option<Mono>,
}

/// The events of a step from phase `from` to that of `status`. `last_seen_without_it` is the latest moment at which it was still in `from`;
/// `event` is the event of the stream, if it is about this id.
pub(super) fn moved(
    from: Option<Phase>,
    last_seen_without_it: Option<Mono>,
    status: &Status,
    event: Option<&StreamEvent>,
) -> Vec<Transition> {
    // CRI has no time at which a sandbox became ready; the timestamp of its event is right after it.
    let ready =
        event.filter(|event| matches!(event.kind, StreamEventType::Created | StreamEventType::Started));
    let ready = ready.filter(|_| status.subject() == Subject::Sandbox).and_then(|event| event.stamped_at);
    let started = |inferred| Transition {
        occurred_at: status.started_at().or(ready),
        last_seen_without_it,
        inferred,
        ..of(status, EventType::ContainerStarted)
    };
    match status.phase() {
        None | Some(Phase::Created) => vec![of(status, EventType::ContainerChanged)],
        Some(Phase::Running) => vec![started(false)],
        Some(Phase::Exited) => {
            // A sandbox has no start time of its own, and one that failed to start is not ready either.
            let proven = status.subject() == Subject::Container && status.started_at().is_some();
            let seen = event.is_some_and(|event| event.kind == StreamEventType::Started);
            let start = (from < Some(Phase::Running) && proven).then(|| started(!seen));
            let mut death = Transition { last_seen_without_it, ..died(status) };
            // Nothing shows that it ever ran: its start may have failed.
            death.has_no_stream_event |= from < Some(Phase::Running) && !proven;
            // CRI has no time at which a sandbox ended; the timestamp of its event is right after it.
            let ended = event.filter(|event| event.kind == StreamEventType::Stopped);
            death.occurred_at = death.occurred_at.or(ended.and_then(|event| event.stamped_at));
            start.into_iter().chain([death]).collect()
        }
    }
}

/// A change without another phase.
pub(super) fn changed(status: &Status) -> Transition {
    let told_exit = (status.phase() == Some(Phase::Exited)).then(|| died(status));
    let (exit_code, reason) = told_exit.map(|died| (died.exit_code, died.reason)).unwrap_or_default();
    Transition { exit_code, reason, ..of(status, EventType::ContainerChanged) }
}

/// A phase that was published was wrong.
pub(super) fn corrected(status: &Status) -> Transition {
    of(status, EventType::PodSync)
}

/// The events of a removal after `published_phase`. `last_seen_without_it` is the latest moment at which the id existed; `deletion_event`
/// reported its deletion.
pub(super) fn removed(
    published_phase: Option<Phase>,
    last_seen_without_it: Option<Mono>,
    status: &Status,
    deletion_event: Option<DeletionEvent>,
) -> Vec<Transition> {
    let death_told = published_phase == Some(Phase::Exited);
    let (exit_code, reason) = match death_told {
        true => (died(status).exit_code, died(status).reason),
        false => (None, String::new()),
    };
    let death = (!death_told).then(|| Transition {
        inferred: true,
        last_seen_without_it,
        announced: deletion_event.is_some(),
        has_no_stream_event: published_phase < Some(Phase::Running),
        ..of(status, EventType::ContainerDied)
    });
    let removal = Transition {
        occurred_at: deletion_event.and_then(|event| event.stamped_at),
        last_seen_without_it,
        exit_code,
        reason,
        announced: deletion_event.is_some(),
        ..of(status, EventType::ContainerRemoved)
    };
    death.into_iter().chain([removal]).collect()
}

/// Only the removal of the id was observed.
pub(super) fn removed_unobserved(id: &ObjectId, subject: Subject, at: Option<Wall>) -> Vec<Transition> {
    let bare = |kind, occurred_at, inferred| Transition {
        kind,
        subject,
        id: id.clone(),
        container_name: "".into(),
        occurred_at,
        exit_code: None,
        reason: String::new(),
        inferred,
        announced: true,
        last_seen_without_it: None,
        has_no_stream_event: false,
        initial: false,
        after: None,
    };
    vec![bare(EventType::ContainerDied, None, true), bare(EventType::ContainerRemoved, at, false)]
}

fn died(status: &Status) -> Transition {
    let (exit_code, reason) = match status {
        Status::Container(container) => (container.exit_code, container.reason.clone()),
        Status::Sandbox(_) => (None, String::new()),
    };
    Transition {
        occurred_at: status.finished_at(),
        exit_code,
        has_no_stream_event: reason == "StartError",
        reason,
        ..of(status, EventType::ContainerDied)
    }
}

fn of(status: &Status, kind: EventType) -> Transition {
    Transition {
        kind,
        subject: status.subject(),
        id: status.id().clone(),
        container_name: match status {
            Status::Container(container) => container.name.clone(),
            Status::Sandbox(_) => "".into(),
        },
        occurred_at: None,
        exit_code: None,
        reason: String::new(),
        inferred: false,
        announced: false,
        last_seen_without_it: None,
        has_no_stream_event: false,
        initial: false,
        after: None,
    }
}
