//! The rules by which a view of one container or sandbox is set against what is held of it.
//!
//! Pure: no clock, no lock, no I/O. The numbers are those of the table in [`crate::arbiter`]. A rule never sees two
//! wall-clock stamps: the intervals it compares are all on plegd's monotonic clock, and a stamp that could not be mapped
//! there is nothing but its receipt ([`crate::clock::Stamped`]).

use crate::{
    clock::{Mono, STEP_MARGIN},
    model::{Phase, Stamp, Subject},
};

/// What is held of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How far it had come, as told to subscribers.
    pub reached: Option<Phase>,
    /// When the view that is held was true.
    pub stamp: Stamp,
    /// When its content, too, was true for certain: a list that confirms it later shows the phase alone.
    pub whole: Option<Mono>,
    /// Whether it was moved back before: it has been further on than it is held, and was seen so.
    pub moved_back: bool,
    /// A later read that contradicts it.
    pub dissent: Option<Dissent>,
}

/// A read that saw an id further back than it is held. One alone changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dissent {
    /// Where the read saw it.
    pub phase: Phase,
    /// When that read had ended.
    pub upper: Mono,
}

/// A view of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// A container or a sandbox.
    pub subject: Subject,
    /// Who looked.
    pub eye: Eye,
    /// How far it has come in this view; none if the runtime does not know.
    pub phase: Option<Phase>,
    /// When it was true.
    pub stamp: Stamp,
    /// The moment that the view's own timestamp claims. It decides only whether the view is stale.
    pub claimed: Mono,
    /// Whether the view differs from what is held in anything but the phase.
    pub content: Content,
}

/// Who looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Eye {
    /// The runtime, for an event, at an unknown time before it stamped it.
    Event,
    /// plegd, by a list: phases and metadata only. A list may show an id that is gone.
    List,
    /// plegd, by a read of the id itself, between two moments that it noted.
    Read,
}

/// Whether a view says the same as what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// It does, apart from the phase.
    Same,
    /// It does not.
    Other,
}

/// What becomes of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rule 1. Older than what is held: nothing changes. If it is ahead all the same, somebody is wrong: read.
    Stale {
        /// Whether it shows a later phase than the newer view that is held.
        ahead: bool,
    },
    /// Rule 3. It has moved on: taken, whatever the stamps say.
    Forward,
    /// It says what is held: the knowledge is as young as the view.
    Same,
    /// Rule 4. Same phase, later, other content: taken.
    Refreshed,
    /// Rules 4 and 5. Which of the two is later cannot be told: what is held stays, and a read decides.
    Undecided,
    /// Rule 5. It would move back: not applied, and a read decides.
    Backward {
        /// What to remember of it, if it was a read that can be held against what is held.
        dissent: Option<Dissent>,
    },
    /// Rule 5. The second read in a row that saw it further back: the truth, whatever was held.
    Corrected,
    /// Rule 5. A sandbox that the runtime could not load for a while is ready again.
    Returned,
}

/// Sets a view of a known id against what is held of it.
pub fn judge(held: &Held, view: &View) -> Verdict {
    if is_before(view.claimed, held.stamp) {
        let whole = Stamp { lower: held.whole, ..held.stamp };
        if view.phase == held.reached && view.content == Content::Other && !is_before(view.claimed, whole) {
            return Verdict::Undecided;
        }
        return Verdict::Stale { ahead: view.phase > held.reached };
    }
    // A view whose lower end is past the upper end of what is held was true later: only a read can be.
    let later = view.stamp.lower.is_some_and(|lower| lower >= held.stamp.upper);
    match view.phase {
        // It has been there before: what an event shows may be of then.
        Some(phase) if Some(phase) > held.reached && held.moved_back && view.eye == Eye::Event => {
            Verdict::Undecided
        }
        Some(phase) if Some(phase) > held.reached => Verdict::Forward,
        Some(phase) if Some(phase) < held.reached => backward(held, view, phase, later),
        // The same phase; or unknown, which is no phase and so no step in either direction.
        _ => match view.content {
            Content::Same => Verdict::Same,
            Content::Other if later => Verdict::Refreshed,
            Content::Other => Verdict::Undecided,
        },
    }
}

/// Whether a view that claims this moment is older than what is held: apart by more than the step margin, since a runtime's
/// timestamp is only as exact as that.
///
/// A timestamp may be wrong by more. So being older only ever costs a read: nothing is removed, restored or moved back for it.
pub fn is_before(claimed: Mono, held: Stamp) -> bool {
    held.lower.is_some_and(|lower| claimed + STEP_MARGIN < lower)
}

/// Rule 6: whether not finding an id, in a read with this stamp, proves that it is gone. What is held may be as young as its upper
/// end, which for an event is its receipt and never its timestamp.
pub fn absence_proves_removal(held: Stamp, read: Stamp) -> bool {
    read.lower.is_some_and(|lower| lower >= held.upper)
}

/// Rule 2: whether a view with this stamp proves that an id is there although it was seen removed at `removed_at`. A list proves
/// nothing: runtimes list what they have no status of any more (containerd#7535, #10461).
pub fn lifts_tombstone(removed_at: Mono, eye: Eye, view: Stamp) -> bool {
    eye == Eye::Read && view.lower.is_some_and(|lower| lower >= removed_at)
}

/// What is known of a moment after a view has been taken or confirmed. Neither end ever moves back, so an event, which
/// has no lower end, keeps the one that is held: it was after that, or it would not have been taken.
pub fn advance(held: Stamp, view: Stamp) -> Stamp {
    let lower = held.lower.max(view.lower);
    let upper = held.upper.max(view.upper);
    Stamp { lower, upper: lower.map_or(upper, |lower| upper.max(lower)) }
}

fn backward(held: &Held, view: &View, phase: Phase, later: bool) -> Verdict {
    match view.eye {
        Eye::Event => Verdict::Backward { dissent: None },
        // It may have been read before what is held came about; or a list has it wrong.
        Eye::Read if !later => Verdict::Undecided,
        Eye::List => Verdict::Undecided,
        Eye::Read if view.subject == Subject::Sandbox => Verdict::Returned,
        Eye::Read => match held.dissent {
            Some(earlier)
                if earlier.phase == phase && view.stamp.lower.is_some_and(|lower| lower >= earlier.upper) =>
            {
                Verdict::Corrected
            }
            _ => Verdict::Backward { dissent: Some(Dissent { phase, upper: view.stamp.upper }) },
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PHASES: [Option<Phase>; 4] =
        [None, Some(Phase::Created), Some(Phase::Running), Some(Phase::Exited)];
    const CONTENTS: [Content; 2] = [Content::Same, Content::Other];

    fn at(ms: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(ms)
    }

    fn read(lower: u64, upper: u64) -> Stamp {
        Stamp { lower: Some(at(lower)), upper: at(upper) }
    }

    fn event(upper: u64) -> Stamp {
        Stamp { lower: None, upper: at(upper) }
    }

    fn held(reached: Option<Phase>, stamp: Stamp) -> Held {
        Held { reached, stamp, whole: stamp.lower, moved_back: false, dissent: None }
    }

    fn view(eye: Eye, phase: Option<Phase>, stamp: Stamp, content: Content) -> View {
        View { subject: Subject::Container, eye, phase, stamp, claimed: stamp.upper, content }
    }

    /// Every pair of phases, every kind of interval, from both sources, with the same and with other content: what the
    /// rules say, written down a second time as the shortest prose that covers it.
    #[test]
    fn every_pair_of_phases_and_intervals_follows_the_rules() {
        // What is held was read at [1000, 1010], or came by an event stamped 1010 after a read at 1000.
        let view_stamps = [
            (Eye::Event, event(800), "before"),
            (Eye::Event, event(960), "within the margin"),
            (Eye::Event, event(1005), "overlapping"),
            (Eye::Event, event(2000), "unordered"),
            (Eye::Read, read(700, 800), "before"),
            (Eye::Read, read(940, 960), "within the margin"),
            (Eye::Read, read(990, 1005), "overlapping"),
            (Eye::Read, read(1009, 2000), "overlapping"),
            (Eye::Read, read(1010, 1020), "later"),
            (Eye::Read, read(2000, 2010), "later"),
            (Eye::List, read(700, 800), "before"),
            (Eye::List, read(990, 1005), "overlapping"),
            (Eye::List, read(2000, 2010), "later"),
        ];
        let mut checked = 0;
        for reached in PHASES {
            for phase in PHASES {
                for (eye, stamp, relation) in view_stamps {
                    for content in CONTENTS {
                        let verdict =
                            judge(&held(reached, read(1000, 1010)), &view(eye, phase, stamp, content));
                        let expected = match relation {
                            "before" => Verdict::Stale { ahead: phase > reached },
                            _ if phase.is_some() && phase > reached => Verdict::Forward,
                            _ if phase.is_some() && phase < reached => match (eye, relation) {
                                (Eye::Event, _) => Verdict::Backward { dissent: None },
                                // A list never moves anything back.
                                (Eye::Read, "later") => Verdict::Backward {
                                    dissent: phase.map(|phase| Dissent { phase, upper: stamp.upper }),
                                },
                                (Eye::Read | Eye::List, _) => Verdict::Undecided,
                            },
                            _ => match (content, relation) {
                                (Content::Same, _) => Verdict::Same,
                                (Content::Other, "later") => Verdict::Refreshed,
                                (Content::Other, _) => Verdict::Undecided,
                            },
                        };
                        assert_eq!(
                            verdict, expected,
                            "{reached:?} <- {phase:?} by {eye:?}, {relation}, {content:?}"
                        );
                        checked += 1;
                    }
                }
            }
        }
        assert_eq!(checked, 4 * 4 * 13 * 2);
    }

    #[test]
    fn what_was_moved_back_moves_on_by_a_read_only() {
        let back = Held { moved_back: true, ..held(Some(Phase::Running), read(1000, 1010)) };
        let event = view(Eye::Event, Some(Phase::Exited), event(2000), Content::Other);
        assert_eq!(judge(&back, &event), Verdict::Undecided);
        let read = view(Eye::Read, Some(Phase::Exited), read(2000, 2010), Content::Other);
        assert_eq!(judge(&back, &read), Verdict::Forward);
    }

    #[test]
    fn a_list_makes_no_content_old() {
        let listed = Held { whole: None, ..held(Some(Phase::Exited), read(1000, 1000)) };
        let other = view(Eye::Event, Some(Phase::Exited), event(800), Content::Other);
        assert_eq!(judge(&listed, &other), Verdict::Undecided);
        assert_eq!(judge(&Held { whole: Some(at(900)), ..listed }, &other), Verdict::Stale { ahead: false });
        let same = View { content: Content::Same, ..other };
        assert_eq!(judge(&listed, &same), Verdict::Stale { ahead: false });
    }

    #[test]
    fn nothing_is_stale_against_a_view_without_a_lower_end() {
        for phase in PHASES {
            let verdict = judge(
                &held(Some(Phase::Running), event(5000)),
                &view(Eye::Event, phase, event(1), Content::Same),
            );
            assert!(!matches!(verdict, Verdict::Stale { .. }), "{phase:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_later_stamp_never_lets_an_event_move_a_container_back() {
        for upper in [0, 999, 1010, 5000, u64::MAX / 2_000_000] {
            let verdict = judge(
                &held(Some(Phase::Exited), read(1000, 1010)),
                &view(Eye::Event, Some(Phase::Running), event(upper), Content::Other),
            );
            assert!(matches!(verdict, Verdict::Stale { ahead: false } | Verdict::Backward { dissent: None }));
        }
    }

    #[test]
    fn one_read_that_looks_back_is_remembered_and_a_second_one_corrects() {
        let mut it = held(Some(Phase::Exited), event(1000));
        let first = view(Eye::Read, Some(Phase::Running), read(1000, 1010), Content::Other);
        let Verdict::Backward { dissent: Some(dissent) } = judge(&it, &first) else {
            panic!("not remembered")
        };
        it.dissent = Some(dissent);
        // Begun before the first had ended: no second witness.
        let overlapping = view(Eye::Read, Some(Phase::Running), read(1005, 1020), Content::Other);
        assert!(matches!(judge(&it, &overlapping), Verdict::Backward { dissent: Some(_) }));
        // Another phase than the first saw: they do not agree.
        let other = view(Eye::Read, Some(Phase::Created), read(1010, 1020), Content::Other);
        assert!(matches!(judge(&it, &other), Verdict::Backward { dissent: Some(_) }));
        // An event is no read.
        let event = view(Eye::Event, Some(Phase::Running), event(1100), Content::Other);
        assert_eq!(judge(&it, &event), Verdict::Backward { dissent: None });
        let second = view(Eye::Read, Some(Phase::Running), read(1010, 1020), Content::Other);
        assert_eq!(judge(&it, &second), Verdict::Corrected);
    }

    #[test]
    fn a_sandbox_returns_by_a_read_only() {
        let it = held(Some(Phase::Exited), event(1000));
        let mut view = view(Eye::Event, Some(Phase::Running), event(2000), Content::Same);
        view.subject = Subject::Sandbox;
        assert_eq!(judge(&it, &view), Verdict::Backward { dissent: None });
        (view.eye, view.stamp) = (Eye::Read, read(999, 1010));
        assert_eq!(judge(&it, &view), Verdict::Undecided);
        view.stamp = read(1000, 1010);
        assert_eq!(judge(&it, &view), Verdict::Returned);
    }

    #[test]
    fn absence_removes_only_when_the_read_began_after_what_is_held() {
        assert!(absence_proves_removal(event(1000), read(1000, 1010)));
        assert!(absence_proves_removal(read(900, 1000), read(1000, 1010)));
        assert!(!absence_proves_removal(event(1000), read(999, 2000)));
        assert!(!absence_proves_removal(event(1000), event(2000)));
    }

    #[test]
    fn only_a_read_begun_after_the_removal_lifts_a_tombstone() {
        assert!(lifts_tombstone(at(1000), Eye::Read, read(1000, 1010)));
        assert!(!lifts_tombstone(at(1000), Eye::Read, read(999, 1010)));
        assert!(!lifts_tombstone(at(1000), Eye::Event, event(5000)));
        assert!(!lifts_tombstone(at(1000), Eye::List, read(5000, 5010)), "a list never does");
    }

    /// The timestamp of an event may be early by any amount; what decides is the receipt.
    #[test]
    fn an_early_timestamp_makes_an_event_look_stale_and_nothing_else() {
        let held = held(Some(Phase::Running), read(1000, 1010));
        let early = |phase, claimed| {
            let view = view(Eye::Event, phase, event(2000), Content::Other);
            judge(&held, &View { claimed: at(claimed), ..view })
        };
        assert_eq!(early(Some(Phase::Exited), 700), Verdict::Stale { ahead: true }, "a read decides");
        assert_eq!(early(Some(Phase::Exited), 960), Verdict::Forward, "within the margin");
        // What is held since then is as young as the receipt: a read that began before it proves nothing.
        let after = advance(held.stamp, event(2000));
        assert!(!absence_proves_removal(after, read(1999, 2010)));
        assert!(absence_proves_removal(after, read(2000, 2010)));
    }

    #[test]
    fn knowledge_never_grows_older() {
        for a in [event(1000), read(900, 1000), read(2000, 2001)] {
            for b in [event(1000), read(900, 1000), read(2000, 2001)] {
                let after = advance(a, b);
                assert!(after.lower >= a.lower && after.lower >= b.lower);
                assert!(after.upper >= a.upper && after.lower.is_none_or(|lower| lower <= after.upper));
            }
        }
    }
}
