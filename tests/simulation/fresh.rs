//! `newer than T` is held against the truth from T on.

use std::{collections::BTreeMap, time::Duration};

use plegd::{
    app::App,
    model::{Phase, Pod, PodUid, Status},
    sim::{Change, SimRuntime, What},
};

/// A read that wanted nothing older than the moment at which it began.
#[derive(Clone, Debug)]
pub struct Reading {
    uid: PodUid,
    /// How much had happened when it began, and when it was answered.
    from: usize,
    to: usize,
    pod: Option<std::sync::Arc<Pod>>,
}

/// Reads a pod that is newer than now. None if the runtime could not be asked.
pub fn read(app: &App, sim: &SimRuntime, uid: PodUid) -> impl Future<Output = Option<Reading>> + use<> {
    let (fresh, sim, now) = (app.fresh().clone(), sim.clone(), app.clock().now());
    let from = sim.history().len();
    async move {
        let answer = tokio::time::timeout(Duration::from_secs(20), fresh.pod(&uid, now)).await;
        let pod = answer.ok()?.ok()?;
        Some(Reading { from, to: sim.history().len(), uid, pod })
    }
}

/// What was read and is older than the moment at which it was asked for.
pub fn older(reading: &Reading, history: &[Change]) -> Vec<String> {
    let mut possible: BTreeMap<&str, Vec<Option<Phase>>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (n, change) in history[..reading.to].iter().enumerate() {
        if change.pod_uid != reading.uid.as_str() {
            continue;
        }
        let after = match &change.what {
            What::Created => Some(Phase::Created),
            What::Started | What::ReadyAgain | What::Relapsed => Some(Phase::Running),
            What::Died { .. } => Some(Phase::Exited),
            What::Removed => None,
            What::ReasonChanged { .. } => continue,
            What::Lost => {
                unknown.push(change.id.as_str());
                continue;
            }
        };
        let phases = possible.entry(&change.id).or_insert_with(|| vec![None]);
        if n < reading.from {
            phases.clear();
        }
        phases.push(after);
    }
    let mut found = Vec::new();
    for (id, phases) in possible.iter().filter(|(id, _)| !unknown.contains(*id)) {
        let read = reading.pod.as_deref().and_then(|pod| phase_in(pod, id));
        if !phases.contains(&read) {
            found.push(format!("{id} was read as {read:?}, and was {phases:?} from then on"));
        }
    }
    found
}

fn phase_in(pod: &Pod, id: &str) -> Option<Phase> {
    let sandboxes = pod.sandboxes.iter().cloned().map(Status::Sandbox);
    let mut all = sandboxes.chain(pod.containers.iter().cloned().map(Status::Container));
    all.find(|status| status.id().as_str() == id)?.phase()
}
