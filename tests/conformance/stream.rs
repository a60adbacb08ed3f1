//! The watcher of the stream: it reconnects without limit, also after a clean end, and stops on shutdown.

use plegd::{
    sim::{CallFault, Dose, Method, Profile, Target},
    supervisor::Mode,
};
use tonic::{Code, Status};

use crate::{MINUTE, NONE, SECOND, evented, support::World};

#[tokio::test(start_paused = true)]
async fn a_stream_that_keeps_failing_is_retried_without_limit_and_the_last_error_is_shown() {
    let mut world = evented().await;
    let pod = world.pod();
    let fail = |text: &str| CallFault::Fail(Code::Internal, text.to_owned());
    world.sim.faults().calls(Method::GetContainerEvents, fail("the first error"), Dose::Next(1));
    world.sim.cut_streams(Some(Status::unavailable("cut")));
    world.pass(SECOND / 10).await;
    assert!(world.app.situation().stream.contains("the first error"), "{:?}", world.app.situation());
    world.sim.faults().calls(Method::GetContainerEvents, fail("the last error"), Dose::Always);
    let tries = world.calls_of(Method::GetContainerEvents);
    world.pass(20 * MINUTE).await;
    let tries = world.calls_of(Method::GetContainerEvents) - tries;
    assert!((20..=40).contains(&tries), "about once a minute, without a limit: {tries}");
    let situation = world.app.situation();
    assert!(situation.stream.contains("the last error"), "{situation:?}");
    assert_eq!(situation.mode, Mode::Polling);
    let id = world.start(&pod, "c");
    world.pass(2 * SECOND).await;
    assert_eq!(world.history(&id), ["Started"], "published by the relist meanwhile");
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
    assert_eq!(world.app.situation().mode, Mode::Polling);
    assert!(world.app.situation().stream.contains("ended"), "{:?}", world.app.situation());
    assert_eq!(world.metric(r#"plegd_stream_disconnects_total{reason="ended"}"#), 1.0);
    assert_eq!(world.history(&id)[2..], ["Died(1 Error)"], "published by an immediate relist");
    assert_eq!(world.misses(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_waits_for_events_stops_on_shutdown() {
    for hung in [true, false] {
        let mut world = World::new(Profile::CONTAINERD_2_1);
        if hung {
            world.sim.faults().hang(Target::Method(Method::GetContainerEvents));
        }
        world.pass(MINUTE).await;
        let (metrics, tries) = (world.app.metrics().clone(), world.calls_of(Method::GetContainerEvents));
        let stopped = tokio::time::timeout(SECOND, world.app.stop()).await;
        assert!(stopped.is_ok(), "shutdown does not wait for the stream; hung: {hung}");
        tokio::time::sleep(5 * MINUTE).await;
        let text = metrics.scrape().expect("metrics");
        assert!(text.contains("plegd_stream_disconnects_total{reason=\"shutdown\"} 1\n"));
        assert!(
            text.contains("plegd_stream_disconnects_total{reason=\"error\"} 0\n"),
            "a shutdown is not counted as an error"
        );
        assert_eq!(world.sim.calls()[&Method::GetContainerEvents], tries, "no reconnect after shutdown");
    }
}
