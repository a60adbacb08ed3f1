//! The labels and their values: few and fixed. Ids, names, addresses and error texts are never label values.

use super::family::{Label, label};
use crate::model::{
    ContainerState, EventType, Method, Mode, ReadCause, ResumeGap, SandboxState, Source, StreamEventType,
    Subject, Verdict,
};

macro_rules! label_of_the_model {
    ($($name:ident)+) => {
        $(impl Label for $name {
            const ALL: &'static [Self] = &$name::ALL;

            fn as_str(self) -> &'static str {
                $name::as_str(self)
            }

            fn index(self) -> usize {
                self as usize
            }
        })+
    };
}

label_of_the_model!(Source EventType Subject StreamEventType ContainerState SandboxState Verdict ReadCause Method Mode ResumeGap);

label! {
    /// A detection path.
    Path {
        /// The runtime's event stream.
        Event = "event",
        /// The generic relist.
        Relist = "relist",
    }
}

label! {
    /// The paths that detected a transition.
    SeenBy {
        /// Both.
        Both = "both",
        /// Only the stream; the relist came too late, or the transition left no trace.
        EventOnly = "event_only",
        /// Only a relist or read; the stream did not report it.
        RelistOnly = "relist_only",
    }
}

label! {
    /// Why a relist was started.
    RelistCause {
        /// The first one.
        Start = "start",
        /// The relist period.
        Period = "period",
        /// The event stream was lost.
        StreamLost = "stream_lost",
        /// The event stream came up.
        StreamUp = "stream_up",
        /// The backlog of the event stream was processed.
        Backlog = "backlog",
        /// A request.
        Request = "request",
        /// The last one failed.
        Retry = "retry",
    }
}

label! {
    /// The result of an operation.
    Outcome {
        /// Success.
        Ok = "ok",
        /// An error.
        Error = "error",
    }
}

label! {
    /// The result of a read.
    ReadOutcome {
        /// Success; "not found" is an answer too.
        Ok = "ok",
        /// An error.
        Error = "error",
        /// No answer before the deadline.
        Timeout = "timeout",
    }
}

label! {
    /// gRPC codes of CRI calls. Codes that no runtime returns share one value, which keeps the number of series
    /// small.
    Code {
        /// `OK`
        Ok = "OK",
        /// `CANCELLED`
        Canceled = "Canceled",
        /// `UNKNOWN`: what containerd and CRI-O send for most errors.
        Unknown = "Unknown",
        /// `DEADLINE_EXCEEDED`
        DeadlineExceeded = "DeadlineExceeded",
        /// `NOT_FOUND`
        NotFound = "NotFound",
        /// `RESOURCE_EXHAUSTED`: mostly an answer that is too large.
        ResourceExhausted = "ResourceExhausted",
        /// `UNIMPLEMENTED`
        Unimplemented = "Unimplemented",
        /// `INTERNAL`
        Internal = "Internal",
        /// `UNAVAILABLE`
        Unavailable = "Unavailable",
        /// Any other.
        Other = "Other",
    }
}

label! {
    /// State of the event stream.
    StreamState {
        /// There is no stream.
        Down = "down",
        /// The stream is being opened.
        Connecting = "connecting",
        /// The call is open, but it is not confirmed yet that the runtime serves it.
        Unconfirmed = "unconfirmed",
        /// The stream delivers events.
        Up = "up",
        /// The runtime has no events.
        Unsupported = "unsupported",
        /// The configuration disables the stream.
        Off = "off",
        /// plegd has closed it for another subscriber of the same channel.
        Yielded = "yielded",
    }
}

label! {
    /// Why the event stream ended.
    DisconnectReason {
        /// An error.
        Error = "error",
        /// The runtime ended it.
        Ended = "ended",
        /// The runtime has no events.
        Unsupported = "unsupported",
        /// plegd closed it because its queue was full.
        Overflow = "overflow",
        /// The runtime sent a message that cannot be decoded.
        Malformed = "malformed",
        /// plegd shuts down.
        Shutdown = "shutdown",
        /// plegd closed it, so that another subscriber of the same channel receives all events.
        Yielded = "yielded",
    }
}

label! {
    /// The channel of a malformed message.
    Channel {
        /// The event stream.
        Stream = "stream",
        /// A unary call.
        Unary = "unary",
    }
}

label! {
    /// Whether a pod's newest sandbox is ready.
    PodState {
        /// It is.
        Ready = "ready",
        /// It is not, or there is none.
        NotReady = "notready",
    }
}

// === impl Code ===

impl From<tonic::Code> for Code {
    fn from(code: tonic::Code) -> Self {
        match code {
            tonic::Code::Ok => Code::Ok,
            tonic::Code::Cancelled => Code::Canceled,
            tonic::Code::Unknown => Code::Unknown,
            tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
            tonic::Code::NotFound => Code::NotFound,
            tonic::Code::ResourceExhausted => Code::ResourceExhausted,
            tonic::Code::Unimplemented => Code::Unimplemented,
            tonic::Code::Internal => Code::Internal,
            tonic::Code::Unavailable => Code::Unavailable,
            _ => Code::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Call, CallCode, Labels, Refusal};

    fn assert_each_is_at_its_index<L: Labels>() {
        for (index, labels) in L::all().into_iter().enumerate() {
            assert_eq!(Labels::index(labels), index, "{:?}", labels.values());
        }
    }

    #[test]
    fn every_value_is_at_its_index() {
        assert_each_is_at_its_index::<Source>();
        assert_each_is_at_its_index::<EventType>();
        assert_each_is_at_its_index::<Subject>();
        assert_each_is_at_its_index::<StreamEventType>();
        assert_each_is_at_its_index::<ContainerState>();
        assert_each_is_at_its_index::<SandboxState>();
        assert_each_is_at_its_index::<Verdict>();
        assert_each_is_at_its_index::<(RelistCause, Outcome)>();
        assert_each_is_at_its_index::<(Method, Code)>();
        assert_each_is_at_its_index::<(Call, CallCode)>();
        assert_each_is_at_its_index::<Refusal>();
        assert_each_is_at_its_index::<ResumeGap>();
        assert_each_is_at_its_index::<(Source, EventType, Subject)>();
    }
}
