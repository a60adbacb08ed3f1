//! How plegd does, as the page's charts want it: totals since the start, which the page subtracts from each other.

use serde_json::{Value, json};

use super::{Inner, words::milliseconds};
use crate::{
    metrics::{Label as _, Outcome, Relist, SeenBy},
    model::{ContainerState, SignalType},
    printable::visible,
    version,
};

impl Inner {
    /// What does not change while this plegd runs.
    pub(super) fn who(&self) -> Value {
        json!({ "node": self.node, "version": version::VERSION, "started": milliseconds(self.started_at) })
    }

    /// All figures, and the relists that ended after that one.
    pub(super) fn figures(&self, relists: &[Relist]) -> Value {
        let situation = self.feed.situation().borrow().clone();
        let metrics = &*self.metrics;
        let seen = |by| metrics.transitions.seen.with(by).get();
        let census = self.feed.cache().census();
        let extent = self.feed.journal().extent();
        let (resident_bytes, cpu_time) = metrics.process();
        let missed: u64 =
            SignalType::ALL.iter().map(|&kind| metrics.transitions.missed.with(kind).get()).sum();
        json!({
            "at": milliseconds(self.clock.wall()),
            "ready": situation.ready,
            "mode": situation.mode.as_str(),
            "mode_since": milliseconds(situation.mode_since),
            "period": situation.period.as_secs_f64(),
            "runtime": situation.runtime.as_ref().map(|it| visible(&it.to_string()).into_owned()),
            "stream": situation.stream,
            "stream_up": situation.stream_up.is_some(),
            "stream_since": milliseconds(situation.stream_since),
            "seen": {
                "both": seen(SeenBy::Both),
                "event_only": seen(SeenBy::EventOnly),
                "relist_only": seen(SeenBy::RelistOnly),
            },
            "missed": missed,
            "relists": relists.iter().map(relist).collect::<Vec<_>>(),
            "containers": census.containers.iter().sum::<usize>(),
            "running": census.containers[ContainerState::Running as usize],
            "head": extent.head,
            "held": extent.events,
            "subscribers": self.subscribers.count(),
            "memory": resident_bytes,
            "cpu": cpu_time.as_secs_f64(),
        })
    }
}

fn relist(it: &Relist) -> Value {
    json!({
        "n": it.number,
        "at": milliseconds(it.at),
        "took": it.took.as_secs_f64() * 1e3,
        "cause": it.cause.as_str(),
        "ok": it.outcome == Outcome::Ok,
    })
}
