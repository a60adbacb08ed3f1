//! Similar warnings and errors: the first one is logged, the others are counted, and the count is logged every minute.
//!
//! Two are similar if they come from the same place in the source and differ only in numbers. Levels below a warning always pass, because
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

/// Repeats are counted over this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Limit for the number of remembered events. Beyond it, a new event passes uncounted.
const REMEMBERED: usize = 256;

/// Lets the first of several similar events pass.
pub(super) struct Repeats {
    clock: Clock,
    counts: Arc<Mutex<Counts>>,
    /// Wakes the thread that logs the counts.
    counting: mpsc::Sender<()>,
}

/// The logged events, and their repeats since then.
#[derive(Default)]
struct Counts(HashMap<EventKey, Seen>);

/// Two events with equal keys are similar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EventKey {
    callsite: Identifier,
    words: String,
}

struct Seen {
    level: Level,
    message: String,
    /// Start of the present count.
    since: Mono,
    more: u64,
}

/// The number of further similar events.
#[derive(Debug, PartialEq, Eq)]
struct More {
    level: Level,
    message: String,
    words: String,
    more: u64,
}

/// The message of an event.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

// === impl Repeats ===

impl Repeats {
    /// Counts, and logs the counts from a thread of its own.
    pub(super) fn new(clock: Clock) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (counting, counted) = mpsc::channel();
        let (of, time) = (counts.clone(), clock.clone());
        // Without such a thread counts are not logged; everything else works.
        let _ = thread::Builder::new().name("plegd-log".into()).spawn(move || tell(&of, &time, &counted));
        Self { clock, counts, counting }
    }

    fn lets_through(&self, event: &Event<'_>) -> bool {
        let told = event.metadata();
        if *told.level() > Level::WARN || told.target() == module_path!() {
            return true;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let key = EventKey { callsite: told.callsite(), words: words.fields };
        let mut counts = self.counts.lock();
        let first = counts.count(key, *told.level(), words.message, self.clock.now());
        drop(counts);
        if !first {
            // The receiver lives as long as the process.
            let _ = self.counting.send(());
        }
        first
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.lets_through(event)
    }
}

/// Logs the counts when they are due, until all senders are dropped.
fn tell(counts: &Mutex<Counts>, clock: &Clock, counting: &mpsc::Receiver<()>) {
    loop {
        let (due, next) = {
            let mut counts = counts.lock();
            let now = clock.now();
            (counts.due(now), counts.next_due(now))
        };
        for More { level, message, words, more } in due {
            if level == Level::ERROR {
                tracing::error!(like = words, "{more} more like it in the last minute: {message}");
            } else {
                tracing::warn!(like = words, "{more} more like it in the last minute: {message}");
            }
        }
        let gone = match next {
            Some(wait) => counting.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Disconnected),
            None => counting.recv().is_err(),
        };
        if gone {
            return;
        }
    }
}

// === impl Counts ===

impl Counts {
    /// Whether the event is logged, as the first similar one for a minute; otherwise it is counted.
    fn count(&mut self, key: EventKey, level: Level, message: String, now: Mono) -> bool {
        self.0.retain(|_, seen| seen.more > 0 || now.since(seen.since) < WINDOW);
        if let Some(seen) = self.0.get_mut(&key) {
            seen.more += 1;
            return false;
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(key, Seen { level, message, since: now, more: 0 });
        }
        true
    }

    /// The counts of windows that are complete. Counting continues.
    fn due(&mut self, now: Mono) -> Vec<More> {
        let mut due = Vec::new();
        for (key, seen) in &mut self.0 {
            if seen.more > 0 && now.since(seen.since) >= WINDOW {
                let (message, words) = (seen.message.clone(), key.words.clone());
                due.push(More { level: seen.level, message, words, more: std::mem::take(&mut seen.more) });
                seen.since = now;
            }
        }
        due
    }

    /// The time until the next counts are due.
    fn next_due(&self, now: Mono) -> Option<Duration> {
        let counted = self.0.values().filter(|seen| seen.more > 0);
        counted.map(|seen| WINDOW.saturating_sub(now.since(seen.since))).min()
    }
}

// === impl Words ===

impl Words {
    fn add(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let space = if self.fields.is_empty() { "" } else { " " };
            let _ = write!(self.fields, "{space}{}={value:?}", field.name());
        }
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, value);
    }

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_u64(&mut self, _: &Field, _: u64) {}

    fn record_f64(&mut self, _: &Field, _: f64) {}
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::clock::Wall;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The output of everything that is logged meanwhile.
    fn written(log: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let to = written.clone();
        let clock = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0;
        let lines = tracing_subscriber::fmt::layer()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || to.clone());
        let stack = tracing_subscriber::registry().with(Repeats::new(clock)).with(lines);
        tracing::subscriber::with_default(stack, log);
        let written = written.0.lock().clone();
        String::from_utf8(written).unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }

    fn fail(error: &str, attempt: u32) {
        tracing::warn!(error, attempt, "It failed.");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_told_once_and_what_says_something_else_is_told() {
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
        let key = move |words: &str| EventKey { callsite: callsite.clone(), words: words.into() };
        (Counts::default(), clock, key)
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_is_told_each_minute_for_as_long_as_it_goes_on() {
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
        let more = |more| More {
            level: Level::WARN,
            message: "It failed.".into(),
            words: "error=refused".into(),
            more,
        };
        assert_eq!(counts.due(clock.now()), [more(12)]);
        // Repeats continue, and are still not logged one by one.
        assert!(!count(&mut counts));
        tokio::time::advance(WINDOW).await;
        assert_eq!(counts.due(clock.now()), [more(1)]);
        // After a minute without a repeat, the next one is logged again.
        tokio::time::advance(WINDOW).await;
        assert!(counts.due(clock.now()).is_empty());
        assert!(count(&mut counts));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_remembered_is_told() {
        let (mut counts, clock, key) = counts();
        for number in 0..2 * REMEMBERED {
            let new = key(&format!("error={number}"));
            assert!(counts.count(new, Level::WARN, String::new(), clock.now()));
        }
        assert_eq!(counts.0.len(), REMEMBERED);
        let last = key(&format!("error={}", 2 * REMEMBERED - 1));
        assert!(counts.count(last, Level::WARN, String::new(), clock.now()));
    }
}
