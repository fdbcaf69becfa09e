//! Commands that change roles.

use bytes::Bytes;
use prost::Message;

use super::{Auth, RECORD_BYTES, ROOT, Refusal, manage::Manage, manage::commands, stored::unshared};
use crate::{
    limits,
    pb::{authpb, etcdserverpb as pb},
};

commands! {
    71: AuthRoleAddRequest => AuthRoleAddResponse;
    72: AuthRoleDeleteRequest => AuthRoleDeleteResponse;
    73: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse;
    74: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse;
}

impl Manage for pb::AuthRoleAddRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        if self.name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if auth.roles.contains_key(self.name.as_bytes()) {
            return Err(Refusal::RoleAlreadyExists);
        }
        if self.name.len() > limits::AUTH_NAME_BYTES_MAX {
            return Err(Refusal::NoSpace);
        }
        auth.check_room(RECORD_BYTES + self.encoded_len())?;
        auth.put_role(authpb::Role { name: self.name.clone().into(), key_permission: Vec::new() });
        auth.commit();
        Ok(true)
    }
}

impl Manage for pb::AuthRoleDeleteRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        if auth.enabled && self.role == ROOT {
            return Err(Refusal::InvalidManagement);
        }
        let role = auth.take_role(self.role.as_bytes()).ok_or(Refusal::RoleNotFound)?;
        auth.unwritten.gone(role.block);
        let holders = auth.users.iter().filter(|(_, user)| user.has_role(&self.role));
        let holders: Vec<Bytes> = holders.map(|(name, _)| name.clone()).collect();
        holders.iter().for_each(|user| auth.take_role_from(user, &self.role));
        auth.commit();
        Ok(true)
    }
}

impl Manage for pb::AuthRoleGrantPermissionRequest {
    /// A permission on the same range takes the place of the first one that begins at its key, if that is on it; another one
    /// of that key is not looked for, as in etcd.
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        let granted = self.perm.as_ref().ok_or(Refusal::PermissionNotGiven)?;
        if !is_a_range(&granted.key, &granted.range_end) {
            return Err(Refusal::InvalidManagement);
        }
        let role = auth.roles.get(self.name.as_bytes()).ok_or(Refusal::RoleNotFound)?;
        auth.check_room(self.encoded_len())?;
        // Not as part of the entry that brought it.
        let granted = unshared(granted);
        let mut record = role.record.clone();
        let permissions = &mut record.key_permission;
        let first = permissions.partition_point(|has| has.key < granted.key);
        match permissions.get_mut(first) {
            Some(has) if (&has.key, &has.range_end) == (&granted.key, &granted.range_end) => {
                has.perm_type = granted.perm_type;
            }
            _ => {
                let behind = permissions.partition_point(|has| has.key <= granted.key);
                permissions.insert(behind, granted);
            }
        }
        auth.put_role(record);
        auth.commit();
        Ok(true)
    }
}

impl Manage for pb::AuthRoleRevokePermissionRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        let role = auth.roles.get(self.role.as_bytes()).ok_or(Refusal::RoleNotFound)?;
        let mut record = role.record.clone();
        record.key_permission.retain(|has| (&has.key, &has.range_end) != (&self.key, &self.range_end));
        if record.key_permission.len() == role.record.key_permission.len() {
            return Err(Refusal::PermissionNotGranted);
        }
        auth.put_role(record);
        auth.commit();
        Ok(true)
    }
}

/// One key, keys up to one that is behind the first, or with a zero byte all keys from the first on.
fn is_a_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}
