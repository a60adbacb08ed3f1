//! The watcher of the stream: it reconnects without limit, also after a clean end, and stops on shutdown.

use plegd::{
    model::Mode,
    sim::{CallFault, Dose, Method, Profile, Target},
};
use tonic::{Code, Status};

use crate::{MINUTE, NONE, SECOND, evented, support::Harness};

#[tokio::test(start_paused = true)]
async fn a_stream_that_keeps_failing_is_retried_without_limit_and_the_last_error_is_shown() {
    let mut harness = evented().await;
    let pod = harness.pod();
    let fail = |text: &str| CallFault::Fail(Code::Internal, text.to_owned());
    harness.sim.faults().calls(Method::GetContainerEvents, fail("the first error"), Dose::Next(1));
    harness.sim.cut_streams(Some(Status::unavailable("cut")));
    harness.pass(SECOND / 10).await;
    assert!(
        harness.app.follower_status().stream.contains("the first error"),
        "{:?}",
        harness.app.follower_status()
    );
    harness.sim.faults().calls(Method::GetContainerEvents, fail("the last error"), Dose::Always);
    let tries = harness.calls_of(Method::GetContainerEvents);
    harness.pass(20 * MINUTE).await;
    let tries = harness.calls_of(Method::GetContainerEvents) - tries;
    assert!((20..=40).contains(&tries), "about once a minute, without a limit: {tries}");
    let follower_status = harness.app.follower_status();
    assert!(follower_status.stream.contains("the last error"), "{follower_status:?}");
    assert_eq!(follower_status.mode, Mode::Polling);
    let id = harness.start(&pod, "c");
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&id), ["Started"], "published by the relist meanwhile");
    harness.sim.faults().clear();
    harness.until_evented().await;
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_an_error_is_a_lost_stream() {
    let mut harness = evented().await;
    let pod = harness.pod();
    let id = harness.start(&pod, "c");
    harness.pass(SECOND).await;
    harness.sim.faults().hang(Target::Method(Method::GetContainerEvents));
    harness.sim.cut_streams(None);
    harness.change(|truth| truth.exit(&id, 1).expect("exit"));
    harness.pass(SECOND / 2).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Polling);
    assert!(harness.app.follower_status().stream.contains("ended"), "{:?}", harness.app.follower_status());
    assert_eq!(harness.metric(r#"plegd_stream_disconnects_total{reason="ended"}"#), 1.0);
    assert_eq!(harness.history(&id)[2..], ["Died(1 Error)"], "published by an immediate relist");
    assert_eq!(harness.missed_events(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_waits_for_events_stops_on_shutdown() {
    for hung in [true, false] {
        let mut harness = Harness::new(Profile::CONTAINERD_2_1);
        if hung {
            harness.sim.faults().hang(Target::Method(Method::GetContainerEvents));
        }
        harness.pass(MINUTE).await;
        let (metrics, tries) = (harness.app.metrics().clone(), harness.calls_of(Method::GetContainerEvents));
        let stopped = tokio::time::timeout(SECOND, harness.app.stop()).await;
        assert!(stopped.is_ok(), "shutdown does not wait for the stream; hung: {hung}");
        tokio::time::sleep(5 * MINUTE).await;
        let text = metrics.scrape().expect("metrics");
        assert!(text.contains("plegd_stream_disconnects_total{reason=\"shutdown\"} 1\n"));
        assert!(
            text.contains("plegd_stream_disconnects_total{reason=\"error\"} 0\n"),
            "a shutdown is not counted as an error"
        );
        assert_eq!(harness.sim.calls()[&Method::GetContainerEvents], tries, "no reconnect after shutdown");
    }
}
