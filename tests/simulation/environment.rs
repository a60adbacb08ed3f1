//! The properties of the node, constant during a plan.

use std::time::Duration;

use plegd::{
    cri::quirks::Quirks,
    sim::{Profile, profile::Events},
};

/// Deviations from a normal node; by default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The drift of the wall clock in parts per million.
    pub drift_ppm: i64,
    /// The duration of the network setup of a sandbox.
    pub network_setup: Duration,
    /// Hours by which the clocks of containers in odd-numbered pods are ahead: they run in virtual machines.
    pub guest_hours: i64,
    /// How many pods, from the first one on, are created without the kubelet's labels.
    pub by_hand: usize,
    /// Whether the first two pods share one UID, and keep it when they are created again.
    pub same_uid: bool,
    /// Another version that the runtime reports: an unknown one, or one with more quirks.
    pub unknown_version: Option<&'static str>,
    /// The duration of each PodSandboxStatus call.
    pub slow_status: Duration,
    /// The queue length from which plegd strips event payloads.
    pub queue: Option<usize>,
    /// A label selector of all subscribers.
    pub selector: Option<&'static str>,
    /// Whether plegd keeps its state on disk.
    pub state: bool,
    /// The size of the queue from which plegd strips event payloads.
    pub queue_bytes: Option<usize>,
    /// The number of tombstones that plegd keeps.
    pub tombstones: Option<usize>,
}

/// Some of these labels change while a pod runs.
const SELECTORS: [&str; 6] = [
    "tier",
    "!tier",
    "tier in (1,2,3)",
    "tier!=2",
    "tier notin (1,4),app.kubernetes.io/name",
    "io.kubernetes.pod.name=pod-0",
];

// === impl Environment ===

impl Environment {
    /// The environment of a seed: mostly normal.
    pub fn any(rng: &mut fastrand::Rng) -> Self {
        let mut seldom = |one_in: u32| rng.u32(..one_in) == 0;
        let (drifts, slow, guests, by_hand, same_uid) =
            (seldom(5), seldom(6), seldom(6), seldom(6), seldom(8));
        Self {
            drift_ppm: if drifts { [500, -500, 300][rng.usize(..3)] } else { 0 },
            network_setup: if slow { Duration::from_secs(2) } else { Duration::ZERO },
            guest_hours: if guests { [5, -3][rng.usize(..2)] } else { 0 },
            by_hand: if by_hand { rng.usize(1..4) } else { 0 },
            same_uid,
            ..Self::default()
        }
    }

    /// Rare deviations.
    pub fn differ(&mut self, profile: &Profile, rng: &mut fastrand::Rng) {
        if rng.u32(..12) == 0 {
            self.unknown_version = Some(["devel", "", "unknown"][rng.usize(..3)]);
        }
        if rng.u32(..12) == 0 {
            self.slow_status = Duration::from_millis(rng.u64(60..120));
        }
        if rng.u32(..16) == 0 && !matches!(profile.events, Events::Shared { .. }) {
            self.queue = Some(rng.usize(1..6));
        }
        if rng.u32(..12) == 0 {
            self.selector = Some(SELECTORS[rng.usize(..SELECTORS.len())]);
        }
    }

    /// Whether the queue may overflow.
    pub fn has_small_queue(&self) -> bool {
        self.queue.is_some() || self.queue_bytes.is_some()
    }

    /// Small limits, and the version of a runtime with more quirks. `keeps_time` is whether all timestamps are right.
    pub fn limit(&mut self, profile: &Profile, keeps_time: bool, rng: &mut fastrand::Rng) {
        if rng.u32(..3) == 0 && !matches!(profile.events, Events::Shared { .. }) {
            self.queue_bytes = Some(rng.usize(400..8000));
        }
        // Without a tombstone, only its timestamp shows that an event is old.
        if rng.u32(..2) == 0 && keeps_time {
            self.tombstones = Some(rng.usize(1..16));
        }
        if rng.u32(..3) == 0 && self.unknown_version.is_none() {
            self.unknown_version = rng.choice(versions_with_more_quirks(profile));
        }
    }

    /// Environments with fewer deviations, to try in turn.
    pub fn simpler(&self) -> Vec<Self> {
        let plain = Self::default();
        let simpler = vec![
            plain.clone(),
            Self { state: self.state, ..plain.clone() },
            Self { drift_ppm: 0, ..self.clone() },
            Self { network_setup: Duration::ZERO, ..self.clone() },
            Self { guest_hours: 0, ..self.clone() },
            Self { by_hand: 0, ..self.clone() },
            Self { same_uid: false, ..self.clone() },
            Self { unknown_version: None, ..self.clone() },
            Self { slow_status: Duration::ZERO, ..self.clone() },
            Self { queue: None, ..self.clone() },
            Self { selector: None, ..self.clone() },
            Self { state: false, ..self.clone() },
            Self { queue_bytes: None, ..self.clone() },
            Self { tombstones: None, ..self.clone() },
        ];
        simpler.into_iter().filter(|it| it != self).collect()
    }
}

/// Versions of the same runtime that have all quirks of this one, and more. plegd cannot know of a quirk that a version should not have.
fn versions_with_more_quirks(profile: &Profile) -> Vec<&'static str> {
    let quirks = |it: &Profile| Quirks::of(it.runtime_name, it.runtime_version);
    let own = quirks(profile);
    let has_more = |it: &Profile| quirks(it) != own && own.iter().all(|quirk| quirks(it).has(quirk));
    let others =
        Profile::ALL.into_iter().filter(|it| it.runtime_name == profile.runtime_name && has_more(it));
    others.map(|it| it.runtime_version).collect()
}
