//! Wall clocks: seconds instead of nanoseconds, a timestamp in the future that blocked all later ones, a clock that is set back.

use std::time::Duration;

use plegd::sim::{Dose, EventFault, Only, Profile, Stamp};

use crate::{MINUTE, NONE, SECOND, evented, last, now, support::World};

/// Runs `count` containers through all phases; each transition must be published by its event, before a relist.
async fn transitions_are_published_by_events(world: &mut World, count: usize) {
    let pod = world.pod();
    for n in 0..count {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(SECOND / 5).await;
        assert_eq!(world.history(&id), ["Changed", "Started"], "container {n}");
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(SECOND / 5).await;
        assert_eq!(last(world, &id), "Died(1 Error)", "container {n}");
        world.change(|truth| truth.remove_container(&id).expect("remove"));
        world.pass(SECOND / 5).await;
        assert_eq!(last(world, &id), "Removed", "container {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_124297_timestamps_in_seconds_instead_of_nanoseconds_decide_nothing() {
    // The timestamps of events; on CRI-O 1.28 also those of PodSandboxStatus (cri-o#8582).
    for profile in [Profile::CONTAINERD_2_1, Profile::CRI_O_1_28] {
        let mut world = evented(profile).await;
        world.sim.faults().events(EventFault::Stamp(Stamp::Seconds), Dose::Always);
        transitions_are_published_by_events(&mut world, 20).await;
        assert!(world.metric("plegd_stream_bad_stamps_total") >= 80.0, "{}: counted", profile.name);
        world.pass(2 * MINUTE).await;
        assert_eq!(world.misses(), 0.0, "{}", profile.name);
        assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]), "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_127814_a_timestamp_in_the_future_blocks_no_later_update() {
    let hour = 3600 * 1_000_000_000;
    for stamp in [Stamp::FarFuture, Stamp::Off(hour), Stamp::Off(40 * 1_000_000_000)] {
        let mut world = evented(Profile::CONTAINERD_2_1).await;
        let pod = world.pod();
        let id = world.start(&pod, "static");
        world.sim.faults().events_only(Only::Id(id.clone()), EventFault::Stamp(stamp), Dose::Next(1));
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(SECOND / 5).await;
        assert_eq!(last(&world, &id), "Died(1 Error)", "{stamp:?}");
        // The pod is still updated, by events and by reads.
        let next = world.start(&pod, "next");
        world.pass(SECOND / 5).await;
        assert_eq!(world.history(&next), ["Changed", "Started"], "{stamp:?}");
        world.sim.faults().events(EventFault::Drop, Dose::Always);
        world.change(|truth| truth.exit(&next, 2).expect("exit"));
        let fresh = now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&next).and_then(|container| container.exit_code), Some(2), "{stamp:?}");
        world.pass(2 * MINUTE).await;
        assert_eq!(world.differences(), NONE, "{stamp:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_134153_a_clock_that_is_set_back_makes_no_stale_state_look_fresh() {
    for step in [-40_i64, -3600, 40] {
        let mut world = evented(Profile::CONTAINERD_2_1).await;
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.pass(SECOND).await;
        assert_eq!(now(&world, &pod).await.expect("fresh").expect("there").containers.len(), 1);
        world.step_clock(step * 1_000_000_000);
        world.pass(SECOND).await;
        // Only a read finds this exit; by the wall clock, all held state is from the future.
        world.sim.faults().events(EventFault::Drop, Dose::Next(1));
        world.change(|truth| truth.exit(&id, 7).expect("exit"));
        let fresh = now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(7), "{step} s");
        transitions_are_published_by_events(&mut world, 5).await;
        world.pass(2 * MINUTE).await;
        assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]), "{step} s");
        assert_eq!(world.metric("plegd_clock_steps_total"), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_134204_clock_steps_delay_no_relist() {
    let mut world = World::new(Profile::CONTAINERD_1_6);
    let pod = world.pod();
    world.pass(5 * SECOND).await;
    let mut rng = fastrand::Rng::with_seed(1);
    for n in 0..50 {
        world.step_clock(rng.i64(-86_400..86_400) * 1_000_000_000);
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(Duration::from_millis(1200)).await;
        assert_eq!(world.history(&id), ["Started"], "container {n}");
        assert!(world.app.health().live().ok && world.app.health().ready().ok);
    }
    assert_eq!(world.differences(), NONE);
}
