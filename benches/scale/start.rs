//! Start of the process → ready; and runtime available again → all changes of the downtime published.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::clock::Clock;
use tokio::time::{sleep, timeout};

use super::{
    Bench, CONTAINERS_PER_POD, PODS,
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    node::{Lists, Node, Weight, act},
    process::Cpu,
    progress,
    relist::CONTAINERS,
    report::{Distribution, Reading, Target, Unit},
};

const STARTS: usize = 9;
const RESTARTS: usize = 5;
/// Pods in which a container ends while the runtime is down.
const DEATHS: usize = 50;
/// Downtime: longer than plegd's first retries, and about the restart time of a runtime.
const AWAY: Duration = Duration::from_secs(3);

pub(crate) async fn start(bench: &Bench) -> Result<Vec<Reading>> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, PODS, CONTAINERS_PER_POD)?;
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Nothing, Stream::On).await?;
        took.push(daemon.ready().await?.as_secs_f64() * 1e3);
        daemon.stop().await?;
    }
    let took = Distribution::of(took).context("plegd was not started")?;
    let mut readings = Vec::new();
    for &pods in &bench.pods {
        let what = format!("starting with {pods} pods");
        readings.push(progress::during(&what, of_size(bench, pods)).await?);
    }
    let what = format!("start → ready, {PODS} × {CONTAINERS_PER_POD}");
    let reading = Reading::new("start", what, Unit::Milliseconds, took.median())
        .target(Target::AtMost(150.0))
        .note(format!("median of {}, longest {:.1} ms; polled every 2 ms", took.count(), took.max()));
    readings.insert(0, reading);
    Ok(readings)
}

/// With the default configuration; a timeout is reported as the result.
async fn of_size(bench: &Bench, pods: usize) -> Result<Reading> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, pods, CONTAINERS)?;
    let daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Nothing, Stream::On).await?;
    let ready = daemon.ready().await;
    let (took, note) = match ready {
        Ok(took) => (took, "once"),
        Err(_) => (DEADLINE, "not ready within this time"),
    };
    let cpu = Cpu::of(daemon.pid()?)?.since(&Cpu::NONE);
    daemon.stop().await?;
    let what = format!("start → ready, {pods} × {CONTAINERS}");
    let took = took.as_secs_f64() * 1e3;
    Ok(Reading::new(format!("start_{pods}"), what, Unit::Milliseconds, took).note(format!(
        "{note}; {:.2} s of CPU, {} runtime calls",
        cpu.as_secs_f64(),
        node.sim.calls().values().sum::<u64>()
    )))
}

pub(crate) async fn restart(bench: &Bench) -> Result<Vec<Reading>> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, PODS, RESTARTS)?;
    let daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Json, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE).await?;
    let mut took = Vec::new();
    for round in 0..RESTARTS {
        let what = format!("restarting the runtime, {} of {RESTARTS}", round + 1);
        let published = progress::during(&what, away(&node, &daemon, &bench.clock, round)).await?;
        took.push(published.as_secs_f64() * 1e3);
    }
    daemon.stop().await?;
    let took = Distribution::of(took).context("the runtime was not restarted")?;
    let what = format!("runtime back → all published, {PODS} × {RESTARTS}");
    Ok(vec![
        Reading::new("restart", what, Unit::Milliseconds, took.median()).target(Target::AtMost(200.0)).note(
            format!(
                "median of {}, longest {:.1} ms; {DEATHS} deaths meanwhile, {} s of downtime",
                took.count(),
                took.max(),
                AWAY.as_secs()
            ),
        ),
    ])
}

/// Restarts the runtime; returns the time from its socket's opening to the last published death.
async fn away(node: &Node, daemon: &Daemon, clock: &Clock, round: usize) -> Result<Duration> {
    let ids: Vec<String> = node.pods.iter().take(DEATHS).map(|pod| pod.containers[round].clone()).collect();
    node.sim.crash();
    act(&node.sim, |truth| ids.iter().try_for_each(|id| truth.exit(id, 3)))?;
    sleep(AWAY).await;
    node.sim.recover()?;
    let back = clock.now();
    let all = async {
        loop {
            let lines = daemon.events().of(&ids, "ContainerDied");
            if lines.len() >= ids.len() {
                return lines.iter().map(|line| line.read_at).max();
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let last = timeout(DEADLINE, all)
        .await
        .context("not all deaths are published")?
        .context("no death is published")?;
    // Waits for the stream, so that all rounds begin in the same state.
    sleep(Duration::from_secs(2)).await;
    Ok(last.since(back))
}
