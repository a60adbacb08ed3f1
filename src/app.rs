//! Creates the parts, connects them and stops them. It contains no rules of its own.
//!
//! ```text
//! receiver ─▶ queue ─▶ applier ─┐
//!                               ├─▶ arbiter ─▶ cache, journal
//! supervisor ─▶ relister ─▶ reader ┘
//! ```

mod builder;
mod scrape;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::builder::Builder;
use crate::{
    arbiter::{Arbiter, ArbiterDeps, Beginning},
    clock::Mono,
    config::{InForce, Live, Loaded},
    cri::Client,
    evented::{self, DesiredStream, EventApplier, EventOrder, Receiver, SoftLimits, StreamChange},
    journal::{Capacity, Journal},
    metrics::{Metrics, StreamState},
    model::{Mode, ObjectId, Pod, PodUid, StreamEventType},
    path_comparison::PathComparison,
    relister::{Lister, Reader, ReaderDeps, Reads, Relister, RelisterDeps},
    state::{StatePlace, StateWriter},
    supervisor::{RelistConfig, StatusReporters, Supervisor, SupervisorDeps},
    watch::{Feed, FeedDeps, Request, Watch, WatchError},
};
pub use crate::{
    cache::{Cache, Counts, LookUpError},
    clock::Clock,
    config::{Bytes, Config, ConfigError},
    cri::{Connection, Endpoint, Link},
    fresh::FreshReader,
    health::{Check, Health, Report},
    model::{FollowerStatus, RelistFailures, RuntimeInfo},
    relister::{ReadError, Unreadable, UnreadableIds},
};

/// Methods that are public only with the feature `internals`.
macro_rules! internal {
    ($($(#[$meta:meta])* fn $name:ident(&$it:ident) -> $result:ty $body:block)*) => {$(
        $(#[$meta])*
        #[cfg(feature = "internals")]
        pub fn $name(&$it) -> $result $body

        $(#[$meta])*
        #[cfg(not(feature = "internals"))]
        pub(crate) fn $name(&$it) -> $result $body
    )*};
}

/// A task without progress for longer than this fails the liveness check.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A running plegd.
pub struct App {
    in_force: InForce,
    began_with: Arc<Loaded>,
    cache: Cache,
    journal: Journal,
    fresh: FreshReader,
    unreadable: UnreadableIds,
    health: Health,
    metrics: Arc<Metrics>,
    follower_status: watch::Receiver<FollowerStatus>,
    clock: Clock,
    tasks: Tasks,
    arbiter: Arc<Arbiter>,
}

/// The reason why a pod newer than a given moment could not be returned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FreshError {
    /// The read from the runtime failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The timeout has passed.
    #[error("the pod could not be read within {}", humantime::format_duration(*.0))]
    Deadline(Duration),
}

/// What an app needs.
struct AppDeps<'a> {
    receiver_runtime: &'a Handle,
    in_force: &'a InForce,
    link: Link,
    clock: Clock,
    state: Option<StatePlace>,
    on_failure: OnFailure,
}

/// The effect of a failed part. The other parts must not go on, because they would serve outdated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    /// The process ends, and its supervisor restarts it.
    EndProcess,
    /// The other parts of the app stop.
    StopApp,
}

// === impl App ===

impl App {
    /// Creates a builder, for a program that embeds plegd.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts to follow the runtime behind `link`. Must be called in a tokio runtime.
    #[cfg(any(test, feature = "internals"))]
    pub fn start(config: &Config, link: Link, clock: Clock) -> Self {
        Self::start_with_receiver_on(&Handle::current(), &InForce::of_program(config.clone()), link, clock)
    }

    /// Like [`App::start`], with a separate tokio runtime for the receiver, and a configuration that can change.
    #[cfg(any(test, feature = "internals"))]
    pub fn start_with_receiver_on(
        receiver_runtime: &Handle,
        in_force: &InForce,
        link: Link,
        clock: Clock,
    ) -> Self {
        let on_failure = OnFailure::StopApp;
        Self::assemble(AppDeps { receiver_runtime, in_force, link, clock, state: None, on_failure })
    }

    /// Like [`App::start`], with state on disk.
    #[cfg(any(test, feature = "internals"))]
    pub fn start_with_state(config: &Config, link: Link, clock: Clock, state: StatePlace) -> Self {
        let (receiver_runtime, in_force) = (&Handle::current(), &InForce::of_program(config.clone()));
        let on_failure = OnFailure::StopApp;
        Self::assemble(AppDeps { receiver_runtime, in_force, link, clock, state: Some(state), on_failure })
    }

    /// Starts the app of the daemon: a failed part ends the process.
    pub(crate) fn of_daemon(
        receiver_runtime: &Handle,
        in_force: &InForce,
        link: Link,
        clock: Clock,
        state: Option<StatePlace>,
    ) -> Self {
        let on_failure = OnFailure::EndProcess;
        Self::assemble(AppDeps { receiver_runtime, in_force, link, clock, state, on_failure })
    }

    fn assemble(deps: AppDeps<'_>) -> Self {
        let AppDeps { receiver_runtime, in_force, link, clock, state, on_failure } = deps;
        let began_with = in_force.get();
        let config = &began_with.config;
        let request_timeout = in_force.live(|config| config.runtime.request_timeout);
        let core = Core::new(config, link, request_timeout, clock, state);
        let generic = GenericPath::new(&core, in_force.live(|config| config.relist.parallelism));
        let (stream_ends, ends) = channels();
        let limits =
            SoftLimits { messages: config.stream.queue_messages, bytes: config.stream.queue_bytes.0 };
        let (sender, queue) = evented::queue(limits, core.metrics.clone());
        scrape::gauges(&core, queue.load());

        let (reporters, follower_status) = core.reporters(config.relist.period);
        let (stop, killed) = (CancellationToken::new(), CancellationToken::new());
        let tasks = Tasks { tracker: TaskTracker::new(), stop, killed, on_failure };
        let here = &Handle::current();
        if config.stream.enabled {
            let receiver = Receiver {
                client: core.client.clone(),
                sender,
                changes: stream_ends.changes,
                desired: stream_ends.desired,
                retry_now: ends.retry_now.clone(),
                heartbeat: core.health.heartbeat("receiver", STUCK_AFTER),
                clock: core.clock.clone(),
                metrics: core.metrics.clone(),
            };
            tasks.spawn(receiver_runtime, receiver.run(tasks.stop.clone()).boxed());
        } else {
            let off = "switched off by stream.enabled = false";
            reporters.stream.set_failed(off);
            core.metrics.stream.state.set_only(StreamState::Off);
            reporters.follower_status.send_modify(|it| it.stream = off.into());
        }
        let applier = EventApplier {
            arbiter: core.arbiter.clone(),
            reads: generic.reads.clone(),
            relist: ends.requests.clone(),
            order: EventOrder::new(core.clock.clone()),
            order_since: stream_ends.order_since,
            left_out: stream_ends.left_out,
            clock: core.clock.clone(),
        };
        tasks.spawn(here, applier.run(queue).boxed());
        // The schedules of an earlier process.
        generic.reads.request_all(core.arbiter.resume_reads());
        if let Some(state) = &core.state {
            tasks.spawn(here, keep_state(state.clone(), core.arbiter.clone(), tasks.stop.clone()).boxed());
        }
        let unreadable = generic.reader.unreadable().clone();
        tasks.spawn(here, generic.reader.run(tasks.stop.clone()).boxed());
        let deps = ends.into_deps(&core, generic.relister);
        let relist_config = in_force.live(|Config { relist, stream, .. }| RelistConfig {
            period: relist.period,
            max_period: relist.max_period,
            jitter: relist.jitter,
            shared: stream.shared,
        });
        let supervisor = Supervisor::new(deps, reporters, relist_config);
        tasks.spawn(here, supervisor.run(tasks.stop.clone()).boxed());
        tasks.tracker.close();
        let Core { clock, metrics, health, cache, journal, arbiter, .. } = core;
        let fresh = FreshReader {
            arbiter: arbiter.clone(),
            lister: generic.lister,
            reads: generic.reads,
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        Self {
            in_force: in_force.clone(),
            began_with,
            cache,
            journal,
            fresh,
            unreadable,
            health,
            metrics,
            follower_status,
            clock,
            tasks,
            arbiter,
        }
    }

    internal! {
        /// The configuration at the start.
        fn config(&self) -> &Config {
            &self.began_with.config
        }

        /// The configuration in force.
        fn in_force(&self) -> &InForce {
            &self.in_force
        }

        fn journal(&self) -> &Journal {
            &self.journal
        }

        fn metrics(&self) -> &Arc<Metrics> {
            &self.metrics
        }

        /// Creates watches.
        fn feed(&self) -> Feed {
            Feed::new(FeedDeps {
                journal: self.journal.clone(),
                cache: self.cache.clone(),
                follower_status: self.follower_status.clone(),
                clock: self.clock.clone(),
                stop: self.tasks.stop.clone(),
            })
        }
    }

    /// The cache of pods, for reading.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns the metrics in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// [`std::fmt::Error`] if the metrics cannot be formatted, which would be a bug in plegd.
    pub fn scrape(&self) -> Result<String, std::fmt::Error> {
        self.metrics.scrape().map_err(|_| std::fmt::Error)
    }

    /// The ids that the runtime lists but whose status it does not return.
    pub fn unreadable(&self) -> &UnreadableIds {
        &self.unreadable
    }

    /// Liveness and readiness.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The clock of this app.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The mode, the relist period and the runtime.
    pub fn follower_status(&self) -> FollowerStatus {
        self.follower_status.borrow().clone()
    }

    /// The follower status and its changes.
    pub fn follower_status_changes(&self) -> watch::Receiver<FollowerStatus> {
        self.follower_status.clone()
    }

    /// Watches pods: a snapshot and the changes after it, or only the changes. See [`crate::watch`].
    ///
    /// # Errors
    ///
    /// [`WatchError::Invalid`] if the request contradicts itself.
    pub fn watch(&self, request: Request) -> Result<Watch, WatchError> {
        self.feed().watch(request)
    }

    /// Returns the pod as it was at some moment after `newer_than`; `None` if it did not exist. It comes from the cache if the cache is
    /// known to be newer, otherwise from a read that starts now. Drop the future to cancel.
    ///
    /// # Errors
    ///
    /// [`FreshError`] if the runtime does not answer within `timeout`.
    pub async fn pod_newer_than(
        &self,
        uid: &PodUid,
        newer_than: Mono,
        timeout: Duration,
    ) -> Result<Option<Arc<Pod>>, FreshError> {
        let pod = tokio::time::timeout(timeout, self.fresh.pod(uid, newer_than)).await;
        Ok(pod.map_err(|_| FreshError::Deadline(timeout))??)
    }

    /// Returns pods that are not older than a given moment.
    pub fn fresh(&self) -> &FreshReader {
        &self.fresh
    }

    /// Keeps at most this many tombstones from now on, for tests.
    #[cfg(feature = "internals")]
    pub fn keep_tombstones(&self, at_most: usize) {
        self.arbiter.keep_tombstones(at_most);
    }

    /// The token that stops this app when it is cancelled.
    pub fn stop_token(&self) -> CancellationToken {
        self.tasks.stop.clone()
    }

    /// Stops all parts and waits for them.
    pub async fn stop(self) {
        self.tasks.stop.cancel();
        self.tasks.tracker.wait().await;
        self.arbiter.save_stopped();
        self.arbiter.save_for_reboot();
    }

    /// Ends at once, as a killed process does.
    #[cfg(feature = "internals")]
    pub async fn kill(self) {
        self.tasks.killed.cancel();
        self.tasks.tracker.wait().await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

/// The parts that all others use.
struct Core {
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Health,
    cache: Cache,
    journal: Journal,
    paths: PathComparison,
    arbiter: Arc<Arbiter>,
    state: Option<StateWriter>,
    client: Client,
}

struct GenericPath {
    reads: Reads,
    relister: Relister,
    lister: Lister,
    reader: Reader,
}

/// The event path's ends of the channels to the supervisor.
struct StreamEnds {
    changes: mpsc::UnboundedSender<StreamChange>,
    desired: watch::Receiver<DesiredStream>,
    order_since: watch::Receiver<Option<Mono>>,
    left_out: mpsc::UnboundedSender<(ObjectId, StreamEventType)>,
}

/// The supervisor's ends of the same channels.
struct SupervisorEnds {
    changes: mpsc::UnboundedReceiver<StreamChange>,
    desired: watch::Sender<DesiredStream>,
    order_since: watch::Sender<Option<Mono>>,
    left_out: mpsc::UnboundedReceiver<(ObjectId, StreamEventType)>,
    requests: Arc<Notify>,
    retry_now: Arc<Notify>,
}

/// The tasks of an app. If one panics, the others are stopped.
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The tasks end wherever they are.
    killed: CancellationToken,
    on_failure: OnFailure,
}

/// Writes a checkpoint when one is due.
async fn keep_state(state: StateWriter, arbiter: Arc<Arbiter>, stop: CancellationToken) {
    while stop.run_until_cancelled(state.checkpoint_due()).await.is_some() {
        arbiter.save_checkpoint();
    }
}

fn channels() -> (StreamEnds, SupervisorEnds) {
    let (changes_in, changes) = mpsc::unbounded_channel();
    let (desired, desired_out) = watch::channel(DesiredStream::Open);
    let (order_since, order_since_out) = watch::channel(None);
    let (left_out_in, left_out) = mpsc::unbounded_channel();
    let (requests, retry_now) = (Arc::default(), Arc::default());
    (
        StreamEnds {
            changes: changes_in,
            desired: desired_out,
            order_since: order_since_out,
            left_out: left_out_in,
        },
        SupervisorEnds { changes, desired, order_since, left_out, requests, retry_now },
    )
}

// === impl Core ===

impl Core {
    fn new(
        config: &Config,
        link: Link,
        request_timeout: Live<Duration>,
        clock: Clock,
        state: Option<StatePlace>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        metrics.config.started(clock.wall());
        let capacity = Capacity { events: config.journal.events, bytes: config.journal.bytes.0 };
        let health = Health::new(clock.clone());
        let note = health.note("state", "");
        let Beginning { epoch, mut restored, writer } = match state {
            Some(place) => Beginning::of(place, &clock, &metrics, note),
            None => Beginning::without_state("not kept: it is switched off", &clock, &metrics, &note),
        };
        let journal = match &mut restored {
            Some(restored) => restored.journal(capacity),
            None => Journal::new(capacity, epoch),
        };
        let paths = PathComparison::new(metrics.clone());
        let deps = ArbiterDeps {
            journal: journal.clone(),
            paths: paths.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            state: writer.clone(),
        };
        let arbiter = match restored {
            Some(restored) => Arbiter::restored(deps, restored),
            None => Arbiter::new(deps),
        };
        // Before anything is published.
        arbiter.save_checkpoint();
        Self {
            health,
            state: writer,
            client: Client::new(link, request_timeout, clock.clone(), metrics.clone()),
            cache: arbiter.cache().clone(),
            arbiter: Arc::new(arbiter),
            clock,
            metrics,
            journal,
            paths,
        }
    }

    /// The supervisor's readiness gate, notes and heartbeats, and the follower status.
    fn reporters(&self, period: Duration) -> (StatusReporters, watch::Receiver<FollowerStatus>) {
        let began = self.clock.now_both().1;
        let (follower_status, follower_status_rx) = watch::channel(FollowerStatus {
            ready: false,
            mode: Mode::Polling,
            mode_since: began,
            period,
            runtime: None,
            stream_up: None,
            stream_since: began,
            stream: "not yet tried".into(),
            failures: None,
            yielded: None,
        });
        let reporters = StatusReporters {
            ready: self.health.readiness_gate("initial-relist", "not yet complete: waiting for the runtime"),
            mode: self.health.note("mode", "polling"),
            stream: self.health.note("event-stream", "not yet tried"),
            runtime: self.health.note("runtime", "not yet reached"),
            heartbeat: self.health.heartbeat("supervisor", STUCK_AFTER),
            relister: self.health.heartbeat("relister", STUCK_AFTER),
            follower_status,
        };
        (reporters, follower_status_rx)
    }
}

// === impl GenericPath ===

impl GenericPath {
    fn new(core: &Core, parallelism: Live<usize>) -> Self {
        let (reads, requests) = Reads::new();
        let relister = Relister::new(RelisterDeps {
            client: core.client.clone(),
            cache: core.cache.clone(),
            arbiter: core.arbiter.clone(),
            paths: core.paths.clone(),
            reads: reads.clone(),
            clock: core.clock.clone(),
            metrics: core.metrics.clone(),
        });
        let lister = Lister::new(relister.clone());
        let reader = Reader::new(ReaderDeps {
            client: core.client.clone(),
            lister: lister.clone(),
            cache: core.cache.clone(),
            arbiter: core.arbiter.clone(),
            clock: core.clock.clone(),
            metrics: core.metrics.clone(),
            parallelism,
            reads: reads.clone(),
            requests,
        });
        Self { reads, relister, lister, reader }
    }
}

// === impl SupervisorEnds ===

impl SupervisorEnds {
    fn into_deps(self, core: &Core, relister: Relister) -> SupervisorDeps {
        SupervisorDeps {
            relister,
            arbiter: core.arbiter.clone(),
            paths: core.paths.clone(),
            changes: self.changes,
            left_out: self.left_out,
            order_since: self.order_since,
            desired: self.desired,
            requests: self.requests,
            retry_now: self.retry_now,
            clock: core.clock.clone(),
            metrics: core.metrics.clone(),
        }
    }
}

// === impl Tasks ===

impl Tasks {
    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) {
        let (stop, killed, on_failure) = (self.stop.clone(), self.killed.clone(), self.on_failure);
        let task = self.tracker.spawn_on(task, runtime);
        self.tracker.spawn(async move {
            let handle = task.abort_handle();
            let Some(ended) = killed.run_until_cancelled(task).await else { return handle.abort() };
            if ended.is_err_and(|error| error.is_panic()) {
                tracing::error!(
                    "A part of plegd has failed; it ends, and must be started again. This is a bug in plegd: please report it with \
                     the log until here."
                );
                stop.cancel();
                if on_failure == OnFailure::EndProcess {
                    std::process::exit(70);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_stops_an_embedded_app_and_not_the_process() {
        let nowhere =
            Link::new("nothing", || Box::pin(async { Err(io::Error::from(io::ErrorKind::NotFound)) }));
        let app = App::builder().link(nowhere).start().unwrap();
        let mut watch = app.watch(Request { wait_ready: true, ..Request::default() }).unwrap();
        app.tasks.spawn(&Handle::current(), async { panic!("a bug in a part") }.boxed());
        assert!(matches!(watch.next().await, Err(WatchError::Ending)));
        assert!(app.stop_token().is_cancelled());
        app.stop().await;
    }
}
