//! Notices of a watch for the user: lost connections, gaps and restarts. One line each, without repetition.

use std::time::Duration;

use crate::{client::Update, model::Position, v1};

/// The state of the notices that were printed.
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
                let notified = std::mem::replace(&mut self.lost, true);
                (!notified).then(|| format!("{why}; reconnecting"))
            }
            Update::Connected(_) => {
                std::mem::take(&mut self.lost).then(|| "reconnected; starting again".into())
            }
            Update::Resumed { hello, after } => {
                let lost = std::mem::take(&mut self.lost);
                // Otherwise a gap follows, which has its own notice.
                (lost && is_held(hello, *after)).then(|| "reconnected; no events were missed".into())
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
            "no published event is missing, but containers that were created and removed in this time may be missing, because the \
             runtime does not replay its events"
        }
    };
    format!("plegd was restarted after a downtime of {down_for}: {events}")
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
        None => format!("events since {} are missing", gap.from),
    };
    match gap.reason() {
        v1::GapReason::Compacted => format!("{some}: plegd no longer holds them"),
        v1::GapReason::ForeignEpoch => {
            "plegd was restarted, and events in this time are not available; a snapshot of the current state follows".into()
        }
        v1::GapReason::InFuture => {
            format!("the position is after the last event that plegd has published: {some}")
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
    fn a_lost_connection_and_its_recovery_are_reported_once() {
        let mut notices = Notices::default();
        assert_eq!(notices.of(&Update::Connected(v1::Hello::default())), None);
        let first = notices.of(&lost()).unwrap();
        assert_eq!(first, "the connection to plegd was lost: broken pipe; reconnecting");
        assert_eq!(notices.of(&lost()), None);
        assert_eq!(notices.of(&resumed(1, 5, 20)).unwrap(), "reconnected; no events were missed");
        assert_eq!(notices.of(&resumed(1, 5, 20)), None);
    }

    #[test]
    fn a_recovery_that_a_gap_follows_is_not_reported_as_complete() {
        for gap_follows in [resumed(2, 1, 20), resumed(1, 12, 20), resumed(1, 1, 9)] {
            let mut notices = Notices::default();
            notices.of(&lost());
            assert_eq!(notices.of(&gap_follows), None);
        }
    }

    #[test]
    fn the_notice_of_a_gap_has_the_number_of_events_and_the_reason() {
        let notice = |reason: v1::GapReason, from, to| {
            Notices::default().of(&Update::Gap(v1::Gap { reason: reason.into(), from, to })).unwrap()
        };
        let compacted = notice(v1::GapReason::Compacted, 8, Some(907));
        assert_eq!(compacted, "up to 900 events are missing (8 to 907): plegd no longer holds them");
        assert!(notice(v1::GapReason::Compacted, 8, Some(8)).starts_with("event 8 may be missing"));
        assert!(notice(v1::GapReason::Compacted, 8, Some(7)).starts_with("events since 8 are missing"));
        assert!(notice(v1::GapReason::ForeignEpoch, 8, None).starts_with("plegd was restarted"));
        assert!(
            notice(v1::GapReason::InFuture, 8, None)
                .contains("after the last event that plegd has published")
        );
    }
}
