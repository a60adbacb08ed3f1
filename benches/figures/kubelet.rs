//! The kubelet's values for comparison: the PLEG of Kubernetes 1.32 with containerd 2.1.9 on a machine with two
//! cores. They were measured once, elsewhere; this bench does not measure them.

/// The note below the table.
pub(crate) const NOTE: &str = "kubelet's: PLEG of Kubernetes 1.32 on containerd 2.1.9, quoted, not measured here; \
                               G is Generic at 1 s, E is Evented. Its CPU was taken over 30 s and is doubled here.";

pub(crate) const STARTS: &str = "G 5, E 44";
pub(crate) const DEATHS: &str = "G 14, E 44";
pub(crate) const STARTS_AFTER_RESTART: &str = "E 1";
pub(crate) const DEATHS_AFTER_RESTART: &str = "E 10";
pub(crate) const CPU_EVENTED: &str = "E 0.00 s";
pub(crate) const CPU_POLLING: &str = "G 0.32 s";
pub(crate) const MEMORY_EVENTED: &str = "E 59 MB";
pub(crate) const MEMORY_POLLING: &str = "G 66 MB";
pub(crate) const CONTAINERD_ALONE: &str = "0.36 s";
pub(crate) const CONTAINERD_EVENTED: &str = "E 0.36 s";
pub(crate) const CONTAINERD_POLLING: &str = "G 0.92 s";
