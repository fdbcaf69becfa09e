//! Clients that write until the server is gone, and read afterwards what it still holds.
//!
//! Writer W puts its number N under `W/number` and, in the same transaction, under `W/odd` if N is odd; if N is
//! even it deletes `W/odd`. So half a transaction, or a delete that came back, shows.

use std::time::Duration;

use bench_harness::pb::{
    etcdserverpb::{self as pb, kv_client::KvClient, request_op::Request as Op},
    mvccpb::KeyValue,
};
use bytes::Bytes;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::ledger::{Acknowledged, Diary, Found, Ledger};
use crate::seeded::Rng;

pub const WRITERS: usize = 16;
/// A request without an answer for so long counts as an error: a server hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Old revisions read after each restart.
const HISTORY_READS: usize = 300;
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    Mixed,
    /// Megabytes within milliseconds.
    Large,
}

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub values: Values,
    /// A revision to compact at in between.
    pub compact_at: Option<i64>,
    pub seed: u64,
}

/// Connects with the first request: the server may be gone by then, which is that request's failure.
pub fn client(endpoint: &str) -> Result<KvClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| error.to_string())?;
    let channel = endpoint.timeout(ANSWER_TIMEOUT).connect_lazy();
    Ok(KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
}

fn key(writer: usize, name: &str) -> Bytes {
    format!("{writer:02}/{name}").into()
}

/// The number, then padding of a length that differs from write to write, so that records end everywhere.
fn value(number: u64, values: Values, rng: &mut Rng) -> Bytes {
    let padding_max = match values {
        Values::Mixed => rng.pick(&[1, 100, 700, 700, 700, 4_000, 4_000, 60_000]),
        Values::Large => rng.pick(&[700, 60_000, 200_000]),
    };
    format!("{number} {}", "x".repeat(rng.below(padding_max) as usize)).into()
}

fn number(kv: &KeyValue) -> Result<u64, String> {
    let text = String::from_utf8_lossy(&kv.value);
    let number = text.split_once(' ').and_then(|(number, _)| number.parse().ok());
    number.ok_or_else(|| format!("the value of {:?} is not one a writer wrote: {text:.40?}", kv.key))
}

fn put(key: Bytes, value: Bytes) -> pb::RequestOp {
    let request = Op::RequestPut(pb::PutRequest { key, value, ..Default::default() });
    pb::RequestOp { request: Some(request) }
}

fn transaction(writer: usize, number: u64, values: Values, rng: &mut Rng) -> pb::TxnRequest {
    let value = value(number, values, rng);
    let odd = key(writer, "odd");
    let second = if number % 2 == 1 {
        put(odd, value.clone())
    } else {
        let delete = pb::DeleteRangeRequest { key: odd, ..Default::default() };
        pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
    };
    pb::TxnRequest { success: vec![put(key(writer, "number"), value), second], ..Default::default() }
}

/// All writers at once, until the server answers no more, and a compaction in between.
pub async fn write_until_cut(endpoint: &str, ledger: &Ledger, load: Load) -> Result<Vec<Diary>, String> {
    let client = client(endpoint)?;
    let writers = (0..WRITERS).map(|writer| {
        let rng = Rng::new(load.seed ^ (writer as u64) << 32);
        let diary = Diary { writer, tried: ledger.number_of(writer), ..Diary::default() };
        tokio::spawn(write(client.clone(), diary, load.values, rng))
    });
    let writers = writers.collect::<Vec<_>>();
    if let Some(revision) = load.compact_at {
        compact(client, revision).await?;
    }
    let mut diaries = Vec::new();
    for writer in writers {
        diaries.push(writer.await.map_err(|error| error.to_string())??);
    }
    Ok(diaries)
}

async fn write(
    mut client: KvClient<Channel>,
    mut diary: Diary,
    values: Values,
    mut rng: Rng,
) -> Result<Diary, String> {
    let writer = diary.writer;
    loop {
        diary.tried += 1;
        match client.txn(transaction(writer, diary.tried, values, &mut rng)).await {
            Ok(answer) => {
                let header = answer.into_inner().header.ok_or("a transaction's answer without a header")?;
                diary.acknowledged.push(Acknowledged { number: diary.tried, revision: header.revision });
            }
            Err(status) if is_cut(&status) => return Ok(diary),
            Err(status) => return Err(format!("writer {writer} number {}: {status:?}", diary.tried)),
        }
    }
}

/// The ways a request ends when its server goes away, in whatever state: it may or may not have taken effect.
fn is_cut(status: &tonic::Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// Asks for a compaction. Whether it happens does not matter: the server may be killed in it.
async fn compact(mut client: KvClient<Channel>, revision: i64) -> Result<(), String> {
    match client.compact(pb::CompactionRequest { revision, physical: true }).await {
        Ok(_) => Ok(()),
        // Compacted by a request that got no answer.
        Err(status) if status.code() == Code::OutOfRange => Ok(()),
        Err(status) if is_cut(&status) => Ok(()),
        Err(status) => Err(format!("compact at {revision}: {status:?}")),
    }
}

/// Reads everything back and checks it.
pub async fn verify(endpoint: &str, ledger: &mut Ledger) -> Result<(), String> {
    let client = client(endpoint)?;
    let read = |key: Bytes, revision| {
        let mut client = client.clone();
        async move {
            let request = pb::RangeRequest { key, revision, ..Default::default() };
            let answer =
                client.range(request).await.map_err(|status| format!("read at {revision}: {status:?}"));
            let answer = answer?.into_inner();
            let header = answer.header.ok_or("a range's answer without a header")?;
            Ok::<_, String>((answer.kvs.into_iter().next(), header.revision))
        }
    };
    for writer in 0..WRITERS {
        let (main, revision) = read(key(writer, "number"), 0).await?;
        ledger.check_revision(revision)?;
        let (odd, _) = read(key(writer, "odd"), 0).await?;
        let found = match &main {
            Some(kv) => Some(Found { number: number(kv)?, revision: kv.mod_revision }),
            None => None,
        };
        check_pair(writer, found, odd.as_ref())?;
        ledger.check_writer(writer, found)?;
    }
    for (revision, writer, expected) in ledger.sample(HISTORY_READS) {
        let (kv, _) = read(key(writer, "number"), revision).await?;
        let kv = kv.ok_or_else(|| format!("writer {writer} number {expected} is not there at {revision}"))?;
        if number(&kv)? != expected || kv.mod_revision != revision {
            return Err(format!(
                "at {revision} writer {writer} wrote {expected}, read {} of {}",
                number(&kv)?,
                kv.mod_revision
            ));
        }
    }
    Ok(())
}

/// Both operations of the last transaction took effect, or none.
fn check_pair(writer: usize, main: Option<Found>, odd: Option<&KeyValue>) -> Result<(), String> {
    let odd = match odd {
        Some(kv) => Some(Found { number: number(kv)?, revision: kv.mod_revision }),
        None => None,
    };
    let expected = main.filter(|main| main.number % 2 == 1);
    if odd == expected {
        return Ok(());
    }
    Err(format!("writer {writer}: half a transaction: number is {main:?}, odd is {odd:?}"))
}
