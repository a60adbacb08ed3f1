//! What came out: a table, and whether anything was wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{troubles::Troubles, usage::Usage};

/// All that was counted.
pub(crate) struct Report {
    pub(crate) conditions: String,
    pub(crate) took: Duration,
    /// By story, those that came and went.
    pub(crate) pods: BTreeMap<&'static str, u64>,
    pub(crate) lives: Lives,
    /// By type and source.
    pub(crate) events: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) inferred: u64,
    pub(crate) misses: f64,
    pub(crate) mode_changes: u64,
    pub(crate) reconnects: f64,
    pub(crate) failed_calls: u64,
    pub(crate) visits: u64,
    pub(crate) visited: u64,
    pub(crate) troubles: Troubles,
    pub(crate) start: Usage,
    /// After a tenth of the time.
    pub(crate) warm: Usage,
    pub(crate) end: Usage,
    /// What was wrong.
    pub(crate) faults: Vec<String>,
}

/// Of sandboxes and containers, each from its beginning to its removal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lives {
    pub(crate) done: u64,
    /// As they were done, each step once.
    pub(crate) told: u64,
    /// Sandboxes of which all was told but their start: it was in a trouble, and they were seen again when they had ended.
    pub(crate) half_seen: u64,
    /// Told in order and to the end, but not compared: a call failed midway, so that nobody knows what it has done.
    pub(crate) uncertain: u64,
    /// Of these, told removed and then found again: containerd was killed in the middle of their removal.
    pub(crate) returned: u64,
}

const SOURCES: [&str; 3] = ["event", "relist", "read"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs();
        writeln!(f, "\n{}, {}:{:02} minutes\n", self.conditions, seconds / 60, seconds % 60)?;
        let pods: Vec<String> = self.pods.iter().map(|(story, count)| format!("{count} {story}")).collect();
        let row = |f: &mut fmt::Formatter<'_>, what: &str, value: String| writeln!(f, "{what:<34}  {value}");
        row(f, "pods come and gone", format!("{} ({})", self.pods.values().sum::<u64>(), pods.join(", ")))?;
        let Lives { done, told, half_seen, uncertain, returned } = self.lives;
        row(f, "lives done", done.to_string())?;
        row(f, "lives told as they were done", told.to_string())?;
        row(f, "sandboxes whose start was not seen", half_seen.to_string())?;
        row(f, "lives that a failed call made unsure", uncertain.to_string())?;
        row(f, "of these, removed and there again", returned.to_string())?;
        let Troubles { kills, cuts, looks, .. } = &self.troubles;
        row(f, "containerd killed and restarted", kills.to_string())?;
        row(f, "plegd's connections cut", cuts.to_string())?;
        row(f, "cache held against the runtime", format!("{looks} times"))?;
        row(f, "calls of the runtime that failed", self.failed_calls.to_string())?;
        row(f, "visits of a client, events told", format!("{}, {}", self.visits, self.visited))?;
        row(f, "misses of the stream, made good", self.misses.to_string())?;
        row(f, "changes of the mode", self.mode_changes.to_string())?;
        row(f, "subscriptions to the stream", self.reconnects.to_string())?;
        let cpu = self.end.cpu.since(&self.start.cpu).as_secs_f64();
        let share = 100.0 * cpu / self.took.as_secs_f64();
        row(f, "CPU", format!("{cpu:.1} s ({share:.2} % of one core)"))?;

        writeln!(f, "\n{:<34}  {:>10}  {:>10}  {:>10}", "", "at start", "after 10 %", "at end")?;
        let three = |f: &mut fmt::Formatter<'_>, what: &str, of: &dyn Fn(&Usage) -> String| {
            let [start, warm, end] = [&self.start, &self.warm, &self.end].map(of);
            writeln!(f, "{what:<34}  {start:>10}  {warm:>10}  {end:>10}")
        };
        three(f, "resident memory", &|usage| megabytes(usage.resident))?;
        three(f, "of that anonymous", &|usage| megabytes(usage.anonymous))?;
        three(f, "the journal's events", &|usage| megabytes(usage.journal_bytes))?;
        three(f, "file descriptors", &|usage| usage.fds.to_string())?;
        three(f, "threads", &|usage| usage.threads.to_string())?;

        writeln!(
            f,
            "\n{:<34}  {:>10}  {:>10}  {:>10}",
            "events first seen by the", "stream", "relist", "read"
        )?;
        let mut kinds: Vec<&str> = self.events.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        for kind in kinds {
            let [event, relist, read] =
                SOURCES.map(|source| self.events.get(&(kind, source)).copied().unwrap_or_default());
            writeln!(f, "{kind:<34}  {event:>10}  {relist:>10}  {read:>10}")?;
        }
        writeln!(f, "{:<34}  {:>10}", "of all these inferred", self.inferred)?;

        if self.faults.is_empty() {
            return writeln!(
                f,
                "\nNothing was missing, told twice, or told backward; nothing grew without bound."
            );
        }
        writeln!(f, "\nWRONG:")?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "- {fault}"))
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
