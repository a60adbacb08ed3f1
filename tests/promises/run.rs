//! Runs one seed: a node under churn, faults of runtime and plegd, and subscribers that pause, disconnect and resume.

use std::time::Duration;

use plegd::{
    api::v1,
    model::Position,
    sim::{Churn, Dose, Profile, SimRuntime},
};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    checker::{check, check_run},
    node::{Connections, Node},
    record::{Layer, Recording, Run},
    remote, state,
    subscriber::Plan,
};
use crate::support::EVENT_FAULTS;

/// The number of subscribers of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Subscribers {
    pub embedded: usize,
    pub raw: usize,
    pub client: usize,
    /// Steps of churn, about 16 per second.
    pub steps: usize,
}

/// The result of a seed.
pub struct Outcome {
    pub runs: Vec<Run>,
    pub recordings: Vec<Recording>,
    pub sim: SimRuntime,
    pub found: Vec<String>,
}

/// Runs a seed. The result contains the violations of guarantees.
pub async fn run(seed: u64, count: Subscribers) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed);
    let profiles = [
        Profile::CONTAINERD_2_1,
        Profile::CONTAINERD_2_4,
        Profile::CONTAINERD_1_7,
        Profile::CRI_O_1_34,
        Profile::CONTAINERD_1_6,
    ];
    let mut node = Node::new(profiles[rng.usize(..profiles.len())], seed, rng.usize(64..=128));
    let (calm, goal) = (CancellationToken::new(), watch::Sender::new(None));
    node.start();
    let mut churn = Churn::new(14);
    churn_steps(&node, &mut churn, &mut rng, 40).await;
    let mut subscribers = JoinSet::new();
    let serving = node.serving().borrow().clone().expect("a running plegd");
    for n in 0..count.embedded {
        let plan = Plan::any(format!("embedded-{n}"), &mut rng, &serving);
        subscribers.spawn(plan.follow(Layer::Embedded, node.serving(), calm.clone()));
    }
    for n in 0..count.raw {
        let plan = Plan::any(format!("raw-{n}"), &mut rng, &serving);
        subscribers.spawn(plan.follow(Layer::Wire, node.serving(), calm.clone()));
    }
    for n in 0..count.client {
        let plan = Plan::any(format!("client-{n}"), &mut rng, &serving);
        subscribers.spawn(remote::follow(plan, node.serving(), calm.clone(), goal.subscribe()));
    }
    drop(serving);
    let operator = Connections::default().client(node.serving());
    let rounds = 6;
    for _ in 0..rounds {
        inject_fault(&mut node, &mut rng, &operator).await;
        churn_steps(&node, &mut churn, &mut rng, count.steps / rounds).await;
    }
    node.sim.faults().clear();
    let _ = node.sim.recover();
    sleep(Duration::from_secs(100)).await;
    // The subscribers read what is available. Nothing else happens.
    calm.cancel();
    sleep(Duration::from_secs(60)).await;
    let journal = node.app().journal();
    let head: Position = journal.position(journal.head());
    goal.send_replace(Some(head));
    sleep(Duration::from_secs(60)).await;
    let sim = node.sim.clone();
    node.stop().await;
    let runs = node.runs().to_vec();
    drop(node);
    let recordings = subscribers.join_all().await;
    let mut found: Vec<String> =
        runs.iter().flat_map(check_run).map(|violation| violation.to_string()).collect();
    for recording in &recordings {
        let violations: Vec<String> = check(&runs, recording).iter().map(ToString::to_string).collect();
        let differences = if recording.drained { state::differences(recording, &sim) } else { Vec::new() };
        if !violations.is_empty() || !differences.is_empty() {
            found.extend(violations.into_iter().chain(differences).take(12));
            found.extend(recording.trace());
        }
    }
    Outcome { runs, recordings, sim, found }
}

/// Steps of churn, about 16 per second.
async fn churn_steps(node: &Node, churn: &mut Churn, rng: &mut fastrand::Rng, steps: usize) {
    for _ in 0..steps {
        node.sim.change(|truth| churn.step(rng, truth));
        sleep(Duration::from_micros(rng.u64(10..120_000))).await;
    }
}

/// Injects a fault, for once or from now on.
async fn inject_fault(node: &mut Node, rng: &mut fastrand::Rng, operator: &plegd::client::Client) {
    match rng.u32(..8) {
        0..3 => {
            for fault in EVENT_FAULTS {
                if rng.u32(..3) == 0 {
                    node.sim.faults().events(fault, Dose::Chance(0.08));
                }
            }
        }
        3 => node.sim.cut_streams(None),
        4 => {
            let _ = node.sim.restart(Duration::from_millis(rng.u64(1..5000))).await;
        }
        5..7 => {
            node.stop().await;
            sleep(Duration::from_millis(rng.u64(1..3000))).await;
            node.start();
        }
        _ => {
            let subscribers = operator.introspection().list_subscribers(v1::ListSubscribersRequest {}).await;
            let subscribers = subscribers.expect("a response").into_inner().subscribers;
            for subscriber in subscribers.iter().filter(|_| rng.bool()) {
                let request = v1::DisconnectSubscriberRequest { id: subscriber.id };
                // The subscriber may have disconnected meanwhile.
                let _ = operator.introspection().disconnect_subscriber(request).await;
            }
        }
    }
}
