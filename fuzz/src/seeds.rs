//! Generated initial inputs, close to valid ones so that mutations reach deep code.

use fastrand::Rng;

/// Random choices: `count` inputs of up to `length` bytes.
pub fn of_choices(count: u64, length: usize) -> Vec<Vec<u8>> {
    let of = |seed| {
        let mut rng = Rng::with_seed(seed);
        let length = rng.usize(length / 8..=length);
        std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
    };
    (0..count).map(of).collect()
}

/// Texts as inputs.
pub fn of_texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
