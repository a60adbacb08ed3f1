//! How plegd is, and what it takes.

use super::{
    Kind::{Figure, Lines, Stacked},
    Panel, panel,
};

pub const HEALTH: &[Panel] = &[
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
        "Alerts: PlegdEventStreamDown where the stream is down or connecting for long, PlegdStreamYielded where it is yielded.",
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
        Lines,
        "Relists that fail in a row",
        "short",
        "On the worst nodes. From 2 on the runtime cannot be listed; the alert is PlegdRelistsFail.",
        &[(
            "topk(5, max by (node, instance) (plegd_relist_consecutive_failures{CHOSEN}))",
            "{{node}} {{instance}}",
        )],
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

pub const PROCESS: &[Panel] = &[
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
