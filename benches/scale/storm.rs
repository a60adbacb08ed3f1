//! A container ends in each of 500 pods at the same time, and each has to be read: first with events that carry no
//! statuses, then without events, so that the next list shows the change.
//!
//! With events, time starts when the first event is taken from the runtime's queue. With lists, it starts when the
//! runtime has built the first container list that shows the change: the time to send and read megabytes is included,
//! and the duration of a list call is in the note. Time ends when the line of the published event is read from
//! plegd's stdout. A status call takes the runtime 2 ms or slightly more; the actual time is in the note.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::{
    clock::{Clock, Mono},
    sim::{CallFault, Dose, EventFault, Message, Method, v1::ContainerState},
};
use tokio::time::{sleep, timeout};

use super::{
    Bench,
    binary::DEADLINE,
    daemon::{Daemon, Print, Stream},
    node::{Lists, Node, Weight, act},
    progress,
    report::{Distribution, Reading, Target, Unit},
};

const PODS: usize = 500;
/// One container of each pod ends in each round.
const ROUNDS: usize = 5;
const STATUS_TAKES: Duration = Duration::from_millis(2);

/// How plegd notices the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// One event each, without statuses.
    Events,
    /// The next list.
    List,
}

/// The results, over all rounds.
struct Storm {
    first: Distribution,
    last: Distribution,
    /// Measured from the change itself.
    since_change: Distribution,
    /// Time of the runtime to make all changes.
    changing: Distribution,
    /// Mean duration of a status call and a container list.
    status_took: Duration,
    list_took: Duration,
}

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Reading>> {
    let events = storm(bench, Sign::Events).await?;
    let list = storm(bench, Sign::List).await?;
    let longest = |of: &Distribution| format!("median of {}, longest {:.1} ms", of.count(), of.max() * 1e3);
    let latency = |name, what: String, of: &Distribution| {
        Reading::new(name, what, Unit::Milliseconds, of.median() * 1e3)
    };
    let ms = |it: Duration| it.as_secs_f64() * 1e3;
    Ok(vec![
        latency("storm_first", "events without statuses → first published".into(), &events.first)
            .target(Target::AtMost(10.0))
            .note(format!(
                "{}; making the changes took the runtime {:.1} ms, longest {:.1} ms",
                longest(&events.first),
                events.changing.median() * 1e3,
                events.changing.max() * 1e3
            )),
        latency("storm_last", format!("events without statuses → all {PODS} published"), &events.last)
            .target(Target::AtMost(400.0))
            .note(format!("{}; a status took {:.2} ms", longest(&events.last), ms(events.status_took))),
        latency("storm_listed_first", "listed → first published".into(), &list.first).note(format!(
            "{}; a list call took {:.1} ms, most of it after the runtime had built the list",
            longest(&list.first),
            ms(list.list_took)
        )),
        latency("storm_listed_last", format!("listed → all {PODS} published"), &list.last)
            .target(Target::AtMost(400.0))
            .note(format!("{}; a status took {:.2} ms", longest(&list.last), ms(list.status_took))),
        latency(
            "storm_changed",
            format!("changed → all {PODS} published, one relist per second, no events"),
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
        let trusted = daemon.shows("plegd_mode{mode=\"evented\"}", 1.0, DEADLINE);
        progress::during("waiting for evented mode", trusted).await?;
        for fault in [EventFault::NilStatus, EventFault::NoStatuses] {
            node.sim.faults().events(fault, Dose::Always);
        }
    }
    for method in [Method::ContainerStatus, Method::PodSandboxStatus] {
        node.sim.faults().calls(method, CallFault::Late(STATUS_TAKES), Dose::Always);
    }
    node.sim.record_exchanges();
    let mut published = Vec::new();
    for round in 0..ROUNDS {
        let what = format!("round {} of {ROUNDS} with {PODS} pods", round + 1);
        published.push(progress::during(&what, one(&node, &daemon, &bench.clock, sign, round)).await?);
    }
    let call = |method, what| format!("plegd_cri_request_duration_seconds_{what}{{method=\"{method}\"}}");
    let mean = async |method| {
        let (sum, count) = (call(method, "sum"), call(method, "count"));
        anyhow::Ok(Duration::from_secs_f64(daemon.metric(&sum).await? / daemon.metric(&count).await?))
    };
    let (status_took, list_took) = (mean("ContainerStatus").await?, mean("ListContainers").await?);
    daemon.stop().await?;
    let all = |of: fn(&Timing) -> Duration| {
        Distribution::of(published.iter().map(|it| of(it).as_secs_f64()).collect())
            .context("nothing was measured")
    };
    let (first, last) = (all(|it| it.first)?, all(|it| it.last)?);
    let (since_change, changing) = (all(|it| it.since_change)?, all(|it| it.changing)?);
    Ok(Storm { first, last, since_change, changing, status_took, list_took })
}

/// One round.
struct Timing {
    first: Duration,
    last: Duration,
    since_change: Duration,
    changing: Duration,
}

async fn one(node: &Node, daemon: &Daemon, clock: &Clock, sign: Sign, round: usize) -> Result<Timing> {
    let ids: Vec<String> = node.pods.iter().map(|pod| pod.containers[round].clone()).collect();
    let said_before = node.sim.exchanges().len();
    let changed = clock.now();
    match sign {
        // One by one: a status call must not wait until the simulated runtime has finished all changes.
        Sign::Events => ids.iter().try_for_each(|id| act(&node.sim, |truth| truth.exit(id, 3)))?,
        // All at once: no list shows only some of the changes.
        Sign::List => act(&node.sim, |truth| ids.iter().try_for_each(|id| truth.exit(id, 3)))?,
    }
    let changing = clock.now().since(changed);
    let all = async {
        loop {
            let lines = daemon.events().of(&ids, "ContainerDied");
            if lines.len() >= ids.len() {
                return lines;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let lines = timeout(DEADLINE, all).await.context("not all deaths are published")?;
    let published = lines.iter().map(|line| line.read_at);
    let (first, last) = (
        published.clone().min().context("no death is published")?,
        published.max().context("no death is published")?,
    );
    let began = match sign {
        Sign::Events => {
            let taken = node.sim.deliveries();
            taken.iter().rev().find(|it| it.id == ids[0]).context("no event for it")?.at
        }
        Sign::List => shown_at(node, said_before, &ids[0]).context("no list shows the deaths")?,
    };
    // Waits for later reads, such as re-checks of the deaths.
    sleep(Duration::from_millis(700)).await;
    let since_change = last.since(changed);
    Ok(Timing { first: first.since(began), last: last.since(began), since_change, changing })
}

/// When the first list was built that shows this container as exited.
fn shown_at(node: &Node, from: usize, id: &str) -> Option<Mono> {
    let ended = i32::from(ContainerState::ContainerExited);
    node.sim.exchanges()[from..].iter().find_map(|said| match &said.message {
        Message::Containers(items) => {
            items.iter().any(|item| item.id == id && item.state == ended).then_some(said.at)
        }
        _ => None,
    })
}
