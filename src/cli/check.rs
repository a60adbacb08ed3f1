//! `plegd check`: what the runtime of this node is and what to expect of it.

use std::path::PathBuf;

use anyhow::bail;

use super::run::flags;
use crate::config::{self, ConfigError, Inputs, Loaded};

const EXAMPLES: &str = "\
Examples:
  plegd check
  plegd check --runtime-endpoint unix:///run/k3s/containerd/containerd.sock";

/// Flags of `plegd check`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Configuration file [env: PLEGD_CONFIG] [default: /etc/plegd/plegd.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket of the runtime, as unix:///path or /path [default: the first well-known one that answers]
    #[arg(long, value_name = "SOCKET")]
    pub runtime_endpoint: Option<String>,
}

/// Says what the runtime is.
///
/// # Errors
///
/// If none is found or it does not answer.
pub async fn run(_loaded: Loaded) -> anyhow::Result<()> {
    bail!("`plegd check` is not wired yet")
}

// === impl Args ===

impl Args {
    /// The configuration of this process with these flags.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let flags = flags([("--runtime-endpoint", "runtime.endpoint", &self.runtime_endpoint)]);
        config::load(&Inputs::of_process(self.config.clone(), flags))
    }
}
