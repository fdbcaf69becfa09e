//! What callers ask of leases beside the log: how much time is left, all of it again, and which there are.

use std::{cmp::Reverse, collections::BinaryHeap};

use bytes::Bytes;
use prost::{
    Message,
    encoding::{self, WireType, encode_key, encode_varint},
};

use super::{
    handle::Shard,
    questions::Told,
    reader::{AnswerReader, Stake},
};
use crate::{
    env::Instant,
    limits,
    pb::{
        etcdserverpb as pb,
        peer::{self, Renewals, TimeLeft, question::About},
    },
    shard::{Error, lease::Renewal},
    state::{
        self, Principal,
        auth::{Access, Refusal},
        kv::{Answer, LongAnswer},
        lease::{Lease, Place},
    },
};

/// Tags of what is repeated in answers (etcd v3.7 rpc.proto).
const TIME_TO_LIVE_KEYS: u32 = 5;
const LEASES_LEASES: u32 = 2;

/// When a lease ends, and its id.
type Ending = (Instant, i64);

impl Shard {
    /// Has whoever leads give leases all of their time again; how many seconds that are, none for a lease that is not there.
    /// None at all if this member leads: then [`Shard::linearize`] and [`Shard::renew`] do it.
    pub async fn renew_elsewhere(&self, ids: Vec<i64>) -> Result<Option<Vec<Option<i64>>>, Error> {
        let told = self.ask(About::Renewals(Renewals { ids })).await?;
        let seconds = |lease: peer::Lease| lease.is_there.then_some(lease.seconds);
        Ok(told.map(|leases| leases.into_iter().map(seconds).collect()))
    }

    /// Gives a lease all of its time again, whoever leads meanwhile.
    pub async fn renew_anywhere(&self, id: i64) -> Result<Option<i64>, Error> {
        loop {
            if let Some(renewed) = self.renew_elsewhere(vec![id]).await? {
                return Ok(renewed.into_iter().next().flatten());
            }
            self.linearize().await?;
            match self.renew(id).await {
                // Just now.
                Err(Error::NoLeader) => self.sleep(limits::LEADER_PAUSE).await,
                renewed => return renewed,
            }
        }
    }

    /// Asks whoever leads; none if this member does.
    async fn ask(&self, about: About) -> Result<Told, Error> {
        if self.is_leader() {
            return Ok(None);
        }
        let answer = self.inbox.push_question(about, (self.clock)())?;
        match answer.await {
            Some(told) => Ok(told),
            None if self.inbox.refusing() => Err(Error::Stopped),
            None if self.leader().0 == 0 => Err(Error::NoLeader),
            None => Err(Error::Timeout),
        }
    }

    /// How many seconds a lease has yet, as its leader, which this member is, has it; none if there is no such lease.
    pub(in crate::shard) fn time_left(&self, id: i64) -> Result<Option<i64>, Error> {
        let Some((place, lease)) = self.lease(id) else { return Ok(None) };
        if !self.is_leader() {
            return Err(Error::NoLeader);
        }
        let now = (self.clock)();
        let left = |ends: Instant| ends.since(now).as_secs() as i64 - now.since(ends).as_secs() as i64;
        Ok(Some(self.times.ends(place).map_or(lease.ttl, left)))
    }

    /// Gives a lease all of its time again, and tells how many seconds that are; none if there is no such lease. One
    /// whose time is over is waited for until it is gone. Whoever asks has seen to it that this member leads.
    pub async fn renew(&self, id: i64) -> Result<Option<i64>, Error> {
        loop {
            let Some((place, lease)) = self.lease(id) else { return Ok(None) };
            let is_over = self.times.ends(place).is_some_and(|ends| ends <= (self.clock)());
            if lease.remaining > 0 && self.times.notes() && !is_over {
                // What was noted of it does not hold any more.
                let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl: 0 }];
                self.write(&Principal::default(), pb::LeaseCheckpointRequest { checkpoints }).await?;
            }
            // It may have gone meanwhile, and its place be another's.
            let Some((place, lease)) = self.lease(id) else { return Ok(None) };
            match self.times.renew(place, lease.ttl, (self.clock)()) {
                Renewal::Renewed => {
                    self.metrics.lease_renewed.inc();
                    return Ok(Some(lease.ttl));
                }
                Renewal::NotLeading => return Err(Error::NoLeader),
                Renewal::Over => {
                    if self.times.gone_later(place).await.is_none() {
                        return Err(Error::NoLeader);
                    }
                    self.linearize().await?;
                }
            }
        }
    }

    fn lease(&self, id: i64) -> Option<(Place, Lease)> {
        let state = self.state.borrow();
        let place = state.leases().place_of(id)?;
        Some((place, state.leases().at(place)?))
    }

    /// What etcd tells of a lease; of one that is not there, that it has -1 seconds. Very many keys are not all of the
    /// same moment.
    pub async fn time_to_live(
        &self,
        who: &Principal,
        (id, with_keys): (i64, bool),
    ) -> Result<Answer<pb::LeaseTimeToLiveResponse, AnswerReader>, Error> {
        let elsewhere = match self.ask(About::TimeLeft(TimeLeft { id })).await? {
            Some(leases) => leases.first().map(|lease| lease.is_there.then_some(lease.seconds)),
            None => None,
        };
        self.linearize().await?;
        // A deletion that is done in part has let go of keys that are still there. It is committed.
        while with_keys && self.state.borrow().is_paused() {
            self.linearize().await?;
        }
        let mut response = pb::LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() };
        let left = match elsewhere {
            Some(left) => left,
            None => self.time_left(id)?,
        };
        let (Some((_, lease)), Some(left)) = (self.lease(id), left) else {
            return Ok(Answer::Whole(response));
        };
        (response.ttl, response.granted_ttl) = (left, lease.ttl);
        if !with_keys {
            return Ok(Answer::Whole(response));
        }
        let revision = self.may_see(who, id)?;
        let mut last = None;
        if self.keys(id, &mut last, |key| response.keys.push(Bytes::copy_from_slice(key))) {
            return Ok(Answer::Whole(response));
        }
        // Keys are the last field: what is there is the beginning of the answer.
        let answer = self.pieces(response.encode_to_vec(), Stake::default(), |shard, piece| {
            shard.keys(id, &mut last, |key| put_bytes(TIME_TO_LIVE_KEYS, key, piece))
        });
        let answer = answer.await?;
        // Others may have been attached meanwhile.
        if self.may_see(who, id)? != revision {
            return Err(Refusal::OldRevision.into());
        }
        Ok(Answer::Long(answer))
    }

    /// Refuses whoever may not read all keys of a lease. The revision of users and roles.
    fn may_see(&self, who: &Principal, id: i64) -> Result<u64, Error> {
        let state = self.state.borrow();
        state.asking(who).lease(Access::Read, id)?;
        Ok(state.auth().revision())
    }

    /// The next of a lease's keys after `last`, which becomes the last of them. True if there are no more.
    fn keys(&self, id: i64, last: &mut Option<Vec<u8>>, mut take: impl FnMut(&[u8])) -> bool {
        let state = self.state.borrow();
        let after = last.take();
        let mut keys = state.leases().keys_after(id, after.as_deref());
        let (mut bytes, mut newest) = (0, None);
        for _ in 0..limits::LEASES_PIECE {
            let Some(key) = keys.next() else { return true };
            take(key);
            bytes += key.len();
            newest = Some(key);
            if bytes >= limits::RANGE_PIECE_BYTES {
                break;
            }
        }
        *last = newest.map(<[u8]>::to_vec);
        false
    }

    /// All leases, those first that end first, for who may read the keys of each.
    pub async fn leases(
        &self,
        who: &Principal,
    ) -> Result<Answer<pb::LeaseLeasesResponse, AnswerReader>, Error> {
        let status = |(_, id): Ending| pb::LeaseStatus { id };
        if self.state.borrow().leases().len() <= limits::LEASES_PIECE {
            let (mut endings, mut next) = (Vec::new(), Some(0));
            while let Some(page) = next {
                next = self.endings(who, page, &mut endings)?;
            }
            endings.sort_unstable();
            let leases = endings.into_iter().map(status).collect();
            return Ok(Answer::Whole(pb::LeaseLeasesResponse { header: None, leases }));
        }
        let revision = self.state.borrow().auth().revision();
        let mut stake = Stake::take(self.client(), true).await;
        // Sorted by itself, each; the last one ends first.
        let (mut runs, mut next) = (Vec::new(), Some(0));
        while let Some(page) = next {
            let _slice = self.pass().await;
            let mut run = Vec::new();
            next = self.endings(who, page, &mut run)?;
            run.sort_unstable_by_key(|ending| Reverse(*ending));
            stake.keep(run.len() * size_of::<Ending>())?;
            runs.push(run);
        }
        if self.state.borrow().auth().revision() != revision {
            return Err(Refusal::OldRevision.into());
        }
        let mut firsts: BinaryHeap<_> =
            runs.iter_mut().enumerate().filter_map(|(at, run)| Some(Reverse((run.pop()?, at)))).collect();
        let answer = self.pieces(Vec::new(), stake, move |_, piece| {
            for _ in 0..limits::LEASES_PIECE {
                let Some(Reverse((ending, at))) = firsts.pop() else { return true };
                encoding::message::encode(LEASES_LEASES, &status(ending), piece);
                firsts.extend(runs[at].pop().map(|next| Reverse((next, at))));
            }
            false
        });
        answer.await.map(Answer::Long)
    }

    /// Adds the leases of one page or a few, and when they end, as far as that is known. The page to go on with.
    fn endings(&self, who: &Principal, page: u64, endings: &mut Vec<Ending>) -> Result<Option<u64>, Error> {
        const NOT_KNOWN: Instant = Instant(u64::MAX);
        let state = self.state.borrow();
        let asking = state.asking(who);
        let mut next = page;
        while endings.len() < limits::LEASES_PIECE {
            let Some((number, leases)) = state.leases().page_from(next) else { return Ok(None) };
            let ends = |slot| self.times.ends(Place::of(number, slot)).unwrap_or(NOT_KNOWN);
            for (slot, lease) in leases {
                asking.lease(Access::Read, lease.id)?;
                endings.push((ends(slot), lease.id));
            }
            next = number + 1;
        }
        Ok(Some(next))
    }

    /// An answer without its header, encoded in slices. It begins with `first`; `step` adds to it, and says when that
    /// was all.
    async fn pieces(
        &self,
        first: Vec<u8>,
        mut stake: Stake,
        mut step: impl FnMut(&Self, &mut Vec<u8>) -> bool,
    ) -> Result<AnswerReader, Error> {
        let (mut pieces, mut piece, mut bytes, mut is_done) = (Vec::new(), first, 0, false);
        stake.join(self.client());
        while !is_done {
            let _slice = self.pass().await;
            is_done = step(self, &mut piece);
            if is_done || piece.len() >= limits::RANGE_PIECE_BYTES {
                bytes += piece.len();
                stake.keep(piece.len())?;
                if bytes > limits::SEND_MESSAGE_BYTES_MAX {
                    return Err(state::Error::AnswerTooLong(bytes).into());
                }
                pieces.push(Bytes::from(std::mem::take(&mut piece)));
            }
        }
        Ok(AnswerReader::new(self, LongAnswer::of(pieces), stake))
    }
}

fn put_bytes(tag: u32, bytes: &[u8], into: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}
