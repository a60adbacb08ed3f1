//! Kubernetes objects, from the files and from the output of tools.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use super::{path, text, yaml};

/// Objects by kind and name.
pub type Objects = BTreeMap<String, Value>;

/// The rules as an object of the Prometheus Operator.
pub const PROMETHEUS_RULE: &str = "deploy/kubernetes/components/prometheus-operator/prometheusrule.yaml";

/// The chart's copies of files outside of the chart, which helm cannot read, with the expected text.
pub fn copies() -> [(&'static str, String); 2] {
    let rules = text(super::rules::FILE);
    [
        ("deploy/helm/plegd/files/rules.yaml", rules),
        ("deploy/helm/plegd/files/plegd.json", super::dashboard::file()),
    ]
}

/// The text of [`PROMETHEUS_RULE`].
pub fn prometheus_rule() -> String {
    let head = "\
# Generated from deploy/prometheus/rules.yaml by `UPDATE_DEPLOY=1 cargo test --test deploy`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: plegd
  labels:
    app.kubernetes.io/name: plegd
    app.kubernetes.io/instance: plegd
spec:
";
    let rules = text(super::rules::FILE);
    let indented = rules.lines().skip_while(|line| line.starts_with('#')).map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("  {line}\n"),
    });
    format!("{head}{}", indented.collect::<String>())
}

/// The objects of a YAML text.
pub fn objects(text: &str) -> Objects {
    let documents = yaml(text).into_iter().filter(|document| !document.is_null());
    documents
        .map(|object| {
            let part = |value: &Value| {
                value.as_str().unwrap_or_else(|| panic!("no kind or name: {object}")).to_owned()
            };
            (format!("{} {}", part(&object["kind"]), part(&object["metadata"]["name"])), object.clone())
        })
        .collect()
}

/// All objects in the files of a directory, except those that only kustomize reads.
pub fn in_files(dir: &str) -> Objects {
    let files = fs::read_dir(path(dir)).expect("a directory");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
    let mut objects_of_all = Objects::new();
    for name in names.filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml") {
        objects_of_all.extend(objects(&text(&format!("{dir}/{name}"))));
    }
    objects_of_all
}

/// The same objects without helm's own labels.
pub fn without_helm(mut objects: Objects) -> Objects {
    for object in objects.values_mut() {
        let labels = object["metadata"]["labels"].as_object_mut().expect("labels");
        for label in ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"] {
            assert!(labels.remove(label).is_some(), "every object of the chart has {label}");
        }
    }
    objects
}

/// The rights of a pod that exceed those that plegd and its agents need.
pub fn excessive_rights(pod: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |path: &str, found: &Value, expected: Value| {
        if *found != expected {
            wrong.push(format!("{path} is {found}, not {expected}"));
        }
    };
    check("automountServiceAccountToken", &pod["automountServiceAccountToken"], json!(false));
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        check(key, &json!(pod[key].as_bool().unwrap_or_default()), json!(false));
    }
    check("seccompProfile", &pod["securityContext"]["seccompProfile"]["type"], json!("RuntimeDefault"));
    for container in pod["containers"].as_array().expect("containers") {
        let context = &container["securityContext"];
        check("privileged", &context["privileged"], json!(false));
        check("allowPrivilegeEscalation", &context["allowPrivilegeEscalation"], json!(false));
        check("readOnlyRootFilesystem", &context["readOnlyRootFilesystem"], json!(true));
        check("capabilities", &context["capabilities"], json!({ "drop": ["ALL"] }));
        check("a limit of the CPU", &container["resources"]["limits"]["cpu"], Value::Null);
    }
    for volume in pod["volumes"].as_array().expect("volumes") {
        let host = &volume["hostPath"];
        if !host.is_null()
            && !["Directory", "DirectoryOrCreate"].contains(&host["type"].as_str().unwrap_or_default())
        {
            wrong.push(format!("{} is mounted as a file: {host}", volume["name"]));
        }
        if host["path"].as_str().is_some_and(|path| path.ends_with(".sock") || path.matches('/').count() < 2)
        {
            wrong.push(format!("{host} is a socket, or a top-level directory"));
        }
    }
    wrong
}
