//! Which lifecycle events a change of what is held amounts to.
//!
//! The kubelet's table (`pkg/kubelet/pleg/generic.go`), with `created` as a phase of its own and with what the timestamps
//! prove: left to right in time, each at most once for an id.
//!
//! | from \ to | created | running | exited | gone |
//! | --- | --- | --- | --- | --- |
//! | nothing | Changed | Started | Started (inferred, if it has a start time), Died | – |
//! | created | – | Started | Started (inferred, if it has a start time), Died | Died (inferred), Removed |
//! | running | – | – | Died | Died (inferred), Removed |
//! | exited | – | – | – | Removed |

use std::sync::Arc;

use crate::{
    clock::{Mono, Wall},
    model::{EventType, ObjectId, Phase, Signal, SignalType, Status, Subject},
};

/// A lifecycle event without what only the journal and the observation know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What happened.
    pub kind: EventType,
    /// To what kind of thing.
    pub subject: Subject,
    /// To which.
    pub id: ObjectId,
    /// Name of the container.
    pub container_name: Arc<str>,
    /// When.
    pub occurred_at: Option<Wall>,
    /// With which exit code.
    pub exit_code: Option<i32>,
    /// For which reason.
    pub reason: String,
    /// Nobody saw it, but it must have been.
    pub inferred: bool,
    /// An event of the stream has said it already, and what is settled now only confirms it.
    pub announced: bool,
    /// A moment at which it had not happened yet, for certain.
    pub not_before: Option<Mono>,
    /// No runtime sends an event for it: a start that failed, or the end of what never ran.
    pub silent: bool,
    /// It is initial inventory: see [`crate::model::Event::initial`].
    pub initial: bool,
    /// It happened after this moment: the id was unknown or in an earlier phase then. A time before it is not believed.
    pub after: Option<Mono>,
}

/// It has come from `from`, where it was at `not_before`, to the phase of `status`; `signal` is what an event said about this very id.
pub(super) fn moved(
    from: Option<Phase>,
    not_before: Option<Mono>,
    status: &Status,
    signal: Option<&Signal>,
) -> Vec<Transition> {
    // CRI does not say when a sandbox became ready; the event that says so is stamped right after.
    let ready = signal.filter(|signal| matches!(signal.kind, SignalType::Created | SignalType::Started));
    let ready = ready.filter(|_| status.subject() == Subject::Sandbox).and_then(|signal| signal.stamped_at);
    let started = |inferred| Transition {
        occurred_at: status.started_at().or(ready),
        not_before,
        inferred,
        ..of(status, EventType::ContainerStarted)
    };
    match status.phase() {
        None | Some(Phase::Created) => vec![of(status, EventType::ContainerChanged)],
        Some(Phase::Running) => vec![started(false)],
        Some(Phase::Exited) => {
            // A sandbox has no start time of its own, and one that failed to start is not ready either.
            let proven = status.subject() == Subject::Container && status.started_at().is_some();
            let seen = signal.is_some_and(|signal| signal.kind == SignalType::Started);
            let start = (from < Some(Phase::Running) && proven).then(|| started(!seen));
            let mut death = Transition { not_before, ..died(status) };
            // Nothing shows that it ever ran: it may be a start that failed.
            death.silent |= from < Some(Phase::Running) && !proven;
            // CRI does not tell when a sandbox ended; the event that says so is stamped right after.
            let ended = signal.filter(|signal| signal.kind == SignalType::Stopped);
            death.occurred_at = death.occurred_at.or(ended.and_then(|signal| signal.stamped_at));
            start.into_iter().chain([death]).collect()
        }
    }
}

/// Something about it changed that is no step from one phase to the next.
pub(super) fn changed(status: &Status) -> Transition {
    let told_exit = (status.phase() == Some(Phase::Exited)).then(|| died(status));
    let (exit_code, reason) = told_exit.map(|died| (died.exit_code, died.reason)).unwrap_or_default();
    Transition { exit_code, reason, ..of(status, EventType::ContainerChanged) }
}

/// What was told of it was wrong.
pub(super) fn corrected(status: &Status) -> Transition {
    of(status, EventType::PodSync)
}

/// It is gone, was there at `not_before`, and had come to `reached` as far as was told. `announced` is what an event said about its deletion.
pub(super) fn removed(
    reached: Option<Phase>,
    not_before: Option<Mono>,
    status: &Status,
    announced: Option<Option<Wall>>,
) -> Vec<Transition> {
    let death_told = reached == Some(Phase::Exited);
    let (exit_code, reason) = match death_told {
        true => (died(status).exit_code, died(status).reason),
        false => (None, String::new()),
    };
    let death = (!death_told).then(|| Transition {
        inferred: true,
        not_before,
        announced: announced.is_some(),
        silent: reached < Some(Phase::Running),
        ..of(status, EventType::ContainerDied)
    });
    let removal = Transition {
        occurred_at: announced.flatten(),
        not_before,
        exit_code,
        reason,
        announced: announced.is_some(),
        ..of(status, EventType::ContainerRemoved)
    };
    death.into_iter().chain([removal]).collect()
}

/// Nothing was ever seen of it but that it was removed.
pub(super) fn removed_unseen(id: &ObjectId, subject: Subject, at: Option<Wall>) -> Vec<Transition> {
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
        not_before: None,
        silent: false,
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
        silent: reason == "StartError",
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
        not_before: None,
        silent: false,
        initial: false,
        after: None,
    }
}
