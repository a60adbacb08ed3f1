//! The supervisor: decides when to relist, follows the stream's ups and downs, and keeps the mode.
//!
//! Owns the one timer of the generic path. It decodes nothing and settles nothing: relists are the relister's, misses the
//! ledger's, and what follows from both is the pure machine's ([`Machine`]). No stream trouble is fatal and none makes
//! plegd unhealthy; a runtime that is away is waited for.

mod machine;
mod outage;
mod share;
mod sharing;
mod yielding;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::machine::{Input, Machine};
pub use self::outage::RelistFailures;
use self::{
    outage::{Loudness, Outage},
    share::Share,
    sharing::Sharing,
};
pub use crate::model::Mode;
use crate::{
    arbiter::Arbiter,
    clock::{Clock, Mono, Wall},
    config::{Live, SharedStream},
    cri::{
        CriError, RuntimeInfo,
        quirks::{Quirk, Quirks},
    },
    evented::{StreamChange, Wanted},
    health::{Heartbeat, Latch, Note},
    metrics::{DisconnectReason, Label, Metrics, Outcome, RelistCause},
    model::{ObjectId, StreamEventType},
    path_comparison::{PathComparison, STREAM_GRACE_PERIOD},
    relister::{Relisted, Relister},
    traces,
};

/// The longest period where subscribers take events from each other.
const SHARED_CHANNEL_PERIOD: Duration = Duration::from_secs(10);
/// When the backlog that a runtime sends to a new subscriber has passed.
const BACKLOG_PASSED: Duration = Duration::from_secs(3);
/// Two relists that somebody asks for are at least so far apart.
const REQUESTS_APART: Duration = Duration::from_millis(250);
/// How long the lists may take beyond what their calls may, until the relister counts as stuck.
const SLACK: Duration = Duration::from_secs(60);
/// How often the supervisor shows that it is alive while nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// What the supervisor is told to do by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    /// The shortest relist period.
    pub period: Duration,
    /// The longest.
    pub max_period: Duration,
    /// By which part of itself a period varies.
    pub jitter: f64,
    /// What to do with the stream where subscribers take events from each other.
    pub shared: SharedStream,
}

/// What the supervisor knows, for whoever looks.
#[derive(Clone, Debug)]
pub struct FollowerStatus {
    /// Whether the first relist is complete.
    pub ready: bool,
    /// The mode.
    pub mode: Mode,
    /// Since when.
    pub mode_since: Wall,
    /// The relist period in force.
    pub period: Duration,
    /// What the runtime says it is, once it has.
    pub runtime: Option<RuntimeInfo>,
    /// Since when the stream is up.
    pub stream_up: Option<Mono>,
    /// Since when it is as it is.
    pub stream_since: Wall,
    /// How it is.
    pub stream: String,
    /// Relists that have failed since the last one that succeeded. Changes here wake no one who follows the situation.
    pub failures: Option<RelistFailures>,
    /// The stream is closed for another subscriber of the same channel.
    pub yielded: Option<Yielded>,
}

/// The stream is closed for another subscriber of the same channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yielded {
    /// Since when.
    pub since: Wall,
    /// When it is tried again.
    pub retry_at: Wall,
}

/// What the supervisor shows of itself.
pub struct Signs {
    /// Opens with the first complete relist.
    pub ready: Latch,
    /// The mode.
    pub mode: Note,
    /// The stream.
    pub stream: Note,
    /// The runtime.
    pub runtime: Note,
    /// It is alive.
    pub heartbeat: Heartbeat,
    /// No relist's lists are under way for longer than their calls may take.
    pub relister: Heartbeat,
    /// What it knows.
    pub follower_status: watch::Sender<FollowerStatus>,
}

/// What the supervisor is connected to.
pub struct Wires {
    /// Does the relists.
    pub relister: Relister,
    /// Is told whether the stream is up.
    pub arbiter: Arc<Arbiter>,
    /// Says what the stream has missed.
    pub paths: PathComparison,
    /// What becomes of the stream.
    pub changes: mpsc::UnboundedReceiver<StreamChange>,
    /// Events that the stream has left out, as the order of those that came shows.
    pub left_out: mpsc::UnboundedReceiver<(ObjectId, StreamEventType)>,
    /// Since when that order is looked at, if it is.
    pub judged: watch::Sender<Option<Mono>>,
    /// Opens and closes the stream.
    pub wanted: watch::Sender<Wanted>,
    /// Relists that somebody asks for.
    pub requests: Arc<Notify>,
    /// Wakes the receiver when the runtime is back.
    pub hurry: Arc<Notify>,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The supervisor.
pub struct Supervisor {
    wires: Wires,
    signs: Signs,
    rhythm: Rhythm,
    rhythms: Live<Rhythm>,
    machine: Machine,
    runtime: Option<RuntimeInfo>,
    /// What the runtime is must be asked (again).
    unidentified: bool,
    stream_up: Option<Mono>,
    stream_lost: Option<Mono>,
    /// When a stream that was yielded is tried again.
    retry: Option<Instant>,
    last_stream_trouble: Option<String>,
    /// The relist that is next, and why; none while the lists of one are under way.
    next: Option<(Instant, RelistCause)>,
    /// One that must follow the one that is under way, and how long after that one began.
    again: Option<(RelistCause, Duration)>,
    backlog: Option<Instant>,
    last_began: Option<Mono>,
    outage: Outage,
    /// Whether the runtime was away in this outage.
    away: bool,
    share: Share,
    sharing: Sharing,
}

/// What a relist has come to.
enum Progress {
    /// The lists are compared, and what differs is being read.
    Listed(Listed),
    /// What differs has been read, or has at least been tried.
    Complete { cause: RelistCause, began: Mono },
}

struct Listed {
    cause: RelistCause,
    began: Mono,
    began_at: Wall,
    result: Result<(Option<RuntimeInfo>, Relisted), CriError>,
}

/// How long the relist period may become on a runtime with these quirks, if the configuration allows `max_period`.
pub fn longest_period(quirks: &Quirks, max_period: Duration) -> Duration {
    if quirks.has(Quirk::SharedChannel) { max_period.min(SHARED_CHANNEL_PERIOD) } else { max_period }
}

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor that relists at once.
    pub fn new(wires: Wires, signs: Signs, rhythms: impl Into<Live<Rhythm>>) -> Self {
        let rhythms = rhythms.into();
        let rhythm = rhythms.get();
        let machine = Machine::new(rhythm.period, rhythm.max_period);
        wires.metrics.relists.period.set(machine.period().as_secs_f64());
        Self {
            next: Some((wires.clock.timer(Duration::ZERO), RelistCause::Start)),
            wires,
            signs,
            rhythm,
            rhythms,
            machine,
            runtime: None,
            unidentified: true,
            stream_up: None,
            stream_lost: None,
            retry: None,
            last_stream_trouble: None,
            again: None,
            backlog: None,
            last_began: None,
            outage: Outage::default(),
            away: false,
            share: Share::default(),
            sharing: Sharing::new(rhythm.shared),
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut under_way: JoinSet<Progress> = JoinSet::new();
        let mut overdue = None;
        let far = self.wires.clock.timer(Duration::from_secs(100 * 365 * 86_400));
        loop {
            let (next, cause) = self.next.unwrap_or((far, RelistCause::Period));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(change) = self.wires.changes.recv() => self.follow(change),
                Some((id, kind)) = self.wires.left_out.recv() => self.left_out(id, kind),
                Some(progress) = under_way.join_next(), if !under_way.is_empty() => match progress {
                    Ok(Progress::Listed(listed)) => {
                        if let Some(reads) = self.listed(listed) {
                            under_way.spawn(reads);
                        }
                    }
                    Ok(Progress::Complete { cause, began }) => {
                        self.share.read();
                        self.complete(cause, began);
                        // The one that waits already is not put off: relists may come more often than the grace is long.
                        overdue.get_or_insert_with(|| self.wires.clock.timer(STREAM_GRACE_PERIOD));
                    }
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                () = tokio::time::sleep_until(overdue.unwrap_or(far)), if overdue.is_some() => {
                    self.count_misses();
                    let suspects = self.wires.paths.has_unconfirmed();
                    overdue = suspects.then(|| self.wires.clock.timer(STREAM_GRACE_PERIOD));
                }
                () = tokio::time::sleep_until(self.backlog.unwrap_or(far)), if self.backlog.is_some() => {
                    self.backlog = None;
                    self.relist_soon(RelistCause::Backlog, Duration::ZERO);
                }
                () = self.rhythms.changed() => self.keep_time(),
                () = tokio::time::sleep_until(self.retry.unwrap_or(far)), if self.retry.is_some() => {
                    self.open_again("the wait is over");
                }
                () = self.wires.requests.notified() => self.relist_soon(RelistCause::Request, REQUESTS_APART),
                () = tokio::time::sleep_until(next), if self.next.is_some() => match self.rest(cause) {
                    Some(rest) => self.next = Some((self.wires.clock.timer(rest), cause)),
                    None => {
                        self.next = None;
                        under_way.spawn(self.relist(cause));
                    }
                },
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            self.signs.heartbeat.beat();
            // Without one that is due, one is under way, and whatever becomes of it makes the next one due.
            if self.next.is_some() {
                self.signs.relister.beat();
            } else {
                self.signs.relister.allow(self.wires.relister.longest_listing() + SLACK);
            }
        }
    }

    fn relist(&mut self, cause: RelistCause) -> impl Future<Output = Progress> + Send + use<> {
        let relister = self.wires.relister.clone();
        let identify = self.unidentified;
        let (began, at) = self.wires.clock.now_both();
        self.wires.metrics.relists.began(at);
        if let Some(last) = self.last_began.replace(began) {
            self.wires.metrics.relists.interval.observe(began.since(last).as_secs_f64());
        }
        async move {
            let result = traces::relist(cause.as_str(), async {
                let runtime = if identify { Some(relister.identify().await?) } else { None };
                Ok((runtime, relister.relist().await?))
            });
            Progress::Listed(Listed { cause, began, began_at: at, result: result.await })
        }
    }

    /// How much longer a relist is to wait, for the sake of the runtime and of what the last ones found and is still being read.
    fn rest(&self, cause: RelistCause) -> Option<Duration> {
        match cause {
            RelistCause::Period => self.share.rest(false, self.wires.clock.now()),
            RelistCause::Request => self.share.rest(true, self.wires.clock.now()),
            _ => None,
        }
    }

    /// The lists have come, or not; sets when the next ones are due. What is still to be read does not hold them up.
    fn listed(&mut self, listed: Listed) -> Option<impl Future<Output = Progress> + Send + use<>> {
        let Listed { cause, began, began_at, result } = listed;
        match result {
            Ok((runtime, relisted)) => {
                if let Some(runtime) = runtime {
                    self.adopt(runtime);
                }
                self.answers();
                self.share.listed(began, self.wires.clock.now());
                let wait = self.jittered(self.machine.period());
                self.next = Some((self.wires.clock.timer(wait), RelistCause::Period));
                if let Some((again, apart)) = self.again.take() {
                    self.relist_soon(again, apart);
                }
                Some(async move {
                    relisted.reads.await;
                    Progress::Complete { cause, began }
                })
            }
            Err(error) => {
                let (now, at) = self.wires.clock.now_both();
                self.wires.metrics.relists.ended(cause, Outcome::Error, now.since(began), at);
                let wait = self.fail(&error, began_at);
                self.again = None;
                self.next = Some((self.wires.clock.timer(wait), RelistCause::Retry));
                None
            }
        }
    }

    fn complete(&mut self, cause: RelistCause, began: Mono) {
        let (now, at) = self.wires.clock.now_both();
        let took = now.since(began);
        tracing::debug!(cause = cause.as_str(), ?took, "Relisted.");
        self.wires.metrics.relists.ended(cause, Outcome::Ok, took, at);
        self.signs.ready.open();
        self.wires.metrics.mode.ready.set(1);
        self.signs.follower_status.send_if_modified(|it| !std::mem::replace(&mut it.ready, true));
        if let Some(lost) = self.stream_lost.take_if(|lost| began >= *lost) {
            self.wires.metrics.mode.fallback.observe(now.since(lost).as_secs_f64());
        }
        // Those that something else asked for come too close to each other to prove anything.
        if cause == RelistCause::Period {
            let suspects = self.wires.paths.has_unconfirmed();
            self.step(Input::Relisted { suspects });
        }
    }

    fn answers(&mut self) {
        if let Some((failures, lasted)) = self.outage.end(self.wires.clock.now()) {
            tracing::info!(after_failures = failures, ?lasted, "The runtime answers again.");
            self.show_failures(None);
            if std::mem::take(&mut self.away) && self.sharing.restarted() {
                self.open_again("the runtime was restarted");
            }
            // Whoever waits to subscribe again, or to read a pod, need not wait any longer.
            self.wires.hurry.notify_one();
            self.wires.relister.runtime_is_back();
        }
    }

    /// Says it once, and once more if it lasts; tries again soon, and then less often.
    fn fail(&mut self, error: &CriError, began_at: Wall) -> Duration {
        let (loudness, wait) =
            self.outage.failed(self.wires.clock.now(), error.runtime_is_away(), self.rhythm.period);
        let since = self.signs.follower_status.borrow().failures.as_ref().map_or(began_at, |it| it.since);
        let (count, last_error) = (self.outage.failures(), error.to_string());
        let failures = RelistFailures { count, since, last_error };
        self.away |= error.runtime_is_away();
        if failures.persist() {
            self.signs.runtime.set_failed(format!(
                "cannot be listed since {since}: {count} relists in a row failed, the last with: {error}"
            ));
        }
        if failures.begin_to_persist() {
            self.step(Input::Unchecked);
        }
        self.show_failures(Some(failures));
        match loudness {
            Loudness::Silent => {}
            Loudness::News => {
                if error.runtime_is_away() {
                    tracing::warn!(%error, "The runtime does not answer; waiting for it. What is served is as of the last relist.");
                } else {
                    tracing::warn!(%error, "The relist failed; it is tried again. What is served is as of the last one.");
                }
                self.signs.runtime.set_failed(error.to_string());
                self.signs.ready.waits_for(format!("not yet complete: {error}"));
            }
            Loudness::CallForHelp => tracing::error!(
                %error,
                failures = count,
                %since,
                "Listing the runtime has failed for a minute: what is served is stale by as much. Look at the runtime and its \
                 log; `plegd check` shows what it answers."
            ),
        }
        self.unidentified = true;
        self.jittered(wait)
    }

    /// The runtime has said what it is.
    fn adopt(&mut self, runtime: RuntimeInfo) {
        let quirks = Quirks::of(&runtime.name, &runtime.version);
        if self.runtime.as_ref() != Some(&runtime) {
            let known: Vec<&str> = quirks.iter().map(Quirk::summary).collect();
            tracing::info!(%runtime, cri = runtime.api_version, ?known, "Following the runtime.");
            self.step(self.bounds(Some(&quirks)));
        }
        let shared = quirks.has(Quirk::SharedChannel);
        self.wires.metrics.stream.shared.set(shared.into());
        self.share_channel(shared);
        self.signs.runtime.set_ok(runtime.to_string());
        self.unidentified = false;
        self.runtime = Some(runtime);
        self.publish();
    }

    /// Between which periods the mode machine is to keep, on a runtime with these quirks.
    fn bounds(&self, quirks: Option<&Quirks>) -> Input {
        let Rhythm { period: shortest, max_period, .. } = self.rhythm;
        Input::Bounds { shortest, longest: quirks.map_or(max_period, |it| longest_period(it, max_period)) }
    }

    /// The configuration is another one. A relist that is further away than the new period comes sooner.
    fn keep_time(&mut self) {
        let rhythm = self.rhythms.get();
        if std::mem::replace(&mut self.rhythm, rhythm) != rhythm {
            let quirks = self.runtime.as_ref().map(|it| Quirks::of(&it.name, &it.version));
            self.step(self.bounds(quirks.as_ref()));
            self.relist_within(self.machine.period());
            self.share_channel(quirks.is_some_and(|quirks| quirks.has(Quirk::SharedChannel)));
        }
    }

    fn follow(&mut self, change: StreamChange) {
        match change {
            StreamChange::Up { since } => {
                self.stream_up = Some(since);
                self.wires.arbiter.set_stream_up(Some(since));
                self.sharing.up(self.wires.clock.now());
                self.judge_order(since);
                self.show_stream("up", true);
                self.last_stream_trouble = None;
                self.step(Input::StreamUp);
                self.backlog = Some(self.wires.clock.timer(BACKLOG_PASSED));
                self.relist_soon(RelistCause::StreamUp, Duration::ZERO);
            }
            StreamChange::Lost { .. } if self.sharing.retry_at().is_some() => self.yielded(),
            StreamChange::Lost { at, why, reason } => {
                self.sharing.lost(at);
                if self.stream_up.take().is_some() {
                    tracing::warn!(%why, "The event stream is lost: polling until it is back.");
                    self.stream_lost = Some(at);
                    self.unidentified = true;
                    self.relist_soon(RelistCause::StreamLost, Duration::ZERO);
                } else if self.last_stream_trouble.as_ref() != Some(&why) {
                    if reason == DisconnectReason::Unsupported {
                        tracing::info!(%why, "The runtime has no events: polling.");
                    } else {
                        tracing::info!(%why, "The event stream cannot be had yet: polling.");
                    }
                }
                self.backlog = None;
                self.wires.arbiter.set_stream_up(None);
                self.judge_order(at);
                self.show_stream(&why, false);
                self.last_stream_trouble = Some(why);
                self.step(Input::StreamLost);
            }
        }
    }

    fn count_misses(&mut self) {
        let missed = self.wires.paths.overdue(self.wires.clock.now());
        self.missed(&missed);
    }

    fn missed(&mut self, missed: &[(ObjectId, StreamEventType)]) {
        let Some((_, first)) = missed.first() else { return };
        if let Some(given_way) = self.sharing.missed(self.wires.clock.now(), missed) {
            return self.give_way(given_way);
        }
        tracing::warn!(
            count = missed.len(),
            first = first.as_str(),
            "The event stream has missed changes: relisting more often. If the runtime delivers each event to one subscriber only, \
             another one may have received them."
        );
        self.step(Input::Missed);
        self.relist_within(self.machine.period());
    }

    fn step(&mut self, input: Input) {
        let before = self.machine;
        self.machine = before.step(input);
        if before.mode() != self.machine.mode() {
            tracing::info!(mode = %self.machine.mode(), from = %before.mode(), "The mode has changed.");
            self.wires.metrics.mode.enter(self.machine.mode());
            let since = self.wires.clock.now_both().1;
            self.signs.follower_status.send_modify(|it| (it.mode, it.mode_since) = (self.machine.mode(), since));
        }
        if before != self.machine {
            self.wires.metrics.relists.period.set(self.machine.period().as_secs_f64());
            self.publish();
        }
    }

    fn publish(&self) {
        let (mode, period) = (self.machine.mode(), self.machine.period());
        self.signs.mode.set_ok(format!("{mode}, a relist every {}", humantime::format_duration(period)));
        self.signs.follower_status.send_if_modified(|it| {
            let changed = it.period != period || it.runtime != self.runtime;
            it.period = period;
            it.runtime.clone_from(&self.runtime);
            changed
        });
    }

    fn show_failures(&self, failures: Option<RelistFailures>) {
        let count = failures.as_ref().map_or(0, |failures| failures.count);
        self.wires.metrics.relists.consecutive_failures.set(count.into());
        // A runtime that is away fails ten times a second: that is no reason to wake every subscriber as often.
        self.signs.follower_status.send_if_modified(|it| {
            it.failures = failures;
            false
        });
    }

    fn show_stream(&self, how: &str, up: bool) {
        if up {
            self.signs.stream.set_ok(how);
        } else {
            self.signs.stream.set_failed(how);
        }
        let since = self.wires.clock.now_both().1;
        self.signs.follower_status.send_modify(|it| {
            if it.stream_up != self.stream_up || it.stream != how {
                (it.stream_up, it.stream_since, it.stream) = (self.stream_up, since, how.to_owned());
            }
        });
    }

    /// Relists now, or `apart` after the last one began; after the one that is under way, since that began too early.
    fn relist_soon(&mut self, cause: RelistCause, apart: Duration) {
        let Some((next, _)) = self.next else {
            if self.again.is_none_or(|(_, sooner)| apart < sooner) {
                self.again = Some((cause, apart));
            }
            return;
        };
        let since_last = self.last_began.map_or(apart, |last| self.wires.clock.now().since(last));
        let at = self.wires.clock.timer(apart.saturating_sub(since_last));
        if at < next {
            self.next = Some((at, cause));
        }
    }

    fn relist_within(&mut self, period: Duration) {
        let at = self.wires.clock.timer(period);
        if let Some((next, _)) = &mut self.next {
            *next = at.min(*next);
        }
    }

    fn jittered(&self, period: Duration) -> Duration {
        let by = self.rhythm.jitter * (2.0 * fastrand::f64() - 1.0);
        period.mul_f64(1.0 + by)
    }
}
