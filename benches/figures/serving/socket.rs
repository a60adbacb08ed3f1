//! Latency from the event's timestamp by a real containerd to a client on the UNIX socket.

use anyhow::{Context, Result};
use plegd::{
    api::v1,
    client::{Address, Client, Since, Update, Watch, WatchOptions, wall},
    clock::Clock,
};
use tokio::time::{sleep, timeout};

use super::super::{
    Bench,
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    latency::{CONTAINERS, INTERVAL, run_at_low_rate},
    report::{Distribution, Reading, Target, Unit},
};

pub(super) async fn latency(bench: &mut Bench) -> Result<Vec<Reading>> {
    let containerd = bench.containerd().await?;
    let client = containerd.client()?;
    let daemon = Daemon::start(&bench.clock, &containerd.endpoint(), Print::Nothing, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE).await?;
    let pod = client.run_pod("latency").await?;
    let plegd = Client::connect(&Address::Unix(daemon.socket())).await?;
    let watch = plegd.watch(WatchOptions { since: Since::Now, ..WatchOptions::named("figures") });
    let subscriber = tokio::spawn(seconds(watch, bench.clock.clone()));
    run_at_low_rate(&client, &pod).await?;
    // Events after the last death take no longer than this.
    sleep(INTERVAL).await;
    daemon.stop().await?;
    let latencies = Distribution::of(subscriber.await??).context("the stream reported nothing")?;
    let note = format!("{} starts and deaths from the stream, one subscriber", latencies.count());
    let reading = |key, what: &str, seconds: f64| {
        let what = format!("timestamp → received over the socket: {what}");
        Reading::new(key, what, Unit::Milliseconds, seconds * 1e3)
    };
    Ok(vec![
        reading("serving_latency_median", "median", latencies.median())
            .target(Target::AtMost(1.5))
            .note(note),
        reading("serving_latency_p99", "99th percentile", latencies.quantile(0.99))
            .target(Target::AtMost(6.0)),
        reading("serving_latency_max", "longest", latencies.max()),
    ])
}

/// Latency of each start and death, until plegd ends.
async fn seconds(mut watch: Watch, clock: Clock) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(2 * CONTAINERS);
    while let Ok(Some(update)) = timeout(DEADLINE, watch.next()).await {
        let received = clock.wall();
        match update? {
            Update::Event { event, .. } => {
                let kind = event.r#type();
                let counts = event.subject() == v1::Subject::Container
                    && event.source() == v1::Source::Event
                    && matches!(kind, v1::EventType::ContainerStarted | v1::EventType::ContainerDied);
                if let (true, Some(stamped)) = (counts, event.stamped_at) {
                    seconds.push(received.seconds_since(wall(&stamped)));
                }
            }
            Update::Reconnecting { .. } => break,
            _ => {}
        }
    }
    Ok(seconds)
}
