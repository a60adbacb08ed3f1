//! The Kubernetes files in `deploy/`, checked with helm, kustomize and Kubernetes' own schemas.
//!
//! Run by `.ci/deploy-tools target/tools`, then `PATH="$PWD/target/tools:$PATH" cargo test --test kubernetes -- --ignored`.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod fleet;

use std::{
    ffi::OsString,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use fleet::manifests::{self, Objects};
use plegd::{
    api::v1,
    client::{Address, Client},
    clock::Clock,
    sim::{Profile, SimRuntime},
};
use serde_json::Value;

const CHART: &str = "deploy/helm/plegd";
/// Versions of Kubernetes whose schemas the objects are checked against.
const KUBERNETES: [&str; 3] = ["1.26", "1.32", "1.37"];

fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    // The tools must not use a cluster or a user's settings.
    command.env("KUBECONFIG", "/dev/null").env("HELM_CONFIG_HOME", "/nonexistent");
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{program} cannot be run: {error}; .ci/deploy-tools installs it"))
}

fn output_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn rendered(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {}:\n{}", arguments.join(" "), output_of(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn helm(settings: &[&str]) -> String {
    rendered("helm", &[&["template", "plegd", CHART, "--namespace", "plegd"], settings].concat())
}

fn kustomize(dir: &str) -> String {
    rendered("kubectl", &["kustomize", &format!("deploy/kubernetes/{dir}")])
}

/// Checks that each version of Kubernetes knows every field. Objects of the Prometheus Operator are not in its schemas.
fn assert_valid(what: &str, objects: &Objects) {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    for object in objects.values().filter(|it| it["apiVersion"] != "monitoring.coreos.com/v1") {
        writeln!(file, "---\n{object}").expect("the file is written");
    }
    for version in KUBERNETES {
        let path = file.path().display().to_string();
        let output = run("kubernetes-validate", &["--strict", "--kubernetes-version", version, &path]);
        assert!(
            output.status.success(),
            "{what} is not valid in Kubernetes {version}:\n{}",
            output_of(&output)
        );
    }
}

#[test]
#[ignore = "needs helm, kubectl and kubernetes-validate: .ci/deploy-tools installs them"]
fn the_chart_and_the_manifests_have_the_same_objects() {
    let operator = ["podMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true"];
    let settings: [(&str, &[&str]); 4] = [
        ("base", &[]),
        ("overlays/crio", &["runtime.socket=/run/crio/crio.sock"]),
        ("overlays/k3s", &["runtime.socket=/run/k3s/containerd/containerd.sock"]),
        ("overlays/prometheus-operator", &operator),
    ];
    for (dir, settings) in settings {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let mut plain = manifests::objects(&kustomize(dir));
        assert!(plain.remove("Namespace plegd").is_some(), "helm creates the namespace itself");
        let chart = manifests::without_helm(manifests::objects(&helm(&settings)));
        assert_eq!(plain.keys().collect::<Vec<_>>(), chart.keys().collect::<Vec<_>>(), "{dir}");
        for (name, object) in &plain {
            assert_eq!(object, &chart[name], "{dir}: {name}");
        }
        assert_valid(dir, &plain);
    }
}

/// The kustomization in `docs/installation.md`, with another path and image digest.
#[test]
#[ignore = "needs kubectl and kubernetes-validate: .ci/deploy-tools installs them"]
fn the_kustomization_in_the_documentation_combines_the_components() {
    let page = fleet::text("docs/installation.md");
    let own =
        page.split("```yaml\n").find(|block| block.contains("kind: Kustomization")).expect("a kustomization");
    let own =
        own.split("```").next().expect("its end").replace("deploy/kubernetes", "../../../deploy/kubernetes");
    let digest = format!("sha256:{}", "cd".repeat(32));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    std::fs::write(dir.path().join("kustomization.yaml"), own.replace("sha256:…", &digest))
        .expect("the file is written");
    let objects = manifests::objects(&rendered("kubectl", &["kustomize", &dir.path().display().to_string()]));
    let pod = &objects["DaemonSet plegd"]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], format!("registry.example/plegd@{digest}"));
    let dirs: Vec<_> =
        pod["volumes"].as_array().expect("volumes").iter().map(|it| &it["hostPath"]["path"]).collect();
    assert_eq!(
        dirs,
        [&Value::from("/run/crio"), &"/run/plegd".into(), &"/var/lib/plegd".into(), &Value::Null]
    );
    assert!(objects.contains_key("PodMonitor plegd") && objects.contains_key("ConfigMap plegd-dashboard"));
    assert_eq!(manifests::excessive_rights(pod), Vec::<String>::new());
    assert_valid("the kustomization of the documentation", &objects);
}

#[test]
#[ignore = "needs kubernetes-validate: .ci/deploy-tools installs it"]
fn the_example_agent_is_valid_and_an_unknown_field_is_rejected() {
    let mut objects = manifests::objects(&fleet::text("deploy/kubernetes/example-agent.yaml"));
    assert_valid("the example", &objects);
    let pod = &mut objects.get_mut("DaemonSet pod-events").expect("a DaemonSet")["spec"]["template"]["spec"];
    pod["automountServiceAccountTokens"] = false.into();
    let misspelled = std::panic::catch_unwind(|| assert_valid("it", &objects));
    assert!(misspelled.is_err(), "an unknown field is accepted");
}

#[test]
#[ignore = "needs helm: .ci/deploy-tools installs it"]
fn the_chart_passes_helms_linter() {
    rendered("helm", &["lint", "--strict", CHART]);
}

#[test]
#[ignore = "needs helm and kubernetes-validate: .ci/deploy-tools installs them"]
fn settings_of_the_chart_reach_the_objects() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let image = ["image.repository=registry.example/plegd".to_owned(), format!("image.digest={digest}")];
    let settings = [
        "runAsUser=65532",
        "supplementalGroups={989}",
        "seLinuxOptions.type=spc_t",
        "networkPolicy.enabled=false",
        "priorityClassName=",
        "socketDirectory=/var/run/pods",
        "podLabels.team=node",
        "imagePullSecrets[0].name=key",
        "prometheusRule.enabled=true",
        "prometheusRule.runbook=https://wiki.example/plegd",
        "podMonitor.enabled=true",
        "podMonitor.labels.release=prometheus",
    ];
    let settings: Vec<&str> =
        settings.into_iter().chain(image.iter().map(String::as_str)).flat_map(|it| ["--set", it]).collect();
    let objects = manifests::objects(&helm(&settings));
    assert_valid("the chart with many settings", &objects);
    assert!(!objects.contains_key("NetworkPolicy plegd"));
    let pod = &objects["DaemonSet plegd"]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], format!("registry.example/plegd@{digest}"));
    assert_eq!(pod["securityContext"]["supplementalGroups"], serde_json::json!([7534, 989]));
    assert_eq!(pod["securityContext"]["seLinuxOptions"]["type"], "spc_t");
    assert_eq!(pod["priorityClassName"], Value::Null);
    assert_eq!(pod["volumes"][1]["hostPath"]["path"], "/var/run/pods");
    assert_eq!(objects["PodMonitor plegd"]["metadata"]["labels"]["release"], "prometheus");
    let rule = objects["PrometheusRule plegd"].to_string();
    assert!(rule.contains("https://wiki.example/plegd#plegddown") && !rule.contains("docs/runbooks.md"));
    assert_eq!(manifests::excessive_rights(pod), Vec::<String>::new());
}

#[test]
#[ignore = "needs helm: .ci/deploy-tools installs it"]
fn an_invalid_setting_is_rejected_with_its_name() {
    for (setting, named) in [
        ("runtme.socket=/x/y", "runtme"),
        ("runtime.socket=unix:///run/containerd/containerd.sock", "socket"),
        ("image.digest=sha256:abc", "digest"),
        ("socketGroup=plegd", "socketGroup"),
        ("maxUnavailable=ten", "maxUnavailable"),
        ("podMonitor.interval=30", "interval"),
        ("resources.limit.cpu=1", "limit"),
        ("networkPolicy.from=null", "from"),
    ] {
        let output = run("helm", &["template", "plegd", CHART, "--set", setting]);
        let text = output_of(&output);
        assert!(!output.status.success() && text.contains(named), "{setting}:\n{text}");
    }
}

/// A process with the rights of a pod's security context: user, groups, no capabilities, no new privileges.
fn as_in_the_pod(pod: &Value, program: &str) -> tokio::process::Command {
    let context = &pod["securityContext"];
    let id = |key: &str| context[key].as_u64().unwrap_or_else(|| panic!("{key} is a number")).to_string();
    let groups = context["supplementalGroups"].as_array().expect("groups").iter().map(Value::to_string);
    let mut command = tokio::process::Command::new("setpriv");
    command.args(["--reuid", &id("runAsUser"), "--regid", &id("runAsGroup")]);
    command.args(["--groups", &groups.collect::<Vec<_>>().join(",")]);
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", program]);
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the program with the rights of both pods, on a runtime whose socket belongs to root.
#[tokio::test]
#[ignore = "needs root: .ci/run is"]
async fn the_rights_in_the_manifests_are_enough_and_those_of_others_are_not() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "run this as root: it starts processes of other users");
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir()?;
    // Other users cannot run a program in a directory of root.
    let program = dir.path().join("plegd").display().to_string();
    std::fs::copy(env!("CARGO_BIN_EXE_plegd"), &program)?;
    let (runtime, socket) = (dir.path().join("runtime.sock"), dir.path().join("served/plegd.sock"));
    let _serving = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1).serve_uds(&runtime)?;
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o660))?;

    let objects = manifests::in_files("deploy/kubernetes/base");
    let pod = &objects["DaemonSet plegd"]["spec"]["template"]["spec"];
    let mut daemon = as_in_the_pod(pod, &program);
    daemon.args(["run", "--config", "/dev/null"]).stdout(Stdio::null()).stderr(Stdio::null());
    for variable in pod["containers"][0]["env"].as_array().context("env")? {
        let name = variable["name"].as_str().context("a name")?;
        let value: OsString = match name {
            "PLEGD_RUNTIME_ENDPOINT" => runtime.clone().into(),
            "PLEGD_HTTP_ADDRESS" => "127.0.0.1:0".into(),
            _ => variable["value"].as_str().unwrap_or("node-1").into(),
        };
        daemon.env(name, value);
    }
    let mut daemon = daemon.env("PLEGD_API_SOCKET", &socket).spawn().context("setpriv, of util-linux")?;
    let client = Client::lazy(&Address::Unix(socket.clone()));
    let ready = async {
        while client.list_pods(v1::Filter::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = ready => {}
        ended = daemon.wait() => anyhow::bail!("plegd ended: {ended:?}"),
        () = tokio::time::sleep(Duration::from_secs(60)) => anyhow::bail!("plegd does not become ready"),
    }
    assert_eq!(std::fs::metadata(&socket)?.gid(), 7534);

    let agent =
        &manifests::objects(&fleet::text("deploy/kubernetes/example-agent.yaml"))["DaemonSet pod-events"];
    let agent = agent["spec"]["template"]["spec"].clone();
    let mut outsider = agent.clone();
    outsider["securityContext"]["supplementalGroups"] = serde_json::json!([7535]);
    for (pod, admitted) in [(agent, true), (outsider, false)] {
        let mut client = as_in_the_pod(&pod, &program);
        client.args(["get", "pods", "--socket"]).arg(&socket);
        let output = client.output().await?;
        assert_eq!(output.status.success(), admitted, "{}", output_of(&output));
    }
    Ok(())
}
