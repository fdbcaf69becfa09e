//! Writing: place with the lengths, then write with the values, piece by piece.
//!
//! ```text
//! Placer::new -> row(key, value length) ... -> finish -> Placement -> write -> row(key, value) ... -> finish
//!                                                 bytes()              piece() in between
//! ```

use bytes::{Bytes, BytesMut};

use super::{
    format::{
        BRANCH, BUCKET_BYTES, ELEMENT_BYTES, FREELIST, HEADER_BYTES, Header, IS_BUCKET, KEY_BYTES_MAX, LEAF,
        META, Meta, PAGE_BYTES, VALUE_BYTES_MAX, bucket_value,
    },
    tree::{Child, Finished, Nowhere, Pages, Tree},
};

/// Size of the pieces a file is handed out in, as of the messages of etcd's `Maintenance.Snapshot`; the last one is
/// shorter.
pub const PIECE_BYTES: usize = 32 * 1024;
/// bbolt keeps a bucket inside its parent while it takes no more than a quarter of a page.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;
const FREELIST_PAGE: u64 = 2;
const FIRST_PAGE: u64 = 3;
/// Of the two meta pages the one with the higher transaction counts, and transaction n goes to page n % 2.
const TRANSACTION: u64 = 2;

/// What was asked for cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a key must follow the one before it")]
    Order,
    #[error("a key takes 1 to {KEY_BYTES_MAX} bytes, not {0}")]
    KeyBytes(usize),
    #[error("a value takes at most {VALUE_BYTES_MAX} bytes, not {0}")]
    ValueBytes(usize),
    #[error("the rows written are not the rows that were planned")]
    Unplanned,
}

/// A bucket that is given whole, its rows in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Small {
    pub name: Vec<u8>,
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Small {
    fn is_inline(&self) -> bool {
        let rows: usize = self.rows.iter().map(|(key, value)| ELEMENT_BYTES + key.len() + value.len()).sum();
        HEADER_BYTES + rows <= INLINE_BYTES_MAX
    }

    fn check(&self) -> Result<(), Error> {
        let mut order = Order::default();
        self.rows.iter().try_for_each(|(key, value)| order.next(key, value.len()))
    }

    /// The bucket as the value of its name.
    fn value(&self, root: u64) -> Vec<u8> {
        let mut value = bucket_value(root).to_vec();
        if self.is_inline() {
            let mut leaf = Leaf::default();
            self.rows.iter().for_each(|(key, value)| leaf.row(0, key, value));
            leaf.append_to(&mut value, 0, 0);
        }
        value
    }
}

/// Refuses rows that a reader would not find again.
#[derive(Debug, Default)]
struct Order {
    last: Vec<u8>,
}

impl Order {
    fn next(&mut self, key: &[u8], value_bytes: usize) -> Result<(), Error> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::KeyBytes(key.len()));
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(Error::ValueBytes(value_bytes));
        }
        if key <= self.last.as_slice() {
            return Err(Error::Order);
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }
}

/// The first pass.
#[derive(Debug)]
pub struct Placer {
    small: Vec<Small>,
    /// Root pages of `small`, 0 for the inline ones.
    roots: Vec<u64>,
    large: Vec<u8>,
    tree: Tree,
    order: Order,
    rows: u64,
}

impl Placer {
    /// `large` is the name of the bucket whose rows are given one by one. Names are those of buckets: all different.
    pub fn new(large: &[u8], small: Vec<Small>) -> Result<Self, Error> {
        let mut names: Vec<&[u8]> = small.iter().map(|bucket| &bucket.name[..]).chain([large]).collect();
        names.sort_unstable();
        let mut order = Order::default();
        names.into_iter().try_for_each(|name| order.next(name, 0))?;
        small.iter().try_for_each(Small::check)?;

        let mut next_page = FIRST_PAGE;
        let mut roots = Vec::with_capacity(small.len());
        for bucket in &small {
            if bucket.is_inline() {
                roots.push(0);
                continue;
            }
            let mut tree = Tree::from_page(next_page);
            bucket.rows.iter().for_each(|(key, value)| tree.admit(key, value.len(), &mut Nowhere));
            let finished = tree.finish(&mut Nowhere);
            roots.push(finished.root);
            next_page = finished.next_page;
        }
        Ok(Self {
            small,
            roots,
            large: large.to_vec(),
            tree: Tree::from_page(next_page),
            order: Order::default(),
            rows: 0,
        })
    }

    /// The next row of the large bucket.
    pub fn row(&mut self, key: &[u8], value_bytes: usize) -> Result<(), Error> {
        self.order.next(key, value_bytes)?;
        self.tree.admit(key, value_bytes, &mut Nowhere);
        self.rows += 1;
        Ok(())
    }

    pub fn finish(self) -> Placement {
        let large = self.tree.finish(&mut Nowhere);
        let mut buckets: Vec<(Vec<u8>, Vec<u8>)> = self
            .small
            .iter()
            .zip(&self.roots)
            .map(|(bucket, root)| (bucket.name.clone(), bucket.value(*root)))
            .collect();
        buckets.push((self.large, bucket_value(large.root).to_vec()));
        buckets.sort_unstable();
        let mut root = Tree::from_page(large.next_page);
        buckets.iter().for_each(|(name, value)| root.admit(name, value.len(), &mut Nowhere));
        let root = root.finish(&mut Nowhere);
        Placement { small: self.small, buckets, rows: self.rows, large, root }
    }
}

/// Where everything goes.
#[derive(Debug)]
pub struct Placement {
    small: Vec<Small>,
    /// Rows of the root bucket.
    buckets: Vec<(Vec<u8>, Vec<u8>)>,
    rows: u64,
    large: Finished,
    root: Finished,
}

impl Placement {
    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.root.next_page * PAGE_BYTES as u64
    }

    /// Begins the second pass.
    pub fn write(self) -> Writer {
        let mut out = Out::default();
        let meta = Meta {
            page_bytes: PAGE_BYTES as u32,
            root: self.root.root,
            freelist: FREELIST_PAGE,
            pages: self.root.next_page,
            transaction: TRANSACTION,
        };
        for (id, transaction) in [(0, TRANSACTION), (1, TRANSACTION - 1)] {
            let mut page = Header { id, flags: META, count: 0, overflow: 0 }.encode().to_vec();
            page.extend_from_slice(&Meta { transaction, ..meta }.encode());
            out.page(&page, 1);
        }
        out.page(&Header { id: FREELIST_PAGE, flags: FREELIST, count: 0, overflow: 0 }.encode(), 1);

        let mut next_page = FIRST_PAGE;
        for bucket in self.small.iter().filter(|bucket| !bucket.is_inline()) {
            next_page = write_tree(next_page, 0, &bucket.rows, &mut out).next_page;
        }
        Writer { tree: Tree::from_page(next_page), placement: self, order: Order::default(), rows: 0, out }
    }
}

fn write_tree(from_page: u64, flags: u32, rows: &[(Vec<u8>, Vec<u8>)], out: &mut Out) -> Finished {
    let mut tree = Tree::from_page(from_page);
    for (key, value) in rows {
        tree.admit(key, value.len(), out);
        out.leaf.row(flags, key, value);
    }
    tree.finish(out)
}

/// The second pass.
#[derive(Debug)]
pub struct Writer {
    placement: Placement,
    tree: Tree,
    order: Order,
    rows: u64,
    out: Out,
}

impl Writer {
    /// The next row of the large bucket, the same as in the first pass.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.order.next(key, value.len())?;
        self.tree.admit(key, value.len(), &mut self.out);
        self.out.leaf.row(0, key, value);
        self.rows += 1;
        if self.rows > self.placement.rows {
            return Err(Error::Unplanned);
        }
        Ok(())
    }

    /// The next [`PIECE_BYTES`] of the file, if that many are ready.
    pub fn piece(&mut self) -> Option<Bytes> {
        (self.out.bytes.len() >= PIECE_BYTES).then(|| self.out.bytes.split_to(PIECE_BYTES).freeze())
    }

    /// Ends the file and returns what no [`Writer::piece`] has returned, in pieces.
    pub fn finish(mut self) -> Result<Vec<Bytes>, Error> {
        if self.tree.finish(&mut self.out) != self.placement.large || self.rows != self.placement.rows {
            return Err(Error::Unplanned);
        }
        let root =
            write_tree(self.placement.large.next_page, IS_BUCKET, &self.placement.buckets, &mut self.out);
        assert_eq!(root, self.placement.root, "the root holds what was planned");
        let mut pieces = Vec::new();
        while !self.out.bytes.is_empty() {
            let len = self.out.bytes.len().min(PIECE_BYTES);
            pieces.push(self.out.bytes.split_to(len).freeze());
        }
        Ok(pieces)
    }
}

/// Finished pages, and the rows of the open leaf.
#[derive(Debug, Default)]
struct Out {
    bytes: BytesMut,
    leaf: Leaf,
    scratch: Vec<u8>,
}

impl Out {
    fn page(&mut self, page: &[u8], pages: u64) {
        self.bytes.extend_from_slice(page);
        let padding = pages as usize * PAGE_BYTES - page.len();
        self.bytes.resize(self.bytes.len() + padding, 0);
    }

    fn scratch(&mut self, fill: impl FnOnce(&mut Vec<u8>, &mut Leaf), pages: u64) {
        let mut page = std::mem::take(&mut self.scratch);
        page.clear();
        fill(&mut page, &mut self.leaf);
        self.page(&page, pages);
        self.scratch = page;
    }
}

impl Pages for Out {
    fn leaf(&mut self, id: u64, pages: u64) {
        let overflow = overflow(pages);
        self.scratch(|page, leaf| leaf.append_to(page, id, overflow), pages);
    }

    fn branch(&mut self, id: u64, pages: u64, children: &[Child]) {
        let count = u16::try_from(children.len()).expect("a page of children");
        self.scratch(
            |page, _| {
                page.extend_from_slice(
                    &Header { id, flags: BRANCH, count, overflow: overflow(pages) }.encode(),
                );
                let mut offset = 0;
                for (index, child) in children.iter().enumerate() {
                    page.extend_from_slice(&position(children.len() - index, offset));
                    page.extend_from_slice(&(child.key.len() as u32).to_le_bytes());
                    page.extend_from_slice(&child.page.to_le_bytes());
                    offset += child.key.len();
                }
                children.iter().for_each(|child| page.extend_from_slice(&child.key));
            },
            pages,
        );
    }
}

/// The rows of a leaf page that is not finished.
#[derive(Debug, Default)]
struct Leaf {
    /// Flags, key bytes, value bytes.
    elements: Vec<(u32, u32, u32)>,
    data: Vec<u8>,
}

impl Leaf {
    fn row(&mut self, flags: u32, key: &[u8], value: &[u8]) {
        self.elements.push((flags, key.len() as u32, value.len() as u32));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    /// Appends the page and forgets the rows.
    fn append_to(&mut self, page: &mut Vec<u8>, id: u64, overflow: u32) {
        let count = u16::try_from(self.elements.len()).expect("a page of rows");
        page.extend_from_slice(&Header { id, flags: LEAF, count, overflow }.encode());
        let mut offset = 0;
        for (index, (flags, key, value)) in self.elements.iter().enumerate() {
            page.extend_from_slice(&flags.to_le_bytes());
            page.extend_from_slice(&position(self.elements.len() - index, offset));
            page.extend_from_slice(&key.to_le_bytes());
            page.extend_from_slice(&value.to_le_bytes());
            offset += (key + value) as usize;
        }
        page.extend_from_slice(&self.data);
        self.elements.clear();
        self.data.clear();
    }
}

/// Where the data at `offset` lies as seen from the element that has `elements_left` elements from itself to the data.
fn position(elements_left: usize, offset: usize) -> [u8; 4] {
    u32::try_from(elements_left * ELEMENT_BYTES + offset).expect("inside a page").to_le_bytes()
}

fn overflow(pages: u64) -> u32 {
    u32::try_from(pages - 1).expect("a row has fewer pages")
}

const _: () = assert!(BUCKET_BYTES + HEADER_BYTES < INLINE_BYTES_MAX);
