//! Wall clocks: seconds instead of nanoseconds, a timestamp in the future that blocked all later ones, a clock that is set back.

use std::time::Duration;

use plegd::sim::{Dose, EventFault, Only, Profile, Stamp};

use crate::{MINUTE, NONE, SECOND, evented, last, now, support::Harness};

/// Runs `count` containers through all phases; each transition must be published by its event, before a relist.
async fn transitions_are_published_by_events(harness: &mut Harness, count: usize) {
    let pod = harness.pod();
    for n in 0..count {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(SECOND / 5).await;
        assert_eq!(harness.history(&id), ["Changed", "Started"], "container {n}");
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(SECOND / 5).await;
        assert_eq!(last(harness, &id), "Died(1 Error)", "container {n}");
        harness.change(|truth| truth.remove_container(&id).expect("remove"));
        harness.pass(SECOND / 5).await;
        assert_eq!(last(harness, &id), "Removed", "container {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_124297_timestamps_in_seconds_instead_of_nanoseconds_decide_nothing() {
    // The timestamps of events; on CRI-O 1.28 also those of PodSandboxStatus (cri-o#8582).
    for profile in [Profile::CONTAINERD_2_1, Profile::CRI_O_1_28] {
        let mut harness = evented(profile).await;
        harness.sim.faults().events(EventFault::Stamp(Stamp::Seconds), Dose::Always);
        transitions_are_published_by_events(&mut harness, 20).await;
        assert!(harness.metric("plegd_stream_bad_stamps_total") >= 80.0, "{}: counted", profile.name);
        harness.pass(2 * MINUTE).await;
        assert_eq!(harness.missed_events(), 0.0, "{}", profile.name);
        assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]), "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_127814_a_timestamp_in_the_future_blocks_no_later_update() {
    let hour = 3600 * 1_000_000_000;
    for stamp in [Stamp::FarFuture, Stamp::Off(hour), Stamp::Off(40 * 1_000_000_000)] {
        let mut harness = evented(Profile::CONTAINERD_2_1).await;
        let pod = harness.pod();
        let id = harness.start(&pod, "static");
        harness.sim.faults().events_only(Only::Id(id.clone()), EventFault::Stamp(stamp), Dose::Next(1));
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(SECOND / 5).await;
        assert_eq!(last(&harness, &id), "Died(1 Error)", "{stamp:?}");
        // The pod is still updated, by events and by reads.
        let next = harness.start(&pod, "next");
        harness.pass(SECOND / 5).await;
        assert_eq!(harness.history(&next), ["Changed", "Started"], "{stamp:?}");
        harness.sim.faults().events(EventFault::Drop, Dose::Always);
        harness.change(|truth| truth.exit(&next, 2).expect("exit"));
        let fresh = now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&next).and_then(|container| container.exit_code), Some(2), "{stamp:?}");
        harness.pass(2 * MINUTE).await;
        assert_eq!(harness.differences(), NONE, "{stamp:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_134153_a_clock_that_is_set_back_makes_no_stale_state_look_fresh() {
    for step in [-40_i64, -3600, 40] {
        let mut harness = evented(Profile::CONTAINERD_2_1).await;
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.pass(SECOND).await;
        assert_eq!(now(&harness, &pod).await.expect("fresh").expect("there").containers.len(), 1);
        harness.step_clock(step * 1_000_000_000);
        harness.pass(SECOND).await;
        // Only a read finds this exit; by the wall clock, all held state is from the future.
        harness.sim.faults().events(EventFault::Drop, Dose::Next(1));
        harness.change(|truth| truth.exit(&id, 7).expect("exit"));
        let fresh = now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(7), "{step} s");
        transitions_are_published_by_events(&mut harness, 5).await;
        harness.pass(2 * MINUTE).await;
        assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]), "{step} s");
        assert_eq!(harness.metric("plegd_clock_steps_total"), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_134204_clock_steps_delay_no_relist() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let pod = harness.pod();
    harness.pass(5 * SECOND).await;
    let mut rng = fastrand::Rng::with_seed(1);
    for n in 0..50 {
        harness.step_clock(rng.i64(-86_400..86_400) * 1_000_000_000);
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(Duration::from_millis(1200)).await;
        assert_eq!(harness.history(&id), ["Started"], "container {n}");
        assert!(harness.app.health().live().ok && harness.app.health().ready().ok);
    }
    assert_eq!(harness.differences(), NONE);
}
