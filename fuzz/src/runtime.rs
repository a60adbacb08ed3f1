//! A complete daemon with a runtime that answers as the bytes choose, and later correctly. The daemon never ends,
//! publishes events in order all the time, and finally serves the correct state.

mod server;

use std::time::Duration;

use plegd::{
    app::App,
    clock::Clock,
    cri::{Connection, Link},
};

use self::server::Server;
use super::{
    checker::Checker,
    harness::{NOON, in_paused_time},
};

/// Maximum time with wrong answers.
const WRONG_ANSWERS: Duration = Duration::from_secs(30);
/// Time limit for the served state to become correct.
const RECOVERED: Duration = Duration::from_secs(900);

/// Runs one input.
pub fn check(bytes: &[u8]) {
    // Fixes random values such as jitter.
    fastrand::seed(1);
    in_paused_time(run(bytes));
}

/// The initial inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    super::seeds::of_choices(24, 1500)
}

async fn run(bytes: &[u8]) {
    let (clock, _) = Clock::simulated(NOON);
    let server = Server::new(bytes, clock.clone());
    let app = App::builder().link(link(&server)).clock(clock).request_timeout(Duration::from_secs(1)).start();
    let app = app.expect("the configuration is valid");
    let mut checker = Checker::new(app.cache().clone(), app.journal().clone());
    let wrong_until = app.clock().now() + WRONG_ANSWERS;
    while app.clock().now() < wrong_until && !server.is_exhausted() {
        pass(&app, &mut checker, Duration::from_millis(200)).await;
    }
    server.answer_correctly();
    let recovered = app.clock().now() + RECOVERED;
    while !server.is_correct(&app.cache().list()) {
        let served = app.cache().list();
        assert!(app.clock().now() < recovered, "the served state stays wrong: {served:#?}");
        pass(&app, &mut checker, Duration::from_secs(1)).await;
    }
    // It is still correct a minute later.
    pass(&app, &mut checker, Duration::from_secs(60)).await;
    assert!(
        server.is_correct(&app.cache().list()),
        "the served state is wrong again: {:#?}",
        app.cache().list()
    );
    let now = app.clock().now();
    let fresh = app.pod_newer_than(&"u0".into(), now, Duration::from_secs(60)).await;
    let pod = fresh.expect("the runtime answers").expect("the pod is there");
    assert_eq!(
        pod.container("b").and_then(|b| b.exit_code),
        Some(3),
        "a read gets the exit code, which lists do not show"
    );
    let stopped = tokio::time::timeout(Duration::from_secs(60), app.stop()).await;
    stopped.expect("it stops on request");
}

async fn pass(app: &App, checker: &mut Checker, time: Duration) {
    tokio::time::sleep(time).await;
    checker.check();
    assert!(!app.stop_token().is_cancelled(), "a task has failed");
}

fn link(server: &Server) -> Link {
    let server = server.clone();
    Link::new("a runtime with wrong answers", move || {
        let connection = server.connect();
        Box::pin(async move { Ok(Box::new(connection) as Box<dyn Connection>) })
    })
}
