//! Which pods come when.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use plegd::clock::Clock;
use tokio::{task::JoinSet, time::sleep};

use super::lab::{Churn, PodScenario};

/// More at once are too much for a small machine: the next one then comes later.
const ALIVE_AT_MOST: usize = 60;

/// Lets `rate` pods a second come for so long, and waits until all are gone. Says how many there were of each story, and
/// what went wrong with them.
pub(crate) async fn come_and_go(
    churn: Churn,
    rate: f64,
    whole: Duration,
    mut dice: fastrand::Rng,
) -> (BTreeMap<&'static str, u64>, Vec<String>) {
    let mut lives = JoinSet::new();
    let (mut counts, mut failures) = (BTreeMap::new(), Vec::new());
    let mut ended = |(story, life): (PodScenario, Result<()>)| match life {
        Ok(()) => *counts.entry(story.as_str()).or_default() += 1,
        Err(error) => failures.push(format!("a pod of the story {}: {error:#}", story.as_str())),
    };
    let clock = Clock::system();
    let mut next = clock.now();
    let end = next + whole;
    for number in 0_u64.. {
        // After a long wait for a place there is nothing to make up for.
        next = next.max(clock.now());
        sleep(next.min(end).since(clock.now())).await;
        if next >= end {
            break;
        }
        // Sometimes several at once, sometimes none for a while.
        next = next + Duration::from_secs_f64(2.0 * dice.f64() / rate);
        while lives.len() >= ALIVE_AT_MOST {
            lives.join_next().await.and_then(Result::ok).map(&mut ended);
        }
        while let Some(Ok(life)) = lives.try_join_next() {
            ended(life);
        }
        let (churn, story, dice) = (churn.clone(), PodScenario::drawn(&mut dice), dice.fork());
        lives.spawn(async move {
            let life = churn.run_scenario(&format!("pod-{number}"), story, dice).await;
            (story, life)
        });
    }
    while let Some(Ok(life)) = lives.join_next().await {
        ended(life);
    }
    (counts, failures)
}
