//! The daemon's figures for the page's charts: totals since the start. The page computes the differences.

use serde_json::{Value, json};

use super::{Inner, json::milliseconds};
use crate::{
    clock::Wall,
    metrics::{Label as _, Outcome, Relist, SeenBy},
    model::{ContainerState, FollowerStatus, StreamEventType},
    printable::visible,
    version,
};

impl Inner {
    /// The data that is constant while plegd runs.
    pub(super) fn identity(&self) -> Value {
        json!({ "node": self.node, "version": version::VERSION, "started": milliseconds(self.started_at) })
    }

    /// All figures, with these relists.
    pub(super) fn figures(&self, relists: &[Relist]) -> Value {
        let follower_status = self.feed.follower_status().borrow().clone();
        let metrics = &*self.metrics;
        let seen = |by| metrics.transitions.seen.with(by).get();
        let counts = self.feed.cache().counts();
        let stats = self.feed.journal().stats();
        let (resident_bytes, cpu_time) = metrics.process();
        let missed: u64 =
            StreamEventType::ALL.iter().map(|&kind| metrics.transitions.missed.with(kind).get()).sum();
        json!({
            "at": milliseconds(self.clock.wall()),
            "ready": follower_status.ready,
            "mode": follower_status.mode.as_str(),
            "mode_since": milliseconds(follower_status.mode_since),
            "period": follower_status.period.as_secs_f64(),
            "runtime": follower_status.runtime.as_ref().map(|it| visible(&it.to_string()).into_owned()),
            "stream": follower_status.stream,
            "stream_up": follower_status.stream_up.is_some(),
            "stream_since": milliseconds(follower_status.stream_since),
            "trouble": self.trouble(&follower_status),
            "yielded": follower_status.yielded.map(|it| json!({
                "since": milliseconds(it.since),
                "retry": milliseconds(it.retry_at),
            })),
            "failures": follower_status.failures.as_ref().map_or(0, |failures| failures.count),
            "seen": {
                "both": seen(SeenBy::Both),
                "event_only": seen(SeenBy::EventOnly),
                "relist_only": seen(SeenBy::RelistOnly),
            },
            "missed": missed,
            "relists": relists.iter().map(relist).collect::<Vec<_>>(),
            "containers": counts.containers.iter().sum::<usize>(),
            "running": counts.containers[ContainerState::Running as usize],
            "head": stats.head,
            "held": stats.events,
            "subscribers": self.subscribers.count(),
            "memory": resident_bytes,
            "cpu": cpu_time.as_secs_f64(),
        })
    }
}

impl Inner {
    /// An error text if the runtime cannot be listed, with its consequence. The text stays the same while the error lasts, since screen
    /// readers read each change aloud.
    fn trouble(&self, follower_status: &FollowerStatus) -> Option<String> {
        let failures = follower_status.failures.as_ref().filter(|failures| failures.persist())?;
        let last = Wall::from_nanos((self.metrics.relists.last_success.get() * 1e9) as i64);
        let shown = match follower_status.ready {
            true => format!("This page shows the state as of {}", time_of_day(last)),
            false => "This page shows no pods before the first relist".into(),
        };
        let stream = match follower_status.stream_up {
            Some(_) => "; events still arrive, but no relist verifies them",
            None => ", and no events arrive",
        };
        Some(format!(
            "Listing the runtime has failed since {}: {}. {shown}{stream}. Check the runtime and its log; plegd retries \
             automatically.",
            time_of_day(failures.since),
            failures.last_error,
        ))
    }
}

/// `07:58:50 UTC`.
fn time_of_day(at: Wall) -> String {
    format!("{} UTC", at.to_string().get(11..19).unwrap_or_default())
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
