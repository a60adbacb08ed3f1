//! What containerd's stream does to whoever believes it: stolen, dropped, replayed, empty, late, and never sent.

use std::time::Duration;

use futures::StreamExt as _;
use plegd::{
    sim::{
        Dose, EventFault, Method, Profile, SimRuntime, Target,
        truth::{ContainerSpec, SandboxSpec},
    },
    supervisor::Mode,
};

use crate::{MINUTE, NONE, SECOND, STARTED, STOPPED, evented, last, support::World};

#[tokio::test(start_paused = true)]
async fn containerd_7318_events_that_another_client_takes_are_found_and_missed_aloud() {
    let mut world = evented(Profile::CONTAINERD_1_7).await;
    assert_eq!(
        world.app.follower_status().period,
        10 * SECOND,
        "a shared stream is believed for so long at most"
    );
    let mut stolen = world.sim.queue().subscribe();
    let thief = tokio::spawn(async move { while stolen.next().await.is_some() {} });
    let pod = world.pod();
    let ids: Vec<String> = (0..20).map(|n| world.start(&pod, &format!("c{n}"))).collect();
    world.pass(12 * SECOND).await;
    assert!(ids.iter().all(|id| last(&world, id) == "Started"), "whoever was given the event");
    world.pass(3 * SECOND).await;
    assert!(world.misses() + world.metric(r#"plegd_stream_skipped_events_total{type="created"}"#) >= 2.0);
    assert!(
        world.app.follower_status().yielded.is_some(),
        "from then on the other client receives all of them"
    );
    thief.abort();
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_8935_a_channel_that_overflowed_before_anybody_read_it_misleads_nobody() {
    // Nobody was there for hours: the oldest thousand events are kept and the rest dropped, and then plegd comes.
    let busy = |sim: &SimRuntime| {
        let pod = SandboxSpec::of_pod("default", "busy", "uid-busy");
        sim.change(|truth| {
            let sandbox = truth.run_sandbox(pod.clone()).expect("run");
            for n in 0..600 {
                let spec = ContainerSpec::of_pod(&pod, "c", n, "busybox");
                let id = truth.create_container(&sandbox, spec).expect("create");
                truth.start_container(&id).expect("start");
                if n < 590 {
                    truth.exit(&id, 1).expect("exit");
                    truth.remove_container(&id).expect("remove");
                }
            }
        });
    };
    for profile in [Profile::CONTAINERD_1_7, Profile::CONTAINERD_2_1] {
        let mut world = World::after(profile, 1, |_| (), busy).await;
        let dropped = world.sim.event_counts().dropped;
        assert_eq!(dropped > 1000, profile.name == "containerd-1.7", "{}: {dropped}", profile.name);
        world.pass(10 * SECOND).await;
        assert_eq!(world.told.len(), 11, "{}: the sandbox and what runs, and nothing of old", profile.name);
        assert!(world.metric("plegd_stream_replayed_messages_total") >= 1000.0, "{}", profile.name);
        assert_eq!((world.differences(), world.misses()), (vec![], 0.0), "{}", profile.name);
        world.until_evented().await;
    }
}

#[tokio::test(start_paused = true)]
async fn containerd_9661_a_busy_plegd_keeps_no_life_cycle_call_waiting() {
    // Each of these calls ends when containerd 2.x has handed its event to every subscriber. The lists hang, so that plegd
    // has all the trouble it can have; it is its stream that must go on.
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    world.sim.faults().hang(Target::Method(Method::ListPodSandbox));
    world.sim.faults().hang(Target::Method(Method::ContainerStatus));
    world.sim.faults().events(EventFault::NoStatuses, Dose::Chance(0.3));
    let spec = SandboxSpec::of_pod("default", "busy", "uid-busy");
    let sandbox = world.sim.change_and_wait(|truth| truth.run_sandbox(spec.clone())).await.expect("run");
    let began = world.app.clock().now();
    for n in 0..700 {
        let spec = ContainerSpec::of_pod(&spec, "c", n, "busybox");
        let id =
            world.sim.change_and_wait(|truth| truth.create_container(&sandbox, spec)).await.expect("create");
        world.sim.change_and_wait(|truth| truth.start_container(&id)).await.expect("start");
        world.sim.change_and_wait(|truth| truth.remove_container(&id)).await.expect("remove");
    }
    assert!(world.app.clock().now().since(began) < SECOND, "no call waits for plegd's other work");
    assert_eq!(world.sim.queue().blocked(), 0);
    world.sim.faults().clear();
    world.pass(2 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_11108_what_a_dead_subscriber_ate_is_found_after_the_next_subscription() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    for n in 0..20 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(2 * SECOND).await;
        // The connection breaks; the runtime notices only when it sends, and what it sends until then is gone.
        world.sim.cut_streams(Some(tonic::Status::unavailable("cut")));
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(SECOND / 2).await;
        assert_eq!(last(&world, &id), "Died(1 Error)", "cut {n}: within a moment, not at the next period");
        world.pass(2 * MINUTE).await;
    }
    assert_eq!((world.misses(), world.differences()), (0.0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_12390_a_deletion_without_a_sandbox_status_removes_the_pod() {
    let mut world = evented(Profile::CONTAINERD_1_7).await;
    for _ in 0..5 {
        let pod = world.pod();
        let id = world.start(&pod, "c");
        world.pass(SECOND).await;
        let empty = world.metric("plegd_stream_nil_payloads_total");
        world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        world.pass(SECOND).await;
        assert!(world.metric("plegd_stream_nil_payloads_total") > empty, "its DELETED has none");
        assert_eq!((last(&world, &id), last(&world, &pod.sandbox)), ("Removed".into(), "Removed".into()));
        assert_eq!(world.served(&pod), None);
        let by =
            world.told.iter().rfind(|told| told.id.as_str() == pod.sandbox).map(|told| told.source.as_str());
        assert_eq!(by, Some("event"), "its pod is known by its id, and no list is needed");
    }
    assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn containerd_7111_an_exit_that_is_told_before_its_start_ends_as_an_exit() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    world.sim.faults().events_only(STARTED, EventFault::Reorder, Dose::Always);
    for n in 0..20 {
        let id = world.start(&pod, &format!("c{n}"));
        world.change(|truth| truth.exit(&id, n).expect("exit"));
        world.pass(2 * SECOND).await;
        assert!(last(&world, &id).starts_with(&format!("Died({n} ")), "{:?}", world.story(&id));
        assert_eq!(world.story(&id).len(), 3);
    }
    assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
}

#[tokio::test(start_paused = true)]
async fn containerd_13646_a_stream_that_is_up_and_dead_is_found_out_and_polled_beside() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    world.pass(SECOND).await;
    // The exchange of events is deadlocked: the connection stays, and nothing comes any more.
    world.sim.faults().events(EventFault::Drop, Dose::Always);
    let first = world.start(&pod, "first");
    let began = world.app.clock().now();
    world.until("it is told", |world| last(world, &first) == "Started").await;
    assert!(
        world.app.clock().now().since(began) <= 66 * SECOND,
        "at the latest by the longest period and its jitter"
    );
    world.until("it is found out", |world| world.misses() > 0.0).await;
    world.pass(SECOND / 10).await;
    assert_eq!(world.app.follower_status().mode, Mode::Probing, "silence is not health");
    for n in 0..20 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(5 * SECOND).await;
        assert_eq!(world.story(&id), ["Started"], "life {n}");
        assert_eq!(world.app.follower_status().mode, Mode::Probing);
    }
    assert_eq!(world.misses(), 21.0);
    world.sim.faults().clear();
    world.until_evented().await;
}

#[tokio::test(start_paused = true)]
async fn containerd_9770_lists_that_hang_on_one_container_keep_nothing_from_the_events() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    let stuck = world.start(&pod, "its limits are being updated");
    world.pass(SECOND).await;
    world.sim.faults().hang(Target::Method(Method::ListContainers));
    world.sim.faults().hang(Target::Id(stuck.clone()));
    for n in 0..30 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(3 * SECOND).await;
        world.change(|truth| truth.exit(&id, 1).expect("exit"));
        world.pass(3 * SECOND).await;
        assert_eq!(world.story(&id), ["Changed", "Started", "Died(1 Error)"], "life {n}");
    }
    assert!(
        world.metric(r#"plegd_relists_total{cause="retry",result="error"}"#) >= 5.0,
        "each has its deadline"
    );
    world.sim.faults().clear();
    world.change(|truth| truth.exit(&stuck, 0).expect("exit"));
    world.pass(10 * SECOND).await;
    assert_eq!((last(&world, &stuck), world.differences()), ("Died(0 Completed)".into(), vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_7496_an_exit_that_is_told_minutes_late_is_known_by_the_next_relist() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    for minutes in 2..=5 {
        let id = world.start(&pod, &format!("c{minutes}"));
        world.pass(SECOND).await;
        // Unmounting takes long, and the event waits for it.
        world.sim.faults().events_only(STOPPED, EventFault::Delay(minutes * MINUTE), Dose::Next(1));
        world.change(|truth| truth.exit(&id, 9).expect("exit"));
        world.pass(70 * SECOND).await;
        assert_eq!(last(&world, &id), "Died(9 Error)");
        let told = world.told.len();
        world.pass(minutes * MINUTE).await;
        assert_eq!(world.told.len(), told, "the event tells nothing twice");
        world.until_evented().await;
    }
    assert_eq!(world.misses(), 4.0, "and a stream that is so late is not believed for a while");
}

#[tokio::test(start_paused = true)]
async fn containerd_8180_a_kill_for_want_of_memory_is_called_one_in_the_end() {
    for (profile, story) in [
        (Profile::CONTAINERD_1_7, &["Died(137 Error)", "Changed(OOMKilled)"][..]),
        (Profile::CONTAINERD_2_1, &["Died(137 Error)", "Changed(OOMKilled)"]),
        (Profile::CONTAINERD_2_3, &["Died(137 OOMKilled)"]),
        (Profile::CRI_O_1_34, &["Died(137 OOMKilled)"]),
    ] {
        let mut world = evented(profile).await;
        let pod = world.pod();
        for n in 0..5 {
            let id = world.start(&pod, &format!("c{n}"));
            world.pass(SECOND).await;
            world.change(|truth| truth.oom(&id).expect("oom"));
            world.pass(3 * SECOND).await;
            assert_eq!(world.story(&id)[2..], *story, "{}", profile.name);
        }
        assert_eq!(world.differences(), NONE, "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn containerd_10409_exits_around_a_restart_are_found_whatever_is_said_of_them() {
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    for n in 0..5 {
        let pod = world.pod();
        let [ends, lost, gone, wrong] = ["ends", "lost", "gone", "wrong"].map(|name| world.start(&pod, name));
        world.pass(2 * SECOND).await;
        world.sim.crash();
        world.change(|truth| {
            truth.exit(&ends, 4).expect("exit");
            truth.lose_task(&lost).expect("lose");
            truth.vanish_container(&gone);
        });
        world.pass(2 * SECOND).await;
        world.sim.recover_in(SECOND).expect("recover");
        world.pass(3 * SECOND).await;
        assert_eq!(last(&world, &ends), "Died(4 Error)", "restart {n}");
        assert_eq!(last(&world, &lost), "Died(255 Unknown)", "restart {n}");
        assert_eq!(last(&world, &gone), "Removed", "restart {n}");
        assert_eq!(last(&world, &wrong), "Started", "restart {n}");
        // The runtime takes it for running until it looks again (containerd#12600), and so must everybody; but then, with no
        // event, it is known.
        world.sim.faults().events_only(STOPPED, EventFault::Drop, Dose::Next(1));
        world.change(|truth| truth.exit(&wrong, 5).expect("exit"));
        world.pass(70 * SECOND).await;
        assert_eq!(last(&world, &wrong), "Died(5 Error)", "restart {n}");
    }
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn containerd_9673_a_sandbox_on_its_way_out_keeps_the_time_it_was_made() {
    // Between DELETED and the deletion it shows a creation in 1754.
    let mut world = evented(Profile::CONTAINERD_2_1).await;
    let pod = world.pod();
    world.pass(SECOND).await;
    let made = world.served(&pod).expect("served").sandboxes[0].created_at;
    assert!(made.is_some());
    world.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
    world.pass(Duration::from_millis(1)).await;
    let served = world.served(&pod).expect("it is in the store yet");
    assert_eq!(served.sandboxes[0].created_at, made);
    world.pass(SECOND).await;
    assert_eq!(world.served(&pod), None);
}
