//! After any stream fault the cache converges to the truth, and no event is published twice, out of order, or after a removal.

mod support;

use std::time::Duration;

use plegd::{
    config::{Config, SharedStream},
    model::Mode,
    sim::{Dose, EventFault, Only, Profile, Stamp, v1::ContainerEventType},
};
use support::{EVENT_FAULTS, Harness};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: i64 = 1_000_000_000;

fn large_journal(config: &mut Config) {
    config.journal.events = 1_000_000;
}

/// Runs churn with these faults, then stops them and waits for a relist. Returns the number of missed events.
async fn missed_under(profile: Profile, faults: &[(EventFault, Dose)]) -> f64 {
    let mut missed = 0.0;
    for seed in 1..=2 {
        // On a shared channel a lost event looks like one that another subscriber has received.
        let compete = |config: &mut Config| {
            large_journal(config);
            config.stream.shared = SharedStream::Compete;
        };
        let mut harness = Harness::after(profile, seed, compete, |_| ()).await;
        harness.until_evented().await;
        faults.iter().for_each(|(fault, dose)| harness.sim.faults().events(*fault, *dose));
        harness.churn(seed, 150).await;
        assert!(harness.sim.faults().happened() > 3, "{faults:?}: too few faults");
        harness.sim.faults().clear();
        harness.pass(2 * MINUTE).await;
        assert_eq!(harness.differences(), [""; 0], "{faults:?}, seed {seed}");
        assert_eq!(harness.violations(), [""; 0], "{faults:?}, seed {seed}: {:#?}", harness.lines());
        missed += harness.missed_events();
        harness.pass(5 * MINUTE).await;
        assert_eq!(
            harness.app.follower_status().mode,
            Mode::Evented,
            "{faults:?}, seed {seed}: trusted again"
        );
    }
    missed
}

/// Like [`missed_under`]; also checks that the stream missed nothing: an event has reported each change in time.
async fn misses_nothing(faults: &[(EventFault, Dose)]) {
    assert_eq!(missed_under(Profile::CONTAINERD_2_1, faults).await, 0.0, "{faults:?}");
}

#[tokio::test(start_paused = true)]
async fn dropped_events_are_found_by_the_relist_and_counted_as_missed() {
    let missed = missed_under(Profile::CONTAINERD_2_1, &[(EventFault::Drop, Dose::Chance(0.3))]).await;
    assert!(missed > 5.0, "{missed}");
}

#[tokio::test(start_paused = true)]
async fn a_missed_event_leads_to_probing_and_the_stream_is_trusted_again_later() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    harness.pass(Duration::from_secs(1)).await;
    let stopped = Only::Kind(ContainerEventType::ContainerStoppedEvent);
    harness.sim.faults().events_only(stopped, EventFault::Drop, Dose::Always);
    let id = harness.start(&pod, "c");
    harness.pass(Duration::from_secs(1)).await;
    harness.change(|truth| truth.exit(&id, 2).expect("exit"));
    harness.until("the death", |harness| harness.history(&id).len() == 3).await;
    assert_eq!(harness.history(&id), ["Changed", "Started", "Died(2 Error)"]);
    harness.until("probing", |harness| harness.app.follower_status().mode == Mode::Probing).await;
    assert_eq!(harness.metric(r#"plegd_missed_events_total{type="stopped"}"#), 1.0);
    assert_eq!(harness.app.follower_status().period, Duration::from_secs(1));
    // A stream that keeps missing events is not trusted. Each missed event is counted.
    for n in 2..10 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(Duration::from_secs(1)).await;
        harness.change(|truth| truth.exit(&id, 2).expect("exit"));
        harness.pass(Duration::from_secs(7)).await;
        assert_eq!(harness.metric(r#"plegd_missed_events_total{type="stopped"}"#), f64::from(n));
        assert_eq!(harness.app.follower_status().mode, Mode::Probing);
    }
    harness.sim.faults().clear();
    harness.until_evented().await;
    assert_eq!(harness.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn duplicated_events_are_published_once() {
    misses_nothing(&[(EventFault::Duplicate, Dose::Always)]).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_a_second_late_are_published_in_phase_order() {
    misses_nothing(&[(EventFault::Delay(Duration::from_millis(900)), Dose::Chance(0.3))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_many_seconds_late_change_nothing_newer() {
    missed_under(Profile::CONTAINERD_2_1, &[(EventFault::Delay(Duration::from_secs(7)), Dose::Chance(0.3))])
        .await;
}

#[tokio::test(start_paused = true)]
async fn reordered_events_are_published_in_phase_order() {
    misses_nothing(&[(EventFault::Reorder, Dose::Chance(0.4))]).await;
}

#[tokio::test(start_paused = true)]
async fn replayed_events_resurrect_nothing() {
    misses_nothing(&[(EventFault::Replay, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_without_a_sandbox_status_are_applied_to_their_pod() {
    missed_under(Profile::CONTAINERD_2_1, &[(EventFault::NilStatus, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_without_container_statuses_remove_nothing() {
    missed_under(Profile::CONTAINERD_2_1, &[(EventFault::NoStatuses, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn an_older_status_with_a_newer_timestamp_changes_nothing() {
    missed_under(Profile::CONTAINERD_2_1, &[(EventFault::OlderView, Dose::Chance(0.5))]).await;
}

#[tokio::test(start_paused = true)]
async fn a_timestamp_taken_long_after_the_statuses_does_no_harm() {
    missed_under(Profile::CONTAINERD_2_1, &[(EventFault::Stall(Duration::from_secs(3)), Dose::Chance(0.3))])
        .await;
}

#[tokio::test(start_paused = true)]
async fn timestamps_that_are_invalid_cause_no_missed_event() {
    for stamp in [Stamp::Zero, Stamp::Negative, Stamp::Seconds, Stamp::FarFuture] {
        misses_nothing(&[(EventFault::Stamp(stamp), Dose::Chance(0.5))]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn timestamps_that_are_off_by_any_amount_change_no_outcome() {
    for off in [-3600 * SECOND, -40 * SECOND, -SECOND / 10, SECOND / 50, SECOND / 10, 40 * SECOND] {
        missed_under(Profile::CONTAINERD_2_1, &[(EventFault::Stamp(Stamp::Off(off)), Dose::Chance(0.5))])
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_cannot_be_decoded_end_the_stream_and_cost_a_relist() {
    missed_under(Profile::CONTAINERD_2_1, &[(EventFault::Garbage, Dose::Chance(0.2))]).await;
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    harness.sim.faults().events(EventFault::Garbage, Dose::Next(1));
    let id = harness.start(&pod, "c");
    harness.pass(Duration::from_millis(500)).await;
    assert_eq!(harness.metric(r#"plegd_malformed_messages_total{path="stream"}"#), 1.0);
    assert_eq!(harness.history(&id).last().map(String::as_str), Some("Started"));
    assert!(harness.app.health().ready().ok && harness.app.health().live().ok);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_decoded_costs_a_read_and_not_the_stream() {
    missed_under(Profile::CONTAINERD_2_1, &[(EventFault::GarbageStatuses, Dose::Chance(0.3))]).await;
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    let pod = harness.pod();
    let connects = harness.metric("plegd_stream_connects_total");
    harness.sim.faults().events(EventFault::GarbageStatuses, Dose::Next(2));
    let id = harness.start(&pod, "c");
    harness.pass(Duration::from_millis(500)).await;
    assert_eq!(harness.metric(r#"plegd_malformed_messages_total{path="stream"}"#), 2.0);
    assert_eq!(harness.metric("plegd_stream_connects_total"), connects);
    assert_eq!(harness.history(&id).last().map(String::as_str), Some("Started"));
    assert_eq!(harness.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn all_faults_at_once_on_every_runtime_with_events() {
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
        missed_under(profile, &faults).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_step_loses_and_invents_nothing() {
    for (seed, step) in (1..).zip([-3600, -40, 40, 3600, 10 * 365 * 86_400]) {
        let mut harness = Harness::after(Profile::CONTAINERD_2_1, seed, large_journal, |_| ()).await;
        harness.until_evented().await;
        harness.churn(seed, 150).await;
        harness.step_clock(step * SECOND);
        harness.churn(seed + 100, 150).await;
        harness.pass(2 * MINUTE).await;
        assert_eq!(harness.differences(), [""; 0], "{step} s");
        assert_eq!(harness.violations(), [""; 0], "{step} s: {:#?}", harness.lines());
        assert_eq!(harness.missed_events(), 0.0, "{step} s");
        assert!(harness.metric("plegd_clock_steps_total") >= 1.0);
    }
}
