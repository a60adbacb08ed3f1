//! Plays a plan from beginning to end, and says what was not as it must be.

use std::time::Duration;

use plegd::{
    api::v1,
    clock::Mono,
    model::EventType,
    relister::CONTENT_READS,
    sim::{
        EventFault, Method, Said, SimRuntime,
        profile::{Events, RemovedWithPod},
    },
    supervisor::Mode,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    checker::{check, check_run},
    claims,
    contradictions::{Listed, unlike_listed},
    fresh,
    late::{self, Times},
    lives::{Lives, Scene},
    oracle,
    plan::{Act, Plan},
    record::{Layer, Recording},
    stage::Stage,
    state, subscriber,
    trace::Trace,
    waits::Waited,
    witness,
};
use crate::support::truth::differences_of;

/// How often it is looked at what plegd shows of itself.
pub const LOOKS_APART: Duration = Duration::from_millis(250);
/// Calls that no life of a node asks for.
const MOST_CALLS: u64 = 20_000;
const RETRY_LONGEST: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// When a stream that was lost is tried for again at the latest, with its jitter.
const RECONNECT_LONGEST: Duration = Duration::from_secs(80);
/// The longest that a subscriber wants to wait for a bookmark, and a little more.
const BOOKMARKS_APART: Duration = Duration::from_secs(10);
/// What a runtime that is lost, or blocks, may take to be noticed.
const NOTICED: Duration = Duration::from_millis(20);

/// What came of a plan.
pub struct Outcome {
    /// What was wrong.
    pub found: Vec<String>,
    pub trace: Trace,
    pub tally: Tally,
}

/// What was met with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub simulated: Duration,
    pub told: u64,
    pub corrected: u64,
    pub misses: u64,
    pub faults: u64,
    pub readings: u64,
    pub waits: u64,
    pub restarts: u64,
    pub connections: u64,
}

struct Play<'a> {
    plan: &'a Plan,
    stage: Stage,
    lives: Lives,
    trace: Trace,
    found: Vec<String>,
    tally: Tally,
    /// Since when the stream was up, by plegd's clock, at each look.
    looks: Vec<(Mono, Option<Mono>)>,
    ready: bool,
    down_since: Option<Mono>,
    /// Which relist period was in force from when on.
    periods: Vec<(Mono, Duration)>,
    /// Calls that waited, whose answers are still to be judged.
    waited: Vec<Waited>,
}

/// Plays a plan in paused time.
pub fn played(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    // Made within: only there is tokio's clock the paused one.
    runtime.expect("a runtime").block_on(async { Play::new(plan).through().await })
}

// === impl Tally ===

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.simulated += other.simulated;
        self.told += other.told;
        self.corrected += other.corrected;
        self.misses += other.misses;
        self.faults += other.faults;
        self.readings += other.readings;
        self.waits += other.waits;
        self.restarts += other.restarts;
        self.connections += other.connections;
    }
}

// === impl Play ===

impl<'a> Play<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            stage: Stage::of(plan),
            lives: Lives::default(),
            trace: Trace::default(),
            found: Vec::new(),
            tally: Tally::default(),
            looks: Vec::new(),
            ready: false,
            down_since: None,
            periods: Vec::new(),
            waited: Vec::new(),
        }
    }

    async fn through(mut self) -> Outcome {
        let began = self.stage.now();
        self.stage.start();
        let (calm, mut subscribers) = (CancellationToken::new(), JoinSet::new());
        let mut rng = fastrand::Rng::with_seed(!self.plan.seed);
        let finding = self.stage.node.find();
        for n in 0..self.plan.subscribers {
            let serving = finding.borrow().clone().expect("it is there");
            let mut one = subscriber::Plan::any(format!("subscriber-{n}"), &mut rng, &serving);
            if let Some(selector) = self.plan.world.selector {
                one.filter.selector = selector.parse().expect("a selector");
            }
            subscribers.spawn(one.follow(Layer::Embedded, finding.clone(), calm.clone()));
        }
        for (after, act) in &self.plan.acts {
            self.pass(*after).await;
            self.act(act).await;
        }
        self.converge().await;
        self.rest().await;
        calm.cancel();
        sleep(BOOKMARKS_APART).await;
        self.look();
        self.judge().await;
        let sim = self.stage.sim().clone();
        self.stage.node.stop().await;
        let runs = self.stage.node.runs().to_vec();
        self.tally.restarts = runs.len() as u64 - 1;
        self.found.extend(runs.iter().flat_map(check_run).map(|violation| violation.to_string()));
        self.trace.history(&sim);
        let now = self.stage.now();
        let names = std::mem::take(&mut self.stage.names);
        drop((self.stage, finding));
        for recording in subscribers.join_all().await {
            self.tally.connections += recording.connections.len() as u64;
            // A pod that no longer has the labels is not published as gone.
            let elsewhere = |act: &Act| matches!(act, Act::List { fault: Listed::Elsewhere, .. });
            // Nor is one whose labels were not known, since a list showed its container in another sandbox.
            let labels_change = !recording.filter.selector.is_empty()
                && (self.plan.world.selector.is_some() || self.plan.has(elsewhere));
            let wrong = of_subscriber(&runs, &recording, &sim, labels_change);
            if !wrong.is_empty() {
                self.found.extend(wrong);
                self.found.extend(recording.trace());
            }
        }
        self.tally.simulated = now.since(began);
        self.tally.faults = sim.faults().happened();
        self.tally.told = runs.iter().map(|run| run.head()).sum();
        self.trace.name_ids(names);
        let found = self.found.iter().map(|wrong| self.trace.named(wrong)).collect();
        Outcome { found, trace: self.trace, tally: self.tally }
    }

    async fn act(&mut self, act: &Act) {
        self.trace.act(self.stage.now(), act);
        if matches!(act, Act::RestartPlegd { .. }) {
            // What is told after this is told by the next one.
            self.look();
            self.close_book();
        }
        self.stage.act(act).await;
        if let Act::Hours(hours) = act {
            self.hours(*hours).await;
        }
        if matches!(act, Act::RestartPlegd { .. }) {
            (self.ready, self.looks) = (false, Vec::new());
        }
    }

    /// Lets hours pass, with few relists.
    async fn hours(&mut self, hours: u64) {
        let (period, max_period) = self.stage.relist_every(10 * MINUTE, 60 * MINUTE);
        for _ in 0..60 * hours {
            self.pass(Duration::from_millis(1)).await;
            sleep(MINUTE).await;
        }
        self.stage.relist_every(period, max_period);
        self.pass(Duration::from_millis(1)).await;
    }

    async fn pass(&mut self, time: Duration) {
        let until = self.stage.now() + time;
        while self.stage.now() < until {
            sleep(until.since(self.stage.now()).min(LOOKS_APART)).await;
            self.stage.drift();
            self.look();
        }
    }

    /// What one plegd has told is complete.
    fn close_book(&mut self) {
        self.take_answers();
        let (said, began) = (self.stage.sim().said(), self.stage.began);
        self.hold_against(&said, began);
        self.lives = Lives::default();
    }

    /// Holds what this plegd has told against what the runtime has said.
    fn hold_against(&mut self, said: &[Said], began: Mono) {
        self.found.append(&mut self.lives.found);
        let Stage { announced, hindrances, wrong_lists, .. } = &self.stage;
        let empty_lists = self.plan.has(|act| matches!(act, Act::EmptyLists));
        let facts = &self.stage.facts;
        // What has ended, or whose sandbox has, is expected to go: it is looked for by lists of its id alone.
        let has_ended = |id: &str, at| facts.get(id).is_some_and(|fact| witness::was_ever(fact, 3, at));
        let lies = self.lives.lies.iter().filter(|lie| {
            let sandbox = facts.get(&lie.id).map_or("", |fact| &fact.sandbox_id);
            let empty = empty_lists && wrong_lists.any(lie.at - 2 * LOOKS_APART, lie.at);
            let removal = matches!(lie.kind, EventType::ContainerRemoved | EventType::ContainerDied);
            !(empty && removal && (has_ended(&lie.id, lie.at) || has_ended(sandbox, lie.at)))
        });
        let own = witness::own_lies(lies, said, began, announced, hindrances);
        self.found.extend(own.map(str::to_owned));
        self.found.extend(witness::hasty(&self.lives.corrections, said, began));
        let Stage { facts, wrong_lists, .. } = &self.stage;
        let initial = claims::wrongly_initial(&self.lives.heard, said, began, facts, wrong_lists);
        self.found.extend(initial);
        let times = Times {
            began,
            now: self.stage.now(),
            uncertain: &self.stage.uncertain,
            steps: &self.stage.steps,
            hindrances: &self.stage.hindrances,
        };
        self.found.extend(late::late(said, &self.stage.facts, &self.lives, times));
        let periods = std::mem::take(&mut self.periods);
        self.found.extend(late::unlisted(said, &periods, times));
        for waited in std::mem::take(&mut self.waited) {
            self.found.extend(waited.wrong(&self.lives.heard));
        }
        for waiting in std::mem::take(&mut self.stage.waiting) {
            self.found.extend(waiting.overdue(&self.lives.heard));
        }
    }

    /// Takes the answers of those who waited.
    fn take_answers(&mut self) {
        while let Some(waited) = self.stage.waits.try_join_next() {
            self.tally.waits += 1;
            if let Ok(waited) = waited {
                self.stage.waiting.retain(|it| !it.is(&waited));
                self.waited.push(waited);
            }
        }
    }

    /// Takes what was told, and holds what plegd shows of itself against what is so.
    fn look(&mut self) {
        let now = self.stage.now();
        let sim = self.stage.sim().clone();
        self.stage.facts.sample(&sim);
        let heard = self.stage.heard();
        if !heard.is_empty() {
            let history = self.stage.sim().history();
            let stage = &self.stage;
            let scene = Scene { history: &history, facts: &stage.facts, hindrances: &stage.hindrances };
            for heard in heard {
                self.trace.told(&heard);
                self.lives.hear(heard, scene);
            }
        }
        while let Some(reading) = self.stage.readings.try_join_next() {
            if let Ok(Some(reading)) = reading {
                self.tally.readings += 1;
                self.found.extend(fresh::older(&reading, &self.stage.facts, &self.stage.wrong_lists));
            }
        }
        self.take_answers();
        let follower_status = self.stage.app().follower_status();
        if self.plan.world.queue.is_some()
            && let Some((before, up)) = self.looks.last()
            && (*up != follower_status.stream_up || up.is_none())
        {
            // Where little fits into the queue, the stream may have been dropped for that, with what was on its way.
            self.stage.uncertain.push((*before, now));
        }
        self.looks.push((now, follower_status.stream_up));
        if self.periods.last().is_none_or(|(_, period)| *period != follower_status.period) {
            self.periods.push((now, follower_status.period));
        }
        self.trace.mode(now, &follower_status);
        let down = self.stage.sim().is_down();
        if down && self.down_since.is_none() {
            // It may have gone by itself, at some moment since the last look.
            let before = self.looks.iter().rev().nth(1).map_or(now, |(at, _)| *at);
            self.stage.uncertain.push((before, now));
            self.stage.hindrances.begin(before);
        }
        self.down_since = if down { Some(self.down_since.unwrap_or(now)) } else { None };
        let mut wrong = |what: String| self.found.push(format!("at {:?}: {what}", now.since(Mono::ZERO)));
        let polling = follower_status.mode == Mode::Polling;
        if polling == follower_status.stream_up.is_some() {
            wrong(format!("{} with a stream that is {}", follower_status.mode, follower_status.stream));
        }
        if self.down_since.is_some_and(|since| now > since + NOTICED && !self.stage.is_frozen())
            && follower_status.stream_up.is_some()
        {
            wrong("the stream counts as up while the runtime is down".into());
        }
        let health = self.stage.app().health();
        if !health.live().ok {
            wrong(format!("not alive: {:?}", health.live()));
        }
        let ready = health.ready().ok;
        if ready != follower_status.ready || (self.ready && !ready) {
            wrong(format!(
                "ready is {ready}, the follower_status says {}, and was {}",
                follower_status.ready, self.ready
            ));
        }
        self.ready = ready;
        let quiet = self.stage.uncertain.last().is_none_or(|(_, until)| now > *until + NOTICED);
        let blocked = self.stage.sim().queue().blocked();
        if blocked > 0 && quiet && !down && !self.stage.is_frozen() {
            wrong(format!("{blocked} calls of the runtime wait until its events are taken"));
        }
        let unlike = self.lives.unlike(&self.stage.app().cache().list());
        unlike.into_iter().for_each(wrong);
    }

    /// Faults end, and one relist later the cache is the truth.
    async fn converge(&mut self) {
        self.trace.note(self.stage.now(), "== nothing is wrong from now on");
        self.stage.mend_all_but_contradictions();
        // What is under way arrives, however late.
        let late =
            self.plan.has(|act| matches!(act, Act::Events(EventFault::Delay(_) | EventFault::Stall(_), _)));
        self.pass(Duration::from_secs(if late { 9 } else { 1 })).await;
        // CRI-O may fall over the departure of a client even then.
        self.stage.mend_all_but_contradictions();
        let retries = self.plan.has(|act| {
            matches!(
                act,
                Act::Calls(..)
                    | Act::About { .. }
                    | Act::List { .. }
                    | Act::HangMethod(_)
                    | Act::HangContainer { .. }
                    | Act::HangPod { .. }
                    | Act::Freeze
                    | Act::FreezeLists
                    | Act::EmptyLists
                    | Act::AnnounceDeleted { .. }
            )
        });
        let relist = self.plan.longest_period().mul_f64(1.1);
        let longest = if retries { relist.max(RETRY_LONGEST) } else { relist };
        self.pass(longest + self.plan.request_timeout + Duration::from_secs(3)).await;
        if !self.stage.contradictions.is_empty() {
            let unlike = unlike_listed(&self.served(), self.stage.sim(), &self.stage.contradictions);
            self.found.extend(unlike.into_iter().map(|it| format!("while it contradicts itself: {it}")));
            self.trace.note(self.stage.now(), "== nothing contradicts itself from now on");
            self.stage.mend();
            self.pass(longest + self.plan.request_timeout + Duration::from_secs(3)).await;
        }
        let silent = self.plan.has(|act| {
            matches!(
                act,
                Act::SetReason { .. } | Act::Annotate { .. } | Act::Label { .. } | Act::Address { .. }
            )
        });
        if silent {
            self.pass(self.content_round()).await;
        }
        let differences = differences_of(&self.served(), self.stage.sim(), |_| true);
        self.found.extend(differences.into_iter().map(|it| format!("in the end: {it}")));
    }

    /// Where nothing happens, no more is called than the mode asks for, and the mode is what the runtime allows.
    async fn rest(&mut self) {
        let has_events = !matches!(self.plan.profile.events, Events::Unimplemented | Events::EndAtOnce);
        let until = self.stage.now() + RECONNECT_LONGEST;
        // Where subscribers share one channel, events that were lost look as if another subscriber had received them.
        let shared = matches!(self.plan.profile.events, Events::Shared { .. })
            || self.plan.world.unknown_version.is_some();
        let yielded = |it: &Self| shared && it.stage.app().follower_status().yielded.is_some();
        while has_events
            && self.stage.app().follower_status().stream_up.is_none()
            && !yielded(self)
            && self.stage.now() < until
        {
            self.pass(Duration::from_secs(1)).await;
        }
        // Relists that the stream's return calls for are over, and looks at what was deleted, or on CRI-O stopped.
        let silent = self.plan.profile.removed_with_pod == RemovedWithPod::Silent
            || self.plan.world.unknown_version.is_some();
        // They may have begun as late as a retry does.
        let looks = if silent { RETRY_LONGEST + Duration::from_secs(32) } else { Duration::from_secs(6) };
        self.pass(looks).await;
        let follower_status = self.stage.app().follower_status();
        let expected = has_events && !yielded(self);
        if expected != follower_status.stream_up.is_some() || !follower_status.ready {
            self.found.push(format!("in the end: {follower_status:?}"));
        }
        let (before, window) = (self.calls(), 2 * follower_status.period);
        self.pass(window).await;
        let relists = window.as_secs_f64() / (0.9 * follower_status.period.as_secs_f64()) + 1.0;
        // And the content of a few ids, at most every ten seconds.
        let content = CONTENT_READS as f64 * relists.min(window.as_secs_f64() / 10.0 + 1.0);
        let called = self.calls() - before;
        if called as f64 > 2.0 * relists + content {
            self.found.push(format!(
                "{called} calls in {window:?} of rest, with a period of {:?}",
                follower_status.period
            ));
        }
    }

    fn served(&self) -> Vec<v1::Pod> {
        self.stage.app().cache().list().iter().map(|pod| pod.as_ref().into()).collect()
    }

    /// How long it takes at most until all content has been read again, a few ids at a time.
    fn content_round(&self) -> Duration {
        let pods = self.stage.app().cache().list();
        let ids: usize = pods.iter().map(|pod| pod.sandboxes.len() + pod.containers.len()).sum();
        // What is left of a pod when its turn is over waits for the next round.
        let turns = 2 * (ids.div_ceil(CONTENT_READS) + pods.len());
        let apart = Duration::from_secs(10) + self.plan.longest_period().mul_f64(1.1);
        apart * u32::try_from(turns).unwrap_or(u32::MAX)
    }

    fn calls(&self) -> u64 {
        let calls = self.stage.sim().calls();
        let all = calls.iter().filter(|(method, _)| **method != Method::GetContainerEvents);
        all.map(|(_, count)| count).sum()
    }

    /// What was said is told, and what was missed is counted.
    async fn judge(&mut self) {
        let (sim, began) = (self.stage.sim().clone(), self.stage.began);
        let (said, history) = (sim.said(), sim.history());
        self.trace.said(&said);
        let calls: u64 = sim.calls().values().sum();
        if calls > MOST_CALLS {
            self.found.push(format!("{calls} calls in all: somebody asks without a pause"));
        }
        self.hold_against(&said, began);
        self.found.extend(oracle::lost(
            &said,
            &self.stage.facts,
            &self.stage.hindrances,
            began,
            &self.stage.uncertain,
            &self.stage.steps,
            self.plan.request_timeout,
            &self.lives,
        ));
        let up = |from: Mono, to: Mono| {
            let mut within = self.looks.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, up)| up);
            let before = self.looks.iter().rev().find(|(at, _)| *at < from).map(|(_, up)| up);
            let first = before.copied().flatten();
            first.is_some() && within.all(|up| *up == first)
        };
        // Between a change and when it was found the wall clock was stepped, or it was before and plegd had no occasion to
        // notice: the time of the change says nothing.
        let unnoticed = self.plan.longest_period().mul_f64(1.1);
        let placed = |from: Mono, to: Mono| {
            !self.stage.steps.iter().any(|(at, _)| from <= *at + unnoticed && *at <= to)
        };
        let sure = |from, to| up(from, to) && placed(from, to);
        // Whether the stream was lost, for certain, between two moments.
        let lost = |from: Mono, to: Mono| {
            let pairs = self.looks.windows(2).filter(|pair| from <= pair[0].0 && pair[1].0 <= to);
            pairs
                .map(|pair| (pair[0].1, pair[1].1))
                .any(|(before, after)| before.is_some() && before != after)
        };
        let (least, most) = oracle::misses(
            &said,
            &history,
            began,
            &self.stage.uncertain,
            &self.stage.facts,
            &self.lives,
            sure,
            lost,
        );
        let most = most + self.stage.silenced;
        let text = self.stage.app().metrics().scrape().expect("metrics");
        let sum = |is: &dyn Fn(&str) -> bool| -> f64 {
            let samples = text.lines().filter(|line| is(line));
            samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let misses = sum(&|line| line.starts_with("plegd_missed_events_total{")) as usize;
        // What an event has said of before counts as said.
        let least = if self.stage.announced.is_empty() { least } else { 0 };
        if !(least..=most).contains(&misses) {
            self.found.push(format!("{misses} misses were counted, and there were {least} to {most}"));
        }
        if !self.plan.contradicts() {
            self.found.extend(self.lives.restless(&self.stage.facts));
        }
        let told: u32 = self.lives.by_id.values().map(|life| life.corrected).sum();
        let counted =
            sum(&|line| line.starts_with("plegd_observations_total{") && line.contains("corrected"));
        if f64::from(told) != counted {
            self.found.push(format!("{told} corrections were told and {counted} counted"));
        }
        (self.tally.misses, self.tally.corrected) = (misses as u64, u64::from(told));
        self.trace.calls(sim.calls());
    }
}

/// What one subscriber was not given as promised.
fn of_subscriber(
    runs: &[super::record::Run],
    recording: &Recording,
    sim: &SimRuntime,
    labels_change: bool,
) -> Vec<String> {
    let violations = check(runs, recording).into_iter().map(|violation| violation.to_string());
    let differences =
        if recording.drained && !labels_change { state::differences(recording, sim) } else { Vec::new() };
    violations.chain(differences).take(12).collect()
}
