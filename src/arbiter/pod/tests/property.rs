//! Invariants under arbitrary sequences of observations.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{
    super::*,
    bench::{Bench, at, container, event, read, sandbox},
};
use crate::model::*;

const CONTAINERS: [&str; 3] = ["a", "b", "c"];
const IDS: [&str; 5] = ["a", "b", "c", "s", "t"];
const STATES: [ContainerState; 4] =
    [ContainerState::Created, ContainerState::Running, ContainerState::Exited, ContainerState::Unknown];

/// One observation: an event or a read of some ids at some time.
#[derive(Clone, Debug)]
struct Act {
    /// Time before it.
    pass: u64,
    /// Age of the view.
    age: u64,
    /// Duration of a read.
    took: u64,
    signal: Option<(StreamEventType, usize)>,
    states: [Option<usize>; 3],
    sandboxes: [Option<bool>; 2],
    absent: [bool; 5],
    stripped: bool,
    listed: bool,
    stream_up: bool,
}

prop_compose! {
    fn act()(
        pass in prop_oneof![0u64..5, 40u64..60, 100u64..400],
        age in prop_oneof![4 => Just(0u64), 2 => 0u64..100, 1 => 0u64..5000],
        took in 0u64..60,
        signal in prop::option::weighted(
            0.6,
            (prop::sample::select(StreamEventType::ALL.to_vec()), 0usize..IDS.len()),
        ),
        states in prop::array::uniform3(prop::option::weighted(0.4, 0usize..STATES.len())),
        sandboxes in prop::array::uniform2(prop::option::weighted(0.3, any::<bool>())),
        absent in prop::array::uniform5(prop::bool::weighted(0.25)),
        stripped in prop::bool::weighted(0.1),
        listed in prop::bool::weighted(0.1),
        stream_up in prop::bool::weighted(0.9),
    ) -> Act {
        Act { pass, age, took, signal, states, sandboxes, absent, stripped, listed, stream_up }
    }
}

fn observation(act: &Act, now: u64) -> Observation {
    let upper = now.saturating_sub(act.age);
    let mut it = match act.signal {
        Some((kind, id)) => event(kind, IDS[id], upper),
        None => read(upper.saturating_sub(act.took), upper),
    };
    for (id, state) in CONTAINERS.iter().zip(act.states) {
        it.containers.extend(state.map(|state| Arc::new(container(id, STATES[state]))));
    }
    for (id, ready) in ["s", "t"].iter().zip(act.sandboxes) {
        let state = |ready| if ready { SandboxState::Ready } else { SandboxState::NotReady };
        it.sandboxes.extend(ready.map(|ready| Arc::new(sandbox(id, state(ready)))));
    }
    if act.signal.is_none() {
        let seen = |id: &str| {
            it.containers.iter().any(|container| container.id.as_str() == id)
                || it.sandboxes.iter().any(|sandbox| sandbox.id.as_str() == id)
        };
        let absent: Vec<ObjectId> = (IDS.iter().zip(act.absent))
            .filter(|(id, absent)| *absent && !seen(id))
            .map(|(id, _)| (*id).into())
            .collect();
        it.absent = absent;
    }
    if act.stripped {
        it = it.minimal();
    }
    it
}

fn published_phase(pod: &PodState) -> BTreeMap<ObjectId, Option<Phase>> {
    pod.records.iter().map(|(id, record)| (id.clone(), record.published_phase)).collect()
}

fn intervals(pod: &PodState) -> BTreeMap<ObjectId, Interval> {
    pod.records.iter().map(|(id, record)| (id.clone(), record.interval)).collect()
}

/// Whether the words of a container are `Changed* Started? Changed* Died? Changed* Removed?`, again after each `Sync` and after each
/// removal, which only a newer read can follow.
fn is_history(words: &[String]) -> bool {
    let mut next = 0;
    for word in words {
        let step = match word.split(['(', '!']).next().unwrap_or_default() {
            "Changed" if next < 3 => continue,
            "Sync" => {
                next = 0;
                continue;
            }
            "Started" => 0,
            "Died" => 1,
            "Removed" => 2,
            _ => return false,
        };
        if step < next {
            return false;
        }
        next = if step == 2 { 0 } else { step + 1 };
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_phase_goes_back_is_published_twice_or_follows_a_removal(
        acts in prop::collection::vec(act(), 1..60),
        quirky in any::<bool>(),
    ) {
        let mut bench = if quirky { Bench::on("unknown", "1") } else { Bench::new() };
        let mut now = 10;
        for act in &acts {
            now += act.pass + act.took;
            if act.listed {
                bench.listed = bench.listed.max(Some(at(now)));
            }
            bench.stream_up = act.stream_up;
            let seen = observation(act, now);
            let (phases, before, tombstones) = (published_phase(&bench.pod), intervals(&bench.pod), bench.tombstones.clone());
            let out = bench.apply_at(&seen, at(now));
            let published = |id: &ObjectId, kind| {
                out.transitions.iter().any(|transition| transition.id == *id && transition.kind == kind)
            };
            for (id, phase) in published_phase(&bench.pod) {
                if let Some(earlier) = phases.get(&id) {
                    let is_sandbox = ["s", "t"].contains(&id.as_str());
                    let returned = is_sandbox && published(&id, crate::model::EventType::ContainerStarted);
                    let corrected = published(&id, crate::model::EventType::PodSync);
                    prop_assert!(phase >= *earlier || returned || corrected, "{id}: {earlier:?} -> {phase:?}");
                }
                if let Some(removed_at) = tombstones.get(&id) {
                    prop_assert!(
                        seen.origin != Origin::Event && seen.interval.lower >= Some(*removed_at),
                        "{id} was removed at {removed_at:?} and is back by {seen:?}"
                    );
                }
            }
            for (id, interval) in intervals(&bench.pod) {
                if let Some(earlier) = before.get(&id) {
                    prop_assert!(interval.lower >= earlier.lower && interval.upper >= earlier.upper, "{id}");
                }
            }
            // A removed id is published as removed, and has no record.
            for (id, _) in &out.removed {
                prop_assert!(published(id, crate::model::EventType::ContainerRemoved));
                prop_assert!(!bench.pod.records.contains_key(id));
            }
        }
        for id in CONTAINERS {
            let words: Vec<String> = (bench.published.iter())
                .filter_map(|line| Some(line.strip_prefix(id)?.trim().to_owned()))
                .collect();
            prop_assert!(is_history(&words), "{id}: {words:?}");
        }
        // Two later reads decide in the end, whatever the intervals of earlier views.
        for round in 1..=3 {
            let from = now + round * 1000;
            let mut truth = read(from, from + 1).sees_sandbox(sandbox("s", SandboxState::Ready)).misses("t");
            truth = truth.sees(container("a", ContainerState::Running)).misses("b").misses("c");
            bench.apply(&truth);
        }
        let ids: Vec<&str> = bench.pod.served_ids().map(|id| id.as_str()).collect();
        prop_assert_eq!(ids, ["a", "s"]);
        prop_assert_eq!(bench.state("a"), Some(ContainerState::Running));
    }

    #[test]
    fn intervals_only_advance(lowers in prop::array::uniform2(prop::option::of(0u64..100)), uppers in prop::array::uniform2(0u64..100)) {
        let interval = |n: usize| {
            let lower = lowers[n].map(at);
            Interval { lower, upper: at(uppers[n]).max(lower.unwrap_or(Mono::ZERO)) }
        };
        let (held, view) = (interval(0), interval(1));
        let after = rules::advance(held, view);
        prop_assert!(after.lower >= held.lower && after.lower >= view.lower);
        prop_assert!(after.upper >= held.upper && after.upper >= view.upper);
        prop_assert!(after.lower.is_none_or(|lower| lower <= after.upper));
        prop_assert_eq!(rules::advance(after, view), after);
    }
}
