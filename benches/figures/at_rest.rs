//! What plegd costs beside many pods that do nothing: its own CPU and memory, and the CPU that it makes containerd use.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{
    Bench,
    daemon::{Daemon, Print, Stream},
    kubelet,
    process::{Cpu, Memory},
    progress,
    report::{Asked, Distribution, Reading, Unit},
};

/// How often the time from start to ready is taken.
const STARTS: usize = 5;
/// What was busy has calmed down.
const SETTLE: Duration = Duration::from_secs(5);
/// Probing doubles its period from one second to sixty, which takes two minutes.
const PROBING: Duration = Duration::from_secs(300);

/// What was used while everything was at rest.
struct Used {
    plegd: Duration,
    containerd: Duration,
    memory: Memory,
}

pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Reading>> {
    let (clock, rest, full) = (bench.clock.clone(), bench.rest, bench.is_full_size());
    let (pods, seconds) = (bench.pods, rest.as_secs());
    let node = bench.node().await?;
    let (endpoint, containerd) = (node.containerd.endpoint(), node.containerd.pid()?);

    sleep(SETTLE).await;
    let before = Cpu::of(containerd)?;
    progress::during("measuring containerd alone", sleep(rest)).await;
    let alone = Cpu::of(containerd)?.since(&before);

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let daemon = Daemon::start(&clock, &endpoint, Print::Nothing, Stream::On).await?;
        starts.push(daemon.ready().await?.as_secs_f64() * 1e3);
        daemon.stop().await?;
    }
    let starts = Distribution::of(starts).context("plegd was never started")?;

    let daemon = Daemon::start(&clock, &endpoint, Print::Nothing, Stream::On).await?;
    let evented = daemon.shows("plegd_mode{mode=\"evented\"}", 1.0, PROBING);
    progress::during("waiting for plegd to trust the stream", evented).await?;
    let evented = used(&daemon, containerd, rest, "measuring plegd in evented mode").await?;
    daemon.stop().await?;

    let daemon = Daemon::start(&clock, &endpoint, Print::Nothing, Stream::Off).await?;
    daemon.ready().await?;
    let relists_before = Relists::of(&daemon).await?;
    let polling = used(&daemon, containerd, rest, "measuring plegd as it polls").await?;
    let relists = Relists::of(&daemon).await?.since(&relists_before);
    daemon.stop().await?;

    let at_most = |most| if full { Asked::AtMost(most) } else { Asked::Nothing };
    let cpu = |key, what: &str, time: Duration| {
        Reading::new(key, format!("{what}, {pods} pods, {seconds} s"), Unit::Seconds, time.as_secs_f64())
    };
    let memory = |key, mode: &str, memory: &Memory| {
        let anonymous = memory.anonymous as f64 / 1e6;
        Reading::new(
            key,
            format!("resident memory, {mode}, {pods} pods"),
            Unit::Megabytes,
            memory.resident as f64 / 1e6,
        )
        .note(format!("{anonymous:.1} MB of it heap and stacks, the rest pages of the program"))
        .asked(at_most(15.0))
    };
    Ok(vec![
        cpu("cpu_evented", "CPU, evented", evented.plegd).asked(at_most(0.05)).kubelet(kubelet::CPU_EVENTED),
        cpu("cpu_polling", "CPU, polling", polling.plegd).asked(at_most(0.16)).kubelet(kubelet::CPU_POLLING),
        memory("memory_evented", "evented", &evented.memory).kubelet(kubelet::MEMORY_EVENTED),
        memory("memory_polling", "polling", &polling.memory).kubelet(kubelet::MEMORY_POLLING),
        cpu("containerd_alone", "containerd's CPU alone", alone).kubelet(kubelet::CONTAINERD_ALONE),
        cpu("containerd_evented", "containerd's CPU beside evented", evented.containerd)
            .kubelet(kubelet::CONTAINERD_EVENTED),
        cpu("containerd_polling", "containerd's CPU beside polling", polling.containerd)
            .kubelet(kubelet::CONTAINERD_POLLING),
        Reading::new(
            "relist",
            format!("a relist, mean, {pods} pods"),
            Unit::Milliseconds,
            relists.mean_seconds() * 1e3,
        )
        .note(format!("two lists over CRI, compared; {} of them", relists.count)),
        Reading::new(
            "ready_median",
            format!("start → ready, median, {pods} pods"),
            Unit::Milliseconds,
            starts.median(),
        )
        .note(format!("of {}; longest {:.0} ms", starts.count(), starts.max())),
    ])
}

/// What both use while everything is at rest.
async fn used(daemon: &Daemon, containerd: u32, rest: Duration, what: &str) -> Result<Used> {
    sleep(SETTLE).await;
    let plegd = daemon.pid()?;
    let before = (Cpu::of(plegd)?, Cpu::of(containerd)?);
    progress::during(what, sleep(rest)).await;
    Ok(Used {
        plegd: Cpu::of(plegd)?.since(&before.0),
        containerd: Cpu::of(containerd)?.since(&before.1),
        memory: Memory::of(plegd)?,
    })
}

/// How often it has relisted, and how long that took.
struct Relists {
    count: f64,
    seconds: f64,
}

// === impl Relists ===

impl Relists {
    async fn of(daemon: &Daemon) -> Result<Self> {
        Ok(Self {
            count: daemon.metric("plegd_relist_duration_seconds_count").await?,
            seconds: daemon.metric("plegd_relist_duration_seconds_sum").await?,
        })
    }

    fn since(&self, earlier: &Relists) -> Relists {
        Relists { count: self.count - earlier.count, seconds: self.seconds - earlier.seconds }
    }

    fn mean_seconds(&self) -> f64 {
        self.seconds / self.count.max(1.0)
    }
}
