//! CRI's list items with all their fields, and the cost of decoding lists of them with prost: the reference for any
//! client that decodes the runtime's messages.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::uri::PathAndQuery;
use prost::Message;
use rustix::time::{ClockId, clock_gettime};
use tonic::{Request, client::Grpc, transport::Endpoint};

use super::{
    node::{Lists, Node},
    unread::Unread,
};

/// The answer to `ListPodSandbox`, or a page of `StreamPodSandboxes`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandbox {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) metadata: Option<PodSandboxMetadata>,
    #[prost(int32, tag = "3")]
    pub(crate) state: i32,
    #[prost(int64, tag = "4")]
    pub(crate) created_at: i64,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "6")]
    pub(crate) annotations: HashMap<String, String>,
    #[prost(string, tag = "7")]
    pub(crate) runtime_handler: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
    #[prost(uint32, tag = "4")]
    pub(crate) attempt: u32,
}

/// The answer to `ListContainers`, or a page of `StreamContainers`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Containers {
    #[prost(message, repeated, tag = "1")]
    pub(crate) containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Container {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "4")]
    pub(crate) image: Option<ImageSpec>,
    #[prost(string, tag = "5")]
    pub(crate) image_ref: String,
    #[prost(int32, tag = "6")]
    pub(crate) state: i32,
    #[prost(int64, tag = "7")]
    pub(crate) created_at: i64,
    #[prost(map = "string, string", tag = "8")]
    pub(crate) labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "9")]
    pub(crate) annotations: HashMap<String, String>,
    #[prost(string, tag = "10")]
    pub(crate) image_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(crate) image: String,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) annotations: HashMap<String, String>,
    #[prost(string, tag = "18")]
    pub(crate) user_specified_image: String,
    #[prost(string, tag = "19")]
    pub(crate) runtime_handler: String,
}

/// Both lists as received, message by message.
pub(crate) struct Raw {
    sandboxes: Vec<Bytes>,
    containers: Vec<Bytes>,
}

/// CPU time of decoding both lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) decoded: Duration,
    /// The same, including freeing the memory.
    pub(crate) dropped: Duration,
}

// === impl Raw ===

impl Raw {
    pub(crate) async fn fetch(node: &Node, lists: Lists) -> Result<Self> {
        let channel = Endpoint::try_from(format!("unix://{}", node.endpoint()))?.connect().await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        let mut pages = [Vec::new(), Vec::new()];
        for (method, pages) in lists.methods().into_iter().zip(&mut pages) {
            client.ready().await?;
            let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"))?;
            match lists {
                Lists::Unary => {
                    pages.push(client.unary(Request::new(()), path, Unread::default()).await?.into_inner());
                }
                Lists::Streamed => {
                    let answer = client.server_streaming(Request::new(()), path, Unread::default()).await?;
                    *pages = answer.into_inner().try_collect().await?;
                }
            }
        }
        let [sandboxes, containers] = pages;
        Ok(Self { sandboxes, containers })
    }

    /// Both lists, if each is one message.
    #[allow(dead_code, reason = "for benches/hot.rs")]
    pub(crate) fn unary(&self) -> Option<(Bytes, Bytes)> {
        match (&self.sandboxes[..], &self.containers[..]) {
            ([sandboxes], [containers]) => Some((sandboxes.clone(), containers.clone())),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.sandboxes.iter().chain(&self.containers).map(Bytes::len).sum()
    }

    /// Decodes both lists once in full. Nothing is awaited: the CPU time is that of this thread.
    pub(crate) fn decode(&self) -> Result<Floor> {
        let begun = cpu();
        let sandboxes = self.sandboxes.iter().map(|page| Sandboxes::decode(&page[..]));
        let sandboxes = sandboxes.collect::<Result<Vec<_>, _>>()?;
        let containers = self.containers.iter().map(|page| Containers::decode(&page[..]));
        let containers = containers.collect::<Result<Vec<_>, _>>()?;
        let decoded = cpu();
        drop((std::hint::black_box(sandboxes), std::hint::black_box(containers)));
        Ok(Floor { decoded: decoded - begun, dropped: cpu() - begun })
    }
}

/// CPU time of this thread.
pub(crate) fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
