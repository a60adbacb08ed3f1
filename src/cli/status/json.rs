//! `plegd status -o json`: the fields of `GetStatusResponse`, by their names. None is ever renamed or removed.

use serde::Serialize;

use crate::{
    print::answer::{position, seconds, time},
    v1::{self, GetStatusResponse},
};

/// The JSON form of the status.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    version: &'a str,
    node_name: &'a str,
    started_at: Option<String>,
    ready: bool,
    mode: &'static str,
    mode_since: Option<String>,
    runtime: Option<Runtime<'a>>,
    quirks: Vec<Quirk<'a>>,
    evented: Option<Evented<'a>>,
    generic: Option<Generic<'a>>,
    arbitration: Option<Arbitration>,
    journal: Option<Journal>,
    census: Option<Census>,
    resident_bytes: u64,
    cpu_time_seconds: Option<f64>,
    config_rejected: bool,
    config_keys_awaiting_restart: u32,
    state: Option<State>,
}

#[derive(Serialize)]
struct State {
    active: bool,
    bytes: u64,
    restarts: u32,
    epoch_began_at: Option<String>,
    restored: bool,
    errors: u64,
}

#[derive(Serialize)]
struct Runtime<'a> {
    name: &'a str,
    version: &'a str,
    api_version: &'a str,
}

#[derive(Serialize)]
struct Quirk<'a> {
    name: &'a str,
    summary: &'a str,
}

#[derive(Serialize)]
struct Evented<'a> {
    up: bool,
    since: Option<String>,
    state: &'a str,
    messages: u64,
    last_message_at: Option<String>,
    connects: u64,
    disconnects: u64,
    first: u64,
    detection: Option<Latency>,
    missed: Vec<Missed<'a>>,
    yielded_since: Option<String>,
    retry_at: Option<String>,
}

#[derive(Serialize)]
struct Generic<'a> {
    period_seconds: Option<f64>,
    relists: u64,
    failures: u64,
    last_success_at: Option<String>,
    duration: Option<Latency>,
    first: u64,
    detection: Option<Latency>,
    first_by_read: u64,
    consecutive_failures: u32,
    failing_since: Option<String>,
    last_error: &'a str,
    unreadable: u32,
}

#[derive(Serialize)]
struct Latency {
    count: u64,
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Missed<'a> {
    r#type: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct Arbitration {
    seen_by_both: u64,
    seen_by_event_only: u64,
    seen_by_relist_only: u64,
    stale: u64,
    dead: u64,
    backward: u64,
    corrected: u64,
}

#[derive(Serialize)]
struct Journal {
    head: Option<String>,
    oldest: u64,
    bytes: u64,
    subscribers: u32,
    gaps: u64,
    gaps_came_late: u64,
    gaps_of_epoch: u64,
}

#[derive(Serialize)]
struct Census {
    pods: u32,
    ready_pods: u32,
    containers: u32,
    running_containers: u32,
}

// === impl Status ===

impl<'a> From<&'a GetStatusResponse> for Status<'a> {
    fn from(status: &'a GetStatusResponse) -> Self {
        Self {
            version: &status.version,
            node_name: &status.node_name,
            started_at: time(status.started_at.as_ref()),
            ready: status.ready,
            mode: match status.mode() {
                v1::Mode::Unspecified => "unspecified",
                v1::Mode::Polling => "polling",
                v1::Mode::Probing => "probing",
                v1::Mode::Evented => "evented",
            },
            mode_since: time(status.mode_since.as_ref()),
            runtime: status.runtime.as_ref().map(|runtime| Runtime {
                name: &runtime.name,
                version: &runtime.version,
                api_version: &runtime.api_version,
            }),
            quirks: status
                .quirks
                .iter()
                .map(|quirk| Quirk { name: &quirk.name, summary: &quirk.summary })
                .collect(),
            evented: status.evented.as_ref().map(evented),
            generic: status.generic.as_ref().map(generic),
            arbitration: status.arbitration.as_ref().map(arbitration),
            journal: status.journal.as_ref().map(|journal| Journal {
                head: position(journal.head.as_ref()),
                oldest: journal.oldest,
                bytes: journal.bytes,
                subscribers: journal.subscribers,
                gaps: journal.gaps,
                gaps_came_late: journal.gaps_came_late,
                gaps_of_epoch: journal.gaps_of_epoch,
            }),
            census: status.census.as_ref().map(|census| Census {
                pods: census.pods,
                ready_pods: census.ready_pods,
                containers: census.containers,
                running_containers: census.running_containers,
            }),
            resident_bytes: status.resident_bytes,
            cpu_time_seconds: seconds(status.cpu_time.as_ref()),
            config_rejected: status.config_rejected,
            config_keys_awaiting_restart: status.config_keys_awaiting_restart,
            state: status.state.as_ref().map(state),
        }
    }
}

fn evented(path: &v1::EventedPath) -> Evented<'_> {
    Evented {
        up: path.up,
        since: time(path.since.as_ref()),
        state: &path.state,
        messages: path.messages,
        last_message_at: time(path.last_message_at.as_ref()),
        connects: path.connects,
        disconnects: path.disconnects,
        first: path.first,
        detection: path.detection.as_ref().map(latency),
        missed: path
            .missed
            .iter()
            .map(|missed| Missed { r#type: &missed.r#type, count: missed.count })
            .collect(),
        yielded_since: time(path.yielded_since.as_ref()),
        retry_at: time(path.retry_at.as_ref()),
    }
}

fn generic(path: &v1::GenericPath) -> Generic<'_> {
    Generic {
        period_seconds: seconds(path.period.as_ref()),
        relists: path.relists,
        failures: path.failures,
        last_success_at: time(path.last_success_at.as_ref()),
        duration: path.duration.as_ref().map(latency),
        first: path.first,
        detection: path.detection.as_ref().map(latency),
        first_by_read: path.first_by_read,
        consecutive_failures: path.consecutive_failures,
        failing_since: time(path.failing_since.as_ref()),
        last_error: &path.last_error,
        unreadable: path.unreadable,
    }
}

fn latency(all: &v1::Latency) -> Latency {
    Latency {
        count: all.count,
        p50_seconds: seconds(all.p50.as_ref()),
        p99_seconds: seconds(all.p99.as_ref()),
    }
}

fn arbitration(all: &v1::Arbitration) -> Arbitration {
    Arbitration {
        seen_by_both: all.seen_by_both,
        seen_by_event_only: all.seen_by_event_only,
        seen_by_relist_only: all.seen_by_relist_only,
        stale: all.stale,
        dead: all.dead,
        backward: all.backward,
        corrected: all.corrected,
    }
}

fn state(all: &v1::State) -> State {
    State {
        active: all.active,
        bytes: all.bytes,
        restarts: all.restarts,
        epoch_began_at: time(all.epoch_began_at.as_ref()),
        restored: all.restored,
        errors: all.errors,
    }
}
