//! The answer to a list call, cut into pages as it comes in.
//!
//! gRPC decodes a message when all of it is there, and the list of a large node is one message of tens of megabytes. But all
//! fields of it are repeated, and of such a message any part that ends with a field is a message too: what the parts decode
//! to, one after the other, is what the whole does. So the body of the answer is given on as messages of some [`PAGE`] bytes:
//! each is decoded while the next one is on its way, and no more than one is in memory. All of them come out of one buffer, which is
//! free again when its page has been taken.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use tonic::Status;

use crate::cri::client::undecodable;

/// A page has at least as many bytes, unless it is the last one of its message.
const PAGE: usize = 32 << 10;
/// Before each message of gRPC: whether it is compressed, and its length in four bytes.
const HEADER: usize = 5;
const NO_FIELD: &str = "a list with something in it that is no field";

/// A body whose messages are cut into pages.
#[derive(Debug)]
pub(super) struct Pages<B> {
    body: B,
    limit: usize,
    /// Bytes that have come.
    came: usize,
    state: State,
    /// What has come and was not given on.
    held: BytesMut,
    /// Pages, and the header before each, that are to be given on first.
    cut: VecDeque<Bytes>,
    /// Whether the trailers have come, after which there is nothing.
    over: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A header comes next.
    Between,
    Within {
        /// Bytes of the message that no page has had.
        left: usize,
        /// Bytes at the front of them that are whole fields.
        whole: usize,
    },
    /// What comes is for tonic to judge.
    AsItIs,
}

/// What is at the front of some bytes that more may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// A field of that length, whether or not all of it is there.
    Field(usize),
    /// Less than it takes to tell.
    Short,
    /// No field, or one that no list has.
    Odd,
}

// === impl Pages ===

impl<B> Pages<B> {
    /// `limit` is the longest answer that is cut, in bytes, whether it is one message or many; one message that is longer is given
    /// on for tonic to refuse.
    pub(super) fn of(body: B, limit: usize) -> Self {
        let (held, cut) = (BytesMut::new(), VecDeque::new());
        Self { body, limit, came: 0, state: State::Between, held, cut, over: false }
    }

    /// Takes what has come.
    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        self.held.extend_from_slice(data);
        self.cut()?;
        self.came = self.came.saturating_add(data.len());
        let as_it_is = matches!(self.state, State::AsItIs);
        if self.came > self.limit + HEADER && !as_it_is {
            Err(undecodable(format_args!("a list of more than {} bytes", self.limit)))
        } else {
            Ok(())
        }
    }

    /// Cuts what is held, as far as it goes.
    fn cut(&mut self) -> Result<(), Status> {
        loop {
            match self.state {
                State::AsItIs if self.held.is_empty() => return Ok(()),
                State::AsItIs => self.cut.push_back(self.held.split().freeze()),
                State::Between if self.held.len() < HEADER => return Ok(()),
                State::Between => {
                    let mut header = &self.held[..HEADER];
                    let (compressed, left) = (header.get_u8() != 0, header.get_u32() as usize);
                    self.state = if compressed || left > self.limit {
                        State::AsItIs
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

    /// That the body is over, where it may be.
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
                // An error of the runtime's own says more than that its answer ends too soon.
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

/// How many of these bytes, of which `whole` are known to be, are whole fields of a message that has `left` bytes.
fn whole_fields(held: &[u8], left: usize, mut whole: usize) -> Result<usize, Status> {
    let there = held.len().min(left);
    while whole < there && whole < PAGE {
        match front(&held[whole..there]) {
            Front::Field(length) if length > left - whole => return Err(undecodable(NO_FIELD)),
            Front::Field(length) if length > there - whole => break,
            Front::Field(length) => whole += length,
            Front::Short if there == left => return Err(undecodable(NO_FIELD)),
            Front::Short => break,
            Front::Odd => return Err(undecodable(NO_FIELD)),
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
        Err(odd) => return odd,
    };
    let rest = &bytes[after..];
    let length = match key & 7 {
        0 => match varint(rest) {
            Ok(Some((_, length))) => Some(length),
            Ok(None) => return Front::Short,
            Err(odd) => return odd,
        },
        1 => Some(8),
        2 => match varint(rest) {
            Ok(Some((length, before))) => usize::try_from(length).ok().and_then(|it| it.checked_add(before)),
            Ok(None) => return Front::Short,
            Err(odd) => return odd,
        },
        5 => Some(4),
        _ => None,
    };
    length.and_then(|length| length.checked_add(after)).map_or(Front::Odd, Front::Field)
}

/// The number at the front, and the bytes that it takes; none if it does not end here.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Front> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((number, at + 1)));
        }
    }
    if bytes.len() < 10 { Ok(None) } else { Err(Front::Odd) }
}

fn cut_short() -> Status {
    Status::internal("the answer ends in the middle of a message")
}

#[cfg(test)]
mod tests;
