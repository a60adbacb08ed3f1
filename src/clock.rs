//! Time: one monotonic clock for ordering, and the wall clock for display and for the timestamps of runtimes.
//!
//! The clock maps the runtime's wall-clock timestamps to monotonic time. It detects steps of the wall clock (NTP, an operator, a resumed
//! machine). No other module reads the system's clocks. Timers are tokio's: this clock follows tokio's clock, so that a test can pause
//! both.

mod moment;
#[cfg(feature = "daemon")]
mod system;

pub(crate) use self::moment::slewed_in;
pub use self::moment::{Mono, Wall};
#[cfg(feature = "daemon")]
pub use self::system::{Clock, STEP_MARGIN, Stamped, WallStepper};
