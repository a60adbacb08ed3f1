//! Liveness and readiness as named checks.
//!
//! Liveness is the progress of plegd's own tasks, each within a bound. It never depends on the runtime, since a restart of plegd does not
//! repair a runtime. plegd becomes ready with the first complete relist, and stays ready. Notes are information only. This module
//! decides and starts nothing.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::clock::{Clock, Mono};

/// All checks. Cheap to clone; all clones share their state.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

/// Reports the progress of a task. Dropping it means that the task has ended as intended, and removes the check.
#[must_use = "dropping a heartbeat removes its check"]
pub struct Heartbeat {
    health: Health,
    id: u64,
}

/// A condition for readiness, which is met once and stays met.
#[derive(Clone)]
pub struct ReadinessGate {
    health: Health,
    name: &'static str,
}

/// Information that is shown with readiness and does not affect it.
#[derive(Clone)]
pub struct Note {
    health: Health,
    name: &'static str,
}

/// The result of liveness or readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The result.
    pub ok: bool,
    /// The checks, in order of creation.
    pub checks: Vec<Check>,
}

/// One check of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The name.
    pub name: &'static str,
    /// Whether it passes.
    pub ok: bool,
    /// Details; may be empty.
    pub text: String,
}

struct Inner {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    tasks: Vec<Task>,
    gates: Vec<Check>,
    notes: Vec<Check>,
}

struct Task {
    id: u64,
    name: &'static str,
    bound: Duration,
    last: Mono,
}

// === impl Health ===

impl Health {
    /// Without checks: alive and ready.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, state: Mutex::default() }))
    }

    /// A check that a task beats at least once within each `bound`, beginning now.
    pub fn heartbeat(&self, name: &'static str, bound: Duration) -> Heartbeat {
        let last = self.0.clock.now();
        let mut state = self.0.state.lock();
        let id = state.next;
        state.next += 1;
        state.tasks.push(Task { id, name, bound, last });
        Heartbeat { health: self.clone(), id }
    }

    /// A condition for readiness. Until it is met, `why` is shown.
    pub fn readiness_gate(&self, name: &'static str, why: impl Into<String>) -> ReadinessGate {
        put(&mut self.0.state.lock().gates, Check { name, ok: false, text: why.into() });
        ReadinessGate { health: self.clone(), name }
    }

    /// Information to be shown with readiness.
    pub fn note(&self, name: &'static str, text: impl Into<String>) -> Note {
        put(&mut self.0.state.lock().notes, Check { name, ok: false, text: text.into() });
        Note { health: self.clone(), name }
    }

    /// Whether all tasks make progress.
    pub fn live(&self) -> Report {
        let now = self.0.clock.now();
        let checks: Vec<Check> = self.0.state.lock().tasks.iter().map(|task| task.check(now)).collect();
        Report { ok: checks.iter().all(|check| check.ok), checks }
    }

    /// Whether all conditions are met; with the notes.
    pub fn ready(&self) -> Report {
        let state = self.0.state.lock();
        let ok = state.gates.iter().all(|check| check.ok);
        Report { ok, checks: state.gates.iter().chain(&state.notes).cloned().collect() }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("live", &self.live()).field("ready", &self.ready()).finish()
    }
}

fn put(checks: &mut Vec<Check>, new: Check) {
    match checks.iter_mut().find(|check| check.name == new.name) {
        Some(check) => *check = new,
        None => checks.push(new),
    }
}

// === impl Heartbeat ===

impl Heartbeat {
    /// Reports progress.
    pub fn beat(&self) {
        let now = self.health.0.clock.now();
        let mut state = self.health.0.state.lock();
        if let Some(task) = state.tasks.iter_mut().find(|task| task.id == self.id) {
            task.last = now;
        }
    }

    /// Sets the bound between two beats.
    pub fn allow(&self, bound: Duration) {
        let mut state = self.health.0.state.lock();
        if let Some(task) = state.tasks.iter_mut().find(|task| task.id == self.id) {
            task.bound = bound;
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.health.0.state.lock().tasks.retain(|task| task.id != self.id);
    }
}

// === impl ReadinessGate ===

impl ReadinessGate {
    /// The condition is met, for good.
    pub fn open(&self) {
        put(&mut self.health.0.state.lock().gates, Check { name: self.name, ok: true, text: String::new() });
    }

    /// Replaces the reason that is shown while the condition is not met.
    pub fn set_reason(&self, why: impl Into<String>) {
        let mut state = self.health.0.state.lock();
        if let Some(check) = state.gates.iter_mut().find(|check| check.name == self.name && !check.ok) {
            check.text = why.into();
        }
    }
}

// === impl Note ===

impl Note {
    /// Sets the text of a normal state.
    pub fn set_ok(&self, text: impl Into<String>) {
        put(&mut self.health.0.state.lock().notes, Check { name: self.name, ok: true, text: text.into() });
    }

    /// Sets the text of a failure.
    pub fn set_failed(&self, text: impl Into<String>) {
        put(&mut self.health.0.state.lock().notes, Check { name: self.name, ok: false, text: text.into() });
    }
}

// === impl Task ===

impl Task {
    fn check(&self, now: Mono) -> Check {
        let silent = now.since(self.last);
        let ok = silent <= self.bound;
        let text = if ok {
            String::new()
        } else {
            format!(
                "no progress for {:.0?}, {:.0?} are allowed; if this lasts, plegd hangs and must be restarted",
                silent, self.bound
            )
        };
        Check { name: self.name, ok, text }
    }
}

// === impl Check ===

impl fmt::Display for Check {
    /// `[+]runtime ok`, in the format of the Kubernetes components.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ok, self.text.as_str()) {
            (true, "") => write!(f, "[+]{} ok", self.name),
            (true, text) => write!(f, "[+]{} ok: {text}", self.name),
            (false, "") => write!(f, "[-]{} failed", self.name),
            (false, text) => write!(f, "[-]{} {text}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;

    fn health() -> Health {
        Health::new(Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000)).0)
    }

    fn lines(report: &Report) -> Vec<String> {
        report.checks.iter().map(Check::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_without_progress_is_not_alive_until_it_beats() {
        let health = health();
        let receiver = health.heartbeat("receiver", Duration::from_secs(30));
        let relister = health.heartbeat("relister", Duration::from_secs(90));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(health.live().ok);
        tokio::time::advance(Duration::from_secs(1)).await;
        let report = health.live();
        assert!(!report.ok);
        assert_eq!(
            lines(&report),
            [
                "[-]receiver no progress for 31s, 30s are allowed; if this lasts, plegd hangs and must be restarted",
                "[+]relister ok"
            ]
        );
        receiver.beat();
        assert!(health.live().ok);
        drop((receiver, relister));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(health.live(), Report { ok: true, checks: vec![] });
    }

    #[tokio::test(start_paused = true)]
    async fn plegd_stays_ready_and_notes_do_not_affect_readiness() {
        let health = health();
        let gate = health.readiness_gate("initial-relist", "not yet complete: waiting for the runtime");
        let stream = health.note("stream", "down");
        assert!(!health.ready().ok);
        gate.set_reason("not yet complete: 3 of 40 pods read");
        assert_eq!(
            lines(&health.ready()),
            ["[-]initial-relist not yet complete: 3 of 40 pods read", "[-]stream down"]
        );
        gate.open();
        gate.set_reason("has no effect any more");
        assert!(health.ready().ok);
        stream.set_ok("up since 12:00");
        assert_eq!(lines(&health.ready()), ["[+]initial-relist ok", "[+]stream ok: up since 12:00"]);
        stream.set_failed("the runtime has no events");
        assert!(health.ready().ok);
        assert!(health.live().ok, "readiness does not affect liveness");
    }
}
