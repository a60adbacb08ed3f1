//! The search: every sequence of acts of a play, up to a number of observations.
//!
//! # What is cut, and why nothing is lost by it
//!
//! The same acts can follow two sequences that lead to the same state in the same moment, and their results depend on the state alone: the
//! pod, its tombstones, the last list, the requested reads, and the memory of the witness. So only the sequence with fewer observations
//! continues: every act that could follow the other follows it too. Published events are part of the state through the witness, which
//! checks them before the cut.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    rc::Rc,
};

use super::{
    super::super::*,
    act::{Act, Menu},
    play::{Happens, Play},
    witness::Objection,
    world::World,
};
use crate::model::*;

/// A search of a play.
pub(super) struct Search {
    pub(super) play: Play,
    pub(super) menu: Menu,
    /// The largest number of observations.
    pub(super) observations: usize,
    /// Each event arrives exactly once, and there is no list at the end.
    pub(super) stream_alone: bool,
}

/// Statistics of a search.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Sequences of observations that the menu allows.
    pub(super) sequences: u128,
    /// Applied acts.
    pub(super) acts: usize,
    /// Different states.
    pub(super) states: usize,
    /// States in which the play ended.
    pub(super) ends: usize,
}

/// The acts that led to a state.
#[derive(Default)]
struct Path(Option<Rc<(Path, Act)>>);

struct Node {
    world: World,
    path: Path,
    /// Events that have arrived, if each arrives once.
    come: u64,
}

type Key = Box<[u64]>;

// === impl Search ===

impl Search {
    /// A search without stripped events, on a runtime with few quirks, of moments that timestamps can order.
    pub(super) fn of(name: &'static str, script: &[Happens], observations: usize) -> Self {
        let (play, menu) =
            (Play::new(name, 100, script), Menu { events: true, reads: true, stripped: false });
        Self { play, menu, observations, stream_alone: false }
    }

    pub(super) fn with_step(mut self, step_ms: u64) -> Self {
        self.play = self.play.with_step(step_ms);
        self
    }

    pub(super) fn begins(mut self, moment: usize) -> Self {
        self.play.begins = moment;
        self
    }

    pub(super) fn on(mut self, runtime: (&'static str, &'static str)) -> Self {
        self.play.runtime = runtime;
        self
    }

    pub(super) fn lying(mut self, id: &'static str, state: ContainerState) -> Self {
        self.play.lie = Some((id, state));
        self
    }

    pub(super) fn stripped(mut self) -> Self {
        self.menu.stripped = true;
        self
    }

    pub(super) fn without_stream(mut self) -> Self {
        (self.play.stream_up, self.menu.events) = (false, false);
        self
    }

    pub(super) fn stream_alone(mut self) -> Self {
        (self.stream_alone, self.menu.reads) = (true, false);
        self
    }

    /// Tries all sequences.
    pub(super) fn run(&self) -> Result<Tally, String> {
        let mut tally = Tally { sequences: self.sequences(), ..Tally::default() };
        let first = Node { world: World::new(&self.play), path: Path::default(), come: 0 };
        let mut arriving: Vec<Vec<Node>> = vec![vec![first]];
        let mut ended: HashSet<Key> = HashSet::new();
        for moment in self.play.begins..=self.play.end() {
            let menu: Vec<(Act, Observation)> = (self.menu.of(&self.play, moment).into_iter())
                .map(|act| (act, act.observation(&self.play, moment)))
                .collect();
            let mut known: HashSet<Key> = HashSet::new();
            let mut leaving: Vec<Vec<Node>> = Vec::new();
            let mut level = 0;
            while level < arriving.len() {
                let mut going = Vec::new();
                let mut nodes = std::mem::take(&mut arriving[level]);
                while let Some(node) = nodes.pop() {
                    if !known.insert(self.key(&node)) {
                        continue;
                    }
                    if level < self.observations {
                        if arriving.len() == level + 1 {
                            arriving.push(Vec::new());
                        }
                        self.follow(&node, &menu, &mut arriving[level + 1], &mut tally)?;
                    }
                    if moment < self.play.end() {
                        going.push(self.pass(node));
                    } else if ended.insert(self.key(&node)) {
                        self.end(&node, &mut tally)?;
                    }
                }
                leaving.push(going);
                level += 1;
            }
            tally.states += known.len();
            arriving = leaving;
        }
        Ok(tally)
    }

    fn follow(
        &self,
        node: &Node,
        menu: &[(Act, Observation)],
        next: &mut Vec<Node>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        for (act, seen) in menu {
            let Some(come) = self.comes(node.come, *act) else { continue };
            if !node.world.allows(*act, seen) {
                continue;
            }
            tally.acts += 1;
            let mut world = node.world.clone();
            let path = node.path.and(*act);
            if let Err(why) = world.act(&self.play, *act, seen) {
                return Err(self.report(&path, &why));
            }
            world.bench.published.clear();
            next.push(Node { world, path, come });
        }
        Ok(())
    }

    fn pass(&self, node: Node) -> Node {
        let path = node.path.and(Act::Pass);
        let mut world = node.world;
        world.moment += 1;
        Node { world, path, come: node.come }
    }

    fn end(&self, node: &Node, tally: &mut Tally) -> Result<(), String> {
        if self.stream_alone && node.come != self.all_events() {
            return Ok(());
        }
        tally.ends += 1;
        let mut world = node.world.clone();
        world.end(&self.play, !self.stream_alone).map_err(|why| self.report(&node.path, &why))
    }

    /// The events that have arrived after this act; none if the act is not possible any more.
    fn comes(&self, come: u64, act: Act) -> Option<u64> {
        match act {
            Act::Event { of, .. } if self.stream_alone => (come & (1 << of) == 0).then_some(come | (1 << of)),
            _ => Some(come),
        }
    }

    fn all_events(&self) -> u64 {
        let stream_events =
            self.play.moments.iter().enumerate().filter(|(_, moment)| moment.stream_event.is_some());
        stream_events.fold(0, |all, (at, _)| all | (1 << at))
    }

    /// The number of complete sequences that the menu of each moment allows.
    fn sequences(&self) -> u128 {
        // By the number of observations, the arrived events, and when the last list ended.
        let mut ways: HashMap<(usize, u64, Option<usize>), u128> = HashMap::from([((0, 0, None), 1)]);
        for moment in self.play.begins..=self.play.end() {
            let menu = self.menu.of(&self.play, moment);
            for level in 0..self.observations {
                let here: Vec<_> =
                    ways.iter().filter(|(at, _)| at.0 == level).map(|(at, n)| (*at, *n)).collect();
                for ((_, come, listed), n) in here {
                    for act in &menu {
                        let Some(come) = self.comes(come, *act) else { continue };
                        let listed = match act {
                            Act::List { began, .. } if listed.is_some_and(|ended| *began <= ended) => {
                                continue;
                            }
                            Act::List { .. } => Some(moment),
                            _ => listed,
                        };
                        let to = ways.entry((level + 1, come, listed)).or_default();
                        *to = to.saturating_add(n);
                    }
                }
            }
        }
        let complete = |at: &(usize, u64, Option<usize>)| !self.stream_alone || at.1 == self.all_events();
        ways.iter().filter(|(at, _)| complete(at)).map(|(_, n)| n).sum()
    }

    /// The state on which the results of all later acts depend.
    fn key(&self, node: &Node) -> Key {
        let world = &node.world;
        let mut key: Vec<u64> = Vec::with_capacity(64);
        let at = |moment: Mono| moment.since(Mono::ZERO).as_nanos() as u64;
        let maybe = |moment: Option<Mono>| moment.map_or(0, |moment| at(moment) + 1);
        key.extend([node.come, maybe(world.bench.listed), world.listed_in.map_or(0, |it| it as u64 + 1)]);
        for (n, (id, history)) in self.play.ids().zip(&world.witness.0).enumerate() {
            let flags = [
                history.observed_dead,
                history.observed_any,
                history.reported_deleted,
                history.published_any,
            ];
            let flags = flags.into_iter().chain([history.published_removal, history.published_start]);
            let flags = flags.fold(0, |bits, flag| bits << 1 | u64::from(flag));
            let phase = |phase: Option<Phase>| phase.map_or(0, |phase| phase as u64 + 1);
            key.push(
                (n as u64) << 32
                    | flags << 9
                    | phase(history.observed) << 6
                    | phase(history.reported) << 3
                    | phase(history.published),
            );
            if let Some((lower, upper, seen)) = history.last_read {
                key.extend([at(lower), at(upper), phase(seen)]);
            }
            key.extend([
                maybe(world.bench.tombstones.get(id).copied()),
                maybe(world.requested.get(id).copied()),
            ]);
            let Some(record) = world.bench.pod.records.get(id) else { continue };
            #[rustfmt::skip]
            let Record {
                status, published_phase, phases_seen_in_lists, phases_listed_at: _, interval, content_confirmed_at, was_corrected, last_absent_at,
                pending_correction, awaited_death, deletion_event, recheck_schedule, visibility, listed_at: _, first_seen: _, saved: _, is_partial: _,
            } = &**record;
            key.extend([
                maybe(interval.lower),
                at(interval.upper),
                phase(*published_phase),
                phases_seen_in_lists.iter().fold(0, |bits, phase| bits | 1 << *phase as u64),
                maybe(*content_confirmed_at),
                maybe(*last_absent_at),
                u64::from(*was_corrected),
                *visibility as u64,
                self.number(status),
            ]);
            let rechecks = recheck_schedule.after;
            key.push(
                rechecks.len() as u64 + rechecks.iter().map(|it| it.as_millis() as u64 * 100).sum::<u64>(),
            );
            let pending = pending_correction.map(|it| [it.phase as u64 + 1, at(it.read_ended)]);
            let awaited = awaited_death.map(|it| [at(it.since), at(it.removed_at)]);
            let deletion = deletion_event.map(|it| [1, it.stamped_at.map_or(0, |it| it.as_nanos() as u64)]);
            key.extend([pending, awaited, deletion].into_iter().flat_map(Option::unwrap_or_default));
        }
        key.push(world.bench.pod.ips.len() as u64);
        key.extend(
            world
                .bench
                .pod
                .labels
                .get("app")
                .map(|app| u64::from(app.as_bytes().last().copied().unwrap_or(0))),
        );
        key.into()
    }

    /// A number for a status: its index in the true history, or a digest.
    fn number(&self, status: &Status) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let known =
            self.play.history.get(status.id()).and_then(|known| known.iter().position(|it| it == status));
        known.map_or_else(
            || {
                let mut digest = DefaultHasher::new();
                format!("{status:?}").hash(&mut digest);
                digest.finish() | 1 << 63
            },
            |known| known as u64,
        )
    }

    /// A report of an objection: all acts, and the command that runs the case alone.
    fn report(&self, path: &Path, why: &Objection) -> String {
        let acts = path.acts();
        let (log, _) = self.replay(&acts);
        let words: Vec<String> = acts.iter().map(Act::to_string).collect();
        format!(
            "{why}\n\n{log}\nto run this case alone:\n  PLEGD_CASE='{}: {}' cargo test --lib a_case_alone -- --ignored --nocapture\n",
            self.play.name,
            words.join(" "),
        )
    }

    /// Applies these acts alone, and logs the result of each.
    pub(super) fn replay(&self, acts: &[Act]) -> (String, Result<(), Objection>) {
        let mut lines = Vec::new();
        let mut world = World::new(&self.play);
        let title = |moment: usize| format!("moment {moment}: {}", self.play.moments[moment].what);
        lines.push(title(world.moment));
        let mut result = Ok(());
        for act in acts {
            world.log = Some(String::new());
            result = world.act(&self.play, *act, &act.observation(&self.play, world.moment));
            match act {
                Act::Pass => lines.push(title(world.moment)),
                _ => lines.push(format!("  {act}: {}", world.log.take().unwrap_or_default())),
            }
            if result.is_err() {
                break;
            }
        }
        let requested: Vec<&str> = world.requested.keys().map(ObjectId::as_str).collect();
        lines.push(format!("  requested: {requested:?}"));
        if result.is_ok() {
            while world.moment < self.play.end() {
                world.moment += 1;
                lines.push(title(world.moment));
            }
            world.log = Some(String::new());
            result = world.end(&self.play, !self.stream_alone);
            lines.push(format!("the end: {}", world.log.take().unwrap_or_default()));
        }
        if let Err(why) = &result {
            lines.push(format!("objection: {why}"));
        }
        (lines.join("\n") + "\n", result)
    }
}

// === impl Tally ===

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequences, acts, states, ends } = self;
        write!(f, "{sequences} sequences, {acts} acts in {states} states, {ends} ends")
    }
}

// === impl Path ===

impl Path {
    fn and(&self, act: Act) -> Self {
        Self(Some(Rc::new((Path(self.0.clone()), act))))
    }

    fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut at = &self.0;
        while let Some(step) = at {
            acts.push(step.1);
            at = &step.0.0;
        }
        acts.reverse();
        acts
    }
}
