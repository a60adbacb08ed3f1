//! The history of a pod is recorded and replayed: plegd publishes the same events again.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use plegd::{
    cli::scenario::{Outcome, play},
    clock::Clock,
    cri::{Client, Link},
    journal::Record,
    metrics::Metrics,
    model::{EventType, Subject},
    scenario::{
        Scenario,
        check::event_text,
        record::{Options, Progress, record},
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    finish,
    lab::{ContainerSpec, Containerd, Follower, TIMEOUT, Version},
};

/// How long the replay waits for events after the last step, in paused time.
const SETTLE: Duration = Duration::from_secs(120);

pub(super) async fn a_recorded_history_is_published_again(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let kept = client.run_pod("kept").await?;
    let old = client.run(&kept, ContainerSpec::sleeping("old", 3600.0, 0)).await?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;

    let (stop, clock) = (CancellationToken::new(), Clock::system());
    let link = Link::unix(containerd.endpoint().parse().map_err(anyhow::Error::msg)?);
    let cri = Client::new(link, Duration::from_secs(5), clock.clone(), Arc::new(Metrics::new()));
    let (sender, mut progress) = watch::channel(Progress::default());
    let stopped = stop.clone();
    let options = Options { keep_names: true, ..Options::default() };
    let recording = tokio::spawn(async move { record(&cri, &clock, &options, stopped, sender).await });
    progress.wait_for(|progress| progress.steps > 0).await?;

    let pod = client.run_pod("recorded").await?;
    let failing = client.run(&pod, ContainerSpec::sleeping("failing", 0.5, 3)).await?;
    let short = client.run(&pod, ContainerSpec::sleeping("short", 0.05, 0)).await?;
    client.exited(&failing).await?;
    client.exited(&short).await?;
    client.remove(&failing).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    client.stop(&old, Duration::ZERO).await?;
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    stop.cancel();
    let recording = recording.await??;
    ensure!(recording.notes.is_empty(), "{:?}", recording.notes);

    // Paused time needs a runtime of one thread.
    let scenario = Scenario::read(&recording.text)?;
    let replayed =
        thread::spawn(move || replay(scenario)).join().map_err(|_| anyhow!("the replay panicked"))??;
    for id in [&kept.sandbox_id, &old, &pod.sandbox_id, &failing, &short] {
        let published: Vec<_> = words(plegd.events_of(id));
        let again = words(replayed.published.iter().filter(|event| event.id.as_str() == id));
        ensure!(published == again, "{id}: published {published:?}, replayed {again:?}\n{}", recording.text);
    }
    finish(plegd, containerd).await
}

fn replay(scenario: Scenario) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(play(scenario, SETTLE, &mut ()))
}

/// The events as text, without changes of a sandbox: these are published only if a read happens in time.
fn words<'a>(events: impl Iterator<Item = &'a Arc<Record>>) -> Vec<String> {
    let has_no_stream_event =
        |event: &Record| event.subject == Subject::Sandbox && event.kind == EventType::ContainerChanged;
    events.filter(|event| !has_no_stream_event(event)).map(|event| event_text(event)).collect()
}
