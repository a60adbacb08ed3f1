//! What is known to go wrong with the PLEGs of the kubelet and with the streams of the runtimes, rebuilt: the
//! circumstances of each report on the simulated runtime, and what plegd makes of them.
//!
//! A test is named after the first report that it answers to; `tests/README.md` lists all of them with what went wrong.
//!
//! | room | what went wrong |
//! | --- | --- |
//! | `worker` | a pod worker as the kubelet has one, who acts on what he is told |
//! | `duplicates` | stale views made the worker start a second container |
//! | `freshness` | waiting for a newer view took seconds, for ever, or not at all |
//! | `stamps` | wall clocks and their units decided what is newer |
//! | `lost` | changes that were never told |
//! | `stream` | the stream was given up, or took more than itself down |
//! | `load` | slow and hung runtimes, many pods |
//! | `containerd`, `crio` | what the runtimes' streams do to whoever believes them |

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
#[path = "known_failures/stamps.rs"]
mod stamps;
#[path = "known_failures/stream.rs"]
mod stream;
#[path = "known_failures/worker.rs"]
mod worker;

use std::{sync::Arc, time::Duration};

use plegd::{
    app::FreshError,
    config::Config,
    model::{Pod, PodUid},
    sim::{Only, Profile, v1::ContainerEventType},
};
use support::{TestPod, World};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

const STARTED: Only = Only::Kind(ContainerEventType::ContainerStartedEvent);
const STOPPED: Only = Only::Kind(ContainerEventType::ContainerStoppedEvent);

/// A plegd that trusts the stream of such a runtime.
async fn evented(profile: Profile) -> World {
    let roomy = |config: &mut Config| config.journal.events = 1_000_000;
    let mut world = World::after(profile, 1, roomy, |_| ()).await;
    world.until_evented().await;
    world
}

fn uid(pod: &TestPod) -> PodUid {
    pod.spec.uid.as_str().into()
}

/// The pod as it is at or after this moment.
async fn now(world: &World, pod: &TestPod) -> Result<Option<Arc<Pod>>, FreshError> {
    world.app.pod_newer_than(&uid(pod), world.app.clock().now(), MINUTE).await
}

fn last(world: &World, id: &str) -> String {
    world.story(id).pop().unwrap_or_default()
}
