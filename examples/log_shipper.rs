//! Prints which container logs to tail: open at the container's start, read to the end at its exit, forget at its
//! removal.
//!
//! ```console
//! $ cargo run --example log_shipper                                     # the plegd of this node
//! $ cargo run --example log_shipper -- unix:///run/plegd/plegd.sock /var/lib/shipper/state
//! ```
//!
//! It stores its state and position in a file (default: `log_shipper.state` in the current directory), and resumes
//! there after a restart: plegd then delivers the events since that position. If plegd no longer holds these events,
//! or has another epoch, it sends a gap and a snapshot instead.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use plegd::{
    client::{Address, Client, Since, Update, WatchOptions},
    model::Position,
    v1,
};

/// The logs as of a position.
struct Shipper {
    file: PathBuf,
    position: Option<Position>,
    logs: BTreeMap<String, Log>,
}

/// The log of one container.
#[derive(Clone, Copy, PartialEq)]
enum Log {
    Open,
    Done,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().map_or(Ok(Address::default()), |text| text.parse::<Address>())?;
    let mut shipper = Shipper::load(arguments.next().unwrap_or("log_shipper.state".into()).into())?;
    let since = shipper.position.map_or(Since::Snapshot, Since::After);
    let mut watch = Client::lazy(&address).watch(WatchOptions {
        since,
        detail: v1::Detail::Pod,
        ..WatchOptions::named("log-shipper")
    });
    let mut snapshot: Vec<v1::Pod> = Vec::new();
    while let Some(update) = watch.next().await {
        match update? {
            Update::Connected(_) => snapshot.clear(),
            Update::Resumed { after, .. } => println!("resume after {after}"),
            Update::Gap(_) => {
                println!("gap: look at all pods");
                snapshot.clear();
            }
            Update::Pod(pod) => snapshot.push(pod),
            Update::SnapshotEnd { position, .. } => {
                let listed: Vec<&str> =
                    snapshot.iter().flat_map(|pod| &pod.containers).map(|it| it.id.as_str()).collect();
                let gone = shipper.logs.keys().filter(|id| !listed.contains(&id.as_str()));
                gone.cloned().collect::<Vec<_>>().iter().for_each(|id| shipper.forget(id));
                snapshot.drain(..).for_each(|pod| shipper.apply(&pod));
                shipper.save(position)?;
            }
            Update::Event { event, position, .. } => {
                // The pod has everything that the event has, and corrects earlier events that were wrong.
                if let Some(pod) = &event.pod_status {
                    shipper.apply(pod);
                }
                if event.r#type() == v1::EventType::ContainerRemoved {
                    shipper.forget(&event.container_id);
                }
                shipper.save(position)?;
            }
            Update::Bookmark(position) => shipper.save(position)?,
            Update::Reconnecting { why, .. } => eprintln!("{why}"),
            _ => {}
        }
    }
    Ok(())
}

// === impl Shipper ===

impl Shipper {
    /// Opens or completes the logs of a pod's containers. Idempotent.
    fn apply(&mut self, pod: &v1::Pod) {
        for container in pod.containers.iter().filter(|container| container.started_at.is_some()) {
            let ended = container.state() == v1::ContainerState::Exited;
            let before = self.logs.insert(container.id.clone(), if ended { Log::Done } else { Log::Open });
            if before.is_none() {
                println!("open {}", path(pod, container));
            }
            if ended && before != Some(Log::Done) {
                println!("read to the end {}", path(pod, container));
            }
        }
    }

    fn forget(&mut self, id: &str) {
        match self.logs.remove(id) {
            Some(Log::Open) => println!("read what is left of {id:.13} and forget it"),
            Some(Log::Done) => println!("forget {id:.13}"),
            None => {}
        }
    }

    fn load(file: PathBuf) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut lines = text.lines();
        let position = lines.next().map(str::parse).transpose()?;
        let log = |line: &str| match line.split_once(' ') {
            Some(("open", id)) => Some((id.to_owned(), Log::Open)),
            Some(("done", id)) => Some((id.to_owned(), Log::Done)),
            _ => None,
        };
        Ok(Self { file, position, logs: lines.filter_map(log).collect() })
    }

    /// Must be called after the event was processed: a crash in between repeats work and loses nothing.
    fn save(&mut self, position: Position) -> io::Result<()> {
        self.position = Some(position);
        let word = |log| if log == Log::Open { "open" } else { "done" };
        let logs: String = self.logs.iter().map(|(id, log)| format!("{} {id}\n", word(*log))).collect();
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{position}\n{logs}"))?;
        fs::rename(&new, &self.file)
    }
}

/// The log's path, as the kubelet configures it.
fn path(pod: &v1::Pod, container: &v1::Container) -> String {
    let v1::PodIdentity { uid, namespace, name } = pod.identity.clone().unwrap_or_default();
    format!("/var/log/pods/{namespace}_{name}_{uid}/{}/{}.log", container.name, container.attempt)
}
