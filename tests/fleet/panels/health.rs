//! Panels about plegd's health and resources.

use super::{
    Kind::{Figure, Lines, Stacked},
    Panel, panel,
};

pub const HEALTH: &[Panel] = &[
    panel(
        Figure,
        "Nodes",
        "short",
        "Nodes whose plegd Prometheus scrapes.",
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
        "Share of the nodes that receive the runtime's events.",
        &[(r#"sum(plegd_stream_state{CHOSEN, state=~"up|unconfirmed"}) / count(plegd_ready{CHOSEN})"#, "")],
    ),
    panel(
        Figure,
        "Oldest relist",
        "s",
        "Maximum age of the last relist over all nodes. It should be little more than a minute.",
        &[("max(time() - plegd_relist_last_success_timestamp_seconds{CHOSEN})", "")],
    ),
    panel(Figure, "Pods", "short", "Pods in the cache.", &[("sum(plegd_pods{CHOSEN})", "")]),
    panel(
        Figure,
        "Running containers",
        "short",
        "Running containers.",
        &[(r#"sum(plegd_containers{CHOSEN, state="running"})"#, "")],
    ),
    panel(
        Stacked,
        "Nodes by mode",
        "short",
        "evented: events are trusted, with one relist per minute. probing: events arrive but are not trusted yet. \
         polling: no events, with one relist per second.",
        &[("sum by (mode) (plegd_mode{CHOSEN})", "{{mode}}")],
    ),
    panel(
        Stacked,
        "Nodes by state of the stream",
        "short",
        "Alerts: PlegdEventStreamDown if the stream is down or connecting for 5 min, PlegdStreamYielded if it is yielded.",
        &[("sum by (state) (plegd_stream_state{CHOSEN})", "{{state}}")],
    ),
    panel(
        Stacked,
        "Nodes by version",
        "short",
        "Running versions of plegd, e.g. during an upgrade.",
        &[("count by (version, revision) (plegd_build_info{CHOSEN})", "{{version}} {{revision}}")],
    ),
    panel(
        Lines,
        "Changes of mode",
        "short",
        "Each change to polling or probing means a lost stream or a missed event.",
        &[("sum by (mode) (increase(plegd_mode_changes_total{CHOSEN}[$__rate_interval]))", "to {{mode}}")],
    ),
    panel(
        Lines,
        "Consecutive failed relists",
        "short",
        "On the worst nodes. From 2 on the alert PlegdRelistsFail fires.",
        &[(
            "topk(5, max by (node, instance) (plegd_relist_consecutive_failures{CHOSEN}))",
            "{{node}} {{instance}}",
        )],
    ),
    panel(
        Stacked,
        "Pods by state",
        "short",
        "Pods by the state of their newest sandbox.",
        &[("sum by (state) (plegd_pods{CHOSEN})", "{{state}}")],
    ),
    panel(
        Lines,
        "Configuration reloads",
        "short",
        "Reloads by result; nodes with an invalid file, on which the previous one stays in effect; keys that need a restart.",
        &[
            (
                "sum by (result) (increase(plegd_config_reloads_total{CHOSEN}[$__rate_interval]))",
                "{{result}}",
            ),
            ("sum(plegd_config_last_reload_successful{CHOSEN} == bool 0)", "nodes with an invalid file"),
            ("sum(plegd_config_keys_awaiting_restart{CHOSEN})", "keys that need a restart"),
        ],
    ),
];

pub const PROCESS: &[Panel] = &[
    panel(
        Lines,
        "CPU",
        "percentunit",
        "Of one core: maximum over the nodes, and average.",
        &[
            (r#"max(rate(process_cpu_seconds_total{job="plegd", CHOSEN}[$__rate_interval]))"#, "maximum"),
            (r#"avg(rate(process_cpu_seconds_total{job="plegd", CHOSEN}[$__rate_interval]))"#, "average"),
        ],
    ),
    panel(
        Lines,
        "Resident memory",
        "bytes",
        "Maximum over the nodes, and average. A full journal takes journal.bytes.",
        &[
            (r#"max(process_resident_memory_bytes{job="plegd", CHOSEN})"#, "maximum"),
            (r#"avg(process_resident_memory_bytes{job="plegd", CHOSEN})"#, "average"),
        ],
    ),
    panel(
        Lines,
        "File descriptors and threads",
        "short",
        "Maximum over the nodes.",
        &[
            (r#"max(process_open_fds{job="plegd", CHOSEN})"#, "descriptors"),
            (r#"max(process_threads{job="plegd", CHOSEN})"#, "threads"),
        ],
    ),
    panel(
        Lines,
        "Youngest process",
        "s",
        "Uptime of the plegd that started last. It falls to 0 at a restart.",
        &[(r#"min(time() - process_start_time_seconds{job="plegd", CHOSEN})"#, "youngest")],
    ),
];
