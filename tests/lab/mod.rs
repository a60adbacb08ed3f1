//! The lab: a real containerd for tests and benches, brought up privately, with nothing installed on the machine.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `fetch` | Debian's packages of containerd 1.6, 1.7, 2.x, runc and busybox, unpacked below `target/` |
//! | `image` | the pause image and the test image, made from busybox: there is no registry |
//! | `containerd` | one instance in a folder of its own: start, kill, restart, stop and continue, shut down |
//! | `disk` | a small disk of an instance's own, which can be filled |
//! | `folder` | that folder, and all that an instance leaves behind: shims, mounts, cgroups, sockets |
//! | `pod` | pods and containers as the kubelet would describe them |
//! | `client` | a CRI client with the calls that make, start, stop and remove |
//! | `events` | streams of the runtime's events: read, counted, or held open and not read |
//! | `workload` | the loads that tests and figures share |
//! | `history` | what the test's own calls did, to compare with what plegd tells |
//! | `follower` | a plegd in the test's own process, and all that it tells |
//! | `stories` | what should be told of a life, whether it was, and the order that holds of all that is told |
//! | `churn` | pods that come and go by stories of their own, through whatever befalls the runtime |
//! | `relay` | a socket between plegd and a runtime, whose connections can be cut |
//! | `agreement` | whether plegd and the runtime agree while pods come and go, by the states of all there is |
//! | `mirror` | what a client of plegd makes of a watch, kept by snapshots and events alone |
//! | `truth` | whether plegd's cache is what the runtime says, field by field |
//!
//! It owns every process, mount, cgroup and folder that it makes, and removes them even after a panic (`Drop`) or, at the
//! next run, after a kill. It never touches a containerd that it did not start, and never listens on more than UNIX sockets
//! (containerd itself opens a port on the loopback for `exec` and `attach`, which nobody uses).
//!
//! It needs root, a Debian machine (or one with apt and Debian's sources) and its archive the first time.
//!
//! Tests use it with `mod lab;`, benches with `#[path = "../tests/lab/mod.rs"] mod lab;`.

// Each user is a crate of its own and uses a part.
#![allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
// These tests live in real time: they wait for real processes. Only `Drop`, which cannot await, sleeps.
#![allow(clippy::disallowed_methods)]

mod agreement;
mod churn;
mod client;
mod containerd;
mod disk;
mod events;
mod fetch;
mod folder;
mod follower;
mod history;
mod image;
mod mirror;
mod pod;
mod relay;
mod stories;
mod truth;
mod workload;

pub use agreement::{States, disagreement, states_of};
pub use churn::{Churn, Director, Story};
pub use client::{CallError, Client};
pub use containerd::{Containerd, Version};
pub use events::EventStream;
pub use fetch::report;
pub use folder::{Leftovers, Watcher};
pub use follower::Follower;
pub use history::{Entry, History, What};
pub use mirror::Mirror;
pub use pod::{ContainerSpec, Pod};
pub use relay::Relay;
pub use stories::{Order, Stories, is_told, is_told_without_its_start, line, words};
pub use workload::{run_pods, run_short_lives};

/// CRI v1 with the calls that change something.
#[allow(clippy::all, clippy::pedantic, rustdoc::all)]
pub mod cri {
    include!(concat!(env!("OUT_DIR"), "/lab/runtime.v1.rs"));
}

use std::{future::Future, time::Duration};

use anyhow::bail;

/// How long anything may take that a healthy runtime does at once. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `condition` again and again until it has something to say; an error names `what` was waited for.
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

/// How many relists were complete, by a daemon's metrics.
pub fn good_relists(metrics: &str) -> f64 {
    let is_good = |line: &&str| line.starts_with("plegd_relists_total{") && line.contains(r#"result="ok""#);
    let counts = metrics.lines().filter(is_good);
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
