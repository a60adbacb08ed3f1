//! Pods and events in the page's JSON.
//!
//! Each field is listed here, so that new fields of the model do not appear on a page without authentication. Times are milliseconds
//! since 1970. Unsafe characters in displayed texts are escaped, so that a name cannot reverse the text after it. UIDs and ids stay as
//! the runtime has them, since the page uses them as keys of its rows.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{
    clock::Wall,
    journal::Record,
    model::{ContainerStatus, Pod, SandboxStatus},
    pod_summary::{PodSummary, current},
    printable::visible,
};

pub(super) fn milliseconds(at: Wall) -> i64 {
    (at.seconds_since(Wall::default()) * 1e3).round() as i64
}

/// A pod with its sandboxes and containers, and its activity.
pub(super) fn pod(pod: &Pod) -> Value {
    let newest_sandbox = pod.sandbox().map(|sandbox| sandbox.id.as_str());
    let current: HashSet<&str> = current(newest_sandbox, pod.containers.iter().map(AsRef::as_ref))
        .into_iter()
        .map(|container| container.id.as_str())
        .collect();
    let containers = pod.containers.iter().map(|it| container(it, current.contains(it.id.as_str())));
    let state = PodSummary::from(pod);
    json!({
        "uid": pod.identity.uid.as_str(),
        "ns": visible(&pod.identity.namespace),
        "name": visible(&pod.identity.name),
        "activity": state.activity.as_str(),
        "status": visible(&state.status),
        "sandboxes": pod.sandboxes.iter().map(|it| sandbox(it)).collect::<Vec<_>>(),
        "containers": containers.collect::<Vec<_>>(),
    })
}

fn sandbox(it: &SandboxStatus) -> Value {
    json!({
        "id": it.id.as_str(),
        "state": it.state.as_str(),
        "attempt": it.attempt,
        "created": it.created_at.map(milliseconds),
    })
}

/// A container. `current`: it is the newest of its name in the newest sandbox.
fn container(it: &ContainerStatus, current: bool) -> Value {
    json!({
        "id": it.id.as_str(),
        "name": visible(&it.name),
        "attempt": it.attempt,
        "current": current,
        "state": it.state.as_str(),
        "created": it.created_at.map(milliseconds),
        "started": it.started_at.map(milliseconds),
        "finished": it.finished_at.map(milliseconds),
        "exit": it.exit_code,
        "reason": visible(&it.reason),
        "image": visible(&it.image),
    })
}

/// An event. `late`: milliseconds from its occurrence to its detection, if it was observed and not inferred.
pub(super) fn event(record: &Record) -> Value {
    let event = &record.event;
    let occurred = event.occurred_at.filter(|_| !event.inferred);
    json!({
        "seq": event.sequence,
        "type": event.kind.as_str(),
        "subject": event.subject.as_str(),
        "uid": event.pod.uid.as_str(),
        "ns": visible(&event.pod.namespace),
        "name": visible(&event.pod.name),
        "id": event.id.as_str(),
        "container": visible(&event.container_name),
        "source": event.source.as_str(),
        "at": milliseconds(event.observed_at),
        "late": occurred.map(|at| (event.observed_at.seconds_since(at) * 1e3).max(0.0)),
        "exit": event.exit_code,
        "reason": visible(&event.reason),
        "inferred": event.inferred,
    })
}
