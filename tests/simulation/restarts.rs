//! Checks what is published about the time in which no plegd was running.

use std::time::Duration;

use plegd::{clock::Mono, model::EventType, sim::ChangeKind};

use super::{
    driver::Driver,
    histories::{Histories, words},
};

/// Events near the ends of a downtime may count as either.
const MARGIN: Duration = Duration::from_millis(100);

/// Events that are wrongly marked as late or not, and containers that are missing although plegd says that none is.
///
/// With faulty events nothing is known of their times, nor which of them are lost.
pub fn wrong(driver: &Driver, histories: &Histories, faulty_events: bool) -> Vec<String> {
    if faulty_events {
        return Vec::new();
    }
    let history = driver.sim().history();
    let mut found = Vec::new();
    let within = |at: Mono, margin: Duration| {
        driver.downtimes.iter().any(|(from, to)| *from + margin < at && at + margin < *to)
    };
    let before_start = |at: Mono| driver.downtimes.iter().any(|(_, to)| at < *to + MARGIN);
    for received in &histories.received {
        let event = &received.event;
        let kind = match event.kind {
            EventType::ContainerStarted => ChangeKind::Started,
            EventType::ContainerRemoved => ChangeKind::Removed,
            _ => continue,
        };
        let of_guest = driver.facts.get(event.id.as_str()).is_some_and(|fact| fact.clock_offset != 0);
        let changes =
            || history.iter().filter(|change| change.id == event.id.as_str() && change.kind == kind);
        let mut happened = changes().map(|change| change.at);
        // The time of a removal that was announced wrongly is that of the announcement.
        let announced = driver.announced.contains(event.id.as_str());
        let exact = event.occurred_at.is_some()
            && !of_guest
            && !announced
            && driver.steps.is_empty()
            && !event.inferred;
        if exact
            && !event.late
            && happened.clone().all(|at| within(at, MARGIN))
            && happened.clone().count() > 0
        {
            found.push(format!(
                "{}: {} happened while plegd was down, and is not late",
                event.sequence,
                words(event)
            ));
        }
        if exact && event.late && !happened.any(before_start) {
            found.push(format!(
                "{}: {} is late, and happened after the last start",
                event.sequence,
                words(event)
            ));
        }
    }
    for restart in driver.app().journal().restarts().iter().filter(|restart| !restart.blind) {
        let downtimes = driver.downtimes.iter().zip(&driver.lost_meanwhile);
        let Some(((from, to), lost)) = downtimes.into_iter().find(|((_, to), _)| {
            let up = driver.sim().clock().wall().seconds_since(restart.up_since);
            (driver.now().since(*to).as_secs_f64() - up).abs() < 1.0
        }) else {
            continue;
        };
        let lived = |id: &str| {
            let at = |kind| {
                history.iter().find(|change| change.id == id && change.kind == kind).map(|change| change.at)
            };
            at(ChangeKind::Created).is_some_and(|at| at > *from)
                && at(ChangeKind::Removed).is_some_and(|at| at < *to)
        };
        let ids = history.iter().filter(|change| change.kind == ChangeKind::Created).map(|change| &change.id);
        // The runtime notices that a subscriber is gone when it sends the next event or some more, and loses those.
        let replayed = |id: &str| {
            let sent = history.iter().filter(|change| change.signalled && change.at > *from);
            let lost = usize::try_from(*lost).unwrap_or(usize::MAX);
            // A change may have two events or none.
            sent.skip(2 * lost).any(|change| change.id == id)
        };
        let missing =
            ids.filter(|id| lived(id) && replayed(id) && !histories.by_id.contains_key(id.as_str()));
        found.extend(missing.map(|id| format!("{id} is missing, and plegd says that nothing is")));
    }
    found
}
