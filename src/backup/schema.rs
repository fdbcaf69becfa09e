//! Names and keys of etcd's schema (`server/storage/schema/bucket.go`).

pub const KEY: &[u8] = crate::row::KEY_BUCKET;
pub const META: &[u8] = b"meta";
pub const LEASE: &[u8] = b"lease";
pub const ALARM: &[u8] = b"alarm";
pub const CLUSTER: &[u8] = b"cluster";
pub const MEMBERS: &[u8] = b"members";
pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
pub const AUTH: &[u8] = b"auth";
pub const AUTH_USERS: &[u8] = b"authUsers";
pub const AUTH_ROLES: &[u8] = b"authRoles";

pub const BUCKETS: [&[u8]; 10] =
    [ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META];

/// Keys of `meta`.
pub const SCHEDULED_COMPACTION: &[u8] = b"scheduledCompactRev";
pub const FINISHED_COMPACTION: &[u8] = b"finishedCompactRev";
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub const TERM: &[u8] = b"term";
pub const CONF_STATE: &[u8] = b"confState";
pub const STORAGE_VERSION: &[u8] = b"storageVersion";
/// Keys of `auth`.
pub const AUTH_ENABLED: &[u8] = b"authEnabled";
pub const AUTH_REVISION: &[u8] = b"authRevision";
/// Keys of `cluster`.
pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
pub const DOWNGRADE: &[u8] = b"downgrade";
/// Value of every row of `members_removed`.
pub const REMOVED: &[u8] = b"removed";
