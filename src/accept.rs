//! What servers do alike with the connections they accept: each is a task and is counted, and all of them end in time.

use std::{future::Future, time::Duration};

use prometheus::IntGauge;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long connections may take to finish once plegd ends.
pub(crate) const FAREWELL: Duration = Duration::from_millis(500);

/// How long to wait when no connection can be accepted, mostly for want of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    tasks: TaskTracker,
    hurry: CancellationToken,
}

/// Counts a connection as long as it is there.
pub(crate) struct Counted(IntGauge);

// === impl Connections ===

impl Connections {
    /// Serves a connection until it ends by itself or time is up.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let hurry = self.hurry.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = hurry.cancelled() => {}
            }
        });
    }

    /// Lets them end, for [`FAREWELL`] at most. They must have been told to.
    pub(crate) async fn farewell(self) {
        self.tasks.close();
        if timeout(FAREWELL, self.tasks.wait()).await.is_err() {
            self.hurry.cancel();
            self.tasks.wait().await;
        }
    }
}

// === impl Counted ===

impl Counted {
    pub(crate) fn new(open: &IntGauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
