//! The steps that process an event, as single functions for `benches/hot.rs`. Not part of the API.
//!
//! Only wrappers of functions that the benchmark cannot access otherwise; they call the same functions as the daemon. Wrappers
//! that the fuzz targets use as well are in [`crate::fuzzing`].

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    api::wire::{Encoded, Node},
    cache,
    journal::{Detail, Journal, Record},
    model::Event,
    watch::Update,
};

/// Appends the events of a change that removes the pod.
pub fn append(journal: &Journal, events: Vec<Event>) {
    let pod = cache::Writer::default().add(&events[0].pod);
    journal.begin().commit(events, None, &pod);
}

/// An event in its encoded form for subscribers. It is encoded once and then cached with the record.
pub fn encoded(record: &Arc<Record>, journal: &Journal) -> Bytes {
    let update = Update::Event { record: record.clone(), skipped: 0 };
    Encoded::of(&update, Detail::Event, journal, &Node::default()).0
}
