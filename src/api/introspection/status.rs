//! The daemon's status, collected from its metrics.

use super::Inner;
use crate::{
    api::wire::duration,
    client::timestamp,
    clock::Wall,
    cri::quirks::{Quirk, Quirks},
    metrics::{Label, Labels, Metrics, Outcome, Persistence, RelistCause, SeenBy, Spread},
    model::{ContainerState, EventType, ResumeGap, Source, StreamEventType, Subject, Verdict},
    v1, version,
};

impl Inner {
    pub(super) fn status(&self) -> v1::GetStatusResponse {
        let follower_status = self.feed.follower_status().borrow().clone();
        let metrics = &*self.metrics;
        let quirks =
            follower_status.runtime.as_ref().map(|runtime| Quirks::of(&runtime.name, &runtime.version));
        let quirks: Vec<Quirk> = quirks.iter().flat_map(Quirks::iter).collect();
        let counts = self.feed.cache().counts();
        let stats = self.feed.journal().stats();
        let (resident_bytes, cpu_time) = metrics.process();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let evented = v1::EventedPath {
            up: follower_status.stream_up.is_some(),
            since: Some(timestamp(follower_status.stream_since)),
            state: follower_status.stream.clone(),
            messages: StreamEventType::ALL.iter().map(|&kind| metrics.stream.messages.with(kind).get()).sum(),
            last_message_at: timestamp_of(metrics.stream.last_message.get()),
            connects: metrics.stream.connects.get(),
            disconnects: sum(&metrics.stream.disconnects),
            first: detected_first(metrics, Source::Event),
            detection: Some(latency(Spread::of([metrics.transitions.latency.with(Source::Event)]))),
            missed: missed(metrics),
            yielded_since: follower_status.yielded.map(|it| timestamp(it.since)),
            retry_at: follower_status.yielded.map(|it| timestamp(it.retry_at)),
        };
        let relists = |outcome| {
            let count = |&cause: &RelistCause| metrics.relists.done.with((cause, outcome)).get();
            <RelistCause as Label>::ALL.iter().map(count).sum()
        };
        let generic = v1::GenericPath {
            period: Some(duration(follower_status.period)),
            relists: relists(Outcome::Ok),
            failures: relists(Outcome::Error),
            last_success_at: timestamp_of(metrics.relists.last_success.get()),
            duration: Some(latency(Spread::of([&metrics.relists.duration]))),
            first: detected_first(metrics, Source::Relist),
            detection: Some(latency(Spread::of([metrics.transitions.latency.with(Source::Relist)]))),
            first_by_read: detected_first(metrics, Source::Read),
            consecutive_failures: follower_status.failures.as_ref().map_or(0, |it| it.count),
            failing_since: follower_status.failures.as_ref().map(|it| timestamp(it.since)),
            unreadable: u32::try_from(metrics.reads.unreadable.get()).unwrap_or(0),
            last_error: follower_status.failures.as_ref().map(|it| it.last_error.clone()).unwrap_or_default(),
        };
        v1::GetStatusResponse {
            version: version::VERSION.into(),
            node_name: self.node.name.clone(),
            started_at: Some(timestamp(self.started_at)),
            ready: follower_status.ready,
            mode: v1::Mode::from(follower_status.mode).into(),
            mode_since: Some(timestamp(follower_status.mode_since)),
            runtime: follower_status.runtime.as_ref().map(Into::into),
            quirks: quirks
                .into_iter()
                .map(|quirk| v1::Quirk { name: quirk.as_str().into(), summary: quirk.summary().into() })
                .collect(),
            evented: Some(evented),
            generic: Some(generic),
            arbitration: Some(arbitration(metrics)),
            journal: Some(v1::Journal {
                head: Some(self.feed.journal().position(stats.head).into()),
                oldest: stats.oldest,
                bytes: stats.bytes as u64,
                subscribers: count(self.subscribers.count()),
                gaps: stats.gaps,
                gaps_came_late: stats.resume_gaps[ResumeGap::CameLate as usize],
                gaps_of_epoch: stats.resume_gaps[ResumeGap::OtherEpoch as usize],
            }),
            census: Some(v1::Census {
                pods: count(counts.ready_pods + counts.not_ready_pods),
                ready_pods: count(counts.ready_pods),
                containers: count(counts.containers.iter().sum()),
                running_containers: count(counts.containers[ContainerState::Running as usize]),
            }),
            resident_bytes,
            cpu_time: Some(duration(cpu_time)),
            config_rejected: metrics.config.rejected(),
            config_keys_awaiting_restart: metrics.config.awaiting_restart(),
            state: Some(state(&metrics.persistence)),
        }
    }
}

fn state(persistence: &Persistence) -> v1::State {
    v1::State {
        active: persistence.active.get() == 1,
        bytes: u64::try_from(persistence.bytes.get()).unwrap_or_default(),
        restarts: u32::try_from(persistence.restarts.get()).unwrap_or_default(),
        epoch_began_at: timestamp_of(persistence.epoch_began.get()),
        restored: persistence.restored.get() == 1,
        errors: persistence.errors.get(),
    }
}

/// Transitions that this source detected first.
fn detected_first(metrics: &Metrics, source: Source) -> u64 {
    let count = |(kind, subject)| metrics.transitions.published.with((source, kind, subject)).get();
    <(EventType, Subject)>::all().into_iter().map(count).sum()
}

fn missed(metrics: &Metrics) -> Vec<v1::Missed> {
    let count = |&kind: &StreamEventType| v1::Missed {
        r#type: kind.as_str().into(),
        count: metrics.transitions.missed.with(kind).get(),
    };
    StreamEventType::ALL.iter().map(count).filter(|missed| missed.count > 0).collect()
}

fn arbitration(metrics: &Metrics) -> v1::Arbitration {
    let seen = |by| metrics.transitions.seen.with(by).get();
    let observations = |verdict| {
        let count = |&source: &Source| metrics.arbitration.observations.with((source, verdict)).get();
        Source::ALL.iter().map(count).sum()
    };
    v1::Arbitration {
        seen_by_both: seen(SeenBy::Both),
        seen_by_event_only: seen(SeenBy::EventOnly),
        seen_by_relist_only: seen(SeenBy::RelistOnly),
        stale: observations(Verdict::Stale),
        dead: observations(Verdict::Tombstoned),
        backward: observations(Verdict::Backward),
        corrected: observations(Verdict::Corrected),
    }
}

fn sum<L: Labels>(counters: &crate::metrics::Family<L, prometheus::IntCounter>) -> u64 {
    L::all().into_iter().map(|labels| counters.with(labels).get()).sum()
}

fn latency(spread: Spread) -> v1::Latency {
    let Spread { count, p50, p99 } = spread;
    v1::Latency { count, p50: p50.map(duration), p99: p99.map(duration) }
}

/// A timestamp from a metric, in seconds since 1970; `None` for 0.
fn timestamp_of(seconds: f64) -> Option<prost_types::Timestamp> {
    (seconds > 0.0).then(|| timestamp(Wall::from_nanos((seconds * 1e9) as i64)))
}
