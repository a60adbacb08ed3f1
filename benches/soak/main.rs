//! plegd beside a real containerd for as long as one likes, through pods that come and go and troubles of all kinds:
//! `cargo bench --bench soak -- --minutes 60`, as root.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `witness` | the subscriber that sees everything and objects to it as it comes |
//! | `visitor` | a client that comes and goes, and goes on where it was |
//! | `troubles` | containerd killed and restarted, connections cut; the cache held against the runtime after each |
//! | `pods` | which pods come when |
//! | `usage` | memory, file descriptors, threads; how much they may grow, and why |
//! | `report`, `../common/progress` | the table at the end, and what is said meanwhile |
//!
//! Every life is held against what the pods' own calls did. The exit code is not 0 if anything was missing, told twice or
//! backward, if a cache was not the truth once a trouble was over, or if anything grew without bound. Everything that is
//! brought up is gone at the end, also after an error or Ctrl-C; after a kill, at the next start.

mod pods;
mod report;
mod troubles;
mod usage;
mod visitor;
mod witness;

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
    lab::{Churn, Containerd, PublishedHistories, Relay, TIMEOUT, eventually},
    report::{Lives, Report},
    usage::Usage,
    witness::{Seen, Witness},
};

/// Lets pods come and go on a real containerd for a long time, and says whether plegd told all of it, once and in order.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench soak --", max_term_width = 100)]
struct Args {
    /// For how long pods come
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    minutes: f64,
    /// On which containerd
    #[arg(long, value_enum, value_name = "VERSION", default_value = "2.1")]
    version: Version,
    /// How many pods come in a second
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    rate: f64,
    /// Of all that is left to chance [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Set by `cargo bench`; without it nothing is done
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
        eprintln!("soak: nothing is done without --bench; run `cargo bench --bench soak` as root");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(report) => {
            println!("{report}");
            if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
            _ = terminate.recv() => bail!("told to end; cleaned up"),
        }
    })
}

async fn soak(args: &Args) -> Result<Report> {
    let whole = Duration::from_secs_f64(args.minutes * 60.0);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut dice = fastrand::Rng::with_seed(seed);
    progress::say(&format!("bringing up containerd; the seed is {seed}"));
    let mut containerd = Containerd::start(args.version.of_lab()).await?;
    let relay = Relay::to(&containerd.socket())?;
    let daemon = Daemon::start(&relay.endpoint()).await?;
    let witness = Witness::start(&daemon.client());
    let (churn, director) = Churn::new(containerd.client()?);
    let runtime = containerd.runtime_version();
    let version = plegd::version::VERSION;
    let conditions =
        format!("plegd {version} on containerd {runtime}, {} pods a second, seed {seed}", args.rate);
    // Both have come to rest.
    sleep(Duration::from_secs(3)).await;
    let start = Usage::of(&daemon).await?;
    let clock = Clock::system();
    let began = clock.now();

    let (over, is_over) = watch::channel(false);
    let visitor = visitor::visits(daemon.client(), dice.fork(), async move {
        let _ = is_over.clone().wait_for(|over| *over).await;
    });
    let visitor = tokio::spawn(visitor);
    let pods = tokio::spawn(pods::come_and_go(churn.clone(), args.rate, whole, dice.fork()));
    let warm = async {
        sleep(whole / 10).await;
        Usage::of(&daemon).await
    };
    let working = async {
        let troubles = troubles::make(&mut containerd, &relay, &daemon, &director, whole, dice.fork());
        let (troubles, warm) = tokio::try_join!(troubles, warm)?;
        director.end();
        Ok::<_, anyhow::Error>((troubles, warm, pods.await?))
    };
    let (mut troubles, warm, (pods, failures)) = tokio::select! {
        worked = working => worked?,
        shown = show(&daemon, &churn, &witness, whole) => shown?,
    };
    let took = clock.now().since(began);
    progress::say("no more pods; waiting until all is told");

    let client = churn.client();
    client.remove_all_pods().await?;
    let done = client.history().by_id();
    let certain = |id: &str| churn.is_certain(id);
    let hidden = troubles.hid(&client.history().entries());
    let half_seen = |stories: &PublishedHistories, id: &str| {
        hidden.contains(id) && lab::is_complete_without_start(&done[id], stories.of(id))
    };
    let due = |stories: &PublishedHistories, id: &str| certain(id) && !half_seen(stories, id);
    // Not all is a result too.
    let _ = eventually("all to be told", TIMEOUT, || async {
        sleep(Duration::from_millis(500)).await;
        let stories = &witness.seen().stories;
        let incomplete = stories.incomplete(&done, |id| due(stories, id));
        Ok((incomplete.is_empty() && stories.without_removal().is_empty()).then_some(()))
    })
    .await;
    troubles.looks += 1;
    troubles.faults.extend(troubles::state_differences(client, &daemon).await?);
    over.send_replace(true);
    let visits = visitor.await?;
    sleep(Duration::from_secs(3)).await;
    let end = Usage::of(&daemon).await?;
    let [misses, reconnects] =
        daemon.metrics(["plegd_missed_events_total{", "plegd_stream_connects_total "]).await?;

    let mut seen = std::mem::take(&mut *witness.seen());
    drop(witness);
    let mut faults = std::mem::take(&mut seen.faults);
    faults.extend(seen.stories.incomplete(&done, |id| due(&seen.stories, id)));
    faults.extend(seen.stories.without_removal());
    // A runtime that is killed in the middle of a removal may have again what it had removed: then the call has failed.
    let resurrected = seen.returned().iter().filter(|id| done.contains_key(*id) && certain(id));
    faults.extend(resurrected.map(|id| format!("{id} was removed for certain, and was told of again")));
    faults.extend(failures);
    faults.extend(std::mem::take(&mut troubles.faults));
    faults.extend(end.grown_since(&start, &warm));
    let (visits_made, visited) = match &visits {
        Ok(visits) => (visits.count, visits.told.len() as u64),
        Err(_) => (0, 0),
    };
    match visits {
        // What came after its last visit it was not told.
        Ok(visits) if !seen.told.starts_with(&visits.told) => {
            faults.push("a client that came and went was told otherwise than the witness".into());
        }
        Ok(_) => {}
        Err(error) => faults.push(format!("{error:#}")),
    }
    let lives = lives(&seen, &done, certain, half_seen);
    daemon.stop().await?;
    let left = containerd.shutdown().await?;
    if left != lab::Leftovers::default() {
        faults.push(format!("left behind: {left}"));
    }
    Ok(Report {
        conditions,
        took,
        pods,
        lives,
        events: seen.events,
        inferred: seen.inferred,
        misses,
        mode_changes: seen.mode_changes,
        reconnects,
        failed_calls: churn.failed_calls(),
        visits: visits_made,
        visited,
        troubles,
        start,
        warm,
        end,
        faults,
    })
}

fn lives(
    seen: &Seen,
    done: &std::collections::BTreeMap<String, Vec<lab::Change>>,
    certain: impl Fn(&str) -> bool,
    half_seen: impl Fn(&PublishedHistories, &str) -> bool,
) -> Lives {
    let compared = || done.iter().filter(|(id, _)| certain(id));
    let told = compared().filter(|(id, done)| lab::is_complete(done, seen.stories.of(id)));
    let half_seen = compared().filter(|(id, _)| half_seen(&seen.stories, id));
    let uncertain = seen.stories.ids().filter(|id| !done.contains_key(*id) || !certain(id));
    Lives {
        done: compared().count() as u64,
        told: told.count() as u64,
        half_seen: half_seen.count() as u64,
        uncertain: uncertain.count() as u64,
        returned: seen.returned().len() as u64,
    }
}

/// Says how it goes, every few seconds, for ever.
async fn show<T>(daemon: &Daemon, churn: &Churn, witness: &Witness, whole: Duration) -> Result<T> {
    let clock = Clock::system();
    let began = clock.now();
    let mut often = interval(Duration::from_secs(5));
    let minutes = |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    loop {
        often.tick().await;
        let (events, faults, fault) = {
            let seen = witness.seen();
            (seen.told.len(), seen.faults.len(), seen.faults.last().cloned())
        };
        let usage = Usage::of(daemon).await.context("the daemon")?;
        progress::say(&format!(
            "{} of {}: {} pods come and gone, {events} events, {} calls failed, {:.1} MB, {} fds, {} threads, {}",
            minutes(clock.now().since(began)),
            minutes(whole),
            churn.pods(),
            churn.failed_calls(),
            usage.resident as f64 / 1e6,
            usage.fds,
            usage.threads,
            fault.map_or("no faults".to_owned(), |fault| format!("{faults} FAULTS, the last: {fault}")),
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
