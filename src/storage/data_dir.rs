//! The data directory: one process at a time, one format version, a folder per shard; whose it is, and which log
//! belongs to it.
//!
//! ```text
//! <data-dir>/member/lock            held (flock) for as long as the process uses the directory
//! <data-dir>/member/version         format of everything below, written before anything else
//! <data-dir>/member/log-0           which log shard 0 has, written before the log is founded
//! <data-dir>/member/identity        who the member is, written at the end of its first start
//! <data-dir>/member/shard-0/wal/    segments of shard 0, unless --wal-dir is given
//! <data-dir>/member/shard-0/snap/   its checkpoint
//! <wal-dir>/lock, <wal-dir>/version, <wal-dir>/shard-0/
//! <data-dir>/restoring/             a restore that did not come to its end, or is still going on
//! ```
//!
//! Opened once at start, before any core serves; a shard gets the path of its log from here. It knows
//! nothing of what is in the log and the checkpoint.

mod anchor;
mod identity;
mod nesting;
mod note;

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    env::{Disk, DiskError, Env},
    types::{Owner, ShardId},
};

use self::nesting::{Own, refuse_nested};
pub use self::{
    anchor::{Anchor, Expected},
    identity::Identity,
};

/// Format of the directory as a whole, and of the small files in it; log and checkpoint have versions of their own.
const VERSION: u32 = 3;
const VERSION_FILE: &str = "version";
const VERSION_PREFIX: &str = "pinion data ";
/// The same in a separate log directory.
const LOG_PREFIX: &str = "pinion log ";

/// Where a restore makes `member`, in the data directory.
pub const RESTORING: &str = "restoring";

/// Why a data directory cannot be used. The member does not start; each text says what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{0}{then}", then = consequence(.0))]
    Disk(#[from] DiskError),

    #[error(
        "the directory is in use by another process: {path} is locked. Stop the other server or choose \
         another --data-dir or --wal-dir"
    )]
    Locked { path: PathBuf },

    #[error(
        "{path} has format version {version}, this server reads version {supported}. Start the release that wrote it; \
         to move to this one, save a snapshot there (etcdctl snapshot save) and restore it here (etcdutl snapshot restore)"
    )]
    Version { path: PathBuf, version: String, supported: u32 },

    #[error(
        "{path} holds {name} but no file `version`: this is not a Pinion data directory (etcd's own cannot be \
         opened), or it was damaged. Choose an empty --data-dir or restore the missing file"
    )]
    Foreign { path: PathBuf, name: String },

    #[error(
        "{path} is damaged. Put back a copy of this very file, or restore this member from a backup; without it, this \
         server does not know whose data this is"
    )]
    Damaged { path: PathBuf },

    #[error(
        "{path} is missing: it says which log belongs here and how far it reached. Put it back, or restore this member \
         from a backup, in an empty --data-dir"
    )]
    NoAnchor { path: PathBuf },

    #[error(
        "there is a log in {dir}, and {path}, which would say that it belongs here, is not there. Is --wal-dir another \
         member's, or --data-dir not what it was? Put back what belongs together; a new member begins with an empty \
         --wal-dir"
    )]
    Unclaimed { path: PathBuf, dir: PathBuf },

    #[error("{text}", text = other_member(.path, *.found, *.expected, *.founded))]
    OtherMember { path: PathBuf, found: Owner, expected: Owner, founded: bool },

    #[error(
        "{path} belongs to shard {found}, not to shard {expected}: the file was renamed. Put back what belongs here"
    )]
    OtherShard { path: PathBuf, found: ShardId, expected: ShardId },

    #[error(
        "{path} lies inside {above}, where a member keeps its data, which would not start again if anything else were \
         there. Choose another --data-dir or --wal-dir"
    )]
    Nested { path: PathBuf, above: PathBuf },

    #[error("{text}", text = half_restored(.restoring))]
    HalfRestored { restoring: PathBuf },
}

impl DataDirError {
    /// Sorts an error of the system. `action` reads "cannot {action} {path}".
    fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        DiskError::from_io(action, path, source).into()
    }

    fn of(path: &Path, fault: note::Fault) -> Self {
        let path = path.to_path_buf();
        match fault {
            note::Fault::Damaged => Self::Damaged { path },
            note::Fault::Version(version) => Self::Version { path, version, supported: VERSION },
        }
    }
}

/// The flags decide who a member is at its first start only.
fn other_member(path: &Path, found: Owner, expected: Owner, founded: bool) -> String {
    let of = |owner: Owner| format!("member {:x} in cluster {:x}", owner.member.0, owner.cluster.0);
    let (path, found, expected) = (path.display(), of(found), of(expected));
    match founded {
        true => format!(
            "{path} is of {found}, and the file `identity` beside it says {expected}: one of the two is another member's. \
             Put back what belongs here"
        ),
        false => format!(
            "{path} is of {found}, the file `identity` is missing beside it, and the flags make this {expected}. Put \
             `identity` back, or start with the --name, --initial-advertise-peer-urls, --initial-cluster and \
             --initial-cluster-token of the first start"
        ),
    }
}

/// Follows the text of what the disk did.
fn consequence(error: &DiskError) -> &'static str {
    match error {
        DiskError::Full { .. } | DiskError::ShortWrite { .. } => {
            ", then start again; nothing acknowledged is lost"
        }
        // Nothing here is read or written directly.
        DiskError::NoDirectIo { .. } | DiskError::ReadOnly { .. } | DiskError::Io { .. } => "",
    }
}

/// An open data directory. Dropping it releases the locks.
pub struct DataDir<E: Env> {
    member: PathBuf,
    wal_dir: Option<PathBuf>,
    _locks: Vec<<E::Disk as Disk>::Lock>,
}

impl<E: Env> DataDir<E> {
    /// Creates what is missing, takes the locks and checks the version.
    pub async fn open(env: &E, data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, DataDirError> {
        refuse_half_restored(env, data_dir).await?;
        let member = data_dir.join("member");
        let own = Own { member: &member, wal_dir };
        for dir in [Some(data_dir), wal_dir].into_iter().flatten() {
            refuse_nested(env, dir, &own).await?;
        }
        let mut locks = vec![lock(env, &member).await?];
        if !is_of_version(env, &member, VERSION_PREFIX).await? {
            refuse_foreign(env, &member).await?;
            write_version(env, &member, VERSION_PREFIX).await?;
        }
        // It may lie below the other.
        if let Some(wal_dir) = wal_dir {
            locks.push(lock(env, wal_dir).await?);
            if !is_of_version(env, wal_dir, LOG_PREFIX).await? {
                write_version(env, wal_dir, LOG_PREFIX).await?;
            }
        }
        Ok(Self { member, wal_dir: wal_dir.map(Path::to_path_buf), _locks: locks })
    }

    /// The directory of a shard's log, which the log creates.
    pub fn wal(&self, shard: ShardId) -> PathBuf {
        let name = format!("shard-{shard}");
        match &self.wal_dir {
            Some(dir) => dir.join(name),
            None => self.member.join(name).join("wal"),
        }
    }

    /// Who the member is: see [`Identity`].
    pub fn identity(&self) -> PathBuf {
        self.member.join("identity")
    }

    /// Which log a shard has: see [`Anchor`].
    pub fn anchor(&self, shard: ShardId) -> PathBuf {
        self.member.join(format!("log-{shard}"))
    }

    /// The directory of a shard's checkpoint, which its store creates.
    pub fn checkpoint(&self, shard: ShardId) -> PathBuf {
        self.member.join(format!("shard-{shard}")).join("snap")
    }
}

/// Beside a half restored member a server would begin as a new, empty one. An empty `restoring` beside `member` is that
/// of a restore that ended after its last step that counts.
async fn refuse_half_restored<E: Env>(env: &E, data_dir: &Path) -> Result<(), DataDirError> {
    let list = async |dir: &Path| match env.disk().list(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|e| DataDirError::from_io("list", dir, e)),
    };
    let names = list(data_dir).await?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let restoring = data_dir.join(RESTORING);
    if !has(RESTORING) || (has("member") && list(&restoring).await?.is_empty()) {
        return Ok(());
    }
    Err(DataDirError::HalfRestored { restoring })
}

/// What to do about a `restoring` that lies there.
pub fn half_restored(restoring: &Path) -> String {
    let path = restoring.display();
    format!(
        "{path} is of a restore that was ended before it was done, or is still going on. If none is, remove {path}, \
         and the --wal-dir it was given, and restore again"
    )
}

async fn lock<E: Env>(env: &E, dir: &Path) -> Result<<E::Disk as Disk>::Lock, DataDirError> {
    create_dir(env, dir).await?;
    let path = dir.join("lock");
    env.disk().lock(&path).await.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DataDirError::Locked { path: path.clone() },
        _ => DataDirError::from_io("lock", &path, error),
    })
}

async fn create_dir<E: Env>(env: &E, path: &Path) -> Result<(), DataDirError> {
    env.disk().create_dir(path).await.map_err(|e| DataDirError::from_io("create the directory", path, e))
}

/// Whether the directory says its format, which must be this one.
async fn is_of_version<E: Env>(env: &E, dir: &Path, prefix: &str) -> Result<bool, DataDirError> {
    let path = dir.join(VERSION_FILE);
    let content = match env.disk().read_small(&path).await {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(DataDirError::from_io("read", &path, error)),
    };
    let text = String::from_utf8_lossy(&content);
    let version = text.trim_end().strip_prefix(prefix).unwrap_or(text.trim_end());
    if version == VERSION.to_string() {
        return Ok(true);
    }
    let version = version.chars().take(32).collect();
    Err(DataDirError::Version { path, version, supported: VERSION })
}

async fn write_version<E: Env>(env: &E, dir: &Path, prefix: &str) -> Result<(), DataDirError> {
    let path = dir.join(VERSION_FILE);
    let content = format!("{prefix}{VERSION}\n");
    let written = env.disk().write_small(&path, content.as_bytes()).await;
    written.map_err(|e| DataDirError::from_io("write", &path, e))
}

/// A directory with content and no version is not ours, or lost its version: neither may be taken
/// for a new member.
async fn refuse_foreign<E: Env>(env: &E, member: &Path) -> Result<(), DataDirError> {
    let names = env.disk().list(member).await.map_err(|e| DataDirError::from_io("list", member, e))?;
    match names.iter().find(|name| !["lock", "version.tmp"].contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(DataDirError::Foreign { path: member.to_path_buf(), name: name.clone() }),
    }
}

#[cfg(test)]
mod tests;
