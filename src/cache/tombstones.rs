//! Ids that were removed, so that nothing late can resurrect them.
//!
//! Bounded in time by more than any runtime holds back an event (containerd 2.x: five minutes), and in number.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{clock::Mono, model::ObjectId};

/// How long an id is remembered.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);
/// How many are remembered at most: over 18 removals a second for all of that time.
const KEPT_AT_MOST: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// When it was removed and when it was buried here.
    graves: HashMap<ObjectId, (Mono, Mono)>,
    /// In the order of burial; an entry that differs from the grave is of an earlier burial of the same id.
    order: VecDeque<(Mono, ObjectId)>,
}

impl Tombstones {
    /// Remembers that `id` was removed at `removed_at`, and forgets the oldest.
    pub(super) fn bury(&mut self, id: &ObjectId, removed_at: Mono, now: Mono) {
        self.graves.insert(id.clone(), (removed_at, now));
        self.order.push_back((now, id.clone()));
        self.forget(now);
    }

    /// Forgets those that are too old or too many.
    pub(super) fn forget(&mut self, now: Mono) {
        while let Some((buried, oldest)) = self.order.front() {
            let superseded = self.graves.get(oldest).is_none_or(|(_, last)| last != buried);
            if !superseded && self.order.len() <= KEPT_AT_MOST && now.since(*buried) <= KEPT_FOR {
                break;
            }
            if !superseded {
                self.graves.remove(oldest);
            }
            self.order.pop_front();
        }
    }

    /// The id is there after all.
    pub(super) fn lift(&mut self, id: &ObjectId) {
        self.graves.remove(id);
    }

    /// When `id` was removed.
    pub(super) fn get(&self, id: &ObjectId) -> Option<Mono> {
        self.graves.get(id).map(|(removed_at, _)| *removed_at)
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.graves.len()
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
    fn they_are_bounded_in_time() {
        let mut tombstones = Tombstones::default();
        tombstones.bury(&id(1), at(10), at(11));
        tombstones.bury(&id(2), at(910), at(911));
        assert_eq!(tombstones.get(&id(1)), Some(at(10)));
        tombstones.bury(&id(3), at(912), at(912));
        assert_eq!((tombstones.get(&id(1)), tombstones.get(&id(2))), (None, Some(at(910))));
        assert_eq!(tombstones.len(), 2);
        tombstones.forget(at(5000));
        assert_eq!((tombstones.len(), tombstones.order.len()), (0, 0), "also where nothing more is removed");
    }

    #[test]
    fn they_are_bounded_in_number_and_the_oldest_go_first() {
        let mut tombstones = Tombstones::default();
        (0..KEPT_AT_MOST + 100).for_each(|n| tombstones.bury(&id(n), at(1), at(1)));
        assert_eq!(tombstones.len(), KEPT_AT_MOST);
        assert_eq!(tombstones.get(&id(99)), None);
        assert_eq!(tombstones.get(&id(100)), Some(at(1)));
        // Only lifted ones remain in the order, and not for ever.
        (0..3 * KEPT_AT_MOST).for_each(|n| {
            tombstones.lift(&id(n));
            tombstones.bury(&id(n), at(2), at(2));
        });
        assert!(tombstones.order.len() <= KEPT_AT_MOST + 1);
    }

    #[test]
    fn one_that_was_lifted_and_buried_again_is_kept_from_the_second_time_on() {
        let mut tombstones = Tombstones::default();
        tombstones.bury(&id(1), at(1), at(1));
        tombstones.lift(&id(1));
        assert_eq!(tombstones.get(&id(1)), None);
        tombstones.bury(&id(1), at(600), at(600));
        tombstones.bury(&id(2), at(1000), at(1000));
        assert_eq!(tombstones.get(&id(1)), Some(at(600)));
    }
}
