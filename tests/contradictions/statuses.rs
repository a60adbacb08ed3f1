//! Statuses that cannot be read, or that change without an event.

use plegd::sim::{CallFault, Dose, Method, Profile};
use tonic::Code;

use crate::{MINUTE, SECOND, polled_pod, support::Harness};

/// containerd#7535, #8367, #10461: PodSandboxStatus answers NotFound for a listed sandbox.
#[tokio::test(start_paused = true)]
async fn a_listed_sandbox_whose_status_is_not_found_is_published_once_and_served() {
    let (mut harness, pod, id) = polled_pod().await;
    let not_found = CallFault::fail(Code::NotFound);
    harness.sim.faults().calls_about(Method::PodSandboxStatus, &pod.sandbox, not_found, Dose::Always);
    harness.change(|truth| truth.sandbox_died(&pod.sandbox));
    harness.pass(5 * MINUTE).await;
    assert_eq!(harness.history(&pod.sandbox), ["Started", "Died"], "{:#?}", harness.lines());
    assert_eq!(harness.history(&id), ["Started"]);
    assert_eq!(harness.served(&pod).expect("served").sandboxes.len(), 1);
    assert_eq!((harness.missed_events(), harness.metric("plegd_contradictions_total")), (0.0, 1.0));
}

/// kubernetes#134855: an answer without a status is an error.
#[tokio::test(start_paused = true)]
async fn an_answer_without_a_status_is_no_absence() {
    let (mut harness, pod, id) = polled_pod().await;
    harness.sim.faults().calls_about(Method::ContainerStatus, &id, CallFault::Empty, Dose::Always);
    harness.sim.faults().calls_about(Method::PodSandboxStatus, &pod.sandbox, CallFault::Empty, Dose::Always);
    let uid = pod.spec.uid.as_str().into();
    let fresh = harness.app.pod_newer_than(&uid, harness.app.clock().now(), SECOND).await;
    assert!(fresh.is_err(), "{fresh:?}");
    harness.pass(MINUTE).await;
    assert_eq!(
        (harness.history(&pod.sandbox), harness.history(&id)),
        (vec!["Started".into()], vec!["Started".into()])
    );
}

/// kubernetes#24361, #75065, #84214; kata#12957: a status that fails permanently, with any code.
#[tokio::test(start_paused = true)]
async fn a_death_whose_status_cannot_be_read_is_published_as_listed_and_completed_later() {
    for code in [Code::Internal, Code::Unknown, Code::NotFound, Code::Unavailable, Code::PermissionDenied] {
        let (mut harness, _, id) = polled_pod().await;
        harness.sim.faults().calls_about(Method::ContainerStatus, &id, CallFault::fail(code), Dose::Always);
        harness.change(|truth| truth.exit(&id, 3).expect("exit"));
        harness.pass(10 * SECOND).await;
        assert_eq!(harness.history(&id), ["Started", "Died"], "{code:?}: {:#?}", harness.lines());
        assert_eq!(harness.app.unreadable().all().len(), 1, "{code:?}");
        harness.pass(5 * MINUTE).await;
        assert_eq!(harness.history(&id), ["Started", "Died"], "{code:?}: once");
        harness.sim.faults().clear();
        harness.pass(MINUTE).await;
        assert_eq!(
            harness.history(&id),
            ["Started", "Died", "Changed(Error)"],
            "{code:?}: after the read succeeds"
        );
        assert_eq!((harness.differences(), harness.app.unreadable().all().len()), (vec![], 0), "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_fails_temporarily_costs_no_exit_code() {
    for failures in 1..=4 {
        let (mut harness, _, id) = polled_pod().await;
        let internal = CallFault::fail(Code::Internal);
        harness.sim.faults().calls_about(Method::ContainerStatus, &id, internal, Dose::Next(failures));
        harness.change(|truth| truth.exit(&id, 3).expect("exit"));
        harness.pass(10 * SECOND).await;
        assert_eq!(harness.history(&id), ["Started", "Died(3 Error)"], "{failures} failures");
    }
}

/// A runtime that is down contradicts nothing: plegd waits for the exit code.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_down_costs_no_exit_code() {
    let (mut harness, _, id) = polled_pod().await;
    harness.sim.faults().calls(Method::ContainerStatus, CallFault::fail(Code::Unavailable), Dose::Always);
    harness.sim.faults().calls(Method::ListContainers, CallFault::fail(Code::Unavailable), Dose::Always);
    harness.change(|truth| truth.exit(&id, 3).expect("exit"));
    harness.pass(MINUTE).await;
    assert_eq!(harness.history(&id), ["Started"]);
    harness.sim.faults().clear();
    harness.pass(MINUTE).await;
    assert_eq!(harness.history(&id), ["Started", "Died(3 Error)"]);
}

/// kata#12957: the status of the sandbox can never be read; its labels come from the list.
#[tokio::test(start_paused = true)]
async fn a_sandbox_that_can_never_be_read_is_served_as_listed_with_its_labels() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    harness.sim.faults().calls(Method::PodSandboxStatus, CallFault::fail(Code::Unknown), Dose::Always);
    let pod = harness.pod();
    let id = harness.start(&pod, "app");
    harness.pass(8 * SECOND).await;
    assert_eq!(
        (harness.history(&pod.sandbox), harness.history(&id)),
        (vec!["Started".into()], vec!["Started".into()])
    );
    let served = harness.served(&pod).expect("served");
    assert_eq!(served.labels.get("io.kubernetes.pod.uid"), Some(pod.spec.uid.as_str()));
    let started = harness.events.iter().find(|record| record.event.id.as_str() == id).expect("published");
    assert!(!started.event.labels.is_empty(), "a subscriber that selects by label receives it");
}

/// kubernetes#104454; containerd#12260, #12372: OOMKilled is set after the exit, whatever the exit code.
#[tokio::test(start_paused = true)]
async fn a_late_oom_reason_is_published_whatever_the_exit_code() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1] {
        for code in [0, 1, 137, 143] {
            let mut harness = Harness::new(profile);
            let pod = harness.pod();
            let id = harness.start(&pod, "app");
            harness.pass(5 * SECOND).await;
            harness.change(|truth| truth.oom_with(&id, code).expect("oom"));
            harness.pass(8 * SECOND).await;
            let history = harness.history(&id);
            assert_eq!(history.last().map(String::as_str), Some("Changed(OOMKilled)"), "{code}: {history:?}");
            let changed = harness.events.last().expect("published");
            assert_eq!(changed.event.exit_code, Some(code));
        }
    }
}

/// kubernetes#78973: the kernel kills a child process, and the main process keeps running.
#[tokio::test(start_paused = true)]
async fn a_reason_on_a_running_container_is_served_after_the_next_relist() {
    let (mut harness, pod, id) = polled_pod().await;
    harness.pass(10 * SECOND).await;
    harness.change(|truth| truth.set_reason(&id, "OOMKilled").expect("reason"));
    harness.pass(12 * SECOND).await;
    let served = harness.served(&pod).expect("served");
    assert_eq!(served.container(&id).expect("it").reason, "OOMKilled");
    assert_eq!(harness.history(&id), ["Started", "Changed"]);
}

/// A missing command: no event, exit code 128, reason StartError.
#[tokio::test(start_paused = true)]
async fn a_failed_start_is_published_within_a_second_with_code_and_reason() {
    for after_ms in [10, 400, 900, 1700, 2900, 4500] {
        let mut harness = Harness::new(Profile::CONTAINERD_2_1);
        harness.until_evented().await;
        let pod = harness.pod();
        let id = harness.create(&pod, "app");
        harness.pass(std::time::Duration::from_millis(after_ms)).await;
        harness.change(|truth| truth.fail_start(&id, "no such file").expect("fail"));
        harness.pass(SECOND + SECOND / 10).await;
        assert_eq!(harness.history(&id), ["Changed", "Died(128 StartError)"], "after {after_ms} ms");
        harness.change(|truth| truth.remove_container(&id).expect("remove"));
        harness.pass(SECOND).await;
        let removed = harness.events.last().expect("published");
        assert_eq!((removed.event.exit_code, removed.event.reason.as_str()), (Some(128), "StartError"));
        assert_eq!(harness.missed_events(), 0.0, "no event counts as missed");
    }
}
