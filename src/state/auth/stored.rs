//! The store as checkpoints have it: a block for each user and each role, and the facts of all.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::{Auth, Role, User, role_bytes, user_bytes};
use crate::{
    block::{Block, BlockChange, BlockId, SpaceId},
    pb::authpb,
    state::space::{Space, Unsaved},
};

/// Users and roles have their own.
pub const SPACE: SpaceId = SpaceId(3);

/// A block's body: one of the two.
#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(message, optional, tag = "1")]
    user: Option<authpb::User>,
    /// Of the user.
    #[prost(uint64, tag = "2")]
    password_at: u64,
    #[prost(message, optional, tag = "3")]
    role: Option<authpb::Role>,
}

#[derive(Clone, PartialEq, Message)]
struct Facts {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint64, tag = "3")]
    disabled_at: u64,
    #[prost(uint64, tag = "4")]
    next_block: u64,
}

/// What a block is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    User(Bytes),
    Role(Bytes),
    /// It is gone.
    Nobody,
}

/// Blocks that no checkpoint has as they are, and those of the one under way.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    changed: BTreeMap<u64, Named>,
    bytes: usize,
    under_way: BTreeMap<u64, Named>,
}

impl Unwritten {
    pub(super) fn changed(&mut self, block: u64, named: Named, bytes: usize) {
        self.bytes += bytes;
        self.changed.insert(block, named);
    }

    pub(super) fn gone(&mut self, block: u64) {
        self.changed.insert(block, Named::Nobody);
    }
}

/// What is said of users and roles cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what it says of users and roles makes no sense")]
pub struct Senseless;

impl Auth {
    /// That of a restored backup.
    pub fn restored(
        enabled: bool,
        revision: u64,
        users: impl IntoIterator<Item = authpb::User>,
        roles: impl IntoIterator<Item = authpb::Role>,
    ) -> Self {
        let mut auth = Self { enabled, revision: revision.max(1), ..Self::default() };
        let revision = auth.revision;
        users.into_iter().for_each(|user| auth.put_user(user, revision));
        roles.into_iter().for_each(|role| auth.put_role(role));
        auth
    }

    /// Adds a block of a checkpoint, in any order. Of the whole, [`Auth::set_facts`] tells.
    pub fn take(&mut self, block: &Block) -> Result<(), &'static str> {
        const SENSELESS: &str = "what it says of a user or a role makes no sense";
        let number = block.id.number;
        let Content { user, password_at, role } =
            Content::decode(block.body.clone()).map_err(|_| SENSELESS)?;
        let is_new = match (user, role) {
            (Some(record), None) => {
                self.bytes += user_bytes(&record);
                // What the block is decoded from may be mapped.
                let record = unshared_user(record);
                let name = record.name.clone();
                let user = User { record, password_at, block: number, rights: Default::default() };
                self.users.insert(name, user).is_none()
            }
            (None, Some(record)) => {
                self.bytes += role_bytes(&record);
                let record = unshared_role(record);
                self.roles.insert(record.name.clone(), Role { record, block: number }).is_none()
            }
            _ => false,
        };
        is_new.then_some(()).ok_or(SENSELESS)
    }

    /// Completes what was taken by the facts of the same checkpoint.
    pub fn set_facts(&mut self, facts: &[u8]) -> Result<(), Senseless> {
        let Facts { enabled, revision, disabled_at, next_block } =
            Facts::decode(facts).map_err(|_| Senseless)?;
        let blocks = self.users.values().map(|user| user.block);
        let blocks = blocks.chain(self.roles.values().map(|role| role.block));
        if revision == 0 || blocks.max().is_some_and(|newest| newest >= next_block) {
            return Err(Senseless);
        }
        (self.enabled, self.revision) = (enabled, revision);
        (self.disabled_at, self.next_block) = (disabled_at, next_block);
        Ok(())
    }

    /// Whether something was taken that facts have to complete.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.roles.is_empty()
    }

    fn block(&self, number: u64, named: &Named) -> BlockChange {
        let id = BlockId { space: SPACE, number };
        let content = match named {
            Named::User(name) => self.users.get(name).map(|user| Content {
                user: Some(user.record.clone()),
                password_at: user.password_at,
                role: None,
            }),
            Named::Role(name) => self
                .roles
                .get(name)
                .map(|role| Content { role: Some(role.record.clone()), ..Content::default() }),
            Named::Nobody => None,
        };
        match content {
            Some(content) => {
                let body = content.encode_to_vec().into();
                BlockChange::Write(Block { id, meta: Vec::new(), body })
            }
            None => BlockChange::Drop { id },
        }
    }
}

fn unshared_user(record: authpb::User) -> authpb::User {
    let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    authpb::User { name: copied(&record.name), password: copied(&record.password), ..record }
}

fn unshared_role(record: authpb::Role) -> authpb::Role {
    let key_permission = record.key_permission.iter().map(unshared).collect();
    authpb::Role { name: Bytes::copy_from_slice(&record.name), key_permission }
}

/// A copy that shares no memory.
pub(super) fn unshared(permission: &authpb::Permission) -> authpb::Permission {
    authpb::Permission {
        perm_type: permission.perm_type,
        key: Bytes::copy_from_slice(&permission.key),
        range_end: Bytes::copy_from_slice(&permission.range_end),
    }
}

impl Space for Auth {
    fn id(&self) -> SpaceId {
        SPACE
    }

    fn unsaved(&self) -> Unsaved {
        Unsaved { bytes: self.unwritten.bytes, blocks: self.unwritten.changed.len() }
    }

    fn changes(&mut self) -> Vec<BlockChange> {
        self.unwritten.bytes = 0;
        let under_way = std::mem::take(&mut self.unwritten.changed);
        let changes = under_way.iter().map(|(number, named)| self.block(*number, named)).collect();
        self.unwritten.under_way = under_way;
        changes
    }

    fn saved(&mut self) {
        self.unwritten.under_way.clear();
    }

    fn not_saved(&mut self) {
        for (number, named) in std::mem::take(&mut self.unwritten.under_way) {
            self.unwritten.changed.entry(number).or_insert(named);
        }
    }

    fn place(&mut self, _: u64, _: Bytes) {
        // Nothing refers to the body.
    }

    fn facts(&self) -> Vec<u8> {
        let Self { enabled, revision, disabled_at, next_block, .. } = *self;
        Facts { enabled, revision, disabled_at, next_block }.encode_to_vec()
    }
}
