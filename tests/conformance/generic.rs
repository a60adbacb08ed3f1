//! The generic path: differences between lists, failed reads, and health.

use std::time::Duration;

use plegd::{
    config::Config,
    model::Mode,
    sim::{CallFault, Dose, Method, Profile, Target},
};
use tonic::Code;

use crate::{
    MINUTE, NONE, SECOND, ended, polling,
    support::{Harness, TestPod},
};

#[tokio::test(start_paused = true)]
async fn the_first_list_is_published_once_and_the_next_one_only_by_its_changes() {
    let mut harness = polling();
    let (a, b) = (harness.pod(), harness.pod());
    let (a1, a2, a3) = (ended(&harness, &a, "c1"), harness.start(&a, "c2"), harness.create(&a, "c3"));
    let b1 = ended(&harness, &b, "c1");
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&a1), ["Started!", "Died(1 Error)"]);
    assert_eq!(harness.history(&a2), ["Started"]);
    assert_eq!(harness.history(&a3), ["Changed"], "created and not started is a state");
    assert_eq!(harness.history(&b1), ["Started!", "Died(1 Error)"]);
    let published = harness.events.len();
    harness.pass(10 * SECOND).await;
    assert_eq!(harness.events.len(), published, "the same list again");
    let b4 = harness.start(&b, "c4");
    harness.change(|truth| {
        truth.exit(&a2, 2).expect("exit");
        truth.start_container(&a3).expect("start");
        [&a1, &b1].into_iter().for_each(|id| truth.remove_container(id).expect("remove"));
    });
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&a1)[2..], ["Removed"]);
    assert_eq!(harness.history(&a2)[1..], ["Died(2 Error)"]);
    assert_eq!(harness.history(&a3)[1..], ["Started"]);
    assert_eq!(harness.history(&b1)[2..], ["Removed"]);
    assert_eq!(harness.history(&b4), ["Started"]);
    assert_eq!(harness.events.len(), published + 5);
}

#[tokio::test(start_paused = true)]
async fn sandboxes_are_listed_and_published_like_containers() {
    let mut harness = polling();
    let [ready, ended, ends] = [harness.pod(), harness.pod(), harness.pod()];
    harness.change(|truth| truth.sandbox_died(&ended.sandbox));
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&ready.sandbox), ["Started"]);
    assert_eq!(harness.history(&ended.sandbox), ["Died"]);
    assert_eq!(harness.history(&ends.sandbox), ["Started"]);
    let published = harness.events.len();
    harness.pass(10 * SECOND).await;
    assert_eq!(harness.events.len(), published, "the same list again");
    let new = harness.pod();
    harness.change(|truth| {
        truth.sandbox_died(&ends.sandbox);
        truth.remove_sandbox(&ended.sandbox).expect("remove");
    });
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.history(&ended.sandbox)[1..], ["Removed"]);
    assert_eq!(harness.history(&ends.sandbox)[1..], ["Died"]);
    assert_eq!(harness.history(&new.sandbox), ["Started"]);
    assert_eq!(harness.events.len(), published + 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_ring_blocks_no_relist_and_its_gap_names_the_evicted_events() {
    let four = |config: &mut Config| config.journal.events = 4;
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, four, |_| ()).await;
    let mut reader = harness.app.journal().cursor(0);
    let pod = harness.pod();
    let [c1, c2] = ["c1", "c2"].map(|name| harness.start(&pod, name));
    tokio::time::sleep(2 * SECOND).await;
    let mut read = |count| -> Vec<u64> {
        (0..count).filter_map(|_| Some(reader.try_next().expect("no gap")?.sequence)).collect()
    };
    assert_eq!(read(9), [1, 2, 3]);
    harness.change(|truth| [&c1, &c2].into_iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    for name in ["c3", "c4", "c5"] {
        harness.start(&pod, name);
    }
    let relists = harness.metric(r#"plegd_relists_total{cause="period",result="ok"}"#);
    tokio::time::sleep(5 * SECOND).await;
    assert!(harness.metric(r#"plegd_relists_total{cause="period",result="ok"}"#) >= relists + 3.0);
    let gap = reader.try_next().expect_err("five events do not fit");
    assert_eq!((gap.from, gap.to), (4, 4), "an explicit gap");
    let rest = std::iter::from_fn(|| reader.try_next().expect("no gap"));
    assert_eq!(rest.map(|event| event.sequence).collect::<Vec<_>>(), [5, 6, 7, 8]);
    assert_eq!(harness.differences(), NONE, "the cache has all changes");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_vanishes_from_the_list_is_removed_and_has_died_before_if_it_ran() {
    for relists in [1, 3] {
        let mut harness = polling();
        let (stays, goes) = (harness.pod(), harness.pod());
        let containers = |pod: &TestPod| [harness.start(pod, "runs"), ended(&harness, pod, "ended")];
        let (of_stays, of_goes) = (containers(&stays), containers(&goes));
        harness.pass(SECOND / 2 + (relists - 1) * SECOND).await;
        harness.change(|truth| {
            of_stays.iter().for_each(|id| truth.vanish_container(id));
            truth.vanish_sandbox(&goes.sandbox);
        });
        harness.pass(2 * SECOND).await;
        for [runs, ended] in [of_stays, of_goes] {
            assert_eq!(harness.history(&runs), ["Started", "Died!", "Removed"], "after {relists}");
            assert_eq!(harness.history(&ended), ["Started!", "Died(1 Error)", "Removed"], "after {relists}");
        }
        assert_eq!(harness.history(&goes.sandbox), ["Started", "Died!", "Removed"]);
        assert_eq!(
            (harness.served(&goes), harness.history(&stays.sandbox)),
            (None, vec!["Started".to_owned()])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_of_one_pod_is_retried_and_delays_no_other_pod() {
    let mut harness = polling();
    let (fails, other) = (harness.pod(), harness.pod());
    let id = harness.start(&fails, "c");
    harness.pass(3 * SECOND).await;
    let fail = CallFault::fail(Code::Internal);
    harness.sim.faults().calls(Method::ContainerStatus, fail, Dose::Next(1));
    harness.change(|truth| {
        truth.exit(&id, 1).expect("exit");
        truth.sandbox_died(&other.sandbox);
    });
    harness.until("the other pod's event", |harness| harness.history(&other.sandbox).len() == 2).await;
    assert_eq!(harness.history(&id), ["Started"]);
    assert_eq!(harness.metric("plegd_pods_failing_reads"), 1.0);
    let held = harness.served(&fails).expect("the last known state is served, not an empty status");
    assert_eq!(held.container(&id).map(|container| container.state.as_str()), Some("running"));
    harness.pass(SECOND).await;
    assert_eq!(harness.history(&id), ["Started", "Died(1 Error)"]);
    assert_eq!(harness.metric("plegd_pods_failing_reads"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_before_it_can_be_read_leaves_no_state_behind() {
    let mut harness = polling();
    let pod = harness.pod();
    let stays = harness.start(&pod, "stays");
    harness.pass(3 * SECOND).await;
    let fail = CallFault::fail(Code::Unknown);
    harness.sim.faults().calls(Method::ContainerStatus, fail, Dose::Next(1));
    let short_lived = harness.start(&pod, "short-lived");
    harness.until("its read fails", |harness| harness.metric("plegd_pods_failing_reads") == 1.0).await;
    harness.change(|truth| truth.vanish_container(&short_lived));
    harness.pass(3 * SECOND).await;
    // A list has shown it, so its history is published; the kubelet publishes nothing.
    assert_eq!(harness.history(&short_lived), ["Started", "Died!", "Removed"]);
    assert_eq!(harness.history(&stays), ["Started"]);
    assert_eq!(harness.metric("plegd_pods_failing_reads"), 0.0);
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_no_longer_listed_is_no_longer_served() {
    let mut harness = polling();
    let pod = harness.pod();
    harness.start(&pod, "c");
    harness.pass(2 * SECOND).await;
    assert!(harness.served(&pod).is_some());
    harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    harness.pass(2 * SECOND).await;
    assert_eq!(harness.served(&pod), None);
    assert_eq!(harness.app.cache().list().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_finished_pod_keeps_all_of_its_addresses() {
    for second in [None, Some("fd00::7")] {
        let mut harness = polling();
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.change(|truth| second.into_iter().for_each(|ip| truth.give_address(&pod.sandbox, ip)));
        harness.pass(2 * SECOND).await;
        let addresses = harness.served(&pod).expect("served").ips.clone();
        assert_eq!(addresses.len(), 1 + usize::from(second.is_some()));
        harness.change(|truth| {
            truth.exit(&id, 0).expect("exit");
            truth.stop_sandbox(&pod.sandbox).expect("stop");
        });
        harness.pass(2 * SECOND).await;
        assert_eq!(harness.history(&id), ["Started", "Died(0 Completed)"]);
        let after = harness.served(&pod).expect("served");
        assert_eq!(
            after.sandbox().map(|sandbox| sandbox.ips.len()),
            Some(0),
            "the sandbox's network is down"
        );
        assert_eq!(after.ips, addresses);
    }
}

#[tokio::test(start_paused = true)]
async fn pods_and_containers_are_counted_by_state_and_a_pod_of_two_sandboxes_once() {
    let mut harness = polling();
    let (one, two) = (harness.pod(), harness.pod());
    harness.start(&one, "runs");
    ended(&harness, &one, "ended");
    harness.create(&two, "created");
    let lost = harness.start(&two, "lost");
    harness.change(|truth| {
        truth.fail_load(&lost).expect("lose");
        let again = plegd::sim::truth::SandboxSpec { attempt: 1, ..two.spec.clone() };
        truth.run_sandbox(again).expect("run");
    });
    harness.pass(2 * SECOND).await;
    for (sample, count) in [
        (r#"plegd_containers{state="running"}"#, 1.0),
        (r#"plegd_containers{state="exited"}"#, 1.0),
        (r#"plegd_containers{state="created"}"#, 1.0),
        (r#"plegd_containers{state="unknown"}"#, 1.0),
        (r#"plegd_sandboxes{state="ready"}"#, 3.0),
        (r#"plegd_pods{state="ready"}"#, 2.0),
        (r#"plegd_pods{state="notready"}"#, 0.0),
    ] {
        assert_eq!(harness.metric(sample), count, "{sample}");
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_begins_with_the_first_relist_and_a_metric_has_the_age_of_the_last_one() {
    let stuck = Target::Method(Method::ListPodSandbox);
    let hang = |sim: &plegd::sim::SimRuntime| sim.faults().hang(stuck.clone());
    let mut harness = Harness::after(Profile::CONTAINERD_1_6, 1, |_| (), hang).await;
    let last = |harness: &Harness| harness.metric("plegd_relist_last_success_timestamp_seconds");
    let now = |harness: &Harness| harness.app.clock().wall().as_nanos() as f64 / 1e9;
    for _ in 0..2 {
        let health = harness.app.health();
        assert!(!health.ready().ok && health.live().ok, "no relist has completed");
        assert_eq!(last(&harness), 0.0);
        harness.pass(10 * MINUTE).await;
    }
    harness.sim.faults().release(&stuck);
    harness.pass(8 * SECOND).await;
    assert!(harness.app.health().ready().ok);
    harness.pass(MINUTE).await;
    assert!(now(&harness) - last(&harness) < 2.0);
    harness.sim.faults().hang(stuck);
    harness.pass(11 * MINUTE).await;
    // The kubelet reports its node NotReady by now, although the kubelet itself works.
    assert!(now(&harness) - last(&harness) > 600.0, "an alert on this metric fires");
    let ready = harness.app.health().ready();
    assert!(ready.ok && harness.app.health().live().ok);
    let runtime = ready.checks.iter().find(|check| check.name == "runtime").expect("a check of the runtime");
    assert!(!runtime.ok && runtime.text.contains("ListPodSandbox"), "{runtime:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_both_paths_observe_is_published_once_by_the_first() {
    let often = |config: &mut Config| config.relist.max_period = SECOND;
    let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, often, |_| ()).await;
    harness.pass(5 * SECOND).await;
    let pod = harness.pod();
    for n in 0..20 {
        let id = harness.start(&pod, &format!("c{n}"));
        harness.pass(Duration::from_millis(1300)).await;
        harness.change(|truth| truth.exit(&id, 1).expect("exit"));
        harness.pass(Duration::from_millis(1300)).await;
        harness.change(|truth| truth.remove_container(&id).expect("remove"));
        harness.pass(Duration::from_millis(1300)).await;
        assert_eq!(harness.history(&id), ["Changed", "Started", "Died(1 Error)", "Removed"]);
    }
    assert!(harness.events.iter().all(|event| event.source.as_str() == "event"), "{:#?}", harness.lines());
    assert!(
        harness.metric(r#"plegd_transitions_seen_total{by="both"}"#) >= 60.0,
        "the relist observed them too"
    );
    assert_ne!(harness.app.follower_status().mode, Mode::Polling);
    let sequence: Vec<u64> = harness.events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequence, (1..=sequence.len() as u64).collect::<Vec<_>>());
}
