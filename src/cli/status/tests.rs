//! Tests of the exact screens, for a healthy plegd and for problems.

mod simulated;

use super::{
    advice::advice,
    json,
    screen::{Quirks, screen},
    *,
};
use crate::{
    print::text::{Paint, Tone},
    v1::{
        self, Arbitration, Census, EventedPath, GenericPath, Journal, Latency, Missed, Mode, Peer, Position,
        Process, Quirk, Runtime, State, peer,
    },
};

const NOW: i64 = 1_800_000_000;

pub(in crate::cli) fn now() -> Wall {
    Wall::from_nanos(NOW * 1_000_000_000)
}

pub(in crate::cli) fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOW - seconds, nanos: 0 })
}

fn micros(micros: u64) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(std::time::Duration::from_micros(micros)).ok()
}

fn latency(count: u64, p50: u64, p99: u64) -> Option<Latency> {
    Some(Latency { count, p50: micros(p50), p99: micros(p99) })
}

fn quirk(quirk: crate::cri::quirks::Quirk) -> Quirk {
    Quirk { name: format!("{quirk:?}"), summary: quirk.summary().into() }
}

/// The status of a healthy node.
pub(in crate::cli) fn healthy() -> GetStatusResponse {
    use crate::cri::quirks::Quirk::{
        LateOomReason, ReplaysBacklog, SandboxDeletedEarly, SlowSubscriberBlocksRuntime,
    };
    GetStatusResponse {
        version: "0.1.0".into(),
        node_name: "node-7".into(),
        started_at: ago(273_600),
        ready: true,
        mode: Mode::Evented.into(),
        mode_since: ago(7_980),
        runtime: Some(Runtime {
            name: "containerd".into(),
            version: "v2.1.9".into(),
            api_version: "v1".into(),
        }),
        quirks: [ReplaysBacklog, SlowSubscriberBlocksRuntime, SandboxDeletedEarly, LateOomReason]
            .map(quirk)
            .into(),
        evented: Some(EventedPath {
            up: true,
            since: ago(8_040),
            state: "up".into(),
            messages: 48_211,
            last_message_at: ago(1),
            connects: 2,
            disconnects: 1,
            first: 12_345,
            detection: latency(12_000, 440, 1_500),
            missed: vec![],
            yielded_since: None,
            retry_at: None,
        }),
        generic: Some(GenericPath {
            period: micros(60_000_000),
            relists: 4_130,
            failures: 0,
            last_success_at: ago(23),
            duration: latency(4_130, 12_000, 30_000),
            first: 12,
            detection: latency(20, 480_000, 980_000),
            first_by_read: 8,
            consecutive_failures: 0,
            failing_since: None,
            last_error: String::new(),
            unreadable: 0,
        }),
        arbitration: Some(Arbitration {
            seen_by_both: 12_000,
            seen_by_event_only: 345,
            seen_by_relist_only: 20,
            stale: 34,
            dead: 5,
            backward: 2,
            corrected: 0,
        }),
        journal: Some(Journal {
            head: Some(Position { epoch: 0x1234_5678_9abc, sequence: 12_365 }),
            oldest: 1,
            bytes: 3_355_443,
            subscribers: 2,
            gaps: 0,
            gaps_came_late: 0,
            gaps_of_epoch: 0,
        }),
        census: Some(Census { pods: 44, ready_pods: 43, containers: 132, running_containers: 120 }),
        resident_bytes: 11_534_336,
        cpu_time: micros(132_000_000),
        config_rejected: false,
        config_keys_awaiting_restart: 0,
        state: Some(State {
            active: true,
            bytes: 1_258_291,
            restarts: 2,
            epoch_began_at: ago(864_000),
            restored: true,
            errors: 0,
        }),
    }
}

/// The status of the same node if the runtime has problems.
fn unhealthy() -> GetStatusResponse {
    let mut status = healthy();
    status.mode = Mode::Polling.into();
    status.mode_since = ago(180);
    if let Some(evented) = &mut status.evented {
        evented.up = false;
        evented.since = ago(180);
        evented.state = "the runtime cannot be reached: connection refused\u{1b}[2J".into();
        evented.disconnects = 2;
        evented.last_message_at = ago(190);
        evented.missed = vec![
            Missed { r#type: "stopped".into(), count: 2 },
            Missed { r#type: "deleted".into(), count: 1 },
        ];
    }
    if let Some(generic) = &mut status.generic {
        generic.period = micros(1_000_000);
        generic.failures = 170;
        generic.last_success_at = ago(182);
        generic.consecutive_failures = 170;
        generic.failing_since = ago(180);
        generic.last_error = "the runtime cannot be reached: connection refused".into();
    }
    if let Some(journal) = &mut status.journal {
        journal.oldest = 2_366;
        journal.gaps = 1;
    }
    status
}

pub(in crate::cli) fn subscriber(id: u64, name: &str, lag: u64) -> Subscriber {
    let process = Process { uid: 0, gid: 0, pid: Some(4_242) };
    Subscriber {
        id,
        client_name: name.into(),
        peer: Some(Peer { peer: Some(peer::Peer::Process(process)) }),
        since: ago(7_980),
        position: Some(Position { epoch: 0x1234_5678_9abc, sequence: 12_365 - lag }),
        lag,
        events: 12_000,
        bytes: 2_411_724,
        gaps: 0,
        gaps_of_epoch: 0,
        filter: String::new(),
        detail: v1::Detail::Event.into(),
        slow_policy: v1::SlowPolicy::Resync.into(),
    }
}

fn shown(status: &GetStatusResponse, subscribers: &[Subscriber], paint: bool) -> String {
    screen(&View { status, subscribers, now: now() }, Quirks::Names, 80, Paint(paint))
}

#[test]
fn the_screen_of_a_healthy_node() {
    let text = shown(&healthy(), &[subscriber(3, "logger", 12), subscriber(4, "kubelet", 0)], false);
    assert_eq!(
        text,
        "\
NODE      READY  node-7, plegd 0.1.0, up 3d 4h since 2027-01-12 04:00:00Z
MODE      evented for 2h 13m: the stream is trusted, a relist every 1m checks it
RUNTIME   containerd v2.1.9, CRI v1
QUIRKS    ReplaysBacklog, SlowSubscriberBlocksRuntime, SandboxDeletedEarly,
          LateOomReason

PATHS           EVENTED                         GENERIC
state           up 2h 14m                       a relist every 1m
last activity   1s ago                          23s ago
in all          48,211 messages                 4,130 relists, 0 failed
                2 connects, 1 lost              each took p50 12ms, p99 30ms
seen first      12,345 (99.8%)                  12 by relist, 8 by read
detection       p50 0.44ms, p99 1.5ms           p50 480ms, p99 980ms
missed          0

ARBITER   12,000 seen by both, 345 by events only, 20 by relists only
          refused 34 stale, 5 dead, 2 backward; 0 corrected
PODS      44 pods (43 ready), 132 containers (120 running)
JOURNAL   head 0000123456789abc:12365, holds 12,365 events, 3.2 MiB
STATE     kept, 1.2 MiB, epoch began 10d ago, 2 restarts
WATCHERS  2 subscribers, 0 gaps, the slowest 12 behind (3: logger)
PROCESS   11.0 MiB resident, 2m 12s of CPU (0.05% of one core)

Nothing needs attention.
"
    );
}

#[test]
fn the_screen_of_a_node_with_problems_has_the_actions_to_take() {
    let text = shown(&unhealthy(), &[subscriber(3, "logger\u{7}", 9_000)], false);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(
        text,
        "\
NODE      STALE  node-7, plegd 0.1.0, up 3d 4h since 2027-01-12 04:00:00Z
MODE      polling for 3m: no list for 3m, and the stream is down
RUNTIME   containerd v2.1.9, CRI v1
QUIRKS    ReplaysBacklog, SlowSubscriberBlocksRuntime, SandboxDeletedEarly,
          LateOomReason

PATHS           EVENTED                         GENERIC
state           down 3m: the runtime cannot be… failing 3m, 170 in a row
last activity   3m 10s ago                      3m 2s ago
in all          48,211 messages                 4,130 relists, 170 failed
                2 connects, 2 lost              each took p50 12ms, p99 30ms
seen first      12,345 (99.8%)                  12 by relist, 8 by read
detection       p50 0.44ms, p99 1.5ms           p50 480ms, p99 980ms
missed          3: 2 stopped, 1 deleted

ARBITER   12,000 seen by both, 345 by events only, 20 by relists only
          refused 34 stale, 5 dead, 2 backward; 0 corrected
PODS      44 pods (43 ready), 132 containers (120 running)
JOURNAL   head 0000123456789abc:12365, holds 10,000 events, 3.2 MiB
STATE     kept, 1.2 MiB, epoch began 10d ago, 2 restarts
WATCHERS  2 subscribers, 1 gap, the slowest 9,000 behind (3: logger\\u{7})
PROCESS   11.0 MiB resident, 2m 12s of CPU (0.05% of one core)

!! The runtime cannot be listed since 2027-01-15 07:57:00Z (3m): 170 relists in
   a row failed, the last with: the runtime cannot be reached: connection
   refused. The event stream is also down (the runtime cannot be reached:
   connection refused\\u{1b}[2J). Served state is as of 2027-01-15 07:56:58Z.
   Check that the runtime is running and that `crictl ps` works; see `journalctl
   -u containerd`. plegd retries automatically.
! Subscriber 3 (logger\\u{7}) is 9,000 events behind; at 10,000 it loses events.
  `plegd subscribers` lists all, `plegd subscribers disconnect 3` disconnects
  it.
"
    );
}

#[test]
fn every_part_of_the_screen_shows_a_runtime_that_hangs_while_its_stream_is_up() {
    let mut status = healthy();
    status.mode = Mode::Probing.into();
    status.mode_since = ago(65);
    let generic = status.generic.as_mut().unwrap();
    generic.failures = 8;
    generic.last_success_at = ago(75);
    generic.consecutive_failures = 8;
    generic.failing_since = ago(70);
    generic.last_error = "ListContainers was not answered within 5s".into();
    let text = shown(&status, &[], false);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NODE      STALE  node-7"), "{text}");
    assert_eq!(lines[1], "MODE      probing for 1m 5s: no list for 1m 10s, so nothing checks the stream");
    assert!(
        text.contains("\nstate           up 2h 14m                       failing 1m 10s, 8 in a row\n"),
        "{text}"
    );
    assert!(
        text.ends_with(
            "\
!! The runtime cannot be listed since 2027-01-15 07:58:50Z (1m 10s): 8 relists
   in a row failed, the last with: ListContainers was not answered within 5s.
   Served state is as of 2027-01-15 07:58:45Z, updated by events only; nothing
   checks the event stream. Check that the runtime is running and that `crictl
   ps` works; see `journalctl -u containerd`. plegd retries automatically.
"
        ),
        "{text}"
    );
    for claim in ["trusted", "a relist every", "relists instead", "Nothing needs attention"] {
        assert!(!text.contains(claim), "{claim}: {text}");
    }
}

#[test]
fn a_yielded_stream_is_shown_with_the_time_of_the_next_try() {
    let mut status = healthy();
    status.mode = Mode::Polling.into();
    status.mode_since = ago(185);
    status.generic.as_mut().unwrap().period = micros(1_000_000);
    status.generic.as_mut().unwrap().last_success_at = ago(1);
    status.quirks.push(quirk(crate::cri::quirks::Quirk::SharedChannel));
    let evented = status.evented.as_mut().unwrap();
    evented.up = false;
    evented.since = ago(185);
    evented.state = "yielded the shared event stream to another subscriber; polling".into();
    evented.missed = vec![Missed { r#type: "started".into(), count: 2 }];
    (evented.yielded_since, evented.retry_at) = (ago(185), ago(-415));
    let text = shown(&status, &[], false);
    assert!(
        text.contains("\nMODE      polling for 3m 5s: the stream is yielded, a relist every 1s instead\n"),
        "{text}"
    );
    assert!(text.contains("\nstate           yielded 3m 5s, retry in 6m 55s  a relist every 1s\n"), "{text}");
    assert!(
        text.ends_with(
            "\
! plegd yielded the shared event stream to another subscriber; polling. This
  runtime delivers each event to one subscriber only; since 2027-01-15 07:56:55Z
  the other one receives all events. Disable EventedPLEG in the kubelet, stop
  `crictl events`, or upgrade to containerd 2.x. plegd retries the stream in 6m
  55s; with stream.shared = \"compete\" it would keep the stream.
"
        ),
        "{text}"
    );
    assert!(!text.contains("!!") && shown(&status, &[], true).contains("\x1b[33mpolling\x1b[0m"), "{text}");
}

#[test]
fn gaps_after_a_restart_of_plegd_are_shown_separately() {
    let mut status = healthy();
    let journal = status.journal.as_mut().unwrap();
    (journal.gaps, journal.gaps_came_late, journal.gaps_of_epoch) = (0, 0, 3);
    let mut restarted = subscriber(3, "logger", 0);
    (restarted.gaps, restarted.gaps_of_epoch) = (3, 3);
    let text = shown(&status, &[restarted], false);
    assert!(text.contains("\nWATCHERS  2 subscribers, 0 gaps, 3 gaps after a restart of plegd\n"), "{text}");
    assert!(text.ends_with("Nothing needs attention.\n"), "{text}");
}

#[test]
fn objects_whose_status_cannot_be_read_are_a_problem() {
    let mut status = healthy();
    status.generic.as_mut().unwrap().unreadable = 2;
    let text = shown(&status, &[], false);
    assert!(text.contains("\n! 2 objects (containers or sandboxes) cannot be read: "), "{text}");
    assert!(!text.contains("Nothing needs attention"), "{text}");
}

#[test]
fn unknown_values_are_shown_as_unknown() {
    let status =
        GetStatusResponse { version: "0.1.0".into(), node_name: "node-7".into(), ..Default::default() };
    let text = shown(&status, &[], false);
    assert_eq!(
        text,
        "\
NODE      NOT READY  node-7, plegd 0.1.0
MODE      unknown
RUNTIME   not known: it has not answered yet

PATHS           EVENTED                         GENERIC
state           down                            not begun
last activity   never                           never
in all          0 messages                      0 relists, 0 failed
                0 connects, 0 lost              each took -
seen first      0                               0 by relist, 0 by read
detection       -                               -
missed          0

ARBITER   0 seen by both, 0 by events only, 0 by relists only
          refused 0 stale, 0 dead, 0 backward; 0 corrected
PODS      0 pods (0 ready), 0 containers (0 running)
JOURNAL   head -, holds 0 events, 0 B
STATE     not kept: a restart of plegd begins a new epoch, 0 restarts
WATCHERS  0 subscribers, 0 gaps
PROCESS   0 B resident, 0s of CPU

!! Not ready: the runtime has not answered yet. Check that it is running: use
   `plegd check`, and check the key runtime.endpoint.
"
    );
}

#[test]
fn colours_mark_normal_states_warnings_and_errors() {
    let text = shown(&healthy(), &[], true);
    assert!(text.contains("\x1b[32mREADY\x1b[0m"), "{text:?}");
    assert!(text.contains("\x1b[32mevented\x1b[0m"), "{text:?}");
    assert!(!text.contains("\x1b[1;31m") && !text.contains("\x1b[33m"), "{text:?}");
    let text = shown(&unhealthy(), &[], true);
    assert!(text.contains("\x1b[1;31mpolling\x1b[0m"), "{text:?}");
    assert!(text.contains("\x1b[33m4,130 relists, 170 failed\x1b[0m"), "{text:?}");
    assert!(text.contains("\x1b[1;31m!! The runtime cannot be listed"), "{text:?}");
}

/// The advice for `healthy()` after this change.
fn about(change: impl FnOnce(&mut GetStatusResponse, &mut Vec<Subscriber>)) -> Vec<(Tone, String)> {
    let (mut status, mut subscribers) = (healthy(), vec![subscriber(3, "logger", 0)]);
    change(&mut status, &mut subscribers);
    let view = View { status: &status, subscribers: &subscribers, now: now() };
    advice(&view).into_iter().map(|it| (it.tone, it.text)).collect()
}

#[track_caller]
fn assert_advice(found: &[(Tone, String)], tone: Tone, part: &str) {
    assert!(matches!(found, [(found, text)] if *found == tone && text.contains(part)), "{found:?}");
}

fn evented(status: &mut GetStatusResponse) -> &mut EventedPath {
    status.evented.as_mut().unwrap()
}

#[test]
fn advice_is_given_only_for_problems() {
    use crate::cri::quirks::Quirk::{EventsOffByDefault, NoEvents, SharedChannel};
    let down = |status: &mut GetStatusResponse| {
        evented(status).up = false;
        evented(status).since = ago(60);
    };
    assert_eq!(about(|_, _| ()), []);
    assert_advice(&about(|status, _| down(status)), Tone::Bad, "down for 1m");
    let short = about(|status, _| {
        down(status);
        evented(status).since = ago(5);
    });
    assert_advice(&short, Tone::Warn, "down for 5s");
    let never = about(|status, _| {
        down(status);
        // Another version of plegd may spell it in this way.
        status.quirks.push(Quirk { name: "no_events".into(), ..quirk(NoEvents) });
    });
    assert_eq!(never, []);
    let off = about(|status, _| {
        down(status);
        evented(status).messages = 0;
        status.quirks.push(quirk(EventsOffByDefault));
    });
    assert_advice(&off, Tone::Warn, "enable_pod_events = true");
    let switched_off = about(|status, _| {
        down(status);
        evented(status).state = "switched off by stream.enabled = false".into();
    });
    assert_advice(&switched_off, Tone::Warn, "disabled in the configuration");

    let kept = about(|status, _| status.config_rejected = true);
    assert_advice(&kept, Tone::Bad, "Run `plegd config check` to see the errors");
    let waiting = about(|status, _| status.config_keys_awaiting_restart = 2);
    assert_advice(&waiting, Tone::Warn, "2 keys were changed and require a restart");

    let missed = |mode: Mode, shared: bool| {
        about(|status, _| {
            status.mode = mode.into();
            evented(status).missed = vec![Missed { r#type: "stopped".into(), count: 1 }];
            if shared {
                status.quirks.push(quirk(SharedChannel));
            }
        })
    };
    assert_eq!(missed(Mode::Evented, false), []);
    assert_advice(&missed(Mode::Probing, false), Tone::Warn, "missed 1 event (1 stopped). Relists detected");
    assert_advice(&missed(Mode::Probing, true), Tone::Warn, "EventedPLEG");

    let late = |last| about(|status, _| status.generic.as_mut().unwrap().last_success_at = ago(last));
    assert_eq!(late(179), []);
    assert_advice(&late(180), Tone::Bad, "No relist was complete for 3m, though one is due every 1m");
    let hung = |failures, up: bool, seconds| {
        about(move |status, _| {
            evented(status).up = up;
            let generic = status.generic.as_mut().unwrap();
            generic.consecutive_failures = failures;
            generic.failing_since = ago(seconds);
            generic.last_error = "ListContainers was not answered within 5s".into();
        })
    };
    assert_eq!(hung(1, true, 10), [], "one failure may be a passing error");
    assert_advice(&hung(2, true, 10), Tone::Bad, "nothing checks the event stream");
    assert_advice(
        &hung(2, true, 9),
        Tone::Warn,
        "2 relists in a row failed, the last with: ListContainers was not",
    );
    let down = hung(8, false, 70);
    assert_advice(&down, Tone::Bad, "cannot be listed since 2027-01-15 07:58:50Z (1m 10s): 8 relists");
    assert!(!down[0].1.contains("relists instead"), "{down:?}");
    let slow = |p99| about(|status, _| evented(status).detection = latency(100, 1_000, p99));
    assert_eq!(slow(999_999), []);
    assert_advice(&slow(1_400_000), Tone::Warn, "event latency is 1.4s");

    let lagging = |oldest, lag| {
        about(|status, subscribers| {
            status.journal.as_mut().unwrap().oldest = oldest;
            subscribers.push(subscriber(9, "slow", lag));
        })
    };
    // The journal is not full yet, so no event is dropped.
    assert_eq!(lagging(1, 12_000), []);
    assert_eq!(lagging(2_366, 5_000), []);
    assert_advice(
        &lagging(2_366, 5_001),
        Tone::Warn,
        "Subscriber 9 (slow) is 5,001 events behind; at 10,000",
    );
    assert_advice(
        &about(|_, subscribers| subscribers[0].gaps = 2),
        Tone::Warn,
        "Subscriber 3 (logger) lost events 2 times: it reads too slowly",
    );
    let restarted = |gaps, gaps_of_epoch| {
        about(move |_, subscribers| {
            (subscribers[0].gaps, subscribers[0].gaps_of_epoch) = (gaps, gaps_of_epoch);
        })
    };
    assert_eq!(restarted(2, 2), [], "a restart of plegd is not the subscriber's fault");
    assert_advice(&restarted(3, 2), Tone::Warn, "lost events once");

    let unready = |runtime: bool| {
        about(move |status, _| {
            status.ready = false;
            if !runtime {
                status.runtime = None;
            }
        })
    };
    assert_advice(&unready(false), Tone::Bad, "has not answered yet");
    assert_advice(&unready(true), Tone::Bad, "first relist is not complete");
}

#[test]
fn the_json_has_the_fields_of_the_api() {
    let json = serde_json::to_value(json::Status::from(&unhealthy())).unwrap();
    assert_eq!(json["mode"], "polling");
    assert_eq!(json["started_at"], "2027-01-12T04:00:00.000000000Z");
    assert_eq!(json["evented"]["detection"]["p50_seconds"], 0.00044);
    assert_eq!(json["evented"]["missed"][1], serde_json::json!({ "type": "deleted", "count": 1 }));
    assert_eq!(json["generic"]["period_seconds"], 1.0);
    assert_eq!(json["journal"]["head"], "0000123456789abc:12365");
    assert_eq!(json["cpu_time_seconds"], 132.0);
    // The output has every field of the API by its name.
    let proto = include_str!("../../../proto/plegd/v1/introspection.proto");
    let message = proto.split_once("message GetStatusResponse {").unwrap().1.split_once('}').unwrap().0;
    let fields = message.lines().filter_map(|line| line.split_once(" = ")?.0.rsplit(' ').next());
    for field in fields {
        let seconds = format!("{field}_seconds");
        assert!(json.get(field).or(json.get(&seconds)).is_some(), "{field}");
    }
    let nothing = serde_json::to_value(json::Status::from(&GetStatusResponse::default())).unwrap();
    assert!(nothing["runtime"].is_null() && nothing["started_at"].is_null());
}
