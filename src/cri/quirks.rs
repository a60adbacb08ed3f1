//! The differences between runtime versions, as data.
//!
//! The rows are looked up once, with the name and version from `Version`; the rest of plegd queries the set. A
//! runtime without a row gets the most careful set: events are trusted less, and reads are more frequent.

use std::{collections::BTreeSet, fmt};

/// A deviation of a runtime from CRI's promises or from the common behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quirk {
    /// `GetContainerEvents` answers `Unimplemented` (containerd up to 1.6).
    NoEvents,
    /// `GetContainerEvents` ends at once, with OK and without a message, unless `enable_pod_events` is set (CRI-O).
    EventsOffByDefault,
    /// All subscribers share one channel of 1000 events: each event goes to one of them, and a closed stream loses
    /// one more (containerd 1.7, containerd#7318; CRI-O 1.26 and 1.27).
    SharedChannel,
    /// The first subscriber gets events from before its subscription: up to 1000, hours old (containerd 1.7), or all
    /// of the last five minutes (containerd 2.x).
    ReplaysBacklog,
    /// A subscriber that does not read makes the runtime's own calls hang (containerd 2.x, `internal/eventq`).
    SlowSubscriberBlocksRuntime,
    /// A client that disconnects under load can crash the runtime (CRI-O 1.28 to 1.32, cri-o#9004).
    DisconnectMayCrashRuntime,
    /// DELETED of a sandbox is sent before the sandbox is gone, and the call may still fail afterwards (containerd 2.x).
    SandboxDeletedEarly,
    /// DELETED of a container is sent when it stops, while it still exists (CRI-O 1.26 and 1.27.0).
    ContainerDeletedEarly,
    /// Sandboxes are created and removed without an event, and so are containers that are removed with their pod
    /// (CRI-O).
    SilentSandboxes,
    /// DELETED of a sandbox carries no sandbox status (containerd 1.7, containerd#12390).
    NilSandboxStatus,
    /// A sandbox that is being removed shows a `created_at` in the year 1754 (containerd 2.x, containerd#9673).
    ZeroCreatedAt,
    /// The reason of an exit may change from `Error` to `OOMKilled` after the event, without another (containerd
    /// before 2.3).
    LateOomReason,
    /// `PodSandboxStatusResponse.timestamp` is in seconds (CRI-O up to 1.28, 1.29.8, 1.30.5 and 1.31.0).
    StampsInSeconds,
}

/// The quirks of one runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks(BTreeSet<Quirk>);

/// The comparable part of a runtime's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuntimeVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

/// Versions `from` (included) up to `below` (excluded) of a runtime have these quirks.
struct Row {
    runtime: &'static str,
    from: (u32, u32, u32),
    below: (u32, u32, u32),
    quirks: &'static [Quirk],
}

const END: (u32, u32, u32) = (u32::MAX, 0, 0);

/// Rows add up.
const ROWS: &[Row] = {
    use Quirk::*;
    &[
        Row { runtime: "containerd", from: (0, 0, 0), below: (1, 7, 0), quirks: &[NoEvents] },
        Row {
            runtime: "containerd",
            from: (1, 7, 0),
            below: (2, 0, 0),
            quirks: &[SharedChannel, ReplaysBacklog, NilSandboxStatus],
        },
        // 1.7's other CRI server, behind ENABLE_CRI_SANDBOXES, sends it early too; the version does not show which
        // one runs.
        Row {
            runtime: "containerd",
            from: (1, 7, 0),
            below: END,
            quirks: &[SandboxDeletedEarly, ZeroCreatedAt],
        },
        Row {
            runtime: "containerd",
            from: (2, 0, 0),
            below: END,
            quirks: &[ReplaysBacklog, SlowSubscriberBlocksRuntime],
        },
        Row { runtime: "containerd", from: (0, 0, 0), below: (2, 3, 0), quirks: &[LateOomReason] },
        Row { runtime: "cri-o", from: (0, 0, 0), below: (1, 26, 0), quirks: &[NoEvents] },
        Row {
            runtime: "cri-o",
            from: (1, 26, 0),
            below: END,
            quirks: &[EventsOffByDefault, SilentSandboxes],
        },
        Row { runtime: "cri-o", from: (0, 0, 0), below: END, quirks: &[LateOomReason] },
        Row { runtime: "cri-o", from: (1, 26, 0), below: (1, 28, 0), quirks: &[SharedChannel] },
        Row { runtime: "cri-o", from: (1, 28, 0), below: (1, 33, 0), quirks: &[DisconnectMayCrashRuntime] },
        Row { runtime: "cri-o", from: (1, 26, 0), below: (1, 27, 1), quirks: &[ContainerDeletedEarly] },
        Row { runtime: "cri-o", from: (1, 26, 0), below: (1, 29, 0), quirks: &[StampsInSeconds] },
        Row { runtime: "cri-o", from: (1, 29, 0), below: (1, 29, 9), quirks: &[StampsInSeconds] },
        Row { runtime: "cri-o", from: (1, 30, 0), below: (1, 30, 6), quirks: &[StampsInSeconds] },
        Row { runtime: "cri-o", from: (1, 31, 0), below: (1, 31, 1), quirks: &[StampsInSeconds] },
    ]
};

/// The quirks of an unknown runtime: all that require care, except that it has events.
const CAREFUL: &[Quirk] = &[
    Quirk::SharedChannel,
    Quirk::ReplaysBacklog,
    Quirk::SlowSubscriberBlocksRuntime,
    Quirk::DisconnectMayCrashRuntime,
    Quirk::SandboxDeletedEarly,
    Quirk::ContainerDeletedEarly,
    Quirk::SilentSandboxes,
    Quirk::NilSandboxStatus,
    Quirk::ZeroCreatedAt,
    Quirk::LateOomReason,
    Quirk::StampsInSeconds,
];

// === impl Quirks ===

impl Quirks {
    /// The quirks of a runtime, by the name and version of its `Version` answer.
    pub fn of(runtime_name: &str, runtime_version: &str) -> Self {
        let name = runtime_name.to_ascii_lowercase();
        match RuntimeVersion::parse(runtime_version) {
            Some(version) if ROWS.iter().any(|row| row.runtime == name) => Self(
                ROWS.iter()
                    .filter(|row| row.runtime == name && row.covers(version))
                    .flat_map(|row| row.quirks.iter().copied())
                    .collect(),
            ),
            _ => Self::careful(),
        }
    }

    /// The quirks of an unknown runtime.
    pub fn careful() -> Self {
        Self(CAREFUL.iter().copied().collect())
    }

    /// Whether the runtime has this quirk.
    pub fn has(&self, quirk: Quirk) -> bool {
        self.0.contains(&quirk)
    }

    /// The quirks, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Quirk> + '_ {
        self.0.iter().copied()
    }
}

// === impl Quirk ===

impl Quirk {
    /// Its stable name, such as `shared-channel`.
    pub fn as_str(self) -> &'static str {
        match self {
            Quirk::NoEvents => "no-events",
            Quirk::EventsOffByDefault => "events-off-by-default",
            Quirk::SharedChannel => "shared-channel",
            Quirk::ReplaysBacklog => "replays-backlog",
            Quirk::SlowSubscriberBlocksRuntime => "slow-subscriber-blocks-runtime",
            Quirk::DisconnectMayCrashRuntime => "disconnect-may-crash-runtime",
            Quirk::SandboxDeletedEarly => "sandbox-deleted-early",
            Quirk::ContainerDeletedEarly => "container-deleted-early",
            Quirk::SilentSandboxes => "silent-sandboxes",
            Quirk::NilSandboxStatus => "nil-sandbox-status",
            Quirk::ZeroCreatedAt => "zero-created-at",
            Quirk::LateOomReason => "late-oom-reason",
            Quirk::StampsInSeconds => "stamps-in-seconds",
        }
    }

    /// Its effect and plegd's reaction, in one line.
    pub fn summary(self) -> &'static str {
        match self {
            Quirk::NoEvents => "it has no event stream: changes are found by relisting only",
            Quirk::EventsOffByDefault => {
                "it sends events only with enable_pod_events = true in its configuration"
            }
            Quirk::SharedChannel => {
                "subscribers take events from each other: plegd relists at least every 10 s"
            }
            Quirk::ReplaysBacklog => {
                "the first subscriber gets old events: plegd recognizes them by their timestamps"
            }
            Quirk::SlowSubscriberBlocksRuntime => {
                "a subscriber that does not read blocks it: plegd always drains the stream"
            }
            Quirk::DisconnectMayCrashRuntime => {
                "a client that disconnects can crash it: plegd keeps the stream open"
            }
            Quirk::SandboxDeletedEarly => {
                "a sandbox is reported deleted too early: plegd re-reads it after a DELETED event"
            }
            Quirk::ContainerDeletedEarly => {
                "a container is reported deleted when it stops: plegd re-reads it after a DELETED event"
            }
            Quirk::SilentSandboxes => {
                "sandboxes are created and removed without events: plegd reads them after related events"
            }
            Quirk::NilSandboxStatus => {
                "a sandbox's DELETED event has no status: plegd finds the pod by the sandbox id"
            }
            Quirk::ZeroCreatedAt => "a sandbox being removed shows a creation time of 1754: ignored",
            Quirk::LateOomReason => {
                "OOMKilled may be set after the exit was reported: the exit is read again"
            }
            Quirk::StampsInSeconds => "its status stamps are in seconds: not used",
        }
    }
}

// === impl Row ===

impl Row {
    fn covers(&self, version: RuntimeVersion) -> bool {
        let version = (version.major, version.minor, version.patch);
        self.from <= version && version < self.below
    }
}

// === impl RuntimeVersion ===

impl RuntimeVersion {
    /// Reads `v2.1.4`, `2.0.0-rc.1`, `1.7.27-k3s1`, `1.6.20~ds1`; none if it does not begin like a version.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let core = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut parts = core.split('.').map(str::parse);
        let major = parts.next()?.ok()?;
        let minor = parts.next()?.ok()?;
        let patch = parts.next().and_then(Result::ok).unwrap_or(0);
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for RuntimeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_as_runtimes_format_them() {
        for (text, read) in [
            ("v2.1.4", Some("2.1.4")),
            ("2.0.0-rc.1", Some("2.0.0")),
            ("1.7.27-k3s1", Some("1.7.27")),
            ("1.6.20~ds1", Some("1.6.20")),
            ("1.34.0", Some("1.34.0")),
            ("1.34", Some("1.34.0")),
            ("", None),
            ("unknown", None),
            ("v", None),
            ("99999999999.1.1", None),
        ] {
            assert_eq!(RuntimeVersion::parse(text).map(|v| v.to_string()).as_deref(), read, "{text}");
        }
    }

    #[test]
    fn quirks_go_by_name_and_version() {
        let has = |name, version, quirk| Quirks::of(name, version).has(quirk);
        assert!(has("containerd", "1.6.20~ds1", Quirk::NoEvents));
        assert!(!has("containerd", "1.7.24", Quirk::NoEvents));
        assert!(has("containerd", "1.7.24", Quirk::SharedChannel));
        assert!(!has("containerd", "2.1.9", Quirk::SharedChannel));
        assert!(has("containerd", "v2.1.9", Quirk::SandboxDeletedEarly));
        assert!(has("containerd", "2.2.9", Quirk::LateOomReason));
        assert!(!has("containerd", "2.3.0", Quirk::LateOomReason));
        assert!(has("cri-o", "1.27.0", Quirk::ContainerDeletedEarly));
        assert!(!has("cri-o", "1.27.1", Quirk::ContainerDeletedEarly));
        assert!(has("CRI-O", "1.34.0", Quirk::SilentSandboxes));
        assert!(has("cri-o", "1.30.5", Quirk::StampsInSeconds));
        assert!(!has("cri-o", "1.30.6", Quirk::StampsInSeconds));
    }

    #[test]
    fn an_unknown_runtime_is_treated_with_the_most_care() {
        for (name, version) in [("youki-cri", "1.0.0"), ("containerd", "devel"), ("", "")] {
            assert_eq!(Quirks::of(name, version), Quirks::careful());
        }
        assert!(!Quirks::careful().has(Quirk::NoEvents));
        assert!(Quirks::careful().has(Quirk::SharedChannel));
    }
}
