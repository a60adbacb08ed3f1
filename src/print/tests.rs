//! Tests of the exact output as a table and as JSON.

use proptest::prelude::*;

use super::*;
use crate::{
    model::{EventType, PodIdentity, Source, Subject},
    printable::{
        tests::{assert_safe, hostile},
        width,
    },
};

const NOON: i64 = 1_800_000_000_123_456_789;

fn died() -> Event {
    Event {
        sequence: 42,
        kind: EventType::ContainerDied,
        subject: Subject::Container,
        pod: PodIdentity {
            uid: "8c5f6b1e".into(),
            namespace: "kube-system".into(),
            name: "coredns-7db6d8ff4d-x2x9z".into(),
        },
        id: "d34db33f".into(),
        container_name: "coredns".into(),
        source: Source::Event,
        occurred_at: Some(Wall::from_nanos(NOON - 812_000)),
        observed_at: Wall::from_nanos(NOON),
        stamped_at: Some(Wall::from_nanos(NOON - 500_000)),
        labels: Default::default(),
        exit_code: Some(137),
        reason: "OOMKilled".into(),
        initial: false,
        late: false,
        inferred: false,
    }
}

fn sandbox_removed() -> Event {
    Event {
        sequence: 43,
        kind: EventType::ContainerRemoved,
        subject: Subject::Sandbox,
        container_name: "".into(),
        source: Source::Relist,
        occurred_at: None,
        stamped_at: None,
        exit_code: None,
        reason: String::new(),
        pod: PodIdentity { uid: "u".into(), namespace: "demo".into(), name: "web".into() },
        ..died()
    }
}

fn events() -> Vec<Event> {
    let started = Event {
        kind: EventType::ContainerStarted,
        exit_code: None,
        reason: String::new(),
        inferred: true,
        source: Source::Read,
        ..died()
    };
    let completed = Event { exit_code: Some(0), reason: "Completed".into(), ..died() };
    let failed = Event { exit_code: Some(1), reason: "Error".into(), inferred: true, ..died() };
    let nameless =
        Event { kind: EventType::ContainerRemoved, container_name: "".into(), ..sandbox_removed() };
    let nameless = Event { subject: Subject::Container, ..nameless };
    let changed = Event {
        kind: EventType::ContainerChanged,
        reason: "a\u{1b}[31m-reason-that-is-far-too-long".into(),
        ..died()
    };
    let sync = Event { kind: EventType::PodSync, exit_code: None, reason: String::new(), ..died() };
    vec![started, died(), completed, failed, sandbox_removed(), nameless, changed, sync]
}

fn printed(style: Style, types: EventTypes, events: &[Event]) -> String {
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, style, types);
    printer.begin().unwrap();
    for event in events {
        printer.print(event).unwrap();
    }
    printer.flush().unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_json_line_has_exactly_these_fields() {
    let text = printed(Style::Json, EventTypes::kubelet(), &[died(), sandbox_removed()]);
    assert_eq!(
        text,
        r#"{"sequence":42,"type":"ContainerDied","subject":"container","pod_uid":"8c5f6b1e","namespace":"kube-system","pod_name":"coredns-7db6d8ff4d-x2x9z","container_id":"d34db33f","container_name":"coredns","source":"event","occurred_at":"2027-01-15T08:00:00.122644789Z","observed_at":"2027-01-15T08:00:00.123456789Z","exit_code":137,"reason":"OOMKilled","inferred":false,"initial":false,"late":false}
{"sequence":43,"type":"ContainerRemoved","subject":"sandbox","pod_uid":"u","namespace":"demo","pod_name":"web","container_id":"d34db33f","container_name":"","source":"relist","occurred_at":null,"observed_at":"2027-01-15T08:00:00.123456789Z","exit_code":null,"reason":"","inferred":false,"initial":false,"late":false}
"#
    );
}

#[test]
fn a_json_object_is_always_one_line() {
    let hostile = Event { reason: "two\nlines \"quoted\" \u{1b}[31m".into(), ..died() };
    let text = printed(Style::Json, EventTypes::all(), std::slice::from_ref(&hostile));
    assert_eq!(text.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["reason"], hostile.reason);
}

#[test]
fn the_table_fits_80_columns() {
    let text = printed(Style::Table(Table::new(80, false)), EventTypes::all(), &events());
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(
        text,
        "\
TIME         DELAY  EVENT   NAMESPACE/POD    CONTAINER DETAIL             SOURCE
08:00:00.122 +0.8ms Started kube-sys…d-x2x9z coredns   inferred           read
08:00:00.122 +0.8ms Died    kube-sys…d-x2x9z coredns   exit 137 OOMKilled event
08:00:00.122 +0.8ms Died    kube-sys…d-x2x9z coredns   exit 0             event
08:00:00.122 +0.8ms Died    kube-sys…d-x2x9z coredns   exit 1 inferred    event
08:00:00.123 -      Removed demo/web         (sandbox)                    relist
08:00:00.123 -      Removed demo/web         (unknown)                    relist
08:00:00.122 +0.8ms Changed kube-sys…d-x2x9z coredns   exit 137           event
08:00:00.122 +0.8ms Sync    kube-sys…d-x2x9z coredns                      event
"
    );
}

#[test]
fn a_wide_terminal_shows_more() {
    let text = printed(Style::Table(Table::new(120, false)), EventTypes::all(), &events());
    assert_eq!(
        text.lines().take(3).collect::<Vec<_>>().join("\n"),
        "\
TIME         DELAY  EVENT   NAMESPACE/POD                        CONTAINER           DETAIL                       SOURCE
08:00:00.122 +0.8ms Started kube-system/coredns-7db6d8ff4d-x2x9z coredns             inferred                     read
08:00:00.122 +0.8ms Died    kube-system/coredns-7db6d8ff4d-x2x9z coredns             exit 137 OOMKilled           event"
    );
}

#[test]
fn the_initial_inventory_is_one_line_before_the_first_other_event() {
    let initial = |event: Event| Event { initial: true, ..event };
    let other = Event { id: "0dd".into(), ..died() };
    let events = [initial(sandbox_removed()), initial(died()), initial(died()), initial(other), died()];
    let text = printed(Style::Table(Table::new(80, false)), EventTypes::all(), &events);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "2 containers in 2 pods already present");
    assert!(lines[2].contains("Died"), "{text}");
    assert_eq!(lines.len(), 3);
    let text = printed(Style::Json, EventTypes::all(), &events);
    assert_eq!(text.lines().count(), events.len(), "JSON has each event");
}

#[tokio::test(start_paused = true)]
async fn the_initial_inventory_is_printed_if_no_event_follows() {
    let mut printer = Printer::new(Vec::new(), Style::Table(Table::new(80, false)), EventTypes::all());
    printer.print(&Event { initial: true, ..died() }).unwrap();
    let next = async |ms| tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    printer.wait(next(900)).await.unwrap();
    assert_eq!(printer.out, b"");
    printer.wait(next(1100)).await.unwrap();
    assert_eq!(printer.out, b"1 container in 1 pod already present\n");
}

#[test]
fn an_event_from_the_time_while_plegd_was_down_is_late() {
    let late = Event { late: true, occurred_at: Some(Wall::from_nanos(NOON - 90_000_000_000)), ..died() };
    let text = printed(Style::Table(Table::new(100, false)), EventTypes::all(), &[late]);
    assert!(text.contains("07:58:30.123 +1m    Died"), "{text}");
    assert!(text.contains("OOMKilled late"), "{text}");
}

#[test]
fn only_the_event_type_is_coloured() {
    let text = printed(Style::Table(Table::new(80, true)), EventTypes::all(), &events());
    let lines: Vec<&str> = text.lines().collect();
    assert!(!lines[0].contains('\x1b'));
    assert!(lines[1].starts_with("08:00:00.122 +0.8ms \x1b[32mStarted\x1b[0m kube"), "{:?}", lines[1]);
    assert!(lines[2].starts_with("08:00:00.122 +0.8ms \x1b[1;31mDied   \x1b[0m kube"), "{:?}", lines[2]);
    assert!(lines[3].starts_with("08:00:00.122 +0.8ms \x1b[33mDied   \x1b[0m kube"), "{:?}", lines[3]);
    assert!(lines[1..].iter().all(|line| line.matches('\x1b').count() == 2), "{text:?}");
}

#[test]
fn only_the_selected_event_types_are_printed() {
    let types = <EventTypes as crate::config::Value>::parse("removed,sync").unwrap();
    let text = printed(Style::Json, types, &events());
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(printed(Style::Json, EventTypes::kubelet(), &events()).lines().count(), 6);
}

#[test]
fn a_closed_pipe_is_returned_as_an_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for style in [Style::Json, Style::Table(Table::new(80, false))] {
        let mut printer = Printer::new(Closed, style, EventTypes::all());
        assert_eq!(printer.print(&died()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

proptest! {
    #[test]
    fn an_event_is_one_line_without_control_characters_and_its_columns_are_aligned(
        namespace in hostile(), name in hostile(), container in hostile(), reason in hostile(), columns in 80_usize..160,
    ) {
        let pod = PodIdentity { uid: reason.as_str().into(), namespace: namespace.into(), name: name.into() };
        let container_name = container.as_str().into();
        let event = Event { pod, container_name, reason: reason.clone(), id: container.as_str().into(), ..died() };
        let line = printed(Style::Json, EventTypes::all(), std::slice::from_ref(&event));
        assert_safe(&line);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        let read = ["pod_name", "container_name", "container_id", "reason", "pod_uid"].map(|field| parsed[field].as_str());
        let written = [&*event.pod.name, &container, &container, &reason, &reason];
        prop_assert_eq!(read, written.map(Some));

        let table = printed(Style::Table(Table::new(columns, false)), EventTypes::all(), &[event]);
        assert_safe(&table);
        let widths: Vec<usize> = table.lines().map(width).collect();
        prop_assert_eq!(widths, [columns, columns - "SOURCE".len() + "event".len()]);
    }
}
