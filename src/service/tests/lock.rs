//! Locks and elections on a simulated member.

use std::{cell::RefCell, pin::pin, rc::Rc, time::Duration};

use futures_lite::future::poll_once;

use super::*;
use crate::{
    env::Env,
    pb::{v3electionpb::*, v3lockpb::*},
    service::{election, lease, lock},
};

const PAUSE: Duration = Duration::from_millis(50);

async fn grant(api: &Api, id: i64, ttl: i64) {
    lease::lease_grant(api, &caller(), pb::LeaseGrantRequest { id, ttl }).await.expect("granted");
}

async fn revoke(api: &Api, id: i64) {
    lease::lease_revoke(api, &caller(), pb::LeaseRevokeRequest { id }).await.expect("revoked");
}

fn request(lease: i64) -> LockRequest {
    LockRequest { name: "n".into(), lease }
}

async fn keys(api: &Api) -> Vec<bytes::Bytes> {
    let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    range(api, &caller(), all).await.expect("range").whole().kvs.into_iter().map(|kv| kv.key).collect()
}

/// What comes of a call that may take long.
type Coming<T> = Rc<RefCell<Option<Result<T, Error>>>>;

fn begin<T: 'static>(env: &impl Env, call: impl Future<Output = Result<T, Error>> + 'static) -> Coming<T> {
    let coming = Coming::default();
    let shown = coming.clone();
    env.spawn(async move {
        let came = call.await;
        *shown.borrow_mut() = Some(came);
    });
    coming
}

fn told(error: Option<Error>) -> (Code, String) {
    let (code, text) = error.expect("refused").grpc();
    (code, text.into_owned())
}

#[test]
fn a_lock_goes_from_one_to_the_next_in_their_order() {
    let member = TestMember::serving(Options::default());
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        for id in [10, -11, 12] {
            grant(&api, id, 600).await;
        }
        let first = lock::lock(&api, &caller(), request(10)).await.expect("it is free");
        assert_eq!((first.header, first.key), (header(&api, 2), "n/a".into()));
        let again = lock::lock(&api, &caller(), request(10)).await.expect("it has it");
        assert_eq!((again.header, again.key), (header(&api, 2), "n/a".into()));
        let call = |id| {
            let api = api.clone();
            async move { lock::lock(&api, &caller(), request(id)).await }
        };
        let second = begin(&env, call(-11));
        env.sleep(PAUSE).await;
        let third = begin(&env, call(12));
        env.sleep(PAUSE).await;
        assert_eq!(keys(&api).await, ["n/-b", "n/a", "n/c"]);
        assert!(second.borrow().is_none() && third.borrow().is_none());
        let unlocked = lock::unlock(&api, &caller(), UnlockRequest { key: "n/a".into() }).await;
        assert_eq!(unlocked.expect("unlocked").header, header(&api, 5));
        env.sleep(PAUSE).await;
        let second = second.take().expect("its turn came").expect("locked");
        assert_eq!((second.header, second.key), (header(&api, 5), "n/-b".into()));
        assert!(third.borrow().is_none());
        // Who waits needs nothing of the past.
        let compaction = pb::CompactionRequest { revision: 5, physical: true };
        kv::compact(&api, &caller(), compaction).await.expect("compacted");
        // Its lease takes the lock away.
        revoke(&api, -11).await;
        env.sleep(PAUSE).await;
        assert_eq!(third.take().expect("its turn came").expect("locked").key, "n/c");
    });
}

#[test]
fn who_leaves_the_line_leaves_no_key() {
    let member = TestMember::serving(Options::default());
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        for id in [10, 11, 12] {
            grant(&api, id, 600).await;
        }
        lock::lock(&api, &caller(), request(10)).await.expect("it is free");
        {
            let caller = caller();
            let mut waiting = pin!(lock::lock(&api, &caller, request(11)));
            for _ in 0..10 {
                assert!(poll_once(waiting.as_mut()).await.is_none());
                env.sleep(PAUSE).await;
            }
            assert_eq!(keys(&api).await, ["n/a", "n/b"]);
        }
        env.sleep(PAUSE).await;
        assert_eq!(keys(&api).await, ["n/a"], "it was cancelled");
        // Whose lease ends while it waits is told once its turn comes.
        let expired = begin(&env, {
            let api = api.clone();
            async move { lock::lock(&api, &caller(), request(12)).await }
        });
        env.sleep(PAUSE).await;
        revoke(&api, 12).await;
        lock::unlock(&api, &caller(), UnlockRequest { key: "n/a".into() }).await.expect("unlocked");
        env.sleep(PAUSE).await;
        let refusal = told(expired.take().expect("its turn came").err());
        assert_eq!(refusal, (Code::Unknown, "mutex: session is expired".to_owned()));
        assert_eq!(keys(&api).await, [] as [&str; 0]);
    });
}

#[test]
fn a_lock_without_a_lease_gets_one_and_errors_are_unknown() {
    serving(Options::default(), async |api, caller| {
        let locked = lock::lock(api, &caller, request(0)).await.expect("it is free");
        let (id, lease) = api.shard().with_state(|state| {
            let (_, mut page) = state.leases().page_from(0).expect("a lease");
            let (_, lease) = page.next().expect("a lease");
            (lease.id, lease)
        });
        assert_eq!((locked.key, lease.ttl), (format!("n/{id:x}").into(), 60));
        let unknown = told(lock::lock(api, &caller, request(4)).await.err());
        assert_eq!(unknown, (Code::Unknown, "etcdserver: requested lease not found".to_owned()));
        let none = told(lock::unlock(api, &caller, UnlockRequest::default()).await.err());
        assert_eq!(none, (Code::Unknown, "etcdserver: key is not provided".to_owned()));
    });
}

#[test]
fn an_election_has_one_leader_who_may_say_more_and_resign() {
    let member = TestMember::serving(Options::default());
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        grant(&api, 10, 600).await;
        grant(&api, 11, 600).await;
        let who = LeaderRequest { name: "n".into() };
        let none = told(election::leader(&api, &caller(), who.clone()).await.err());
        assert_eq!(none, (Code::Unknown, "election: no leader".to_owned()));
        let mut seen = Box::pin(election::observe(&api, &caller(), who.clone()).expect("a stream"));
        assert!(poll_once(seen.next()).await.is_none(), "nobody leads");
        env.sleep(PAUSE).await;
        let campaign = |lease, value: &'static str| {
            let (api, request) =
                (api.clone(), CampaignRequest { name: "n".into(), lease, value: value.into() });
            async move { election::campaign(&api, &caller(), request).await }
        };
        let first = campaign(10, "one").await.expect("elected");
        let key = LeaderKey { name: "n".into(), key: "n/a".into(), rev: 2, lease: 10 };
        assert_eq!((first.header, first.leader), (header(&api, 2), Some(key.clone())));
        let value = |seen: LeaderResponse| {
            let (header, kv) = (seen.header.expect("a header"), seen.kv.expect("a leader"));
            (header.revision, kv.value, kv.key)
        };
        assert_eq!(value(seen.next().await.expect("one").expect("seen")), (2, "one".into(), "n/a".into()));
        let leader = election::leader(&api, &caller(), who).await.expect("it leads");
        assert_eq!(value(leader), (2, "one".into(), "n/a".into()));
        // Who stands already says something else.
        let again = campaign(10, "more").await.expect("it leads");
        assert_eq!(again.leader, Some(key.clone()));
        assert_eq!(value(seen.next().await.expect("one").expect("seen")), (3, "more".into(), "n/a".into()));
        let proclaim = ProclaimRequest { leader: Some(key.clone()), value: "yet more".into() };
        let proclaimed = election::proclaim(&api, &caller(), proclaim.clone()).await.expect("it leads");
        assert_eq!(proclaimed.header, header(&api, 4));
        let second = begin(&env, campaign(11, "two"));
        env.sleep(PAUSE).await;
        assert!(second.borrow().is_none());
        let resign = ResignRequest { leader: Some(key) };
        let resigned = election::resign(&api, &caller(), resign.clone()).await.expect("resigned");
        assert_eq!(resigned.header, header(&api, 6));
        assert_eq!(
            value(seen.next().await.expect("one").expect("seen")),
            (4, "yet more".into(), "n/a".into())
        );
        let (_, now, key) = value(seen.next().await.expect("one").expect("seen"));
        assert_eq!((now, key), ("two".into(), "n/b".into()));
        assert_eq!(second.take().expect("its turn came").expect("elected").leader.expect("it leads").rev, 5);
        let late = told(election::proclaim(&api, &caller(), proclaim).await.err());
        assert_eq!(late, (Code::Unknown, "election: not leader".to_owned()));
        let resigned = election::resign(&api, &caller(), resign).await.expect("nothing to resign from");
        assert_eq!(resigned.header, header(&api, 6));
        let nobody = told(election::resign(&api, &caller(), ResignRequest::default()).await.err());
        assert_eq!(nobody, (Code::Unknown, "\"leader\" field must be provided".to_owned()));
    });
}
