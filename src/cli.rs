//! The command line: the verbs of `plegd` and their exit codes.
//!
//! Parses, loads the configuration, sets up the log and calls a verb. Has no logic of the daemon.
//!
//! | exit code | when |
//! | --- | --- |
//! | 0 | success |
//! | 1 | the start failed, plegd had to give up, or an object or a condition was not found |
//! | 64 | wrong usage or configuration (`EX_USAGE`) |

pub mod check;
pub mod completions;
pub mod config;
pub mod connection;
#[cfg(feature = "sim")]
pub mod demo;
pub mod get;
#[cfg(feature = "sim")]
mod inline;
mod introspect;
pub mod log_level;
pub mod man;
#[cfg(feature = "sim")]
pub mod record;
#[cfg(feature = "sim")]
pub mod replay;
pub mod run;
#[cfg(feature = "sim")]
pub mod scenario;
pub mod status;
pub mod subscribers;
mod target;
pub mod top;
mod version;
pub mod wait;
pub mod watch;

use std::{
    borrow::Cow,
    ffi::OsString,
    future::Future,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use tokio::runtime::Builder;

use crate::{
    config::{ConfigError, load},
    daemon::{drive, log, reload::FileWatch},
    printable::{visible, visible_lines},
};

/// Wrong usage or configuration.
const USAGE: u8 = 64;

const EXAMPLES: &str = "\
Examples:
  plegd demo                        see it at work on a simulated runtime, without touching anything
  plegd check                       find this node's runtime and say what to expect of it
  plegd run --print table           follow the runtime and show what its pods do
  plegd run --print json | jq .     the same for programs

Where plegd runs, for whoever may open its socket:
  plegd status                      how it does, and what needs attention
  plegd watch                       what pods do, from now on
  plegd get pods -o wide            what there is
  plegd wait --for exited batch/job --timeout 10m

Settings come from defaults, then /etc/plegd/plegd.toml, then PLEGD_* variables, then flags.
Exit codes: 0 clean end, 1 could not start or found nothing, 64 wrong usage or configuration.";

/// Pod lifecycle events of a Kubernetes node: follows the container runtime by its event stream and by relists at once,
/// settles what both say, and tells every change exactly once.
#[derive(Debug, Parser)]
#[command(name = "plegd", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `plegd` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the runtime of this node. Only reads: nothing is ever created, stopped or removed.
    Run(run::Args),
    /// See it at work: a simulated runtime in this process, pods that come and go, and the real daemon on it.
    #[cfg(feature = "sim")]
    Demo(demo::Args),
    /// Record what the runtime of this node shows and sends, as a scenario file for a bug report. Only reads.
    #[cfg(feature = "sim")]
    Record(record::Args),
    /// Play a scenario file on a simulated runtime and print the events that plegd publishes.
    #[cfg(feature = "sim")]
    Replay(replay::Args),
    /// Find the runtime and say its version, whether it has events, and what to expect.
    Check(check::Args),
    /// Check a configuration, and show every key there is, or what comes out of file, environment and flags.
    Config(config::Args),
    /// Watch what pods do, as a running plegd tells it.
    Watch(watch::Args),
    /// Show pods or containers, as a running plegd knows them.
    Get(get::Args),
    /// Wait until a pod or a container is running, ready, ended or gone.
    Wait(wait::Args),
    /// Say how the running plegd does: its mode, both paths beside each other, and what needs attention.
    Status(status::Args),
    /// Watch what happens on this node, redrawn every second: events by type, the busiest pods, who lags behind.
    Top(top::Args),
    /// List who watches the running plegd, or disconnect one.
    Subscribers(subscribers::Args),
    /// Change what the running plegd logs.
    LogLevel(log_level::Args),
    /// Print what a shell needs to complete this command line.
    Completions(completions::Args),
    /// Print the manual.
    Man(man::Args),
    /// Say which plegd this is.
    Version(version::Args),
}

/// Runs the command line.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        Err(error) => return explain(&error),
    };
    let ended = match command {
        None => Cli::command().print_help().map_err(anyhow::Error::from),
        Some(Command::Version(args)) => version::print(&args),
        Some(Command::Completions(args)) => completions::print(args, Cli::command()),
        Some(Command::Man(args)) => man::print(&args, Cli::command()),
        Some(Command::Status(args)) => ask(status::run(args)),
        Some(Command::Top(args)) => ask(top::run(args)),
        Some(Command::Subscribers(args)) => ask(subscribers::run(args)),
        Some(Command::LogLevel(args)) => ask(log_level::run(args)),
        Some(Command::Run(args)) => {
            let inputs = args.inputs();
            // Created before the file is read, so that every later change is noticed.
            let file = FileWatch::new(&inputs);
            load(&inputs).map_err(anyhow::Error::from).and_then(|loaded| {
                let log = log::begin(&loaded.config.log);
                loaded.log();
                drive(|threads| run::run(inputs, file, loaded, threads, log))
            })
        }
        #[cfg(feature = "sim")]
        Some(Command::Demo(args)) => args.load().and_then(|prepared| {
            let log = log::begin(&prepared.loaded.config.log);
            drive(|threads| demo::run(args, prepared, threads, log))
        }),
        #[cfg(feature = "sim")]
        Some(Command::Record(args)) => args.load().map_err(anyhow::Error::from).and_then(|loaded| {
            log::begin(&loaded.config.log);
            ask(record::run(args, loaded))
        }),
        #[cfg(feature = "sim")]
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::Check(args)) => args.load().map_err(anyhow::Error::from).and_then(|loaded| {
            log::begin(&loaded.config.log);
            ask(check::run(loaded))
        }),
        Some(Command::Config(args)) => config::run(args),
        Some(Command::Watch(args)) => ask_on(Builder::new_multi_thread().worker_threads(1), watch::run(args)),
        Some(Command::Get(args)) => ask(get::run(args)),
        Some(Command::Wait(args)) => ask(wait::run(args)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => give_up(&error),
    }
}

/// Prints clap's output: help and version on stdout, errors on stderr.
fn explain(error: &clap::Error) -> ExitCode {
    // The write fails only if the reader has closed the pipe.
    let _ = match visible_lines(&error.render().to_string()) {
        Cow::Borrowed(_) => error.print(),
        // If the text repeats an argument with unsafe characters, they are escaped, and the colours are left out.
        Cow::Owned(text) => io::stderr().write_all(text.as_bytes()),
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

fn give_up(error: &anyhow::Error) -> ExitCode {
    let mut stderr = io::stderr().lock();
    if let Some(ConfigError(problems)) = error.downcast_ref() {
        let count = problems.len();
        let what = if count == 1 { "a problem".into() } else { format!("{count} problems") };
        let _ = writeln!(stderr, "plegd: the configuration has {what}, so plegd does not start with it:");
        for problem in problems {
            let _ = writeln!(stderr, "  {}", visible(&problem.to_string()));
        }
        return ExitCode::from(USAGE);
    }
    // A closed pipe, as by `head`, is a normal end.
    let pipe =
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    if pipe {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(stderr, "{}", error_line(error));
    ExitCode::FAILURE
}

/// An error on one line: it may contain a text from the runtime or from a pod.
fn error_line(error: &anyhow::Error) -> String {
    format!("plegd: {}", visible(&format!("{error:#}")))
}

/// Runs a verb that follows no runtime: it calls a running plegd, or makes a few calls to the runtime.
fn ask(verb: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    ask_on(&mut Builder::new_current_thread(), verb)
}

fn ask_on(threads: &mut Builder, verb: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = threads.enable_all().build()?;
    let ended = runtime.block_on(verb);
    // A thread that still waits for a key must not delay the end.
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KEYS};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_safe_line() {
        let error = anyhow::anyhow!("NotFound\nplegd: forged \u{1b}[2J\u{202e}").context("the read failed");
        let line = "plegd: the read failed: NotFound\\nplegd: forged \\u{1b}[2J\\u{202e}";
        assert_eq!(error_line(&error), line);
    }

    fn parse(line: &str) -> Command {
        Cli::try_parse_from(line.split(' ')).unwrap().command.unwrap()
    }

    #[test]
    fn every_flag_sets_the_key_it_is_named_after() {
        let line = "plegd run --runtime-endpoint /a --api-socket off --http-address off --print json --print-types all --relist-period 2s \
                    --relist-max-period 3s --log-level debug --log-format json";
        let Command::Run(args) = parse(&line.split_whitespace().collect::<Vec<_>>().join(" ")) else {
            panic!()
        };
        let flags = args.flags();
        assert_eq!(flags.len(), 9);
        for flag in flags {
            assert!(KEYS.iter().any(|key| key.path() == flag.key), "{flag:?}");
            let named = flag.name.trim_start_matches("--").replace('-', "_");
            let short = flag.key.replace('.', "_");
            assert!(named == short || (named == "print" && flag.key == "print.format"), "{flag:?}");
        }
        let Command::Run(args) = parse("plegd run") else { panic!() };
        assert!(args.flags().is_empty());
    }

    #[test]
    fn help_says_the_defaults_and_ranges_that_hold() {
        let mut command = Cli::command();
        let run = command.find_subcommand_mut("run").unwrap();
        for argument in run.get_arguments() {
            let flag = argument.get_long().unwrap();
            let path = if flag == "print" {
                "print.format".into()
            } else {
                flag.replacen('-', ".", 1).replace('-', "_")
            };
            let Some(key) = KEYS.iter().find(|key| key.path() == path) else {
                assert!(["config", "help"].contains(&flag), "{flag}");
                continue;
            };
            let help = argument.get_help().unwrap().to_string();
            let default = key.text(&Config::default());
            assert!(default.is_empty() || help.contains(&format!("[default: {default}]")), "{flag}: {help}");
            if let Some((_, range)) = key.allowed().split_once(", from ") {
                assert!(help.contains(&format!("from {range}")), "{flag}: {help}");
            }
        }
    }

    #[test]
    fn the_demo_prints_a_table_and_ignores_what_the_node_is_set_to() {
        let Command::Demo(args) =
            parse("plegd demo --seed 7 --pods 3 --duration 10s --http-address 127.0.0.1:0")
        else {
            panic!()
        };
        let config = args.load().unwrap().loaded.config;
        assert_eq!((args.seed, args.pods), (Some(7), 3));
        assert_eq!(args.duration, Some(std::time::Duration::from_secs(10)));
        assert_eq!(config.print.format, crate::config::PrintFormat::Table);
        assert_eq!(config.http.address, "127.0.0.1:0".parse().ok());
    }
}
