//! A daemon that is stopped as a debugger, a cgroup freezer or SIGSTOP does it: what that costs the runtime, and that it
//! goes on from where it was. With the binary itself, in real time; nothing here is bounded but by patience.

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
    binary::{Daemon, PATIENCE},
    support::truth::differences_of,
};

/// A pod of one container, made as a kubelet makes it: each step waits until the runtime has got rid of its event.
async fn pod(sim: &SimRuntime, n: usize) {
    let spec = SandboxSpec::of_pod("default", &format!("pod-{n}"), &format!("uid-{n}"));
    let container = ContainerSpec::of_pod(&spec, "c", 0, "busybox");
    let sandbox = sim.change_and_wait(|truth| truth.run_sandbox(spec)).await.expect("run");
    let id = sim.change_and_wait(|truth| truth.create_container(&sandbox, container)).await.expect("create");
    sim.change_and_wait(|truth| truth.start_container(&id)).await.expect("start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_daemon_holds_up_nobody_for_a_hundred_events_and_is_right_when_it_goes_on() -> Result<()> {
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
    let folder = tempfile::tempdir()?;
    let socket = sim.serve_uds(folder.path().join("runtime.sock"))?;
    let daemon = Daemon::start(&format!("unix://{}", socket.path().display())).await?;
    let right = async || -> Result<()> {
        let all = async {
            loop {
                let served: Vec<v1::Pod> = daemon.client().list_pods(v1::Filter::default()).await?.pods;
                if differences_of(&served, &sim, |_| true).is_empty() {
                    return anyhow::Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, all).await.context("what is served is not the truth")?
    };
    pod(&sim, 0).await;
    right().await?;
    daemon.signal(Signal::STOP)?;
    // A channel of the runtime's holds a hundred events, and the connection some more: that much of life goes on.
    let some = async {
        for n in 1..=25 {
            pod(&sim, n).await;
        }
    };
    timeout(PATIENCE, some).await.context("a hundred events are held up by a frozen daemon")?;
    // Whatever is held up beyond that (on containerd 2.x it is: its publish blocks) goes on with the daemon.
    let more = tokio::spawn({
        let sim = sim.clone();
        async move {
            for n in 26..=400 {
                pod(&sim, n).await;
            }
        }
    });
    sleep(Duration::from_millis(200)).await;
    ensure!(!more.is_finished(), "1500 events without a reader are more than containerd 2.x can have");
    daemon.signal(Signal::CONT)?;
    timeout(PATIENCE, more).await.context("the runtime is held up after the daemon goes on")??;
    right().await?;
    daemon.stop().await
}
