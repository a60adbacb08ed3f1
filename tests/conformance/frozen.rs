//! A daemon that is stopped by SIGSTOP, a debugger or a cgroup freezer: the effect on the runtime, and that the daemon catches up
//! afterwards. With the binary, in real time; the only time limit is a generous deadline.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use plegd::{
    api::v1,
    clock::Clock,
    sim::{Profile, SimRuntime, truth::ContainerSpec, truth::SandboxSpec},
};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use crate::{
    binary::{DEADLINE, Daemon},
    support::truth::differences_of,
};

/// Creates a pod with one container like a kubelet: each step waits until the runtime has sent its event.
async fn pod(sim: &SimRuntime, n: usize) {
    let spec = SandboxSpec::of_pod("default", &format!("pod-{n}"), &format!("uid-{n}"));
    let container = ContainerSpec::of_pod(&spec, "c", 0, "busybox");
    let sandbox = sim.change_and_wait(|truth| truth.run_sandbox(spec)).await.expect("run");
    let id = sim.change_and_wait(|truth| truth.create_container(&sandbox, container)).await.expect("create");
    sim.change_and_wait(|truth| truth.start_container(&id)).await.expect("start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_daemon_blocks_no_call_for_100_events_and_catches_up_when_it_continues() -> Result<()> {
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
    let dir = tempfile::tempdir()?;
    let socket = sim.serve_uds(dir.path().join("runtime.sock"))?;
    let daemon = Daemon::start(&format!("unix://{}", socket.path().display())).await?;
    let converged = async || -> Result<()> {
        let all = async {
            loop {
                let served: Vec<v1::Pod> = daemon.client().list_pods(v1::Filter::default()).await?.pods;
                if differences_of(&served, &sim, |_| true).is_empty() {
                    return anyhow::Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, all).await.context("the served state does not converge to the truth")?
    };
    pod(&sim, 0).await;
    converged().await?;
    daemon.signal(Signal::STOP)?;
    // The runtime's channel holds 100 events, and the connection some more.
    let some = async {
        for n in 1..=25 {
            pod(&sim, n).await;
        }
    };
    timeout(DEADLINE, some).await.context("a stopped daemon blocks the runtime within 100 events")?;
    // Beyond that containerd 2.x blocks in publish until the daemon continues.
    let more = tokio::spawn({
        let sim = sim.clone();
        async move {
            for n in 26..=400 {
                pod(&sim, n).await;
            }
        }
    });
    sleep(Duration::from_millis(200)).await;
    ensure!(!more.is_finished(), "containerd 2.x cannot buffer 1500 events");
    daemon.signal(Signal::CONT)?;
    timeout(DEADLINE, more).await.context("the runtime stays blocked after the daemon continues")??;
    converged().await?;
    daemon.stop().await
}
