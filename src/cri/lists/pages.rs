//! The answer to a list call, cut into pages while it arrives.
//!
//! gRPC decodes a message once it is complete, and the list of a large node is one message of tens of megabytes. All
//! fields of this message are repeated, so any part that ends after a field is a message too, and the parts decode to
//! the same items as the whole. Therefore the body is passed on as messages of about [`PAGE`] bytes: each is decoded
//! while the next one arrives, and only one is in memory. All pages share one buffer, which is free again when its
//! page was taken.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use tonic::Status;

use crate::cri::client::undecodable;

/// Minimum size of a page in bytes, except for the last one of a message.
const PAGE: usize = 32 << 10;
/// Size of gRPC's message header: a compression flag, and the length in four bytes.
const HEADER: usize = 5;
const NO_FIELD: &str = "a list that contains something other than fields";

/// A body whose messages are cut into pages.
#[derive(Debug)]
pub(super) struct Pages<B> {
    body: B,
    limit: usize,
    /// Bytes received.
    received: usize,
    state: State,
    /// Bytes received and not passed on.
    held: BytesMut,
    /// Headers and pages to pass on next.
    cut: VecDeque<Bytes>,
    /// Whether the trailers were received, after which nothing follows.
    over: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A header comes next.
    Between,
    Within {
        /// Bytes of the message that are in no page yet.
        left: usize,
        /// Bytes at their front that are complete fields.
        whole: usize,
    },
    /// Passes everything on unchanged; tonic decides.
    PassThrough,
}

/// The first field in an incomplete buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// A field of this length, complete or not.
    Field(usize),
    /// Too short to decide.
    Short,
    /// No field, or one that no list has.
    Invalid,
}

// === impl Pages ===

impl<B> Pages<B> {
    /// `limit` is the maximum size of an answer in bytes, in one message or many. A single message that is longer is
    /// passed on for tonic
    /// to reject.
    pub(super) fn of(body: B, limit: usize) -> Self {
        let (held, cut) = (BytesMut::new(), VecDeque::new());
        Self { body, limit, received: 0, state: State::Between, held, cut, over: false }
    }

    /// Adds received bytes.
    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        self.held.extend_from_slice(data);
        self.cut()?;
        self.received = self.received.saturating_add(data.len());
        let passes_through = matches!(self.state, State::PassThrough);
        if self.received > self.limit + HEADER && !passes_through {
            Err(undecodable(format_args!("a list of more than {} bytes", self.limit)))
        } else {
            Ok(())
        }
    }

    /// Cuts the held bytes into pages, as far as possible.
    fn cut(&mut self) -> Result<(), Status> {
        loop {
            match self.state {
                State::PassThrough if self.held.is_empty() => return Ok(()),
                State::PassThrough => self.cut.push_back(self.held.split().freeze()),
                State::Between if self.held.len() < HEADER => return Ok(()),
                State::Between => {
                    let mut header = &self.held[..HEADER];
                    let (compressed, left) = (header.get_u8() != 0, header.get_u32() as usize);
                    self.state = if compressed || left > self.limit {
                        State::PassThrough
                    } else {
                        self.held.advance(HEADER);
                        State::Within { left, whole: 0 }
                    };
                }
                State::Within { left, whole } => {
                    let whole = whole_fields(&self.held, left, whole)?;
                    if whole < left && whole < PAGE {
                        self.state = State::Within { left, whole };
                        return Ok(());
                    }
                    self.cut.extend([header(whole), self.held.split_to(whole).freeze()]);
                    self.state = match left - whole {
                        0 => State::Between,
                        left => State::Within { left, whole: 0 },
                    };
                }
            }
        }
    }

    /// Checks that the body does not end inside a message.
    fn end(&self) -> Result<(), Status> {
        match self.state {
            State::Between if !self.held.is_empty() => Err(cut_short()),
            State::Within { .. } => Err(cut_short()),
            _ => Ok(()),
        }
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Pages<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(page) = self.cut.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(page))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(self.end().err().map(Err)),
            };
            match frame.into_data() {
                Ok(data) => self.take(&data)?,
                // An error of the runtime says more than the early end of its answer.
                Err(trailers) => {
                    let whole = if failed(&trailers) { Ok(()) } else { self.end() };
                    self.over = true;
                    return Poll::Ready(Some(whole.map(|()| trailers)));
                }
            }
        }
    }
}

/// Whether trailers say that the call failed.
fn failed(trailers: &Frame<Bytes>) -> bool {
    let status = trailers.trailers_ref().and_then(Status::from_header_map);
    status.is_some_and(|status| status.code() != tonic::Code::Ok)
}

/// How many of the held bytes are complete fields of a message with `left` bytes. `whole` of them are known to be.
fn whole_fields(held: &[u8], left: usize, mut whole: usize) -> Result<usize, Status> {
    let there = held.len().min(left);
    while whole < there && whole < PAGE {
        match front(&held[whole..there]) {
            Front::Field(length) if length > left - whole => return Err(undecodable(NO_FIELD)),
            Front::Field(length) if length > there - whole => break,
            Front::Field(length) => whole += length,
            Front::Short if there == left => return Err(undecodable(NO_FIELD)),
            Front::Short => break,
            Front::Invalid => return Err(undecodable(NO_FIELD)),
        }
    }
    Ok(whole)
}

fn header(page: usize) -> Bytes {
    let [a, b, c, d] = u32::try_from(page).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::copy_from_slice(&[0, a, b, c, d])
}

fn front(bytes: &[u8]) -> Front {
    let (key, after) = match varint(bytes) {
        Ok(Some((key, after))) => (key, after),
        Ok(None) => return Front::Short,
        Err(invalid) => return invalid,
    };
    let rest = &bytes[after..];
    let length = match key & 7 {
        0 => match varint(rest) {
            Ok(Some((_, length))) => Some(length),
            Ok(None) => return Front::Short,
            Err(invalid) => return invalid,
        },
        1 => Some(8),
        2 => match varint(rest) {
            Ok(Some((length, before))) => usize::try_from(length).ok().and_then(|it| it.checked_add(before)),
            Ok(None) => return Front::Short,
            Err(invalid) => return invalid,
        },
        5 => Some(4),
        _ => None,
    };
    length.and_then(|length| length.checked_add(after)).map_or(Front::Invalid, Front::Field)
}

/// The varint at the front and its length; none if it is incomplete.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Front> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((number, at + 1)));
        }
    }
    if bytes.len() < 10 { Ok(None) } else { Err(Front::Invalid) }
}

fn cut_short() -> Status {
    Status::internal("the answer ends in the middle of a message")
}

#[cfg(test)]
mod tests;
