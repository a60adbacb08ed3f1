//! The fuzz targets: each feeds bytes into the same code as plegd does, and panics if an invariant is violated.
//!
//! `fuzz_targets/` passes the inputs of libFuzzer; `tests/fuzz.rs` of the main crate includes this file and passes a
//! fixed number of inputs, mutated from the same seeds. The targets do not depend on which of the two runs them.

pub mod authority;
pub mod checker;
pub mod config;
pub mod cri_message;
pub mod generated;
pub mod harness;
pub mod input;
pub mod mutation;
pub mod observations;
pub mod position;
pub mod proto;
pub mod runtime;
pub mod seeds;
pub mod selector;
pub mod state;
pub mod text;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name for `cargo fuzz run`.
    pub name: &'static str,
    /// Runs one input, and panics if an invariant is violated.
    pub check: fn(&[u8]),
    /// The initial inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident)+) => {
        &[$(Target { name: stringify!($name), check: $name::check, seeds: $name::seeds }),+]
    };
}

/// All targets.
pub const TARGETS: &[Target] =
    targets!(cri_message observations runtime selector config position text authority state);
