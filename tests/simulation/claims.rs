//! Checks the pod in an event: names, labels, addresses, and whether it is initial inventory.

use std::{collections::BTreeMap, time::Duration};

use plegd::{
    clock::Mono,
    model::{Event, EventType, Labels, SandboxState, Source},
    sim::{Exchange, Message},
};

use super::{
    driver::{FaultPeriods, Received},
    facts::{Fact, Facts},
    histories::words,
};

/// How recently a sandbox must have been readable, so that its labels must be known.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The violation in the names and labels of an event, if any.
pub fn wrong_names(received: &Received, facts: &Facts, fault_periods: &FaultPeriods) -> Option<String> {
    let event = &received.event;
    let fact = facts.get(event.id.as_str())?;
    let Some(pod) = &fact.pod else { return None };
    let identity = &event.pod;
    let named = (identity.namespace.to_string(), identity.name.to_string(), identity.uid.to_string());
    if named != *pod {
        return Some(format!("names the pod {named:?}, and is in {pod:?}"));
    }
    if *event.container_name != *fact.name && !(event.container_name.is_empty() && ends(event)) {
        return Some(format!("names the container {:?}, and is {:?}", event.container_name, fact.name));
    }
    let labels = of_labels(&event.labels);
    let possible = facts.labels_of(pod);
    if possible.contains(&labels) {
        return None;
    }
    if !labels.is_empty() {
        return Some(format!("has the labels {labels:?}, and its sandboxes had {possible:?}"));
    }
    // Labels come from a sandbox, and are unknown if none can be read.
    let from = received.at - READ_WITHIN;
    let could_be_read = facts.has_sandbox(pod, from, received.at) && !fault_periods.any(from, received.at);
    (could_be_read && is_served(received)).then(|| "has no labels, and its sandbox could be read".into())
}

/// Whether the event concerns a served object, rather than history.
fn is_served(received: &Received) -> bool {
    let id = received.event.id.as_str();
    received.pod.as_ref().is_some_and(|pod| {
        pod.container(id).is_some() || pod.sandboxes.iter().any(|sandbox| sandbox.id.as_str() == id)
    })
}

fn ends(event: &Event) -> bool {
    matches!(event.kind, EventType::ContainerDied | EventType::ContainerRemoved)
}

fn of_labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Limit until a list is reconciled.
const RECONCILED: Duration = Duration::from_secs(3);

/// Events that are wrongly marked as initial inventory, or wrongly not marked.
pub fn wrongly_initial(
    received: &[Received],
    exchanges: &[Exchange],
    began: Mono,
    downtimes: &[(Mono, Mono)],
    facts: &Facts,
    wrong_lists: &FaultPeriods,
) -> Vec<String> {
    // A plegd that ends just after its first list may not have reconciled it: the inventory is the next one's.
    let ends_soon = |at: Mono| downtimes.iter().any(|(from, _)| at <= *from && *from <= at + RECONCILED);
    let is_list = |it: &&Exchange| it.at >= began && matches!(it.message, Message::Containers(_));
    let is_interrupted = exchanges.iter().find(is_list).is_some_and(|it| ends_soon(it.at));
    let mut lists = exchanges.iter().filter(is_list).skip_while(|it| ends_soon(it.at));
    let (Some(first), second) = (lists.next(), lists.next()) else { return Vec::new() };
    let misled = is_interrupted || wrong_lists.any(began, first.at);
    let mut found = Vec::new();
    for Received { at, event, .. } in received {
        let Some(fact) = facts.get(event.id.as_str()) else { continue };
        if event.initial && fact.created() > first.at {
            found.push(format!(
                "{}: {} is initial, and was created after the first list",
                event.sequence,
                words(event)
            ));
        }
        let by_first_list = event.source == Source::Relist && second.is_none_or(|second| *at < second.at);
        let is_move = matches!(event.kind, EventType::ContainerStarted | EventType::ContainerDied);
        if by_first_list && is_move && !event.initial && !misled && is_unchanged(fact, began) {
            found.push(format!("{}: {} is not initial, and was true before", event.sequence, words(event)));
        }
    }
    found
}

/// Whether an id has not changed since before `began`.
fn is_unchanged(fact: &Fact, began: Mono) -> bool {
    fact.versions.last().is_some_and(|last| last.from.1 < began)
}

/// The addresses of pods, to find finished pods that lost them.
#[derive(Default)]
pub struct Addresses(BTreeMap<String, (String, Vec<String>)>);

// === impl Addresses ===

impl Addresses {
    /// The violation in the addresses of an event's pod, if any: they stay when the network of the newest sandbox is removed.
    pub fn lost(&mut self, received: &Received) -> Option<String> {
        let event = &received.event;
        let key = format!("{}/{}/{}", event.pod.namespace, event.pod.name, event.pod.uid);
        let Some(pod) = &received.pod else {
            self.0.remove(&key);
            return None;
        };
        let newest = pod.sandboxes.first()?;
        let id = newest.id.to_string();
        let lost = newest.state == SandboxState::NotReady
            && newest.ips.is_empty()
            && pod.ips.is_empty()
            && self.0.get(&key).is_some_and(|(before, ips)| *before == id && !ips.is_empty());
        self.0.insert(key, (id, pod.ips.clone()));
        lost.then(|| "has a pod that lost its addresses".into())
    }
}
