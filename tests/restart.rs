//! A restarted plegd continues its epoch: nothing that was published is lost or repeated, and what happened meanwhile is published once.
//!
//! On the simulated runtime, in paused time. The simulation (`tests/simulation.rs`) does the same at random.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use plegd::{
    app::App,
    clock::{Clock, WallStepper},
    config::Config,
    journal::{Cursor, Record},
    model::{EventType, Position},
    sim::{
        Profile, SimRuntime,
        truth::{ContainerSpec, SandboxSpec},
    },
    state::{
        PersistentFile, StatePlace, Storage, StorageError,
        storage::{Disk, Fault},
    },
    watch::{Request, Start, Update},
};

use support::{NOON, link, word};

const SECOND: Duration = Duration::from_secs(1);

/// A machine with a runtime, its disk, and one plegd after another.
struct Machine {
    sim: SimRuntime,
    clock: Clock,
    stepper: WallStepper,
    disk: Disk,
    file: PersistentFile,
    boot: u32,
    endpoint: String,
    next_pod: u32,
}

/// A plegd, and all that it has published, from the first event of its epoch that it still holds.
struct Plegd {
    app: App,
    cursor: Cursor,
    events: Vec<Arc<Record>>,
}

impl Machine {
    fn new(profile: Profile) -> Self {
        fastrand::seed(1);
        let (clock, stepper) = Clock::simulated(NOON);
        let sim = SimRuntime::new(profile, clock.clone(), 1);
        let file = PersistentFile::Memory(Arc::default());
        Self {
            sim,
            clock,
            stepper,
            disk: Disk::default(),
            file,
            boot: 1,
            endpoint: String::new(),
            next_pod: 0,
        }
    }

    fn place(&self) -> StatePlace {
        StatePlace {
            storage: Ok(Box::new(self.disk.open()) as Box<dyn Storage>),
            persistent: Some(self.file.clone()),
            max_bytes: 1 << 20,
            boot_id: format!("boot-{}", self.boot),
            endpoint: self.endpoint.clone(),
        }
    }

    async fn start(&self) -> Plegd {
        self.start_at(self.place()).await
    }

    async fn start_at(&self, place: StatePlace) -> Plegd {
        let mut config = Config::default();
        config.http.address = None;
        let app = App::start_with_state(&config, link(&self.sim), self.clock.restarted(), place);
        let cursor = app.journal().cursor(app.journal().stats().oldest - 1);
        let mut plegd = Plegd { app, cursor, events: Vec::new() };
        plegd.pass(7 * SECOND).await;
        assert!(plegd.app.health().ready().ok);
        plegd
    }

    fn pod(&mut self) -> (SandboxSpec, String) {
        self.next_pod += 1;
        let name = format!("pod-{}", self.next_pod);
        let spec = SandboxSpec::of_pod("default", &name, &format!("uid-{}", self.next_pod));
        let sandbox = self.sim.change(|truth| truth.run_sandbox(spec.clone())).unwrap();
        (spec, sandbox)
    }

    fn container(&self, (spec, sandbox): &(SandboxSpec, String), name: &str) -> String {
        let container = ContainerSpec::of_pod(spec, name, 0, "busybox");
        self.sim.change(|truth| {
            let id = truth.create_container(sandbox, container).unwrap();
            truth.start_container(&id).unwrap();
            id
        })
    }

    /// containerd notices that a subscriber is gone when it sends the next event, which is lost.
    async fn lose_one_event(&self, pod: &(SandboxSpec, String)) {
        tokio::time::sleep(SECOND).await;
        self.container(pod, "lost");
        tokio::time::sleep(SECOND).await;
    }

    fn exit(&self, id: &str, code: i32) {
        self.sim.change(|truth| truth.exit(id, code)).unwrap();
    }

    fn remove(&self, id: &str) {
        self.sim.change(|truth| truth.remove_container(id)).unwrap();
    }
}

impl Plegd {
    async fn pass(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        while let Some(record) = self.cursor.try_next().unwrap() {
            self.events.push(record);
        }
    }

    fn epoch(&self) -> u64 {
        self.app.journal().epoch()
    }

    fn head(&self) -> Position {
        let journal = self.app.journal();
        journal.position(journal.head())
    }

    /// The moves of an id to another phase, each with `late` or `initial` if it is.
    fn history(&self, id: &str) -> Vec<String> {
        let is_move =
            |event: &&Arc<Record>| event.id.as_str() == id && event.kind != EventType::ContainerChanged;
        let of_id = self.events.iter().filter(is_move);
        let text = |event: &Arc<Record>| {
            let marks = [(event.late, " late"), (event.initial, " initial")];
            let marks = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark);
            word(event) + &marks.collect::<String>()
        };
        of_id.map(text).collect()
    }

    fn metric(&self, sample: &str) -> f64 {
        let text = self.app.scrape().unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{sample} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The updates of a watch that resumes after a position, until it has no more.
    fn resumed(&self, after: Position) -> Vec<Update> {
        let request = Request { start: Start::After(after), ..Request::default() };
        let mut watch = self.app.watch(request).unwrap();
        std::iter::from_fn(|| watch.try_next().unwrap()).collect()
    }

    async fn stop(self) {
        self.app.stop().await;
    }

    /// As SIGKILL: what is not written is lost.
    async fn kill(self, machine: &Machine) {
        machine.disk.kill();
        drop(self);
        tokio::time::sleep(SECOND).await;
    }
}

fn texts(updates: &[Update]) -> Vec<String> {
    let text = |update: &Update| match update {
        Update::Hello(_) => "hello".to_owned(),
        Update::Event { record, .. } => format!("{} {}", record.sequence, word(record)),
        Update::Restarted(restart) => format!("restarted blind={}", restart.blind),
        other => format!("{other:?}"),
    };
    updates.iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_restart_repeats_nothing_and_a_subscriber_resumes_without_a_gap() {
    for kill in [false, true] {
        let mut machine = Machine::new(Profile::CONTAINERD_2_1);
        let first = machine.start().await;
        let pod = machine.pod();
        let id = machine.container(&pod, "web");
        let mut first = first;
        first.pass(5 * SECOND).await;
        let (epoch, head, published) = (first.epoch(), first.head(), first.events.len());
        let before = first.app.cache().list();
        if kill {
            first.kill(&machine).await
        } else {
            first.stop().await
        }
        tokio::time::sleep(10 * SECOND).await;
        let second = machine.start().await;
        assert_eq!((second.epoch(), second.head()), (epoch, head), "kill: {kill}");
        assert_eq!(second.events.len(), published, "the journal is restored");
        assert_eq!(second.history(&id), ["Started"]);
        assert_eq!(second.app.cache().list(), before);
        assert_eq!(texts(&second.resumed(head)), ["hello", "restarted blind=true"], "nothing was replayed");
        let all = texts(&second.resumed(Position { sequence: 0, ..head }));
        assert_eq!(all.len(), published + 2, "{all:?}");
        assert_eq!(second.metric("plegd_epoch_restarts"), 1.0);
        second.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_happened_meanwhile_is_published_once_and_marked_as_late() {
    for profile in [Profile::CONTAINERD_2_1, Profile::CONTAINERD_1_7, Profile::CRI_O_1_34] {
        let mut machine = Machine::new(profile);
        let mut first = machine.start().await;
        let pod = machine.pod();
        let (dies, goes, stays) = (
            machine.container(&pod, "dies"),
            machine.container(&pod, "goes"),
            machine.container(&pod, "stays"),
        );
        first.pass(5 * SECOND).await;
        let head = first.head();
        first.stop().await;
        machine.lose_one_event(&pod).await;
        machine.exit(&dies, 3);
        machine.exit(&goes, 4);
        machine.remove(&goes);
        let born = machine.container(&pod, "born");
        let short = machine.container(&pod, "short");
        machine.exit(&short, 5);
        machine.remove(&short);
        tokio::time::sleep(SECOND).await;
        let second = machine.start().await;
        let replays = !profile.name.starts_with("cri-o");
        assert_eq!(second.history(&dies), ["Started", "Died(3 Error) late"], "{}", profile.name);
        assert_eq!(second.history(&stays), ["Started"], "{}", profile.name);
        assert_eq!(second.history(&born), ["Started late"], "{}", profile.name);
        if replays {
            let gone = ["Started", "Died(4 Error) late", "Removed late"];
            assert_eq!(second.history(&goes), gone, "{}", profile.name);
            let whole = ["Started late", "Died(5 Error) late", "Removed late"];
            assert_eq!(second.history(&short), whole, "{}", profile.name);
        } else {
            assert_eq!(second.history(&goes), ["Started", "Died! late", "Removed late"]);
            assert_eq!(second.history(&short), [""; 0], "CRI-O replays nothing");
        }
        let updates = texts(&second.resumed(head));
        let restarts: Vec<_> = updates.iter().filter(|text| text.starts_with("restarted")).collect();
        assert_eq!(restarts, [&format!("restarted blind={}", !replays)], "{updates:?}");
        assert_eq!(second.metric("plegd_detection_latency_seconds_count{source=\"event\"}"), 0.0);
        second.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_is_initial_inventory_and_a_continued_one_is_not() {
    let mut machine = Machine::new(Profile::CONTAINERD_2_1);
    let pod = machine.pod();
    let id = machine.container(&pod, "web");
    tokio::time::sleep(SECOND).await;
    let first = machine.start().await;
    assert_eq!(first.history(&id), ["Started initial"]);
    first.stop().await;
    let second = machine.start().await;
    assert_eq!(second.history(&id), ["Started initial"], "as it was published");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_death_whose_removal_was_seen_before_the_restart_is_not_lost() {
    let mut machine = Machine::new(Profile::CONTAINERD_2_1);
    let mut first = machine.start().await;
    let pod = machine.pod();
    let id = machine.container(&pod, "web");
    first.pass(5 * SECOND).await;
    machine.exit(&id, 1);
    machine.remove(&id);
    // At once, before anything of it is applied, or within the grace period of the death.
    tokio::time::sleep(Duration::from_millis(1)).await;
    first.kill(&machine).await;
    let second = machine.start().await;
    let words: Vec<String> = second.history(&id);
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(words[1].starts_with("Died(1 Error)") && words[2].starts_with("Removed"), "{words:?}");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_write_loses_nothing_that_was_published() {
    for at in 0..40 {
        for bytes in [0, 7, 100_000] {
            let mut machine = Machine::new(Profile::CONTAINERD_2_1);
            let mut first = machine.start().await;
            let epoch = first.epoch();
            machine.disk.set_fault(Some(Fault::Kill { at, bytes }));
            let mut ids = Vec::new();
            for n in 0..4 {
                let pod = machine.pod();
                let id = machine.container(&pod, "job");
                first.pass(SECOND).await;
                machine.exit(&id, n);
                first.pass(SECOND).await;
                ids.push(id);
            }
            let published = first.events.clone();
            first.kill(&machine).await;
            let second = machine.start().await;
            assert_eq!(second.epoch(), epoch, "write {at}, {bytes} bytes");
            for (old, new) in published.iter().zip(&second.events) {
                assert_eq!((&old.event, &old.pod), (&new.event, &new.pod), "write {at}, {bytes} bytes");
            }
            assert!(second.events.len() >= published.len());
            for (n, id) in ids.iter().enumerate() {
                let words = second.history(id);
                assert_eq!(words.len(), 2, "write {at}, {bytes} bytes, container {n}: {words:?}");
            }
            second.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_survived_and_costs_the_epoch_only_while_it_is_full() {
    for freed in [false, true] {
        let mut machine = Machine::new(Profile::CONTAINERD_2_1);
        let mut first = machine.start().await;
        let epoch = first.epoch();
        machine.disk.set_fault(Some(Fault::Full { at: 2 }));
        let pod = machine.pod();
        let id = machine.container(&pod, "web");
        first.pass(5 * SECOND).await;
        assert_eq!(first.history(&id), ["Started"], "plegd goes on");
        assert_eq!(
            (first.metric("plegd_state_active"), first.metric("plegd_state_errors_total")),
            (0.0, 1.0)
        );
        assert!(machine.disk.files().is_empty(), "nothing that could be loaded is left");
        let note = first.app.health().ready().checks.into_iter().find(|check| check.name == "state").unwrap();
        assert!(!note.ok && note.text.contains("not written"), "{note:?}");
        if freed {
            machine.disk.set_fault(None);
            first.pass(61 * SECOND).await;
            assert_eq!(first.metric("plegd_state_active"), 1.0);
        }
        let head = first.head();
        first.kill(&machine).await;
        machine.disk.set_fault(None);
        let second = machine.start().await;
        assert_eq!(second.epoch() == epoch, freed);
        let updates = texts(&second.resumed(head));
        assert_eq!(updates.iter().any(|text| text.contains("Gap")), !freed, "{updates:?}");
        second.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reboot_continues_from_the_file_of_a_clean_stop_and_else_begins_anew() {
    for clean in [true, false] {
        let mut machine = Machine::new(Profile::CONTAINERD_2_1);
        let mut first = machine.start().await;
        let pod = machine.pod();
        let id = machine.container(&pod, "web");
        first.pass(5 * SECOND).await;
        let (epoch, head) = (first.epoch(), first.head());
        if clean {
            first.stop().await
        } else {
            first.kill(&machine).await
        }
        // tmpfs is empty after a reboot, and the runtime has ended its containers.
        machine.disk.set_files(Default::default());
        machine.boot += 1;
        machine.exit(&id, 255);
        tokio::time::sleep(60 * SECOND).await;
        let second = machine.start().await;
        assert_eq!(second.epoch() == epoch, clean);
        if clean {
            let updates = texts(&second.resumed(head));
            assert!(updates.iter().any(|text| text.contains("Died(255 Error)")), "{updates:?}");
            assert!(!updates.iter().any(|text| text.contains("Gap")), "{updates:?}");
        }
        second.kill(&machine).await;
        // The file was read once: after a loss of power it is not there.
        machine.disk.set_files(Default::default());
        machine.boot += 1;
        let third = machine.start().await;
        assert_ne!(third.epoch(), epoch);
        third.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_of_an_earlier_boot_alone_is_not_used() {
    let mut machine = Machine::new(Profile::CONTAINERD_2_1);
    let first = machine.start().await;
    let epoch = first.epoch();
    first.kill(&machine).await;
    machine.boot += 1;
    let second = machine.start().await;
    assert_ne!(second.epoch(), epoch);
    assert_eq!(second.metric("plegd_state_damaged_total"), 1.0);
    let epoch = second.epoch();
    second.stop().await;
    machine.boot += 1;
    let third = machine.start().await;
    assert_eq!(third.epoch(), epoch, "the log and the file of a clean stop agree");
    third.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_log_or_one_of_another_endpoint_begins_a_new_epoch() {
    type Change = fn(&mut Machine);
    let flip: Change = |machine| {
        let mut files = machine.disk.files();
        let file = files.values_mut().next().unwrap();
        let middle = file.len() / 2;
        file[middle] ^= 4;
        machine.disk.set_files(files);
    };
    let version: Change = |machine| {
        let mut files = machine.disk.files();
        files.values_mut().next().unwrap()[8] = 200;
        machine.disk.set_files(files);
    };
    let garbage: Change = |machine| {
        let mut files = machine.disk.files();
        *files.values_mut().next().unwrap() = b"this is not a segment at all".to_vec();
        machine.disk.set_files(files);
    };
    let endpoint: Change = |machine| machine.endpoint = "unix:///run/other.sock".into();
    for (name, change) in [("flip", flip), ("version", version), ("garbage", garbage), ("endpoint", endpoint)]
    {
        let mut machine = Machine::new(Profile::CONTAINERD_2_1);
        let mut first = machine.start().await;
        let pod = machine.pod();
        machine.container(&pod, "web");
        first.pass(5 * SECOND).await;
        let (epoch, head) = (first.epoch(), first.head());
        first.kill(&machine).await;
        change(&mut machine);
        let second = machine.start().await;
        assert_ne!(second.epoch(), epoch, "{name}");
        assert_eq!(second.metric("plegd_state_damaged_total"), 1.0, "{name}");
        assert_eq!(second.metric("plegd_state_active"), 1.0, "{name}: the new epoch is kept");
        assert!(texts(&second.resumed(head))[1].contains("ForeignEpoch"), "{name}");
        let kept = machine.disk.files().keys().filter(|file| file.ends_with(".damaged")).count();
        assert_eq!(kept, 1, "{name}");
        second.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_plegd_and_one_whose_directory_is_unusable_run_without_state() {
    let machine = Machine::new(Profile::CONTAINERD_2_1);
    let locked = StorageError::Locked { path: "/run/plegd/state".into() };
    let plegd = machine.start_at(StatePlace { storage: Err(locked), ..machine.place() }).await;
    assert_eq!(plegd.metric("plegd_state_active"), 0.0);
    let note = plegd.app.health().ready().checks.into_iter().find(|check| check.name == "state").unwrap();
    assert!(note.text.contains("another plegd uses it"), "{note:?}");
    plegd.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_stepped_meanwhile_hides_nothing() {
    for step in [-3600, 3600] {
        let mut machine = Machine::new(Profile::CONTAINERD_2_1);
        let mut first = machine.start().await;
        let pod = machine.pod();
        first.pass(5 * SECOND).await;
        first.stop().await;
        machine.lose_one_event(&pod).await;
        let short = machine.container(&pod, "short");
        machine.exit(&short, 5);
        machine.remove(&short);
        // The runtime's events have the timestamps of before.
        machine.stepper.step(step * 1_000_000_000);
        let second = machine.start().await;
        let words = second.history(&short);
        assert!(words.iter().any(|word| word.starts_with("Died(5 Error)")), "{step}: {words:?}");
        assert!(words.iter().any(|word| word.starts_with("Removed")), "{step}: {words:?}");
        second.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_epoch_survives_many_restarts_and_rotations() {
    let mut machine = Machine::new(Profile::CONTAINERD_2_1);
    let mut plegd = machine.start().await;
    let epoch = plegd.epoch();
    let mut deaths = 0;
    for round in 0..30 {
        for _ in 0..20 {
            let pod = machine.pod();
            let id = machine.container(&pod, "job");
            plegd.pass(Duration::from_millis(100)).await;
            machine.exit(&id, 0);
            machine.sim.change(|truth| truth.remove_sandbox(&pod.1)).unwrap();
            deaths += 1;
        }
        plegd.pass(5 * SECOND).await;
        if round % 2 == 0 {
            plegd.stop().await
        } else {
            plegd.kill(&machine).await
        }
        plegd = machine.start().await;
        assert_eq!(plegd.epoch(), epoch, "round {round}");
    }
    let head = plegd.app.journal().head();
    let sequences: Vec<u64> = plegd.events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences.last(), Some(&head));
    assert!(sequences.windows(2).all(|two| two[1] == two[0] + 1));
    let died = plegd
        .events
        .iter()
        .filter(|event| event.kind == EventType::ContainerDied && !event.container_name.is_empty());
    assert!(died.count() > 0 && deaths == 600);
    assert!(plegd.metric("plegd_state_bytes") <= 1.5e6);
    plegd.stop().await;
}
