//! Time: one monotonic clock for what plegd orders, the wall clock for what it shows and for what runtimes stamp.
//!
//! Owns the mapping from the runtime's wall-clock stamps to monotonic time, and notices when the wall clock is stepped
//! (NTP, an operator, a resumed machine). Nobody else in plegd asks the system for the time; sleeping is tokio's, whose
//! clock this one follows, so that a test can pause both.

mod moment;
#[cfg(feature = "daemon")]
mod system;

pub(crate) use self::moment::slewed_in;
pub use self::moment::{Mono, Wall};
#[cfg(feature = "daemon")]
pub use self::system::{Clock, STEP_MARGIN, Stamped, WallHand};
