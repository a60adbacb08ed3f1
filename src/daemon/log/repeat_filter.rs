//! Limits the rate of similar warnings and errors: the first one is logged, the others are counted, and the count is logged every minute.
//!
//! Two events are similar if they have the same callsite and differ only in numbers. Levels below a warning always pass, because
//! debugging needs every line.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::clock::{Clock, Mono};

/// Repeated events are counted over this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Maximum number of remembered events. If it is reached, further different events pass without being counted.
const MAX_REMEMBERED: usize = 256;

/// Lets the first of several similar events pass.
pub(super) struct RepeatFilter {
    clock: Clock,
    counts: Arc<Mutex<Counts>>,
    /// Wakes the thread that logs the counts.
    counting: mpsc::Sender<()>,
}

/// The logged events, and the number of similar events since then.
#[derive(Default)]
struct Counts(HashMap<EventKey, Count>);

/// Two events with equal keys are similar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EventKey {
    callsite: Identifier,
    fields: String,
}

struct Count {
    level: Level,
    message: String,
    /// Start of the current count.
    since: Mono,
    suppressed: u64,
}

/// The number of similar events that were not logged.
#[derive(Debug, PartialEq, Eq)]
struct Suppressed {
    level: Level,
    message: String,
    fields: String,
    suppressed: u64,
}

/// The message and the fields of an event, without numbers.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

// === impl RepeatFilter ===

impl RepeatFilter {
    /// A filter that logs the counts on a separate thread.
    pub(super) fn new(clock: Clock) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (counting, counted) = mpsc::channel();
        let (of, time) = (counts.clone(), clock.clone());
        // If the thread cannot be started, counts are not logged.
        let _ =
            thread::Builder::new().name("plegd-log".into()).spawn(move || log_counts(&of, &time, &counted));
        Self { clock, counts, counting }
    }

    fn passes(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        let mut text = EventText::default();
        event.record(&mut text);
        let key = EventKey { callsite: metadata.callsite(), fields: text.fields };
        let mut counts = self.counts.lock();
        let first = counts.count(key, *metadata.level(), text.message, self.clock.now());
        drop(counts);
        if !first {
            // The receiver exists until the process exits.
            let _ = self.counting.send(());
        }
        first
    }
}

impl<S: Subscriber> Layer<S> for RepeatFilter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.passes(event)
    }
}

/// Logs counts when they are due, until all senders are dropped.
fn log_counts(counts: &Mutex<Counts>, clock: &Clock, counting: &mpsc::Receiver<()>) {
    loop {
        let (due, next) = {
            let mut counts = counts.lock();
            let now = clock.now();
            (counts.due(now), counts.next_due(now))
        };
        for Suppressed { level, message, fields, suppressed } in due {
            if level == Level::ERROR {
                tracing::error!(like = fields, "{suppressed} similar events in the last minute: {message}");
            } else {
                tracing::warn!(like = fields, "{suppressed} similar events in the last minute: {message}");
            }
        }
        let disconnected = match next {
            Some(wait) => counting.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Disconnected),
            None => counting.recv().is_err(),
        };
        if disconnected {
            return;
        }
    }
}

// === impl Counts ===

impl Counts {
    /// Whether to log the event: it is the first similar one in a minute. Otherwise it is counted.
    fn count(&mut self, key: EventKey, level: Level, message: String, now: Mono) -> bool {
        self.0.retain(|_, count| count.suppressed > 0 || now.since(count.since) < WINDOW);
        if let Some(count) = self.0.get_mut(&key) {
            count.suppressed += 1;
            return false;
        }
        if self.0.len() < MAX_REMEMBERED {
            self.0.insert(key, Count { level, message, since: now, suppressed: 0 });
        }
        true
    }

    /// The counts of windows that are complete. Counting continues.
    fn due(&mut self, now: Mono) -> Vec<Suppressed> {
        let mut due = Vec::new();
        for (key, count) in &mut self.0 {
            if count.suppressed > 0 && now.since(count.since) >= WINDOW {
                let (message, fields) = (count.message.clone(), key.fields.clone());
                let suppressed = std::mem::take(&mut count.suppressed);
                due.push(Suppressed { level: count.level, message, fields, suppressed });
                count.since = now;
            }
        }
        due
    }

    /// The time until the next counts are due.
    fn next_due(&self, now: Mono) -> Option<Duration> {
        let counted = self.0.values().filter(|count| count.suppressed > 0);
        counted.map(|count| WINDOW.saturating_sub(now.since(count.since))).min()
    }
}

// === impl EventText ===

impl EventText {
    fn add(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let space = if self.fields.is_empty() { "" } else { " " };
            let _ = write!(self.fields, "{space}{}={value:?}", field.name());
        }
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, value);
    }

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_u64(&mut self, _: &Field, _: u64) {}

    fn record_f64(&mut self, _: &Field, _: f64) {}
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{super::written::Written, *};
    use crate::clock::Wall;

    /// The output of `log`.
    fn written(log: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let to = written.clone();
        let clock = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0;
        let lines = tracing_subscriber::fmt::layer()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || to.clone());
        let stack = tracing_subscriber::registry().with(RepeatFilter::new(clock)).with(lines);
        tracing::subscriber::with_default(stack, log);
        let written = written.0.lock().clone();
        String::from_utf8(written).unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }

    fn fail(error: &str, attempt: u32) {
        tracing::warn!(error, attempt, "It failed.");
    }

    #[tokio::test(start_paused = true)]
    async fn similar_events_are_logged_once_and_different_events_are_logged() {
        let written = written(|| {
            for attempt in 1..100 {
                fail("refused", attempt);
                fail("reset", attempt);
                tracing::info!(attempt, "Trying.");
            }
            tracing::error!(error = "refused", "It failed.");
        });
        let of = |line: &str| written.iter().filter(|written| written.as_str() == line).count();
        assert_eq!(of("WARN It failed. error=\"refused\" attempt=1"), 1);
        assert_eq!(of("WARN It failed. error=\"reset\" attempt=1"), 1);
        assert_eq!(of("ERROR It failed. error=\"refused\""), 1);
        assert_eq!(written.len(), 3 + 99, "{written:?}");
    }

    fn counts() -> (Counts, Clock, impl Fn(&str) -> EventKey) {
        let clock = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0;
        let callsite = {
            let mut found = None;
            tracing::subscriber::with_default(tracing_subscriber::registry(), || {
                let span = tracing::info_span!("here");
                found = span.metadata().map(tracing::Metadata::callsite);
            });
            found.unwrap()
        };
        let key = move |fields: &str| EventKey { callsite: callsite.clone(), fields: fields.into() };
        (Counts::default(), clock, key)
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_is_logged_each_minute_while_events_repeat() {
        let (mut counts, clock, key) = counts();
        let count = |counts: &mut Counts| {
            counts.count(key("error=refused"), Level::WARN, "It failed.".into(), clock.now())
        };
        assert!(count(&mut counts));
        assert_eq!(counts.next_due(clock.now()), None, "nothing is counted yet");
        for _ in 0..12 {
            assert!(!count(&mut counts));
        }
        assert_eq!(counts.next_due(clock.now()), Some(WINDOW));
        tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
        assert!(counts.due(clock.now()).is_empty());
        tokio::time::advance(Duration::from_millis(1)).await;
        let suppressed = |suppressed| Suppressed {
            level: Level::WARN,
            message: "It failed.".into(),
            fields: "error=refused".into(),
            suppressed,
        };
        assert_eq!(counts.due(clock.now()), [suppressed(12)]);
        // Events repeat, and are still not logged one by one.
        assert!(!count(&mut counts));
        tokio::time::advance(WINDOW).await;
        assert_eq!(counts.due(clock.now()), [suppressed(1)]);
        // After a minute without a repeat, the next one is logged again.
        tokio::time::advance(WINDOW).await;
        assert!(counts.due(clock.now()).is_empty());
        assert!(count(&mut counts));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_not_remembered_is_logged() {
        let (mut counts, clock, key) = counts();
        for number in 0..2 * MAX_REMEMBERED {
            let new = key(&format!("error={number}"));
            assert!(counts.count(new, Level::WARN, String::new(), clock.now()));
        }
        assert_eq!(counts.0.len(), MAX_REMEMBERED);
        let last = key(&format!("error={}", 2 * MAX_REMEMBERED - 1));
        assert!(counts.count(last, Level::WARN, String::new(), clock.now()));
    }
}
