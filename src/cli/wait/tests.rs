//! The objects and the conditions of a wait, and its output.

use clap::Parser as _;
use tonic::Status;

use super::*;
use crate::{
    cli::{Cli, Command},
    client::mock::{EPOCH, Mock, position},
};

fn container(name: &str, state: v1::ContainerState, exit: Option<i32>) -> v1::Container {
    v1::Container {
        id: "beef00c0ffee".into(),
        sandbox_id: "s".into(),
        name: name.into(),
        state: state.into(),
        exit_code: exit,
        reason: exit.map_or("", |_| "Error").into(),
        ..Default::default()
    }
}

fn web(containers: Vec<v1::Container>) -> v1::Pod {
    let identity = v1::PodIdentity { uid: "uid-1".into(), namespace: "shop".into(), name: "web".into() };
    let sandbox = v1::Sandbox { id: "s".into(), ..Default::default() };
    v1::Pod { identity: Some(identity), sandboxes: vec![sandbox], containers, ..Default::default() }
}

fn node() -> Mock {
    Mock::with(vec![web(vec![container("app", v1::ContainerState::Running, None)])])
}

fn met(pod: Option<v1::Pod>) -> Vec<Result<v1::WaitForResponse, Status>> {
    vec![Ok(v1::WaitForResponse { pod, position: position(EPOCH, 9) })]
}

async fn plegd(mock: &Mock, line: &str) -> String {
    let words = ["plegd", "wait", "--for"].into_iter().chain(line.split(' '));
    let Some(Command::Wait(args)) = Cli::try_parse_from(words).unwrap().command else { panic!() };
    wait(&mock.client(), &args).await.unwrap_or_else(|error| format!("error: {error}"))
}

#[tokio::test(start_paused = true)]
async fn the_reached_state_is_printed() {
    let ended = Some(web(vec![container("app", v1::ContainerState::Exited, Some(3))]));
    for (line, answer, expected) in [
        ("exited shop/web", ended, "shop/web: app has exited with code 3 (Error)"),
        ("running web", Some(web(vec![])), "shop/web: app is running"),
        ("gone web -n shop -c app", None, "shop/web: app is gone"),
        (
            "sandbox-ready uid-1",
            Some(web(vec![])),
            "error: there is no pod \"uid-1\"; to wait for a pod that does not exist yet, specify \
                                           its namespace: default/uid-1",
        ),
        ("sandbox-ready web", Some(web(vec![])), "shop/web: its sandbox is ready"),
        ("ready web", Some(web(vec![])), "shop/web: its sandbox is ready"),
        ("pod-gone shop/web", None, "shop/web: gone"),
        ("pod-gone nobody", None, "nobody: gone"),
    ] {
        assert_eq!(plegd(&node().answering(met(answer)), line).await, expected, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_condition_applies_to_the_name_and_a_removal_applies_to_the_uid() {
    use v1::pod_reference::Pod;
    for (line, by_uid) in [
        ("running shop/web", false),
        ("sandbox-ready web", false),
        ("ready web", false),
        ("exited web", true),
        ("gone web", true),
        ("pod-gone web", true),
        ("running beef", true),
    ] {
        let mock = node().answering(met(None));
        plegd(&mock, line).await;
        let waits = mock.waits();
        let reference = waits[0].pod.clone().unwrap().pod.unwrap();
        assert_eq!(matches!(reference, Pod::Uid(_)), by_uid, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_pod_that_does_not_exist_yet_is_possible() {
    let mock = Mock::default().answering(met(Some(web(vec![]))));
    assert_eq!(plegd(&mock, "running shop/web -c app").await, "shop/web: app is running");
    assert_eq!(mock.waits()[0].container_name, "app");
    assert_eq!(
        plegd(&mock, "running shop/web").await,
        "error: shop/web does not exist yet; specify the container with -c"
    );
}

#[tokio::test(start_paused = true)]
async fn the_error_after_a_timeout_has_the_current_state() {
    assert_eq!(
        plegd(&node(), "exited web --timeout 2m").await,
        "error: shop/web: timed out after 2m: app is running"
    );
    assert_eq!(
        plegd(&node(), "running web -c sidecar --timeout 1s").await,
        "error: shop/web: timed out after 1s: it has no container \"sidecar\""
    );
}

#[tokio::test(start_paused = true)]
async fn of_several_containers_one_must_be_specified() {
    let two = ["app", "db"].map(|name| container(name, v1::ContainerState::Running, None));
    let mock = Mock::with(vec![web(two.into())]);
    assert_eq!(
        plegd(&mock, "exited web").await,
        "error: shop/web has several containers; specify one with -c: app, db"
    );
}
