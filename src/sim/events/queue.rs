//! The rules of the event queues, one kind after the other. No I/O and no clock.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Poll, Waker},
    time::Duration,
};

use tonic::Status;

use super::{Delivery, EventCounts};
use crate::{
    clock::Mono,
    sim::{
        profile::{Departure, Events},
        v1::ContainerEventResponse,
    },
};

/// How long a handler that failed to send takes to close its subscription; events that reach it meanwhile are lost.
/// Measured with containerd's queue: of 20 events back to back, 19 or 20 were lost.
const HANDLER_CLOSES_IN: Duration = Duration::from_millis(1);

const DELIVERIES_KEPT: usize = 65_536;

#[derive(Debug)]
pub(super) struct Queue {
    kind: Events,
    rng: fastrand::Rng,
    /// Grows with every reset: a ticket from an earlier era does not wait.
    era: u64,
    sent: u64,
    taken: u64,
    next_subscriber: u64,
    pub(super) subscribers: BTreeMap<u64, Subscriber>,
    /// Blocking: events whose senders wait for the queue to take them.
    pub(super) input: VecDeque<ContainerEventResponse>,
    /// Events that the queue has taken and not yet handed to all receivers.
    publishing: VecDeque<Publishing>,
    /// Shared, Broadcast: the channel. Blocking: events kept while there is no subscriber.
    kept: VecDeque<(Mono, ContainerEventResponse)>,
    /// Shared: subscribers that wait for an event, in order, including those whose client is gone.
    waiting: VecDeque<u64>,
    /// Broadcast: whether the task that reads the channel runs.
    started: bool,
    /// Broadcast: whether a client's departure has crashed the process.
    pub(super) panicked: bool,
    pub(super) counts: EventCounts,
    pub(super) deliveries: VecDeque<Delivery>,
}

#[derive(Debug, Default)]
pub(super) struct Subscriber {
    slots: VecDeque<ContainerEventResponse>,
    connection: Connection,
    end: Option<End>,
    waker: Option<Waker>,
}

#[derive(Clone, Debug)]
pub(super) enum End {
    Clean,
    Failed(Status),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connection {
    #[default]
    Alive,
    /// The client is gone and the handler has not noticed: it does not watch the stream's context.
    Gone,
    /// The handler failed to send an event at that moment and is about to close.
    Closing(Mono),
}

#[derive(Debug)]
struct Publishing {
    event: ContainerEventResponse,
    to: VecDeque<u64>,
    /// Whether any handler took it, even one whose client is gone.
    accepted: bool,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(kind: Events, rng: fastrand::Rng) -> Self {
        Self {
            kind,
            rng,
            era: 0,
            sent: 0,
            taken: 0,
            next_subscriber: 0,
            subscribers: BTreeMap::new(),
            input: VecDeque::new(),
            publishing: VecDeque::new(),
            kept: VecDeque::new(),
            waiting: VecDeque::new(),
            started: false,
            panicked: false,
            counts: EventCounts::default(),
            deliveries: VecDeque::new(),
        }
    }

    /// Begins to send an event; returns its era and number.
    pub(super) fn send(&mut self, event: ContainerEventResponse, now: Mono) -> (u64, u64) {
        self.sent += 1;
        self.counts.sent += 1;
        let ticket = (self.era, self.sent);
        match self.kind {
            Events::Blocking { .. } => self.input.push_back(event),
            Events::Shared { capacity } => {
                self.taken = self.sent;
                self.send_shared(event, capacity, now);
            }
            Events::Broadcast { capacity, .. } => {
                self.taken = self.sent;
                self.keep(event, capacity, now);
            }
            Events::Unimplemented | Events::EndAtOnce => {
                self.taken = self.sent;
                self.counts.dropped += 1;
            }
        }
        self.advance(now);
        ticket
    }

    pub(super) fn subscribe(&mut self, now: Mono) -> u64 {
        let id = self.next_subscriber;
        self.next_subscriber += 1;
        match self.kind {
            // A subscriber whose end the runtime has not noticed counts: only the first subscriber gets the backlog.
            Events::Blocking { retention, .. } if self.subscribers.is_empty() => {
                self.expire(retention, now);
                let backlog = self.kept.drain(..).map(|(_, event)| Publishing {
                    event,
                    to: VecDeque::from([id]),
                    accepted: true,
                });
                self.publishing.extend(backlog);
            }
            Events::Broadcast { .. } if !self.started => {
                // The task starts before its first client is registered: a part of the backlog is lost.
                self.started = true;
                let lost = self.rng.usize(0..=self.kept.len());
                self.kept.drain(..lost);
                self.counts.lost += lost as u64;
            }
            _ => {}
        }
        self.subscribers.insert(id, Subscriber::default());
        self.advance(now);
        id
    }

    pub(super) fn poll(
        &mut self,
        id: u64,
        now: Mono,
        waker: &Waker,
    ) -> Poll<Option<Result<ContainerEventResponse, Status>>> {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return Poll::Ready(None) };
        if let Some(end) = subscriber.end.take() {
            self.subscribers.remove(&id);
            return Poll::Ready(match end {
                End::Clean => None,
                End::Failed(status) => Some(Err(status)),
            });
        }
        let mut event = subscriber.slots.pop_front();
        if event.is_none() && matches!(self.kind, Events::Shared { .. }) {
            event = self.kept.pop_front().map(|(_, event)| event);
            if event.is_none() && !self.waiting.contains(&id) {
                self.waiting.push_back(id);
            }
        }
        match event {
            Some(event) => {
                self.counts.delivered += 1;
                if self.deliveries.len() == DELIVERIES_KEPT {
                    self.deliveries.pop_front();
                }
                self.deliveries.push_back(Delivery {
                    at: now,
                    subscriber: id,
                    id: event.container_id.clone(),
                    kind: event.container_event_type,
                    created_at: event.created_at,
                });
                self.advance(now);
                Poll::Ready(Some(Ok(event)))
            }
            None => {
                subscriber.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// The client is gone. A handler that is blocked in a send notices now; one that waits for an event, with the
    /// next event.
    pub(super) fn leave(&mut self, id: u64, now: Mono) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        let waits_for_an_event = match self.kind {
            Events::Shared { .. } => self.waiting.contains(&id) && subscriber.slots.is_empty(),
            _ => subscriber.slots.is_empty(),
        };
        if waits_for_an_event && subscriber.end.is_none() {
            subscriber.connection = Connection::Gone;
            subscriber.waker = None;
        } else {
            self.counts.lost += subscriber.slots.len() as u64;
            self.subscribers.remove(&id);
            self.waiting.retain(|waiting| *waiting != id);
        }
        self.advance(now);
    }

    pub(super) fn end_all(&mut self, end: &End) {
        for subscriber in self.subscribers.values_mut() {
            subscriber.slots.clear();
            subscriber.end = Some(end.clone());
            subscriber.wake();
        }
        self.waiting.clear();
        self.subscribers.retain(|_, subscriber| subscriber.connection == Connection::Alive);
    }

    pub(super) fn reset(&mut self) {
        self.era += 1;
        for subscriber in self.subscribers.values_mut() {
            subscriber.wake();
        }
        self.subscribers.clear();
        self.input.clear();
        self.publishing.clear();
        self.kept.clear();
        self.waiting.clear();
        self.started = false;
        self.panicked = false;
    }

    pub(super) fn has_taken(&self, era: u64, number: u64) -> bool {
        self.era != era || self.taken >= number
    }

    fn send_shared(&mut self, event: ContainerEventResponse, capacity: usize, now: Mono) {
        let Some(id) = self.waiting.pop_front() else { return self.keep(event, capacity, now) };
        match self.subscribers.get_mut(&id) {
            Some(subscriber) if subscriber.connection == Connection::Alive => {
                subscriber.slots.push_back(event);
                subscriber.wake();
            }
            _ => {
                // The handler takes the event, fails to send it, and only then ends.
                self.counts.lost += 1;
                self.subscribers.remove(&id);
            }
        }
    }

    /// Puts an event into the channel, or drops it if the channel is full.
    fn keep(&mut self, event: ContainerEventResponse, capacity: usize, now: Mono) {
        if self.kept.len() < capacity {
            self.kept.push_back((now, event));
        } else {
            self.counts.dropped += 1;
        }
    }

    fn expire(&mut self, retention: Duration, now: Mono) {
        while self.kept.front().is_some_and(|(at, _)| now.since(*at) > retention) {
            self.kept.pop_front();
            self.counts.expired += 1;
        }
    }

    /// Hands on events until a receiver blocks or no event is left.
    fn advance(&mut self, now: Mono) {
        loop {
            while let Some(publishing) = self.publishing.front_mut() {
                let Some(id) = publishing.to.pop_front() else {
                    if let Some(Publishing { event, accepted: false, .. }) = self.publishing.pop_front() {
                        self.kept.push_back((now, event));
                    }
                    continue;
                };
                match hand_over(self.kind, &mut self.subscribers, &mut self.rng, id, publishing, now) {
                    Handover::Delivered => {}
                    Handover::Lost => self.counts.lost += 1,
                    Handover::Closed => {
                        self.subscribers.remove(&id);
                    }
                    Handover::Panic => {
                        self.panicked = true;
                        return;
                    }
                    Handover::Blocked => {
                        publishing.to.push_front(id);
                        return;
                    }
                }
            }
            let next = match self.kind {
                Events::Blocking { retention, .. } => {
                    let next = self.input.pop_front();
                    self.taken += u64::from(next.is_some());
                    self.expire(retention, now);
                    next
                }
                Events::Broadcast { .. } if self.started => self.kept.pop_front().map(|(_, event)| event),
                _ => None,
            };
            let Some(event) = next else { return };
            let to: VecDeque<_> = self.subscribers.keys().copied().collect();
            // The broadcaster loses an event that has no subscriber; the blocking queue keeps it.
            let accepted = matches!(self.kind, Events::Broadcast { .. });
            self.counts.lost += u64::from(accepted && to.is_empty());
            self.publishing.push_back(Publishing { event, to, accepted });
        }
    }
}

enum Handover {
    Delivered,
    Lost,
    Closed,
    Panic,
    Blocked,
}

fn hand_over(
    kind: Events,
    subscribers: &mut BTreeMap<u64, Subscriber>,
    rng: &mut fastrand::Rng,
    id: u64,
    publishing: &mut Publishing,
    now: Mono,
) -> Handover {
    let Some(subscriber) = subscribers.get_mut(&id) else { return Handover::Closed };
    let slots = match kind {
        // One more than the channel's capacity: the handler holds one event while its send blocks.
        Events::Blocking { capacity, .. } => capacity + 1,
        _ => 1,
    };
    match (kind, subscriber.connection) {
        (_, Connection::Alive) if subscriber.slots.len() >= slots => Handover::Blocked,
        (_, Connection::Alive) => {
            publishing.accepted = true;
            let last = publishing.to.is_empty();
            let event = if last { std::mem::take(&mut publishing.event) } else { publishing.event.clone() };
            subscriber.slots.push_back(event);
            subscriber.wake();
            Handover::Delivered
        }
        (Events::Broadcast { departure: Departure::Panics, .. }, Connection::Gone) => {
            subscriber.connection = Connection::Closing(now);
            Handover::Lost
        }
        (Events::Broadcast { departure: Departure::Panics, .. }, Connection::Closing(at))
            if now.since(at) < HANDLER_CLOSES_IN =>
        {
            Handover::Panic
        }
        // CRI-O hands the same event to all others, so a closed subscriber costs them nothing.
        (Events::Broadcast { .. }, _) => Handover::Closed,
        (_, Connection::Gone) => {
            publishing.accepted = true;
            subscriber.connection = Connection::Closing(now);
            Handover::Lost
        }
        // "Closed" and "not full" are both true while the handler closes, and Go's select chooses at random.
        (_, Connection::Closing(at)) if now.since(at) < HANDLER_CLOSES_IN || rng.bool() => {
            publishing.accepted = true;
            Handover::Lost
        }
        (_, Connection::Closing(_)) => Handover::Closed,
    }
}

// === impl Subscriber ===

impl Subscriber {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Events = Events::Shared { capacity: 1000 };
    const BLOCKING: Events = Events::Blocking { capacity: 100, retention: Duration::from_secs(300) };
    const BROADCAST: Events = Events::Broadcast { capacity: 1000, departure: Departure::Harmless };

    fn queue(kind: Events) -> Queue {
        Queue::new(kind, fastrand::Rng::with_seed(1))
    }

    fn event(n: usize) -> ContainerEventResponse {
        ContainerEventResponse { container_id: n.to_string(), ..Default::default() }
    }

    fn at(millis: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(millis)
    }

    fn drain(queue: &mut Queue, subscriber: u64) -> Vec<String> {
        let mut got = Vec::new();
        while let Poll::Ready(Some(Ok(event))) = queue.poll(subscriber, at(0), Waker::noop()) {
            got.push(event.container_id);
        }
        got
    }

    #[test]
    fn a_blocking_queue_takes_102_events_and_then_none() {
        let mut queue = queue(BLOCKING);
        let frozen = queue.subscribe(at(0));
        let healthy = queue.subscribe(at(0));
        let tickets: Vec<_> = (0..110).map(|n| queue.send(event(n), at(0))).collect();
        assert_eq!(tickets.iter().filter(|(era, n)| queue.has_taken(*era, *n)).count(), 102);
        assert_eq!(drain(&mut queue, healthy).len(), 101, "the 102nd event waits for the frozen subscriber");
        queue.leave(frozen, at(0));
        assert!(tickets.iter().all(|(era, n)| queue.has_taken(*era, *n)));
        assert_eq!(drain(&mut queue, healthy).len(), 9);
    }

    #[test]
    fn a_blocking_queue_keeps_five_minutes_for_the_first_subscriber_only() {
        let mut queue = queue(BLOCKING);
        queue.send(event(0), at(0));
        for n in 1..2000 {
            queue.send(event(n), at(200_000));
        }
        let first = queue.subscribe(at(310_000));
        let second = queue.subscribe(at(310_000));
        assert_eq!(drain(&mut queue, first).len(), 1999);
        assert_eq!(drain(&mut queue, second).len(), 0);
        assert_eq!(queue.counts.expired, 1);
    }

    #[test]
    fn a_blocking_queue_loses_at_least_one_event_to_a_closed_subscriber() {
        let mut most = 0;
        for seed in 0..200 {
            let mut queue = Queue::new(BLOCKING, fastrand::Rng::with_seed(seed));
            let closed = queue.subscribe(at(0));
            assert!(queue.poll(closed, at(0), Waker::noop()).is_pending());
            queue.leave(closed, at(0));
            for n in 0..20 {
                queue.send(event(n), at(2 * n as u64));
            }
            let next = queue.subscribe(at(50));
            let got = drain(&mut queue, next).len();
            assert!(got <= 19);
            assert_eq!(got as u64 + queue.counts.lost, 20);
            most = most.max(queue.counts.lost);
        }
        assert!(most > 1, "sometimes it is more than one");
    }

    #[test]
    fn a_shared_channel_gives_each_event_to_one_subscriber_and_closed_ones_come_first() {
        let mut queue = queue(SHARED);
        let stale: Vec<_> = (0..3).map(|_| queue.subscribe(at(0))).collect();
        for id in stale {
            assert!(queue.poll(id, at(0), Waker::noop()).is_pending());
            queue.leave(id, at(0));
        }
        let (a, b) = (queue.subscribe(at(0)), queue.subscribe(at(0)));
        for id in [a, b] {
            assert!(queue.poll(id, at(0), Waker::noop()).is_pending());
        }
        for n in 0..5 {
            queue.send(event(n), at(0));
        }
        assert_eq!(drain(&mut queue, a), ["3"]);
        assert_eq!(drain(&mut queue, b), ["4"]);
        assert_eq!(queue.counts.lost, 3);
    }

    #[test]
    fn a_shared_channel_keeps_the_oldest_and_drops_the_newest() {
        let mut queue = queue(SHARED);
        for n in 0..1100 {
            queue.send(event(n), at(0));
        }
        let id = queue.subscribe(at(7_200_000));
        let got = drain(&mut queue, id);
        assert_eq!((got.len(), got[999].as_str()), (1000, "999"));
        assert_eq!(queue.counts.dropped, 100);
    }

    #[test]
    fn a_broadcaster_loses_events_without_subscriber_and_the_slowest_delays_all() {
        let mut queue = queue(BROADCAST);
        let slow = queue.subscribe(at(0));
        let quick = queue.subscribe(at(0));
        let mut received = 0;
        for n in 0..1500 {
            let (era, number) = queue.send(event(n), at(0));
            assert!(queue.has_taken(era, number), "producers never block");
            received += drain(&mut queue, quick).len();
        }
        // A slow client holds one event, a second event waits for it, and then the channel fills.
        assert_eq!((received, queue.counts.dropped), (1, 1500 - 1002));
        queue.leave(slow, at(0));
        assert_eq!(drain(&mut queue, quick).len(), 1001);
        queue.leave(quick, at(0));
        queue.send(event(0), at(0));
        queue.send(event(1), at(0));
        let late = queue.subscribe(at(0));
        assert_eq!(drain(&mut queue, late).len(), 0, "no replay");
    }
}
