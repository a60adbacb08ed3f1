//! Runs a plan and returns the violations.

use std::time::Duration;

use plegd::{
    api::v1,
    clock::Mono,
    model::EventType,
    model::Mode,
    relister::CONTENT_READS,
    sim::{
        EventFault, Exchange, Method, SimRuntime,
        profile::{Events, RemovedWithPod},
    },
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    checker::{check, check_run},
    claims,
    contradictions::{Listed, differences_from_lists},
    driver::Driver,
    filters, fresh,
    histories::{Context, Histories},
    late::{self, Timeline},
    oracle,
    plan::{Action, Plan},
    record::{Layer, Recording},
    restarts, state, subscriber,
    trace::Trace,
    waits::WaitCall,
    witness,
};
use crate::support::truth::differences_of;

/// The interval between two checks of plegd's state.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// More calls than any plan needs.
const MOST_CALLS: u64 = 20_000;
const RETRY_LONGEST: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// The longest reconnect delay, with jitter.
const RECONNECT_LONGEST: Duration = Duration::from_secs(80);
/// The longest bookmark interval of a subscriber, and a margin.
const BOOKMARKS_APART: Duration = Duration::from_secs(10);
/// Limit until plegd notices a runtime that is gone or blocks.
const NOTICED: Duration = Duration::from_millis(20);

/// The result of a plan.
pub struct Outcome {
    /// The violations.
    pub found: Vec<String>,
    pub trace: Trace,
    pub totals: Totals,
}

/// Totals of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub simulated: Duration,
    pub published: u64,
    pub corrected: u64,
    pub misses: u64,
    pub faults: u64,
    pub fresh_reads: u64,
    pub waits: u64,
    pub restarts: u64,
    pub connections: u64,
}

struct Simulation<'a> {
    plan: &'a Plan,
    driver: Driver,
    histories: Histories,
    trace: Trace,
    found: Vec<String>,
    totals: Totals,
    /// The start of the stream by plegd's clock, at each check.
    stream_samples: Vec<(Mono, Option<Mono>)>,
    ready: bool,
    down_since: Option<Mono>,
    /// The relist periods, each with its start.
    periods: Vec<(Mono, Duration)>,
    /// Answered `WaitFor` calls that are not checked yet.
    waited: Vec<WaitCall>,
}

/// Runs a plan in paused time.
pub fn run_plan(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    // Created inside, where tokio's clock is paused.
    runtime.expect("a runtime").block_on(async { Simulation::new(plan).run().await })
}

// === impl Totals ===

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.simulated += other.simulated;
        self.published += other.published;
        self.corrected += other.corrected;
        self.misses += other.misses;
        self.faults += other.faults;
        self.fresh_reads += other.fresh_reads;
        self.waits += other.waits;
        self.restarts += other.restarts;
        self.connections += other.connections;
    }
}

// === impl Simulation ===

impl<'a> Simulation<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            driver: Driver::of(plan),
            histories: Histories::default(),
            trace: Trace::default(),
            found: Vec::new(),
            totals: Totals::default(),
            stream_samples: Vec::new(),
            ready: false,
            down_since: None,
            periods: Vec::new(),
            waited: Vec::new(),
        }
    }

    async fn run(mut self) -> Outcome {
        let began = self.driver.now();
        self.driver.start();
        let (calm, mut subscribers) = (CancellationToken::new(), JoinSet::new());
        let mut rng = fastrand::Rng::with_seed(!self.plan.seed);
        let serving_rx = self.driver.node.serving();
        for n in 0..self.plan.subscribers {
            let serving = serving_rx.borrow().clone().expect("a running plegd");
            let mut one = subscriber::Plan::any(format!("subscriber-{n}"), &mut rng, &serving);
            if let Some(selector) = self.plan.environment.selector {
                one.filter.selector = selector.parse().expect("a selector");
            }
            subscribers.spawn(one.follow(Layer::Embedded, serving_rx.clone(), calm.clone()));
        }
        for (after, action) in &self.plan.actions {
            self.pass(*after).await;
            self.apply(action).await;
        }
        self.converge().await;
        self.check_idle().await;
        calm.cancel();
        sleep(BOOKMARKS_APART).await;
        self.check();
        self.check_end().await;
        let sim = self.driver.sim().clone();
        let faulty_events = self.plan.has(|action| matches!(action, Action::Events(..)));
        self.found.extend(restarts::wrong(&self.driver, &self.histories, faulty_events));
        self.driver.node.stop().await;
        self.found.append(&mut self.driver.node.restored_wrongly);
        let runs = self.driver.node.runs().to_vec();
        self.totals.restarts = runs.len() as u64 - 1;
        self.found.extend(runs.iter().flat_map(check_run).map(|violation| violation.to_string()));
        self.trace.history(&sim);
        let now = self.driver.now();
        let names = std::mem::take(&mut self.driver.names);
        drop((self.driver, serving_rx));
        for recording in subscribers.join_all().await {
            self.totals.connections += recording.connections.len() as u64;
            // A pod that no longer has the labels is not published as removed.
            let elsewhere = |action: &Action| matches!(action, Action::List { fault: Listed::Elsewhere, .. });
            // Nor is a pod whose labels were unknown because a list showed its container in another sandbox.
            let labels_change = !recording.filter.selector.is_empty()
                && (self.plan.environment.selector.is_some() || self.plan.has(elsewhere));
            let wrong = of_subscriber(&runs, &recording, &sim, labels_change);
            if !wrong.is_empty() {
                self.found.extend(wrong);
                self.found.extend(recording.trace());
            }
        }
        self.totals.simulated = now.since(began);
        self.totals.faults = sim.faults().happened();
        self.totals.published = runs.iter().map(|run| run.head()).sum();
        self.trace.name_ids(names);
        let found = self.found.iter().map(|wrong| self.trace.named(wrong)).collect();
        Outcome { found, trace: self.trace, totals: self.totals }
    }

    async fn apply(&mut self, action: &Action) {
        self.trace.action(self.driver.now(), action);
        let is_restart = matches!(action, Action::RestartPlegd { .. });
        let began = self.driver.began;
        if is_restart {
            self.check();
            self.take_responses();
        }
        self.driver.apply(action).await;
        if is_restart && !self.driver.continues {
            // Later events are those of another epoch.
            self.finish_plegd(began);
        }
        if let Action::Hours(hours) = action {
            self.hours(*hours).await;
        }
        if is_restart {
            (self.ready, self.stream_samples) = (false, Vec::new());
        }
    }

    /// Lets hours pass, with few relists.
    async fn hours(&mut self, hours: u64) {
        let (period, max_period) = self.driver.relist_every(10 * MINUTE, 60 * MINUTE);
        for _ in 0..60 * hours {
            self.pass(Duration::from_millis(1)).await;
            sleep(MINUTE).await;
        }
        self.driver.relist_every(period, max_period);
        self.pass(Duration::from_millis(1)).await;
    }

    async fn pass(&mut self, time: Duration) {
        let until = self.driver.now() + time;
        while self.driver.now() < until {
            sleep(until.since(self.driver.now()).min(CHECK_INTERVAL)).await;
            self.driver.drift();
            self.check();
        }
    }

    /// Checks the events of an epoch that has ended and that began at `began`.
    fn finish_plegd(&mut self, began: Mono) {
        let exchanges = self.driver.sim().exchanges();
        self.compare(&exchanges, began);
        self.histories = Histories::default();
    }

    /// Compares the events of this plegd with the runtime's messages.
    fn compare(&mut self, exchanges: &[Exchange], began: Mono) {
        self.found.append(&mut self.histories.found);
        let Driver { announced, fault_periods, wrong_lists, .. } = &self.driver;
        let empty_lists = self.plan.has(|action| matches!(action, Action::EmptyLists));
        let facts = &self.driver.facts;
        // An object that has ended, or whose sandbox has, is expected to be removed: plegd confirms this by lists of its id
        // only.
        let has_ended = |id: &str, at| facts.get(id).is_some_and(|fact| witness::was_ever(fact, 3, at));
        let false_claims = self.histories.false_claims.iter().filter(|claim| {
            let sandbox = facts.get(&claim.id).map_or("", |fact| &fact.sandbox_id);
            let empty = empty_lists && wrong_lists.any(claim.at - 2 * CHECK_INTERVAL, claim.at);
            let removal = matches!(claim.kind, EventType::ContainerRemoved | EventType::ContainerDied);
            let ended = has_ended(&claim.id, claim.at) || has_ended(sandbox, claim.at);
            // Its status calls are wrong as well.
            let unreadable = self.plan.has(|action| matches!(action, Action::About { list: false, .. }));
            !(empty
                && removal
                && (ended || unreadable || witness::is_deleted(exchanges, &claim.id, claim.at)))
        });
        let own = witness::own_false_claims(false_claims, exchanges, began, announced, fault_periods);
        self.found.extend(own.map(str::to_owned));
        self.found.extend(witness::unconfirmed(&self.histories.corrections, exchanges, began));
        let Driver { facts, wrong_lists, downtimes, .. } = &self.driver;
        let initial = claims::wrongly_initial(
            &self.histories.received,
            exchanges,
            began,
            downtimes,
            facts,
            wrong_lists,
        );
        self.found.extend(initial);
        let timeline = Timeline {
            began,
            now: self.driver.now(),
            uncertain: &self.driver.uncertain,
            steps: &self.driver.steps,
            fault_periods: &self.driver.fault_periods,
        };
        self.found.extend(late::late(exchanges, &self.driver.facts, &self.histories, timeline));
        self.found.extend(late::missing_stream_relists(exchanges, &self.stream_samples, timeline));
        self.found.extend(late::without_code(exchanges, &self.histories, timeline));
        let periods = std::mem::take(&mut self.periods);
        self.found.extend(late::missing_relists(exchanges, &periods, timeline));
        for waited in std::mem::take(&mut self.waited) {
            self.found.extend(waited.wrong(&self.histories.received));
        }
        for waiting in std::mem::take(&mut self.driver.waiting) {
            self.found.extend(waiting.overdue(&self.histories.received));
        }
    }

    /// Takes the responses of `WaitFor` calls.
    fn take_responses(&mut self) {
        while let Some(waited) = self.driver.waits.try_join_next() {
            self.totals.waits += 1;
            if let Ok(waited) = waited {
                self.driver.waiting.retain(|it| !it.is(&waited));
                self.waited.push(waited);
            }
        }
    }

    /// Takes the new events, and checks plegd's state.
    fn check(&mut self) {
        let now = self.driver.now();
        let sim = self.driver.sim().clone();
        self.driver.facts.sample(&sim);
        let received = self.driver.received();
        if !received.is_empty() {
            let history = self.driver.sim().history();
            let driver = &self.driver;
            let context =
                Context { history: &history, facts: &driver.facts, fault_periods: &driver.fault_periods };
            for received in received {
                self.trace.published(&received);
                self.histories.receive(received, context);
            }
        }
        while let Some(fresh_read) = self.driver.fresh_reads.try_join_next() {
            if let Ok(Some(fresh_read)) = fresh_read {
                self.totals.fresh_reads += 1;
                self.found.extend(fresh::older(&fresh_read, &self.driver.facts, &self.driver.wrong_lists));
            }
        }
        self.take_responses();
        let follower_status = self.driver.app().follower_status();
        if self.plan.environment.has_small_queue()
            && let Some((before, up)) = self.stream_samples.last()
            && (*up != follower_status.stream_up || up.is_none())
        {
            // With a small queue, the stream may have been dropped together with pending events.
            self.driver.uncertain.push((*before, now));
        }
        self.stream_samples.push((now, follower_status.stream_up));
        if self.periods.last().is_none_or(|(_, period)| *period != follower_status.period) {
            self.periods.push((now, follower_status.period));
        }
        self.trace.mode(now, &follower_status);
        let down = self.driver.sim().is_down();
        if down && self.down_since.is_none() {
            // The runtime may have crashed by itself since the last check.
            let before = self.stream_samples.iter().rev().nth(1).map_or(now, |(at, _)| *at);
            self.driver.uncertain.push((before, now));
            self.driver.fault_periods.begin(before);
        }
        self.down_since = if down { Some(self.down_since.unwrap_or(now)) } else { None };
        let mut wrong = |what: String| self.found.push(format!("at {:?}: {what}", now.since(Mono::ZERO)));
        let polling = follower_status.mode == Mode::Polling;
        if polling == follower_status.stream_up.is_some() {
            wrong(format!("{} with a stream that is {}", follower_status.mode, follower_status.stream));
        }
        if self.down_since.is_some_and(|since| now > since + NOTICED && !self.driver.is_frozen())
            && follower_status.stream_up.is_some()
        {
            wrong("the stream counts as up while the runtime is down".into());
        }
        let health = self.driver.app().health();
        if !health.live().ok {
            wrong(format!("not alive: {:?}", health.live()));
        }
        let ready = health.ready().ok;
        if ready != follower_status.ready || (self.ready && !ready) {
            wrong(format!(
                "ready is {ready}, the status says {}, and was {}",
                follower_status.ready, self.ready
            ));
        }
        self.ready = ready;
        let quiet = self.driver.uncertain.last().is_none_or(|(_, until)| now > *until + NOTICED);
        let blocked = self.driver.sim().queue().blocked();
        if blocked > 0 && quiet && !down && !self.driver.is_frozen() {
            wrong(format!("{blocked} calls of the runtime wait until its events are taken"));
        }
        let served_differences = self.histories.served_differences(&self.driver.app().cache().list());
        served_differences.into_iter().for_each(wrong);
    }

    /// Ends the faults. One relist later the cache must equal the truth.
    async fn converge(&mut self) {
        self.trace.note(self.driver.now(), "== end of faults");
        self.driver.end_all_but_contradictions();
        // Delayed events arrive.
        let late = self
            .plan
            .has(|action| matches!(action, Action::Events(EventFault::Delay(_) | EventFault::Stall(_), _)));
        self.pass(Duration::from_secs(if late { 9 } else { 1 })).await;
        // CRI-O may still crash when a client disconnects.
        self.driver.end_all_but_contradictions();
        let retries = self.plan.has(|action| {
            matches!(
                action,
                Action::Calls(..)
                    | Action::About { .. }
                    | Action::List { .. }
                    | Action::HangMethod(_)
                    | Action::HangContainer { .. }
                    | Action::HangPod { .. }
                    | Action::Freeze
                    | Action::FreezeLists
                    | Action::EmptyLists
                    | Action::AnnounceDeleted { .. }
            )
        });
        let relist = self.plan.longest_period().mul_f64(1.1);
        let longest = if retries { relist.max(RETRY_LONGEST) } else { relist };
        self.pass(longest + self.plan.request_timeout + Duration::from_secs(3)).await;
        if !self.driver.contradictions.is_empty() {
            let served_differences =
                differences_from_lists(&self.served(), self.driver.sim(), &self.driver.contradictions);
            self.found.extend(
                served_differences.into_iter().map(|it| format!("while it contradicts itself: {it}")),
            );
            self.trace.note(self.driver.now(), "== end of contradictions");
            self.driver.end_all();
            self.pass(longest + self.plan.request_timeout + Duration::from_secs(3)).await;
        }
        let silent = self.plan.has(|action| {
            matches!(
                action,
                Action::SetReason { .. }
                    | Action::Annotate { .. }
                    | Action::Label { .. }
                    | Action::Address { .. }
            )
        });
        if silent {
            self.pass(self.content_round()).await;
        }
        let differences = differences_of(&self.served(), self.driver.sim(), |_| true);
        self.found.extend(differences.into_iter().map(|it| format!("in the end: {it}")));
    }

    /// On an idle node, plegd makes no more calls than the mode allows, and the mode is the one that the runtime allows.
    async fn check_idle(&mut self) {
        let has_events = !matches!(self.plan.profile.events, Events::Unimplemented | Events::EndAtOnce);
        let until = self.driver.now() + RECONNECT_LONGEST;
        // On a shared channel, lost events look as if another subscriber had received them.
        let shared = matches!(self.plan.profile.events, Events::Shared { .. })
            || self.plan.environment.unknown_version.is_some();
        let yielded = |it: &Self| shared && it.driver.app().follower_status().yielded.is_some();
        while has_events
            && self.driver.app().follower_status().stream_up.is_none()
            && !yielded(self)
            && self.driver.now() < until
        {
            self.pass(Duration::from_secs(1)).await;
        }
        // Wait for the relists after a reconnect, and for re-checks of deleted objects, or on CRI-O of stopped ones.
        let silent = self.plan.profile.removed_with_pod == RemovedWithPod::Silent
            || self.plan.environment.unknown_version.is_some();
        // They may have been delayed by a retry.
        let stream_samples =
            if silent { RETRY_LONGEST + Duration::from_secs(32) } else { Duration::from_secs(6) };
        self.pass(stream_samples).await;
        let follower_status = self.driver.app().follower_status();
        let expected = has_events && !yielded(self);
        if expected != follower_status.stream_up.is_some() || !follower_status.ready {
            self.found.push(format!("in the end: {follower_status:?}"));
        }
        let (before, window) = (self.calls(), 2 * follower_status.period);
        self.pass(window).await;
        let relists = window.as_secs_f64() / (0.9 * follower_status.period.as_secs_f64()) + 1.0;
        // Content reads of a few ids, at most every 10 s.
        let content = CONTENT_READS as f64 * relists.min(window.as_secs_f64() / 10.0 + 1.0);
        let called = self.calls() - before;
        if called as f64 > 2.0 * relists + content {
            self.found.push(format!(
                "{called} calls in {window:?} on an idle node, with a period of {:?}",
                follower_status.period
            ));
        }
    }

    fn served(&self) -> Vec<v1::Pod> {
        self.driver.app().cache().list().iter().map(|pod| pod.as_ref().into()).collect()
    }

    /// Limit until all content was read again, a few ids at a time.
    fn content_round(&self) -> Duration {
        let pods = self.driver.app().cache().list();
        let ids: usize = pods.iter().map(|pod| pod.sandboxes.len() + pod.containers.len()).sum();
        // The rest of a pod waits for the next round.
        let turns = 2 * (ids.div_ceil(CONTENT_READS) + pods.len());
        let apart = Duration::from_secs(10) + self.plan.longest_period().mul_f64(1.1);
        apart * u32::try_from(turns).unwrap_or(u32::MAX)
    }

    fn calls(&self) -> u64 {
        let calls = self.driver.sim().calls();
        let all = calls.iter().filter(|(method, _)| **method != Method::GetContainerEvents);
        all.map(|(_, count)| count).sum()
    }

    /// Checks that reported changes are published and missed events are counted.
    async fn check_end(&mut self) {
        let (sim, began) = (self.driver.sim().clone(), self.driver.began);
        let (exchanges, history) = (sim.exchanges(), sim.history());
        self.trace.exchanges(&exchanges);
        let calls: u64 = sim.calls().values().sum();
        if calls > MOST_CALLS {
            self.found.push(format!("{calls} calls in all: a loop without a pause"));
        }
        self.compare(&exchanges, began);
        self.found.extend(oracle::lost(
            &exchanges,
            &self.driver.facts,
            &self.driver.fault_periods,
            began,
            &self.driver.uncertain,
            &self.driver.downtimes.iter().map(|(from, _)| *from).collect::<Vec<_>>(),
            &self.driver.steps,
            self.plan.request_timeout,
            &self.histories,
        ));
        let up = |from: Mono, to: Mono| {
            let mut within =
                self.stream_samples.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, up)| up);
            let before = self.stream_samples.iter().rev().find(|(at, _)| *at < from).map(|(_, up)| up);
            let first = before.copied().flatten();
            first.is_some() && within.all(|up| *up == first)
        };
        // The time of a change is unreliable if the wall clock was stepped between the change and its detection, or just before
        // it without plegd's notice.
        let unnoticed = self.plan.longest_period().mul_f64(1.1);
        let placed = |from: Mono, to: Mono| {
            !self.driver.steps.iter().any(|(at, _)| from <= *at + unnoticed && *at <= to)
        };
        let sure = |from, to| up(from, to) && placed(from, to);
        // Whether the stream was certainly lost between two moments.
        let lost = |from: Mono, to: Mono| {
            let pairs = self.stream_samples.windows(2).filter(|pair| from <= pair[0].0 && pair[1].0 <= to);
            pairs
                .map(|pair| (pair[0].1, pair[1].1))
                .any(|(before, after)| before.is_some() && before != after)
        };
        let (least, most) = oracle::misses(
            &exchanges,
            &history,
            began,
            &self.driver.uncertain,
            &self.driver.facts,
            &self.histories,
            sure,
            lost,
        );
        let most = most + self.driver.silenced;
        let text = self.driver.app().metrics().scrape().expect("metrics");
        let sum = |is: &dyn Fn(&str) -> bool| -> f64 {
            let samples = text.lines().filter(|line| is(line));
            samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let misses = sum(&|line| line.starts_with("plegd_missed_events_total{")) as usize;
        // A change that a false event announced counts as reported.
        let least = if self.driver.announced.is_empty() { least } else { 0 };
        // Each plegd counts its own.
        let is_counted = self.driver.downtimes.is_empty();
        if is_counted && !(least..=most).contains(&misses) {
            self.found.push(format!("{misses} missed events were counted, expected are {least} to {most}"));
        }
        if !self.plan.contradicts() {
            self.found.extend(self.histories.changed_too_often(&self.driver.facts));
        }
        let published: u32 = self.histories.by_id.values().map(|id_history| id_history.corrected).sum();
        let counted =
            sum(&|line| line.starts_with("plegd_observations_total{") && line.contains("corrected"));
        if is_counted && f64::from(published) != counted {
            self.found.push(format!("{published} corrections were published and {counted} counted"));
        }
        (self.totals.misses, self.totals.corrected) = (misses as u64, u64::from(published));
        self.trace.calls(sim.calls());
    }
}

/// The violations for one subscriber.
fn of_subscriber(
    runs: &[super::record::Run],
    recording: &Recording,
    sim: &SimRuntime,
    labels_change: bool,
) -> Vec<String> {
    let violations = check(runs, recording).into_iter().map(|violation| violation.to_string());
    let differences =
        if recording.drained && !labels_change { state::differences(recording, sim) } else { Vec::new() };
    let events = runs.iter().flat_map(|run| &run.published).map(|published| &published.event);
    let filtered = events.filter_map(|event| filters::wrong(&recording.filter, event));
    violations.chain(differences).chain(filtered).take(12).collect()
}
