//! Why a call to the runtime failed.

use std::{error::Error, io, time::Duration};

use tonic::{Code, Status};

use crate::model::Method;

/// A call to the runtime failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CriError {
    /// Nobody answered in time.
    #[error("{method} was not answered within {}", humantime::format_duration(*.after))]
    Deadline {
        /// The call.
        method: Method,
        /// The deadline.
        after: Duration,
    },
    /// The runtime's socket is not there, nobody listens, or the connection was cut.
    #[error("the runtime cannot be reached: {why}")]
    Unreachable {
        /// What the system says, and what to do about it.
        why: String,
    },
    /// The runtime has no such call.
    #[error("{method} is not offered: {message}")]
    Unimplemented {
        /// The call.
        method: Method,
        /// What the runtime says.
        message: String,
    },
    /// The answer is no message of CRI v1, or larger than plegd takes.
    #[error("the answer to {method} cannot be read: {message}")]
    Malformed {
        /// The call.
        method: Method,
        /// What is wrong with it.
        message: String,
    },
    /// The runtime answered with an error.
    #[error("{method} failed: {code:?}: {message}")]
    Failed {
        /// The call.
        method: Method,
        /// The gRPC code.
        code: Code,
        /// What the runtime says.
        message: String,
    },
}

// === impl CriError ===

impl CriError {
    pub(super) fn of(method: Method, status: &Status) -> Self {
        let message = status.message().to_owned();
        if let Some(why) = transport_cause(status) {
            return CriError::Unreachable { why };
        }
        match status.code() {
            Code::Unimplemented => CriError::Unimplemented { method, message },
            // tonic's own verdicts on a message, both made on this side.
            Code::Internal if message.contains("failed to decode") => CriError::Malformed { method, message },
            Code::OutOfRange if message.contains("decoded message length too large") => {
                CriError::Malformed { method, message }
            }
            code => CriError::Failed { method, code, message },
        }
    }

    /// The gRPC code that stands for it in metrics.
    pub fn code(&self) -> Code {
        match self {
            CriError::Deadline { .. } => Code::DeadlineExceeded,
            CriError::Unreachable { .. } => Code::Unavailable,
            CriError::Unimplemented { .. } => Code::Unimplemented,
            CriError::Malformed { .. } => Code::DataLoss,
            CriError::Failed { code, .. } => *code,
        }
    }

    /// Whether the runtime is down or still starting, rather than at odds with this one call.
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

/// Whether it says that the deadline has passed: the runtime's word, or tonic's, which keeps the deadline that it sends
/// and calls it a failure of the transport.
pub(super) fn is_deadline(status: &Status) -> bool {
    let mut below = status.source();
    while let Some(error) = below {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        below = error.source();
    }
    status.code() == Code::DeadlineExceeded
}

/// What lies below a status that tonic made of a broken or missing connection.
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
