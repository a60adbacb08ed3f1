//! Client processes of a daemon process: one client is frozen, one is killed, and the daemon is restarted.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{api::v1, clock::Clock};
use tokio::time::sleep;

use super::{
    binary::{Daemon, Line, Watcher, killed_and_resumed},
    lab::{
        self, Change, Client, ContainerSpec, Containerd, Entry, Pod, TIMEOUT,
        Version::{self, V2_1},
        eventually,
    },
};

const HEALTHY: usize = 50;
/// Pods and containers that are run with and without a frozen client.
const ROUNDS: u32 = 12;
/// Enough that a few events with the whole pod fill the windows and buffers of a connection.
const IDLE_CONTAINERS: usize = 20;
/// Limit for the slowdown beside a frozen client, at the median. The test excludes a standstill.
const FACTOR: f64 = 5.0;

pub(super) async fn a_frozen_client_delays_nobody() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let client = containerd.client()?;
    let daemon = Daemon::start(&containerd.endpoint()).await?;
    let pod = client.run_pod("heavy").await?;
    let created = (0..IDLE_CONTAINERS).map(|n| {
        let spec = ContainerSpec::new(&format!("idle-{n}"), &["true"]);
        client.create_with(&pod, spec)
    });
    stream::iter(created).buffer_unordered(4).try_collect::<Vec<_>>().await?;

    let socket = daemon.socket();
    let start = |_| Watcher::start(&socket, &["--since", "oldest"]);
    let healthy: Vec<Watcher> = (0..HEALTHY).map(start).collect::<Result<_>>()?;
    let frozen = Watcher::start(&socket, &["--since", "oldest", "--pods"])?;
    let begin = caught_up(&daemon, &client, healthy.iter().chain([&frozen])).await?;

    let without = Durations::measure(&client, &pod, 0).await?;
    let middle = caught_up(&daemon, &client, &healthy).await?;
    frozen.freeze()?;
    let beside = Durations::measure(&client, &pod, ROUNDS).await?;
    let head = caught_up(&daemon, &client, &healthy).await?;

    let pid = i32::try_from(frozen.pid()?)?;
    let subscribers = daemon.subscribers().await?;
    let hung = subscribers.iter().find(|subscriber| pid_of(subscriber) == Some(pid));
    ensure!(hung.context("the frozen client is gone")?.lag > 0, "no lag: the client was not frozen");
    frozen.thaw()?;

    // Every event, in order, and the same to all clients.
    let all = healthy[0].events();
    let numbers: Vec<u64> = all.iter().filter_map(|line| line.sequence).collect();
    ensure!(numbers == (1..=head).collect::<Vec<_>>(), "{numbers:?} of {head}");
    expect_published_once(&all, &client.history().entries())?;
    for watcher in &healthy[1..] {
        let lines = watcher.lines();
        ensure!(lines.iter().map(Line::event).eq(all.iter().map(Line::event)), "{:?}", watcher.log_lines());
    }
    let missed = frozen.until_event(head).await?;
    let gap = missed.iter().any(|line| line.r#type == "Gap");
    ensure!(
        gap || missed.iter().map(Line::event).eq(all.iter().map(Line::event)),
        "{:?}",
        frozen.log_lines()
    );

    let latency = |from: u64, to: u64| {
        let of = |watcher: &Watcher| {
            let events = watcher.events().into_iter();
            events
                .filter(|line| (from + 1..=to).contains(&line.sequence.unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        median(healthy.iter().flat_map(of).filter_map(|line| line.latency_seconds()).collect())
    };
    let compared = [
        ("RunPodSandbox", median(without.run_pod), median(beside.run_pod)),
        ("StartContainer", median(without.start), median(beside.start)),
        ("delivery to watchers", latency(begin, middle), latency(middle, head)),
    ];
    for (what, without, beside) in compared {
        println!("{what}: {:.2} ms, beside a frozen client {:.2} ms", without * 1e3, beside * 1e3);
        ensure!(beside <= without * FACTOR, "{what}: {without} s, beside a frozen client {beside} s");
    }
    finish(daemon, containerd).await
}

/// The number of short containers, of four events each.
const SHORT_CONTAINERS: u32 = 60;

pub(super) async fn a_killed_client_resumes_at_its_position() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let client = containerd.client()?;
    let daemon = Daemon::start(&containerd.endpoint()).await?;
    let uninterrupted = Watcher::start(&daemon.socket(), &["--since", "oldest"])?;
    // Four events each: created, started, died, removed. The pods' own events are added.
    let least = u64::from(SHORT_CONTAINERS) * 4;
    let runs = async {
        let runs = (0..4).map(async |n| {
            let pod = client.run_pod(&format!("pod-{n}")).await?;
            lab::run_short_containers(&client, &pod, SHORT_CONTAINERS / 4, 0.01).await?;
            client.stop_pod(&pod).await?;
            client.remove_pod(&pod).await?;
            anyhow::Ok(())
        });
        stream::iter(runs).buffer_unordered(4).try_collect::<()>().await
    };
    let socket = daemon.socket();
    let ((), resumed) = tokio::try_join!(runs, killed_and_resumed(&socket, 7, least))?;
    let last = resumed.received.last().and_then(|line| line.sequence).unwrap_or_default();
    resumed.same_as(&uninterrupted.until_event(last).await?)?;
    let head = caught_up(&daemon, &client, [&uninterrupted]).await?;
    ensure!(head >= least, "only {head} events");
    expect_published_once(&uninterrupted.events(), &client.history().entries())?;
    finish(daemon, containerd).await
}

/// How a daemon is ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Killed,
    Stopped,
}

pub(super) async fn a_restarted_daemon_continues(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut daemon = Daemon::start(&containerd.endpoint()).await?;
    let kept = client.run_pod("kept").await?;
    let start = |_| Watcher::start(&daemon.socket(), &["--since", "oldest"]);
    let watchers: Vec<Watcher> = (0..5).map(start).collect::<Result<_>>()?;
    for (number, ended) in [Ended::Killed, Ended::Stopped].into_iter().enumerate() {
        let gone = client.run_pod(&format!("gone-{number}")).await?;
        let dies = client.run(&kept, ContainerSpec::sleeping(&format!("dies-{number}"), 3600.0, 0)).await?;
        for watcher in &watchers {
            watcher.until("the pods", |lines| has(lines, "ContainerStarted", &dies)).await?;
        }
        match ended {
            Ended::Killed => daemon.kill9().await?,
            Ended::Stopped => daemon.terminate().await?,
        }
        // The runtime notices that its subscriber is gone when it sends the next event, and loses what it has sent by then.
        let probe = client.run_pod(&format!("probe-{number}")).await?;
        sleep(Duration::from_millis(500)).await;
        client.stop(&dies, Duration::ZERO).await?;
        client.remove(&dies).await?;
        client.stop_pod(&gone).await?;
        client.remove_pod(&gone).await?;
        let short = client.run_pod(&format!("short-{number}")).await?;
        lab::run_short_containers(&client, &short, 2, 0.01).await?;
        client.stop_pod(&short).await?;
        client.remove_pod(&short).await?;
        // A change within the margin of the clocks before the start may count as after it.
        sleep(Duration::from_millis(200)).await;
        daemon.restart().await?;
        for watcher in &watchers {
            let lines = watcher
                .until("the restart", |lines| {
                    lines.iter().filter(|line| line.r#type == "Restarted").count() == number + 1
                })
                .await?;
            let restart = lines.iter().rfind(|line| line.r#type == "Restarted").context("no restart")?;
            ensure!(restart.blind == Some(false), "after {ended:?}: {restart:?}");
            let removed = |id: &str| {
                lines.iter().find(|line| {
                    line.r#type == "ContainerRemoved" && line.container_id.as_deref() == Some(id)
                })
            };
            for id in [&dies, &gone.sandbox_id, &short.sandbox_id] {
                let removed = removed(id).with_context(|| format!("after {ended:?}: {id} is not removed"))?;
                let of_id: Vec<_> =
                    lines.iter().filter(|line| line.container_id.as_deref() == Some(id)).collect();
                ensure!(removed.late == Some(true), "after {ended:?}: the removal is not late: {of_id:#?}");
            }
            ensure!(has(&lines, "ContainerStarted", &probe.sandbox_id), "after {ended:?}: no {probe:?}");
        }
    }
    caught_up(&daemon, &client, &watchers).await?;
    for watcher in &watchers {
        let lines = watcher.lines();
        ensure!(lines.iter().all(|line| line.r#type != "Gap"), "{:?}", watcher.log_lines());
        let numbers: Vec<u64> =
            lines.iter().filter(|line| line.r#type != "Restarted").filter_map(|line| line.sequence).collect();
        ensure!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
        expect_published_once(&lines, &client.history().entries())?;
    }
    finish(daemon, containerd).await
}

fn has(lines: &[Line], kind: &str, id: &str) -> bool {
    lines.iter().any(|line| line.r#type == kind && line.container_id.as_deref() == Some(id))
}

pub(super) async fn a_daemon_without_state_is_found_again() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let client = containerd.client()?;
    let config = tempfile::NamedTempFile::new()?;
    std::fs::write(config.path(), "[state]\nenabled = false\n")?;
    let mut daemon = Daemon::configured(&containerd.endpoint(), config.path()).await?;
    let kept = client.run_pod("kept").await?;
    let gone = client.run_pod("gone").await?;
    let start = |_| Watcher::start(&daemon.socket(), &["--snapshot"]);
    let watchers: Vec<Watcher> = (0..5).map(start).collect::<Result<_>>()?;
    for watcher in &watchers {
        watcher.until("a snapshot", |lines| snapshot(lines) == Some(uids([&kept, &gone]))).await?;
    }

    daemon.kill9().await?;
    // Changes while the daemon is down.
    client.stop_pod(&gone).await?;
    client.remove_pod(&gone).await?;
    let new = client.run_pod("new").await?;
    daemon.restart().await?;
    for watcher in &watchers {
        let lines = watcher
            .until("the snapshot of the next daemon", |lines| snapshot(lines) == Some(uids([&kept, &new])))
            .await?;
        let gaps: Vec<_> = lines.iter().filter(|line| line.r#type == "Gap").collect();
        let reasons: Vec<_> = gaps.iter().filter_map(|gap| gap.reason.as_deref()).collect();
        ensure!(reasons == ["foreign_epoch"], "{gaps:?}");
        let said = watcher.log_lines().join("\n");
        ensure!(
            said.contains("connection to plegd was lost") && said.contains("plegd was restarted"),
            "{said}"
        );
    }
    // The clients follow the new daemon.
    let id = client.run(&new, ContainerSpec::sleeping("short", 0.05, 3)).await?;
    client.exited(&id).await?;
    for watcher in &watchers {
        let died = |line: &Line| line.r#type == "ContainerDied" && line.container_id.as_deref() == Some(&id);
        watcher.until("later events", |lines| lines.iter().any(died)).await?;
    }
    finish(daemon, containerd).await
}

/// The UIDs of the last snapshot, if it is complete and only events follow it.
fn snapshot(lines: &[Line]) -> Option<BTreeSet<String>> {
    let end = lines.iter().rposition(|line| line.r#type == "SnapshotEnd")?;
    if lines[end..].iter().any(|line| line.r#type == "Gap" || line.r#type == "Pod") {
        return None;
    }
    let pods = lines[..end].iter().rev().map_while(|line| line.pod.as_ref());
    Some(pods.filter_map(|pod| Some(pod["identity"]["uid"].as_str()?.to_owned())).collect())
}

fn uids<const N: usize>(pods: [&Pod; N]) -> BTreeSet<String> {
    pods.into_iter().map(|pod| pod.uid.clone()).collect()
}

/// Durations of the runtime's calls, in seconds.
#[derive(Default)]
struct Durations {
    run_pod: Vec<f64>,
    start: Vec<f64>,
}

// === impl Durations ===

impl Durations {
    /// Each round runs a short pod, and a short container in `pod`. `attempt` is the first attempt number.
    async fn measure(client: &Client, pod: &Pod, attempt: u32) -> Result<Self> {
        let mut durations = Self::default();
        for attempt in attempt..attempt + ROUNDS {
            let (short, seconds) = timed(client.run_pod(&format!("short-{attempt}"))).await?;
            durations.run_pod.push(seconds);
            let spec = ContainerSpec { attempt, ..ContainerSpec::sleeping("short", 0.01, 0) };
            let id = client.create_with(pod, spec).await?;
            let ((), seconds) = timed(client.start(&id)).await?;
            durations.start.push(seconds);
            client.exited(&id).await?;
            client.remove(&id).await?;
            client.stop_pod(&short).await?;
            client.remove_pod(&short).await?;
        }
        Ok(durations)
    }
}

async fn timed<T>(call: impl Future<Output = Result<T, lab::CallError>>) -> Result<(T, f64)> {
    let clock = Clock::system();
    let begin = clock.now();
    let value = call.await?;
    Ok((value, clock.now().since(begin).as_secs_f64()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Waits until plegd has published every change, and these watchers have received every event. Returns the head.
async fn caught_up<'a>(
    daemon: &Daemon,
    client: &Client,
    watchers: impl IntoIterator<Item = &'a Watcher>,
) -> Result<u64> {
    // The last event of each removed id is its removal. The remaining ids are in lists.
    let removed: BTreeSet<String> = removed(&client.history().entries()).collect();
    let watchers: Vec<&Watcher> = watchers.into_iter().collect();
    watchers[0]
        .until("all removals", |lines| {
            let published = lines.iter().filter(|line| line.r#type == "ContainerRemoved");
            let published: BTreeSet<&str> =
                published.filter_map(|line| line.container_id.as_deref()).collect();
            removed.iter().all(|id| published.contains(id.as_str()))
        })
        .await?;
    // Events of the remaining ids are complete once the head does not move for 100 ms.
    let head = eventually("a head that does not move", TIMEOUT, || async {
        let before = daemon.head().await?;
        sleep(Duration::from_millis(100)).await;
        Ok((daemon.head().await? == before).then_some(before))
    })
    .await?;
    for watcher in watchers {
        watcher.until_event(head).await?;
    }
    Ok(head)
}

fn removed(done: &[Entry]) -> impl Iterator<Item = String> {
    done.iter().filter(|entry| entry.what == Change::Removed).map(|entry| entry.id.clone())
}

/// Checks that each start, death and removal in the client's history was published once.
fn expect_published_once(lines: &[Line], done: &[Entry]) -> Result<()> {
    for entry in done {
        let kind = match entry.what {
            Change::Started => "ContainerStarted",
            Change::Died(_) => "ContainerDied",
            Change::Removed => "ContainerRemoved",
            Change::Created | Change::StartFailed => continue,
        };
        let times = lines
            .iter()
            .filter(|line| line.r#type == kind && line.container_id.as_ref() == Some(&entry.id))
            .count();
        ensure!(times == 1, "{kind} of {} was published {times} times", entry.id);
    }
    Ok(())
}

fn pid_of(subscriber: &v1::Subscriber) -> Option<i32> {
    match subscriber.peer.as_ref()?.peer.as_ref()? {
        v1::peer::Peer::Process(process) => process.pid,
        v1::peer::Peer::Network(_) => None,
    }
}

pub(super) async fn finish(daemon: Daemon, containerd: Containerd) -> Result<()> {
    daemon.stop().await?;
    let left = containerd.shutdown().await?;
    ensure!(left == lab::Leftovers::default(), "left behind: {left}");
    Ok(())
}
