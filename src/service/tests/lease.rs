//! Leases as clients meet them, on a simulated member whose clock is the simulation's.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures_util::stream;

use super::*;
use crate::{
    env::{Env, Instant},
    service::lease::{lease_grant, lease_keep_alive, lease_leases, lease_revoke, lease_time_to_live},
};

/// An end is found this late at most.
const LATE: Duration = Duration::from_millis(100);

async fn grant(api: &Api, id: i64, ttl: i64) -> pb::LeaseGrantResponse {
    lease_grant(api, &caller(), pb::LeaseGrantRequest { id, ttl }).await.expect("granted")
}

async fn put_with(api: &Api, key: &str, lease: i64) -> i64 {
    let request = pb::PutRequest { lease, ..a_put(key, 1) };
    let response = put(api, &caller(), request).await.expect("put");
    response.header.expect("a header").revision
}

async fn is_there(api: &Api, key: &str) -> bool {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    range(api, &caller(), request).await.expect("range").whole().count > 0
}

async fn left(api: &Api, id: i64) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    whole(lease_time_to_live(api, &caller(), request).await.expect("answered")).await
}

async fn whole<M: Message + Default>(answer: Answer<M, AnswerReader>) -> M {
    let mut long = match answer {
        Answer::Whole(answer) => return answer,
        Answer::Long(long) => long,
    };
    let (len, mut pieces) = (long.encoded_len(), Vec::new());
    while long.next(1_000, &mut pieces).await.expect("nothing is in its way") {}
    assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>(), len);
    M::decode(&pieces.concat()[..]).expect("an answer")
}

type Asked = Result<pb::LeaseKeepAliveRequest, Error>;

/// Keepalives of these leases, in one go; then the client has no more.
async fn keep_alive(api: &Api, ids: &[i64]) -> Vec<(i64, i64)> {
    let ids: Vec<Asked> = ids.iter().map(|id| Ok(pb::LeaseKeepAliveRequest { id: *id })).collect();
    let requests = Requests::new(stream::iter(ids));
    let answers = lease_keep_alive(api, &caller(), requests).expect("a stream");
    let answers: Vec<_> = answers.collect().await;
    answers
        .into_iter()
        .map(|answer| answer.expect("an answer"))
        .map(|answer| (answer.id, answer.ttl))
        .collect()
}

#[test]
fn what_is_granted_is_told_as_etcd_does() {
    serving(Options { lease_ttl_min: 2, ..Options::default() }, async |api, caller| {
        let granted = grant(api, 0, -5).await;
        assert!(granted.id > 0);
        assert_eq!((granted.header, granted.ttl, granted.error.as_str()), (header(api, 1), 2, ""));
        assert_eq!(grant(api, -7, 100).await.ttl, 100);
        let again = pb::LeaseGrantRequest { id: -7, ttl: 1 };
        assert_eq!(refused(lease_grant(api, &caller, again).await), state::Error::LeaseExists);
        let long = pb::LeaseGrantRequest { id: 0, ttl: limits::LEASE_TTL_MAX + 1 };
        assert_eq!(refused(lease_grant(api, &caller, long).await), state::Error::LeaseTtlTooLarge);
        put_with(api, "b", -7).await;
        put_with(api, "a", -7).await;
        let told = left(api, -7).await;
        assert_eq!((told.header, told.id, told.granted_ttl), (header(api, 3), -7, 100));
        assert_eq!((told.ttl, told.keys), (99, vec!["a".into(), "b".into()]));
        let unknown = left(api, 4).await;
        assert_eq!((unknown.header, unknown.id, unknown.ttl), (header(api, 3), 4, -1));
        let revoked = lease_revoke(api, &caller, pb::LeaseRevokeRequest { id: -7 }).await.expect("revoked");
        assert_eq!(revoked.header, header(api, 4));
        let gone = lease_revoke(api, &caller, pb::LeaseRevokeRequest { id: -7 }).await;
        assert_eq!(refused(gone), state::Error::LeaseNotFound);
        assert!(!is_there(api, "a").await);
    });
}

#[test]
fn a_lease_ends_when_its_time_is_over_and_not_before() {
    let member = TestMember::serving(Options::default());
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        grant(&api, 7, 3).await;
        let granted = env.now();
        put_with(&api, "a", 7).await;
        let ends = granted.after(Duration::from_secs(3));
        while is_there(&api, "a").await {
            assert!(env.now() < ends.after(LATE), "it should have ended");
            env.sleep(Duration::from_millis(10)).await;
        }
        // It was granted a little before it was answered.
        assert!(env.now().after(LATE) > ends, "it ended early");
        let metrics = api.shard().metrics();
        assert_eq!((metrics.lease_expired.get(), metrics.lease_revoked.get()), (1, 1));
        assert_eq!(left(&api, 7).await.ttl, -1);
    });
}

#[test]
fn keepalives_are_answered_in_order_and_cost_no_log_write() {
    let member = TestMember::serving(Options::default());
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        grant(&api, 7, 3).await;
        grant(&api, 8, 5).await;
        put_with(&api, "a", 7).await;
        let applied = api.shard().status().applied;
        for _ in 0..20 {
            env.sleep(Duration::from_secs(2)).await;
            assert_eq!(keep_alive(&api, &[8, 7, 9, 7]).await, [(8, 5), (7, 3), (9, 0), (7, 3)]);
        }
        assert_eq!(api.shard().status().applied, applied);
        assert_eq!(api.shard().metrics().lease_renewed.get(), 60);
        assert!(is_there(&api, "a").await);
    });
}

#[test]
fn what_came_before_an_error_is_renewed() {
    serving(Options::default(), async |api, caller| {
        grant(api, 7, 3).await;
        grant(api, 8, 5).await;
        let ids = [7, 8].map(|id| Ok(pb::LeaseKeepAliveRequest { id }));
        let requests = stream::iter(ids.into_iter().chain([Err(Error::Stopped)]));
        let answers = lease_keep_alive(api, &caller, Requests::new(requests)).expect("a stream");
        let answers: Vec<_> =
            answers.map(|answer| answer.map(|answer| (answer.id, answer.ttl))).collect().await;
        assert!(matches!(answers[..], [Ok((7, 3)), Ok((8, 5)), Err(Error::Stopped)]), "{answers:?}");
        assert_eq!(api.shard().metrics().lease_renewed.get(), 2);
    });
}

#[test]
fn what_is_over_is_waited_for_and_never_comes_back() {
    let member = TestMember::serving(Options::default());
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        grant(&api, 7, 2).await;
        grant(&api, 8, 60).await;
        // While a member is corrupt nothing is revoked.
        raise(&api, 1, pb::AlarmType::Corrupt as i32).await;
        env.sleep(Duration::from_secs(4)).await;
        assert_eq!(left(&api, 7).await.ttl, -2, "it is two seconds late");
        let told = Rc::new(RefCell::new(None));
        env.spawn({
            let (api, told) = (api.clone(), told.clone());
            async move {
                let answers = keep_alive(&api, &[8, 7, 8]).await;
                *told.borrow_mut() = Some(answers);
            }
        });
        env.sleep(Duration::from_secs(5)).await;
        assert_eq!(*told.borrow(), None, "it waits for the end");
        let lift = pb::AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: 1,
            alarm: pb::AlarmType::Corrupt as i32,
        };
        alarm(&api, &caller(), lift).await.expect("lifted");
        env.sleep(limits::LEASE_RETRY + LATE).await;
        assert_eq!(told.take(), Some(vec![(8, 60), (7, 0), (8, 60)]));
        assert_eq!(left(&api, 7).await.ttl, -1);
    });
}

#[test]
fn many_keys_and_many_leases_are_listed_whole() {
    const MANY: i64 = 3 * limits::LEASES_PIECE as i64 + 7;
    serving(Options::default(), async |api, caller| {
        for number in 1..=MANY {
            // Those granted first end last.
            grant(api, number, 10 + MANY - number).await;
            put_with(api, &format!("k{number:05}"), 1).await;
        }
        let told = left(api, 1).await;
        let keys: Vec<bytes::Bytes> = (1..=MANY).map(|number| format!("k{number:05}").into()).collect();
        assert!(told.keys == keys && told.granted_ttl == 9 + MANY && told.id == 1);
        let request = pb::LeaseLeasesRequest {};
        let leases = whole(lease_leases(api, &caller, request).await.expect("listed")).await;
        let ids: Vec<_> = leases.leases.into_iter().map(|lease| lease.id).collect();
        assert_eq!(ids, (1..=MANY).rev().collect::<Vec<_>>());
    });
}

#[test]
fn a_few_leases_are_listed_by_their_end() {
    serving(Options::default(), async |api, caller| {
        for (id, ttl) in [(1, 50), (2, 30), (3, 40)] {
            grant(api, id, ttl).await;
        }
        keep_alive(api, &[2]).await;
        let leases =
            whole(lease_leases(api, &caller, pb::LeaseLeasesRequest {}).await.expect("listed")).await;
        assert_eq!(leases.header, header(api, 1));
        assert_eq!(leases.leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [2, 3, 1]);
    });
}

#[test]
fn those_that_end_together_are_gone_together_and_writes_pass_between() {
    const LEASES: i64 = 20_000;
    let member = TestMember::serving(Options::default());
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        let mut ends = Instant(0);
        for id in 1..=LEASES {
            grant(&api, id, 5).await;
            if id % 10 == 0 {
                put_with(&api, &format!("k{id}"), id).await;
            }
            ends = env.now().after(Duration::from_secs(5));
        }
        let mut longest = Duration::ZERO;
        while env.now() < ends.after(Duration::from_secs(1)) {
            let began = env.now();
            put_with(&api, "other", 0).await;
            longest = longest.max(env.now().since(began));
            env.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(api.shard().with_state(|state| (state.leases().len(), state.key_count())), (0, 1));
        assert_eq!(api.shard().metrics().lease_expired.get(), LEASES as u64);
        assert!(longest < LATE, "a write waited {longest:?}");
    });
}

#[test]
fn a_lease_takes_room() {
    let quota = Quota::new(1);
    let options = Options { quota, ..Options::default() };
    serving(options, async |api, caller| {
        let request = pb::LeaseGrantRequest { id: 7, ttl: 10 };
        assert_eq!(refused(lease_grant(api, &caller, request).await), state::Error::NoSpace);
        assert_eq!(left(api, 7).await.ttl, -1);
    });
}
