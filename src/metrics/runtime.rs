//! What goes to and comes from the runtime: relists, reads, calls, the stream, and the mode that follows from it.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::{
    CALL, Channel, Code, DisconnectReason, Family, LATENCY, Outcome, ReadOutcome, RelistCause, StreamState,
    family::Maker,
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
    /// `plegd_relist_interval_seconds`: from the beginning of one to that of the next.
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
    /// The newest ones, for whoever looks at the node without Prometheus at hand.
    recent: Mutex<VecDeque<Relist>>,
}

/// One relist that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relist {
    /// Its number, from 1.
    pub number: u64,
    /// What caused it.
    pub cause: RelistCause,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// When it ended.
    pub at: Wall,
}

/// How many relists are remembered one by one: five minutes of one a second.
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
    /// `plegd_cri_request_duration_seconds`; of the event stream, the time until it answers.
    pub duration: Family<Method, Histogram>,
}

/// The event stream.
pub struct Stream {
    /// `plegd_stream_state`; use [`Family::set_only`].
    pub state: Family<StreamState, IntGauge>,
    /// `plegd_stream_shared`: 1 where subscribers take events from each other.
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

/// A moment as a metric has it: seconds since 1970.
pub(super) fn timestamp(at: Wall) -> f64 {
    at.seconds_since(Wall::default())
}

// === impl Relists ===

impl Relists {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            done: make.counters(
                "plegd_relists_total",
                "Relists, by what caused them and how they ended.",
                &["cause", "result"],
            ),
            duration: make.histogram(
                "plegd_relist_duration_seconds",
                "Time that a relist took, with the reads it led to. \
                 The kubelet's counterpart is kubelet_pleg_relist_duration_seconds.",
                LATENCY,
            ),
            interval: make.histogram(
                "plegd_relist_interval_seconds",
                "Time between the beginnings of two relists, one after the other. \
                 The kubelet's counterpart is kubelet_pleg_relist_interval_seconds.",
                LATENCY,
            ),
            last_success: make.seconds_gauge(
                "plegd_relist_last_success_timestamp_seconds",
                "When the last complete relist ended, in seconds since 1970; 0 before the first. \
                 The kubelet's counterpart is kubelet_pleg_last_seen_seconds.",
            ),
            consecutive_failures: make.gauge(
                "plegd_relist_consecutive_failures",
                "Relists that have failed since the last one that succeeded; from 2 on the runtime cannot be listed.",
            ),
            in_progress: make.gauge("plegd_relist_in_progress", "1 while a relist is under way."),
            in_progress_since: make.seconds_gauge(
                "plegd_relist_in_progress_since_timestamp_seconds",
                "When the relist that is under way began, in seconds since 1970; 0 if none is. \
                 A relist that hangs shows here, and in the kubelet's metrics nowhere.",
            ),
            changed_pods: make.histogram(
                "plegd_relist_changed_pods",
                "Pods in which a relist found a change.",
                &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
            ),
            period: make.seconds_gauge(
                "plegd_relist_period_seconds",
                "Time between relists that is in force, before jitter.",
            ),
            recent: Mutex::default(),
        }
    }

    /// A relist began.
    pub fn began(&self, at: Wall) {
        self.in_progress.set(1);
        self.in_progress_since.set(timestamp(at));
    }

    /// It ended, after `took`.
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

    /// Those that ended after number `after`, oldest first, as far as they are remembered.
    pub fn ended_after(&self, after: u64) -> Vec<Relist> {
        self.recent.lock().iter().filter(|relist| relist.number > after).copied().collect()
    }
}

// === impl Reads ===

impl Reads {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            done: make.counters(
                "plegd_reads_total",
                "Reads of the statuses of one pod, by what caused them and how they ended.",
                &["cause", "result"],
            ),
            duration: make.histogram(
                "plegd_read_duration_seconds",
                "Time that the read of one pod took. The kubelet's counterpart is kubelet_pleg_pod_relist_duration_seconds.",
                LATENCY,
            ),
            pending: make.gauge("plegd_reads_pending", "Pods that wait to be read."),
            running: make.gauge("plegd_reads_running", "Pods that are being read."),
            places: make.gauge(
                "plegd_reads_places",
                "How many pods are read at a time at most: as many as the runtime answers without letting them wait for each other, up to relist.parallelism.",
            ),
            delayed: make.gauge(
                "plegd_reads_delayed",
                "Reads that are due later: looks at what no event tells, and retries. At most 65,536, past which they are due at once, and a retry for each pod whose reads fail.",
            ),
            awaited: make.gauge(
                "plegd_reads_awaited",
                "Callers who wait for a pod that is newer than the cache. Each is a request under way: at most api.requests_per_peer of a client, and 16 times as many of all.",
            ),
            failing_pods: make.gauge("plegd_pods_failing_reads", "Pods of which the last read failed."),
            unreadable: make.gauge(
                "plegd_unreadable_objects",
                "Containers and sandboxes that the runtime lists and whose status it does not give. Their state is served as listed. At most 1,024 are counted.",
            ),
            contradictions: make.counter(
                "plegd_contradictions_total",
                "Times that the state of a container or sandbox was published as listed, since the runtime did not give its status.",
            ),
        }
    }
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            requests: make.counters(
                "plegd_cri_requests_total",
                "CRI calls, by method and gRPC code. The kubelet's counterparts are kubelet_runtime_operations_total \
                 and kubelet_runtime_operations_errors_total.",
                &["method", "code"],
            ),
            duration: make.histograms(
                "plegd_cri_request_duration_seconds",
                "Time that CRI calls took; of the event stream, the time until it answered. \
                 The kubelet's counterpart is kubelet_runtime_operations_duration_seconds.",
                CALL,
                &["method"],
            ),
        }
    }
}

impl Calls {
    /// A call has ended, after `took`; the stream's answer has no time that means anything.
    pub fn request(&self, method: Method, code: tonic::Code, took: Option<Duration>) {
        self.requests.inc((method, code.into()));
        if let Some(took) = took {
            self.duration.observe(method, took);
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(make: &Maker) -> Self {
        let stream = Self {
            state: make.gauges("plegd_stream_state", "1 for the state that the event stream is in, else 0.", &["state"]),
            shared: make.gauge(
                "plegd_stream_shared",
                "1 if the runtime has one queue of events for all its subscribers, so that they take events from each other.",
            ),
            connects: make.counter(
                "plegd_stream_connects_total",
                "Event streams that were opened. The kubelet's counterpart is \
                 kubelet_evented_pleg_connection_success_count, which also counts those that the runtime then refuses.",
            ),
            disconnects: make.counters(
                "plegd_stream_disconnects_total",
                "Event streams that came to an end, by why. The kubelet's counterpart is \
                 kubelet_evented_pleg_connection_error_count.",
                &["reason"],
            ),
            messages: make.counters("plegd_stream_messages_total", "Messages of the event stream, by type.", &["type"]),
            replayed: make.counter(
                "plegd_stream_replayed_messages_total",
                "Messages of the event stream that were stamped before it was opened.",
            ),
            skipped: make.counters(
                "plegd_stream_skipped_events_total",
                "Events that did not come, as the order of those that came shows, by type. Counted only where subscribers take \
                 events from each other and plegd would yield the stream.",
                &["type"],
            ),
            nil_payloads: make.counter(
                "plegd_stream_nil_payloads_total",
                "Messages of the event stream that came without a status.",
            ),
            queue_messages: make.gauge(
                "plegd_stream_queue_messages",
                "Messages that wait between the event stream and the arbiter.",
            ),
            queue_bytes: make.gauge(
                "plegd_stream_queue_bytes",
                "Bytes of the messages that wait between the event stream and the arbiter.",
            ),
            queue_trimmed: make.counter(
                "plegd_stream_queue_trimmed_total",
                "Messages that were cut down, since the queue was full, to what tells the life of the one container they are about.",
            ),
            last_message: make.seconds_gauge(
                "plegd_stream_last_message_timestamp_seconds",
                "When the last message of the event stream came, in seconds since 1970; 0 before the first.",
            ),
            bad_stamps: make.counter(
                "plegd_stream_bad_stamps_total",
                "Messages of the event stream whose stamp is no time: zero, negative, in the future, or in seconds.",
            ),
            malformed: make.counters(
                "plegd_malformed_messages_total",
                "Messages of the runtime that could not be decoded, by what they came over.",
                &["path"],
            ),
        };
        stream.state.set_only(StreamState::Down);
        stream
    }

    /// A message came.
    pub fn received(&self, kind: StreamEventType, at: Wall) {
        self.messages.inc(kind);
        self.last_message.set(timestamp(at));
    }
}

// === impl Modes ===

impl Modes {
    pub(super) fn new(make: &Maker) -> Self {
        let modes = Self {
            ready: make
                .gauge("plegd_ready", "1 once the first relist is complete, as /readyz says it; it stays."),
            current: make.gauges("plegd_mode", "1 for the mode that plegd is in, else 0.", &["mode"]),
            changes: make.counters(
                "plegd_mode_changes_total",
                "Changes of the mode, by the new one.",
                &["mode"],
            ),
            fallback: make.histogram(
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
