//! A new member's data directory that begins with a given state: the other end of a backup.
//!
//! ```text
//! <data-dir>/restoring/member/...   everything, durably
//! <wal-dir>/...                     the log, if it has a place of its own
//! <data-dir>/member/                the same, renamed: from here on the directory counts
//! ```
//! A directory without `member` is one of no member, so nobody takes half a restore for a whole one. What an error
//! leaves is removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{StartError, identity, resources};
use crate::{
    block::Block,
    config::Config,
    env::{
        Disk, DiskError, Env,
        real::{RealEnv, run_anywhere},
    },
    pb::etcdserverpb as pb,
    shard::Fatal,
    state::{Seed, auth::Auth, lease::Lease, mvcc::Mark},
    storage::checkpoint::{Checkpoint, CheckpointOptions, CheckpointStore, Summary},
    storage::data_dir::{Anchor, DataDir, Expected, RESTORING},
    storage::wal::{Record, Wal, WalError, WalOptions},
    types::{Keyspace, LogIndex, MemberId, Term},
};

/// What the member begins with.
#[derive(Debug)]
pub struct Restored {
    pub mark: Mark,
    pub blocks: Vec<Block>,
    pub leases: Vec<Lease>,
    pub auth: Auth,
    pub alarms: Vec<pb::AlarmMember>,
}

/// Where the new cluster's log stands: its members were added, one entry each.
const TERM: Term = Term(1);

/// Makes the data directory that `config` names; it must be empty or not be there. Runs an executor of its own.
pub fn restore(mut config: Config, restored: Restored) -> Result<(), StartError> {
    resources::prepare()?;
    for path in [Some(&mut config.data_dir), config.wal_dir.as_mut()].into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(|source| DiskError::from_io("find", path, source))?;
    }
    let made = Made::new(&config);
    let result = run_anywhere(|env| write(env, config, restored))?;
    if result.is_err() {
        made.remove();
    }
    result
}

async fn write(env: RealEnv, mut config: Config, restored: Restored) -> Result<(), StartError> {
    let target = config.data_dir.clone();
    config.data_dir = target.join(RESTORING);
    let data_dir: DataDir<RealEnv> = DataDir::open(&env, &config.data_dir, config.wal_dir.as_deref()).await?;
    let who = identity::founder(&env, &config).await?;
    // A backup is of one keyspace; in a new member it is the one there is without any configuration.
    let Keyspace { shard, .. } = Keyspace::default();

    let expected = Expected { shard, dir: data_dir.wal(shard), identity: who.identity, founded: who.founded };
    let mut anchor = Anchor::open(env.clone(), data_dir.anchor(shard), expected).await?;
    let owner = anchor.owner();

    let options = CheckpointOptions { owner, ..CheckpointOptions::new(data_dir.checkpoint(shard), shard) };
    let (mut store, _) =
        CheckpointStore::open(env.clone(), options, &mut Vec::new()).await.map_err(Fatal::from)?;
    let applied = LogIndex(who.founders.len() as u64);
    let checkpoint = checkpoint(applied, who.founders.clone(), restored);
    store.write(checkpoint, false).await.map_err(Fatal::from)?;
    drop(store);

    let options = WalOptions {
        owner,
        segment_bytes: config.wal_segment_bytes,
        sector_bytes: config.wal_sector_bytes,
        ..WalOptions::new(data_dir.wal(shard), shard)
    };
    let foreign = |_: Record<'_>| Err(WalError::Replay("a new log has no records".to_string()));
    let (mut wal, _) = Wal::open(env.clone(), options, foreign).await?;
    wal.append(Record::HardState { term: TERM, vote: MemberId(0), commit: applied });
    let written = wal.submit().expect("a record is pending").await?;
    wal.written(written);
    anchor.reached(wal.close().await?).await?;
    who.settle(&env, &data_dir).await?;
    drop(data_dir);

    let (from, to) = (config.data_dir.join("member"), target.join("member"));
    let disk = env.disk();
    disk.rename(&from, &to).await.map_err(|source| DiskError::from_io("rename", &from, source))?;
    fs::remove_dir(&config.data_dir)
        .map_err(|source| DiskError::from_io("remove", &config.data_dir, source))?;
    Ok(disk.sync_dir(&target).await.map_err(|source| DiskError::from_io("sync", &target, source))?)
}

fn checkpoint(applied: LogIndex, members: Vec<pb::Member>, restored: Restored) -> Checkpoint {
    let Restored { mark, blocks, leases, auth, alarms } = restored;
    let (changes, facts) = Seed { mark, blocks, leases, auth, members, alarms }.into_checkpoint();
    Checkpoint { summary: Summary { applied, term: TERM, facts, received: false }, changes }
}

/// What was not there before.
struct Made(Vec<PathBuf>);

impl Made {
    fn new(config: &Config) -> Self {
        let dirs = [Some(&config.data_dir), config.wal_dir.as_ref()].into_iter().flatten();
        let mut made: Vec<PathBuf> = dirs
            .filter_map(|dir| dir.ancestors().take_while(|dir| !dir.exists()).last())
            .map(Path::to_path_buf)
            .collect();
        made.extend([RESTORING, "member"].map(|name| config.data_dir.join(name)));
        Self(made)
    }

    fn remove(self) {
        for path in self.0 {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "failed to remove what is left of a restore");
                }
                _ => {}
            }
        }
    }
}
