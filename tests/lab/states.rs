//! Compares the states that plegd serves with those of the runtime while pods come and go.
//!
//! Reads from the runtime only. When nothing changes any more, `truth` compares every field.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use plegd::api::v1;
use tokio::time::{Instant, sleep};

use super::Client;

/// The pause between two comparisons.
const PAUSE: Duration = Duration::from_millis(500);

/// The state of each sandbox and container by id, as the runtime numbers it. The numbers of container states follow those of
/// sandbox states.
pub type States = BTreeMap<String, i32>;

/// The lasting differences between plegd and the runtime, one line each. An id counts only if the runtime shows the same state
/// before and after the read of plegd, and the same difference in two comparisons in a row.
pub async fn state_differences<Fut>(
    client: &Client,
    served: impl Fn() -> Fut,
    within: Duration,
) -> Result<Vec<String>>
where
    Fut: Future<Output = Result<States>>,
{
    let end = Instant::now() + within;
    let mut previous: Option<BTreeMap<String, String>> = None;
    loop {
        let before = of_runtime(client).await?;
        let served = served().await?;
        let after = of_runtime(client).await?;
        let ids = before.keys().chain(served.keys());
        let stable = ids.filter(|id| before.get(*id) == after.get(*id));
        let differing = stable.filter(|id| served.get(*id) != before.get(*id));
        let line = |id: &String| format!("{id} is {:?}, served as {:?}", before.get(id), served.get(id));
        let mut differing: BTreeMap<String, String> = differing.map(|id| (id.clone(), line(id))).collect();
        if let Some(previous) = &previous {
            differing.retain(|id, line| previous.get(id) == Some(line));
        }
        if differing.is_empty() || Instant::now() >= end {
            return Ok(differing.into_values().collect());
        }
        previous = Some(differing);
        sleep(PAUSE).await;
    }
}

/// The states of pods that the API serves.
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
