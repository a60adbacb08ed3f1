//! What is told, as it is told: each id lives once, forward, and only what is true is said of it.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use plegd::{
    clock::{Mono, Wall},
    model::{Event, EventType, ObjectId, Phase, Pod, Status, Subject},
    sim::{Change, ChangeKind},
};

use super::{
    claims::{self, Addresses},
    facts::Facts,
    stage::{Heard, Hindrances},
    witness::Lie,
};

/// All that the present plegd has told, and what was wrong with it.
#[derive(Default)]
pub struct Lives {
    pub heard: Vec<Heard>,
    pub by_id: BTreeMap<String, Life>,
    pub found: Vec<String>,
    /// What is not true, for all that is known without what the runtime has said.
    pub lies: Vec<Lie>,
    /// What was corrected, and when.
    pub corrections: Vec<(String, Mono)>,
    addresses: Addresses,
}

/// What is known of the node while it tells.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// All that has happened so far.
    pub history: &'a [Change],
    pub facts: &'a Facts,
    pub hindrances: &'a Hindrances,
}

/// What was told of one id.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// How far it has come, as told: 1 is started, 2 dead, 3 removed.
    reached: u8,
    pub started: bool,
    pub died: bool,
    /// When anything was told of it first.
    pub first: Option<Mono>,
    pub started_at: Option<Mono>,
    /// How often its content was told to have changed.
    pub changed: usize,
    pub died_at: Option<Mono>,
    /// Nobody has seen its death.
    pub inferred: bool,
    /// Its death was told with its exit code, or that after it.
    pub code: bool,
    pub removed: Option<Mono>,
    /// How often it was corrected.
    pub corrected: u32,
    returned: usize,
    /// How many reasons it had had when it had the one that was told last.
    reasons: usize,
}

// === impl Lives ===

impl Lives {
    /// Something was told.
    pub fn hear(&mut self, heard: Heard, scene: Scene<'_>) {
        let event = &heard.event;
        let of_id = scene.history.iter().filter(|change| change.id == event.id.as_str());
        let of_id: Vec<&Change> = of_id.collect();
        let expected = self.heard.last().map_or(1, |last| last.event.sequence + 1);
        if event.sequence != expected {
            self.found.push(format!("{} follows {}", event.sequence, expected - 1));
        }
        let life = self.by_id.entry(event.id.to_string()).or_default();
        let wrong = [
            life.hear(&heard, &of_id).map(Into::into),
            life.hear_reason(event, &of_id).map(Into::into),
            claims::misnamed(&heard, scene.facts, scene.hindrances),
            self.addresses.lost(&heard),
        ];
        let wrong = wrong.into_iter().flatten();
        self.found.extend(wrong.map(|it| format!("{}: {} {it}", event.sequence, words(event))));
        if let Some(lie) = lie(event, &of_id, scene.facts) {
            let text = format!("{}: {} {lie}", event.sequence, words(event));
            self.lies.push(Lie { id: event.id.to_string(), kind: event.kind, at: heard.at, text });
        }
        if event.kind == EventType::PodSync {
            self.corrections.push((event.id.to_string(), heard.at));
        }
        self.heard.push(heard);
    }
}

impl Lives {
    /// Ids that were published as changed more often than they changed.
    pub fn restless(&self, facts: &Facts) -> Vec<String> {
        let mut found = Vec::new();
        for (id, life) in &self.by_id {
            let Some(fact) = facts.get(id) else { continue };
            let most = fact.changes() + life.corrected as usize + 1;
            if life.changed > most {
                found.push(format!(
                    "{id} was published as changed {} times, and at most {most} make sense",
                    life.changed
                ));
            }
        }
        found
    }

    /// What is served otherwise than it was told.
    pub fn unlike(&self, served: &[Arc<Pod>]) -> Vec<String> {
        let mut found = Vec::new();
        for pod in served {
            let place = |id: &ObjectId| pod.sandboxes.iter().position(|it| it.id == *id);
            let place = |id: &ObjectId| place(id).unwrap_or(usize::MAX);
            if !pod.sandboxes.is_sorted_by_key(|it| Reverse(it.attempt)) {
                found.push(format!("the newest sandbox of {} does not come first", pod.identity.name));
            }
            if !pod.containers.is_sorted_by_key(|it| (place(&it.sandbox_id), Reverse(it.attempt))) {
                found.push(format!("the containers of {} are not in order", pod.identity.name));
            }
        }
        let sandboxes = served.iter().flat_map(|pod| &pod.sandboxes).cloned().map(Status::Sandbox);
        let containers = served.iter().flat_map(|pod| &pod.containers).cloned().map(Status::Container);
        for status in sandboxes.chain(containers) {
            let expected = match status.phase() {
                None => continue,
                Some(Phase::Created) => 0,
                Some(Phase::Running) => 1,
                Some(Phase::Exited) => 2,
            };
            match self.by_id.get(status.id().as_str()) {
                Some(life) if life.reached == expected => {}
                life => found.push(format!(
                    "{} is served as {:?}, told was {life:?}",
                    status.id(),
                    status.phase()
                )),
            }
        }
        found
    }
}

// === impl Life ===

impl Life {
    /// What is wrong with the order, if anything.
    fn hear(&mut self, heard: &Heard, of_id: &[&Change]) -> Option<&'static str> {
        let kind = heard.event.kind;
        // Where that was not true, it comes back.
        let was_removed = |until| of_id.iter().any(|it| it.kind == ChangeKind::Removed && it.at <= until);
        if self.removed.is_some_and(|removed| !was_removed(removed)) {
            let Self { first, started, started_at, died, died_at, code, corrected, changed, .. } = *self;
            let told = Self {
                first,
                started,
                started_at,
                died,
                died_at,
                code,
                corrected,
                changed,
                ..Self::default()
            };
            *self = told;
        }
        self.first.get_or_insert(heard.at);
        if self.removed.is_some() {
            return Some("after its removal: resurrected");
        }
        let step = match kind {
            EventType::ContainerChanged => {
                self.changed += 1;
                // Where its status could not be read, the code comes later.
                self.code |= heard.event.exit_code.is_some();
                return None;
            }
            EventType::PodSync => {
                self.corrected += 1;
                // What was shown to have ended was running, and may end again.
                self.reached = 1;
                return None;
            }
            EventType::ContainerStarted => 1,
            EventType::ContainerDied => 2,
            EventType::ContainerRemoved => 3,
        };
        let may_return = of_id.iter().filter(|change| change.kind == ChangeKind::ReadyAgain).count();
        // What a list showed to have ended and has not comes back, too.
        let deaths = of_id.iter().filter(|change| matches!(change.kind, ChangeKind::Died { .. })).count();
        let may_return = may_return + usize::from(self.died && deaths == 0);
        if step == 1 && self.reached == 2 && self.returned < may_return {
            self.returned += 1;
        } else if step <= self.reached {
            return Some("after what comes later: twice, or backward");
        }
        let unmourned = step == 3 && self.reached < 2;
        self.reached = step;
        match kind {
            EventType::ContainerStarted => {
                self.started = true;
                self.started_at.get_or_insert(heard.at);
            }
            EventType::ContainerDied => {
                (self.died, self.inferred) = (true, heard.event.inferred);
                self.died_at.get_or_insert(heard.at);
                self.code = heard.event.exit_code.is_some();
            }
            _ => self.removed = Some(heard.at),
        }
        unmourned.then_some("without its death")
    }

    /// What is wrong with the order of the reasons for which it ended, if anything.
    fn hear_reason(&mut self, event: &Event, of_id: &[&Change]) -> Option<&'static str> {
        let reason_of = |change: &&Change| match &change.kind {
            ChangeKind::Died { reason, .. } | ChangeKind::ReasonChanged { reason } => Some(reason.clone()),
            _ => None,
        };
        let reasons: Vec<String> = of_id.iter().filter_map(reason_of).collect();
        let told = reasons.iter().rposition(|reason| *reason == event.reason)? + 1;
        let before = std::mem::replace(&mut self.reasons, told);
        (told < before).then_some("for a reason that was another one by then, and told")
    }
}

/// What is not true in it, if anything.
fn lie(event: &Event, of_id: &[&Change], facts: &Facts) -> Option<String> {
    let ahead = facts.get(event.id.as_str()).map_or(0, |fact| fact.clock_offset);
    let happened = |is: &dyn Fn(&ChangeKind) -> bool| of_id.iter().any(|change| is(&change.kind));
    let removed = happened(&|what| *what == ChangeKind::Removed);
    let times = |is: &dyn Fn(&ChangeKind) -> bool| -> Vec<Wall> {
        let of_kind = of_id.iter().filter(|change| is(&change.kind));
        // As its own clock shows them.
        of_kind.map(|change| Wall::from_nanos(change.wall.as_nanos() + ahead)).collect()
    };
    let container = event.subject == Subject::Container;
    match event.kind {
        EventType::ContainerStarted => {
            let starts = times(&|what| matches!(what, ChangeKind::Started | ChangeKind::ReadyAgain));
            if starts.is_empty() {
                return Some("and it has not".into());
            }
            // CRI does not say when a sandbox became ready.
            let at = event.occurred_at.filter(|_| container);
            at.filter(|at| !starts.contains(at)).map(|at| format!("at {at}, and it was at {starts:?}"))
        }
        EventType::ContainerDied => {
            let deaths = times(&|what| matches!(what, ChangeKind::Died { .. }));
            if deaths.is_empty() {
                return (!(removed && event.inferred)).then(|| "and it has not".into());
            }
            let codes: Vec<i32> = of_id.iter().filter_map(|change| exit_code(&change.kind)).collect();
            if container && event.exit_code.is_some_and(|code| !codes.contains(&code)) {
                return Some(format!("and its exit codes were {codes:?}"));
            }
            let at = event.occurred_at.filter(|_| container);
            at.filter(|at| !deaths.contains(at)).map(|at| format!("at {at}, and it was at {deaths:?}"))
        }
        EventType::ContainerRemoved => (!removed).then(|| "and it is there".into()),
        EventType::ContainerChanged | EventType::PodSync => {
            of_id.is_empty().then(|| "and there was never such a thing".into())
        }
    }
}

fn exit_code(what: &ChangeKind) -> Option<i32> {
    match what {
        ChangeKind::Died { exit_code, .. } => Some(*exit_code),
        _ => None,
    }
}

/// An event in few words.
pub fn words(event: &Event) -> String {
    format!("{} {}", super::support::word(event), event.id)
}
