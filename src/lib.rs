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
//! Each layer uses those below it.
//!
//! | layer | module | purpose | must not |
//! | --- | --- | --- | --- |
//! | programs | [`cli`] | parses the command line; one module for each verb | hold what other modules need |
//! | | [`daemon`] | wires the running daemon: servers, log, traces, systemd, reload, signals | decide anything |
//! | | [`scenario`] | scenario files: format, player on the simulated runtime, checks, recorder | start a plegd |
//! | | [`print`] | events, tables and JSON for people and programs | block a task that others wait for |
//! | serving | [`api`] | the pod lifecycle API over gRPC, and who may call it | reach past cache, journal and watch |
//! | | [`http`] | metrics and health over HTTP | know what else is served |
//! | | [`page`] | the page for a browser | show more than the metrics do |
//! | composition | [`app`] | builds, joins and stops the parts | have rules |
//! | following | [`supervisor`] | when to relist; the mode machine | decode anything |
//! | | [`relister`] | lists, compares, reads what differs; targeted reads with retries | write the cache |
//! | | [`evented`] | holds the stream; applies its events behind a queue | await anything but the stream while it holds it |
//! | | [`fresh`] | pods that are not older than a moment | serve older ones |
//! | | [`watch`] | a snapshot and what follows for one subscriber: filters, gaps, bookmarks | queue anything, know gRPC |
//! | deciding | [`arbiter`] | the rules, and the records that they change; the only writer | call the runtime |
//! | | [`path_comparison`] | compares both paths: which was first, by how much, what the stream missed | change what is published |
//! | holding | [`cache`] | the pods as readers see them, and the pod of each id | be written by anybody but the arbiter |
//! | | [`journal`] | numbered events in a bounded ring, cursors | know gRPC |
//! | ground | [`model`] | pods, containers, phases, ids, lifecycle events: plain data | know protobuf or tokio |
//! | | [`clock`] | monotonic and wall time, steps of the wall clock | be bypassed |
//! | | [`cri`] | generated CRI code, the read-only client, endpoints, quirks by version, conversion | leak generated types |
//! | | [`config`] | defaults, file, environment, flags, and which of it is in force | be changed once it is given out |
//! | | [`live`] | a value that can change while plegd runs | know what it is a value of |
//! | | [`metrics`] | every metric, with bounded labels | know cache or journal |
//! | | [`traces`] | spans of relists and calls, with the feature `otlp` | cost anything without it |
//! | | [`health`] | liveness and readiness as named checks | depend on the runtime for liveness |
//! | | [`v1`] | messages and clients of the API, generated | change an existing field |
//! | | [`error_info`] | details of gRPC errors | |
//! | | [`pod_summary`] | a pod in one row, as kubectl shows it | |
//! | | [`accept`] | connections of a server: counted, and ended in time | |
//! | | `printable` | text from outside, made safe for terminals, JSON and YAML | know where it is printed |
//! | beside | [`client`] | the client of the API, for agents: calls, and a watch that resumes by itself | know the daemon's parts |
//! | | [`sim`] | a simulated CRI runtime: truth, server, faults | be used by `plegd run` |
//!
//! # Embedding
//!
//! [`app::App::builder`] follows a runtime inside another program: [`app::App::cache`] reads, [`app::App::watch`] subscribes,
//! [`app::App::fresh`] waits for fresh state, and [`api::grpc::Grpc::embedded`] serves it all to others. See
//! `examples/embedded.rs`.
//!
//! A program beside a running plegd uses [`client`] instead, and needs neither root nor the runtime's socket. See the other
//! files in `examples/`.

// The one place where locks and maps are changed for those of a scheduler that tries interleavings.
#[cfg(feature = "shuttle")]
extern crate shuttle_dashmap as dashmap;
#[cfg(feature = "shuttle")]
extern crate shuttle_parking_lot as parking_lot;

pub mod accept;
pub mod api;
pub mod app;
pub mod arbiter;
#[doc(hidden)]
pub mod benching;
pub mod cache;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod cri;
pub mod daemon;
pub mod error_info;
pub mod evented;
pub mod fresh;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod http;
pub mod journal;
pub mod live;
pub mod metrics;
pub mod model;
pub mod page;
pub mod path_comparison;
pub mod pod_summary;
pub mod print;
mod printable;
pub mod relister;
pub mod scenario;
#[cfg(all(test, feature = "shuttle"))]
mod schedules;
pub mod sim;
mod socket_path;
pub mod supervisor;
pub mod traces;
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1;
pub mod version;
pub mod watch;
