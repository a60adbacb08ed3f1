//! The state on disk: its cost at rest, and the restart of a plegd that has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use plegd::{
    client::{Address, Client, Since, Update, WatchOptions},
    clock::{Clock, Mono},
};
use tokio::time::{sleep, timeout};

use super::{
    Bench, CONTAINERS_PER_POD, PODS,
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    idle::{PROBING, REST, SETTLE},
    node::{Lists, Node, Weight, act},
    process::{Memory, wake_ups},
    progress,
    report::{Distribution, Reading, Target, Unit},
};

const STARTS: usize = 9;
const SUBSCRIBERS: usize = 5;

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    let mut readings = at_rest(bench).await?;
    readings.extend(progress::during("restarting plegd with its state", restarts(bench)).await?);
    Ok(readings)
}

/// Two plegds on one node at the same time, one of them without state.
async fn at_rest(bench: &Bench) -> Result<Vec<Reading>> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, PODS, CONTAINERS_PER_POD)?;
    let mut daemons = Vec::new();
    for enabled in ["true", "false"] {
        let state = [("PLEGD_STATE_ENABLED", enabled)];
        daemons.push(
            Daemon::configured(&bench.clock, &node.endpoint(), Print::Nothing, Stream::On, state).await?,
        );
    }
    for daemon in &daemons {
        let evented = daemon.shows("plegd_mode{mode=\"evented\"}", 1.0, PROBING);
        progress::during("waiting for evented mode", evented).await?;
    }
    sleep(SETTLE).await;
    let pids = [daemons[0].pid()?, daemons[1].pid()?];
    let before = [wake_ups(pids[0])?, wake_ups(pids[1])?];
    progress::during("measuring plegd at rest", sleep(REST)).await;
    let woken = [wake_ups(pids[0])? - before[0], wake_ups(pids[1])? - before[1]];
    let resident = [Memory::of(pids[0])?.resident as f64 / 1e6, Memory::of(pids[1])?.resident as f64 / 1e6];
    let bytes = daemons[0].metric("plegd_state_bytes").await?;
    for daemon in daemons {
        daemon.stop().await?;
    }
    let size = format!("{PODS} × {CONTAINERS_PER_POD}");
    Ok(vec![
        Reading::new(
            "state_wake_ups",
            format!("additional wake-ups at rest, {size}, per minute"),
            Unit::Count,
            woken[0] as f64 - woken[1] as f64,
        )
        .note(format!("{} with state, {} without", woken[0], woken[1])),
        Reading::new(
            "state_memory",
            format!("additional resident memory, {size}"),
            Unit::Megabytes,
            resident[0] - resident[1],
        )
        .target(Target::AtMost(0.2))
        .note(format!("{:.2} MB with state, {:.2} MB without", resident[0], resident[1])),
        Reading::new("state_bytes", format!("state on disk, {size}"), Unit::Megabytes, bytes / 1e6)
            .target(Target::AtMost(2.0)),
    ])
}

/// Kills plegd and starts it again: until it is ready, and until its subscribers have received what happened meanwhile.
async fn restarts(bench: &Bench) -> Result<Vec<Reading>> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, PODS, STARTS)?;
    let mut daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Nothing, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, DEADLINE).await?;
    let subscribers: Vec<Subscriber> =
        (0..SUBSCRIBERS).map(|_| Subscriber::start(&daemon, &bench.clock)).collect();
    sleep(SETTLE).await;
    let (mut ready, mut received) = (Vec::new(), Vec::new());
    for round in 0..STARTS {
        let id = node.pods[round].containers[round].clone();
        daemon.kill().await?;
        act(&node.sim, |truth| truth.exit(&id, 3))?;
        daemon.start_again().await?;
        ready.push(daemon.ready().await?.as_secs_f64() * 1e3);
        for subscriber in &subscribers {
            let at = subscriber.death_of(&id).await.context("a death is not delivered")?;
            received.push(at.since(daemon.spawned()).as_secs_f64() * 1e3);
        }
        // Waits for the stream, so that all rounds begin in the same state.
        sleep(SETTLE).await;
    }
    daemon.stop().await?;
    let ready = Distribution::of(ready).context("plegd was not started")?;
    let received = Distribution::of(received).context("nothing was received")?;
    let size = format!("{PODS} × {STARTS}");
    Ok(vec![
        Reading::new(
            "state_start",
            format!("start with state → ready, {size}"),
            Unit::Milliseconds,
            ready.median(),
        )
        .target(Target::AtMost(150.0))
        .note(format!(
            "median of {}, longest {:.1} ms; polled every 2 ms",
            ready.count(),
            ready.max()
        )),
        Reading::new(
            "state_restart",
            format!("start with state → a death meanwhile at each of {SUBSCRIBERS} subscribers"),
            Unit::Milliseconds,
            received.median(),
        )
        .target(Target::AtMost(300.0))
        .note(format!("median of {}, longest {:.1} ms", received.count(), received.max())),
    ])
}

/// A client that watches, and resumes after each restart.
struct Subscriber {
    deaths: Arc<Mutex<BTreeMap<String, Mono>>>,
    task: tokio::task::JoinHandle<()>,
}

// === impl Subscriber ===

impl Subscriber {
    fn start(daemon: &Daemon, clock: &Clock) -> Self {
        let client = Client::lazy(&Address::Unix(daemon.socket()));
        let deaths = Arc::new(Mutex::new(BTreeMap::new()));
        let (received, clock) = (deaths.clone(), clock.clone());
        let task = tokio::spawn(async move {
            let mut watch = client.watch(WatchOptions { since: Since::Now, ..WatchOptions::default() });
            while let Some(Ok(update)) = watch.next().await {
                if let Update::Event { event, .. } = update
                    && event.exit_code.is_some()
                {
                    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
                    received.insert(event.container_id, clock.now());
                }
            }
        });
        Self { deaths, task }
    }

    async fn death_of(&self, id: &str) -> Result<Mono> {
        let received = async {
            loop {
                if let Some(at) = self.deaths.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
                    return *at;
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        Ok(timeout(DEADLINE, received).await?)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}
