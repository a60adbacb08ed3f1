//! Faults to inject into events, calls and lists.
//!
//! Owns the ordered faults and their random numbers. It decides which fault happens; [`super::runtime`] and
//! [`super::server`] carry it out. Without an order it changes nothing. A profile's quirks are not faults: they are
//! in [`super::profile`].

mod lists;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::{Code, Status};

pub(super) use self::lists::{Item, ListAnswer};
pub use self::lists::{ListFault, Lists, ResetReason};
use super::{
    truth::Subject,
    v1::{ContainerEventResponse, ContainerEventType},
};

/// The faults ordered for a runtime. Cheap to clone; all clones belong to the same runtime.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Inner>);

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dose {
    /// To the next `n`.
    Next(u32),
    /// To each, with this probability from 0 to 1.
    Chance(f64),
    /// To all.
    Always,
}

/// Which events a fault applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// All.
    Any,
    /// Those of a type.
    Kind(ContainerEventType),
    /// Those of a sandbox or container.
    Id(String),
}

/// A fault of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EventFault {
    /// It is lost.
    Drop,
    /// It is sent twice.
    Duplicate,
    /// It is sent this much later, with its original timestamp.
    Delay(Duration),
    /// It is sent after the next event, or after 1 s if there is none.
    Reorder,
    /// An earlier event is sent again before it, byte for byte.
    Replay,
    /// `pod_sandbox_status` is unset.
    NilStatus,
    /// `containers_statuses` is empty, as when reading them failed.
    NoStatuses,
    /// It carries the statuses of the sandbox's previous event: an older view with a newer timestamp.
    OlderView,
    /// It is stamped and sent this much after its statuses were read.
    Stall(Duration),
    /// Its timestamp is invalid.
    Stamp(Stamp),
    /// Its container id is not UTF-8, so that the message does not decode.
    Garbage,
    /// The id in each container status is not UTF-8: the message decodes, these statuses do not.
    GarbageStatuses,
}

/// An invalid timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// 0.
    Zero,
    /// Before 1970.
    Negative,
    /// Seconds instead of nanoseconds.
    Seconds,
    /// Ten years in the future.
    FarFuture,
    /// This many nanoseconds off, in either direction.
    Off(i64),
}

/// A fault of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// It fails without effect.
    Fail(Code, String),
    /// It takes this much longer before it reads or changes anything.
    Late(Duration),
    /// It answers this long after its read: events that overtook it carry a newer view.
    Overtaken(Duration),
    /// Its answer does not decode.
    Garbage,
    /// It answers OK with an empty answer: no status, no items, no events.
    Empty,
}

/// Calls that hang until released.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The whole process, as after SIGSTOP: connections are accepted and stay open, and no byte is read or written.
    /// Changes of that time are sent after the release.
    Process,
    /// All calls of a method.
    Method(Method),
    /// All calls about this sandbox or container except lists, which read only the runtime's store.
    Id(String),
}

/// The calls of CRI that the simulation serves.
#[allow(missing_docs, reason = "CRI's names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Version,
    Status,
    RunPodSandbox,
    StopPodSandbox,
    RemovePodSandbox,
    PodSandboxStatus,
    ListPodSandbox,
    StreamPodSandboxes,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    ListContainers,
    StreamContainers,
    ContainerStatus,
    GetContainerEvents,
}

#[derive(Debug)]
struct Inner {
    orders: Mutex<Orders>,
    released: Notify,
}

#[derive(Debug)]
struct Orders {
    rng: fastrand::Rng,
    events: Vec<(Only, EventFault, Dose)>,
    calls: Vec<CallOrder>,
    lists: Vec<lists::Order>,
    hung: BTreeSet<Target>,
    happened: u64,
}

#[derive(Debug)]
struct CallOrder {
    method: Method,
    /// Restricts the fault to calls that name this sandbox or container.
    about: Option<String>,
    fault: CallFault,
    dose: Dose,
}

// === impl Faults ===

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            orders: Mutex::new(Orders {
                rng: fastrand::Rng::with_seed(seed),
                events: Vec::new(),
                calls: Vec::new(),
                lists: Vec::new(),
                hung: BTreeSet::new(),
                happened: 0,
            }),
            released: Notify::new(),
        }))
    }

    /// Orders a fault of events. Orders add up.
    pub fn events(&self, fault: EventFault, dose: Dose) {
        self.events_only(Only::Any, fault, dose);
    }

    /// Orders a fault of certain events; the dose counts only these. Orders add up.
    pub fn events_only(&self, only: Only, fault: EventFault, dose: Dose) {
        self.0.orders.lock().events.push((only, fault, dose));
    }

    /// Orders a fault of a method's calls. Orders add up.
    pub fn calls(&self, method: Method, fault: CallFault, dose: Dose) {
        self.0.orders.lock().calls.push(CallOrder { method, about: None, fault, dose });
    }

    /// Orders a fault of the method's calls that name this sandbox or container, including lists that filter by its
    /// id. The dose counts only these. Orders add up.
    pub fn calls_about(&self, method: Method, id: &str, fault: CallFault, dose: Dose) {
        let about = Some(id.to_owned());
        self.0.orders.lock().calls.push(CallOrder { method, about, fault, dose });
    }

    /// Withdraws the faults of the method's calls that were ordered for this id, or those ordered without an id.
    pub fn withdraw_calls(&self, method: Method, id: Option<&str>) {
        let mut orders = self.0.orders.lock();
        orders.calls.retain(|order| order.method != method || order.about.as_deref() != id);
    }

    /// Orders a fault of lists without a filter, unary and streamed. Orders add up.
    pub fn lists(&self, of: Subject, fault: ListFault, dose: Dose) {
        self.lists_only(of, Lists::Full, fault, dose);
    }

    /// Orders a fault of lists with or without a filter, unary and streamed. Orders add up.
    pub fn lists_only(&self, of: Subject, lists: Lists, fault: ListFault, dose: Dose) {
        self.0.orders.lock().lists.push(lists::Order { of, lists, fault, dose });
    }

    /// Withdraws this fault of lists, however often it was ordered.
    pub fn withdraw_lists(&self, of: Subject, fault: &ListFault) {
        self.0.orders.lock().lists.retain(|order| order.of != of || order.fault != *fault);
    }

    /// Makes all calls of a method, or about an id, hang from now on.
    pub fn hang(&self, target: Target) {
        self.0.orders.lock().hung.insert(target);
    }

    /// Releases calls that hang.
    pub fn release(&self, target: &Target) {
        self.0.orders.lock().hung.remove(target);
        self.0.released.notify_waiters();
    }

    /// Withdraws all orders and releases all calls.
    pub fn clear(&self) {
        let mut orders = self.0.orders.lock();
        orders.events.clear();
        orders.calls.clear();
        orders.lists.clear();
        orders.hung.clear();
        drop(orders);
        self.0.released.notify_waiters();
    }

    /// How many faults have happened so far.
    pub fn happened(&self) -> u64 {
        self.0.orders.lock().happened
    }

    /// A fault of an event.
    pub(super) fn of_event(&self, event: &ContainerEventResponse) -> Vec<EventFault> {
        let mut orders = self.0.orders.lock();
        let Orders { rng, events, happened, .. } = &mut *orders;
        let of_this = events.iter_mut().filter(|(only, _, _)| only.matches(event));
        let applied: Vec<_> =
            of_this.filter_map(|(_, fault, dose)| dose.applies(rng).then_some(*fault)).collect();
        *happened += applied.len() as u64;
        events.retain(|(_, _, dose)| *dose != Dose::Next(0));
        applied
    }

    /// The faults of a call that names these ids.
    pub(super) fn of_call(&self, method: Method, ids: &[&str]) -> Vec<CallFault> {
        let mut orders = self.0.orders.lock();
        let Orders { rng, calls, happened, .. } = &mut *orders;
        let of_call = calls.iter_mut().filter(|order| order.matches(method, ids));
        let applied: Vec<_> =
            of_call.filter_map(|order| order.dose.applies(rng).then(|| order.fault.clone())).collect();
        *happened += applied.len() as u64;
        calls.retain(|order| order.dose != Dose::Next(0));
        applied
    }

    /// The list as it is sent, with its faults.
    pub(super) fn of_list<I: Item>(&self, is_full: bool, items: Vec<I>) -> ListAnswer<I> {
        let mut listing = ListAnswer { items, reset: None };
        let mut orders = self.0.orders.lock();
        let Orders { rng, lists, happened, .. } = &mut *orders;
        for order in lists.iter_mut() {
            if order.fits(is_full, &listing) && order.dose.applies(rng) {
                order.fault.apply(&mut listing);
                *happened += 1;
            }
        }
        lists.retain(|order| order.dose != Dose::Next(0));
        listing
    }

    /// A random number below `below`.
    pub(super) fn pick(&self, below: usize) -> usize {
        self.0.orders.lock().rng.usize(..below)
    }

    /// Waits while calls of this method or about one of these ids hang.
    pub(super) async fn pass(&self, method: Method, ids: &[&str]) {
        loop {
            let mut released = std::pin::pin!(self.0.released.notified());
            // Registers before the check, so that no release in between is missed.
            released.as_mut().enable();
            if !self.0.orders.lock().hangs(method, ids) {
                return;
            }
            released.await;
        }
    }

    /// Whether the process is stopped.
    pub(super) fn stopped(&self) -> bool {
        self.0.orders.lock().hung.contains(&Target::Process)
    }

    /// Waits while the process is stopped.
    pub(super) async fn continued(self) {
        loop {
            let mut released = std::pin::pin!(self.0.released.notified());
            released.as_mut().enable();
            if !self.stopped() {
                return;
            }
            released.await;
        }
    }
}

// === impl Orders ===

impl Orders {
    fn hangs(&self, method: Method, ids: &[&str]) -> bool {
        self.hung.iter().any(|target| match target {
            Target::Method(hung) => *hung == method,
            Target::Id(hung) => !method.is_list() && ids.contains(&hung.as_str()),
            // It stops the connections instead.
            Target::Process => false,
        })
    }
}

// === impl CallOrder ===

impl CallOrder {
    fn matches(&self, method: Method, ids: &[&str]) -> bool {
        self.method == method && self.about.as_deref().is_none_or(|about| ids.contains(&about))
    }
}

// === impl Only ===

impl Only {
    fn matches(&self, event: &ContainerEventResponse) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(kind) => event.container_event_type() == *kind,
            Self::Id(id) => event.container_id == *id,
        }
    }
}

// === impl Dose ===

impl Dose {
    fn applies(&mut self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
            Self::Chance(probability) => rng.f64() < *probability,
            Self::Always => true,
        }
    }
}

// === impl Stamp ===

impl Stamp {
    /// The invalid value for this timestamp.
    pub fn instead_of(self, nanos: i64) -> i64 {
        match self {
            Self::Zero => 0,
            Self::Negative => -nanos,
            Self::Seconds => nanos / 1_000_000_000,
            Self::FarFuture => nanos.saturating_add(10 * 365 * 86_400 * 1_000_000_000),
            Self::Off(by) => nanos.saturating_add(by),
        }
    }
}

// === impl CallFault ===

impl CallFault {
    /// A call that fails with this code and the text "ordered to fail".
    pub fn fail(code: Code) -> Self {
        Self::Fail(code, "ordered to fail".to_owned())
    }

    pub(super) fn status(&self) -> Option<Status> {
        match self {
            Self::Fail(code, message) => Some(Status::new(*code, message.clone())),
            _ => None,
        }
    }
}

// === impl Method ===

impl Method {
    fn is_list(self) -> bool {
        matches!(
            self,
            Self::ListPodSandbox | Self::StreamPodSandboxes | Self::ListContainers | Self::StreamContainers
        )
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dose_of_two_applies_twice_and_a_chance_sometimes() {
        let faults = Faults::new(3);
        let event = ContainerEventResponse { container_id: "a".to_owned(), ..Default::default() };
        faults.events(EventFault::Drop, Dose::Next(2));
        faults.events_only(Only::Id("b".to_owned()), EventFault::Drop, Dose::Always);
        faults.events_only(
            Only::Kind(ContainerEventType::ContainerDeletedEvent),
            EventFault::Drop,
            Dose::Always,
        );
        let applied: Vec<_> = (0..4).map(|_| faults.of_event(&event).len()).collect();
        assert_eq!(applied, [1, 1, 0, 0]);
        faults.events(EventFault::Duplicate, Dose::Chance(0.3));
        let often = (0..1000).filter(|_| !faults.of_event(&event).is_empty()).count();
        assert!((200..400).contains(&often), "{often} of 1000");
        faults.clear();
        assert!(faults.of_event(&event).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hung_call_goes_on_when_released() {
        let faults = Faults::new(3);
        let target = Target::Method(Method::ListContainers);
        faults.hang(target.clone());
        let hung = faults.pass(Method::ListContainers, &[""]);
        let mut hung = std::pin::pin!(hung);
        assert!(tokio::time::timeout(Duration::from_secs(3600), &mut hung).await.is_err());
        faults.pass(Method::ListPodSandbox, &[""]).await;
        faults.release(&target);
        hung.await;
    }
}
