//! Follows the container runtime inside the program, without a plegd daemon.
//!
//! ```console
//! # cargo run --example embedded                                        # the node's own runtime, as root
//! # cargo run --example embedded -- /run/containerd/containerd.sock
//! ```
//!
//! It also works with the simulated runtime of `plegd demo`, which prints its socket. An agent on a node with plegd should use
//! plegd's API instead (see the other examples): each program that follows the runtime costs CPU and needs its root socket.

use std::pin::pin;

use futures::StreamExt as _;
use plegd::{
    app::App,
    model::EventType,
    watch::{Filter, Request, Update},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut builder = App::builder();
    if let Some(endpoint) = std::env::args().nth(1) {
        builder = builder.endpoint(endpoint.parse().map_err(anyhow::Error::msg)?);
    }
    let app = builder.start()?;

    // A snapshot after the first relist, then changes.
    let filter = Filter { containers_only: true, ..Filter::default() };
    let request = Request { filter, wait_ready: true, ..Request::default() };
    let mut updates = pin!(app.watch(request)?.into_stream());
    loop {
        let update = tokio::select! {
            update = updates.next() => update,
            interrupted = tokio::signal::ctrl_c() => break interrupted?,
        };
        match update {
            Some(Ok(Update::SnapshotEnd { pods, position })) => println!("{pods} pods as of {position}"),
            Some(Ok(Update::Event { record, .. })) if record.kind == EventType::ContainerDied => {
                // The cache may be newer than the event; `record.pod` is the pod directly after it.
                let now = app.cache().get(&record.event.pod.uid).map_or(0, |pod| pod.containers.len());
                let (pod, container) = (&record.event.pod, &record.container_name);
                let code = record.exit_code.map_or("an unknown code".into(), |code| format!("code {code}"));
                println!("{}/{} {container} died with {code}; the pod has {now}", pod.namespace, pod.name);
            }
            // This loop was too slow: events are missing, and a snapshot follows.
            Some(Ok(Update::Gap(gap))) => println!("events are missing from {} on", gap.from),
            Some(Ok(_)) => {}
            Some(Err(ended)) => return Err(ended.into()),
            None => break,
        }
    }
    app.stop().await;
    Ok(())
}
