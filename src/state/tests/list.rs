//! Long answers, encoded piece by piece, against the same answers made at once.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::any::apply;
use crate::{
    pb::etcdserverpb as pb,
    state::{
        StateMachine,
        kv::{Answer, Evaluation, Range},
        mvcc::Freed,
    },
};

fn put(state: &mut StateMachine, key: u16, value_len: usize) {
    let value = vec![b'v'; value_len].into();
    let put = pb::PutRequest { key: format!("key{key:05}").into(), value, ..Default::default() };
    apply(state, &put).unwrap();
}

fn delete(state: &mut StateMachine, key: u16) {
    let delete = pb::DeleteRangeRequest { key: format!("key{key:05}").into(), ..Default::default() };
    apply(state, &delete).unwrap();
}

fn compact(state: &mut StateMachine) {
    let revision = state.revision().0;
    let compaction = pb::CompactionRequest { revision, physical: false };
    apply(state, &compaction).expect("newer than the last one");
    while state.compact_step(100, true) != Freed::All {}
}

proptest! {
    #[test]
    fn pieces_make_up_the_answer(
        puts in prop::collection::vec((0u16..300, prop_oneof![9 => 0usize..500, 1 => 10_000usize..40_000]), 1..400),
        deletes in prop::collection::vec(0u16..300, 0..50),
        limit in prop_oneof![Just(0i64), -1i64..300], keys_only in any::<bool>(), back in 0i64..100,
        (sort_order, sort_target) in prop_oneof![2 => Just((0, 0)), 1 => (0i32..3, 0i32..5)],
        (min_mod, max_create) in prop_oneof![2 => Just((0i64, 0i64)), 1 => (0i64..300, 0i64..300)],
        kept in 0usize..20_000, piece in 1usize..20_000, keys in 1usize..100,
    ) {
        let mut state = StateMachine::new();
        for (key, value_len) in &puts {
            put(&mut state, *key, *value_len);
        }
        for key in &deletes {
            delete(&mut state, *key);
        }
        let revision = if back == 0 { 0 } else { (state.revision().0 - back).max(1) };
        let request = pb::RangeRequest {
            key: Bytes::from_static(b"key"), range_end: Bytes::from_static(b"kez"), limit, keys_only, revision,
            sort_order, sort_target, min_mod_revision: min_mod, max_create_revision: max_create, ..Default::default()
        };
        let expected = state.range(&request).unwrap();
        let mut range = Range::begin(&state, &request, true).unwrap().keep_at_most(kept);
        while !range.step(&state, keys).unwrap() {
            // Not seen, and not freed either: the revision is pinned.
            put(&mut state, puts[0].0, 7);
            delete(&mut state, puts[puts.len() / 2].0);
            compact(&mut state);
        }
        match range.finish() {
            Answer::Whole(response) => {
                prop_assert!(response.kvs.iter().map(Message::encoded_len).sum::<usize>() <= kept);
                prop_assert_eq!(response, expected);
            }
            Answer::Long(mut list) => {
                let header = list.header_mut().as_mut().expect("it has one");
                prop_assert_eq!(header.revision, expected.header.unwrap().revision);
                header.member_id = 77;
                let (len, mut pieces) = (list.encoded_len(), Vec::new());
                while list.step(&state, keys, piece, &mut pieces).unwrap() {
                    put(&mut state, puts[0].0, 3);
                    delete(&mut state, puts[puts.len() / 3].0);
                    compact(&mut state);
                }
                let bytes = pieces.concat();
                prop_assert_eq!(bytes.len(), len);
                let response = pb::RangeResponse::decode(&bytes[..]).unwrap();
                prop_assert_eq!(response.header.unwrap().member_id, 77);
                prop_assert_eq!(&response.encode_to_vec(), &bytes);
                prop_assert_eq!((response.kvs, response.more, response.count), (expected.kvs, expected.more, expected.count));
            }
        }
    }
}

#[test]
fn what_is_sorted_or_filtered_is_a_list_too() {
    let mut state = StateMachine::new();
    (0..100).for_each(|key| put(&mut state, key, 100));
    let all = pb::RangeRequest { key: "key".into(), range_end: "kez".into(), ..Default::default() };
    let evaluated = |request: &pb::RangeRequest, kept: usize| {
        let mut range = Range::begin(&state, request, true).unwrap().keep_at_most(kept);
        while !range.step(&state, 16).unwrap() {}
        range.finish()
    };
    for request in [
        pb::RangeRequest { sort_order: 2, ..all.clone() },
        pb::RangeRequest { sort_target: 1, ..all.clone() },
        pb::RangeRequest { min_mod_revision: 3, ..all.clone() },
    ] {
        assert!(matches!(evaluated(&request, 10), Answer::Long(_)), "{request:?}");
        assert_eq!(evaluated(&request, 100_000).whole(), state.range(&request).unwrap());
    }
    let request = pb::RangeRequest { count_only: true, ..all };
    assert_eq!(evaluated(&request, 10).whole(), state.range(&request).unwrap());
}
