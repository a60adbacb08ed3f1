//! Defects of CRI-O's stream: off by default, and events that are missing, wrong, dropped, or stamped in seconds.

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    sim::{Dose, EventFault, Method, Profile, SimRuntime},
    supervisor::Mode,
};

use crate::{MINUTE, NONE, SECOND, STOPPED, evented, last, now, support::World};

#[tokio::test(start_paused = true)]
async fn crio_7164_a_stream_that_ends_at_once_is_retried_once_a_minute() {
    let mut world = World::new(Profile::CRI_O_1_31_EVENTS_OFF);
    let pod = world.pod();
    world.pass(10 * MINUTE).await;
    let tries = world.calls_of(Method::GetContainerEvents);
    assert!((10..=16).contains(&tries), "about once a minute: {tries}");
    let situation = world.app.situation();
    assert_eq!((situation.mode, situation.period), (Mode::Polling, SECOND));
    let id = world.start(&pod, "c");
    world.pass(2 * SECOND).await;
    assert_eq!(world.history(&id), ["Started"]);
    assert!(world.app.health().live().ok && world.app.health().ready().ok);
}

#[tokio::test(start_paused = true)]
async fn crio_6466_other_clients_of_the_stream_take_no_events_from_plegd() {
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
        assert_eq!(world.history(&id), ["Changed", "Started", "Died(1 Error)"], "container {n}");
    }
    others.iter().for_each(|other| other.abort());
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn crio_6627_a_change_whose_event_is_lost_after_a_reconnect_is_found() {
    let mut world = evented(Profile::CRI_O_1_34).await;
    let pod = world.pod();
    for n in 0..10 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(2 * SECOND).await;
        world.sim.cut_streams(Some(tonic::Status::unavailable("cut")));
        world.pass(Duration::from_millis(n * 30)).await;
        world.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        // Found by the relist right after the reconnect, or by the second one after the backlog.
        world.pass(5 * SECOND).await;
        assert_eq!(last(&world, &id), "Died(1 Error)", "reconnect {n}");
        world.pass(2 * MINUTE).await;
    }
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn crio_6625_a_container_that_is_only_stopped_is_not_removed() {
    // 1.26 sends DELETED when it stops a container, and STOPPED twice for a sandbox.
    let mut world = evented(Profile::CRI_O_1_26).await;
    for _ in 0..5 {
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.pass(2 * SECOND).await;
        world.change(|truth| truth.stop_container(&id, SECOND).expect("stop"));
        world.pass(5 * SECOND).await;
        assert_eq!(world.history(&id).last().map(String::as_str), Some("Died(143 Error)"));
        assert!(world.served(&pod).expect("served").container(&id).is_some(), "the container still exists");
        world.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
        world.pass(5 * SECOND).await;
        let died = world.history(&pod.sandbox).iter().filter(|word| *word == "Died").count();
        assert_eq!(died, 1);
        world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        world.pass(30 * SECOND).await;
        assert_eq!((last(&world, &id), last(&world, &pod.sandbox)), ("Removed".into(), "Removed".into()));
    }
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_7210_changes_whose_events_a_full_channel_dropped_are_found_by_the_relist() {
    // Another client stops reading, the channel fills up, and the newest events are dropped for all clients.
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
        // A read with that timestamp is newer than the record, whatever its number.
        let fresh = now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(1));
    }
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_6404_sandboxes_created_and_removed_without_an_event_are_found_within_three_seconds() {
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
    assert_eq!(world.misses(), 0.0, "an event that the runtime never sends does not count as missed");
}

#[tokio::test(start_paused = true)]
async fn crio_9004_plegd_does_not_disconnect_under_load_and_so_causes_no_crash() {
    // A client that disconnects makes 1.28 to 1.32 panic at the second event after that.
    let busy = |sim: &SimRuntime| assert!(!sim.is_down());
    let mut world = World::after(Profile::CRI_O_1_31, 1, |_| (), busy).await;
    world.until_evented().await;
    world.churn(1, 300).await;
    assert!(!world.sim.is_down());
    assert_eq!(world.metric(r#"plegd_stream_disconnects_total{reason="overflow"}"#), 0.0);
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}
