//! Selects the pods and events to deliver.

use std::fmt;

use super::Selector;
use crate::model::{Event, EventType, Labels, PodIdentity, Subject};

/// A filter. A pod or event must match one value of each field that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Namespaces of pods.
    pub namespaces: Vec<String>,
    /// UIDs of pods.
    pub pod_uids: Vec<String>,
    /// Names of pods.
    pub pod_names: Vec<String>,
    /// Selects labels of pods.
    pub selector: Selector,
    /// Types of events; not applied to the pods of a snapshot.
    pub types: Vec<EventType>,
    /// Only events of containers; not applied to the pods of a snapshot.
    pub containers_only: bool,
}

// === impl Filter ===

impl Filter {
    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a pod passes.
    pub fn passes_pod(&self, pod: &PodIdentity, labels: &Labels) -> bool {
        let named =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|known| known == name);
        named(&self.namespaces, &pod.namespace)
            && named(&self.pod_uids, pod.uid.as_str())
            && named(&self.pod_names, &pod.name)
            && self.selector.matches(labels)
    }

    /// Whether an event passes.
    pub fn passes(&self, event: &Event) -> bool {
        (self.types.is_empty() || self.types.contains(&event.kind))
            && (!self.containers_only || event.subject == Subject::Container)
            && self.passes_pod(&event.pod, &event.labels)
    }

    /// Whether some events of a pod may pass and others not.
    pub fn splits_pods(&self) -> bool {
        !self.types.is_empty() || self.containers_only
    }
}

/// One line, for lists of subscribers; empty for the empty filter.
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
