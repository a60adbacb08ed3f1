//! Complete histories: from the stream, by polling, from before the start, with a competing subscriber, and during churn.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{
    cache::Counts,
    model::{EventType, Mode, Source},
};

use super::{
    compete, finish,
    lab::{
        Change, Client, ContainerSpec, Containerd, EventStream, Follower, TIMEOUT,
        Version::{self, V1_6, V1_7},
        cri, eventually, run_short_containers,
    },
    without_relists,
};

/// Whether another subscriber exists.
pub(super) enum OtherSubscriber {
    Absent,
    Reading,
}

pub(super) async fn every_history_is_published_from_the_stream(
    version: Version,
    other_subscriber: OtherSubscriber,
) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut other = match other_subscriber {
        OtherSubscriber::Absent => None,
        OtherSubscriber::Reading => Some(reading_subscriber(&client).await?),
    };
    let mut plegd = Follower::start_with(&containerd, without_relists)?;
    plegd.until_following(true).await?;

    let pods = [client.run_pod("one").await?, client.run_pod("two").await?];
    let mut runs = Vec::new();
    for (number, (seconds, exit_code)) in (0..).zip([(0.0, 0), (0.05, 0), (0.05, 7), (0.3, 0), (0.3, 137)]) {
        let spec = match seconds {
            0.0 => ContainerSpec::new("true", &["true"]),
            _ => ContainerSpec::sleeping("short", seconds, exit_code),
        };
        runs.extend(
            (0..6).map(|n| (&pods[n % 2], ContainerSpec { attempt: number * 6 + n as u32, ..spec.clone() })),
        );
    }
    let cache = plegd.app.cache().clone();
    let removed_ids = stream::iter(runs).map(async |(pod, spec)| {
        // Half of them are removed as the kubelet does it, once the exit is published; the others at once.
        let (waits, uid) = (spec.attempt % 4 < 2, pod.uid.as_str().into());
        let id = client.run(pod, spec).await?;
        client.exited(&id).await?;
        if waits {
            let exited = || cache.get(&uid)?.container(&id)?.exit_code;
            eventually("the exit in the cache", TIMEOUT, async || Ok(exited())).await?;
        }
        client.remove(&id).await?;
        anyhow::Ok((id, waits))
    });
    let removed_ids: Vec<_> = removed_ids.buffer_unordered(3).try_collect().await?;
    // A pod that is removed while its containers run.
    let running = client.run_pod("running").await?;
    for n in 0..3 {
        client.run(&running, ContainerSpec::sleeping(&format!("c{n}"), 3600.0, 0)).await?;
    }
    client.remove_pod(&running).await?;
    // A container that is removed while it runs, one that is stopped, and one that is never started.
    let running = client.run(&pods[0], ContainerSpec::sleeping("running", 3600.0, 0)).await?;
    client.remove(&running).await?;
    let stopped = client.run(&pods[0], ContainerSpec::sleeping("stopped", 3600.0, 0)).await?;
    client.stop(&stopped, Duration::ZERO).await?;
    let idle = client.create(&pods[0], "idle", &["true"]).await?;
    for id in [&stopped, &idle] {
        client.remove(id).await?;
    }
    for pod in &pods {
        client.stop_pod(pod).await?;
        client.remove_pod(pod).await?;
    }

    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    let unknown: Vec<&str> = plegd.unknown_exits().iter().map(|event| event.id.as_str()).collect();
    for (id, waits) in &removed_ids {
        assert!(!(*waits && unknown.contains(&id.as_str())), "{:?}", plegd.history_of(id));
    }
    for event in plegd.published.iter().filter(|event| !unknown.contains(&event.id.as_str())) {
        // A read 0.5 s after the creation may find a start before a busy runtime reports it.
        let is_start_check = event.kind == EventType::ContainerStarted && event.source == Source::Read;
        assert!(event.source == Source::Event || is_start_check, "{}", plegd.lines().join("\n"));
        assert!(!event.inferred, "{}", plegd.lines().join("\n"));
    }
    // An unknown exit must be unknown to the other subscriber too, which got the same events.
    let received = other.as_mut().map(EventStream::drain).unwrap_or_default();
    let exits = received.iter().flat_map(|event| &event.containers_statuses);
    for status in exits.filter(|status| status.state() == cri::ContainerState::ContainerExited) {
        assert!(!unknown.contains(&status.id.as_str()), "{:?} of {status:?}", plegd.history_of(&status.id));
    }
    assert_eq!(plegd.history_of(&idle), ["Changed", "Died!", "Removed"]);
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    assert_eq!(plegd.mode(), Mode::Probing);
    finish(plegd, containerd).await
}

pub(super) async fn longer_histories_are_published_by_polling() -> Result<()> {
    let containerd = Containerd::start(V1_6).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(false).await?;
    let pods = [client.run_pod("one").await?, client.run_pod("two").await?];
    let mut ids = Vec::new();
    for (number, (seconds, exit_code)) in (0..).zip([(2.5, 0), (2.5, 7), (3.0, 0), (3.0, 137), (4.0, 1)]) {
        for pod in &pods {
            let spec = ContainerSpec::sleeping(&format!("c{number}"), seconds, exit_code);
            ids.push(client.run(pod, spec).await?);
        }
    }
    for id in &ids {
        client.exited(id).await?;
    }
    // The exit code of a container that is removed before a relist is unknown, so wait for the deaths.
    let died = |it: &Follower| ids.iter().all(|id| it.has_published(id, EventType::ContainerDied));
    plegd.until("the deaths", TIMEOUT, died).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    for id in &ids {
        client.remove(id).await?;
    }
    for pod in &pods {
        client.stop_pod(pod).await?;
    }
    let stopped =
        |it: &Follower| pods.iter().all(|pod| it.has_published(&pod.sandbox_id, EventType::ContainerDied));
    plegd.until("the sandboxes' deaths", TIMEOUT, stopped).await?;
    for pod in &pods {
        client.remove_pod(pod).await?;
    }
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    assert!(plegd.published.iter().all(|event| event.source != Source::Event));
    assert!(plegd.published.iter().all(|event| !event.inferred), "{}", plegd.lines().join("\n"));
    assert_eq!(plegd.modes(), BTreeSet::from(["polling"]));
    finish(plegd, containerd).await
}

/// containerd keeps the events of the last minutes for the first subscriber. They are from before plegd's start and must not be
/// published.
pub(super) async fn pods_removed_before_the_start_are_not_published(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let kept = client.run_pod("kept").await?;
    run_short_containers(&client, &kept, 10, 0.05).await?;
    for number in 0..3 {
        run_and_remove(&client, &format!("gone-{number}"), 2, 0.05).await?;
    }
    let past: BTreeSet<String> = client.history().by_id().into_keys().collect();
    let running = client.run(&kept, ContainerSpec::sleeping("running", 3600.0, 0)).await?;
    let exited = client.run(&kept, ContainerSpec::sleeping("exited", 0.05, 3)).await?;
    client.exited(&exited).await?;
    let created = client.create(&kept, "created", &["true"]).await?;

    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    ensure!(
        plegd.metric("plegd_stream_replayed_messages_total") >= past.len() as f64,
        "no backlog was received"
    );
    // A later event proves that the backlog was received.
    run_short_containers(&client, &kept, 3, 0.05).await?;
    plegd.until_published_for(client.history(), TIMEOUT, |id| !past.contains(id)).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    let resurrected: Vec<_> =
        plegd.published.iter().filter(|event| past.contains(event.id.as_str())).collect();
    assert_eq!(resurrected.len(), 1, "{}", plegd.lines().join("\n"));
    assert_eq!(plegd.history_of(&kept.sandbox_id), ["Started"]);
    assert_eq!(plegd.history_of(&running), ["Started"]);
    assert_eq!(plegd.history_of(&exited), ["Started!", "Died(3 Error)"]);
    assert_eq!(plegd.history_of(&created), ["Changed"]);
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    finish(plegd, containerd).await
}

/// Subscribers of 1.7 take events from each other.
pub(super) async fn events_taken_by_another_subscriber_are_recovered() -> Result<()> {
    let containerd = Containerd::start(V1_7).await?;
    let client = containerd.client()?;
    let other = reading_subscriber(&client).await?;
    let mut plegd = Follower::start_with(&containerd, compete)?;
    plegd.until_following(true).await?;
    let taken_before = other.received();
    plegd.modes();

    // Each container in its own pod: an event of one container shows the others of its pod.
    let names: Vec<String> = (0..12).map(|number| format!("pod-{number}")).collect();
    let runs = tokio::spawn({
        let client = client.clone();
        async move {
            let run = stream::iter(names).map(|name| {
                let client = client.clone();
                async move {
                    let pod = client.run_pod(&name).await?;
                    let id = client.run(&pod, ContainerSpec::sleeping("main", 3.0, 5)).await?;
                    client.exited(&id).await?;
                    anyhow::Ok((pod, id))
                }
            });
            run.buffer_unordered(4).try_collect::<Vec<_>>().await
        }
    });
    plegd.until("the runs", 2 * TIMEOUT, |_| runs.is_finished()).await?;
    let runs = runs.await??;
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    for (pod, id) in &runs {
        client.remove(id).await?;
        client.stop_pod(pod).await?;
    }
    let stopped = |it: &Follower| {
        runs.iter().all(|(pod, _)| it.has_published(&pod.sandbox_id, EventType::ContainerDied))
    };
    plegd.until("the sandboxes' deaths", TIMEOUT, stopped).await?;
    for (pod, _) in &runs {
        client.remove_pod(pod).await?;
    }
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;

    ensure!(other.received() > taken_before + 10, "the other subscriber took no event");
    plegd.until("missed events", TIMEOUT, |it| it.metric("plegd_missed_events_total") > 0.0).await?;
    ensure!(!plegd.modes().contains("polling"), "the stream was lost");
    // The longest relist period of 1.7 with its jitter, and the duration of the relist.
    for event in &plegd.published {
        let late = event.occurred_at.map_or(0.0, |at| event.observed_at.seconds_since(at));
        assert!(late < 12.0, "{late} s: {event:?}");
    }
    finish(plegd, containerd).await
}

/// Pods of a Job, and how many run in parallel.
const JOB: (usize, usize) = (24, 6);
/// Pods after plegd has yielded the stream.
const AFTER: usize = 12;

/// On containerd 1.7, where subscribers share one channel, plegd takes few events; then the other subscriber receives all.
pub(super) async fn another_subscriber_receives_all_events() -> Result<()> {
    let containerd = Containerd::start(V1_7).await?;
    let client = containerd.client()?;
    let mut other = reading_subscriber(&client).await?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;
    let (taken, received) = (plegd.metric(MESSAGES), other.received());
    run_pods(&mut plegd, &client, "job", JOB).await?;
    plegd.until("the yield", TIMEOUT, |it| it.app.follower_status().yielded.is_some()).await?;
    plegd.until("the end of the stream", TIMEOUT, |it| it.metric(CLOSED) == 1.0).await?;
    let (taken, received) = (plegd.metric(MESSAGES) - taken, other.received() - received);
    eprintln!(
        "plegd took {taken} events before it yielded, the other subscriber received {received} of {} pods",
        JOB.0
    );
    ensure!((1.0..=30.0).contains(&taken), "plegd took {taken} events, not 1 to 30");
    // The closed stream takes one event more.
    let probe = client.run_pod("probe").await?;
    client.stop_pod(&probe).await?;
    client.remove_pod(&probe).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    other.drain();
    client.history().forget();

    run_pods(&mut plegd, &client, "after", (AFTER, 4)).await?;
    let whole = || 8 * AFTER;
    let mut events = Vec::new();
    while events.len() < whole() {
        events.push(other.next(TIMEOUT).await.with_context(|| format!("after {} events", events.len()))?);
    }
    for id in client.history().by_id().keys() {
        let kinds: BTreeSet<i32> = (events.iter().filter(|event| event.container_id == *id))
            .map(|event| event.container_event_type)
            .collect();
        ensure!(kinds.len() == 4, "{id}: only events of types {kinds:?}");
    }
    plegd.until_truth(&client, TIMEOUT).await?;
    ensure!(plegd.mode() == Mode::Polling && plegd.metric(CLOSED) == 1.0, "the stream was opened again");
    finish(plegd, containerd).await
}

const MESSAGES: &str = "plegd_stream_messages_total";
const CLOSED: &str = r#"plegd_stream_state{state="yielded"}"#;

/// Runs pods, `at_a_time` in parallel, each with one container that ends after 1 s, and removes them.
async fn run_pods(
    plegd: &mut Follower,
    client: &Client,
    name: &'static str,
    (pods, at_a_time): (usize, usize),
) -> Result<()> {
    let runs = tokio::spawn({
        let client = client.clone();
        async move {
            let runs = stream::iter(0..pods).map(|number| {
                let client = client.clone();
                async move { run_and_remove(&client, &format!("{name}-{number}"), 1, 1.0).await }
            });
            runs.buffer_unordered(at_a_time).try_collect::<()>().await
        }
    });
    plegd.until("the pods", 3 * TIMEOUT, |_| runs.is_finished()).await?;
    runs.await?
}

/// The number of pods of two containers, and how many of them end before plegd starts.
const CHURN: (usize, usize) = (40, 10);

pub(super) async fn a_churn_is_published_completely(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let (gone, mut going) = tokio::sync::mpsc::unbounded_channel();
    let churn = tokio::spawn({
        let client = client.clone();
        async move {
            let runs = stream::iter(0..CHURN.0).map(|number| {
                let (client, gone) = (client.clone(), gone.clone());
                async move {
                    run_and_remove(&client, &format!("pod-{number}"), 2, 0.3).await?;
                    let _ = gone.send(());
                    anyhow::Ok(())
                }
            });
            runs.buffer_unordered(4).try_collect::<()>().await
        }
    });
    for _ in 0..CHURN.1 {
        going.recv().await.context("the churn ended early")?;
    }
    let removed: BTreeSet<String> = (client.history().by_id().into_iter())
        .filter(|(_, done)| done.contains(&Change::Removed))
        .map(|(id, _)| id)
        .collect();
    let mut plegd = Follower::start(&containerd)?;
    plegd.until("the first relist", TIMEOUT, |it| it.app.health().ready().ok).await?;
    // plegd may have missed the beginning of these histories.
    let begun: BTreeSet<String> = client.history().by_id().into_keys().collect();
    plegd.until("the end of the churn", 3 * TIMEOUT, |_| churn.is_finished()).await?;
    churn.await??;
    if version != V1_6 {
        plegd.until_published_for(client.history(), TIMEOUT, |id| !begun.contains(id)).await?;
    }
    plegd.until_truth(&client, TIMEOUT).await?;
    for id in &removed {
        assert_eq!(plegd.history_of(id), [""; 0], "removed before plegd started");
    }
    // Every published history ends with a removal.
    for id in client.history().by_id().keys().filter(|id| !plegd.history_of(id).is_empty()) {
        assert_eq!(
            plegd.history_of(id).last().map(String::as_str),
            Some("Removed"),
            "{:?}",
            plegd.history_of(id)
        );
    }
    ensure!(begun.len() < client.history().by_id().len(), "plegd started after the churn");
    assert_eq!(plegd.app.cache().counts(), Counts::default());
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    finish(plegd, containerd).await
}

/// Another subscriber that reads and whose subscription was answered.
pub(super) async fn reading_subscriber(client: &Client) -> Result<EventStream> {
    let other = client.events()?;
    let pod = client.run_pod("probe").await?;
    other.answered(client, &pod).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    client.history().forget();
    Ok(other)
}

/// Runs a pod whose containers each run for `seconds`, and removes it.
async fn run_and_remove(client: &Client, name: &str, containers: u32, seconds: f64) -> Result<()> {
    let pod = client.run_pod(name).await?;
    let mut ids = Vec::new();
    for number in 0..containers {
        ids.push(client.run(&pod, ContainerSpec::sleeping(&format!("c{number}"), seconds, 0)).await?);
    }
    for id in &ids {
        client.exited(id).await?;
        client.remove(id).await?;
    }
    client.stop_pod(&pod).await?;
    Ok(client.remove_pod(&pod).await?)
}
