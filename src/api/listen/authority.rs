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

/// A client's connection. Its authorities are rewritten as they are read.
pub(super) struct AuthorityFix<S> {
    stream: S,
    parser: Parser,
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

/// Parses HTTP/2 frames, in chunks of any size.
#[derive(Clone, Copy, Debug)]
struct Parser {
    frame: FrameState,
    header: HeaderState,
}

/// The parser's position in the frames.
#[derive(Clone, Copy, Debug)]
enum FrameState {
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
enum HeaderState {
    /// Bytes of [`NAME`] matched so far.
    Name(usize),
    /// The length of the value comes next.
    Length,
    /// Another byte of the length comes next. The fields are the length so far and its shift.
    MoreLength(usize, u32),
    /// Bytes of the value still to come.
    Value(usize),
}

/// Rewrites the authorities in the bytes of a connection, chunk by chunk.
#[cfg(feature = "internals")]
pub(crate) fn sanitize_authorities<'a>(chunks: impl IntoIterator<Item = &'a mut [u8]>) {
    let mut parser = Parser::new();
    chunks.into_iter().for_each(|chunk| parser.read(chunk));
}

// === impl Parser ===

impl Parser {
    fn new() -> Self {
        Self { frame: FrameState::Preface(PREFACE_BYTES), header: HeaderState::Name(0) }
    }

    /// Parses `bytes` and replaces percent signs in authorities.
    fn read(&mut self, mut bytes: &mut [u8]) {
        while let Some(first) = bytes.first() {
            let consumed = match &mut self.frame {
                FrameState::Preface(left) | FrameState::Other(left) => {
                    let consumed = bytes.len().min(*left);
                    *left -= consumed;
                    consumed
                }
                FrameState::FrameHeader(header, filled) => {
                    header[*filled] = *first;
                    *filled += 1;
                    1
                }
                FrameState::Headers(left) => {
                    let consumed = bytes.len().min(*left);
                    *left -= consumed;
                    bytes[..consumed].iter_mut().for_each(|byte| self.header.read(byte));
                    consumed
                }
            };
            bytes = &mut bytes[consumed..];
            self.advance();
        }
    }

    /// Moves to the next state when the current part is complete.
    fn advance(&mut self) {
        if let FrameState::FrameHeader([a, b, c, kind, ..], FRAME_HEADER_BYTES) = self.frame {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            self.frame = match kind {
                HEADERS | CONTINUATION => FrameState::Headers(length),
                _ => FrameState::Other(length),
            };
            if kind == HEADERS {
                self.header = HeaderState::Name(0);
            }
        }
        if let FrameState::Preface(0) | FrameState::Headers(0) | FrameState::Other(0) = self.frame {
            self.frame = FrameState::FrameHeader([0; FRAME_HEADER_BYTES], 0);
        }
    }
}

// === impl HeaderState ===

impl HeaderState {
    fn read(&mut self, byte: &mut u8) {
        *self = match *self {
            HeaderState::Name(matched) if *byte == NAME[matched] && matched + 1 == NAME.len() => {
                HeaderState::Length
            }
            HeaderState::Name(matched) if *byte == NAME[matched] => HeaderState::Name(matched + 1),
            // Within the name, only its first byte can start a new match.
            HeaderState::Name(_) => HeaderState::Name(usize::from(*byte == NAME[0])),
            // An integer with a 7-bit prefix. The eighth bit means that the value is Huffman-coded; such a value stays unchanged.
            HeaderState::Length => match *byte {
                0 | 0x80.. => HeaderState::Name(0),
                0x7f => HeaderState::MoreLength(0x7f, 0),
                length => HeaderState::Value(length.into()),
            },
            // The path of a socket needs at most two more bytes.
            HeaderState::MoreLength(_, 14..) => HeaderState::Name(0),
            HeaderState::MoreLength(length, shift) => {
                let length = length + (usize::from(*byte & 0x7f) << shift);
                if *byte & 0x80 == 0 {
                    HeaderState::Value(length)
                } else {
                    HeaderState::MoreLength(length, shift + 7)
                }
            }
            HeaderState::Value(left) => {
                if *byte == b'%' {
                    *byte = b'-';
                }
                if left == 1 { HeaderState::Name(0) } else { HeaderState::Value(left - 1) }
            }
        };
    }
}

// === impl AuthorityFix ===

impl<S> AuthorityFix<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, parser: Parser::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AuthorityFix<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.parser.read(&mut buffer.filled_mut()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AuthorityFix<S> {
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
    fn request_with(authority: &str) -> Vec<u8> {
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
    fn only_the_authority_changes_whatever_the_chunk_size() {
        for times in [1, 5, 30, 60] {
            let path = "run%2Fplegd".repeat(times);
            let (bytes, expected) = (request_with(&path), request_with(&path.replace('%', "-")));
            for size in 1..bytes.len() {
                let (mut read, mut parser) = (bytes.clone(), Parser::new());
                read.chunks_mut(size).for_each(|chunk| parser.read(chunk));
                assert_eq!(read, expected, "{times} times, {size} bytes at once");
            }
        }
    }

    #[test]
    fn valid_authorities_and_other_protocols_stay_unchanged() {
        let http1 = b"GET /%2F HTTP/1.1\r\n\r\n".repeat(20);
        for bytes in [request_with("localhost"), request_with(""), vec![0xff; 4096], http1] {
            let mut read = bytes.clone();
            Parser::new().read(&mut read);
            assert_eq!(read, bytes);
        }
    }
}
