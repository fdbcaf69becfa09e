use bench_harness::pb::etcdserverpb as pb;
use tonic::Code;

use super::*;

fn kv(key: &'static str, value: &'static str, revision: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

fn answer(kvs: Vec<KeyValue>) -> pb::RangeResponse {
    let header = Some(pb::ResponseHeader { revision: 9, ..Default::default() });
    pb::RangeResponse { header, count: kvs.len() as i64, kvs, more: false }
}

fn many(order: &[usize]) -> pb::RangeResponse {
    const NAMES: [&str; 14] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];
    answer(order.iter().map(|&n| kv(NAMES[n], "same", 2 + n as i64)).collect())
}

#[test]
fn every_field_counts() {
    let call = Call::Range(pb::RangeRequest::default());
    let same = answer(vec![kv("a", "1", 2), kv("b", "2", 3)]);
    let changes: [fn(&mut pb::RangeResponse); 12] = [
        |r| r.header.as_mut().unwrap().revision += 1,
        |r| r.header = None,
        |r| r.count += 1,
        |r| r.more = true,
        |r| r.kvs.truncate(1),
        |r| r.kvs.swap(0, 1),
        |r| r.kvs[1].key = "c".into(),
        |r| r.kvs[1].value = "".into(),
        |r| r.kvs[1].lease = 1,
        |r| r.kvs[1].version = 2,
        |r| r.kvs[1].create_revision = 2,
        |r| r.kvs[1].mod_revision = 4,
    ];
    assert_eq!(compare(&call, &Answer::Range(same.clone()), &Answer::Range(same.clone())), Verdict::Same);
    for (place, change) in changes.iter().enumerate() {
        let mut other = same.clone();
        change(&mut other);
        let verdict = compare(&call, &Answer::Range(same.clone()), &Answer::Range(other));
        assert!(matches!(verdict, Verdict::Different(_)), "change {place}: {verdict:?}");
    }
}

#[test]
fn refusals_differ_by_code_and_by_text() {
    let call = Call::Range(pb::RangeRequest::default());
    let refused = |code, message: &str| Answer::Refused { code, message: message.to_owned() };
    let said = refused(Code::OutOfRange, "etcdserver: a");
    assert_eq!(compare(&call, &said, &said.clone()), Verdict::Same);
    for other in [
        refused(Code::Internal, "etcdserver: a"),
        refused(Code::OutOfRange, "etcdserver: b"),
        Answer::Range(answer(Vec::new())),
    ] {
        assert!(matches!(compare(&call, &said, &other), Verdict::Different(_)));
    }
}

#[test]
fn a_broken_answer_is_no_match_even_if_both_break() {
    let call = Call::Range(pb::RangeRequest::default());
    let broken = Answer::Malformed("x".to_owned());
    assert!(matches!(compare(&call, &broken, &broken.clone()), Verdict::Different(_)));
}

#[test]
fn ties_may_change_places_only_in_a_long_sorted_answer() {
    let up: Vec<usize> = (0..14).collect();
    let swapped: Vec<usize> = (0..14).map(|n| if n < 2 { 1 - n } else { n }).collect();
    let verdict = |sort_target, left: &[usize], right: &[usize]| {
        let call = Call::Range(pb::RangeRequest { sort_order: 1, sort_target, ..Default::default() });
        compare(&call, &Answer::Range(many(left)), &Answer::Range(many(right)))
    };
    // Values are all the same, revisions are not.
    assert_eq!(verdict(4, &up, &swapped), Verdict::Explained);
    assert!(matches!(verdict(3, &up, &swapped), Verdict::Different(_)));
    assert!(matches!(verdict(0, &up, &swapped), Verdict::Different(_)));
    assert!(matches!(verdict(4, &up[..12], &swapped[..12]), Verdict::Different(_)));
}

#[test]
fn a_limit_may_cut_a_group_of_ties_anywhere() {
    let call =
        Call::Range(pb::RangeRequest { sort_order: 1, sort_target: 4, limit: 2, ..Default::default() });
    let cut = |order: &[usize], more| pb::RangeResponse { more, count: 14, ..many(order) };
    let verdict =
        |more| compare(&call, &Answer::Range(cut(&[0, 1], more)), &Answer::Range(cut(&[5, 9], more)));
    assert_eq!(verdict(true), Verdict::Explained);
    assert!(matches!(verdict(false), Verdict::Different(_)));
}
