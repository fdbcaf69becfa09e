//! Bounds the log: of one message within one second the first hundred lines are written, then every
//! hundredth, as etcd's logger does.

use std::sync::atomic::{AtomicU64, Ordering};

const FIRST: u64 = 100;
const THEN_EVERY: u64 = 100;
/// Messages that share a slot share its count, which only samples them sooner.
const SLOTS: usize = 1024;
/// A slot holds the second in the upper bits and the count in the lower.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

pub struct Sampler {
    slots: Box<[AtomicU64]>,
}

impl Sampler {
    pub fn new() -> Sampler {
        Sampler { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Shall this line be written?
    pub fn admit(&self, message: &str, second: u64) -> bool {
        let slot = &self.slots[hash(message) as usize % SLOTS];
        let tag = second << COUNT_BITS;
        let step = |old: u64| {
            let count = if old & !COUNT_MASK == tag { (old & COUNT_MASK).min(COUNT_MASK - 1) } else { 0 };
            Some(tag | (count + 1))
        };
        let old = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        let old = old.unwrap_or_else(|old| old);
        let count = if old & !COUNT_MASK == tag { old & COUNT_MASK } else { 0 };
        count < FIRST || (count - FIRST + 1).is_multiple_of(THEN_EVERY)
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_then_every_hundredth() {
        let sampler = Sampler::new();
        let written = (0..1_000).filter(|_| sampler.admit("a", 5)).count();
        assert_eq!(written, 109);
        assert!(sampler.admit("b", 5));
        assert_eq!((0..150).filter(|_| sampler.admit("a", 6)).count(), 100);
    }
}
