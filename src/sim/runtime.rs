//! [`SimRuntime`]: the truth, the faults, the event queue and the connections, joined to a runtime.
//!
//! Owns the order of things: a change of the truth raises signals; each goes through the faults, is stamped after its
//! statuses were read, as runtimes do, and is sent. Every change goes through [`SimRuntime::change`], whether a CRI call
//! makes it, a test or [`super::churn`].

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use super::{
    codec::NOT_UTF_8,
    events::{Delivery, EventCounts, EventQueue, Ticket},
    faults::{EventFault, Faults, Method},
    profile::{Profile, Starting},
    said::{Said, Saying},
    serve::{self, SimConnector, SocketHandle},
    truth::{Change, Signal, Truth, View},
    v1::ContainerEventResponse,
};
use crate::clock::{Clock, Mono};

/// Events that [`EventFault::Replay`] chooses from.
const REPLAYABLE: usize = 256;
/// Calls at one and the same moment past which the next ones fail.
const SPIN: u64 = 50_000;
/// How long an event waits for the next one that [`EventFault::Reorder`] lets overtake it.
const REORDER_PATIENCE: Duration = Duration::from_secs(1);

/// A simulated runtime. Cheap to clone; all clones are the same runtime.
#[derive(Clone)]
pub struct SimRuntime(Arc<Core>);

pub(super) struct Core {
    me: Weak<Core>,
    pub(super) profile: Profile,
    pub(super) clock: Clock,
    pub(super) faults: Faults,
    pub(super) queue: EventQueue,
    state: Mutex<State>,
    process: Mutex<Process>,
}

/// What the runtime knows and remembers.
struct State {
    truth: Truth,
    rng: fastrand::Rng,
    frozen: Option<View>,
    /// The last payload of each sandbox, for [`EventFault::OlderView`].
    payloads: BTreeMap<String, ContainerEventResponse>,
    sent: VecDeque<ContainerEventResponse>,
    /// Whether earlier events are kept for those two.
    remembers: bool,
    /// What waits to be overtaken.
    held: Vec<ContainerEventResponse>,
    calls: BTreeMap<Method, u64>,
    /// When the last call came, and how many came at that very moment.
    at_once: (Mono, u64),
    spun: bool,
    /// None while nobody wants to know.
    said: Option<Vec<Said>>,
    starting_until: Mono,
    identity: Identity,
    /// Events that each new subscriber is sent first.
    backlog: Vec<ContainerEventResponse>,
}

/// What the runtime says that it is.
struct Identity {
    name: String,
    version: String,
    /// Whether it serves CRI at all.
    has_cri: bool,
}

/// The process that serves: a crash ends it, a recovery starts the next.
struct Process {
    /// Cancelled when it ends; all its connections and calls hang on it.
    alive: CancellationToken,
    sockets: BTreeMap<PathBuf, CancellationToken>,
}

// === impl SimRuntime ===

impl SimRuntime {
    /// A runtime of that profile with nothing on it. The same seed gives the same ids, orders, faults and losses.
    pub fn new(profile: Profile, clock: Clock, seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        Self(Arc::new_cyclic(|me| Core {
            me: me.clone(),
            profile,
            faults: Faults::new(seeds.u64(..)),
            queue: EventQueue::new(profile.events, clock.clone(), seeds.u64(..)),
            state: Mutex::new(State {
                truth: Truth::new(profile, clock.clone(), seeds.u64(..)),
                rng: seeds.fork(),
                frozen: None,
                payloads: BTreeMap::new(),
                sent: VecDeque::new(),
                remembers: true,
                held: Vec::new(),
                calls: BTreeMap::new(),
                at_once: (Mono::ZERO, 0),
                spun: false,
                said: None,
                starting_until: Mono::ZERO,
                identity: Identity {
                    name: profile.runtime_name.to_owned(),
                    version: profile.runtime_version.to_owned(),
                    has_cri: true,
                },
                backlog: Vec::new(),
            }),
            process: Mutex::new(Process { alive: CancellationToken::new(), sockets: BTreeMap::new() }),
            clock,
        }))
    }

    /// Its profile.
    pub fn profile(&self) -> &Profile {
        &self.0.profile
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Where faults are ordered.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Its event queue.
    pub fn queue(&self) -> &EventQueue {
        &self.0.queue
    }

    /// Changes the truth; what that raises is sent. Nothing waits, even where a life-cycle call would be blocked.
    pub fn change<R>(&self, change: impl FnOnce(&mut Truth) -> R) -> R {
        self.0.change(change).0
    }

    /// Changes the truth and waits, as the life-cycle calls do, until the queue has taken what that raised.
    pub async fn change_and_wait<R>(&self, change: impl FnOnce(&mut Truth) -> R) -> R {
        let (result, tickets) = self.0.change(change);
        for ticket in tickets {
            ticket.taken().await;
        }
        result
    }

    /// Reads the truth as it is now.
    pub fn read<R>(&self, read: impl FnOnce(&Truth) -> R) -> R {
        self.0.read(read)
    }

    /// All that happened up to now, in order.
    pub fn history(&self) -> Vec<Change> {
        self.0.read(|truth| truth.history().to_vec())
    }

    /// What became of the events.
    pub fn event_counts(&self) -> EventCounts {
        self.0.queue.counts()
    }

    /// What live subscribers took.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.0.queue.deliveries()
    }

    /// How often each method was called.
    pub fn calls(&self) -> BTreeMap<Method, u64> {
        self.0.state.lock().calls.clone()
    }

    /// Records from now on all that is said over the service; it is kept for ever.
    pub fn record_said(&self) {
        self.0.state.lock().said.get_or_insert_default();
    }

    /// What has been said since [`SimRuntime::record_said`], in order.
    pub fn said(&self) -> Vec<Said> {
        self.0.state.lock().said.clone().unwrap_or_default()
    }

    /// Keeps no events from now on, so that [`EventFault::OlderView`] and [`EventFault::Replay`] do nothing. Where events come
    /// by the ten thousand, keeping them costs more than all the rest.
    pub fn forget_events(&self) {
        let mut state = self.0.state.lock();
        state.remembers = false;
        state.payloads.clear();
        state.sent.clear();
    }

    /// Lists answer from now on what they would answer at this moment, while statuses and events go on.
    pub fn freeze_lists(&self) {
        let mut state = self.0.state.lock();
        state.truth.settle();
        state.frozen = Some(state.truth.view().clone());
    }

    /// Lists answer the truth again.
    pub fn thaw_lists(&self) {
        self.0.state.lock().frozen = None;
    }

    /// Answers Version with this name and version from now on; nothing else changes.
    pub fn set_version(&self, name: &str, version: &str) {
        let identity = &mut self.0.state.lock().identity;
        (identity.name, identity.version) = (name.to_owned(), version.to_owned());
    }

    /// Serves CRI from now on, or answers every call that the service is unknown, as a socket of something else does.
    pub fn set_has_cri(&self, has_cri: bool) {
        self.0.state.lock().identity.has_cri = has_cri;
    }

    /// Sends each new subscriber these events first.
    pub fn set_backlog(&self, events: Vec<ContainerEventResponse>) {
        self.0.state.lock().backlog = events;
    }

    /// Sends an event as it is, without faults. Nothing is sent while the runtime is down.
    pub fn emit(&self, event: ContainerEventResponse) {
        let mut state = self.0.state.lock();
        if !state.truth.is_down() {
            self.0.send(&mut state, [event], &mut Vec::new());
        }
    }

    /// Ends every event stream, with that status or cleanly. The runtime lives on.
    pub fn cut_streams(&self, status: Option<Status>) {
        self.0.queue.end_streams(status);
    }

    /// Serves on a UNIX socket, after removing what is at that path. It is served again after each recovery, until the
    /// handle stops it.
    pub fn serve_uds(&self, path: impl AsRef<Path>) -> io::Result<SocketHandle> {
        let path = path.as_ref().to_path_buf();
        if !self.is_down() {
            self.open(&path)?;
        } else {
            self.0.process.lock().sockets.insert(path.clone(), CancellationToken::new());
        }
        Ok(SocketHandle::new(self.clone(), path))
    }

    /// A connector of in-process pipes, for `Endpoint::connect_with_connector`: paused time works over them.
    pub fn connector(&self) -> SimConnector {
        SimConnector::new(self.clone())
    }

    /// A channel over [`SimRuntime::connector`], which connects when it is first used and again when it has to.
    pub fn channel(&self) -> Channel {
        tonic::transport::Endpoint::from_static("http://simulated.invalid")
            .connect_with_connector_lazy(self.connector())
    }

    /// Ends the process as kill -9 does: connections break off, queued events are gone, the socket files stay, and
    /// containers live on.
    pub fn crash(&self) {
        let mut state = self.0.state.lock();
        state.truth.settle();
        state.truth.crash();
        state.held.clear();
        drop(state);
        self.0.process.lock().alive.cancel();
        self.0.queue.reset();
    }

    /// Starts the process again: it has found what happened meanwhile, without events, and its sockets are open.
    pub fn recover(&self) -> io::Result<()> {
        self.recover_in(Duration::ZERO)
    }

    /// Starts the process again, which then answers for a while only that it is not initialized yet. CRI-O opens its
    /// socket late instead, so nothing is answered: there, wait and call [`SimRuntime::recover`].
    pub fn recover_in(&self, starting: Duration) -> io::Result<()> {
        let mut state = self.0.state.lock();
        state.truth.recover();
        state.starting_until = match self.0.profile.starting {
            Starting::NoSocket => Mono::ZERO,
            Starting::Unknown | Starting::Unavailable => self.0.clock.now() + starting,
        };
        drop(state);
        let paths: Vec<_> = {
            let mut process = self.0.process.lock();
            process.alive.cancel();
            process.alive = CancellationToken::new();
            process.sockets.keys().cloned().collect()
        };
        paths.iter().try_for_each(|path| self.open(path))
    }

    /// [`SimRuntime::crash`], and after that long [`SimRuntime::recover`].
    pub async fn restart(&self, after: Duration) -> io::Result<()> {
        self.crash();
        tokio::time::sleep(after).await;
        self.recover()
    }

    /// Whether it is down.
    pub fn is_down(&self) -> bool {
        self.0.state.lock().truth.is_down()
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.0
    }

    pub(super) fn close(&self, path: &Path) {
        if let Some(open) = self.0.process.lock().sockets.remove(path) {
            open.cancel();
        }
    }

    fn open(&self, path: &Path) -> io::Result<()> {
        let mut process = self.0.process.lock();
        let open = process.alive.child_token();
        serve::listen(self, path, open.clone())?;
        if let Some(before) = process.sockets.insert(path.to_path_buf(), open) {
            before.cancel();
        }
        Ok(())
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime").field("profile", &self.0.profile.name).finish_non_exhaustive()
    }
}

// === impl Core ===

impl Core {
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Truth) -> R) -> (R, Vec<Ticket>) {
        let mut state = self.state.lock();
        state.truth.settle();
        let result = change(&mut state.truth);
        let mut tickets = Vec::new();
        for signal in state.truth.take_signals() {
            self.raise(&mut state, signal, &mut tickets);
        }
        (result, tickets)
    }

    pub(super) fn read<R>(&self, read: impl FnOnce(&Truth) -> R) -> R {
        let mut state = self.state.lock();
        state.truth.settle();
        read(&state.truth)
    }

    /// Reads what lists are made of, and shuffles the items: the order is that of a Go map.
    pub(super) fn list<T>(&self, list: impl FnOnce(&View) -> Vec<T>) -> Vec<T> {
        let mut state = self.state.lock();
        state.truth.settle();
        let mut items = list(state.frozen.as_ref().unwrap_or(state.truth.view()));
        state.rng.shuffle(&mut items);
        items
    }

    pub(super) fn say(&self, what: impl FnOnce() -> Saying) {
        let (at, wall) = self.clock.now_both();
        if let Some(said) = &mut self.state.lock().said {
            let what = what();
            said.push(Said { at, wall, what: if what.is_garbage() { Saying::Garbage } else { what } });
        }
    }

    pub(super) fn version(&self) -> (String, String) {
        let identity = &self.state.lock().identity;
        (identity.name.clone(), identity.version.clone())
    }

    pub(super) fn check_cri(&self) -> Result<(), Status> {
        if self.state.lock().identity.has_cri {
            return Ok(());
        }
        Err(Status::unimplemented("unknown service runtime.v1.RuntimeService"))
    }

    pub(super) fn backlog(&self) -> Vec<ContainerEventResponse> {
        self.state.lock().backlog.clone()
    }

    pub(super) fn count(&self, method: Method) {
        let (now, mut state) = (self.clock.now(), self.state.lock());
        *state.calls.entry(method).or_default() += 1;
        let (at, before) = state.at_once;
        state.at_once = (now, if at == now { before + 1 } else { 1 });
    }

    /// In paused time a client that asks again and again without a pause would never let it go on; so from then on nothing is
    /// answered any more.
    pub(super) fn check_spin(&self) -> Result<(), Status> {
        let mut state = self.state.lock();
        state.spun |= state.at_once.1 > SPIN;
        if !state.spun {
            return Ok(());
        }
        Err(Status::resource_exhausted(format!(
            "more than {SPIN} calls at one moment: somebody asks without a pause"
        )))
    }

    pub(super) fn check_initialized(&self) -> Result<(), Status> {
        if self.clock.now() >= self.state.lock().starting_until {
            return Ok(());
        }
        let text = "server is not initialized yet";
        Err(match self.profile.starting {
            Starting::Unknown | Starting::NoSocket => Status::unknown(text),
            Starting::Unavailable => Status::unavailable(text),
        })
    }

    /// Cancelled when the process that serves now ends; already cancelled when none does.
    pub(super) fn alive(&self) -> CancellationToken {
        self.process.lock().alive.clone()
    }

    fn raise(&self, state: &mut State, signal: Signal, tickets: &mut Vec<Ticket>) {
        let Signal { sandbox_id, mut event } = signal;
        let faults = self.faults.of_event(&event);
        let older = if state.remembers { state.payloads.insert(sandbox_id, event.clone()) } else { None };
        if state.payloads.len() > 64 + 2 * state.truth.view().sandboxes.len() {
            let known = &state.truth.view().sandboxes;
            state.payloads.retain(|id, _| known.contains_key(id));
        }
        if faults.contains(&EventFault::Drop) {
            return;
        }
        if faults.contains(&EventFault::OlderView)
            && let Some(older) = older
        {
            event.pod_sandbox_status = older.pod_sandbox_status;
            event.containers_statuses = older.containers_statuses;
        }
        let stall = faults.iter().find_map(|fault| match fault {
            EventFault::Stall(stall) => Some(*stall),
            _ => None,
        });
        match stall {
            Some(stall) => self.after(stall, move |core, state| {
                core.stamp_and_send(state, event, &faults, &mut Vec::new());
            }),
            None => self.stamp_and_send(state, event, &faults, tickets),
        }
    }

    fn stamp_and_send(
        &self,
        state: &mut State,
        mut event: ContainerEventResponse,
        faults: &[EventFault],
        tickets: &mut Vec<Ticket>,
    ) {
        // Both containerd and CRI-O stamp here, after the statuses were read: so a stamp may be newer than its payload.
        event.created_at = self.clock.wall().as_nanos();
        let (mut delay, mut copies, mut reorder) = (None, 1, false);
        for fault in faults {
            match fault {
                EventFault::Duplicate => copies += 1,
                EventFault::Delay(by) => delay = Some(*by),
                EventFault::Reorder => reorder = true,
                EventFault::Replay if !state.sent.is_empty() => {
                    // Mostly one of the newest: what comes again comes soon, and may be about what is still there.
                    let among =
                        if self.faults.pick(2) == 0 { state.sent.len() } else { state.sent.len().min(8) };
                    let old = state.sent[state.sent.len() - 1 - self.faults.pick(among)].clone();
                    tickets.push(self.queue.send(old));
                }
                EventFault::NilStatus => event.pod_sandbox_status = None,
                EventFault::NoStatuses => event.containers_statuses.clear(),
                EventFault::Stamp(stamp) => event.created_at = stamp.instead_of(event.created_at),
                EventFault::Garbage => event.container_id = NOT_UTF_8.to_owned(),
                EventFault::SpoiltStatuses => {
                    event.containers_statuses.iter_mut().for_each(|it| it.id = NOT_UTF_8.to_owned());
                }
                EventFault::Replay | EventFault::Drop | EventFault::OlderView | EventFault::Stall(_) => {}
            }
        }
        let events = std::iter::repeat_n(event, copies);
        if let Some(delay) = delay {
            self.after(delay, move |core, state| core.send(state, events, &mut Vec::new()));
        } else if reorder {
            state.held.extend(events);
            self.after(REORDER_PATIENCE, |core, state| {
                let held = std::mem::take(&mut state.held);
                core.send(state, held, &mut Vec::new());
            });
        } else {
            let held = std::mem::take(&mut state.held);
            self.send(state, events.chain(held), tickets);
        }
    }

    fn send(
        &self,
        state: &mut State,
        events: impl IntoIterator<Item = ContainerEventResponse>,
        tickets: &mut Vec<Ticket>,
    ) {
        for event in events {
            if state.remembers {
                if state.sent.len() == REPLAYABLE {
                    state.sent.pop_front();
                }
                state.sent.push_back(event.clone());
            }
            tickets.push(self.queue.send(event));
        }
        if self.queue.panicked()
            && let Some(me) = self.me.upgrade()
        {
            tokio::spawn(async move {
                // The first of these tasks empties the queue, and the panic is over.
                if me.queue.panicked() {
                    SimRuntime(me).crash();
                }
            });
        }
    }

    /// Does something later, unless the process ends before.
    fn after(&self, delay: Duration, act: impl FnOnce(&Core, &mut State) + Send + 'static) {
        let me = self.me.clone();
        let act = async move {
            tokio::time::sleep(delay).await;
            if let Some(core) = me.upgrade() {
                let mut state = core.state.lock();
                act(&core, &mut state);
            }
        };
        tokio::spawn(self.alive().run_until_cancelled_owned(act));
    }
}
