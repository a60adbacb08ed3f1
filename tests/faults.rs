//! Whatever the stream does, in the end the cache is the truth, and nothing is told twice, backward or of the dead.

mod support;

use std::time::Duration;

use plegd::{
    config::{Config, SharedStream},
    sim::{Dose, EventFault, Only, Profile, Stamp, v1::ContainerEventType},
    supervisor::Mode,
};
use support::{EVENT_FAULTS, World};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: i64 = 1_000_000_000;

fn roomy(config: &mut Config) {
    config.journal.events = 1_000_000;
}

/// Churn under these faults, then none, and a relist; says how much the stream missed.
async fn survives(profile: Profile, faults: &[(EventFault, Dose)]) -> f64 {
    let mut missed = 0.0;
    for seed in 1..=2 {
        // An event that is lost on a shared channel looks as if another subscriber had received it.
        let compete = |config: &mut Config| {
            roomy(config);
            config.stream.shared = SharedStream::Compete;
        };
        let mut world = World::after(profile, seed, compete, |_| ()).await;
        world.until_evented().await;
        faults.iter().for_each(|(fault, dose)| world.sim.faults().events(*fault, *dose));
        world.churn(seed, 150).await;
        assert!(world.sim.faults().happened() > 3, "{faults:?} hardly happened");
        world.sim.faults().clear();
        world.pass(2 * MINUTE).await;
        assert_eq!(world.differences(), [""; 0], "{faults:?}, seed {seed}");
        assert_eq!(world.absurdities(), [""; 0], "{faults:?}, seed {seed}: {:#?}", world.lines());
        missed += world.misses();
        world.pass(5 * MINUTE).await;
        assert_eq!(world.app.follower_status().mode, Mode::Evented, "{faults:?}, seed {seed}: trusted again");
    }
    missed
}

/// As [`survives`], and the stream is not blamed: each change was told by an event in time.
async fn costs_nothing(faults: &[(EventFault, Dose)]) {
    assert_eq!(survives(Profile::CONTAINERD_2_1, faults).await, 0.0, "{faults:?}");
}

#[tokio::test(start_paused = true)]
async fn dropped_events_are_found_by_the_relist_and_counted_as_misses() {
    let missed = survives(Profile::CONTAINERD_2_1, &[(EventFault::Drop, Dose::Chance(0.3))]).await;
    assert!(missed > 5.0, "{missed}");
}

#[tokio::test(start_paused = true)]
async fn a_miss_brings_the_mode_back_to_probing_and_trust_grows_again() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    world.pass(Duration::from_secs(1)).await;
    let stopped = Only::Kind(ContainerEventType::ContainerStoppedEvent);
    world.sim.faults().events_only(stopped, EventFault::Drop, Dose::Always);
    let id = world.start(&pod, "c");
    world.pass(Duration::from_secs(1)).await;
    world.change(|truth| truth.exit(&id, 2).expect("exit"));
    world.until("told", |world| world.story(&id).len() == 3).await;
    assert_eq!(world.story(&id), ["Changed", "Started", "Died(2 Error)"]);
    world.until("probing", |world| world.app.follower_status().mode == Mode::Probing).await;
    assert_eq!(world.metric(r#"plegd_missed_events_total{type="stopped"}"#), 1.0);
    assert_eq!(world.app.follower_status().period, Duration::from_secs(1));
    // As long as it goes on missing, it is not trusted; each is counted, at whatever period it is found.
    for n in 2..10 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(Duration::from_secs(1)).await;
        world.change(|truth| truth.exit(&id, 2).expect("exit"));
        world.pass(Duration::from_secs(7)).await;
        assert_eq!(world.metric(r#"plegd_missed_events_total{type="stopped"}"#), f64::from(n));
        assert_eq!(world.app.follower_status().mode, Mode::Probing);
    }
    world.sim.faults().clear();
    world.until_evented().await;
    assert_eq!(world.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn duplicated_events_are_told_once() {
    costs_nothing(&[(EventFault::Duplicate, Dose::Always)]).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_come_a_second_late_are_told_in_the_order_of_lives() {
    costs_nothing(&[(EventFault::Delay(Duration::from_millis(900)), Dose::Chance(0.3))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_come_many_seconds_late_change_nothing_that_is_known_better() {
    survives(Profile::CONTAINERD_2_1, &[(EventFault::Delay(Duration::from_secs(7)), Dose::Chance(0.3))])
        .await;
}

#[tokio::test(start_paused = true)]
async fn reordered_events_are_told_in_the_order_of_lives() {
    costs_nothing(&[(EventFault::Reorder, Dose::Chance(0.4))]).await;
}

#[tokio::test(start_paused = true)]
async fn replayed_events_resurrect_nothing() {
    costs_nothing(&[(EventFault::Replay, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_without_a_sandbox_status_find_their_pod_all_the_same() {
    survives(Profile::CONTAINERD_2_1, &[(EventFault::NilStatus, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_without_container_statuses_remove_nothing() {
    survives(Profile::CONTAINERD_2_1, &[(EventFault::NoStatuses, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn an_older_view_under_a_newer_stamp_is_never_believed() {
    survives(Profile::CONTAINERD_2_1, &[(EventFault::OlderView, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_are_stamped_long_after_their_statuses_were_read_do_no_harm() {
    survives(Profile::CONTAINERD_2_1, &[(EventFault::Stall(Duration::from_secs(3)), Dose::Chance(0.3))])
        .await;
}

#[tokio::test(start_paused = true)]
async fn stamps_that_say_nothing_cost_nothing() {
    for stamp in [Stamp::Zero, Stamp::Negative, Stamp::Seconds, Stamp::FarFuture] {
        costs_nothing(&[(EventFault::Stamp(stamp), Dose::Chance(0.5))]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn stamps_that_are_off_poison_nothing() {
    for off in [-3600 * SECOND, -40 * SECOND, -SECOND / 10, SECOND / 50, SECOND / 10, 40 * SECOND] {
        survives(Profile::CONTAINERD_2_1, &[(EventFault::Stamp(Stamp::Off(off)), Dose::Chance(0.5))]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_do_not_decode_end_the_stream_and_cost_a_relist() {
    survives(Profile::CONTAINERD_2_1, &[(EventFault::Garbage, Dose::Chance(0.2))]).await;
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    world.sim.faults().events(EventFault::Garbage, Dose::Next(1));
    let id = world.start(&pod, "c");
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(world.metric(r#"plegd_malformed_messages_total{path="stream"}"#), 1.0);
    assert_eq!(world.story(&id).last().map(String::as_str), Some("Started"));
    assert!(world.app.health().ready().ok && world.app.health().live().ok);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_does_not_decode_costs_a_read_and_not_the_stream() {
    survives(Profile::CONTAINERD_2_1, &[(EventFault::SpoiltStatuses, Dose::Chance(0.3))]).await;
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    let connects = world.metric("plegd_stream_connects_total");
    world.sim.faults().events(EventFault::SpoiltStatuses, Dose::Next(2));
    let id = world.start(&pod, "c");
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(world.metric(r#"plegd_malformed_messages_total{path="stream"}"#), 2.0);
    assert_eq!(world.metric("plegd_stream_connects_total"), connects);
    assert_eq!(world.story(&id).last().map(String::as_str), Some("Started"));
    assert_eq!(world.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn everything_at_once_on_every_runtime_with_events() {
    let some = Dose::Chance(0.08);
    let faults = EVENT_FAULTS.into_iter().chain([EventFault::Stamp(Stamp::FarFuture)]);
    let faults: Vec<_> = faults.map(|fault| (fault, some)).collect();
    for profile in [
        Profile::CONTAINERD_1_7,
        Profile::CONTAINERD_2_1,
        Profile::CONTAINERD_2_4,
        Profile::CRI_O_1_26,
        Profile::CRI_O_1_31,
        Profile::CRI_O_1_34,
    ] {
        survives(profile, &faults).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_stepped_in_the_middle_loses_and_invents_nothing() {
    for (seed, step) in (1..).zip([-3600, -40, 40, 3600, 10 * 365 * 86_400]) {
        let mut world = World::after(Profile::CONTAINERD_2_1, seed, roomy, |_| ()).await;
        world.until_evented().await;
        world.churn(seed, 150).await;
        world.step_clock(step * SECOND);
        world.churn(seed + 100, 150).await;
        world.pass(2 * MINUTE).await;
        assert_eq!(world.differences(), [""; 0], "{step} s");
        assert_eq!(world.absurdities(), [""; 0], "{step} s: {:#?}", world.lines());
        assert_eq!(world.misses(), 0.0, "{step} s");
        assert!(world.metric("plegd_clock_steps_total") >= 1.0);
    }
}
