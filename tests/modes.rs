//! Every simulated runtime is followed in the mode that suits it, and back in it after whatever happens to the runtime.

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    config::{Config, SharedStream},
    model::ContainerState,
    sim::{CallFault, Dose, Method, Profile, v1::ContainerEventResponse},
    supervisor::Mode,
};
use support::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

fn roomy(config: &mut Config) {
    config.journal.events = 1_000_000;
}

#[tokio::test(start_paused = true)]
async fn every_runtime_comes_to_its_mode_and_period_and_churn_is_told() {
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
        let mut world = World::after(profile, 3, roomy, |_| ()).await;
        world.pass(4 * MINUTE).await;
        let follower_status = world.app.follower_status();
        assert_eq!(
            (follower_status.mode, follower_status.period.as_secs()),
            (mode, seconds),
            "{}",
            profile.name
        );
        let shown = [world.metric("plegd_ready"), world.metric("plegd_stream_shared")];
        let shared = [Profile::CONTAINERD_1_7.name, Profile::CRI_O_1_26.name].contains(&profile.name);
        assert_eq!(shown, [1.0, f64::from(u8::from(shared))], "{}", profile.name);
        world.churn(3, 250).await;
        world.pass(90 * SECOND).await;
        assert_eq!(world.differences(), NONE, "{}", profile.name);
        assert_eq!(world.absurdities(), NONE, "{}: {:#?}", profile.name, world.lines());
        assert_eq!(world.misses(), 0.0, "{}: nothing was stolen or lost", profile.name);
        // Of the containers, at most those are untold that came and went between two relists.
        let history = world.sim.history();
        let ids: std::collections::BTreeSet<&str> = history.iter().map(|change| change.id.as_str()).collect();
        let untold = ids.iter().filter(|id| world.story(id).is_empty()).count();
        if mode == Mode::Evented && profile.runtime_name == "containerd" {
            assert_eq!(untold, 0, "{}", profile.name);
        }
        assert!(untold * 3 < ids.len(), "{}: {untold} of {}", profile.name, ids.len());
        let lists = (world.calls_of(Method::StreamContainers), world.calls_of(Method::ListContainers));
        assert_eq!(profile.stream_batch.is_some(), lists.0 > lists.1, "{}: {lists:?}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thief_on_a_shared_channel_is_noticed_and_nothing_stays_wrong_for_long() {
    let compete = |config: &mut Config| {
        roomy(config);
        config.stream.shared = SharedStream::Compete;
    };
    for profile in [Profile::CONTAINERD_1_7, Profile::CRI_O_1_26] {
        let mut world = World::after(profile, 5, compete, |_| ()).await;
        world.until_evented().await;
        let mut stolen = world.sim.queue().subscribe();
        let thief = tokio::spawn(async move { while stolen.next().await.is_some() {} });
        for round in 0..3 {
            world.churn(5 + round, 100).await;
            assert_eq!(world.app.follower_status().mode, Mode::Probing, "{}", profile.name);
            // The longest period is 10 s here; then come the reads.
            world.pass(12 * SECOND).await;
            assert_eq!(world.differences(), NONE, "{}", profile.name);
        }
        assert!(world.misses() > 0.0, "{}", profile.name);
        assert_eq!(world.metric("plegd_stream_connects_total"), 1.0, "{}: the stream is kept", profile.name);
        thief.abort();
        world.pass(2 * MINUTE).await;
        assert_eq!(world.absurdities(), NONE, "{}: {:#?}", profile.name, world.lines());
        world.until_evented().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_changes_meanwhile_is_told_once_and_the_rhythm_comes_back() {
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut world = World::after(profile, 2, roomy, |_| ()).await;
        world.churn(2, 150).await;
        world.until_evented().await;
        let pod = world.pod();
        let [ends, lost, stays] = ["ends", "lost", "stays"].map(|name| world.start(&pod, name));
        world.pass(2 * SECOND).await;
        world.sim.crash();
        world.pass(5 * SECOND).await;
        assert_eq!(world.app.follower_status().mode, Mode::Polling);
        assert!(world.app.health().ready().ok && world.app.health().live().ok);
        world.change(|truth| truth.exit(&ends, 4).expect("exit"));
        world.change(|truth| truth.lose_task(&lost).expect("lose"));
        world.sim.recover_in(SECOND).expect("recover");
        world.pass(5 * SECOND).await;
        assert_eq!(world.story(&ends).last().map(String::as_str), Some("Died(4 Error)"), "{}", profile.name);
        assert_eq!(
            world.story(&lost).last().map(String::as_str),
            Some("Died(255 Unknown)"),
            "{}",
            profile.name
        );
        assert_eq!(world.story(&stays).last().map(String::as_str), Some("Started"), "{}", profile.name);
        world.pass(5 * MINUTE).await;
        assert_eq!(world.app.follower_status().mode, Mode::Evented, "{}", profile.name);
        assert_eq!(world.differences(), NONE, "{}", profile.name);
        assert_eq!(world.absurdities(), NONE, "{}: {:#?}", profile.name, world.lines());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_restarted_runtime_cannot_load_is_unknown_until_it_can() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.until_evented().await;
    world.sim.crash();
    world.change(|truth| truth.fail_load(&id).expect("fail"));
    world.change(|truth| truth.fail_sandbox_load(&pod.sandbox));
    world.sim.recover().expect("recover");
    world.pass(3 * SECOND).await;
    assert_eq!(
        world.served(&pod).expect("served").container(&id).expect("there").state,
        ContainerState::Unknown
    );
    assert_eq!(world.served(&pod).expect("served").ips.len(), 1);
    world.change(|truth| truth.load_container(&id).expect("load"));
    world.change(|truth| truth.load_sandbox(&pod.sandbox));
    world.pass(3 * MINUTE).await;
    assert_eq!(world.story(&id), ["Changed", "Started", "Changed", "Changed"]);
    assert_eq!(world.story(&pod.sandbox), ["Started", "Died", "Started"]);
    assert_eq!(world.differences(), NONE);
    world.change(|truth| truth.exit(&id, 0).expect("exit"));
    world.pass(SECOND).await;
    assert_eq!(world.story(&id).last().map(String::as_str), Some("Died(0 Completed)"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_is_had_again_and_what_happened_meanwhile_is_told() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    let pod = world.pod();
    world.until_evented().await;
    for n in 0..5 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(SECOND).await;
        world.sim.cut_streams((n % 2 == 0).then(|| tonic::Status::internal("cut")));
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(3 * SECOND).await;
        assert_eq!(world.story(&id), ["Changed", "Started", "Died(1 Error)"], "cut {n}");
    }
    assert!(world.metric("plegd_fallback_seconds_count") >= 5.0);
    assert_eq!(world.misses(), 0.0, "what happens while it is down it has not missed");
    world.until_evented().await;
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_replaced_by_one_with_events_is_followed_by_events() {
    let refuse = |sim: &plegd::sim::SimRuntime| {
        let unimplemented = CallFault::fail(tonic::Code::Unimplemented);
        sim.faults().calls(Method::GetContainerEvents, unimplemented, Dose::Always);
    };
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, |_| (), refuse).await;
    world.pass(10 * MINUTE).await;
    assert_eq!(world.app.follower_status().mode, Mode::Polling);
    assert!(world.calls_of(Method::GetContainerEvents) <= 16, "tried about once a minute");
    world.sim.faults().clear();
    world.pass(4 * MINUTE).await;
    assert_eq!(world.app.follower_status().mode, Mode::Evented);
}

#[tokio::test(start_paused = true)]
async fn switched_off_by_configuration_the_stream_is_not_touched() {
    let off = |config: &mut Config| config.stream.enabled = false;
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, off, |_| ()).await;
    world.churn(1, 100).await;
    world.pass(10 * SECOND).await;
    assert_eq!(world.calls_of(Method::GetContainerEvents), 0);
    assert_eq!(world.app.follower_status().mode, Mode::Polling);
    assert_eq!(world.metric(r#"plegd_stream_state{state="off"}"#), 1.0, "nobody is called for it");
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_stopped_and_continued_is_followed_again() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(SECOND).await;
    world.sim.faults().hang(plegd::sim::Target::Process);
    world.change(|truth| truth.exit(&id, 6).expect("exit"));
    world.pass(3 * MINUTE).await;
    assert_eq!(world.story(&id).len(), 2, "nobody can know");
    assert!(world.app.health().ready().ok && world.app.health().live().ok);
    world.sim.faults().release(&plegd::sim::Target::Process);
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&id), ["Changed", "Started", "Died(6 Error)"]);
    world.pass(5 * MINUTE).await;
    assert_eq!(world.app.follower_status().mode, Mode::Evented);
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn events_about_nothing_that_is_known_have_it_list_a_few_times_a_second_and_half_of_the_time_at_most() {
    for (a_list, lists) in [(Duration::ZERO, 38..=42), (SECOND / 5, 11..=14)] {
        let mut world = World::new(Profile::CONTAINERD_2_1);
        world.until_evented().await;
        for method in [Method::ListPodSandbox, Method::ListContainers] {
            world.sim.faults().calls(method, CallFault::Late(a_list), Dose::Always);
        }
        let before = world.calls_of(Method::ListContainers);
        for n in 0..1000 {
            let container_id = format!("unknown-{n}");
            let event = ContainerEventResponse { container_id, ..ContainerEventResponse::default() };
            let _ = world.sim.queue().send(event);
            world.pass(SECOND / 100).await;
        }
        let listed = world.calls_of(Method::ListContainers) - before;
        assert!(lists.contains(&listed), "{listed} lists of {:?} each in ten seconds", 2 * a_list);
    }
}
