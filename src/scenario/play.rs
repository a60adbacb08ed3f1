//! Plays the steps of a scenario on a simulated runtime.
//!
//! Owns the runtime and the objects put into it. Its only interface to plegd is [`Plegd`]: the same steps can be
//! played beside a plegd of this process or of another one, in real time or in tokio's paused time.

mod objects;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::Instant};

use self::objects::Objects;
use super::{
    check::{self, Ended, Failure},
    format::{
        Action, Answer, Check, EventStep, Events, Fail, Payload, RawEvent, Runtime, Scenario, ShortList, Step,
    },
    status::Labels,
};
use crate::{
    clock::{Clock, WallStepper},
    sim::{
        CallFault, Dose, ListFault, Profile, ResetReason, SimRuntime, profile, v1::ContainerEventResponse,
    },
};

/// Timeout for plegd to become ready, and for a verb in the foreground to end.
const LIMIT: Duration = Duration::from_secs(120);
/// Polling interval while waiting for plegd to be ready.
const READY_PERIOD: Duration = Duration::from_millis(10);
/// Slots of a subscriber's channel, as in containerd.
const CAPACITY: usize = 100;

/// The interface to plegd.
pub trait Plegd: Send + Sync {
    /// Whether it is ready.
    fn is_ready(&self) -> BoxFuture<'_, bool>;

    /// Starts a verb with these arguments.
    fn start(&self, args: &[String]) -> Verb;
}

/// A running verb.
#[derive(Debug)]
pub struct Verb {
    /// Its output so far.
    pub printed: Printed,
    /// Resolves to its exit code.
    pub task: JoinHandle<u8>,
}

/// The output of a verb so far. Cheap to clone; all clones share one text.
#[derive(Clone, Debug, Default)]
pub struct Printed(Arc<Mutex<Vec<u8>>>);

/// A runtime on which a scenario is played.
#[derive(Debug)]
pub struct Player {
    scenario: Scenario,
    runtime: SimRuntime,
    /// Steppers of the wall clock, one for each process.
    steppers: Vec<WallStepper>,
    objects: Objects,
    verbs: BTreeMap<String, Verb>,
    /// When the last step was due: delays of waits do not add up.
    due: Instant,
    /// Whether the socket serves CRI when it listens next.
    has_cri_next: Option<bool>,
    failures: Vec<Failure>,
}

// === impl Printed ===

impl Printed {
    /// The text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Player ===

impl Player {
    /// An empty runtime for a scenario; `stepper` sets its clock.
    pub fn new(scenario: Scenario, (clock, stepper): (Clock, WallStepper)) -> Self {
        let profile = profile_of(&scenario.runtime, scenario.events);
        let due = clock.timer(Duration::ZERO);
        let runtime = SimRuntime::new(profile, clock, 1);
        runtime.set_version(&scenario.runtime.name, &scenario.runtime.version);
        runtime.set_has_cri(scenario.has_cri);
        Self {
            scenario,
            runtime,
            steppers: vec![stepper],
            objects: Objects::default(),
            verbs: BTreeMap::new(),
            due,
            has_cri_next: None,
            failures: Vec::new(),
        }
    }

    /// A second clock of the same machine, for plegd: both are stepped together, and each process detects the step
    /// itself.
    pub fn second_clock(&mut self) -> Clock {
        let (clock, stepper) = Clock::simulated(self.runtime.clock().wall());
        self.steppers.push(stepper);
        clock
    }

    /// The runtime.
    pub fn runtime(&self) -> &SimRuntime {
        &self.runtime
    }

    /// The scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Runs the steps before the start of plegd.
    pub async fn prepare(&mut self, on_step: &mut (dyn FnMut(&Step) + Send)) {
        self.restart_time();
        let steps = self.scenario.steps.clone();
        for (n, step) in steps.iter().enumerate().take_while(|(_, step)| step.before) {
            on_step(step);
            self.step(n, step, None).await;
        }
        let backlog = self.scenario.backlog.clone();
        let backlog: Vec<_> = backlog.iter().map(|event| self.event(event)).collect();
        self.runtime.set_backlog(backlog);
    }

    /// Runs the other steps and returns the failures.
    pub async fn play(mut self, plegd: &dyn Plegd, on_step: &mut (dyn FnMut(&Step) + Send)) -> Vec<Failure> {
        self.restart_time();
        let steps = self.scenario.steps.clone();
        for (n, step) in steps.iter().enumerate().skip_while(|(_, step)| step.before) {
            on_step(step);
            self.step(n, step, Some(plegd)).await;
        }
        self.verbs.values().for_each(|verb| verb.task.abort());
        self.failures
    }

    async fn step(&mut self, n: usize, step: &Step, plegd: Option<&dyn Plegd>) {
        match &step.action {
            Action::Sandbox(put) => self.objects.sandbox(put, &self.runtime),
            Action::Container(put) => self.objects.container(put, &self.runtime),
            Action::Remove { id } => self.objects.remove(id, &self.runtime),
            Action::Event(event) => {
                let event = self.event(event);
                self.runtime.emit(event);
            }
            Action::Fail(fail) => self.fail(fail),
            Action::ListTwice { id } => {
                let of = self.objects.subject(id);
                self.runtime.faults().lists(of, ListFault::Twice(id.clone()), Dose::Always);
            }
            Action::ShortList(short) => self.shorten_lists(short),
            Action::Runtime(Runtime { name, version }) => self.runtime.set_version(name, version),
            Action::HasCri(has_cri) => self.has_cri_next = Some(*has_cri),
            Action::BreakStreams => self.runtime.cut_streams(None),
            Action::Down => self.runtime.crash(),
            Action::Up => self.up(n),
            Action::Clock(nanos) => self.steppers.iter().for_each(|stepper| stepper.step(*nanos)),
            Action::Wait(time) => {
                self.due += *time;
                tokio::time::sleep_until(self.due).await;
            }
            Action::Ready | Action::Cli(_) | Action::Collect(_) => {
                if let Some(plegd) = plegd {
                    self.step_of_plegd(n, &step.action, plegd).await;
                    self.restart_time();
                }
            }
        }
    }

    async fn step_of_plegd(&mut self, n: usize, action: &Action, plegd: &dyn Plegd) {
        match action {
            Action::Ready => {
                let ready = async {
                    while !plegd.is_ready().await {
                        tokio::time::sleep(READY_PERIOD).await;
                    }
                };
                if tokio::time::timeout(LIMIT, ready).await.is_err() {
                    self.fails(n, format!("plegd is not ready after {} s", LIMIT.as_secs()));
                }
            }
            Action::Cli(cli) => {
                let verb = plegd.start(&cli.args);
                match &cli.background {
                    Some(name) => drop(self.verbs.insert(name.clone(), verb)),
                    None => self.end(n, verb, None, &cli.check).await,
                }
            }
            Action::Collect(collect) => {
                if let Some(verb) = self.verbs.remove(&collect.name) {
                    self.end(n, verb, collect.timeout, &collect.check).await;
                }
            }
            _ => {}
        }
    }

    /// Waits until a verb ends, or interrupts it after `interrupt_after`, and checks its output.
    async fn end(&mut self, n: usize, mut verb: Verb, interrupt_after: Option<Duration>, check: &Check) {
        let ended = tokio::time::timeout(interrupt_after.unwrap_or(LIMIT), &mut verb.task).await;
        let rc = match ended {
            Ok(Ok(rc)) => rc,
            Ok(Err(error)) => return self.fails(n, format!("the verb failed: {error}")),
            Err(_) => {
                verb.task.abort();
                if interrupt_after.is_none() {
                    self.fails(n, format!("the verb did not end within {} s", LIMIT.as_secs()));
                }
                // The exit code after Ctrl-C.
                0
            }
        };
        let ended = Ended { printed: verb.printed.text(), rc };
        let problems = check::printed(check, &ended);
        if !problems.is_empty() {
            self.fails(n, problems.join("; "));
        }
    }

    fn fails(&mut self, n: usize, problem: String) {
        let text = self.scenario.steps.get(n).map(|step| step.text.clone()).unwrap_or_default();
        self.failures.push(Failure { place: format!("steps[{n}]"), problem: format!("{text}: {problem}") });
    }

    /// Further waits count from now.
    fn restart_time(&mut self) {
        self.due = self.runtime.clock().timer(Duration::ZERO);
    }

    fn event(&self, event: &EventStep) -> ContainerEventResponse {
        let now = self.runtime.clock().wall();
        match event {
            EventStep::Raw(raw) => self.raw_event(raw),
            EventStep::About { id, kind, payload, created_at } => {
                let sandbox_id = self.objects.sandbox_of(id);
                let full = match payload {
                    Payload::Full => self.runtime.change(|truth| truth.event(id, &sandbox_id, *kind)),
                    Payload::None => None,
                };
                let mut event = full.unwrap_or_else(|| ContainerEventResponse {
                    container_id: id.clone(),
                    container_event_type: (*kind).into(),
                    ..ContainerEventResponse::default()
                });
                event.created_at = created_at.map_or(now.as_nanos(), |time| time.nanos(now));
                event
            }
        }
    }

    fn raw_event(&self, raw: &RawEvent) -> ContainerEventResponse {
        let now = self.runtime.clock().wall();
        let labels = Labels::AsWritten;
        let sandbox = raw.sandbox.as_ref();
        ContainerEventResponse {
            container_id: raw.id.clone(),
            container_event_type: raw.kind.into(),
            created_at: raw.created_at.nanos(now),
            pod_sandbox_status: sandbox.map(|sandbox| {
                sandbox.fields.sandbox(&sandbox.id, labels, now).status(self.runtime.profile())
            }),
            containers_statuses: raw
                .containers
                .iter()
                .map(|container| container.fields.container(&container.id, "", None, labels, now).status())
                .collect(),
        }
    }

    fn fail(&self, fail: &Fail) {
        let (faults, method) = (self.runtime.faults(), fail.method);
        faults.withdraw_calls(method, fail.id.as_deref());
        let Some(answer) = &fail.answer else { return };
        let late = fail.delay.map(CallFault::Late);
        let wrong = match answer {
            Answer::Right => None,
            Answer::Error(code, message) => Some(CallFault::Fail(*code, message.clone())),
            Answer::Empty => Some(CallFault::Empty),
            Answer::Garbage => Some(CallFault::Garbage),
        };
        for fault in late.into_iter().chain(wrong) {
            match &fail.id {
                Some(id) => faults.calls_about(method, id, fault, Dose::Always),
                None => faults.calls(method, fault, Dose::Always),
            }
        }
    }

    fn shorten_lists(&self, short: &ShortList) {
        let fault = match (short.reset, short.after) {
            (true, after) => ListFault::Reset { after, reason: ResetReason::InternalError },
            (false, 0) => ListFault::Nothing,
            (false, after) => ListFault::Truncated(after),
        };
        let dose = short.times.map_or(Dose::Always, Dose::Next);
        self.runtime.faults().lists(short.of, fault, dose);
    }

    fn up(&mut self, n: usize) {
        if let Some(has_cri) = self.has_cri_next.take() {
            self.runtime.set_has_cri(has_cri);
        }
        if let Err(error) = self.runtime.recover() {
            self.fails(n, format!("the runtime's socket cannot be opened again: {error}"));
        }
    }
}

/// The most similar simulated runtime.
fn profile_of(runtime: &Runtime, events: Events) -> Profile {
    let version: Vec<u32> = runtime
        .version
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map_while(|part| part.parse().ok())
        .collect();
    let nearest = match (runtime.name.as_str(), version.as_slice()) {
        ("cri-o", [1, ..=26, ..]) => Profile::CRI_O_1_26,
        ("cri-o", [1, ..=28, ..]) => Profile::CRI_O_1_28,
        ("cri-o", [1, ..=32, ..]) => Profile::CRI_O_1_31,
        ("cri-o", _) => Profile::CRI_O_1_34,
        (_, [1, ..=6, ..]) => Profile::CONTAINERD_1_6,
        (_, [1, ..]) => Profile::CONTAINERD_1_7,
        (_, [2, ..=2, ..]) => Profile::CONTAINERD_2_1,
        (_, [2, 3, ..]) => Profile::CONTAINERD_2_3,
        (_, [2, ..]) => Profile::CONTAINERD_2_4,
        _ => Profile::CONTAINERD_2_1,
    };
    let events = match events {
        // Nothing is kept for a later subscriber: the file has the backlog.
        Events::Stream => profile::Events::Blocking { capacity: CAPACITY, retention: Duration::ZERO },
        Events::Eof => profile::Events::EndAtOnce,
        Events::Unimplemented => profile::Events::Unimplemented,
    };
    Profile { events, ..nearest }
}

// === impl Action ===

impl Action {
    /// The sandbox or container that the action names.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Sandbox(put) => Some(&put.id),
            Self::Container(put) => Some(&put.id),
            Self::Event(EventStep::About { id, .. }) => Some(id),
            Self::Event(EventStep::Raw(raw)) => Some(&raw.id),
            _ => None,
        }
    }
}
