//! The cost of plegd with idle pods in evented mode: CPU, memory and wake-ups.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{
    Bench, CONTAINERS_PER_POD, PODS,
    daemon::{Daemon, Print, Stream},
    node::{Lists, Node, Weight},
    process::{Cpu, Memory, wake_ups},
    progress,
    report::{Reading, Target, Unit},
};

pub(crate) const REST: Duration = Duration::from_secs(60);
pub(crate) const SETTLE: Duration = Duration::from_secs(3);
/// Probing doubles its period from 1 s to 60 s, which takes 2 min.
pub(crate) const PROBING: Duration = Duration::from_secs(300);

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, PODS, CONTAINERS_PER_POD)?;
    let daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Nothing, Stream::On).await?;
    let evented = daemon.shows("plegd_mode{mode=\"evented\"}", 1.0, PROBING);
    progress::during("waiting for evented mode", evented).await?;
    sleep(SETTLE).await;
    let pid = daemon.pid()?;
    let (cpu, woken) = (Cpu::of(pid)?, wake_ups(pid)?);
    progress::during("measuring plegd at rest", sleep(REST)).await;
    let (cpu, woken) = (Cpu::of(pid)?.since(&cpu), wake_ups(pid)? - woken);
    let memory = Memory::of(pid)?;
    let calls = node.sim.calls();
    daemon.stop().await?;
    let (size, seconds) = (format!("{PODS} × {CONTAINERS_PER_POD}"), REST.as_secs());
    Ok(vec![
        Reading::new(
            "idle_cpu",
            format!("CPU at rest, {size}, {seconds} s"),
            Unit::Seconds,
            cpu.as_secs_f64(),
        )
        .target(Target::AtMost(0.02))
        .note(format!("evented; the runtime has answered {:?} since the start", calls)),
        Reading::new(
            "idle_memory",
            format!("resident memory at rest, {size}"),
            Unit::Megabytes,
            memory.resident as f64 / 1e6,
        )
        .target(Target::AtMost(10.0))
        .note(format!(
            "{:.1} MB of it heap and stacks, the rest pages of the program; {:.1} MB at its peak",
            memory.anonymous as f64 / 1e6,
            memory.peak as f64 / 1e6
        )),
        Reading::new(
            "idle_wake_ups",
            format!("wake-ups at rest, {size}, per minute"),
            Unit::Count,
            woken as f64,
        )
        .note("voluntary context switches of all threads"),
    ])
}
