//! The actions of each kind of pod, from its first sandbox to its removal.

use std::collections::VecDeque;

/// One action of a kubelet or a process.
#[derive(Clone, Debug)]
pub(super) enum Action {
    RunSandbox,
    /// The sandbox is killed and created again with the next attempt.
    SandboxDies,
    StopSandbox,
    RemoveSandbox,
    Create {
        name: &'static str,
        attempt: u32,
        image: &'static str,
    },
    Start(&'static str),
    FailStart(&'static str),
    Exit(&'static str, i32),
    Oom(&'static str),
    Stop(&'static str),
    Remove {
        name: &'static str,
        attempt: u32,
    },
    /// No action for this many steps.
    Rest(u32),
}

/// A kind of pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// A server with a proxy beside it.
    Web,
    /// A server with an init container.
    Api,
    /// A cron job: a short-lived container.
    Backup,
    /// A container that crashes repeatedly.
    CrashLoop,
    /// A container that is OOM-killed.
    Cache,
    /// A container whose command is missing at first.
    Report,
    /// A pod whose sandbox dies and is created again.
    Gateway,
    /// A DaemonSet pod of `kube-system`, which stays.
    Daemon(&'static str),
}

/// The DaemonSet pods of every node.
pub(super) const DAEMONS: [Workload; 4] = [
    Workload::Daemon("kube-proxy"),
    Workload::Daemon("coredns"),
    Workload::Daemon("cilium"),
    Workload::Daemon("node-exporter"),
];

// === impl Workload ===

impl Workload {
    /// A random kind, common ones more often.
    pub(super) fn any(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..20) {
            0..6 => Self::Web,
            6..9 => Self::Api,
            9..15 => Self::Backup,
            15..17 => Self::CrashLoop,
            17 => Self::Cache,
            18 => Self::Report,
            _ => Self::Gateway,
        }
    }

    /// The name of its Deployment, CronJob or DaemonSet.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Api => "api",
            Self::Backup => "backup",
            Self::CrashLoop => "worker",
            Self::Cache => "cache",
            Self::Report => "report",
            Self::Gateway => "gateway",
            Self::Daemon(name) => name,
        }
    }

    pub(super) fn namespace(self) -> &'static str {
        match self {
            Self::Web | Self::Api | Self::Cache => "shop",
            Self::Backup | Self::Report => "batch",
            Self::Gateway => "ingress",
            Self::CrashLoop => "default",
            Self::Daemon(_) => "kube-system",
        }
    }

    /// All actions of such a pod.
    pub(super) fn script(self, rng: &mut fastrand::Rng) -> VecDeque<Action> {
        let mut script = vec![Action::RunSandbox];
        match self {
            Self::Web => {
                run(&mut script, "web", 0, "registry.example/shop/web:3.2.1");
                run(&mut script, "envoy", 0, "docker.io/envoyproxy/envoy:v1.31");
                script.extend([Action::Rest(rng.u32(10..60)), Action::Stop("web"), Action::Stop("envoy")]);
            }
            Self::Api => {
                run(&mut script, "migrate", 0, "registry.example/shop/migrate:8");
                script.extend([Action::Rest(2), Action::Exit("migrate", 0)]);
                run(&mut script, "api", 0, "registry.example/shop/api:8.0.4");
                script.extend([Action::Rest(rng.u32(10..60)), Action::Stop("api")]);
            }
            Self::Backup => {
                run(&mut script, "backup", 0, "registry.example/ops/backup:12");
                let exit_code = i32::from(rng.u32(..10) == 0);
                script.extend([
                    Action::Rest(rng.u32(..4)),
                    Action::Exit("backup", exit_code),
                    Action::Rest(2),
                ]);
            }
            Self::CrashLoop => {
                let attempts = rng.u32(3..7);
                for attempt in 0..attempts {
                    run(&mut script, "worker", attempt, "registry.example/worker:nightly");
                    script.push(Action::Exit("worker", if rng.bool() { 1 } else { 2 }));
                    // The kubelet keeps one dead instance.
                    if let Some(before) = attempt.checked_sub(1) {
                        script.push(Action::Remove { name: "worker", attempt: before });
                    }
                    script.push(Action::Rest(2 << attempt));
                }
            }
            Self::Cache => {
                run(&mut script, "redis", 0, "docker.io/library/redis:7.4");
                script.extend([Action::Rest(rng.u32(3..20)), Action::Oom("redis"), Action::Rest(2)]);
                run(&mut script, "redis", 1, "docker.io/library/redis:7.4");
                script.extend([Action::Rest(rng.u32(10..40)), Action::Stop("redis")]);
            }
            Self::Report => {
                let image = "registry.example/batch/report:2";
                script.extend([
                    Action::Create { name: "report", attempt: 0, image },
                    Action::FailStart("report"),
                ]);
                script.push(Action::Rest(3));
                run(&mut script, "report", 1, image);
                script.extend([Action::Rest(3), Action::Exit("report", 0)]);
            }
            Self::Gateway => {
                run(&mut script, "gateway", 0, "registry.example/ingress/gateway:1.9");
                script.extend([Action::Rest(rng.u32(5..30)), Action::SandboxDies, Action::RunSandbox]);
                run(&mut script, "gateway", 1, "registry.example/ingress/gateway:1.9");
                script.extend([Action::Rest(rng.u32(5..30)), Action::Stop("gateway")]);
            }
            Self::Daemon(name) => {
                run(&mut script, name, 0, "registry.k8s.io/system:v1.34");
                return script.into();
            }
        }
        script.extend([Action::StopSandbox, Action::Rest(rng.u32(..3)), Action::RemoveSandbox]);
        script.into()
    }
}

fn run(script: &mut Vec<Action>, name: &'static str, attempt: u32, image: &'static str) {
    script.extend([Action::Create { name, attempt, image }, Action::Start(name)]);
}
