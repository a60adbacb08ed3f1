//! A summary of a pod by its runtime state. The command line and the web page both use it.
//!
//! CRI shows sandboxes and containers with their states. It does not show the pod's specification: init containers,
//! containers that were not created yet, or the restart policy. It does not know probes, back-off or deletion either,
//! so a pod is never called ready here: a ready sandbox has a network, and no more.
//!
//! Only containers of the newest sandbox count, and of several with one name only the newest. The order in which
//! plegd serves them decides which one is the newest, never a wall-clock time. The first line that applies decides:
//!
//! | status | activity | when |
//! | --- | --- | --- |
//! | `NoSandbox` | waiting | the pod's sandboxes are gone, and containers are left |
//! | `Unknown` | failing | the runtime could not load a container, or does not give its exit code |
//! | `OOMKilled`, `Error`, … | failing | a container failed: the runtime's reason, or `ExitCode:N` without one |
//! | `Running` | running | the sandbox is ready, and a container runs |
//! | `Created` | waiting | the sandbox is ready, a container was created, and none runs |
//! | `Pending` | waiting | the sandbox is ready, and has no container yet |
//! | `Waiting` | waiting | the sandbox is ready, and all containers so far have finished: another one may follow |
//! | `NotReady` | failing | the sandbox is not ready, and a container has not ended |
//! | `NotReady` | waiting | the sandbox is not ready, and never had a container |
//! | `Terminated` | completed | the sandbox is not ready, all have ended, and SIGTERM (143) ended one of them |
//! | `Completed` | completed | the sandbox is not ready, and all have finished |
//!
//! A container has *finished* if it ended with exit code 0. It *failed* if it ended with another one; 143 (SIGTERM)
//! counts as a failure only while the sandbox is ready, because the containers of a pod that is being deleted end so.
//! Finished containers do not count among the expected ones while another container runs or was created. So `1/1` is
//! shown for a pod whose init container has finished, and also for one whose second container has finished for good:
//! CRI does not show the difference.

use std::{borrow::Cow, collections::HashSet};

use crate::{
    model::{ContainerState, ContainerStatus, Pod, SandboxState},
    v1,
};

/// Exit code of a process that SIGTERM ended.
const SIGTERM: i32 = 143;

/// The activity of a pod, for headlines and colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// A container runs, and none has failed.
    Running,
    /// A container has failed, or the sandbox has.
    Failing,
    /// All containers have ended, and so has the sandbox.
    Completed,
    /// Neither: a container has still to start, as far as the runtime shows.
    Waiting,
}

/// The summary of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodSummary<'a> {
    /// Its activity.
    pub(crate) activity: Activity,
    /// Its status: a word of the table above, or the runtime's reason.
    pub(crate) status: Cow<'a, str>,
    /// Running containers.
    pub(crate) running: usize,
    /// Containers expected to run, as far as they are known.
    pub(crate) expected: usize,
    /// How often containers were created again.
    pub(crate) restarts: u64,
}

/// The container fields that the rule needs, in the model and in the API.
pub(crate) trait Container {
    /// Id of its sandbox.
    fn sandbox_id(&self) -> &str;
    /// Its name within the pod.
    fn name(&self) -> &str;
    /// Number of earlier containers of this name.
    fn attempt(&self) -> u32;
    /// Its state.
    fn state(&self) -> ContainerState;
    /// Its exit code, if it has ended and the code is known.
    fn exit_code(&self) -> Option<i32>;
    /// The runtime's reason for its state.
    fn reason(&self) -> &str;
}

/// The newest container of each name in the newest sandbox. `containers` come in the order in which plegd serves them; without
/// a sandbox, those of all sandboxes count.
pub(crate) fn current<'a, C: Container + 'a>(
    newest_sandbox: Option<&str>,
    containers: impl Iterator<Item = &'a C>,
) -> Vec<&'a C> {
    let mut names = HashSet::new();
    containers
        .filter(|container| newest_sandbox.is_none_or(|sandbox| container.sandbox_id() == sandbox))
        .filter(|container| names.insert(container.name()))
        .collect()
}

// === impl PodSummary ===

impl<'a> PodSummary<'a> {
    /// The summary of a pod with this newest sandbox and these [`current`] containers.
    pub(crate) fn of<C: Container>(sandbox: Option<SandboxState>, current: &[&'a C]) -> Self {
        let (activity, status) = classify(sandbox, current);
        let count = |is: fn(&C) -> bool| current.iter().filter(|container| is(container)).count();
        let begun = |it: &C| matches!(it.state(), ContainerState::Running | ContainerState::Created);
        let finished = if current.iter().any(|container| begun(container)) { count(has_finished) } else { 0 };
        Self {
            activity,
            status,
            running: count(|container| container.state() == ContainerState::Running),
            expected: current.len() - finished,
            restarts: current.iter().map(|container| u64::from(container.attempt())).sum(),
        }
    }
}

impl<'a> From<&'a Pod> for PodSummary<'a> {
    fn from(pod: &'a Pod) -> Self {
        let sandbox = pod.sandbox();
        let containers = pod.containers.iter().map(AsRef::as_ref);
        let current: Vec<&ContainerStatus> = current(sandbox.map(|sandbox| sandbox.id.as_str()), containers);
        Self::of(sandbox.map(|sandbox| sandbox.state), &current)
    }
}

impl<'a> From<&'a v1::Pod> for PodSummary<'a> {
    fn from(pod: &'a v1::Pod) -> Self {
        let sandbox = pod.sandboxes.first();
        let current = current(sandbox.map(|sandbox| sandbox.id.as_str()), pod.containers.iter());
        let state = sandbox.map(|sandbox| match sandbox.state() {
            v1::SandboxState::Ready => SandboxState::Ready,
            v1::SandboxState::NotReady | v1::SandboxState::Unspecified => SandboxState::NotReady,
        });
        Self::of(state, &current)
    }
}

fn classify<'a, C: Container>(
    sandbox: Option<SandboxState>,
    containers: &[&'a C],
) -> (Activity, Cow<'a, str>) {
    let any = |state| containers.iter().any(|container| container.state() == state);
    let Some(sandbox) = sandbox else { return (Activity::Waiting, "NoSandbox".into()) };
    if any(ContainerState::Unknown) || containers.iter().any(|it| has_ended(*it) && it.exit_code().is_none())
    {
        return (Activity::Failing, "Unknown".into());
    }
    if let Some(failed) = containers.iter().find(|container| has_failed(**container, sandbox)) {
        return (Activity::Failing, failure_reason(*failed));
    }
    let all_ended = containers.iter().all(|container| has_ended(*container));
    let (activity, word) = match sandbox {
        SandboxState::Ready if any(ContainerState::Running) => (Activity::Running, "Running"),
        SandboxState::Ready if any(ContainerState::Created) => (Activity::Waiting, "Created"),
        SandboxState::Ready if containers.is_empty() => (Activity::Waiting, "Pending"),
        SandboxState::Ready => (Activity::Waiting, "Waiting"),
        SandboxState::NotReady if !all_ended => (Activity::Failing, "NotReady"),
        SandboxState::NotReady if containers.is_empty() => (Activity::Waiting, "NotReady"),
        SandboxState::NotReady if containers.iter().all(|container| has_finished(*container)) => {
            (Activity::Completed, "Completed")
        }
        SandboxState::NotReady => (Activity::Completed, "Terminated"),
    };
    (activity, word.into())
}

fn has_ended(container: &impl Container) -> bool {
    container.state() == ContainerState::Exited
}

fn has_finished(container: &impl Container) -> bool {
    has_ended(container) && container.exit_code() == Some(0)
}

fn has_failed(container: &impl Container, sandbox: SandboxState) -> bool {
    let ended_by_deletion = sandbox == SandboxState::NotReady && container.exit_code() == Some(SIGTERM);
    has_ended(container) && !has_finished(container) && !ended_by_deletion
}

fn failure_reason<'a>(failed: &'a impl Container) -> Cow<'a, str> {
    match (failed.reason(), failed.exit_code()) {
        ("", Some(code)) => format!("ExitCode:{code}").into(),
        (reason, _) => reason.into(),
    }
}

// === impl Activity ===

impl Activity {
    /// `running`, `failing`, `completed` or `waiting`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Activity::Running => "running",
            Activity::Failing => "failing",
            Activity::Completed => "completed",
            Activity::Waiting => "waiting",
        }
    }
}

// === impl Container ===

impl Container for ContainerStatus {
    fn sandbox_id(&self) -> &str {
        self.sandbox_id.as_str()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn state(&self) -> ContainerState {
        self.state
    }

    fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    fn reason(&self) -> &str {
        &self.reason
    }
}

impl Container for v1::Container {
    fn sandbox_id(&self) -> &str {
        &self.sandbox_id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn state(&self) -> ContainerState {
        match self.state() {
            v1::ContainerState::Created => ContainerState::Created,
            v1::ContainerState::Running => ContainerState::Running,
            v1::ContainerState::Exited => ContainerState::Exited,
            v1::ContainerState::Unknown | v1::ContainerState::Unspecified => ContainerState::Unknown,
        }
    }

    fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Activity::{Completed, Failing, Running, Waiting};

    /// A container as a row of a test: name, state, exit code, reason.
    type Row = (&'static str, v1::ContainerState, Option<i32>, &'static str);

    /// Sandbox readiness and containers; expected activity, status, and (running, expected) counts.
    type Case = (bool, &'static [Row], Activity, &'static str, (usize, usize));

    const RUNS: Row = ("app", v1::ContainerState::Running, None, "");
    const CREATED: Row = ("app", v1::ContainerState::Created, None, "");
    const DONE: Row = ("init", v1::ContainerState::Exited, Some(0), "Completed");
    const OOM: Row = ("job", v1::ContainerState::Exited, Some(137), "OOMKilled");
    const TERM: Row = ("web", v1::ContainerState::Exited, Some(143), "Error");
    const LOST: Row = ("db", v1::ContainerState::Unknown, None, "");
    const NO_CODE: Row = ("cache", v1::ContainerState::Exited, None, "");

    fn container((name, state, exit_code, reason): Row) -> v1::Container {
        v1::Container {
            name: name.into(),
            sandbox_id: "s1".into(),
            state: state.into(),
            exit_code,
            reason: reason.into(),
            ..Default::default()
        }
    }

    fn pod(ready: bool, containers: Vec<v1::Container>) -> v1::Pod {
        let state = if ready { v1::SandboxState::Ready } else { v1::SandboxState::NotReady };
        let sandbox = v1::Sandbox { id: "s1".into(), state: state.into(), ..Default::default() };
        v1::Pod { sandboxes: vec![sandbox], containers, ..Default::default() }
    }

    #[test]
    fn the_first_status_that_applies_is_shown() {
        let rows: [Case; 23] = [
            (true, &[RUNS], Running, "Running", (1, 1)),
            (true, &[RUNS, DONE], Running, "Running", (1, 1)),
            (true, &[RUNS, ("b", v1::ContainerState::Created, None, "")], Running, "Running", (1, 2)),
            (true, &[CREATED, DONE], Waiting, "Created", (0, 1)),
            (true, &[], Waiting, "Pending", (0, 0)),
            // The init container has finished; its sibling was not created yet.
            (true, &[DONE], Waiting, "Waiting", (0, 1)),
            (false, &[DONE], Completed, "Completed", (0, 1)),
            (false, &[], Waiting, "NotReady", (0, 0)),
            (false, &[RUNS], Failing, "NotReady", (1, 1)),
            (false, &[CREATED, DONE], Failing, "NotReady", (0, 1)),
            (true, &[RUNS, OOM], Failing, "OOMKilled", (1, 2)),
            (true, &[RUNS, OOM, DONE], Failing, "OOMKilled", (1, 2)),
            (false, &[OOM], Failing, "OOMKilled", (0, 1)),
            (true, &[("b", v1::ContainerState::Exited, Some(3), "")], Failing, "ExitCode:3", (0, 1)),
            // SIGTERM by a liveness probe, or by the pod's deletion; only the latter also ends the sandbox.
            (true, &[TERM], Failing, "Error", (0, 1)),
            (true, &[RUNS, TERM], Failing, "Error", (1, 2)),
            (false, &[TERM], Completed, "Terminated", (0, 1)),
            (false, &[TERM, DONE], Completed, "Terminated", (0, 2)),
            (false, &[TERM, OOM], Failing, "OOMKilled", (0, 2)),
            (true, &[RUNS, LOST], Failing, "Unknown", (1, 2)),
            (true, &[OOM, LOST], Failing, "Unknown", (0, 2)),
            (true, &[RUNS, NO_CODE], Failing, "Unknown", (1, 2)),
            (false, &[NO_CODE], Failing, "Unknown", (0, 1)),
        ];
        for (ready, containers, activity, status, counts) in rows {
            let pod = pod(ready, containers.iter().copied().map(container).collect());
            let got = PodSummary::from(&pod);
            assert_eq!((got.activity, &*got.status), (activity, status), "{ready} {containers:?}");
            assert_eq!((got.running, got.expected), counts, "{ready} {containers:?}");
        }
        let left = v1::Pod { containers: vec![container(RUNS)], ..Default::default() };
        assert_eq!(
            (PodSummary::from(&left).activity, &*PodSummary::from(&left).status),
            (Waiting, "NoSandbox")
        );
    }

    #[test]
    fn only_the_newest_container_of_a_name_in_the_newest_sandbox_counts() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let newest = v1::Container { attempt: 3, created_at: at(1), ..container(RUNS) };
        let failed = v1::Container {
            attempt: 2,
            created_at: at(9_999),
            ..container(("app", v1::ContainerState::Exited, Some(1), "Error"))
        };
        let elsewhere = v1::Container { sandbox_id: "s0".into(), ..container(OOM) };
        let pod = pod(true, vec![newest, failed, elsewhere]);
        let got = PodSummary::from(&pod);
        assert_eq!((&*got.status, got.running, got.expected, got.restarts), ("Running", 1, 1, 3));
    }
}
