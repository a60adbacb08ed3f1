//! The stream: given up after five quick retries, a panic over an empty event, a process-wide flag.

use std::time::Duration;

use plegd::{
    config::Config,
    model::Mode,
    sim::{CallFault, Dose, EventFault, Method, Profile},
};
use tonic::Code;

use crate::{MINUTE, NONE, SECOND, evented, last, support::Harness};

#[tokio::test(start_paused = true)]
async fn kubernetes_129827_a_short_restart_causes_no_permanent_fallback() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    // The reported upgrade took 0.401 s, in which five retries failed. Here it happens ten times.
    for n in 0..10 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(SECOND).await;
        harness.sim.crash();
        harness.pass(Duration::from_millis(200)).await;
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(Duration::from_millis(201)).await;
        harness.sim.recover().expect("recover");
        harness.pass(3 * SECOND).await;
        assert_eq!(harness.history(&id), ["Changed", "Started", "Died(1 Error)"], "restart {n}");
        assert_ne!(harness.app.follower_status().mode, Mode::Polling, "restart {n}: the stream is up again");
    }
    harness.until_evented().await;
    let id = harness.start(&pod, "after-the-restarts");
    harness.pass(SECOND / 10).await;
    assert_eq!(harness.history(&id), ["Changed", "Started"]);
    assert!(harness.events.iter().rev().take(2).all(|event| event.source.as_str() == "event"));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_129835_retries_are_spaced_out_and_unlimited() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    for code in [Code::Unavailable, Code::Unimplemented, Code::Internal] {
        harness.sim.faults().calls(Method::GetContainerEvents, CallFault::fail(code), Dose::Always);
        harness.sim.cut_streams(None);
        let mut tries = Vec::new();
        for _ in 0..4 {
            let before = harness.calls_of(Method::GetContainerEvents);
            harness.pass(5 * MINUTE).await;
            tries.push(harness.calls_of(Method::GetContainerEvents) - before);
        }
        // At most 20 in the first 5 min, then about one per minute.
        assert!(
            tries[0] <= 20 && tries[1..].iter().all(|tries| (4..=8).contains(tries)),
            "{code:?}: {tries:?}"
        );
        assert!(harness.app.health().live().ok && harness.app.health().ready().ok, "{code:?}");
        harness.sim.faults().clear();
        harness.until_evented().await;
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_120934_two_apps_in_one_process_share_nothing() {
    let (mut one, mut other) =
        (evented(Profile::CONTAINERD_2_1).await, Harness::new(Profile::CONTAINERD_2_1));
    other.sim.faults().calls(Method::GetContainerEvents, CallFault::fail(Code::Unavailable), Dose::Always);
    for _ in 0..20 {
        one.pass(SECOND).await;
        other.pass(SECOND).await;
        assert_eq!(
            (one.app.follower_status().mode, other.app.follower_status().mode),
            (Mode::Evented, Mode::Polling)
        );
    }
    assert_eq!(one.app.follower_status().period, MINUTE);
    assert_eq!(other.app.follower_status().period, SECOND);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_114371_events_without_a_sandbox_status_are_published_for_the_right_pod() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let (pod, other) = (harness.pod(), harness.pod());
    harness.start(&other, "c");
    harness.pass(SECOND).await;
    harness.sim.faults().events(EventFault::NilStatus, Dose::Always);
    // Events of every type, also of a sandbox.
    let id = harness.start(&pod, "c");
    harness.pass(SECOND).await;
    harness.change(|truth| truth.exit(&id, 3).expect("exit"));
    harness.pass(SECOND).await;
    harness.change(|truth| truth.remove_container(&id).expect("remove"));
    harness.pass(SECOND).await;
    assert_eq!(last(&harness, &id), "Removed");
    assert!(harness.history(&id).contains(&"Died(3 Error)".to_owned()), "{:?}", harness.history(&id));
    harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    harness.pass(SECOND).await;
    assert_eq!(last(&harness, &pod.sandbox), "Removed");
    let new = harness.pod();
    harness.pass(SECOND).await;
    assert_eq!(harness.history(&new.sandbox), ["Started"], "a sandbox that was unknown before");
    let mut of_it = harness.events.iter().filter(|event| event.id.as_str() == id);
    assert!(of_it.all(|event| event.event.pod.uid == crate::uid(&pod)), "for this pod only");
    assert_eq!(harness.app.follower_status().mode, Mode::Evented, "no event counts as missed");
    assert_eq!((harness.differences(), harness.missed_events()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_139818_an_idle_node_costs_a_twentieth_of_the_calls_of_polling() {
    let mut calls = Vec::new();
    for stream in [true, false] {
        let configure = |config: &mut Config| config.stream.enabled = stream;
        let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, configure, |_| ()).await;
        for _ in 0..10 {
            let pod = harness.pod();
            harness.start(&pod, "c");
        }
        harness.pass(5 * MINUTE).await;
        let before = harness.calls();
        harness.pass(20 * MINUTE).await;
        calls.push(harness.calls() - before);
        assert_eq!(harness.differences(), NONE);
    }
    let [evented, polling] = calls[..] else { panic!("{calls:?}") };
    // Two lists per minute, and the content of four ids.
    assert!((3 * 36..=3 * 46).contains(&evented), "{evented}");
    assert!(polling > 20 * evented, "{polling} and {evented}");
}
