//! All nodes, in pages that are the blocks of the space.
//!
//! A node stays where it is for as long as it lives. Those that are made together lie together, so that a checkpoint has
//! little more to write than what changed; a page takes nodes until they are many or long. Names and values of a page are
//! written as they are at that moment; where a node hangs is told by its parent's place, and a directory finds its children
//! when all blocks have come.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use bytes::Bytes;
use prost::Message;

use super::{
    SPACE,
    node::{Content, Directory, Node, NodeId},
};
use crate::{
    block::{Block, BlockChange, BlockId},
    state::space::Unsaved,
};

const SLOT_BITS: u32 = 8;
const PAGE_NODES: usize = 1 << SLOT_BITS;
/// Bytes of names and values after which a page takes no more.
const PAGE_BYTES: usize = 64 * 1024;
/// What a node counts with beside its name and value.
const NODE_BYTES: usize = 48;

struct Page {
    nodes: Vec<Option<Node>>,
    live: usize,
    /// About what its image takes.
    bytes: usize,
    /// The newest checkpoint, finished or under way, lacks what it is now.
    unsaved: bool,
    /// Some checkpoint, finished or under way, has an image of it.
    stored: bool,
}

pub struct Nodes {
    root: Node,
    pages: BTreeMap<u64, Page>,
    /// Above every page there ever was; 0 is nobody's, so that no node is taken for the root.
    next: u64,
    /// Where the next node goes.
    open: Option<u64>,
    /// Others with much room.
    sparse: BTreeSet<u64>,
    /// Every page that is unsaved, and some that are not any more.
    unsaved: Vec<u64>,
    /// Pages that are gone while a checkpoint has them.
    dropped: Vec<u64>,
    taken: Option<Taken>,
    live: usize,
}

/// What the checkpoint under way is to write.
struct Taken {
    images: Vec<u64>,
    dropped: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPage {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<StoredNode>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNode {
    #[prost(uint32, tag = "1")]
    slot: u32,
    #[prost(uint64, tag = "2")]
    parent: u64,
    #[prost(bytes = "bytes", tag = "3")]
    name: Bytes,
    #[prost(uint64, tag = "4")]
    created: u64,
    #[prost(uint64, tag = "5")]
    modified: u64,
    #[prost(sfixed64, optional, tag = "6")]
    expires: Option<i64>,
    /// None of a directory.
    #[prost(bytes = "bytes", optional, tag = "7")]
    value: Option<Bytes>,
}

impl Default for Nodes {
    fn default() -> Self {
        let (content, name) = (Content::Dir(Directory::default()), Rc::from(&b""[..]));
        Self {
            root: Node { parent: NodeId(0), name, created: 0, modified: 0, expires: None, content },
            pages: BTreeMap::new(),
            next: 1,
            open: None,
            sparse: BTreeSet::new(),
            unsaved: Vec::new(),
            dropped: Vec::new(),
            taken: None,
            live: 0,
        }
    }
}

impl NodeId {
    pub const ROOT: Self = Self(0);

    fn page(self) -> u64 {
        self.0 >> SLOT_BITS
    }

    fn slot(self) -> usize {
        self.0 as usize & (PAGE_NODES - 1)
    }
}

fn bytes_of(node: &Node) -> usize {
    NODE_BYTES + node.name.len() + node.value().map_or(0, Bytes::len)
}

impl Nodes {
    /// Nodes beside the root.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn get(&self, id: NodeId) -> &Node {
        self.find(id).expect("whoever names a node knows that it is there")
    }

    pub fn find(&self, id: NodeId) -> Option<&Node> {
        match id {
            NodeId::ROOT => Some(&self.root),
            id => self.pages.get(&id.page())?.nodes.get(id.slot())?.as_ref(),
        }
    }

    fn slot_mut(&mut self, id: NodeId) -> &mut Node {
        match id {
            NodeId::ROOT => &mut self.root,
            id => {
                let page = self.pages.get_mut(&id.page()).expect("a node has its page");
                page.nodes[id.slot()].as_mut().expect("whoever names a node knows that it is there")
            }
        }
    }

    pub fn directory_mut(&mut self, id: NodeId) -> &mut Directory {
        self.slot_mut(id).directory_mut().expect("it is a directory")
    }

    /// Changes what is stored of a node.
    pub fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let node = self.slot_mut(id);
        let before = bytes_of(node);
        change(node);
        let after = bytes_of(node);
        let page = self.pages.get_mut(&id.page()).expect("the root is not stored");
        page.bytes = page.bytes + after - before;
        self.changed(id.page());
    }

    /// The node is not linked from its parent yet.
    pub fn add(&mut self, node: Node) -> NodeId {
        let (number, slot) = self.room();
        let page = self.pages.get_mut(&number).expect("it has room");
        page.live += 1;
        page.bytes += bytes_of(&node);
        match page.nodes.get_mut(slot) {
            Some(place) => *place = Some(node),
            None => page.nodes.push(Some(node)),
        }
        if page.bytes >= PAGE_BYTES || page.live == PAGE_NODES {
            self.open = None;
        }
        self.live += 1;
        self.changed(number);
        NodeId(number << SLOT_BITS | slot as u64)
    }

    fn room(&mut self) -> (u64, usize) {
        let number = match self.open.or_else(|| self.sparse.pop_first()) {
            Some(number) => number,
            None => {
                let number = self.next;
                self.next += 1;
                let page = Page { nodes: Vec::new(), live: 0, bytes: 0, unsaved: false, stored: false };
                self.pages.insert(number, page);
                number
            }
        };
        self.open = Some(number);
        let Page { nodes, live, .. } = &self.pages[&number];
        let free = if *live < nodes.len() { nodes.iter().position(Option::is_none) } else { None };
        (number, free.unwrap_or(nodes.len()))
    }

    /// Takes out a node that is not linked from its parent any more.
    pub fn remove(&mut self, id: NodeId) -> Node {
        let number = id.page();
        self.changed(number);
        let page = self.pages.get_mut(&number).expect("a node has its page");
        let node = page.nodes[id.slot()].take().expect("it is there");
        page.bytes -= bytes_of(&node);
        page.live -= 1;
        self.live -= 1;
        if page.live == 0 {
            if page.stored {
                self.dropped.push(number);
            }
            self.pages.remove(&number);
            self.sparse.remove(&number);
            self.open = self.open.filter(|open| *open != number);
        } else if page.live < PAGE_NODES / 2 && page.bytes < PAGE_BYTES / 2 && self.open != Some(number) {
            self.sparse.insert(number);
        }
        node
    }

    fn changed(&mut self, number: u64) {
        let page = self.pages.get_mut(&number).expect("it was changed");
        if !std::mem::replace(&mut page.unsaved, true) {
            self.unsaved.push(number);
        }
    }

    /// What stands on the way down, itself included, the root last.
    pub fn up_from(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let mut next = Some(id);
        std::iter::from_fn(move || {
            let id = next?;
            next = (id != NodeId::ROOT).then(|| self.get(id).parent);
            Some(id)
        })
    }
}

/// What of them the newest checkpoint does not have, and the way there and back.
impl Nodes {
    pub fn unsaved(&self) -> Unsaved {
        let pages = self.unsaved.iter().filter_map(|number| self.pages.get(number));
        let bytes = pages.map(|page| page.bytes).sum();
        Unsaved { bytes, blocks: self.unsaved.len() + self.dropped.len() }
    }

    pub fn changes(&mut self) -> Vec<BlockChange> {
        assert!(self.taken.is_none(), "one checkpoint at a time");
        let id = |number| BlockId { space: SPACE, number };
        let mut changes = Vec::with_capacity(self.unsaved.len() + self.dropped.len());
        let mut images = std::mem::take(&mut self.unsaved);
        images.retain(|number| {
            let Some(page) = self.pages.get_mut(number) else { return false };
            (page.unsaved, page.stored) = (false, true);
            let body = stored(page).encode_to_vec().into();
            changes.push(BlockChange::Write(Block { id: id(*number), meta: Vec::new(), body }));
            true
        });
        let dropped = std::mem::take(&mut self.dropped);
        changes.extend(dropped.iter().map(|number| BlockChange::Drop { id: id(*number) }));
        self.taken = Some(Taken { images, dropped });
        changes
    }

    pub fn saved(&mut self) {
        self.taken = None;
    }

    pub fn not_saved(&mut self) {
        // None, if there was no tree when the checkpoint began.
        let Some(Taken { images, dropped }) = self.taken.take() else { return };
        for number in images {
            if self.pages.contains_key(&number) {
                self.changed(number);
            }
        }
        self.dropped.extend(dropped);
    }

    /// A page that a checkpoint has; its nodes are linked by [`Nodes::link`].
    pub fn load(&mut self, block: &Block) -> Result<(), &'static str> {
        let number = block.id.number;
        let stored =
            StoredPage::decode(block.body.clone()).map_err(|_| "a page of the v2 tree makes no sense")?;
        let mut page = Page { nodes: Vec::new(), live: 0, bytes: 0, unsaved: false, stored: true };
        for StoredNode { slot, parent, name, created, modified, expires, value } in stored.nodes {
            let slot = slot as usize;
            if slot >= PAGE_NODES || number == 0 {
                return Err("a node of the v2 tree has a place that there is not");
            }
            // Their own memory: the image is unmapped once it is superseded.
            let content = match value {
                Some(value) => Content::File(Bytes::copy_from_slice(&value)),
                None => Content::Dir(Directory::default()),
            };
            let parent = NodeId(parent);
            let node = Node { parent, name: Rc::from(&name[..]), created, modified, expires, content };
            page.bytes += bytes_of(&node);
            page.live += 1;
            if page.nodes.len() <= slot {
                page.nodes.resize_with(slot + 1, || None);
            }
            if page.nodes[slot].replace(node).is_some() {
                return Err("a node of the v2 tree comes twice");
            }
        }
        self.live += page.live;
        if page.live < PAGE_NODES / 2 && page.bytes < PAGE_BYTES / 2 {
            self.sparse.insert(number);
        }
        self.next = self.next.max(number + 1);
        let before = self.pages.insert(number, page);
        if before.is_some() { Err("a page of the v2 tree comes twice") } else { Ok(()) }
    }

    /// Has every directory find its children, and tells of each node that has an end; false if some hangs nowhere.
    pub fn link(&mut self, index: u64, next: u64, mut ends: impl FnMut(i64, NodeId)) -> bool {
        self.next = self.next.max(next);
        let numbers: Vec<_> = self.pages.keys().copied().collect();
        self.directory_mut(NodeId::ROOT).touched = index;
        for number in numbers {
            for slot in 0..self.pages[&number].nodes.len() {
                let id = NodeId(number << SLOT_BITS | slot as u64);
                let Some(node) = self.find(id) else { continue };
                let (name, parent, expires) = (node.name.clone(), node.parent, node.expires);
                if let Some(expires) = expires {
                    ends(expires, id);
                }
                if let Some(directory) = self.slot_mut(id).directory_mut() {
                    directory.touched = index;
                }
                if self.find(parent).is_none_or(|parent| !parent.is_dir()) {
                    return false;
                }
                if self.directory_mut(parent).children.insert(name, id).is_some() {
                    return false;
                }
            }
        }
        true
    }

    pub fn next_page(&self) -> u64 {
        self.next
    }
}

fn stored(page: &Page) -> StoredPage {
    let nodes = page.nodes.iter().enumerate().filter_map(|(slot, node)| {
        let node = node.as_ref()?;
        Some(StoredNode {
            slot: slot as u32,
            parent: node.parent.0,
            name: Bytes::copy_from_slice(&node.name),
            created: node.created,
            modified: node.modified,
            expires: node.expires,
            value: node.value().cloned(),
        })
    });
    StoredPage { nodes: nodes.collect() }
}
