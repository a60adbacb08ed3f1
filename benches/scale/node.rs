//! A simulated runtime on a UNIX socket of this process, with pods as a kubelet creates them.
//!
//! With real weights, list items are as large as on a real node: eight labels and ten annotations per container.

use std::collections::BTreeMap;

use anyhow::Result;
use plegd::{
    clock::Clock,
    sim::{
        Dose, EventFault, Method, Profile, SimRuntime, Truth,
        serve::SocketHandle,
        truth::{ContainerSpec, Refused, SandboxSpec},
    },
};

/// The runtime and its pods.
pub(crate) struct Node {
    pub(crate) sim: SimRuntime,
    pub(crate) pods: Vec<Pod>,
    served: SocketHandle,
    _directory: tempfile::TempDir,
    weight: Weight,
    /// The next pod to change.
    next: usize,
}

/// A pod.
pub(crate) struct Pod {
    pub(crate) spec: SandboxSpec,
    pub(crate) sandbox: String,
    /// The newest container of each name.
    pub(crate) containers: Vec<String>,
    attempts: u32,
}

/// The size of labels and annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// The kubelet's labels only.
    Light,
    /// As on a real node.
    Real,
}

/// How the runtime lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    /// In one message each.
    Unary,
    /// In messages of 5,000 items.
    Streamed,
}

// === impl Node ===

impl Node {
    /// A node with running pods; creating them caused no events.
    pub(crate) fn start(
        clock: &Clock,
        lists: Lists,
        weight: Weight,
        pods: usize,
        containers: usize,
    ) -> Result<Self> {
        let sim = SimRuntime::new(lists.profile(), clock.clone(), 1);
        sim.faults().events(EventFault::Drop, Dose::Always);
        let mut rng = fastrand::Rng::with_seed(1);
        let created = (0..pods).map(|n| {
            let spec = weight.pod(n, &mut rng);
            act(&sim, |truth| {
                let sandbox = truth.run_sandbox(spec.clone())?;
                let ids = (0..containers).map(|n| run(truth, &sandbox, weight.container(&spec, n, 0)));
                Ok(Pod { containers: ids.collect::<Result<_, _>>()?, spec, sandbox, attempts: 0 })
            })
        });
        let pods = created.collect::<Result<_>>()?;
        sim.faults().clear();
        let directory = tempfile::tempdir()?;
        let served = sim.serve_uds(directory.path().join("cri.sock"))?;
        Ok(Self { sim, pods, served, _directory: directory, weight, next: 0 })
    }

    pub(crate) fn endpoint(&self) -> String {
        self.served.path().display().to_string()
    }

    /// From now on no events are sent.
    pub(crate) fn silence(&self) {
        self.sim.faults().events(EventFault::Drop, Dose::Always);
    }

    /// How often this method was called.
    pub(crate) fn calls(&self, method: Method) -> u64 {
        self.sim.calls().get(&method).copied().unwrap_or(0)
    }

    /// Removes and creates again the first container of this many pods, one pod after the other.
    pub(crate) fn replace(&mut self, pods: usize) -> Result<()> {
        for _ in 0..pods {
            let at = self.next % self.pods.len();
            self.next += 1;
            let pod = &mut self.pods[at];
            pod.attempts += 1;
            let spec = self.weight.container(&pod.spec, 0, pod.attempts);
            pod.containers[0] = act(&self.sim, |truth| {
                truth.remove_container(&pod.containers[0])?;
                run(truth, &pod.sandbox, spec)
            })?;
        }
        Ok(())
    }
}

/// Changes the truth; fails if the runtime refuses.
pub(crate) fn act<R>(sim: &SimRuntime, change: impl FnOnce(&mut Truth) -> Result<R, Refused>) -> Result<R> {
    sim.change(change).map_err(|refused| anyhow::anyhow!("the simulated runtime refused: {refused:?}"))
}

fn run(truth: &mut Truth, sandbox: &str, spec: ContainerSpec) -> Result<String, Refused> {
    let id = truth.create_container(sandbox, spec)?;
    truth.start_container(&id)?;
    Ok(id)
}

// === impl Lists ===

impl Lists {
    fn profile(self) -> Profile {
        match self {
            Self::Unary => Profile::CONTAINERD_2_1,
            Self::Streamed => Profile::CONTAINERD_2_4,
        }
    }

    /// The calls that list sandboxes and containers.
    pub(crate) fn methods(self) -> [Method; 2] {
        match self {
            Self::Unary => [Method::ListPodSandbox, Method::ListContainers],
            Self::Streamed => [Method::StreamPodSandboxes, Method::StreamContainers],
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Streamed => "streamed",
        }
    }
}

// === impl Weight ===

impl Weight {
    fn pod(self, n: usize, rng: &mut fastrand::Rng) -> SandboxSpec {
        let uid = format!("{:08x}-4a1b-4c2d-8e3f-{:012x}", rng.u32(..), rng.u64(..) >> 16);
        let name = format!("checkout-service-{:010x}-{n:05}", rng.u64(..) >> 24);
        let mut spec = SandboxSpec::of_pod("shop-production", &name, &uid);
        if self == Self::Real {
            extend(&mut spec.labels, &app_labels(n));
            extend(
                &mut spec.annotations,
                &[
                    ("kubernetes.io/config.seen", "2026-11-20T09:41:17.204118337Z"),
                    ("kubernetes.io/config.source", "api"),
                    ("prometheus.io/scrape", "true"),
                    ("prometheus.io/port", "9102"),
                ]
                .map(owned),
            );
        }
        spec
    }

    fn container(self, pod: &SandboxSpec, n: usize, attempt: u32) -> ContainerSpec {
        let image = "registry.example.com/shop/checkout-service:2026.11.3-b41f";
        let mut spec = ContainerSpec::of_pod(pod, &format!("container-{n}"), attempt, image);
        if self == Self::Real {
            extend(&mut spec.labels, &app_labels(n));
            extend(
                &mut spec.annotations,
                &[
                    ("io.kubernetes.container.hash", "8c4d21fa"),
                    (
                        "io.kubernetes.container.ports",
                        r#"[{"name":"http","containerPort":8080,"protocol":"TCP"}]"#,
                    ),
                    ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
                    ("io.kubernetes.container.terminationMessagePolicy", "File"),
                    ("io.kubernetes.pod.terminationGracePeriod", "30"),
                    ("io.kubernetes.container.preStopHandler", r#"{"exec":{"command":["/bin/sleep","5"]}}"#),
                    ("prometheus.io/scrape", "true"),
                    ("prometheus.io/port", "9102"),
                    ("checksum/config", "5f0a4d8b9c7e3a1206f4"),
                ]
                .map(owned),
            );
        }
        spec
    }
}

/// The labels that a Helm chart sets on its pods.
fn app_labels(n: usize) -> [(String, String); 4] {
    [
        owned(("app.kubernetes.io/name", "checkout-service")),
        ("app.kubernetes.io/instance".to_owned(), format!("checkout-service-{}", n % 40)),
        owned(("app.kubernetes.io/part-of", "shop")),
        owned(("pod-template-hash", "6b7f9c5d48")),
    ]
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn extend(map: &mut BTreeMap<String, String>, entries: &[(String, String)]) {
    map.extend(entries.iter().cloned());
}
