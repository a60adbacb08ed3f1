//! Waiting for a newer status: it returned an empty one, waited for a relist that proved nothing, or took many seconds.

use std::time::Duration;

use plegd::{
    app::FreshError,
    sim::{Dose, EventFault, Method, Profile, Target},
};

use crate::{MINUTE, NONE, SECOND, evented, now};

#[tokio::test(start_paused = true)]
async fn kubernetes_120941_newer_than_never_answers_with_an_incomplete_pod() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    harness.sim.faults().events(EventFault::Delay(5 * SECOND), Dose::Always);
    for n in 0..50 {
        let pod = harness.pod();
        let ids = [harness.create(&pod, "created"), harness.start(&pod, "runs")];
        let fresh = now(&harness, &pod).await.expect("fresh").expect("a pod, before any event has arrived");
        assert_eq!(fresh.sandboxes.len(), 1, "pod {n}");
        let states = ids.map(|id| fresh.container(&id).map(|container| container.state.as_str()));
        assert_eq!(states, [Some("created"), Some("running")], "pod {n}");
        harness.pass(Duration::from_millis(70)).await;
    }
    // A read that fails is an error, not an empty status.
    let pod = harness.pod();
    harness.sim.faults().hang(Target::Method(Method::ListPodSandbox));
    let unknown = now(&harness, &pod).await;
    assert!(matches!(unknown, Err(FreshError::Read(_))), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn kubernetes_124704_a_pod_is_terminated_without_waiting_for_a_relist() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    for dose in [Dose::Chance(0.0), Dose::Always] {
        harness.sim.faults().events(EventFault::Delay(10 * SECOND), dose);
        let pod = harness.pod();
        let id = harness.start(&pod, "c");
        harness.pass(20 * SECOND).await;
        let began = harness.app.clock().now();
        // The kubelet terminates a pod in steps, and waits after each until a read shows its effect.
        harness.change(|truth| truth.stop_container(&id, SECOND).expect("stop"));
        let pod_now = now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(pod_now.container(&id).and_then(|container| container.exit_code), Some(143));
        harness.change(|truth| truth.stop_sandbox(&pod.sandbox).expect("stop"));
        let pod_now = now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(pod_now.sandbox().map(|sandbox| sandbox.state.as_str()), Some("notready"));
        harness.change(|truth| truth.remove_sandbox(&pod.sandbox).expect("remove"));
        harness.pass(Duration::from_millis(10)).await;
        assert_eq!(now(&harness, &pod).await.expect("fresh"), None);
        // 9 to 14 s in the kubelet. Here only the calls, which take no time in the simulation.
        assert!(harness.app.clock().now().since(began) < SECOND / 2, "{dose:?}");
        harness.sim.faults().clear();
        harness.pass(MINUTE).await;
    }
    assert_eq!(harness.differences(), NONE);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_124953_a_relist_or_a_version_call_makes_no_pod_fresh() {
    let mut harness = evented(Profile::CONTAINERD_2_1).await;
    let mut rng = fastrand::Rng::with_seed(1);
    let pod = harness.pod();
    harness.pass(SECOND).await;
    harness.sim.faults().events(EventFault::Drop, Dose::Always);
    for n in 0..60 {
        // At random times between two relists; their distance differs from the kubelet's 1, 2 and 5 s.
        harness.pass(Duration::from_millis(rng.u64(1..7000))).await;
        let id = harness.start(&pod, &format!("c{n}"));
        let requested_at = harness.app.clock().now();
        harness.pass(Duration::from_millis(rng.u64(1..7000))).await;
        harness.change(|truth| truth.exit(&id, n).expect("exit"));
        let fresh = now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(fresh.container(&id).and_then(|container| container.exit_code), Some(n));
        assert!(harness.app.fresh().is_newer(&crate::uid(&pod), requested_at));
    }
}
