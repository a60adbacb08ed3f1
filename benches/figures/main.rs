//! The figures of docs/performance.md, each measured on a real containerd 2.x: `cargo bench --bench figures`, as root.
//!
//! | room | what it measures |
//! | --- | --- |
//! | `short_lives` | whether all of many short containers is told, also after containerd was killed and restarted |
//! | `latency` | from the runtime's stamp of an event to a subscriber in the process |
//! | `at_rest` | CPU and memory beside many pods that do nothing, what that makes containerd use, and the time from start to ready |
//! | `calls` | what each call costs containerd |
//! | `stream_lost` | from the loss of the event stream to the next complete relist |
//! | `serving` | what clients get over the socket: how much, how soon, at what cost, and with some of them frozen |
//! | `../common/daemon`, `process` | `plegd run` as a child process, what it tells, and what it uses |
//! | `kubelet` | the kubelet's figures, to compare with |
//! | `../common/taking`, `report`, `progress` | one figure after the other, the table, the JSON lines, and what is said meanwhile |
//! | `../common/unread` | answers as the bytes they came as |
//!
//! A figure that is above what is asked for is told and is no failure: the machine may be busy. One that could not be
//! measured is a failure. Everything that is brought up is gone at the end, also after an error or Ctrl-C.

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

/// The size for which the figures are asked.
const PODS: usize = 250;
const CONTAINERS_PER_POD: usize = 2;
const REST_SECONDS: u64 = 60;

/// Measures plegd on a real containerd and prints what came out beside what is asked for.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench figures --", max_term_width = 100)]
struct Args {
    /// Which figures; all if none is named
    #[arg(value_enum)]
    figures: Vec<Figure>,
    /// One JSON object a line instead of the table
    #[arg(long)]
    json: bool,
    /// How many pods, where many are at rest
    #[arg(long, value_name = "N", default_value_t = PODS)]
    pods: usize,
    /// How many seconds are measured while they are at rest
    #[arg(long, value_name = "N", default_value_t = REST_SECONDS)]
    seconds: u64,
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// 44 containers of 0.3 s
    ShortLives,
    /// 33 more after containerd was killed and restarted
    Restart,
    /// From the runtime's stamp to the subscriber
    Latency,
    /// CPU and memory beside many pods
    AtRest,
    /// What each call costs containerd
    Calls,
    /// From the loss of the stream to a complete relist
    StreamLost,
    /// What clients get over the socket
    Serving,
}

/// What the figures share.
struct Bench {
    clock: Clock,
    pods: usize,
    rest: Duration,
    /// Many pods at rest, brought up for the first figure that wants them.
    node: Option<Node>,
    /// The version of containerd, once there was one.
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

/// Measures and prints; says whether all could be measured.
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
    /// Whether the size is the one for which the figures are asked.
    fn is_full_size(&self) -> bool {
        self.pods == PODS && self.rest == Duration::from_secs(REST_SECONDS)
    }

    /// A containerd with nothing on it.
    async fn containerd(&mut self) -> Result<lab::Containerd> {
        let containerd =
            progress::during("bringing up containerd", lab::Containerd::start(lab::Version::V2_1)).await?;
        self.runtime_version = Some(containerd.runtime_version().to_owned());
        Ok(containerd)
    }

    /// A containerd with many pods at rest, always the same one.
    async fn node(&mut self) -> Result<&mut Node> {
        if self.node.is_none() {
            let containerd = self.containerd().await?;
            self.node = Some(Node::populate(containerd, self.pods, CONTAINERS_PER_POD).await?);
        }
        self.node.as_mut().context("the node was just made")
    }
}
