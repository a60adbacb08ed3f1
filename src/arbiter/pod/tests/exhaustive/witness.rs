//! The witness: knows the truth, remembers what was said and published, and objects.

use super::{
    super::{super::*, bench::word},
    play::Play,
};
use crate::{arbiter::pod::Outcome, clock::STEP_MARGIN, model::*};

/// Something was published or held that must not be, in words.
pub(super) type Objection = String;

/// What has been said to plegd, and published by it, of each id of the play, in the play's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Witness(pub(super) Vec<Story>);

/// Of one id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Story {
    /// The furthest that any view has shown it.
    pub(super) seen: Option<Phase>,
    /// The furthest that any event has said that it has come.
    pub(super) heard: Option<Phase>,
    /// A view has shown it dead, with its exit code.
    pub(super) seen_dead: bool,
    pub(super) seen_at_all: bool,
    pub(super) heard_deleted: bool,
    /// The furthest that was published.
    pub(super) published: Option<Phase>,
    pub(super) told_at_all: bool,
    pub(super) told_started: bool,
    pub(super) told_removed: bool,
    /// The last read that saw it; kept only where views may lie.
    pub(super) last_read: Option<(Mono, Mono, Option<Phase>)>,
}

// === impl Witness ===

impl Witness {
    pub(super) fn of(play: &Play) -> Self {
        Self(play.ids().map(|_| Story::default()).collect())
    }

    /// An observation was settled at `moment`: what it says is remembered, and what came of it is held against all rules.
    pub(super) fn hear(
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
            let at = place(play, &transition.id)?;
            let is_read = observation.origin != Origin::Event;
            let held = before.records.get(&transition.id).and_then(|record| record.interval.lower);
            if held.is_some_and(|lower| observation.claimed + STEP_MARGIN < lower) {
                return Err(format!("{}: what is held is younger", word(transition)));
            }
            let change = [before, after].map(|pod| pod.records.get(&transition.id).map(Box::as_ref));
            let change = (change[0], change[1]);
            self.0[at]
                .tell(transition, change, is_read)
                .and_then(|()| self.0[at].is_proven(play, moment, transition, observation))
                .and_then(|()| is_agreed_on(&earlier.0[at], transition, observation, before))
                .map_err(|why| format!("{}: {why}", word(transition)))?;
        }
        for (id, story) in play.ids().zip(&self.0) {
            story
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
            let Ok(at) = place(play, id) else { continue };
            let story = &mut self.0[at];
            // Of what was stamped before the journal began, nobody is published who does not know of the id already.
            if is_old && !before.records.contains_key(id) {
                continue;
            }
            story.seen_at_all = true;
            story.seen = story.seen.max(phase);
            story.seen_dead |= phase == Some(Phase::Exited) && exit_code;
            if !is_event && play.lie.is_some() {
                let lower = observation.interval.lower.unwrap_or(Mono::ZERO);
                story.last_read = Some((lower, observation.interval.upper, phase));
            }
        }
        let Some(signal) = &observation.stream_event else { return };
        let Ok(at) = place(play, &signal.id) else { return };
        if is_old && !before.records.contains_key(&signal.id) {
            return;
        }
        // A read that began after it was stamped has seen what it says.
        let held = before.records.get(&signal.id);
        if held.is_some_and(|record| record.interval.lower > Some(observation.claimed)) {
            return;
        }
        let story = &mut self.0[at];
        match signal.kind {
            StreamEventType::Created => story.heard = story.heard.max(Some(Phase::Created)),
            StreamEventType::Started => story.heard = story.heard.max(Some(Phase::Running)),
            StreamEventType::Stopped => story.heard = story.heard.max(Some(Phase::Exited)),
            StreamEventType::Deleted => story.heard_deleted = true,
        }
    }

    /// A read decides on what was said of an id and not taken.
    pub(super) fn read_up_on(&mut self, play: &Play, id: &ObjectId) {
        if let Ok(at) = place(play, id) {
            let story = &mut self.0[at];
            (story.heard, story.heard_deleted, story.seen) = (None, false, story.published);
        }
    }

    /// What is held and published, and what is still to be read, leaves nothing out of what was said.
    pub(super) fn nothing_is_left_out(
        &self,
        play: &Play,
        moment: usize,
        pod: &PodState,
        is_asked_for: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<(), Objection> {
        for (id, story) in play.ids().zip(&self.0) {
            if story.told_removed || is_asked_for(id) {
                continue;
            }
            let published_phase = pod.records.get(id).and_then(|record| record.published_phase);
            if published_phase < story.seen {
                return Err(format!(
                    "{id}: {:?} was seen, {published_phase:?} is published, and no read is asked for",
                    story.seen
                ));
            }
            // Of what is heard of and cannot be read any more, only the deletion is published.
            let is_there = play.moments[moment.min(play.end())].find(id).is_some();
            if published_phase < story.heard && (is_there || story.told_at_all) {
                return Err(format!(
                    "{id}: {:?} was heard, {published_phase:?} is published, and no read is asked for",
                    story.heard
                ));
            }
            if story.seen_at_all && !story.told_at_all {
                return Err(format!("{id}: was seen, and nobody was published"));
            }
            if story.heard_deleted {
                return Err(format!(
                    "{id}: its deletion was heard, is not published, and no read is asked for"
                ));
            }
        }
        Ok(())
    }

    /// What is served of each id is what it was at some moment up to this one, field by field.
    pub(super) fn nothing_is_invented(&self, play: &Play, pod: &PodState) -> Result<(), Objection> {
        for (id, record) in pod.records.iter().filter(|(_, record)| record.visibility == Visibility::Served) {
            let history = play.history.get(id).ok_or(format!("{id} never was"))?;
            let may_lie = play.lie.is_some_and(|(liar, _)| liar == id.as_str());
            let was = |status: &Status| *status == record.status || is_cut_down(&record.status, status);
            if !may_lie && !history.iter().any(was) {
                return Err(format!("{id} never was like this: {:?}", record.status));
            }
        }
        Ok(())
    }
}

// === impl Story ===

impl Story {
    /// Each step is published once, in order, and what is gone stays gone.
    fn tell(
        &mut self,
        published: &Transition,
        (before, after): (Option<&Record>, Option<&Record>),
        is_read: bool,
    ) -> Result<(), Objection> {
        if self.told_removed {
            return Err("its removal was published before".into());
        }
        match published.kind {
            EventType::ContainerChanged => {
                let same = |(before, after): (&Record, &Record)| {
                    before.status == after.status && before.visibility == after.visibility
                };
                if self.told_at_all && before.zip(after).is_some_and(same) {
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
                (self.published, self.seen) = (Some(Phase::Running), Some(Phase::Running));
            }
            EventType::ContainerStarted => (self.published, self.told_started) = (Some(Phase::Running), true),
            EventType::ContainerDied if self.published == Some(Phase::Exited) => {
                return Err("its death was published before".into());
            }
            EventType::ContainerDied => self.published = Some(Phase::Exited),
            EventType::ContainerRemoved if self.published != Some(Phase::Exited) => {
                return Err("its death was not published".into());
            }
            EventType::ContainerRemoved => self.told_removed = true,
            EventType::PodSync => {
                self.published = after.and_then(|record| record.status.phase());
                self.seen = self.published;
            }
        }
        self.told_at_all = true;
        Ok(())
    }

    /// What is published was true by then, and somebody has said it or its times prove it.
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
                // CRI does not say when a sandbox became ready: at most an event does.
                let unknown = observation.detail == Detail::Minimal && published.occurred_at.is_none()
                    || published.subject == Subject::Sandbox;
                if !was(Phase::Running)
                    || self.seen < Some(Phase::Running)
                    || (published.occurred_at != at && !unknown)
                {
                    return Err("it never was, or at another time".into());
                }
                let shown = observation.containers.iter().find(|shown| shown.id == published.id);
                let says_so = matches!(&observation.stream_event, Some(signal)
                    if signal.id == published.id && signal.kind == StreamEventType::Started);
                let dead = shown.is_some_and(|shown| shown.state.phase() == Some(Phase::Exited));
                if published.subject == Subject::Container && published.inferred != (dead && !says_so) {
                    return Err("it is inferred, or is not, wrongly".into());
                }
            }
            EventType::ContainerDied if published.inferred => {
                let gone = play.moments[moment].find(&published.id).is_none();
                if self.seen_dead || !gone {
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
                if self.seen < Some(Phase::Exited) || !ends.any(same) {
                    return Err("it never was, or otherwise".into());
                }
            }
            EventType::ContainerRemoved => {
                let gone = play.moments[moment].find(&published.id).is_none();
                if !gone {
                    return Err("it is there".into());
                }
            }
            EventType::PodSync => return Err("there was nothing to correct".into()),
        }
        Ok(())
    }

    /// What is held is what was published, and it has not gone back in silence.
    fn fits(&self, id: &ObjectId, before: Option<&Record>, after: Option<&Record>) -> Result<(), Objection> {
        match after {
            Some(record) if self.told_removed => Err(format!("is back from the dead: {record:?}")),
            Some(record) if record.published_phase != self.published => {
                Err(format!("{:?} is held, {:?} was published", record.published_phase, self.published))
            }
            None if before.is_some() && !self.told_removed => Err(format!("{id} was dropped in silence")),
            Some(record) => {
                let grows = before.is_none_or(|old| {
                    record.interval.lower >= old.interval.lower && record.interval.upper >= old.interval.upper
                });
                if grows { Ok(()) } else { Err("knowledge of it has grown older".into()) }
            }
            None => Ok(()),
        }
    }
}

/// A correction needs two reads in a row that agree, the first begun after what was held, the second after the first.
fn is_agreed_on(
    earlier: &Story,
    published: &Transition,
    observation: &Observation,
    before: &PodState,
) -> Result<(), Objection> {
    if published.kind != EventType::PodSync {
        return Ok(());
    }
    let held = before.records.get(&published.id).ok_or("nothing was held")?;
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
        other => Err(format!("no two reads agree on it: the one before is {other:?}")),
    }
}

/// A status that a list or a cut-down event has shown: what it has, it has right.
fn is_cut_down(held: &Status, truth: &Status) -> bool {
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

fn place(play: &Play, id: &ObjectId) -> Result<usize, Objection> {
    play.ids().position(|known| known == id).ok_or(format!("{id}: there is no such id"))
}
