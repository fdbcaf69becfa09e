use std::rc::Rc;

use futures_lite::{StreamExt, future::block_on};

use super::*;
use crate::{
    api::{
        Error, Options,
        fake::{self, Fake},
    },
    metrics::{self, Metrics},
    shard, state,
};

fn api(fake: &Fake, options: Options) -> Api<Fake> {
    let metrics = Metrics::new(&metrics::Options::default()).expect("names are distinct");
    Api::new(fake.clone(), Rc::new(metrics), options)
}

fn put(key: &str, value_len: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![b'v'; value_len].into(), ..Default::default() }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: fake::CLUSTER,
        member_id: fake::MEMBER,
        revision,
        raft_term: fake::TERM,
    })
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> state::Error {
    match result.expect_err("refused") {
        Error::Apply(error) => error,
        other => panic!("not the request's fault: {other:?}"),
    }
}

#[test]
fn headers_are_complete() {
    block_on(async {
        let api = api(&Fake::new(), Options::default());
        assert_eq!(api.put(put("a", 1)).await.expect("put").header, header(2));
        let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
        let crate::state::kv::RangeAnswer::Whole(response) = api.range(range).await.expect("range") else {
            panic!("a short answer")
        };
        assert_eq!(response.header, header(2));
        let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
        assert_eq!(api.delete_range(delete).await.expect("delete").header, header(2));
        assert_eq!(api.txn(pb::TxnRequest::default()).await.expect("txn").header, header(2));
        // The entry's answer has no header at all here.
        let compaction = pb::CompactionRequest { revision: 2, physical: true };
        assert_eq!(api.compact(compaction).await.expect("compact").header, header(2));
        assert_eq!(api.status(pb::StatusRequest {}).await.expect("status").header, header(2));
        assert_eq!(api.alarm(pb::AlarmRequest::default()).await.expect("alarms").header, header(2));
        let members = api.member_list(pb::MemberListRequest { linearizable: true }).await.expect("members");
        assert_eq!(members.header, header(0), "no revision in this service");
        assert_eq!(members.members.len(), 1);
    });
}

#[test]
fn what_is_wrong_with_a_request_alone_is_never_proposed() {
    block_on(async {
        let fake = Fake::new();
        let api = api(&fake, Options { max_txn_ops: 2, ..Options::default() });
        assert_eq!(refused(api.put(put("", 1)).await), state::Error::EmptyKey);
        let ignore = pb::PutRequest { ignore_value: true, ..put("a", 1) };
        assert_eq!(refused(api.put(ignore).await), state::Error::ValueProvided);
        assert_eq!(refused(api.range(pb::RangeRequest::default()).await.map(|_| ())), state::Error::EmptyKey);
        assert_eq!(
            refused(api.delete_range(pb::DeleteRangeRequest::default()).await),
            state::Error::EmptyKey
        );
        let compare = pb::Compare { key: "a".into(), ..Default::default() };
        let txn = pb::TxnRequest { compare: vec![compare; 3], ..Default::default() };
        assert_eq!(refused(api.txn(txn).await), state::Error::TooManyOps);
        let sorted = pb::RangeRequest { key: "a".into(), sort_order: 2, ..Default::default() };
        assert_eq!(refused(api.range_stream(sorted).map(drop)), state::Error::RangeStreamSortOrder);
        assert_eq!(fake.written(), 0);
    });
}

#[test]
fn a_transaction_of_ranges_stays_off_the_log() {
    block_on(async {
        let fake = Fake::new();
        let api = api(&fake, Options::default());
        let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(range)) };
        let txn = pb::TxnRequest { success: vec![op], ..Default::default() };
        api.txn(txn).await.expect("answered");
        assert_eq!(fake.written(), 0);
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put("a", 1))) };
        let txn = pb::TxnRequest { failure: vec![op], ..Default::default() };
        api.txn(txn).await.expect("answered");
        assert_eq!(fake.written(), 1);
    });
}

/// The sizes at which upstream 3.7.1 with a member id like the fake's begins to refuse: its envelope
/// counts, too.
#[test]
fn the_bound_of_a_request_includes_etcds_envelope() {
    block_on(async {
        let api = api(&Fake::new(), Options { max_request_bytes: 1000, ..Options::default() });
        // 3 for the key, 3 for the value's tag and length, 3 for the put's, 13 for the header.
        api.put(put("k", 1000 - 3 - 3 - 3 - 13)).await.expect("just fits");
        let refusal = refused(api.put(put("k", 1000 - 3 - 3 - 3 - 13 + 1)).await);
        assert_eq!(refusal, state::Error::RequestTooLarge);
    });
}

#[test]
fn a_stream_has_its_header_on_the_last_chunk_only() {
    block_on(async {
        let api = api(&Fake::new(), Options::default());
        for key in ["a", "b", "c"] {
            api.put(put(key, 1)).await.expect("put");
        }
        let all = pb::RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
        let chunks: Vec<_> = api.range_stream(all).expect("accepted").collect().await;
        let chunks: Vec<_> = chunks
            .into_iter()
            .map(|chunk| chunk.expect("a chunk").range_response.expect("carries a range"))
            .collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.kvs.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((chunks[0].header, chunks[0].count), (None, 0));
        assert_eq!((chunks[1].header, chunks[1].count), (header(4), 3));
    });
}

#[test]
fn status_tells_of_a_lost_leader() {
    block_on(async {
        let fake = Fake::new();
        let api = api(&fake, Options::default());
        let status = api.status(pb::StatusRequest {}).await.expect("status");
        assert_eq!((status.version.as_str(), status.storage_version.as_str()), ("3.7.1", "3.7.0"));
        assert_eq!((status.leader, status.raft_index, status.raft_applied_index), (fake::MEMBER, 11, 10));
        assert_eq!((status.db_size, status.db_size_in_use, status.db_size_quota), (20_480, 16_384, 2 << 30));
        assert!(status.errors.is_empty());
        assert_eq!(status.downgrade_info, Some(pb::DowngradeInfo::default()));
        fake.empty();
        let status = api.status(pb::StatusRequest {}).await.expect("status");
        assert!(status.db_size > 0, "clients divide by it");
        fake.lose_leader();
        let status = api.status(pb::StatusRequest {}).await.expect("status");
        assert_eq!((status.leader, status.errors.as_slice()), (0, &["etcdserver: no leader".to_owned()][..]));
    });
}

#[test]
fn only_a_linearizable_member_list_waits_for_the_log() {
    block_on(async {
        let fake = Fake::new();
        let api = api(&fake, Options::default());
        api.member_list(pb::MemberListRequest { linearizable: true }).await.expect("members");
        assert_eq!(fake.linearized(), 1);
        fake.fail(shard::Error::NoLeader);
        api.member_list(pb::MemberListRequest { linearizable: false }).await.expect("from what is here");
        let refusal = api.member_list(pb::MemberListRequest { linearizable: true }).await;
        assert_eq!(refusal.expect_err("refused"), Error::NoLeader);
    });
}

/// The fake occupies 20480 bytes.
#[test]
fn a_write_beyond_the_quota_raises_the_alarm_once() {
    block_on(async {
        let fake = Fake::new();
        let api = api(&fake, Options { quota: shard::Quota::new(20_480 + 256 + 3), ..Options::default() });
        api.put(put("k", 1)).await.expect("just fits");
        assert_eq!(refused(api.put(put("k", 2)).await), state::Error::NoSpace);
        assert!(fake.alarms().is_on_for(pb::AlarmType::Nospace, fake::MEMBER));
        assert_eq!(fake.written(), 2, "the put that fits and the alarm");
        // Before it is looked at, as in etcd.
        assert_eq!(refused(api.put(put("", 3)).await), state::Error::NoSpace);
        let request = pb::request_op::Request::RequestPut(put("k", 2));
        let ops = vec![pb::RequestOp { request: Some(request) }];
        assert_eq!(
            refused(api.txn(pb::TxnRequest { failure: ops, ..Default::default() }).await),
            state::Error::NoSpace
        );
        assert_eq!(fake.written(), 2, "it is on already");
        api.txn(pb::TxnRequest::default()).await.expect("adds nothing");
        let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
        api.delete_range(delete).await.expect("adds nothing");
    });
}

#[test]
fn alarms_are_listed_from_the_state_and_changed_through_the_log() {
    block_on(async {
        let fake = Fake::new();
        let api = api(&fake, Options::default());
        use pb::alarm_request::AlarmAction;
        let (get, raise) = (AlarmAction::Get as i32, AlarmAction::Activate as i32);
        let corrupt = pb::AlarmMember { member_id: 5, alarm: pb::AlarmType::Corrupt as i32 };
        let request = pb::AlarmRequest { action: raise, member_id: 5, alarm: corrupt.alarm };
        let response = api.alarm(request).await.expect("raised");
        assert_eq!((response.header, response.alarms), (header(1), vec![corrupt]));
        let response =
            api.alarm(pb::AlarmRequest { action: get, ..Default::default() }).await.expect("listed");
        assert_eq!((response.header, response.alarms), (header(1), vec![corrupt]));
        assert_eq!((fake.written(), fake.linearized()), (1, 1));
        let refusal = api.alarm(pb::AlarmRequest { action: 9, ..Default::default() }).await;
        assert!(matches!(refusal, Err(Error::Unimplemented(_))), "{refusal:?}");
    });
}

/// Texts of upstream 3.7.1.
#[test]
fn status_lists_alarms_among_its_errors() {
    block_on(async {
        let fake = Fake::new();
        let api = api(&fake, Options::default());
        let alarm = |member_id, alarm| pb::AlarmMember { member_id, alarm };
        fake.raise(&[alarm(0, 1), alarm(7, 1), alarm(5, 2), alarm(5, 7)]);
        let status = api.status(pb::StatusRequest {}).await.expect("status");
        assert_eq!(
            status.errors,
            ["alarm:NOSPACE", "memberID:7 alarm:NOSPACE", "memberID:5 alarm:CORRUPT", "memberID:5 alarm:7"]
        );
    });
}

#[test]
fn a_snapshot_ends_with_its_digest() {
    block_on(async {
        let api = api(&Fake::new(), Options::default());
        let messages: Vec<_> = api.snapshot(pb::SnapshotRequest {}).expect("accepted").collect().await;
        let shown: Vec<(u64, usize, String)> = messages
            .into_iter()
            .map(|message| message.expect("a message"))
            .map(|message| (message.remaining_bytes, message.blob.len(), message.version))
            .collect();
        let version = || "3.7.0".to_string();
        assert_eq!(shown, [(7_232, 32_768, version()), (0, 7_232, version()), (0, 32, version())]);
        assert_eq!(api.metrics().snapshot_seconds.get_sample_count(), 1);
    });
}
