//! The screen of `plegd status`, as a text. Pure.

use std::time::Duration;

use prost_types::Timestamp;

use super::{
    View,
    advice::{advice, cannot_list, gave_way, has, held, missed, missed_by_type},
};
use crate::{
    cli::subscribers::called,
    cri::quirks::Quirk,
    print::{
        answer::position,
        sheet::{Sheet, StyledText},
        text::{
            Paint, Tone, age, bytes, count, counted, date_and_time, duration, latency, span, until, wall,
        },
    },
    v1::{EventedPath, GenericPath, Latency, Mode},
};

/// The column at which the left one of two columns begins.
const LEFT: usize = 16;

/// The form in which the runtime's quirks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Quirks {
    /// Their names.
    Names,
    /// Their meanings, one line each.
    Meaning,
}

/// plegd's status on one screen of this width.
pub(in crate::cli) fn screen(view: &View<'_>, quirks: Quirks, width: usize, paint: Paint) -> String {
    let mut sheet = Sheet::new(width, paint);
    node(view, &mut sheet);
    mode(view, &mut sheet);
    runtime(view, quirks, &mut sheet);
    sheet.blank();
    paths(view, width, &mut sheet);
    sheet.blank();
    outcome(view, &mut sheet);
    sheet.blank();
    attention(view, usize::MAX, &mut sheet);
    sheet.into_text()
}

/// At most `limit` problems.
pub(in crate::cli) fn attention(view: &View<'_>, limit: usize, sheet: &mut Sheet) {
    let advice = advice(view);
    if advice.is_empty() {
        sheet.line(&[StyledText::new(Tone::Good, "Nothing needs attention.")]);
    }
    for it in advice.iter().take(limit) {
        let mark = if it.tone == Tone::Bad { "!!" } else { "!" };
        sheet.marked(mark, it.tone, &it.text);
    }
}

/// The mode, such as `evented`, and its tone.
pub(in crate::cli) fn mode_name(view: &View<'_>) -> StyledText {
    match view.status.mode() {
        Mode::Evented => StyledText::new(Tone::Good, "evented"),
        Mode::Probing => StyledText::new(Tone::Warn, "probing"),
        Mode::Polling if has(view, Quirk::NoEvents) || gave_way(view).is_some() => {
            StyledText::new(Tone::Warn, "polling")
        }
        Mode::Polling => StyledText::new(Tone::Bad, "polling"),
        Mode::Unspecified => "unknown".into(),
    }
}

fn node(view: &View<'_>, sheet: &mut Sheet) {
    let status = view.status;
    let ready = match (status.ready, cannot_list(view)) {
        (false, _) => StyledText::new(Tone::Bad, "NOT READY"),
        (true, Some(_)) => StyledText::new(Tone::Bad, "STALE"),
        (true, None) => StyledText::new(Tone::Good, "READY"),
    };
    let up = status
        .started_at
        .as_ref()
        .map(|at| format!(", up {} since {}", span(age(view.now, at)), date_and_time(wall(at))));
    let text = format!("  {}, plegd {}{}", status.node_name, status.version, up.unwrap_or_default());
    sheet.labelled("NODE", &[ready, text.into()]);
}

fn mode(view: &View<'_>, sheet: &mut Sheet) {
    let status = view.status;
    let up = status.evented.as_ref().is_some_and(|evented| evented.up);
    let period = period(status.generic.as_ref());
    let unlisted = cannot_list(view).map(|it| format!("no list for {}", span(it.lasting)));
    let why = match (status.mode(), unlisted) {
        (Mode::Unspecified, _) => String::new(),
        (_, Some(unlisted)) if up => format!("{unlisted}, so nothing checks the stream"),
        (_, Some(unlisted)) if has(view, Quirk::NoEvents) => unlisted,
        (_, Some(unlisted)) if gave_way(view).is_some() => format!("{unlisted}, and the stream is yielded"),
        (_, Some(unlisted)) => format!("{unlisted}, and the stream is down"),
        (Mode::Evented, None) => format!("the stream is trusted, a relist every {period} checks it"),
        (Mode::Probing, None) => format!("the stream is up, a relist every {period} tests it"),
        (Mode::Polling, None) if up => format!("a relist every {period}"),
        (Mode::Polling, None) if has(view, Quirk::NoEvents) => {
            format!("this runtime has no events, only a relist every {period}")
        }
        (Mode::Polling, None) if gave_way(view).is_some() => {
            format!("the stream is yielded, a relist every {period} instead")
        }
        (Mode::Polling, None) => format!("the stream is down, a relist every {period} instead"),
    };
    let since = status.mode_since.as_ref().map(|at| format!(" for {}", span(age(view.now, at))));
    let why = if why.is_empty() { why } else { format!(": {why}") };
    sheet.labelled("MODE", &[mode_name(view), since.unwrap_or_default().into(), why.into()]);
}

fn runtime(view: &View<'_>, quirks: Quirks, sheet: &mut Sheet) {
    let status = view.status;
    match &status.runtime {
        Some(runtime) => {
            let text = format!("{} {}, CRI {}", runtime.name, runtime.version, runtime.api_version);
            sheet.labelled("RUNTIME", &[text.into()]);
        }
        None => {
            sheet.labelled("RUNTIME", &[StyledText::new(Tone::Bad, "not known: it has not answered yet")])
        }
    }
    match quirks {
        Quirks::Names => {
            let names: Vec<&str> = status.quirks.iter().map(|quirk| quirk.name.as_str()).collect();
            sheet.paragraph("QUIRKS", Tone::Dim, &names.join(", "));
        }
        Quirks::Meaning => {
            for (n, quirk) in status.quirks.iter().enumerate() {
                let label = if n == 0 { "QUIRKS" } else { "" };
                sheet.paragraph(label, Tone::Plain, &format!("{}: {}", quirk.name, quirk.summary));
            }
        }
    }
}

/// The two detection paths, side by side.
fn paths(view: &View<'_>, width: usize, sheet: &mut Sheet) {
    let half = (width - LEFT) / 2;
    let mut row = |label: &str, left: StyledText, right: StyledText| {
        let gap = half.saturating_sub(left.width());
        let label = StyledText::new(Tone::Heading, format!("{label:LEFT$}"));
        sheet.line(&[label, left.cut(half - 1), " ".repeat(gap.max(1)).into(), right]);
    };
    let none = EventedPath::default();
    let evented = view.status.evented.as_ref().unwrap_or(&none);
    let none = GenericPath::default();
    let generic = view.status.generic.as_ref().unwrap_or(&none);
    let ago =
        |at: Option<&Timestamp>| at.map_or("never".into(), |at| format!("{} ago", span(age(view.now, at))));

    row("PATHS", StyledText::new(Tone::Heading, "EVENTED"), StyledText::new(Tone::Heading, "GENERIC"));
    row("state", stream_state(view, evented), relist_state(view, generic));
    row("last activity", ago(evented.last_message_at.as_ref()).into(), {
        let tone = if generic.last_success_at.is_some() { Tone::Plain } else { Tone::Bad };
        StyledText::new(tone, ago(generic.last_success_at.as_ref()))
    });
    row("in all", counted(evented.messages, "message").into(), {
        let failed = format!(", {} failed", count(generic.failures));
        let tone = Tone::warn_if(generic.failures > 0);
        StyledText::new(tone, counted(generic.relists, "relist") + &failed)
    });
    row(
        "",
        format!("{}, {} lost", counted(evented.connects, "connect"), count(evented.disconnects)).into(),
        format!("each took {}", percentiles(generic.duration.as_ref())).into(),
    );
    let all = evented.first + generic.first + generic.first_by_read;
    let share = if all == 0 {
        String::new()
    } else {
        format!(" ({:.1}%)", 100.0 * evented.first as f64 / all as f64)
    };
    row(
        "seen first",
        format!("{}{share}", count(evented.first)).into(),
        format!("{} by relist, {} by read", count(generic.first), count(generic.first_by_read)).into(),
    );
    row(
        "detection",
        percentiles(evented.detection.as_ref()).into(),
        percentiles(generic.detection.as_ref()).into(),
    );
    let by_type = match missed(evented) {
        0 => "0".to_owned(),
        all => format!("{}: {}", count(all), missed_by_type(evented)),
    };
    row("missed", StyledText::new(Tone::warn_if(missed(evented) > 0), by_type), "".into());
}

fn relist_state(view: &View<'_>, generic: &GenericPath) -> StyledText {
    match (generic.period, cannot_list(view)) {
        (_, Some(it)) => StyledText::new(
            Tone::Bad,
            format!("failing {}, {} in a row", span(it.lasting), count(it.failures)),
        ),
        (None, None) => "not begun".into(),
        (Some(_), None) => format!("a relist every {}", period(Some(generic))).into(),
    }
}

fn stream_state(view: &View<'_>, evented: &EventedPath) -> StyledText {
    let for_so_long =
        evented.since.as_ref().map(|at| format!(" {}", span(age(view.now, at)))).unwrap_or_default();
    if evented.up {
        return StyledText::new(Tone::Good, format!("up{for_so_long}"));
    }
    if let Some((since, retry_at)) = gave_way(view) {
        let (since, retry) = (span(age(view.now, since)), span(until(view.now, retry_at)));
        return StyledText::new(Tone::Warn, format!("yielded {since}, retry in {retry}"));
    }
    let tone = if has(view, Quirk::NoEvents) { Tone::Warn } else { Tone::Bad };
    let state = if evented.state.is_empty() { String::new() } else { format!(": {}", evented.state) };
    StyledText::new(tone, format!("down{for_so_long}{state}"))
}

/// The results: the arbiter, the node, the journal, the subscribers, the process.
fn outcome(view: &View<'_>, sheet: &mut Sheet) {
    let status = view.status;
    let arbitration = status.arbitration.unwrap_or_default();
    sheet.labelled(
        "ARBITER",
        &[format!(
            "{} seen by both, {} by events only, {} by relists only",
            count(arbitration.seen_by_both),
            count(arbitration.seen_by_event_only),
            count(arbitration.seen_by_relist_only),
        )
        .into()],
    );
    sheet.labelled(
        "",
        &[format!(
            "refused {} stale, {} dead, {} backward; {} corrected",
            count(arbitration.stale),
            count(arbitration.dead),
            count(arbitration.backward),
            count(arbitration.corrected),
        )
        .into()],
    );
    sheet.labelled("PODS", &[census(view).into()]);
    let journal = status.journal.unwrap_or_default();
    sheet.labelled(
        "JOURNAL",
        &[format!(
            "head {}, holds {}, {}",
            position(journal.head.as_ref()).unwrap_or("-".into()),
            counted(held(view), "event"),
            bytes(journal.bytes),
        )
        .into()],
    );
    let state = status.state.unwrap_or_default();
    let began =
        state.epoch_began_at.as_ref().map(|at| format!(", epoch began {} ago", span(age(view.now, at))));
    let kept = match state.active {
        true => format!("kept, {}", bytes(state.bytes)),
        false => "not kept: a restart of plegd begins a new epoch".to_owned(),
    };
    let restarts = counted(u64::from(state.restarts), "restart");
    sheet.labelled("STATE", &[format!("{kept}{}, {restarts}", began.unwrap_or_default()).into()]);
    let slowest = view.slowest().filter(|slowest| slowest.lag > 0).map(|slowest| {
        format!(", the slowest {} behind ({}: {})", count(slowest.lag), slowest.id, called(slowest))
    });
    let gaps = journal.gaps + journal.gaps_came_late;
    let restarts = (journal.gaps_of_epoch > 0)
        .then(|| format!(", {} after a restart of plegd", counted(journal.gaps_of_epoch, "gap")));
    sheet.labelled(
        "WATCHERS",
        &[
            counted(journal.subscribers, "subscriber").into(),
            StyledText::new(Tone::warn_if(gaps > 0), format!(", {}", counted(gaps, "gap"))),
            restarts.unwrap_or_default().into(),
            slowest.unwrap_or_default().into(),
        ],
    );
    let cpu = duration(status.cpu_time.as_ref());
    let share = status.started_at.as_ref().map(|at| age(view.now, at)).filter(|up| *up > Duration::ZERO);
    let share =
        share.map(|up| format!(" ({:.2}% of one core)", 100.0 * cpu.as_secs_f64() / up.as_secs_f64()));
    sheet.labelled(
        "PROCESS",
        &[format!(
            "{} resident, {} of CPU{}",
            bytes(status.resident_bytes),
            span(cpu),
            share.unwrap_or_default(),
        )
        .into()],
    );
}

/// `44 pods (43 ready), 132 containers (120 running)`.
pub(in crate::cli) fn census(view: &View<'_>) -> String {
    let census = view.status.census.unwrap_or_default();
    format!(
        "{} ({} ready), {} ({} running)",
        counted(census.pods, "pod"),
        count(census.ready_pods),
        counted(census.containers, "container"),
        count(census.running_containers),
    )
}

/// The current relist period.
fn period(generic: Option<&GenericPath>) -> String {
    let period = generic.and_then(|generic| generic.period.as_ref());
    period.map_or("-".into(), |period| span(duration(Some(period))))
}

fn percentiles(latencies: Option<&Latency>) -> String {
    match latencies.filter(|latencies| latencies.count > 0) {
        None => "-".into(),
        Some(all) => {
            let [p50, p99] = [&all.p50, &all.p99].map(|part| latency(duration(part.as_ref())));
            format!("p50 {p50}, p99 {p99}")
        }
    }
}
