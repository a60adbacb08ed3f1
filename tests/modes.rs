//! Each simulated runtime gets the mode that suits it, and returns to it after faults of the runtime.

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    config::{Config, SharedStream},
    model::ContainerState,
    model::Mode,
    sim::{CallFault, Dose, Method, Profile, v1::ContainerEventResponse},
};
use support::Harness;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

fn large_journal(config: &mut Config) {
    config.journal.events = 1_000_000;
}

#[tokio::test(start_paused = true)]
async fn every_runtime_gets_its_mode_and_period_and_churn_is_published() {
    for (profile, mode, seconds) in [
        (Profile::CONTAINERD_1_6, Mode::Polling, 1),
        (Profile::CONTAINERD_1_7, Mode::Evented, 10),
        (Profile::CONTAINERD_2_1, Mode::Evented, 60),
        (Profile::CONTAINERD_2_3, Mode::Evented, 60),
        (Profile::CONTAINERD_2_4, Mode::Evented, 60),
        (Profile::CRI_O_1_26, Mode::Evented, 10),
        (Profile::CRI_O_1_28, Mode::Evented, 60),
        (Profile::CRI_O_1_31, Mode::Evented, 60),
        (Profile::CRI_O_1_34, Mode::Evented, 60),
        (Profile::CRI_O_1_31_EVENTS_OFF, Mode::Polling, 1),
    ] {
        let mut harness = Harness::after(profile, 3, large_journal, |_| ()).await;
        harness.pass(4 * MINUTE).await;
        let follower_status = harness.app.follower_status();
        assert_eq!(
            (follower_status.mode, follower_status.period.as_secs()),
            (mode, seconds),
            "{}",
            profile.name
        );
        let shown = [harness.metric("plegd_ready"), harness.metric("plegd_stream_shared")];
        let shared = [Profile::CONTAINERD_1_7.name, Profile::CRI_O_1_26.name].contains(&profile.name);
        assert_eq!(shown, [1.0, f64::from(u8::from(shared))], "{}", profile.name);
        harness.churn(3, 250).await;
        harness.pass(90 * SECOND).await;
        assert_eq!(harness.differences(), NONE, "{}", profile.name);
        assert_eq!(harness.violations(), NONE, "{}: {:#?}", profile.name, harness.lines());
        assert_eq!(harness.missed_events(), 0.0, "{}: no event was missed", profile.name);
        // Unpublished are at most the containers that existed only between two relists.
        let history = harness.sim.history();
        let ids: std::collections::BTreeSet<&str> = history.iter().map(|change| change.id.as_str()).collect();
        let unpublished = ids.iter().filter(|id| harness.history(id).is_empty()).count();
        if mode == Mode::Evented && profile.runtime_name == "containerd" {
            assert_eq!(unpublished, 0, "{}", profile.name);
        }
        assert!(unpublished * 3 < ids.len(), "{}: {unpublished} of {}", profile.name, ids.len());
        let lists = (harness.calls_of(Method::StreamContainers), harness.calls_of(Method::ListContainers));
        assert_eq!(profile.stream_batch.is_some(), lists.0 > lists.1, "{}: {lists:?}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn another_subscriber_on_a_shared_channel_is_detected_and_the_state_converges() {
    let compete = |config: &mut Config| {
        large_journal(config);
        config.stream.shared = SharedStream::Compete;
    };
    for profile in [Profile::CONTAINERD_1_7, Profile::CRI_O_1_26] {
        let mut harness = Harness::after(profile, 5, compete, |_| ()).await;
        harness.until_evented().await;
        let mut other_client = harness.sim.queue().subscribe();
        let other_task = tokio::spawn(async move { while other_client.next().await.is_some() {} });
        for round in 0..3 {
            harness.churn(5 + round, 100).await;
            assert_eq!(harness.app.follower_status().mode, Mode::Probing, "{}", profile.name);
            // The longest period is 10 s here; the reads come after it.
            harness.pass(12 * SECOND).await;
            assert_eq!(harness.differences(), NONE, "{}", profile.name);
        }
        assert!(harness.missed_events() > 0.0, "{}", profile.name);
        assert_eq!(
            harness.metric("plegd_stream_connects_total"),
            1.0,
            "{}: the stream is kept",
            profile.name
        );
        other_task.abort();
        harness.pass(2 * MINUTE).await;
        assert_eq!(harness.violations(), NONE, "{}: {:#?}", profile.name, harness.lines());
        harness.until_evented().await;
    }
}

#[tokio::test(start_paused = true)]
async fn changes_during_a_restart_are_published_once_and_the_mode_comes_back() {
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut harness = Harness::after(profile, 2, large_journal, |_| ()).await;
        harness.churn(2, 150).await;
        harness.until_evented().await;
        let pod = harness.pod();
        let [ends, lost, stays] = ["ends", "lost", "stays"].map(|name| harness.start(&pod, name));
        harness.pass(2 * SECOND).await;
        harness.sim.crash();
        harness.pass(5 * SECOND).await;
        assert_eq!(harness.app.follower_status().mode, Mode::Polling);
        assert!(harness.app.health().ready().ok && harness.app.health().live().ok);
        harness.change(|truth| truth.exit(&ends, 4).expect("exit"));
        harness.change(|truth| truth.lose_task(&lost).expect("lose"));
        harness.sim.recover_in(SECOND).expect("recover");
        harness.pass(5 * SECOND).await;
        assert_eq!(
            harness.history(&ends).last().map(String::as_str),
            Some("Died(4 Error)"),
            "{}",
            profile.name
        );
        assert_eq!(
            harness.history(&lost).last().map(String::as_str),
            Some("Died(255 Unknown)"),
            "{}",
            profile.name
        );
        assert_eq!(harness.history(&stays).last().map(String::as_str), Some("Started"), "{}", profile.name);
        harness.pass(5 * MINUTE).await;
        assert_eq!(harness.app.follower_status().mode, Mode::Evented, "{}", profile.name);
        assert_eq!(harness.differences(), NONE, "{}", profile.name);
        assert_eq!(harness.violations(), NONE, "{}: {:#?}", profile.name, harness.lines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_a_restarted_runtime_cannot_load_is_unknown_until_it_is_loaded() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.until_evented().await;
    harness.sim.crash();
    harness.change(|truth| truth.fail_load(&id).expect("fail"));
    harness.change(|truth| truth.fail_sandbox_load(&pod.sandbox));
    harness.sim.recover().expect("recover");
    harness.pass(3 * SECOND).await;
    assert_eq!(
        harness.served(&pod).expect("served").container(&id).expect("there").state,
        ContainerState::Unknown
    );
    assert_eq!(harness.served(&pod).expect("served").ips.len(), 1);
    harness.change(|truth| truth.load_container(&id).expect("load"));
    harness.change(|truth| truth.load_sandbox(&pod.sandbox));
    harness.pass(3 * MINUTE).await;
    assert_eq!(harness.history(&id), ["Changed", "Started", "Changed", "Changed"]);
    assert_eq!(harness.history(&pod.sandbox), ["Started", "Died", "Started"]);
    assert_eq!(harness.differences(), NONE);
    harness.change(|truth| truth.exit(&id, 0).expect("exit"));
    harness.pass(SECOND).await;
    assert_eq!(harness.history(&id).last().map(String::as_str), Some("Died(0 Completed)"));
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_is_opened_again_and_changes_meanwhile_are_published() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    harness.until_evented().await;
    for n in 0..5 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(SECOND).await;
        harness.sim.cut_streams((n % 2 == 0).then(|| tonic::Status::internal("cut")));
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(3 * SECOND).await;
        assert_eq!(harness.history(&id), ["Changed", "Started", "Died(1 Error)"], "cut {n}");
    }
    assert!(harness.metric("plegd_fallback_seconds_count") >= 5.0);
    assert_eq!(harness.missed_events(), 0.0, "changes while the stream is down do not count as missed");
    harness.until_evented().await;
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_gets_events_after_an_update_is_followed_by_events() {
    let refuse = |sim: &plegd::sim::SimRuntime| {
        let unimplemented = CallFault::fail(tonic::Code::Unimplemented);
        sim.faults().calls(Method::GetContainerEvents, unimplemented, Dose::Always);
    };
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, |_| (), refuse).await;
    harness.pass(10 * MINUTE).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Polling);
    assert!(harness.calls_of(Method::GetContainerEvents) <= 16, "about one try per minute");
    harness.sim.faults().clear();
    harness.pass(4 * MINUTE).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Evented);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_configuration_switches_off_is_not_opened() {
    let off = |config: &mut Config| config.stream.enabled = false;
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, off, |_| ()).await;
    harness.churn(1, 100).await;
    harness.pass(10 * SECOND).await;
    assert_eq!(harness.calls_of(Method::GetContainerEvents), 0);
    assert_eq!(harness.app.follower_status().mode, Mode::Polling);
    assert_eq!(harness.metric(r#"plegd_stream_state{state="off"}"#), 1.0, "off, which fires no alert");
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_stopped_and_continued_is_followed_again() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(SECOND).await;
    harness.sim.faults().hang(plegd::sim::Target::Process);
    harness.change(|truth| truth.exit(&id, 6).expect("exit"));
    harness.pass(3 * MINUTE).await;
    assert_eq!(harness.history(&id).len(), 2, "the exit is not known yet");
    assert!(harness.app.health().ready().ok && harness.app.health().live().ok);
    harness.sim.faults().release(&plegd::sim::Target::Process);
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&id), ["Changed", "Started", "Died(6 Error)"]);
    harness.pass(5 * MINUTE).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Evented);
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn events_of_unknown_ids_cause_a_limited_rate_of_relists() {
    for (a_list, lists) in [(Duration::ZERO, 38..=42), (SECOND / 5, 11..=14)] {
        let mut harness = Harness::new(Profile::CONTAINERD_2_1);
        harness.until_evented().await;
        for method in [Method::ListPodSandbox, Method::ListContainers] {
            harness.sim.faults().calls(method, CallFault::Late(a_list), Dose::Always);
        }
        let before = harness.calls_of(Method::ListContainers);
        for n in 0..1000 {
            let container_id = format!("unknown-{n}");
            let event = ContainerEventResponse { container_id, ..ContainerEventResponse::default() };
            let _ = harness.sim.queue().send(event);
            harness.pass(SECOND / 100).await;
        }
        let listed = harness.calls_of(Method::ListContainers) - before;
        assert!(lists.contains(&listed), "{listed} lists of {:?} each in 10 s", 2 * a_list);
    }
}
