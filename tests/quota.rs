//! The life of a keyspace with almost no room, beside upstream: full, read-only, made room, in use again.
//!
//! `PINION_BIN` names another program to test than the one just built.

#[path = "tested/launch.rs"]
mod tested;

use std::time::Duration;

use bench_harness::{
    http, oracle,
    pb::etcdserverpb::{
        self as pb, AlarmType, alarm_request::AlarmAction, kv_client::KvClient,
        maintenance_client::MaintenanceClient, request_op::Request as Op,
    },
    process::{Launch, Server},
};
use tonic::{Status, transport::Channel};

const PATIENCE: Duration = Duration::from_secs(20);
const QUOTA_BYTES: u64 = 64 * 1024;
const VALUE_BYTES: usize = 1024;
/// More than fit in any case. Upstream counts what was written only every 100 ms (`--backend-batch-interval`), and a fast
/// disk takes hundreds by then.
const PUTS_MAX: usize = 5000;

struct Client {
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    member_id: u64,
}

fn told<T>(outcome: Result<T, Status>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

fn put(key: &str, value_bytes: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![b'v'; value_bytes].into(), ..Default::default() }
}

fn everything() -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), prev_kv: false }
}

fn txn(op: Op) -> pb::TxnRequest {
    pb::TxnRequest { success: vec![pb::RequestOp { request: Some(op) }], ..Default::default() }
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let connected = Channel::from_shared(server.endpoint()).expect("an endpoint").connect().await;
        let channel = connected.expect("connect");
        let mut maintenance = MaintenanceClient::new(channel.clone());
        let status = maintenance.status(pb::StatusRequest {}).await.expect("status").into_inner();
        let member_id = status.header.expect("a header").member_id;
        Self { kv: KvClient::new(channel), maintenance, member_id }
    }

    /// Puts that fit, at least one; then one that does not.
    async fn fill(&mut self) -> String {
        for count in 0..PUTS_MAX {
            let outcome = self.kv.put(put(&format!("k{count}"), VALUE_BYTES)).await;
            if outcome.is_err() {
                assert!(count > 3, "only {count} puts fit");
                return told(outcome);
            }
        }
        panic!("{PUTS_MAX} puts fit");
    }

    /// Status errors and alarms, without the member's id.
    async fn alarms(&mut self) -> String {
        let status = self.maintenance.status(pb::StatusRequest {}).await.expect("status").into_inner();
        assert_eq!(status.db_size_quota, QUOTA_BYTES as i64);
        // How much space is between two fields depends on how upstream was built.
        let errors =
            status.errors.join(", ").replace(&self.member_id.to_string(), "<member>").replace("  ", " ");
        let listed = self.alarm(AlarmAction::Get, 0, AlarmType::None).await;
        format!("errors [{errors}], alarms {listed}")
    }

    async fn alarm(&mut self, action: AlarmAction, member_id: u64, kind: AlarmType) -> String {
        let request = pb::AlarmRequest { action: action as i32, member_id, alarm: kind as i32 };
        match self.maintenance.alarm(request).await {
            Ok(response) => {
                let mut alarms = response.into_inner().alarms;
                for alarm in &mut alarms {
                    alarm.member_id = u64::from(alarm.member_id == self.member_id);
                }
                alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
                format!("{alarms:?}")
            }
            Err(status) => told::<()>(Err(status)),
        }
    }

    /// What a client may still do.
    async fn tries(&mut self) -> Vec<String> {
        let range = pb::RangeRequest { key: "k0".into(), ..Default::default() };
        let reads = txn(Op::RequestRange(range.clone()));
        let deletes = pb::DeleteRangeRequest { key: "none".into(), ..Default::default() };
        vec![
            told(self.kv.put(put("small", 1)).await),
            told(self.kv.put(put("", 2 * VALUE_BYTES)).await),
            told(self.kv.txn(txn(Op::RequestPut(put("small", 1)))).await),
            told(self.kv.txn(txn(Op::RequestDeleteRange(deletes.clone()))).await),
            told(self.kv.txn(reads).await),
            told(self.kv.range(range).await),
            told(self.kv.delete_range(deletes).await),
            told(self.kv.compact(pb::CompactionRequest { revision: 99_999, physical: false }).await),
        ]
    }

    async fn make_room(&mut self) -> Vec<String> {
        let deleted = self.kv.delete_range(everything()).await;
        let revision = deleted.as_ref().ok().and_then(|r| r.get_ref().header).map_or(0, |h| h.revision);
        vec![
            told(deleted),
            told(self.kv.compact(pb::CompactionRequest { revision, physical: true }).await),
            told(self.maintenance.defragment(pb::DefragmentRequest {}).await),
            self.alarm(AlarmAction::Deactivate, self.member_id, AlarmType::Nospace).await,
        ]
    }
}

fn health(server: &Server, target: &str) -> String {
    let answer =
        http::get(server.addr(), target, PATIENCE).unwrap_or_else(|error| panic!("{target}: {error}"));
    format!("{target}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))
}

/// Everything a client sees, in order, without what may differ.
async fn life(launch: Launch) -> Vec<String> {
    let mut server = launch
        .arg(format!("--quota-backend-bytes={QUOTA_BYTES}"))
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    let mut client = Client::connect(&server).await;
    let mut seen = vec![client.alarms().await];
    for _ in 0..2 {
        seen.push(client.fill().await);
        seen.extend(client.tries().await);
        seen.push(client.alarms().await);
        seen.extend(["/health", "/health?exclude=NOSPACE", "/readyz"].map(|target| health(&server, target)));

        // It is still full, and says so, after a crash.
        server.kill().expect("kill");
        server.start_again_with(|launch| launch).unwrap_or_else(|error| panic!("{error}"));
        client = Client::connect(&server).await;
        seen.push(client.alarms().await);
        seen.push(told(client.kv.put(put("small", 1)).await));

        seen.extend(client.make_room().await);
        seen.push(client.alarms().await);
        seen.push(health(&server, "/health"));
        seen.push(told(client.kv.put(put("small", 1)).await));
    }
    // An operator's own.
    let (raise, lift) = (AlarmAction::Activate, AlarmAction::Deactivate);
    seen.push(client.alarm(raise, client.member_id, AlarmType::Corrupt).await);
    seen.extend(client.tries().await);
    seen.push(client.alarms().await);
    seen.extend(["/health", "/readyz/data_corruption", "/livez"].map(|target| health(&server, target)));
    seen.push(client.alarm(lift, client.member_id, AlarmType::Corrupt).await);
    seen.push(client.alarm(lift, client.member_id, AlarmType::Corrupt).await);
    seen.push(client.alarm(raise, client.member_id, AlarmType::None).await);
    seen.extend(client.tries().await);
    seen
}

#[test]
fn a_keyspace_of_64_kib_lives_as_upstreams_does() {
    let etcd = oracle::program("etcd").unwrap_or_else(|missing| panic!("{missing}"));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("build a runtime");
    runtime.block_on(async {
        let upstream = life(tested::launch(etcd, &directory.path().join("upstream"))).await;
        let seen = life(tested::launch(tested::program(), &directory.path().join("tested"))).await;
        for (number, (upstream, seen)) in upstream.iter().zip(&seen).enumerate() {
            assert_eq!(upstream, seen, "at {number} of {upstream:#?}");
        }
        assert_eq!(upstream.len(), seen.len());
        assert!(upstream.iter().any(|line| line.contains("database space exceeded")), "{upstream:#?}");
    });
}
