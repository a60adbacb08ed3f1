//! Runs verbs in this process with captured output, for scenarios.

use std::io::Write as _;

use clap::Parser as _;

use super::{Cli, Command, USAGE, get, introspect::Introspect, status, wait, watch};
use crate::print::{Printer, Style, Table, answer::PLAIN};
use crate::{
    client::Client,
    clock::Clock,
    printable::visible_lines,
    scenario::{Plegd, Printed, Verb},
};
use futures::{FutureExt as _, future::BoxFuture};

/// The width of a table, in characters.
const WIDTH: usize = 160;

/// Runs verbs in this process for scenarios.
pub(super) struct Inline {
    /// The client of the plegd under test.
    pub(super) client: Client,
    /// The clock that the verbs use.
    pub(super) clock: Clock,
}

// === impl Inline ===

impl Plegd for Inline {
    fn is_ready(&self) -> BoxFuture<'_, bool> {
        let introspect = Introspect::over(&self.client);
        async move { introspect.status().await.is_ok_and(|status| status.ready) }.boxed()
    }

    fn start(&self, args: &[String]) -> Verb {
        let printed = Printed::default();
        let arguments: Vec<String> = ["plegd".to_owned()].into_iter().chain(args.iter().cloned()).collect();
        let (client, clock, mut out) = (self.client.clone(), self.clock.clone(), printed.clone());
        let task = tokio::spawn(async move {
            let command = match Cli::try_parse_from(arguments) {
                Ok(cli) => cli.command,
                Err(error) => {
                    let _ = write!(out, "{error}");
                    return USAGE;
                }
            };
            match run(command, &client, &clock, &mut out).await {
                Ok(()) => 0,
                Err(error) => {
                    let _ = writeln!(out, "plegd: {}", visible_lines(&format!("{error:#}")));
                    1
                }
            }
        });
        Verb { printed, task }
    }
}

async fn run(
    command: Option<Command>,
    client: &Client,
    clock: &Clock,
    out: &mut Printed,
) -> anyhow::Result<()> {
    match command {
        Some(Command::Get(args)) => get::show(client, &args, clock, out).await,
        Some(Command::Status(args)) => status::show(client, args.output, clock, PLAIN, out).await,
        Some(Command::Wait(args)) => {
            let holds = wait::wait(client, &args).await?;
            Ok(writeln!(out, "{}", visible_lines(&holds))?)
        }
        Some(Command::Watch(args)) => {
            let style = match args.output {
                Some(watch::Output::Table) => Style::Table(Table::new(WIDTH, false)),
                Some(watch::Output::Json) | None => Style::Json,
            };
            let printer = Printer::new(out.clone(), style, args.types.clone());
            let mut notices = out.clone();
            let notice = move |line: String| {
                let _ = writeln!(notices, "plegd: {line}");
            };
            watch::follow(client, &args, printer, clock.clone(), notice).await
        }
        _ => anyhow::bail!("only get, wait, watch and status can be run here"),
    }
}
