//! The tree of etcd's v2 API: directories and files, each with the index that made it and the one that changed it last.
//!
//! A space of its own, apart from the history of keys, with an index of its own that every change raises by one. What the
//! newest changes were is part of it ([`history`]), so that whoever waits finds them after a restart and on another member.
//! Owned by the [`StateMachine`](super::StateMachine).
//!
//! ```text
//! request --> [Write] --log--> [Tree] --event--> history, whoever waits
//! leader's clock --> [Expire] --^
//! ```
//!
//! Times are nanoseconds since 1970 and come with the commands, as the member that was asked had them. Facts about behaviour
//! are etcd's (`server/etcdserver/api/v2store` of v3.4).
//!
//! Nothing of it exists until the first of its commands: a cluster that does not use it has no trace of it in checkpoints.
//! From then on changes of members raise the index as in etcd, whose members are in the same tree.

mod counts;
mod event;
mod expire;
mod facts;
mod free;
mod history;
mod node;
mod nodes;
mod path;
mod refused;
mod tree;
mod walk;
mod write;

#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use event::{Action, Event, Shown};
pub use expire::Expire;
pub use node::{Node, NodeId};
pub use path::{clean, is_hidden_below};
pub use refused::{Code, Refused};
pub use tree::Tree;
pub use walk::{Disturbed, Visit, Walk};
pub use write::{Method, Write};

use crate::block::SpaceId;

/// The tree's own.
pub const SPACE: SpaceId = SpaceId(5);
