//! `plegd run`: the daemon.

use std::path::PathBuf;

use crate::daemon::{Daemon, Threads, log::LogControl};
use crate::{
    clock::Clock,
    config::{Flag, Inputs, Loaded},
    cri::Link,
    daemon::reload::FileWatch,
};

const EXAMPLES: &str = "\
Examples:
  plegd run
  plegd run --print table
  plegd run --print json --print-types all | jq -c 'select(.exit_code > 0)'
  plegd run --runtime-endpoint unix:///run/crio/crio.sock --http-address off

Each flag corresponds to a key in the file and to an environment variable: --relist-period
is the key period in the section [relist], and the variable PLEGD_RELIST_PERIOD. Flags
override the environment, which overrides the file.";

/// Flags of `plegd run`. [`crate::config`] parses the values and reports all errors together.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Configuration file [env: PLEGD_CONFIG] [default: /etc/plegd/plegd.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket of the runtime: unix:///path or /path [default: the first well-known socket that answers]
    #[arg(long, value_name = "SOCKET")]
    pub runtime_endpoint: Option<String>,
    /// Socket of the pod lifecycle API, or "off" [default: /run/plegd/plegd.sock]
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<String>,
    /// Address for metrics, health checks and the web page, or "off" [default: 127.0.0.1:7534]
    #[arg(long, value_name = "IP:PORT")]
    pub http_address: Option<String>,
    /// Output format of events on stdout: none, table or json [default: none]
    #[arg(long, value_name = "FORMAT")]
    pub print: Option<String>,
    /// Event types to print: started, died, removed, changed, sync, or all [default: started,died,removed]
    #[arg(long, value_name = "TYPES")]
    pub print_types: Option<String>,
    /// Relist period while there is no event stream, from 100ms to 10m [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub relist_period: Option<String>,
    /// Relist period while the event stream is trusted, from 100ms to 1h [default: 1m]
    #[arg(long, value_name = "DURATION")]
    pub relist_max_period: Option<String>,
    /// Policy if the runtime delivers each event to one subscriber only: yield or compete [default: yield]
    #[arg(long, value_name = "POLICY")]
    pub stream_shared: Option<String>,
    /// Log level on stderr, for all or by module: info,plegd::relister=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log format: auto, text, json or journald [default: auto]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Runs the daemon until it is stopped.
///
/// # Errors
///
/// If it cannot start.
pub(super) async fn run(
    inputs: Inputs,
    file: FileWatch,
    loaded: Loaded,
    threads: Threads,
    log: LogControl,
) -> anyhow::Result<()> {
    let link = loaded.config.runtime.endpoint.clone().map_or_else(Link::well_known, Link::unix);
    let mut daemon = Daemon::start(&loaded, link, Clock::system(), &threads, log).await?;
    daemon.watch_configuration(inputs, file)?;
    daemon.run_until(std::future::pending()).await
}

// === impl Args ===

impl Args {
    /// The inputs of the configuration of this process with these flags.
    pub fn inputs(&self) -> Inputs {
        Inputs::of_process(self.config.clone(), self.flags())
    }

    pub(super) fn flags(&self) -> Vec<Flag> {
        flags([
            ("--runtime-endpoint", "runtime.endpoint", &self.runtime_endpoint),
            ("--api-socket", "api.socket", &self.api_socket),
            ("--http-address", "http.address", &self.http_address),
            ("--print", "print.format", &self.print),
            ("--print-types", "print.types", &self.print_types),
            ("--relist-period", "relist.period", &self.relist_period),
            ("--relist-max-period", "relist.max_period", &self.relist_max_period),
            ("--stream-shared", "stream.shared", &self.stream_shared),
            ("--log-level", "log.level", &self.log_level),
            ("--log-format", "log.format", &self.log_format),
        ])
    }
}

/// The flags that are set.
pub(super) fn flags<'a>(
    all: impl IntoIterator<Item = (&'static str, &'static str, &'a Option<String>)>,
) -> Vec<Flag> {
    all.into_iter().filter_map(|(name, key, value)| Some(Flag { name, key, value: value.clone()? })).collect()
}
