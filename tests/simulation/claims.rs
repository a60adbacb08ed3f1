//! What an event says of its pod: names, labels, addresses, and whether it is initial inventory.

use std::{collections::BTreeMap, time::Duration};

use plegd::{
    clock::Mono,
    model::{Event, EventType, Labels, SandboxState, Source},
    sim::{Exchange, Message},
};

use super::{
    facts::{Fact, Facts},
    lives::words,
    stage::{Heard, Hindrances},
};

/// What was read of a pod and could be read again within so much.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// What is wrong with the names and labels in an event, if anything.
pub fn misnamed(heard: &Heard, facts: &Facts, hindrances: &Hindrances) -> Option<String> {
    let event = &heard.event;
    let fact = facts.get(event.id.as_str())?;
    let Some(pod) = &fact.pod else { return None };
    let identity = &event.pod;
    let named = (identity.namespace.to_string(), identity.name.to_string(), identity.uid.to_string());
    if named != *pod {
        return Some(format!("names the pod {named:?}, and it is in {pod:?}"));
    }
    if *event.container_name != *fact.name && !(event.container_name.is_empty() && ends(event)) {
        return Some(format!("calls the container {:?}, and it is {:?}", event.container_name, fact.name));
    }
    let labels = of_labels(&event.labels);
    let possible = facts.labels_of(pod);
    if possible.contains(&labels) {
        return None;
    }
    if !labels.is_empty() {
        return Some(format!("has the labels {labels:?}, and its sandboxes had {possible:?}"));
    }
    // Labels come from a sandbox. Where none can be read, nobody knows them.
    let from = heard.at - READ_WITHIN;
    let could_be_read = facts.has_sandbox(pod, from, heard.at) && !hindrances.any(from, heard.at);
    (could_be_read && is_served(heard)).then(|| "has no labels, and its sandbox could be read".into())
}

/// Whether it is about something that is served, rather than history.
fn is_served(heard: &Heard) -> bool {
    let id = heard.event.id.as_str();
    heard.pod.as_ref().is_some_and(|pod| {
        pod.container(id).is_some() || pod.sandboxes.iter().any(|sandbox| sandbox.id.as_str() == id)
    })
}

fn ends(event: &Event) -> bool {
    matches!(event.kind, EventType::ContainerDied | EventType::ContainerRemoved)
}

fn of_labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Events that count as initial inventory and are none, or do not and are.
pub fn wrongly_initial(
    heard: &[Heard],
    said: &[Exchange],
    began: Mono,
    facts: &Facts,
    wrong_lists: &Hindrances,
) -> Vec<String> {
    let mut lists = said.iter().filter(|it| it.at >= began && matches!(it.message, Message::Containers(_)));
    let (Some(first), second) = (lists.next(), lists.next()) else { return Vec::new() };
    let misled = wrong_lists.any(began, first.at);
    let mut found = Vec::new();
    for Heard { at, event, .. } in heard {
        let Some(fact) = facts.get(event.id.as_str()) else { continue };
        if event.initial && fact.made() > first.at {
            found.push(format!(
                "{}: {} is initial, and was made after the first list",
                event.sequence,
                words(event)
            ));
        }
        let by_first_list = event.source == Source::Relist && second.is_none_or(|second| *at < second.at);
        let is_move = matches!(event.kind, EventType::ContainerStarted | EventType::ContainerDied);
        if by_first_list && is_move && !event.initial && !misled && was_so(fact, began) {
            found.push(format!("{}: {} is not initial, and was so before", event.sequence, words(event)));
        }
    }
    found
}

/// Whether nothing has happened to it since before `began`.
fn was_so(fact: &Fact, began: Mono) -> bool {
    fact.versions.last().is_some_and(|last| last.from.1 < began)
}

/// Finished pods that lost their addresses.
#[derive(Default)]
pub struct Addresses(BTreeMap<String, (String, Vec<String>)>);

// === impl Addresses ===

impl Addresses {
    /// What is wrong with the addresses of the pod that came with an event, if anything: they stay when the network of its newest
    /// sandbox is taken down.
    pub fn lost(&mut self, heard: &Heard) -> Option<String> {
        let event = &heard.event;
        let key = format!("{}/{}/{}", event.pod.namespace, event.pod.name, event.pod.uid);
        let Some(pod) = &heard.pod else {
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
        lost.then(|| "came with a pod that has lost its addresses".into())
    }
}
