//! A pod in one row, as kubectl shows it, as far as the runtime has the data. The rule is [`crate::pod_summary`].

use crate::{
    client::wall,
    clock::Wall,
    pod_summary::{self, PodSummary},
    v1,
};

/// The fields of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary<'a> {
    /// The pod's state.
    pub(super) state: PodSummary<'a>,
    /// The creation time of its oldest existing sandbox.
    pub(super) since: Option<Wall>,
}

pub(super) fn summary(pod: &v1::Pod) -> Summary<'_> {
    // The oldest sandbox is the last one. Some runtimes set no time, or zero.
    let sandboxes = pod.sandboxes.iter().rev().map(|sandbox| &sandbox.created_at);
    let created = sandboxes.chain(pod.containers.iter().rev().map(|container| &container.created_at));
    let since = created.flatten().map(wall).find(|&created| created > Wall::default());
    Summary { state: PodSummary::from(pod), since }
}

/// The newest container of each name in the newest sandbox.
pub(in crate::cli) fn current(pod: &v1::Pod) -> Vec<&v1::Container> {
    let newest = pod.sandboxes.first().map(|sandbox| sandbox.id.as_str());
    pod_summary::current(newest, pod.containers.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_first_sandbox_even_if_a_container_is_older() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let sandbox = |created_at| v1::Sandbox { created_at, ..Default::default() };
        let container = v1::Container { created_at: at(5), ..Default::default() };
        let mut pod = v1::Pod {
            sandboxes: vec![sandbox(at(20)), sandbox(at(30))],
            containers: vec![container],
            ..Default::default()
        };
        assert_eq!(summary(&pod).since, at(30).as_ref().map(wall));
        pod.sandboxes = vec![sandbox(at(20)), sandbox(at(0)), sandbox(None)];
        assert_eq!(summary(&pod).since, at(20).as_ref().map(wall));
        pod.sandboxes.clear();
        assert_eq!(summary(&pod).since, at(5).as_ref().map(wall));
    }
}
