//! How plegd's cost grows: `cargo bench --bench scale`. On the simulated runtime, which this process serves over a UNIX
//! socket, with `plegd run` as it is shipped in a process of its own.
//!
//! | room | what it measures |
//! | --- | --- |
//! | `relist` | CPU of a relist and memory by pods and changes, beside what decoding the same lists takes |
//! | `flood` | 50,000 events a second: whether the runtime waits, whether memory is bounded, whether the cache is the truth |
//! | `storm` | 500 pods that change at once, unseen by the stream: until the first and until all are told |
//! | `start` | start → ready, and the runtime back → all told |
//! | `idle` | CPU, memory and wake-ups beside pods that do nothing |
//! | `growth` | cost against pods, against event rate and against subscribers, with the cost of one |
//! | `node` | the simulated node, its lists as heavy as real ones |
//! | `gate` | one relist at a time |
//! | `full` | CRI's list items with every field, and the floor |
//! | `../common` | the daemon as a child process, what it uses, the table, what is said meanwhile |
//!
//! A figure that is above what is asked for is told and is no failure: the machine may be busy. One that could not be
//! measured is a failure.

mod full;
mod gate;
mod node;
mod relist;

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

use std::{process::ExitCode, thread::available_parallelism};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use futures::future::BoxFuture;
use plegd::clock::Clock;

use self::report::{Conditions, Reading, Report};

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
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints; says whether all could be measured.
fn run(args: &Args) -> Result<bool> {
    let threads = available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let bench = Bench { clock: Clock::system(), pods: args.pods.clone() };
    let load_before = report::load_average();
    let wanted: Vec<Figure> = match &args.figures[..] {
        [] => Figure::value_variants().to_vec(),
        named => Figure::value_variants().iter().copied().filter(|figure| named.contains(figure)).collect(),
    };
    let mut report = Report::default();
    let complete = tokio.block_on(async {
        let mut complete = true;
        for figure in wanted {
            progress::say(&format!("{figure:?} …"));
            let measured = tokio::select! {
                measured = figure.measure(&bench) => measured,
                interrupt = tokio::signal::ctrl_c() => {
                    interrupt?;
                    progress::say("interrupted");
                    return Ok(false);
                }
            };
            match measured.with_context(|| format!("{figure:?} could not be measured")) {
                Ok(readings) => report.add(readings),
                Err(error) => {
                    complete = false;
                    eprintln!("scale: {error:#}");
                }
            }
        }
        anyhow::Ok(complete)
    })?;
    report.print(&Conditions::now("the simulated runtime".into(), load_before), "", args.json)?;
    Ok(complete)
}

// === impl Figure ===

impl Figure {
    fn measure(self, bench: &Bench) -> BoxFuture<'_, Result<Vec<Reading>>> {
        match self {
            Figure::Relist => Box::pin(relist::measure(bench)),
        }
    }
}
