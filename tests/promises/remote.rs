//! A subscriber that [`plegd::client::Watch`] carries over connections that are cut and plegds that are restarted.

use std::time::Duration;

use plegd::{
    client::{CallError, Since, Update, WatchOptions},
    model::Position,
    watch::Start,
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    node::{Cables, Finding},
    record::{Connection, End, Item, Layer, Recording},
    subscriber::Plan,
};

/// Watches until it is told all up to the `goal`, which is set once nothing more happens; well-behaved from `calm` on.
pub async fn follow(
    plan: Plan,
    mut finding: Finding,
    calm: CancellationToken,
    mut goal: watch::Receiver<Option<Position>>,
) -> Recording {
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut recording = plan.recording(Layer::Wire);
    sleep(Duration::from_millis(rng.u64(..20_000))).await;
    let serving = finding.wait_for(Option::is_some).await.expect("a plegd").clone().expect("one");
    let mut begin = plan.start(&serving);
    drop(serving);
    let cables = Cables::default();
    let client = cables.client(finding);
    // A watch that fails since it was to is followed by another one.
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
                if rng.f64() < plan.lazy {
                    let _ = calm.run_until_cancelled(sleep(Plan::pause(&mut rng))).await;
                }
                if rng.f64() < plan.fickle {
                    cables.cut();
                }
            }
            let reached = goal.borrow_and_update().is_some_and(|goal| watch.position() == Some(goal));
            if reached {
                recording.drained = true;
                return recording;
            }
            let next = tokio::select! {
                next = watch.next() => next.expect("it does not end without an error"),
                // It may be there already.
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
                Err(error) => panic!("a watch that was made well ended with {error}"),
            };
            let connection = recording.connections.last_mut().expect("hello comes first");
            connection.items.push(item);
        }
    }
}

/// What an update says; connections are begun and ended on the way.
fn item_of(update: Update, recording: &mut Recording, begin: &mut Start) -> Option<Item> {
    Some(match update {
        Update::Connected(hello) => {
            let connection = Connection { asked: *begin, items: Vec::new(), end: End::Cut };
            recording.connections.push(connection);
            Item::of_hello(&hello)
        }
        Update::Resumed { hello, after } => {
            let asked = Start::After(after);
            recording.connections.push(Connection { asked, items: Vec::new(), end: End::Cut });
            Item::of_hello(&hello)
        }
        Update::Pod(pod) => Item::Pod(std::sync::Arc::new(pod)),
        Update::SnapshotEnd { position, pods } => Item::SnapshotEnd { position, pods: pods.into() },
        Update::Event { event, skipped, .. } => Item::of_event(event, skipped),
        Update::Bookmark(position) => Item::Bookmark(position),
        Update::Gap(gap) => {
            // Should the snapshot that follows be broken off, another one is asked for.
            *begin = Start::Snapshot;
            Item::of_gap(&gap)
        }
        Update::ModeChange(change) => Item::of_mode(&change),
        Update::Reconnecting { .. } => return None,
        other => panic!("an update that is not known: {other:?}"),
    })
}

fn end(recording: &mut Recording, end: End) {
    if let Some(connection) = recording.connections.last_mut() {
        connection.end = end;
    }
}
