//! A daemon in this process, with all that is around it: HTTP, printing, and the signals that end it.

use std::{io, net::SocketAddr, thread, time::Duration};

use anyhow::Context as _;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::print::Printer;
use crate::{
    api::http::{self, Served},
    app::App,
    clock::Clock,
    config::Config,
    cri::Link,
    journal::Cursor,
};

/// How long the parts may take to end: a service manager, and a person at Ctrl-C, wait for a second.
const GRACE: Duration = Duration::from_millis(800);

/// The daemon and what is around it.
pub(super) struct Daemon {
    app: App,
    http: Option<JoinHandle<()>>,
    printing: Option<oneshot::Receiver<io::Result<()>>>,
    stop: CancellationToken,
}

// === impl Daemon ===

impl Daemon {
    /// Starts it. What can fail is tried before the runtime is touched.
    pub(super) async fn start(
        config: &Config,
        link: Link,
        clock: Clock,
        receiver: &Handle,
    ) -> anyhow::Result<Self> {
        let listener = match config.http.address {
            Some(address) => Some(http::bind(address).await?),
            None => None,
        };
        let app = App::start_with_receiver_on(receiver, config, link, clock);
        let stop = app.stop_token();
        let served = Served { metrics: app.metrics().clone(), health: app.health().clone() };
        let http = listener.map(|listener| {
            let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
            tracing::info!(%address, "Serving metrics and health over HTTP.");
            tokio::spawn(http::serve(listener, served, stop.clone()))
        });
        let printer = Printer::to_stdout(&config.print);
        let printing =
            printer.map(|printer| print(printer, app.journal().cursor(0), stop.clone())).transpose()?;
        Ok(Self { app, http, printing, stop })
    }

    /// Runs until SIGINT, SIGTERM, until nobody reads what is printed, or until `over`.
    pub(super) async fn run_until(mut self, over: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut printed = None;
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("SIGINT: ending."),
            _ = terminate.recv() => tracing::info!("SIGTERM: ending."),
            () = over => {}
            ended = ended(&mut self.printing) => printed = Some(ended),
        }
        self.stop.cancel();
        let parts = async {
            self.app.stop().await;
            if let Some(http) = self.http {
                let _ = http.await;
            }
            // What was told until now is printed, if somebody reads it.
            if printed.is_none() {
                printed = Some(ended(&mut self.printing).await);
            }
        };
        if tokio::time::timeout(GRACE, parts).await.is_err() {
            tracing::warn!("Some parts did not end in time; ending without them.");
        }
        printed.unwrap_or(Ok(())).map_err(anyhow::Error::from)
    }
}

/// How printing has ended; never, if nothing is printed and nobody stops.
async fn ended(printing: &mut Option<oneshot::Receiver<io::Result<()>>>) -> io::Result<()> {
    match printing {
        Some(printing) => printing.await.unwrap_or(Ok(())),
        None => std::future::pending().await,
    }
}

/// Prints on a thread of its own: a terminal that is stopped must stop nothing else.
fn print<W: io::Write + Send + 'static>(
    mut printer: Printer<W>,
    mut cursor: Cursor,
    stop: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<io::Result<()>>> {
    let (sender, ended) = oneshot::channel();
    let tokio = Handle::current();
    let work = move || {
        let result = tokio.block_on(async {
            printer.begin()?;
            loop {
                let next = match cursor.try_next() {
                    Ok(Some(event)) => Ok(event),
                    Ok(None) if stop.is_cancelled() => return printer.flush(),
                    Ok(None) => {
                        printer.flush()?;
                        tokio::select! {
                            next = cursor.next() => next,
                            () = stop.cancelled() => continue,
                        }
                    }
                    Err(gap) => Err(gap),
                };
                match next {
                    Ok(event) => printer.print(&event)?,
                    Err(gap) => tracing::warn!(%gap, "Printing is too slow; events are left out."),
                }
            }
        });
        let _ = sender.send(result);
    };
    thread::Builder::new()
        .name("plegd-print".into())
        .spawn(work)
        .context("no thread for printing can be had")?;
    Ok(ended)
}
