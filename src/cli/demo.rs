//! `plegd demo`: the real daemon on a simulated runtime, in one process.

use std::time::Duration;

use anyhow::bail;

use super::run::flags;
use crate::config::{self, Config, ConfigError, Inputs, Value};

const EXAMPLES: &str = "\
Examples:
  plegd demo
  plegd demo --seed 7 --pods 40 --duration 30s
  plegd demo --print json | jq -r .type | sort | uniq -c";

/// Flags of `plegd demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the simulation's dice begin with: the same seed gives the same pods [default: a new one, which is said]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// How many pods there are at a time, from 1 to 500
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub pods: u16,
    /// When to end by itself, as 30s or 5m [default: at Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = <Duration as Value>::parse)]
    pub duration: Option<Duration>,
    /// Where metrics and health are served, or "off" [default: 127.0.0.1:7534]
    #[arg(long, value_name = "IP:PORT")]
    pub http_address: Option<String>,
    /// How to print each event: none, table or json [default: table]
    #[arg(long, value_name = "FORMAT")]
    pub print: Option<String>,
    /// Level of the log on stderr [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Runs the demo until its time is over or it is told to end.
///
/// # Errors
///
/// If it cannot start.
pub async fn run(_args: Args, _config: Config) -> anyhow::Result<()> {
    bail!("`plegd demo` is not wired yet")
}

// === impl Args ===

impl Args {
    /// The defaults with these flags. File and environment are this node's and say nothing of a simulation.
    ///
    /// # Errors
    ///
    /// All that is wrong with the flags.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let or =
            |given: &Option<String>, default: &str| Some(given.clone().unwrap_or_else(|| default.into()));
        let flags = flags([
            ("--http-address", "http.address", &self.http_address),
            ("--print", "print.format", &or(&self.print, "table")),
            ("--log-level", "log.level", &or(&self.log_level, "warn")),
        ]);
        Ok(config::load(&Inputs { flags, ..Inputs::default() })?.config)
    }
}
