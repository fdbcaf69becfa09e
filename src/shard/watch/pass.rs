//! Catching up from history: one walk takes along all watches of a stream that are behind.
//!
//! It begins where the one begins that is furthest behind, and takes up others as it comes by. Who falls behind further back
//! waits for the next walk. Nothing of the history is held: if what comes next is compacted, those who walk are told so.
//!
//! A walk stops between two versions and is taken up again; what it has gathered is handed over between two revisions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    event::Pieces,
    index::Index,
    keys::Keys,
    slots::{Key, Slots},
    watches::Watch,
};
use crate::{
    limits,
    state::{
        kv::event,
        mvcc::{Pos, Record, Store},
    },
};

#[derive(Default)]
pub struct Pass {
    /// Main and sub revision of the version to go on with: positions change when chunks are rewritten.
    at: (i64, i64),
    /// Those who walk, by what they watch.
    index: Index<Key>,
    walking: Slots<BTreeSet<i64>>,
    ids: BTreeSet<i64>,
    /// Who is taken up when the walk comes to this revision, and who is when it begins anew; where they want to begin.
    ahead: BTreeSet<(i64, i64)>,
    late: BTreeSet<(i64, i64)>,
    waiting: BTreeMap<i64, i64>,
    gathered: BTreeMap<i64, Gathered>,
    bytes: usize,
    /// Who has more to be told of a revision than is kept in memory.
    long: Vec<(i64, i64)>,
}

/// What is there to be told of a watch.
#[derive(Default)]
struct Gathered {
    events: Vec<Bytes>,
    /// Those of revisions that are complete, and bytes of the one that is not.
    complete: usize,
    open_bytes: usize,
}

/// What a step came to.
pub enum PassStep {
    Pending,
    /// What these want next is compacted.
    Compacted(Vec<i64>),
    /// Events of watches, and the watches that have too much of one revision.
    Told(Vec<(i64, Pieces)>, Vec<(i64, i64)>),
    /// These have been told everything.
    Arrived(Vec<i64>),
}

impl Pass {
    /// Of a watch that is to be told of revision `next` and what follows.
    pub fn add(&mut self, id: i64, next: i64) {
        let is_late = !self.ids.is_empty() && (next, 0) < self.at;
        (if is_late { &mut self.late } else { &mut self.ahead }).insert((next, id));
        self.waiting.insert(id, next);
    }

    pub fn remove(&mut self, id: i64, keys: &Keys) {
        if self.ids.remove(&id) {
            self.forget(id, keys);
        } else if let Some(next) = self.waiting.remove(&id) {
            self.ahead.remove(&(next, id));
            self.late.remove(&(next, id));
        }
        if let Some(gathered) = self.gathered.remove(&id) {
            self.bytes -= gathered.events.iter().map(Bytes::len).sum::<usize>();
        }
        self.long.retain(|(long, _)| *long != id);
    }

    fn forget(&mut self, id: i64, keys: &Keys) {
        let key = self.index.get(keys).expect("it walks");
        let ids = &mut self.walking[key];
        ids.remove(&id);
        if ids.is_empty() {
            self.walking.remove(key);
            self.index.remove(keys);
        }
    }

    fn take_up(&mut self, id: i64, keys: &Keys) {
        self.waiting.remove(&id);
        let key = match self.index.get(keys) {
            Some(key) => key,
            None => {
                let key = self.walking.add(BTreeSet::new());
                self.index.insert(keys, key);
                key
            }
        };
        self.walking[key].insert(id);
        self.ids.insert(id);
    }

    /// Revisions between where it goes on and the newest.
    pub fn distance(&self, history: &Store) -> i64 {
        let begin = match (self.ids.is_empty(), self.ahead.first().or(self.late.first())) {
            (true, Some((next, _))) => *next,
            _ => self.at.0,
        };
        history.revision().0 - begin
    }

    /// Goes on by about `steps` versions.
    pub fn step(&mut self, history: &Store, watches: &BTreeMap<i64, Watch>, steps: usize) -> PassStep {
        let compacted = history.compacted().0;
        if self.ids.is_empty() {
            self.ahead.append(&mut self.late);
            let Some((next, _)) = self.ahead.first() else { return PassStep::Pending };
            self.at = (*next, 0);
        }
        if self.at.0 < compacted {
            return self.compacted(compacted, watches);
        }
        let mut left = steps;
        let mut end = None;
        for (pos, version) in history.versions_from(history.seek(self.at.0, self.at.1)) {
            if version.main > self.at.0 || self.at.1 == 0 {
                // Between two revisions.
                self.complete();
                let is_much = self.bytes > limits::WATCH_GATHERED_BYTES || !self.long.is_empty();
                if left == 0 || is_much {
                    self.at = (version.main, 0);
                    end = Some(());
                    break;
                }
                self.at = (version.main, 0);
                left = left.saturating_sub(self.take_up_until(version.main, watches));
            }
            if left == 0 {
                // Within one that is long.
                self.at = (version.main, version.sub);
                return PassStep::Pending;
            }
            left = left.saturating_sub(1 + self.gather(history, (pos, &version), watches));
            self.at = (version.main, version.sub + 1);
        }
        if end.is_none() {
            self.complete();
            self.at = (history.revision().0 + 1, 0);
            self.take_up_until(i64::MAX, watches);
        }
        if !self.gathered.is_empty() || !self.long.is_empty() {
            return self.hand_over(watches);
        }
        if end.is_some() { PassStep::Pending } else { self.arrive(watches) }
    }

    /// Who wants nothing before this revision walks along from here.
    fn take_up_until(&mut self, revision: i64, watches: &BTreeMap<i64, Watch>) -> usize {
        let mut count = 0;
        while let Some((next, id)) = self.ahead.first().copied()
            && next <= revision
        {
            self.ahead.pop_first();
            self.take_up(id, &watches[&id].keys);
            count += 1;
        }
        count
    }

    fn gather(
        &mut self,
        history: &Store,
        (pos, version): (Pos, &Record<'_>),
        watches: &BTreeMap<i64, Watch>,
    ) -> usize {
        let mut found = Vec::new();
        self.index.stab(version.key, |key| found.push(key));
        let mut count = 0;
        let (mut plain, mut with_prior): (Option<Bytes>, Option<Bytes>) = (None, None);
        for id in found.into_iter().flat_map(|key| &self.walking[key]) {
            let taste = watches[id].taste;
            count += 1;
            if !taste.takes(version.tombstone) || self.long.contains(&(*id, version.main)) {
                continue;
            }
            let encoded = if taste.prior {
                with_prior.get_or_insert_with(|| event(version, history.prior(pos, version).as_ref()))
            } else {
                plain.get_or_insert_with(|| event(version, None))
            };
            let gathered = self.gathered.entry(*id).or_default();
            let bytes = encoded.len();
            let is_first = gathered.events.len() == gathered.complete;
            if self.bytes + bytes > limits::WATCH_REVISION_BYTES && !is_first {
                self.bytes -= gathered.open_bytes;
                gathered.events.truncate(gathered.complete);
                gathered.open_bytes = 0;
                self.long.push((*id, version.main));
                continue;
            }
            gathered.events.push(encoded.clone());
            gathered.open_bytes += bytes;
            self.bytes += bytes;
        }
        count
    }

    /// The revision at hand is gathered.
    fn complete(&mut self) {
        for gathered in self.gathered.values_mut() {
            gathered.complete = gathered.events.len();
            gathered.open_bytes = 0;
        }
    }

    fn hand_over(&mut self, watches: &BTreeMap<i64, Watch>) -> PassStep {
        let gathered = std::mem::take(&mut self.gathered).into_iter();
        let told = gathered.filter(|(_, gathered)| !gathered.events.is_empty());
        let told = told.map(|(id, gathered)| (id, Pieces::from_vec(gathered.events))).collect();
        self.bytes = 0;
        let long = std::mem::take(&mut self.long);
        for (id, _) in &long {
            self.ids.remove(id);
            self.forget(*id, &watches[id].keys);
        }
        PassStep::Told(told, long)
    }

    /// Whoever would go on below this revision cannot. What was gathered of a revision that is not complete is void.
    fn compacted(&mut self, compacted: i64, watches: &BTreeMap<i64, Watch>) -> PassStep {
        for gathered in self.gathered.values_mut() {
            gathered.events.truncate(gathered.complete);
        }
        self.long.clear();
        if self.gathered.values().any(|gathered| !gathered.events.is_empty()) {
            // It is the end of what they are told.
            return self.hand_over(watches);
        }
        self.gathered.clear();
        self.bytes = 0;
        let mut ended: Vec<_> = std::mem::take(&mut self.ids).into_iter().collect();
        for id in &ended {
            self.forget(*id, &watches[id].keys);
        }
        while let Some((next, id)) = self.ahead.first().copied()
            && next < compacted
        {
            self.ahead.pop_first();
            self.waiting.remove(&id);
            ended.push(id);
        }
        PassStep::Compacted(ended)
    }

    /// There is nothing left for them here; some at a time.
    fn arrive(&mut self, watches: &BTreeMap<i64, Watch>) -> PassStep {
        let arrived: Vec<_> = self.ids.iter().take(limits::WATCH_ARRIVALS).copied().collect();
        for id in &arrived {
            self.ids.remove(id);
            self.forget(*id, &watches[id].keys);
        }
        PassStep::Arrived(arrived)
    }
}
