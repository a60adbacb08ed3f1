//! The labels and their values. They are few and known: no id, name, address or error text is ever one.

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
    /// Which of the two paths: the stream or the relist with its reads.
    Path {
        /// The runtime's event stream.
        Event = "event",
        /// The generic relist.
        Relist = "relist",
    }
}

label! {
    /// On which paths a transition has been seen.
    SeenBy {
        /// On both.
        Both = "both",
        /// On the stream; the relist came too late to see it, or it left no trace.
        EventOnly = "event_only",
        /// In a relist or read; the stream has not told it.
        RelistOnly = "relist_only",
    }
}

label! {
    /// Why a relist was made.
    RelistCause {
        /// The first one.
        Start = "start",
        /// Its time had come.
        Period = "period",
        /// The event stream was lost.
        StreamLost = "stream_lost",
        /// The event stream came up.
        StreamUp = "stream_up",
        /// The backlog of the event stream has passed.
        Backlog = "backlog",
        /// Somebody asked for it.
        Request = "request",
        /// The last one failed.
        Retry = "retry",
    }
}

label! {
    /// How something ended.
    Outcome {
        /// Well.
        Ok = "ok",
        /// With an error.
        Error = "error",
    }
}

label! {
    /// How a read ended.
    ReadOutcome {
        /// Well; "not found" is an answer too.
        Ok = "ok",
        /// With an error.
        Error = "error",
        /// Without an answer in time.
        Timeout = "timeout",
    }
}

label! {
    /// gRPC codes that a CRI read can end with. Those that no runtime sends are one value, so that the series stay few.
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
        /// There is none.
        Down = "down",
        /// It is being set up.
        Connecting = "connecting",
        /// The call is open, and nothing has shown yet that the runtime serves it.
        Unconfirmed = "unconfirmed",
        /// It delivers.
        Up = "up",
        /// The runtime has no events.
        Unsupported = "unsupported",
        /// The configuration does not want it.
        Off = "off",
        /// plegd has closed it for another subscriber of the same channel.
        Yielded = "yielded",
    }
}

label! {
    /// Why the event stream came to an end.
    DisconnectReason {
        /// With an error.
        Error = "error",
        /// The runtime ended it.
        Ended = "ended",
        /// The runtime has no events.
        Unsupported = "unsupported",
        /// plegd dropped it, since its queue was full.
        Overflow = "overflow",
        /// The runtime sent what cannot be decoded.
        Malformed = "malformed",
        /// plegd ends.
        Shutdown = "shutdown",
        /// plegd closed it, so that another subscriber of the same channel receives all events.
        Yielded = "yielded",
    }
}

label! {
    /// What a malformed message came over.
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

    fn assert_each_is_at_its_place<L: Labels>() {
        for (place, labels) in L::all().into_iter().enumerate() {
            assert_eq!(Labels::index(labels), place, "{:?}", labels.values());
        }
    }

    #[test]
    fn values_are_found_where_they_are() {
        assert_each_is_at_its_place::<Source>();
        assert_each_is_at_its_place::<EventType>();
        assert_each_is_at_its_place::<Subject>();
        assert_each_is_at_its_place::<StreamEventType>();
        assert_each_is_at_its_place::<ContainerState>();
        assert_each_is_at_its_place::<SandboxState>();
        assert_each_is_at_its_place::<Verdict>();
        assert_each_is_at_its_place::<(RelistCause, Outcome)>();
        assert_each_is_at_its_place::<(Method, Code)>();
        assert_each_is_at_its_place::<(Call, CallCode)>();
        assert_each_is_at_its_place::<Refusal>();
        assert_each_is_at_its_place::<ResumeGap>();
        assert_each_is_at_its_place::<(Source, EventType, Subject)>();
    }
}
