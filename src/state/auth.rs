//! Users, roles, what they may, and whether anybody has to say who they are.
//!
//! A space of one block for each user and each role, so that a change writes what it touches. Facts of the whole store are
//! its revision, which grows with every change, and whether it is enabled. Owned by the
//! [`StateMachine`](super::StateMachine).
//!
//! ```text
//! request --Principal--> admission: [Asking] --log--> apply: [Asking] again, on the state it is applied to
//! ```
//!
//! A password is here as a bcrypt hash, which whoever proposes it has made. Tokens only pass through (`given.rs`): each member
//! keeps them by itself, and [`Auth::holds`] says of each whether it still stands for its user. Facts about behaviour are etcd's
//! (`server/auth/store.go`, `server/etcdserver/apply/auth.go` of v3.7).

mod asking;
mod given;
mod manage;
mod ranges;
mod refusal;
mod roles;
mod stored;
mod switch;
#[cfg(test)]
mod tests;
mod users;

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use bytes::Bytes;

use crate::{limits, pb::authpb};
use ranges::Rights;
use stored::{Named, Unwritten};

pub use asking::{Access, Asking};
pub use given::GiveToken;
pub use refusal::Refusal;
pub use stored::{SPACE, Senseless};

use super::Principal;

/// The user and the role that may everything.
pub const ROOT: &str = "root";

/// What one that was made counts with beside its record.
const RECORD_BYTES: usize = 128;

#[derive(Debug)]
pub struct Auth {
    enabled: bool,
    /// Grows with every change; 1 at first.
    revision: u64,
    /// The revision of the last change from enabled to disabled, which ended all tokens.
    disabled_at: u64,
    users: BTreeMap<Bytes, User>,
    roles: BTreeMap<Bytes, Role>,
    /// Grows whenever what some role may changes: rights merged before are merged again.
    roles_version: u64,
    /// Bytes of all records.
    bytes: usize,
    /// Number of the next block.
    next_block: u64,
    unwritten: Unwritten,
    /// Tokens that nobody has taken yet.
    given: RefCell<VecDeque<GiveToken>>,
}

#[derive(Debug)]
struct User {
    /// As etcd stores it; roles in order of their names.
    record: authpb::User,
    /// The revision with which it got its password, or was made.
    password_at: u64,
    block: u64,
    /// What it may, merged from its roles when they had this version.
    rights: RefCell<Option<(u64, Rc<Rights>)>>,
}

#[derive(Debug)]
struct Role {
    record: authpb::Role,
    block: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            disabled_at: 0,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            roles_version: 0,
            bytes: 0,
            next_block: 0,
            unwritten: Unwritten::default(),
            given: RefCell::default(),
        }
    }
}

impl User {
    fn has_role(&self, role: &str) -> bool {
        self.record.roles.binary_search_by(|has| has.as_str().cmp(role)).is_ok()
    }
}

impl Auth {
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// In order of their names.
    pub fn users(&self) -> impl Iterator<Item = &authpb::User> {
        self.users.values().map(|user| &user.record)
    }

    /// The same.
    pub fn roles(&self) -> impl Iterator<Item = &authpb::Role> {
        self.roles.values().map(|role| &role.record)
    }

    pub fn user(&self, name: &[u8]) -> Result<&authpb::User, Refusal> {
        self.users.get(name).map(|user| &user.record).ok_or(Refusal::UserNotFound)
    }

    /// What a role may; the one of root everything, whatever was granted to it.
    pub fn permissions(&self, role: &[u8]) -> Result<Vec<authpb::Permission>, Refusal> {
        let found = self.roles.get(role).ok_or(Refusal::RoleNotFound)?;
        if role != ROOT.as_bytes() {
            return Ok(found.record.key_permission.clone());
        }
        let everything = authpb::Permission {
            perm_type: authpb::permission::Type::Readwrite as i32,
            key: Bytes::new(),
            range_end: Bytes::from_static(&[0]),
        };
        Ok(vec![everything])
    }

    /// Whether a token that was given to the user at a revision still stands for it: the user is there, has had the same
    /// password since, and the store was not disabled.
    pub fn holds(&self, user: &[u8], given_at: u64) -> bool {
        let holds = |user: &User| given_at >= user.password_at && given_at >= self.disabled_at;
        self.enabled && self.users.get(user).is_some_and(holds)
    }

    /// Only root may.
    pub fn admin(&self, who: &Principal) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        if who.user.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        let user = self.users.get(&who.user).ok_or(Refusal::UserNotFound)?;
        if user.has_role(ROOT) { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    /// Everybody may who is somebody, with a token at least.
    pub fn somebody(&self, who: &Principal) -> Result<(), Refusal> {
        if self.enabled && *who == Principal::default() { Err(Refusal::UserEmpty) } else { Ok(()) }
    }

    /// Only root may, and the user itself.
    pub fn admin_or_self(&self, who: &Principal, user: &str) -> Result<(), Refusal> {
        self.admin(who).or_else(|refusal| if who.user == user { Ok(()) } else { Err(refusal) })
    }

    /// Only root may, and who has the role.
    pub fn admin_or_with(&self, who: &Principal, role: &str) -> Result<(), Refusal> {
        let has_it = || self.users.get(&who.user).is_some_and(|user| user.has_role(role));
        self.admin(who).or_else(|refusal| if has_it() { Ok(()) } else { Err(refusal) })
    }

    /// What a user may by its roles.
    fn rights(&self, user: &User) -> Rc<Rights> {
        let mut kept = user.rights.borrow_mut();
        if let Some((version, rights)) = &*kept
            && *version == self.roles_version
        {
            return rights.clone();
        }
        let roles = user.record.roles.iter().filter_map(|role| self.roles.get(role.as_bytes()));
        let rights = Rc::new(Rights::of(roles.flat_map(|role| &role.record.key_permission)));
        *kept = Some((self.roles_version, rights.clone()));
        rights
    }

    /// Something has changed.
    fn commit(&mut self) {
        self.revision += 1;
    }

    /// Room for so many bytes more in a record.
    fn check_room(&self, bytes: usize) -> Result<(), Refusal> {
        if self.bytes + bytes > limits::AUTH_BYTES_MAX { Err(Refusal::NoSpace) } else { Ok(()) }
    }

    /// Puts the record of a user in place of the one it had.
    fn put_user(&mut self, record: authpb::User, password_at: u64) {
        let name = record.name.clone();
        let block = self.take_user(&name).map_or_else(|| self.new_block(), |user| user.block);
        self.bytes += user_bytes(&record);
        self.unwritten.changed(block, Named::User(name.clone()), user_bytes(&record));
        self.users.insert(name, User { record, password_at, block, rights: RefCell::default() });
    }

    /// Takes it out, to be put back or forgotten.
    fn take_user(&mut self, name: &[u8]) -> Option<User> {
        let user = self.users.remove(name)?;
        self.bytes -= user_bytes(&user.record);
        Some(user)
    }

    fn put_role(&mut self, record: authpb::Role) {
        let name = record.name.clone();
        let block = self.take_role(&name).map_or_else(|| self.new_block(), |role| role.block);
        self.bytes += role_bytes(&record);
        self.unwritten.changed(block, Named::Role(name.clone()), role_bytes(&record));
        self.roles.insert(name, Role { record, block });
        self.roles_version += 1;
    }

    fn take_role(&mut self, name: &[u8]) -> Option<Role> {
        let role = self.roles.remove(name)?;
        self.bytes -= role_bytes(&role.record);
        self.roles_version += 1;
        Some(role)
    }

    fn new_block(&mut self) -> u64 {
        let block = self.next_block;
        self.next_block += 1;
        block
    }
}

fn user_bytes(record: &authpb::User) -> usize {
    RECORD_BYTES + prost::Message::encoded_len(record)
}

fn role_bytes(record: &authpb::Role) -> usize {
    RECORD_BYTES + prost::Message::encoded_len(record)
}
