//! Keys of the API apply to existing and to new clients.

use plegd::{
    api::v1,
    client::{CallError, Client, Freshness, PodRef, Since, Update, WaitCondition, Watch, WatchOptions},
    sim::truth::SandboxSpec,
};
use tokio::time::timeout;

use crate::{
    binary::DEADLINE,
    node::{Node, until},
};

/// Matches no client.
const NO_CLIENT: &str = "uid:4000000001";

async fn watching(client: &Client) -> Watch {
    let mut watch = client.watch(WatchOptions { since: Since::Now, ..WatchOptions::named("test") });
    let first = timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
    assert!(matches!(first, Ok(Update::Connected(_))), "{first:?}");
    watch
}

async fn lists(client: &Client) -> Result<(), CallError> {
    client.list_pods(v1::Filter::default()).await.map(drop)
}

async fn introspects(client: &Client) -> Result<(), CallError> {
    client.call(client.introspection().list_subscribers(v1::ListSubscribersRequest {})).await.map(drop)
}

#[track_caller]
fn assert_exhausted<T: std::fmt::Debug>(result: Result<T, CallError>, key: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(key), "{error}");
}

#[tokio::test]
async fn a_client_that_loses_its_right_is_disconnected_and_refused() {
    let node = Node::start("").await;
    let client = node.daemon.client();
    let mut watch = watching(&client).await;
    lists(&client).await.unwrap();
    node.reload(&format!("[api]\nallow_watch = \"{NO_CLIENT}\"\n"), "success").await;
    // Its watch is closed. It reconnects by itself and receives the reason of the refusal.
    let refused = timeout(DEADLINE, async {
        loop {
            match watch.next().await {
                Some(Err(error)) => break error,
                Some(Ok(_)) => {}
                None => panic!("the watch ended without an error"),
            }
        }
    });
    let refused = refused.await.unwrap();
    assert!(matches!(refused, CallError::Denied { .. }), "{refused:?}");
    assert!(matches!(lists(&client).await, Err(CallError::Denied { .. })));
    introspects(&client).await.unwrap();
    node.daemon
        .wait_for_log(&[
            "INFO",
            "A client was disconnected: a configuration change revoked some of its rights",
        ])
        .await
        .unwrap();
    node.reload("", "success").await;
    lists(&client).await.unwrap();
}

#[tokio::test]
async fn introspection_has_its_own_allow_list() {
    let node = Node::start(&format!("[api]\nallow_introspection = \"{NO_CLIENT}\"\n")).await;
    let client = node.daemon.client();
    let mut watch = watching(&client).await;
    assert!(matches!(introspects(&client).await, Err(CallError::Denied { .. })));
    // A client that gains a right has it on its existing connection, and its watch loses nothing.
    node.reload("", "success").await;
    until("introspection is allowed", async || introspects(&client).await.is_ok()).await;
    let pod = SandboxSpec::of_pod("default", "web", "uid-1");
    node.sim.change(|truth| truth.run_sandbox(pod)).unwrap();
    let next = async {
        loop {
            match watch.next().await.unwrap().unwrap() {
                Update::ModeChange(_) | Update::Bookmark(_) => {}
                next => break next,
            }
        }
    };
    let next = timeout(DEADLINE, next).await.unwrap();
    assert!(matches!(next, Update::Event { .. }), "{next:?}");
    assert!(!node.daemon.log_text().contains("revoked some of its rights"));
}

#[tokio::test]
async fn a_lower_subscriber_limit_keeps_existing_subscribers() {
    let node = Node::start("").await;
    let client = node.daemon.client();
    let (_first, _second) = (watching(&client).await, watching(&client).await);
    node.reload("[api]\nsubscribers = 2\n", "success").await;
    let mut third = client.watch(WatchOptions::named("third"));
    let refusals = async || node.metric("plegd_grpc_refused_total{reason=\"subscribers\"}").await;
    let refused = async {
        tokio::select! {
            _ = third.next() => {}
            () = until("the third is refused", async || refusals().await > 0.0) => {}
        }
    };
    refused.await;
    assert!(refusals().await > 0.0);
    assert_eq!(node.daemon.subscribers().await.unwrap().len(), 2);
    node.reload("[api]\nsubscribers = 3\n", "success").await;
    let _third = watching(&client).await;
    assert!(node.daemon.subscribers().await.unwrap().len() >= 3);
}

#[tokio::test]
async fn a_lower_request_limit_applies_to_each_peer() {
    let node = Node::start("").await;
    let client = node.daemon.client();
    let pod = SandboxSpec::of_pod("default", "web", "uid-1");
    node.sim.change(|truth| truth.run_sandbox(pod)).unwrap();
    let pod = PodRef::Uid("uid-1".into());
    // A pod that is not known yet counts as gone.
    until("the pod is known", async || client.get_pod(&pod, Freshness::Held).await.is_ok()).await;
    let waits = node.daemon.client();
    let waiting = tokio::spawn(async move { waits.wait_for(&pod, &WaitCondition::PodGone, DEADLINE).await });
    node.reload("[api]\nrequests_per_peer = 1\n", "success").await;
    until("a second request is refused", async || lists(&client).await.is_err()).await;
    assert_exhausted(
        lists(&client).await,
        "1 requests in flight, which is the limit set by api.requests_per_peer",
    );
    node.reload("[api]\nrequests_per_peer = 2\n", "success").await;
    lists(&client).await.unwrap();
    waiting.abort();
}

#[tokio::test]
async fn a_lower_read_rate_applies() {
    let node = Node::start("[api]\nreads_per_second = 1000\nrequests_per_peer = 1000\n").await;
    let client = node.daemon.client();
    let pod = SandboxSpec::of_pod("default", "web", "uid-1");
    node.sim.change(|truth| truth.run_sandbox(pod)).unwrap();
    let pod = PodRef::Uid("uid-1".into());
    until("the pod is known", async || client.request_read(&pod).await.is_ok()).await;
    let refused = async || {
        let reads = futures::future::join_all((0..50).map(|_| client.request_read(&pod))).await;
        reads.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(refused().await, Vec::<String>::new());
    node.reload("[api]\nreads_per_second = 1\nrequests_per_peer = 1000\n", "success").await;
    let errors = refused().await;
    assert!(errors.iter().any(|error| error.contains("api.reads_per_second")), "{errors:?}");
}
