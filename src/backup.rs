//! etcd's backup files: its v3 schema in a bbolt database, as `Maintenance.Snapshot` sends it and `etcdutl` reads it.
//!
//! ```text
//! store --Record in revision order--> [Planner, Writer] --pieces--> file, then the SHA-256 of it
//! file --> [Backup] --Metadata, then Record in revision order--> store
//! ```
//!
//! | bucket | rows |
//! |---|---|
//! | `key` | revision -> `mvccpb.KeyValue`: every version since the last compaction |
//! | `meta` | consistent index, term, configuration state, compaction, storage version |
//! | `cluster`, `members`, `members_removed` | cluster version; member id -> JSON |
//! | `lease` | lease id -> `leasepb.Lease` |
//! | `alarm` | `AlarmMember` -> nothing |
//! | `auth`, `authUsers`, `authRoles` | on or off, revision; name -> `authpb.User`; name -> `authpb.Role` |
//!
//! Nothing here touches a disk or the store: versions come from whoever owns them, bytes go to whoever wants them.
//! A file is believed only after its digest, its pages and every row were checked, so that a restore that starts
//! writing has nothing left to refuse.

pub mod bbolt;
mod keep;
mod metadata;
mod reader;
mod restore;
mod schema;
mod status;
#[cfg(test)]
mod tests;
mod writer;

pub use crate::row::Record;
pub use keep::Keep;
pub use metadata::{Auth, Compaction, Lease, Metadata};
pub use reader::{Backup, Digest, Error, HashedKeys, Versions};
pub use restore::{Bump, Failure, Outcome, RestoreTarget, restore};
pub use status::FileStatus;
pub use writer::{Error as WriteError, Plan, Planner, Writer};
