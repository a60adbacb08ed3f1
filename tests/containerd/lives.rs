//! Lives as a whole: from the stream, by polling, from before plegd came, with a thief at the stream, and many at once.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{
    cache::Counts,
    model::{EventType, Source},
    supervisor::Mode,
};

use super::{
    compete, finish,
    lab::{
        Client, ContainerSpec, Containerd, EventStream, Follower, PATIENCE,
        Version::{self, V1_6, V1_7},
        What, cri, eventually, run_short_lives,
    },
    without_relists,
};

/// Who else is subscribed.
pub(super) enum Company {
    Alone,
    Subscriber,
}

pub(super) async fn every_life_is_told_from_the_stream(version: Version, company: Company) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut other = match company {
        Company::Alone => None,
        Company::Subscriber => Some(answered_subscriber(&client).await?),
    };
    let mut plegd = Follower::start_with(&containerd, without_relists)?;
    plegd.settled(true).await?;

    let pods = [client.run_pod("one").await?, client.run_pod("two").await?];
    let mut lives = Vec::new();
    for (number, (seconds, exit_code)) in (0..).zip([(0.0, 0), (0.05, 0), (0.05, 7), (0.3, 0), (0.3, 137)]) {
        let spec = match seconds {
            0.0 => ContainerSpec::new("true", &["true"]),
            _ => ContainerSpec::living("short", seconds, exit_code),
        };
        lives.extend(
            (0..6).map(|n| (&pods[n % 2], ContainerSpec { attempt: number * 6 + n as u32, ..spec.clone() })),
        );
    }
    let cache = plegd.app.cache().clone();
    let lived = stream::iter(lives).map(async |(pod, spec)| {
        // Half of them are removed as the kubelet does it, once it was told of the exit; half at once.
        let (patient, uid) = (spec.attempt % 4 < 2, pod.uid.as_str().into());
        let id = client.run(pod, spec).await?;
        client.exited(&id).await?;
        if patient {
            let exited = || cache.get(&uid)?.container(&id)?.exit_code;
            eventually("the exit in the cache", PATIENCE, async || Ok(exited())).await?;
        }
        client.remove(&id).await?;
        anyhow::Ok((id, patient))
    });
    let lived: Vec<_> = lived.buffer_unordered(3).try_collect().await?;
    // A pod that is removed as it runs, with all that is in it.
    let running = client.run_pod("running").await?;
    for n in 0..3 {
        client.run(&running, ContainerSpec::living(&format!("c{n}"), 3600.0, 0)).await?;
    }
    client.remove_pod(&running).await?;
    // A container that is removed as it runs, one that is made to end, and one that never begins.
    let running = client.run(&pods[0], ContainerSpec::living("running", 3600.0, 0)).await?;
    client.remove(&running).await?;
    let stopped = client.run(&pods[0], ContainerSpec::living("stopped", 3600.0, 0)).await?;
    client.stop(&stopped, Duration::ZERO).await?;
    let idle = client.create(&pods[0], "idle", &["true"]).await?;
    for id in [&stopped, &idle] {
        client.remove(id).await?;
    }
    for pod in &pods {
        client.stop_pod(pod).await?;
        client.remove_pod(pod).await?;
    }

    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    let unknown: Vec<&str> = plegd.unknown_exits().iter().map(|event| event.id.as_str()).collect();
    for (id, patient) in &lived {
        assert!(!(*patient && unknown.contains(&id.as_str())), "{:?}", plegd.story(id));
    }
    for event in plegd.told.iter().filter(|event| !unknown.contains(&event.id.as_str())) {
        assert_eq!(event.source, Source::Event, "{}", plegd.lines().join("\n"));
        assert!(!event.inferred, "{}", plegd.lines().join("\n"));
    }
    // What is not known was not to be known: the other subscriber was sent the same events.
    let witnessed = other.as_mut().map(EventStream::drain).unwrap_or_default();
    let exits = witnessed.iter().flat_map(|event| &event.containers_statuses);
    for status in exits.filter(|status| status.state() == cri::ContainerState::ContainerExited) {
        assert!(!unknown.contains(&status.id.as_str()), "{:?} of {status:?}", plegd.story(&status.id));
    }
    assert_eq!(plegd.story(&idle), ["Changed", "Died!", "Removed"]);
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    assert_eq!(plegd.mode(), Mode::Probing);
    finish(plegd, containerd).await
}

pub(super) async fn longer_lives_are_told_by_polling() -> Result<()> {
    let containerd = Containerd::start(V1_6).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(false).await?;
    let pods = [client.run_pod("one").await?, client.run_pod("two").await?];
    let mut ids = Vec::new();
    for (number, (seconds, exit_code)) in (0..).zip([(2.5, 0), (2.5, 7), (3.0, 0), (3.0, 137), (4.0, 1)]) {
        for pod in &pods {
            let spec = ContainerSpec::living(&format!("c{number}"), seconds, exit_code);
            ids.push(client.run(pod, spec).await?);
        }
    }
    for id in &ids {
        client.exited(id).await?;
    }
    // What is gone before a relist has seen how it ended cannot be told with its exit code.
    let died = |it: &Follower| ids.iter().all(|id| it.has_told(id, EventType::ContainerDied));
    plegd.until("the deaths", PATIENCE, died).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    for id in &ids {
        client.remove(id).await?;
    }
    for pod in &pods {
        client.stop_pod(pod).await?;
    }
    let stopped =
        |it: &Follower| pods.iter().all(|pod| it.has_told(&pod.sandbox_id, EventType::ContainerDied));
    plegd.until("the sandboxes' deaths", PATIENCE, stopped).await?;
    for pod in &pods {
        client.remove_pod(pod).await?;
    }
    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    assert!(plegd.told.iter().all(|event| event.source != Source::Event));
    assert!(plegd.told.iter().all(|event| !event.inferred), "{}", plegd.lines().join("\n"));
    assert_eq!(plegd.modes(), BTreeSet::from(["polling"]));
    finish(plegd, containerd).await
}

/// Events of the last minutes wait for the first subscriber: they are plegd's past, and not to be told.
pub(super) async fn what_came_and_went_before_is_not_told(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let kept = client.run_pod("kept").await?;
    run_short_lives(&client, &kept, 10, 0.05).await?;
    for number in 0..3 {
        live_and_go(&client, &format!("gone-{number}"), 2, 0.05).await?;
    }
    let past: BTreeSet<String> = client.history().by_id().into_keys().collect();
    let running = client.run(&kept, ContainerSpec::living("running", 3600.0, 0)).await?;
    let exited = client.run(&kept, ContainerSpec::living("exited", 0.05, 3)).await?;
    client.exited(&exited).await?;
    let created = client.create(&kept, "created", &["true"]).await?;

    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(true).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    ensure!(plegd.metric("plegd_stream_replayed_messages_total") >= past.len() as f64, "no backlog came");
    // An event after it proves that the backlog is through.
    run_short_lives(&client, &kept, 3, 0.05).await?;
    plegd.until_told_of(client.history(), PATIENCE, |id| !past.contains(id)).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    let resurrected: Vec<_> = plegd.told.iter().filter(|event| past.contains(event.id.as_str())).collect();
    assert_eq!(resurrected.len(), 1, "{}", plegd.lines().join("\n"));
    assert_eq!(plegd.story(&kept.sandbox_id), ["Started"]);
    assert_eq!(plegd.story(&running), ["Started"]);
    assert_eq!(plegd.story(&exited), ["Started!", "Died(3 Error)"]);
    assert_eq!(plegd.story(&created), ["Changed"]);
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    finish(plegd, containerd).await
}

/// Subscribers of 1.7 take events from each other.
pub(super) async fn stolen_events_are_made_good() -> Result<()> {
    let containerd = Containerd::start(V1_7).await?;
    let client = containerd.client()?;
    let thief = answered_subscriber(&client).await?;
    let mut plegd = Follower::start_with(&containerd, compete)?;
    plegd.settled(true).await?;
    let stolen_before = thief.received();
    plegd.modes();

    // Each in a pod of its own: what is told of one container shows the others of its pod too.
    let names: Vec<String> = (0..12).map(|number| format!("pod-{number}")).collect();
    let runs = tokio::spawn({
        let client = client.clone();
        async move {
            let run = stream::iter(names).map(|name| {
                let client = client.clone();
                async move {
                    let pod = client.run_pod(&name).await?;
                    let id = client.run(&pod, ContainerSpec::living("main", 3.0, 5)).await?;
                    client.exited(&id).await?;
                    anyhow::Ok((pod, id))
                }
            });
            run.buffer_unordered(4).try_collect::<Vec<_>>().await
        }
    });
    plegd.until("the runs", 2 * PATIENCE, |_| runs.is_finished()).await?;
    let runs = runs.await??;
    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    for (pod, id) in &runs {
        client.remove(id).await?;
        client.stop_pod(pod).await?;
    }
    let stopped =
        |it: &Follower| runs.iter().all(|(pod, _)| it.has_told(&pod.sandbox_id, EventType::ContainerDied));
    plegd.until("the sandboxes' deaths", PATIENCE, stopped).await?;
    for (pod, _) in &runs {
        client.remove_pod(pod).await?;
    }
    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;

    ensure!(thief.received() > stolen_before + 10, "nothing was stolen");
    plegd.until("the misses", PATIENCE, |it| it.metric("plegd_missed_events_total") > 0.0).await?;
    ensure!(!plegd.modes().contains("polling"), "the stream was up all the time");
    // The longest relist period of 1.7 with its jitter, and what the relist itself takes.
    for event in &plegd.told {
        let late = event.occurred_at.map_or(0.0, |at| event.observed_at.seconds_since(at));
        assert!(late < 12.0, "{late} s: {event:?}");
    }
    finish(plegd, containerd).await
}

/// Pods of a Job, and how many run at a time: what a kubelet with EventedPLEG lost to plegd.
const JOB: (usize, usize) = (24, 6);
/// Pods after plegd has yielded the stream.
const AFTER: usize = 12;

/// On containerd 1.7, where subscribers share one channel, plegd takes few events; then the other subscriber gets all.
pub(super) async fn another_subscriber_receives_all_events() -> Result<()> {
    let containerd = Containerd::start(V1_7).await?;
    let client = containerd.client()?;
    let mut other = answered_subscriber(&client).await?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(true).await?;
    let (taken, received) = (plegd.metric(MESSAGES), other.received());
    run_pods(&mut plegd, &client, "job", JOB).await?;
    plegd.until("the yield", PATIENCE, |it| it.app.follower_status().yielded.is_some()).await?;
    plegd.until("the end of the stream", PATIENCE, |it| it.metric(CLOSED) == 1.0).await?;
    let (taken, received) = (plegd.metric(MESSAGES) - taken, other.received() - received);
    eprintln!(
        "plegd took {taken} events before it yielded, the other subscriber received {received} of {} pods",
        JOB.0
    );
    ensure!((1.0..=30.0).contains(&taken), "{taken} events are not few");
    // The closed stream takes one event more.
    let probe = client.run_pod("probe").await?;
    client.stop_pod(&probe).await?;
    client.remove_pod(&probe).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    other.drain();
    client.history().forget();

    run_pods(&mut plegd, &client, "after", (AFTER, 4)).await?;
    let whole = || 8 * AFTER;
    let mut events = Vec::new();
    while events.len() < whole() {
        events.push(other.next(PATIENCE).await.with_context(|| format!("after {} events", events.len()))?);
    }
    for id in client.history().by_id().keys() {
        let kinds: BTreeSet<i32> = (events.iter().filter(|event| event.container_id == *id))
            .map(|event| event.container_event_type)
            .collect();
        ensure!(kinds.len() == 4, "{id}: only events of types {kinds:?}");
    }
    plegd.until_truth(&client, PATIENCE).await?;
    ensure!(plegd.mode() == Mode::Polling && plegd.metric(CLOSED) == 1.0, "the stream stays closed");
    finish(plegd, containerd).await
}

const MESSAGES: &str = "plegd_stream_messages_total";
const CLOSED: &str = r#"plegd_stream_state{state="yielded"}"#;

/// Runs so many pods, each with one container that ends after a second, so many at a time, and removes them.
async fn run_pods(
    plegd: &mut Follower,
    client: &Client,
    name: &'static str,
    (pods, at_a_time): (usize, usize),
) -> Result<()> {
    let lives = tokio::spawn({
        let client = client.clone();
        async move {
            let lives = stream::iter(0..pods).map(|number| {
                let client = client.clone();
                async move { live_and_go(&client, &format!("{name}-{number}"), 1, 1.0).await }
            });
            lives.buffer_unordered(at_a_time).try_collect::<()>().await
        }
    });
    plegd.until("the pods", 3 * PATIENCE, |_| lives.is_finished()).await?;
    lives.await?
}

/// How many pods of two containers, and how many of them before plegd comes.
const CHURN: (usize, usize) = (40, 10);

pub(super) async fn a_churn_is_told_whole(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let (gone, mut going) = tokio::sync::mpsc::unbounded_channel();
    let churn = tokio::spawn({
        let client = client.clone();
        async move {
            let lives = stream::iter(0..CHURN.0).map(|number| {
                let (client, gone) = (client.clone(), gone.clone());
                async move {
                    live_and_go(&client, &format!("pod-{number}"), 2, 0.3).await?;
                    let _ = gone.send(());
                    anyhow::Ok(())
                }
            });
            lives.buffer_unordered(4).try_collect::<()>().await
        }
    });
    for _ in 0..CHURN.1 {
        going.recv().await.context("the churn ended early")?;
    }
    let removed: BTreeSet<String> = (client.history().by_id().into_iter())
        .filter(|(_, done)| done.contains(&What::Removed))
        .map(|(id, _)| id)
        .collect();
    let mut plegd = Follower::start(&containerd)?;
    plegd.until("the first relist", PATIENCE, |it| it.app.health().ready().ok).await?;
    // Between the two, lives had begun of which plegd need not have seen the beginning.
    let begun: BTreeSet<String> = client.history().by_id().into_keys().collect();
    plegd.until("the end of the churn", 3 * PATIENCE, |_| churn.is_finished()).await?;
    churn.await??;
    if version != V1_6 {
        plegd.until_told_of(client.history(), PATIENCE, |id| !begun.contains(id)).await?;
    }
    plegd.until_truth(&client, PATIENCE).await?;
    for id in &removed {
        assert_eq!(plegd.story(id), [""; 0], "removed before plegd came");
    }
    // What was there when plegd came, or was seen by polling, has been told to its end if it was told at all.
    for id in client.history().by_id().keys().filter(|id| !plegd.story(id).is_empty()) {
        assert_eq!(plegd.story(id).last().map(String::as_str), Some("Removed"), "{:?}", plegd.story(id));
    }
    ensure!(begun.len() < client.history().by_id().len(), "plegd came too late to follow anything");
    assert_eq!(plegd.app.cache().counts(), Counts::default());
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    finish(plegd, containerd).await
}

/// Another subscriber, who reads, and is certain to be served.
pub(super) async fn answered_subscriber(client: &Client) -> Result<EventStream> {
    let other = client.events()?;
    let pod = client.run_pod("probe").await?;
    other.answered(client, &pod).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    client.history().forget();
    Ok(other)
}

/// The whole life of a pod whose containers each live for `seconds`.
async fn live_and_go(client: &Client, name: &str, containers: u32, seconds: f64) -> Result<()> {
    let pod = client.run_pod(name).await?;
    let mut ids = Vec::new();
    for number in 0..containers {
        ids.push(client.run(&pod, ContainerSpec::living(&format!("c{number}"), seconds, 0)).await?);
    }
    for id in &ids {
        client.exited(id).await?;
        client.remove(id).await?;
    }
    client.stop_pod(&pod).await?;
    Ok(client.remove_pod(&pod).await?)
}
