//! Who waits for what happens in the tree of the v2 API, by path.
//!
//! An event is put once, as it is, into the queue of everybody whom it concerns: those at its own path, those above who want
//! to know of what is below, and those below a directory that ended. Who wants one event leaves with it. Queues are
//! bounded in events and bytes: who has not taken so much is lost, with what there was, and asks again.
//!
//! Owned by the shard's core; each [`Wait`] belongs to a connection's task. Pure: it wakes tasks and knows nothing of them.
//!
//! Invariant: a wait is told of every event that concerns it from its first index on, once and in order, or that it is lost.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    ops::Bound,
    rc::Rc,
    task::{Poll, Waker},
};

use prost::Message;

use crate::{
    limits,
    state::v2::{Code, Event, Refused, Tree},
};

#[derive(Default)]
pub struct Waiters {
    places: BTreeMap<Box<[u8]>, BTreeMap<u64, Rc<Place>>>,
    /// Number of the next place.
    next: u64,
    count: usize,
    /// Index of the newest event that was told.
    told: u64,
}

struct Place {
    recursive: bool,
    /// More than the first event is wanted.
    is_stream: bool,
    /// Events before were told, or are not wanted.
    from: Cell<u64>,
    events: RefCell<VecDeque<Rc<Event>>>,
    /// About what they take, shared or not.
    bytes: Cell<usize>,
    is_lost: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// What somebody waits for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// [Clean](crate::state::v2::clean).
    pub key: Box<[u8]>,
    pub recursive: bool,
    pub is_stream: bool,
    /// 0 for what happens from now on.
    pub from: u64,
}

/// A wait that has begun. Dropping it ends it.
pub struct Wait {
    waiters: Rc<RefCell<Waiters>>,
    key: Box<[u8]>,
    number: u64,
    place: Rc<Place>,
    /// The tree's when it began.
    pub index: u64,
}

impl Waiters {
    /// Those that wait now.
    pub fn len(&self) -> usize {
        self.count
    }

    /// `index`: the tree's.
    pub fn begin(
        waiters: &Rc<RefCell<Self>>,
        tree: &Tree,
        index: u64,
        wanted: Wanted,
    ) -> Result<Wait, Refused> {
        let Wanted { key, recursive, is_stream, from } = wanted;
        let from = if from == 0 { index + 1 } else { from };
        let known = tree.events_from(from).map_err(|start| Refused {
            code: Code::EventIndexCleared,
            cause: format!("the requested history has been cleared [{start}/{from}]").into(),
            index,
        })?;
        let known = known.filter(|event| event.concerns(&key, recursive)).cloned();
        let events: VecDeque<_> = known.take(if is_stream { usize::MAX } else { 1 }).collect();
        let bytes = Cell::new(events.iter().map(|event| event.encoded_len()).sum());
        let is_answered = !is_stream && !events.is_empty();
        let place = Rc::new(Place {
            recursive,
            is_stream,
            from: Cell::new(from.max(index + 1)),
            events: RefCell::new(events),
            bytes,
            is_lost: Cell::new(false),
            waker: Cell::new(None),
        });
        let mut all = waiters.borrow_mut();
        let number = all.next;
        all.next += 1;
        if !is_answered {
            all.count += 1;
            all.places.entry(key.clone()).or_default().insert(number, place.clone());
        }
        drop(all);
        Ok(Wait { waiters: waiters.clone(), key, number, place, index })
    }

    /// An event was applied.
    pub fn publish(&mut self, event: &Rc<Event>) {
        self.told = event.index();
        if self.count == 0 || event.refresh {
            return;
        }
        let key = &event.node.key;
        let ends = (0..key.len()).filter(|at| key[*at] == b'/').chain([key.len()]);
        for end in ends {
            self.tell(&key[..end], event);
        }
        if event.ends_directory() {
            let mut below = [&key[..], b"/"].concat();
            let after = [&key[..], b"0"].concat();
            while let Some((path, _)) = self
                .places
                .range::<[u8], _>((Bound::Included(&below[..]), Bound::Excluded(&after[..])))
                .next()
            {
                let path = path.clone();
                self.tell(&path, event);
                below = [&path[..], b"\0"].concat();
            }
        }
    }

    fn tell(&mut self, path: &[u8], event: &Rc<Event>) {
        let Some(places) = self.places.get_mut(path) else { return };
        places.retain(|_, place| {
            let stays = !place.tell(path, event) || place.is_stream && !place.is_lost.get();
            self.count -= usize::from(!stays);
            stays
        });
        if places.is_empty() {
            self.places.remove(path);
        }
    }

    /// Another tree took the place of the one before: what it knows of the time since is told, or all are lost.
    pub fn replaced(&mut self, tree: &Tree, index: u64) {
        match tree.events_from(self.told + 1) {
            Ok(events) => events.cloned().collect::<Vec<_>>().iter().for_each(|event| self.publish(event)),
            Err(_) => {
                for place in std::mem::take(&mut self.places).into_values().flat_map(BTreeMap::into_values) {
                    place.lose();
                }
                self.count = 0;
            }
        }
        self.told = index;
    }

    fn leave(&mut self, key: &[u8], number: u64) {
        let Some(places) = self.places.get_mut(key) else { return };
        self.count -= usize::from(places.remove(&number).is_some());
        if places.is_empty() {
            self.places.remove(key);
        }
    }
}

impl Place {
    /// True if it has it.
    fn tell(&self, path: &[u8], event: &Rc<Event>) -> bool {
        if event.index() < self.from.get() || !event.concerns(path, self.recursive) {
            return false;
        }
        let (count, bytes) = (self.events.borrow().len(), self.bytes.get() + event.encoded_len());
        let is_much = count >= limits::V2_WAITING_EVENTS || bytes > limits::V2_WAITING_BYTES;
        if is_much && count > 0 {
            self.lose();
            return true;
        }
        self.events.borrow_mut().push_back(event.clone());
        self.bytes.set(bytes);
        self.wake();
        true
    }

    fn lose(&self) {
        self.is_lost.set(true);
        self.events.borrow_mut().clear();
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Wait {
    /// The next event; none if some are lost to it.
    pub fn next(&self) -> impl Future<Output = Option<Rc<Event>>> {
        poll_fn(|context| {
            if let Some(event) = self.place.events.borrow_mut().pop_front() {
                self.place.bytes.set(self.place.bytes.get() - event.encoded_len());
                return Poll::Ready(Some(event));
            }
            if self.place.is_lost.get() {
                return Poll::Ready(None);
            }
            self.place.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waiters.borrow_mut().leave(&self.key, self.number);
    }
}

#[cfg(test)]
mod tests;
