//! Ranges of all keys that begin alike, by hash: what most watches of more than a key are about. Where many of one length are
//! watched, a key is looked up once for all of them, however many there are.
//!
//! Where few are, or too many lengths have many, a prefix stays in the tree of ranges with all others: a look at each key for
//! every length that somebody watches would cost more than it saves.
//!
//! Invariant: a prefix that was taken in is found by its length; a length without any is not looked at.

use std::collections::{BTreeMap, HashMap};

use crate::limits;

pub struct Prefixes<T> {
    many: Vec<OfLength<T>>,
    /// Of each length, how many were not taken in.
    others: BTreeMap<usize, usize>,
}

struct OfLength<T> {
    len: usize,
    values: HashMap<Box<[u8]>, T>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { many: Vec::new(), others: BTreeMap::new() }
    }
}

/// Whether a range is of all keys that begin with its start.
pub fn is_of_prefix(start: &[u8], end: Option<&[u8]>) -> bool {
    // Bytes that are as large as can be have none behind them.
    match (start.iter().rposition(|byte| *byte != u8::MAX), end) {
        (Some(last), Some(end)) => {
            end.len() == last + 1 && end[..last] == start[..last] && end[last] == start[last] + 1
        }
        (None, None) => true,
        _ => false,
    }
}

impl<T: Copy> Prefixes<T> {
    fn find(&self, len: usize) -> Option<usize> {
        self.many.iter().position(|many| many.len == len)
    }

    pub fn get(&self, prefix: &[u8]) -> Option<T> {
        self.many[self.find(prefix.len())?].values.get(prefix).copied()
    }

    /// Takes in a prefix that is not there yet. False: it belongs with the others.
    pub fn insert(&mut self, prefix: &[u8], value: T) -> bool {
        let others = self.others.get(&prefix.len()).copied().unwrap_or(0);
        let at = match self.find(prefix.len()) {
            Some(at) => at,
            None if others >= limits::WATCH_PREFIXES_FEW
                && self.many.len() < limits::WATCH_PREFIX_LENGTHS =>
            {
                self.many.push(OfLength { len: prefix.len(), values: HashMap::new() });
                self.many.len() - 1
            }
            None => {
                self.others.insert(prefix.len(), others + 1);
                return false;
            }
        };
        let before = self.many[at].values.insert(prefix.into(), value);
        assert!(before.is_none(), "a prefix is there once");
        true
    }

    /// None if it was not taken in.
    pub fn remove(&mut self, prefix: &[u8]) -> Option<T> {
        let at = self.find(prefix.len())?;
        let removed = self.many[at].values.remove(prefix)?;
        if self.many[at].values.is_empty() {
            self.many.swap_remove(at);
        }
        Some(removed)
    }

    /// One that was not taken in is gone.
    pub fn other_removed(&mut self, len: usize) {
        let others = self.others.get_mut(&len).expect("it was counted");
        *others -= 1;
        if *others == 0 {
            self.others.remove(&len);
        }
    }

    /// Finds all that were taken in and that `key` begins with.
    #[inline]
    pub fn stab(&self, key: &[u8], found: &mut impl FnMut(T)) {
        for OfLength { len, values } in &self.many {
            if let Some(value) = key.get(..*len).and_then(|prefix| values.get(prefix)) {
                found(*value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_prefixes_are_told_by_their_ends() {
        let is = |start: &[u8], end: &[u8]| is_of_prefix(start, Some(end));
        assert!(is(b"a", b"b") && is(b"a/1", b"a/2") && is(b"a\xff", b"b") && is(b"a\xff\xff", b"b"));
        assert!(is_of_prefix(b"\xff", None) && is_of_prefix(b"", None));
        assert!(!is(b"a", b"c") && !is(b"a", b"a\0") && !is(b"a/1", b"b") && !is(b"a", b"b\0"));
        assert!(!is(b"\xff", b"\xff\0") && !is_of_prefix(b"a", None) && !is_of_prefix(b"\0", None));
    }

    #[test]
    fn few_of_a_length_are_left_to_the_tree() {
        let mut prefixes = Prefixes::default();
        let name = |len: usize, number: usize| format!("{number:0len$}").into_bytes();
        for len in 5..5 + limits::WATCH_PREFIX_LENGTHS {
            for number in 0..limits::WATCH_PREFIXES_FEW {
                assert!(!prefixes.insert(&name(len, number), number));
            }
            assert!(prefixes.insert(&name(len, 99), 99));
        }
        let one_more = 5 + limits::WATCH_PREFIX_LENGTHS;
        for number in 0..2 * limits::WATCH_PREFIXES_FEW {
            assert!(!prefixes.insert(&name(one_more, number), number), "too many lengths have many");
        }
        assert_eq!((prefixes.get(&name(5, 99)), prefixes.get(&name(5, 1))), (Some(99), None));
        assert_eq!((prefixes.remove(&name(5, 1)), prefixes.remove(&name(5, 99))), (None, Some(99)));
        assert!(prefixes.insert(&name(one_more, 99), 99), "there is room again");
        (0..limits::WATCH_PREFIXES_FEW).for_each(|_| prefixes.other_removed(5));
        assert!(!prefixes.insert(&name(5, 0), 0));
    }
}
