//! The cases of the kubelet's own PLEG tests, rebuilt for plegd, and cases that these omit.
//!
//! | module | the kubelet's tests |
//! | --- | --- |
//! | `generic` | `pkg/kubelet/pleg/generic_test.go`: lists, reads, health |
//! | `readers` | the same file: read requests and conditions |
//! | `evented` | `pkg/kubelet/pleg/evented_test.go`: the effect of each event, and the reads that it requests |
//! | `stream` | the same file: the watcher and how it stops |
//! | `cache` | `pkg/kubelet/container/cache_test.go` |
//! | `untested` | cases without an upstream test |
//! | `frozen` | one of these, with the binary in real time |
//! | `written` | compares the tables in `tests/README.md` with the sources |
//!
//! Each case is rebuilt from its subject. Where plegd deliberately differs, the table gives the reason.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod binary;
mod support;

#[path = "conformance/cache.rs"]
mod cache;
#[path = "conformance/evented.rs"]
mod evented;
#[path = "conformance/frozen.rs"]
mod frozen;
#[path = "conformance/generic.rs"]
mod generic;
#[path = "conformance/readers.rs"]
mod readers;
#[path = "conformance/stream.rs"]
mod stream;
#[path = "conformance/untested.rs"]
mod untested;
#[path = "conformance/written.rs"]
mod written;

use std::time::Duration;

use plegd::{model::PodUid, sim::Profile};
use support::{Harness, TestPod};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

/// A plegd that has only the list, every second.
fn polling() -> Harness {
    Harness::new(Profile::CONTAINERD_1_6)
}

/// A plegd that trusts its stream and relists once a minute.
async fn evented() -> Harness {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    harness
}

fn uid(pod: &TestPod) -> PodUid {
    pod.spec.uid.as_str().into()
}

/// A container that has ended with code 1.
fn ended(harness: &Harness, pod: &TestPod, name: &str) -> String {
    let id = harness.start(pod, name);
    harness.change(|truth| truth.exit(&id, 1).expect("exit"));
    id
}
