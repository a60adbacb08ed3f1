//! Applies the actions of a plan to a simulated runtime and a plegd on it, and records both with times.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use plegd::{
    app::App,
    clock::Mono,
    config::{Bytes, Loaded},
    journal::Cursor,
    model::{Event, Pod},
    sim::{
        CallFault, Dose, ListFault, Lists, Method, SimRuntime, Subject, Target,
        profile::RemovedWithPod,
        truth::{ContainerSpec, ContainerState, Refused, SandboxSpec},
        v1::ContainerEventType,
    },
    state::storage::Fault,
};
use tokio::task::{AbortHandle, JoinSet};
use tonic::Status;

use super::{
    contradictions::Contradiction,
    environment::Environment,
    facts::Facts,
    fresh::{self, FreshRead, ReadTarget},
    node::Node,
    plan::{Action, By, Ending, Plan},
    waits::WaitCall,
};

/// The application labels of pods, by which subscribers select them.
const APPS: [Option<&str>; 4] = [Some("web"), Some("backup"), None, Some("api")];

/// The node, and the ids of the plan's numbers.
pub struct Driver {
    pub node: Node,
    slots: Vec<Slot>,
    environment: Environment,
    values: u64,
    /// Containers that were removed without the event that the runtime normally sends.
    pub silenced: usize,
    drifted: Mono,
    /// Short names of ids.
    pub names: BTreeMap<String, String>,
    other: Option<AbortHandle>,
    cursor: Option<Cursor>,
    /// Intervals in which messages of the runtime may be lost.
    pub uncertain: Vec<(Mono, Mono)>,
    /// Steps of the wall clock, in nanoseconds.
    pub steps: Vec<(Mono, i64)>,
    frozen: Option<Mono>,
    pub fault_periods: FaultPeriods,
    /// Intervals with possibly wrong lists.
    pub wrong_lists: FaultPeriods,
    /// The permanent contradictions.
    pub contradictions: Vec<Contradiction>,
    pub facts: Facts,
    /// The start of the current epoch's first plegd.
    pub began: Mono,
    /// Number of plegds so far.
    started: usize,
    /// Whether the current plegd continues the epoch of the one before.
    pub continues: bool,
    /// Intervals in which no plegd was running within an epoch.
    pub downtimes: Vec<(Mono, Mono)>,
    /// How many events the runtime has sent to the ended plegd in each of them, and so lost.
    pub lost_meanwhile: Vec<u64>,
    pub fresh_reads: JoinSet<Option<FreshRead>>,
    pub waits: JoinSet<WaitCall>,
    /// Calls without a response yet.
    pub waiting: Vec<WaitCall>,
    /// Ids for which a false DELETED was sent.
    pub announced: BTreeSet<String>,
}

/// A pod of the plan. After its removal the next one in the slot is another pod.
#[derive(Default)]
struct Slot {
    generation: u32,
    spec: SandboxSpec,
    sandboxes: Vec<String>,
    containers: Vec<Option<String>>,
}

/// A published event, and when it was read.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Mono,
    pub event: Event,
    /// Its pod after the change.
    pub pod: Option<Arc<Pod>>,
}

/// Intervals in which calls of the runtime may fail or hang.
#[derive(Debug, Default)]
pub struct FaultPeriods {
    over: Vec<(Mono, Mono)>,
    since: Option<Mono>,
}

// === impl FaultPeriods ===

impl FaultPeriods {
    /// Whether any interval overlaps `from` to `to`.
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

// === impl Driver ===

impl Driver {
    pub fn of(plan: &Plan) -> Self {
        let mut node = Node::new(plan.profile, plan.seed, plan.journal);
        node.config.relist.period = plan.period;
        node.config.relist.max_period = plan.max_period.max(plan.period);
        node.config.runtime.request_timeout = plan.request_timeout;
        if let Some(messages) = plan.environment.queue {
            node.config.stream.queue_messages = messages;
        }
        if let Some(bytes) = plan.environment.queue_bytes {
            node.config.stream.queue_bytes = Bytes(bytes);
        }
        if let Some(version) = plan.environment.unknown_version {
            node.sim.set_version(plan.profile.runtime_name, version);
        }
        node.sim.record_exchanges();
        let began = node.sim.clock().now();
        if plan.environment.state {
            node.keep_state();
        }
        Self {
            node,
            slots: Vec::new(),
            environment: plan.environment.clone(),
            values: 0,
            silenced: 0,
            drifted: began,
            names: BTreeMap::new(),
            other: None,
            cursor: None,
            uncertain: Vec::new(),
            steps: Vec::new(),
            frozen: None,
            fault_periods: FaultPeriods::default(),
            wrong_lists: FaultPeriods::default(),
            contradictions: Vec::new(),
            facts: Facts::default(),
            began,
            started: 0,
            continues: false,
            downtimes: Vec::new(),
            lost_meanwhile: Vec::new(),
            fresh_reads: JoinSet::new(),
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
        self.started += 1;
        self.delay_statuses();
        self.node.start();
        if let Some(at_most) = self.environment.tombstones {
            self.app().keep_tombstones(at_most);
        }
        self.cursor = Some(self.app().journal().cursor(0));
    }

    /// Ends the plegd, and starts another. Returns whether that continues the epoch.
    async fn restart(&mut self, meanwhile: &[(u64, Action)], after: Duration, how: Ending) -> bool {
        let (epoch, began, cursor) = (self.app().journal().epoch(), self.began, self.cursor.take());
        let received = cursor.map_or(0, |cursor| cursor.sequence());
        let (stopped, lost) = (self.now(), self.sim().event_counts().lost);
        let is_kept = self.end(how).await;
        // Wrong lists may hide what a plegd that has not seen it believes to be gone.
        let misled = self.wrong_lists.any(stopped, stopped);
        for (pause, action) in meanwhile.iter().filter(|_| !misled) {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            // An action that does not apply is skipped.
            let _ = self.change(action);
            self.facts.sample(&self.node.sim);
        }
        tokio::time::sleep(after).await;
        if let Some(state) = self.node.state.as_mut().filter(|_| how.boots()) {
            state.reboot();
            // The runtime loses its events.
            self.sim().crash();
            self.sim().recover().expect("no sockets to open");
        }
        self.start();
        let continues = self.app().journal().epoch() == epoch;
        let must = is_kept && how.keeps_epoch();
        if continues != must {
            self.node
                .restored_wrongly
                .push(format!("after {how:?} the epoch continues: {continues}, and should: {must}"));
        }
        // Messages that were received and not applied are lost with a kill.
        let up = self.now() + Duration::from_millis(if continues { 50 } else { 0 });
        self.uncertain.push((stopped - Duration::from_millis(300), up));
        if continues {
            self.fault_periods.over.push((stopped, self.now() + Duration::from_secs(2)));
            self.downtimes.push((stopped, self.now()));
            self.lost_meanwhile.push(self.sim().event_counts().lost.saturating_sub(lost));
            self.began = began;
            self.cursor = Some(self.app().journal().cursor(received));
        } else {
            self.downtimes.clear();
            self.lost_meanwhile.clear();
        }
        continues
    }

    /// Ends the plegd. Returns whether it has kept its state until then.
    async fn end(&mut self, how: Ending) -> bool {
        let Some(disk) = self.node.state.as_ref().map(|state| state.disk.clone()) else {
            self.node.stop().await;
            return false;
        };
        let is_kept = |it: &Self| it.app().metrics().persistence.active.get() == 1;
        let kept = is_kept(self);
        match how {
            Ending::Stop | Ending::Reboot => self.node.stop().await,
            Ending::Kill | Ending::PowerLoss => self.node.kill().await,
            Ending::KillInWrite { at, bytes } => {
                disk.set_fault(Some(Fault::Kill { at, bytes }));
                tokio::time::sleep(Duration::from_secs(2)).await;
                self.node.kill().await;
                disk.set_fault(None);
            }
            Ending::FullDisk => {
                disk.set_fault(Some(Fault::Full { at: 0 }));
                // At the latest the next relist writes that plegd runs.
                tokio::time::sleep(Duration::from_secs(15)).await;
                let kept = is_kept(self);
                self.node.kill().await;
                disk.set_fault(None);
                return kept;
            }
            Ending::Damage => {
                self.node.kill().await;
                let mut files = disk.files();
                for file in files.values_mut() {
                    let middle = file.len() / 2;
                    file[middle] ^= 1;
                }
                disk.set_files(files);
            }
        }
        kept
    }

    /// Delays the runtime, as the environment requires.
    fn delay_statuses(&self) {
        let slow = self.environment.slow_status;
        if !slow.is_zero() {
            let faults = self.sim().faults();
            faults.withdraw_calls(Method::PodSandboxStatus, None);
            faults.calls(Method::PodSandboxStatus, CallFault::Late(slow), Dose::Always);
        }
    }

    /// Sets the relist periods, and returns the previous ones.
    pub fn relist_every(&mut self, period: Duration, max_period: Duration) -> (Duration, Duration) {
        let relist = &mut self.node.config.relist;
        let before = (relist.period, relist.max_period);
        (relist.period, relist.max_period) = (period, max_period.max(period));
        self.app().in_force().adopt(&Loaded::of_program(self.node.config.clone()));
        before
    }

    /// The events published since the last call.
    pub fn received(&mut self) -> Vec<Received> {
        let at = self.now();
        let Some(cursor) = &mut self.cursor else { return Vec::new() };
        let mut received = Vec::new();
        while let Some(record) = cursor.try_next().expect("the journal is read often enough") {
            received.push(Received { at, event: record.event.clone(), pod: record.pod.clone() });
        }
        received
    }

    /// Applies an action, if possible.
    pub async fn apply(&mut self, action: &Action) {
        let is_fault = matches!(
            action,
            Action::Crash
                | Action::Freeze
                | Action::Calls(..)
                | Action::HangMethod(_)
                | Action::HangContainer { .. }
                | Action::HangPod { .. }
                | Action::FreezeLists
                | Action::EmptyLists
        );
        if is_fault {
            self.fault_periods.begin(self.now());
        }
        self.apply_action(action).await;
        self.facts.sample(&self.node.sim);
    }

    async fn apply_action(&mut self, action: &Action) {
        match action {
            Action::Crash => {
                self.node.sim.crash();
                self.lossy_now();
            }
            Action::Recover { in_ms } => {
                if self.sim().is_down() {
                    self.sim().recover_in(Duration::from_millis(*in_ms)).expect("no sockets to open");
                }
            }
            Action::Cut { cleanly } => {
                let status = (!cleanly).then(|| Status::unavailable("cut as planned"));
                self.sim().cut_streams(status);
                self.lossy_now();
            }
            Action::Freeze => {
                self.frozen.get_or_insert(self.node.sim.clock().now());
                self.sim().faults().hang(Target::Process);
            }
            Action::Unfreeze => self.unfreeze(),
            Action::Events(fault, dose) => self.sim().faults().events(*fault, *dose),
            Action::Calls(method, fault, dose) => self.sim().faults().calls(*method, fault.clone(), *dose),
            Action::About { pod, container, list, fault, dose } => {
                let (of, Some(id)) = self.object(*pod, *container) else { return };
                let method = match (of, list) {
                    (Subject::Container, false) => Method::ContainerStatus,
                    (Subject::Sandbox, false) => Method::PodSandboxStatus,
                    (Subject::Container, true) => Method::ListContainers,
                    (Subject::Sandbox, true) => Method::ListPodSandbox,
                };
                self.contradict(Contradiction::Call(method, id, fault.clone()), *dose);
            }
            Action::List { pod, container, fault, dose } => {
                let (of, Some(id)) = self.object(*pod, *container) else { return };
                self.contradict(Contradiction::List(of, fault.fault(of, id)), *dose);
            }
            Action::HangMethod(method) => self.sim().faults().hang(Target::Method(*method)),
            Action::HangContainer { pod, container } => {
                if let Some(id) = self.container(*pod, *container) {
                    self.sim().faults().hang(Target::Id(id));
                }
            }
            Action::HangPod { pod } => {
                if let Some(id) = self.slot(*pod).sandboxes.last().cloned() {
                    self.sim().faults().hang(Target::Id(id));
                }
            }
            Action::EndFaults => self.end_faults(),
            Action::StepClock { millis } => {
                let by = millis * 1_000_000;
                self.steps.push((self.node.sim.clock().now(), by));
                self.node.step_clock(by);
            }
            Action::OtherSubscribes => {
                let mut events = self.sim().queue().subscribe();
                let other = tokio::spawn(async move { while events.next().await.is_some() {} });
                self.other_leaves();
                self.other = Some(other.abort_handle());
            }
            Action::OtherLeaves => self.other_leaves(),
            Action::AnnounceDeleted { pod, container } => {
                let sandbox = self.slot(*pod).sandboxes.last().cloned().unwrap_or_default();
                if let Some(id) = self.container(*pod, *container) {
                    self.announce_deleted(id, &sandbox);
                }
            }
            Action::FreezeLists => {
                self.wrong_lists.begin(self.now());
                self.sim().freeze_lists();
            }
            Action::EmptyLists => {
                self.wrong_lists.begin(self.now());
                for of in [Subject::Container, Subject::Sandbox] {
                    self.sim().faults().lists_only(of, Lists::All, ListFault::Nothing, Dose::Next(2));
                }
            }
            Action::Relist { period_ms, max_ms } => {
                self.relist_every(Duration::from_millis(*period_ms), Duration::from_millis(*max_ms));
            }
            Action::Wait { pod, container, condition } => {
                let id = container.and_then(|container| self.container(*pod, container));
                let slot = self.slot(*pod);
                let names = (slot.spec.namespace.clone(), slot.spec.name.clone(), slot.spec.uid.clone());
                if container.is_some() == id.is_some() {
                    let head = self.app().journal().head();
                    let call = WaitCall::new(names, id, *condition, self.now(), head);
                    self.waiting.push(call.clone());
                    self.waits.spawn(call.run(self.node.serving(), self.sim().clone()));
                }
            }
            Action::RestartPlegd { meanwhile, after_ms, how } => {
                self.lossy_now();
                self.fresh_reads.abort_all();
                self.waits.abort_all();
                self.waiting.clear();
                self.continues = self.restart(meanwhile, Duration::from_millis(*after_ms), *how).await;
            }
            Action::Fresh { pod, by, ago_ms } => {
                let target = self.target(*pod, *by);
                let ago = Duration::from_millis(*ago_ms);
                self.fresh_reads.spawn(fresh::read(self.app(), self.sim(), target, ago));
            }
            Action::Pause | Action::Hours(_) => {}
            pods => {
                // An action that does not apply is skipped.
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

    /// Sends a false DELETED for a running container.
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
        self.fault_periods.begin(self.now());
        if matches!(contradiction, Contradiction::List(..)) {
            self.wrong_lists.begin(self.now());
        }
        if dose == Dose::Always {
            self.contradictions.push(contradiction);
        }
    }

    /// Ends all faults that are not permanent.
    pub fn end_faults(&mut self) {
        self.unfreeze();
        self.sim().faults().clear();
        self.sim().thaw_lists();
        self.delay_statuses();
        self.contradictions.clear();
        self.wrong_lists.end(self.now());
        if !self.sim().is_down() {
            self.fault_periods.end(self.now());
        }
    }

    /// Ends everything except for permanent contradictions.
    pub fn end_all_but_contradictions(&mut self) {
        let contradictions = std::mem::take(&mut self.contradictions);
        self.end_all();
        contradictions.into_iter().for_each(|it| self.contradict(it, Dose::Always));
    }

    /// Ends all faults and contradictions.
    pub fn end_all(&mut self) {
        self.end_faults();
        self.other_leaves();
        if self.sim().is_down() {
            self.sim().recover().expect("no sockets to open");
        }
        self.fault_periods.end(self.now());
    }

    fn unfreeze(&mut self) {
        if let Some(since) = self.frozen.take() {
            self.uncertain.push((since, self.now()));
        }
        self.sim().faults().release(&Target::Process);
    }

    fn other_leaves(&mut self) {
        self.other.take().inspect(AbortHandle::abort);
    }

    /// Messages of this moment may be lost.
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

    /// The target of a reader.
    fn target(&mut self, pod: usize, by: By) -> ReadTarget {
        let container = if let By::Id(container) = by { self.container(pod, container) } else { None };
        let slot = self.slot(pod);
        let id = container.or_else(|| slot.sandboxes.last().cloned());
        match (by, id) {
            (By::Name, _) => ReadTarget::Name(slot.spec.namespace.clone(), slot.spec.name.clone()),
            (By::Id(_), Some(id)) => ReadTarget::Id(id.into()),
            _ => ReadTarget::Uid(slot.spec.uid.as_str().into()),
        }
    }

    /// Applies a change of a pod.
    fn change(&mut self, action: &Action) -> Result<(), Refused> {
        let sim = self.node.sim.clone();
        let of_outages = matches!(
            action,
            Action::LoseTask { .. }
                | Action::FailLoad { .. }
                | Action::Load { .. }
                | Action::Relapse { .. }
                | Action::Vanish { .. }
                | Action::VanishPod { .. }
                | Action::Orphan { .. }
                | Action::FailLoadPod { .. }
                | Action::LoadPod { .. }
        );
        if of_outages && !sim.is_down() {
            return Ok(());
        }
        match action {
            Action::RunPod { pod } => {
                let generation = self.slot(*pod).generation + 1;
                let spec = self.pod_of(*pod, generation);
                *self.slot(*pod) = Slot { generation, spec, ..Slot::default() };
                self.run(*pod)
            }
            Action::RunAgain { pod } if self.slot(*pod).generation == 0 => Ok(()),
            Action::RunAgain { pod } => {
                self.slot(*pod).spec.attempt += 1;
                self.run(*pod)
            }
            Action::StopPod { pod } => {
                let last = self.slot(*pod).sandboxes.last().cloned();
                last.map_or(Ok(()), |id| sim.change(|truth| truth.stop_sandbox(&id)))
            }
            Action::RemovePod { pod } => {
                let mut all = self.slot(*pod).sandboxes.clone().into_iter();
                all.try_for_each(|id| sim.change(|truth| truth.remove_sandbox(&id)))
            }
            Action::RemovePodSilently { pod } => {
                let mut all = self.slot(*pod).sandboxes.clone().into_iter();
                if sim.profile().removed_with_pod == RemovedWithPod::Signalled {
                    let containers = |id: &String| sim.read(|truth| truth.view().containers_of(id).count());
                    self.silenced += all.clone().map(|id| containers(&id)).sum::<usize>();
                }
                all.try_for_each(|id| sim.change(|truth| truth.remove_sandbox_silently(&id)))
            }
            Action::SandboxDies { pod } => self.with_sandbox(*pod, |truth, id| truth.sandbox_died(id)),
            Action::VanishPod { pod } => self.with_sandbox(*pod, |truth, id| truth.vanish_sandbox(id)),
            Action::Orphan { pod } => self.with_sandbox(*pod, |truth, id| truth.orphan_containers(id)),
            Action::FailLoadPod { pod } => self.with_sandbox(*pod, |truth, id| truth.fail_sandbox_load(id)),
            Action::LoadPod { pod } => self.with_sandbox(*pod, |truth, id| truth.load_sandbox(id)),
            Action::Create { pod, name } => {
                let Environment { by_hand, guest_hours, .. } = self.environment;
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
                let created = sim.change(|truth| truth.create_container(&sandbox, spec));
                if let Ok(id) = &created {
                    let short = self.short_name(*pod, format_args!("{name}.{attempt}"));
                    self.names.insert(id.clone(), short);
                }
                self.slot(*pod).containers.push(created.clone().ok());
                created.map(drop)
            }
            Action::Start { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.start_container(id))
            }
            Action::FailStart { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.fail_start(id, "no such file"))
            }
            Action::Stop { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.stop_container(id, Duration::from_secs(30)))
            }
            Action::Remove { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.remove_container(id))
            }
            Action::Exit { pod, container, code } => {
                self.with(*pod, *container, |truth, id| truth.exit(id, *code))
            }
            Action::Oom { pod, container, code } => {
                self.with(*pod, *container, |truth, id| truth.oom_with(id, *code))
            }
            Action::SetReason { pod, container, reason } => {
                // The age of an exit that a new plegd finds is unknown where the guest's clock is behind.
                let restarted = self.started > 1;
                let (_, id) = self.object(*pod, Some(*container));
                let is_behind = |id: &str| self.facts.get(id).is_some_and(|fact| fact.clock_offset < 0);
                if restarted && id.is_some_and(|id| is_behind(&id)) {
                    return Ok(());
                }
                self.with(*pod, *container, |truth, id| truth.set_reason(id, reason))
            }
            Action::Annotate { pod, container: Some(container) } => {
                let value = self.next_value();
                self.with(*pod, *container, |truth, id| {
                    if truth.container(id).is_some_and(|it| it.state == ContainerState::Running) {
                        truth.set_annotation(id, "plegd.test/note", &value);
                    }
                    Ok(())
                })
            }
            Action::Annotate { pod, container: None } => {
                let value = self.next_value();
                self.with_ready(*pod, |truth, id| truth.set_annotation(id, "plegd.test/note", &value))
            }
            Action::Label { pod } => {
                let value = self.next_value();
                self.with_ready(*pod, |truth, id| truth.set_label(id, "tier", &value))
            }
            Action::Address { pod } => {
                let address = format!("fd00::{}", self.next_value());
                self.with_ready(*pod, |truth, id| truth.give_address(id, &address))
            }
            Action::LoseTask { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.lose_task(id))
            }
            Action::FailLoad { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.fail_load(id))
            }
            Action::Load { pod, container } => {
                self.with(*pod, *container, |truth, id| truth.load_container(id))
            }
            Action::Relapse { pod, container } => self.with(*pod, *container, |truth, id| truth.relapse(id)),
            Action::Vanish { pod, container } => self.with(*pod, *container, |truth, id| {
                truth.vanish_container(id);
                Ok(())
            }),
            other => unreachable!("{other:?} is no change of a pod"),
        }
    }

    /// The pod of a slot, in this environment.
    fn pod_of(&self, pod: usize, generation: u32) -> SandboxSpec {
        let environment = &self.environment;
        let namespace = ["shop", "batch", "kube-system"][pod % 3];
        let uid = match pod {
            0 | 1 if environment.same_uid => "uid-0".to_owned(),
            _ => format!("uid-{pod}-{generation}"),
        };
        let name = format!("pod-{pod}");
        let mut spec = if pod < environment.by_hand {
            SandboxSpec::by_crictl(namespace, &name, &uid)
        } else {
            SandboxSpec::of_pod(namespace, &name, &uid)
        };
        if let Some(name) = APPS[pod % APPS.len()] {
            spec.labels.insert("app.kubernetes.io/name".into(), name.into());
        }
        spec.network_setup = environment.network_setup;
        spec
    }

    /// A short name of an object in the present pod of a slot.
    fn short_name(&mut self, pod: usize, what: std::fmt::Arguments<'_>) -> String {
        format!("pod-{pod}.{}/{what}", self.slot(pod).generation)
    }

    /// A new text.
    fn next_value(&mut self) -> String {
        self.values += 1;
        self.values.to_string()
    }

    /// Applies the drift of the wall clock since the last call.
    pub fn drift(&mut self) {
        let now = self.now();
        let passed = now.since(std::mem::replace(&mut self.drifted, now));
        let by = passed.as_nanos() as i64 * self.environment.drift_ppm / 1_000_000;
        if by != 0 {
            self.node.step_clock(by);
        }
    }

    fn run(&mut self, pod: usize) -> Result<(), Refused> {
        let spec = self.slot(pod).spec.clone();
        let short = self.short_name(pod, format_args!("sandbox.{}", spec.attempt));
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

    /// Changes a sandbox if it is ready.
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
