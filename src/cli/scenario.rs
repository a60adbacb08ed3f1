//! A plegd beside a scenario's runtime, in one process.

use std::{io, path::Path, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use futures::stream;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{io::DuplexStream, runtime::Handle, sync::mpsc};
use tonic::transport::{Channel, Uri};

use super::{Cli, Command, inline::Inline};
use crate::{
    api::grpc::Grpc,
    app::App,
    client::Client,
    clock::{Clock, Wall},
    config::{self, InForce, Inputs, Loaded},
    cri::{Connection, Link},
    journal::{Journal, Record},
    scenario::{Failure, Player, Scenario, Step, check},
    sim::SimRuntime,
};

/// The initial wall clock if the file has none and time is not real: 2027-01-15T08:00:00Z.
const NOON: Wall = Wall::from_nanos(1_800_000_000_000_000_000);
/// The capacity of a pipe in bytes; a full pipe blocks its writer.
const PIPE_BYTES: usize = 1 << 16;

/// The result of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// The published events, in order.
    #[cfg(feature = "internals")]
    pub published: Vec<Arc<Record>>,
    /// The checks that failed.
    pub failures: Vec<Failure>,
}

/// Callbacks for each step and for each published event.
pub trait Watcher: Send {
    /// Called before a step.
    fn step(&mut self, step: &Step);

    /// Called after an event was published.
    fn published(&mut self, event: &Record);
}

impl Watcher for () {
    fn step(&mut self, _: &Step) {}

    fn published(&mut self, _: &Record) {}
}

/// Reads a scenario file.
///
/// # Errors
///
/// If the file cannot be read or is not valid.
pub fn read(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Scenario::read(&text).with_context(|| path.display().to_string())
}

/// Plays a scenario beside a plegd of this process, in tokio's time, real or paused, and continues for `settle` after the last step. Verbs
/// run over a pipe.
///
/// # Errors
///
/// If plegd's arguments in the file are wrong.
pub async fn play(
    scenario: Scenario,
    settle: Duration,
    watcher: &mut dyn Watcher,
) -> anyhow::Result<Outcome> {
    let loaded = configuration(&scenario)?;
    let starts_at = scenario.starts_at.map_or(NOON, |time| Wall::from_nanos(time.nanos(NOON)));
    let mut player = Player::new(scenario, Clock::simulated(starts_at));
    player.prepare(&mut |step| watcher.step(step)).await;
    let clock = player.second_clock();
    let scenario = player.scenario().clone();
    let in_force = InForce::of_program(loaded.config.clone());
    let app = App::of_daemon(&Handle::current(), &in_force, link(player.runtime()), clock.clone(), None);
    let plegd = Inline { client: client(&app), clock };
    let watcher = Mutex::new(watcher);
    let mut on_step = |step: &Step| watcher.lock().step(step);
    let mut playing = pin!(async {
        let failures = player.play(&plegd, &mut on_step).await;
        tokio::time::sleep(settle).await;
        failures
    });
    let mut cursor = app.journal().cursor(0);
    let mut failures = loop {
        tokio::select! {
            biased;
            event = cursor.next() => {
                // A gap is skipped: the cursor continues with the oldest event that is held.
                if let Ok(event) = event {
                    watcher.lock().published(&event);
                }
            }
            failures = &mut playing => break failures,
        }
    };
    let published = published(app.journal());
    failures.extend(check::published(&scenario, &published));
    app.stop().await;
    Ok(Outcome {
        #[cfg(feature = "internals")]
        published,
        failures,
    })
}

/// plegd's configuration from the scenario, without sockets.
fn configuration(scenario: &Scenario) -> anyhow::Result<Loaded> {
    let mut loaded = config::load(&inputs(scenario)?)?;
    loaded.config.api.socket = None;
    loaded.config.http.address = None;
    Ok(loaded)
}

/// The inputs of plegd's configuration: the scenario's arguments and environment.
///
/// # Errors
///
/// If the arguments are not those of `plegd run`.
pub(super) fn inputs(scenario: &Scenario) -> anyhow::Result<Inputs> {
    let arguments = ["plegd", "run"].into_iter().chain(scenario.plegd.iter().map(String::as_str));
    let Some(Command::Run(args)) = Cli::try_parse_from(arguments)?.command else {
        anyhow::bail!("\"plegd\" has the arguments of plegd run");
    };
    let environment = scenario.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(Inputs { file: args.config.clone(), environment, flags: args.flags(), ..Inputs::default() })
}

/// All published events that are still held, in order.
pub(super) fn published(journal: &Journal) -> Vec<Arc<Record>> {
    let mut cursor = journal.cursor(0);
    let mut events = Vec::new();
    loop {
        match cursor.try_next() {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return events,
            // The oldest events are evicted; the cursor is at the oldest event that is held.
            Err(_) => {}
        }
    }
}

fn link(runtime: &SimRuntime) -> Link {
    let connector = runtime.connector();
    Link::new("the simulated runtime", move || {
        let connection = connector.connect();
        Box::pin(async move { connection.map(|stream| Box::new(stream) as Box<dyn Connection>) })
    })
}

/// A client of this plegd, over pipes.
fn client(app: &App) -> Client {
    let (pipes, incoming) = mpsc::unbounded_channel::<io::Result<DuplexStream>>();
    let incoming =
        stream::unfold(incoming, |mut incoming| async { Some((incoming.recv().await?, incoming)) });
    tokio::spawn(Grpc::embedded(app).serve_pipes(incoming));
    let connect = move |_: Uri| {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let connected = pipes.send(Ok(far)).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused));
        async move { connected.map(|()| TokioIo::new(near)) }
    };
    let endpoint = Channel::builder(Uri::from_static("http://localhost"));
    Client::over(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
}
