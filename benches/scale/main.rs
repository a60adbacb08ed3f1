//! How plegd's cost grows: `cargo bench --bench scale`. On the simulated runtime, which this process serves over a UNIX
//! socket, with `plegd run` as it is shipped in a process of its own.
//!
//! | room | what it measures |
//! | --- | --- |
//! | `relist` | CPU of a relist and memory by pods and changes, beside what decoding the same lists takes |
//! | `storm` | 500 pods that change at once, unseen by the stream: until the first and until all are told |
//! | `start` | start → ready, and the runtime back → all told |
//! | `idle` | CPU, memory and wake-ups beside pods that do nothing |
//! | `growth` | cost against pods, against event rate and against subscribers, with the cost of one |
//! | `emission`, `subscribers` | events at a rate, and those who are told them |
//! | `profile` | nothing: it lets plegd relist for a minute, for a profiler |
//! | `node` | the simulated node, its lists as heavy as real ones |
//! | `gate` | one relist at a time |
//! | `full` | CRI's list items with every field, and the floor |
//! | `../common` | the daemon as a child process, what it uses, one figure after the other, the table, what is said meanwhile |
//!
//! A figure that is above what is asked for is told and is no failure: the machine may be busy. One that could not be
//! measured is a failure.

mod emission;
mod full;
mod gate;
mod growth;
mod idle;
mod node;
mod profile;
mod relist;
mod start;
mod storm;
mod subscribers;

#[path = "../../tests/binary/mod.rs"]
mod binary;
#[path = "../common/daemon.rs"]
mod daemon;
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

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use futures::future::BoxFuture;
use plegd::clock::Clock;

use self::{
    report::{Conditions, Reading},
    taking::take,
};

/// The size of a node for which figures of one size are asked.
const PODS: usize = 250;
const CONTAINERS_PER_POD: usize = 2;

/// Measures how plegd's cost grows and prints what came out beside what is asked for.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench scale --", max_term_width = 100)]
struct Args {
    /// Which figures; all if none is named
    #[arg(value_enum)]
    figures: Vec<Figure>,
    /// One JSON object a line instead of the table
    #[arg(long)]
    json: bool,
    /// How many pods, where the figure is one of size
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [100, 1_000, 5_000, 10_000])]
    pods: Vec<usize>,
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// CPU and memory of a relist by size
    Relist,
    /// 500 pods that change at once
    Storm,
    /// Start of the process to ready
    Start,
    /// The runtime back to all told
    Restart,
    /// CPU, memory and wake-ups beside pods at rest
    Idle,
    /// Cost against pods, event rate and subscribers
    Growth,
    /// Of growth, that against subscribers alone
    FanOut,
    /// The first size, unchanged and relisted for a minute, for a profiler; only if it is named
    Profile,
}

/// What the figures share.
struct Bench {
    clock: Clock,
    pods: Vec<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        eprintln!("scale: nothing is measured without --bench; run `cargo bench --bench scale`");
        return ExitCode::SUCCESS;
    }
    taking::exit_code(run(&args))
}

/// Measures and prints; says whether all could be measured.
fn run(args: &Args) -> Result<bool> {
    let bench = Bench { clock: Clock::system(), pods: args.pods.clone() };
    let taken = take(&args.figures, Figure::is_usual, async |figure: Figure| figure.measure(&bench).await)?;
    taken.report.print(&Conditions::now("the simulated runtime".into(), taken.load_before), "", args.json)?;
    Ok(taken.complete)
}

// === impl Figure ===

impl Figure {
    /// Whether it is measured if none is named. Growth has the fan-out already.
    fn is_usual(self) -> bool {
        !matches!(self, Self::FanOut | Self::Profile)
    }

    fn measure(self, bench: &Bench) -> BoxFuture<'_, Result<Vec<Reading>>> {
        match self {
            Figure::Relist => Box::pin(relist::measure(bench)),
            Figure::Storm => Box::pin(storm::measure(bench)),
            Figure::Start => Box::pin(start::start(bench)),
            Figure::Restart => Box::pin(start::restart(bench)),
            Figure::Idle => Box::pin(idle::measure(bench)),
            Figure::Growth => Box::pin(growth::measure(bench)),
            Figure::FanOut => Box::pin(subscribers::measure(bench)),
            Figure::Profile => Box::pin(profile::hold(bench)),
        }
    }
}
