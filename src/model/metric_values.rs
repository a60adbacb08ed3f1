//! Enums that are also values of metric labels.

use std::fmt;

use super::Source;

/// How plegd follows the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Relists alone.
    Polling,
    /// The stream, while relists check whether it misses events.
    Probing,
    /// The stream, with a relist at the longest period.
    Evented,
}

/// Why a container, a sandbox or a pod is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadCause {
    /// A list differs from the records.
    Relist,
    /// Two views cannot be ordered, or contradict each other.
    Undecided,
    /// The payload of an event does not show the change that the event reports.
    Hint,
    /// The reason of an exit may still become `OOMKilled`.
    Oom,
    /// A container was created and not started: its start may have failed.
    Start,
    /// It is being removed, or was removed.
    Deletion,
    /// Its content was read the longest time ago, and may have changed without an event.
    Content,
    /// A client needs a state that is not older than its request.
    Fresh,
}

/// How the arbiter decided about a view. As metric labels, some have older names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The id had no record: taken.
    New,
    /// The id was not in a later list: published as history and not served.
    HistoryOnly,
    /// The view is from before the start of the journal, of an id that has no record: ignored.
    BeforeStart,
    /// Rule 1: older than the record, ignored.
    Stale,
    /// Rule 2: the id was removed, ignored.
    Tombstoned,
    /// Rule 3: a later phase, taken.
    Forward,
    /// The view agrees with the record.
    Same,
    /// Rule 4: the same phase with later content, taken.
    Refreshed,
    /// Rules 4 to 6: a read decides.
    Undecided,
    /// Rule 5: an earlier phase, not taken.
    Backward,
    /// Rule 5: an earlier phase that a second read has confirmed, taken.
    Corrected,
    /// Rule 6: the id is gone.
    Removed,
}

/// The CRI calls that plegd makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `Version`
    Version,
    /// `Status`
    Status,
    /// `ListPodSandbox`
    ListPodSandbox,
    /// `StreamPodSandboxes`
    StreamPodSandboxes,
    /// `PodSandboxStatus`
    PodSandboxStatus,
    /// `ListContainers`
    ListContainers,
    /// `StreamContainers`
    StreamContainers,
    /// `ContainerStatus`
    ContainerStatus,
    /// `GetContainerEvents`
    GetContainerEvents,
}

/// Why a subscriber that resumes after a position has a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResumeGap {
    /// The journal has evicted the events that follow its position: it was disconnected for too long.
    CameLate,
    /// Its position is of another epoch, as after a restart of plegd, or past the head. The subscriber is not the cause.
    OtherEpoch,
}

// === impl Mode ===

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 3] = [Mode::Polling, Mode::Probing, Mode::Evented];

    /// `polling`, `probing` or `evented`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Polling => "polling",
            Mode::Probing => "probing",
            Mode::Evented => "evented",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ReadCause ===

impl ReadCause {
    /// All causes.
    pub const ALL: [ReadCause; 8] = [
        ReadCause::Relist,
        ReadCause::Undecided,
        ReadCause::Hint,
        ReadCause::Oom,
        ReadCause::Start,
        ReadCause::Deletion,
        ReadCause::Content,
        ReadCause::Fresh,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            ReadCause::Relist => "relist",
            ReadCause::Undecided => "undecided",
            ReadCause::Hint => "hint",
            ReadCause::Oom => "oom",
            ReadCause::Start => "start",
            ReadCause::Deletion => "deletion",
            ReadCause::Content => "content",
            ReadCause::Fresh => "fresh",
        }
    }

    /// The source reported for a change that this read detects first.
    pub fn source(self) -> Source {
        match self {
            ReadCause::Relist => Source::Relist,
            _ => Source::Read,
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// All verdicts.
    pub const ALL: [Verdict; 12] = [
        Verdict::New,
        Verdict::HistoryOnly,
        Verdict::BeforeStart,
        Verdict::Stale,
        Verdict::Tombstoned,
        Verdict::Forward,
        Verdict::Same,
        Verdict::Refreshed,
        Verdict::Undecided,
        Verdict::Backward,
        Verdict::Corrected,
        Verdict::Removed,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::New => "new",
            Verdict::HistoryOnly => "history",
            Verdict::BeforeStart => "old",
            Verdict::Stale => "stale",
            Verdict::Tombstoned => "dead",
            Verdict::Forward => "forward",
            Verdict::Same => "same",
            Verdict::Refreshed => "refreshed",
            Verdict::Undecided => "undecided",
            Verdict::Backward => "backward",
            Verdict::Corrected => "corrected",
            Verdict::Removed => "removed",
        }
    }
}

// === impl Method ===

impl Method {
    /// All calls.
    pub const ALL: [Method; 9] = [
        Method::Version,
        Method::Status,
        Method::ListPodSandbox,
        Method::StreamPodSandboxes,
        Method::PodSandboxStatus,
        Method::ListContainers,
        Method::StreamContainers,
        Method::ContainerStatus,
        Method::GetContainerEvents,
    ];

    /// The name in CRI.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Version => "Version",
            Method::Status => "Status",
            Method::ListPodSandbox => "ListPodSandbox",
            Method::StreamPodSandboxes => "StreamPodSandboxes",
            Method::PodSandboxStatus => "PodSandboxStatus",
            Method::ListContainers => "ListContainers",
            Method::StreamContainers => "StreamContainers",
            Method::ContainerStatus => "ContainerStatus",
            Method::GetContainerEvents => "GetContainerEvents",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ResumeGap ===

impl ResumeGap {
    /// All causes.
    pub const ALL: [ResumeGap; 2] = [ResumeGap::CameLate, ResumeGap::OtherEpoch];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            ResumeGap::CameLate => "came_late",
            ResumeGap::OtherEpoch => "other_epoch",
        }
    }
}
