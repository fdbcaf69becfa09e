//! Leases beside a model of two maps, through steps of any size, checkpoints and restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::Poll,
};

use proptest::prelude::*;

use super::{ExpireLeases, Expired, Lease, PAGE_LEASES};
use crate::{
    block::{Block, BlockChange, BlockId},
    limits,
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    state::{
        Change, Command, Context, Error, Loading, Outcome, Principal, StateMachine, Steps,
        lease::pages::Pages, space::Space,
    },
    types::LogIndex,
};

fn grant(id: i64, ttl: i64) -> pb::LeaseGrantRequest {
    pb::LeaseGrantRequest { id, ttl }
}

fn revoke(id: i64) -> pb::LeaseRevokeRequest {
    pb::LeaseRevokeRequest { id }
}

fn put(key: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: "v".into(), lease, ..Default::default() }
}

fn apply<C: Command>(state: &mut StateMachine, command: &C) -> (Result<C::Answer, Error>, Outcome) {
    let mut outcome = Outcome::default();
    let answer = state.apply(command, Context::asked_by(&Principal::default()), &mut outcome);
    (answer, outcome)
}

fn keys(state: &StateMachine, id: i64) -> Vec<String> {
    let keys = state.leases().keys_after(id, None);
    keys.map(|key| String::from_utf8(key.to_vec()).expect("text")).collect()
}

fn keys_there(state: &StateMachine) -> Vec<(String, i64)> {
    let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let kvs = state.range(&all).expect("the newest revision").kvs;
    kvs.into_iter().map(|kv| (String::from_utf8(kv.key.to_vec()).expect("text"), kv.lease)).collect()
}

/// A checkpoint as files have it.
#[derive(Default)]
struct Disk {
    blocks: BTreeMap<BlockId, Block>,
    facts: Vec<u8>,
    written: usize,
}

impl Disk {
    fn take(&mut self, state: &mut StateMachine) {
        let (changes, facts) = state.changes();
        self.facts = facts;
        self.written = changes.len();
        for change in changes {
            match change {
                BlockChange::Write(block) => drop(self.blocks.insert(block.id, block)),
                BlockChange::Meta { id, meta } => {
                    self.blocks.get_mut(&id).expect("it was written").meta = meta
                }
                BlockChange::Drop { id } => drop(self.blocks.remove(&id)),
            }
        }
    }

    /// The heap's copies are given up for what is on disk.
    fn place(&self, state: &mut StateMachine) {
        for block in self.blocks.values() {
            state.place(block.id, block.body.to_vec().into());
        }
    }

    fn load(&self) -> StateMachine {
        let mut loading = Loading::default();
        self.blocks.values().rev().for_each(|block| loading.take(block).expect("a block"));
        loading.finish(LogIndex(0), &self.facts).expect("its own facts")
    }
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Revoke(i64),
    Expire(Vec<i64>),
    Note(i64, i64),
    Put(u8, i64),
    Keep(u8),
    Delete(u8, u8),
    Txn(Vec<(u8, i64)>),
    Checkpoint(bool),
    Restart,
}

fn op() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![-2i64..6, Just(i64::MIN), Just(i64::MAX)];
    let key = || 0u8..12;
    prop_oneof![
        4 => (id(), 1i64..100).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        2 => id().prop_map(Step::Revoke),
        1 => prop::collection::vec(id(), 0..5).prop_map(Step::Expire),
        1 => (id(), 0i64..100).prop_map(|(id, left)| Step::Note(id, left)),
        8 => (key(), id()).prop_map(|(key, id)| Step::Put(key, id)),
        2 => key().prop_map(Step::Keep),
        2 => (key(), key()).prop_map(|(from, to)| Step::Delete(from, to)),
        3 => prop::collection::vec((key(), id()), 1..5).prop_map(Step::Txn),
        1 => any::<bool>().prop_map(Step::Checkpoint),
        1 => Just(Step::Restart),
    ]
}

fn name(key: u8) -> String {
    format!("k{key:03}")
}

#[derive(Default)]
struct Model {
    leases: BTreeMap<i64, Lease>,
    keys: BTreeMap<String, i64>,
}

impl Model {
    fn end(&mut self, id: i64) -> Option<u64> {
        self.leases.remove(&id)?;
        let before = self.keys.len();
        self.keys.retain(|_, lease| *lease != id);
        Some((before - self.keys.len()) as u64)
    }

    fn knows(&self, id: i64) -> bool {
        id == 0 || self.leases.contains_key(&id)
    }
}

/// Applies a command in steps; between two of them nobody sees half of what it does to one lease.
fn stepwise<C: Command>(state: &mut StateMachine, command: &C, size: usize) -> Result<C::Answer, Error> {
    let principal = Principal::default();
    let (mut steps, mut outcome) = (Steps::default(), Outcome::default());
    loop {
        let context = Context::asked_by(&principal).in_steps_of(size);
        match state.step(command, &mut steps, context, &mut outcome) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => {
                for (key, lease) in keys_there(state) {
                    assert!(lease == 0 || state.leases().contains(lease), "{key} has outlived its lease");
                }
            }
        }
    }
}

fn run(state: &mut StateMachine, model: &mut Model, op: &Step, size: usize) {
    let revision = state.revision().0;
    match op {
        Step::Grant(id, ttl) => {
            let expected = match id {
                0 => Err(Error::LeaseNotFound),
                id if model.leases.contains_key(id) => Err(Error::LeaseExists),
                id => Ok((*id, *ttl)),
            };
            if expected.is_ok() {
                model.leases.insert(*id, Lease { id: *id, ttl: *ttl, remaining: 0 });
            }
            let answer = stepwise(state, &grant(*id, *ttl), size);
            assert_eq!(answer.map(|answer| (answer.id, answer.ttl)), expected);
            assert_eq!(state.revision().0, revision);
        }
        Step::Revoke(id) => {
            let expected = model.end(*id).ok_or(Error::LeaseNotFound);
            let grown = expected.as_ref().is_ok_and(|keys| *keys > 0);
            let answer = stepwise(state, &revoke(*id), size);
            assert_eq!(answer.map(|_| ()), expected.map(|_| ()));
            assert_eq!(state.revision().0, revision + i64::from(grown), "one revision, if there is a key");
        }
        Step::Expire(ids) => {
            let ended: Vec<_> = ids.iter().filter_map(|id| model.end(*id)).collect();
            let expired = Expired { leases: ended.len() as u64, keys: ended.iter().sum() };
            assert_eq!(stepwise(state, &ExpireLeases { ids: ids.clone() }, size), Ok(expired));
            let revisions = ended.iter().filter(|keys| **keys > 0).count() as i64;
            assert_eq!(state.revision().0, revision + revisions, "one for each lease that has keys");
        }
        Step::Note(id, remaining_ttl) => {
            if let Some(lease) = model.leases.get_mut(id) {
                lease.remaining = *remaining_ttl;
            }
            let note = pb::LeaseCheckpoint { id: *id, remaining_ttl: *remaining_ttl };
            let request = pb::LeaseCheckpointRequest { checkpoints: vec![note] };
            stepwise(state, &request, size).expect("never refused");
        }
        Step::Put(key, id) => {
            let knows = model.knows(*id);
            if knows {
                model.keys.insert(name(*key), *id);
            }
            let answer = stepwise(state, &put(&name(*key), *id), size).map(|_| ());
            assert_eq!(answer, if knows { Ok(()) } else { Err(Error::LeaseNotFound) });
        }
        Step::Keep(key) => {
            let request = pb::PutRequest { ignore_lease: true, ..put(&name(*key), 0) };
            let known = model.keys.contains_key(&name(*key));
            let answer = stepwise(state, &request, size).map(|_| ());
            assert_eq!(answer, if known { Ok(()) } else { Err(Error::KeyNotFound) });
        }
        Step::Delete(from, to) => {
            let (key, range_end) = (name(*from).into(), name(*to).into());
            model.keys.retain(|key, _| !(name(*from)..name(*to)).contains(key) || from >= to);
            let request = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
            stepwise(state, &request, size).unwrap_or_else(|error| panic!("{error}"));
        }
        Step::Txn(puts) => {
            let mut seen = BTreeSet::new();
            let puts: Vec<_> = puts.iter().filter(|(key, _)| seen.insert(*key)).collect();
            let knows = puts.iter().all(|(_, id)| model.knows(*id));
            if knows {
                model.keys.extend(puts.iter().map(|(key, id)| (name(*key), *id)));
            }
            let op = |request| pb::RequestOp { request: Some(Op::RequestPut(request)) };
            let success = puts.iter().map(|(key, id)| op(put(&name(*key), *id))).collect();
            let answer = stepwise(state, &pb::TxnRequest { success, ..Default::default() }, size);
            assert_eq!(answer.map(|_| ()), if knows { Ok(()) } else { Err(Error::LeaseNotFound) });
        }
        Step::Checkpoint(_) | Step::Restart => {}
    }
}

fn agree(state: &StateMachine, model: &Model) {
    assert_eq!(keys_there(state), model.keys.clone().into_iter().collect::<Vec<_>>());
    let mut leases = BTreeMap::new();
    let mut next = Some(0);
    while let Some((number, page)) = next.and_then(|next| state.leases().page_from(next)) {
        leases.extend(page.map(|(_, lease)| (lease.id, lease)));
        next = Some(number + 1);
    }
    assert_eq!(leases, model.leases);
    for (id, lease) in &model.leases {
        assert_eq!(state.leases().get(*id), Some(*lease));
        let attached: Vec<_> =
            model.keys.iter().filter(|(_, lease)| *lease == id).map(|(key, _)| key.clone()).collect();
        assert_eq!(keys(state, *id), attached);
        assert_eq!(state.leases().key_count(*id), attached.len());
        let rest = keys(state, *id).first().map(|first| {
            state.leases().keys_after(*id, Some(first.as_bytes())).map(<[u8]>::to_vec).collect::<Vec<_>>()
        });
        assert!(rest.is_none_or(|rest| rest.len() == attached.len() - 1), "what follows the first");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn they_are_what_a_model_says(ops in prop::collection::vec((op(), 1usize..5), 1..60)) {
        let (mut state, mut model, mut disk) = (StateMachine::new(), Model::default(), Disk::default());
        for (op, size) in &ops {
            run(&mut state, &mut model, op, *size);
            match op {
                Step::Checkpoint(true) => {
                    disk.take(&mut state);
                    state.saved();
                    disk.place(&mut state);
                }
                Step::Checkpoint(false) => {
                    // What failed is due again, whatever became of it.
                    state.changes();
                    state.not_saved();
                }
                Step::Restart => {
                    disk.take(&mut state);
                    state = disk.load();
                }
                _ => {}
            }
            agree(&state, &model);
        }
    }
}

#[test]
fn what_is_wrong_with_a_grant_is_told_in_etcds_order() {
    let mut state = StateMachine::new();
    let mut granted = |id, ttl| apply(&mut state, &grant(id, ttl)).0.map(|answer| answer.ttl);
    assert_eq!(granted(7, limits::LEASE_TTL_MAX), Ok(limits::LEASE_TTL_MAX));
    assert_eq!(granted(7, limits::LEASE_TTL_MAX + 1), Err(Error::LeaseTtlTooLarge));
    assert_eq!(granted(7, 1), Err(Error::LeaseExists));
    assert_eq!(granted(0, 1), Err(Error::LeaseNotFound));
    assert_eq!(granted(-7, 1), Ok(1));
}

#[test]
fn changes_tell_of_grants_and_ends_in_order() {
    let mut state = StateMachine::new();
    let (_, granted) = apply(&mut state, &grant(7, 60));
    let [Change::LeaseGranted { place, lease }] = granted.changes[..] else { panic!("{granted:?}") };
    assert_eq!(lease, Lease { id: 7, ttl: 60, remaining: 0 });
    assert_eq!((state.leases().at(place), state.leases().place_of(7)), (Some(lease), Some(place)));
    for key in ["c", "a", "b"] {
        apply(&mut state, &put(key, 7)).0.expect("the lease is there");
    }
    let (_, gone) = apply(&mut state, &revoke(7));
    let [Change::Versions(written), Change::LeaseGone { place: left }] = gone.changes[..] else {
        panic!("{gone:?}")
    };
    assert_eq!((left, gone.operations.deletes), (place, 3));
    let deleted: Vec<_> = state.versions(written).map(|record| (record.key, record.tombstone)).collect();
    assert_eq!(deleted, [(&b"a"[..], true), (b"b", true), (b"c", true)]);
    assert_eq!(state.leases().at(place), None);
}

/// As from a backup of an etcd that lost the lease.
#[test]
fn a_key_may_name_a_lease_that_nobody_knows() {
    let (mut state, mut disk) = (StateMachine::new(), Disk::default());
    apply(&mut state, &grant(7, 60)).0.expect("granted");
    apply(&mut state, &put("a", 7)).0.expect("put");
    disk.take(&mut state);
    disk.blocks.retain(|id, _| id.space != super::SPACE);
    let mut state = disk.load();
    assert_eq!((keys_there(&state), state.leases().len()), (vec![("a".to_owned(), 7)], 0));
    let keep = pb::PutRequest { ignore_lease: true, ..put("a", 0) };
    assert_eq!(apply(&mut state, &keep).0.map(|_| ()), Err(Error::LeaseNotFound));
    apply(&mut state, &put("a", 0)).0.expect("it is free now");
}

#[test]
fn many_keys_go_step_by_step_in_one_revision() {
    const KEYS: usize = 2_000;
    let mut state = StateMachine::new();
    apply(&mut state, &grant(7, 60)).0.expect("granted");
    for key in 0..KEYS {
        apply(&mut state, &put(&format!("k{key:05}"), 7)).0.expect("put");
    }
    let revision = state.revision().0;
    let principal = Principal::default();
    let (mut steps, mut outcome, mut count) = (Steps::default(), Outcome::default(), 1);
    let (command, context) = (revoke(7), Context::asked_by(&principal).in_steps_of(100));
    while state.step(&command, &mut steps, context, &mut outcome).is_pending() {
        assert_eq!(
            (state.revision().0, keys_there(&state).len()),
            (revision, KEYS),
            "nobody sees half of it"
        );
        assert!(state.is_paused() && state.leases().contains(7));
        count += 1;
    }
    assert!(count >= KEYS / 100, "{count} steps");
    assert_eq!((state.revision().0, keys_there(&state).len(), state.leases().len()), (revision + 1, 0, 0));
}

#[test]
fn a_checkpoint_costs_what_changed() {
    const LEASES: i64 = 100_000;
    let (mut state, mut disk) = (StateMachine::new(), Disk::default());
    for id in 1..=LEASES {
        // Ids in no order.
        apply(&mut state, &grant(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64), 60)).0.expect("granted");
    }
    assert!(state.unsaved().blocks >= LEASES as usize / PAGE_LEASES);
    disk.take(&mut state);
    state.saved();
    disk.place(&mut state);
    assert!(state.unsaved().bytes < PAGE_LEASES * 24);
    for id in 1..=300 {
        apply(&mut state, &grant(id, 60)).0.expect("granted");
    }
    disk.take(&mut state);
    state.saved();
    assert!(disk.written <= 4, "{} blocks for 300 leases", disk.written);
    for id in 1..=300 {
        apply(&mut state, &revoke(id)).0.expect("revoked");
    }
    disk.take(&mut state);
    state.saved();
    assert!(disk.written <= 4, "{} blocks for 300 leases", disk.written);
    assert_eq!(disk.load().leases().len() as i64, LEASES);
}

#[test]
fn room_is_used_again_and_a_number_is_not() {
    let mut pages = Pages::default();
    let lease = |id| Lease { id, ttl: 1, remaining: 0 };
    let places: Vec<_> = (1..=4 * PAGE_LEASES as i64).map(|id| pages.add(lease(id))).collect();
    assert_eq!(pages.next_page(), 4);
    for (at, place) in places.iter().enumerate() {
        if place.page() < 2 && at % 2 == 0 || place.page() == 2 {
            pages.remove(*place);
        }
    }
    let again: BTreeSet<_> = (1..=PAGE_LEASES as i64).map(|id| pages.add(lease(-id))).collect();
    assert_eq!(again.len(), PAGE_LEASES);
    assert!(again.iter().all(|place| place.page() < 2), "half of two pages was free");
    assert_eq!(pages.add(lease(-1_000)).page(), 4, "page 2 is gone for good");
    assert_eq!(pages.find(places[1]), Some(lease(2)));
}

#[test]
fn pages_that_are_none_are_refused() {
    let mut state = StateMachine::new();
    apply(&mut state, &grant(7, 60)).0.expect("granted");
    let mut leases = crate::state::lease::Leases::default();
    leases.add(Lease { id: 7, ttl: 60, remaining: 0 });
    let [BlockChange::Write(block)] = &leases.changes()[..] else { panic!("one page") };
    let take = |block: &Block| super::Leases::default().load(block);
    assert_eq!(take(block), Ok(()));
    assert!(take(&Block { body: block.body.slice(1..), ..block.clone() }).is_err());
    let twice = [&block.body[..], &block.body[..]].concat();
    assert!(take(&Block { body: twice.into(), ..block.clone() }).is_err());
}
