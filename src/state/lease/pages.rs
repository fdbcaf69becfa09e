//! What is known of each lease, packed into pages of fixed records: the blocks of the space.
//!
//! ```text
//! page | id i64 | granted seconds i64 | seconds left at the last checkpoint, or 0 i64 |   little-endian, so many times
//! ```
//!
//! An id of 0 marks a record that is free. A lease stays where it is for as long as it lives. Those that are granted
//! together lie together, and mostly end together: so a checkpoint has little more to write than what changed. Pages
//! with much room are filled up before new ones are begun, and empty ones are dropped.
//!
//! A page's bytes are shared with the checkpoint that writes it, and then with the mapped file, until it changes again.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
};

use bytes::Bytes;

use crate::{
    block::{Block, BlockChange, BlockId, SpaceId},
    state::space::Unsaved,
};

/// The leases' own.
pub const SPACE: SpaceId = SpaceId(2);

/// Leases of a page.
pub const PAGE_LEASES: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 8;
/// With fewer, a page is filled up again.
const PAGE_FULL: usize = PAGE_LEASES / 4 * 3;
const RECORD_BYTES: usize = 24;
const PAGE_BYTES: usize = PAGE_LEASES * RECORD_BYTES;
const FREE: Lease = Lease { id: 0, ttl: 0, remaining: 0 };

/// A lease, as far as the log knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Never 0.
    pub id: i64,
    /// Granted seconds.
    pub ttl: i64,
    /// Seconds left when that was last noted, 0 if it never was or the lease was renewed since.
    pub remaining: i64,
}

impl Lease {
    fn encode(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        for (number, into) in [self.id, self.ttl, self.remaining].iter().zip(bytes.as_chunks_mut::<8>().0) {
            *into = number.to_le_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let [id, ttl, remaining] = std::array::from_fn(|at| i64::from_le_bytes(numbers[at]));
        Self { id, ttl, remaining }
    }
}

/// Where a lease lies for as long as it lives. Another may lie there afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(NonZeroU64);

impl Place {
    pub fn of(page: u64, slot: usize) -> Self {
        assert!(slot < PAGE_LEASES && page < (1 << (u64::BITS - SLOT_BITS)) - 1, "a place fits its bits");
        Self(NonZeroU64::MIN.saturating_add(page << SLOT_BITS | slot as u64))
    }

    pub fn page(self) -> u64 {
        self.number() >> SLOT_BITS
    }

    pub fn slot(self) -> usize {
        self.number() as usize & (PAGE_LEASES - 1)
    }

    fn number(self) -> u64 {
        self.0.get() - 1
    }
}

enum Body {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    fn own(&mut self) -> &mut Vec<u8> {
        if let Self::Shared(bytes) = self {
            let mut own = Vec::with_capacity(PAGE_BYTES);
            own.extend_from_slice(bytes);
            *self = Self::Own(own);
        }
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(_) => unreachable!("just copied"),
        }
    }

    fn share(&mut self) -> Bytes {
        if let Self::Own(bytes) = self {
            *self = Self::Shared(std::mem::take(bytes).into());
        }
        match self {
            Self::Shared(bytes) => bytes.clone(),
            Self::Own(_) => unreachable!("just shared"),
        }
    }
}

struct Page {
    body: Body,
    live: usize,
    /// The newest checkpoint, finished or under way, lacks what it is now.
    unsaved: bool,
    /// Some checkpoint, finished or under way, has an image of it.
    stored: bool,
}

/// All pages, by number.
#[derive(Default)]
pub struct Pages {
    pages: BTreeMap<u64, Page>,
    /// Above every page there ever was.
    next: u64,
    /// Where the next lease goes: a page, and the first record of it that may be free.
    open: Option<(u64, usize)>,
    /// Others with much room.
    sparse: BTreeSet<u64>,
    /// Every page that is unsaved, and some that are not any more.
    unsaved: Vec<u64>,
    /// Pages that are gone while a checkpoint has them.
    dropped: Vec<u64>,
    taken: Option<Taken>,
}

/// What the checkpoint under way is to write.
struct Taken {
    images: Vec<u64>,
    dropped: Vec<u64>,
}

/// The records of a page that are not free, and the slots where they lie.
pub fn records(page: &[u8]) -> impl Iterator<Item = (usize, Lease)> {
    let (records, _) = page.as_chunks::<RECORD_BYTES>();
    records.iter().map(Lease::decode).enumerate().filter(|(_, lease)| lease.id != 0)
}

impl Pages {
    pub fn get(&self, place: Place) -> Lease {
        let page = &self.pages[&place.page()];
        let (records, _) = page.body.bytes().as_chunks();
        Lease::decode(&records[place.slot()])
    }

    /// What lies there, if it is a lease.
    pub fn find(&self, place: Place) -> Option<Lease> {
        let (records, _) = self.pages.get(&place.page())?.body.bytes().as_chunks();
        Some(Lease::decode(records.get(place.slot())?)).filter(|lease| *lease != FREE)
    }

    pub fn set(&mut self, place: Place, lease: Lease) {
        let page = self.pages.get_mut(&place.page()).expect("a lease has its page");
        let (records, _) = page.body.own().as_chunks_mut();
        records[place.slot()] = lease.encode();
        self.changed(place.page());
    }

    pub fn add(&mut self, lease: Lease) -> Place {
        assert!(lease != FREE && lease.id != 0, "a free record is told by its id");
        let (number, slot) = self.room();
        self.open = Some((number, slot + 1));
        let page = self.pages.get_mut(&number).expect("it has room");
        let body = page.body.own();
        match body.as_chunks_mut().0.get_mut(slot) {
            Some(record) => *record = lease.encode(),
            None => body.extend_from_slice(&lease.encode()),
        }
        page.live += 1;
        self.changed(number);
        Place::of(number, slot)
    }

    /// A page and a record of it that is free.
    fn room(&mut self) -> (u64, usize) {
        while let Some((number, from)) = self.open.take().or_else(|| Some((self.sparse.pop_first()?, 0))) {
            let page = &self.pages[&number];
            let (records, _) = page.body.bytes().as_chunks::<RECORD_BYTES>();
            let free = (from..records.len()).find(|at| Lease::decode(&records[*at]) == FREE);
            let slot = free.unwrap_or(from.max(records.len()));
            if slot < PAGE_LEASES {
                return (number, slot);
            }
            // What was freed before the place that was looked at waits for its turn.
            if page.live < PAGE_FULL {
                self.sparse.insert(number);
            }
        }
        let number = self.next;
        self.next += 1;
        let body = Body::Own(Vec::with_capacity(PAGE_BYTES));
        self.pages.insert(number, Page { body, live: 0, unsaved: false, stored: false });
        (number, 0)
    }

    pub fn remove(&mut self, place: Place) {
        let number = place.page();
        let page = self.pages.get_mut(&number).expect("a lease has its page");
        let (records, _) = page.body.own().as_chunks_mut();
        records[place.slot()] = FREE.encode();
        if !std::mem::replace(&mut page.unsaved, true) {
            self.unsaved.push(number);
        }
        page.live -= 1;
        let is_open = self.open.is_some_and(|(open, _)| open == number);
        if page.live == 0 {
            if page.stored {
                self.dropped.push(number);
            }
            self.pages.remove(&number);
            self.sparse.remove(&number);
            if is_open {
                self.open = None;
            }
        } else if page.live == PAGE_FULL - 1 && !is_open {
            self.sparse.insert(number);
        }
    }

    fn changed(&mut self, number: u64) {
        let page = self.pages.get_mut(&number).expect("it was changed");
        if !std::mem::replace(&mut page.unsaved, true) {
            self.unsaved.push(number);
        }
    }

    /// The first page from this number on, and its number.
    pub fn page_from(&self, number: u64) -> Option<(u64, &[u8])> {
        let (number, page) = self.pages.range(number..).next()?;
        Some((*number, page.body.bytes()))
    }

    /// Every page as it is now, without a copy.
    pub fn share(&mut self) -> Vec<Bytes> {
        self.pages.values_mut().map(|page| page.body.share()).collect()
    }

    /// A page that a checkpoint has.
    pub fn load(&mut self, block: &Block) -> Result<(), &'static str> {
        let number = block.id.number;
        let len = block.body.len();
        if len > PAGE_BYTES || !len.is_multiple_of(RECORD_BYTES) {
            return Err("a page of leases has not the length of any");
        }
        let live = records(&block.body).count();
        let page = Page { body: Body::Shared(block.body.clone()), live, unsaved: false, stored: true };
        if live < PAGE_FULL {
            self.sparse.insert(number);
        }
        self.next = self.next.max(number + 1);
        let before = self.pages.insert(number, page);
        if before.is_some() { Err("a page of leases comes twice") } else { Ok(()) }
    }

    /// Pages below this number were there before.
    pub fn begin_at(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    pub fn next_page(&self) -> u64 {
        self.next
    }
}

/// What of them the newest checkpoint does not have, and the way there and back.
impl Pages {
    pub fn unsaved(&self) -> Unsaved {
        Unsaved { bytes: self.unsaved.len() * PAGE_BYTES, blocks: self.unsaved.len() + self.dropped.len() }
    }

    pub fn changes(&mut self) -> Vec<BlockChange> {
        assert!(self.taken.is_none(), "one checkpoint at a time");
        let id = |number| BlockId { space: SPACE, number };
        let mut changes = Vec::with_capacity(self.unsaved().blocks);
        let mut images = std::mem::take(&mut self.unsaved);
        images.retain(|number| {
            let Some(page) = self.pages.get_mut(number) else { return false };
            (page.unsaved, page.stored) = (false, true);
            let body = page.body.share();
            changes.push(BlockChange::Write(Block { id: id(*number), meta: Vec::new(), body }));
            true
        });
        let dropped = std::mem::take(&mut self.dropped);
        changes.extend(dropped.iter().map(|number| BlockChange::Drop { id: id(*number) }));
        self.taken = Some(Taken { images, dropped });
        changes
    }

    pub fn saved(&mut self) {
        self.taken = None;
    }

    pub fn not_saved(&mut self) {
        let Taken { images, dropped } = self.taken.take().expect("a checkpoint was under way");
        for number in images {
            if self.pages.contains_key(&number) {
                self.changed(number);
            }
        }
        self.dropped.extend(dropped);
    }

    /// The page's image lies at `mapped` as well: the heap's copy is given up, unless it has changed since.
    pub fn place(&mut self, number: u64, mapped: Bytes) {
        if let Some(page) = self.pages.get_mut(&number)
            && !page.unsaved
        {
            assert_eq!(page.body.bytes().len(), mapped.len(), "page {number} on disk is not the one written");
            page.body = Body::Shared(mapped);
        }
    }
}
