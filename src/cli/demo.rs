//! `plegd demo`: the real daemon on a simulated runtime, in one process.

use std::{
    fs::DirBuilder,
    io::IsTerminal as _,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    daemon::{Daemon, Threads},
    log::LogControl,
    run::flags,
};
use crate::{
    clock::Clock,
    config::{self, Config, ConfigError, Inputs, Loaded, PageAccess, Value},
    cri::{Endpoint, Link},
    sim::{Churn, Profile, SimRuntime},
};
use anyhow::Context as _;

const EXAMPLES: &str = "\
Examples:
  plegd demo
  plegd demo --seed 7 --pods 40 --duration 30s
  plegd demo --print json | jq -r .type | sort | uniq -c";

/// Flags of `plegd demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the simulation's dice begin with: the same seed gives the same pods [default: a new one, which is said]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// How many pods there are at a time, from 1 to 500
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub pods: u16,
    /// When to end by itself, as 30s or 5m [default: at Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = <Duration as Value>::parse)]
    pub duration: Option<Duration>,
    /// Time between two things that happen, for tests that want much to happen soon
    #[arg(long, value_name = "DURATION", hide = true, default_value = "120ms", value_parser = <Duration as Value>::parse)]
    pub pace: Duration,
    /// Where metrics and health are served, or "off" [default: 127.0.0.1:7534]
    #[arg(long, value_name = "IP:PORT")]
    pub http_address: Option<String>,
    /// How to print each event: none, table or json [default: table]
    #[arg(long, value_name = "FORMAT")]
    pub print: Option<String>,
    /// Level of the log on stderr [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Runs the demo until its time is over or it is told to end.
///
/// # Errors
///
/// If it cannot start.
pub(super) async fn run(
    args: Args,
    mut loaded: Loaded,
    threads: Threads,
    log: LogControl,
) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..100_000));
    let folder = Folder::new()?;
    let socket = folder.0.join("runtime.sock");
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), seed);
    let serving = sim.serve_uds(&socket).with_context(|| format!("{} cannot be served", socket.display()))?;
    let endpoint: Endpoint = socket.display().to_string().parse().map_err(anyhow::Error::msg)?;
    loaded.config.api.socket = Some(folder.0.join("plegd.sock"));
    let daemon = Daemon::start(&loaded, Link::unix(endpoint), Clock::system(), &threads, log).await?;
    introduce(&loaded.config, seed, &socket);

    let churn = tokio::spawn(Churn::new(args.pods.into()).run(sim, seed, args.pace));
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

/// Where to look, on stderr: stdout has the events.
fn introduce(config: &Config, seed: u64, socket: &Path) {
    eprintln!("plegd demo: a simulated containerd 2.1 at unix://{}, seed {seed}", socket.display());
    if let Some(address) = config.http.address {
        if config.http.page != PageAccess::Off {
            eprintln!("  page     {}", linked(&format!("http://{address}/")));
        }
        eprintln!("  metrics  http://{address}/metrics");
        eprintln!("  health   http://{address}/readyz?verbose");
    }
    if let Some(api) = &config.api.socket {
        eprintln!("  watch    plegd watch --socket {}", api.display());
    }
    eprintln!("  Ctrl-C ends it; --seed {seed} shows the same pods again\n");
}

/// An address that a terminal opens when it is clicked on; as it is where nobody can click.
fn linked(address: &str) -> String {
    if std::io::stderr().is_terminal() {
        format!("\x1b]8;;{address}\x1b\\{address}\x1b]8;;\x1b\\")
    } else {
        address.to_owned()
    }
}

/// A folder of its own, for the socket; removed in the end.
struct Folder(PathBuf);

// === impl Folder ===

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let name = format!("plegd-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("the folder {} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it in the system's temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// === impl Args ===

impl Args {
    /// The defaults with these flags. File and environment are this node's and say nothing of a simulation.
    ///
    /// # Errors
    ///
    /// All that is wrong with the flags.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let or =
            |given: &Option<String>, default: &str| Some(given.clone().unwrap_or_else(|| default.into()));
        let flags = flags([
            ("--http-address", "http.address", &self.http_address),
            ("--print", "print.format", &or(&self.print, "table")),
            ("--log-level", "log.level", &or(&self.log_level, "warn")),
        ]);
        config::load(&Inputs { flags, ..Inputs::default() })
    }
}
