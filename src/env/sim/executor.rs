//! Runs tasks in an order drawn from the seed, on a clock that only moves when nothing can run.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;

use super::{Faults, Rng, clock::Clock, links::Held, sockets::Ports};
use crate::{
    env::{Instant, Law},
    types::{MemberId, ShardId},
};

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Inbox = Rc<dyn Fn(MemberId, Bytes)>;

/// Woken task ids. A waker must be `Send`, so this is shared the thread-safe way; nobody contends.
type Runnable = Arc<Mutex<Vec<u64>>>;

struct TaskWaker {
    id: u64,
    runnable: Runnable,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut runnable = self.runnable.lock().expect("no task panics while holding it");
        if !runnable.contains(&self.id) {
            runnable.push(self.id);
        }
    }
}

struct World {
    now: Cell<u64>,
    rng: RefCell<Rng>,
    next_id: Cell<u64>,
    /// A task being polled is taken out of its slot for the while.
    tasks: RefCell<BTreeMap<u64, (MemberId, Option<Task>)>>,
    runnable: Runnable,
    /// Members that do nothing for now, and their tasks that would.
    paused: RefCell<BTreeSet<MemberId>>,
    stalled: RefCell<Vec<(MemberId, u64)>>,
    /// By time, then by order of arming.
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    inboxes: RefCell<BTreeMap<(MemberId, ShardId), Inbox>>,
    faults: RefCell<Rc<Faults>>,
    /// Whose task had the last turn.
    ran: Cell<MemberId>,
    held: RefCell<Vec<Held>>,
    clocks: RefCell<BTreeMap<MemberId, Clock>>,
    broken: Cell<Option<Law>>,
    ports: Ports,
}

/// The world. Cheap to clone.
#[derive(Clone)]
pub struct Sim(Rc<World>);

impl Sim {
    pub fn new(seed: u64) -> Self {
        Sim(Rc::new(World {
            now: Cell::new(0),
            rng: RefCell::new(Rng::new(seed)),
            next_id: Cell::new(0),
            tasks: RefCell::default(),
            runnable: Runnable::default(),
            timers: RefCell::default(),
            inboxes: RefCell::default(),
            faults: RefCell::default(),
            ran: Cell::default(),
            paused: RefCell::default(),
            stalled: RefCell::default(),
            held: RefCell::default(),
            clocks: RefCell::default(),
            broken: Cell::default(),
            ports: Ports::default(),
        }))
    }

    pub fn now(&self) -> Instant {
        Instant(self.0.now.get())
    }

    pub fn random_u64(&self) -> u64 {
        self.0.rng.borrow_mut().next_u64()
    }

    /// A number in `0..bound` from the world's one stream.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.rng.borrow_mut().below(bound)
    }

    pub fn chance(&self, permille: u64) -> bool {
        self.0.rng.borrow_mut().chance(permille)
    }

    pub fn faults(&self) -> Rc<Faults> {
        self.0.faults.borrow().clone()
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.0.faults.borrow_mut() = Rc::new(faults);
        self.unclog();
    }

    pub(super) fn held(&self) -> &RefCell<Vec<Held>> {
        &self.0.held
    }

    /// The members break this law from now on.
    pub fn break_law(&self, law: Law) {
        self.0.broken.set(Some(law));
    }

    pub(super) fn breaks(&self, law: Law) -> bool {
        self.0.broken.get() == Some(law)
    }

    /// How fast a member's clock goes from now on, in thousandths of the right pace, and how far ahead its time of day
    /// is. What it waits for already takes as long as it would have.
    pub fn set_clock(&self, member: MemberId, pace_permille: u64, ahead: Duration) {
        let now = self.now();
        self.0.clocks.borrow_mut().entry(member).or_default().set(now, pace_permille, ahead);
    }

    pub(super) fn clock(&self, member: MemberId) -> Clock {
        self.0.clocks.borrow().get(&member).copied().unwrap_or_default()
    }

    /// The member does nothing until it is resumed or crashes; what is sent to it waits, and its disk goes on.
    pub fn pause(&self, member: MemberId) {
        self.0.paused.borrow_mut().insert(member);
    }

    pub fn resume(&self, member: MemberId) {
        self.0.paused.borrow_mut().remove(&member);
        let mut runnable = self.0.runnable.lock().expect("no task panics while holding it");
        self.0.stalled.borrow_mut().retain(|(of, id)| {
            let goes_on = *of == member;
            if goes_on && !runnable.contains(id) {
                runnable.push(*id);
            }
            !goes_on
        });
    }

    pub fn is_paused(&self, member: MemberId) -> bool {
        self.0.paused.borrow().contains(&member)
    }

    pub(super) fn ports(&self) -> &Ports {
        &self.0.ports
    }

    fn new_id(&self) -> u64 {
        let id = self.0.next_id.get();
        self.0.next_id.set(id + 1);
        id
    }

    fn waker(&self, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { id, runnable: self.0.runnable.clone() }))
    }

    pub fn spawn(&self, member: MemberId, task: impl Future<Output = ()> + 'static) {
        let id = self.new_id();
        self.0.tasks.borrow_mut().insert(id, (member, Some(Box::pin(task))));
        self.waker(id).wake();
    }

    pub fn sleep(&self, duration: Duration) -> Sleep {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Sleep { sim: self.clone(), until: self.0.now.get().saturating_add(nanos), armed: None }
    }

    /// Where frames to a shard of `member` go from now on.
    pub fn listen(&self, member: MemberId, shard: ShardId, inbox: impl Fn(MemberId, Bytes) + 'static) {
        self.0.inboxes.borrow_mut().insert((member, shard), Rc::new(inbox));
    }

    pub(super) fn deliver(&self, (from, to): (MemberId, MemberId), shard: ShardId, frame: Bytes) {
        let inbox = self.0.inboxes.borrow().get(&(to, shard)).cloned();
        if let Some(inbox) = inbox {
            inbox(from, frame);
        }
    }

    /// Stops a member where it stands. Its disk is the caller's to crash.
    pub fn crash(&self, member: MemberId) {
        self.0.inboxes.borrow_mut().retain(|(owner, _), _| *owner != member);
        self.0.paused.borrow_mut().remove(&member);
        self.0.stalled.borrow_mut().retain(|(of, _)| *of != member);
        let mut tasks = self.0.tasks.borrow_mut();
        let gone: Vec<u64> = tasks.iter().filter(|(_, (m, _))| *m == member).map(|(id, _)| *id).collect();
        let dropped: Vec<_> = gone.iter().filter_map(|id| tasks.remove(id)).collect();
        // A task's drop may spawn or wake: not while the map is borrowed.
        drop(tasks);
        drop(dropped);
    }

    /// One step: polls a runnable task, or moves the clock to the next timer. False if the world is
    /// at rest for good.
    pub fn step(&self) -> bool {
        let Some(id) = self.pick() else {
            self.0.ran.set(MemberId(0));
            return self.fire_timer();
        };
        let taken = self.0.tasks.borrow_mut().get_mut(&id).and_then(|(of, slot)| Some((*of, slot.take()?)));
        // Absent: woken after it ended, or its member crashed.
        let Some((of, mut task)) = taken else { return true };
        self.0.ran.set(of);
        let waker = self.waker(id);
        let done = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.0.tasks.borrow_mut();
        match tasks.get_mut(&id) {
            Some((_, slot)) if !done => *slot = Some(task),
            _ => {
                tasks.remove(&id);
                drop(tasks);
                drop(task);
            }
        }
        true
    }

    /// Whose task had a turn in the last step; of no member if it moved the clock.
    pub fn ran(&self) -> MemberId {
        self.0.ran.get()
    }

    fn pick(&self) -> Option<u64> {
        let mut runnable = self.0.runnable.lock().expect("no task panics while holding it");
        while !runnable.is_empty() {
            let at = self.below(runnable.len() as u64) as usize;
            let id = runnable.remove(at);
            match self.0.tasks.borrow().get(&id) {
                Some((member, _)) if self.is_paused(*member) => {
                    self.0.stalled.borrow_mut().push((*member, id));
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn fire_timer(&self) -> bool {
        let Some(((when, _), waker)) = self.0.timers.borrow_mut().pop_first() else { return false };
        self.0.now.set(self.0.now.get().max(when));
        waker.wake();
        true
    }

    /// Steps until `done`, or `steps_max` times, or until nothing can happen; whether it is done.
    pub fn run_until(&self, steps_max: u64, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..steps_max {
            if done() {
                return true;
            }
            if !self.step() {
                break;
            }
        }
        done()
    }
}

/// A timer of the simulated clock.
pub struct Sleep {
    sim: Sim,
    until: u64,
    armed: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.sim.0.now.get() >= self.until {
            return Poll::Ready(());
        }
        let id = self.armed.unwrap_or_else(|| self.sim.new_id());
        self.armed = Some(id);
        self.sim.0.timers.borrow_mut().insert((self.until, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.armed {
            self.sim.0.timers.borrow_mut().remove(&(self.until, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members that sleep and note who woke when.
    fn trace(seed: u64) -> Vec<(u64, u64)> {
        let sim = Sim::new(seed);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for member in [1, 2, 3] {
            let (sim2, seen) = (sim.clone(), seen.clone());
            sim.spawn(MemberId(member), async move {
                for _ in 0..5 {
                    sim2.sleep(Duration::from_micros(sim2.below(100))).await;
                    seen.borrow_mut().push((member, sim2.now().0));
                }
            });
        }
        assert!(!sim.run_until(10_000, || false));
        seen.take()
    }

    #[test]
    fn a_seed_replays_and_another_differs() {
        assert_eq!(trace(1), trace(1));
        assert_ne!(trace(1), trace(2));
        assert_eq!(trace(1).len(), 15);
    }

    #[test]
    fn a_paused_member_goes_on_where_it_stopped() {
        let sim = Sim::new(1);
        let count = Rc::new(Cell::new(0));
        for member in [1, 2] {
            let (sim2, count2) = (sim.clone(), count.clone());
            sim.spawn(MemberId(member), async move {
                for _ in 0..10 {
                    sim2.sleep(Duration::from_millis(1)).await;
                    count2.set(count2.get() + member);
                }
            });
        }
        assert!(sim.run_until(10_000, || count.get() >= 6));
        sim.pause(MemberId(2));
        let before = count.get();
        sim.run_until(10_000, || false);
        assert!(count.get() > before && count.get() < 10 + 20);
        sim.resume(MemberId(2));
        sim.run_until(10_000, || false);
        assert_eq!(count.get(), 10 + 20);
    }

    #[test]
    fn a_crashed_member_stops_where_it_stands() {
        let sim = Sim::new(1);
        let count = Rc::new(Cell::new(0));
        let (sim2, count2) = (sim.clone(), count.clone());
        sim.spawn(MemberId(1), async move {
            loop {
                sim2.sleep(Duration::from_millis(1)).await;
                count2.set(count2.get() + 1);
            }
        });
        assert!(sim.run_until(10_000, || count.get() == 3));
        sim.crash(MemberId(1));
        assert!(!sim.run_until(10_000, || count.get() > 3));
        assert_eq!(Rc::strong_count(&count), 1, "the task's state is gone");
    }
}
