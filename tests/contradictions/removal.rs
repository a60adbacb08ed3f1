//! Pods that are removed without events, and removals that are confirmed without an error in the runtime's log.

use plegd::sim::{CallFault, Dose, ListFault, Lists, Method, Profile, Subject};
use tonic::Code;

use crate::{MINUTE, SECOND, support::Harness};

/// `crictl rmp -f` on CRI-O: a scheduled read finds the sandbox's removal; the containers' removals have no event.
#[tokio::test(start_paused = true)]
async fn the_containers_of_a_removed_sandbox_are_removed_within_two_seconds() {
    for profile in [Profile::CRI_O_1_34, Profile::CONTAINERD_2_1, Profile::CONTAINERD_1_7] {
        let mut harness = Harness::new(profile);
        harness.until_evented().await;
        let pod = harness.pod();
        let ids = [harness.start(&pod, "one"), harness.start(&pod, "two")];
        harness.pass(5 * SECOND).await;
        harness.change(|truth| truth.remove_sandbox_silently(&pod.sandbox).expect("remove"));
        let gone =
            |harness: &Harness, id: &str| harness.history(id).last().map(String::as_str) == Some("Removed");
        harness.until("the sandbox's removal", |harness| gone(harness, &pod.sandbox)).await;
        harness.pass(2 * SECOND).await;
        assert!(ids.iter().all(|id| gone(&harness, id)), "{}: {:#?}", profile.name, harness.lines());
    }
}

/// Each NotFound to a status call is an error line in containerd's log.
#[tokio::test(start_paused = true)]
async fn a_removed_pod_causes_no_status_call_that_answers_not_found() {
    // CRI-O removes containers without an event, so a read for a late reason may answer NotFound there.
    for profile in [Profile::CONTAINERD_2_1, Profile::CONTAINERD_1_7, Profile::CONTAINERD_1_6] {
        let mut harness = Harness::new(profile);
        for _ in 0..5 {
            let pod = harness.pod();
            harness.start(&pod, "stays");
        }
        harness.pass(MINUTE).await;
        for _ in 0..24 {
            let pod = harness.pod();
            let id = harness.start(&pod, "job");
            harness.pass(SECOND).await;
            harness.change(|truth| truth.exit(&id, 0).expect("exit"));
            harness.pass(SECOND).await;
            harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
            harness.pass(SECOND / 2).await;
        }
        harness.pass(MINUTE).await;
        let not_found: f64 = ["ContainerStatus", "PodSandboxStatus"]
            .iter()
            .map(|method| {
                harness.metric(&format!(r#"plegd_cri_requests_total{{code="NotFound",method="{method}"}}"#))
            })
            .sum();
        assert_eq!(not_found, 0.0, "{}", profile.name);
        assert_eq!(harness.differences(), [""; 0], "{}", profile.name);
    }
}

/// A runtime that lists a removed id: the removal is published once, and the list never resurrects the id.
#[tokio::test(start_paused = true)]
async fn an_id_that_is_listed_after_its_removal_is_not_published_again() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    let id = harness.start(&pod, "app");
    harness.pass(5 * SECOND).await;
    harness.sim.freeze_lists();
    harness.change(|truth| truth.remove_container(&id).expect("remove"));
    harness.pass(10 * MINUTE).await;
    assert_eq!(
        harness.history(&id),
        ["Changed", "Started", "Died(137 Error)", "Removed"],
        "{:#?}",
        harness.lines()
    );
    // At most one read per 30 s.
    let read = harness.metric(r#"plegd_cri_requests_total{code="NotFound",method="ContainerStatus"}"#);
    assert!(read <= 21.0, "{read}");
}

/// One full list omits a sandbox, and its status fails at the same time; the sandbox still exists.
#[tokio::test(start_paused = true)]
async fn an_id_that_one_full_list_omits_is_not_removed() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let pods: Vec<_> = (0..5).map(|_| harness.pod()).collect();
    harness.pass(5 * SECOND).await;
    let left_out = ListFault::LeftOut(pods[0].sandbox.clone());
    harness.sim.faults().lists_only(Subject::Sandbox, Lists::Full, left_out, Dose::Always);
    harness.sim.faults().calls_about(
        Method::PodSandboxStatus,
        &pods[0].sandbox,
        CallFault::fail(Code::Internal),
        Dose::Always,
    );
    harness.pass(MINUTE).await;
    assert_eq!(harness.history(&pods[0].sandbox), ["Started"]);
}
