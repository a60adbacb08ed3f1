//! 50,000 CRI events per second for several seconds, more than any node has. The runtime must never wait, plegd's
//! memory must stay bounded, and its cache must be correct at the end.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::{
    api::v1,
    client::{Address, Client},
    clock::Clock,
};
use tokio::time::{sleep, timeout};

use super::{
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    emission::Emission,
    node::{Lists, Node, Weight},
    process::{Cpu, Memory, forget_peak},
    progress,
    report::{Distribution, Reading, Target, Unit},
    truth::differences_of,
};

const PODS: usize = 250;
const RATE: u64 = 50_000;
const DURATION: Duration = Duration::from_secs(5);

/// Rounds with state, and as many without.
const ROUNDS: usize = 5;
/// Rate of these rounds: at a higher one the queue may overflow, and reads cost more than all other work.
const COMPARED_RATE: u64 = 20_000;

/// The CPU time of an event with state on disk, as a multiple of the time without. The rounds alternate.
pub(crate) async fn compare_state(clock: &Clock) -> Result<Vec<Reading>> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (enabled, cpu) in [(false, &mut without), (true, &mut with)] {
            let readings = flood(clock, enabled, COMPARED_RATE).await?;
            cpu.extend(readings.iter().find(|it| it.key == "flood_cpu").map(|it| it.measured));
        }
    }
    let median = |values| Distribution::of(values).map(|it| it.median()).context("nothing was measured");
    let text = |values: &[f64]| values.iter().map(|it| format!("{it:.1}")).collect::<Vec<_>>().join(", ");
    let note = format!("{} µs with state, {} µs without", text(&with), text(&without));
    let ratio = median(with)? / median(without)?;
    Ok(vec![
        Reading::new("flood_state", "CPU of an event with state, as a multiple", Unit::Times, ratio)
            .target(Target::AtMost(1.1))
            .note(note),
    ])
}

pub(crate) async fn measure(clock: &Clock) -> Result<Vec<Reading>> {
    flood(clock, true, RATE).await
}

async fn flood(clock: &Clock, state: bool, rate: u64) -> Result<Vec<Reading>> {
    let node = Node::start(clock, Lists::Unary, Weight::Light, PODS, 1)?;
    let state = [("PLEGD_STATE_ENABLED", if state { "true" } else { "false" })];
    let daemon = Daemon::configured(clock, &node.endpoint(), Print::Nothing, Stream::On, state).await?;
    daemon.ready().await?;
    let up = daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE);
    progress::during("waiting for the stream", up).await?;
    let pid = daemon.pid()?;
    let before = Memory::of(pid)?;
    forget_peak(pid)?;
    let cpu = Cpu::of(pid)?;
    let mut emission = Emission::new(&node, clock);
    let emitted = progress::during("flooding plegd", emission.run(rate, DURATION)).await?;
    let over = clock.now();
    let agreed = progress::during("waiting until the cache is correct", agrees(&node, &daemon)).await?;
    let caught_up = clock.now().since(over);
    let cpu = Cpu::of(pid)?.since(&cpu);
    let memory = Memory::of(pid)?;
    let counts = node.sim.event_counts();
    let metrics = ["plegd_stream_messages_total", "plegd_stream_queue_trimmed_total"];
    let [taken, trimmed] = [metric_sum(&daemon, metrics[0]).await?, metric_sum(&daemon, metrics[1]).await?];
    let lost = metric_sum(&daemon, "plegd_stream_disconnects_total").await?;
    daemon.stop().await?;

    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    Ok(vec![
        Reading::new("flood_rate", "events emitted in a flood", Unit::PerSecond, emitted.rate())
            .target(Target::AtLeast(rate as f64 * 0.98))
            .note(format!(
                "{} in {:.2} s, of which {} were taken off the stream; the bench shares the machine's cores",
                emitted.events,
                emitted.took.as_secs_f64(),
                counts.delivered,
            )),
        Reading::new(
            "flood_wait",
            "longest wait of the runtime for plegd",
            Unit::Milliseconds,
            emitted.longest_wait.as_secs_f64() * 1e3,
        )
        .note(format!(
            "{} times, {:.1} ms in all, {} events at most",
            emitted.waits,
            emitted.waited.as_secs_f64() * 1e3,
            emitted.most_blocked
        )),
        Reading::new(
            "flood_cpu",
            "CPU of an event in a flood",
            Unit::Microseconds,
            cpu.as_secs_f64() * 1e6 / emitted.events as f64,
        )
        .note(format!("{:.2} s in all, {taken} messages, {trimmed} stripped", cpu.as_secs_f64())),
        Reading::new(
            "flood_memory_peak",
            "resident in a flood, peak",
            Unit::Megabytes,
            megabytes(memory.peak),
        )
        .target(Target::AtMost(150.0))
        .note(format!(
            "{:.1} MB before, {:.1} MB after",
            megabytes(before.resident),
            megabytes(memory.resident)
        )),
        Reading::new("flood_lost", "subscriptions lost in a flood", Unit::Count, lost)
            .target(Target::AtMost(0.0)),
        Reading::new(
            "flood_differences",
            "differences of the cache from the truth at the end",
            Unit::Count,
            agreed.len() as f64,
        )
        .target(Target::AtMost(0.0))
        .note(match agreed.first() {
            None => format!("equal {:.2} s after the last event", caught_up.as_secs_f64()),
            Some(first) => first.clone(),
        }),
    ])
}

/// The differences from the truth once there are none, or at the timeout.
async fn agrees(node: &Node, daemon: &Daemon) -> Result<Vec<String>> {
    let client = Client::lazy(&Address::Unix(daemon.socket()));
    let mut differences = Vec::new();
    let agreed = async {
        loop {
            let served = client.list_pods(v1::Filter::default()).await.context("listing plegd's pods")?;
            differences = differences_of(&served.pods, &node.sim, |_| true);
            if differences.is_empty() {
                return anyhow::Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    if let Ok(agreed) = timeout(DEADLINE, agreed).await {
        agreed?;
    }
    Ok(differences)
}

/// The sum of a metric's samples; 0 if it has none.
async fn metric_sum(daemon: &Daemon, name: &str) -> Result<f64> {
    let metrics = daemon.get("/metrics").await?;
    let samples = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit_once(' ')?.1.trim().parse::<f64>().ok())?
    });
    Ok(samples.sum())
}
