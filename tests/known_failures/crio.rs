//! What CRI-O's stream does to whoever believes it: off by default, silent, wrong, dropped, and in seconds.

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    sim::{Dose, EventFault, Method, Profile, SimRuntime},
    supervisor::Mode,
};

use crate::{MINUTE, NONE, SECOND, STOPPED, evented, last, now, support::World};

#[tokio::test(start_paused = true)]
async fn crio_7164_a_stream_that_ends_at_once_is_asked_for_once_a_minute() {
    let mut world = World::new(Profile::CRI_O_1_31_EVENTS_OFF);
    let pod = world.pod();
    world.pass(10 * MINUTE).await;
    let tries = world.calls_of(Method::GetContainerEvents);
    assert!((10..=16).contains(&tries), "no hot loop: {tries}");
    let follower_status = world.app.follower_status();
    assert_eq!((follower_status.mode, follower_status.period), (Mode::Polling, SECOND));
    let id = world.start(&pod, "c");
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&id), ["Started"]);
    assert!(world.app.health().live().ok && world.app.health().ready().ok);
}

#[tokio::test(start_paused = true)]
async fn crio_6466_other_clients_of_the_stream_take_nothing_away() {
    let mut world = evented(Profile::CRI_O_1_34).await;
    let others: Vec<_> = (0..3)
        .map(|_| {
            let mut events = world.sim.queue().subscribe();
            tokio::spawn(async move { while events.next().await.is_some() {} })
        })
        .collect();
    let pod = world.pod();
    for n in 0..10 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(SECOND / 2).await;
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(SECOND / 2).await;
        assert_eq!(world.story(&id), ["Changed", "Started", "Died(1 Error)"], "life {n}");
    }
    others.iter().for_each(|other| other.abort());
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn crio_6627_the_first_event_after_a_reconnect_may_be_lost_and_its_change_is_not() {
    let mut world = evented(Profile::CRI_O_1_34).await;
    let pod = world.pod();
    for n in 0..10 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(2 * SECOND).await;
        world.sim.cut_streams(Some(tonic::Status::unavailable("cut")));
        world.pass(Duration::from_millis(n * 30)).await;
        world.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        // By the relist right after, or by the one more when the backlog has passed.
        world.pass(5 * SECOND).await;
        assert_eq!(last(&world, &id), "Died(1 Error)", "reconnect {n}");
        world.pass(2 * MINUTE).await;
    }
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn crio_6625_a_container_that_is_only_stopped_is_not_removed() {
    // 1.26 says DELETED when it stops a container, and says twice that a sandbox is stopped.
    let mut world = evented(Profile::CRI_O_1_26).await;
    for _ in 0..5 {
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.pass(2 * SECOND).await;
        world.change(|truth| truth.stop_container(&id, SECOND).expect("stop"));
        world.pass(5 * SECOND).await;
        assert_eq!(world.story(&id).last().map(String::as_str), Some("Died(143 Error)"));
        assert!(world.served(&pod).expect("served").container(&id).is_some(), "it is there");
        world.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
        world.pass(5 * SECOND).await;
        let died = world.story(&pod.sandbox).iter().filter(|word| *word == "Died").count();
        assert_eq!(died, 1);
        world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        world.pass(30 * SECOND).await;
        assert_eq!((last(&world, &id), last(&world, &pod.sandbox)), ("Removed".into(), "Removed".into()));
    }
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_7210_what_a_full_channel_drops_is_found_by_the_relist() {
    // One of three clients stands still, the channel fills up, and the newest events are dropped, for all.
    let mut world = evented(Profile::CRI_O_1_34).await;
    let mut frozen = world.sim.queue().subscribe();
    let pods: Vec<_> = (0..400).map(|_| world.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| world.start(pod, "c")).collect();
    world.pass(SECOND).await;
    world.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    world.pass(70 * SECOND).await;
    assert!(world.sim.event_counts().dropped > 100, "{:?}", world.sim.event_counts());
    assert!(ids.iter().all(|id| last(&world, id) == "Died(1 Error)"));
    assert_eq!(world.differences(), NONE);
    while let Ok(Some(_)) = tokio::time::timeout(SECOND, frozen.next()).await {}
    drop(frozen);
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_8582_a_timestamp_in_seconds_makes_no_status_old() {
    let mut world = evented(Profile::CRI_O_1_28).await;
    let pod = world.pod();
    for n in 0..10 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(Duration::from_millis(1300)).await;
        world.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        // A status with that stamp is younger than all that is held, whatever its number says.
        let fresh = now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(1));
    }
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_6404_sandboxes_that_come_and_go_without_a_word_are_found_soon() {
    let mut world = evented(Profile::CRI_O_1_34).await;
    for _ in 0..5 {
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.pass(SECOND).await;
        assert_eq!(last(&world, &pod.sandbox), "Started");
        world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        world.pass(3 * SECOND).await;
        assert_eq!((last(&world, &id), last(&world, &pod.sandbox)), ("Removed".into(), "Removed".into()));
    }
    assert_eq!(world.misses(), 0.0, "what the runtime never tells is not held against it");
}

#[tokio::test(start_paused = true)]
async fn crio_9004_plegd_does_not_leave_under_load_and_so_brings_nothing_down() {
    // A client that leaves makes 1.28 to 1.32 panic at the second event after that.
    let busy = |sim: &SimRuntime| assert!(!sim.is_down());
    let mut world = World::after(Profile::CRI_O_1_31, 1, |_| (), busy).await;
    world.until_evented().await;
    world.churn(1, 300).await;
    assert!(!world.sim.is_down());
    assert_eq!(world.metric(r#"plegd_stream_disconnects_total{reason="overflow"}"#), 0.0);
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}
