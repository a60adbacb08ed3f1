//! What befalls the node: containerd is killed and started again, and plegd's connections to it are cut.

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

/// How often in the whole time, and how far apart at least and at most.
const TIMES: u32 = 12;
const APART: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(300)];
/// How long containerd stays away, at most.
const AWAY: Duration = Duration::from_secs(4);
/// How long plegd may take to agree with the runtime again. Generous: the machine may be busy.
const AGREEMENT: Duration = Duration::from_secs(60);

const CONNECTS: &str = "plegd_stream_connects_total ";

/// What there was of it.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    pub(crate) kills: u32,
    pub(crate) cuts: u32,
    /// How often the cache was held against the runtime.
    pub(crate) looks: u32,
    pub(crate) faults: Vec<String>,
    /// From when to when each was, with what followed until all had been listed.
    times: Vec<[SystemTime; 2]>,
}

/// Makes trouble until `end`, half of it of each kind, and holds the cache against the runtime after each.
#[allow(clippy::disallowed_methods, reason = "the times are held against the history's own")]
pub(crate) async fn make(
    containerd: &mut Containerd,
    relay: &Relay,
    daemon: &Daemon,
    director: &ChurnControl,
    whole: Duration,
    mut dice: fastrand::Rng,
) -> Result<Troubles> {
    let client = containerd.client()?;
    let clock = Clock::system();
    let end = clock.now() + whole;
    let period = (whole / TIMES).clamp(APART[0], APART[1]);
    let mut troubles = Troubles::default();
    for number in 1.. {
        let at = clock.now() + period.mul_f64(0.8 + 0.4 * dice.f64());
        // What begins must also be over in time.
        if at + period / 2 > end {
            sleep(end.since(clock.now())).await;
            return Ok(troubles);
        }
        sleep(at.since(clock.now())).await;
        director.disturb();
        // What was done right before it may be told by an event that is lost with it.
        let from = SystemTime::now() - Duration::from_secs(1);
        let connects = daemon.metric(CONNECTS).await?;
        if number % 2 == 1 {
            progress::say("plegd's connections to containerd are cut");
            relay.cut();
            troubles.cuts += 1;
        } else {
            progress::say("containerd is killed");
            containerd.kill9()?;
            sleep(AWAY.mul_f64(dice.f64())).await;
            containerd.restart().await?;
            troubles.kills += 1;
        }
        settled(daemon, connects).await.with_context(|| daemon.log_text())?;
        director.calm();
        troubles.times.push([from, SystemTime::now()]);
        troubles.looks += 1;
        troubles.faults.extend(state_differences(&client, daemon).await?);
    }
    Ok(troubles)
}

/// Waits until plegd has subscribed again, which may take as long as its longest backoff, and has listed everything since.
async fn settled(daemon: &Daemon, connects: f64) -> Result<()> {
    let subscribed = async || Ok((daemon.metric(CONNECTS).await? > connects).then_some(()));
    eventually("another subscription", 3 * TIMEOUT, || async {
        sleep(Duration::from_millis(200)).await;
        subscribed().await
    })
    .await?;
    // The second one from here has begun after that.
    let relists = async || anyhow::Ok(lab::successful_relists(&daemon.get("/metrics", TIMEOUT).await?));
    let enough = relists().await? + 2.0;
    eventually("two relists after the trouble", 2 * TIMEOUT, || async {
        sleep(Duration::from_millis(200)).await;
        let reading = daemon.metric("plegd_reads_pending ").await?;
        Ok((relists().await? >= enough && reading == 0.0).then_some(()))
    })
    .await
}

/// In what the cache and the runtime do not agree.
pub(crate) async fn state_differences(client: &Client, daemon: &Daemon) -> Result<Vec<String>> {
    let served = async || Ok(states_of(&daemon.client().list_pods(v1::Filter::default()).await?.pods));
    lab::state_differences(client, served, AGREEMENT).await
}

// === impl Troubles ===

impl Troubles {
    /// Sandboxes that became ready while neither the stream nor a list may have shown it.
    pub(crate) fn hid(&self, history: &[Entry]) -> BTreeSet<String> {
        let during = |at: SystemTime| self.times.iter().any(|[from, to]| (*from..*to).contains(&at));
        let ready = history.iter().filter(|it| it.id == it.sandbox_id && it.what == Change::Started);
        ready.filter(|it| during(it.at)).map(|it| it.id.clone()).collect()
    }
}
