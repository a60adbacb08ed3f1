//! The generic path: what one list after the other tells, what becomes of a read that fails, and who is healthy.

use std::time::Duration;

use plegd::{
    config::Config,
    sim::{CallFault, Dose, Method, Profile, Target},
    supervisor::Mode,
};
use tonic::Code;

use crate::{
    MINUTE, NONE, SECOND, ended, polling,
    support::{TestPod, World},
};

#[tokio::test(start_paused = true)]
async fn a_list_is_told_once_and_the_next_one_only_by_what_has_changed() {
    let mut world = polling();
    let (a, b) = (world.pod(), world.pod());
    let (a1, a2, a3) = (ended(&world, &a, "c1"), world.start(&a, "c2"), world.create(&a, "c3"));
    let b1 = ended(&world, &b, "c1");
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&a1), ["Started!", "Died(1 Error)"]);
    assert_eq!(world.story(&a2), ["Started"]);
    assert_eq!(world.story(&a3), ["Changed"], "made, and not yet started: a state of its own");
    assert_eq!(world.story(&b1), ["Started!", "Died(1 Error)"]);
    let told = world.told.len();
    world.pass(10 * SECOND).await;
    assert_eq!(world.told.len(), told, "the same list again");
    let b4 = world.start(&b, "c4");
    world.change(|truth| {
        truth.exit(&a2, 2).expect("exit");
        truth.start_container(&a3).expect("start");
        [&a1, &b1].into_iter().for_each(|id| truth.remove_container(id).expect("remove"));
    });
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&a1)[2..], ["Removed"]);
    assert_eq!(world.story(&a2)[1..], ["Died(2 Error)"]);
    assert_eq!(world.story(&a3)[1..], ["Started"]);
    assert_eq!(world.story(&b1)[2..], ["Removed"]);
    assert_eq!(world.story(&b4), ["Started"]);
    assert_eq!(world.told.len(), told + 5);
}

#[tokio::test(start_paused = true)]
async fn sandboxes_are_listed_and_told_as_containers_are() {
    let mut world = polling();
    let [ready, ended, ends] = [world.pod(), world.pod(), world.pod()];
    world.change(|truth| truth.sandbox_died(&ended.sandbox));
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&ready.sandbox), ["Started"]);
    assert_eq!(world.story(&ended.sandbox), ["Died"]);
    assert_eq!(world.story(&ends.sandbox), ["Started"]);
    let told = world.told.len();
    world.pass(10 * SECOND).await;
    assert_eq!(world.told.len(), told, "the same list again");
    let new = world.pod();
    world.change(|truth| {
        truth.sandbox_died(&ends.sandbox);
        truth.remove_sandbox(&ended.sandbox).expect("remove");
    });
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&ended.sandbox)[1..], ["Removed"]);
    assert_eq!(world.story(&ends.sandbox)[1..], ["Died"]);
    assert_eq!(world.story(&new.sandbox), ["Started"]);
    assert_eq!(world.told.len(), told + 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_ring_holds_up_no_relist_and_says_what_fell_off() {
    let four = |config: &mut Config| config.journal.events = 4;
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, four, |_| ()).await;
    let mut reader = world.app.journal().cursor(0);
    let pod = world.pod();
    let [c1, c2] = ["c1", "c2"].map(|name| world.start(&pod, name));
    tokio::time::sleep(2 * SECOND).await;
    let mut read = |count| -> Vec<u64> {
        (0..count).filter_map(|_| Some(reader.try_next().expect("no gap")?.sequence)).collect()
    };
    assert_eq!(read(9), [1, 2, 3]);
    world.change(|truth| [&c1, &c2].into_iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    for name in ["c3", "c4", "c5"] {
        world.start(&pod, name);
    }
    let relists = world.metric(r#"plegd_relists_total{cause="period",result="ok"}"#);
    tokio::time::sleep(5 * SECOND).await;
    assert!(world.metric(r#"plegd_relists_total{cause="period",result="ok"}"#) >= relists + 3.0);
    let gap = reader.try_next().expect_err("five events do not fit");
    assert_eq!((gap.from, gap.to), (4, 4), "said, not lost in silence");
    let rest = std::iter::from_fn(|| reader.try_next().expect("no gap"));
    assert_eq!(rest.map(|event| event.sequence).collect::<Vec<_>>(), [5, 6, 7, 8]);
    assert_eq!(world.differences(), NONE, "and what is served has all of it");
}

#[tokio::test(start_paused = true)]
async fn what_vanishes_from_the_list_has_died_if_it_ran_and_is_removed() {
    for relists in [1, 3] {
        let mut world = polling();
        let (stays, goes) = (world.pod(), world.pod());
        let lives = |pod: &TestPod| [world.start(pod, "runs"), ended(&world, pod, "ended")];
        let (of_stays, of_goes) = (lives(&stays), lives(&goes));
        world.pass(SECOND / 2 + (relists - 1) * SECOND).await;
        world.change(|truth| {
            of_stays.iter().for_each(|id| truth.vanish_container(id));
            truth.vanish_sandbox(&goes.sandbox);
        });
        world.pass(2 * SECOND).await;
        for [runs, ended] in [of_stays, of_goes] {
            assert_eq!(world.story(&runs), ["Started", "Died!", "Removed"], "after {relists}");
            assert_eq!(world.story(&ended), ["Started!", "Died(1 Error)", "Removed"], "after {relists}");
        }
        assert_eq!(world.story(&goes.sandbox), ["Started", "Died!", "Removed"]);
        assert_eq!((world.served(&goes), world.story(&stays.sandbox)), (None, vec!["Started".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_for_one_pod_is_told_by_the_next_one_and_holds_up_no_other() {
    let mut world = polling();
    let (fails, other) = (world.pod(), world.pod());
    let id = world.start(&fails, "c");
    world.pass(3 * SECOND).await;
    let fail = CallFault::fail(Code::Internal);
    world.sim.faults().calls(Method::ContainerStatus, fail, Dose::Next(1));
    world.change(|truth| {
        truth.exit(&id, 1).expect("exit");
        truth.sandbox_died(&other.sandbox);
    });
    world.until("the other pod is told", |world| world.story(&other.sandbox).len() == 2).await;
    assert_eq!(world.story(&id), ["Started"]);
    assert_eq!(world.metric("plegd_pods_failing_reads"), 1.0);
    let held = world.served(&fails).expect("what was last known is served, not an empty status");
    assert_eq!(held.container(&id).map(|container| container.state.as_str()), Some("running"));
    world.pass(SECOND).await;
    assert_eq!(world.story(&id), ["Started", "Died(1 Error)"]);
    assert_eq!(world.metric("plegd_pods_failing_reads"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_before_it_can_be_read_leaves_nothing_behind() {
    let mut world = polling();
    let pod = world.pod();
    let stays = world.start(&pod, "stays");
    world.pass(3 * SECOND).await;
    let fail = CallFault::fail(Code::Unknown);
    world.sim.faults().calls(Method::ContainerStatus, fail, Dose::Next(1));
    let passing = world.start(&pod, "passing");
    world.until("its read fails", |world| world.metric("plegd_pods_failing_reads") == 1.0).await;
    world.change(|truth| truth.vanish_container(&passing));
    world.pass(3 * SECOND).await;
    // The list has shown it, so its life is told; the kubelet would tell nothing.
    assert_eq!(world.story(&passing), ["Started", "Died!", "Removed"]);
    assert_eq!(world.story(&stays), ["Started"]);
    assert_eq!(world.metric("plegd_pods_failing_reads"), 0.0);
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_no_longer_listed_is_no_longer_served() {
    let mut world = polling();
    let pod = world.pod();
    world.start(&pod, "c");
    world.pass(2 * SECOND).await;
    assert!(world.served(&pod).is_some());
    world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    world.pass(2 * SECOND).await;
    assert_eq!(world.served(&pod), None);
    assert_eq!(world.app.cache().list().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_finished_pod_keeps_all_of_its_addresses() {
    for second in [None, Some("fd00::7")] {
        let mut world = polling();
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.change(|truth| second.into_iter().for_each(|ip| truth.give_address(&pod.sandbox, ip)));
        world.pass(2 * SECOND).await;
        let addresses = world.served(&pod).expect("served").ips.clone();
        assert_eq!(addresses.len(), 1 + usize::from(second.is_some()));
        world.change(|truth| {
            truth.exit(&id, 0).expect("exit");
            truth.stop_sandbox(&pod.sandbox).expect("stop");
        });
        world.pass(2 * SECOND).await;
        assert_eq!(world.story(&id), ["Started", "Died(0 Completed)"]);
        let after = world.served(&pod).expect("served");
        assert_eq!(after.sandbox().map(|sandbox| sandbox.ips.len()), Some(0), "its network is down");
        assert_eq!(after.ips, addresses);
    }
}

#[tokio::test(start_paused = true)]
async fn pods_and_containers_are_counted_by_state_and_a_pod_of_two_sandboxes_once() {
    let mut world = polling();
    let (one, two) = (world.pod(), world.pod());
    world.start(&one, "runs");
    ended(&world, &one, "ended");
    world.create(&two, "made");
    let lost = world.start(&two, "lost");
    world.change(|truth| {
        truth.fail_load(&lost).expect("lose");
        let again = plegd::sim::truth::SandboxSpec { attempt: 1, ..two.spec.clone() };
        truth.run_sandbox(again).expect("run");
    });
    world.pass(2 * SECOND).await;
    for (sample, count) in [
        (r#"plegd_containers{state="running"}"#, 1.0),
        (r#"plegd_containers{state="exited"}"#, 1.0),
        (r#"plegd_containers{state="created"}"#, 1.0),
        (r#"plegd_containers{state="unknown"}"#, 1.0),
        (r#"plegd_sandboxes{state="ready"}"#, 3.0),
        (r#"plegd_pods{state="ready"}"#, 2.0),
        (r#"plegd_pods{state="notready"}"#, 0.0),
    ] {
        assert_eq!(world.metric(sample), count, "{sample}");
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_begins_with_the_first_relist_and_the_age_of_the_last_one_is_shown() {
    let stuck = Target::Method(Method::ListPodSandbox);
    let hang = |sim: &plegd::sim::SimRuntime| sim.faults().hang(stuck.clone());
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, |_| (), hang).await;
    let last = |world: &World| world.metric("plegd_relist_last_success_timestamp_seconds");
    let now = |world: &World| world.app.clock().wall().as_nanos() as f64 / 1e9;
    for _ in 0..2 {
        let health = world.app.health();
        assert!(!health.ready().ok && health.live().ok, "no relist is complete");
        assert_eq!(last(&world), 0.0);
        world.pass(10 * MINUTE).await;
    }
    world.sim.faults().release(&stuck);
    world.pass(8 * SECOND).await;
    assert!(world.app.health().ready().ok);
    world.pass(MINUTE).await;
    assert!(now(&world) - last(&world) < 2.0);
    world.sim.faults().hang(stuck);
    world.pass(11 * MINUTE).await;
    // The kubelet would call its node not ready by now, although nothing is wrong with the kubelet.
    assert!(now(&world) - last(&world) > 600.0, "whoever wants to be warned has the figure");
    let ready = world.app.health().ready();
    assert!(ready.ok && world.app.health().live().ok);
    let runtime = ready.checks.iter().find(|check| check.name == "runtime").expect("a note");
    assert!(!runtime.ok && runtime.text.contains("ListPodSandbox"), "{runtime:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_both_paths_see_is_told_once_and_by_the_first() {
    let often = |config: &mut Config| config.relist.max_period = SECOND;
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, often, |_| ()).await;
    world.pass(5 * SECOND).await;
    let pod = world.pod();
    for n in 0..20 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(Duration::from_millis(1300)).await;
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(Duration::from_millis(1300)).await;
        world.change(|truth| truth.remove_container(&id).expect("remove"));
        world.pass(Duration::from_millis(1300)).await;
        assert_eq!(world.story(&id), ["Changed", "Started", "Died(1 Error)", "Removed"]);
    }
    assert!(world.told.iter().all(|event| event.source.as_str() == "event"), "{:#?}", world.lines());
    assert!(
        world.metric(r#"plegd_transitions_seen_total{by="both"}"#) >= 60.0,
        "the relist has seen them too"
    );
    assert_ne!(world.app.follower_status().mode, Mode::Polling);
    let sequence: Vec<u64> = world.told.iter().map(|event| event.sequence).collect();
    assert_eq!(sequence, (1..=sequence.len() as u64).collect::<Vec<_>>());
}
