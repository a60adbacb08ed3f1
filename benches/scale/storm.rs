//! 500 pods in which a container ends at the same time, and each has to be read: once because events say so that carry no
//! statuses, and once because no event says so and the next list shows it.
//!
//! With events it is measured from the moment at which the first of them is taken off the runtime's queue. With a list, from
//! the moment at which the runtime has made the first list of containers that shows it: what the runtime then takes to write
//! megabytes and plegd to read them is in it, and how long a list took is said beside it. Either way until a line that tells it
//! is read from plegd's stdout. A status takes the runtime two milliseconds or a little more; what it really took is said as well.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::{
    clock::{Clock, Mono},
    sim::{CallFault, Dose, EventFault, Message, Method, v1::ContainerState},
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

/// What tells plegd that something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// An event for each, without statuses.
    Events,
    /// The next list.
    List,
}

/// How long it took, as the median of the rounds.
struct Storm {
    first: Distribution,
    last: Distribution,
    /// From the change itself.
    since_change: Distribution,
    /// How long the runtime took for all changes.
    changing: Distribution,
    /// What a status and a list of containers took, over the daemon's life.
    status_took: Duration,
    list_took: Duration,
}

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    let events = storm(bench, Sign::Events).await?;
    let list = storm(bench, Sign::List).await?;
    let longest = |of: &Distribution| format!("median of {}, longest {:.1} ms", of.count(), of.max() * 1e3);
    let told = |name, what: String, of: &Distribution| {
        Reading::new(name, what, Unit::Milliseconds, of.median() * 1e3)
    };
    let ms = |it: Duration| it.as_secs_f64() * 1e3;
    Ok(vec![
        told("storm_first", "events without statuses → first told".into(), &events.first)
            .asked(Asked::AtMost(10.0))
            .note(format!(
                "{}; the runtime was busy with the changes for {:.1} ms, longest {:.1} ms",
                longest(&events.first),
                events.changing.median() * 1e3,
                events.changing.max() * 1e3
            )),
        told("storm_last", format!("events without statuses → all {PODS} told"), &events.last)
            .asked(Asked::AtMost(400.0))
            .note(format!("{}; a status took {:.2} ms", longest(&events.last), ms(events.status_took))),
        told("storm_listed_first", "listed → first told".into(), &list.first).note(format!(
            "{}; the call that lists took {:.1} ms, most of it after the runtime had made the list",
            longest(&list.first),
            ms(list.list_took)
        )),
        told("storm_listed_last", format!("listed → all {PODS} told"), &list.last)
            .asked(Asked::AtMost(400.0))
            .note(format!("{}; a status took {:.2} ms", longest(&list.last), ms(list.status_took))),
        told(
            "storm_changed",
            format!("changed → all {PODS} told, a relist a second, no events"),
            &list.since_change,
        )
        .note(longest(&list.since_change)),
    ])
}

async fn storm(bench: &Bench, sign: Sign) -> Result<Storm> {
    let node = Node::start(&bench.clock, Lists::Unary, Weight::Real, PODS, ROUNDS)?;
    let daemon = match sign {
        Sign::List => {
            node.silence();
            Daemon::start(&bench.clock, &node.endpoint(), Print::Json, Stream::Off).await?
        }
        Sign::Events => Daemon::start(&bench.clock, &node.endpoint(), Print::Json, Stream::On).await?,
    };
    daemon.ready().await?;
    if sign == Sign::Events {
        let trusted = daemon.shows("plegd_mode{mode=\"evented\"}", 1.0, PATIENCE);
        progress::during("waiting for plegd to trust the stream", trusted).await?;
        for fault in [EventFault::NilStatus, EventFault::NoStatuses] {
            node.sim.faults().events(fault, Dose::Always);
        }
    }
    for method in [Method::ContainerStatus, Method::PodSandboxStatus] {
        node.sim.faults().calls(method, CallFault::Late(STATUS_TAKES), Dose::Always);
    }
    node.sim.record_exchanges();
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        let what = format!("a storm in {PODS} pods, {} of {ROUNDS}", round + 1);
        told.push(progress::during(&what, one(&node, &daemon, &bench.clock, sign, round)).await?);
    }
    let call = |method, what| format!("plegd_cri_request_duration_seconds_{what}{{method=\"{method}\"}}");
    let mean = async |method| {
        let (sum, count) = (call(method, "sum"), call(method, "count"));
        anyhow::Ok(Duration::from_secs_f64(daemon.metric(&sum).await? / daemon.metric(&count).await?))
    };
    let (status_took, list_took) = (mean("ContainerStatus").await?, mean("ListContainers").await?);
    daemon.stop().await?;
    let all = |of: fn(&Told) -> Duration| {
        Distribution::of(told.iter().map(|it| of(it).as_secs_f64()).collect()).context("there was no storm")
    };
    let (first, last) = (all(|it| it.first)?, all(|it| it.last)?);
    let (since_change, changing) = (all(|it| it.since_change)?, all(|it| it.changing)?);
    Ok(Storm { first, last, since_change, changing, status_took, list_took })
}

/// One round.
struct Told {
    first: Duration,
    last: Duration,
    since_change: Duration,
    changing: Duration,
}

async fn one(node: &Node, daemon: &Daemon, clock: &Clock, sign: Sign, round: usize) -> Result<Told> {
    let ids: Vec<String> = node.pods.iter().map(|pod| pod.containers[round].clone()).collect();
    let said_before = node.sim.exchanges().len();
    let changed = clock.now();
    match sign {
        // One by one: a status that is asked for is not to wait until the simulated runtime is done with all of them.
        Sign::Events => ids.iter().try_for_each(|id| act(&node.sim, |truth| truth.exit(id, 3)))?,
        // All at once: no list is to show some of them only.
        Sign::List => act(&node.sim, |truth| ids.iter().try_for_each(|id| truth.exit(id, 3)))?,
    }
    let changing = clock.now().since(changed);
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
    let began = match sign {
        Sign::Events => {
            let taken = node.sim.deliveries();
            taken.iter().rev().find(|it| it.id == ids[0]).context("no event says so")?.at
        }
        Sign::List => shown_at(node, said_before, &ids[0]).context("no list shows the deaths")?,
    };
    // What comes after the deaths, such as a second look at them, is over.
    sleep(Duration::from_millis(700)).await;
    let since_change = last.since(changed);
    Ok(Told { first: first.since(began), last: last.since(began), since_change, changing })
}

/// When the first list was made that shows this container as ended.
fn shown_at(node: &Node, from: usize, id: &str) -> Option<Mono> {
    let ended = i32::from(ContainerState::ContainerExited);
    node.sim.exchanges()[from..].iter().find_map(|said| match &said.message {
        Message::Containers(items) => {
            items.iter().any(|item| item.id == id && item.state == ended).then_some(said.at)
        }
        _ => None,
    })
}
