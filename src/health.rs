//! Whether plegd is alive and ready, as named checks.
//!
//! Liveness is the progress of plegd's own tasks, each with a bound; it never depends on the runtime, since a restart of
//! plegd mends no runtime. Readiness is a latch: once the first relist is complete it stays. Everything else is a note for
//! whoever looks. This room decides nothing and starts nothing.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::clock::{Clock, Mono};

/// All checks. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

/// A task's proof that it makes progress. When it is dropped the task has ended as it should and is no longer expected.
#[must_use = "a heartbeat that is dropped is no longer expected"]
pub struct Heartbeat {
    health: Health,
    id: u64,
}

/// Something that readiness waits for, once.
#[derive(Clone)]
pub struct Latch {
    health: Health,
    name: &'static str,
}

/// Something worth knowing that decides nothing.
#[derive(Clone)]
pub struct Note {
    health: Health,
    name: &'static str,
}

/// The answer to "alive?" or "ready?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The answer.
    pub ok: bool,
    /// What it rests on, in the order in which the checks were made.
    pub checks: Vec<Check>,
}

/// One check of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// More about it; may be empty.
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
    latches: Vec<Check>,
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
    /// No checks yet: alive and ready.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, state: Mutex::default() }))
    }

    /// A task that must beat at least once within each `bound`, beginning now, for plegd to be alive.
    pub fn heartbeat(&self, name: &'static str, bound: Duration) -> Heartbeat {
        let last = self.0.clock.now();
        let mut state = self.0.state.lock();
        let id = state.next;
        state.next += 1;
        state.tasks.push(Task { id, name, bound, last });
        Heartbeat { health: self.clone(), id }
    }

    /// Something that must have happened for plegd to be ready. Until then `why` says what it waits for.
    pub fn latch(&self, name: &'static str, why: impl Into<String>) -> Latch {
        put(&mut self.0.state.lock().latches, Check { name, ok: false, text: why.into() });
        Latch { health: self.clone(), name }
    }

    /// Something to be shown with readiness.
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

    /// Whether all latches are open; with the notes.
    pub fn ready(&self) -> Report {
        let state = self.0.state.lock();
        let ok = state.latches.iter().all(|check| check.ok);
        Report { ok, checks: state.latches.iter().chain(&state.notes).cloned().collect() }
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
    /// Progress was made.
    pub fn beat(&self) {
        let now = self.health.0.clock.now();
        let mut state = self.health.0.state.lock();
        if let Some(task) = state.tasks.iter_mut().find(|task| task.id == self.id) {
            task.last = now;
        }
    }

    /// From now on it may take `bound` between two beats.
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

// === impl Latch ===

impl Latch {
    /// It has happened. It never closes again.
    pub fn open(&self) {
        put(
            &mut self.health.0.state.lock().latches,
            Check { name: self.name, ok: true, text: String::new() },
        );
    }

    /// Says anew what it waits for, unless it is open.
    pub fn waits_for(&self, why: impl Into<String>) {
        let mut state = self.health.0.state.lock();
        if let Some(check) = state.latches.iter_mut().find(|check| check.name == self.name && !check.ok) {
            check.text = why.into();
        }
    }
}

// === impl Note ===

impl Note {
    /// It is as it should be.
    pub fn good(&self, text: impl Into<String>) {
        put(&mut self.health.0.state.lock().notes, Check { name: self.name, ok: true, text: text.into() });
    }

    /// It is not.
    pub fn bad(&self, text: impl Into<String>) {
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
                "no progress for {:.0?}, {:.0?} are allowed; if it stays so, plegd hangs and must be restarted",
                silent, self.bound
            )
        };
        Check { name: self.name, ok, text }
    }
}

// === impl Check ===

impl fmt::Display for Check {
    /// `[+]runtime ok`, as Kubernetes' own components write it.
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
    async fn a_task_without_progress_is_not_alive_until_it_goes_on() {
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
                "[-]receiver no progress for 31s, 30s are allowed; if it stays so, plegd hangs and must be restarted",
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
    async fn ready_is_a_latch_and_notes_decide_nothing() {
        let health = health();
        let latch = health.readiness_gate("initial-relist", "not yet complete: waiting for the runtime");
        let stream = health.note("stream", "down");
        assert!(!health.ready().ok);
        latch.waits_for("not yet complete: 3 of 40 pods read");
        assert_eq!(
            lines(&health.ready()),
            ["[-]initial-relist not yet complete: 3 of 40 pods read", "[-]stream down"]
        );
        latch.open();
        latch.waits_for("nothing any more");
        assert!(health.ready().ok);
        stream.good("up since 12:00");
        assert_eq!(lines(&health.ready()), ["[+]initial-relist ok", "[+]stream ok: up since 12:00"]);
        stream.bad("the runtime has no events");
        assert!(health.ready().ok);
        assert!(health.live().ok, "readiness says nothing of liveness");
    }
}
