//! `plegd status`: the status of this node's plegd, on one screen.

pub(in crate::cli) mod advice;
mod json;
pub(in crate::cli) mod screen;
#[cfg(test)]
pub(in crate::cli) mod tests;

use std::io;

use super::{connection::Connection, introspect::Introspect};
use crate::{
    client::Client,
    clock::{Clock, Wall},
    print::{
        answer::{Output, json, page},
        text::Paint,
    },
    v1::{GetStatusResponse, Subscriber},
};

const EXAMPLES: &str = "\
Examples:
  plegd status
  plegd status -o wide                               with a description of each quirk
  plegd status -o json | jq .evented.detection
  watch -n 5 plegd status

Exit codes: 0 plegd is ready, 1 plegd is not ready or cannot be reached, 64 usage error.";

/// Flags of `plegd status`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The connection to the running plegd.
    #[command(flatten)]
    pub connection: Connection,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

/// The input of the screen.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct View<'a> {
    /// plegd's status.
    pub(in crate::cli) status: &'a GetStatusResponse,
    /// The subscribers.
    pub(in crate::cli) subscribers: &'a [Subscriber],
    pub(in crate::cli) now: Wall,
}

// === impl View ===

impl View<'_> {
    /// The subscriber with the largest lag.
    pub(in crate::cli) fn slowest(&self) -> Option<&Subscriber> {
        self.subscribers.iter().max_by_key(|subscriber| subscriber.lag)
    }
}

/// Prints plegd's status.
///
/// # Errors
///
/// If plegd cannot be reached, does not answer, or is not ready.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connection.client().await?;
    show(&client, args.output, &Clock::system(), page(), &mut io::stdout().lock()).await
}

/// Prints the status of that plegd on a page of this width, with or without colours.
pub(super) async fn show(
    client: &Client,
    output: Output,
    clock: &Clock,
    (width, paint): (usize, Paint),
    out: &mut impl io::Write,
) -> anyhow::Result<()> {
    let introspect = Introspect::over(client);
    let status = introspect.status().await?;
    // The status is shown even if the list is not available.
    let subscribers = introspect.subscribers().await.unwrap_or_default().subscribers;
    let view = View { status: &status, subscribers: &subscribers, now: clock.wall() };
    let text = match output {
        Output::Json => json(&json::Status::from(view.status))?,
        Output::Table => screen::screen(&view, screen::Quirks::Names, width, paint),
        Output::Wide => screen::screen(&view, screen::Quirks::Meaning, width, paint),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    anyhow::ensure!(status.ready, "{} is not ready: the first relist is not complete", status.node_name);
    Ok(())
}
