//! Who asks plegd, and what plegd asks.

use super::{
    Kind::{Lines, Stacked},
    Panel, panel,
};

pub const SUBSCRIBERS: &[Panel] = &[
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
        "Times that a subscriber got a gap: it fell behind, resumed after its events had left the journal (came_late), or resumed \
         with a position of another epoch, as after a restart of plegd (other_epoch).",
        &[
            ("sum(increase(plegd_subscriber_gaps_total{CHOSEN}[$__rate_interval]))", "fell behind"),
            (
                "sum by (cause) (increase(plegd_subscriber_resume_gaps_total{CHOSEN}[$__rate_interval]))",
                "{{cause}}",
            ),
        ],
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

pub const RUNTIME: &[Panel] = &[
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
