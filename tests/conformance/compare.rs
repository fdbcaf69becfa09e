//! Whether two answers to one call are the same, and where they first differ.
//!
//! Explained differences, each with its reason (the list is meant to stay this short):
//!
//! 1. *Order among equals.* Upstream sorts more than [`STABLE_UP_TO`] results with an algorithm that is not stable, so
//!    the order of keys whose sort value is equal is an accident there; the API promises none. Up to that number its
//!    sort is stable, and the order must be the same. Answers are equal here if the sorted values are, and the keys
//!    of each group of equals (of the last group, which a limit may cut, only the number).
//!    The same holds for permissions of a role that begin at the same key, which are sorted again at each grant. Only
//!    the first of them is looked at when one of that key is granted again: of more than [`STABLE_UP_TO`], which of them is
//!    there twice is an accident, too.
//! 2. *A stream sorted by chunk.* RangeStream takes a sort target as long as no order is given; upstream then sorts each
//!    chunk and goes on after its last key, which repeats and skips keys, depending on the order among equals. Beyond
//!    [`STABLE_UP_TO`] results only the header is compared.
//! 3. *Clocks.* How many seconds a lease has left is by each server's own.
//! 4. *The hash of a compaction at revision 0.* Upstream keeps the hash it takes during a compaction by its revision; one
//!    at revision 0 is then given to whoever asks for revision 0, which means the newest.

use bench_harness::pb::{etcdserverpb as pb, etcdserverpb::request_op::Request as Op, mvccpb::KeyValue};

use super::call::{Answer, Call};

/// Go's `sort.Sort` uses insertion sort for so many elements.
const STABLE_UP_TO: i64 = 12;
/// Restarts begin times to live again, a moment sooner or later.
const SECONDS_APART_MAX: u64 = 120;
const CONTEXT_LINES: usize = 3;

#[derive(Debug, PartialEq)]
pub enum Verdict {
    Same,
    Explained,
    Different(String),
}

pub fn compare(call: &Call, upstream: &Answer, tested: &Answer) -> Verdict {
    if upstream == tested && !matches!(upstream, Answer::Malformed(_)) {
        return Verdict::Same;
    }
    if equal_but_for_ties(call, upstream, tested) {
        return Verdict::Explained;
    }
    Verdict::Different(first_difference(upstream, tested))
}

fn equal_but_for_ties(call: &Call, upstream: &Answer, tested: &Answer) -> bool {
    match (call, upstream, tested) {
        (Call::Range(request), Answer::Range(left), Answer::Range(right)) => ranges_tie(request, left, right),
        (Call::RangeStream(request), Answer::RangeStream(left), Answer::RangeStream(right)) => {
            request.sort_target != pb::range_request::SortTarget::Key as i32
                && left.kvs.len() as i64 > STABLE_UP_TO
                && left.header == right.header
        }
        (_, Answer::LeaseTimeToLive(left), Answer::LeaseTimeToLive(right)) => {
            let apart = left.ttl.abs_diff(right.ttl);
            left.ttl >= 0 && right.ttl >= 0 && apart <= SECONDS_APART_MAX && {
                let right = pb::LeaseTimeToLiveResponse { ttl: left.ttl, ..right.clone() };
                *left == right
            }
        }
        (_, Answer::RoleGet(left), Answer::RoleGet(right)) => {
            let sorted = |response: &pb::AuthRoleGetResponse| {
                let mut response = response.clone();
                response.perm.sort_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
                response
            };
            let keys = |response: &pb::AuthRoleGetResponse| {
                response.perm.iter().map(|permission| permission.key.clone()).collect::<Vec<_>>()
            };
            let ranges = |response: &pb::AuthRoleGetResponse| {
                let ranges = response.perm.iter().map(|has| (has.key.clone(), has.range_end.clone()));
                ranges.collect::<std::collections::BTreeSet<_>>()
            };
            let many = left.perm.len().max(right.perm.len()) as i64 > STABLE_UP_TO;
            sorted(left) == sorted(right) && keys(left) == keys(right)
                || many && left.header == right.header && ranges(left) == ranges(right)
        }
        (Call::HashKv(_), Answer::HashKv(left), Answer::HashKv(_)) => left.hash_revision == 0,
        (Call::Txn(request), Answer::Txn(left), Answer::Txn(right)) => txns_tie(request, left, right),
        _ => false,
    }
}

fn txns_tie(request: &pb::TxnRequest, left: &pb::TxnResponse, right: &pb::TxnResponse) -> bool {
    use pb::response_op::Response;
    if (left.succeeded, &left.header, left.responses.len())
        != (right.succeeded, &right.header, right.responses.len())
    {
        return false;
    }
    let ops = if left.succeeded { &request.success } else { &request.failure };
    ops.len() == left.responses.len()
        && ops.iter().zip(left.responses.iter().zip(&right.responses)).all(|(op, (left, right))| {
            if left == right {
                return true;
            }
            match (&op.request, &left.response, &right.response) {
                (
                    Some(Op::RequestRange(request)),
                    Some(Response::ResponseRange(left)),
                    Some(Response::ResponseRange(right)),
                ) => ranges_tie(request, left, right),
                (
                    Some(Op::RequestTxn(request)),
                    Some(Response::ResponseTxn(left)),
                    Some(Response::ResponseTxn(right)),
                ) => txns_tie(request, left, right),
                _ => false,
            }
        })
}

fn ranges_tie(request: &pb::RangeRequest, left: &pb::RangeResponse, right: &pb::RangeResponse) -> bool {
    let sorted_by_value = request.sort_target == pb::range_request::SortTarget::Value as i32;
    // The value that was sorted by is not in the answer.
    let blind = sorted_by_value && request.keys_only;
    left.header == right.header
        && left.more == right.more
        && left.count == right.count
        && left.kvs.len() == right.kvs.len()
        && left.count > STABLE_UP_TO
        && request.sort_target != pb::range_request::SortTarget::Key as i32
        && if blind { blind_tie(left, right) } else { groups_tie(request.sort_target, left, right) }
}

fn groups_tie(target: i32, left: &pb::RangeResponse, right: &pb::RangeResponse) -> bool {
    let value = |kv: &KeyValue| match target {
        1 => (kv.version, Default::default()),
        2 => (kv.create_revision, Default::default()),
        3 => (kv.mod_revision, Default::default()),
        _ => (0, kv.value.clone()),
    };
    let groups = |response: &pb::RangeResponse| {
        response
            .kvs
            .chunk_by(|a, b| value(a) == value(b))
            .map(|group| {
                let mut group = group.to_vec();
                group.sort_by(|a, b| a.key.cmp(&b.key));
                group
            })
            .collect::<Vec<_>>()
    };
    let (left_groups, right_groups) = (groups(left), groups(right));
    let last = left_groups.len().wrapping_sub(1);
    left_groups.len() == right_groups.len()
        && left_groups.iter().zip(&right_groups).enumerate().all(|(place, (left_group, right_group))| {
            let cut = left.more && place == last;
            left_group == right_group
                || cut
                    && left_group.len() == right_group.len()
                    && left_group.first().map(value) == right_group.first().map(value)
        })
}

fn blind_tie(left: &pb::RangeResponse, right: &pb::RangeResponse) -> bool {
    let by_key = |response: &pb::RangeResponse| {
        let mut kvs = response.kvs.clone();
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        kvs
    };
    left.more || by_key(left) == by_key(right)
}

/// The first line of the pretty debug texts that differs, with what stands around it.
fn first_difference(upstream: &Answer, tested: &Answer) -> String {
    if let Answer::Malformed(why) = tested {
        return format!("the answer breaks the rules: {why}");
    }
    if let Answer::Malformed(why) = upstream {
        return format!("upstream's answer breaks the rules: {why}");
    }
    let (left, right) = (format!("{upstream:#?}"), format!("{tested:#?}"));
    let (left, right): (Vec<_>, Vec<_>) = (left.lines().collect(), right.lines().collect());
    let first = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
    let around = |lines: &[&str]| {
        let (from, to) = (first.saturating_sub(CONTEXT_LINES), lines.len().min(first + 1));
        lines[from..to]
            .iter()
            .map(|line| line.trim().chars().take(200).collect::<String>())
            .collect::<Vec<_>>()
    };
    format!("upstream has {:?}, tested has {:?}", around(&left), around(&right))
}

#[cfg(test)]
#[path = "compare/tests.rs"]
mod tests;
