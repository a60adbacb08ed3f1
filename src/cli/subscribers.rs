//! `plegd subscribers`: the subscribers of this node's plegd, and their lag.

pub(in crate::cli) mod list;
#[cfg(test)]
mod tests;

use clap::Subcommand;

use super::{connection::Connection, introspect::Introspect};
use crate::{
    clock::{Clock, Wall},
    print::answer::{Output, page, show, show_json},
    v1::{ListSubscribersResponse, Subscriber},
};

const EXAMPLES: &str = "\
Examples:
  plegd subscribers
  plegd subscribers -o wide
  plegd subscribers -o json | jq '.subscribers[] | select(.lag > 1000)'
  plegd subscribers disconnect 7";

/// Flags of `plegd subscribers`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The connection to the running plegd.
    #[command(flatten)]
    pub connection: Connection,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
    /// The action; without one, the subscribers are listed.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// An action on a subscriber.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Disconnect a subscriber. Most clients connect again.
    Disconnect(Disconnect),
}

/// Flags of `plegd subscribers disconnect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Disconnect {
    /// Id of the subscriber, as shown by `plegd subscribers`
    pub id: u64,
}

/// Lists the subscribers or disconnects one.
///
/// # Errors
///
/// If plegd cannot be reached, does not answer, or has no such subscriber.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let introspect = Introspect::over(&args.connection.client().await?);
    if let Some(Command::Disconnect(Disconnect { id })) = args.command {
        introspect.disconnect(id).await?;
        return Ok(show(&format!("Disconnected subscriber {id}.\n"))?);
    }
    let list = introspect.subscribers().await?;
    Ok(print(&list, Clock::system().wall(), args.output)?)
}

/// The subscriber's name, or a placeholder.
pub(in crate::cli) fn called(subscriber: &Subscriber) -> &str {
    if subscriber.client_name.is_empty() { "-" } else { &subscriber.client_name }
}

/// Gaps because the subscriber was too slow or disconnected for too long; without gaps after a restart of plegd.
pub(in crate::cli) fn own_gaps(subscriber: &Subscriber) -> u64 {
    subscriber.gaps.saturating_sub(subscriber.gaps_of_epoch)
}

/// Prints the list in this format.
fn print(list: &ListSubscribersResponse, now: Wall, output: Output) -> std::io::Result<()> {
    let (width, paint) = page();
    match output {
        Output::Json => show_json(&list::List::from(list)),
        Output::Table => show(&list::table(list, now, width, paint)),
        Output::Wide => show(&list::wide(list, paint)),
    }
}
