//! A request body with a size limit for each message and a deadline for all messages.
//!
//! gRPC sends the length before each message, so a message that is too large is refused at its first five bytes. None of it is stored,
//! and HTTP/2 flow control keeps the rest at the client.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// Bytes before each message: the compression flag and the length.
const PREFIX: usize = 5;

/// Called when a request is refused because of its message.
pub(super) type OnRefusal = Box<dyn FnOnce() + Send>;

pub(super) struct Bounded<B> {
    body: B,
    lengths: Lengths,
    deadline: Option<Pin<Box<Sleep>>>,
    timeout: Option<Duration>,
    on_refusal: Option<OnRefusal>,
}

/// Tracks the message lengths in a stream of bytes.
struct Lengths {
    limit: usize,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix received so far.
    filled: usize,
    /// Bytes of the message still to come.
    left: usize,
}

// === impl Bounded ===

impl<B> Bounded<B> {
    /// Allows messages of up to `limit` bytes. If `timeout` is given, all of them must arrive within that time.
    pub(super) fn new(body: B, limit: usize, timeout: Option<Duration>, on_refusal: OnRefusal) -> Self {
        let lengths = Lengths { limit, prefix: [0; PREFIX], filled: 0, left: 0 };
        Self { body, lengths, deadline: None, timeout, on_refusal: Some(on_refusal) }
    }

    fn refuse(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(on_refusal) = self.on_refusal.take() {
            on_refusal();
        }
        Poll::Ready(Some(Err(status)))
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref()
                    && let Err(length) = self.lengths.take(data)
                {
                    let limit = self.lengths.limit;
                    return self.refuse(Status::resource_exhausted(format!(
                        "the request has {length} bytes; the limit is {limit} (api.message_bytes)"
                    )));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let Some(timeout) = self.timeout else { return Poll::Pending };
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
                if deadline.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let timeout = humantime::format_duration(timeout);
                let message = format!("the request was not complete within {timeout}");
                self.refuse(Status::deadline_exceeded(message))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Lengths ===

impl Lengths {
    /// Advances over `data`. The error is the length of a message that is too long.
    fn take(&mut self, mut data: &[u8]) -> Result<(), usize> {
        while !data.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(data.len());
                self.left -= passed;
                data = &data[passed..];
                continue;
            }
            self.prefix[self.filled] = data[0];
            self.filled += 1;
            data = &data[1..];
            if self.filled == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if length > self.limit {
                    return Err(length);
                }
                (self.filled, self.left) = (0, length);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(limit: usize) -> Lengths {
        Lengths { limit, prefix: [0; PREFIX], filled: 0, left: 0 }
    }

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xff, length as usize));
        bytes
    }

    #[test]
    fn lengths_are_tracked_whatever_the_chunk_size() {
        let stream: Vec<u8> = [3, 0, 10, 1].into_iter().flat_map(message).chain([0, 0, 0, 0, 11]).collect();
        for size in 1..stream.len() {
            let mut lengths = lengths(10);
            let outcome = stream.chunks(size).try_for_each(|chunk| lengths.take(chunk));
            assert_eq!(outcome, Err(11), "chunks of {size}");
            let mut lengths = self::lengths(11);
            assert_eq!(
                stream.chunks(size).try_for_each(|chunk| lengths.take(chunk)),
                Ok(()),
                "chunks of {size}"
            );
        }
        assert_eq!(lengths(10).take(&[0, 0xff, 0xff, 0xff, 0xff]), Err(u32::MAX as usize));
    }
}
