//! On runtimes with one channel for all subscribers, plegd takes few events from another subscriber, then yields the stream.
//!
//! The other subscriber reads the stream as the kubelet's EventedPLEG does, while pods come and go. The runtime counts what
//! each subscriber received.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    config::{Config, Loaded, SharedStream},
    model::Mode,
    sim::{Churn, Profile},
};
use support::Harness;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

const SHARED: [Profile; 2] = [Profile::CONTAINERD_1_7, Profile::CRI_O_1_26];

/// The most events that plegd took from the other subscriber in 24 seeds was 14 on containerd 1.7, and 23 on CRI-O 1.26
/// (`how_many_events_plegd_takes`).
const FEW: u64 = 30;

/// A harness with another subscriber and churn.
struct Shared {
    harness: Harness,
    /// The other subscriber.
    other: Option<JoinHandle<()>>,
    churn: Churn,
    rng: fastrand::Rng,
}

fn roomy(config: &mut Config) {
    config.journal.events = 1_000_000;
}

// === impl Shared ===

impl Shared {
    /// plegd as the only subscriber, once it trusts the stream.
    async fn alone(profile: Profile, seed: u64, configure: impl FnOnce(&mut Config)) -> Self {
        let mut harness = Harness::after(profile, seed, configure, |_| ()).await;
        harness.until_evented().await;
        Self { harness, other: None, churn: Churn::new(8), rng: fastrand::Rng::with_seed(seed) }
    }

    /// Starts the other subscriber.
    fn join(&mut self) {
        let mut events = self.harness.sim.queue().subscribe();
        self.other = Some(tokio::spawn(async move { while events.next().await.is_some() {} }));
    }

    fn leave(&mut self) {
        self.other.take().inspect(JoinHandle::abort);
    }

    /// One step of churn, and the pause after it: about ten steps per second.
    async fn step(&mut self) {
        let Self { harness, churn, rng, .. } = self;
        harness.change(|truth| churn.step(rng, truth));
        let pause = Duration::from_micros(rng.u64(10..200_000));
        harness.pass(pause).await;
    }

    async fn churn(&mut self, time: Duration) {
        let end = self.harness.app.clock().now() + time;
        while self.harness.app.clock().now() < end {
            self.step().await;
        }
    }

    /// Churns until plegd has yielded the stream. Returns how many events plegd took meanwhile.
    async fn until_yielded(&mut self) -> u64 {
        let before = self.received();
        let end = self.harness.app.clock().now() + 10 * MINUTE;
        while !self.yielded() {
            assert!(self.harness.app.clock().now() < end, "{:?}", self.harness.app.follower_status());
            self.step().await;
        }
        self.received() - before
    }

    /// Churns for 30 s, pauses, and churns again until plegd opens the stream that it has yielded.
    async fn until_opened(&mut self) {
        let received = self.received();
        self.churn(MINUTE / 2).await;
        let retry_at = self.harness.app.follower_status().yielded.expect("yielded").retry_at;
        let pause = retry_at.seconds_since(self.harness.app.clock().wall()) - 10.0;
        self.harness.pass(Duration::from_secs_f64(pause)).await;
        assert!(self.yielded(), "the stream was opened before its retry time");
        while self.yielded() {
            assert_eq!(self.received(), received, "plegd took events while the stream was yielded");
            self.step().await;
        }
        assert!(self.harness.app.clock().wall().seconds_since(retry_at) < 1.0);
    }

    fn yielded(&self) -> bool {
        self.harness.app.follower_status().yielded.is_some()
    }

    /// Events that plegd has received.
    fn received(&self) -> u64 {
        let of = |kind| self.harness.metric(&format!(r#"plegd_stream_messages_total{{type="{kind}"}}"#));
        ["created", "started", "stopped", "deleted"].map(of).iter().sum::<f64>() as u64
    }

    fn connects(&self) -> u64 {
        self.harness.metric("plegd_stream_connects_total") as u64
    }

    fn retry_in(&self) -> u64 {
        let yielded = self.harness.app.follower_status().yielded.expect("yielded");
        yielded.retry_at.seconds_since(yielded.since) as u64 / 60
    }

    /// Checks plegd's view, and the order of the events that it published of each container.
    async fn assert_correct(&mut self) {
        self.harness.pass(3 * SECOND).await;
        assert_eq!(self.harness.differences(), NONE);
        assert_eq!(self.harness.violations(), NONE, "{:#?}", self.harness.lines());
    }

    fn adopt(&self, shared: SharedStream) {
        let in_force = self.harness.app.in_force();
        let mut config = in_force.get().config.clone();
        config.stream.shared = shared;
        assert!(!in_force.adopt(&Loaded::of_program(config)).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn after_few_events_plegd_yields_and_the_other_subscriber_receives_everything() {
    for profile in SHARED {
        let mut it = Shared::alone(profile, 3, roomy).await;
        it.join();
        let taken = it.until_yielded().await;
        assert!((1..=FEW).contains(&taken), "{}: {taken}", profile.name);
        it.harness.pass(SECOND / 10).await;
        let (counts, received) = (it.harness.sim.event_counts(), it.received());
        it.churn(MINUTE).await;
        let later = it.harness.sim.event_counts();
        let sent = later.sent - counts.sent;
        // A closed stream takes one event more, since its handler notices only then that it is closed.
        let other = later.delivered - counts.delivered;
        assert!(sent > 100 && other == sent - 1, "{}: {other} of {sent}", profile.name);
        assert_eq!(it.received(), received, "{}: plegd takes nothing", profile.name);
        assert_eq!(it.harness.app.follower_status().mode, Mode::Polling);
        it.assert_correct().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_yielded_stream_shows_in_status_metrics_and_readiness() {
    let mut it = Shared::alone(Profile::CONTAINERD_1_7, 1, roomy).await;
    it.join();
    it.until_yielded().await;
    it.harness.pass(SECOND).await;
    let follower_status = it.harness.app.follower_status();
    assert!(
        follower_status.stream.starts_with("yielded the shared event stream to another subscriber; polling")
    );
    assert_eq!((follower_status.stream_up, follower_status.mode, it.retry_in()), (None, Mode::Polling, 10));
    assert_eq!(it.harness.metric(r#"plegd_stream_state{state="yielded"}"#), 1.0);
    assert_eq!(it.harness.metric(r#"plegd_stream_state{state="down"}"#), 0.0);
    assert_eq!(it.harness.metric(r#"plegd_stream_disconnects_total{reason="yielded"}"#), 1.0);
    assert_eq!(it.harness.metric(r#"plegd_stream_disconnects_total{reason="error"}"#), 0.0);
    let skipped = it.harness.metric(r#"plegd_stream_skipped_events_total{type="created"}"#)
        + it.harness.metric(r#"plegd_stream_skipped_events_total{type="started"}"#);
    assert!(
        skipped + it.harness.missed_events() >= 2.0,
        "events that the other subscriber received count as skipped or missed"
    );
    let report = it.harness.app.health().ready();
    let note = report.checks.iter().find(|check| check.name == "event-stream").expect("a note");
    assert!(report.ok && !note.ok && note.text.contains("yielded the shared event stream"), "{report:?}");
    assert!(note.text.contains("; polling; next try at 2027-"), "{note:?}");
    it.harness.pass(9 * MINUTE).await;
    assert!(it.yielded() && it.harness.app.health().live().ok, "{:?}", it.harness.app.health().live());
}

#[tokio::test(start_paused = true)]
async fn a_yielded_stream_is_retried_at_growing_intervals() {
    let mut it = Shared::alone(Profile::CONTAINERD_1_7, 2, roomy).await;
    it.join();
    it.until_yielded().await;
    let connects = it.connects();
    let mut waits = vec![it.retry_in()];
    for tries in 1..=4 {
        it.until_opened().await;
        let taken = it.until_yielded().await;
        assert!((1..=FEW).contains(&taken), "try {tries}: {taken}");
        assert_eq!(it.connects(), connects + tries);
        waits.push(it.retry_in());
        it.assert_correct().await;
    }
    assert_eq!(waits, [10, 20, 40, 60, 60]);
}

#[tokio::test(start_paused = true)]
async fn plegd_keeps_the_stream_once_the_other_subscriber_has_left() {
    for profile in SHARED {
        let mut it = Shared::alone(profile, 4, roomy).await;
        it.join();
        it.until_yielded().await;
        it.churn(MINUTE).await;
        it.leave();
        it.until_opened().await;
        it.churn(2 * MINUTE).await;
        assert!(!it.yielded(), "{}", profile.name);
        it.harness.until_evented().await;
        it.churn(2 * MINUTE).await;
        assert!(!it.yielded(), "{}", profile.name);
        it.assert_correct().await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_an_idle_node_another_subscriber_is_detected_with_the_first_pods() {
    for seed in 1..=6 {
        let mut it = Shared::alone(Profile::CONTAINERD_1_7, seed, roomy).await;
        it.join();
        it.harness.pass(10 * MINUTE).await;
        assert_eq!(
            it.harness.app.follower_status().mode,
            Mode::Evented,
            "without events the other subscriber cannot be detected"
        );
        let taken = it.until_yielded().await;
        assert!((1..=FEW).contains(&taken), "seed {seed}: {taken}");
    }
}

#[tokio::test(start_paused = true)]
async fn losses_by_a_restart_or_a_lost_stream_indicate_no_other_subscriber() {
    for profile in SHARED {
        for seed in 1..=4 {
            let mut it = Shared::alone(profile, seed, roomy).await;
            for round in 0..8 {
                it.churn(10 * SECOND).await;
                match round % 4 {
                    // Each dead stream takes one event more.
                    0 => it.harness.sim.cut_streams(None),
                    1 => it.harness.sim.cut_streams(Some(tonic::Status::internal("cut"))),
                    _ => {
                        it.harness.sim.crash();
                        it.churn(2 * SECOND).await;
                        it.harness.sim.recover().expect("recover");
                    }
                }
                it.churn(20 * SECOND).await;
                assert!(!it.yielded(), "{} seed {seed} round {round}", profile.name);
            }
            it.assert_correct().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_restart_opens_a_yielded_stream_at_once_and_resets_the_interval() {
    let mut it = Shared::alone(Profile::CONTAINERD_1_7, 5, roomy).await;
    it.join();
    it.until_yielded().await;
    it.until_opened().await;
    it.until_yielded().await;
    assert_eq!(it.retry_in(), 20);
    it.harness.sim.crash();
    it.leave();
    it.harness.pass(3 * SECOND).await;
    it.harness.sim.recover().expect("recover");
    it.harness.until("the stream", |harness| harness.app.follower_status().stream_up.is_some()).await;
    assert!(!it.yielded());
    it.harness.until_evented().await;
    it.join();
    it.until_yielded().await;
    assert_eq!(it.retry_in(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_policy_can_change_while_plegd_runs() {
    let mut it = Shared::alone(Profile::CONTAINERD_1_7, 6, roomy).await;
    it.join();
    it.until_yielded().await;
    it.adopt(SharedStream::Compete);
    it.harness.until("the stream", |harness| harness.app.follower_status().stream_up.is_some()).await;
    let before = it.received();
    it.churn(MINUTE).await;
    assert!(!it.yielded() && it.received() > before + 100, "plegd competes for events");
    it.adopt(SharedStream::Yield);
    let taken = it.until_yielded().await;
    assert!((1..=FEW).contains(&taken), "{taken}");
    it.assert_correct().await;
}

#[tokio::test(start_paused = true)]
async fn plegd_yields_no_stream_where_each_subscriber_has_its_own_channel() {
    for profile in [Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut it = Shared::alone(profile, 8, roomy).await;
        it.join();
        it.churn(5 * MINUTE).await;
        assert!(!it.yielded() && it.harness.missed_events() == 0.0, "{}", profile.name);
    }
}

/// `cargo test --test shared_channel -- --ignored --nocapture` prints the numbers in docs/performance.md.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement"]
async fn how_many_events_plegd_takes() {
    for profile in SHARED {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for seed in 1..=24 {
            let mut it = Shared::alone(profile, seed, roomy).await;
            it.join();
            first.push(it.until_yielded().await);
            it.until_opened().await;
            again.push(it.until_yielded().await);
        }
        for (when, taken) in [("at first", &mut first), ("at a retry", &mut again)] {
            taken.sort_unstable();
            let median = taken[taken.len() / 2];
            println!("{}, {when}: {} to {}, median {median}", profile.name, taken[0], taken[taken.len() - 1]);
        }
    }
}
