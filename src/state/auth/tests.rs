use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    block::{Block, BlockChange},
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    state::{Context, Error, Outcome, StateMachine, space::Space},
};

/// The hash of `p`, made by etcd 3.7.1 with the least cost.
const HASH: &str = "JDJhJDA0JA==";

/// A store on which commands are carried out as from the log.
#[derive(Default)]
struct Store(StateMachine);

fn who(user: &str, auth_revision: u64) -> Principal {
    Principal { user: user.to_owned().into(), auth_revision }
}

impl Store {
    fn as_user<C: crate::state::Command>(&mut self, user: &str, command: C) -> Result<C::Answer, Error> {
        let who = if user.is_empty() { Principal::default() } else { who(user, self.revision()) };
        self.0.apply(&command, Context::asked_by(&who), &mut Outcome::default())
    }

    fn does<C: crate::state::Command>(&mut self, command: C) {
        assert!(self.as_user("root", command).is_ok());
    }

    fn refuses<C: crate::state::Command>(&mut self, command: C) -> Refusal {
        let before = self.0.auth().revision();
        let refusal = refusal(self.as_user("root", command));
        assert_eq!(self.0.auth().revision(), before, "what is refused changes nothing");
        refusal
    }

    fn revision(&self) -> u64 {
        self.0.auth().revision()
    }

    fn user(&mut self, name: &str, roles: &[&str]) {
        self.does(add(name));
        roles.iter().for_each(|role| self.does(grant(name, role)));
    }

    fn role(&mut self, name: &str, permissions: &[(i32, &str, &str)]) {
        self.does(pb::AuthRoleAddRequest { name: name.into() });
        permissions.iter().for_each(|permission| self.does(allow(name, *permission)));
    }

    /// With root, and `alice`, who may read from `a` to `c`, write `b`, and both from `x` on.
    fn enabled() -> Self {
        let mut store = Self::default();
        store.user("root", &["root"]);
        store.role("r", &[(0, "a", "c"), (1, "b", ""), (2, "x", "\0")]);
        store.user("alice", &["r"]);
        store.does(pb::AuthEnableRequest {});
        store
    }
}

fn refusal<T>(result: Result<T, Error>) -> Refusal {
    match result.err() {
        Some(Error::Auth(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn add(name: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest { name: name.into(), hashed_password: HASH.into(), ..Default::default() }
}

fn grant(user: &str, role: &str) -> pb::AuthUserGrantRoleRequest {
    pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() }
}

fn revoke(name: &str, role: &str) -> pb::AuthUserRevokeRoleRequest {
    pb::AuthUserRevokeRoleRequest { name: name.into(), role: role.into() }
}

fn permission((perm_type, key, end): (i32, &str, &str)) -> authpb::Permission {
    authpb::Permission { perm_type, key: key.to_owned().into(), range_end: end.to_owned().into() }
}

fn allow(role: &str, granted: (i32, &str, &str)) -> pb::AuthRoleGrantPermissionRequest {
    pb::AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(permission(granted)) }
}

fn forbid(role: &str, key: &str, end: &str) -> pb::AuthRoleRevokePermissionRequest {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    pb::AuthRoleRevokePermissionRequest { role: role.into(), key, range_end }
}

fn delete_user(name: &str) -> pb::AuthUserDeleteRequest {
    pb::AuthUserDeleteRequest { name: name.into() }
}

fn delete_role(role: &str) -> pb::AuthRoleDeleteRequest {
    pb::AuthRoleDeleteRequest { role: role.into() }
}

fn password(name: &str, hash: &str) -> pb::AuthUserChangePasswordRequest {
    pb::AuthUserChangePasswordRequest {
        name: name.into(),
        hashed_password: hash.into(),
        ..Default::default()
    }
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), ..Default::default() }
}

fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() }
}

fn delete(key: &str, end: &str, prev_kv: bool) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), prev_kv }
}

/// etcd 3.7.1 answers the same in this order.
#[test]
fn what_makes_no_sense_is_refused_and_every_change_has_a_revision() {
    let mut store = Store::default();
    assert_eq!(store.revision(), 1);
    assert_eq!(store.refuses(pb::AuthEnableRequest {}), Refusal::RootUserNotExist);
    store.does(add("root"));
    assert_eq!(store.revision(), 2);
    assert_eq!(store.refuses(pb::AuthEnableRequest {}), Refusal::RootRoleNotExist);
    assert_eq!(store.refuses(add("root")), Refusal::UserAlreadyExists);
    assert_eq!(store.refuses(add("")), Refusal::UserEmpty);
    assert_eq!(store.refuses(grant("root", "r")), Refusal::RoleNotFound);
    assert_eq!(store.refuses(grant("a", "root")), Refusal::UserNotFound);
    assert_eq!(store.refuses(pb::AuthRoleAddRequest::default()), Refusal::RoleEmpty);
    store.does(grant("root", "root"));
    assert_eq!(store.revision(), 3);
    store.does(grant("root", "root"));
    assert_eq!(store.revision(), 3, "granted already");
    store.role("r", &[(0, "a", "")]);
    assert_eq!(store.revision(), 5);
    assert_eq!(store.refuses(pb::AuthRoleAddRequest { name: "r".into() }), Refusal::RoleAlreadyExists);
    assert_eq!(store.refuses(revoke("root", "r")), Refusal::RoleNotGranted);
    assert_eq!(store.refuses(revoke("a", "r")), Refusal::UserNotFound);
    assert_eq!(store.refuses(forbid("r", "b", "")), Refusal::PermissionNotGranted);
    assert_eq!(store.refuses(forbid("s", "b", "")), Refusal::RoleNotFound);
    assert_eq!(store.refuses(delete_user("a")), Refusal::UserNotFound);
    assert_eq!(store.refuses(delete_role("s")), Refusal::RoleNotFound);
    assert_eq!(store.refuses(password("a", HASH)), Refusal::UserNotFound);
    assert_eq!(store.refuses(password("root", "no base64")), Refusal::NoPasswordUser);
    let nothing = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: None };
    assert_eq!(store.refuses(nothing), Refusal::PermissionNotGiven);
    for (key, end) in [("", ""), ("b", "a"), ("b", "b"), ("", "\0")] {
        assert_eq!(store.refuses(allow("r", (0, key, end))), Refusal::InvalidManagement, "{key:?} {end:?}");
    }
    assert_eq!(store.refuses(allow("s", (0, "a", "b"))), Refusal::RoleNotFound);
    store.does(pb::AuthDisableRequest {});
    assert_eq!(store.revision(), 5, "it is not enabled");

    store.does(pb::AuthEnableRequest {});
    assert_eq!(store.revision(), 5);
    store.does(pb::AuthEnableRequest {});
    assert_eq!(store.refuses(delete_user("root")), Refusal::InvalidManagement);
    assert_eq!(store.refuses(delete_role("root")), Refusal::InvalidManagement);
    assert_eq!(store.refuses(revoke("root", "root")), Refusal::InvalidManagement);
    store.does(pb::AuthDisableRequest {});
    assert_eq!(store.revision(), 6);
    store.does(delete_user("root"));
    assert_eq!(store.revision(), 7);
}

#[test]
fn only_root_manages_and_everybody_sees_their_own() {
    let mut store = Store::enabled();
    let cases =
        [("", Refusal::UserEmpty), ("bob", Refusal::UserNotFound), ("alice", Refusal::PermissionDenied)];
    for (user, expected) in cases {
        assert_eq!(refusal(store.as_user(user, add("carol"))), expected);
        assert_eq!(refusal(store.as_user(user, pb::AuthDisableRequest {})), expected);
        assert_eq!(store.0.auth().admin(&who(user, 0)), Err(expected), "whatever the revision");
    }
    let auth = store.0.auth();
    let alice = who("alice", auth.revision());
    assert_eq!(auth.admin_or_self(&alice, "alice"), Ok(()));
    assert_eq!(auth.admin_or_self(&alice, "root"), Err(Refusal::PermissionDenied));
    assert_eq!(auth.admin_or_with(&alice, "r"), Ok(()));
    assert_eq!(auth.admin_or_with(&alice, "root"), Err(Refusal::PermissionDenied));
    assert_eq!(auth.somebody(&alice), Ok(()));
    assert_eq!(auth.somebody(&Principal::default()), Err(Refusal::UserEmpty));
    assert_eq!(auth.permissions(b"root"), Err(Refusal::RoleNotFound), "it need not be there");
    store.role("root", &[(0, "k", "")]);
    let everything = permission((2, "", "\0"));
    assert_eq!(store.0.auth().permissions(b"root"), Ok(vec![everything]));
}

#[test]
fn requests_are_refused_for_each_key_that_is_not_granted() {
    let mut store = Store::enabled();
    let mut alice = |command: pb::PutRequest| store.as_user("alice", command).map(drop);
    assert_eq!(alice(put("b")), Ok(()));
    assert_eq!(alice(put("x1")), Ok(()));
    let denied = Err(Refusal::PermissionDenied.into());
    assert_eq!(alice(put("a")), denied, "only to read");
    assert_eq!(alice(pb::PutRequest { prev_kv: true, ..put("b") }), Ok(()));
    store.does(forbid("r", "a", "c"));
    let mut alice = |command: pb::PutRequest| store.as_user("alice", command).map(drop);
    assert_eq!(alice(pb::PutRequest { prev_kv: true, ..put("b") }), denied, "it shows what was there");
    assert_eq!(alice(put("b")), Ok(()));
    assert!(store.as_user("alice", delete("x", "\0", true)).is_ok());
    assert!(store.as_user("alice", delete("b", "", false)).is_ok());
    for refused in [delete("b", "", true), delete("b", "c", false), delete("a", "\0", false)] {
        assert_eq!(refusal(store.as_user("alice", refused)), Refusal::PermissionDenied);
    }
    assert_eq!(refusal(store.as_user("", put("b"))), Refusal::UserEmpty);
    assert_eq!(refusal(store.as_user("bob", put("b"))), Refusal::PermissionDenied);
    let old = who("root", store.revision() - 1);
    let context = Context::asked_by(&old);
    let refused = store.0.apply(&put("b"), context, &mut Outcome::default());
    assert_eq!(refusal(refused), Refusal::OldRevision, "even root");
}

#[test]
fn both_branches_and_nested_transactions_count() {
    let store = Store::enabled();
    let auth = store.0.auth();
    let op = |op: Op| pb::RequestOp { request: Some(op) };
    let may = |request: &pb::TxnRequest| store.0.asking(&who("alice", auth.revision())).txn(request);
    let txn = |success: Vec<Op>| pb::TxnRequest {
        success: success.into_iter().map(op).collect(),
        ..pb::TxnRequest::default()
    };
    let good = txn(vec![Op::RequestRange(range("a", "c")), Op::RequestPut(put("b"))]);
    assert_eq!(may(&good), Ok(()));
    for bad in [
        Op::RequestRange(range("a", "d")),
        Op::RequestPut(put("a")),
        Op::RequestDeleteRange(delete("a", "", false)),
        Op::RequestPut(pb::PutRequest { prev_kv: true, ..put("c") }),
    ] {
        let branch = vec![op(bad)];
        let taken = pb::TxnRequest { success: branch.clone(), ..good.clone() };
        let not_taken = pb::TxnRequest { failure: branch, ..good.clone() };
        let nested = txn(vec![Op::RequestTxn(not_taken.clone())]);
        let deeper = pb::TxnRequest { failure: nested.success.clone(), ..good.clone() };
        for request in [taken, not_taken, nested, deeper] {
            assert_eq!(may(&request), Err(Refusal::PermissionDenied), "{request:?}");
        }
    }
    let compare = |key: &str, end: &str| pb::TxnRequest {
        compare: vec![pb::Compare {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..pb::Compare::default()
        }],
        ..good.clone()
    };
    assert_eq!(may(&compare("a", "c")), Ok(()));
    assert_eq!(may(&compare("c", "")), Err(Refusal::PermissionDenied));
    // Nobody is asked who they are that ask for nothing.
    let nobody = Principal::default();
    assert_eq!(store.0.asking(&nobody).txn(&txn(vec![Op::RequestTxn(pb::TxnRequest::default())])), Ok(()));
    assert_eq!(store.0.asking(&nobody).txn(&good), Err(Refusal::UserEmpty));
}

#[test]
fn a_lease_is_whose_keys_are_all_granted() {
    let mut store = Store::enabled();
    let leased = |key: &str| pb::PutRequest { lease: 7, ..put(key) };
    store.does(pb::LeaseGrantRequest { id: 7, ttl: 60 });
    let lease = |store: &Store, who: &Principal, access| store.0.asking(who).lease(access, 7);
    let (nobody, alice) = (Principal::default(), who("alice", store.revision()));
    assert_eq!(lease(&store, &nobody, Access::Write), Ok(()), "it has no keys");
    assert!(store.as_user("alice", leased("x1")).is_ok());
    for key in ["b", "x2", "x3"] {
        store.does(leased(key));
    }
    assert_eq!(lease(&store, &alice, Access::Write), Ok(()));
    assert_eq!(lease(&store, &alice, Access::Read), Ok(()));
    assert_eq!(lease(&store, &nobody, Access::Read), Err(Refusal::UserEmpty));
    store.does(leased("a"));
    assert_eq!(lease(&store, &alice, Access::Read), Ok(()));
    assert_eq!(lease(&store, &alice, Access::Write), Err(Refusal::PermissionDenied));
    assert_eq!(refusal(store.as_user("alice", leased("x4"))), Refusal::PermissionDenied);
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    assert_eq!(refusal(store.as_user("alice", revoke)), Refusal::PermissionDenied);
    store.does(delete("a", "", false));
    store.does(leased("w"));
    assert_eq!(refusal(store.as_user("alice", revoke)), Refusal::PermissionDenied);
    assert_eq!(lease(&store, &who("root", 1), Access::Write), Ok(()), "root at any revision");
    store.does(pb::PutRequest { lease: 0, ..put("w") });
    assert!(store.as_user("alice", revoke).is_ok());
}

#[test]
fn a_token_holds_until_its_user_has_another_password_or_is_gone() {
    let mut store = Store::enabled();
    let given = store.revision();
    store.does(grant("alice", "root"));
    store.does(password("root", HASH));
    assert!(store.0.auth().holds(b"alice", given) && !store.0.auth().holds(b"root", given));
    let given = store.revision();
    store.does(delete_user("alice"));
    assert!(!store.0.auth().holds(b"alice", given));
    store.does(add("alice"));
    assert!(!store.0.auth().holds(b"alice", given), "another one of that name");
    let given = store.revision();
    assert!(store.0.auth().holds(b"alice", given));
    store.does(pb::AuthDisableRequest {});
    assert!(!store.0.auth().holds(b"alice", given));
    store.does(pb::AuthEnableRequest {});
    assert!(!store.0.auth().holds(b"alice", given), "it was disabled");
    assert!(store.0.auth().holds(b"alice", store.revision()));
}

#[test]
fn a_user_without_a_password_gets_none() {
    let mut store = Store::default();
    let options = Some(authpb::UserAddOptions { no_password: true });
    store.does(pb::AuthUserAddRequest { options, ..add("u") });
    store.does(password("u", HASH));
    let user = store.0.auth().user(b"u").expect("added");
    assert!(user.password.is_empty() && user.options.is_some_and(|options| options.no_password));
    assert!(!store.0.auth().holds(b"u", 2));
}

#[test]
fn a_deleted_role_is_nobodys() {
    let mut store = Store::enabled();
    store.user("bob", &["r"]);
    store.does(delete_role("r"));
    assert!(store.0.auth().users().all(|user| !user.roles.contains(&"r".to_owned())));
    assert_eq!(refusal(store.as_user("alice", put("b"))), Refusal::PermissionDenied);
}

#[test]
fn permissions_stand_in_the_order_of_their_keys_and_are_replaced_by_range() {
    let mut store = Store::default();
    store.role("r", &[(0, "b", ""), (0, "a", ""), (1, "b", "c"), (2, "b", "")]);
    let shown = |store: &Store| store.0.auth().permissions(b"r").expect("a role");
    assert_eq!(shown(&store), [(0, "a", ""), (2, "b", ""), (1, "b", "c")].map(permission));
    // The one on the other range is not found, as in etcd.
    store.does(allow("r", (0, "b", "c")));
    assert_eq!(shown(&store).len(), 4);
    store.does(forbid("r", "b", "c"));
    assert_eq!(shown(&store), [(0, "a", ""), (2, "b", "")].map(permission));
}

#[test]
fn a_name_or_a_store_without_bounds_is_refused() {
    let mut store = Store::default();
    let long = "u".repeat(limits::AUTH_NAME_BYTES_MAX + 1);
    assert_eq!(store.refuses(add(&long)), Refusal::NoSpace);
    let many = limits::AUTH_BYTES_MAX / limits::AUTH_NAME_BYTES_MAX;
    for number in 0..many - 1 {
        let name = format!("{number:04}{}", &long[..limits::AUTH_NAME_BYTES_MAX - 1_000]);
        store.does(pb::AuthRoleAddRequest { name });
    }
    let name = long[1..].to_owned();
    while store
        .as_user(
            "root",
            pb::AuthRoleAddRequest { name: format!("{}{name}", store.revision())[..32_000].into() },
        )
        .is_ok()
    {}
    assert_eq!(store.refuses(add(&long[1..])), Refusal::NoSpace);
    assert!(store.0.auth().bytes <= limits::AUTH_BYTES_MAX);
    store.does(delete_role(&format!("0000{}", &long[..limits::AUTH_NAME_BYTES_MAX - 1_000])));
    store.does(add("u"));
}

/// Blocks as a checkpoint has them after these changes.
fn checkpointed(blocks: &mut BTreeMap<u64, Block>, changes: Vec<BlockChange>) {
    for change in changes {
        match change {
            BlockChange::Write(block) => drop(blocks.insert(block.id.number, block)),
            BlockChange::Drop { id } => drop(blocks.remove(&id.number)),
            BlockChange::Meta { .. } => panic!("there is none"),
        }
    }
}

fn loaded(blocks: &BTreeMap<u64, Block>, facts: &[u8]) -> Auth {
    let mut auth = Auth::default();
    blocks.values().for_each(|block| auth.take(block).expect("a block of a checkpoint"));
    auth.set_facts(facts).expect("facts of a checkpoint");
    auth
}

type Shown = (bool, u64, u64, usize, Vec<(authpb::User, u64)>, Vec<authpb::Role>);

fn shown(auth: &Auth) -> Shown {
    let users = auth.users.values().map(|user| (user.record.clone(), user.password_at)).collect();
    (auth.enabled, auth.revision, auth.disabled_at, auth.bytes, users, auth.roles().cloned().collect())
}

#[test]
fn a_checkpoint_has_what_changed_and_comes_back() {
    let (mut store, mut blocks) = (Store::enabled(), BTreeMap::new());
    let auth = store.0.auth_mut();
    let first = auth.changes();
    assert_eq!(first.len(), 3);
    checkpointed(&mut blocks, first);
    assert_eq!(shown(&loaded(&blocks, &auth.facts())), shown(auth));
    auth.saved();
    assert!(auth.changes().is_empty() && auth.unsaved().blocks == 0);
    store.does(password("alice", HASH));
    store.does(delete_role("r"));
    store.does(add("bob"));
    let auth = store.0.auth_mut();
    assert_eq!(auth.changes().len(), 3, "alice, the role that is gone, bob");
    auth.not_saved();
    store.does(delete_user("bob"));
    let auth = store.0.auth_mut();
    let again = auth.changes();
    assert_eq!(again.len(), 3);
    checkpointed(&mut blocks, again);
    auth.saved();
    assert_eq!(shown(&loaded(&blocks, &auth.facts())), shown(auth));
    assert_eq!(blocks.len(), 2);

    let block = blocks.values().next().expect("alice or root").clone();
    let mut twice = loaded(&blocks, &auth.facts());
    assert!(twice.take(&block).is_err());
    let cut = Block { body: block.body.slice(1..), ..block };
    assert!(Auth::default().take(&cut).is_err());
    assert!(loaded(&blocks, &auth.facts()).set_facts(&[]).is_err());
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(0xff)], 1..4)
}

/// All keys of up to three of these bytes, and more than all of them.
fn universe() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
    let bytes = [0u8, b'a', b'b', 0xff];
    for _ in 0..4 {
        let longer: Vec<_> =
            keys.iter().flat_map(|key| bytes.map(|byte| [&key[..], &[byte]].concat())).collect();
        keys.extend(longer);
        keys.sort_unstable();
        keys.dedup();
    }
    keys.retain(|key| !key.is_empty());
    keys
}

fn is_within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => (start..end).contains(&key),
    }
}

proptest! {
    /// A range is granted if each of its keys is, and one of no keys if its first key is.
    #[test]
    fn ranges_are_granted_key_by_key(
        granted in vec((0..3, key(), prop_oneof![Just(Vec::new()), Just(vec![0]), key()]), 0..8),
        asked in vec((key(), prop_oneof![Just(Vec::new()), Just(vec![0]), key()]), 1..20),
    ) {
        let granted: Vec<_> = granted
            .into_iter()
            .filter(|(_, key, end)| end.is_empty() || *end == [0] || key < end)
            .map(|(perm_type, key, end)| authpb::Permission { perm_type, key: key.into(), range_end: end.into() })
            .collect();
        let Rights { read, write } = Rights::of(granted.iter());
        let all = universe();
        for (ranges, kind) in [(&read, 0), (&write, 1)] {
            let granted: Vec<_> = granted.iter().filter(|has| has.perm_type == 2 || has.perm_type == kind).collect();
            let is_granted = |key: &[u8]| granted.iter().any(|has| is_within(key, &has.key, &has.range_end));
            for (key, end) in &asked {
                let mut keys = all.iter().filter(|other| is_within(other, key, end)).peekable();
                let expected = match keys.peek() {
                    // Beyond every key that is looked at there are more.
                    Some(_) if end == &[0] => {
                        keys.all(|key| is_granted(key)) && granted.iter().any(|has| has.range_end[..] == [0])
                    }
                    Some(_) => keys.all(|key| is_granted(key)),
                    None => is_granted(key),
                };
                prop_assert_eq!(ranges.contain(key, end), expected, "{:?} of {:?}", (key, end), granted);
            }
        }
    }
}
