//! The connections of a server: each is a tracked and counted task, and all end within a time limit.

use std::{future::Future, time::Duration};

use prometheus::IntGauge;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Time for open connections to finish when plegd shuts down.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause after a failed accept, mostly for lack of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    tasks: TaskTracker,
    abort: CancellationToken,
}

/// Counts a connection while it exists.
pub(crate) struct ConnectionGauge(IntGauge);

// === impl Connections ===

impl Connections {
    /// Serves a connection until it ends or is aborted.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let abort = self.abort.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = abort.cancelled() => {}
            }
        });
    }

    /// Waits at most [`DRAIN_TIMEOUT`] for the connections to end, then aborts them. The caller has signalled
    /// the shutdown to them before.
    pub(crate) async fn drain(self) {
        self.tasks.close();
        if timeout(DRAIN_TIMEOUT, self.tasks.wait()).await.is_err() {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

// === impl ConnectionGauge ===

impl ConnectionGauge {
    pub(crate) fn new(open: &IntGauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
