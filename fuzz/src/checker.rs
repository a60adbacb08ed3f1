//! The invariants of cache and journal: sequence numbers without holes, phases in order, and a cache that agrees with
//! the published events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use plegd::{
    cache::Cache,
    journal::{Cursor, Journal, Record},
    model::{Event, EventType, Labels, ObjectId, Pod, PodIdentity, PodUid, Source, Subject},
};

/// Reads all published events, and compares the cache with them.
pub struct Checker {
    cache: Cache,
    journal: Journal,
    cursor: Cursor,
    /// Number of the last event.
    published: u64,
    progress: BTreeMap<ObjectId, Progress>,
    /// The last record of each pod.
    newest: HashMap<PodUid, Arc<Record>>,
    /// Number of published corrections.
    pub corrections: u64,
}

/// The progress of an id by its published events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// At most changes.
    #[default]
    Known,
    Started,
    Died,
    Removed,
}

/// Served ids and their pods.
pub type Served = BTreeMap<ObjectId, PodUid>;

// === impl Checker ===

impl Checker {
    /// A checker from the start of the journal, which must be large enough for all events between two checks.
    pub fn new(cache: Cache, journal: Journal) -> Self {
        let cursor = journal.cursor(0);
        let (progress, newest) = (BTreeMap::new(), HashMap::new());
        Self { cache, journal, cursor, published: 0, progress, newest, corrections: 0 }
    }

    /// Checks the events since the last call, and the whole cache. Returns the new events.
    #[track_caller]
    pub fn check(&mut self) -> Vec<Arc<Record>> {
        let mut new = Vec::new();
        while let Some(record) = self.cursor.try_next().expect("the journal holds all events") {
            self.record(&record);
            self.newest.insert(record.event.pod.uid.clone(), record.clone());
            new.push(record);
        }
        self.compare();
        new
    }

    /// The served ids.
    pub fn served(&self) -> Served {
        let pods = self.cache.list();
        pods.iter().flat_map(|pod| ids(pod).map(|id| (id.clone(), pod.identity.uid.clone()))).collect()
    }

    #[track_caller]
    fn record(&mut self, event: &Event) {
        self.published += 1;
        assert_eq!(event.sequence, self.published, "a hole before {event:?}");
        let first = !self.progress.contains_key(&event.id);
        let progress = self.progress.entry(event.id.clone()).or_default();
        let (before, id) = (*progress, &event.id);
        *progress = match event.kind {
            EventType::PodSync => {
                self.corrections += 1;
                assert_ne!(before, Progress::Removed, "{id} is corrected after its removal: {event:?}");
                Progress::Known
            }
            EventType::ContainerChanged if before == Progress::Removed => Progress::Known,
            EventType::ContainerChanged => before,
            EventType::ContainerStarted => Progress::Started,
            EventType::ContainerDied => Progress::Died,
            EventType::ContainerRemoved => Progress::Removed,
        };
        if event.kind == EventType::ContainerRemoved {
            assert_eq!(before, Progress::Died, "{id} is removed before its death: {event:?}");
        }
        if before == Progress::Removed {
            assert_ne!(event.source, Source::Event, "an event brings {id} back: {event:?}");
        } else if matches!(event.kind, EventType::ContainerStarted | EventType::ContainerDied) {
            // A sandbox that could not be loaded becomes ready again by a read.
            let returns = event.subject == Subject::Sandbox
                && event.kind == EventType::ContainerStarted
                && event.source != Source::Event;
            assert!(first || *progress > before || returns, "{id} goes back from {before:?}: {event:?}");
        }
    }

    #[track_caller]
    fn compare(&self) {
        let stats = self.journal.stats();
        assert_eq!(stats.head, self.published, "{stats:?}");
        let capacity = self.journal.capacity();
        assert!(stats.events <= capacity.events, "{stats:?}");
        assert!(stats.events <= 1 || stats.bytes <= capacity.bytes, "{stats:?}");

        let mut served = BTreeSet::new();
        for pod in self.cache.list() {
            let uid = &pod.identity.uid;
            for id in ids(&pod) {
                assert!(served.insert(id.clone()), "{id} is served twice");
                assert_eq!(
                    self.cache.pod_of(id.as_str()).as_ref(),
                    Some(&pod.identity),
                    "the index has no {id}"
                );
                let progress = self.progress.get(id);
                assert!(
                    progress.is_some_and(|progress| *progress != Progress::Removed),
                    "{id} is served and {progress:?}"
                );
            }
            let published = self.newest.get(uid).and_then(|record| record.pod.clone());
            assert_eq!(published.as_ref(), Some(&pod), "{uid} is served other than published");
        }
        let held: BTreeSet<PodIdentity> = self.cache.identities().into_iter().collect();
        for (id, progress) in &self.progress {
            let pod = self.cache.pod_of(id.as_str());
            match progress {
                Progress::Removed => assert_eq!(pod, None, "{id} was removed"),
                _ => assert!(pod.is_some_and(|pod| held.contains(&pod)), "{id} is gone without an event"),
            }
        }
        for (uid, record) in &self.newest {
            assert_eq!(
                self.cache.get(uid).as_ref(),
                record.pod.as_ref(),
                "{uid} is served other than published"
            );
        }
    }

    /// Checks that the held text and ids are bounded by the received bytes.
    #[track_caller]
    pub fn is_bounded_by(&self, bytes: usize, tombstones: usize) {
        let pods = self.cache.list();
        let text: usize = pods.iter().map(|pod| text_of(pod)).sum();
        // The pod's labels and addresses repeat those of its newest sandbox.
        assert!(text <= 2 * bytes, "{text} bytes of text are held of {bytes} received");
        let ids: usize = pods.iter().map(|pod| ids(pod).count()).sum();
        assert!(ids <= bytes, "{ids} ids of {bytes} bytes");
        assert!(self.published as usize <= 4 * bytes, "{} events of {bytes} bytes", self.published);
        assert!(tombstones <= bytes, "{tombstones} tombstones");
    }
}

fn ids(pod: &Pod) -> impl Iterator<Item = &ObjectId> {
    let sandboxes = pod.sandboxes.iter().map(|sandbox| &sandbox.id);
    sandboxes.chain(pod.containers.iter().map(|container| &container.id))
}

fn text_of(pod: &Pod) -> usize {
    let pairs = |labels: &Labels| labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let sandboxes = pod.sandboxes.iter().map(|it| {
        let ips = it.ips.iter().map(String::len).sum::<usize>();
        it.id.as_str().len() + it.runtime_handler.len() + ips + pairs(&it.labels) + pairs(&it.annotations)
    });
    let containers = pod.containers.iter().map(|it| {
        let texts = [&it.reason, &it.message, &it.image, &it.image_ref].map(|text| text.len());
        let labels = pairs(&it.labels) + pairs(&it.annotations);
        it.id.as_str().len() + it.name.len() + texts.iter().sum::<usize>() + labels
    });
    let own = pairs(&pod.labels) + pod.ips.iter().map(String::len).sum::<usize>();
    own + sandboxes.sum::<usize>() + containers.sum::<usize>()
}
