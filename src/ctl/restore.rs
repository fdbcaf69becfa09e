//! `snapshot restore`: the checks of the flags in upstream's order, then of the file, then the new data directory.

use std::{
    convert::Infallible,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Exit, map, numbers};
use crate::{
    backup::{self, Backup, Bump, Digest, Metadata, Outcome, Record, RestoreTarget, restore},
    config::{self, Config, Url},
    server::{self, Restored},
    state::{auth::Auth, lease::Lease, mvcc::Loader},
    storage::data_dir::{RESTORING, half_restored},
};

/// The flags of `snapshot restore`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Exactly one, if the command line is right.
    pub files: Vec<OsString>,
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub data_dir: String,
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub wal_dir: String,
    #[arg(long, default_value = "default", allow_hyphen_values = true)]
    pub name: String,
    #[arg(long, default_value = "default=http://localhost:2380", allow_hyphen_values = true)]
    pub initial_cluster: String,
    #[arg(long, default_value = "etcd-cluster", allow_hyphen_values = true)]
    pub initial_cluster_token: String,
    #[arg(long, default_value = "http://localhost:2380", allow_hyphen_values = true)]
    pub initial_advertise_peer_urls: String,
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = numbers::switch)]
    pub skip_hash_check: bool,
    #[arg(long, default_value = "0", allow_hyphen_values = true, value_parser = numbers::uint)]
    pub bump_revision: u64,
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = numbers::switch)]
    pub mark_compacted: bool,
    /// The file is mapped as large as it is.
    #[arg(long, default_value = "0", allow_hyphen_values = true, value_parser = numbers::uint)]
    pub initial_memory_map_size: u64,
}

/// Flags that make sense.
#[derive(Debug)]
struct Checked {
    file: OsString,
    digest: Digest,
    bump: Option<Bump>,
    /// Of the member that will start on the new data directory.
    config: Box<Config>,
}

/// What was done, in upstream's words.
pub(super) fn run(options: &Options) -> Result<String, Exit> {
    let Checked { file, digest, bump, config } = checked(options)?;
    let bytes = map(&file)?;
    let backup = Backup::open(&bytes, digest).map_err(Exit::failed)?;
    let mut state = State::default();
    let Outcome { revision, versions, live_keys } =
        restore(&backup, bump, &mut state).map_err(Exit::failed)?;
    let done = format!(
        "restored snapshot\t{{\"path\": {:?}, \"data-dir\": {:?}, \"revision\": {revision}, \"keys\": {live_keys}, \
         \"versions\": {versions}}}\n",
        file.display().to_string(),
        config.data_dir.display().to_string(),
    );
    server::restore(*config, state.finished()).map_err(Exit::failed)?;
    Ok(done)
}

/// Packs everything in memory, so that nothing is written before the file was read to its end.
#[derive(Default)]
struct State {
    metadata: Metadata,
    loader: Loader,
}

impl RestoreTarget for State {
    type Error = Infallible;

    fn begin(&mut self, metadata: &Metadata) -> Result<(), Infallible> {
        self.metadata = metadata.clone();
        Ok(())
    }

    fn version(&mut self, version: &Record<'_>) -> Result<(), Infallible> {
        self.loader.version(version);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl State {
    fn finished(self) -> Restored {
        let Metadata { revision, compaction, leases, alarms, auth, .. } = self.metadata;
        let lease =
            |lease: backup::Lease| Lease { id: lease.id, ttl: lease.ttl, remaining: lease.remaining_ttl };
        let leases = leases.into_iter().map(lease).collect();
        let backup::Auth { enabled, revision: auth_revision, users, roles } = auth;
        let auth = Auth::restored(enabled, auth_revision, users, roles);
        let (mark, blocks) = self.loader.finish(revision, compaction.revision().unwrap_or(-1));
        Restored { mark, blocks, leases, auth, alarms }
    }
}

/// In upstream's order.
fn checked(options: &Options) -> Result<Checked, Exit> {
    let [file] = options.files.as_slice() else {
        return Err(Exit::bad_arguments("snapshot restore requires exactly one argument"));
    };
    if (options.bump_revision > 0) != options.mark_compacted {
        return Err(Exit::bad_arguments("--mark-compacted required if --revision-bump > 0"));
    }
    let config = config(options)?;
    let data_dir = &config.data_dir;
    if data_dir.exists() && !is_empty_dir(data_dir) {
        let error = format!("data-dir {:?} not empty or could not be read", data_dir.display().to_string());
        let restoring = data_dir.join(RESTORING);
        return Err(Exit::failed(match restoring.exists() {
            true => format!("{error}: {}", half_restored(&restoring)),
            false => error,
        }));
    }
    if !options.wal_dir.is_empty() && Path::new(&options.wal_dir).exists() {
        return Err(Exit::failed(format!("wal-dir {:?} exists", options.wal_dir)));
    }
    let digest = if options.skip_hash_check { Digest::Skipped } else { Digest::Demanded };
    let bump = options.mark_compacted.then_some(Bump(options.bump_revision));
    Ok(Checked { file: file.clone(), digest, bump, config })
}

/// What the server would make of the same flags.
fn config(options: &Options) -> Result<Box<Config>, Exit> {
    let url = |text: &str| Url::parse(text).map(drop).map_err(Exit::failed);
    options.initial_advertise_peer_urls.split(',').try_for_each(url)?;
    let pairs = options.initial_cluster.split(',').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map_or("", |(_, url)| url)).try_for_each(url)?;

    let dir = match options.data_dir.as_str() {
        "" => format!("{}.etcd", options.name),
        dir => dir.to_string(),
    };
    let mut args = vec![
        format!("--name={}", options.name),
        format!("--data-dir={dir}"),
        format!("--initial-cluster={}", options.initial_cluster),
        format!("--initial-cluster-token={}", options.initial_cluster_token),
        format!("--initial-advertise-peer-urls={}", options.initial_advertise_peer_urls),
    ];
    if !options.wal_dir.is_empty() {
        args.push(format!("--wal-dir={}", options.wal_dir));
    }
    let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
    let config = match config::load(&args, &[]).result.map_err(Exit::failed)? {
        config::Command::Serve(config) => config,
        config::Command::Help | config::Command::Version => return Err(Exit::failed("flags ask for help")),
    };
    config.bootstrap().map_err(Exit::failed)?;
    Ok(config)
}

fn is_empty_dir(path: &PathBuf) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
