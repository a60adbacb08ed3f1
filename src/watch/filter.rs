//! Which pods and events are told.

use std::fmt;

use super::Selector;
use crate::model::{Event, EventType, Labels, PodIdentity, Subject};

/// What is told. What is named in one field adds up, the fields restrict each other; an empty one passes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Namespaces of pods.
    pub namespaces: Vec<String>,
    /// UIDs of pods.
    pub pod_uids: Vec<String>,
    /// Names of pods.
    pub pod_names: Vec<String>,
    /// Labels of the pod.
    pub selector: Selector,
    /// Types of events; does not apply to the pods of a snapshot.
    pub types: Vec<EventType>,
    /// Only events of containers; does not apply to the pods of a snapshot.
    pub containers_only: bool,
}

// === impl Filter ===

impl Filter {
    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what happens to a pod is told at all.
    pub fn passes_pod(&self, pod: &PodIdentity, labels: &Labels) -> bool {
        let named =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|known| known == name);
        named(&self.namespaces, &pod.namespace)
            && named(&self.pod_uids, pod.uid.as_str())
            && named(&self.pod_names, &pod.name)
            && self.selector.matches(labels)
    }

    /// Whether an event is told.
    pub fn passes(&self, event: &Event) -> bool {
        (self.types.is_empty() || self.types.contains(&event.kind))
            && (!self.containers_only || event.subject == Subject::Container)
            && self.passes_pod(&event.pod, &event.labels)
    }

    /// Whether it lets some events of a pod through and others not.
    pub fn splits_pods(&self) -> bool {
        !self.types.is_empty() || self.containers_only
    }
}

/// As one line, for whoever looks at a list of subscribers; nothing for the empty filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<String> = self.types.iter().map(|kind| kind.as_str().to_owned()).collect();
        let selector = [self.selector.to_string()];
        let selector = if self.selector.is_empty() { &[][..] } else { &selector };
        let fields = [
            ("namespace", &self.namespaces[..]),
            ("uid", &self.pod_uids),
            ("pod", &self.pod_names),
            ("labels", selector),
            ("types", &types),
        ];
        let mut gap = "";
        for (name, values) in fields.into_iter().filter(|(_, values)| !values.is_empty()) {
            write!(f, "{gap}{name}={}", values.join(","))?;
            gap = " ";
        }
        if self.containers_only {
            write!(f, "{gap}containers-only")?;
        }
        Ok(())
    }
}
