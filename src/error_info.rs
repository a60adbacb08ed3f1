//! Machine-readable gRPC errors: `google.rpc.ErrorInfo` in the trailer `grpc-status-details-bin`.
//!
//! The server writes it, the client reads it. The messages are small and stable; defining them here avoids a
//! dependency on all of googleapis.

use std::collections::BTreeMap;

use prost::Message;
use tonic::{Code, Status};

use crate::model::{GapReason, Position};

/// The domain of plegd's reasons.
pub const DOMAIN: &str = "plegd";

const TYPE_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// `google.rpc.ErrorInfo`: a machine-readable reason of an error.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ErrorInfo {
    /// The reason, in `UPPER_SNAKE_CASE`.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// The domain that defines the reason; [`DOMAIN`] for plegd.
    #[prost(string, tag = "2")]
    pub domain: String,
    /// Further data.
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
}

/// `google.rpc.Status`, the content of the trailer.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// The details of OUT_OF_RANGE: a watch cannot resume at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionLost {
    /// The reason.
    pub reason: GapReason,
    /// The server's epoch.
    pub epoch: u64,
    /// Sequence number of the server's oldest event; one past the head if its journal is empty.
    pub oldest: u64,
    /// Sequence number of its newest event.
    pub head: u64,
}

// === impl ErrorInfo ===

impl ErrorInfo {
    /// A gRPC status with this info in its details.
    pub fn to_status(&self, code: Code, message: &str) -> Status {
        let detail = prost_types::Any { type_url: TYPE_URL.into(), value: self.encode_to_vec() };
        let status = RpcStatus { code: code as i32, message: message.to_owned(), details: vec![detail] }
            .encode_to_vec();
        Status::with_details(code, message, status.into())
    }

    /// The info in the details of a gRPC status; none if there is none, or it cannot be decoded.
    pub fn of(status: &Status) -> Option<Self> {
        let details = RpcStatus::decode(status.details()).ok()?.details;
        let info =
            details.iter().find(|any| any.type_url.rsplit('/').next() == Some("google.rpc.ErrorInfo"))?;
        Self::decode(info.value.as_slice()).ok()
    }
}

// === impl PositionLost ===

impl PositionLost {
    /// The gRPC status with these details.
    pub fn to_status(&self, message: &str) -> Status {
        let metadata = [
            ("epoch", format!("{:016x}", self.epoch)),
            ("oldest", self.oldest.to_string()),
            ("head", self.head.to_string()),
        ];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into();
        let reason = REASONS.iter().find(|(reason, _)| *reason == self.reason).map_or("", |(_, text)| text);
        ErrorInfo { reason: reason.into(), domain: DOMAIN.into(), metadata }
            .to_status(Code::OutOfRange, message)
    }

    /// The details in a gRPC status, if it has them.
    pub fn of(status: &Status) -> Option<Self> {
        let info = ErrorInfo::of(status).filter(|info| info.domain == DOMAIN)?;
        let (reason, _) = *REASONS.iter().find(|(_, text)| *text == info.reason)?;
        let epoch = u64::from_str_radix(info.metadata.get("epoch")?, 16).ok()?;
        let number = |name| info.metadata.get(name)?.parse().ok();
        Some(Self { reason, epoch, oldest: number("oldest")?, head: number("head")? })
    }

    /// The position of the server's newest event.
    pub fn head(&self) -> Position {
        Position { epoch: self.epoch, sequence: self.head }
    }
}

/// The reasons on the wire.
const REASONS: [(GapReason, &str); 3] = [
    (GapReason::Compacted, "POSITION_COMPACTED"),
    (GapReason::ForeignEpoch, "POSITION_FOREIGN_EPOCH"),
    (GapReason::InFuture, "POSITION_IN_FUTURE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_reads_what_the_server_writes() {
        for (reason, _) in REASONS {
            let lost = PositionLost { reason, epoch: u64::MAX - 1, oldest: 7, head: 6 };
            let status = lost.to_status("the position is gone");
            assert_eq!(status.code(), Code::OutOfRange);
            assert_eq!(status.message(), "the position is gone");
            assert_eq!(PositionLost::of(&status), Some(lost));
        }
    }

    #[test]
    fn the_bytes_are_those_of_googleapis() {
        let metadata = [("head".to_owned(), "9".to_owned())].into();
        let info = ErrorInfo { reason: "R".into(), domain: "plegd".into(), metadata };
        let status = info.to_status(Code::OutOfRange, "m");
        let info = b"\x0a\x01R\x12\x05plegd\x1a\x09\x0a\x04head\x12\x019";
        let any = [b"\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12\x15", &info[..]].concat();
        let expected = [b"\x08\x0b\x12\x01m\x1a\x41", &any[..]].concat();
        assert_eq!(status.details(), expected);
    }

    #[test]
    fn other_errors_have_no_position() {
        assert_eq!(PositionLost::of(&Status::out_of_range("plain")), None);
        let broken = Status::with_details(Code::OutOfRange, "", vec![0xff, 0x07].into());
        assert_eq!(ErrorInfo::of(&broken), None);
        let foreign = ErrorInfo {
            reason: "POSITION_COMPACTED".into(),
            domain: "etcd".into(),
            metadata: BTreeMap::new(),
        };
        assert_eq!(PositionLost::of(&foreign.to_status(Code::OutOfRange, "")), None);
    }
}
