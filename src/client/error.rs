//! Errors of calls.

use std::{error::Error, time::Duration};

use tonic::{Code, Status, TimeoutExpired};

use super::ConnectError;
use crate::error_info::PositionLost;

/// A call to plegd failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// plegd cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection was cut, or plegd is stopping.
    #[error("the connection to plegd was lost: {why}")]
    Lost {
        /// The cause, as far as it is known.
        why: String,
    },
    /// No message was received for this time, so the connection counts as lost.
    #[error("no message from plegd for {}", humantime::format_duration(*.silence))]
    Silent {
        /// The time without a message.
        silence: Duration,
    },
    /// The call timed out.
    #[error("timed out after {}", humantime::format_duration(*.after))]
    Deadline {
        /// The limit.
        after: Duration,
    },
    /// plegd has not yet listed the runtime.
    #[error("plegd is not ready yet: {message}")]
    NotReady {
        /// plegd's message.
        message: String,
    },
    /// There is no such pod, container or subscriber.
    #[error("{message}")]
    NotFound {
        /// plegd's message with the missing object.
        message: String,
    },
    /// The request contradicts itself or cannot be parsed.
    #[error("{message}")]
    Invalid {
        /// The reason.
        message: String,
    },
    /// This peer has no permission for this call.
    #[error("permission denied: {message}")]
    Denied {
        /// plegd's message.
        message: String,
    },
    /// A watch cannot resume after its position, and its slow policy is to fail.
    #[error("the watch cannot resume after its position: {message}")]
    PositionLost {
        /// The reason, and the positions that are still held.
        lost: PositionLost,
        /// plegd's message.
        message: String,
    },
    /// The server does not have this call: an older plegd, or another program.
    #[error(
        "the server does not implement this call: {message}; check that the socket belongs to plegd and that its version is not older"
    )]
    Unimplemented {
        /// The server's message.
        message: String,
    },
    /// A reply that cannot be decoded.
    #[error("invalid response from plegd: {what}")]
    Malformed {
        /// The reason.
        what: String,
    },
    /// plegd answered with another error.
    #[error("plegd returned {code:?}: {message}")]
    Failed {
        /// The gRPC code.
        code: Code,
        /// plegd's message.
        message: String,
    },
}

// === impl CallError ===

impl CallError {
    /// The error for a status. `deadline` is the limit of the call.
    pub(super) fn of(status: &Status, deadline: Duration) -> Self {
        if let Some(source) = status.source() {
            if let Some(connect) = ConnectError::below(source) {
                return connect.clone().into();
            }
            if is_below::<TimeoutExpired>(source) {
                return Self::Deadline { after: deadline };
            }
            // Created on this side of a broken connection.
            let mut deepest = source;
            while let Some(below) = deepest.source() {
                deepest = below;
            }
            return Self::Lost { why: deepest.to_string() };
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::DeadlineExceeded => Self::Deadline { after: deadline },
            Code::Unavailable => Self::Lost { why: message },
            Code::FailedPrecondition => Self::NotReady { message },
            Code::NotFound => Self::NotFound { message },
            Code::InvalidArgument => Self::Invalid { message },
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied { message },
            Code::Unimplemented => Self::Unimplemented { message },
            // tonic's own error, created on this side.
            Code::Internal if message.contains("failed to decode") => Self::Malformed { what: message },
            code => match PositionLost::of(status) {
                Some(lost) => Self::PositionLost { lost, message },
                None => Self::Failed { code, message },
            },
        }
    }

    /// Whether the error is transient, so that the same call may succeed later: plegd is unreachable, starting, stopping or busy.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Lost { .. }
            | Self::Silent { .. }
            | Self::NotReady { .. }
            | Self::Deadline { .. } => true,
            // ABORTED: an operator has disconnected this watch. RESOURCE_EXHAUSTED: there are too many watches. The others come from a
            // broken stream or a fault of the server.
            Self::Failed { code, .. } => matches!(
                code,
                Code::Aborted | Code::ResourceExhausted | Code::Cancelled | Code::Unknown | Code::Internal
            ),
            _ => false,
        }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::Malformed { what: format!("the field {field} is missing") }
    }
}

fn is_below<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<E>())
}
