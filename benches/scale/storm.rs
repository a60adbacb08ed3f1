//! 500 pods in which a container ends at the same time, and no event says so: the next list shows it, and each has to be read.
//!
//! Measured from the moment at which the runtime has made the first list of containers that shows it, which is before its
//! bytes are sent, until a line that tells it is read from plegd's stdout. A status takes the runtime two milliseconds or
//! a little more; what it really took is said beside it.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::{
    clock::{Clock, Mono},
    sim::{CallFault, Dose, Method, Saying, v1::ContainerState},
};
use tokio::time::{sleep, timeout};

use super::{
    Bench,
    binary::PATIENCE,
    daemon::{Daemon, Print, Stream},
    node::{Lists, Node, Weight, act},
    progress,
    report::{Asked, Distribution, Reading, Unit},
};

const PODS: usize = 500;
/// One of each pod ends in each round.
const ROUNDS: usize = 5;
const STATUS_TAKES: Duration = Duration::from_millis(2);

/// One storm.
struct Told {
    first: Duration,
    last: Duration,
    /// From the change itself.
    since_change: Duration,
}

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, PODS, ROUNDS)?;
    node.silence();
    let daemon = Daemon::start(&bench.clock, &node.endpoint(), Print::Json, Stream::Off).await?;
    daemon.ready().await?;
    for method in [Method::ContainerStatus, Method::PodSandboxStatus] {
        node.sim.faults().calls(method, CallFault::Late(STATUS_TAKES), Dose::Always);
    }
    node.sim.record_said();
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        let what = format!("a storm in {PODS} pods, {} of {ROUNDS}", round + 1);
        told.push(progress::during(&what, storm(&node, &daemon, &bench.clock, round)).await?);
    }
    let call = |what| format!("plegd_cri_request_duration_seconds_{what}{{method=\"ContainerStatus\"}}");
    let took = daemon.metric(&call("sum")).await? / daemon.metric(&call("count")).await?;
    daemon.stop().await?;

    let median = |of: fn(&Told) -> Duration| {
        Distribution::of(told.iter().map(|it| of(it).as_secs_f64()).collect()).context("there was no storm")
    };
    let (first, last, all) = (median(|it| it.first)?, median(|it| it.last)?, median(|it| it.since_change)?);
    let longest = |of: &Distribution| format!("median of {}, longest {:.1} ms", of.count(), of.max() * 1e3);
    Ok(vec![
        Reading::new("storm_first", "listed → first told", Unit::Milliseconds, first.median() * 1e3)
            .asked(Asked::AtMost(10.0))
            .note(longest(&first)),
        Reading::new(
            "storm_last",
            format!("listed → all {PODS} told"),
            Unit::Milliseconds,
            last.median() * 1e3,
        )
        .asked(Asked::AtMost(400.0))
        .note(format!(
            "{}; a status took {:.2} ms, all calls of the daemon's life",
            longest(&last),
            took * 1e3
        )),
        Reading::new(
            "storm_changed",
            format!("changed → all {PODS} told, a relist a second"),
            Unit::Milliseconds,
            all.median() * 1e3,
        )
        .note(longest(&all)),
    ])
}

async fn storm(node: &Node, daemon: &Daemon, clock: &Clock, round: usize) -> Result<Told> {
    let ids: Vec<String> = node.pods.iter().map(|pod| pod.containers[round].clone()).collect();
    let said_before = node.sim.said().len();
    let changed = clock.now();
    act(&node.sim, |truth| ids.iter().try_for_each(|id| truth.exit(id, 3)))?;
    let all = async {
        loop {
            let lines = daemon.told().of(&ids, "ContainerDied");
            if lines.len() >= ids.len() {
                return lines;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let lines = timeout(PATIENCE, all).await.context("not all deaths are told")?;
    let told = lines.iter().map(|line| line.read_at);
    let (first, last) = (told.clone().min().context("none told")?, told.max().context("none told")?);
    let listed = shown_at(node, said_before, &ids[0]).context("no list shows the deaths")?;
    // What comes after the deaths, such as a second look at them, is over.
    sleep(Duration::from_millis(700)).await;
    Ok(Told { first: first.since(listed), last: last.since(listed), since_change: last.since(changed) })
}

/// When the first list was made that shows this container as ended.
fn shown_at(node: &Node, from: usize, id: &str) -> Option<Mono> {
    let ended = i32::from(ContainerState::ContainerExited);
    node.sim.said()[from..].iter().find_map(|said| match &said.what {
        Saying::Containers(items) => {
            items.iter().any(|item| item.id == id && item.state == ended).then_some(said.at)
        }
        _ => None,
    })
}
