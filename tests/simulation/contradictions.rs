//! Contradictions of the runtime: converts actions of a plan to faults, and tracks those that are permanent.

use plegd::{
    api::v1,
    sim::{
        CallFault, Dose, Faults, ListFault, Lists, Method, ResetReason, SimRuntime, Subject,
        truth::{ContainerState, Sandbox},
    },
};

/// A fault of a list; the action has the id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Listed {
    Twice,
    LeftOut,
    /// The list ends after this many items, with OK.
    Truncated(usize),
    Nothing,
    Reset(usize, ResetReason),
    /// The object has another state; a sandbox is ready if the state is running.
    As(ContainerState),
    /// The container is in another sandbox.
    Elsewhere,
}

/// A fault that contradicts the runtime's other responses.
#[derive(Clone, Debug)]
pub enum Contradiction {
    /// Calls about an id fail.
    Call(Method, String, CallFault),
    /// Lists are wrong.
    List(Subject, ListFault),
}

// === impl Listed ===

impl Listed {
    /// The fault for a list of this kind and this id.
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

    /// Whether the state or existence of an id cannot be known while the fault lasts.
    fn hides(&self, of: Subject, id: &str) -> bool {
        match self {
            Self::List(subject, fault) => match fault {
                ListFault::SandboxReady { id: about, .. } | ListFault::ContainerState { id: about, .. } => {
                    about == id
                }
                ListFault::LeftOut(about) => about == id,
                ListFault::Truncated(_) | ListFault::Nothing => *subject == of,
                // Without a successful list no relist succeeds.
                ListFault::Reset { .. } => true,
                ListFault::Twice(_) | ListFault::PodSandboxId { .. } => false,
            },
            Self::Call(Method::ListContainers | Method::ListPodSandbox, about, _) => about == id,
            Self::Call(..) => false,
        }
    }
}

/// Differences between the served pods and the lists under permanent contradictions: plegd must serve the view of the lists.
pub fn differences_from_lists(
    served: &[v1::Pod],
    sim: &SimRuntime,
    contradictions: &[Contradiction],
) -> Vec<String> {
    let is_known = |of, id: &str| !contradictions.iter().any(|it| it.hides(of, id));
    let mut found = Vec::new();
    sim.read(|truth| {
        let view = truth.view();
        for (id, sandbox) in view.sandboxes.iter().filter(|(id, _)| is_known(Subject::Sandbox, id)) {
            let is = served.iter().find_map(|pod| Some((pod, pod.sandboxes.iter().find(|it| it.id == *id)?)));
            let truly = if sandbox.ready { v1::SandboxState::Ready } else { v1::SandboxState::NotReady };
            match is {
                Some((pod, it)) if it.state() == truly && is_labelled(pod, sandbox) => {}
                it => found.push(format!("sandbox {id} is listed as {truly:?}, served as {it:?}")),
            }
        }
        for (id, container) in view.containers.iter().filter(|(id, _)| is_known(Subject::Container, id)) {
            // Skip containers whose pod cannot be known.
            if !view.sandboxes.contains_key(&container.sandbox_id)
                || !is_known(Subject::Sandbox, &container.sandbox_id)
            {
                continue;
            }
            let is = served.iter().find_map(|pod| pod.containers.iter().find(|it| it.id == *id));
            let is = is.map(|it| format!("{:?}", it.state()));
            let truly = format!("{:?}", container.state);
            // Only a read moves a container back.
            let is_ahead = container.state == ContainerState::Running && is.as_deref() == Some("Exited");
            if !is_ahead && is.as_ref() != Some(&truly) {
                found.push(format!("container {id} is listed as {truly}, served as {is:?}"));
            }
        }
        let sandboxes = served.iter().flat_map(|pod| &pod.sandboxes).map(|it| (Subject::Sandbox, &it.id));
        let containers = served.iter().flat_map(|pod| &pod.containers).map(|it| (Subject::Container, &it.id));
        let is_there = |id| view.sandboxes.contains_key(id) || view.containers.contains_key(id);
        let gone = sandboxes.chain(containers).filter(|(of, id)| !is_there(*id) && is_known(*of, id));
        found.extend(gone.map(|(_, id)| format!("{id} is served and not listed")));
    });
    found
}

/// Whether a pod has at least as many labels as its newest sandbox. True for older sandboxes.
fn is_labelled(pod: &v1::Pod, sandbox: &Sandbox) -> bool {
    pod.sandboxes.first().is_none_or(|newest| newest.id != sandbox.id)
        || pod.labels.len() >= sandbox.spec.labels.len()
}
