//! The witness: knows the truth, remembers observations and published events, and checks both.

use super::{
    super::{super::*, bench::word},
    play::Play,
};
use crate::{arbiter::pod::Outcome, clock::STEP_MARGIN, model::*};

/// A violated rule, as text.
pub(super) type Objection = String;

/// The observations and published events of each id of the play, in the play's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Witness(pub(super) Vec<IdHistory>);

/// The observations and published events of one id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct IdHistory {
    /// The latest phase in any view.
    pub(super) observed: Option<Phase>,
    /// The latest phase that an event has reported.
    pub(super) reported: Option<Phase>,
    /// Whether a view has shown it exited, with its exit code.
    pub(super) observed_dead: bool,
    pub(super) observed_any: bool,
    pub(super) reported_deleted: bool,
    /// The latest published phase.
    pub(super) published: Option<Phase>,
    pub(super) published_any: bool,
    pub(super) published_start: bool,
    pub(super) published_removal: bool,
    /// The last read that returned it; only if views may be false.
    pub(super) last_read: Option<(Mono, Mono, Option<Phase>)>,
}

// === impl Witness ===

impl Witness {
    pub(super) fn of(play: &Play) -> Self {
        Self(play.ids().map(|_| IdHistory::default()).collect())
    }

    /// An observation was applied at `moment`: remembers it, and checks its outcome against all rules.
    pub(super) fn check(
        &mut self,
        play: &Play,
        moment: usize,
        observation: &Observation,
        before: &PodState,
        after: &PodState,
        out: &Outcome,
    ) -> Result<(), Objection> {
        let earlier = self.clone();
        self.remember(play, observation, before);
        for transition in &out.transitions {
            let at = index_of(play, &transition.id)?;
            let is_read = observation.origin != Origin::Event;
            let held = before.records.get(&transition.id).and_then(|record| record.interval.lower);
            if held.is_some_and(|lower| observation.claimed + STEP_MARGIN < lower) {
                return Err(format!("{}: the record is younger", word(transition)));
            }
            let change = [before, after].map(|pod| pod.records.get(&transition.id).map(Box::as_ref));
            let change = (change[0], change[1]);
            self.0[at]
                .publish(transition, change, is_read)
                .and_then(|()| self.0[at].is_proven(play, moment, transition, observation))
                .and_then(|()| is_agreed_on(&earlier.0[at], transition, observation, before))
                .map_err(|why| format!("{}: {why}", word(transition)))?;
        }
        for (id, history) in play.ids().zip(&self.0) {
            history
                .fits(id, before.records.get(id).map(Box::as_ref), after.records.get(id).map(Box::as_ref))
                .map_err(|why| format!("{id}: {why}"))?;
        }
        Ok(())
    }

    fn remember(&mut self, play: &Play, observation: &Observation, before: &PodState) {
        let is_event = observation.origin == Origin::Event;
        let is_old = is_event && observation.claimed < play.began();
        let containers =
            observation.containers.iter().map(|it| (&it.id, it.state.phase(), it.exit_code.is_some()));
        let sandboxes = observation.sandboxes.iter().map(|it| (&it.id, Some(it.state.phase()), false));
        for (id, phase, exit_code) in containers.chain(sandboxes) {
            let Ok(at) = index_of(play, id) else { continue };
            let history = &mut self.0[at];
            // Events with a timestamp before the journal began are not published for unknown ids.
            if is_old && !before.records.contains_key(id) {
                continue;
            }
            history.observed_any = true;
            history.observed = history.observed.max(phase);
            history.observed_dead |= phase == Some(Phase::Exited) && exit_code;
            if !is_event && play.lie.is_some() {
                let lower = observation.interval.lower.unwrap_or(Mono::ZERO);
                history.last_read = Some((lower, observation.interval.upper, phase));
            }
        }
        let Some(signal) = &observation.stream_event else { return };
        let Ok(at) = index_of(play, &signal.id) else { return };
        if is_old && !before.records.contains_key(&signal.id) {
            return;
        }
        // A read that began after the timestamp includes the change.
        let held = before.records.get(&signal.id);
        if held.is_some_and(|record| record.interval.lower > Some(observation.claimed)) {
            return;
        }
        let history = &mut self.0[at];
        match signal.kind {
            StreamEventType::Created => history.reported = history.reported.max(Some(Phase::Created)),
            StreamEventType::Started => history.reported = history.reported.max(Some(Phase::Running)),
            StreamEventType::Stopped => history.reported = history.reported.max(Some(Phase::Exited)),
            StreamEventType::Deleted => history.reported_deleted = true,
        }
    }

    /// A read has decided about reports of an id that were not applied.
    pub(super) fn decided(&mut self, play: &Play, id: &ObjectId) {
        if let Ok(at) = index_of(play, id) {
            let history = &mut self.0[at];
            (history.reported, history.reported_deleted, history.observed) = (None, false, history.published);
        }
    }

    /// Each observation is published, or a read is requested.
    pub(super) fn nothing_is_left_out(
        &self,
        play: &Play,
        moment: usize,
        pod: &PodState,
        is_requested: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<(), Objection> {
        for (id, history) in play.ids().zip(&self.0) {
            if history.published_removal || is_requested(id) {
                continue;
            }
            let published_phase = pod.records.get(id).and_then(|record| record.published_phase);
            if published_phase < history.observed {
                return Err(format!(
                    "{id}: {:?} was observed, {published_phase:?} is published, and no read is requested",
                    history.observed
                ));
            }
            // Of an id that was only reported and that cannot be read any more, only the deletion is published.
            let is_there = play.moments[moment.min(play.end())].find(id).is_some();
            if published_phase < history.reported && (is_there || history.published_any) {
                return Err(format!(
                    "{id}: {:?} was reported, {published_phase:?} is published, and no read is requested",
                    history.reported
                ));
            }
            if history.observed_any && !history.published_any {
                return Err(format!("{id}: was observed, and nothing is published"));
            }
            if history.reported_deleted {
                return Err(format!(
                    "{id}: its deletion was reported, is not published, and no read is requested"
                ));
            }
        }
        Ok(())
    }

    /// The served status of each id was true at some moment, field by field.
    pub(super) fn nothing_is_invented(&self, play: &Play, pod: &PodState) -> Result<(), Objection> {
        for (id, record) in pod.records.iter().filter(|(_, record)| record.visibility == Visibility::Served) {
            let history = play.history.get(id).ok_or(format!("{id} never existed"))?;
            let may_lie = play.lie.is_some_and(|(liar, _)| liar == id.as_str());
            let was = |status: &Status| *status == record.status || is_stripped(&record.status, status);
            if !may_lie && !history.iter().any(was) {
                return Err(format!("{id} never had this status: {:?}", record.status));
            }
        }
        Ok(())
    }
}

// === impl IdHistory ===

impl IdHistory {
    /// Each phase is published once and in order, and a removed id stays removed.
    fn publish(
        &mut self,
        published: &Transition,
        (before, after): (Option<&Record>, Option<&Record>),
        is_read: bool,
    ) -> Result<(), Objection> {
        if self.published_removal {
            return Err("its removal was published before".into());
        }
        match published.kind {
            EventType::ContainerChanged => {
                let same = |(before, after): (&Record, &Record)| {
                    before.status == after.status && before.visibility == after.visibility
                };
                if self.published_any && before.zip(after).is_some_and(same) {
                    return Err("nothing has changed".into());
                }
                let phase = after.and_then(|record| record.status.phase());
                self.published = self.published.max(phase);
            }
            EventType::ContainerStarted if self.published >= Some(Phase::Running) => {
                let returned =
                    published.subject == Subject::Sandbox && is_read && self.published == Some(Phase::Exited);
                if !returned {
                    return Err(format!("{:?} was published before", self.published));
                }
                (self.published, self.observed) = (Some(Phase::Running), Some(Phase::Running));
            }
            EventType::ContainerStarted => {
                (self.published, self.published_start) = (Some(Phase::Running), true)
            }
            EventType::ContainerDied if self.published == Some(Phase::Exited) => {
                return Err("its death was published before".into());
            }
            EventType::ContainerDied => self.published = Some(Phase::Exited),
            EventType::ContainerRemoved if self.published != Some(Phase::Exited) => {
                return Err("its death was not published".into());
            }
            EventType::ContainerRemoved => self.published_removal = true,
            EventType::PodSync => {
                self.published = after.and_then(|record| record.status.phase());
                self.observed = self.published;
            }
        }
        self.published_any = true;
        Ok(())
    }

    /// A published change is true, and a view shows it or its times prove it.
    fn is_proven(
        &self,
        play: &Play,
        moment: usize,
        published: &Transition,
        observation: &Observation,
    ) -> Result<(), Objection> {
        if play.lie.is_some_and(|(id, _)| id == published.id.as_str()) {
            return Ok(());
        }
        let so_far = &play.moments[..=moment];
        let was =
            |phase| so_far.iter().filter_map(|it| it.find(&published.id)).any(|it| it.phase() == Some(phase));
        match published.kind {
            EventType::ContainerChanged => {}
            EventType::ContainerStarted => {
                let at = so_far.iter().filter_map(|it| it.find(&published.id)).find_map(|it| it.started_at());
                // CRI has no time at which a sandbox became ready; an event may have one.
                let unknown = observation.detail == Detail::Minimal && published.occurred_at.is_none()
                    || published.subject == Subject::Sandbox;
                if !was(Phase::Running)
                    || self.observed < Some(Phase::Running)
                    || (published.occurred_at != at && !unknown)
                {
                    return Err("it did not happen, or at another time".into());
                }
                let shown = observation.containers.iter().find(|shown| shown.id == published.id);
                let says_so = matches!(&observation.stream_event, Some(signal)
                    if signal.id == published.id && signal.kind == StreamEventType::Started);
                let dead = shown.is_some_and(|shown| shown.state.phase() == Some(Phase::Exited));
                if published.subject == Subject::Container && published.inferred != (dead && !says_so) {
                    return Err("the inferred flag is wrong".into());
                }
            }
            EventType::ContainerDied if published.inferred => {
                let gone = play.moments[moment].find(&published.id).is_none();
                if self.observed_dead || !gone {
                    return Err("it is inferred, and need not or must not be".into());
                }
            }
            EventType::ContainerDied => {
                let ends = so_far.iter().filter_map(|it| it.find(&published.id));
                let mut ends = ends.filter(|it| it.phase() == Some(Phase::Exited));
                let unknown = observation.detail == Detail::Minimal && published.exit_code.is_none();
                let same = |end: Status| match end {
                    Status::Container(_) if unknown => {
                        published.reason.is_empty() && published.occurred_at.is_none()
                    }
                    Status::Container(end) => {
                        end.exit_code == published.exit_code
                            && end.reason == published.reason
                            && end.finished_at == published.occurred_at
                    }
                    Status::Sandbox(_) => published.exit_code.is_none(),
                };
                if self.observed < Some(Phase::Exited) || !ends.any(same) {
                    return Err("it did not happen, or in another way".into());
                }
            }
            EventType::ContainerRemoved => {
                let gone = play.moments[moment].find(&published.id).is_none();
                if !gone {
                    return Err("it exists".into());
                }
            }
            EventType::PodSync => return Err("there was nothing to correct".into()),
        }
        Ok(())
    }

    /// The record has the published phase, and was not changed without an event.
    fn fits(&self, id: &ObjectId, before: Option<&Record>, after: Option<&Record>) -> Result<(), Objection> {
        match after {
            Some(record) if self.published_removal => Err(format!("is back after its removal: {record:?}")),
            Some(record) if record.published_phase != self.published => {
                Err(format!("the record has {:?}, published is {:?}", record.published_phase, self.published))
            }
            None if before.is_some() && !self.published_removal => {
                Err(format!("{id} was dropped without an event"))
            }
            Some(record) => {
                let grows = before.is_none_or(|old| {
                    record.interval.lower >= old.interval.lower && record.interval.upper >= old.interval.upper
                });
                if grows { Ok(()) } else { Err("its interval has moved back".into()) }
            }
            None => Ok(()),
        }
    }
}

/// A correction needs two consecutive reads that agree: the first began after the record's upper end, the second after the first.
fn is_agreed_on(
    earlier: &IdHistory,
    published: &Transition,
    observation: &Observation,
    before: &PodState,
) -> Result<(), Objection> {
    if published.kind != EventType::PodSync {
        return Ok(());
    }
    let held = before.records.get(&published.id).ok_or("there was no record")?;
    let shown =
        observation.containers.iter().find(|shown| shown.id == published.id).and_then(|it| it.state.phase());
    match earlier.last_read {
        Some((lower, upper, phase))
            if phase == shown
                && lower >= held.interval.upper
                && observation.interval.lower >= Some(upper) =>
        {
            Ok(())
        }
        other => Err(format!("no two reads agree; the previous one is {other:?}")),
    }
}

/// Whether a status from a list or a stripped event is true in all fields that it has.
fn is_stripped(held: &Status, truth: &Status) -> bool {
    let fits = |held: &str, truth: &str| held.is_empty() || held == truth;
    match (held, truth) {
        (Status::Container(held), Status::Container(truth)) => {
            held.state == truth.state
                && held.sandbox_id == truth.sandbox_id
                && held.created_at == truth.created_at
                && (held.started_at.is_none() || held.started_at == truth.started_at)
                && (held.finished_at.is_none() || held.finished_at == truth.finished_at)
                && (held.exit_code.is_none() || held.exit_code == truth.exit_code)
                && fits(&held.reason, &truth.reason)
                && fits(&held.image_ref, &truth.image_ref)
        }
        (Status::Sandbox(held), Status::Sandbox(truth)) => {
            held.state == truth.state && held.created_at == truth.created_at && held.attempt == truth.attempt
        }
        _ => false,
    }
}

fn index_of(play: &Play, id: &ObjectId) -> Result<usize, Objection> {
    play.ids().position(|known| known == id).ok_or(format!("{id}: unknown id"))
}
