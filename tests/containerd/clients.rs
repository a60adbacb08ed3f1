//! Clients in processes of their own, of a daemon in its own: one that is frozen, one that is killed, and all of them when
//! the daemon itself is restarted.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{api::v1, clock::Clock};
use tokio::time::sleep;

use super::{
    binary::{Daemon, Line, Watcher, killed_and_resumed},
    lab::{self, Client, ContainerSpec, Containerd, Entry, PATIENCE, Pod, Version::V2_1, What, eventually},
};

const HEALTHY: usize = 50;
/// Pods and containers that are run with and without somebody frozen.
const ROUNDS: u32 = 12;
/// So many that a few events with the whole pod fill the windows and buffers of a connection.
const IDLE_CONTAINERS: usize = 20;
/// How much longer anything may take beside a frozen client, at the median. What it must not do is stand still.
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

    let without = Took::by_rounds(&client, &pod, 0).await?;
    let middle = caught_up(&daemon, &client, &healthy).await?;
    frozen.freeze()?;
    let beside = Took::by_rounds(&client, &pod, ROUNDS).await?;
    let head = caught_up(&daemon, &client, &healthy).await?;

    let pid = i32::try_from(frozen.pid()?)?;
    let subscribers = daemon.subscribers().await?;
    let hung = subscribers.iter().find(|subscriber| pid_of(subscriber) == Some(pid));
    ensure!(hung.context("the frozen one is gone")?.lag > 0, "it took everything: it was not frozen");
    frozen.thaw()?;

    // Everything, in order, and to all the same.
    let all = healthy[0].events();
    let numbers: Vec<u64> = all.iter().filter_map(|line| line.sequence).collect();
    ensure!(numbers == (1..=head).collect::<Vec<_>>(), "{numbers:?} of {head}");
    told_as_done(&all, &client.history().entries())?;
    for watcher in &healthy[1..] {
        let told = watcher.lines();
        ensure!(told.iter().map(Line::event).eq(all.iter().map(Line::event)), "{:?}", watcher.log_lines());
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
            let told = watcher.events().into_iter();
            told.filter(|line| (from + 1..=to).contains(&line.sequence.unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        median(healthy.iter().flat_map(of).filter_map(|line| line.latency_seconds()).collect())
    };
    let compared = [
        ("RunPodSandbox", median(without.run_pod), median(beside.run_pod)),
        ("StartContainer", median(without.start), median(beside.start)),
        ("what watchers are told", latency(begin, middle), latency(middle, head)),
    ];
    for (what, without, beside) in compared {
        println!("{what}: {:.2} ms, beside a frozen client {:.2} ms", without * 1e3, beside * 1e3);
        ensure!(beside <= without * FACTOR, "{what}: {without} s, beside a frozen client {beside} s");
    }
    finish(daemon, containerd).await
}

/// Lives of containers, three events each beside their creation.
const SHORT_LIVES: u32 = 60;

pub(super) async fn a_killed_client_goes_on_where_it_was() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let client = containerd.client()?;
    let daemon = Daemon::start(&containerd.endpoint()).await?;
    let uninterrupted = Watcher::start(&daemon.socket(), &["--since", "oldest"])?;
    // Four events each: made, started, died, removed. The pods' own come on top.
    let least = u64::from(SHORT_LIVES) * 4;
    let lives = async {
        let lives = (0..4).map(async |n| {
            let pod = client.run_pod(&format!("pod-{n}")).await?;
            lab::run_short_lives(&client, &pod, SHORT_LIVES / 4, 0.01).await?;
            client.stop_pod(&pod).await?;
            client.remove_pod(&pod).await?;
            anyhow::Ok(())
        });
        stream::iter(lives).buffer_unordered(4).try_collect::<()>().await
    };
    let socket = daemon.socket();
    let ((), resumed) = tokio::try_join!(lives, killed_and_resumed(&socket, 7, least))?;
    let last = resumed.received.last().and_then(|line| line.sequence).unwrap_or_default();
    resumed.same_as(&uninterrupted.until_event(last).await?)?;
    let head = caught_up(&daemon, &client, [&uninterrupted]).await?;
    ensure!(head >= least, "{head} events only");
    told_as_done(&uninterrupted.events(), &client.history().entries())?;
    finish(daemon, containerd).await
}

pub(super) async fn a_restarted_daemon_is_found_again() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let client = containerd.client()?;
    let mut daemon = Daemon::start(&containerd.endpoint()).await?;
    let kept = client.run_pod("kept").await?;
    let gone = client.run_pod("gone").await?;
    let start = |_| Watcher::start(&daemon.socket(), &["--snapshot"]);
    let watchers: Vec<Watcher> = (0..5).map(start).collect::<Result<_>>()?;
    for watcher in &watchers {
        watcher.until("a snapshot", |lines| snapshot(lines) == Some(uids([&kept, &gone]))).await?;
    }

    daemon.kill9().await?;
    // What the watchers were not told, and what is no more.
    client.stop_pod(&gone).await?;
    client.remove_pod(&gone).await?;
    let new = client.run_pod("new").await?;
    daemon.restart().await?;
    for watcher in &watchers {
        let lines = watcher
            .until("the next one's snapshot", |lines| snapshot(lines) == Some(uids([&kept, &new])))
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
    // They follow the new one.
    let id = client.run(&new, ContainerSpec::living("short", 0.05, 3)).await?;
    client.exited(&id).await?;
    for watcher in &watchers {
        let died = |line: &Line| line.r#type == "ContainerDied" && line.container_id.as_deref() == Some(&id);
        watcher.until("what happens from then on", |lines| lines.iter().any(died)).await?;
    }
    finish(daemon, containerd).await
}

/// The UIDs of the last snapshot, if it is complete and nothing came after it but events.
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

/// How long the runtime's calls took.
#[derive(Default)]
struct Took {
    run_pod: Vec<f64>,
    start: Vec<f64>,
}

// === impl Took ===

impl Took {
    /// Each round is a short pod, and a short container in the pod that is there. `attempt` is the first one's.
    async fn by_rounds(client: &Client, pod: &Pod, attempt: u32) -> Result<Self> {
        let mut took = Self::default();
        for attempt in attempt..attempt + ROUNDS {
            let (short, seconds) = timed(client.run_pod(&format!("short-{attempt}"))).await?;
            took.run_pod.push(seconds);
            let spec = ContainerSpec { attempt, ..ContainerSpec::living("short", 0.01, 0) };
            let id = client.create_with(pod, spec).await?;
            let ((), seconds) = timed(client.start(&id)).await?;
            took.start.push(seconds);
            client.exited(&id).await?;
            client.remove(&id).await?;
            client.stop_pod(&short).await?;
            client.remove_pod(&short).await?;
        }
        Ok(took)
    }
}

async fn timed<T>(call: impl Future<Output = Result<T, lab::CallError>>) -> Result<(T, f64)> {
    let clock = Clock::system();
    let begin = clock.now();
    let answer = call.await?;
    Ok((answer, clock.now().since(begin).as_secs_f64()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Waits until plegd has seen all that was done, and these watchers all that it has told. Returns the head.
async fn caught_up<'a>(
    daemon: &Daemon,
    client: &Client,
    watchers: impl IntoIterator<Item = &'a Watcher>,
) -> Result<u64> {
    // Of each id one event at least is told last: what is removed is no longer listed, what is not is.
    let removed: BTreeSet<String> = removed(&client.history().entries()).collect();
    let watchers: Vec<&Watcher> = watchers.into_iter().collect();
    watchers[0]
        .until("all removals", |lines| {
            let told = lines.iter().filter(|line| line.r#type == "ContainerRemoved");
            let told: BTreeSet<&str> = told.filter_map(|line| line.container_id.as_deref()).collect();
            removed.iter().all(|id| told.contains(id.as_str()))
        })
        .await?;
    // What is there still has been told once nothing more comes.
    let head = eventually("the journal to rest", PATIENCE, || async {
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
    done.iter().filter(|entry| entry.what == What::Removed).map(|entry| entry.id.clone())
}

/// Each start, death and removal that the client has brought about is told, and once.
fn told_as_done(told: &[Line], done: &[Entry]) -> Result<()> {
    for entry in done {
        let kind = match entry.what {
            What::Started => "ContainerStarted",
            What::Died(_) => "ContainerDied",
            What::Removed => "ContainerRemoved",
            What::Created | What::StartFailed => continue,
        };
        let times = told
            .iter()
            .filter(|line| line.r#type == kind && line.container_id.as_ref() == Some(&entry.id))
            .count();
        ensure!(times == 1, "{kind} of {} was told {times} times", entry.id);
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
