//! A flood of events: `cargo bench --bench flood`. A separate program because of its allocator: in the simulated
//! runtime, one thread allocates what another frees, which is slow with glibc, and emitting events should use little
//! of the two cores.

mod flood;

#[path = "../../tests/binary/mod.rs"]
mod binary;
#[path = "../common/daemon.rs"]
mod daemon;
#[path = "../scale/emission.rs"]
mod emission;
#[allow(dead_code, reason = "it uses a part")]
#[path = "../scale/node.rs"]
mod node;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/progress.rs"]
mod progress;
#[path = "../common/report.rs"]
mod report;
#[path = "../common/taking.rs"]
mod taking;
#[allow(unreachable_pub, reason = "the tests' own")]
#[path = "../../tests/support/truth.rs"]
mod truth;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use plegd::clock::Clock;

use self::{report::Conditions, taking::take};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Floods plegd with events and compares the results with the targets.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench flood --", max_term_width = 100)]
struct Args {
    /// Figures to measure [default: flood]
    #[arg(value_enum)]
    figures: Vec<Figure>,
    /// Print JSON lines instead of a table
    #[arg(long)]
    json: bool,
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// One flood
    Flood,
    /// CPU of an event with and without state on disk, ten floods
    State,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        eprintln!("flood: nothing is measured without --bench; run `cargo bench --bench flood`");
        return ExitCode::SUCCESS;
    }
    taking::exit_code(run(&args))
}

/// Measures and prints; returns whether everything could be measured.
fn run(args: &Args) -> Result<bool> {
    let clock = Clock::system();
    let taken = take(&args.figures, Figure::is_usual, async |figure: Figure| match figure {
        Figure::Flood => flood::measure(&clock).await,
        Figure::State => flood::compare_state(&clock).await,
    })?;
    taken.report.print(&Conditions::now("the simulated runtime".into(), taken.load_before), "", args.json)?;
    Ok(taken.complete)
}

// === impl Figure ===

impl Figure {
    fn is_usual(self) -> bool {
        self == Self::Flood
    }
}
