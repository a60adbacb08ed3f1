//! Builds the parts, joins them, and stops them. It has no rules of its own.
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
    arbiter::Arbiter,
    clock::Mono,
    config::{InForce, Live, Loaded},
    cri::Client,
    evented::{self, EventApplier, EventOrder, Limits, Receiver, StreamChange, Wanted},
    journal::{Capacity, Journal},
    metrics::{Metrics, StreamState},
    model::{Mode, ObjectId, Pod, PodUid, StreamEventType},
    path_comparison::PathComparison,
    relister::{Lister, Reader, ReaderDependencies, Reads, Relister},
    supervisor::{Rhythm, Signs, Supervisor, Wires},
    watch::{Feed, Request, Watch, WatchError},
};
pub use crate::{
    cache::Cache,
    clock::Clock,
    config::{Bytes, Config, ConfigError},
    cri::{Connection, Endpoint, Link, RuntimeInfo},
    fresh::Fresh,
    health::{Check, Health, Report},
    relister::{ReadError, Unreadable, UnreadableIds},
    supervisor::{RelistFailures, Situation},
};

/// Methods that are public with the feature `internals` alone.
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

/// How long a task that makes no progress counts as alive.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A running plegd.
pub struct App {
    in_force: InForce,
    began_with: Arc<Loaded>,
    cache: Cache,
    journal: Journal,
    fresh: Fresh,
    unreadable: UnreadableIds,
    health: Health,
    metrics: Arc<Metrics>,
    situation: watch::Receiver<Situation>,
    clock: Clock,
    tasks: Tasks,
}

/// Why a pod newer than some moment could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FreshError {
    /// The runtime did not give it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It took longer than the reader wanted to wait.
    #[error("the pod could not be read within {}", humantime::format_duration(*.0))]
    Deadline(Duration),
}

/// What a part that fails takes with it: half a plegd would serve what is no longer true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    /// The process, for whoever started it to start it again.
    EndProcess,
    /// The other parts.
    StopApp,
}

// === impl App ===

impl App {
    /// For a program that follows the runtime itself.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts to follow the runtime behind `link`. Must be called in a tokio runtime.
    #[cfg(any(test, feature = "internals"))]
    pub fn start(config: &Config, link: Link, clock: Clock) -> Self {
        Self::start_with_receiver_on(&Handle::current(), &InForce::of_program(config.clone()), link, clock)
    }

    /// The same with the receiver on a runtime of its own and a configuration that can change.
    #[cfg(any(test, feature = "internals"))]
    pub fn start_with_receiver_on(
        receiver_runtime: &Handle,
        in_force: &InForce,
        link: Link,
        clock: Clock,
    ) -> Self {
        Self::assemble(receiver_runtime, in_force, link, clock, OnFailure::StopApp)
    }

    /// That of the daemon: a part that fails ends the process.
    pub(crate) fn of_daemon(receiver_runtime: &Handle, in_force: &InForce, link: Link, clock: Clock) -> Self {
        Self::assemble(receiver_runtime, in_force, link, clock, OnFailure::EndProcess)
    }

    fn assemble(
        receiver_runtime: &Handle,
        in_force: &InForce,
        link: Link,
        clock: Clock,
        on_failure: OnFailure,
    ) -> Self {
        let began_with = in_force.get();
        let config = &began_with.config;
        let request_timeout = in_force.live(|config| config.runtime.request_timeout);
        let core = Core::new(config, link, request_timeout, clock);
        let generic = GenericPath::new(&core, in_force.live(|config| config.relist.parallelism));
        let (stream_ends, ends) = channels();
        let limits = Limits { messages: config.stream.queue_messages, bytes: config.stream.queue_bytes.0 };
        let (sender, queue) = evented::queue(limits, core.metrics.clone());
        scrape::gauges(&core, queue.load());

        let (signs, situation) = core.signs(config.relist.period);
        let tasks = Tasks { tracker: TaskTracker::new(), stop: CancellationToken::new(), on_failure };
        let here = &Handle::current();
        if config.stream.enabled {
            let receiver = Receiver {
                client: core.client.clone(),
                sender,
                changes: stream_ends.changes,
                wanted: stream_ends.wanted,
                hurry: ends.hurry.clone(),
                heartbeat: core.health.heartbeat("receiver", STUCK_AFTER),
                clock: core.clock.clone(),
                metrics: core.metrics.clone(),
            };
            tasks.spawn(receiver_runtime, receiver.run(tasks.stop.clone()).boxed());
        } else {
            let off = "switched off by stream.enabled = false";
            signs.stream.bad(off);
            core.metrics.stream.state.set_only(StreamState::Off);
            signs.situation.send_modify(|it| it.stream = off.into());
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
        let unreadable = generic.reader.unreadable().clone();
        tasks.spawn(here, generic.reader.run(tasks.stop.clone()).boxed());
        let wires = ends.into_wires(&core, generic.relister);
        let rhythms = in_force.live(|Config { relist, stream, .. }| Rhythm {
            period: relist.period,
            max_period: relist.max_period,
            jitter: relist.jitter,
            shared: stream.shared,
        });
        let supervisor = Supervisor::new(wires, signs, rhythms);
        tasks.spawn(here, supervisor.run(tasks.stop.clone()).boxed());
        tasks.tracker.close();
        let Core { clock, metrics, health, cache, journal, arbiter, .. } = core;
        let fresh = Fresh::new(arbiter, generic.lister, generic.reads, clock.clone(), metrics.clone());
        Self {
            in_force: in_force.clone(),
            began_with,
            cache,
            journal,
            fresh,
            unreadable,
            health,
            metrics,
            situation,
            clock,
            tasks,
        }
    }

    internal! {
        /// The configuration that it was started with.
        fn config(&self) -> &Config {
            &self.began_with.config
        }

        /// The configuration in force.
        fn in_force(&self) -> &InForce {
            &self.in_force
        }

        /// The journal.
        fn journal(&self) -> &Journal {
            &self.journal
        }

        /// The metrics.
        fn metrics(&self) -> &Arc<Metrics> {
            &self.metrics
        }

        /// What watches are made from.
        fn feed(&self) -> Feed {
            let (journal, cache) = (self.journal.clone(), self.cache.clone());
            Feed::new(journal, cache, self.situation.clone(), self.clock.clone(), self.tasks.stop.clone())
        }
    }

    /// Reads the cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The metrics in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// [`std::fmt::Error`] if they cannot be written, which would be a bug in plegd.
    pub fn scrape(&self) -> Result<String, std::fmt::Error> {
        self.metrics.scrape().map_err(|_| std::fmt::Error)
    }

    /// The ids that the runtime lists and whose status it does not give.
    pub fn unreadable(&self) -> &UnreadableIds {
        &self.unreadable
    }

    /// Liveness and readiness.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The mode, the relist period and the runtime.
    pub fn situation(&self) -> Situation {
        self.situation.borrow().clone()
    }

    /// The same, and its changes.
    pub fn follow_situation(&self) -> watch::Receiver<Situation> {
        self.situation.clone()
    }

    /// Watches pods: a snapshot and what changes, or only what changes. See [`crate::watch`].
    ///
    /// # Errors
    ///
    /// [`WatchError::Invalid`] if the request contradicts itself.
    pub fn watch(&self, request: Request) -> Result<Watch, WatchError> {
        self.feed().watch(request)
    }

    /// The pod as it was at some moment after `newer_than`; none if it did not exist. Served from the cache if that is known
    /// to be newer, otherwise from a read that begins now. Drop the future to cancel.
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

    /// Returns pods that are not older than a moment.
    pub fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// Stops when this is cancelled.
    pub fn stop_token(&self) -> CancellationToken {
        self.tasks.stop.clone()
    }

    /// Stops all parts and waits for them.
    pub async fn stop(self) {
        self.tasks.stop.cancel();
        self.tasks.tracker.wait().await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

/// What all parts use.
struct Core {
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Health,
    cache: Cache,
    journal: Journal,
    paths: PathComparison,
    arbiter: Arc<Arbiter>,
    client: Client,
}

/// Lists and targeted reads.
struct GenericPath {
    reads: Reads,
    relister: Relister,
    lister: Lister,
    reader: Reader,
}

/// The ends of the channels to the supervisor that the evented path holds.
struct StreamEnds {
    changes: mpsc::UnboundedSender<StreamChange>,
    wanted: watch::Receiver<Wanted>,
    order_since: watch::Receiver<Option<Mono>>,
    left_out: mpsc::UnboundedSender<(ObjectId, StreamEventType)>,
}

/// The ends that the supervisor holds.
struct SupervisorEnds {
    changes: mpsc::UnboundedReceiver<StreamChange>,
    wanted: watch::Sender<Wanted>,
    order_since: watch::Sender<Option<Mono>>,
    left_out: mpsc::UnboundedReceiver<(ObjectId, StreamEventType)>,
    requests: Arc<Notify>,
    hurry: Arc<Notify>,
}

/// The tasks of an app. One that panics stops the others.
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    on_failure: OnFailure,
}

fn channels() -> (StreamEnds, SupervisorEnds) {
    let (changes_in, changes) = mpsc::unbounded_channel();
    let (wanted, wanted_out) = watch::channel(Wanted::Open);
    let (order_since, order_since_out) = watch::channel(None);
    let (left_out_in, left_out) = mpsc::unbounded_channel();
    let (requests, hurry) = (Arc::default(), Arc::default());
    (
        StreamEnds {
            changes: changes_in,
            wanted: wanted_out,
            order_since: order_since_out,
            left_out: left_out_in,
        },
        SupervisorEnds { changes, wanted, order_since, left_out, requests, hurry },
    )
}

// === impl Core ===

impl Core {
    fn new(config: &Config, link: Link, request_timeout: Live<Duration>, clock: Clock) -> Self {
        let metrics = Arc::new(Metrics::new());
        metrics.config.started(clock.wall());
        let capacity = Capacity { events: config.journal.events, bytes: config.journal.bytes.0 };
        let journal = Journal::new(capacity, fastrand::u64(1..));
        let paths = PathComparison::new(metrics.clone());
        let arbiter = Arbiter::new(journal.clone(), paths.clone(), clock.clone(), metrics.clone());
        Self {
            health: Health::new(clock.clone()),
            client: Client::new(link, request_timeout, clock.clone(), metrics.clone()),
            cache: arbiter.cache().clone(),
            arbiter: Arc::new(arbiter),
            clock,
            metrics,
            journal,
            paths,
        }
    }

    /// What the supervisor reports to, and the status that it reports.
    fn signs(&self, period: Duration) -> (Signs, watch::Receiver<Situation>) {
        let began = self.clock.now_both().1;
        let (situation, situations) = watch::channel(Situation {
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
        let signs = Signs {
            ready: self.health.latch("initial-relist", "not yet complete: waiting for the runtime"),
            mode: self.health.note("mode", "polling"),
            stream: self.health.note("event-stream", "not yet tried"),
            runtime: self.health.note("runtime", "not yet reached"),
            heartbeat: self.health.heartbeat("supervisor", STUCK_AFTER),
            relister: self.health.heartbeat("relister", STUCK_AFTER),
            situation,
        };
        (signs, situations)
    }
}

// === impl GenericPath ===

impl GenericPath {
    fn new(core: &Core, parallelism: Live<usize>) -> Self {
        let (reads, requests) = Reads::new();
        let relister = Relister::new(
            core.client.clone(),
            core.cache.clone(),
            core.arbiter.clone(),
            core.paths.clone(),
            reads.clone(),
            core.clock.clone(),
            core.metrics.clone(),
        );
        let lister = Lister::new(relister.clone());
        let reader = Reader::new(ReaderDependencies {
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
    fn into_wires(self, core: &Core, relister: Relister) -> Wires {
        Wires {
            relister,
            arbiter: core.arbiter.clone(),
            paths: core.paths.clone(),
            changes: self.changes,
            left_out: self.left_out,
            judged: self.order_since,
            wanted: self.wanted,
            requests: self.requests,
            hurry: self.hurry,
            clock: core.clock.clone(),
            metrics: core.metrics.clone(),
        }
    }
}

// === impl Tasks ===

impl Tasks {
    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) {
        let (stop, on_failure) = (self.stop.clone(), self.on_failure);
        let task = self.tracker.spawn_on(task, runtime);
        self.tracker.spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
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
