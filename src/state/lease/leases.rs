//! All leases: by id, with their keys, and as a space.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;

use super::{
    keys::Keys,
    pages::{self, Lease, Pages, Place, SPACE},
};
use crate::{
    block::{Block, BlockChange, SpaceId},
    state::space::{Space, Unsaved},
};

#[derive(Default)]
pub struct Leases {
    by_id: BTreeMap<i64, Held>,
    pages: Pages,
}

struct Held {
    place: Place,
    keys: Keys,
}

/// What became of a lease that was to go.
pub(super) enum Removed {
    /// It lay there.
    Gone(Place),
    /// It stays: its keys have to go first.
    HasKeys,
    NotThere,
}

impl Leases {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn get(&self, id: i64) -> Option<Lease> {
        Some(self.pages.get(self.place_of(id)?))
    }

    /// Where it lies for as long as it lives.
    pub fn place_of(&self, id: i64) -> Option<Place> {
        Some(self.by_id.get(&id)?.place)
    }

    /// The lease that lies there now.
    pub fn at(&self, place: Place) -> Option<Lease> {
        self.pages.find(place)
    }

    /// The next page from this number on: its number, and its leases by slot.
    pub fn page_from(&self, number: u64) -> Option<(u64, impl Iterator<Item = (usize, Lease)>)> {
        let (number, bytes) = self.pages.page_from(number)?;
        Some((number, pages::records(bytes)))
    }

    /// All of this moment, page by page, without a copy; see [`Leases::read`].
    pub fn share(&mut self) -> Vec<Bytes> {
        self.pages.share()
    }

    /// The leases of a shared page.
    pub fn read(page: &[u8]) -> impl Iterator<Item = Lease> {
        pages::records(page).map(|(_, lease)| lease)
    }

    /// A lease that is not there yet.
    pub fn add(&mut self, lease: Lease) -> Place {
        let place = self.pages.add(lease);
        let before = self.by_id.insert(lease.id, Held { place, keys: Keys::None });
        assert!(before.is_none(), "a lease is granted once");
        place
    }

    /// A lease goes, unless it has keys. It is looked for once: among a million that takes longer than all else.
    pub(super) fn remove(&mut self, id: i64) -> Removed {
        let Entry::Occupied(held) = self.by_id.entry(id) else { return Removed::NotThere };
        if held.get().keys.len() > 0 {
            return Removed::HasKeys;
        }
        let Held { place, .. } = held.remove();
        self.pages.remove(place);
        Removed::Gone(place)
    }

    /// Nothing to note of one that is not there.
    pub(super) fn set_remaining(&mut self, id: i64, remaining: i64) {
        let Some(place) = self.place_of(id) else { return };
        let lease = self.pages.get(place);
        if lease.remaining != remaining {
            self.pages.set(place, Lease { remaining, ..lease });
        }
    }

    /// A key that was attached to lease `before` is attached to `now`; 0 is none.
    #[inline]
    pub fn attach(&mut self, before: i64, now: i64, key: &[u8]) {
        if before != now {
            self.reattach(before, now, key);
        }
    }

    fn reattach(&mut self, before: i64, now: i64, key: &[u8]) {
        if let Some(held) = self.by_id.get_mut(&before) {
            held.keys.remove(key);
        }
        if let Some(held) = self.by_id.get_mut(&now) {
            held.keys.insert(key);
        }
    }

    /// Keys attached to it; 0 if there is no such lease.
    pub fn key_count(&self, id: i64) -> usize {
        self.by_id.get(&id).map_or(0, |held| held.keys.len())
    }

    /// The keys attached to it that come after this one, in order. While a write pauses, those are missing that it has
    /// deleted.
    pub fn keys_after<'a>(
        &'a self,
        id: i64,
        key: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.by_id.get(&id).into_iter().flat_map(move |held| held.keys.after(key))
    }

    /// The first of the keys attached to it that is not before this one.
    pub fn key_from(&self, id: i64, key: &[u8]) -> Option<&[u8]> {
        self.by_id.get(&id)?.keys.from(key)
    }

    /// Takes away the first key attached to it.
    pub(super) fn pop_key(&mut self, id: i64) -> Option<Box<[u8]>> {
        self.by_id.get_mut(&id)?.keys.pop_first()
    }

    /// Adds a block, in any order.
    pub fn load(&mut self, block: &Block) -> Result<(), &'static str> {
        self.pages.load(block)?;
        for (slot, lease) in pages::records(&block.body) {
            let place = Place::of(block.id.number, slot);
            if self.by_id.insert(lease.id, Held { place, keys: Keys::None }).is_some() {
                return Err("a lease comes twice");
            }
        }
        Ok(())
    }

    /// What they knew of themselves besides blocks; false if it makes no sense.
    pub fn take_facts(&mut self, facts: &[u8]) -> bool {
        let next = facts.try_into().map(u64::from_le_bytes);
        next.map(|next| self.pages.begin_at(next)).is_ok()
    }
}

/// Pages are the blocks.
impl Space for Leases {
    fn id(&self) -> SpaceId {
        SPACE
    }

    fn unsaved(&self) -> Unsaved {
        self.pages.unsaved()
    }

    fn changes(&mut self) -> Vec<BlockChange> {
        self.pages.changes()
    }

    fn saved(&mut self) {
        self.pages.saved();
    }

    fn not_saved(&mut self) {
        self.pages.not_saved();
    }

    fn place(&mut self, number: u64, mapped: Bytes) {
        self.pages.place(number, mapped);
    }

    /// The number of the next page.
    fn facts(&self) -> Vec<u8> {
        self.pages.next_page().to_le_bytes().to_vec()
    }
}
