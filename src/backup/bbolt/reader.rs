//! Reading a file where it lies: nothing is copied, and nothing in it is believed before it was checked.
//!
//! A page is visited at most once by an iteration, whatever the file says: a child's keys must lie between the two keys
//! that its parent gives it, no page but a root may be empty, and a tree is at most [`DEPTH_MAX`] pages deep.

use super::format::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, Header, IS_BUCKET, LEAF, META, META_BYTES, Meta,
    NO_FREELIST, NotMeta, u32_at, u64_at,
};

/// Pages from the root to a leaf; two children per branch would already make a file of 16 TiB.
const DEPTH_MAX: usize = 32;
/// bbolt tries these sizes, from 1 KiB on, when the first meta page cannot be read.
const PAGE_BYTES_MIN: u32 = 1024;
const PAGE_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The file is not what it should be. The first texts are bbolt's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid database")]
    Invalid,
    #[error("version mismatch")]
    Version,
    #[error("checksum error")]
    Checksum,
    #[error("truncated: {pages} pages of {page_bytes} bytes are in use, the file has {bytes} bytes")]
    Truncated { pages: u64, page_bytes: u32, bytes: usize },
    #[error("page {page}: {what}")]
    Page { page: u64, what: &'static str },
}

/// A whole file.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    bytes: &'a [u8],
    meta: Meta,
}

impl<'a> File<'a> {
    /// Looks at the meta pages only. What follows the last page in use is not looked at.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let meta = newest_meta(bytes)?;
        let length = meta.pages.checked_mul(u64::from(meta.page_bytes));
        if length.is_none_or(|length| length > bytes.len() as u64) {
            let Meta { pages, page_bytes, .. } = meta;
            return Err(Error::Truncated { pages, page_bytes, bytes: bytes.len() });
        }
        Ok(Self { bytes, meta })
    }

    /// Bytes of the pages in use or free: all of the file but what was allocated ahead or appended.
    pub fn size(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// The bucket that holds the buckets.
    pub fn root(&self) -> Bucket<'a> {
        Bucket { file: *self, root: BucketRoot::Paged(self.meta.root) }
    }

    pub(super) fn pages(&self) -> u64 {
        self.meta.pages
    }

    /// The page of the list of free pages, if it is stored.
    pub(super) fn freelist(&self) -> Option<u64> {
        (self.meta.freelist != NO_FREELIST).then_some(self.meta.freelist)
    }

    /// All bytes of a page, and its header; `page` is not a meta page.
    pub(super) fn extent(&self, page: u64) -> Result<(Header, &'a [u8]), Error> {
        let bad = |what| Error::Page { page, what };
        if page < 2 || page >= self.meta.pages {
            return Err(bad("lies outside the file"));
        }
        let page_bytes = u64::from(self.meta.page_bytes);
        let from = (page * page_bytes) as usize;
        let header = Header::decode(&self.bytes[from..]).ok_or(bad("lies outside the file"))?;
        if header.id != page {
            return Err(bad("says that it is another one"));
        }
        let pages = 1 + u64::from(header.overflow);
        if pages > self.meta.pages - page {
            return Err(bad("goes on outside the file"));
        }
        Ok((header, &self.bytes[from..from + (pages * page_bytes) as usize]))
    }

    pub(super) fn page(&self, id: u64) -> Result<Page<'a>, Error> {
        let (header, bytes) = self.extent(id)?;
        Page::new(id, header, bytes)
    }
}

fn newest_meta(bytes: &[u8]) -> Result<Meta, Error> {
    let read = |at: u64| -> Result<Meta, NotMeta> {
        let page = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).ok_or(NotMeta::Magic)?;
        if Header::decode(page).is_none_or(|header| header.flags != META)
            || page.len() < HEADER_BYTES + META_BYTES
        {
            return Err(NotMeta::Magic);
        }
        Meta::decode(&page[HEADER_BYTES..])
    };
    let first = read(0);
    let second = match first {
        Ok(meta) => read(u64::from(meta.page_bytes)),
        Err(_) => std::iter::successors(Some(PAGE_BYTES_MIN), |size| Some(size * 2))
            .take_while(|size| *size <= PAGE_BYTES_MAX)
            .map(|size| {
                read(u64::from(size)).and_then(|meta| match meta.page_bytes == size {
                    true => Ok(meta),
                    false => Err(NotMeta::Magic),
                })
            })
            .find(Result::is_ok)
            .unwrap_or(Err(NotMeta::Magic)),
    };
    let meta = match (first, second) {
        (Ok(first), Ok(second)) if second.transaction > first.transaction => second,
        (Ok(meta), _) | (Err(_), Ok(meta)) => meta,
        (Err(NotMeta::Magic), Err(_)) => return Err(Error::Invalid),
        (Err(NotMeta::Version), Err(_)) => return Err(Error::Version),
        (Err(NotMeta::Checksum), Err(_)) => return Err(Error::Checksum),
    };
    if !meta.page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&meta.page_bytes) {
        return Err(Error::Invalid);
    }
    Ok(meta)
}

/// A key with its value, or with the bucket it names.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub key: &'a [u8],
    /// Empty if this is a bucket.
    pub value: &'a [u8],
    pub bucket: Option<Bucket<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    pub(super) file: File<'a>,
    pub(super) root: BucketRoot<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum BucketRoot<'a> {
    /// A tree from this page down.
    Paged(u64),
    /// One leaf page inside the parent's row, on page `of`.
    Inline { of: u64, leaf: &'a [u8] },
}

impl<'a> Bucket<'a> {
    /// The rows in key order. Nothing follows an error.
    pub fn rows(&self) -> Rows<'a> {
        Rows { file: self.file, start: Some(self.root), stack: Vec::new() }
    }
}

/// See [`Bucket::rows`].
#[derive(Debug)]
pub struct Rows<'a> {
    file: File<'a>,
    start: Option<BucketRoot<'a>>,
    stack: Vec<Frame<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Frame<'a> {
    page: Page<'a>,
    /// The next element.
    index: usize,
    last: Option<&'a [u8]>,
    /// All keys are below.
    until: Option<&'a [u8]>,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.step();
        if row.is_err() {
            self.stack.clear();
        }
        row.transpose()
    }
}

impl<'a> Rows<'a> {
    fn step(&mut self) -> Result<Option<Row<'a>>, Error> {
        match self.start.take() {
            Some(BucketRoot::Paged(root)) => self.push(self.file.page(root)?, None),
            Some(BucketRoot::Inline { of, leaf }) => self.push(Page::inline(of, leaf)?, None),
            None => {}
        }
        while let Some(frame) = self.stack.last_mut() {
            if frame.index == frame.page.count {
                self.stack.pop();
                continue;
            }
            let Frame { page, index, last, until } = *frame;
            let key = page.key(index)?;
            if last.is_some_and(|last| key <= last) {
                return Err(page.bad("its keys are out of order"));
            }
            if until.is_some_and(|until| key >= until) {
                return Err(page.bad("a key lies beyond its parent's next"));
            }
            frame.index += 1;
            frame.last = Some(key);
            if page.is_leaf {
                return page.row(self.file, index, key).map(Some);
            }
            let until = if index + 1 < page.count { Some(page.key(index + 1)?) } else { until };
            self.descend(page, index, key, until)?;
        }
        Ok(None)
    }

    fn descend(
        &mut self,
        parent: Page<'a>,
        index: usize,
        from: &[u8],
        until: Option<&'a [u8]>,
    ) -> Result<(), Error> {
        if self.stack.len() == DEPTH_MAX {
            return Err(parent.bad("lies too deep"));
        }
        let child = self.file.page(parent.child(index)?)?;
        if child.count == 0 {
            return Err(child.bad("is empty"));
        }
        if child.key(0)? < from {
            return Err(child.bad("a key lies before its parent's"));
        }
        self.push(child, until);
        Ok(())
    }

    fn push(&mut self, page: Page<'a>, until: Option<&'a [u8]>) {
        self.stack.push(Frame { page, index: 0, last: None, until });
    }
}

/// A branch or leaf page whose elements lie within it; where they point is checked when they are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    id: u64,
    pub is_leaf: bool,
    pub count: usize,
    bytes: &'a [u8],
}

impl<'a> Page<'a> {
    fn new(id: u64, header: Header, bytes: &'a [u8]) -> Result<Self, Error> {
        let bad = |what| Error::Page { page: id, what };
        let is_leaf = match header.flags {
            LEAF => true,
            BRANCH => false,
            _ => return Err(bad("is neither branch nor leaf")),
        };
        let count = usize::from(header.count);
        if HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(bad("has more elements than room"));
        }
        if count == 0 && !is_leaf {
            return Err(bad("is an empty branch"));
        }
        Ok(Self { id, is_leaf, count, bytes })
    }

    /// The page of a bucket that lies in a row on page `of`.
    pub(super) fn inline(of: u64, leaf: &'a [u8]) -> Result<Self, Error> {
        let header =
            Header::decode(leaf).ok_or(Error::Page { page: of, what: "a bucket in it is cut short" })?;
        if header.flags != LEAF {
            return Err(Error::Page { page: of, what: "a bucket in it is not a leaf" });
        }
        Self::new(of, header, leaf)
    }

    pub(super) fn bad(&self, what: &'static str) -> Error {
        Error::Page { page: self.id, what }
    }

    fn element(&self, index: usize) -> usize {
        debug_assert!(index < self.count);
        HEADER_BYTES + index * ELEMENT_BYTES
    }

    fn number(&self, at: usize) -> u32 {
        u32_at(self.bytes, at).expect("elements lie within the page")
    }

    fn slice(&self, element: usize, position: u32, skip: u32, len: u32) -> Result<&'a [u8], Error> {
        let from = element as u64 + u64::from(position) + u64::from(skip);
        let until = from + u64::from(len);
        if until > self.bytes.len() as u64 {
            return Err(self.bad("an element points outside"));
        }
        Ok(&self.bytes[from as usize..until as usize])
    }

    pub(super) fn key(&self, index: usize) -> Result<&'a [u8], Error> {
        let element = self.element(index);
        let (position, len) = match self.is_leaf {
            true => (self.number(element + 4), self.number(element + 8)),
            false => (self.number(element), self.number(element + 4)),
        };
        if len == 0 {
            return Err(self.bad("a key is empty"));
        }
        self.slice(element, position, 0, len)
    }

    /// The page below an element of a branch.
    pub(super) fn child(&self, index: usize) -> Result<u64, Error> {
        u64_at(self.bytes, self.element(index) + 8).ok_or(self.bad("an element points outside"))
    }

    /// The row of a leaf.
    pub(super) fn row(&self, file: File<'a>, index: usize, key: &'a [u8]) -> Result<Row<'a>, Error> {
        let element = self.element(index);
        let value = self.slice(
            element,
            self.number(element + 4),
            self.number(element + 8),
            self.number(element + 12),
        )?;
        if self.number(element) & IS_BUCKET == 0 {
            return Ok(Row { key, value, bucket: None });
        }
        let root = u64_at(value, 0).filter(|_| value.len() >= BUCKET_BYTES);
        let root = match root.ok_or(self.bad("a bucket in it is cut short"))? {
            0 => BucketRoot::Inline { of: self.id, leaf: &value[BUCKET_BYTES..] },
            root => BucketRoot::Paged(root),
        };
        Ok(Row { key, value: &[], bucket: Some(Bucket { file, root }) })
    }
}
