//! Rewrites the authority that gRPC's C core (Python, C++, Ruby, PHP) sends over a UNIX socket.
//!
//! Since 1.57 the C core sends the authority `run%2Fplegd%2Fplegd.sock` to a socket `/run/plegd/plegd.sock` (grpc/grpc#38142). h2 rejects
//! a percent sign in an authority and resets the stream with PROTOCOL_ERROR before a service is called (hyperium/h2#487). plegd does not
//! use the authority of a UNIX socket, so its percent signs are replaced by hyphens. Hyphens have the same length and change nothing in
//! HPACK's tables. All other bytes stay unchanged.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's connection with valid authorities.
pub(super) struct Legible<S> {
    stream: S,
    reading: Reading,
}

/// The bytes before the first frame: `PRI * HTTP/2.0…`.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
/// Frame types.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The name as a HPACK literal, as the C core writes it: its length, then the name without Huffman coding. No plain header value contains
/// it, since none contains a line feed.
const NAME: &[u8] = b"\x0a:authority";

/// The parser's position in the HTTP/2 frames.
#[derive(Clone, Copy, Debug)]
struct Reading {
    place: Place,
    header: Header,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Bytes of the preface still to come.
    Preface(usize),
    /// Bytes of a frame header received so far.
    FrameHeader([u8; FRAME_HEADER_BYTES], usize),
    /// Bytes still to come of a payload with headers.
    Headers(usize),
    /// Bytes still to come of another payload.
    Other(usize),
}

/// The parser's position in a header block.
#[derive(Clone, Copy, Debug)]
enum Header {
    /// Bytes of [`NAME`] matched so far.
    Name(usize),
    /// The length of the value comes next.
    Length,
    /// Another byte of the length comes next. The fields are the length so far and its shift.
    MoreLength(usize, u32),
    /// Bytes of the value still to come.
    Value(usize),
}

/// Rewrites the authorities of a connection, piece by piece.
#[cfg(feature = "internals")]
pub(crate) fn legible<'a>(pieces: impl IntoIterator<Item = &'a mut [u8]>) {
    let mut reading = Reading::new();
    pieces.into_iter().for_each(|piece| reading.read(piece));
}

// === impl Reading ===

impl Reading {
    fn new() -> Self {
        Self { place: Place::Preface(PREFACE_BYTES), header: Header::Name(0) }
    }

    /// Parses `bytes` and replaces percent signs in authorities.
    fn read(&mut self, mut bytes: &mut [u8]) {
        while let Some(first) = bytes.first() {
            let took = match &mut self.place {
                Place::Preface(left) | Place::Other(left) => {
                    let took = bytes.len().min(*left);
                    *left -= took;
                    took
                }
                Place::FrameHeader(header, there) => {
                    header[*there] = *first;
                    *there += 1;
                    1
                }
                Place::Headers(left) => {
                    let took = bytes.len().min(*left);
                    *left -= took;
                    bytes[..took].iter_mut().for_each(|byte| self.header.read(byte));
                    took
                }
            };
            bytes = &mut bytes[took..];
            self.go_on();
        }
    }

    /// Moves to the next state when the current part is complete.
    fn go_on(&mut self) {
        if let Place::FrameHeader([a, b, c, kind, ..], FRAME_HEADER_BYTES) = self.place {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            self.place = match kind {
                HEADERS | CONTINUATION => Place::Headers(length),
                _ => Place::Other(length),
            };
            if kind == HEADERS {
                self.header = Header::Name(0);
            }
        }
        if let Place::Preface(0) | Place::Headers(0) | Place::Other(0) = self.place {
            self.place = Place::FrameHeader([0; FRAME_HEADER_BYTES], 0);
        }
    }
}

// === impl Header ===

impl Header {
    fn read(&mut self, byte: &mut u8) {
        *self = match *self {
            Header::Name(there) if *byte == NAME[there] && there + 1 == NAME.len() => Header::Length,
            Header::Name(there) if *byte == NAME[there] => Header::Name(there + 1),
            // Within the name, only its first byte can start a new match.
            Header::Name(_) => Header::Name(usize::from(*byte == NAME[0])),
            // An integer with a 7-bit prefix. The eighth bit means that the value is Huffman-coded; such a value stays unchanged.
            Header::Length => match *byte {
                0 | 0x80.. => Header::Name(0),
                0x7f => Header::MoreLength(0x7f, 0),
                length => Header::Value(length.into()),
            },
            // The path of a socket needs at most two more bytes.
            Header::MoreLength(_, 14..) => Header::Name(0),
            Header::MoreLength(length, shift) => {
                let length = length + (usize::from(*byte & 0x7f) << shift);
                if *byte & 0x80 == 0 { Header::Value(length) } else { Header::MoreLength(length, shift + 7) }
            }
            Header::Value(left) => {
                if *byte == b'%' {
                    *byte = b'-';
                }
                if left == 1 { Header::Name(0) } else { Header::Value(left - 1) }
            }
        };
    }
}

// === impl Legible ===

impl<S> Legible<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, reading: Reading::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Legible<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.reading.read(&mut buffer.filled_mut()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Legible<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes that grpcio 1.85 sends, with this authority in the header block, after a frame that must stay unchanged.
    fn said(authority: &str) -> Vec<u8> {
        let mut block = b"@\x05:path\x0f/plegd.v1%2F/Get@".to_vec();
        block.extend(NAME);
        match authority.len() {
            length @ ..0x7f => block.push(length as u8),
            length @ ..0xff => block.extend([0x7f, (length - 0x7f) as u8]),
            length => block.extend([0x7f, (length - 0x7f) as u8 | 0x80, ((length - 0x7f) >> 7) as u8]),
        }
        block.extend(authority.as_bytes());
        block.extend(b"@\x01x\x03%2F");
        let frame = |kind: u8, payload: &[u8]| {
            let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
            frame.extend([kind, 4, 0, 0, 0, 1]);
            frame.extend(payload);
            frame
        };
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, b""));
        bytes.extend(frame(0, &[NAME, b"\x03%2F"].concat()));
        // Split within the name, so that it continues in a second frame.
        bytes.extend(frame(HEADERS, &block[..27]));
        bytes.extend(frame(CONTINUATION, &block[27..]));
        bytes.extend(frame(HEADERS, &block));
        bytes
    }

    #[test]
    fn only_the_authority_changes_however_the_bytes_come() {
        for times in [1, 5, 30, 60] {
            let path = "run%2Fplegd".repeat(times);
            let (bytes, expected) = (said(&path), said(&path.replace('%', "-")));
            for size in 1..bytes.len() {
                let (mut read, mut reading) = (bytes.clone(), Reading::new());
                read.chunks_mut(size).for_each(|chunk| reading.read(chunk));
                assert_eq!(read, expected, "{times} times, {size} bytes at once");
            }
        }
    }

    #[test]
    fn what_is_legible_or_no_http_at_all_stays_as_it_is() {
        for bytes in [said("localhost"), said(""), vec![0xff; 4096], b"GET /%2F HTTP/1.1\r\n\r\n".repeat(20)]
        {
            let mut read = bytes.clone();
            Reading::new().read(&mut read);
            assert_eq!(read, bytes);
        }
    }
}
