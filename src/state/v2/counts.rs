//! How often what was asked of the tree was done, and how often not, as etcd's members count it. Part of the state, so that a
//! restart does not begin anew.

use super::Method;

/// Of each kind of change: done, refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sets: [u64; 2],
    pub deletes: [u64; 2],
    pub creates: [u64; 2],
    pub updates: [u64; 2],
    pub swaps: [u64; 2],
    pub compared_deletes: [u64; 2],
    /// Nodes that ended by their time.
    pub expired: u64,
}

impl Counts {
    pub(super) fn count(&mut self, method: Method, is_done: bool) {
        let of = match method {
            Method::Set => &mut self.sets,
            Method::Create | Method::CreateInOrder => &mut self.creates,
            Method::Update => &mut self.updates,
            Method::CompareAndSwap => &mut self.swaps,
            Method::Delete => &mut self.deletes,
            Method::CompareAndDelete => &mut self.compared_deletes,
        };
        of[usize::from(!is_done)] += 1;
    }

    /// In the order of the fields.
    pub(super) fn list(&self) -> Vec<u64> {
        let Self { sets, deletes, creates, updates, swaps, compared_deletes, expired } = *self;
        let mut list = [sets, deletes, creates, updates, swaps, compared_deletes].concat();
        list.push(expired);
        list
    }

    pub(super) fn of(list: &[u64]) -> Option<Self> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l, expired] = list else { return None };
        Some(Self {
            sets: [a, b],
            deletes: [c, d],
            creates: [e, f],
            updates: [g, h],
            swaps: [i, j],
            compared_deletes: [k, l],
            expired,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_in_the_order_of_their_fields() {
        let mut counts = Counts::default();
        counts.count(Method::CompareAndDelete, false);
        counts.count(Method::CreateInOrder, true);
        counts.expired = 7;
        assert_eq!((counts.compared_deletes, counts.creates), ([0, 1], [1, 0]));
        assert_eq!(Counts::of(&counts.list()), Some(counts));
        assert_eq!(Counts::of(&[1]), None);
    }
}
