//! The result of a poll: a list, and statuses that were read after it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    super::{
        fields::{self, Fields},
        pseudonyms::Kind,
    },
    By, Entry, Status, Tape, name,
};
use crate::{
    clock::Mono,
    cri::{ListedContainer, ListedSandbox, Listing},
    model::Subject,
    scenario::record::FORGET_AFTER,
};

/// Consecutive polls that confirm a contradiction: a list and a read are from different moments.
const CONFIRMED: u32 = 2;

/// An item of a list.
#[derive(Clone, Copy, Debug)]
pub(in crate::scenario::record) enum ListedItem<'a> {
    Sandbox(&'a ListedSandbox),
    Container(&'a ListedContainer),
}

// === impl Tape ===

impl Tape {
    /// The ids whose statuses a poll has to read after this list: new ones, those that differ from the list or fail,
    /// and those with an event since `since`; also some others, least recently read first.
    pub(in crate::scenario::record) fn to_read(
        &self,
        listing: &Listing,
        since: Mono,
        others: usize,
    ) -> Vec<(String, Subject, String)> {
        let (mut wanted, mut rest) = (Vec::new(), Vec::new());
        for (id, subject, sandbox_id, state) in items(listing) {
            let target = (id.to_owned(), subject, sandbox_id.to_owned());
            match self.entries.get(id) {
                Some(entry)
                    if entry.failures == 0
                        && entry.shows(state)
                        && entry.sandbox_id == sandbox_id
                        && entry.touched.is_none_or(|touched| touched < since) =>
                {
                    rest.push((entry.read, target));
                }
                _ => wanted.push(target),
            }
        }
        rest.sort_by_key(|(read, _)| *read);
        wanted.extend(rest.into_iter().take(others).map(|(_, target)| target));
        wanted
    }

    /// Applies a complete list requested at `began`: ids that it lacks are removed.
    pub(in crate::scenario::record) fn list(&mut self, listing: &Listing, began: Mono, at: Mono) {
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, ..) in items(listing) {
            *shown.entry(id).or_default() += 1;
        }
        let is_older = |entry: &Entry| entry.touched.is_some_and(|touched| began <= touched);
        let gone: Vec<String> = self
            .entries
            .iter()
            .filter(|(id, entry)| !shown.contains_key(id.as_str()) && !is_older(entry))
            .map(|(id, _)| id.clone())
            .collect();
        gone.iter().for_each(|id| self.remove(id, at));
        for (id, _) in shown.into_iter().filter(|(_, times)| *times > 1) {
            if self.entries.contains_key(id) && self.listed_twice.insert(id.to_owned()) {
                self.advance(at);
                let id = self.names.of(Kind::Id, id);
                self.push(json!({ "do": "list_twice", "id": id }));
            }
        }
        // Removed for longer than any list takes: no list can show the id any more.
        self.removed.retain(|_, removed| at.since(*removed) < FORGET_AFTER);
    }

    /// Compares a list with the statuses that were read after it.
    pub(in crate::scenario::record) fn compare(&mut self, listing: &Listing, at: Mono) {
        let mut steps = Vec::new();
        for (id, _, _, state) in items(listing) {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            entry.mismatches = if entry.shows(state) { 0 } else { entry.mismatches + 1 };
            let listed_as = (entry.mismatches >= CONFIRMED).then_some(state);
            let ends = entry.mismatches == 0 && entry.listed_as.is_some();
            if ends || listed_as.is_some() && listed_as != entry.listed_as {
                entry.listed_as = listed_as;
                steps.push((id.to_owned(), entry.subject, listed_as));
            }
        }
        for (id, subject, state) in steps {
            self.advance(at);
            let listed = state.map_or_else(|| json!({}), |state| json!({ "state": state }));
            let id = self.names.of(Kind::Id, &id);
            self.push(json!({ "do": name(subject), "status": { "id": id }, "listed": listed }));
        }
    }

    /// The status of a listed object was read.
    pub(in crate::scenario::record) fn status_read(&mut self, id: &str, at: Mono) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.failures = 0;
        if entry.failing.take().is_some() {
            let subject = entry.subject;
            self.fails_with(id, subject, None, at);
        }
    }

    /// The status of a listed object could not be read.
    pub(in crate::scenario::record) fn status_failed(
        &mut self,
        item: &ListedItem<'_>,
        code: &'static str,
        began: Mono,
        at: Mono,
    ) {
        let id = item.id();
        if !self.entries.contains_key(id) {
            // Lists must show it in the replay.
            let status = self.listed(item);
            self.apply(status, By::Read(began), at);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.failures += 1;
        if entry.failures >= CONFIRMED && entry.failing != Some(code) {
            entry.failing = Some(code);
            let subject = entry.subject;
            self.fails_with(id, subject, Some(code), at);
        }
    }

    fn fails_with(&mut self, id: &str, subject: Subject, code: Option<&'static str>, at: Mono) {
        self.advance(at);
        let method = match subject {
            Subject::Sandbox => "PodSandboxStatus",
            Subject::Container => "ContainerStatus",
        };
        let id = self.names.of(Kind::Id, id);
        self.push(json!({ "do": "fail", "method": method, "id": id, "code": code }));
    }

    /// The object as the list shows it, in place of a status.
    fn listed(&mut self, item: &ListedItem<'_>) -> Status {
        match item {
            ListedItem::Sandbox(item) => {
                let metadata = json!({
                    "name": self.names.of(Kind::Pod, &item.pod_name),
                    "uid": self.names.of(Kind::Uid, &item.pod_uid),
                    "namespace": self.names.of(Kind::Namespace, &item.namespace),
                    "attempt": item.attempt,
                });
                let state = fields::sandbox_state(item.state);
                Status {
                    id: item.id.clone(),
                    subject: Subject::Sandbox,
                    sandbox_id: String::new(),
                    fields: listed_fields(metadata, state, item.created_at),
                    phase: Some(item.state.phase()),
                }
            }
            ListedItem::Container(item) => {
                let name = self.names.of(Kind::Container, &item.name);
                let metadata = json!({ "name": name, "attempt": item.attempt });
                let state = fields::container_state(item.state);
                Status {
                    id: item.id.clone(),
                    subject: Subject::Container,
                    sandbox_id: item.sandbox_id.clone(),
                    fields: listed_fields(metadata, state, item.created_at),
                    phase: item.state.phase(),
                }
            }
        }
    }
}

// === impl ListedItem ===

impl ListedItem<'_> {
    fn id(&self) -> &str {
        match self {
            Self::Sandbox(item) => &item.id,
            Self::Container(item) => &item.id,
        }
    }
}

/// Id, kind, sandbox and state of all items, sandboxes first.
fn items(listing: &Listing) -> impl Iterator<Item = (&str, Subject, &str, &'static str)> {
    let sandboxes = listing.sandboxes.iter();
    let sandboxes =
        sandboxes.map(|item| (&*item.id, Subject::Sandbox, "", fields::sandbox_state(item.state)));
    let containers = listing
        .containers
        .iter()
        .map(|item| (&*item.id, Subject::Container, &*item.sandbox_id, fields::container_state(item.state)));
    sandboxes.chain(containers)
}

fn listed_fields(metadata: Value, state: &str, created_at: i64) -> Fields {
    Map::from_iter([
        ("metadata".to_owned(), metadata),
        ("state".to_owned(), state.into()),
        ("created_at".to_owned(), created_at.into()),
    ])
}
