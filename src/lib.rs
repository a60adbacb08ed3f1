//! plegd follows the pods of a Kubernetes node: a hybrid of the kubelet's evented and generic PLEG, as a service.
//!
//! It listens to the CRI runtime's event stream and lists everything every so often, settles what both say into one cache
//! of pod statuses, and tells every change exactly once, in order, to any number of subscribers.
//!
//! # Data flow
//!
//! ```text
//! containerd ── GetContainerEvents ──▶ evented ──┐ observation
//!     │                                          ├──▶ arbiter ──▶ cache ──▶ reads (get, list, newer than)
//!     └── List… / …Status ──────────▶ relister ──┘        └────▶ journal ──▶ subscribers
//!                                        ▲
//!                     supervisor ────────┘  (mode, relist period, reconnects)
//! ```
//!
//! Data flows one way: sources never write the cache, the arbiter never calls the runtime, and no subscriber slows anything
//! before the journal.
//!
//! # Modules
//!
//! Each layer uses those below it. Public are [`app`], [`watch`], [`model`], [`client`], [`v1`], [`serve`] and [`sim`].
//!
//! | layer | module | purpose | must not |
//! | --- | --- | --- | --- |
//! | programs | `cli` | parses the command line; one module for each verb | hold what other modules need |
//! | | `daemon` | wires the running daemon: servers, log, traces, systemd, reload, signals | decide anything |
//! | | `scenario` | scenario files: format, player on the simulated runtime, checks, recorder | start a plegd |
//! | | `print` | events, tables and JSON for people and programs | block a task that others wait for |
//! | serving | `api` | the pod lifecycle API over gRPC, and who may call it | reach past cache, journal and watch |
//! | | `http` | metrics and health over HTTP | know what else is served |
//! | | `page` | the page for a browser | show more than the metrics do |
//! | | [`serve`] | the API for a program that embeds an app | |
//! | composition | [`app`] | builds, joins and stops the parts | have rules |
//! | following | `supervisor` | when to relist; the mode machine | decode anything |
//! | | `relister` | lists, compares, reads what differs; targeted reads with retries | write the cache |
//! | | `evented` | holds the stream; applies its events behind a queue | await anything but the stream while it holds it |
//! | | `fresh` | pods that are not older than a moment | serve older ones |
//! | | [`watch`] | a snapshot and what follows for one subscriber: filters, gaps, bookmarks | queue anything, know gRPC |
//! | deciding | `arbiter` | the rules, and the records that they change; the only writer | call the runtime |
//! | | `path_comparison` | compares both paths: which was first, by how much, what the stream missed | change what is published |
//! | holding | `cache` | the pods as readers see them, and the pod of each id | be written by anybody but the arbiter |
//! | | `journal` | numbered events in a bounded ring, cursors | know gRPC |
//! | | `state` | the state on disk: a write-ahead log, exact or absent | know what its records mean |
//! | ground | [`model`] | pods, containers, phases, ids, lifecycle events: plain data | know protobuf or tokio |
//! | | `clock` | monotonic and wall time, steps of the wall clock | be bypassed |
//! | | `cri` | generated CRI code, the read-only client, endpoints, quirks by version, conversion | leak generated types |
//! | | `config` | defaults, file, environment, flags, and which of it is in force | be changed once it is given out |
//! | | `live` | a value that can change while plegd runs | know what it is a value of |
//! | | `metrics` | every metric, with bounded labels | know cache or journal |
//! | | `traces` | spans of relists and calls, with the feature `otlp` | cost anything without it |
//! | | `health` | liveness and readiness as named checks | depend on the runtime for liveness |
//! | | [`v1`] | messages and clients of the API, generated | change an existing field |
//! | | `error_info` | details of gRPC errors | |
//! | | `pod_summary` | a pod in one row, as kubectl shows it | |
//! | | `accept` | connections of a server: counted, and ended in time | |
//! | | `printable` | text from outside, made safe for terminals, JSON and YAML | know where it is printed |
//! | beside | [`client`] | the client of the API, for agents: calls, and a watch that resumes by itself | know the daemon's parts |
//! | | [`sim`] | a simulated CRI runtime: truth, server, faults | be used by `plegd run` |
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `client` | [`client`] and [`v1`]: all that an agent needs |
//! | `daemon` (default) | the program `plegd`, [`app`], [`watch`] and [`serve`] |
//! | `sim` (default) | [`sim`], and the verbs `demo`, `record` and `replay` |
//! | `otlp` | traces for OpenTelemetry |
//! | `internals` | all modules, for the tests, benches and fuzz targets of this repository: anything in them may change |
//!
//! # Embedding
//!
//! [`app::App::builder`] follows a runtime inside another program: [`app::App::cache`] reads, [`app::App::watch`] subscribes,
//! [`app::App::fresh`] waits for fresh state, and [`serve::Grpc::embedded`] serves it all to others. See
//! `examples/embedded.rs`.
//!
//! A program beside a running plegd uses [`client`] instead, and needs neither root nor the runtime's socket. See the other
//! files in `examples/`.

#![cfg_attr(not(feature = "internals"), allow(unreachable_pub))]
#![cfg_attr(feature = "internals", allow(missing_docs))]
// Some of the daemon serves the simulation alone. With the default features nothing may be dead.
#![cfg_attr(not(feature = "sim"), allow(dead_code, unused_imports))]

// The one place where locks and maps are changed for those of a scheduler that tries interleavings.
#[cfg(feature = "shuttle")]
extern crate shuttle_dashmap as dashmap;
#[cfg(feature = "shuttle")]
extern crate shuttle_parking_lot as parking_lot;

// The public modules.
#[cfg(feature = "daemon")]
pub mod app;
#[cfg(feature = "client")]
pub mod client;
pub mod model;
#[cfg(feature = "daemon")]
pub mod serve;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "client")]
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1;
#[cfg(feature = "daemon")]
pub mod watch;

// Private modules that are never public.
#[cfg(feature = "daemon")]
mod printable;
#[cfg(all(test, feature = "shuttle"))]
mod schedules;
#[cfg(feature = "client")]
mod socket_path;

// With the feature `internals`, the tests, benches and fuzz targets of this repository see the other modules.
#[cfg(feature = "internals")]
pub mod accept;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod accept;
#[cfg(feature = "internals")]
pub mod api;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod api;
#[cfg(feature = "internals")]
pub mod arbiter;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod arbiter;
#[cfg(feature = "internals")]
pub mod benching;
#[cfg(feature = "internals")]
pub mod cache;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod cache;
#[cfg(feature = "internals")]
pub mod cli;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod cli;
#[cfg(feature = "internals")]
pub mod clock;
#[cfg(not(feature = "internals"))]
mod clock;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod config;
#[cfg(feature = "internals")]
pub mod cri;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod cri;
#[cfg(feature = "internals")]
pub mod daemon;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod daemon;
#[cfg(feature = "internals")]
pub mod error_info;
#[cfg(all(feature = "client", not(feature = "internals")))]
mod error_info;
#[cfg(feature = "internals")]
pub mod evented;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod evented;
#[cfg(feature = "internals")]
pub mod fresh;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod fresh;
#[cfg(feature = "internals")]
pub mod fuzzing;
#[cfg(feature = "internals")]
pub mod health;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod health;
#[cfg(feature = "internals")]
pub mod http;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod http;
#[cfg(feature = "internals")]
pub mod journal;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod journal;
#[cfg(feature = "internals")]
pub mod live;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod live;
#[cfg(feature = "internals")]
pub mod metrics;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod metrics;
#[cfg(feature = "internals")]
pub mod page;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod page;
#[cfg(feature = "internals")]
pub mod path_comparison;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod path_comparison;
#[cfg(feature = "internals")]
pub mod pod_summary;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod pod_summary;
#[cfg(feature = "internals")]
pub mod print;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod print;
#[cfg(feature = "internals")]
pub mod relister;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod relister;
#[cfg(all(feature = "sim", feature = "internals"))]
pub mod scenario;
#[cfg(all(feature = "sim", not(feature = "internals")))]
mod scenario;
#[cfg(feature = "internals")]
pub mod state;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod state;
#[cfg(feature = "internals")]
pub mod supervisor;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod supervisor;
#[cfg(feature = "internals")]
pub mod traces;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod traces;
#[cfg(feature = "internals")]
pub mod version;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod version;

/// Runs the program `plegd` with these arguments.
#[cfg(feature = "daemon")]
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    cli::main(arguments)
}
