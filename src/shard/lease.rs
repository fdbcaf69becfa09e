//! When leases end, as their leader has it: on the monotonic clock of this run, and in no log.
//!
//! Owned by the loop's parts together: `serve` tells what was granted and what is gone, renews, and says how much time is
//! left; `upkeep` takes what is over and has it revoked. A follower has no times. Whoever becomes leader gives each lease
//! the whole of its time again, or what was last noted of it, and the time of an election on top: nobody knows how much
//! of it went by.
//!
//! Invariants: a lease whose time is over is not renewed any more; it is told of once, and again only if whoever took it
//! puts it back. Times are those of leases in the state: what changes there is told here before anybody else has a turn.

mod wheel;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use crate::{
    env::Instant,
    limits,
    shard::reply::{Answer, Reply, channel},
    state::lease::{Lease, Leases, PAGE_LEASES, Place},
};

use wheel::{Spot, Spots, Wheel};

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    Renewed,
    /// Its time is over, and it is about to be revoked.
    Over,
    /// This member does not lead.
    NotLeading,
}

/// A share of all times. None may be asked for by two at once: each call is over before it returns.
#[derive(Clone)]
pub struct Times(Rc<Shared>);

struct Shared {
    /// Of an election: added to what is left of each lease when a leader begins.
    election: Duration,
    /// What is left of long leases is noted in the log from time to time.
    notes: bool,
    leading: RefCell<Option<Leading>>,
    /// For whom the end of a lease is of interest, and how many of them were there when the list was last cleared.
    waiting: RefCell<BTreeMap<Place, Vec<Reply<()>>>>,
    waits: Cell<bool>,
}

#[derive(Default)]
struct Leading {
    pages: Pages,
    /// When to look at which lease: its end has come by then at the latest, unless it was renewed.
    ending: Wheel,
    /// When to note what is left of which lease.
    noting: Wheel,
    /// The first page whose leases may not have a time yet.
    unvisited: Option<u64>,
}

/// By number of the leases' page.
#[derive(Default)]
struct Pages(BTreeMap<u64, Page>);

struct Page {
    times: Box<[Time; PAGE_LEASES]>,
    /// None where nothing of the page is to be noted.
    noting: Option<Box<[Spot; PAGE_LEASES]>>,
    live: usize,
}

#[derive(Clone, Copy, Default)]
struct Time {
    /// 0 if nothing lies there.
    ends: Instant,
    ending: Spot,
}

/// What the wheels find in them.
struct Ending<'a>(&'a mut Pages);
struct Noting<'a>(&'a mut Pages);

impl Times {
    pub fn new(election: Duration, notes: bool) -> Self {
        Self(Rc::new(Shared {
            election,
            notes,
            leading: RefCell::default(),
            waiting: RefCell::default(),
            waits: Cell::new(false),
        }))
    }

    /// Whether what is left of leases is noted.
    pub fn notes(&self) -> bool {
        self.0.notes
    }

    /// This member leads from now on; [`Times::visit`] is to be called until all leases have their time.
    pub fn lead(&self) {
        *self.0.leading.borrow_mut() = Some(Leading { unvisited: Some(0), ..Leading::default() });
    }

    /// It leads no more.
    pub fn follow(&self) {
        *self.0.leading.borrow_mut() = None;
        self.0.waits.set(false);
        drop(self.0.waiting.take());
    }

    /// Gives the leases of the next `pages` pages their time. False if all have it, or nobody asks this member.
    pub fn visit(&self, leases: &Leases, now: Instant, pages: usize) -> bool {
        let mut leading = self.0.leading.borrow_mut();
        let Some(leading) = &mut *leading else { return false };
        let Some(mut next) = leading.unvisited.take() else { return false };
        for _ in 0..pages {
            let Some((number, page)) = leases.page_from(next) else { return false };
            for (slot, lease) in page {
                let place = Place::of(number, slot);
                if leading.ends(place).is_none() {
                    let left = match lease.remaining {
                        0 => lease.ttl,
                        noted => noted.min(lease.ttl),
                    };
                    leading.begin(place, now.after(seconds(left) + self.0.election), now);
                    self.note_later(leading, place, left, now);
                }
            }
            next = number + 1;
        }
        leading.unvisited = Some(next);
        true
    }

    /// A lease was granted.
    pub fn granted(&self, place: Place, lease: Lease, now: Instant) {
        if let Some(leading) = &mut *self.0.leading.borrow_mut() {
            leading.begin(place, now.after(seconds(lease.ttl)), now);
            self.note_later(leading, place, lease.ttl, now);
        }
    }

    /// A lease is gone.
    pub fn gone(&self, place: Place) {
        if let Some(leading) = &mut *self.0.leading.borrow_mut() {
            leading.end(place);
        }
        if self.0.waits.get() {
            let mut waiting = self.0.waiting.borrow_mut();
            let replies = waiting.remove(&place);
            self.0.waits.set(!waiting.is_empty());
            drop(waiting);
            replies.into_iter().flatten().for_each(|reply| reply.send(()));
        }
    }

    /// The lease has all of its time again, unless that is over.
    pub fn renew(&self, place: Place, ttl: i64, now: Instant) -> Renewal {
        let mut leading = self.0.leading.borrow_mut();
        let Some(leading) = &mut *leading else { return Renewal::NotLeading };
        let ends = now.after(seconds(ttl));
        match leading.pages.time_mut(place) {
            Some(time) if time.ends <= now => return Renewal::Over,
            Some(time) => {
                time.ends = ends;
                // Found in an earlier slot, it is put off; in a later one, it would be found too late.
                if wheel::due(ends) < time.ending.slot() {
                    leading.look(place, ends, now);
                }
            }
            None => {
                leading.begin(place, ends, now);
                self.note_later(leading, place, ttl, now);
            }
        }
        Renewal::Renewed
    }

    /// When the lease ends. None if this member does not lead, or has not come to it yet.
    pub fn ends(&self, place: Place) -> Option<Instant> {
        self.0.leading.borrow().as_ref()?.ends(place)
    }

    /// Answered once the lease that lies there is gone; not, if this member leads no more.
    pub fn gone_later(&self, place: Place) -> Answer<()> {
        let (reply, answer) = channel();
        let mut waiting = self.0.waiting.borrow_mut();
        let replies = waiting.entry(place).or_default();
        if replies.len().is_power_of_two() {
            replies.retain(Reply::is_awaited);
        }
        replies.push(reply);
        self.0.waits.set(true);
        answer
    }

    /// Adds leases whose time is over to `over`, up to `leases` of them, oldest first; looks at up to `visits`. False if
    /// there is nothing more to look at now.
    pub fn take_over(&self, now: Instant, visits: usize, leases: usize, over: &mut Vec<Place>) -> bool {
        let mut leading = self.0.leading.borrow_mut();
        let Some(leading) = &mut *leading else { return false };
        for _ in 0..visits {
            if over.len() >= leases {
                return true;
            }
            let Leading { pages, ending, .. } = leading;
            let Some(place) = ending.take(&mut Ending(pages), now) else { return false };
            match leading.ends(place).expect("it leaves the wheel with its time") {
                ends if ends <= now => over.push(place),
                ends => leading.look(place, ends, now),
            }
        }
        true
    }

    /// Those that were taken and are still there are taken again, not before `at`.
    pub fn put_back(&self, over: &[Place], at: Instant, now: Instant) {
        if let Some(leading) = &mut *self.0.leading.borrow_mut() {
            for place in over {
                if leading.ends(*place).is_some_and(|ends| ends <= now) {
                    leading.look(*place, at, now);
                }
            }
        }
    }

    /// When there may be something to take.
    pub fn next(&self) -> Option<Instant> {
        self.0.leading.borrow().as_ref()?.ending.next()
    }

    fn note_later(&self, leading: &mut Leading, place: Place, left: i64, now: Instant) {
        if self.0.notes && seconds(left) > limits::LEASE_NOTE_INTERVAL {
            leading.note(place, now.after(limits::LEASE_NOTE_INTERVAL));
        }
    }

    /// What is left of leases and is to be noted now: id and seconds, of `leases` leases at most, out of `visits`.
    pub fn take_to_note(
        &self,
        known: &Leases,
        now: Instant,
        visits: usize,
        leases: usize,
    ) -> Vec<(i64, i64)> {
        let mut notes = Vec::new();
        let mut leading = self.0.leading.borrow_mut();
        let Some(leading) = &mut *leading else { return notes };
        for _ in 0..visits {
            if notes.len() >= leases {
                break;
            }
            let Leading { pages, noting, .. } = leading;
            let Some(place) = noting.take(&mut Noting(pages), now) else { break };
            let ends = leading.ends(place).expect("it leaves the wheel with its time");
            let Some(lease) = known.at(place) else { continue };
            let left = ends.since(now);
            let rounded_up = left.as_secs() as i64 + i64::from(left.subsec_nanos() > 0);
            if rounded_up > 0 && rounded_up < lease.ttl {
                notes.push((lease.id, rounded_up));
            }
            if left > limits::LEASE_NOTE_INTERVAL || rounded_up >= lease.ttl {
                leading.note(place, now.after(limits::LEASE_NOTE_INTERVAL));
            }
        }
        notes
    }
}

impl Leading {
    fn ends(&self, place: Place) -> Option<Instant> {
        let ends = self.pages.0.get(&place.page())?.times[place.slot()].ends;
        (ends != Instant(0)).then_some(ends)
    }

    /// A lease that has no time yet ends then.
    fn begin(&mut self, place: Place, ends: Instant, now: Instant) {
        let empty = || Page { times: Box::new([Time::default(); PAGE_LEASES]), noting: None, live: 0 };
        let page = self.pages.0.entry(place.page()).or_insert_with(empty);
        let time = &mut page.times[place.slot()];
        page.live += usize::from(time.ends == Instant(0));
        time.ends = ends.max(Instant(1));
        self.look(place, ends, now);
    }

    fn look(&mut self, place: Place, at: Instant, now: Instant) {
        self.ending.put(&mut Ending(&mut self.pages), place, at, now);
    }

    fn note(&mut self, place: Place, at: Instant) {
        self.noting.put_exactly(&mut Noting(&mut self.pages), place, at);
    }

    fn end(&mut self, place: Place) {
        // Most leases leave the wheel first: it is not asked for those.
        let Some(time) = self.pages.time_mut(place) else { return };
        if time.ending != Spot::default() {
            self.ending.remove(&mut Ending(&mut self.pages), place);
        }
        if self.pages.page(place).noting.is_some() {
            self.noting.remove(&mut Noting(&mut self.pages), place);
        }
        let page = self.pages.page(place);
        page.times[place.slot()] = Time::default();
        page.live -= 1;
        if page.live == 0 {
            self.pages.0.remove(&place.page());
        }
    }
}

impl Pages {
    fn time_mut(&mut self, place: Place) -> Option<&mut Time> {
        let time = &mut self.0.get_mut(&place.page())?.times[place.slot()];
        (time.ends != Instant(0)).then_some(time)
    }

    fn page(&mut self, place: Place) -> &mut Page {
        self.0.get_mut(&place.page()).expect("a lease that has a time has its page")
    }
}

impl Spots for Ending<'_> {
    fn spot(&mut self, place: Place) -> &mut Spot {
        &mut self.0.page(place).times[place.slot()].ending
    }
}

impl Spots for Noting<'_> {
    fn spot(&mut self, place: Place) -> &mut Spot {
        let none = || Box::new([Spot::default(); PAGE_LEASES]);
        &mut self.0.page(place).noting.get_or_insert_with(none)[place.slot()]
    }
}

/// A lease that a backup has may be of any time.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests;
