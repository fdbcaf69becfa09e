//! The check whether somebody may what they ask for, key by key.
//!
//! Who asks is looked up once for a request, when the first of its keys is checked: a request without any asks for nothing,
//! and is nobody's business.

use std::{cell::OnceCell, rc::Rc};

use super::{
    Auth, ROOT, Refusal,
    ranges::{Ranges, Rights},
};
use crate::{
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    state::{Principal, lease::Leases},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

pub struct Asking<'a> {
    auth: &'a Auth,
    leases: &'a Leases,
    who: &'a Principal,
    /// Once it is known who asks.
    may: OnceCell<May>,
}

enum May {
    Everything,
    Some(Rc<Rights>),
}

impl<'a> Asking<'a> {
    pub(in crate::state) fn new(auth: &'a Auth, leases: &'a Leases, who: &'a Principal) -> Self {
        Self { auth, leases, who, may: OnceCell::new() }
    }

    /// Whether all keys from `key` up to `range_end` may be read or written; see [`Ranges::contain`].
    pub fn may(&self, access: Access, key: &[u8], range_end: &[u8]) -> Result<(), Refusal> {
        if !self.auth.enabled {
            return Ok(());
        }
        let Some(ranges) = self.ranges(access)? else { return Ok(()) };
        if ranges.contain(key, range_end) { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    /// Whether all keys that are attached to a lease may be read or written; root may whatever the revision.
    pub fn lease(&self, access: Access, id: i64) -> Result<(), Refusal> {
        if !self.auth.enabled || self.leases.key_count(id) == 0 || self.auth.admin(self.who).is_ok() {
            return Ok(());
        }
        let Some(ranges) = self.ranges(access)? else { return Ok(()) };
        let all = ranges.contain_all(|key| self.leases.key_from(id, key));
        if all { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    /// What is granted to whoever asks; none if that is everything.
    fn ranges(&self, access: Access) -> Result<Option<&Ranges>, Refusal> {
        Ok(match (self.who()?, access) {
            (May::Everything, _) => None,
            (May::Some(rights), Access::Read) => Some(&rights.read),
            (May::Some(rights), Access::Write) => Some(&rights.write),
        })
    }

    fn who(&self) -> Result<&May, Refusal> {
        if let Some(may) = self.may.get() {
            return Ok(may);
        }
        let Principal { user, auth_revision } = self.who;
        if *auth_revision == 0 {
            return Err(Refusal::UserEmpty);
        }
        if *auth_revision < self.auth.revision {
            return Err(Refusal::OldRevision);
        }
        let user = self.auth.users.get(user).ok_or(Refusal::PermissionDenied)?;
        let may = if user.has_role(ROOT) { May::Everything } else { May::Some(self.auth.rights(user)) };
        Ok(self.may.get_or_init(|| may))
    }

    pub fn range(&self, request: &pb::RangeRequest) -> Result<(), Refusal> {
        self.may(Access::Read, &request.key, &request.range_end)
    }

    pub fn put(&self, request: &pb::PutRequest) -> Result<(), Refusal> {
        self.may(Access::Write, &request.key, &[])?;
        if request.lease != 0 {
            // Who attaches a key to it could revoke it, with all others.
            self.lease(Access::Write, request.lease)?;
        }
        if request.prev_kv { self.may(Access::Read, &request.key, &[]) } else { Ok(()) }
    }

    pub fn delete_range(&self, request: &pb::DeleteRangeRequest) -> Result<(), Refusal> {
        self.may(Access::Write, &request.key, &request.range_end)?;
        if request.prev_kv { self.may(Access::Read, &request.key, &request.range_end) } else { Ok(()) }
    }

    /// Both branches, whichever will be taken, and all transactions in it. Recursion follows those, of which decoding has
    /// bounded the levels.
    pub fn txn(&self, request: &pb::TxnRequest) -> Result<(), Refusal> {
        if !self.auth.enabled {
            return Ok(());
        }
        for compare in &request.compare {
            self.may(Access::Read, &compare.key, &compare.range_end)?;
        }
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(Op::RequestRange(request)) => self.range(request)?,
                Some(Op::RequestPut(request)) => self.put(request)?,
                Some(Op::RequestDeleteRange(request)) => self.delete_range(request)?,
                Some(Op::RequestTxn(request)) => self.txn(request)?,
                None => {}
            }
        }
        Ok(())
    }
}
