//! Injected faults: containerd is killed and restarted, and plegd's connections to it are cut.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use plegd::{api::v1, clock::Clock};
use tokio::time::sleep;

use super::{
    binary::Daemon,
    lab::{self, Change, ChurnControl, Client, Containerd, Entry, Relay, TIMEOUT, eventually, states_of},
    progress,
};

/// Number of faults in the whole time, and their minimum and maximum distance.
const TIMES: u32 = 12;
const APART: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(300)];
/// Maximum downtime of containerd.
const AWAY: Duration = Duration::from_secs(4);
/// Timeout for plegd to agree with the runtime again. Generous, for a busy machine.
const AGREEMENT: Duration = Duration::from_secs(60);

const CONNECTS: &str = "plegd_stream_connects_total ";

/// The injected faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) kills: u32,
    pub(crate) cuts: u32,
    /// Number of comparisons of the cache with the runtime.
    pub(crate) comparisons: u32,
    pub(crate) violations: Vec<String>,
    /// Period of each fault, up to the end of the relists after it.
    times: Vec<[SystemTime; 2]>,
}

/// Injects faults until `end`, alternating both kinds, and compares the cache with the runtime after each.
#[allow(clippy::disallowed_methods, reason = "the times are compared with those of the history")]
pub(crate) async fn inject(
    containerd: &mut Containerd,
    relay: &Relay,
    daemon: &Daemon,
    director: &ChurnControl,
    whole: Duration,
    mut rng: fastrand::Rng,
) -> Result<Faults> {
    let client = containerd.client()?;
    let clock = Clock::system();
    let end = clock.now() + whole;
    let period = (whole / TIMES).clamp(APART[0], APART[1]);
    let mut faults = Faults::default();
    for number in 1.. {
        let at = clock.now() + period.mul_f64(0.8 + 0.4 * rng.f64());
        // A fault must also end in time.
        if at + period / 2 > end {
            sleep(end.since(clock.now())).await;
            return Ok(faults);
        }
        sleep(at.since(clock.now())).await;
        director.disturb();
        // The event of a change shortly before may be lost with the stream.
        let from = SystemTime::now() - Duration::from_secs(1);
        let connects = daemon.metric(CONNECTS).await?;
        if number % 2 == 1 {
            progress::say("cutting plegd's connections to containerd");
            relay.cut();
            faults.cuts += 1;
        } else {
            progress::say("killing containerd");
            containerd.kill9()?;
            sleep(AWAY.mul_f64(rng.f64())).await;
            containerd.restart().await?;
            faults.kills += 1;
        }
        settled(daemon, connects).await.with_context(|| daemon.log_text())?;
        director.calm();
        faults.times.push([from, SystemTime::now()]);
        faults.comparisons += 1;
        faults.violations.extend(state_differences(&client, daemon).await?);
    }
    Ok(faults)
}

/// Waits until plegd has subscribed again, which may take its maximum backoff, and has relisted since then.
async fn settled(daemon: &Daemon, connects: f64) -> Result<()> {
    let subscribed = async || Ok((daemon.metric(CONNECTS).await? > connects).then_some(()));
    eventually("another subscription", 3 * TIMEOUT, || async {
        sleep(Duration::from_millis(200)).await;
        subscribed().await
    })
    .await?;
    // The second relist from now on has certainly begun after the subscription.
    let relists = async || anyhow::Ok(lab::successful_relists(&daemon.get("/metrics", TIMEOUT).await?));
    let enough = relists().await? + 2.0;
    eventually("two relists after the fault", 2 * TIMEOUT, || async {
        sleep(Duration::from_millis(200)).await;
        let reading = daemon.metric("plegd_reads_pending ").await?;
        Ok((relists().await? >= enough && reading == 0.0).then_some(()))
    })
    .await
}

/// The differences between the cache and the runtime.
pub(crate) async fn state_differences(client: &Client, daemon: &Daemon) -> Result<Vec<String>> {
    let served = async || Ok(states_of(&daemon.client().list_pods(v1::Filter::default()).await?.pods));
    lab::state_differences(client, served, AGREEMENT).await
}

// === impl Faults ===

impl Faults {
    /// Sandboxes that became ready while neither the stream nor a list could show it.
    pub(crate) fn hidden_starts(&self, history: &[Entry]) -> BTreeSet<String> {
        let during = |at: SystemTime| self.times.iter().any(|[from, to]| (*from..*to).contains(&at));
        let ready = history.iter().filter(|it| it.id == it.sandbox_id && it.what == Change::Started);
        ready.filter(|it| during(it.at)).map(|it| it.id.clone()).collect()
    }
}
