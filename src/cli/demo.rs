//! `plegd demo`: the real daemon on a simulated runtime, in one process: with pods that start and end, or with a scenario file.

use std::{
    fs::DirBuilder,
    io::IsTerminal as _,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{inline::Inline, run::flags, scenario};
use crate::daemon::{Daemon, Threads, log::LogControl};
use crate::{
    client::{Address, Client},
    clock::{Clock, Wall},
    config::{self, Config, Loaded, PageAccess, Value},
    cri::{Endpoint, Link},
    printable::visible,
    scenario::{Failure, Player, Scenario, check},
    sim::{Churn, Profile, SimRuntime},
};
use anyhow::Context as _;

const EXAMPLES: &str = "\
Examples:
  plegd demo
  plegd demo --seed 7 --pods 40 --duration 30s
  plegd demo --print json | jq -r .type | sort | uniq -c
  plegd demo --scenario oom.json            play a scenario file; exit code 1 if a check fails

tests/scenarios/README.md describes scenario files. plegd record writes one from a
real runtime, and plegd replay plays it without waiting.";

/// Wait for further events after the last step of a scenario.
const SETTLE: Duration = Duration::from_millis(200);
/// Maximum length of a printed step, in characters.
const SHOWN: usize = 150;

/// Flags of `plegd demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Seed of the simulation; the same seed gives the same pods [default: random, printed at start]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Number of pods at a time, from 1 to 500
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub pods: u16,
    /// Duration of the demo, such as 30s or 5m [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = <Duration as Value>::parse)]
    pub duration: Option<Duration>,
    /// Interval between changes of the simulated runtime, for tests
    #[arg(long = "pace", value_name = "DURATION", hide = true, default_value = "120ms", value_parser = <Duration as Value>::parse)]
    pub interval: Duration,
    /// Address for metrics, health checks and the web page, or "off" [default: 127.0.0.1:7534]
    #[arg(long, value_name = "IP:PORT")]
    pub http_address: Option<String>,
    /// Output format of events: none, table or json [default: table]
    #[arg(long, value_name = "FORMAT")]
    pub print: Option<String>,
    /// Log level on stderr [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Play a scenario file instead, and run its checks
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "pods", "duration", "interval"])]
    pub scenario: Option<PathBuf>,
}

/// The prepared demo.
#[derive(Debug)]
pub(super) struct Prepared {
    /// plegd's configuration.
    pub(super) loaded: Loaded,
    /// The scenario, if one is played.
    scenario: Option<Scenario>,
}

/// Runs the demo until its duration is over or it is stopped.
///
/// # Errors
///
/// If it cannot start.
pub(super) async fn run(
    args: Args,
    prepared: Prepared,
    threads: Threads,
    log: LogControl,
) -> anyhow::Result<()> {
    let Prepared { mut loaded, scenario } = prepared;
    if let Some(scenario) = scenario {
        return play(scenario, loaded, threads, log).await;
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..100_000));
    let directory = SocketDirectory::new()?;
    let socket = directory.0.join("runtime.sock");
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), seed);
    let serving = sim.serve_uds(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    let endpoint: Endpoint = socket.display().to_string().parse().map_err(anyhow::Error::msg)?;
    loaded.config.api.socket = Some(directory.0.join("plegd.sock"));
    // Each demo simulates a new node.
    loaded.config.state.enabled = false;
    let daemon = Daemon::start(&loaded, Link::unix(endpoint), Clock::system(), &threads, log).await?;
    print_banner(&loaded.config, seed, &socket);

    let churn = tokio::spawn(Churn::new(args.pods.into()).run(sim, seed, args.interval));
    let over = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let ended = daemon.run_until(over).await;
    churn.abort();
    drop(serving);
    ended
}

/// Plays a scenario in real time: steps are printed on stderr, events on stdout.
async fn play(
    scenario: Scenario,
    mut loaded: Loaded,
    threads: Threads,
    log: LogControl,
) -> anyhow::Result<()> {
    let directory = SocketDirectory::new()?;
    let socket = directory.0.join("runtime.sock");
    // A clock that steps of the scenario can set. It starts with the time of the machine.
    let now = Clock::system().wall();
    let starts_at = scenario.starts_at.map_or(now, |time| Wall::from_nanos(time.nanos(now)));
    let (clock, stepper) = Clock::simulated(starts_at);
    let mut on_step = {
        let (clock, start) = (clock.clone(), clock.now());
        move |step: &crate::scenario::Step| {
            let text: String = step.text.chars().take(SHOWN).collect();
            eprintln!("{:>8.3}s {text}", clock.now().since(start).as_secs_f64());
        }
    };
    let mut player = Player::new(scenario.clone(), (clock, stepper));
    eprintln!("plegd demo: {}\n  right: {}", visible(&scenario.source), visible(&scenario.right));
    player.prepare(&mut on_step).await;
    let sim = player.runtime().clone();
    let serving = sim.serve_uds(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    let endpoint: Endpoint = socket.display().to_string().parse().map_err(anyhow::Error::msg)?;
    let api = directory.0.join("plegd.sock");
    loaded.config.api.socket = Some(api.clone());
    loaded.config.state.enabled = false;
    let clock = player.second_clock();
    let daemon = Daemon::start(&loaded, Link::unix(endpoint), clock.clone(), &threads, log).await?;
    print_addresses(&loaded.config);
    let journal = daemon.journal();
    let mut failures: Option<Vec<Failure>> = None;
    let over = async {
        let plegd = Inline { client: Client::lazy(&Address::Unix(api)), clock };
        let mut found = player.play(&plegd, &mut on_step).await;
        tokio::time::sleep(SETTLE).await;
        found.extend(check::published(&scenario, &scenario::published(&journal)));
        failures = Some(found);
    };
    let ended = daemon.run_until(over).await;
    drop(serving);
    ended?;
    report(&scenario, failures.as_deref())
}

/// Prints the failures.
///
/// # Errors
///
/// If there are failures, or the scenario was interrupted.
pub(super) fn report(scenario: &Scenario, failures: Option<&[Failure]>) -> anyhow::Result<()> {
    let Some(failures) = failures else { anyhow::bail!("interrupted before the last step") };
    for failure in failures {
        eprintln!("plegd: {failure}");
    }
    anyhow::ensure!(failures.is_empty(), "{} of {} checks failed", failures.len(), scenario.checks());
    eprintln!("plegd: all {} checks hold", scenario.checks());
    Ok(())
}

/// Prints the addresses of the demo on stderr: stdout has the events.
fn print_banner(config: &Config, seed: u64, socket: &Path) {
    eprintln!("plegd demo: a simulated containerd 2.1 at unix://{}, seed {seed}", socket.display());
    print_addresses(config);
    eprintln!("  Press Ctrl-C to stop. Use --seed {seed} to get the same pods again.\n");
}

fn print_addresses(config: &Config) {
    if let Some(address) = config.http.address {
        if config.http.page != PageAccess::Off {
            eprintln!("  page     {}", hyperlink(&format!("http://{address}/")));
        }
        eprintln!("  metrics  http://{address}/metrics");
        eprintln!("  health   http://{address}/readyz?verbose");
    }
    if let Some(api) = &config.api.socket {
        eprintln!("  watch    plegd watch --socket {}", api.display());
    }
}

/// An address as a terminal hyperlink; the plain address if stderr is no terminal.
fn hyperlink(address: &str) -> String {
    if std::io::stderr().is_terminal() {
        format!("\x1b]8;;{address}\x1b\\{address}\x1b]8;;\x1b\\")
    } else {
        address.to_owned()
    }
}

/// A temporary directory for the socket; removed at exit.
struct SocketDirectory(PathBuf);

// === impl SocketDirectory ===

impl SocketDirectory {
    fn new() -> anyhow::Result<Self> {
        let name = format!("plegd-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create the directory {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for SocketDirectory {
    fn drop(&mut self) {
        // A leftover in the system's temporary directory is harmless.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// === impl Args ===

impl Args {
    /// The defaults with the scenario's arguments and these flags. The file and the environment of this node do not apply to a simulation.
    ///
    /// # Errors
    ///
    /// All errors in the flags, or the error in the scenario.
    pub(super) fn load(&self) -> anyhow::Result<Prepared> {
        let scenario = self.scenario.as_deref().map(scenario::read).transpose()?;
        let mut inputs = scenario.as_ref().map(scenario::inputs).transpose()?.unwrap_or_default();
        let or =
            |given: &Option<String>, default: &str| Some(given.clone().unwrap_or_else(|| default.into()));
        let flags = flags([
            ("--http-address", "http.address", &self.http_address),
            ("--print", "print.format", &or(&self.print, "table")),
            ("--log-level", "log.level", &or(&self.log_level, "warn")),
        ]);
        inputs.flags.extend(flags);
        Ok(Prepared { loaded: config::load(&inputs)?, scenario })
    }
}
