use std::time::Duration;

use super::*;
use crate::{
    clock::Wall,
    cri::{ListedContainer, ListedSandbox, Listing},
    model::{ContainerState, Labels, PodIdentity, SandboxState},
    scenario::Scenario,
};

fn at(millis: u64) -> Mono {
    Mono::ZERO + Duration::from_secs(1000) + Duration::from_millis(millis)
}

fn sandbox(id: &str) -> SandboxStatus {
    SandboxStatus {
        id: id.into(),
        pod: PodIdentity { uid: "uid".into(), namespace: "shop".into(), name: "web-0".into() },
        attempt: 0,
        state: SandboxState::Ready,
        created_at: Some(Wall::from_nanos(1_800_000_000_000_000_000)),
        ips: vec!["192.168.0.7".into()],
        labels: [("io.kubernetes.pod.name", "web-0"), ("tier", "secret")].into_iter().collect(),
        annotations: [("password", "secret")].into_iter().collect(),
        runtime_handler: String::new(),
    }
}

fn container(id: &str, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        id: id.into(),
        sandbox_id: "s".into(),
        name: "app".into(),
        attempt: 0,
        state,
        created_at: Some(Wall::from_nanos(1_800_000_000_000_000_000)),
        started_at: None,
        finished_at: None,
        exit_code: (state == ContainerState::Exited).then_some(3),
        reason: String::new(),
        message: "the password is secret".into(),
        image: "registry.example.org/secret".into(),
        image_ref: "registry.example.org/secret@sha256:0".into(),
        labels: Labels::default(),
        annotations: [("password", "secret")].into_iter().collect(),
    }
}

fn listing(containers: &[(&str, ContainerState)]) -> Listing {
    let sandbox = ListedSandbox {
        id: "s".into(),
        pod_uid: "uid".into(),
        namespace: "shop".into(),
        pod_name: "web-0".into(),
        attempt: 0,
        state: SandboxState::Ready,
        created_at: 1_800_000_000_000_000_000,
    };
    let listed = |(id, state): &(&str, ContainerState)| ListedContainer {
        id: (*id).into(),
        sandbox_id: "s".into(),
        name: "app".into(),
        attempt: 0,
        state: *state,
        created_at: 1_800_000_000_000_000_000,
    };
    Listing { sandboxes: vec![sandbox], containers: containers.iter().map(listed).collect() }
}

/// A tape with a sandbox and a running container.
fn tape(keep_names: bool) -> Tape {
    let mut tape = Tape::new(keep_names, at(0));
    let status = tape.sandbox(&sandbox("s"));
    tape.apply(status, By::Read(at(0)), at(0));
    let status = tape.container(&container("c", ContainerState::Running));
    tape.apply(status, By::Read(at(0)), at(0));
    tape.start(at(10));
    tape
}

fn event(kind: StreamEventType, received: Mono, containers: Vec<ContainerStatus>) -> Event {
    let created_at = Wall::from_nanos(1_800_000_001_000_000_000);
    Event {
        id: "c".into(),
        kind,
        created_at,
        sent: received,
        received,
        sandbox: Some(sandbox("s")),
        containers,
    }
}

/// The steps after plegd's start: names and changed fields.
fn steps(tape: &Tape) -> Vec<String> {
    let started = tape.steps().iter().position(|step| step.contains(r#""do":"ready""#)).unwrap();
    let step = |line: &String| {
        let step: Value = serde_json::from_str(line).unwrap();
        let what = ["/status/state", "/listed/state", "/code", "/seconds"];
        let what = what.iter().find_map(|pointer| step.pointer(pointer)).cloned().unwrap_or_default();
        format!("{} {what}", step["do"].as_str().unwrap())
    };
    tape.steps()[started + 1..].iter().map(step).collect()
}

#[test]
fn recorded_steps_can_be_parsed_and_contain_no_names() {
    let mut tape = tape(false);
    let exited = container("c", ContainerState::Exited);
    tape.event(event(StreamEventType::Stopped, at(500), vec![exited]), Effect::All);
    let steps = tape.steps().join(",");
    Scenario::read(&format!(r#"{{"steps": [{steps}]}}"#)).unwrap();
    for secret in ["secret", "web-0", "shop", "192.168", "password", "example", "annotations"] {
        assert!(!steps.contains(secret), "{secret} is in {steps}");
    }
    assert!(steps.contains(r#""tier":"value-1""#), "label keys stay: {steps}");
}

#[test]
fn an_event_changes_the_state_before_it_is_sent() {
    let mut tape = tape(true);
    tape.event(
        event(StreamEventType::Stopped, at(500), vec![container("c", ContainerState::Exited)]),
        Effect::All,
    );
    assert_eq!(steps(&tape), ["wait 0.49", r#"container "CONTAINER_EXITED""#, "event null"]);
    tape.event(event(StreamEventType::Deleted, at(600), vec![]), Effect::All);
    assert_eq!(steps(&tape)[3..], ["wait 0.1", "remove null", "event null"]);
}

#[test]
fn an_event_from_before_the_recording_is_sent_and_changes_nothing() {
    let mut tape = tape(true);
    tape.event(event(StreamEventType::Deleted, at(500), vec![]), Effect::Nothing);
    assert_eq!(steps(&tape), ["wait 0.49", "event null"]);
}

#[test]
fn a_list_and_a_read_that_may_be_older_than_an_event_change_nothing() {
    let mut tape = tape(true);
    tape.event(
        event(StreamEventType::Stopped, at(500), vec![container("c", ContainerState::Exited)]),
        Effect::All,
    );
    let before = steps(&tape).len();
    tape.list(&listing(&[]), at(400), at(700));
    let status = tape.container(&container("c", ContainerState::Running));
    tape.apply(status, By::Read(at(400)), at(700));
    assert_eq!(steps(&tape).len(), before, "{:?}", steps(&tape));
    // A read that began afterwards shows that the state went back.
    let status = tape.container(&container("c", ContainerState::Running));
    tape.apply(status, By::Read(at(800)), at(900));
    assert_eq!(steps(&tape)[before..], ["wait 0.4", r#"container "CONTAINER_RUNNING""#]);
    tape.list(&listing(&[]), at(1000), at(1000));
    assert_eq!(steps(&tape).last().unwrap(), "remove null");
}

#[test]
fn a_late_event_does_not_undo_a_later_read() {
    let mut tape = tape(true);
    let mut changed = container("c", ContainerState::Running);
    changed.reason = "OOMKilled".into();
    let status = tape.container(&changed);
    tape.apply(status, By::Read(at(1000)), at(1000));
    let before = steps(&tape).len();
    let late = event(StreamEventType::Started, at(2000), vec![container("c", ContainerState::Running)]);
    tape.event(Event { sent: at(500), ..late.clone() }, Effect::All);
    assert_eq!(steps(&tape)[before..], ["wait 1.0", "event null"]);
    tape.event(late, Effect::All);
    assert_eq!(steps(&tape)[before + 2..], ["container null", "event null"], "this one is newer");
}

#[test]
fn a_removed_id_comes_back_only_by_a_later_read() {
    let mut tape = tape(true);
    tape.list(&listing(&[]), at(500), at(600));
    let gone = steps(&tape).len();
    let status = tape.container(&container("c", ContainerState::Exited));
    tape.apply(status.clone(), By::Read(at(550)), at(700));
    tape.apply(status.clone(), By::Event(at(700)), at(700));
    assert_eq!(steps(&tape).len(), gone);
    tape.apply(status, By::Read(at(800)), at(900));
    assert_eq!(steps(&tape).last().unwrap(), r#"container "CONTAINER_EXITED""#);
}

#[test]
fn a_contradiction_is_recorded_at_the_second_poll_and_at_its_end() {
    let mut tape = tape(true);
    let listed = listing(&[("c", ContainerState::Exited)]);
    tape.compare(&listed, at(1000));
    assert!(steps(&tape).is_empty(), "the list may be newer than the status");
    tape.compare(&listed, at(2000));
    tape.compare(&listed, at(3000));
    assert_eq!(steps(&tape), ["wait 1.99", r#"container "CONTAINER_EXITED""#]);
    tape.compare(&listing(&[("c", ContainerState::Running)]), at(4000));
    assert_eq!(steps(&tape)[2..], ["wait 2.0", "container null"]);

    let item = ListedItem::Container(&listed.containers[0]);
    tape.status_failed(&item, "NOT_FOUND", at(5000), at(5000));
    assert_eq!(steps(&tape).len(), 4, "it may be gone by now");
    tape.status_failed(&item, "NOT_FOUND", at(6000), at(6000));
    tape.status_failed(&item, "NOT_FOUND", at(7000), at(7000));
    assert_eq!(steps(&tape)[4..], ["wait 2.0", r#"fail "NOT_FOUND""#]);
    tape.status_read("c", at(8000));
    assert_eq!(steps(&tape)[6..], ["wait 2.0", "fail null"]);
}

#[test]
fn a_status_that_was_never_read_is_taken_from_the_list() {
    let mut tape = tape(true);
    let listed = listing(&[("d", ContainerState::Running)]);
    let item = ListedItem::Container(&listed.containers[0]);
    tape.status_failed(&item, "UNKNOWN", at(1000), at(1000));
    tape.status_failed(&item, "UNKNOWN", at(2000), at(2000));
    assert_eq!(
        steps(&tape),
        ["wait 0.99", r#"container "CONTAINER_RUNNING""#, "wait 1.0", r#"fail "UNKNOWN""#]
    );
}

#[test]
fn a_poll_reads_differing_ids_and_the_least_recently_read_others() {
    let mut tape = tape(true);
    let status = tape.container(&container("d", ContainerState::Running));
    tape.apply(status, By::Read(at(100)), at(100));
    let ids = |tape: &Tape, listed: &Listing, others| {
        let targets = tape.to_read(listed, at(0), others);
        targets.into_iter().map(|(id, ..)| id).collect::<Vec<_>>()
    };
    let same = listing(&[("c", ContainerState::Running), ("d", ContainerState::Running)]);
    assert!(ids(&tape, &same, 0).is_empty());
    assert_eq!(ids(&tape, &same, 2), ["s", "c"]);
    let other = listing(&[
        ("c", ContainerState::Running),
        ("d", ContainerState::Exited),
        ("e", ContainerState::Running),
    ]);
    assert_eq!(ids(&tape, &other, 0), ["d", "e"]);
    tape.event(
        event(StreamEventType::Stopped, at(500), vec![container("c", ContainerState::Exited)]),
        Effect::All,
    );
    let now = listing(&[("c", ContainerState::Exited), ("d", ContainerState::Running)]);
    assert_eq!(ids(&tape, &now, 0), ["s", "c"], "an object with a new event may change again");
}

#[test]
fn an_id_that_is_listed_twice_is_recorded_once() {
    let mut tape = tape(true);
    let twice = listing(&[("c", ContainerState::Running), ("c", ContainerState::Running)]);
    for n in 1..4 {
        tape.list(&twice, at(1000 * n), at(1000 * n));
    }
    assert_eq!(steps(&tape), ["wait 0.99", "list_twice null"]);
}
