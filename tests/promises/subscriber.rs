//! Subscribers that pause, disconnect, are disconnected, and resume, as a seed decides.
//!
//! Two kinds are here: a watch within the process, and a raw stream of messages. `remote` has the one that uses
//! [`plegd::client::Watch`].

use std::time::Duration;

use futures::{StreamExt as _, stream::BoxStream};
use plegd::{
    api::v1,
    model::{EventType, Position},
    watch::{Filter, Request, SlowPolicy, Start},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    node::{Connections, Serving, ServingReceiver},
    record::{Connection, End, Item, Layer, Recording},
};

/// The request and the behaviour of a subscriber.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub seed: u64,
    pub filter: Filter,
    pub policy: SlowPolicy,
    pub first: First,
    /// Whether events have their pods. Within the process they always have.
    pub pods: bool,
    pub bookmarks: Duration,
    /// Probability, at each message, of a pause.
    pub pause_chance: f64,
    /// Probability, at each message, of a disconnect.
    pub disconnect_chance: f64,
}

/// Where the watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Snapshot,
    Now,
    Oldest,
    /// After the head at that time.
    Head,
    /// After a position of an unknown epoch.
    Foreign,
    /// After a position far in the future.
    Future,
}

/// Messages, and how they end.
type Messages = BoxStream<'static, Result<Item, End>>;

/// Where a subscriber resumes.
#[derive(Clone, Copy, Debug)]
struct ResumePoint {
    begin: Start,
    after: Option<Position>,
    epoch: u64,
}

// === impl Plan ===

impl Plan {
    /// A random plan.
    pub fn any(name: String, rng: &mut fastrand::Rng, serving: &Serving) -> Self {
        let policies = [SlowPolicy::Resync, SlowPolicy::LatestPerPod, SlowPolicy::Fail];
        let policy = policies[rng.usize(..3)];
        let mut filter = Filter::default();
        let pods = serving.feed.cache().list();
        let some =
            |rng: &mut fastrand::Rng| (!pods.is_empty()).then(|| pods[rng.usize(..pods.len())].clone());
        match rng.u32(..8) {
            0 => filter.namespaces = vec![["shop", "batch", "kube-system"][rng.usize(..3)].into()],
            1 => filter.pod_uids = (0..4).filter_map(|_| Some(some(rng)?.identity.uid.to_string())).collect(),
            2 => {
                filter.pod_names = (0..4).filter_map(|_| Some(some(rng)?.identity.name.to_string())).collect()
            }
            3 => {
                let text = [
                    "app.kubernetes.io/name=web",
                    "app.kubernetes.io/name in (backup,api),io.kubernetes.pod.namespace",
                    "app.kubernetes.io/name!=backup",
                    "!app.kubernetes.io/name",
                ];
                filter.selector = text[rng.usize(..4)].parse().expect("a selector");
            }
            _ => {}
        }
        if policy != SlowPolicy::LatestPerPod {
            if rng.u32(..4) == 0 {
                filter.types = EventType::ALL.into_iter().filter(|_| rng.bool()).collect();
            }
            filter.containers_only = rng.u32(..6) == 0;
        }
        let first = match rng.u32(..12) {
            0..6 => First::Snapshot,
            6..8 => First::Now,
            8 => First::Oldest,
            9 => First::Head,
            10 => First::Foreign,
            _ => First::Future,
        };
        Self {
            name,
            seed: rng.u64(..),
            filter,
            policy,
            first,
            pods: policy == SlowPolicy::LatestPerPod || rng.u32(..3) > 0,
            bookmarks: Duration::from_millis(rng.u64(100..8000)),
            pause_chance: [0.0, 0.02, 0.05][rng.usize(..3)],
            disconnect_chance: [0.0, 0.01, 0.05][rng.usize(..3)],
        }
    }

    pub fn recording(&self, layer: Layer) -> Recording {
        Recording {
            name: format!("{} ({layer:?})", self.name),
            layer,
            filter: self.filter.clone(),
            policy: self.policy,
            pods: self.pods || layer == Layer::Embedded,
            connections: Vec::new(),
            drained: false,
        }
    }

    pub fn start(&self, serving: &Serving) -> Start {
        let journal = serving.feed.journal();
        match self.first {
            First::Snapshot => Start::Snapshot,
            First::Now => Start::Now,
            First::Oldest => Start::Oldest,
            First::Head => Start::After(journal.position(journal.head())),
            First::Foreign => Start::After(Position { epoch: !journal.epoch(), sequence: 5 }),
            First::Future => Start::After(journal.position(journal.head() + 1_000_000)),
        }
    }

    /// Watches until the node ends. From `calm` on it neither pauses nor disconnects.
    pub async fn follow(
        self,
        layer: Layer,
        mut serving_rx: ServingReceiver,
        calm: CancellationToken,
    ) -> Recording {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut recording = self.recording(layer);
        let mut resume: Option<ResumePoint> = None;
        let connections = Connections::default();
        sleep(Duration::from_millis(rng.u64(..20_000))).await;
        loop {
            let Ok(serving) = serving_rx.wait_for(Option::is_some).await.map(|it| it.clone().expect("one"))
            else {
                return recording;
            };
            let at = resume.get_or_insert_with(|| ResumePoint::new(self.start(&serving)));
            let start = at.start();
            let messages = match layer {
                Layer::Embedded => self.embedded(&serving, start),
                Layer::Wire => match self.raw(&connections, &serving_rx, start).await {
                    Some(messages) => messages,
                    None => {
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let (items, end) = read_messages(messages, &self, &mut rng, &calm).await;
            items.iter().for_each(|item| at.take(item));
            if let End::Lost { .. } = end {
                // The watch failed by its slow policy: start with a new snapshot.
                resume = Some(ResumePoint::new(Start::Snapshot));
            }
            recording.drained = end == End::Ending;
            recording.connections.push(Connection { start, items, end });
            if rng.u32(..3) == 0 {
                connections.cut();
            }
            sleep(Duration::from_millis(rng.u64(1..2000))).await;
        }
    }

    fn embedded(&self, serving: &Serving, start: Start) -> Messages {
        let request = Request {
            start,
            filter: self.filter.clone(),
            slow_policy: self.policy,
            bookmark_interval: Some(self.bookmarks),
            wait_ready: true,
        };
        let watch = serving.feed.watch(request).expect("a valid request");
        watch.into_stream().map(|update| update.map(Item::of).map_err(End::from)).boxed()
    }

    /// None if plegd is unreachable.
    async fn raw(
        &self,
        connections: &Connections,
        serving_rx: &ServingReceiver,
        start: Start,
    ) -> Option<Messages> {
        let request = self.message(start);
        let response = connections.client(serving_rx.clone()).lifecycle().watch(request).await;
        let messages = response.ok()?.into_inner().map(|message| match message {
            Ok(message) => Ok(Item::of_message(message)),
            Err(status) => Err(end_of(&status)),
        });
        Some(messages.boxed())
    }

    /// The request as a message.
    pub fn message(&self, start: Start) -> v1::WatchRequest {
        let (start, after) = match start {
            Start::Snapshot => (v1::Start::Snapshot, None),
            Start::Now => (v1::Start::Now, None),
            Start::Oldest => (v1::Start::Oldest, None),
            Start::After(after) => (v1::Start::Unspecified, Some(after.into())),
        };
        v1::WatchRequest {
            start: start.into(),
            after,
            filter: Some(self.wire_filter()),
            detail: if self.pods { v1::Detail::Pod } else { v1::Detail::Event }.into(),
            slow_policy: self.wire_policy().into(),
            bookmark_interval: prost_types::Duration::try_from(self.bookmarks).ok(),
            wait_ready: true,
            client_name: self.name.clone(),
        }
    }

    pub fn wire_policy(&self) -> v1::SlowPolicy {
        match self.policy {
            SlowPolicy::Resync => v1::SlowPolicy::Resync,
            SlowPolicy::LatestPerPod => v1::SlowPolicy::LatestPerPod,
            SlowPolicy::Fail => v1::SlowPolicy::Fail,
        }
    }

    pub fn wire_filter(&self) -> v1::Filter {
        let filter = self.filter.clone();
        v1::Filter {
            namespaces: filter.namespaces,
            pod_uids: filter.pod_uids,
            pod_names: filter.pod_names,
            label_selector: filter.selector.to_string(),
            types: filter.types.iter().map(|kind| v1::EventType::from(*kind).into()).collect(),
            containers_only: filter.containers_only,
        }
    }

    /// A pause, possibly so long that the subscriber falls behind.
    pub fn pause(rng: &mut fastrand::Rng) -> Duration {
        Duration::from_millis(if rng.bool() { rng.u64(1..500) } else { rng.u64(500..60_000) })
    }
}

/// Reads until the stream ends or the subscriber disconnects.
async fn read_messages(
    mut messages: Messages,
    plan: &Plan,
    rng: &mut fastrand::Rng,
    calm: &CancellationToken,
) -> (Vec<Item>, End) {
    let mut items = Vec::new();
    loop {
        if !calm.is_cancelled() {
            if rng.f64() < plan.pause_chance {
                let _ = calm.run_until_cancelled(sleep(Plan::pause(rng))).await;
            }
            if rng.f64() < plan.disconnect_chance {
                return (items, End::Cut);
            }
        }
        match messages.next().await {
            Some(Ok(item)) => items.push(item),
            Some(Err(end)) => return (items, end),
            None => return (items, End::Cut),
        }
    }
}

/// How a stream with this status ended.
fn end_of(status: &tonic::Status) -> End {
    match status.code() {
        Code::OutOfRange => {
            let lost = plegd::client::PositionLost::of(status).expect("details");
            End::Lost { reason: lost.reason, oldest: lost.oldest }
        }
        Code::Unavailable if status.message().contains("shutting down") => End::Ending,
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::Unknown | Code::Internal => End::Cut,
        _ => panic!("a valid watch ended with {status:?}"),
    }
}

// === impl ResumePoint ===

impl ResumePoint {
    fn new(begin: Start) -> Self {
        Self { begin, after: None, epoch: 0 }
    }

    fn start(&self) -> Start {
        self.after.map_or(self.begin, Start::After)
    }

    fn take(&mut self, item: &Item) {
        match item {
            Item::Hello { epoch, head, oldest, .. } => {
                self.epoch = *epoch;
                self.after = match self.start() {
                    Start::Now => Some(Position { epoch: *epoch, sequence: *head }),
                    Start::Oldest => Some(Position { epoch: *epoch, sequence: oldest - 1 }),
                    Start::After(after) => Some(after),
                    Start::Snapshot => None,
                };
            }
            Item::SnapshotEnd { position, .. } | Item::Bookmark(position) => self.after = Some(*position),
            Item::Event { event, .. } => {
                self.after = Some(Position { epoch: self.epoch, sequence: event.sequence });
            }
            // If the snapshot that follows is interrupted, another one is requested.
            Item::Gap(_) => *self = Self { begin: Start::Snapshot, after: None, ..*self },
            Item::Pod(_) | Item::Mode { .. } | Item::Restarted { .. } => {}
        }
    }
}
