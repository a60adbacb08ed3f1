//! Whether the starts and deaths of containers that live 0.3 s are told, all of them and each once.

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{
    Bench,
    daemon::{Daemon, Line, Print, Stream},
    kubelet, lab, progress,
    report::{Asked, Reading, Unit},
};

const COUNT: u32 = 44;
const COUNT_AFTER_RESTART: u32 = 33;
const SECONDS: f64 = 0.3;
/// How long containerd is away.
const AWAY: Duration = Duration::from_secs(1);
/// How long the last one may take to be told before it counts as never told.
const DEADLINE: Duration = Duration::from_secs(10);

/// On a containerd that is left alone.
pub(crate) async fn undisturbed(bench: &mut Bench) -> Result<Vec<Reading>> {
    let containerd = bench.containerd().await?;
    let client = containerd.client()?;
    let daemon = following(bench, &containerd).await?;
    let told = lives(&client, &daemon, "short-lived", COUNT).await?;
    daemon.stop().await?;
    let count = f64::from(COUNT);
    Ok(vec![
        told.starts
            .reading("short_lives_starts", count, "44 lives of 0.3 s: starts told")
            .kubelet(kubelet::STARTS),
        told.deaths
            .reading("short_lives_deaths", count, "44 lives of 0.3 s: deaths told")
            .kubelet(kubelet::DEATHS),
    ])
}

/// Right after it was killed and started again. Before that, some lives that are not counted.
pub(crate) async fn after_a_restart(bench: &mut Bench) -> Result<Vec<Reading>> {
    let mut containerd = bench.containerd().await?;
    let client = containerd.client()?;
    let daemon = following(bench, &containerd).await?;
    lives(&client, &daemon, "before", 3).await?;
    containerd.kill9()?;
    sleep(AWAY).await;
    containerd.restart().await?;
    let told = lives(&client, &daemon, "after", COUNT_AFTER_RESTART).await?;
    daemon.stop().await?;
    let count = f64::from(COUNT_AFTER_RESTART);
    Ok(vec![
        told.starts
            .reading("restart_starts", count, "33 lives after kill -9 and restart: starts told")
            .kubelet(kubelet::STARTS_AFTER_RESTART),
        told.deaths
            .reading("restart_deaths", count, "33 lives after kill -9 and restart: deaths told")
            .kubelet(kubelet::DEATHS_AFTER_RESTART),
    ])
}

/// A plegd that follows by the stream.
async fn following(bench: &Bench, containerd: &lab::Containerd) -> Result<Daemon> {
    let daemon = Daemon::start(&bench.clock, &containerd.endpoint(), Print::Json, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE).await?;
    Ok(daemon)
}

struct Lives {
    starts: Tally,
    deaths: Tally,
}

struct Tally {
    ids: usize,
    lines: usize,
    by_stream: usize,
    inferred: usize,
}

/// Runs them in a pod of their own, and waits until all is told or will never be.
async fn lives(client: &lab::Client, daemon: &Daemon, pod: &str, count: u32) -> Result<Lives> {
    let pod = client.run_pod(pod).await?;
    let what = format!("running {count} containers of {SECONDS} s one after the other");
    let ids = progress::during(&what, lab::run_short_containers(client, &pod, count, SECONDS)).await?;
    ensure!(ids.len() == count as usize, "only {} containers were run", ids.len());
    let tally = |kind| Tally::of(&daemon.told().of(&ids, kind));
    let all = || async {
        let told = tally("ContainerStarted").ids.min(tally("ContainerDied").ids);
        Ok((told == ids.len()).then_some(()))
    };
    // Not all is a result too.
    let _ = lab::eventually("all lives to be told", DEADLINE, all).await;
    Ok(Lives { starts: tally("ContainerStarted"), deaths: tally("ContainerDied") })
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

    fn reading(&self, key: &'static str, asked: f64, what: &str) -> Reading {
        let twice = self.lines - self.ids;
        let note = format!(
            "{} first seen by the stream, {} inferred, {twice} told twice",
            self.by_stream, self.inferred
        );
        Reading::new(key, what, Unit::Count, self.ids as f64).asked(Asked::AtLeast(asked)).note(note)
    }
}
