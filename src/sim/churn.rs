//! A workload that creates and removes pods as on a node, from a seed.
//!
//! Owns the pods it has created and their next steps. One step is one action of a kubelet or a process. A test takes
//! the steps itself; for `plegd demo`, [`Churn::run`] takes them at a given interval.

mod workload;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    SimRuntime,
    truth::{ContainerSpec, Refused, SandboxSpec, Truth},
};
use workload::{Action, DAEMONS, Workload};

/// The letters of generated names in Kubernetes: no vowels, so that no words appear.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A workload that creates and removes pods.
#[derive(Debug)]
pub struct Churn {
    /// Approximate number of pods at a time, without the DaemonSet pods.
    pods_at_a_time: usize,
    daemons: usize,
    pods: Vec<Pod>,
    jobs: u32,
}

/// A pod and the actions left.
#[derive(Debug)]
struct Pod {
    spec: SandboxSpec,
    sandbox: Option<String>,
    containers: BTreeMap<(&'static str, u32), String>,
    script: VecDeque<Action>,
}

// === impl Churn ===

impl Churn {
    /// Approximately this many pods at a time, and the DaemonSet pods of `kube-system`, which stay.
    pub fn new(pods_at_a_time: usize) -> Self {
        Self { pods_at_a_time, daemons: 0, pods: Vec::new(), jobs: 0 }
    }

    /// Creates a pod, or takes the next action of an existing pod. Does nothing while the runtime is down.
    pub fn step(&mut self, rng: &mut fastrand::Rng, truth: &mut Truth) {
        if truth.is_down() {
            return;
        }
        if let Some(daemon) = DAEMONS.get(self.daemons) {
            self.daemons += 1;
            self.add(rng, *daemon);
        }
        let busy: Vec<_> =
            (0..self.pods.len()).filter(|index| !self.pods[*index].script.is_empty()).collect();
        let add_pod = busy.len() < self.pods_at_a_time && rng.u32(..4) == 0;
        let index = match rng.choice(busy) {
            Some(index) if !add_pod => index,
            _ => {
                let workload = Workload::any(rng);
                self.add(rng, workload)
            }
        };
        if let Some(pod) = self.pods.get_mut(index) {
            // A refusal means that something else changed this pod; it continues with its next action.
            let _ = pod.next(truth);
            if pod.script.is_empty() && pod.sandbox.is_none() {
                self.pods.swap_remove(index);
            }
        }
    }

    /// Takes one step per `interval` on average, without end. Where a life-cycle call would block, it waits like a
    /// kubelet.
    pub async fn run(mut self, runtime: SimRuntime, seed: u64, interval: Duration) {
        let mut rng = fastrand::Rng::with_seed(seed);
        loop {
            runtime.change_and_wait(|truth| self.step(&mut rng, truth)).await;
            tokio::time::sleep(interval.mul_f64(0.5 + rng.f64())).await;
        }
    }

    fn add(&mut self, rng: &mut fastrand::Rng, workload: Workload) -> usize {
        let name = match workload {
            Workload::Backup => {
                self.jobs += 1;
                format!("backup-{}-{}", 29_000_000 + self.jobs, letters(rng, 5))
            }
            Workload::Daemon(name) => format!("{name}-{}", letters(rng, 5)),
            other => format!("{}-{}-{}", other.name(), letters(rng, 10), letters(rng, 5)),
        };
        let mut spec = SandboxSpec::of_pod(workload.namespace(), &name, &uuid(rng));
        spec.labels.insert("app.kubernetes.io/name".to_owned(), workload.name().to_owned());
        spec.host_network = matches!(workload, Workload::Daemon("kube-proxy" | "node-exporter"));
        self.pods.push(Pod {
            spec,
            sandbox: None,
            containers: BTreeMap::new(),
            script: workload.script(rng),
        });
        self.pods.len() - 1
    }
}

/// Creates pods with this many running containers each, like a node at rest.
pub fn populate(truth: &mut Truth, seed: u64, pods: usize, containers_per_pod: usize) -> Result<(), Refused> {
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..pods {
        let name = format!("web-{}-{}", letters(&mut rng, 10), letters(&mut rng, 5));
        let pod = SandboxSpec::of_pod("default", &name, &uuid(&mut rng));
        let sandbox = truth.run_sandbox(pod.clone())?;
        for n in 0..containers_per_pod {
            let spec = ContainerSpec::of_pod(&pod, &format!("c{n}"), 0, "registry.example/web:1.4");
            let id = truth.create_container(&sandbox, spec)?;
            truth.start_container(&id)?;
        }
    }
    Ok(())
}

// === impl Pod ===

impl Pod {
    /// Takes the next action of the script.
    fn next(&mut self, truth: &mut Truth) -> Result<(), Refused> {
        match self.script.pop_front() {
            None => Ok(()),
            Some(Action::Rest(0)) => self.next(truth),
            Some(Action::Rest(steps)) => {
                self.script.push_front(Action::Rest(steps - 1));
                Ok(())
            }
            Some(Action::RunSandbox) => {
                self.sandbox = Some(truth.run_sandbox(self.spec.clone())?);
                Ok(())
            }
            Some(Action::SandboxDies) => {
                if let Some(old) = self.sandbox.take() {
                    truth.sandbox_died(&old);
                    truth.stop_sandbox(&old)?;
                    truth.remove_sandbox(&old)?;
                }
                self.containers.clear();
                self.spec.attempt += 1;
                Ok(())
            }
            Some(Action::StopSandbox) => self.sandbox.as_deref().map_or(Ok(()), |id| truth.stop_sandbox(id)),
            Some(Action::RemoveSandbox) => {
                self.containers.clear();
                self.sandbox.take().map_or(Ok(()), |id| truth.remove_sandbox(&id))
            }
            Some(Action::Create { name, attempt, image }) => {
                let Some(sandbox) = &self.sandbox else { return Ok(()) };
                let spec = ContainerSpec::of_pod(&self.spec, name, attempt, image);
                let id = truth.create_container(sandbox, spec)?;
                self.containers.insert((name, attempt), id);
                Ok(())
            }
            Some(Action::Start(name)) => self.latest(name).map_or(Ok(()), |id| truth.start_container(id)),
            Some(Action::FailStart(name)) => self.latest(name).map_or(Ok(()), |id| {
                truth.fail_start(id, "exec: \"/bin/report\": stat /bin/report: no such file or directory")
            }),
            Some(Action::Exit(name, code)) => self.latest(name).map_or(Ok(()), |id| truth.exit(id, code)),
            Some(Action::Oom(name)) => self.latest(name).map_or(Ok(()), |id| truth.oom(id)),
            Some(Action::Stop(name)) => {
                self.latest(name).map_or(Ok(()), |id| truth.stop_container(id, Duration::from_secs(30)))
            }
            Some(Action::Remove { name, attempt }) => {
                self.containers.remove(&(name, attempt)).map_or(Ok(()), |id| truth.remove_container(&id))
            }
        }
    }

    fn latest(&self, name: &'static str) -> Option<&str> {
        self.containers.range((name, 0)..=(name, u32::MAX)).next_back().map(|(_, id)| id.as_str())
    }
}

fn letters(rng: &mut fastrand::Rng, count: usize) -> String {
    (0..count).map(|_| char::from(LETTERS[rng.usize(..LETTERS.len())])).collect()
}

fn uuid(rng: &mut fastrand::Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        clock::{Clock, Wall},
        sim::{
            Profile,
            truth::{ChangeKind, Subject},
        },
    };

    async fn history(seed: u64, steps: usize) -> Vec<String> {
        let (clock, _) = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000));
        let mut truth = Truth::new(Profile::CONTAINERD_2_1, clock, seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut churn = Churn::new(10);
        for _ in 0..steps {
            tokio::time::advance(Duration::from_millis(20)).await;
            truth.settle();
            churn.step(&mut rng, &mut truth);
            truth.take_signals();
        }
        truth.history().iter().map(|change| format!("{change:?}")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_gives_the_same_history() {
        assert_eq!(history(7, 2000).await, history(7, 2000).await);
        assert_ne!(history(7, 2000).await, history(8, 2000).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_workload_covers_all_exit_reasons() {
        let (clock, _) = Clock::simulated(Wall::from_nanos(1_800_000_000_000_000_000));
        let mut truth = Truth::new(Profile::CONTAINERD_2_1, clock, 1);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut churn = Churn::new(15);
        let mut most = 0;
        for _ in 0..5000 {
            tokio::time::advance(Duration::from_millis(20)).await;
            truth.settle();
            churn.step(&mut rng, &mut truth);
            most = most.max(truth.view().sandboxes.len());
        }
        let reasons: BTreeSet<_> = truth
            .history()
            .iter()
            .filter_map(|change| match &change.kind {
                ChangeKind::Died { reason, .. } | ChangeKind::ReasonChanged { reason }
                    if change.subject == Subject::Container =>
                {
                    Some(reason.as_str())
                }
                _ => None,
            })
            .collect();
        assert_eq!(reasons, BTreeSet::from(["Completed", "Error", "OOMKilled", "StartError"]));
        assert!(truth.view().sandboxes.values().any(|sandbox| sandbox.spec.namespace == "kube-system"));
        assert!((15..60).contains(&most), "{most} pods at a time");
    }
}
