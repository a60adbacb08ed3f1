//! The observations that may arrive in a moment: all that a source could send then.

use std::{fmt, sync::Arc};

use super::{
    super::bench::{container, event, read},
    play::Play,
};
use crate::model::*;

/// One act of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The next moment begins.
    Pass,
    /// An event is delivered, of the change at a moment, with the pod at some moment before its timestamp.
    Event { of: usize, view: Payload, stamped: Stamped },
    /// A read of the whole pod ends.
    Read { began: usize, view: usize },
    /// A list ends, and ids that differ are read at once.
    List { began: usize, view: usize },
}

/// The payload of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// The pod at a moment.
    Pod(usize),
    /// The same with a false status of one container.
    False(usize),
    /// Only the container that it is about, stripped.
    Minimal(usize),
    /// Empty.
    Nothing,
}

/// The timestamp of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamped {
    At(usize),
    /// None: its receipt is used.
    Unknown,
}

/// The kinds of acts to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Menu {
    pub(super) events: bool,
    /// Reads and lists.
    pub(super) reads: bool,
    /// Stripped events too.
    pub(super) stripped: bool,
}

// === impl Menu ===

impl Menu {
    /// All acts of this moment.
    pub(super) fn of(self, play: &Play, now: usize) -> Vec<Act> {
        let mut acts = Vec::new();
        for of in (0..=now).filter(|of| self.events && play.moments[*of].stream_event.is_some()) {
            // A payload may be as old as the moment before; an older one belongs to another event.
            for seen in of.saturating_sub(1)..=now {
                let mut payloads = vec![Payload::Pod(seen)];
                if play.lie.is_some() {
                    payloads.push(Payload::False(seen));
                }
                if self.stripped {
                    payloads.push(Payload::Minimal(seen));
                }
                if seen == of {
                    payloads.push(Payload::Nothing);
                }
                for view in payloads {
                    let first = of.max(seen);
                    let late = (now > first).then_some(Stamped::At(now));
                    let stamps = [Stamped::At(first), Stamped::Unknown].into_iter().chain(late);
                    acts.extend(stamps.map(|stamped| Act::Event { of, view, stamped }));
                }
            }
        }
        for began in (play.begins..=now).filter(|_| self.reads) {
            acts.extend((began..=now).map(|view| Act::Read { began, view }));
            acts.extend((began..=now).map(|view| Act::List { began, view }));
        }
        acts
    }
}

// === impl Act ===

impl Act {
    /// The observation of an event or a read that arrives now.
    pub(super) fn observation(self, play: &Play, now: usize) -> Observation {
        match self {
            Act::Event { of, view, stamped } => of_event(play, now, of, view, stamped),
            Act::Read { began, view } | Act::List { began, view } => {
                let moment = &play.moments[view];
                let mut it = empty_read(play, now, play.time(began, 5), play.time(now, 9));
                it.sandboxes = shared(&moment.sandboxes);
                it.containers = shared(&moment.containers);
                it.absent = play.absent(view);
                it
            }
            Act::Pass => empty_read(play, now, play.time(now, 9), play.time(now, 9)),
        }
    }

    /// Parses the text of an act.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let numbers: Vec<usize> = word
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().unwrap_or_default())
            .collect();
        Some(match (word.chars().next()?, numbers.as_slice()) {
            ('.', []) => Act::Pass,
            ('r', [began, view]) => Act::Read { began: *began, view: *view },
            ('l', [began, view]) => Act::List { began: *began, view: *view },
            ('e', [of, rest @ ..]) => {
                let (seen, interval) =
                    if word.contains('n') { (0, rest.first()) } else { (*rest.first()?, rest.get(1)) };
                let view = match word.chars().find(|c| "plcn".contains(*c))? {
                    'p' => Payload::Pod(seen),
                    'l' => Payload::False(seen),
                    'c' => Payload::Minimal(seen),
                    _ => Payload::Nothing,
                };
                Act::Event {
                    of: *of,
                    view,
                    stamped: interval.map_or(Stamped::Unknown, |at| Stamped::At(*at)),
                }
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Act {
    /// A word that [`Act::parse`] parses. `e2p1s3` is the event of moment 2 with the pod at 1 and a timestamp in 3, `r0v1` a read from
    /// moment 0 on that returns the pod at 1, `l0v1` a list, `.` the next moment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Pass => write!(f, "."),
            Act::Read { began, view } => write!(f, "r{began}v{view}"),
            Act::List { began, view } => write!(f, "l{began}v{view}"),
            Act::Event { of, view, stamped } => {
                write!(f, "e{of}")?;
                match view {
                    Payload::Pod(at) => write!(f, "p{at}")?,
                    Payload::False(at) => write!(f, "l{at}")?,
                    Payload::Minimal(at) => write!(f, "c{at}")?,
                    Payload::Nothing => write!(f, "n")?,
                }
                match stamped {
                    Stamped::At(at) => write!(f, "s{at}"),
                    Stamped::Unknown => write!(f, "u"),
                }
            }
        }
    }
}

/// A read without statuses.
pub(super) fn empty_read(play: &Play, now: usize, lower: Mono, upper: Mono) -> Observation {
    let interval = Interval { lower: Some(lower), upper };
    Observation { interval, claimed: upper, observed_at: play.wall(now, 9), ..read(0, 0) }
}

fn of_event(play: &Play, now: usize, of: usize, view: Payload, stamped: Stamped) -> Observation {
    let (kind, id) = play.moments[of].stream_event.expect("the menu has only moments with an event");
    let received = play.time(now, 9);
    let (claimed, stamped_at) = match stamped {
        Stamped::At(moment) => (play.time(moment, 1), Some(play.wall(moment, 1))),
        Stamped::Unknown => (received, None),
    };
    let mut it = event(kind, id, 0);
    it.stream_event = Some(StreamEvent { id: id.into(), kind, stamped_at });
    (it.interval, it.claimed) = (Interval { lower: None, upper: received }, claimed);
    it.observed_at = play.wall(now, 9);
    match view {
        Payload::Pod(at) | Payload::False(at) => {
            it.sandboxes = shared(&play.moments[at].sandboxes);
            it.containers = shared(&play.moments[at].containers);
        }
        Payload::Minimal(at) => {
            let of_it = play.moments[at].containers.iter().filter(|container| container.id.as_str() == id);
            it.containers.extend(of_it.map(|full| {
                let (message, image_ref, labels) = (String::new(), String::new(), Labels::new());
                Arc::new(ContainerStatus { message, image_ref, labels, ..full.clone() })
            }));
            it.detail = Detail::Minimal;
        }
        Payload::Nothing => {}
    }
    if let (Payload::False(_), Some((id, state))) = (view, play.lie) {
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
