//! How fast committed entries are applied, and how long the rest of a turn waits for it.

use std::time::Duration;

use crate::{
    env::{Env, Instant},
    limits,
};

/// How entries are applied.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Keys of one step, after which the clock is looked at.
    pub keys: usize,
    /// How long a turn applies before everything else has its turn.
    pub slice: Duration,
    /// How long a member that is about to stop goes on with what takes long.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { keys: limits::APPLY_STEP_KEYS, slice: limits::APPLY_SLICE, patience: limits::APPLY_PATIENCE }
    }
}

/// What one turn applies.
pub struct Slice {
    pace: Pace,
    began: Option<Instant>,
    /// Keys since the clock was looked at.
    keys: u64,
    is_over: bool,
}

impl Slice {
    pub fn new(pace: Pace) -> Self {
        Slice { pace, began: None, keys: 0, is_over: false }
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// A step begins; how many keys it may look at.
    pub fn step(&mut self, env: &impl Env) -> usize {
        self.began.get_or_insert_with(|| env.now());
        self.pace.keys
    }

    /// It looked at so many. While much waits, a slice is longer.
    pub fn spend(&mut self, keys: u64, env: &impl Env, much_waits: bool) {
        self.keys += keys;
        if self.keys < self.pace.keys as u64 {
            return;
        }
        self.keys = 0;
        let length = if much_waits { limits::APPLY_SLICE_FACTOR * self.pace.slice } else { self.pace.slice };
        self.is_over = env.now().since(self.began.expect("a step was begun")) >= length;
    }
}
