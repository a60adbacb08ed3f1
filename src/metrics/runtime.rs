//! The runtime: relists, reads, calls, the stream, and the mode.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::{
    CALL, Channel, Code, DisconnectReason, Family, LATENCY, Outcome, ReadOutcome, RelistCause, StreamState,
    family::Registry,
};
use crate::{
    clock::Wall,
    model::{Method, Mode, ReadCause, StreamEventType},
};

/// Relists.
pub struct Relists {
    /// `plegd_relists_total`
    pub done: Family<(RelistCause, Outcome), IntCounter>,
    /// `plegd_relist_duration_seconds`
    pub duration: Histogram,
    /// `plegd_relist_interval_seconds`: from the start of one relist to the start of the next.
    pub interval: Histogram,
    /// `plegd_relist_last_success_timestamp_seconds`
    pub last_success: Gauge,
    /// `plegd_relist_consecutive_failures`
    pub consecutive_failures: IntGauge,
    /// `plegd_relist_in_progress`; see [`Relists::began`].
    pub in_progress: IntGauge,
    /// `plegd_relist_in_progress_since_timestamp_seconds`
    pub in_progress_since: Gauge,
    /// `plegd_relist_changed_pods`
    pub changed_pods: Histogram,
    /// `plegd_relist_period_seconds`
    pub period: Gauge,
    /// The newest relists, for `plegd status` and the web page.
    recent: Mutex<VecDeque<Relist>>,
}

/// A relist that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relist {
    /// Its number, from 1.
    pub number: u64,
    /// Its cause.
    pub cause: RelistCause,
    /// Its result.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// When it ended.
    pub at: Wall,
}

/// Number of relists that are remembered: five minutes of one relist per second.
const RECENT_RELISTS: usize = 300;

/// Reads of single pods.
pub struct Reads {
    /// `plegd_reads_total`
    pub done: Family<(ReadCause, ReadOutcome), IntCounter>,
    /// `plegd_read_duration_seconds`
    pub duration: Histogram,
    /// `plegd_reads_pending`
    pub pending: IntGauge,
    /// `plegd_reads_running`
    pub running: IntGauge,
    /// `plegd_reads_places`
    pub places: IntGauge,
    /// `plegd_reads_delayed`
    pub delayed: IntGauge,
    /// `plegd_reads_awaited`
    pub awaited: IntGauge,
    /// `plegd_pods_failing_reads`
    pub failing_pods: IntGauge,
    /// `plegd_unreadable_objects`
    pub unreadable: IntGauge,
    /// `plegd_contradictions_total`
    pub contradictions: IntCounter,
}

/// CRI calls.
pub struct Calls {
    /// `plegd_cri_requests_total`
    pub requests: Family<(Method, Code), IntCounter>,
    /// `plegd_cri_request_duration_seconds`; for the event stream, the time until it answers.
    pub duration: Family<Method, Histogram>,
}

/// The event stream.
pub struct Stream {
    /// `plegd_stream_state`; use [`Family::set_only`].
    pub state: Family<StreamState, IntGauge>,
    /// `plegd_stream_shared`: 1 if subscribers take events from each other.
    pub shared: IntGauge,
    /// `plegd_stream_connects_total`
    pub connects: IntCounter,
    /// `plegd_stream_disconnects_total`
    pub disconnects: Family<DisconnectReason, IntCounter>,
    /// `plegd_stream_messages_total`
    pub messages: Family<StreamEventType, IntCounter>,
    /// `plegd_stream_replayed_messages_total`
    pub replayed: IntCounter,
    /// `plegd_stream_skipped_events_total`
    pub skipped: Family<StreamEventType, IntCounter>,
    /// `plegd_stream_nil_payloads_total`
    pub nil_payloads: IntCounter,
    /// `plegd_stream_queue_messages`
    pub queue_messages: IntGauge,
    /// `plegd_stream_queue_bytes`
    pub queue_bytes: IntGauge,
    /// `plegd_stream_queue_trimmed_total`
    pub queue_trimmed: IntCounter,
    /// `plegd_stream_last_message_timestamp_seconds`
    pub last_message: Gauge,
    /// `plegd_stream_bad_stamps_total`
    pub bad_stamps: IntCounter,
    /// `plegd_malformed_messages_total`
    pub malformed: Family<Channel, IntCounter>,
}

/// The mode.
pub struct Modes {
    /// `plegd_ready`: 1 once the first relist is complete.
    pub ready: IntGauge,
    /// `plegd_mode`; see [`Modes::enter`].
    pub current: Family<Mode, IntGauge>,
    /// `plegd_mode_changes_total`
    pub changes: Family<Mode, IntCounter>,
    /// `plegd_fallback_seconds`
    pub fallback: Histogram,
}

/// A time as a metric value: seconds since 1970.
pub(super) fn timestamp(at: Wall) -> f64 {
    at.seconds_since(Wall::default())
}

// === impl Relists ===

impl Relists {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            done: registry.counters(
                "plegd_relists_total",
                "Relists, by cause and result.",
                &["cause", "result"],
            ),
            duration: registry.histogram(
                "plegd_relist_duration_seconds",
                "Duration of a relist, including the reads that it caused. \
                 The kubelet's counterpart is kubelet_pleg_relist_duration_seconds.",
                LATENCY,
            ),
            interval: registry.histogram(
                "plegd_relist_interval_seconds",
                "Time between the starts of two consecutive relists. \
                 The kubelet's counterpart is kubelet_pleg_relist_interval_seconds.",
                LATENCY,
            ),
            last_success: registry.seconds_gauge(
                "plegd_relist_last_success_timestamp_seconds",
                "When the last complete relist ended, in seconds since 1970; 0 before the first. \
                 The kubelet's counterpart is kubelet_pleg_last_seen_seconds.",
            ),
            consecutive_failures: registry.gauge(
                "plegd_relist_consecutive_failures",
                "Relists that have failed since the last successful one; from 2 on the runtime counts as unlistable.",
            ),
            in_progress: registry.gauge("plegd_relist_in_progress", "1 while a relist is running."),
            in_progress_since: registry.seconds_gauge(
                "plegd_relist_in_progress_since_timestamp_seconds",
                "Start of the running relist, in seconds since 1970; 0 if none is running. \
                 A relist that hangs shows here; the kubelet has no metric for it.",
            ),
            changed_pods: registry.histogram(
                "plegd_relist_changed_pods",
                "Pods with a change found by a relist.",
                &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
            ),
            period: registry.seconds_gauge(
                "plegd_relist_period_seconds",
                "Current relist period, before jitter.",
            ),
            recent: Mutex::default(),
        }
    }

    /// A relist began.
    pub fn began(&self, at: Wall) {
        self.in_progress.set(1);
        self.in_progress_since.set(timestamp(at));
    }

    /// The relist ended, after `took`.
    pub fn ended(&self, cause: RelistCause, outcome: Outcome, took: Duration, at: Wall) {
        self.in_progress.set(0);
        self.in_progress_since.set(0.0);
        self.done.inc((cause, outcome));
        self.duration.observe(took.as_secs_f64());
        if outcome == Outcome::Ok {
            self.last_success.set(timestamp(at));
        }
        let mut recent = self.recent.lock();
        let number = recent.back().map_or(0, |last| last.number) + 1;
        if recent.len() == RECENT_RELISTS {
            recent.pop_front();
        }
        recent.push_back(Relist { number, cause, outcome, took, at });
    }

    /// The remembered relists with a number greater than `after`, oldest first.
    pub fn ended_after(&self, after: u64) -> Vec<Relist> {
        self.recent.lock().iter().filter(|relist| relist.number > after).copied().collect()
    }
}

// === impl Reads ===

impl Reads {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            done: registry.counters(
                "plegd_reads_total",
                "Reads of the statuses of one pod, by cause and result.",
                &["cause", "result"],
            ),
            duration: registry.histogram(
                "plegd_read_duration_seconds",
                "Duration of the read of one pod. The kubelet's counterpart is kubelet_pleg_pod_relist_duration_seconds.",
                LATENCY,
            ),
            pending: registry.gauge("plegd_reads_pending", "Pods in the read queue."),
            running: registry.gauge("plegd_reads_running", "Pods being read."),
            places: registry.gauge(
                "plegd_reads_places",
                "Current limit of parallel pod reads: adapted so that the runtime answers without queueing, up to relist.parallelism.",
            ),
            delayed: registry.gauge(
                "plegd_reads_delayed",
                "Scheduled reads: re-checks of changes without an event, and retries. At most 65,536 re-checks, further ones run at once, and one retry per pod with failing reads.",
            ),
            awaited: registry.gauge(
                "plegd_reads_awaited",
                "Callers that wait for a pod newer than the cache. Each is a request in flight: at most api.requests_per_peer per client, and 16 times as many in total.",
            ),
            failing_pods: registry.gauge("plegd_pods_failing_reads", "Pods whose last read failed."),
            unreadable: registry.gauge(
                "plegd_unreadable_objects",
                "Containers and sandboxes that the runtime lists without giving their status. Their state is served as listed. At most 1,024 are counted.",
            ),
            contradictions: registry.counter(
                "plegd_contradictions_total",
                "Times that the state of a container or sandbox was published as listed because the runtime did not give its status.",
            ),
        }
    }
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counters(
                "plegd_cri_requests_total",
                "CRI calls, by method and gRPC code. The kubelet's counterparts are kubelet_runtime_operations_total \
                 and kubelet_runtime_operations_errors_total.",
                &["method", "code"],
            ),
            duration: registry.histograms(
                "plegd_cri_request_duration_seconds",
                "Duration of CRI calls; for the event stream, the time until it answered. \
                 The kubelet's counterpart is kubelet_runtime_operations_duration_seconds.",
                CALL,
                &["method"],
            ),
        }
    }
}

impl Calls {
    /// A call has ended, after `took`; `None` for the stream, whose answer waits for its first event.
    pub fn request(&self, method: Method, code: tonic::Code, took: Option<Duration>) {
        self.requests.inc((method, code.into()));
        if let Some(took) = took {
            self.duration.observe(method, took);
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(registry: &Registry) -> Self {
        let stream = Self {
            state: registry.gauges("plegd_stream_state", "1 for the current state of the event stream, else 0.", &["state"]),
            shared: registry.gauge(
                "plegd_stream_shared",
                "1 if all subscribers of the runtime share one queue of events, so that they take events from each other.",
            ),
            connects: registry.counter(
                "plegd_stream_connects_total",
                "Opened event streams. The kubelet's counterpart is \
                 kubelet_evented_pleg_connection_success_count, which also counts streams that the runtime then refuses.",
            ),
            disconnects: registry.counters(
                "plegd_stream_disconnects_total",
                "Ended event streams, by reason. The kubelet's counterpart is \
                 kubelet_evented_pleg_connection_error_count.",
                &["reason"],
            ),
            messages: registry.counters("plegd_stream_messages_total", "Messages of the event stream, by type.", &["type"]),
            replayed: registry.counter(
                "plegd_stream_replayed_messages_total",
                "Messages of the event stream with a timestamp from before it was opened.",
            ),
            skipped: registry.counters(
                "plegd_stream_skipped_events_total",
                "Events that did not arrive, by the order of the received ones, by type. Counted only where subscribers take \
                 events from each other and plegd would yield the stream.",
                &["type"],
            ),
            nil_payloads: registry.counter(
                "plegd_stream_nil_payloads_total",
                "Messages of the event stream without a sandbox status.",
            ),
            queue_messages: registry.gauge(
                "plegd_stream_queue_messages",
                "Messages queued between the event stream and the arbiter.",
            ),
            queue_bytes: registry.gauge(
                "plegd_stream_queue_bytes",
                "Size of the messages queued between the event stream and the arbiter, in bytes.",
            ),
            queue_trimmed: registry.counter(
                "plegd_stream_queue_trimmed_total",
                "Messages stripped to the lifecycle fields of their container or sandbox because the queue was full.",
            ),
            last_message: registry.seconds_gauge(
                "plegd_stream_last_message_timestamp_seconds",
                "Time of the last message of the event stream, in seconds since 1970; 0 before the first.",
            ),
            bad_stamps: registry.counter(
                "plegd_stream_bad_stamps_total",
                "Messages of the event stream with an invalid timestamp: zero, negative, in the future, or in seconds.",
            ),
            malformed: registry.counters(
                "plegd_malformed_messages_total",
                "Messages of the runtime that could not be decoded, by channel.",
                &["path"],
            ),
        };
        stream.state.set_only(StreamState::Down);
        stream
    }

    /// A message was received.
    pub fn received(&self, kind: StreamEventType, at: Wall) {
        self.messages.inc(kind);
        self.last_message.set(timestamp(at));
    }
}

// === impl Modes ===

impl Modes {
    pub(super) fn new(registry: &Registry) -> Self {
        let modes = Self {
            ready: registry.gauge(
                "plegd_ready",
                "1 once the first relist is complete, as in /readyz; it never returns to 0.",
            ),
            current: registry.gauges("plegd_mode", "1 for the current mode, else 0.", &["mode"]),
            changes: registry.counters("plegd_mode_changes_total", "Mode changes, by new mode.", &["mode"]),
            fallback: registry.histogram(
                "plegd_fallback_seconds",
                "Time from the loss of the event stream to the end of the first complete relist after it.",
                LATENCY,
            ),
        };
        modes.current.set_only(Mode::Polling);
        modes
    }

    /// The mode has changed to this one.
    pub fn enter(&self, mode: Mode) {
        self.current.set_only(mode);
        self.changes.inc(mode);
    }
}
