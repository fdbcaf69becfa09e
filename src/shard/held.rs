//! Reads that may have gathered many pairs when their caller leaves.
//!
//! A client that cancels a long sorted list ends the call between two slices. Its pairs are given up slice by slice
//! too, by a task of their own.

use std::{
    ops::{Deref, DerefMut},
    rc::Rc,
};

use super::{Shard, turnstile::Turnstile};
use crate::{
    apply::{Leave, Pairs},
    limits,
};

/// A read as long as somebody waits for it.
pub(super) struct Held<T: Leave> {
    /// None once it has come to its end.
    read: Option<T>,
    shard: Shard,
}

impl<T: Leave> Held<T> {
    pub(super) fn new(read: T, shard: &Shard) -> Self {
        Self { read: Some(read), shard: shard.clone() }
    }

    /// Takes out a read that has come to its end.
    pub(super) fn end(mut self) -> T {
        self.read.take().expect("it ends once")
    }
}

impl<T: Leave> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.read.as_ref().expect("it has not ended")
    }
}

impl<T: Leave> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.read.as_mut().expect("it has not ended")
    }
}

impl<T: Leave> Drop for Held<T> {
    fn drop(&mut self) {
        let Some(read) = self.read.take() else { return };
        let pairs = read.leave();
        // At the end nothing can be begun, nor is there anybody to hold up.
        if pairs.len() > limits::LEFTOVER_PAIRS && !self.shard.inbox.stopping() {
            let turnstile = &self.shard.turnstile;
            turnstile.spawn(give_up(pairs, turnstile.clone()));
        }
    }
}

async fn give_up(mut pairs: Pairs, turnstile: Rc<Turnstile>) {
    loop {
        let _slice = turnstile.pass().await;
        if pairs.give_up(limits::LEFTOVER_PAIRS) {
            return;
        }
    }
}
