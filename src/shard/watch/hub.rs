//! Live watches: what was written is matched once with what is watched, and whoever watches it is woken.
//!
//! Watches of the same keys are a group. An event is put into the queues of the groups it concerns, once for all members of
//! each; members read on from where they are ([`Hub::take`]), on their own time. A member that has read everything is
//! idle: the next event wakes it. So telling costs what matches, a slow reader costs nothing, and a busy one is not even
//! looked at.
//!
//! Queues are bounded in sum: the oldest entry goes first. Who has not read it by then is behind, leaves the hub with the
//! revision it has to go on with, and catches up from history ([`Watches`](super::Watches)).
//!
//! What is told lies in the history. [`Hub::note`] says that there is more, [`Hub::publish`] goes on with it step by step;
//! until it is at rest, positions in the history must not change.
//!
//! Invariants: a group's queue has entries only while a member has not read them; a member is in exactly one of: its group's
//! idle list, a list that is being woken, its stream's due list; entries of a queue have ascending revisions.
//!
//! Nothing here visits all members of a group, or all groups, at once: there may be as many as there is room for watches.

use std::{
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
};

use smallvec::SmallVec;

use super::{
    event::{Event, Held, Pieces, Taste},
    index::Index,
    keys::Keys,
    slots::{Key, Slots},
};
use crate::{
    limits,
    state::mvcc::{Pos, Record, Store, Written},
};

#[derive(Default)]
pub struct Hub {
    index: Index<Key>,
    groups: Slots<Group>,
    members: Slots<Member>,
    streams: Slots<Stream>,
    /// Everything up to this revision was told.
    told: i64,
    /// Up to this one there is something to tell.
    known: i64,
    /// Where the next version to tell lies.
    next: Option<Pos>,
    /// The revision that is being matched, and the groups it concerns.
    open: i64,
    touched: Vec<Key>,
    /// All of it was matched.
    is_closing: bool,
    waking: Vec<Waking>,
    /// Groups at places below this one are still to be told that they have to read from history, from this revision on if
    /// nothing was due to them. Nothing else is told before they are.
    losing: usize,
    losing_from: i64,
    /// Entries of all queues in the order they came, those included that were read since.
    order: VecDeque<(Key, u64)>,
    held: Held,
    /// Streams that wait until everything is told.
    awaiting: Vec<Key>,
    /// For [`Hub::tell`]; kept for its memory.
    found: Vec<Key>,
    /// Of all streams, those that are catching up included.
    pub counts: Counts,
}

/// etcd's gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub watches: usize,
    /// Watches that catch up.
    pub slow: usize,
}

struct Group {
    keys: Rc<Keys>,
    members: usize,
    /// Members that want events with what was before, and those that do not.
    prior: usize,
    plain: usize,
    idle: Vec<Key>,
    /// How many lists of idle members there were before this one.
    idle_lists: u64,
    /// An empty list, kept for its memory.
    spare: Vec<Key>,
    queue: VecDeque<Entry>,
    /// Number of the first entry.
    base: u64,
    /// Revision of the last entry there ever was.
    newest: i64,
    /// Events of the revision that is being matched.
    gathered: Gathered,
}

struct Entry {
    revision: i64,
    events: Events,
}

#[derive(Clone)]
enum Events {
    One(Rc<Event>),
    Many(Rc<[Rc<Event>]>),
    /// More than is kept in memory: to be read from history.
    TooMany,
}

#[derive(Default)]
struct Gathered {
    events: SmallVec<[Rc<Event>; 1]>,
    bytes: usize,
    too_many: bool,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.too_many
    }

    fn push(&mut self, event: &Rc<Event>) {
        self.bytes += event.bytes();
        if self.too_many || self.bytes > limits::WATCH_REVISION_BYTES && !self.events.is_empty() {
            self.too_many = true;
            self.events.clear();
        } else {
            self.events.push(event.clone());
        }
    }

    fn events(mut self) -> Events {
        match (self.too_many, self.events.len()) {
            (true, _) => Events::TooMany,
            (false, 1) => Events::One(self.events.pop().expect("just counted")),
            (false, _) => Events::Many(self.events.as_slice().into()),
        }
    }
}

struct Member {
    stream: Key,
    group: Key,
    /// Its name within the stream.
    id: i64,
    taste: Taste,
    /// Nothing before this revision concerns it any more.
    from: i64,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// At this place of the group's idle list; being woken if that list is not the group's any more.
    Idle { at: usize, list: u64 },
    /// Has to read from this entry on, whose revision is not below `next`.
    Due { entry: u64, next: i64 },
}

#[derive(Default)]
struct Stream {
    due: VecDeque<Key>,
    waker: Option<Waker>,
    /// Is among those that wait until everything is told.
    is_awaiting: bool,
}

/// Members to be woken because of an entry.
struct Waking {
    group: Key,
    entry: u64,
    revision: i64,
    members: Vec<Key>,
}

/// Who asks to be told.
#[derive(Clone, Debug)]
pub struct Joining {
    pub stream: Key,
    pub id: i64,
    pub keys: Rc<Keys>,
    pub taste: Taste,
    /// The first revision that it wants to hear of.
    pub from: i64,
}

/// What a member has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// All events of a revision that concern it.
    Events { id: i64, revision: i64, events: Pieces },
    /// It was too slow, or there is too much, and is no member any more. It has not been told of this revision, and of nothing
    /// that follows.
    Behind { id: i64, next: i64 },
}

impl Hub {
    /// Of a state of that revision.
    pub fn new(revision: i64) -> Self {
        Self { told: revision, known: revision, ..Self::default() }
    }

    pub fn add_stream(&mut self) -> Key {
        self.streams.add(Stream::default())
    }

    /// Its members have left.
    pub fn remove_stream(&mut self, stream: Key) {
        self.streams.remove(stream).expect("a stream is removed once");
    }

    /// Entries that wait to be read.
    pub fn pending(&self) -> usize {
        self.groups.keys().map(|group| self.groups[group].queue.len()).sum()
    }

    /// The stream's task, to be woken when it has something to be told.
    pub fn wait(&mut self, stream: Key, context: &Context<'_>) {
        let waker = &mut self.streams[stream].waker;
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// The stream is woken as soon as everything is told that is known now.
    pub fn wait_for_rest(&mut self, stream: Key) {
        if !std::mem::replace(&mut self.streams[stream].is_awaiting, true) {
            self.awaiting.push(stream);
        }
    }

    /// Everything up to this revision was told, as far as nothing is due.
    pub fn told(&self) -> i64 {
        self.told
    }

    /// The newest revision there is.
    pub fn known(&self) -> i64 {
        self.known
    }

    /// Whether all that is known was told.
    pub fn is_at_rest(&self) -> bool {
        self.next.is_none() && self.touched.is_empty() && self.waking.is_empty() && self.losing == 0
    }

    /// Whether the member has read everything that was told.
    pub fn is_idle(&self, member: Key) -> bool {
        let Member { group, place, .. } = &self.members[member];
        self.groups[*group].idle_at(*place).is_some()
    }

    /// The state has a further revision.
    pub fn note(&mut self, written: Written) {
        self.known = written.revision.0;
        if self.members.len() == 0 {
            self.told = self.known;
        } else if self.next.is_none() {
            self.next = Some(written.first());
        }
    }

    pub fn join(&mut self, joining: Joining) -> Key {
        let Joining { stream, id, keys, taste, from } = joining;
        let group = match self.index.get(&keys) {
            Some(group) => group,
            None => {
                let group = self.groups.add(Group {
                    keys: keys.clone(),
                    members: 0,
                    prior: 0,
                    plain: 0,
                    idle: Vec::new(),
                    idle_lists: 0,
                    spare: Vec::new(),
                    queue: VecDeque::new(),
                    base: 0,
                    newest: 0,
                    gathered: Gathered::default(),
                });
                self.index.insert(&keys, group);
                group
            }
        };
        let one = &mut self.groups[group];
        one.members += 1;
        *(if taste.prior { &mut one.prior } else { &mut one.plain }) += 1;
        let place = one.next_idle();
        let member = self.members.add(Member { stream, group, id, taste, from, place });
        one.idle.push(member);
        member
    }

    pub fn leave(&mut self, member: Key) {
        let Member { group: key, taste, place, .. } = self.members.remove(member).expect("it leaves once");
        let group = &mut self.groups[key];
        if let Some(at) = group.idle_at(place) {
            group.idle.swap_remove(at);
            if let Some(moved) = group.idle.get(at) {
                self.members[*moved].place = place;
            }
        }
        group.members -= 1;
        *(if taste.prior { &mut group.prior } else { &mut group.plain }) -= 1;
        if group.members == 0 {
            let group = self.groups.remove(key).expect("just seen");
            self.index.remove(&group.keys);
        } else {
            group.forget_what_was_read();
        }
    }

    /// The next thing that a member of the stream has to be told, one member after the other.
    pub fn take(&mut self, stream: Key) -> Option<Due> {
        while let Some(key) = self.streams[stream].due.pop_front() {
            let Some(member) = self.members.get_mut(key) else { continue };
            let Place::Due { entry: number, next } = member.place else { unreachable!("it is due") };
            let (id, taste, from) = (member.id, member.taste, member.from);
            let group = &mut self.groups[member.group];
            let Some(at) = number.checked_sub(group.base) else {
                self.leave(key);
                return Some(Due::Behind { id, next: next.max(from) });
            };
            let Entry { revision, events } = &group.queue[at as usize];
            let revision = *revision;
            let told = if revision < from {
                Pieces::new()
            } else {
                match events {
                    Events::TooMany => {
                        self.leave(key);
                        return Some(Due::Behind { id, next: revision });
                    }
                    Events::One(event) => chosen(std::slice::from_ref(event), taste),
                    Events::Many(events) => chosen(events, taste),
                }
            };
            member.from = from.max(revision + 1);
            if at as usize + 1 < group.queue.len() {
                member.place = Place::Due { entry: number + 1, next: revision + 1 };
                self.streams[stream].due.push_back(key);
            } else {
                member.place = group.next_idle();
                group.idle.push(key);
                group.forget_what_was_read();
            }
            if !told.is_empty() {
                return Some(Due::Events { id, revision, events: told });
            }
        }
        None
    }

    /// Goes on with telling: looks at about `steps` versions, groups and members. True when at rest.
    pub fn publish(&mut self, history: &Store, steps: usize) -> bool {
        if self.members.len() == 0 {
            // Nobody is left to be told.
            (self.next, self.is_closing) = (None, false);
            self.touched.clear();
            self.waking.clear();
            self.losing = 0;
        }
        let mut left = steps;
        if !self.lose_on(&mut left) {
            return false;
        }
        loop {
            if self.is_closing && !self.close(&mut left) {
                return false;
            }
            let Some(from) = self.next.take() else { break };
            if !self.read_on(history, from, &mut left) {
                return false;
            }
        }
        if !self.wake(&mut left) {
            return false;
        }
        self.told = self.known;
        for stream in std::mem::take(&mut self.awaiting) {
            let Some(stream) = self.streams.get_mut(stream) else { continue };
            stream.is_awaiting = false;
            if let Some(waker) = stream.waker.take() {
                waker.wake();
            }
        }
        true
    }

    /// Matches versions, up to the end of the next revision that concerns somebody. False if there are more steps to take.
    fn read_on(&mut self, history: &Store, from: Pos, left: &mut usize) -> bool {
        for (pos, version) in history.versions_from(from) {
            if version.main > self.known {
                break;
            }
            if version.main != self.open && !self.touched.is_empty() {
                (self.next, self.is_closing) = (Some(pos), true);
                return true;
            }
            if *left == 0 {
                self.next = Some(pos);
                return false;
            }
            self.open = version.main;
            *left = left.saturating_sub(1 + self.tell(history, (pos, &version)));
        }
        self.is_closing = !self.touched.is_empty();
        true
    }

    /// Matches a version; how many groups it concerns.
    fn tell(&mut self, history: &Store, (pos, version): (Pos, &Record<'_>)) -> usize {
        let mut found = std::mem::take(&mut self.found);
        self.index.stab(version.key, |group| found.push(group));
        let count = found.len();
        if count > 0 {
            let (plain, prior) = found.iter().fold((false, false), |(plain, prior), group| {
                let group = &self.groups[*group];
                (plain || group.plain > 0, prior || group.prior > 0)
            });
            let event = Rc::new(Event::new(history, (pos, version), plain, prior, &self.held));
            for key in found.drain(..) {
                let gathered = &mut self.groups[key].gathered;
                if gathered.is_empty() {
                    self.touched.push(key);
                }
                gathered.push(&event);
            }
        }
        self.found = found;
        count
    }

    /// The revision that was being matched is complete: its events go into the queues. True when all have.
    fn close(&mut self, left: &mut usize) -> bool {
        while let Some(key) = self.touched.pop() {
            if *left == 0 {
                self.touched.push(key);
                return false;
            }
            *left -= 1;
            // Everybody may have left since.
            let Some(group) = self.groups.get_mut(key) else { continue };
            let revision = self.open;
            let events = std::mem::take(&mut group.gathered).events();
            let entry = group.base + group.queue.len() as u64;
            group.queue.push_back(Entry { revision, events });
            group.newest = revision;
            self.order.push_back((key, entry));
            if !group.idle.is_empty() {
                let members = group.take_idle();
                self.waking.push(Waking { group: key, entry, revision, members });
            }
        }
        self.is_closing = false;
        self.evict();
        true
    }

    fn evict(&mut self) {
        while self.held.bytes() > limits::WATCH_QUEUED_BYTES
            || self.order.len() > limits::WATCH_QUEUED_ENTRIES
        {
            let Some((key, entry)) = self.order.pop_front() else { break };
            if let Some(group) = self.groups.get_mut(key) {
                group.drop_until(entry);
            }
        }
    }

    /// True when nobody is left to be woken.
    fn wake(&mut self, left: &mut usize) -> bool {
        while let Some(waking) = self.waking.last_mut() {
            while let Some(key) = waking.members.pop() {
                if *left == 0 {
                    waking.members.push(key);
                    return false;
                }
                *left -= 1;
                let Some(member) = self.members.get_mut(key) else { continue };
                member.place = Place::Due { entry: waking.entry, next: waking.revision };
                let stream = &mut self.streams[member.stream];
                stream.due.push_back(key);
                if let Some(waker) = stream.waker.take() {
                    waker.wake();
                }
            }
            let Waking { group, members, .. } = self.waking.pop().expect("just seen");
            if let Some(group) = self.groups.get_mut(group)
                && group.spare.capacity() < members.capacity()
            {
                group.spare = members;
            }
        }
        true
    }

    /// How many revisions are known and not told yet.
    pub fn behind(&self) -> i64 {
        if self.is_at_rest() { 0 } else { self.known - self.told }
    }

    /// The history is another one from now on, or there is too much to tell: all members are behind.
    pub fn lose(&mut self, revision: i64) {
        if self.losing == 0 {
            self.losing_from = self.told + 1;
        }
        self.losing = self.groups.places();
        self.touched.clear();
        self.order.clear();
        (self.next, self.is_closing) = (None, false);
        (self.known, self.told) = (revision, revision);
    }

    /// True when all groups know that they have lost.
    fn lose_on(&mut self, left: &mut usize) -> bool {
        while self.losing > 0 {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            self.losing -= 1;
            let Some(key) = self.groups.key_at(self.losing) else { continue };
            let group = &mut self.groups[key];
            group.gathered = Gathered::default();
            let entry = group.base + group.queue.len() as u64;
            group.queue.clear();
            group.base = entry + 1;
            if !group.idle.is_empty() {
                let members = group.take_idle();
                // Not all was told, and they may have read some of that.
                let revision = self.losing_from.max(group.newest + 1);
                self.waking.push(Waking { group: key, entry, revision, members });
            }
        }
        true
    }
}

impl Group {
    /// Where in the idle list a member of this place is, unless it is elsewhere.
    fn idle_at(&self, place: Place) -> Option<usize> {
        match place {
            Place::Idle { at, list } if list == self.idle_lists => Some(at),
            Place::Idle { .. } | Place::Due { .. } => None,
        }
    }

    /// The place of a member that is put at the end of the idle list.
    fn next_idle(&self) -> Place {
        Place::Idle { at: self.idle.len(), list: self.idle_lists }
    }

    /// All idle members, to be woken: they need not be marked for that one by one.
    fn take_idle(&mut self) -> Vec<Key> {
        self.idle_lists += 1;
        std::mem::replace(&mut self.idle, std::mem::take(&mut self.spare))
    }

    /// All have read everything: nobody needs it any more.
    fn forget_what_was_read(&mut self) {
        if self.idle.len() == self.members {
            self.base += self.queue.len() as u64;
            self.queue.clear();
        }
    }

    fn drop_until(&mut self, entry: u64) {
        while self.base <= entry && self.queue.pop_front().is_some() {
            self.base += 1;
        }
    }
}

/// Those events that are to its taste.
fn chosen(events: &[Rc<Event>], taste: Taste) -> Pieces {
    let events = events.iter().filter(|event| taste.takes(event.is_delete));
    events.map(|event| event.encoded(taste).clone()).collect()
}
