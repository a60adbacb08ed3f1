//! Why a call to the runtime failed.

use std::{error::Error, io, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};

use crate::model::Method;

/// A call to the runtime failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CriError {
    /// No answer before the deadline.
    #[error("{method} was not answered within {}", humantime::format_duration(*.after))]
    Deadline {
        /// The call.
        method: Method,
        /// The deadline.
        after: Duration,
    },
    /// The socket does not exist, no process listens, or the connection was cut.
    #[error("the runtime cannot be reached: {why}")]
    Unreachable {
        /// The system's error, with a hint.
        why: String,
    },
    /// The runtime does not implement the call.
    #[error("the runtime does not implement {method}{}", suffix(message))]
    Unimplemented {
        /// The call.
        method: Method,
        /// The runtime's message.
        message: String,
    },
    /// The answer is no message of CRI v1, or is larger than plegd accepts.
    #[error("the answer to {method} cannot be read: {message}")]
    Malformed {
        /// The call.
        method: Method,
        /// The problem.
        message: String,
    },
    /// The runtime answered without the status (kubernetes#134855).
    #[error("{method} was answered without a status")]
    Empty {
        /// The call.
        method: Method,
    },
    /// The runtime lists an id and answers NotFound to the call for its status (containerd#7535).
    #[error("the runtime lists {id} and answers NotFound to the call for its status")]
    ListedNotFound {
        /// The container or sandbox.
        id: String,
    },
    /// The runtime answered with an error.
    #[error("{method} failed: {code:?}: {message}")]
    Failed {
        /// The call.
        method: Method,
        /// The gRPC code.
        code: Code,
        /// The runtime's message.
        message: String,
    },
}

/// A message after a colon, if there is one.
fn suffix(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

// === impl CriError ===

impl CriError {
    pub(super) fn of(method: Method, status: &Status) -> Self {
        let message = status.message().to_owned();
        if let Some(why) = transport_cause(status) {
            // A failed connect has its own hint; a peer that hangs up may not be a runtime.
            let hint = if has_cause::<ConnectError>(status) {
                ""
            } else {
                "; is this the socket of a container runtime, and is it running?"
            };
            return CriError::Unreachable { why: why + hint };
        }
        match status.code() {
            Code::Unimplemented => CriError::Unimplemented { method, message },
            // tonic's own errors about a message, both produced on this side.
            Code::Internal if message.contains("failed to decode") => CriError::Malformed { method, message },
            Code::OutOfRange if message.contains("decoded message length too large") => {
                CriError::Malformed { method, message }
            }
            code => CriError::Failed { method, code, message },
        }
    }

    /// The gRPC code that represents the error in metrics.
    pub fn code(&self) -> Code {
        match self {
            CriError::Deadline { .. } => Code::DeadlineExceeded,
            CriError::Unreachable { .. } => Code::Unavailable,
            CriError::Unimplemented { .. } => Code::Unimplemented,
            CriError::Malformed { .. } | CriError::Empty { .. } => Code::DataLoss,
            CriError::ListedNotFound { .. } => Code::NotFound,
            CriError::Failed { code, .. } => *code,
        }
    }

    /// Whether the runtime is down or still starting, as opposed to a failure of this one call.
    pub fn runtime_is_away(&self) -> bool {
        match self {
            CriError::Unreachable { .. } => true,
            // containerd 1.6 and 1.7 answer Unknown, later ones Unavailable, until the CRI plugin has recovered.
            CriError::Failed { code: Code::Unavailable, .. } => true,
            CriError::Failed { message, .. } => message.contains("server is not initialized yet"),
            _ => false,
        }
    }
}

/// Whether the call exceeded its deadline. The deadline is sent with the request, so that three timers run: plegd's,
/// tonic's (which reports "cancelled" with a cause, as for a broken connection) and the runtime's. Whichever fires
/// first, the error is the same.
pub(super) fn ran_out_of_time(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded || has_cause::<TimeoutExpired>(status)
}

/// Whether an error of this type is among the causes of the status.
fn has_cause<E: Error + 'static>(status: &Status) -> bool {
    std::iter::successors(status.source(), |&error| error.source()).any(|error| error.is::<E>())
}

/// The cause below a status that tonic created for a broken or missing connection.
fn transport_cause(status: &Status) -> Option<String> {
    let transport = status.source()?;
    let mut deepest = transport;
    while let Some(below) = deepest.source() {
        if below.downcast_ref::<io::Error>().is_some() {
            return Some(below.to_string());
        }
        deepest = below;
    }
    let is_transport = transport.downcast_ref::<tonic::transport::Error>().is_some()
        || deepest.downcast_ref::<io::Error>().is_some()
        || matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
    is_transport.then(|| deepest.to_string())
}
