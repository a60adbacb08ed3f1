//! Conversion from the model to the messages of `plegd.v1`, and messages that are already encoded.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, encode_key, encode_varint, skip_field},
};

use crate::v1::{self, watch_response::Update as WireUpdate};
use crate::{
    client::timestamp,
    cri::RuntimeInfo,
    journal::{Detail, Journal, Record},
    model::{
        ContainerState, ContainerStatus, Labels, Mode, Pod, PodIdentity, SandboxState, SandboxStatus, Source,
        Subject,
    },
    watch::{Gap, GapReason, Hello, Update},
};

/// An encoded `WatchResponse`. A message for many subscribers is encoded once. It can be sent but not decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded(pub Bytes);

/// Field number of `WatchResponse.skipped`.
const SKIPPED: u32 = 15;

// === impl Encoded ===

impl Encoded {
    /// Encodes an update. An event is encoded once for all subscribers with the same detail.
    pub(crate) fn of(update: &Update, detail: Detail, journal: &Journal, node: &Node) -> Self {
        let message = match update {
            Update::Event { record, skipped } => {
                let bytes = journal.encoded(record, detail, |it| {
                    message(WireUpdate::Event(event(it, detail, journal.epoch())))
                });
                return Self(if *skipped == 0 { bytes } else { with_skipped(&bytes, *skipped) });
            }
            Update::Hello(hello) => WireUpdate::Hello(node.hello(hello)),
            Update::Pod(pod) => WireUpdate::Pod(pod.as_ref().into()),
            Update::SnapshotEnd { position, pods } => WireUpdate::SnapshotEnd(v1::SnapshotEnd {
                position: Some((*position).into()),
                pods: u32::try_from(*pods).unwrap_or(u32::MAX),
            }),
            Update::Bookmark(position) => {
                WireUpdate::Bookmark(v1::Bookmark { position: Some((*position).into()) })
            }
            Update::Gap(gap) => WireUpdate::Gap((*gap).into()),
            Update::Restarted(restart) => WireUpdate::Restarted(v1::Restarted {
                down_since: Some(timestamp(restart.down_since)),
                up_since: Some(timestamp(restart.up_since)),
                down_for: Some(duration(restart.down_for)),
                blind: restart.blind,
                position: Some(journal.position(restart.after).into()),
            }),
            Update::Mode { mode, previous } => WireUpdate::ModeChange(v1::ModeChange {
                mode: v1::Mode::from(*mode).into(),
                previous: v1::Mode::from(*previous).into(),
            }),
        };
        Self(self::message(message))
    }
}

impl Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, ctx)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

fn message(update: WireUpdate) -> Bytes {
    v1::WatchResponse { update: Some(update), skipped: 0 }.encode_to_vec().into()
}

/// Appends the field `skipped` to the message; protobuf allows it at the end.
fn with_skipped(bytes: &Bytes, skipped: u64) -> Bytes {
    let mut extended = BytesMut::with_capacity(bytes.len() + 12);
    extended.put_slice(bytes);
    encode_key(SKIPPED, WireType::Varint, &mut extended);
    encode_varint(skipped, &mut extended);
    extended.freeze()
}

/// The node's data in each Hello.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub name: String,
}

impl Node {
    fn hello(&self, hello: &Hello) -> v1::Hello {
        v1::Hello {
            head: Some(hello.head.into()),
            oldest: hello.oldest,
            node_name: self.name.clone(),
            runtime: hello.runtime.as_ref().map(Into::into),
            mode: v1::Mode::from(hello.mode).into(),
            version: crate::version::VERSION.into(),
        }
    }
}

fn event(record: &Record, detail: Detail, epoch: u64) -> v1::Event {
    let pod_status = match detail {
        Detail::Event => None,
        Detail::Pod => record.pod.as_deref().map(Into::into),
    };
    let event = &record.event;
    v1::Event {
        sequence: event.sequence,
        r#type: v1::EventType::from(event.kind).into(),
        subject: match event.subject {
            Subject::Container => v1::Subject::Container,
            Subject::Sandbox => v1::Subject::Sandbox,
        }
        .into(),
        pod: Some((&event.pod).into()),
        container_id: event.id.to_string(),
        container_name: event.container_name.to_string(),
        source: match event.source {
            Source::Event => v1::Source::Event,
            Source::Relist => v1::Source::Relist,
            Source::Read => v1::Source::Read,
        }
        .into(),
        occurred_at: event.occurred_at.map(timestamp),
        observed_at: Some(timestamp(event.observed_at)),
        stamped_at: event.stamped_at.map(timestamp),
        exit_code: event.exit_code,
        reason: event.reason.clone(),
        inferred: event.inferred,
        pod_status,
        initial: event.initial,
        late: event.late,
        position: Some(v1::Position { epoch, sequence: event.sequence }),
    }
}

pub(super) fn duration(time: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

impl From<&PodIdentity> for v1::PodIdentity {
    fn from(pod: &PodIdentity) -> Self {
        Self { uid: pod.uid.to_string(), namespace: pod.namespace.to_string(), name: pod.name.to_string() }
    }
}

impl From<&Pod> for v1::Pod {
    fn from(pod: &Pod) -> Self {
        Self {
            identity: Some((&pod.identity).into()),
            sandboxes: pod.sandboxes.iter().map(|sandbox| sandbox.as_ref().into()).collect(),
            containers: pod.containers.iter().map(|container| container.as_ref().into()).collect(),
            ips: pod.ips.clone(),
            labels: pairs(&pod.labels),
            sequence: pod.sequence,
        }
    }
}

/// Converts labels or annotations to the map of a message.
fn pairs(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.into(), value.into())).collect()
}

impl From<&SandboxStatus> for v1::Sandbox {
    fn from(sandbox: &SandboxStatus) -> Self {
        Self {
            id: sandbox.id.to_string(),
            attempt: sandbox.attempt,
            state: match sandbox.state {
                SandboxState::Ready => v1::SandboxState::Ready,
                SandboxState::NotReady => v1::SandboxState::NotReady,
            }
            .into(),
            created_at: sandbox.created_at.map(timestamp),
            ips: sandbox.ips.clone(),
            labels: pairs(&sandbox.labels),
            annotations: pairs(&sandbox.annotations),
            runtime_handler: sandbox.runtime_handler.clone(),
        }
    }
}

impl From<&ContainerStatus> for v1::Container {
    fn from(container: &ContainerStatus) -> Self {
        Self {
            id: container.id.to_string(),
            sandbox_id: container.sandbox_id.to_string(),
            name: container.name.to_string(),
            attempt: container.attempt,
            state: match container.state {
                ContainerState::Created => v1::ContainerState::Created,
                ContainerState::Running => v1::ContainerState::Running,
                ContainerState::Exited => v1::ContainerState::Exited,
                ContainerState::Unknown => v1::ContainerState::Unknown,
            }
            .into(),
            created_at: container.created_at.map(timestamp),
            started_at: container.started_at.map(timestamp),
            finished_at: container.finished_at.map(timestamp),
            exit_code: container.exit_code,
            reason: container.reason.clone(),
            message: container.message.clone(),
            image: container.image.clone(),
            image_ref: container.image_ref.clone(),
            labels: pairs(&container.labels),
            annotations: pairs(&container.annotations),
        }
    }
}

impl From<&RuntimeInfo> for v1::Runtime {
    fn from(runtime: &RuntimeInfo) -> Self {
        let RuntimeInfo { name, version, api_version } = runtime.clone();
        Self { name, version, api_version }
    }
}

impl From<Mode> for v1::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Polling => Self::Polling,
            Mode::Probing => Self::Probing,
            Mode::Evented => Self::Evented,
        }
    }
}

impl From<Gap> for v1::Gap {
    fn from(gap: Gap) -> Self {
        let reason = match gap.reason {
            GapReason::Compacted => v1::GapReason::Compacted,
            GapReason::ForeignEpoch => v1::GapReason::ForeignEpoch,
            GapReason::InFuture => v1::GapReason::InFuture,
        };
        Self { reason: reason.into(), from: gap.from, to: gap.to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_bytes_decode_to_the_same_message() {
        let bookmark = v1::Bookmark { position: Some(v1::Position { epoch: 7, sequence: 42 }) };
        let bytes = message(WireUpdate::Bookmark(bookmark));
        let sent = Encoded(bytes.clone()).encode_to_vec();
        let decoded = v1::WatchResponse::decode(&sent[..]).unwrap();
        assert_eq!((decoded.update, decoded.skipped), (Some(WireUpdate::Bookmark(bookmark)), 0));
        let decoded = v1::WatchResponse::decode(with_skipped(&bytes, 300)).unwrap();
        assert_eq!((decoded.update, decoded.skipped), (Some(WireUpdate::Bookmark(bookmark)), 300));
    }
}
