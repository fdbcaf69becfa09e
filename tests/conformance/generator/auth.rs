//! Users, roles and who may do what: in phases in which auth is on and calls come from those who may and may not.

use std::collections::BTreeMap;

use bench_harness::pb::{authpb, etcdserverpb as pb};

use super::{Generator, Step};
use crate::conformance::call::{Answer, Call};

/// The client that logs in as root.
pub const ROOT: usize = 1;
/// Whom the clients log in as.
const USERS: [&str; 5] = ["", "root", "ann", "bob", "ann"];
const ROLES: [&str; 3] = ["root", "readers", "writers"];
const PASSWORDS: [&str; 3] = ["secret", "other", ""];
/// bcrypt takes no more than 72 bytes.
const LONG_PASSWORD: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012";
/// What a client is told whose token is none any more: a simple one, and one that is signed.
const TOKEN_ENDED: [&str; 2] = ["invalid auth token", "revision of auth store is old"];
/// Tokens that nobody was given.
const GARBLED: [&str; 3] = ["nonsense", "abcdefghijklmnop.1", "a.b.c"];

#[derive(Debug, Default)]
pub(super) struct Auth {
    pub(super) on: bool,
    /// Calls until it is turned off.
    left: u32,
    /// As they were last set.
    passwords: BTreeMap<String, String>,
}

impl Generator {
    /// Whether a phase begins or ends.
    pub(super) fn plan_auth(&mut self) {
        if self.auth.on {
            self.auth.left = self.auth.left.saturating_sub(1);
            if self.auth.left == 0 {
                self.plan_call(ROOT, self.login(ROOT));
                self.plan_call(ROOT, Call::AuthDisable(pb::AuthDisableRequest {}));
                self.auth.left = 1;
            }
        } else if self.rng.below(1_500) == 0 {
            self.begin_auth();
        }
    }

    fn begin_auth(&mut self) {
        // Who waits for a lock does so without a token.
        self.plan.push_back(Step::GiveUp);
        for name in ["root", "ann", "bob"] {
            self.plan_call(ROOT, Call::UserAdd(user_add(name, PASSWORDS[0])));
        }
        for name in ROLES {
            self.plan_call(ROOT, Call::RoleAdd(pb::AuthRoleAddRequest { name: name.into() }));
        }
        for (user, role) in [("root", "root"), ("ann", "readers"), ("bob", "writers")] {
            let (user, role) = (user.into(), role.into());
            self.plan_call(ROOT, Call::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role }));
        }
        for _ in 0..3 {
            let call = Call::RoleGrantPermission(self.permission());
            self.plan_call(ROOT, call);
        }
        self.plan_call(ROOT, Call::AuthEnable(pb::AuthEnableRequest {}));
        self.plan_logins();
        self.auth.left = self.rng.between(100, 400) as u32;
    }

    fn plan_call(&mut self, client: usize, call: Call) {
        self.plan.push_back(Step::Call { client, call });
    }

    /// Clients log in as whom they are.
    pub(super) fn plan_logins(&mut self) {
        if self.has(super::Area::Auth) {
            for client in ROOT..USERS.len() {
                self.plan_call(client, self.login(client));
            }
        }
    }

    pub fn login(&self, client: usize) -> Call {
        let name = USERS[client].to_owned();
        let password = self.auth.passwords.get(&name).cloned().unwrap_or(PASSWORDS[0].to_owned());
        Call::Authenticate(pb::AuthenticateRequest { name, password })
    }

    pub(super) fn observe_auth(&mut self, client: usize, call: &Call, answer: &Answer) {
        match (call, answer) {
            (Call::UserAdd(r), Answer::UserAdd(_)) => {
                self.auth.passwords.insert(r.name.clone(), r.password.clone());
            }
            (Call::UserChangePassword(r), Answer::UserChangePassword(_)) => {
                self.auth.passwords.insert(r.name.clone(), r.password.clone());
            }
            _ => {}
        }
        match answer {
            Answer::AuthEnable(_) => self.auth.on = true,
            Answer::AuthDisable(_) => self.auth.on = false,
            // A client gets itself another token, sooner or later.
            Answer::Refused { message, .. }
                if TOKEN_ENDED.iter().any(|text| message.contains(text))
                    && (client == ROOT || self.rng.percent(30)) =>
            {
                self.plan_call(client, self.login(client));
            }
            _ => {}
        }
    }

    /// Mostly by root, who alone may.
    pub(super) fn auth_step(&mut self, lot: u64) -> Step {
        let client = if self.rng.percent(75) { ROOT } else { self.rng.below(USERS.len() as u64) as usize };
        let (user, role) = (self.user(), self.role());
        let call = match lot {
            0..60 => Call::AuthStatus(pb::AuthStatusRequest {}),
            60..160 => {
                let password = if self.rng.percent(70) { PASSWORDS[0] } else { self.password() };
                let name = if self.rng.percent(80) { USERS[client].to_owned() } else { user };
                // Whom root is must stay so: or nobody turns auth off.
                let client = if name == USERS[client] { client } else { USERS.len() - 1 };
                let call =
                    Call::Authenticate(pb::AuthenticateRequest { name, password: password.to_owned() });
                return Step::Call { client, call };
            }
            160..190 => {
                let token = self.rng.pick(&[None, Some(GARBLED[0]), Some(GARBLED[1]), Some(GARBLED[2])]);
                return Step::Token { client: self.rng.between(2, USERS.len() as i64 - 1) as usize, token };
            }
            190..260 => {
                let password = self.password();
                let mut request = user_add(&user, if user == "root" { PASSWORDS[0] } else { password });
                if user != "root" && self.rng.percent(10) {
                    request.options = Some(authpb::UserAddOptions { no_password: true });
                }
                Call::UserAdd(request)
            }
            260..330 => Call::UserGet(pb::AuthUserGetRequest { name: user }),
            330..380 => Call::UserList(pb::AuthUserListRequest {}),
            380..420 => Call::UserDelete(pb::AuthUserDeleteRequest { name: user }),
            420..490 => {
                let password = if user == "root" { PASSWORDS[0] } else { self.password() };
                let (name, password) = (user, password.to_owned());
                let hashed_password = String::new();
                Call::UserChangePassword(pb::AuthUserChangePasswordRequest {
                    name,
                    password,
                    hashed_password,
                })
            }
            490..560 => Call::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role }),
            560..610 => Call::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name: user, role }),
            610..650 => Call::RoleAdd(pb::AuthRoleAddRequest { name: role }),
            650..730 => Call::RoleGet(pb::AuthRoleGetRequest { role }),
            730..770 => Call::RoleList(pb::AuthRoleListRequest {}),
            770..800 => Call::RoleDelete(pb::AuthRoleDeleteRequest { role }),
            800..910 => Call::RoleGrantPermission(self.permission()),
            910..970 => {
                let (key, range_end) = self.key_range(60);
                Call::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest { role, key, range_end })
            }
            970..990 => Call::AuthEnable(pb::AuthEnableRequest {}),
            // Those who may not; and where it is off, anybody.
            _ => {
                let client = if self.auth.on { 2 } else { client };
                return Step::Call { client, call: Call::AuthDisable(pb::AuthDisableRequest {}) };
            }
        };
        // Enabled apart from a phase, it is off again soon; and who waits for a lock does so without a token.
        if matches!(call, Call::AuthEnable(_)) && !self.auth.on {
            self.auth.left = 30;
            self.plan_call(client, call);
            return Step::GiveUp;
        }
        Step::Call { client, call }
    }

    fn user(&mut self) -> String {
        self.rng.pick(&["root", "ann", "ann", "bob", "bob", "eve", ""]).to_owned()
    }

    fn role(&mut self) -> String {
        self.rng.pick(&["root", "readers", "readers", "writers", "writers", "none", ""]).to_owned()
    }

    fn password(&mut self) -> &'static str {
        if self.rng.percent(90) { self.rng.pick(&PASSWORDS) } else { LONG_PASSWORD }
    }

    fn permission(&mut self) -> pb::AuthRoleGrantPermissionRequest {
        let (key, range_end) = self.key_range(70);
        let perm_type = if self.rng.percent(97) { self.rng.between(0, 2) as i32 } else { 9 };
        let perm = authpb::Permission { perm_type, key, range_end };
        let perm = if self.rng.percent(97) { Some(perm) } else { None };
        pb::AuthRoleGrantPermissionRequest { name: self.role(), perm }
    }
}

fn user_add(name: &str, password: &str) -> pb::AuthUserAddRequest {
    let (name, password) = (name.to_owned(), password.to_owned());
    pb::AuthUserAddRequest { name, password, options: None, hashed_password: String::new() }
}
