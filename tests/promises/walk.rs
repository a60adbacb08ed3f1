//! Checks the messages of one subscriber in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use plegd::{
    api::v1,
    model::{Event, PodIdentity, Position},
    watch::{Gap, GapReason, SlowPolicy, Start},
};

use super::{
    checker::{Guarantee, Violation},
    record::{Connection, End, Item, Layer, Published, Recording, Run},
};

/// The state of a subscriber at one point of its recording.
pub(super) struct Walk<'a> {
    runs: &'a [Run],
    recording: &'a Recording,
    found: Vec<Violation>,
    /// Events received over all connections: epoch and sequence.
    seen: BTreeSet<(u64, u64)>,
    /// By pod, the newest event that was skipped for a newer one that has not arrived yet.
    skipped_newest: BTreeMap<String, (u64, u64)>,
    /// The position of the last snapshot.
    snapshot: Option<Position>,
    number: usize,
}

/// The state of the current connection.
struct ConnectionState<'a> {
    start: Start,
    run: Option<&'a Run>,
    stage: Stage,
    mode: v1::Mode,
    /// Every event up to this sequence was delivered.
    delivered: u64,
    /// By pod, the last event delivered on this connection.
    last: BTreeMap<String, u64>,
    /// The sequence after which the connection started, or after which the last snapshot ended.
    began: u64,
    /// Whether the connection resumed and has delivered nothing since.
    resumed: bool,
    /// The event after which plegd was restarted last.
    restarted: u64,
    /// The sequences of all events of the connection.
    coming: BTreeSet<u64>,
}

enum Stage {
    Hello,
    /// After a lost position, for this reason.
    Lost(GapReason),
    Snapshot {
        pods: BTreeMap<String, Arc<v1::Pod>>,
        count: u64,
        to: Option<u64>,
    },
    Following,
}

impl<'a> Walk<'a> {
    pub(super) fn new(runs: &'a [Run], recording: &'a Recording) -> Self {
        Self {
            runs,
            recording,
            found: Vec::new(),
            seen: BTreeSet::new(),
            skipped_newest: BTreeMap::new(),
            snapshot: None,
            number: 0,
        }
    }

    pub(super) fn all(mut self) -> Vec<Violation> {
        let mut last = None;
        for (number, connection) in self.recording.connections.iter().enumerate() {
            self.number = number;
            last = self.connection(connection);
        }
        let Some((epoch, delivered)) = last.filter(|_| self.recording.drained) else { return self.found };
        let Some(run) = self.runs.last() else { return self.found };
        if (epoch, delivered) != (run.epoch, run.head()) {
            let what =
                format!("it read until the end, and was delivered up to {delivered} of {}", run.head());
            self.report(Guarantee::Reliable, &[delivered], what);
        }
        for (pod, (_, sequence)) in std::mem::take(&mut self.skipped_newest) {
            self.report(Guarantee::Reliable, &[sequence], format!("no newer event of {pod} has come"));
        }
        self.found
    }

    fn report(&mut self, guarantee: Guarantee, at: &[u64], what: impl Into<String>) {
        self.found.push(Violation {
            guarantee,
            subscriber: self.recording.name.clone(),
            connection: self.number,
            at: at.to_vec(),
            what: what.into(),
        });
    }

    /// The position that the connection reached, if any.
    fn connection(&mut self, connection: &'a Connection) -> Option<(u64, u64)> {
        let coming = connection.items.iter().filter_map(|item| match item {
            Item::Event { event, .. } => Some(event.sequence),
            _ => None,
        });
        let mut conn = ConnectionState {
            start: connection.start,
            run: None,
            stage: Stage::Hello,
            mode: v1::Mode::Unspecified,
            delivered: 0,
            last: BTreeMap::new(),
            began: 0,
            resumed: matches!(connection.start, Start::After(_)),
            restarted: 0,
            coming: coming.collect(),
        };
        for item in &connection.items {
            self.item(&mut conn, item);
        }
        self.end(&conn, connection);
        conn.run.map(|run| (run.epoch, conn.delivered))
    }

    fn item(&mut self, conn: &mut ConnectionState<'a>, item: &'a Item) {
        if let Item::Hello { epoch, head, oldest, mode } = item {
            return self.hello(conn, Position { epoch: *epoch, sequence: *head }, *oldest, *mode);
        }
        let Some(run) = conn.run else {
            return self.report(Guarantee::Framed, &[], format!("{} before hello", item.word()));
        };
        match item {
            Item::Hello { .. } => {}
            Item::Pod(pod) => self.pod(conn, pod),
            Item::SnapshotEnd { position, pods } => self.snapshot_end(conn, run, *position, *pods),
            Item::Event { event, pod, skipped } => self.event(conn, run, event, pod.as_ref(), *skipped),
            Item::Bookmark(position) => self.bookmark(conn, run, *position),
            Item::Gap(gap) => self.gap(conn, run, *gap),
            Item::Restarted { after } => conn.restarted = *after,
            Item::Mode { mode, previous } => {
                if *previous != conn.mode || mode == previous {
                    let what = format!("{} after {:?}", item.word(), conn.mode);
                    self.report(Guarantee::Framed, &[conn.delivered], what);
                }
                conn.mode = *mode;
            }
        }
    }

    fn hello(&mut self, conn: &mut ConnectionState<'a>, head: Position, oldest: u64, mode: v1::Mode) {
        let run = self.runs.iter().find(|run| run.epoch == head.epoch);
        let (Stage::Hello, Some(run)) = (&conn.stage, run) else {
            return self.report(Guarantee::Framed, &[head.sequence], "hello twice, or of an unknown epoch");
        };
        if head.sequence > run.head() || oldest > head.sequence + 1 {
            self.report(
                Guarantee::Framed,
                &[oldest, head.sequence],
                "hello with sequences that the journal never had",
            );
        }
        if run.is_within_a_change(head.sequence) {
            self.report(Guarantee::Atomic, &[head.sequence], "hello splits a change");
        }
        (conn.run, conn.mode) = (Some(run), mode);
        conn.delivered = head.sequence;
        conn.stage = match conn.start {
            Start::Snapshot => Stage::Snapshot { pods: BTreeMap::new(), count: 0, to: None },
            Start::Now => Stage::Following,
            Start::Oldest => {
                conn.delivered = oldest.saturating_sub(1);
                Stage::Following
            }
            Start::After(after) => {
                let lost = if after.epoch != run.epoch {
                    Some(GapReason::ForeignEpoch)
                } else if after.sequence > head.sequence {
                    Some(GapReason::InFuture)
                } else {
                    (after.sequence + 1 < oldest).then_some(GapReason::Compacted)
                };
                conn.delivered = after.sequence;
                lost.map_or(Stage::Following, Stage::Lost)
            }
        };
        conn.began = conn.delivered;
    }

    fn pod(&mut self, conn: &mut ConnectionState<'a>, pod: &Arc<v1::Pod>) {
        let Stage::Snapshot { pods, count, .. } = &mut conn.stage else {
            return self.report(Guarantee::GapsMarked, &[pod.sequence], "a snapshot without a gap before it");
        };
        *count += 1;
        let key = key(&identity(pod));
        if pods.insert(key.clone(), pod.clone()).is_some() {
            self.report(Guarantee::SnapshotExact, &[pod.sequence], format!("{key} is in the snapshot twice"));
        }
    }

    fn snapshot_end(
        &mut self,
        conn: &mut ConnectionState<'a>,
        run: &'a Run,
        position: Position,
        stated: u64,
    ) {
        let stage = std::mem::replace(&mut conn.stage, Stage::Following);
        let Stage::Snapshot { mut pods, count, to } = stage else {
            let what = "the end of a snapshot that did not begin";
            return self.report(Guarantee::GapsMarked, &[position.sequence], what);
        };
        let at = position.sequence;
        if count != stated || position.epoch != run.epoch || at > run.head() {
            self.report(
                Guarantee::SnapshotExact,
                &[at],
                format!("{count} pods were delivered, {stated} are stated"),
            );
        }
        if run.is_within_a_change(at) {
            self.report(Guarantee::Atomic, &[at], "the snapshot contains only a part of a change");
        }
        if to.is_some_and(|to| to != at) {
            self.report(Guarantee::GapsMarked, &[at], format!("the gap was to end at {to:?}"));
        }
        let mut states: BTreeMap<String, &Published> = BTreeMap::new();
        run.between(0, at).iter().for_each(|published| {
            states.insert(key(&published.event.pod), published);
        });
        for (key, published) in states {
            let there = published.pod.as_deref().filter(|pod| {
                self.recording.filter.passes_pod(&identity(pod), &pod.labels.clone().into_iter().collect())
            });
            match (there, pods.remove(&key)) {
                (None, None) => {}
                (Some(_), None) => self.report(Guarantee::SnapshotExact, &[at], format!("{key} is missing")),
                (None, Some(_)) => {
                    let guarantee =
                        if published.pod.is_some() { Guarantee::Filtered } else { Guarantee::SnapshotExact };
                    self.report(guarantee, &[at], format!("{key} is in the snapshot"));
                }
                (Some(there), Some(sent)) => {
                    // Its sequence may be later: a later read changed nothing.
                    let as_of_then = v1::Pod { sequence: there.sequence, ..sent.as_ref().clone() };
                    if *there != as_of_then || sent.sequence < there.sequence || sent.sequence > at {
                        let what = format!("{key} has the state of another time");
                        self.report(Guarantee::SnapshotExact, &[at, sent.sequence, there.sequence], what);
                    }
                }
            }
        }
        for key in pods.keys() {
            self.report(
                Guarantee::SnapshotExact,
                &[at],
                format!("{key} is in the snapshot and never existed"),
            );
        }
        (conn.delivered, conn.began, conn.resumed) = (at, at, false);
        conn.last.clear();
        self.skipped_newest.clear();
        self.snapshot = Some(position);
    }

    fn event(
        &mut self,
        conn: &mut ConnectionState<'a>,
        run: &'a Run,
        event: &Event,
        pod: Option<&Arc<v1::Pod>>,
        skipped: u64,
    ) {
        let at = event.sequence;
        if at <= conn.restarted {
            self.report(Guarantee::Framed, &[at], "an event after a restart that followed it");
        }
        if !matches!(conn.stage, Stage::Following) {
            return self.report(
                Guarantee::GapsMarked,
                &[at],
                "an event where a gap or a snapshot is expected",
            );
        }
        let Some(published) = run.get(at) else {
            return self.report(Guarantee::Faithful, &[at], "an event that the journal never had");
        };
        let is_new = self.seen.insert((run.epoch, at));
        if at <= conn.delivered {
            let guarantee = match self.snapshot {
                _ if !is_new => Guarantee::Unique,
                Some(snapshot) if snapshot.epoch == run.epoch && at <= snapshot.sequence => {
                    Guarantee::SnapshotExact
                }
                _ => Guarantee::Ordered,
            };
            self.report(
                guarantee,
                &[at, conn.delivered],
                "events up to the second sequence were delivered before",
            );
        } else {
            self.expect_delivered(conn, run, at - 1, Guarantee::Reliable);
            conn.delivered = at;
        }
        let labelled = match self.recording.layer {
            Layer::Embedded => event.clone(),
            // A message has neither.
            Layer::Wire => Event {
                labels: published.event.labels.clone(),
                initial: published.event.initial,
                late: published.event.late,
                ..event.clone()
            },
        };
        if labelled != published.event {
            self.report(Guarantee::Faithful, &[at], "the event differs from the journal's");
        }
        if !self.recording.filter.passes(&published.event) {
            self.report(
                Guarantee::Filtered,
                &[at],
                format!("the filter {} does not match it", self.recording.filter),
            );
        }
        if self.recording.pods && pod != published.pod.as_ref() || !self.recording.pods && pod.is_some() {
            self.report(Guarantee::StatusExact, &[at], "its pod status is not the one after its change");
        }
        self.skipped(conn, run, &published.event, skipped);
    }

    /// Checks the number of events of the same pod that an event says were skipped before it.
    fn skipped(&mut self, conn: &mut ConnectionState<'a>, run: &'a Run, event: &Event, skipped: u64) {
        let key = key(&event.pod);
        let before = conn.last.insert(key.clone(), event.sequence).unwrap_or(conn.began);
        let missing = run.between(before, event.sequence - 1).iter();
        let missing = missing.filter(|published| {
            published.event.pod == event.pod && self.recording.filter.passes(&published.event)
        });
        let missing = if self.recording.policy == SlowPolicy::LatestPerPod { missing.count() } else { 0 };
        if skipped != missing as u64 {
            let what = format!("{missing} events of {key} were skipped, {skipped} are stated");
            self.report(Guarantee::Reliable, &[event.sequence], what);
        }
        if self
            .skipped_newest
            .get(&key)
            .is_some_and(|(epoch, skipped_newest)| *epoch != run.epoch || *skipped_newest < event.sequence)
        {
            self.skipped_newest.remove(&key);
        }
    }

    /// Every matching event up to `to` must have been delivered.
    fn expect_delivered(
        &mut self,
        conn: &mut ConnectionState<'a>,
        run: &'a Run,
        to: u64,
        guarantee: Guarantee,
    ) {
        for published in run.between(conn.delivered, to) {
            let (at, key) = (published.event.sequence, key(&published.event.pod));
            if !self.recording.filter.passes(&published.event) {
                continue;
            }
            if self.recording.policy == SlowPolicy::LatestPerPod {
                self.skipped_newest.insert(key, (run.epoch, at));
                continue;
            }
            let guarantee = match guarantee {
                Guarantee::Reliable if conn.coming.contains(&at) => Guarantee::Ordered,
                Guarantee::Reliable if conn.resumed => Guarantee::Resumable,
                guarantee => guarantee,
            };
            self.report(
                guarantee,
                &[at, to],
                format!("{} of {key} is missing", published.event.kind.as_str()),
            );
        }
        conn.resumed = false;
    }

    fn bookmark(&mut self, conn: &mut ConnectionState<'a>, run: &'a Run, position: Position) {
        let at = position.sequence;
        if !matches!(conn.stage, Stage::Following) {
            return self.report(Guarantee::Framed, &[at], "a bookmark where a gap or a snapshot is expected");
        }
        if position.epoch != run.epoch || at > run.head() || at < conn.delivered {
            let what = format!("a bookmark at {position}, events were delivered up to {}", conn.delivered);
            return self.report(Guarantee::Bookmarkable, &[at], what);
        }
        self.expect_delivered(conn, run, at, Guarantee::Bookmarkable);
        conn.delivered = at;
    }

    fn gap(&mut self, conn: &mut ConnectionState<'a>, run: &'a Run, gap: Gap) {
        let Gap { reason, from, to } = gap;
        let stage =
            std::mem::replace(&mut conn.stage, Stage::Snapshot { pods: BTreeMap::new(), count: 0, to });
        let expected = match stage {
            Stage::Lost(reason) => Some(reason),
            Stage::Following => Some(GapReason::Compacted),
            Stage::Hello | Stage::Snapshot { .. } => None,
        };
        if self.recording.policy == SlowPolicy::Fail || Some(reason) != expected {
            self.report(Guarantee::GapsMarked, &[from], format!("{gap:?} where {expected:?} is expected"));
        }
        if reason != GapReason::Compacted {
            if from != conn.delivered + 1 || to.is_some() {
                self.report(Guarantee::GapsMarked, &[from], format!("{gap:?} after {}", conn.delivered));
            }
            return;
        }
        // Events that the filter skipped since the last message need no mention.
        if from <= conn.delivered {
            self.report(Guarantee::GapsMarked, &[from], format!("{gap:?} after {}", conn.delivered));
        }
        self.expect_delivered(conn, run, from - 1, Guarantee::GapsMarked);
        if to.is_none_or(|to| to < from || (to - from < run.capacity && from > run.forgotten)) {
            self.report(Guarantee::GapsMarked, &[from], format!("{gap:?} while the events are held"));
        }
    }

    fn end(&mut self, conn: &ConnectionState<'a>, connection: &Connection) {
        match &connection.end {
            End::Lost { reason, oldest } => {
                let expected = match conn.stage {
                    Stage::Lost(reason) => Some(reason),
                    Stage::Following => Some(GapReason::Compacted),
                    _ => None,
                };
                let needless = *reason == GapReason::Compacted && conn.delivered + 1 >= *oldest;
                if self.recording.policy != SlowPolicy::Fail || Some(*reason) != expected || needless {
                    let what = format!("{:?} where {expected:?} is expected", connection.end);
                    self.report(Guarantee::GapsMarked, &[conn.delivered, *oldest], what);
                }
            }
            End::Ending if self.recording.layer == Layer::Embedded && conn.run.is_some() => {
                let last = connection.items.last();
                if !matches!(last, Some(Item::Bookmark(_)))
                    || !conn.run.is_some_and(|run| run.ends.contains(&conn.delivered))
                {
                    let what = "plegd ended without a bookmark at the head";
                    self.report(Guarantee::Bookmarkable, &[conn.delivered], what);
                }
            }
            End::Ending | End::Cut => {}
        }
    }
}

fn identity(pod: &v1::Pod) -> PodIdentity {
    let v1::PodIdentity { uid, namespace, name } = pod.identity.clone().unwrap_or_default();
    PodIdentity { uid: uid.into(), namespace: namespace.into(), name: name.into() }
}

/// The key of a pod. Two pods may have one UID.
fn key(pod: &PodIdentity) -> String {
    format!("{}/{}/{}", pod.namespace, pod.name, pod.uid)
}
