//! Conversions from the messages of `plegd.v1` to the model.

use prost_types::Timestamp;

use crate::{
    clock::Wall,
    model::{Event, EventType, PodIdentity, Position, Source, Subject},
    v1,
};

/// A message has a value that this version does not know, because a newer plegd sent it. Skip the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {field}: {value}")]
pub struct UnknownValue {
    /// The field.
    pub field: &'static str,
    /// The value.
    pub value: i32,
}

/// A time of the API as plegd's own type. A time out of range, which is centuries away, becomes the nearest one in range.
pub fn wall(time: &Timestamp) -> Wall {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let clamped = nanos.clamp(i64::MIN.into(), i64::MAX.into());
    Wall::from_nanos(i64::try_from(clamped).unwrap_or_default())
}

/// A wall-clock time as a protobuf timestamp.
pub fn timestamp(at: Wall) -> Timestamp {
    const SECOND: i64 = 1_000_000_000;
    let nanos = at.as_nanos();
    let below = i32::try_from(nanos.rem_euclid(SECOND)).unwrap_or_default();
    Timestamp { seconds: nanos.div_euclid(SECOND), nanos: below }
}

impl From<v1::Position> for Position {
    fn from(position: v1::Position) -> Self {
        Self { epoch: position.epoch, sequence: position.sequence }
    }
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, sequence: position.sequence }
    }
}

impl From<EventType> for v1::EventType {
    fn from(kind: EventType) -> Self {
        match kind {
            EventType::ContainerStarted => v1::EventType::ContainerStarted,
            EventType::ContainerDied => v1::EventType::ContainerDied,
            EventType::ContainerRemoved => v1::EventType::ContainerRemoved,
            EventType::ContainerChanged => v1::EventType::ContainerChanged,
            EventType::PodSync => v1::EventType::PodSync,
        }
    }
}

impl TryFrom<&v1::Event> for Event {
    type Error = UnknownValue;

    fn try_from(event: &v1::Event) -> Result<Self, UnknownValue> {
        let kind = match event.r#type() {
            v1::EventType::ContainerStarted => EventType::ContainerStarted,
            v1::EventType::ContainerDied => EventType::ContainerDied,
            v1::EventType::ContainerRemoved => EventType::ContainerRemoved,
            v1::EventType::ContainerChanged => EventType::ContainerChanged,
            v1::EventType::PodSync => EventType::PodSync,
            v1::EventType::Unspecified => {
                return Err(UnknownValue { field: "type of event", value: event.r#type });
            }
        };
        let subject = match event.subject() {
            v1::Subject::Container => Subject::Container,
            v1::Subject::Sandbox => Subject::Sandbox,
            v1::Subject::Unspecified => return Err(UnknownValue { field: "subject", value: event.subject }),
        };
        let source = match event.source() {
            v1::Source::Event => Source::Event,
            v1::Source::Relist => Source::Relist,
            v1::Source::Read => Source::Read,
            v1::Source::Unspecified => return Err(UnknownValue { field: "source", value: event.source }),
        };
        let pod = event.pod.clone().unwrap_or_default();
        // The message has the labels only with the pod.
        let labels = event.pod_status.as_ref().map(|pod| pod.labels.iter().collect());
        Ok(Self {
            labels: labels.unwrap_or_default(),
            sequence: event.sequence,
            kind,
            subject,
            pod: PodIdentity { uid: pod.uid.into(), namespace: pod.namespace.into(), name: pod.name.into() },
            id: event.container_id.as_str().into(),
            container_name: event.container_name.as_str().into(),
            source,
            occurred_at: event.occurred_at.as_ref().map(wall),
            observed_at: event.observed_at.as_ref().map(wall).unwrap_or_default(),
            stamped_at: event.stamped_at.as_ref().map(wall),
            exit_code: event.exit_code,
            reason: event.reason.clone(),
            initial: event.initial,
            late: event.late,
            inferred: event.inferred,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_same_after_both_conversions() {
        let time = Timestamp { seconds: 1_800_000_000, nanos: 123_456_789 };
        assert_eq!(wall(&time).to_string(), "2027-01-15T08:00:00.123456789Z");
        assert_eq!(wall(&Timestamp { seconds: i64::MAX, nanos: 0 }).as_nanos(), i64::MAX);
    }

    #[test]
    fn times_before_1970_are_converted_correctly() {
        assert_eq!(timestamp(Wall::from_nanos(-1)), Timestamp { seconds: -1, nanos: 999_999_999 });
        assert_eq!(timestamp(Wall::from_nanos(1_500_000_000)), Timestamp { seconds: 1, nanos: 500_000_000 });
    }

    #[test]
    fn an_unknown_value_of_a_newer_plegd_is_an_error() {
        let event = v1::Event { r#type: 99, ..Default::default() };
        assert_eq!(Event::try_from(&event), Err(UnknownValue { field: "type of event", value: 99 }));
    }
}
