//! Faults that etcd once had, each as what brought it out: the same to both servers, same answers, and where it matters what
//! the answer must be. Those that take several members are cases of the simulator (`simulation/recorded.rs`).

mod attackers;
mod readers;

use bench_harness::pb::{
    authpb, etcdserverpb as pb, etcdserverpb::request_op::Request as Op, v3lockpb as lock,
};

use super::{
    call::{Answer, Call, shown},
    compare::{Verdict, compare},
    generator::ROOT,
    pair::{NOBODY, Pair},
    waiting::{self, Waiting},
    watches::Stream,
};

pub use attackers::*;
pub use readers::*;

/// Logged in as a user who may read and write `own/`, and no more.
const ANN: usize = 2;

/// Two servers to which everything is done alike.
pub struct Both {
    pub pair: Pair,
}

impl Both {
    pub async fn start() -> Self {
        let tested = crate::tested::program();
        let options = ["--bcrypt-cost=4"];
        Self { pair: Pair::start_with(tested, &options).await.unwrap_or_else(|why| panic!("{why}")) }
    }

    async fn call(&self, client: usize, call: Call) -> Answer {
        let (upstream, tested) = self.pair.answers(client, &call).await;
        let verdict = compare(&call, &upstream, &tested);
        assert!(!matches!(verdict, Verdict::Different(_)), "{}: {verdict:?}", shown(&call));
        upstream
    }

    /// Of a call that must not be refused.
    async fn revision_of(&self, client: usize, call: Call) -> i64 {
        let answer = self.call(client, call).await;
        answer.revision().unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// Puts, and gives the revision.
    async fn put(&self, key: &'static str, value: &str) -> i64 {
        let put = pb::PutRequest { key: key.into(), value: value.to_owned().into(), ..Default::default() };
        self.revision_of(NOBODY, Call::Put(put)).await
    }

    async fn delete(&self, key: &'static str) -> i64 {
        let delete = pb::DeleteRangeRequest { key: key.into(), ..Default::default() };
        self.revision_of(NOBODY, Call::DeleteRange(delete)).await
    }

    async fn compact(&self, revision: i64) {
        let compact = Call::Compact(pb::CompactionRequest { revision, physical: true });
        let answer = self.call(NOBODY, compact).await;
        assert!(matches!(answer, Answer::Compact(_)), "{answer:?}");
    }

    /// A call that must be refused so.
    async fn refused(&self, client: usize, call: Call, text: &str) {
        let named = shown(&call);
        match self.call(client, call).await {
            Answer::Refused { message, .. } => assert_eq!(message, text, "{named}"),
            answer => panic!("{named}: {}", shown(&answer)),
        }
    }

    /// Auth is on; root and ann are logged in.
    async fn with_auth(&self) {
        let add = |name: &str| {
            let (name, password) = (name.to_owned(), "secret".to_owned());
            Call::UserAdd(pb::AuthUserAddRequest { name, password, ..Default::default() })
        };
        let grant = |user: &str, role: &str| {
            let (user, role) = (user.to_owned(), role.to_owned());
            Call::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role })
        };
        let own = authpb::Permission { perm_type: 2, key: "own/".into(), range_end: "own0".into() };
        for call in [
            add("root"),
            add("ann"),
            Call::RoleAdd(pb::AuthRoleAddRequest { name: "root".to_owned() }),
            Call::RoleAdd(pb::AuthRoleAddRequest { name: "own".to_owned() }),
            grant("root", "root"),
            grant("ann", "own"),
            Call::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
                name: "own".to_owned(),
                perm: Some(own),
            }),
            Call::AuthEnable(pb::AuthEnableRequest {}),
        ] {
            let answer = self.call(NOBODY, call).await;
            assert!(!matches!(answer, Answer::Refused { .. }), "{answer:?}");
        }
        self.log_in().await;
    }

    async fn log_in(&self) {
        for (client, name) in [(ROOT, "root"), (ANN, "ann")] {
            let (name, password) = (name.to_owned(), "secret".to_owned());
            let login = Call::Authenticate(pb::AuthenticateRequest { name, password });
            let answer = self.call(client, login).await;
            assert!(matches!(answer, Answer::Authenticate(_)), "{answer:?}");
        }
    }
}

fn put(key: &'static str) -> Call {
    Call::Put(pb::PutRequest { key: key.into(), ..Default::default() })
}

const DENIED: &str = "etcdserver: permission denied";
const NO_NAME: &str = "etcdserver: user name is empty";

fn watch(key: &'static str, range_end: &'static str, start_revision: i64) -> pb::WatchCreateRequest {
    let (key, range_end) = (key.into(), range_end.into());
    pb::WatchCreateRequest { key, range_end, start_revision, prev_kv: true, ..Default::default() }
}

fn txn(success: Vec<Op>) -> pb::TxnRequest {
    let success = success.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
    pb::TxnRequest { success, ..Default::default() }
}

/// #15220: progress was told of before events that it was said to cover. #17507: of a quiet new watch it was never told.
pub async fn progress_waits_for_events_and_comes(both: &mut Both) -> Result<(), String> {
    let mut stream = Stream::open(&both.pair, NOBODY);
    stream.create(watch("quiet", "", 0), 0).await?;
    both.put("loud", "0").await;
    stream.create(watch("loud", "", 1), 0).await?;
    for round in 0..200 {
        let revision = both.put("loud", &round.to_string()).await;
        stream.settled(revision).await?;
    }
    Ok(())
}

/// #18089, #19179: a deletion at the very revision that was compacted to, watched from there, also after a crash.
pub async fn a_deletion_at_the_compacted_revision_is_seen(both: &mut Both) -> Result<(), String> {
    both.put("key", "1").await;
    let deleted = both.delete("key").await;
    let last = both.put("key", "2").await;
    both.compact(deleted).await;
    for crash in [false, true] {
        if crash {
            both.pair.restart(false).await?;
        }
        let mut stream = Stream::open(&both.pair, NOBODY);
        stream.create(watch("key", "", deleted), deleted).await?;
        stream.settled(last).await?;
        let seen = stream.events();
        if seen != [(1, deleted), (0, last)] {
            return Err(format!("crash {crash}: {seen:?}"));
        }
    }
    Ok(())
}

/// PR 20693: a watch with a start below 0 had others of the stream skip what came.
pub async fn a_start_below_zero_is_its_own_fault(both: &mut Both) -> Result<(), String> {
    let mut stream = Stream::open(&both.pair, NOBODY);
    stream.create(watch("key", "", 0), 0).await?;
    stream.create(watch("key", "", -1), 0).await?;
    let first = both.put("key", "1").await;
    let second = both.put("key", "2").await;
    stream.settled(second).await?;
    let seen = stream.events();
    if seen == [(0, first), (0, second)] { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// PR 20615: a lease was renewed after it was revoked.
pub async fn what_is_revoked_is_not_renewed(both: &mut Both) -> Result<(), String> {
    both.call(NOBODY, Call::LeaseGrant(pb::LeaseGrantRequest { ttl: 600, id: 7 })).await;
    both.call(NOBODY, Call::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 })).await;
    let beat = Call::LeaseKeepAlive(vec![pb::LeaseKeepAliveRequest { id: 7 }]);
    match both.call(NOBODY, beat).await {
        Answer::LeaseKeepAlive(beats) if beats.len() == 1 && beats[0].ttl == 0 => Ok(()),
        answer => Err(shown(&answer)),
    }
}

/// #20221: a watch that was to begin later was told of what had been before; after a checkpoint, which is the simulator's.
pub async fn a_watch_that_begins_later_is_told_of_nothing_before(both: &mut Both) -> Result<(), String> {
    let now = both.put("key", "0").await;
    let mut stream = Stream::open(&both.pair, NOBODY);
    stream.create(watch("key", "", now + 3), 0).await?;
    stream.create(watch("key", "", 0), 0).await?;
    both.put("key", "1").await;
    both.compact(now).await;
    both.put("key", "2").await;
    let third = both.put("key", "3").await;
    let fourth = both.put("key", "4").await;
    stream.settled(fourth).await?;
    let seen = stream.events();
    let (late, all) = ([third, fourth], [third - 2, third - 1, third, fourth]);
    let wanted: Vec<_> = late.into_iter().chain(all).map(|revision| (0, revision)).collect();
    if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// #9921: a lock was granted to whoever had waited for it, although its lease had ended meanwhile.
pub async fn a_lock_is_not_granted_after_its_lease(both: &mut Both) -> Result<(), String> {
    for id in [7, 8] {
        both.call(NOBODY, Call::LeaseGrant(pb::LeaseGrantRequest { ttl: 600, id })).await;
    }
    let lock = |lease| Call::Lock(lock::LockRequest { name: "lock".into(), lease });
    both.revision_of(NOBODY, lock(7)).await;
    let waiting = Waiting::begin(&both.pair, NOBODY, lock(8)).await?;
    // As if its time were over: what happens then is the same.
    both.call(NOBODY, Call::LeaseRevoke(pb::LeaseRevokeRequest { id: 8 })).await;
    let unlock = lock::UnlockRequest { key: waiting::key(b"lock", 7) };
    both.revision_of(NOBODY, Call::Unlock(unlock)).await;
    let (_, call, upstream, tested) = waiting.end(&both.pair).await?;
    match (compare(&call, &upstream, &tested), &upstream) {
        (Verdict::Same, Answer::Refused { .. }) => Ok(()),
        (verdict, _) => Err(format!("{verdict:?}: {}, {}", shown(&upstream), shown(&tested))),
    }
}

/// #11651, #13976: after a replay the auth revision was another one, and with it what is permitted.
pub async fn a_restart_between_changes_of_users_leaves_the_revision(both: &mut Both) -> Result<(), String> {
    both.with_auth().await;
    let status = || Call::AuthStatus(pb::AuthStatusRequest {});
    for round in 0..3 {
        let name = format!("user{round}");
        let add = pb::AuthUserAddRequest { name, password: "x".to_owned(), ..Default::default() };
        both.call(ROOT, Call::UserAdd(add)).await;
        let before = both.call(NOBODY, status()).await;
        both.pair.restart(round == 1).await?;
        let after = both.call(NOBODY, status()).await;
        if before != after {
            return Err(format!("{before:?} before, {after:?} after"));
        }
        both.log_in().await;
    }
    Ok(())
}

/// CVE-2026-33413: MemberList, Alarm, Lease and Compact were for everybody.
pub async fn nothing_is_for_everybody(both: &mut Both) -> Result<(), String> {
    let revision = both.put("own/a", "1").await;
    both.with_auth().await;
    let alarm = |action| Call::Alarm(pb::AlarmRequest { action, member_id: 0, alarm: 1 });
    for call in [
        Call::MemberList(pb::MemberListRequest { linearizable: true }),
        Call::MemberList(pb::MemberListRequest { linearizable: false }),
        alarm(0),
        alarm(1),
        Call::LeaseGrant(pb::LeaseGrantRequest { ttl: 600, id: 7 }),
        Call::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 }),
        Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: 7, keys: true }),
        Call::LeaseLeases(pb::LeaseLeasesRequest {}),
        Call::LeaseKeepAlive(vec![pb::LeaseKeepAliveRequest { id: 7 }]),
        Call::Compact(pb::CompactionRequest { revision, physical: false }),
        Call::Status(pb::StatusRequest {}),
        Call::HashKv(pb::HashKvRequest { revision: 0 }),
        Call::Defragment(pb::DefragmentRequest {}),
    ] {
        both.refused(NOBODY, call, NO_NAME).await;
    }
    for call in [alarm(1), Call::Compact(pb::CompactionRequest { revision, physical: false })] {
        both.refused(ANN, call, DENIED).await;
    }
    Ok(())
}

/// CVE-2026-44283: a put in a transaction was not asked for what came before it, nor for its lease. CVE-2026-33343: what
/// stands in a transaction within another was not looked at.
pub async fn transactions_hide_nothing(both: &mut Both) -> Result<(), String> {
    both.call(NOBODY, Call::LeaseGrant(pb::LeaseGrantRequest { ttl: 600, id: 7 })).await;
    let leased = pb::PutRequest { key: "other".into(), lease: 7, ..Default::default() };
    both.call(NOBODY, Call::Put(leased)).await;
    both.with_auth().await;
    // May write, and not read.
    let perm = Some(authpb::Permission { perm_type: 1, key: "writable".into(), range_end: "".into() });
    let grant = pb::AuthRoleGrantPermissionRequest { name: "own".to_owned(), perm };
    both.call(ROOT, Call::RoleGrantPermission(grant)).await;

    let put = |lease, prev_kv| {
        Op::RequestPut(pb::PutRequest { key: "writable".into(), lease, prev_kv, ..Default::default() })
    };
    let get =
        |key: &'static str| Op::RequestRange(pb::RangeRequest { key: key.into(), ..Default::default() });
    let delete = Op::RequestDeleteRange(pb::DeleteRangeRequest {
        key: "writable".into(),
        range_end: "".into(),
        prev_kv: true,
    });
    for hidden in [put(0, true), put(7, false), get("other"), get("writable"), delete] {
        both.refused(ANN, Call::Txn(txn(vec![hidden.clone()])), DENIED).await;
        let nested = txn(vec![Op::RequestTxn(txn(vec![Op::RequestTxn(txn(vec![hidden]))]))]);
        both.refused(ANN, Call::Txn(nested), DENIED).await;
    }
    let compare = pb::Compare { key: "writable".into(), ..Default::default() };
    both.refused(ANN, Call::Txn(pb::TxnRequest { compare: vec![compare], ..Default::default() }), DENIED)
        .await;
    let allowed = both.call(ANN, Call::Txn(txn(vec![put(0, false)]))).await;
    if matches!(allowed, Answer::Txn(_)) { Ok(()) } else { Err(shown(&allowed)) }
}

/// PR 15815: the keys of a lease were told to whoever asked.
pub async fn a_lease_does_not_tell_its_keys(both: &mut Both) -> Result<(), String> {
    both.call(NOBODY, Call::LeaseGrant(pb::LeaseGrantRequest { ttl: 600, id: 7 })).await;
    let put = pb::PutRequest { key: "secret".into(), lease: 7, ..Default::default() };
    both.call(NOBODY, Call::Put(put)).await;
    both.with_auth().await;
    both.refused(ANN, Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: 7, keys: true }), DENIED).await;
    both.refused(ANN, Call::LeaseLeases(pb::LeaseLeasesRequest {}), DENIED).await;
    both.refused(ANN, Call::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 }), DENIED).await;
    let answer =
        both.call(ANN, Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: 7, keys: false })).await;
    if matches!(answer, Answer::LeaseTimeToLive(_)) { Ok(()) } else { Err(shown(&answer)) }
}

/// GHSA-xg4h-6gfc-h4m8: a watch from a key on, which has no end, was looked at as one with an empty range.
pub async fn a_watch_without_an_end_is_of_all_that_follows(both: &mut Both) -> Result<(), String> {
    both.with_auth().await;
    let mut stream = Stream::open(&both.pair, ANN);
    stream.create(watch("own/", "\0", 0), 0).await?;
    stream.create(watch("", "\0", 0), 0).await?;
    stream.create(watch("own/", "own0", 0), 0).await?;
    let own = both.revision_of(ROOT, put("own/a")).await;
    let last = both.revision_of(ROOT, put("secret")).await;
    stream.settled(last).await?;
    let seen = stream.events();
    if seen == [(0, own)] { Ok(()) } else { Err(format!("{seen:?}")) }
}
