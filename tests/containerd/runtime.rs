//! Faults of the runtime: it is killed, paused, or loses its shim.

use std::time::Duration;

use anyhow::{Result, ensure};
use plegd::model::{EventType, Mode, Source};

use super::{
    finish,
    lab::{
        ContainerSpec, Containerd, Follower, TIMEOUT,
        Version::{self, V1_6},
        run_short_containers,
    },
};

pub(super) async fn a_killed_containerd_is_followed_again(version: Version) -> Result<()> {
    let mut containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(version != V1_6).await?;
    for round in 0..2 {
        let kept = client.run_pod(&format!("kept-{round}")).await?;
        let lost = client.run_pod(&format!("lost-{round}")).await?;
        let dies = client.run(&kept, ContainerSpec::sleeping("dies", 3600.0, 0)).await?;
        let stays = client.run(&kept, ContainerSpec::sleeping("stays", 3600.0, 0)).await?;
        let inside = client.run(&lost, ContainerSpec::sleeping("inside", 3600.0, 0)).await?;
        let ends = client.run(&kept, ContainerSpec::sleeping("ends", 3.0, 9)).await?;
        let ids = [&kept.sandbox_id, &lost.sandbox_id, &dies, &stays, &inside, &ends];
        let started = |it: &Follower| ids.iter().all(|id| it.has_published(id, EventType::ContainerStarted));
        plegd.until("the starts", TIMEOUT, started).await?;

        containerd.kill9()?;
        for id in [&dies, &lost.sandbox_id] {
            containerd.kill_processes_of(id)?;
        }
        for id in [&dies, &lost.sandbox_id, &ends] {
            containerd.until_ended(id).await?;
        }
        plegd.until("polling", TIMEOUT, |it| it.mode() == Mode::Polling).await?;
        containerd.restart().await?;
        if round == 1 {
            // A second restart, before plegd follows the runtime again.
            containerd.restart().await?;
        }
        // The stream may not be back yet; the runtime keeps the events that it could not send.
        let shorts = run_short_containers(&client, &kept, 5, 0.05).await?;
        let mut codes = Vec::new();
        for id in [&dies, &ends] {
            codes.push((id, client.exited(id).await?));
        }
        let published_dead = |it: &Follower| {
            [&dies, &ends, &lost.sandbox_id].iter().all(|id| it.has_published(id, EventType::ContainerDied))
        };
        plegd.until("the deaths meanwhile", Duration::from_secs(15), published_dead).await?;
        for (id, status) in codes {
            let died = format!("Died({} {})", status.exit_code, status.reason);
            assert_eq!(plegd.history_of(id).last(), Some(&died));
        }
        for id in [&stays, &inside] {
            assert!(!plegd.has_published(id, EventType::ContainerDied), "{:?}", plegd.history_of(id));
        }
        plegd.until_truth(&client, Duration::from_secs(15)).await?;
        if version != V1_6 {
            let of_these = |id: &str| shorts.iter().any(|short| short == id);
            plegd.until_published_for(client.history(), Duration::from_secs(15), of_these).await?;
            plegd.until("the stream", Duration::from_secs(15), |it| it.mode() != Mode::Polling).await?;
        }
    }
    if version != V1_6 {
        let pod = client.run_pod("after").await?;
        let ids = run_short_containers(&client, &pod, 10, 0.05).await?;
        let of_these = |id: &str| ids.iter().any(|short| short == id);
        plegd.until_published_for(client.history(), TIMEOUT, of_these).await?;
        let events = plegd.published.iter().filter(|event| of_these(event.id.as_str()));
        let from_stream = events.clone().filter(|event| event.source == Source::Event).count();
        // A relist may report some changes first, but not all of these short containers.
        assert!(from_stream * 10 >= events.count() * 9, "{}", plegd.lines().join("\n"));
    }
    client.remove_all_pods().await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    finish(plegd, containerd).await
}

pub(super) async fn a_paused_containerd_loses_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start_with(&containerd, |config| {
        config.runtime.request_timeout = Duration::from_secs(1);
        // Relists continue while containerd is paused, and fail.
        config.relist.max_period = config.relist.period;
    })?;
    plegd.until_following(version != V1_6).await?;
    let pod = client.run_pod("stopped").await?;
    let dies = client.run(&pod, ContainerSpec::sleeping("dies", 3600.0, 0)).await?;
    let stays = client.run(&pod, ContainerSpec::sleeping("stays", 3600.0, 0)).await?;
    plegd.until_published(client.history(), TIMEOUT).await?;

    containerd.sigstop().await?;
    containerd.kill_processes_of(&dies)?;
    // Calls in flight during the pause end after it.
    let calls = tokio::spawn({
        let (client, pod) = (client.clone(), pod.clone());
        async move { client.run(&pod, ContainerSpec::sleeping("late", 3600.0, 0)).await }
    });
    let failed = |it: &Follower| {
        assert!(it.app.health().live().ok, "{:?}", it.app.health().live());
        it.metric(r#"plegd_cri_requests_total{code="DeadlineExceeded""#) >= 3.0
    };
    plegd.until("relists that fail", TIMEOUT, failed).await?;
    assert!(plegd.app.health().ready().ok, "plegd stays ready with the last known state");
    containerd.sigcont()?;
    let late = calls.await??;
    client.exited(&dies).await?;
    plegd.until_published(client.history(), Duration::from_secs(15)).await?;
    plegd.until_truth(&client, Duration::from_secs(15)).await?;
    assert_eq!(plegd.history_of(&dies).last().map(String::as_str), Some("Died(137 Error)"));
    for id in [&stays, &late] {
        assert_eq!(plegd.history_of(id).last().map(String::as_str), Some("Started"));
    }
    ensure!(plegd.app.health().live().ok && plegd.app.health().ready().ok, "{:?}", plegd.app.health().live());
    finish(plegd, containerd).await
}

pub(super) async fn a_crashed_shim_is_published(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(version != V1_6).await?;
    let pod = client.run_pod("headless").await?;
    let ids = [
        client.run(&pod, ContainerSpec::sleeping("one", 3600.0, 0)).await?,
        client.run(&pod, ContainerSpec::sleeping("two", 3600.0, 0)).await?,
    ];
    plegd.until_published(client.history(), TIMEOUT).await?;
    containerd.kill_shim_of(&pod.sandbox_id)?;
    for id in &ids {
        client.exited(id).await?;
    }
    plegd.until_published_for(client.history(), TIMEOUT, |id| id != pod.sandbox_id).await?;
    let died = |it: &Follower| it.has_published(&pod.sandbox_id, EventType::ContainerDied);
    plegd.until("the sandbox's death", TIMEOUT, died).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    finish(plegd, containerd).await
}
