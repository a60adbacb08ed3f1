//! The differences between runtime versions, as data.
//!
//! Owns the list of simulated runtimes. The rules that read it are in [`super::truth`], [`super::events`] and
//! [`super::server`]; none of them depends on a name or a version.

use std::time::Duration;

/// The behaviour of one runtime version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name that [`Profile::named`] looks up.
    pub name: &'static str,
    /// `runtime_name` of Version.
    pub runtime_name: &'static str,
    /// `runtime_version` of Version.
    pub runtime_version: &'static str,
    /// How GetContainerEvents behaves.
    pub events: Events,
    /// Whether a sandbox's CREATED is sent. CRI-O builds it before the sandbox counts as created and so drops it.
    pub sandbox_created: SandboxCreated,
    /// When a sandbox's DELETED is sent.
    pub sandbox_deleted: SandboxDeleted,
    /// Whether an event is sent whose sandbox is no longer in the store.
    pub without_sandbox: WithoutSandbox,
    /// Which containers an event's `containers_statuses` lists.
    pub statuses: Statuses,
    /// Whether PodSandboxStatus sets `timestamp` and `containers_statuses`.
    pub status_timestamp: StatusTimestamp,
    /// Whether containers that are removed with their sandbox send a DELETED each.
    pub removed_with_pod: RemovedWithPod,
    /// Whether StopContainer sends a DELETED for the container, which still exists (CRI-O 1.26 and 1.27.0).
    pub stop_container: StopContainer,
    /// How many STOPPED a stopped sandbox sends: CRI-O 1.26 with an infra container sends it from two places.
    pub sandbox_stopped_events: u8,
    /// When the reason of an OOM-killed container becomes OOMKilled.
    pub oom_reason: OomReason,
    /// Items in a batch of StreamPodSandboxes and StreamContainers; `None` where these are not implemented.
    pub stream_batch: Option<usize>,
    /// The answer to calls while the runtime recovers.
    pub starting: Starting,
    /// Whether statuses have an info map although `verbose` is not set (containerd from 2.3 on).
    pub unrequested_info: bool,
    /// Whether RemoveContainer of an unknown id is an error (CRI-O 1.26) instead of a success.
    pub remove_unknown_is_not_found: bool,
    /// The error texts of a NotFound.
    pub error_texts: ErrorTexts,
}

/// How GetContainerEvents behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Not implemented: the call fails.
    Unimplemented,
    /// Switched off: the stream ends at once, with OK and without events (cri-o#7164).
    EndAtOnce,
    /// One channel for all subscribers: each event goes to one of them. Nobody needs to read: the channel keeps the
    /// oldest events and drops the newest when it is full (containerd#7318).
    Shared {
        /// Slots of the channel.
        capacity: usize,
    },
    /// Every subscriber has a channel; a full one blocks the queue and with it the life-cycle calls. Without a
    /// subscriber, all events are kept up to a maximum age for the first subscriber (containerd's `internal/eventq`).
    Blocking {
        /// Slots of a subscriber's channel.
        capacity: usize,
        /// How long events are kept while there is no subscriber.
        retention: Duration,
    },
    /// One channel, read by a task that sends each event to every subscriber in turn; the newest events are dropped
    /// when the channel is full. The task starts with the first subscriber.
    Broadcast {
        /// Slots of the channel.
        capacity: usize,
        /// The effect of a client that leaves under load.
        departure: Departure,
    },
}

/// The effect of a client of the broadcaster that leaves under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// A second event before the client's handler is gone makes CRI-O panic (cri-o#9004; 1.28 to 1.32).
    Panics,
    /// Nothing (from 1.33 on).
    Harmless,
}

/// Whether a sandbox's CREATED is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxCreated {
    /// Yes, with the sandbox READY.
    Sent,
    /// Never.
    Skipped,
}

/// When a sandbox's DELETED is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxDeleted {
    /// After the sandbox has left the store, so without a status.
    AfterDeletion,
    /// While it is still in the store, with a `created_at` in the year 1754: the sandbox controller has deleted its
    /// record.
    BeforeDeletion,
}

/// Whether an event is sent whose sandbox is no longer in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutSandbox {
    /// It is sent with `pod_sandbox_status` unset (containerd).
    NilStatus,
    /// It is not sent (CRI-O).
    NoEvent,
}

/// Which containers an event's `containers_statuses` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// Those of the sandbox (containerd).
    OfSandbox,
    /// Those labelled with the pod's UID, in any sandbox (CRI-O).
    OfPodUid,
}

/// What PodSandboxStatus sets in `timestamp`, and whether it fills `containers_statuses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusTimestamp {
    /// Neither is set (containerd; CRI-O with events off).
    Absent,
    /// Both, the time in nanoseconds.
    Nanoseconds,
    /// The time in nanoseconds, without statuses (containerd 2.0.0 to 2.0.2, containerd#10728).
    WithoutStatuses,
    /// Both, the time in seconds: CRI-O up to 1.28, 1.29.8, 1.30.5 and 1.31.0 (cri-o#8582).
    Seconds,
}

/// Whether containers that are removed with their sandbox send a DELETED each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedWithPod {
    /// Yes (containerd).
    Signalled,
    /// No (CRI-O).
    Silent,
}

/// The event of StopContainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopContainer {
    /// No event of its own; the exit sends STOPPED.
    Nothing,
    /// A DELETED, although the container still exists.
    Deleted,
}

/// When the reason of an OOM-killed container becomes OOMKilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomReason {
    /// Before the STOPPED event.
    AtOnce,
    /// This long after the exit, without an event; until then the reason is `Error`.
    After(Duration),
}

/// The answer to calls while the runtime recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starting {
    /// Code Unknown, "server is not initialized yet" (containerd up to 1.7).
    Unknown,
    /// Code Unavailable, the same text (containerd from 2.0 on).
    Unavailable,
    /// The socket opens after recovery (CRI-O).
    NoSocket,
}

/// The error texts of a NotFound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorTexts {
    /// containerd's.
    Containerd,
    /// CRI-O's.
    CriO,
}

// === impl Profile ===

impl Profile {
    /// containerd 1.6: no events.
    pub const CONTAINERD_1_6: Self = Self {
        name: "containerd-1.6",
        runtime_version: "1.6.39",
        events: Events::Unimplemented,
        ..Self::CONTAINERD_1_7
    };

    /// containerd 1.7: one channel that subscribers share.
    pub const CONTAINERD_1_7: Self = Self {
        name: "containerd-1.7",
        runtime_name: "containerd",
        runtime_version: "1.7.29",
        events: Events::Shared { capacity: 1000 },
        sandbox_created: SandboxCreated::Sent,
        sandbox_deleted: SandboxDeleted::AfterDeletion,
        without_sandbox: WithoutSandbox::NilStatus,
        statuses: Statuses::OfSandbox,
        status_timestamp: StatusTimestamp::Absent,
        removed_with_pod: RemovedWithPod::Signalled,
        stop_container: StopContainer::Nothing,
        sandbox_stopped_events: 1,
        oom_reason: OomReason::After(Duration::from_millis(300)),
        stream_batch: None,
        starting: Starting::Unknown,
        unrequested_info: false,
        remove_unknown_is_not_found: false,
        error_texts: ErrorTexts::Containerd,
    };

    /// containerd 2.1: a channel per subscriber, and a publish that blocks.
    pub const CONTAINERD_2_1: Self = Self {
        name: "containerd-2.1",
        runtime_version: "v2.1.9",
        events: Events::Blocking { capacity: 100, retention: Duration::from_secs(300) },
        sandbox_deleted: SandboxDeleted::BeforeDeletion,
        starting: Starting::Unavailable,
        ..Self::CONTAINERD_1_7
    };

    /// containerd 2.3: as 2.1, but the exit's event already says OOMKilled.
    pub const CONTAINERD_2_3: Self = Self {
        name: "containerd-2.3",
        runtime_version: "v2.3.4",
        oom_reason: OomReason::AtOnce,
        unrequested_info: true,
        ..Self::CONTAINERD_2_1
    };

    /// containerd 2.4: as 2.3, with streamed lists.
    pub const CONTAINERD_2_4: Self = Self {
        name: "containerd-2.4",
        runtime_version: "v2.4.0-beta.0",
        stream_batch: Some(5000),
        ..Self::CONTAINERD_2_3
    };

    /// CRI-O 1.26 with events on: one channel that subscribers share, and DELETED on StopContainer.
    pub const CRI_O_1_26: Self = Self {
        name: "cri-o-1.26",
        runtime_version: "1.26.4",
        events: Events::Shared { capacity: 1000 },
        stop_container: StopContainer::Deleted,
        sandbox_stopped_events: 2,
        remove_unknown_is_not_found: true,
        ..Self::CRI_O_1_28
    };

    /// CRI-O 1.28 with events on: a broadcaster, timestamps in seconds.
    pub const CRI_O_1_28: Self = Self {
        name: "cri-o-1.28",
        runtime_name: "cri-o",
        runtime_version: "1.28.11",
        events: Events::Broadcast { capacity: 1000, departure: Departure::Panics },
        sandbox_created: SandboxCreated::Skipped,
        // After the deletion there is no sandbox, and without one CRI-O sends no event: no client receives this
        // DELETED.
        sandbox_deleted: SandboxDeleted::AfterDeletion,
        without_sandbox: WithoutSandbox::NoEvent,
        statuses: Statuses::OfPodUid,
        status_timestamp: StatusTimestamp::Seconds,
        removed_with_pod: RemovedWithPod::Silent,
        stop_container: StopContainer::Nothing,
        sandbox_stopped_events: 1,
        oom_reason: OomReason::AtOnce,
        stream_batch: None,
        starting: Starting::NoSocket,
        unrequested_info: false,
        remove_unknown_is_not_found: false,
        error_texts: ErrorTexts::CriO,
    };

    /// CRI-O 1.31 with events on: timestamps in nanoseconds.
    pub const CRI_O_1_31: Self = Self {
        name: "cri-o-1.31",
        runtime_version: "1.31.3",
        status_timestamp: StatusTimestamp::Nanoseconds,
        ..Self::CRI_O_1_28
    };

    /// CRI-O 1.34 with events on: a client that leaves does no harm.
    pub const CRI_O_1_34: Self = Self {
        name: "cri-o-1.34",
        runtime_version: "1.34.0",
        events: Events::Broadcast { capacity: 1000, departure: Departure::Harmless },
        ..Self::CRI_O_1_31
    };

    /// CRI-O 1.31 with its default configuration: events off.
    pub const CRI_O_1_31_EVENTS_OFF: Self = Self {
        name: "cri-o-1.31-events-off",
        events: Events::EndAtOnce,
        status_timestamp: StatusTimestamp::Absent,
        ..Self::CRI_O_1_31
    };

    /// Every simulated runtime.
    pub const ALL: [Self; 10] = [
        Self::CONTAINERD_1_6,
        Self::CONTAINERD_1_7,
        Self::CONTAINERD_2_1,
        Self::CONTAINERD_2_3,
        Self::CONTAINERD_2_4,
        Self::CRI_O_1_26,
        Self::CRI_O_1_28,
        Self::CRI_O_1_31,
        Self::CRI_O_1_34,
        Self::CRI_O_1_31_EVENTS_OFF,
    ];

    /// The profile with that name, such as `containerd-2.1`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_by_its_own_name() {
        for profile in Profile::ALL {
            assert_eq!(Profile::named(profile.name), Some(profile));
        }
        assert_eq!(Profile::named("docker"), None);
    }
}
