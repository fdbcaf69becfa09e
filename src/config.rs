//! Flags, environment and YAML, read once at the start into one [`Config`] that never changes.
//!
//! Names, defaults and precedence are etcd v3.7's: a file excludes all other flags and the
//! environment; the command line and the environment must not both set a flag. What the sources had
//! to say beside the result comes back as [`Notice`]s, because the log is not open yet.
//!
//! Not here: opening the log, binding, anything that touches the machine beyond reading the file.

mod args;
mod auth;
mod bootstrap;
mod check;
mod environment;
mod file;
pub mod flags;
mod gates;
pub mod help;
mod identity;
mod settings;
pub mod value;
mod yaml;

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf, time::Duration};

pub use crate::types::url::{Scheme, Url};
pub use bootstrap::{Bootstrap, Founder, InitialCluster, named};
pub use gates::Feature;
pub use identity::{cluster_id, member_id};
pub use value::format_duration;

use crate::types::url;
use settings::Settings;

/// What the server runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    /// The log's own directory; `None` puts it into the data directory.
    pub wal_dir: Option<PathBuf>,
    /// `None` asks the device.
    pub wal_sector_bytes: Option<u32>,
    pub wal_segment_bytes: u64,
    pub unsafe_no_fsync: bool,
    /// `None` chooses one.
    pub core: Option<usize>,
    pub heartbeat: Duration,
    pub election: Duration,
    pub pre_vote: bool,
    /// The first election after a start is brought forward.
    pub advance_election: bool,
    /// Applied entries after which a checkpoint is due.
    pub checkpoint_entries: u64,
    /// Megabytes per second a checkpoint is written with at most; 0 means unlimited.
    pub checkpoint_write_mbps: u64,
    /// Entries kept for followers that lag.
    pub catchup_entries: usize,
    pub listen_client_urls: Vec<Url>,
    /// For HTTP alone; if there are any, `listen_client_urls` serve gRPC alone.
    pub listen_client_http_urls: Vec<Url>,
    /// For `/metrics` and the health endpoints alone.
    pub listen_metrics_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    /// For the other members.
    pub listen_peer_urls: Vec<Url>,
    pub advertise_peer_urls: Vec<Url>,
    /// Another member that says nothing for so long, or takes nothing, is taken for gone.
    pub raft_read_timeout: Duration,
    pub raft_write_timeout: Duration,
    /// As given; only a member that starts for the first time reads it, see [`Config::bootstrap`].
    pub initial_cluster: String,
    pub initial_cluster_token: String,
    /// `--initial-cluster-state=existing`.
    pub join_existing: bool,
    pub socket_reuse_port: bool,
    pub socket_reuse_address: bool,
    /// Refuse changes of members that leave too few to decide.
    pub strict_reconfig_check: bool,
    pub learners_max: u64,
    pub max_txn_ops: usize,
    /// As given: 0 for the default, negative for none.
    pub quota_bytes: i64,
    pub auth: Auth,
    /// `None` for no automatic compaction.
    pub auto_compaction: Option<Retention>,
    /// Hash everything once before serving.
    pub initial_corrupt_check: bool,
    /// Feature gate `LeaseCheckpoint`.
    pub lease_checkpoints: bool,
    /// Time between two checks for corruption, zero for none.
    pub corrupt_check_interval: Duration,
    /// Time between two comparisons of what members compacted, zero for none (feature gate `CompactHashCheck`).
    pub compact_hash_interval: Duration,
    /// Time between two looks whether a downgrade has come to its end, zero for none.
    pub downgrade_check_interval: Duration,
    /// The members that the log knows are gone for ever: this one goes on alone.
    pub force_new_cluster: bool,
    pub max_request_bytes: usize,
    /// The v2 API is served.
    pub enable_v2: bool,
    /// Time between two notices of progress to a watch that wants them.
    pub watch_progress_interval: Duration,
    pub max_concurrent_streams: u32,
    pub keep_alive: KeepAlive,
    /// An apply that takes longer is logged.
    pub warning_apply: Duration,
    /// A call with one answer that takes longer is logged.
    pub warning_unary: Duration,
    /// Also the histograms of gRPC calls.
    pub metrics_extensive: bool,
    pub features: Vec<Feature>,
    pub log: Log,
}

/// How somebody shows who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub token: AuthToken,
    /// Within the costs there are.
    pub bcrypt_cost: u32,
}

/// What somebody gets for a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    /// Nothing.
    None,
    /// A token that lives for so long without use.
    Simple { ttl: Duration },
    /// A token that is signed with what is in these files, and lives for so long.
    Jwt { sign_method: String, public_key: Option<PathBuf>, private_key: Option<PathBuf>, ttl: Duration },
}

/// What automatic compaction keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    Time(Duration),
    Revisions(i64),
}

/// gRPC keep-alive of client connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Shortest time between two pings of a client.
    pub min_time: Duration,
    /// Zero means the server sends no pings.
    pub interval: Duration,
    pub timeout: Duration,
}

/// Where and how to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub outputs: Vec<LogOutput>,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: LogLevel::Info, format: LogFormat::Json, outputs: vec![LogOutput::Stderr] }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    /// Only what ends the process.
    Fatal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Console,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    File(PathBuf),
}

/// Something to log once the log is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub is_warning: bool,
    pub message: String,
    pub fields: BTreeMap<&'static str, String>,
}

impl Notice {
    fn info(message: impl Into<String>) -> Notice {
        Notice { is_warning: false, message: message.into(), fields: BTreeMap::new() }
    }

    fn warn(message: impl Into<String>) -> Notice {
        Notice { is_warning: true, ..Notice::info(message) }
    }

    fn with(mut self, name: &'static str, value: impl fmt::Display) -> Notice {
        self.fields.insert(name, value.to_string());
        self
    }
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The command line cannot be read: printed with the usage, exit code 2.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Refused(String),
    /// A name in a URL has no address, which may change.
    #[error("{0}")]
    Unresolved(String),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseUnset,
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
         environment variable or disable flag))"
    )]
    Shadowed { variable: String },
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    Version,
    Serve(Box<Config>),
}

/// The outcome of reading all sources. The log settings are there even if the rest failed.
#[derive(Debug)]
pub struct Loaded {
    pub log: Log,
    pub notices: Vec<Notice>,
    pub result: Result<Command, Error>,
}

/// Reads the arguments behind the program's name and the environment.
pub fn load(args: &[OsString], variables: &[(String, String)]) -> Loaded {
    let mut loaded = Loaded { log: Log::default(), notices: Vec::new(), result: Ok(Command::Help) };
    loaded.result = read(args, variables, &mut loaded.log, &mut loaded.notices);
    loaded
}

fn read(
    args: &[OsString],
    variables: &[(String, String)],
    log: &mut Log,
    notices: &mut Vec<Notice>,
) -> Result<Command, Error> {
    let mut settings = Settings::new();
    let special = args::parse(args, &mut settings, notices)?;
    if special.help {
        return Ok(Command::Help);
    }
    if special.version {
        return Ok(Command::Version);
    }
    let from_environment = || {
        let named = variables.iter().find(|(key, text)| key == "ETCD_CONFIG_FILE" && !text.is_empty());
        named.map(|(_, text)| text.clone())
    };
    let path = special.config_file.filter(|path| !path.is_empty()).or_else(from_environment);
    if let Some(path) = &path {
        settings = Settings::new();
        notices.clear();
        file::load(path, &mut settings, notices)?;
        notices.push(
            Notice::info(
                "loaded server configuration, other configuration command line flags and environment variables \
                 will be ignored if provided",
            )
            .with("path", path),
        );
    } else {
        environment::apply(variables, &mut settings, notices)?;
    }
    *log = check::log(&settings)?;
    let config = check::config(&settings, log.clone(), path.is_some(), notices)?;
    Ok(Command::Serve(Box::new(config)))
}

impl Config {
    /// How long a request that other members have a part in may take: five seconds and two elections, as in etcd.
    pub fn request_patience(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election
    }
}

#[cfg(test)]
pub(crate) mod tests;
