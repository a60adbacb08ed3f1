use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    cri::v1,
    model::{Labels, SandboxState},
};

fn container() -> v1::ContainerStatus {
    v1::ContainerStatus {
        id: "id".into(),
        metadata: Some(v1::ContainerMetadata { name: "name".into(), attempt: 7 }),
        state: v1::ContainerState::ContainerExited.into(),
        created_at: 1,
        started_at: 2,
        finished_at: 3,
        exit_code: -1,
        image: Some(v1::ImageSpec { image: "image".into() }),
        image_ref: "ref".into(),
        reason: "Error".into(),
        message: "message".into(),
        labels: [("b".into(), "2".into()), ("a".into(), "1".into())].into(),
        annotations: [("c".into(), "3".into())].into(),
    }
}

fn sandbox() -> v1::PodSandboxStatus {
    let more = ["", "fd00::2"].map(|ip| v1::PodIp { ip: ip.into() });
    v1::PodSandboxStatus {
        id: "id".into(),
        metadata: Some(v1::PodSandboxMetadata {
            name: "name".into(),
            uid: "uid".into(),
            namespace: "namespace".into(),
            attempt: 7,
        }),
        state: v1::PodSandboxState::SandboxNotready.into(),
        created_at: -1,
        network: Some(v1::PodSandboxNetworkStatus { ip: "10.0.0.2".into(), additional_ips: more.into() }),
        labels: [("b".into(), "2".into()), ("a".into(), "1".into())].into(),
        annotations: [("c".into(), "3".into())].into(),
        runtime_handler: "runc".into(),
    }
}

#[test]
fn each_field_of_a_container_is_decoded() {
    let status = container_status(&container().encode_to_vec(), &"s".into());
    let expected = ContainerStatus {
        id: "id".into(),
        sandbox_id: "s".into(),
        name: "name".into(),
        attempt: 7,
        state: ContainerState::Exited,
        created_at: Wall::from_cri(1),
        started_at: Wall::from_cri(2),
        finished_at: Wall::from_cri(3),
        exit_code: Some(-1),
        reason: "Error".into(),
        message: "message".into(),
        image: "image".into(),
        image_ref: "ref".into(),
        labels: Labels::from([("a", "1"), ("b", "2")]),
        annotations: Labels::from([("c", "3")]),
    };
    assert_eq!(status, Ok(expected));
    let running = v1::ContainerStatus { state: v1::ContainerState::ContainerRunning.into(), ..container() };
    let running = container_status(&running.encode_to_vec(), &"s".into()).expect("decodes");
    assert_eq!((running.state, running.exit_code), (ContainerState::Running, None));
    let nothing = container_status(&[], &"s".into()).expect("decodes");
    assert_eq!((nothing.id.as_str(), nothing.state, nothing.created_at), ("", ContainerState::Created, None));
}

#[test]
fn each_field_of_a_sandbox_is_decoded() {
    let status = sandbox_status(&sandbox().encode_to_vec());
    let expected = SandboxStatus {
        id: "id".into(),
        pod: PodIdentity { uid: "uid".into(), namespace: "namespace".into(), name: "name".into() },
        attempt: 7,
        state: SandboxState::NotReady,
        created_at: Wall::from_cri(-1),
        ips: vec!["10.0.0.2".into(), "fd00::2".into()],
        labels: Labels::from([("a", "1"), ("b", "2")]),
        annotations: Labels::from([("c", "3")]),
        runtime_handler: "runc".into(),
    };
    assert_eq!(status, Ok(expected));
    let made_by_hand = v1::PodSandboxStatus { id: "id".into(), ..v1::PodSandboxStatus::default() };
    let made_by_hand = sandbox_status(&made_by_hand.encode_to_vec()).expect("decodes");
    assert_eq!(made_by_hand.pod.uid.as_str(), "id");
}

#[test]
fn text_that_is_not_utf_8_is_replaced_and_the_rest_is_kept() {
    let spoilt = |mut bytes: Vec<u8>, text: &str| {
        let at = bytes.windows(text.len()).position(|it| it == text.as_bytes()).expect("is in it");
        bytes[at] = 0xff;
        bytes
    };
    let bytes = spoilt(spoilt(container().encode_to_vec(), "message"), "3");
    let status = container_status(&bytes, &"s".into()).expect("decodes");
    assert_eq!((status.message.as_str(), status.reason.as_str()), ("\u{fffd}essage", "Error"));
    assert_eq!(status.annotations.get("c"), Some("\u{fffd}"));
    for name in ["id", "name"] {
        assert_eq!(container_status(&spoilt(container().encode_to_vec(), name), &"s".into()), Err(Malformed));
    }
    for name in ["id", "name", "uid", "namespace"] {
        assert_eq!(sandbox_status(&spoilt(sandbox().encode_to_vec(), name)), Err(Malformed), "{name}");
    }
}

#[test]
fn only_the_listed_fields_are_kept() {
    let lean = only(&container().encode_to_vec(), &[1, 2, 3, 4, 5, 6, 7, 10]).expect("decodes");
    let expected = v1::ContainerStatus {
        image: None,
        image_ref: String::new(),
        message: String::new(),
        labels: [].into(),
        annotations: [].into(),
        ..container()
    };
    assert_eq!(v1::ContainerStatus::decode(&*lean), Ok(expected));
    assert_eq!(id_of(&lean), Ok("id"));
    assert_eq!(only(&[0xff], &[1]), Err(Malformed));
}

#[test]
fn too_many_repeated_fields_are_malformed() {
    let with = container().encode_to_vec();
    for key in [12, 13] {
        let empty = [key << 3 | 2, 0];
        let status = |times| [&with[..], &empty.repeat(times)].concat();
        assert!(container_status(&status(REPEATED_LIMIT - 2), &"s".into()).is_ok());
        assert!(container_status(&status(REPEATED_LIMIT), &"s".into()).is_err());
    }
}

proptest! {
    #[test]
    fn the_decoder_agrees_with_prost(bytes: Vec<u8>, cut in 0_usize..200, flip in 0_usize..200, to: u8) {
        // Half of the inputs are mutated messages, the others are random bytes.
        let mut spoilt = container().encode_to_vec();
        spoilt.truncate(cut.max(1));
        let at = flip % spoilt.len();
        spoilt[at] = to;
        for bytes in [bytes, spoilt] {
            if let Ok(by_prost) = v1::ContainerStatus::decode(&*bytes) {
                let status = container_status(&bytes, &"s".into());
                // prost merges a message that occurs twice; here the last one counts.
                let status = status.expect("no more is refused");
                let labels: Labels = by_prost.labels.iter().collect();
                prop_assert_eq!(status.id.as_str(), by_prost.id);
                prop_assert_eq!((status.reason, status.labels), (by_prost.reason, labels));
                prop_assert_eq!(status.created_at, Wall::from_cri(by_prost.created_at));
            }
        }
    }
}
