//! The keys attached to one lease, in byte order. Most leases have one or none.

use std::{collections::BTreeSet, iter, ops::Bound};

#[derive(Debug, Default)]
pub enum Keys {
    #[default]
    None,
    One(Box<[u8]>),
    #[expect(clippy::box_collection, reason = "few leases have many, and each would take as much room")]
    Many(Box<BTreeSet<Box<[u8]>>>),
}

impl Keys {
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(keys) => keys.len(),
        }
    }

    pub fn insert(&mut self, key: &[u8]) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(key.into()),
            Self::One(only) if *only == *key => Self::One(only),
            Self::One(only) => Self::Many(Box::new(BTreeSet::from([only, key.into()]))),
            Self::Many(mut keys) => {
                keys.insert(key.into());
                Self::Many(keys)
            }
        };
    }

    pub fn remove(&mut self, key: &[u8]) {
        match self {
            Self::None => {}
            Self::One(only) if **only == *key => *self = Self::None,
            Self::One(_) => {}
            Self::Many(keys) => {
                keys.remove(key);
                if keys.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    /// Takes the first one away.
    pub fn pop_first(&mut self) -> Option<Box<[u8]>> {
        match std::mem::take(self) {
            Self::None => None,
            Self::One(only) => Some(only),
            Self::Many(mut keys) => {
                let first = keys.pop_first();
                if !keys.is_empty() {
                    *self = Self::Many(keys);
                }
                first
            }
        }
    }

    /// The first that is not before this one.
    pub fn from(&self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::One(only) => (**only >= *key).then_some(only),
            Self::Many(keys) => {
                keys.range::<[u8], _>((Bound::Included(key), Bound::Unbounded)).next().map(|key| &**key)
            }
        }
    }

    /// Those after this one; all for none.
    pub fn after<'a>(&'a self, key: Option<&'a [u8]>) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        let is_after = move |candidate: &[u8]| key.is_none_or(|key| candidate > key);
        match self {
            Self::None => Box::new(iter::empty()),
            Self::One(only) => Box::new(iter::once(&**only).filter(move |only| is_after(only))),
            Self::Many(keys) => {
                let from = key.map_or(Bound::Unbounded, Bound::Excluded);
                Box::new(keys.range::<[u8], _>((from, Bound::Unbounded)).map(|key| &**key))
            }
        }
    }
}
