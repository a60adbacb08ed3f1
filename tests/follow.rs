//! What plegd tells of a node, on simulated runtimes: lives as a whole, whatever the path and whatever goes wrong.

mod support;

use std::{collections::BTreeMap, time::Duration};

use plegd::{
    config::Config,
    model::EventType,
    sim::{
        Churn, Profile,
        truth::{Change, What},
    },
    supervisor::Mode,
};
use support::World;

const MINUTE: Duration = Duration::from_secs(60);

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn a_short_life_between_two_relists_is_told_whole_and_once() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.pass(3 * MINUTE).await;
    assert_eq!(world.app.follower_status().mode, Mode::Evented);
    let pod = world.pod();
    let id = world.start(&pod, "short");
    world.pass(millis(50)).await;
    world.change(|truth| truth.exit(&id, 3).expect("exit"));
    world.pass(millis(5)).await;
    world.change(|truth| truth.remove_container(&id).expect("remove"));
    world.pass(millis(500)).await;
    assert_eq!(world.story(&id), ["Changed", "Started", "Died(3 Error)", "Removed"]);
    assert_eq!(world.story(&pod.sandbox), ["Started"]);
    assert!(world.told.iter().all(|event| event.source.as_str() == "event"), "{:#?}", world.lines());
    world.pass(5 * MINUTE).await;
    assert_eq!(world.story(&id).len(), 4);
    assert_eq!(world.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_events_a_life_is_told_by_polling() {
    let mut world = World::new(Profile::CONTAINERD_1_6);
    world.pass(millis(500)).await;
    let pod = world.pod();
    let id = world.start(&pod, "long");
    world.pass(Duration::from_secs(3)).await;
    world.change(|truth| truth.exit(&id, 0).expect("exit"));
    world.pass(Duration::from_secs(3)).await;
    world.change(|truth| truth.remove_container(&id).expect("remove"));
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(world.story(&id), ["Started", "Died(0 Completed)", "Removed"]);
    assert_eq!(world.app.follower_status().mode, Mode::Polling);
    assert_eq!(world.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_told_although_nothing_signals_it() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.pass(3 * MINUTE).await;
    let pod = world.pod();
    let id = world.create(&pod, "broken");
    world.change(|truth| truth.fail_start(&id, "no such file").expect("fail"));
    world.pass(Duration::from_secs(6)).await;
    assert_eq!(world.story(&id), ["Changed", "Died(128 StartError)"]);
    assert_eq!(world.metric(r#"plegd_missed_events_total{type="stopped"}"#), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_oom_kill_that_is_called_one_late_is_told() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.pass(3 * MINUTE).await;
    let pod = world.pod();
    let id = world.start(&pod, "greedy");
    world.pass(millis(100)).await;
    world.change(|truth| truth.oom(&id).expect("oom"));
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(world.story(&id), ["Changed", "Started", "Died(137 Error)", "Changed(OOMKilled)"]);
    assert_eq!(world.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_runtime_is_followed_again_and_what_changed_meanwhile_is_told() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    let pod = world.pod();
    let ids: Vec<String> = (0..10).map(|n| world.start(&pod, &format!("c{n}"))).collect();
    world.pass(3 * MINUTE).await;
    assert_eq!(world.app.follower_status().mode, Mode::Evented);
    world.sim.crash();
    world.pass(millis(500)).await;
    assert_eq!(world.app.follower_status().mode, Mode::Polling);
    for id in &ids[..5] {
        world.change(|truth| truth.exit(id, 1).expect("exit"));
    }
    world.sim.recover().expect("recover");
    world.until("told", |world| ids[..5].iter().all(|id| world.story(id).len() == 3)).await;
    for id in &ids[..5] {
        assert_eq!(world.story(id), ["Changed", "Started", "Died(1 Error)"]);
    }
    world.pass(3 * MINUTE).await;
    assert_eq!(world.app.follower_status().mode, Mode::Evented);
    assert_eq!(world.differences(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_old_events_tells_nothing_twice_and_resurrects_nothing() {
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1] {
        let mut removed = String::new();
        let mut world = World::after(
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
        world.pass(Duration::from_secs(10)).await;
        assert_eq!(world.story(&removed), [""; 0]);
        let starts = world.told.iter().filter(|event| event.kind == EventType::ContainerStarted).count();
        assert_eq!(starts, 2, "{:#?}", world.lines());
        assert_eq!(world.differences(), [""; 0]);
    }
}

/// What the truth's history should have been told as, for one id.
fn expected(history: &[&Change]) -> Vec<&'static str> {
    let mut words = Vec::new();
    let mut dead = false;
    for change in history {
        match (&change.what, change.subject) {
            (What::Created, _)
            | (What::Lost | What::ReasonChanged { .. } | What::ReadyAgain | What::Relapsed, _) => {}
            (What::Started, _) => words.push("Started"),
            (What::Died { .. }, _) => {
                dead = true;
                words.push("Died");
            }
            (What::Removed, _) => {
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
async fn churn_is_told_exactly_as_it_was_on_a_runtime_with_a_good_stream() {
    for seed in 1..=10 {
        let configure = |config: &mut Config| config.journal.events = 1_000_000;
        let mut world = World::after(Profile::CONTAINERD_2_1, seed, configure, |_| ()).await;
        world.pass(Duration::from_secs(5)).await;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut churn = Churn::new(10);
        for _ in 0..1500 {
            world.change(|truth| churn.step(&mut rng, truth));
            world.pass(Duration::from_micros(rng.u64(10..200_000))).await;
        }
        world.pass(2 * MINUTE).await;
        assert_eq!(world.differences(), [""; 0], "seed {seed}");
        let history = world.sim.history();
        for (id, changes) in by_id(&history) {
            let told: Vec<String> = world
                .story(id)
                .into_iter()
                .filter(|word| !word.starts_with("Changed"))
                .map(|word| word.split(['(', '!']).next().unwrap_or_default().to_owned())
                .collect();
            let subject = changes[0].subject;
            assert_eq!(
                told,
                expected(&changes),
                "seed {seed}, {subject:?} {id}: {changes:#?}\ntold {:?}",
                world.story(id)
            );
        }
        assert_eq!(world.told.iter().filter(|event| event.kind == EventType::PodSync).count(), 0);
        let misses: f64 = ["started", "stopped", "deleted"]
            .iter()
            .map(|kind| world.metric(&format!(r#"plegd_missed_events_total{{type="{kind}"}}"#)))
            .sum();
        assert_eq!(misses, 0.0, "seed {seed}");
    }
}
