//! The guarantees of the journal.

use super::{cursor::Evicted, *};
use crate::{
    cache::Writer,
    clock::Wall,
    model::{EventType, Labels, PodIdentity, Source, Subject},
};

fn event(id: &str) -> Event {
    of_pod("uid", id)
}

fn of_pod(uid: &str, id: &str) -> Event {
    Event {
        sequence: 0,
        kind: EventType::ContainerStarted,
        subject: Subject::Container,
        pod: PodIdentity { uid: uid.into(), namespace: "ns".into(), name: "pod".into() },
        labels: Labels::new(),
        id: id.into(),
        container_name: "c".into(),
        source: Source::Event,
        occurred_at: None,
        observed_at: Wall::default(),
        stamped_at: None,
        exit_code: None,
        reason: String::new(),
        initial: false,
        late: false,
        inferred: false,
    }
}

/// Appends events. `after` is the pod after them.
fn append(journal: &Journal, events: impl IntoIterator<Item = Event>, after: Option<Pod>) -> u64 {
    journal.begin().commit(events.into_iter().collect(), after, &Writer::default().add(&event("any").pod));
    journal.head()
}

fn journal(events: usize) -> Journal {
    Journal::new(Capacity { events, bytes: usize::MAX }, 7)
}

#[tokio::test]
async fn events_are_numbered_without_holes_and_come_in_order() {
    let journal = journal(100);
    let mut cursor = journal.cursor(0);
    assert_eq!(append(&journal, [event("a"), event("b")], None), 2);
    assert_eq!(append(&journal, [], None), 2);
    assert_eq!(append(&journal, [event("c")], None), 3);
    for (sequence, id) in [(1, "a"), (2, "b"), (3, "c")] {
        let event = cursor.next().await.unwrap();
        assert_eq!((event.sequence, event.id.as_str()), (sequence, id));
    }
    assert!(cursor.try_next().unwrap().is_none());
    assert_eq!(cursor.lag(), 0);
}

#[tokio::test]
async fn a_new_event_wakes_up_a_cursor() {
    let journal = journal(100);
    let mut cursor = journal.cursor(journal.head());
    let waiting = tokio::spawn(async move { cursor.next().await.unwrap().sequence });
    tokio::task::yield_now().await;
    append(&journal, [event("a")], None);
    assert_eq!(waiting.await.unwrap(), 1);
}

#[test]
fn evicted_events_are_reported_once() {
    let journal = journal(3);
    let mut cursor = journal.cursor(0);
    append(&journal, (0..10).map(|n| event(&n.to_string())), None);
    assert_eq!(cursor.try_next().unwrap_err(), Evicted { from: 1, to: 7 });
    let left: Vec<_> =
        std::iter::from_fn(|| cursor.try_next().unwrap()).map(|event| event.sequence).collect();
    assert_eq!(left, [8, 9, 10]);
    let stats = journal.stats();
    assert_eq!((stats.oldest, stats.head, stats.events, stats.evicted, stats.gaps), (8, 10, 3, 7, 1));
}

#[test]
fn the_ring_is_bounded_in_bytes_too() {
    let one = Record::new(event("x"), None, 1, None).memory_bytes();
    let journal = Journal::new(Capacity { events: 1000, bytes: 5 * one }, 7);
    append(&journal, (0..100).map(|_| event("x")), None);
    assert_eq!((journal.stats().events, journal.stats().bytes), (5, 5 * one));
    let journal = Journal::new(Capacity { events: 1000, bytes: 1 }, 7);
    append(&journal, [event("x"), event("y")], None);
    assert_eq!(journal.stats().events, 1);
}

#[test]
fn subscribers_are_counted_until_they_are_dropped() {
    let journal = journal(3);
    let cursors = [journal.cursor(0), journal.cursor(0)];
    assert_eq!(journal.stats().subscribers, 2);
    drop(cursors);
    assert_eq!(journal.stats().subscribers, 0);
}

fn pod(labels: &[(&str, &str)]) -> Pod {
    let labels: Labels = labels.iter().copied().collect();
    Pod {
        identity: event("x").pod,
        sandboxes: Vec::new(),
        containers: Vec::new(),
        ips: Vec::new(),
        labels,
        sequence: 0,
    }
}

#[test]
fn a_pod_is_published_with_its_events_and_has_the_number_of_the_last() {
    let journal = journal(100);
    let writer = Writer::default();
    let served = writer.add(&event("a").pod);
    journal.begin().commit(vec![event("a"), event("b")], Some(pod(&[("app", "web")])), &served);
    let (position, cached) = journal.at_head(|| writer.cache().get_pod(served.identity()));
    assert_eq!((position, cached.unwrap().sequence), (journal.position(2), 2));
    let mut cursor = journal.cursor(0);
    for _ in 0..2 {
        let record = cursor.try_next().unwrap().unwrap();
        assert_eq!(record.pod.as_ref().unwrap().sequence, 2, "both belong to one change");
    }
    journal.begin().commit(vec![event("b")], None, &served);
    assert!(writer.cache().get_pod(served.identity()).is_none());
    // A pod that changes without an event has the number of the last event.
    journal.begin().commit(Vec::new(), Some(pod(&[])), &served);
    assert_eq!((writer.cache().get_pod(served.identity()).unwrap().sequence, journal.head()), (3, 3));
}

#[test]
fn newer_change_returns_an_event_of_a_later_change_of_the_pod() {
    let journal = journal(100);
    for (uid, id) in [("p", "1"), ("q", "2"), ("p", "3"), ("p", "4"), ("r", "5")] {
        append(&journal, [of_pod(uid, id)], None);
    }
    let latest = || {
        let mut cursor = journal.cursor(0);
        let records = std::iter::from_fn(|| cursor.try_next().unwrap())
            .filter(|record| journal.newer_change(record).is_none());
        records.map(|record| record.sequence).collect::<Vec<_>>()
    };
    assert_eq!(latest(), [2, 4, 5]);
    // The events of one change are equally new.
    append(&journal, [of_pod("p", "6"), of_pod("p", "7")], None);
    assert_eq!(latest(), [2, 5, 6, 7]);
    append(&journal, [of_pod("p", "8")], None);
    assert_eq!(latest(), [2, 5, 8]);
}

#[test]
fn an_event_is_encoded_once_and_its_bytes_count() {
    let journal = journal(100);
    append(&journal, [event("a")], None);
    let before = journal.stats().bytes;
    let record = journal.cursor(0).try_next().unwrap().unwrap();
    let mut times = 0;
    for _ in 0..3 {
        let bytes = journal.encoded(&record, Detail::Event, |record| {
            times += 1;
            Bytes::copy_from_slice(record.id.as_str().as_bytes())
        });
        assert_eq!(&bytes[..], b"a");
    }
    assert_eq!((times, journal.stats().bytes), (1, before + 1));
    assert_eq!(&journal.encoded(&record, Detail::Pod, |_| Bytes::from_static(b"pod"))[..], b"pod");
    assert_eq!(journal.stats().bytes, before + 4);
}

#[test]
fn encoded_bytes_count_and_evict_older_events() {
    let one = Record::new(event("x"), None, 1, None).memory_bytes();
    let journal = Journal::new(Capacity { events: 1000, bytes: 10 * one }, 7);
    append(&journal, (0..10).map(|_| event("x")), None);
    let record = journal.cursor(9).try_next().unwrap().unwrap();
    journal.encoded(&record, Detail::Event, |_| Bytes::from(vec![0; 3 * one]));
    assert_eq!((journal.stats().events, journal.stats().bytes), (7, 10 * one));
    // The bytes of an evicted event are not counted.
    append(&journal, (0..20).map(|_| event("x")), None);
    let bytes = journal.stats().bytes;
    journal.encoded(&record, Detail::Pod, |_| Bytes::from(vec![0; one]));
    assert_eq!(journal.stats().bytes, bytes);
}
