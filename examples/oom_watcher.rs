//! Tells of each container that the kernel kills for want of memory: one line with its pod.
//!
//! ```console
//! $ cargo run --example oom_watcher                                     # the plegd of this node
//! $ cargo run --example oom_watcher -- unix:///run/plegd/plegd.sock
//! ```
//!
//! `plegd demo` says where it listens, and kills some.
//!
//! A runtime often tells of the death first, with the reason `Error`, and only a moment later that it was for want of
//! memory: that comes as `ContainerChanged`. Both are looked at, and each container is told of once.

use std::collections::HashSet;

use plegd::{
    api::v1,
    client::{Address, Client, Update, WatchOptions, wall},
};

const OOM: &str = "OOMKilled";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).map_or(Ok(Address::default()), |text| text.parse::<Address>())?;
    // From a snapshot on, for what has been killed before; with pods, which say more of the container than events do.
    let mut watch = Client::lazy(&address)
        .watch(WatchOptions { detail: v1::Detail::Pod, ..WatchOptions::named("oom-watcher") });
    let mut told = HashSet::new();
    while let Some(update) = watch.next().await {
        match update? {
            // What had been killed before, or while there was a gap.
            Update::Pod(pod) => {
                for container in pod.containers.iter().filter(|container| container.reason == OOM) {
                    tell(&mut told, pod.identity.as_ref(), container);
                }
            }
            Update::Event { event, .. } => match event.r#type() {
                v1::EventType::ContainerDied | v1::EventType::ContainerChanged if event.reason == OOM => {
                    let pod = event.pod_status.unwrap_or_default();
                    let known = pod.containers.into_iter().find(|it| it.id == event.container_id);
                    // It may be gone by now; the event itself says enough.
                    let container = known.unwrap_or_else(|| v1::Container {
                        id: event.container_id,
                        name: event.container_name,
                        ..Default::default()
                    });
                    tell(&mut told, event.pod.as_ref(), &container);
                }
                v1::EventType::ContainerRemoved => {
                    told.remove(&event.container_id);
                }
                _ => {}
            },
            Update::Gap(gap) => eprintln!("events from {} on were missed; looking at all pods", gap.from),
            Update::Reconnecting { why, .. } => eprintln!("{why}"),
            _ => {}
        }
    }
    Ok(())
}

fn tell(told: &mut HashSet<String>, pod: Option<&v1::PodIdentity>, container: &v1::Container) {
    if !told.insert(container.id.clone()) {
        return;
    }
    let pod = pod.cloned().unwrap_or_default();
    let ran = match (&container.started_at, &container.finished_at) {
        (Some(from), Some(to)) => format!("ran for {:.1} s", wall(to).seconds_since(wall(from))),
        _ => "ran for an unknown time".into(),
    };
    println!(
        "{OOM} {}/{} {} (attempt {}, image {:?}, {ran}, id {:.13})",
        pod.namespace, pod.name, container.name, container.attempt, container.image, container.id,
    );
}
