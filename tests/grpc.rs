//! The pod lifecycle service over gRPC: answers, and the status codes of refused calls.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use plegd::{
    api::v1,
    client::{CallError, Client, Freshness, GapReason, PodRef, PositionLost, WaitCondition},
    config::Config,
    sim::{Dose, EventFault, Profile},
};
use support::{Harness, TestPod, pipes::Pipes};
use tonic::{Code, Status};

const SECOND: Duration = Duration::from_secs(1);

/// A harness and a client of its API.
struct Served {
    harness: Harness,
    client: Client,
}

impl Served {
    fn not_ready() -> Self {
        Self::of(Harness::new(Profile::CONTAINERD_2_1), Config::default())
    }

    /// A small journal, and five reads per second.
    async fn quiet() -> Self {
        let small = |config: &mut Config| {
            config.journal.events = 64;
            config.api.reads_per_second = 5;
        };
        let mut harness = Harness::after(Profile::CONTAINERD_2_1, 1, small, |_| ()).await;
        harness.until_evented().await;
        let mut config = Config::default();
        small(&mut config);
        Self::of(harness, config)
    }

    fn of(harness: Harness, config: Config) -> Self {
        let (pipes, _) = Pipes::serve(&harness.app, config);
        Self { client: pipes.client(), harness }
    }

    /// A pod with one running container.
    async fn running(&mut self) -> (TestPod, String) {
        let pod = self.harness.pod();
        let id = self.harness.start(&pod, "c");
        self.harness.pass(SECOND).await;
        (pod, id)
    }

    /// The status with which a watch ends.
    async fn refused(&self, request: v1::WatchRequest) -> Status {
        let mut messages = match self.client.lifecycle().watch(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return status,
        };
        loop {
            match messages.message().await {
                Ok(Some(message)) => assert!(message.update.is_some()),
                Ok(None) => panic!("the watch ended without a status"),
                Err(status) => return status,
            }
        }
    }

    /// Waits for a condition that `act` fulfills one second later.
    async fn waits(
        &mut self,
        pod: &PodRef,
        condition: WaitCondition,
        act: impl FnOnce(&mut Harness),
    ) -> Option<v1::Pod> {
        let (client, pod) = (self.client.clone(), pod.clone());
        let waiting = tokio::spawn(async move { client.wait_for(&pod, &condition, 60 * SECOND).await });
        self.harness.pass(SECOND).await;
        assert!(!waiting.is_finished(), "the condition does not hold yet");
        act(&mut self.harness);
        self.harness.pass(5 * SECOND).await;
        waiting.await.expect("no panic").expect("the condition holds").0
    }
}

fn uid(pod: &TestPod) -> PodRef {
    PodRef::Uid(pod.spec.uid.clone())
}

fn container() -> String {
    "c".into()
}

#[tokio::test(start_paused = true)]
async fn before_the_first_relist_every_call_fails_with_failed_precondition() {
    let it = Served::not_ready();
    it.harness.sim.crash();
    let unready = [
        it.refused(v1::WatchRequest::default()).await,
        it.client.lifecycle().list_pods(v1::ListPodsRequest::default()).await.expect_err("too early"),
        it.client.lifecycle().get_pod(v1::GetPodRequest::default()).await.expect_err("too early"),
        it.client.lifecycle().get_container(v1::GetContainerRequest::default()).await.expect_err("too early"),
        it.client.lifecycle().wait_for(v1::WaitForRequest::default()).await.expect_err("too early"),
        it.client.lifecycle().request_read(v1::RequestReadRequest::default()).await.expect_err("too early"),
    ];
    assert_eq!(unready.map(|status| status.code()), [Code::FailedPrecondition; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_wait_ready_begins_once_plegd_is_ready() {
    let it = Served::not_ready();
    let request = v1::WatchRequest { wait_ready: true, ..Default::default() };
    let mut messages = it.client.lifecycle().watch(request).await.expect("a watch").into_inner();
    let hello = messages.message().await.expect("a message").and_then(|message| message.update);
    assert!(matches!(hello, Some(v1::watch_response::Update::Hello(_))), "{hello:?}");
}

#[tokio::test(start_paused = true)]
async fn invalid_watch_requests_are_refused_with_the_reason() {
    let it = Served::quiet().await;
    let base = v1::WatchRequest::default;
    let filter = |filter| v1::WatchRequest { filter: Some(filter), ..base() };
    let seconds = |seconds, nanos| v1::WatchRequest {
        bookmark_interval: Some(prost_types::Duration { seconds, nanos }),
        ..base()
    };
    let latest = v1::SlowPolicy::LatestPerPod.into();
    let with_pods = v1::WatchRequest { slow_policy: latest, detail: v1::Detail::Pod.into(), ..base() };
    let died = v1::Filter { types: vec![v1::EventType::ContainerDied.into()], ..Default::default() };
    for (request, why) in [
        (v1::WatchRequest { start: 1, after: Some(v1::Position::default()), ..base() }, "mutually exclusive"),
        (v1::WatchRequest { start: 99, ..base() }, "start has 99"),
        (v1::WatchRequest { detail: 99, ..base() }, "detail has 99"),
        (v1::WatchRequest { slow_policy: 99, ..base() }, "slow_policy has 99"),
        (v1::WatchRequest { slow_policy: latest, ..base() }, "requires DETAIL_POD"),
        (v1::WatchRequest { filter: Some(died), ..with_pods.clone() }, "the newest event of each pod"),
        (v1::WatchRequest { client_name: "ä".repeat(65), ..base() }, "longer than 64"),
        (filter(v1::Filter { types: vec![99], ..Default::default() }), "not an event type"),
        (filter(v1::Filter { label_selector: "a in (b".into(), ..Default::default() }), "at character"),
        (seconds(-1, 0), "negative"),
        (seconds(0, 1_000_000_000), "negative or invalid"),
        (seconds(0, 1), "allowed is from 100ms to 1h"),
        (seconds(3601, 0), "allowed is from 100ms to 1h"),
    ] {
        let status = it.refused(request.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
        assert!(status.message().contains(why), "{request:?}: {}", status.message());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_is_out_of_range_with_the_range_of_the_journal() {
    let mut it = Served::quiet().await;
    let (pod, _) = it.running().await;
    for n in 0..70 {
        it.harness.create(&pod, &format!("c{n}"));
        it.harness.pass(SECOND / 10).await;
    }
    let (epoch, head) = (it.harness.app.journal().epoch(), it.harness.app.journal().head());
    for (after, reason, word) in [
        (v1::Position { epoch, sequence: 1 }, GapReason::Compacted, "POSITION_COMPACTED"),
        (v1::Position { epoch: !epoch, sequence: 1 }, GapReason::ForeignEpoch, "POSITION_FOREIGN_EPOCH"),
        (v1::Position { epoch, sequence: head + 1 }, GapReason::InFuture, "POSITION_IN_FUTURE"),
    ] {
        let fail = v1::SlowPolicy::Fail.into();
        let request = v1::WatchRequest { after: Some(after), slow_policy: fail, ..Default::default() };
        let status = it.refused(request).await;
        assert_eq!(status.code(), Code::OutOfRange);
        let lost = PositionLost::of(&status);
        assert_eq!(lost, Some(PositionLost { reason, epoch, oldest: head - 63, head }));
        let info = plegd::error_info::ErrorInfo::of(&status).expect("details");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (word, "plegd"));
    }
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_a_watch_receives_a_bookmark_and_unavailable() {
    let mut it = Served::quiet().await;
    it.running().await;
    let request = v1::WatchRequest { start: v1::Start::Now.into(), ..Default::default() };
    let mut messages = it.client.lifecycle().watch(request).await.expect("a watch").into_inner();
    messages.message().await.expect("hello");
    it.harness.app.stop_token().cancel();
    let last = messages.message().await.expect("a message").and_then(|message| message.update);
    assert!(matches!(last, Some(v1::watch_response::Update::Bookmark(_))), "{last:?}");
    assert_eq!(messages.message().await.expect_err("the end").code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn each_condition_is_waited_for_and_then_holds() {
    let mut it = Served::quiet().await;
    let (spec, name) = (uid(&it.harness.pod()), PodRef::name("default", "pod-1"));
    it.harness.pass(SECOND).await;
    let mut id = String::new();
    let first = TestPod {
        sandbox: it
            .harness
            .sim
            .read(|truth| truth.view().sandboxes.keys().next().cloned())
            .expect("a sandbox"),
        ..pod_1()
    };
    let running = it
        .waits(&spec, WaitCondition::ContainerRunning(container()), |harness| id = harness.start(&first, "c"))
        .await;
    assert_eq!(running.expect("a pod").containers[0].state(), v1::ContainerState::Running);
    let by_id = PodRef::ContainerId(id[..20].to_owned());
    let ended = it
        .waits(&by_id, WaitCondition::ContainerExited(String::new()), |harness| {
            harness.change(|truth| truth.exit(&id, 3).expect("exit"));
        })
        .await;
    assert_eq!(ended.expect("a pod").containers[0].exit_code, Some(3));
    let gone = it
        .waits(&name, WaitCondition::ContainerGone(container()), |harness| {
            harness.change(|truth| truth.remove_container(&id).expect("remove"));
        })
        .await;
    assert_eq!(gone.expect("the pod stays").containers.len(), 0);
    let gone = it
        .waits(&name, WaitCondition::PodGone, |harness| {
            harness.change(|truth| truth.remove_sandbox(&first.sandbox).expect("remove"));
        })
        .await;
    assert_eq!(gone, None);
    // A pod that does not exist yet, then one that exists, then one that was removed.
    let next = PodRef::name("default", "pod-2");
    let ready = it.waits(&next, WaitCondition::SandboxReady, |harness| drop(harness.pod())).await;
    assert_eq!(ready.expect("a pod").identity.expect("an identity").uid, "uid-2");
    for (pod, condition) in [(&next, WaitCondition::SandboxReady), (&name, WaitCondition::PodGone)] {
        it.client.wait_for(pod, &condition, SECOND).await.expect("the condition holds already");
    }
}

fn pod_1() -> TestPod {
    let spec = plegd::sim::truth::SandboxSpec::of_pod("default", "pod-1", "uid-1");
    TestPod { spec, sandbox: String::new() }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ran_between_two_reads_satisfies_running_and_exited() {
    for condition in
        [WaitCondition::ContainerRunning(container()), WaitCondition::ContainerExited(container())]
    {
        let mut it = Served::quiet().await;
        let pod = it.harness.pod();
        it.harness.pass(SECOND).await;
        it.waits(&uid(&pod), condition, |harness| {
            let id = harness.start(&pod, "c");
            harness.change(|truth| truth.exit(&id, 0).expect("exit"));
            harness.change(|truth| truth.remove_container(&id).expect("remove"));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline_and_invalid_waits_fail_at_once() {
    let mut it = Served::quiet().await;
    let (pod, id) = it.running().await;
    let reference = |pod: &PodRef| Some(v1::PodReference::from(pod));
    let wait = |pod, condition: v1::Condition, name: &str| v1::WaitForRequest {
        pod,
        condition: condition.into(),
        container_name: name.into(),
    };
    let requested_at = it.harness.app.clock().now();
    let late =
        it.client.wait_for(&uid(&pod), &WaitCondition::PodGone, 2 * SECOND).await.expect_err("too late");
    assert!(matches!(late, CallError::Deadline { after } if after == 2 * SECOND), "{late:?}");
    assert_eq!(it.harness.app.clock().now().since(requested_at), 2 * SECOND);
    let unknown = PodRef::ContainerId("zz".into());
    for (request, code) in [
        (wait(None, v1::Condition::PodGone, ""), Code::InvalidArgument),
        (wait(reference(&uid(&pod)), v1::Condition::Unspecified, ""), Code::InvalidArgument),
        (wait(reference(&uid(&pod)), v1::Condition::ContainerRunning, ""), Code::InvalidArgument),
        (wait(reference(&unknown), v1::Condition::ContainerExited, ""), Code::NotFound),
    ] {
        let refused = it.client.lifecycle().wait_for(request.clone()).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{request:?}");
    }
    let running = wait(reference(&PodRef::ContainerId(id)), v1::Condition::ContainerRunning, "");
    it.client.lifecycle().wait_for(running).await.expect("the container is running");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_found_by_uid_by_name_and_by_a_prefix_of_an_id() {
    let mut it = Served::quiet().await;
    let (pod, id) = it.running().await;
    let get = |pod: PodRef| {
        let client = it.client.clone();
        async move { client.get_pod(&pod, Freshness::Held).await }
    };
    let head = it.harness.app.journal().position(it.harness.app.journal().head());
    for reference in [
        uid(&pod),
        PodRef::name("default", "pod-1"),
        PodRef::ContainerId(id.clone()),
        PodRef::ContainerId(id[..12].to_owned()),
        PodRef::ContainerId(pod.sandbox[..12].to_owned()),
    ] {
        let (found, position) = get(reference.clone()).await.expect("found");
        assert_eq!(
            (found.identity.expect("an identity").uid, position),
            ("uid-1".into(), head),
            "{reference}"
        );
    }
    for unknown in
        [PodRef::Uid("nobody".into()), PodRef::name("default", "nobody"), PodRef::ContainerId("zz".into())]
    {
        let error = get(unknown.clone()).await.expect_err("unknown");
        assert!(matches!(error, CallError::NotFound { .. }), "{unknown}: {error:?}");
    }
    // Of 18 ids, at least two have the same first digit.
    let ids: Vec<String> = (0..18).map(|n| it.harness.create(&pod, &format!("c{n}"))).collect();
    it.harness.pass(SECOND).await;
    let digit = |id: &str| id[..1].to_owned();
    let twice = ids.iter().find(|id| ids.iter().filter(|other| digit(other) == digit(id)).count() > 1);
    let twice = digit(twice.expect("two ids"));
    let error = it.client.get_pod(&PodRef::ContainerId(twice.clone()), Freshness::Held).await;
    assert!(
        matches!(&error, Err(CallError::Invalid { message }) if message.contains("use a longer prefix")),
        "{error:?}"
    );
    let error = it.client.get_container(&twice, Freshness::Held).await.expect_err("several");
    assert!(matches!(error, CallError::Invalid { .. }), "{error:?}");
    let (container, identity) = it.client.get_container(&ids[0][..16], Freshness::Held).await.expect("found");
    assert_eq!((container.name.as_str(), identity.uid.as_str()), ("c0", "uid-1"));
}

#[tokio::test(start_paused = true)]
async fn only_fresh_answers_cost_a_read_and_their_rate_is_limited() {
    let mut it = Served::quiet().await;
    let (pod, id) = it.running().await;
    it.harness.pass(10 * SECOND).await;
    it.harness.sim.faults().events(EventFault::Drop, Dose::Always);
    let before = it.harness.calls();
    it.harness.change(|truth| truth.exit(&id, 9).expect("exit"));
    let held = it.client.get_pod(&uid(&pod), Freshness::Held).await.expect("held").0;
    assert_eq!((held.containers[0].exit_code, it.harness.calls()), (None, before));
    let (fresh, _) = it.client.get_pod(&uid(&pod), Freshness::Now).await.expect("fresh");
    let one = it.harness.calls() - before;
    assert_eq!((fresh.containers[0].exit_code, (1..=5).contains(&one)), (Some(9), true), "{one}");
    // A pod that is new enough is not read again.
    let past = Freshness::NewerThan(plegd::clock::Wall::from_nanos(support::NOON.as_nanos()));
    it.client.get_pod(&uid(&pod), past).await.expect("held");
    assert_eq!(it.harness.calls() - before, one);
    let future = plegd::clock::Wall::from_nanos(support::NOON.as_nanos() * 2);
    let error = it.client.get_pod(&uid(&pod), Freshness::NewerThan(future)).await.expect_err("in the future");
    assert!(matches!(error, CallError::Invalid { .. }), "{error:?}");
    // Five per second; one is used.
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(it.client.get_pod(&uid(&pod), Freshness::Now).await);
    }
    let refused = |answer: &Result<_, CallError>| {
        matches!(answer, Err(CallError::Failed { code: Code::ResourceExhausted, .. }))
    };
    assert!(answers[..4].iter().all(Result::is_ok) && answers[5..].iter().any(refused), "{answers:?}");
    it.client.get_pod(&uid(&pod), Freshness::Held).await.expect("a held answer has no limit");
    it.harness.pass(2 * SECOND).await;
    it.client.get_pod(&uid(&pod), Freshness::Now).await.expect("the limit has been refilled");
}

#[tokio::test(start_paused = true)]
async fn a_requested_read_publishes_its_findings_up_to_the_returned_position() {
    let mut it = Served::quiet().await;
    let (pod, id) = it.running().await;
    it.harness.pass(10 * SECOND).await;
    it.harness.sim.faults().events(EventFault::Drop, Dose::Always);
    it.harness.change(|truth| truth.exit(&id, 9).expect("exit"));
    let position = it.client.request_read(&uid(&pod)).await.expect("read");
    it.harness.drain();
    assert_eq!(it.harness.history(&id), ["Changed", "Started", "Died(9 Error)"]);
    assert_eq!(position, it.harness.app.journal().position(it.harness.events.len() as u64));
    // A pod without any published event is read by its UID only.
    let unpublished = it.harness.pod();
    it.client.request_read(&uid(&unpublished)).await.expect("read");
    it.harness.drain();
    assert_eq!(it.harness.history(&unpublished.sandbox), ["Started"]);
    let error = it.client.request_read(&PodRef::name("default", "nobody")).await.expect_err("unknown");
    assert!(matches!(error, CallError::NotFound { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_list_omit_no_pod_that_stays_and_have_the_position_to_watch_from() {
    let mut it = Served::quiet().await;
    let pods: Vec<TestPod> = (0..9).map(|_| it.harness.pod()).collect();
    it.harness.pass(SECOND).await;
    let page = |page_size, page_token: &str, namespace: &str| {
        let filter = v1::Filter { namespaces: vec![namespace.into()], ..Default::default() };
        let request = v1::ListPodsRequest { filter: Some(filter), page_size, page_token: page_token.into() };
        let client = it.client.clone();
        async move { client.lifecycle().list_pods(request).await.map(tonic::Response::into_inner) }
    };
    let uids = |page: &v1::ListPodsResponse| -> Vec<String> {
        page.pods.iter().map(|pod| pod.identity.clone().expect("an identity").uid).collect()
    };
    let first = page(4, "", "default").await.expect("a page");
    assert_eq!(uids(&first), ["uid-1", "uid-2", "uid-3", "uid-4"]);
    // A listed pod and one that was not listed yet are removed; one pod before and one after the page are created.
    it.harness.sim.change(|truth| truth.remove_sandbox(&pods[0].sandbox).expect("remove"));
    it.harness.sim.change(|truth| truth.remove_sandbox(&pods[5].sandbox).expect("remove"));
    it.harness.sim.change(|truth| {
        for uid in ["uid-0", "uid-99"] {
            let spec = plegd::sim::truth::SandboxSpec::of_pod("default", uid, uid);
            truth.run_sandbox(spec).expect("run");
        }
    });
    tokio::time::sleep(SECOND).await;
    let second = page(4, &first.next_page_token, "default").await.expect("a page");
    assert_eq!(uids(&second), ["uid-5", "uid-7", "uid-8", "uid-9"]);
    let third = page(4, &second.next_page_token, "default").await.expect("a page");
    assert_eq!((uids(&third), third.next_page_token.as_str()), (vec!["uid-99".to_owned()], ""));
    // A watch from that position delivers the changes between the pages.
    assert_eq!((second.position, third.position), (first.position, first.position));
    assert_eq!(first.position.expect("a position").sequence, 9);
    assert_eq!(uids(&page(0, "", "elsewhere").await.expect("a page")), [""; 0]);
    for (token, code) in [("x", Code::InvalidArgument), ("0000000000000001:3/uid-1", Code::OutOfRange)] {
        assert_eq!(page(4, token, "default").await.expect_err("refused").code(), code, "{token}");
    }
}
