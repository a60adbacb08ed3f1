//! Streams of the runtime's events, as another subscriber of the same node would hold them.
//!
//! Owns one connection and one task per stream. A stream reads and counts, so it competes with plegd on containerd 1.7, which
//! gives each event to one subscriber only. Or it does not read, which blocks containerd 2.x for all clients. It never waits
//! for headers: Go servers send them with the first message, and until then an open stream looks like a pending one.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tonic::{Status, transport::Endpoint};

use super::{
    Client, ContainerSpec, Pod, TIMEOUT,
    client::connection,
    cri::{self, ContainerEventResponse, runtime_service_client::RuntimeServiceClient},
    eventually,
};

/// HTTP/2's smallest default; a hung subscriber takes this much and no more.
const SMALL_WINDOW_BYTES: u32 = 65_535;

/// A subscription. Dropping it ends the connection.
#[derive(Debug)]
pub struct EventStream {
    events: mpsc::UnboundedReceiver<ContainerEventResponse>,
    frozen: watch::Sender<bool>,
    answered: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    ended: Arc<Mutex<Option<Result<(), Status>>>>,
    task: JoinHandle<()>,
}

// === impl EventStream ===

impl EventStream {
    pub(super) fn open(socket: &Path) -> Result<Self> {
        Ok(Self::on(connection(socket)?, false))
    }

    pub(super) fn open_frozen(socket: &Path) -> Result<Self> {
        let small = Some(SMALL_WINDOW_BYTES);
        let endpoint =
            connection(socket)?.initial_stream_window_size(small).initial_connection_window_size(small);
        Ok(Self::on(endpoint, true))
    }

    fn on(endpoint: Endpoint, frozen: bool) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (frozen, mut is_frozen) = watch::channel(frozen);
        let (received, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let answered = Arc::new(AtomicBool::new(false));
        let (counted, end, answer) = (received.clone(), ended.clone(), answered.clone());
        let task = tokio::spawn(async move {
            let mut client = RuntimeServiceClient::new(endpoint.connect_lazy());
            let read = async {
                let mut stream = client.get_container_events(cri::GetEventsRequest {}).await?.into_inner();
                answer.store(true, Ordering::Relaxed);
                loop {
                    // An error means that the handle was dropped, and this task ends.
                    let _ = is_frozen.wait_for(|frozen| !frozen).await;
                    let Some(event) = stream.message().await? else { return Ok(()) };
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = sender.send(event);
                }
            };
            let outcome = read.await;
            *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        });
        Self { events, frozen, answered, received, ended, task }
    }

    /// Waits until the runtime has answered the subscription. It answers with its first event only, so this creates and removes
    /// containers in `pod`. A frozen stream is answered too, and reads no event.
    pub async fn answered(&self, client: &Client, pod: &Pod) -> Result<()> {
        let attempts = AtomicU32::new(0);
        eventually("the answer to a subscription", TIMEOUT, || async {
            if self.answered.load(Ordering::Relaxed) {
                return Ok(Some(()));
            }
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            let probe = ContainerSpec { attempt, ..ContainerSpec::new("subscription-probe", &["true"]) };
            client.remove(&client.create_with(pod, probe).await?).await?;
            Ok(None)
        })
        .await
    }

    /// The next event. The error states how the stream ended, or that no event came.
    pub async fn next(&mut self, deadline: Duration) -> Result<ContainerEventResponse> {
        match tokio::time::timeout(deadline, self.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => bail!("the event stream ended: {:?}", self.end()),
            Err(_) => bail!("no event within {deadline:?}; {} came before", self.received()),
        }
    }

    /// The next `count` events, each within the deadline.
    pub async fn take(&mut self, count: usize, deadline: Duration) -> Result<Vec<ContainerEventResponse>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            match self.next(deadline).await {
                Ok(event) => taken.push(event),
                Err(error) => return Err(error.context(format!("after {} of {count} events", taken.len()))),
            }
        }
        Ok(taken)
    }

    /// The received events that were not taken yet.
    pub fn drain(&mut self) -> Vec<ContainerEventResponse> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Waits for the end of the stream and returns it: `Ok` for a clean one. Events before it are kept.
    pub async fn ended(&mut self, deadline: Duration) -> Result<Result<(), Status>> {
        if tokio::time::timeout(deadline, &mut self.task).await.is_err() {
            bail!("the event stream did not end within {deadline:?}");
        }
        Ok(self.end().unwrap_or(Ok(())))
    }

    /// How the stream ended, or `None` while it is open.
    pub fn end(&self) -> Option<Result<(), Status>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of events read from the connection, taken or not.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Stops reading. Data within the HTTP/2 windows still arrives and is not read.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// Continues reading.
    pub fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
