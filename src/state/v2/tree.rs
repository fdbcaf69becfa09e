//! The tree: finding nodes, making and ending them, and the index that every change raises.

use std::{collections::BTreeSet, rc::Rc};

use bytes::Bytes;

use super::{
    Code, Counts, Event, Refused,
    event::Shown,
    free::Freeing,
    history::History,
    node::{Content, Directory, Node, NodeId},
    nodes::Nodes,
    path::parts,
};
use crate::state::cluster::Cluster;

/// Ends before this count as none where nodes are made (etcd's `minExpireTime`): the year 2000.
const SENSIBLE: i64 = 946_684_800_000_000_000;

#[derive(Default)]
pub struct Tree {
    /// 0 until the first command.
    pub(super) index: u64,
    pub(super) nodes: Nodes,
    /// Nodes with an end, by that.
    pub(super) ending: BTreeSet<(i64, NodeId)>,
    pub(super) history: History,
    pub(super) counts: Counts,
}

impl Tree {
    /// Whether there ever was a command.
    pub fn is_founded(&self) -> bool {
        self.index > 0
    }

    /// The index, or what it begins with in such a cluster: etcd's, whose members and version are in the same tree.
    pub fn index(&self, cluster: &Cluster) -> u64 {
        match self.index {
            0 => 1 + 2 * cluster.members().count() as u64 + 3 * cluster.removed().count() as u64,
            index => index,
        }
    }

    pub(in crate::state) fn found(&mut self, cluster: &Cluster) {
        if !self.is_founded() {
            self.index = self.index(cluster);
            self.history.begin(self.index);
        }
    }

    /// So many changes of members.
    pub fn raise(&mut self, changes: u64) {
        if self.is_founded() && changes > 0 {
            self.index += changes;
            self.history.reach(self.index);
        }
    }

    /// Nodes beside the root.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first end of a node.
    pub fn next_end(&self) -> Option<i64> {
        Some(self.ending.first()?.0)
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id)
    }

    /// Events from an index on, or the first index of which they are known.
    pub fn events_from(&self, index: u64) -> Result<impl Iterator<Item = &Rc<Event>>, u64> {
        let start = self.history.start();
        if index < start { Err(start) } else { Ok(self.history.from(index)) }
    }

    pub(super) fn refusal(&self, code: Code, cause: impl Into<Bytes>) -> Refused {
        Refused { code, cause: cause.into(), index: self.index }
    }

    /// The node of a path.
    pub fn find(&self, path: &[u8]) -> Result<NodeId, Refused> {
        let mut at = NodeId::ROOT;
        for name in parts(path) {
            let node = self.nodes.get(at);
            let Some(directory) = node.directory() else {
                return Err(self.refusal(Code::NotDir, self.path(at)));
            };
            match directory.children.get(name) {
                Some(child) => at = *child,
                None => {
                    return Err(self.refusal(Code::KeyNotFound, [&self.path(at)[..], b"/", name].concat()));
                }
            }
        }
        Ok(at)
    }

    /// Empty for the root.
    pub fn path(&self, id: NodeId) -> Vec<u8> {
        let mut down: Vec<_> = self.nodes.up_from(id).filter(|id| *id != NodeId::ROOT).collect();
        down.reverse();
        let mut path = Vec::new();
        for id in down {
            path.push(b'/');
            path.extend_from_slice(&self.nodes.get(id).name);
        }
        path
    }

    pub(super) fn show(&self, id: NodeId, now: i64) -> Shown {
        self.nodes.get(id).show(self.path(id).into(), now)
    }

    /// The directory where a node of this path belongs, made with those above it where there are none, and its name.
    pub(super) fn make_way<'p>(&mut self, path: &'p [u8]) -> Result<(NodeId, &'p [u8]), Refused> {
        let cut = path.iter().rposition(|byte| *byte == b'/').expect("the root is refused before");
        let (above, name) = (&path[..cut], &path[cut + 1..]);
        let mut at = NodeId::ROOT;
        // What is refused is so before anything is made: a file can only be among what is there.
        let index = self.index + 1;
        for part in parts(above) {
            let children = &self.nodes.get(at).directory().expect("looked at on the way").children;
            at = match children.get(part) {
                Some(child) if self.nodes.get(*child).is_dir() => *child,
                Some(file) => return Err(self.refusal(Code::NotDir, self.path(*file))),
                None => self.hang(at, part, Content::Dir(Directory::default()), index, None),
            };
        }
        Ok((at, name))
    }

    pub(super) fn child(&self, of: NodeId, name: &[u8]) -> Option<NodeId> {
        self.nodes.get(of).directory()?.children.get(name).copied()
    }

    /// A new node below a directory that has none of its name.
    pub(super) fn hang(
        &mut self,
        parent: NodeId,
        name: &[u8],
        content: Content,
        index: u64,
        expires: Option<i64>,
    ) -> NodeId {
        let name: Rc<[u8]> = name.into();
        let node = Node { parent, name: name.clone(), created: index, modified: index, expires, content };
        let id = self.nodes.add(node);
        if let Some(expires) = expires {
            self.ending.insert((expires, id));
        }
        self.nodes.directory_mut(parent).children.insert(name, id);
        id
    }

    /// Takes a node out of the tree, with all below it, which is freed step by step.
    pub(super) fn cut(&mut self, id: NodeId, freeing: &mut Freeing) {
        let (parent, name) = {
            let node = self.nodes.get(id);
            (node.parent, node.name.clone())
        };
        self.nodes.directory_mut(parent).children.remove(&name);
        freeing.begin(self.take(id));
    }

    /// The node itself, which nothing leads to any more.
    pub(super) fn take(&mut self, id: NodeId) -> Node {
        let node = self.nodes.remove(id);
        if let Some(expires) = node.expires {
            self.ending.remove(&(expires, id));
        }
        node
    }

    /// None for one that stays.
    pub(super) fn set_end(&mut self, id: NodeId, expires: Option<i64>) {
        let before = self.nodes.get(id).expires;
        if before == expires {
            return;
        }
        if let Some(before) = before {
            self.ending.remove(&(before, id));
        }
        if let Some(expires) = expires {
            self.ending.insert((expires, id));
        }
        self.nodes.change(id, |node| node.expires = expires);
    }

    /// The next index is reached with this event; `at` is the node it is about, or the directory where that was.
    pub(super) fn note(&mut self, event: Event, at: NodeId) -> Rc<Event> {
        let event = Rc::new(event);
        self.index += 1;
        assert_eq!(event.index(), self.index, "an event for each index");
        let up: smallvec::SmallVec<[NodeId; 8]> = self.nodes.up_from(at).collect();
        for id in up {
            if self.nodes.get(id).is_dir() {
                self.nodes.directory_mut(id).touched = self.index;
            }
        }
        self.history.push(event.clone());
        event
    }
}

/// As a new node has it: what is long past is no end.
pub(super) fn sensible(expires: i64) -> Option<i64> {
    (expires >= SENSIBLE).then_some(expires)
}

/// 0 stands for a node that stays.
pub(super) fn given(expires: i64) -> Option<i64> {
    (expires != 0).then_some(expires)
}
