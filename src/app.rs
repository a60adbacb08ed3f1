//! Builds the parts, joins them, and takes them apart again. The only room that knows all others.
//!
//! ```text
//! receiver ─▶ queue ─▶ settler ─┐
//!                               ├─▶ arbiter ─▶ cache, journal
//! supervisor ─▶ relister ─▶ reader ┘
//! ```

mod builder;

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
    cache::Cache,
    clock::{Clock, Mono},
    config::{Config, InForce, Loaded},
    cri::{Client, Link, quirks::Quirk},
    evented::{self, Complete, EventOrder, Limits, Queue, Receiver, Wanted},
    fresh::Fresh,
    health::Health,
    journal::{Capacity, Journal},
    path_comparison::PathComparison,
    metrics::{Metrics, PodState, StreamState, raise_to},
    model::{ContainerState, Mode, ObjectId, Observation, PodUid, ResumeGap, SandboxState, StreamEventType},
    relister::{Lister, ReadError, Reader, ReaderDependencies, Reads, Relister, UnreadableIds},
    supervisor::{Rhythm, Signs, Situation, Supervisor, Wires},
    watch::{Feed, Request, Watch, WatchError},
};

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
    stop: CancellationToken,
    tasks: TaskTracker,
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
    pub fn start(config: &Config, link: Link, clock: Clock) -> Self {
        Self::start_with_receiver_on(&Handle::current(), &InForce::of_program(config.clone()), link, clock)
    }

    /// The same, but with the task that holds the event stream on a runtime of its own: whatever keeps this one busy, the
    /// stream is drained. What can change while it runs is as it is in force.
    pub fn start_with_receiver_on(
        receiver_runtime: &Handle,
        in_force: &InForce,
        link: Link,
        clock: Clock,
    ) -> Self {
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
        let metrics = Arc::new(Metrics::new());
        let health = Health::new(clock.clone());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let cache = Cache::default();
        let capacity = Capacity { events: config.journal.events, bytes: config.journal.bytes.0 };
        let journal = Journal::new(capacity, fastrand::u64(1..));
        let ledger = PathComparison::new(metrics.clone());
        metrics.config.started(clock.wall());
        let request_timeout = in_force.live(|config| config.runtime.request_timeout);
        let client = Client::new(link, request_timeout, clock.clone(), metrics.clone());
        let arbiter = Arc::new(Arbiter::new(
            cache.clone(),
            journal.clone(),
            ledger.clone(),
            clock.clone(),
            metrics.clone(),
        ));
        let (reads, requested) = Reads::new();
        let relister = Relister::new(
            client.clone(),
            cache.clone(),
            arbiter.clone(),
            ledger.clone(),
            reads.clone(),
            clock.clone(),
            metrics.clone(),
        );
        let lister = Lister::new(relister.clone());
        let reader = Reader::new(ReaderDependencies {
            client: client.clone(),
            lister: lister.clone(),
            cache: cache.clone(),
            arbiter: arbiter.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            parallelism: in_force.live(|config| config.relist.parallelism),
            reads: reads.clone(),
            requests: requested,
        });
        let limits = Limits { messages: config.stream.queue_messages, bytes: config.stream.queue_bytes.0 };
        let (sender, queue) = evented::queue(limits, metrics.clone());
        let (changed, changes) = mpsc::unbounded_channel();
        let (requests, hurry) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (judged, judge) = watch::channel(None);
        let (leaves_out, left_out) = mpsc::unbounded_channel();
        let (wants, wanted) = watch::channel(Wanted::Open);
        let period = config.relist.period;
        let began = clock.now_both().1;
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
        scrape(&metrics, &cache, &journal, &ledger, &clock, queue.load());

        let signs = Signs {
            ready: health.latch("initial-relist", "not yet complete: waiting for the runtime"),
            mode: health.note("mode", "polling"),
            stream: health.note("event-stream", "not yet tried"),
            runtime: health.note("runtime", "not yet reached"),
            heartbeat: health.heartbeat("supervisor", STUCK_AFTER),
            relister: health.heartbeat("relister", STUCK_AFTER),
            situation,
        };
        let spawn = |runtime: &Handle, task| spawn(&tasks, runtime, &stop, on_failure, task);
        let rhythms = in_force.live(|Config { relist, stream, .. }| Rhythm {
            period: relist.period,
            max_period: relist.max_period,
            jitter: relist.jitter,
            shared: stream.shared,
        });
        if config.stream.enabled {
            let heartbeat = health.heartbeat("receiver", STUCK_AFTER);
            let receiver = Receiver {
                client,
                sender,
                changes: changed,
                wanted,
                hurry: hurry.clone(),
                heartbeat,
                clock: clock.clone(),
                metrics: metrics.clone(),
            };
            spawn(receiver_runtime, receiver.run(stop.clone()).boxed());
        } else {
            let off = "switched off by stream.enabled = false";
            signs.stream.bad(off);
            metrics.stream.state.set_only(StreamState::Off);
            signs.situation.send_modify(|it| it.stream = off.into());
        }
        let unreadable = reader.unreadable().clone();
        let settler = Settler {
            arbiter: arbiter.clone(),
            reads: reads.clone(),
            requests: requests.clone(),
            order: EventOrder::new(clock.clone()),
            judge,
            left_out: leaves_out,
            clock: clock.clone(),
        };
        let here = &Handle::current();
        spawn(here, settler.run(queue).boxed());
        spawn(here, reader.run(stop.clone()).boxed());
        let wires = Wires {
            relister,
            arbiter,
            ledger,
            changes,
            left_out,
            judged,
            wanted: wants,
            requests,
            hurry,
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        spawn(here, Supervisor::new(wires, signs, rhythms).run(stop.clone()).boxed());
        tasks.close();
        let fresh = Fresh::new(cache.clone(), lister, reads, clock.clone(), metrics.clone());
        let in_force = in_force.clone();
        Self {
            in_force,
            began_with,
            cache,
            journal,
            fresh,
            unreadable,
            health,
            metrics,
            situation: situations,
            clock,
            stop,
            tasks,
        }
    }

    /// The configuration that it was started with.
    pub fn config(&self) -> &Config {
        &self.began_with.config
    }

    /// The configuration as it is now.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether it is alive and ready.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The mode, the period and the runtime.
    pub fn situation(&self) -> Situation {
        self.situation.borrow().clone()
    }

    /// The same, and what becomes of it.
    pub fn follow_situation(&self) -> watch::Receiver<Situation> {
        self.situation.clone()
    }

    /// Tells a snapshot and what changes, or only what changes: see [`crate::watch`].
    ///
    /// # Errors
    ///
    /// [`WatchError::Invalid`] if the request contradicts itself.
    pub fn watch(&self, request: Request) -> Result<Watch, WatchError> {
        self.feed().watch(request)
    }

    /// What watches are made from.
    pub fn feed(&self) -> Feed {
        let (journal, cache) = (self.journal.clone(), self.cache.clone());
        Feed::new(journal, cache, self.situation.clone(), self.clock.clone(), self.stop.clone())
    }

    /// The pod as it was at some moment after `newer_than`, none if it was not there: from the cache if that is known to
    /// be newer, else from a read that begins now. Drop the future to cancel.
    ///
    /// # Errors
    ///
    /// [`FreshError`] if the runtime could not be asked within `patience`.
    pub async fn pod_newer_than(
        &self,
        uid: &PodUid,
        newer_than: crate::clock::Mono,
        patience: Duration,
    ) -> Result<Option<Arc<crate::model::Pod>>, FreshError> {
        let pod = tokio::time::timeout(patience, self.fresh.pod(uid, newer_than)).await;
        Ok(pod.map_err(|_| FreshError::Deadline(patience))??)
    }

    /// Gives pods that are not older than a moment.
    pub fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// The ids that the runtime lists and whose status it does not give.
    pub fn unreadable(&self) -> &UnreadableIds {
        &self.unreadable
    }

    /// Stops when this is cancelled.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops all parts and waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Takes events from the queue and has them settled.
struct Settler {
    arbiter: Arc<Arbiter>,
    reads: Reads,
    requests: Arc<Notify>,
    /// What the order of events shows to be left out, where the supervisor wants it looked at.
    order: EventOrder,
    /// Since when, if it does.
    judge: watch::Receiver<Option<Mono>>,
    left_out: mpsc::UnboundedSender<(ObjectId, StreamEventType)>,
    clock: Clock,
}

// === impl Settler ===

impl Settler {
    /// Runs until the receiver is gone.
    async fn run(mut self, mut queue: Queue) {
        while let Some(event) = queue.next().await {
            match self.arbiter.place(event) {
                Ok(observation) => {
                    self.look_at_order(&observation);
                    self.reads.request_all(self.arbiter.settle(&observation));
                }
                Err(signal) => self.unplaced(&signal),
            }
        }
    }

    fn look_at_order(&mut self, event: &Observation) {
        let Some(since) = *self.judge.borrow() else { return };
        let complete = match self.arbiter.quirks().has(Quirk::SilentSandboxes) {
            true => Complete::Containers,
            false => Complete::All,
        };
        for left_out in self.order.take(since, complete, event, self.clock.now()) {
            // Without a supervisor plegd ends.
            let _ = self.left_out.send(left_out);
        }
    }

    /// An event that names no pod, about an id that belongs to none that is known.
    fn unplaced(&self, signal: &crate::model::StreamEvent) {
        self.arbiter.heard_of_removed(&signal.id, signal.kind);
        if !self.arbiter.is_removed(&signal.id) {
            self.requests.notify_one();
        }
    }
}

/// A task that panics ends the others with it.
fn spawn(
    tasks: &TaskTracker,
    runtime: &Handle,
    stop: &CancellationToken,
    on_failure: OnFailure,
    task: BoxFuture<'static, ()>,
) {
    let stop = stop.clone();
    let task = tasks.spawn_on(task, runtime);
    tasks.spawn(async move {
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

/// Figures that are looked up when they are asked for.
fn scrape(
    metrics: &Metrics,
    cache: &Cache,
    journal: &Journal,
    ledger: &PathComparison,
    clock: &Clock,
    queued: impl Fn() -> (usize, usize) + Send + Sync + 'static,
) {
    let (cache, journal, ledger, clock) = (cache.clone(), journal.clone(), ledger.clone(), clock.clone());
    metrics.on_scrape(Box::new(move |metrics| {
        let census = cache.census();
        metrics.state.pods.set_each(|state| match state {
            PodState::Ready => census.ready_pods,
            PodState::NotReady => census.not_ready_pods,
        });
        metrics.state.sandboxes.set_each(|state: SandboxState| census.sandboxes[state as usize]);
        metrics.state.containers.set_each(|state: ContainerState| census.containers[state as usize]);
        metrics.arbitration.tombstones.set(cache.tombstones(clock.now()) as i64);
        metrics.transitions.uncompared.set(ledger.uncompared() as i64);
        raise_to(&metrics.arbitration.clock_steps, clock.steps());
        let extent = journal.extent();
        metrics.journal.events.set(extent.events as i64);
        metrics.journal.bytes.set(extent.bytes as i64);
        metrics.journal.head.set(extent.head as i64);
        metrics.journal.oldest.set(if extent.events == 0 { 0 } else { extent.oldest as i64 });
        raise_to(&metrics.journal.evicted, extent.evicted);
        metrics.journal.subscribers.set(extent.subscribers as i64);
        raise_to(&metrics.journal.gaps, extent.gaps);
        for cause in ResumeGap::ALL {
            raise_to(metrics.journal.resume_gaps.with(cause), extent.resume_gaps[cause as usize]);
        }
        let (messages, bytes) = queued();
        metrics.stream.queue_messages.set(messages as i64);
        metrics.stream.queue_bytes.set(bytes as i64);
    }));
}
