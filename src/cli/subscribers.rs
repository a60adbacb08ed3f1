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
    /// Where plegd is.
    #[command(flatten)]
    pub connection: Connection,
    /// How to answer
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
    /// What to do, other than to list them.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done about subscribers.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// End the watch of a subscriber. It may connect again, and most do.
    Disconnect(Disconnect),
}

/// Flags of `plegd subscribers disconnect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Disconnect {
    /// Its number, as `plegd subscribers` shows it
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
        return Ok(show(&format!("Subscriber {id} is disconnected.\n"))?);
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
