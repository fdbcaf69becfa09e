//! The leaves themselves, by number.
//!
//! They lie in slabs, so a number leads to a leaf without a look at a table that is as long as there are leaves, and
//! growing moves none.

use super::leaf::Leaf;

/// Leaves of one slab: half a mebibyte.
const SLAB_LEAVES: usize = 512;

#[derive(Default)]
pub struct Leaves {
    slabs: Vec<Vec<Leaf>>,
    free: Vec<u32>,
}

impl Leaves {
    pub fn add(&mut self, leaf: Leaf) -> u32 {
        if let Some(id) = self.free.pop() {
            self[id] = leaf;
            return id;
        }
        if self.slabs.last().is_none_or(|slab| slab.len() == SLAB_LEAVES) {
            self.slabs.push(Vec::with_capacity(SLAB_LEAVES));
        }
        let full = (self.slabs.len() - 1) * SLAB_LEAVES;
        let slab = self.slabs.last_mut().expect("a slab has room");
        slab.push(leaf);
        u32::try_from(full + slab.len() - 1).expect("fewer leaves than 2^32")
    }

    /// Takes the leaf away; its number is given to another one.
    pub fn remove(&mut self, id: u32) -> Leaf {
        self.free.push(id);
        std::mem::replace(&mut self[id], Leaf::new(0))
    }
}

impl std::ops::Index<u32> for Leaves {
    type Output = Leaf;

    #[inline]
    fn index(&self, id: u32) -> &Leaf {
        let id = id as usize;
        &self.slabs[id / SLAB_LEAVES][id % SLAB_LEAVES]
    }
}

impl std::ops::IndexMut<u32> for Leaves {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut Leaf {
        let id = id as usize;
        &mut self.slabs[id / SLAB_LEAVES][id % SLAB_LEAVES]
    }
}
