//! The whole daemon on a runtime that answers whatever the bytes say, and then the truth: it never ends, what it tells is
//! in order all the time, and in the end it serves what is.

mod server;

use std::time::Duration;

use plegd::{
    app::App,
    clock::Clock,
    cri::{Connection, Link},
};

use self::server::Server;
use super::{
    bench::{NOON, in_paused_time},
    lives::Witness,
};

/// How long the runtime talks nonsense at most.
const NONSENSE: Duration = Duration::from_secs(30);
/// By when it has found back to the truth.
const RECOVERED: Duration = Duration::from_secs(900);

/// Follows a runtime that answers what the bytes say.
pub fn check(bytes: &[u8]) {
    // What is drawn by lot, such as jitter.
    fastrand::seed(1);
    in_paused_time(run(bytes));
}

/// Inputs that are worth changing.
pub fn seeds() -> Vec<Vec<u8>> {
    super::seeds::of_choices(24, 1500)
}

async fn run(bytes: &[u8]) {
    let (clock, _) = Clock::simulated(NOON);
    let server = Server::new(bytes, clock.clone());
    let app = App::builder().link(link(&server)).clock(clock).request_timeout(Duration::from_secs(1)).start();
    let app = app.expect("the configuration is right");
    let mut witness = Witness::new(app.cache().clone(), app.journal().clone());
    let nonsense = app.clock().now() + NONSENSE;
    while app.clock().now() < nonsense && !server.has_said_all() {
        pass(&app, &mut witness, Duration::from_millis(200)).await;
    }
    server.tell_the_truth();
    let recovered = app.clock().now() + RECOVERED;
    while !server.is_truth(&app.cache().list()) {
        let served = app.cache().list();
        assert!(app.clock().now() < recovered, "it does not find back to the truth, but serves {served:#?}");
        pass(&app, &mut witness, Duration::from_secs(1)).await;
    }
    // A minute later it is still true.
    pass(&app, &mut witness, Duration::from_secs(60)).await;
    assert!(server.is_truth(&app.cache().list()), "it loses the truth: {:#?}", app.cache().list());
    let now = app.clock().now();
    let fresh = app.pod_newer_than(&"u0".into(), now, Duration::from_secs(60)).await;
    let pod = fresh.expect("the runtime answers").expect("the pod is there");
    assert_eq!(
        pod.container("b").and_then(|b| b.exit_code),
        Some(3),
        "a read finds out what lists do not show"
    );
    let stopped = tokio::time::timeout(Duration::from_secs(60), app.stop()).await;
    stopped.expect("it ends when it is told to");
}

async fn pass(app: &App, witness: &mut Witness, time: Duration) {
    tokio::time::sleep(time).await;
    witness.look();
    assert!(!app.stop_token().is_cancelled(), "a part of it has failed");
}

fn link(server: &Server) -> Link {
    let server = server.clone();
    Link::new("a runtime that talks nonsense", move || {
        let connection = server.connect();
        Box::pin(async move { Ok(Box::new(connection) as Box<dyn Connection>) })
    })
}
