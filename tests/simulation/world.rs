//! What a node is like from the beginning to the end of a plan.

use std::time::Duration;

use plegd::sim::{Profile, profile::Events};

/// What differs from a node as it should be; by default nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// By how many parts of a million the wall clock is fast, for it is slewed.
    pub drift_ppm: i64,
    /// How long the network of a sandbox takes before that is ready.
    pub network_setup: Duration,
    /// How many hours the clocks of containers in pods of an odd number are ahead: they run in virtual machines.
    pub guest_hours: i64,
    /// How many pods, from the first one on, are made by hand: without the kubelet's labels.
    pub by_hand: usize,
    /// Whether the first two pods have one UID, which they keep when they are made again.
    pub same_uid: bool,
    /// The version that the runtime reports, if that is none that is known.
    pub unknown_version: Option<&'static str>,
    /// How long the runtime takes for each status of a sandbox.
    pub slow_status: Duration,
    /// How many events plegd lets wait before it cuts them down.
    pub queue: Option<usize>,
    /// By which labels subscribers choose pods, if by other ones than usual.
    pub selector: Option<&'static str>,
}

/// Some of the labels are changed while a pod runs.
const SELECTORS: [&str; 6] = [
    "tier",
    "!tier",
    "tier in (1,2,3)",
    "tier!=2",
    "tier notin (1,4),app.kubernetes.io/name",
    "io.kubernetes.pod.name=pod-0",
];

// === impl World ===

impl World {
    /// The world of a seed: mostly nothing differs.
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

    /// What differs in few worlds.
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

    /// Worlds that differ less, to be tried in turn.
    pub fn simpler(&self) -> Vec<Self> {
        let plain = Self::default();
        let simpler = vec![
            plain.clone(),
            Self { drift_ppm: 0, ..self.clone() },
            Self { network_setup: Duration::ZERO, ..self.clone() },
            Self { guest_hours: 0, ..self.clone() },
            Self { by_hand: 0, ..self.clone() },
            Self { same_uid: false, ..self.clone() },
            Self { unknown_version: None, ..self.clone() },
            Self { slow_status: Duration::ZERO, ..self.clone() },
            Self { queue: None, ..self.clone() },
            Self { selector: None, ..self.clone() },
        ];
        simpler.into_iter().filter(|it| it != self).collect()
    }
}
