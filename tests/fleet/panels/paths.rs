//! Panels that compare both paths, and panels about the arbiter.

use super::{
    Kind::{Heatmap, Lines, Stacked},
    Panel, panel,
};

pub const PATHS: &[Panel] = &[
    panel(
        Stacked,
        "First detection",
        "ops",
        "Lifecycle events by the path that detected them first: the event stream, the relist, or a targeted read.",
        &[("sum by (source) (rate(plegd_transitions_total{CHOSEN}[$__rate_interval]))", "{{source}}")],
    ),
    panel(
        Stacked,
        "Detection by path",
        "ops",
        "event_only: changes that polling alone would have missed; relist_only: changes that the stream did not report.",
        &[("sum by (by) (rate(plegd_transitions_seen_total{CHOSEN}[$__rate_interval]))", "{{by}}")],
    ),
    panel(
        Lines,
        "Missed events",
        "ops",
        "Changes that a relist found and that the stream should have reported. See the alerts PlegdEventsMissed and PlegdStreamShared.",
        &[("sum by (type) (rate(plegd_missed_events_total{CHOSEN}[$__rate_interval]))", "{{type}}")],
    ),
    panel(
        Heatmap,
        "Detection latency: events",
        "s",
        "Time from the change, by the runtime's clock, to its detection, if the stream was first.",
        &[(
            r#"sum by (le) (increase(plegd_detection_latency_seconds_bucket{CHOSEN, source="event"}[$__rate_interval]))"#,
            "{{le}}",
        )],
    ),
    panel(
        Heatmap,
        "Detection latency: relists and reads",
        "s",
        "The same if the stream was not first. In polling mode it is spread evenly over one second.",
        &[(
            r#"sum by (le) (increase(plegd_detection_latency_seconds_bucket{CHOSEN, source=~"relist|read"}[$__rate_interval]))"#,
            "{{le}}",
        )],
    ),
    panel(
        Lines,
        "Detection latency",
        "s",
        "Median and 99th percentile by the first path.",
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
        "If both paths detected a change: the lead of the first one, median and 99th percentile.",
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
        "CRI calls per published event. Relists of quiet nodes count too.",
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
        "CRI calls per node in each mode. evented should be far below polling.",
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
        "Time from the loss of the stream to the next complete relist, median and longest bucket.",
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
        "Published events of containers and sandboxes.",
        &[("sum by (type) (rate(plegd_transitions_total{CHOSEN}[$__rate_interval]))", "{{type}}")],
    ),
];

pub const ARBITRATION: &[Panel] = &[
    panel(
        Stacked,
        "Verdicts",
        "ops",
        "Observations of containers and sandboxes by the arbiter's verdict. forward is applied; same changes nothing; stale, \
         dead, old and backward are rejected as too late; undecided causes a read.",
        &[("sum by (verdict) (rate(plegd_observations_total{CHOSEN}[$__rate_interval]))", "{{verdict}}")],
    ),
    panel(
        Lines,
        "Stale observations",
        "ops",
        "By source. A runtime's event timestamps are later than their statuses, so some are normal.",
        &[(
            r#"sum by (source, verdict) (rate(plegd_observations_total{CHOSEN, verdict=~"stale|dead|old|backward"}[$__rate_interval]))"#,
            "{{source}} {{verdict}}",
        )],
    ),
    panel(
        Lines,
        "Reads of single pods",
        "ops",
        "By cause.",
        &[("sum by (cause) (rate(plegd_reads_total{CHOSEN}[$__rate_interval]))", "{{cause}}")],
    ),
    panel(
        Lines,
        "Pending, running and failed reads",
        "short",
        "Pods that wait for a read, that are being read, and whose last read failed; scheduled reads; waiting callers.",
        &[
            ("sum(plegd_reads_pending{CHOSEN})", "pending"),
            ("sum(plegd_reads_running{CHOSEN})", "running"),
            ("sum(plegd_pods_failing_reads{CHOSEN})", "failed"),
            ("sum(plegd_reads_delayed{CHOSEN})", "scheduled"),
            ("sum(plegd_reads_awaited{CHOSEN})", "waiting callers"),
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
        "Remembered removals; transitions that the other path has not reported yet; steps of the wall clock.",
        &[
            ("sum(plegd_tombstones{CHOSEN})", "tombstones"),
            ("sum(plegd_transitions_uncompared{CHOSEN})", "not compared yet"),
            ("sum(increase(plegd_clock_steps_total{CHOSEN}[$__rate_interval]))", "clock steps"),
        ],
    ),
];
