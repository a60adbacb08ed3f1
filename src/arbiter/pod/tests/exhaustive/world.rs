//! A world: the state of plegd at a moment of a play, and the end of the play.

use std::{cmp::Reverse, fmt::Write};

use super::{
    super::{
        super::*,
        bench::{Bench, word},
    },
    act::{Act, empty_read},
    play::Play,
    witness::{Objection, Witness},
};
use crate::{arbiter::read_request::Scope, model::*};

/// How long after the play a read begins that was not requested for a certain time.
const LATER: Duration = Duration::from_secs(10);
/// How often plegd may request reads after the last change.
const ROUNDS: usize = 12;

/// The state of plegd at a moment.
#[derive(Clone)]
pub(super) struct World {
    pub(super) bench: Bench,
    pub(super) moment: usize,
    /// Requested reads, and when they may begin.
    pub(super) requested: BTreeMap<ObjectId, Mono>,
    /// In which moment the last list ended: lists do not overlap.
    pub(super) listed_in: Option<usize>,
    pub(super) witness: Witness,
    /// A log of the results, if it is enabled.
    pub(super) log: Option<String>,
}

// === impl World ===

impl World {
    pub(super) fn new(play: &Play) -> Self {
        let mut bench = Bench::on(play.runtime.0, play.runtime.1);
        bench.began = play.began();
        bench.stream_up = play.stream_up;
        let (requested, listed_in) = (BTreeMap::new(), None);
        Self { bench, moment: play.begins, requested, listed_in, witness: Witness::of(play), log: None }
    }

    /// Whether an act is possible in this state.
    pub(super) fn allows(&self, act: Act, seen: &Observation) -> bool {
        match (act, &seen.stream_event) {
            (Act::List { began, .. }, _) => self.listed_in.is_none_or(|ended| began > ended),
            // The pod of an event with an empty payload is found by an id with a record; otherwise the event is not applied to a pod.
            (Act::Event { .. }, Some(event)) => {
                let shows = !seen.sandboxes.is_empty() || !seen.containers.is_empty();
                shows || self.bench.pod.records.contains_key(&event.id)
            }
            _ => true,
        }
    }

    /// Applies an act.
    pub(super) fn act(&mut self, play: &Play, act: Act, seen: &Observation) -> Result<(), Objection> {
        match act {
            Act::Pass => self.moment += 1,
            Act::Event { .. } => self.apply(play, seen, play.time(self.moment, 9))?,
            Act::Read { began, .. } => {
                self.read(play, play.time(began, 5), seen, play.time(self.moment, 9))?
            }
            Act::List { .. } => {
                self.listed_in = Some(self.moment);
                let ended = play.time(self.moment, 7);
                let listed =
                    Observation { interval: Interval { upper: ended, ..seen.interval }, ..seen.clone() };
                self.list(play, &listed, play.time(self.moment, 8), play.time(self.moment, 9))?;
            }
        }
        let requested = |id: &ObjectId| self.requested.contains_key(id);
        self.witness.nothing_is_left_out(play, self.moment, &self.bench.pod, &requested)
    }

    /// The end of the play: the requested reads, and one list if `with_list` is set. Then the truth must be served.
    pub(super) fn end(&mut self, play: &Play, with_list: bool) -> Result<(), Objection> {
        let mut now = self.read_what_is_asked_for(play, play.time(play.end(), 9))?;
        if with_list {
            now = now + LATER;
            let listed = self.whole(play, now);
            let (from, to) = (now + Duration::from_millis(2), now + Duration::from_millis(3));
            self.list(play, &listed, from, to)?;
            now = self.read_what_is_asked_for(play, to)?;
        }
        self.is_as_it_is(play)?;
        for _ in 0..2 {
            now = now + LATER;
            let seen = self.whole(play, now);
            let published = self.bench.published.len();
            self.read(play, now, &seen, seen.interval.upper)?;
            if self.bench.published.len() > published {
                return Err(format!("a late read has published {:?}", &self.bench.published[published..]));
            }
            self.is_as_it_is(play)?;
        }
        self.witness.nothing_is_left_out(play, self.moment, &self.bench.pod, &|_| false)
    }

    fn apply(&mut self, play: &Play, seen: &Observation, now: Mono) -> Result<(), Objection> {
        let before = self.bench.pod.clone();
        let out = self.bench.apply_at(seen, now);
        if let Some(log) = &mut self.log {
            let published: Vec<String> = out.transitions.iter().map(word).collect();
            let _ = write!(log, " {:?} published {published:?}", out.verdicts);
        }
        for request in &out.reads {
            let Scope::Ids(ids) = &request.scope else {
                return Err("a pod requests a read of the whole pod".into());
            };
            for id in ids {
                let due = self.requested.entry(id.clone()).or_insert(Mono::ZERO);
                *due = (*due).max(now + request.after);
            }
        }
        self.witness.check(play, self.moment, seen, &before, &self.bench.pod, &out)?;
        self.witness.nothing_is_invented(play, &self.bench.pod)
    }

    /// A read of the pod, or of some of its ids, has ended: requests from before it began are done.
    fn read(&mut self, play: &Play, lower: Mono, seen: &Observation, now: Mono) -> Result<(), Objection> {
        let ids = seen.ids();
        self.requested.retain(|id, due| *due > lower || !ids.contains(id));
        for id in ids.iter().filter(|id| !self.requested.contains_key(*id)) {
            self.witness.decided(play, id);
        }
        self.apply(play, seen, now)
    }

    /// A list has ended; ids that differ are read from `from` to `to`, as by the relister.
    fn list(&mut self, play: &Play, listed: &Observation, from: Mono, to: Mono) -> Result<(), Objection> {
        let lower = listed.interval.lower.unwrap_or(from);
        self.bench.listed = Some(lower);
        let sandboxes = listed.sandboxes.iter().map(|it| (it.id.as_str(), Some(it.state.phase())));
        let containers = listed.containers.iter().map(|it| (it.id.as_str(), it.state.phase()));
        let objects: Vec<_> = sandboxes
            .chain(containers)
            .map(|(id, phase)| ListedObject { id, phase, sandbox_id: None })
            .collect();
        let tombstones = self.bench.tombstones.clone();
        let held =
            (!self.bench.pod.is_empty()).then(|| self.bench.pod.reconcile_list(lower, lower, &objects));
        let difference = held.unwrap_or_else(|| Difference::all_new(&objects));
        let difference = difference.without_removed_during(lower, &|id| tombstones.get(id).copied());
        if !difference.absent.is_empty() {
            let (interval, absent) = (listed.interval, difference.absent);
            let gone =
                Observation { absent, interval, ..empty_read(play, self.moment, lower, interval.upper) };
            self.apply(play, &gone, listed.interval.upper)?;
        }
        if difference.changed.is_empty() {
            return Ok(());
        }
        let truth = &play.moments[self.moment.min(play.end())];
        let mut seen = empty_read(play, self.moment, from, to);
        let mut cut_down = Observation {
            origin: Origin::List,
            detail: Detail::Minimal,
            interval: listed.interval,
            ..seen.clone()
        };
        for id in difference.changed {
            match truth.find(&id) {
                Some(status) => seen.show(status),
                None => {
                    cut_down.show_of_list(listed, &id);
                    seen.absent.push(id);
                }
            }
        }
        if !cut_down.sandboxes.is_empty() || !cut_down.containers.is_empty() {
            self.apply(play, &cut_down, to)?;
        }
        self.read(play, from, &seen, to)
    }

    fn read_what_is_asked_for(&mut self, play: &Play, mut now: Mono) -> Result<Mono, Objection> {
        for _ in 0..ROUNDS {
            let Some(due) = self.requested.values().max().copied() else { return Ok(now) };
            now = (now + LATER).max(due);
            let mut seen = self.whole(play, now);
            seen.only(&self.requested.keys().cloned().collect::<Vec<_>>());
            self.read(play, now, &seen, seen.interval.upper)?;
            now = seen.interval.upper;
        }
        Err(format!("plegd requests reads without end: {:?}", self.requested))
    }

    /// A read of the whole pod at the end.
    fn whole(&self, play: &Play, lower: Mono) -> Observation {
        let mut seen = Act::Read { began: play.end(), view: play.end() }.observation(play, play.end());
        seen.interval = Interval { lower: Some(lower), upper: lower + Duration::from_millis(1) };
        seen
    }

    /// The served pod is true, field by field.
    fn is_as_it_is(&self, play: &Play) -> Result<(), Objection> {
        let truth = &play.moments[play.end()];
        let served = self.bench.pod.served();
        let Some(pod) = served else {
            let nothing = truth.sandboxes.is_empty() && truth.containers.is_empty();
            return if nothing { Ok(()) } else { Err("in the end, no pod is served".into()) };
        };
        let mut sandboxes: Vec<SandboxStatus> = truth.sandboxes.clone();
        sandboxes.sort_by_key(|it| Reverse((it.attempt, it.created_at)));
        let mut containers: Vec<ContainerStatus> = truth.containers.clone();
        containers.sort_by_key(|it| Reverse((it.attempt, it.created_at)));
        let held_sandboxes: Vec<SandboxStatus> = pod.sandboxes.iter().map(|it| (**it).clone()).collect();
        let held_containers: Vec<ContainerStatus> = pod.containers.iter().map(|it| (**it).clone()).collect();
        if (&held_sandboxes, &held_containers) != (&sandboxes, &containers) {
            return Err(format!("in the end, this pod is served: {pod:?}"));
        }
        let newest = sandboxes.first();
        let ips = newest.filter(|it| it.state == SandboxState::Ready).map(|it| it.ips.clone());
        if ips.is_some_and(|ips| ips != pod.ips) || newest.is_some_and(|it| it.labels != pod.labels) {
            return Err(format!("in the end, the pod has {:?} and {:?}", pod.ips, pod.labels));
        }
        Ok(())
    }
}

impl Observation {
    fn ids(&self) -> Vec<ObjectId> {
        let containers = self.containers.iter().map(|it| it.id.clone());
        let sandboxes = self.sandboxes.iter().map(|it| it.id.clone());
        containers.chain(sandboxes).chain(self.absent.iter().cloned()).collect()
    }

    fn only(&mut self, ids: &[ObjectId]) {
        self.containers.retain(|it| ids.contains(&it.id));
        self.sandboxes.retain(|it| ids.contains(&it.id));
        self.absent.retain(|id| ids.contains(id));
    }

    fn show(&mut self, status: Status) {
        match status {
            Status::Container(it) => self.containers.push(it),
            Status::Sandbox(it) => self.sandboxes.push(it),
        }
    }

    /// The entry of a list for an id.
    fn show_of_list(&mut self, listed: &Observation, id: &ObjectId) {
        let containers = listed.containers.iter().filter(|it| it.id == *id);
        self.containers.extend(containers.cloned().map(|mut full| {
            let stripped = Arc::make_mut(&mut full);
            (stripped.started_at, stripped.finished_at, stripped.exit_code) = (None, None, None);
            (stripped.reason, stripped.image, stripped.image_ref) =
                (String::new(), String::new(), String::new());
            stripped.labels = Labels::new();
            full
        }));
        let sandboxes = listed.sandboxes.iter().filter(|it| it.id == *id);
        self.sandboxes.extend(sandboxes.cloned().map(|mut full| {
            let stripped = Arc::make_mut(&mut full);
            (stripped.ips, stripped.labels) = (Vec::new(), Labels::new());
            full
        }));
    }
}
