//! The v3 API: a file per service. Which header fields a response carries is part of the contract.

mod cluster;
mod kv;
pub(super) mod maintenance;
mod snapshot;
#[cfg(test)]
mod tests;

use super::{Api, Keyspace};
use crate::pb::etcdserverpb as pb;

pub use kv::RangeStream;

impl<K: Keyspace> Api<K> {
    /// Completes a header that already carries its revision, or none for "the current one".
    fn fill(&self, header: &mut Option<pb::ResponseHeader>) {
        let header = header.get_or_insert_default();
        self.fill_without_revision(header);
        if header.revision == 0 {
            header.revision = self.keyspace().revision().0;
        }
    }

    fn fill_without_revision(&self, header: &mut pb::ResponseHeader) {
        let keyspace = self.keyspace();
        header.cluster_id = keyspace.cluster_id().0;
        header.member_id = keyspace.member_id().0;
        header.raft_term = keyspace.term().0;
    }
}
