//! A client that comes and goes: it watches for a while, now and then without reading, leaves, and comes back to go on
//! where it was.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use plegd::{
    client::{Client, Since, Update, WatchOptions},
    model::Event,
};
use tokio::time::{sleep, timeout};

use super::witness::{Told, told};

/// How long it stays and stays away, at most.
const STAY: Duration = Duration::from_secs(15);
const AWAY: Duration = Duration::from_secs(8);

/// What its visits were told together.
#[derive(Default)]
pub(crate) struct Visits {
    pub(crate) count: u64,
    pub(crate) told: Vec<Told>,
}

/// Visits until `over`.
pub(crate) async fn visits(
    client: Client,
    mut dice: fastrand::Rng,
    over: impl Future<Output = ()>,
) -> Result<Visits> {
    let mut visits = Visits::default();
    let mut since = Since::Oldest;
    let mut over = pin!(over);
    loop {
        visits.count += 1;
        let stay = STAY.mul_f64(dice.f64());
        let mut watch = client.watch(WatchOptions { since, ..WatchOptions::named("visitor") });
        // At the end of a stay or in the middle of it, as it comes.
        let reading = async {
            loop {
                let update =
                    watch.next().await.context("a visitor's watch has ended").and_then(|it| Ok(it?))?;
                take(update, &mut visits.told)?;
                if dice.u32(..500) == 0 {
                    // It has hung, and all others must not.
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
            () = sleep(AWAY.mul_f64(dice.f64())) => {}
            () = &mut over => return Ok(visits),
        }
    }
}

fn take(update: Update, into: &mut Vec<Told>) -> Result<()> {
    match update {
        Update::Event { event, .. } => {
            let event = Event::try_from(&event)?;
            let due = into.last().map_or(1, |(last, ..)| last + 1);
            ensure!(event.sequence == due, "a visitor was told event {} where {due} was due", event.sequence);
            into.push(told(&event));
        }
        Update::Gap(gap) => bail!("a visitor that is never away for long was told of a gap: {gap:?}"),
        _ => {}
    }
    Ok(())
}
