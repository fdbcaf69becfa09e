//! Ranges of keys, and which of them a key lies in: what that costs follows how many those are, and only the logarithm of
//! how many there are in all.
//!
//! A balanced tree (AVL) in order of where ranges begin; each node knows the last end below it, so whole branches are
//! passed over that end before the key.

use std::cmp::Ordering;

/// No node.
const NONE: u32 = u32::MAX;

pub struct Intervals<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    root: u32,
}

struct Node<T> {
    start: Box<[u8]>,
    /// None: there is no last key.
    end: Option<Box<[u8]>>,
    value: T,
    left: u32,
    right: u32,
    height: u8,
    /// Whose end is the last, of this node and those below it.
    last: u32,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NONE }
    }
}

/// No end lies behind all others.
fn later(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

impl<T: Copy> Intervals<T> {
    pub fn get(&self, start: &[u8], end: Option<&[u8]>) -> Option<T> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            at = match self.order(start, end, at) {
                Ordering::Equal => return Some(node.value),
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    /// Of a range that is not there.
    pub fn insert(&mut self, start: &[u8], end: Option<&[u8]>, value: T) {
        let (start, end) = (start.into(), end.map(Into::into));
        let node = Node { start, end, value, left: NONE, right: NONE, height: 1, last: NONE };
        let new = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32")
            }
        };
        self.nodes[new as usize].last = new;
        self.root = self.insert_below(self.root, new);
    }

    pub fn remove(&mut self, start: &[u8], end: Option<&[u8]>) -> Option<T> {
        let mut removed = None;
        self.root = self.remove_below(self.root, start, end, &mut removed);
        let at = removed?;
        let node = &mut self.nodes[at as usize];
        (node.start, node.end) = (Box::default(), None);
        self.free.push(at);
        Some(self.nodes[at as usize].value)
    }

    /// Finds all ranges that `key` lies in.
    pub fn stab(&self, key: &[u8], found: &mut impl FnMut(T)) {
        self.stab_below(self.root, key, found);
    }

    fn stab_below(&self, at: u32, key: &[u8], found: &mut impl FnMut(T)) {
        if at == NONE {
            return;
        }
        let node = &self.nodes[at as usize];
        if !self.ends_after(node.last, key) {
            return;
        }
        self.stab_below(node.left, key, found);
        if *node.start <= *key {
            if self.ends_after(at, key) {
                found(node.value);
            }
            self.stab_below(node.right, key, found);
        }
    }

    fn ends_after(&self, at: u32, key: &[u8]) -> bool {
        self.nodes[at as usize].end.as_ref().is_none_or(|end| **end > *key)
    }

    fn order(&self, start: &[u8], end: Option<&[u8]>, at: u32) -> Ordering {
        let node = &self.nodes[at as usize];
        start.cmp(&node.start).then_with(|| later(end, node.end.as_deref()))
    }

    fn height(&self, at: u32) -> u8 {
        if at == NONE { 0 } else { self.nodes[at as usize].height }
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let Node { start, end, .. } = &self.nodes[new as usize];
        match self.order(start, end.as_deref(), at) {
            Ordering::Less => {
                self.nodes[at as usize].left = self.insert_below(self.nodes[at as usize].left, new);
            }
            Ordering::Greater => {
                self.nodes[at as usize].right = self.insert_below(self.nodes[at as usize].right, new);
            }
            Ordering::Equal => panic!("a range is there once"),
        }
        self.balance(at)
    }

    fn remove_below(&mut self, at: u32, start: &[u8], end: Option<&[u8]>, removed: &mut Option<u32>) -> u32 {
        if at == NONE {
            return NONE;
        }
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        match self.order(start, end, at) {
            Ordering::Less => self.nodes[at as usize].left = self.remove_below(left, start, end, removed),
            Ordering::Greater => {
                self.nodes[at as usize].right = self.remove_below(right, start, end, removed)
            }
            Ordering::Equal => {
                *removed = Some(at);
                if left == NONE || right == NONE {
                    return if left == NONE { right } else { left };
                }
                // The first of those behind it takes its place.
                let (first, rest) = self.take_first(right);
                let node = &mut self.nodes[first as usize];
                (node.left, node.right) = (left, rest);
                return self.balance(first);
            }
        }
        self.balance(at)
    }

    /// The first node below, and what is left without it.
    fn take_first(&mut self, at: u32) -> (u32, u32) {
        let Node { left, right, .. } = self.nodes[at as usize];
        if left == NONE {
            return (at, right);
        }
        let (first, rest) = self.take_first(left);
        self.nodes[at as usize].left = rest;
        (first, self.balance(at))
    }

    /// Puts right what a change below has made wrong; the node that is on top then.
    fn balance(&mut self, at: u32) -> u32 {
        let Node { left, right, .. } = self.nodes[at as usize];
        let (deep, flat) = (self.height(left), self.height(right));
        if deep > flat + 1 {
            let Node { left: outer, right: inner, .. } = self.nodes[left as usize];
            if self.height(inner) > self.height(outer) {
                self.nodes[at as usize].left = self.rotate_left(left);
            }
            return self.rotate_right(at);
        }
        if flat > deep + 1 {
            let Node { left: inner, right: outer, .. } = self.nodes[right as usize];
            if self.height(inner) > self.height(outer) {
                self.nodes[at as usize].right = self.rotate_right(right);
            }
            return self.rotate_left(at);
        }
        self.sum_up(at);
        at
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let top = self.nodes[at as usize].left;
        self.nodes[at as usize].left = std::mem::replace(&mut self.nodes[top as usize].right, at);
        self.sum_up(at);
        self.sum_up(top);
        top
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let top = self.nodes[at as usize].right;
        self.nodes[at as usize].right = std::mem::replace(&mut self.nodes[top as usize].left, at);
        self.sum_up(at);
        self.sum_up(top);
        top
    }

    fn sum_up(&mut self, at: u32) {
        let Node { left, right, .. } = self.nodes[at as usize];
        let end = |of: u32| self.nodes[of as usize].end.as_deref();
        let mut last = at;
        for below in [left, right].into_iter().filter(|below| *below != NONE) {
            let candidate = self.nodes[below as usize].last;
            if later(end(candidate), end(last)).is_gt() {
                last = candidate;
            }
        }
        let height = 1 + self.height(left).max(self.height(right));
        let node = &mut self.nodes[at as usize];
        (node.last, node.height) = (last, height);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl<T: Copy> Intervals<T> {
        /// Depth and nodes below; checks what is kept of each.
        fn check(&self, at: u32) -> (u8, usize) {
            if at == NONE {
                return (0, 0);
            }
            let node = &self.nodes[at as usize];
            let ((left, few), (right, more)) = (self.check(node.left), self.check(node.right));
            assert!(left.abs_diff(right) <= 1, "balanced");
            assert_eq!(node.height, 1 + left.max(right));
            for below in [node.left, node.right, at].into_iter().filter(|below| *below != NONE) {
                let last = self.nodes[self.nodes[below as usize].last as usize].end.as_deref();
                assert!(later(self.nodes[node.last as usize].end.as_deref(), last).is_ge());
            }
            (node.height, 1 + few + more)
        }
    }

    type Range = (Vec<u8>, Option<Vec<u8>>);

    fn range() -> impl Strategy<Value = Range> {
        let key = || prop::collection::vec(0u8..4, 0..4);
        (key(), prop::option::of(key()))
    }

    proptest! {
        #[test]
        fn a_key_finds_the_ranges_it_lies_in(
            steps in prop::collection::vec((any::<bool>(), range()), 1..200),
            keys in prop::collection::vec(prop::collection::vec(0u8..4, 0..4), 1..20),
        ) {
            let (mut tree, mut model) = (Intervals::default(), BTreeMap::<Range, usize>::new());
            for (number, (add, range)) in steps.into_iter().enumerate() {
                let (start, end) = (&range.0[..], range.1.as_deref());
                prop_assert_eq!(tree.get(start, end), model.get(&range).copied());
                if !add {
                    prop_assert_eq!(tree.remove(start, end), model.remove(&range));
                } else if tree.get(start, end).is_none() {
                    tree.insert(start, end, number);
                    model.insert(range, number);
                }
                prop_assert_eq!(tree.check(tree.root).1, model.len());
            }
            for key in keys {
                let mut found = Vec::new();
                tree.stab(&key, &mut |value| found.push(value));
                let lies_in = |(start, end): &Range| *start <= key && end.as_ref().is_none_or(|end| key < *end);
                let mut expected: Vec<_> =
                    model.iter().filter(|(range, _)| lies_in(range)).map(|(_, value)| *value).collect();
                found.sort();
                expected.sort();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
