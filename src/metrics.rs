//! Every metric of plegd: what is counted, under which name, with which labels.
//!
//! Owns a registry of its own and one struct a subsystem. All children of a family are there from the start with 0, so that
//! the first error of a kind already shows as an increase. Label values are enums; no id of a pod or container is ever one.
//! This room knows neither cache nor journal: figures that are looked up rather than counted are set by hooks that run
//! before each scrape ([`Metrics::on_scrape`]).

mod api;
mod config;
mod events;
mod exposition;
mod family;
mod labels;
mod process;
mod quantile;
mod runtime;

#[cfg(any(test, feature = "internals"))]
pub use self::api::CallCode;
pub use self::{
    api::{Api, Call, Refusal},
    config::{Configuration, Reload},
    events::{Arbitration, Journal, State, Transitions},
    family::{Family, Label, Labels},
    labels::{
        Channel, Code, DisconnectReason, Outcome, Path, PodState, ReadOutcome, RelistCause, SeenBy,
        StreamState,
    },
    quantile::Spread,
    runtime::{Calls, Modes, Reads, Relist, Relists, Stream},
};

use std::fmt;

use parking_lot::Mutex;
use prometheus::IntCounter;

use self::{exposition::Exposition, family::Maker, process::Process};
use crate::version;

/// Buckets of what may take from half a millisecond to a minute, in seconds.
const LATENCY: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Buckets of one call to the runtime, in seconds: fewer, as there is a histogram for each method.
const CALL: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Looks up figures and sets them, before a scrape.
pub type Hook = Box<dyn Fn(&Metrics) + Send + Sync>;

/// All metrics. Shared as an `Arc`; counting never blocks.
pub struct Metrics {
    /// Lifecycle events that were told, and how both paths compare.
    pub transitions: Transitions,
    /// What the arbiter made of observations.
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
    /// Pods, sandboxes and containers as they are. Set by a hook.
    pub state: State,
    /// The journal and its subscribers.
    pub journal: Journal,
    /// What clients ask over gRPC.
    pub api: Api,
    /// Reloads of the configuration.
    pub config: Configuration,
    process: Process,
    exposition: Exposition,
    /// Held for the whole of a scrape: two at a time would add up the CPU time twice.
    hooks: Mutex<Vec<Hook>>,
}

/// Raises a counter to a total that is kept elsewhere; it never falls.
pub fn raise_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

// === impl Metrics ===

impl Metrics {
    /// The content type of [`Metrics::scrape`].
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// All metrics at 0, apart from those of any other.
    pub fn new() -> Self {
        let make = Maker::default();
        make.info(
            "plegd_build_info",
            "Always 1; the labels say what this plegd is.",
            &[
                ("version", version::VERSION),
                ("revision", version::REVISION.unwrap_or("unknown")),
                ("rust_version", version::RUSTC.split(' ').nth(1).unwrap_or("unknown")),
            ],
        );
        Self {
            transitions: Transitions::new(&make),
            arbitration: Arbitration::new(&make),
            relists: Relists::new(&make),
            reads: Reads::new(&make),
            cri: Calls::new(&make),
            stream: Stream::new(&make),
            mode: Modes::new(&make),
            state: State::new(&make),
            journal: Journal::new(&make),
            api: Api::new(&make),
            config: Configuration::new(&make),
            process: Process::new(&make),
            exposition: make.made(),
            hooks: Mutex::default(),
        }
    }

    /// Has `hook` run before each scrape. It must be quick, must not scrape, and must not own what owns these metrics.
    pub fn on_scrape(&self, hook: Hook) {
        self.hooks.lock().push(hook);
    }

    /// The figures of the process, read anew: resident memory in bytes, and the CPU time used.
    pub fn process(&self) -> (u64, std::time::Duration) {
        let _alone = self.hooks.lock();
        self.process.update();
        self.process.figures()
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// Only if a metric has no name or no value, which none has.
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
