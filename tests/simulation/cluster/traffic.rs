//! Clients that put, get, delete and compare through any member, and remember what they asked and were told.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use futures_lite::future::or;
use pinion::{
    env::sim::Sim,
    pb::{
        etcdserverpb::{
            self as pb,
            compare::{CompareResult, CompareTarget, TargetUnion},
            request_op::Request as Op,
            response_op::Response,
        },
        mvccpb::KeyValue,
    },
    shard::{Error, Shard},
    state::Principal,
};

use crate::{
    keys::{Answer, History, Pair, Request},
    world::{self, World},
};

use super::release::{self, Mark};

const GROUPS: u64 = 3;
const KEYS: u64 = 4;
/// A client waits so long for an answer, and then does not know what became of it.
const PATIENCE: Duration = Duration::from_millis(400);

#[derive(Default)]
pub struct Traffic {
    pub history: RefCell<History>,
    /// What was read of one member without asking others.
    pub local: RefCell<History>,
    pub running: Cell<u64>,
    pub over: Cell<bool>,
    pub written: Cell<u64>,
    pub read: Cell<u64>,
    /// Writes that only the newer release knows.
    pub marked: Cell<u64>,
    value: Cell<u64>,
}

fn key(group: u64, number: u64) -> String {
    format!("g{group}/k{number}")
}

impl Traffic {
    fn value(&self) -> u64 {
        self.value.set(self.value.get() + 1);
        self.value.get()
    }

    /// Something to ask of one group.
    fn draw(&self, sim: &Sim, group: u64) -> Request {
        let key = || key(group, sim.below(KEYS));
        match sim.below(100) {
            0..35 => {
                let key = key();
                let reads = if sim.chance(500) { vec![key.clone()] } else { vec![] };
                Request { compare: None, reads, writes: vec![(key, Some(self.value()))] }
            }
            35..45 => {
                let key = key();
                Request { compare: None, reads: vec![key.clone()], writes: vec![(key, None)] }
            }
            45..70 => {
                let key = key();
                // Some value that may be there: of the newest of all clients.
                let newest = self.value.get();
                let expected = sim.chance(700).then(|| newest.saturating_sub(sim.below(8)));
                let mut writes = vec![(key.clone(), Some(self.value()))];
                if sim.chance(500) {
                    let other = self::key(group, sim.below(KEYS));
                    writes.extend((other != key).then(|| (other, Some(self.value()))));
                }
                Request { compare: Some((key.clone(), expected)), reads: vec![key], writes }
            }
            _ => Request { compare: None, reads: vec![key()], writes: vec![] },
        }
    }
}

/// A request that is no more than a put, as the newer release has it.
fn mark(request: &Request) -> Option<Mark> {
    match (&request.compare, &request.reads[..], &request.writes[..]) {
        (None, [], [(key, Some(value))]) => Some(Mark { key: key.clone(), value: value.to_string() }),
        _ => None,
    }
}

fn pair(kv: Option<&KeyValue>) -> Option<Pair> {
    kv.map(|kv| Pair { value: world::number(&kv.value), mod_revision: kv.mod_revision })
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("a header").revision
}

/// Asks in the form that fits best.
pub async fn ask(shard: &Shard, request: &Request) -> Result<Answer, Error> {
    let nobody = Principal::default();
    match request {
        Request { compare: Some(_), .. } => {
            let answer = shard.write_long(&nobody, txn(request)).await?.whole();
            let read = answer.responses.iter().filter_map(|response| match &response.response {
                Some(Response::ResponseRange(range)) => Some(pair(range.kvs.first())),
                _ => None,
            });
            Ok(Answer {
                read: read.collect(),
                succeeded: answer.succeeded,
                revision: revision(answer.header),
            })
        }
        Request { writes, reads, .. } => match writes.first() {
            None => {
                shard.linearize().await?;
                local(shard, request).await
            }
            Some((key, Some(value))) => {
                let prev_kv = !reads.is_empty();
                let put = pb::PutRequest {
                    key: key.clone().into(),
                    value: value.to_string().into(),
                    prev_kv,
                    ..Default::default()
                };
                let answer = shard.write(&nobody, put).await?;
                let read = if prev_kv { vec![pair(answer.prev_kv.as_ref())] } else { vec![] };
                Ok(Answer { read, succeeded: true, revision: revision(answer.header) })
            }
            Some((key, None)) => {
                let delete =
                    pb::DeleteRangeRequest { key: key.clone().into(), prev_kv: true, ..Default::default() };
                let answer = shard.write_long(&nobody, delete).await?.whole();
                let read = vec![pair(answer.prev_kvs.first())];
                Ok(Answer { read, succeeded: true, revision: revision(answer.header) })
            }
        },
    }
}

/// Reads what this member has.
async fn local(shard: &Shard, request: &Request) -> Result<Answer, Error> {
    let range = pb::RangeRequest { key: request.reads[0].clone().into(), ..Default::default() };
    let answer = shard.range(&Principal::default(), range).await?.whole();
    Ok(Answer { read: vec![pair(answer.kvs.first())], succeeded: true, revision: revision(answer.header) })
}

fn txn(request: &Request) -> pb::TxnRequest {
    let operation = |request| pb::RequestOp { request: Some(request) };
    let reads = request.reads.iter().map(|key| {
        operation(Op::RequestRange(pb::RangeRequest { key: key.clone().into(), ..Default::default() }))
    });
    let writes = request.writes.iter().map(|(key, value)| {
        let value = value.expect("transactions here only put").to_string();
        operation(Op::RequestPut(pb::PutRequest {
            key: key.clone().into(),
            value: value.into(),
            ..Default::default()
        }))
    });
    let (key, expected) = request.compare.clone().expect("a comparison");
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(value.to_string().into())),
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: key.into(),
        target_union: Some(union),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: reads.clone().chain(writes).collect(),
        failure: reads.collect(),
    }
}

/// A client that goes on until everything is over.
pub fn client(world: &World, number: u64, traffic: &Rc<Traffic>) {
    let (sim, traffic) = (world.sim.clone(), traffic.clone());
    let shards: Vec<_> = world.nodes.iter().map(|node| node.shard.clone()).collect();
    traffic.running.set(traffic.running.get() + 1);
    world.sim.spawn(world::client_id(number), async move {
        while !traffic.over.get() {
            sim.sleep(Duration::from_micros(sim.below(8_000))).await;
            let Some(shard) = pick(&sim, &shards) else { continue };
            let group = sim.below(GROUPS);
            if sim.chance(100) {
                // Without asking others: it may be old, and must have been so once.
                let request = Request { reads: vec![key(group, sim.below(KEYS))], ..Request::default() };
                if let Ok(answer) = local(&shard, &request).await {
                    let call = traffic.local.borrow_mut().call(group, request);
                    traffic.local.borrow_mut().answer(call, answer);
                }
                continue;
            }
            let request = traffic.draw(&sim, group);
            let is_write = !request.writes.is_empty();
            let call = traffic.history.borrow_mut().call(group, request.clone());
            let patience = async {
                sim.sleep(PATIENCE).await;
                Err(Error::Timeout)
            };
            let mark = mark(&request).filter(|_| release::is_newer(&shard) && sim.chance(500));
            let marks = mark.is_some();
            let asked = async {
                match mark {
                    Some(mark) => {
                        let answer = shard.write(&Principal::default(), mark).await?;
                        Ok(Answer { read: vec![], succeeded: true, revision: revision(answer.header) })
                    }
                    None => ask(&shard, &request).await,
                }
            };
            match or(asked, patience).await {
                Ok(answer) => {
                    traffic.marked.set(traffic.marked.get() + u64::from(marks));
                    traffic.history.borrow_mut().answer(call, answer);
                    let count = if is_write { &traffic.written } else { &traffic.read };
                    count.set(count.get() + 1);
                }
                // It may or may not be there.
                Err(_) => sim.sleep(Duration::from_millis(sim.below(20))).await,
            }
        }
        traffic.running.set(traffic.running.get() - 1);
    });
}

/// Some member that runs.
fn pick(sim: &Sim, shards: &[Rc<RefCell<Option<Shard>>>]) -> Option<Shard> {
    let running: Vec<_> = shards.iter().filter_map(|shard| shard.borrow().clone()).collect();
    // Whoever takes itself for the leader, sometimes.
    let leaders: Vec<_> = running.iter().filter(|shard| shard.can_read()).collect();
    match sim.chance(300) && !leaders.is_empty() {
        true => Some(leaders[sim.below(leaders.len() as u64) as usize].clone()),
        false => running.get(sim.below(running.len().max(1) as u64) as usize).cloned(),
    }
}

/// Compacts now and then, as long as there is traffic.
pub fn compactor(world: &World, traffic: &Rc<Traffic>) {
    let (sim, traffic) = (world.sim.clone(), traffic.clone());
    let shards: Vec<_> = world.nodes.iter().map(|node| node.shard.clone()).collect();
    traffic.running.set(traffic.running.get() + 1);
    world.sim.spawn(world::client_id(900), async move {
        while !traffic.over.get() {
            sim.sleep(Duration::from_millis(20 + sim.below(200))).await;
            let Some(shard) = pick(&sim, &shards) else { continue };
            let revision = shard.revision().0 - sim.below(60) as i64;
            let compaction = pb::CompactionRequest { revision, physical: sim.chance(300) };
            let patience = async {
                sim.sleep(PATIENCE).await;
                Err(Error::Timeout)
            };
            match or(shard.write(&Principal::default(), compaction), patience).await {
                // It may be compacted already, or nobody leads.
                Ok(_) | Err(_) => {}
            }
        }
        traffic.running.set(traffic.running.get() - 1);
    });
}
