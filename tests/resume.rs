//! A client that is killed resumes at its position: no event is missing and none comes twice. Uses the binary as daemon and as
//! client, on the simulated runtime.

mod binary;

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use binary::{Plegd, Watcher, killed_and_resumed};

const EVENTS: u64 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_killed_five_times_receives_each_of_a_thousand_events_once() -> Result<()> {
    // The demo's sockets are in this directory.
    let directory = tempfile::tempdir()?;
    let arguments = "demo --seed 5 --pods 60 --pace 2ms --http-address off --print none".split(' ');
    let (demo, _) = Plegd::spawn(arguments, [("TMPDIR", OsString::from(directory.path()))])?;
    let socket: PathBuf =
        demo.wait_for_line("its socket", |line| Some(line.split_once("--socket ")?.1.into())).await?;
    let uninterrupted = Watcher::start(&socket, &["--since", "oldest"])?;
    let resumed = killed_and_resumed(&socket, 5, EVENTS).await?;
    let last = resumed.received.last().and_then(|line| line.sequence).unwrap_or_default();
    resumed.same_as(&uninterrupted.until_event(last).await?)?;
    demo.stop().await
}
