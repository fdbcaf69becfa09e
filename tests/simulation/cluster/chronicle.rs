//! The one history of a cluster, put together from what all members have applied, and what must hold of each at any time:
//! one leader in each term, the same version at the same revision, the same hash at the same entry, and no way back.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use pinion::{
    pb::mvccpb::{Event, KeyValue, event::EventType},
    shard::Shard,
    state::{StateMachine, mvcc::HashKv},
    types::Level,
};

use crate::{
    keys::{Answer, History, Pair, Request},
    world,
};

/// How many of the entries are compared by the hash of the whole history before them.
const HASHED: u64 = 8;

/// What is known of one member in its present life.
#[derive(Clone, Copy, Default)]
struct Position {
    term: u64,
    revision: i64,
    applied: u64,
    /// The next revision to be noted.
    next: i64,
}

#[derive(Default)]
pub struct Chronicle {
    /// By revision, and the place in it.
    versions: RefCell<BTreeMap<(i64, i64), Event>>,
    leaders: RefCell<BTreeMap<u64, u64>>,
    /// Of the state after an entry, and which member it was that had it first.
    hashes: RefCell<BTreeMap<u64, (u64, i64, HashKv)>>,
    positions: RefCell<BTreeMap<u64, Position>>,
    level: Cell<Level>,
}

impl Chronicle {
    /// A member begins anew: it may be behind what it had applied.
    pub fn crashed(&self, member: u64) {
        self.positions.borrow_mut().remove(&member);
    }

    /// Notes what a member has, and what is wrong with it. True if it has come to another term.
    pub fn look(&self, shard: &Shard) -> bool {
        let member = shard.member_id().0;
        if shard.is_leader() {
            let term = shard.term().0;
            let leader = *self.leaders.borrow_mut().entry(term).or_insert(member);
            assert_eq!(leader, member, "two leaders in term {term}");
        }
        shard.with_state(|state| {
            let (used, known) = (state.cluster().level(), state.commands().newest());
            let belongs = state.cluster().member(shard.member_id()).is_some();
            assert!(
                used <= known || !belongs,
                "member {member} knows level {known}, and the cluster uses {used}"
            );
            self.level.set(self.level.get().max(used));
            let (revision, applied) = (state.revision().0, state.applied().0);
            let mut positions = self.positions.borrow_mut();
            let position = positions.entry(member).or_insert(Position { next: 2, ..Position::default() });
            let term = std::mem::replace(&mut position.term, shard.term().0);
            assert!(term <= position.term, "member {member} went back from term {term}");
            let is_elsewhere = term < position.term;
            assert!(revision >= position.revision, "member {member} went back from {}", position.revision);
            assert!(applied >= position.applied, "member {member} went back to entry {applied}");
            position.revision = revision;
            if state.is_paused() || applied == position.applied {
                return is_elsewhere;
            }
            position.applied = applied;
            if revision >= position.next {
                self.note(state, position.next, member);
                position.next = revision + 1;
            }
            // Nothing is under way where everything committed is applied.
            if applied % HASHED == 0 && shard.status().committed == state.applied() {
                self.compare(state, member);
            }
            is_elsewhere
        })
    }

    fn note(&self, state: &StateMachine, next: i64, member: u64) {
        let store = state.history();
        let mut versions = self.versions.borrow_mut();
        for (_, record) in store.versions_from(store.seek(next, 0)) {
            let kind = if record.tombstone { EventType::Delete } else { EventType::Put };
            let kv = KeyValue {
                key: record.key.to_vec().into(),
                create_revision: record.create,
                mod_revision: record.main,
                version: record.version,
                value: record.value.to_vec().into(),
                lease: record.lease,
            };
            let event = Event { r#type: kind as i32, kv: Some(kv), prev_kv: None };
            let known = versions.entry((record.main, record.sub)).or_insert_with(|| event.clone());
            assert_eq!(*known, event, "member {member} has another history than others");
        }
    }

    fn compare(&self, state: &StateMachine, member: u64) {
        let hash = hash(state);
        let known = (member, state.revision().0, hash);
        let (other, revision, first) = *self.hashes.borrow_mut().entry(state.applied().0).or_insert(known);
        assert_eq!(
            (revision, first),
            (known.1, hash),
            "members {other} and {member} differ after entry {}",
            state.applied()
        );
    }

    /// The newest term anybody led in.
    pub fn term(&self) -> u64 {
        self.leaders.borrow().last_key_value().map_or(0, |(term, _)| *term)
    }

    /// The newest set of commands that the cluster has ever used.
    pub fn level(&self) -> Level {
        self.level.get()
    }

    /// All events, in order.
    pub fn events(&self) -> Vec<Event> {
        self.versions.borrow().values().cloned().collect()
    }

    /// Everything acknowledged is in it, at its revision, and every answer shows the keys as they were at its own.
    pub fn check(&self, history: &History) -> Result<(), String> {
        let versions = self.versions.borrow();
        let mut of_keys: BTreeMap<&[u8], Vec<(i64, Option<u64>)>> = BTreeMap::new();
        for event in versions.values() {
            let kv = event.kv.as_ref().expect("it is about a key");
            let value = (event.r#type == EventType::Put as i32 && kv.key.starts_with(b"g"))
                .then(|| world::number(&kv.value));
            of_keys.entry(&kv.key).or_default().push((kv.mod_revision, value));
        }
        // As it was at a revision, or just before.
        let pair = |key: &str, revision: i64| {
            let of_key = of_keys.get(key.as_bytes()).map_or(&[][..], Vec::as_slice);
            let after = of_key.partition_point(|(at, _)| *at <= revision);
            let (mod_revision, value) = *of_key[..after].last()?;
            value.map(|value| Pair { value, mod_revision })
        };
        history.answered().try_for_each(|(request, answer)| check(request, answer, pair))
    }
}

fn check(request: &Request, answer: &Answer, pair: impl Fn(&str, i64) -> Option<Pair>) -> Result<(), String> {
    let Answer { revision, succeeded, read } = answer;
    let writes = if *succeeded { &request.writes[..] } else { &[] };
    for (key, value) in writes {
        let found = pair(key, *revision).map(|pair| pair.value);
        if found != *value {
            return Err(format!("{request:?} was acknowledged with {answer:?}, and {key} is {found:?}"));
        }
    }
    // Something to delete need not be there, and then nothing was written.
    let has_put = writes.iter().any(|(_, value)| value.is_some());
    let before = revision - i64::from(has_put);
    for (key, told) in request.reads.iter().zip(read) {
        let is_deleted = writes.iter().any(|(deleted, value)| deleted == key && value.is_none());
        let before = if is_deleted && told.is_some() { revision - 1 } else { before };
        let found = pair(key, before);
        if found != *told {
            return Err(format!("{request:?} gave {answer:?}, and {key} was {found:?}"));
        }
    }
    Ok(())
}

/// Of all versions there are.
pub fn hash(state: &StateMachine) -> HashKv {
    let mut cursor = state.hash_kv(0).expect("the newest revision");
    loop {
        if let Some(hash) = state.hash_step(&mut cursor, usize::MAX).expect("versions are readable") {
            return hash;
        }
    }
}
