//! Long reads of one core, one slice at a time.
//!
//! Whose reads they are take turns: a thousand lists of one client are as long in coming as one list of another's is
//! quick.
//!
//! However many there are, between two slices the core looks for finished I/O and runs what that woke: a write waits
//! for one slice at most at each of its steps. With nothing else to do, slices follow one another at once.
//!
//! While the log writes, slices wait, for a bounded time: an idle core notices the end of a write at once, and on a
//! virtual machine it leaves the processor to whoever carries the write out. Under a load of lists a durable write took
//! 4 ms without that, against 0.2 ms.
//!
//! A queue of its own with few shares would not do: the executor looks for finished I/O only when no queue has
//! anything to run, or when its preemption timer fires.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{client::Client, env::Env, limits};

/// How long a slice may be held up by log writes, and how often it looks whether they are over.
const WRITE_PATIENCE: u32 = 20;
const WRITE_PAUSE: Duration = Duration::from_micros(50);

type Task = Pin<Box<dyn Future<Output = ()>>>;

pub(in crate::shard) struct Turnstile {
    pause: Box<dyn Fn(Duration) -> Task>,
    spawn: Box<dyn Fn(Task)>,
    log_is_busy: Box<dyn Fn() -> bool>,
    next: Cell<u64>,
    queue: RefCell<Queue>,
}

/// The member's own reads are nobody's.
const OWN: u64 = 0;

/// Who has the slice, and who waits for one.
#[derive(Default)]
struct Queue {
    holder: Option<u64>,
    /// First come, first served, for each of those whose turn comes.
    waiting: BTreeMap<u64, VecDeque<(u64, Option<Waker>)>>,
    /// Each of them once, in the order of their turns.
    turns: VecDeque<u64>,
}

impl Queue {
    /// Takes the slice if nobody has it, else a place.
    fn join(&mut self, owner: u64, id: u64) {
        if self.holder.is_none() {
            self.holder = Some(id);
            return;
        }
        let waiting = self.waiting.entry(owner).or_insert_with(|| {
            self.turns.push_back(owner);
            VecDeque::new()
        });
        waiting.push_back((id, None));
    }

    /// Where whoever waits leaves its waker.
    fn place(&mut self, owner: u64, id: u64) -> Option<&mut Option<Waker>> {
        let waiting = self.waiting.get_mut(&owner)?;
        // Numbers ascend.
        let at = waiting.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&mut waiting[at].1)
    }

    /// Leaves; whoever has the slice then, if that has changed.
    fn leave(&mut self, owner: u64, id: u64) -> Option<Waker> {
        if self.holder == Some(id) {
            return self.pass_on();
        }
        let waiting = self.waiting.get_mut(&owner).expect("in the queue until dropped");
        let at = waiting.binary_search_by_key(&id, |(id, _)| *id).expect("in the queue until dropped");
        waiting.remove(at);
        None
    }

    fn pass_on(&mut self) -> Option<Waker> {
        self.holder = None;
        while let Some(owner) = self.turns.pop_front() {
            let waiting = self.waiting.get_mut(&owner).expect("whoever has a turn may wait");
            let first = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&owner);
            } else {
                self.turns.push_back(owner);
            }
            // All of them may have given up.
            if let Some((id, waker)) = first {
                self.holder = Some(id);
                return waker;
            }
        }
        None
    }
}

impl Turnstile {
    pub(in crate::shard) fn new<E: Env>(env: E, log_is_busy: impl Fn() -> bool + 'static) -> Rc<Self> {
        let timer = env.clone();
        let pause = Box::new(move |time| Box::pin(timer.sleep(time)) as Task);
        let spawn = Box::new(move |task| env.spawn(task));
        let log_is_busy = Box::new(log_is_busy);
        Rc::new(Self { pause, spawn, log_is_busy, next: Cell::new(0), queue: RefCell::default() })
    }

    /// Begins something that nobody waits for.
    pub(in crate::shard) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        (self.spawn)(Box::pin(task));
    }

    /// Over after a time.
    pub(in crate::shard) fn sleep(&self, time: Duration) -> Task {
        (self.pause)(time)
    }

    /// Waits for a slice, which lasts until what it returns is dropped.
    pub(in crate::shard) async fn pass(&self) -> Slice<'_> {
        self.pass_as(OWN).await
    }

    /// The same on behalf of a client.
    pub(in crate::shard) async fn pass_for(&self, client: &Client) -> Slice<'_> {
        self.pass_as(client.id()).await
    }

    async fn pass_as(&self, owner: u64) -> Slice<'_> {
        let id = self.next.replace(self.next.get() + 1);
        self.queue.borrow_mut().join(owner, id);
        let slice = Slice { turnstile: self, owner, id };
        poll_fn(|context| slice.poll_holder(context)).await;
        (self.pause)(limits::TURN_PAUSE).await;
        for _ in 0..WRITE_PATIENCE {
            if !(self.log_is_busy)() {
                break;
            }
            (self.pause)(WRITE_PAUSE).await;
        }
        slice
    }
}

/// A place in the queue, and at its head the right to a slice.
pub(in crate::shard) struct Slice<'a> {
    turnstile: &'a Turnstile,
    owner: u64,
    id: u64,
}

impl Slice<'_> {
    fn poll_holder(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.turnstile.queue.borrow_mut();
        if queue.holder == Some(self.id) {
            return Poll::Ready(());
        }
        let place = queue.place(self.owner, self.id).expect("in the queue until dropped");
        *place = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        let next = self.turnstile.queue.borrow_mut().leave(self.owner, self.id);
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Clients;

    fn noop() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn turnstile() -> Turnstile {
        Turnstile {
            pause: Box::new(|_| Box::pin(std::future::ready(()))),
            spawn: Box::new(|_| unreachable!("nothing is begun")),
            log_is_busy: Box::new(|| false),
            next: Cell::new(0),
            queue: RefCell::default(),
        }
    }

    #[test]
    fn slices_are_granted_one_by_one_in_order() {
        let turnstile = turnstile();
        let mut passes: Vec<_> = (0..3).map(|_| Box::pin(turnstile.pass())).collect();
        let Poll::Ready(first) = passes[0].as_mut().poll(&mut noop()) else { panic!("nobody else waits") };
        assert!(passes[1].as_mut().poll(&mut noop()).is_pending());
        assert!(passes[2].as_mut().poll(&mut noop()).is_pending());
        drop(first);
        assert!(passes[2].as_mut().poll(&mut noop()).is_pending());
        let Poll::Ready(second) = passes[1].as_mut().poll(&mut noop()) else { panic!("the next in line") };
        drop(second);
        assert!(passes[2].as_mut().poll(&mut noop()).is_ready());
    }

    #[test]
    fn whoever_gives_up_holds_up_nobody() {
        let turnstile = turnstile();
        let mut passes: Vec<_> = (0..4).map(|_| Box::pin(turnstile.pass())).collect();
        let Poll::Ready(first) = passes[0].as_mut().poll(&mut noop()) else { panic!("nobody else waits") };
        for pass in &mut passes[1..] {
            assert!(pass.as_mut().poll(&mut noop()).is_pending());
        }
        drop(passes.remove(2));
        drop(first);
        drop(passes.remove(1));
        assert!(passes[1].as_mut().poll(&mut noop()).is_ready());
        drop(passes);
        let queue = turnstile.queue.borrow();
        assert!(queue.holder.is_none() && queue.waiting.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn clients_take_turns_however_many_reads_one_of_them_has() {
        let (turnstile, clients) = (turnstile(), Clients::default());
        let (many, few, given_up) = (clients.client(), clients.client(), clients.client());
        let mut of_many: Vec<_> = (0..100).map(|_| Box::pin(turnstile.pass_for(&many))).collect();
        let Poll::Ready(mut slice) = of_many[0].as_mut().poll(&mut noop()) else {
            panic!("nobody else waits")
        };
        assert!(of_many[1..].iter_mut().all(|pass| pass.as_mut().poll(&mut noop()).is_pending()));
        let mut leaving = Box::pin(turnstile.pass_for(&given_up));
        assert!(leaving.as_mut().poll(&mut noop()).is_pending());
        drop(leaving);
        let mut served = 0;
        // A read of many slices, next to a hundred others: every second slice is its.
        for _ in 0..40 {
            let mut pass = Box::pin(turnstile.pass_for(&few));
            assert!(pass.as_mut().poll(&mut noop()).is_pending());
            drop(slice);
            served += 1;
            let Poll::Ready(between) = of_many[served].as_mut().poll(&mut noop()) else { panic!("its turn") };
            assert!(pass.as_mut().poll(&mut noop()).is_pending());
            drop(between);
            let Poll::Ready(mine) = pass.as_mut().poll(&mut noop()) else { panic!("its turn") };
            slice = mine;
        }
        drop(slice);
        drop(of_many);
        assert!(turnstile.queue.borrow().holder.is_none());
    }
}
