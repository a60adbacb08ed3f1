//! Checks `/metrics` against the rules of Prometheus' own linter.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    clock::Wall,
    model::{
        ContainerState, Event, EventType, Method, Mode, PodIdentity, Source, StreamEventType, Subject,
        Verdict,
    },
};

struct Exposed {
    kind: String,
    help: String,
    samples: Vec<(String, f64)>,
}

fn families(text: &str) -> BTreeMap<String, Exposed> {
    let mut families: BTreeMap<String, Exposed> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            let family = Exposed { kind: String::new(), help: help.into(), samples: Vec::new() };
            assert!(families.insert(name.into(), family).is_none(), "{name} twice");
            last = name.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, last);
            families.get_mut(name).unwrap().kind = kind.into();
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(&last), "{sample} is not of {last}");
            families.get_mut(&last).unwrap().samples.push((sample.into(), value.parse().unwrap()));
        }
    }
    families
}

fn value(metrics: &Metrics, sample: &str) -> Option<f64> {
    let text = metrics.scrape().unwrap();
    families(&text)
        .into_values()
        .flat_map(|family| family.samples)
        .find(|(name, _)| name == sample)
        .map(|(_, v)| v)
}

#[test]
fn every_family_is_exposed_with_help_and_type() {
    let names: Vec<String> = families(&Metrics::new().scrape().unwrap())
        .into_iter()
        .map(|(name, family)| {
            assert!(family.help.ends_with('.'), "help of {name}: {:?}", family.help);
            assert!(!family.samples.is_empty(), "{name} has no sample");
            format!("{name} {}", family.kind)
        })
        .collect();
    assert_eq!(names.join("\n"), include_str!("families.txt").trim_end());
}

#[test]
fn names_follow_the_rules() {
    for (name, family) in families(&Metrics::new().scrape().unwrap()) {
        let counter = family.kind == "counter";
        assert!(name.starts_with("plegd_") || name.starts_with("process_"), "{name} lacks the prefix");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            counter,
            "{name}: all counters, and only counters, end in _total"
        );
        for ending in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(ending), "{name} looks like a part of a histogram");
        }
        for kind in ["counter", "gauge", "histogram", "summary"] {
            assert!(!name.split('_').any(|word| word == kind), "{name} has its type in it");
        }
        for unit in ["milliseconds", "ms", "minutes", "nanoseconds", "kilobytes", "mib", "percent"] {
            assert!(!name.split('_').any(|word| word == unit), "{name} is not in base units");
        }
        let bare = name.trim_end_matches("_total");
        for unit in ["seconds", "bytes"] {
            assert!(!bare.contains(unit) || bare.ends_with(unit), "the unit of {name} is not at its end");
        }
        assert_eq!(bare.contains("timestamp"), bare.ends_with("_timestamp_seconds"), "{name}");
        assert_eq!(name.ends_with("_info"), name == "plegd_build_info");
        for (sample, _) in &family.samples {
            for label in ["pod", "uid", "container_id", "name", "address", "error=", "namespace"] {
                assert!(!sample.contains(&format!("{{{label}")), "{sample} has an unbounded label");
            }
        }
    }
}

#[test]
fn every_label_value_starts_at_0() {
    let text = Metrics::new().scrape().unwrap();
    let families = families(&text);
    let of = |name: &str| families[name].samples.len();
    assert_eq!(of("plegd_transitions_total"), 3 * 5 * 2);
    assert_eq!(of("plegd_observations_total"), 3 * 12);
    assert_eq!(of("plegd_relists_total"), 7 * 2);
    assert_eq!(of("plegd_reads_total"), 8 * 3);
    assert_eq!(of("plegd_cri_requests_total"), 9 * 10);
    assert_eq!(of("plegd_grpc_requests_total"), 14 * 11);
    assert_eq!(of("plegd_containers"), 4);
    for (name, family) in &families {
        let stated = ["plegd_mode", "plegd_stream_state", "plegd_build_info"].contains(&name.as_str());
        if name.starts_with("plegd_") && !stated {
            assert!(family.samples.iter().all(|(_, value)| *value == 0.0), "{name} does not begin at 0");
        }
    }
    assert!(text.contains(r#"plegd_mode{mode="polling"} 1"#));
    assert!(text.contains(r#"plegd_stream_state{state="down"} 1"#));
    // Series per node: their number times the number of nodes is the cost for a fleet's Prometheus.
    let series: usize = families.values().map(|family| family.samples.len()).sum();
    assert!(series < 800, "{series} series");
}

#[test]
fn an_event_counts_for_its_path_and_its_latency() {
    let metrics = Metrics::new();
    let happened = Wall::from_nanos(1_800_000_000_000_000_000);
    let event = Event {
        sequence: 1,
        kind: EventType::ContainerDied,
        subject: Subject::Container,
        pod: PodIdentity { uid: "u".into(), namespace: "n".into(), name: "p".into() },
        id: "c".into(),
        container_name: "app".into(),
        source: Source::Event,
        occurred_at: Some(happened),
        observed_at: Wall::from_nanos(happened.as_nanos() + 3_000_000),
        stamped_at: None,
        labels: Default::default(),
        exit_code: Some(0),
        reason: "Completed".into(),
        initial: false,
        late: false,
        inferred: false,
    };
    (0..4).for_each(|_| metrics.transitions.record(&event));
    for ms in [3, 0] {
        metrics.transitions.detected(Source::Event, std::time::Duration::from_millis(ms));
    }

    let published = r#"plegd_transitions_total{source="event",subject="container",type="ContainerDied"}"#;
    assert_eq!(value(&metrics, published), Some(4.0));
    assert_eq!(value(&metrics, r#"plegd_detection_latency_seconds_count{source="event"}"#), Some(2.0));
    assert_eq!(value(&metrics, r#"plegd_detection_latency_seconds_sum{source="event"}"#), Some(0.003));
    assert_eq!(
        value(&metrics, r#"plegd_detection_latency_seconds_bucket{source="event",le="0.002"}"#),
        Some(1.0)
    );
    assert_eq!(
        value(&metrics, r#"plegd_detection_latency_seconds_bucket{source="event",le="0.005"}"#),
        Some(2.0)
    );
}

#[test]
fn an_empty_state_goes_to_0() {
    let metrics = Metrics::new();
    let running = r#"plegd_containers{state="running"}"#;
    metrics.state.containers.set_each(|state| if state == ContainerState::Running { 7 } else { 0 });
    assert_eq!(value(&metrics, running), Some(7.0));
    metrics.state.containers.set_each(|state| if state == ContainerState::Exited { 7 } else { 0 });
    assert_eq!(value(&metrics, running), Some(0.0));

    metrics.mode.enter(Mode::Evented);
    assert_eq!(value(&metrics, r#"plegd_mode{mode="polling"}"#), Some(0.0));
    assert_eq!(value(&metrics, r#"plegd_mode{mode="evented"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"plegd_mode_changes_total{mode="evented"}"#), Some(1.0));
}

#[test]
fn hooks_run_before_each_scrape() {
    let metrics = Metrics::new();
    metrics.on_scrape(Box::new(|metrics| metrics.journal.subscribers.inc()));
    metrics.on_scrape(Box::new(|metrics| raise_to(&metrics.arbitration.clock_steps, 3)));
    assert_eq!(value(&metrics, "plegd_subscribers"), Some(1.0));
    assert_eq!(value(&metrics, "plegd_subscribers"), Some(2.0));
    assert_eq!(value(&metrics, "plegd_clock_steps_total"), Some(3.0));
}

#[test]
fn a_hanging_relist_is_visible() {
    let metrics = Metrics::new();
    let since = "plegd_relist_in_progress_since_timestamp_seconds";
    let last = "plegd_relist_last_success_timestamp_seconds";
    let at = Wall::from_nanos(1_800_000_000_500_000_000);
    metrics.relists.began(at);
    assert_eq!(value(&metrics, "plegd_relist_in_progress"), Some(1.0));
    assert_eq!(value(&metrics, since), Some(1_800_000_000.5));
    metrics.relists.ended(RelistCause::Period, Outcome::Error, Duration::from_secs(5), at);
    assert_eq!(value(&metrics, since), Some(0.0));
    assert_eq!(value(&metrics, last), Some(0.0));
    metrics.relists.began(at);
    metrics.relists.ended(RelistCause::Retry, Outcome::Ok, Duration::from_secs(5), at);
    assert_eq!(value(&metrics, last), Some(1_800_000_000.5));
    assert_eq!(value(&metrics, r#"plegd_relists_total{cause="retry",result="ok"}"#), Some(1.0));
    assert_eq!(value(&metrics, "plegd_relist_duration_seconds_sum"), Some(10.0));
}

#[test]
fn messages_and_calls_are_counted() {
    let metrics = Metrics::new();
    metrics.stream.received(StreamEventType::Stopped, Wall::from_nanos(1_800_000_000_000_000_000));
    metrics.cri.requests.inc((Method::ListContainers, tonic::Code::Unavailable.into()));
    metrics.cri.duration.observe(Method::ListContainers, Duration::from_millis(20));
    metrics.arbitration.observations.inc((Source::Relist, Verdict::Backward));
    assert_eq!(value(&metrics, r#"plegd_stream_messages_total{type="stopped"}"#), Some(1.0));
    let call = r#"plegd_cri_requests_total{code="Unavailable",method="ListContainers"}"#;
    assert_eq!(value(&metrics, call), Some(1.0));
    let time = r#"plegd_cri_request_duration_seconds_sum{method="ListContainers"}"#;
    assert_eq!(value(&metrics, time), Some(0.02));
    let verdict = r#"plegd_observations_total{source="relist",verdict="backward"}"#;
    assert_eq!(value(&metrics, verdict), Some(1.0));
}

#[test]
fn the_process_metrics_have_values() {
    let metrics = Metrics::new();
    for name in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(value(&metrics, name).is_some_and(|value| value > 0.0), "{name}");
    }
    let before = value(&metrics, "process_cpu_seconds_total").unwrap();
    let after = value(&metrics, "process_cpu_seconds_total").unwrap();
    assert!(before <= after && after < before + 60.0, "{before} then {after}");
    let started = value(&metrics, "process_start_time_seconds").unwrap();
    assert!(started > 1.5e9, "{started}");
}
