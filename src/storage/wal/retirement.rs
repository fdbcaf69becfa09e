//! Segments that left the log: the next ones are made of them, or their space is given back.
//!
//! Owned by the log and by one background task, which ends when there is nothing left to do. Nothing
//! waits for it but the closing of the log.
//!
//! Invariants:
//! - segments lose their names from the oldest on, each durably before the next: what a crash leaves is
//!   always a contiguous run
//! - a file is written or truncated only after it durably lost its name as a segment, so that no crash
//!   leaves a segment with other content
//! - at most [`limits::WAL_SPARE_SEGMENTS`] are kept; a restart removes them with all unfinished files

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    path::{Path, PathBuf},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{WalError, extent::Kept, segment};
use crate::{
    env::{Disk, Env, remove_in_steps},
    limits,
};

/// Time until something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A file under an unfinished name, fully written and no longer part of the log.
#[derive(Debug)]
pub struct Spare {
    pub path: PathBuf,
}

enum Leaving {
    /// Still has its name.
    Segment { sequence: u64, bytes: u64 },
    /// Lost it already and is of no further use.
    Unused(Spare),
}

pub struct Retirement<E: Env> {
    env: E,
    dir: PathBuf,
    /// Size of the segments that are still made.
    segment_bytes: u64,
    leaving: RefCell<VecDeque<Leaving>>,
    spares: RefCell<Vec<Spare>>,
    working: Cell<bool>,
    stopped: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl<E: Env> Retirement<E> {
    pub fn new(env: &E, dir: &Path, segment_bytes: u64) -> Rc<Self> {
        Rc::new(Self {
            env: env.clone(),
            dir: dir.to_path_buf(),
            segment_bytes,
            leaving: RefCell::default(),
            spares: RefCell::default(),
            working: Cell::new(false),
            stopped: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// Takes segments out of the log, the oldest first. Returns at once.
    pub fn release(self: &Rc<Self>, segments: Vec<Kept>) {
        for Kept { sequence, bytes, .. } in segments {
            self.leaving.borrow_mut().push_back(Leaving::Segment { sequence, bytes });
        }
        self.work();
    }

    /// A file the next segment can be made of.
    pub fn take_spare(&self) -> Option<Spare> {
        self.spares.borrow_mut().pop()
    }

    /// Takes back a spare no segment could be made of.
    pub fn discard(self: &Rc<Self>, spare: Spare) {
        self.leaving.borrow_mut().push_back(Leaving::Unused(spare));
        self.work();
    }

    /// Ends the background task early and waits until it has let go of its files. What it did not get
    /// to is still part of the log, or is removed by the next start.
    pub async fn stop(&self) {
        self.stopped.set(true);
        poll_fn(|context| {
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            if self.working.get() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn work(self: &Rc<Self>) {
        if self.working.get() || self.stopped.get() || self.leaving.borrow().is_empty() {
            return;
        }
        self.working.set(true);
        let task = Rc::clone(self);
        self.env.spawn(async move {
            while let Some(next) = task.next() {
                task.retire(next).await;
            }
            task.working.set(false);
            if let Some(waiting) = task.waiting.take() {
                waiting.wake();
            }
        });
    }

    fn next(&self) -> Option<Leaving> {
        if self.stopped.get() { None } else { self.leaving.borrow_mut().pop_front() }
    }

    async fn retire(&self, leaving: Leaving) {
        let unused = match leaving {
            Leaving::Unused(spare) => spare,
            Leaving::Segment { sequence, bytes } => {
                let path = segment::path(&self.dir, sequence);
                let spare = Spare { path: segment::unfinished(&path) };
                let disk = self.env.disk();
                let renamed = self
                    .insist(async || {
                        let renamed = disk.rename(&path, &spare.path).await;
                        renamed.map_err(|e| WalError::from_io("rename", &path, e))
                    })
                    .await;
                let synced = renamed
                    && self
                        .insist(async || {
                            let synced = disk.sync_dir(&self.dir).await;
                            synced.map_err(|e| WalError::from_io("sync", &self.dir, e))
                        })
                        .await;
                if !synced {
                    return;
                }
                let mut spares = self.spares.borrow_mut();
                if bytes == self.segment_bytes && spares.len() < limits::WAL_SPARE_SEGMENTS {
                    spares.push(spare);
                    return;
                }
                spare
            }
        };
        self.insist(async || self.remove(&unused.path).await).await;
    }

    /// Not durable: if it is lost, the next start repeats it.
    async fn remove(&self, path: &Path) -> Result<(), WalError> {
        Ok(remove_in_steps(&self.env, path, || self.stopped.get()).await?)
    }

    /// Repeats a step until it succeeds: the log does not depend on it, and the reason may pass. False
    /// if it was told to stop first.
    async fn insist(&self, mut step: impl AsyncFnMut() -> Result<(), WalError>) -> bool {
        let mut warned = false;
        loop {
            let Err(error) = step().await else { return true };
            if self.stopped.get() {
                return false;
            }
            if !warned {
                tracing::warn!(%error, "a log segment that is not needed any more stays for now, trying on");
                warned = true;
            }
            self.env.sleep(RETRY_PAUSE).await;
        }
    }
}
