//! Pods as somebody knows them, held against the truth of a simulated runtime, field by field.

use plegd::{
    api::v1,
    client::wall,
    clock::Wall,
    sim::{
        SimRuntime,
        truth::{Container, ContainerState, SandboxSpec},
    },
};

/// How pods differ from those of the truth that are of concern.
pub fn differences_of(
    served: &[v1::Pod],
    sim: &SimRuntime,
    concerns: impl Fn(&SandboxSpec) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    sim.read(|truth| {
        let view = truth.view();
        let mut ids: Vec<&str> = Vec::new();
        for (id, sandbox) in view.sandboxes.iter().filter(|(_, sandbox)| concerns(&sandbox.spec)) {
            ids.push(id);
            let Some(cached) = served.iter().flat_map(|pod| &pod.sandboxes).find(|cached| cached.id == *id)
            else {
                found.push(format!("sandbox {id} is not served"));
                continue;
            };
            let state = if sandbox.ready { v1::SandboxState::Ready } else { v1::SandboxState::NotReady };
            let expected = (state, sandbox.spec.attempt, sandbox.spec.labels.len());
            let got = (cached.state(), cached.attempt, cached.labels.len());
            if got != expected {
                found.push(format!("sandbox {id} is served as {got:?} and is {expected:?}"));
            }
        }
        let of_concern = |container: &Container| match view.sandboxes.get(&container.sandbox_id) {
            Some(sandbox) => concerns(&sandbox.spec),
            // The sandbox of an orphan is gone: its labels say whose it is.
            None => {
                let label = |name: &str| container.spec.labels.get(name).map_or("", String::as_str);
                let [namespace, name, uid] =
                    ["namespace", "name", "uid"].map(|it| label(&format!("io.kubernetes.pod.{it}")[..]));
                concerns(&SandboxSpec::of_pod(namespace, name, uid))
            }
        };
        for (id, container) in view.containers.iter().filter(|(_, it)| of_concern(it)) {
            ids.push(id);
            let Some(cached) = served.iter().flat_map(|pod| &pod.containers).find(|cached| cached.id == *id)
            else {
                found.push(format!("container {id} is not served"));
                continue;
            };
            let known = |at: &Option<_>| at.as_ref().map_or(0, |at| wall(at).as_nanos());
            let is = |at: Option<Wall>| at.map_or(0, Wall::as_nanos);
            let got = format!(
                "{:?} {} {} {} {} {:?} {}",
                cached.state(),
                known(&cached.created_at),
                known(&cached.started_at),
                known(&cached.finished_at),
                cached.attempt,
                cached.exit_code,
                cached.reason,
            );
            let exited = container.state == ContainerState::Exited;
            let expected = format!(
                "{:?} {} {} {} {} {:?} {}",
                container.state,
                container.created_at.as_nanos(),
                is(container.started_at),
                is(container.finished_at),
                container.spec.attempt,
                exited.then_some(container.exit_code),
                container.reason,
            );
            if got != expected {
                found.push(format!("container {id} is served as {got} and is {expected}"));
            }
        }
        for pod in served {
            let cached = pod.sandboxes.iter().map(|sandbox| &sandbox.id);
            for id in cached.chain(pod.containers.iter().map(|container| &container.id)) {
                if !ids.contains(&id.as_str()) {
                    found.push(format!("{id} is served and gone"));
                }
            }
        }
    });
    found
}
