//! The one checker of lab tests and soak: the order that holds for all events, and the events that a client's history requires.
//!
//! Pure functions. The events may come from any subscriber.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Result, bail, ensure};
use plegd::model::{Event, EventType, ObjectId, Source, Subject};

use super::Change;

/// Checks every event in turn. Fails on a hole in the sequence, a duplicate, a backward step or a correction. Records an id
/// that a read finds after its removal was published: a runtime that is killed during a removal may have it again, and the test
/// decides whether that is valid.
#[derive(Debug, Default)]
pub struct OrderChecker {
    last: u64,
    reached: HashMap<ObjectId, EventType>,
    returned: BTreeSet<String>,
    changes: HashSet<(ObjectId, Option<EventType>, String, bool)>,
}

/// The published events by id.
#[derive(Debug, Default)]
pub struct PublishedHistories(BTreeMap<String, Vec<Event>>);

// === impl OrderChecker ===

impl OrderChecker {
    /// A checker of the events after this sequence.
    pub fn after(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// Ids whose removal was published and which a read has found again.
    pub fn returned(&self) -> &BTreeSet<String> {
        &self.returned
    }

    pub fn take(&mut self, event: &Event) -> Result<()> {
        self.last += 1;
        ensure!(event.sequence == self.last, "{} where {} was expected", line(event), self.last);
        let is_removed = self.reached.get(&event.id) == Some(&EventType::ContainerRemoved);
        if is_removed && event.kind != EventType::ContainerRemoved && event.source != Source::Event {
            self.reached.remove(&event.id);
            self.changes.retain(|(id, ..)| *id != event.id);
            self.returned.insert(event.id.to_string());
        }
        match event.kind {
            EventType::ContainerStarted | EventType::ContainerDied | EventType::ContainerRemoved => {
                // The variants are in the order of a history.
                let before = self.reached.insert(event.id.clone(), event.kind);
                ensure!(before.is_none_or(|before| before < event.kind), "{} after {before:?}", line(event));
            }
            EventType::ContainerChanged => {
                let reached = self.reached.get(&event.id).copied();
                // A change that the stream reports as history, and a later read finds, is published once for each.
                let by_stream = event.source == Source::Event;
                let change = (event.id.clone(), reached, event.reason.clone(), by_stream);
                ensure!(self.changes.insert(change), "the same change twice: {}", line(event));
            }
            // No runtime of the lab moves a container back.
            EventType::PodSync => bail!("a correction: {}", line(event)),
        }
        Ok(())
    }
}

// === impl PublishedHistories ===

impl PublishedHistories {
    pub fn push(&mut self, event: &Event) {
        self.0.entry(event.id.to_string()).or_default().push(event.clone());
    }

    /// The events published for an id.
    pub fn of(&self, id: &str) -> &[Event] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The differences between the published events and the client's history, one line each.
    pub fn incomplete(&self, done: &BTreeMap<String, Vec<Change>>, of: impl Fn(&str) -> bool) -> Vec<String> {
        let wrong = done.iter().filter(|(id, done)| of(id) && !is_complete(done, self.of(id)));
        wrong.map(|(id, done)| format!("{id}: {done:?}, published {:?}", words(self.of(id)))).collect()
    }

    /// Published ids without a removal.
    pub fn without_removal(&self) -> Vec<String> {
        let finished =
            |events: &[Event]| events.last().is_some_and(|last| last.kind == EventType::ContainerRemoved);
        let open = self.0.iter().filter(|(_, events)| !finished(events));
        open.map(|(id, events)| format!("{id}: published {:?} and no removal", words(events))).collect()
    }
}

/// Whether the events of an id match its history: the start, the death with the exit code, the removal.
pub fn is_complete<'a>(done: &[Change], published: impl IntoIterator<Item = &'a Event>) -> bool {
    matches_changes(&expected(done), done, published)
}

/// Whether only the start of a sandbox is missing. CRI has no start time of a sandbox, so a reader that first finds it ended
/// cannot know whether it was ever ready.
pub fn is_complete_without_start<'a>(
    done: &[Change],
    published: impl IntoIterator<Item = &'a Event>,
) -> bool {
    let expected: Vec<String> = expected(done).into_iter().filter(|word| word != "Started").collect();
    matches_changes(&expected, done, published)
}

fn matches_changes<'a>(
    expected: &[String],
    done: &[Change],
    published: impl IntoIterator<Item = &'a Event>,
) -> bool {
    let published: Vec<String> = published.into_iter().filter_map(transition).collect();
    // The history has no exit code of a container that was removed while it ran. If a container is removed at once after its
    // exit, the runtime may create the STOPPED event without an exit code, so that it is unavailable.
    let same = |(published, expected): (&String, &String)| {
        let word = |text: &str| text.split('(').next().map(str::to_owned);
        let unknown = expected == "Died" || (published == "Died" && done.contains(&Change::Removed));
        published == expected || (word(published) == word(expected) && unknown)
    };
    published.len() == expected.len() && published.iter().zip(expected).all(same)
}

/// The expected events of one id: the start, the death with the exit code, the removal.
fn expected(done: &[Change]) -> Vec<String> {
    let mut words = Vec::new();
    for what in done {
        match what {
            Change::Created => {}
            Change::Started => words.push("Started".to_owned()),
            Change::StartFailed => words.push("Died(128)".to_owned()),
            Change::Died(Some(code)) => words.push(format!("Died({code})")),
            Change::Died(None) => words.push("Died".to_owned()),
            Change::Removed => {
                // It was never started, or it was removed while it ran.
                if !words.iter().any(|word| word.starts_with("Died")) {
                    words.push("Died".to_owned());
                }
                words.push("Removed".to_owned());
            }
        }
    }
    words
}

/// The text of an event for this comparison; none if the event is no transition.
fn transition(event: &Event) -> Option<String> {
    Some(match (event.kind, event.exit_code) {
        (EventType::ContainerStarted, _) => "Started".to_owned(),
        (EventType::ContainerDied, Some(code)) => format!("Died({code})"),
        (EventType::ContainerDied, None) => "Died".to_owned(),
        (EventType::ContainerRemoved, _) => "Removed".to_owned(),
        (EventType::ContainerChanged | EventType::PodSync, _) => return None,
    })
}

/// The events of one id, as `Started!` (inferred), `Died(1 Error)` and so on.
pub fn words<'a>(published: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    published.into_iter().map(word).collect()
}

fn word(event: &Event) -> String {
    let mut word = match event.kind {
        EventType::ContainerDied => match event.exit_code {
            Some(code) => format!("Died({code} {})", event.reason),
            None => "Died".to_owned(),
        },
        EventType::ContainerChanged if !event.reason.is_empty() => format!("Changed({})", event.reason),
        kind => kind.as_str().trim_start_matches("Container").to_owned(),
    };
    if event.inferred {
        word.push('!');
    }
    word
}

/// An event in one line of text.
pub fn line(event: &Event) -> String {
    let subject = if event.subject == Subject::Sandbox { "sandbox" } else { &event.container_name };
    let latency = event.occurred_at.map(|at| format!(" {:.3} s later", event.observed_at.seconds_since(at)));
    format!(
        "{:4} {:.12} {}/{subject} {} by {}{}",
        event.sequence,
        event.id.as_str(),
        event.pod.name,
        word(event),
        event.source.as_str(),
        latency.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use plegd::{
        clock::Wall,
        model::{Labels, PodIdentity},
    };

    use super::*;

    /// The soak permits this difference only.
    #[test]
    fn only_the_start_of_a_sandbox_may_be_missing() {
        let event = |kind| Event {
            sequence: 1,
            kind,
            subject: Subject::Sandbox,
            pod: PodIdentity { uid: "uid".into(), namespace: "ns".into(), name: "pod".into() },
            labels: Labels::new(),
            id: "s".into(),
            container_name: "".into(),
            source: Source::Relist,
            occurred_at: None,
            observed_at: Wall::from_nanos(1),
            stamped_at: None,
            exit_code: None,
            reason: String::new(),
            initial: false,
            late: false,
            inferred: false,
        };
        let done = [Change::Created, Change::Started, Change::Died(None), Change::Removed];
        use EventType::{ContainerDied as Died, ContainerRemoved as Removed, ContainerStarted as Started};
        for (published, whole, without_its_start) in [
            (&[Started, Died, Removed][..], true, false),
            (&[Died, Removed], false, true),
            (&[Removed], false, false),
            (&[Died], false, false),
            (&[], false, false),
        ] {
            let events: Vec<Event> = published.iter().map(|kind| event(*kind)).collect();
            assert_eq!(is_complete(&done, &events), whole, "{published:?}");
            assert_eq!(is_complete_without_start(&done, &events), without_its_start, "{published:?}");
        }
    }
}
