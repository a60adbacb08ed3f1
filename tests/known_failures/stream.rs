//! The stream: given up after five quick retries, a panic over an empty event, a process-wide flag.

use std::time::Duration;

use plegd::{
    config::Config,
    sim::{CallFault, Dose, EventFault, Method, Profile},
    supervisor::Mode,
};
use tonic::Code;

use crate::{MINUTE, NONE, SECOND, evented, last, support::World};

#[tokio::test(start_paused = true)]
async fn kubernetes_129827_a_short_restart_causes_no_permanent_fallback() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    // The reported upgrade took 0.401 s, in which five retries failed. Here it happens ten times.
    for n in 0..10 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(SECOND).await;
        world.sim.crash();
        world.pass(Duration::from_millis(200)).await;
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(Duration::from_millis(201)).await;
        world.sim.recover().expect("recover");
        world.pass(3 * SECOND).await;
        assert_eq!(world.history(&id), ["Changed", "Started", "Died(1 Error)"], "restart {n}");
        assert_ne!(world.app.situation().mode, Mode::Polling, "restart {n}: the stream is up again");
    }
    world.until_evented().await;
    let id = world.start(&pod, "after-the-restarts");
    world.pass(SECOND / 10).await;
    assert_eq!(world.history(&id), ["Changed", "Started"]);
    assert!(world.events.iter().rev().take(2).all(|event| event.source.as_str() == "event"));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_129835_retries_are_spaced_out_and_unlimited() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    for code in [Code::Unavailable, Code::Unimplemented, Code::Internal] {
        world.sim.faults().calls(Method::GetContainerEvents, CallFault::fail(code), Dose::Always);
        world.sim.cut_streams(None);
        let mut tries = Vec::new();
        for _ in 0..4 {
            let before = world.calls_of(Method::GetContainerEvents);
            world.pass(5 * MINUTE).await;
            tries.push(world.calls_of(Method::GetContainerEvents) - before);
        }
        // At most 20 in the first 5 min, then about one per minute.
        assert!(
            tries[0] <= 20 && tries[1..].iter().all(|tries| (4..=8).contains(tries)),
            "{code:?}: {tries:?}"
        );
        assert!(world.app.health().live().ok && world.app.health().ready().ok, "{code:?}");
        world.sim.faults().clear();
        world.until_evented().await;
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_120934_two_apps_in_one_process_share_nothing() {
    let (mut one, mut other) = (evented(Profile::CONTAINERD_2_1).await, World::new(Profile::CONTAINERD_2_1));
    other.sim.faults().calls(Method::GetContainerEvents, CallFault::fail(Code::Unavailable), Dose::Always);
    for _ in 0..20 {
        one.pass(SECOND).await;
        other.pass(SECOND).await;
        assert_eq!((one.app.situation().mode, other.app.situation().mode), (Mode::Evented, Mode::Polling));
    }
    assert_eq!(one.app.situation().period, MINUTE);
    assert_eq!(other.app.situation().period, SECOND);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_114371_events_without_a_sandbox_status_are_published_for_the_right_pod() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let (pod, other) = (world.pod(), world.pod());
    world.start(&other, "c");
    world.pass(SECOND).await;
    world.sim.faults().events(EventFault::NilStatus, Dose::Always);
    // Events of every type, also of a sandbox.
    let id = world.start(&pod, "c");
    world.pass(SECOND).await;
    world.change(|truth| truth.exit(&id, 3).expect("exit"));
    world.pass(SECOND).await;
    world.change(|truth| truth.remove_container(&id).expect("remove"));
    world.pass(SECOND).await;
    assert_eq!(last(&world, &id), "Removed");
    assert!(world.history(&id).contains(&"Died(3 Error)".to_owned()), "{:?}", world.history(&id));
    world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    world.pass(SECOND).await;
    assert_eq!(last(&world, &pod.sandbox), "Removed");
    let new = world.pod();
    world.pass(SECOND).await;
    assert_eq!(world.history(&new.sandbox), ["Started"], "a sandbox that was unknown before");
    let mut of_it = world.events.iter().filter(|event| event.id.as_str() == id);
    assert!(of_it.all(|event| event.event.pod.uid == crate::uid(&pod)), "for this pod only");
    assert_eq!(world.app.situation().mode, Mode::Evented, "no event counts as missed");
    assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_139818_an_idle_node_costs_a_twentieth_of_the_calls_of_polling() {
    let mut calls = Vec::new();
    for stream in [true, false] {
        let configure = |config: &mut Config| config.stream.enabled = stream;
        let mut world = World::after(Profile::CONTAINERD_2_1, 1, configure, |_| ()).await;
        for _ in 0..10 {
            let pod = world.pod();
            world.start(&pod, "c");
        }
        world.pass(5 * MINUTE).await;
        let before = world.calls();
        world.pass(20 * MINUTE).await;
        calls.push(world.calls() - before);
        assert_eq!(world.differences(), NONE);
    }
    let [evented, polling] = calls[..] else { panic!("{calls:?}") };
    // Two lists per minute, and the content of four ids.
    assert!((3 * 36..=3 * 46).contains(&evented), "{evented}");
    assert!(polling > 20 * evented, "{polling} and {evented}");
}
