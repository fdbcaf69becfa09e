//! Commands that change users. Passwords have been hashed before.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use prost::Message;

use super::{Auth, RECORD_BYTES, ROOT, Refusal, manage::Manage, manage::commands};
use crate::{
    limits,
    pb::{authpb, etcdserverpb as pb},
};

commands! {
    66: AuthUserAddRequest => AuthUserAddResponse;
    67: AuthUserDeleteRequest => AuthUserDeleteResponse;
    68: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse;
    69: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse;
    70: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse;
}

impl Manage for pb::AuthUserAddRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        if self.name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if auth.users.contains_key(self.name.as_bytes()) {
            return Err(Refusal::UserAlreadyExists);
        }
        if self.name.len() > limits::AUTH_NAME_BYTES_MAX {
            return Err(Refusal::NoSpace);
        }
        auth.check_room(RECORD_BYTES + self.encoded_len())?;
        let options = self.options.unwrap_or_default();
        let password = if options.no_password { Bytes::new() } else { hash(&self.hashed_password)? };
        auth.commit();
        let name = self.name.clone().into();
        let user = authpb::User { name, password, roles: Vec::new(), options: Some(options) };
        auth.put_user(user, auth.revision);
        Ok(true)
    }
}

impl Manage for pb::AuthUserDeleteRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        if auth.enabled && self.name == ROOT {
            return Err(Refusal::InvalidManagement);
        }
        let user = auth.take_user(self.name.as_bytes()).ok_or(Refusal::UserNotFound)?;
        auth.unwritten.gone(user.block);
        auth.commit();
        Ok(true)
    }
}

impl Manage for pb::AuthUserChangePasswordRequest {
    /// A user without a password stays so, and loses its tokens all the same.
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        let user = auth.user(self.name.as_bytes())?;
        let has_none = user.options.is_some_and(|options| options.no_password);
        let password = if has_none { Bytes::new() } else { hash(&self.hashed_password)? };
        auth.check_room(password.len())?;
        let changed = authpb::User { password, ..auth.user(self.name.as_bytes())?.clone() };
        auth.commit();
        auth.put_user(changed, auth.revision);
        Ok(true)
    }
}

impl Manage for pb::AuthUserGrantRoleRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        let user = auth.users.get(self.user.as_bytes()).ok_or(Refusal::UserNotFound)?;
        if self.role != ROOT && !auth.roles.contains_key(self.role.as_bytes()) {
            return Err(Refusal::RoleNotFound);
        }
        if user.has_role(&self.role) {
            return Ok(false);
        }
        auth.check_room(self.encoded_len())?;
        let (mut record, password_at) = (user.record.clone(), user.password_at);
        let at = record.roles.partition_point(|role| *role < self.role);
        record.roles.insert(at, self.role.clone());
        auth.commit();
        auth.put_user(record, password_at);
        Ok(true)
    }
}

impl Manage for pb::AuthUserRevokeRoleRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        if auth.enabled && self.name == ROOT && self.role == ROOT {
            return Err(Refusal::InvalidManagement);
        }
        let user = auth.users.get(self.name.as_bytes()).ok_or(Refusal::UserNotFound)?;
        if !user.has_role(&self.role) {
            return Err(Refusal::RoleNotGranted);
        }
        auth.take_role_from(&self.name.clone().into(), &self.role);
        auth.commit();
        Ok(true)
    }
}

impl Auth {
    pub(super) fn take_role_from(&mut self, user: &Bytes, role: &str) {
        let user = &self.users[user];
        let (mut record, password_at) = (user.record.clone(), user.password_at);
        record.roles.retain(|has| has != role);
        self.put_user(record, password_at);
    }
}

/// A hash as requests carry it. Line ends in it do not count, as in Go's decoder.
fn hash(encoded: &str) -> Result<Bytes, Refusal> {
    let encoded: Vec<u8> = encoded.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    STANDARD.decode(encoded).map(Bytes::from).map_err(|_| Refusal::NoPasswordUser)
}
