//! The format of a segment.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | `plegdwal` |
//! | 4 | format version, little-endian |
//! | then frames of | |
//! | 4 | length of the payload, little-endian |
//! | 1 | kind |
//! | 4 | CRC-32 of these five bytes |
//! | 4 | CRC-32 of the payload |
//! | length | payload |
//!
//! The length has a checksum of its own, so that an incomplete frame at the end, which a killed process leaves, can be distinguished from a damaged
//! one: only the incomplete frame is a prefix of a valid one.

use std::ops::Range;

const MAGIC: &[u8; 8] = b"plegdwal";
/// The version that is written. Versions from [`OLDEST_VERSION`] on are read.
pub const VERSION: u32 = 1;
const OLDEST_VERSION: u32 = 1;
/// The beginning of a segment.
pub const PREAMBLE: usize = MAGIC.len() + 4;
/// Size of a frame without its payload.
pub const HEADER: usize = 4 + 1 + 4 + 4;
/// The largest payload that is read: a pod with ten thousand containers is smaller. A larger one must not be written.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// The first frame of a segment.
    Header = 1,
    /// A part of a checkpoint.
    Checkpoint = 2,
    /// The checkpoint is complete.
    CheckpointEnd = 3,
    /// A change.
    Append = 4,
    /// An entry that changes no record.
    Note = 5,
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its kind.
    pub kind: FrameKind,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Why a segment cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is no segment.
    #[error("it does not begin like a segment of plegd")]
    Magic,
    /// It is of another version of plegd.
    #[error("its format has version {0}, and this plegd reads {OLDEST_VERSION} to {VERSION}")]
    Version(u32),
    /// A checksum does not match.
    #[error("the frame at byte {0} is damaged")]
    Damaged(usize),
}

/// The frames of a segment, as ranges of its bytes.
#[derive(Debug, Default)]
pub struct Frames {
    /// Kind and payload of each.
    pub frames: Vec<(FrameKind, Range<usize>)>,
    /// Size of an incomplete frame at the end.
    pub torn_bytes: usize,
}

/// Appends the beginning of a segment.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
}

/// Appends a frame whose payload `write` appends.
pub fn push(out: &mut Vec<u8>, kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let payload = &out[at + HEADER..];
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let payload_sum = crc32fast::hash(payload).to_le_bytes();
    out[at..at + 4].copy_from_slice(&length);
    out[at + 4] = kind as u8;
    let sum = crc32fast::hash(&out[at..at + 5]).to_le_bytes();
    out[at + 5..at + 9].copy_from_slice(&sum);
    out[at + 9..at + HEADER].copy_from_slice(&payload_sum);
}

/// The frames of a segment.
///
/// # Errors
///
/// [`FrameError`] if it is damaged. An incomplete frame at the end is no damage.
pub fn parse(segment: &[u8]) -> Result<Frames, FrameError> {
    let mut found = Frames::default();
    let Some(preamble) = segment.get(..PREAMBLE) else {
        let mut whole = Vec::new();
        begin(&mut whole);
        // A prefix of it is what a process leaves that was killed before it had written the first frame.
        return if whole.starts_with(segment) {
            Ok(Frames { torn_bytes: segment.len(), ..found })
        } else {
            Err(FrameError::Magic)
        };
    };
    if !preamble.starts_with(MAGIC) {
        return Err(FrameError::Magic);
    }
    let version = number(&preamble[MAGIC.len()..]);
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(FrameError::Version(version));
    }
    let mut at = PREAMBLE;
    while at < segment.len() {
        match next(&segment[at..]) {
            Some(Ok((kind, length))) => {
                let payload = at + HEADER..at + HEADER + length;
                at = payload.end;
                found.frames.push((kind, payload));
            }
            Some(Err(())) => return Err(FrameError::Damaged(at)),
            None => {
                found.torn_bytes = segment.len() - at;
                break;
            }
        }
    }
    Ok(found)
}

/// Kind and payload length of the frame at the beginning; none if it is incomplete; an error if it is damaged.
fn next(bytes: &[u8]) -> Option<Result<(FrameKind, usize), ()>> {
    let header = bytes.get(..HEADER)?;
    let kind = match header[4] {
        1 => FrameKind::Header,
        2 => FrameKind::Checkpoint,
        3 => FrameKind::CheckpointEnd,
        4 => FrameKind::Append,
        5 => FrameKind::Note,
        _ => return Some(Err(())),
    };
    let length = usize::try_from(number(header)).unwrap_or(usize::MAX);
    if crc32fast::hash(&header[..5]) != number(&header[5..]) || length > MAX_PAYLOAD {
        return Some(Err(()));
    }
    let payload = bytes.get(HEADER..HEADER + length)?;
    Some(if crc32fast::hash(payload) == number(&header[9..]) { Ok((kind, length)) } else { Err(()) })
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Vec<u8> {
        let mut bytes = Vec::new();
        begin(&mut bytes);
        push(&mut bytes, FrameKind::Header, |out| out.extend_from_slice(b"header"));
        push(&mut bytes, FrameKind::CheckpointEnd, |_| {});
        push(&mut bytes, FrameKind::Append, |out| out.extend_from_slice(&[7; 700]));
        bytes
    }

    type Entries = Vec<(FrameKind, Vec<u8>)>;

    fn read(bytes: &[u8]) -> Result<(Entries, usize), FrameError> {
        let found = parse(bytes)?;
        let frames = found.frames.into_iter().map(|(kind, range)| (kind, bytes[range].to_vec()));
        Ok((frames.collect(), found.torn_bytes))
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let (frames, torn) = read(&segment()).unwrap();
        let expected = [
            (FrameKind::Header, b"header".to_vec()),
            (FrameKind::CheckpointEnd, vec![]),
            (FrameKind::Append, vec![7; 700]),
        ];
        assert_eq!((frames, torn), (expected.to_vec(), 0));
    }

    #[test]
    fn a_segment_that_ends_anywhere_has_the_whole_frames_before_that() {
        let (whole, all) = (segment(), read(&segment()).unwrap().0);
        for end in 0..whole.len() {
            let (frames, torn) = read(&whole[..end]).unwrap_or_else(|error| panic!("{end}: {error}"));
            assert_eq!(frames, all[..frames.len()]);
            let used = PREAMBLE * usize::from(end >= PREAMBLE)
                + frames.iter().map(|(_, payload)| HEADER + payload.len()).sum::<usize>();
            assert_eq!(used + torn, end);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = segment();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert!(read(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn another_version_says_which() {
        let mut bytes = segment();
        bytes[8] = 9;
        assert_eq!(read(&bytes), Err(FrameError::Version(9)));
        assert_eq!(read(b"something else entirely"), Err(FrameError::Magic));
    }
}
