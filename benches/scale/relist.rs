//! CPU of a relist, compared with decoding the same lists in full, and memory.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    Bench,
    daemon::{Daemon, Print, Stream},
    full::Raw,
    gate::{Gate, VARIABLES},
    node::{Lists, Node, Weight},
    process::Memory,
    progress,
    report::{Distribution, Reading, Target, Unit},
};

pub(crate) const CONTAINERS: usize = 3;
/// Relists before the measurement, after which buffers have their final size.
const WARM_UP: usize = 3;
const UNCHANGED: usize = 25;
/// Shares of pods that change between two relists, and the number of relists measured for each.
const CHANGED: [(&str, f64, usize); 3] = [("1 %", 0.01, 7), ("10 %", 0.1, 5), ("100 %", 1.0, 3)];
/// The node size of the targets.
const LARGE: usize = 10_000;
const FLOOR_ROUNDS: usize = 9;

/// The cost of an unchanged relist.
pub(crate) struct Unchanged {
    pub(crate) cpu: Distribution,
    /// CPU of decoding in full, without and with freeing the memory.
    pub(crate) floor: Distribution,
    pub(crate) dropped: Distribution,
    pub(crate) bytes: usize,
    pub(crate) memory: Memory,
}

/// A plegd that polls a node, behind the gate.
pub(crate) struct Polled {
    node: Node,
    daemon: Daemon,
    gate: Gate,
    raw: Raw,
    /// Time from start to ready, with one list.
    ready: Duration,
}

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for lists in [Lists::Unary, Lists::Streamed] {
        for &pods in &bench.pods {
            // Streamed or not matters most for memory: one small and one large node show it.
            if lists == Lists::Streamed && pods != 1_000 && pods < LARGE {
                continue;
            }
            let what = format!("relisting {pods} pods, {} lists", lists.word());
            match progress::during(&what, of_size(bench, lists, pods)).await {
                Ok(measured) => {
                    measured.iter().for_each(|reading| progress::say(&reading.line()));
                    readings.extend(measured);
                }
                // Results for other sizes are kept.
                Err(error) => readings.push(
                    Reading::new(
                        format!("relist_{}_{pods}_failed", lists.word()),
                        format!("not measured: {pods} × {CONTAINERS}, {}", lists.word()),
                        Unit::Count,
                        1.0,
                    )
                    .target(Target::AtMost(0.0))
                    .note(format!("{error:#}").lines().next().unwrap_or_default()),
                ),
            }
        }
    }
    Ok(readings)
}

async fn of_size(bench: &Bench, lists: Lists, pods: usize) -> Result<Vec<Reading>> {
    let mut polled = Polled::start(bench, lists, pods).await?;
    let unchanged = polled.unchanged(UNCHANGED).await?;
    let beside = unchanged.cpu.median();
    let mut readings = unchanged.readings(lists, pods);
    readings.push(
        Reading::new(
            format!("relist_{}_{pods}_ready", lists.word()),
            format!("start → ready, {pods} × {CONTAINERS}, {}", lists.word()),
            Unit::Milliseconds,
            polled.ready.as_secs_f64() * 1e3,
        )
        .note("once, with one relist: everything is new, so every status is read"),
    );
    for (name, part, rounds) in CHANGED {
        let changed = ((pods as f64 * part) as usize).max(1);
        let what = format!("relisting {pods} pods, {name} of them changed");
        let cpu = progress::during(&what, polled.changed(changed, rounds)).await?;
        let each = (cpu.median() - beside) * 1e6 / changed as f64;
        readings.push(
            Reading::new(
                format!("relist_{}_{pods}_changed_{}", lists.word(), name.trim_end_matches(" %")),
                format!("CPU of a relist, {pods} × {CONTAINERS}, {}, {name} of pods changed", lists.word()),
                Unit::Milliseconds,
                cpu.median() * 1e3,
            )
            .note(format!("median of {rounds}; {each:.0} µs more per changed pod: a container removed, one new, read and published")),
        );
    }
    let memory = Memory::of(polled.daemon.pid()?)?;
    readings.push(
        Reading::new(
            format!("relist_{}_{pods}_memory_after", lists.word()),
            format!("resident after all of that, {pods} × {CONTAINERS}, {}", lists.word()),
            Unit::Megabytes,
            memory.resident as f64 / 1e6,
        )
        .note(format!("{:.1} MB at its peak; the journal has filled meanwhile", memory.peak as f64 / 1e6)),
    );
    polled.stop().await?;
    Ok(readings)
}

// === impl Polled ===

impl Polled {
    pub(crate) async fn start(bench: &Bench, lists: Lists, pods: usize) -> Result<Self> {
        let node = Node::start(&bench.clock, lists, Weight::Real, pods, CONTAINERS)?;
        node.silence();
        // The reference, measured in the same minute with the same bytes.
        let raw = Raw::fetch(&node, lists).await?;
        let listed = node.calls(lists.methods()[1]);
        let daemon =
            Daemon::configured(&bench.clock, &node.endpoint(), Print::Nothing, Stream::Off, VARIABLES)
                .await?;
        let (gate, ready) = Gate::close(&node, lists, &daemon, listed).await?;
        Ok(Self { node, daemon, gate, raw, ready })
    }

    pub(crate) async fn unchanged(&self, rounds: usize) -> Result<Unchanged> {
        self.gate.relists(&self.node, WARM_UP).await?;
        let cpu = self.gate.relists(&self.node, rounds).await?;
        let memory = Memory::of(self.daemon.pid()?)?;
        let floors = (0..FLOOR_ROUNDS).map(|_| self.raw.decode()).collect::<Result<Vec<_>>>()?;
        let of = |seconds: Vec<f64>| Distribution::of(seconds).context("nothing was measured");
        Ok(Unchanged {
            cpu: of(cpu)?,
            floor: of(floors.iter().map(|floor| floor.decoded.as_secs_f64()).collect())?,
            dropped: of(floors.iter().map(|floor| floor.dropped.as_secs_f64()).collect())?,
            bytes: self.raw.bytes(),
            memory,
        })
    }

    async fn changed(&mut self, changed: usize, rounds: usize) -> Result<Distribution> {
        let mut seconds = Vec::new();
        for _ in 0..rounds {
            self.node.replace(changed)?;
            seconds.push(self.gate.relist(&self.node).await?.as_secs_f64());
        }
        Distribution::of(seconds).context("nothing was measured")
    }

    pub(crate) async fn stop(self) -> Result<()> {
        // A blocked call would delay the shutdown.
        self.node.sim.faults().clear();
        self.daemon.stop().await
    }
}

// === impl Unchanged ===

impl Unchanged {
    fn readings(&self, lists: Lists, pods: usize) -> Vec<Reading> {
        let lists = lists.word();
        let size = format!("{pods} × {CONTAINERS}, {lists}");
        let objects = (pods * (1 + CONTAINERS)) as f64;
        let ratio = self.cpu.median() / self.floor.median();
        let at_size = |least: usize, target| if pods >= least { target } else { Target::None };
        let memory = self.memory.resident as f64 / 1e6;
        vec![
            Reading::new(
                format!("relist_{lists}_{pods}_unchanged"),
                format!("CPU of a relist, {size}, unchanged"),
                Unit::Milliseconds,
                self.cpu.median() * 1e3,
            )
            .target(at_size(LARGE, Target::AtMost(250.0)))
            .note(format!(
                "median of {}, longest {:.2} ms; {:.2} µs per object; lists of {:.1} MB",
                self.cpu.count(),
                self.cpu.max() * 1e3,
                self.cpu.median() * 1e6 / objects,
                self.bytes as f64 / 1e6
            )),
            Reading::new(
                format!("relist_{lists}_{pods}_ratio"),
                format!("ratio to decoding in full, {size}"),
                Unit::Times,
                ratio,
            )
            .target(at_size(1_000, Target::AtMost(1.3)))
            .note(format!(
                "prost decodes them in {:.2} ms, {:.2} ms including freeing the memory",
                self.floor.median() * 1e3,
                self.dropped.median() * 1e3
            )),
            Reading::new(
                format!("relist_{lists}_{pods}_memory"),
                format!("resident memory, {size}"),
                Unit::Megabytes,
                memory,
            )
            .target(at_size(LARGE, Target::AtMost(150.0)))
            .note(format!(
                "{:.1} MB of it heap and stacks, {:.1} MB at its peak; {:.2} kB per pod",
                self.memory.anonymous as f64 / 1e6,
                self.memory.peak as f64 / 1e6,
                self.memory.resident as f64 / 1e3 / pods as f64
            )),
        ]
    }
}
