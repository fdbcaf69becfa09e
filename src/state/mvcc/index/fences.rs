//! Ordered keys that divide others into runs, found by eight bytes of each.
//!
//! Only the first run has keys below the second fence, so the first fence is never compared with.

use super::shared;

/// Fences in order. The first is known not to lie above any key that is asked for.
pub struct Fences {
    /// What all fences but the first begin with.
    prefix: Box<[u8]>,
    /// The eight bytes after the prefix, filled up with zeros; zero for the first fence. They order like the fences as
    /// far as they differ.
    heads: Vec<u64>,
    keys: Vec<Box<[u8]>>,
}

impl Fences {
    /// `first` alone, with room for `room` fences.
    pub fn new(first: Box<[u8]>, room: usize) -> Self {
        let mut fences = Fences {
            prefix: Box::default(),
            heads: Vec::with_capacity(room),
            keys: Vec::with_capacity(room),
        };
        fences.heads.push(0);
        fences.keys.push(first);
        fences
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn get(&self, at: usize) -> &[u8] {
        &self.keys[at]
    }

    /// The last fence that does not lie above `key`.
    #[inline]
    pub fn find(&self, key: &[u8]) -> usize {
        let rest = match key.split_at_checked(self.prefix.len()) {
            Some((start, rest)) if *start == *self.prefix => rest,
            _ if *key < *self.prefix => return 0,
            _ => return self.len() - 1,
        };
        let head = head(rest);
        let below = self.heads[1..].partition_point(|other| *other < head);
        if self.heads.get(below + 1) != Some(&head) {
            return below;
        }
        let alike = self.heads[below + 1..].partition_point(|other| *other == head);
        let skip = self.prefix.len();
        below + self.keys[below + 1..=below + alike].partition_point(|fence| fence[skip..] <= *rest)
    }

    /// Adds a fence at a place that is not the first.
    pub fn insert(&mut self, at: usize, fence: Box<[u8]>) {
        assert!(at > 0, "the first fence is given to a new run");
        debug_assert!(self.keys[at - 1] < fence && self.keys.get(at).is_none_or(|next| fence < *next));
        let alike = if self.len() == 1 { fence.len() } else { shared(&self.prefix, &fence) };
        self.heads.insert(at, 0);
        self.keys.insert(at, fence);
        if self.len() == 2 || alike < self.prefix.len() {
            self.take_heads(alike);
        } else {
            self.heads[at] = head(&self.keys[at][alike..]);
        }
    }

    pub fn remove(&mut self, at: usize) {
        self.heads.remove(at);
        self.keys.remove(at);
    }

    /// Gives the fences at `at` and after it away.
    pub fn split_off(&mut self, at: usize, room: usize) -> Self {
        let mut moved = self.keys.drain(at..);
        let mut right = Fences::new(moved.next().expect("something is moved"), room);
        right.keys.extend(moved);
        self.heads.truncate(at);
        self.refresh();
        right.refresh();
        right
    }

    /// Takes the fences of the run that follows.
    pub fn append(&mut self, mut right: Self) {
        self.keys.append(&mut right.keys);
        self.refresh();
    }

    fn refresh(&mut self) {
        // In order, so what the outermost share all share.
        let alike = match self.keys.get(1) {
            Some(second) => shared(second, &self.keys[self.len() - 1]),
            None => 0,
        };
        self.take_heads(alike);
    }

    fn take_heads(&mut self, alike: usize) {
        self.prefix = self.keys.get(1).map_or_else(Box::default, |second| second[..alike].into());
        self.heads.clear();
        self.heads.push(0);
        self.heads.extend(self.keys[1..].iter().map(|fence| head(&fence[alike..])));
    }
}

#[inline]
fn head(rest: &[u8]) -> u64 {
    if let Some(head) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(head)
}
