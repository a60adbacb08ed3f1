//! The rules that compare a view of one container or sandbox with its record.
//!
//! Pure: no clock, no lock, no I/O. The numbers are those of the table in [`crate::arbiter`]. A rule never sees two wall-clock
//! timestamps: the intervals that it compares are all on plegd's monotonic clock, and a timestamp that cannot be mapped to that clock
//! is replaced by its receipt ([`crate::clock::Stamped`]).

use crate::{
    clock::{Mono, STEP_MARGIN},
    model::{Interval, Origin, Phase, Subject, Verdict},
};

/// The part of a record that the rules need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The latest phase that was published.
    pub published_phase: Option<Phase>,
    /// When the recorded view was true.
    pub interval: Interval,
    /// When its content, too, was certainly true: a list that confirms the record later shows the phase alone.
    pub content_confirmed_at: Option<Mono>,
    /// Whether the phase was moved back before: a later phase than the recorded one was published once.
    pub was_corrected: bool,
    /// A later read that contradicts the record.
    pub pending_correction: Option<PendingCorrection>,
}

/// A read that shows an earlier phase than the record. One alone changes nothing; a second one that agrees is a correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingCorrection {
    /// The phase that the read shows.
    pub phase: Phase,
    /// When the read had ended.
    pub read_ended: Mono,
}

/// A view of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// A container or a sandbox.
    pub subject: Subject,
    /// Where the view comes from.
    pub origin: Origin,
    /// Its phase; none if the runtime does not know.
    pub phase: Option<Phase>,
    /// When it was true.
    pub interval: Interval,
    /// The moment that the view's own timestamp claims. It decides only whether the view is stale.
    pub claimed: Mono,
    /// Whether the view differs from the record in anything but the phase.
    pub content: Content,
}

/// Whether the content of a view, apart from the phase, agrees with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// It agrees.
    Same,
    /// It differs.
    Other,
}

/// What the rules say about a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of the view.
    pub verdict: Verdict,
    /// The consequence beside the record's change.
    pub consequence: Consequence,
}

/// The consequence of a view beside the record's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// None.
    None,
    /// A read decides.
    Read,
    /// A read decides, and the view is kept as a pending correction.
    ReadToCorrect(PendingCorrection),
    /// The phase has moved back.
    MovedBack,
}

/// Compares a view of a known id with its record.
pub fn judge(held: &Held, view: &View) -> Judgement {
    use Consequence::{None as Nothing, Read};
    let judgement = |verdict, consequence| Judgement { verdict, consequence };
    if is_before(view.claimed, held.interval) {
        let content_at = Interval { lower: held.content_confirmed_at, ..held.interval };
        let same_phase = view.phase == held.published_phase;
        if same_phase && view.content == Content::Other && !is_before(view.claimed, content_at) {
            return judgement(Verdict::Undecided, Read);
        }
        // A stale view that is ahead shows that the record or the timestamp is wrong.
        let is_ahead = view.phase > held.published_phase;
        return judgement(Verdict::Stale, if is_ahead { Read } else { Nothing });
    }
    // A view whose lower end is past the record's upper end was true later: only a read can be.
    let later = view.interval.lower.is_some_and(|lower| lower >= held.interval.upper);
    match view.phase {
        // It has been in that phase before: an event may show it as it was then.
        Some(phase)
            if Some(phase) > held.published_phase && held.was_corrected && view.origin == Origin::Event =>
        {
            judgement(Verdict::Undecided, Read)
        }
        Some(phase) if Some(phase) > held.published_phase => judgement(Verdict::Forward, Nothing),
        Some(phase) if Some(phase) < held.published_phase => backward(held, view, phase, later),
        // The same phase; or an unknown one, which is no step in either direction.
        _ => match view.content {
            Content::Same => judgement(Verdict::Same, Nothing),
            Content::Other if later => judgement(Verdict::Refreshed, Nothing),
            Content::Other => judgement(Verdict::Undecided, Read),
        },
    }
}

/// Whether a view that claims this moment is older than the record: by more than the step margin, since a runtime's timestamp is only as
/// exact as that.
///
/// A timestamp may be wrong by more. So being older only ever costs a read: it removes, restores and moves back nothing.
pub fn is_before(claimed: Mono, held: Interval) -> bool {
    held.lower.is_some_and(|lower| claimed + STEP_MARGIN < lower)
}

/// Rule 6: whether the absence of an id from a read with this interval proves its removal. The record may be as young as its upper end,
/// which for an event is its receipt and never its timestamp.
pub fn absence_proves_removal(held: Interval, read: Interval) -> bool {
    read.lower.is_some_and(|lower| lower >= held.upper)
}

/// Rule 2: whether a view proves that an id exists although it was removed at `removed_at`. A list proves nothing: runtimes list ids
/// whose status is gone (containerd#7535, #10461).
pub fn lifts_tombstone(removed_at: Mono, origin: Origin, view: Interval) -> bool {
    origin == Origin::Status && view.lower.is_some_and(|lower| lower >= removed_at)
}

/// The interval of a record after a view was taken or has confirmed it. Neither end ever moves back. An event has no lower end and keeps
/// the record's: it is later than that, or it would not have been taken.
pub fn advance(held: Interval, view: Interval) -> Interval {
    let lower = held.lower.max(view.lower);
    let upper = held.upper.max(view.upper);
    Interval { lower, upper: lower.map_or(upper, |lower| upper.max(lower)) }
}

fn backward(held: &Held, view: &View, phase: Phase, later: bool) -> Judgement {
    let (verdict, consequence) = match view.origin {
        Origin::Event => (Verdict::Backward, Consequence::Read),
        Origin::List => (Verdict::Undecided, Consequence::Read),
        // The read may be older than the record.
        Origin::Status if !later => (Verdict::Undecided, Consequence::Read),
        Origin::Status if view.subject == Subject::Sandbox => (Verdict::Forward, Consequence::MovedBack),
        Origin::Status => match held.pending_correction {
            Some(earlier)
                if earlier.phase == phase
                    && view.interval.lower.is_some_and(|lower| lower >= earlier.read_ended) =>
            {
                (Verdict::Corrected, Consequence::MovedBack)
            }
            _ => {
                let pending = PendingCorrection { phase, read_ended: view.interval.upper };
                (Verdict::Backward, Consequence::ReadToCorrect(pending))
            }
        },
    };
    Judgement { verdict, consequence }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const STALE: Judgement = judgement(Verdict::Stale, Consequence::None);
    const STALE_AHEAD: Judgement = judgement(Verdict::Stale, Consequence::Read);
    const FORWARD: Judgement = judgement(Verdict::Forward, Consequence::None);
    const SAME: Judgement = judgement(Verdict::Same, Consequence::None);
    const REFRESHED: Judgement = judgement(Verdict::Refreshed, Consequence::None);
    const UNDECIDED: Judgement = judgement(Verdict::Undecided, Consequence::Read);
    const BACKWARD: Judgement = judgement(Verdict::Backward, Consequence::Read);
    const CORRECTED: Judgement = judgement(Verdict::Corrected, Consequence::MovedBack);
    const RETURNED: Judgement = judgement(Verdict::Forward, Consequence::MovedBack);

    const fn judgement(verdict: Verdict, consequence: Consequence) -> Judgement {
        Judgement { verdict, consequence }
    }

    const PHASES: [Option<Phase>; 4] =
        [None, Some(Phase::Created), Some(Phase::Running), Some(Phase::Exited)];
    const CONTENTS: [Content; 2] = [Content::Same, Content::Other];

    fn backward_read(phase: Phase, interval: Interval) -> Judgement {
        let pending = PendingCorrection { phase, read_ended: interval.upper };
        judgement(Verdict::Backward, Consequence::ReadToCorrect(pending))
    }

    fn at(ms: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(ms)
    }

    fn read(lower: u64, upper: u64) -> Interval {
        Interval { lower: Some(at(lower)), upper: at(upper) }
    }

    fn event(upper: u64) -> Interval {
        Interval { lower: None, upper: at(upper) }
    }

    fn held(published_phase: Option<Phase>, interval: Interval) -> Held {
        Held {
            published_phase,
            interval,
            content_confirmed_at: interval.lower,
            was_corrected: false,
            pending_correction: None,
        }
    }

    fn view(origin: Origin, phase: Option<Phase>, interval: Interval, content: Content) -> View {
        View { subject: Subject::Container, origin, phase, interval, claimed: interval.upper, content }
    }

    /// Every pair of phases, every kind of interval, from both sources, with the same and with other content: what the
    /// rules say, written down a second time as the shortest prose that covers it.
    #[test]
    fn every_pair_of_phases_and_intervals_follows_the_rules() {
        // What is held was read at [1000, 1010], or came by an event stamped 1010 after a read at 1000.
        let view_stamps = [
            (Origin::Event, event(800), "before"),
            (Origin::Event, event(960), "within the margin"),
            (Origin::Event, event(1005), "overlapping"),
            (Origin::Event, event(2000), "unordered"),
            (Origin::Status, read(700, 800), "before"),
            (Origin::Status, read(940, 960), "within the margin"),
            (Origin::Status, read(990, 1005), "overlapping"),
            (Origin::Status, read(1009, 2000), "overlapping"),
            (Origin::Status, read(1010, 1020), "later"),
            (Origin::Status, read(2000, 2010), "later"),
            (Origin::List, read(700, 800), "before"),
            (Origin::List, read(990, 1005), "overlapping"),
            (Origin::List, read(2000, 2010), "later"),
        ];
        let mut checked = 0;
        for published_phase in PHASES {
            for phase in PHASES {
                for (origin, interval, relation) in view_stamps {
                    for content in CONTENTS {
                        let verdict = judge(
                            &held(published_phase, read(1000, 1010)),
                            &view(origin, phase, interval, content),
                        );
                        let expected = match relation {
                            "before" => {
                                if phase > published_phase {
                                    STALE_AHEAD
                                } else {
                                    STALE
                                }
                            }
                            _ if phase.is_some() && phase > published_phase => FORWARD,
                            _ if phase.is_some() && phase < published_phase => match (origin, relation) {
                                (Origin::Event, _) => BACKWARD,
                                // A list never moves anything back.
                                (Origin::Status, "later") => {
                                    backward_read(phase.unwrap_or(Phase::Created), interval)
                                }
                                (Origin::Status | Origin::List, _) => UNDECIDED,
                            },
                            _ => match (content, relation) {
                                (Content::Same, _) => SAME,
                                (Content::Other, "later") => REFRESHED,
                                (Content::Other, _) => UNDECIDED,
                            },
                        };
                        assert_eq!(
                            verdict, expected,
                            "{published_phase:?} <- {phase:?} by {origin:?}, {relation}, {content:?}"
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
        let back = Held { was_corrected: true, ..held(Some(Phase::Running), read(1000, 1010)) };
        let event = view(Origin::Event, Some(Phase::Exited), event(2000), Content::Other);
        assert_eq!(judge(&back, &event), UNDECIDED);
        let read = view(Origin::Status, Some(Phase::Exited), read(2000, 2010), Content::Other);
        assert_eq!(judge(&back, &read), FORWARD);
    }

    #[test]
    fn a_list_makes_no_content_old() {
        let listed = Held { content_confirmed_at: None, ..held(Some(Phase::Exited), read(1000, 1000)) };
        let other = view(Origin::Event, Some(Phase::Exited), event(800), Content::Other);
        assert_eq!(judge(&listed, &other), UNDECIDED);
        assert_eq!(judge(&Held { content_confirmed_at: Some(at(900)), ..listed }, &other), STALE);
        let same = View { content: Content::Same, ..other };
        assert_eq!(judge(&listed, &same), STALE);
    }

    #[test]
    fn no_view_is_stale_against_a_record_without_a_lower_end() {
        for phase in PHASES {
            let verdict = judge(
                &held(Some(Phase::Running), event(5000)),
                &view(Origin::Event, phase, event(1), Content::Same),
            );
            assert_ne!(verdict.verdict, Verdict::Stale, "{phase:?}: {verdict:?}");
        }
    }

    #[test]
    fn no_timestamp_lets_an_event_move_a_container_back() {
        for upper in [0, 999, 1010, 5000, u64::MAX / 2_000_000] {
            let verdict = judge(
                &held(Some(Phase::Exited), read(1000, 1010)),
                &view(Origin::Event, Some(Phase::Running), event(upper), Content::Other),
            );
            assert!(matches!(verdict, STALE | BACKWARD));
        }
    }

    #[test]
    fn an_earlier_phase_in_one_read_is_pending_and_a_second_read_corrects() {
        let mut it = held(Some(Phase::Exited), event(1000));
        let first = view(Origin::Status, Some(Phase::Running), read(1000, 1010), Content::Other);
        let Consequence::ReadToCorrect(pending) = judge(&it, &first).consequence else {
            panic!("no correction is pending")
        };
        it.pending_correction = Some(pending);
        // It began before the first read ended, so that it is no confirmation.
        let overlapping = view(Origin::Status, Some(Phase::Running), read(1005, 1020), Content::Other);
        assert_eq!(judge(&it, &overlapping), backward_read(Phase::Running, overlapping.interval));
        // It shows another phase than the first read.
        let other = view(Origin::Status, Some(Phase::Created), read(1010, 1020), Content::Other);
        assert_eq!(judge(&it, &other), backward_read(Phase::Created, other.interval));
        // An event is no read.
        let event = view(Origin::Event, Some(Phase::Running), event(1100), Content::Other);
        assert_eq!(judge(&it, &event), BACKWARD);
        let second = view(Origin::Status, Some(Phase::Running), read(1010, 1020), Content::Other);
        assert_eq!(judge(&it, &second), CORRECTED);
    }

    #[test]
    fn a_sandbox_becomes_ready_again_by_a_read_only() {
        let it = held(Some(Phase::Exited), event(1000));
        let mut view = view(Origin::Event, Some(Phase::Running), event(2000), Content::Same);
        view.subject = Subject::Sandbox;
        assert_eq!(judge(&it, &view), BACKWARD);
        (view.origin, view.interval) = (Origin::Status, read(999, 1010));
        assert_eq!(judge(&it, &view), UNDECIDED);
        view.interval = read(1000, 1010);
        assert_eq!(judge(&it, &view), RETURNED);
    }

    #[test]
    fn absence_removes_only_if_the_read_began_after_the_record() {
        assert!(absence_proves_removal(event(1000), read(1000, 1010)));
        assert!(absence_proves_removal(read(900, 1000), read(1000, 1010)));
        assert!(!absence_proves_removal(event(1000), read(999, 2000)));
        assert!(!absence_proves_removal(event(1000), event(2000)));
    }

    #[test]
    fn only_a_read_begun_after_the_removal_lifts_a_tombstone() {
        assert!(lifts_tombstone(at(1000), Origin::Status, read(1000, 1010)));
        assert!(!lifts_tombstone(at(1000), Origin::Status, read(999, 1010)));
        assert!(!lifts_tombstone(at(1000), Origin::Event, event(5000)));
        assert!(!lifts_tombstone(at(1000), Origin::List, read(5000, 5010)), "a list never does");
    }

    /// The timestamp of an event may be early by any amount; the receipt decides.
    #[test]
    fn an_early_timestamp_makes_an_event_look_stale_and_nothing_else() {
        let held = held(Some(Phase::Running), read(1000, 1010));
        let early = |phase, claimed| {
            let view = view(Origin::Event, phase, event(2000), Content::Other);
            judge(&held, &View { claimed: at(claimed), ..view })
        };
        assert_eq!(early(Some(Phase::Exited), 700), STALE_AHEAD, "a read decides");
        assert_eq!(early(Some(Phase::Exited), 960), FORWARD, "within the margin");
        // The record then has the receipt as its upper end: a read that began before it proves nothing.
        let after = advance(held.interval, event(2000));
        assert!(!absence_proves_removal(after, read(1999, 2010)));
        assert!(absence_proves_removal(after, read(2000, 2010)));
    }

    #[test]
    fn intervals_never_move_back() {
        for a in [event(1000), read(900, 1000), read(2000, 2001)] {
            for b in [event(1000), read(900, 1000), read(2000, 2001)] {
                let after = advance(a, b);
                assert!(after.lower >= a.lower && after.lower >= b.lower);
                assert!(after.upper >= a.upper && after.lower.is_none_or(|lower| lower <= after.upper));
            }
        }
    }
}
