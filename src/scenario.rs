//! Scenario files: a bug report about a runtime as a file that can be played.
//!
//! ```text
//! file ── format ──▶ Scenario ── play ──▶ simulated runtime ──▶ plegd ── check ──▶ failures
//! ```
//!
//! Owns the format, the player and the checks. It knows plegd by [`Plegd`] alone: [`crate::cli`] runs a plegd beside the
//! player. The format is described in `tests/scenarios/README.md`.

pub mod check;
mod format;
mod json;
mod play;
pub mod record;
mod status;
mod time;

pub use self::{
    check::Failure,
    format::{Scenario, Step},
    play::{Player, Plegd, Printed, Verb},
};
