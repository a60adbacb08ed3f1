//! From the stamp that the runtime puts on an event to the moment at which a subscriber in the process has it.

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
    lab::{self, ContainerSpec, PATIENCE, eventually},
    progress,
    report::{Asked, Distribution, Reading, Unit},
};

/// Each gives a start and a death.
pub(crate) const LIVES: usize = 260;
const LIFE_SECONDS: f64 = 0.1;
/// From a start to the removal: the machine has rest before and after the death.
pub(crate) const PACE: Duration = Duration::from_millis(250);

pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Reading>> {
    let containerd = bench.containerd().await?;
    let client = containerd.client()?;
    let endpoint: Endpoint = containerd.endpoint().parse().map_err(anyhow::Error::msg)?;
    let app = App::start(&Config::default(), Link::unix(endpoint), bench.clock.clone());
    eventually("the stream to be up", PATIENCE, || async { Ok(app.follower_status().stream_up) }).await?;
    let pod = client.run_pod("latency").await?;
    let cursor = app.journal().cursor(app.journal().head());
    let subscriber = tokio::spawn(seconds(cursor, bench.clock.clone()));
    run_gently(&client, &pod).await?;
    // What comes after the last death takes no longer than anything else.
    sleep(PACE).await;
    app.stop().await;
    let latencies = subscriber.await??;
    let latencies = Distribution::of(latencies).context("the stream told nothing")?;
    let note = format!("{} starts and deaths told by the stream", latencies.count());
    let reading = |key, what: &str, seconds: f64| {
        Reading::new(
            key,
            format!("stamped → seen by a subscriber: {what}"),
            Unit::Milliseconds,
            seconds * 1e3,
        )
    };
    Ok(vec![
        reading("latency_median", "median", latencies.median()).asked(Asked::AtMost(1.0)).note(note),
        reading("latency_p99", "99th percentile", latencies.quantile(0.99)).asked(Asked::AtMost(5.0)),
        reading("latency_max", "longest", latencies.max()),
    ])
}

/// What is measured of both: in the process, and over the socket.
pub(crate) async fn run_gently(client: &lab::Client, pod: &lab::Pod) -> Result<()> {
    let lives = async {
        for attempt in 0..LIVES as u32 {
            let spec = ContainerSpec { attempt, ..ContainerSpec::living("short", LIFE_SECONDS, 0) };
            let id = client.run(pod, spec).await?;
            sleep(PACE).await;
            // On a busy machine it may still live.
            client.exited(&id).await?;
            client.remove(&id).await?;
        }
        anyhow::Ok(())
    };
    progress::during(&format!("running {LIVES} containers at a gentle pace"), lives).await
}

/// How long after its stamp each start and death came out of the cursor, until two of each life have come.
async fn seconds(mut cursor: Cursor, clock: Clock) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(2 * LIVES);
    while seconds.len() < 2 * LIVES {
        let Ok(event) = tokio::time::timeout(PATIENCE, cursor.next()).await else { break };
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
