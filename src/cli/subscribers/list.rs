//! The list of subscribers, as a table and as JSON. Pure.

use serde::Serialize;

use super::{called, own_gaps};
use crate::{
    clock::Wall,
    print::{
        answer::{position, time},
        sheet::{Column, Sheet, Side, StyledText},
        text::{Paint, Tone, age, bytes, count, date_and_time, span, wall},
    },
    v1::{Detail, ListSubscribersResponse, SlowPolicy, Subscriber, peer},
};

/// Wider than any table.
const UNBOUNDED: usize = usize::MAX / 2;

/// The list as a table of this width.
pub(in crate::cli) fn table(list: &ListSubscribersResponse, now: Wall, width: usize, paint: Paint) -> String {
    if list.subscribers.is_empty() {
        return "No subscribers.\n".into();
    }
    let mut sheet = Sheet::new(width, paint);
    let rows: Vec<_> = list.subscribers.iter().map(|subscriber| row(subscriber, now)).collect();
    sheet.table(&COLUMNS, &rows);
    sheet.into_text()
}

/// The list with all columns, as wide as needed.
pub(super) fn wide(list: &ListSubscribersResponse, paint: Paint) -> String {
    if list.subscribers.is_empty() {
        return "No subscribers.\n".into();
    }
    let mut sheet = Sheet::new(UNBOUNDED, paint);
    let rows: Vec<_> = list.subscribers.iter().map(wide_row).collect();
    sheet.table(&WIDE_COLUMNS, &rows);
    sheet.into_text()
}

const fn left(heading: &'static str, least: Option<usize>) -> Column {
    Column { heading, side: Side::Left, least }
}

const fn right(heading: &'static str) -> Column {
    Column { heading, side: Side::Right, least: None }
}

const COLUMNS: [Column; 10] = [
    right("ID"),
    left("NAME", Some(8)),
    left("PEER", Some(15)),
    left("SINCE", None),
    right("POSITION"),
    right("LAG"),
    right("EVENTS"),
    right("BYTES"),
    right("GAPS"),
    left("FILTER", Some(6)),
];

const WIDE_COLUMNS: [Column; 13] = [
    right("ID"),
    left("NAME", None),
    left("PEER", None),
    left("SINCE", None),
    left("POSITION", None),
    right("LAG"),
    right("EVENTS"),
    right("BYTES"),
    right("GAPS"),
    right("RESTARTS"),
    left("DETAIL", None),
    left("IF SLOW", None),
    left("FILTER", None),
];

fn row(subscriber: &Subscriber, now: Wall) -> [StyledText; 10] {
    [
        subscriber.id.to_string().into(),
        called(subscriber).into(),
        peer_text(subscriber).into(),
        subscriber.since.as_ref().map_or("-".into(), |at| span(age(now, at))).into(),
        subscriber.position.as_ref().map_or("-".into(), |position| position.sequence.to_string()).into(),
        lag(subscriber),
        count(subscriber.events).into(),
        bytes(subscriber.bytes).into(),
        gaps(subscriber),
        filter(subscriber).into(),
    ]
}

fn wide_row(subscriber: &Subscriber) -> [StyledText; 13] {
    [
        subscriber.id.to_string().into(),
        called(subscriber).into(),
        whole_peer_text(subscriber).into(),
        subscriber.since.as_ref().map_or("-".into(), |at| date_and_time(wall(at))).into(),
        position(subscriber.position.as_ref()).unwrap_or("-".into()).into(),
        lag(subscriber),
        count(subscriber.events).into(),
        bytes(subscriber.bytes).into(),
        gaps(subscriber),
        count(subscriber.gaps_of_epoch).into(),
        detail(subscriber).into(),
        slow_policy(subscriber).into(),
        filter(subscriber).into(),
    ]
}

fn lag(subscriber: &Subscriber) -> StyledText {
    count(subscriber.lag).into()
}

/// The gaps that the subscriber itself caused. Gaps after a restart of plegd have their own column.
pub(in crate::cli) fn gaps(subscriber: &Subscriber) -> StyledText {
    let own = own_gaps(subscriber);
    StyledText::new(Tone::warn_if(own > 0), count(own))
}

fn filter(subscriber: &Subscriber) -> &str {
    if subscriber.filter.is_empty() { "-" } else { &subscriber.filter }
}

/// User and process as `0/1234`, or an address.
pub(in crate::cli) fn peer_text(subscriber: &Subscriber) -> String {
    match subscriber.peer.as_ref().and_then(|peer| peer.peer.as_ref()) {
        None => "-".into(),
        Some(peer::Peer::Process(process)) => match process.pid {
            Some(pid) => format!("{}/{pid}", process.uid),
            None => format!("{}/?", process.uid),
        },
        Some(peer::Peer::Network(network)) => network.address.clone(),
    }
}

fn whole_peer_text(subscriber: &Subscriber) -> String {
    match subscriber.peer.as_ref().and_then(|peer| peer.peer.as_ref()) {
        Some(peer::Peer::Process(process)) => {
            let pid = process.pid.map_or("?".into(), |pid| pid.to_string());
            format!("uid={},gid={},pid={pid}", process.uid, process.gid)
        }
        Some(peer::Peer::Network(network)) if !network.certificate_names.is_empty() => {
            format!("{} ({})", network.address, network.certificate_names.join(", "))
        }
        _ => peer_text(subscriber),
    }
}

fn detail(subscriber: &Subscriber) -> &'static str {
    match subscriber.detail() {
        Detail::Unspecified | Detail::Event => "event",
        Detail::Pod => "pod",
    }
}

fn slow_policy(subscriber: &Subscriber) -> &'static str {
    match subscriber.slow_policy() {
        SlowPolicy::Unspecified | SlowPolicy::Resync => "resync",
        SlowPolicy::LatestPerPod => "latest_per_pod",
        SlowPolicy::Fail => "fail",
    }
}

/// The fields of `ListSubscribersResponse`, by their names. None is ever renamed or removed.
#[derive(Serialize)]
pub(super) struct List<'a> {
    subscribers: Vec<Entry<'a>>,
    head: Option<String>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: u64,
    client_name: &'a str,
    peer: Option<Peer<'a>>,
    since: Option<String>,
    position: Option<String>,
    lag: u64,
    events: u64,
    bytes: u64,
    gaps: u64,
    gaps_of_epoch: u64,
    filter: &'a str,
    detail: &'static str,
    slow_policy: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Peer<'a> {
    Process { uid: u32, gid: u32, pid: Option<i32> },
    Network { address: &'a str, certificate_names: &'a [String] },
}

// === impl List ===

impl<'a> From<&'a ListSubscribersResponse> for List<'a> {
    fn from(list: &'a ListSubscribersResponse) -> Self {
        Self { subscribers: list.subscribers.iter().map(entry).collect(), head: position(list.head.as_ref()) }
    }
}

fn entry(subscriber: &Subscriber) -> Entry<'_> {
    Entry {
        id: subscriber.id,
        client_name: &subscriber.client_name,
        peer: subscriber.peer.as_ref().and_then(|peer| peer.peer.as_ref()).map(|peer| match peer {
            peer::Peer::Process(process) => {
                Peer::Process { uid: process.uid, gid: process.gid, pid: process.pid }
            }
            peer::Peer::Network(network) => {
                Peer::Network { address: &network.address, certificate_names: &network.certificate_names }
            }
        }),
        since: time(subscriber.since.as_ref()),
        position: position(subscriber.position.as_ref()),
        lag: subscriber.lag,
        events: subscriber.events,
        bytes: subscriber.bytes,
        gaps: subscriber.gaps,
        gaps_of_epoch: subscriber.gaps_of_epoch,
        filter: &subscriber.filter,
        detail: detail(subscriber),
        slow_policy: slow_policy(subscriber),
    }
}
