//! The shape of a tree whose rows arrive in key order: which rows share a leaf, which pages share a branch, and which
//! page ids they get.
//!
//! Planning and writing run the same code and differ only in the [`Pages`] they hand it, so that they cannot disagree.

use super::format::{ELEMENT_BYTES, HEADER_BYTES, PAGE_BYTES};

/// Takes pages in the order of their ids.
pub(super) trait Pages {
    /// The rows taken since the last leaf, on `pages` pages from `id` on.
    fn leaf(&mut self, id: u64, pages: u64);
    fn branch(&mut self, id: u64, pages: u64, children: &[Child]);
}

/// Only counts.
pub(super) struct Nowhere;

impl Pages for Nowhere {
    fn leaf(&mut self, _: u64, _: u64) {}
    fn branch(&mut self, _: u64, _: u64, _: &[Child]) {}
}

/// An element of a branch page: the first key below a page.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub key: Vec<u8>,
    pub page: u64,
}

/// The open pages: one leaf, and one branch per level above.
#[derive(Debug)]
pub(super) struct Tree {
    next_page: u64,
    leaf_first: Vec<u8>,
    leaf_rows: usize,
    leaf_bytes: usize,
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    children: Vec<Child>,
    bytes: usize,
}

/// A finished tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub root: u64,
    pub next_page: u64,
}

impl Tree {
    pub fn from_page(next_page: u64) -> Self {
        Self { next_page, leaf_first: Vec::new(), leaf_rows: 0, leaf_bytes: HEADER_BYTES, levels: Vec::new() }
    }

    /// Makes room for a row, closing the open leaf if the row does not fit, and counts it in. The row itself goes to
    /// `pages` afterwards.
    pub fn admit(&mut self, key: &[u8], value_bytes: usize, pages: &mut impl Pages) {
        let row = ELEMENT_BYTES + key.len() + value_bytes;
        // A large row gets as many pages as it needs, and the next rows what is left on the last one.
        if self.leaf_rows > 0 && pages_of(self.leaf_bytes + row) > pages_of(self.leaf_bytes) {
            self.close_leaf(pages);
        }
        if self.leaf_rows == 0 {
            self.leaf_first.clear();
            self.leaf_first.extend_from_slice(key);
        }
        self.leaf_rows += 1;
        self.leaf_bytes += row;
    }

    pub fn finish(mut self, pages: &mut impl Pages) -> Finished {
        if self.leaf_rows > 0 || self.levels.is_empty() {
            self.close_leaf(pages);
        }
        let mut level = 0;
        while level + 1 < self.levels.len() || self.levels[level].children.len() > 1 {
            self.close_branch(level, pages);
            level += 1;
        }
        Finished { root: self.levels[level].children[0].page, next_page: self.next_page }
    }

    fn close_leaf(&mut self, pages: &mut impl Pages) {
        let count = pages_of(self.leaf_bytes);
        let page = self.take(count);
        pages.leaf(page, count);
        let key = self.leaf_first.clone();
        self.leaf_rows = 0;
        self.leaf_bytes = HEADER_BYTES;
        self.adopt(0, Child { key, page }, pages);
    }

    fn adopt(&mut self, level: usize, child: Child, pages: &mut impl Pages) {
        if level == self.levels.len() {
            self.levels.push(Level { children: Vec::new(), bytes: HEADER_BYTES });
        }
        let element = ELEMENT_BYTES + child.key.len();
        // Two children at least, however long their keys, or the tree would never end.
        if self.levels[level].children.len() >= 2 && self.levels[level].bytes + element > PAGE_BYTES {
            self.close_branch(level, pages);
        }
        self.levels[level].children.push(child);
        self.levels[level].bytes += element;
    }

    fn close_branch(&mut self, level: usize, pages: &mut impl Pages) {
        let children = std::mem::take(&mut self.levels[level].children);
        let count = pages_of(std::mem::replace(&mut self.levels[level].bytes, HEADER_BYTES));
        let page = self.take(count);
        pages.branch(page, count, &children);
        let key = children.into_iter().next().expect("a branch has children").key;
        self.adopt(level + 1, Child { key, page }, pages);
    }

    fn take(&mut self, pages: u64) -> u64 {
        let page = self.next_page;
        self.next_page += pages;
        page
    }
}

fn pages_of(bytes: usize) -> u64 {
    bytes.div_ceil(PAGE_BYTES) as u64
}
