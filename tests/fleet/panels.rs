//! What is on the dashboard: every panel with its unit, what it tells, and its expressions. `CHOSEN` stands for the nodes that
//! are chosen above the panels.

/// How a panel looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Figure,
    Lines,
    Stacked,
    Heatmap,
}

/// A panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    pub kind: Kind,
    pub title: &'static str,
    /// Grafana's name of it.
    pub unit: &'static str,
    pub description: &'static str,
    /// Expressions, each with its legend.
    pub queries: &'static [(&'static str, &'static str)],
}

// === impl Kind ===

impl Kind {
    /// Columns and lines of the grid.
    pub fn size(self) -> (u64, u64) {
        match self {
            Kind::Figure => (4, 4),
            Kind::Lines | Kind::Stacked => (8, 8),
            Kind::Heatmap => (12, 9),
        }
    }
}

const fn panel(
    kind: Kind,
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { kind, title, unit, description, queries }
}

use Kind::{Figure, Heatmap, Lines, Stacked};

/// The rows, in order.
pub const ROWS: &[(&str, &[Panel])] = &[
    ("Health", HEALTH),
    ("Evented against generic", PATHS),
    ("Arbitration", ARBITRATION),
    ("Subscribers", SUBSCRIBERS),
    ("Runtime calls", RUNTIME),
    ("Process", PROCESS),
];

const HEALTH: &[Panel] = &[
    panel(
        Figure,
        "Nodes",
        "short",
        "Nodes whose plegd is scraped.",
        &[("count(plegd_build_info{CHOSEN})", "")],
    ),
    panel(
        Figure,
        "Not ready",
        "short",
        "Nodes whose plegd has not completed its first relist and serves nothing.",
        &[("sum(plegd_ready{CHOSEN} == bool 0)", "")],
    ),
    panel(
        Figure,
        "Streams up",
        "percentunit",
        "Share of the nodes that hear the runtime's events.",
        &[(r#"sum(plegd_stream_state{CHOSEN, state=~"up|unconfirmed"}) / count(plegd_ready{CHOSEN})"#, "")],
    ),
    panel(
        Figure,
        "Oldest relist",
        "s",
        "How long ago the last relist of the node was that has waited longest. It should be little more than a minute.",
        &[("max(time() - plegd_relist_last_success_timestamp_seconds{CHOSEN})", "")],
    ),
    panel(Figure, "Pods", "short", "Pods that plegd knows.", &[("sum(plegd_pods{CHOSEN})", "")]),
    panel(
        Figure,
        "Running containers",
        "short",
        "Containers that run.",
        &[(r#"sum(plegd_containers{CHOSEN, state="running"})"#, "")],
    ),
    panel(
        Stacked,
        "Nodes by mode",
        "short",
        "evented: events are trusted and a relist a minute checks them. probing: events come and are not trusted yet. \
         polling: there are none, and everything is listed each second.",
        &[("sum by (mode) (plegd_mode{CHOSEN})", "{{mode}}")],
    ),
    panel(
        Stacked,
        "Nodes by state of the stream",
        "short",
        "Where the stream is down or connecting for long, see the alert PlegdEventStreamDown.",
        &[("sum by (state) (plegd_stream_state{CHOSEN})", "{{state}}")],
    ),
    panel(
        Stacked,
        "Nodes by version",
        "short",
        "Versions of plegd that run, as during an upgrade.",
        &[("count by (version, revision) (plegd_build_info{CHOSEN})", "{{version}} {{revision}}")],
    ),
    panel(
        Lines,
        "Changes of mode",
        "short",
        "Each change to polling or probing is a stream that was lost or that missed something.",
        &[("sum by (mode) (increase(plegd_mode_changes_total{CHOSEN}[$__rate_interval]))", "to {{mode}}")],
    ),
    panel(
        Stacked,
        "Pods by state",
        "short",
        "Pods by whether their newest sandbox is ready.",
        &[("sum by (state) (plegd_pods{CHOSEN})", "{{state}}")],
    ),
    panel(
        Lines,
        "Configuration reloads",
        "short",
        "Reloads by what came of them, nodes whose file is not valid, so that the one before it stays in force, and keys that \
         hold only after a restart.",
        &[
            (
                "sum by (result) (increase(plegd_config_reloads_total{CHOSEN}[$__rate_interval]))",
                "{{result}}",
            ),
            ("sum(plegd_config_last_reload_successful{CHOSEN} == bool 0)", "nodes on an old one"),
            ("sum(plegd_config_keys_awaiting_restart{CHOSEN})", "keys that wait for a restart"),
        ],
    ),
];

const PATHS: &[Panel] = &[
    panel(
        Stacked,
        "Who saw it first",
        "ops",
        "Lifecycle events by the path that saw them first: the event stream, the relist, or the read of one pod.",
        &[("sum by (source) (rate(plegd_transitions_total{CHOSEN}[$__rate_interval]))", "{{source}}")],
    ),
    panel(
        Stacked,
        "Which paths saw it",
        "ops",
        "event_only is what polling alone would not have noticed, relist_only what the stream did not tell.",
        &[("sum by (by) (rate(plegd_transitions_seen_total{CHOSEN}[$__rate_interval]))", "{{by}}")],
    ),
    panel(
        Lines,
        "Missed events",
        "ops",
        "What a relist found and the stream should have told. More than now and then: see PlegdEventsMissed and PlegdStreamShared.",
        &[("sum by (type) (rate(plegd_missed_events_total{CHOSEN}[$__rate_interval]))", "{{type}}")],
    ),
    panel(
        Heatmap,
        "Detection latency: events",
        "s",
        "From when it happened, by the runtime's clock, to when plegd saw it, where the stream was first.",
        &[(
            r#"sum by (le) (increase(plegd_detection_latency_seconds_bucket{CHOSEN, source="event"}[$__rate_interval]))"#,
            "{{le}}",
        )],
    ),
    panel(
        Heatmap,
        "Detection latency: relists and reads",
        "s",
        "The same where the stream was not first. In polling it spreads evenly over a second.",
        &[(
            r#"sum by (le) (increase(plegd_detection_latency_seconds_bucket{CHOSEN, source=~"relist|read"}[$__rate_interval]))"#,
            "{{le}}",
        )],
    ),
    panel(
        Lines,
        "Detection latency",
        "s",
        "Median and 99th percentile by the path that was first.",
        &[
            (
                "histogram_quantile(0.5, sum by (source, le) (rate(plegd_detection_latency_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "{{source}} median",
            ),
            (
                "histogram_quantile(0.99, sum by (source, le) (rate(plegd_detection_latency_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "{{source}} 99 %",
            ),
        ],
    ),
    panel(
        Lines,
        "Lead of the first path",
        "s",
        "Where both paths saw it: by how much the first led the second, median and 99th percentile.",
        &[
            (
                "histogram_quantile(0.5, sum by (first, le) (rate(plegd_path_lead_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "{{first}} first, median",
            ),
            (
                "histogram_quantile(0.99, sum by (first, le) (rate(plegd_path_lead_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "{{first}} first, 99 %",
            ),
        ],
    ),
    panel(
        Lines,
        "CRI calls per lifecycle event",
        "short",
        "What a told event costs in calls to the runtime. Relists of quiet nodes count too.",
        &[(
            "sum(rate(plegd_cri_requests_total{CHOSEN}[$__rate_interval])) \
             / sum(rate(plegd_transitions_total{CHOSEN}[$__rate_interval]))",
            "calls per event",
        )],
    ),
    panel(
        Lines,
        "CRI calls per node by mode",
        "reqps",
        "What a node in each mode asks of its runtime: evented should be far below polling.",
        &[(
            "sum by (mode) (plegd_mode{CHOSEN} * on (job, instance) group_left () \
             sum by (job, instance) (rate(plegd_cri_requests_total{CHOSEN}[$__rate_interval]))) \
             / (sum by (mode) (plegd_mode{CHOSEN}) > 0)",
            "{{mode}}",
        )],
    ),
    panel(
        Lines,
        "Stream lost to complete relist",
        "s",
        "How long the generic path took to step in, median and longest bucket.",
        &[
            (
                "histogram_quantile(0.5, sum by (le) (increase(plegd_fallback_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "median",
            ),
            (
                "histogram_quantile(1, sum by (le) (increase(plegd_fallback_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "longest",
            ),
        ],
    ),
    panel(
        Stacked,
        "Lifecycle events by type",
        "ops",
        "What is told, of containers and sandboxes together.",
        &[("sum by (type) (rate(plegd_transitions_total{CHOSEN}[$__rate_interval]))", "{{type}}")],
    ),
];

const ARBITRATION: &[Panel] = &[
    panel(
        Stacked,
        "Verdicts",
        "ops",
        "What became of each view of a container or sandbox. forward is taken; same says nothing new; stale, dead, old and \
         backward came too late and are not taken; undecided causes a read.",
        &[("sum by (verdict) (rate(plegd_observations_total{CHOSEN}[$__rate_interval]))", "{{verdict}}")],
    ),
    panel(
        Lines,
        "Views that came too late",
        "ops",
        "By where they came from. The stamps of a runtime's events are younger than what is in them, so some are normal.",
        &[(
            r#"sum by (source, verdict) (rate(plegd_observations_total{CHOSEN, verdict=~"stale|dead|old|backward"}[$__rate_interval]))"#,
            "{{source}} {{verdict}}",
        )],
    ),
    panel(
        Lines,
        "Reads of single pods",
        "ops",
        "By what caused them.",
        &[("sum by (cause) (rate(plegd_reads_total{CHOSEN}[$__rate_interval]))", "{{cause}}")],
    ),
    panel(
        Lines,
        "Reads that wait, run and fail",
        "short",
        "Pods that wait for a read, are being read, and of which the last read failed.",
        &[
            ("sum(plegd_reads_pending{CHOSEN})", "wait"),
            ("sum(plegd_reads_running{CHOSEN})", "run"),
            ("sum(plegd_pods_failing_reads{CHOSEN})", "failed"),
        ],
    ),
    panel(
        Lines,
        "Time of a read",
        "s",
        "Median and 99th percentile.",
        &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(plegd_read_duration_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "median",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(plegd_read_duration_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "99 %",
            ),
        ],
    ),
    panel(
        Lines,
        "Tombstones and clock steps",
        "short",
        "Removed containers and sandboxes that are remembered, and steps of the wall clock.",
        &[
            ("sum(plegd_tombstones{CHOSEN})", "tombstones"),
            ("sum(increase(plegd_clock_steps_total{CHOSEN}[$__rate_interval]))", "clock steps"),
        ],
    ),
];

const SUBSCRIBERS: &[Panel] = &[
    panel(
        Lines,
        "Subscribers",
        "short",
        "Who watches, over gRPC or within the process.",
        &[("sum(plegd_subscribers{CHOSEN})", "subscribers")],
    ),
    panel(
        Lines,
        "Lag of the slowest",
        "short",
        "Events that the slowest subscriber has yet to take, on the worst nodes. It must stay below what the journal holds.",
        &[(
            "topk(5, max by (node, instance) (plegd_subscriber_max_lag_events{CHOSEN}))",
            "{{node}} {{instance}}",
        )],
    ),
    panel(
        Lines,
        "Gaps",
        "short",
        "Times that a subscriber was told that events had left the journal before it read them.",
        &[("sum(increase(plegd_subscriber_gaps_total{CHOSEN}[$__rate_interval]))", "gaps")],
    ),
    panel(
        Lines,
        "Journal",
        "bytes",
        "Bytes of events that the journals hold, at most on one node and on average.",
        &[("max(plegd_journal_bytes{CHOSEN})", "most"), ("avg(plegd_journal_bytes{CHOSEN})", "average")],
    ),
    panel(
        Stacked,
        "Calls of clients",
        "reqps",
        "By method, as they end; a watch ends with its client.",
        &[("sum by (method) (rate(plegd_grpc_requests_total{CHOSEN}[$__rate_interval])) > 0", "{{method}}")],
    ),
    panel(
        Lines,
        "Refused and failed",
        "reqps",
        "Refused connections and calls by what they came up against, and calls that ended otherwise than well.",
        &[
            (
                "sum by (reason) (rate(plegd_grpc_refused_total{CHOSEN}[$__rate_interval]))",
                "refused: {{reason}}",
            ),
            (
                r#"sum by (code) (rate(plegd_grpc_requests_total{CHOSEN, code!~"OK|Canceled"}[$__rate_interval])) > 0"#,
                "{{code}}",
            ),
        ],
    ),
    panel(
        Lines,
        "Connections",
        "short",
        "Connections of gRPC clients.",
        &[("sum(plegd_grpc_connections{CHOSEN})", "connections")],
    ),
    panel(
        Lines,
        "Events in the journal",
        "short",
        "How many events a client can be away for: the fewest and the most that a node's journal holds.",
        &[("min(plegd_journal_events{CHOSEN})", "fewest"), ("max(plegd_journal_events{CHOSEN})", "most")],
    ),
    panel(
        Lines,
        "Evicted",
        "ops",
        "Events that left the journals for newer ones. Whoever has read them has lost nothing.",
        &[("sum(rate(plegd_journal_evicted_total{CHOSEN}[$__rate_interval]))", "evicted")],
    ),
];

const RUNTIME: &[Panel] = &[
    panel(
        Stacked,
        "CRI calls",
        "reqps",
        "By method.",
        &[("sum by (method) (rate(plegd_cri_requests_total{CHOSEN}[$__rate_interval])) > 0", "{{method}}")],
    ),
    panel(
        Lines,
        "CRI calls that failed",
        "reqps",
        "By method and code. NotFound is an answer: what was read for is gone.",
        &[(
            r#"sum by (method, code) (rate(plegd_cri_requests_total{CHOSEN, code!="OK"}[$__rate_interval])) > 0"#,
            "{{method}} {{code}}",
        )],
    ),
    panel(
        Lines,
        "Time of CRI calls",
        "s",
        "99th percentile by method.",
        &[(
            "histogram_quantile(0.99, sum by (method, le) (rate(plegd_cri_request_duration_seconds_bucket{CHOSEN}[$__rate_interval])))",
            "{{method}}",
        )],
    ),
    panel(
        Lines,
        "Time of a relist",
        "s",
        "With the reads it led to; compare with kubelet_pleg_relist_duration_seconds.",
        &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(plegd_relist_duration_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "median",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(plegd_relist_duration_seconds_bucket{CHOSEN}[$__rate_interval])))",
                "99 %",
            ),
        ],
    ),
    panel(
        Stacked,
        "Relists",
        "ops",
        "By what caused them and how they ended.",
        &[(
            "sum by (cause, result) (rate(plegd_relists_total{CHOSEN}[$__rate_interval])) > 0",
            "{{cause}} {{result}}",
        )],
    ),
    panel(
        Lines,
        "Relist period",
        "s",
        "The period in force: longest, shortest and average over the nodes.",
        &[
            ("max(plegd_relist_period_seconds{CHOSEN})", "longest"),
            ("min(plegd_relist_period_seconds{CHOSEN})", "shortest"),
            ("avg(plegd_relist_period_seconds{CHOSEN})", "average"),
        ],
    ),
    panel(
        Stacked,
        "Messages of the stream",
        "ops",
        "By type.",
        &[("sum by (type) (rate(plegd_stream_messages_total{CHOSEN}[$__rate_interval]))", "{{type}}")],
    ),
    panel(
        Lines,
        "Messages that wait",
        "short",
        "Between the stream and the arbiter, on the worst nodes; the receiver itself waits for nothing.",
        &[(
            "topk(5, max by (node, instance) (plegd_stream_queue_messages{CHOSEN}))",
            "{{node}} {{instance}}",
        )],
    ),
    panel(
        Lines,
        "Streams that began and ended",
        "short",
        "Ends by why. overflow and malformed should not be.",
        &[
            ("sum(increase(plegd_stream_connects_total{CHOSEN}[$__rate_interval]))", "began"),
            (
                "sum by (reason) (increase(plegd_stream_disconnects_total{CHOSEN}[$__rate_interval]))",
                "{{reason}}",
            ),
        ],
    ),
];

const PROCESS: &[Panel] = &[
    panel(
        Lines,
        "CPU",
        "percentunit",
        "Of one core: the most that a node takes, and the average.",
        &[
            (r#"max(rate(process_cpu_seconds_total{job="plegd", CHOSEN}[$__rate_interval]))"#, "most"),
            (r#"avg(rate(process_cpu_seconds_total{job="plegd", CHOSEN}[$__rate_interval]))"#, "average"),
        ],
    ),
    panel(
        Lines,
        "Resident memory",
        "bytes",
        "The most that a node takes, and the average. A full journal takes what journal.bytes allows.",
        &[
            (r#"max(process_resident_memory_bytes{job="plegd", CHOSEN})"#, "most"),
            (r#"avg(process_resident_memory_bytes{job="plegd", CHOSEN})"#, "average"),
        ],
    ),
    panel(
        Lines,
        "File descriptors and threads",
        "short",
        "The most on a node.",
        &[
            (r#"max(process_open_fds{job="plegd", CHOSEN})"#, "descriptors"),
            (r#"max(process_threads{job="plegd", CHOSEN})"#, "threads"),
        ],
    ),
    panel(
        Lines,
        "Youngest process",
        "s",
        "How long the plegd runs that was started last: it falls to 0 where one restarts.",
        &[(r#"min(time() - process_start_time_seconds{job="plegd", CHOSEN})"#, "youngest")],
    ),
];
