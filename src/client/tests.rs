//! Tests of a watch whose plegd disconnects, restarts and loses its history; and of error messages.

use std::time::Duration;

use tonic::Status;

use super::{
    mock::{EPOCH, Mock, Step, bookmark, event, gap, hello, pod, snapshot_end},
    *,
};

const LATER: u64 = 0xdef;

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

/// An update as a short text.
fn word(update: &Result<Update, CallError>) -> String {
    match update {
        Ok(Update::Connected(_)) => "connected".into(),
        Ok(Update::Resumed { after, .. }) => format!("resumed {after}"),
        Ok(Update::Pod(pod)) => format!("pod {}", pod.identity.clone().unwrap_or_default().name),
        Ok(Update::SnapshotEnd { position, pods }) => format!("snapshot {position} of {pods}"),
        Ok(Update::Event { position, .. }) => format!("event {position}"),
        Ok(Update::Bookmark(position)) => format!("bookmark {position}"),
        Ok(Update::Gap(gap)) => format!("gap {:?} {}..{:?}", gap.reason(), gap.from, gap.to),
        Ok(Update::ModeChange(_)) => "mode".into(),
        Ok(Update::Restarted(restart)) => format!("restarted, blind {}", restart.blind),
        Ok(Update::Reconnecting { .. }) => "reconnecting".into(),
        Err(error) => format!("error {error}"),
    }
}

/// The first `length` updates of a watch, or all until it ends.
async fn updates(mock: &Mock, options: WatchOptions, length: usize) -> Vec<String> {
    let mut watch = mock.client().watch(options);
    let mut words = Vec::new();
    while words.len() < length {
        let next = tokio::time::timeout(Duration::from_secs(600), watch.next());
        match next.await.unwrap_or_else(|_| panic!("nothing more after {words:?}")) {
            Some(update) => words.push(word(&update)),
            None => break,
        }
    }
    words
}

fn since(since: Since) -> WatchOptions {
    WatchOptions { since, ..WatchOptions::named("test") }
}

/// The request of each connection: its start and its position.
fn requested(mock: &Mock) -> Vec<(v1::Start, Option<Position>)> {
    mock.watches().iter().map(|request| (request.start(), request.after.map(Position::from))).collect()
}

macro_rules! words {
    ($($word:literal),* $(,)?) => { vec![$(String::from($word)),*] };
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_connection_no_event_is_lost_or_delivered_twice() {
    let mock = Mock::watched([
        vec![hello(EPOCH, 1, 4), event(5), event(6), Step::Cut],
        // Events that the server sends again are not delivered again.
        vec![hello(EPOCH, 1, 8), event(6), event(7), event(8), Step::End],
        vec![hello(EPOCH, 1, 8), bookmark(EPOCH, 12), Step::Fail(Status::unavailable("ending"))],
        vec![hello(EPOCH, 1, 13), event(13)],
    ]);
    assert_eq!(
        updates(&mock, since(Since::Now), 13).await,
        words![
            "connected",
            "event 0000000000000abc:5",
            "event 0000000000000abc:6",
            "reconnecting",
            "resumed 0000000000000abc:6",
            "event 0000000000000abc:7",
            "event 0000000000000abc:8",
            "reconnecting",
            "resumed 0000000000000abc:8",
            "bookmark 0000000000000abc:12",
            "reconnecting",
            "resumed 0000000000000abc:12",
            "event 0000000000000abc:13",
        ]
    );
    let unset = v1::Start::Unspecified;
    assert_eq!(
        requested(&mock),
        [
            (v1::Start::Now, None),
            (unset, Some(at(EPOCH, 6))),
            (unset, Some(at(EPOCH, 8))),
            (unset, Some(at(EPOCH, 12))),
        ]
    );
    let first = &mock.watches()[0];
    assert!(first.wait_ready);
    assert_eq!(first.client_name, "test");
}

#[tokio::test(start_paused = true)]
async fn events_between_two_connections_are_delivered_even_before_the_first_event() {
    for (begin, start, expected) in [(Since::Now, v1::Start::Now, 4), (Since::Oldest, v1::Start::Oldest, 2)] {
        let mock = Mock::watched([vec![hello(EPOCH, 3, 4), Step::Cut], vec![hello(EPOCH, 3, 9), event(5)]]);
        let words = updates(&mock, since(begin), 4).await;
        assert_eq!(words[2], format!("resumed {}", at(EPOCH, expected)));
        assert_eq!(requested(&mock), [(start, None), (v1::Start::Unspecified, Some(at(EPOCH, expected)))]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_snapshot_starts_again() {
    let mock = Mock::watched([
        vec![hello(EPOCH, 1, 4), pod("a"), pod("b"), Step::Cut],
        vec![hello(EPOCH, 1, 5), pod("a"), pod("c"), snapshot_end(EPOCH, 5, 2), event(6)],
    ]);
    assert_eq!(
        updates(&mock, since(Since::Snapshot), 9).await,
        words![
            "connected",
            "pod a",
            "pod b",
            "reconnecting",
            "connected",
            "pod a",
            "pod c",
            "snapshot 0000000000000abc:5 of 2",
            "event 0000000000000abc:6",
        ]
    );
    assert_eq!(requested(&mock), [(v1::Start::Snapshot, None), (v1::Start::Snapshot, None)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_with_a_new_epoch_a_gap_and_a_snapshot_follow() {
    let foreign = v1::GapReason::ForeignEpoch;
    let mock = Mock::watched([
        vec![hello(EPOCH, 1, 40), event(41), Step::Cut],
        // The gap is reported once, although the snapshot after it needs a second attempt.
        vec![hello(LATER, 1, 2), gap(foreign, 42, None), pod("a"), Step::Cut],
        vec![hello(LATER, 1, 2), pod("a"), snapshot_end(LATER, 2, 1), event(3), Step::Cut],
        // Sequence numbers start again: a small one is not an old one.
        vec![hello(LATER, 1, 4), event(4)],
    ]);
    assert_eq!(
        updates(&mock, since(Since::Now), 14).await,
        words![
            "connected",
            "event 0000000000000abc:41",
            "reconnecting",
            "resumed 0000000000000abc:41",
            "gap ForeignEpoch 42..None",
            "pod a",
            "reconnecting",
            "connected",
            "pod a",
            "snapshot 0000000000000def:2 of 1",
            "event 0000000000000def:3",
            "reconnecting",
            "resumed 0000000000000def:3",
            "event 0000000000000def:4",
        ]
    );
    assert_eq!(requested(&mock)[2], (v1::Start::Snapshot, None));
}

#[tokio::test(start_paused = true)]
async fn a_slow_watch_continues_after_a_gap() {
    let mock = Mock::watched([vec![
        hello(EPOCH, 900, 1000),
        gap(v1::GapReason::Compacted, 8, Some(899)),
        pod("a"),
        snapshot_end(EPOCH, 1000, 1),
        event(1001),
    ]]);
    assert_eq!(
        updates(&mock, since(Since::After(at(EPOCH, 7))), 5).await,
        words![
            "resumed 0000000000000abc:7",
            "gap Compacted 8..Some(899)",
            "pod a",
            "snapshot 0000000000000abc:1000 of 1",
            "event 0000000000000abc:1001",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn with_the_policy_fail_a_lost_position_is_a_typed_error() {
    let lost = PositionLost { reason: GapReason::Compacted, epoch: EPOCH, oldest: 900, head: 1000 };
    let mock = Mock::watched([vec![Step::Fail(lost.to_status("event 8 is no longer held"))]]);
    let options = WatchOptions { slow_policy: v1::SlowPolicy::Fail, ..since(Since::After(at(EPOCH, 7))) };
    let mut watch = mock.client().watch(options);
    match watch.next().await {
        Some(Err(CallError::PositionLost { lost: reported, message })) => {
            assert_eq!((reported, message.as_str()), (lost, "event 8 is no longer held"));
        }
        other => panic!("{other:?}"),
    }
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_ends_the_watch() {
    for status in [
        Status::invalid_argument("bad selector"),
        Status::permission_denied("no"),
        Status::unimplemented("no"),
    ] {
        let mock = Mock::watched([vec![Step::Fail(status)]]);
        let words = updates(&mock, WatchOptions::default(), 10).await;
        assert!(words.len() == 1 && words[0].starts_with("error "), "{words:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_reconnects_without_limit_and_waits_longer_each_time() {
    let disconnected =
        || vec![hello(EPOCH, 1, 1), Step::Fail(Status::aborted("disconnected by an operator"))];
    let mut scripts = vec![disconnected(); 20];
    scripts.push(vec![hello(EPOCH, 1, 2), event(2), Step::Cut]);
    let mock = Mock::watched(scripts).refusing(5);
    let mut watch = mock.client().watch(since(Since::Now));
    let mut waits = Vec::new();
    loop {
        match watch.next().await.unwrap().unwrap() {
            Update::Reconnecting { wait, .. } => waits.push(wait),
            Update::Event { .. } => break,
            _ => {}
        }
    }
    assert_eq!(waits.len(), 25);
    assert!(waits[0] <= Duration::from_millis(100) && waits[24] >= Duration::from_millis(2500), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
    let Some(Ok(Update::Reconnecting { wait, .. })) = watch.next().await else { panic!() };
    assert!(wait <= Duration::from_millis(100), "an event resets the backoff: {wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_messages_counts_as_lost() {
    let mock = Mock::watched([vec![hello(EPOCH, 1, 1), event(2)], vec![hello(EPOCH, 1, 3), event(3)]]);
    let words = updates(&mock, since(Since::Now), 5).await;
    assert_eq!(words[2..4], words!["reconnecting", "resumed 0000000000000abc:2"]);
}

#[tokio::test(start_paused = true)]
async fn the_future_of_next_may_be_dropped() {
    let mock =
        Mock::watched([vec![hello(EPOCH, 1, 1), Step::Cut], vec![hello(EPOCH, 1, 2), event(2)]]).refusing(3);
    let mut watch = mock.client().watch(since(Since::Now));
    let mut words = Vec::new();
    while !words.iter().any(|word: &String| word.starts_with("event")) {
        // A consumer with its own timer: a connection attempt in progress continues at the next call.
        if let Ok(update) = tokio::time::timeout(Duration::from_millis(1), watch.next()).await {
            words.push(word(&update.unwrap()));
        }
    }
    assert_eq!(words.iter().filter(|word| *word == "reconnecting").count(), 4, "{words:?}");
    assert_eq!(watch.position(), Some(at(EPOCH, 2)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_message_of_a_newer_plegd_is_skipped() {
    let unknown = Step::Send(v1::WatchResponse { update: None, skipped: 0 });
    let mock = Mock::watched([vec![hello(EPOCH, 1, 1), unknown, event(2)]]);
    assert_eq!(updates(&mock, since(Since::Now), 2).await[1], "event 0000000000000abc:2");
}

fn named(name: &str) -> v1::Pod {
    let identity = v1::PodIdentity { uid: name.into(), namespace: "default".into(), name: name.into() };
    v1::Pod { identity: Some(identity), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_list_requests_all_pages() {
    let mock = Mock::with(["a", "b", "c", "d", "e"].map(named).into());
    let list = mock.client().list_pods(v1::Filter::default()).await.unwrap();
    assert_eq!(list.pods.len(), 5);
    assert_eq!(list.position, at(EPOCH, 7));
    let tokens: Vec<String> = mock.lists().into_iter().map(|request| request.page_token).collect();
    assert_eq!(tokens, ["", "2", "4"]);
}

#[tokio::test]
async fn plegd_is_reached_over_a_unix_socket_and_over_tcp() {
    let mock = Mock::with(vec![named("a")]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plegd.sock");
    mock.serve_unix(&path);
    let port = mock.serve_tcp().await;
    for address in
        [path.display().to_string(), format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")]
    {
        let client = Client::connect(&address.parse().unwrap()).await.unwrap();
        assert_eq!(client.list_pods(v1::Filter::default()).await.unwrap().pods.len(), 1, "{address}");
        let position = client.request_read(&PodRef::Uid("a".into())).await.unwrap();
        assert_eq!(position, at(EPOCH, 8));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_fail_with_typed_errors() {
    let client = Mock::with(vec![named("a")]).client();
    let error = client.get_pod(&PodRef::name("default", "b"), Freshness::Held).await.unwrap_err();
    assert!(matches!(&error, CallError::NotFound { message } if message == "there is no such pod"));
    let filter = v1::Filter { label_selector: "!!".into(), ..Default::default() };
    assert!(matches!(client.list_pods(filter).await, Err(CallError::Invalid { .. })));
    let away = Client::lazy(&"/no/such/plegd.sock".parse().unwrap());
    let error = away.list_pods(v1::Filter::default()).await.unwrap_err();
    assert!(matches!(error, CallError::Connect(ConnectError::Missing { .. })), "{error:?}");
    assert!(error.to_string().contains("check that plegd is running"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_continues_after_a_restart_and_ends_at_its_deadline() {
    let held = v1::WaitForResponse { pod: None, position: mock::position(EPOCH, 9) };
    let mock = Mock::default()
        .answering(vec![
            Err(Status::unavailable("ending")),
            Err(Status::failed_precondition("starting")),
            Ok(held),
        ])
        .refusing(2);
    let (pod, gone) = (PodRef::name("default", "a"), WaitCondition::PodGone);
    let client = mock.client();
    let (found, position) = client.wait_for(&pod, &gone, Duration::from_secs(30)).await.unwrap();
    assert_eq!((found, position), (None, at(EPOCH, 9)));
    let error = client.wait_for(&pod, &gone, Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(error.to_string(), "timed out after 30s");
    assert!(matches!(error, CallError::Deadline { .. }));
}
