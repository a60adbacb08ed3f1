//! What may come to plegd in a moment: everything that a source could say then.

use std::{fmt, sync::Arc};

use super::{
    super::bench::{container, event, read},
    play::Play,
};
use crate::model::*;

/// One thing that happens to plegd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The next moment comes.
    Pass,
    /// An event is delivered: of what happened at a moment, with the pod as it was seen at some moment before it was
    /// stamped.
    Event { of: usize, saw: Saw, stamped: Stamped },
    /// A read of the whole pod ends.
    Read { began: usize, saw: usize },
    /// A list ends, and what differs is read at once.
    List { began: usize, saw: usize },
}

/// What an event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saw {
    /// The pod as it was at a moment.
    Pod(usize),
    /// The same, but for one container that is shown as it never was.
    Lie(usize),
    /// The container that it is about alone, cut down.
    Minimal(usize),
    /// Nothing.
    Nothing,
}

/// When an event says that it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamped {
    At(usize),
    /// The interval is none: its receipt has to do.
    Unknown,
}

/// Which kinds of acts there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Menu {
    pub(super) events: bool,
    /// Reads and lists.
    pub(super) reads: bool,
    /// Events that were cut down, too.
    pub(super) lean: bool,
}

// === impl Menu ===

impl Menu {
    /// All that may come in this moment.
    pub(super) fn of(self, play: &Play, now: usize) -> Vec<Act> {
        let mut acts = Vec::new();
        for of in (0..=now).filter(|of| self.events && play.moments[*of].signal.is_some()) {
            // What it carries may be as old as the moment before; older is another event's.
            for seen in of.saturating_sub(1)..=now {
                let mut payloads = vec![Saw::Pod(seen)];
                if play.lie.is_some() {
                    payloads.push(Saw::Lie(seen));
                }
                if self.lean {
                    payloads.push(Saw::Minimal(seen));
                }
                if seen == of {
                    payloads.push(Saw::Nothing);
                }
                for saw in payloads {
                    let first = of.max(seen);
                    let late = (now > first).then_some(Stamped::At(now));
                    let stamps = [Stamped::At(first), Stamped::Unknown].into_iter().chain(late);
                    acts.extend(stamps.map(|stamped| Act::Event { of, saw, stamped }));
                }
            }
        }
        for began in (play.begins..=now).filter(|_| self.reads) {
            acts.extend((began..=now).map(|saw| Act::Read { began, saw }));
            acts.extend((began..=now).map(|saw| Act::List { began, saw }));
        }
        acts
    }
}

// === impl Act ===

impl Act {
    /// What it says, for an event or a read that comes now.
    pub(super) fn observation(self, play: &Play, now: usize) -> Observation {
        match self {
            Act::Event { of, saw, stamped } => of_event(play, now, of, saw, stamped),
            Act::Read { began, saw } | Act::List { began, saw } => {
                let moment = &play.moments[saw];
                let mut it = empty_read(play, now, play.time(began, 5), play.time(now, 9));
                it.sandboxes = shared(&moment.sandboxes);
                it.containers = shared(&moment.containers);
                it.absent = play.absent(saw);
                it
            }
            Act::Pass => empty_read(play, now, play.time(now, 9), play.time(now, 9)),
        }
    }

    /// The act that is written like this.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let numbers: Vec<usize> = word
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().unwrap_or_default())
            .collect();
        Some(match (word.chars().next()?, numbers.as_slice()) {
            ('.', []) => Act::Pass,
            ('r', [began, saw]) => Act::Read { began: *began, saw: *saw },
            ('l', [began, saw]) => Act::List { began: *began, saw: *saw },
            ('e', [of, rest @ ..]) => {
                let (seen, interval) =
                    if word.contains('n') { (0, rest.first()) } else { (*rest.first()?, rest.get(1)) };
                let saw = match word.chars().find(|c| "plcn".contains(*c))? {
                    'p' => Saw::Pod(seen),
                    'l' => Saw::Lie(seen),
                    'c' => Saw::Minimal(seen),
                    _ => Saw::Nothing,
                };
                Act::Event { of: *of, saw, stamped: interval.map_or(Stamped::Unknown, |at| Stamped::At(*at)) }
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Act {
    /// A word that [`Act::parse`] reads: `e2p1s3` is the event of moment 2 that saw the pod at 1 and was stamped in 3,
    /// `r0v1` a read from moment 0 on that saw the pod at 1, `l0v1` a list, `.` that the next moment comes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Pass => write!(f, "."),
            Act::Read { began, saw } => write!(f, "r{began}v{saw}"),
            Act::List { began, saw } => write!(f, "l{began}v{saw}"),
            Act::Event { of, saw, stamped } => {
                write!(f, "e{of}")?;
                match saw {
                    Saw::Pod(at) => write!(f, "p{at}")?,
                    Saw::Lie(at) => write!(f, "l{at}")?,
                    Saw::Minimal(at) => write!(f, "c{at}")?,
                    Saw::Nothing => write!(f, "n")?,
                }
                match stamped {
                    Stamped::At(at) => write!(f, "s{at}"),
                    Stamped::Unknown => write!(f, "u"),
                }
            }
        }
    }
}

/// A read that has seen nothing yet.
pub(super) fn empty_read(play: &Play, now: usize, lower: Mono, upper: Mono) -> Observation {
    let interval = Interval { lower: Some(lower), upper };
    Observation { interval, claimed: upper, observed_at: play.wall(now, 9), ..read(0, 0) }
}

fn of_event(play: &Play, now: usize, of: usize, saw: Saw, stamped: Stamped) -> Observation {
    let (kind, id) = play.moments[of].signal.expect("only moments with a signal are on the menu");
    let received = play.time(now, 9);
    let (claimed, stamped_at) = match stamped {
        Stamped::At(moment) => (play.time(moment, 1), Some(play.wall(moment, 1))),
        Stamped::Unknown => (received, None),
    };
    let mut it = event(kind, id, 0);
    it.stream_event = Some(StreamEvent { id: id.into(), kind, stamped_at });
    (it.interval, it.claimed) = (Interval { lower: None, upper: received }, claimed);
    it.observed_at = play.wall(now, 9);
    match saw {
        Saw::Pod(at) | Saw::Lie(at) => {
            it.sandboxes = shared(&play.moments[at].sandboxes);
            it.containers = shared(&play.moments[at].containers);
        }
        Saw::Minimal(at) => {
            let of_it = play.moments[at].containers.iter().filter(|container| container.id.as_str() == id);
            it.containers.extend(of_it.map(|full| {
                let (message, image_ref, labels) = (String::new(), String::new(), Labels::new());
                Arc::new(ContainerStatus { message, image_ref, labels, ..full.clone() })
            }));
            it.detail = Detail::Minimal;
        }
        Saw::Nothing => {}
    }
    if let (Saw::Lie(_), Some((id, state))) = (saw, play.lie) {
        let untrue = container(id, state);
        for shown in it.containers.iter_mut().filter(|shown| shown.id.as_str() == id) {
            let (created_at, sandbox_id) = (shown.created_at, shown.sandbox_id.clone());
            *shown = Arc::new(ContainerStatus { created_at, sandbox_id, ..untrue.clone() });
        }
    }
    it
}

fn shared<T: Clone>(statuses: &[T]) -> Vec<Arc<T>> {
    statuses.iter().cloned().map(Arc::new).collect()
}
