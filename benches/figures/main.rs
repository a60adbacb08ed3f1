//! The published figures, measured on a real containerd 2.x: `cargo bench --bench figures`, as root.
//!
//! | module | what it measures |
//! | --- | --- |
//! | `short_lives` | whether all events of many short-lived containers are published, also after a kill and restart of containerd |
//! | `latency` | from the event's timestamp by the runtime to a subscriber in the process |
//! | `at_rest` | CPU and memory with many idle pods, the load on containerd, and the time from start to ready |
//! | `calls` | the cost of each call for containerd |
//! | `stream_lost` | from the loss of the event stream to the next complete relist |
//! | `serving` | delivery to clients over the socket: throughput, latency, cost, and the effect of frozen clients |
//! | `../common/daemon`, `process` | `plegd run` as a child process, its events, and its resource usage |
//! | `kubelet` | the kubelet's values, for comparison |
//! | `../common/taking`, `report`, `progress` | measuring, the result table, JSON lines, and progress messages |
//! | `../common/unread` | answers as bytes |
//!
//! Exceeding a target is reported but does not fail the benchmark: the machine may be busy. A figure that could not
//! be measured does. All processes and files are removed at the end, also after an error or Ctrl-C.

mod at_rest;
mod calls;
mod kubelet;
mod latency;
mod node;
mod serving;
mod short_lives;
mod stream_lost;

#[path = "../../tests/binary/mod.rs"]
mod binary;
#[path = "../common/daemon.rs"]
mod daemon;
#[path = "../../tests/lab/mod.rs"]
mod lab;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/progress.rs"]
mod progress;
#[path = "../common/report.rs"]
mod report;
#[path = "../common/taking.rs"]
mod taking;
#[path = "../common/unread.rs"]
mod unread;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use futures::future::BoxFuture;
use plegd::clock::Clock;

use self::{
    node::Node,
    report::{Conditions, Reading},
    taking::take,
};

/// The size of the targets.
const PODS: usize = 250;
const CONTAINERS_PER_POD: usize = 2;
const REST_SECONDS: u64 = 60;

/// Measures plegd on a real containerd and compares the results with the targets.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench figures --", max_term_width = 100)]
struct Args {
    /// Figures to measure [default: all]
    #[arg(value_enum)]
    figures: Vec<Figure>,
    /// Print JSON lines instead of a table
    #[arg(long)]
    json: bool,
    /// Number of idle pods
    #[arg(long, value_name = "N", default_value_t = PODS)]
    pods: usize,
    /// Duration of the measurement at rest, in seconds
    #[arg(long, value_name = "N", default_value_t = REST_SECONDS)]
    seconds: u64,
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

/// A figure that can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// 44 containers of 0.3 s
    ShortLives,
    /// 33 more after containerd was killed and restarted
    Restart,
    /// From the event's timestamp to the subscriber
    Latency,
    /// CPU and memory with many idle pods
    AtRest,
    /// Cost of each call for containerd
    Calls,
    /// From the loss of the stream to a complete relist
    StreamLost,
    /// Delivery to clients over the socket
    Serving,
}

/// Shared parts of the figures.
struct Bench {
    clock: Clock,
    pods: usize,
    rest: Duration,
    /// Many idle pods, started for the first figure that needs them.
    node: Option<Node>,
    /// The version of containerd, once known.
    runtime_version: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        eprintln!("figures: nothing is measured without --bench; run `cargo bench --bench figures` as root");
        return ExitCode::SUCCESS;
    }
    taking::exit_code(run(&args))
}

/// Measures and prints; returns whether everything could be measured.
fn run(args: &Args) -> Result<bool> {
    let mut bench = Bench {
        clock: Clock::system(),
        pods: args.pods,
        rest: Duration::from_secs(args.seconds),
        node: None,
        runtime_version: None,
    };
    let taken = take(&args.figures, |_| true, async |figure: Figure| figure.measure(&mut bench).await)?;
    let runtime =
        bench.runtime_version.as_ref().map_or("no containerd".into(), |it| format!("containerd {it}"));
    taken.report.print(&Conditions::now(runtime, taken.load_before), kubelet::NOTE, args.json)?;
    // Removes all pods; needs no async runtime, and may block.
    drop(bench);
    Ok(taken.complete)
}

// === impl Figure ===

impl Figure {
    fn measure(self, bench: &mut Bench) -> BoxFuture<'_, Result<Vec<Reading>>> {
        match self {
            Figure::ShortLives => Box::pin(short_lives::undisturbed(bench)),
            Figure::Restart => Box::pin(short_lives::after_a_restart(bench)),
            Figure::Latency => Box::pin(latency::measure(bench)),
            Figure::AtRest => Box::pin(at_rest::measure(bench)),
            Figure::Calls => Box::pin(calls::measure(bench)),
            Figure::StreamLost => Box::pin(stream_lost::measure(bench)),
            Figure::Serving => Box::pin(serving::measure(bench)),
        }
    }
}

// === impl Bench ===

impl Bench {
    /// Whether the size is that of the targets.
    fn is_full_size(&self) -> bool {
        self.pods == PODS && self.rest == Duration::from_secs(REST_SECONDS)
    }

    /// An empty containerd.
    async fn containerd(&mut self) -> Result<lab::Containerd> {
        let containerd =
            progress::during("starting containerd", lab::Containerd::start(lab::Version::V2_1)).await?;
        self.runtime_version = Some(containerd.runtime_version().to_owned());
        Ok(containerd)
    }

    /// The containerd with many idle pods; always the same one.
    async fn node(&mut self) -> Result<&mut Node> {
        if self.node.is_none() {
            let containerd = self.containerd().await?;
            self.node = Some(Node::populate(containerd, self.pods, CONTAINERS_PER_POD).await?);
        }
        self.node.as_mut().context("the node was just created")
    }
}
