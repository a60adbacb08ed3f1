//! The supervisor: decides when to relist, reacts to changes of the stream, and keeps the mode.
//!
//! It owns the timer of the generic path. It decodes and applies nothing: the relister relists, the path comparison counts missed events,
//! and the pure [`Machine`] derives mode and period from both. No failure of the stream is fatal or makes plegd unhealthy. It retries an
//! unavailable runtime without end.

mod duty_cycle;
mod failures;
mod machine;
mod sharing;
mod yielding;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::machine::{Input, Machine};
use self::{
    duty_cycle::RelistDutyCycle,
    failures::{FailureStreak, LogLevel},
    sharing::Sharing,
};

use crate::{
    arbiter::Arbiter,
    clock::{Clock, Mono, Wall},
    config::{Live, SharedStream},
    cri::{
        CriError,
        quirks::{Quirk, Quirks},
    },
    evented::{DesiredStream, StreamChange},
    health::{Heartbeat, Note, ReadinessGate},
    metrics::{DisconnectReason, Label, Metrics, Outcome, RelistCause},
    model::{FollowerStatus, ObjectId, RelistFailures, RuntimeInfo, StreamEventType},
    path_comparison::{PathComparison, STREAM_GRACE_PERIOD},
    relister::{Relisted, Relister},
    traces,
};

/// The longest period if subscribers share one channel.
const SHARED_CHANNEL_PERIOD: Duration = Duration::from_secs(10);
/// After this time the backlog that a runtime sends to a new subscriber has arrived.
const BACKLOG_PASSED: Duration = Duration::from_secs(3);
/// After this time from the first relist on, the events that were sent while plegd was down have arrived, if they are replayed at all: the
/// stream is up by then.
const REPLAY_PASSED: Duration = Duration::from_secs(5);
/// How long containerd 2.x keeps events without a subscriber.
const BACKLOG_KEPT_FOR: Duration = Duration::from_secs(290);
/// How many events containerd 1.7 keeps without a subscriber.
const SHARED_CHANNEL_CAPACITY: u64 = 1000;
/// The shortest time between requested relists.
const MIN_REQUEST_GAP: Duration = Duration::from_millis(250);
/// How long the lists may take beyond the deadlines of their calls, until the relister counts as stuck.
const SLACK: Duration = Duration::from_secs(60);
/// How often an idle supervisor shows progress.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// The deadline of timers that are not set.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The configuration of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelistConfig {
    /// The shortest relist period.
    pub period: Duration,
    /// The longest relist period.
    pub max_period: Duration,
    /// Random jitter of a period, as a fraction (0.1 = ±10 %).
    pub jitter: f64,
    /// What to do with the stream if subscribers share one channel.
    pub shared: SharedStream,
}

/// Where the supervisor reports its status.
pub struct StatusReporters {
    /// Opens with the first complete relist.
    pub ready: ReadinessGate,
    /// The mode.
    pub mode: Note,
    /// The stream.
    pub stream: Note,
    /// The runtime.
    pub runtime: Note,
    /// Progress of the supervisor.
    pub heartbeat: Heartbeat,
    /// Progress of the relister: its lists take no longer than the deadlines of their calls.
    pub relister: Heartbeat,
    /// The status for subscribers.
    pub follower_status: watch::Sender<FollowerStatus>,
}

/// The parts that the supervisor controls or reads.
pub struct SupervisorDeps {
    /// Does the relists.
    pub relister: Relister,
    /// Gets whether the stream is up.
    pub arbiter: Arc<Arbiter>,
    /// Returns the missed events.
    pub paths: PathComparison,
    /// Changes of the stream.
    pub changes: mpsc::UnboundedReceiver<StreamChange>,
    /// Events that the stream has left out, by the order of those that came.
    pub left_out: mpsc::UnboundedReceiver<(ObjectId, StreamEventType)>,
    /// Since when that order is checked; none while it is not.
    pub order_since: watch::Sender<Option<Mono>>,
    /// Opens and closes the stream.
    pub desired: watch::Sender<DesiredStream>,
    /// Requests for a relist.
    pub requests: Arc<Notify>,
    /// Makes the receiver of the stream retry at once.
    pub retry_now: Arc<Notify>,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The supervisor.
pub struct Supervisor {
    deps: SupervisorDeps,
    reporters: StatusReporters,
    config: RelistConfig,
    config_rx: Live<RelistConfig>,
    machine: Machine,
    runtime: Option<RuntimeInfo>,
    /// Whether the next relist calls for the runtime's version.
    needs_identify: bool,
    stream_up: Option<Mono>,
    stream_lost: Option<Mono>,
    /// When a yielded stream is opened again.
    reopen_at: Option<Instant>,
    last_stream_error: Option<String>,
    /// Relists in progress.
    relists: JoinSet<Progress>,
    /// The next relist and its cause; none while the lists of one are in progress.
    next: Option<(Instant, RelistCause)>,
    /// A relist that must follow the one in progress, and the shortest time between their starts.
    relist_after_current: Option<(RelistCause, Duration)>,
    /// When the backlog of a new stream has arrived.
    backlog_passed: Option<Instant>,
    /// When it is known whether the runtime has replayed the events of the time while plegd was down.
    restart_due: Option<Instant>,
    /// When the grace period of the last relist ends.
    misses_due: Option<Instant>,
    last_began: Option<Mono>,
    failures: FailureStreak,
    /// Whether the runtime was unavailable during these failures.
    runtime_was_unavailable: bool,
    duty_cycle: RelistDutyCycle,
    sharing: Sharing,
}

/// What the supervisor reacts to.
enum Event {
    StreamChanged(StreamChange),
    OmittedByStream(ObjectId, StreamEventType),
    Progress(Progress),
    MissesDue,
    BacklogPassed,
    RestartDue,
    ConfigChanged,
    StreamRetryDue,
    RelistRequested,
    RelistDue(RelistCause),
    Idle,
}

/// Progress of a relist.
enum Progress {
    /// Its lists were compared, or failed. Reads may follow.
    Listed(Listed),
    /// Each read that it requested was done once, successfully or not.
    Complete { cause: RelistCause, began: Mono },
}

struct Listed {
    cause: RelistCause,
    began: Mono,
    began_at: Wall,
    result: Result<(Option<RuntimeInfo>, Relisted), CriError>,
}

/// The longest relist period for a runtime with these quirks, if the configuration allows `max_period`.
pub fn longest_period(quirks: &Quirks, max_period: Duration) -> Duration {
    if quirks.has(Quirk::SharedChannel) { max_period.min(SHARED_CHANNEL_PERIOD) } else { max_period }
}

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor whose first relist is due at once.
    pub fn new(
        deps: SupervisorDeps,
        reporters: StatusReporters,
        config: impl Into<Live<RelistConfig>>,
    ) -> Self {
        let config_rx = config.into();
        let config = config_rx.get();
        let machine = Machine::new(config.period, config.max_period);
        deps.metrics.relists.period.set(machine.period().as_secs_f64());
        Self {
            next: Some((deps.clock.timer(Duration::ZERO), RelistCause::Start)),
            deps,
            reporters,
            config,
            config_rx,
            machine,
            runtime: None,
            needs_identify: true,
            stream_up: None,
            stream_lost: None,
            reopen_at: None,
            last_stream_error: None,
            relists: JoinSet::new(),
            relist_after_current: None,
            backlog_passed: None,
            restart_due: None,
            misses_due: None,
            last_began: None,
            failures: FailureStreak::default(),
            runtime_was_unavailable: false,
            duty_cycle: RelistDutyCycle::default(),
            sharing: Sharing::new(config.shared),
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = self.next_event() => event,
            };
            self.on(event);
            self.reporters.heartbeat.beat();
            // If no relist is due, one is in progress, and its end makes the next one due.
            if self.next.is_some() {
                self.reporters.relister.beat();
            } else {
                self.reporters.relister.allow(self.deps.relister.longest_listing() + SLACK);
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let never = self.deps.clock.timer(NEVER);
        let (next, cause) = self.next.unwrap_or((never, RelistCause::Period));
        tokio::select! {
            biased;
            Some(change) = self.deps.changes.recv() => Event::StreamChanged(change),
            Some((id, kind)) = self.deps.left_out.recv() => Event::OmittedByStream(id, kind),
            Some(progress) = self.relists.join_next(), if !self.relists.is_empty() => match progress {
                Ok(progress) => Event::Progress(progress),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Event::Idle,
            },
            () = sleep_until(self.misses_due.unwrap_or(never)), if self.misses_due.is_some() => Event::MissesDue,
            () = sleep_until(self.backlog_passed.unwrap_or(never)), if self.backlog_passed.is_some() => {
                Event::BacklogPassed
            }
            () = sleep_until(self.restart_due.unwrap_or(never)), if self.restart_due.is_some() => Event::RestartDue,
            () = self.config_rx.changed() => Event::ConfigChanged,
            () = sleep_until(self.reopen_at.unwrap_or(never)), if self.reopen_at.is_some() => {
                Event::StreamRetryDue
            }
            () = self.deps.requests.notified() => Event::RelistRequested,
            () = sleep_until(next), if self.next.is_some() => Event::RelistDue(cause),
            () = sleep(HEARTBEAT) => Event::Idle,
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::StreamChanged(change) => self.on_stream_change(change),
            Event::OmittedByStream(id, kind) => self.on_left_out(id, kind),
            Event::Progress(Progress::Listed(listed)) => self.on_listed(listed),
            Event::Progress(Progress::Complete { cause, began }) => self.on_complete(cause, began),
            Event::MissesDue => self.on_misses_due(),
            Event::BacklogPassed => {
                self.backlog_passed = None;
                self.relist_soon(RelistCause::Backlog, Duration::ZERO);
            }
            Event::RestartDue => self.on_restart_due(),
            Event::ConfigChanged => self.on_config_change(),
            Event::StreamRetryDue => self.reopen_stream("the wait is over"),
            Event::RelistRequested => self.relist_soon(RelistCause::Request, MIN_REQUEST_GAP),
            Event::RelistDue(cause) => self.on_relist_due(cause),
            Event::Idle => {}
        }
    }

    /// Begins the relist, unless the duty cycle requires a pause.
    fn on_relist_due(&mut self, cause: RelistCause) {
        let now = self.deps.clock.now();
        let pause = match cause {
            RelistCause::Period => self.duty_cycle.required_pause(false, now),
            RelistCause::Request => self.duty_cycle.required_pause(true, now),
            _ => None,
        };
        self.next = pause.map(|pause| (self.deps.clock.timer(pause), cause));
        if self.next.is_none() {
            let relist = self.relist(cause);
            self.relists.spawn(relist);
        }
    }

    fn relist(&mut self, cause: RelistCause) -> impl Future<Output = Progress> + Send + use<> {
        let relister = self.deps.relister.clone();
        let identify = self.needs_identify;
        let (began, at) = self.deps.clock.now_both();
        self.deps.metrics.relists.began(at);
        if let Some(last) = self.last_began.replace(began) {
            self.deps.metrics.relists.interval.observe(began.since(last).as_secs_f64());
        }
        async move {
            let result = traces::relist(cause.as_str(), async {
                let runtime = if identify { Some(relister.identify().await?) } else { None };
                Ok((runtime, relister.relist().await?))
            });
            Progress::Listed(Listed { cause, began, began_at: at, result: result.await })
        }
    }

    /// The lists were compared, or failed: sets when the next relist is due. Reads that are pending do not delay it.
    fn on_listed(&mut self, listed: Listed) {
        let Listed { cause, began, began_at, result } = listed;
        match result {
            Ok((runtime, relisted)) => {
                if let Some(runtime) = runtime {
                    self.set_runtime(runtime);
                }
                self.on_runtime_recovered();
                self.deps.arbiter.save_alive();
                self.duty_cycle.listed(began, self.deps.clock.now());
                let wait = self.jittered(self.machine.period());
                self.next = Some((self.deps.clock.timer(wait), RelistCause::Period));
                if let Some((cause, min_gap)) = self.relist_after_current.take() {
                    self.relist_soon(cause, min_gap);
                }
                self.relists.spawn(async move {
                    relisted.reads.await;
                    Progress::Complete { cause, began }
                });
            }
            Err(error) => {
                let (now, at) = self.deps.clock.now_both();
                self.deps.metrics.relists.ended(cause, Outcome::Error, now.since(began), at);
                let wait = self.on_relist_failed(&error, began_at);
                self.relist_after_current = None;
                self.next = Some((self.deps.clock.timer(wait), RelistCause::Retry));
            }
        }
    }

    fn on_complete(&mut self, cause: RelistCause, began: Mono) {
        self.duty_cycle.reads_done();
        let (now, at) = self.deps.clock.now_both();
        let took = now.since(began);
        tracing::debug!(cause = cause.as_str(), ?took, "Relisted.");
        self.deps.metrics.relists.ended(cause, Outcome::Ok, took, at);
        if self.is_first_relist() && self.deps.arbiter.down_for().is_some() {
            self.restart_due = Some(self.deps.clock.timer(REPLAY_PASSED));
        }
        self.deps.arbiter.save_inventoried();
        self.reporters.ready.open();
        self.deps.metrics.mode.ready.set(1);
        self.reporters.follower_status.send_if_modified(|it| !std::mem::replace(&mut it.ready, true));
        if let Some(lost) = self.stream_lost.take_if(|lost| began >= *lost) {
            self.deps.metrics.mode.fallback.observe(now.since(lost).as_secs_f64());
        }
        // Relists of other causes follow each other too closely to prove anything.
        if cause == RelistCause::Period {
            let unconfirmed = self.deps.paths.has_unconfirmed();
            self.step(Input::Relisted { unconfirmed });
        }
        // A running grace period is not extended: relists may be more frequent than it is long.
        self.misses_due.get_or_insert_with(|| self.deps.clock.timer(STREAM_GRACE_PERIOD));
    }

    fn is_first_relist(&self) -> bool {
        !self.reporters.follower_status.borrow().ready
    }

    /// Publishes that plegd was restarted.
    ///
    /// Nothing is missing if the runtime has replayed the events of the time while plegd was down: it has sent some of them, and keeps
    /// them for that long. A runtime that sends none may have had none, or has given them to another subscriber.
    fn on_restart_due(&mut self) {
        self.restart_due = None;
        let arbiter = &self.deps.arbiter;
        let Some(down_for) = arbiter.down_for() else { return };
        let replayed = arbiter.replayed();
        let is_replayed = replayed > 0
            && !arbiter.is_unresolved()
            && self.stream_up.is_some()
            && arbiter.quirks().has(Quirk::ReplaysBacklog)
            && (if arbiter.quirks().has(Quirk::SharedChannel) {
                replayed < SHARED_CHANNEL_CAPACITY
            } else {
                down_for < BACKLOG_KEPT_FOR
            });
        tracing::info!(
            ?down_for,
            replayed,
            blind = !is_replayed,
            "plegd was restarted and continues its epoch. If blind, containers that were created and removed meanwhile may be missed."
        );
        arbiter.publish_restart(!is_replayed);
    }

    fn on_runtime_recovered(&mut self) {
        if let Some((failures, lasted)) = self.failures.end(self.deps.clock.now()) {
            tracing::info!(after_failures = failures, ?lasted, "The runtime answers again.");
            self.report_failures(None);
            if std::mem::take(&mut self.runtime_was_unavailable) && self.sharing.restarted() {
                self.reopen_stream("the runtime was restarted");
            }
            // The stream and the failed reads are retried at once.
            self.deps.retry_now.notify_one();
            self.deps.relister.on_runtime_recovered();
        }
    }

    /// Logs the first failure, and once more after a minute. Returns the time until the next try, which grows with each failure.
    fn on_relist_failed(&mut self, error: &CriError, began_at: Wall) -> Duration {
        let (level, wait) =
            self.failures.failed(self.deps.clock.now(), error.runtime_is_away(), self.config.period);
        let since = self.reporters.follower_status.borrow().failures.as_ref().map_or(began_at, |it| it.since);
        let (count, last_error) = (self.failures.count(), error.to_string());
        let failures = RelistFailures { count, since, last_error };
        self.runtime_was_unavailable |= error.runtime_is_away();
        if failures.persist() {
            self.reporters.runtime.set_failed(format!(
                "cannot be listed since {since}: {count} relists in a row failed, the last with: {error}"
            ));
        }
        if failures.begin_to_persist() {
            self.step(Input::Unchecked);
        }
        self.report_failures(Some(failures));
        match level {
            LogLevel::None => {}
            LogLevel::Warn => {
                if error.runtime_is_away() {
                    tracing::warn!(%error, "The runtime does not respond; retrying. The served state is as of the last relist.");
                } else {
                    tracing::warn!(%error, "The relist failed; retrying. The served state is as of the last relist.");
                }
                self.reporters.runtime.set_failed(error.to_string());
                self.reporters.ready.set_reason(format!("not yet complete: {error}"));
            }
            LogLevel::Error => tracing::error!(
                %error,
                failures = count,
                %since,
                "Listing the runtime has failed for a minute; the served state is stale by as much. Look at the runtime and its \
                 log; run `plegd check` for details."
            ),
        }
        self.needs_identify = true;
        self.jittered(wait)
    }

    /// The runtime has returned its name and version.
    fn set_runtime(&mut self, runtime: RuntimeInfo) {
        let quirks = Quirks::of(&runtime.name, &runtime.version);
        if self.runtime.as_ref() != Some(&runtime) {
            let known: Vec<&str> = quirks.iter().map(Quirk::summary).collect();
            tracing::info!(%runtime, cri = runtime.api_version, ?known, "Following the runtime.");
            self.step(self.bounds(Some(&quirks)));
        }
        let shared = quirks.has(Quirk::SharedChannel);
        self.deps.metrics.stream.shared.set(shared.into());
        self.set_channel_shared(shared);
        self.reporters.runtime.set_ok(runtime.to_string());
        self.needs_identify = false;
        self.runtime = Some(runtime);
        self.report_mode();
    }

    /// The bounds of the relist period for a runtime with these quirks.
    fn bounds(&self, quirks: Option<&Quirks>) -> Input {
        let RelistConfig { period: shortest, max_period, .. } = self.config;
        Input::Bounds { shortest, longest: quirks.map_or(max_period, |it| longest_period(it, max_period)) }
    }

    /// The configuration may have changed. The next relist is due within the new period.
    fn on_config_change(&mut self) {
        let config = self.config_rx.get();
        if std::mem::replace(&mut self.config, config) != config {
            let quirks = self.runtime.as_ref().map(|it| Quirks::of(&it.name, &it.version));
            self.step(self.bounds(quirks.as_ref()));
            self.relist_within(self.machine.period());
            self.set_channel_shared(quirks.is_some_and(|quirks| quirks.has(Quirk::SharedChannel)));
        }
    }

    fn on_stream_change(&mut self, change: StreamChange) {
        match change {
            StreamChange::Up { since } => {
                self.stream_up = Some(since);
                self.deps.arbiter.set_stream_up(Some(since));
                self.sharing.up(self.deps.clock.now());
                self.update_order_check(since);
                self.report_stream("up", true);
                self.last_stream_error = None;
                self.step(Input::StreamUp);
                self.backlog_passed = Some(self.deps.clock.timer(BACKLOG_PASSED));
                self.relist_soon(RelistCause::StreamUp, Duration::ZERO);
            }
            StreamChange::Lost { .. } if self.sharing.retry_at().is_some() => self.on_yielded(),
            StreamChange::Lost { at, why, reason } => {
                self.sharing.lost(at);
                if self.stream_up.take().is_some() {
                    tracing::warn!(%why, "Lost the event stream; polling until it is back.");
                    self.stream_lost = Some(at);
                    self.needs_identify = true;
                    self.relist_soon(RelistCause::StreamLost, Duration::ZERO);
                } else if self.last_stream_error.as_ref() != Some(&why) {
                    if reason == DisconnectReason::Unsupported {
                        tracing::info!(%why, "The runtime does not support events; polling.");
                    } else {
                        tracing::info!(%why, "Failed to open the event stream; polling and retrying.");
                    }
                }
                self.backlog_passed = None;
                self.deps.arbiter.set_stream_up(None);
                self.update_order_check(at);
                self.report_stream(&why, false);
                self.last_stream_error = Some(why);
                self.step(Input::StreamLost);
            }
        }
    }

    fn on_misses_due(&mut self) {
        let missed = self.deps.paths.overdue(self.deps.clock.now());
        self.on_missed(&missed);
        let unconfirmed = self.deps.paths.has_unconfirmed();
        self.misses_due = unconfirmed.then(|| self.deps.clock.timer(STREAM_GRACE_PERIOD));
    }

    fn on_missed(&mut self, missed: &[(ObjectId, StreamEventType)]) {
        let Some((_, first)) = missed.first() else { return };
        if let Some(yielding) = self.sharing.missed(self.deps.clock.now(), missed) {
            return self.yield_stream(yielding);
        }
        tracing::warn!(
            count = missed.len(),
            first = first.as_str(),
            "The event stream has missed changes; relisting more often. If the runtime delivers each event to one subscriber only, \
             another subscriber may have received them."
        );
        self.step(Input::Missed);
        self.relist_within(self.machine.period());
    }

    fn step(&mut self, input: Input) {
        let before = self.machine;
        self.machine = before.step(input);
        if before.mode() != self.machine.mode() {
            tracing::info!(mode = %self.machine.mode(), from = %before.mode(), "The mode has changed.");
            self.deps.metrics.mode.enter(self.machine.mode());
            let since = self.deps.clock.now_both().1;
            self.reporters
                .follower_status
                .send_modify(|it| (it.mode, it.mode_since) = (self.machine.mode(), since));
        }
        if before != self.machine {
            self.deps.metrics.relists.period.set(self.machine.period().as_secs_f64());
            self.report_mode();
        }
    }

    fn report_mode(&self) {
        let (mode, period) = (self.machine.mode(), self.machine.period());
        self.reporters.mode.set_ok(format!("{mode}, a relist every {}", humantime::format_duration(period)));
        self.reporters.follower_status.send_if_modified(|it| {
            let changed = it.period != period || it.runtime != self.runtime;
            it.period = period;
            it.runtime.clone_from(&self.runtime);
            changed
        });
    }

    fn report_failures(&self, failures: Option<RelistFailures>) {
        let count = failures.as_ref().map_or(0, |failures| failures.count);
        self.deps.metrics.relists.consecutive_failures.set(count.into());
        // Relists of an unavailable runtime fail ten times a second, which must not wake all subscribers.
        self.reporters.follower_status.send_if_modified(|it| {
            it.failures = failures;
            false
        });
    }

    fn report_stream(&self, how: &str, up: bool) {
        if up {
            self.reporters.stream.set_ok(how);
        } else {
            self.reporters.stream.set_failed(how);
        }
        let since = self.deps.clock.now_both().1;
        self.reporters.follower_status.send_modify(|it| {
            if it.stream_up != self.stream_up || it.stream != how {
                (it.stream_up, it.stream_since, it.stream) = (self.stream_up, since, how.to_owned());
            }
        });
    }

    /// Relists now, or `min_gap` after the last relist began. If a relist is in progress, another follows it, since the one in progress
    /// began too early.
    fn relist_soon(&mut self, cause: RelistCause, min_gap: Duration) {
        let Some((next, _)) = self.next else {
            if self.relist_after_current.is_none_or(|(_, known)| min_gap < known) {
                self.relist_after_current = Some((cause, min_gap));
            }
            return;
        };
        let since_last = self.last_began.map_or(min_gap, |last| self.deps.clock.now().since(last));
        let at = self.deps.clock.timer(min_gap.saturating_sub(since_last));
        if at < next {
            self.next = Some((at, cause));
        }
    }

    fn relist_within(&mut self, period: Duration) {
        let at = self.deps.clock.timer(period);
        if let Some((next, _)) = &mut self.next {
            *next = at.min(*next);
        }
    }

    fn jittered(&self, period: Duration) -> Duration {
        let by = self.config.jitter * (2.0 * fastrand::f64() - 1.0);
        period.mul_f64(1.0 + by)
    }
}
