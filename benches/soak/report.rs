//! The final table, and whether an invariant was violated.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{faults::Faults, usage::Usage};

/// All results.
pub(crate) struct Report {
    pub(crate) conditions: String,
    pub(crate) took: Duration,
    /// Finished pods, by kind.
    pub(crate) pods: BTreeMap<&'static str, u64>,
    pub(crate) histories: Histories,
    /// By type and source.
    pub(crate) events: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) inferred: u64,
    pub(crate) misses: f64,
    pub(crate) mode_changes: u64,
    pub(crate) reconnects: f64,
    pub(crate) failed_calls: u64,
    pub(crate) sessions: u64,
    pub(crate) session_events: u64,
    pub(crate) faults: Faults,
    pub(crate) start: Usage,
    /// After a tenth of the time.
    pub(crate) warm: Usage,
    pub(crate) end: Usage,
    /// Violated invariants.
    pub(crate) violations: Vec<String>,
}

/// Sandboxes and containers, from creation to removal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Histories {
    pub(crate) done: u64,
    /// Published completely, each step once.
    pub(crate) published: u64,
    /// Sandboxes published without their start: they started during a fault, and had ended when they were detected.
    pub(crate) without_start: u64,
    /// Published in order and to the end, but not compared: a call failed midway with unknown effect.
    pub(crate) uncertain: u64,
    /// Of these, published as removed and found again: containerd was killed during their removal.
    pub(crate) returned: u64,
}

const SOURCES: [&str; 3] = ["event", "relist", "read"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs();
        writeln!(f, "\n{}, {}:{:02} minutes\n", self.conditions, seconds / 60, seconds % 60)?;
        let pods: Vec<String> =
            self.pods.iter().map(|(scenario, count)| format!("{count} {scenario}")).collect();
        let row = |f: &mut fmt::Formatter<'_>, what: &str, value: String| writeln!(f, "{what:<34}  {value}");
        row(f, "pods finished", format!("{} ({})", self.pods.values().sum::<u64>(), pods.join(", ")))?;
        let Histories { done, published, without_start, uncertain, returned } = self.histories;
        row(f, "containers and sandboxes finished", done.to_string())?;
        row(f, "of these, completely published", published.to_string())?;
        row(f, "sandboxes whose start was missed", without_start.to_string())?;
        row(f, "uncertain after a failed call", uncertain.to_string())?;
        row(f, "of these, removed and found again", returned.to_string())?;
        let Faults { kills, cuts, comparisons, .. } = &self.faults;
        row(f, "containerd killed and restarted", kills.to_string())?;
        row(f, "plegd's connections cut", cuts.to_string())?;
        row(f, "cache compared with the runtime", format!("{comparisons} times"))?;
        row(f, "failed runtime calls", self.failed_calls.to_string())?;
        row(f, "client sessions, events received", format!("{}, {}", self.sessions, self.session_events))?;
        row(f, "missed events, found by a relist", self.misses.to_string())?;
        row(f, "mode changes", self.mode_changes.to_string())?;
        row(f, "stream subscriptions", self.reconnects.to_string())?;
        let cpu = self.end.cpu.since(&self.start.cpu).as_secs_f64();
        let share = 100.0 * cpu / self.took.as_secs_f64();
        row(f, "CPU", format!("{cpu:.1} s ({share:.2} % of one core)"))?;

        writeln!(f, "\n{:<34}  {:>10}  {:>10}  {:>10}", "", "at start", "after 10 %", "at end")?;
        let three = |f: &mut fmt::Formatter<'_>, what: &str, of: &dyn Fn(&Usage) -> String| {
            let [start, warm, end] = [&self.start, &self.warm, &self.end].map(of);
            writeln!(f, "{what:<34}  {start:>10}  {warm:>10}  {end:>10}")
        };
        three(f, "resident memory", &|usage| megabytes(usage.resident))?;
        three(f, "anonymous memory", &|usage| megabytes(usage.anonymous))?;
        three(f, "journal events", &|usage| megabytes(usage.journal_bytes))?;
        three(f, "file descriptors", &|usage| usage.fds.to_string())?;
        three(f, "threads", &|usage| usage.threads.to_string())?;

        writeln!(
            f,
            "\n{:<34}  {:>10}  {:>10}  {:>10}",
            "events first received by the", "stream", "relist", "read"
        )?;
        let mut kinds: Vec<&str> = self.events.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        for kind in kinds {
            let [event, relist, read] =
                SOURCES.map(|source| self.events.get(&(kind, source)).copied().unwrap_or_default());
            writeln!(f, "{kind:<34}  {event:>10}  {relist:>10}  {read:>10}")?;
        }
        writeln!(f, "{:<34}  {:>10}", "inferred events", self.inferred)?;

        if self.violations.is_empty() {
            return writeln!(
                f,
                "\nNo event was missing, duplicate or backward; no resource exceeded its limit."
            );
        }
        writeln!(f, "\nWRONG:")?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "- {violation}"))
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
