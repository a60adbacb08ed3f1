//! `deploy/metrics.md`: every metric, as the program itself describes it.

use std::fmt::Write as _;

use super::families::{Families, Family};

/// A chapter, and how the names begin that belong there. The first that fits has it.
const CHAPTERS: &[(&str, &[&str])] = &[
    ("Health and mode", &["plegd_build_info", "plegd_ready", "plegd_mode", "plegd_fallback", "plegd_config"]),
    ("Both paths", &["plegd_transitions", "plegd_detection", "plegd_path", "plegd_missed"]),
    ("Relists: the generic path", &["plegd_relist"]),
    ("The event stream: the evented path", &["plegd_stream", "plegd_malformed"]),
    (
        "Arbitration and reads",
        &[
            "plegd_observations",
            "plegd_tombstones",
            "plegd_clock",
            "plegd_read",
            "plegd_pods_failing",
            "plegd_unreadable",
            "plegd_contradictions",
        ],
    ),
    ("The node", &["plegd_pods", "plegd_sandboxes", "plegd_containers"]),
    ("Journal and subscribers", &["plegd_journal", "plegd_subscriber"]),
    ("What clients ask", &["plegd_grpc", "plegd_http"]),
    ("What the runtime is asked", &["plegd_cri"]),
    ("The process", &["process_"]),
];

const HEAD: &str = "\
# Metrics

<!-- Made from the program by `UPDATE_DEPLOY=1 cargo test --test deploy`: change it there. -->

Everything that `/metrics` prints, and nothing else. Every child is there from the start, with 0. No id, name or address of a
pod or container is ever a label, so a node has a fixed number of series: SERIES.

*Kubelet* names what to compare with, or what comes nearest.
";

/// The page.
pub fn page(families: &Families, series: usize) -> String {
    let mut page = HEAD.replace("SERIES", &series.to_string());
    for (chapter, _) in CHAPTERS {
        let _ = write!(
            page,
            "\n## {chapter}\n\n| name | type | labels | meaning | kubelet |\n| --- | --- | --- | --- | --- |\n"
        );
        for (name, family) in families.iter().filter(|(name, _)| chapter_of(name) == *chapter) {
            let (meaning, kubelet) = split(&family.help);
            let labels = labels(family);
            let _ = writeln!(page, "| `{name}` | {} | {labels} | {meaning} | {kubelet} |", family.kind);
        }
    }
    page.push_str("\n## Buckets\n\n");
    for (name, family) in families.iter().filter(|(_, family)| !family.buckets.is_empty()) {
        let _ = writeln!(page, "- `{name}`: {}", family.buckets.join(", "));
    }
    page
}

fn chapter_of(name: &str) -> &'static str {
    // `plegd_pods` begins as `plegd_pods_failing_reads` does: the longest beginning decides.
    let fits = CHAPTERS.iter().flat_map(|(chapter, beginnings)| {
        beginnings.iter().filter(|beginning| name.starts_with(**beginning)).map(|it| (it.len(), *chapter))
    });
    fits.max().unwrap_or_else(|| panic!("{name} belongs to no chapter of the reference: add it to one")).1
}

/// What a help text says of plegd, and what of the kubelet.
fn split(help: &str) -> (String, String) {
    let (kubelet, own): (Vec<&str>, Vec<&str>) =
        help.split_inclusive(". ").partition(|sentence| sentence.starts_with("The kubelet's "));
    // "The kubelet's counterpart is kubelet_some_name, which …."
    let kubelet = kubelet.concat();
    let words =
        kubelet.trim().trim_end_matches('.').split(' ').skip_while(|word| !word.starts_with("kubelet_"));
    let word = |word: &str| match word.split_once(',') {
        _ if !word.starts_with("kubelet_") => word.to_owned(),
        Some((name, _)) => format!("`{name}`,"),
        None => format!("`{word}`"),
    };
    (own.concat().trim().to_owned(), words.map(word).collect::<Vec<_>>().join(" "))
}

fn labels(family: &Family) -> String {
    let of = |(label, values): (&String, &std::collections::BTreeSet<String>)| {
        // What a build says of itself is not known here.
        if family.kind == "gauge" && ["version", "revision", "rust_version"].contains(&label.as_str()) {
            return format!("`{label}`");
        }
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        format!("`{label}`: {}", values.join(" "))
    };
    family.labels.iter().map(of).collect::<Vec<_>>().join("<br>")
}
