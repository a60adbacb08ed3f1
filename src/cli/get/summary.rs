//! A pod in one row: how kubectl would put it, as far as the runtime knows.
//!
//! The runtime knows containers and sandboxes, and nothing of probes, of back-off or of deletion. So READY counts
//! containers that run, not those whose probe succeeds, and STATUS is one of these, the first that applies:
//!
//! | status | when |
//! | --- | --- |
//! | `NoSandbox` | the pod's sandboxes are gone, and containers are left |
//! | `Unknown` | the runtime could not load a container |
//! | `OOMKilled`, `StartError`, `Error`, … | a container has failed: the runtime's own reason, or `ExitCode:N` where it has none |
//! | `NotReady` | the sandbox is not ready although not all containers have ended, or has none |
//! | `Running` | a container runs |
//! | `Created` | one is made and none runs |
//! | `Completed` | all have ended well |
//! | `Pending` | the sandbox is ready and has no container yet |
//!
//! Only containers of the newest sandbox count, and of several with the same name only the newest.

use std::collections::HashSet;

use crate::{api::v1, client::wall, clock::Wall};

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Containers that run.
    pub(super) running: usize,
    /// All containers.
    pub(super) total: usize,
    /// One word for it all.
    pub(super) status: String,
    /// How often containers were made anew.
    pub(super) restarts: u64,
    /// When the first sandbox that is still there was made.
    pub(super) since: Option<Wall>,
}

pub(super) fn summary(pod: &v1::Pod) -> Summary {
    let containers = current(pod);
    let running = containers.iter().filter(|container| is(container, v1::ContainerState::Running)).count();
    let made = pod.sandboxes.iter().map(|sandbox| &sandbox.created_at);
    let made = made.chain(pod.containers.iter().map(|container| &container.created_at));
    Summary {
        running,
        total: containers.len(),
        status: status(pod, &containers),
        restarts: containers.iter().map(|container| u64::from(container.attempt)).sum(),
        since: made.flatten().map(wall).min(),
    }
}

/// The newest container of each name in the newest sandbox.
pub(in crate::cli) fn current(pod: &v1::Pod) -> Vec<&v1::Container> {
    let newest = pod.sandboxes.first().map(|sandbox| sandbox.id.as_str());
    let mut names = HashSet::new();
    pod.containers
        .iter()
        .filter(|container| newest.is_none_or(|sandbox| container.sandbox_id == sandbox))
        .filter(|container| names.insert(container.name.as_str()))
        .collect()
}

fn status(pod: &v1::Pod, containers: &[&v1::Container]) -> String {
    let any = |state| containers.iter().any(|container| is(container, state));
    let Some(sandbox) = pod.sandboxes.first() else { return "NoSandbox".into() };
    if any(v1::ContainerState::Unknown) {
        return "Unknown".into();
    }
    let ended = containers.iter().filter(|container| is(container, v1::ContainerState::Exited));
    let failed = ended.clone().find(|container| container.exit_code != Some(0));
    if let Some(failed) = failed {
        return why(failed);
    }
    let all_ended = !containers.is_empty() && ended.count() == containers.len();
    let word = match sandbox.state() {
        _ if all_ended => "Completed",
        v1::SandboxState::NotReady => "NotReady",
        _ if any(v1::ContainerState::Running) => "Running",
        _ if any(v1::ContainerState::Created) => "Created",
        _ => "Pending",
    };
    word.into()
}

fn why(failed: &v1::Container) -> String {
    match (failed.reason.as_str(), failed.exit_code) {
        ("", Some(code)) => format!("ExitCode:{code}"),
        ("", None) => "Error".into(),
        (reason, _) => reason.into(),
    }
}

fn is(container: &v1::Container, state: v1::ContainerState) -> bool {
    container.state() == state
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::ContainerState::{Created, Exited, Running, Unknown};

    fn container(name: &str, state: v1::ContainerState, exit: Option<i32>, reason: &str) -> v1::Container {
        v1::Container {
            name: name.into(),
            sandbox_id: "s1".into(),
            state: state.into(),
            exit_code: exit,
            reason: reason.into(),
            ..Default::default()
        }
    }

    fn of(ready: bool, containers: Vec<v1::Container>) -> Summary {
        let state = if ready { v1::SandboxState::Ready } else { v1::SandboxState::NotReady };
        let sandbox = v1::Sandbox { id: "s1".into(), state: state.into(), ..Default::default() };
        summary(&v1::Pod { sandboxes: vec![sandbox], containers, ..Default::default() })
    }

    #[test]
    fn the_status_is_the_first_that_applies() {
        let runs = || container("a", Running, None, "");
        let done = || container("b", Exited, Some(0), "Completed");
        for (ready, containers, status, (running, total)) in [
            (true, vec![runs()], "Running", (1, 1)),
            (true, vec![runs(), done()], "Running", (1, 2)),
            (true, vec![runs(), container("b", Created, None, "")], "Running", (1, 2)),
            (true, vec![container("c", Created, None, ""), done()], "Created", (0, 2)),
            (true, vec![done()], "Completed", (0, 1)),
            (false, vec![done()], "Completed", (0, 1)),
            (true, vec![], "Pending", (0, 0)),
            (false, vec![], "NotReady", (0, 0)),
            (false, vec![runs()], "NotReady", (1, 1)),
            (true, vec![runs(), container("b", Exited, Some(137), "OOMKilled")], "OOMKilled", (1, 2)),
            (false, vec![container("b", Exited, Some(1), "Error"), runs()], "Error", (1, 2)),
            (true, vec![container("b", Exited, Some(3), "")], "ExitCode:3", (0, 1)),
            (true, vec![container("b", Exited, None, "")], "Error", (0, 1)),
            (true, vec![runs(), container("b", Unknown, None, "")], "Unknown", (1, 2)),
        ] {
            let got = of(ready, containers);
            assert_eq!(got.status, status);
            assert_eq!((got.running, got.total), (running, total), "{status}");
        }
        let left = v1::Pod { containers: vec![runs()], ..Default::default() };
        assert_eq!(summary(&left).status, "NoSandbox");
    }

    #[test]
    fn only_the_newest_of_a_name_in_the_newest_sandbox_counts() {
        let newest = v1::Container { attempt: 3, ..container("a", Running, None, "") };
        let failed = v1::Container { attempt: 2, ..container("a", Exited, Some(1), "Error") };
        let elsewhere = v1::Container { sandbox_id: "s0".into(), ..container("b", Exited, Some(1), "Error") };
        let got = of(true, vec![newest, failed, elsewhere]);
        assert_eq!((got.status.as_str(), got.running, got.total, got.restarts), ("Running", 1, 1, 3));
    }
}
