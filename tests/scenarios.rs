//! Runs every scenario file in `tests/scenarios/` in paused time. All its checks must hold.
//!
//! `SCENARIO=oom cargo test --test scenarios every` runs only the files whose name contains `oom`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers are tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lab::runtime_service_client::RuntimeServiceClient;
use plegd::{
    cli::scenario::{Outcome, play, read},
    clock::{Clock, Wall},
    scenario::{Player, Scenario},
};
use tonic::Code;

#[allow(unreachable_pub, clippy::all)]
mod lab {
    include!(concat!(env!("OUT_DIR"), "/lab/runtime.v1.rs"));
}

const NOW: i64 = 1_800_000_000_000_000_000;

fn files() -> Vec<PathBuf> {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".json") && name.contains(&wanted)
    };
    let mut files: Vec<_> = entries.filter(is_wanted).collect();
    files.sort();
    files
}

/// Runs a scenario in its own tokio runtime, in paused time.
fn outcome_of(scenario: Scenario) -> anyhow::Result<Outcome> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    // The same random numbers for each scenario, whichever files are selected.
    fastrand::seed(1);
    runtime.block_on(play(scenario, Duration::ZERO, &mut ()))
}

#[test]
fn every_scenario_holds() {
    let files = files();
    assert!(!files.is_empty(), "no scenario file matches");
    let mut failures = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let outcome = read(path).and_then(|scenario| Ok((scenario.right.clone(), outcome_of(scenario)?)));
        match outcome {
            Ok((_, outcome)) if outcome.failures.is_empty() => {}
            Ok((right, outcome)) => {
                let problems: Vec<String> = outcome.failures.iter().map(ToString::to_string).collect();
                failures.push(format!("{name}: {right}\n    {}", problems.join("\n    ")));
            }
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), files.len(), failures.join("\n"));
}

#[test]
fn every_scenario_has_a_source_a_right_outcome_and_checks() {
    for path in files() {
        let scenario = read(&path).unwrap();
        assert!(!scenario.source.is_empty() && !scenario.right.is_empty(), "{}", path.display());
        assert!(scenario.checks() > 1, "{} has at most one check", path.display());
    }
}

/// A complete history of a pod, followed by these checks.
fn complete_history(checks: &str) -> Scenario {
    let text = format!(
        r#"{{"published": {{"s1": ["Started"], "c1": ["Changed", "Started", "Died 3 Error", "Removed"]}},
        "steps": [
            {{"do": "sandbox", "before": true, "status": {{"id": "s1", "state": "SANDBOX_READY",
                "metadata": {{"name": "web-0", "uid": "00011111-1111-4111-8111-111111111111", "namespace": "shop"}}}}}},
            {{"do": "ready"}},
            {{"do": "container", "sandbox": "s1", "status": {{"id": "c1", "metadata": {{"name": "app"}}}}}},
            {{"do": "event", "type": "CREATED", "id": "c1"}},
            {{"do": "wait", "seconds": 0.3}},
            {{"do": "container", "status": {{"id": "c1", "state": "CONTAINER_RUNNING", "started_at": "now"}}}},
            {{"do": "event", "type": "STARTED", "id": "c1"}},
            {{"do": "wait", "seconds": 0.3}},
            {{"do": "cli", "args": ["wait", "--for", "exited", "shop/web-0", "-c", "app"], "bg": "wait"}},
            {{"do": "container", "status": {{"id": "c1", "state": "CONTAINER_EXITED", "finished_at": "now",
                "exit_code": 3, "reason": "Error"}}}},
            {{"do": "event", "type": "STOPPED", "id": "c1"}},
            {{"do": "collect", "name": "wait", "rc": 0, "has": ["code 3"]}},
            {{"do": "cli", "args": ["get", "containers", "-o", "json"], "has": ["\"exit_code\": 3"], "rc": 0}},
            {{"do": "remove", "id": "c1"}},
            {{"do": "event", "type": "DELETED", "id": "c1"}},
            {{"do": "wait", "seconds": 1}}
            {checks}
        ]}}"#
    );
    Scenario::read(&text).unwrap()
}

#[test]
fn a_complete_history_is_published_and_printed() {
    let outcome = outcome_of(complete_history("")).unwrap();
    assert_eq!(outcome.failures, []);
    assert_eq!(outcome.published.len(), 5);
}

#[test]
fn every_kind_of_check_can_fail() {
    let mut scenario = complete_history(
        r#",{"do": "cli", "args": ["get", "pods"], "has": ["nonsense"], "lacks": ["web-0"], "rc": 1},
            {"do": "cli", "args": ["watch", "--since", "oldest", "-o", "json"], "bg": "events"},
            {"do": "collect", "name": "events", "timeout": 0.2, "has": ["ContainerStarted"], "lacks": ["ContainerDied"]},
            {"do": "cli", "args": ["get", "pod", "--nonsense"], "rc": 0}"#,
    );
    scenario.published.insert("s1".into(), vec!["Started".into(), "Died".into()]);
    scenario.published.insert("c2".into(), vec![]);
    let failures = outcome_of(scenario).unwrap().failures;
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let expected = [
        ("steps[16]", vec!["lacks \"nonsense\"", "has \"web-0\"", "exit code 0, not 1"]),
        ("steps[18]", vec!["has \"ContainerDied\""]),
        ("steps[19]", vec!["exit code 64, not 0", "--nonsense"]),
        ("published.s1", vec![r#"expected ["Started", "Died"], published ["Started"]"#]),
        ("published.c2", vec!["no step is about this id"]),
    ];
    assert_eq!(failures.len(), expected.len(), "{failures:#?}");
    for (failure, (place, problems)) in failures.iter().zip(expected) {
        assert!(failure.starts_with(place), "{failure}");
        for problem in problems {
            assert!(failure.contains(problem), "{failure}\nlacks {problem}");
        }
    }
}

/// A runtime to which these steps were applied.
async fn after(steps: &str) -> (Player, RuntimeServiceClient<tonic::transport::Channel>) {
    let steps: String = steps.replace("{\"do\"", "{\"before\": true, \"do\"");
    let scenario = Scenario::read(&format!(r#"{{"steps": [{steps}]}}"#)).unwrap();
    let mut player = Player::new(scenario, Clock::simulated(Wall::from_nanos(NOW)));
    player.prepare(&mut |_| ()).await;
    let client = RuntimeServiceClient::new(player.runtime().channel());
    (player, client)
}

const POD: &str = r#"
    {"do": "sandbox", "status": {"id": "s", "metadata": {"name": "p", "uid": "u", "namespace": "n", "attempt": 1},
        "network": {"ip": "10.0.0.1", "additional_ips": [{"ip": "fd00::1"}]}, "created_at": "now-60"}},
    {"do": "container", "sandbox": "s", "status": {"id": "c", "metadata": {"name": "app"}, "labels": {"tier": "front"},
        "state": "CONTAINER_RUNNING", "started_at": "now-50", "image": {"image": "busybox"}, "message": "m"}}"#;

async fn container_status(
    client: &mut RuntimeServiceClient<tonic::transport::Channel>,
) -> Result<lab::ContainerStatus, tonic::Status> {
    let request = lab::ContainerStatusRequest { container_id: "c".into(), verbose: false };
    Ok(client.container_status(request).await?.into_inner().status.unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_runtime_answers_with_the_statuses_in_the_file() {
    let change =
        r#",{"do": "container", "status": {"id": "c", "state": "CONTAINER_EXITED", "exit_code": 137}}"#;
    let (_player, mut client) = after(&format!("{POD}{change}")).await;
    let status = container_status(&mut client).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (lab::ContainerState::ContainerExited, 137));
    // Fields that the second step does not name are unchanged.
    assert_eq!((status.started_at, status.message.as_str()), (NOW - 50_000_000_000, "m"));
    assert_eq!((status.image.unwrap().image.as_str(), status.labels["tier"].as_str()), ("busybox", "front"));
    assert_eq!(status.labels["io.kubernetes.container.name"], "app");
    assert_eq!(status.labels["io.kubernetes.pod.uid"], "u");

    let request = lab::PodSandboxStatusRequest { pod_sandbox_id: "s".into(), verbose: false };
    let status = client.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.created_at, status.metadata.unwrap().attempt), (NOW - 60_000_000_000, 1));
    let network = status.network.unwrap();
    assert_eq!((network.ip.as_str(), network.additional_ips[0].ip.as_str()), ("10.0.0.1", "fd00::1"));
    let list = client.list_containers(lab::ListContainersRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.containers.len(), list.containers[0].pod_sandbox_id.as_str()), (1, "s"));
}

#[tokio::test(start_paused = true)]
async fn a_list_can_differ_from_the_statuses_and_agree_again() {
    let listed =
        |listed: &str| format!(r#",{{"do": "container", "status": {{"id": "c"}}, "listed": {listed}}}"#);
    for (steps, items) in [
        (listed("null"), vec![]),
        (listed(r#"{"state": "CONTAINER_EXITED", "pod_sandbox_id": "other"}"#), vec![(2, "other")]),
        (listed("null") + &listed("{}"), vec![(1, "s")]),
        (r#",{"do": "list_twice", "id": "c"}"#.into(), vec![(1, "s"), (1, "s")]),
        (r#",{"do": "short_list", "of": "containers", "after": 0}"#.into(), vec![]),
        (r#",{"do": "remove", "id": "c"}"#.into(), vec![]),
    ] {
        let (_player, mut client) = after(&format!("{POD}{steps}")).await;
        let list = client.list_containers(lab::ListContainersRequest::default()).await.unwrap().into_inner();
        let shown: Vec<_> = list.containers.iter().map(|it| (it.state, &*it.pod_sandbox_id)).collect();
        assert_eq!(shown, items, "{steps}");
        let is_present = container_status(&mut client).await.is_ok();
        assert_eq!(is_present, !steps.contains("remove"), "{steps}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_fail_as_the_file_orders_until_it_withdraws_the_failure() {
    let fail = |rest: &str| format!(r#",{{"do": "fail", "method": "ContainerStatus", {rest}}}"#);
    let id = |rest: &str| fail(&format!(r#""id": "c", {rest}"#));
    for (steps, code) in [
        (fail(r#""code": "UNAVAILABLE""#), Some(Code::Unavailable)),
        (id(r#""code": "NOT_FOUND", "message": "gone""#), Some(Code::NotFound)),
        (id(r#""code": "GARBAGE""#), Some(Code::Internal)),
        (fail(r#""id": "other", "code": "UNAVAILABLE""#), None),
        (id(r#""code": "UNAVAILABLE""#) + &id(r#""code": null"#), None),
        (id(r#""delay": 5"#), None),
    ] {
        let (player, mut client) = after(&format!("{POD}{steps}")).await;
        let before = player.runtime().clock().now();
        let answer = container_status(&mut client).await;
        assert_eq!(answer.err().map(|status| status.code()), code, "{steps}");
        let took = player.runtime().clock().now().since(before);
        assert_eq!(took >= Duration::from_secs(5), steps.contains("delay"), "{steps}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn backlog_and_events_are_sent_as_written() {
    let text = r#"{"backlog": [{"type": "STARTED", "id": "c", "created_at": 5},
        {"raw": {"container_id": "x", "container_event_type": "CONTAINER_DELETED_EVENT", "created_at": 7,
            "pod_sandbox_status": {"id": "y", "labels": {"a": "b"}}, "containers_statuses": [{"id": "z", "exit_code": 9}]}}],
        "steps": [POD]}"#
        .replace("POD", &POD.replace("{\"do\"", "{\"before\": true, \"do\""));
    let mut player = Player::new(Scenario::read(&text).unwrap(), Clock::simulated(Wall::from_nanos(NOW)));
    player.prepare(&mut |_| ()).await;
    let mut client = RuntimeServiceClient::new(player.runtime().channel());
    for _ in 0..2 {
        let mut events = client.get_container_events(lab::GetEventsRequest {}).await.unwrap().into_inner();
        let started = events.message().await.unwrap().unwrap();
        assert_eq!((started.created_at, started.containers_statuses.len()), (5, 1));
        assert_eq!(started.pod_sandbox_status.unwrap().id, "s");
        let raw = events.message().await.unwrap().unwrap();
        assert_eq!((raw.container_id.as_str(), raw.created_at), ("x", 7));
        let sandbox = raw.pod_sandbox_status.unwrap();
        assert_eq!((sandbox.id.as_str(), sandbox.labels.len()), ("y", 1), "no labels but those in the file");
        assert_eq!((raw.containers_statuses[0].id.as_str(), raw.containers_statuses[0].exit_code), ("z", 9));
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_the_machine_can_be_set() {
    let steps = r#"{"do": "clock", "seconds": -3600.5}, {"do": "wait", "seconds": 2}"#;
    let (mut player, _) = after(steps).await;
    let shown = player.runtime().clock().wall().as_nanos() - NOW;
    assert_eq!(shown, -3_598_500_000_000);
    assert_eq!(player.second_clock().wall(), player.runtime().clock().wall());
}

#[tokio::test(start_paused = true)]
async fn a_runtime_can_change_its_version_and_lose_its_cri_service() {
    let (player, mut client) = after(r#"{"do": "runtime", "name": "cri-o", "version": "1.34.1"}"#).await;
    let version = client.version(lab::VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_version.as_str()), ("cri-o", "1.34.1"));
    drop(player);
    let steps = r#"{"do": "has_cri", "value": false}, {"do": "down"}, {"do": "up"}"#;
    let (_player, mut client) = after(steps).await;
    let refused = client.version(lab::VersionRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

fn plegd(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_plegd")).args(arguments).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn written(directory: &Path, text: &str) -> String {
    let path = directory.join("scenario.json");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A scenario with one pod before the start, one after it, and a check of `running` pods.
fn short(running: &str) -> String {
    format!(
        r#"{{"source": "an example", "right": "both run", "events": "unimplemented", "plegd": ["--relist-period", "100ms"],
        "published": {{"s1": ["Started"], "s2": ["Started"]}}, "steps": [
        {{"do": "sandbox", "before": true, "status": {{"id": "s1", "metadata": {{"name": "one", "uid": "u1", "namespace": "n"}}}}}},
        {{"do": "ready"}},
        {{"do": "sandbox", "status": {{"id": "s2", "metadata": {{"name": "two", "uid": "u2", "namespace": "n"}}}}}},
        {{"do": "wait", "seconds": 1}},
        {{"do": "cli", "args": ["get", "pods", "-o", "name"], "has": ["{running}"], "rc": 0}}]}}"#
    )
}

#[test]
fn the_demo_runs_a_file_in_real_time_and_reports_failed_checks() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), &short("n/two"));
    let arguments = ["demo", "--http-address", "off", "--print", "json", "--scenario"];
    let (code, events, log) = plegd(&[&arguments[..], &[&file]].concat());
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(events.matches("ContainerStarted").count(), 2, "{events}");
    for text in
        ["an example", "right: both run", "sandbox {\"status\"", "wait {\"seconds\":1}", "all 5 checks hold"]
    {
        assert!(log.contains(text), "no {text} in:\n{log}");
    }

    let file = written(directory.path(), &short("n/three"));
    let (code, _, log) = plegd(&[&arguments[..], &[&file]].concat());
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("steps[4]") && log.contains("1 of 5 checks failed"), "{log}");
}

#[test]
fn a_replay_prints_the_events_and_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let minutes = short("n/two").replace(r#""seconds": 1"#, r#""seconds": 300"#).replace("100ms", "1s");
    let file = written(directory.path(), &minutes);
    let (code, events, log) = plegd(&["replay", &file, "-o", "json"]);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(events.matches("ContainerStarted").count(), 2, "{events}");
    assert!(log.contains("all 5 checks hold"), "{log}");
    let (_, table, _) = plegd(&["replay", &file, "-o", "table", "--types", "removed"]);
    assert!(table.starts_with("TIME") && table.lines().count() == 1, "{table}");
}

#[test]
fn an_invalid_file_is_reported_with_its_name_and_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), r#"{"steps": [{"do": "wiat", "seconds": 1}]}"#);
    for arguments in [["demo", "--scenario", &file].to_vec(), ["replay", &file].to_vec()] {
        let (code, _, log) = plegd(&arguments);
        assert_eq!(code, Some(1));
        for text in [&*file, "steps[0].do", "did you mean \"wait\"?"] {
            assert!(log.contains(text), "no {text} in:\n{log}");
        }
    }
    let file = written(directory.path(), r#"{"plegd": ["--relist-period", "soon"], "steps": []}"#);
    let (code, _, log) = plegd(&["replay", &file]);
    assert!(code == Some(64) && log.contains("relist"), "{log}");
    let (code, _, log) = plegd(&["replay", "/no/such/file.json"]);
    assert!(code == Some(1) && log.contains("/no/such/file.json"), "{log}");
}
