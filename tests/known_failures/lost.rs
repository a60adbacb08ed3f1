//! Changes that were never published: dropped from full channels, between two lists, without their exit code, or behind a blocked reader.

use plegd::{
    config::Config,
    sim::{CallFault, Churn, Dose, EventFault, Method, Profile, churn::populate},
    watch::{GapReason, Request, SlowPolicy, Start, Update},
};
use tonic::Code;

use crate::{MINUTE, NONE, SECOND, STARTED, STOPPED, evented, last, support::Harness};

#[tokio::test(start_paused = true)]
async fn kubernetes_136408_events_that_do_not_fit_become_a_gap_with_the_state_after_it() {
    let small = |config: &mut Config| config.journal.events = 8;
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, small, |_| ()).await;
    tokio::time::sleep(2 * SECOND).await;
    let request = Request { start: Start::Snapshot, slow_policy: SlowPolicy::Resync, ..Request::default() };
    let mut slow = harness.app.watch(request).expect("a valid request");
    let available = |watch: &mut plegd::watch::Watch| -> Vec<Update> {
        std::iter::from_fn(|| watch.try_next().expect("no error")).collect()
    };
    available(&mut slow);
    let pod = harness.pod();
    let ids: Vec<String> = (0..20).map(|n| harness.start(&pod, &format!("c{n}"))).collect();
    tokio::time::sleep(3 * SECOND).await;
    harness.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    tokio::time::sleep(3 * SECOND).await;
    let updates = available(&mut slow);
    let gap = updates
        .iter()
        .position(|update| matches!(update, Update::Gap(gap) if gap.reason == GapReason::Compacted));
    let gap = gap.expect("an explicit gap, since 41 events do not fit");
    let pods = updates[gap..].iter().filter_map(|update| match update {
        Update::Pod(pod) => Some(pod),
        _ => None,
    });
    let dead =
        pods.flat_map(|pod| &pod.containers).filter(|container| container.exit_code == Some(1)).count();
    assert_eq!(dead, 20, "the last state of all containers: {updates:#?}");
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_72482_subscribers_that_read_nothing_stop_no_relist() {
    let small = |config: &mut Config| config.journal.events = 64;
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, small, |_| ()).await;
    let stuck: Vec<_> = (0..100).map(|_| harness.app.journal().cursor(0)).collect();
    let watches: Vec<_> = (0..100).map(|_| harness.app.watch(Request::default()).expect("a watch")).collect();
    for n in 0..30 {
        let pod = harness.pod();
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(2 * SECOND).await;
        assert_eq!(harness.history(&id), ["Started"], "container {n}");
        assert!(harness.app.health().live().ok && harness.app.health().ready().ok);
    }
    assert!(harness.metric(r#"plegd_relists_total{cause="period",result="ok"}"#) >= 50.0);
    assert!(stuck.iter().all(|cursor| cursor.lag() == 60));
    drop(watches);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_103732_all_pods_at_the_start_are_published() {
    let full =
        |sim: &plegd::sim::SimRuntime| sim.change(|truth| populate(truth, 1, 250, 4)).expect("populate");
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1] {
        let mut harness = Harness::after(profile, 1, |_| (), full).await;
        // The subscriber reads after the end; a channel of 1000 would have dropped a fifth.
        tokio::time::sleep(10 * SECOND).await;
        harness.drain();
        assert_eq!(harness.events.len(), 250 * 5, "{}", profile.name);
        assert_eq!(harness.violations(), NONE, "{}", profile.name);
        assert_eq!(harness.metric("plegd_journal_evicted_total"), 0.0, "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_67923_changes_between_two_lists_or_while_lists_fail_are_published() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    // Lists fail for ten minutes, in which containers come and go, and one event is lost.
    let fail = CallFault::fail(Code::Internal);
    harness.sim.faults().calls(Method::ListContainers, fail, Dose::Always);
    let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let mut ids = Vec::new();
    for name in &names {
        let id = harness.start(&pod, name);
        harness.pass(3 * SECOND).await;
        harness.change(|truth| truth.exit(&id, 0).expect("exit"));
        harness.change(|truth| truth.remove_container(&id).expect("remove"));
        harness.pass(3 * SECOND).await;
        ids.push(id);
    }
    for id in &ids {
        assert_eq!(harness.history(id), ["Changed", "Started", "Died(0 Completed)", "Removed"]);
    }
    let stuck = harness.start(&pod, "stopped-is-lost");
    harness.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
    harness.change(|truth| truth.exit(&stuck, 1).expect("exit"));
    harness.pass(SECOND).await;
    assert_eq!(last(&harness, &stuck), "Started");
    harness.sim.faults().clear();
    harness.pass(3 * SECOND).await;
    assert_eq!(last(&harness, &stuck), "Died(1 Error)", "by the first list that succeeds");
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_104107_the_exit_code_of_a_container_removed_at_once_is_published() {
    let faults = [
        None,
        Some(EventFault::Delay(SECOND / 10)),
        Some(EventFault::Duplicate),
        Some(EventFault::NilStatus),
    ];
    for (profile, way) in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1]
        .into_iter()
        .zip([faults, faults])
        .flat_map(|(p, w)| w.map(|w| (p, w)))
    {
        let mut harness = evented(profile).await;
        let pod = harness.pod();
        for code in [0, 1, 3, 137] {
            if let Some(fault) = way {
                // With a delay, STOPPED arrives after DELETED.
                harness.sim.faults().events_only(STOPPED, fault, Dose::Next(1));
            }
            let id = harness.start(&pod, &format!("c{code}"));
            harness.pass(SECOND).await;
            harness.change(|truth| {
                truth.exit(&id, code).expect("exit");
                truth.remove_container(&id).expect("remove");
            });
            harness.pass(SECOND).await;
            let died = format!("Died({code} {})", if code == 0 { "Completed" } else { "Error" });
            assert_eq!(harness.history(&id)[2..], [died.as_str(), "Removed"], "{} {way:?}", profile.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_135713_a_process_that_dies_during_its_start_is_published_as_started_and_dead() {
    for fault in [
        None,
        Some(EventFault::Delay(SECOND / 2)),
        Some(EventFault::Drop),
        Some(EventFault::Stall(SECOND / 2)),
    ] {
        let mut harness = evented(Profile::CONTAINERD_2_1).await;
        let pod = harness.pod();
        harness.pass(SECOND).await;
        if let Some(fault) = fault {
            harness.sim.faults().events_only(STARTED, fault, Dose::Next(1));
        }
        let id = harness.start(&pod, "init");
        harness.change(|truth| truth.exit(&id, 2).expect("exit"));
        harness.pass(3 * SECOND).await;
        let history: Vec<_> = harness.history(&id).iter().map(|word| word.replace('!', "")).collect();
        assert_eq!(history, ["Changed", "Started", "Died(2 Error)"], "{fault:?}: both transitions");
        let fresh = crate::now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_137921_no_metric_sample_appears_twice() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut churn = Churn::new(8);
    for _ in 0..50 {
        harness.change(|truth| churn.step(&mut rng, truth));
        harness.pass(SECOND / 10).await;
    }
    let text = harness.app.metrics().scrape().expect("metrics");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<&str> = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(all > 200);
    assert_eq!(names.len(), all);
    // Removed objects are not counted. The kubelet's gauge keeps the last value of a state that has no objects.
    harness.change(|truth| {
        let ids: Vec<String> = truth.view().sandboxes.keys().cloned().collect();
        ids.iter().for_each(|id| truth.remove_sandbox(id).expect("remove"));
    });
    harness.pass(2 * MINUTE).await;
    for state in ["created", "running", "exited", "unknown"] {
        assert_eq!(harness.metric(&format!(r#"plegd_containers{{state="{state}"}}"#)), 0.0);
    }
}
