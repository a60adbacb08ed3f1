//! What goes wrong with the runtime: it is killed, it stops, or its shim is gone.

use std::time::Duration;

use anyhow::{Result, ensure};
use plegd::{
    model::{EventType, Source},
    supervisor::Mode,
};

use super::{
    finish,
    lab::{
        ContainerSpec, Containerd, Follower, PATIENCE,
        Version::{self, V1_6},
        run_short_lives,
    },
};

pub(super) async fn a_killed_containerd_is_followed_again(version: Version) -> Result<()> {
    let mut containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(version != V1_6).await?;
    for round in 0..2 {
        let kept = client.run_pod(&format!("kept-{round}")).await?;
        let lost = client.run_pod(&format!("lost-{round}")).await?;
        let dies = client.run(&kept, ContainerSpec::living("dies", 3600.0, 0)).await?;
        let stays = client.run(&kept, ContainerSpec::living("stays", 3600.0, 0)).await?;
        let inside = client.run(&lost, ContainerSpec::living("inside", 3600.0, 0)).await?;
        let ends = client.run(&kept, ContainerSpec::living("ends", 3.0, 9)).await?;
        let ids = [&kept.sandbox_id, &lost.sandbox_id, &dies, &stays, &inside, &ends];
        let started = |it: &Follower| ids.iter().all(|id| it.has_told(id, EventType::ContainerStarted));
        plegd.until("the starts", PATIENCE, started).await?;

        containerd.kill9()?;
        for id in [&dies, &lost.sandbox_id] {
            containerd.kill_processes_of(id)?;
        }
        for id in [&dies, &lost.sandbox_id, &ends] {
            containerd.until_ended(id).await?;
        }
        plegd.until("polling", PATIENCE, |it| it.mode() == Mode::Polling).await?;
        containerd.restart().await?;
        if round == 1 {
            // And once more, before plegd can have come to rest.
            containerd.restart().await?;
        }
        // The stream may not be back yet; the runtime keeps what it has not been able to send.
        let shorts = run_short_lives(&client, &kept, 5, 0.05).await?;
        let mut codes = Vec::new();
        for id in [&dies, &ends] {
            codes.push((id, client.exited(id).await?));
        }
        let told_dead = |it: &Follower| {
            [&dies, &ends, &lost.sandbox_id].iter().all(|id| it.has_told(id, EventType::ContainerDied))
        };
        plegd.until("what died meanwhile", Duration::from_secs(15), told_dead).await?;
        for (id, status) in codes {
            let died = format!("Died({} {})", status.exit_code, status.reason);
            assert_eq!(plegd.story(id).last(), Some(&died));
        }
        for id in [&stays, &inside] {
            assert!(!plegd.has_told(id, EventType::ContainerDied), "{:?}", plegd.story(id));
        }
        plegd.until_truth(&client, Duration::from_secs(15)).await?;
        if version != V1_6 {
            let of_these = |id: &str| shorts.iter().any(|short| short == id);
            plegd.until_told_of(client.history(), Duration::from_secs(15), of_these).await?;
            plegd.until("the stream", Duration::from_secs(15), |it| it.mode() != Mode::Polling).await?;
        }
    }
    if version != V1_6 {
        let pod = client.run_pod("after").await?;
        let ids = run_short_lives(&client, &pod, 10, 0.05).await?;
        let of_these = |id: &str| ids.iter().any(|short| short == id);
        plegd.until_told_of(client.history(), PATIENCE, of_these).await?;
        let events = plegd.told.iter().filter(|event| of_these(event.id.as_str()));
        let from_stream = events.clone().filter(|event| event.source == Source::Event).count();
        // A relist may be first now and then; what it cannot do is see all of such lives.
        assert!(from_stream * 10 >= events.count() * 9, "{}", plegd.lines().join("\n"));
    }
    client.remove_all_pods().await?;
    plegd.until_truth(&client, PATIENCE).await?;
    finish(plegd, containerd).await
}

pub(super) async fn a_stopped_containerd_costs_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start_with(&containerd, |config| {
        config.runtime.request_timeout = Duration::from_secs(1);
        // Relists go on while it is stopped, and fail.
        config.relist.max_period = config.relist.period;
    })?;
    plegd.settled(version != V1_6).await?;
    let pod = client.run_pod("stopped").await?;
    let dies = client.run(&pod, ContainerSpec::living("dies", 3600.0, 0)).await?;
    let stays = client.run(&pod, ContainerSpec::living("stays", 3600.0, 0)).await?;
    plegd.until_told(client.history(), PATIENCE).await?;

    containerd.sigstop().await?;
    containerd.kill_processes_of(&dies)?;
    // Calls that are under way when it stops: they end when it goes on.
    let calls = tokio::spawn({
        let (client, pod) = (client.clone(), pod.clone());
        async move { client.run(&pod, ContainerSpec::living("late", 3600.0, 0)).await }
    });
    let failed = |it: &Follower| {
        assert!(it.app.health().live().ok, "{:?}", it.app.health().live());
        it.metric(r#"plegd_cri_requests_total{code="DeadlineExceeded""#) >= 3.0
    };
    plegd.until("relists that fail", PATIENCE, failed).await?;
    assert!(plegd.app.health().ready().ok, "what it serves is as good as it can be");
    containerd.sigcont()?;
    let late = calls.await??;
    client.exited(&dies).await?;
    plegd.until_told(client.history(), Duration::from_secs(15)).await?;
    plegd.until_truth(&client, Duration::from_secs(15)).await?;
    assert_eq!(plegd.story(&dies).last().map(String::as_str), Some("Died(137 Error)"));
    for id in [&stays, &late] {
        assert_eq!(plegd.story(id).last().map(String::as_str), Some("Started"));
    }
    ensure!(plegd.app.health().live().ok && plegd.app.health().ready().ok, "{:?}", plegd.app.health().live());
    finish(plegd, containerd).await
}

pub(super) async fn a_crashed_shim_is_told(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(version != V1_6).await?;
    let pod = client.run_pod("headless").await?;
    let ids = [
        client.run(&pod, ContainerSpec::living("one", 3600.0, 0)).await?,
        client.run(&pod, ContainerSpec::living("two", 3600.0, 0)).await?,
    ];
    plegd.until_told(client.history(), PATIENCE).await?;
    containerd.kill_shim_of(&pod.sandbox_id)?;
    for id in &ids {
        client.exited(id).await?;
    }
    plegd.until_told_of(client.history(), PATIENCE, |id| id != pod.sandbox_id).await?;
    let died = |it: &Follower| it.has_told(&pod.sandbox_id, EventType::ContainerDied);
    plegd.until("the sandbox's death", PATIENCE, died).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    finish(plegd, containerd).await
}
