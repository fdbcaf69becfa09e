//! `AuthEnable` and `AuthDisable`.

use super::{Auth, ROOT, Refusal, manage::Manage, manage::commands};
use crate::pb::etcdserverpb as pb;

commands! {
    64: AuthEnableRequest => AuthEnableResponse;
    65: AuthDisableRequest => AuthDisableResponse;
}

impl Manage for pb::AuthEnableRequest {
    /// The revision stays as it is. Once enabled, it is so again without a look at root.
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        if auth.enabled {
            return Ok(false);
        }
        let root = auth.users.get(ROOT.as_bytes()).ok_or(Refusal::RootUserNotExist)?;
        if !root.has_role(ROOT) {
            return Err(Refusal::RootRoleNotExist);
        }
        auth.enabled = true;
        Ok(true)
    }
}

impl Manage for pb::AuthDisableRequest {
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal> {
        if !auth.enabled {
            return Ok(false);
        }
        auth.enabled = false;
        auth.commit();
        auth.disabled_at = auth.revision;
        Ok(true)
    }
}
