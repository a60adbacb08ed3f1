//! When pods are created.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use plegd::clock::Clock;
use tokio::{task::JoinSet, time::sleep};

use super::lab::{Churn, PodScenario};

/// Maximum number of simultaneous pods, for a small machine; further ones are created later.
const MAX_PODS: usize = 60;

/// Creates `rate` pods per second for the time `whole`, and waits until all are removed. Returns the number of pods
/// by kind, and the failures.
pub(crate) async fn run(
    churn: Churn,
    rate: f64,
    whole: Duration,
    mut rng: fastrand::Rng,
) -> (BTreeMap<&'static str, u64>, Vec<String>) {
    let mut tasks = JoinSet::new();
    let (mut counts, mut failures) = (BTreeMap::new(), Vec::new());
    let mut ended = |(scenario, life): (PodScenario, Result<()>)| match life {
        Ok(()) => *counts.entry(scenario.as_str()).or_default() += 1,
        Err(error) => failures.push(format!("a pod of the scenario {}: {error:#}", scenario.as_str())),
    };
    let clock = Clock::system();
    let mut next = clock.now();
    let end = next + whole;
    for number in 0_u64.. {
        // After a long wait for capacity, missed pods are not caught up.
        next = next.max(clock.now());
        sleep(next.min(end).since(clock.now())).await;
        if next >= end {
            break;
        }
        // Sometimes several at once, sometimes none for a while.
        next = next + Duration::from_secs_f64(2.0 * rng.f64() / rate);
        while tasks.len() >= MAX_PODS {
            tasks.join_next().await.and_then(Result::ok).map(&mut ended);
        }
        while let Some(Ok(life)) = tasks.try_join_next() {
            ended(life);
        }
        let (churn, scenario, rng) = (churn.clone(), PodScenario::random(&mut rng), rng.fork());
        tasks.spawn(async move {
            let life = churn.run_scenario(&format!("pod-{number}"), scenario, rng).await;
            (scenario, life)
        });
    }
    while let Some(Ok(life)) = tasks.join_next().await {
        ended(life);
    }
    (counts, failures)
}
