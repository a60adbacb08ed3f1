//! What is said on standard error while something takes long. Standard output is for the figures alone.

// Each user is a crate of its own and uses a part.
#![allow(dead_code)]

use std::{future::Future, time::Duration};

use tokio::time::timeout;

pub(crate) fn say(line: &str) {
    eprintln!("{}: {line}", env!("CARGO_CRATE_NAME"));
}

/// Says what is done once it takes more than two seconds, and then every ten.
pub(crate) fn during<F: Future>(what: &str, work: F) -> impl Future<Output = F::Output> {
    // Outside of the future below, which stays small that way.
    let mut work = Box::pin(work);
    async move {
        let mut waited = Duration::ZERO;
        loop {
            let patience = Duration::from_secs(if waited.is_zero() { 2 } else { 10 });
            match timeout(patience, &mut work).await {
                Ok(output) => return output,
                Err(_) => waited += patience,
            }
            say(&format!("{what} ({} s)", waited.as_secs()));
        }
    }
}
