//! Whether what plegd serves and what the runtime says agree while pods come and go: by the states of all there is.
//!
//! Pure but for its questions to the runtime. Where the runtime is at rest, `truth` compares every field.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use plegd::api::v1;
use tokio::time::{Instant, sleep};

use super::Client;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// By id the state of everything, as the runtime numbers it; containers' come after those of sandboxes.
pub type States = BTreeMap<String, i32>;

/// In what plegd and the runtime do not agree, however long one waits: one line each. Only what the runtime says both
/// before and after plegd was asked counts, and only what stays different from one look to the next.
pub async fn disagreement<Fut>(
    client: &Client,
    served: impl Fn() -> Fut,
    within: Duration,
) -> Result<Vec<String>>
where
    Fut: Future<Output = Result<States>>,
{
    let end = Instant::now() + within;
    let mut suspects: Option<BTreeMap<String, String>> = None;
    loop {
        let before = of_runtime(client).await?;
        let served = served().await?;
        let after = of_runtime(client).await?;
        let ids = before.keys().chain(served.keys());
        let steady = ids.filter(|id| before.get(*id) == after.get(*id));
        let differing = steady.filter(|id| served.get(*id) != before.get(*id));
        let said = |id: &String| format!("{id} is {:?} and served as {:?}", before.get(id), served.get(id));
        let mut differing: BTreeMap<String, String> = differing.map(|id| (id.clone(), said(id))).collect();
        if let Some(suspects) = &suspects {
            differing.retain(|id, said| suspects.get(id) == Some(said));
        }
        if differing.is_empty() || Instant::now() >= end {
            return Ok(differing.into_values().collect());
        }
        suspects = Some(differing);
        sleep(PAUSE).await;
    }
}

/// The states of pods as the API serves them.
pub fn states_of<'a>(pods: impl IntoIterator<Item = &'a v1::Pod>) -> States {
    let mut states = States::new();
    for pod in pods {
        // The API counts from one, the runtime from zero.
        states.extend(pod.sandboxes.iter().map(|sandbox| (sandbox.id.clone(), sandbox.state - 1)));
        states.extend(pod.containers.iter().map(|container| (container.id.clone(), 2 + container.state - 1)));
    }
    states
}

async fn of_runtime(client: &Client) -> Result<States> {
    let sandboxes = client.list_pods().await?.into_iter().map(|sandbox| (sandbox.id, sandbox.state));
    let containers = client.list().await?.into_iter().map(|container| (container.id, 2 + container.state));
    Ok(sandboxes.chain(containers).collect())
}
