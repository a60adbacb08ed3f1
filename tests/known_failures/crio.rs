//! Defects of CRI-O's stream: off by default, and events that are missing, wrong, dropped, or stamped in seconds.

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    model::Mode,
    sim::{Dose, EventFault, Method, Profile, SimRuntime},
};

use crate::{MINUTE, NONE, SECOND, STOPPED, evented, last, now, support::Harness};

#[tokio::test(start_paused = true)]
async fn crio_7164_a_stream_that_ends_at_once_is_retried_once_a_minute() {
    let mut harness = Harness::new(Profile::CRI_O_1_31_EVENTS_OFF);
    let pod = harness.pod();
    harness.pass(10 * MINUTE).await;
    let tries = harness.calls_of(Method::GetContainerEvents);
    assert!((10..=16).contains(&tries), "about once a minute: {tries}");
    let follower_status = harness.app.follower_status();
    assert_eq!((follower_status.mode, follower_status.period), (Mode::Polling, SECOND));
    let id = harness.start(&pod, "c");
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&id), ["Started"]);
    assert!(harness.app.health().live().ok && harness.app.health().ready().ok);
}

#[tokio::test(start_paused = true)]
async fn crio_6466_other_clients_of_the_stream_take_no_events_from_plegd() {
    let mut harness = evented(Profile::CRI_O_1_34).await;
    let others: Vec<_> = (0..3)
        .map(|_| {
            let mut events = harness.sim.queue().subscribe();
            tokio::spawn(async move { while events.next().await.is_some() {} })
        })
        .collect();
    let pod = harness.pod();
    for n in 0..10 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(SECOND / 2).await;
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(SECOND / 2).await;
        assert_eq!(harness.history(&id), ["Changed", "Started", "Died(1 Error)"], "container {n}");
    }
    others.iter().for_each(|other| other.abort());
    harness.pass(2 * MINUTE).await;
    assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn crio_6627_a_change_whose_event_is_lost_after_a_reconnect_is_found() {
    let mut harness = evented(Profile::CRI_O_1_34).await;
    let pod = harness.pod();
    for n in 0..10 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(2 * SECOND).await;
        harness.sim.cut_streams(Some(tonic::Status::unavailable("cut")));
        harness.pass(Duration::from_millis(n * 30)).await;
        harness.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        // Found by the relist right after the reconnect, or by the second one after the backlog.
        harness.pass(5 * SECOND).await;
        assert_eq!(last(&harness, &id), "Died(1 Error)", "reconnect {n}");
        harness.pass(2 * MINUTE).await;
    }
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn crio_6625_a_container_that_is_only_stopped_is_not_removed() {
    // 1.26 sends DELETED when it stops a container, and STOPPED twice for a sandbox.
    let mut harness = evented(Profile::CRI_O_1_26).await;
    for _ in 0..5 {
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.pass(2 * SECOND).await;
        harness.change(|truth| truth.stop_container(&id, SECOND).expect("stop"));
        harness.pass(5 * SECOND).await;
        assert_eq!(harness.history(&id).last().map(String::as_str), Some("Died(143 Error)"));
        assert!(harness.served(&pod).expect("served").container(&id).is_some(), "the container still exists");
        harness.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
        harness.pass(5 * SECOND).await;
        let died = harness.history(&pod.sandbox).iter().filter(|word| *word == "Died").count();
        assert_eq!(died, 1);
        harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        harness.pass(30 * SECOND).await;
        assert_eq!((last(&harness, &id), last(&harness, &pod.sandbox)), ("Removed".into(), "Removed".into()));
    }
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_7210_changes_whose_events_a_full_channel_dropped_are_found_by_the_relist() {
    // Another client stops reading, the channel fills up, and the newest events are dropped for all clients.
    let mut harness = evented(Profile::CRI_O_1_34).await;
    let mut frozen = harness.sim.queue().subscribe();
    let pods: Vec<_> = (0..400).map(|_| harness.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| harness.start(pod, "c")).collect();
    harness.pass(SECOND).await;
    harness.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    harness.pass(70 * SECOND).await;
    assert!(harness.sim.event_counts().dropped > 100, "{:?}", harness.sim.event_counts());
    assert!(ids.iter().all(|id| last(&harness, id) == "Died(1 Error)"));
    assert_eq!(harness.differences(), NONE);
    while let Ok(Some(_)) = tokio::time::timeout(SECOND, frozen.next()).await {}
    drop(frozen);
    harness.pass(2 * MINUTE).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_8582_a_timestamp_in_seconds_makes_no_status_old() {
    let mut harness = evented(Profile::CRI_O_1_28).await;
    let pod = harness.pod();
    for n in 0..10 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(Duration::from_millis(1300)).await;
        harness.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        // A read with that timestamp is newer than the record, whatever its number.
        let fresh = now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(1));
    }
    harness.pass(2 * MINUTE).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn crio_6404_sandboxes_created_and_removed_without_an_event_are_found_within_three_seconds() {
    let mut harness = evented(Profile::CRI_O_1_34).await;
    for _ in 0..5 {
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.pass(SECOND).await;
        assert_eq!(last(&harness, &pod.sandbox), "Started");
        harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        harness.pass(3 * SECOND).await;
        assert_eq!((last(&harness, &id), last(&harness, &pod.sandbox)), ("Removed".into(), "Removed".into()));
    }
    assert_eq!(
        harness.missed_events(),
        0.0,
        "an event that the runtime never sends does not count as missed"
    );
}

#[tokio::test(start_paused = true)]
async fn crio_9004_plegd_does_not_disconnect_under_load_and_so_causes_no_crash() {
    // A client that disconnects makes 1.28 to 1.32 panic at the second event after that.
    let busy = |sim: &SimRuntime| assert!(!sim.is_down());
    let mut harness = Harness::after(Profile::CRI_O_1_31, 1, |_| (), busy).await;
    harness.until_evented().await;
    harness.churn(1, 300).await;
    assert!(!harness.sim.is_down());
    assert_eq!(harness.metric(r#"plegd_stream_disconnects_total{reason="overflow"}"#), 0.0);
    harness.pass(2 * MINUTE).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}
