//! Changes that were never told: dropped from full channels, between two lists, with their exit code, or by a blocked reader.

use plegd::{
    config::Config,
    sim::{CallFault, Churn, Dose, EventFault, Method, Profile, churn::populate},
    watch::{GapReason, Request, SlowPolicy, Start, Update},
};
use tonic::Code;

use crate::{MINUTE, NONE, SECOND, STARTED, STOPPED, evented, last, support::World};

#[tokio::test(start_paused = true)]
async fn kubernetes_136408_what_does_not_fit_is_told_as_a_gap_with_the_state_after_it() {
    let small = |config: &mut Config| config.journal.events = 8;
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, small, |_| ()).await;
    tokio::time::sleep(2 * SECOND).await;
    let request = Request { start: Start::Snapshot, slow_policy: SlowPolicy::Resync, ..Request::default() };
    let mut slow = world.app.watch(request).expect("a request that can be met");
    let at_hand = |watch: &mut plegd::watch::Watch| -> Vec<Update> {
        std::iter::from_fn(|| watch.try_next().expect("it goes on")).collect()
    };
    at_hand(&mut slow);
    let pod = world.pod();
    let ids: Vec<String> = (0..20).map(|n| world.start(&pod, &format!("c{n}"))).collect();
    tokio::time::sleep(3 * SECOND).await;
    world.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    tokio::time::sleep(3 * SECOND).await;
    let told = at_hand(&mut slow);
    let gap = told
        .iter()
        .position(|update| matches!(update, Update::Gap(gap) if gap.reason == GapReason::Compacted));
    let gap = gap.expect("41 events do not fit, and that is said");
    let pods = told[gap..].iter().filter_map(|update| match update {
        Update::Pod(pod) => Some(pod),
        _ => None,
    });
    let dead =
        pods.flat_map(|pod| &pod.containers).filter(|container| container.exit_code == Some(1)).count();
    assert_eq!(dead, 20, "the last state of all of them: {told:#?}");
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_72482_subscribers_who_read_nothing_stop_no_relist() {
    let small = |config: &mut Config| config.journal.events = 64;
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, small, |_| ()).await;
    let stuck: Vec<_> = (0..100).map(|_| world.app.journal().cursor(0)).collect();
    let watches: Vec<_> = (0..100).map(|_| world.app.watch(Request::default()).expect("a watch")).collect();
    for n in 0..30 {
        let pod = world.pod();
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(2 * SECOND).await;
        assert_eq!(world.story(&id), ["Started"], "life {n}");
        assert!(world.app.health().live().ok && world.app.health().ready().ok);
    }
    assert!(world.metric(r#"plegd_relists_total{cause="period",result="ok"}"#) >= 50.0);
    assert!(stuck.iter().all(|cursor| cursor.lag() == 60));
    drop(watches);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_103732_a_node_full_of_pods_at_the_start_is_told_whole() {
    let full =
        |sim: &plegd::sim::SimRuntime| sim.change(|truth| populate(truth, 1, 250, 4)).expect("populate");
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1] {
        let mut world = World::after(profile, 1, |_| (), full).await;
        // Nobody reads until all is over; a channel of 1000 would have lost a fifth.
        tokio::time::sleep(10 * SECOND).await;
        world.drain();
        assert_eq!(world.told.len(), 250 * 5, "{}", profile.name);
        assert_eq!(world.absurdities(), NONE, "{}", profile.name);
        assert_eq!(world.metric("plegd_journal_evicted_total"), 0.0, "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_67923_what_happens_between_two_lists_or_while_they_fail_is_told() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    world.pass(SECOND).await;
    // No list can be had for ten minutes, in which containers live and die, and one of the events is lost.
    let fail = CallFault::fail(Code::Internal);
    world.sim.faults().calls(Method::ListContainers, fail, Dose::Always);
    let lives: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let mut ids = Vec::new();
    for name in &lives {
        let id = world.start(&pod, name);
        world.pass(3 * SECOND).await;
        world.change(|truth| truth.exit(&id, 0).expect("exit"));
        world.change(|truth| truth.remove_container(&id).expect("remove"));
        world.pass(3 * SECOND).await;
        ids.push(id);
    }
    for id in &ids {
        assert_eq!(world.story(id), ["Changed", "Started", "Died(0 Completed)", "Removed"]);
    }
    let stuck = world.start(&pod, "its end is not told");
    world.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
    world.change(|truth| truth.exit(&stuck, 1).expect("exit"));
    world.pass(SECOND).await;
    assert_eq!(last(&world, &stuck), "Started");
    world.sim.faults().clear();
    world.pass(3 * SECOND).await;
    assert_eq!(last(&world, &stuck), "Died(1 Error)", "by the first list that can be had");
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_104107_the_exit_code_of_what_is_gone_at_once_is_told() {
    let ways = [
        None,
        Some(EventFault::Delay(SECOND / 10)),
        Some(EventFault::Duplicate),
        Some(EventFault::NilStatus),
    ];
    for (profile, way) in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1]
        .into_iter()
        .zip([ways, ways])
        .flat_map(|(p, w)| w.map(|w| (p, w)))
    {
        let mut world = evented(profile).await;
        let pod = world.pod();
        for code in [0, 1, 3, 137] {
            if let Some(fault) = way {
                // With a delay, STOPPED comes after DELETED.
                world.sim.faults().events_only(STOPPED, fault, Dose::Next(1));
            }
            let id = world.start(&pod, &format!("c{code}"));
            world.pass(SECOND).await;
            world.change(|truth| {
                truth.exit(&id, code).expect("exit");
                truth.remove_container(&id).expect("remove");
            });
            world.pass(SECOND).await;
            let died = format!("Died({code} {})", if code == 0 { "Completed" } else { "Error" });
            assert_eq!(world.story(&id)[2..], [died.as_str(), "Removed"], "{} {way:?}", profile.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_135713_a_process_that_dies_while_it_starts_has_started_and_died() {
    for fault in [
        None,
        Some(EventFault::Delay(SECOND / 2)),
        Some(EventFault::Drop),
        Some(EventFault::Stall(SECOND / 2)),
    ] {
        let mut world = evented(Profile::CONTAINERD_2_1).await;
        let pod = world.pod();
        world.pass(SECOND).await;
        if let Some(fault) = fault {
            world.sim.faults().events_only(STARTED, fault, Dose::Next(1));
        }
        let id = world.start(&pod, "init");
        world.change(|truth| truth.exit(&id, 2).expect("exit"));
        world.pass(3 * SECOND).await;
        let story: Vec<_> = world.story(&id).iter().map(|word| word.replace('!', "")).collect();
        assert_eq!(
            story,
            ["Changed", "Started", "Died(2 Error)"],
            "{fault:?}: as it was, nothing smoothed over"
        );
        let fresh = crate::now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_137921_no_figure_is_there_twice() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut churn = Churn::new(8);
    for _ in 0..50 {
        world.change(|truth| churn.step(&mut rng, truth));
        world.pass(SECOND / 10).await;
    }
    let text = world.app.metrics().scrape().expect("metrics");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<&str> = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(all > 200);
    assert_eq!(names.len(), all);
    // What is gone is counted no more; the kubelet's gauge keeps the last value of a state that nothing is in.
    world.change(|truth| {
        let ids: Vec<String> = truth.view().sandboxes.keys().cloned().collect();
        ids.iter().for_each(|id| truth.remove_sandbox(id).expect("remove"));
    });
    world.pass(2 * MINUTE).await;
    for state in ["created", "running", "exited", "unknown"] {
        assert_eq!(world.metric(&format!(r#"plegd_containers{{state="{state}"}}"#)), 0.0);
    }
}
