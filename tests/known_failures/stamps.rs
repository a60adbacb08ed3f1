//! Wall clocks: seconds taken for nanoseconds, a stamp from the future that outlived everything, a clock set back.

use std::time::Duration;

use plegd::sim::{Dose, EventFault, Only, Profile, Stamp};

use crate::{MINUTE, NONE, SECOND, evented, last, now, support::World};

/// So many lives, each step of which must be told by its event before any relist could; gives how many steps were.
async fn lives_are_told_at_once(world: &mut World, lives: usize) {
    let pod = world.pod();
    for n in 0..lives {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(SECOND / 5).await;
        assert_eq!(world.story(&id), ["Changed", "Started"], "life {n}");
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(SECOND / 5).await;
        assert_eq!(last(world, &id), "Died(1 Error)", "life {n}");
        world.change(|truth| truth.remove_container(&id).expect("remove"));
        world.pass(SECOND / 5).await;
        assert_eq!(last(world, &id), "Removed", "life {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_124297_seconds_where_nanoseconds_are_due_decide_nothing() {
    // The stamps of events; and with CRI-O 1.28 those of PodSandboxStatus too (cri-o#8582).
    for profile in [Profile::CONTAINERD_2_1, Profile::CRI_O_1_28] {
        let mut world = evented(profile).await;
        world.sim.faults().events(EventFault::Stamp(Stamp::Seconds), Dose::Always);
        lives_are_told_at_once(&mut world, 20).await;
        assert!(world.metric("plegd_stream_bad_stamps_total") >= 80.0, "{}: counted", profile.name);
        world.pass(2 * MINUTE).await;
        assert_eq!(world.misses(), 0.0, "{}", profile.name);
        assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]), "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_127814_a_stamp_from_the_future_blocks_no_later_write() {
    let hour = 3600 * 1_000_000_000;
    for stamp in [Stamp::FarFuture, Stamp::Off(hour), Stamp::Off(40 * 1_000_000_000)] {
        let mut world = evented(Profile::CONTAINERD_2_1).await;
        let pod = world.pod();
        let id = world.start(&pod, "static");
        world.sim.faults().events_only(Only::Id(id.clone()), EventFault::Stamp(stamp), Dose::Next(1));
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(SECOND / 5).await;
        assert_eq!(last(&world, &id), "Died(1 Error)", "{stamp:?}");
        // The same pod goes on: by events, and by reads.
        let next = world.start(&pod, "next");
        world.pass(SECOND / 5).await;
        assert_eq!(world.story(&next), ["Changed", "Started"], "{stamp:?}");
        world.sim.faults().events(EventFault::Drop, Dose::Always);
        world.change(|truth| truth.exit(&next, 2).expect("exit"));
        let fresh = now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&next).and_then(|container| container.exit_code), Some(2), "{stamp:?}");
        world.pass(2 * MINUTE).await;
        assert_eq!(world.differences(), NONE, "{stamp:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_134153_a_clock_that_is_set_back_makes_nothing_stale_look_fresh() {
    for step in [-40_i64, -3600, 40] {
        let mut world = evented(Profile::CONTAINERD_2_1).await;
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.pass(SECOND).await;
        assert_eq!(now(&world, &pod).await.expect("fresh").expect("there").containers.len(), 1);
        world.step_clock(step * 1_000_000_000);
        world.pass(SECOND).await;
        // Nobody but a read can see this, and by the wall clock all that is held is from the future.
        world.sim.faults().events(EventFault::Drop, Dose::Next(1));
        world.change(|truth| truth.exit(&id, 7).expect("exit"));
        let fresh = now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(7), "{step} s");
        lives_are_told_at_once(&mut world, 5).await;
        world.pass(2 * MINUTE).await;
        assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]), "{step} s");
        assert_eq!(world.metric("plegd_clock_steps_total"), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_134204_relists_keep_their_pace_whatever_the_clock_does() {
    let mut world = World::new(Profile::CONTAINERD_1_6);
    let pod = world.pod();
    world.pass(5 * SECOND).await;
    let mut rng = fastrand::Rng::with_seed(1);
    for n in 0..50 {
        world.step_clock(rng.i64(-86_400..86_400) * 1_000_000_000);
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(Duration::from_millis(1200)).await;
        assert_eq!(world.story(&id), ["Started"], "life {n}");
        assert!(world.app.health().live().ok && world.app.health().ready().ok);
    }
    assert_eq!(world.differences(), NONE);
}
