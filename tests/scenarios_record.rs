//! A replayed recording makes plegd publish the same events as during the recording.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers are tests")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use plegd::{
    cli::scenario::{Outcome, play},
    clock::Clock,
    cri::Client,
    journal::Record,
    metrics::Metrics,
    model::{EventType, Subject},
    scenario::{
        Scenario,
        check::event_text,
        record::{Options, Progress, Recording, record},
    },
    sim::{CallFault, Churn, Dose, Method, Profile, SimRuntime, truth::SandboxSpec},
};
use rustix::process::Signal;
use support::{Harness, TestPod, link};
use tokio::{process::Command, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::Code;

const SECOND: Duration = Duration::from_secs(1);
/// How long a replay waits for events after the last step.
const SETTLE: Duration = Duration::from_secs(120);

const KEEP: Options = Options { keep_names: true, force_events: false, steps: 100_000, bytes: 64 << 20 };

/// A running recorder.
struct Recorder {
    stop: CancellationToken,
    task: JoinHandle<Recording>,
}

impl Recorder {
    /// Starts to record a runtime, and waits until everything was read once.
    async fn start(sim: &SimRuntime, options: Options) -> Self {
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let clock = sim.clock().clone();
        let client = Client::new(link(sim), 5 * SECOND, clock.clone(), Arc::new(Metrics::new()));
        let (sender, mut progress) = watch::channel(Progress::default());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let recording = record(&client, &clock, &options, stopped, sender).await;
            ended.cancel();
            recording.expect("a recording")
        });
        progress.wait_for(|progress| progress.steps > 0).await.expect("the first poll");
        Self { stop, task }
    }

    async fn stop(self) -> Recording {
        self.stop.cancel();
        self.task.await.expect("the recorder")
    }
}

async fn replayed(recording: &Recording) -> Outcome {
    let scenario = Scenario::read(&recording.text).expect("a recording can be read");
    play(scenario, SETTLE, &mut ()).await.expect("it can be played")
}

/// The events of each id, as text. Changes of a sandbox are left out: no event reports them (its address is removed, its
/// creation time changes during removal), so they are published only if a read happens in time.
fn by_id(events: &[Arc<Record>]) -> BTreeMap<String, Vec<String>> {
    let mut by_id: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let has_no_stream_event =
        |event: &Record| event.subject == Subject::Sandbox && event.kind == EventType::ContainerChanged;
    for event in events.iter().filter(|event| !has_no_stream_event(event)) {
        by_id.entry(event.id.to_string()).or_default().push(event_text(event));
    }
    by_id
}

fn differences(
    published: &BTreeMap<String, Vec<String>>,
    replayed: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let ids = published.keys().chain(replayed.keys()).collect::<BTreeSet<_>>();
    ids.into_iter()
        .filter(|id| published.get(*id) != replayed.get(*id))
        .map(|id| format!("{id}: published {:?}, replayed {:?}", published.get(id), replayed.get(id)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_replay_publishes_what_was_published_during_the_recording() {
    for profile in [Profile::CONTAINERD_2_1, Profile::CONTAINERD_2_3, Profile::CRI_O_1_34] {
        for seed in 1..=3 {
            let past = |sim: &SimRuntime| {
                let (mut churn, mut rng) = (Churn::new(8), fastrand::Rng::with_seed(seed));
                (0..40).for_each(|_| sim.change(|truth| churn.step(&mut rng, truth)));
            };
            let mut harness = Harness::after(profile, seed, |_| (), past).await;
            let recorder = Recorder::start(&harness.sim, KEEP).await;
            harness.churn(seed + 100, 120).await;
            harness.pass(10 * SECOND).await;
            let recording = recorder.stop().await;
            assert!(recording.notes.is_empty(), "{:?}", recording.notes);
            assert!(recording.progress.events > 50, "{:?}", recording.progress);

            let (published, replayed) =
                (by_id(&harness.events), by_id(&replayed(&recording).await.published));
            let differ = differences(&published, &replayed);
            assert!(differ.is_empty(), "{} seed {seed}:\n{}", profile.name, differ.join("\n"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recording_has_pseudonyms_and_publishes_the_same() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let spec = SandboxSpec::of_pod("private-namespace", "private-pod", "private-uid");
    let sandbox = harness.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
    let pod = TestPod { spec, sandbox };
    harness.pass(SECOND).await;
    let recorder = Recorder::start(&harness.sim, Options::default()).await;
    let id = harness.start(&pod, "private-name");
    harness.pass(3 * SECOND).await;
    harness.change(|truth| truth.exit_for(&id, 7, "Error")).expect("exit");
    harness.pass(3 * SECOND).await;
    let recording = recorder.stop().await;
    for secret in [&*id, &pod.sandbox, "private", "busybox", "10.244."] {
        assert!(!recording.text.contains(secret), "{secret} is in\n{}", recording.text);
    }
    let outcome = replayed(&recording).await;
    let mut words: Vec<_> = by_id(&outcome.published).into_values().collect();
    words.sort();
    assert_eq!(words, [vec!["Changed", "Started", "Died 7 Error"], vec!["Started"]]);
}

#[tokio::test(start_paused = true)]
async fn contradictions_of_the_runtime_are_recorded() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    let pod = harness.pod();
    let id = harness.start(&pod, "app");
    harness.pass(SECOND).await;
    let recorder = Recorder::start(&harness.sim, KEEP).await;
    let broken = CallFault::fail(Code::Unknown);
    harness.sim.faults().calls_about(Method::PodSandboxStatus, &pod.sandbox, broken, Dose::Always);
    harness.pass(60 * SECOND).await;
    harness.sim.faults().clear();
    harness.sim.cut_streams(None);
    harness.change(|truth| truth.set_reason(&id, "OOMKilled")).expect("a reason");
    harness.pass(60 * SECOND).await;
    harness.sim.crash();
    harness.pass(5 * SECOND).await;
    harness.sim.recover().expect("the runtime recovers");
    harness.pass(30 * SECOND).await;
    let recording = recorder.stop().await;
    let sandbox = &pod.sandbox;
    for step in [
        format!(r#"{{"code":"UNKNOWN","do":"fail","id":"{sandbox}","method":"PodSandboxStatus"}}"#),
        format!(r#"{{"code":null,"do":"fail","id":"{sandbox}","method":"PodSandboxStatus"}}"#),
        format!(r#""status":{{"id":"{id}","reason":"OOMKilled"}}"#),
        r#"{"do":"down"}"#.to_owned(),
        r#"{"do":"up"}"#.to_owned(),
    ] {
        assert!(recording.text.contains(&step), "no {step} in\n{}", recording.text);
    }
    Scenario::read(&recording.text).expect("it can be read");
}

#[tokio::test(start_paused = true)]
async fn a_recording_ends_at_its_limit_and_states_it() {
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.pod();
    harness.pass(SECOND).await;
    let recorder = Recorder::start(&harness.sim, Options { steps: 30, ..KEEP }).await;
    harness.churn(1, 60).await;
    let recording = recorder.task.await.expect("the recorder ends by itself");
    assert!((30..60).contains(&recording.progress.steps), "{:?}", recording.progress);
    assert_eq!(recording.notes, ["The recording ended early: it has 30 steps, which is the limit."]);
    let scenario = Scenario::read(&recording.text).expect("it can be read");
    assert_eq!(scenario.notes, recording.notes);
}

#[tokio::test(start_paused = true)]
async fn a_recorder_takes_no_events_from_others_unless_forced() {
    for (force_events, followed) in [(false, false), (true, true)] {
        let mut harness = Harness::new(Profile::CONTAINERD_1_7);
        harness.pod();
        harness.until_evented().await;
        let subscribers = harness.sim.queue().subscribers();
        let recorder = Recorder::start(&harness.sim, Options { force_events, ..KEEP }).await;
        harness.pass(3 * SECOND).await;
        assert_eq!(harness.sim.queue().subscribers() > subscribers, followed);
        let recording = recorder.stop().await;
        assert_eq!(recording.notes.is_empty(), followed, "{:?}", recording.notes);
        assert_eq!(recording.text.contains(r#""events": "unimplemented""#), !followed);
    }
}

#[tokio::test]
async fn the_program_records_until_it_is_interrupted() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, file) = (directory.path().join("runtime.sock"), directory.path().join("node.json"));
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
    let _serving = sim.serve_uds(&socket).expect("a socket");
    let spec = SandboxSpec::of_pod("private-namespace", "private-pod", "private-uid");
    sim.change(|truth| truth.run_sandbox(spec)).expect("run");

    let record = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.arg("record").arg("--output").arg(&file).arg("--runtime-endpoint").arg(&socket);
        command.env_clear().stderr(Stdio::piped());
        command
    };
    let recorder = record().spawn().expect("plegd");
    while sim.calls().get(&Method::ListContainers).is_none_or(|lists| *lists < 2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!file.exists(), "the file exists only when it is complete");
    let pid = i32::try_from(recorder.id().expect("a running recorder")).expect("a pid");
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).expect("a pid"), Signal::INT)
        .expect("SIGINT");
    let output = recorder.wait_with_output().await.expect("output");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("node.json has"), "{log}");
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.contains("SANDBOX_READY") && !text.contains("private"), "{text}");
    Scenario::read(&text).expect("it can be read");
    assert_eq!(std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);

    let output = record().arg("--duration").arg("1s").output().await.expect("output");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && log.contains("use --force to overwrite it"), "{log}");
    let output = record().args(["--duration", "1s", "--force"]).output().await.expect("output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    sim.crash();
    std::fs::remove_file(&file).expect("the file");
    let output = record().output().await.expect("output");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && log.contains("nothing was recorded"), "{log}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("the directory").collect();
    assert_eq!(left.len(), 1, "only the socket is left: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_without_events_is_recorded_by_its_lists() {
    let mut harness = Harness::new(Profile::CONTAINERD_1_6);
    let pod = harness.pod();
    harness.pass(SECOND).await;
    let recorder = Recorder::start(&harness.sim, KEEP).await;
    let id = harness.start(&pod, "app");
    harness.pass(5 * SECOND).await;
    harness.change(|truth| truth.exit(&id, 0)).expect("exit");
    harness.pass(5 * SECOND).await;
    harness.change(|truth| truth.remove_container(&id)).expect("remove");
    harness.pass(5 * SECOND).await;
    let recording = recorder.stop().await;
    assert!(recording.text.contains(r#""events": "unimplemented""#), "{}", recording.text);
    let words = by_id(&replayed(&recording).await.published);
    assert_eq!(words[&id], ["Started", "Died 0 Completed", "Removed"]);
    assert_eq!(words[&pod.sandbox], ["Started"]);
}
