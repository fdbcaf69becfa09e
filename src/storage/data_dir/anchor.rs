//! Which log a shard has, where it was last, and how far it reached at least: `member/log-N`.
//!
//! Written before the log is founded, when it is founded, at each start and at each clean stop; never on the way of a
//! write. So a log that is not there, is another one, or ends before what is remembered here is known as such.
//!
//! Owned by the shard. The number of batches only grows, and only after they are durable: whatever moment a crash
//! chooses, the log has them.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{DataDirError, Identity, VERSION, note};
use crate::{
    env::{Disk, Env},
    types::{ClusterId, LogId, MemberId, Owner, ShardId},
};

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub shard: ShardId,
    pub owner: Owner,
    /// The log has so many or more; 0 while it is being founded.
    pub batches: u64,
    /// Its directory, relative to the file's if it lies below that. For messages.
    pub place: String,
}

impl Mark {
    fn encode(&self) -> String {
        let Owner { cluster, member, log } = self.owner;
        let lines = [
            ("shard", self.shard.to_string()),
            ("cluster", note::id(cluster.0)),
            ("member", note::id(member.0)),
            ("log", note::id(log.0)),
            ("batches", self.batches.to_string()),
            ("place", self.place.escape_debug().to_string()),
        ];
        note::write("log", VERSION, &lines)
    }

    fn decode(content: &[u8]) -> Result<Self, note::Fault> {
        let keys = ["shard", "cluster", "member", "log", "batches", "place"];
        let [shard, cluster, member, log, batches, place] = note::read(content, "log", VERSION, keys)?;
        let owner = Owner {
            cluster: ClusterId(note::parse_id(cluster)?),
            member: MemberId(note::parse_id(member)?),
            log: LogId(note::parse_id(log)?),
        };
        let shard = ShardId(shard.parse().map_err(|_| note::Fault::Damaged)?);
        let batches = batches.parse().map_err(|_| note::Fault::Damaged)?;
        Ok(Self { shard, owner, batches, place: place.to_owned() })
    }
}

/// What must be the case when an anchor is opened.
#[derive(Clone, Debug)]
pub struct Expected {
    pub shard: ShardId,
    /// Where the log is now.
    pub dir: PathBuf,
    pub identity: Identity,
    /// The identity was read: the member was started before, to the end.
    pub founded: bool,
}

pub struct Anchor<E: Env> {
    env: E,
    path: PathBuf,
    dir: PathBuf,
    mark: Mark,
    founded: bool,
}

impl<E: Env> Anchor<E> {
    /// Reads what is remembered, or names a log that is to be founded.
    pub async fn open(env: E, path: PathBuf, expected: Expected) -> Result<Self, DataDirError> {
        let Expected { shard, dir, identity: Identity { member, cluster }, founded } = expected;
        let mark = match env.disk().read_small(&path).await {
            Ok(content) => Mark::decode(&content).map_err(|fault| DataDirError::of(&path, fault))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && founded => {
                return Err(DataDirError::NoAnchor { path });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_unclaimed(&env, &path, &dir).await?;
                let owner = Owner { cluster, member, log: LogId(env.random_u64()) };
                let mark = Mark { shard, owner, batches: 0, place: String::new() };
                let anchor = Self { env, path, dir, mark, founded };
                anchor.write(&anchor.mark).await?;
                return Ok(anchor);
            }
            Err(error) => return Err(DataDirError::from_io("read", &path, error)),
        };
        if (mark.owner.cluster, mark.owner.member) != (cluster, member) {
            let expected = Owner { cluster, member, ..mark.owner };
            return Err(DataDirError::OtherMember { path, found: mark.owner, expected, founded });
        }
        if mark.shard != shard {
            return Err(DataDirError::OtherShard { path, found: mark.shard, expected: shard });
        }
        Ok(Self { env, path, dir, mark, founded })
    }

    pub fn owner(&self) -> Owner {
        self.mark.owner
    }

    /// Batches the log has at least, and where it was last.
    pub fn batches(&self) -> u64 {
        // Something was acknowledged, whatever an older copy says.
        self.mark.batches.max(u64::from(self.founded))
    }

    pub fn place(&self) -> &str {
        &self.mark.place
    }

    /// The log has so many batches, durably.
    pub async fn reached(&mut self, batches: u64) -> Result<(), DataDirError> {
        assert!(batches >= self.mark.batches, "a log does not get shorter");
        let parent = self.path.parent().expect("a file is in a directory");
        let place = self.dir.strip_prefix(parent).unwrap_or(&self.dir).display().to_string();
        let mark = Mark { batches, place, ..self.mark.clone() };
        self.write(&mark).await?;
        self.mark = mark;
        Ok(())
    }

    async fn write(&self, mark: &Mark) -> Result<(), DataDirError> {
        let written = self.env.disk().write_small(&self.path, mark.encode().as_bytes()).await;
        written.map_err(|e| DataDirError::from_io("write", &self.path, e))
    }
}

/// A new log begins in an empty directory: what is there is somebody's.
async fn refuse_unclaimed<E: Env>(env: &E, path: &Path, dir: &Path) -> Result<(), DataDirError> {
    match env.disk().list(dir).await {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) => Err(DataDirError::Unclaimed { path: path.to_path_buf(), dir: dir.to_path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DataDirError::from_io("list", dir, error)),
    }
}

#[cfg(test)]
mod tests;
