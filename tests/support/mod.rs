//! The test harness: a plegd on a simulated runtime, in one thread with paused time, and every event that it published.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses what it needs")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

pub mod pipes;
pub mod truth;

use std::{sync::Arc, time::Duration};

use plegd::{
    api::v1,
    app::App,
    clock::{Clock, Wall, WallStepper},
    config::Config,
    cri::{Connection, Link},
    journal::{Cursor, Record},
    model::{Event, EventType, Mode, Pod},
    sim::{
        Churn, EventFault, Method, Profile, SimRuntime, Stamp,
        truth::{ContainerSpec, SandboxSpec, Truth},
    },
};

pub const NOON: Wall = Wall::from_nanos(1_800_000_000_000_000_000);

/// Faults that can hit an event at any time.
pub const EVENT_FAULTS: [EventFault; 10] = [
    EventFault::Drop,
    EventFault::Duplicate,
    EventFault::Delay(Duration::from_secs(3)),
    EventFault::Reorder,
    EventFault::Replay,
    EventFault::NilStatus,
    EventFault::NoStatuses,
    EventFault::OlderView,
    EventFault::Stall(Duration::from_millis(300)),
    EventFault::Stamp(Stamp::Off(-5_000_000_000)),
];

/// A simulated runtime, a plegd that follows it, and a subscriber that reads every event.
pub struct Harness {
    pub sim: SimRuntime,
    pub app: App,
    pub events: Vec<Arc<Record>>,
    cursor: Cursor,
    hands: [WallStepper; 2],
    next_pod: u32,
}

/// A pod of one container.
#[derive(Clone, Debug)]
pub struct TestPod {
    pub spec: SandboxSpec,
    pub sandbox: String,
}

/// The runtime's clock. Seeds the global random numbers too.
fn runtime_clock(seed: u64) -> (Clock, WallStepper) {
    fastrand::seed(seed);
    Clock::simulated(NOON)
}

/// A link to a simulated runtime in the same process.
pub fn link(sim: &SimRuntime) -> Link {
    let connector = sim.connector();
    Link::new("the simulated runtime", move || {
        let connection = connector.connect();
        Box::pin(async move { connection.map(|stream| Box::new(stream) as Box<dyn Connection>) })
    })
}

impl Harness {
    /// A plegd with the default configuration on an empty runtime.
    pub fn new(profile: Profile) -> Self {
        let (clock, hand) = runtime_clock(1);
        Self::follow(SimRuntime::new(profile, clock, 1), hand, |_| ())
    }

    /// A plegd with another configuration, started 1 s after `past` was applied to the runtime.
    pub async fn after(
        profile: Profile,
        seed: u64,
        configure: impl FnOnce(&mut Config),
        past: impl FnOnce(&SimRuntime),
    ) -> Self {
        let (clock, hand) = runtime_clock(seed);
        let sim = SimRuntime::new(profile, clock, seed);
        past(&sim);
        tokio::time::sleep(Duration::from_secs(1)).await;
        Self::follow(sim, hand, configure)
    }

    /// Starts a plegd on this runtime.
    fn follow(sim: SimRuntime, sim_hand: WallStepper, configure: impl FnOnce(&mut Config)) -> Self {
        let now = sim.clock().wall();
        let (clock, hand) = Clock::simulated(now);
        let mut config = Config::default();
        config.http.address = None;
        configure(&mut config);
        let app = App::start(&config, link(&sim), clock);
        let cursor = app.journal().cursor(0);
        Self { sim, app, events: Vec::new(), cursor, hands: [sim_hand, hand], next_pod: 0 }
    }

    /// Steps the machine's wall clock.
    pub fn step_clock(&self, by_nanos: i64) {
        self.hands.iter().for_each(|hand| hand.step(by_nanos));
    }

    /// Lets time pass.
    pub async fn pass(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        self.drain();
    }

    /// Reads the events that were published meanwhile.
    pub fn drain(&mut self) {
        while let Some(event) = self.cursor.try_next().expect("the subscriber keeps up") {
            self.events.push(event);
        }
    }

    /// Lets time pass until `is` holds.
    pub async fn until(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> bool) {
        for _ in 0..300_000 {
            self.drain();
            if is(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what}: not in 300 s; published: {:#?}", self.lines());
    }

    /// Runs a pod.
    pub fn pod(&mut self) -> TestPod {
        self.next_pod += 1;
        let n = self.next_pod;
        let spec = SandboxSpec::of_pod("default", &format!("pod-{n}"), &format!("uid-{n}"));
        let sandbox = self.sim.change(|truth| truth.run_sandbox(spec.clone())).expect("run");
        TestPod { spec, sandbox }
    }

    /// Creates a container in it.
    pub fn create(&self, pod: &TestPod, name: &str) -> String {
        let spec = ContainerSpec::of_pod(&pod.spec, name, 0, "busybox");
        self.sim.change(|truth| truth.create_container(&pod.sandbox, spec)).expect("create")
    }

    /// Creates and starts one.
    pub fn start(&self, pod: &TestPod, name: &str) -> String {
        let id = self.create(pod, name);
        self.change(|truth| truth.start_container(&id).expect("start"));
        id
    }

    pub fn change<R>(&self, change: impl FnOnce(&mut Truth) -> R) -> R {
        self.sim.change(change)
    }

    /// Lets time pass until the stream is trusted.
    pub async fn until_evented(&mut self) {
        for _ in 0..1200 {
            if self.app.follower_status().mode == Mode::Evented {
                return self.drain();
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("not evented in 10 minutes, but {:?}", self.app.follower_status());
    }

    /// Does `steps` steps of churn, about ten per second.
    pub async fn churn(&mut self, seed: u64, steps: usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut churn = Churn::new(8);
        for _ in 0..steps {
            self.change(|truth| churn.step(&mut rng, truth));
            self.pass(Duration::from_micros(rng.u64(10..200_000))).await;
        }
    }

    /// The missed events of all types.
    pub fn missed_events(&self) -> f64 {
        ["created", "started", "stopped", "deleted"]
            .iter()
            .map(|kind| self.metric(&format!(r#"plegd_missed_events_total{{type="{kind}"}}"#)))
            .sum()
    }

    /// Histories that cannot be: an event twice, a backward step, an event after the removal, a needless correction, a missing
    /// removal.
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut ids: Vec<&str> = self.events.iter().map(|event| event.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let words: Vec<String> = self.history(id);
            if !is_valid_history(&words) {
                found.push(format!("{id}: {words:?}"));
            }
            let there = self.sim.read(|truth| truth.container(id).is_some() || truth.sandbox(id).is_some());
            if there == (words.last().map(String::as_str) == Some("Removed")) {
                found.push(format!("{id} is {}: {words:?}", if there { "present" } else { "absent" }));
            }
        }
        found
    }

    /// Calls to the runtime so far, except for the stream.
    pub fn calls(&self) -> u64 {
        let calls = self.sim.calls();
        calls
            .iter()
            .filter(|(method, _)| **method != Method::GetContainerEvents)
            .map(|(_, count)| count)
            .sum()
    }

    pub fn calls_of(&self, method: Method) -> u64 {
        self.sim.calls().get(&method).copied().unwrap_or(0)
    }

    /// The events published for an id, as `Started!` (inferred), `Died(1 Error)` and so on.
    pub fn history(&self, id: &str) -> Vec<String> {
        self.events.iter().filter(|event| event.id.as_str() == id).map(|event| word(event)).collect()
    }

    /// All published events.
    pub fn lines(&self) -> Vec<String> {
        self.events
            .iter()
            .map(|event| {
                format!("{} {} {} by {}", event.sequence, event.id, word(event), event.source.as_str())
            })
            .collect()
    }

    pub fn served(&self, pod: &TestPod) -> Option<Arc<Pod>> {
        self.app.cache().get(&pod.spec.uid.as_str().into())
    }

    /// The value of a metric sample.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.app.metrics().scrape().expect("metrics");
        let line =
            text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
        let value =
            line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).rsplit(' ').next().expect("value");
        value.parse().expect("a number")
    }

    /// The differences between the cache and the truth, field by field.
    pub fn differences(&self) -> Vec<String> {
        let served: Vec<v1::Pod> = self.app.cache().list().iter().map(|pod| pod.as_ref().into()).collect();
        truth::differences_of(&served, &self.sim, |_| true)
    }
}

/// Whether the texts are `Changed* Started? Changed* Died? Changed* Removed?`.
fn is_valid_history(words: &[String]) -> bool {
    let mut next = 0;
    for word in words {
        let step = match word.split(['(', '!']).next().unwrap_or_default() {
            "Changed" if next < 3 => continue,
            "Started" => 0,
            "Died" => 1,
            "Removed" => 2,
            _ => return false,
        };
        if step < next {
            return false;
        }
        next = step + 1;
    }
    true
}

/// `Started`, `Died(1 Error)`, `Removed`, `Changed`, `Sync`; with `!` if it was inferred.
pub fn word(event: &Event) -> String {
    let mut word = match event.kind {
        EventType::ContainerStarted => "Started".into(),
        EventType::ContainerDied => match event.exit_code {
            Some(code) => format!("Died({code} {})", event.reason),
            None => "Died".into(),
        },
        EventType::ContainerRemoved => "Removed".into(),
        EventType::ContainerChanged if event.reason.is_empty() => "Changed".into(),
        EventType::ContainerChanged => format!("Changed({})", event.reason),
        EventType::PodSync => "Sync".to_owned(),
    };
    if event.inferred {
        word.push('!');
    }
    word
}
