//! Cost by size, and cost per unit: if the latter does not grow, the total grows at most linearly.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{
    Bench,
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    emission::Emission,
    node::{Lists, Node, Weight},
    process::Cpu,
    progress,
    relist::{CONTAINERS, Polled},
    report::{Reading, Unit},
    subscribers,
};

const SIZES: [usize; 5] = [100, 300, 1_000, 3_000, 10_000];
const RELISTS: usize = 11;
/// Events per second, and duration in seconds.
const RATES: [(u64, u64); 4] = [(10, 20), (100, 10), (1_000, 5), (10_000, 5)];
/// Time for reads after the last event.
const SETTLE: Duration = Duration::from_secs(1);

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for pods in SIZES {
        let what = format!("relisting {pods} pods");
        readings.extend(progress::during(&what, by_pods(bench, pods)).await?);
    }
    readings.extend(by_rate(bench).await?);
    readings.extend(subscribers::measure(bench).await?);
    Ok(readings)
}

async fn by_pods(bench: &Bench, pods: usize) -> Result<[Reading; 2]> {
    let polled = Polled::start(bench, Lists::Unary, pods).await?;
    let unchanged = polled.unchanged(RELISTS).await?;
    polled.stop().await?;
    let (cpu, memory) = (unchanged.cpu.median(), unchanged.memory.resident as f64);
    Ok([
        Reading::new(
            format!("growth_pods_{pods}_cpu"),
            format!("CPU of an unchanged relist, {pods} × {CONTAINERS}"),
            Unit::Milliseconds,
            cpu * 1e3,
        )
        .note(format!("{:.2} µs per pod", cpu * 1e6 / pods as f64)),
        Reading::new(
            format!("growth_pods_{pods}_memory"),
            format!("resident memory, {pods} × {CONTAINERS}"),
            Unit::Megabytes,
            memory / 1e6,
        )
        .note(format!("{:.2} kB per pod", memory / 1e3 / pods as f64)),
    ])
}

async fn by_rate(bench: &Bench) -> Result<Vec<Reading>> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Light, super::PODS, 1)?;
    let daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Nothing, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE).await?;
    let pid = daemon.pid()?;
    let mut emission = Emission::new(&node, &bench.clock);
    // Until every pod has a container and memory is stable.
    emission.run(5_000, Duration::from_secs(1)).await?;
    let mut readings = Vec::new();
    for (rate, seconds) in RATES {
        sleep(SETTLE).await;
        let (cpu, calls) = (Cpu::of(pid)?, node.sim.calls().values().sum::<u64>());
        let what = format!("emitting {rate} events per second");
        let emitted = progress::during(&what, emission.run(rate, Duration::from_secs(seconds))).await?;
        sleep(SETTLE).await;
        let cpu = Cpu::of(pid)?.since(&cpu);
        let calls = node.sim.calls().values().sum::<u64>() - calls;
        readings.push(
            Reading::new(
                format!("growth_rate_{rate}_cpu"),
                format!("CPU of an event, {rate} per second"),
                Unit::Microseconds,
                cpu.as_secs_f64() * 1e6 / emitted.events as f64,
            )
            .note(format!(
                "{} events, actually {:.0} per second; {:.2} s of CPU, {calls} runtime calls meanwhile",
                emitted.events,
                emitted.rate(),
                cpu.as_secs_f64()
            )),
        );
    }
    daemon.stop().await?;
    Ok(readings)
}
