//! The screen of a plegd that follows a simulated runtime, in paused time.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tonic::Request;

use super::*;
use crate::{
    api::{
        introspection::Introspection, server::introspection_service_server::IntrospectionService as _,
        subscribers::Subscribers, wire::Node,
    },
    app::App,
    config::{Config, InForce},
    cri::{Connection, Link},
    model,
    sim::{Churn, Profile, SimRuntime, Target},
};

const SECOND: Duration = Duration::from_secs(1);

struct Simulated {
    sim: SimRuntime,
    app: App,
    introspection: Introspection,
}

impl Simulated {
    fn new(profile: Profile) -> Self {
        fastrand::seed(1);
        let sim = SimRuntime::new(profile, Clock::simulated(now()).0, 1);
        let connector = sim.connector();
        let link = Link::new("the simulated runtime", move || {
            let connection = connector.connect();
            Box::pin(async move { connection.map(|stream| Box::new(stream) as Box<dyn Connection>) })
        });
        let clock = Clock::simulated(now()).0;
        let app = App::start(&Config::default(), link, clock);
        let introspection = Introspection::new(
            app.feed(),
            app.metrics().clone(),
            Subscribers::new(1),
            Node { name: "node-7".into() },
            app.clock().wall(),
            InForce::of_program(Config::default()),
            Arc::new(|level| Ok(level.clone())),
        );
        Self { sim, app, introspection }
    }

    async fn screen(&self) -> String {
        let request = Request::new(v1::GetStatusRequest {});
        let status = self.introspection.get_status(request).await.unwrap().into_inner();
        let view = View { status: &status, subscribers: &[], now: self.app.clock().wall() };
        screen(&view, Quirks::Names, 80, Paint(false))
    }

    async fn until(&self, what: &str, is: impl Fn(&App) -> bool) {
        for _ in 0..600 {
            if is(&self.app) {
                return;
            }
            tokio::time::sleep(SECOND).await;
        }
        panic!("{what} was not reached in 10 minutes: {:?}", self.app.follower_status());
    }

    fn failures(&self) -> i64 {
        self.app.metrics().relists.consecutive_failures.get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_hangs_for_75_s_in_evented_mode_is_shown_after_the_second_failed_relist() {
    let node = Simulated::new(Profile::CONTAINERD_2_1);
    node.until("evented", |app| app.follower_status().mode == model::Mode::Evented).await;
    // The relist period is one minute: within half a minute after a relist, several calls can fail.
    let relists = |app: &App| app.metrics().relists.duration.get_sample_count();
    let before = relists(&node.app);
    node.until("the next relist", |app| relists(app) > before).await;
    tokio::time::sleep(30 * SECOND).await;
    assert!(node.screen().await.contains("the stream is trusted"));
    node.sim.faults().hang(Target::Process);
    let mut shown = 0;
    for _ in 0..75 {
        tokio::time::sleep(SECOND).await;
        let (failures, text) = (node.failures(), node.screen().await);
        if failures < 2 {
            assert!(text.contains("READY"), "{failures}: {text}");
            continue;
        }
        shown += 1;
        assert!(text.starts_with("NODE      STALE  node-7"), "{text}");
        assert!(text.contains("MODE      probing for "), "{text}");
        assert!(text.contains("so nothing checks the stream"), "{text}");
        assert!(text.contains(&format!("{failures} relists")), "{failures}: {text}");
        for claim in ["trusted", "a relist every", "relists instead", "Nothing needs attention"] {
            assert!(!text.contains(claim), "{claim}: {text}");
        }
    }
    assert!(shown >= 25 && node.failures() >= 5, "shown for {shown} s, {} failures", node.failures());
    assert!(node.app.health().ready().ok, "what was listed once is served");
    node.sim.faults().release(&Target::Process);
    node.until("a list", |app| app.follower_status().failures.is_none()).await;
    assert_eq!(node.failures(), 0);
    node.until("trust", |app| app.follower_status().mode == model::Mode::Evented).await;
    let text = node.screen().await;
    assert!(text.starts_with("NODE      READY") && text.ends_with("Nothing needs attention.\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn while_the_runtime_is_down_the_screen_does_not_mention_relists_instead() {
    let node = Simulated::new(Profile::CONTAINERD_2_1);
    node.until("evented", |app| app.follower_status().mode == model::Mode::Evented).await;
    node.sim.crash();
    tokio::time::sleep(3 * SECOND).await;
    let text = node.screen().await;
    assert!(text.contains("MODE      polling for 3s: no list for 3s, and the stream is down"), "{text}");
    assert!(text.contains("! The runtime cannot be listed since") && !text.contains("instead"), "{text}");
    node.sim.recover().unwrap();
    node.until("trust", |app| app.follower_status().mode == model::Mode::Evented).await;
    assert!(node.screen().await.ends_with("Nothing needs attention.\n"));
}

#[tokio::test(start_paused = true)]
async fn a_yielded_stream_is_shown_with_the_time_of_the_next_try() {
    let node = Simulated::new(Profile::CONTAINERD_1_7);
    node.until("evented", |app| app.follower_status().mode == model::Mode::Evented).await;
    let mut other = node.sim.queue().subscribe();
    let task = tokio::spawn(async move { while other.next().await.is_some() {} });
    let (mut churn, mut rng) = (Churn::new(8), fastrand::Rng::with_seed(1));
    while node.app.follower_status().yielded.is_none() {
        node.sim.change(|truth| churn.step(&mut rng, truth));
        tokio::time::sleep(SECOND / 10).await;
    }
    tokio::time::sleep(60 * SECOND).await;
    let text = node.screen().await;
    assert!(text.starts_with("NODE      READY"), "{text}");
    assert!(
        text.contains("MODE      polling for 1m: the stream is yielded, a relist every 1s instead"),
        "{text}"
    );
    assert!(text.contains("state           yielded 1m, retry in 8m 59s     a relist every 1s"), "{text}");
    assert!(
        text.contains("! plegd yielded the shared event stream to another subscriber; polling."),
        "{text}"
    );
    assert!(!text.contains("stream is down"), "{text}");
    // The status must not mention polling while listing fails.
    node.sim.faults().hang(Target::Process);
    tokio::time::sleep(15 * SECOND).await;
    let text = node.screen().await;
    assert!(text.contains(", and the stream is yielded") && !text.contains("; polling"), "{text}");
    assert!(!text.contains("a relist every") && !text.contains("instead"), "{text}");
    task.abort();
}
