//! Compares newer-than-T reads with the truth from T on, field by field.

use std::{sync::Arc, time::Duration};

use plegd::{
    api::v1,
    app::App,
    clock::Mono,
    model::{ObjectId, Pod, PodUid},
    relister::ReadError,
    sim::SimRuntime,
};

use super::{
    driver::FaultPeriods,
    facts::{Fact, Facts, Version, served},
};
use crate::support::truth::{Names, names_of_pod};

/// Deadline of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// The target of a read.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadTarget {
    Uid(PodUid),
    /// Namespace and name. The read is newer than the call.
    Name(String, String),
    /// A container or sandbox id. The read is newer than the call.
    Id(ObjectId),
}

/// The result of a newer-than read.
#[derive(Clone, Debug)]
pub struct FreshRead {
    target: ReadTarget,
    /// The requested moment, and the time of the response.
    from: Mono,
    to: Mono,
    pod: Option<Arc<Pod>>,
}

/// Reads a pod that is newer than `ago`. None if the read failed.
pub fn read(
    app: &App,
    sim: &SimRuntime,
    target: ReadTarget,
    ago: Duration,
) -> impl Future<Output = Option<FreshRead>> + use<> {
    let (fresh, cache, sim) = (app.fresh().clone(), app.cache().clone(), sim.clone());
    let ago = if matches!(target, ReadTarget::Uid(_)) { ago } else { Duration::ZERO };
    let (than, from) = (app.clock().now() - ago, sim.clock().now() - ago);
    let requested = target.clone();
    let response = async move {
        let pod = match &requested {
            ReadTarget::Uid(uid) => fresh.pod(uid, than).await?,
            ReadTarget::Name(namespace, name) => fresh.named(namespace, name).await?,
            ReadTarget::Id(id) => {
                fresh.read_of_id(id.as_str()).await?;
                cache.pod_of(id.as_str()).and_then(|pod| cache.get_pod(&pod))
            }
        };
        Ok::<_, ReadError>(pod)
    };
    async move {
        let pod = tokio::time::timeout(READ_TIMEOUT, response).await.ok()?.ok()?;
        Some(FreshRead { target, from, to: sim.clock().now(), pod })
    }
}

/// Fields in a response that are older than the requested moment.
pub fn older(fresh_read: &FreshRead, facts: &Facts, wrong_lists: &FaultPeriods) -> Vec<String> {
    let pod: Option<v1::Pod> = fresh_read.pod.as_deref().map(Into::into);
    let names = pod.as_ref().map(names_of_pod);
    // Nothing else shows an id that a list leaves out, or shows in another sandbox.
    let misled = wrong_lists.any(fresh_read.from, fresh_read.to);
    let mut found = Vec::new();
    for (id, fact) in facts.all().filter(|(id, fact)| fresh_read.is_about(id, fact, names.as_ref())) {
        let mut differing = Vec::new();
        let read = served(pod.as_ref(), id);
        let fits =
            fact.between(fresh_read.from, fresh_read.to).any(|version| match (&read, version.fields()) {
                (None, None) => true,
                (Some(read), Some(truth)) => {
                    let mut differences = read.differences(&truth);
                    differences.retain(|it| !is_unknowable(version, it));
                    let fits = differences.is_empty();
                    differing.extend(differences);
                    fits
                }
                (Some(_), None) => {
                    differing.push("it was removed".into());
                    false
                }
                (None, Some(_)) => {
                    differing.push("it existed".into());
                    false
                }
            });
        let misled = misled && (read.is_none() || differing.iter().any(|it| it.starts_with("sandbox_id")));
        if !fits && !misled && !fresh_read.is_about_no_pod(fact, facts) {
            let (from, to) = (fresh_read.from.since(Mono::ZERO), fresh_read.to.since(Mono::ZERO));
            found.push(format!(
                "{id} was read as {:?} from {from:?} to {to:?} with an older state: {}",
                fresh_read.target,
                differing.join("; ")
            ));
        }
    }
    found
}

/// Whether a field may differ because the runtime does not show it, or no longer shows it.
fn is_unknowable(version: &Version, difference: &str) -> bool {
    version.sandbox().is_some_and(|sandbox| {
        let forgotten = sandbox.forgotten && difference.starts_with("created_at");
        // No event reports when the network of a stopped sandbox is removed, and its status may have been read before.
        forgotten || (!sandbox.ready && sandbox.ips.is_empty() && difference.starts_with("ips"))
    })
}

// === impl FreshRead ===

impl FreshRead {
    /// Whether nothing names the pod of a requested container: it has no labels, and its sandbox is gone.
    fn is_about_no_pod(&self, fact: &Fact, facts: &Facts) -> bool {
        let by_id = matches!(self.target, ReadTarget::Id(_));
        let labelled = fact.versions.iter().filter_map(Version::container);
        let mut labelled = labelled.filter(|it| it.spec.labels.contains_key("io.kubernetes.pod.uid"));
        let sandbox = facts.get(&fact.sandbox_id);
        let exists = sandbox
            .is_some_and(|it| it.between(self.from, self.to).any(|version| version.fields().is_some()));
        by_id && !fact.sandbox_id.is_empty() && labelled.next().is_none() && !exists
    }

    /// Whether the response must show an id: it belongs to the returned pod, or to a requested one.
    fn is_about(&self, id: &str, fact: &Fact, given: Option<&Names>) -> bool {
        let Some(names) = &fact.pod else { return false };
        if let Some(given) = given {
            return names == given;
        }
        match &self.target {
            ReadTarget::Uid(uid) => names.2 == uid.as_str(),
            ReadTarget::Name(namespace, name) => names.0 == *namespace && names.1 == *name,
            ReadTarget::Id(target) => id == target.as_str(),
        }
    }
}
