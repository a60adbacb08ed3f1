//! Decodes the status of a container or sandbox directly into the model.
//!
//! Each event carries the statuses of a whole pod, and most of their bytes are labels and annotations: prost would
//! build maps of strings only for them to be packed afterwards. The field numbers are those of `ContainerStatus` and
//! `PodSandboxStatus`; fields that
//! are not in `proto/cri.proto` are skipped.
//!
//! Ids and the names of pods and containers must be UTF-8. In other text, such as a termination message, U+FFFD
//! replaces bytes that are not UTF-8: rejecting the message would make the whole pod unreadable for ever.

use std::borrow::Cow;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::convert::{container_state, sandbox_state};
use crate::{
    clock::Wall,
    model::{ContainerState, ContainerStatus, ObjectId, PodIdentity, SandboxStatus},
};

/// Maximum number of labels, annotations or addresses: Kubernetes allows 256 KiB of annotations, of at least four
/// bytes each. An empty one takes two bytes on the wire and fifty in memory.
const REPEATED_LIMIT: usize = 1 << 16;

/// The bytes are not a message of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status that cannot be decoded")]
pub(crate) struct Malformed;

/// The fields of a message, one after the other.
struct Fields<'a>(&'a [u8]);

/// The content of a field.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Decodes a `ContainerStatus`, which does not contain the sandbox id.
pub(crate) fn container_status(bytes: &[u8], sandbox_id: &ObjectId) -> Result<ContainerStatus, Malformed> {
    let (mut id, mut name, mut attempt) = ("", "", 0);
    let (mut state, mut exit_code) = (0, 0);
    let [mut created_at, mut started_at, mut finished_at] = [0; 3];
    let [mut image, mut image_ref, mut reason, mut message] = [const { Cow::Borrowed("") }; 4];
    let [mut labels, mut annotations] = [const { Pairs::new() }; 2];
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => id = value.name()?,
            2 => (name, attempt) = container_metadata(value.bytes()?)?,
            3 => state = value.number()? as i32,
            4 => created_at = value.number()? as i64,
            5 => started_at = value.number()? as i64,
            6 => finished_at = value.number()? as i64,
            7 => exit_code = value.number()? as i32,
            8 => image = first_text(value.bytes()?)?,
            9 => image_ref = value.text()?,
            10 => reason = value.text()?,
            11 => message = value.text()?,
            12 => add(&mut labels, pair(value.bytes()?)?)?,
            13 => add(&mut annotations, pair(value.bytes()?)?)?,
            _ => {}
        }
    }
    let state = container_state(state);
    Ok(ContainerStatus {
        id: id.into(),
        sandbox_id: sandbox_id.clone(),
        name: name.into(),
        attempt,
        state,
        created_at: Wall::from_cri(created_at),
        started_at: Wall::from_cri(started_at),
        finished_at: Wall::from_cri(finished_at),
        exit_code: (state == ContainerState::Exited).then_some(exit_code),
        reason: reason.into_owned(),
        message: message.into_owned(),
        image: image.into_owned(),
        image_ref: image_ref.into_owned(),
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
    })
}

/// Decodes a `PodSandboxStatus`.
pub(crate) fn sandbox_status(bytes: &[u8]) -> Result<SandboxStatus, Malformed> {
    let (mut id, mut state, mut created_at) = ("", 0, 0);
    let mut metadata = SandboxMetadata::default();
    let mut ips = Vec::new();
    let mut runtime_handler = Cow::Borrowed("");
    let [mut labels, mut annotations] = [const { Pairs::new() }; 2];
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => id = value.name()?,
            2 => metadata = SandboxMetadata::of(value.bytes()?)?,
            3 => state = value.number()? as i32,
            4 => created_at = value.number()? as i64,
            5 => ips = addresses(value.bytes()?)?,
            7 => add(&mut labels, pair(value.bytes()?)?)?,
            8 => add(&mut annotations, pair(value.bytes()?)?)?,
            9 => runtime_handler = value.text()?,
            _ => {}
        }
    }
    let id = ObjectId::from(id);
    Ok(SandboxStatus {
        pod: metadata.pod(&id),
        id,
        attempt: metadata.attempt,
        state: sandbox_state(state),
        created_at: Wall::from_cri(created_at),
        ips,
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
        runtime_handler: runtime_handler.into_owned(),
    })
}

/// Decodes a `PodSandbox`, the item of a list: a status without addresses.
pub(super) fn listed_sandbox(bytes: &[u8]) -> Result<SandboxStatus, Malformed> {
    let (mut id, mut state, mut created_at) = ("", 0, 0);
    let mut metadata = SandboxMetadata::default();
    let mut runtime_handler = Cow::Borrowed("");
    let [mut labels, mut annotations] = [const { Pairs::new() }; 2];
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => id = value.name()?,
            2 => metadata = SandboxMetadata::of(value.bytes()?)?,
            3 => state = value.number()? as i32,
            4 => created_at = value.number()? as i64,
            5 => add(&mut labels, pair(value.bytes()?)?)?,
            6 => add(&mut annotations, pair(value.bytes()?)?)?,
            7 => runtime_handler = value.text()?,
            _ => {}
        }
    }
    let id = ObjectId::from(id);
    Ok(SandboxStatus {
        pod: metadata.pod(&id),
        id,
        attempt: metadata.attempt,
        state: sandbox_state(state),
        created_at: Wall::from_cri(created_at),
        ips: Vec::new(),
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
        runtime_handler: runtime_handler.into_owned(),
    })
}

/// Decodes a `Container`, the item of a list: a status without times, exit code, reason and message, but with the
/// sandbox id.
pub(super) fn listed_container(bytes: &[u8]) -> Result<ContainerStatus, Malformed> {
    let (mut id, mut sandbox_id, mut name, mut attempt) = ("", "", "", 0);
    let (mut state, mut created_at) = (0, 0);
    let [mut image, mut image_ref] = [const { Cow::Borrowed("") }; 2];
    let [mut labels, mut annotations] = [const { Pairs::new() }; 2];
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => id = value.name()?,
            2 => sandbox_id = value.name()?,
            3 => (name, attempt) = container_metadata(value.bytes()?)?,
            4 => image = first_text(value.bytes()?)?,
            5 => image_ref = value.text()?,
            6 => state = value.number()? as i32,
            7 => created_at = value.number()? as i64,
            8 => add(&mut labels, pair(value.bytes()?)?)?,
            9 => add(&mut annotations, pair(value.bytes()?)?)?,
            _ => {}
        }
    }
    Ok(ContainerStatus {
        id: id.into(),
        sandbox_id: sandbox_id.into(),
        name: name.into(),
        attempt,
        state: container_state(state),
        created_at: Wall::from_cri(created_at),
        started_at: None,
        finished_at: None,
        exit_code: None,
        reason: String::new(),
        message: String::new(),
        image: image.into_owned(),
        image_ref: image_ref.into_owned(),
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
    })
}

/// The id in a `ContainerStatus`.
pub(super) fn id_of(status: &[u8]) -> Result<&str, Malformed> {
    let (mut id, mut fields) = ("", Fields(status));
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            id = value.name()?;
        }
    }
    Ok(id)
}

/// The fields of a message that have these numbers.
pub(super) fn only(message: &[u8], wanted: &[u32]) -> Result<Vec<u8>, Malformed> {
    let mut kept = Vec::new();
    let mut fields = Fields(message);
    let mut rest = message;
    while let Some((number, _)) = fields.next()? {
        let (field, after) = rest.split_at(rest.len() - fields.0.len());
        if wanted.contains(&number) {
            kept.extend_from_slice(field);
        }
        rest = after;
    }
    kept.shrink_to_fit();
    Ok(kept)
}

#[derive(Default)]
struct SandboxMetadata<'a> {
    name: &'a str,
    uid: &'a str,
    namespace: &'a str,
    attempt: u32,
}

// === impl SandboxMetadata ===

impl<'a> SandboxMetadata<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut metadata, mut fields) = (Self::default(), Fields(bytes));
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => metadata.name = value.name()?,
                2 => metadata.uid = value.name()?,
                3 => metadata.namespace = value.name()?,
                4 => metadata.attempt = value.number()? as u32,
                _ => {}
            }
        }
        Ok(metadata)
    }

    /// The pod of the sandbox with this id. A missing UID is replaced by the id.
    fn pod(&self, id: &ObjectId) -> PodIdentity {
        PodIdentity {
            uid: if self.uid.is_empty() { id.as_str().into() } else { self.uid.into() },
            namespace: self.namespace.into(),
            name: self.name.into(),
        }
    }
}

fn container_metadata(bytes: &[u8]) -> Result<(&str, u32), Malformed> {
    let (mut name, mut attempt, mut fields) = ("", 0, Fields(bytes));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.name()?,
            2 => attempt = value.number()? as u32,
            _ => {}
        }
    }
    Ok((name, attempt))
}

/// The addresses of a `PodSandboxNetworkStatus` that are not empty, its first one first.
fn addresses(bytes: &[u8]) -> Result<Vec<String>, Malformed> {
    let (mut first, mut more, mut fields) = (Cow::Borrowed(""), Vec::new(), Fields(bytes));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => first = value.text()?,
            2 => add(&mut more, first_text(value.bytes()?)?)?,
            _ => {}
        }
    }
    let all = [first].into_iter().chain(more);
    Ok(all.filter(|ip| !ip.is_empty()).map(Cow::into_owned).collect())
}

/// Field 1 of a message in which no other field matters.
fn first_text(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let (mut text, mut fields) = (Cow::Borrowed(""), Fields(bytes));
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            text = value.text()?;
        }
    }
    Ok(text)
}

fn add<T>(all: &mut Vec<T>, one: T) -> Result<(), Malformed> {
    if all.len() == REPEATED_LIMIT {
        return Err(Malformed);
    }
    all.push(one);
    Ok(())
}

/// An entry of a map.
fn pair(bytes: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), Malformed> {
    let (mut key, mut entry_value, mut fields) = (Cow::Borrowed(""), Cow::Borrowed(""), Fields(bytes));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => key = value.text()?,
            2 => entry_value = value.text()?,
            _ => {}
        }
    }
    Ok((key, entry_value))
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// The next field with a number, a text or a message; others are skipped.
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        while !self.0.is_empty() {
            let (number, kind) = decode_key(&mut self.0).map_err(|_| Malformed)?;
            match kind {
                WireType::Varint => {
                    let value = decode_varint(&mut self.0).map_err(|_| Malformed)?;
                    return Ok(Some((number, Value::Number(value))));
                }
                WireType::LengthDelimited => {
                    let length = decode_varint(&mut self.0).map_err(|_| Malformed)?;
                    let length = usize::try_from(length).map_err(|_| Malformed)?;
                    let (value, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                    self.0 = rest;
                    return Ok(Some((number, Value::Bytes(value))));
                }
                other => {
                    skip_field(other, number, &mut self.0, DecodeContext::default()).map_err(|_| Malformed)?
                }
            }
        }
        Ok(None)
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn number(self) -> Result<u64, Malformed> {
        if let Self::Number(number) = self { Ok(number) } else { Err(Malformed) }
    }

    fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed) }
    }

    fn name(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    fn text(self) -> Result<Cow<'a, str>, Malformed> {
        let bytes = self.bytes()?;
        // Nearly all text is UTF-8, and this check alone is faster.
        Ok(std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
    }
}

#[cfg(test)]
mod tests;
