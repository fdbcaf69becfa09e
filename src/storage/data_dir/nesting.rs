//! Whether a directory lies where another member keeps its data.
//!
//! A server that makes its files there makes the other one's log unreadable: a log refuses names it does not know.

use std::{
    io::ErrorKind,
    path::{Component, Path},
};

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
        let taken = match kind(env, above, own).await? {
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

async fn kind<E: Env>(env: &E, dir: &Path, own: &Own<'_>) -> Result<Option<Kind>, DataDirError> {
    let path = dir.join(VERSION_FILE);
    let content = match env.disk().read_small(&path).await {
        Ok(content) => content,
        Err(error) if is_none_of_ours(error.kind()) => Vec::new(),
        Err(error) => return Err(DataDirError::from_io("read", &path, error)),
    };
    let says = |prefix: &str| content.starts_with(prefix.as_bytes());
    Ok(if says(VERSION_PREFIX) || dir == own.member {
        Some(Kind::Member)
    } else if says(LOG_PREFIX) || Some(dir) == own.wal_dir {
        Some(Kind::Log)
    } else {
        None
    })
}

/// Nothing is there, or it is somebody else's `version`: a directory, a long file, or one that this user may not read,
/// which no member that runs as this user can have made.
fn is_none_of_ours(kind: ErrorKind) -> bool {
    use ErrorKind::{FileTooLarge, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(kind, NotFound | NotADirectory | IsADirectory | FileTooLarge | PermissionDenied)
}

fn is_shard(component: Option<Component<'_>>) -> bool {
    component.is_some_and(|name| name.as_os_str().to_string_lossy().starts_with("shard-"))
}
