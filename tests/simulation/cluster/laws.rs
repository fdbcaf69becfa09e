//! Each law that the members keep, broken on purpose: some check must notice, within so many seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pinion::env::Law;

use super::live;
use crate::world;

const SEEDS_MAX: u64 = 200;

/// How many worlds it took until one noticed, and what it said.
fn caught(law: Law) -> (u64, String) {
    for (seed, worlds) in world::fresh_seeds(SEEDS_MAX).zip(1..) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(seed, Some(law)))) else { continue };
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return (worlds, text.unwrap_or_default());
    }
    panic!("{law:?} was broken in {SEEDS_MAX} worlds, and nobody noticed");
}

fn is_caught(law: Law) {
    let (worlds, text) = caught(law);
    let first = text.lines().next().unwrap_or_default();
    println!("{law:?} broken: world {worlds} notices: {first}");
}

#[test]
fn a_leader_that_acknowledges_before_it_is_durable_is_caught() {
    is_caught(Law::LeaderDurable);
}

#[test]
fn a_follower_that_acknowledges_before_it_is_durable_is_caught() {
    is_caught(Law::FollowerDurable);
}

#[test]
fn a_forgotten_vote_is_caught() {
    is_caught(Law::Vote);
}

#[test]
fn a_read_that_asks_nobody_is_caught() {
    is_caught(Law::ReadIndex);
}

#[test]
fn a_checkpoint_ahead_of_its_state_is_caught() {
    is_caught(Law::Checkpoint);
}
