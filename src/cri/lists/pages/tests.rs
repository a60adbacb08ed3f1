#![allow(clippy::unwrap_used)]

use std::task::Waker;

use http::HeaderMap;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::cri::v1::{Container, ListContainersResponse};

const LIMIT: usize = 1 << 20;

/// A body of these frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn message(compressed: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![compressed];
    message.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    message.extend_from_slice(bytes);
    message
}

fn trailers(code: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    Frame::trailers(trailers)
}

/// The output for a body that arrives in these pieces.
fn paged(body: &[u8], piece: usize, end: Option<Frame<Bytes>>) -> (Vec<Frame<Bytes>>, Option<Status>) {
    let pieces = body.chunks(piece).map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
    let mut pages = Pages::of(Frames(pieces.chain(end).collect()), LIMIT);
    let mut frames = Vec::new();
    loop {
        match Pin::new(&mut pages).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frames.push(frame),
            Poll::Ready(Some(Err(status))) => return (frames, Some(status)),
            Poll::Ready(None) => return (frames, None),
            Poll::Pending => panic!("nothing is pending"),
        }
    }
}

/// The messages in a body, without headers.
fn messages(frames: &[Frame<Bytes>]) -> Vec<Bytes> {
    let mut all: Bytes = frames.iter().filter_map(|frame| frame.data_ref()).flatten().copied().collect();
    let mut messages = Vec::new();
    while !all.is_empty() {
        assert_eq!(all.get_u8(), 0);
        let length = all.get_u32() as usize;
        messages.push(all.split_to(length));
    }
    messages
}

fn list(containers: &[usize]) -> ListContainersResponse {
    let container = |length: &usize| Container { id: "c".repeat(*length), ..Container::default() };
    ListContainersResponse { containers: containers.iter().map(container).collect() }
}

#[test]
fn a_long_list_is_cut_into_pages_of_whole_items() {
    let sent = list(&[700; 500]);
    let (frames, failed) = paged(&message(0, &sent.encode_to_vec()), 16_384, Some(trailers("0")));
    assert!(failed.is_none());
    let pages = messages(&frames);
    assert_eq!(pages.len(), 11);
    assert!(pages[..10].iter().all(|page| (PAGE..PAGE + 710).contains(&page.len())));
    let items = pages.into_iter().flat_map(|page| ListContainersResponse::decode(page).unwrap().containers);
    assert_eq!(ListContainersResponse { containers: items.collect() }, sent);
    assert!(frames.last().unwrap().is_trailers());
}

#[test]
fn an_empty_list_is_still_a_message() {
    let (frames, failed) = paged(&message(0, b""), 3, Some(trailers("0")));
    assert_eq!((messages(&frames), failed.is_none()), (vec![Bytes::new()], true));
}

#[test]
fn an_answer_that_ends_inside_a_message_is_an_error() {
    let body = message(0, &list(&[300; 300]).encode_to_vec());
    for length in [1, 4, 5, 6, 40_000, body.len() - 1] {
        for end in [None, Some(trailers("0"))] {
            let (_, failed) = paged(&body[..length], 16_384, end);
            assert_eq!(failed.unwrap().message(), "the answer ends in the middle of a message", "{length}");
        }
        let (frames, failed) = paged(&body[..length], 16_384, Some(trailers("14")));
        assert!(failed.is_none() && frames.last().unwrap().is_trailers(), "{length}");
    }
    let (frames, failed) = paged(b"", 1, None);
    assert!(frames.is_empty() && failed.is_none());
}

#[test]
fn a_body_that_is_not_a_list_is_an_error() {
    // An unknown wire type; a field longer than its message; a key, and a length, without an end.
    for bytes in [&[0x0f, 1][..], &[0x0a, 9, 1], &[0x80; 20], &[0x0a, 0x80], &[0x0b, 0x0c]] {
        let (_, failed) = paged(&message(0, bytes), 1, Some(trailers("0")));
        assert!(failed.unwrap().message().starts_with("failed to decode"), "{bytes:?}");
    }
}

#[test]
fn an_oversized_or_compressed_message_is_left_to_grpc() {
    for body in [message(1, b"zipped"), message(7, b""), message(0, &[0; LIMIT + 1])] {
        let (frames, failed) = paged(&body, 1_000, Some(trailers("0")));
        let given: Vec<u8> = frames.iter().filter_map(|frame| frame.data_ref()).flatten().copied().collect();
        assert!(failed.is_none() && given == body);
    }
}

#[test]
fn the_size_limit_applies_to_all_messages_together() {
    let page = message(0, &list(&[1_000; 100]).encode_to_vec());
    let (frames, failed) = paged(&page.repeat(LIMIT / page.len()), 16_384, Some(trailers("0")));
    assert!(failed.is_none() && frames.last().unwrap().is_trailers());
    let (frames, failed) = paged(&page.repeat(LIMIT / page.len() + 1), 16_384, Some(trailers("0")));
    assert!(failed.unwrap().message().ends_with("a list of more than 1048576 bytes"));
    assert!(messages(&frames).iter().map(Bytes::len).sum::<usize>() <= LIMIT);
}

proptest! {
    #[test]
    fn pages_decode_to_the_same_items_as_the_messages(
        lists in prop::collection::vec(prop::collection::vec(0_usize..40_000, 0..12), 0..4),
        piece in 1_usize..30_000,
    ) {
        let sent: Vec<_> = lists.iter().map(|lengths| list(lengths)).collect();
        let body: Vec<u8> = sent.iter().flat_map(|list| message(0, &list.encode_to_vec())).collect();
        let (frames, failed) = paged(&body, piece, Some(trailers("0")));
        prop_assert!(failed.is_none());
        let pages = messages(&frames).into_iter();
        let items = pages.flat_map(|page| ListContainersResponse::decode(page).unwrap().containers);
        let wanted = sent.into_iter().flat_map(|list| list.containers);
        prop_assert_eq!(items.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }

    /// Input that prost accepts is passed on, and decodes to the same items.
    #[test]
    fn any_bytes_decode_as_before_or_are_refused(
        bytes in prop::collection::vec(prop_oneof![Just(0x0a_u8), 0_u8..12, any::<u8>()], 0..60),
        piece in 1_usize..70,
    ) {
        let (frames, failed) = paged(&message(0, &bytes), piece, Some(trailers("0")));
        let whole = ListContainersResponse::decode(&*bytes);
        let pages = messages(&frames).into_iter().map(ListContainersResponse::decode);
        let parts = pages.collect::<Result<Vec<_>, _>>();
        match failed {
            None => prop_assert_eq!(
                parts.ok().map(|parts| parts.into_iter().flat_map(|it| it.containers).collect::<Vec<_>>()),
                whole.ok().map(|it| it.containers)
            ),
            // prost would skip only a group, which no message of CRI has.
            Some(_) => prop_assert!(whole.is_err() || bytes.iter().any(|byte| byte & 7 == 3)),
        }
    }
}
