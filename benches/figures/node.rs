//! A containerd with many idle pods.

use anyhow::Result;

use super::{lab, progress};

/// Removed with its pods on drop.
pub(crate) struct Node {
    pub(crate) containerd: lab::Containerd,
    pub(crate) client: lab::Client,
}

// === impl Node ===

impl Node {
    pub(crate) async fn populate(
        containerd: lab::Containerd,
        pods: usize,
        containers_per_pod: usize,
    ) -> Result<Self> {
        let client = containerd.client()?;
        let what = format!("starting {pods} pods with {containers_per_pod} containers each");
        progress::during(&what, lab::run_pods(&client, pods, containers_per_pod)).await?;
        Ok(Self { containerd, client })
    }
}
