//! Why somebody may not, or why users and roles stay as they are.

/// Texts are `auth`'s in etcd v3.7 (`server/auth/store.go`); what clients see is in the one table of `service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("root user does not exist")]
    RootUserNotExist,
    #[error("root user does not have root role")]
    RootRoleNotExist,
    #[error("user already exists")]
    UserAlreadyExists,
    /// No user was named, or nobody says who asks.
    #[error("user name is empty")]
    UserEmpty,
    #[error("user not found")]
    UserNotFound,
    #[error("role already exists")]
    RoleAlreadyExists,
    #[error("role not found")]
    RoleNotFound,
    #[error("role name is empty")]
    RoleEmpty,
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    #[error("authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error("permission not given")]
    PermissionNotGiven,
    #[error("permission denied")]
    PermissionDenied,
    #[error("role is not granted to the user")]
    RoleNotGranted,
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    #[error("authentication is not enabled")]
    NotEnabled,
    #[error("invalid auth token")]
    InvalidToken,
    #[error("invalid auth management")]
    InvalidManagement,
    /// Who asks was let in before the last change.
    #[error("revision in header is old")]
    OldRevision,
    /// There are as many bytes of users and roles as there may be.
    #[error("no room for more users and roles")]
    NoSpace,
}
