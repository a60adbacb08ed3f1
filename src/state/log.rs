//! The log: segments `<number of the first event>-<count>.wal`, of which the newest is written.
//!
//! A segment begins with a header and a checkpoint, so that it alone restores everything; older ones hold earlier events. Changes and the
//! parts of a checkpoint may alternate, so that a checkpoint stops nothing. Older segments are deleted once the checkpoint is complete.

use std::{collections::VecDeque, io};

use super::{
    frame::{self, Frame, FrameError, FrameKind, Frames},
    storage::Storage,
};

/// A segment is followed by a new one when so many bytes have been added after its checkpoint; a larger checkpoint allows as many bytes as
/// it has itself.
const ROTATE_AFTER: u64 = 4 << 20;
/// How many segments are kept: a restart begins one, however small the last one is.
const MAX_SEGMENTS: usize = 8;
const SUFFIX: &str = ".wal";
const SET_ASIDE: &str = ".wal.damaged";

/// The log, for writing.
pub struct Log {
    storage: Box<dyn Storage>,
    max_bytes: u64,
    segments: VecDeque<Segment>,
    /// Size of the checkpoint of the newest segment; none while it is written.
    checkpoint_bytes: Option<u64>,
    /// Segments are left that must not be loaded, since one of them could not be deleted.
    discard_pending: bool,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    name: String,
    bytes: u64,
}

/// The frames of a log that was read.
#[derive(Debug, Default)]
pub struct Loaded {
    segments: Vec<(Vec<u8>, Frames)>,
    /// Size of a newest segment without a whole frame, which is deleted.
    removed_bytes: usize,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {name}: {error}")]
    Read {
        /// The file, or nothing for the directory.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// A segment is damaged.
    #[error("{name}: {error}")]
    Damaged {
        /// The segment.
        name: String,
        /// Why.
        error: FrameError,
    },
    /// A segment that is not the newest has no header.
    #[error("{name} is empty")]
    Empty {
        /// The segment.
        name: String,
    },
    /// The newest segment has no header and cannot be deleted.
    #[error("cannot delete {name}, which is empty: {error}")]
    Remove {
        /// The segment.
        name: String,
        /// Why.
        error: io::Error,
    },
}

// === impl Log ===

impl Log {
    /// Opens a log and reads what an earlier process has written. Nothing can be appended before [`Log::begin_segment`].
    pub fn open(storage: Box<dyn Storage>, max_bytes: u64) -> (Self, Result<Loaded, LoadError>) {
        let buffer = Vec::new();
        let segments = VecDeque::new();
        let mut log =
            Self { storage, max_bytes, segments, checkpoint_bytes: None, discard_pending: false, buffer };
        let loaded = log.load();
        (log, loaded)
    }

    fn load(&mut self) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::default();
        let names = self.names(SUFFIX).map_err(|error| LoadError::Read { name: String::new(), error })?;
        for (at, name) in names.iter().enumerate() {
            let is_newest = at + 1 == names.len();
            let bytes =
                self.storage.read(name).map_err(|error| LoadError::Read { name: name.clone(), error })?;
            let parsed =
                frame::parse(&bytes).map_err(|error| LoadError::Damaged { name: name.clone(), error })?;
            match parsed.frames.first() {
                Some((FrameKind::Header, _)) => {
                    self.segments.push_back(Segment { name: name.clone(), bytes: bytes.len() as u64 });
                    loaded.segments.push((bytes, parsed));
                }
                // The process was killed before it had written the first frame. The segment is deleted now: behind a newer one it would
                // count as damage.
                None if is_newest => {
                    let removed = self.storage.remove(name);
                    removed.map_err(|error| LoadError::Remove { name: name.clone(), error })?;
                    loaded.removed_bytes = bytes.len();
                }
                _ => return Err(LoadError::Empty { name: name.clone() }),
            }
        }
        Ok(loaded)
    }

    /// Begins a new segment, with a checkpoint that is to be written.
    ///
    /// # Errors
    ///
    /// If the file cannot be created or written, or segments that [`Log::discard`] has left cannot be deleted.
    pub fn begin_segment(
        &mut self,
        first_sequence: u64,
        header: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        if self.discard_pending {
            self.discard()?;
        }
        // A segment without events is followed by one with the same number.
        let same = |name: &String| self.segments.iter().any(|segment| segment.name == *name);
        let names = (0..=u32::MAX).map(|nth| format!("{first_sequence:020}-{nth:010}{SUFFIX}"));
        let after = |name: &String| self.segments.back().is_none_or(|newest| newest.name < *name);
        let Some(name) = names.into_iter().find(|name| !same(name) && after(name)) else {
            return Err(io::Error::other("there is no name left for a segment"));
        };
        self.storage.create(&name)?;
        self.segments.push_back(Segment { name, bytes: 0 });
        self.checkpoint_bytes = None;
        self.buffer.clear();
        frame::begin(&mut self.buffer);
        self.write_frame(FrameKind::Header, header)
    }

    /// Appends a frame to the newest segment, in one write.
    ///
    /// # Errors
    ///
    /// If it cannot be written as a whole. Then the log must be discarded.
    pub fn append(&mut self, kind: FrameKind, payload: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.buffer.clear();
        self.write_frame(kind, payload)
    }

    /// Ends the checkpoint of the newest segment, and deletes the oldest segments past the limits.
    ///
    /// # Errors
    ///
    /// If that cannot be written, or a segment cannot be deleted.
    pub fn finish_checkpoint(&mut self) -> io::Result<()> {
        self.append(FrameKind::CheckpointEnd, |_| {})?;
        self.checkpoint_bytes = self.segments.back().map(|segment| segment.bytes);
        while self.segments.len() > 1 && (self.bytes() > self.max_bytes || self.segments.len() > MAX_SEGMENTS)
        {
            let Some(oldest) = self.segments.front() else { break };
            self.storage.remove(&oldest.name)?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Whether a new segment should be begun.
    pub fn is_rotation_due(&self) -> bool {
        let (Some(checkpoint), Some(newest)) = (self.checkpoint_bytes, self.segments.back()) else {
            return false;
        };
        newest.bytes - checkpoint > checkpoint.max(ROTATE_AFTER.min(self.max_bytes / 4))
    }

    /// Size of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Deletes all segments, so that none can be loaded later.
    ///
    /// # Errors
    ///
    /// If one cannot be deleted; the others are. [`Log::begin_segment`] then tries again first.
    pub fn discard(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        self.checkpoint_bytes = None;
        self.segments.clear();
        self.discard_pending = true;
        for name in self.names(SUFFIX)? {
            if let Err(error) = self.storage.remove(&name) {
                result = Err(error);
            }
        }
        self.discard_pending = result.is_err();
        result
    }

    /// Renames all segments, so that they are not loaded and can be examined. Those that were set aside before are deleted.
    ///
    /// # Errors
    ///
    /// If one can neither be renamed nor deleted.
    pub fn set_aside(&mut self) -> io::Result<()> {
        for name in self.names(SET_ASIDE)? {
            self.storage.remove(&name)?;
        }
        self.segments.clear();
        for name in self.names(SUFFIX)? {
            let aside = format!("{}{SET_ASIDE}", name.trim_end_matches(SUFFIX));
            if self.storage.rename(&name, &aside).is_err() {
                self.storage.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Writes the buffer and a frame after it.
    fn write_frame(&mut self, kind: FrameKind, payload: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let at = self.buffer.len();
        frame::push(&mut self.buffer, kind, payload);
        if self.buffer.len() - at > frame::HEADER + frame::MAX_PAYLOAD {
            let error = "an entry of the state is larger than 16 MiB";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        self.storage.write(&self.buffer)?;
        if let Some(newest) = self.segments.back_mut() {
            newest.bytes += self.buffer.len() as u64;
        }
        Ok(())
    }

    /// The segments with this ending, the oldest first. Other files are left alone.
    fn names(&mut self, ending: &str) -> io::Result<Vec<String>> {
        let is_segment = |name: &String| is_segment(name.strip_suffix(ending).unwrap_or_default());
        let mut names: Vec<_> = self.storage.names()?.into_iter().filter(is_segment).collect();
        names.sort();
        Ok(names)
    }
}

/// Whether a name without its ending is one that [`Log::begin_segment`] gives.
fn is_segment(name: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(first, nth)| digits(first, 20) && digits(nth, 10))
}

// === impl Loaded ===

impl Loaded {
    /// The frames of a file for a reboot.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if it is damaged. An incomplete frame is damage too: the file was synced before it got its name.
    pub fn of_file(bytes: Vec<u8>) -> Result<Self, FrameError> {
        let frames = frame::parse(&bytes)?;
        if frames.torn_bytes > 0 || frames.frames.is_empty() {
            return Err(FrameError::Damaged(bytes.len() - frames.torn_bytes));
        }
        Ok(Self { segments: vec![(bytes, frames)], removed_bytes: 0 })
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// All frames, in order.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.segments.iter().flat_map(|(bytes, found)| {
            found.frames.iter().map(|(kind, range)| Frame { kind: *kind, payload: &bytes[range.clone()] })
        })
    }

    /// Size of the incomplete frames at the ends of segments.
    pub fn torn_bytes(&self) -> usize {
        self.removed_bytes + self.segments.iter().map(|(_, found)| found.torn_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
