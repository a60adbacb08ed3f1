//! A walk through what one subscriber received, message by message.

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
    checker::{Promise, Violation},
    record::{Connection, End, Item, Layer, Recording, Run, Told},
};

/// What is known of a subscriber at a point of its recording.
pub(super) struct Walk<'a> {
    runs: &'a [Run],
    recording: &'a Recording,
    found: Vec<Violation>,
    /// Events that came, over all connections: epoch and number.
    seen: BTreeSet<(u64, u64)>,
    /// Of each pod, the newest event that was left out for a newer one that has not come yet.
    owed: BTreeMap<String, (u64, u64)>,
    /// Up to here the last snapshot had it all, and of which run.
    snapshot: Option<Position>,
    number: usize,
}

/// What is known of its present connection.
struct Here<'a> {
    asked: Start,
    run: Option<&'a Run>,
    stage: Stage,
    mode: v1::Mode,
    /// All up to here was told.
    told: u64,
    /// Of each pod, the last event that was told on this connection.
    last: BTreeMap<String, u64>,
    /// Where it began, and whether anything has come since.
    began: u64,
    resumed: bool,
    /// All events of the connection.
    coming: BTreeSet<u64>,
}

enum Stage {
    Hello,
    /// What follows a position that is lost: why.
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
            owed: BTreeMap::new(),
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
        let Some((epoch, told)) = last.filter(|_| self.recording.drained) else { return self.found };
        let Some(run) = self.runs.last() else { return self.found };
        if (epoch, told) != (run.epoch, run.head()) {
            let what = format!("it read until nothing came, and was told up to {told} of {}", run.head());
            self.object(Promise::Reliable, &[told], what);
        }
        for (pod, (_, sequence)) in std::mem::take(&mut self.owed) {
            self.object(Promise::Reliable, &[sequence], format!("no newer event of {pod} has come"));
        }
        self.found
    }

    fn object(&mut self, promise: Promise, at: &[u64], what: impl Into<String>) {
        self.found.push(Violation {
            promise,
            subscriber: self.recording.name.clone(),
            connection: self.number,
            at: at.to_vec(),
            what: what.into(),
        });
    }

    /// Where it got to, if anywhere.
    fn connection(&mut self, connection: &'a Connection) -> Option<(u64, u64)> {
        let coming = connection.items.iter().filter_map(|item| match item {
            Item::Event { event, .. } => Some(event.sequence),
            _ => None,
        });
        let mut here = Here {
            asked: connection.asked,
            run: None,
            stage: Stage::Hello,
            mode: v1::Mode::Unspecified,
            told: 0,
            last: BTreeMap::new(),
            began: 0,
            resumed: matches!(connection.asked, Start::After(_)),
            coming: coming.collect(),
        };
        for item in &connection.items {
            self.item(&mut here, item);
        }
        self.end(&here, connection);
        here.run.map(|run| (run.epoch, here.told))
    }

    fn item(&mut self, here: &mut Here<'a>, item: &'a Item) {
        if let Item::Hello { epoch, head, oldest, mode } = item {
            return self.hello(here, Position { epoch: *epoch, sequence: *head }, *oldest, *mode);
        }
        let Some(run) = here.run else {
            return self.object(Promise::Framed, &[], format!("{} before hello", item.word()));
        };
        match item {
            Item::Hello { .. } => {}
            Item::Pod(pod) => self.pod(here, pod),
            Item::SnapshotEnd { position, pods } => self.snapshot_end(here, run, *position, *pods),
            Item::Event { event, pod, skipped } => self.event(here, run, event, pod.as_ref(), *skipped),
            Item::Bookmark(position) => self.bookmark(here, run, *position),
            Item::Gap(gap) => self.gap(here, run, *gap),
            Item::Mode { mode, previous } => {
                if *previous != here.mode || mode == previous {
                    let what = format!("{} after {:?}", item.word(), here.mode);
                    self.object(Promise::Framed, &[here.told], what);
                }
                here.mode = *mode;
            }
        }
    }

    fn hello(&mut self, here: &mut Here<'a>, head: Position, oldest: u64, mode: v1::Mode) {
        let run = self.runs.iter().find(|run| run.epoch == head.epoch);
        let (Stage::Hello, Some(run)) = (&here.stage, run) else {
            return self.object(Promise::Framed, &[head.sequence], "hello twice, or of an unknown epoch");
        };
        if head.sequence > run.head() || oldest > head.sequence + 1 {
            self.object(Promise::Framed, &[oldest, head.sequence], "hello of what the journal never had");
        }
        if run.is_within_a_change(head.sequence) {
            self.object(Promise::Atomic, &[head.sequence], "hello stands within a change");
        }
        (here.run, here.mode) = (Some(run), mode);
        here.told = head.sequence;
        here.stage = match here.asked {
            Start::Snapshot => Stage::Snapshot { pods: BTreeMap::new(), count: 0, to: None },
            Start::Now => Stage::Following,
            Start::Oldest => {
                here.told = oldest.saturating_sub(1);
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
                here.told = after.sequence;
                lost.map_or(Stage::Following, Stage::Lost)
            }
        };
        here.began = here.told;
    }

    fn pod(&mut self, here: &mut Here<'a>, pod: &Arc<v1::Pod>) {
        let Stage::Snapshot { pods, count, .. } = &mut here.stage else {
            return self.object(Promise::GapsMarked, &[pod.sequence], "a snapshot that no gap has announced");
        };
        *count += 1;
        let key = key(&identity(pod));
        if pods.insert(key.clone(), pod.clone()).is_some() {
            self.object(Promise::SnapshotExact, &[pod.sequence], format!("{key} is in it twice"));
        }
    }

    fn snapshot_end(&mut self, here: &mut Here<'a>, run: &'a Run, position: Position, promised: u64) {
        let stage = std::mem::replace(&mut here.stage, Stage::Following);
        let Stage::Snapshot { mut pods, count, to } = stage else {
            let what = "the end of a snapshot that has not begun";
            return self.object(Promise::GapsMarked, &[position.sequence], what);
        };
        let at = position.sequence;
        if count != promised || position.epoch != run.epoch || at > run.head() {
            self.object(Promise::SnapshotExact, &[at], format!("{count} pods came, said are {promised}"));
        }
        if run.is_within_a_change(at) {
            self.object(Promise::Atomic, &[at], "the snapshot has a part of a change");
        }
        if to.is_some_and(|to| to != at) {
            self.object(Promise::GapsMarked, &[at], format!("the gap was to end at {to:?}"));
        }
        let mut states: BTreeMap<String, &Told> = BTreeMap::new();
        run.between(0, at).iter().for_each(|told| {
            states.insert(key(&told.event.pod), told);
        });
        for (key, told) in states {
            let there = told.pod.as_deref().filter(|pod| {
                self.recording.filter.passes_pod(&identity(pod), &pod.labels.clone().into_iter().collect())
            });
            match (there, pods.remove(&key)) {
                (None, None) => {}
                (Some(_), None) => self.object(Promise::SnapshotExact, &[at], format!("{key} is not in it")),
                (None, Some(_)) => {
                    let promise = if told.pod.is_some() { Promise::Filtered } else { Promise::SnapshotExact };
                    self.object(promise, &[at], format!("{key} is in it"));
                }
                (Some(there), Some(sent)) => {
                    // Its number may be later: something was looked at since, and nothing was found.
                    let as_of_then = v1::Pod { sequence: there.sequence, ..sent.as_ref().clone() };
                    if *there != as_of_then || sent.sequence < there.sequence || sent.sequence > at {
                        let what = format!("{key} is in it as it was at another time");
                        self.object(Promise::SnapshotExact, &[at, sent.sequence, there.sequence], what);
                    }
                }
            }
        }
        for key in pods.keys() {
            self.object(Promise::SnapshotExact, &[at], format!("{key} is in it, and never was there"));
        }
        (here.told, here.began, here.resumed) = (at, at, false);
        here.last.clear();
        self.owed.clear();
        self.snapshot = Some(position);
    }

    fn event(
        &mut self,
        here: &mut Here<'a>,
        run: &'a Run,
        event: &Event,
        pod: Option<&Arc<v1::Pod>>,
        skipped: u64,
    ) {
        let at = event.sequence;
        if !matches!(here.stage, Stage::Following) {
            return self.object(Promise::GapsMarked, &[at], "an event where a gap or a snapshot is due");
        }
        let Some(told) = run.get(at) else {
            return self.object(Promise::Faithful, &[at], "an event that the journal never had");
        };
        let is_new = self.seen.insert((run.epoch, at));
        if at <= here.told {
            let promise = match self.snapshot {
                _ if !is_new => Promise::Unique,
                Some(snapshot) if snapshot.epoch == run.epoch && at <= snapshot.sequence => {
                    Promise::SnapshotExact
                }
                _ => Promise::Ordered,
            };
            self.object(promise, &[at, here.told], "it had been told up to the second number");
        } else {
            self.passed(here, run, at - 1, Promise::Reliable);
            here.told = at;
        }
        let labelled = match self.recording.layer {
            Layer::Embedded => event.clone(),
            // The message has neither.
            Layer::Wire => {
                Event { labels: told.event.labels.clone(), initial: told.event.initial, ..event.clone() }
            }
        };
        if labelled != told.event {
            self.object(Promise::Faithful, &[at], "it differs from the journal's");
        }
        if !self.recording.filter.passes(&told.event) {
            self.object(
                Promise::Filtered,
                &[at],
                format!("{} does not let it through", self.recording.filter),
            );
        }
        if self.recording.pods && pod != told.pod.as_ref() || !self.recording.pods && pod.is_some() {
            self.object(Promise::StatusExact, &[at], "its pod is not the one after its change");
        }
        self.skipped(here, run, &told.event, skipped);
    }

    /// Whether as many events of its pod were left out before an event as it says.
    fn skipped(&mut self, here: &mut Here<'a>, run: &'a Run, event: &Event, skipped: u64) {
        let key = key(&event.pod);
        let before = here.last.insert(key.clone(), event.sequence).unwrap_or(here.began);
        let missing = run.between(before, event.sequence - 1).iter();
        let missing =
            missing.filter(|told| told.event.pod == event.pod && self.recording.filter.passes(&told.event));
        let missing = if self.recording.policy == SlowPolicy::LatestPerPod { missing.count() } else { 0 };
        if skipped != missing as u64 {
            let what = format!("{missing} events of {key} are left out, said are {skipped}");
            self.object(Promise::Reliable, &[event.sequence], what);
        }
        if self.owed.get(&key).is_some_and(|(epoch, owed)| *epoch != run.epoch || *owed < event.sequence) {
            self.owed.remove(&key);
        }
    }

    /// All that passes the filter up to `to` must have been told by now.
    fn passed(&mut self, here: &mut Here<'a>, run: &'a Run, to: u64, promise: Promise) {
        for told in run.between(here.told, to) {
            let (at, key) = (told.event.sequence, key(&told.event.pod));
            if !self.recording.filter.passes(&told.event) {
                continue;
            }
            if self.recording.policy == SlowPolicy::LatestPerPod {
                self.owed.insert(key, (run.epoch, at));
                continue;
            }
            let promise = match promise {
                Promise::Reliable if here.coming.contains(&at) => Promise::Ordered,
                Promise::Reliable if here.resumed => Promise::Resumable,
                promise => promise,
            };
            self.object(promise, &[at, to], format!("{} of {key} is left out", told.event.kind.as_str()));
        }
        here.resumed = false;
    }

    fn bookmark(&mut self, here: &mut Here<'a>, run: &'a Run, position: Position) {
        let at = position.sequence;
        if !matches!(here.stage, Stage::Following) {
            return self.object(Promise::Framed, &[at], "a bookmark where a gap or a snapshot is due");
        }
        if position.epoch != run.epoch || at > run.head() || at < here.told {
            let what = format!("a bookmark at {position}, told was up to {}", here.told);
            return self.object(Promise::Bookmarkable, &[at], what);
        }
        self.passed(here, run, at, Promise::Bookmarkable);
        here.told = at;
    }

    fn gap(&mut self, here: &mut Here<'a>, run: &'a Run, gap: Gap) {
        let Gap { reason, from, to } = gap;
        let stage =
            std::mem::replace(&mut here.stage, Stage::Snapshot { pods: BTreeMap::new(), count: 0, to });
        let expected = match stage {
            Stage::Lost(reason) => Some(reason),
            Stage::Following => Some(GapReason::Compacted),
            Stage::Hello | Stage::Snapshot { .. } => None,
        };
        if self.recording.policy == SlowPolicy::Fail || Some(reason) != expected {
            self.object(Promise::GapsMarked, &[from], format!("{gap:?} where {expected:?} is due"));
        }
        if reason != GapReason::Compacted {
            if from != here.told + 1 || to.is_some() {
                self.object(Promise::GapsMarked, &[from], format!("{gap:?} after {}", here.told));
            }
            return;
        }
        // What it has passed over since the last message need not be said.
        if from <= here.told {
            self.object(Promise::GapsMarked, &[from], format!("{gap:?} after {}", here.told));
        }
        self.passed(here, run, from - 1, Promise::GapsMarked);
        if to.is_none_or(|to| to < from || to - from < run.capacity) {
            self.object(Promise::GapsMarked, &[from], format!("{gap:?} while they are held"));
        }
    }

    fn end(&mut self, here: &Here<'a>, connection: &Connection) {
        match &connection.end {
            End::Lost { reason, oldest } => {
                let expected = match here.stage {
                    Stage::Lost(reason) => Some(reason),
                    Stage::Following => Some(GapReason::Compacted),
                    _ => None,
                };
                let needless = *reason == GapReason::Compacted && here.told + 1 >= *oldest;
                if self.recording.policy != SlowPolicy::Fail || Some(*reason) != expected || needless {
                    let what = format!("{:?} where {expected:?} is due", connection.end);
                    self.object(Promise::GapsMarked, &[here.told, *oldest], what);
                }
            }
            End::Ending if self.recording.layer == Layer::Embedded && here.run.is_some() => {
                let last = connection.items.last();
                if !matches!(last, Some(Item::Bookmark(_))) || here.run.map(Run::head) != Some(here.told) {
                    let what = "plegd ended without a bookmark at the head";
                    self.object(Promise::Bookmarkable, &[here.told], what);
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

/// What pods are told apart by: two may have one UID.
fn key(pod: &PodIdentity) -> String {
    format!("{}/{}/{}", pod.namespace, pod.name, pod.uid)
}
