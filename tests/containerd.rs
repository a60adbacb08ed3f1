//! plegd's promises, on real containerd: 2.1, 1.7 and 1.6, each test on one of its own (see `lab`).
//!
//! plegd runs in the test's process; what it tells is held against what the test's own calls did, what it serves against
//! what the runtime says. Whatever a test is about, it also fails on anything told twice, out of order or with a hole in the
//! numbers (see `Follower`).
//!
//! These tests need root, and Debian's archive the first time. They run in parallel as they are:
//! `cargo test --test containerd -- --ignored`.

mod lab;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use lab::{
    Client, ContainerSpec, Containerd, EventStream, Follower, PATIENCE, Version, What, cri, eventually,
    run_short_lives,
};
use plegd::{
    cache::Census,
    config::Config,
    model::{ContainerState, EventType, SandboxState, Source},
    supervisor::Mode,
};

/// One test of each scenario and version, so that each can be run and fails on its own.
macro_rules! on_versions {
    ($($test:ident = $scenario:ident($($argument:expr),*);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs root and Debian's containerd packages: see README"]
        async fn $test() -> Result<()> {
            $scenario($($argument),*).await
        }
    )*};
}

use Version::{V1_6, V1_7, V2_1};

on_versions! {
    every_life_however_short_is_told_from_the_stream_of_2_1 = every_life_is_told_from_the_stream(V2_1, Company::Alone);
    every_life_however_short_is_told_with_a_second_subscriber_on_2_1 = every_life_is_told_from_the_stream(V2_1, Company::Subscriber);
    every_life_however_short_is_told_from_the_stream_of_1_7 = every_life_is_told_from_the_stream(V1_7, Company::Alone);
    lives_longer_than_two_relists_are_told_by_polling_1_6 = longer_lives_are_told_by_polling();
    what_came_and_went_before_is_not_told_on_2_1 = what_came_and_went_before_is_not_told(V2_1);
    what_came_and_went_before_is_not_told_on_1_7 = what_came_and_went_before_is_not_told(V1_7);
    stolen_events_of_1_7_are_missed_counted_and_made_good = stolen_events_are_made_good();
    a_killed_containerd_2_1_is_followed_again_and_what_died_meanwhile_is_told = a_killed_containerd_is_followed_again(V2_1);
    a_killed_containerd_1_7_is_followed_again_and_what_died_meanwhile_is_told = a_killed_containerd_is_followed_again(V1_7);
    a_killed_containerd_1_6_is_followed_again_and_what_died_meanwhile_is_told = a_killed_containerd_is_followed_again(V1_6);
    a_stopped_containerd_2_1_costs_nothing_once_it_goes_on = a_stopped_containerd_costs_nothing(V2_1);
    a_stopped_containerd_1_7_costs_nothing_once_it_goes_on = a_stopped_containerd_costs_nothing(V1_7);
    a_stopped_containerd_1_6_costs_nothing_once_it_goes_on = a_stopped_containerd_costs_nothing(V1_6);
    a_failed_start_is_told_although_no_event_tells_it = a_failed_start_is_told();
    an_oom_kill_is_told_as_one_on_2_1 = an_oom_kill_is_told_as_one(V2_1);
    an_oom_kill_is_told_as_one_on_1_6 = an_oom_kill_is_told_as_one(V1_6);
    both_sandboxes_of_a_pod_are_seen_on_2_1 = both_sandboxes_of_a_pod_are_seen(V2_1);
    both_sandboxes_of_a_pod_are_seen_on_1_6 = both_sandboxes_of_a_pod_are_seen(V1_6);
    a_churn_is_told_whole_and_leaves_nothing_in_the_cache_on_2_1 = a_churn_is_told_whole(V2_1);
    a_churn_is_told_whole_and_leaves_nothing_in_the_cache_on_1_7 = a_churn_is_told_whole(V1_7);
    a_churn_of_1_6_is_told_in_order_and_leaves_nothing_in_the_cache = a_churn_is_told_whole(V1_6);
    a_crashed_shim_is_told_as_the_end_of_all_in_its_pod_on_2_1 = a_crashed_shim_is_told(V2_1);
    a_crashed_shim_is_told_as_the_end_of_all_in_its_pod_on_1_7 = a_crashed_shim_is_told(V1_7);
    a_crashed_shim_is_told_as_the_end_of_all_in_its_pod_on_1_6 = a_crashed_shim_is_told(V1_6);
    a_read_newer_than_a_call_shows_what_the_call_did_on_2_1 = a_newer_read_shows_what_was_done(V2_1);
    a_read_newer_than_a_call_shows_what_the_call_did_on_1_6 = a_newer_read_shows_what_was_done(V1_6);
}

/// What the stream tells it should tell by itself: but for those that a new stream calls for, relists stay out of it.
fn without_relists(config: &mut Config) {
    (config.relist.period, config.relist.max_period) = (Duration::from_secs(600), Duration::from_secs(600));
}

/// Who else is subscribed.
enum Company {
    Alone,
    Subscriber,
}

async fn every_life_is_told_from_the_stream(version: Version, company: Company) -> Result<()> {
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

async fn longer_lives_are_told_by_polling() -> Result<()> {
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
async fn what_came_and_went_before_is_not_told(version: Version) -> Result<()> {
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
async fn stolen_events_are_made_good() -> Result<()> {
    let containerd = Containerd::start(V1_7).await?;
    let client = containerd.client()?;
    let thief = answered_subscriber(&client).await?;
    let mut plegd = Follower::start(&containerd)?;
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

async fn a_killed_containerd_is_followed_again(version: Version) -> Result<()> {
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

async fn a_stopped_containerd_costs_nothing(version: Version) -> Result<()> {
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

async fn a_failed_start_is_told() -> Result<()> {
    let containerd = Containerd::start(V2_1).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start_with(&containerd, without_relists)?;
    plegd.settled(true).await?;
    let pod = client.run_pod("broken").await?;
    let id = client.create(&pod, "missing", &["/no/such/binary"]).await?;
    ensure!(client.start(&id).await.is_err(), "a missing binary was started");
    plegd.until_told(client.history(), Duration::from_secs(7)).await?;
    assert_eq!(plegd.story(&id), ["Changed", "Died(128 StartError)"]);
    plegd.until_truth(&client, PATIENCE).await?;
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    finish(plegd, containerd).await
}

async fn an_oom_kill_is_told_as_one(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(version != V1_6).await?;
    let pod = client.run_pod("greedy").await?;
    let spec =
        ContainerSpec { memory_limit_bytes: 16 << 20, ..ContainerSpec::new("main", &["tail", "/dev/zero"]) };
    let id = client.run(&pod, spec).await?;
    assert_eq!(client.exited(&id).await?.exit_code, 137);
    plegd.until_told(client.history(), Duration::from_secs(5)).await?;
    let said = |it: &Follower| it.events_of(&id).any(|event| event.reason == "OOMKilled");
    plegd.until("OOMKilled: can this machine limit memory by cgroup?", Duration::from_secs(5), said).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    finish(plegd, containerd).await
}

async fn both_sandboxes_of_a_pod_are_seen(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(version != V1_6).await?;
    let first = client.run_pod("again").await?;
    let old = client.run(&first, ContainerSpec::living("main", 3600.0, 0)).await?;
    plegd.until_told(client.history(), PATIENCE).await?;
    client.stop_pod(&first).await?;
    let second = client.run_pod_again(&first).await?;
    let new =
        client.run(&second, ContainerSpec { attempt: 1, ..ContainerSpec::living("main", 3600.0, 0) }).await?;
    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;

    let pod = plegd.pod(&first).context("the pod is not served")?;
    let sandboxes: Vec<_> =
        pod.sandboxes.iter().map(|sandbox| (sandbox.id.as_str(), sandbox.state)).collect();
    assert_eq!(
        sandboxes,
        [
            (second.sandbox_id.as_str(), SandboxState::Ready),
            (first.sandbox_id.as_str(), SandboxState::NotReady)
        ]
    );
    let containers: Vec<_> = pod
        .containers
        .iter()
        .map(|container| (container.id.as_str(), container.sandbox_id.as_str()))
        .collect();
    assert_eq!(
        containers,
        [(new.as_str(), second.sandbox_id.as_str()), (old.as_str(), first.sandbox_id.as_str())]
    );

    client.remove_pod(&first).await?;
    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    let pod = plegd.pod(&second).context("the pod is not served")?;
    assert_eq!(pod.sandboxes.len(), 1);
    assert_eq!(pod.sandbox().map(|sandbox| sandbox.attempt), Some(1));
    assert!(!plegd.has_told(&second.sandbox_id, EventType::ContainerDied));
    finish(plegd, containerd).await
}

/// How many pods of two containers, and how many of them before plegd comes.
const CHURN: (usize, usize) = (40, 10);

async fn a_churn_is_told_whole(version: Version) -> Result<()> {
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
    assert_eq!(plegd.app.cache().census(), Census::default());
    assert_eq!(plegd.metric("plegd_missed_events_total"), 0.0);
    finish(plegd, containerd).await
}

async fn a_crashed_shim_is_told(version: Version) -> Result<()> {
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

async fn a_newer_read_shows_what_was_done(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start_with(&containerd, without_relists)?;
    plegd.settled(version != V1_6).await?;
    let pod = client.run_pod("fresh").await?;
    let uid = pod.uid.as_str().into();
    let read = async |id: &str| {
        let app = &plegd.app;
        let read = app.pod_newer_than(&uid, app.clock().now(), Duration::from_secs(5)).await?;
        let pod = read.as_ref();
        anyhow::Ok(pod.map(|pod| pod.container(id).map(|container| container.state)))
    };
    assert_eq!(read("").await?, Some(None), "the pod");
    let id = client.create(&pod, "main", &["sleep", "3600"]).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Created)));
    client.start(&id).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Running)));
    client.stop(&id, Duration::ZERO).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Exited)));
    client.remove(&id).await?;
    assert_eq!(read(&id).await?, Some(None));
    // Removed as it runs: nobody has said that it died.
    let id = client.run(&pod, ContainerSpec::living("running", 3600.0, 0)).await?;
    assert_eq!(read(&id).await?, Some(Some(ContainerState::Running)));
    client.remove(&id).await?;
    assert_eq!(read(&id).await?, Some(None));
    client.stop_pod(&pod).await?;
    client.remove_pod(&pod).await?;
    assert_eq!(read("").await?, None);
    plegd.until_truth(&client, PATIENCE).await?;
    finish(plegd, containerd).await
}

// --- Helpers ---

/// Another subscriber, who reads, and is certain to be served.
async fn answered_subscriber(client: &Client) -> Result<EventStream> {
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

/// Ends both as a test should, and sees that nothing is left.
async fn finish(plegd: Follower, containerd: Containerd) -> Result<()> {
    plegd.stop().await?;
    let left = containerd.shutdown().await?;
    ensure!(left == lab::Leftovers::default(), "left behind: {left}");
    Ok(())
}
