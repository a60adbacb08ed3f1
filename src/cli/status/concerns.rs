//! What an operator should look at, each in a sentence or two with what to do about it.
//!
//! Pure rules over what plegd tells of itself. What is in order, and what a runtime is like for good, is no concern.

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

/// A stream that is lost is mostly back within this time.
const HICCUP: Duration = Duration::from_secs(10);
/// By how much a relist may be late before that is told, at least.
const LATE: Duration = Duration::from_secs(30);
/// Events later than this are of little use for what plegd is for.
const SLOW: Duration = Duration::from_secs(1);
/// From how few events on a percentile says something.
const ENOUGH: u64 = 100;

/// From so many failed relists in a row on the runtime counts as one that cannot be listed.
const PERSISTENT: u32 = 2;

/// The runtime cannot be listed.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Unlisted<'a> {
    /// Relists that failed in a row.
    pub(in crate::cli) failures: u32,
    /// Since when.
    pub(in crate::cli) since: Wall,
    /// For how long.
    pub(in crate::cli) lasting: Duration,
    /// Why the last one failed.
    error: &'a str,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Concern {
    /// `Bad` or `Warn`.
    pub(in crate::cli) tone: Tone,
    /// What is the matter and what to do.
    pub(in crate::cli) text: String,
}

/// All there is to look at, the worst first.
pub(in crate::cli) fn concerns(view: &View<'_>) -> Vec<Concern> {
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
        config_waits,
    ];
    let mut found: Vec<Concern> = rules.iter().filter_map(|rule| rule(view)).collect();
    found.sort_by_key(|concern| concern.tone != Tone::Bad);
    found
}

/// Whether the runtime is known to have this quirk. Names are compared by their letters alone, however they are joined.
pub(super) fn has(view: &View<'_>, quirk: Quirk) -> bool {
    let letters = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let name = letters(&format!("{quirk:?}"));
    view.status.quirks.iter().any(|known| letters(&known.name) == name)
}

/// The misses by type: `2 stopped, 1 deleted`.
pub(super) fn missed_by_type(evented: &EventedPath) -> String {
    let by_type = evented.missed.iter().filter(|missed| missed.count > 0);
    by_type.map(|missed| format!("{} {}", count(missed.count), missed.r#type)).collect::<Vec<_>>().join(", ")
}

/// The misses of all types.
pub(super) fn missed(evented: &EventedPath) -> u64 {
    evented.missed.iter().map(|missed| missed.count).sum()
}

/// How many events the journal holds.
pub(in crate::cli) fn held(view: &View<'_>) -> u64 {
    let Some(journal) = &view.status.journal else { return 0 };
    let head = journal.head.map_or(0, |head| head.sequence);
    head.saturating_add(1).saturating_sub(journal.oldest)
}

/// Where the runtime's own log is.
fn log_of(view: &View<'_>) -> String {
    let name = view.status.runtime.as_ref().map_or("", |runtime| runtime.name.as_str());
    let unit = match name.to_ascii_lowercase().as_str() {
        "cri-o" => "crio".to_owned(),
        "" => "containerd".to_owned(),
        name => name.to_owned(),
    };
    format!("`journalctl -u {unit}`")
}

/// Whether the runtime cannot be listed. Nothing may then be said of relists that come instead of the stream, or check it.
pub(in crate::cli) fn cannot_list<'a>(view: &View<'a>) -> Option<Unlisted<'a>> {
    let generic =
        view.status.generic.as_ref().filter(|generic| generic.consecutive_failures >= PERSISTENT)?;
    let since = generic.failing_since.as_ref()?;
    Some(Unlisted {
        failures: generic.consecutive_failures,
        since: wall(since),
        lasting: age(view.now, since),
        error: &generic.last_error,
    })
}

fn bad(text: String) -> Option<Concern> {
    Some(Concern { tone: Tone::Bad, text })
}

fn warn(text: String) -> Option<Concern> {
    Some(Concern { tone: Tone::Warn, text })
}

fn not_ready(view: &View<'_>) -> Option<Concern> {
    if view.status.ready {
        return None;
    }
    let failed = cannot_list(view).map(|it| {
        format!(" {} in a row failed, the last with: {}.", counted(it.failures, "relist"), it.error)
    });
    let failed = failed.unwrap_or_default();
    bad(match &view.status.runtime {
        None => format!(
            "Not ready: the runtime has not answered yet.{failed} Is it running? `plegd check` tries it; the key \
             runtime.endpoint says where it is looked for."
        ),
        Some(_) => format!(
            "Not ready: the first relist is not complete.{failed} If this lasts longer than a minute, look whether the \
             runtime still answers: `plegd check`."
        ),
    })
}

fn unlisted(view: &View<'_>) -> Option<Concern> {
    let it = cannot_list(view).filter(|_| view.status.ready)?;
    let last = view.status.generic.as_ref().and_then(|generic| generic.last_success_at.as_ref());
    let as_of = last.map_or("then".into(), |last| date_and_time(wall(last)));
    let served = match &view.status.evented {
        Some(evented) if evented.up => format!(
            "What is served is as of {as_of}, plus what events report; nothing checks the event stream"
        ),
        Some(evented) if !has(view, Quirk::NoEvents) => {
            format!("The event stream is down, too ({}). What is served is as of {as_of}", evented.state)
        }
        _ => format!("What is served is as of {as_of}"),
    };
    let text = format!(
        "The runtime cannot be listed since {} ({}): {} in a row failed, the last with: {}. {served}. Is the runtime running, \
         and does `crictl ps` hang? {} may say why. plegd tries again by itself.",
        date_and_time(it.since),
        span(it.lasting),
        counted(it.failures, "relist"),
        it.error,
        log_of(view),
    );
    if it.lasting < HICCUP { warn(text) } else { bad(text) }
}

/// Whether the stream is closed for another subscriber: since when, and when it is tried again.
pub(in crate::cli) fn gave_way<'a>(view: &View<'a>) -> Option<(&'a Timestamp, &'a Timestamp)> {
    let evented = view.status.evented.as_ref()?;
    Some((evented.yielded_since.as_ref()?, evented.retry_at.as_ref()?))
}

fn yielded(view: &View<'_>) -> Option<Concern> {
    let (since, retry_at) = gave_way(view)?;
    // Where nothing can be listed, nobody polls.
    let polling = if cannot_list(view).is_some() { "" } else { "; polling" };
    warn(format!(
        "plegd yielded the shared event stream to another subscriber{polling}. This runtime delivers each event to one subscriber \
         only; since {} the other one receives them all. Is the kubelet's EventedPLEG on, or `crictl events` running? End it, \
         or upgrade to containerd 2.x. plegd tries the stream again in {}; stream.shared = \"compete\" would keep it.",
        date_and_time(wall(since)),
        span(until(view.now, retry_at)),
    ))
}

fn stream_down(view: &View<'_>) -> Option<Concern> {
    let evented = view.status.evented.as_ref().filter(|evented| !evented.up)?;
    if gave_way(view).is_some() {
        return None;
    }
    // What can never be up is no concern: the mode says what follows from it. Nor is it one where nothing answers at all.
    let unanswered = overdue(view).is_some() || cannot_list(view).is_some();
    if has(view, Quirk::NoEvents) || !view.status.ready || unanswered {
        return None;
    }
    if evented.state.contains("stream.enabled") {
        return warn("The event stream is switched off in plegd's configuration: stream.enabled = true makes use of it.".into());
    }
    if has(view, Quirk::EventsOffByDefault) && evented.messages == 0 {
        return warn(
            "The event stream is down, perhaps as CRI-O sends no events by default: write enable_pod_events = true under \
             [crio.runtime] in /etc/crio/crio.conf.d/10-plegd.conf, then restart CRI-O."
                .into(),
        );
    }
    let down = evented.since.as_ref().map(|since| age(view.now, since));
    let text = format!(
        "The event stream is down{}{}. plegd relists instead and reconnects by itself; what lives shorter than a relist \
         period may be missed. If it does not come back: {}.",
        down.map(|down| format!(" for {}", span(down))).unwrap_or_default(),
        if evented.state.is_empty() { String::new() } else { format!(" ({})", evented.state) },
        log_of(view),
    );
    if down.is_some_and(|down| down < HICCUP) { warn(text) } else { bad(text) }
}

fn relist_late(view: &View<'_>) -> Option<Concern> {
    let (last, period) = overdue(view).filter(|_| cannot_list(view).is_none())?;
    let (last, period, log) = (span(last), span(period), log_of(view));
    let evented = view.status.evented.as_ref();
    match evented.filter(|evented| !evented.up && !has(view, Quirk::NoEvents)) {
        Some(evented) => bad(format!(
            "The runtime does not answer: no relist was complete for {last}, and the event stream is down ({}). Is it \
             running? {log} may say why; plegd comes back by itself once the runtime does.",
            evented.state,
        )),
        None => bad(format!(
            "No relist was complete for {last}, though one is due every {period}: the runtime does not answer its lists. \
             Does `crictl ps` hang too? Then look at {log}."
        )),
    }
}

/// Since when no relist was complete and how often one is due, if that is far too long ago.
fn overdue(view: &View<'_>) -> Option<(Duration, Duration)> {
    let generic = view.status.generic.as_ref()?;
    let last = age(view.now, generic.last_success_at.as_ref()?);
    let period = duration(generic.period.as_ref());
    (last >= (period.saturating_mul(3)).max(period.saturating_add(LATE))).then_some((last, period))
}

/// Misses matter while the stream is not trusted; once it is, they are history.
fn unreadable(view: &View<'_>) -> Option<Concern> {
    let unreadable = view.status.generic.as_ref()?.unreadable;
    if unreadable == 0 || cannot_list(view).is_some() {
        return None;
    }
    warn(format!(
        "{} (containers or sandboxes) cannot be read: the runtime lists them and does not give their status. Their state is served \
         as listed, a death without exit code. plegd's log names each with the error; `crictl inspect` or `crictl inspectp` shows \
         the same. Removing the pod or restarting the runtime may help.",
        counted(unreadable, "object"),
    ))
}

fn misses(view: &View<'_>) -> Option<Concern> {
    let evented = view.status.evented.as_ref().filter(|evented| missed(evented) > 0)?;
    if view.status.mode() != Mode::Probing || cannot_list(view).is_some() {
        return None;
    }
    let why = if has(view, Quirk::SharedChannel) {
        "Subscribers take events from each other on this runtime: is the kubelet's EventedPLEG on, or `crictl events` \
         running? More misses make plegd yield the stream, unless stream.shared is compete."
    } else {
        "Relists have told them, and stay frequent until the stream has been right for a while."
    };
    warn(format!(
        "The stream has missed {} ({}). {why}",
        counted(missed(evented), "event"),
        missed_by_type(evented)
    ))
}

fn late_events(view: &View<'_>) -> Option<Concern> {
    let detection = view.status.evented.as_ref()?.detection.as_ref()?;
    let p99 = duration(detection.p99.as_ref());
    if detection.count < ENOUGH || p99 < SLOW {
        return None;
    }
    warn(format!(
        "1 of 100 events was seen {} late or later: is the node short of CPU, or was its clock stepped?",
        latency(p99)
    ))
}

/// A subscriber for whom events will soon be dropped: only a journal that is full drops any.
fn lag(view: &View<'_>) -> Option<Concern> {
    let full = view.status.journal.as_ref().is_some_and(|journal| journal.oldest > 1);
    let slowest = view.slowest().filter(|slowest| full && slowest.lag.saturating_mul(2) > held(view))?;
    warn(format!(
        "Subscriber {} ({}) is {} events behind; at {} it loses some. `plegd subscribers` shows all, `plegd subscribers \
         disconnect {}` ends it.",
        slowest.id,
        called(slowest),
        count(slowest.lag),
        count(held(view)),
        slowest.id,
    ))
}

fn config_rejected(view: &View<'_>) -> Option<Concern> {
    if !view.status.config_rejected {
        return None;
    }
    bad("The configuration was changed and is not valid: the one before is kept, and the next start would fail. `plegd config \
         check` says what is wrong."
        .into())
}

fn config_waits(view: &View<'_>) -> Option<Concern> {
    let waiting = view.status.config_keys_awaiting_restart;
    (waiting > 0).then(|| Concern {
        tone: Tone::Warn,
        text: format!(
            "{} changed and hold only after a restart; `plegd config running` shows what holds now.",
            counted(waiting, "key") + if waiting == 1 { " was" } else { " were" },
        ),
    })
}

/// Gaps of which a subscriber is the cause. Those of a restart of plegd need no action: the subscriber got a snapshot.
fn gaps(view: &View<'_>) -> Option<Concern> {
    let worst = view.subscribers.iter().max_by_key(|subscriber| own_gaps(subscriber))?;
    let times = own_gaps(worst);
    (times > 0).then(|| Concern {
        tone: Tone::Warn,
        text: format!(
            "Subscriber {} ({}) lost events {}: it reads too slowly, was disconnected for too long, or the journal is too \
             small for it (journal.events, journal.bytes).",
            worst.id,
            called(worst),
            if times == 1 { "once".into() } else { format!("{} times", count(times)) },
        ),
    })
}
