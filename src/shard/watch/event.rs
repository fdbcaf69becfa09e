//! What watches are told of: a version, encoded once for all who take it as it is.

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::state::{
    kv::event,
    mvcc::{Pos, Record, Store},
};

/// Encoded events, as they follow each other in an answer.
pub type Pieces = SmallVec<[Bytes; 1]>;

/// Which events a watch wants, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taste {
    pub puts: bool,
    pub deletes: bool,
    /// With what the key was before.
    pub prior: bool,
}

impl Taste {
    pub fn takes(self, is_delete: bool) -> bool {
        if is_delete { self.deletes } else { self.puts }
    }
}

/// Bytes of all events of a hub that are alive.
#[derive(Clone, Default)]
pub struct Held(Rc<Cell<usize>>);

impl Held {
    pub fn bytes(&self) -> usize {
        self.0.get()
    }
}

pub struct Event {
    pub is_delete: bool,
    plain: Option<Bytes>,
    with_prior: Option<Bytes>,
    held: Held,
}

/// What an event takes beside what is encoded.
const EVENT_BYTES: usize = 128;

impl Event {
    /// In the forms that are wanted of it.
    pub fn new(
        history: &Store,
        (pos, version): (Pos, &Record<'_>),
        plain: bool,
        prior: bool,
        held: &Held,
    ) -> Self {
        let before = if prior { history.prior(pos, version) } else { None };
        let with_prior = before.map(|before| event(version, Some(&before)));
        // Without anything before it, both are the same.
        let plain = (plain || with_prior.is_none()).then(|| event(version, None));
        let this = Self { is_delete: version.tombstone, plain, with_prior, held: held.clone() };
        held.0.set(held.bytes() + this.bytes());
        this
    }

    /// As it is told to whoever has this taste.
    pub fn encoded(&self, taste: Taste) -> &Bytes {
        let (first, second) =
            if taste.prior { (&self.with_prior, &self.plain) } else { (&self.plain, &self.with_prior) };
        first.as_ref().or(second.as_ref()).expect("it has one form at least")
    }

    pub fn bytes(&self) -> usize {
        let len = |form: &Option<Bytes>| form.as_ref().map_or(0, Bytes::len);
        EVENT_BYTES + len(&self.plain) + len(&self.with_prior)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let held = &self.held.0;
        held.set(held.get() - self.bytes());
    }
}
