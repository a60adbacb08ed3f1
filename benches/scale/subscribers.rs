//! What subscribers cost: memory of one that is idle, and CPU of each event told to each. They and the lives they are told of
//! are those of the figures.

#[allow(dead_code, reason = "the figures use all of it")]
#[path = "../figures/serving/crowd.rs"]
mod crowd;
#[allow(dead_code, reason = "the figures use all of it")]
#[path = "../figures/serving/feed.rs"]
mod feed;

use std::time::Duration;

use anyhow::Result;
use plegd::api::listen::raise_open_files;
use tokio::time::sleep;

use self::{
    crowd::{Crowd, From},
    feed::Feed,
};
use super::{
    Bench,
    process::{Cpu, Memory},
    progress,
    report::{Reading, Unit},
};

/// How many subscribe, and how many lives of containers they are told, about four events each.
const CROWDS: [(usize, usize); 4] = [(1, 4_000), (10, 2_000), (100, 1_000), (1_000, 250)];
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    raise_open_files();
    let folder = tempfile::tempdir()?;
    let feed = Feed::start(&bench.clock, &folder.path().join("cri.sock")).await?;
    let mut readings = Vec::new();
    for (subscribers, lives) in CROWDS {
        let what = format!("telling {subscribers} subscribers");
        readings.extend(progress::during(&what, told(bench, &feed, subscribers, lives)).await?);
    }
    feed.stop().await?;
    Ok(readings)
}

async fn told(bench: &Bench, feed: &Feed, subscribers: usize, lives: usize) -> Result<[Reading; 2]> {
    let pid = feed.daemon().pid()?;
    let before = Memory::of(pid)?;
    let crowd = Crowd::connect(&feed.daemon().socket(), subscribers).await?;
    let crowd = crowd.watch(From::Now, &bench.clock).await?;
    sleep(SETTLE).await;
    let with = Memory::of(pid)?;
    let head = feed.head().await?.sequence;
    crowd.forget();
    let (cpu, begun) = (Cpu::of(pid)?, bench.clock.now());
    let events = feed.live(lives, Duration::ZERO).await? - head;
    crowd.until_told(events).await?;
    let took = crowd.last_told_at().since(begun);
    let cpu = Cpu::of(pid)?.since(&cpu);
    crowd.leave().await;
    let deliveries = events * subscribers as u64;
    let grown = with.resident.saturating_sub(before.resident) as f64;
    Ok([
        Reading::new(
            format!("growth_subscribers_{subscribers}_cpu"),
            format!("CPU of an event told to one of {subscribers}"),
            Unit::Microseconds,
            cpu.as_secs_f64() * 1e6 / deliveries as f64,
        )
        .note(format!(
            "{events} events, {:.0} told a second; {:.2} s of CPU, in which they were also taken in",
            deliveries as f64 / took.as_secs_f64(),
            cpu.as_secs_f64()
        )),
        Reading::new(
            format!("growth_subscribers_{subscribers}_memory"),
            format!("memory of one of {subscribers} subscribers"),
            Unit::Kilobytes,
            grown / 1e3 / subscribers as f64,
        )
        .note(format!(
            "{:.1} MB with them, idle, {:.1} MB before",
            with.resident as f64 / 1e6,
            before.resident as f64 / 1e6
        )),
    ])
}
