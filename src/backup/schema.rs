//! Names and keys of etcd's schema (`server/storage/schema/bucket.go`, `server/storage/mvcc/revision.go`).

pub const KEY: &[u8] = b"key";
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

const REVISION_BYTES: usize = 17;
const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';

/// Key of a version: `main u64 BE | '_' | sub u64 BE | 't' if it is a tombstone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionKey {
    bytes: [u8; REVISION_BYTES + 1],
    len: usize,
}

impl RevisionKey {
    pub fn new(main: i64, sub: i64, tombstone: bool) -> Self {
        let mut bytes = [TOMBSTONE; REVISION_BYTES + 1];
        bytes[..8].copy_from_slice(&main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..REVISION_BYTES].copy_from_slice(&sub.to_be_bytes());
        Self { bytes, len: REVISION_BYTES + usize::from(tombstone) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Main and sub revision, and whether it is a tombstone.
    pub fn decode(bytes: &[u8]) -> Option<(i64, i64, bool)> {
        let tombstone = match bytes.get(REVISION_BYTES..)? {
            [] => false,
            [TOMBSTONE] => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(*bytes.first_chunk()?);
        let sub = i64::from_be_bytes(*bytes[9..].first_chunk()?);
        (bytes[8] == SEPARATOR && main >= 0 && sub >= 0).then_some((main, sub, tombstone))
    }
}
