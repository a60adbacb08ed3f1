//! `plegd replay`: prints the events that plegd publishes for a scenario file.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stdout},
    path::PathBuf,
    time::Duration,
};

use super::{
    demo::report,
    scenario::{self, Watcher, play},
    watch::Output,
};
use crate::print::{Printer, Style};
use crate::{
    config::{EventTypes, Value},
    journal::Record,
    scenario::Step,
};

const EXAMPLES: &str = "\
Examples:
  plegd replay node.json
  plegd replay node.json -o json | jq -r .type | sort | uniq -c
  plegd replay node.json --real-time        with the recorded waits

The runtime is simulated. plegd runs in this process, with the arguments in the file. Time
is simulated: waits take no real time. The checks in the file are evaluated.

Exit codes: 0 all checks passed, 1 a check failed, 64 usage error.";

/// Wait for further events after the last step: twice the maximum relist period.
const SETTLE: Duration = Duration::from_secs(120);
/// The same in real time.
const SETTLE_REAL: Duration = Duration::from_secs(3);

/// Flags of `plegd replay`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Scenario file, such as one from plegd record
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Play the file in real time
    #[arg(long)]
    pub real_time: bool,
    /// Event types: started, died, removed, changed, sync, or all
    #[arg(long, value_name = "TYPES", default_value = "all", value_parser = <EventTypes as Value>::parse)]
    pub types: EventTypes,
    /// Output format: table or json [default: table on a terminal, else json]
    #[arg(long, short, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Output>,
}

struct Print {
    printer: Printer<BufWriter<Stdout>>,
    /// The error that ended printing.
    failed: Option<io::Error>,
}

/// Plays the file and prints the events.
///
/// # Errors
///
/// If the file cannot be played, or a check in it does not hold.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let scenario = scenario::read(&args.file)?;
    let style = match args.output {
        Some(Output::Json) => Style::Json,
        Some(Output::Table) => Style::table_for(&io::stdout()),
        None if io::stdout().is_terminal() => Style::table_for(&io::stdout()),
        None => Style::Json,
    };
    let mut printer = Printer::new(BufWriter::new(io::stdout()), style, args.types.clone());
    printer.begin()?;
    let mut print = Print { printer, failed: None };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(!args.real_time).build()?;
    let settle = if args.real_time { SETTLE_REAL } else { SETTLE };
    let outcome = runtime.block_on(play(scenario.clone(), settle, &mut print));
    if let Some(error) = print.failed {
        return Err(error.into());
    }
    print.printer.end()?;
    let outcome = outcome?;
    for note in &scenario.notes {
        eprintln!("plegd: {note}");
    }
    if scenario.checks() > 0 { report(&scenario, Some(&outcome.failures)) } else { Ok(()) }
}

// === impl Print ===

impl Watcher for Print {
    fn step(&mut self, _: &Step) {
        if self.failed.is_none() {
            // Printed events are flushed before a wait.
            self.failed = self.printer.flush().err();
        }
    }

    fn published(&mut self, event: &Record) {
        if self.failed.is_none() {
            self.failed = self.printer.print(event).err();
        }
    }
}
