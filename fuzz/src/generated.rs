//! CRI messages from choices: nearly always well-formed, with every kind of wrong content except one: an id always
//! belongs to the same pod.

use plegd::clock::Wall;

use super::{input::Input, proto::Message};

/// Ids of sandboxes; the first two are of the first pod.
pub const SANDBOXES: [&str; 3] = ["s0", "s1", "s2"];
/// Ids of containers; the first four are of the first pod.
pub const CONTAINERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// `created_at` of a sandbox that containerd 2.x is removing (containerd#9673).
const BEFORE_1970: i64 = -6_795_364_578_871_345_152;
const SECOND: i64 = 1_000_000_000;

/// UID of the pod that an id belongs to.
pub fn uid_of(id: &str) -> &'static str {
    match id {
        "s0" | "s1" | "a" | "b" | "c" | "d" => "u0",
        _ => "u1",
    }
}

/// The sandbox of a container.
pub fn sandbox_of(id: &str) -> &'static str {
    match id {
        "a" | "b" => "s0",
        "c" | "d" => "s1",
        _ => "s2",
    }
}

/// Any of the ids.
pub fn id(input: &mut Input<'_>) -> &'static str {
    let at = input.below(SANDBOXES.len() + CONTAINERS.len());
    SANDBOXES.iter().chain(&CONTAINERS).nth(at).copied().unwrap_or_default()
}

/// A message of the event stream.
pub fn event(input: &mut Input<'_>, now: Wall) -> Vec<u8> {
    let id = id(input);
    let mut event = Message::default().text(1, id).number(2, number(input, 4)).number(3, time(input, now));
    let sandbox = if SANDBOXES.contains(&id) { id } else { sandbox_of(id) };
    if !input.chance(64) {
        event = event.message(4, sandbox_status(input, sandbox, now));
    }
    for other in CONTAINERS.into_iter().filter(|other| sandbox_of(other) == sandbox) {
        // Mostly only the event's own container, as on containerd.
        if (other == id && !input.chance(32)) || input.chance(48) {
            event = event.message(5, container_status(input, other, now));
        }
    }
    corrupted(input, event.finish())
}

/// The answers to `ListPodSandbox` and `ListContainers`.
pub fn lists(input: &mut Input<'_>, now: Wall) -> (Vec<u8>, Vec<u8>) {
    let (mut sandboxes, mut containers) = (Message::default(), Message::default());
    for id in SANDBOXES {
        if input.chance(160) {
            sandboxes = sandboxes.message(1, head(input, id, now));
        }
    }
    for id in CONTAINERS {
        if input.chance(160) {
            let metadata = Message::default().text(1, id).number(2, input.byte().into());
            let container = Message::default().text(1, id).text(2, sandbox_of(id)).message(3, metadata);
            let container = container.number(6, number(input, 4)).number(7, time(input, now));
            containers = containers.message(1, container);
        }
    }
    (corrupted(input, sandboxes.finish()), corrupted(input, containers.finish()))
}

/// The answer to `PodSandboxStatus`.
pub fn sandbox_answer(input: &mut Input<'_>, id: &str, now: Wall) -> Vec<u8> {
    let answer = Message::default().message(1, sandbox_status(input, id, now));
    corrupted(input, answer.finish())
}

/// The answer to `ContainerStatus`.
pub fn container_answer(input: &mut Input<'_>, id: &str, now: Wall) -> Vec<u8> {
    let answer = Message::default().message(1, container_status(input, id, now));
    corrupted(input, answer.finish())
}

/// The answer to `Version`.
pub fn version(input: &mut Input<'_>) -> Vec<u8> {
    let name = input.pick(&["containerd", "cri-o", "CRI-O", "", "unknown"]);
    let version =
        input.pick(&["v2.1.4", "1.7.27", "1.6.0", "1.27.0", "1.34.0", "", "99999999999.1", "v", "."]);
    Message::default().text(1, "0.1.0").text(2, name).text(3, version).text(4, "v1").finish()
}

fn sandbox_status(input: &mut Input<'_>, id: &str, now: Wall) -> Message {
    let mut status = head(input, id, now);
    if input.chance(64) {
        let another = Message::default().text(1, input.pick(&["fd00::1", ""]));
        let network = Message::default().text(1, input.pick(&["10.0.0.1", ""])).message(2, another);
        status = status.message(5, network);
    }
    if input.chance(64) {
        status = status.pair(7, "app", input.pick(&["web", "db", ""])).pair(8, "note", "x").text(9, "kata");
    }
    status
}

fn head(input: &mut Input<'_>, id: &str, now: Wall) -> Message {
    let status = Message::default().text(1, id).number(3, number(input, 2)).number(4, time(input, now));
    let metadata = Message::default().text(1, "pod").text(2, uid_of(id)).text(3, "ns");
    status.message(2, metadata.number(4, input.below(3) as u64))
}

fn container_status(input: &mut Input<'_>, id: &str, now: Wall) -> Message {
    let metadata = Message::default().text(1, id).number(2, input.below(3) as u64);
    let mut status = Message::default().text(1, id).message(2, metadata).number(3, number(input, 4));
    for field in 4..=6 {
        status = status.number(field, time(input, now));
    }
    status = status.number(7, input.pick(&[0, 1, 137, u64::MAX, 1 << 40]));
    if input.chance(96) {
        status = status.text(10, input.pick(&["Error", "OOMKilled", "StartError"])).text(11, "long text");
    }
    if input.chance(96) {
        status = status.message(8, Message::default().text(1, "busybox")).text(9, "sha256:1");
        status = status.pair(12, "io.kubernetes.pod.uid", uid_of(id)).pair(13, "note", "y");
    }
    status
}

/// A state or type: one of `known`, sometimes an unknown number.
fn number(input: &mut Input<'_>, known: u64) -> u64 {
    if input.chance(8) {
        input.pick(&[4, 77, u64::MAX, 1 << 31, 1 << 63])
    } else {
        u64::from(input.byte()) % known
    }
}

/// A timestamp in nanoseconds, mostly near the current time.
fn time(input: &mut Input<'_>, now: Wall) -> u64 {
    let now = now.as_nanos();
    let ago = i64::from(input.byte()) * SECOND / 100;
    let invalid =
        [0, -1, i64::MIN, i64::MAX, BEFORE_1970, now / SECOND, now + 3600 * SECOND, now - 3600 * SECOND];
    (if input.chance(40) { input.pick(&invalid) } else { now - ago }) as u64
}

/// The message, sometimes truncated.
fn corrupted(input: &mut Input<'_>, mut bytes: Vec<u8>) -> Vec<u8> {
    if input.chance(6) {
        bytes.truncate(input.short().into());
    }
    bytes
}
