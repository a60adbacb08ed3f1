//! Applies the events of the stream, one after the other, behind the queue.
//!
//! The arbiter decides about the pods. This task requests a relist for an event of no known pod, and reports events that the stream has
//! left out.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use super::{EventCoverage, EventOrder, Queue};
use crate::{
    arbiter::Arbiter,
    clock::{Clock, Mono},
    cri::quirks::Quirk,
    model::{ObjectId, Observation, StreamEvent, StreamEventType},
    relister::Reads,
};

/// Takes events from the queue and applies them.
pub struct EventApplier {
    /// Decides what an event changes.
    pub arbiter: Arc<Arbiter>,
    /// Takes the reads that an event calls for.
    pub reads: Reads,
    /// Requests a relist.
    pub relist: Arc<Notify>,
    /// Finds events that the stream has left out, by the order of those that came.
    pub order: EventOrder,
    /// Since when the order is checked; none while it is not.
    pub order_since: watch::Receiver<Option<Mono>>,
    /// Takes the events that the stream has left out.
    pub left_out: mpsc::UnboundedSender<(ObjectId, StreamEventType)>,
    /// The clock.
    pub clock: Clock,
}

// === impl EventApplier ===

impl EventApplier {
    /// Runs until the receiver is gone.
    pub async fn run(mut self, mut queue: Queue) {
        while let Some(event) = queue.next().await {
            match self.arbiter.to_observation(event) {
                Ok(observation) => {
                    self.check_order(&observation);
                    self.reads.request_all(self.arbiter.apply(&observation));
                }
                Err(event) => self.on_unknown_pod(&event),
            }
        }
    }

    fn check_order(&mut self, event: &Observation) {
        let Some(since) = *self.order_since.borrow() else { return };
        let coverage = match self.arbiter.quirks().has(Quirk::SilentSandboxes) {
            true => EventCoverage::ContainersOnly,
            false => EventCoverage::All,
        };
        for left_out in self.order.record(since, coverage, event, self.clock.now()) {
            // The supervisor is gone only at shutdown.
            let _ = self.left_out.send(left_out);
        }
    }

    /// An event that names no pod, about an id of no known pod: a relist finds the pod, unless the id was removed.
    fn on_unknown_pod(&self, event: &StreamEvent) {
        self.arbiter.note_event_without_pod(event);
        if !self.arbiter.is_removed(&event.id) {
            self.relist.notify_one();
        }
    }
}
