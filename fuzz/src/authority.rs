//! The bytes of a gRPC client on a UNIX socket: only the authority's value is changed, however the bytes are split.

use plegd::fuzzing;

use super::input::Input;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NAME: &[u8] = b"\x0a:authority";

/// Fixes the authority in the whole and in pieces.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let size = 1 + usize::from(input.byte());
    let input_bytes = if input.chance(160) { generated(&mut input) } else { input.rest().to_vec() };
    let mut whole = input_bytes.clone();
    fuzzing::sanitize_authorities([&mut whole[..]]);
    let mut pieces = input_bytes.clone();
    fuzzing::sanitize_authorities(pieces.chunks_mut(size));
    assert_eq!(whole, pieces, "in pieces of {size}: {input_bytes:02x?}");
    assert_eq!(whole, reference(&input_bytes), "{input_bytes:02x?}");
    let mut again = whole.clone();
    fuzzing::sanitize_authorities([&mut again[..]]);
    assert_eq!(again, whole, "a second time: {input_bytes:02x?}");
}

/// Frames of all kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> =
        super::seeds::of_choices(16, 300).into_iter().map(|seed| [&[3, 0xff][..], &seed].concat()).collect();
    let mut plain = [&[0, 0][..], PREFACE].concat();
    plain.extend(frame(1, &[NAME, b"\x05run%2Fx"].concat()));
    seeds.push(plain);
    seeds
}

/// Frames with header blocks that contain authorities.
fn generated(input: &mut Input<'_>) -> Vec<u8> {
    let mut input_bytes = PREFACE.to_vec();
    while !input.is_empty() && input_bytes.len() < 8192 {
        let mut payload = Vec::new();
        for _ in 0..input.below(4) {
            match input.below(6) {
                0 => payload.extend(NAME),
                1 => {
                    let cut = input.below(NAME.len());
                    payload.extend(&NAME[..cut]);
                }
                2 => payload.extend([0x7f, input.byte(), input.byte()]),
                3 => {
                    let path = "run%2Fx".repeat(input.below(40));
                    payload.extend(NAME);
                    match path.len() {
                        length @ ..0x7f => payload.push(length as u8),
                        length => {
                            payload.extend([0x7f, (length - 0x7f) as u8 | 0x80, ((length - 0x7f) >> 7) as u8])
                        }
                    }
                    payload.extend(path.as_bytes());
                }
                4 => payload.extend(b"%%%\x0a\x0a:a"),
                _ => payload.extend(input.counted().iter().take(300)),
            }
        }
        input_bytes.extend(frame(input.pick(&[1, 1, 9, 9, 0, 4, 255]), &payload));
    }
    input_bytes.truncate(input_bytes.len() - input.below(20).min(input_bytes.len()));
    input_bytes
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, 4, 0, 0, 0, 1]);
    frame.extend(payload);
    frame
}

/// A second implementation, on all bytes at once: finds the header blocks, then the names, then the values.
fn reference(input_bytes: &[u8]) -> Vec<u8> {
    // The positions of the bytes of each header block.
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    let mut at = PREFACE.len();
    while let Some(header) = input_bytes.get(at..at + 9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let payload = at + 9..(at + 9 + length).min(input_bytes.len());
        match header[3] {
            1 => blocks.push(payload.collect()),
            9 if blocks.is_empty() => blocks.push(payload.collect()),
            9 => blocks.iter_mut().rev().take(1).for_each(|block| block.extend(payload.clone())),
            _ => {}
        }
        at += 9 + length;
    }
    let mut sanitized = input_bytes.to_vec();
    for block in blocks {
        let bytes: Vec<u8> = block.iter().map(|&place| input_bytes[place]).collect();
        let mut from = 0;
        while let Some(found) = bytes[from..].windows(NAME.len()).position(|window| window == NAME) {
            let at_length = from + found + NAME.len();
            let (length, value_at) = length_of_value(&bytes, at_length);
            let value = value_at.min(bytes.len())..(value_at + length).min(bytes.len());
            for place in block[value.clone()].iter().filter(|&&place| input_bytes[place] == b'%') {
                sanitized[*place] = b'-';
            }
            from = value.end;
        }
    }
    sanitized
}

/// Length and start of a plain value; length 0 for other encodings.
fn length_of_value(bytes: &[u8], at: usize) -> (usize, usize) {
    match bytes.get(at) {
        None | Some(0x80..) => (0, at + 1),
        Some(0x7f) => {
            let mut length = 0x7f;
            for more in 0..2 {
                let Some(byte) = bytes.get(at + 1 + more) else { return (0, bytes.len()) };
                length += usize::from(byte & 0x7f) << (7 * more);
                if byte & 0x80 == 0 {
                    return (length, at + 2 + more);
                }
            }
            // A third length byte is skipped.
            (0, at + 4)
        }
        Some(&length) => (length.into(), at + 1),
    }
}
