//! Scenario files: a bug report about a runtime, as a file that plegd can replay.
//!
//! ```text
//! file ── format ──▶ Scenario ── play ──▶ simulated runtime ──▶ plegd ── check ──▶ failures
//! ```
//!
//! Owns the format, the player and the checks. Its only interface to plegd is [`Plegd`]: [`crate::cli`] runs a plegd
//! beside the player. `tests/scenarios/README.md` describes the format.

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
