//! One frame of `plegd top`, as a text that fits the screen. Pure.

use super::activity::{Activity, PARTS, Rate, TYPES};
use crate::{
    cli::{
        status::{
            View,
            advice::{cannot_list, gave_way, held},
            screen::{attention, census, mode_name},
        },
        subscribers::{
            called,
            list::{gaps, peer_text},
        },
    },
    clock::Mono,
    print::{
        sheet::{Column, Sheet, Side, StyledText},
        text::{Paint, Tone, age, bytes, count, counted, duration, span},
    },
};

/// The characters of a bar chart, by height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Maximum number of problems shown; `plegd status` shows all.
const MAX_ADVICE: usize = 2;
/// Number of lines for headings and blank lines.
const FRAME: usize = 4;

/// The data of a frame.
pub(super) struct FrameInput<'a> {
    /// plegd's status.
    pub(super) view: View<'a>,
    /// The events of the last minute.
    pub(super) activity: &'a Activity,
    /// Now, on the clock of `activity`.
    pub(super) now: Mono,
    /// The error of the last call to plegd, if it failed.
    pub(super) error: Option<&'a str>,
}

/// The size and the colours of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// In characters.
    pub(super) width: usize,
    /// In lines.
    pub(super) height: usize,
    /// Colours.
    pub(super) paint: Paint,
}

/// The frame, with at most `height` lines.
pub(super) fn frame(input: &FrameInput<'_>, format: Format) -> String {
    let mut head = Sheet::new(format.width, format.paint);
    summary(input, &mut head);
    head.blank();
    rates(input, &mut head);
    let head = head.into_text();

    let available = format.height.saturating_sub(head.lines().count() + FRAME);
    let watching = input.view.subscribers.len();
    // Pods get the remaining lines, at least half of them.
    let for_subscribers = watching.min(available / 2);
    let for_pods = available - for_subscribers;

    let mut rest = Sheet::new(format.width, format.paint);
    rest.blank();
    pods(input, for_pods, &mut rest);
    rest.blank();
    subscribers(input, for_subscribers, &mut rest);
    let text = head + &rest.into_text();
    text.lines().take(format.height).map(|line| format!("{line}\n")).collect()
}

fn summary(input: &FrameInput<'_>, sheet: &mut Sheet) {
    let (view, status) = (&input.view, input.view.status);
    let since = status.mode_since.as_ref().map(|at| format!(" for {}", span(age(view.now, at))));
    sheet.line(&[
        StyledText::new(Tone::Heading, &status.node_name),
        "  ".into(),
        mode_name(view),
        format!("{}  {}", since.unwrap_or_default(), census(view)).into(),
    ]);
    let evented = status.evented.as_ref();
    let up = evented.is_some_and(|evented| evented.up);
    let message = evented.and_then(|evented| evented.last_message_at.as_ref());
    let generic = status.generic.as_ref();
    let relist = generic.and_then(|generic| generic.last_success_at.as_ref());
    let ago = |at| span(age(view.now, at));
    let stream = match gave_way(view) {
        _ if up => "up",
        Some(_) => "yielded",
        None => "down",
    };
    let last = relist.map_or(", none yet".into(), |at| format!(", last {} ago", ago(at)));
    let relists = match cannot_list(view) {
        Some(it) => StyledText::new(
            Tone::Bad,
            format!("relists fail for {}, {} in a row{last}", span(it.lasting), count(it.failures)),
        ),
        None => {
            let period = span(duration(generic.and_then(|generic| generic.period.as_ref())));
            format!("relist every {period}{last}").into()
        }
    };
    sheet.line(&[
        "stream ".into(),
        StyledText::new(if up { Tone::Good } else { Tone::Warn }, stream),
        message.map_or(String::new(), |at| format!(", message {} ago", ago(at))).into(),
        "  ".into(),
        relists,
    ]);
    let journal = status.journal.unwrap_or_default();
    sheet.line(&[format!(
        "journal {}, {}  plegd {}, {} resident",
        counted(held(view), "event"),
        bytes(journal.bytes),
        status.version,
        bytes(status.resident_bytes),
    )
    .into()]);
    match input.error {
        Some(error) => {
            sheet.marked("!!", Tone::Bad, &format!("Not current; retrying: {error}"));
        }
        None => attention(view, MAX_ADVICE, sheet),
    }
}

fn rates(input: &FrameInput<'_>, sheet: &mut Sheet) {
    let known = input.activity.covers(input.now).as_secs();
    let heading = format!("{:<9}{:>8}{:>8}{:>9}  ", "EVENTS", "/s 10s", format!("/s {known}s"), "COUNT");
    sheet.line(&[StyledText::new(Tone::Heading, heading + "LAST MINUTE")]);
    let mut row = |name: &str, rate: &Rate| {
        let tone = if rate.count == 0 { Tone::Dim } else { Tone::Plain };
        let numbers = format!("{name:<9}{:>8.1}{:>8.1}{:>9}  ", rate.recent, rate.average, count(rate.count));
        sheet.line(&[StyledText::new(tone, numbers), StyledText::new(Tone::Dim, bar_chart(&rate.parts))]);
    };
    for (kind, name) in TYPES {
        row(name, &input.activity.rate(Some(kind), input.now));
    }
    row("all", &input.activity.rate(None, input.now));
}

/// A bar for each part, scaled to the highest one; a blank for zero.
fn bar_chart(parts: &[u64; PARTS]) -> String {
    let highest = parts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |part: u64| {
        let step = part.saturating_mul(BARS.len() as u64).div_ceil(highest);
        let step = usize::try_from(step).unwrap_or(BARS.len()).checked_sub(1);
        step.map_or(' ', |step| BARS[step.min(BARS.len() - 1)])
    };
    parts.iter().map(|part| bar(*part)).collect()
}

fn pods(input: &FrameInput<'_>, limit: usize, sheet: &mut Sheet) {
    const COLUMNS: [Column; 5] = [
        Column { heading: "BUSIEST PODS OF THE LAST MINUTE", side: Side::Left, least: Some(0) },
        Column { heading: "EVENTS", side: Side::Right, least: None },
        Column { heading: "STARTED", side: Side::Right, least: None },
        Column { heading: "DIED", side: Side::Right, least: None },
        Column { heading: "OOM", side: Side::Right, least: None },
    ];
    let row = |busy: super::activity::Busy| {
        [
            format!("{}/{}", busy.pod.namespace, busy.pod.name).into(),
            count(busy.events).into(),
            count(busy.started).into(),
            count(busy.died).into(),
            StyledText::new(if busy.oom > 0 { Tone::Bad } else { Tone::Plain }, count(busy.oom)),
        ]
    };
    let rows: Vec<_> = input.activity.busiest(limit).into_iter().map(row).collect();
    sheet.table(&COLUMNS, &rows);
}

fn subscribers(input: &FrameInput<'_>, limit: usize, sheet: &mut Sheet) {
    const COLUMNS: [Column; 6] = [
        Column { heading: "ID", side: Side::Right, least: None },
        Column { heading: "SUBSCRIBER", side: Side::Left, least: Some(0) },
        Column { heading: "PEER", side: Side::Left, least: Some(15) },
        Column { heading: "LAG", side: Side::Right, least: None },
        Column { heading: "EVENTS", side: Side::Right, least: None },
        Column { heading: "GAPS", side: Side::Right, least: None },
    ];
    let mut all: Vec<_> = input.view.subscribers.iter().collect();
    all.sort_by_key(|subscriber| (std::cmp::Reverse(subscriber.lag), subscriber.id));
    let rows: Vec<_> = all
        .into_iter()
        .take(limit)
        .map(|subscriber| {
            [
                subscriber.id.to_string().into(),
                called(subscriber).into(),
                peer_text(subscriber).into(),
                count(subscriber.lag).into(),
                count(subscriber.events).into(),
                gaps(subscriber),
            ]
        })
        .collect();
    sheet.table(&COLUMNS, &rows);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cli::status::tests::{ago, healthy, now, subscriber},
        v1::{Event, EventType, PodIdentity, Subscriber},
    };

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn shown(subscribers: &[Subscriber], error: Option<&str>, height: usize) -> String {
        let mut activity = Activity::new(at(0));
        for n in 0..60_u64 {
            let pod = PodIdentity {
                uid: format!("{}", n % 12),
                namespace: "shop".into(),
                name: format!("cart-{}-\u{1b}[2J", n % 12),
            };
            let (kind, reason) = match n % 3 {
                0 => (EventType::ContainerStarted, ""),
                1 => (EventType::ContainerDied, if n == 4 { "OOMKilled" } else { "Error" }),
                _ => (EventType::ContainerRemoved, ""),
            };
            let event =
                Event { r#type: kind.into(), pod: Some(pod), reason: reason.into(), ..Event::default() };
            activity.observe(at(100 + n), at(100 + n), &event);
        }
        let status = healthy();
        let view = View { status: &status, subscribers, now: now() };
        let input = FrameInput { view, activity: &activity, now: at(159), error };
        frame(&input, Format { width: 80, height, paint: Paint(false) })
    }

    #[test]
    fn a_frame_shows_mode_rates_pods_and_subscribers() {
        let text = shown(&[subscriber(3, "kubelet", 0), subscriber(4, "logger", 40)], None, 24);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(
            text,
            "\
node-7  evented for 2h 13m  44 pods (43 ready), 132 containers (120 running)
stream up, message 1s ago  relist every 1m, last 23s ago
journal 12,365 events, 3.2 MiB  plegd 0.1.0, 11.0 MiB resident
Nothing needs attention.

EVENTS     /s 10s  /s 60s    COUNT  LAST MINUTE
started       0.3     0.3       20  ██ ██ ██ ██ ██ ██ ██ ██ ██ ██
died          0.3     0.3       20  █ ██ ██ ██ ██ ██ ██ ██ ██ ██ █
removed       0.4     0.3       20   ██ ██ ██ ██ ██ ██ ██ ██ ██ ██
changed       0.0     0.0        0
sync          0.0     0.0        0
all           1.0     1.0       60  ██████████████████████████████

BUSIEST PODS OF THE LAST MINUTE EVENTS STARTED DIED OOM
shop/cart-4-\\u{1b}[2J                5       0    5   1
shop/cart-0-\\u{1b}[2J                5       5    0   0
shop/cart-1-\\u{1b}[2J                5       0    5   0
shop/cart-10-\\u{1b}[2J               5       0    5   0
shop/cart-11-\\u{1b}[2J               5       0    0   0
shop/cart-2-\\u{1b}[2J                5       0    0   0

ID SUBSCRIBER PEER   LAG EVENTS GAPS
 4 logger     0/4242  40 12,000    0
 3 kubelet    0/4242   0 12,000    0
"
        );
    }

    #[test]
    fn a_frame_shows_that_the_runtime_cannot_be_listed() {
        let mut status = healthy();
        let generic = status.generic.as_mut().unwrap();
        generic.last_success_at = ago(75);
        generic.consecutive_failures = 8;
        generic.failing_since = ago(70);
        let view = View { status: &status, subscribers: &[], now: now() };
        let input = FrameInput { view, activity: &Activity::new(at(0)), now: at(1), error: None };
        let text = frame(&input, Format { width: 80, height: 24, paint: Paint(false) });
        let second = "stream up, message 1s ago  relists fail for 1m 10s, 8 in a row, last 1m 15s ago";
        assert_eq!(text.lines().nth(1), Some(second), "{text}");
        assert!(text.contains("!! The runtime cannot be listed since"), "{text}");
    }

    #[test]
    fn a_frame_is_never_higher_than_the_screen() {
        let many: Vec<Subscriber> = (0..50).map(|id| subscriber(id, "agent", id)).collect();
        for height in [0, 1, 10, 24, 50] {
            let text = shown(&many, Some("connection refused"), height);
            assert!(text.lines().count() <= height, "{height}: {text}");
        }
        let text = shown(&many, Some("connection refused"), 24);
        assert!(text.contains("!! Not current; retrying: connection refused"), "{text}");
        assert!(text.contains("\n49 agent"), "{text}");
    }

    #[test]
    fn a_bar_chart_has_a_blank_only_for_zero() {
        let mut parts = [0; PARTS];
        parts[..4].copy_from_slice(&[1, 500, 1_000, 0]);
        assert_eq!(bar_chart(&parts).trim_end(), "▁▄█");
        assert_eq!(bar_chart(&[0; PARTS]).trim_end(), "");
        assert_eq!(bar_chart(&[u64::MAX; PARTS]).chars().next(), Some('▁'));
    }
}
