//! A plegd that relists an unchanged node repeatedly, for a profiler.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{
    Bench,
    daemon::{Daemon, Print, Stream},
    gate::{Gate, VARIABLES},
    node::{Lists, Node, Weight},
    process::Cpu,
    progress,
    relist::CONTAINERS,
    report::{Reading, Unit},
};

const WARM_UP: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn hold(bench: &Bench) -> Result<Vec<Reading>> {
    let lists = Lists::Unary;
    let pods = *bench.pods.first().context("no size")?;
    let node = Node::start(&bench.clock, lists, Weight::Real, pods, CONTAINERS)?;
    let endpoint = node.endpoint();
    let daemon = Daemon::configured(&bench.clock, &endpoint, Print::Nothing, Stream::Off, VARIABLES).await?;
    // Held at the gate until it has read the first lists: relists in between would delay it.
    Gate::close(&node, lists, &daemon, 0).await?;
    node.sim.faults().clear();
    sleep(WARM_UP).await;
    let pid = daemon.pid()?;
    progress::say(&format!(
        "to profile: perf record -p {pid}; relisting {pods} × {CONTAINERS} for {} s",
        LONG.as_secs()
    ));
    let (cpu, relists) = (Cpu::of(pid)?, node.calls(lists.methods()[0]));
    progress::during("relisting", sleep(LONG)).await;
    let (cpu, relists) = (Cpu::of(pid)?.since(&cpu), node.calls(lists.methods()[0]) - relists);
    daemon.stop().await?;
    let each = cpu.as_secs_f64() * 1e3 / relists as f64;
    Ok(vec![
        Reading::new(
            "profile",
            format!("CPU of a relist, {pods} × {CONTAINERS}, mean"),
            Unit::Milliseconds,
            each,
        )
        .note(format!("{relists} relists in {} s, without pauses", LONG.as_secs())),
    ])
}
