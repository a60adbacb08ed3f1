//! Labels and annotations, packed.
//!
//! A node has thousands of such maps. They are small and never change. A tree of strings takes 1 KiB for each. Here the keys and values
//! of a map are one string, and a clone copies nothing.

use std::{fmt, sync::Arc};

/// Labels or annotations: pairs in the order of their keys, each key once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Keys and values, one behind the other.
    text: Arc<str>,
    /// Offsets at which each of them ends: a key, its value, the next key.
    ends: Arc<[u32]>,
}

// === impl Labels ===

impl Labels {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(label, _)| *label == key).map(|(_, value)| value)
    }

    /// Whether the map has this key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The pairs, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.chunks_exact(2).map(move |ends| {
            let (key_ends, value_ends) = (ends[0] as usize, ends[1] as usize);
            let key = &self.text[begin..key_ends];
            begin = value_ends;
            (key, &self.text[key_ends..value_ends])
        })
    }

    /// Whether both share their memory.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text)
    }

    /// Sizes of the text and of the offsets, in bytes.
    #[cfg(feature = "daemon")]
    pub(crate) fn bytes(&self) -> [usize; 2] {
        [self.text.len(), size_of_val(&*self.ends)]
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    /// Of pairs with the same key, the last one is kept.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(K, V)> = pairs.into_iter().collect();
        // The sort is stable: of pairs with the same key, the last one stays the last.
        pairs.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        let is_last = |at: usize| {
            let next = pairs.get(at + 1);
            next.is_none_or(|(next, _)| pairs[at].0.as_ref() != next.as_ref())
        };
        let bytes = pairs.iter().map(|(key, value)| key.as_ref().len() + value.as_ref().len()).sum();
        let (mut text, mut ends) = (String::with_capacity(bytes), Vec::with_capacity(2 * pairs.len()));
        for (key, value) in (0..pairs.len()).filter(|at| is_last(*at)).map(|at| &pairs[at]) {
            let key_ends = text.len() + key.as_ref().len();
            // Messages of the runtime are limited to 64 MiB, so that labels never reach 4 GiB.
            let Ok(value_ends) = u32::try_from(key_ends + value.as_ref().len()) else { break };
            text.push_str(key.as_ref());
            text.push_str(value.as_ref());
            ends.extend([key_ends as u32, value_ends]);
        }
        Self { text: text.into(), ends: ends.into() }
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> From<[(K, V); N]> for Labels {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn labels_equal_a_map_of_the_same_pairs(
            pairs: Vec<(String, String)>,
            repeated: Vec<(prop::sample::Index, String)>,
        ) {
            let mut pairs = pairs;
            if !pairs.is_empty() {
                let more: Vec<_> =
                    repeated.iter().map(|(at, value)| (at.get(&pairs).0.clone(), value.clone())).collect();
                pairs.extend(more);
            }
            let map: BTreeMap<String, String> = pairs.iter().cloned().collect();
            let labels: Labels = pairs.into_iter().collect();
            let of_map: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            prop_assert_eq!(labels.iter().collect::<Vec<_>>(), of_map);
            prop_assert_eq!((labels.len(), labels.is_empty()), (map.len(), map.is_empty()));
            prop_assert!(map.iter().all(|(key, value)| labels.get(key) == Some(value.as_str())));
            prop_assert!(labels.get("none of them").is_none() || map.contains_key("none of them"));
            prop_assert_eq!(labels, map.iter().collect());
        }
    }

    #[test]
    fn labels_with_the_same_joined_text_differ() {
        assert_ne!(Labels::from([("a", "bc")]), Labels::from([("ab", "c")]));
        assert_ne!(Labels::from([("a", "")]), Labels::new());
    }
}
