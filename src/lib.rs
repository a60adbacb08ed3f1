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
//! One way only: sources never touch the cache, the arbiter never calls the runtime, and no subscriber slows anything
//! before the journal.
//!
//! # Rooms
//!
//! | room | what lives there | what it must not do |
//! | --- | --- | --- |
//! | [`app`] | builds and joins the parts, takes them apart again | hold rules |
//! | [`model`] | pods, containers, phases, ids, lifecycle events: plain data | know protobuf or tokio |
//! | `printable` | text from outside, made safe for terminals, JSON and YAML | know where it is printed |
//! | [`clock`] | monotonic and wall time, steps of the wall clock | be bypassed |
//! | [`cri`] | generated CRI code, the read-only client, endpoints, quirks by version, conversion | leak generated types |
//! | [`evented`] | holds the stream and hands over what comes | await anything but the stream |
//! | [`relister`] | lists, compares, reads what differs; targeted reads with retries | write the cache |
//! | [`arbiter`] | the rules as pure functions, and the shell that applies them under the pod's lock | do I/O, read clocks |
//! | [`cache`] | what is held of each pod, the index of ids, tombstones | hold a guard across an await |
//! | [`fresh`] | pods that are not older than a moment | serve what is older |
//! | [`journal`] | numbered events in a bounded ring, cursors | know gRPC |
//! | [`watch`] | a snapshot and what follows, for one subscriber: filters, gaps, bookmarks | queue anything, know gRPC |
//! | [`ledger`] | compares both paths: who was first, by how much, what the stream missed | change what is told |
//! | [`supervisor`] | when to relist, the mode machine | decode anything |
//! | [`metrics`] | every metric, bounded labels | know cache or journal |
//! | [`traces`] | spans of relists and calls for OpenTelemetry, with the feature `otlp` | cost anything without it |
//! | [`health`] | liveness and readiness as named checks | depend on the runtime for liveness |
//! | [`systemd`] | tells the service manager that plegd serves, makes progress, ends | decide what progress is |
//! | [`api`] | what is served over gRPC and HTTP, and to whom | reach past cache, journal and watch |
//! | [`config`] | defaults, file, environment, flags, and which of it is in force | be changed once it is given out |
//! | [`reload`] | reads the configuration again, and notices when to | stop anything |
//! | [`client`] | the client of the API, for node agents: calls, and a watch that resumes by itself | know the daemon's parts |
//! | [`cli`] | parses the command line, calls [`app`] | hold logic |
//! | [`scenario`] | scenario files: their format, a player on the simulated runtime, checks, and a recorder of real ones | start a plegd |
//! | [`sim`] | a simulated CRI runtime: truth, server, faults | be used by `plegd run` |
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
pub mod evented;
pub mod fresh;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod journal;
pub mod path_comparison;
pub mod metrics;
pub mod model;
mod printable;
pub mod relister;
pub mod reload;
pub mod scenario;
#[cfg(all(test, feature = "shuttle"))]
mod schedules;
pub mod sim;
mod socket_path;
pub mod supervisor;
pub mod systemd;
pub mod traces;
pub mod version;
pub mod watch;
