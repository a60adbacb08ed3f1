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
  plegd demo                        run plegd on a simulated runtime
  plegd check                       detect the runtime of this node
  plegd run --print table           run the daemon and print events as a table
  plegd run --print json | jq .     run the daemon and print events as JSON

On a node that runs plegd, with permission to open its socket:
  plegd status                      show the status of the daemon
  plegd watch                       watch pod lifecycle events
  plegd get pods -o wide            list pods
  plegd wait --for exited batch/job --timeout 10m

Configuration: defaults, overridden by /etc/plegd/plegd.toml, PLEGD_* variables, and flags.
Exit codes: 0 success, 1 failure or not found, 64 usage or configuration error.";

/// Pod lifecycle events of a Kubernetes node. plegd follows the container runtime by its event stream and by periodic
/// relists, merges both, and publishes each change once.
#[derive(Debug, Parser)]
#[command(name = "plegd", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// The verb.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The verbs of `plegd`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon, which follows the runtime of this node. Only makes read calls to the runtime.
    Run(run::Args),
    /// Run the daemon on a simulated runtime in this process, with pods that start and end.
    #[cfg(feature = "sim")]
    Demo(demo::Args),
    /// Record the state and the events of this node's runtime as a scenario file, for a bug report. Only makes read calls.
    #[cfg(feature = "sim")]
    Record(record::Args),
    /// Play a scenario file on a simulated runtime and print the events that plegd publishes.
    #[cfg(feature = "sim")]
    Replay(replay::Args),
    /// Detect the runtime of this node, its version, event support and known quirks.
    Check(check::Args),
    /// Validate a configuration, or show all keys or the effective values.
    Config(config::Args),
    /// Watch pod lifecycle events of the running daemon.
    Watch(watch::Args),
    /// Show pods or containers held by the running daemon.
    Get(get::Args),
    /// Wait for a condition of a pod or container, such as running, exited or removed.
    Wait(wait::Args),
    /// Show the status of the running daemon: mode, both detection paths, and problems.
    Status(status::Args),
    /// Show the activity of this node live: events by type, the busiest pods, and the lag of subscribers.
    Top(top::Args),
    /// List the subscribers of the running daemon, or disconnect one.
    Subscribers(subscribers::Args),
    /// Show or change the log level of the running daemon.
    LogLevel(log_level::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Print the manual pages.
    Man(man::Args),
    /// Print version and build information.
    Version(version::Args),
}

/// Runs the command line.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        Err(error) => return print_clap_output(&error),
    };
    let ended = match command {
        None => Cli::command().print_help().map_err(anyhow::Error::from),
        Some(Command::Version(args)) => version::print(&args),
        Some(Command::Completions(args)) => completions::print(args, Cli::command()),
        Some(Command::Man(args)) => man::print(&args, Cli::command()),
        Some(Command::Status(args)) => run_client_verb(status::run(args)),
        Some(Command::Top(args)) => run_client_verb(top::run(args)),
        Some(Command::Subscribers(args)) => run_client_verb(subscribers::run(args)),
        Some(Command::LogLevel(args)) => run_client_verb(log_level::run(args)),
        Some(Command::Run(args)) => {
            let inputs = args.inputs();
            // Created before the file is read, so that every later change is detected.
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
            run_client_verb(record::run(args, loaded))
        }),
        #[cfg(feature = "sim")]
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::Check(args)) => args.load().map_err(anyhow::Error::from).and_then(|loaded| {
            log::begin(&loaded.config.log);
            run_client_verb(check::run(loaded))
        }),
        Some(Command::Config(args)) => config::run(args),
        Some(Command::Watch(args)) => {
            run_client_verb_on(Builder::new_multi_thread().worker_threads(1), watch::run(args))
        }
        Some(Command::Get(args)) => run_client_verb(get::run(args)),
        Some(Command::Wait(args)) => run_client_verb(wait::run(args)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => print_error(&error),
    }
}

/// Prints clap's output: help and version on stdout, errors on stderr.
fn print_clap_output(error: &clap::Error) -> ExitCode {
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

fn print_error(error: &anyhow::Error) -> ExitCode {
    let mut stderr = io::stderr().lock();
    if let Some(ConfigError(problems)) = error.downcast_ref() {
        let count = problems.len();
        let what = if count == 1 { "a problem".into() } else { format!("{count} problems") };
        let _ = writeln!(stderr, "plegd: the configuration has {what}, so plegd cannot start:");
        for problem in problems {
            let _ = writeln!(stderr, "  {}", visible(&problem.to_string()));
        }
        return ExitCode::from(USAGE);
    }
    // A pipe closed by the reader, such as `head`, is not an error.
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
fn run_client_verb(verb: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    run_client_verb_on(&mut Builder::new_current_thread(), verb)
}

fn run_client_verb_on(
    threads: &mut Builder,
    verb: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let runtime = threads.enable_all().build()?;
    let ended = runtime.block_on(verb);
    // A thread that still waits for a key must not delay the exit.
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KEYS};

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_line_without_control_characters() {
        let error = anyhow::anyhow!("NotFound\nplegd: forged \u{1b}[2J\u{202e}").context("the read failed");
        let line = "plegd: the read failed: NotFound\\nplegd: forged \\u{1b}[2J\\u{202e}";
        assert_eq!(error_line(&error), line);
    }

    fn parse(line: &str) -> Command {
        Cli::try_parse_from(line.split(' ')).unwrap().command.unwrap()
    }

    #[test]
    fn every_flag_of_run_sets_the_key_that_it_is_named_after() {
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
    fn the_help_has_the_defaults_and_ranges_of_the_keys() {
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
    fn the_demo_prints_a_table_and_ignores_the_configuration_of_the_node() {
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
