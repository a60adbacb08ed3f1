//! Why a call failed.

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
    /// The connection was cut, or plegd is ending.
    #[error("the connection to plegd was lost: {why}")]
    Lost {
        /// What is known of it.
        why: String,
    },
    /// Nothing came for so long that the other side must be gone.
    #[error("nothing has come from plegd for {}", humantime::format_duration(*.silence))]
    Silent {
        /// How long.
        silence: Duration,
    },
    /// There was no answer in time.
    #[error("no answer within {}", humantime::format_duration(*.after))]
    Deadline {
        /// The time that there was.
        after: Duration,
    },
    /// plegd has not yet listed what the runtime has.
    #[error("plegd is not ready yet: {message}")]
    NotReady {
        /// What it says.
        message: String,
    },
    /// There is no such pod, container or subscriber.
    #[error("{message}")]
    NotFound {
        /// What is missing.
        message: String,
    },
    /// The request contradicts itself or cannot be understood.
    #[error("{message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// This peer may not do this.
    #[error("plegd does not allow it: {message}")]
    Denied {
        /// What it says.
        message: String,
    },
    /// A watch cannot go on after its position, and was asked to fail then.
    #[error("the watch cannot go on after its position: {message}")]
    PositionLost {
        /// Why, and what is held instead.
        lost: PositionLost,
        /// What plegd says.
        message: String,
    },
    /// What answers has no such call: an older plegd, or something else.
    #[error("the call is not offered: {message}; is this the socket of plegd, and as new as this one?")]
    Unimplemented {
        /// What it says.
        message: String,
    },
    /// An answer that is none.
    #[error("the answer of plegd cannot be understood: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// plegd answered with another error.
    #[error("plegd answers {code:?}: {message}")]
    Failed {
        /// The gRPC code.
        code: Code,
        /// What it says.
        message: String,
    },
}

// === impl CallError ===

impl CallError {
    /// What a status means. `deadline` is the time that the call had.
    pub(super) fn of(status: &Status, deadline: Duration) -> Self {
        if let Some(source) = status.source() {
            if let Some(connect) = ConnectError::below(source) {
                return connect.clone().into();
            }
            if is_below::<TimeoutExpired>(source) {
                return Self::Deadline { after: deadline };
            }
            // Made on this side of a connection that broke.
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
            // tonic's own verdict, made on this side.
            Code::Internal if message.contains("failed to decode") => Self::Malformed { what: message },
            code => match PositionLost::of(status) {
                Some(lost) => Self::PositionLost { lost, message },
                None => Self::Failed { code, message },
            },
        }
    }

    /// Whether the same call may well succeed later: plegd is away, starting, ending or busy.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Lost { .. }
            | Self::Silent { .. }
            | Self::NotReady { .. }
            | Self::Deadline { .. } => true,
            // ABORTED: an operator has disconnected this watch; RESOURCE_EXHAUSTED: there are too many. The others are
            // what a broken stream looks like, or a fault of the server's.
            Self::Failed { code, .. } => matches!(
                code,
                Code::Aborted | Code::ResourceExhausted | Code::Cancelled | Code::Unknown | Code::Internal
            ),
            _ => false,
        }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::Malformed { what: format!("it has no {field}") }
    }
}

fn is_below<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<E>())
}
