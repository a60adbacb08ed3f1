//! What lies in `deploy/` says what the program says. What needs a tool beside this is in `prometheus.rs` and `kubernetes.rs`.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod fleet;

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    dashboard,
    families::{self, Families},
    promql, reference,
    rules::{self, Rule},
};
use plegd::config::{Config, Inputs, load};
use serde_json::Value;

/// Labels that the scrape and not plegd gives.
const OF_THE_SCRAPE: [&str; 5] = ["job", "instance", "node", "cluster", "le"];

/// Made by `UPDATE_DEPLOY=1 cargo test --test deploy`.
#[test]
fn the_sample_configuration_has_every_key_with_its_default() {
    let path = "deploy/plegd.toml";
    fleet::assert_held(path, &Config::default().to_toml());
    let loaded = load(&Inputs { file: Some(fleet::path(path)), ..Inputs::default() }).expect("it loads");
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn the_metrics_reference_says_what_the_program_counts() {
    let text = plegd::metrics::Metrics::new().scrape().expect("metrics");
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    fleet::assert_held("deploy/metrics.md", &reference::page(&families::parse(&text), series));
}

#[test]
fn the_dashboard_is_made_of_its_panels() {
    fleet::assert_held(dashboard::FILE, &dashboard::file());
}

#[test]
fn the_dashboard_is_one_that_grafana_takes_as_it_is() {
    let file: Value = serde_json::from_str(&fleet::text(dashboard::FILE)).expect("JSON");
    assert_eq!((&file["uid"], &file["id"], &file["graphTooltip"]), (&"plegd".into(), &Value::Null, &1.into()));
    let names = file["templating"]["list"].as_array().expect("variables").iter().map(|it| it["name"].as_str());
    assert_eq!(names.collect::<Vec<_>>(), [Some("datasource"), Some("cluster"), Some("node")]);
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut taken = BTreeSet::new();
    let mut row = String::new();
    for panel in file["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is taken");
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{title} lies on another panel or beside the grid");
            }
        }
        if panel["type"] == "row" {
            row = title.into();
            continue;
        }
        assert!(titles.insert((row.clone(), title.to_owned())), "{row}: {title} twice");
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{title} does not say what it shows");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        for source in std::iter::once(panel).chain(panel["targets"].as_array().expect("targets")) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

/// What is recorded, by name, with the labels that are kept.
fn recorded() -> BTreeMap<String, Rule> {
    rules::all().into_iter().filter(|rule| rule.alert.is_none()).map(|rule| (rule.name.clone(), rule)).collect()
}

/// Asks that all that an expression reads is there: metrics, labels, values of labels.
fn assert_reads_what_is_there(what: &str, expr: &str, families: &Families) {
    let recorded = recorded();
    let reads = promql::reads(expr);
    assert!(!reads.selectors.is_empty(), "{what} reads nothing: {expr}");
    let mut labels: BTreeSet<&str> = OF_THE_SCRAPE.into();
    for selector in &reads.selectors {
        let metric = &selector.metric;
        if metric == "up" || recorded.contains_key(metric) {
            // What is recorded keeps labels of what it is made of, and these are checked there.
            labels.extend(metric.split(':').next().unwrap_or_default().split('_'));
            continue;
        }
        let name = families::family_of(families, metric)
            .unwrap_or_else(|| panic!("{what} reads {metric}, which plegd does not count: {expr}"));
        let family = &families[&name];
        labels.extend(family.labels.keys().map(String::as_str));
        for (label, operator, value) in &selector.matchers {
            if OF_THE_SCRAPE.contains(&label.as_str()) {
                continue;
            }
            let values = family.labels.get(label).unwrap_or_else(|| panic!("{what}: {metric} has no label {label}"));
            let alternatives = if operator.contains('~') { value.split('|').collect() } else { vec![value.as_str()] };
            for value in alternatives {
                assert!(values.contains(value), "{what}: {label} of {metric} is never {value}");
            }
        }
    }
    for label in &reads.grouped_by {
        assert!(labels.contains(label.as_str()), "{what} groups by {label}, which nothing has: {expr}");
    }
}

#[test]
fn rules_and_dashboard_read_only_what_is_counted() {
    let families = families::of_the_program();
    for rule in rules::all() {
        assert_reads_what_is_there(&rule.name, &rule.expr, &families);
    }
    for (panel, expr) in dashboard::expressions() {
        assert_reads_what_is_there(&panel, &dashboard::as_sent(&expr, "5m"), &families);
    }
}

#[test]
#[should_panic(expected = "is never downn")]
fn a_label_that_is_misspelt_is_found() {
    let families = families::of_the_program();
    assert_reads_what_is_there("it", r#"plegd_stream_state{state=~"up|downn"}"#, &families);
}

#[test]
fn recorded_names_say_what_they_keep() {
    for (name, rule) in recorded() {
        let [level, _, _] = name.split(':').collect::<Vec<_>>()[..] else { panic!("{name} is not level:metric:operation") };
        for label in promql::reads(&rule.expr).grouped_by {
            let joined = ["job", "instance"].contains(&label.as_str()) && rule.expr.contains("on (job, instance)");
            let summed = name.contains(":p") && label == "le";
            assert!(joined || summed || level.split('_').any(|it| it == label), "{name} keeps {label} and does not say so");
        }
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_tried() {
    let runbook = fleet::text("deploy/README.md");
    let anchors: BTreeSet<String> =
        runbook.lines().filter_map(|line| line.strip_prefix("### ")).map(|title| title.to_lowercase()).collect();
    let tests = fleet::text("deploy/prometheus/rules_test.yaml");
    let mut names = BTreeSet::new();
    for (rule, alert) in rules::alerts() {
        let name = &rule.name;
        assert!(name.starts_with("Plegd") && names.insert(name.to_lowercase()), "{name}");
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{name} is {severity:?}");
        let annotation = |key: &str| alert["annotations"][key].as_str().unwrap_or_default().to_owned();
        for key in ["summary", "description"] {
            assert!(annotation(key).ends_with('.'), "{name} has no {key}");
        }
        assert_eq!(annotation("runbook_url"), format!("deploy/README.md#{}", name.to_lowercase()));
        for verb in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {name} {verb} ")), "{name}: no test in which it {verb}");
        }
    }
    let told: BTreeSet<String> = anchors.into_iter().filter(|anchor| anchor.starts_with("plegd")).collect();
    assert_eq!(told, names, "the runbook has a section for each alert, and for no other");
}
