//! The kubelet's event table (`pkg/kubelet/pleg/generic.go`): the events published between each pair of views.

use super::bench::{Bench, at, container, event, read, sandbox};
use crate::model::{ContainerState::*, *};

/// The state of `a` in a view; none if it is absent.
type Observed = Option<crate::model::ContainerState>;

fn view(at: u64, seen: Observed) -> Observation {
    match seen {
        Some(state) => read(at, at + 5).sees(container("a", state)),
        None => read(at, at + 5).misses("a"),
    }
}

/// The events that the second of two reads publishes, or the third if the second only requests it.
fn between(first: Observed, second: Observed) -> Vec<String> {
    let mut bench = Bench::new();
    bench.stream_up = false;
    bench.apply(&view(100, first));
    bench.published.clear();
    bench.apply(&view(200, second));
    bench.apply(&view(300, second));
    assert_eq!(bench.state("a"), second, "{first:?} -> {second:?}");
    bench.published
}

#[test]
fn every_pair_of_container_states_is_published_by_the_table() {
    let none: [&str; 0] = [];
    let table: &[(Observed, Observed, &[&str])] = &[
        (None, None, &none),
        (None, Some(Created), &["a Changed"]),
        (None, Some(Running), &["a Started"]),
        (None, Some(Exited), &["a Started!", "a Died(3 Error)"]),
        (None, Some(Unknown), &["a Changed"]),
        (Some(Created), Some(Created), &none),
        (Some(Created), Some(Running), &["a Started"]),
        (Some(Created), Some(Exited), &["a Started!", "a Died(3 Error)"]),
        (Some(Created), Some(Unknown), &["a Changed"]),
        (Some(Created), None, &["a Died!", "a Removed"]),
        (Some(Running), Some(Created), &["a Sync"]),
        (Some(Running), Some(Running), &none),
        (Some(Running), Some(Exited), &["a Died(3 Error)"]),
        (Some(Running), Some(Unknown), &["a Changed"]),
        (Some(Running), None, &["a Died!", "a Removed"]),
        (Some(Exited), Some(Created), &["a Sync"]),
        (Some(Exited), Some(Running), &["a Sync"]),
        (Some(Exited), Some(Exited), &none),
        (Some(Exited), Some(Unknown), &["a Changed"]),
        (Some(Exited), None, &["a Removed"]),
        (Some(Unknown), Some(Created), &["a Changed"]),
        (Some(Unknown), Some(Running), &["a Started"]),
        (Some(Unknown), Some(Exited), &["a Started!", "a Died(3 Error)"]),
        (Some(Unknown), Some(Unknown), &none),
        (Some(Unknown), None, &["a Died!", "a Removed"]),
    ];
    assert_eq!(table.len(), 25);
    for (first, second, published) in table {
        assert_eq!(between(*first, *second), *published, "{first:?} -> {second:?}");
    }
}

#[test]
fn every_pair_of_sandbox_states_is_published_by_the_table() {
    use SandboxState::{NotReady, Ready};
    let none: [&str; 0] = [];
    let table: &[(Option<SandboxState>, Option<SandboxState>, &[&str])] = &[
        (None, None, &none),
        (None, Some(Ready), &["s Started"]),
        // Nothing proves that it was ever ready; the kubelet publishes the same.
        (None, Some(NotReady), &["s Died"]),
        (Some(Ready), Some(Ready), &none),
        (Some(Ready), Some(NotReady), &["s Died"]),
        (Some(Ready), None, &["s Died!", "s Removed"]),
        (Some(NotReady), Some(Ready), &["s Started"]),
        (Some(NotReady), Some(NotReady), &none),
        (Some(NotReady), None, &["s Removed"]),
    ];
    let view = |at, seen: Option<SandboxState>| match seen {
        Some(state) => read(at, at + 5).sees_sandbox(sandbox("s", state)),
        None => read(at, at + 5).misses("s"),
    };
    for (first, second, published) in table {
        let mut bench = Bench::new();
        bench.apply(&view(100, *first));
        bench.published.clear();
        bench.apply(&view(200, *second));
        assert_eq!(bench.published, *published, "{first:?} -> {second:?}");
        assert_eq!(bench.pod.is_empty(), second.is_none());
    }
}

#[test]
fn every_later_phase_is_taken_by_event_and_by_read_whatever_the_timestamp() {
    for (from, to, published) in [
        (Created, Running, &["a Started"][..]),
        (Created, Exited, &["a Started!", "a Died(3 Error)"]),
        (Running, Exited, &["a Died(3 Error)"]),
        (Unknown, Created, &["a Changed"]),
        (Unknown, Running, &["a Started"]),
        (Unknown, Exited, &["a Started!", "a Died(3 Error)"]),
    ] {
        // The record is of [1000, 1010]: within the margin before it, inside it, and after it.
        for upper in [960, 1005, 5000] {
            let by_read = read(upper - 10, upper).sees(container("a", to));
            let by_event = event(StreamEventType::Stopped, "a", upper).sees(container("a", to));
            for observation in [by_read, by_event] {
                let mut bench = Bench::new();
                bench.apply(&read(1000, 1010).sees(container("a", from)));
                assert_eq!(
                    bench.published_by(&observation),
                    published,
                    "{from:?} -> {to:?} at {upper} by {:?}",
                    observation.origin
                );
                assert_eq!(bench.state("a"), Some(to));
            }
        }
    }
}

#[test]
fn a_start_is_inferred_only_if_the_times_prove_it() {
    let failed = ContainerStatus {
        started_at: None,
        exit_code: Some(128),
        reason: "StartError".into(),
        ..container("a", Exited)
    };
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Created, "a", 10).sees(container("a", Created)));
    bench.apply(&read(5010, 5020).sees(failed));
    assert_eq!(bench.published, ["a Changed", "a Died(128 StartError)"]);
}

#[test]
fn a_start_reported_by_its_own_event_is_not_inferred_even_if_the_payload_is_ahead() {
    let mut bench = Bench::new();
    let out = bench.apply(&event(StreamEventType::Started, "a", 40).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Started", "a Died(3 Error)"]);
    assert_eq!(out.transitions[0].occurred_at, Some(super::bench::wall(20)));
    assert_eq!(out.transitions[1].occurred_at, Some(super::bench::wall(30)));
    // With an event of another id it is inferred.
    let mut bench = Bench::new();
    bench.apply(&event(StreamEventType::Started, "b", 40).sees(container("a", Exited)));
    assert_eq!(bench.published, ["a Started!", "a Died(3 Error)"]);
}

#[test]
fn the_same_id_in_another_pod_has_a_record_of_its_own() {
    let (mut one, mut other) = (Bench::new(), Bench::new());
    one.apply(&read(100, 105).sees(container("a", Running)));
    assert_eq!(other.published_by(&read(100, 105).sees(container("a", Exited))).len(), 2);
    assert_eq!(one.state("a"), Some(Running));
    assert_eq!(at(5).since(at(0)).as_millis(), 5);
}
