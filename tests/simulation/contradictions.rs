//! A runtime that contradicts itself: from a plan's acts to orders, and what of it is for good.

use plegd::{
    api::v1,
    sim::{
        CallFault, Dose, Faults, ListFault, Lists, Method, ResetReason, SimRuntime, Subject,
        truth::{ContainerState, Sandbox},
    },
};

/// What is wrong with a list; the id is the act's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Listed {
    Twice,
    LeftOut,
    /// It ends after so many items, and says OK.
    Truncated(usize),
    Nothing,
    Reset(usize, ResetReason),
    /// In another state than it is; of a sandbox, ready if the state is running.
    As(ContainerState),
    /// In another sandbox.
    Elsewhere,
}

/// An order that contradicts what else the runtime says.
#[derive(Clone, Debug)]
pub enum Contradiction {
    /// Calls about an id fail.
    Call(Method, String, CallFault),
    /// A list is wrong.
    List(Subject, ListFault),
}

// === impl Listed ===

impl Listed {
    /// The fault of a list of these, about that id.
    pub fn fault(self, of: Subject, id: String) -> ListFault {
        match (self, of) {
            (Self::Twice, _) => ListFault::Twice(id),
            (Self::LeftOut, _) => ListFault::LeftOut(id),
            (Self::Truncated(after), _) => ListFault::Truncated(after),
            (Self::Nothing, _) => ListFault::Nothing,
            (Self::Reset(after, reason), _) => ListFault::Reset { after, reason },
            (Self::As(state), Subject::Container) => ListFault::ContainerState { id, state },
            (Self::As(state), Subject::Sandbox) => {
                ListFault::SandboxReady { id, ready: state == ContainerState::Running }
            }
            (Self::Elsewhere, _) => ListFault::PodSandboxId { id, pod_sandbox_id: "elsewhere".into() },
        }
    }
}

// === impl Contradiction ===

impl Contradiction {
    pub fn order(&self, faults: &Faults, dose: Dose) {
        match self {
            Self::Call(method, id, fault) => faults.calls_about(*method, id, fault.clone(), dose),
            Self::List(of, fault) => faults.lists_only(*of, Lists::Full, fault.clone(), dose),
        }
    }

    /// Whether nobody can know for as long as it lasts how far an id has come, or whether it is there.
    fn hides(&self, of: Subject, id: &str) -> bool {
        match self {
            Self::List(subject, fault) => match fault {
                ListFault::SandboxReady { id: about, .. } | ListFault::ContainerState { id: about, .. } => {
                    about == id
                }
                ListFault::LeftOut(about) => about == id,
                ListFault::Truncated(_) | ListFault::Nothing => *subject == of,
                // Without a list that succeeds no relist does.
                ListFault::Reset { .. } => true,
                ListFault::Twice(_) | ListFault::PodSandboxId { .. } => false,
            },
            Self::Call(Method::ListContainers | Method::ListPodSandbox, about, _) => about == id,
            Self::Call(..) => false,
        }
    }
}

/// How what is served differs from what the runtime lists while it contradicts itself for good: the list's view is served then.
pub fn unlike_listed(served: &[v1::Pod], sim: &SimRuntime, contradictions: &[Contradiction]) -> Vec<String> {
    let is_known = |of, id: &str| !contradictions.iter().any(|it| it.hides(of, id));
    let mut found = Vec::new();
    sim.read(|truth| {
        let view = truth.view();
        for (id, sandbox) in view.sandboxes.iter().filter(|(id, _)| is_known(Subject::Sandbox, id)) {
            let is = served.iter().find_map(|pod| Some((pod, pod.sandboxes.iter().find(|it| it.id == *id)?)));
            let truly = if sandbox.ready { v1::SandboxState::Ready } else { v1::SandboxState::NotReady };
            match is {
                Some((pod, it)) if it.state() == truly && is_labelled(pod, sandbox) => {}
                it => found.push(format!("sandbox {id} is listed as {truly:?} and served as {it:?}")),
            }
        }
        for (id, container) in view.containers.iter().filter(|(id, _)| is_known(Subject::Container, id)) {
            // One whose pod nobody can know is left out.
            if !view.sandboxes.contains_key(&container.sandbox_id)
                || !is_known(Subject::Sandbox, &container.sandbox_id)
            {
                continue;
            }
            let is = served.iter().find_map(|pod| pod.containers.iter().find(|it| it.id == *id));
            let is = is.map(|it| format!("{:?}", it.state()));
            let truly = format!("{:?}", container.state);
            // Only a read moves anything back.
            let is_ahead = container.state == ContainerState::Running && is.as_deref() == Some("Exited");
            if !is_ahead && is.as_ref() != Some(&truly) {
                found.push(format!("container {id} is listed as {truly} and served as {is:?}"));
            }
        }
        let sandboxes = served.iter().flat_map(|pod| &pod.sandboxes).map(|it| (Subject::Sandbox, &it.id));
        let containers = served.iter().flat_map(|pod| &pod.containers).map(|it| (Subject::Container, &it.id));
        let is_there = |id| view.sandboxes.contains_key(id) || view.containers.contains_key(id);
        let gone = sandboxes.chain(containers).filter(|(of, id)| !is_there(*id) && is_known(*of, id));
        found.extend(gone.map(|(_, id)| format!("{id} is served and in no list")));
    });
    found
}

/// Whether a pod has as many labels as its sandbox, if that is its newest.
fn is_labelled(pod: &v1::Pod, sandbox: &Sandbox) -> bool {
    pod.sandboxes.first().is_none_or(|newest| newest.id != sandbox.id)
        || pod.labels.len() >= sandbox.spec.labels.len()
}
