//! The files in `deploy/` match the program. Tests that need other tools are in `prometheus.rs` and `kubernetes.rs`.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod fleet;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

use fleet::{
    dashboard,
    families::{self, Families},
    manifests, promql,
    rules::{self, Rule},
};
use plegd::config::{Config, Inputs, load};
use serde_json::Value;

/// Labels that the scrape adds.
const SCRAPE_LABELS: [&str; 5] = ["job", "instance", "node", "cluster", "le"];

/// `UPDATE_DEPLOY=1 cargo test --test deploy` writes the file.
#[test]
fn the_sample_configuration_has_every_key_with_its_default() {
    let path = "deploy/plegd.toml";
    fleet::assert_current(path, &Config::default().to_toml());
    let loaded = load(&Inputs { file: Some(fleet::path(path)), ..Inputs::default() }).expect("a valid file");
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn the_dashboard_is_generated_from_its_panels() {
    fleet::assert_current(dashboard::FILE, &dashboard::file());
}

#[test]
fn the_dashboard_can_be_imported_by_grafana() {
    let file: Value = serde_json::from_str(&fleet::text(dashboard::FILE)).expect("JSON");
    assert_eq!(
        (&file["uid"], &file["id"], &file["graphTooltip"]),
        (&"plegd".into(), &Value::Null, &1.into())
    );
    let names =
        file["templating"]["list"].as_array().expect("variables").iter().map(|it| it["name"].as_str());
    assert_eq!(names.collect::<Vec<_>>(), [Some("datasource"), Some("cluster"), Some("node")]);
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut taken = BTreeSet::new();
    let mut row = String::new();
    for panel in file["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is used twice");
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a grid position");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{title} overlaps another panel or exceeds the grid");
            }
        }
        if panel["type"] == "row" {
            row = title.into();
            continue;
        }
        assert!(titles.insert((row.clone(), title.to_owned())), "{row}: {title} exists twice");
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{title} has no description");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        for source in std::iter::once(panel).chain(panel["targets"].as_array().expect("targets")) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

/// The recording rules by name.
fn recorded() -> BTreeMap<String, Rule> {
    rules::all()
        .into_iter()
        .filter(|rule| rule.alert.is_none())
        .map(|rule| (rule.name.clone(), rule))
        .collect()
}

/// Checks that the metrics, labels and label values that an expression reads exist.
fn assert_reads_existing(what: &str, expr: &str, families: &Families) {
    let recorded = recorded();
    let reads = promql::reads(expr);
    assert!(!reads.selectors.is_empty(), "{what} reads nothing: {expr}");
    let mut labels: BTreeSet<&str> = SCRAPE_LABELS.into();
    for selector in &reads.selectors {
        let metric = &selector.metric;
        if metric == "up" || recorded.contains_key(metric) {
            // A recorded metric keeps labels of its sources, and its own rule is checked.
            labels.extend(metric.split(':').next().unwrap_or_default().split('_'));
            continue;
        }
        let name = families::family_of(families, metric)
            .unwrap_or_else(|| panic!("{what} reads {metric}, which plegd does not have: {expr}"));
        let family = &families[&name];
        labels.extend(family.labels.keys().map(String::as_str));
        for (label, operator, value) in &selector.matchers {
            if SCRAPE_LABELS.contains(&label.as_str()) {
                continue;
            }
            let values =
                family.labels.get(label).unwrap_or_else(|| panic!("{what}: {metric} has no label {label}"));
            let alternatives =
                if operator.contains('~') { value.split('|').collect() } else { vec![value.as_str()] };
            for value in alternatives {
                assert!(values.contains(value), "{what}: {label} of {metric} is never {value}");
            }
        }
    }
    for label in &reads.grouped_by {
        assert!(
            labels.contains(label.as_str()),
            "{what} groups by {label}, which no metric in it has: {expr}"
        );
    }
}

#[test]
fn rules_and_dashboard_read_only_existing_metrics() {
    let families = families::of_the_program();
    for rule in rules::all() {
        assert_reads_existing(&rule.name, &rule.expr, &families);
    }
    for (panel, expr) in dashboard::expressions() {
        assert_reads_existing(&panel, &dashboard::as_sent(&expr, "5m"), &families);
    }
}

#[test]
#[should_panic(expected = "is never downn")]
fn a_misspelled_label_value_is_found() {
    let families = families::of_the_program();
    assert_reads_existing("it", r#"plegd_stream_state{state=~"up|downn"}"#, &families);
}

#[test]
fn names_of_recorded_metrics_have_the_labels_that_they_keep() {
    for (name, rule) in recorded() {
        let [level, _, _] = name.split(':').collect::<Vec<_>>()[..] else {
            panic!("{name} is not level:metric:operation")
        };
        for label in promql::reads(&rule.expr).grouped_by {
            let joined =
                ["job", "instance"].contains(&label.as_str()) && rule.expr.contains("on (job, instance)");
            let summed = name.contains(":p") && label == "le";
            assert!(
                joined || summed || level.split('_').any(|it| it == label),
                "{name} keeps {label}, which is not in its name"
            );
        }
    }
}

#[test]
fn every_alert_has_a_runbook_section_and_tests() {
    let runbook = fleet::text("docs/runbooks.md");
    let anchors: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_lowercase())
        .collect();
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
        assert_eq!(annotation("runbook_url"), format!("docs/runbooks.md#{}", name.to_lowercase()));
        for verb in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {name} {verb} ")), "{name}: no test in which it {verb}");
        }
    }
    let described: BTreeSet<String> =
        anchors.into_iter().filter(|anchor| anchor.starts_with("plegd")).collect();
    assert_eq!(described, names, "the runbook has a section for each alert, and for no other");
}

#[test]
fn copies_match_their_originals() {
    fleet::assert_current(manifests::PROMETHEUS_RULE, &manifests::prometheus_rule());
    for (copy, original) in manifests::copies() {
        fleet::assert_current(copy, &original);
    }
    let rule = &manifests::objects(&fleet::text(manifests::PROMETHEUS_RULE))["PrometheusRule plegd"];
    assert_eq!(rule["spec"], fleet::yaml(&fleet::text(rules::FILE))[0]);
}

#[test]
fn the_daemon_set_mounts_three_host_directories_and_has_only_the_rights_that_it_needs() {
    let objects = manifests::in_files("deploy/kubernetes/base");
    let kinds = ["ConfigMap", "DaemonSet", "Namespace", "NetworkPolicy", "ServiceAccount"];
    assert_eq!(objects.keys().cloned().collect::<Vec<_>>(), kinds.map(|kind| format!("{kind} plegd")));
    assert_eq!(objects["ServiceAccount plegd"]["automountServiceAccountToken"], false);
    let spec = &objects["DaemonSet plegd"]["spec"];
    let pod = &spec["template"]["spec"];
    assert_eq!(manifests::excessive_rights(pod), Vec::<String>::new());
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], serde_json::json!([{ "operator": "Exists" }]));
    assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux");
    assert_eq!(spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"], "10%");
    let container = &pod["containers"][0];
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    let limit = container["resources"]["limits"]["memory"]
        .as_str()
        .and_then(|it| it.strip_suffix("Mi")?.parse().ok());
    let alert = format!("> {} * 1024 * 1024", limit.map_or(0, |limit: u64| limit * 3 / 4));
    let memory = rules::all().into_iter().find(|rule| rule.name == "PlegdMemoryHigh").expect("a rule");
    assert!(memory.expr.ends_with(&alert), "three quarters of the limit: {}", memory.expr);
    let mounts: Vec<_> =
        container["volumeMounts"].as_array().expect("mounts").iter().map(|it| &it["mountPath"]).collect();
    assert_eq!(mounts, ["/run/containerd", "/run/plegd", "/var/lib/plegd", "/etc/plegd"]);
    let dirs: Vec<_> =
        pod["volumes"].as_array().expect("volumes").iter().map(|it| &it["hostPath"]["path"]).collect();
    let expected = ["/run/containerd", "/run/plegd", "/var/lib/plegd"].map(Value::from);
    assert_eq!(dirs, expected.iter().chain([&Value::Null]).collect::<Vec<_>>());
    assert_eq!(objects["NetworkPolicy plegd"]["spec"]["egress"], serde_json::json!([]));
}

#[test]
fn selectors_match_the_pods_and_their_port() {
    let objects = manifests::in_files("deploy/kubernetes/base");
    let operator = manifests::in_files("deploy/kubernetes/components/prometheus-operator");
    let template = &objects["DaemonSet plegd"]["spec"]["template"];
    let (labels, ports) = (&template["metadata"]["labels"], &template["spec"]["containers"][0]["ports"]);
    let (monitor, policy) = (&operator["PodMonitor plegd"]["spec"], &objects["NetworkPolicy plegd"]["spec"]);
    for selector in
        [&objects["DaemonSet plegd"]["spec"]["selector"], &monitor["selector"], &policy["podSelector"]]
    {
        assert_eq!(&selector["matchLabels"], labels);
    }
    let port = &ports[0]["name"];
    assert_eq!(&monitor["podMetricsEndpoints"][0]["port"], port);
    assert_eq!(&policy["ingress"][0]["ports"][0]["port"], port);
    // The job label that the rules select, and the label that identifies a node.
    assert_eq!(labels[monitor["jobLabel"].as_str().expect("a label")], "plegd");
    let relabeling = &monitor["podMetricsEndpoints"][0]["relabelings"][0];
    assert_eq!(relabeling["targetLabel"], "node");
    assert_eq!(relabeling["sourceLabels"], serde_json::json!(["__meta_kubernetes_pod_node_name"]));
}

#[test]
fn the_example_agent_has_only_the_socket_and_is_not_root() {
    let agent =
        &manifests::objects(&fleet::text("deploy/kubernetes/example-agent.yaml"))["DaemonSet pod-events"];
    let pod = &agent["spec"]["template"]["spec"];
    assert_eq!(manifests::excessive_rights(pod), Vec::<String>::new());
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let [volume] = &pod["volumes"].as_array().expect("volumes")[..] else { panic!("one volume") };
    assert_eq!(volume["hostPath"]["path"], "/run/plegd");
    let plegd = &manifests::in_files("deploy/kubernetes/base")["DaemonSet plegd"]["spec"]["template"]["spec"];
    let groups = |pod: &Value| pod["securityContext"]["supplementalGroups"].clone();
    assert_eq!(groups(pod), groups(plegd), "it is in the group of the socket");
    assert_eq!(pod["containers"][0]["image"], plegd["containers"][0]["image"]);
}

#[test]
fn excessive_rights_of_a_pod_are_found() {
    let agent =
        &manifests::objects(&fleet::text("deploy/kubernetes/example-agent.yaml"))["DaemonSet pod-events"];
    for (path, value) in [
        ("/automountServiceAccountToken", Value::Null),
        ("/hostPID", true.into()),
        ("/securityContext/seccompProfile/type", "Unconfined".into()),
        ("/containers/0/securityContext/privileged", true.into()),
        ("/containers/0/securityContext/readOnlyRootFilesystem", Value::Null),
        (
            "/containers/0/securityContext/capabilities",
            serde_json::json!({ "drop": ["ALL"], "add": ["CHOWN"] }),
        ),
        ("/containers/0/resources/limits/cpu", "1".into()),
        ("/volumes/0/hostPath/type", "Socket".into()),
        ("/volumes/0/hostPath/path", "/run/plegd/plegd.sock".into()),
        ("/volumes/0/hostPath/path", "/run".into()),
    ] {
        let mut pod = agent["spec"]["template"]["spec"].clone();
        let (parent, key) = path.rsplit_once('/').expect("a path");
        pod.pointer_mut(parent).expect("an object")[key] = value;
        assert_eq!(manifests::excessive_rights(&pod).len(), 1, "{path}");
    }
}

/// The environment variables of a container.
fn environment(container: &Value) -> Vec<(OsString, OsString)> {
    let of =
        |it: &Value| Some((it["name"].as_str()?.into(), it["value"].as_str().unwrap_or("node-1").into()));
    container["env"].as_array().expect("env").iter().filter_map(of).collect()
}

#[test]
fn the_configuration_in_the_manifests_is_valid() {
    let objects = manifests::in_files("deploy/kubernetes/base");
    let container = &objects["DaemonSet plegd"]["spec"]["template"]["spec"]["containers"][0];
    let file = tempfile::NamedTempFile::new().expect("a file");
    let toml = objects["ConfigMap plegd"]["data"]["plegd.toml"].as_str().expect("a configuration");
    std::fs::write(file.path(), toml).expect("the file is written");
    let environment = environment(container);
    let inputs = Inputs { file: Some(file.path().into()), environment, ..Inputs::default() };
    let config = load(&inputs).expect("a valid configuration").config;
    assert_eq!(config.api.node_name, "node-1");
    let port = container["ports"][0]["containerPort"].as_u64();
    assert_eq!(config.http.address.map(|address| u64::from(address.port())), port);
    let socket = config.api.socket.expect("a socket");
    assert_eq!(socket.parent(), Some(std::path::Path::new("/run/plegd")));
}

#[test]
fn the_settings_of_the_chart_and_its_schema_are_the_same() {
    fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().map(|it| it.keys().cloned().collect()).unwrap_or_default()
    }
    let [values] = &fleet::yaml(&fleet::text("deploy/helm/plegd/values.yaml"))[..] else {
        panic!("one document")
    };
    let schema: Value =
        serde_json::from_str(&fleet::text("deploy/helm/plegd/values.schema.json")).expect("JSON");
    let mut allowed = keys(&schema["properties"]);
    assert!(allowed.remove("global"), "helm gives every chart global values");
    assert_eq!(keys(values), allowed);
    for (key, value) in values.as_object().expect("values") {
        let schema = &schema["properties"][key];
        if schema["additionalProperties"] == false && key != "resources" {
            assert_eq!(keys(value), keys(&schema["properties"]), "{key}");
        }
    }
}

#[test]
fn versions_in_the_manifests_are_the_programs() {
    let [chart] = &fleet::yaml(&fleet::text("deploy/helm/plegd/Chart.yaml"))[..] else {
        panic!("one document")
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()));
    let plegd = &manifests::in_files("deploy/kubernetes/base")["DaemonSet plegd"]["spec"]["template"]["spec"];
    assert_eq!(plegd["containers"][0]["image"], format!("plegd:{version}"));
}

#[test]
fn the_container_file_copies_existing_files_and_runs_as_nobody() {
    let file = fleet::text("deploy/Containerfile");
    let line = |word: &str| file.lines().filter_map(|line| line.strip_prefix(word)).collect::<Vec<_>>();
    for (source, _) in tree::image_files() {
        assert!(tree::root().join(&source).exists(), "{} is copied, but does not exist", source.display());
    }
    assert_eq!(line("FROM "), ["${BUILDER} AS build", "${BASE}"], "both can be set to a digest");
    assert_eq!(line("USER "), ["65532:65532"]);
    assert_eq!(line("ENTRYPOINT "), [r#"["/plegd"]"#]);
    assert!(
        file.contains("--locked") && file.contains(&format!("ARG VERSION={}", env!("CARGO_PKG_VERSION")))
    );
}
