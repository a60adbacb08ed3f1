//! Prints one line, with its pod, for each container that the kernel OOM-kills.
//!
//! ```console
//! $ cargo run --example oom_watcher                                     # the plegd of this node
//! $ cargo run --example oom_watcher -- unix:///run/plegd/plegd.sock
//! ```
//!
//! `plegd demo` prints its address and has such containers.
//!
//! A runtime often reports the exit with the reason `Error` first, and sets `OOMKilled` later. plegd publishes that as
//! `ContainerChanged`. This agent checks both events and prints each container once.

use std::collections::HashSet;

use plegd::{
    client::{Address, Client, Update, WatchOptions, wall},
    v1,
};

const OOM: &str = "OOMKilled";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).map_or(Ok(Address::default()), |text| text.parse::<Address>())?;
    // From a snapshot, for containers killed before; with pods, which have more details than events.
    let mut watch = Client::lazy(&address)
        .watch(WatchOptions { detail: v1::Detail::Pod, ..WatchOptions::named("oom-watcher") });
    let mut printed = HashSet::new();
    while let Some(update) = watch.next().await {
        match update? {
            // Killed before the start or during a gap.
            Update::Pod(pod) => {
                for container in pod.containers.iter().filter(|container| container.reason == OOM) {
                    print_once(&mut printed, pod.identity.as_ref(), container);
                }
            }
            Update::Event { event, .. } => match event.r#type() {
                v1::EventType::ContainerDied | v1::EventType::ContainerChanged if event.reason == OOM => {
                    let pod = event.pod_status.unwrap_or_default();
                    let known = pod.containers.into_iter().find(|it| it.id == event.container_id);
                    // It may be removed already; then use the event's fields.
                    let container = known.unwrap_or_else(|| v1::Container {
                        id: event.container_id,
                        name: event.container_name,
                        ..Default::default()
                    });
                    print_once(&mut printed, event.pod.as_ref(), &container);
                }
                v1::EventType::ContainerRemoved => {
                    printed.remove(&event.container_id);
                }
                _ => {}
            },
            Update::Gap(gap) => eprintln!("events from {} on are missing; reading all pods", gap.from),
            Update::Reconnecting { why, .. } => eprintln!("{why}"),
            _ => {}
        }
    }
    Ok(())
}

fn print_once(printed: &mut HashSet<String>, pod: Option<&v1::PodIdentity>, container: &v1::Container) {
    if !printed.insert(container.id.clone()) {
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
