//! A second container of the same name, created because of a status from before the worker's last action.

use std::time::Duration;

use plegd::{
    model::ContainerState,
    sim::{CallFault, Dose, EventFault, Faults, Method, Profile, profile::StatusTimestamp},
};

use crate::{
    MINUTE, SECOND, evented, last, now,
    support::{EVENT_FAULTS, Harness},
    worker::{Freshness, Worker},
};

/// Faults by which events were older than their timestamps, or empty.
const STALE: [EventFault; 6] = [
    EventFault::OlderView,
    EventFault::Stall(Duration::from_millis(300)),
    EventFault::Delay(Duration::from_millis(300)),
    EventFault::NoStatuses,
    EventFault::Reorder,
    EventFault::Replay,
];

/// The statuses were read before the worker acted, and the timestamp was taken after that.
const TIMESTAMP_LATER: [&[EventFault]; 2] = [
    &[EventFault::Stall(Duration::from_millis(300))],
    &[EventFault::OlderView, EventFault::Stall(Duration::from_millis(1))],
];

/// The result of 400 steps of a worker that runs at every event and at random, while its container ends repeatedly.
#[derive(Debug)]
struct Work {
    /// The most containers that ran at the same time.
    at_a_time: usize,
    /// How many it created.
    created: u32,
    /// How many of them ended.
    ended: u32,
}

async fn work(freshness: Freshness, profile: Profile, faults: &dyn Fn(&Faults)) -> Work {
    let mut harness = evented(profile).await;
    let pod = harness.pod();
    harness.pass(SECOND).await;
    faults(harness.sim.faults());
    let mut worker = Worker::new(&harness, &pod, freshness);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut work = Work { at_a_time: 0, created: 0, ended: 0 };
    let mut published = 0;
    for step in 1..=400 {
        if harness.events.len() > published || rng.u32(..10) == 0 {
            published = harness.events.len();
            worker.sync(&harness).await;
        }
        let running = worker.running(&harness);
        work.at_a_time = work.at_a_time.max(running.len());
        if step % 40 == 0 {
            harness.change(|truth| running.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
            work.ended += running.len() as u32;
        }
        harness.pass(Duration::from_millis(rng.u64(1..60))).await;
    }
    work.created = worker.created();
    harness.sim.faults().clear();
    harness.pass(3 * MINUTE).await;
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
    work
}

/// The result on containerd 2.1 with these faults in every event.
async fn work_under(freshness: Freshness, events: &[EventFault]) -> Work {
    let faults = |faults: &Faults| events.iter().for_each(|fault| faults.events(*fault, Dose::Always));
    work(freshness, Profile::CONTAINERD_2_1, &faults).await
}

/// One container at a time, the next one after the previous has ended, and at least `times` of them.
fn is_right(work: &Work, times: u32) -> bool {
    work.at_a_time == 1 && work.ended >= times && (work.ended..=work.ended + 1).contains(&work.created)
}

#[tokio::test(start_paused = true)]
async fn kubernetes_121003_a_worker_never_starts_a_second_container_of_a_name() {
    for events in STALE.iter().map(std::slice::from_ref).chain(TIMESTAMP_LATER) {
        let work = work_under(Freshness::ByReads, events).await;
        assert!(is_right(&work, 9), "{events:?}: {work:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_123087_nor_with_all_faults_at_once_on_any_runtime() {
    let faults = |faults: &Faults| {
        EVENT_FAULTS.iter().for_each(|fault| faults.events(*fault, Dose::Chance(0.2)));
        for method in [Method::ListPodSandbox, Method::ListContainers, Method::ContainerStatus] {
            faults.calls(method, CallFault::Late(Duration::from_millis(40)), Dose::Chance(0.3));
            faults.calls(method, CallFault::Overtaken(Duration::from_millis(60)), Dose::Chance(0.3));
        }
    };
    for profile in [
        Profile::CONTAINERD_1_7,
        Profile::CONTAINERD_2_1,
        Profile::CONTAINERD_2_4,
        Profile::CRI_O_1_26,
        Profile::CRI_O_1_34,
    ] {
        let work = work(Freshness::ByReads, profile, &faults).await;
        // Where STOPPED is lost or late, only a relist reports the exit.
        assert!(is_right(&work, 2), "{}: {work:?}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_121796_the_same_events_mislead_a_worker_that_trusts_timestamps() {
    // This proves that the faults reproduce the reported circumstances.
    for events in TIMESTAMP_LATER {
        let work = work_under(Freshness::ByTimestamps, events).await;
        assert!(work.at_a_time > 1, "{events:?}: {work:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_122763_a_container_that_is_created_and_not_started_is_reported_as_created() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut harness = Harness::new(profile);
        let pod = harness.pod();
        harness.pass(5 * MINUTE).await;
        let id = harness.create(&pod, "c");
        // StartContainer hangs: the state stays created, so no second container is created.
        for _ in 0..10 {
            harness.pass(10 * SECOND).await;
            let served = harness.served(&pod).expect("served");
            let state = served.container(&id).map(|container| container.state);
            assert_eq!(state, Some(ContainerState::Created), "{}: not unknown, not missing", profile.name);
        }
        assert_eq!(harness.history(&id), ["Changed"], "{}", profile.name);
        harness.change(|truth| truth.start_container(&id).expect("start"));
        harness.pass(2 * SECOND).await;
        assert_eq!(harness.history(&id), ["Changed", "Started"], "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_128229_statuses_that_are_left_out_do_not_count_as_absent() {
    // containerd 2.0.0 to 2.0.2 set the timestamp of PodSandboxStatus and left the statuses out (containerd#10728). Their events had no
    // statuses either.
    let profile = Profile { status_timestamp: StatusTimestamp::WithoutStatuses, ..Profile::CONTAINERD_2_1 };
    let mut harness = evented(profile).await;
    harness.sim.faults().events(EventFault::NoStatuses, Dose::Always);
    let pod = harness.pod();
    let mut worker = Worker::new(&harness, &pod, Freshness::ByReads);
    for _ in 0..100 {
        worker.sync(&harness).await;
        assert_eq!(worker.running(&harness).len(), 1);
        harness.pass(SECOND).await;
        assert_eq!(harness.served(&pod).expect("served").containers.len(), 1);
    }
    assert_eq!((harness.differences(), harness.violations()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_133371_a_pod_is_the_same_from_an_event_and_from_a_read() {
    for profile in [Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut harness = evented(profile).await;
        let pod = harness.pod();
        let sidecar = harness.start(&pod, "sidecar");
        let main = harness.start(&pod, "main");
        harness.pass(SECOND).await;
        let by_event = harness.served(&pod).expect("served");
        let by_read = now(&harness, &pod).await.expect("fresh").expect("there");
        assert_eq!(by_event, by_read, "{}: both paths build the same status", profile.name);
        harness.change(|truth| truth.exit(&main, 3).expect("exit"));
        harness.pass(SECOND).await;
        let by_event = harness.served(&pod).expect("served");
        assert_eq!(by_event, now(&harness, &pod).await.expect("fresh").expect("there"), "{}", profile.name);
        assert_eq!(
            (last(&harness, &sidecar), last(&harness, &main)),
            ("Started".into(), "Died(3 Error)".into())
        );
    }
}
