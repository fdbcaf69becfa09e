//! Which leaf a key belongs to: fences in pages, and the first fence of each page in one row above them.
//!
//! Two searches lead to a leaf, each over heads that lie side by side. A page is small: changing one copies little, and
//! nothing ever copies all fences.
//!
//! Invariants: the first fence is empty; no page is empty; a page's place in the top row has the page's first fence.

use std::slice;

use super::fences::Fences;

/// Fences of a full page.
const PAGE_FENCES: usize = 256;
/// Fences of a page that is built at once; some room is left.
const BUILT_FENCES: usize = PAGE_FENCES * 9 / 10;

struct Page {
    fences: Fences,
    leaves: Vec<u32>,
}

impl Page {
    fn new(fence: Box<[u8]>, leaf: u32) -> Self {
        let mut leaves = Vec::with_capacity(PAGE_FENCES);
        leaves.push(leaf);
        Page { fences: Fences::new(fence, PAGE_FENCES), leaves }
    }

    fn len(&self) -> usize {
        self.leaves.len()
    }
}

/// Lower fences and their leaves.
pub struct Directory {
    top: Fences,
    pages: Vec<Page>,
}

/// The place of a fence. Good until the directory changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    page: usize,
    at: usize,
}

impl Directory {
    /// One leaf for all keys.
    pub fn new(leaf: u32) -> Self {
        Self { top: Fences::new(Box::default(), 1), pages: vec![Page::new(Box::default(), leaf)] }
    }

    /// Where `key` belongs.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Spot {
        let page = self.top.find(key);
        Spot { page, at: self.pages[page].fences.find(key) }
    }

    #[inline]
    pub fn leaf(&self, spot: Spot) -> u32 {
        self.pages[spot.page].leaves[spot.at]
    }

    pub fn fence(&self, spot: Spot) -> &[u8] {
        self.pages[spot.page].fences.get(spot.at)
    }

    pub fn after(&self, spot: Spot) -> Option<Spot> {
        let Spot { page, at } = spot;
        let within = (at + 1 < self.pages[page].len()).then_some(Spot { page, at: at + 1 });
        within.or_else(|| (page + 1 < self.pages.len()).then_some(Spot { page: page + 1, at: 0 }))
    }

    pub fn before(&self, spot: Spot) -> Option<Spot> {
        let Spot { page, at } = spot;
        match at.checked_sub(1) {
            Some(at) => Some(Spot { page, at }),
            None => page.checked_sub(1).map(|page| Spot { page, at: self.pages[page].len() - 1 }),
        }
    }

    /// The leaves after the one at `spot`.
    pub fn following(&self, spot: Spot) -> Following<'_> {
        Following {
            leaves: self.pages[spot.page].leaves[spot.at + 1..].iter(),
            pages: self.pages[spot.page + 1..].iter(),
        }
    }

    /// Adds a leaf between the one at `spot` and the next.
    pub fn insert_after(&mut self, spot: Spot, fence: Box<[u8]>, leaf: u32) {
        let Spot { mut page, mut at } = spot;
        at += 1;
        if self.pages[page].len() == PAGE_FENCES {
            if at == PAGE_FENCES {
                // Ascending keys leave full pages behind.
                return self.insert_page(page + 1, Page::new(fence, leaf));
            }
            let middle = PAGE_FENCES / 2;
            self.split(page, middle);
            if at > middle {
                page += 1;
                at -= middle;
            }
        }
        self.pages[page].fences.insert(at, fence);
        self.pages[page].leaves.insert(at, leaf);
    }

    /// Adds a leaf after all others, as part of a directory that is built at once.
    pub fn push(&mut self, fence: Box<[u8]>, leaf: u32) {
        let page = self.pages.last_mut().expect("there is a page");
        let len = page.len();
        if len < BUILT_FENCES {
            page.fences.insert(len, fence);
            page.leaves.push(leaf);
        } else {
            self.insert_page(self.pages.len(), Page::new(fence, leaf));
        }
    }

    fn split(&mut self, page: usize, middle: usize) {
        let left = &mut self.pages[page];
        let mut leaves = Vec::with_capacity(PAGE_FENCES);
        leaves.extend(left.leaves.drain(middle..));
        let right = Page { fences: left.fences.split_off(middle, PAGE_FENCES), leaves };
        self.insert_page(page + 1, right);
    }

    fn insert_page(&mut self, at: usize, page: Page) {
        self.top.insert(at, page.fences.get(0).into());
        self.pages.insert(at, page);
    }

    /// Removes a leaf that is not the first.
    pub fn remove(&mut self, spot: Spot) {
        assert!(spot != Spot { page: 0, at: 0 }, "every key has a leaf where it belongs");
        let Spot { page, at } = spot;
        let shrunk = &mut self.pages[page];
        shrunk.fences.remove(at);
        shrunk.leaves.remove(at);
        let len = shrunk.len();
        if at == 0 {
            self.top.remove(page);
            match len {
                0 => drop(self.pages.remove(page)),
                _ => self.top.insert(page, self.pages[page].fences.get(0).into()),
            }
        }
        if len > 0 && len < PAGE_FENCES / 4 {
            self.merge(page);
        }
    }

    /// Joins a page that has few fences left with a neighbour if both fit well into one.
    fn merge(&mut self, page: usize) {
        let fits = |left: usize| {
            left + 1 < self.pages.len()
                && self.pages[left].len() + self.pages[left + 1].len() <= PAGE_FENCES * 3 / 4
        };
        let Some(left) = [Some(page), page.checked_sub(1)].into_iter().flatten().find(|left| fits(*left))
        else {
            return;
        };
        self.top.remove(left + 1);
        let mut right = self.pages.remove(left + 1);
        let left = &mut self.pages[left];
        left.fences.append(right.fences);
        left.leaves.append(&mut right.leaves);
    }
}

/// Leaves in the order of their keys.
#[derive(Default)]
pub struct Following<'a> {
    leaves: slice::Iter<'a, u32>,
    pages: slice::Iter<'a, Page>,
}

impl Iterator for Following<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        loop {
            if let Some(leaf) = self.leaves.next() {
                return Some(*leaf);
            }
            self.leaves = self.pages.next()?.leaves.iter();
        }
    }
}
