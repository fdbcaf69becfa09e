//! Events of one revision that are too many to be kept in memory: a deletion of a million keys, say.
//!
//! A message says its length first. So the revision is walked twice: once to measure, once to send, both in steps. A client
//! that takes answers in fragments is sent some at a time instead.
//!
//! The history is not held meanwhile. If the revision is compacted before anything was sent, the watch ends as others do;
//! later, the message cannot be completed.

use std::{collections::VecDeque, rc::Rc};

use bytes::Bytes;

use super::{
    event::{Pieces, Taste},
    keys::Keys,
    watches::{Told, Watch},
};
use crate::{
    limits,
    state::{
        kv::{event, event_len},
        mvcc::{Pos, Record, Store},
    },
};

pub struct Long {
    id: i64,
    revision: i64,
    keys: Rc<Keys>,
    taste: Taste,
    stage: Stage,
    /// The version to go on with.
    sub: i64,
    /// How far the history was compacted at the begin: what was before an event may be known, or not.
    compacted: i64,
}

enum Stage {
    Measure { bytes: usize, events: usize },
    Send { left: usize },
    Fragment { held: Vec<Bytes>, bytes: usize },
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongStep {
    Pending,
    /// Something is said of it from now on.
    Begun,
    Compacted,
    Broken,
    Done {
        next: i64,
    },
}

impl Long {
    /// Events of that revision for a watch.
    pub(super) fn new(id: i64, revision: i64, watch: &Watch) -> Self {
        let stage = match watch.fragment {
            true => Stage::Fragment { held: Vec::new(), bytes: 0 },
            false => Stage::Measure { bytes: 0, events: 0 },
        };
        let (keys, taste) = (watch.keys.clone(), watch.taste);
        Self { id, revision, keys, taste, stage, sub: 0, compacted: i64::MIN }
    }

    pub fn id(&self) -> i64 {
        self.id
    }

    /// Goes on by about `steps` versions.
    pub fn step(&mut self, history: &Store, steps: usize, ready: &mut VecDeque<Told>) -> LongStep {
        let compacted = history.compacted().0;
        let is_sent = matches!(&self.stage, Stage::Send { .. }) || self.sub > 0 && self.is_fragmented();
        if is_sent && compacted > self.compacted && compacted >= self.revision {
            return LongStep::Broken;
        }
        if compacted > self.revision {
            return LongStep::Compacted;
        }
        if self.sub == 0 && !is_sent {
            self.compacted = compacted;
        }
        let current = history.revision().0;
        let (mut seen, mut bytes_now, mut pieces, mut is_done) = (0, 0, Vec::new(), true);
        for (pos, version) in history.versions_from(history.seek(self.revision, self.sub)) {
            if version.main != self.revision {
                break;
            }
            if seen == steps || bytes_now >= limits::RANGE_PIECE_BYTES {
                (self.sub, is_done) = (version.sub, false);
                break;
            }
            seen += 1;
            if !self.keys.contain(version.key) || !self.taste.takes(version.tombstone) {
                continue;
            }
            let prior = self.prior(history, pos, &version);
            match &mut self.stage {
                Stage::Measure { bytes, events } => {
                    *bytes += event_len(&version, prior.as_ref());
                    *events += 1;
                }
                Stage::Send { .. } | Stage::Fragment { .. } => {
                    let event = event(&version, prior.as_ref());
                    bytes_now += event.len();
                    pieces.push(event);
                }
            }
        }
        let begins = self.is_fragmented() && !is_sent;
        let (id, revision) = (self.id, current);
        let done = LongStep::Done { next: self.revision + 1 };
        match &mut self.stage {
            Stage::Measure { bytes, events } if is_done => {
                ready.push_back(Told::Begin { id, revision, bytes: *bytes, events: *events });
                self.stage = Stage::Send { left: *bytes };
                self.sub = 0;
                LongStep::Begun
            }
            Stage::Measure { .. } => LongStep::Pending,
            Stage::Send { left } => {
                *left = left.checked_sub(bytes_now).expect("a revision does not grow");
                assert!(!is_done || *left == 0, "a revision does not shrink");
                if !pieces.is_empty() {
                    ready.push_back(Told::Piece(pieces));
                }
                if is_done { done } else { LongStep::Pending }
            }
            Stage::Fragment { held, bytes } => {
                held.append(&mut pieces);
                *bytes += bytes_now;
                if is_done || *bytes > limits::WATCH_REVISION_BYTES {
                    *bytes = 0;
                    let events = Pieces::from_vec(std::mem::take(held));
                    ready.push_back(Told::Events { id, revision, events, fragment: true, more: !is_done });
                }
                match (is_done, begins) {
                    (true, _) => done,
                    (false, true) => LongStep::Begun,
                    (false, false) => LongStep::Pending,
                }
            }
        }
    }

    fn is_fragmented(&self) -> bool {
        matches!(self.stage, Stage::Fragment { .. })
    }

    fn prior<'a>(&self, history: &'a Store, pos: Pos, version: &Record<'_>) -> Option<Record<'a>> {
        if self.taste.prior { history.prior(pos, version) } else { None }
    }
}
