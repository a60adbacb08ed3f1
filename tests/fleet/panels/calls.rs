//! Panels about calls from clients and calls to the runtime.

use super::{
    Kind::{Lines, Stacked},
    Panel, panel,
};

pub const SUBSCRIBERS: &[Panel] = &[
    panel(
        Lines,
        "Subscribers",
        "short",
        "Open watches, over gRPC and in process.",
        &[("sum(plegd_subscribers{CHOSEN})", "subscribers")],
    ),
    panel(
        Lines,
        "Lag of the slowest",
        "short",
        "Events that the slowest subscriber has not received yet, on the worst nodes. It must stay below the size of the journal.",
        &[(
            "topk(5, max by (node, instance) (plegd_subscriber_max_lag_events{CHOSEN}))",
            "{{node}} {{instance}}",
        )],
    ),
    panel(
        Lines,
        "Gaps",
        "short",
        "Gaps of subscribers that fell behind, resumed after their events had left the journal (came_late), or resumed \
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
        "Bytes of events in the journals: maximum of one node, and average.",
        &[("max(plegd_journal_bytes{CHOSEN})", "maximum"), ("avg(plegd_journal_bytes{CHOSEN})", "average")],
    ),
    panel(
        Stacked,
        "Calls of clients",
        "reqps",
        "By method, counted at their end; a watch ends with its client.",
        &[("sum by (method) (rate(plegd_grpc_requests_total{CHOSEN}[$__rate_interval])) > 0", "{{method}}")],
    ),
    panel(
        Lines,
        "Refused and failed",
        "reqps",
        "Refused connections and calls by reason, and calls that ended with an error.",
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
        "Open connections of gRPC clients.",
        &[("sum(plegd_grpc_connections{CHOSEN})", "connections")],
    ),
    panel(
        Lines,
        "Events in the journal",
        "short",
        "Number of events that a client can be away for: minimum and maximum over the nodes.",
        &[("min(plegd_journal_events{CHOSEN})", "minimum"), ("max(plegd_journal_events{CHOSEN})", "maximum")],
    ),
    panel(
        Lines,
        "Evicted",
        "ops",
        "Events evicted from the journals by newer ones. Subscribers that have received them lose nothing.",
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
        "By method and code. NotFound is a regular answer: the object has been removed.",
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
        "Including the reads that it causes; compare with kubelet_pleg_relist_duration_seconds.",
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
        "By cause and result.",
        &[(
            "sum by (cause, result) (rate(plegd_relists_total{CHOSEN}[$__rate_interval])) > 0",
            "{{cause}} {{result}}",
        )],
    ),
    panel(
        Lines,
        "Relist period",
        "s",
        "The period in effect: longest, shortest and average over the nodes.",
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
        "Queued messages",
        "short",
        "Between the stream and the arbiter, on the worst nodes. The receiver itself never waits.",
        &[(
            "topk(5, max by (node, instance) (plegd_stream_queue_messages{CHOSEN}))",
            "{{node}} {{instance}}",
        )],
    ),
    panel(
        Lines,
        "Streams opened and closed",
        "short",
        "By reason. overflow and malformed should be 0.",
        &[
            ("sum(increase(plegd_stream_connects_total{CHOSEN}[$__rate_interval]))", "opened"),
            (
                "sum by (reason) (increase(plegd_stream_disconnects_total{CHOSEN}[$__rate_interval]))",
                "{{reason}}",
            ),
        ],
    ),
];
