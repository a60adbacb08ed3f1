//! A client that is killed goes on where it was: nothing is missing and nothing comes twice. With the binary itself, as
//! daemon and as client, on the simulated runtime.

mod binary;

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use binary::{Plegd, Watcher, killed_and_resumed};

const EVENTS: u64 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_killed_again_and_again_over_a_thousand_events_is_told_each_once() -> Result<()> {
    // Where the demo has its sockets.
    let folder = tempfile::tempdir()?;
    let arguments = "demo --seed 5 --pods 60 --pace 2ms --http-address off --print none".split(' ');
    let (demo, _) = Plegd::spawn(arguments, [("TMPDIR", OsString::from(folder.path()))])?;
    let socket: PathBuf =
        demo.wait_for_line("its socket", |line| Some(line.split_once("--socket ")?.1.into())).await?;
    let uninterrupted = Watcher::start(&socket, &["--since", "oldest"])?;
    let resumed = killed_and_resumed(&socket, 5, EVENTS).await?;
    let last = resumed.received.last().and_then(|line| line.sequence).unwrap_or_default();
    resumed.same_as(&uninterrupted.until_event(last).await?)?;
    demo.stop().await
}
