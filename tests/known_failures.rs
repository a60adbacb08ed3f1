//! Known failures of the kubelet's PLEGs and of the runtimes' streams: the circumstances of each public report on the simulated
//! runtime, and the correct outcome with plegd.
//!
//! A test is named after the first report that it reproduces; `tests/README.md` lists all reports and what went wrong.
//!
//! | module | what went wrong |
//! | --- | --- |
//! | `worker` | a pod worker like the kubelet's, used by other modules |
//! | `duplicates` | because of a stale status the worker started a second container |
//! | `freshness` | waiting for a newer status took seconds, never ended, or did not happen |
//! | `timestamps` | wall-clock timestamps and their units decided which status is newer |
//! | `lost` | changes that were never published |
//! | `stream` | plegd's predecessors gave the stream up, or failed with it |
//! | `load` | slow and hung runtimes, many pods |
//! | `containerd`, `crio` | defects of the runtimes' streams |

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

#[path = "known_failures/containerd.rs"]
mod containerd;
#[path = "known_failures/crio.rs"]
mod crio;
#[path = "known_failures/duplicates.rs"]
mod duplicates;
#[path = "known_failures/freshness.rs"]
mod freshness;
#[path = "known_failures/load.rs"]
mod load;
#[path = "known_failures/lost.rs"]
mod lost;
#[path = "known_failures/stream.rs"]
mod stream;
#[path = "known_failures/timestamps.rs"]
mod timestamps;
#[path = "known_failures/worker.rs"]
mod worker;

use std::{sync::Arc, time::Duration};

use plegd::{
    app::FreshError,
    config::Config,
    model::{Pod, PodUid},
    sim::{Only, Profile, v1::ContainerEventType},
};
use support::{Harness, TestPod};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

const STARTED: Only = Only::Kind(ContainerEventType::ContainerStartedEvent);
const STOPPED: Only = Only::Kind(ContainerEventType::ContainerStoppedEvent);

/// A plegd that trusts the stream of this runtime.
async fn evented(profile: Profile) -> Harness {
    let large_journal = |config: &mut Config| config.journal.events = 1_000_000;
    let mut harness = Harness::after(profile, 1, large_journal, |_| ()).await;
    harness.until_evented().await;
    harness
}

fn uid(pod: &TestPod) -> PodUid {
    pod.spec.uid.as_str().into()
}

/// The pod, read at or after this moment.
async fn now(harness: &Harness, pod: &TestPod) -> Result<Option<Arc<Pod>>, FreshError> {
    harness.app.pod_newer_than(&uid(pod), harness.app.clock().now(), MINUTE).await
}

fn last(harness: &Harness, id: &str) -> String {
    harness.history(id).pop().unwrap_or_default()
}
