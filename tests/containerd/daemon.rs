//! Faults of the plegd process: killed during churn, paused with an open stream, starved of CPU.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{api::v1, clock::Clock};
use rustix::process::{Pid, Signal, setpriority_process};
use tokio::time::{sleep, timeout};

use super::{
    binary::{Daemon, Line, Watcher},
    clients::finish,
    lab::{
        Change, Churn, Client, ContainerSpec, Containerd, Entry, Mirror, TIMEOUT, Version, eventually,
        report, state_differences, states_of,
    },
};

const KILLS: u32 = 20;
/// Messages that the runtime sent to the killed daemon, and that were not written yet.
const IN_FLIGHT: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods, reason = "compared with the times of the lab's history")]
pub(super) async fn kills_during_churn_lose_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let mut daemon = Daemon::start(&containerd.endpoint()).await?;
    let watcher = Watcher::start(&daemon.socket(), &["--since", "oldest"])?;
    let mirror = Mirror::start(&daemon.client());
    let (churn, control) = Churn::new(containerd.client()?);
    let client = churn.client().clone();
    // A pod that exists all the time must be in the final state.
    let kept = client.run_pod("kept").await?;
    client.run(&kept, ContainerSpec::sleeping("stays", 3600.0, 0)).await?;
    let pods = churn.many(600, 4, 5);
    let mut downtimes = Vec::new();
    for kill in 1..=KILLS {
        report("a churn", sleep(Duration::from_millis(500 + 250 * u64::from(kill % 5)))).await;
        ensure!(!pods.is_finished(), "the churn had ended before kill {kill}");
        let killed = SystemTime::now();
        daemon.kill9().await?;
        sleep(Duration::from_millis(u64::from(kill % 4) * 200)).await;
        daemon.restart().await?;
        downtimes.push((killed - IN_FLIGHT, SystemTime::now()));
    }
    eprintln!("plegd was killed {KILLS} times; {} pods have come and gone", churn.pods());
    control.end();
    let ended = report("waiting for the last pods", pods);
    ended.await??;
    until_consistent(&client, &daemon, &mirror).await?;
    ensure!(mirror.state()?.gaps.is_empty(), "{:?}", mirror.state()?.gaps);
    ensure!(mirror.states()?.contains_key(&kept.sandbox_id), "the pod that existed all the time is missing");
    let lines = watcher.until_event(daemon.head().await?).await?;
    ensure!(lines.iter().all(|line| line.r#type != "Gap"), "{:?}", watcher.log_lines());
    let numbers: Vec<u64> =
        lines.iter().filter(|line| line.r#type != "Restarted").filter_map(|line| line.sequence).collect();
    ensure!(numbers.iter().copied().eq(1..=numbers.len() as u64), "a hole or a duplicate in {numbers:?}");
    let lived_unseen = expect_complete(&lines, &client, &churn, &downtimes)?;
    eprintln!("{} events; {lived_unseen} containers lived within a kill and are missing", numbers.len());
    finish(daemon, containerd).await
}

/// Checks that each start, death and removal was published once. Returns the number of containers that are missing because they came
/// and went while plegd was killed: the runtime does not replay what it had sent by then.
fn expect_complete(
    lines: &[Line],
    client: &Client,
    churn: &Churn,
    downtimes: &[(SystemTime, SystemTime)],
) -> Result<usize> {
    let entries = client.history().entries();
    let mut ids: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    entries.iter().for_each(|entry| ids.entry(&entry.id).or_default().push(entry));
    let mut missing = 0;
    for (id, entries) in ids.into_iter().filter(|(id, _)| churn.is_certain(id)) {
        let of_id = |kind: &str| {
            lines
                .iter()
                .filter(|line| line.r#type == kind && line.container_id.as_deref() == Some(id))
                .count()
        };
        let kinds = entries.iter().filter_map(|entry| {
            Some((
                entry,
                match entry.what {
                    Change::Started => "ContainerStarted",
                    Change::Died(_) => "ContainerDied",
                    Change::Removed => "ContainerRemoved",
                    Change::Created | Change::StartFailed => return None,
                },
            ))
        });
        let counts: Vec<_> = kinds.map(|(entry, kind)| (of_id(kind), kind, entry)).collect();
        let within = |(from, to): &(SystemTime, SystemTime)| {
            entries.iter().all(|entry| (*from..=*to).contains(&entry.at))
                && counts.iter().any(|it| it.1 == "ContainerRemoved")
        };
        if counts.iter().all(|(count, ..)| *count == 0) && downtimes.iter().any(within) {
            missing += 1;
            continue;
        }
        if let Some((count, kind, entry)) = counts.iter().find(|(count, ..)| *count != 1) {
            bail!("{kind} of {id} was published {count} times; {entry:?}, plegd was down {downtimes:?}");
        }
    }
    Ok(missing)
}

/// The number of pods that run beside a paused plegd, and the duration of the pause.
const PODS: u32 = 80;
const PAUSE: Duration = Duration::from_secs(20);

pub(super) async fn a_paused_daemon_catches_up(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let daemon = Daemon::start(&containerd.endpoint()).await?;
    let mirror = Mirror::start(&daemon.client());
    subscribed(&client, &mirror).await?;
    let runtime = containerd.runtime_version();

    daemon.signal(Signal::STOP)?;
    let load = Load::start(&client, PODS, "paused");
    report("plegd is paused for 20 s", sleep(PAUSE)).await;
    let meanwhile = load.calls();
    ensure!(daemon.get("/livez", Duration::from_secs(1)).await.is_err(), "a paused process answers");
    daemon.signal(Signal::CONT)?;
    load.ended().await?;
    let whole = load.calls();
    eprintln!(
        "containerd {runtime}, plegd stopped for {PAUSE:?}: {} of {} calls were done meanwhile; the longest of all took {:.1} s",
        meanwhile.done,
        2 * PODS,
        whole.longest.as_secs_f64()
    );
    ensure!(whole.done == 2 * PODS, "only {} calls", whole.done);
    until_consistent(&client, &daemon, &mirror).await?;
    ensure!(daemon.get("/livez", TIMEOUT).await?.starts_with("HTTP/1.1 200"), "not alive after the pause");
    finish(daemon, containerd).await
}

/// A watchdog of systemd or of the kubelet kills a daemon that does not answer. That unblocks the runtime.
pub(super) async fn the_kill_of_a_paused_daemon_unblocks_the_runtime(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut daemon = Daemon::start(&containerd.endpoint()).await?;
    let mirror = Mirror::start(&daemon.client());
    subscribed(&client, &mirror).await?;

    daemon.signal(Signal::STOP)?;
    let load = Load::start(&client, 2 * PODS, "blocked");
    let clock = Clock::system();
    // Wait until no call completes.
    let mut before = load.calls();
    let hung = loop {
        report("waiting for the runtime to hang", sleep(Duration::from_secs(8))).await;
        ensure!(!load.is_over(), "this runtime does not hang");
        let now = load.calls();
        if now.done == before.done {
            break now;
        }
        before = now;
    };
    ensure!(daemon.get("/livez", Duration::from_secs(1)).await.is_err(), "a paused process answers");
    daemon.kill9().await?;
    let killed = clock.now();
    let unblocked = eventually("a completed call after the kill of plegd", TIMEOUT, || async {
        Ok((load.calls().done > hung.done).then_some(clock.now()))
    });
    let unblocked = unblocked.await?.since(killed);
    let whole = {
        load.ended().await?;
        load.calls()
    };
    eprintln!(
        "containerd {}: hung after {} calls; the next one completed {:.3} s after the kill of plegd; the longest took {:.1} s",
        containerd.runtime_version(),
        hung.done,
        unblocked.as_secs_f64(),
        whole.longest.as_secs_f64()
    );
    daemon.restart().await?;
    until_consistent(&client, &daemon, &mirror).await?;
    finish(daemon, containerd).await
}

/// The number of pods of each compared load.
const COMPARED: u32 = 24;
/// Limit for the slowdown of the runtime's calls beside a starved plegd, at the median. The test excludes a standstill.
const FACTOR: f64 = 4.0;

pub(super) async fn a_starved_daemon_delays_nobody_and_loses_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    // Only plegd is to be starved: it gets the lowest priority, and busy loops take the CPU.
    let busy = Busy::two_per_core()?;
    let without = Load::start(&client, COMPARED, "without");
    report("a load beside busy loops", without.ended()).await?;

    client.history().forget();
    let daemon = Daemon::start(&containerd.endpoint()).await?;
    let mirror = Mirror::start(&daemon.client());
    subscribed(&client, &mirror).await?;
    lower_priority(daemon.pid()?)?;
    let beside = Load::start(&client, COMPARED, "beside");
    report("the same load beside a starved plegd", beside.ended()).await?;
    let took = time_until_consistent(&client, &daemon, &mirror).await?;
    drop(busy);
    let (without, beside) = (without.calls(), beside.calls());
    eprintln!(
        "containerd {}: a call took {:.0} ms at the median without plegd and {:.0} ms beside a starved one, which published \
         the last event {:.1} s later",
        containerd.runtime_version(),
        without.median().as_secs_f64() * 1e3,
        beside.median().as_secs_f64() * 1e3,
        took.as_secs_f64()
    );
    ensure!(
        beside.median() <= without.median().mul_f64(FACTOR),
        "{:?} without plegd, {:?} beside a starved one",
        without.median(),
        beside.median()
    );
    let [disconnects, missed] =
        daemon.metrics(["plegd_stream_disconnects_total{", "plegd_missed_events_total{"]).await?;
    ensure!(disconnects == 0.0, "the stream was lost\n{}", daemon.log_text());
    eprintln!("{missed} missed events were counted");
    finish(daemon, containerd).await
}

/// Waits until plegd publishes events of a probe pod from the stream.
async fn subscribed(client: &Client, mirror: &Mirror) -> Result<()> {
    let pod = client.run_pod("probe").await?;
    eventually("the probe pod", TIMEOUT, || async {
        Ok(mirror.states()?.contains_key(&pod.sandbox_id).then_some(()))
    })
    .await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    Ok(())
}

/// Waits until daemon and mirror have the runtime's state.
async fn until_consistent(client: &Client, daemon: &Daemon, mirror: &Mirror) -> Result<()> {
    let served = async || Ok(states_of(&daemon.client().list_pods(v1::Filter::default()).await?.pods));
    let wrong = state_differences(client, served, 2 * TIMEOUT).await?;
    ensure!(
        wrong.is_empty(),
        "the served state differs from the runtime:\n{}\n{}",
        wrong.join("\n"),
        daemon.log_text()
    );
    let wrong = state_differences(client, async || mirror.states(), TIMEOUT).await?;
    ensure!(wrong.is_empty(), "the watched state differs from the runtime:\n{}", wrong.join("\n"));
    Ok(())
}

async fn time_until_consistent(client: &Client, daemon: &Daemon, mirror: &Mirror) -> Result<Duration> {
    let clock = Clock::system();
    let began = clock.now();
    until_consistent(client, daemon, mirror).await?;
    Ok(clock.now().since(began))
}

/// Runs pods with one short container each, four in parallel, and measures their calls.
struct Load {
    calls: Arc<Mutex<Calls>>,
    task: Mutex<Option<tokio::task::JoinHandle<Result<()>>>>,
}

/// RunPodSandbox and StartContainer.
#[derive(Clone, Debug, Default)]
struct Calls {
    done: u32,
    longest: Duration,
    took: Vec<Duration>,
}

// === impl Load ===

impl Load {
    fn start(client: &Client, pods: u32, name: &'static str) -> Self {
        // A call may hang while plegd is paused.
        let client = client.clone().with_deadline(3 * TIMEOUT);
        let calls = Arc::new(Mutex::new(Calls::default()));
        let counted = calls.clone();
        let task = tokio::spawn(async move {
            let runs = (0..pods).map(|number| run_one(&client, name, number, &counted));
            stream::iter(runs).buffer_unordered(4).try_collect().await
        });
        Self { calls, task: Mutex::new(Some(task)) }
    }

    fn calls(&self) -> Calls {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_over(&self) -> bool {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.as_ref().is_none_or(|task| task.is_finished())
    }

    async fn ended(&self) -> Result<()> {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = task.context("the load was awaited before")?;
        timeout(5 * TIMEOUT, task).await.context("the load does not end")??
    }
}

async fn run_one(client: &Client, name: &str, number: u32, calls: &Mutex<Calls>) -> Result<()> {
    let clock = Clock::system();
    let began = clock.now();
    let pod = client.run_pod(&format!("{name}-{number}")).await?;
    count(calls, clock.now().since(began));
    let id = client.create_with(&pod, ContainerSpec::sleeping("main", 0.05, 0)).await?;
    let began = clock.now();
    client.start(&id).await?;
    count(calls, clock.now().since(began));
    client.exited(&id).await?;
    client.stop_pod(&pod).await?;
    Ok(client.remove_pod(&pod).await?)
}

fn count(calls: &Mutex<Calls>, took: Duration) {
    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    calls.done += 1;
    calls.longest = calls.longest.max(took);
    calls.took.push(took);
}

// === impl Calls ===

impl Calls {
    fn median(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort();
        took.get(took.len() / 2).copied().unwrap_or_default()
    }
}

/// Processes that use all available CPU time. Dropping it ends them.
struct Busy(Vec<Child>);

// === impl Busy ===

impl Busy {
    fn two_per_core() -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let mut busy = Self(Vec::new());
        for _ in 0..2 * cores {
            let mut command = Command::new("/bin/sh");
            // The limit ends it if the test does not.
            command.args(["-c", "ulimit -t 300; while :; do :; done"]).stdin(Stdio::null());
            busy.0.push(command.spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Gives every thread of a process the lowest priority.
fn lower_priority(pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = task?.file_name().to_string_lossy().parse::<i32>()?;
        let thread = Pid::from_raw(thread).context("thread id 0")?;
        setpriority_process(Some(thread), 19)?;
    }
    Ok(())
}
