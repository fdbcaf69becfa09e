//! From settings to a [`Config`]: etcd's rules in etcd's order and words, then what is not built yet.

use std::{path::PathBuf, time::Duration};

use super::{
    Config, Error, KeepAlive, Log, LogFormat, LogLevel, LogOutput, Notice, Retention, auth,
    flags::{self, Flag, State},
    gates,
    settings::{Settings, positive},
    url::{Scheme, Url},
    value::{Value, parse_duration},
};
use crate::{limits, types::Size};

/// etcd's `maxElectionMs`.
const ELECTION_MS_MAX: u64 = 50_000;
/// A request this large is served, with a warning (etcd's `recommendedMaxRequestBytes`).
const REQUEST_BYTES_RECOMMENDED: u64 = 10 * 1024 * 1024;
/// grpc-go's `defaultKeepalivePolicyMinTime`.
const GRPC_PING_PAUSE: Duration = Duration::from_secs(5 * 60);
/// What one entry of the log takes.
const REQUEST_BYTES_MAX: u64 = (limits::ENTRY_BYTES_LARGEST - limits::REQUEST_MARGIN_BYTES) as u64;
const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Ten times in a period the revision is looked at.
const RETENTION_NANOS_MIN: u64 = 100_000_000;
const SECTOR_BYTES: std::ops::RangeInclusive<u64> = 512..=65_536;

type Check = Result<(), Error>;

fn refused<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(message.into()))
}

/// Where and how to log, checked first so that everything after can be logged there.
pub fn log(settings: &Settings) -> Result<Log, Error> {
    match settings.text("logger") {
        "zap" => {}
        "capnslog" => return refused("--logger=capnslog is removed in v3.5"),
        other => return refused(format!("unknown logger option {other:?}")),
    }
    let outputs = settings.list("log-outputs");
    if outputs.len() > 1 && outputs.iter().any(|output| output == "default") {
        return refused("multi logoutput for \"default\" is not supported yet");
    }
    let mut targets: Vec<LogOutput> = Vec::new();
    for output in outputs {
        let target = match output.as_str() {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                return refused(
                    "--log-outputs=systemd/journal is not built yet: use stderr, which systemd keeps too",
                );
            }
            "" => return refused("--log-outputs must not contain empty names"),
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if outputs.iter().any(|output| output == "/dev/null") {
        targets = vec![LogOutput::File(PathBuf::from("/dev/null"))];
    }
    if targets.is_empty() {
        targets.push(LogOutput::Stderr);
    }
    let level = match settings.text("log-level").to_lowercase().as_str() {
        "debug" => LogLevel::Debug,
        "" | "info" => LogLevel::Info,
        "warn" | "warning" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "dpanic" | "panic" | "fatal" => LogLevel::Fatal,
        other => return refused(format!("unrecognized level: {other:?}")),
    };
    let format = match settings.text("log-format") {
        "" | "json" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => return refused(format!("unknown log format: {other}, supported values json, console")),
    };
    Ok(Log { level, format, outputs: targets })
}

/// Everything else. `from_file` says that the settings came from a file, whose defaults differ.
pub fn config(
    settings: &Settings,
    log: Log,
    from_file: bool,
    notices: &mut Vec<Notice>,
) -> Result<Config, Error> {
    discovery_fallback(settings, from_file, notices)?;
    for name in ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"] {
        bind_urls(settings.urls(name))?;
    }
    let advertise_peer_urls = settings.urls("initial-advertise-peer-urls");
    if let Err(reason) = host_urls(advertise_peer_urls) {
        let urls = join(advertise_peer_urls);
        return refused(format!("--initial-advertise-peer-urls {urls:?} must be \"host:port\" ({reason})"));
    }
    let unset = !from_file
        && settings.is_explicit("listen-client-urls")
        && !settings.is_explicit("advertise-client-urls");
    let advertise_client_urls = if unset { &[] } else { settings.urls("advertise-client-urls") };
    if let Err(reason) = host_urls(advertise_client_urls) {
        let urls = join(advertise_client_urls);
        return refused(format!(
            "--advertise-client-urls {urls:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" ({reason})"
        ));
    }
    discovery(settings)?;
    let (heartbeat, election) = ticks(settings)?;
    if unset {
        return Err(Error::AdvertiseUnset);
    }
    modes(settings)?;
    name(settings, notices);
    tls_versions(settings)?;
    unbuilt(settings, notices)?;
    schemes(settings)?;
    let auto_compaction = retention(settings)?;
    let max_request_bytes = request_bytes(settings, notices)?;
    let auth = auth::auth(settings, notices)?;
    let watch_progress_interval = watch_progress_interval(settings, notices);
    let (wal_sector_bytes, wal_segment_bytes) = wal(settings, max_request_bytes)?;

    let name = settings.text("name").to_string();
    let data_dir = match settings.text("data-dir") {
        "" => {
            let dir = format!("{name}.etcd");
            notices.push(Notice::warn("'data-dir' was empty; using default").with("data-dir", &dir));
            dir
        }
        dir => dir.to_string(),
    };
    let wal_dir = Some(settings.text("wal-dir")).filter(|dir| !dir.is_empty());
    // A name alone carries over into the initial cluster, as in etcd.
    let initial_cluster = if settings.is_explicit("initial-cluster") || name == "default" {
        settings.text("initial-cluster").to_string()
    } else {
        advertise_peer_urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    };
    Ok(Config {
        name,
        data_dir: PathBuf::from(data_dir),
        wal_dir: wal_dir.map(PathBuf::from),
        wal_sector_bytes,
        wal_segment_bytes,
        unsafe_no_fsync: settings.bool("unsafe-no-fsync"),
        core: core(settings)?,
        heartbeat,
        election,
        pre_vote: settings.bool("pre-vote"),
        advance_election: settings.bool("initial-election-tick-advance"),
        checkpoint_entries: match settings.uint("snapshot-count") {
            // As in etcd, where it means the default.
            0 => limits::CHECKPOINT_ENTRIES,
            count => count,
        },
        checkpoint_write_mbps: settings.uint("snapshot-write-mbps"),
        catchup_entries: usize::try_from(settings.uint("snapshot-catchup-entries")).unwrap_or(usize::MAX),
        listen_client_urls: settings.urls("listen-client-urls").to_vec(),
        listen_client_http_urls: settings.urls("listen-client-http-urls").to_vec(),
        listen_metrics_urls: settings.urls("listen-metrics-urls").to_vec(),
        advertise_client_urls: advertise_client_urls.to_vec(),
        listen_peer_urls: settings.urls("listen-peer-urls").to_vec(),
        advertise_peer_urls: advertise_peer_urls.to_vec(),
        raft_read_timeout: peer_timeout(settings, notices, "raft-read-timeout"),
        raft_write_timeout: peer_timeout(settings, notices, "raft-write-timeout"),
        initial_cluster,
        initial_cluster_token: settings.text("initial-cluster-token").to_string(),
        join_existing: settings.text("initial-cluster-state") == "existing",
        socket_reuse_port: settings.bool("socket-reuse-port"),
        socket_reuse_address: settings.bool("socket-reuse-address"),
        strict_reconfig_check: settings.bool("strict-reconfig-check"),
        // As in etcd, fewer than none is none.
        learners_max: u64::try_from(settings.int("max-learners")).unwrap_or(0),
        max_txn_ops: usize::try_from(settings.uint("max-txn-ops")).unwrap_or(usize::MAX),
        quota_bytes: settings.int("quota-backend-bytes"),
        auth,
        auto_compaction,
        initial_corrupt_check: gates::is_enabled(settings.gates(), "InitialCorruptCheck"),
        lease_checkpoints: gates::is_enabled(settings.gates(), "LeaseCheckpoint"),
        corrupt_check_interval: positive(settings, "corrupt-check-time")?,
        compact_hash_interval: match gates::is_enabled(settings.gates(), "CompactHashCheck") {
            true => positive(settings, "compact-hash-check-time")?,
            false => Duration::ZERO,
        },
        downgrade_check_interval: positive(settings, "downgrade-check-time")?,
        force_new_cluster: settings.bool("force-new-cluster"),
        max_request_bytes,
        enable_v2: settings.bool("enable-v2"),
        watch_progress_interval,
        max_concurrent_streams: u32::try_from(settings.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        keep_alive: KeepAlive {
            // As in etcd, where none given is not none at all but grpc-go's default.
            min_time: match positive(settings, "grpc-keepalive-min-time")? {
                Duration::ZERO => GRPC_PING_PAUSE,
                given => given,
            },
            interval: positive(settings, "grpc-keepalive-interval")?,
            timeout: positive(settings, "grpc-keepalive-timeout")?,
        },
        warning_apply: positive(settings, "warning-apply-duration")?,
        warning_unary: positive(settings, "warning-unary-request-duration")?,
        metrics_extensive: settings.text("metrics") == "extensive",
        features: gates::features(settings.gates()),
        log,
    })
}

/// A shorter one than etcd's default is raised to it, as in etcd.
fn peer_timeout(settings: &Settings, notices: &mut Vec<Notice>, name: &'static str) -> Duration {
    let least = limits::PEER_TIMEOUT_MIN;
    let given = u64::try_from(settings.duration(name)).map_or(Duration::ZERO, Duration::from_nanos);
    if given < least {
        let text = super::value::format_duration(least.as_nanos() as i64);
        notices.push(Notice::info(format!("{name} increased to minimum value: {text}")));
    }
    given.max(least)
}

/// None given is etcd's default, and so is a negative one.
fn watch_progress_interval(settings: &Settings, notices: &mut Vec<Notice>) -> Duration {
    let least = limits::WATCH_PROGRESS_INTERVAL_MIN;
    match u64::try_from(settings.duration("watch-progress-notify-interval")).map(Duration::from_nanos) {
        Err(_) | Ok(Duration::ZERO) => limits::WATCH_PROGRESS_INTERVAL,
        Ok(given) if given < least => {
            let text = super::value::format_duration(least.as_nanos() as i64);
            let notice = Notice::warn("adjusting watch progress notify interval to minimum period");
            notices.push(notice.with("min-watch-progress-notify-interval", text));
            least
        }
        Ok(given) => given,
    }
}

fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

fn bind_urls(urls: &[Url]) -> Check {
    for url in urls.iter().filter(|url| !url.is_unix()) {
        if url.host() != "localhost" && url.host().parse::<std::net::IpAddr>().is_err() {
            return refused(format!("expected IP in URL for binding ({url})"));
        }
    }
    Ok(())
}

fn host_urls(urls: &[Url]) -> Result<(), String> {
    match urls.iter().find(|url| !url.is_unix() && url.host().is_empty()) {
        Some(url) => Err(format!("unexpected empty host ({url})")),
        None => Ok(()),
    }
}

/// As in etcd, where only the command line and the environment know this flag: files of old versions carry the word.
fn discovery_fallback(settings: &Settings, from_file: bool, notices: &mut Vec<Notice>) -> Check {
    if settings.text("discovery-fallback") != "proxy" {
        return Ok(());
    }
    if !from_file {
        return refused("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"");
    }
    notices.push(idle("discovery-fallback", "there is no v2 proxy to fall back to"));
    Ok(())
}

fn discovery(settings: &Settings) -> Check {
    let endpoints = settings.list("discovery-endpoints");
    let srv = !settings.text("discovery-srv").is_empty() || !settings.text("discovery-srv-name").is_empty();
    // etcd drops its default initial cluster when a discovery is set.
    let discovers = srv || !endpoints.is_empty();
    let initial = if settings.is_explicit("initial-cluster") || !discovers {
        settings.text("initial-cluster")
    } else {
        ""
    };
    let ways = [!initial.is_empty(), !settings.text("discovery-srv").is_empty(), !endpoints.is_empty()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return refused(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        );
    }
    if settings.text("discovery-token").is_empty() != endpoints.is_empty() {
        return refused("both --discovery-token and --discovery-endpoints must be set");
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return refused("--discovery-endpoints must not contain empty endpoints");
    }
    Ok(())
}

fn ticks(settings: &Settings) -> Result<(Duration, Duration), Error> {
    let (heartbeat, election) = (settings.uint("heartbeat-interval"), settings.uint("election-timeout"));
    if heartbeat == 0 {
        return refused(format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)"));
    }
    if election == 0 {
        return refused(format!("--election-timeout must be >0 (set to {election}ms)"));
    }
    if heartbeat.saturating_mul(5) > election {
        return refused(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return refused(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        ));
    }
    Ok((Duration::from_millis(heartbeat), Duration::from_millis(election)))
}

fn modes(settings: &Settings) -> Check {
    match settings.text("auto-compaction-mode") {
        "periodic" | "revision" => {}
        "" => return refused("undefined auto-compaction-mode"),
        other => return refused(format!("unknown auto-compaction-mode {other:?}")),
    }
    let enabled = |gate| gates::is_enabled(settings.gates(), gate);
    if enabled("LeaseCheckpointPersist") && !enabled("LeaseCheckpoint") {
        return refused(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        );
    }
    let interval = settings.duration("compact-hash-check-time");
    if interval <= 0 {
        let interval = super::value::format_duration(interval);
        return refused(format!("--compact-hash-check-time must be >0 (set to {interval})"));
    }
    Ok(())
}

/// etcd's `parseCompactionRetention`: a bare number counts hours or revisions, anything else is a duration, of which
/// the revision mode takes the nanoseconds.
fn retention(settings: &Settings) -> Result<Option<Retention>, Error> {
    const HOUR_NANOS: i64 = 3_600_000_000_000;
    let text = match settings.text("auto-compaction-retention") {
        "" => "0",
        text => text,
    };
    let by_revision = settings.text("auto-compaction-mode") == "revision";
    let count = match text.parse::<i64>() {
        Ok(count) if count >= 0 && by_revision => Some(count),
        Ok(count) if count >= 0 => count.checked_mul(HOUR_NANOS),
        _ => match parse_duration(text) {
            Some(nanos) => Some(nanos),
            None => {
                return refused(format!(
                    "error parsing CompactionRetention: time: invalid duration {text:?}"
                ));
            }
        },
    };
    let Some(count) = count else {
        return refused(format!("--auto-compaction-retention {text} is too long"));
    };
    match u64::try_from(count) {
        Err(_) => refused(format!("--auto-compaction-retention must not be negative (set to {text})")),
        Ok(0) => Ok(None),
        Ok(_) if by_revision => Ok(Some(Retention::Revisions(count))),
        Ok(nanos) if nanos < RETENTION_NANOS_MIN => refused(format!(
            "--auto-compaction-retention must be 0 or at least {} (set to {text})",
            super::value::format_duration(RETENTION_NANOS_MIN as i64)
        )),
        Ok(nanos) => Ok(Some(Retention::Time(Duration::from_nanos(nanos)))),
    }
}

fn name(settings: &Settings, notices: &mut Vec<Notice>) {
    let name = settings.text("name");
    if name == "default" {
        notices.push(
            Notice::warn(
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might \
                 run into issue when multiple members have the same default name",
            )
            .with("name", name),
        );
    }
}

fn tls_versions(settings: &Settings) -> Check {
    let version = |name: &str| match settings.text(name) {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(12)),
        "TLS1.3" => Ok(Some(13)),
        other => refused(format!("unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)")),
    };
    let (min, max) = (version("tls-min-version")?, version("tls-max-version")?);
    if max.is_some() && min > max {
        return refused(format!(
            "min version ({}) is greater than max version ({})",
            settings.text("tls-min-version"),
            settings.text("tls-max-version")
        ));
    }
    if min == Some(13) && !settings.list("cipher-suites").is_empty() {
        return refused("cipher suites cannot be configured when only TLS1.3 is enabled");
    }
    Ok(())
}

/// Refuses what asks for parts that are not built; tells what has no effect.
fn unbuilt(settings: &Settings, notices: &mut Vec<Notice>) -> Check {
    for flag in flags::all().filter(|flag| settings.is_explicit(flag.name)) {
        match flag.state {
            State::Built => {}
            State::Accepted(reason) => {
                if !is_default(settings, flag) {
                    notices.push(idle(flag.name, reason));
                }
            }
            State::Roadmap { part, off } => {
                let value = settings.value(flag.name);
                let is_off = off.iter().any(|text| flag.kind.parse(text).as_ref() == Ok(value));
                if !is_default(settings, flag) && !is_off {
                    return refused(format!(
                        "--{} belongs to {part}, which is not built yet: leave the flag at its default ({:?})",
                        flag.name, flag.default
                    ));
                }
            }
        }
    }
    for (gate, value, reason) in gates::idle(settings.gates()) {
        notices.push(idle(format!("feature-gates={gate}={value}"), reason));
    }
    Ok(())
}

fn idle(flag: impl std::fmt::Display, reason: &str) -> Notice {
    Notice::warn("flag is accepted without effect").with("flag-name", flag).with("reason", reason)
}

fn is_default(settings: &Settings, flag: &Flag) -> bool {
    match (settings.value(flag.name), flag.default) {
        (Value::Text(text), default) => text == default,
        (value, default) => flag.kind.parse(default).as_ref() == Ok(value),
    }
}

/// What is advertised is for others to use, behind a proxy that ends TLS perhaps; what is listened on is served here.
fn schemes(settings: &Settings) -> Check {
    const NAMES: [&str; 4] =
        ["listen-client-urls", "listen-client-http-urls", "listen-metrics-urls", "listen-peer-urls"];
    for name in NAMES {
        for url in settings.urls(name) {
            match url.scheme() {
                Scheme::Http => {}
                Scheme::Https => {
                    return refused(format!("--{name} {url} needs TLS, which is not built yet: use http"));
                }
                Scheme::Unix | Scheme::UnixTls => {
                    return refused(format!(
                        "--{name} {url} is a Unix socket, which is not built yet: use http"
                    ));
                }
            }
        }
    }
    let grpc = settings.urls("listen-client-urls");
    match settings.urls("listen-client-http-urls").iter().find(|url| grpc.contains(url)) {
        Some(url) => refused(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        )),
        None => Ok(()),
    }
}

fn request_bytes(settings: &Settings, notices: &mut Vec<Notice>) -> Result<usize, Error> {
    let bytes = settings.uint("max-request-bytes");
    if bytes > REQUEST_BYTES_MAX {
        return refused(format!("--max-request-bytes must be at most {REQUEST_BYTES_MAX} (set to {bytes})"));
    }
    if bytes > REQUEST_BYTES_RECOMMENDED {
        notices.push(
            Notice::warn("exceeded recommended request limit")
                .with("max-request-bytes", bytes)
                .with("max-request-size", Size(bytes))
                .with("recommended-request-bytes", REQUEST_BYTES_RECOMMENDED)
                .with("recommended-request-size", Size(REQUEST_BYTES_RECOMMENDED)),
        );
    }
    usize::try_from(bytes).map_or_else(|_| refused("--max-request-bytes is too large"), Ok)
}

/// The smallest segment whose largest batch takes a request of this size.
fn segment_bytes_min(max_request_bytes: usize) -> u64 {
    let batch = (max_request_bytes + limits::REQUEST_MARGIN_BYTES) as u64;
    let segment = batch * limits::WAL_SEGMENT_BATCHES;
    segment.next_multiple_of(*SECTOR_BYTES.end()).max(limits::WAL_SEGMENT_BYTES_MIN)
}

fn wal(settings: &Settings, max_request_bytes: usize) -> Result<(Option<u32>, u64), Error> {
    let sector = settings.uint("wal-sector-size");
    if sector != 0 && !(SECTOR_BYTES.contains(&sector) && sector.is_power_of_two()) {
        return refused(format!(
            "--wal-sector-size must be 0 or a power of two from {} to {} (set to {sector})",
            SECTOR_BYTES.start(),
            SECTOR_BYTES.end()
        ));
    }
    let needed = segment_bytes_min(max_request_bytes);
    let segment = match settings.uint("wal-segment-bytes") {
        default if !settings.is_explicit("wal-segment-bytes") => default.max(needed),
        given => given,
    };
    let min = limits::WAL_SEGMENT_BYTES_MIN;
    if !(min..=SEGMENT_BYTES_MAX).contains(&segment) || !segment.is_multiple_of(*SECTOR_BYTES.end()) {
        return refused(format!(
            "--wal-segment-bytes must be a multiple of {} from {min} to {SEGMENT_BYTES_MAX} \
             (set to {segment})",
            SECTOR_BYTES.end()
        ));
    }
    if segment < needed {
        return refused(format!(
            "--wal-segment-bytes must be at least {needed} with --max-request-bytes={max_request_bytes} (set to \
             {segment}): raise it, or leave it out and it follows"
        ));
    }
    Ok((u32::try_from(sector).ok().filter(|sector| *sector != 0), segment))
}

fn core(settings: &Settings) -> Result<Option<usize>, Error> {
    let cores = settings.list("cores");
    let numbers: Result<Vec<usize>, _> = cores.iter().map(|core| core.parse()).collect();
    match numbers.as_deref() {
        Ok([]) => Ok(None),
        Ok([core]) => Ok(Some(*core)),
        Ok(_) => {
            refused("--cores with more than one core belongs to several shards, which are not built yet")
        }
        Err(_) => refused(format!("--cores must be a core's number (set to {:?})", cores.join(","))),
    }
}
