//! A client that watches for a while, sometimes without reading, disconnects, and resumes where it was.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use plegd::{
    client::{Client, Since, Update, WatchOptions},
    model::Event,
};
use tokio::time::{sleep, timeout};

use super::checker::{EventKey, event_key};

/// Maximum duration of a session, and of the pause after it.
const STAY: Duration = Duration::from_secs(15);
const AWAY: Duration = Duration::from_secs(8);

/// The events of all sessions together.
#[derive(Default)]
pub(crate) struct Sessions {
    pub(crate) count: u64,
    pub(crate) keys: Vec<EventKey>,
}

/// Opens sessions until `over`.
pub(crate) async fn run(
    client: Client,
    mut rng: fastrand::Rng,
    over: impl Future<Output = ()>,
) -> Result<Sessions> {
    let mut sessions = Sessions::default();
    let mut since = Since::Oldest;
    let mut over = pin!(over);
    loop {
        sessions.count += 1;
        let stay = STAY.mul_f64(rng.f64());
        let mut watch = client.watch(WatchOptions { since, ..WatchOptions::named("intermittent") });
        // A session ends at any time, also in the middle of an update.
        let reading = async {
            loop {
                let update = watch
                    .next()
                    .await
                    .context("the intermittent client's watch has ended")
                    .and_then(|it| Ok(it?))?;
                take(update, &mut sessions.keys)?;
                if rng.u32(..500) == 0 {
                    // A frozen client must not delay others.
                    sleep(STAY).await;
                }
            }
        };
        if let Ok(ended) = timeout(stay, reading).await {
            return ended;
        }
        if let Some(position) = watch.position() {
            since = Since::After(position);
        }
        drop(watch);
        tokio::select! {
            () = sleep(AWAY.mul_f64(rng.f64())) => {}
            () = &mut over => return Ok(sessions),
        }
    }
}

fn take(update: Update, into: &mut Vec<EventKey>) -> Result<()> {
    match update {
        Update::Event { event, .. } => {
            let event = Event::try_from(&event)?;
            let due = into.last().map_or(1, |(last, ..)| last + 1);
            ensure!(
                event.sequence == due,
                "the intermittent client received event {} instead of {due}",
                event.sequence
            );
            into.push(event_key(&event));
        }
        Update::Gap(gap) => bail!("the intermittent client, never away for long, received a gap: {gap:?}"),
        _ => {}
    }
    Ok(())
}
