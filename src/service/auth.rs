//! `etcdserverpb.Auth`: who may what, and who somebody is.
//!
//! Users, roles and what they may are part of the replicated state (`state/auth`); here is what a member does of its own:
//! it hashes and compares passwords beside the core, gives tokens, and finds out of each call whose it is
//! ([`Api::who`]). No password, hash or token leaves this module except to whom it belongs: not to a log line, an error or a
//! metric, and of them only hashes, of passwords and of simple tokens, to the log of the shard.

mod guard;
mod jwt;
mod machine;
mod passwords;
mod recent;
mod remembered;
mod simple;
#[cfg(test)]
mod tests;

use tracing::{debug, info};

pub use guard::{Guard, Options, Tokens};
use passwords::check_length;

pub use jwt::{Jwt, JwtError, JwtOptions};

use super::{Api, Caller, Error};
use crate::{
    pb::etcdserverpb as pb,
    state::{Command, Principal, auth::Auth},
};

pub async fn enable(
    api: &Api,
    caller: &Caller,
    request: pb::AuthEnableRequest,
) -> Result<pb::AuthEnableResponse, Error> {
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("enabled authentication");
    Ok(response)
}

pub async fn disable(
    api: &Api,
    caller: &Caller,
    request: pb::AuthDisableRequest,
) -> Result<pb::AuthDisableResponse, Error> {
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("disabled authentication");
    Ok(response)
}

/// Nobody has to say who asks, but a token that is no good is refused.
pub async fn status(
    api: &Api,
    caller: &Caller,
    _: pb::AuthStatusRequest,
) -> Result<pb::AuthStatusResponse, Error> {
    let mut header = None;
    let (enabled, auth_revision) =
        api.look(caller, |auth, _| Ok((auth.is_enabled(), auth.revision()))).await?;
    api.fill(&mut header);
    Ok(pb::AuthStatusResponse { header, enabled, auth_revision })
}

pub async fn authenticate(
    api: &Api,
    caller: &Caller,
    request: pb::AuthenticateRequest,
) -> Result<pb::AuthenticateResponse, Error> {
    api.shard().linearize().await?;
    let token = api.guard().log_in(&api.shard_of(caller), caller.client(), request).await?;
    let mut header = None;
    api.fill(&mut header);
    Ok(pb::AuthenticateResponse { header, token })
}

pub async fn user_add(
    api: &Api,
    caller: &Caller,
    mut request: pb::AuthUserAddRequest,
) -> Result<pb::AuthUserAddResponse, Error> {
    let has_none = request.options.is_some_and(|options| options.no_password);
    let password = std::mem::take(&mut request.password);
    request.hashed_password.clear();
    if !has_none {
        api.may_set(caller, &password)?;
        request.hashed_password = api.guard().hash(caller.client(), password).await?;
    }
    let user = request.name.clone();
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("user-name" = user, "added a user");
    Ok(response)
}

pub async fn user_get(
    api: &Api,
    caller: &Caller,
    request: pb::AuthUserGetRequest,
) -> Result<pb::AuthUserGetResponse, Error> {
    let get = |auth: &Auth, who: &Principal| {
        auth.admin_or_self(who, &request.name)?;
        Ok(auth.user(request.name.as_bytes())?.roles.clone())
    };
    let roles = api.look(caller, get).await?;
    let mut header = None;
    api.fill(&mut header);
    Ok(pb::AuthUserGetResponse { header, roles })
}

pub async fn user_list(
    api: &Api,
    caller: &Caller,
    _: pb::AuthUserListRequest,
) -> Result<pb::AuthUserListResponse, Error> {
    let list = |auth: &Auth, who: &Principal| {
        auth.admin(who)?;
        Ok(auth.users().map(|user| String::from_utf8_lossy(&user.name).into_owned()).collect())
    };
    let users = api.look(caller, list).await?;
    let mut header = None;
    api.fill(&mut header);
    Ok(pb::AuthUserListResponse { header, users })
}

pub async fn user_delete(
    api: &Api,
    caller: &Caller,
    request: pb::AuthUserDeleteRequest,
) -> Result<pb::AuthUserDeleteResponse, Error> {
    let user = request.name.clone();
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("user-name" = user, "deleted a user");
    Ok(response)
}

/// Without a password, the hash counts that came with the request.
pub async fn user_change_password(
    api: &Api,
    caller: &Caller,
    mut request: pb::AuthUserChangePasswordRequest,
) -> Result<pb::AuthUserChangePasswordResponse, Error> {
    let password = std::mem::take(&mut request.password);
    if !password.is_empty() {
        api.may_set(caller, &password)?;
        request.hashed_password = api.guard().hash(caller.client(), password).await?;
    }
    let user = request.name.clone();
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("user-name" = user, "changed a password of a user");
    Ok(response)
}

pub async fn user_grant_role(
    api: &Api,
    caller: &Caller,
    request: pb::AuthUserGrantRoleRequest,
) -> Result<pb::AuthUserGrantRoleResponse, Error> {
    let (user, role) = (request.user.clone(), request.role.clone());
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("user-name" = user, "added-role-name" = role, "granted a role to a user");
    Ok(response)
}

pub async fn user_revoke_role(
    api: &Api,
    caller: &Caller,
    request: pb::AuthUserRevokeRoleRequest,
) -> Result<pb::AuthUserRevokeRoleResponse, Error> {
    let (user, role) = (request.name.clone(), request.role.clone());
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("user-name" = user, "revoked-role-name" = role, "revoked a role from a user");
    Ok(response)
}

pub async fn role_add(
    api: &Api,
    caller: &Caller,
    request: pb::AuthRoleAddRequest,
) -> Result<pb::AuthRoleAddResponse, Error> {
    let role = request.name.clone();
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("role-name" = role, "created a role");
    Ok(response)
}

pub async fn role_get(
    api: &Api,
    caller: &Caller,
    request: pb::AuthRoleGetRequest,
) -> Result<pb::AuthRoleGetResponse, Error> {
    let get = |auth: &Auth, who: &Principal| {
        auth.admin_or_with(who, &request.role)?;
        Ok(auth.permissions(request.role.as_bytes())?)
    };
    let perm = api.look(caller, get).await?;
    let mut header = None;
    api.fill(&mut header);
    Ok(pb::AuthRoleGetResponse { header, perm })
}

pub async fn role_list(
    api: &Api,
    caller: &Caller,
    _: pb::AuthRoleListRequest,
) -> Result<pb::AuthRoleListResponse, Error> {
    let list = |auth: &Auth, who: &Principal| {
        auth.admin(who)?;
        Ok(auth.roles().map(|role| String::from_utf8_lossy(&role.name).into_owned()).collect())
    };
    let roles = api.look(caller, list).await?;
    let mut header = None;
    api.fill(&mut header);
    Ok(pb::AuthRoleListResponse { header, roles })
}

pub async fn role_delete(
    api: &Api,
    caller: &Caller,
    request: pb::AuthRoleDeleteRequest,
) -> Result<pb::AuthRoleDeleteResponse, Error> {
    let role = request.role.clone();
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("role-name" = role, "deleted a role");
    Ok(response)
}

pub async fn role_grant_permission(
    api: &Api,
    caller: &Caller,
    request: pb::AuthRoleGrantPermissionRequest,
) -> Result<pb::AuthRoleGrantPermissionResponse, Error> {
    let role = request.name.clone();
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("role-name" = role, "granted/updated a permission to a user");
    Ok(response)
}

pub async fn role_revoke_permission(
    api: &Api,
    caller: &Caller,
    request: pb::AuthRoleRevokePermissionRequest,
) -> Result<pb::AuthRoleRevokePermissionResponse, Error> {
    let role = request.role.clone();
    let mut response = api.manage(caller, request).await?;
    api.fill(&mut response.header);
    info!("role-name" = role, "revoked a permission on range");
    Ok(response)
}

impl Api {
    /// Who calls: whom the token was given to, or who the certificate is of, or nobody in particular, as is everybody
    /// while nobody has to say. To be asked when the state is as new as the call needs.
    pub fn who(&self, caller: &Caller) -> Result<Principal, Error> {
        self.shard().with_state(|state| match state.auth().is_enabled() {
            true => self.guard().who(state.auth(), caller),
            false => Ok(Principal::default()),
        })
    }

    /// Whether this member has heard of the token that is shown, if one is. Another member may have given it a moment ago: see
    /// [`Api::catch_up`]. A member without others looks at it once, when it has to know whose it is.
    pub fn knows(&self, caller: &Caller) -> bool {
        caller.token.is_none()
            || self.shard().with_state(|state| {
                let is_alone = state.cluster().members().nth(1).is_none();
                is_alone || !state.auth().is_enabled() || !self.guard().is_strange(state.auth(), caller)
            })
    }

    /// Waits until this member has heard of all tokens that were given before. If it cannot, what it does not know is refused.
    pub async fn catch_up(&self) {
        if let Err(error) = self.shard().linearize().await {
            debug!(%error, "a token is not known here, and nobody can be asked");
        }
    }

    /// Who calls, if that is root.
    pub fn admin(&self, caller: &Caller) -> Result<Principal, Error> {
        let who = self.who(caller)?;
        self.shard().with_state(|state| state.auth().admin(&who))?;
        Ok(who)
    }

    /// Who calls, if that is anybody.
    pub fn somebody(&self, caller: &Caller) -> Result<Principal, Error> {
        let who = self.who(caller)?;
        self.shard().with_state(|state| state.auth().somebody(&who))?;
        Ok(who)
    }

    /// Refuses a password before it costs anything.
    fn may_set(&self, caller: &Caller, password: &str) -> Result<(), Error> {
        check_length(password)?;
        self.admin(caller).map(drop)
    }

    /// Changes users and roles.
    async fn manage<C: Command>(&self, caller: &Caller, command: C) -> Result<C::Answer, Error> {
        let who = self.who(caller)?;
        self.check_size(command.encoded_len())?;
        Ok(self.shard_of(caller).write(&who, command).await?)
    }

    /// Looks at users and roles as they are after everything that was done before the call.
    async fn look<T>(
        &self,
        caller: &Caller,
        look: impl FnOnce(&Auth, &Principal) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.shard().linearize().await?;
        let who = self.who(caller)?;
        self.shard().with_state(|state| look(state.auth(), &who))
    }
}
