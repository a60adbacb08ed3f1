//! The watcher of the stream: it never gives up, a clean end is an end too, and it stops when it is told to.

use plegd::{
    sim::{CallFault, Dose, Method, Profile, Target},
    supervisor::Mode,
};
use tonic::{Code, Status};

use crate::{MINUTE, NONE, SECOND, evented, support::World};

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_ever_so_often_is_tried_for_ever_and_the_last_error_is_shown() {
    let mut world = evented().await;
    let pod = world.pod();
    let fail = |text: &str| CallFault::Fail(Code::Internal, text.to_owned());
    world.sim.faults().calls(Method::GetContainerEvents, fail("the first words"), Dose::Next(1));
    world.sim.cut_streams(Some(Status::unavailable("cut")));
    world.pass(SECOND / 10).await;
    assert!(
        world.app.follower_status().stream.contains("the first words"),
        "{:?}",
        world.app.follower_status()
    );
    world.sim.faults().calls(Method::GetContainerEvents, fail("the last words"), Dose::Always);
    let tries = world.calls_of(Method::GetContainerEvents);
    world.pass(20 * MINUTE).await;
    let tries = world.calls_of(Method::GetContainerEvents) - tries;
    assert!((20..=40).contains(&tries), "about once a minute, and not five times in all: {tries}");
    let follower_status = world.app.follower_status();
    assert!(follower_status.stream.contains("the last words"), "{follower_status:?}");
    assert_eq!(follower_status.mode, Mode::Polling);
    let id = world.start(&pod, "c");
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&id), ["Started"], "told by the list meanwhile");
    world.sim.faults().clear();
    world.until_evented().await;
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_an_error_is_a_lost_stream() {
    let mut world = evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(SECOND).await;
    world.sim.faults().hang(Target::Method(Method::GetContainerEvents));
    world.sim.cut_streams(None);
    world.change(|truth| truth.exit(&id, 1).expect("exit"));
    world.pass(SECOND / 2).await;
    assert_eq!(world.app.follower_status().mode, Mode::Polling);
    assert!(world.app.follower_status().stream.contains("ended"), "{:?}", world.app.follower_status());
    assert_eq!(world.metric(r#"plegd_stream_disconnects_total{reason="ended"}"#), 1.0);
    assert_eq!(world.story(&id)[2..], ["Died(1 Error)"], "a relist at once");
    assert_eq!(world.misses(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_waits_for_events_stops_when_it_is_told_to() {
    for hung in [true, false] {
        let mut world = World::new(Profile::CONTAINERD_2_1);
        if hung {
            world.sim.faults().hang(Target::Method(Method::GetContainerEvents));
        }
        world.pass(MINUTE).await;
        let (metrics, tries) = (world.app.metrics().clone(), world.calls_of(Method::GetContainerEvents));
        let stopped = tokio::time::timeout(SECOND, world.app.stop()).await;
        assert!(stopped.is_ok(), "it waits for nobody; hung: {hung}");
        tokio::time::sleep(5 * MINUTE).await;
        let text = metrics.scrape().expect("metrics");
        assert!(text.contains("plegd_stream_disconnects_total{reason=\"shutdown\"} 1\n"));
        assert!(
            text.contains("plegd_stream_disconnects_total{reason=\"error\"} 0\n"),
            "an end, not a failure"
        );
        assert_eq!(world.sim.calls()[&Method::GetContainerEvents], tries, "and nobody tries again");
    }
}
