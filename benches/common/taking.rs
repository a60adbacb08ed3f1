//! Measures figures one after the other, and continues after a failure.

use std::{fmt::Debug, process::ExitCode, thread::available_parallelism};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{
    progress,
    report::{self, Reading, Report},
};

/// The results.
pub(crate) struct Taken {
    pub(crate) report: Report,
    /// Whether everything could be measured.
    pub(crate) complete: bool,
    /// The machine's load before the first figure.
    pub(crate) load_before: String,
}

/// Measures the given figures, by default those that are `usual`, until Ctrl-C.
pub(crate) fn take<F: ValueEnum + Copy + Debug + PartialEq>(
    named: &[F],
    usual: impl Fn(F) -> bool,
    mut measure: impl AsyncFnMut(F) -> Result<Vec<Reading>>,
) -> Result<Taken> {
    // As many threads as the daemon.
    let threads = available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let wanted = |figure: &F| if named.is_empty() { usual(*figure) } else { named.contains(figure) };
    let load_before = report::load_average();
    let mut taken = Taken { report: Report::default(), complete: true, load_before };
    tokio.block_on(async {
        for figure in F::value_variants().iter().copied().filter(wanted) {
            progress::say(&format!("{figure:?} …"));
            let measured = tokio::select! {
                measured = measure(figure) => measured,
                interrupt = tokio::signal::ctrl_c() => {
                    interrupt?;
                    progress::say("interrupted; cleaning up");
                    taken.complete = false;
                    break;
                }
            };
            match measured.with_context(|| format!("{figure:?} could not be measured")) {
                Ok(readings) => taken.report.add(readings),
                Err(error) => {
                    taken.complete = false;
                    progress::say(&format!("{error:#}"));
                }
            }
        }
        anyhow::Ok(())
    })?;
    Ok(taken)
}

/// The exit code for a result of `run`: whether everything could be measured.
pub(crate) fn exit_code(run: Result<bool>) -> ExitCode {
    match run {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            progress::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
