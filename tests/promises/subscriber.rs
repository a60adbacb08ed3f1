//! Subscribers with bad habits: they pause, break off, are cut off, and go on where they were.
//!
//! Their habits are drawn from a seed. Two kinds live here, a watch within the process and a raw stream of messages; the
//! one that [`plegd::client::Watch`] carries over its connections is in `remote`.

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
    node::{Cables, Finding, Serving},
    record::{Connection, End, Item, Layer, Recording},
};

/// What a subscriber wants, and how it behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub seed: u64,
    pub filter: Filter,
    pub policy: SlowPolicy,
    pub first: First,
    /// Whether events come with their pods; within the process they always do.
    pub pods: bool,
    pub bookmarks: Duration,
    /// How likely it is, at each message, to pause or to break off.
    pub lazy: f64,
    pub fickle: f64,
}

/// Where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Snapshot,
    Now,
    Oldest,
    /// After the head, as it is then.
    Head,
    /// After a position of nobody's.
    Foreign,
    /// After a position that is far ahead.
    Future,
}

/// Messages, and how they end.
type Messages = BoxStream<'static, Result<Item, End>>;

/// Where a subscriber would go on.
#[derive(Clone, Copy, Debug)]
struct Place {
    begin: Start,
    after: Option<Position>,
    epoch: u64,
}

// === impl Plan ===

impl Plan {
    /// Any.
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
            lazy: [0.0, 0.02, 0.05][rng.usize(..3)],
            fickle: [0.0, 0.01, 0.05][rng.usize(..3)],
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

    /// Watches until the node ends; well-behaved from `calm` on.
    pub async fn follow(self, layer: Layer, mut finding: Finding, calm: CancellationToken) -> Recording {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut recording = self.recording(layer);
        let mut place: Option<Place> = None;
        let cables = Cables::default();
        sleep(Duration::from_millis(rng.u64(..20_000))).await;
        loop {
            let Ok(serving) = finding.wait_for(Option::is_some).await.map(|it| it.clone().expect("one"))
            else {
                return recording;
            };
            let at = place.get_or_insert_with(|| Place::new(self.start(&serving)));
            let asked = at.asked();
            let messages = match layer {
                Layer::Embedded => self.embedded(&serving, asked),
                Layer::Wire => match self.raw(&cables, &finding, asked).await {
                    Some(messages) => messages,
                    None => {
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let (items, end) = listen(messages, &self, &mut rng, &calm).await;
            items.iter().for_each(|item| at.take(item));
            if let End::Lost { .. } = end {
                // It was to fail, and has: it begins anew.
                place = Some(Place::new(Start::Snapshot));
            }
            recording.drained = end == End::Ending;
            recording.connections.push(Connection { asked, items, end });
            if rng.u32(..3) == 0 {
                cables.cut();
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
        let watch = serving.feed.watch(request).expect("a request that can be met");
        watch.into_stream().map(|update| update.map(Item::of).map_err(End::from)).boxed()
    }

    /// None if plegd cannot be reached.
    async fn raw(&self, cables: &Cables, finding: &Finding, start: Start) -> Option<Messages> {
        let request = self.message(start);
        let answer = cables.client(finding.clone()).lifecycle().watch(request).await;
        let messages = answer.ok()?.into_inner().map(|message| match message {
            Ok(message) => Ok(Item::of_message(message)),
            Err(status) => Err(end_of(&status)),
        });
        Some(messages.boxed())
    }

    /// The same as a message.
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

    /// A pause that may well be too long.
    pub fn pause(rng: &mut fastrand::Rng) -> Duration {
        Duration::from_millis(if rng.bool() { rng.u64(1..500) } else { rng.u64(500..60_000) })
    }
}

/// Listens until it is over, or the subscriber has had enough.
async fn listen(
    mut messages: Messages,
    plan: &Plan,
    rng: &mut fastrand::Rng,
    calm: &CancellationToken,
) -> (Vec<Item>, End) {
    let mut items = Vec::new();
    loop {
        if !calm.is_cancelled() {
            if rng.f64() < plan.lazy {
                let _ = calm.run_until_cancelled(sleep(Plan::pause(rng))).await;
            }
            if rng.f64() < plan.fickle {
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

/// What the status of a stream means.
fn end_of(status: &tonic::Status) -> End {
    match status.code() {
        Code::OutOfRange => {
            let lost = plegd::client::PositionLost::of(status).expect("details");
            End::Lost { reason: lost.reason, oldest: lost.oldest }
        }
        Code::Unavailable if status.message().contains("shutting down") => End::Ending,
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::Unknown | Code::Internal => End::Cut,
        _ => panic!("a watch that was made well ended with {status:?}"),
    }
}

// === impl Place ===

impl Place {
    fn new(begin: Start) -> Self {
        Self { begin, after: None, epoch: 0 }
    }

    fn asked(&self) -> Start {
        self.after.map_or(self.begin, Start::After)
    }

    fn take(&mut self, item: &Item) {
        match item {
            Item::Hello { epoch, head, oldest, .. } => {
                self.epoch = *epoch;
                self.after = match self.asked() {
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
            // Should the snapshot that follows be broken off, another one is wanted.
            Item::Gap(_) => *self = Self { begin: Start::Snapshot, after: None, ..*self },
            Item::Pod(_) | Item::Mode { .. } => {}
        }
    }
}
