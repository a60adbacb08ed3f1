//! `newer than T` is held against the truth from T on, field by field.

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
    facts::{Fact, Facts, Version, served},
    stage::Hindrances,
};
use crate::support::truth::{Names, names_of_pod};

/// How long a reader waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a reader names.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Uid(PodUid),
    /// Namespace and name. What is read is newer than the call.
    Name(String, String),
    /// A container or sandbox. What is read is newer than the call.
    Id(ObjectId),
}

/// A read that wanted nothing older than a moment.
#[derive(Clone, Debug)]
pub struct Reading {
    wanted: Wanted,
    /// The moment, and when it was answered.
    from: Mono,
    to: Mono,
    pod: Option<Arc<Pod>>,
}

/// Reads a pod that is newer than some time ago. None if the runtime could not be asked.
pub fn read(
    app: &App,
    sim: &SimRuntime,
    wanted: Wanted,
    ago: Duration,
) -> impl Future<Output = Option<Reading>> + use<> {
    let (fresh, cache, sim) = (app.fresh().clone(), app.cache().clone(), sim.clone());
    let ago = if matches!(wanted, Wanted::Uid(_)) { ago } else { Duration::ZERO };
    let (than, from) = (app.clock().now() - ago, sim.clock().now() - ago);
    let asked = wanted.clone();
    let answer = async move {
        let pod = match &asked {
            Wanted::Uid(uid) => fresh.pod(uid, than).await?,
            Wanted::Name(namespace, name) => fresh.named(namespace, name).await?,
            Wanted::Id(id) => {
                fresh.read_of_id(id.as_str()).await?;
                cache.pod_of(id.as_str()).and_then(|pod| cache.get_pod(&pod))
            }
        };
        Ok::<_, ReadError>(pod)
    };
    async move {
        let pod = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
        Some(Reading { wanted, from, to: sim.clock().now(), pod })
    }
}

/// What was read and is older than the moment than which it was to be newer.
pub fn older(reading: &Reading, facts: &Facts, wrong_lists: &Hindrances) -> Vec<String> {
    let pod: Option<v1::Pod> = reading.pod.as_deref().map(Into::into);
    let names = pod.as_ref().map(names_of_pod);
    // What a list does not show, or shows in another sandbox, nothing else would.
    let misled = wrong_lists.any(reading.from, reading.to);
    let mut found = Vec::new();
    for (id, fact) in facts.all().filter(|(id, fact)| reading.is_about(id, fact, names.as_ref())) {
        let mut differing = Vec::new();
        let read = served(pod.as_ref(), id);
        let fits = fact.between(reading.from, reading.to).any(|version| match (&read, version.fields()) {
            (None, None) => true,
            (Some(read), Some(truth)) => {
                let mut differences = read.differences(&truth);
                differences.retain(|it| !is_unknowable(version, it));
                let fits = differences.is_empty();
                differing.extend(differences);
                fits
            }
            (Some(_), None) => {
                differing.push("it was gone".into());
                false
            }
            (None, Some(_)) => {
                differing.push("it was there".into());
                false
            }
        });
        let misled = misled && (read.is_none() || differing.iter().any(|it| it.starts_with("sandbox_id")));
        if !fits && !misled {
            let (from, to) = (reading.from.since(Mono::ZERO), reading.to.since(Mono::ZERO));
            found.push(format!(
                "{id} was read, by {:?} from {from:?} to {to:?}, as it was not from then on: {}",
                reading.wanted,
                differing.join("; ")
            ));
        }
    }
    found
}

/// Whether a field may differ that a runtime does not show, or shows no more.
fn is_unknowable(version: &Version, difference: &str) -> bool {
    version.sandbox().is_some_and(|sandbox| {
        let forgotten = sandbox.forgotten && difference.starts_with("created_at");
        // No event tells when the network of a stopped sandbox is taken down, and its status may have been read before.
        forgotten || (!sandbox.ready && sandbox.ips.is_empty() && difference.starts_with("ips"))
    })
}

// === impl Reading ===

impl Reading {
    /// Whether an id must be in the answer as it was: it is of the pod that was given, or of each that was meant.
    fn is_about(&self, id: &str, fact: &Fact, given: Option<&Names>) -> bool {
        let Some(names) = &fact.pod else { return false };
        if let Some(given) = given {
            return names == given;
        }
        match &self.wanted {
            Wanted::Uid(uid) => names.2 == uid.as_str(),
            Wanted::Name(namespace, name) => names.0 == *namespace && names.1 == *name,
            Wanted::Id(wanted) => id == wanted.as_str(),
        }
    }
}
