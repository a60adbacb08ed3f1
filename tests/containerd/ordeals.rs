//! What befalls plegd itself, as a process: killed in the middle of churn, stopped with its stream open, starved of CPU.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{api::v1, clock::Clock};
use rustix::process::{Pid, Signal, setpriority_process};
use tokio::time::{sleep, timeout};

use super::{
    binary::Daemon,
    clients::finish,
    lab::{
        Churn, Client, ContainerSpec, Containerd, Mirror, PATIENCE,
        Version::{self, V2_1},
        disagreement, eventually, report, states_of,
    },
};

const KILLS: u32 = 3;

pub(super) async fn a_daemon_killed_in_the_middle_of_churn_is_made_good() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let mut daemon = Daemon::start(&containerd.endpoint()).await?;
    let mirror = Mirror::start(&daemon.client());
    let (churn, director) = Churn::new(containerd.client()?);
    let client = churn.client().clone();
    // What is there all the time must be there in the end.
    let kept = client.run_pod("kept").await?;
    client.run(&kept, ContainerSpec::living("stays", 3600.0, 0)).await?;
    let pods = churn.many(40, 6, 5);
    for kill in 1..=KILLS {
        let gone = churn.pods() + 4;
        eventually("pods to come and go", 2 * PATIENCE, || async {
            Ok((churn.pods() >= gone).then_some(()))
        })
        .await?;
        eprintln!("plegd is killed, time {kill} of {KILLS}; {} pods have come and gone", churn.pods());
        ensure!(!pods.is_finished(), "nothing was going on any more at kill {kill}");
        daemon.kill9().await?;
        sleep(Duration::from_millis(u64::from(kill) * 400)).await;
        daemon.restart().await?;
        eventually("the gap and a snapshot", PATIENCE, || async {
            let seen = mirror.seen()?;
            Ok((seen.gaps.len() == kill as usize && seen.snapshots == kill + 1).then_some(()))
        })
        .await?;
        let wrong = disagreement(&client, async || mirror.states(), PATIENCE).await?;
        ensure!(wrong.is_empty(), "after kill {kill}:\n{}", wrong.join("\n"));
    }
    director.end();
    let ended = report("waiting for the last pods", pods);
    ended.await??;
    at_rest(&client, &daemon, &mirror).await?;
    let expected = [v1::GapReason::ForeignEpoch; KILLS as usize];
    ensure!(mirror.seen()?.gaps == expected, "{:?}", mirror.seen()?.gaps);
    ensure!(mirror.states()?.contains_key(&kept.sandbox_id), "what was there all the time is not");
    finish(daemon, containerd).await
}

/// How many pods are run beside a plegd that stands still, and for how long it does.
const PODS: u32 = 80;
const STILL: Duration = Duration::from_secs(20);

pub(super) async fn a_stopped_daemon_catches_up(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let daemon = Daemon::start(&containerd.endpoint()).await?;
    let mirror = Mirror::start(&daemon.client());
    subscribed(&client, &mirror).await?;
    let runtime = containerd.runtime_version();

    daemon.signal(Signal::STOP)?;
    let load = Load::start(&client, PODS, "still");
    report("plegd stands still for 20 s", sleep(STILL)).await;
    let meanwhile = load.calls();
    ensure!(
        daemon.get("/livez", Duration::from_secs(1)).await.is_err(),
        "a process that stands still answers"
    );
    daemon.signal(Signal::CONT)?;
    load.ended().await?;
    let whole = load.calls();
    eprintln!(
        "containerd {runtime}, plegd stopped for {STILL:?}: {} of {} calls were done meanwhile; the longest of all took {:.1} s",
        meanwhile.done,
        2 * PODS,
        whole.longest.as_secs_f64()
    );
    ensure!(whole.done == 2 * PODS, "{} calls only", whole.done);
    at_rest(&client, &daemon, &mirror).await?;
    ensure!(daemon.get("/livez", PATIENCE).await?.starts_with("HTTP/1.1 200"), "not alive once it goes on");
    finish(daemon, containerd).await
}

/// A watchdog, of systemd or of the kubelet, ends what does not answer. That is what frees the runtime.
pub(super) async fn the_end_of_a_stopped_daemon_frees_the_runtime(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut daemon = Daemon::start(&containerd.endpoint()).await?;
    let mirror = Mirror::start(&daemon.client());
    subscribed(&client, &mirror).await?;

    daemon.signal(Signal::STOP)?;
    let load = Load::start(&client, 2 * PODS, "blocked");
    let clock = Clock::system();
    // Until nothing goes on any more.
    let mut before = load.calls();
    let hung = loop {
        report("waiting for the runtime to hang", sleep(Duration::from_secs(8))).await;
        ensure!(!load.is_over(), "this runtime does not hang: there is nothing to be freed from");
        let now = load.calls();
        if now.done == before.done {
            break now;
        }
        before = now;
    };
    ensure!(
        daemon.get("/livez", Duration::from_secs(1)).await.is_err(),
        "a process that stands still answers"
    );
    daemon.kill9().await?;
    let killed = clock.now();
    let freed = eventually("a call after the end of plegd", PATIENCE, || async {
        Ok((load.calls().done > hung.done).then_some(clock.now()))
    });
    let freed = freed.await?.since(killed);
    let whole = {
        load.ended().await?;
        load.calls()
    };
    eprintln!(
        "containerd {}: hung after {} calls; the next one was done {:.3} s after the end of plegd; the longest took {:.1} s",
        containerd.runtime_version(),
        hung.done,
        freed.as_secs_f64(),
        whole.longest.as_secs_f64()
    );
    daemon.restart().await?;
    at_rest(&client, &daemon, &mirror).await?;
    finish(daemon, containerd).await
}

/// Pods of the loads that are compared.
const COMPARED: u32 = 24;
/// How much longer the runtime's calls may take beside a starved plegd, at the median, than beside the same hunger and none.
/// What must not be is that they stand still.
const FACTOR: f64 = 4.0;

pub(super) async fn a_starved_daemon_delays_nobody_and_loses_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    // Neither is the runtime to be starved, nor this machine: so plegd is made to yield to all, and there is always somebody.
    let busy = Busy::two_a_core()?;
    let without = Load::start(&client, COMPARED, "without");
    report("a load beside busy loops", without.ended()).await?;

    client.history().forget();
    let daemon = Daemon::start(&containerd.endpoint()).await?;
    let mirror = Mirror::start(&daemon.client());
    subscribed(&client, &mirror).await?;
    yield_to_all(daemon.pid()?)?;
    let beside = Load::start(&client, COMPARED, "beside");
    report("the same beside a plegd that is starved", beside.ended()).await?;
    let took = clock_until_at_rest(&client, &daemon, &mirror).await?;
    drop(busy);
    let (without, beside) = (without.calls(), beside.calls());
    eprintln!(
        "containerd {}: a call took {:.0} ms at the median without plegd and {:.0} ms beside a starved one, which told the last \
         of it {:.1} s after it",
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
    eprintln!("{missed} misses were counted");
    finish(daemon, containerd).await
}

/// Waits until plegd tells from the stream: events made for it come.
async fn subscribed(client: &Client, mirror: &Mirror) -> Result<()> {
    let pod = client.run_pod("probe").await?;
    eventually("plegd to tell", PATIENCE, || async {
        Ok(mirror.states()?.contains_key(&pod.sandbox_id).then_some(()))
    })
    .await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    Ok(())
}

/// Waits until daemon and mirror have what the runtime has.
async fn at_rest(client: &Client, daemon: &Daemon, mirror: &Mirror) -> Result<()> {
    let served = async || Ok(states_of(&daemon.client().list_pods(v1::Filter::default()).await?.pods));
    let wrong = disagreement(client, served, 2 * PATIENCE).await?;
    ensure!(wrong.is_empty(), "served otherwise than it is:\n{}\n{}", wrong.join("\n"), daemon.log_text());
    let wrong = disagreement(client, async || mirror.states(), PATIENCE).await?;
    ensure!(wrong.is_empty(), "told otherwise than it is:\n{}", wrong.join("\n"));
    Ok(())
}

async fn clock_until_at_rest(client: &Client, daemon: &Daemon, mirror: &Mirror) -> Result<Duration> {
    let clock = Clock::system();
    let began = clock.now();
    at_rest(client, daemon, mirror).await?;
    Ok(clock.now().since(began))
}

/// Pods with a short container each, four at a time, and how long their calls take.
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
        // A call may hang for as long as plegd stands still.
        let client = client.clone().with_deadline(3 * PATIENCE);
        let calls = Arc::new(Mutex::new(Calls::default()));
        let counted = calls.clone();
        let task = tokio::spawn(async move {
            let lives = (0..pods).map(|number| live(&client, name, number, &counted));
            stream::iter(lives).buffer_unordered(4).try_collect().await
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
        let task = task.context("it has ended before")?;
        timeout(5 * PATIENCE, task).await.context("the load does not end")??
    }
}

async fn live(client: &Client, name: &str, number: u32, calls: &Mutex<Calls>) -> Result<()> {
    let clock = Clock::system();
    let began = clock.now();
    let pod = client.run_pod(&format!("{name}-{number}")).await?;
    count(calls, clock.now().since(began));
    let id = client.create_with(&pod, ContainerSpec::living("main", 0.05, 0)).await?;
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

/// Processes that do nothing but take all the CPU that they are given. They end when it is dropped.
struct Busy(Vec<Child>);

// === impl Busy ===

impl Busy {
    fn two_a_core() -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let mut busy = Self(Vec::new());
        for _ in 0..2 * cores {
            let mut command = Command::new("/bin/sh");
            // It ends by itself if nobody ends it.
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

/// Gives every thread of a process the lowest priority there is.
fn yield_to_all(pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = task?.file_name().to_string_lossy().parse::<i32>()?;
        let thread = Pid::from_raw(thread).context("a thread with the id 0")?;
        setpriority_process(Some(thread), 19)?;
    }
    Ok(())
}
