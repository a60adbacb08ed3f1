//! A simulated CRI runtime: a node whose truth is known, served by the same calls as a real one.
//!
//! ```text
//! truth ── signals ──▶ faults ──▶ events ──▶ GetContainerEvents ─┐
//!   └───── view ───────────────────────────▶ List…, …Status ─────┴─▶ socket or in-process pipe
//! ```
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`truth`] | sandboxes and containers as they are, and the history of all that happened |
//! | [`profile`] | what each runtime version does differently, as data |
//! | [`events`] | the event queues of the runtimes: shared, blocking, broadcasting |
//! | [`faults`] | what goes wrong, to order |
//! | [`server`] | the gRPC service |
//! | [`serve`] | real sockets and in-process pipes, which a crash cuts |
//! | [`runtime`] | [`SimRuntime`], which joins them |
//! | [`said`] | what the runtime has said, for tests that hold plegd against it |
//! | [`churn`] | pods coming and going, as on a node |
//!
//! It serves `plegd demo`, the tests and the benchmarks; `plegd run` never uses it. It has no threads, takes time from
//! [`Clock`](crate::app::Clock) and chance from one seed: in a runtime of one thread with paused time, the same seed gives the
//! same history.

pub mod churn;
pub mod codec;
pub mod events;
pub mod faults;
pub mod profile;
pub mod runtime;
pub mod said;
pub mod serve;
pub mod server;
pub mod truth;
mod wire;

/// CRI as the simulated runtime serves it, generated from `proto/cri_lab.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/sim/runtime.v1.rs"));
}

pub use churn::Churn;
pub use faults::{
    CallFault, Dose, EventFault, Faults, ListFault, Lists, Method, Only, ResetReason, Stamp, Target,
};
pub use profile::Profile;
pub use runtime::SimRuntime;
pub use said::{Said, Saying};
pub use serve::SimConnector;
pub use truth::{Change, Subject, Truth, What};
