//! The watches of one stream: their names, where each stands, and what the stream has to tell of them.
//!
//! A watch follows the [`Hub`], or catches up from history: those that do are taken along by one [`Pass`] over it. Pure; who
//! owns the stream says when to go on with a pass ([`Watches::walk`]).
//!
//! What is told of a watch is told in order of revision, each event once. Nothing is gathered further while something
//! that was gathered has not been taken.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use super::{
    event::{Pieces, Taste},
    hub::{Due, Hub, Joining},
    keys::Keys,
    long::{Long, LongStep},
    pass::{Pass, PassStep},
    slots::Key,
};
use crate::{limits, state::mvcc::Store};

/// What a client asks to watch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// 0 for any that is free.
    pub id: i64,
    pub keys: Keys,
    pub taste: Taste,
    /// 0 for what comes from now on.
    pub start: i64,
    /// Is to be told from time to time that it missed nothing.
    pub notify: bool,
    /// Takes the events of a revision in several answers.
    pub fragment: bool,
}

/// The name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate;

/// What a stream has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Events of one revision, or of several if it is catching up; the state had revision `revision` by then.
    Events {
        id: i64,
        revision: i64,
        events: Pieces,
        fragment: bool,
        more: bool,
    },
    /// It is over: what it wanted next is compacted.
    Compacted {
        id: i64,
        compacted: i64,
    },
    /// It was told everything up to this revision; all watches of the stream were, where there is no id.
    Progress {
        id: Option<i64>,
        revision: i64,
    },
    /// Events of one revision, so many bytes of them, which follow piece by piece. Nothing comes between.
    Begin {
        id: i64,
        revision: i64,
        bytes: usize,
        events: usize,
    },
    Piece(Vec<bytes::Bytes>),
    /// The rest of what has begun is compacted: nothing more can be told.
    Broken,
}

pub(super) struct Watch {
    pub keys: Rc<Keys>,
    pub taste: Taste,
    /// As it was asked for.
    start: i64,
    notify: bool,
    pub fragment: bool,
    /// Nothing was told since the last notice was due.
    quiet: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Following(Key),
    /// Is to be told of this revision and what follows.
    CatchingUp,
    /// Over, its name is still taken.
    Compacted,
}

pub struct Watches {
    stream: Key,
    watches: BTreeMap<i64, Watch>,
    /// Start and name of those that had not begun when they were created: whether all have is asked more often than it changes.
    later: BTreeSet<(i64, i64)>,
    next_id: i64,
    pass: Pass,
    long: VecDeque<Long>,
    ready: VecDeque<Told>,
    /// A message has begun that has not come to its end.
    in_message: bool,
    /// The last revision anything was told of.
    horizon: i64,
    /// Progress is asked for, by somebody who knows of this revision.
    asked: Option<i64>,
    bytes: usize,
    catching_up: usize,
    compacted: usize,
}

impl Watches {
    pub fn new(hub: &mut Hub) -> Self {
        Self {
            stream: hub.add_stream(),
            watches: BTreeMap::new(),
            later: BTreeSet::new(),
            next_id: 0,
            pass: Pass::default(),
            long: VecDeque::new(),
            ready: VecDeque::new(),
            in_message: false,
            horizon: 0,
            asked: None,
            bytes: 0,
            catching_up: 0,
            compacted: 0,
        }
    }

    pub fn stream(&self) -> Key {
        self.stream
    }

    /// Bytes that they take, or about that.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a watch; its name.
    pub fn create(&mut self, hub: &mut Hub, history: &Store, wanted: Wanted) -> Result<i64, Duplicate> {
        let id = match wanted.id {
            0 => self.free_id(),
            id if self.watches.contains_key(&id) => return Err(Duplicate),
            id => id,
        };
        let Wanted { keys, taste, start, notify, fragment, .. } = wanted;
        let current = history.revision().0;
        self.bytes += keys.bytes() + limits::WATCH_BYTES;
        let keys = Rc::new(keys);
        let watch = Watch { keys, taste, start, notify, fragment, quiet: true, place: Place::CatchingUp };
        self.watches.insert(id, watch);
        if start > hub.told() {
            self.later.insert((start, id));
        }
        hub.counts.watches += 1;
        if start == 0 || start > current {
            self.follow(hub, id, start.max(current + 1));
        } else {
            self.fall_behind(hub, id, start);
        }
        Ok(id)
    }

    /// False if there is none of that name.
    pub fn cancel(&mut self, hub: &mut Hub, id: i64) -> bool {
        let Some(watch) = self.watches.remove(&id) else { return false };
        self.later.remove(&(watch.start, id));
        self.bytes -= watch.keys.bytes() + limits::WATCH_BYTES;
        hub.counts.watches -= 1;
        match watch.place {
            Place::Following(member) => hub.leave(member),
            Place::CatchingUp => {
                self.pass.remove(id, &watch.keys);
                self.long.retain(|long| long.id() != id);
                self.catching_up -= 1;
                hub.counts.slow -= 1;
            }
            Place::Compacted => self.compacted -= 1,
        }
        self.ready.retain(|told| match told {
            Told::Events { id: of, .. } | Told::Compacted { id: of, .. } => *of != id,
            Told::Progress { id: of, .. } => *of != Some(id),
            Told::Begin { .. } | Told::Piece(_) | Told::Broken => true,
        });
        true
    }

    /// Gives up some of them; true when none are left, and with them the stream.
    pub fn leave(&mut self, hub: &mut Hub, most: usize) -> bool {
        for _ in 0..most {
            let Some(id) = self.watches.first_key_value().map(|(id, _)| *id) else { break };
            self.cancel(hub, id);
        }
        if !self.watches.is_empty() {
            return false;
        }
        hub.remove_stream(self.stream);
        true
    }

    /// Whoever asks knows of revision `current`, and wants to hear when nothing up to it is missing any more.
    pub fn ask_for_progress(&mut self, current: i64) {
        self.asked = Some(self.asked.map_or(current, |asked| asked.max(current)));
    }

    /// It is time for notices: watches that were told nothing since the last time say how far they are.
    pub fn notify(&mut self, hub: &Hub) {
        let told = hub.told();
        for (id, watch) in self.watches.iter_mut().filter(|(_, watch)| watch.notify) {
            let Place::Following(member) = watch.place else { continue };
            let is_up_to_date =
                hub.is_at_rest() && hub.is_idle(member) && told >= watch.start.max(self.horizon);
            if std::mem::replace(&mut watch.quiet, true) && is_up_to_date {
                self.ready.push_back(Told::Progress { id: Some(*id), revision: told });
            }
        }
    }

    /// The next there is to say.
    pub fn next(&mut self, hub: &mut Hub) -> Option<Told> {
        if let Some(told) = self.ready.pop_front() {
            return Some(told);
        }
        if self.in_message {
            return None;
        }
        while let Some(due) = hub.take(self.stream) {
            match due {
                Due::Events { id, revision, events } => {
                    let watch = self.watches.get_mut(&id).expect("a member is a watch");
                    watch.quiet = false;
                    self.horizon = self.horizon.max(revision);
                    let fragment = watch.fragment;
                    return Some(Told::Events { id, revision, events, fragment, more: false });
                }
                // It has missed nothing. Whoever reads from history hears of all that comes, even if it begins later.
                Due::Behind { id, next } if next > hub.known() => self.follow(hub, id, next),
                Due::Behind { id, next } => self.fall_behind(hub, id, next),
            }
        }
        self.progress(hub)
    }

    /// The answer to whoever asked for progress: as soon as it is certain that nothing is missing.
    fn progress(&mut self, hub: &mut Hub) -> Option<Told> {
        let asked = self.asked?;
        if self.catching_up > 0 {
            return None;
        }
        if !hub.is_at_rest() || hub.told() < asked.max(self.horizon) {
            hub.wait_for_rest(self.stream);
            return None;
        }
        self.asked = None;
        let told = hub.told();
        let have_begun = self.later.last().is_none_or(|(start, _)| *start <= told);
        let is_shared = self.compacted == 0 && have_begun;
        (is_shared && !self.watches.is_empty()).then_some(Told::Progress { id: None, revision: told })
    }

    /// Whether there is something to be read from history, once everything that was gathered is taken.
    pub fn is_catching_up(&self) -> bool {
        self.ready.is_empty() && (self.catching_up > 0 || !self.long.is_empty())
    }

    /// Goes on with reading from history, by about `steps` versions. True if there is something to say, or nothing more to
    /// read.
    pub fn walk(&mut self, hub: &mut Hub, history: &Store, steps: usize) -> bool {
        if let Some(long) = self.long.front_mut() {
            match long.step(history, steps, &mut self.ready) {
                LongStep::Pending => {}
                LongStep::Begun => self.in_message = true,
                LongStep::Broken => self.ready.push_back(Told::Broken),
                LongStep::Compacted => {
                    let id = self.long.pop_front().expect("just seen").id();
                    self.end(hub, id, history.compacted().0);
                }
                LongStep::Done { next } => {
                    let id = self.long.pop_front().expect("just seen").id();
                    self.in_message = false;
                    self.horizon = self.horizon.max(history.revision().0);
                    if let Some(watch) = self.watches.get_mut(&id) {
                        watch.quiet = false;
                        self.pass.add(id, next);
                    }
                }
            }
            return !self.ready.is_empty() || !self.is_catching_up();
        }
        let step = self.pass.step(history, &self.watches, steps);
        let revision = history.revision().0;
        match step {
            PassStep::Pending => {}
            PassStep::Compacted(ids) => {
                ids.into_iter().for_each(|id| self.end(hub, id, history.compacted().0));
            }
            PassStep::Told(gathered, long) => {
                for (id, events) in gathered {
                    let watch = self.watches.get_mut(&id).expect("it was gathered for a watch");
                    watch.quiet = false;
                    self.horizon = self.horizon.max(revision);
                    let fragment = watch.fragment;
                    self.ready.push_back(Told::Events { id, revision, events, fragment, more: false });
                }
                self.long.extend(long.into_iter().map(|(id, at)| Long::new(id, at, &self.watches[&id])));
            }
            PassStep::Arrived(ids) => {
                for id in ids {
                    self.catching_up -= 1;
                    hub.counts.slow -= 1;
                    self.horizon = self.horizon.max(revision);
                    // It may wait for a revision that is yet to come here: others have it, and this member lags.
                    let from = self.watches[&id].start.max(revision + 1);
                    self.follow(hub, id, from);
                }
            }
        }
        !self.ready.is_empty() || !self.is_catching_up()
    }

    /// Revisions between where the next step begins and the newest.
    pub fn distance(&self, history: &Store) -> i64 {
        if self.long.is_empty() { self.pass.distance(history) } else { i64::MAX }
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn follow(&mut self, hub: &mut Hub, id: i64, from: i64) {
        let watch = self.watches.get_mut(&id).expect("it is there");
        let (keys, taste) = (watch.keys.clone(), watch.taste);
        watch.place = Place::Following(hub.join(Joining { stream: self.stream, id, keys, taste, from }));
    }

    fn fall_behind(&mut self, hub: &mut Hub, id: i64, next: i64) {
        let watch = self.watches.get_mut(&id).expect("it is there");
        watch.place = Place::CatchingUp;
        self.catching_up += 1;
        hub.counts.slow += 1;
        self.pass.add(id, next);
    }

    /// What the watch wants next cannot be had any more.
    fn end(&mut self, hub: &mut Hub, id: i64, compacted: i64) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.place = Place::Compacted;
        self.catching_up -= 1;
        hub.counts.slow -= 1;
        self.compacted += 1;
        self.ready.push_back(Told::Compacted { id, compacted });
    }
}
