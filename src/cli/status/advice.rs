//! Problems that need the attention of an operator, each with the action to take.
//!
//! Pure rules over plegd's status. A normal state or a permanent property of a runtime is not a problem.

use std::time::Duration;

use prost_types::Timestamp;

use super::View;
use crate::{
    cli::subscribers::{called, own_gaps},
    clock::Wall,
    cri::quirks::Quirk,
    print::text::{Tone, age, count, counted, date_and_time, duration, latency, span, until, wall},
    v1::{EventedPath, Mode},
};

/// A shorter interruption is a warning, a longer one an error.
const SHORT_OUTAGE: Duration = Duration::from_secs(10);
/// Minimum delay of a relist that counts as late.
const LATE: Duration = Duration::from_secs(30);
/// Minimum latency of the 99th percentile that is reported.
const HIGH_LATENCY: Duration = Duration::from_secs(1);
/// Minimum number of samples for a percentile.
const MIN_SAMPLES: u64 = 100;

/// Minimum number of consecutive failed relists after which listing counts as failing.
const MIN_FAILURES: u32 = 2;

/// The runtime cannot be listed.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Unlisted<'a> {
    /// Number of consecutive failed relists.
    pub(in crate::cli) failures: u32,
    /// The time of the first failure.
    pub(in crate::cli) since: Wall,
    /// The time since the first failure.
    pub(in crate::cli) lasting: Duration,
    /// The error of the last relist.
    error: &'a str,
}

/// A problem and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Advice {
    /// `Bad` or `Warn`.
    pub(in crate::cli) tone: Tone,
    /// The problem and the action to take.
    pub(in crate::cli) text: String,
}

/// All problems, errors before warnings.
pub(in crate::cli) fn advice(view: &View<'_>) -> Vec<Advice> {
    let rules = [
        not_ready,
        config_rejected,
        unlisted,
        yielded,
        stream_down,
        relist_late,
        unreadable,
        misses,
        late_events,
        lag,
        gaps,
        state_lost,
        config_waits,
    ];
    let mut found: Vec<Advice> = rules.iter().filter_map(|rule| rule(view)).collect();
    found.sort_by_key(|advice| advice.tone != Tone::Bad);
    found
}

/// The state is not written.
fn state_lost(view: &View<'_>) -> Option<Advice> {
    let state = view.status.state.filter(|state| !state.active && state.errors > 0)?;
    let text = format!(
        "The state on disk is not written ({}): a restart of plegd now begins a new epoch, and subscribers get a gap. See the log or \
         /readyz?verbose for the cause; check the space, owner and mode of state.directory. plegd retries every minute.",
        counted(state.errors, "error")
    );
    Some(Advice { tone: Tone::Warn, text })
}

/// Whether the runtime has this quirk. Only the letters of names are compared, not their separators.
pub(super) fn has(view: &View<'_>, quirk: Quirk) -> bool {
    let letters = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let name = letters(&format!("{quirk:?}"));
    view.status.quirks.iter().any(|known| letters(&known.name) == name)
}

/// The missed events by type: `2 stopped, 1 deleted`.
pub(super) fn missed_by_type(evented: &EventedPath) -> String {
    let by_type = evented.missed.iter().filter(|missed| missed.count > 0);
    by_type.map(|missed| format!("{} {}", count(missed.count), missed.r#type)).collect::<Vec<_>>().join(", ")
}

/// The number of missed events of all types.
pub(super) fn missed(evented: &EventedPath) -> u64 {
    evented.missed.iter().map(|missed| missed.count).sum()
}

/// The number of events in the journal.
pub(in crate::cli) fn held(view: &View<'_>) -> u64 {
    let Some(journal) = &view.status.journal else { return 0 };
    let head = journal.head.map_or(0, |head| head.sequence);
    head.saturating_add(1).saturating_sub(journal.oldest)
}

/// The command that shows the log of the runtime.
fn log_of(view: &View<'_>) -> String {
    let name = view.status.runtime.as_ref().map_or("", |runtime| runtime.name.as_str());
    let unit = match name.to_ascii_lowercase().as_str() {
        "cri-o" => "crio".to_owned(),
        "" => "containerd".to_owned(),
        name => name.to_owned(),
    };
    format!("`journalctl -u {unit}`")
}

/// Set if listing the runtime fails. No message may then mention relists as a replacement or a check of the stream.
pub(in crate::cli) fn cannot_list<'a>(view: &View<'a>) -> Option<Unlisted<'a>> {
    let generic =
        view.status.generic.as_ref().filter(|generic| generic.consecutive_failures >= MIN_FAILURES)?;
    let since = generic.failing_since.as_ref()?;
    Some(Unlisted {
        failures: generic.consecutive_failures,
        since: wall(since),
        lasting: age(view.now, since),
        error: &generic.last_error,
    })
}

fn bad(text: String) -> Option<Advice> {
    Some(Advice { tone: Tone::Bad, text })
}

fn warn(text: String) -> Option<Advice> {
    Some(Advice { tone: Tone::Warn, text })
}

fn not_ready(view: &View<'_>) -> Option<Advice> {
    if view.status.ready {
        return None;
    }
    let failed = cannot_list(view).map(|it| {
        format!(" {} in a row failed, the last with: {}.", counted(it.failures, "relist"), it.error)
    });
    let failed = failed.unwrap_or_default();
    bad(match &view.status.runtime {
        None => format!(
            "Not ready: the runtime has not answered yet.{failed} Check that it is running: use `plegd check`, and check \
             the key runtime.endpoint."
        ),
        Some(_) => format!(
            "Not ready: the first relist is not complete.{failed} If this takes longer than a minute, check with \
             `plegd check` whether the runtime answers."
        ),
    })
}

fn unlisted(view: &View<'_>) -> Option<Advice> {
    let it = cannot_list(view).filter(|_| view.status.ready)?;
    let last = view.status.generic.as_ref().and_then(|generic| generic.last_success_at.as_ref());
    let as_of = last.map_or("then".into(), |last| date_and_time(wall(last)));
    let served = match &view.status.evented {
        Some(evented) if evented.up => {
            format!("Served state is as of {as_of}, updated by events only; nothing checks the event stream")
        }
        Some(evented) if !has(view, Quirk::NoEvents) => {
            format!("The event stream is also down ({}). Served state is as of {as_of}", evented.state)
        }
        _ => format!("Served state is as of {as_of}"),
    };
    let text = format!(
        "The runtime cannot be listed since {} ({}): {} in a row failed, the last with: {}. {served}. Check that the \
         runtime is running and that `crictl ps` works; see {}. plegd retries automatically.",
        date_and_time(it.since),
        span(it.lasting),
        counted(it.failures, "relist"),
        it.error,
        log_of(view),
    );
    if it.lasting < SHORT_OUTAGE { warn(text) } else { bad(text) }
}

/// If plegd yielded the stream to another subscriber: when it did, and when it retries.
pub(in crate::cli) fn gave_way<'a>(view: &View<'a>) -> Option<(&'a Timestamp, &'a Timestamp)> {
    let evented = view.status.evented.as_ref()?;
    Some((evented.yielded_since.as_ref()?, evented.retry_at.as_ref()?))
}

fn yielded(view: &View<'_>) -> Option<Advice> {
    let (since, retry_at) = gave_way(view)?;
    // plegd does not poll while listing fails.
    let polling = if cannot_list(view).is_some() { "" } else { "; polling" };
    warn(format!(
        "plegd yielded the shared event stream to another subscriber{polling}. This runtime delivers each event to one subscriber \
         only; since {} the other one receives all events. Disable EventedPLEG in the kubelet, stop `crictl events`, or \
         upgrade to containerd 2.x. plegd retries the stream in {}; with stream.shared = \"compete\" it would keep the stream.",
        date_and_time(wall(since)),
        span(until(view.now, retry_at)),
    ))
}

fn stream_down(view: &View<'_>) -> Option<Advice> {
    let evented = view.status.evented.as_ref().filter(|evented| !evented.up)?;
    if gave_way(view).is_some() {
        return None;
    }
    // A runtime without events is not a problem: the mode describes it. If the runtime answers no call, other advice applies.
    let unanswered = overdue(view).is_some() || cannot_list(view).is_some();
    if has(view, Quirk::NoEvents) || !view.status.ready || unanswered {
        return None;
    }
    if evented.state.contains("stream.enabled") {
        return warn(
            "The event stream is disabled in the configuration. Set stream.enabled = true to use it.".into(),
        );
    }
    if has(view, Quirk::EventsOffByDefault) && evented.messages == 0 {
        return warn(
            "The event stream is down. CRI-O sends no events by default: set enable_pod_events = true under [crio.runtime] \
             in /etc/crio/crio.conf.d/10-plegd.conf, then restart CRI-O."
                .into(),
        );
    }
    let down = evented.since.as_ref().map(|since| age(view.now, since));
    let text = format!(
        "The event stream is down{}{}. plegd relists instead and reconnects automatically. Containers with a lifetime shorter \
         than a relist period may be missed. If the stream stays down, see {}.",
        down.map(|down| format!(" for {}", span(down))).unwrap_or_default(),
        if evented.state.is_empty() { String::new() } else { format!(" ({})", evented.state) },
        log_of(view),
    );
    if down.is_some_and(|down| down < SHORT_OUTAGE) { warn(text) } else { bad(text) }
}

fn relist_late(view: &View<'_>) -> Option<Advice> {
    let (last, period) = overdue(view).filter(|_| cannot_list(view).is_none())?;
    let (last, period, log) = (span(last), span(period), log_of(view));
    let evented = view.status.evented.as_ref();
    match evented.filter(|evented| !evented.up && !has(view, Quirk::NoEvents)) {
        Some(evented) => bad(format!(
            "The runtime does not answer: no relist was complete for {last}, and the event stream is down ({}). Check that it \
             is running; see {log}. plegd reconnects automatically.",
            evented.state,
        )),
        None => bad(format!(
            "No relist was complete for {last}, though one is due every {period}: the runtime does not answer list calls. \
             Check whether `crictl ps` works; see {log}."
        )),
    }
}

/// The time since the last complete relist, and the period, if the relist is far too late.
fn overdue(view: &View<'_>) -> Option<(Duration, Duration)> {
    let generic = view.status.generic.as_ref()?;
    let last = age(view.now, generic.last_success_at.as_ref()?);
    let period = duration(generic.period.as_ref());
    (last >= (period.saturating_mul(3)).max(period.saturating_add(LATE))).then_some((last, period))
}

/// Objects that the runtime lists, but whose status it does not return.
fn unreadable(view: &View<'_>) -> Option<Advice> {
    let unreadable = view.status.generic.as_ref()?.unreadable;
    if unreadable == 0 || cannot_list(view).is_some() {
        return None;
    }
    warn(format!(
        "{} (containers or sandboxes) cannot be read: the runtime lists them, but does not return their status. Their state is served \
         as listed, without exit codes. The log of plegd has each id and error; `crictl inspect` or `crictl inspectp` shows the \
         same error. Remove the pod or restart the runtime.",
        counted(unreadable, "object"),
    ))
}

fn misses(view: &View<'_>) -> Option<Advice> {
    let evented = view.status.evented.as_ref().filter(|evented| missed(evented) > 0)?;
    if view.status.mode() != Mode::Probing || cannot_list(view).is_some() {
        return None;
    }
    let why = if has(view, Quirk::SharedChannel) {
        "Subscribers take events from each other on this runtime. Disable EventedPLEG in the kubelet, or stop `crictl \
         events`. After further missed events, plegd yields the stream, unless stream.shared is compete."
    } else {
        "Relists detected them, and stay frequent until the stream is trusted again."
    };
    warn(format!(
        "The stream has missed {} ({}). {why}",
        counted(missed(evented), "event"),
        missed_by_type(evented)
    ))
}

fn late_events(view: &View<'_>) -> Option<Advice> {
    let detection = view.status.evented.as_ref()?.detection.as_ref()?;
    let p99 = duration(detection.p99.as_ref());
    if detection.count < MIN_SAMPLES || p99 < HIGH_LATENCY {
        return None;
    }
    warn(format!(
        "The 99th percentile of the event latency is {}. Check whether the node lacks CPU or its clock was stepped.",
        latency(p99)
    ))
}

/// A subscriber that is about to lose events. Only a full journal evicts events.
fn lag(view: &View<'_>) -> Option<Advice> {
    let full = view.status.journal.as_ref().is_some_and(|journal| journal.oldest > 1);
    let slowest = view.slowest().filter(|slowest| full && slowest.lag.saturating_mul(2) > held(view))?;
    warn(format!(
        "Subscriber {} ({}) is {} events behind; at {} it loses events. `plegd subscribers` lists all, `plegd subscribers \
         disconnect {}` disconnects it.",
        slowest.id,
        called(slowest),
        count(slowest.lag),
        count(held(view)),
        slowest.id,
    ))
}

fn config_rejected(view: &View<'_>) -> Option<Advice> {
    if !view.status.config_rejected {
        return None;
    }
    bad("The new configuration is invalid: the previous one stays effective, and the next start would fail. Run `plegd config \
         check` to see the errors."
        .into())
}

fn config_waits(view: &View<'_>) -> Option<Advice> {
    let waiting = view.status.config_keys_awaiting_restart;
    (waiting > 0).then(|| Advice {
        tone: Tone::Warn,
        text: format!(
            "{} changed and require a restart; `plegd config running` shows the effective configuration.",
            counted(waiting, "key") + if waiting == 1 { " was" } else { " were" },
        ),
    })
}

/// Gaps that a subscriber caused. Gaps after a restart of plegd need no action: the subscriber got a snapshot.
fn gaps(view: &View<'_>) -> Option<Advice> {
    let worst = view.subscribers.iter().max_by_key(|subscriber| own_gaps(subscriber))?;
    let times = own_gaps(worst);
    (times > 0).then(|| Advice {
        tone: Tone::Warn,
        text: format!(
            "Subscriber {} ({}) lost events {}: it reads too slowly, was disconnected for too long, or the journal is too \
             small (journal.events, journal.bytes).",
            worst.id,
            called(worst),
            if times == 1 { "once".into() } else { format!("{} times", count(times)) },
        ),
    })
}
