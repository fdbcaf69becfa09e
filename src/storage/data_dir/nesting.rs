//! Whether a directory lies where another member keeps its data.
//!
//! A server that makes its files there makes the other one's log unreadable: a log refuses names it does not know.

use std::path::{Component, Path};

use super::{DataDirError, LOG_PREFIX, VERSION_FILE, VERSION_PREFIX};
use crate::env::{Disk, Env};

/// Directories of one member.
pub struct Own<'a> {
    pub member: &'a Path,
    pub wal_dir: Option<&'a Path>,
}

enum Kind {
    /// `member` of a data directory.
    Member,
    /// What `--wal-dir` named.
    Log,
}

/// `dir` is where something is about to be made.
pub async fn refuse_nested<E: Env>(env: &E, dir: &Path, own: &Own<'_>) -> Result<(), DataDirError> {
    for above in dir.ancestors() {
        let below = dir.strip_prefix(above).expect("an ancestor").components().next();
        let taken = match kind(env, above, own).await {
            Some(Kind::Member) => above != own.member || is_shard(below),
            Some(Kind::Log) => is_shard(below),
            None => false,
        };
        if taken {
            return Err(DataDirError::Nested { path: dir.to_path_buf(), above: above.to_path_buf() });
        }
    }
    Ok(())
}

async fn kind<E: Env>(env: &E, dir: &Path, own: &Own<'_>) -> Option<Kind> {
    // What this user may not read, no member that runs as this user can have made.
    let content = env.disk().read_small(&dir.join(VERSION_FILE)).await.unwrap_or_default();
    let says = |prefix: &str| content.starts_with(prefix.as_bytes());
    if says(VERSION_PREFIX) || dir == own.member {
        Some(Kind::Member)
    } else if says(LOG_PREFIX) || Some(dir) == own.wal_dir {
        Some(Kind::Log)
    } else {
        None
    }
}

fn is_shard(component: Option<Component<'_>>) -> bool {
    component.is_some_and(|name| name.as_os_str().to_string_lossy().starts_with("shard-"))
}
