//! A timing wheel: what is to be looked at when, in slots that are the coarser the later they are.
//!
//! Whatever is put into it comes out at its time or before: out of a coarse slot it comes at that slot's beginning, to be
//! put in again, into a finer one. So there are a few hundred slots for each power of two of the time ahead at most,
//! however many things there are and however long they have to wait. What is not wanted any more stays until its slot's time.

use std::collections::{BTreeMap, VecDeque};

use crate::{env::Instant, state::lease::Place};

/// Log of a tick in nanoseconds: 34 ms.
const TICK_BITS: u32 = 25;
/// Log of the ticks ahead that have slots of their own, and of the coarse slots as far ahead as that many.
const FINE_BITS: u32 = 8;

#[derive(Default)]
pub struct Wheel(BTreeMap<u64, VecDeque<Place>>);

/// The first slot with which something is certainly due.
pub fn due(at: Instant) -> u64 {
    (at.0 >> TICK_BITS) + 1
}

impl Wheel {
    /// The slot it went into.
    pub fn put(&mut self, place: Place, at: Instant, now: Instant) -> u64 {
        let (due, tick) = (due(at), now.0 >> TICK_BITS);
        let ahead = due.saturating_sub(tick);
        let coarse = (u64::BITS - ahead.leading_zeros()).saturating_sub(FINE_BITS);
        let slot = due >> coarse << coarse;
        self.0.entry(slot).or_default().push_back(place);
        slot
    }

    /// Something whose slot has come, and which that is; oldest slots first.
    pub fn take(&mut self, now: Instant) -> Option<(u64, Place)> {
        let mut first = self.0.first_entry()?;
        let slot = *first.key();
        if slot > now.0 >> TICK_BITS {
            return None;
        }
        let place = first.get_mut().pop_front().expect("empty slots are not kept");
        if first.get().is_empty() {
            first.remove();
        }
        Some((slot, place))
    }

    /// When the next slot comes.
    pub fn next(&self) -> Option<Instant> {
        Some(Instant(self.0.first_key_value()?.0 << TICK_BITS))
    }

    #[cfg(test)]
    pub fn slots(&self) -> usize {
        self.0.len()
    }
}
