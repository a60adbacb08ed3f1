//! Whether starts and deaths of containers that live 0.3 s are all published, each once.

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{
    Bench,
    daemon::{Daemon, Line, Print, Stream},
    kubelet, lab, progress,
    report::{Reading, Target, Unit},
};

const COUNT: u32 = 44;
const COUNT_AFTER_RESTART: u32 = 33;
const SECONDS: f64 = 0.3;
/// Downtime of containerd.
const AWAY: Duration = Duration::from_secs(1);
/// Timeout for the last event, after which it counts as missing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// With an undisturbed containerd.
pub(crate) async fn undisturbed(bench: &mut Bench) -> Result<Vec<Reading>> {
    let containerd = bench.containerd().await?;
    let client = containerd.client()?;
    let daemon = following(bench, &containerd).await?;
    let published = run(&client, &daemon, "short-lived", COUNT).await?;
    daemon.stop().await?;
    let count = f64::from(COUNT);
    Ok(vec![
        published
            .starts
            .reading("short_lives_starts", count, "44 containers of 0.3 s: starts published")
            .kubelet(kubelet::STARTS),
        published
            .deaths
            .reading("short_lives_deaths", count, "44 containers of 0.3 s: deaths published")
            .kubelet(kubelet::DEATHS),
    ])
}

/// Directly after a kill and restart of containerd. Some containers before that are not counted.
pub(crate) async fn after_a_restart(bench: &mut Bench) -> Result<Vec<Reading>> {
    let mut containerd = bench.containerd().await?;
    let client = containerd.client()?;
    let daemon = following(bench, &containerd).await?;
    run(&client, &daemon, "before", 3).await?;
    containerd.kill9()?;
    sleep(AWAY).await;
    containerd.restart().await?;
    let published = run(&client, &daemon, "after", COUNT_AFTER_RESTART).await?;
    daemon.stop().await?;
    let count = f64::from(COUNT_AFTER_RESTART);
    Ok(vec![
        published
            .starts
            .reading("restart_starts", count, "33 containers after kill -9 and restart: starts published")
            .kubelet(kubelet::STARTS_AFTER_RESTART),
        published
            .deaths
            .reading("restart_deaths", count, "33 containers after kill -9 and restart: deaths published")
            .kubelet(kubelet::DEATHS_AFTER_RESTART),
    ])
}

/// A plegd that follows the stream.
async fn following(bench: &Bench, containerd: &lab::Containerd) -> Result<Daemon> {
    let daemon = Daemon::start(&bench.clock, &containerd.endpoint(), Print::Json, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, TIMEOUT).await?;
    Ok(daemon)
}

struct Published {
    starts: Tally,
    deaths: Tally,
}

struct Tally {
    ids: usize,
    lines: usize,
    by_stream: usize,
    inferred: usize,
}

/// Runs containers in their own pod, and waits for their events.
async fn run(client: &lab::Client, daemon: &Daemon, pod: &str, count: u32) -> Result<Published> {
    let pod = client.run_pod(pod).await?;
    let what = format!("running {count} containers of {SECONDS} s one after the other");
    let ids = progress::during(&what, lab::run_short_containers(client, &pod, count, SECONDS)).await?;
    ensure!(ids.len() == count as usize, "only {} containers ran", ids.len());
    let tally = |kind| Tally::of(&daemon.events().of(&ids, kind));
    let all = || async {
        let published = tally("ContainerStarted").ids.min(tally("ContainerDied").ids);
        Ok((published == ids.len()).then_some(()))
    };
    // A timeout is a result too.
    let _ = lab::eventually("all events to be published", TIMEOUT, all).await;
    Ok(Published { starts: tally("ContainerStarted"), deaths: tally("ContainerDied") })
}

// === impl Tally ===

impl Tally {
    fn of(lines: &[Line]) -> Self {
        Self {
            ids: lines.iter().map(|line| &line.container_id).collect::<HashSet<_>>().len(),
            lines: lines.len(),
            by_stream: lines.iter().filter(|line| line.source == "event").count(),
            inferred: lines.iter().filter(|line| line.inferred).count(),
        }
    }

    fn reading(&self, key: &'static str, target: f64, what: &str) -> Reading {
        let twice = self.lines - self.ids;
        let note = format!(
            "{} detected first by the stream, {} inferred, {twice} published twice",
            self.by_stream, self.inferred
        );
        Reading::new(key, what, Unit::Count, self.ids as f64).target(Target::AtLeast(target)).note(note)
    }
}
