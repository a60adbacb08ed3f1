//! What came out: transitions by path, the arbiter's verdicts, the state of the node, the journal.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Family, LATENCY, Path, PodState, SeenBy, family::Maker};
use crate::model::{
    ContainerState, Event, EventType, ResumeGap, SandboxState, Source, StreamEventType, Subject, Verdict,
};

/// Lifecycle events that were told, and how both paths compare.
pub struct Transitions {
    /// `plegd_transitions_total`
    pub told: Family<(Source, EventType, Subject), IntCounter>,
    /// `plegd_detection_latency_seconds`: by which time a transition was seen after it happened.
    pub latency: Family<Source, Histogram>,
    /// `plegd_path_lead_seconds`: by which time the path that was first led the other.
    pub lead: Family<Path, Histogram>,
    /// `plegd_transitions_seen_total`
    pub seen: Family<SeenBy, IntCounter>,
    /// `plegd_missed_events_total`: what a relist found and the stream should have told.
    pub missed: Family<StreamEventType, IntCounter>,
    /// `plegd_transitions_uncompared`
    pub uncompared: IntGauge,
}

/// What the arbiter made of observations.
pub struct Arbitration {
    /// `plegd_observations_total`, one for each container or sandbox in an observation.
    pub observations: Family<(Source, Verdict), IntCounter>,
    /// `plegd_tombstones`
    pub tombstones: IntGauge,
    /// `plegd_clock_steps_total`
    pub clock_steps: IntCounter,
}

/// Pods, sandboxes and containers as they are.
pub struct State {
    /// `plegd_pods`
    pub pods: Family<PodState, IntGauge>,
    /// `plegd_sandboxes`
    pub sandboxes: Family<SandboxState, IntGauge>,
    /// `plegd_containers`
    pub containers: Family<ContainerState, IntGauge>,
}

/// The journal and its subscribers.
pub struct Journal {
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
    /// `plegd_subscriber_gaps_total`: subscribers that fell behind.
    pub gaps: IntCounter,
    /// `plegd_subscriber_resume_gaps_total`: subscribers that resumed after a position that does not continue.
    pub resume_gaps: Family<ResumeGap, IntCounter>,
    /// `plegd_subscriber_max_lag_events`
    pub max_lag: IntGauge,
}

// === impl Transitions ===

impl Transitions {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            told: make.counters(
                "plegd_transitions_total",
                "Lifecycle events told to subscribers, by the path that saw them first, their type and what they are about.",
                &["source", "type", "subject"],
            ),
            latency: make.histograms(
                "plegd_detection_latency_seconds",
                "Time from when a transition happened, by the runtime's clock, to when plegd saw it, by the path that saw it first. \
                 The kubelet's nearest is kubelet_evented_pleg_connection_latency_seconds, which counts from the event's stamp.",
                LATENCY,
                &["source"],
            ),
            lead: make.histograms(
                "plegd_path_lead_seconds",
                "For transitions that both paths saw: by how much the path that was first led the other.",
                LATENCY,
                &["first"],
            ),
            seen: make.counters(
                "plegd_transitions_seen_total",
                "Transitions by the paths that saw them, once it is settled that no other will.",
                &["by"],
            ),
            missed: make.counters(
                "plegd_missed_events_total",
                "Changes that a relist found and that the event stream should have told by then, by the type of the event that was missed.",
                &["type"],
            ),
            uncompared: make.gauge(
                "plegd_transitions_uncompared",
                "Transitions that one path has told and the other not yet. At most 131,072; past that they are told and not compared.",
            ),
        }
    }

    /// Counts an event that is published.
    pub fn record(&self, event: &Event) {
        self.told.inc((event.source, event.kind, event.subject));
    }

    /// Notes how long after it happened a transition was detected.
    pub fn detected(&self, source: Source, latency: Duration) {
        self.latency.with(source).observe(latency.as_secs_f64());
    }
}

// === impl Arbitration ===

impl Arbitration {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            observations: make.counters(
                "plegd_observations_total",
                "Views of a container or sandbox that a source gave, by what the arbiter made of them. \
                 The kubelet's nearest is kubelet_pleg_discard_events, which counts what a full channel loses.",
                &["source", "verdict"],
            ),
            tombstones: make.gauge(
                "plegd_tombstones",
                "Removed containers and sandboxes that are remembered, so that a late view does not bring them back.",
            ),
            clock_steps: make.counter("plegd_clock_steps_total", "Steps of the machine's wall clock that were noticed."),
        }
    }
}

// === impl State ===

impl State {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            pods: make.gauges(
                "plegd_pods",
                "Pods that are known, by whether their newest sandbox is ready. The kubelet's counterpart is kubelet_running_pods.",
                &["state"],
            ),
            sandboxes: make.gauges("plegd_sandboxes", "Pod sandboxes that are known, by their state.", &["state"]),
            containers: make.gauges(
                "plegd_containers",
                "Containers that are known, by their state. The kubelet's counterpart is kubelet_running_containers, \
                 where a state that is no longer there keeps its last value.",
                &["state"],
            ),
        }
    }
}

// === impl Journal ===

impl Journal {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            events: make.gauge("plegd_journal_events", "Events that the journal holds."),
            bytes: make.gauge("plegd_journal_bytes", "Bytes of the events that the journal holds."),
            head: make.gauge("plegd_journal_head_sequence", "Sequence number of the newest event; 0 before the first."),
            oldest: make.gauge(
                "plegd_journal_oldest_sequence",
                "Sequence number of the oldest event that the journal still holds; 0 while it is empty.",
            ),
            evicted: make.counter(
                "plegd_journal_evicted_total",
                "Events that left the journal for newer ones. Whoever has read them has lost nothing.",
            ),
            subscribers: make.gauge("plegd_subscribers", "Subscribers of the journal."),
            max_lag: make.gauge(
                "plegd_subscriber_max_lag_events",
                "Events that the slowest subscriber over gRPC has not yet taken, whether they pass its filter or not.",
            ),
            gaps: make.counter(
                "plegd_subscriber_gaps_total",
                "Times that a subscriber was so slow that events had left the journal before it read them; it was told.",
            ),
            resume_gaps: make.counters(
                "plegd_subscriber_resume_gaps_total",
                "Times that a subscriber resumed after a position that the journal cannot continue: came_late if the next events \
                 had left the journal, other_epoch if plegd had restarted since. It got a gap and a snapshot.",
                &["cause"],
            ),
        }
    }
}
