//! Container and sandbox histories on simulated runtimes: complete on either path and after faults.

mod support;

use std::{collections::BTreeMap, time::Duration};

use plegd::{
    config::Config,
    model::EventType,
    model::Mode,
    sim::{
        Churn, Profile,
        truth::{Change, ChangeKind},
    },
};
use support::Harness;

const MINUTE: Duration = Duration::from_secs(60);

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn a_short_lived_container_between_two_relists_is_published_completely_and_once() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.pass(3 * MINUTE).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Evented);
    let pod = harness.pod();
    let id = harness.start(&pod, "short");
    harness.pass(millis(50)).await;
    harness.change(|truth| truth.exit(&id, 3).expect("exit"));
    harness.pass(millis(5)).await;
    harness.change(|truth| truth.remove_container(&id).expect("remove"));
    harness.pass(millis(500)).await;
    assert_eq!(harness.history(&id), ["Changed", "Started", "Died(3 Error)", "Removed"]);
    assert_eq!(harness.history(&pod.sandbox), ["Started"]);
    assert!(harness.events.iter().all(|event| event.source.as_str() == "event"), "{:#?}", harness.lines());
    harness.pass(5 * MINUTE).await;
    assert_eq!(harness.history(&id).len(), 4);
    assert_eq!(harness.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_events_a_container_is_published_by_polling() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    harness.pass(millis(500)).await;
    let pod = harness.pod();
    let id = harness.start(&pod, "long");
    harness.pass(Duration::from_secs(3)).await;
    harness.change(|truth| truth.exit(&id, 0).expect("exit"));
    harness.pass(Duration::from_secs(3)).await;
    harness.change(|truth| truth.remove_container(&id).expect("remove"));
    harness.pass(Duration::from_secs(3)).await;
    assert_eq!(harness.history(&id), ["Started", "Died(0 Completed)", "Removed"]);
    assert_eq!(harness.app.follower_status().mode, Mode::Polling);
    assert_eq!(harness.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_is_published_although_it_has_no_event() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.pass(3 * MINUTE).await;
    let pod = harness.pod();
    let id = harness.create(&pod, "broken");
    harness.change(|truth| truth.fail_start(&id, "no such file").expect("fail"));
    harness.pass(Duration::from_secs(6)).await;
    assert_eq!(harness.history(&id), ["Changed", "Died(128 StartError)"]);
    assert_eq!(harness.metric(r#"plegd_missed_events_total{type="stopped"}"#), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_oom_killed_reason_that_is_set_late_is_published() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.pass(3 * MINUTE).await;
    let pod = harness.pod();
    let id = harness.start(&pod, "greedy");
    harness.pass(millis(100)).await;
    harness.change(|truth| truth.oom(&id).expect("oom"));
    harness.pass(Duration::from_secs(3)).await;
    assert_eq!(harness.history(&id), ["Changed", "Started", "Died(137 Error)", "Changed(OOMKilled)"]);
    assert_eq!(harness.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_runtime_is_followed_again_and_changes_meanwhile_are_published() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    let ids: Vec<String> = (0..10).map(|n| harness.start(&pod, &format!("c{n}"))).collect();
    harness.pass(3 * MINUTE).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Evented);
    harness.sim.crash();
    harness.pass(millis(500)).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Polling);
    for id in &ids[..5] {
        harness.change(|truth| truth.exit(id, 1).expect("exit"));
    }
    harness.sim.recover().expect("recover");
    harness.until("the deaths", |harness| ids[..5].iter().all(|id| harness.history(id).len() == 3)).await;
    for id in &ids[..5] {
        assert_eq!(harness.history(id), ["Changed", "Started", "Died(1 Error)"]);
    }
    harness.pass(3 * MINUTE).await;
    assert_eq!(harness.app.follower_status().mode, Mode::Evented);
    assert_eq!(harness.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_old_events_publishes_nothing_twice_and_resurrects_nothing() {
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1] {
        let mut removed = String::new();
        let mut harness = Harness::after(
            profile,
            1,
            |_| (),
            |sim| {
                let spec = plegd::sim::truth::SandboxSpec::of_pod("default", "old", "uid-old");
                let container = plegd::sim::truth::ContainerSpec::of_pod(&spec, "c", 0, "busybox");
                sim.change(|truth| {
                    let sandbox = truth.run_sandbox(spec.clone()).expect("run");
                    let kept = truth.create_container(&sandbox, container.clone()).expect("create");
                    truth.start_container(&kept).expect("start");
                    let gone = plegd::sim::truth::ContainerSpec { name: "gone".into(), ..container };
                    removed = truth.create_container(&sandbox, gone).expect("create");
                    truth.start_container(&removed).expect("start");
                    truth.exit(&removed, 0).expect("exit");
                    truth.remove_container(&removed).expect("remove");
                });
            },
        )
        .await;
        harness.pass(Duration::from_secs(10)).await;
        assert_eq!(harness.history(&removed), [""; 0]);
        let starts = harness.events.iter().filter(|event| event.kind == EventType::ContainerStarted).count();
        assert_eq!(starts, 2, "{:#?}", harness.lines());
        assert_eq!(harness.differences(), [""; 0]);
    }
}

/// The events that the history of one id should produce.
fn expected(history: &[&Change]) -> Vec<&'static str> {
    let mut words = Vec::new();
    let mut dead = false;
    for change in history {
        match (&change.kind, change.subject) {
            (ChangeKind::Created, _)
            | (
                ChangeKind::Lost
                | ChangeKind::ReasonChanged { .. }
                | ChangeKind::ReadyAgain
                | ChangeKind::Relapsed,
                _,
            ) => {}
            (ChangeKind::Started, _) => words.push("Started"),
            (ChangeKind::Died { .. }, _) => {
                dead = true;
                words.push("Died");
            }
            (ChangeKind::Removed, _) => {
                if !dead {
                    words.push("Died");
                }
                words.push("Removed");
            }
        }
    }
    words
}

fn by_id(history: &[Change]) -> BTreeMap<&str, Vec<&Change>> {
    let mut by_id: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in history {
        by_id.entry(&change.id).or_default().push(change);
    }
    by_id
}

#[tokio::test(start_paused = true)]
async fn with_a_complete_stream_the_events_equal_the_history_under_churn() {
    for seed in 1..=10 {
        let configure = |config: &mut Config| config.journal.events = 1_000_000;
        let mut harness = Harness::after(Profile::CONTAINERD_2_1, seed, configure, |_| ()).await;
        harness.pass(Duration::from_secs(5)).await;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut churn = Churn::new(10);
        for _ in 0..1500 {
            harness.change(|truth| churn.step(&mut rng, truth));
            harness.pass(Duration::from_micros(rng.u64(10..200_000))).await;
        }
        harness.pass(2 * MINUTE).await;
        assert_eq!(harness.differences(), [""; 0], "seed {seed}");
        let history = harness.sim.history();
        for (id, changes) in by_id(&history) {
            let published: Vec<String> = harness
                .history(id)
                .into_iter()
                .filter(|word| !word.starts_with("Changed"))
                .map(|word| word.split(['(', '!']).next().unwrap_or_default().to_owned())
                .collect();
            let subject = changes[0].subject;
            assert_eq!(
                published,
                expected(&changes),
                "seed {seed}, {subject:?} {id}: {changes:#?}\npublished {:?}",
                harness.history(id)
            );
        }
        assert_eq!(harness.events.iter().filter(|event| event.kind == EventType::PodSync).count(), 0);
        let misses: f64 = ["started", "stopped", "deleted"]
            .iter()
            .map(|kind| harness.metric(&format!(r#"plegd_missed_events_total{{type="{kind}"}}"#)))
            .sum();
        assert_eq!(misses, 0.0, "seed {seed}");
    }
}
