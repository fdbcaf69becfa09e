//! What was cut off the tree, on its way out of memory: a directory may have a million nodes.
//!
//! Nothing leads to them any more. The command that cut them off is not done before the last is gone, so that no checkpoint
//! has any of them.

use std::collections::btree_map::IntoIter;
use std::rc::Rc;

use super::{
    Tree,
    node::{Content, Node, NodeId},
};

/// Directories whose nodes are still to go.
#[derive(Default)]
pub struct Freeing(Vec<IntoIter<Rc<[u8]>, NodeId>>);

impl Freeing {
    pub(super) fn begin(&mut self, node: Node) {
        if let Content::Dir(directory) = node.content
            && !directory.children.is_empty()
        {
            self.0.push(directory.children.into_iter());
        }
    }
}

impl Tree {
    /// Frees up to so many nodes: how many it were. False if some are left.
    pub(super) fn free(&mut self, freeing: &mut Freeing, nodes: usize) -> (usize, bool) {
        for freed in 0..nodes {
            let Some(directory) = freeing.0.last_mut() else { return (freed, true) };
            match directory.next() {
                Some((_, id)) => {
                    let node = self.take(id);
                    freeing.begin(node);
                }
                None => drop(freeing.0.pop()),
            }
        }
        (nodes, freeing.0.is_empty())
    }
}
