//! Values by name, in the order of their last use: when there are too many, what was not used for longest is found at once.
//!
//! Invariant: each value is linked once, from the one used last to the one not used for longest. A place that is free is in
//! no link, and is taken by the next value that comes.

use std::{collections::HashMap, rc::Rc};

#[derive(Debug)]
pub(super) struct Recent<V> {
    places: HashMap<Rc<[u8]>, Place>,
    entries: Vec<Option<Entry<V>>>,
    free: Vec<Place>,
    newest: Option<Place>,
    oldest: Option<Place>,
}

/// Where a value lies until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

#[derive(Debug)]
struct Entry<V> {
    name: Rc<[u8]>,
    value: V,
    newer: Option<Place>,
    older: Option<Place>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { places: HashMap::default(), entries: Vec::new(), free: Vec::new(), newest: None, oldest: None }
    }
}

impl<V> Recent<V> {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Asking for it is not yet using it.
    pub(super) fn find(&self, name: &[u8]) -> Option<Place> {
        self.places.get(name).copied()
    }

    pub(super) fn get(&self, place: Place) -> &V {
        &self.entry(place).value
    }

    /// It is the one used last.
    pub(super) fn touch(&mut self, place: Place) -> &mut V {
        self.unlink(place);
        self.link(place);
        &mut self.entry_mut(place).value
    }

    /// A value of a name that has none.
    pub(super) fn insert(&mut self, name: &[u8], value: V) {
        let name: Rc<[u8]> = name.into();
        let entry = Some(Entry { name: name.clone(), value, newer: None, older: None });
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place.0 as usize] = entry;
                place
            }
            None => {
                self.entries.push(entry);
                Place(u32::try_from(self.entries.len() - 1).expect("there are limits far below"))
            }
        };
        assert!(self.places.insert(name, place).is_none(), "a name has one value");
        self.link(place);
    }

    /// The one not used for longest.
    pub(super) fn oldest(&self) -> Option<&V> {
        self.oldest.map(|place| self.get(place))
    }

    pub(super) fn remove_oldest(&mut self) {
        let Some(place) = self.oldest else { return };
        self.unlink(place);
        let entry = self.entries[place.0 as usize].take().expect("what is linked is there");
        self.places.remove(&entry.name);
        self.free.push(place);
    }

    fn entry(&self, place: Place) -> &Entry<V> {
        self.entries[place.0 as usize].as_ref().expect("what is linked is there")
    }

    fn entry_mut(&mut self, place: Place) -> &mut Entry<V> {
        self.entries[place.0 as usize].as_mut().expect("what is linked is there")
    }

    fn link(&mut self, place: Place) {
        let older = self.newest.replace(place);
        let entry = self.entry_mut(place);
        (entry.newer, entry.older) = (None, older);
        match older {
            Some(older) => self.entry_mut(older).newer = Some(place),
            None => self.oldest = Some(place),
        }
    }

    fn unlink(&mut self, place: Place) {
        let entry = self.entry(place);
        let (newer, older) = (entry.newer, entry.older);
        match newer {
            Some(newer) => self.entry_mut(newer).older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.entry_mut(older).newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut recent = Recent::default();
        // A model: names and values, the one not used for longest first.
        let mut model: Vec<(String, u64)> = Vec::new();
        let mut number = 1_u64;
        for step in 0..10_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let name = ((number >> 33) % 20).to_string();
            match (recent.find(name.as_bytes()), model.iter().position(|(known, _)| *known == name)) {
                (Some(place), Some(at)) => {
                    assert_eq!(*recent.get(place), model[at].1);
                    let used = model.remove(at);
                    assert_eq!(*recent.touch(place), used.1);
                    model.push(used);
                }
                (None, None) => {
                    if recent.len() == 10 {
                        recent.remove_oldest();
                        model.remove(0);
                    }
                    recent.insert(name.as_bytes(), step);
                    model.push((name, step));
                }
                differing => panic!("{name}: {differing:?}"),
            }
            assert_eq!((recent.len(), recent.oldest()), (model.len(), model.first().map(|(_, value)| value)));
        }
        assert_eq!(recent.entries.len(), 10, "places are used again");
        while let Some(oldest) = recent.oldest() {
            assert_eq!(*oldest, model.remove(0).1);
            recent.remove_oldest();
        }
        recent.remove_oldest();
        assert_eq!((recent.len(), model.len()), (0, 0));
    }
}
