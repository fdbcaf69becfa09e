//! Users, what they may and their tokens, on a member that crashes at any moment.
//!
//! An operator changes one thing after the other and tries until it is done; users log in and put all the while. What
//! the operator was told is done counts for whoever asks afterwards: a token from before its user's password changed, or
//! the user went, or authentication was disabled, lets nobody in, and a right that was revoked is none.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use pinion::{
    client::Bounds,
    pb::{
        authpb::{Permission, User},
        etcdserverpb as pb,
    },
    service::{Api, Caller, Connection, Error, auth, kv},
    shard::Due,
    state,
    state::auth::Refusal,
};

use crate::world::{self, STEPS_MAX, World};

const USERS: u64 = 3;
const OPERATIONS: u64 = 40;

/// What the operator has begun and ended, for whoever wants to know what must hold.
#[derive(Default)]
struct Known {
    /// Changes that end tokens.
    begun: u64,
    ended: u64,
    /// Whether alice may put; not known while that is changed.
    may: Option<bool>,
    changes_of_rights: u64,
    password: u64,
    over: bool,
    put: u64,
    refused: u64,
}

type Node = Rc<RefCell<Option<Api>>>;

fn caller(token: Option<&str>) -> Caller {
    Caller {
        connection: Rc::new(Connection::default()),
        token: token.map(Into::into),
        deadline: None,
        needs_leader: false,
    }
}

fn alices(password: u64) -> String {
    format!("password {password}")
}

async fn log_in(api: &Api, name: &str, password: String) -> Result<String, Error> {
    let request = pb::AuthenticateRequest { name: name.into(), password };
    auth::authenticate(api, &caller(None), request).await.map(|response| response.token)
}

/// The refusal, if it is that.
fn refusal<T>(result: &Result<T, Error>) -> Option<Refusal> {
    match result {
        Err(Error::Apply(state::Error::Auth(refusal))) => Some(*refusal),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Password(u64),
    Delete,
    Add(u64),
    Grant,
    Revoke,
    Disable,
    Enable,
}

/// Does it once, unless a try before has.
async fn once(api: &Api, root: &Caller, operation: Operation) -> Result<(), Error> {
    let alice = || "alice".to_owned();
    let (done, already) = match operation {
        Operation::Password(number) => {
            let request = pb::AuthUserChangePasswordRequest {
                name: alice(),
                password: alices(number),
                ..Default::default()
            };
            (auth::user_change_password(api, root, request).await.map(drop), None)
        }
        Operation::Delete => {
            let request = pb::AuthUserDeleteRequest { name: alice() };
            (auth::user_delete(api, root, request).await.map(drop), Some(Refusal::UserNotFound))
        }
        Operation::Add(number) => {
            let request =
                pb::AuthUserAddRequest { name: alice(), password: alices(number), ..Default::default() };
            (auth::user_add(api, root, request).await.map(drop), Some(Refusal::UserAlreadyExists))
        }
        Operation::Grant => {
            let request = pb::AuthUserGrantRoleRequest { user: alice(), role: "r".into() };
            (auth::user_grant_role(api, root, request).await.map(drop), None)
        }
        Operation::Revoke => {
            let request = pb::AuthUserRevokeRoleRequest { name: alice(), role: "r".into() };
            (auth::user_revoke_role(api, root, request).await.map(drop), Some(Refusal::RoleNotGranted))
        }
        Operation::Disable => (auth::disable(api, root, pb::AuthDisableRequest {}).await.map(drop), None),
        Operation::Enable => (auth::enable(api, root, pb::AuthEnableRequest {}).await.map(drop), None),
    };
    if already.is_some() && refusal(&done) == already { Ok(()) } else { done }
}

struct Operator {
    node: Node,
    sim: pinion::env::sim::Sim,
    root: RefCell<Option<Caller>>,
}

impl Operator {
    /// Tries until it is done, whatever happens to the member.
    async fn does(&self, operation: Operation) {
        loop {
            let api = self.node.borrow().clone();
            if let Some(api) = api {
                let known = self.root.borrow().clone();
                let root = match known {
                    Some(root) => root,
                    None => match log_in(&api, "root", "root".into()).await {
                        Ok(token) => caller(Some(&token)),
                        // Nobody has to say, or it is not there to be asked.
                        Err(_) => caller(None),
                    },
                };
                *self.root.borrow_mut() = Some(root.clone());
                match once(&api, &root, operation).await {
                    Ok(()) => return,
                    // It may be done, and the token may have gone with the member.
                    Err(_) => *self.root.borrow_mut() = None,
                }
            }
            self.sim.sleep(Duration::from_millis(1 + self.sim.below(20))).await;
        }
    }
}

async fn prepare(api: &Api) {
    let nobody = caller(None);
    for (name, password) in [("root", "root".to_owned()), ("alice", alices(0))] {
        let user = pb::AuthUserAddRequest { name: name.into(), password, ..Default::default() };
        auth::user_add(api, &nobody, user).await.expect("added");
    }
    auth::role_add(api, &nobody, pb::AuthRoleAddRequest { name: "r".into() }).await.expect("added");
    let perm = Permission { perm_type: 2, key: "a".into(), range_end: "b".into() };
    let granted = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) };
    auth::role_grant_permission(api, &nobody, granted).await.expect("granted");
    for (user, role) in [("root", "root"), ("alice", "r")] {
        let granted = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        auth::user_grant_role(api, &nobody, granted).await.expect("granted");
    }
    auth::enable(api, &nobody, pb::AuthEnableRequest {}).await.expect("enabled");
}

/// Does one thing after the other, and says before and after what that means.
async fn operate(operator: Operator, known: Rc<RefCell<Known>>) {
    let sim = operator.sim.clone();
    let rights = |may: Option<bool>| {
        let mut known = known.borrow_mut();
        known.may = may;
        known.changes_of_rights += 1;
    };
    for number in 1..=OPERATIONS {
        sim.sleep(Duration::from_millis(sim.below(60))).await;
        let end_tokens = || known.borrow_mut().begun += 1;
        match sim.below(4) {
            0 => {
                end_tokens();
                operator.does(Operation::Password(number)).await;
                known.borrow_mut().password = number;
            }
            1 => {
                end_tokens();
                rights(None);
                operator.does(Operation::Delete).await;
                {
                    let mut known = known.borrow_mut();
                    known.ended = known.begun;
                }
                rights(Some(false));
                sim.sleep(Duration::from_millis(sim.below(30))).await;
                operator.does(Operation::Add(number)).await;
                known.borrow_mut().password = number;
                sim.sleep(Duration::from_millis(sim.below(30))).await;
                rights(None);
                operator.does(Operation::Grant).await;
                rights(Some(true));
            }
            2 => {
                rights(None);
                operator.does(Operation::Revoke).await;
                rights(Some(false));
                sim.sleep(Duration::from_millis(sim.below(60))).await;
                rights(None);
                operator.does(Operation::Grant).await;
                rights(Some(true));
            }
            _ => {
                end_tokens();
                rights(None);
                operator.does(Operation::Disable).await;
                operator.does(Operation::Enable).await;
                rights(Some(true));
            }
        }
        let mut known = known.borrow_mut();
        known.ended = known.begun;
    }
    known.borrow_mut().over = true;
}

/// Logs in and puts.
async fn alice(number: u64, node: Node, sim: pinion::env::sim::Sim, known: Rc<RefCell<Known>>) {
    let mut token: Option<(String, u64)> = None;
    while !known.borrow().over {
        sim.sleep(Duration::from_millis(1 + sim.below(15))).await;
        let api = node.borrow().clone();
        let Some(api) = api else { continue };
        let Some((shown, given)) = &token else {
            let password = alices(known.borrow().password);
            if let Ok(given) = log_in(&api, "alice", password).await {
                // Whatever was begun before may have been there already.
                token = Some((given, known.borrow().begun));
            }
            continue;
        };
        let (is_ended, may, rights) = {
            let known = known.borrow();
            (known.ended > *given, known.may, known.changes_of_rights)
        };
        let request = pb::PutRequest { key: format!("a{number}").into(), ..Default::default() };
        let put = kv::put(&api, &caller(Some(shown)), request).await;
        let mut now = known.borrow_mut();
        let is_same = now.changes_of_rights == rights;
        match (&put, refusal(&put)) {
            (Ok(_), _) => {
                // While authentication is off, everybody may.
                assert!(!is_ended || !is_same || may.is_none(), "an old token let somebody in");
                assert!(may != Some(false) || !is_same, "what was revoked is still granted");
                now.put += 1;
            }
            (Err(_), Some(Refusal::PermissionDenied)) => {
                assert!(may != Some(true) || !is_same, "what was granted is refused");
                now.refused += 1;
            }
            (Err(_), Some(Refusal::InvalidToken)) => {
                now.refused += 1;
                drop(now);
                token = None;
            }
            // The member is not there, or users have changed between admission and apply.
            (Err(_), _) => {}
        }
    }
}

fn users_come_and_go(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed, 1);
    world.checkpoint = Due { entries: 15, ..world.checkpoint };
    world.listens = Some(Bounds::default());
    let world = world;
    let known = Rc::new(RefCell::new(Known { may: Some(true), ..Known::default() }));
    world.start(0);
    world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: no start: {error}"));
    let (node, sim) = (world.nodes[0].api.clone(), world.sim.clone());
    assert!(sim.run_until(STEPS_MAX, || node.borrow().is_some()), "seed {seed}: nobody listens");
    let prepared = Rc::new(Cell::new(false));
    let (shown, api) = (prepared.clone(), node.borrow().clone().expect("just seen"));
    sim.spawn(world::client_id(0), async move {
        prepare(&api).await;
        shown.set(true);
    });
    assert!(sim.run_until(STEPS_MAX, || prepared.get()), "seed {seed}: not prepared");
    let operator = Operator { node: node.clone(), sim: sim.clone(), root: RefCell::default() };
    sim.spawn(world::client_id(1), operate(operator, known.clone()));
    for number in 0..USERS {
        sim.spawn(world::client_id(2 + number), alice(number, node.clone(), sim.clone(), known.clone()));
    }
    for _ in 0..5 {
        sim.run_until(1 + sim.below(6_000), || known.borrow().over);
        world.crash(0);
        world.start(0);
        let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: no start: {error}"));
        let names: Vec<_> =
            shard.with_state(|state| state.auth().users().map(|user: &User| user.name.clone()).collect());
        assert!(names.iter().any(|name| name == "root"), "seed {seed}: {names:?}");
    }
    assert!(sim.run_until(STEPS_MAX, || known.borrow().over), "seed {seed}: the operator is stuck");
    let known = known.borrow();
    (known.put, known.refused)
}

#[test]
fn tokens_never_outlive_their_users_and_rights_hold() {
    let (mut put, mut refused) = (0, 0);
    for seed in world::seeds(30) {
        let (more, less) = users_come_and_go(seed);
        put += more;
        refused += less;
    }
    assert!(put > 0 && refused > 0, "{put} puts and {refused} refusals say nothing");
}
