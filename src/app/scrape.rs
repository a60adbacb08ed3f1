//! Gauges of the cache, the journal and the event queue. They are read when the metrics are scraped.

use super::Core;
use crate::{
    metrics::{Metrics, PodState, raise_to},
    model::{ContainerState, ResumeGap, SandboxState},
};

/// Adds the gauges to the metrics. `queued` returns the number of messages in the event queue, and their bytes.
pub(super) fn gauges(core: &Core, queued: impl Fn() -> (usize, usize) + Send + Sync + 'static) {
    let (arbiter, journal, paths) = (core.arbiter.clone(), core.journal.clone(), core.paths.clone());
    let clock = core.clock.clone();
    let gauges = move |metrics: &Metrics| {
        let counts = arbiter.cache().counts();
        metrics.state.pods.set_each(|state| match state {
            PodState::Ready => counts.ready_pods,
            PodState::NotReady => counts.not_ready_pods,
        });
        metrics.state.sandboxes.set_each(|state: SandboxState| counts.sandboxes[state as usize]);
        metrics.state.containers.set_each(|state: ContainerState| counts.containers[state as usize]);
        metrics.arbitration.tombstones.set(arbiter.tombstones() as i64);
        metrics.transitions.uncompared.set(paths.uncompared() as i64);
        raise_to(&metrics.arbitration.clock_steps, clock.steps());
        let stats = journal.stats();
        metrics.journal.events.set(stats.events as i64);
        metrics.journal.bytes.set(stats.bytes as i64);
        metrics.journal.head.set(stats.head as i64);
        metrics.journal.oldest.set(if stats.events == 0 { 0 } else { stats.oldest as i64 });
        raise_to(&metrics.journal.evicted, stats.evicted);
        metrics.journal.subscribers.set(stats.subscribers as i64);
        raise_to(&metrics.journal.gaps, stats.gaps);
        for cause in ResumeGap::ALL {
            raise_to(metrics.journal.resume_gaps.with(cause), stats.resume_gaps[cause as usize]);
        }
        let (messages, bytes) = queued();
        metrics.stream.queue_messages.set(messages as i64);
        metrics.stream.queue_bytes.set(bytes as i64);
    };
    core.metrics.on_scrape(Box::new(gauges));
}
