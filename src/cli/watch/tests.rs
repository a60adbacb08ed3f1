//! The output of a watch, on stdout and on stderr.

use clap::Parser as _;
use proptest::prelude::*;
use tonic::Status;

use super::*;
use crate::{
    cli::{Cli, Command},
    client::{
        Update,
        mock::{EPOCH, Mock, Step, gap, hello, pod, send_event, snapshot_end},
    },
    clock::Wall,
    print::Table,
    printable::tests::{assert_safe, hostile},
};

fn args(line: &str) -> Args {
    let words = ["plegd", "watch"].into_iter().chain(line.split_whitespace());
    let Some(Command::Watch(args)) = Cli::try_parse_from(words).unwrap().command else { panic!() };
    args
}

fn died(sequence: u64) -> Step {
    let time = |nanos| Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos });
    send_event(v1::Event {
        sequence,
        r#type: v1::EventType::ContainerDied.into(),
        subject: v1::Subject::Container.into(),
        pod: Some(v1::PodIdentity { uid: "u".into(), namespace: "shop".into(), name: "web\u{7}".into() }),
        container_id: "c0ffee".into(),
        container_name: "app".into(),
        source: v1::Source::Event.into(),
        occurred_at: time(122_000_000),
        observed_at: time(123_456_789),
        exit_code: Some(137),
        reason: "OOMKilled".into(),
        pod_status: (sequence == 7).then(v1::Pod::default),
        ..Default::default()
    })
}

/// The output on stdout and on stderr, once plegd has refused to continue.
async fn watched(line: &str, style: Style, mut scripts: Vec<Vec<Step>>) -> (String, Vec<String>, Mock) {
    scripts.push(vec![Step::Fail(Status::permission_denied("the end"))]);
    let mock = Mock::watched(scripts);
    let args = args(line);
    let mut out = Vec::new();
    let printer = Printer::new(&mut out, style, args.types.clone());
    let (clock, _) = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000));
    let mut notices = Vec::new();
    let ended = follow(&mock.client(), &args, printer, clock, |line| notices.push(line)).await;
    assert_eq!(ended.unwrap_err().to_string(), "permission denied: the end");
    (String::from_utf8(out).unwrap(), notices, mock)
}

fn table() -> Style {
    Style::Table(Table::new(80, false))
}

#[tokio::test(start_paused = true)]
async fn a_table_continues_after_a_lost_connection() {
    let scripts = vec![
        vec![hello(EPOCH, 1, 4), died(5), Step::Cut],
        vec![hello(EPOCH, 1, 6), died(5), died(6), Step::End],
    ];
    let (out, notices, _) = watched("", table(), scripts).await;
    assert_eq!(
        out,
        "\
TIME         DELAY  EVENT   NAMESPACE/POD    CONTAINER DETAIL             SOURCE
08:00:00.122 +1.5ms Died    shop/web\\u{7}    app       exit 137 OOMKilled event
08:00:00.122 +1.5ms Died    shop/web\\u{7}    app       exit 137 OOMKilled event
"
    );
    assert_eq!(notices.len(), 3, "{notices:?}");
    assert!(notices[0].starts_with("the connection to plegd was lost: "), "{notices:?}");
    assert_eq!(notices[1], "reconnected; no events were missed");
    assert!(notices[2].starts_with("the connection to plegd was lost: the stream has ended"), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn json_lines_have_positions_and_a_gap_is_a_line() {
    let scripts = vec![vec![
        hello(EPOCH, 1, 4),
        died(5),
        gap(v1::GapReason::Compacted, 6, Some(6)),
        pod("a"),
        snapshot_end(EPOCH, 6, 1),
        died(7),
        Step::End,
    ]];
    let (out, notices, _) = watched("--pods --types died", Style::Json, scripts).await;
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5, "{out}");
    assert_eq!(lines[0]["type"], "ContainerDied");
    assert_eq!(lines[0]["position"], "0000000000000abc:5");
    assert!(lines[0].get("pod_status").is_none());
    assert_eq!(lines[1].to_string(), r#"{"from":6,"reason":"compacted","to":6,"type":"Gap"}"#);
    assert_eq!(lines[2]["pod"]["identity"]["name"], "a", "the pods as they are after the gap");
    assert_eq!(lines[3]["type"], "SnapshotEnd");
    assert_eq!(lines[4]["pod_status"]["containers"].to_string(), "[]");
    assert!(notices[0].starts_with("event 6 may be missing"), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn a_complete_snapshot_comes_first() {
    let scripts = || {
        vec![
            vec![hello(EPOCH, 1, 4), pod("b"), Step::Cut],
            vec![hello(EPOCH, 1, 4), pod("b"), pod("a"), snapshot_end(EPOCH, 4, 2), died(5), Step::End],
        ]
    };
    let (out, _, mock) = watched("--snapshot", table(), scripts()).await;
    assert_eq!(
        out,
        "\
NAMESPACE   NAME   RUNNING   STATUS      RESTARTS   AGE
default     a      0/0       NoSandbox   0          -
default     b      0/0       NoSandbox   0          -

TIME         DELAY  EVENT   NAMESPACE/POD    CONTAINER DETAIL             SOURCE
08:00:00.122 +1.5ms Died    shop/web\\u{7}    app       exit 137 OOMKilled event
"
    );
    assert_eq!(mock.watches()[0].start(), v1::Start::Snapshot);
    let (out, ..) = watched("--snapshot", Style::Json, scripts()).await;
    let types: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].to_string())
        .collect();
    assert_eq!(types, [r#""Pod""#, r#""Pod""#, r#""Pod""#, r#""SnapshotEnd""#, r#""ContainerDied""#]);
}

#[test]
fn the_flags_are_converted_to_the_request() {
    let options = args(
        "-n shop -n batch,test --pod web --uid u1 -l app=web --types died,sync --containers-only --since oldest --pods",
    )
    .options();
    assert_eq!(
        options.filter,
        v1::Filter {
            namespaces: vec!["shop".into(), "batch".into(), "test".into()],
            pod_uids: vec!["u1".into()],
            pod_names: vec!["web".into()],
            label_selector: "app=web".into(),
            types: vec![v1::EventType::ContainerDied.into(), v1::EventType::PodSync.into()],
            containers_only: true,
        }
    );
    assert_eq!((options.since, options.detail), (Since::Oldest, v1::Detail::Pod));
    let options = args("").options();
    assert_eq!((options.since, options.filter.types.len()), (Since::Now, 3));
    let resumed = args("--since 00000000000000ff:42").options().since;
    assert_eq!(resumed, Since::After(Position { epoch: 255, sequence: 42 }));
    assert_eq!(args("--snapshot").options().since, Since::Snapshot);
}

#[test]
fn errors_for_invalid_flags_have_a_hint() {
    let refused = |line: &str| {
        let words = ["plegd", "watch"].into_iter().chain(line.split(' '));
        Cli::try_parse_from(words).unwrap_err().to_string()
    };
    assert!(refused("--since 42").contains("it is neither \"now\" nor \"oldest\""));
    assert!(refused("--pod shop/web").contains("-n shop --pod web"));
    assert!(
        refused("--types dead").contains("\"dead\" is not an event; did you mean \"died\""),
        "{}",
        refused("--types dead")
    );
    assert!(refused("--since oldest --snapshot").contains("cannot be used with"));
    assert!(refused("-s tcp://x").contains("an address is unix:///run/plegd/plegd.sock"));
}

proptest! {
    #[test]
    fn a_watch_prints_no_control_characters(name in hostile(), label in hostile()) {
        let identity = v1::PodIdentity { uid: label.clone(), namespace: name.clone(), name: name.clone() };
        let labels = [(label.clone(), name.clone())].into();
        let pod = v1::Pod { identity: Some(identity.clone()), labels, ..Default::default() };
        let event = v1::Event {
            sequence: 1,
            r#type: v1::EventType::ContainerDied.into(),
            subject: v1::Subject::Container.into(),
            pod: Some(identity),
            container_id: label.clone(),
            container_name: name.clone(),
            source: v1::Source::Event.into(),
            observed_at: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            reason: label.clone(),
            pod_status: Some(pod.clone()),
            ..Default::default()
        };
        let position = Position { epoch: EPOCH, sequence: 1 };
        for style in [table(), Style::Json] {
            let mut out = Vec::new();
            let printer = Printer::new(&mut out, style, EventTypes::all());
            let mut show = Show::new(printer, true, Clock::simulated(Wall::from_nanos(1)).0);
            show.update(Update::Pod(pod.clone())).unwrap();
            show.update(Update::SnapshotEnd { position, pods: 1 }).unwrap();
            show.update(Update::Event { event: event.clone(), position, skipped: 0 }).unwrap();
            show.end().unwrap();
            drop(show);
            let text = String::from_utf8(out).unwrap();
            assert_safe(&text);
            prop_assert!(text.lines().count() >= 3, "{}", text);
        }
    }
}
