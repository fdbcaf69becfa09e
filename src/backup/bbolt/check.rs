//! Every page of a file is part of exactly one thing: what bbolt's own `Check` (`tx_check.go`) demands.

use super::{
    format::{FREELIST, HEADER_BYTES, u64_at},
    reader::{BucketRoot, Error, File},
};

/// Buckets within buckets; etcd has one level of them.
const NESTING_MAX: usize = 8;
/// In a freelist's header: the count did not fit and comes first.
const COUNT_FOLLOWS: u16 = 0xffff;
const META_PAGES: u64 = 2;

impl File<'_> {
    /// Reads every page but the values on them. Memory: two bits per page.
    pub fn check(&self) -> Result<(), Error> {
        let mut used = Pages::none_of(self.pages());
        for meta in 0..META_PAGES.min(self.pages()) {
            used.add(meta, 1)?;
        }
        let mut free = Pages::none_of(self.pages());
        self.free_pages(&mut used, &mut free)?;
        self.check_bucket(self.root().root, 0, &mut used)?;

        let stored = self.freelist().is_some();
        for page in 0..self.pages() {
            match (used.has(page), free.has(page)) {
                (true, true) => return Err(Error::Page { page, what: "is used and free" }),
                (false, false) if stored => {
                    return Err(Error::Page { page, what: "is neither used nor free" });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn free_pages(&self, used: &mut Pages, free: &mut Pages) -> Result<(), Error> {
        let Some(page) = self.freelist() else { return Ok(()) };
        let bad = |what| Error::Page { page, what };
        let (header, bytes) = self.extent(page)?;
        if header.flags != FREELIST {
            return Err(bad("is not a freelist"));
        }
        used.add(page, 1 + u64::from(header.overflow))?;
        let mut ids = bytes[HEADER_BYTES..].chunks_exact(8).map(|id| u64_at(id, 0).expect("eight bytes"));
        let count = match header.count {
            COUNT_FOLLOWS => ids.next().ok_or(bad("is cut short"))?,
            count => u64::from(count),
        };
        if count > ids.len() as u64 {
            return Err(bad("is cut short"));
        }
        ids.take(count as usize).try_for_each(|id| free.add(id, 1))
    }

    fn check_bucket(&self, root: BucketRoot<'_>, depth: usize, used: &mut Pages) -> Result<(), Error> {
        let page = match root {
            BucketRoot::Paged(page) => page,
            BucketRoot::Inline { of, .. } => of,
        };
        if depth > NESTING_MAX {
            return Err(Error::Page { page, what: "is the root of a bucket too deep inside others" });
        }
        if matches!(root, BucketRoot::Paged(_)) {
            self.count_pages(page, used)?;
        }
        for row in (super::Bucket { file: *self, root }).rows() {
            let Some(bucket) = row?.bucket else { continue };
            if matches!(root, BucketRoot::Inline { .. }) {
                return Err(Error::Page { page, what: "a bucket inside a row holds a bucket" });
            }
            self.check_bucket(bucket.root, depth + 1, used)?;
        }
        Ok(())
    }

    /// Counts the pages of a tree as used. A page that is used already ends it, so each is visited once.
    fn count_pages(&self, root: u64, used: &mut Pages) -> Result<(), Error> {
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            let (header, _) = self.extent(id)?;
            used.add(id, 1 + u64::from(header.overflow))?;
            let page = self.page(id)?;
            if !page.is_leaf {
                (0..page.count).try_for_each(|index| page.child(index).map(|child| waiting.push(child)))?;
            }
        }
        Ok(())
    }
}

/// A set of pages, one bit each.
struct Pages {
    count: u64,
    bits: Vec<u64>,
}

impl Pages {
    fn none_of(count: u64) -> Self {
        Self { count, bits: vec![0; count.div_ceil(64) as usize] }
    }

    /// Refuses a page outside the file, and one that is in the set already.
    fn add(&mut self, first: u64, pages: u64) -> Result<(), Error> {
        for page in first..first.saturating_add(pages) {
            if page >= self.count {
                return Err(Error::Page { page, what: "lies outside the file" });
            }
            if self.has(page) {
                return Err(Error::Page { page, what: "is named twice" });
            }
            self.bits[(page / 64) as usize] |= 1 << (page % 64);
        }
        Ok(())
    }

    fn has(&self, page: u64) -> bool {
        self.bits[(page / 64) as usize] & 1 << (page % 64) != 0
    }
}
