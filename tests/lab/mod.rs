//! The lab: a real containerd for tests and benchmarks, in private directories, with nothing installed on the machine.
//!
//! | module | content |
//! | --- | --- |
//! | `fetch` | Debian's packages of containerd 1.6, 1.7, 2.x, runc and busybox, unpacked below `target/` |
//! | `image` | the pause image and the test image, built from busybox, without a registry |
//! | `containerd` | one instance in its own directory: start, kill, restart, pause, continue, shut down |
//! | `disk` | a small private disk of an instance, which a test can fill |
//! | `directory` | the directory of an instance, and its shims, mounts, cgroups and sockets |
//! | `pod` | pods and containers, described as the kubelet does |
//! | `client` | a CRI client with the calls that create, start, stop and remove |
//! | `events` | streams of the runtime's events: read and counted, or held open without reading |
//! | `workload` | the loads that tests and benchmarks share |
//! | `history` | the changes that the test's own calls caused, for comparison with the published events |
//! | `follower` | a plegd in the test's process, and every event that it publishes |
//! | `checker` | the order of all events, and the events that a client's history requires |
//! | `churn` | pods that are created and removed by random scenarios, while the runtime fails |
//! | `relay` | a socket between plegd and a runtime, whose connections a test can cut |
//! | `states` | compares the states that plegd serves with the runtime's during churn |
//! | `mirror` | the pods that a client builds from the snapshots and events of a watch |
//! | `truth` | compares plegd's cache with the runtime, field by field |
//!
//! The lab owns every process, mount, cgroup and directory that it creates. It removes them even after a panic (`Drop`), or at
//! the next run after a kill. It never touches a containerd that it did not start, and listens on UNIX sockets only.
//! (containerd itself opens a loopback port for `exec` and `attach`, which is not used.)
//!
//! The lab needs root, a Debian machine (or one with apt and Debian's sources), and Debian's archive the first time.
//!
//! Tests use it with `mod lab;`, benches with `#[path = "../tests/lab/mod.rs"] mod lab;`.

// Each user is its own crate and uses a part.
#![allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
// These tests run in real time, because they wait for real processes. Only `Drop`, which cannot await, sleeps.
#![allow(clippy::disallowed_methods)]

mod checker;
mod churn;
mod client;
mod containerd;
mod directory;
mod disk;
mod events;
mod fetch;
mod follower;
mod history;
mod image;
mod mirror;
mod pod;
mod relay;
mod states;
mod truth;
mod workload;

pub use checker::{OrderChecker, PublishedHistories, is_complete, is_complete_without_start, line, words};
pub use churn::{Churn, ChurnControl, PodScenario};
pub use client::{CallError, Client};
pub use containerd::{Containerd, Version};
pub use directory::{LeftoverScanner, Leftovers};
pub use events::EventStream;
pub use fetch::report;
pub use follower::Follower;
pub use history::{Change, Entry, History};
pub use mirror::Mirror;
pub use pod::{ContainerSpec, Pod};
pub use relay::Relay;
pub use states::{States, state_differences, states_of};
pub use workload::{run_pods, run_short_containers};

/// CRI v1 with the mutating calls.
#[allow(clippy::all, clippy::pedantic, rustdoc::all)]
pub mod cri {
    include!(concat!(env!("OUT_DIR"), "/lab/runtime.v1.rs"));
}

use std::{future::Future, time::Duration};

use anyhow::bail;

/// Limit for anything that a healthy runtime does at once. Long, because the machine may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Polls `condition` until it returns a value. The error at the deadline names `what`.
pub async fn eventually<T, Fut>(
    what: &str,
    deadline: Duration,
    // Not `AsyncFnMut`: with that the compiler does not see that the future is `Send`, and tests spawn it.
    mut condition: impl FnMut() -> Fut,
) -> anyhow::Result<T>
where
    Fut: Future<Output = anyhow::Result<Option<T>>>,
{
    let end = tokio::time::Instant::now() + deadline;
    loop {
        if let Some(found) = condition().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= end {
            bail!("waited {deadline:?} for {what}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The number of successful relists in a daemon's metrics.
pub fn successful_relists(metrics: &str) -> f64 {
    let is_good = |line: &&str| line.starts_with("plegd_relists_total{") && line.contains(r#"result="ok""#);
    let counts = metrics.lines().filter(is_good);
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
