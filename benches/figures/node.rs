//! A containerd with many pods on it that do nothing, as a node at rest has them.

use anyhow::Result;

use super::{lab, progress};

/// It is removed, pods and all, when this is dropped.
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
        let what = format!("starting {pods} pods of {containers_per_pod} containers");
        progress::during(&what, lab::run_pods(&client, pods, containers_per_pod)).await?;
        Ok(Self { containerd, client })
    }
}
