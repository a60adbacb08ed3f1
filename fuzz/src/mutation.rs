//! Mutates an input slightly, like a fuzzer, but reproducibly by seed.

use fastrand::Rng;

/// Boundary values and special characters.
const EDGES: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'%', b',', b'"', b'\n', b'\\'];

/// An input from the seeds with a few mutations.
pub fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..rng.usize(0..6) {
        let at = rng.usize(0..=bytes.len());
        let end = (at + rng.usize(0..24)).min(bytes.len());
        match rng.u8(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            1 if at < bytes.len() => bytes[at] = *rng.choice(&EDGES).unwrap_or(&0),
            2 => bytes.insert(at, rng.u8(..)),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                let place = rng.usize(0..=bytes.len());
                bytes.splice(place..place, again);
            }
            5 => bytes.truncate(at),
            6 => {
                let other = rng.choice(seeds).map(Vec::as_slice).unwrap_or_default();
                let from = rng.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte = rng.u8(..)),
        }
    }
    bytes
}
