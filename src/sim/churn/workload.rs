//! What pods do, from their first sandbox to their end.

use std::collections::VecDeque;

/// One thing that a kubelet or a process does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    RunSandbox,
    /// The sandbox is killed and made again with the next attempt.
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
    /// Nothing for so many steps.
    Rest(u32),
}

/// A kind of pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// A server with a proxy beside it.
    Web,
    /// A server with an init container.
    Api,
    /// A cron job: short.
    Backup,
    /// A container that crashes again and again.
    CrashLoop,
    /// A container that the kernel kills for want of memory.
    Cache,
    /// A container whose command is not there, and then is.
    Report,
    /// A pod whose sandbox dies and is made again.
    Gateway,
    /// One of kube-system's, which stays.
    Daemon(&'static str),
}

/// What every node has.
pub(super) const DAEMONS: [Workload; 4] = [
    Workload::Daemon("kube-proxy"),
    Workload::Daemon("coredns"),
    Workload::Daemon("cilium"),
    Workload::Daemon("node-exporter"),
];

// === impl Workload ===

impl Workload {
    /// A kind by chance, the usual ones more often.
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

    /// All that such a pod does.
    pub(super) fn script(self, rng: &mut fastrand::Rng) -> VecDeque<Act> {
        let mut script = vec![Act::RunSandbox];
        match self {
            Self::Web => {
                run(&mut script, "web", 0, "registry.example/shop/web:3.2.1");
                run(&mut script, "envoy", 0, "docker.io/envoyproxy/envoy:v1.31");
                script.extend([Act::Rest(rng.u32(10..60)), Act::Stop("web"), Act::Stop("envoy")]);
            }
            Self::Api => {
                run(&mut script, "migrate", 0, "registry.example/shop/migrate:8");
                script.extend([Act::Rest(2), Act::Exit("migrate", 0)]);
                run(&mut script, "api", 0, "registry.example/shop/api:8.0.4");
                script.extend([Act::Rest(rng.u32(10..60)), Act::Stop("api")]);
            }
            Self::Backup => {
                run(&mut script, "backup", 0, "registry.example/ops/backup:12");
                let exit_code = i32::from(rng.u32(..10) == 0);
                script.extend([Act::Rest(rng.u32(..4)), Act::Exit("backup", exit_code), Act::Rest(2)]);
            }
            Self::CrashLoop => {
                let attempts = rng.u32(3..7);
                for attempt in 0..attempts {
                    run(&mut script, "worker", attempt, "registry.example/worker:nightly");
                    script.push(Act::Exit("worker", if rng.bool() { 1 } else { 2 }));
                    // The kubelet keeps one dead instance.
                    if let Some(before) = attempt.checked_sub(1) {
                        script.push(Act::Remove { name: "worker", attempt: before });
                    }
                    script.push(Act::Rest(2 << attempt));
                }
            }
            Self::Cache => {
                run(&mut script, "redis", 0, "docker.io/library/redis:7.4");
                script.extend([Act::Rest(rng.u32(3..20)), Act::Oom("redis"), Act::Rest(2)]);
                run(&mut script, "redis", 1, "docker.io/library/redis:7.4");
                script.extend([Act::Rest(rng.u32(10..40)), Act::Stop("redis")]);
            }
            Self::Report => {
                let image = "registry.example/batch/report:2";
                script.extend([Act::Create { name: "report", attempt: 0, image }, Act::FailStart("report")]);
                script.push(Act::Rest(3));
                run(&mut script, "report", 1, image);
                script.extend([Act::Rest(3), Act::Exit("report", 0)]);
            }
            Self::Gateway => {
                run(&mut script, "gateway", 0, "registry.example/ingress/gateway:1.9");
                script.extend([Act::Rest(rng.u32(5..30)), Act::SandboxDies, Act::RunSandbox]);
                run(&mut script, "gateway", 1, "registry.example/ingress/gateway:1.9");
                script.extend([Act::Rest(rng.u32(5..30)), Act::Stop("gateway")]);
            }
            Self::Daemon(name) => {
                run(&mut script, name, 0, "registry.k8s.io/system:v1.34");
                return script.into();
            }
        }
        script.extend([Act::StopSandbox, Act::Rest(rng.u32(..3)), Act::RemoveSandbox]);
        script.into()
    }
}

fn run(script: &mut Vec<Act>, name: &'static str, attempt: u32, image: &'static str) {
    script.extend([Act::Create { name, attempt, image }, Act::Start(name)]);
}
