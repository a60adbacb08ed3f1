//! All metrics of plegd.
//!
//! Owns a registry and one struct per subsystem. All children of a family exist from the start with value 0, so that
//! the first error of a kind shows as an increase. Label values are enums; the id of a pod or container is never a
//! label. This module depends on neither cache nor journal: hooks that run before each scrape set the gauges
//! ([`Metrics::on_scrape`]).

mod api;
mod config;
mod events;
mod exposition;
mod family;
mod labels;
mod persistence;
mod process;
mod quantile;
mod runtime;

#[cfg(any(test, feature = "internals"))]
pub use self::api::CallCode;
pub use self::{
    api::{Api, Call, Refusal},
    config::{Configuration, Reload},
    events::{Arbitration, JournalMetrics, NodeMetrics, Transitions},
    family::{Family, Label, Labels},
    labels::{
        Channel, Code, DisconnectReason, Outcome, Path, PodState, ReadOutcome, RelistCause, SeenBy,
        StreamState,
    },
    persistence::Persistence,
    quantile::Spread,
    runtime::{Calls, Modes, Reads, Relist, Relists, Stream},
};

use std::fmt;

use parking_lot::Mutex;
use prometheus::IntCounter;

use self::{exposition::Exposition, family::Registry, process::Process};
use crate::version;

/// Histogram buckets in seconds, from half a millisecond to a minute.
const LATENCY: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Histogram buckets of one CRI call in seconds: fewer, because there is a histogram per method.
const CALL: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Sets gauges before a scrape.
pub type Hook = Box<dyn Fn(&Metrics) + Send + Sync>;

/// All metrics. Shared as an `Arc`; counting never blocks.
pub struct Metrics {
    /// Published lifecycle events, and the comparison of both paths.
    pub transitions: Transitions,
    /// The arbiter's verdicts.
    pub arbitration: Arbitration,
    /// Relists.
    pub relists: Relists,
    /// Reads of single pods.
    pub reads: Reads,
    /// CRI calls.
    pub cri: Calls,
    /// The event stream.
    pub stream: Stream,
    /// The mode.
    pub mode: Modes,
    /// Current pods, sandboxes and containers. Set by a hook.
    pub state: NodeMetrics,
    /// The journal and its subscribers.
    pub journal: JournalMetrics,
    /// Clients over gRPC and HTTP.
    pub api: Api,
    /// Reloads of the configuration.
    pub config: Configuration,
    /// The state on disk.
    pub persistence: Persistence,
    process: Process,
    exposition: Exposition,
    /// Locked during a scrape: two concurrent scrapes would count CPU time twice.
    hooks: Mutex<Vec<Hook>>,
}

/// Raises a counter to a total that is counted elsewhere; a counter never falls.
pub fn raise_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

// === impl Metrics ===

impl Metrics {
    /// The content type of [`Metrics::scrape`].
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// All metrics at 0, independent of other instances.
    pub fn new() -> Self {
        let registry = Registry::default();
        registry.info(
            "plegd_build_info",
            "Always 1; the labels are the version, the revision and the compiler of plegd.",
            &[
                ("version", version::VERSION),
                ("revision", version::REVISION.unwrap_or("unknown")),
                ("rust_version", version::RUSTC.split(' ').nth(1).unwrap_or("unknown")),
            ],
        );
        Self {
            transitions: Transitions::new(&registry),
            arbitration: Arbitration::new(&registry),
            relists: Relists::new(&registry),
            reads: Reads::new(&registry),
            cri: Calls::new(&registry),
            stream: Stream::new(&registry),
            mode: Modes::new(&registry),
            state: NodeMetrics::new(&registry),
            journal: JournalMetrics::new(&registry),
            api: Api::new(&registry),
            config: Configuration::new(&registry),
            persistence: Persistence::new(&registry),
            process: Process::new(&registry),
            exposition: registry.into_exposition(),
            hooks: Mutex::default(),
        }
    }

    /// Runs `hook` before each scrape. It must be fast, must not scrape, and must not own the owner of these metrics.
    pub fn on_scrape(&self, hook: Hook) {
        self.hooks.lock().push(hook);
    }

    /// Current resident memory of the process in bytes, and its CPU time.
    pub fn process(&self) -> (u64, std::time::Duration) {
        let _exclusive = self.hooks.lock();
        self.process.update();
        self.process.figures()
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// None in practice: the encoder fails only for a metric without a name or a value.
    pub fn scrape(&self) -> prometheus::Result<String> {
        let hooks = self.hooks.lock();
        self.process.update();
        for hook in hooks.iter() {
            hook(self);
        }
        self.exposition.text()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
