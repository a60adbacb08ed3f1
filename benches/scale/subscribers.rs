//! The cost of subscribers: memory of an idle one, and CPU per delivered event. Subscribers and containers are those
//! of the figures bench.

#[allow(dead_code, reason = "the figures bench uses all of it")]
#[path = "../figures/serving/crowd.rs"]
mod crowd;
#[allow(dead_code, reason = "the figures bench uses all of it")]
#[path = "../figures/serving/feed.rs"]
mod feed;

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::api::listen::raise_open_files;
use tokio::time::sleep;

use self::{
    crowd::{Crowd, From},
    feed::Feed,
};
use super::{
    Bench,
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    emission::Emission,
    node::{Lists, Node, Weight},
    process::{Cpu, Memory},
    progress,
    report::{Distribution, Reading, Target, Unit},
};

/// Numbers of subscribers, and of containers whose events they get, about four each.
const CROWDS: [(usize, usize); 4] = [(1, 4_000), (10, 2_000), (100, 1_000), (1_000, 250)];
const SETTLE: Duration = Duration::from_secs(3);
/// Subscribers and events per second, a million deliveries per second in total; and the duration.
const FAN_OUT: usize = 1_000;
const RATE: u64 = 1_000;
const LASTS: Duration = Duration::from_secs(5);
/// Pods with events at that rate.
const PODS: usize = 50;

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    raise_open_files();
    let directory = tempfile::tempdir()?;
    let feed = Feed::start(&bench.clock, &directory.path().join("cri.sock")).await?;
    let mut readings = Vec::new();
    for (subscribers, containers) in CROWDS {
        let what = format!("delivering to {subscribers} subscribers");
        readings.extend(progress::during(&what, deliver(bench, &feed, subscribers, containers)).await?);
    }
    feed.stop().await?;
    readings.extend(
        progress::during("delivering to 1,000 subscribers at a fixed rate", at_fixed_rate(bench)).await?,
    );
    Ok(readings)
}

/// Latency at a million deliveries per second.
async fn at_fixed_rate(bench: &Bench) -> Result<[Reading; 2]> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Light, PODS, 1)?;
    let daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Nothing, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE).await?;
    let crowd = Crowd::connect(&daemon.socket(), FAN_OUT).await?;
    let crowd = crowd.watch(From::Now, &bench.clock).await?;
    sleep(SETTLE).await;
    let head = daemon.metric("plegd_journal_head_sequence").await?;
    crowd.forget();
    crowd.time(true);
    let (cpu, begun) = (Cpu::of(daemon.pid()?)?, bench.clock.now());
    let emitted = Emission::new(&node, &bench.clock).run(RATE, LASTS).await?;
    sleep(Duration::from_millis(200)).await;
    let events = (daemon.metric("plegd_journal_head_sequence").await? - head) as u64;
    crowd.until_told(events).await?;
    let took = crowd.last_told_at().since(begun);
    let cpu = Cpu::of(daemon.pid()?)?.since(&cpu);
    let latencies = Distribution::of(crowd.latencies()).context("nothing was received")?;
    crowd.leave().await;
    daemon.stop().await?;
    let deliveries = events as f64 * FAN_OUT as f64;
    Ok([
        Reading::new(
            "fan_out_pace",
            format!("deliveries to {FAN_OUT} subscribers at {RATE} events per second"),
            Unit::PerSecond,
            deliveries / took.as_secs_f64(),
        )
        .note(format!(
            "{events} events in {:.2} s, {} emitted; {:.2} s of CPU",
            took.as_secs_f64(),
            emitted.events,
            cpu.as_secs_f64()
        )),
        Reading::new(
            "fan_out_p99",
            "detected → received, 99th percentile meanwhile",
            Unit::Milliseconds,
            latencies.quantile(0.99) * 1e3,
        )
        .target(Target::AtMost(50.0))
        .note(format!(
            "median {:.1} ms, longest {:.1} ms",
            latencies.median() * 1e3,
            latencies.max() * 1e3
        )),
    ])
}

async fn deliver(bench: &Bench, feed: &Feed, subscribers: usize, containers: usize) -> Result<[Reading; 3]> {
    let pid = feed.daemon().pid()?;
    let before = Memory::of(pid)?;
    let crowd = Crowd::connect(&feed.daemon().socket(), subscribers).await?;
    let crowd = crowd.watch(From::Now, &bench.clock).await?;
    sleep(SETTLE).await;
    let with = Memory::of(pid)?;
    let head = feed.head().await?.sequence;
    crowd.forget();
    let (cpu, begun) = (Cpu::of(pid)?, bench.clock.now());
    let events = feed.live(containers, Duration::ZERO).await? - head;
    crowd.until_told(events).await?;
    let took = crowd.last_told_at().since(begun);
    let cpu = Cpu::of(pid)?.since(&cpu);
    crowd.leave().await;
    let deliveries = events * subscribers as u64;
    let grown = with.resident.saturating_sub(before.resident) as f64;
    let at_least = if subscribers == FAN_OUT { Target::AtLeast(1e6) } else { Target::None };
    Ok([
        Reading::new(
            format!("growth_subscribers_{subscribers}_rate"),
            format!("deliveries to {subscribers} subscribers"),
            Unit::PerSecond,
            deliveries as f64 / took.as_secs_f64(),
        )
        .target(at_least)
        .note(format!("{events} events back to back")),
        Reading::new(
            format!("growth_subscribers_{subscribers}_cpu"),
            format!("CPU per event and subscriber, {subscribers} subscribers"),
            Unit::Microseconds,
            cpu.as_secs_f64() * 1e6 / deliveries as f64,
        )
        .note(format!("{:.2} s of CPU, including the reception of the events", cpu.as_secs_f64())),
        Reading::new(
            format!("growth_subscribers_{subscribers}_memory"),
            format!("memory per subscriber, {subscribers} subscribers"),
            Unit::Kilobytes,
            grown / 1e3 / subscribers as f64,
        )
        .note(format!(
            "{:.1} MB with idle subscribers, {:.1} MB before",
            with.resident as f64 / 1e6,
            before.resident as f64 / 1e6
        )),
    ])
}
