mod lease;
mod lock;
pub(crate) mod member;
mod watch;

use futures_lite::StreamExt;
use prost::Message;

use super::*;
use crate::{
    shard::AnswerReader,
    state::{self, kv::Answer},
};
use kv::{compact, delete_range, put, range, range_stream, txn};
use maintenance::{alarm, status};
use member::*;
use pb::alarm_request::AlarmAction;

fn a_put(key: &str, value_len: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![b'v'; value_len].into(), ..Default::default() }
}

fn header(api: &Api, revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: CLUSTER.0,
        member_id: MEMBER.0,
        revision,
        raft_term: api.shard().term().0,
    })
}

fn refused<T>(result: Result<T, Error>) -> state::Error {
    match result.err().expect("refused") {
        Error::Apply(error) => error,
        other => panic!("not the request's fault: {other:?}"),
    }
}

/// Runs a test on a member that serves.
fn serving<T: 'static>(
    options: Options,
    test: impl AsyncFnOnce(&Api, Caller) -> T + 'static,
) -> (TestMember, T) {
    let member = TestMember::serving(options);
    let api = member.api.clone();
    let output = member.run(async move { test(&api, caller()).await });
    (member, output)
}

async fn raise(api: &Api, member_id: u64, kind: i32) -> pb::AlarmResponse {
    let request = pb::AlarmRequest { action: AlarmAction::Activate as i32, member_id, alarm: kind };
    alarm(api, &caller(), request).await.expect("raised")
}

#[test]
fn headers_are_complete() {
    serving(Options::default(), async |api, caller| {
        assert_eq!(put(api, &caller, a_put("a", 1)).await.expect("put").header, header(api, 2));
        let request = pb::RangeRequest { key: "a".into(), ..Default::default() };
        assert_eq!(range(api, &caller, request).await.expect("range").whole().header, header(api, 2));
        let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
        let answer = delete_range(api, &caller, delete).await.expect("delete");
        assert_eq!(answer.whole().header, header(api, 3));
        let empty = pb::TxnRequest::default();
        assert_eq!(txn(api, &caller, empty).await.expect("txn").whole().header, header(api, 3));
        let compaction = pb::CompactionRequest { revision: 2, physical: true };
        assert_eq!(compact(api, &caller, compaction).await.expect("compact").header, header(api, 3));
        let answer = status(api, &caller, pb::StatusRequest {}).await.expect("status");
        assert_eq!(answer.header, header(api, 3));
        let answer = alarm(api, &caller, pb::AlarmRequest::default()).await.expect("alarms");
        assert_eq!(answer.header, header(api, 3));
        let request = pb::MemberListRequest { linearizable: true };
        let members = cluster::member_list(api, &caller, request).await.expect("members");
        assert_eq!(members.header, header(api, 0), "no revision in this service");
        assert_eq!(members.members.len(), 1);
    });
}

#[test]
fn what_is_wrong_with_a_request_alone_is_never_proposed() {
    let options = Options { max_txn_ops: 2, ..Options::default() };
    let (member, before) = serving(options, async |api, caller| {
        let before = api.shard().status().applied.0;
        assert_eq!(refused(put(api, &caller, a_put("", 1)).await), state::Error::EmptyKey);
        let ignore = pb::PutRequest { ignore_value: true, ..a_put("a", 1) };
        assert_eq!(refused(put(api, &caller, ignore).await), state::Error::ValueProvided);
        assert_eq!(refused(range(api, &caller, pb::RangeRequest::default()).await), state::Error::EmptyKey);
        let empty = pb::DeleteRangeRequest::default();
        assert_eq!(refused(delete_range(api, &caller, empty).await), state::Error::EmptyKey);
        let compare = pb::Compare { key: "a".into(), ..Default::default() };
        let large = pb::TxnRequest { compare: vec![compare; 3], ..Default::default() };
        assert_eq!(refused(txn(api, &caller, large).await), state::Error::TooManyOps);
        let sorted = pb::RangeRequest { key: "a".into(), sort_order: 2, ..Default::default() };
        assert_eq!(refused(range_stream(api, &caller, sorted)), state::Error::RangeStreamSortOrder);
        before
    });
    assert_eq!(member.applied(), before);
}

/// All of an answer that comes in pieces, and how many those are.
async fn taken<M: Message + Default>(answer: Answer<M, AnswerReader>) -> (M, usize) {
    let Answer::Long(mut long) = answer else { panic!("a short answer") };
    let (len, mut pieces, mut steps) = (long.encoded_len(), Vec::new(), 1);
    while long.next(limits::RANGE_PIECE_BYTES, &mut pieces).await.expect("the state that was pinned") {
        steps += 1;
    }
    let bytes = pieces.concat();
    assert_eq!(bytes.len(), len);
    (M::decode(&bytes[..]).expect("an answer"), steps)
}

#[test]
fn long_answers_of_writes_come_in_pieces_and_show_what_was() {
    serving(Options::default(), async |api, caller| {
        const KEYS: usize = 300;
        for key in 0..KEYS {
            put(api, &caller, a_put(&format!("a{key:03}"), 1_000)).await.expect("put");
        }
        let all = pb::RangeRequest { key: "a".into(), range_end: "b".into(), ..Default::default() };
        let op = |request| pb::RequestOp { request: Some(request) };
        let range = op(pb::request_op::Request::RequestRange(all));
        let more = op(pb::request_op::Request::RequestPut(a_put("a", 1)));
        let request =
            pb::TxnRequest { success: vec![range.clone(), more, range.clone()], ..Default::default() };
        let answer = txn(api, &caller, request).await.expect("txn");
        let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "b".into(), prev_kv: true };
        let deleted = delete_range(api, &caller, delete).await.expect("delete");
        let request = pb::TxnRequest { success: vec![range; 2], ..Default::default() };
        let nothing = txn(api, &caller, request).await.expect("txn");

        let (answer, steps) = taken(answer).await;
        assert_eq!(answer.header, header(api, KEYS as i64 + 2));
        let counts = answer.responses.iter().map(|response| match &response.response {
            Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.len(),
            _ => 0,
        });
        assert_eq!(counts.collect::<Vec<_>>(), [KEYS, 0, KEYS + 1], "before and after the put");
        assert!(steps > 6, "{steps} pieces");
        let (deleted, _) = taken(deleted).await;
        assert_eq!((deleted.header, deleted.prev_kvs.len()), (header(api, KEYS as i64 + 3), KEYS + 1));
        let (nothing, _) = taken(nothing).await;
        assert_eq!(nothing.header, header(api, KEYS as i64 + 3));
    });
}

#[test]
fn a_transaction_that_is_too_deep_has_too_many_operations() {
    let nested = |levels| {
        let mut txn = pb::TxnRequest::default();
        for _ in 0..levels {
            let request = Some(pb::request_op::Request::RequestTxn(txn));
            txn = pb::TxnRequest { success: vec![pb::RequestOp { request }], ..Default::default() };
        }
        txn.encode_to_vec()
    };
    assert_eq!(kv::undecodable_txn(&nested(limits::TXN_NESTING_MAX)), None);
    let too_deep = kv::undecodable_txn(&nested(limits::TXN_NESTING_MAX + 1));
    assert_eq!(too_deep, Some(Error::Apply(state::Error::TooManyOps)));
    assert_eq!(kv::undecodable_txn(b"nonsense"), None);
}

/// On this member only: once it is in the log, every member compares, and a restart does.
#[test]
fn a_transaction_that_compares_too_much_or_has_too_much_is_never_proposed() {
    use pb::request_op::Request as Op;
    let op = |request| pb::RequestOp { request: Some(request) };
    let of = |success: Vec<pb::RequestOp>| pb::TxnRequest { success, ..Default::default() };
    let writes = move || vec![op(Op::RequestPut(a_put("x", 1)))];
    let compares = |count: usize| {
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Greater as i32,
            key: "a".into(),
            range_end: "b".into(),
            ..Default::default()
        };
        vec![compare; count]
    };
    serving(Options::default(), async move |api, caller| {
        for from in (0..1_000).step_by(100) {
            let puts = (from..from + 100).map(|key| op(Op::RequestPut(a_put(&format!("a{key:03}"), 1))));
            txn(api, &caller, of(puts.collect())).await.expect("put");
        }
        let before = api.shard().status().applied.0;
        let few = pb::TxnRequest { compare: compares(99), ..of(writes()) };
        assert!(txn(api, &caller, few).await.expect("applied").whole().succeeded);
        let many = pb::TxnRequest { compare: compares(101), ..of(writes()) };
        let nested = of(vec![op(Op::RequestTxn(many.clone()))]);
        assert_eq!(refused(txn(api, &caller, many).await), state::Error::TooManyOps);
        assert_eq!(refused(txn(api, &caller, nested).await), state::Error::TooManyOps);
        // Operations of all branches, however few each list has.
        let deletion =
            op(Op::RequestDeleteRange(pb::DeleteRangeRequest { key: "y".into(), ..Default::default() }));
        let wide = (0..2).fold(vec![deletion; 40], |inner, _| vec![op(Op::RequestTxn(of(inner))); 40]);
        assert_eq!(refused(txn(api, &caller, of(wide)).await), state::Error::TooManyOps);
        assert_eq!(api.shard().status().applied.0, before + 1);
    });
}

#[test]
fn a_transaction_of_ranges_stays_off_the_log() {
    let (member, before) = serving(Options::default(), async |api, caller| {
        let before = api.shard().status().applied.0;
        let request = pb::RangeRequest { key: "a".into(), ..Default::default() };
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(request)) };
        let request = pb::TxnRequest { success: vec![op], ..Default::default() };
        txn(api, &caller, request).await.expect("answered");
        assert_eq!(api.shard().status().applied.0, before);
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(a_put("a", 1))) };
        let request = pb::TxnRequest { failure: vec![op], ..Default::default() };
        txn(api, &caller, request).await.expect("answered");
        before
    });
    assert_eq!(member.applied(), before + 1);
}

/// The sizes at which upstream 3.7.1 with such a member id begins to refuse: its envelope counts, too.
#[test]
fn the_bound_of_a_request_includes_etcds_envelope() {
    let options = Options { max_request_bytes: 1000, ..Options::default() };
    serving(options, async |api, caller| {
        // 3 for the key, 3 for the value's tag and length, 3 for the put's, 13 for the header.
        put(api, &caller, a_put("k", 1000 - 3 - 3 - 3 - 13)).await.expect("just fits");
        let refusal = refused(put(api, &caller, a_put("k", 1000 - 3 - 3 - 3 - 13 + 1)).await);
        assert_eq!(refusal, state::Error::RequestTooLarge);
    });
}

#[test]
fn a_stream_has_its_header_on_the_last_chunk_only() {
    let options = Options { max_request_bytes: 2_000, ..Options::default() };
    serving(options, async |api, caller| {
        for key in 0..25 {
            put(api, &caller, a_put(&format!("a{key:02}"), 900)).await.expect("put");
        }
        let all = pb::RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
        let chunks: Vec<_> = range_stream(api, &caller, all).expect("accepted").collect().await;
        let mut chunks: Vec<_> = chunks
            .into_iter()
            .map(|chunk| chunk.expect("a chunk").whole().range_response.expect("carries a range"))
            .collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.kvs.len()).sum::<usize>(), 25);
        let last = chunks.pop().expect("there is one at least");
        assert_eq!((last.header, last.count), (header(api, 26), 25));
        assert!(!chunks.is_empty(), "they would not fit into one");
        assert!(chunks.iter().all(|chunk| chunk.header.is_none() && chunk.count == 0));
    });
}

#[test]
fn status_tells_of_a_lost_leader() {
    serving(Options::default(), async |api, caller| {
        let answer = status(api, &caller, pb::StatusRequest {}).await.expect("status");
        assert_eq!((answer.version.as_str(), answer.storage_version.as_str()), ("3.7.1", "3.7.0"));
        let shown = api.shard().status();
        assert_eq!(
            (answer.leader, answer.raft_index, answer.raft_applied_index),
            (MEMBER.0, shown.committed.0, shown.applied.0)
        );
        assert!(answer.db_size > 0 && answer.db_size_in_use > 0, "clients divide by it");
        assert_eq!(answer.db_size_quota, 2 << 30);
        assert!(answer.errors.is_empty() && !answer.is_learner);
        assert_eq!(answer.downgrade_info, Some(pb::DowngradeInfo::default()));
    });
    let member = TestMember::alone();
    let api = member.api.clone();
    let answer = member.run(async move { status(&api, &caller(), pb::StatusRequest {}).await });
    let answer = answer.expect("status");
    assert_eq!((answer.leader, answer.errors.as_slice()), (0, &["etcdserver: no leader".to_owned()][..]));
}

#[test]
fn only_a_linearizable_member_list_waits_for_the_others() {
    let member = TestMember::alone();
    let api = member.api.clone();
    member.run(async move {
        let local = pb::MemberListRequest { linearizable: false };
        let members = cluster::member_list(&api, &caller(), local).await.expect("from what is here");
        assert_eq!(members.members.len(), 3);
        let request = pb::MemberListRequest { linearizable: true };
        let refusal = cluster::member_list(&api, &caller(), request).await;
        assert_eq!(refusal.expect_err("refused"), Error::Timeout);
    });
}

#[test]
fn a_write_beyond_the_quota_raises_the_alarm_once() {
    let member = TestMember::serving(Options::default());
    let (shard, before) = (member.shard.clone(), member.applied());
    // A put costs 256 bytes and its key and value; what it leaves no room for is refused.
    let quota = Quota::new(shard.size_bytes() as i64 + 256 + 3);
    let options = Options { quota, ..Options::default() };
    let api = Api::new(&member.env, Keyspace::default(), shard.clone(), metrics(), options);
    member.run(async move {
        let caller = caller();
        put(&api, &caller, a_put("k", 1)).await.expect("just fits");
        assert_eq!(refused(put(&api, &caller, a_put("k", 2)).await), state::Error::NoSpace);
        assert!(shard.alarms().is_on_for(pb::AlarmType::Nospace, MEMBER.0));
        let applied = || shard.status().applied.0 - before;
        assert_eq!(applied(), 2, "the put that fits and the alarm");
        // Before it is looked at, as in etcd.
        assert_eq!(refused(put(&api, &caller, a_put("", 3)).await), state::Error::NoSpace);
        let request = pb::request_op::Request::RequestPut(a_put("k", 2));
        let failure = vec![pb::RequestOp { request: Some(request) }];
        let request = pb::TxnRequest { failure, ..Default::default() };
        assert_eq!(refused(txn(&api, &caller, request).await), state::Error::NoSpace);
        assert_eq!(applied(), 2, "it is on already");
        txn(&api, &caller, pb::TxnRequest::default()).await.expect("adds nothing");
        let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
        delete_range(&api, &caller, delete).await.expect("adds nothing");
    });
}

#[test]
fn alarms_are_listed_from_the_state_and_changed_through_the_log() {
    let (member, before) = serving(Options::default(), async |api, caller| {
        let before = api.shard().status().applied.0;
        let corrupt = pb::AlarmMember { member_id: 5, alarm: pb::AlarmType::Corrupt as i32 };
        let response = raise(api, 5, corrupt.alarm).await;
        assert_eq!((response.header, response.alarms), (header(api, 1), vec![corrupt]));
        let request = pb::AlarmRequest { action: AlarmAction::Get as i32, ..Default::default() };
        let response = alarm(api, &caller, request).await.expect("listed");
        assert_eq!((response.header, response.alarms), (header(api, 1), vec![corrupt]));
        let refusal = alarm(api, &caller, pb::AlarmRequest { action: 9, ..Default::default() }).await;
        assert!(matches!(refusal, Err(Error::Unimplemented(_))), "{refusal:?}");
        before
    });
    assert_eq!(member.applied(), before + 1);
}

/// Texts of upstream 3.7.1.
#[test]
fn status_lists_alarms_among_its_errors() {
    serving(Options::default(), async |api, caller| {
        for (member_id, kind) in [(0, 1), (7, 1), (5, 2), (5, 7)] {
            raise(api, member_id, kind).await;
        }
        let answer = status(api, &caller, pb::StatusRequest {}).await.expect("status");
        assert_eq!(
            answer.errors,
            ["alarm:NOSPACE", "memberID:7 alarm:NOSPACE", "memberID:5 alarm:CORRUPT", "memberID:5 alarm:7"]
        );
    });
}

#[test]
fn a_snapshot_ends_with_its_digest() {
    let (member, messages) = serving(Options::default(), async |api, caller| {
        put(api, &caller, a_put("a", 10_000)).await.expect("put");
        let request = pb::SnapshotRequest {};
        maintenance::snapshot(api, &caller, request).expect("accepted").collect::<Vec<_>>().await
    });
    let mut shown: Vec<(u64, usize)> = messages
        .into_iter()
        .map(|message| message.expect("a message"))
        .inspect(|message| assert_eq!(message.version, "3.7.0"))
        .map(|message| (message.remaining_bytes, message.blob.len()))
        .collect();
    assert_eq!(shown.pop(), Some((0, 32)), "the digest");
    let total = shown.iter().map(|(_, len)| *len as u64).sum::<u64>();
    let mut sent = 0;
    for (remaining, len) in shown {
        sent += len as u64;
        assert_eq!(remaining, total - sent);
        assert!(len == 32_768 || remaining == 0);
    }
    assert_eq!(member.shard.metrics().snapshot_seconds.get_sample_count(), 1);
}

#[test]
fn what_is_asked_for_beside_the_request_is_looked_at_first() {
    let member = TestMember::alone();
    let (put, insists) = (Method::write("a.B", "C"), Caller { needs_leader: true, ..caller() });
    assert_eq!(member.api.admit(&put, false, &caller(), Some(b"3.7")), Ok(()));
    assert_eq!(member.api.admit(&put, false, &insists, None), Err(Error::NoLeader));
    let nonsense = member.api.admit(&put, false, &insists, Some(b"\xff"));
    assert_eq!(nonsense, Err(Error::InvalidClientApiVersion));
}

#[test]
fn probes_that_speak_grpc_are_answered() {
    use crate::pb::grpc_health::{
        HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus,
    };
    serving(Options::default(), async |api, caller| {
        let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let answer = super::serving::check(api, &caller, ask("")).await.expect("served");
        assert_eq!(answer.status(), ServingStatus::Serving);
        let unknown = super::serving::check(api, &caller, ask("etcdserverpb.KV")).await.expect_err("none");
        assert_eq!(unknown.grpc(), (Code::NotFound, "unknown service".into()));
        let list = super::serving::list(api, &caller, HealthListRequest {}).await.expect("served");
        assert_eq!(list.statuses.into_iter().collect::<Vec<_>>(), [(String::new(), answer)]);
        for (service, status) in [("", ServingStatus::Serving), ("x", ServingStatus::ServiceUnknown)] {
            let mut changes =
                std::pin::pin!(super::serving::watch(api, &caller, ask(service)).expect("a stream"));
            assert_eq!(changes.next().await.expect("one").expect("served").status(), status);
            assert!(futures_lite::future::poll_once(changes.next()).await.is_none(), "it goes on");
        }
    });
}

fn member_add(url: &str, is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner }
}

#[test]
fn a_learner_comes_and_goes_and_nothing_waits_for_it() {
    serving(Options::default(), async |api, caller| {
        let added = cluster::member_add(api, &caller, member_add("http://x:1", true)).await.expect("added");
        assert_eq!(added.header, header(api, 0));
        let learner = added.member.expect("told");
        assert_eq!(added.members.iter().filter(|member| member.is_learner).collect::<Vec<_>>(), [&learner]);
        // It votes for nothing, and Raft waits for it in nothing.
        put(api, &caller, a_put("a", 1)).await.expect("put");
        let again = cluster::member_add(api, &caller, member_add("http://x:1", true)).await;
        assert_eq!(refused(again), state::Error::PeerUrlExists);
        let second = cluster::member_add(api, &caller, member_add("http://y:1", true)).await;
        assert_eq!(refused(second), state::Error::TooManyLearners);
        let promote = pb::MemberPromoteRequest { id: learner.id };
        let unready = cluster::member_promote(api, &caller, promote).await.expect_err("it has no log");
        assert_eq!(unready, Error::LearnerNotReady);
        let text = metrics::text(api.metrics(), std::slice::from_ref(api)).expect("a text");
        let (text, own) = (String::from_utf8(text).expect("a text"), MEMBER.0);
        for line in [
            format!("etcd_network_known_peers{{Local=\"{own:x}\",Remote=\"{:x}\"}} 1", learner.id),
            "etcd_server_learner_promote_successes 0".to_owned(),
            "etcd_server_learner_promote_failures{Reason=\"etcdserver: can only promote a learner member which is in \
             sync with leader\"} 1"
                .to_owned(),
        ] {
            assert!(text.contains(&line), "{line}");
        }
        let remove = pb::MemberRemoveRequest { id: learner.id };
        let removed = cluster::member_remove(api, &caller, remove).await.expect("removed");
        assert_eq!(removed.members.len(), 1);
        assert_eq!(refused(cluster::member_remove(api, &caller, remove).await), state::Error::MemberNotFound);
        let promoted = cluster::member_promote(api, &caller, promote).await;
        assert_eq!(refused(promoted), state::Error::MemberNotFound);
        let nobody = cluster::member_remove(api, &caller, pb::MemberRemoveRequest { id: 0 }).await;
        assert_eq!(refused(nobody), state::Error::MemberNotFound);
        let nobody = cluster::member_promote(api, &caller, pb::MemberPromoteRequest { id: 0 }).await;
        assert_eq!(refused(nobody), state::Error::MemberNotFound);
        let next = cluster::member_add(api, &caller, member_add("http://x:1", true)).await.expect("added");
        assert_ne!(next.member.expect("told").id, learner.id, "no id comes back");
    });
}

#[test]
fn a_promotion_waits_for_a_leader_and_is_counted_by_nobody_else() {
    let member = TestMember::alone();
    let api = member.api.clone();
    member.run(async move {
        let began = api.shard().now();
        let promote = pb::MemberPromoteRequest { id: 7 };
        let refused = cluster::member_promote(&api, &caller(), promote).await.expect_err("nobody leads");
        assert_eq!(refused, Error::NoLeader);
        let (took, patience) = (api.shard().now().since(began), Membership::default().patience);
        assert!(took >= patience && took < 2 * patience, "{took:?}");
        let text = metrics::text(api.metrics(), std::slice::from_ref(&api)).expect("a text");
        let text = String::from_utf8(text).expect("a text");
        assert!(!text.contains("etcd_server_learner_promote_failures{"), "{text}");
    });
}

#[test]
fn a_single_member_stays() {
    let strict =
        |strict| Options { membership: Membership { strict, ..Membership::default() }, ..Options::default() };
    for options in [strict(true), strict(false)] {
        serving(options, async |api, caller| {
            let remove = pb::MemberRemoveRequest { id: MEMBER.0 };
            let refusal = refused(cluster::member_remove(api, &caller, remove).await);
            assert_eq!(refusal, state::Error::NotEnoughStarted);
            let own = api.shard().status().members[0].peer_ur_ls[0].clone();
            let refusal = refused(cluster::member_add(api, &caller, member_add(&own, false)).await);
            assert_eq!(refusal, state::Error::PeerUrlExists);
            let promote = pb::MemberPromoteRequest { id: MEMBER.0 };
            let refusal = refused(cluster::member_promote(api, &caller, promote).await);
            assert_eq!(refusal, state::Error::MemberNotLearner);
            put(api, &caller, a_put("a", 1)).await.expect("it goes on");
        });
    }
}

/// From one to two there is no way but through a member that is not there yet; from there on etcd's rules hold.
#[test]
fn a_second_vote_is_waited_for_before_there_is_a_third() {
    serving(Options::default(), async |api, caller| {
        let added = cluster::member_add(api, &caller, member_add("http://x:1", false)).await.expect("added");
        let second = added.member.expect("told");
        assert!(added.members.len() == 2 && !second.is_learner);
        let refusal = refused(cluster::member_add(api, &caller, member_add("http://y:1", false)).await);
        assert_eq!(refusal, state::Error::NotEnoughStarted);
        let remove = pb::MemberRemoveRequest { id: MEMBER.0 };
        let refusal = refused(cluster::member_remove(api, &caller, remove).await);
        assert_eq!(refusal, state::Error::NotEnoughStarted);
        // A learner takes nothing away, but the members there are must be connected.
        let refusal = cluster::member_add(api, &caller, member_add("http://y:1", true)).await;
        assert_eq!(refusal, Err(Error::Unhealthy));
    });
}

#[test]
fn a_change_of_members_without_the_others_is_refused() {
    let member = TestMember::alone();
    let api = member.api.clone();
    member.run(async move {
        let refusal = cluster::member_add(&api, &caller(), member_add("http://x:1", true)).await;
        assert_eq!(refusal.expect_err("refused"), Error::Unhealthy);
    });
}

#[test]
fn leadership_moves_to_whoever_has_it() {
    serving(Options::default(), async |api, caller| {
        let target = |target_id| pb::MoveLeaderRequest { target_id };
        maintenance::move_leader(api, &caller, target(MEMBER.0)).await.expect("it is there");
        let stranger = maintenance::move_leader(api, &caller, target(7)).await;
        assert_eq!(stranger.expect_err("refused"), Error::BadTransferee);
        let added = cluster::member_add(api, &caller, member_add("http://x:1", true)).await.expect("added");
        let learner = target(added.member.expect("told").id);
        let refusal = maintenance::move_leader(api, &caller, learner).await;
        assert_eq!(refusal.expect_err("refused"), Error::BadTransferee);
    });
    let member = TestMember::alone();
    let api = member.api.clone();
    member.run(async move {
        let request = pb::MoveLeaderRequest { target_id: MEMBER.0 };
        let refusal = maintenance::move_leader(&api, &caller(), request).await;
        assert_eq!(refusal.expect_err("refused"), Error::NotLeader);
    });
}

#[test]
fn a_downgrade_is_checked_begun_and_ended() {
    use pb::downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
    serving(Options::default(), async |api, caller| {
        let ask = async |action: i32, version: &str| {
            let request = pb::DowngradeRequest { action, version: version.to_owned() };
            maintenance::downgrade(api, &caller, request).await
        };
        let info = async || status(api, &caller, pb::StatusRequest {}).await.expect("status").downgrade_info;
        for (version, error) in
            [("3.5", Error::DowngradeTarget), ("3.7", Error::DowngradeTarget), ("3", Error::DowngradeFormat)]
        {
            for action in [Validate, Enable] {
                assert_eq!(ask(action as i32, version).await, Err(error.clone()), "{version}");
            }
        }
        assert_eq!(ask(9, "3.6").await, Err(Error::UnknownMethod));
        let valid = ask(Validate as i32, "3.6").await.expect("valid");
        assert_eq!((valid.header, valid.version.as_str()), (header(api, 1), "3.7"));
        ask(Cancel as i32, "").await.expect("there is none, which nobody is told");
        ask(Enable as i32, "3.6").await.expect("begun");
        let under_way = pb::DowngradeInfo { enabled: true, target_version: "3.6.0".into() };
        assert_eq!(info().await, Some(under_way));
        assert_eq!(ask(Enable as i32, "3.6").await, Err(Error::DowngradeUnderWay));
        ask(Cancel as i32, "").await.expect("ended");
        assert_eq!(info().await, Some(pb::DowngradeInfo::default()));
    });
}
