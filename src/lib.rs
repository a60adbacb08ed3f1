//! plegd follows the pods of a Kubernetes node: a hybrid of the kubelet's evented and generic PLEG, as a service.
//!
//! It receives the event stream of the CRI runtime and lists all pods periodically. It merges both into one cache of pod
//! statuses, and delivers each change exactly once and in order to any number of subscribers.
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
//! Data flows in one direction: sources never write the cache, the arbiter never calls the runtime, and a subscriber cannot
//! slow down anything before the journal.
//!
//! # Modules
//!
//! Each layer uses only its own modules and those of lower layers. The public modules are [`app`], [`watch`], [`model`], [`client`], [`v1`], [`serve`] and [`sim`].
//!
//! | layer | module | purpose | must not |
//! | --- | --- | --- | --- |
//! | programs | `cli` | parses the command line; one module per verb | have code that other modules use |
//! | | `daemon` | wires the daemon: servers, log, traces, systemd, reload, signals | decide anything |
//! | | `scenario` | scenario files: format, player on the simulated runtime, checks, recorder | start a daemon |
//! | | `print` | prints events, tables and JSON | block a task that other tasks wait for |
//! | serving | `api` | the pod lifecycle API over gRPC, and access control | access more than cache, journal and watch |
//! | | `http` | metrics and health over HTTP | depend on other servers |
//! | | `page` | the web page | show more than the metrics do |
//! | | [`serve`] | the API for a program that embeds an app | |
//! | composition | [`app`] | builds, joins and stops the parts | have rules |
//! | detection | `supervisor` | when to relist; the state machine of the mode | decode anything |
//! | | `relister` | lists pods, and reads those that differ; reads on request, with retries | write the cache |
//! | | `evented` | receives the event stream; applies its events behind a queue | await anything but the stream while it receives |
//! | | `fresh` | reads of pods that are newer than a given time | return older ones |
//! | | [`watch`] | a snapshot and the following events for one subscriber: filters, gaps, bookmarks | queue anything, know gRPC |
//! | arbitration | `arbiter` | the rules and the state that they change; the only writer of the cache | call the runtime |
//! | | `path_comparison` | compares both detection paths: first source, lead, missed events | change what is published |
//! | storage | `cache` | the served pods, and the pod of each id | be written by other modules than the arbiter |
//! | | `journal` | numbered events in a bounded ring, cursors | know gRPC |
//! | | `state` | the state on disk: a write-ahead log, exact or absent | interpret its records |
//! | foundation | [`model`] | pods, containers, phases, ids, lifecycle events: plain data | know protobuf or tokio |
//! | | `clock` | monotonic and wall time, steps of the wall clock | be bypassed |
//! | | `cri` | generated CRI code, the read-only client, endpoints, quirks by version, conversion | leak generated types |
//! | | `config` | defaults, file, environment, flags, and the effective configuration | change a configuration after its creation |
//! | | `live` | a value that can change while plegd runs | know the meaning of the value |
//! | | `metrics` | every metric, with bounded labels | know cache or journal |
//! | | `traces` | spans of relists and calls, with the feature `otlp` | have a cost without it |
//! | | `health` | liveness and readiness as named checks | depend on the runtime for liveness |
//! | | [`v1`] | messages and clients of the API, generated | change an existing field |
//! | | `error_info` | details of gRPC errors | |
//! | | `pod_summary` | a pod in one row, as kubectl shows it | |
//! | | `accept` | connections of a server: count and shutdown timeout | |
//! | | `printable` | escapes text from outside for terminals, JSON and YAML | know where the text is printed |
//! | standalone | [`client`] | the client of the API, for agents: calls, and a watch that resumes automatically | use modules of the daemon |
//! | | [`sim`] | a simulated CRI runtime: truth, server, faults | be used by `plegd run` |
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `client` | [`client`] and [`v1`], for agents |
//! | `daemon` (default) | the program `plegd`, [`app`], [`watch`] and [`serve`] |
//! | `sim` (default) | [`sim`], and the verbs `demo`, `record` and `replay` |
//! | `otlp` | traces for OpenTelemetry |
//! | `internals` | makes all modules public, for the tests, benchmarks and fuzz targets of this repository; without any stability guarantee |
//!
//! # Embedding
//!
//! [`app::App::builder`] follows a runtime inside another program: [`app::App::cache`] reads, [`app::App::watch`] subscribes,
//! [`app::App::fresh`] waits for fresh state, and [`serve::Grpc::embedded`] serves the API to other programs. See
//! `examples/embedded.rs`.
//!
//! A program beside a running plegd uses [`client`] instead, and needs neither root nor the runtime's socket. See the other
//! files in `examples/`.

#![cfg_attr(not(feature = "internals"), allow(unreachable_pub))]
#![cfg_attr(feature = "internals", allow(missing_docs))]
// Some code of the daemon is used only by the simulation. With the default features, there is no dead code.
#![cfg_attr(not(feature = "sim"), allow(dead_code, unused_imports))]

// With the feature `shuttle`, locks and maps are replaced by those of a scheduler that tests interleavings.
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

// Modules that are always private.
#[cfg(feature = "daemon")]
mod printable;
#[cfg(all(test, feature = "shuttle"))]
mod schedules;
#[cfg(feature = "client")]
mod socket_path;

// With the feature `internals`, the other modules are public for the tests, benchmarks and fuzz targets of this repository.
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
