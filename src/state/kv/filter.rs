//! Bounds of revisions that a range request may have.

use crate::{pb::etcdserverpb as pb, state::mvcc::Record};

/// Which pairs a range is about, by their revisions; 0 is no bound.
#[derive(Clone, Copy)]
pub struct Filter {
    modified: (i64, i64),
    created: (i64, i64),
}

impl Filter {
    pub fn new(request: &pb::RangeRequest) -> Self {
        Self {
            modified: (request.min_mod_revision, request.max_mod_revision),
            created: (request.min_create_revision, request.max_create_revision),
        }
    }

    pub fn passes(&self, record: &Record<'_>) -> bool {
        let inside = |revision: i64, (min, max): (i64, i64)| {
            (max == 0 || revision <= max) && (min == 0 || revision >= min)
        };
        inside(record.main, self.modified) && inside(record.create, self.created)
    }
}
