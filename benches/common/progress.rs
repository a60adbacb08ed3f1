//! Progress messages on standard error; standard output has only the results.

// Each bench is its own crate and uses a part.
#![allow(dead_code)]

use std::{future::Future, time::Duration};

use tokio::time::timeout;

pub(crate) fn say(line: &str) {
    eprintln!("{}: {line}", env!("CARGO_CRATE_NAME"));
}

/// Prints the current step once it takes more than 2 s, and then every 10 s.
pub(crate) fn during<F: Future>(what: &str, work: F) -> impl Future<Output = F::Output> {
    // Outside of the future below, which stays small.
    let mut work = Box::pin(work);
    async move {
        let mut waited = Duration::ZERO;
        loop {
            let limit = Duration::from_secs(if waited.is_zero() { 2 } else { 10 });
            match timeout(limit, &mut work).await {
                Ok(output) => return output,
                Err(_) => waited += limit,
            }
            say(&format!("{what} ({} s)", waited.as_secs()));
        }
    }
}
