//! From keys that are watched to whoever watches them: single keys by hash, and so prefixes where there are many; all other
//! ranges by their tree.

use std::collections::HashMap;

use super::{
    intervals::Intervals,
    keys::Keys,
    prefixes::{Prefixes, is_of_prefix},
};

pub struct Index<T> {
    ones: HashMap<Box<[u8]>, T>,
    prefixes: Prefixes<T>,
    ranges: Intervals<T>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { ones: HashMap::new(), prefixes: Prefixes::default(), ranges: Intervals::default() }
    }
}

impl<T: Copy> Index<T> {
    pub fn get(&self, keys: &Keys) -> Option<T> {
        match keys {
            Keys::One(key) => self.ones.get(key).copied(),
            Keys::Range { start, end } => {
                let end = end.as_deref();
                let prefix = is_of_prefix(start, end).then(|| self.prefixes.get(start)).flatten();
                prefix.or_else(|| self.ranges.get(start, end))
            }
        }
    }

    /// Of keys that are not there.
    pub fn insert(&mut self, keys: &Keys, value: T) {
        match keys {
            Keys::One(key) => {
                let before = self.ones.insert(key.clone(), value);
                assert!(before.is_none(), "keys are there once");
            }
            Keys::Range { start, end } => {
                let end = end.as_deref();
                if !is_of_prefix(start, end) || !self.prefixes.insert(start, value) {
                    self.ranges.insert(start, end, value);
                }
            }
        }
    }

    pub fn remove(&mut self, keys: &Keys) -> Option<T> {
        match keys {
            Keys::One(key) => self.ones.remove(key),
            Keys::Range { start, end } => self.remove_range(start, end.as_deref()),
        }
    }

    fn remove_range(&mut self, start: &[u8], end: Option<&[u8]>) -> Option<T> {
        let is_of_prefix = is_of_prefix(start, end);
        if is_of_prefix && let Some(removed) = self.prefixes.remove(start) {
            return Some(removed);
        }
        let removed = self.ranges.remove(start, end);
        if is_of_prefix && removed.is_some() {
            self.prefixes.other_removed(start.len());
        }
        removed
    }

    /// Finds whatever `key` is one of.
    #[inline]
    pub fn stab(&self, key: &[u8], mut found: impl FnMut(T)) {
        if !self.ones.is_empty()
            && let Some(value) = self.ones.get(key)
        {
            found(*value);
        }
        self.prefixes.stab(key, &mut found);
        self.ranges.stab(key, &mut found);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, hash_map::Entry};

    use proptest::prelude::*;

    use super::*;

    /// Keys of few letters, which meet, of lengths that repeat: many prefixes of one.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let letter = prop::sample::select(vec![0, 1, b'a', b'b', 0xfe, 0xff]);
        prop_oneof![
            4 => prop::collection::vec(letter.clone(), 3),
            1 => prop::collection::vec(letter, 1..6)
        ]
    }

    fn keys() -> impl Strategy<Value = Keys> {
        let prefix = |start: Vec<u8>| {
            let end = start.iter().rposition(|byte| *byte != u8::MAX).map(|last| {
                let mut end = start[..=last].to_vec();
                end[last] += 1;
                end.into()
            });
            Keys::Range { start: start.into(), end }
        };
        let range = |(start, end): (Vec<u8>, Option<Vec<u8>>)| Keys::Range {
            start: start.into(),
            end: end.map(Into::into),
        };
        prop_oneof![
            6 => key().prop_map(prefix),
            1 => key().prop_map(|key| Keys::One(key.into())),
            1 => (key(), prop::option::of(key())).prop_map(range),
        ]
    }

    proptest! {
        #[test]
        fn a_key_finds_whatever_contains_it(
            steps in prop::collection::vec((0..4, keys()), 1..300),
            sought in prop::collection::vec(key(), 1..20),
        ) {
            let (mut index, mut model) = (Index::default(), HashMap::new());
            for (number, (kind, keys)) in steps.into_iter().enumerate() {
                prop_assert_eq!(index.get(&keys), model.get(&keys).copied());
                if kind == 0 {
                    prop_assert_eq!(index.remove(&keys), model.remove(&keys));
                } else if let Entry::Vacant(free) = model.entry(keys) {
                    index.insert(free.key(), number);
                    free.insert(number);
                }
            }
            for key in sought {
                let mut found = Vec::new();
                index.stab(&key, |value| found.push(value));
                let mut expected: Vec<_> =
                    model.iter().filter(|(keys, _)| keys.contain(&key)).map(|(_, value)| *value).collect();
                found.sort();
                expected.sort();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
