//! Going through what is below a directory, in steps, for a listing: names in order, hidden ones left out.
//!
//! Between two steps the tree goes on. If something changed at the directory or below, the walk is of no use any more and
//! begins anew.

use std::{ops::Bound, rc::Rc};

use super::{
    Tree,
    node::{Node, NodeId},
    path::is_hidden,
};

/// The directory changed since the walk began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disturbed;

pub enum Visit<'a> {
    /// A node; its children follow if it is a directory whose content is asked for.
    Open(&'a Node),
    /// Of a directory there is nothing more.
    Close(&'a Node),
}

pub struct Walk {
    path: Vec<u8>,
    recursive: bool,
    /// The directory and what it was when the walk began.
    seen: Option<(NodeId, u64, u64)>,
    /// Directories on the way down, each with the name that was visited last.
    stack: Vec<(NodeId, Option<Rc<[u8]>>)>,
}

impl Walk {
    /// Of a [clean](super::clean) path.
    pub fn new(path: Vec<u8>, recursive: bool) -> Self {
        Self { path, recursive, seen: None, stack: Vec::new() }
    }

    /// Goes on by up to `nodes` nodes, or until `visit` says that it is enough, or begins. True when nothing is left.
    pub fn step(
        &mut self,
        tree: &Tree,
        nodes: usize,
        mut visit: impl FnMut(Visit<'_>) -> bool,
    ) -> Result<bool, Disturbed> {
        match self.seen {
            None => {
                let Ok(id) = tree.find(&self.path) else { return Err(Disturbed) };
                let Some(directory) = tree.node(id).directory() else { return Err(Disturbed) };
                self.seen = Some((id, directory.touched, tree.node(id).created));
                self.stack.push((id, None));
            }
            Some((id, touched, created)) => {
                let same = tree.nodes.find(id).is_some_and(|node| {
                    node.created == created && node.directory().is_some_and(|now| now.touched == touched)
                });
                if !same || tree.find(&self.path) != Ok(id) {
                    return Err(Disturbed);
                }
            }
        }
        for _ in 0..nodes {
            let depth = self.stack.len();
            let Some((at, last)) = self.stack.last_mut() else { return Ok(true) };
            let node = tree.node(*at);
            let children = &node.directory().expect("only directories are gone down into").children;
            let from = last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
            let mut after = children.range((from, Bound::Unbounded));
            let Some((name, id)) = after.find(|(name, _)| !is_hidden(name)) else {
                if depth > 1 {
                    visit(Visit::Close(node));
                }
                self.stack.pop();
                continue;
            };
            *last = Some(name.clone());
            let child = tree.node(*id);
            let mut goes_on = visit(Visit::Open(child));
            if child.is_dir() {
                match self.recursive {
                    true => self.stack.push((*id, None)),
                    false => goes_on &= visit(Visit::Close(child)),
                }
            }
            if !goes_on {
                break;
            }
        }
        Ok(self.stack.is_empty())
    }
}
