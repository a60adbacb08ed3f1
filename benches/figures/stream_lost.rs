//! From the loss of the event stream to the end of the first complete relist.
//!
//! A real containerd's stream is only lost together with containerd, whose own restart then takes most of the time.
//! So plegd's part is measured on the simulated runtime, whose stream can be cut alone; on the real one, the time
//! from its first answer until all changes created meanwhile are published.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use plegd::{
    app::App,
    clock::Clock,
    config::Config,
    cri::{Endpoint, Link},
    sim::{Profile, SimRuntime, churn::populate},
};
use tokio::time::sleep;

use super::{
    Bench, CONTAINERS_PER_POD,
    daemon::{Daemon, Print, Stream},
    lab::{TIMEOUT, eventually},
    node::Node,
    progress,
    report::{Distribution, Reading, Target, Unit},
};

const CUTS: u64 = 20;
/// Containers that die while the real containerd is down.
const DEATHS: usize = 10;

pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Reading>> {
    let (clock, pods, full) = (bench.clock.clone(), bench.pods, bench.is_full_size());
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("cri.sock");
    let simulated = cuts(&clock, pods, &socket);
    let simulated = progress::during("cutting the stream of the simulated runtime", simulated).await?;
    let what = |what: &str| format!("stream lost → relisted, {pods} pods: {what}");
    let target = if full { Target::AtMost(100.0) } else { Target::None };
    let mut readings = vec![
        Reading::new("stream_lost_median", what("median"), Unit::Milliseconds, simulated.median())
            .target(target)
            .note(format!("{CUTS} cuts on the simulated runtime over a UNIX socket")),
        Reading::new("stream_lost_max", what("longest"), Unit::Milliseconds, simulated.max()).target(target),
    ];
    readings.extend(restart(&clock, bench.node().await?).await?);
    Ok(readings)
}

/// Milliseconds from each cut to the end of the next relist. A new plegd each time, because the same one would
/// increase its backoff.
async fn cuts(clock: &Clock, pods: usize, socket: &Path) -> Result<Distribution> {
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, clock.clone(), 1);
    sim.change(|truth| populate(truth, 1, pods, CONTAINERS_PER_POD))
        .map_err(|refused| anyhow::anyhow!("the simulated runtime refused a pod: {refused:?}"))?;
    let _served = sim.serve_uds(socket)?;
    let endpoint: Endpoint = socket.display().to_string().parse().map_err(anyhow::Error::msg)?;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut took = Vec::new();
    for _ in 0..CUTS {
        let app = App::start(&Config::default(), Link::unix(endpoint.clone()), clock.clone());
        eventually("the stream to be up", TIMEOUT, || async { Ok(app.follower_status().stream_up) }).await?;
        // At a random moment between or within relists.
        sleep(Duration::from_millis(rng.u64(200..1200))).await;
        let fallback = &app.metrics().mode.fallback;
        let cut = clock.now();
        sim.cut_streams(None);
        let relisted = async {
            while fallback.get_sample_count() == 0 {
                // The shortest possible sleep: the figure may be too long by this much.
                sleep(Duration::from_millis(1)).await;
            }
            clock.now()
        };
        let relisted = tokio::time::timeout(TIMEOUT, relisted).await.context("no relist after the cut")?;
        took.push(relisted.since(cut).as_secs_f64() * 1e3);
        app.stop().await;
    }
    Distribution::of(took).context("the stream was not cut")
}

/// Kills containerd, lets some containers die, and restarts it.
async fn restart(clock: &Clock, node: &mut Node) -> Result<Vec<Reading>> {
    let daemon = Daemon::start(clock, &node.containerd.endpoint(), Print::Json, Stream::On).await?;
    daemon.ready().await?;
    daemon.shows("plegd_mode{mode=\"polling\"}", 0.0, TIMEOUT).await?;
    let listed = node.client.list().await?;
    let victims: Vec<String> = listed.into_iter().take(DEATHS).map(|container| container.id).collect();
    node.containerd.kill9()?;
    for victim in &victims {
        node.containerd.kill_processes_of(victim)?;
    }
    let spawned = clock.now();
    node.containerd.spawn()?;
    let client = node.client.clone().with_deadline(Duration::from_secs(2));
    let answer = eventually("containerd to answer", TIMEOUT, || async {
        Ok(client.version().await.ok().map(|_| clock.now()))
    });
    let answered = progress::during("restarting containerd", answer).await?;
    let published = eventually("all deaths to be published", TIMEOUT, || async {
        let published = daemon.events().of(&victims, "ContainerDied");
        Ok((published.len() >= victims.len())
            .then(|| published.iter().map(|line| line.read_at).max())
            .flatten())
    });
    let published = published.await?;
    node.containerd.ready().await?;
    daemon.stop().await?;
    let away = answered.since(spawned).as_secs_f64();
    let note = format!("{} deaths meanwhile; containerd took {away:.1} s to answer", victims.len());
    let milliseconds = published.since(answered).as_secs_f64() * 1e3;
    Ok(vec![
        Reading::new(
            "restart_told",
            "real containerd answers again → all published",
            Unit::Milliseconds,
            milliseconds,
        )
        .note(note),
    ])
}
