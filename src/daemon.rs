//! The running daemon: an [`App`] with gRPC, HTTP, the page and printing, with log and traces, systemd, signals, and the reload of the
//! configuration.
//!
//! It only wires the parts and decides nothing. Only the daemon may exit the process: an [`App`] in another program never does.

pub mod log;
pub mod reload;
pub mod systemd;
pub mod traces;

use std::{io, net::SocketAddr, thread, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    log::LogControl,
    reload::{Cause, FileWatch, Reloader},
    systemd::{Notifier, status},
    traces::Traces,
};
use crate::{
    api::{
        grpc::Grpc,
        introspection::SetLogLevel,
        listen::{Listening, raise_open_files},
        node_name,
        subscribers::Subscribers,
    },
    app::App,
    clock::Clock,
    config::{Config, InForce, Inputs, Loaded},
    cri::Link,
    http::{self, Served},
    journal::Journal,
    model::EventType,
    page::Page,
    print::Printer,
    state::{DirectoryStorage, PersistentFile, StatePlace, Storage},
    watch::{Filter, Request, Start, Update, Watch, WatchError},
};

/// Maximum number of threads that serve gRPC. It limits the CPU that subscribers can use.
const API_THREADS: usize = 4;

/// The id of this boot of the machine (Linux, `random(4)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Timeout for the shutdown of all parts, so that plegd stops within a second.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(800);

/// The tokio runtimes of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    /// Drains the runtime's event stream and runs nothing else.
    receiver: Handle,
    /// Serves gRPC and HTTP: the number of watchers does not delay the other threads.
    api: Handle,
}

/// The daemon.
pub(crate) struct Daemon {
    app: App,
    serving: JoinSet<()>,
    printing: Option<oneshot::Receiver<io::Result<()>>>,
    stop: CancellationToken,
    set_log_level: SetLogLevel,
    notifier: Notifier,
    traces: Traces,
}

/// The bound addresses, before anything is served there.
struct Bound {
    http: Option<TcpListener>,
    grpc: Listening,
}

/// Runs a daemon until it stops.
///
/// The thread that receives the runtime's event stream runs nothing else, so it always drains the stream. The threads that serve gRPC can delay
/// only clients. All other work runs on one thread, which avoids wake-ups between threads.
pub(crate) fn drive<V: Future<Output = anyhow::Result<()>>>(
    verb: impl FnOnce(Threads) -> V,
) -> anyhow::Result<()> {
    let runtime = |name: &str, threads: usize| {
        Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()
    };
    let receiver = runtime("plegd-receiver", 1)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let api = runtime("plegd-api", cores.min(API_THREADS))?;
    let main = Builder::new_current_thread().enable_all().build()?;
    let threads = Threads { receiver: receiver.handle().clone(), api: api.handle().clone() };
    let ended = main.block_on(verb(threads));
    // A thread that is blocked in a write must not prevent plegd from stopping.
    main.shutdown_background();
    api.shutdown_background();
    receiver.shutdown_background();
    ended
}

// === impl Daemon ===

impl Daemon {
    /// Starts the daemon. All steps that can fail come before the first call to the runtime.
    pub(crate) async fn start(
        loaded: &Loaded,
        link: Link,
        clock: Clock,
        threads: &Threads,
        log: LogControl,
    ) -> anyhow::Result<Self> {
        let config = &loaded.config;
        raise_open_files();
        let bound = Bound::new(config, &threads.api).await?;
        let in_force = InForce::new(loaded.clone());
        let set_log_level = log.setter();
        let traces = {
            let _guard = threads.api.enter();
            Traces::begin(&node_name(&config.api))
        };
        let app = App::of_daemon(&threads.receiver, &in_force, link, clock, state_place(config));
        let stop = app.stop_token();
        let serving = bound.serve(&app, &set_log_level, &threads.api);
        let printing = match Printer::to_stdout(&config.print) {
            Some(printer) => {
                let types = config.print.types.iter().collect();
                Some(print(printer, app.watch(everything_of(types))?)?)
            }
            None => None,
        };
        let notifier = Notifier::of_process();
        Ok(Self { app, serving, printing, stop, set_log_level, notifier, traces })
    }

    pub(crate) fn journal(&self) -> Journal {
        self.app.journal().clone()
    }

    /// Reloads the configuration at SIGHUP, and when its file differs from the state in `file`.
    pub(crate) fn watch_configuration(&mut self, inputs: Inputs, mut file: FileWatch) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let (in_force, clock) = (self.app.in_force().clone(), self.app.clock().clone());
        let (metrics, health) = (self.app.metrics().clone(), self.app.health());
        let reloader = Reloader::new(inputs, in_force, self.set_log_level.clone(), metrics, health, clock);
        let (stop, notifier) = (self.stop.clone(), self.notifier.clone());
        self.serving.spawn(async move {
            loop {
                let cause = tokio::select! {
                    () = stop.cancelled() => return,
                    _ = hangup.recv() => Cause::Signal,
                    () = file.changed() => Cause::File,
                };
                let _reloading = notifier.reloading();
                // The reload reads this state of the file, so it is not a change afterwards.
                file.mark_read();
                reloader.reload(cause);
            }
        });
        Ok(())
    }

    /// Runs until SIGINT or SIGTERM, until the reader of the printed events closes the pipe, or until `over`.
    pub(crate) async fn run_until(mut self, over: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let notifier = self.notifier.clone();
        notifier.ready();
        let (health, status) = (self.app.health().clone(), status_of(&self.app));
        self.serving.spawn(notifier.clone().run(health, status, self.stop.clone()));
        let mut printed = None;
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("Received SIGINT; stopping."),
            _ = terminate.recv() => tracing::info!("Received SIGTERM; stopping."),
            () = over => {}
            ended = ended(&mut self.printing) => printed = Some(ended),
            Some(Err(error)) = self.serving.join_next() => {
                tracing::error!(
                    %error,
                    "A server has failed; plegd exits and must be restarted. This is a bug in plegd: please report it with the log up \
                     to this line."
                );
                std::process::exit(70);
            }
        }
        notifier.stopping();
        self.stop.cancel();
        let parts = async {
            self.app.stop().await;
            while self.serving.join_next().await.is_some() {}
            // Print all published events, if the output still has a reader.
            if printed.is_none() && self.printing.is_some() {
                printed = Some(ended(&mut self.printing).await);
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, parts).await.is_err() {
            tracing::warn!("Some parts did not stop in time; exiting without them.");
        }
        self.traces.end();
        printed.unwrap_or(Ok(())).map_err(anyhow::Error::from)
    }
}

// === impl Bound ===

impl Bound {
    /// Binds all addresses. Connections belong to the threads that serve them.
    async fn new(config: &Config, api: &Handle) -> anyhow::Result<Self> {
        let _guard = api.enter();
        let http = match config.http.address {
            Some(address) => Some(http::bind(address).await?),
            None => None,
        };
        Ok(Self { http, grpc: Listening::bind(&config.api).await? })
    }

    /// Serves the bound addresses until `app` stops.
    fn serve(self, app: &App, set_log_level: &SetLogLevel, api: &Handle) -> JoinSet<()> {
        let (in_force, mut serving) = (app.in_force(), JoinSet::new());
        let mut subscribers = Subscribers::new(in_force.live(|config| config.api.subscribers));
        if self.grpc.socket().is_some() || self.grpc.tcp_address().is_some() {
            if let Some(socket) = self.grpc.socket() {
                tracing::info!(socket = %socket.display(), "Serving the pod lifecycle API over gRPC.");
            }
            if let Some(address) = self.grpc.tcp_address() {
                tracing::info!(%address, "Serving the pod lifecycle API over gRPC.");
            }
            let grpc = Grpc::new(app, in_force, set_log_level.clone());
            subscribers = grpc.subscribers().clone();
            serving.spawn_on(grpc.serve(self.grpc.following(in_force)), api);
        }
        if let Some(listener) = self.http {
            let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
            tracing::info!(%address, "Serving metrics and health over HTTP.");
            let page = Page::new(app, app.config(), subscribers).map(Page::router);
            let served = Served { metrics: app.metrics().clone(), health: app.health().clone(), page };
            serving.spawn_on(http::serve(listener, served, app.stop_token()), api);
        }
        serving
    }
}

/// The place of the state on disk; `None` if no state is kept.
fn state_place(config: &Config) -> Option<StatePlace> {
    let state = &config.state;
    let storage =
        DirectoryStorage::open(&state.place(&config.api)?).map(|it| Box::new(it) as Box<dyn Storage>);
    Some(StatePlace {
        storage,
        persistent: state.persistent_directory.0.clone().map(PersistentFile::Directory),
        max_bytes: state.max_bytes.0 as u64,
        // Without a boot id, the log counts as one of this boot, which is correct on tmpfs.
        boot_id: std::fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned()).unwrap_or_default(),
        endpoint: config.runtime.endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
    })
}

/// The status line for the service manager.
fn status_of(app: &App) -> impl Fn() -> String + Send + use<> {
    let (health, follower_status) = (app.health().clone(), app.follower_status_changes());
    let (cache, journal) = (app.cache().clone(), app.journal().clone());
    move || status(&health.ready(), &follower_status.borrow(), &cache.counts(), journal.stats().subscribers)
}

/// The result of printing; pending forever if nothing is printed.
async fn ended(printing: &mut Option<oneshot::Receiver<io::Result<()>>>) -> io::Result<()> {
    match printing {
        Some(printing) => printing.await.unwrap_or(Ok(())),
        None => std::future::pending().await,
    }
}

/// A subscription to all events of these types, from the beginning.
fn everything_of(types: Vec<EventType>) -> Request {
    let filter = Filter { types, ..Filter::default() };
    Request { start: Start::Oldest, filter, wait_ready: true, ..Request::default() }
}

/// Prints events on a separate thread: a blocked terminal must not block other work.
fn print<W: io::Write + Send + 'static>(
    mut printer: Printer<W>,
    mut watch: Watch,
) -> anyhow::Result<oneshot::Receiver<io::Result<()>>> {
    let (sender, ended) = oneshot::channel();
    let tokio = Handle::current();
    let work = move || {
        let result = tokio.block_on(async {
            printer.begin()?;
            loop {
                let update = match watch.try_next() {
                    Ok(None) => printer.wait(watch.next()).await?,
                    Ok(Some(update)) => Ok(update),
                    Err(error) => Err(error),
                };
                match update {
                    Ok(Update::Event { record, .. }) => printer.print(&record)?,
                    Ok(Update::Gap(gap)) => {
                        tracing::warn!(
                            from = gap.from,
                            to = gap.to,
                            "Events were not printed, because the reader of stdout is too slow."
                        );
                    }
                    Ok(_) => {}
                    Err(WatchError::Ending) => return printer.end(),
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
        });
        let _ = sender.send(result);
    };
    thread::Builder::new()
        .name("plegd-print".into())
        .spawn(work)
        .context("cannot start the thread for printing")?;
    Ok(ended)
}
