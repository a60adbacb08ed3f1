//! Removed ids, so that no late event or list brings them back.
//!
//! Bounded in time and in number. containerd 2.x replays events of the last five minutes to a new subscriber, containerd 1.7 the last
//! 1,000 of any age. Once a tombstone is dropped, an event that claims an earlier time is not applied to an unknown id
//! ([`Tombstones::horizon`]).

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{clock::Mono, model::ObjectId};

/// How long a tombstone is kept.
const KEPT_FOR: Duration = Duration::from_secs(6 * 3600);
/// How many tombstones are kept: 45 removals a minute for that time.
const KEPT_AT_MOST: usize = 16_384;

#[derive(Debug)]
pub(super) struct Tombstones {
    kept_at_most: usize,
    entries: HashMap<ObjectId, Entry>,
    /// In the order of insertion. One that differs from its entry is of an earlier insertion of the same id.
    order: VecDeque<(Mono, ObjectId)>,
    /// When the newest dropped tombstone was inserted.
    horizon: Mono,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    removed_at: Mono,
    inserted: Mono,
    /// When it was last read because a list showed it.
    reread: Option<Mono>,
}

impl Default for Tombstones {
    fn default() -> Self {
        let (entries, order) = (HashMap::new(), VecDeque::new());
        Self { kept_at_most: KEPT_AT_MOST, entries, order, horizon: Mono::ZERO }
    }
}

impl Tombstones {
    /// Keeps at most this many from now on.
    #[cfg(feature = "internals")]
    pub(super) fn keep(&mut self, at_most: usize) {
        self.kept_at_most = at_most;
    }

    /// Inserts a tombstone for `id`, which was removed at `removed_at`, and drops the oldest ones.
    pub(super) fn insert(&mut self, id: &ObjectId, removed_at: Mono, now: Mono) {
        self.entries.insert(id.clone(), Entry { removed_at, inserted: now, reread: None });
        self.order.push_back((now, id.clone()));
        self.forget(now);
    }

    /// The horizon of an earlier process.
    pub(super) fn set_horizon(&mut self, horizon: Mono) {
        self.horizon = self.horizon.max(horizon);
    }

    /// All tombstones, the oldest first: the id, and when it was inserted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectId, Mono)> {
        let held = |(inserted, id): &&(Mono, ObjectId)| {
            self.entries.get(id).is_some_and(|entry| entry.inserted == *inserted)
        };
        self.order.iter().filter(held).map(|(inserted, id)| (id, *inserted))
    }

    /// Drops tombstones past the limits.
    pub(super) fn forget(&mut self, now: Mono) {
        while let Some((inserted, oldest)) = self.order.front() {
            let superseded = self.entries.get(oldest).is_none_or(|entry| entry.inserted != *inserted);
            if !superseded && self.order.len() <= self.kept_at_most && now.since(*inserted) <= KEPT_FOR {
                break;
            }
            if !superseded {
                self.horizon = self.horizon.max(*inserted);
                self.entries.remove(oldest);
            }
            self.order.pop_front();
        }
    }

    /// The id exists again: removes its tombstone.
    pub(super) fn remove(&mut self, id: &ObjectId) {
        self.entries.remove(id);
    }

    /// When `id` was removed.
    pub(super) fn get(&self, id: &ObjectId) -> Option<Mono> {
        self.entries.get(id).map(|entry| entry.removed_at)
    }

    /// Ids removed before this moment may have no tombstone any more.
    pub(super) fn horizon(&self) -> Mono {
        self.horizon
    }

    /// Whether an id was not read again within the last `apart`; from now on it was. True for one that is not here.
    pub(super) fn may_reread(&mut self, id: &ObjectId, now: Mono, apart: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return true };
        let may = entry.reread.is_none_or(|last| now.since(last) >= apart);
        if may {
            entry.reread = Some(now);
        }
        may
    }

    /// The number of tombstones.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn id(n: usize) -> ObjectId {
        format!("id-{n}").into()
    }

    #[test]
    fn tombstones_are_bounded_in_time() {
        let mut tombstones = Tombstones::default();
        tombstones.insert(&id(1), at(10), at(11));
        tombstones.insert(&id(2), at(21_610), at(21_611));
        assert_eq!((tombstones.get(&id(1)), tombstones.horizon()), (Some(at(10)), Mono::ZERO));
        tombstones.insert(&id(3), at(21_612), at(21_612));
        assert_eq!((tombstones.get(&id(1)), tombstones.get(&id(2))), (None, Some(at(21_610))));
        assert_eq!(
            tombstones.horizon(),
            at(11),
            "what claims to be older may be about one that is forgotten"
        );
        assert_eq!(tombstones.len(), 2);
        tombstones.forget(at(50_000));
        assert_eq!((tombstones.len(), tombstones.order.len()), (0, 0), "also where nothing more is removed");
    }

    #[test]
    fn tombstones_are_bounded_in_number_and_the_oldest_go_first() {
        let mut tombstones = Tombstones::default();
        (0..KEPT_AT_MOST + 100).for_each(|n| tombstones.insert(&id(n), at(1), at(1)));
        assert_eq!(tombstones.len(), KEPT_AT_MOST);
        assert_eq!(tombstones.get(&id(99)), None);
        assert_eq!(tombstones.get(&id(100)), Some(at(1)));
        // Only lifted ones remain in the order, and not for ever.
        (0..3 * KEPT_AT_MOST).for_each(|n| {
            tombstones.remove(&id(n));
            tombstones.insert(&id(n), at(2), at(2));
        });
        assert!(tombstones.order.len() <= KEPT_AT_MOST + 1);
    }

    #[test]
    fn a_tombstone_that_was_removed_and_inserted_again_is_kept_from_the_second_time_on() {
        let mut tombstones = Tombstones::default();
        tombstones.insert(&id(1), at(1), at(1));
        tombstones.remove(&id(1));
        assert_eq!(tombstones.get(&id(1)), None);
        tombstones.insert(&id(1), at(600), at(600));
        tombstones.insert(&id(2), at(21_610), at(21_610));
        assert_eq!((tombstones.get(&id(1)), tombstones.horizon()), (Some(at(600)), Mono::ZERO));
    }

    #[test]
    fn a_removed_id_that_is_listed_is_read_again_rarely() {
        let mut tombstones = Tombstones::default();
        let apart = Duration::from_secs(30);
        tombstones.insert(&id(1), at(1), at(1));
        let read: Vec<u64> = (2..100).filter(|n| tombstones.may_reread(&id(1), at(*n), apart)).collect();
        assert_eq!(read, [2, 32, 62, 92]);
        assert!(tombstones.may_reread(&id(2), at(3), apart), "of one that is not here nothing is known");
    }
}
