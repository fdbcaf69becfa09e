use std::{rc::Rc, time::Duration};

use futures_util::future::{join, join_all, join3};

use super::*;
use crate::{
    client::Clients,
    env::Env,
    limits,
    service::{
        self, Connection, cluster, kv, maintenance,
        tests::member::{TestMember, caller},
    },
    state,
    state::auth::Refusal,
};

const TTL: Duration = Duration::from_secs(300);

fn options(tokens: Tokens) -> service::Options {
    service::Options { auth: Options { tokens, bcrypt_cost: 4 }, ..service::Options::default() }
}

/// Runs a test on a member that gives simple tokens.
fn serving(test: impl AsyncFnOnce(&Api) + 'static) {
    let member = TestMember::serving(options(Tokens::Simple { ttl: TTL }));
    let api = member.api.clone();
    member.run(async move { test(&api).await });
}

fn with(token: &str) -> Caller {
    Caller { token: Some(token.into()), ..caller() }
}

fn refused<T>(result: Result<T, Error>) -> Refusal {
    match result.err() {
        Some(Error::Apply(state::Error::Auth(refusal))) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn add(api: &Api, caller: &Caller, name: &str) -> Result<pb::AuthUserAddResponse, Error> {
    let password = format!("{name}-password");
    user_add(api, caller, pb::AuthUserAddRequest { name: name.into(), password, ..Default::default() }).await
}

async fn log_in(api: &Api, name: &str, password: &str) -> Result<String, Error> {
    let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
    authenticate(api, &caller(), request).await.map(|response| response.token)
}

/// With root, and `alice`, who may read and write `a`.
async fn enabled(api: &Api) -> (Caller, Caller) {
    let (nobody, alice) = (caller(), "alice".to_owned());
    add(api, &nobody, "root").await.expect("added");
    add(api, &nobody, "alice").await.expect("added");
    role_add(api, &nobody, pb::AuthRoleAddRequest { name: "r".into() }).await.expect("added");
    let perm = crate::pb::authpb::Permission { perm_type: 2, key: "a".into(), range_end: "".into() };
    let granted = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) };
    role_grant_permission(api, &nobody, granted).await.expect("granted");
    for (user, role) in [("root".to_owned(), "root"), (alice, "r")] {
        let granted = pb::AuthUserGrantRoleRequest { user, role: role.into() };
        user_grant_role(api, &nobody, granted).await.expect("granted");
    }
    enable(api, &nobody, pb::AuthEnableRequest {}).await.expect("enabled");
    let root = log_in(api, "root", "root-password").await.expect("root");
    let alice = log_in(api, "alice", "alice-password").await.expect("alice");
    (with(&root), with(&alice))
}

async fn put(api: &Api, caller: &Caller, key: &str) -> Result<pb::PutResponse, Error> {
    kv::put(api, caller, pb::PutRequest { key: key.to_owned().into(), ..Default::default() }).await
}

async fn get(api: &Api, caller: &Caller, key: &str) -> Result<i64, Error> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    Ok(kv::range(api, caller, request).await?.whole().count)
}

#[test]
fn who_has_a_token_may_what_was_granted() {
    serving(async |api| {
        let (root, alice) = enabled(api).await;
        put(api, &alice, "a").await.expect("granted");
        assert_eq!(get(api, &alice, "a").await, Ok(1));
        let applied = api.shard().status().applied;
        assert_eq!(refused(put(api, &alice, "b").await), Refusal::PermissionDenied);
        assert_eq!(refused(get(api, &alice, "b").await), Refusal::PermissionDenied);
        assert_eq!(refused(put(api, &caller(), "a").await), Refusal::UserEmpty);
        assert_eq!(refused(get(api, &caller(), "a").await), Refusal::UserEmpty);
        assert_eq!(refused(put(api, &with("nonsense.7"), "a").await), Refusal::InvalidToken);
        assert_eq!(refused(get(api, &with("nonsense.7"), "a").await), Refusal::InvalidToken);
        assert_eq!(api.shard().status().applied, applied, "none of it went through the log");
        put(api, &root, "b").await.expect("root may everything");
        let token = root.token.as_deref().expect("a token");
        assert_eq!(get(api, &with(&format!("Bearer {token}")), "b").await, Ok(1));
    });
}

#[test]
fn what_is_roots_is_refused_to_others() {
    serving(async |api| {
        let (root, alice) = enabled(api).await;
        let nobody = caller();
        for (who, expected) in [(&alice, Refusal::PermissionDenied), (&nobody, Refusal::UserEmpty)] {
            let learner = pb::MemberAddRequest { peer_ur_ls: vec!["http://a:1".into()], is_learner: true };
            let alarm = |action| pb::AlarmRequest { action, member_id: 0, alarm: 1 };
            let refusals = [
                refused(kv::compact(api, who, pb::CompactionRequest::default()).await),
                refused(maintenance::defragment(api, who, pb::DefragmentRequest {}).await),
                refused(maintenance::hash(api, who, pb::HashRequest {}).await),
                refused(maintenance::hash_kv(api, who, pb::HashKvRequest::default()).await),
                refused(maintenance::snapshot(api, who, pb::SnapshotRequest {}).map(drop)),
                refused(maintenance::move_leader(api, who, pb::MoveLeaderRequest::default()).await),
                refused(maintenance::downgrade(api, who, pb::DowngradeRequest::default()).await),
                refused(maintenance::alarm(api, who, alarm(1)).await),
                refused(cluster::member_add(api, who, learner.clone()).await),
                refused(cluster::member_remove(api, who, pb::MemberRemoveRequest::default()).await),
                refused(cluster::member_update(api, who, pb::MemberUpdateRequest::default()).await),
                refused(cluster::member_promote(api, who, pb::MemberPromoteRequest::default()).await),
                refused(user_list(api, who, pb::AuthUserListRequest {}).await),
                refused(role_list(api, who, pb::AuthRoleListRequest {}).await),
                refused(add(api, who, "carol").await),
                refused(user_get(api, who, pb::AuthUserGetRequest { name: "root".into() }).await),
                refused(role_get(api, who, pb::AuthRoleGetRequest { role: "root".into() }).await),
            ];
            assert_eq!(refusals, [expected; 17]);
        }
        let get = |action| pb::AlarmRequest { action, member_id: 0, alarm: 0 };
        assert_eq!(refused(maintenance::alarm(api, &nobody, get(0)).await), Refusal::UserEmpty);
        assert_eq!(
            refused(maintenance::status(api, &nobody, pb::StatusRequest {}).await),
            Refusal::UserEmpty
        );
        let list = pb::MemberListRequest::default();
        assert_eq!(refused(cluster::member_list(api, &nobody, list).await), Refusal::UserEmpty);
        maintenance::alarm(api, &alice, get(0)).await.expect("anybody may");
        maintenance::status(api, &alice, pb::StatusRequest {}).await.expect("anybody may");
        cluster::member_list(api, &alice, list).await.expect("anybody may");
        user_get(api, &alice, pb::AuthUserGetRequest { name: "alice".into() }).await.expect("herself");
        role_get(api, &alice, pb::AuthRoleGetRequest { role: "r".into() }).await.expect("her own");
        kv::compact(api, &root, pb::CompactionRequest { revision: 1, physical: false })
            .await
            .expect("root may");
        assert_eq!(
            status(api, &nobody, pb::AuthStatusRequest {}).await.map(|status| status.enabled),
            Ok(true)
        );
        let refusal = refused(status(api, &with("nonsense"), pb::AuthStatusRequest {}).await);
        assert_eq!(refusal, Refusal::InvalidToken);
        health(api).await;
    });
}

/// A member is well whoever asks.
async fn health(api: &Api) {
    assert_eq!(service::health::health(api, false, |_| false).await, Ok(()));
}

#[test]
fn passwords_are_compared_and_never_kept() {
    serving(async |api| {
        assert_eq!(refused(log_in(api, "root", "root-password").await), Refusal::NotEnabled);
        let (root, _) = enabled(api).await;
        assert_eq!(refused(log_in(api, "alice", "root-password").await), Refusal::AuthFailed);
        assert_eq!(refused(log_in(api, "nobody", "root-password").await), Refusal::AuthFailed);
        let options = Some(crate::pb::authpb::UserAddOptions { no_password: true });
        let none = pb::AuthUserAddRequest {
            name: "certified".into(),
            password: "left over".into(),
            hashed_password: "left over".into(),
            options,
        };
        user_add(api, &root, none).await.expect("added");
        assert_eq!(refused(log_in(api, "certified", "left over").await), Refusal::NoPasswordUser);
        let long = |password: usize| pb::AuthUserAddRequest {
            name: "long".into(),
            password: "p".repeat(password),
            ..Default::default()
        };
        assert_eq!(user_add(api, &root, long(73)).await, Err(Error::PasswordTooLong));
        user_add(api, &root, long(72)).await.expect("added");
        for (length, expected) in [(72, None), (80, None), (71, Some(Refusal::AuthFailed))] {
            let result = log_in(api, "long", &"p".repeat(length)).await;
            assert_eq!(result.err(), expected.map(Error::from), "{length}");
        }
        let hashes = api.shard().with_state(|state| {
            let users = state.auth().users();
            users.map(|user| String::from_utf8_lossy(&user.password).into_owned()).collect::<Vec<_>>()
        });
        assert!(hashes.iter().all(|hash| hash.is_empty() || hash.starts_with("$2a$04$")), "{hashes:?}");
    });
}

#[test]
fn a_hash_that_comes_with_a_request_is_compared_unless_that_takes_too_long() {
    serving(async |api| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let (root, _) = enabled(api).await;
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).expect("hashed").to_string();
        let dear = hash.replacen("$04$", "$31$", 1);
        for (hash, logs_in) in [(hash, true), (dear, false), ("nonsense".to_owned(), false)] {
            let hashed_password = STANDARD.encode(hash);
            let request = pb::AuthUserChangePasswordRequest {
                name: "alice".into(),
                hashed_password,
                ..Default::default()
            };
            user_change_password(api, &root, request).await.expect("changed");
            assert_eq!(log_in(api, "alice", "secret").await.is_ok(), logs_in);
        }
    });
}

#[test]
fn tokens_end_with_their_users_password_and_when_nobody_uses_them() {
    let member = TestMember::serving(options(Tokens::Simple { ttl: TTL }));
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        let (root, alice) = enabled(&api).await;
        for _ in 0..3 {
            env.sleep(TTL / 2).await;
            put(&api, &root, "a").await.expect("used in time");
        }
        assert_eq!(
            refused(put(&api, &alice, "a").await),
            Refusal::InvalidToken,
            "not used for its whole time"
        );
        let alice = with(&log_in(&api, "alice", "alice-password").await.expect("again"));
        let request = pb::AuthUserChangePasswordRequest {
            name: "alice".into(),
            password: "other".into(),
            ..Default::default()
        };
        user_change_password(&api, &root, request).await.expect("changed");
        assert_eq!(refused(put(&api, &alice, "a").await), Refusal::InvalidToken);
        assert_eq!(refused(log_in(&api, "alice", "alice-password").await), Refusal::AuthFailed);
        let alice = with(&log_in(&api, "alice", "other").await.expect("the new one"));
        put(&api, &alice, "a").await.expect("a new token");
        user_delete(&api, &root, pb::AuthUserDeleteRequest { name: "alice".into() }).await.expect("deleted");
        assert_eq!(refused(put(&api, &alice, "a").await), Refusal::InvalidToken);
        disable(&api, &root, pb::AuthDisableRequest {}).await.expect("disabled");
        put(&api, &alice, "a").await.expect("nobody has to say");
        enable(&api, &caller(), pb::AuthEnableRequest {}).await.expect("enabled");
        assert_eq!(refused(put(&api, &root, "a").await), Refusal::InvalidToken);
    });
}

/// A password that is changed while it is compared with the old one lets nobody in.
#[test]
fn a_password_that_is_changed_meanwhile_is_compared_again() {
    serving(async |api| {
        let (root, _) = enabled(api).await;
        for _ in 0..20 {
            let request = |password: &str| pb::AuthUserChangePasswordRequest {
                name: "alice".into(),
                password: password.into(),
                ..Default::default()
            };
            let (old, new) = (log_in(api, "alice", "alice-password"), log_in(api, "alice", "other"));
            let changing = user_change_password(api, &root, request("other"));
            let (old, new, changed) = join3(old, new, changing).await;
            changed.expect("changed");
            if let Ok(token) = old {
                assert_eq!(refused(put(api, &with(&token), "a").await), Refusal::InvalidToken);
            }
            if let Ok(token) = new {
                put(api, &with(&token), "a").await.expect("the new password's");
            }
            user_change_password(api, &root, request("alice-password")).await.expect("changed back");
        }
    });
}

#[test]
fn so_many_wait_for_their_passwords_and_no_more() {
    let member = TestMember::serving(options(Tokens::Simple { ttl: TTL }));
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        enabled(&api).await;
        let log_in = |client: &crate::client::Client| {
            let (api, client) = (api.clone(), client.clone());
            async move {
                let request = pb::AuthenticateRequest { name: "root".into(), password: "wrong".into() };
                api.guard().log_in(api.shard(), &client, request).await
            }
        };
        let clients = Clients::default();
        let one = clients.client();
        let of_one = limits::CLIENT_PASSWORDS_WAITING_MAX + 10;
        let results = join_all((0..of_one).map(|_| log_in(&one))).await;
        let refusals = results.iter().filter(|result| **result == Err(Error::TooManyRequests)).count();
        // One is under way, and the line behind it is full.
        assert_eq!(refusals, of_one - limits::CLIENT_PASSWORDS_WAITING_MAX - 1);
        let many = limits::PASSWORDS_WAITING_MAX + 10;
        let others: Vec<_> = (0..many).map(|_| clients.client()).collect();
        // A password that was right a moment ago is known, and waits for nobody.
        let known = self::log_in(&api, "root", "root-password");
        let (results, known) = join(join_all(others.iter().map(&log_in)), known).await;
        let refusals = results.iter().filter(|result| **result == Err(Error::TooManyRequests)).count();
        assert_eq!(refusals, many - limits::PASSWORDS_WAITING_MAX - 1);
        known.expect("known");

        // Who gives up has begun something all the same: the next one waits for its end.
        let began = env.now();
        for _ in 0..20 {
            let mut given_up = Box::pin(log_in(&one));
            assert!(futures_lite::future::poll_once(&mut given_up).await.is_none());
        }
        assert_eq!(log_in(&one).await, Err(Refusal::AuthFailed.into()), "in its turn");
        assert!(env.now() > began);
    });
}

#[test]
fn a_signed_token_is_good_until_users_or_roles_change() {
    let jwt = Jwt::new(JwtOptions {
        method: "HS256".into(),
        private_key: Some(b"secret".to_vec()),
        ttl: TTL,
        ..JwtOptions::default()
    });
    let member = TestMember::serving(options(Tokens::Jwt(jwt.expect("a secret"))));
    let (api, env) = (member.api.clone(), member.env.clone());
    member.run(async move {
        let (root, alice) = enabled(&api).await;
        put(&api, &alice, "a").await.expect("granted");
        assert_eq!(refused(put(&api, &alice, "b").await), Refusal::PermissionDenied);
        assert_eq!(get(&api, &root, "a").await, Ok(1));
        add(&api, &root, "bob").await.expect("added");
        assert_eq!(refused(put(&api, &alice, "a").await), Refusal::OldRevision);
        assert_eq!(refused(get(&api, &root, "a").await), Refusal::OldRevision);
        user_list(&api, &root, pb::AuthUserListRequest {}).await.expect("root is root at any revision");
        let alice = with(&log_in(&api, "alice", "alice-password").await.expect("again"));
        put(&api, &alice, "a").await.expect("the new revision");
        env.sleep(TTL).await;
        assert_eq!(refused(put(&api, &alice, "a").await), Refusal::InvalidToken);
    });
}

#[test]
fn without_tokens_nobody_gets_in() {
    let member = TestMember::serving(options(Tokens::None));
    let api = member.api.clone();
    member.run(async move {
        add(&api, &caller(), "root").await.expect("added");
        let granted = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        user_grant_role(&api, &caller(), granted).await.expect("granted");
        enable(&api, &caller(), pb::AuthEnableRequest {}).await.expect("enabled");
        assert_eq!(refused(log_in(&api, "root", "root-password").await), Refusal::AuthFailed);
        assert_eq!(refused(get(&api, &with("a.1"), "a").await), Refusal::InvalidToken);
    });
}

/// A certificate says who calls where no token does.
#[test]
fn a_certificates_name_is_a_users() {
    serving(async |api| {
        let (root, _) = enabled(api).await;
        let connection = Connection { certificate: Some("alice".into()), ..Connection::default() };
        let certified = Caller { connection: Rc::new(connection), ..caller() };
        put(api, &certified, "a").await.expect("granted");
        assert_eq!(refused(put(api, &certified, "b").await), Refusal::PermissionDenied);
        put(api, &Caller { token: root.token, ..certified }, "b").await.expect("the token counts");
    });
}

/// A long read whose rights are changed while it goes on tells nothing.
#[test]
fn a_read_during_which_rights_change_is_refused() {
    serving(async |api| {
        let (root, _) = enabled(api).await;
        for key in 0..2_000 {
            put(api, &root, &format!("k{key}")).await.expect("put");
        }
        let all = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        let (answer, added) = join(kv::range(api, &root, all), add(api, &root, "bob")).await;
        added.expect("added");
        // Or it was over first.
        if let Err(error) = answer {
            assert_eq!(error, Refusal::OldRevision.into());
        }
    });
}
