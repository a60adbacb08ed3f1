//! Faults of the runtime during churn: ten kills, a pause, a competing subscriber, a flood of events, a full disk. No event may
//! be missing, duplicate or backward, and the final cache equals the runtime's state.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{cache::Counts, model::Mode};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    compete, finish,
    histories::reading_subscriber,
    lab::{
        Churn, Client, ContainerSpec, Containerd, Follower, TIMEOUT,
        Version::{self, V1_7},
        eventually, report,
    },
};

const CONNECTS: &str = "plegd_stream_connects_total ";

const KILLS: u32 = 10;
const PODS: u32 = 50;

pub(super) async fn kills_during_churn_lose_nothing(version: Version) -> Result<()> {
    let mut containerd = Containerd::start(version).await?;
    let (churn, control) = Churn::new(containerd.client()?);
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;
    plegd.may_return = true;
    let pods = churn.many(PODS, 8, 1);
    for kill in 1..=KILLS {
        let gone = churn.pods() + 2;
        let some = |_: &Follower| churn.pods() >= gone || pods.is_finished();
        plegd.until("pods to come and go", TIMEOUT, some).await?;
        eprintln!("containerd is killed, time {kill} of {KILLS}; {} pods have come and gone", churn.pods());
        ensure!(!pods.is_finished(), "the churn had ended before kill {kill}");
        control.suspend_removals();
        let connects = plegd.metric(CONNECTS);
        containerd.kill9()?;
        sleep(Duration::from_millis(u64::from(kill % 4) * 300)).await;
        containerd.restart().await?;
        plegd.until("another subscription", 2 * TIMEOUT, |it| it.metric(CONNECTS) > connects).await?;
        // The second relist from now begins after the resubscription.
        let relists = plegd.relists() + 2.0;
        plegd.until("two relists", TIMEOUT, |it| it.relists() >= relists).await?;
        control.resume_removals();
    }
    control.end();
    check_end(plegd, containerd, churn, pods).await
}

pub(super) async fn a_pause_during_churn_loses_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let (churn, control) = Churn::new(containerd.client()?);
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;
    let pods = churn.many(30, 6, 2);
    plegd.until("pods to come and go", TIMEOUT, |_| churn.pods() >= 5).await?;
    containerd.sigstop().await?;
    report("containerd is paused for 30 s", sleep(Duration::from_secs(30))).await;
    ensure!(!pods.is_finished(), "the churn had ended");
    let (live, ready) = (plegd.app.health().live(), plegd.app.health().ready());
    ensure!(live.ok && ready.ok, "{live:?} {ready:?}");
    containerd.sigcont()?;
    control.end();
    check_end(plegd, containerd, churn, pods).await
}

/// On containerd 1.7, where subscribers share one channel. Events that the other subscriber took completely may stay unknown,
/// but all published events must be right.
pub(super) async fn a_competing_subscriber_during_churn_leaves_the_cache_correct() -> Result<()> {
    let containerd = Containerd::start(V1_7).await?;
    let (churn, control) = Churn::new(containerd.client()?);
    let other = reading_subscriber(churn.client()).await?;
    let mut plegd = Follower::start_with(&containerd, compete)?;
    plegd.until_following(true).await?;
    let taken = other.received();
    let pods = churn.many(40, 6, 3);
    plegd.until("pods to come and go", 3 * TIMEOUT, |_| churn.pods() >= 30).await?;
    control.end();
    plegd.until("the end of the churn", 3 * TIMEOUT, |_| pods.is_finished()).await?;
    pods.await??;
    ensure!(other.received() > taken + 20, "the other subscriber took no event");
    plegd.until_truth(churn.client(), TIMEOUT).await?;
    plegd.until("a removal of every id", TIMEOUT, |it| it.without_removal().is_empty()).await?;
    ensure!(plegd.metric("plegd_missed_events_total") > 0.0, "no missed event was counted");
    ensure!(plegd.mode() != Mode::Polling, "the stream was lost");
    assert_eq!(plegd.app.cache().counts(), Counts::default());
    finish(plegd, containerd).await
}

const FLOOD: u32 = 200;

pub(super) async fn a_flood_is_published_completely(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;
    let pods = stream::iter(0..4).map(|number| {
        let client = client.clone();
        async move { client.run_pod(&format!("flood-{number}")).await }
    });
    let pods: Vec<_> = pods.buffer_unordered(4).try_collect().await?;
    let (cache, flooding) = (plegd.app.cache().clone(), client.clone());
    let flood = tokio::spawn(async move {
        let runs = (0..FLOOD).map(|number| {
            let (pod, client, cache) = (&pods[number as usize % 4], &flooding, &cache);
            async move {
                let spec = ContainerSpec { attempt: number, ..ContainerSpec::sleeping("drop", 0.05, 3) };
                let id = client.run(pod, spec).await?;
                client.exited(&id).await?;
                // As the kubelet does it, once the exit is published.
                let exited = || cache.get(&pod.uid.as_str().into())?.container(&id)?.exit_code;
                eventually("the exit in the cache", TIMEOUT, async || Ok(exited())).await?;
                client.remove(&id).await?;
                anyhow::Ok(id)
            }
        });
        let ids: Vec<String> = stream::iter(runs).buffer_unordered(4).try_collect().await?;
        for pod in &pods {
            flooding.stop_pod(pod).await?;
            flooding.remove_pod(pod).await?;
        }
        anyhow::Ok(ids)
    });
    plegd.until("the end of the flood", 5 * TIMEOUT, |_| flood.is_finished()).await?;
    let ids = flood.await??;
    plegd.until_published(client.history(), TIMEOUT).await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    assert_eq!(ids.len(), FLOOD as usize);
    for id in &ids {
        let history = plegd.history_of(id);
        let steps: Vec<&str> = history.iter().map(|word| word.trim_end_matches('!')).collect();
        assert!(steps.ends_with(&["Started", "Died(3 Error)", "Removed"]), "{history:?}");
    }
    let from_stream =
        plegd.published.iter().filter(|event| event.source == plegd::model::Source::Event).count();
    eprintln!("{} of {} events came from the stream first", from_stream, plegd.published.len());
    finish(plegd, containerd).await
}

/// Small enough to fill at once, large enough for the images and a few dozen pods.
const DISK_BYTES: u64 = 128 << 20;

pub(super) async fn plegd_recovers_from_a_full_disk(version: Version) -> Result<()> {
    let mut containerd = Containerd::start_on_small_disks(version, DISK_BYTES).await?;
    let (churn, control) = Churn::new(containerd.client()?);
    let client = churn.client().clone();
    let mut plegd = Follower::start(&containerd)?;
    plegd.until_following(true).await?;
    let kept = client.run_pod("kept").await?;
    let dies = client.run(&kept, ContainerSpec::sleeping("dies", 3600.0, 0)).await?;
    let stays = client.run(&kept, ContainerSpec::sleeping("stays", 3600.0, 0)).await?;
    plegd.until_published(client.history(), TIMEOUT).await?;
    let pods = churn.many(12, 4, 4);
    plegd.until("pods to come and go", TIMEOUT, |_| churn.pods() >= 2).await?;

    control.suspend_removals();
    containerd.fill_disks()?;
    containerd.kill_processes_of(&dies)?;
    // The churn may make no call at this time, so this task makes some.
    let refused = tokio::spawn(until_some_are_refused(client.clone()));
    plegd.until("calls that fail", TIMEOUT, |_| refused.is_finished()).await?;
    let (live, ready) = (plegd.app.health().live(), plegd.app.health().ready());
    ensure!(live.ok && ready.ok, "{live:?} {ready:?}");
    containerd.free_disks()?;
    if containerd.has_ended()? {
        eprintln!("containerd exited because of the full disk");
        containerd.restart().await?;
    }
    let relists = plegd.relists() + 2.0;
    plegd.until("two relists", 2 * TIMEOUT, |it| it.relists() >= relists).await?;
    control.resume_removals();
    control.end();
    plegd.until("the end of the churn", 5 * TIMEOUT, |_| pods.is_finished()).await?;
    pods.await??;
    eprintln!("{} calls failed, {} containers are uncertain", churn.failed_calls(), churn.uncertain());
    plegd.until_truth(&client, TIMEOUT).await?;
    ensure!(
        plegd.history_of(&stays) == ["Changed", "Started"] || plegd.history_of(&stays) == ["Started"],
        "{:?}",
        plegd.history_of(&stays)
    );
    for id in [&dies, &stays] {
        client.stop(id, Duration::ZERO).await?;
    }
    client.stop_pod(&kept).await?;
    client.remove_pod(&kept).await?;
    client.remove_all_pods().await?;
    plegd.until_truth(&client, TIMEOUT).await?;
    plegd.until_published_for(client.history(), TIMEOUT, |id| churn.is_certain(id)).await?;
    plegd.until("a removal of every id", TIMEOUT, |it| it.without_removal().is_empty()).await?;
    finish(plegd, containerd).await
}

/// Creates pods until three were refused.
async fn until_some_are_refused(client: Client) {
    let (mut tried, mut refused) = (0, 0);
    while refused < 3 {
        tried += 1;
        if client.run_pod(&format!("refused-{tried}")).await.is_err() {
            refused += 1;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for the last pod, and checks that every event was published and nothing is left.
async fn check_end(
    mut plegd: Follower,
    containerd: Containerd,
    churn: Churn,
    pods: JoinHandle<Result<()>>,
) -> Result<()> {
    plegd.until("the end of the churn", 5 * TIMEOUT, |_| pods.is_finished()).await?;
    pods.await??;
    let client = churn.client();
    let yielded = plegd.app.follower_status().yielded;
    ensure!(yielded.is_none(), "the stream is yielded without another subscriber: {yielded:?}");
    // Remains of failed calls.
    client.remove_all_pods().await?;
    plegd.until_published_for(client.history(), TIMEOUT, |id| churn.is_certain(id)).await?;
    plegd.until_truth(client, TIMEOUT).await?;
    plegd.until("a removal of every id", TIMEOUT, |it| it.without_removal().is_empty()).await?;
    assert_eq!(plegd.app.cache().counts(), Counts::default());
    for id in plegd.returned() {
        ensure!(
            !churn.is_certain(id),
            "{id} was certainly removed, and reappeared: {:?}",
            plegd.history_of(id)
        );
        eprintln!(
            "{id:.12} reappeared, since containerd was killed during its removal: {:?}",
            plegd.history_of(id)
        );
    }
    let ids = client.history().by_id().len();
    eprintln!(
        "{ids} ids, of which {} are uncertain; {} calls failed",
        churn.uncertain(),
        churn.failed_calls()
    );
    ensure!(churn.uncertain() * 4 <= ids, "too many ids are uncertain: {} of {ids}", churn.uncertain());
    finish(plegd, containerd).await
}
