//! Sorting of range results.

use crate::pb::{
    etcdserverpb::{
        self as pb,
        range_request::{SortOrder, SortTarget},
    },
    mvccpb::KeyValue,
};

/// Whether a response must be sorted: by another target than the key, where no order means ascending
/// (`sortRangeResults` in etcd's etcdserver/txn/range.go), or descending.
pub fn is_needed(request: &pb::RangeRequest) -> bool {
    request.sort_target != SortTarget::Key as i32 || request.sort_order == SortOrder::Descend as i32
}

/// Sorts pairs that come in key order. Equal ones stay in key order.
pub fn sort(kvs: &mut [KeyValue], request: &pb::RangeRequest) {
    if !is_needed(request) {
        return;
    }
    let compare = match SortTarget::try_from(request.sort_target).expect("validated") {
        SortTarget::Key => |a: &KeyValue, b: &KeyValue| a.key.cmp(&b.key),
        SortTarget::Version => |a: &KeyValue, b: &KeyValue| a.version.cmp(&b.version),
        SortTarget::Create => |a: &KeyValue, b: &KeyValue| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a: &KeyValue, b: &KeyValue| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a: &KeyValue, b: &KeyValue| a.value.cmp(&b.value),
    };
    if request.sort_order == SortOrder::Descend as i32 {
        kvs.sort_by(|a, b| compare(b, a));
    } else {
        kvs.sort_by(compare);
    }
}
