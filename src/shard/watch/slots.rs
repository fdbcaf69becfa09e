//! Things that are named by a short key: a key of something that is gone names nothing, also once its place is used again.

/// Names what [`Slots::add`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    at: u32,
    generation: u32,
}

pub struct Slots<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub fn add(&mut self, thing: T) -> Key {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32")
        });
        let (generation, place) = &mut self.places[at as usize];
        *place = Some(thing);
        Key { at, generation: *generation }
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, place) = self.places.get_mut(key.at as usize)?;
        if *generation != key.generation {
            return None;
        }
        let thing = place.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.at);
        Some(thing)
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, place) = self.places.get(key.at as usize)?;
        place.as_ref().filter(|_| *generation == key.generation)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, place) = self.places.get_mut(key.at as usize)?;
        place.as_mut().filter(|_| *generation == key.generation)
    }

    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many places there are, taken or not.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// The key of what is at a place.
    pub fn key_at(&self, at: usize) -> Option<Key> {
        let (generation, place) = self.places.get(at)?;
        let at = u32::try_from(at).expect("fewer than 2^32");
        place.as_ref().map(|_| Key { at, generation: *generation })
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.places()).filter_map(|at| self.key_at(at))
    }
}

impl<T> std::ops::Index<Key> for Slots<T> {
    type Output = T;

    fn index(&self, key: Key) -> &T {
        self.get(key).expect("it is there")
    }
}

impl<T> std::ops::IndexMut<Key> for Slots<T> {
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("it is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_what_is_gone_names_nothing() {
        let mut slots = Slots::default();
        let (a, b) = (slots.add('a'), slots.add('b'));
        assert_eq!(slots.remove(a), Some('a'));
        let c = slots.add('c');
        assert_eq!(slots.remove(a), None);
        assert_eq!((slots[b], slots[c], slots.len()), ('b', 'c', 2));
        assert_eq!(slots.keys().collect::<Vec<_>>(), [c, b]);
        slots.remove(b);
        slots.remove(c);
        let d = slots.add('d');
        assert!([a, b, c].iter().all(|gone| slots.get(*gone).is_none()) && slots[d] == 'd');
    }
}
