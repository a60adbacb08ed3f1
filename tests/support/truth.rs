//! Compares pods, as served or as a subscriber knows them, with the truth of a simulated runtime, field by field.

#![allow(dead_code, reason = "each test and bench uses what it needs")]

use std::{cmp::Reverse, collections::BTreeMap};

use plegd::{
    api::v1,
    client::wall,
    clock::Wall,
    sim::{
        SimRuntime, Subject, Truth,
        truth::{Container, ContainerState, Sandbox, SandboxSpec, View},
    },
};

/// The compared fields of a sandbox or a container, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<&'static str, String>);

/// Namespace, name and UID of a pod.
pub type Names = (String, String, String);

// === impl Fields ===

impl Fields {
    /// The fields of a sandbox that plegd serves.
    pub fn of_served_sandbox(it: &v1::Sandbox) -> Self {
        Self::of([
            ("state", format!("{:?}", it.state())),
            ("attempt", it.attempt.to_string()),
            ("created_at", nanos(it.created_at.as_ref())),
            ("ips", it.ips.join(",")),
            ("labels", format!("{:?}", it.labels)),
            ("annotations", format!("{:?}", it.annotations)),
        ])
    }

    /// The true fields of a sandbox.
    pub fn of_sandbox(it: &Sandbox) -> Self {
        let state = if it.ready { v1::SandboxState::Ready } else { v1::SandboxState::NotReady };
        Self::of([
            ("state", format!("{state:?}")),
            ("attempt", it.spec.attempt.to_string()),
            ("created_at", it.created_at.as_nanos().to_string()),
            ("ips", it.ips.join(",")),
            ("labels", format!("{:?}", it.spec.labels)),
            ("annotations", format!("{:?}", it.spec.annotations)),
        ])
    }

    /// The fields of a container that plegd serves.
    pub fn of_served_container(it: &v1::Container) -> Self {
        Self::of([
            ("state", format!("{:?}", it.state())),
            ("attempt", it.attempt.to_string()),
            ("created_at", nanos(it.created_at.as_ref())),
            ("started_at", nanos(it.started_at.as_ref())),
            ("finished_at", nanos(it.finished_at.as_ref())),
            ("exit_code", format!("{:?}", it.exit_code)),
            ("reason", it.reason.clone()),
            ("message", it.message.clone()),
            ("name", it.name.clone()),
            ("image", it.image.clone()),
            ("sandbox_id", it.sandbox_id.clone()),
            ("labels", format!("{:?}", it.labels)),
            ("annotations", format!("{:?}", it.annotations)),
        ])
    }

    /// The true fields of a container.
    pub fn of_container(it: &Container) -> Self {
        let at = |at: Option<Wall>| at.map_or(0, Wall::as_nanos).to_string();
        let exited = it.state == ContainerState::Exited;
        Self::of([
            ("state", format!("{:?}", it.state)),
            ("attempt", it.spec.attempt.to_string()),
            ("created_at", it.created_at.as_nanos().to_string()),
            ("started_at", at(it.started_at)),
            ("finished_at", at(it.finished_at)),
            ("exit_code", format!("{:?}", exited.then_some(it.exit_code))),
            ("reason", it.reason.clone()),
            ("message", it.message.clone()),
            ("name", it.spec.name.clone()),
            ("image", it.spec.image.clone()),
            ("sandbox_id", it.sandbox_id.clone()),
            ("labels", format!("{:?}", it.spec.labels)),
            ("annotations", format!("{:?}", it.spec.annotations)),
        ])
    }

    fn of<const N: usize>(fields: [(&'static str, String); N]) -> Self {
        Self(fields.into())
    }

    /// The fields that differ from the truth, as `name: is this, and should be that`.
    pub fn differences(&self, truth: &Self) -> Vec<String> {
        let differing = self.0.iter().filter_map(|(name, served)| {
            let truth = truth.0.get(name).map_or("", String::as_str);
            (served != truth).then(|| format!("{name} is {served:?} and should be {truth:?}"))
        });
        differing.collect()
    }

    /// The text of a field.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Removes a field that cannot be compared.
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }
}

/// The differences between the served pods and the true pods that `concerns` selects.
pub fn differences_of(
    served: &[v1::Pod],
    sim: &SimRuntime,
    concerns: impl Fn(&SandboxSpec) -> bool,
) -> Vec<String> {
    sim.read(|truth| Comparison { served, view: truth.view(), found: Vec::new() }.all(&concerns))
}

/// The pod of a sandbox.
pub fn names_of_sandbox(spec: &SandboxSpec, id: &str) -> Names {
    // The sandbox id replaces a missing UID.
    let uid = if spec.uid.is_empty() { id } else { &spec.uid };
    (spec.namespace.clone(), spec.name.clone(), uid.to_owned())
}

/// The pod of a container. None for an orphan whose labels do not name its pod.
pub fn names_of_container(truth: &Truth, id: &str) -> Option<Names> {
    let container = truth.container(id)?;
    match truth.sandbox(&container.sandbox_id) {
        Some(sandbox) => Some(names_of_sandbox(&sandbox.spec, &sandbox.id)),
        None => names_of_orphan(container),
    }
}

fn names_of_orphan(container: &Container) -> Option<Names> {
    let label = |name: &str| container.spec.labels.get(&format!("io.kubernetes.pod.{name}")).cloned();
    Some((label("namespace")?, label("name")?, label("uid")?))
}

struct Comparison<'a> {
    served: &'a [v1::Pod],
    view: &'a View,
    found: Vec<String>,
}

// === impl Comparison ===

impl<'a> Comparison<'a> {
    fn all(mut self, concerns: &dyn Fn(&SandboxSpec) -> bool) -> Vec<String> {
        let mut ids: Vec<(Subject, &str)> = Vec::new();
        for (id, sandbox) in self.view.sandboxes.iter().filter(|(_, sandbox)| concerns(&sandbox.spec)) {
            ids.push((Subject::Sandbox, id));
            self.sandbox(id, sandbox);
        }
        let of_concern = |container: &Container| match self.view.sandboxes.get(&container.sandbox_id) {
            Some(sandbox) => concerns(&sandbox.spec),
            // The sandbox of an orphan is gone; its labels name its pod.
            None => {
                let (namespace, name, uid) = names_of_orphan(container).unwrap_or_default();
                concerns(&SandboxSpec::of_pod(&namespace, &name, &uid))
            }
        };
        for (id, container) in self.view.containers.iter().filter(|(_, it)| of_concern(it)) {
            ids.push((Subject::Container, id));
            self.container(id, container);
        }
        for pod in self.served {
            let sandboxes = pod.sandboxes.iter().map(|it| (Subject::Sandbox, it.id.as_str()));
            let containers = pod.containers.iter().map(|it| (Subject::Container, it.id.as_str()));
            let gone = sandboxes.chain(containers).filter(|id| !ids.contains(id));
            self.found.extend(gone.map(|(_, id)| format!("{id} is served and does not exist")));
            self.pod(pod);
        }
        self.found
    }

    fn sandbox(&mut self, id: &str, sandbox: &Sandbox) {
        let served = |pod: &'a v1::Pod| Some((pod, pod.sandboxes.iter().find(|served| served.id == id)?));
        let served: Vec<_> = self.served.iter().filter_map(served).collect();
        let pods: Vec<&v1::Pod> = served.iter().map(|(pod, _)| *pod).collect();
        self.check_place("sandbox", id, &pods, Some(names_of_sandbox(&sandbox.spec, id)));
        for (_, served) in served {
            let mut differences = Fields::of_served_sandbox(served).differences(&Fields::of_sandbox(sandbox));
            // A runtime that lost the creation time of a sandbox may have reported it before.
            differences.retain(|it| !(sandbox.forgotten && it.starts_with("created_at")));
            // No event and no list reports when the network of a stopped sandbox is removed.
            differences.retain(|it| sandbox.ready || !sandbox.ips.is_empty() || !it.starts_with("ips"));
            self.found.extend(differences.into_iter().map(|it| format!("sandbox {id}: {it}")));
        }
    }

    fn container(&mut self, id: &str, container: &Container) {
        let served = |pod: &'a v1::Pod| Some((pod, pod.containers.iter().find(|served| served.id == id)?));
        let served: Vec<_> = self.served.iter().filter_map(served).collect();
        let pods: Vec<&v1::Pod> = served.iter().map(|(pod, _)| *pod).collect();
        let names = match self.view.sandboxes.get(&container.sandbox_id) {
            Some(sandbox) => Some(names_of_sandbox(&sandbox.spec, &sandbox.id)),
            None => names_of_orphan(container),
        };
        self.check_place("container", id, &pods, names);
        for (_, served) in served {
            let differences =
                Fields::of_served_container(served).differences(&Fields::of_container(container));
            self.found.extend(differences.into_iter().map(|it| format!("container {id}: {it}")));
        }
    }

    /// Checks that an id is served once, and in its own pod.
    fn check_place(&mut self, what: &str, id: &str, pods: &[&v1::Pod], names: Option<Names>) {
        let [pod] = pods else {
            let times = pods.len();
            // A container whose sandbox is gone and whose labels do not name a pod belongs to no known pod.
            if times == 0 && names.is_none() {
                return;
            }
            return self.found.push(match times {
                0 => format!("{what} {id} is not served"),
                _ => format!("{what} {id} is served {times} times"),
            });
        };
        let got = names_of_pod(pod);
        if let Some(names) = names.filter(|names| *names != got) {
            self.found.push(format!("{what} {id} is served in {got:?} and is in {names:?}"));
        }
    }

    /// Checks the order of the sandboxes and containers, and the fields taken from the newest sandbox.
    fn pod(&mut self, pod: &v1::Pod) {
        let names = names_of_pod(pod);
        let place = |id: &str| pod.sandboxes.iter().position(|it| it.id == id).unwrap_or(usize::MAX);
        if !pod.sandboxes.is_sorted_by_key(|it| Reverse(it.attempt)) {
            self.found.push(format!("the newest sandbox of {names:?} does not come first"));
        }
        if !pod.containers.is_sorted_by_key(|it| (place(&it.sandbox_id), Reverse(it.attempt))) {
            let order: Vec<_> = pod.containers.iter().map(|it| (&it.id, it.attempt)).collect();
            self.found.push(format!("the containers of {names:?} are not in order: {order:?}"));
        }
        let Some(newest) = pod.sandboxes.first() else { return };
        if !newest.labels.is_empty() && newest.labels != pod.labels {
            self.found
                .push(format!("{names:?} has labels {:?}, its sandbox {:?}", pod.labels, newest.labels));
        }
        let keeps = newest.ips.is_empty() && newest.state() != v1::SandboxState::Ready;
        if !keeps && newest.ips != pod.ips {
            self.found.push(format!("{names:?} has addresses {:?}, its sandbox {:?}", pod.ips, newest.ips));
        }
    }
}

/// The names of a served pod.
pub fn names_of_pod(pod: &v1::Pod) -> Names {
    let identity = pod.identity.clone().unwrap_or_default();
    (identity.namespace, identity.name, identity.uid)
}

fn nanos(at: Option<&prost_types::Timestamp>) -> String {
    at.map_or(0, |at| wall(at).as_nanos()).to_string()
}
