//! Statuses in the notation of scenario files.

use serde_json::{Map, Value, json};

use super::pseudonyms::{Kind, Pseudonyms};
use crate::{
    clock::Wall,
    model::{ContainerState, ContainerStatus, Labels, SandboxState, SandboxStatus},
    scenario::status::{CONTAINER_STATES, SANDBOX_STATES},
    sim::truth,
};

/// All fields of a status except the id.
pub(super) type Fields = Map<String, Value>;

pub(super) fn of_sandbox(status: &SandboxStatus, names: &mut Pseudonyms) -> Fields {
    let mut ips = status.ips.iter().map(|ip| names.of(Kind::Address, ip)).collect::<Vec<_>>().into_iter();
    let first = ips.next().unwrap_or_default();
    let more: Vec<Value> = ips.map(|ip| json!({ "ip": ip })).collect();
    let network =
        if more.is_empty() { json!({ "ip": first }) } else { json!({ "ip": first, "additional_ips": more }) };
    fields([
        (
            "metadata",
            json!({
                "name": names.of(Kind::Pod, &status.pod.name),
                "uid": names.of(Kind::Uid, status.pod.uid.as_str()),
                "namespace": names.of(Kind::Namespace, &status.pod.namespace),
                "attempt": status.attempt,
            }),
        ),
        ("state", sandbox_state(status.state).into()),
        ("created_at", nanos(status.created_at)),
        ("network", network),
        ("labels", labels(&status.labels, names)),
        ("runtime_handler", status.runtime_handler.clone().into()),
    ])
}

pub(super) fn of_container(status: &ContainerStatus, names: &mut Pseudonyms) -> Fields {
    fields([
        ("metadata", json!({ "name": names.of(Kind::Container, &status.name), "attempt": status.attempt })),
        ("state", container_state(status.state).into()),
        ("created_at", nanos(status.created_at)),
        ("started_at", nanos(status.started_at)),
        ("finished_at", nanos(status.finished_at)),
        ("exit_code", status.exit_code.unwrap_or_default().into()),
        ("image", json!({ "image": names.of(Kind::Image, &status.image) })),
        ("reason", names.of(Kind::Reason, &status.reason).into()),
        ("message", names.of(Kind::Message, &status.message).into()),
        ("labels", labels(&status.labels, names)),
    ])
}

/// The fields that differ from `before`.
pub(super) fn changed(before: &Fields, now: &Fields) -> Fields {
    let differs = |(key, value): &(&String, &Value)| before.get(*key) != Some(*value);
    now.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The fields without those that have their default value.
pub(super) fn without_defaults(mut fields: Fields) -> Fields {
    let defaults = [json!(""), json!({}), json!({ "ip": "" }), json!({ "image": "" })];
    // Without a creation time, the time of the step counts.
    fields.retain(|key, value| key == "created_at" || *value != json!(0) && !defaults.contains(value));
    fields
}

pub(super) fn sandbox_state(state: SandboxState) -> &'static str {
    let ready = state == SandboxState::Ready;
    SANDBOX_STATES.iter().find(|(_, it)| *it == ready).map_or("", |(name, _)| name)
}

pub(super) fn container_state(state: ContainerState) -> &'static str {
    let state = match state {
        ContainerState::Created => truth::ContainerState::Created,
        ContainerState::Running => truth::ContainerState::Running,
        ContainerState::Exited => truth::ContainerState::Exited,
        ContainerState::Unknown => truth::ContainerState::Unknown,
    };
    CONTAINER_STATES.iter().find(|(_, it)| *it == state).map_or("", |(name, _)| name)
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn labels(labels: &Labels, names: &mut Pseudonyms) -> Value {
    labels
        .iter()
        .map(|(key, value)| (key.to_owned(), Value::from(names.of_label(key, value))))
        .collect::<Map<_, _>>()
        .into()
}

fn nanos(time: Option<Wall>) -> Value {
    time.map_or(0, Wall::as_nanos).into()
}
