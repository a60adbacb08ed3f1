//! Liveness means that plegd's own parts make progress; each part reports its own. The runtime's state does not count, since a restart of
//! plegd repairs no runtime.

mod support;

use std::{os::unix::net::UnixDatagram, time::Duration};

use plegd::{
    app::App,
    config::{Config, InForce},
    daemon::systemd::Notifier,
    health::Report,
    sim::{Method, Profile, SimRuntime, Target},
};
use support::{Harness, link};

const PARTS: [&str; 3] = ["receiver", "relister", "supervisor"];

fn parts(report: &Report) -> Vec<&'static str> {
    let mut parts: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    parts.sort_unstable();
    parts
}

/// Checks that plegd is live for an hour, every 10 s.
async fn stays_live(harness: &mut Harness, when: &str) {
    for _ in 0..360 {
        harness.pass(Duration::from_secs(10)).await;
        let live = harness.app.health().live();
        assert!(live.ok, "{when}: {live:?}");
        assert_eq!(parts(&live), PARTS, "{when}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_hangs_or_is_down_leaves_plegd_live() {
    let mut harness = Harness::after(
        Profile::CONTAINERD_2_4,
        1,
        // The longest allowed timeout and relist period.
        |config| {
            config.runtime.request_timeout = Duration::from_secs(300);
            config.relist.max_period = Duration::from_secs(3600);
        },
        |_| (),
    )
    .await;
    stays_live(&mut harness, "at rest").await;
    for method in [Method::Version, Method::StreamPodSandboxes, Method::StreamContainers] {
        harness.sim.faults().hang(Target::Method(method));
    }
    harness.sim.cut_streams(None);
    stays_live(&mut harness, "hanging").await;
    harness.sim.faults().clear();
    harness.sim.crash();
    stays_live(&mut harness, "down").await;
    harness.sim.recover().unwrap();
    stays_live(&mut harness, "back").await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_fails_liveness_and_stops_the_watchdog_messages() {
    // The receiver's thread never runs after the start.
    let stuck = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = plegd::clock::Clock::simulated(support::NOON).0;
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, clock.clone(), 1);
    let in_force = InForce::of_program(Config::default());
    let app = App::start_with_receiver_on(stuck.handle(), &in_force, link(&sim), clock);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let messages = || std::iter::from_fn(|| socket.recv(&mut [0; 512]).ok()).count();
    let notifier = Notifier::at(path.as_os_str(), Some(Duration::from_secs(30))).unwrap();
    tokio::spawn(notifier.run(app.health().clone(), String::new, app.stop_token()));

    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(messages() >= 4 && app.health().live().ok);
    tokio::time::sleep(Duration::from_secs(2)).await;
    messages();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(messages(), 0, "the watchdog receives messages although the receiver hangs");
    let live = app.health().live();
    let stuck_parts: Vec<_> = live.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
    assert_eq!(stuck_parts, ["receiver"], "{live:?}");
    drop(app);
    stuck.shutdown_background();
}
