//! Kubernetes objects, as they are written and as tools render them.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use super::{path, text, yaml};

/// Objects by kind and name.
pub type Objects = BTreeMap<String, Value>;

/// Where the Prometheus Operator's form of the rules is.
pub const PROMETHEUS_RULE: &str = "deploy/kubernetes/components/prometheus-operator/prometheusrule.yaml";

/// Files within the chart, which reads none outside of it, and what is in them.
pub fn copies() -> [(&'static str, String); 2] {
    let rules = text(super::rules::FILE);
    [
        ("deploy/helm/plegd/files/rules.yaml", rules),
        ("deploy/helm/plegd/files/plegd.json", super::dashboard::file()),
    ]
}

/// The rules as the Prometheus Operator takes them.
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

/// All objects that are written in a folder, without what only kustomize reads.
pub fn written(folder: &str) -> Objects {
    let files = fs::read_dir(path(folder)).expect("the folder is there");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
    let mut objects_of_all = Objects::new();
    for name in names.filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml") {
        objects_of_all.extend(objects(&text(&format!("{folder}/{name}"))));
    }
    objects_of_all
}

/// The same objects, without what helm says of itself.
pub fn without_helm(mut objects: Objects) -> Objects {
    for object in objects.values_mut() {
        let labels = object["metadata"]["labels"].as_object_mut().expect("labels");
        for label in ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"] {
            assert!(labels.remove(label).is_some(), "every object of the chart has {label}");
        }
    }
    objects
}

/// What is wrong with a pod that is to have nothing but a folder or two of the host.
pub fn too_much(pod: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ask = |place: &str, found: &Value, wanted: Value| {
        if *found != wanted {
            wrong.push(format!("{place} is {found}, not {wanted}"));
        }
    };
    ask("automountServiceAccountToken", &pod["automountServiceAccountToken"], json!(false));
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        ask(key, &json!(pod[key].as_bool().unwrap_or_default()), json!(false));
    }
    ask("seccompProfile", &pod["securityContext"]["seccompProfile"]["type"], json!("RuntimeDefault"));
    for container in pod["containers"].as_array().expect("containers") {
        let context = &container["securityContext"];
        ask("privileged", &context["privileged"], json!(false));
        ask("allowPrivilegeEscalation", &context["allowPrivilegeEscalation"], json!(false));
        ask("readOnlyRootFilesystem", &context["readOnlyRootFilesystem"], json!(true));
        ask("capabilities", &context["capabilities"], json!({ "drop": ["ALL"] }));
        ask("a limit of the CPU", &container["resources"]["limits"]["cpu"], Value::Null);
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
            wrong.push(format!("{host} is a socket, or far too much"));
        }
    }
    wrong
}
