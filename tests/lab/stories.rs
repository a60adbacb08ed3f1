//! What should be told of a life, whether it was, and what holds of everything that is told, in whatever order it comes.
//!
//! Pure: compares a client's history with events, from wherever they were received.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Result, bail, ensure};
use plegd::model::{Event, EventType, ObjectId, Source, Subject};

use super::What;

/// Takes all that is told, one event after the other, and objects to what must never happen: a hole in the numbers,
/// anything twice, a step back in a life, a correction. What a read finds that was told removed is noted: a runtime that is
/// killed in the middle of a removal may have it again, and then it is for the test to say whether that is so.
#[derive(Debug, Default)]
pub struct Order {
    last: u64,
    reached: HashMap<ObjectId, EventType>,
    returned: BTreeSet<String>,
    changes: HashSet<(ObjectId, Option<EventType>, String, bool)>,
}

/// The lives that were told, by id.
#[derive(Debug, Default)]
pub struct Stories(BTreeMap<String, Vec<Event>>);

// === impl Order ===

impl Order {
    /// Of what comes after the event of this number.
    pub fn after(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// Ids that were told removed, and that a read has found again.
    pub fn returned(&self) -> &BTreeSet<String> {
        &self.returned
    }

    pub fn take(&mut self, event: &Event) -> Result<()> {
        self.last += 1;
        ensure!(event.sequence == self.last, "{} where {} was due", line(event), self.last);
        let is_removed = self.reached.get(&event.id) == Some(&EventType::ContainerRemoved);
        if is_removed && event.kind != EventType::ContainerRemoved && event.source != Source::Event {
            self.reached.remove(&event.id);
            self.changes.retain(|(id, ..)| *id != event.id);
            self.returned.insert(event.id.to_string());
        }
        match event.kind {
            EventType::ContainerStarted | EventType::ContainerDied | EventType::ContainerRemoved => {
                // In the order of a life, as the variants are.
                let before = self.reached.insert(event.id.clone(), event.kind);
                ensure!(before.is_none_or(|before| before < event.kind), "{} after {before:?}", line(event));
            }
            EventType::ContainerChanged => {
                let reached = self.reached.get(&event.id).copied();
                // What the stream tells as history and a read then finds there is told by both, and once by each.
                let by_stream = event.source == Source::Event;
                let change = (event.id.clone(), reached, event.reason.clone(), by_stream);
                ensure!(self.changes.insert(change), "the same change twice: {}", line(event));
            }
            // No runtime of the lab moves anything back.
            EventType::PodSync => bail!("corrected: {}", line(event)),
        }
        Ok(())
    }
}

// === impl Stories ===

impl Stories {
    pub fn push(&mut self, event: &Event) {
        self.0.entry(event.id.to_string()).or_default().push(event.clone());
    }

    /// The events told of an id.
    pub fn of(&self, id: &str) -> &[Event] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// In what the stories differ from what was done: one line each.
    pub fn untold(&self, done: &BTreeMap<String, Vec<What>>, of: impl Fn(&str) -> bool) -> Vec<String> {
        let wrong = done.iter().filter(|(id, done)| of(id) && !is_told(done, self.of(id)));
        wrong.map(|(id, done)| format!("{id}: {done:?}, told {:?}", words(self.of(id)))).collect()
    }

    /// Ids whose story has no end, of those that were told of.
    pub fn unfinished(&self) -> Vec<String> {
        let finished =
            |events: &[Event]| events.last().is_some_and(|last| last.kind == EventType::ContainerRemoved);
        let open = self.0.iter().filter(|(_, events)| !finished(events));
        open.map(|(id, events)| format!("{id}: told {:?} and no removal", words(events))).collect()
    }
}

/// Whether what was told of an id is what was done: its start, its death with the exit code, its removal.
pub fn is_told<'a>(done: &[What], told: impl IntoIterator<Item = &'a Event>) -> bool {
    is_told_as(&expected(done), done, told)
}

/// Whether nothing is missing but that a sandbox was ready. CRI gives a sandbox no time of its start, so that who first sees it when it
/// has ended cannot know: it may be one that failed to start.
pub fn is_told_without_its_start<'a>(done: &[What], told: impl IntoIterator<Item = &'a Event>) -> bool {
    let expected: Vec<String> = expected(done).into_iter().filter(|word| word != "Started").collect();
    is_told_as(&expected, done, told)
}

fn is_told_as<'a>(expected: &[String], done: &[What], told: impl IntoIterator<Item = &'a Event>) -> bool {
    let told: Vec<String> = told.into_iter().filter_map(life).collect();
    // Of a container that was removed as it ran it was not noted how it died. One that is removed at once after its
    // exit may be gone before the runtime makes the STOPPED event, which then has no exit code: nobody can have it.
    let same = |(told, expected): (&String, &String)| {
        let word = |text: &str| text.split('(').next().map(str::to_owned);
        let unknown = expected == "Died" || (told == "Died" && done.contains(&What::Removed));
        told == expected || (word(told) == word(expected) && unknown)
    };
    told.len() == expected.len() && told.iter().zip(expected).all(same)
}

/// What should have been told of one id: its start, its death with the exit code, its removal.
fn expected(done: &[What]) -> Vec<String> {
    let mut words = Vec::new();
    for what in done {
        match what {
            What::Created => {}
            What::Started => words.push("Started".to_owned()),
            What::StartFailed => words.push("Died(128)".to_owned()),
            What::Died(Some(code)) => words.push(format!("Died({code})")),
            What::Died(None) => words.push("Died".to_owned()),
            What::Removed => {
                // It was never started, or it was removed as it ran.
                if !words.iter().any(|word| word.starts_with("Died")) {
                    words.push("Died".to_owned());
                }
                words.push("Removed".to_owned());
            }
        }
    }
    words
}

/// The same word for what was told; none for what is no step of a life.
fn life(event: &Event) -> Option<String> {
    Some(match (event.kind, event.exit_code) {
        (EventType::ContainerStarted, _) => "Started".to_owned(),
        (EventType::ContainerDied, Some(code)) => format!("Died({code})"),
        (EventType::ContainerDied, None) => "Died".to_owned(),
        (EventType::ContainerRemoved, _) => "Removed".to_owned(),
        (EventType::ContainerChanged | EventType::PodSync, _) => return None,
    })
}

/// The events of one id, as `Started!` (inferred), `Died(1 Error)` and so on.
pub fn words<'a>(told: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    told.into_iter().map(word).collect()
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

/// An event in a line, for people.
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

    /// What the soak forgives, and no more than that.
    #[test]
    fn only_the_start_of_a_sandbox_may_be_unseen() {
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
            inferred: false,
        };
        let done = [What::Created, What::Started, What::Died(None), What::Removed];
        use EventType::{ContainerDied as Died, ContainerRemoved as Removed, ContainerStarted as Started};
        for (told, whole, without_its_start) in [
            (&[Started, Died, Removed][..], true, false),
            (&[Died, Removed], false, true),
            (&[Removed], false, false),
            (&[Died], false, false),
            (&[], false, false),
        ] {
            let events: Vec<Event> = told.iter().map(|kind| event(*kind)).collect();
            assert_eq!(is_told(&done, &events), whole, "{told:?}");
            assert_eq!(is_told_without_its_start(&done, &events), without_its_start, "{told:?}");
        }
    }
}
