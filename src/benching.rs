//! What each event passes through, one by one: for `benches/hot.rs`, and not part of the API.
//!
//! Only what it cannot reach otherwise, and no logic: each function calls what the daemon calls. What it has in common with
//! the fuzz targets is in [`crate::fuzzing`].

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    api::wire::{Encoded, Node},
    cache,
    journal::{Detail, Journal, Record},
    model::Event,
    watch::Update,
};

/// Appends the events of a change after which the pod is gone.
pub fn append(journal: &Journal, events: Vec<Event>) {
    let pod = cache::Writer::default().add(&events[0].pod);
    journal.begin().commit(events, None, &pod);
}

/// An event as it is sent to whoever watches; made once, and then kept with it.
pub fn encoded(record: &Arc<Record>, journal: &Journal) -> Bytes {
    let update = Update::Event { record: record.clone(), skipped: 0 };
    Encoded::of(&update, Detail::Event, journal, &Node::default()).0
}
