//! The fuzz targets of `fuzz/`, each with a fixed number of inputs: the same ones on every machine.
//!
//! A failure prints how to see it again. `cargo fuzz` goes on from the same seeds for as long as one likes: see
//! `fuzz/README.md`.

// Clippy sees that a `#[test]` is one, and not that its helpers are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "the bodies are a crate of their own")]

#[path = "../fuzz/src/lib.rs"]
mod bodies;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bodies::{Target, mutation::mutated};
use fastrand::Rng;

/// Names a file with an input, or has it in hexadecimal digits, to check that one alone.
const REPLAY: &str = "PLEGD_FUZZ_INPUT";

/// How many times as many inputs to check, for whoever has the time.
const TIMES: &str = "PLEGD_FUZZ_TIMES";

/// Checks the target's seeds, and `count` inputs made from them.
fn fuzz(name: &str, count: u64) {
    let target = bodies::TARGETS.iter().find(|target| target.name == name).expect("there is such a target");
    if let Ok(input) = std::env::var(REPLAY) {
        return (target.check)(&given(&input));
    }
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "there is nothing to begin with");
    seeds.iter().for_each(|seed| check(target, seed));
    let times: u64 = std::env::var(TIMES).map_or(1, |times| times.parse().expect("a whole number"));
    for seed in 0..count * times {
        check(target, &mutated(&seeds, &mut Rng::with_seed(seed)));
    }
}

fn check(target: &Target, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.check)(bytes))) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("To see it again: {REPLAY}={hex} cargo test --test fuzz -- {}", target.name);
        resume_unwind(panic);
    }
}

/// The bytes of a file, or those that the text is.
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
    no_message_of_a_runtime_does_harm_cri_message: cri_message, 200;
    no_observation_goes_back_or_resurrects_observations: observations, 150;
    no_runtime_brings_the_daemon_down_runtime: runtime, 8;
    a_selector_is_read_as_it_is_written_and_meant_selector: selector, 6000;
    a_configuration_is_written_as_it_is_read_config: config, 400;
    no_position_leads_to_a_silent_loss_position: position, 60;
    what_is_written_is_read_again_text: text, 3000;
    only_an_authority_is_made_legible_authority: authority, 3000;
}
