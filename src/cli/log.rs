//! plegd's own log: to stderr, so that stdout is for events alone.

use std::io::{self, IsTerminal as _};

use super::print::coloured;
use crate::config::{Log, LogFormat};

/// Sends all that is logged from now on to stderr. Later calls change nothing.
pub(super) fn begin(log: &Log) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(log.level.to_env_filter())
        .with_writer(io::stderr)
        .with_ansi(coloured(io::stderr().is_terminal()));
    // It fails only where there is a log already, which is then as good.
    let _ = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}
