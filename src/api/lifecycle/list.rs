//! Lists of pods, page by page.

use prost::Message as _;
use tonic::Status;

use super::request;
use crate::{
    error_info::PositionLost,
    model::Position,
    v1,
    watch::{Feed, GapReason},
};

/// The largest number of pods in a page.
const MAX_PAGE_SIZE: usize = 500;

/// Size limit of a page, exceeded only if a single pod is larger. gRPC clients accept 4 MiB by default.
const MAX_PAGE_BYTES: usize = 2 << 20;

pub(super) fn page(feed: &Feed, request: v1::ListPodsRequest) -> Result<v1::ListPodsResponse, Status> {
    let v1::ListPodsRequest { filter, page_size, page_token } = request;
    let filter = request::filter(filter)?;
    let size = match page_size {
        0 => MAX_PAGE_SIZE,
        size => usize::try_from(size).unwrap_or(MAX_PAGE_SIZE).min(MAX_PAGE_SIZE),
    };
    let (now, mut pods) = feed.snapshot(&filter);
    pods.sort_unstable_by(|a, b| a.identity.uid.cmp(&b.identity.uid));
    let (position, begin) = match parse_token(&page_token)? {
        None => (now, 0),
        Some((position, _)) if position.epoch != now.epoch => {
            let stats = feed.journal().stats();
            let (epoch, oldest, head) = (now.epoch, stats.oldest, stats.head);
            let lost = PositionLost { reason: GapReason::ForeignEpoch, epoch, oldest, head };
            return Err(lost.to_status("page_token belongs to another epoch; start a new list"));
        }
        Some((position, last)) => (position, pods.partition_point(|pod| pod.identity.uid.as_str() <= last)),
    };
    let mut page: Vec<v1::Pod> = Vec::new();
    let mut bytes = 0;
    for pod in &pods[begin..] {
        let pod = v1::Pod::from(pod.as_ref());
        bytes += pod.encoded_len();
        if page.len() == size || (bytes > MAX_PAGE_BYTES && !page.is_empty()) {
            break;
        }
        page.push(pod);
    }
    let more = begin + page.len() < pods.len();
    let last = page.last().and_then(|pod| pod.identity.as_ref());
    let next_page_token = match last {
        Some(last) if more => format!("{position}/{}", last.uid),
        _ => String::new(),
    };
    Ok(v1::ListPodsResponse { pods: page, next_page_token, position: Some(position.into()) })
}

/// Parses a page token: the position of the first page, and the last UID of the previous page.
fn parse_token(token: &str) -> Result<Option<(Position, &str)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = token.split_once('/').and_then(|(position, last)| Some((position.parse().ok()?, last)));
    parsed.map(Some).ok_or_else(|| Status::invalid_argument("invalid page_token"))
}
