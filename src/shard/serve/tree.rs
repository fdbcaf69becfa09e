//! The tree of the v2 API as connections read it: a node at once, a directory in slices, and waiting for what happens.

use super::handle::Shard;
use crate::{
    client::Revoked,
    limits,
    shard::{
        Error,
        waiting::{Wait, Waiters, Wanted},
    },
    state::v2::{Disturbed, NodeId, Refused, Tree, Visit, Walk},
};

/// What becomes of a directory on its way to a client.
pub trait Listing {
    /// Everything follows anew, below this node of the tree, which is at this index.
    fn begin(&mut self, tree: &Tree, node: NodeId, index: u64);
    fn visit(&mut self, visit: Visit<'_>);
    /// Bytes it takes by now.
    fn bytes(&self) -> usize;
}

impl Shard {
    /// A node, and what is in it if it is a directory, all of one moment. Of what is applied here.
    pub async fn v2_list(
        &self,
        path: &[u8],
        recursive: bool,
        listing: &mut impl Listing,
    ) -> Result<Result<(), Refused>, Error> {
        let answer = self.list(path, recursive, listing).await;
        let [done, refused] = self.v2_gets.get();
        match &answer {
            Ok(Ok(())) => self.v2_gets.set([done + 1, refused]),
            Ok(Err(_)) => self.v2_gets.set([done, refused + 1]),
            Err(_) => {}
        }
        answer
    }

    async fn list(
        &self,
        path: &[u8],
        recursive: bool,
        listing: &mut impl Listing,
    ) -> Result<Result<(), Refused>, Error> {
        let mut claim = None;
        for _ in 0..limits::V2_LISTING_ATTEMPTS {
            let mut walk = {
                let state = self.state.borrow();
                let (tree, index) = (state.v2(), state.v2_index());
                let id = match tree.find(path) {
                    Ok(id) => id,
                    Err(refused) => return Ok(Err(Refused { index, ..refused })),
                };
                listing.begin(tree, id, index);
                if !tree.node(id).is_dir() {
                    return Ok(Ok(()));
                }
                let mut walk = Walk::new(path.to_vec(), recursive);
                match slice(&mut walk, tree, listing) {
                    Ok(true) => return Ok(Ok(())),
                    Ok(false) => walk,
                    Err(Disturbed) => continue,
                }
            };
            loop {
                let claim = match &mut claim {
                    None => claim.insert(self.client().map(|client| client.claim())),
                    Some(claim) => claim,
                };
                if let Some(claim) = claim {
                    claim.set(listing.bytes()).map_err(|Revoked| Error::TooManyRequests)?;
                }
                let _slice = self.pass().await;
                match slice(&mut walk, self.state.borrow().v2(), listing) {
                    Ok(true) => return Ok(Ok(())),
                    Ok(false) => {}
                    Err(Disturbed) => break,
                }
            }
        }
        Err(Error::Timeout)
    }

    /// Begins to wait for what happens in the tree.
    pub fn v2_wait(&self, wanted: Wanted) -> Result<Wait, Refused> {
        let state = self.state.borrow();
        Waiters::begin(&self.waiters, state.v2(), state.v2_index(), wanted)
    }

    /// Reads that were answered, and refused.
    pub fn v2_gets(&self) -> [u64; 2] {
        self.v2_gets.get()
    }

    /// Who waits now.
    pub fn v2_waiting(&self) -> usize {
        self.waiters.borrow().len()
    }
}

/// So many nodes, and bytes, as hold up nobody else.
fn slice(walk: &mut Walk, tree: &Tree, listing: &mut impl Listing) -> Result<bool, Disturbed> {
    let until = listing.bytes() + limits::V2_SLICE_BYTES;
    walk.step(tree, limits::V2_SLICE_NODES, |visit| {
        listing.visit(visit);
        listing.bytes() < until
    })
}
