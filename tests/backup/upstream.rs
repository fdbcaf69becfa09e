//! Upstream's programs: a running etcd with its calls, etcdctl and etcdutl.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use bench_harness::{
    pb::{
        etcdserverpb::{
            self as pb, kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
        },
        mvccpb::KeyValue,
    },
    process::{Launch, Server},
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

pub fn oracle(name: &str) -> PathBuf {
    bench_harness::oracle::program(name).unwrap_or_else(|missing| panic!("{missing}"))
}

pub struct Etcd {
    server: Server,
    runtime: Runtime,
    channel: Channel,
}

impl Etcd {
    pub fn start(program: PathBuf, data_dir: &Path) -> Self {
        Self::launch(Launch::etcd(program, data_dir))
    }

    /// Ours, which is to do the same.
    pub fn pinion(data_dir: &Path) -> Self {
        Self::launch(Launch::pinion(env!("CARGO_BIN_EXE_pinion"), data_dir))
    }

    pub fn launch(launch: Launch) -> Self {
        let server = launch.start().unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let channel = connect(&runtime, &server);
        Self { server, runtime, channel }
    }

    /// `kill -9`, and another start.
    pub fn crash(&mut self) {
        self.server.kill().unwrap_or_else(|error| panic!("{error}"));
        self.server.start_again().unwrap_or_else(|error| panic!("{error}"));
        self.channel = connect(&self.runtime, &self.server);
    }

    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.log_path()).expect("a log")
    }

    /// The first message of a snapshot whose rest nobody takes.
    pub fn abandon_snapshot(&self) -> pb::SnapshotResponse {
        self.runtime.block_on(async {
            let mut maintenance = self.maintenance();
            let answer = maintenance.snapshot(pb::SnapshotRequest {}).await;
            let mut messages = answer.unwrap_or_else(|error| panic!("{error}")).into_inner();
            messages.message().await.unwrap_or_else(|error| panic!("{error}")).expect("a message")
        })
    }

    /// Snapshots that have ended, one way or the other.
    pub fn snapshots_ended(&self) -> u64 {
        let metrics =
            bench_harness::http::get(self.server.addr(), "/metrics", std::time::Duration::from_secs(5));
        let metrics = String::from_utf8(metrics.expect("metrics").body.to_vec()).expect("text");
        let mut lines = metrics.lines();
        let count =
            lines.find_map(|line| line.strip_prefix("etcd_disk_backend_snapshot_duration_seconds_count "));
        count.expect("a count").parse().expect("a number")
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> pb::ResponseHeader {
        let request = pb::PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: value.into().into(),
            ..Default::default()
        };
        let response =
            self.runtime.block_on(self.kv().put(request)).unwrap_or_else(|error| panic!("{error}"));
        response.into_inner().header.expect("a header")
    }

    fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub fn grant(&self, id: i64, ttl: i64) {
        let granted = self.runtime.block_on(self.lease().lease_grant(pb::LeaseGrantRequest { id, ttl }));
        granted.unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn revoke(&self, id: i64) {
        let revoked = self.runtime.block_on(self.lease().lease_revoke(pb::LeaseRevokeRequest { id }));
        revoked.unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn put_with_lease(&self, key: &str, lease: i64) {
        let key = key.as_bytes().to_vec().into();
        let request = pb::PutRequest { key, lease, ..Default::default() };
        self.runtime.block_on(self.kv().put(request)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Every lease by id, with what it was granted for and its keys in order.
    pub fn leases(&self) -> Vec<(i64, i64, Vec<bytes::Bytes>)> {
        let told = self.runtime.block_on(async {
            let mut told = Vec::new();
            for status in self.lease().lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner().leases {
                let request = pb::LeaseTimeToLiveRequest { id: status.id, keys: true };
                let mut lease = self.lease().lease_time_to_live(request).await?.into_inner();
                assert!(lease.ttl > 0, "it does not end soon");
                lease.keys.sort();
                told.push((lease.id, lease.granted_ttl, lease.keys));
            }
            told.sort();
            Ok::<_, tonic::Status>(told)
        });
        told.unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn txn(&self, success: Vec<pb::request_op::Request>) {
        let success = success.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
        let request = pb::TxnRequest { success, ..Default::default() };
        self.runtime.block_on(self.kv().txn(request)).unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn compact(&self, revision: i64) {
        let request = pb::CompactionRequest { revision, physical: true };
        self.runtime.block_on(self.kv().compact(request)).unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_range(&self, revision: i64) -> Result<pb::RangeResponse, tonic::Status> {
        let all = vec![0].into();
        let request =
            pb::RangeRequest { key: all, range_end: vec![0].into(), revision, ..Default::default() };
        self.runtime.block_on(self.kv().range(request)).map(tonic::Response::into_inner)
    }

    /// All keys at a revision.
    pub fn range_at(&self, revision: i64) -> Vec<KeyValue> {
        self.try_range(revision).unwrap_or_else(|error| panic!("revision {revision}: {error}")).kvs
    }

    pub fn refuses_revision(&self, revision: i64) -> bool {
        self.try_range(revision).is_err()
    }

    pub fn revision(&self) -> i64 {
        let response = self.try_range(0).unwrap_or_else(|error| panic!("{error}"));
        response.header.expect("a header").revision
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    /// Hash and compacted revision.
    pub fn hash_kv(&self, revision: i64) -> (u32, i64) {
        let request = pb::HashKvRequest { revision };
        let response = self.runtime.block_on(self.maintenance().hash_kv(request));
        let response = response.unwrap_or_else(|error| panic!("{error}")).into_inner();
        (response.hash, response.compact_revision)
    }

    /// Over the whole database.
    pub fn hash(&self) -> u32 {
        let response = self.runtime.block_on(self.maintenance().hash(pb::HashRequest {}));
        response.unwrap_or_else(|error| panic!("{error}")).into_inner().hash
    }

    /// `etcdctl snapshot save`.
    pub fn save(&self, to: &Path) -> Run {
        let saved = Command::new(oracle("etcdctl"))
            .arg(format!("--endpoints={}", self.server.endpoint()))
            .args([OsStr::new("snapshot"), OsStr::new("save"), to.as_os_str()])
            .output()
            .expect("run etcdctl");
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
        Run::of(saved)
    }
}

fn connect(runtime: &Runtime, server: &Server) -> Channel {
    let endpoint = Channel::from_shared(server.endpoint()).expect("an endpoint");
    runtime.block_on(endpoint.connect()).unwrap_or_else(|error| panic!("{error}"))
}

/// What one run of an etcdutl did.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

/// Runs a program as `etcdutl`.
pub fn etcdutl(program: &Path, args: &[&str], directory: Option<&Path>) -> Run {
    let mut command = Command::new(program);
    command.arg0("etcdutl").args(args);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    Run::of(command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

impl Run {
    fn of(output: std::process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), output: text(output.stdout), errors: text(output.stderr) }
    }
}

/// Upstream's `etcdutl snapshot restore`.
pub fn restore(file: &Path, to: &Path, more: &[&str]) {
    restore_by(&oracle("etcdutl"), file, to, more);
}

/// Ours.
pub fn restore_ours(file: &Path, to: &Path, more: &[&str]) {
    restore_by(Path::new(env!("CARGO_BIN_EXE_pinion")), file, to, more);
}

fn restore_by(program: &Path, file: &Path, to: &Path, more: &[&str]) {
    let (file, dir) = (file.display().to_string(), format!("--data-dir={}", to.display()));
    let args = [&["snapshot", "restore", &file, &dir], more].concat();
    let run = etcdutl(program, &args, None);
    assert_eq!((run.code, run.output.as_str()), (Some(0), ""), "{}", run.errors);
}
