//! Subscribers in this process, each on its own connection: reading and frozen ones.
//!
//! They use little CPU, since they share the machine with plegd: a message is decoded only if its latency is
//! measured.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::uri::PathAndQuery;
use plegd::{
    api::v1::{self, watch_response::Update},
    client::wall,
    clock::{Clock, Mono},
    model::Position,
};
use prost::Message as _;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::timeout,
};
use tonic::{
    Request, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};

use super::super::{binary::DEADLINE, unread::Unread};

/// The first byte of a message with an event: its field's number is 4, of the kind that has a length.
const EVENT: u8 = (4 << 3) | 2;
/// Number of parallel connects.
const AT_ONCE: usize = 32;
/// Share of subscribers with latencies in a large group: decoding each message would cost more than sending it.
const TIMED_OF: usize = 16;
const LARGE: usize = 100;

/// Where a watch starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Now,
    After(Position),
}

/// Open connections without calls.
pub(super) struct Connected(Vec<Grpc<Channel>>);

/// Reading subscribers.
pub(super) struct Crowd {
    tally: Arc<Tally>,
    members: JoinSet<()>,
    size: usize,
}

/// The counted deliveries.
#[derive(Default)]
struct Tally {
    events: AtomicU64,
    /// Nanoseconds since the start of the group.
    last_at: AtomicU64,
    begun: Mono,
    timed: AtomicBool,
    latencies: Mutex<Vec<f64>>,
    /// Notified when the expected number of deliveries is reached.
    due: AtomicU64,
    reached: Notify,
}

/// Subscribers in a stopped thread: data for them stays in the kernel's buffers and then in plegd's.
pub(super) struct Frozen {
    thaw: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

// === impl Crowd ===

impl Crowd {
    pub(super) async fn connect(socket: &Path, size: usize) -> Result<Connected> {
        let connections = (0..size).map(|_| connect(socket.to_owned()));
        Ok(Connected(stream::iter(connections).buffer_unordered(AT_ONCE).try_collect().await?))
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Resets the counts.
    pub(super) fn forget(&self) {
        self.tally.events.store(0, Ordering::Relaxed);
        self.tally.due.store(u64::MAX, Ordering::Relaxed);
        self.tally.latencies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Enables latencies; in a large group, only for some subscribers.
    pub(super) fn time(&self, timed: bool) {
        self.tally.timed.store(timed, Ordering::Relaxed);
    }

    /// Waits until each subscriber has received this many events.
    pub(super) async fn until_told(&self, events: u64) -> Result<()> {
        let due = events * self.size as u64;
        self.tally.due.store(due, Ordering::Relaxed);
        let reached = async {
            while self.tally.events.load(Ordering::Relaxed) < due {
                // A count reached between the two lines notifies nobody: check again periodically.
                let _ = timeout(Duration::from_millis(50), self.tally.reached.notified()).await;
            }
        };
        timeout(3 * DEADLINE, reached)
            .await
            .with_context(|| format!("{} of {due} received", self.tally.events.load(Ordering::Relaxed)))
    }

    pub(super) fn last_told_at(&self) -> Mono {
        self.tally.begun + Duration::from_nanos(self.tally.last_at.load(Ordering::Relaxed))
    }

    /// Seconds from detection by plegd to a subscriber.
    pub(super) fn latencies(&self) -> Vec<f64> {
        std::mem::take(&mut self.tally.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes all connections.
    pub(super) async fn leave(mut self) {
        self.members.shutdown().await;
    }
}

// === impl Connected ===

impl Connected {
    /// Opens a watch on each connection. Returns once all are served.
    pub(super) async fn watch(self, from: From, clock: &Clock) -> Result<Crowd> {
        let tally = Arc::new(Tally { begun: clock.now(), due: u64::MAX.into(), ..Tally::default() });
        let size = self.0.len();
        let watches = self.0.into_iter().map(|connection| watch(connection, from));
        let mut watches = stream::iter(watches).buffer_unordered(AT_ONCE);
        let mut members = JoinSet::new();
        while let Some(messages) = watches.try_next().await? {
            let timed = size < LARGE || members.len().is_multiple_of(TIMED_OF);
            members.spawn(follow(messages, tally.clone(), timed, clock.clone()));
        }
        Ok(Crowd { tally, members, size })
    }
}

async fn connect(socket: PathBuf) -> Result<Grpc<Channel>> {
    Ok(Grpc::new(Endpoint::try_from(format!("unix://{}", socket.display()))?.connect().await?))
}

/// Opens a watch, and reads Hello.
async fn watch(mut connection: Grpc<Channel>, from: From) -> Result<Streaming<Bytes>> {
    let (start, after) = match from {
        From::Now => (v1::Start::Now, None),
        From::After(position) => (v1::Start::Unspecified, Some(position.into())),
    };
    let request = v1::WatchRequest {
        start: start.into(),
        after,
        bookmark_interval: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        client_name: "figures".into(),
        ..v1::WatchRequest::default()
    };
    connection.ready().await?;
    let path = PathAndQuery::from_static("/plegd.v1.PodLifecycleService/Watch");
    let answer = connection
        .server_streaming(Request::new(request), path, Unread::<v1::WatchRequest>::default())
        .await?;
    let mut messages = answer.into_inner();
    messages.message().await?.context("the watch ended at once")?;
    Ok(messages)
}

async fn follow(mut messages: Streaming<Bytes>, tally: Arc<Tally>, timed: bool, clock: Clock) {
    while let Ok(Some(message)) = messages.message().await {
        if message.first() == Some(&EVENT) {
            tally.record(&message, timed, &clock);
        }
    }
}

// === impl Tally ===

impl Tally {
    fn record(&self, message: &Bytes, timed: bool, clock: &Clock) {
        if timed && self.timed.load(Ordering::Relaxed) {
            let received = clock.wall();
            let observed =
                v1::WatchResponse::decode(message.clone()).ok().and_then(|message| match message.update? {
                    Update::Event(event) => event.observed_at,
                    _ => None,
                });
            if let Some(observed) = observed {
                let latency = received.seconds_since(wall(&observed));
                self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
            }
        }
        let now = clock.now().since(self.begun).as_nanos();
        self.last_at.fetch_max(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        let received = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        if received == self.due.load(Ordering::Relaxed) {
            self.reached.notify_one();
        }
    }
}

// === impl Frozen ===

impl Frozen {
    /// Subscribers that have received Hello and then read nothing.
    pub(super) async fn connect(socket: &Path, size: usize) -> Result<Self> {
        let (thaw, frozen) = mpsc::channel();
        let (said, served) = oneshot::channel();
        let socket = socket.to_owned();
        let clock = Clock::system();
        let work = move || {
            let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(tokio) = outcome else { return };
            let crowd =
                tokio.block_on(async { Crowd::connect(&socket, size).await?.watch(From::Now, &clock).await });
            let _ = said.send(crowd.as_ref().map(|_| ()).map_err(|error| anyhow!("{error:#}")));
            // Blocks this thread's runtime.
            let _ = frozen.recv();
        };
        let thread = std::thread::Builder::new().name("frozen".into()).spawn(work)?;
        served.await.context("the frozen subscribers have no thread")??;
        Ok(Self { thaw, thread })
    }

    /// Closes them.
    pub(super) async fn leave(self) -> Result<()> {
        drop(self.thaw);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
        joined.map_err(|_| anyhow!("the thread of the frozen subscribers has panicked"))
    }
}
