//! The introspection service over a UNIX socket: subscribers and their disconnection, status, configuration, log level.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use plegd::{
    api::{grpc::Grpc, listen::Listening, v1},
    client::{Address, Client, Since, Update, WatchOptions},
    config::{Config, Filter, InForce, Value as _},
    model::Position,
    sim::Profile,
};
use support::{Harness, pipes::loaded};
use tokio::{task::JoinHandle, time::timeout};
use tonic::Code;

/// Deadline of one step of a test.
const DEADLINE: Duration = Duration::from_secs(60);

/// A plegd with its socket, in real time.
struct Served {
    harness: Harness,
    client: Client,
    address: Address,
    level: Arc<Mutex<Filter>>,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("plegd.sock");
        let mut config = Config::default();
        (config.api.socket, config.journal.events) = (Some(socket.clone()), 77);
        let harness = Harness::new(Profile::CONTAINERD_2_1);
        let listening = Listening::bind(&config.api).await.expect("a socket");
        let level = Arc::new(Mutex::new(Filter::info()));
        let in_force = level.clone();
        let set = Arc::new(move |level: &Filter| Ok(std::mem::replace(&mut *in_force.lock(), level.clone())));
        let server =
            tokio::spawn(Grpc::new(&harness.app, &InForce::new(loaded(config)), set).serve(listening));
        let address = Address::Unix(socket);
        let client = Client::connect(&address).await.expect("a connection");
        Self { harness, client, address, level, server, _dir: dir }
    }

    /// A watch that has received its hello.
    async fn watching(&self, name: &str, filter: v1::Filter) -> plegd::client::Watch {
        let options = WatchOptions { since: Since::Now, filter, ..WatchOptions::named(name) };
        let mut watch = self.client.watch(options);
        let hello = timeout(DEADLINE, watch.next()).await.expect("in time").expect("an update");
        assert!(matches!(hello, Ok(Update::Connected(_))), "{hello:?}");
        watch
    }

    async fn subscribers(&self) -> v1::ListSubscribersResponse {
        let request = v1::ListSubscribersRequest {};
        self.client.call(self.client.introspection().list_subscribers(request)).await.expect("a list")
    }
}

#[tokio::test]
async fn subscribers_are_listed_with_their_peer_filter_and_lag() {
    let mut it = Served::start().await;
    assert_eq!(it.subscribers().await.subscribers.len(), 0);
    let filter =
        v1::Filter { namespaces: vec!["default".into()], containers_only: true, ..Default::default() };
    let mut watch = it.watching("agent", filter).await;
    let second = it.watching("other", v1::Filter::default()).await;
    let pod = it.harness.pod();
    it.harness.create(&pod, "c");
    loop {
        let next =
            timeout(DEADLINE, watch.next()).await.expect("in time").expect("an update").expect("no error");
        if matches!(next, Update::Event { .. }) {
            break;
        }
    }
    let answer = it.subscribers().await;
    let [first, other] = &answer.subscribers[..] else { panic!("two: {answer:?}") };
    assert_eq!((first.client_name.as_str(), other.client_name.as_str()), ("agent", "other"));
    assert_eq!(first.filter, "namespace=default containers-only");
    assert_eq!((first.detail(), first.slow_policy()), (v1::Detail::Event, v1::SlowPolicy::Resync));
    assert!(first.events >= 1 && first.bytes > 0 && first.gaps == 0 && first.id < other.id, "{first:?}");
    let (head, position) = (answer.head.expect("a head"), first.position.expect("a position"));
    assert_eq!((head.epoch, head.sequence - position.sequence), (position.epoch, first.lag));
    let Some(v1::peer::Peer::Process(process)) = first.peer.clone().and_then(|peer| peer.peer) else {
        panic!("a process: {:?}", first.peer)
    };
    assert_eq!(process.pid, Some(std::process::id() as i32));
    assert_eq!(process.uid, rustix::process::geteuid().as_raw());
    // A watch that ends leaves the list.
    drop(second);
    let alone = async { while it.subscribers().await.subscribers.len() > 1 {} };
    timeout(DEADLINE, alone).await.expect("in time");
}

#[tokio::test]
async fn a_gap_after_a_restart_of_plegd_is_not_counted_against_the_subscriber() {
    let it = Served::start().await;
    let foreign = Position { epoch: 1, sequence: 9 };
    let options = WatchOptions { since: Since::After(foreign), ..WatchOptions::named("agent") };
    let mut watch = it.client.watch(options);
    let gap = async {
        loop {
            if let Update::Gap(gap) = watch.next().await.expect("an update").expect("it continues") {
                return gap.reason();
            }
        }
    };
    assert_eq!(timeout(DEADLINE, gap).await.expect("in time"), v1::GapReason::ForeignEpoch);
    let subscribers = it.subscribers().await.subscribers;
    assert_eq!((subscribers[0].gaps, subscribers[0].gaps_of_epoch), (1, 1), "{subscribers:?}");
    let request = v1::GetStatusRequest {};
    let status = it.client.call(it.client.introspection().get_status(request)).await.expect("a status");
    let journal = status.journal.expect("a journal");
    assert_eq!((journal.gaps, journal.gaps_came_late, journal.gaps_of_epoch), (0, 0, 1));
}

#[tokio::test]
async fn a_disconnected_subscriber_is_aborted_and_resumes_without_loss() {
    let mut it = Served::start().await;
    let mut watch = it.watching("agent", v1::Filter::default()).await;
    let request = v1::WatchRequest { start: v1::Start::Now.into(), ..Default::default() };
    let mut raw = it.client.lifecycle().watch(request).await.expect("a watch").into_inner();
    raw.message().await.expect("hello");
    let mut introspection = it.client.introspection();
    for subscriber in it.subscribers().await.subscribers {
        let request = v1::DisconnectSubscriberRequest { id: subscriber.id };
        introspection.disconnect_subscriber(request).await.expect("the subscriber was connected");
        let again = async {
            while introspection.disconnect_subscriber(request).await.is_ok() {}
            introspection.disconnect_subscriber(request).await.expect_err("gone").code()
        };
        assert_eq!(timeout(DEADLINE, again).await.expect("in time"), Code::NotFound);
    }
    let aborted = loop {
        match timeout(DEADLINE, raw.message()).await.expect("in time") {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(aborted.code(), Code::Aborted);
    let pod = it.harness.pod();
    let (mut resumed, mut received) = (false, Vec::new());
    while received.is_empty() {
        match timeout(DEADLINE, watch.next()).await.expect("in time").expect("an update").expect("no error") {
            Update::Resumed { .. } => resumed = true,
            Update::Event { event, .. } => received.push((event.sequence, event.container_id)),
            Update::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
    assert_eq!((resumed, received), (true, vec![(1, pod.sandbox.clone())]));
}

#[tokio::test]
async fn status_configuration_and_log_level_are_available() {
    let it = Served::start().await;
    let _watch = it.watching("agent", v1::Filter::default()).await;
    let mut introspection = it.client.introspection();
    let status = introspection.get_status(v1::GetStatusRequest {}).await.expect("a status").into_inner();
    assert!(status.ready && status.version == plegd::version::VERSION);
    assert_eq!(status.runtime.expect("known").name, "containerd");
    assert_eq!(status.journal.expect("a journal").subscribers, 1);
    let config =
        introspection.get_config(v1::GetConfigRequest {}).await.expect("a configuration").into_inner();
    assert!(config.toml.contains("events = 77"), "{}", config.toml);
    let set = |level: &str| v1::SetLogLevelRequest { level: level.into() };
    let previous =
        introspection.set_log_level(set("debug")).await.expect("a valid level").into_inner().previous;
    assert_eq!((previous.as_str(), it.level.lock().text()), ("info", "debug".into()));
    let refused = introspection.set_log_level(set("loud")).await.expect_err("an invalid level");
    assert_eq!((refused.code(), it.level.lock().text()), (Code::InvalidArgument, "debug".into()));
    it.harness.app.stop().await;
    timeout(DEADLINE, it.server).await.expect("in time").expect("no panic");
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_can_be_disconnected() {
    let mut it = Served::start().await;
    for _ in 0..600 {
        it.harness.pod();
    }
    let served = async {
        while it.harness.app.cache().list().len() < 600 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, served).await.expect("all pods are served in time");
    let frozen = Client::connect(&it.address).await.expect("a connection");
    let request = v1::WatchRequest { wait_ready: true, ..Default::default() };
    // Its snapshot is larger than all buffers on the way.
    let _unread = frozen.lifecycle().watch(request).await.expect("a watch");
    let sent = async {
        let mut before = u64::MAX;
        loop {
            let bytes = it.subscribers().await.subscribers.first().map_or(0, |frozen| frozen.bytes);
            if bytes > 0 && bytes == before {
                return;
            }
            before = bytes;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(DEADLINE, sent).await.expect("the buffers are full in time");
    let subscribers = it.subscribers().await.subscribers;
    assert_eq!(subscribers.len(), 1, "still connected: {subscribers:?}");
    let request = v1::DisconnectSubscriberRequest { id: subscribers[0].id };
    it.client.introspection().disconnect_subscriber(request).await.expect("the subscriber was connected");
    let gone = async { while !it.subscribers().await.subscribers.is_empty() {} };
    timeout(DEADLINE, gone).await.expect("gone in time");
}
