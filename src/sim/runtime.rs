//! [`SimRuntime`] joins the truth, the faults, the event queue and the connections.
//!
//! It owns the order of operations: a change of the truth raises signals; each passes the faults, is stamped after
//! its statuses were read, as runtimes do, and is sent. Every change goes through [`SimRuntime::change`], whether a
//! CRI call, a test or [`super::churn`] causes it.

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
    exchanges::{Exchange, Message},
    faults::{EventFault, Faults, Method},
    profile::{Profile, Starting},
    serve::{self, SimConnector, SocketHandle},
    truth::{Change, Signal, Truth, View},
    v1::ContainerEventResponse,
};
use crate::clock::{Clock, Mono};

/// Events that [`EventFault::Replay`] chooses from.
const REPLAYABLE: usize = 256;
/// Calls at one moment of the clock after which further calls fail.
const SPIN: u64 = 50_000;
/// How long [`EventFault::Reorder`] holds an event back for the next one to overtake it.
const REORDER_DELAY: Duration = Duration::from_secs(1);

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

struct State {
    truth: Truth,
    rng: fastrand::Rng,
    frozen: Option<View>,
    /// The last payload of each sandbox, for [`EventFault::OlderView`].
    payloads: BTreeMap<String, ContainerEventResponse>,
    sent: VecDeque<ContainerEventResponse>,
    /// Whether `payloads` and `sent` are filled.
    keeps_events: bool,
    /// Events that wait to be overtaken.
    held: Vec<ContainerEventResponse>,
    calls: BTreeMap<Method, u64>,
    /// The time of the last call, and the number of calls at that time.
    at_once: (Mono, u64),
    spun: bool,
    /// `None` until [`SimRuntime::record_exchanges`].
    exchanges: Option<Vec<Exchange>>,
    starting_until: Mono,
    identity: Identity,
    /// Events that each new subscriber gets first.
    backlog: Vec<ContainerEventResponse>,
}

/// The runtime's answer to Version.
struct Identity {
    name: String,
    version: String,
    /// Whether it serves CRI at all.
    has_cri: bool,
}

/// The process that serves: a crash ends it, a recovery starts the next.
struct Process {
    /// Cancelled when the process ends, and with it all connections and calls.
    alive: CancellationToken,
    sockets: BTreeMap<PathBuf, CancellationToken>,
}

// === impl SimRuntime ===

impl SimRuntime {
    /// A runtime of this profile without pods. The same seed gives the same ids, orders, faults and losses.
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
                keeps_events: true,
                held: Vec::new(),
                calls: BTreeMap::new(),
                at_once: (Mono::ZERO, 0),
                spun: false,
                exchanges: None,
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

    /// Changes the truth and sends the raised events. Does not wait, even where a life-cycle call would block.
    pub fn change<R>(&self, change: impl FnOnce(&mut Truth) -> R) -> R {
        self.0.change(change).0
    }

    /// Changes the truth, and waits like a life-cycle call until the queue has taken the raised events.
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

    /// All changes so far, in order.
    pub fn history(&self) -> Vec<Change> {
        self.0.read(|truth| truth.history().to_vec())
    }

    /// Counts of sent, delivered and lost events.
    pub fn event_counts(&self) -> EventCounts {
        self.0.queue.counts()
    }

    /// The latest deliveries to live subscribers.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.0.queue.deliveries()
    }

    /// How often each method was called.
    pub fn calls(&self) -> BTreeMap<Method, u64> {
        self.0.state.lock().calls.clone()
    }

    /// Records all messages from now on. The record is never truncated.
    pub fn record_exchanges(&self) {
        self.0.state.lock().exchanges.get_or_insert_default();
    }

    /// The messages since [`SimRuntime::record_exchanges`], in order.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.0.state.lock().exchanges.clone().unwrap_or_default()
    }

    /// Stops keeping events, which disables [`EventFault::OlderView`] and [`EventFault::Replay`]. With tens of
    /// thousands of events, keeping them costs more than all other work.
    pub fn forget_events(&self) {
        let mut state = self.0.state.lock();
        state.keeps_events = false;
        state.payloads.clear();
        state.sent.clear();
    }

    /// From now on lists return the state of this moment, while statuses and events go on.
    pub fn freeze_lists(&self) {
        let mut state = self.0.state.lock();
        state.truth.settle();
        state.frozen = Some(state.truth.view().clone());
    }

    /// Lists return the current state again.
    pub fn thaw_lists(&self) {
        self.0.state.lock().frozen = None;
    }

    /// Sets the name and version that Version returns; nothing else changes.
    pub fn set_version(&self, name: &str, version: &str) {
        let identity = &mut self.0.state.lock().identity;
        (identity.name, identity.version) = (name.to_owned(), version.to_owned());
    }

    /// Serves CRI from now on, or answers every call with "unknown service", as another gRPC server does.
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

    /// Ends every event stream, with this status or with OK. The runtime stays up.
    pub fn cut_streams(&self, status: Option<Status>) {
        self.0.queue.end_streams(status);
    }

    /// Serves on a UNIX socket, after removing the file at that path. Serves it again after each recovery, until the
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

    /// A channel over [`SimRuntime::connector`] that connects at the first call, and again when needed.
    pub fn channel(&self) -> Channel {
        tonic::transport::Endpoint::from_static("http://simulated.invalid")
            .connect_with_connector_lazy(self.connector())
    }

    /// Ends the process like `kill -9`: connections break off, queued events are lost, the socket files stay, and
    /// containers keep running.
    pub fn crash(&self) {
        let mut state = self.0.state.lock();
        state.truth.settle();
        state.truth.crash();
        state.held.clear();
        drop(state);
        self.0.process.lock().alive.cancel();
        self.0.queue.reset();
    }

    /// Starts the process again: it finds the changes since the crash, without events, and opens its sockets.
    pub fn recover(&self) -> io::Result<()> {
        self.recover_in(Duration::ZERO)
    }

    /// Starts the process again; for the time `starting` it answers only that it is not initialized. CRI-O opens its
    /// socket late instead: there, wait and call [`SimRuntime::recover`].
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

    /// [`SimRuntime::crash`], then [`SimRuntime::recover`] after this time.
    pub async fn restart(&self, after: Duration) -> io::Result<()> {
        self.crash();
        tokio::time::sleep(after).await;
        self.recover()
    }

    /// Whether the runtime is down.
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

    /// Reads list items and shuffles them: the order is that of a Go map.
    pub(super) fn list<T>(&self, list: impl FnOnce(&View) -> Vec<T>) -> Vec<T> {
        let mut state = self.state.lock();
        state.truth.settle();
        let mut items = list(state.frozen.as_ref().unwrap_or(state.truth.view()));
        state.rng.shuffle(&mut items);
        items
    }

    pub(super) fn record(&self, message: impl FnOnce() -> Message) {
        let (at, wall) = self.clock.now_both();
        if let Some(exchanges) = &mut self.state.lock().exchanges {
            let message = message();
            let message = if message.is_garbage() { Message::Garbage } else { message };
            exchanges.push(Exchange { at, wall, message });
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

    /// Fails every call once a client has called [`SPIN`] times at one moment: in paused time, a client that calls
    /// without a pause would stop the clock for ever.
    pub(super) fn check_spin(&self) -> Result<(), Status> {
        let mut state = self.state.lock();
        state.spun |= state.at_once.1 > SPIN;
        if !state.spun {
            return Ok(());
        }
        Err(Status::resource_exhausted(format!(
            "more than {SPIN} calls at one moment: a client calls without a pause"
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

    /// Cancelled when the current process ends; already cancelled when none runs.
    pub(super) fn alive(&self) -> CancellationToken {
        self.process.lock().alive.clone()
    }

    fn raise(&self, state: &mut State, signal: Signal, tickets: &mut Vec<Ticket>) {
        let Signal { sandbox_id, mut event } = signal;
        let faults = self.faults.of_event(&event);
        let older = if state.keeps_events { state.payloads.insert(sandbox_id, event.clone()) } else { None };
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
        // containerd and CRI-O stamp the event here, after the statuses were read: a timestamp may be newer than its
        // payload.
        event.created_at = self.clock.wall().as_nanos();
        let (mut delay, mut copies, mut reorder) = (None, 1, false);
        for fault in faults {
            match fault {
                EventFault::Duplicate => copies += 1,
                EventFault::Delay(by) => delay = Some(*by),
                EventFault::Reorder => reorder = true,
                EventFault::Replay if !state.sent.is_empty() => {
                    // Mostly one of the newest: a repeated event usually follows soon and may name an id that still
                    // exists.
                    let among =
                        if self.faults.pick(2) == 0 { state.sent.len() } else { state.sent.len().min(8) };
                    let old = state.sent[state.sent.len() - 1 - self.faults.pick(among)].clone();
                    tickets.push(self.queue.send(old));
                }
                EventFault::NilStatus => event.pod_sandbox_status = None,
                EventFault::NoStatuses => event.containers_statuses.clear(),
                EventFault::Stamp(stamp) => event.created_at = stamp.instead_of(event.created_at),
                EventFault::Garbage => event.container_id = NOT_UTF_8.to_owned(),
                EventFault::GarbageStatuses => {
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
            self.after(REORDER_DELAY, |core, state| {
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
            if state.keeps_events {
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
                // The first of these tasks resets the queue, which ends the panic.
                if me.queue.panicked() {
                    SimRuntime(me).crash();
                }
            });
        }
    }

    /// Acts after a delay, unless the process ends first.
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
