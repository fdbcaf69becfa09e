//! What waits to be sent to one member: bounded, in two lanes.
//!
//! Signals go before entries, and between the parts of a long one. Owned by the member's link; shards fill it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::Waker,
};

use bytes::Bytes;

use super::wire::{Kind, Record};
use crate::{env::Lane, limits, types::ShardId};

#[derive(Default)]
struct Waiting {
    frames: VecDeque<(ShardId, Bytes)>,
    bytes: usize,
    /// Of the first frame: what went already.
    gone: usize,
}

#[derive(Default)]
pub struct Queue {
    signals: RefCell<Waiting>,
    entries: RefCell<Waiting>,
    waker: Cell<Option<Waker>>,
}

impl Waiting {
    /// One that is longer than the bound goes alone.
    fn push(&mut self, shard: ShardId, frame: Bytes, (frames_max, bytes_max): (usize, usize)) -> bool {
        let fits = self.frames.is_empty()
            || (self.frames.len() < frames_max && self.bytes + frame.len() <= bytes_max);
        if fits {
            self.bytes += frame.len();
            self.frames.push_back((shard, frame));
        }
        fits
    }

    fn pop(&mut self, lane: Lane) -> Option<Record> {
        let (shard, frame) = self.frames.front()?;
        let end = frame.len().min(self.gone + limits::PEER_PART_BYTES);
        let (shard, payload, ends) = (*shard, frame.slice(self.gone..end), end == frame.len());
        self.gone = end;
        if ends {
            self.bytes -= frame.len();
            self.gone = 0;
            self.frames.pop_front();
        }
        Some(Record { kind: Kind::Frame, ends, lane, shard, payload })
    }
}

impl Queue {
    /// False if there is no room: the frame is dropped.
    pub fn push(&self, lane: Lane, shard: ShardId, frame: Bytes) -> bool {
        let taken = match lane {
            Lane::Signals => self.signals.borrow_mut().push(
                shard,
                frame,
                (limits::PEER_SIGNALS_MAX, limits::PEER_SIGNALS_BYTES),
            ),
            Lane::Entries => {
                self.entries.borrow_mut().push(shard, frame, (usize::MAX, limits::PEER_QUEUE_BYTES))
            }
        };
        if taken && let Some(waker) = self.waker.take() {
            waker.wake();
        }
        taken
    }

    /// What is to be sent next.
    pub fn pop(&self) -> Option<Record> {
        self.signals.borrow_mut().pop(Lane::Signals).or_else(|| self.entries.borrow_mut().pop(Lane::Entries))
    }

    /// While it is empty, whoever calls is woken when something comes.
    pub fn wake_when_filled(&self, waker: &Waker) {
        self.waker.set(Some(waker.clone()));
    }

    /// Makes room for one more signal, by forgetting the oldest.
    pub fn forget_signals_beyond(&self, most: usize) {
        let signals = &mut *self.signals.borrow_mut();
        while signals.frames.len() >= most
            && let Some((_, frame)) = signals.frames.pop_front()
        {
            signals.bytes -= frame.len();
            signals.gone = 0;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.signals.borrow().frames.is_empty() && self.entries.borrow().frames.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.signals.borrow().bytes + self.entries.borrow().bytes
    }

    /// What waits is of no use any more: true if there was something.
    pub fn clear(&self) -> bool {
        let was_empty = self.is_empty();
        drop((self.signals.take(), self.entries.take()));
        !was_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(7);

    fn frame(bytes: usize) -> Bytes {
        vec![1; bytes].into()
    }

    #[test]
    fn signals_overtake_entries_between_their_parts() {
        let queue = Queue::default();
        let long = limits::PEER_PART_BYTES * 2 + 1;
        assert!(queue.push(Lane::Entries, SHARD, frame(long)));
        let first = queue.pop().expect("it waits");
        assert_eq!(
            (first.lane, first.ends, first.payload.len()),
            (Lane::Entries, false, limits::PEER_PART_BYTES)
        );
        assert!(queue.push(Lane::Signals, SHARD, frame(3)));
        let signal = queue.pop().expect("it waits");
        assert_eq!((signal.lane, signal.ends, signal.payload.len()), (Lane::Signals, true, 3));
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|r| (r.payload.len(), r.ends)).collect();
        assert_eq!(rest, [(limits::PEER_PART_BYTES, false), (1, true)]);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn neither_lane_takes_more_than_its_bound() {
        let queue = Queue::default();
        assert!(queue.push(Lane::Entries, SHARD, frame(limits::PEER_QUEUE_BYTES + 1)), "one goes alone");
        assert!(!queue.push(Lane::Entries, SHARD, frame(1)));
        assert!(queue.push(Lane::Signals, SHARD, frame(1)), "the other lane has a bound of its own");
        let taken = (0..).take_while(|_| queue.push(Lane::Signals, SHARD, frame(1))).count();
        assert_eq!(taken, limits::PEER_SIGNALS_MAX - 1);
        assert!(queue.bytes() <= limits::PEER_QUEUE_BYTES + 1 + limits::PEER_SIGNALS_BYTES);
        assert!(queue.clear() && !queue.clear());
        assert_eq!(queue.bytes(), 0);
        let taken = (0..).take_while(|_| queue.push(Lane::Entries, SHARD, frame(1 << 20))).count();
        assert_eq!(taken, limits::PEER_QUEUE_BYTES >> 20);
    }

    #[test]
    fn an_empty_frame_is_a_frame() {
        let queue = Queue::default();
        assert!(queue.push(Lane::Entries, SHARD, Bytes::new()));
        assert!(queue.pop().is_some_and(|record| record.ends) && queue.pop().is_none());
    }
}
