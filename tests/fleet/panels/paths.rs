//! Both paths side by side, and what the arbiter makes of what they say.

use super::{
    Kind::{Heatmap, Lines, Stacked},
    Panel, panel,
};

pub const PATHS: &[Panel] = &[
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

pub const ARBITRATION: &[Panel] = &[
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
        "Pods that wait for a read, are being read, and of which the last read failed; reads that are due later, and callers who wait for one.",
        &[
            ("sum(plegd_reads_pending{CHOSEN})", "wait"),
            ("sum(plegd_reads_running{CHOSEN})", "run"),
            ("sum(plegd_pods_failing_reads{CHOSEN})", "failed"),
            ("sum(plegd_reads_delayed{CHOSEN})", "due later"),
            ("sum(plegd_reads_awaited{CHOSEN})", "callers who wait"),
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
        "What is remembered, and clock steps",
        "short",
        "Removed containers and sandboxes; transitions that the other path has yet to tell; and steps of the wall clock.",
        &[
            ("sum(plegd_tombstones{CHOSEN})", "tombstones"),
            ("sum(plegd_transitions_uncompared{CHOSEN})", "not compared yet"),
            ("sum(increase(plegd_clock_steps_total{CHOSEN}[$__rate_interval]))", "clock steps"),
        ],
    ),
];
