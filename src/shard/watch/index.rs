//! From keys that are watched to whoever watches them: single keys by hash, ranges by their tree.

use std::collections::HashMap;

use super::{intervals::Intervals, keys::Keys};

pub struct Index<T> {
    ones: HashMap<Box<[u8]>, T>,
    ranges: Intervals<T>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { ones: HashMap::new(), ranges: Intervals::default() }
    }
}

impl<T: Copy> Index<T> {
    pub fn get(&self, keys: &Keys) -> Option<T> {
        match keys {
            Keys::One(key) => self.ones.get(key).copied(),
            Keys::Range { start, end } => self.ranges.get(start, end.as_deref()),
        }
    }

    /// Of keys that are not there.
    pub fn insert(&mut self, keys: &Keys, value: T) {
        match keys {
            Keys::One(key) => {
                let before = self.ones.insert(key.clone(), value);
                assert!(before.is_none(), "keys are there once");
            }
            Keys::Range { start, end } => self.ranges.insert(start, end.as_deref(), value),
        }
    }

    pub fn remove(&mut self, keys: &Keys) -> Option<T> {
        match keys {
            Keys::One(key) => self.ones.remove(key),
            Keys::Range { start, end } => self.ranges.remove(start, end.as_deref()),
        }
    }

    /// Finds whatever `key` is one of.
    #[inline]
    pub fn stab(&self, key: &[u8], mut found: impl FnMut(T)) {
        if !self.ones.is_empty()
            && let Some(value) = self.ones.get(key)
        {
            found(*value);
        }
        self.ranges.stab(key, &mut found);
    }
}
