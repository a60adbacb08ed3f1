//! `plegd config`: the reference of all keys, the validation of a configuration, and its effective values.

use std::fmt::Write as _;

use serde::Serialize;

use super::{connection::Connection, introspect::Introspect, run};
use crate::print::{
    answer::{Output, show, show_json},
    columns::Columns,
};
use crate::{
    config::{self, Change, Config, Loaded, Place},
    v1::{self, GetConfigResponse},
};

const EXAMPLES: &str = "\
Examples:
  plegd config default > plegd.toml
  plegd config check --config plegd.toml && systemctl reload plegd
  plegd config print
  plegd config running";

const CHECK_EXAMPLES: &str = "\
Examples:
  plegd config check
  plegd config check --config ./plegd.toml

Exit codes: 0 the configuration is valid, 64 it is not; all errors are printed. The command
does not connect to the runtime and does not bind addresses.";

const PRINT_EXAMPLES: &str = "\
Examples:
  plegd config print
  PLEGD_LOG_LEVEL=debug plegd config print --config ./plegd.toml --relist-period 2s
  plegd config print -o json | jq '.keys[] | select(.origin != \"default\")'";

/// Flags of `plegd config`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Print a configuration file with all keys: description, unit, range, default, and whether a change requires a restart.
    Default,
    /// Validate the configuration of `plegd run`, and print all errors.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Box<run::Args>),
    /// Show the effective configuration of `plegd run` on this node, with the origin of each value.
    #[command(after_help = PRINT_EXAMPLES)]
    Print(Box<Print>),
    /// Show the effective configuration of the running daemon as a TOML file.
    Running(Running),
}

/// Flags of `plegd config print`, which has those of `plegd run` too.
#[derive(Clone, Debug, clap::Args)]
struct Print {
    #[command(flatten)]
    of_run: run::Args,
    /// Output format; wide also shows whether a change requires a restart
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// Flags of `plegd config running`.
#[derive(Clone, Debug, clap::Args)]
struct Running {
    /// The connection to the running plegd.
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Layers {
    /// The file that was read.
    file: Option<String>,
    keys: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    key: String,
    value: String,
    origin: String,
    /// Whether a change requires a restart.
    needs_restart: bool,
}

/// Runs the subcommand, with its output on stdout.
///
/// # Errors
///
/// All errors in the configuration, or that the running plegd cannot be reached.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.verb {
        Verb::Default => show(&Config::default().to_toml())?,
        Verb::Check(of_run) => show(&summary(&config::load(&of_run.inputs())?))?,
        Verb::Print(print) => {
            let Print { of_run, output } = *print;
            let loaded = config::load(&of_run.inputs())?;
            match output {
                Output::Json => show_json(&layers(&loaded))?,
                Output::Table => show(&table(&loaded, 3)?)?,
                Output::Wide => show(&table(&loaded, 4)?)?,
            }
        }
        Verb::Running(running) => super::run_client_verb(async move {
            let config = Introspect::over(&running.connection.client().await?).config().await?;
            Ok(show(&effective_toml(&config))?)
        })?,
    }
    Ok(())
}

/// The message for a valid configuration, with the number of keys from each source.
fn summary(loaded: &Loaded) -> String {
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => format!("no file, because {} does not exist", config::DEFAULT_FILE),
    };
    let count = |is: fn(&Place) -> bool| loaded.origins().filter(|(_, place)| is(place)).count();
    let from_file = count(|place| matches!(place, Place::File(..)));
    let from_environment = count(|place| matches!(place, Place::Variable(_)));
    let from_flags = count(|place| matches!(place, Place::Flag(_)));
    let defaults = count(|place| *place == Place::Default);
    let mut text = format!("The configuration is valid: {file}.\n");
    let _ = writeln!(
        text,
        "Keys: {from_file} from the file, {from_environment} from the environment, {from_flags} from flags, {defaults} with \
         default values."
    );
    text
}

fn layers(loaded: &Loaded) -> Layers {
    let value = |(key, place): (&config::Key, &Place)| Value {
        key: key.path(),
        value: key.text(&loaded.config),
        origin: place.to_string(),
        needs_restart: key.change == Change::Restart,
    };
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    Layers { file, keys: loaded.origins().map(value).collect() }
}

/// The effective configuration as TOML, after comments that list non-default keys and their origin.
fn effective_toml(config: &GetConfigResponse) -> String {
    let file = if config.file.is_empty() { "none" } else { &config.file };
    let mut text = format!("# Effective configuration of the running plegd. File: {file}.\n");
    for v1::Setting { key, value, origin } in &config.settings {
        let _ = writeln!(text, "# {key} = {value:?}, set by {origin}.");
    }
    text + "\n" + &config.toml
}

fn table(loaded: &Loaded, shown: usize) -> anyhow::Result<String> {
    let mut columns = Columns::new(["KEY", "VALUE", "ORIGIN", "CHANGE"], shown);
    for (key, place) in loaded.origins() {
        let change = match key.change {
            Change::Live => "applied on reload",
            Change::Restart => "requires restart",
        };
        columns.row([key.path(), key.toml(&loaded.config), place.to_string(), change.into()]);
    }
    let mut out = Vec::new();
    columns.write(&mut out)?;
    Ok(String::from_utf8(out)?)
}
