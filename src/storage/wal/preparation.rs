//! The next segment, made ready in the background while the current one fills.
//!
//! Owned by the log and by one task. It goes slowly, so that the log does not feel it, until the log has
//! to wait for it. A segment that left the log is used again if there is one: that is one small write
//! instead of a file full of zeros, and needs no space. A full disk shows here first: it is tried again
//! for as long as the log can do without.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    WalError,
    retirement::Retirement,
    segment::{self, FileOf, Pace, Segment, SegmentSpec},
};
use crate::env::Env;

/// Time until a failed preparation is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The next segment while it is being made ready. Shared by the log and the background task.
pub struct Preparation<E: Env> {
    epoch: u64,
    pace: Pace,
    state: RefCell<State<E>>,
}

enum State<E: Env> {
    Working { waker: Option<Waker> },
    Ready(Rc<Segment<FileOf<E>>>),
    Failed(Option<WalError>),
}

impl<E: Env> Preparation<E> {
    /// A segment that is ready already.
    pub fn done(segment: Segment<FileOf<E>>) -> Rc<Self> {
        let epoch = segment.header.epoch;
        let state = RefCell::new(State::Ready(Rc::new(segment)));
        Rc::new(Self { epoch, pace: Pace::default(), state })
    }

    /// Starts the background task. It holds no borrow of the log and ends by itself.
    pub fn start(env: &E, spec: SegmentSpec, retirement: &Rc<Retirement<E>>) -> Rc<Self> {
        let preparation = Rc::new(Preparation {
            epoch: spec.epoch,
            pace: Pace { slow: Cell::new(true), stopped: Cell::new(false) },
            state: RefCell::new(State::Working { waker: None }),
        });
        let task = Rc::clone(&preparation);
        let (env_of_task, retirement) = (env.clone(), Rc::clone(retirement));
        env.spawn(async move { task.run(&env_of_task, &spec, &retirement).await });
        preparation
    }

    async fn run(&self, env: &E, spec: &SegmentSpec, retirement: &Rc<Retirement<E>>) {
        let mut warned = false;
        let outcome = loop {
            match self.make(env, spec, retirement).await {
                // Nobody waits yet: what is wrong (a full disk) may pass before it matters.
                Err(error) if self.pace.slow.get() && !self.pace.stopped.get() => {
                    if !warned {
                        tracing::warn!(%error, "the next log segment cannot be prepared yet, trying on");
                        warned = true;
                    }
                    env.sleep(RETRY_PAUSE).await;
                }
                other => break other,
            }
        };
        let state = match outcome {
            Ok(segment) => State::Ready(Rc::new(segment)),
            Err(error) => State::Failed(Some(error)),
        };
        if let State::Working { waker: Some(waker) } = self.state.replace(state) {
            waker.wake();
        }
    }

    async fn make(
        &self,
        env: &E,
        spec: &SegmentSpec,
        retirement: &Rc<Retirement<E>>,
    ) -> Result<Segment<FileOf<E>>, WalError> {
        if let Some(spare) = retirement.take_spare() {
            match segment::recycle(env, spec, &spare.path).await {
                Ok(segment) => return Ok(segment),
                Err(error) => {
                    tracing::warn!(%error, "an old log segment cannot be used again, making a new one");
                    retirement.discard(spare);
                }
            }
        }
        segment::fill_and_name(env, spec, &self.pace).await
    }

    /// Epoch of the segment, known before the segment is there.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Waits for the segment, which from now on is made at full speed. One waiter; a failure is handed
    /// out once.
    pub async fn wait(&self) -> Result<Rc<Segment<FileOf<E>>>, WalError> {
        self.pace.slow.set(false);
        poll_fn(|context| match &mut *self.state.borrow_mut() {
            State::Working { waker } => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            State::Ready(segment) => Poll::Ready(Ok(Rc::clone(segment))),
            State::Failed(error) => {
                Poll::Ready(Err(error.take().expect("a failed preparation is asked once")))
            }
        })
        .await
    }

    /// Ends the background task early and waits until it has let go of its file.
    pub async fn stop(self: Rc<Self>) -> Result<(), WalError> {
        self.pace.stopped.set(true);
        match self.wait().await {
            Ok(segment) => {
                drop(self.state.replace(State::Failed(None)));
                segment::close(segment).await
            }
            // It was told to stop, or it failed at something nobody needs any more.
            Err(_) => Ok(()),
        }
    }
}
