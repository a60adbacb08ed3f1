//! Words that the rooms and their metrics share: each is also a label, with these values and no others.

use std::fmt;

use super::Source;

/// How plegd follows the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By relisting alone.
    Polling,
    /// By the stream, while relists find out whether it misses anything.
    Probing,
    /// By the stream, with a rare relist.
    Evented,
}

/// Why something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadCause {
    /// A relist found it to differ from the cache.
    Relist,
    /// Two views of it could not be ordered, or contradict each other.
    Undecided,
    /// An event says that something happened which its payload does not show.
    Hint,
    /// Its exit may yet turn out to be an OOM kill.
    Oom,
    /// It was made and never started, which may mean that its start failed.
    Start,
    /// It is said to be going, or to be gone.
    Deletion,
    /// Its content was read longest ago, and may have changed without an event.
    Content,
    /// A reader wants a state that is not older than its request.
    Fresh,
}

/// What became of a view, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// Never seen before: taken.
    New,
    /// Of something that a later list did not have any more: told, but not served.
    History,
    /// From before the journal began, of something that is not there any more: nothing.
    Old,
    /// Rule 1.
    Stale,
    /// Rule 2.
    Dead,
    /// Rule 3.
    Forward,
    /// It says what is held.
    Same,
    /// Rule 4, taken.
    Refreshed,
    /// Rules 4 to 6, left to a read.
    Undecided,
    /// Rule 5, not applied.
    Backward,
    /// Rule 5, applied after a second read.
    Corrected,
    /// Rule 6.
    Removed,
}

/// The calls that plegd makes.
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
    /// The events that follow its position have left the journal: it was disconnected for too long.
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

    /// The cause as a metric's label.
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

    /// The path to which a change is put down that such a read finds first.
    pub fn source(self) -> Source {
        match self {
            ReadCause::Relist => Source::Relist,
            _ => Source::Read,
        }
    }
}

// === impl Ruling ===

impl Ruling {
    /// All of them.
    pub const ALL: [Ruling; 12] = [
        Ruling::New,
        Ruling::History,
        Ruling::Old,
        Ruling::Stale,
        Ruling::Dead,
        Ruling::Forward,
        Ruling::Same,
        Ruling::Refreshed,
        Ruling::Undecided,
        Ruling::Backward,
        Ruling::Corrected,
        Ruling::Removed,
    ];

    /// The ruling as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Ruling::New => "new",
            Ruling::History => "history",
            Ruling::Old => "old",
            Ruling::Stale => "stale",
            Ruling::Dead => "dead",
            Ruling::Forward => "forward",
            Ruling::Same => "same",
            Ruling::Refreshed => "refreshed",
            Ruling::Undecided => "undecided",
            Ruling::Backward => "backward",
            Ruling::Corrected => "corrected",
            Ruling::Removed => "removed",
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

    /// CRI's name of it.
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

    /// The cause as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            ResumeGap::CameLate => "came_late",
            ResumeGap::OtherEpoch => "other_epoch",
        }
    }
}
