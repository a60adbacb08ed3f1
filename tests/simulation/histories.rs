//! Checks the published events in order: each id has one forward history, and every claim is true.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use plegd::{
    clock::{Mono, Wall},
    model::{Event, EventType, ObjectId, Phase, Pod, Status, Subject},
    sim::{Change, ChangeKind},
};

use super::{
    claims::{self, Addresses},
    driver::{FaultPeriods, Received},
    facts::Facts,
    witness::FalseClaim,
};

/// All events of the current plegd, and their violations.
#[derive(Default)]
pub struct Histories {
    pub received: Vec<Received>,
    pub by_id: BTreeMap<String, IdHistory>,
    pub found: Vec<String>,
    /// Claims that are untrue, judged without the responses of the runtime.
    pub false_claims: Vec<FalseClaim>,
    /// The corrections, with their times.
    pub corrections: Vec<(String, Mono)>,
    addresses: Addresses,
}

/// The state of the node at the time of an event.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// All changes so far.
    pub history: &'a [Change],
    pub facts: &'a Facts,
    pub fault_periods: &'a FaultPeriods,
}

/// The published history of one id.
#[derive(Clone, Debug, Default)]
pub struct IdHistory {
    /// The published phase: 1 is started, 2 dead, 3 removed.
    reached: u8,
    pub started: bool,
    pub died: bool,
    /// The time of the first event.
    pub first: Option<Mono>,
    pub started_at: Option<Mono>,
    /// How often it was published as changed.
    pub changed: usize,
    pub died_at: Option<Mono>,
    /// Its death was inferred.
    pub inferred: bool,
    /// Its exit code was published, with the death or after it.
    pub code: bool,
    pub removed: Option<Mono>,
    /// The number of corrections.
    pub corrected: u32,
    returned: usize,
    /// The number of reasons up to the one published last.
    reasons: usize,
}

// === impl Histories ===

impl Histories {
    /// Takes the next event.
    pub fn receive(&mut self, received: Received, context: Context<'_>) {
        let event = &received.event;
        let of_id = context.history.iter().filter(|change| change.id == event.id.as_str());
        let of_id: Vec<&Change> = of_id.collect();
        let expected = self.received.last().map_or(1, |last| last.event.sequence + 1);
        if event.sequence != expected {
            self.found.push(format!("{} follows {}", event.sequence, expected - 1));
        }
        let id_history = self.by_id.entry(event.id.to_string()).or_default();
        let wrong = [
            id_history.receive(&received, &of_id).map(Into::into),
            id_history.check_reason(event, &of_id).map(Into::into),
            claims::wrong_names(&received, context.facts, context.fault_periods),
            self.addresses.lost(&received),
        ];
        let wrong = wrong.into_iter().flatten();
        self.found.extend(wrong.map(|it| format!("{}: {} {it}", event.sequence, words(event))));
        if let Some(claim) = claim(event, &of_id, context.facts) {
            let text = format!("{}: {} {claim}", event.sequence, words(event));
            self.false_claims.push(FalseClaim {
                id: event.id.to_string(),
                kind: event.kind,
                at: received.at,
                text,
            });
        }
        if event.kind == EventType::PodSync {
            self.corrections.push((event.id.to_string(), received.at));
        }
        self.received.push(received);
    }
}

impl Histories {
    /// Ids that were published as changed more often than they changed.
    pub fn changed_too_often(&self, facts: &Facts) -> Vec<String> {
        let mut found = Vec::new();
        for (id, id_history) in &self.by_id {
            let Some(fact) = facts.get(id) else { continue };
            let most = fact.changes() + id_history.corrected as usize + 1;
            if id_history.changed > most {
                found.push(format!(
                    "{id} was published as changed {} times, and at most {most} are valid",
                    id_history.changed
                ));
            }
        }
        found
    }

    /// Differences between the served state and the published events.
    pub fn served_differences(&self, served: &[Arc<Pod>]) -> Vec<String> {
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
                Some(id_history) if id_history.reached == expected => {}
                id_history => found.push(format!(
                    "{} is served as {:?}, published was {id_history:?}",
                    status.id(),
                    status.phase()
                )),
            }
        }
        found
    }
}

// === impl IdHistory ===

impl IdHistory {
    /// The violation of the order, if any.
    fn receive(&mut self, received: &Received, of_id: &[&Change]) -> Option<&'static str> {
        let kind = received.event.kind;
        // If the removal was untrue, the id returns.
        let was_removed = |until| of_id.iter().any(|it| it.kind == ChangeKind::Removed && it.at <= until);
        if self.removed.is_some_and(|removed| !was_removed(removed)) {
            let Self { first, started, started_at, died, died_at, code, corrected, changed, .. } = *self;
            let returned = Self {
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
            *self = returned;
        }
        self.first.get_or_insert(received.at);
        if self.removed.is_some() {
            return Some("after its removal");
        }
        let step = match kind {
            EventType::ContainerChanged => {
                self.changed += 1;
                // If its status could not be read, the exit code comes later.
                self.code |= received.event.exit_code.is_some();
                return None;
            }
            EventType::PodSync => {
                self.corrected += 1;
                // A container that was wrongly shown as running or ended is in an earlier phase, and may go on from there.
                self.reached = match phase_in(received) {
                    Some(Phase::Created) => 0,
                    _ => 1,
                };
                return None;
            }
            EventType::ContainerStarted => 1,
            EventType::ContainerDied => 2,
            EventType::ContainerRemoved => 3,
        };
        let may_return = of_id.iter().filter(|change| change.kind == ChangeKind::ReadyAgain).count();
        // An object that a list wrongly showed as ended returns too.
        let deaths = of_id.iter().filter(|change| matches!(change.kind, ChangeKind::Died { .. })).count();
        let may_return = may_return + usize::from(self.died && deaths == 0);
        if step == 1 && self.reached == 2 && self.returned < may_return {
            self.returned += 1;
        } else if step <= self.reached {
            return Some("after a later phase: twice, or backward");
        }
        let without_death = step == 3 && self.reached < 2;
        self.reached = step;
        match kind {
            EventType::ContainerStarted => {
                self.started = true;
                self.started_at.get_or_insert(received.at);
            }
            EventType::ContainerDied => {
                (self.died, self.inferred) = (true, received.event.inferred);
                self.died_at.get_or_insert(received.at);
                self.code = received.event.exit_code.is_some();
            }
            _ => self.removed = Some(received.at),
        }
        without_death.then_some("without its death")
    }

    /// The violation of the order of its reasons, if any.
    fn check_reason(&mut self, event: &Event, of_id: &[&Change]) -> Option<&'static str> {
        let reason_of = |change: &&Change| match &change.kind {
            ChangeKind::Died { reason, .. } | ChangeKind::ReasonChanged { reason } => Some(reason.clone()),
            _ => None,
        };
        let reasons: Vec<String> = of_id.iter().filter_map(reason_of).collect();
        let current = reasons.iter().rposition(|reason| *reason == event.reason)? + 1;
        let before = std::mem::replace(&mut self.reasons, current);
        (current < before).then_some("with an older reason than published before")
    }
}

/// The phase of the event's container in the pod after the event.
fn phase_in(received: &Received) -> Option<Phase> {
    let containers = &received.pod.as_ref()?.containers;
    containers.iter().find(|it| it.id == received.event.id)?.state.phase()
}

/// The untrue claim in an event, if any.
fn claim(event: &Event, of_id: &[&Change], facts: &Facts) -> Option<String> {
    let ahead = facts.get(event.id.as_str()).map_or(0, |fact| fact.clock_offset);
    let happened = |is: &dyn Fn(&ChangeKind) -> bool| of_id.iter().any(|change| is(&change.kind));
    let removed = happened(&|what| *what == ChangeKind::Removed);
    let times = |is: &dyn Fn(&ChangeKind) -> bool| -> Vec<Wall> {
        let of_kind = of_id.iter().filter(|change| is(&change.kind));
        // By its own clock.
        of_kind.map(|change| Wall::from_nanos(change.wall.as_nanos() + ahead)).collect()
    };
    let container = event.subject == Subject::Container;
    match event.kind {
        EventType::ContainerStarted => {
            let starts = times(&|what| matches!(what, ChangeKind::Started | ChangeKind::ReadyAgain));
            if starts.is_empty() {
                return Some("but did not".into());
            }
            // CRI has no time at which a sandbox became ready.
            let at = event.occurred_at.filter(|_| container);
            at.filter(|at| !starts.contains(at)).map(|at| format!("at {at}, and it was at {starts:?}"))
        }
        EventType::ContainerDied => {
            let deaths = times(&|what| matches!(what, ChangeKind::Died { .. }));
            if deaths.is_empty() {
                return (!(removed && event.inferred)).then(|| "but did not".into());
            }
            let codes: Vec<i32> = of_id.iter().filter_map(|change| exit_code(&change.kind)).collect();
            if container && event.exit_code.is_some_and(|code| !codes.contains(&code)) {
                return Some(format!("and its exit codes were {codes:?}"));
            }
            let at = event.occurred_at.filter(|_| container);
            at.filter(|at| !deaths.contains(at)).map(|at| format!("at {at}, and it was at {deaths:?}"))
        }
        EventType::ContainerRemoved => (!removed).then(|| "but still exists".into()),
        EventType::ContainerChanged | EventType::PodSync => {
            of_id.is_empty().then(|| "but never existed".into())
        }
    }
}

fn exit_code(what: &ChangeKind) -> Option<i32> {
    match what {
        ChangeKind::Died { exit_code, .. } => Some(*exit_code),
        _ => None,
    }
}

/// Short text of an event.
pub fn words(event: &Event) -> String {
    format!("{} {}", super::support::word(event), event.id)
}
