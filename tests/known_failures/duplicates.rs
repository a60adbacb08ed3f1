//! A second container of the same name: views from before the worker's last action made it act again.

use std::time::Duration;

use plegd::{
    model::ContainerState,
    sim::{CallFault, Dose, EventFault, Faults, Method, Profile, profile::StatusTimestamp},
};

use crate::{
    MINUTE, SECOND, evented, last, now,
    support::{EVENT_FAULTS, World},
    worker::{Look, Worker},
};

/// What made events older than their stamps, or empty.
const STALE: [EventFault; 6] = [
    EventFault::OlderView,
    EventFault::Stall(Duration::from_millis(300)),
    EventFault::Delay(Duration::from_millis(300)),
    EventFault::NoStatuses,
    EventFault::Reorder,
    EventFault::Replay,
];

/// The payload was read before the worker acted, and the stamp was made after that.
const STAMPED_LATER: [&[EventFault]; 2] = [
    &[EventFault::Stall(Duration::from_millis(300))],
    &[EventFault::OlderView, EventFault::Stall(Duration::from_millis(1))],
];

/// What a worker did in 400 steps, woken up by every event and at random, while its container ended time and again.
#[derive(Debug)]
struct Work {
    /// The most containers that ran at a time.
    at_a_time: usize,
    /// How many it made.
    made: u32,
    /// How many of them ended.
    ended: u32,
}

async fn work(look: Look, profile: Profile, faults: &dyn Fn(&Faults)) -> Work {
    let mut world = evented(profile).await;
    let pod = world.pod();
    world.pass(SECOND).await;
    faults(world.sim.faults());
    let mut worker = Worker::new(&world, &pod, look);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut work = Work { at_a_time: 0, made: 0, ended: 0 };
    let mut told = 0;
    for step in 1..=400 {
        if world.told.len() > told || rng.u32(..10) == 0 {
            told = world.told.len();
            worker.sync(&world).await;
        }
        let running = worker.running(&world);
        work.at_a_time = work.at_a_time.max(running.len());
        if step % 40 == 0 {
            world.change(|truth| running.iter().for_each(|id| truth.exit(id, 1).expect("exit")));
            work.ended += running.len() as u32;
        }
        world.pass(Duration::from_millis(rng.u64(1..60))).await;
    }
    work.made = worker.made();
    world.sim.faults().clear();
    world.pass(3 * MINUTE).await;
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
    work
}

/// These events on containerd 2.1, all of them.
async fn work_under(look: Look, events: &[EventFault]) -> Work {
    let faults = |faults: &Faults| events.iter().for_each(|fault| faults.events(*fault, Dose::Always));
    work(look, Profile::CONTAINERD_2_1, &faults).await
}

/// One at a time, and the next when one has ended, at least so often.
fn is_right(work: &Work, times: u32) -> bool {
    work.at_a_time == 1 && work.ended >= times && (work.ended..=work.ended + 1).contains(&work.made)
}

#[tokio::test(start_paused = true)]
async fn kubernetes_121003_a_worker_never_starts_a_second_container_of_a_name() {
    for events in STALE.iter().map(std::slice::from_ref).chain(STAMPED_LATER) {
        let work = work_under(Look::ByReads, events).await;
        assert!(is_right(&work, 9), "{events:?}: {work:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_123087_nor_does_it_with_all_faults_at_once_on_any_runtime() {
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
        let work = work(Look::ByReads, profile, &faults).await;
        // Where STOPPED is lost or late, the worker hears of the end no earlier than from a relist.
        assert!(is_right(&work, 2), "{}: {work:?}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_121796_the_same_events_mislead_the_same_worker_where_stamps_decide() {
    // So the circumstances are those in which it went wrong.
    for events in STAMPED_LATER {
        let work = work_under(Look::ByStamps, events).await;
        assert!(work.at_a_time > 1, "{events:?}: {work:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_122763_a_container_that_is_made_and_not_started_is_called_created() {
    for profile in [Profile::CONTAINERD_1_6, Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut world = World::new(profile);
        let pod = world.pod();
        world.pass(5 * MINUTE).await;
        let id = world.create(&pod, "c");
        // A StartContainer that takes for ever: what is there stays what it is, and is not made again.
        for _ in 0..10 {
            world.pass(10 * SECOND).await;
            let served = world.served(&pod).expect("served");
            let state = served.container(&id).map(|container| container.state);
            assert_eq!(state, Some(ContainerState::Created), "{}: not unknown, not missing", profile.name);
        }
        assert_eq!(world.story(&id), ["Changed"], "{}", profile.name);
        world.change(|truth| truth.start_container(&id).expect("start"));
        world.pass(2 * SECOND).await;
        assert_eq!(world.story(&id), ["Changed", "Started"], "{}", profile.name);
    }
}

#[tokio::test(start_paused = true)]
async fn kubernetes_128229_statuses_that_are_left_out_are_not_taken_for_none() {
    // containerd 2.0.0 to 2.0.2 set the timestamp of PodSandboxStatus and left the statuses out (containerd#10728); its
    // events came without statuses too.
    let profile = Profile { status_timestamp: StatusTimestamp::WithoutStatuses, ..Profile::CONTAINERD_2_1 };
    let mut world = evented(profile).await;
    world.sim.faults().events(EventFault::NoStatuses, Dose::Always);
    let pod = world.pod();
    let mut worker = Worker::new(&world, &pod, Look::ByReads);
    for _ in 0..100 {
        worker.sync(&world).await;
        assert_eq!(worker.running(&world).len(), 1);
        world.pass(SECOND).await;
        assert_eq!(world.served(&pod).expect("served").containers.len(), 1);
    }
    assert_eq!((world.differences(), world.absurdities()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn kubernetes_133371_a_pod_is_the_same_whether_an_event_or_a_read_has_made_it() {
    for profile in [Profile::CONTAINERD_2_1, Profile::CRI_O_1_34] {
        let mut world = evented(profile).await;
        let pod = world.pod();
        let sidecar = world.start(&pod, "sidecar");
        let main = world.start(&pod, "main");
        world.pass(SECOND).await;
        let by_event = world.served(&pod).expect("served");
        let by_read = now(&world, &pod).await.expect("fresh").expect("there");
        assert_eq!(by_event, by_read, "{}: one builder for both paths", profile.name);
        world.change(|truth| truth.exit(&main, 3).expect("exit"));
        world.pass(SECOND).await;
        let by_event = world.served(&pod).expect("served");
        assert_eq!(by_event, now(&world, &pod).await.expect("fresh").expect("there"), "{}", profile.name);
        assert_eq!((last(&world, &sidecar), last(&world, &main)), ("Started".into(), "Died(3 Error)".into()));
    }
}
