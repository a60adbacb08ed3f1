//! `plegd watch`: the events of pods from a running plegd.

mod notice;
mod show;

use std::{io, str::FromStr};

use clap::ValueEnum;
use futures::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use self::{notice::Notices, show::Show};
use super::connection::Connection;
use crate::print::{Printer, Style};
use crate::{
    client::{Client, Since, WatchOptions},
    clock::Clock,
    config::{EventTypes, Value},
    model::Position,
    printable::visible,
    v1,
};

const EXAMPLES: &str = "\
Examples:
  plegd watch
  plegd watch -n shop -n batch --types died
  plegd watch -l 'app=web' --snapshot
  plegd watch --since oldest                events in the journal, then new events
  plegd watch -o json --pods | jq -c '{reason, image: .pod_status.containers[0].image}'
  plegd watch -o json --since 1f2e3d4c5b6a7988:42

A JSON line has the fields of `plegd run --print json` and a field `position`. Use a
position with --since to resume after it. There can also be lines of the types Gap,
Restarted, SnapshotEnd and, with --snapshot, Pod.

If the connection is lost, or plegd restarts, the watch reconnects and resumes. Missing
events are reported on stderr.";

/// Flags of `plegd watch`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
    /// Namespaces, separated by commas [default: all]
    #[arg(long = "namespace", short, value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Names of pods, separated by commas
    #[arg(long = "pod", value_name = "NAME", value_delimiter = ',', value_parser = bare_name)]
    pub pods: Vec<String>,
    /// UIDs of pods, separated by commas
    #[arg(long = "uid", value_name = "UID", value_delimiter = ',')]
    pub uids: Vec<String>,
    /// Label selector, as in kubectl: app=web,tier!=test,env in (a,b),!canary
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Event types: started, died, removed, changed, sync, or all
    #[arg(long, value_name = "TYPES", default_value = "started,died,removed", value_parser = <EventTypes as Value>::parse)]
    pub types: EventTypes,
    /// Only events of containers, no events of pod sandboxes
    #[arg(long)]
    pub containers_only: bool,
    /// Start: now, oldest, or the position of an earlier JSON line
    #[arg(long, value_name = "POSITION", default_value = "now", conflicts_with = "snapshot")]
    pub since: Begin,
    /// Show a snapshot of all pods first
    #[arg(long)]
    pub snapshot: bool,
    /// Include the full pod status in each JSON line, as pod_status
    #[arg(long = "pods")]
    pub pod_status: bool,
    /// Output format: table or json [default: table on a terminal, else json]
    #[arg(long, short, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Output>,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    Table,
    /// One JSON object per line
    Json,
}

/// The start of the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin(Since);

/// Watches until Ctrl-C, until the reader of stdout closes the pipe, or until an error. The work runs in its own task, on another thread if
/// the tokio runtime has one. Therefore a reader that does not read cannot delay the exit.
///
/// # Errors
///
/// If plegd cannot be reached at first, or refuses.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let style = match args.output {
        Some(Output::Json) => Style::Json,
        Some(Output::Table) => Style::table_for(&io::stdout()),
        None if io::IsTerminal::is_terminal(&io::stdout()) => Style::table_for(&io::stdout()),
        None => Style::Json,
    };
    let printer = Printer::new(io::BufWriter::new(io::stdout()), style, args.types.clone());
    let watching = tokio::spawn(async move {
        let client = args.connection.client().await?;
        follow(&client, &args, printer, Clock::system(), |line| eprintln!("plegd: {}", visible(&line))).await
    });
    tokio::select! {
        ended = watching => ended?,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Prints a watch until it ends. Notices for the user go to `notify`, one line each.
pub(super) async fn follow<W: io::Write>(
    client: &Client,
    args: &Args,
    printer: Printer<W>,
    clock: Clock,
    mut notify: impl FnMut(String),
) -> anyhow::Result<()> {
    let mut watch = client.watch(args.options());
    let mut show = Show::new(printer, args.snapshot, clock);
    let mut notices = Notices::default();
    show.begin()?;
    loop {
        // The output is flushed before a wait for the next update.
        let next = match watch.next().now_or_never() {
            Some(next) => next,
            None => show.wait(watch.next()).await?,
        };
        let Some(update) = next.transpose()? else { return Ok(show.end()?) };
        if let Some(line) = notices.of(&update) {
            show.end()?;
            notify(line);
        }
        show.update(update)?;
    }
}

fn bare_name(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) => Err(format!("it takes only a name; use -n {namespace} --pod {name}")),
        None => Ok(text.to_owned()),
    }
}

// === impl Args ===

impl Args {
    fn options(&self) -> WatchOptions {
        let filter = v1::Filter {
            namespaces: self.namespaces.clone(),
            pod_uids: self.uids.clone(),
            pod_names: self.pods.clone(),
            label_selector: self.selector.clone().unwrap_or_default(),
            types: self.types.iter().map(|kind| v1::EventType::from(kind).into()).collect(),
            containers_only: self.containers_only,
        };
        WatchOptions {
            since: if self.snapshot { Since::Snapshot } else { self.since.0 },
            filter,
            detail: if self.pod_status { v1::Detail::Pod } else { v1::Detail::Event },
            ..WatchOptions::named("plegd watch")
        }
    }
}

// === impl Begin ===

impl FromStr for Begin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self(Since::Now)),
            "oldest" => Ok(Self(Since::Oldest)),
            text => match text.parse::<Position>() {
                Ok(position) => Ok(Self(Since::After(position))),
                Err(error) => Err(format!("it is neither \"now\" nor \"oldest\", and {error}")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
