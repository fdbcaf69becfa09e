//! One node of the tree.

use std::{collections::BTreeMap, rc::Rc};

use bytes::Bytes;

use super::event::{Shown, seconds_left};

/// Where a node lies for as long as it lives: the page and the place in it. 0 is the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u64);

#[derive(Debug)]
pub struct Node {
    pub(super) parent: NodeId,
    pub name: Rc<[u8]>,
    pub created: u64,
    pub modified: u64,
    /// None for one that stays.
    pub expires: Option<i64>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    File(Bytes),
    Dir(Directory),
}

pub(super) type Children = BTreeMap<Rc<[u8]>, NodeId>;

#[derive(Debug, Default)]
pub(super) struct Directory {
    pub children: Children,
    /// The tree's index when something at it or below changed last.
    pub touched: u64,
}

impl Node {
    /// None of a directory.
    pub fn value(&self) -> Option<&Bytes> {
        match &self.content {
            Content::File(value) => Some(value),
            Content::Dir(_) => None,
        }
    }

    pub fn is_dir(&self) -> bool {
        matches!(self.content, Content::Dir(_))
    }

    pub(super) fn directory(&self) -> Option<&Directory> {
        match &self.content {
            Content::File(_) => None,
            Content::Dir(directory) => Some(directory),
        }
    }

    pub(super) fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.content {
            Content::File(_) => None,
            Content::Dir(directory) => Some(directory),
        }
    }

    /// As an answer has it that is given at this time.
    pub(super) fn show(&self, key: Bytes, now: i64) -> Shown {
        Shown {
            key,
            value: self.value().cloned(),
            dir: self.is_dir(),
            expires: self.expires,
            ttl: self.ttl(now),
            modified: self.modified,
            created: self.created,
        }
    }

    /// Seconds left at this time, 0 of one that stays.
    pub fn ttl(&self, now: i64) -> i64 {
        self.expires.map_or(0, |expires| seconds_left(expires, now))
    }
}
