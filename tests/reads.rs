//! Reading: a failed list is no empty list, nothing that fails is lost, one that hangs delays nobody, fresh means fresh.

mod support;

use std::{sync::Arc, time::Duration};

use plegd::{
    app::FreshError,
    model::{ContainerState, EventType, PodUid},
    sim::{
        CallFault, Dose, Method, Profile, Target,
        truth::{ContainerSpec, SandboxSpec},
    },
    supervisor::Mode,
};
use support::{TestPod, World};
use tonic::Code;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NONE: [&str; 0] = [];

fn uid(pod: &TestPod) -> PodUid {
    pod.spec.uid.as_str().into()
}

#[tokio::test(start_paused = true)]
async fn one_hung_pod_delays_no_other() {
    let mut world = World::new(Profile::CONTAINERD_1_6);
    let pods: Vec<TestPod> = (0..301).map(|_| world.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| world.start(pod, "c")).collect();
    world.until("all told", |world| ids.iter().all(|id| world.story(id).len() == 1)).await;
    world.pass(5 * SECOND).await;
    let (hung, others) = ids.split_first().expect("301");
    world.sim.faults().hang(Target::Id(hung.clone()));
    world.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    let before = world.told.len();
    world.pass(3 * SECOND).await;
    assert_eq!(world.told.len() - before, 300, "within three seconds, while the hung call takes five");
    assert!(others.iter().all(|id| world.story(id).len() == 2));
    // From now on it hangs in a lane of its own, and is tried again and again.
    world.pass(MINUTE).await;
    assert_eq!(world.metric("plegd_pods_failing_reads"), 1.0);
    assert!(world.metric(r#"plegd_reads_total{cause="relist",result="timeout"}"#) >= 3.0);
    assert!(world.app.health().live().ok);
    world.change(|truth| others.iter().for_each(|id| truth.remove_container(id).expect("remove")));
    world.pass(3 * SECOND).await;
    assert!(others.iter().all(|id| world.story(id).len() == 3));
    world.sim.faults().clear();
    world.pass(40 * SECOND).await;
    // While it hung its death was published as listed, without exit code; what is read later is published as a change.
    assert_eq!(world.story(hung), ["Started", "Died", "Changed(Error)"]);
    assert_eq!(world.metric("plegd_pods_failing_reads"), 0.0);
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_hung_container_delays_no_sibling() {
    let mut world = World::new(Profile::CONTAINERD_1_6);
    let pod = world.pod();
    let (hung, sibling) = (world.start(&pod, "hung"), world.start(&pod, "sibling"));
    world.until("both told", |world| world.story(&hung).len() + world.story(&sibling).len() == 2).await;
    world.sim.faults().hang(Target::Id(hung.clone()));
    world.change(|truth| truth.exit(&hung, 1).expect("exit"));
    // By now it is tried again every half a minute only.
    world.pass(3 * MINUTE).await;
    world.change(|truth| truth.exit(&sibling, 2).expect("exit"));
    world.pass(2 * SECOND).await;
    assert_eq!(world.story(&sibling), ["Started", "Died(2 Error)"]);
    assert_eq!(world.story(&hung), ["Started", "Died"], "as listed, for want of a status");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_tried_again_and_the_change_is_told() {
    for code in [Code::Internal, Code::Unknown, Code::Unavailable, Code::ResourceExhausted] {
        let mut world = World::new(Profile::CONTAINERD_1_6);
        let pod = world.pod();
        let ids: Vec<String> = (0..4).map(|n| world.start(&pod, &format!("c{n}"))).collect();
        world.pass(3 * SECOND).await;
        world.sim.faults().calls(Method::ContainerStatus, CallFault::fail(code), Dose::Next(2));
        world.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
        world.pass(3 * SECOND).await;
        for id in &ids {
            assert_eq!(world.story(id), ["Started", "Died(1 Error)"], "{code:?}");
        }
        assert_eq!(world.metric("plegd_pods_failing_reads"), 0.0, "{code:?}");
        assert_eq!(world.differences(), NONE, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_ids_of_a_read_that_was_given_up_are_read_again() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    let ids: Vec<String> = (0..5).map(|n| world.start(&pod, &format!("c{n}"))).collect();
    world.pass(10 * SECOND).await;
    // The looks at five exits, all in one read, meet a runtime that is not there for its first call: nothing but
    // these looks would ever find the new reason.
    world.change(|truth| ids.iter().for_each(|id| truth.oom(id).expect("oom")));
    world.pass(SECOND).await;
    let away = CallFault::fail(Code::Unavailable);
    world.sim.faults().calls(Method::ContainerStatus, away, Dose::Next(1));
    world.pass(10 * SECOND).await;
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_due_later_is_not_taken_early_because_another_read_failed() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "greedy");
    world.pass(10 * SECOND).await;
    let fail = CallFault::fail(Code::Internal);
    world.sim.faults().calls(Method::PodSandboxStatus, fail, Dose::Next(1));
    let asked = world.app.clock().now();
    assert!(world.app.pod_newer_than(&uid(&pod), asked, SECOND).await.is_err());
    // A retry of that is due in a moment, when the reason is not yet what it will be.
    world.change(|truth| truth.oom(&id).expect("oom"));
    world.pass(10 * SECOND).await;
    assert_eq!(world.story(&id)[2..], ["Died(137 Error)", "Changed(OOMKilled)"]);
    assert_eq!(world.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_no_empty_list() {
    for method in [Method::ListPodSandbox, Method::ListContainers] {
        for fault in [CallFault::fail(Code::Internal), CallFault::Garbage] {
            let mut world = World::new(Profile::CONTAINERD_1_6);
            let pod = world.pod();
            let ids: Vec<String> = (0..5).map(|n| world.start(&pod, &format!("c{n}"))).collect();
            world.pass(5 * SECOND).await;
            let told = world.told.len();
            world.sim.faults().calls(method, fault.clone(), Dose::Always);
            world.pass(2 * MINUTE).await;
            assert_eq!(world.told.len(), told, "{method} {fault:?}: {:#?}", world.lines());
            assert_eq!(world.differences(), NONE);
            let ready = world.app.health().ready();
            assert!(ready.ok && world.app.health().live().ok, "{ready:?}");
            assert!(ready.checks.iter().any(|check| check.name == "runtime" && !check.ok), "{ready:?}");
            world.change(|truth| truth.exit(&ids[0], 0).expect("exit"));
            world.sim.faults().clear();
            world.pass(3 * SECOND).await;
            assert_eq!(world.story(&ids[0]).last().map(String::as_str), Some("Died(0 Completed)"));
            assert!(
                world.app.health().ready().checks.iter().all(|check| check.name != "runtime" || check.ok)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_the_first_list_and_stays() {
    let fail = |sim: &plegd::sim::SimRuntime| {
        sim.faults().calls(Method::ListContainers, CallFault::fail(Code::Internal), Dose::Always);
    };
    let mut world = World::after(Profile::CONTAINERD_1_6, 1, |_| (), fail).await;
    world.pass(MINUTE).await;
    let report = world.app.health().ready();
    assert!(!report.ok && world.app.health().live().ok);
    assert!(report.checks[0].text.contains("ListContainers"), "says what it waits for: {report:?}");
    world.sim.faults().clear();
    world.pass(3 * SECOND).await;
    assert!(world.app.health().ready().ok);
    world.sim.crash();
    world.pass(10 * MINUTE).await;
    assert!(world.app.health().ready().ok && world.app.health().live().ok);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_events_have_overtaken_removes_and_resurrects_nothing() {
    for method in [Method::ListPodSandbox, Method::ListContainers] {
        let mut world = World::new(Profile::CONTAINERD_2_1);
        world.until_evented().await;
        let pod = world.pod();
        let doomed = world.start(&pod, "doomed");
        let ends = world.start(&pod, "ends");
        world.pass(2 * SECOND).await;
        world.sim.faults().calls(method, CallFault::Overtaken(3 * SECOND), Dose::Always);
        let before = world.calls_of(method);
        for _ in 0..1000 {
            if world.calls_of(method) > before {
                break;
            }
            world.pass(Duration::from_millis(100)).await;
        }
        assert!(world.calls_of(method) > before, "a relist is under way");
        world.pass(Duration::from_millis(50)).await;
        world.change(|truth| truth.exit(&ends, 7).expect("exit"));
        world.change(|truth| truth.exit(&doomed, 7).expect("exit"));
        world.pass(Duration::from_millis(100)).await;
        world.change(|truth| truth.remove_container(&doomed).expect("remove"));
        let young = world.start(&pod, "young");
        let new = world.pod();
        let in_new = world.start(&new, "c");
        world.pass(10 * SECOND).await;
        assert_eq!(world.story(&doomed), ["Changed", "Started", "Died(7 Error)", "Removed"]);
        assert_eq!(world.story(&ends), ["Changed", "Started", "Died(7 Error)"]);
        assert_eq!(world.story(&young), ["Changed", "Started"]);
        assert_eq!(world.story(&in_new), ["Changed", "Started"]);
        assert_eq!(world.story(&new.sandbox), ["Started"]);
        assert_eq!((world.differences(), world.misses()), (vec![], 0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn containers_whose_sandbox_is_gone_stay_what_they_are() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1] {
        let mut world = World::new(profile);
        let pod = world.pod();
        let ids: Vec<String> = (0..3).map(|n| world.start(&pod, &format!("c{n}"))).collect();
        world.change(|truth| truth.exit(&ids[2], 1).expect("exit"));
        world.pass(5 * SECOND).await;
        let told: Vec<_> = ids.iter().map(|id| world.story(id)).collect();
        world.change(|truth| truth.orphan_containers(&pod.sandbox));
        world.pass(3 * MINUTE).await;
        let after: Vec<_> = ids.iter().map(|id| world.story(id)).collect();
        assert_eq!(after, told, "{}", profile.name);
        assert_eq!(world.story(&pod.sandbox), ["Started", "Died!", "Removed"], "{}", profile.name);
        assert_eq!(world.differences(), NONE, "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn newer_than_is_never_older() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    let silent = world.start(&pod, "silent");
    let gone = world.start(&pod, "gone");
    world.pass(2 * SECOND).await;
    // Nothing signals these; only a read can know.
    world.sim.faults().events(plegd::sim::EventFault::Drop, Dose::Always);
    world.change(|truth| truth.exit(&silent, 9).expect("exit"));
    world.change(|truth| truth.vanish_container(&gone));
    let asked = world.app.clock().now();
    world.pass(Duration::from_millis(1)).await;
    let before = world.calls();
    let fresh = world.app.pod_newer_than(&uid(&pod), asked, SECOND).await.expect("fresh").expect("there");
    assert_eq!(fresh.container(&silent).and_then(|container| container.exit_code), Some(9));
    assert_eq!(fresh.container(&gone), None, "a read has proved that it is gone");
    assert!(world.calls() > before);
    // That read began after `asked`: it serves for anybody who wants no more.
    let before = world.calls();
    let again = world.app.pod_newer_than(&uid(&pod), asked, SECOND).await.expect("fresh");
    assert_eq!((again.as_deref(), world.calls()), (Some(&*fresh), before));
    let unknown = world.app.pod_newer_than(&"nobody".into(), asked, SECOND).await.expect("an answer");
    assert_eq!(unknown, None);
    // A pod that nobody has told of yet is there for who asks for it.
    let new = world.pod();
    let asked = world.app.clock().now();
    let fresh = world.app.pod_newer_than(&uid(&new), asked, SECOND).await.expect("fresh").expect("there");
    assert_eq!(fresh.sandboxes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn newer_than_has_a_deadline_and_can_be_given_up() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    let id = world.start(&pod, "c");
    world.pass(2 * SECOND).await;
    world.sim.faults().hang(Target::Id(id));
    let asked = world.app.clock().now();
    let uid = uid(&pod);
    let late = world.app.pod_newer_than(&uid, asked, SECOND).await;
    assert!(matches!(late, Err(FreshError::Deadline(patience)) if patience == SECOND), "{late:?}");
    assert_eq!(world.app.clock().now().since(asked), SECOND);
    let given_up = tokio::time::timeout(SECOND, world.app.pod_newer_than(&uid, asked, MINUTE)).await;
    assert!(given_up.is_err());
    // Who waits longer than a call may take is told that it failed, not left hanging.
    let failed = world.app.pod_newer_than(&uid, asked, MINUTE).await;
    assert!(matches!(failed, Err(FreshError::Read(_))), "{failed:?}");
    world.sim.faults().clear();
    let asked = world.app.clock().now();
    world.app.pod_newer_than(&uid, asked, MINUTE).await.expect("fresh").expect("there");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_share_their_reads() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let pod = world.pod();
    world.start(&pod, "c");
    world.pass(10 * SECOND).await;
    let before = world.calls();
    let asked = world.app.clock().now();
    let uid = uid(&pod);
    let late = CallFault::Late(Duration::from_millis(200));
    world.sim.faults().calls(Method::ContainerStatus, late, Dose::Always);
    let wait = || world.app.pod_newer_than(&uid, asked, MINUTE);
    let (early, late) = tokio::join!(futures::future::join_all((0..5000).map(|_| wait())), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        futures::future::join_all((0..5000).map(|_| wait())).await
    });
    let answers: Vec<_> = early.into_iter().chain(late).collect();
    let first: Arc<_> = answers[0].clone().expect("fresh").expect("there");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Some(pod)) if *pod == first)));
    // A read is two lists and two statuses; the second batch came while the first was being read.
    assert!(world.calls() - before <= 8, "{} calls", world.calls() - before);
}

#[tokio::test(start_paused = true)]
async fn a_burst_past_the_queue_costs_the_stream_and_not_the_truth() {
    let tiny = |config: &mut plegd::config::Config| config.stream.queue_messages = 4;
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, tiny, |_| ()).await;
    world.until_evented().await;
    let pods: Vec<TestPod> = (0..20).map(|_| world.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| world.start(pod, "c")).collect();
    world.pass(2 * SECOND).await;
    assert!(world.metric("plegd_stream_queue_trimmed_total") >= 1.0);
    assert!(world.metric(r#"plegd_stream_disconnects_total{reason="overflow"}"#) >= 1.0);
    for id in &ids {
        assert_eq!(world.story(id).last().map(String::as_str), Some("Started"));
    }
    world.pass(10 * SECOND).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
    world.until_evented().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_falls_off_the_journal_is_told_so_and_reads_afresh() {
    let small = |config: &mut plegd::config::Config| config.journal.events = 64;
    let mut world = World::after(Profile::CONTAINERD_2_1, 1, small, |_| ()).await;
    world.pass(5 * SECOND).await;
    let mut slow = world.app.journal().cursor(0);
    let pod = world.pod();
    for n in 0..50 {
        let id = world.start(&pod, &format!("c{n}"));
        world.pass(Duration::from_millis(20)).await;
        world.change(|truth| truth.exit(&id, 0).expect("exit"));
        world.pass(Duration::from_millis(20)).await;
    }
    let gap = slow.try_next().expect_err("151 events do not fit");
    assert_eq!((gap.from, gap.to), (1, 151 - 64));
    let next = slow.try_next().expect("goes on").expect("an event");
    assert_eq!(next.sequence, gap.to + 1);
    let snapshot = world.served(&pod).expect("served");
    assert_eq!((snapshot.containers.len(), snapshot.sequence), (50, 151));
    assert_eq!(world.metric("plegd_subscriber_gaps_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_runtime_is_called_as_rarely_as_the_mode_allows() {
    // A relist is two lists: 60 s apart in evented mode, 10 s where subscribers share, 1 s by polling.
    for (profile, mode, minutes, relists) in [
        (Profile::CONTAINERD_2_1, Mode::Evented, 60, 60),
        (Profile::CONTAINERD_2_4, Mode::Evented, 60, 60),
        (Profile::CONTAINERD_1_7, Mode::Evented, 60, 360),
        (Profile::CRI_O_1_34, Mode::Evented, 60, 60),
        (Profile::CRI_O_1_31_EVENTS_OFF, Mode::Polling, 5, 300),
        (Profile::CONTAINERD_1_6, Mode::Polling, 5, 300),
    ] {
        let mut world = World::new(profile);
        for _ in 0..5 {
            let pod = world.pod();
            world.start(&pod, "c");
        }
        world.pass(5 * MINUTE).await;
        assert_eq!(world.app.follower_status().mode, mode, "{}", profile.name);
        let statuses = |world: &World| {
            world.calls_of(Method::ContainerStatus) + world.calls_of(Method::PodSandboxStatus)
        };
        let (calls, streams) = (world.calls(), world.calls_of(Method::GetContainerEvents));
        let read = statuses(&world);
        world.pass(minutes * MINUTE).await;
        let (calls, streams) = (world.calls() - calls, world.calls_of(Method::GetContainerEvents) - streams);
        let (fair, read) = (2 * relists, statuses(&world) - read);
        let lists = calls - read;
        assert!((fair * 95 / 100..=fair * 105 / 100 + 4).contains(&lists), "{}: {lists}", profile.name);
        // The content of four ids with a relist, and at most every 10 s.
        let content = 4 * (relists + 1).min(u64::from(minutes) * 6 + 1);
        assert!((1..=content).contains(&read), "{}: {read} statuses", profile.name);
        let tries = if mode == Mode::Polling { 4..=8 } else { 0..=0 };
        assert!(tries.contains(&streams), "{}: {streams} subscriptions", profile.name);
        assert_eq!(world.told.iter().filter(|event| event.kind == EventType::PodSync).count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn more_hung_pods_than_lanes_delay_the_others_by_one_deadline_at_most() {
    let mut world = World::new(Profile::CONTAINERD_1_6);
    let pods: Vec<TestPod> = (0..30).map(|_| world.pod()).collect();
    let ids: Vec<String> = pods.iter().map(|pod| world.start(pod, "c")).collect();
    world.pass(5 * SECOND).await;
    let (hung, others) = ids.split_at(8);
    hung.iter().for_each(|id| world.sim.faults().hang(Target::Id(id.clone())));
    world.change(|truth| ids.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
    // Eight that nobody knows to hang take the four lanes twice.
    world.pass(13 * SECOND).await;
    assert!(others.iter().all(|id| world.story(id).len() == 2), "{:#?}", world.lines());
    world.pass(MINUTE).await;
    world.change(|truth| others.iter().for_each(|id| truth.remove_container(id).expect("remove")));
    let new = world.pod();
    world.start(&new, "c");
    world.pass(3 * SECOND).await;
    assert!(others.iter().all(|id| world.story(id).len() == 3), "by now they hang elsewhere");
    assert_eq!(world.served(&new).expect("served").containers.len(), 1);
    world.sim.faults().clear();
    world.pass(MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn lists_of_many_megabytes_are_read() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_4] {
        let many = |sim: &plegd::sim::SimRuntime| {
            sim.change(|truth| {
                for n in 0..100 {
                    let pod = SandboxSpec::of_pod("default", &format!("big-{n}"), &format!("uid-big-{n}"));
                    let sandbox = truth.run_sandbox(pod.clone()).expect("run");
                    let mut spec = ContainerSpec::of_pod(&pod, "c", 0, "busybox");
                    spec.annotations.insert("note".into(), "x".repeat(45_000));
                    let id = truth.create_container(&sandbox, spec).expect("create");
                    truth.start_container(&id).expect("start");
                }
            });
        };
        let mut world = World::after(profile, 1, |_| (), many).await;
        world.pass(10 * SECOND).await;
        assert_eq!(
            world.app.cache().counts().containers[ContainerState::Running as usize],
            100,
            "{}",
            profile.name
        );
        assert_eq!(world.differences(), NONE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_same_name_and_another_uid_is_another_pod() {
    let mut world = World::new(Profile::CONTAINERD_2_1);
    world.until_evented().await;
    let old = world.pod();
    let first = world.start(&old, "c");
    world.pass(SECOND).await;
    let spec = SandboxSpec::of_pod("default", &old.spec.name, "uid-of-its-successor");
    let sandbox = world.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
    let new = TestPod { spec, sandbox };
    let second = world.start(&new, "c");
    world.change(|truth| truth.remove_sandbox(&old.sandbox).expect("remove"));
    world.pass(5 * SECOND).await;
    assert_eq!(world.story(&first), ["Changed", "Started", "Died(137 Error)", "Removed"]);
    assert_eq!(world.story(&second), ["Changed", "Started"]);
    assert_eq!((world.served(&old), world.served(&new).expect("served").containers.len()), (None, 1));
    assert_eq!(world.differences(), NONE);
}
