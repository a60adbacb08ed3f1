//! The bodies of the fuzz targets: each takes bytes, does with them what plegd does, and panics if something does not hold.
//!
//! `fuzz_targets/` hands them what libFuzzer thinks of; `tests/fuzz.rs` of the main crate includes this file and hands them
//! a fixed number of inputs, mutated from the same seeds. Nothing here knows which of both it is.

pub mod authority;
pub mod bench;
pub mod config;
pub mod cri_message;
pub mod input;
pub mod lives;
pub mod made;
pub mod mutation;
pub mod observations;
pub mod position;
pub mod proto;
pub mod runtime;
pub mod seeds;
pub mod selector;
pub mod text;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, as `cargo fuzz run` has it.
    pub name: &'static str,
    /// Does with bytes what plegd does, and panics if something does not hold.
    pub check: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident)+) => {
        &[$(Target { name: stringify!($name), check: $name::check, seeds: $name::seeds }),+]
    };
}

/// All targets.
pub const TARGETS: &[Target] =
    targets!(cri_message observations runtime selector config position text authority);
