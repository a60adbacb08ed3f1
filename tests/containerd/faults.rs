//! The runtime at its worst, in the middle of pods that come and go: killed time and again, stopped, robbed, flooded, and out
//! of disk. Nothing may be missing, told twice or backward, and in the end the cache is what the runtime says.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plegd::{cache::Counts, supervisor::Mode};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    compete, finish,
    lab::{
        Churn, Client, ContainerSpec, Containerd, Follower, PATIENCE,
        Version::{self, V1_7},
        eventually, report,
    },
    lives::answered_subscriber,
};

const CONNECTS: &str = "plegd_stream_connects_total ";

const KILLS: u32 = 10;
const PODS: u32 = 50;

pub(super) async fn kills_in_the_middle_of_churn_lose_nothing(version: Version) -> Result<()> {
    let mut containerd = Containerd::start(version).await?;
    let (churn, director) = Churn::new(containerd.client()?);
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(true).await?;
    plegd.may_return = true;
    let pods = churn.many(PODS, 8, 1);
    for kill in 1..=KILLS {
        let gone = churn.pods() + 2;
        let some = |_: &Follower| churn.pods() >= gone || pods.is_finished();
        plegd.until("pods to come and go", PATIENCE, some).await?;
        eprintln!("containerd is killed, time {kill} of {KILLS}; {} pods have come and gone", churn.pods());
        ensure!(!pods.is_finished(), "nothing was going on any more at kill {kill}");
        director.disturb();
        let connects = plegd.metric(CONNECTS);
        containerd.kill9()?;
        sleep(Duration::from_millis(u64::from(kill % 4) * 300)).await;
        containerd.restart().await?;
        plegd.until("another subscription", 2 * PATIENCE, |it| it.metric(CONNECTS) > connects).await?;
        // The second one from here has begun after that.
        let relists = plegd.relists() + 2.0;
        plegd.until("two relists", PATIENCE, |it| it.relists() >= relists).await?;
        director.calm();
    }
    director.end();
    ended_well(plegd, containerd, churn, pods).await
}

pub(super) async fn a_pause_in_the_middle_of_churn_loses_nothing(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let (churn, director) = Churn::new(containerd.client()?);
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(true).await?;
    let pods = churn.many(30, 6, 2);
    plegd.until("pods to come and go", PATIENCE, |_| churn.pods() >= 5).await?;
    containerd.sigstop().await?;
    report("containerd stands still for 30 s", sleep(Duration::from_secs(30))).await;
    ensure!(!pods.is_finished(), "nothing was going on any more");
    let (live, ready) = (plegd.app.health().live(), plegd.app.health().ready());
    ensure!(live.ok && ready.ok, "{live:?} {ready:?}");
    containerd.sigcont()?;
    director.end();
    ended_well(plegd, containerd, churn, pods).await
}

/// On containerd 1.7, where subscribers share one channel. Of what a thief has taken whole nobody else can tell; what is told
/// must be right all the same.
pub(super) async fn a_thief_in_the_middle_of_churn_leaves_nothing_wrong() -> Result<()> {
    let containerd = Containerd::start(V1_7).await?;
    let (churn, director) = Churn::new(containerd.client()?);
    let thief = answered_subscriber(churn.client()).await?;
    let mut plegd = Follower::start_with(&containerd, compete)?;
    plegd.settled(true).await?;
    let stolen = thief.received();
    let pods = churn.many(40, 6, 3);
    plegd.until("pods to come and go", 3 * PATIENCE, |_| churn.pods() >= 30).await?;
    director.end();
    plegd.until("the end of the churn", 3 * PATIENCE, |_| pods.is_finished()).await?;
    pods.await??;
    ensure!(thief.received() > stolen + 20, "nothing was stolen");
    plegd.until_truth(churn.client(), PATIENCE).await?;
    plegd.until("the end of every story", PATIENCE, |it| it.unfinished().is_empty()).await?;
    ensure!(plegd.metric("plegd_missed_events_total") > 0.0, "no miss was counted");
    ensure!(plegd.mode() != Mode::Polling, "the stream was up all the time");
    assert_eq!(plegd.app.cache().counts(), Counts::default());
    finish(plegd, containerd).await
}

const FLOOD: u32 = 200;

pub(super) async fn a_flood_is_told_whole(version: Version) -> Result<()> {
    let containerd = Containerd::start(version).await?;
    let client = containerd.client()?;
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(true).await?;
    let pods = stream::iter(0..4).map(|number| {
        let client = client.clone();
        async move { client.run_pod(&format!("flood-{number}")).await }
    });
    let pods: Vec<_> = pods.buffer_unordered(4).try_collect().await?;
    let (cache, flooding) = (plegd.app.cache().clone(), client.clone());
    let flood = tokio::spawn(async move {
        let lives = (0..FLOOD).map(|number| {
            let (pod, client, cache) = (&pods[number as usize % 4], &flooding, &cache);
            async move {
                let spec = ContainerSpec { attempt: number, ..ContainerSpec::living("drop", 0.05, 3) };
                let id = client.run(pod, spec).await?;
                client.exited(&id).await?;
                // As the kubelet does it, once it was told of the exit.
                let exited = || cache.get(&pod.uid.as_str().into())?.container(&id)?.exit_code;
                eventually("the exit in the cache", PATIENCE, async || Ok(exited())).await?;
                client.remove(&id).await?;
                anyhow::Ok(id)
            }
        });
        let ids: Vec<String> = stream::iter(lives).buffer_unordered(4).try_collect().await?;
        for pod in &pods {
            flooding.stop_pod(pod).await?;
            flooding.remove_pod(pod).await?;
        }
        anyhow::Ok(ids)
    });
    plegd.until("the end of the flood", 5 * PATIENCE, |_| flood.is_finished()).await?;
    let ids = flood.await??;
    plegd.until_told(client.history(), PATIENCE).await?;
    plegd.until_truth(&client, PATIENCE).await?;
    assert_eq!(ids.len(), FLOOD as usize);
    for id in &ids {
        let story = plegd.story(id);
        let steps: Vec<&str> = story.iter().map(|word| word.trim_end_matches('!')).collect();
        assert!(steps.ends_with(&["Started", "Died(3 Error)", "Removed"]), "{story:?}");
    }
    let from_stream = plegd.told.iter().filter(|event| event.source == plegd::model::Source::Event).count();
    eprintln!("{} of {} events came from the stream first", from_stream, plegd.told.len());
    finish(plegd, containerd).await
}

/// Small enough to be filled at once, large enough for the images and a few dozen pods.
const DISK_BYTES: u64 = 128 << 20;

pub(super) async fn a_full_disk_is_survived(version: Version) -> Result<()> {
    let mut containerd = Containerd::start_on_small_disks(version, DISK_BYTES).await?;
    let (churn, director) = Churn::new(containerd.client()?);
    let client = churn.client().clone();
    let mut plegd = Follower::start(&containerd)?;
    plegd.settled(true).await?;
    let kept = client.run_pod("kept").await?;
    let dies = client.run(&kept, ContainerSpec::living("dies", 3600.0, 0)).await?;
    let stays = client.run(&kept, ContainerSpec::living("stays", 3600.0, 0)).await?;
    plegd.until_told(client.history(), PATIENCE).await?;
    let pods = churn.many(12, 4, 4);
    plegd.until("pods to come and go", PATIENCE, |_| churn.pods() >= 2).await?;

    director.disturb();
    containerd.fill_disks()?;
    containerd.kill_processes_of(&dies)?;
    // Those pods may all be resting, or wait to be removed.
    let refused = tokio::spawn(until_some_are_refused(client.clone()));
    plegd.until("calls that fail", PATIENCE, |_| refused.is_finished()).await?;
    let (live, ready) = (plegd.app.health().live(), plegd.app.health().ready());
    ensure!(live.ok && ready.ok, "{live:?} {ready:?}");
    containerd.free_disks()?;
    if containerd.has_ended()? {
        eprintln!("containerd has not survived the full disk by itself");
        containerd.restart().await?;
    }
    let relists = plegd.relists() + 2.0;
    plegd.until("two relists", 2 * PATIENCE, |it| it.relists() >= relists).await?;
    director.calm();
    director.end();
    plegd.until("the end of the churn", 5 * PATIENCE, |_| pods.is_finished()).await?;
    pods.await??;
    eprintln!("{} calls failed, {} containers are in doubt", churn.failed_calls(), churn.doubted());
    plegd.until_truth(&client, PATIENCE).await?;
    ensure!(
        plegd.story(&stays) == ["Changed", "Started"] || plegd.story(&stays) == ["Started"],
        "{:?}",
        plegd.story(&stays)
    );
    for id in [&dies, &stays] {
        client.stop(id, Duration::ZERO).await?;
    }
    client.stop_pod(&kept).await?;
    client.remove_pod(&kept).await?;
    client.remove_all_pods().await?;
    plegd.until_truth(&client, PATIENCE).await?;
    plegd.until_told_of(client.history(), PATIENCE, |id| churn.is_certain(id)).await?;
    plegd.until("the end of every story", PATIENCE, |it| it.unfinished().is_empty()).await?;
    finish(plegd, containerd).await
}

/// Asks for pods until some were refused.
async fn until_some_are_refused(client: Client) {
    let (mut asked, mut refused) = (0, 0);
    while refused < 3 {
        asked += 1;
        if client.run_pod(&format!("refused-{asked}")).await.is_err() {
            refused += 1;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for the last pod, and sees that all was told and nothing is left.
async fn ended_well(
    mut plegd: Follower,
    containerd: Containerd,
    churn: Churn,
    pods: JoinHandle<Result<()>>,
) -> Result<()> {
    plegd.until("the end of the churn", 5 * PATIENCE, |_| pods.is_finished()).await?;
    pods.await??;
    let client = churn.client();
    let yielded = plegd.app.follower_status().yielded;
    ensure!(yielded.is_none(), "nobody else subscribes, and the stream is yielded: {yielded:?}");
    // What failed calls have left.
    client.remove_all_pods().await?;
    plegd.until_told_of(client.history(), PATIENCE, |id| churn.is_certain(id)).await?;
    plegd.until_truth(client, PATIENCE).await?;
    plegd.until("the end of every story", PATIENCE, |it| it.unfinished().is_empty()).await?;
    assert_eq!(plegd.app.cache().counts(), Counts::default());
    for id in plegd.returned() {
        ensure!(
            !churn.is_certain(id),
            "{id} was removed for certain, and has come again: {:?}",
            plegd.story(id)
        );
        eprintln!("{id:.12}, in whose removal containerd was killed, was there again: {:?}", plegd.story(id));
    }
    let ids = client.history().by_id().len();
    eprintln!(
        "{ids} lives, of which {} are in doubt; {} calls failed",
        churn.doubted(),
        churn.failed_calls()
    );
    ensure!(churn.doubted() * 4 <= ids, "too much is in doubt: {} of {ids}", churn.doubted());
    finish(plegd, containerd).await
}
