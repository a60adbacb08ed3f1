//! Mutations that make a good recording invalid; the table is in `tests/promises.rs`.

use std::sync::Arc;

use plegd::{
    api::v1,
    model::Position,
    watch::{Gap, GapReason, SlowPolicy, Start},
};

use super::{
    checker::Guarantee::{self, *},
    record::{Connection, End, Item, Published, Recording, Run},
    state,
};

/// Changes a recording or the journals, if the mutation applies.
type Tamper = fn(&mut Recording, &mut Vec<Run>) -> bool;

/// Each mutation, and the guarantees as whose violation the checker may reject it.
pub const MUTATIONS: &[(&str, &[Guarantee], Tamper)] = &[
    ("an event is missing before another", &[Reliable], |it, _| {
        every(it) && at(it, |items, n| two_events(items, n) && n > 1 && is_event(&items[n - 1]), remove)
    }),
    ("an event is missing before a bookmark", &[Bookmarkable], |it, _| {
        every(it)
            && at(
                it,
                |items, n| is_event(&items[n]) && matches!(items.get(n + 1), Some(Item::Bookmark(_))),
                remove,
            )
    }),
    ("the first event after a resume is missing", &[Resumable], |it, _| {
        let resumed = |it: &&mut Connection| {
            matches!(it.start, Start::After(_)) && it.items.len() > 2 && two_events(&it.items, 1)
        };
        every(it) && it.connections.iter_mut().find(resumed).map(|it| it.items.remove(1)).is_some()
    }),
    ("two events change places", &[Ordered], |it, _| {
        every(it) && at(it, two_events, |items, n| items.swap(n, n + 1))
    }),
    ("an event comes twice", &[Unique], |it, _| at(it, |items, n| is_event(&items[n]), repeat)),
    ("an event comes again on the next connection", &[Unique], |it, _| {
        for n in 1..it.connections.len() {
            let [before, after] = &mut it.connections[n - 1..=n] else { continue };
            let last = before.items.iter().rev().find(|item| is_event(item));
            let (Start::After(_), Some(last), true) = (after.start, last, after.items.len() > 1) else {
                continue;
            };
            if is_event(&after.items[1]) {
                after.items.insert(1, last.clone());
                return true;
            }
        }
        false
    }),
    ("a bookmark is ahead", &[Bookmarkable], |it, _| {
        let ready = |items: &[Item], n: usize| {
            matches!((&items[n], items.get(n + 1)), (Item::Bookmark(_), Some(Item::Event { .. })))
        };
        every(it)
            && at(it, ready, |items, n| {
                let ahead = sequence(&items[n + 1]);
                if let Item::Bookmark(position) = &mut items[n] {
                    position.sequence = ahead;
                }
            })
    }),
    ("the last bookmark is missing", &[Bookmarkable], |it, _| {
        let ending = |it: &&mut Connection| it.end == End::Ending && it.items.len() > 1;
        it.connections.iter_mut().find(ending).map(|it| it.items.truncate(1)).is_some()
    }),
    ("the last events are missing", &[Reliable], |it, _| {
        let last = it.connections.last_mut().expect("one");
        let lagging = last.items.len() > 3 && last.items[1..].iter().any(is_event);
        if lagging {
            last.items.truncate(1);
            last.end = End::Cut;
        }
        lagging
    }),
    ("a pod of a snapshot is missing", &[SnapshotExact], |it, _| {
        at(it, whole_snapshot, |items, n| {
            items.remove(n);
            if let Some(Item::SnapshotEnd { pods, .. }) = items[n..].iter_mut().find(|item| !is_pod(item)) {
                *pods -= 1;
            }
        })
    }),
    ("the pods of a snapshot are counted wrong", &[SnapshotExact], |it, _| {
        at(
            it,
            |items, n| matches!(items[n], Item::SnapshotEnd { .. }),
            |items, n| {
                if let Item::SnapshotEnd { pods, .. } = &mut items[n] {
                    *pods += 1;
                }
            },
        )
    }),
    ("a pod of a snapshot is outdated", &[SnapshotExact], |it, runs| {
        let runs = runs.clone();
        at(
            it,
            |items, n| whole_snapshot(items, n) && older(&runs, pod_at(items, n)).is_some(),
            |items, n| items[n] = Item::Pod(older(&runs, pod_at(items, n)).expect("an older one")),
        )
    }),
    ("a pod of a snapshot was removed before", &[SnapshotExact], |it, runs| {
        let runs = runs.clone();
        let filter = it.filter.clone();
        let gone = |items: &[Item], n: usize| {
            let Item::SnapshotEnd { position, .. } = &items[n] else { return None };
            let run = runs.iter().find(|run| run.epoch == position.epoch)?;
            let removal = run.between(0, position.sequence).iter().find(|published| {
                published.pod.is_none()
                    && !run.published.iter().any(|later| {
                        later.event.sequence > published.event.sequence
                            && later.event.pod == published.event.pod
                    })
            })?;
            let last = run
                .published
                .iter()
                .rev()
                .find(|published| published.pod.is_some() && published.event.pod == removal.event.pod)?;
            last.pod.clone().filter(|_| filter.is_empty())
        };
        at(
            it,
            |items, n| gone(items, n).is_some(),
            |items, n| {
                let pod = gone(items, n).expect("one");
                if let Item::SnapshotEnd { pods, .. } = &mut items[n] {
                    *pods += 1;
                }
                items.insert(n, Item::Pod(pod));
            },
        )
    }),
    ("an event that the snapshot contains is delivered", &[SnapshotExact], |it, runs| {
        let (filter, runs) = (it.filter.clone(), runs.clone());
        let contained = |items: &[Item], n: usize| {
            let Item::SnapshotEnd { position, .. } = &items[n] else { return None };
            let run = runs.iter().find(|run| run.epoch == position.epoch)?;
            let mut published = run.between(0, position.sequence).iter().rev();
            published.find(|published| filter.passes(&published.event)).map(item)
        };
        it.connections.truncate(1);
        at(
            it,
            |items, n| contained(items, n).is_some(),
            |items, n| {
                let event = contained(items, n).expect("one");
                items.insert(n + 1, event);
            },
        )
    }),
    ("an event does not match the filter", &[Filtered], |it, runs| {
        let (filter, runs) = (it.filter.clone(), runs.clone());
        let stopped = |items: &[Item], n: usize| {
            let before = items.get(n.checked_sub(1)?).filter(|item| is_event(item))?;
            let (Item::Event { event, .. }, after) = (before, sequence(items.get(n)?)) else { return None };
            let run = runs
                .iter()
                .find(|run| run.get(event.sequence).is_some_and(|published| published.event == *event))?;
            run.between(event.sequence, after.saturating_sub(1))
                .iter()
                .find(|it| !filter.passes(&it.event))
                .map(item)
        };
        at(
            it,
            |items, n| stopped(items, n).is_some(),
            |items, n| {
                let event = stopped(items, n).expect("one");
                items.insert(n, event);
            },
        )
    }),
    ("a pod of a snapshot does not match the filter", &[Filtered], |it, runs| {
        let (filter, runs) = (it.filter.clone(), runs.clone());
        let foreign = |items: &[Item], n: usize| {
            let Item::SnapshotEnd { position, .. } = &items[n] else { return None };
            let run = runs.iter().find(|run| run.epoch == position.epoch)?;
            let published = run.between(0, position.sequence).iter().rev().find(|published| {
                let later = run.between(published.event.sequence, position.sequence);
                !filter.passes_pod(&published.event.pod, &published.event.labels)
                    && later.iter().all(|later| later.event.pod != published.event.pod)
                    && published.pod.is_some()
            })?;
            published.pod.clone()
        };
        at(
            it,
            |items, n| foreign(items, n).is_some(),
            |items, n| {
                let pod = foreign(items, n).expect("one");
                items.insert(n, Item::Pod(pod));
            },
        )
    }),
    ("an event has an older pod status", &[StatusExact], |it, runs| {
        let runs = runs.clone();
        let stale = |items: &[Item], n: usize| match &items[n] {
            Item::Event { pod: Some(pod), .. } => older(&runs, pod),
            _ => None,
        };
        at(
            it,
            |items, n| stale(items, n).is_some(),
            |items, n| {
                let older = stale(items, n);
                if let Item::Event { pod, .. } = &mut items[n] {
                    *pod = older;
                }
            },
        )
    }),
    ("an event has no pod status", &[StatusExact], |it, _| {
        at(
            it,
            |items, n| matches!(items[n], Item::Event { pod: Some(_), .. }),
            |items, n| {
                if let Item::Event { pod, .. } = &mut items[n] {
                    *pod = None;
                }
            },
        )
    }),
    ("a gap is missing", &[GapsMarked], |it, _| {
        at(it, |items, n| is_gap(&items[n]) && items.len() > n + 1, remove)
    }),
    ("a gap is missing with its snapshot", &[GapsMarked, Reliable, Resumable, Bookmarkable], |it, _| {
        let whole = |items: &[Item], n: usize| {
            let end = items[n..].iter().position(|item| matches!(item, Item::SnapshotEnd { .. }));
            is_gap(&items[n]) && end.is_some_and(|end| items[n + end..].iter().any(is_event))
        };
        every(it)
            && at(it, whole, |items, n| {
                let end = items[n..].iter().position(|item| matches!(item, Item::SnapshotEnd { .. }));
                items.drain(n..=n + end.expect("whole"));
            })
    }),
    ("a gap begins too early", &[GapsMarked], |it, _| {
        it.filter.is_empty() && every(it) && gap(it, |gap| gap.from > 1, |gap| gap.from -= 1)
    }),
    ("a gap is needless", &[GapsMarked], |it, _| {
        gap(it, |gap| gap.to.is_some(), |gap| gap.to = Some(gap.from + 1))
    }),
    ("a gap has another reason", &[GapsMarked], |it, _| {
        gap(it, |gap| gap.reason != GapReason::InFuture, |gap| gap.reason = GapReason::InFuture)
    }),
    ("a snapshot position splits a change", &[Atomic], |it, runs| {
        let runs = runs.clone();
        let within = |items: &[Item], n: usize| match &items[n] {
            Item::SnapshotEnd { position, .. } => within_a_change(&runs, *position),
            _ => None,
        };
        at(
            it,
            |items, n| within(items, n).is_some(),
            |items, n| {
                let within = within(items, n).expect("one");
                if let Item::SnapshotEnd { position, .. } = &mut items[n] {
                    position.sequence = within;
                }
            },
        )
    }),
    ("a hello splits a change", &[Atomic], |it, runs| {
        let runs = runs.clone();
        let within = |items: &[Item], n: usize| match &items[n] {
            Item::Hello { epoch, head, .. } => {
                within_a_change(&runs, Position { epoch: *epoch, sequence: *head })
            }
            _ => None,
        };
        at(
            it,
            |items, n| within(items, n).is_some(),
            |items, n| {
                let within = within(items, n).expect("one");
                if let Item::Hello { head, .. } = &mut items[n] {
                    *head = within;
                }
            },
        )
    }),
    ("a change is split in the journal", &[Atomic], |_, runs| {
        for run in runs {
            let split = (2..run.head()).find(|n| run.is_within_a_change(n - 1) && run.get(n + 1).is_some());
            let Some(n) = split.map(|n| n as usize - 1) else { continue };
            let other =
                run.published.iter().position(|published| published.event.pod != run.published[n].event.pod);
            let Some(other) = other else { continue };
            let (sequence, other) = (run.published[n].event.sequence, run.published[other].clone());
            run.published[n] = other;
            run.published[n].event.sequence = sequence;
            return true;
        }
        false
    }),
    ("the content of an event differs", &[Faithful], |it, _| {
        at(
            it,
            |items, n| is_event(&items[n]),
            |items, n| {
                if let Item::Event { event, .. } = &mut items[n] {
                    event.reason.push('!');
                }
            },
        )
    }),
    ("the number of skipped events is wrong", &[Reliable], |it, _| {
        at(
            it,
            |items, n| is_event(&items[n]),
            |items, n| {
                if let Item::Event { skipped, .. } = &mut items[n] {
                    *skipped += 1;
                }
            },
        )
    }),
    ("a mode change is missing", &[Framed], |it, _| {
        at(it, |items, n| is_mode(&items[n]) && items[n + 1..].iter().any(is_mode), remove)
    }),
    ("hello comes twice", &[Framed], |it, _| {
        at(it, |items, n| matches!(items[n], Item::Hello { .. }), repeat)
    }),
    ("hello comes late", &[Framed], |it, _| {
        at(
            it,
            |items, n| matches!(items[n], Item::Hello { .. }) && items.len() > 1,
            |items, n| items.swap(n, n + 1),
        )
    }),
];

/// The recording without the last event of a pod.
pub fn without_last_event(recording: &Recording) -> Option<Recording> {
    let mut tampered = recording.clone();
    let whole = recording.filter.is_empty() && every(recording) && state::known(recording).is_some();
    // A change of several events has the same state with each.
    let last = tampered.connections.last_mut().filter(|_| whole)?;
    let n = last.items.iter().rposition(|item| matches!(item, Item::Event { pod: Some(_), .. }))?;
    let Item::Event { event, pod, .. } = last.items[n].clone() else { return None };
    let alone = pod.is_some_and(|pod| pod.sequence == event.sequence);
    let before = last.items[..n].iter().any(|item| matches!(item, Item::SnapshotEnd { .. }));
    let last_of_pod = last.items[n + 1..].iter().all(|item| !is_event(item));
    last.items.remove(n);
    (alone && before && last_of_pod && state::known(&tampered) != state::known(recording)).then_some(tampered)
}

/// Whether the subscriber gets every event, not only the newest.
fn every(recording: &Recording) -> bool {
    recording.policy != SlowPolicy::LatestPerPod
}

/// Applies a mutation at the first item where it is possible.
fn at(
    recording: &mut Recording,
    can: impl Fn(&[Item], usize) -> bool,
    tamper: impl FnOnce(&mut Vec<Item>, usize),
) -> bool {
    for connection in &mut recording.connections {
        if let Some(n) = (0..connection.items.len()).find(|n| can(&connection.items, *n)) {
            tamper(&mut connection.items, n);
            return true;
        }
    }
    false
}

fn gap(recording: &mut Recording, can: impl Fn(&Gap) -> bool, tamper: impl FnOnce(&mut Gap)) -> bool {
    let is = |items: &[Item], n: usize| matches!(&items[n], Item::Gap(gap) if can(gap));
    at(recording, is, |items, n| {
        if let Item::Gap(gap) = &mut items[n] {
            tamper(gap);
        }
    })
}

fn remove(items: &mut Vec<Item>, n: usize) {
    items.remove(n);
}

fn repeat(items: &mut Vec<Item>, n: usize) {
    items.insert(n, items[n].clone());
}

fn item(published: &Published) -> Item {
    Item::Event { event: published.event.clone(), pod: published.pod.clone(), skipped: 0 }
}

fn is_event(item: &Item) -> bool {
    matches!(item, Item::Event { .. })
}

fn is_pod(item: &Item) -> bool {
    matches!(item, Item::Pod(_))
}

fn is_gap(item: &Item) -> bool {
    matches!(item, Item::Gap(_))
}

fn is_mode(item: &Item) -> bool {
    matches!(item, Item::Mode { .. })
}

fn sequence(item: &Item) -> u64 {
    match item {
        Item::Event { event, .. } => event.sequence,
        _ => 0,
    }
}

fn two_events(items: &[Item], n: usize) -> bool {
    is_event(&items[n]) && items.get(n + 1).is_some_and(is_event)
}

fn pod_at(items: &[Item], n: usize) -> &Arc<v1::Pod> {
    match &items[n] {
        Item::Pod(pod) => pod,
        item => panic!("no pod: {}", item.word()),
    }
}

/// Whether the item is a pod of a complete snapshot.
fn whole_snapshot(items: &[Item], n: usize) -> bool {
    is_pod(&items[n]) && items[n..].iter().any(|item| matches!(item, Item::SnapshotEnd { .. }))
}

/// An older state of a pod, from the journal that contains it.
fn older(runs: &[Run], pod: &Arc<v1::Pod>) -> Option<Arc<v1::Pod>> {
    let states = |run: &'_ Run| -> Vec<Arc<v1::Pod>> {
        let of_pod = run.published.iter().filter_map(|published| published.pod.clone());
        of_pod.filter(|state| state.identity == pod.identity).collect()
    };
    let states = runs.iter().map(states).find(|states| states.contains(pod))?;
    let n = states.iter().position(|state| state == pod)?;
    states[..n].iter().rev().find(|state| state.sequence < pod.sequence).cloned()
}

/// A sequence within the change that ends at a position.
fn within_a_change(runs: &[Run], position: Position) -> Option<u64> {
    let run = runs.iter().find(|run| run.epoch == position.epoch)?;
    position.sequence.checked_sub(1).filter(|within| run.is_within_a_change(*within))
}
