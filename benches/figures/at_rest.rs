//! The cost of plegd with many idle pods: its CPU and memory, and the CPU that it causes in containerd.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{
    Bench,
    daemon::{Daemon, Print, Stream},
    kubelet,
    node::Node,
    process::{Cpu, Memory},
    progress,
    report::{Distribution, Reading, Target, Unit},
};

/// Number of starts measured.
const STARTS: usize = 5;
/// Pause until the machine is idle.
const SETTLE: Duration = Duration::from_secs(5);
/// Probing doubles its period from 1 s to 60 s, which takes 2 min.
const PROBING: Duration = Duration::from_secs(300);

/// Interval of `crictl ps`, for comparison.
const PS_PERIOD: Duration = Duration::from_secs(1);

/// Usage at rest.
struct Used {
    plegd: Duration,
    containerd: Duration,
    memory: Memory,
    calls: Calls,
}

/// plegd's calls, by method.
struct Calls(BTreeMap<String, f64>);

pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Reading>> {
    let (clock, rest, full) = (bench.clock.clone(), bench.rest, bench.is_full_size());
    let (pods, seconds) = (bench.pods, rest.as_secs());
    let node = bench.node().await?;
    let (endpoint, containerd) = (node.containerd.endpoint(), node.containerd.pid()?);

    sleep(SETTLE).await;
    let before = Cpu::of(containerd)?;
    progress::during("measuring containerd alone", sleep(rest)).await;
    let alone = Cpu::of(containerd)?.since(&before);

    let before = Cpu::of(containerd)?;
    let looks = progress::during("measuring containerd with `crictl ps`", ps(node, rest)).await?;
    let beside_ps = Cpu::of(containerd)?.since(&before);

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let daemon = Daemon::start(&clock, &endpoint, Print::Nothing, Stream::On).await?;
        starts.push(daemon.ready().await?.as_secs_f64() * 1e3);
        daemon.stop().await?;
    }
    let starts = Distribution::of(starts).context("plegd was not started")?;

    let daemon = Daemon::start(&clock, &endpoint, Print::Nothing, Stream::On).await?;
    let evented = daemon.shows("plegd_mode{mode=\"evented\"}", 1.0, PROBING);
    progress::during("waiting for evented mode", evented).await?;
    let evented = used(&daemon, containerd, rest, "measuring plegd in evented mode").await?;
    daemon.stop().await?;

    let daemon = Daemon::start(&clock, &endpoint, Print::Nothing, Stream::Off).await?;
    daemon.ready().await?;
    let relists_before = Relists::of(&daemon).await?;
    let polling = used(&daemon, containerd, rest, "measuring plegd in polling mode").await?;
    let relists = Relists::of(&daemon).await?.since(&relists_before);
    daemon.stop().await?;

    let at_most = |most| if full { Target::AtMost(most) } else { Target::None };
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
        .target(at_most(10.0))
    };
    Ok(vec![
        cpu("cpu_evented", "CPU, evented", evented.plegd).target(at_most(0.02)).kubelet(kubelet::CPU_EVENTED),
        cpu("cpu_polling", "CPU, polling", polling.plegd).target(at_most(0.16)).kubelet(kubelet::CPU_POLLING),
        memory("memory_evented", "evented", &evented.memory).kubelet(kubelet::MEMORY_EVENTED),
        memory("memory_polling", "polling", &polling.memory).kubelet(kubelet::MEMORY_POLLING),
        cpu("containerd_alone", "containerd's CPU alone", alone).kubelet(kubelet::CONTAINERD_ALONE),
        cpu("containerd_evented", "containerd's CPU with evented plegd", evented.containerd)
            .kubelet(kubelet::CONTAINERD_EVENTED)
            .note(evented.calls.a_minute(rest)),
        cpu("containerd_polling", "containerd's CPU with polling plegd", polling.containerd)
            .kubelet(kubelet::CONTAINERD_POLLING)
            .note(polling.calls.a_minute(rest)),
        cpu("containerd_ps", "containerd's CPU with `crictl ps` every second", beside_ps).note(format!(
            "its two calls, Version and ListContainers, {looks} times, each on a new connection"
        )),
        Reading::new(
            "relist",
            format!("a relist, mean, {pods} pods"),
            Unit::Milliseconds,
            relists.mean_seconds() * 1e3,
        )
        .note(format!("two CRI lists, compared; {} of them", relists.count)),
        Reading::new(
            "ready_median",
            format!("start → ready, median, {pods} pods"),
            Unit::Milliseconds,
            starts.median(),
        )
        .note(format!("of {}; longest {:.0} ms", starts.count(), starts.max())),
    ])
}

/// Usage of both at rest.
async fn used(daemon: &Daemon, containerd: u32, rest: Duration, what: &str) -> Result<Used> {
    sleep(SETTLE).await;
    let plegd = daemon.pid()?;
    let calls = Calls::of(daemon).await?;
    let before = (Cpu::of(plegd)?, Cpu::of(containerd)?);
    progress::during(what, sleep(rest)).await;
    Ok(Used {
        plegd: Cpu::of(plegd)?.since(&before.0),
        containerd: Cpu::of(containerd)?.since(&before.1),
        memory: Memory::of(plegd)?,
        calls: Calls::of(daemon).await?.since(&calls),
    })
}

/// Repeats the calls of `crictl ps`; returns how often.
async fn ps(node: &Node, rest: Duration) -> Result<u64> {
    let looks = rest.as_secs() / PS_PERIOD.as_secs();
    let mut ticks = tokio::time::interval(PS_PERIOD);
    for _ in 0..looks {
        ticks.tick().await;
        let client = node.containerd.client()?;
        client.version().await?;
        client.list().await?;
    }
    ticks.tick().await;
    Ok(looks)
}

// === impl Calls ===

impl Calls {
    async fn of(daemon: &Daemon) -> Result<Self> {
        let mut calls = BTreeMap::<String, f64>::new();
        for line in daemon.get("/metrics").await?.lines() {
            let Some(labels) = line.strip_prefix("plegd_cri_requests_total{") else { continue };
            let (_, method) = labels.split_once("method=\"").context("no method")?;
            let (method, _) = method.split_once('"').context("an open label")?;
            let (_, count) = line.rsplit_once(' ').context("no value")?;
            *calls.entry(method.to_owned()).or_default() += count.parse::<f64>()?;
        }
        Ok(Self(calls))
    }

    fn since(&self, earlier: &Self) -> Self {
        let before = |method: &String| earlier.0.get(method).copied().unwrap_or_default();
        Self(self.0.iter().map(|(method, count)| (method.clone(), count - before(method))).collect())
    }

    fn a_minute(&self, rest: Duration) -> String {
        let minutes = rest.as_secs_f64() / 60.0;
        let calls = self.0.iter().filter(|(_, count)| **count > 0.0);
        let calls: Vec<_> = calls.map(|(method, count)| format!("{method} {:.0}", count / minutes)).collect();
        format!("calls per minute: {}", if calls.is_empty() { "none".into() } else { calls.join(", ") })
    }
}

/// Number and duration of relists.
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
