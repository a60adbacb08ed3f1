//! Decides at the start whether plegd continues the epoch of an earlier process.
//!
//! | found | decision |
//! | --- | --- |
//! | a log of this boot and endpoint | continue; the log may end in an incomplete entry, which no subscriber has seen |
//! | no log, and a file for a reboot | continue: the relist publishes what has changed since |
//! | a log of an earlier boot, and a file for a reboot that is as new | continue from the file |
//! | a log of an earlier boot alone | new epoch: the end of the log may not have reached the disk |
//! | a log of another `runtime.endpoint` | new epoch: its containers are those of another runtime |
//! | a log that is damaged, or of an unknown version | new epoch; the log is set aside |
//! | a log of another runtime at the same endpoint | continue: the relist finds that the old containers are gone |
//!
//! A new epoch never reuses a sequence number of the old one, and each subscriber that resumes gets a gap.

use std::sync::Arc;

use super::{RestoreError, Restored};
use crate::{
    clock::{Clock, Wall},
    health::Note,
    metrics::Metrics,
    state::{Loaded, Log, PersistentFile, StatePlace, StateWriter, messages},
};

/// How plegd begins.
pub struct Beginning {
    /// The epoch.
    pub epoch: u64,
    /// The records of the earlier process; none in a new epoch.
    pub restored: Option<Restored>,
    /// Writes the state; none if no state is kept.
    pub writer: Option<StateWriter>,
}

/// Why an earlier state is not used.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Load(#[from] crate::state::log::LoadError),
    #[error(transparent)]
    Frame(#[from] crate::state::frame::FrameError),
    #[error(transparent)]
    Replay(#[from] RestoreError),
    #[error("it was written in an earlier boot of the machine, and its end may be missing")]
    Boot,
    #[error("it belongs to runtime.endpoint {0:?}")]
    Endpoint(String),
}

// === impl Beginning ===

impl Beginning {
    /// A new epoch without state on disk.
    pub fn without_state(why: impl Into<String>, clock: &Clock, metrics: &Metrics, note: &Note) -> Self {
        note.set_failed(why);
        metrics.persistence.began(clock.wall(), 0, false);
        Self { epoch: fastrand::u64(1..), restored: None, writer: None }
    }

    /// Reads the state, and decides.
    pub fn of(place: StatePlace, clock: &Clock, metrics: &Arc<Metrics>, note: Note) -> Self {
        let file = place.persistent.as_ref().and_then(take);
        let storage = match place.storage {
            Ok(storage) => storage,
            Err(error) => {
                metrics.persistence.errors.inc();
                tracing::warn!(%error, "No state is kept on disk: after a restart subscribers get a gap.");
                return Self::without_state(format!("not kept: {error}"), clock, metrics, &note);
            }
        };
        let (mut log, loaded) = Log::open(storage, place.max_bytes);
        let this = Instance { boot_id: place.boot_id, endpoint: place.endpoint, clock };
        let found = this.choose(loaded, file, metrics);
        let is_ready = match &found {
            Ok(Some((_, Origin::Log))) => Ok(()),
            Ok(_) => log.discard(),
            Err(refusal) => {
                metrics.persistence.damaged.inc();
                tracing::warn!(
                    error = %refusal,
                    "The saved state is not used: a new epoch begins, and subscribers get a gap. The old state is kept as *.damaged in \
                     state.directory."
                );
                log.set_aside()
            }
        };
        if let Err(error) = is_ready {
            metrics.persistence.errors.inc();
            tracing::warn!(
                %error,
                "The old state cannot be moved away, so that none is kept: empty state.directory, and start plegd again."
            );
            let why = format!("not kept: the old state cannot be moved away: {error}");
            return Self::without_state(why, clock, metrics, &note);
        }
        match &found {
            Ok(Some(_)) => note.set_ok("written; this process continues the epoch of an earlier one"),
            Ok(None) => note.set_ok("written; a new epoch"),
            Err(refusal) => {
                note.set_ok(format!("written; a new epoch, because the old state was not used: {refusal}"))
            }
        }
        let restored = found.ok().flatten().map(|(restored, _)| restored);
        this.begin(log, restored, place.persistent, metrics, note)
    }
}

/// This process.
struct Instance<'a> {
    boot_id: String,
    endpoint: String,
    clock: &'a Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Log,
    File,
}

// === impl Instance ===

impl Instance<'_> {
    fn choose(
        &self,
        loaded: Result<Loaded, crate::state::log::LoadError>,
        file: Option<Loaded>,
        metrics: &Metrics,
    ) -> Result<Option<(Restored, Origin)>, Refusal> {
        let loaded = loaded?;
        let file = || {
            let restored = self.replay(file.as_ref()?);
            restored.inspect_err(|error| tracing::warn!(%error, "The state for a reboot is not used.")).ok()
        };
        metrics.persistence.torn_bytes.inc_by(loaded.torn_bytes() as u64);
        if loaded.is_empty() {
            return Ok(file().map(|restored| (restored, Origin::File)));
        }
        match self.replay(&loaded) {
            // The process was killed before it had published anything.
            Err(Refusal::Replay(RestoreError::NoCheckpoint)) => Ok(None),
            Err(refusal) => Err(refusal),
            Ok(of_log) if of_log.is_of_boot(&self.boot_id) => Ok(Some((of_log, Origin::Log))),
            Ok(of_log) => match file() {
                Some(of_file) if of_file.continues(&of_log) => Ok(Some((of_file, Origin::File))),
                _ => Err(Refusal::Boot),
            },
        }
    }

    fn replay(&self, loaded: &Loaded) -> Result<Restored, Refusal> {
        let restored = Restored::replay(loaded.frames(), &self.boot_id, self.clock)?;
        if restored.endpoint() != self.endpoint {
            return Err(Refusal::Endpoint(restored.endpoint().to_owned()));
        }
        Ok(restored)
    }

    fn begin(
        self,
        log: Log,
        restored: Option<Restored>,
        persistent: Option<PersistentFile>,
        metrics: &Arc<Metrics>,
        note: Note,
    ) -> Beginning {
        let identity = match &restored {
            Some(restored) => restored.next_identity(self.boot_id, self.endpoint),
            None => messages::Header {
                boot_id: self.boot_id,
                endpoint: self.endpoint,
                began_at: self.clock.wall().as_nanos(),
                ..messages::Header::default()
            },
        };
        let began_at = Wall::from_nanos(identity.began_at);
        metrics.persistence.began(began_at, identity.restarts, restored.is_some());
        let epoch = restored.as_ref().map_or_else(|| fastrand::u64(1..), Restored::epoch);
        let writer = Some(StateWriter::new(log, identity, persistent, metrics.clone(), note));
        Beginning { epoch, restored, writer }
    }
}

/// The contents of the file for a reboot, which is deleted.
fn take(file: &PersistentFile) -> Option<Loaded> {
    let loaded = match file.take() {
        Ok(contents) => Loaded::of_file(contents?).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    loaded.inspect_err(|error| tracing::warn!(%error, "The state for a reboot is not used.")).ok()
}
