//! Notices of a watch for a person, beside its events: one line each, without repetition.

use std::time::Duration;

use crate::{client::Update, model::Position, v1};

/// The state of the notices printed until now.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The connection is lost, and a notice of it was printed.
    lost: bool,
}

// === impl Notices ===

impl Notices {
    /// The notice for an update, if there is one.
    pub(super) fn of(&mut self, update: &Update) -> Option<String> {
        match update {
            Update::Reconnecting { why, .. } => {
                let said = std::mem::replace(&mut self.lost, true);
                (!said).then(|| format!("{why}; trying again until it is back"))
            }
            Update::Connected(_) => {
                std::mem::take(&mut self.lost).then(|| "connected again; beginning anew".into())
            }
            Update::Resumed { hello, after } => {
                let lost = std::mem::take(&mut self.lost);
                // Otherwise a gap follows, which has its own notice.
                (lost && is_held(hello, *after)).then(|| "connected again; nothing was missed".into())
            }
            Update::Gap(gap) => Some(missing(gap)),
            Update::Restarted(restart) => Some(restarted(restart)),
            _ => None,
        }
    }
}

fn restarted(restart: &v1::Restarted) -> String {
    let down_for = restart.down_for.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
    let down_for = humantime::format_duration(Duration::from_millis(down_for.as_millis() as u64));
    let events = match restart.blind {
        false => "no event is missing",
        true => {
            "no event that was published before is missing; containers that were created and removed meanwhile may be, since the runtime \
             has not replayed its events"
        }
    };
    format!("plegd was restarted, after {down_for} in which it was not running: {events}")
}

/// Whether plegd still holds all events after a position.
fn is_held(hello: &v1::Hello, after: Position) -> bool {
    let head = hello.head.unwrap_or_default();
    head.epoch == after.epoch && head.sequence >= after.sequence && hello.oldest <= after.sequence + 1
}

fn missing(gap: &v1::Gap) -> String {
    // Only plegd knows which of these events pass the filter.
    let some = match gap.to.and_then(|to| Some((to, to.checked_sub(gap.from)?.checked_add(1)?))) {
        Some((to, 1)) => format!("event {to} may be missing"),
        Some((to, count)) => format!("up to {count} events are missing ({} to {to})", gap.from),
        None => format!("events from {} on are missing", gap.from),
    };
    match gap.reason() {
        v1::GapReason::Compacted => format!("{some}: plegd no longer holds them"),
        v1::GapReason::ForeignEpoch => {
            "plegd was restarted: what happened meanwhile is not told, only what has come of it".into()
        }
        v1::GapReason::InFuture => {
            format!("the position is past what plegd has told so far: {some}")
        }
        v1::GapReason::Unspecified => some,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::client::CallError;

    fn lost() -> Update {
        let why = CallError::Lost { why: "broken pipe".into() };
        Update::Reconnecting { why, wait: Duration::from_millis(100) }
    }

    fn resumed(epoch: u64, oldest: u64, head: u64) -> Update {
        let head = Some(v1::Position { epoch, sequence: head });
        let hello = v1::Hello { head, oldest, ..Default::default() };
        Update::Resumed { hello, after: Position { epoch: 1, sequence: 10 } }
    }

    #[test]
    fn an_outage_is_said_once_and_its_end_once() {
        let mut notices = Notices::default();
        assert_eq!(notices.of(&Update::Connected(v1::Hello::default())), None);
        let first = notices.of(&lost()).unwrap();
        assert_eq!(first, "the connection to plegd was lost: broken pipe; trying again until it is back");
        assert_eq!(notices.of(&lost()), None);
        assert_eq!(notices.of(&resumed(1, 5, 20)).unwrap(), "connected again; nothing was missed");
        assert_eq!(notices.of(&resumed(1, 5, 20)), None);
    }

    #[test]
    fn nobody_is_told_that_nothing_was_missed_before_a_gap() {
        for gap_follows in [resumed(2, 1, 20), resumed(1, 12, 20), resumed(1, 1, 9)] {
            let mut notices = Notices::default();
            notices.of(&lost());
            assert_eq!(notices.of(&gap_follows), None);
        }
    }

    #[test]
    fn a_gap_says_how_many_and_why() {
        let said = |reason: v1::GapReason, from, to| {
            Notices::default().of(&Update::Gap(v1::Gap { reason: reason.into(), from, to })).unwrap()
        };
        let compacted = said(v1::GapReason::Compacted, 8, Some(907));
        assert_eq!(compacted, "up to 900 events are missing (8 to 907): plegd no longer holds them");
        assert!(said(v1::GapReason::Compacted, 8, Some(8)).starts_with("event 8 may be missing"));
        assert!(said(v1::GapReason::Compacted, 8, Some(7)).starts_with("events from 8 on are missing"));
        assert!(said(v1::GapReason::ForeignEpoch, 8, None).starts_with("plegd was restarted"));
        assert!(said(v1::GapReason::InFuture, 8, None).contains("past what plegd has told"));
    }
}
