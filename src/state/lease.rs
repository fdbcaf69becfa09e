//! Leases: who was granted one, for how long, and which keys go with it.
//!
//! A space of its own: what is known of each lease lies in [`pages`], which are its blocks; an ordered index leads from an
//! id to its place there. Which keys are attached is in no block: each version of a key names its lease, and a start
//! finds them there, as etcd's does. When a lease ends is no business of the state: time is its leader's own (see
//! `shard/lease`), and comes in as commands.
//!
//! Invariants: a key that exists is attached to the lease its newest version names, unless there is none (as a backup may
//! have it); the keys of a lease are gone when it is, in one revision.

mod checkpoint;
mod expire;
mod grant;
mod keys;
mod leases;
mod pages;
mod revoke;
#[cfg(test)]
mod tests;

pub use expire::{ExpireLeases, Expired};
pub use leases::Leases;
pub use pages::{Lease, PAGE_LEASES, Place, SPACE};
