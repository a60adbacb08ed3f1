//! The log of plegd. It goes to stderr, because stdout has only events.

mod fields;
mod journal;
mod repeat_filter;
#[cfg(test)]
mod written;

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing_subscriber::{fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use self::{journal::Journal, repeat_filter::RepeatFilter};
use crate::{
    api::introspection::SetLogLevel,
    clock::Clock,
    config::{Filter, Log, LogFormat},
    print::coloured,
};

type Reload = Arc<dyn Fn(&Filter) -> Result<(), String> + Send + Sync>;

/// Changes the log level.
#[derive(Clone)]
pub(crate) struct LogControl {
    in_force: Arc<Mutex<Filter>>,
    reload: Reload,
}

/// Sets up the log on stderr. Later calls have no effect.
pub(crate) fn begin(log: &Log) -> LogControl {
    let (filter, handle) = reload::Layer::new(log.level.to_targets());
    let registry = tracing_subscriber::registry().with(filter).with(RepeatFilter::new(Clock::system()));
    let lines = fmt::layer()
        .fmt_fields(fields::safe())
        .with_writer(io::stderr as fn() -> _)
        .with_ansi(coloured(io::stderr().is_terminal()));
    // This fails only if a log is already set up; that log stays in use.
    let _ = match log.format {
        LogFormat::Journald => registry.with(lines.event_format(Journal::new())).try_init(),
        LogFormat::Auto if journal::is_stderr() => {
            registry.with(lines.event_format(Journal::new())).try_init()
        }
        LogFormat::Auto | LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).map_event_format(fields::SafeJson);
            registry.with(lines).try_init()
        }
    };
    let reload: Reload =
        Arc::new(move |level| handle.reload(level.to_targets()).map_err(|error| error.to_string()));
    LogControl { in_force: Arc::new(Mutex::new(log.level.clone())), reload }
}

// === impl LogControl ===

impl LogControl {
    /// The function that changes the level and returns the previous one.
    pub(crate) fn setter(self) -> SetLogLevel {
        Arc::new(move |level| {
            let mut in_force = self.in_force.lock();
            (self.reload)(level)?;
            Ok(std::mem::replace(&mut in_force, level.clone()))
        })
    }
}
