//! How plegd's cost grows: `cargo bench --bench scale`. The simulated runtime runs in this process and serves a UNIX
//! socket; the shipped
//! `plegd run` runs in its own process.
//!
//! | module | what it measures |
//! | --- | --- |
//! | `relist` | CPU of a relist and memory by pods and changes, compared with decoding the same lists |
//! | `storm` | 500 pods change at once without a usable event: time to the first and last published event |
//! | `start` | start → ready, and runtime available again → all changes published |
//! | `state` | cost of the state on disk at rest, and restarts with it |
//! | `idle` | CPU, memory and wake-ups with idle pods |
//! | `growth` | cost by pods, event rate and subscribers, and cost per unit |
//! | `emission`, `subscribers` | events at a given rate, and their subscribers |
//! | `profile` | nothing: plegd relists for a minute, for a profiler |
//! | `node` | the simulated node, with list items as large as real ones |
//! | `gate` | one relist at a time |
//! | `full` | CRI's list items with all fields, and the cost of decoding them |
//! | `../common` | the daemon as a child process, its resource usage, the result table, progress messages |
//!
//! Exceeding a target is reported but does not fail the benchmark: the machine may be busy. A figure that could not
//! be measured does.

mod emission;
mod full;
mod gate;
mod growth;
mod idle;
mod node;
mod profile;
mod relist;
mod start;
mod state;
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

/// The node size of the targets.
const PODS: usize = 250;
const CONTAINERS_PER_POD: usize = 2;

/// Measures how plegd's cost grows and compares the results with the targets.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench scale --", max_term_width = 100)]
struct Args {
    /// Figures to measure [default: all]
    #[arg(value_enum)]
    figures: Vec<Figure>,
    /// Print JSON lines instead of a table
    #[arg(long)]
    json: bool,
    /// Numbers of pods, for figures by size
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [100, 1_000, 5_000, 10_000])]
    pods: Vec<usize>,
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

/// A figure that can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// CPU and memory of a relist by size
    Relist,
    /// 500 pods that change at once
    Storm,
    /// Start of the process to ready
    Start,
    /// Runtime available again to all changes published
    Restart,
    /// Cost of the state on disk at rest, and restarts with it
    State,
    /// CPU, memory and wake-ups with idle pods
    Idle,
    /// Cost by pods, event rate and subscribers
    Growth,
    /// Cost by subscribers only, a part of growth
    FanOut,
    /// Relists of the first size for a minute, for a profiler; not part of the default
    Profile,
}

/// Shared parts of the figures.
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

/// Measures and prints; returns whether everything could be measured.
fn run(args: &Args) -> Result<bool> {
    let bench = Bench { clock: Clock::system(), pods: args.pods.clone() };
    let taken = take(&args.figures, Figure::is_usual, async |figure: Figure| figure.measure(&bench).await)?;
    taken.report.print(&Conditions::now("the simulated runtime".into(), taken.load_before), "", args.json)?;
    Ok(taken.complete)
}

// === impl Figure ===

impl Figure {
    /// Whether it is measured by default. Growth includes the fan-out.
    fn is_usual(self) -> bool {
        !matches!(self, Self::FanOut | Self::Profile)
    }

    fn measure(self, bench: &Bench) -> BoxFuture<'_, Result<Vec<Reading>>> {
        match self {
            Figure::Relist => Box::pin(relist::measure(bench)),
            Figure::Storm => Box::pin(storm::measure(bench)),
            Figure::Start => Box::pin(start::start(bench)),
            Figure::Restart => Box::pin(start::restart(bench)),
            Figure::State => Box::pin(state::measure(bench)),
            Figure::Idle => Box::pin(idle::measure(bench)),
            Figure::Growth => Box::pin(growth::measure(bench)),
            Figure::FanOut => Box::pin(subscribers::measure(bench)),
            Figure::Profile => Box::pin(profile::hold(bench)),
        }
    }
}
