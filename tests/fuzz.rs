//! The fuzz targets of `fuzz/`, each with a fixed number of inputs, the same on every machine.
//!
//! A failure prints the command that reproduces it. `cargo fuzz` continues from the same seeds without a limit; `fuzz/README.md` describes
//! it.

// Clippy recognizes `#[test]` functions, but not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "the targets are their own crate")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;
use targets::{Target, mutation::mutated};

/// A file with an input, or the input in hexadecimal digits; only this input is checked.
const REPLAY: &str = "PLEGD_FUZZ_INPUT";

/// Multiplies the number of inputs.
const TIMES: &str = "PLEGD_FUZZ_TIMES";

/// Checks the target's seeds, and `count` inputs derived from them.
fn fuzz(name: &str, count: u64) {
    let target = targets::TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    if let Ok(input) = std::env::var(REPLAY) {
        return (target.check)(&given(&input));
    }
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "the target has no seeds");
    seeds.iter().for_each(|seed| check(target, seed));
    let times: u64 = std::env::var(TIMES).map_or(1, |times| times.parse().expect("a whole number"));
    for seed in 0..count * times {
        check(target, &mutated(&seeds, &mut Rng::with_seed(seed)));
    }
}

fn check(target: &Target, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.check)(bytes))) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("To reproduce: {REPLAY}={hex} cargo test --test fuzz -- {}", target.name);
        resume_unwind(panic);
    }
}

/// The bytes of a file, or those that the digits encode.
fn given(input: &str) -> Vec<u8> {
    if let Ok(bytes) = std::fs::read(input) {
        return bytes;
    }
    let digits = input.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect::<Option<_>>().expect("a file, or hexadecimal digits")
}

macro_rules! tests {
    ($($sentence:ident: $name:ident, $count:expr;)+) => {
        $(
            #[test]
            fn $sentence() {
                fuzz(stringify!($name), $count);
            }
        )+
    };
}

tests! {
    no_message_of_a_runtime_causes_a_panic_cri_message: cri_message, 200;
    no_observation_regresses_or_resurrects_an_id_observations: observations, 150;
    no_runtime_ends_the_daemon_runtime: runtime, 8;
    a_selector_is_parsed_and_matched_as_written_selector: selector, 6000;
    a_configuration_survives_writing_and_parsing_config: config, 400;
    no_position_causes_a_silent_loss_position: position, 60;
    text_survives_writing_and_parsing_text: text, 3000;
    only_the_authority_is_rewritten_authority: authority, 3000;
    a_damaged_state_is_never_used_state: state, 3000;
}
