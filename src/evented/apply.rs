//! Applies the events of the stream to the pods, one after the other, behind the queue.
//!
//! Decides nothing about a pod: the arbiter does. It asks the supervisor for a relist where an event belongs to no known pod,
//! and reports events that the stream has left out.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use super::{Complete, EventOrder, Queue};
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
    /// Takes the reads that an event leads to.
    pub reads: Reads,
    /// Requests a relist.
    pub relist: Arc<Notify>,
    /// Finds events that the stream has left out, by the order of those that came.
    pub order: EventOrder,
    /// Since when the order is looked at; none while it is not.
    pub order_since: watch::Receiver<Option<Mono>>,
    /// Takes what the stream has left out.
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
        let complete = match self.arbiter.quirks().has(Quirk::SilentSandboxes) {
            true => Complete::Containers,
            false => Complete::All,
        };
        for left_out in self.order.take(since, complete, event, self.clock.now()) {
            // Without a supervisor plegd ends.
            let _ = self.left_out.send(left_out);
        }
    }

    /// An event that names no pod, about an id that belongs to no known one: a relist finds the pod, unless the id is removed.
    fn on_unknown_pod(&self, event: &StreamEvent) {
        self.arbiter.note_event_without_pod(event);
        if !self.arbiter.is_removed(&event.id) {
            self.relist.notify_one();
        }
    }
}
