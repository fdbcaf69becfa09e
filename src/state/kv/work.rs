//! Work, counted in keys: how much a command does at a time.

/// Bytes that cost as much as looking at a key.
const KEY_BYTES: usize = 4096;

/// What is left to do in this step, and what was done in all.
#[derive(Debug)]
pub struct Work<'a> {
    left: usize,
    visited: &'a mut u64,
}

impl<'a> Work<'a> {
    /// A step of about `keys` keys, one at least; they are added to `visited`.
    pub fn new(keys: usize, visited: &'a mut u64) -> Self {
        Self { left: keys.max(1), visited }
    }

    /// Whether the rest has to wait for the next step.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Keys that may be looked at.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Keys were looked at.
    pub fn spend(&mut self, keys: usize) {
        self.left = self.left.saturating_sub(keys);
        *self.visited += keys as u64;
    }

    /// A key is written, with so many bytes.
    pub fn spend_bytes(&mut self, bytes: usize) {
        self.spend(1 + bytes / KEY_BYTES);
    }
}
