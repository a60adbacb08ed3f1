//! Answers to calls, each with an empty and an undecodable variant.

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::Status;

use crate::sim::{codec::NOT_UTF_8, faults::ListAnswer, v1};

/// An answer with an undecodable variant; its default is empty.
pub(super) trait Reply: Default + Send + 'static {
    /// The answer with a string that is sent as bytes that are not UTF-8.
    fn garbage() -> Self;
}

/// An event stream, as an answer to a call.
pub(super) struct EventStream(pub(super) BoxStream<'static, Result<v1::ContainerEventResponse, Status>>);

impl Default for EventStream {
    fn default() -> Self {
        Self(stream::empty().boxed())
    }
}

impl Reply for EventStream {
    fn garbage() -> Self {
        let event = v1::ContainerEventResponse { container_id: NOT_UTF_8.to_owned(), ..Default::default() };
        Self(stream::iter([Ok(event)]).boxed())
    }
}

/// Answers with a string to corrupt.
macro_rules! answers {
    ($($answer:ident { $field:ident: $garbage:expr })*) => {
        $(impl Reply for v1::$answer {
            #[allow(clippy::needless_update, reason = "some have no other field")]
            fn garbage() -> Self {
                Self { $field: $garbage, ..Self::default() }
            }
        })*
    };
}

answers! {
    VersionResponse { runtime_name: NOT_UTF_8.to_owned() }
    RunPodSandboxResponse { pod_sandbox_id: NOT_UTF_8.to_owned() }
    CreateContainerResponse { container_id: NOT_UTF_8.to_owned() }
    StatusResponse {
        status: Some(v1::RuntimeStatus {
            conditions: vec![v1::RuntimeCondition { r#type: NOT_UTF_8.to_owned(), ..Default::default() }],
        })
    }
    PodSandboxStatusResponse {
        status: Some(v1::PodSandboxStatus { id: NOT_UTF_8.to_owned(), ..Default::default() })
    }
    ContainerStatusResponse {
        status: Some(v1::ContainerStatus { id: NOT_UTF_8.to_owned(), ..Default::default() })
    }
}

/// Answers without a string to corrupt.
macro_rules! empty_answers {
    ($($answer:ident)*) => {
        $(impl Reply for v1::$answer {
            fn garbage() -> Self {
                Self {}
            }
        })*
    };
}

empty_answers! { StopPodSandboxResponse RemovePodSandboxResponse StartContainerResponse StopContainerResponse RemoveContainerResponse }

impl Reply for ListAnswer<v1::PodSandbox> {
    fn garbage() -> Self {
        let garbage = v1::PodSandbox { id: NOT_UTF_8.to_owned(), ..Default::default() };
        Self { items: vec![garbage], reset: None }
    }
}

impl Reply for ListAnswer<v1::Container> {
    fn garbage() -> Self {
        let garbage = v1::Container { id: NOT_UTF_8.to_owned(), ..Default::default() };
        Self { items: vec![garbage], reset: None }
    }
}
