//! Assembles a member from its parts, runs it, and stops it in order.
//!
//! One executor on one core holds everything: the shard's loop, its log and the connections. This is
//! the only place that knows all stages; none of them knows it.
//!
//! Order of a start: limits, sockets, core, data directory, identity, log, serving. At the first one the identity is
//! written last of what is on disk. Order of a stop: requests in flight, connections, the shard, its log, the lock on the
//! directory.

mod end;
mod identity;
mod joining;
mod leaving;
mod listeners;
mod memory;
mod resources;
mod restored;
mod signals;
mod systemd;
mod tokens;

pub use restored::{Restored, restore};

use std::{io, net::SocketAddr, rc::Rc};

use futures_lite::future::or;
use futures_util::future::join;
use tracing::{error, info, warn};

use crate::{
    config::{self, Config, Retention},
    env::{
        DiskError, Env, Peer,
        real::{Bound, Core, ExecutorError, RealEnv, explain_faults, run_on},
        spawn_joined,
    },
    inquiry::Inquiry,
    limits, logging,
    metrics::{self, Metrics, ShardMetrics},
    net::{self, Listening, NetConfig},
    pb::etcdserverpb as pb,
    peer::{self, Peers},
    protocol::{Offer, Routes, Surface},
    service::{self, Api, Membership, Patience, Word, version},
    shard::{self, AutoCompaction, CorruptionChecks, Duty, Others, Quota, Shard},
    state::{Commands, cluster::PublishMember},
    storage::checkpoint::{CheckpointMetrics, CheckpointOptions},
    storage::data_dir::{DataDir, DataDirError, Identity},
    storage::wal::{WalError, WalMetrics, WalOptions},
    types::{Keyspace, MemberId, ShardId},
};
use end::End;
use identity::Who;
use resources::Resources;
use signals::Stop;

/// Why a member did not start, or could not go on. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("listen tcp {address}: bind: {reason} ({advice})")]
    Listen { address: SocketAddr, reason: String, advice: &'static str },
    #[error(
        "the locked memory limit is {bytes} bytes, I/O rings need {needed}: raise it with `ulimit -l`, \
         /etc/security/limits.conf or LimitMEMLOCK="
    )]
    LockedMemory { bytes: u64, needed: u64 },
    #[error(
        "file descriptor limit of the process is too low ({limit}, more than {needed} are needed): raise it \
         with `ulimit -n` or LimitNOFILE="
    )]
    Descriptors { limit: u64, needed: u64 },
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(
        "member {member:x} has already been bootstrapped ({url} knows it). If its data are lost, remove it from the \
         cluster, and add and start it as a new one"
    )]
    Bootstrapped { member: u64, url: String },
    #[error(transparent)]
    Log(#[from] WalError),
    #[error("cannot read {path}, which --auth-token names: {source}")]
    TokenKey { path: std::path::PathBuf, source: io::Error },
    #[error("--auth-token: {0}")]
    Tokens(#[from] service::auth::JwtError),
    #[error(transparent)]
    Shard(#[from] shard::Fatal),
}

/// Runs a member until it is asked to stop, which gives the signal, or does not belong to its cluster any more, which gives
/// none, or cannot go on.
pub fn run(mut config: Config) -> Result<Option<i32>, StartError> {
    let resources = resources::prepare()?;
    // The executor opens files relative to nowhere, and messages should name where they are.
    for path in [Some(&mut config.data_dir), config.wal_dir.as_mut()].into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(|source| DiskError::from_io("find", path, source))?;
    }
    let auth = tokens::options(&config.auth)?;
    let listeners = listeners::bind(&config)?;
    let end = End::new(Stop::listen().map_err(StartError::Signals)?);
    explain_faults(logging::last_words).map_err(StartError::Signals)?;
    let core = Core::choose(config.core)?;
    announce(&config, core.id);
    Quota::new(config.quota_bytes).announce();
    run_on(core.id, |env| serve(env, config, auth, resources, listeners, end))?
}

async fn serve(
    env: RealEnv,
    config: Config,
    auth: service::auth::Options,
    resources: Resources,
    listeners: Vec<(Bound, Offer)>,
    end: End,
) -> Result<Option<i32>, StartError> {
    // Locked until this function returns, which is after the log is closed.
    let data_dir: DataDir<RealEnv> = DataDir::open(&env, &config.data_dir, config.wal_dir.as_deref()).await?;
    let Some(who) = end.before(identity::load_or_derive(&env, &config, &data_dir)).await else {
        say_stop("closed etcd server", &config);
        return Ok(end.signal());
    };
    let who = who?;
    let metrics = Rc::new(Metrics::new(&metrics::Options {
        extensive: config.metrics_extensive,
        server_version: version::SERVER.to_string(),
        features: config.features.iter().map(|gate| (gate.name, gate.stage, gate.is_enabled)).collect(),
    })?);
    let keyspace = Keyspace::default();
    let shard_metrics = Rc::new(ShardMetrics::new()?);
    let options = shard_options(&config, &who, &data_dir, &shard_metrics);
    let peers = Peers::new(env.clone(), peer_options(&config, who.identity), metrics.peers.clone());
    let links = Rc::new(peers.clone());
    let starting = shard::start(env.clone(), links, options, shard_metrics);
    // What a start has done when it is left is what it has done when it is killed.
    let Some(started) = end.before(starting).await else {
        say_stop("closed etcd server", &config);
        return Ok(end.signal());
    };
    if let Err(shard::Fatal::Removed) = started {
        end::say_removed(&config);
        return Ok(end.signal());
    }
    let shard::Started { shard, run, duty, is_new } = started?;
    who.settle(&env, &data_dir).await?;
    peers.attach(keyspace.shard, &shard);
    let host = |member: &pb::Member| Peer { id: MemberId(member.id), urls: member.peer_ur_ls.clone() };
    peers.introduce(&who.hosts.iter().map(host).collect::<Vec<_>>());
    let expelled = peers.expelled();
    let checks = CorruptionChecks {
        initial: config.initial_corrupt_check && !is_new,
        interval: config.corrupt_check_interval,
        compacted: config.compact_hash_interval,
    };
    let others = Others::new(&shard, Inquiry::new(&env, config.request_patience()));
    let Some(checked) = end.before(checks.begin(&shard, &others)).await else {
        say_stop("closed etcd server", &config);
        return Ok(end.signal());
    };
    checked?;

    // Whatever ends first: a loop that fails takes the connections down with it, unanswered. It is a
    // task of its own, so that its turns wake nothing else.
    let looping = spawn_joined(&env, run.run());
    let looping = async { looping.await.map_err(StartError::from) };
    maintain(&env, &config, (&shard, &duty), (checks, &others));
    let handle = shard.clone();
    let serving = async {
        let options = api_options(&config, auth);
        let is_ready = options.ready.clone();
        let api = Api::new(&env, keyspace, handle.clone(), metrics, options);
        let watched = api.clone();
        let (mut bound, mut listening, mut for_peers) = (Vec::new(), Vec::new(), Vec::new());
        for (socket, offer) in listeners {
            let address = socket.address();
            let is_for_peers = offer.http == Some(Surface::Peer);
            match is_for_peers {
                true => say_peers(&address),
                false => bound.push((address, offer)),
            }
            let listener = Listening { listener: socket.listen(), offer };
            if is_for_peers { for_peers.push(listener) } else { listening.push(listener) }
        }
        let becoming_ready = async {
            ready(&env, &handle).await;
            shard::publish(env.clone(), handle.clone(), told_of(&handle, &config)).await;
        };
        let preparing = async {
            or(becoming_ready, end.requested()).await;
            if !end.has_come() {
                say_ready(&config, who.identity, &bound);
                is_ready.give();
            }
        };
        let stopped = async {
            end.requested().await;
            say_stop("closing etcd server", &config);
            leaving::hand_over(&env, &handle, config.election).await;
            handle.leave();
        };
        // Until the shard has stopped: the others hear of what it leaves, and its last writes need them.
        let (machine, routes) = (env.clone(), Routes::new(&env, api.clone()));
        env.spawn(async move { net::serve_peers(&machine, for_peers, routes, peers).await });
        // Whether it is ready can be asked for before it is.
        let serving =
            net::serve(&env, listening, Routes::new(&env, api), net_config(&config, resources), stopped);
        let serving = async {
            join(preparing, serving).await;
        };
        let serving = or(serving, service::watch_leader(&env, &watched, config.election));
        or(serving, end.watch(&env, &handle, &config, expelled)).await;
        handle.stop();
        // The loop ends by itself once everything admitted is answered and the log is closed.
        std::future::pending().await
    };
    or(looping, serving).await?;
    drop(data_dir);
    say_stop("closed etcd server", &config);
    Ok(end.signal())
}

/// What happens beside serving, until the shard stops.
fn maintain(
    env: &RealEnv,
    config: &Config,
    (shard, duty): (&Shard, &Duty),
    (checks, others): (CorruptionChecks, &Others<RealEnv>),
) {
    let compaction = config.auto_compaction.map(|keep| match keep {
        Retention::Time(period) => AutoCompaction::Periodic(period),
        Retention::Revisions(count) => AutoCompaction::Revisions(count),
    });
    let parts = || (env.clone(), shard.clone(), duty.clone(), others.clone());
    if let Some(compaction) = compaction {
        env.spawn(compaction.run(env.clone(), shard.clone(), duty.clone()));
    }
    let (own, shard, duty, others) = parts();
    env.spawn(checks.run(own, shard, duty, others));
    let (own, shard, duty, others) = parts();
    env.spawn(checks.run_compacted(own, shard, duty, others));
    let (own, shard, duty, others) = parts();
    env.spawn(shard::end_v2_nodes(own.clone(), shard.clone(), duty.clone()));
    env.spawn(shard::watch_version(own, shard, duty, others, config.downgrade_check_interval));
}

/// What the others are to know of this member.
fn told_of(shard: &Shard, config: &Config) -> PublishMember {
    PublishMember {
        id: shard.member_id().0,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.iter().map(ToString::to_string).collect(),
        level: shard.with_state(|state| state.commands().newest().0),
        log: shard.log_id().0,
    }
}

/// Until the shard serves linearizable reads, or stops. Says from time to time what it waits for.
async fn ready(env: &RealEnv, shard: &Shard) {
    let mut told = env.now();
    while let Err(error) = shard.linearize().await {
        if error == shard::Error::Stopped {
            return;
        }
        if env.now().since(told) >= limits::READY_PATIENCE {
            told = env.now();
            say_not_ready(shard, error);
        }
        env.sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn say_not_ready(shard: &Shard, error: shard::Error) {
    let status = shard.status();
    let members = shard.with_state(|state| {
        let members = state.cluster().members();
        members.map(|member| format!("{:x}", member.id)).collect::<Vec<_>>().join(",")
    });
    warn!(
        "local-member-id" = format!("{:x}", shard.member_id().0),
        "leader" = format!("{:x}", status.leader.0),
        "members" = members,
        "raft-term" = status.term.0,
        "committed-index" = status.committed.0,
        "applied-index" = status.applied.0,
        %error,
        "not ready to serve yet: the members of the log elect a leader, and its first entry must be committed"
    );
}

fn wal_options(
    config: &Config,
    data_dir: &DataDir<RealEnv>,
    metrics: &ShardMetrics,
    shard: ShardId,
) -> WalOptions {
    if config.unsafe_no_fsync {
        warn!("--unsafe-no-fsync is set: a crash of the machine loses acknowledged writes");
    }
    WalOptions {
        segment_bytes: config.wal_segment_bytes,
        sector_bytes: config.wal_sector_bytes,
        data_sync: !config.unsafe_no_fsync,
        metrics: WalMetrics {
            fsync_seconds: metrics.wal_fsync_seconds.clone(),
            write_seconds: metrics.wal_write_seconds.clone(),
            write_bytes: metrics.wal_write_bytes.clone(),
        },
        ..WalOptions::new(data_dir.wal(shard), shard)
    }
}

fn checkpoint_options(
    config: &Config,
    data_dir: &DataDir<RealEnv>,
    metrics: &ShardMetrics,
    shard: ShardId,
) -> CheckpointOptions {
    CheckpointOptions {
        write_bytes_per_second: config.checkpoint_write_mbps.saturating_mul(1_000_000),
        metrics: CheckpointMetrics { commit_seconds: metrics.backend_commit_seconds.clone() },
        ..CheckpointOptions::new(data_dir.checkpoint(shard), shard)
    }
}

fn shard_options(
    config: &Config,
    who: &Who,
    data_dir: &DataDir<RealEnv>,
    metrics: &ShardMetrics,
) -> shard::Options {
    let shard = Keyspace::default().shard;
    shard::Options {
        identity: who.identity,
        founded: who.founded,
        shard_id: shard,
        anchor: data_dir.anchor(shard),
        founders: who.founders.clone(),
        go_alone: config.force_new_cluster,
        wal: wal_options(config, data_dir, metrics, shard),
        checkpoint: checkpoint_options(config, data_dir, metrics, shard),
        checkpoint_due: shard::Due {
            entries: config.checkpoint_entries,
            bytes: limits::CHECKPOINT_BYTES,
            log_bytes: limits::CHECKPOINT_LOG_BYTES,
        },
        heartbeat: config.heartbeat,
        election: config.election,
        pre_vote: config.pre_vote,
        advance_election: config.advance_election,
        catchup_entries: config.catchup_entries,
        slow_apply: config.warning_apply,
        pace: shard::Pace::default(),
        lease_checkpoints: config.lease_checkpoints,
        commands: Commands::default(),
    }
}

fn api_options(config: &Config, auth: service::auth::Options) -> service::Options {
    service::Options {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        quota: Quota::new(config.quota_bytes),
        membership: Membership {
            strict: config.strict_reconfig_check,
            learners_max: config.learners_max,
            election: config.election,
            patience: config.request_patience(),
        },
        patience: Patience { unary: config.warning_unary, apply: config.warning_apply },
        lease_ttl_min: lease_ttl_min(config),
        auth,
        enable_v2: config.enable_v2,
        watch_progress_interval: config.watch_progress_interval,
        clients: memory::clients(config.max_request_bytes),
        ready: Word::default(),
    }
}

/// One and a half elections, in whole ticks and then in whole seconds, as in etcd.
fn lease_ttl_min(config: &Config) -> i64 {
    let ticks = config.election.as_millis() / config.heartbeat.as_millis().max(1);
    let shortest = 3 * ticks / 2 * config.heartbeat.as_millis();
    shortest.div_ceil(1_000) as i64
}

fn peer_options(config: &Config, identity: Identity) -> peer::Options {
    peer::Options {
        cluster: identity.cluster,
        member: identity.member,
        urls: config.advertise_peer_urls.iter().map(ToString::to_string).collect(),
        read_timeout: config.raft_read_timeout,
        write_timeout: config.raft_write_timeout,
        checkpoint_bytes_per_second: config.checkpoint_write_mbps.saturating_mul(1_000_000),
        level: Commands::default().newest(),
    }
}

fn net_config(config: &Config, resources: Resources) -> NetConfig {
    NetConfig {
        connections_max: resources.connections_max,
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive_min_time: config.keep_alive.min_time,
        keepalive_interval: config.keep_alive.interval,
        keepalive_timeout: config.keep_alive.timeout,
        ..NetConfig::default()
    }
}

fn announce(config: &Config, core: usize) {
    info!(
        "etcd-version" = version::SERVER,
        "pinion-version" = env!("CARGO_PKG_VERSION"),
        "os" = std::env::consts::OS,
        "arch" = std::env::consts::ARCH,
        core,
        "name" = config.name,
        "data-dir" = %config.data_dir.display(),
        "wal-dir" = %config.wal_dir.as_deref().unwrap_or_else(|| std::path::Path::new("")).display(),
        "heartbeat-interval" = ?config.heartbeat,
        "election-timeout" = ?config.election,
        "initial-advertise-peer-urls" = ?logging::list(&config.advertise_peer_urls),
        "advertise-client-urls" = ?logging::list(&config.advertise_client_urls),
        "listen-peer-urls" = ?logging::list(&config.listen_peer_urls),
        "listen-client-urls" = ?logging::list(&config.listen_client_urls),
        "listen-metrics-urls" = ?logging::list(&config.listen_metrics_urls),
        "initial-cluster" = config.initial_cluster,
        "initial-cluster-token" = config.initial_cluster_token,
        "max-request-bytes" = config.max_request_bytes,
        "max-concurrent-streams" = config.max_concurrent_streams,
        "pre-vote" = config.pre_vote,
        "starting an etcd server"
    );
}

fn say_ready(config: &Config, identity: Identity, listeners: &[(io::Result<SocketAddr>, Offer)]) {
    info!(
        "local-member-id" = format!("{:x}", identity.member.0),
        "cluster-id" = format!("{:x}", identity.cluster.0),
        "advertise-client-urls" = ?logging::list(&config.advertise_client_urls),
        "listen-client-urls" = ?logging::list(&config.listen_client_urls),
        "now serving client/metrics"
    );
    info!("ready to serve client requests");
    for (address, offer) in listeners {
        match address {
            Ok(address) => info!(
                traffic = traffic(*offer),
                %address,
                "serving client traffic insecurely; this is strongly discouraged!"
            ),
            Err(error) => warn!(%error, "a listening socket has no address"),
        }
    }
    match systemd::notify_ready() {
        Ok(true) => info!("successfully notified init daemon"),
        Ok(false) => {}
        Err(error) => error!(%error, "failed to notify systemd for readiness"),
    }
}

fn say_stop(message: &'static str, config: &Config) {
    info!(
        "name" = config.name,
        "data-dir" = %config.data_dir.display(),
        "advertise-peer-urls" = ?logging::list(&config.advertise_peer_urls),
        "advertise-client-urls" = ?logging::list(&config.advertise_client_urls),
        "{message}"
    );
}

fn say_peers(address: &io::Result<SocketAddr>) {
    match address {
        Ok(address) => info!(%address, "serving peer traffic"),
        Err(error) => warn!(%error, "a listening socket has no address"),
    }
}

/// etcd's words for what a listener serves.
fn traffic(offer: Offer) -> &'static str {
    match (offer.grpc, offer.http.is_some()) {
        (true, true) => "grpc+http",
        (true, false) => "grpc",
        _ => "http",
    }
}
