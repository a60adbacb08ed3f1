//! A subscriber that uses [`plegd::client::Watch`], which reconnects when a connection is cut or plegd is restarted.

use std::time::Duration;

use plegd::{
    client::{CallError, Since, Update, WatchOptions},
    model::Position,
    watch::Start,
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    node::{Connections, ServingReceiver},
    record::{Connection, End, Item, Layer, Recording},
    subscriber::Plan,
};

/// Watches until it has received everything up to `goal`, which is set once nothing more happens. From `calm` on it neither
/// pauses nor disconnects.
pub async fn follow(
    plan: Plan,
    mut serving_rx: ServingReceiver,
    calm: CancellationToken,
    mut goal: watch::Receiver<Option<Position>>,
) -> Recording {
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut recording = plan.recording(Layer::Wire);
    sleep(Duration::from_millis(rng.u64(..20_000))).await;
    let serving = serving_rx.wait_for(Option::is_some).await.expect("a plegd").clone().expect("one");
    let mut begin = plan.start(&serving);
    drop(serving);
    let connections = Connections::default();
    let client = connections.client(serving_rx);
    // A watch that fails by its slow policy is followed by another one.
    loop {
        let options = WatchOptions {
            since: match begin {
                Start::Snapshot => Since::Snapshot,
                Start::Now => Since::Now,
                Start::Oldest => Since::Oldest,
                Start::After(after) => Since::After(after),
            },
            filter: plan.wire_filter(),
            detail: if plan.pods { plegd::api::v1::Detail::Pod } else { plegd::api::v1::Detail::Event },
            slow_policy: plan.wire_policy(),
            bookmark_interval: plan.bookmarks,
            client_name: plan.name.clone(),
        };
        let mut watch = client.watch(options);
        loop {
            if !calm.is_cancelled() {
                if rng.f64() < plan.pause_chance {
                    let _ = calm.run_until_cancelled(sleep(Plan::pause(&mut rng))).await;
                }
                if rng.f64() < plan.disconnect_chance {
                    connections.cut();
                }
            }
            let reached = goal.borrow_and_update().is_some_and(|goal| watch.position() == Some(goal));
            if reached {
                recording.drained = true;
                return recording;
            }
            let next = tokio::select! {
                next = watch.next() => next.expect("a watch ends with an error only"),
                // The goal may be reached already.
                changed = goal.changed() => { changed.expect("the goal is set before the end"); continue }
            };
            let item = match next {
                Ok(update) => match item_of(update, &mut recording, &mut begin) {
                    Some(item) => item,
                    None => continue,
                },
                Err(CallError::PositionLost { lost, .. }) => {
                    end(&mut recording, End::Lost { reason: lost.reason, oldest: lost.oldest });
                    begin = Start::Snapshot;
                    break;
                }
                Err(error) => panic!("a valid watch ended with {error}"),
            };
            let connection = recording.connections.last_mut().expect("hello comes first");
            connection.items.push(item);
        }
    }
}

/// Converts an update. An update that begins a connection is recorded as such.
fn item_of(update: Update, recording: &mut Recording, begin: &mut Start) -> Option<Item> {
    Some(match update {
        Update::Connected(hello) => {
            let connection = Connection { start: *begin, items: Vec::new(), end: End::Cut };
            recording.connections.push(connection);
            Item::of_hello(&hello)
        }
        Update::Resumed { hello, after } => {
            let start = Start::After(after);
            recording.connections.push(Connection { start, items: Vec::new(), end: End::Cut });
            Item::of_hello(&hello)
        }
        Update::Pod(pod) => Item::Pod(std::sync::Arc::new(pod)),
        Update::SnapshotEnd { position, pods } => Item::SnapshotEnd { position, pods: pods.into() },
        Update::Event { event, skipped, .. } => Item::of_event(event, skipped),
        Update::Bookmark(position) => Item::Bookmark(position),
        Update::Gap(gap) => {
            // If the snapshot that follows is interrupted, another one is requested.
            *begin = Start::Snapshot;
            Item::of_gap(&gap)
        }
        Update::ModeChange(change) => Item::of_mode(&change),
        Update::Reconnecting { .. } => return None,
        other => panic!("unknown update: {other:?}"),
    })
}

fn end(recording: &mut Recording, end: End) {
    if let Some(connection) = recording.connections.last_mut() {
        connection.end = end;
    }
}
