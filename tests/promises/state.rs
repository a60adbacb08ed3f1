//! The final state of a subscriber, built from snapshots and the pods of events, and its differences from the truth.

use std::{collections::BTreeMap, sync::Arc};

use plegd::{api::v1, model::PodIdentity, sim::SimRuntime, watch::Filter};

use super::{
    record::{Item, Recording},
    support::truth::{Names, differences_of, names_of_pod},
};

/// The pods that the subscriber knows. None if it never had a complete snapshot, or if its filter leaves out some changes.
pub fn known(recording: &Recording) -> Option<Vec<v1::Pod>> {
    if recording.filter.splits_pods() || !recording.pods {
        return None;
    }
    let mut known: Option<BTreeMap<Names, Arc<v1::Pod>>> = None;
    for connection in &recording.connections {
        // The pods of an interrupted snapshot are discarded.
        let mut snapshot = BTreeMap::new();
        for item in &connection.items {
            match item {
                Item::Pod(pod) => {
                    snapshot.insert(names_of_pod(pod), pod.clone());
                }
                Item::SnapshotEnd { .. } => known = Some(std::mem::take(&mut snapshot)),
                Item::Event { event, pod, .. } => {
                    let Some(known) = known.as_mut() else { continue };
                    let PodIdentity { uid, namespace, name } = &event.pod;
                    let names = (namespace.to_string(), name.to_string(), uid.to_string());
                    match pod {
                        Some(pod) => known.insert(names, pod.clone()),
                        None => known.remove(&names),
                    };
                }
                _ => {}
            }
        }
    }
    Some(known?.values().map(|pod| pod.as_ref().clone()).collect())
}

/// The differences between the subscriber's state and the truth, as far as its filter matches.
pub fn differences(recording: &Recording, sim: &SimRuntime) -> Vec<String> {
    let Some(known) = known(recording) else { return Vec::new() };
    let passes = |filter: &Filter, sandbox: &plegd::sim::truth::SandboxSpec| {
        let identity = PodIdentity {
            uid: sandbox.uid.as_str().into(),
            namespace: sandbox.namespace.as_str().into(),
            name: sandbox.name.as_str().into(),
        };
        filter.passes_pod(&identity, &sandbox.labels.iter().collect())
    };
    let mut found = differences_of(&known, sim, |sandbox| passes(&recording.filter, sandbox));
    if !recording.filter.selector.is_empty() {
        // The labels of an orphan's pod are no longer known.
        let orphans = sim.read(|truth| {
            let view = truth.view();
            let orphans = view.containers.values().filter(|it| !view.sandboxes.contains_key(&it.sandbox_id));
            orphans.map(|it| it.id.clone()).collect::<Vec<_>>()
        });
        found.retain(|difference| !orphans.iter().any(|id| difference.contains(id.as_str())));
        // A pod that was gone before its labels could be read may have left the filter with them.
        let unlabelled = known.iter().filter(|pod| pod.labels.is_empty()).flat_map(|pod| &pod.sandboxes);
        let unlabelled: Vec<_> = unlabelled.map(|sandbox| sandbox.id.as_str()).collect();
        found.retain(|difference| {
            !(difference.ends_with("is served and does not exist")
                && unlabelled.iter().any(|id| difference.starts_with(id)))
        });
    }
    found.into_iter().map(|difference| format!("{}: {difference}", recording.name)).collect()
}
