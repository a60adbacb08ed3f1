//! Prints the pod of a container id. The id may be shortened and may have the runtime's name as a prefix.
//!
//! ```console
//! $ cargo run --example id_to_pod -- 45375b88fbe5                       # one lookup
//! $ cut -f2 flows.tsv | cargo run --example id_to_pod -- -              # one id per line
//! $ cargo run --example id_to_pod -- - unix:///run/plegd/plegd.sock
//! ```
//!
//! With `-` it keeps all ids in memory and updates them by a watch, so that a lookup needs no call.

use std::collections::BTreeMap;

use plegd::{
    client::{Address, Client, Freshness, PodRef, Update, WatchOptions},
    v1,
};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(id) = arguments.next() else { anyhow::bail!("usage: id_to_pod ID|- [ADDRESS]") };
    let address = arguments.next().map_or(Ok(Address::default()), |text| text.parse::<Address>())?;
    if id == "-" {
        return answer_all(Client::lazy(&address)).await;
    }
    let client = Client::connect(&address).await?;
    let (pod, _) = client.get_pod(&PodRef::ContainerId(bare(&id).into()), Freshness::Held).await?;
    let mut names = Names::default();
    names.add(&pod);
    println!("{id} {}", names.of(&id));
    Ok(())
}

/// Answers each line of stdin, after the snapshot is complete.
async fn answer_all(client: Client) -> anyhow::Result<()> {
    let mut watch =
        client.watch(WatchOptions { detail: v1::Detail::Pod, ..WatchOptions::named("id-to-pod") });
    let mut lines = BufReader::new(stdin()).lines();
    let mut names = Names::default();
    let mut snapshot = Names::default();
    let mut complete = false;
    loop {
        tokio::select! {
            // Apply pending updates before answering.
            biased;
            update = watch.next() => match update.transpose()? {
                Some(Update::Connected(_)) => snapshot = Names::default(),
                Some(Update::Gap(_)) => {
                    // Until the new snapshot is complete, the old names are the best answer.
                    eprintln!("events are missing; reading all pods again");
                    snapshot = Names::default();
                }
                Some(Update::Pod(pod)) => snapshot.add(&pod),
                Some(Update::SnapshotEnd { .. }) => {
                    names = std::mem::take(&mut snapshot);
                    complete = true;
                }
                Some(Update::Event { event, .. }) => {
                    if event.r#type() == v1::EventType::ContainerRemoved {
                        names.0.remove(&event.container_id);
                    }
                    if let Some(pod) = &event.pod_status {
                        names.add(pod);
                    }
                }
                Some(Update::Reconnecting { why, .. }) => eprintln!("{why}"),
                Some(_) => {}
                None => return Ok(()),
            },
            line = lines.next_line(), if complete => match line? {
                Some(id) if id.is_empty() => {}
                Some(id) => println!("{id} {}", names.of(&id)),
                None => return Ok(()),
            },
        }
    }
}

/// Names by id, sorted: ids with a common prefix are neighbours.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

// === impl Names ===

impl Names {
    fn add(&mut self, pod: &v1::Pod) {
        let v1::PodIdentity { namespace, name, uid } = pod.identity.clone().unwrap_or_default();
        for sandbox in &pod.sandboxes {
            self.0.insert(sandbox.id.clone(), format!("{namespace}/{name} {uid}"));
        }
        for container in &pod.containers {
            self.0.insert(container.id.clone(), format!("{namespace}/{name} {uid} {}", container.name));
        }
    }

    fn of(&self, id: &str) -> &str {
        let id = bare(id);
        let mut candidates = self.0.range(id.to_owned()..).take_while(|(known, _)| known.starts_with(id));
        match (candidates.next(), candidates.next()) {
            (Some((known, name)), other) if known == id || other.is_none() => name,
            (Some(_), _) => "ambiguous",
            (None, _) => "unknown",
        }
    }
}

/// The id without Kubernetes' prefix, `containerd://` or `cri-o://`.
fn bare(id: &str) -> &str {
    id.trim().rsplit_once("://").map_or(id.trim(), |(_, id)| id)
}
