//! Delivery to clients over the UNIX socket: throughput, latency, memory of an idle subscriber, and the effect of a
//! hundred frozen subscribers on nine hundred others.
//!
//! plegd runs in its own process. All figures but one use the simulated runtime, which runs in this process like the
//! subscribers: they share the machine's cores with plegd. The CPU time of plegd alone is in the notes. The latency
//! of one idle subscriber is measured with a real containerd.

mod crowd;
mod feed;
mod socket;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use plegd::{api::listen::raise_open_files, clock::Mono, model::Position, sim::Method};
use tokio::time::sleep;

use self::{
    crowd::{Crowd, From, Frozen},
    feed::{Feed, PODS},
};
use super::{
    Bench,
    process::{Cpu, Memory},
    progress,
    report::{Distribution, Reading, Target, Unit},
};

/// Numbers of subscribers, and of containers whose events they get, four each. The first fills the journal.
const CROWDS: [(usize, usize); 3] = [(1, 12_000), (100, 2_000), (1_000, 500)];
/// Maximum number of events to resume: the journal still holds them.
const BACK: u64 = 5_000;
const IDLE: usize = 1_000;
const READING: usize = 900;
const FROZEN: usize = 100;
const CONTAINERS: usize = 500;
/// Containers at a rate at which no subscriber falls behind.
const GENTLE_LIVES: usize = 40;
/// Pause until the machine is idle.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Reading>> {
    raise_open_files();
    let directory = tempfile::tempdir()?;
    let feed = Feed::start(&bench.clock, &directory.path().join("cri.sock")).await?;
    let mut readings = vec![feed.idle().await?];
    for (subscribers, containers) in CROWDS {
        readings.extend(feed.deliver(subscribers, containers).await?);
        if subscribers == 1 {
            let memory = Memory::of(feed.daemon().pid()?)?.resident as f64 / 1e6;
            readings.push(
                Reading::new(
                    "serving_journal_memory",
                    "resident memory, journal full",
                    Unit::Megabytes,
                    memory,
                )
                .note(format!("{PODS} pods, after {containers} containers within 1 to 2 s")),
            );
        }
    }
    readings.extend(feed.beside_the_frozen().await?);
    feed.stop().await?;
    readings.extend(socket::latency(bench).await?);
    Ok(readings)
}

/// CPU time of plegd, runtime calls, and the time.
type Before = (Cpu, BTreeMap<Method, u64>, Mono);

/// The deliveries to a group of subscribers, and their cost.
struct Delivery {
    events: u64,
    took: Duration,
    cpu: Duration,
    /// Runtime calls meanwhile, by method.
    calls: BTreeMap<Method, u64>,
}

// === impl Feed ===

impl Feed {
    /// Memory of plegd per idle subscriber.
    async fn idle(&self) -> Result<Reading> {
        let pid = self.daemon().pid()?;
        sleep(SETTLE).await;
        let before = Memory::of(pid)?;
        let what = format!("connecting {IDLE} subscribers");
        let crowd = progress::during(&what, self.crowd(IDLE, From::Now)).await?;
        sleep(SETTLE).await;
        let after = Memory::of(pid)?;
        crowd.leave().await;
        let each = after.resident.saturating_sub(before.resident) as f64 / IDLE as f64 / 1e3;
        Ok(Reading::new("serving_memory", "memory of an idle subscriber", Unit::Kilobytes, each)
            .target(Target::AtMost(40.0))
            .note(format!(
                "resident: {:.1} MB with {IDLE}, each on its own connection, {:.1} MB with none",
                after.resident as f64 / 1e6,
                before.resident as f64 / 1e6
            )))
    }

    /// Total deliveries per second to this many subscribers: live, and resumed from the journal.
    async fn deliver(&self, subscribers: usize, containers: usize) -> Result<[Reading; 2]> {
        let crowd = self.crowd(subscribers, From::Now).await?;
        let before = self.head().await?;
        let what = format!("delivering the events of {containers} containers to {subscribers} subscribers");
        let live = progress::during(&what, self.burst(&crowd, containers)).await?;
        crowd.leave().await;
        let after = self.head().await?;

        let connected = Crowd::connect(&self.daemon().socket(), subscribers).await?;
        let events = BACK.min(after.sequence - before.sequence);
        let back = Position { sequence: after.sequence - events, ..after };
        let (cpu, calls, begun) = self.before()?;
        let crowd = connected.watch(From::After(back), &self.clock).await?;
        let what = format!("resuming {subscribers} subscribers {events} events back");
        progress::during(&what, crowd.until_told(events)).await?;
        let resumed = self.since(&crowd, events, (cpu, calls, begun))?;
        crowd.leave().await;

        let [live_key, resumed_key] = match subscribers {
            1 => ["serving_live_1", "serving_resumed_1"],
            100 => ["serving_live_100", "serving_resumed_100"],
            _ => ["serving_live_1000", "serving_resumed_1000"],
        };
        let receivers =
            if subscribers == 1 { "1 subscriber".into() } else { format!("{subscribers} subscribers") };
        Ok([
            Reading::new(live_key, format!("deliveries to {receivers}, live"), Unit::PerSecond, live.rate())
                .note(live.note(subscribers)),
            Reading::new(
                resumed_key,
                format!("deliveries to {receivers}, resumed"),
                Unit::PerSecond,
                resumed.rate(),
            )
            .note(resumed.note(subscribers)),
        ])
    }

    /// Deliveries to reading subscribers and their latency, with and without frozen subscribers.
    async fn beside_the_frozen(&self) -> Result<Vec<Reading>> {
        let pid = self.daemon().pid()?;
        let crowd = self.crowd(READING, From::Now).await?;
        let what = format!("delivering the events of {CONTAINERS} containers to {READING} subscribers");
        // A warm-up, after which buffers have their final size.
        progress::during(&what, self.burst(&crowd, CONTAINERS)).await?;
        let without = progress::during(&what, self.burst(&crowd, CONTAINERS)).await?;
        let gentle_without = progress::during("the same at a low rate", self.gently(&crowd)).await?;

        let frozen = Frozen::connect(&self.daemon().socket(), FROZEN).await?;
        let memory_before = Memory::of(pid)?;
        let what = format!("{what}, with {FROZEN} frozen ones");
        let beside = progress::during(&what, self.burst(&crowd, CONTAINERS)).await?;
        let gentle_beside = progress::during("the same at a low rate", self.gently(&crowd)).await?;
        let memory = Memory::of(pid)?;
        frozen.leave().await?;
        crowd.leave().await;

        let grown = memory.resident as f64 - memory_before.resident as f64;
        let latency = |key, what: &str, without: f64, beside: f64| {
            let what = format!("detected → received by {READING} with {FROZEN} frozen: {what}");
            Reading::new(key, what, Unit::Milliseconds, beside * 1e3)
                .note(format!("{:.2} ms without them", without * 1e3))
        };
        Ok(vec![
            Reading::new(
                "serving_frozen_rate",
                format!("deliveries to {READING}, with {FROZEN} frozen"),
                Unit::PerSecond,
                beside.rate(),
            )
            .note(format!(
                "{}; without them {:.0} /s, {:.2} s of CPU",
                beside.note(READING),
                without.rate(),
                without.cpu.as_secs_f64()
            )),
            latency(
                "serving_frozen_latency_median",
                "median",
                gentle_without.median(),
                gentle_beside.median(),
            ),
            latency(
                "serving_frozen_latency_p99",
                "99th percentile",
                gentle_without.quantile(0.99),
                gentle_beside.quantile(0.99),
            ),
            Reading::new(
                "serving_frozen_calls",
                format!("runtime calls, with {FROZEN} frozen"),
                Unit::Count,
                beside.calls.values().sum::<u64>() as f64,
            )
            .note(format!(
                "{:?} in {:.1} s; without them {:?} in {:.1} s",
                beside.calls,
                beside.took.as_secs_f64(),
                without.calls,
                without.took.as_secs_f64()
            )),
            Reading::new(
                "serving_frozen_memory",
                format!("memory growth of plegd, with {FROZEN} frozen"),
                Unit::Megabytes,
                grown / 1e6,
            )
            .note(format!("{:.1} MB before", memory_before.resident as f64 / 1e6)),
        ])
    }

    /// Runs containers as fast as events can be delivered, until all subscribers have them.
    async fn burst(&self, crowd: &Crowd, containers: usize) -> Result<Delivery> {
        let head = self.head().await?.sequence;
        crowd.forget();
        self.rest().await;
        let before = self.before()?;
        let events = self.live(containers, Duration::ZERO).await? - head;
        crowd.until_told(events).await?;
        self.since(crowd, events, before)
    }

    /// Latencies from detection by plegd to each subscriber, in seconds.
    async fn gently(&self, crowd: &Crowd) -> Result<Distribution> {
        let head = self.head().await?.sequence;
        crowd.forget();
        crowd.time(true);
        let events = self.live(GENTLE_LIVES, Duration::from_millis(60)).await? - head;
        crowd.until_told(events).await?;
        crowd.time(false);
        Distribution::of(crowd.latencies()).context("nothing was received")
    }

    /// Waits until plegd has finished its pending reads.
    async fn rest(&self) {
        loop {
            let calls = self.calls();
            sleep(Duration::from_millis(300)).await;
            if self.calls() == calls {
                return;
            }
        }
    }

    fn before(&self) -> Result<Before> {
        Ok((Cpu::of(self.daemon().pid()?)?, self.calls(), self.clock.now()))
    }

    fn since(&self, crowd: &Crowd, events: u64, before: Before) -> Result<Delivery> {
        let (cpu, calls, begun) = before;
        Ok(Delivery {
            events: events * crowd.size() as u64,
            took: crowd.last_told_at().since(begun),
            cpu: Cpu::of(self.daemon().pid()?)?.since(&cpu),
            calls: self
                .calls()
                .into_iter()
                .map(|(method, count)| (method, count - calls.get(&method).unwrap_or(&0)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        })
    }

    async fn crowd(&self, size: usize, from: From) -> Result<Crowd> {
        Crowd::connect(&self.daemon().socket(), size).await?.watch(from, &self.clock).await
    }
}

// === impl Delivery ===

impl Delivery {
    fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    fn note(&self, subscribers: usize) -> String {
        let cpu = self.cpu.as_secs_f64();
        format!(
            "{} each in {:.2} s; plegd used {cpu:.2} s of CPU, {:.1} µs per delivery",
            self.events / subscribers as u64,
            self.took.as_secs_f64(),
            cpu * 1e6 / self.events as f64
        )
    }
}
