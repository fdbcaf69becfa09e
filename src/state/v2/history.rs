//! The newest events, by index: as many as etcd keeps, and no more bytes than memory should hold.
//!
//! Indices without an event are those of members, which nobody can wait for. Blocks of the space are runs of the events,
//! written again while they grow.

use std::{collections::VecDeque, rc::Rc};

use bytes::Bytes;
use prost::Message;

use super::{Event, SPACE};
use crate::{
    block::{Block, BlockChange, BlockId},
    limits,
    state::space::Unsaved,
};

/// Indices of one block.
const RUN: u64 = 64;
/// Block numbers from here on are those of runs.
const FIRST_BLOCK: u64 = 1 << 63;

#[derive(Debug, Default)]
pub struct History {
    events: VecDeque<Rc<Event>>,
    bytes: usize,
    /// Everything from here on is known.
    start: u64,
    /// Events from here on are in no checkpoint.
    unsaved: u64,
    /// Runs that are gone while a checkpoint has them.
    dropped: Vec<u64>,
    /// Of the checkpoint under way: from which index on it has what the one before lacks, and what it drops.
    taken: Option<(u64, Vec<u64>)>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRun {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Event>,
}

fn block(run: u64) -> BlockId {
    BlockId { space: SPACE, number: FIRST_BLOCK | run }
}

pub fn is_run(number: u64) -> bool {
    number >= FIRST_BLOCK
}

impl History {
    pub fn begin(&mut self, index: u64) {
        self.start = index.saturating_sub(limits::V2_HISTORY_EVENTS - 1).max(1);
        self.unsaved = index + 1;
    }

    /// The first index that is known.
    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn push(&mut self, event: Rc<Event>) {
        self.bytes += event.encoded_len();
        let index = event.index();
        self.events.push_back(event);
        self.reach(index);
        while self.bytes > limits::V2_HISTORY_BYTES && self.events.len() > 1 {
            let first = self.events[0].index() + 1;
            self.forget_before(first);
        }
    }

    /// The index is reached, with an event or without.
    pub fn reach(&mut self, index: u64) {
        self.forget_before((index + 1).saturating_sub(limits::V2_HISTORY_EVENTS));
    }

    fn forget_before(&mut self, first: u64) {
        let Some(_) = first.checked_sub(self.start).filter(|more| *more > 0) else { return };
        while self.events.front().is_some_and(|event| event.index() < first) {
            self.bytes -= self.events.pop_front().expect("just seen").encoded_len();
        }
        // A run that was begun to be written has no block if it is gone before; naming it does no harm.
        self.dropped.extend(self.start / RUN..first / RUN);
        self.start = first;
        self.unsaved = self.unsaved.max(first);
    }

    /// Events from this index on.
    pub fn from(&self, index: u64) -> impl Iterator<Item = &Rc<Event>> {
        let at = self.events.partition_point(|event| event.index() < index);
        self.events.range(at..)
    }

    /// Runs that have something new are written as a whole.
    fn first_to_write(&self) -> u64 {
        match self.from(self.unsaved).next() {
            Some(new) => new.index() / RUN * RUN,
            None => u64::MAX,
        }
    }

    pub fn unsaved(&self) -> Unsaved {
        let events = self.from(self.first_to_write());
        let (count, bytes) =
            events.fold((0, 0), |(count, bytes), event| (count + 1, bytes + event.encoded_len()));
        let blocks = if bytes == 0 { 0 } else { count / RUN as usize + 2 };
        Unsaved { bytes, blocks: blocks + self.dropped.len() }
    }

    /// `index`: the newest.
    pub fn changes(&mut self, index: u64) -> Vec<BlockChange> {
        let dropped = std::mem::take(&mut self.dropped);
        let mut changes: Vec<_> = dropped.iter().map(|run| BlockChange::Drop { id: block(*run) }).collect();
        let first = self.first_to_write();
        let from = std::mem::replace(&mut self.unsaved, index + 1);
        let mut events = self.from(first).peekable();
        while let Some(first) = events.peek() {
            let run = first.index() / RUN;
            let mut stored = StoredRun::default();
            while let Some(event) = events.next_if(|event| event.index() / RUN == run) {
                stored.events.push(Event::clone(event));
            }
            let body = stored.encode_to_vec().into();
            changes.push(BlockChange::Write(Block { id: block(run), meta: Vec::new(), body }));
        }
        drop(events);
        self.taken = Some((from, dropped));
        changes
    }

    pub fn saved(&mut self) {
        self.taken = None;
    }

    pub fn not_saved(&mut self) {
        // None, if there was no tree when the checkpoint began.
        let Some((from, dropped)) = self.taken.take() else { return };
        self.unsaved = from.max(self.start);
        self.dropped.extend(dropped);
    }

    /// A run that a checkpoint has, in any order.
    pub fn load(&mut self, block: &Block) -> Result<(), &'static str> {
        let run = StoredRun::decode(block.body.clone()).map_err(|_| "events of the v2 tree make no sense")?;
        for mut event in run.events {
            // Their own memory, as that of nodes.
            for shown in std::iter::once(&mut event.node).chain(&mut event.before) {
                shown.key = Bytes::copy_from_slice(&shown.key);
                shown.value = shown.value.as_deref().map(Bytes::copy_from_slice);
            }
            self.events.push_back(Rc::new(event));
        }
        Ok(())
    }

    /// All of them have come.
    pub fn finish(&mut self, start: u64, index: u64) {
        self.events.make_contiguous().sort_by_key(|event| event.index());
        while self.events.front().is_some_and(|event| event.index() < start) {
            self.events.pop_front();
        }
        self.bytes = self.events.iter().map(|event| event.encoded_len()).sum();
        (self.start, self.unsaved) = (start, index + 1);
    }
}
