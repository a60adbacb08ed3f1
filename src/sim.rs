//! A simulated CRI runtime: a node whose true state is known, served by the same calls as a real runtime.
//!
//! ```text
//! truth ── signals ──▶ faults ──▶ events ──▶ GetContainerEvents ─┐
//!   └───── view ───────────────────────────▶ List…, …Status ─────┴─▶ socket or in-process pipe
//! ```
//!
//! | module | what it contains |
//! | --- | --- |
//! | [`truth`] | the true state of sandboxes and containers, and the history of its changes |
//! | [`profile`] | the differences between runtime versions, as data |
//! | [`events`] | the event queues of the runtimes: shared, blocking, broadcast |
//! | [`faults`] | faults to inject |
//! | [`server`] | the gRPC service |
//! | [`serve`] | UNIX sockets and in-process pipes, which a crash cuts |
//! | [`runtime`] | [`SimRuntime`], which joins them |
//! | [`exchanges`] | a record of the messages that the runtime sent, for tests |
//! | [`churn`] | a workload that creates and removes pods |
//!
//! `plegd demo`, the tests and the benchmarks use it; `plegd run` never does. It has no threads. It takes time from
//! [`Clock`](crate::app::Clock) and randomness from one seed: in a single-threaded runtime with paused time, the same seed
//! gives the same history.

pub mod churn;
pub mod codec;
pub mod events;
pub mod exchanges;
pub mod faults;
pub mod profile;
pub mod runtime;
pub mod serve;
pub mod server;
pub mod truth;
mod wire;

/// The part of CRI that the simulated runtime serves, generated from `proto/cri_lab.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/sim/runtime.v1.rs"));
}

pub use churn::Churn;
pub use exchanges::{Exchange, Message};
pub use faults::{
    CallFault, Dose, EventFault, Faults, ListFault, Lists, Method, Only, ResetReason, Stamp, Target,
};
pub use profile::Profile;
pub use runtime::SimRuntime;
pub use serve::SimConnector;
pub use truth::{Change, ChangeKind, Subject, Truth};
