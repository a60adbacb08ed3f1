//! A soak test of plegd on a real containerd, with churn and injected faults: `cargo bench --bench soak -- --minutes
//! 60`, as root.
//!
//! | module | what it contains |
//! | --- | --- |
//! | `checker` | the subscriber that checks every event on arrival |
//! | `intermittent` | a client that disconnects and resumes |
//! | `faults` | containerd is killed and restarted, connections are cut; afterwards the cache is compared with the runtime |
//! | `pods` | when pods are created |
//! | `usage` | memory, file descriptors, threads, and their limits |
//! | `report`, `../common/progress` | the final table and progress messages |
//!
//! Every container's events are compared with the calls for it. The exit code is not 0 if an event was missing,
//! duplicate or backward, if the cache differed from the runtime after a fault, or if a resource grew beyond its
//! limit. All processes and files are removed at the end, also after an error or Ctrl-C; after a kill, at the next
//! start.

mod checker;
mod faults;
mod intermittent;
mod pods;
mod report;
mod usage;

#[path = "../../tests/binary/mod.rs"]
mod binary;
#[path = "../../tests/lab/mod.rs"]
mod lab;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/progress.rs"]
mod progress;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use plegd::clock::Clock;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{interval, sleep},
};

use self::{
    binary::Daemon,
    checker::{Checker, Received},
    lab::{Churn, Containerd, PublishedHistories, Relay, TIMEOUT, eventually},
    report::{Histories, Report},
    usage::Usage,
};

/// Runs churn on a real containerd for a long time, and checks that plegd publishes every change once and in order.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench soak --", max_term_width = 100)]
struct Args {
    /// Duration of the churn in minutes
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    minutes: f64,
    /// containerd version
    #[arg(long, value_enum, value_name = "VERSION", default_value = "2.1")]
    version: Version,
    /// Pods created per second
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    rate: f64,
    /// Random seed [default: random, printed at start]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Set by `cargo bench`; without it nothing runs
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "2.1")]
    V2_1,
    #[value(name = "1.7")]
    V1_7,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        eprintln!("soak: nothing runs without --bench; run `cargo bench --bench soak` as root");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(report) => {
            println!("{report}");
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Report> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    tokio.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            report = soak(args) => report,
            interrupt = tokio::signal::ctrl_c() => { interrupt?; bail!("interrupted; cleaned up") }
            _ = terminate.recv() => bail!("terminated; cleaned up"),
        }
    })
}

async fn soak(args: &Args) -> Result<Report> {
    let whole = Duration::from_secs_f64(args.minutes * 60.0);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut rng = fastrand::Rng::with_seed(seed);
    progress::say(&format!("starting containerd; seed {seed}"));
    let mut containerd = Containerd::start(args.version.of_lab()).await?;
    let relay = Relay::to(&containerd.socket())?;
    let daemon = Daemon::start(&relay.endpoint()).await?;
    let checker = Checker::start(&daemon.client());
    let (churn, director) = Churn::new(containerd.client()?);
    let runtime = containerd.runtime_version();
    let version = plegd::version::VERSION;
    let conditions = format!("plegd {version} on containerd {runtime}, {} pods/s, seed {seed}", args.rate);
    // Waits until both are idle.
    sleep(Duration::from_secs(3)).await;
    let start = Usage::of(&daemon).await?;
    let clock = Clock::system();
    let began = clock.now();

    let (over, is_over) = watch::channel(false);
    let intermittent = intermittent::run(daemon.client(), rng.fork(), async move {
        let _ = is_over.clone().wait_for(|over| *over).await;
    });
    let intermittent = tokio::spawn(intermittent);
    let pods = tokio::spawn(pods::run(churn.clone(), args.rate, whole, rng.fork()));
    let warm = async {
        sleep(whole / 10).await;
        Usage::of(&daemon).await
    };
    let working = async {
        let faults = faults::inject(&mut containerd, &relay, &daemon, &director, whole, rng.fork());
        let (faults, warm) = tokio::try_join!(faults, warm)?;
        director.end();
        Ok::<_, anyhow::Error>((faults, warm, pods.await?))
    };
    let (mut faults, warm, (pods, failures)) = tokio::select! {
        worked = working => worked?,
        shown = show(&daemon, &churn, &checker, whole) => shown?,
    };
    let took = clock.now().since(began);
    progress::say("no more pods; waiting until all changes are published");

    let client = churn.client();
    client.remove_all_pods().await?;
    let done = client.history().by_id();
    let certain = |id: &str| churn.is_certain(id);
    let hidden = faults.hidden_starts(&client.history().entries());
    let without_start = |stories: &PublishedHistories, id: &str| {
        hidden.contains(id) && lab::is_complete_without_start(&done[id], stories.of(id))
    };
    let due = |stories: &PublishedHistories, id: &str| certain(id) && !without_start(stories, id);
    // A timeout is a result too: the report lists what is missing.
    let _ = eventually("all changes to be published", TIMEOUT, || async {
        sleep(Duration::from_millis(500)).await;
        let stories = &checker.received().stories;
        let untold = stories.incomplete(&done, |id| due(stories, id));
        Ok((untold.is_empty() && stories.without_removal().is_empty()).then_some(()))
    })
    .await;
    faults.comparisons += 1;
    faults.violations.extend(faults::state_differences(client, &daemon).await?);
    over.send_replace(true);
    let sessions = intermittent.await?;
    sleep(Duration::from_secs(3)).await;
    let end = Usage::of(&daemon).await?;
    let [misses, reconnects] =
        daemon.metrics(["plegd_missed_events_total{", "plegd_stream_connects_total "]).await?;

    let mut received = std::mem::take(&mut *checker.received());
    drop(checker);
    let mut violations = std::mem::take(&mut received.violations);
    violations.extend(received.stories.incomplete(&done, |id| due(&received.stories, id)));
    violations.extend(received.stories.without_removal());
    // A runtime killed during a removal may still have the object: the call has failed then.
    let resurrected = received.returned().iter().filter(|id| done.contains_key(*id) && certain(id));
    violations.extend(resurrected.map(|id| format!("{id} was certainly removed, but has later events")));
    violations.extend(failures);
    violations.extend(std::mem::take(&mut faults.violations));
    violations.extend(end.grown_since(&start, &warm));
    let (session_count, session_events) = match &sessions {
        Ok(sessions) => (sessions.count, sessions.keys.len() as u64),
        Err(_) => (0, 0),
    };
    match sessions {
        // Events after its last session are not compared.
        Ok(sessions) if !received.keys.starts_with(&sessions.keys) => {
            violations.push("the intermittent client received other events than the checker".into());
        }
        Ok(_) => {}
        Err(error) => violations.push(format!("{error:#}")),
    }
    let histories = histories(&received, &done, certain, without_start);
    daemon.stop().await?;
    let left = containerd.shutdown().await?;
    if left != lab::Leftovers::default() {
        violations.push(format!("left behind: {left}"));
    }
    Ok(Report {
        conditions,
        took,
        pods,
        histories,
        events: received.events,
        inferred: received.inferred,
        misses,
        mode_changes: received.mode_changes,
        reconnects,
        failed_calls: churn.failed_calls(),
        sessions: session_count,
        session_events,
        faults,
        start,
        warm,
        end,
        violations,
    })
}

fn histories(
    received: &Received,
    done: &std::collections::BTreeMap<String, Vec<lab::Change>>,
    certain: impl Fn(&str) -> bool,
    without_start: impl Fn(&PublishedHistories, &str) -> bool,
) -> Histories {
    let compared = || done.iter().filter(|(id, _)| certain(id));
    let published = compared().filter(|(id, done)| lab::is_complete(done, received.stories.of(id)));
    let without_start = compared().filter(|(id, _)| without_start(&received.stories, id));
    let uncertain = received.stories.ids().filter(|id| !done.contains_key(*id) || !certain(id));
    Histories {
        done: compared().count() as u64,
        published: published.count() as u64,
        without_start: without_start.count() as u64,
        uncertain: uncertain.count() as u64,
        returned: received.returned().len() as u64,
    }
}

/// Prints the progress every 5 s, without end.
async fn show<T>(daemon: &Daemon, churn: &Churn, checker: &Checker, whole: Duration) -> Result<T> {
    let clock = Clock::system();
    let began = clock.now();
    let mut often = interval(Duration::from_secs(5));
    let minutes = |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    loop {
        often.tick().await;
        let (events, violations, violation) = {
            let received = checker.received();
            (received.keys.len(), received.violations.len(), received.violations.last().cloned())
        };
        let usage = Usage::of(daemon).await.context("the daemon")?;
        progress::say(&format!(
            "{} of {}: {} pods finished, {events} events, {} calls failed, {:.1} MB, {} fds, {} threads, {}",
            minutes(clock.now().since(began)),
            minutes(whole),
            churn.pods(),
            churn.failed_calls(),
            usage.resident as f64 / 1e6,
            usage.fds,
            usage.threads,
            violation.map_or("no violations".to_owned(), |violation| format!(
                "{violations} VIOLATIONS, the last: {violation}"
            )),
        ));
    }
}

// === impl Version ===

impl Version {
    fn of_lab(self) -> lab::Version {
        match self {
            Version::V2_1 => lab::Version::V2_1,
            Version::V1_7 => lab::Version::V1_7,
        }
    }
}
