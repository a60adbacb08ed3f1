//! A plegd embedded in another program: it follows the runtime, reads, serves, and does not affect the process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use plegd::{
    api::{grpc::Grpc, listen::Listening},
    app::{App, Builder},
    client::{Address, CallError, Client, Freshness, PodRef},
    clock::Clock,
    model::EventType,
    model::Mode,
    sim::{
        Profile, SimRuntime,
        truth::{ContainerSpec, SandboxSpec},
    },
    watch::{Request, Update, WatchError},
};
use support::{NOON, link};

const MINUTE: Duration = Duration::from_secs(60);

fn on(sim: &SimRuntime) -> Builder {
    App::builder().link(link(sim)).clock(Clock::simulated(sim.clock().wall()).0)
}

fn sim() -> SimRuntime {
    SimRuntime::new(Profile::CONTAINERD_2_1, Clock::simulated(NOON).0, 1)
}

/// A pod with one running container.
fn run(sim: &SimRuntime) -> (SandboxSpec, String) {
    let pod = SandboxSpec::of_pod("shop", "web", "uid-web");
    let container = ContainerSpec::of_pod(&pod, "web", 0, "nginx");
    let id = sim.change(|truth| {
        let sandbox = truth.run_sandbox(pod.clone()).unwrap();
        let id = truth.create_container(&sandbox, container).unwrap();
        truth.start_container(&id).unwrap();
        id
    });
    (pod, id)
}

#[tokio::test(start_paused = true)]
async fn an_embedding_program_watches_reads_and_waits_for_fresh_state() {
    let sim = sim();
    let (pod, id) = run(&sim);
    let app = on(&sim).relist_every(MINUTE, MINUTE).journal(64, 1 << 20).start().unwrap();
    let request = Request { wait_ready: true, ..Request::default() };
    let mut updates = pin!(app.watch(request).unwrap().into_stream());
    let snapshot: Vec<Update> =
        (updates.by_ref().take(3)).map(|update| update.expect("an update")).collect().await;
    assert!(
        matches!(&snapshot[..], [Update::Hello(_), Update::Pod(pod), Update::SnapshotEnd { pods: 1, .. }]
            if &*pod.identity.name == "web"),
        "{snapshot:?}"
    );

    let (found, of) = app.cache().find(&id[..12]).unwrap();
    assert_eq!((found.as_str(), of.uid.as_str()), (id.as_str(), pod.uid.as_str()));
    assert_eq!(app.cache().list().len(), 1);

    sim.change(|truth| truth.exit(&id, 3).unwrap());
    let fresh = app.fresh().pod(&of.uid, app.clock().now()).await.unwrap().expect("the pod");
    assert_eq!(fresh.container(&id).unwrap().exit_code, Some(3));
    let died = loop {
        if let Update::Event { record, .. } = updates.next().await.unwrap().unwrap()
            && record.kind == EventType::ContainerDied
        {
            break record;
        }
    };
    assert_eq!((died.id.as_str(), died.exit_code), (id.as_str(), Some(3)));

    app.stop().await;
    let last = updates.by_ref().collect::<Vec<_>>().await.pop();
    assert!(matches!(last, Some(Err(WatchError::Ending))), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_stream_an_embedded_plegd_polls() {
    let sim = sim();
    let app = on(&sim).without_stream().start().unwrap();
    tokio::time::sleep(10 * MINUTE).await;
    assert!(app.follower_status().ready);
    assert_eq!(app.follower_status().mode, Mode::Polling);
    assert_eq!(sim.calls().get(&plegd::sim::Method::GetContainerEvents), None);
}

#[tokio::test]
async fn all_invalid_settings_are_reported_together() {
    let second = Duration::from_secs(1);
    let builder =
        App::builder().request_timeout(Duration::ZERO).relist_every(MINUTE, second).journal(1, 1 << 20);
    let error = builder.start().err().expect("an error").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(
        lines[0].starts_with("program: runtime.request_timeout = 0s: it is too small. Allowed: "),
        "{error}"
    );
    assert!(lines[1].starts_with("program: journal.events = 1: it is too small. Allowed: "), "{error}");
    assert!(lines[2].starts_with("program: relist.max_period (1s) is below relist.period (1m)"), "{error}");
}

#[tokio::test]
async fn an_embedded_plegd_serves_the_api_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pods.sock");
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
    let (_, id) = run(&sim);
    let app =
        App::builder().link(link(&sim)).configure(|it| it.api.socket = Some(socket.clone())).start().unwrap();
    let listening = Listening::bind(&app.config().api).await.unwrap();
    let serving = tokio::spawn(Grpc::embedded(&app).serve(listening));

    let client = Client::connect(&Address::Unix(socket)).await.unwrap();
    let pod = async {
        loop {
            match client.get_pod(&PodRef::ContainerId(id[..12].into()), Freshness::Held).await {
                Ok((pod, _)) => break pod,
                Err(CallError::NotReady { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let pod = tokio::time::timeout(MINUTE, pod).await.expect("ready within a minute");
    assert_eq!(pod.identity.unwrap().name, "web");
    app.stop().await;
    tokio::time::timeout(MINUTE, serving).await.expect("the server ends").unwrap();
}
