//! Long reads of one core, one slice at a time.
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
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::env::Env;

/// Too short to be waited for, and long enough to be over only when the core looks again.
const PAUSE: Duration = Duration::from_nanos(500);

/// How long a slice may be held up by log writes, and how often it looks whether they are over.
const WRITE_PATIENCE: u32 = 20;
const WRITE_PAUSE: Duration = Duration::from_micros(50);

type Task = Pin<Box<dyn Future<Output = ()>>>;

pub(in crate::shard) struct Turnstile {
    pause: Box<dyn Fn(Duration) -> Task>,
    spawn: Box<dyn Fn(Task)>,
    log_is_busy: Box<dyn Fn() -> bool>,
    next: Cell<u64>,
    /// First come, first served; the first one has the slice.
    queue: RefCell<VecDeque<(u64, Option<Waker>)>>,
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

    /// Waits for a slice, which lasts until what it returns is dropped.
    pub(in crate::shard) async fn pass(&self) -> Slice<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        self.queue.borrow_mut().push_back((id, None));
        let slice = Slice { turnstile: self, id };
        poll_fn(|context| slice.poll_first(context)).await;
        (self.pause)(PAUSE).await;
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
    id: u64,
}

impl Slice<'_> {
    fn poll_first(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.turnstile.queue.borrow_mut();
        if queue.front().is_some_and(|(first, _)| *first == self.id) {
            return Poll::Ready(());
        }
        let place = queue.iter_mut().find(|(id, _)| *id == self.id).expect("in the queue until dropped");
        place.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        let mut queue = self.turnstile.queue.borrow_mut();
        let at = queue.iter().position(|(id, _)| *id == self.id).expect("in the queue until dropped");
        queue.remove(at);
        let next = if at == 0 { queue.front_mut().and_then(|(_, waker)| waker.take()) } else { None };
        drop(queue);
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(turnstile.queue.borrow().is_empty());
    }
}
