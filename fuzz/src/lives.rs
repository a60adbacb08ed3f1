//! What must hold of cache and journal after whatever was said: numbers without holes, lives in order, and a cache that
//! agrees with what was told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use plegd::{
    cache::Cache,
    journal::{Cursor, Journal, Record},
    model::{Event, EventType, Labels, ObjectId, Pod, PodIdentity, PodUid, Source, Subject},
};

/// Reads all that is told, and compares.
pub struct Witness {
    cache: Cache,
    journal: Journal,
    cursor: Cursor,
    /// Number of the last event.
    told: u64,
    lives: BTreeMap<ObjectId, Life>,
    /// The last record of each pod.
    newest: HashMap<PodUid, Arc<Record>>,
    /// How many corrections were told.
    pub corrections: u64,
}

/// How far an id has come, as told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    /// Nothing but perhaps changes.
    #[default]
    Known,
    Started,
    Died,
    Removed,
}

/// Ids that readers are served, with the pod that each is in.
pub type Served = BTreeMap<ObjectId, PodUid>;

// === impl Witness ===

impl Witness {
    /// A witness from the journal's beginning. The journal must be large enough to keep all that is told between two looks.
    pub fn new(cache: Cache, journal: Journal) -> Self {
        let cursor = journal.cursor(0);
        let (lives, newest) = (BTreeMap::new(), HashMap::new());
        Self { cache, journal, cursor, told: 0, lives, newest, corrections: 0 }
    }

    /// Looks at what was told since the last time, and at all that is held. Gives back the new events.
    #[track_caller]
    pub fn look(&mut self) -> Vec<Arc<Record>> {
        let mut new = Vec::new();
        while let Some(record) = self.cursor.try_next().expect("the journal has room") {
            self.hear(&record);
            self.newest.insert(record.event.pod.uid.clone(), record.clone());
            new.push(record);
        }
        self.compare();
        new
    }

    /// What readers are served.
    pub fn served(&self) -> Served {
        let pods = self.cache.list();
        pods.iter().flat_map(|pod| ids(pod).map(|id| (id.clone(), pod.identity.uid.clone()))).collect()
    }

    #[track_caller]
    fn hear(&mut self, event: &Event) {
        self.told += 1;
        assert_eq!(event.sequence, self.told, "a hole before {event:?}");
        let first = !self.lives.contains_key(&event.id);
        let life = self.lives.entry(event.id.clone()).or_default();
        let (before, id) = (*life, &event.id);
        *life = match event.kind {
            EventType::PodSync => {
                self.corrections += 1;
                assert_ne!(before, Life::Removed, "{id} is corrected after its removal: {event:?}");
                Life::Known
            }
            EventType::ContainerChanged if before == Life::Removed => Life::Known,
            EventType::ContainerChanged => before,
            EventType::ContainerStarted => Life::Started,
            EventType::ContainerDied => Life::Died,
            EventType::ContainerRemoved => Life::Removed,
        };
        if event.kind == EventType::ContainerRemoved {
            assert_eq!(before, Life::Died, "{id} is removed before its death: {event:?}");
        }
        if before == Life::Removed {
            assert_ne!(event.source, Source::Event, "an event brings {id} back: {event:?}");
        } else if matches!(event.kind, EventType::ContainerStarted | EventType::ContainerDied) {
            // A sandbox that could not be loaded for a while becomes ready again, by a read.
            let returns = event.subject == Subject::Sandbox
                && event.kind == EventType::ContainerStarted
                && event.source != Source::Event;
            assert!(first || *life > before || returns, "{id} goes back from {before:?}: {event:?}");
        }
    }

    #[track_caller]
    fn compare(&self) {
        let stats = self.journal.stats();
        assert_eq!(stats.head, self.told, "{stats:?}");
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
                let life = self.lives.get(id);
                assert!(life.is_some_and(|life| *life != Life::Removed), "{id} is served and {life:?}");
            }
            let told = self.newest.get(uid).and_then(|record| record.pod.clone());
            assert_eq!(told.as_ref(), Some(&pod), "{uid} is served other than it was told");
        }
        let held: BTreeSet<PodIdentity> = self.cache.identities().into_iter().collect();
        for (id, life) in &self.lives {
            let pod = self.cache.pod_of(id.as_str());
            match life {
                Life::Removed => assert_eq!(pod, None, "{id} was removed"),
                _ => assert!(pod.is_some_and(|pod| held.contains(&pod)), "{id} is gone without a word"),
            }
        }
        for (uid, record) in &self.newest {
            assert_eq!(self.cache.get(uid).as_ref(), record.pod.as_ref(), "{uid} is served other than told");
        }
    }

    /// Holds no more text than has come in, and no more ids than were named in `bytes` bytes.
    #[track_caller]
    pub fn is_bounded_by(&self, bytes: usize, tombstones: usize) {
        let pods = self.cache.list();
        let text: usize = pods.iter().map(|pod| text_of(pod)).sum();
        // The pod's labels are those of its newest sandbox once more, its addresses as well.
        assert!(text <= 2 * bytes, "{text} bytes of text are held of {bytes} that came");
        let ids: usize = pods.iter().map(|pod| ids(pod).count()).sum();
        assert!(ids <= bytes, "{ids} ids of {bytes} bytes");
        assert!(self.told as usize <= 4 * bytes, "{} events of {bytes} bytes", self.told);
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
