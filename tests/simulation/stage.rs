//! Where a plan is played: a simulated runtime, a plegd on it, and what both did, with the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use plegd::{
    app::App,
    clock::Mono,
    config::Loaded,
    journal::Cursor,
    model::{Event, Pod},
    sim::{
        CallFault, Dose, ListFault, Lists, Method, SimRuntime, Subject, Target,
        profile::RemovedWithPod,
        truth::{ContainerSpec, ContainerState, Refused, SandboxSpec},
        v1::ContainerEventType,
    },
};
use tokio::task::{AbortHandle, JoinSet};
use tonic::Status;

use super::{
    contradictions::Contradiction,
    facts::Facts,
    fresh::{self, Reading, Wanted},
    node::Node,
    plan::{Act, By, Plan},
    waits::Waited,
    world::World,
};

/// The applications of pods, by which subscribers tell them apart.
const APPS: [Option<&str>; 4] = [Some("web"), Some("backup"), None, Some("api")];

/// The node, and what the plan's numbers mean on it.
pub struct Stage {
    pub node: Node,
    slots: Vec<Slot>,
    world: World,
    values: u64,
    /// Containers that were removed without the event that the runtime sends for this as a rule.
    pub silenced: usize,
    drifted: Mono,
    /// Short names of ids.
    pub names: BTreeMap<String, String>,
    thief: Option<AbortHandle>,
    cursor: Option<Cursor>,
    /// When something happened after which, for that instant or until the second moment, what the runtime says may get lost.
    pub uncertain: Vec<(Mono, Mono)>,
    /// When the wall clock was stepped, and by how many nanoseconds.
    pub steps: Vec<(Mono, i64)>,
    frozen: Option<Mono>,
    pub hindrances: Hindrances,
    /// When lists may have been wrong.
    pub wrong_lists: Hindrances,
    /// In what the runtime contradicts itself for good.
    pub contradictions: Vec<Contradiction>,
    pub facts: Facts,
    /// When the plegd there is now was started.
    pub began: Mono,
    pub readings: JoinSet<Option<Reading>>,
    pub waits: JoinSet<Waited>,
    /// Those that are not answered yet.
    pub waiting: Vec<Waited>,
    /// Ids of which an event said that they were deleted, and they were not.
    pub announced: BTreeSet<String>,
}

/// A pod of the plan's. When it has been removed, the next one in the slot is another pod.
#[derive(Default)]
struct Slot {
    generation: u32,
    spec: SandboxSpec,
    sandboxes: Vec<String>,
    containers: Vec<Option<String>>,
}

/// What was told, and when it was looked for.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Mono,
    pub event: Event,
    /// Its pod after that.
    pub pod: Option<Arc<Pod>>,
}

/// When calls of the runtime may have failed or hung.
#[derive(Debug, Default)]
pub struct Hindrances {
    over: Vec<(Mono, Mono)>,
    since: Option<Mono>,
}

// === impl Hindrances ===

impl Hindrances {
    /// Whether there may have been one at any moment from `from` to `to`.
    pub fn any(&self, from: Mono, to: Mono) -> bool {
        self.since.is_some_and(|since| since <= to)
            || self.over.iter().any(|(began, ended)| *began <= to && *ended >= from)
    }

    pub fn begin(&mut self, now: Mono) {
        self.since.get_or_insert(now);
    }

    fn end(&mut self, now: Mono) {
        self.over.extend(self.since.take().map(|since| (since, now)));
    }
}

// === impl Stage ===

impl Stage {
    pub fn of(plan: &Plan) -> Self {
        let mut node = Node::new(plan.profile, plan.seed, plan.journal);
        node.config.relist.period = plan.period;
        node.config.relist.max_period = plan.max_period.max(plan.period);
        node.config.runtime.request_timeout = plan.request_timeout;
        if let Some(messages) = plan.world.queue {
            node.config.stream.queue_messages = messages;
        }
        if let Some(version) = plan.world.unknown_version {
            node.sim.set_version(plan.profile.runtime_name, version);
        }
        node.sim.record_exchanges();
        let began = node.sim.clock().now();
        Self {
            node,
            slots: Vec::new(),
            world: plan.world.clone(),
            values: 0,
            silenced: 0,
            drifted: began,
            names: BTreeMap::new(),
            thief: None,
            cursor: None,
            uncertain: Vec::new(),
            steps: Vec::new(),
            frozen: None,
            hindrances: Hindrances::default(),
            wrong_lists: Hindrances::default(),
            contradictions: Vec::new(),
            facts: Facts::default(),
            began,
            readings: JoinSet::new(),
            waits: JoinSet::new(),
            waiting: Vec::new(),
            announced: BTreeSet::new(),
        }
    }

    pub fn sim(&self) -> &SimRuntime {
        &self.node.sim
    }

    pub fn app(&self) -> &App {
        self.node.app()
    }

    pub fn now(&self) -> Mono {
        self.node.sim.clock().now()
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Starts a plegd.
    pub fn start(&mut self) {
        self.began = self.now();
        self.slow_down();
        self.node.start();
        self.cursor = Some(self.app().journal().cursor(0));
    }

    /// The runtime takes its time, as it does in this world.
    fn slow_down(&self) {
        let slow = self.world.slow_status;
        if !slow.is_zero() {
            let faults = self.sim().faults();
            faults.withdraw_calls(Method::PodSandboxStatus, None);
            faults.calls(Method::PodSandboxStatus, CallFault::Late(slow), Dose::Always);
        }
    }

    /// Puts other relist periods in force, and gives those that were.
    pub fn relist_every(&mut self, period: Duration, max_period: Duration) -> (Duration, Duration) {
        let relist = &mut self.node.config.relist;
        let before = (relist.period, relist.max_period);
        (relist.period, relist.max_period) = (period, max_period.max(period));
        self.app().in_force().adopt(&Loaded::of_program(self.node.config.clone()));
        before
    }

    /// What has been told since this was asked last.
    pub fn heard(&mut self) -> Vec<Heard> {
        let at = self.now();
        let Some(cursor) = &mut self.cursor else { return Vec::new() };
        let mut heard = Vec::new();
        while let Some(record) = cursor.try_next().expect("the journal is read often enough") {
            heard.push(Heard { at, event: record.event.clone(), pod: record.pod.clone() });
        }
        heard
    }

    /// Does it, if it applies.
    pub async fn act(&mut self, act: &Act) {
        let hinders = matches!(
            act,
            Act::Crash
                | Act::Freeze
                | Act::Calls(..)
                | Act::HangMethod(_)
                | Act::HangContainer { .. }
                | Act::HangPod { .. }
                | Act::FreezeLists
                | Act::EmptyLists
        );
        if hinders {
            self.hindrances.begin(self.now());
        }
        self.act_out(act).await;
        self.facts.sample(&self.node.sim);
    }

    async fn act_out(&mut self, act: &Act) {
        match act {
            Act::Crash => {
                self.node.sim.crash();
                self.lossy_now();
            }
            Act::Recover { in_ms } => {
                if self.sim().is_down() {
                    self.sim().recover_in(Duration::from_millis(*in_ms)).expect("no sockets to open");
                }
            }
            Act::Cut { cleanly } => {
                let status = (!cleanly).then(|| Status::unavailable("cut as planned"));
                self.sim().cut_streams(status);
                self.lossy_now();
            }
            Act::Freeze => {
                self.frozen.get_or_insert(self.node.sim.clock().now());
                self.sim().faults().hang(Target::Process);
            }
            Act::Thaw => self.thaw(),
            Act::Events(fault, dose) => self.sim().faults().events(*fault, *dose),
            Act::Calls(method, fault, dose) => self.sim().faults().calls(*method, fault.clone(), *dose),
            Act::About { pod, container, list, fault, dose } => {
                let (of, Some(id)) = self.object(*pod, *container) else { return };
                let method = match (of, list) {
                    (Subject::Container, false) => Method::ContainerStatus,
                    (Subject::Sandbox, false) => Method::PodSandboxStatus,
                    (Subject::Container, true) => Method::ListContainers,
                    (Subject::Sandbox, true) => Method::ListPodSandbox,
                };
                self.contradict(Contradiction::Call(method, id, fault.clone()), *dose);
            }
            Act::List { pod, container, fault, dose } => {
                let (of, Some(id)) = self.object(*pod, *container) else { return };
                self.contradict(Contradiction::List(of, fault.fault(of, id)), *dose);
            }
            Act::HangMethod(method) => self.sim().faults().hang(Target::Method(*method)),
            Act::HangContainer { pod, container } => {
                if let Some(id) = self.container(*pod, *container) {
                    self.sim().faults().hang(Target::Id(id));
                }
            }
            Act::HangPod { pod } => {
                if let Some(id) = self.slot(*pod).sandboxes.last().cloned() {
                    self.sim().faults().hang(Target::Id(id));
                }
            }
            Act::Calm => self.calm(),
            Act::StepClock { millis } => {
                let by = millis * 1_000_000;
                self.steps.push((self.node.sim.clock().now(), by));
                self.node.step_clock(by);
            }
            Act::ThiefComes => {
                let mut stolen = self.sim().queue().subscribe();
                let thief = tokio::spawn(async move { while stolen.next().await.is_some() {} });
                self.thief_goes();
                self.thief = Some(thief.abort_handle());
            }
            Act::ThiefGoes => self.thief_goes(),
            Act::AnnounceDeleted { pod, container } => {
                let sandbox = self.slot(*pod).sandboxes.last().cloned().unwrap_or_default();
                if let Some(id) = self.container(*pod, *container) {
                    self.announce_deleted(id, &sandbox);
                }
            }
            Act::FreezeLists => {
                self.wrong_lists.begin(self.now());
                self.sim().freeze_lists();
            }
            Act::EmptyLists => {
                self.wrong_lists.begin(self.now());
                for of in [Subject::Container, Subject::Sandbox] {
                    self.sim().faults().lists_only(of, Lists::All, ListFault::Nothing, Dose::Next(2));
                }
            }
            Act::Relist { period_ms, max_ms } => {
                self.relist_every(Duration::from_millis(*period_ms), Duration::from_millis(*max_ms));
            }
            Act::Wait { pod, container, condition } => {
                let id = container.and_then(|container| self.container(*pod, container));
                let slot = self.slot(*pod);
                let names = (slot.spec.namespace.clone(), slot.spec.name.clone(), slot.spec.uid.clone());
                if container.is_some() == id.is_some() {
                    let head = self.app().journal().head();
                    let asked = Waited::new(names, id, *condition, self.now(), head);
                    self.waiting.push(asked.clone());
                    self.waits.spawn(asked.answered(self.node.find(), self.sim().clone()));
                }
            }
            Act::RestartPlegd { after_ms } => {
                self.lossy_now();
                self.readings.abort_all();
                self.waits.abort_all();
                self.node.stop().await;
                tokio::time::sleep(Duration::from_millis(*after_ms)).await;
                self.start();
            }
            Act::Fresh { pod, by, ago_ms } => {
                let wanted = self.wanted(*pod, *by);
                let ago = Duration::from_millis(*ago_ms);
                self.readings.spawn(fresh::read(self.app(), self.sim(), wanted, ago));
            }
            Act::Rest | Act::Hours(_) => {}
            pods => {
                // What cannot be done has no place in the plan any more.
                let _ = self.change(pods);
            }
        }
    }

    /// A container, or without one the sandbox of a pod.
    fn object(&mut self, pod: usize, container: Option<usize>) -> (Subject, Option<String>) {
        match container {
            Some(container) => (Subject::Container, self.container(pod, container)),
            None => (Subject::Sandbox, self.slot(pod).sandboxes.last().cloned()),
        }
    }

    /// Sends the event that a running container is deleted.
    fn announce_deleted(&mut self, id: String, sandbox: &str) {
        let event = self.sim().change(|truth| {
            let runs = truth.container(&id).is_some_and(|it| it.state == ContainerState::Running);
            if runs { truth.event(&id, sandbox, ContainerEventType::ContainerDeletedEvent) } else { None }
        });
        if let Some(mut event) = event {
            event.created_at = self.sim().clock().wall().as_nanos();
            self.sim().emit(event);
            self.announced.insert(id);
        }
    }

    fn contradict(&mut self, contradiction: Contradiction, dose: Dose) {
        contradiction.order(self.sim().faults(), dose);
        self.hindrances.begin(self.now());
        if matches!(contradiction, Contradiction::List(..)) {
            self.wrong_lists.begin(self.now());
        }
        if dose == Dose::Always {
            self.contradictions.push(contradiction);
        }
    }

    /// All that can end by itself has ended.
    pub fn calm(&mut self) {
        self.thaw();
        self.sim().faults().clear();
        self.sim().thaw_lists();
        self.slow_down();
        self.contradictions.clear();
        self.wrong_lists.end(self.now());
        if !self.sim().is_down() {
            self.hindrances.end(self.now());
        }
    }

    /// Only what contradicts itself for good goes on doing so.
    pub fn mend_all_but_contradictions(&mut self) {
        let contradictions = std::mem::take(&mut self.contradictions);
        self.mend();
        contradictions.into_iter().for_each(|it| self.contradict(it, Dose::Always));
    }

    /// Everything is as it should be from now on.
    pub fn mend(&mut self) {
        self.calm();
        self.thief_goes();
        if self.sim().is_down() {
            self.sim().recover().expect("no sockets to open");
        }
        self.hindrances.end(self.now());
    }

    fn thaw(&mut self) {
        if let Some(since) = self.frozen.take() {
            self.uncertain.push((since, self.now()));
        }
        self.sim().faults().release(&Target::Process);
    }

    fn thief_goes(&mut self) {
        self.thief.take().inspect(AbortHandle::abort);
    }

    /// Something has just happened, on account of which what was said at this moment may not have arrived.
    fn lossy_now(&mut self) {
        let now = self.now();
        self.uncertain.push((now, now));
    }

    fn slot(&mut self, pod: usize) -> &mut Slot {
        if self.slots.len() <= pod {
            self.slots.resize_with(pod + 1, Slot::default);
        }
        &mut self.slots[pod]
    }

    fn container(&mut self, pod: usize, container: usize) -> Option<String> {
        self.slot(pod).containers.get(container).cloned().flatten()
    }

    /// What a reader names.
    fn wanted(&mut self, pod: usize, by: By) -> Wanted {
        let container = if let By::Id(container) = by { self.container(pod, container) } else { None };
        let slot = self.slot(pod);
        let id = container.or_else(|| slot.sandboxes.last().cloned());
        match (by, id) {
            (By::Name, _) => Wanted::Name(slot.spec.namespace.clone(), slot.spec.name.clone()),
            (By::Id(_), Some(id)) => Wanted::Id(id.into()),
            _ => Wanted::Uid(slot.spec.uid.as_str().into()),
        }
    }

    /// What happens to pods.
    fn change(&mut self, act: &Act) -> Result<(), Refused> {
        let sim = self.node.sim.clone();
        let of_outages = matches!(
            act,
            Act::LoseTask { .. }
                | Act::FailLoad { .. }
                | Act::Load { .. }
                | Act::Relapse { .. }
                | Act::Vanish { .. }
                | Act::VanishPod { .. }
                | Act::Orphan { .. }
                | Act::FailLoadPod { .. }
                | Act::LoadPod { .. }
        );
        if of_outages && !sim.is_down() {
            return Ok(());
        }
        match act {
            Act::RunPod { pod } => {
                let generation = self.slot(*pod).generation + 1;
                let spec = self.pod_of(*pod, generation);
                *self.slot(*pod) = Slot { generation, spec, ..Slot::default() };
                self.run(*pod)
            }
            Act::RunAgain { pod } if self.slot(*pod).generation == 0 => Ok(()),
            Act::RunAgain { pod } => {
                self.slot(*pod).spec.attempt += 1;
                self.run(*pod)
            }
            Act::StopPod { pod } => {
                let last = self.slot(*pod).sandboxes.last().cloned();
                last.map_or(Ok(()), |id| sim.change(|truth| truth.stop_sandbox(&id)))
            }
            Act::RemovePod { pod } => {
                let mut all = self.slot(*pod).sandboxes.clone().into_iter();
                all.try_for_each(|id| sim.change(|truth| truth.remove_sandbox(&id)))
            }
            Act::RemovePodSilently { pod } => {
                let mut all = self.slot(*pod).sandboxes.clone().into_iter();
                if sim.profile().removed_with_pod == RemovedWithPod::Signalled {
                    let containers = |id: &String| sim.read(|truth| truth.view().containers_of(id).count());
                    self.silenced += all.clone().map(|id| containers(&id)).sum::<usize>();
                }
                all.try_for_each(|id| sim.change(|truth| truth.remove_sandbox_silently(&id)))
            }
            Act::SandboxDies { pod } => self.with_sandbox(*pod, |truth, id| truth.sandbox_died(id)),
            Act::VanishPod { pod } => self.with_sandbox(*pod, |truth, id| truth.vanish_sandbox(id)),
            Act::Orphan { pod } => self.with_sandbox(*pod, |truth, id| truth.orphan_containers(id)),
            Act::FailLoadPod { pod } => self.with_sandbox(*pod, |truth, id| truth.fail_sandbox_load(id)),
            Act::LoadPod { pod } => self.with_sandbox(*pod, |truth, id| truth.load_sandbox(id)),
            Act::Create { pod, name } => {
                let World { by_hand, guest_hours, .. } = self.world;
                let slot = self.slot(*pod);
                let sandbox = slot.sandboxes.last().cloned().unwrap_or_default();
                let attempt = u32::try_from(slot.containers.len()).unwrap_or(0);
                let image = "registry.example/it:1";
                let mut spec = if *pod < by_hand {
                    ContainerSpec::by_crictl(name, attempt, image)
                } else {
                    ContainerSpec::of_pod(&slot.spec, name, attempt, image)
                };
                if pod % 2 == 1 {
                    spec.clock_offset = guest_hours * 3_600_000_000_000;
                }
                let made = sim.change(|truth| truth.create_container(&sandbox, spec));
                if let Ok(id) = &made {
                    let short = self.short(*pod, format_args!("{name}.{attempt}"));
                    self.names.insert(id.clone(), short);
                }
                self.slot(*pod).containers.push(made.clone().ok());
                made.map(drop)
            }
            Act::Start { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.start_container(id))
            }
            Act::FailStart { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.fail_start(id, "no such file"))
            }
            Act::Stop { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.stop_container(id, Duration::from_secs(30)))
            }
            Act::Remove { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.remove_container(id))
            }
            Act::Exit { pod, container, code } => {
                self.with(*pod, *container, |truth, id| truth.exit(id, *code))
            }
            Act::Oom { pod, container, code } => {
                self.with(*pod, *container, |truth, id| truth.oom_with(id, *code))
            }
            Act::SetReason { pod, container, reason } => {
                self.with(*pod, *container, |truth, id| truth.set_reason(id, reason))
            }
            Act::Annotate { pod, container: Some(container) } => {
                let value = self.next_value();
                self.with(*pod, *container, |truth, id| {
                    if truth.container(id).is_some_and(|it| it.state == ContainerState::Running) {
                        truth.set_annotation(id, "plegd.test/note", &value);
                    }
                    Ok(())
                })
            }
            Act::Annotate { pod, container: None } => {
                let value = self.next_value();
                self.with_ready(*pod, |truth, id| truth.set_annotation(id, "plegd.test/note", &value))
            }
            Act::Label { pod } => {
                let value = self.next_value();
                self.with_ready(*pod, |truth, id| truth.set_label(id, "tier", &value))
            }
            Act::Address { pod } => {
                let address = format!("fd00::{}", self.next_value());
                self.with_ready(*pod, |truth, id| truth.give_address(id, &address))
            }
            Act::LoseTask { pod, container } => self.with(*pod, *container, |truth, id| truth.lose_task(id)),
            Act::FailLoad { pod, container } => self.with(*pod, *container, |truth, id| truth.fail_load(id)),
            Act::Load { pod, container } => self.with(*pod, *container, |truth, id| truth.load_container(id)),
            Act::Relapse { pod, container } => self.with(*pod, *container, |truth, id| truth.relapse(id)),
            Act::Vanish { pod, container } => self.with(*pod, *container, |truth, id| {
                truth.vanish_container(id);
                Ok(())
            }),
            other => unreachable!("{other:?} is nothing that happens to pods"),
        }
    }

    /// The pod of a slot, in this world.
    fn pod_of(&self, pod: usize, generation: u32) -> SandboxSpec {
        let world = &self.world;
        let namespace = ["shop", "batch", "kube-system"][pod % 3];
        let uid = match pod {
            0 | 1 if world.same_uid => "uid-0".to_owned(),
            _ => format!("uid-{pod}-{generation}"),
        };
        let name = format!("pod-{pod}");
        let mut spec = if pod < world.by_hand {
            SandboxSpec::by_crictl(namespace, &name, &uid)
        } else {
            SandboxSpec::of_pod(namespace, &name, &uid)
        };
        if let Some(name) = APPS[pod % APPS.len()] {
            spec.labels.insert("app.kubernetes.io/name".into(), name.into());
        }
        spec.network_setup = world.network_setup;
        spec
    }

    /// A short name of something in the pod that a slot has now.
    fn short(&mut self, pod: usize, what: std::fmt::Arguments<'_>) -> String {
        format!("pod-{pod}.{}/{what}", self.slot(pod).generation)
    }

    /// Some text that was not there before.
    fn next_value(&mut self) -> String {
        self.values += 1;
        self.values.to_string()
    }

    /// Lets the wall clock drift for as long as it was not looked at.
    pub fn drift(&mut self) {
        let now = self.now();
        let passed = now.since(std::mem::replace(&mut self.drifted, now));
        let by = passed.as_nanos() as i64 * self.world.drift_ppm / 1_000_000;
        if by != 0 {
            self.node.step_clock(by);
        }
    }

    fn run(&mut self, pod: usize) -> Result<(), Refused> {
        let spec = self.slot(pod).spec.clone();
        let short = self.short(pod, format_args!("sandbox.{}", spec.attempt));
        let id = self.sim().change(|truth| truth.run_sandbox(spec))?;
        self.names.insert(id.clone(), short);
        self.slot(pod).sandboxes.push(id);
        Ok(())
    }

    fn with(
        &mut self,
        pod: usize,
        container: usize,
        change: impl FnOnce(&mut plegd::sim::Truth, &str) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        match self.container(pod, container) {
            Some(id) => self.sim().change(|truth| change(truth, &id)),
            None => Ok(()),
        }
    }

    /// Something that happens to a sandbox only while it is ready.
    fn with_ready(
        &mut self,
        pod: usize,
        change: impl FnOnce(&mut plegd::sim::Truth, &str),
    ) -> Result<(), Refused> {
        self.with_sandbox(pod, |truth, id| {
            if truth.sandbox(id).is_some_and(|sandbox| sandbox.ready) {
                change(truth, id);
            }
        })
    }

    fn with_sandbox(
        &mut self,
        pod: usize,
        change: impl FnOnce(&mut plegd::sim::Truth, &str),
    ) -> Result<(), Refused> {
        if let Some(id) = self.slot(pod).sandboxes.last().cloned() {
            self.sim().change(|truth| change(truth, &id));
        }
        Ok(())
    }
}
