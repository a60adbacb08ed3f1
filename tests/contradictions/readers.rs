//! Newer-than reads, and lookups of published ids.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use plegd::{
    model::{EventType, PodUid},
    sim::{
        Profile,
        truth::{ContainerSpec, SandboxSpec},
    },
};

use crate::{SECOND, support::Harness};

/// kubernetes#97190: a pod created with `crictl runp`, with a UID in its metadata and without the kubelet's labels.
fn by_hand() -> SandboxSpec {
    let mut spec = SandboxSpec::of_pod("default", "by-hand", "uid-by-hand");
    spec.labels.clear();
    spec
}

#[tokio::test(start_paused = true)]
async fn newer_than_now_has_a_container_without_labels() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let spec = by_hand();
    let sandbox = harness.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
    harness.pass(3 * SECOND).await;
    let mut container = ContainerSpec::of_pod(&spec, "c", 0, "busybox");
    container.labels.clear();
    let id = harness.change(|truth| truth.create_container(&sandbox, container)).expect("create");
    let uid: PodUid = "uid-by-hand".into();
    let pod = harness.app.pod_newer_than(&uid, harness.app.clock().now(), 5 * SECOND).await.expect("a read");
    assert!(pod.expect("it is there").container(&id).is_some());
}

#[tokio::test(start_paused = true)]
async fn newer_than_now_finds_a_pod_without_labels() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    harness.pass(3 * SECOND).await;
    harness.change(|truth| truth.run_sandbox(by_hand())).expect("run");
    let uid = "uid-by-hand".into();
    let pod = harness.app.pod_newer_than(&uid, harness.app.clock().now(), 5 * SECOND).await.expect("a read");
    assert!(pod.is_some());
}

/// spire#3092: an agent requests a pod, or a container, right after its creation.
#[tokio::test(start_paused = true)]
async fn an_id_that_no_relist_has_shown_is_found_by_name_and_by_container_id() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    harness.pass(3 * SECOND).await;
    let pod = harness.pod();
    let id = harness.start(&pod, "app");
    let fresh = harness.app.fresh().clone();
    let found = fresh.named("default", &pod.spec.name).await.expect("a read").expect("there");
    assert_eq!(found.identity.uid.as_str(), pod.spec.uid);

    let other = harness.pod();
    let other_id = harness.start(&other, "app");
    fresh.read_of_id(&other_id[..12]).await.expect("a read");
    assert_eq!(harness.app.cache().find(&other_id[..12]).expect("found").1.uid.as_str(), other.spec.uid);
    assert!(found.container(&id).is_some());
}

/// A pod that replaces one of the same name is returned, although the old one still exists.
#[tokio::test(start_paused = true)]
async fn of_two_pods_with_one_name_the_one_with_a_ready_sandbox_is_returned() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let old = SandboxSpec::of_pod("shop", "web-0", "uid-old");
    let sandbox = harness.change(|truth| truth.run_sandbox(old)).expect("run");
    harness.change(|truth| truth.stop_sandbox(&sandbox)).expect("stop");
    harness.pass(3 * SECOND).await;
    harness.step_clock(-3_600_000_000_000);
    harness.change(|truth| truth.run_sandbox(SandboxSpec::of_pod("shop", "web-0", "uid-new"))).expect("run");
    let fresh = harness.app.fresh().named("shop", "web-0").await.expect("a read").expect("there");
    assert_eq!(fresh.identity.uid.as_str(), "uid-new");
    harness.pass(3 * SECOND).await;
    let held = harness.app.cache().named("shop", "web-0").expect("held");
    assert_eq!(held.identity.uid.as_str(), "uid-new", "although its creation time is earlier");
}

/// A subscriber that receives an event finds its id in the cache at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_published_id_is_found_in_the_cache() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    tokio::time::sleep(2 * SECOND).await;
    harness.drain();
    let (cache, journal) = (harness.app.cache().clone(), harness.app.journal().clone());
    let over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut cursor = journal.cursor(journal.head());
            let (mut started, mut unknown) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                match cursor.try_next() {
                    Ok(Some(record)) if record.event.kind == EventType::ContainerStarted => {
                        started += 1;
                        let there = record.pod.as_ref().is_some_and(|pod| pod.sandbox().is_some());
                        unknown += usize::from(there && cache.pod_of(record.event.id.as_str()).is_none());
                    }
                    _ => std::hint::spin_loop(),
                }
            }
            (started, unknown)
        }
    });
    for _ in 0..300 {
        for _ in 0..10 {
            harness.pod();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::Relaxed);
    let (started, unknown) = watcher.join().expect("the watcher");
    assert_eq!(unknown, 0, "of {started} started sandboxes, {unknown} were not found by their id");
}
