//! Clients as the stages behind their connections see them: what memory is held for each, and for all of one core.
//!
//! A connection makes a [`Client`] and hands it on with each call. What is held on its behalf is counted here: calls under
//! way, messages that have not come to their end, answers that were not taken, pairs that are being sorted. What is
//! bounded for each call or connection is thereby bounded in sum, and who holds the most pays:
//! - while a client holds more than its part, nothing further is begun for it ([`Client::has_room`]): back-pressure;
//! - what grows with the client's own doing is a [`Claim`]. Where a claim finds no room, the youngest one of whoever
//!   holds the most beside its first is revoked, which its owner answers with `too many requests`: refusal, and no two ever wait for each
//!   other.
//!
//! Invariant: claims never bring the sum above the bound. What cannot be refused, as it is there already, may add to it:
//! answers, one for each call under way at most.
//!
//! Single-core, without locks. What is counted is not owned here: a count lives as long as its [`Charge`] or [`Claim`].

mod claim;
mod gate;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
};

use crate::limits;

pub use claim::{Claim, Revoked};
pub use gate::{Gate, Line, Permit};

/// All clients of one core. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clients(Rc<All>);

/// One connection's client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Rc<One>);

#[derive(Debug)]
struct All {
    bounds: Bounds,
    used: Cell<usize>,
    /// Clients for whom anything is held.
    holders: Cell<usize>,
    next: Cell<u64>,
    /// Clients who claim something; whoever makes room first is the last.
    claimants: RefCell<BTreeMap<Rank, Weak<One>>>,
}

/// What a client claims beyond the oldest of its claims, what it claims in all, and its number: each may have one claim
/// before others pay for it.
type Rank = (usize, usize, u64);

/// Bytes that may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub total: usize,
    /// For one client.
    pub each: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { total: limits::CLIENTS_BYTES, each: limits::CLIENT_BYTES }
    }
}

#[derive(Debug)]
struct One {
    clients: Clients,
    id: u64,
    used: Cell<usize>,
    /// Part of it: answers that h2 was given, or that wait for it.
    unsent: Cell<usize>,
    /// Part of it: claims, by age, and their sum.
    claims: RefCell<BTreeMap<u64, Rc<claim::State>>>,
    claimed: Cell<usize>,
    rank: Cell<Option<Rank>>,
    /// Calls that wait until more was sent.
    unsent_line: Line,
    /// Long reads under way, and those of them that have many pairs in memory.
    reads: Rc<Gate>,
    sorts: Rc<Gate>,
    passwords: Rc<Gate>,
    writes: Writes,
}

/// A client's writes that were admitted and are not applied yet.
#[derive(Debug, Default)]
pub struct Writes {
    pub count: Cell<usize>,
    pub bytes: Cell<usize>,
    /// Those that wait to be admitted.
    pub line: Line,
}

impl Default for Clients {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Clients {
    pub fn new(bounds: Bounds) -> Self {
        assert!(0 < bounds.each && bounds.each <= bounds.total, "no client would have room: {bounds:?}");
        Self(Rc::new(All {
            bounds,
            used: Cell::new(0),
            holders: Cell::new(0),
            next: Cell::new(1),
            claimants: RefCell::default(),
        }))
    }

    pub fn client(&self) -> Client {
        let id = self.0.next.replace(self.0.next.get() + 1);
        Client(Rc::new(One {
            clients: self.clone(),
            id,
            used: Cell::new(0),
            unsent: Cell::new(0),
            claims: RefCell::default(),
            claimed: Cell::new(0),
            rank: Cell::new(None),
            unsent_line: Line::default(),
            reads: Gate::new(limits::CLIENT_READS_MAX),
            sorts: Gate::new(limits::CLIENT_SORTS_MAX),
            passwords: Gate::new(1),
            writes: Writes::default(),
        }))
    }

    pub fn bounds(&self) -> Bounds {
        self.0.bounds
    }

    /// Bytes held for all of them.
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// What each may hold so that all have their part. While there is plenty for all, that is the bound for one.
    fn part(&self) -> usize {
        let Bounds { total, each } = self.0.bounds;
        if self.used() <= total / 2 { each } else { each.min(total / 2 / self.0.holders.get().max(1)) }
    }
}

impl Default for Client {
    /// The only one.
    fn default() -> Self {
        Clients::default().client()
    }
}

impl Client {
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Bytes held for it.
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// Bytes of answers that it has not taken yet.
    pub fn unsent(&self) -> usize {
        self.0.unsent.get()
    }

    /// Whether anything further may be begun for it.
    pub fn has_room(&self) -> bool {
        self.used() <= self.0.clients.part()
    }

    /// Whether something of so many bytes may be kept for when there is room.
    pub fn may_keep(&self, bytes: usize) -> bool {
        self.0.clients.used() + bytes <= self.0.clients.bounds().total
    }

    /// Waits until it has taken enough of its answers for another one to be made.
    pub async fn taken(&self) {
        self.0.unsent_line.pass(|| self.has_taken()).await;
    }

    pub fn has_taken(&self) -> bool {
        self.unsent() <= self.0.clients.part()
    }

    /// Waits until a long read may go on: only so many of a client do at the same time.
    pub async fn read(&self) -> Permit {
        self.0.reads.enter().await
    }

    /// The same for a read that has many pairs in memory.
    pub async fn sort(&self) -> Permit {
        self.0.sorts.enter().await
    }

    /// The line for its passwords to be looked at, one at a time.
    pub fn passwords(&self) -> &Rc<Gate> {
        &self.0.passwords
    }

    pub fn writes(&self) -> &Writes {
        &self.0.writes
    }

    /// Counts what is there already.
    pub fn charge(&self, bytes: usize) -> Charge {
        self.add(bytes);
        Charge { client: self.clone(), bytes, is_unsent: false }
    }

    /// Counts a piece of an answer until it is sent or given up.
    pub fn owe(&self, bytes: usize) -> Charge {
        self.add(bytes);
        self.0.unsent.set(self.unsent() + bytes);
        Charge { client: self.clone(), bytes, is_unsent: true }
    }

    /// Something that will grow, empty for now.
    pub fn claim(&self) -> Claim {
        Claim::new(self.clone())
    }

    fn add(&self, bytes: usize) {
        let (one, all) = (&self.0, &self.0.clients.0);
        let before = one.used.get();
        if before == 0 && bytes > 0 {
            all.holders.set(all.holders.get() + 1);
        }
        one.used.set(before + bytes);
        all.used.set(all.used.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        let (one, all) = (&self.0, &self.0.clients.0);
        let after = one.used.get() - bytes;
        if after == 0 && bytes > 0 {
            all.holders.set(all.holders.get() - 1);
        }
        one.used.set(after);
        all.used.set(all.used.get() - bytes);
    }
}

/// A count that ends when it is dropped.
#[derive(Debug)]
pub struct Charge {
    client: Client,
    bytes: usize,
    is_unsent: bool,
}

impl Charge {
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.client.subtract(self.bytes);
        if self.is_unsent {
            let one = &self.client.0;
            one.unsent.set(one.unsent.get() - self.bytes);
            one.unsent_line.move_up();
        }
    }
}
