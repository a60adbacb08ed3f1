//! Latency from the event's timestamp by the runtime to a subscriber in the process.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::{
    app::App,
    clock::Clock,
    config::Config,
    cri::{Endpoint, Link},
    journal::Cursor,
    model::{EventType, Source, Subject},
};
use tokio::time::sleep;

use super::{
    Bench,
    lab::{self, ContainerSpec, TIMEOUT, eventually},
    progress,
    report::{Distribution, Reading, Target, Unit},
};

/// Each container gives a start and a death.
pub(crate) const CONTAINERS: usize = 260;
const LIFE_SECONDS: f64 = 0.1;
/// From a start to the removal: the machine is idle before and after the death.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Reading>> {
    let containerd = bench.containerd().await?;
    let client = containerd.client()?;
    let endpoint: Endpoint = containerd.endpoint().parse().map_err(anyhow::Error::msg)?;
    let app = App::start(&Config::default(), Link::unix(endpoint), bench.clock.clone());
    eventually("the stream to be up", TIMEOUT, || async { Ok(app.follower_status().stream_up) }).await?;
    let pod = client.run_pod("latency").await?;
    let cursor = app.journal().cursor(app.journal().head());
    let subscriber = tokio::spawn(seconds(cursor, bench.clock.clone()));
    run_at_low_rate(&client, &pod).await?;
    // Events after the last death take no longer than this.
    sleep(INTERVAL).await;
    app.stop().await;
    let latencies = subscriber.await??;
    let latencies = Distribution::of(latencies).context("the stream reported nothing")?;
    let note = format!("{} starts and deaths from the stream", latencies.count());
    let reading = |key, what: &str, seconds: f64| {
        Reading::new(
            key,
            format!("timestamp → subscriber in the process: {what}"),
            Unit::Milliseconds,
            seconds * 1e3,
        )
    };
    Ok(vec![
        reading("latency_median", "median", latencies.median()).target(Target::AtMost(1.0)).note(note),
        reading("latency_p99", "99th percentile", latencies.quantile(0.99)).target(Target::AtMost(5.0)),
        reading("latency_max", "longest", latencies.max()),
    ])
}

/// The workload for both measurements: in the process, and over the socket.
pub(crate) async fn run_at_low_rate(client: &lab::Client, pod: &lab::Pod) -> Result<()> {
    let work = async {
        for attempt in 0..CONTAINERS as u32 {
            let spec = ContainerSpec { attempt, ..ContainerSpec::sleeping("short", LIFE_SECONDS, 0) };
            let id = client.run(pod, spec).await?;
            sleep(INTERVAL).await;
            // On a busy machine it may still run.
            client.exited(&id).await?;
            client.remove(&id).await?;
        }
        anyhow::Ok(())
    };
    progress::during(&format!("running {CONTAINERS} containers one after the other"), work).await
}

/// Latencies of starts and deaths from the cursor, until two events of each container were received.
async fn seconds(mut cursor: Cursor, clock: Clock) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(2 * CONTAINERS);
    while seconds.len() < 2 * CONTAINERS {
        let Ok(event) = tokio::time::timeout(TIMEOUT, cursor.next()).await else { break };
        let seen = clock.wall();
        let event = event?;
        let counts = event.subject == Subject::Container
            && event.source == Source::Event
            && matches!(event.kind, EventType::ContainerStarted | EventType::ContainerDied);
        if let (true, Some(stamped)) = (counts, event.stamped_at) {
            seconds.push(seen.seconds_since(stamped));
        }
    }
    Ok(seconds)
}
