//! `plegd record`: records a real runtime as a scenario file.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use rustix::fs::{CWD, RenameFlags};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::run::flags;
use crate::{
    clock::Clock,
    config::{self, ConfigError, Inputs, Loaded, Value},
    cri::{Client, Link},
    metrics::Metrics,
    scenario::record::{Options, Progress, record},
};

const EXAMPLES: &str = "\
Examples:
  plegd record --output node.json --duration 5m
  plegd record --output node.json                record until Ctrl-C
  plegd replay node.json                         print the events that plegd publishes

The file has no environment, no annotations and no log paths. Names, namespaces, label
values, ids, UIDs, addresses, images and messages are replaced by pseudonyms. Label keys,
states, times, exit codes, reasons and the version of the runtime are real. Review the
file before you attach it to a report.";

/// Delay before the first progress line.
const QUIET: Duration = Duration::from_secs(2);
/// Interval of progress lines on a terminal.
const TERMINAL_PERIOD: Duration = Duration::from_secs(1);
/// Interval of progress lines if stderr is no terminal.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Flags of `plegd record`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Scenario file to write, with mode 0600
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Duration of the recording, such as 30s or 5m [default: until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = <Duration as Value>::parse)]
    pub duration: Option<Duration>,
    /// Do not replace names, label values, ids, addresses, images and messages by pseudonyms
    #[arg(long)]
    pub keep_names: bool,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,
    /// Subscribe to the event stream even if this takes events from other subscribers (containerd 1.7) or can crash the
    /// runtime when the recording stops (CRI-O before 1.33)
    #[arg(long)]
    pub force_events: bool,
    /// Configuration file [env: PLEGD_CONFIG] [default: /etc/plegd/plegd.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket of the runtime: unix:///path or /path [default: the first well-known socket that answers]
    #[arg(long, value_name = "SOCKET")]
    pub runtime_endpoint: Option<String>,
}

/// The output file: temporary until it is complete.
struct Output {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    force: bool,
    is_complete: bool,
}

/// Records until Ctrl-C, SIGTERM, or the end of the duration.
///
/// # Errors
///
/// If the runtime does not answer, or the file cannot be written.
pub(super) async fn run(args: Args, loaded: Loaded) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Before the first call to the runtime.
    let output = Output::create(&args.output, args.force)?;
    let link = loaded.config.runtime.endpoint.clone().map_or_else(Link::well_known, Link::unix);
    let clock = Clock::system();
    let deadline = loaded.config.runtime.request_timeout;
    let client = Client::new(link, deadline, clock.clone(), Arc::new(Metrics::new()));
    let options =
        Options { keep_names: args.keep_names, force_events: args.force_events, ..Options::default() };
    let stop = CancellationToken::new();
    let (sender, progress) = watch::channel(Progress::default());
    let showing = tokio::spawn(show_progress(clock.clone(), progress));
    let over = {
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = after(args.duration) => {}
            }
            stop.cancel();
        }
    };
    let over = tokio::spawn(over);
    let recording = record(&client, &clock, &options, stop, sender).await;
    over.abort();
    // The last line of progress ends before other output.
    let _ = showing.await;
    let recording = recording.context("nothing was recorded")?;
    output.complete(&recording.text)?;
    let Progress { events, steps } = recording.progress;
    eprintln!("plegd: {} has {steps} steps with {events} events", args.output.display());
    for note in &recording.notes {
        eprintln!("plegd: {note}");
    }
    if !args.keep_names {
        eprintln!("plegd: review the file before you share it: label keys and times are real");
    }
    Ok(())
}

async fn after(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// Shows the progress of the recording until it ends.
async fn show_progress(clock: Clock, mut progress: watch::Receiver<Progress>) {
    let start = clock.now();
    let is_terminal = io::stderr().is_terminal();
    let so_far = progress.clone();
    let ended = async { while progress.changed().await.is_ok() {} };
    let mut ended = std::pin::pin!(ended);
    let mut period = QUIET;
    let mut shown = false;
    while tokio::time::timeout(period, &mut ended).await.is_err() {
        period = if is_terminal { TERMINAL_PERIOD } else { LOG_PERIOD };
        shown = true;
        let seconds = clock.now().since(start).as_secs();
        let Progress { events, steps } = *so_far.borrow();
        show(
            is_terminal,
            &format!("plegd: {seconds} s, {events} events, {steps} steps; press Ctrl-C to stop"),
        );
    }
    if shown && is_terminal {
        eprintln!();
    }
}

fn show(is_terminal: bool, line: &str) {
    if is_terminal {
        eprint!("\r{line}\x1b[K");
        let _ = io::stderr().flush();
    } else {
        eprintln!("{line}");
    }
}

// === impl Output ===

impl Output {
    /// Creates a temporary file beside `path`.
    fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        let exists = std::fs::symlink_metadata(path).is_ok();
        anyhow::ensure!(force || !exists, "{} exists; use --force to overwrite it", path.display());
        let mut name = path.file_name().context("--output is not a file name")?.to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(|| format!("cannot create {}", temporary.display()))?;
        Ok(Self { path: path.to_owned(), temporary, file, force, is_complete: false })
    }

    /// Writes the text and renames the file atomically.
    fn complete(mut self, text: &str) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        (&self.file).write_all(text.as_bytes()).with_context(cannot)?;
        self.file.sync_all().with_context(cannot)?;
        let flags = if self.force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        rustix::fs::renameat_with(CWD, &self.temporary, CWD, &self.path, flags).with_context(cannot)?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_complete {
            // The file is empty or incomplete; a leftover is harmless.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

// === impl Args ===

impl Args {
    /// The configuration of this process with these flags.
    ///
    /// # Errors
    ///
    /// All errors in it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let flags = flags([("--runtime-endpoint", "runtime.endpoint", &self.runtime_endpoint)]);
        config::load(&Inputs::of_process(self.config.clone(), flags))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_appears_when_it_is_complete_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.json");
        let output = Output::create(&path, false).unwrap();
        assert!(!path.exists());
        output.complete("{}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_overwritten_only_with_the_flag_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.json");
        // Another process creates the file during the recording.
        let output = Output::create(&path, false).unwrap();
        std::fs::write(&path, "mine").unwrap();
        output.complete("{}").unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");

        let refused = Output::create(&path, false).err().unwrap().to_string();
        assert!(refused.contains("--force"), "{refused}");
        Output::create(&path, true).unwrap().complete("{}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
    }
}
