//! Results: transitions by path, the arbiter's verdicts, the state of the node, the journal.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Family, LATENCY, Path, PodState, SeenBy, family::Registry};
use crate::model::{
    ContainerState, Event, EventType, ResumeGap, SandboxState, Source, StreamEventType, Subject, Verdict,
};

/// Published lifecycle events, and the comparison of both paths.
pub struct Transitions {
    /// `plegd_transitions_total`
    pub published: Family<(Source, EventType, Subject), IntCounter>,
    /// `plegd_initial_transitions_total`
    pub initial: IntCounter,
    /// `plegd_detection_latency_seconds`: time from a transition to its detection.
    pub latency: Family<Source, Histogram>,
    /// `plegd_path_lead_seconds`: how far ahead the first path was.
    pub lead: Family<Path, Histogram>,
    /// `plegd_transitions_seen_total`
    pub seen: Family<SeenBy, IntCounter>,
    /// `plegd_missed_events_total`: changes that a relist found and the stream should have reported.
    pub missed: Family<StreamEventType, IntCounter>,
    /// `plegd_transitions_uncompared`
    pub uncompared: IntGauge,
}

/// The arbiter's verdicts.
pub struct Arbitration {
    /// `plegd_observations_total`, one for each container or sandbox in an observation.
    pub observations: Family<(Source, Verdict), IntCounter>,
    /// `plegd_tombstones`
    pub tombstones: IntGauge,
    /// `plegd_clock_steps_total`
    pub clock_steps: IntCounter,
}

/// Current pods, sandboxes and containers.
pub struct NodeMetrics {
    /// `plegd_pods`
    pub pods: Family<PodState, IntGauge>,
    /// `plegd_sandboxes`
    pub sandboxes: Family<SandboxState, IntGauge>,
    /// `plegd_containers`
    pub containers: Family<ContainerState, IntGauge>,
}

/// The journal and its subscribers.
pub struct JournalMetrics {
    /// `plegd_journal_events`
    pub events: IntGauge,
    /// `plegd_journal_bytes`
    pub bytes: IntGauge,
    /// `plegd_journal_head_sequence`
    pub head: IntGauge,
    /// `plegd_journal_oldest_sequence`
    pub oldest: IntGauge,
    /// `plegd_journal_evicted_total`
    pub evicted: IntCounter,
    /// `plegd_subscribers`
    pub subscribers: IntGauge,
    /// `plegd_subscriber_gaps_total`: subscribers that fell behind the journal.
    pub gaps: IntCounter,
    /// `plegd_subscriber_resume_gaps_total`: resumes from a position that the journal cannot continue.
    pub resume_gaps: Family<ResumeGap, IntCounter>,
    /// `plegd_subscriber_max_lag_events`
    pub max_lag: IntGauge,
}

// === impl Transitions ===

impl Transitions {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            published: registry.counters(
                "plegd_transitions_total",
                "Published lifecycle events without the initial inventory, by the path that detected them first, type and subject.",
                &["source", "type", "subject"],
            ),
            initial: registry.counter(
                "plegd_initial_transitions_total",
                "Published lifecycle events of the initial inventory: what the first relist of an epoch found.",
            ),
            latency: registry.histograms(
                "plegd_detection_latency_seconds",
                "Time from a transition, by the runtime's clock, to its detection, by the path that detected it first. \
                 The kubelet's nearest is kubelet_evented_pleg_connection_latency_seconds, which counts from the event's timestamp.",
                LATENCY,
                &["source"],
            ),
            lead: registry.histograms(
                "plegd_path_lead_seconds",
                "For transitions that both paths detected: how far ahead the first path was.",
                LATENCY,
                &["first"],
            ),
            seen: registry.counters(
                "plegd_transitions_seen_total",
                "Transitions by the paths that detected them, counted when no other path can detect them any more.",
                &["by"],
            ),
            missed: registry.counters(
                "plegd_missed_events_total",
                "Changes that a relist found and that the event stream should have reported before, by the type of the missed event.",
                &["type"],
            ),
            uncompared: registry.gauge(
                "plegd_transitions_uncompared",
                "Transitions that one path has detected and the other not yet. At most 131,072; further ones are published without comparison.",
            ),
        }
    }

    /// Counts a published event.
    pub fn record(&self, event: &Event) {
        if event.initial {
            return self.initial.inc();
        }
        self.published.inc((event.source, event.kind, event.subject));
    }

    /// Records the detection latency of a transition.
    pub fn detected(&self, source: Source, latency: Duration) {
        self.latency.with(source).observe(latency.as_secs_f64());
    }
}

// === impl Arbitration ===

impl Arbitration {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            observations: registry.counters(
                "plegd_observations_total",
                "Observed containers and sandboxes, by source and the arbiter's verdict. \
                 The kubelet's nearest is kubelet_pleg_discard_events, which counts events lost by a full channel.",
                &["source", "verdict"],
            ),
            tombstones: registry.gauge(
                "plegd_tombstones",
                "Removed containers and sandboxes that are remembered, so that a late observation does not bring them back.",
            ),
            clock_steps: registry.counter("plegd_clock_steps_total", "Detected steps of the machine's wall clock."),
        }
    }
}

// === impl NodeMetrics ===

impl NodeMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            pods: registry.gauges(
                "plegd_pods",
                "Known pods, by whether their newest sandbox is ready. The kubelet's counterpart is kubelet_running_pods.",
                &["state"],
            ),
            sandboxes: registry.gauges("plegd_sandboxes", "Known pod sandboxes, by state.", &["state"]),
            containers: registry.gauges(
                "plegd_containers",
                "Known containers, by state. The kubelet's counterpart is kubelet_running_containers, \
                 where a state without containers keeps its last value.",
                &["state"],
            ),
        }
    }
}

// === impl JournalMetrics ===

impl JournalMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            events: registry.gauge("plegd_journal_events", "Events in the journal."),
            bytes: registry.gauge("plegd_journal_bytes", "Size of the events in the journal, in bytes."),
            head: registry.gauge("plegd_journal_head_sequence", "Sequence number of the newest event; 0 before the first."),
            oldest: registry.gauge(
                "plegd_journal_oldest_sequence",
                "Sequence number of the oldest event in the journal; 0 while it is empty.",
            ),
            evicted: registry.counter(
                "plegd_journal_evicted_total",
                "Events evicted from the journal by newer ones. Subscribers that have read them lose nothing.",
            ),
            subscribers: registry.gauge("plegd_subscribers", "Subscribers of the journal."),
            max_lag: registry.gauge(
                "plegd_subscriber_max_lag_events",
                "Events that the slowest gRPC subscriber has not received yet, whether they match its filter or not.",
            ),
            gaps: registry.counter(
                "plegd_subscriber_gaps_total",
                "Times that a subscriber fell behind so far that events were evicted before it read them. It got an explicit gap.",
            ),
            resume_gaps: registry.counters(
                "plegd_subscriber_resume_gaps_total",
                "Times that a subscriber resumed after a position that the journal cannot continue: came_late if the next events \
                 were evicted, other_epoch if plegd was restarted. It got a gap and a snapshot.",
                &["cause"],
            ),
        }
    }
}
