//! The stream as a whole: given up for good after five quick tries, a panic over an empty payload, a flag for all.

use std::time::Duration;

use plegd::{
    config::Config,
    sim::{CallFault, Dose, EventFault, Method, Profile},
    supervisor::Mode,
};
use tonic::Code;

use crate::{MINUTE, NONE, SECOND, evented, last, support::World};

#[tokio::test(start_paused = true)]
async fn kubernetes_129827_a_short_restart_is_no_lasting_fallback() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    // Its upgrade took 0.401 s, which was enough for five tries within milliseconds; here it is upgraded ten times.
    for n in 0..10 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(SECOND).await;
        world.sim.crash();
        world.pass(Duration::from_millis(200)).await;
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(Duration::from_millis(201)).await;
        world.sim.recover().expect("recover");
        world.pass(3 * SECOND).await;
        assert_eq!(world.story(&id), ["Changed", "Started", "Died(1 Error)"], "restart {n}");
        assert_ne!(world.app.follower_status().mode, Mode::Polling, "restart {n}: the stream is back");
    }
    world.until_evented().await;
    let id = world.start(&pod, "after all of them");
    world.pass(SECOND / 10).await;
    assert_eq!(world.story(&id), ["Changed", "Started"]);
    assert!(world.told.iter().rev().take(2).all(|event| event.source.as_str() == "event"));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_129835_tries_are_spaced_out_and_never_end() {
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
        // Never more than a burst at the beginning, and about one in a minute for ever.
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
async fn kubernetes_120934_nothing_is_shared_by_two_in_one_process() {
    let (mut one, mut other) = (evented(Profile::CONTAINERD_2_1).await, World::new(Profile::CONTAINERD_2_1));
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
async fn kubernetes_114371_events_without_a_sandbox_status_are_told_of_the_right_pod() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let (pod, other) = (world.pod(), world.pod());
    world.start(&other, "c");
    world.pass(SECOND).await;
    world.sim.faults().events(EventFault::NilStatus, Dose::Always);
    // Every type, and of a sandbox too.
    let id = world.start(&pod, "c");
    world.pass(SECOND).await;
    world.change(|truth| truth.exit(&id, 3).expect("exit"));
    world.pass(SECOND).await;
    world.change(|truth| truth.remove_container(&id).expect("remove"));
    world.pass(SECOND).await;
    assert_eq!(last(&world, &id), "Removed");
    assert!(world.story(&id).contains(&"Died(3 Error)".to_owned()), "{:?}", world.story(&id));
    world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    world.pass(SECOND).await;
    assert_eq!(last(&world, &pod.sandbox), "Removed");
    let new = world.pod();
    world.pass(SECOND).await;
    assert_eq!(world.story(&new.sandbox), ["Started"], "one that nobody had heard of");
    let mut of_it = world.told.iter().filter(|told| told.id.as_str() == id);
    assert!(of_it.all(|told| told.event.pod.uid == crate::uid(&pod)), "of no other pod");
    assert_eq!(world.app.follower_status().mode, Mode::Evented, "the stream is not blamed");
    assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_139818_a_node_at_rest_costs_a_sixtieth_of_what_polling_costs() {
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
    // Two lists a minute, and the content of four ids.
    assert!((3 * 36..=3 * 46).contains(&evented), "{evented}");
    assert!(polling > 20 * evented, "{polling} and {evented}");
}
